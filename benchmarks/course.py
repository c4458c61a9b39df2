"""What the course costs in time: every notebook alone, the whole suite of tests, and the first seconds of a session.

A notebook runs in a new kernel and is not written back. The suite is one pytest, as in `.ci/run`: it runs two files at
once, so that what the files take is more than the minutes on the clock. Both find an empty cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
from machine import describe
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from options import Parser
from rounds import LEDGER, alternate, keep, ratio, summary
from tqdm.auto import tqdm

from simsiam_course.errors import InputError
from simsiam_course.files import check_folder
from simsiam_course.lesson import LESSONS
from simsiam_course.notebooks import CELL_TIMEOUT
from simsiam_course.train import resolve_device

ROOT = Path(__file__).resolve().parents[1]
BUDGET = 45  # minutes that the whole of .ci/run may take
ROUNDS = 5
FILES = {"notebooks": "*.ipynb", "tests": "test_*.py"}
PARTS = (*FILES, "start")
WHOLE, AT_ONCE = "the whole suite", 2  # files at once, as in pyproject.toml
START = (  # the first is the base that the others are compared with
    "import torch",
    "import simsiam_course",
    "from simsiam_course import fit, Recipe",
    "from simsiam_course import plot",
    "from simsiam_course import setup; setup('00')",
    "from simsiam_course import load_pair; load_pair('patterns')",
    "simsiam-course --help",
    "simsiam-course doctor",
)
COLUMNS = {  # of the tables
    "notebooks": ("{:<28}{:>8}{:>10}  {}", "Notebook", "minutes", "promised", "slowest cell"),
    "tests": (
        "{:<28}{:>8}{:>8}{:>8}{:>9}  {}",
        *("Test file", "minutes", "passed", "failed", "skipped", "slowest test"),
    ),
    "start": ("{:<61}{:>22}{:>9}  {}", "Fresh process", "seconds (range)", "x torch", ""),
}

Row = dict[str, Any]


def time_notebook(path: Path, environment: Mapping[str, str]) -> Row:
    """Runs a notebook from a clean kernel: its seconds, what its lesson promises, and its slowest cell."""
    error, clock = None, [time.perf_counter()]
    cells: list[tuple[float, int, str]] = []

    def begin(**about: Any) -> None:
        clock.append(time.perf_counter())

    def end(*, cell: Any, **about: Any) -> None:
        first_line = cell.source.strip().partition("\n")[0]
        cells.append((time.perf_counter() - clock[-1], len(clock) - 1, first_line))

    try:
        notebook, folder = nbformat.read(path, as_version=4), {"metadata": {"path": str(path.parent)}}
        client = NotebookClient(notebook, timeout=CELL_TIMEOUT, resources=folder)
        client.on_cell_execute, client.on_cell_executed = begin, end
        client.execute(env=dict(environment))
    except CellExecutionError as failure:
        error = f"cell {len(clock) - 1}: {failure.ename}: {failure.evalue}"
    except (DeadKernelError, OSError, ValueError) as failure:  # OSError: a cell's timeout is one, too
        error = f"cell {len(clock) - 1}: {failure}"
    row = {"name": path.name, "seconds": time.perf_counter() - clock[0], "error": error}
    lesson = LESSONS.get(path.name[:2])
    slowest = dict(zip(("seconds", "number", "code"), max(cells), strict=True)) if cells else None
    return row | {"promised_minutes": lesson and lesson.machine_minutes, "slowest_cell": slowest}


def time_suite(folders: Sequence[Path], environment: Mapping[str, str]) -> list[Row]:
    """Runs pytest once: the seconds of the tests of each file and the names of what failed, the longest first.

    The first row is the whole of it by the clock. What pytest says meanwhile goes to standard error.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *map(str, folders), "-q", "-p", "no:cacheprovider",
                   "-n", str(AT_ONCE), "--dist", "loadfile", "--no-loadscope-reorder",
                   "--continue-on-collection-errors", f"--junitxml={report}", "-o", "junit_family=xunit1"]  # fmt: skip
        start = time.perf_counter()
        code = subprocess.run(
            command, env=environment, cwd=folders[0].parent, check=False, stdout=2
        ).returncode
        seconds = time.perf_counter() - start
        cases = list(ElementTree.parse(report).getroot().iter("testcase")) if report.exists() else []
    files = defaultdict(list)
    for case in cases:
        files[_file(case)].append(case)
    rows = [
        _tests(name, sum(float(case.get("time", 0)) for case in files[name]), files[name]) for name in files
    ]
    whole = _tests(WHOLE, seconds, cases)
    if code:
        whole["error"] = f"pytest ended with exit code {code}"
    return [whole, *sorted(rows, key=lambda row: -row["seconds"])]


def _file(case: ElementTree.Element) -> str:
    """The name of a test's file; a file that could not be collected is a case `tests.test_NAME` without one."""
    return Path(case.get("file") or f"{case.get('name', '').rpartition('.')[2]}.py").name


def _tests(name: str, seconds: float, cases: Sequence[ElementTree.Element]) -> Row:
    """The row of some tests of pytest's report."""
    failed = [case.get("name", "") for case in cases if {"failure", "error"} & {child.tag for child in case}]
    skipped = sum(case.find("skipped") is not None for case in cases)
    counts: Row = {"passed": len(cases) - len(failed) - skipped, "failed": len(failed), "skipped": skipped}
    longest = max(((float(case.get("time", 0)), case.get("name")) for case in cases), default=None)
    counts["slowest_test"] = dict(zip(("seconds", "name"), longest, strict=True)) if longest else None
    return {"name": name, "seconds": seconds, "error": ", ".join(failed) or None, **counts}


