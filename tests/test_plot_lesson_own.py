"""The figures of lesson 09 show what they are given."""

from __future__ import annotations

import pytest

from simsiam_course import plot
from simsiam_course.errors import InputError

CHANCE = {"digit": 0.1, "mirror": 0.5}
LISTS = {"no flip": {"digit": 0.9, "mirror": 0.84}, "flip": {"digit": 0.67, "mirror": 0.51}}


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def test_what_is_read_has_a_bar_its_number_and_chance():
    figure = plot.read_in_views(LISTS, chance=CHANCE, read=0.7, gone=0.65)
    assert titles(figure) == ["no flip", "flip"]
    for ax, found in zip(figure.axes, LISTS.values(), strict=True):
        assert [bar.get_width() for bar in ax.patches] == list(found.values())
        assert [text.get_text() for text in ax.texts] == [f"{value:.0%}" for value in found.values()]
        assert [line.get_xdata()[0] for line in ax.lines] == [0.1, 0.5]
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first factor on top
    assert [bar.get_hatch() or "" for bar in figure.axes[1].patches] == ["", "///"]  # never by colour alone
    assert plot.png(figure)


def test_what_cannot_be_drawn_is_one_sentence():
    with pytest.raises(InputError, match="nothing to draw"):
        plot.read_in_views({}, chance=CHANCE, read=0.7, gone=0.65)
    with pytest.raises(InputError, match="no chance for colour"):
        plot.read_in_views({"a": {"colour": 0.5}}, chance=CHANCE, read=0.7, gone=0.65)
    for curves in ({}, {"a": {}}):
        with pytest.raises(InputError, match="nothing to draw"):
            plot.labels_needed(curves)


def test_a_line_for_each_kind_of_features_with_the_mean_of_its_draws():
    curves = {"simsiam": {1: [0.2, 0.4], 10: [0.6, 0.8]}, "raw pixels": {1: [0.1], 10: [0.5]}}
    figure = plot.labels_needed(curves)
    lines = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == [
        pytest.approx([0.3, 0.7]),
        pytest.approx([0.1, 0.5]),
    ]
    assert all(list(line.get_xdata()) == [1, 10] for line in lines)
    assert len({line.get_marker() for line in lines}) == 2
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["1", "10"] and plot.png(figure)
