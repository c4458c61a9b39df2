"""Curves of what the monitors said, and accuracies at the end: of one run, or of an experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InputError
from .look import (
    GREY,
    INK,
    WIDTH,
    Row,
    Style,
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


TITLES = {
    "loss": "Loss",
    "std": "std of z",
    "effective_rank": "Effective rank of z",
    "knn": "kNN accuracy of the features",
}


class Reference(NamedTuple):
    """A value that theory gives: where it lies, what it means, whether that is written above it."""

    value: float
    text: str
    above: bool


REFERENCES = {
    "loss": (Reference(-1, "−1: the two views agree perfectly", False),),
    "std": (Reference(1, "1: spread over all directions", True), Reference(0, "0: a constant", False)),
    "effective_rank": (Reference(1, "1: a point or a line", False),),
}


@theme()
def ablation(rows: Sequence[Row], *, baselines: Mapping[str, float | None] | None = None) -> Figure:
    """Loss, std and effective rank of z over the images seen, and kNN accuracy at the end, by variant.

    rows: runs of one experiment, as in the ledger. A line is the mean over seeds, its band one sample
    standard deviation to each side, the thin lines are the seeds themselves (up to five); a cross marks where
    a run diverged. baselines: {"raw_pixels_knn", "random_backbone_knn"}, fractions, drawn as reference lines.
    Errors: `InputError` without rows.
    """
    if not rows:
        raise InputError("There are no runs to draw: pass the rows of at least one run.")
    groups = _by_variant(rows)
    style = styles(list(groups))
    figure = new_figure(WIDTH, 6.6)
    axes = figure.subplots(2, 2)
    for ax, column in zip(axes.flat, ("loss", "std", "effective_rank"), strict=False):
        for i, (variant, runs) in enumerate(groups.items()):
            _draw_runs(ax, [run.get("history") or [] for run in runs], column, style[variant], offset=i)
        _finish(ax, column)
    _draw_accuracies(axes[1, 1], groups, style, baselines or {})
    counts = {variant: len(runs) for variant, runs in groups.items()}
    same = len(set(counts.values())) == 1
    names = {v: label(v) if same else f"{label(v)} (n = {n})" for v, n in counts.items()}
    line_legend(figure, {names[v]: style[v] for v in groups})
    if max(counts.values()) == 1:
        foot(figure, "One seed each, so no band: only more seeds tell what is chance.")
    else:
        shown = f" of {max(counts.values())} seeds" if same else ""
        foot(figure, f"Line: mean{shown}. Band and bar: one standard deviation to each side.")
    return figure


@theme()
def curves(history: Sequence[Row] | Mapping[str, Sequence[Row]], *, title: str | None = None) -> Figure:
    """What the monitors said while a run trained: loss, std, effective rank and, where it was taken, kNN.

    history: that of one run, or name -> history to compare runs, each with its own colour, line and marker.
    """
    runs = dict(history) if isinstance(history, Mapping) else {"simsiam": history}
    style = styles(list(runs))
    with_knn = any(row.get("knn") is not None for run in runs.values() for row in run)
    columns = ("loss", "std", "effective_rank", "knn") if with_knn else ("loss", "std", "effective_rank")
    rows, height = (2, 5.8) if with_knn else (1, 3.0)
    figure = new_figure(WIDTH, height + 0.3 * (title is not None) + 0.3 * (len(runs) > 1))
    for ax, column in zip(figure.subplots(rows, len(columns) // rows).flat, columns, strict=True):
        for i, (name, run) in enumerate(runs.items()):
            _draw_runs(ax, [run], column, style[name], offset=i)
        _finish(ax, column)
    if len(runs) > 1:
        line_legend(figure, {label(name): style[name] for name in runs})
    if title is not None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, weight="bold")
    return figure


def mean_and_sd(histories: Sequence[Sequence[Row]], column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A column of several histories, summed up at each count of images seen.

    -> x, mean, sd, each (M,); the mean is over the seeds that have a finite number there, NaN where none has;
    the sample standard deviation is NaN where fewer than two have one.
    """
    found: dict[float, list[float]] = {}
    for history in histories:
        for x, y in zip(*_column(history, column), strict=True):
            found.setdefault(x, []).extend([y] if math.isfinite(y) else [])
    x = np.array(sorted(found))
    mean = np.array([np.mean(found[i]) if found[i] else np.nan for i in x])
    sd = np.array([np.std(found[i], ddof=1) if len(found[i]) > 1 else np.nan for i in x])
    return x, mean, sd


def _by_variant(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["variant"], []).append(row)
    return groups


