"""Whoever comes second to a folder, a ledger, a notebook or a download is told so, and a dead holder holds nothing."""

import signal
import subprocess
import sys
import threading

import filelock
import nbformat
import pytest

from simsiam_course import ablate, demo, notebooks, weights
from simsiam_course import checkpoint as ckpt
from simsiam_course.ablate import Experiment, runs
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.evaluate import embed
from simsiam_course.lock import Lock, file_lock, folder_lock
from simsiam_course.recipe import Recipe
from simsiam_course.train import Diverged, fit, train_step

RECIPE = Recipe(epochs=1, batch_size=32, monitor_every=1)


@pytest.fixture(scope="module")
def images():
    return patterns(96, size=16, seed=5)


def train(images, out, **options):
    return fit(RECIPE.build(), images, RECIPE, out=out, device="cpu", progress=False, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_second_is_told_which_folder_and_the_first_leaves_no_trace(tmp_path):
    with folder_lock(tmp_path) as first:
        assert first.held
        with pytest.raises(InputError, match=f"Another process is writing '{tmp_path}': wait"):
            folder_lock(tmp_path)
    assert names(tmp_path) == []
    with folder_lock(tmp_path) as again:
        assert again.held


def test_who_waits_is_told_so_and_comes_next(tmp_path, capsys):
    first, got = Lock(tmp_path / ".lock", "busy"), threading.Event()

    def second():
        with Lock(tmp_path / ".lock", "busy: waiting", wait=True):
            got.set()

    waiting = threading.Thread(target=second)
    waiting.start()
    assert not got.wait(0.3)
    first.release()
    waiting.join(timeout=20)
    assert got.is_set() and names(tmp_path) == [] and capsys.readouterr().err == "busy: waiting\n"


HOLD = """
import sys, time
from simsiam_course.lock import folder_lock
lock = folder_lock(sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""


def test_a_holder_that_is_killed_holds_nothing(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="Another process"):
        folder_lock(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with folder_lock(tmp_path) as mine:
        assert mine.held
    assert names(tmp_path) == []


def test_where_the_file_system_knows_no_locks_the_work_goes_on(tmp_path, images, monkeypatch):
    def refused(self, *arguments, **options):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    assert not folder_lock(tmp_path).held
    assert len(train(images, tmp_path)) == 3


# ---- runs


def test_a_run_folder_in_use_is_refused_and_stays_as_it_is(images, tmp_path):
    train(images, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with folder_lock(tmp_path):
        for resume in (False, True):
            with pytest.raises(InputError, match=f"Another process is writing '{tmp_path}'"):
                train(images, tmp_path, resume=resume)
        assert embed(ckpt.load_run(tmp_path)[0], images).shape == (96, 128)  # who reads needs no lock
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_however_a_run_ends_its_folder_is_free(images, tmp_path):
    def wrong(model, x1, x2):
        return train_step(model, x1, x2) * float("nan")

    def interrupted(row, model):
        raise KeyboardInterrupt

    for error, options in ((Diverged, {"step": wrong}), (KeyboardInterrupt, {"callback": interrupted})):
        with pytest.raises(error):
            train(images, tmp_path / error.__name__, **options)
        with folder_lock(tmp_path / error.__name__) as free:
            assert free.held
    run = tmp_path / "Diverged"
    with pytest.raises(InputError, match="holds a run already"):
        train(images, run)
    with pytest.raises(InputError, match="other images"):
        train(patterns(96, size=16, seed=6), run, resume=True)
    assert len(train(images, run, resume=True)) == 3
    assert names(run) == sorted([ckpt.CHECKPOINT, ckpt.HISTORY, ckpt.RECIPE])


def test_a_resumed_run_clears_away_what_a_killed_one_had_begun_to_write(images, tmp_path):
    train(images, tmp_path)
    (tmp_path / f".{ckpt.CHECKPOINT}.x1y2z3.tmp").write_bytes(b"half")
    (tmp_path / ".lock").touch()
    (tmp_path / "mine.tmp").touch()
    train(images, tmp_path, resume=True)
    assert names(tmp_path) == sorted([ckpt.CHECKPOINT, ckpt.HISTORY, ckpt.RECIPE, "mine.tmp"])


def test_a_run_on_a_read_only_file_system_can_be_read(images, tmpfs):
    folder = tmpfs("size=8m")
    train(images, folder / "run")
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    model, _, about = ckpt.load_run(folder / "run")
    assert about["step"] == 3 and embed(model, images).shape == (96, 128)
    with pytest.raises(InputError, match="Cannot write"):
        train(images, folder / "run", resume=True)


# ---- sweeps and other writers


def test_a_ledger_in_use_is_refused_before_anything_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "run_variant", lambda *arguments, **options: pytest.fail("it ran"))
    small = Experiment(name="small", title="t", question="q", paper={}, variants={"simsiam": {}})
    with (
        file_lock(tmp_path / ablate.LEDGER),
        pytest.raises(InputError, match="Another process is writing .*results"),
    ):
        list(ablate.run(small, seeds=1, out=tmp_path, progress=False))
    assert names(tmp_path) == []


def test_all_ledgers_are_free_again_where_one_is_in_use(tmp_path):
    last = sorted(experiment.ledger for experiment in ablate.COURSE)[-1]
    with file_lock(tmp_path / last), pytest.raises(InputError, match=last):
        list(ablate.run_all(tmp_path, progress=False))
    assert names(tmp_path) == []


def test_a_sweep_that_is_left_in_the_middle_frees_its_ledger(tmp_path, images, monkeypatch):
    monkeypatch.setattr(runs, "_load", lambda name: images.split_off())
    small = Experiment(
        name="small", title="t", question="q", paper={}, variants={"a": {}, "b": {"predictor": "none"}},
        base={"epochs": 1, "batch_size": 32},
    )  # fmt: skip
    for _ in ablate.run(small, seeds=1, out=tmp_path, device="cpu", progress=False):
        with pytest.raises(InputError, match="Another process"):
            file_lock(tmp_path / ablate.LEDGER)
        break
    assert names(tmp_path) == [ablate.LEDGER]
    assert len(list(ablate.run(small, seeds=1, out=tmp_path, device="cpu", progress=False))) == 2


def test_demo_checkpoints_and_notebooks_have_one_writer_too(tmp_path):
    with folder_lock(tmp_path):
        for write in (demo.demo, weights.write):
            with pytest.raises(InputError, match="Another process is writing"):
                write(tmp_path)
    path = tmp_path / "lesson.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    with file_lock(path), pytest.raises(InputError, match="Another process is writing .*lesson.ipynb"):
        notebooks.execute(path)
    assert names(tmp_path) == ["lesson.ipynb"]
