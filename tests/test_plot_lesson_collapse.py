"""The figures of lesson 05 show what they are given."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from simsiam_course import plot
from simsiam_course.errors import InputError


def history(start=0.0, steps=6, end=6, **columns):
    rows = []
    for i in range(min(steps, end)):
        row = {"step": 10 * (i + 1), "images_seen": 640 * (i + 1), "loss": start - 0.1 * i, "std": 1.0}
        row |= {"effective_rank": 3.0 + i, "knn": 0.1 * i if i % 2 else None}
        rows.append(row | columns)
    return rows


@pytest.fixture
def groups():
    return {
        "simsiam": [{"history": history(0.0)}, {"history": history(-0.2)}],
        "no_stop_gradient": [{"history": history(-0.4, std=0.3)}, {"history": history(-0.5, std=0.3)}],
    }


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def texts(figure):
    return [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_small_multiples_have_a_column_for_each_variant_and_a_row_for_each_monitor(groups):
    figure = plot.small_multiples(groups, beside=groups["simsiam"])
    assert len(figure.axes) == 8 and titles(figure)[:2] == ["SimSiam", "no stop-gradient"]
    grey, mean = figure.axes[1].lines[:2]
    assert np.allclose(mean.get_ydata(), [-0.45 - 0.1 * i for i in range(6)])
    assert np.allclose(grey.get_ydata(), [-0.1 - 0.1 * i for i in range(6)])
    (band,) = figure.axes[1].collections
    low, high = band.get_paths()[0].get_extents().get_points()[:, 1]
    assert (low, high) == (
        pytest.approx(-0.95 - math.sqrt(0.005)),
        pytest.approx(-0.45 + math.sqrt(0.005)),
    )
    assert any("mean of 2 seeds" in text and "Grey: SimSiam" in text for text in texts(figure))
    assert plot.png(figure)


def test_rows_of_small_multiples_share_a_scale_that_holds_what_theory_gives(groups):
    figure = plot.small_multiples(groups)
    for row in np.array(figure.axes).reshape(4, 2):
        assert row[0].get_ylim() == row[1].get_ylim()
    loss, std = figure.axes[0].get_ylim(), figure.axes[2].get_ylim()
    assert loss[0] < -1 and loss[1] > 0 and std[0] < 0 and std[1] > 1


def test_knn_is_drawn_where_it_was_measured_and_left_out_where_it_never_was(groups):
    figure = plot.small_multiples(groups)
    assert list(figure.axes[6].lines[0].get_xdata()) == [1280, 2560, 3840]
    for runs in groups.values():
        for run in runs:
            run["history"] = [{k: v for k, v in row.items() if k != "knn"} for row in run["history"]]
    assert len(plot.small_multiples(groups).axes) == 6


def test_one_seed_has_no_band_and_a_run_that_ended_early_is_marked(groups):
    one = plot.small_multiples({"simsiam": groups["simsiam"][:1]})
    assert not one.axes[0].collections and any("One seed." in text for text in texts(one))
    groups["simsiam"].append({"history": history(end=3)})
    dotted = [line for line in plot.small_multiples(groups).axes[0].lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [1920]


def test_unlabelled_runs_have_letters_their_own_steps_and_no_names():
    figure = plot.unlabelled({"A": history(), "B": history(steps=3, knn=None)})
    assert len(figure.axes) == 8 and titles(figure)[:2] == ["A", "B"]
    assert list(figure.axes[0].lines[0].get_xdata()) == [10, 20, 30, 40, 50, 60]
    assert figure.axes[1].get_xlim()[1] < figure.axes[0].get_xlim()[1]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert plot.png(figure)


def test_planes_share_their_axes_so_that_a_collapse_is_small():
    wide = torch.rand(12, 2) - 0.5
    figure = plot.planes(
        {"simsiam": wide, "no_stop_gradient": wide / 50, "flat": wide * torch.tensor([1.0, 0.0])},
        torch.arange(12) % 3,
        ("dots", "waves", "rings"),
        columns=2,
        notes={"simsiam": "std 0.98"},
    )
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(figure.axes) == 4 and len(shown) == 3
    assert len({ax.get_xlim() for ax in shown} | {ax.get_ylim() for ax in shown}) == 1
    assert titles(figure)[:2] == ["SimSiam\nstd 0.98", "\nno stop-gradient"]
    drawn = np.concatenate([c.get_offsets() for c in shown[0].collections])
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, wide.double().tolist()))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["dots", "waves", "rings"]
    assert plot.png(figure) and plot.png(plot.planes({"simsiam": wide}))


def test_losses_that_coincide_lie_at_the_foot_of_the_second_panel():
    first = [-0.1 * i for i in range(10)]
    near, far = [value + 1e-9 for value in first], [value / 2 for value in first]
    figure = plot.coincidence({"neither": first, "the same": first, "near": near, "far": far})
    left, right = figure.axes
    assert len(left.lines) == 4 and len(right.lines) == 3
    assert (right.lines[0].get_ydata() < 1e-16).all()
    assert np.allclose(right.lines[1].get_ydata(), 1e-9, rtol=1e-3)
    assert len({line.get_color() for line in left.lines}) == 4
    assert plot.png(figure)
    labels = [label.get_text() for label in right.get_yticklabels()]
    assert "1e\N{MINUS SIGN}15" in labels, "formulas are off in this theme"


@pytest.mark.parametrize("draw", [
    lambda: plot.small_multiples({}), lambda: plot.small_multiples({"simsiam": []}),
    lambda: plot.small_multiples({"simsiam": [{"history": []}]}),
    lambda: plot.unlabelled({}), lambda: plot.unlabelled({"A": []}),
])  # fmt: skip
def test_nothing_to_draw_is_one_clear_error(draw):
    with pytest.raises(InputError, match="nothing to draw"):
        draw()


def test_points_and_losses_that_do_not_fit_are_one_clear_error():
    with pytest.raises(InputError, match="rows, expected the same images"):
        plot.planes({"simsiam": torch.zeros(4, 2)}, torch.zeros(3))
    for losses in ({"one": [1.0]}, {"one": [1.0], "two": [1.0, 2.0]}, {"one": [], "two": []}):
        with pytest.raises(InputError, match="two or more runs"):
            plot.coincidence(losses)
