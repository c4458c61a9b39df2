"""What the tests of every exercise share: right answers in other styles pass, wrong ones never do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from simsiam_course.exercises.core import Exercise, judge

Group = tuple[Exercise, Sequence[Callable[..., Any]], Sequence[Callable[..., Any]]]  # right, wrong


def both_tests(*groups: Group) -> tuple[Callable[..., None], Callable[..., None]]:
    """Two tests, one of all right answers and one of all wrong ones, each answer a case of its own."""
    right = [(exercise, function) for exercise, functions, _ in groups for function in functions]
    wrong = [(exercise, function) for exercise, _, functions in groups for function in functions]

    @pytest.mark.parametrize(("exercise", "function"), right, ids=named(right))
    def test_right(exercise, function):
        verdict = judge(exercise, function)
        assert verdict.status == "passed", (verdict.message, verdict.yours, verdict.expected)

    @pytest.mark.parametrize(("exercise", "function"), wrong, ids=named(wrong))
    def test_wrong(exercise, function):
        assert judge(exercise, function).status == "failed"

    return test_right, test_wrong


def named(pairs: Sequence[tuple[Exercise, Any]]) -> list[str]:
    return [f"{e.name}-{i}-{getattr(f, '__name__', type(f).__name__)}" for i, (e, f) in enumerate(pairs)]
