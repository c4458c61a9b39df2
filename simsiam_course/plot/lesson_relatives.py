"""Figures of lesson 08: the family from the same parts, small matrices, a weight that follows, the methods' race."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..model import method_facts
from ..recipe import Recipe
from .lesson_collapse import small_multiples
from .look import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
    Row,
    bare,
    foot,
    label,
    line_legend,
    new_figure,
    percent,
    styles,
    theme,
)
from .runs import mean_and_sd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4  # of panels
UPPER, LOWER, MIDDLE = 4.6, 1.6, 3.1  # where the two views run, and the loss between them
LOSSES = {  # what is asked of the two ends, by the method's category or its name
    "distillation": "foretell",
    "contrastive": "find the\npartner",
    "clustering": "foretell\nthe cluster",
    "decorrelation": "agree, and\nno channel\ntwice",
    "VICReg": "agree, vary,\nno channel\ntwice",
}
KEY = (  # symbol, colour, what it is
    ("f", BLUE, "encoder: backbone + projector"),
    ("f′", ORANGE, "target network, follows f slowly"),
    ("h", GREEN, "predictor"),
    ("c", PURPLE, "clusters, equally shared"),
    ("bank", SKY, "older targets as negatives"),
)


def name_of(variant: str) -> str:
    """A method as its authors write it; another variant as everywhere."""
    try:
        return method_facts(variant).name
    except InputError:
        return label(variant)


def formula(name: str, knobs: Mapping[str, Any]) -> str:
    """In what a method differs from SimSiam, as one short line. Errors: `InputError` for an unknown method."""
    recipe, facts = Recipe.from_dict(dict(knobs)), method_facts(name)
    said = ["− h"] if recipe.predictor == "none" else []
    said += ["− stop-gradient"] if recipe.stop_gradient == "none" else []
    added = {
        "negatives": facts.uses_negatives,
        "bank": facts.requires_memory_bank,
        "momentum": facts.uses_momentum_encoder,
        "clusters": facts.category == "clustering",
        "decorrelation": facts.category == "decorrelation",
    }
    said += [f"+ {part}" for part, there in added.items() if there]
    return " ".join(said) or "h and stop-gradient"


@theme()
def family(formulas: Mapping[str, Mapping[str, Any]]) -> Figure:
    """SimSiam and its relatives, each drawn from the same parts, with what it adds and does without.

    formulas: method -> knobs of its recipe, as `relatives.FORMULAS`. View 1 runs above, view 2 below; in the methods'
    losses each view plays both parts. Errors: `InputError` without methods, or for an unknown one.
    """
    if not formulas:
        raise InputError("There is nothing to draw: pass method -> knobs, as relatives.FORMULAS has them.")
    rows = math.ceil((len(formulas) + 1) / COLUMNS)
    figure = new_figure(WIDTH, 2.35 * rows, pad=0.03)
    axes = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for ax in axes:
        ax.set(xlim=(-0.6, 10.2), ylim=(-0.1, 6.6))
        bare(ax)
    for ax, (name, knobs) in zip(axes, formulas.items(), strict=False):
        ax.set_title(method_facts(name).name, pad=16)
        terms = formula(name, knobs).replace("+ ", "+\N{NO-BREAK SPACE}").replace("− ", "−\N{NO-BREAK SPACE}")
        said = "\n".join(textwrap.wrap(terms, 26, break_on_hyphens=False))
        ax.annotate(said, (0, 1), (0, 2), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=GREY,
                    va="center", linespacing=1.05)  # fmt: skip
        _draw_method(ax, name, Recipe.from_dict(dict(knobs)))
    _draw_key(axes[len(formulas)])
    for ax in axes[len(formulas) + 1 :]:
        ax.set_visible(False)
    return figure


def _draw_method(ax: Axes, name: str, recipe: Recipe) -> None:
    facts = method_facts(name)
    for y, view in ((UPPER, "x₁"), (LOWER, "x₂")):
        ax.annotate(view, (-0.1, y), ha="center", va="center", fontsize=9.5, color=INK)
        _arrow(ax, (0.4, y), (1.3, y))
        _arrow(ax, (2.9, y), (8.3, MIDDLE + (0.75 if y > MIDDLE else -0.75)), through=(6.6, y))
    _box(ax, 2.1, UPPER, "f", BLUE)
    _box(
        ax,
        2.1,
        LOWER,
        "f′" if facts.uses_momentum_encoder else "f",
        ORANGE if facts.uses_momentum_encoder else BLUE,
    )
    if recipe.predictor != "none":
        _box(ax, 5.0, UPPER, "h", GREEN)
    if facts.category == "clustering":
        _box(ax, 4.6, UPPER, "c", PURPLE)
        _box(ax, 4.6, LOWER, "c", PURPLE)
    if facts.requires_memory_bank:
        for i in (2, 1, 0):
            _box(ax, 4.6 + 0.18 * i, LOWER + 0.18 * i, "bank" if i == 0 else "", SKY, wide=2.0)
    if recipe.stop_gradient == "target":
        _stop(ax, 6.35, LOWER)
    asked = LOSSES.get(facts.name) or LOSSES[facts.category]
    frame = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": GREY, "linewidth": 0.8}
    ax.annotate(asked, (8.4, MIDDLE), ha="center", va="center", fontsize=8, color=INK, bbox=frame)


def _draw_key(ax: Axes) -> None:
    """What the symbols mean."""
    from matplotlib.patches import Rectangle

    ax.set_title("Key", pad=16)
    for i, (symbol, colour, meaning) in enumerate(KEY):
        _box(ax, 0.6, 5.9 - 1.05 * i, symbol, colour, wide=2.1, tall=0.8)
        ax.annotate(meaning, (2.0, 5.9 - 1.05 * i), va="center", fontsize=8, color=INK)
    ax.add_patch(Rectangle((-0.3, 0.45), 1.8, 0.06, color=GREY, linewidth=0))
    _stop(ax, 0.6, 0.48, tall=0.35)
    ax.annotate("stop-gradient", (2.0, 0.48), va="center", fontsize=8, color=INK)


def _box(
    ax: Axes, x: float, y: float, text: str, colour: str, *, wide: float = 1.6, tall: float = 1.3
) -> None:
    from matplotlib.patches import FancyBboxPatch

    ax.add_patch(
        FancyBboxPatch(
            (x - wide / 2 + 0.1, y - tall / 2 + 0.1),
            wide - 0.2,
            tall - 0.2,
            boxstyle="round,pad=0.1",
            facecolor="white",
            edgecolor=colour,
            linewidth=1.8,
            zorder=3,
        )  # fmt: skip
    )
    size = 8 if len(text) > 2 else 10.5
    ax.annotate(text, (x, y), ha="center", va="center", fontsize=size, color=INK, zorder=4, weight="bold")


def _arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    through: tuple[float, float] | None = None,
) -> None:
    if through is not None:
        ax.plot(
            [start[0], through[0]], [start[1], through[1]], color=GREY, linewidth=1.2, solid_capstyle="round"
        )
        start = through
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "linewidth": 1.2, "shrinkA": 0,
                                            "shrinkB": 0, "mutation_scale": 9})  # fmt: skip


def _stop(ax: Axes, x: float, y: float, *, tall: float = 0.55) -> None:
    for dx in (-0.13, 0.13):
        ax.plot([x + dx, x + dx], [y - tall, y + tall], color=VERMILLION, linewidth=2.2, zorder=5)


@theme()
def matrices(
    shown: Mapping[str, Tensor],
    *,
    low: float = -1.0,
    framed: Tensor | None = None,
    crossed: Tensor | None = None,
    rows: str = "",
    columns: str = "",
    shares: bool = False,
) -> Figure:
    """Small matrices side by side on one scale, from `low` to 1.

    shown: title -> (M, N). `framed` and `crossed`, (M, N) bool, mark entries with a frame and with a cross; `rows` and
    `columns` say what the axes are. With `shares`, bars below each matrix say which share of it is in each column.
    Errors: `InputError` without matrices, or for marks of another shape.
    """
    import matplotlib

    arrays = {title: np.asarray(torch.as_tensor(m).detach().cpu(), float) for title, m in shown.items()}
    if not arrays or any(array.ndim != 2 for array in arrays.values()):
        raise InputError("There is nothing to draw: pass title -> a matrix (M, N).")
    marks = [np.asarray(torch.as_tensor(m).cpu(), bool) for m in (framed, crossed) if m is not None]
    if any(mark.shape != array.shape for mark in marks for array in arrays.values()):
        raise InputError("The marks have another shape than the matrices: give them entry by entry.")
    m, n = next(iter(arrays.values())).shape
    wide = min(4.6, WIDTH / len(arrays))
    tall = 3.6 if shares else 0.85 * wide * m / n + 0.7
    figure = new_figure(wide * len(arrays), min(6.0, tall))
    ratios = {"height_ratios": [2, 1]} if shares else None
    axes = figure.subplots(1 + shares, len(arrays), squeeze=False, gridspec_kw=ratios)
    cmap = matplotlib.colormaps["PuOr_r" if low < 0 else "cividis"].resampled(
        61
    )  # a stored picture has 256 colours
    image: Any = None
    for i, (title, array) in enumerate(arrays.items()):
        ax = axes[0, i]
        image = ax.imshow(array, vmin=low, vmax=1, cmap=cmap, aspect="auto" if shares else 1)
        ax.set_title(title)
        ax.grid(False)
        ax.set(xticks=[], yticks=[])
        if i == 0:
            ax.set_ylabel(rows)
        if not shares:
            ax.set_xlabel(columns)
        _mark(ax, framed, crossed)
        if shares:
            _draw_shares(axes[1, i], array, columns, first=i == 0)
    figure.colorbar(image, ax=axes[0, :].tolist(), shrink=0.85, pad=0.02)
    return figure


def _mark(ax: Axes, framed: Tensor | None, crossed: Tensor | None) -> None:
    from matplotlib.patches import Rectangle

    for i, j in framed.nonzero().tolist() if framed is not None else ():
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=GREEN, linewidth=2.4))
    for i, j in crossed.nonzero().tolist() if crossed is not None else ():
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor="white", edgecolor="none"))
        ax.plot([j - 0.28, j + 0.28], [i - 0.28, i + 0.28], color=GREY, linewidth=1.2)
        ax.plot([j - 0.28, j + 0.28], [i + 0.28, i - 0.28], color=GREY, linewidth=1.2)


def _draw_shares(ax: Axes, array: np.ndarray, columns: str, *, first: bool) -> None:
    share = array.sum(axis=0) / array.sum()
    ax.bar(range(len(share)), share, 0.8, color=BLUE, alpha=0.55, edgecolor=BLUE)
    ax.axhline(1 / len(share), color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.set(xlim=(-0.5, len(share) - 0.5), ylim=(0, 1), xticks=[], xlabel=columns, yticks=[0, 0.5, 1])
    ax.yaxis.set_major_formatter(percent)
    if first:
        ax.set_ylabel("share")
    else:
        ax.tick_params(axis="y", labelleft=False)


@theme()
def followers(online: Sequence[float], targets: Mapping[str, Sequence[float]]) -> Figure:
    """One weight of an online network over the steps, and the same weight of target networks that follow it.

    targets: name -> one number a step, as many as `online`. Errors: `InputError` where the numbers differ.
    """
    if not targets or {len(values) for values in targets.values()} != {len(online)}:
        raise InputError(
            "Pass as many numbers for each target as for the online network, and one target or more."
        )
    look = styles([f"_{name}" for name in targets])
    style = dict(zip(targets, look.values(), strict=True))
    figure = new_figure(WIDTH, 3.2)
    ax = figure.subplots()
    steps = np.arange(1, len(online) + 1)
    ax.plot(steps, online, color=GREY, linewidth=0.9)
    for i, (name, values) in enumerate(targets.items()):
        every = max(1, len(steps) // 8)
        ax.plot(steps, values, color=style[name].colour, linestyle=style[name].line, marker=style[name].marker,
                markersize=5.5, markeredgecolor="white", markevery=(i * every // 3, every), linewidth=1.9)  # fmt: skip
    ax.set(xlabel="step", title="One weight: online (thin, grey) and its followers")
    line_legend(figure, style)
    return figure


@theme()
def race(groups: Mapping[str, Sequence[Row]], *, beside: str = "simsiam") -> Figure:
    """kNN over the images seen, a panel for each method, and at the end all of them side by side.

    groups: variant -> its runs, as in the ledger: the line is their mean, the band one sample standard deviation to
    each side; that of `beside` is drawn grey in the other panels. Errors: `InputError` without runs that measured it.
    """
    curves = {
        name: mean_and_sd([run.get("history") or [] for run in runs], "knn") for name, runs in groups.items()
    }
    if not curves or not all(np.isfinite(mean).any() for _, mean, _ in curves.values()):
        raise InputError("There is nothing to draw: pass at least one run with its kNN for each method.")
    rows = math.ceil((len(groups) + 1) / COLUMNS)
    figure = new_figure(WIDTH, 2.3 * rows + 0.3, pad=0.05)
    axes = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for i, (ax, name) in enumerate(zip(axes, groups, strict=False)):
        if beside in curves and name != beside:
            x, mean, _ = _there(curves[beside])
            ax.plot(x, mean, color=GREY, linewidth=1.1, zorder=1.5)
        x, mean, sd = _there(curves[name])
        ax.fill_between(
            x, mean - np.nan_to_num(sd), mean + np.nan_to_num(sd), color=BLUE, alpha=0.25, linewidth=0
        )
        ax.plot(x, mean, color=BLUE, linewidth=1.8)
        ax.set(title=name_of(name), ylim=(0, 1))
        ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}")
        ax.yaxis.set_major_formatter(percent)
        if i % COLUMNS:
            ax.tick_params(axis="y", labelleft=False)
        ax.locator_params(axis="x", nbins=4)
    _draw_ends(axes[len(groups)], groups)
    for ax in axes[len(groups) + 1 :]:
        ax.set_visible(False)
    seeds = sorted({len(runs) for runs in groups.values()})
    grey = f", grey: {name_of(beside)}" if beside in groups else ""
    said = f"Mean and one standard deviation, n = {', '.join(map(str, seeds))}. At the end: test accuracy of each seed."
    foot(figure, f"kNN over images seen, in thousands{grey}. {said}")
    return figure


def _there(curve: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    known = np.isfinite(curve[1])
    return tuple(column[known] for column in curve)


def _draw_ends(ax: Axes, groups: Mapping[str, Sequence[Row]]) -> None:
    """The kNN accuracy at the end, a line for each method: its seeds, and their mean as a stroke."""
    measured = [run["knn"] for runs in groups.values() for run in runs if run.get("knn") is not None]
    low = max(0.0, math.floor(10 * min(measured, default=0.0) - 1) / 10)
    for y, runs in enumerate(groups.values()):
        values = [run["knn"] for run in runs if run.get("knn") is not None]
        if values:
            ax.plot(values, [y] * len(values), "o", color=BLUE, markersize=4, alpha=0.6, linestyle="none")
            ax.plot([np.mean(values)] * 2, [y - 0.32, y + 0.32], color=INK, linewidth=1.8)
    ax.set_yticks(range(len(groups)), [name_of(name) for name in groups])
    ax.tick_params(
        axis="y", length=0, labelsize=8.5, labelleft=False, labelright=True
    )  # else it needs a wider column
    ax.set(ylim=(len(groups) - 0.5, -0.5), xlim=(low, 1), xticks=[low, 1], title="at the end")
    ax.xaxis.set_major_formatter(percent)
    ax.grid(False, axis="y")


def monitors(groups: Mapping[str, Sequence[Row]], *, beside: Sequence[Row] = ()) -> Figure:
    """As `small_multiples`, without the losses, which have another unit in each method.

    groups: variant -> its runs, as in the ledger; a variant is called method_no_part where a part is left out.
    """
    keep = ("images_seen", "std", "effective_rank", "knn")

    def bared(runs: Sequence[Row]) -> list[Row]:
        return [
            {"history": [{key: row.get(key) for key in keep} for row in run.get("history") or []]}
            for run in runs
        ]

    names = {variant: variant.partition("_no_") for variant in groups}
    titles = {
        v: name_of(method) + (f", no {label(part)}" if part else "") for v, (method, _, part) in names.items()
    }
    return small_multiples({titles[v]: bared(runs) for v, runs in groups.items()}, beside=bared(beside))
