"""Lesson 11's figures show the numbers that they were given."""

from __future__ import annotations

import matplotlib
import pytest

from simsiam_course import plot
from simsiam_course.errors import InputError


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


RUNS = {
    "as found": [{"step": 5, "loss": -0.5, "agreement": None}, {"step": 10, "loss": -0.9, "agreement": -0.1}],
    "repaired": [{"step": 5, "loss": -0.2, "agreement": -0.3}, {"step": 10, "loss": -0.4, "agreement": -0.5}],
}


def test_a_panel_for_each_column_and_a_line_for_each_run():
    figure = plot.before_and_after(RUNS, {"loss": "the loss", "agreement": "do the views agree?"})
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines] == [[-0.5, -0.9], [-0.2, -0.4]]
    assert [list(line.get_xdata()) for line in right.lines] == [[10], [5, 10]]
    assert {"the loss", "do the views agree?", "as found", "repaired"} <= set(texts(figure))
    plot.png(figure)


def test_two_bars_for_each_class_and_nothing_is_written_where_nothing_is_right():
    figure = plot.by_class({"as found": [0.5, 0.0], "repaired": [0.5, 0.75]}, ("stripes", "checks"))
    (ax,) = figure.axes
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.0, 0.5, 0.75]
    assert {"stripes", "checks", "0 %"} <= set(texts(figure))
    assert [t.get_text() for t in ax.texts] == ["0 %"]
    plot.png(figure)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="expected 'as found' and 'repaired'"):
        plot.before_and_after({"repaired": RUNS["repaired"]}, {"loss": "loss"})
    with pytest.raises(InputError, match="at least one column"):
        plot.before_and_after(RUNS, {})
    with pytest.raises(InputError, match="expected 'as found' and 'repaired'"):
        plot.by_class({}, ("stripes",))
    with pytest.raises(InputError, match="There are 1 classes"):
        plot.by_class({"as found": [0.5, 0.0], "repaired": [0.5, 0.75]}, ("stripes",))
