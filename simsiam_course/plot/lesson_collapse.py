"""Figures of lesson 05: what the monitors saw of runs that failed, and where their outputs lie."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .look import (
    GREY,
    INK,
    WIDTH,
    Row,
    Style,
    bare,
    class_style,
    foot,
    label,
    line_legend,
    new_figure,
    percent,
    styles,
    theme,
)
from .maps import class_legend
from .runs import mean_and_sd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MONITORS = {  # what a row of panels shows, and the values that theory gives
    "loss": ("loss", (-1.0, 0.0)),
    "std": ("std of z", (0.0, 1.0)),
    "effective_rank": ("effective rank", (1.0,)),
    "knn": ("kNN accuracy", (0.0, 1.0)),
}


@theme()
def small_multiples(groups: Mapping[str, Sequence[Row]], *, beside: Sequence[Row] = ()) -> Figure:
    """A column for each variant, a row for each monitor, all of a row on one scale.

    groups: variant -> its runs, as in the ledger, one for each seed: the line is their mean, the band one sample
    standard deviation to each side. beside: runs whose mean is drawn thin and grey in every panel, to compare with.
    Errors: `InputError` where a variant has no runs, or no rows of history.
    """
    histories = {name: [run.get("history") or [] for run in runs] for name, runs in groups.items()}
    if not histories or not all(runs and all(runs) for runs in histories.values()):
        raise InputError("There is nothing to draw: pass at least one run with its history for each variant.")
    monitors = [
        m for m in MONITORS if any(row.get(m) is not None for h in histories.values() for row in h[0])
    ]
    look = styles(list(histories))
    figure = new_figure(WIDTH, 0.75 + 1.45 * len(monitors), pad=0.05)
    axes = figure.subplots(len(monitors), len(histories), sharex=True, sharey="row", squeeze=False)
    inches = 0.88 * WIDTH / len(histories)
    titles = [_wrapped(label(name), inches) for name in histories]
    room, longest = 10.5 * inches, max(len(line) for title in titles for line in title.split("\n"))
    for column, (name, runs) in enumerate(histories.items()):
        axes[0, column].set_title(titles[column], fontsize=10.5 * min(1, room / longest))
        for ax, monitor in zip(axes[:, column], monitors, strict=True):
            if beside:
                x, mean, _ = _known(mean_and_sd([run["history"] for run in beside], monitor))
                ax.plot(x, mean, color=GREY, linewidth=1.1, zorder=1.5)
            _mean_with_band(ax, runs, monitor, look[name])
    for row, monitor in zip(axes, monitors, strict=True):
        _scale(row, monitor)
    for ax in axes[-1]:
        ax.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}")
    figure.supxlabel("images seen (thousands)", fontsize=10)
    seeds = max(len(runs) for runs in histories.values())
    grey = "Grey: SimSiam. " if beside else ""
    said = f"Line: mean of {seeds} seeds, band: one standard deviation." if seeds > 1 else "One seed."
    figure.suptitle(grey + said, x=0.99, ha="right", fontsize=8.5, color=GREY)
    return figure


def _wrapped(name: str, inches: float) -> str:
    """A title in as many lines as it needs above a panel of that width."""
    width = max(10, int(10.5 * inches))
    return "\n".join(textwrap.wrap(name, width, break_on_hyphens=False, break_long_words=False))


def _known(found: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Without the places where nothing was measured: the kNN is taken at some rows only."""
    there = np.isfinite(found[1])
    return found[0][there], found[1][there], found[2][there]


def _mean_with_band(ax: Axes, runs: Sequence[Sequence[Row]], monitor: str, style: Style) -> None:
    x, mean, sd = _known(mean_and_sd(runs, monitor))
    if np.isfinite(sd).any():
        ax.fill_between(x, mean - sd, mean + sd, color=style.colour, alpha=0.25, linewidth=0)
    ax.plot(x, mean, color=style.colour, linewidth=1.8)
    cut = [run for run in runs if run[-1]["images_seen"] < max(r[-1]["images_seen"] for r in runs)]
    for run in cut:  # this one diverged
        ax.axvline(run[-1]["images_seen"], color=style.colour, linewidth=0.8, linestyle=":")


def _scale(row: Sequence[Axes], monitor: str) -> None:
    """The axis that a row of panels shares, wide enough for what theory gives."""
    name, references = MONITORS[monitor]
    low, high = row[0].get_ylim()
    low, high = min(low, *references, high), max(high, *references, low)
    room = 0.06 * (high - low)
    row[0].set_ylim(low - room, high + room)
    row[0].set_ylabel(name)
    if monitor == "knn":
        row[0].yaxis.set_major_formatter(percent)
    for ax in row:
        for value in references:
            ax.axhline(value, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)


@theme()
def unlabelled(runs: Mapping[str, Sequence[Row]]) -> Figure:
    """A column for each run, a row for each monitor: curves without a name, each over its own steps.

    runs: letter -> history. Errors: `InputError` without runs, or for a history without rows.
    """
    if not runs or not all(runs.values()):
        raise InputError("There is nothing to draw: pass at least one history with its rows.")
    figure = new_figure(WIDTH, 6.4, pad=0.05)
    axes = figure.subplots(len(MONITORS), len(runs), sharex="col", sharey="row", squeeze=False)
    for column, (name, history) in zip(axes.T, runs.items(), strict=True):
        column[0].set_title(name)
        for ax, monitor in zip(column, MONITORS, strict=True):
            points = [(row["step"], row[monitor]) for row in history if row.get(monitor) is not None]
            x, y = np.array(points, float).reshape(-1, 2).T
            ax.plot(x, y, color=INK, linewidth=1.6, marker="o", markersize=3 if len(x) < 40 else 0)
        column[-1].set_xlim(0, history[-1]["step"] * 1.05)
        column[-1].locator_params(axis="x", nbins=3)
    for row, monitor in zip(axes, MONITORS, strict=True):
        _scale(row, monitor)
    figure.supxlabel("step: mind that the axes differ", fontsize=10)
    return figure


