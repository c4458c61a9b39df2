"""The CPU benchmark: what it writes, and that everyone in it does the same work."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import fields, replace
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace

import cpu
import numpy as np
import peers
import pytest
import torch
import views
from account import CONVOLUTION, KINDS, NORM, PRODUCT, RELU, bytes_moved, kind_of, operations
from cpu_tables import PARTS
from rounds import Summary, alternate, keep, ratio, summary
from torch import nn

from simsiam_course.augment import PRESETS, Augmentation
from simsiam_course.data import ImageSet, patterns
from simsiam_course.errors import InputError
from simsiam_course.files import read_lines
from simsiam_course.model import SimSiam
from simsiam_course.recipe import Recipe
from simsiam_course.train import Trainer

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("lightly-0", "kornia", "torchvision-0")


# Rounds: turns, ratios and the ledger


def test_everyone_has_a_turn_in_every_round_and_the_first_one_moves_on():
    order = []
    turns = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    rates = alternate(turns, 3)
    rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert sorted(rounds[0]) == ["a", "b", "c"]  # warms up, and is not counted
    assert rounds[1:] == ["abc", "bca", "cab"]
    assert rates == {"a": [4, 9, 11], "b": [5, 7, 12], "c": [6, 8, 10]}


def test_a_ratio_is_taken_round_by_round():
    assert ratio([10, 40, 90], [10, 20, 30]) == Summary(2, 1, 3)
    assert summary([3, 1, 2]) == Summary(2, 1, 3)
    assert f"{Summary(1234.5, 1000, 2000)}" == "1,234 (1,000 to 2,000)"


def test_rows_replace_those_of_the_same_benchmark_and_machine_only(tmp_path):
    path = tmp_path / "results" / "speed.jsonl"
    here, there = ({"cpu": cpu, "gpu": None} for cpu in ("here", "there"))
    for benchmark, machine, value in [("a", here, 1), ("a", there, 2), ("b", here, 3), ("a", here, 4)]:
        keep(benchmark, [{"value": value}], machine, path)
    rows = [(row["benchmark"], row["machine"]["cpu"], row["value"]) for row in read_lines(path)]
    assert rows == [("a", "there", 2), ("b", "here", 3), ("a", "here", 4)]
    assert [file.name for file in path.parent.iterdir()] == ["speed.jsonl"]


# The whole of it, a little of everything


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Path:
    """The folder that `--quick` filled."""
    out = tmp_path_factory.mktemp("results")
    command = [sys.executable, str(ROOT / "benchmarks" / "cpu.py"), "--quick", "--out", str(out)]
    done = subprocess.run(
        command,
        cwd=out,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (out / "printed.txt").write_text(done.stdout)
    return out


@pytest.fixture(scope="module")
def parts(quick) -> dict[str, list[dict]]:
    found = defaultdict(list)
    for row in read_lines(quick / "speed.jsonl"):
        found[row["part"]].append(row)
    return dict(found)


def test_every_part_and_every_contestant_is_in_the_ledger(parts):
    assert tuple(parts) == PARTS
    for part in ("training", "augmentation"):
        assert [row["contestant"] for row in parts[part]] == list(cpu.QUICK.contestants)
    lightly = [row["contestant"] for row in parts["resnet18"] if row["contestant"].startswith("lightly")]
    best = max(parts["training"][1:3], key=lambda row: row["median"])["contestant"]
    assert lightly == [best]
    assert {"ours", "kornia", "torchvision-0", "torchvision-2"} < {
        row["contestant"] for row in parts["resnet18"]
    }
    assert {row["backbone"] for row in parts["resnet18"]} == {"resnet18"}


def test_rates_are_finite_and_ratios_are_theirs(parts):
    for part in ("training", "augmentation", "resnet18"):
        ours = parts[part][0]
        for row in parts[part]:
            assert len(row["rates"]) == cpu.QUICK.rounds
            assert 0 < row["low"] <= row["median"] <= row["high"] < math.inf
            times = row["ours_over_it"]
            assert ours["low"] / row["high"] * 0.999 <= times["median"] <= ours["high"] / row["low"] * 1.001
            assert times == ratio(ours["rates"], row["rates"])._asdict()


def test_the_account_adds_up_and_ends_with_the_fraction_of_the_limit(parts):
    by_what = ("stage", "kind", "monitors", "floor")
    stages, kinds, [monitors], [floor] = (
        [row for row in parts["account"] if row["what"] == what] for what in by_what
    )
    assert parts["account"][-1] is floor
    *taken, whole = stages
    assert sum(row["seconds"] for row in taken) == pytest.approx(whole["seconds"])
    assert {row["name"] for row in kinds} == {*KINDS, "drawing and augmenting", "optimiser", "rest"}
    assert sum(row["share"] for row in kinds) == pytest.approx(1)
    assert all(row["share"] > 0.001 for row in kinds if row["name"] in (CONVOLUTION, NORM, PRODUCT))
    assert all(0 < row["of_matrix_rate"] < 1.5 for row in kinds if "operations" in row)
    assert all(row["of_memory_rate"] > 0 for row in kinds if "bytes" in row)
    assert 0 < monitors["share_by_row"] < 1 and math.isfinite(monitors["share"])
    assert 0 < floor["fraction"] < 1.5
    assert floor["fraction"] == pytest.approx(floor["images_per_second"]["median"] / floor["limit"])


def test_every_switch_is_held_against_none(parts):
    assert [row["switch"] for row in parts["switches"]] == list(cpu.QUICK.switches)
    none, *others = parts["switches"]
    assert none["gain"] == {"median": 1, "low": 1, "high": 1}
    for row in others:
        assert row["changes"] and row["gain"] == ratio(row["rates"], none["rates"])._asdict()


def test_knn_is_measured_after_every_pass_and_null_where_it_stays_below(parts):
    (row,) = parts["knn"]
    assert len(row["passes"]) == cpu.QUICK.epochs
    assert 0 < row["final"]["seconds"] <= row["final"]["with_measuring"]
    assert row["final"]["knn"] < 0.85 and row["seconds"] is None and row["pass"] is None


def test_the_recipes_choices_are_taken_back_one_by_one_and_together(parts):
    assert [row["changes"] for row in parts["choices"]] == [
        {}, {"predictor_lr": 1.0}, {"nesterov": False}, {"predictor_lr": 1.0, "nesterov": False}
    ]  # fmt: skip
    finals = [row["final"]["knn"] for row in parts["choices"]]
    assert len(set(finals)) > 1 and finals[0] == parts["knn"][0]["final"]["knn"]


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="memory is read where Linux shows it"
)
def test_memory_counts_the_workers(parts):
    base, ours, lightly = parts["memory"]
    assert [row["processes"] for row in parts["memory"]] == [1, 1, 3]
    assert 50 < base["peak_mb"] < ours["peak_mb"] < lightly["peak_mb"]
    assert all(row["shared_once_mb"] <= row["peak_mb"] for row in parts["memory"])


def test_the_tables_end_with_the_fraction_and_nothing_half_written_stays(quick, parts):
    floor = parts["account"][-1]
    assert (quick / "printed.txt").read_text().endswith(f"fraction of the limit: {floor['fraction']:.2f}\n")
    assert {file.name for file in quick.iterdir()} == {"speed.jsonl", "speed.png", "printed.txt"}


def test_the_figure_is_drawn_from_the_ledger_alone(quick, tmp_path, capsys):
    (tmp_path / "speed.jsonl").write_bytes((quick / "speed.jsonl").read_bytes())
    assert cpu.main(["--figure", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "speed.png").read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    assert "Images/s in training: ours" in printed and "Limit of the machine" in printed


# What is asked for wrongly, and what is stopped


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--rounds", "0"], "rounds is 0, expected a whole number"), (["--figure"], "measure first")],
)
def test_bad_options_are_one_sentence(options, sentence, tmp_path, capsys):
    assert cpu.main([*options, "--out", str(tmp_path / "new")]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert not (tmp_path / "new").exists()


def test_a_quick_run_does_not_replace_the_courses_ledger(capsys):
    assert cpu.main(["--quick", "--out", str(ROOT / "data" / "results")]) == 2
    assert "give another --out" in capsys.readouterr().err


def test_a_stopped_run_keeps_the_parts_that_are_done(tmp_path, monkeypatch):
    row = {"contestant": "ours", "unit": "images/s", "backbone": "tiny", "side": 32, "batch_size": 64, "steps": 1,
           "augmentation": "patterns", "rates": [1], "median": 1, "low": 1, "high": 1}  # fmt: skip

    def stop(*about):
        raise KeyboardInterrupt

    monkeypatch.setitem(cpu.MEASURES, "training", lambda *about: [row])
    monkeypatch.setitem(cpu.MEASURES, "augmentation", stop)
    assert cpu.main(["--only", "training", "augmentation", "--out", str(tmp_path)]) == 130
    assert [file.name for file in tmp_path.iterdir()] == ["speed.jsonl"]
    (kept,) = read_lines(tmp_path / "speed.jsonl")
    assert kept["part"] == "training" and json.dumps(row)[1:-1] in json.dumps(kept)


# The loops


def test_everyone_trains_the_model_of_the_recipe_and_leaves_no_worker():
    images, recipe = patterns(64, seed=0), Recipe(batch_size=16)
    fresh = recipe.build().state_dict()
    for name in ("ours", "lightly-2", "kornia", "torchvision-2"):
        contestant = peers.CONTESTANTS[name](images, recipe)
        assert all(torch.equal(fresh[key], value) for key, value in contestant.model.state_dict().items())
        assert contestant.train(3) > 0
        moved = contestant.model.state_dict()
        assert all(moved[key].isfinite().all() for key in fresh)
        norm = next(m for m in contestant.model.backbone.modules() if isinstance(m, nn.BatchNorm2d))
        assert norm.num_batches_tracked == 6  # a pass for each view
        assert not torch.equal(next(contestant.model.parameters()), next(recipe.build().parameters()))
        contestant.close()
    assert not active_children()


def test_a_loaders_pass_is_a_turn_of_whole_batches_in_a_new_order():
    images = patterns(32, seed=0)
    contestant = peers.CONTESTANTS["torchvision-2"](images, Recipe(batch_size=16))
    for steps in (1, 3):  # three batches are more than the images there are
        assert [len(x1) for x1, _ in contestant.pairs(steps)] == [16] * steps
    contestant.close()
    assert sorted(views.shuffled(5, 15).tolist()) == sorted([*range(5)] * 3)


def test_the_loops_loss_is_lightlys():
    from lightly.loss import NegativeCosineSimilarity

    z, p = torch.randn(2, 8, 5)
    assert torch.equal(peers.negative_cosine(z, p), NegativeCosineSimilarity()(z, p))


# The account


def test_operations_and_bytes_are_those_counted_by_hand():
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    model = SimSiam.create(backbone, 4, 8, 8, 4, projector_layers=2)
    trainer = Trainer(model, patterns(8, size=16, seed=0), Recipe(batch_size=4), device="cpu")
    pixels, weights = 4 * 4 * 16 * 16, 4 * 8 + 8 * 8 + 8 * 4 + 4 * 8
    assert operations(trainer) == {
        CONVOLUTION: 2
        * 2
        * (2 * pixels * 3 * 9),  # two views; forward, gradient of the weights but not of the images
        PRODUCT: 2 * 3 * (2 * 4 * weights),  # forward, and gradients of weights and inputs
    }
    assert bytes_moved(trainer) == {
        NORM: 2 * 8 * 4 * (pixels + 4 * (8 + 8 + 4)),  # two views, eight passes, four bytes
        RELU: 2 * 5 * 4 * (pixels + 4 * (8 + 4)),
    }


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["aten::copy_", "aten::convolution_backward", "backward"], CONVOLUTION),
        (["aten::native_batch_norm", "aten::batch_norm"], NORM),
        (["autograd::engine::evaluate_function: NativeBatchNormBackward0"], NORM),
        (["aten::clamp_min_", "aten::relu_"], RELU),
        (["aten::threshold_backward", "ReluBackward0"], RELU),
        (["aten::mm", "MmBackward0"], PRODUCT),
        (["aten::t", "AddmmBackward0"], PRODUCT),
        (["aten::addmm", "aten::linear"], PRODUCT),
        (["aten::mm", "aten::matmul", "drawing and augmenting"], "drawing and augmenting"),
        (["aten::add_", "Optimizer.step#SGD.step", "optimiser"], "optimiser"),
        (["aten::symmetric_thing", "backward"], "rest"),
    ],
)
def test_an_operations_kind_is_in_its_name_or_in_its_callers(names, kind):
    event = None
    for name in reversed(names):
        event = SimpleNamespace(name=name, cpu_parent=event)
    assert kind_of(event) == kind


# The augmentations: every knob alone, measured on views of one image that shows it

FULL = 32


def picture() -> ImageSet:
    """Brighter to the right and to the bottom, a little red, and finely striped."""
    y, x = torch.meshgrid(torch.arange(FULL), torch.arange(FULL), indexing="ij")
    luma = 128 + (x - 15.5) + (y - 15.5) + 8 * (-1.0) ** x  # (32, 32)
    red = torch.tensor([20.0, -10.0, -10.0])[:, None, None]
    return ImageSet((luma + red).round().to(torch.uint8).expand(256, 3, FULL, FULL).contiguous())


def measured(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a view shows of each knob, (N,) each; x: views of `picture` (N, 3, 32, 32), pixels in [0, 1]."""
    grey = x.mean(dim=1)  # (N, 32, 32)
    right = grey[:, :, 16:].mean(dim=(1, 2)) - grey[:, :, :16].mean(dim=(1, 2))
    down = grey[:, 16:].mean(dim=(1, 2)) - grey[:, :16].mean(dim=(1, 2))
    red, green, blue = x.mean(dim=(2, 3)).unbind(1)
    across, along = red - (green + blue) / 2, (green - blue) * math.sqrt(3) / 2
    colour, brightness = (across**2 + along**2).sqrt(), grey.mean(dim=(1, 2))
    stripes = grey.diff(n=2, dim=2).abs().mean(dim=(1, 2))
    return {
        "crop_scale": (right * down).abs(), "crop_ratio": (right / down).abs().log(), "flip": (right < 0).float(),
        "brightness": brightness, "contrast": right.abs(), "saturation": colour,
        "hue": torch.atan2(along, across), "jitter": ((brightness - brightness.median()).abs() > 0.004).float(),
        "gray": (colour < 0.005).float(), "blur": (stripes < 0.9 * 32 / 255).float(),
    }  # fmt: skip


