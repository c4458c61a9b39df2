"""The figures of lesson 07 show what they are given."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from simsiam_course import plot
from simsiam_course.ablate import DIRECTIONS, Claim, Direction, Experiment
from simsiam_course.errors import InputError
from simsiam_course.plot.lesson_paper import VERDICTS


def texts(figure):
    return [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def dots(ax):
    """The x of every marker that stands for a mean."""
    return [float(bars.lines[0].get_xdata()[0]) for bars in ax.containers]


# ---- the toy


@pytest.fixture
def rows():
    z = torch.randn(5, 4, 2)
    curves = {"k = 1": [(0, 1.0), (10, 0.1)], "k = 10": [(0, 1.0), (10, 0.5)]}
    clouds = {"start": z, "end": z / 10}
    return {"as it stands": (clouds, curves), "normalised": (clouds, curves)}


def test_alternations_have_a_row_for_each_way_and_all_clouds_on_one_scale(rows):
    figure = plot.alternations(rows, torch.arange(5))
    assert len(figure.axes) == 6 and titles(figure)[:3] == ["start", "end", "spread of the targets"]
    clouds = [ax for ax in figure.axes if ax.collections]
    assert len({ax.get_xlim() for ax in clouds} | {ax.get_ylim() for ax in clouds}) == 1
    small, large = clouds[0].collections
    z = rows["as it stands"][0]["start"]
    assert len(small.get_offsets()) == 20
    assert np.allclose(np.asarray(large.get_offsets()), z.mean(dim=1), atol=1e-6)
    assert [list(line.get_ydata()) for line in figure.axes[2].lines] == [[1.0, 0.1], [1.0, 0.5]]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["k = 1", "k = 10"]
    assert plot.png(figure)


def test_alternations_that_do_not_fit_are_one_clear_error(rows):
    clouds, curves = rows["normalised"]
    for wrong in (
        {},
        {**rows, "normalised": ({}, curves)},
        {**rows, "normalised": ({"start": clouds["start"]}, curves)},
    ):
        with pytest.raises(InputError, match="expected as many in each"):
            plot.alternations(wrong, torch.arange(5))


# ---- accuracies


EXPERIMENT = Experiment(
    "small", "Does it matter?", "q", {"a": ("68.1 %", "Table 1"), "b": ("unstable", "Table 3")},
    variants={"a": {}, "b": {"lr": 0.3}, "c": {"lr": 0.1}},
)  # fmt: skip
RUNS = [{"variant": v, "knn": knn} for v, knn in (("a", 0.8), ("a", 0.9), ("b", 0.5), ("b", None))]


def test_accuracies_are_mean_sd_and_seeds_beside_the_papers():
    figure = plot.accuracies([(EXPERIMENT, RUNS), (EXPERIMENT, RUNS), (EXPERIMENT, RUNS)])
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert len(shown) == 3 and titles(figure)[0] == "Does it matter?"
    assert dots(shown[0]) == pytest.approx([85, 50])
    (bar,) = shown[0].containers[0].lines[2]
    assert bar.get_segments()[0][:, 0] == pytest.approx([85 - math.sqrt(50), 85 + math.sqrt(50)])
    drawn = [list(line.get_xdata()) for line in shown[0].lines]
    assert [80.0, 90.0] in [pytest.approx(x) for x in drawn if len(x) == 2]
    assert [68.1] in drawn and "the paper: unstable" in texts(figure) and "no run yet" in texts(figure)
    assert [t.get_text() for t in shown[0].get_yticklabels()] == ["a", "b", "c"]
    assert plot.png(figure)


def test_where_the_paper_has_no_figures_the_legend_says_nothing_of_it():
    experiment = Experiment("own", "t", "q", {}, variants={"a": {}})
    legend = plot.accuracies([(experiment, RUNS)]).legends[0]
    assert [t.get_text() for t in legend.get_texts()] == ["kNN here: mean and sd", "each seed"]
    with pytest.raises(InputError, match="nothing to draw"):
        plot.accuracies([])


# ---- verdicts


def ledger(**means):
    """Two runs of each variant, a little to both sides of its mean, with every measured figure."""
    return {
        "x": [
            {"variant": v, "knn": m + e, "effective_rank": 10 * (m + e), "loss": m + e, "wobble": m + e}
            for v, m in means.items()
            for e in (-0.005, 0.005)
        ]
    }


def claim(figure, a, b, **rest):
    return Claim(figure, ("x", a), ("x", b), **rest)


def test_verdicts_have_a_dot_with_its_error_for_each_claim_and_a_word_for_each_direction():
    directions = [
        Direction("more is better", "Table 1", (claim("knn", "high", "low"), claim("knn", "high", "mid"))),
        Direction("less is better", "Sec. 2", (claim("effective_rank", "low", "high"),)),
        Direction("alike", "Table 3", (claim("knn", "high", "same", margin=0.02, equal=True),)),
    ]
    figure = plot.verdicts(ledger(high=0.9, same=0.895, mid=0.5, low=0.2), directions)
    knn, rank, *_ = figure.axes
    assert titles(figure) == ["kNN, points", "rank of z", "loss", "wobble x 1000"]
    assert dots(knn) == pytest.approx([70, 40, 0.5]) and dots(rank) == pytest.approx([-7])
    error = 100 * math.sqrt(2 * 5e-5 / 2)
    (bar,) = knn.containers[0].lines[2]
    assert bar.get_segments()[0][:, 0] == pytest.approx([70 - 2 * error, 70 + 2 * error])
    (narrow,) = knn.containers[2].lines[2]
    assert narrow.get_segments()[0][:, 0] == pytest.approx([0.5 - 1.645 * error, 0.5 + 1.645 * error])
    said = texts(figure)
    assert said.count("same direction") == 2 and said.count("opposite") == 1
    assert any("1. more is better" in text for text in said)
    assert plot.png(figure)


def test_every_verdict_has_a_colour_a_marker_and_a_word_of_its_own():
    assert len({style.colour for style in VERDICTS.values()}) == 3
    assert len({style.marker for style in VERDICTS.values()}) == 3
    figure = plot.verdicts(
        ledger(high=0.9, low=0.2), [Direction("d", "Fig. 2", (claim("knn", "high", "low"),))]
    )
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["holds", "open", "fails"]


def test_all_twelve_are_drawn_even_where_no_run_is_there_yet():
    figure = plot.verdicts({})
    said = texts(figure)
    assert said.count("not resolved") == len(DIRECTIONS)
    assert sum("too few" in text for text in said) == sum(len(direction.claims) for direction in DIRECTIONS)
    with pytest.raises(InputError, match="nothing to draw"):
        plot.verdicts({}, [])
