"""The command line as the tests use it."""

from __future__ import annotations

import sys

from simsiam_course import cli


def call(capsys, *arguments):
    """Exit code, standard output and standard error of one command, in this process."""
    capsys.readouterr()
    try:
        old, sys.argv = sys.argv, ["simsiam-course", *map(str, arguments)]
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = old
    return code, *capsys.readouterr()
