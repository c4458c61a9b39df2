"""Lesson 06's figures show the numbers that they were given."""

from __future__ import annotations

import matplotlib
import pytest

from simsiam_course import plot
from simsiam_course.errors import InputError


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def row(variant, hue, linear=0.9, **others):
    return {
        "variant": variant,
        "hue": hue,
        "frequency": 0.5,
        "orientation": 0.25,
        "linear": linear,
        **others,
    }


ROWS = [row("hue_jitter", 0.1), row("hue_jitter", 0.3), row("no_colour_jitter", 0.9, 0.4)]


def test_a_bar_is_the_mean_a_point_a_seed_and_the_number_is_written():
    figure = plot.factors_kept(ROWS)
    (ax,) = figure.axes
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx([0.2, 0.5, 0.25, 0.9, 0.9, 0.5, 0.25, 0.4])
    assert list(ax.lines[0].get_ydata()) == [0.1, 0.3]
    assert {"0.20", "0.90", "hue", "class", "hue jitter", "no colour jitter"} <= set(texts(figure))
    plot.png(figure)


def test_rows_without_the_columns_are_left_out_and_all_of_them_are_refused():
    figure = plot.factors_kept([*ROWS, {"variant": "simsiam", "linear": 1.0}, row("diverged", None)])
    assert "simsiam" not in texts(figure) and "diverged" not in texts(figure)
    with pytest.raises(InputError, match="No row has the columns hue"):
        plot.factors_kept([{"variant": "simsiam", "linear": 1.0}])


def test_a_lie_is_drawn_from_what_is_so_to_what_is_told_with_its_size():
    figure = plot.lies({"best epoch": (0.80, 0.85), "misaligned": (0.9, 0.1)}, names=("last", "best"))
    (ax,) = figure.axes
    assert list(ax.lines[0].get_xdata()) == [0.80, 0.85]
    assert {"+5.0 points", "−80.0 points", "best epoch", "last", "best"} <= set(texts(figure))
    low, high = ax.get_xlim()
    assert low < 0.1 and high > 0.9
    plot.png(figure)


def test_nothing_to_compare_is_refused():
    with pytest.raises(InputError, match="at least one case"):
        plot.lies({})
