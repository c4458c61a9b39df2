"""The figures of lesson 10 show what they are given."""

import pytest

from simsiam_course import plot
from simsiam_course.errors import InputError


def texts(figure):
    return " ".join(t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def stages(*shares):
    rows = [{"name": f"stage {i}", "seconds": 0.1 * share, "share": share} for i, share in enumerate(shares)]
    return [*rows, {"name": "whole step", "seconds": 0.1, "share": 1.0}]


def history(shift, steps=(10, 20, 30)):
    return [{"step": step, "loss": -0.01 * step + shift} for step in steps]


def test_a_bar_has_a_piece_for_each_stage_and_the_milliseconds_of_the_whole():
    figure = plot.time_shares({"batch 16": stages(0.25, 0.75), "batch 64": stages(0.5, 0.6, -0.1)})
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([0.25, 0.75, 0.5, 0.6])
    assert texts(figure).count("100 ms") == 2 and "batch 64" in texts(figure)
    assert plot.png(figure)


def test_rates_say_how_many_times_they_are_round_by_round():
    figure = plot.rates({"none": [10, 20, 30], "twice": [20, 40, 60]}, beside="none")
    assert "40.00" not in texts(figure) and "40, x 2.00 (2.00 to 2.00)" in texts(figure)
    assert [list(line.get_xdata()) for line in figure.axes[0].lines][:2] == [[10, 20, 30], [20, 20]]


def test_the_difference_of_two_runs_is_what_is_drawn_and_zero_stays_on_the_axis():
    figure = plot.same_run(
        {"one": history(0), "two": history(0), "other": history(0.5, (20, 40))}, beside="one"
    )
    left, right = figure.axes
    assert len(left.lines) == 3 and right.get_yscale() == "log"
    assert list(right.lines[0].get_ydata()) == [1e-9] * 3
    assert list(right.lines[1].get_xdata()) == [20] and right.lines[1].get_ydata()[0] == pytest.approx(0.5)
    assert plot.png(figure)
    assert "1e+00" in texts(figure) and "mathdefault" not in texts(figure)


def test_nothing_to_draw_or_to_compare_with_is_one_sentence():
    with pytest.raises(InputError, match="nothing to draw"):
        plot.time_shares({})
    for draw in (plot.rates, plot.same_run):
        with pytest.raises(InputError, match="There is no 'x' to compare with: choose one of none"):
            draw({}, beside="x")
