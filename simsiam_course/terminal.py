"""What stands between a terminal and the commands: odd arguments, encodings, and errors that are not ours."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

from .errors import InputError, shown


def checked(run: Callable[[], Any]) -> Any:
    """What `run()` returns, run with arguments that have been looked at and a terminal that can show any name.

    Errors: `InputError` for an argument that nothing can be called, a path that the system refuses, want of memory.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal's encoding lacks is shown as an escape
            stream.reconfigure(errors="backslashreplace")
    check_arguments(sys.argv[1:])
    try:
        return run()
    except OSError as error:
        if error.filename is None:
            raise
        reason = str(error.strerror).lower()
        raise InputError(f"Cannot use '{error.filename}': {reason}; choose another path.") from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        raise InputError(
            "There is not enough memory: choose a smaller --size, --limit or --batch-size."
        ) from error


def check_arguments(arguments: list[str]) -> None:
    """Errors: `InputError` for what no option or file name can be: nothing, a NUL byte, half a character."""
    for before, argument in zip(["simsiam-course", *arguments], arguments, strict=False):
        if not argument or (argument.startswith("--") and argument.endswith("=")):
            raise InputError(
                f"What follows '{argument or before}' is empty: give it a value, or leave it out."
            )
        if "\0" in argument:
            raise InputError(f"{shown(argument)} has a NUL byte, which no name can have: check the argument.")
        try:
            os.fsencode(argument)
        except UnicodeEncodeError:
            raise InputError(f"{shown(argument)} cannot be written as bytes: check the argument.") from None
