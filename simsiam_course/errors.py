"""The one error that a person can do something about, and the checks of options that raise it."""

from __future__ import annotations

import math
from typing import Any


class InputError(ValueError):
    """Bad input, told in one sentence: what was wrong, what was expected, what to do."""


def check_choice(name: str, value: Any, choices: tuple) -> None:
    """Errors: `InputError` for a value that is none of the choices."""
    if value not in choices:
        known = ", ".join(str(choice) or "''" for choice in choices)
        raise InputError(f"{name} is {value!r}, expected one of {known}.")


def check_whole(*, least: int = 1, **numbers: Any) -> None:
    """Errors: `InputError` for the first that is not a whole number of at least `least`, by its name."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} is {value!r}, expected a whole number of at least {least}.")


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, open_ends: bool = False
) -> None:
    """Errors: `InputError` for what is not a finite number in [low, high], or in (low, high) with open ends."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (open_ends and value in (low, high)):
        ends = ("above", "below") if open_ends else ("at least", "at most")
        wanted = f"{ends[0]} {low:g}" + (f" and {ends[1]} {high:g}" if high < math.inf else "")
        raise InputError(f"{name} is {value!r}, expected a finite number {wanted}.")
