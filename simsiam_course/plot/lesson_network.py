"""Figures of lesson 02: what BN does to channels, directions through a bottleneck, the parts, initial scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..model import SimSiam
from .look import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    WIDTH,
    bare,
    foot,
    label,
    line_legend,
    new_figure,
    percent,
    styles,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {"backbone": BLUE, "projector": ORANGE, "predictor": GREEN}
SMALLEST = 1e-5  # a singular value below this share of the largest is rounding noise
TOO_FEW = "There is nothing to draw: pass at least one name with its numbers."


@theme()
def channel_statistics(outputs: Mapping[str, Tensor]) -> Figure:
    """Mean and standard deviation of every channel over the images, and the cosines between different images.

    outputs: name -> (N, D), a row an image. Errors: `InputError` without outputs, or with fewer than two rows.
    """
    if not outputs or any(len(z) < 2 for z in outputs.values()):
        raise InputError("Channel statistics need outputs of at least two images: pass name -> (N, D).")
    style = styles(list(outputs))
    figure = new_figure(WIDTH, 3.5)
    left, right = figure.subplots(1, 2)
    for i, (name, z) in enumerate(outputs.items()):
        z = z.detach().cpu().double()
        look = style[name]
        size = 34 if i % 2 else 12  # two that coincide are both to be seen
        left.scatter(z.mean(dim=0), z.std(dim=0, correction=0), s=size, marker=look.marker,
                     facecolors="none" if i % 2 else look.colour, edgecolors=look.colour, linewidths=0.7)  # fmt: skip
        u = F.normalize(z, dim=1)
        cosines = (u @ u.T)[~torch.eye(len(u), dtype=torch.bool)]  # (N (N - 1),)
        heights, edges = np.histogram(cosines.numpy(), bins=80, range=(-1, 1), density=True)
        right.stairs(heights, edges, color=look.colour, linestyle=look.line, linewidth=1.8)
    left.set(title="Each channel over the batch", xlabel="mean", ylabel="standard deviation")
    left.set_ylim(bottom=0)
    right.set(title="Cosines between different images", xlabel="cosine", ylabel="density", xlim=(-1, 1),
              xticks=(-1, -0.5, 0, 0.5, 1))  # fmt: skip
    line_legend(figure, {label(name): style[name] for name in outputs})
    return figure


@theme()
def directions(outputs: Mapping[str, Tensor]) -> Figure:
    """In how many directions the rows of each matrix vary: singular values, as shares of the largest.

    outputs: name -> (N, D); the mean row is subtracted. Lines end where only rounding noise is left.
    Errors: `InputError` without outputs.
    """
    if not outputs:
        raise InputError(TOO_FEW)
    style = styles(list(outputs))
    figure = new_figure(WIDTH, 3.4)
    ax = figure.subplots()
    named = {}
    for i, (name, z) in enumerate(outputs.items()):
        z = z.detach().cpu().double()
        s = torch.linalg.svdvals(z - z.mean(dim=0)).numpy()
        s = s[s > SMALLEST * s[0]]
        look, every = style[name], max(1, len(s) // 6)
        ax.plot(np.arange(1, len(s) + 1), s / s[0], color=look.colour, linestyle=look.line, marker=look.marker,
                markersize=5, markeredgecolor="white", markevery=(i, every), linewidth=1.9)  # fmt: skip
        ax.vlines(len(s), SMALLEST, s[-1] / s[0], color=look.colour, linestyles=":", linewidth=1)
        named[f"{label(name)}: {len(s)} directions"] = look
    ax.set(
        title="Singular values, as shares of the largest",
        xlabel="direction",
        yscale="log",
        ylim=(SMALLEST, 2),
    )
    ax.yaxis.set_major_formatter(_plain)
    line_legend(figure, named)
    return figure


@theme()
def architecture(models: Mapping[str, SimSiam]) -> Figure:
    """The widths of each network from the features to p, and the number of parameters of each part.

    models: title -> a model with dims and Sequential heads, as `SimSiam.create` makes it. The height of a bar is
    its number of channels, to one scale within a row. Errors: `InputError` without models, or one without dims.
    """
    known = {title: model.dims.backbone for title, model in models.items() if model.dims}
    if not models or known.keys() != models.keys():
        raise InputError("The figure needs models with known widths: build them with SimSiam.create.")
    figure = new_figure(WIDTH, 2.3 * len(models))
    for ax, (title, model) in zip(
        figure.subplots(len(models), squeeze=False)[:, 0], models.items(), strict=True
    ):
        _draw_widths(ax, model, known[title])
        ax.set_title(title)
    return figure


@theme()
def layer_scales(measured: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """How far the output of each linear layer spreads, and how large its gradient is beside its weights.

    measured: initialisation -> a row of `layer`, `spread` and `gradient` (|g| / |W|) for each layer.
    Errors: `InputError` without rows.
    """
    if not measured or not all(measured.values()):
        raise InputError(TOO_FEW)
    style = styles(list(measured))
    figure = new_figure(WIDTH, 3.4)
    titles = {"spread": "Spread of the layer's output", "gradient": "Gradient beside the weights, |g| / |W|"}
    for ax, (column, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for name, rows in measured.items():
            look = style[name]
            ax.plot([str(row["layer"]).replace(" ", "\n") for row in rows], [row[column] for row in rows],
                    color=look.colour, linestyle=look.line, marker=look.marker, markersize=7)  # fmt: skip
        ax.set(title=title, yscale="log")
        ax.yaxis.set_major_formatter(_plain)
        ax.margins(x=0.08)
    line_legend(figure, {label(name): style[name] for name in measured})
    foot(
        figure,
        "Logarithmic scales. Spread: standard deviation over the batch, before BN where there is one.",
    )
    return figure


def _plain(value: float, _: Any) -> str:
    """A tick of a logarithmic axis: 0.01, not a formula; the second argument is its position."""
    return f"{value:.8f}".rstrip("0").rstrip(".")


def _draw_widths(ax: Axes, model: SimSiam, features: int) -> None:
    """A row of the architecture: bars joined by trapezoids, their widths below, the parameters of each part above."""
    stages = [("backbone", "features", features)]
    for part, last in (("projector", "z"), ("predictor", "p")):
        outs = [m.out_features for m in getattr(model, part).modules() if isinstance(m, nn.Linear)]
        stages += [(part, last if i == len(outs) - 1 else "hidden", d) for i, d in enumerate(outs)]
    tallest = max(width for _, _, width in stages)
    half = [width / tallest / 2 for _, _, width in stages]
    ax.fill([-1.3, -1.3, -0.55, -0.55], [-0.22, 0.22, 0.22, -0.22], color="#d5dade", linewidth=0)
    ax.annotate("image", (-0.925, 0), ha="center", va="center", fontsize=9, color=INK)
    joints = [(-0.55, 0.22), *((i, h) for i, h in enumerate(half))]
    for (x0, h0), (x1, h1), (part, _, _) in zip(joints, joints[1:], stages, strict=False):
        ax.fill([x0, x0, x1, x1], [-h0, h0, h1, -h1], color=PARTS[part], alpha=0.3, linewidth=0)
    for i, ((part, name, width), h) in enumerate(zip(stages, half, strict=True)):
        ax.plot([i, i], [-h, h], color=PARTS[part], linewidth=5, solid_capstyle="butt")
        ax.annotate(f"{name}\n{width:,}", (i, -0.56), ha="center", va="top", fontsize=9, color=INK)
    counts = {part: sum(w.numel() for w in getattr(model, part).parameters()) for part in PARTS}
    start = -0.55
    for part, count in counts.items():
        end = max(i for i, (of, _, _) in enumerate(stages) if of == part)
        text = f"{part}\n{count:,} parameters, {percent(count / max(1, sum(counts.values())))}"
        ax.annotate(text, ((start + end) / 2, 0.56), ha="center", va="bottom", fontsize=9, color=INK)
        start = end
    ax.set(xlim=(-1.4, len(stages) - 0.6), ylim=(-0.95, 0.95))
    bare(ax)
