"""Lessons are executed and stored without what ages; solved copies are whole, and every check passes in them."""

import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import simsiam_course
from simsiam_course import cli, exercises
from simsiam_course.errors import InputError
from simsiam_course.exercises.core import judge
from simsiam_course.notebooks import SOLVED, execute, solutions, solve, stubs

LESSONS = Path(__file__).resolve().parents[1] / "notebooks"
WITH_EXERCISES = sorted(path for path in LESSONS.glob("*.ipynb") if path.name[:2] in exercises.MODULES)


@pytest.fixture
def notebook(tmp_path):
    """Writes a notebook of the given code cells and returns its path."""

    def write(*cells):
        path = tmp_path / "lesson.ipynb"
        nbformat.write(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path
        )
        return path

    return write


def test_outputs_are_stored_without_timings_and_progress_bars(notebook):
    bar = "from tqdm.auto import tqdm\nfor i in tqdm(range(3)):\n    pass\nprint('done')"
    path = notebook("1 + 1", bar)
    assert execute(path) > 0
    first, second = nbformat.read(path, as_version=4).cells
    assert [first.execution_count, second.execution_count] == [1, 2]
    assert first.outputs[0].data["text/plain"] == "2"
    assert [output.output_type for output in second.outputs] == ["stream"] and second.outputs[
        0
    ].text == "done\n"
    assert "execution" not in first.metadata and "widgets" not in nbformat.read(path, as_version=4).metadata


