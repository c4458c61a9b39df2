"""The figure of the CPU benchmark, drawn from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cpu_tables import PARTS, best_lightly
from peers import CONTESTANTS, title

from simsiam_course.plot import theme
from simsiam_course.plot.look import BLUE, FURTHER_STYLES, GREY, INK, WIDTH, foot, new_figure, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PEER = "#b4bcc4"
DASHES = (0, (4, 3))

Row = dict[str, Any]


@theme()
def speed(rows: Sequence[Row]) -> Figure:
    """Images/s, views/s, and kNN accuracy over seconds of training; a panel without rows stays empty."""
    parts = {part: [row for row in rows if row["part"] == part] for part in PARTS}
    figure = new_figure(WIDTH, 3.5)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    shown = {row["contestant"] for row in parts["training"] + parts["augmentation"]}
    names = [name for name in CONTESTANTS if name in shown]
    _bars(left, parts["training"], names, "Training, images/s")
    left.set_yticks(range(len(names)), [title(name) for name in names])
    _bars(middle, parts["augmentation"], names, "Augmentation, views/s")
    middle.set_yticks(range(len(names)), [])
    if parts["account"]:
        _limit(left, parts["account"][-1]["limit"])
    _curves(right, parts["knn"])
    about = rows[0]["machine"]
    foot(figure, "Bar: median, whisker: range of the rounds. In brackets: how many times as fast ours is. "
                 f"{about['cpu']}, {about['threads']} threads.")  # fmt: skip
    return figure


def alt_text(rows: Sequence[Row]) -> str:
    """What the figure shows, for those who cannot see it."""
    parts = {part: [row for row in rows if row["part"] == part] for part in PARTS}
    said = []
    for part, unit in (
        ("training", "Images/s in training"),
        ("augmentation", "Views/s in augmentation alone"),
    ):
        figures = [f"{title(row['contestant'])} {row['median']:,.0f}" for row in parts[part]]
        if figures:
            said.append(f"{unit}: {'; '.join(figures)}")
    if best := best_lightly(parts["training"]):
        said.append(f"Ours is {best['ours_over_it']['median']:.1f} times as fast as lightly at its best")
    if parts["account"]:
        floor = parts["account"][-1]
        said.append(
            f"Limit of the machine: {floor['limit']:,.0f} images/s, fraction reached {floor['fraction']:.2f}"
        )
    times = [row["seconds"] for row in parts["knn"]]
    if times:
        shown = ", ".join("never" if value is None else f"{value:.0f}" for value in times)
        said.append(f"Seconds to {parts['knn'][0]['target']:.0%} kNN by seed: {shown}")
    return "Bars and curves. " + ". ".join(said) + "."


def _bars(ax: Axes, rows: Sequence[Row], names: Sequence[str], heading: str) -> None:
    found = {row["contestant"]: row for row in rows}
    ax.set_title(heading)
    for y, name in enumerate(names):
        if name not in found:
            continue
        row, ours = found[name], name == "ours"
        ax.barh(y, row["median"], height=0.66, color=BLUE if ours else PEER)
        ax.plot((row["low"], row["high"]), (y, y), color=INK, linewidth=1.2, marker="|", markersize=6)
        times = "" if ours else f" (×{row['ours_over_it']['median']:.1f})"
        end = max(row["high"], row["median"])
        ax.annotate(f"{row['median']:,.0f}{times}", (end, y), (5, 0), va="center", textcoords="offset points",
                    fontsize=8.5, color=INK, weight="bold" if ours else "normal")  # fmt: skip
    ax.set_ylim(len(names) - 0.5, -0.6)
    ax.set_xlim(0, 1.32 * max([row["high"] for row in rows], default=1))
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=4)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _limit(ax: Axes, limit: float) -> None:
    """The line that no training on this machine can cross."""
    ax.set_xlim(0, max(ax.get_xlim()[1], 1.06 * limit))
    ax.axvline(limit, color=GREY, linewidth=1.2, linestyle=DASHES)
    ax.annotate(f"limit\n{limit:,.0f}", (limit, ax.get_ylim()[0]), (-4, 4), textcoords="offset points", ha="right",
                va="bottom", fontsize=8.5, color=GREY)  # fmt: skip


def _curves(ax: Axes, rows: Sequence[Row]) -> None:
    ax.set_title("kNN on patterns")
    ax.set_xlabel("seconds of training")
    ax.yaxis.set_major_formatter(percent)
    for row, style in zip(rows, FURTHER_STYLES * len(rows), strict=False):
        x, y = ([done[key] for done in row["passes"]] for key in ("seconds", "knn"))
        ax.plot(
            x,
            y,
            color=style.colour,
            linestyle=style.line,
            linewidth=1.3,
            alpha=0.8,
            label=f"seed {row['seed']}",
        )
        if row["seconds"] is not None:
            ax.plot(
                row["seconds"],
                row["knn"],
                style.marker,
                color=style.colour,
                markeredgecolor="white",
                markersize=7,
            )
    if rows:
        target = rows[0]["target"]
        ax.axhline(target, color=GREY, linewidth=1, linestyle=DASHES, zorder=1)
        ax.annotate(percent(target), (0, target), (3, 3), xycoords=("axes fraction", "data"),
                    textcoords="offset points", fontsize=8.5, color=GREY)  # fmt: skip
        ax.set(xlim=(0, None), ylim=(None, max(ax.get_ylim()[1], target + 0.06)))
        ax.legend(loc="lower right", fontsize=8.5, handlelength=3)
