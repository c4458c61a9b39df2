"""Build SimSiam, break it on purpose, and see why it works.

`import simsiam_course` is quick: a module or a name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path, PurePath
from typing import Any

from .errors import InputError

__version__ = "0.1.0"

# The names that a lesson needs most, and the module each lives in.
_HOME = {
    "ImageSet": "data",
    "load": "data",
    "load_pair": "data",
    "SimSiam": "model",
    "method_facts": "model",
    "Recipe": "recipe",
    "fit": "train",
    "health": "evaluate",
    "setup": "lesson",
    "collapse_lab": "widgets",
}
__all__ = ["InputError", "checkout", "data_file", *_HOME]  # noqa: PLE0604 (they are strings)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


def checkout() -> Path | None:
    """The folder of the clone this package runs from, or None where it was installed without one."""
    root = Path(__file__).resolve().parents[1]
    beside = (root / "pyproject.toml", root / "notebooks", root / "data" / "results")
    return root if all(path.exists() for path in beside) else None


def data_file(name: str | PurePath) -> Path:
    """The path of a ledger or a checkpoint that comes with the course: `data_file("results/collapse.jsonl")`.

    The files lie in `data/` of a checkout and inside an installed package.
    Errors: `InputError` for a name that is not there or that leads out of the folder.
    """
    asked = PurePath(name)
    if asked.is_absolute() or ".." in asked.parts:
        raise InputError(f"{str(name)!r} leads out of data/: give a name in it, as 'results/collapse.jsonl'.")
    root = checkout()
    folder = root / "data" if root else Path(__file__).resolve().parent / "_files"
    files = [path for part in ("results", "checkpoints") for path in sorted((folder / part).rglob("[!.]*"))]
    names = {path.relative_to(folder).as_posix(): path for path in files if path.is_file()}
    if asked.as_posix() not in names:
        known = ", ".join(names) or "none yet"
        raise InputError(f"The course has no file {str(name)!r}: choose one that is there ({known}).")
    return names[asked.as_posix()]