def test_a_failing_cell_is_one_sentence_and_the_file_stays_as_it_was(notebook):
    path = notebook("print('fine')", "1 / 0")
    before = path.read_bytes()
    with pytest.raises(InputError, match="A cell of .* failed: ZeroDivisionError"):
        execute(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_notebook_is_refused(tmp_path):
    (tmp_path / "a.ipynb").write_text("no notebook")
    for name, message in (
        ("a.ipynb", "not a notebook that can be read"),
        ("missing.ipynb", "There is no notebook"),
    ):
        with pytest.raises(InputError, match=message):
            execute(tmp_path / name)


# ---- solved copies


def module_of(path):
    return importlib.import_module(f"simsiam_course.exercises.{exercises.MODULES[path.name[:2]]}")


STUB = '''def {0}(p, z):
    """One sentence."""
    # p, z: (B, D) -> ()
    ...'''
BADGE = "**[▶ Open](https://colab.research.google.com/github/a/b/blob/c/notebooks/03_x.ipynb)**"


def lesson_03(*cells):
    """A notebook of these code cells, run once, under a title with a badge."""
    ran = [nbformat.v4.new_code_cell(cell, execution_count=1, outputs=[]) for cell in cells]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# 03\n\n{BADGE}\n\ntext"), *ran])


def test_every_stub_is_filled_in_and_nothing_else_changes():
    others = (
        "x = 1",
        "%pip list\ny = 2",
        "def helper(x):\n    ...",
        "def negative_cosine(p, z):\n    return 1",
    )
    notebook = lesson_03(STUB.format("negative_cosine"), *others, STUB.format("stop_gradient"))
    assert solve(notebook, "03") == ["negative_cosine", "stop_gradient"]
    title, first, *rest, last = notebook.cells
    assert title.source == f"# 03\n\n{SOLVED}\n\ntext"
    assert tuple(cell.source for cell in rest) == others
    assert all(cell.outputs == [] and cell.execution_count is None for cell in notebook.cells[1:])
    space = {}
    exec(first.source + "\n" + last.source, space)
    from simsiam_course.exercises.loss import NEGATIVE_COSINE, STOP_GRADIENT

    assert judge(NEGATIVE_COSINE, space["negative_cosine"]).status == "passed"
    assert judge(STOP_GRADIENT, space["stop_gradient"]).status == "passed"
    nbformat.validate(notebook)


def test_two_stubs_in_one_cell_and_code_around_them():
    cell = (
        f"import torch\n\n\n{STUB.format('negative_cosine')}\n\n\n{STUB.format('symmetric_loss')}\n\n\nx = 1"
    )
    notebook = lesson_03(cell)
    assert solve(notebook, "03") == ["negative_cosine", "symmetric_loss"]
    code = notebook.cells[1].source
    assert code.startswith("import torch\n") and code.endswith("\nx = 1") and "    ...\n" not in code + "\n"
    exec(code, {})


def test_an_exhibit_is_a_stub_until_it_is_changed(monkeypatch):
    from simsiam_course.exercises import loss

    monkeypatch.setattr(loss, "EXERCISES", [replace(loss.NEGATIVE_COSINE, exhibit=exhibit)])
    shown = "def negative_cosine(p, z):\n    # with a comment\n    return (p * z).mean()"
    notebook = lesson_03(
        shown, shown.replace("mean", "sum"), "negative_cosine = check.negative_cosine(negative_cosine)"
    )
    assert solve(notebook, "03") == ["negative_cosine"]
    _, first, second, last = notebook.cells
    assert (
        "F.normalize" in first.source
        and "sum()" in second.source
        and last.source.startswith("negative_cosine =")
    )
    assert stubs(shown) == []


def exhibit(p, z):
    """Somebody's loss."""
    return (p * z).mean()


def test_a_solution_uses_the_functions_of_the_notebook():
    notebook = lesson_03(STUB.format("negative_cosine"), STUB.format("symmetric_loss"))
    solve(notebook, "03")
    assert "import negative_cosine" not in notebook.cells[2].source
    alone = lesson_03(STUB.format("symmetric_loss"))
    solve(alone, "03")
    exec(alone.cells[1].source, {})


@pytest.fixture
def folder(tmp_path):
    """A folder of two lessons, one of them without exercises."""
    (tmp_path / "lessons").mkdir()
    nbformat.write(
        lesson_03(STUB.format("negative_cosine"), "print(2)"), tmp_path / "lessons" / "03_loss.ipynb"
    )
    nbformat.write(lesson_03("print(5)"), tmp_path / "lessons" / "05_collapse.ipynb")
    return tmp_path / "lessons"


def test_copies_are_written_again_and_again_and_the_lessons_stay(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for _ in range(2):
        made = list(solutions(folder, tmp_path / "out" / "solved"))
        assert [path.name for path in made] == ["03_loss.ipynb", "05_collapse.ipynb"]
    assert "F.normalize" in made[0].read_text("utf-8")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_notebook_that_is_no_solved_copy_is_never_overwritten(folder, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "05_collapse.ipynb").write_bytes((folder / "05_collapse.ipynb").read_bytes())
    for out in (folder, mine):
        before = {path: path.read_bytes() for path in out.iterdir()}
        with pytest.raises(InputError, match="is no solved copy and is not overwritten"):
            list(solutions(folder, out))
        assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_the_command_writes_them_and_runs_them_when_asked(folder, tmp_path, monkeypatch, capsys):
    root = folder.rename(tmp_path / "notebooks").parent
    monkeypatch.setattr(simsiam_course, "checkout", lambda: root)
    for options, ran in (((), []), (("--execute",), [2, 5])):
        monkeypatch.setattr(sys, "argv", ["simsiam-course", "solutions", str(tmp_path / "out"), *options])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code and capsys.readouterr().out.count(".ipynb") == 2
        notebooks = [nbformat.read(path, as_version=4) for path in sorted((tmp_path / "out").iterdir())]
        outputs = [
            output.text for notebook in notebooks for cell in notebook.cells[1:] for output in cell.outputs
        ]
        assert outputs == [f"{number}\n" for number in ran]


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_solved_every_check_passes(path, tmp_path):
    """From a clean kernel, training cut short, a wrong answer an error."""
    notebook = nbformat.read(path, as_version=4)
    module = module_of(path)
    filled = solve(notebook, path.name[:2])
    assert {exercise.name for exercise in module.EXERCISES} <= set(filled)
    wanted = [exercise.number for exercise in (*getattr(module, "RESTATED", ()), *module.EXERCISES)]
    last = (
        f"assert {{n: course.check.results[n].status for n in {wanted}}} == dict.fromkeys({wanted}, 'passed')"
    )
    notebook.cells.append(nbformat.v4.new_code_cell(last))
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, "SIMSIAM_QUICK": "1", "SIMSIAM_CHECKS": "strict"})
