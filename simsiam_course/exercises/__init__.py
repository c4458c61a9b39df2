"""The exercises: `checks_for("03")` gives what a lesson calls `check`.

One module a lesson. A check returns the student's function when it is right and the reference otherwise, so that the
rest of the notebook always works, and what a student wrote right is what later cells run.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import InputError
from .card import Card, show
from .core import PATIENT, Exercise, Verdict, as_found, judge
from .solution import source

MODULES = {
    "00": "start",
    "01": "views",
    "02": "network",
    "03": "loss",
    "04": "training",
    "05": "collapse",
    "06": "representation",
    "07": "paper",
    "08": "relatives",
    "09": "own_images",
    "10": "scaling",
    "11": "museum",
}


class WrongAnswer(AssertionError):
    """A wrong answer, where SIMSIAM_CHECKS=strict asks to be told by an exception."""


class Checks:
    """A lesson's exercises: `check.NAME(function)` for each, `results`, `hint`, `solution` and `progress`."""

    def __init__(self, exercises: Sequence[Exercise], restated: Sequence[Exercise] = ()) -> None:
        self._exercises = {exercise.name: exercise for exercise in exercises}
        self._restated = {exercise.name: exercise for exercise in restated}  # of earlier lessons
        self._hints_shown: dict[str, int] = {}
        both = (*exercises, *restated)
        self.results = {e.number: Verdict("not attempted", "Not attempted yet.") for e in both}

    def __getattr__(self, name: str) -> Callable[[Any], Any]:
        known = {**self.__dict__.get("_restated", {}), **self.__dict__.get("_exercises", {})}
        if name.startswith("_") or name not in known:
            raise AttributeError(f"There is no exercise '{name}' here: choose one of {', '.join(known)}.")
        exercise = known[name]

        def check(function: Any) -> Any:
            return self._check(exercise, function)

        check.__name__ = name
        check.__doc__ = f"Exercise {exercise.number}: your function in, the one to go on with out."
        return check

    def __dir__(self) -> list[str]:
        return [*self._exercises, *self._restated, "results", "hint", "solution", "progress", "whose"]

    def _check(self, exercise: Exercise, function: Any) -> Any:
        strict = os.environ.get("SIMSIAM_CHECKS") == "strict"
        verdict = judge(exercise, function, seconds=PATIENT if strict else None)
        self.results[exercise.number] = verdict
        show(card(exercise, verdict))
        if verdict.status == "failed" and strict and not as_found(exercise, function):
            raise WrongAnswer(f"{exercise.number} {exercise.name}: {verdict.message} {verdict.cause}".strip())
        return function if verdict.status == "passed" else exercise.reference

    def whose(self, *names: str) -> str:
        """Whose code later cells run, as a phrase: 'your projector, the reference's train_step'. Default: all."""
        known = {**self._restated, **self._exercises}
        said = []
        for name in names or known:
            passed = self.results.get(known[name].number)
            said.append(f"{'your' if passed and passed.status == 'passed' else 'the reference'} {name}")
        return ", ".join(said)

    def hint(self, number: str) -> None:
        """Shows the next of three hints: the idea, the function, the line. Errors: `InputError`, unknown number."""
        exercise = self._find(number)
        shown = min(3, self._hints_shown.get(number, 0) + 1)
        self._hints_shown[number] = shown
        print(f"Hint {shown} of 3 for {number}: {exercise.hints[shown - 1]}")

    def solution(self, number: str) -> None:
        """Shows a solution, after the three hints; who has passed sees it at once. Errors: `InputError`, number."""
        exercise = self._find(number)
        if self._hints_shown.get(number, 0) < 3 and self._status(number) != "passed":
            self.hint(number)
            left = 3 - self._hints_shown[number]
            after = f"after {left} more hint{'s' if left > 1 else ''}" if left else "now"
            print(f"Try again with this hint. The solution comes {after}: check.solution('{number}').")
            return
        print(source(exercise.solution or exercise.reference, exercise.name))

    def progress(self) -> None:
        """Prints where the student stands: a line for each exercise, and how many are passed."""
        passed = sum(verdict.status == "passed" for verdict in self.results.values())
        for exercise in sorted((*self._exercises.values(), *self._restated.values()), key=lambda e: e.number):
            print(f"{exercise.number}  {exercise.name:<26} {self._status(exercise.number)}")
        print(f"{passed} of {len(self.results)} passed.")

    def _status(self, number: str) -> str:
        return self.results[number].status

    def _find(self, number: str) -> Exercise:
        for exercise in (*self._exercises.values(), *self._restated.values()):
            if exercise.number == number:
                return exercise
        known = ", ".join(exercise.number for exercise in self._exercises.values())
        raise InputError(f"There is no exercise {number!r} in this lesson: choose one of {known}.")


def checks_for(lesson: str) -> Checks:
    """The checks of a lesson. Errors: `InputError` where a lesson has none or does not exist."""
    if lesson not in MODULES:
        raise InputError(f"There are no exercises for lesson {lesson!r}: choose one of {', '.join(MODULES)}.")
    module = importlib.import_module(f"{__name__}.{MODULES[lesson]}")
    return Checks(module.EXERCISES, getattr(module, "RESTATED", ()))


def card(exercise: Exercise, verdict: Verdict) -> Card:
    """What is shown of a verdict."""
    name = f"{exercise.number} `{exercise.name}`"
    if verdict.status == "passed":
        return Card("passed", f"{name}: passed. Your function is used from here on.")
    if verdict.status == "not attempted":
        return Card("not attempted", f"{name}: {verdict.message} Going on with the reference.")
    lines = [("", verdict.message)]
    if verdict.yours or verdict.expected:
        lines += [("Yours", verdict.yours), ("Expected", verdict.expected)]
    if verdict.cause:
        lines.append(("Likely cause", verdict.cause))
    lines.append(("", "Change it and run both cells again. Until then the reference stands in."))
    return Card("failed", f"{name}: not yet.", tuple(lines))
