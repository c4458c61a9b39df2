"""The GPU benchmark: its fast step is the package's step, its runs resume to the bit, and it keeps to its minutes."""

from __future__ import annotations

import re
import time
from itertools import chain, repeat

import gpu
import gpu_speed
import gpu_train
import pytest
import torch
from fast import LADDER, FastTrainer, Rung, make_trainer
from probe import probe
from torch import nn
from weights import load_parts, parts_in, save_parts

from simsiam_course import checkpoint as ckpt
from simsiam_course.data import ImageSet, patterns
from simsiam_course.errors import InputError
from simsiam_course.files import read_lines
from simsiam_course.train import Trainer

RECIPE = gpu_train.PAPER.replace(**gpu.QUICK, epochs=4)
FIT = LADDER["+ channels_last"]
QUICK = {"copies": 1, "passes": 2}  # of the linear probe


@pytest.fixture(scope="module")
def images():
    return patterns(160, seed=5), patterns(64, seed=6, split="test")


def losses(trainer, steps=7):
    return [float(trainer.advance()) for _ in range(steps)]


def weights(trainer):
    return torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- the fast step


def test_the_fast_step_without_anything_fast_is_the_packages_step(images):
    ours = Trainer(RECIPE.build(), images[0], RECIPE, device="cpu")
    fast = FastTrainer(RECIPE.build(), images[0], RECIPE, rung=FIT, device="cpu")
    assert losses(fast) == losses(ours)
    assert equal(fast.model.state_dict(), ours.model.state_dict())
    assert fast.row() == ours.row()


def test_bfloat16_trains_on_nearly_the_same_losses_and_its_weights_are_float32(images):
    ours, fast = (make_trainer(images[0], RECIPE, rung, device="cpu") for rung in (FIT, LADDER["+ bfloat16"]))
    exact, rounded = losses(ours, 3), losses(fast, 3)
    assert rounded != exact and rounded == pytest.approx(exact, abs=0.02)
    assert {p.dtype for p in fast.model.parameters()} == {torch.float32}


