"""Figures of lesson 09: what augmentations leave of a picture, and how many labels a backbone needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from .look import GREEN, GREY, INK, VERMILLION, WIDTH, label, line_legend, new_figure, percent, styles, theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@theme()
def read_in_views(
    lists: Mapping[str, Mapping[str, float]], *, chance: Mapping[str, float], read: float, gone: float
) -> Figure:
    """A panel for each list of augmentations: how often each factor is read off a view, beside chance.

    lists: title -> {factor: accuracy}; chance: factor -> accuracy. A full green bar is read (at least `read`), a
    hatched orange one gone (at most `gone`), a grey one neither; the short line is chance. Errors: `InputError`
    for no list, or a factor without its chance.
    """
    missing = sorted({factor for found in lists.values() for factor in found} - set(chance))
    if not lists or missing:
        what = f"no chance for {', '.join(missing)}" if missing else "nothing to draw"
        raise InputError(f"There is {what}: give accuracies by factor, and chance for each factor.")
    factors = list(dict.fromkeys(factor for found in lists.values() for factor in found))
    figure = new_figure(WIDTH, 0.34 * len(factors) + 1.0)
    for ax, (title, found) in zip(
        figure.subplots(1, len(lists), squeeze=False, sharey=True)[0], lists.items(), strict=True
    ):
        for i, factor in enumerate(factors):
            value = found.get(factor)
            if value is None:
                continue
            kept, lost = value >= read, value <= gone
            ax.barh(i, value, 0.62, color=GREEN if kept else "white" if lost else GREY, alpha=0.8 if kept else 1,
                    edgecolor=GREEN if kept else VERMILLION if lost else GREY, hatch="///" if lost else "")  # fmt: skip
            ax.text(value + 0.02, i, f"{value:.0%}", va="center", fontsize=9, color=INK)
            ax.plot([chance[factor]] * 2, [i - 0.42, i + 0.42], color=INK, linewidth=1.6)
        ax.set(title=title, xlim=(0, 1.18), yticks=range(len(factors)), yticklabels=factors)
        ax.set_xticks([0, 0.5, 1])
        ax.xaxis.set_major_formatter(percent)
        ax.tick_params(axis="y", length=0)
        ax.grid(False, axis="y")
        ax.invert_yaxis()
    for ax in figure.axes[1:]:
        ax.invert_yaxis()  # shared: each panel has turned it once
    figure.axes[0].set_ylim(len(factors) - 0.4, -0.6)
    key = "read off a view by a line (green: kept, hatched: gone, grey: neither; black line: chance)"
    figure.supxlabel(key, fontsize=8.5, color=GREY)
    return figure


@theme()
def labels_needed(curves: Mapping[str, Mapping[int, Sequence[float]]]) -> Figure:
    """Accuracy of a linear probe over the number of labels a class, a line for each kind of features.

    curves: name -> {labels a class: accuracies of several draws}; the line is the mean, the band the range. Errors:
    `InputError` where there is nothing to draw.
    """
    if not curves or not all(curves.values()):
        raise InputError(
            "There is nothing to draw: give each kind of features accuracies by number of labels."
        )
    figure = new_figure(WIDTH, 3.4)
    ax = figure.subplots()
    looks = styles(list(curves))
    shots = sorted({count for found in curves.values() for count in found})
    for name, found in curves.items():
        look, counts = looks[name], sorted(found)
        means = [sum(found[count]) / len(found[count]) for count in counts]
        ax.fill_between(counts, [min(found[c]) for c in counts], [max(found[c]) for c in counts], color=look.colour,
                        alpha=0.15, linewidth=0)  # fmt: skip
        ax.plot(counts, means, color=look.colour, linestyle=look.line, marker=look.marker, linewidth=1.9,
                markeredgecolor="white")  # fmt: skip
    highest = max(max(accuracies) for found in curves.values() for accuracies in found.values())
    ax.set_xscale("log")
    ax.set_xticks(shots, [str(count) for count in shots])
    ax.minorticks_off()
    ax.set(xlabel="labels a class", ylabel="linear accuracy, test", ylim=(0, min(1.02, 1.15 * highest)))
    ax.yaxis.set_major_formatter(percent)
    line_legend(figure, {label(name): looks[name] for name in curves})
    return figure