@theme()
def planes(
    points: Mapping[str, Tensor | np.ndarray],
    labels: Tensor | np.ndarray | None = None,
    classes: Sequence[str] = (),
    *,
    columns: int = 5,
    notes: Mapping[str, str] | None = None,
) -> Figure:
    """Where z/|z| lies, a panel for each variant, all on the same axes: a collapse is small, and is drawn small.

    points: variant -> (N, 2) in lengths of z/|z|, as `watch.plane` gives them. labels: (N,), -1 = unlabelled. notes:
    variant -> a line below its title. Errors: `InputError` without points, or where rows and labels differ in number.
    """
    arrays = {name: np.asarray(torch.as_tensor(xy), float) for name, xy in points.items()}
    counts = {len(xy) for xy in arrays.values()} | ({len(labels)} if labels is not None else set())
    if len(counts) != 1:
        raise InputError(
            f"Points and labels have {sorted(counts)} rows, expected the same images everywhere."
        )
    ids = np.full(counts.pop(), -1) if labels is None else np.asarray(torch.as_tensor(labels).cpu())
    columns = min(columns, len(arrays))
    rows = math.ceil(len(arrays) / columns)
    panel = WIDTH / columns
    present = [int(i) for i in np.unique(ids) if i >= 0]
    titles = {
        name: "\n".join([_wrapped(label(name), panel), *filter(None, [(notes or {}).get(name)])])
        for name in arrays
    }
    lines = max(title.count("\n") for title in titles.values())
    height = rows * (panel + 0.2 + 0.16 * lines) + (0.95 if present else 0.45)
    figure = new_figure(WIDTH, height, pad=0.04)
    figure.set_layout_engine(
        "constrained", w_pad=0.04, h_pad=0.04, rect=(0, 0, 1, 1 - 0.15 / height)
    )  # else tall titles are cut at the top
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax, (name, xy) in zip(axes, arrays.items(), strict=False):
        blank = "\n" * (lines - titles[name].count("\n"))  # so that all titles need the same room
        ax.set_title(blank + titles[name], fontsize=9.5)
        for i in np.unique(ids):
            colour, marker = class_style(int(i)) if i >= 0 else (GREY, "o")
            at = xy[ids == i]
            ax.scatter(at[:, 0], at[:, 1], s=14, color=colour, marker=marker, linewidths=0, alpha=0.75)
        bare(ax)
        ax.spines[:].set(visible=True, color="#d5dade", linewidth=0.8)
        ax.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
        ax.plot([-0.5, 0.5], [-0.97, -0.97], color=GREY, linewidth=1.2, solid_capstyle="butt")
    for ax in axes[len(arrays) :]:
        ax.set_visible(False)
    said = (
        "z/|z| from its mean, along its two widest directions. The bar at the foot has length 1, everywhere."
    )
    if present:
        class_legend(figure, present, classes, 1 if len(present) <= 6 else 2, said)
    else:
        foot(figure, said)
    return figure


@theme()
def coincidence(losses: Mapping[str, Sequence[float]]) -> Figure:
    """Losses over the steps, and how far each lies from the first, on a logarithmic scale.

    losses: name -> one number a step, as many for each. A difference of exactly 0 is drawn at the foot.
    Errors: `InputError` for fewer than two runs, or of other lengths.
    """
    if (
        len(losses) < 2
        or len({len(values) for values in losses.values()}) != 1
        or not all(len(values) for values in losses.values())
    ):
        raise InputError("Pass two or more runs of the same number of steps, the first to compare with.")
    arrays = {name: np.asarray(values, float) for name, values in losses.items()}
    look = styles([f"_{i}" for i in range(len(arrays))])  # by place, whatever the names are
    style: dict[str, Any] = dict(zip(arrays, look.values(), strict=True))
    base = next(iter(arrays.values()))
    steps = np.arange(1, len(base) + 1)
    figure = new_figure(WIDTH, 3.4)
    left, right = figure.subplots(1, 2)
    for i, (name, values) in enumerate(arrays.items()):
        colour, line, marker = style[name]
        every = (2 + 3 * i, max(1, len(steps) // 6))
        drawn: dict[str, Any] = {"color": colour, "linestyle": line, "marker": marker, "markevery": every,
                                 "markeredgecolor": "white", "linewidth": 3.2 if i == 0 else 1.6}  # fmt: skip
        left.plot(steps, values, **drawn)
        if i:
            right.plot(steps, np.maximum(np.abs(values - base), 1e-17), **drawn)
    left.set(title="loss", xlabel="step")
    right.set(title="difference from the first", xlabel="step", yscale="log", ylim=(3e-18, 3))
    right.yaxis.set_major_formatter("{x:.0e}")  # matplotlib's own would be a formula, and formulas are off
    right.axhspan(3e-18, 2.2e-16, color="#e6e9ec", zorder=0)
    right.annotate(
        "below: the last digit of float64", (steps[-1], 4e-16), ha="right", fontsize=8.5, color=GREY
    )
    line_legend(figure, style)
    return figure
