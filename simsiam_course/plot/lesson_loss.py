"""Figures of lesson 03: where two numbers, an encoder and a predictor, drift to in a toy of SimSiam."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .look import GREY, INK, WIDTH, foot, label, line_legend, new_figure, styles, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Flow = Callable[[Any, Any], tuple[Any, Any]]  # (h, w) -> their rates of change, numbers or arrays
Point = tuple[float, float]
SMALLEST = 1e-4  # w below this has collapsed and is drawn no further


def flow_path(flow: Flow, start: Point, *, time: float = 50.0, step: float = 0.02) -> np.ndarray:
    """Where (h, w) goes from `start`, by the Runge-Kutta method of order 4.

    Shapes: (time/step + 1, 2), a row for each moment. Errors: `InputError` unless 0 < step <= time.
    """
    if not 0 < step <= time:
        raise InputError(f"The step is {step!r} and the time {time!r}, expected 0 < step <= time.")
    field = lambda x: np.array(flow(*x), float)  # noqa: E731
    points = [np.array(start, float)]
    for _ in range(round(time / step)):
        x = points[-1]
        a = field(x)
        b = field(x + step / 2 * a)
        c = field(x + step / 2 * b)
        d = field(x + step * c)
        points.append(x + step / 6 * (a + 2 * b + 2 * c + d))
    return np.stack(points)


@theme()
def flow_fields(
    flows: Mapping[str, Flow],
    starts: Sequence[Point],
    *,
    others: Mapping[str, Flow] | None = None,
    time: float = 50.0,
    extent: float = 1.2,
) -> Figure:
    """A panel for each flow, with arrows and the paths from `starts`; in the last panel w over time.

    flows, others: variant -> flow; those of `others`, in which only w moves, are drawn over time alone, all
    from the first start. extent: h and w run from 0 to it. Errors: `InputError` without a flow or a start.
    """
    if not flows or not starts:
        raise InputError("There is nothing to draw: give at least one flow and one start.")
    everyone = {**flows, **(others or {})}
    look = styles(list(everyone))
    figure = new_figure(WIDTH, 3.6)
    *panels, last = figure.subplots(1, len(flows) + 1)
    for ax, (name, flow) in zip(panels, flows.items(), strict=True):
        _arrows(ax, flow, extent)
        for start in starts:
            h, w = flow_path(flow, start, time=time).T
            ax.plot(h, w, color=look[name].colour, linewidth=2.2, linestyle=look[name].line)
            ax.plot(h[0], w[0], "o", color="white", markeredgecolor=INK, markersize=6.5, zorder=5)
            ax.plot(
                h[-1],
                w[-1],
                "X",
                color=look[name].colour,
                markeredgecolor=INK,
                markersize=9,
                zorder=6,
                clip_on=False,
            )
        ax.set(xlim=(0, extent), ylim=(0, extent), aspect="equal", xlabel="predictor h", title=label(name))
    panels[0].set_ylabel("encoder w")
    for name, flow in everyone.items():
        w = flow_path(flow, starts[0], time=time)[:, 1]
        w[np.abs(w) < SMALLEST] = np.nan
        last.plot(np.linspace(0, time, len(w)), np.abs(w), color=look[name].colour, linestyle=look[name].line,
                  marker=look[name].marker, markevery=len(w) // 12, markeredgecolor="white", linewidth=1.9)  # fmt: skip
    last.set(
        yscale="log", ylim=(SMALLEST, 2 * extent), xlim=(0, time), xlabel="time", title="encoder w over time"
    )
    last.yaxis.set_major_formatter("{x:g}")
    line_legend(figure, {label(name): look[name] for name in everyone})
    foot(
        figure,
        f"Circle: start, cross: end, grey: the flow elsewhere. On the right: all from w = {starts[0][1]:g}.",
    )
    return figure


def _arrows(ax: Axes, flow: Flow, extent: float) -> None:
    h, w = np.meshgrid(np.linspace(0, extent, 40), np.linspace(0, extent, 40))
    dh, dw = (np.broadcast_to(np.asarray(part, float), h.shape) for part in flow(h, w))
    ax.streamplot(h, w, dh, dw, color=GREY, linewidth=0.6, arrowsize=0.8, density=0.9)
    ax.grid(False)
