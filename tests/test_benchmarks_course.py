"""The command that times the course: what it measures, that it hides no failure, and what it refuses."""

from __future__ import annotations

import re

import course
import nbformat
import pytest

from simsiam_course.files import read_lines
from simsiam_course.lesson import LESSONS


@pytest.fixture
def folder(tmp_path):
    """Where notebooks and tests go; with a lesson of three cells."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "tests").mkdir()
    write_notebook(tmp_path, "00_tiny.ipynb", "import time", "time.sleep(1)  # the slow one", "1 + 1")
    return tmp_path


def write_notebook(folder, name, *cells):
    cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / name)


def write_tests(folder, name, *lines):
    (folder / "tests" / name).write_text("\n".join(lines), encoding="utf-8")


def call(capsys, folder, *more):
    """Exit code, standard output, and the rows of the ledger, each by its name."""
    places = ("--notebooks", folder / "notebooks", "--tests", folder / "tests", "--out", folder)
    code = course.main([str(option) for option in ("--quick", *places, *more)])
    rows = read_lines(folder / "speed.jsonl")
    return code, capsys.readouterr().out, {row["name"]: row for row in rows}


def test_a_run_times_notebooks_test_files_and_starts(capsys, folder):
    skipped = "@pytest.mark.skip", "def test_two(): pass"
    write_tests(folder, "test_tiny.py", "import pytest, time", "def test_one(): time.sleep(0.1)", *skipped)
    before = (folder / "notebooks" / "00_tiny.ipynb").read_bytes()
    code, out, rows = call(capsys, folder)
    lesson, tests, torch, ours = (rows[name] for name in ("00_tiny.ipynb", "test_tiny.py", *course.START[:2]))
    assert code == 0 and len(rows) == 5
    assert {row["benchmark"] for row in rows.values()} == {"course notebooks", "course tests", "course start"}
    assert {name: row["error"] for name, row in rows.items() if row["error"]} == {}
    assert all(row["seconds"] > 0 and row["machine"]["cores"] for row in rows.values())

    slowest = lesson["slowest_cell"]
    assert lesson["promised_minutes"] == LESSONS["00"].machine_minutes
    assert slowest["number"] == 2 and 1 <= slowest["seconds"] < lesson["seconds"]
    assert (folder / "notebooks" / "00_tiny.ipynb").read_bytes() == before, "the notebook was written back"
    assert (tests["passed"], tests["failed"], tests["skipped"]) == (1, 0, 1)
    assert torch["times_torch"] == 1
    assert ours["times_torch"] == pytest.approx(ours["seconds"] / torch["seconds"])

    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert rows.keys() < lines.keys() and "cell 2: time.sleep(1)" in lines["00_tiny.ipynb"]
    assert lines["test_tiny.py"].split()[2:5] == ["1", "0", "1"]
    assert tests["slowest_test"]["name"] in ("test_one", "test_two") and tests["slowest_test"]["name"] in out
    whole = rows[course.WHOLE]
    assert (whole["passed"], whole["skipped"]) == (1, 1) and whole["seconds"] > tests["seconds"]
    assert re.search(r"suite takes \S+ of the 45 minutes for the whole of .ci/run", out)


def test_what_fails_is_named_and_the_rest_is_timed(capsys, folder):
    write_notebook(folder, "01_broken.ipynb", "a = 1", "a / 0", "never = 1")
    (folder / "notebooks" / "02_damaged.ipynb").write_text("no notebook")
    write_tests(folder, "test_bad.py", "def test_right(): pass", "def test_wrong(): assert 1 == 2")
    write_tests(folder, "test_lost.py", "import a_module_that_is_nowhere")
    write_tests(folder, "test_gone.py", "import os", "def test_gone(): os._exit(3)")
    code, out, rows = call(capsys, folder, "--only", "notebooks", "tests")
    assert code == 1 and len(rows) == 7
    assert rows["00_tiny.ipynb"]["error"] is None
    assert rows["01_broken.ipynb"]["error"] == "cell 2: ZeroDivisionError: division by zero"
    assert (rows["test_bad.py"]["passed"], rows["test_bad.py"]["error"]) == (1, "test_wrong")
    named = {line.split()[0] for line in out.splitlines() if "FAILED: " in line}
    broken = {"01_broken.ipynb", "02_damaged.ipynb", "test_bad.py", "test_lost.py", "test_gone.py"}
    assert named == broken | {course.WHOLE.split()[0]} and "exit code 1" in rows[course.WHOLE]["error"]


def test_a_start_that_fails_is_named(monkeypatch, capsys, folder):
    monkeypatch.setattr(course, "START", ("pass", "import a_module_that_is_nowhere"))
    code, out, rows = call(capsys, folder, "--only", "start")
    assert code == 1 and "FAILED: ModuleNotFoundError" in out and rows["pass"]["error"] is None


def test_one_part_leaves_the_rows_of_the_others(monkeypatch, capsys, folder):
    monkeypatch.setattr(course, "START", ("pass",))
    _, out, _ = call(capsys, folder, "--only", "notebooks")
    assert "the 45 minutes" not in out
    code, out, rows = call(capsys, folder, "--only", "start")
    assert code == 0 and rows.keys() == {"00_tiny.ipynb", "pass"} and "tiny" not in out


@pytest.mark.parametrize("options, sentence", [
    (["--only", "lunch"], "--only.*'lunch'.*choose from"),
    (["--notebooks", "nowhere"], "'nowhere' holds no .*ipynb"),
    (["--only", "tests", "--tests", "nowhere"], "'nowhere' holds no test_"),
    (["--fast"], "unrecognized arguments: --fast"),
])  # fmt: skip
def test_bad_options_are_one_sentence_before_any_work(capsys, options, sentence):
    assert course.main(["--quick", *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.search(sentence, err)


def test_a_quick_run_keeps_nothing_unless_told_where(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(course, "START", ("pass",))
    monkeypatch.setattr(course, "LEDGER", tmp_path / "results" / "speed.jsonl")
    assert course.main(["--quick", "--only", "start"]) == 0
    assert not (tmp_path / "results").exists()
