"""The address of the course, from pyproject.toml into every badge and setup cell.

Owner, repository and release stand once, in pyproject.toml. A fork changes them there and runs `simsiam-course stamp`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .files import atomic_write
from .notebooks import read

FIRST_LINE = "# @title Setup: run me first"
SETUP = f"""{FIRST_LINE}
import os
import sys

if "google.colab" in sys.modules:
    address = "git+ADDRESS@RELEASE"
    source = os.environ.get("SIMSIAM_COURSE_SOURCE", address)
    %pip install -q --no-deps {{source}}
import simsiam_course

course = simsiam_course.setup("NUMBER")"""
BADGE = "**[▶ Open this lesson in Colab](LINK)**"  # words: a picture would have to come from another host

COLAB_LINK = re.compile(r"https://colab\.research\.google\.com/github/[^\s()\"']*?/(\w+\.ipynb)")
REPOSITORY = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
RELEASE = re.compile(r"[\w.][\w./-]*")


@dataclass(frozen=True)
class Address:
    """Where the course is published: `https://github.com/OWNER/NAME`, and the tag or branch of its release."""

    repository: str
    release: str

    def setup_cell(self, lesson: str) -> str:
        """The setup cell of a lesson: `setup_cell("03")`."""
        lines = SETUP.replace("ADDRESS", self.repository).replace("RELEASE", self.release)
        return lines.replace("NUMBER", lesson)

    def colab_link(self, notebook: str) -> str:
        """The page that opens a notebook in Colab: `colab_link("03_loss_and_stop_gradient.ipynb")`."""
        base = self.repository.replace("https://github.com", "https://colab.research.google.com/github")
        return f"{base}/blob/{self.release}/notebooks/{notebook}"

    def badge(self, notebook: str) -> str:
        """The badge of a notebook, in Markdown."""
        return BADGE.replace("LINK", self.colab_link(notebook))


def read_address(root: Path) -> Address:
    """The address in a checkout's pyproject.toml. Errors: `InputError`, none there or not one that Colab can open."""
    path = root / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))
        repository = str(project["project"]["urls"]["Repository"])
        release = str(project["tool"]["simsiam_course"]["release"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"'{path}' does not say where the course is published: it needs Repository in [project.urls] and "
            "release in [tool.simsiam_course]."
        ) from error
    if not REPOSITORY.fullmatch(repository) or repository.endswith(".git"):
        raise InputError(
            f"Repository in '{path}' is {repository!r}, expected https://github.com/OWNER/NAME: Colab opens no other."
        )
    if not RELEASE.fullmatch(release):
        raise InputError(f"release in '{path}' is {release!r}, expected the name of a tag or a branch.")
    return Address(repository, release)


def stamp(root: Path) -> list[Path]:
    """Writes a checkout's address into the badges and setup cells of its notebooks and the badges of its README.

    Returns the files that changed; all others keep their bytes. Errors: `InputError`, wrong address or notebook.
    """
    import nbformat

    address, new = read_address(root), {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = read(path)
        before = [cell.source for cell in notebook.cells]
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = _relinked(cell.source, address)
            elif cell.source.startswith(FIRST_LINE):
                cell.source = address.setup_cell(path.name[:2])
        if [cell.source for cell in notebook.cells] != before:
            new[path] = nbformat.writes(notebook) + "\n"
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if _relinked(text, address) != text:
        new[readme] = _relinked(text, address)
    for path, content in new.items():  # all are read and made before the first is written
        atomic_write(path, content.encode())
    return list(new)


def _relinked(text: str, address: Address) -> str:
    return COLAB_LINK.sub(lambda link: address.colab_link(link[1]), text)
