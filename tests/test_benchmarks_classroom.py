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
        nbformat.v4.new_code_cell("import os; assert os.environ['OMP_NUM_THREADS'] == '3'"),
    ]
    path = tmp_path / "05_held.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    rows = classroom.at_once(path, 2, threads=3)
    assert len(rows) == 2
    for row in rows:
        assert 190 < row["peak_mb"] < 600 and 150 < row["shared_once_mb"] <= row["peak_mb"]
    lines = classroom.table({1: rows[:1], 2: rows}).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["1", "3"], ["2", "3"]]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--lesson", "77"], "no lesson 77"),
        (["--at-once", "1", "0"], "at least 1"),
        (["--threads", "0"], "at least 1"),
        (["--threads", "-2"], "at least 1"),
    ],
)
def test_a_class_that_cannot_be_is_refused(arguments, sentence, capsys):
    with pytest.raises(SystemExit):
        classroom.main(arguments)
    assert sentence in capsys.readouterr().err


def test_kernels_share_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(classroom.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(classroom, "kernel", lambda path, threads: threads)
    assert [classroom.at_once(tmp_path, n)[0] for n in (1, 2, 3, 9)] == [4, 2, 1, 1]
