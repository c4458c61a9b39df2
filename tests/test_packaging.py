"""The package as it is installed, and the files that say how."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import simsiam_course
from simsiam_course import InputError, checkout, data_file

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
README = (ROOT / "README.md").read_text("utf-8")
HEAVY = {"umap", "matplotlib", "torchvision", "IPython", "ipywidgets", "jupyter_client", "jupyterlab",
         "lightning", "lightly", "sklearn", "scipy", "PIL", "pooch", "typer"}  # fmt: skip


def requirements(specs: list[str]) -> dict[str, str]:
    """{'torch': '>=2.3'}"""
    return dict(re.fullmatch(r"([a-z0-9-]+)(.*)", spec).groups() for spec in specs)


def run(*command: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def run_python(code: str, cwd: Path, **variables: str) -> str:
    done = run(sys.executable, "-c", code, cwd=cwd, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout


# What an import costs


@pytest.mark.parametrize(
    "code",
    [
        "import simsiam_course",
        "import simsiam_course; [getattr(simsiam_course, name) for name in simsiam_course.__all__]",
        "from simsiam_course import augment, collapse, evaluate, loss, model, recipe, train",
    ],
)
def test_importing_the_package_and_its_names_loads_nothing_heavy(code, tmp_path):
    loaded = run_python(f"import sys\n{code}\nprint(*sys.modules)", tmp_path).split()
    heavy = HEAVY.intersection(name.partition(".")[0] for name in loaded)
    assert not heavy


def test_every_name_and_every_module_is_found_on_the_package():
    assert all(getattr(simsiam_course, name) is not None for name in simsiam_course.__all__)
    assert simsiam_course.loss.__name__ == "simsiam_course.loss"
    assert set(simsiam_course.__all__) <= set(dir(simsiam_course))


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(simsiam_course, "no_such_thing")
    with pytest.raises(ImportError):
        exec("from simsiam_course import no_such_thing")


def test_the_program_runs_as_a_module():
    from simsiam_course.cli import main

    assert PROJECT["project"]["scripts"] == {"simsiam-course": f"{main.__module__}:{main.__name__}"}
    assert "demo" in run(sys.executable, "-m", "simsiam_course", "--help", cwd=ROOT).stdout


# The files that travel with it


def fake_course(folder: Path, monkeypatch) -> Path:
    """A checkout with one ledger, one checkpoint and a file that is nobody's business."""
    for name in ("results/collapse.jsonl", "results/.gitkeep", "checkpoints/tiny.safetensors", "secret.txt"):
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_text("{}\n")
    monkeypatch.setattr(simsiam_course, "checkout", lambda: folder)
    return folder / "data"


def test_data_file_finds_ledgers_and_checkpoints(tmp_path, monkeypatch):
    data = fake_course(tmp_path, monkeypatch)
    assert data_file("results/collapse.jsonl") == data / "results" / "collapse.jsonl"
    assert data_file(Path("checkpoints") / "tiny.safetensors").read_text() == "{}\n"


@pytest.mark.parametrize(
    "name",
    ["results/colapse.jsonl", "results", "", "secret.txt", "results/.gitkeep", "a\0b", "x" * 9999],
)
def test_data_file_names_what_there_is_when_asked_for_something_else(name, tmp_path, monkeypatch):
    fake_course(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="results/collapse.jsonl, checkpoints/tiny.safetensors"):
        data_file(name)


@pytest.mark.parametrize("name", ["../secret.txt", "results/../secret.txt", "results/../../x", "/etc/hosts"])
def test_data_file_does_not_leave_its_folder(name, tmp_path, monkeypatch):
    fake_course(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="leads out of data/"):
        data_file(name)


def test_this_is_a_checkout():
    assert checkout() == ROOT


def test_the_wheel_carries_its_files_and_works_in_an_empty_folder(tmp_path):
    empty, site = tmp_path / "empty", tmp_path / "site"
    empty.mkdir()
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path))
    built = run(sys.executable, "-m", "pip", "wheel", *offline, str(ROOT), cwd=empty)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(site)
    for part in ("results", "checkpoints"):
        for path in (ROOT / "data" / part).glob("*"):
            assert f"simsiam_course/_files/{part}/{path.name}" in names
    assert {name.partition("/")[0] for name in names} == {
        "simsiam_course", f"simsiam_course-{simsiam_course.__version__}.dist-info"}  # fmt: skip
    (site / "simsiam_course" / "_files" / "results" / "probe.jsonl").write_text("{}\n")

    code = (
        "import importlib.metadata, simsiam_course as s\n"
        "print(s.__file__)\n"
        "print(s.checkout())\n"
        "print(s.data_file('results/probe.jsonl').read_text().strip())\n"
        "print(importlib.metadata.version('simsiam-course') == s.__version__)\n"
    )
    where, root, ledger, same_version = run_python(code, empty, PYTHONPATH=str(site)).splitlines()
    assert Path(where).is_relative_to(site)
    assert (root, ledger, same_version) == ("None", "{}", "True")
    code = "from simsiam_course import data_file; data_file('results/nowhere.jsonl')"
    with pytest.raises(AssertionError, match="The course has no file 'results/nowhere.jsonl'"):
        run_python(code, empty, PYTHONPATH=str(site))


# Dependencies: pyproject.toml has them, environment.yml repeats them


