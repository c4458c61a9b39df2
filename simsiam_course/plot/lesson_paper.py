"""Figures of lesson 07: a hypothesis at work on points in a plane, and the paper's findings beside ours."""

from __future__ import annotations

import math
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..ablate.verdicts import DIRECTIONS, NINETY, OPEN, OPPOSITE, SAME, Direction, Finding, judge
from ..errors import InputError
from .look import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    WIDTH,
    Row,
    Style,
    foot,
    label,
    line_legend,
    new_figure,
    styles,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..ablate import Experiment

DARK = "#8a5f00"  # of ORANGE, for words
Curve = Sequence[tuple[float, float]]  # (step, spread)
Clouds = Mapping[str, Tensor]  # title -> z of all views (images, views, 2)


@theme()
def alternations(rows: Mapping[str, tuple[Clouds, Mapping[str, Curve]]], colours: Sequence[float]) -> Figure:
    """A row for each way to alternate: z of all views at some moments, then how far apart the targets are over time.

    rows: title -> (clouds, curves), with as many clouds everywhere; curves: name -> (step, spread). The large dots are
    the means over views, coloured by `colours` (images,). Errors: `InputError` without a row, or where clouds differ.
    """
    counts = {len(clouds) for clouds, _ in rows.values()}
    if len(counts) != 1 or 0 in counts:
        raise InputError(
            f"The rows have {sorted(counts)} clouds, expected as many in each, and one at least."
        )
    names = list(dict.fromkeys(name for _, curves in rows.values() for name in curves))
    look = dict(zip(names, styles([f"_{i}" for i in range(len(names))]).values(), strict=True))
    figure = new_figure(WIDTH, 0.9 + 2.35 * len(rows))
    columns = counts.pop()
    axes = figure.subplots(len(rows), columns + 1, width_ratios=[1] * columns + [1.45], squeeze=False)
    extent = 1.25 * max(
        float(z.mean(dim=1).abs().max()) for clouds, _ in rows.values() for z in clouds.values()
    )
    for line, (title, (clouds, curves)) in zip(axes, rows.items(), strict=True):
        for ax, (moment, z) in zip(line, clouds.items(), strict=False):
            _cloud(ax, np.asarray(z, float), colours, extent)
            ax.set_title(moment, fontweight="normal")
        line[0].set_ylabel(title, fontsize=10.5, fontweight="bold")
        _spreads(line[-1], curves, look)
    axes[-1, -1].set_xlabel("steps of gradient descent on theta")
    line_legend(figure, look, size=9)
    foot(
        figure,
        "Small dots: z of every view. Large dots: the mean over an image's views, its target. One scale.",
    )
    return figure


def _cloud(ax: Axes, z: np.ndarray, colours: Sequence[float], extent: float) -> None:
    views = z.reshape(-1, 2)
    each = np.repeat(np.asarray(colours, float), z.shape[1])
    ax.scatter(views[:, 0], views[:, 1], c=each, s=3, alpha=0.22, linewidths=0)
    eta = z.mean(axis=1)
    ax.scatter(eta[:, 0], eta[:, 1], c=np.asarray(colours, float), s=24, linewidths=0.5, edgecolors=INK)
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color="#d5dade", linewidth=0.8)


