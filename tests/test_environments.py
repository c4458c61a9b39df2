"""Where it has to work: no home folder, a plain C locale, odd letters in paths, a read-only folder."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]

WORK = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
import simsiam_course
from simsiam_course import Recipe, fit, load, plot
from simsiam_course.data import cache_dir, patterns
from simsiam_course.files import append_line, read_lines

folder = Path(sys.argv[1])
word = "Käse" if sys.getfilesystemencoding() == "utf-8" else "Kase"  # ASCII has no such name
for label in (word, "two words"):
    (folder / "pictures" / label).mkdir(parents=True)
    for i in range(2):
        Image.fromarray(np.full((9, 9, 3), 40 * i, np.uint8)).save(folder / "pictures" / label / f"{word} {i}.png")
images = load(f"folder:{folder / 'pictures'}", split="all", size=8)
assert images.classes == (word, "two words"), images.classes
history = fit(Recipe().build(), patterns(64, size=8), Recipe(epochs=1, batch_size=32), out=folder / "run",
              device="cpu", progress=False)
append_line(folder / "run" / "notes.jsonl", {"what": "größer"})
assert read_lines(folder / "run" / "notes.jsonl") == [{"what": "größer"}]
(folder / "curves.png").write_bytes(plot.png(plot.curves(history)))
print(images, cache_dir(), "fine \u00b1")
"""


def run(folder, cwd, **environment):
    """The work above in a process that has nothing of this one's environment but the path."""
    kept = {
        name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ
    }
    found = {
        **kept,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **environment,
    }
    script = folder.parent / "work.py"
    script.write_text(WORK, encoding="utf-8")
    command = [sys.executable, str(script), str(folder)]
    return subprocess.run(command, cwd=cwd, env=found, capture_output=True, check=False)


def test_without_a_home_in_a_folder_that_cannot_be_written(tmp_path, tmpfs):
    folder = tmp_path / "odd name, ünd  spaces"
    done = run(folder, tmpfs("ro"))
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_with_a_home_that_is_a_file_and_the_c_locale(tmp_path):
    """The cache cannot be written: that costs a warning. Text is UTF-8 whatever the locale says."""
    (tmp_path / "home").write_text("a file", encoding="utf-8")
    folder = tmp_path / "Übung"
    locale = {
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii:backslashreplace",
    }
    done = run(folder, tmp_path, HOME=str(tmp_path / "home"), **locale)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said
    assert "not kept" in said
    assert (
        "größer".encode() in (folder / "run" / "notes.jsonl").read_bytes()
        or b"gr\\u00f6" in (folder / "run" / "notes.jsonl").read_bytes()
    )


def test_nothing_of_the_package_is_written_where_it_is_installed(tmp_path):
    """The modules know no path but those they are given, the cache, and their own data."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "simsiam_course").rglob("*.py"))
    assert not re.findall(r"""["'](/tmp|/home|/root|C:\\\\|/var|/usr)""", text)
    assert "Path.home()" not in text and "os.getlogin" not in text


# ---- the sessions of noxfile.py


def noxfile(monkeypatch):
    """The module tests/noxfile.py, with or without nox."""
    stub = SimpleNamespace(
        options=SimpleNamespace(),
        session=lambda function=None, **options: function or (lambda f: f),
        Session=object,
    )
    monkeypatch.setitem(sys.modules, "nox", stub)
    spec = importlib.util.spec_from_file_location("course_noxfile", ROOT / "tests" / "noxfile.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_oldest_session_pins_every_floor_of_pyproject_and_nothing_else(monkeypatch):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = noxfile(monkeypatch).floors()
    assert [pin.replace("==", ">=") for pin in pinned] == project["dependencies"]
    source = (ROOT / "tests" / "noxfile.py").read_text(encoding="utf-8")
    assert not re.findall(r"(?:numpy|pillow|typer|safetensors)\s*[=<>]=", source)  # read, not repeated


def test_the_sessions_begin_at_the_oldest_python_that_is_allowed(monkeypatch):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module = noxfile(monkeypatch)
    assert project["requires-python"] == f">={module.PYTHONS[0]}"
    assert all((ROOT / "tests" / f"test_{name}.py").exists() for name in module.LIGHT)


# ---- the tools


def tool(*command):
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_ruff_finds_nothing_in_code_and_notebooks():
    found = tool("ruff", "check", "--output-format", "concise", ".")
    assert found.returncode == 0, found.stdout
    assert tool("ruff", "format", "--check", ".").returncode == 0
    files = tool("ruff", "check", "--show-files", ".").stdout
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert str(path) in files


def test_mypy_finds_nothing(tmp_path):
    found = tool("mypy", "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache"))
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_bandit_rules_are_on_for_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert (
        "S" in settings["lint"]["select"] and "exclude" not in settings and "extend-exclude" not in settings
    )
    assert not any(
        rule.startswith("S") for rule in settings["lint"]["ignore"] if rule not in ("S603", "SIM108")
    )