def conda_lines() -> list[tuple[str, str, str]]:
    """(name, version, reason) of every package in environment.yml, with pip's names."""
    text = (ROOT / "environment.yml").read_text("utf-8").partition("dependencies:\n")[2]
    lines = [re.fullmatch(r"  - ([a-z-]+)(>=[0-9.]+)?(?:  # (.+))?", line) for line in text.splitlines()[:-2]]
    assert all(lines), "a dependency reads '  - name>=1.2  # reason'"
    return [("torch" if name == "pytorch" else name, floor or "", why or "") for name, floor, why in
            (line.groups() for line in lines)]  # fmt: skip


def test_environment_and_pyproject_name_the_same_floors():
    conda = {name: floor for name, floor, _ in conda_lines()}
    wanted = requirements(PROJECT["project"]["dependencies"])
    test = requirements(PROJECT["project"]["optional-dependencies"]["test"])
    wanted |= {name: test[name] for name in ("nbval", "pytest")}
    wanted |= {"python": PROJECT["project"]["requires-python"], "pip": ""}
    assert conda == wanted


def test_environment_has_the_nine_packages_of_the_course_and_ends_with_the_course_itself():
    text = (ROOT / "environment.yml").read_text("utf-8")
    nine = ("jupyterlab", "pytorch", "torchvision", "matplotlib", "scikit-learn", "umap-learn", "ipywidgets",
            "nbval", "pytest")  # fmt: skip
    assert all(f"\n  - {name}>=" in text for name in nine)
    assert re.search(r"\n  - pip:\n      - -e \.(  # .+)?\n\Z", text)


def test_environment_gives_a_reason_for_every_line_and_uses_conda_forge_alone():
    assert [name for name, _, why in conda_lines() if not why] == []
    text = (ROOT / "environment.yml").read_text("utf-8")
    channels = re.search(r"channels:\n(.*)dependencies:", text, re.DOTALL).group(1)
    assert re.findall(r"  - (\S+)", channels) == ["conda-forge", "nodefaults"]


def test_dependencies_have_floors_and_no_caps():
    every = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for name, version in (pair for specs in every for pair in requirements(specs).items()):
        pinned = name in ("ruff", "mypy")
        assert re.fullmatch(r"==[0-9.]+" if pinned else r">=[0-9.]+", version), f"{name}{version}"


def test_every_import_of_the_package_is_a_declared_dependency():
    declared = {name.replace("-", "_") for name in requirements(PROJECT["project"]["dependencies"])}
    declared |= {"sklearn", "umap", "PIL", "simsiam_course", "lightning"}
    declared |= {
        "IPython",
        "jupyter_client",
        "nbclient",
        "nbformat",
        "packaging",
        "requests",
        "urllib3",
    }  # parts of jupyterlab and of pooch
    found = set()
    for path in (ROOT / "simsiam_course").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    assert found - set(sys.stdlib_module_names) <= declared


def test_both_licences_are_named_and_there():
    assert PROJECT["project"]["license"] == "MIT AND CC-BY-4.0"
    for path in PROJECT["project"]["license-files"]:
        assert (ROOT / path).is_file()
        assert path in README


# The README is the contract


def readme_commands() -> list[str]:
    return re.search(r"```\n(python -m pip install.*?\n)```", README, re.DOTALL).group(1).splitlines()


def test_the_readme_shows_the_two_commands():
    assert [line.partition("  #")[0].rstrip() for line in readme_commands()] == [
        "python -m pip install -e . && simsiam-course demo",
        'python -m pip install -e ".[test]" && pytest',
    ]


@pytest.mark.skipif(os.name == "nt", reason="a bash script")
def test_ci_runs_the_readmes_two_commands():
    assert run("bash", ".ci/run", "--list", cwd=ROOT).stdout.splitlines() == readme_commands()


def test_links_of_the_readme_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_python_of_the_readme_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    quick = code.replace('load_pair("patterns")', 'load_pair("patterns", limit=256)')
    quick = quick.replace("Recipe(seed=0)", "Recipe(seed=0, epochs=2)")
    assert quick.count("epochs=2") == quick.count("limit=256") == 1
    exec(compile(quick, "README.md", "exec"), {})
    assert re.match(r"kNN [0-9.]+%, effective rank [0-9.]+: \w+", capsys.readouterr().out)


def test_commands_of_the_readme_exist():
    from simsiam_course.cli import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"simsiam-course ([a-z]+)", README)) <= known


# How tests are run


def test_pytest_alone_collects_tests_and_notebooks():
    options = PROJECT["tool"]["pytest"]["ini_options"]
    assert options["testpaths"] == ["tests", "notebooks"]
    assert {"--nbval-lax", "--nbval-current-env"} <= set(options["addopts"])


def test_notebook_checkpoints_are_not_collected_and_notebooks_are(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    cell = {"cell_type": "code", "source": "1 + 1", "execution_count": None, "metadata": {}, "outputs": []}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    for folder in ("notebooks", "notebooks/.ipynb_checkpoints", "tests"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "lesson.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "tests" / "lesson.ipynb").unlink()
    found = run(sys.executable, "-m", "pytest", "--collect-only", "-q", cwd=tmp_path).stdout
    assert re.findall(r"^(\S+)::", found, re.MULTILINE) == ["notebooks/lesson.ipynb"], found


def test_tests_use_a_cache_of_their_own():
    from simsiam_course.data import cache_dir

    assert cache_dir().name.startswith("simsiam-cache-")


def test_what_the_commands_leave_behind_is_ignored_by_git():
    assert {"runs/", "demo/"} <= set((ROOT / ".gitignore").read_text("utf-8").splitlines())