def _spreads(ax: Axes, curves: Mapping[str, Curve], look: Mapping[str, Style]) -> None:
    for i, (name, curve) in enumerate(curves.items()):
        x, y = np.asarray(curve, float).T
        every = (2 * i % 9, max(1, len(x) // 9))
        ax.plot(x, y, color=look[name].colour, linestyle=look[name].line, marker=look[name].marker, markevery=every,
                markeredgecolor="white", linewidth=1.9)  # fmt: skip
    ax.set(yscale="log", ylim=(1e-3, 5), title="spread of the targets")
    ax.yaxis.set_major_formatter("{x:g}")


# ---- accuracies, ours beside the paper's


@theme()
def accuracies(groups: Sequence[tuple[Experiment, Sequence[Row]]]) -> Figure:
    """A panel for each experiment: kNN of each variant, mean, sd and every seed, and the paper's linear accuracy.

    groups: (experiment, the rows of its ledger), two panels a line. A run without a kNN, which diverged, is not drawn;
    where the paper has a word instead of a number, the word stands there. Errors: `InputError` without an experiment.
    """
    if not groups:
        raise InputError("There is nothing to draw: give at least one experiment with its rows.")
    lines = [groups[i : i + 2] for i in range(0, len(groups), 2)]
    heights = [max(len(experiment.variants) for experiment, _ in line) + 1.6 for line in lines]
    figure = new_figure(WIDTH, 0.7 + 0.25 * sum(heights))
    axes = figure.subplots(len(lines), 2, height_ratios=heights, sharex=True, squeeze=False)
    for ax, pair in zip(axes.flat, groups, strict=False):
        _experiment(ax, *pair)
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(0, len(groups) - 2) : len(groups)]:
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("accuracy, %")
    ours = {"kNN here: mean and sd": Style(BLUE, "-", "o"), "each seed": Style(INK, "", ".")}
    papers = {"the paper: linear, ImageNet": Style(ORANGE, "", "D")}
    printed = any(experiment.paper for experiment, _ in groups)
    line_legend(figure, ours | papers if printed else ours, size=9)
    foot(figure, "Dashed: chance here, one in ten.")
    return figure


def _experiment(ax: Axes, experiment: Experiment, rows: Sequence[Row]) -> None:
    names = list(experiment.variants)
    for y, name in enumerate(names):
        found = [100 * r["knn"] for r in rows if r["variant"] == name and r.get("knn") is not None]
        if found:
            sd = statistics.stdev(found) if len(found) > 1 else 0.0
            ax.errorbar(statistics.fmean(found), y, xerr=sd, fmt="o", color=BLUE, markersize=8, linewidth=1.6)
            ax.plot(found, [y] * len(found), "o", color=INK, markersize=2.6, zorder=4)
        else:
            ax.text(2, y, "no run yet", va="center", fontsize=8, color=GREY)
        said = experiment.paper.get(name, ("", ""))[0]
        number = re.match(r"\d+(\.\d+)?", said)
        if number:
            ax.plot(float(number[0]), y + 0.28, "D", color=ORANGE, markersize=5, markeredgecolor=INK,
                    markeredgewidth=0.5, zorder=5)  # fmt: skip
        elif said:
            ax.text(2, y + 0.3, f"the paper: {said}", va="center", fontsize=8, color=DARK)
    ax.axvline(10, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    ax.set_yticks(range(len(names)), [label(name) for name in names])
    title = "\n".join(textwrap.wrap(experiment.title, 36))
    ax.set(xlim=(0, 102), ylim=(len(names) - 0.4, -0.6), title=title)
    ax.grid(axis="y", visible=False)


# ---- the twelve directions

VERDICTS = {  # of a direction, and of a claim, which says it in another word
    SAME: Style(BLUE, "-", "o"),
    OPEN: Style(ORANGE, "-", "D"),
    OPPOSITE: Style(VERMILLION, "-", "X"),
}
WORDS = {SAME: BLUE, OPEN: DARK, OPPOSITE: VERMILLION}
OF_CLAIMS = {"holds": SAME, "open": OPEN, "fails": OPPOSITE}
FIGURES = {  # what claims are about: the title of its panel, and its unit
    "knn": ("kNN, points", 100),
    "effective_rank": ("rank of z", 1),
    "loss": ("loss", 1),
    "wobble": ("wobble x 1000", 1000),
}
TICKS = (
    -30,
    -10,
    -3,
    0,
    3,
    10,
    30,
)  # points of kNN, on a scale that is linear up to 3 and logarithmic beyond


@theme()
def verdicts(ledgers: Mapping[str, Sequence[Row]], directions: Sequence[Direction] = DIRECTIONS) -> Figure:
    """Every direction of the paper at a glance: the effect of each of its claims, how sure it is, and the verdict.

    ledgers: experiment -> the rows of its ledger. A panel for each measured figure; a dot right of 0 is on the paper's
    side. The bar is two standard errors to each side, or the 90 % interval of two that are to be alike; that one must
    stay within the grey box. Errors: `InputError` without a direction.
    """
    if not directions:
        raise InputError("There is nothing to draw: give at least one direction.")
    judged = [(direction, *judge(direction, ledgers)) for direction in directions]
    said = [_said(i, direction) for i, direction in enumerate(directions, 1)]
    heights = [_height(text, findings) for text, (_, _, findings) in zip(said, judged, strict=True)]
    places, rows = [sum(heights[:i]) for i in range(len(heights))], sum(heights)
    figure = new_figure(WIDTH, 0.95 + 0.34 * rows)
    axes = figure.subplots(1, len(FIGURES), width_ratios=[3.2, 1.2, 1, 1], sharey=True)
    panels = dict(zip(FIGURES, axes, strict=True))
    for ax, (title, _) in zip(axes, FIGURES.values(), strict=True):
        ax.axvline(0, color=INK, linewidth=1)
        ax.set_title(title)
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=3)
    axes[0].set_xscale("symlog", linthresh=3, linscale=0.6)
    axes[0].set_xticks(TICKS, ["" if abs(tick) == 10 else f"{tick:+d}" if tick else "0" for tick in TICKS])
    axes[0].minorticks_off()
    axes[0].set_xlim(-100, 100)
    for i, (top, height, (_, verdict, findings)) in enumerate(zip(places, heights, judged, strict=True)):
        if i % 2 == 0:
            for ax in axes:
                ax.axhspan(top - 0.5, top + height - 0.5, color="#f3f5f6", zorder=0)
        for name, ax in panels.items():
            of_it = [finding for finding in findings if finding.claim.figure == name]
            for k, finding in enumerate(of_it):
                _effect(ax, top + k + (height - len(of_it)) / 2, finding)
        axes[-1].text(1.04, top + (height - 1) / 2, verdict, transform=axes[-1].get_yaxis_transform(), va="center",
                      fontsize=9, fontweight="bold", color=WORDS.get(verdict, INK))  # fmt: skip
    middles = [top + (height - 1) / 2 for top, height in zip(places, heights, strict=True)]
    axes[0].set_yticks(middles, said, fontsize=8.5)
    axes[0].set_ylim(rows - 0.5, -0.5)
    line_legend(figure, dict(zip(("holds", "open", "fails"), VERDICTS.values(), strict=True)), size=9)
    foot(
        figure,
        "Right of 0: on the paper's side. Bar: two standard errors; in a grey box: 90 %, to stay inside it.",
    )
    return figure


def _said(number: int, direction: Direction) -> str:
    """What a direction says, in short lines."""
    source = direction.source.replace(" ", "\N{NO-BREAK SPACE}")
    return "\n".join(textwrap.wrap(f"{number}. {direction.said} ({source})", 40))


def _height(said: str, findings: Sequence[Finding]) -> float:
    """How many rows a direction takes: claims on different figures share one, and its words need room."""
    names = [finding.claim.figure for finding in findings]
    return max(*map(names.count, names), 0.15 + 0.45 * len(said.splitlines()))


def _effect(ax: Axes, y: float, finding: Finding) -> None:
    unit = FIGURES[finding.claim.figure][1]
    if math.isnan(finding.effect):
        ax.text(0, y, " too few", va="center", fontsize=7.5, color=GREY)
        return
    look = VERDICTS[OF_CLAIMS[finding.verdict]]
    wide = (NINETY if finding.claim.equal else 2) * unit * finding.error
    if finding.claim.equal:
        margin = unit * finding.claim.margin
        ax.fill_betweenx([y - 0.3, y + 0.3], -margin, margin, color="#cfd6dc", linewidth=0, zorder=1)
    ax.errorbar(unit * finding.effect, y, xerr=wide, fmt=look.marker, color=look.colour, markersize=7, linewidth=1.8,
                markeredgecolor="white", markeredgewidth=0.6, zorder=4)  # fmt: skip