def test_what_does_not_work_is_struck_out_with_a_sentence_and_changes_no_loss(images, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("no compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda loss_of, **options: broken)
    monkeypatch.setattr(FastTrainer, "_record", broken)
    fast = make_trainer(images[0], RECIPE, Rung(channels_last=True, compile=True, graph=True), device="cpu")
    assert losses(fast) == losses(make_trainer(images[0], RECIPE, FIT, device="cpu"))
    assert fast.rung == FIT
    assert [note.partition(", ")[0] for note in fast.notes] == [
        "Without torch.compile",
        "Without the CUDA graph",
    ]
    assert all(note.endswith("no compiler found") for note in fast.notes)


@pytest.mark.cuda
@pytest.mark.parametrize("compiled", [False, True])
def test_a_cuda_graph_takes_the_steps_that_the_eager_step_takes(images, compiled, monkeypatch):
    monkeypatch.setattr(
        torch.backends.cudnn, "allow_tf32", False
    )  # else every convolution may round its own way
    graph = Rung(channels_last=True, compile=compiled, graph=True)
    eager, fast = (make_trainer(images[0], RECIPE, rung, device="cuda") for rung in (FIT, graph))
    begin = weights(eager)
    assert losses(fast) == pytest.approx(losses(eager), abs=1e-3)
    assert fast.rung == graph and not fast.notes
    assert (weights(fast) - weights(eager)).norm() < 1e-2 * (weights(eager) - begin).norm()
    assert fast.row()["std"] == pytest.approx(eager.row()["std"], abs=0.02)


@pytest.mark.cuda
def test_a_run_on_a_gpu_goes_on_from_its_state_and_records_anew(images):
    graph = Rung(channels_last=True, bf16=True, graph=True)
    whole, first, second = (make_trainer(images[0], RECIPE, graph, device="cuda") for _ in range(3))
    expected = losses(whole, 12)
    began = losses(first, 6)
    second.advance()  # so that there is a graph that knows other memory
    second.restore(*first.state(), "state")
    assert began + losses(second, 6) == pytest.approx(expected, abs=5e-3)


# ---- speed


def race(images, ladder, rounds, left=None):
    end = time.perf_counter() + 1000
    return gpu_speed.race(
        images[0], RECIPE, ladder=ladder, workers=0, device="cpu",
        left=left or (lambda: end - time.perf_counter()), rounds=rounds,
    )  # fmt: skip


def test_a_race_compares_every_rung_with_lightlys_best(images):
    pytest.importorskip("lightly")
    ladder = {name: rung for name, rung in LADDER.items() if rung.plain}
    rows = race(images, ladder, rounds=2)
    assert [row["name"] for row in rows] == [*gpu_speed.PEERS, *ladder]
    best = max(rows[:2], key=lambda row: row["images_per_second"])
    for row in rows:
        assert row["rounds"] == 2 and row["images_per_second_low"] <= row["images_per_second"]
        assert (
            row["fraction_of_matrix_rate"] > 0
        )  # not below 1: a CPU may imitate bfloat16 in products more slowly
        assert row.get("compared_with") == (None if row in rows[:2] else best["name"])
    table = gpu_speed.table(rows)
    assert all(row["name"] in table for row in rows) and "of limit" in table


@pytest.mark.parametrize(
    ("left", "said"),
    [((50, 40, 30, 20, 10, 9), "do not fit into the"), ((5, -1), "No time is left before")],
)
def test_a_race_ends_where_the_time_does(images, capsys, left, said):
    seconds = chain(map(float, left), repeat(left[-1]))
    assert race(images, {"eager": Rung()}, rounds=2, left=lambda: next(seconds)) == []
    assert said in capsys.readouterr().out


def test_without_lightly_there_is_a_ladder_and_no_comparison(images, capsys, monkeypatch):
    def missing(*arguments):
        raise ImportError("No module named 'lightly'")

    monkeypatch.setattr(gpu_speed, "lightly_transform", missing)
    rows = race(images, {"eager": Rung(), "again": Rung()}, rounds=1)
    assert [row["name"] for row in rows] == ["eager"] and "times_lightly" not in rows[0]
    assert "eager" in gpu_speed.table(rows)
    out = capsys.readouterr().out
    assert "lightly is not installed" in out
    assert "again is left out: it would be the same" in out


def test_operations_grow_with_the_batch_and_are_those_of_three_passes():
    small, large = (gpu_speed.step_operations(RECIPE.replace(batch_size=b), 32) for b in (4, 8))
    wide = gpu_speed.step_operations(RECIPE.replace(batch_size=4, predictor_hidden_dim=16), 32)
    assert large == 2 * small
    assert wide - small == 4 * 2 * 3 * 2 * (2 * 32 * 8)  # images x views x passes x multiply-add x weights


# ---- recipes, runs and weights


def test_the_recipes_are_the_published_ones(images):
    for name, batch, epochs in (("A", 512, 800), ("B", 128, 200)):
        recipe = gpu_train.RECIPES[name]
        assert (recipe.backbone, recipe.batch_size, recipe.epochs) == ("resnet18", batch, epochs)
        assert (recipe.projection_dim, recipe.hidden_dim, recipe.predictor_hidden_dim) == (2048, 2048, 512)
        assert (recipe.projector_layers, recipe.schedule, recipe.augmentation) == (2, "cosine", "cifar")
        small = recipe.replace(backbone="tiny")
        trainer = Trainer(
            small.build(), ImageSet(torch.zeros(512, 3, 8, 8, dtype=torch.uint8)), small, device="cpu"
        )
        trainer._set_rates()
        for group in trainer.optimizer.param_groups:
            assert group["lr"] == pytest.approx(0.06)
            assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 5e-4, False)
    assert (
        gpu_train.RECIPES["B"].output_bn == "affine" and gpu_train.RECIPES["B"].predictor_schedule == "same"
    )


class Left:
    """Seconds for so many steps and no more, whatever the clock says."""

    def __init__(self, steps):
        self.asked, self.steps = 0, steps

    def __call__(self):
        self.asked += 1
        return 1000.0 if self.asked <= self.steps else -1.0


def go(folder, images, left, recipe=RECIPE):
    run = gpu_train.start(recipe, *images, folder, FIT, device="cpu", probing=QUICK)
    gpu_train.train_for(run, left, progress=False)
    return run


def test_a_run_that_was_interrupted_ends_with_the_bits_of_one_that_was_not(images, tmp_path, capsys):
    whole = go(tmp_path / "whole", images, Left(100))
    first = go(tmp_path / "parts", images, Left(7))
    middle = go(tmp_path / "parts", images, Left(6))
    last = go(tmp_path / "parts", images, Left(100))
    total = whole.trainer.total
    assert (
        0 < first.trainer.done < middle.trainer.done < last.trainer.done == whole.trainer.done == total == 20
    )
    assert first.trainer.done % whole.trainer.steps_per_epoch, "this should have stopped within a pass"
    assert f"Going on after step {middle.trainer.done} of 20." in capsys.readouterr().out

    states = [ckpt.load_tensors(tmp_path / name / gpu_train.STATE) for name in ("whole", "parts")]
    assert equal(states[0][0], states[1][0])
    columns = ("step", "epoch", "lr", "loss", "std", "effective_rank", "knn")
    of_passes = [
        [[row[name] for name in columns] for row in run.rows if "loss" in row] for run in (whole, last)
    ]
    assert of_passes[0] == of_passes[1] and len(of_passes[0]) == RECIPE.epochs
    assert last.rows[-1]["linear"] == whole.rows[-1]["linear"] is not None
    assert len(last.rows) == RECIPE.epochs + 2, "each call that stopped within a pass has its own measurement"
    seconds = [row["seconds"] for row in last.rows]
    assert seconds == sorted(seconds) and states[1][1]["seconds"] >= seconds[-1]


def test_a_finished_run_is_called_again_without_harm(images, tmp_path):
    recipe = RECIPE.replace(epochs=1)
    first, again = (go(tmp_path, images, Left(100), recipe) for _ in range(2))
    assert again.rows == first.rows and again.trainer.done == first.trainer.done


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": RECIPE.replace(lr=0.1)}, "another recipe"),
        ({"images": (patterns(160, seed=7), patterns(64, seed=6))}, "other images"),
        (
            {"images": (patterns(160, seed=5), ImageSet(torch.zeros(9, 3, 32, 32, dtype=torch.uint8)))},
            "labelled",
        ),
    ],
)
def test_a_run_goes_on_only_with_what_it_began_with(images, tmp_path, change, said):
    go(tmp_path, images, Left(1))
    with pytest.raises(InputError, match=said):
        go(tmp_path, **{"images": images, "left": Left(1), **change})


