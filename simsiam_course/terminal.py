"""How a command ends at a terminal: its exit code, and one sentence on standard error where something was wrong."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .errors import InputError, printable, shown

GOES_ON = "a run goes on with --out and --resume, a sweep with the same command."


class Terminated(BaseException):
    """The system wants the program to end: what is half done is cleaned up on the way out."""


def answer(app: Callable[..., Any], arguments: list[str]) -> int:
    """Runs a program of commands and returns its exit code: 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM.

    Other errors, which are the program's own, pass through.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal's encoding lacks is shown as an escape
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            _check(arguments)
            with told_to_end():
                code = app(arguments or ["--help"], standalone_mode=False) or 0
            if code == 130:  # typer has heard Ctrl-C
                raise KeyboardInterrupt
            return code
        except (KeyboardInterrupt, Terminated, Exception) as error:
            code, sentence = _told(error)
            if sentence is None:
                raise
            say(sentence, for_good=code == 2)
            return code


def _told(error: BaseException) -> tuple[int, str | None]:
    """The exit code and the sentence for what ended a command; no sentence for what nobody foresaw."""
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, f"Interrupted: {GOES_ON}"
    if isinstance(error, Terminated):
        return 143, f"Terminated: {GOES_ON}"
    if isinstance(error, OSError) and error.filename is not None:
        return 2, f"Cannot use '{error.filename}': {str(error.strerror).lower()}; choose another path."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):  # no file: standard output
        reason = str(error.strerror).lower()
        return 2, f"Cannot write the output: {reason}; free some space, or send it elsewhere."
    if isinstance(error, (MemoryError, RuntimeError)):
        from .memory import out_of_memory

        if out_of_memory(error):
            return 2, "There is not enough memory: choose a smaller --size, --limit or --batch-size."
    if hasattr(error, "format_message"):  # click's own errors: a wrong option, a missing argument
        return 2, f"{error.format_message().rstrip('.')}. Try 'simsiam-course --help'."
    return 1, None


def say(sentence: str, *, for_good: bool) -> None:
    """One line on standard error; of several processes one says it, and after `for_good` none is started anew."""
    if "RANK" in os.environ:
        from .launch import first_to_say

        if not first_to_say(for_good=for_good):
            return
    print(printable(sentence), file=sys.stderr)


def _warn(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """A warning as a sentence: which line of which file has raised it is nothing to who runs the program."""
    if os.environ.get("RANK", "0") == "0":
        print(printable(f"Warning: {message}"), file=sys.stderr)


@contextmanager
def told_to_end() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`, where otherwise it would end the process on the spot."""

    def end(number: int, frame: Any) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # only that one may hear signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(arguments: list[str]) -> None:
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
