"""The lab's picture: z in the plane and four curves, drawn many times a run, so that a drawing must be cheap.

Axes, titles and legends are laid out once; after that only the data move.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from .look import GREY, Row, Style, class_name, class_style, foot, line_legend, new_figure, png, styles, theme
from .runs import TITLES, _finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

RANGES = {"loss": (-1.0, 0.0), "std": (0.0, 1.0), "effective_rank": (1.0, 8.0), "knn": (0.0, 1.0)}
PLANE_WIDTH, CURVES_WIDTH, HEIGHT = 2.85, 5.35, 4.3  # inches: side by side in a notebook beside its file list


class Act(NamedTuple):
    """What a stage shows of one run: rows of its history, and where z of some images lay, (N, 2), after so many."""

    history: Sequence[Row]
    points: Any = None
    images_seen: int | None = None


class Stage:
    """The plane of z of each run, and the curves of all of them in four panels.

    `names` are the runs', `title` says their settings, `images` is where the axis of images seen ends, `labels` (N,)
    are the classes of the points. `whole` makes one figure instead of two, to be saved or shown beside a text.
    """

    @theme()
    def __init__(
        self,
        names: Sequence[str],
        *,
        title: str,
        images: int,
        labels: Sequence[int] = (),
        classes: Sequence[str] = (),
        whole: bool = False,
        note: str = "",
    ) -> None:
        rows = math.ceil(len(names) / 2)
        height = max(HEIGHT, 1.75 * rows + 0.9) if len(names) > 1 else HEIGHT
        left: Figure | SubFigure
        right: Figure | SubFigure
        if whole:
            self.figure = new_figure(PLANE_WIDTH + CURVES_WIDTH, height + 0.5)
            left, right = cast(Any, self.figure.subfigures(1, 2, width_ratios=(PLANE_WIDTH, CURVES_WIDTH)))
            self.figure.suptitle(title, x=0.01, ha="left", fontsize=10, weight="bold")
            self.figures = [self.figure]
            foot(self.figure, note)
        else:
            left, right = new_figure(PLANE_WIDTH, height), new_figure(CURVES_WIDTH, height)
            if len(names) == 1:  # the legend names several
                right.suptitle(title, x=0.01, ha="left", fontsize=8.5, weight="bold")
            self.figures = [left, right]
        style = styles(names)
        ids = np.asarray(labels, int)
        self.planes = _planes(left, names, style, ids, classes)
        self.curves = _curves(right, names, style, images)
        for figure in self.figures:  # lay out once: solving it again would take most of a drawing's time
            figure.draw_without_rendering()
            figure.set_layout_engine("none")

    @theme()
    def draw(self, acts: Sequence[Act]) -> None:
        """Moves the data of all runs, in the order of their names, to where they are now."""
        for act, plane in zip(acts, self.planes, strict=True):
            plane.move(act.points, act.images_seen)
        for column, (ax, lines, (low, high)) in self.curves.items():
            tops = []
            for i, (act, line) in enumerate(zip(acts, lines, strict=True)):
                known = [row for row in act.history if _finite(row.get(column))]
                line.set_data([row["images_seen"] for row in known], [row[column] for row in known])
                every = max(1, len(known) // 5)
                line.set_markevery((i * every // 4 % every, every))
                tops += [row[column] for row in known]
            highest = max(tops, default=low)
            more = max(0.0, highest + 0.15 * abs(highest) - high) if highest > high else 0.0
            ax.set_ylim(low - 0.13 * more, high + more)  # the words below a reference line keep their room

    def pngs(self) -> list[bytes]:
        """The pictures as they are now, plane and curves, or the one that holds both; made quickly, not small."""
        return [png(figure, compress_level=1) for figure in self.figures]


class Plane:
    """z of one run as points in the plane, its axes fixed: the sphere's radius is 1, a point looks like a point."""

    def __init__(self, ax: Axes, ids: np.ndarray, size: float) -> None:
        self.groups = []
        for i in np.unique(ids):
            colour, marker = class_style(int(i)) if i >= 0 else (GREY, ".")
            (line,) = ax.plot(
                [], [], marker, color=colour, markersize=size, markeredgecolor="white", markeredgewidth=0.3
            )  # fmt: skip
            self.groups.append((ids == i, line))
        self.note = ax.text(0, -1.2, "", ha="center", va="bottom", color=GREY, fontsize=7.5)

    def move(self, points: Any, images_seen: int | None) -> None:
        """Puts the points, (N, 2), where they are now; what lies outside the axes is drawn on their edge."""
        there = np.zeros((0, 2)) if points is None else np.asarray(points).clip(-1, 1)
        seen = f"after {images_seen:,} images" if images_seen else ""
        self.note.set_text(seen if len(there) else "no picture of z")
        for mine, line in self.groups:
            line.set_data(*(there[mine].T if len(there) else ([], [])))


def _planes(
    figure: Any, names: Sequence[str], style: Mapping[str, Style], ids: np.ndarray, classes: Sequence[str]
) -> list[Plane]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle

    columns = 1 if len(names) == 1 else 2
    grid = list(figure.subplots(math.ceil(len(names) / columns), columns, squeeze=False).flat)
    planes = []
    for ax, name in zip(grid, names, strict=False):
        ax.set(xlim=(-1.05, 1.05), ylim=(-1.22, 1.05), aspect="equal", xticks=[], yticks=[])
        ax.add_patch(Circle((0, 0), 1, fill=False, color="#c3c9cf", linewidth=1))
        ax.grid(False)
        ax.spines[:].set_visible(False)
        title, size = (name, 9.5) if len(names) == 1 else (textwrap.fill(name, 22), 7.5)
        ax.set_title(title, fontsize=size, color=style[name].colour)
        planes.append(Plane(ax, ids, 4.5 if len(names) == 1 else 3))
    for ax in grid[len(names) :]:
        ax.set_axis_off()
    present = [int(i) for i in np.unique(ids) if i >= 0]
    if 0 < len(present) <= 12:
        handles = [
            Line2D([], [], linestyle="none", color=class_style(i)[0], marker=class_style(i)[1], markersize=4,
                   label=class_name(i, classes)) for i in present
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=6.5, handletextpad=0.0,
                      columnspacing=0.5, borderpad=0, title="z of test images, its two widest directions;\n"
                      "circle: distance 1 from the mean", title_fontsize=7)  # fmt: skip
    return planes


def _curves(figure: Any, names: Sequence[str], style: Mapping[str, Style], images: int) -> dict[str, Any]:
    panels = {}
    for ax, column in zip(figure.subplots(2, 2).flat, RANGES, strict=True):
        lines = [
            ax.plot([], [], color=style[name].colour, linestyle=style[name].line, linewidth=1.7,
                    marker=style[name].marker, markersize=4.5, markeredgecolor="white", markeredgewidth=0.6)[0]
            for name in names
        ]  # fmt: skip
        ax.set(xlim=(-0.01 * images, 1.02 * images), ylim=RANGES[column])
        _finish(ax, column)
        ax.tick_params(labelsize=8)
        ax.set_title(TITLES[column].removesuffix(" of the features"), fontsize=9.5)
        ax.xaxis.label.set_size(8.5)
        for text in ax.texts:
            text.set_size(7.5)
        panels[column] = (ax, lines, ax.get_ylim())
    if len(names) > 1:
        line_legend(figure, {name: style[name] for name in names}, size=8.5)
    return panels


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