def test_a_run_of_another_device_is_refused(images, tmp_path):
    run = go(tmp_path, images, Left(1))
    tensors, about = run.state()
    ckpt.save_tensors(tmp_path / gpu_train.STATE, tensors, about | {"device": "cuda"})
    with pytest.raises(InputError, match="was trained on 'cuda': use that --device"):
        go(tmp_path, images, Left(1))


def test_weights_come_in_small_parts_and_a_run_goes_on_from_them(images, tmp_path, capsys):
    run = go(tmp_path, images, Left(3))
    (tmp_path / "weights-1-of-9.safetensors").touch()  # of an earlier call
    paths = save_parts(tmp_path, *run.state(), limit=150_000)
    assert len(paths) > 1 and parts_in(tmp_path) == paths
    assert all(path.stat().st_size < 165_000 for path in paths)

    tensors, about = load_parts(tmp_path)
    model = ckpt.recipe_of(about, tmp_path).build()
    ckpt.load_state(model, tensors, tmp_path)
    for (name, ours), theirs in zip(
        model.state_dict().items(), run.trainer.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3, msg=name)

    (tmp_path / gpu_train.STATE).unlink()
    on = go(tmp_path, images, Left(1))
    assert on.trainer.done == run.trainer.done + 1 and on.rows[: len(run.rows)] == run.rows
    assert "from rounded weights and without momentum" in capsys.readouterr().out


def test_weights_of_which_a_part_is_missing_or_of_another_step_are_refused(images, tmp_path):
    tensors, about = go(tmp_path, images, Left(1)).state()
    *_, last = save_parts(tmp_path, tensors, about, limit=100_000)
    ckpt.save_tensors(last, ckpt.load_tensors(last)[0], about | {"step": 999})
    with pytest.raises(InputError, match="does not hold all weights of one step"):
        load_parts(tmp_path)
    last.unlink()
    with pytest.raises(InputError, match="does not hold all weights of one step"):
        load_parts(tmp_path)


def test_the_last_accuracy_is_the_result_and_the_best_is_named_as_chosen_on_test(images, tmp_path):
    run = go(tmp_path, images, Left(1))
    run.rows = [
        {"step": s, "epoch": float(s), "seconds": 60.0 * s, "knn": knn, "linear": linear}
        for s, knn, linear in ((1, 0.5, None), (2, 0.8, None), (3, 0.7, 0.75))
    ]
    found = gpu_train.result("B", run)
    assert (found["knn"], found["linear"], found["epoch"], found["seconds"]) == (0.7, 0.75, 3, 180)
    assert (found["best_knn_chosen_on_test"], found["best_knn_epoch"]) == (0.8, 2)
    table = gpu_train.table(found)
    assert "kNN 70.00%, linear 75.00%. Best kNN, chosen on the test images: 80.00%" in table
    assert "Published: knn 81.9%" in table


