"""A full disk or a read-only one ends every command with one sentence and exit code 2, leaves nothing half-written, and
with space the same command goes on."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import nbformat
import pytest
import torch

import simsiam_course
from simsiam_course import ablate, cli, demo, weights
from simsiam_course import checkpoint as ckpt
from simsiam_course import train as train_module
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.files import read_lines
from simsiam_course.plot import maps
from simsiam_course.recipe import Recipe
from simsiam_course.train import fit

LEDGER = simsiam_course.data_file("results/similarity.jsonl")
CLOCK = ("seconds", "images_per_second")


@pytest.fixture(scope="module")
def images():
    return patterns(160, size=16, seed=5)


@pytest.fixture
def call(capsys, monkeypatch):
    """Exit code, standard output and standard error of one command, in this process."""

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["simsiam-course", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def small_course(monkeypatch, tmp_path, images):
    """The commands as they are, on a few images and for a few steps, with PCA for UMAP."""
    train, test = images.split_off()
    tiny = replace(ablate.COLLAPSE, base={"epochs": 1, "batch_size": 32, "monitor_every": 1})
    monkeypatch.setitem(ablate.EXPERIMENTS, "collapse", tiny)
    monkeypatch.setattr(demo, "COLLAPSE", tiny)
    monkeypatch.setattr(ablate.runs, "_load", lambda name: (train, test))
    monkeypatch.setattr(demo, "load_pair", lambda name: (train, test))
    monkeypatch.setattr(weights, "load_pair", lambda name: (train, test))
    monkeypatch.setattr(weights, "recipe", lambda name: Recipe(epochs=1, batch_size=32))
    monkeypatch.setattr(maps, "_umap", lambda: None)


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    """A checkout of two small lessons."""
    folder = tmp_path / "clone" / "notebooks"
    folder.mkdir(parents=True)
    for name in ("03_loss", "05_collapse"):
        cells = [nbformat.v4.new_code_cell("x = '" + "x" * 30_000 + "'")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    monkeypatch.setattr(cli, "_lessons", lambda: folder)
    return folder


def fill(disk, left):
    """Leaves so many bytes free."""
    stat = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - left)))


def check_whole(folder):
    """Every file is readable to its end, and none is a temporary one."""
    for path in (path for path in folder.rglob("*") if path.is_file() and path.name != "ballast"):
        data = path.read_bytes()
        assert not path.name.startswith("."), path.name
        if path.suffix == ".safetensors":
            ckpt.load_tensors(path)
        elif path.suffix == ".jsonl":
            assert read_lines(path) is not None and (data == b"" or data.endswith(b"\n"))
        elif path.suffix in (".json", ".ipynb"):
            json.loads(data)
        elif path.suffix == ".png":
            assert data.endswith(b"IEND\xaeB`\x82")
        else:
            assert data.rstrip().endswith(b"</html>")


@pytest.mark.parametrize("command, left", [
    ("ablate", 0), ("ablate", 12_000), ("report", 30_000), ("demo", 400_000), ("checkpoints", 500_000),
    ("solutions", 0), ("solutions", 40_000),
])  # fmt: skip
def test_a_full_disk_ends_a_command_and_with_space_it_goes_on(
    call, small_course, lessons, tmpfs, tmp_path, command, left
):
    disk = tmpfs({"demo": "size=2m", "checkpoints": "size=4m"}.get(command, "size=500k"))
    place = disk / "out"
    arguments = {
        "ablate": ("ablate", "collapse", "--out", place, "--seeds", 1),
        "demo": ("demo", "--out", place),
        "checkpoints": ("checkpoints", "--out", place),
        "solutions": ("solutions", place),
        "report": ("report", tmp_path / "ledger.jsonl", "--out", place),
    }[command]
    if command == "report":
        (tmp_path / "ledger.jsonl").write_bytes(LEDGER.read_bytes())
    fill(disk, left)
    code, _, err = call(*arguments)
    assert code == 2 and "the disk is full" in err and len(err.splitlines()) == 1, err
    check_whole(disk)
    (disk / "ballast").unlink()
    code, _, err = call(*arguments)
    assert code == 0, err
    check_whole(disk)
    assert any(place.iterdir())


def test_training_goes_on_where_the_disk_became_full(images, tmpfs, monkeypatch):
    monkeypatch.setattr(train_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    disk, recipe = tmpfs("size=6m"), Recipe(epochs=2, batch_size=32, monitor_every=1)

    def run(**options):
        history = fit(recipe.build(), images, recipe, device="cpu", progress=False, **options)
        return [{name: value for name, value in row.items() if name not in CLOCK} for row in history]

    def full(row, model):
        if row["step"] == 6:
            fill(disk, 100_000)

    with pytest.raises(InputError, match="Cannot write .*checkpoint.*the disk is full"):
        run(out=disk / "run", callback=full)
    check_whole(disk)
    assert ckpt.load_run(disk / "run")[2]["step"] == 5
    with pytest.raises(InputError, match="the disk is full"):
        run(out=disk / "run", resume=True)
    check_whole(disk)
    (disk / "ballast").unlink()
    assert run(out=disk / "run", resume=True) == run()


def test_a_notebook_that_finds_no_room_stays_as_it_was_and_is_executed_later(call, tmpfs):
    disk = tmpfs("size=300k")
    path = disk / "lesson.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('x' * 90_000)")]), path)
    before = path.read_bytes()
    fill(disk, 50_000)
    code, _, err = call("execute", path)
    assert code == 2 and "the disk is full" in err and len(err.splitlines()) == 1
    assert path.read_bytes() == before
    check_whole(disk)
    (disk / "ballast").unlink()
    assert call("execute", path)[0] == 0 and b"xxx" in path.read_bytes()


@pytest.mark.parametrize("command", ["ablate", "demo", "checkpoints", "report", "solutions", "execute"])
def test_a_read_only_place_is_refused_before_the_work(call, lessons, tmpfs, tmp_path, monkeypatch, command):
    disk = tmpfs("size=600k")
    (disk / "lesson.ipynb").write_bytes((lessons / "05_collapse.ipynb").read_bytes())
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for module in (ablate.runs, train_module, weights, demo):
        if hasattr(module, "fit"):
            monkeypatch.setattr(module, "fit", lambda *arguments, **options: pytest.fail("it trained"))
    arguments = {
        "ablate": ("collapse", "--out", disk / "out"), "demo": ("--out", disk / "out"),
        "checkpoints": ("--out", disk / "out"), "report": (LEDGER, "--out", disk),
        "solutions": (disk / "out",), "execute": (disk / "lesson.ipynb",),
    }[command]  # fmt: skip
    code, out, err = call(command, *arguments)
    assert code == 2 and "Cannot write" in err and "read-only" in err and len(err.splitlines()) == 1


def test_a_read_only_place_can_be_read(call, images, tmpfs, tmp_path):
    disk = tmpfs("size=6m")
    recipe = Recipe(epochs=1, batch_size=32)
    images.save(disk / "images.safetensors")
    fit(recipe.build(), images, recipe, out=disk / "run", device="cpu", progress=False)
    (disk / "ledger.jsonl").write_bytes(LEDGER.read_bytes())
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    code, out, err = call("evaluate", disk / "run", "--data", f"file:{disk}/images.safetensors", "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["std"] > 0, err
    assert call("report", disk / "ledger.jsonl", "--out", tmp_path / "page")[0] == 0
    assert torch.is_tensor(ckpt.load_tensors(disk / "run" / ckpt.CHECKPOINT)[0]["run.draws"])
