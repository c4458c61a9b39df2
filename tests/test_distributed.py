"""Two processes train as one does; a killed one is started anew; what is wrong is said once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import several
import torch

from simsiam_course import checkpoint as ckpt
from simsiam_course import distributed
from simsiam_course.errors import InputError
from simsiam_course.files import read_lines

ROOT = Path(__file__).resolve().parents[1]
CLOCK = ("seconds", "images_per_second")


def torchrun(*arguments, restarts=0):
    """The command that starts `several.py` in two processes, and its environment."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
               f"--max-restarts={restarts}", str(ROOT / "tests" / "several.py"), *map(str, arguments)]  # fmt: skip
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    return {"args": command, "env": env, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def finished(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


# ---- one process and two


@pytest.fixture(scope="module")
def one():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield several.all_of_it()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What either of two processes kept."""
    out = tmp_path_factory.mktemp("two")
    code, _, err = finished(subprocess.Popen(**torchrun(out)))
    assert code == 0, err
    return [torch.load(out / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def test_batch_norm_over_two_processes_is_batch_norm_of_the_whole_batch(one, two):
    for case, wanted in one["norms"].items():
        for found in two:
            assert found["norms"][case].keys() == wanted.keys()
            for name, value in wanted.items():
                (
                    torch.testing.assert_close(found["norms"][case][name], value, rtol=0, atol=1e-12),
                    (case, name),
                )
    assert {len(norm) for norm in one["norms"].values()} == {
        6,
        8,
    }  # with an affine part there are two gradients more


@pytest.mark.parametrize("name", several.RUNS)
def test_two_processes_take_the_steps_of_one(one, two, name):
    wanted = one["float64"][name]
    assert len(wanted["losses"]) == several.RUNS[name][0] and len(set(wanted["losses"])) > 1
    for found in (each["float64"][name] for each in two):
        assert found["losses"] == pytest.approx(wanted["losses"], rel=0, abs=1e-9)
        assert found["monitors"] == pytest.approx(wanted["monitors"], rel=1e-9)
        assert found["names"] == wanted["names"]  # a checkpoint is the same, however many wrote it
        torch.testing.assert_close(found["gradient"], wanted["gradient"], rtol=0, atol=1e-12)
        torch.testing.assert_close(found["weights"], wanted["weights"], rtol=0, atol=1e-9)
    assert torch.equal(two[0]["float64"][name]["weights"], two[1]["float64"][name]["weights"])


def test_in_float32_only_rounding_differs(one, two):
    wanted, found = one["float32"], two[0]["float32"]
    error = (found["gradient"] - wanted["gradient"]).norm() / wanted["gradient"].norm()
    assert error < 1e-5
    assert found["losses"] == pytest.approx(wanted["losses"], rel=0, abs=2e-2)


def test_without_synchronized_batch_norm_it_would_be_seen(one):
    """Two halves normalised each by itself: the first loss is another one."""
    whole = several.trained(1, {})["losses"][0]
    assert whole == one["float64"]["simsiam"]["losses"][0]
    norm = several.normalised(False, (12, 5), 0.1)
    x = 3 + 2 * torch.randn(12, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    halves = torch.cat(
        [torch.nn.functional.batch_norm(half, None, None, training=True) for half in x.chunk(2)]
    )
    assert (halves - norm["y"]).abs().max() > 0.1


# ---- who takes what


def as_process(monkeypatch, rank, world):
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world", lambda: world)


def test_the_shares_are_the_batch(monkeypatch):
    places = []
    for rank in range(4):
        as_process(monkeypatch, rank, 4)
        places += range(12)[distributed.share(12)]
    assert places == list(range(12))


@pytest.mark.parametrize(("batch", "world"), [(64, 3), (2, 2), (4, 8)])
def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch, batch, world):
    as_process(monkeypatch, 0, world)
    with pytest.raises(InputError, match=f"A batch of {batch} images cannot be shared by {world} processes"):
        distributed.share(batch)


def test_one_process_takes_all_and_changes_nothing():
    assert (distributed.world(), distributed.rank(), distributed.share(7)) == (1, 0, slice(0, 7))
    x = torch.randn(3, 2)
    assert distributed.gather(x) is x and distributed.gather_outputs(torch.nn.ReLU()) == []
    assert distributed.from_first(lambda: 5) == distributed.one_after_another(lambda: 5) == 5


@pytest.mark.parametrize(("told", "launched"), [
    ({}, False), ({"RANK": "0"}, False), ({"WORLD_SIZE": "2"}, False), ({"RANK": "0", "WORLD_SIZE": "2"}, False),
    ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, False),
    ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, True),
], ids=str)  # fmt: skip
def test_who_was_not_told_where_to_meet_trains_alone(monkeypatch, told, launched):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert distributed.launched() == launched
    if not launched:
        with distributed.processes("cpu"):
            assert distributed.world() == 1


# ---- the command line


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "prints.safetensors"
    several.images().save(path)
    return path


def command(images, out, *options):
    """`train` on 16 x 16 images for 45 steps."""
    return ["train", "--data", f"file:{images}", "--size", 16, "--backbone", "tiny_half", "--batch-size", 32,
            "--epochs", 15, "--out", out, *options]  # fmt: skip


def without_clock(rows):
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """The folder of a run that nobody stopped, and what was printed."""
    out = tmp_path_factory.mktemp("whole")
    code, printed, err = finished(subprocess.Popen(**torchrun(out, *command(images, out / "run", "--json"))))
    assert code == 0, err
    return out / "run", printed


def test_one_process_writes_and_speaks_for_both(whole):
    run, printed = whole
    assert sorted(path.name for path in run.iterdir()) == [ckpt.CHECKPOINT, ckpt.HISTORY, ckpt.RECIPE]
    assert printed.count('{"') == 1 and printed.count("diagnosis") == 2  # the table and the JSON
    result = json.loads(printed.splitlines()[-1])
    history = read_lines(run / ckpt.HISTORY)
    assert [row["step"] for row in history] == [10, 20, 30, 40, 45]
    assert result["images_seen"] == 45 * 32 and result["train_loss"] == history[-1]["loss"]


def test_a_run_of_two_processes_is_evaluated_by_one(whole):
    model, recipe, about = ckpt.load_run(whole[0])
    assert about["step"] == 45 and recipe.batch_size == 32
    assert model.load_state_dict(recipe.build().state_dict())


@pytest.mark.parametrize(("worker", "by"), [(1, signal.SIGKILL), (0, signal.SIGTERM)])
def test_a_stopped_worker_is_started_anew_and_the_run_ends_as_if_nothing_had_been(
    images, whole, tmp_path, worker, by
):
    run = tmp_path / "run"
    process = subprocess.Popen(**torchrun(tmp_path, *command(images, run), restarts=1))
    deadline = time.monotonic() + 200
    while not (run / ckpt.CHECKPOINT).exists() or not ckpt.load_tensors(run / ckpt.CHECKPOINT)[1]["rows"]:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    os.kill(int((tmp_path / f"0-{worker}.pid").read_text()), by)
    kept = ckpt.load_tensors(run / ckpt.CHECKPOINT)[1]["rows"]
    before = read_lines(run / ckpt.HISTORY)[:kept]
    code, _, err = finished(process)
    assert code == 0, err
    assert len(re.findall("(?m)^Terminated: |^Another process of this run is gone", err)) == 1
    assert (tmp_path / "1-0.pid").exists()
    history = read_lines(run / ckpt.HISTORY)
    assert history[:kept] == before  # its clock, too: those rows were not trained again
    assert kept < len(history) and without_clock(history) == without_clock(
        read_lines(whole[0] / ckpt.HISTORY)
    )
    trained = ckpt.load_tensors(whole[0] / ckpt.CHECKPOINT)[0]
    for name, tensor in ckpt.load_tensors(run / ckpt.CHECKPOINT)[0].items():
        assert torch.equal(tensor, trained[name]) or name == "run.global", name


def test_what_is_wrong_is_said_once_and_not_tried_again(images, tmp_path):
    options = ("--batch-size", 33)
    process = subprocess.Popen(**torchrun(tmp_path, *command(images, tmp_path / "run", *options), restarts=1))
    code, out, err = finished(process)
    assert code != 0 and not out and err.count("A batch of 33 images cannot be shared by 2 processes") == 1
    # torchrun may end the second process before that has said its own code
    codes = set(re.findall(r"exitcode +: (-?\d+)", err))
    assert "2" in codes and codes <= {"2", "143", f"-{signal.SIGTERM.value}"}
    assert "Error: " not in err.replace("ChildFailedError:", "")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_ends_all_processes_with_one_sentence(images, tmp_path, tmpfs):
    disk = tmpfs("size=256k")
    process = subprocess.Popen(**torchrun(tmp_path, *command(images, disk / "run")))
    code, out, err = finished(process)
    assert code != 0 and not out and err.count("the disk is full") == 1 and "exitcode  : 2" in err
    assert not list((disk / "run").glob("*.tmp"))
