"""One click on Colab, rehearsed offline: a notebook alone in an empty folder, in an environment made like Colab's.

That environment has every package of the tests' but this one; `google.colab` is a stub; pip finds the build backend in
a folder and nothing on the network. What the setup cell and `colab.complete` do there, they do on Colab.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement

from simsiam_course import colab

pytestmark = pytest.mark.skipif(os.name == "nt", reason="symbolic links")

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
UMAP = ("umap", "umap_learn-*")
NOWHERE = "http://127.0.0.1:9"  # nobody listens there
NOTHING_LOST = "pip could not install umap-learn: maps are drawn by PCA instead."
LAST = """
import importlib.util
import torch
from simsiam_course.plot.maps import embedding_2d
print(simsiam_course.__file__, simsiam_course.checkout())
print("maps by", "umap" if importlib.util.find_spec("umap") else embedding_2d(torch.randn(30, 8))[1])"""  # UMAP is slow


# ---- wheels, from what is installed


def wheel_of(name: str, folder: Path) -> None:
    """Packs an installed package of pure Python into a wheel again."""
    found = importlib.metadata.distribution(name)
    made_here = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    files = [f for f in found.files if f.parts[0] != ".." and f.suffix != ".pyc" and f.name not in made_here]
    (info,) = {f.parts[0] for f in files if f.name == "METADATA" and f.parts[0].endswith(".dist-info")}
    tag = re.search(r"^Tag: (\S+)$", found.read_text("WHEEL"), re.MULTILINE)[1]
    with zipfile.ZipFile(folder / f"{info.removesuffix('.dist-info')}-{tag}.whl", "w") as archive:
        for file in files:
            archive.write(file.locate(), file.as_posix())
        archive.writestr(f"{info}/RECORD", "".join(f"{file.as_posix()},,\n" for file in files))


def needs_of(names: list[str]) -> set[str]:
    """The packages and all that they need, without extras."""
    found: set[str] = set()
    while names:
        name = Requirement(names.pop()).name
        if name not in found:
            found.add(name)
            lines = map(Requirement, importlib.metadata.requires(name) or ())
            names += [r.name for r in lines if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def invented_wheel(name: str, version: str, needs: str, folder: Path) -> None:
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {needs}\n"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{stem}.dist-info/METADATA", metadata)
        archive.writestr(
            f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{stem}.dist-info/RECORD", "")


# ---- Colab


class Colab:
    """A virtual environment with the tests' packages but for this one and those to hide."""

    def __init__(self, folder: Path, wheels: Path, source: str, hide: tuple[str, ...] = ()) -> None:
        self.folder, base = folder, folder / "venv"
        self.python = str(base / "bin" / "python")
        venv.create(base, with_pip=False, symlinks=True)
        packages = folder / "packages"
        packages.mkdir()
        for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for path in Path(site).iterdir():
                if not any(path.match(name) for name in ("simsiam_course*", "*.pth", "__pycache__", *hide)):
                    (packages / path.name).symlink_to(path)
        site = Path(sysconfig.get_path("purelib", "venv", {"base": str(base)}))
        (site / "packages.pth").write_text(f"{packages}\n")
        stub, start = site / "google" / "colab", folder / "ipython" / "profile_default" / "startup"
        kernel = folder / "jupyter" / "kernels" / "colab"
        for part in (stub, start, kernel):
            part.mkdir(parents=True)
        (stub / "__init__.py").touch()
        (start / "colab.py").write_text("import google.colab\n")
        command = [self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        about = {"argv": command, "display_name": "Colab", "language": "python"}
        (kernel / "kernel.json").write_text(json.dumps(about))
        mine = ("PIP_", "PYTHON", "SIMSIAM_CHECKS", "SIMSIAM_QUICK")
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith(mine)} | {
            "SIMSIAM_COURSE_SOURCE": source, "IPYTHONDIR": str(folder / "ipython"), "PYTHONNOUSERSITE": "1",
            "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull,
            "http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": "",
        }  # fmt: skip

    def run(self, *command: str) -> str:
        """What a command of this environment's Python prints."""
        command = [self.python, *command]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.variables, cwd=self.folder, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def versions(self) -> dict[str, str]:
        code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        return json.loads(self.run("-c", code))

    def play(
        self, path: Path, monkeypatch, *, code_cells: int | None = None, quick: bool = True
    ) -> list[str]:
        """Runs a notebook, or its first cells, alone in an empty folder: what each said, last how maps are drawn."""
        empty = self.folder / "content"
        empty.mkdir()
        shutil.copy(path, empty)
        notebook = nbformat.read(empty / path.name, as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"][:code_cells]
        last = nbformat.v4.new_code_cell(LAST)
        notebook.cells = [*cells, last]
        monkeypatch.setenv("JUPYTER_PATH", str(self.folder / "jupyter"))
        client = NotebookClient(
            notebook, timeout=300, kernel_name="colab", resources={"metadata": {"path": str(empty)}}
        )
        client.execute(env={**self.variables, **({"SIMSIAM_QUICK": "1"} if quick else {})})
        said = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
        package, checkout = said[-1].split()[:2]
        assert Path(package).is_relative_to(self.folder / "venv") and checkout == "None"
        return said


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """What PIP_FIND_LINKS names: the build backend with all that it needs."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in needs_of(list(PROJECT["build-system"]["requires"])):
        wheel_of(name, folder)
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The address of the working tree as a release, as in the badge: a git repository where there is git."""
    folder = tmp_path_factory.mktemp("release") / "simsiam_course"
    litter = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "runs", "demo")
    for part in ("simsiam_course", "data", "notebooks"):
        shutil.copytree(ROOT / part, folder / part, ignore=litter)
    for part in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / part, folder)
    if shutil.which("git") is None:
        return str(folder)
    me = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "."), (*me, "commit", "-q", "-m", "Release"), ("tag", "release")):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return f"git+{folder.as_uri()}@release"


