"""Figures of lesson 06: what a line reads off the features, and by how much a careless evaluation lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .look import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    WIDTH,
    Row,
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

READ = {"hue": "hue", "frequency": "frequency", "orientation": "orientation", "linear": "class"}


@theme()
def factors_kept(rows: Sequence[Row], read: Mapping[str, str] = READ) -> Figure:
    """What a linear read-out recovers from frozen features: a group for each factor, a bar for each variant.

    rows: runs of a ledger with the columns that `read` names (column -> what is written below it), from 0 to 1. A bar
    is the mean over seeds, with its number above it; the points are the seeds. Errors: `InputError` without such rows.
    """
    variants: dict[str, list[Row]] = {}
    for row in rows:
        if all(row.get(column) is not None for column in read):
            variants.setdefault(row["variant"], []).append(row)
    if not variants:
        raise InputError(f"No row has the columns {', '.join(read)}: give rows of the experiment 'factors'.")
    look = styles(list(variants))
    figure = new_figure(WIDTH, 3.7)
    ax = figure.subplots()
    wide = 0.8 / len(variants)
    for i, (name, runs) in enumerate(variants.items()):
        for x, column in enumerate(read):
            values = [row[column] for row in runs]
            mean = sum(values) / len(values)
            middle = x - 0.4 + (i + 0.5) * wide
            ax.bar(middle, mean, 0.9 * wide, color=look[name].colour, alpha=0.35, edgecolor=look[name].colour,
                   linestyle=look[name].line, linewidth=1.6)  # fmt: skip
            spread = [middle + wide * (j - (len(values) - 1) / 2) / 12 for j in range(len(values))]
            ax.plot(
                spread,
                values,
                look[name].marker,
                color=look[name].colour,
                markersize=6,
                markeredgecolor="white",
                clip_on=False,
            )
            ax.text(middle, max(values) + 0.03, f"{mean:.2f}", ha="center", fontsize=10, color=INK)
    ax.set_xticks(range(len(read)), list(read.values()))
    ax.tick_params(axis="x", length=0, labelsize=10.5)
    ax.grid(False, axis="x")
    ax.set(
        ylim=(0, 1.14),
        yticks=[0, 0.25, 0.5, 0.75, 1],
        title="What a line reads off the features of test images",
    )
    ax.set_ylabel("R² (of the class: accuracy)")
    line_legend(figure, {label(name): look[name] for name in variants})
    seeds = ", ".join(str(n) for n in sorted({len(runs) for runs in variants.values()}))
    foot(
        figure,
        f"Bar: mean over the seeds (n = {seeds}); points: the seeds. 1: read exactly. R² 0: no better than the mean.",
    )
    return figure


@theme()
def lies(told: Mapping[str, tuple[float, float]], *, names: tuple[str, str] = ("honest", "told")) -> Figure:
    """How far what is told lies from what is so: a line from one to the other for each case, with its length in points.

    told: case -> (honest, told), fractions; `names` says what the two are called. Errors: `InputError` for nothing to
    draw.
    """
    if not told:
        raise InputError("There is nothing to compare: give at least one case with its two accuracies.")
    figure = new_figure(WIDTH, 1.25 + 0.36 * len(told))
    ax = figure.subplots()
    for y, (so, said) in enumerate(told.values()):
        ax.plot((so, said), (y, y), color=GREY, linewidth=2, zorder=1)
        ax.plot(said, y, "D", color=VERMILLION, markersize=6.5, markeredgecolor="white", zorder=2)
        ax.plot(so, y, "o", color=BLUE, markersize=12, markerfacecolor="none", markeredgewidth=2.2, zorder=3)
        points = f"{100 * (said - so):+.1f} points".replace("-", "−")
        ax.annotate(
            points, (max(so, said), y), (11, 0), textcoords="offset points", va="center", fontsize=9.5
        )
    ax.set_yticks(range(len(told)), [label(name) for name in told])
    ax.set(ylim=(len(told) - 0.5, -0.5))
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    _room_for_words(ax, [value for pair in told.values() for value in pair])
    ax.xaxis.set_major_formatter(percent)
    ax.grid(False, axis="y")
    _two_marks(figure, names)
    return figure


def _room_for_words(ax: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    wide = max(high - low, 0.05)
    ax.set_xlim(low - 0.06 * wide, high + 0.22 * wide)


def _two_marks(figure: Figure, names: tuple[str, str]) -> None:
    """An open circle for what is so, a diamond for what is told: one does not hide the other."""
    from matplotlib.lines import Line2D

    look: tuple[dict[str, Any], ...] = (
        {"marker": "o", "color": BLUE, "markersize": 10, "markerfacecolor": "none", "markeredgewidth": 2.2},
        {"marker": "D", "color": VERMILLION, "markersize": 6.5, "markeredgecolor": "white"},
    )
    handles = [
        Line2D([], [], linestyle="none", label=name, **own) for name, own in zip(names, look, strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
