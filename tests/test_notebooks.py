"""The command that stores the lessons' outputs stores outputs and nothing that ages."""

import nbformat
import pytest

from simsiam_course.errors import InputError
from simsiam_course.notebooks import execute


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
    for name in ("a.ipynb", "missing.ipynb"):
        with pytest.raises(InputError, match="not a notebook that can be read"):
            execute(tmp_path / name)