@pytest.fixture(scope="module")
def course(wheels, repository, tmp_path_factory):
    """A wheel of this package, built once as pip does it on Colab: backend and all in a folder of its own."""
    folder = tmp_path_factory.mktemp("build")
    there = Colab(folder, wheels, repository)
    there.run("-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), repository)
    (wheel,) = folder.glob("simsiam_course-*.whl")
    return str(wheel)


def check_setup(said: str, *notes: str) -> None:
    """The setup cell says two lines, and a third only where there is something to note. (IPython has a word on pip.)"""
    lines = [line for line in said.splitlines() if line and not line.startswith("Note: you may need to")]
    assert len(lines) == (3 if notes else 2), said
    assert lines[0].startswith("Lesson ") and lines[1].startswith("Device: ")
    assert all(note in lines[-1] for note in notes)


def rehearse(
    path, monkeypatch, folder, wheels, source, *, umap: bool, quick: bool = True, code_cells=None
) -> None:
    """Plays a notebook, or its first cells; the course is all that is there afterwards and was not there before."""
    there = Colab(folder, wheels, source, () if umap else UMAP)
    before = there.versions()
    assert ("umap-learn" in before) is umap and "simsiam-course" not in before
    said = there.play(path, monkeypatch, code_cells=code_cells, quick=quick)
    check_setup(said[0], *[NOTHING_LOST] * (not umap), *["SIMSIAM_QUICK is set"] * quick)
    assert f"maps by {'umap' if umap else 'pca'}" in said[-1]
    after = there.versions()
    assert after.pop("simsiam-course") and after == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_setup_and_first_cell_of_every_notebook(path, monkeypatch, tmp_path, wheels, repository, course):
    # the first notebook gets the course from the repository, as the badge has it; the others from a wheel, for speed
    source = repository if path == NOTEBOOKS[0] else course
    rehearse(path, monkeypatch, tmp_path, wheels, source, umap=True, code_cells=2)


FAST = [path for path in NOTEBOOKS if path.name[:2] in ("00", "03")]  # 00 draws maps


@pytest.mark.parametrize(
    ("path", "umap"), [(FAST[0], False), (FAST[-1], True)], ids=["without-umap", "with-all"]
)
def test_a_whole_notebook(path, umap, monkeypatch, tmp_path, wheels, course):
    rehearse(path, monkeypatch, tmp_path, wheels, course, umap=umap)


@pytest.mark.colab
@pytest.mark.parametrize("umap", [True, False], ids=["with-all", "without-umap"])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_whole(path, umap, monkeypatch, tmp_path, wheels, course):
    rehearse(path, monkeypatch, tmp_path, wheels, course, umap=umap, quick=False)


# ---- what is missing is installed, and nothing else moves


COMPLETE = (
    "import google.colab\nfrom simsiam_course import colab\nprint(colab.complete())\nprint(colab.complete())"
)


@pytest.fixture
def without_umap(tmp_path, wheels, course):
    links = shutil.copytree(wheels, tmp_path / "links")
    there = Colab(tmp_path, links, course, UMAP)
    there.run("-m", "pip", "install", "-q", "--no-deps", course)
    return there, links


def test_umap_is_installed_where_it_is_missing_and_all_else_stays(without_umap):
    there, links = without_umap
    before = there.versions()
    wheel_of("umap-learn", links)
    invented_wheel("numpy", "99.0", "umap-learn", links)  # newer versions are there for the taking
    assert there.run("-c", COMPLETE).split() == []
    after = there.versions()
    assert after.pop("umap-learn") and after == before


def test_a_umap_that_would_move_numpy_is_left_out(without_umap):
    there, links = without_umap
    before = there.versions()
    invented_wheel("umap-learn", "99.0", "numpy>=99", links)
    invented_wheel("numpy", "99.0", "packaging", links)
    assert there.run("-c", COMPLETE).splitlines() == [NOTHING_LOST] * 2
    assert there.versions() == before


# ---- colab.py by itself


@pytest.fixture
def needs(monkeypatch):
    """Makes the package declare these dependencies, in a world without `umap-learn` and `nowhere`.

    Returns the list of what pip was asked to install, of which nothing is.
    """
    asked, real = [], importlib.metadata.version

    def version(name):
        if name in ("umap-learn", "nowhere"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    def declare(*lines: str, on_colab: bool, pip: bool = True):
        monkeypatch.setattr(importlib.metadata, "requires", lambda name: list(lines))
        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(colab, "install", lambda absent: asked.append(list(map(str, absent))) or pip)
        if on_colab:
            monkeypatch.setitem(sys.modules, "google.colab", colab)
        return asked

    return declare


@pytest.mark.parametrize("on_colab", [True, False])
def test_nothing_is_said_or_done_where_all_is_there(needs, on_colab):
    fine = (
        "numpy>=1.26",
        "jupyterlab>=999",
        'nowhere>=1; extra == "test"',
        'nowhere>=1; python_version < "3"',
    )
    asked = needs(*fine, on_colab=on_colab)
    assert colab.complete() == "" and asked == []


def test_elsewhere_one_command_mends_what_is_missing_or_too_old(needs):
    asked = needs("numpy>=999", "nowhere>=1", on_colab=False)
    assert colab.complete() == (
        'Missing or too old: nowhere, numpy. Run %pip install "nowhere>=1" "numpy>=999" in a cell, '
        "then restart the kernel."
    )
    assert asked == []


def test_on_colab_only_what_is_missing_is_installed_and_umap_comes_first(needs):
    asked = needs("numpy>=1", "nowhere>=1", "umap-learn>=0.5.8", on_colab=True)
    assert colab.complete() == "" and asked == [["umap-learn>=0.5.8", "nowhere>=1"]]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["umap-learn>=0.5.8"], NOTHING_LOST),
        (["nowhere>=1"], "pip could not install nowhere: a cell that needs nowhere will stop."),
        (["nowhere>=1", "umap-learn>=0.5.8"], "pip could not install umap-learn, nowhere: "
         "maps are drawn by PCA instead, and a cell that needs nowhere will stop."),
    ],
)  # fmt: skip
def test_where_pip_fails_a_sentence_says_what_follows(needs, missing, said):
    needs(*missing, on_colab=True, pip=False)
    assert colab.complete() == said


def test_what_is_too_old_on_colab_stays(needs):
    asked = needs("numpy>=999", on_colab=True)
    assert colab.complete() == "What Colab has is older than numpy>=999; it stays, so that nothing moves."
    assert asked == []


def test_a_source_folder_that_was_never_installed_says_nothing(monkeypatch):
    def requires(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    assert colab.complete() == ""


def test_what_no_lesson_needs_is_a_dependency_all_the_same():
    declared = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
    assert set(colab.NO_LESSON_NEEDS) <= declared


def test_the_constraints_hold_every_package_once_at_its_version():
    lines = colab.installed()
    names = [Requirement(line).name for line in lines]
    assert len(set(names)) == len(names) and f"numpy=={importlib.metadata.version('numpy')}" in lines


def test_a_pip_that_hangs_has_failed(monkeypatch):
    monkeypatch.setattr(colab, "SECONDS", 0.01)
    assert colab.install([Requirement("nowhere>=1")]) is False


def test_colab_without_a_gpu_says_how_to_get_one(monkeypatch):
    assert colab.advice(gpu=False) == ""
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert "Change runtime type" in colab.advice(gpu=False) and colab.advice(gpu=True) == ""