class Colours(nn.Module):
    """Features that are the mean colour."""

    def __init__(self):
        super().__init__()
        self.register_buffer("pixel_mean", torch.full((3,), 0.5))
        self.register_buffer("pixel_std", torch.full((3,), 0.25))

    def features(self, x):
        return x.mean(dim=(2, 3))


def test_the_linear_probe_finds_what_a_line_can_tell_apart_and_nothing_else():
    labels = torch.arange(120) % 3
    pixels = (
        (torch.eye(3)[labels] * 200).to(torch.uint8)[:, :, None, None].expand(-1, -1, 16, 16).contiguous()
    )
    precision = torch.autocast("cpu", torch.bfloat16, enabled=False)

    def accuracy(labels):
        images = ImageSet(pixels, labels)
        return probe(Colours(), images, images, precision, copies=2, passes=20)

    assert accuracy(labels) == accuracy(labels) == 1
    shuffled = labels[torch.randperm(120, generator=torch.Generator().manual_seed(0))]
    assert accuracy(shuffled) < 0.6
    assert accuracy(torch.where(torch.arange(120) < 60, labels, -1)) == 1, "unlabelled images are left out"


# ---- the command


def call(capsys, *arguments):
    code = gpu.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_the_whole_command_on_a_cpu(capsys, tmp_path):
    pytest.importorskip("lightly")
    code, out, _ = call(capsys, "--quick", "--out", tmp_path, "--device", "cpu", "--batches", "16")
    assert code == 0
    assert "There is no CUDA device, so without torch.compile and CUDA graph." in out
    assert "x lightly" in out and "Published: knn 81.9%" in out
    rows = read_lines(tmp_path / "speed.jsonl")
    assert {row["benchmark"] for row in rows} == {"gpu speed at batch 16", "gpu recipe B"}
    assert all(row["machine"]["cpu"] and row["machine"]["gpu"] is None for row in rows)
    names = [row["name"] for row in rows if row["benchmark"].startswith("gpu speed")]
    assert names == [*gpu_speed.PEERS, "eager float32", "+ channels_last", "+ bfloat16"]
    (run,) = (row for row in rows if row["benchmark"] == "gpu recipe B")
    assert run["epoch"] == run["epochs"] == 2 and 0 <= run["linear"] <= 1 and len(run["curve"]) == 2
    assert parts_in(tmp_path / "B") and (tmp_path / "B" / gpu_train.STATE).exists()


def test_a_call_stops_when_its_minutes_are_over_and_the_next_goes_on(capsys, tmp_path):
    options = (
        "--quick",
        "--parts",
        "train",
        "--recipe",
        "A",
        "--epochs",
        5000,
        "--minutes",
        0.05,
        "--out",
        tmp_path,
    )
    reached = []
    for _ in range(2):
        code, out, _ = call(capsys, *options)
        (row,) = read_lines(tmp_path / "speed.jsonl")
        assert code == 0 and row["benchmark"] == "gpu recipe A"
        reached.append(row["epoch"])
    assert 0 < reached[0] < reached[1] < 5000
    assert re.search(r"Going on after step \d+ of 20000\.", out)


def test_quick_without_out_leaves_nothing_behind(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "LEDGER", tmp_path / "speed.jsonl")
    assert call(capsys, "--quick", "--parts", "train", "--epochs", 1)[0] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--parts", "speed,fly"], "there is no part 'fly'"),
        (["--batches", "1"], "no list of batch sizes"),
        (["--batches", "128;512"], "no list of batch sizes"),
        (["--minutes", "0"], "--minutes is 0.0, expected a number above 0"),
        (["--minutes", "nan"], "--minutes is nan"),
        (["--epochs", "-1"], "--epochs is -1"),
        (["--workers", "-1"], "--workers is -1"),
        (["--recipe", "C"], "invalid choice: 'C'"),
        (["--device", "gpu"], "expected auto, cpu or cuda"),
        (["--device", "cpu", "--graph"], "needs a CUDA device"),
        (["--test", "patterns"], "give --data too"),
        (["--data", "no-such-set"], "no data set 'no-such-set'"),
        (["--data", "file:nowhere.safetensors"], "There is no file 'nowhere.safetensors'"),
        (["--out", "/dev/null/x"], "Cannot write"),
        (["--parts", "speed", "--batches", "200", "--device", "cpu"], "larger than the training set"),
    ],
)
def test_bad_input_is_told_in_one_sentence(capsys, arguments, said):
    code, _, error = call(capsys, "--quick", *arguments)
    assert code == 2 and said in error and len(error.strip().splitlines()) == 1
