"""The memory of a class: a kernel is measured, several run at once, and the table says so."""

from __future__ import annotations

from pathlib import Path

import classroom
import nbformat
import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")


def test_two_kernels_at_once_are_measured_each_for_itself(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("text"),
        nbformat.v4.new_code_cell("held = bytearray(b'x') * 150_000_000"),
    ]
    path = tmp_path / "05_held.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    rows = classroom.at_once(path, 2)
    assert len(rows) == 2
    for row in rows:
        assert 190 < row["peak_mb"] < 600 and 150 < row["shared_once_mb"] <= row["peak_mb"]
    lines = classroom.table({1: rows[:1], 2: rows}).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]


def test_a_lesson_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit):
        classroom.main(["--lesson", "77"])
    assert "no lesson 77" in capsys.readouterr().err
