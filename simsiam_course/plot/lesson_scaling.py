"""Figures of lesson 10: where the time of a step goes, rates by turns, and two runs that should be one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..speed import ratio, summary
from .look import (
    BLUE,
    CLASS_COLOURS,
    GREY,
    INK,
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
    from matplotlib.figure import Figure

HATCHES = ("", "//", "..", "\\\\", "xx", "--", "oo")
TINY = 1e-9  # of a difference: below it a logarithmic axis shows nothing


@theme()
def time_shares(accounts: Mapping[str, Sequence[Row]]) -> Figure:
    """Where the time of a step goes, a bar for each setting: shares of its stages, milliseconds of the whole.

    accounts: setting -> rows of `speed.stages`. Errors: `InputError` without any.
    """
    if not accounts:
        raise InputError("There is nothing to draw: pass setting -> rows, as speed.stages has them.")
    figure = new_figure(WIDTH, 1.5 + 0.55 * len(accounts))
    ax = figure.subplots()
    names = [row["name"] for row in next(iter(accounts.values())) if row["name"] != "whole step"]
    for y, rows in enumerate(accounts.values()):
        left, shares = 0.0, {row["name"]: max(0.0, row["share"]) for row in rows}
        for i, name in enumerate(names):
            ax.barh(y, shares[name], left=left, height=0.6, color=CLASS_COLOURS[i], hatch=HATCHES[i], edgecolor="white",
                    label=name if y == 0 else None)  # fmt: skip
            left += shares[name]
        whole = next(row["seconds"] for row in rows if row["name"] == "whole step")
        ax.text(left + 0.01, y, f"{1e3 * whole:,.0f} ms", va="center", fontsize=9, color=INK)
    ax.set_yticks(range(len(accounts)), list(accounts))
    ax.set(ylim=(len(accounts) - 0.5, -0.5), xlim=(0, 1.13), title="Where the time of a training step goes")
    ax.xaxis.set_major_formatter(percent)
    ax.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


@theme()
def rates(measured: Mapping[str, Sequence[float]], *, beside: str, unit: str = "images/s") -> Figure:
    """Rates by turns: every round a dot, the median a stroke, and how many times the one `beside`.

    measured: name -> a rate a round, as `speed.race` has them. Errors: `InputError` where `beside` is not among them.
    """
    if beside not in measured:
        raise InputError(
            f"There is no '{beside}' to compare with: choose one of {', '.join(measured) or 'none'}."
        )
    figure = new_figure(WIDTH, 1.0 + 0.42 * len(measured))
    ax = figure.subplots()
    most = max(max(found) for found in measured.values())
    for y, (name, found) in enumerate(measured.items()):
        ax.plot(found, [y] * len(found), "o", color=BLUE, markersize=5, alpha=0.55, linestyle="none")
        middle = summary(found).median
        ax.plot([middle] * 2, [y - 0.3, y + 0.3], color=INK, linewidth=1.8)
        times = ratio(found, measured[beside])
        said = f"{middle:,.0f}" if name == beside else f"{middle:,.0f}, x {times}"
        ax.text(1.04 * most, y, said, va="center", fontsize=9, color=INK)
    ax.set_yticks(range(len(measured)), [label(name) for name in measured])
    ax.set(
        ylim=(len(measured) - 0.5, -0.5),
        xlim=(0, 1.6 * most),
        title=f"{unit}, and times '{label(beside)}' (range)",
    )
    ax.grid(False, axis="y")
    return figure


@theme()
def same_run(runs: Mapping[str, Sequence[Row]], *, beside: str) -> Figure:
    """Losses of runs that should be one, and how far each is from the one `beside`, on a logarithmic axis.

    runs: name -> history. Errors: `InputError` where `beside` is not among them.
    """
    if beside not in runs:
        raise InputError(
            f"There is no '{beside}' to compare with: choose one of {', '.join(runs) or 'none'}."
        )
    figure = new_figure(WIDTH, 3.4)
    left, right = figure.subplots(1, 2)
    named = styles(list(runs))
    base = {row["step"]: row["loss"] for row in runs[beside]}
    for i, (name, history) in enumerate(runs.items()):
        look = {"color": named[name].colour, "linestyle": named[name].line, "marker": named[name].marker,
                "markersize": 8 - 2 * i, "linewidth": 1.6}  # fmt: skip
        left.plot([row["step"] for row in history], [row["loss"] for row in history], **look)
        if name != beside:
            both = [row for row in history if row["step"] in base]
            apart = [max(TINY, abs(row["loss"] - base[row["step"]])) for row in both]
            right.plot([row["step"] for row in both], apart, **look)
    left.set(xlabel="step", ylabel="loss", title="The loss")
    right.set(xlabel="step", yscale="log", title=f"How far from {label(beside)}")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")  # the theme does not read formulas
    right.axhline(float(np.finfo(np.float32).eps), color=GREY, linewidth=1, linestyle=":")
    line_legend(figure, {label(name): style for name, style in named.items()})
    foot(figure, "Dotted: the spacing of float32 numbers at 1.")
    return figure
