"""Figures of lesson 11: the same number from code as it was found and from the same code repaired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .look import (
    BLUE,
    INK,
    VERMILLION,
    WIDTH,
    Row,
    Style,
    class_name,
    line_legend,
    new_figure,
    percent,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOUND, REPAIRED = "as found", "repaired"
LOOK = {FOUND: Style(VERMILLION, (0, (5, 2)), "s"), REPAIRED: Style(BLUE, "-", "o")}


def _both(given: Mapping[str, Any]) -> None:
    if set(given) != set(LOOK):
        raise InputError(f"Got {', '.join(given) or 'nothing'}, expected '{FOUND}' and '{REPAIRED}'.")


@theme()
def before_and_after(runs: Mapping[str, Sequence[Row]], columns: Mapping[str, str]) -> Figure:
    """A panel for each column of two runs' histories, "as found" and "repaired", over the steps.

    columns: column -> what stands above its panel. Errors: `InputError` for other runs, or no column.
    """
    _both(runs)
    if not columns:
        raise InputError("There is nothing to draw: name at least one column of the histories.")
    figure = new_figure(WIDTH, 3.1)
    panels = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    for ax, (column, title) in zip(panels, columns.items(), strict=True):
        for name, (colour, line, marker) in LOOK.items():
            rows = [row for row in runs[name] if row.get(column) is not None]
            drawn: dict[str, Any] = {"color": colour, "linestyle": line, "marker": marker}
            ax.plot([row["step"] for row in rows], [row[column] for row in rows], linewidth=1.9,
                    markeredgecolor="white", **drawn)  # fmt: skip
        ax.set(title=title, xlabel="step")
        ax.tick_params(labelleft=True)
    line_legend(figure, LOOK)
    return figure


@theme()
def by_class(accuracies: Mapping[str, Sequence[float]], classes: Sequence[str]) -> Figure:
    """Two bars for each class, "as found" and "repaired"; a bar of 0 has its number written.

    accuracies: one fraction for each class. Errors: `InputError` for other names, or another number of classes.
    """
    _both(accuracies)
    if {len(values) for values in accuracies.values()} != {len(classes)} or not classes:
        raise InputError(f"There are {len(classes)} classes: give as many accuracies, twice.")
    figure = new_figure(WIDTH, 3.1)
    ax = figure.subplots()
    for i, (name, (colour, line, _)) in enumerate(LOOK.items()):
        places = [x + 0.4 * i - 0.2 for x in range(len(classes))]
        ax.bar(places, accuracies[name], 0.36, color=colour, alpha=(0.75, 0.35)[i], edgecolor=colour,
               linestyle=line, linewidth=1.4)  # fmt: skip
        for x, value in zip(places, accuracies[name], strict=True):
            if value < 0.005:
                ax.text(x, 0.015, "0 %", ha="center", fontsize=9.5, color=INK, weight="bold")
    ax.set_xticks(range(len(classes)), [class_name(i, classes) for i in range(len(classes))])
    ax.tick_params(axis="x", length=0, labelsize=9)
    ax.grid(False, axis="x")
    ax.set(ylim=(0, 1.05), title="kNN accuracy of the test images of each class")
    ax.yaxis.set_major_formatter(percent)
    line_legend(figure, {name: Style(style.colour, style.line, "s") for name, style in LOOK.items()})
    return figure
