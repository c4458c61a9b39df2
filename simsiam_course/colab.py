"""What Colab needs to run a lesson: the dependencies it lacks, with nothing that is there moved."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE = "simsiam-course"
NO_LESSON_NEEDS = ("jupyterlab", "typer")  # Colab shows notebooks itself, and a lesson gives no commands
SECONDS = 600  # that pip may take


def on_colab() -> bool:
    """Whether this is a Colab kernel, by a test that imports nothing and costs nothing."""
    return "google.colab" in sys.modules


def advice(gpu: bool) -> str:
    """How to get a GPU, where that takes two clicks."""
    return " Faster: Runtime > Change runtime type > T4 GPU." if on_colab() and not gpu else ""


def complete() -> str:
    """Installs what is missing on Colab; a sentence where something is missing or too old, else nothing."""
    absent, old = lacking()
    if not absent and not old:
        return ""
    if not on_colab():
        names = ", ".join(needed.name for needed in [*absent, *old])
        wanted = " ".join(f'"{needed}"' for needed in [*absent, *old])
        return f"Missing or too old: {names}. Run %pip install {wanted} in a cell, then restart the kernel."
    notes = []
    if absent and not install(absent):
        notes.append(_without(absent))
    if old:
        wanted = ", ".join(map(str, old))
        notes.append(f"What Colab has is older than {wanted}; it stays, so that nothing moves.")
    return " ".join(notes)


def lacking() -> tuple[list[Requirement], list[Requirement]]:
    """What lessons need and is not installed, and what is too old: umap-learn first, without extras."""
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(line) for line in importlib.metadata.requires(PACKAGE) or ()]
    except importlib.metadata.PackageNotFoundError:
        return [], []  # a source folder on the path: nobody has said what it needs
    absent, old = [], []
    for requirement in sorted(declared, key=lambda r: r.name != "umap-learn"):
        if requirement.name in NO_LESSON_NEEDS or not _holds_here(requirement):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(requirement)
        else:
            if not requirement.specifier.contains(version, prereleases=True):
                old.append(requirement)
    return absent, old


def install(needed: Sequence[Requirement]) -> bool:
    """One pip for all of them, with every installed package held at its version; whether it succeeded."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in installed()), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-input", "-c", str(constraints)]
        try:
            done = subprocess.run(
                [*command, *map(str, needed)], capture_output=True, check=False, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return False
    importlib.invalidate_caches()  # this kernel has looked at the folders before pip wrote there
    return done.returncode == 0


def installed() -> list[str]:
    """'name==version' of every distribution, the one that is imported where a name is there twice."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    versions: dict[str, str] = {}
    for found in importlib.metadata.distributions():
        try:
            name, version = canonicalize_name(found.metadata["Name"]), found.version
            Version(version)
        except (InvalidVersion, KeyError, TypeError):
            continue  # a damaged package, or a system's with a version of its own kind: pip would refuse the line
        versions.setdefault(name, version)
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def _holds_here(requirement: Requirement) -> bool:
    """Whether it is asked for on this Python and system, without extras."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _without(absent: Sequence[Requirement]) -> str:
    names = [needed.name for needed in absent]
    others = ", ".join(name for name in names if name != "umap-learn")
    ends = ["maps are drawn by PCA instead"] * ("umap-learn" in names)
    ends += [f"a cell that needs {others} will stop"] * bool(others)
    return f"pip could not install {', '.join(names)}: {', and '.join(ends)}."
