"""The one error that a person can do something about, and the checks of options that raise it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

LARGEST = 1.7976931348623157e308  # of the finite floats


class InputError(ValueError):
    """Bad input, told in one sentence: what was wrong, what was expected, what to do."""


def check_choice(name: str, value: Any, choices: tuple) -> None:
    """Errors: `InputError` for a value that is none of the choices, or equals one but is of another type."""
    same = [choice for choice in choices if isinstance(value, type(choice)) and value == choice]
    if not any(isinstance(value, bool) == isinstance(choice, bool) for choice in same):
        known = ", ".join(str(choice) or "''" for choice in choices)
        raise InputError(f"{name} is {shown(value)}, expected one of {known}{nearest(value, choices)}.")


def check_whole(*, least: int = 1, most: float = math.inf, **numbers: Any) -> None:
    """Errors: `InputError` for the first that is not a whole number in [least, most], by its name."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            limit = f" and at most {most:,}" if most < math.inf else ""
            raise InputError(f"{name} is {shown(value)}, expected a whole number of at least {least}{limit}.")


def check_number(
    name: str, value: Any, low: float, high: float = math.inf, *, open_ends: bool = False
) -> None:
    """Errors: `InputError` for what is not a finite number in [low, high], or in (low, high) with open ends."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    finite = number and abs(value) <= LARGEST  # not isfinite(): it fails for a whole number of 400 digits
    if not finite or not low <= value <= high or (open_ends and value in (low, high)):
        ends = ("above", "below") if open_ends else ("at least", "at most")
        wanted = f"{ends[0]} {low:g}" + (f" and {ends[1]} {high:g}" if high < math.inf else "")
        raise InputError(f"{name} is {shown(value)}, expected a finite number {wanted}.")


def nearest(value: Any, known: Iterable[Any]) -> str:
    """' (did you mean 'x'?)' where a name is nearly one of those known, else nothing."""
    plain = {_plain(name): name for name in known if isinstance(name, str) and name}
    close = difflib.get_close_matches(_plain(value), plain, n=1, cutoff=0.7) if isinstance(value, str) else []
    return f" (did you mean '{plain[close[0]]}'?)" if close else ""


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def shown(value: Any) -> str:
    """A value as a sentence can hold it: its repr, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more than 4,300 digits
        text = "a number of thousands of digits"
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def printable(text: str) -> str:
    """Text in one line for a terminal: control characters and what no encoding has are written as escapes."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
