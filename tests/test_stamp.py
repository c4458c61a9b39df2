"""The course's address stands once, in pyproject.toml; `stamp` carries it into badges and setup cells."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nbformat
import pytest

import simsiam_course
from simsiam_course import cli
from simsiam_course.errors import InputError
from simsiam_course.stamp import Address, read_address, stamp

ROOT = Path(__file__).resolve().parents[1]
FORK = Address("https://github.com/ada/her-course", "v2.0/beta")


@pytest.fixture
def fork(tmp_path):
    """A copy of the course whose pyproject.toml names another owner, repository and release."""
    shutil.copytree(
        ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    here = read_address(ROOT)
    text = text.replace(f'"{here.repository}"', f'"{FORK.repository}"').replace(
        f'release = "{here.release}"', f'release = "{FORK.release}"'
    )
    (tmp_path / "pyproject.toml").write_text(text, "utf-8")
    badge = here.badge("00_start_here.ipynb")
    (tmp_path / "README.md").write_text(
        f"# A course\n\n{badge} and [a paper](https://arxiv.org/abs/2011.10566)\n"
    )
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_setup_cell_and_the_badge():
    assert FORK.setup_cell("03") == (
        "# @title Setup: run me first\n"
        "import os\n"
        "import sys\n"
        "\n"
        'if "google.colab" in sys.modules:\n'
        '    address = "git+https://github.com/ada/her-course@v2.0/beta"\n'
        '    source = os.environ.get("SIMSIAM_COURSE_SOURCE", address)\n'
        "    %pip install -q --no-deps {source}\n"
        "import simsiam_course\n"
        "\n"
        'course = simsiam_course.setup("03")'
    )
    assert FORK.badge("03_x.ipynb") == (
        "**[▶ Open this lesson in Colab]"
        "(https://colab.research.google.com/github/ada/her-course/blob/v2.0/beta/notebooks/03_x.ipynb)**"
    )


def test_this_repository_is_stamped():
    before = contents(ROOT / "notebooks")
    assert stamp(ROOT) == []
    assert contents(ROOT / "notebooks") == before


def test_a_fork_gets_its_own_address_everywhere_and_nothing_else_changes(fork):
    before = {
        path: nbformat.read(path, as_version=4) for path in sorted((fork / "notebooks").glob("*.ipynb"))
    }
    assert stamp(fork) == [*before, fork / "README.md"]
    here = read_address(ROOT)
    for path, old in before.items():
        new = nbformat.read(path, as_version=4)
        assert FORK.badge(path.name) in new.cells[0].source
        assert new.cells[1].source == FORK.setup_cell(path.name[:2])
        assert here.repository.removeprefix("https://") not in path.read_text("utf-8")
        old.cells[0].source = old.cells[0].source.replace(here.badge(path.name), FORK.badge(path.name))
        old.cells[1].source = FORK.setup_cell(path.name[:2])
        assert new == old  # outputs, metadata and all other cells
    text = (fork / "README.md").read_text("utf-8")
    assert FORK.badge("00_start_here.ipynb") in text and "(https://arxiv.org/abs/2011.10566)" in text


def test_a_second_time_changes_no_byte(fork):
    stamp(fork)
    before = contents(fork)
    assert stamp(fork) == []
    assert contents(fork) == before


def test_only_what_differs_is_written(fork):
    stamp(fork)
    first = next(fork.glob("notebooks/*.ipynb"))
    notebook = nbformat.read(first, as_version=4)
    notebook.cells[1].source += "\nprint('more')"
    nbformat.write(notebook, first)
    assert stamp(fork) == [first]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("https://github.com", "https://gitlab.com", "Colab opens no other"),
        ("her-course", "her-course.git", "expected https://github.com/OWNER/NAME"),
        ("her-course", "her-course/", "expected https://github.com/OWNER/NAME"),
        ("v2.0/beta", "v2 ; rm", "expected the name of a tag or a branch"),
        ("v2.0/beta", "", "expected the name of a tag or a branch"),
        ("release = ", "version = ", "does not say where the course is published"),
        ("Repository = ", "Repository ", "does not say where the course is published"),
    ],
)
def test_an_address_that_cannot_work_is_refused_and_nothing_is_written(fork, old, new, said):
    project = fork / "pyproject.toml"
    project.write_text(project.read_text("utf-8").replace(old, new), "utf-8")
    before = contents(fork)
    with pytest.raises(InputError, match=said):
        stamp(fork)
    assert contents(fork) == before


def test_one_damaged_notebook_stops_it_before_anything_is_written(fork):
    (fork / "notebooks" / "99_broken.ipynb").write_text("no notebook")
    before = contents(fork)
    with pytest.raises(InputError, match="99_broken.ipynb' is not a notebook"):
        stamp(fork)
    assert contents(fork) == before


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["simsiam-course", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0, *capsys.readouterr()


def test_the_command_says_which_files_it_changed(fork, monkeypatch, capsys):
    monkeypatch.setattr(simsiam_course, "checkout", lambda: fork)
    code, out, _ = call(monkeypatch, capsys, "stamp")
    files = [*sorted(path.name for path in fork.glob("notebooks/*.ipynb")), "README.md"]
    *named, last = out.splitlines()
    assert code == 0 and [Path(line).name for line in named] == files
    assert (
        last == f"{len(files)} files changed; badges and setup cells lead to v2.0/beta of {FORK.repository}."
    )
    assert call(monkeypatch, capsys, "stamp")[1].startswith("0 files changed")


@pytest.mark.parametrize("command", [("stamp",), ("solutions", "there"), ("execute",), ("lab",)])
def test_without_a_checkout_each_command_is_one_sentence(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(simsiam_course, "checkout", lambda: None)
    sentence = "There are no notebooks beside this installation: clone the repository and run it there.\n"
    assert call(monkeypatch, capsys, *command) == (2, "", sentence)
    assert not (tmp_path / "there").exists()