def time_starts(names: Sequence[str], rounds: int, environment: Mapping[str, str]) -> list[Row]:
    """How long fresh processes take from nothing to their end, in turns, beside the first of them."""
    errors: dict[str, str | None] = {}

    def start(name: str) -> float:
        program, *options = name.split()
        command = ["-m", "simsiam_course", *options] if program == "simsiam-course" else ["-c", name]
        seconds, code, said = _run(command, environment, ROOT)
        errors[name] = errors.get(name) or (said if code else None)
        return 1 / seconds

    rates = alternate({name: partial(start, name) for name in names}, rounds, label="start")
    rows = []
    for name in names:
        row: Row = {"name": name, "rounds": rounds, "error": errors[name]}
        row["seconds"], row["low"], row["high"] = summary([1 / rate for rate in rates[name]])
        rows.append(row | {"times_torch": ratio(rates[names[0]], rates[name]).median})
    return rows


def measure(part: str, options: argparse.Namespace, environment: Mapping[str, str]) -> list[Row]:
    """The rows of one part; what failed has its reason in `error`."""
    if part == "start":
        return time_starts(START[: 2 if options.quick else None], 1 if options.quick else ROUNDS, environment)
    if part == "tests":
        return time_suite([options.tests.resolve(), options.notebooks.resolve()], environment)
    rows, bar = [], tqdm(options.files[part], desc=part, unit="file", leave=False)
    for path in bar:
        bar.set_postfix_str(path.name)
        rows.append(time_notebook(path, environment))
    return rows


def table(part: str, rows: Sequence[Row]) -> str:
    """The rows of one part for reading, failures named at the end of their line."""
    line, *head = COLUMNS[part]
    lines = [line.format(*head).rstrip()]
    for row in rows:
        figures, remark = [f"{row['seconds'] / 60:.2f}"], ""
        if part == "start":
            spread = f"{row['seconds']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            figures = [spread, f"{row['times_torch']:.2f}"]
        elif part == "tests":
            figures += [row["passed"], row["failed"], row["skipped"]]
            if slowest := row["slowest_test"]:
                remark = f"{slowest['seconds']:.1f} s, {slowest['name'][:60]}"
        else:
            figures += [row["promised_minutes"] or "-"]
            if slowest := row["slowest_cell"]:
                remark = f"{slowest['seconds']:.1f} s, cell {slowest['number']}: {slowest['code'][:50]}"
        if row["error"]:
            remark = textwrap.shorten(f"FAILED: {row['error']}", 100, placeholder=" ...")
        lines.append(line.format(row["name"], *figures, remark).rstrip())
    return "\n".join(lines)


def together(whole: Row) -> str:
    """The suite against the budget of `.ci/run`, which installs and runs the demo before it."""
    minutes = whole["seconds"] / 60
    return (f"The suite takes {minutes:.1f} of the {BUDGET} minutes for the whole of .ci/run.\n"
            f"That leaves {BUDGET - minutes:.1f} for the installation and the demo.")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: 0 if all went well, 1 if something that was timed failed, 2 after bad options."""
    rows, machine = {}, describe(resolve_device("auto").type)
    try:
        options = _options(arguments)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
            quick = {"SIMSIAM_QUICK": "1"} if options.quick else {}
            for part in options.parts:
                rows[part] = measure(part, options, os.environ | quick | {"SIMSIAM_CACHE": cache})
                print(table(part, rows[part]), end="\n\n", flush=True)
                if options.out:
                    keep(f"course {part}", rows[part], machine, options.out / LEDGER.name)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if "tests" in rows:
        print(together(rows["tests"][0]))
    return int(any(row["error"] for part in rows.values() for row in part))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked, and the files that they name. Errors: `InputError`."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--only", choices=PARTS, nargs="+", action="extend", default=[], help="only these parts")
    add("--notebooks", type=Path, default=ROOT / "notebooks", help="folder of the notebooks")
    add("--tests", type=Path, default=ROOT / "tests", help="folder of the test files")
    add("--out", type=Path, help=f"folder of {LEDGER.name} (default: data/results; with --quick, none)")
    add("--quick", action="store_true", help="only to try the command: one round, trainings cut short")
    options = parser.parse_args(arguments)
    options.parts = [part for part in PARTS if part in (options.only or PARTS)]
    options.files = {part: sorted(getattr(options, part).resolve().glob(FILES[part])) for part in FILES}
    for part, files in options.files.items():
        if part in options.parts and not files:
            raise InputError(f"'{getattr(options, part)}' holds no {FILES[part]}: give the right --{part}.")
    options.out = options.out or (None if options.quick else LEDGER.parent)
    if options.out:
        check_folder(options.out)
    return options


def _run(arguments: list[str], environment: Mapping[str, str], folder: Path) -> tuple[float, int, str]:
    """The seconds of a fresh Python process, its exit code, and the last line that it said."""
    command = [sys.executable, *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=folder, check=False, capture_output=True)
    seconds = time.perf_counter() - start
    said = (done.stdout + done.stderr).decode(errors="replace").split("\n")
    return seconds, done.returncode, next((line for line in said[::-1] if line.strip()), "no word")


if __name__ == "__main__":
    sys.exit(main())
