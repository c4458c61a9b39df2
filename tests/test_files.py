"""Files are whole or not there, also on a full disk, and the sentence says which place could not be written."""

import pytest

from simsiam_course.errors import InputError
from simsiam_course.files import append_line, atomic_write, check_folder, json_bytes, make_folder, read_lines


@pytest.fixture
def full_disk(tmpfs):
    """A file system of 64 kB."""
    return tmpfs("size=64k")


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_half_written(full_disk):
    path = full_disk / "a.bin"
    atomic_write(path, b"old")
    with pytest.raises(InputError, match="the disk is full"):
        atomic_write(path, bytes(1_000_000))
    assert path.read_bytes() == b"old"
    assert list(full_disk.iterdir()) == [path]


def test_a_full_disk_takes_a_whole_line_or_nothing_of_it(full_disk):
    path = full_disk / "log.jsonl"
    append_line(path, {"n": 1})
    with pytest.raises(InputError, match="the disk is full"):
        append_line(path, {"text": "x" * 1_000_000})
    assert read_lines(path) == [{"n": 1}]
    assert path.read_bytes().endswith(b"\n")


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write .*file/run"):
        make_folder(tmp_path / "file" / "run")


def test_making_a_folder_leaves_it_empty_and_keeps_what_is_there(tmp_path):
    assert list(make_folder(tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "kept").write_text("")
    assert [p.name for p in make_folder(tmp_path).iterdir() if p.is_file()] == ["kept"]


def test_checking_a_folder_leaves_no_trace(tmp_path):
    check_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"):
        check_folder(tmp_path / "file" / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_line_cut_short_is_not_read_and_the_next_one_starts_afresh(tmp_path):
    path = tmp_path / "log.jsonl"
    append_line(path, {"n": 1})
    with open(path, "ab") as file:
        file.write(b'{"n": 2, "hal')
    assert read_lines(path) == [{"n": 1}]
    append_line(path, {"n": 3})
    assert read_lines(path) == [{"n": 1}, {"n": 3}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n": 1}\nnonsense\n{"n": 3}\n')
    with pytest.raises(InputError, match="Line 2 "):
        read_lines(path)


def test_numbers_that_are_not_finite_become_null():
    assert json_bytes({"a": float("nan"), "b": [float("inf"), 1.5]}) == b'{"a": null, "b": [null, 1.5]}'
