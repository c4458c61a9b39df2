"""Executes the lessons from clean kernels and stores what a reader should see; writes solved copies of them."""

from __future__ import annotations

import ast
import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputError, printable
from .files import atomic_write, check_folder, make_folder, remove_leftovers
from .lock import file_lock

if TYPE_CHECKING:
    from .exercises.core import Exercise

CELL_TIMEOUT = 300  # seconds
WIDGET = "application/vnd.jupyter.widget-view+json"
SOLVED = "**Solved copy, for instructors.** Every exercise below is filled in with the course's own answer."


def execute(path: str | Path) -> float:
    """Runs a notebook from top to bottom in a new kernel, stores its outputs in it, and returns the seconds it took.

    Left out are what would age or mean nothing without a kernel: timings, widgets and their progress bars.
    Errors: `InputError` where there is no notebook, its place cannot be written, another process executes it, a cell
    fails, or the kernel dies; the file then stays as it was.
    """
    path = Path(path)
    notebook = read(path)
    check_folder(path.parent)
    with file_lock(path):
        remove_leftovers(path)
        return _execute(path, notebook)


def _execute(path: Path, notebook: Any) -> float:
    import nbformat
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(path.parent.resolve())}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    )
    start = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as error:
        raise InputError(f"A cell of '{path}' failed: {error.ename}: {error.evalue.rstrip('.')}.") from error
    except NoSuchKernel as error:
        raise InputError(
            f"'{path}' asks for the kernel '{error.name}', which is not installed here."
        ) from error
    except CellTimeoutError as error:
        raise InputError(f"A cell of '{path}' took more than {CELL_TIMEOUT} s.") from error
    except (Exception, asyncio.CancelledError) as error:  # after a signal nbclient ends in one of many ways
        raise InputError(
            f"The kernel of '{path}' was stopped, or died for want of memory: the notebook is as it was, so close "
            "other programs and run it again."
        ) from error
    seconds = time.perf_counter() - start
    _tidy(notebook)
    atomic_write(path, (nbformat.writes(notebook) + "\n").encode())
    return seconds


def read(path: Path) -> Any:
    """A notebook of format 4. Errors: `InputError` where there is none that can be read."""
    import nbformat

    if not path.exists():
        raise InputError(f"There is no notebook '{path}': check the path.")
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat has an error of its own for each of many ways to be no notebook
        reason = printable(str(error).partition("\n")[0]).rstrip(".")[:200]
        raise InputError(
            f"'{path}' is not a notebook that can be read: {reason or type(error).__name__}."
        ) from error
    return notebook


def _tidy(notebook: Any) -> None:
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]


# ---- solved copies


def solutions(lessons: Path, out: Path) -> Iterator[Path]:
    """Writes a solved copy of every notebook of the folder `lessons` into `out`, without outputs; yields each file.

    Errors: `InputError` where `out` cannot be written or holds a notebook of that name that is no solved copy.
    """
    import nbformat

    paths = sorted(lessons.glob("*.ipynb"))
    for path in paths:
        target = out / path.name
        if target.exists() and not read(target).metadata.get("simsiam_course", {}).get("solved"):
            raise InputError(f"'{target}' is no solved copy and is not overwritten: choose another folder.")
    make_folder(out)
    for path in paths:
        notebook = read(path)
        solve(notebook, path.name[:2])
        atomic_write(out / path.name, (nbformat.writes(notebook) + "\n").encode())
        yield out / path.name


def solve(notebook: Any, lesson: str) -> list[str]:
    """Fills in every exercise of a notebook, in place, and returns the names of their functions in order."""
    known, filled = _exercises(lesson), []
    for cell in notebook.cells:
        lines = cell.source.splitlines()
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            found = [stub for stub in stubs(cell.source, known) if stub.name in known]
            filled += [stub.name for stub in found]
            for stub in reversed(found):  # from the bottom: the lines above keep their numbers
                lines[stub.lineno - 1 : stub.end_lineno] = _answer(known[stub.name], filled)
        else:  # the badge would open the unsolved lesson
            lines = [SOLVED if "colab.research.google.com" in line else line for line in lines]
        cell.source = "\n".join(lines).strip("\n")
    notebook.metadata["simsiam_course"] = {"solved": True}
    return filled


def stubs(code: str, known: Mapping[str, Exercise] | None = None) -> list[ast.FunctionDef]:
    """The functions of a cell that a student is to write or repair; none where the cell has a magic.

    They hold nothing but a docstring and `...`, or are the exhibit of an exercise of that name in `known`.
    """
    try:
        nodes = ast.parse(code).body
    except SyntaxError:
        return []
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    return [
        node for node in functions if all(map(_says_nothing, node.body)) or _is_exhibit(node, known or {})
    ]


def _is_exhibit(node: ast.FunctionDef, known: Mapping[str, Exercise]) -> bool:
    from .exercises.core import as_found

    return node.name in known and as_found(known[node.name], node)


def _says_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _exercises(lesson: str) -> dict[str, Exercise]:
    """The exercises that a lesson's notebook holds, its own and those of earlier lessons, by name."""
    import importlib

    from .exercises import MODULES

    if lesson not in MODULES:
        return {}
    module = importlib.import_module(f"{__package__}.exercises.{MODULES[lesson]}")
    return {exercise.name: exercise for exercise in (*getattr(module, "RESTATED", ()), *module.EXERCISES)}


def _answer(exercise: Exercise, defined: list[str]) -> list[str]:
    """The lines of a solution; what the notebook has defined above is not imported over it."""
    from .exercises.solution import source

    lines = source(exercise.solution or exercise.reference, exercise.name).splitlines()
    own = tuple(f" import {name}" for name in defined)
    kept = [line for line in lines if not (line.startswith("from simsiam_course") and line.endswith(own))]
    return "\n".join(kept).strip("\n").splitlines()
