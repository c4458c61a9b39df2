"""What the first cell of a lesson gives, and that every call of it is harmless."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from simsiam_course import setup
from simsiam_course.errors import InputError
from simsiam_course.lesson import LESSONS


def test_setup_says_at_most_three_lines_and_may_be_called_again(capsys):
    first, second = setup("03"), setup("03")
    said = capsys.readouterr().out.strip().splitlines()
    assert 4 <= len(said) <= 6 and said[: len(said) // 2] == said[len(said) // 2 :]
    assert first.number == second.number == "03"
    assert "The loss and the stop-gradient" in said[0] and str(LESSONS["03"].minutes) in said[0]
    assert "min" in said[1]


def test_an_unknown_lesson_is_one_sentence():
    with pytest.raises(InputError, match="no lesson '77': the lessons are 00, 01"):
        setup("77")


def test_a_figure_without_alt_text_is_refused():
    with pytest.raises(InputError, match="no alt text"):
        setup("00").show(Figure(), alt="  ")


def test_a_prediction_has_a_default_and_is_compared_with_what_was_measured(capsys):
    guess = setup("00").predict("The loss?", ["worse", "better"])
    assert guess.answer == "worse"
    guess.buttons.value = "better"
    guess.compare("better")
    assert "You predicted: better. Measured: better.\nYou saw it coming." in capsys.readouterr().out
    guess.compare("worse")
    assert "Measured: worse.\nWorth a thought" in capsys.readouterr().out
    with pytest.raises(InputError, match="'equal' is none of the choices: worse, better"):
        guess.compare("equal")


@pytest.mark.parametrize("choices", [[], ["one"], ["same", "same"]])
def test_a_prediction_needs_two_choices_or_more(choices):
    with pytest.raises(InputError, match="at least two"):
        setup("00").predict("What?", choices)


def test_the_checks_of_a_lesson_are_made_once():
    course = setup("03")
    assert course.check is course.check
    assert set(course.check.results) == {"3.1", "3.2", "3.3", "3.4"}