def _column(history: Sequence[Row], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Images seen and a column of one history, both (M,) float.

    Rows in which it was not measured are left out; where the loss is gone, too, the run has diverged, and it is NaN.
    """
    rows = [row for row in history if row.get(column) is not None or row.get("loss") is None]
    x = [float(row["images_seen"]) for row in rows]
    return np.array(x), np.array([_number(row.get(column)) for row in rows])


def _number(value: Any) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.nan


def _draw_runs(
    ax: Axes, histories: Sequence[Sequence[Row]], column: str, style: Style, *, offset: int = 0
) -> None:
    """One variant in one panel: band, thin lines, mean; `offset` keeps overlapping markers apart."""
    from matplotlib.patheffects import withStroke

    x, mean, sd = mean_and_sd(histories, column)
    if np.isfinite(sd).any():
        ax.fill_between(x, mean - sd, mean + sd, color=style.colour, alpha=0.18, linewidth=0)
    if 1 < len(histories) <= 5:
        for history in histories:
            ax.plot(*_column(history, column), color=style.colour, linewidth=0.6, alpha=0.45)
    every = max(1, len(x) // 5)
    ax.plot(
        x,
        mean,
        color=style.colour,
        linestyle=style.line,
        linewidth=1.9,
        marker=style.marker,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.6,
        markevery=(offset * every // 4 % every, every),
    )
    ends = [end for history in histories if (end := _divergence(*_column(history, column)))]
    for end in ends:
        ax.plot(*end, marker="x", color=style.colour, markersize=7, markeredgewidth=1.8)
    if ends:
        ax.annotate(
            "diverged",
            max(ends),
            (7, 6),
            textcoords="offset points",
            fontsize=8.5,
            color=INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _divergence(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """The last finite point of a curve that goes on without finite numbers."""
    finite = np.flatnonzero(np.isfinite(y))
    return (x[finite[-1]], y[finite[-1]]) if len(finite) and finite[-1] < len(y) - 1 else None


def _finish(ax: Axes, column: str) -> None:
    """Title, axes and reference lines of one panel, once its curves are in."""
    ax.set_title(TITLES[column])
    ax.margins(x=0.02)
    _images_seen_axis(ax)
    low, high = ax.get_ylim()
    if column == "loss" and low < -1.2:  # a loss that is not a cosine has no floor at -1
        return
    references = REFERENCES.get(column, ())
    if column == "knn":
        ax.set_ylim(0, 1)
        ax.yaxis.set_major_formatter(percent)
    for reference in references:
        low, high = min(low, reference.value), max(high, reference.value)
    room = 0.13 * (high - low)
    if references:
        high += room if any(r.above for r in references) else 0.02 * (high - low)
        ax.set_ylim(low - (room if any(not r.above for r in references) else 0), high)
    for r in references:
        ax.axhline(r.value, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        ax.annotate(
            r.text,
            (1, r.value),
            (0, 3 if r.above else -3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="bottom" if r.above else "top",
            fontsize=8.5,
            color=GREY,
        )


def _images_seen_axis(ax: Axes) -> None:
    """The x axis in thousands, or in millions where there are that many."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    unit, name = (1e6, "millions") if ax.get_xlim()[1] >= 2e6 else (1e3, "thousands")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit:g}"))
    ax.set_xlabel(f"images seen ({name})")


def _draw_accuracies(
    ax: Axes,
    groups: Mapping[str, Sequence[Row]],
    style: Mapping[str, Style],
    baselines: Mapping[str, float | None],
) -> None:
    """A row per variant: its seeds as points, mean with sd, the same in figures; baselines as lines."""
    ax.set_title(TITLES["knn"])
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(percent)
    ax.grid(False, axis="y")
    names = []
    for y, (variant, runs) in enumerate(groups.items()):
        colour, _, marker = style[variant]
        names.append(label(variant))
        values = np.array([v for run in runs if math.isfinite(v := _number(run.get("knn")))])
        if not len(values):
            ax.annotate(
                "not measured",
                (1.02, y),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=9,
                color=GREY,
            )
            continue
        sd = values.std(ddof=1) if len(values) > 1 else None
        ax.plot(
            values, np.full(len(values), y), marker, color=colour, markersize=5, alpha=0.35, linestyle="none"
        )
        ax.errorbar(
            values.mean(),
            y,
            xerr=sd,
            color=colour,
            marker=marker,
            markersize=8,
            capsize=5,
            elinewidth=1.6,
            markeredgecolor="white",
        )
        text = f"{100 * values.mean():.1f}" + (f" ± {100 * sd:.1f}" if sd is not None else "") + " %"
        ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9.5, color=INK)
    for key, name in (("random_backbone_knn", "random backbone"), ("raw_pixels_knn", "raw pixels")):
        value = baselines.get(key)
        if value is None:
            continue
        y = len(names)
        names.append(name)
        ax.axvline(value, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        ax.plot(value, y, "d", color="white", markeredgecolor=INK, markersize=8)
        ax.annotate(
            f"{100 * value:.1f} %",
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9.5,
            color=INK,
        )
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
