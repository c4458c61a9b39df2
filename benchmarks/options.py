"""The command line that the benchmarks share."""

from __future__ import annotations

import argparse
from typing import Any

from simsiam_course.errors import InputError


class Parser(argparse.ArgumentParser):
    """A parser that keeps the lines of its description and answers a bad option with one sentence."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> Any:
        """Errors: `InputError`, always."""
        raise InputError(f"{message}: try --help.")
