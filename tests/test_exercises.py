"""Every check tells right from wrong: the reference and its solution pass, each known wrong answer gets its sentence."""

from __future__ import annotations

import importlib
import time

import pytest
import torch

from simsiam_course import exercises
from simsiam_course.errors import InputError
from simsiam_course.exercises import WrongAnswer, checks_for
from simsiam_course.exercises.core import judge
from simsiam_course.exercises.solution import source

ALL = [
    exercise
    for module in exercises.MODULES.values()
    for exercise in importlib.import_module(f"simsiam_course.exercises.{module}").EXERCISES
]
KNOWN = [(exercise, suspect) for exercise in ALL for suspect in exercise.suspects]


def name(exercise) -> str:
    return exercise.name


def from_text(code: str, function: str):
    """What a cell that holds this code defines."""
    space: dict = {}
    exec(code, space)  # noqa: S102
    return space[function]


@pytest.mark.parametrize("exercise", ALL, ids=name)
def test_the_reference_passes(exercise):
    verdict = judge(exercise, exercise.reference)
    assert verdict.status == "passed", (verdict, verdict.yours, verdict.expected)


@pytest.mark.parametrize("exercise", ALL, ids=name)
def test_the_solution_that_is_shown_runs_by_itself_and_passes(exercise):
    code = source(exercise.solution or exercise.reference, exercise.name)
    verdict = judge(exercise, from_text(code, exercise.name))
    assert verdict.status == "passed", (code, verdict, verdict.yours)


@pytest.mark.parametrize(("exercise", "suspect"), KNOWN, ids=[f"{e.name}-{s.says[:40]}" for e, s in KNOWN])
def test_a_known_wrong_answer_gets_its_own_sentence(exercise, suspect):
    verdict = judge(exercise, suspect.function)
    assert (verdict.status, verdict.cause) == ("failed", suspect.says), (verdict.message, verdict.yours)


@pytest.mark.parametrize("exercise", ALL, ids=name)
def test_there_are_at_least_five_known_wrong_answers_and_each_has_a_sentence_of_its_own(exercise):
    said = [suspect.says for suspect in exercise.suspects]
    assert len(said) >= 5 and len(set(said)) == len(said)
    assert all(sentence.endswith((".", "?")) for sentence in said)
