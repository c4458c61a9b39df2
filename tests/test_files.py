"""Files are whole or not there, also on a full disk, and the sentence says which place could not be written."""

import os
import time

import pytest
import safetensors
import torch

from simsiam_course import files
from simsiam_course.errors import InputError
from simsiam_course.files import (
    append_line,
    atomic_write,
    check_folder,
    json_bytes,
    make_folder,
    read_lines,
    remove_leftovers,
    write_safetensors,
)


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


def test_equal_tensors_make_equal_files_that_any_program_reads(tmp_path):
    tensors = {"b": torch.arange(7, dtype=torch.uint8), "ä": torch.randn(3, 5), "one": torch.tensor(2.5)}
    metadata = {"z": "1", "name": 'Übung\n"\\\x01', "ä": "", "format": "x", "classes": "[]"}
    found = set()
    for i in range(12):  # the library has 120 orders for five names
        write_safetensors(tmp_path / "a.safetensors", tensors, dict(sorted(metadata.items(), reverse=i % 2)))
        found.add((tmp_path / "a.safetensors").read_bytes())
    assert len(found) == 1
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert file.metadata() == metadata and set(file.keys()) == set(tensors)
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())


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


@pytest.mark.parametrize("length", [100, 4_000, 9_000, 30_000])
def test_a_disk_that_fills_up_within_a_line_has_nothing_of_it(full_disk, length):
    path, rows = full_disk / "log.jsonl", 0
    with pytest.raises(InputError, match="the disk is full"):
        while True:
            append_line(path, {"text": "x" * length})
            rows += 1
    assert rows > 0 and path.read_bytes() == b'{"text": "' + (b"x" * length + b'"}\n{"text": "') * (
        rows - 1
    ) + (b"x" * length + b'"}\n')
    with pytest.raises(InputError, match="the disk is full"):
        append_line(path, {"text": "x" * 65_000})
    assert len(read_lines(path)) == rows and path.read_bytes().endswith(b"\n")


def test_what_a_killed_writer_left_goes_after_an_hour_and_at_once_for_who_holds_the_lock(tmp_path):
    path = tmp_path / "a[1].bin"  # no pattern
    for name, age in ((".a[1].bin.old.tmp", 4000), (".a[1].bin.new.tmp", 60), (".a1.bin.old.tmp", 4000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    atomic_write(path, b"x")
    left = [".a1.bin.old.tmp", ".a[1].bin.new.tmp", "a[1].bin"]
    assert sorted(p.name for p in tmp_path.iterdir()) == left
    remove_leftovers(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [left[0], left[2]]


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


def test_checking_a_path_with_dots_in_it_leaves_no_trace(tmp_path):
    check_folder(tmp_path / "new" / ".." / "x")
    assert list(tmp_path.iterdir()) == []


def test_checking_a_folder_leaves_what_another_process_has_put_there(tmp_path, monkeypatch):
    def with_another_run(path):
        make_folder(path)
        make_folder(path.parent / "other")

    monkeypatch.setattr(files, "make_folder", with_another_run)
    check_folder(tmp_path / "runs" / "mine")
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["other"]


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
