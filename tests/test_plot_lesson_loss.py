"""The toy's paths are those of its equations, and the figure says what the numbers say."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import pytest

from simsiam_course import plot
from simsiam_course.errors import InputError


def decay(h, w):
    return -0.5 * h, -2 * w


def circle(h, w):
    return -w, h


def texts(figure) -> set[str]:
    return {t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()}


def test_a_path_is_the_solution_that_one_knows():
    h, w = plot.flow_path(decay, (1.0, 2.0), time=3.0)[-1]
    assert (h, w) == (pytest.approx(math.exp(-1.5), rel=1e-6), pytest.approx(2 * math.exp(-6), rel=1e-6))
    around = plot.flow_path(circle, (1.0, 0.0), time=2 * math.pi, step=2 * math.pi / 200)
    assert around.shape == (201, 2)
    assert np.allclose(around[-1], (1, 0), atol=1e-5)
    assert np.allclose(np.hypot(*around.T), 1, atol=1e-6)


def test_a_panel_for_each_flow_and_one_over_time():
    figure = plot.flow_fields({"simsiam": circle, "other_flow": decay}, [(0.5, 0.5), (0.1, 0.9)], time=5.0)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "SimSiam",
        "other flow",
        "encoder w over time",
    ]
    first = figure.axes[0].lines
    assert len(first) == 6  # path, start and end, twice
    assert (first[1].get_xdata()[0], first[1].get_ydata()[0]) == (0.5, 0.5)
    assert (first[4].get_xdata()[0], first[4].get_ydata()[0]) == (0.1, 0.9)
    assert np.allclose(first[2].get_xydata()[0], plot.flow_path(circle, (0.5, 0.5), time=5.0)[-1])
    assert len(figure.axes[2].lines) == 2
    assert any("from w = 0.5" in text for text in texts(figure))


def test_what_only_moves_w_is_drawn_over_time_until_it_has_collapsed():
    figure = plot.flow_fields(
        {"simsiam": decay}, [(0.5, 1.0)], others={"neither": lambda h, w: (0 * h, -w)}, time=20.0
    )
    assert len(figure.axes) == 2
    collapsed = figure.axes[1].lines[1]
    seen = np.isfinite(collapsed.get_ydata())
    assert collapsed.get_xdata()[seen].max() == pytest.approx(math.log(1e4), abs=0.03)
    assert "neither of the two" in texts(figure)


def test_every_line_over_time_has_a_colour_and_a_marker_of_its_own():
    figure = plot.flow_fields(
        dict.fromkeys(("simsiam", "no_stop_gradient", "x"), decay), [(1.0, 1.0)], time=1.0
    )
    lines = figure.axes[-1].lines
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 3
    assert plot.png(figure)


@pytest.mark.parametrize(("time", "step"), [(1.0, 0.0), (1.0, -1.0), (0.01, 0.02)])
def test_a_time_without_steps_is_one_clear_error(time, step):
    with pytest.raises(InputError, match="expected 0 < step <= time"):
        plot.flow_path(decay, (1.0, 1.0), time=time, step=step)


def test_nothing_to_draw_is_one_clear_error():
    for flows, starts in (({}, [(1.0, 1.0)]), ({"simsiam": decay}, [])):
        with pytest.raises(InputError, match="nothing to draw"):
            plot.flow_fields(flows, starts)
