"""Executes the lessons from clean kernels and stores what a reader should see."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import atomic_write

CELL_TIMEOUT = 300  # seconds
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: str | Path) -> float:
    """Runs a notebook from top to bottom in a new kernel, stores its outputs in it, and returns the seconds it took.

    Left out are what would age or mean nothing without a kernel: timings, widgets and their progress bars.
    Errors: `InputError` where there is no notebook, or a cell fails; the file then stays as it was.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    path = Path(path)
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' is not a notebook that can be read: {error}.") from error
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
        raise InputError(f"A cell of '{path}' failed: {error.ename}: {error.evalue}") from error
    except CellTimeoutError as error:
        raise InputError(f"A cell of '{path}' took more than {CELL_TIMEOUT} s.") from error
    seconds = time.perf_counter() - start
    _tidy(notebook)
    atomic_write(path, (nbformat.writes(notebook) + "\n").encode())
    return seconds


def _tidy(notebook: Any) -> None:
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