OFF = Augmentation(
    crop_scale=(1, 1), flip=0, brightness=0, contrast=0, saturation=0, hue=0, jitter=1, gray=0, blur=0
)  # with the whole image there is no choice of a ratio
KNOBS = {  # what is switched on, and a wrong value
    "crop_scale": (("crop_scale",), (0.6, 1.0)),
    "crop_ratio": (("crop_ratio", "crop_scale"), (0.9, 1.1)),
    "flip": (("flip",), 0.25),
    "brightness": (("brightness",), 0.2),
    "contrast": (("contrast",), 0.2),
    "saturation": (("saturation",), 0.2),
    "hue": (("hue",), 0.05),
    "jitter": (("jitter", "brightness"), 0.4),
    "gray": (("gray",), 0.1),
    "blur": (("blur",), 0.25),
}
SHARES = ("flip", "jitter", "gray", "blur")


def level(name: str, knob: str, monkeypatch, **wrong) -> float:
    """The share of views in which a probability shows, or how far a strength spreads what it changes."""
    right = {each: getattr(PRESETS["imagenet"], each) for each in KNOBS[knob][0]}
    monkeypatch.setitem(PRESETS, "patterns", replace(OFF, **(right | wrong)))
    torch.manual_seed(0)
    np.random.seed(0)  # lightly's blur
    images = picture()
    contestant = peers.CONTESTANTS[name](images, Recipe(augmentation="patterns", batch_size=128))
    x = torch.cat([torch.cat(pair) for pair in contestant.pairs(4)])  # (1024, 3, 32, 32)
    values = measured(x * images.std[:, None, None] + images.mean[:, None, None])[knob]
    return (values.mean() if knob in SHARES else values.std()).item()


@pytest.mark.parametrize("knob", KNOBS)
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_peer_turns_the_knob_as_far_as_we_do(name, knob, monkeypatch):
    assert level(name, knob, monkeypatch) == pytest.approx(level("ours", knob, monkeypatch), rel=0.15)


@pytest.mark.parametrize("knob", KNOBS)
@pytest.mark.parametrize("name", ["ours", "torchvision-0"])
def test_a_wrong_knob_would_be_seen(name, knob, monkeypatch):
    mistaken = level(name, knob, monkeypatch, **{knob: KNOBS[knob][1]})
    assert mistaken != pytest.approx(level("ours", knob, monkeypatch), rel=0.3)


def test_every_knob_of_an_augmentation_is_compared():
    assert {field.name for field in fields(Augmentation)} - {*KNOBS} == {
        "blur_sigma",
        "solarize",
        "vertical_flip",
        "turn",
    }


def test_what_lightly_has_no_knob_for_is_refused():
    for wrong in ({"crop_ratio": (0.9, 1.1)}, {"solarize": 0.2}, {"crop_scale": (0.2, 0.9)}):
        with pytest.raises(InputError, match="no knob for"):
            views.lightly_transform(replace(OFF, **wrong), picture())
