"""The command line does what it says; bad input is one sentence on standard error, exit code 2, nothing left behind."""

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import call
from PIL import Image
from safetensors.torch import save_file

from simsiam_course import checkpoint as ckpt
from simsiam_course import cli
from simsiam_course.data import ImageSet, patterns
from simsiam_course.files import read_lines, write_lines

KEYS = {"loss", "std", "effective_rank", "knn", "linear", "raw_pixels_knn", "random_backbone_knn", "images_seen",
        "seconds", "images_per_second", "diagnosis"}  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Small image sets: whole files, damaged ones, and folders of pictures."""
    folder = tmp_path_factory.mktemp("sets")
    patterns(200, seed=1).save(folder / "train.safetensors")
    patterns(100, seed=2).save(folder / "test.safetensors")
    ImageSet(patterns(200, size=24, seed=1).images[..., :16, :]).save(folder / "wide.safetensors")
    images, labels = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    save_file({"images": images.float(), "labels": labels}, folder / "float.safetensors")
    save_file({"images": images[:, 0].clone(), "labels": labels}, folder / "flat.safetensors")
    save_file({"images": images, "labels": labels[:3]}, folder / "count.safetensors")
    save_file({"images": images, "labels": labels - 2}, folder / "negative.safetensors")
    save_file(
        {"images": images, "labels": labels + 5}, folder / "range.safetensors", {"classes": '["a", "b"]'}
    )
    save_file({"pictures": images}, folder / "keys.safetensors")
    data = (folder / "train.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(data[: len(data) // 2])
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / "pets" / label).mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(0, 255, (20 + i, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pets" / label / f"{i}.png")
    (folder / "empty").mkdir()
    (folder / "words").mkdir()
    (folder / "words" / "a.txt").write_text("no picture")
    return folder


QUICK = ("--epochs", 2, "--batch-size", 32)


@pytest.fixture(scope="module")
def run_folder(sets):
    """A small trained run, as the command line leaves it."""
    from simsiam_course.recipe import Recipe
    from simsiam_course.train import fit

    recipe = Recipe(epochs=2, batch_size=32)
    fit(recipe.build(), patterns(200, seed=1), recipe, out=sets / "run", device="cpu", progress=False)
    return sets / "run"


def test_train_ends_with_one_json_line_and_evaluate_finds_the_same_figures(capsys, sets, tmp_path):
    data, test = f"file:{sets}/train.safetensors", f"file:{sets}/test.safetensors"
    code, out, _ = call(
        capsys, "train", "--data", data, "--test", test, *QUICK, "--out", tmp_path / "run", "--json"
    )
    trained = json.loads(out.splitlines()[-1])
    assert code == 0 and trained.keys() >= KEYS
    assert trained["images_seen"] == 2 * 192
    assert 0 <= trained["knn"] <= 1 and isinstance(trained["diagnosis"], str)
    code, out, _ = call(capsys, "evaluate", tmp_path / "run", "--data", data, "--test", test, "--json")
    evaluated = json.loads(out.splitlines()[-1])
    assert code == 0 and evaluated.keys() >= KEYS
    for key in KEYS - {"seconds", "images_per_second"}:
        assert evaluated[key] == trained[key]


def test_resume_goes_on_with_the_runs_own_recipe_and_refuses_a_contradiction(capsys, sets, tmp_path):
    data = ("--data", f"file:{sets}/train.safetensors", "--out", tmp_path)
    assert call(capsys, "train", *data, *QUICK, "--lr", 0.3)[0] == 0
    assert call(capsys, "train", *data, "--resume")[0] == 0
    code, _, err = call(capsys, "train", *data, "--resume", "--lr", 0.5)
    assert code == 2 and "another recipe (lr 0.3 and 0.5)" in err


def recipe_of(capsys, sets, folder, *options):
    code, _, err = call(capsys, "train", "--data", f"file:{sets}/train.safetensors", "--limit", 32,
                        "--batch-size", 16, "--epochs", 1, "--out", folder, *options)  # fmt: skip
    assert code == 0, err
    return ckpt.read_recipe(folder)


def test_a_preset_is_a_recipe_and_what_is_given_goes_before_it(capsys, sets, tmp_path):
    from simsiam_course.presets import SATELLITE

    recipe = recipe_of(capsys, sets, tmp_path / "named", "--preset", "satellite")
    assert {**recipe.to_dict(), **SATELLITE, "epochs": 1} == recipe.to_dict()
    recipe = recipe_of(capsys, sets, tmp_path / "given", "--preset", "satellite", "--lr", 0.07)
    assert (recipe.lr, recipe.augmentation) == (0.07, "satellite")
    recipe = recipe_of(capsys, sets, tmp_path / "none")
    assert (recipe.lr, recipe.augmentation) == (0.3, "cifar")  # a file's images are taken for photographs


def test_a_run_goes_on_with_its_own_preset_and_with_no_other(capsys, sets, tmp_path):
    recipe = recipe_of(capsys, sets, tmp_path, "--preset", "digits", "--seed", 3)
    options = ("--resume", "--preset", "digits")
    assert recipe_of(capsys, sets, tmp_path, *options) == recipe  # the seed need not be said again
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for other in ("default", "satellite"):
        code, _, err = call(capsys, "train", "--data", f"file:{sets}/train.safetensors", "--limit", 32, "--batch-size",
                            16, "--epochs", 1, "--out", tmp_path, "--resume", "--preset", other)  # fmt: skip
        assert code == 2 and "another recipe (" in err and "augmentation digits and" in err
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_a_command_it_shows_its_help(capsys):
    assert call(capsys) == call(capsys, "--help")
    code, out, err = call(capsys)
    assert (code, err) == (0, "") and len(out.splitlines()) > 15 and "  ablate  " in out


def test_the_help_of_train_has_a_line_for_every_preset(capsys):
    from simsiam_course.presets import PRESETS, WHAT_FOR

    assert WHAT_FOR.keys() == PRESETS.keys()
    lines = [line.strip() for line in call(capsys, "train", "--help")[1].splitlines()]
    for name, said in WHAT_FOR.items():
        assert any(line.split() == [name, *said.split()] for line in lines), name


@pytest.mark.parametrize("data", ["folder:{}/pets", "folder:{}/pets/cat", "digits"])
def test_pictures_in_folders_with_and_without_classes_train(capsys, sets, tmp_path, data):
    code, out, _ = call(capsys, "train", "--data", data.format(sets), *QUICK, "--limit", 64, "--size", 16,
                        "--out", tmp_path / "run", "--json")  # fmt: skip
    result = json.loads(out.splitlines()[-1])
    assert code == 0
    labelled = not data.endswith("cat")
    assert (result["knn"] is not None) == (result["linear"] is not None) == labelled
    assert labelled or "fewer than two classes" in result["note"]


def save(path, mode="RGB", size=(20, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name) * size[0]).integers(
        0, 255, (size[1], size[0], 3), dtype=np.uint8
    )
    Image.fromarray(noise).convert(mode).save(path, **options)


def odd_folder(place):
    """Two classes of what people really have in their folders: 20 pictures that can be read and 3 that cannot."""
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    for name in ("Bäume", "道"):
        save(place / name / "grey.png", "L", (300, 20))
        save(place / name / "clear.PNG", "RGBA", (1, 90))
        save(place / name / "palette.gif", "P")
        save(place / name / "print.JPG", "CMYK")
        save(place / name / "turned.jpeg", exif=upside_down)
        save(place / name / "deep" / "er" / "fax.tif", "1", (900, 700))
        save(place / name / "with space's.webp", "RGB")
        save(place / name / "bits.bmp", "L", (8, 8))
        frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
        frames[0].save(place / name / "moving.gif", save_all=True, append_images=frames[1:])
        Image.fromarray((np.arange(400).reshape(20, 20) * 160).astype(np.uint16)).save(
            place / name / "x16.png"
        )
    save(place / "道" / ".hidden.png")
    save(place / ".thumbnails" / "a.png")
    (place / "道" / "notes.txt").write_text("no picture")
    (place / "道" / "empty.jpg").write_bytes(b"")
    whole = (place / "道" / "turned.jpeg").read_bytes()
    (place / "道" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (place / "道" / "text.png").write_text("no picture")
    return place


def test_a_folder_of_odd_pictures_trains_and_is_diagnosed_without_a_word_of_code(capsys, tmp_path):
    data = ("--data", f"folder:{odd_folder(tmp_path / 'odd')}", "--json")
    code, out, err = call(capsys, "train", *data, "--batch-size", 8, "--epochs", 2, "--out", tmp_path / "run")
    trained = json.loads(out.splitlines()[-1])
    assert code == 0 and "Traceback" not in err and "folders.py" not in err
    (warning,) = [line for line in err.splitlines() if line.startswith("Warning:")]
    assert "Skipped 3 broken pictures" in warning
    assert all(name in warning for name in ("empty.jpg", "half.jpg", "text.png"))
    assert (
        trained["images_seen"] == 32 and trained["knn"] is not None
    )  # 16 pictures to learn from, 4 for testing
    assert (trained["light"], trained["diagnosis"]) == ("amber", "too short")
    code, out, _ = call(capsys, "evaluate", tmp_path / "run", *data)
    evaluated = json.loads(out.splitlines()[-1])
    assert code == 0
    assert all(
        evaluated[key] == trained[key] for key in ("knn", "std", "loss", "diagnosis", "light", "advice")
    )


@pytest.mark.parametrize(("count", "said"), [
    (1, "too few to set 20% aside"), (6, "leaves 1 image for testing, expected at least 2"),
    (12, "give a batch of at most 10 (--batch-size), or more images"),
])  # fmt: skip
def test_very_few_pictures_are_one_sentence_before_any_training(capsys, tmp_path, count, said):
    for i in range(count):
        save(tmp_path / "few" / f"{i}.png", size=(20 + i, 20))
    code, _, err = call(capsys, "train", "--data", f"folder:{tmp_path / 'few'}", "--out", tmp_path / "run")
    sentences = [line for line in err.splitlines() if line and not line.startswith("reading")]
    assert code == 2 and len(sentences) == 1 and said in sentences[0]
    assert not (tmp_path / "run").exists()


def test_pictures_of_one_class_are_trained_and_evaluated_without_labels(capsys, tmp_path):
    for i in range(20):
        save(tmp_path / "one" / "cat" / f"{i}.png", size=(20 + i, 20))
    data = ("--data", f"folder:{tmp_path / 'one'}", "--json")
    for arguments in (("train", *data, "--batch-size", 8, "--epochs", 1, "--out", tmp_path / "run"),
                      ("evaluate", tmp_path / "run", *data)):  # fmt: skip
        code, out, _ = call(capsys, *arguments)
        result = json.loads(out.splitlines()[-1])
        assert code == 0 and result["knn"] is None and "fewer than two classes" in result["note"]


BAD = {
    "unknown data": (["train", "--data", "imagenet22k"], "imagenet22k"),
    "no data": (["train"], "--data"),
    "missing folder": (["train", "--data", "folder:{}/nowhere"], "nowhere"),
    "empty folder": (["train", "--data", "folder:{}/empty"], "empty"),
    "folder of words": (["train", "--data", "folder:{}/words"], "words"),
    "missing file": (["train", "--data", "file:{}/nowhere.safetensors"], "nowhere"),
    "cut file": (["train", "--data", "file:{}/cut.safetensors"], "cut"),
    "float images": (["train", "--data", "file:{}/float.safetensors"], "uint8"),
    "flat images": (["train", "--data", "file:{}/flat.safetensors"], "(N, 3, H, W)"),
    "missing keys": (["train", "--data", "file:{}/keys.safetensors"], "images"),
    "wrong count": (["train", "--data", "file:{}/count.safetensors"], "Labels"),
    "negative labels": (["train", "--data", "file:{}/negative.safetensors"], "Label -2"),
    "labels out of range": (["train", "--data", "file:{}/range.safetensors"], "Label 5"),
    "no epochs": (["train", "--data", "patterns", "--epochs", "0"], "epochs is 0"),
    "epochs in words": (["train", "--data", "patterns", "--epochs", "ten"], "--epochs"),
    "batch of one": (["train", "--data", "patterns", "--batch-size", "1"], "batch_size is 1"),
    "batch too large": (
        ["train", "--data", "file:{}/train.safetensors", "--batch-size", "500"],
        "batch of 500",
    ),
    "lr of zero": (["train", "--data", "patterns", "--lr", "0"], "lr is 0"),
    "negative lr": (["train", "--data", "patterns", "--lr", "-1"], "lr is -1"),
    "lr not a number": (["train", "--data", "patterns", "--lr", "nan"], "lr is nan"),
    "unknown backbone": (["train", "--data", "patterns", "--backbone", "vgg"], "vgg"),
    "unknown predictor": (["train", "--data", "patterns", "--predictor", "tree"], "tree"),
    "unknown switch": (["train", "--data", "patterns", "--stop-gradient", "off"], "off"),
    "unknown device": (["train", "--data", "patterns", "--device", "tpu"], "tpu"),
    "evaluate on no device": (["evaluate", "{}/run", "--data", "patterns", "--device", "tpu"], "tpu"),
    "images that cannot be turned": (
        ["train", "--data", "file:{}/wide.safetensors", "--preset", "satellite", "--out", "run"],
        "--augmentation",
    ),
    "no limit": (["train", "--data", "patterns", "--limit", "0"], "limit"),
    "size of nothing": (["train", "--data", "folder:{}/pets", "--size", "0"], "Size 0"),
    "resume what": (["train", "--data", "patterns", "--resume"], "--out"),
    "out in a file": (["train", "--data", "patterns", "--out", "{}/words/a.txt/run"], "a.txt"),
    "out is a file": (["train", "--data", "patterns", "--out", "{}/words/a.txt"], "a.txt"),
    "demo in a file": (["demo", "--out", "{}/words/a.txt/demo"], "a.txt"),
    "demo of no seeds": (["demo", "--seeds", "0"], "--seeds"),
    "unknown preset": (["train", "--data", "patterns", "--preset", "satelite"], "did you mean 'satellite'?"),
    "a preset like no other": (
        ["train", "--data", "patterns", "--preset", "x"],
        "choose one of default, digits",
    ),
    "unknown method": (["train", "--data", "patterns", "--method", "dino"], "method is 'dino'"),
    "experiment and all": (["ablate", "collapse", "--all"], "takes one of"),
    "experiment and list": (["ablate", "collapse", "--list"], "takes one of"),
    "tables and list": (["ablate", "--tables", "--list"], "takes one of"),
    "all three": (["ablate", "--all", "--tables", "--list"], "takes one of"),
    "no experiment": (["ablate"], "the name of an experiment, --all, --list, --tables"),
    "no jobs": (["ablate", "collapse", "--jobs", "0"], "--jobs is 0"),
    "jobs in words": (["ablate", "collapse", "--jobs", "two"], "--jobs"),
    "tables of nothing": (["ablate", "--tables", "--out", "{}/empty"], "holds no results"),
    "tables of a file": (["ablate", "--tables", "--out", "{}/words/a.txt"], "holds no results"),
    "all in a file": (["ablate", "--all", "--out", "{}/words/a.txt/results"], "a.txt"),
    "ablate on no device": (["ablate", "collapse", "--device", "tpu"], "tpu"),
    "no such run": (["evaluate", "{}/nowhere", "--data", "patterns"], "holds no run"),
    "no run in it": (["evaluate", "{}/pets", "--data", "patterns"], "holds no run"),
    "unknown experiment": (["ablate", "everything"], "everything"),
    "no seeds": (["ablate", "collapse", "--seeds", "0"], "--seeds"),
    "no results": (["report", "{}/empty"], "holds no results"),
    "no folder of results": (["report", "{}/nowhere"], "holds no results"),
    "unknown command": (["dance"], "dance"),
    "unknown option": (["train", "--data", "patterns", "--speed", "9"], "--speed"),
}
if not torch.cuda.is_available():
    BAD["no cuda"] = (["train", "--data", "patterns", "--device", "cuda"], "no CUDA device")


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(capsys, sets, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    arguments, part = BAD[case]
    code, out, err = call(capsys, *(a.format(sets) for a in arguments))
    assert code == 2
    assert part in err and len(err.splitlines()) == 1 and "Traceback" not in out + err
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("method", ["simclr", "moco", "vicreg"])
def test_a_relative_is_trained_by_name_and_evaluate_reads_it_back(capsys, sets, tmp_path, method):
    from simsiam_course.relatives import FORMULAS

    data = ("--data", f"file:{sets}/train.safetensors", "--test", f"file:{sets}/test.safetensors", "--json")
    code, out, _ = call(
        capsys,
        "train",
        *data,
        "--method",
        method,
        "--epochs",
        1,
        "--batch-size",
        32,
        "--out",
        tmp_path / "run",
    )
    trained = json.loads(out.splitlines()[-1])
    assert code == 0 and trained.keys() >= KEYS
    assert FORMULAS[method].items() <= json.loads((tmp_path / "run" / ckpt.RECIPE).read_text()).items()
    code, out, _ = call(capsys, "evaluate", tmp_path / "run", *data)
    evaluated = json.loads(out.splitlines()[-1])
    assert code == 0
    for key in KEYS - {"seconds", "images_per_second"}:
        assert evaluated[key] == trained[key]


def test_what_is_given_goes_before_the_formula_of_the_method(capsys, sets, tmp_path):
    code, _, _ = call(capsys, "train", "--data", f"file:{sets}/train.safetensors", "--method", "simclr", "--epochs", 1,
                      "--batch-size", 32, "--predictor", "linear", "--out", tmp_path)  # fmt: skip
    recipe = ckpt.read_recipe(tmp_path)
    assert code == 0
    assert (recipe.method, recipe.predictor, recipe.stop_gradient) == ("simclr", "linear", "none")


def test_a_method_without_a_formula_is_simsiam_with_another_target(capsys, sets, tmp_path):
    code, _, _ = call(capsys, "train", "--data", f"file:{sets}/train.safetensors", "--method", "alternating",
                      "--epochs", 1, "--batch-size", 32, "--out", tmp_path)  # fmt: skip
    assert code == 0
    recipe = ckpt.read_recipe(tmp_path)
    assert (recipe.method, recipe.predictor, recipe.stop_gradient) == ("alternating", "mlp", "target")


def test_the_loss_of_a_relative_is_no_evidence_for_its_diagnosis(monkeypatch):
    """NT-Xent of 5 nats is no cosine of 5."""
    from simsiam_course import collapse, evaluate
    from simsiam_course.recipe import Recipe

    figures = {"loss": -0.6, "std": 1.0, "effective_rank": 20.0, "dim": 256, "knn": 0.8, "linear": 0.8}
    history = [{"step": 10 * i, "loss": 5 - i / 10, "std": 1.0, "effective_rank": 20.0} for i in range(1, 30)]
    told = []
    monkeypatch.setattr(evaluate, "measure", lambda *args, **options: figures)
    monkeypatch.setattr(evaluate, "baselines", lambda *args: {})
    sound = collapse.diagnose
    monkeypatch.setattr(
        collapse, "diagnose", lambda measurements: told.append(measurements) or sound(measurements)
    )
    cli._measured(None, Recipe(method="simclr", predictor="none"), None, None, history)
    cli._measured(None, Recipe(), None, None, history)
    losses = [{row["loss"] for row in measurements["history"]} for measurements in told]
    assert losses == [{None}, {row["loss"] for row in history}]


@pytest.fixture
def made_up_course(tmp_path):
    """A folder of the course's ledgers, two made-up seeds each."""
    from simsiam_course import ablate
    from simsiam_course.files import write_lines

    for experiment in ablate.COURSE:
        rows = [
            dict.fromkeys(ablate.MEASURED, 1 / (2 + i + seed / 10)) | {
                "experiment": experiment.name, "variant": variant, "seed": seed, "diagnosis": "healthy",
                "recipe": experiment.recipe(variant, seed).to_dict(), "history": [],
            }
            for seed in range(2)
            for i, variant in enumerate(experiment.variants)
        ]  # fmt: skip
        write_lines(tmp_path / experiment.ledger, rows)
    return tmp_path


def test_tables_are_those_of_the_folder_which_stays_as_it_is(capsys, made_up_course):
    from simsiam_course import ablate

    before = {path.name: path.read_bytes() for path in made_up_course.iterdir()}
    code, out, _ = call(capsys, "ablate", "--tables", "--out", made_up_course)
    assert code == 0
    assert out == ablate.course_tables(made_up_course) + "\n"
    assert all(f"{experiment.name}: {experiment.title}" in out for experiment in ablate.COURSE)
    assert out.endswith("directions are the paper's.\n")
    assert {path.name: path.read_bytes() for path in made_up_course.iterdir()} == before


def test_the_list_names_every_experiment_with_its_minutes(capsys, monkeypatch):
    from simsiam_course import ablate

    monkeypatch.setattr(ablate.tables, "load_pair", lambda name: (None, None))
    monkeypatch.setattr(ablate.tables, "seconds_per_run", lambda recipe, images, device: 30.0)
    code, out, _ = call(capsys, "ablate", "--list")
    lines = out.splitlines()[1:]
    assert code == 0 and [line.split()[0] for line in lines] == list(ablate.EXPERIMENTS)
    for line, experiment in zip(lines, ablate.EXPERIMENTS.values(), strict=True):
        assert experiment.title in line
        assert float(line.split()[2]) == pytest.approx(
            len(experiment.variants) * 0.6, abs=0.05
        )  # 30 s and a fifth


def test_an_experiment_is_run_and_its_ledger_named(capsys, sets, tmp_path, monkeypatch):
    from simsiam_course import ablate

    small = replace(
        ablate.COLLAPSE, data=f"file:{sets}/train.safetensors", variants={"simsiam": {}, "none": {"predictor": "none"}},
        base={"epochs": 1, "batch_size": 32},
    )  # fmt: skip
    monkeypatch.setitem(ablate.EXPERIMENTS, "collapse", small)
    ledger = tmp_path / "mine.jsonl"
    code, out, _ = call(capsys, "ablate", "collapse", "--seeds", 2, "--out", ledger)
    assert code == 0 and f"Ledger: {ledger}. A page of it: simsiam-course report {ledger}" in out
    rows = ablate.read_ledger(ledger)
    assert [(row["variant"], row["seed"]) for row in rows] == [
        ("simsiam", 0), ("none", 0), ("simsiam", 1), ("none", 1),
    ]  # fmt: skip
    assert ablate.format_table(ablate.table(rows)) in out


@pytest.mark.parametrize("given", [True, False])
def test_all_makes_the_courses_ledgers_where_it_is_told_or_in_the_clone(capsys, tmp_path, monkeypatch, given):
    from simsiam_course import ablate

    asked = []

    def run_all(folder, **options):
        asked.append((folder, options))
        yield from ({}, {}, {})

    monkeypatch.setattr(ablate, "run_all", run_all)
    monkeypatch.setattr(cli, "_lessons", lambda: tmp_path / "clone" / "notebooks")
    code, out, _ = call(capsys, "ablate", "--all", "--jobs", 2, *(["--out", tmp_path] if given else []))
    folder = tmp_path if given else tmp_path / "clone" / "data" / "results"
    assert code == 0
    assert [(place, options["jobs"]) for place, options in asked] == [(folder, 2)]
    assert out == f"3 runs in {folder}. Their tables: simsiam-course ablate --tables --out {folder}\n"


def test_evaluate_of_images_of_one_class_is_refused(capsys, sets, run_folder, tmp_path):
    one = patterns(50, seed=3)
    one = one.subset(torch.where(one.labels == 0)[0])
    one.save(tmp_path / "one.safetensors")
    code, _, err = call(capsys, "evaluate", run_folder, "--data", f"file:{tmp_path}/one.safetensors")
    assert code == 2 and "images of one class only" in err and len(err.splitlines()) == 1


def test_images_whose_test_part_has_one_class_are_trained_and_evaluated(capsys, tmp_path):
    images = patterns(60, seed=3)
    images = replace(images, labels=(images.labels == 0).long())
    images.save(tmp_path / "two.safetensors")
    images.subset(images.labels == 0).save(tmp_path / "one.safetensors")
    two, one = (f"file:{tmp_path}/{name}.safetensors" for name in ("two", "one"))
    data = ("--data", two, "--test", one, "--json")
    for arguments in (("train", *data, "--batch-size", 16, "--epochs", 1, "--out", tmp_path / "run"),
                      ("evaluate", tmp_path / "run", *data)):  # fmt: skip
        code, out, err = call(capsys, *arguments)
        assert code == 0, err
        result = json.loads(out.splitlines()[-1])
        assert result["knn"] is None and "the test images have labels of fewer than two" in result["note"]


def test_the_random_backbone_is_measured_where_the_trained_one_is(monkeypatch):
    from simsiam_course import collapse, evaluate
    from simsiam_course.recipe import Recipe

    made = []
    monkeypatch.setattr(evaluate, "measure", lambda *args, **options: {})
    monkeypatch.setattr(evaluate, "baselines", lambda train, test, make: made.append(make()) or {})
    monkeypatch.setattr(collapse, "diagnose", lambda measurements: collapse.Diagnosis("healthy", "", ""))
    cli._measured(Recipe().build().to("meta"), Recipe(), None, None, [])
    assert {weight.device.type for weight in made[0].parameters()} == {"meta"}


@pytest.mark.parametrize(("row", "code", "said"), [
    ({}, 0, ""), ({"seconds": "long", "images_seen": 2}, 2, "seconds is 'long', expected a finite number"),
])  # fmt: skip
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_odd_history_is_no_traceback(capsys, sets, run_folder, tmp_path, command, row, code, said):
    shutil.copytree(run_folder, tmp_path / "run")
    rows = read_lines(tmp_path / "run" / ckpt.HISTORY)
    write_lines(tmp_path / "run" / ckpt.HISTORY, [*rows[:-1], row])
    patterns(200, seed=1).save(tmp_path / "train.safetensors")
    where = ["train", "--resume", "--out"] if command == "train" else ["evaluate"]
    data = ("--data", f"file:{tmp_path}/train.safetensors", "--test", f"file:{sets}/test.safetensors")
    ended, _, err = call(capsys, *where, tmp_path / "run", *data)
    assert ended == code and said in err and len(err.splitlines()) == (code == 2), err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_output_that_takes_nothing_is_one_sentence():
    command = [sys.executable, "-m", "simsiam_course", "ablate", "--tables"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "Cannot write the output: no space left on device; free some" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_trains_with_standard_error_closed(capsys, sets, tmp_path, monkeypatch):
    arguments = ("train", "--data", f"file:{sets}/train.safetensors", *QUICK, "--out", tmp_path / "run")
    with monkeypatch.context() as closed:
        closed.setattr(sys, "stderr", None)
        code, out, _ = call(capsys, *arguments)
    assert code == 0 and "diagnosis" in out


def test_evaluate_of_images_without_labels_leaves_the_accuracies_out(capsys, run_folder, sets):
    code, out, _ = call(capsys, "evaluate", run_folder, "--data", f"folder:{sets}/pets/cat", "--json")
    result = json.loads(out.splitlines()[-1])
    assert code == 0 and result["knn"] is None and result["linear"] is None and result["std"] > 0
    assert "fewer than two classes" in result["note"]


def test_a_run_that_is_there_is_refused_before_any_data_is_loaded(capsys, run_folder):
    before = {p.name: p.read_bytes() for p in run_folder.iterdir()}
    code, _, err = call(capsys, "train", "--data", "folder:/nowhere", "--out", run_folder)
    assert code == 2 and "holds a run already" in err
    assert {p.name: p.read_bytes() for p in run_folder.iterdir()} == before


def test_a_full_disk_ends_with_one_sentence_and_keeps_the_last_good_checkpoint(sets, tmpfs):
    folder = tmpfs("size=3m")
    train = [sys.executable, "-m", "simsiam_course", "train", "--data", f"file:{sets}/train.safetensors",
             "--batch-size", "32", "--epochs", "400", "--out", str(folder / "run")]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(train, stderr=subprocess.PIPE, text=True, env=environment)
    while process.poll() is None and not (folder / "run" / ckpt.HISTORY).exists():
        time.sleep(0.05)
    with open(folder / "ballast", "wb", buffering=0) as ballast:
        while process.poll() is None:  # what the run frees is taken, too
            with contextlib.suppress(OSError):
                ballast.write(bytes(2**16))
            time.sleep(0.001)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "the disk is full" in err and len(err.splitlines()) == 1
    assert ckpt.load_run(folder / "run")[2]["step"] >= 0
    assert not list((folder / "run").glob("*.tmp"))


@pytest.mark.parametrize(
    "number, code, word", [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")]
)
def test_a_signal_ends_a_run_with_one_sentence_and_resume_goes_on(
    capsys, sets, tmp_path, monkeypatch, number, code, word
):
    from simsiam_course import train as train_module

    sound = train_module.append_line

    def append_line(path, row):
        sound(path, row)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(train_module, "append_line", append_line)
    command = ("train", "--data", f"file:{sets}/train.safetensors", *QUICK, "--out", tmp_path / "run")
    before = signal.getsignal(number)
    ended, out, err = call(capsys, *command)
    assert ended == code and out == ""
    assert err.startswith(f"{word}: a run goes on with --out and --resume") and len(err.splitlines()) == 1
    assert signal.getsignal(number) is before
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        ckpt.CHECKPOINT,
        ckpt.HISTORY,
        ckpt.RECIPE,
    }
    monkeypatch.setattr(train_module, "append_line", sound)
    assert call(capsys, *command, "--resume")[0] == 0


def test_a_diverged_run_is_one_sentence_with_the_step_and_the_place_of_the_last_good_checkpoint(
    capsys, sets, tmp_path
):
    code, _, err = call(capsys, "train", "--data", f"file:{sets}/train.safetensors", "--epochs", 2, "--batch-size", 32,
                        "--lr", 1e30, "--out", tmp_path)  # fmt: skip
    assert code == 2 and len(err.splitlines()) == 1
    assert "finite number at step 10:" in err and f"The last good checkpoint is in '{tmp_path}'" in err
    assert all(weight.isfinite().all() for weight in ckpt.load_run(tmp_path)[0].parameters())


def test_a_second_process_on_a_run_is_refused_and_evaluate_is_not(capsys, sets, run_folder):
    from simsiam_course.lock import folder_lock

    with folder_lock(run_folder):
        data = ("--data", f"file:{sets}/train.safetensors")
        code, _, err = call(capsys, "train", *data, "--out", run_folder, "--resume")
        assert code == 2 and err == (
            f"Another process is writing '{run_folder}': wait until it has ended, or choose another place.\n"
        )
        assert call(capsys, "evaluate", run_folder, *data)[0] == 0


def test_a_read_only_place_is_refused_even_for_root(capsys, tmpfs):
    code, _, err = call(capsys, "train", "--data", "patterns", "--out", tmpfs("ro") / "run")
    assert code == 2 and "Cannot write" in err and len(err.splitlines()) == 1


def test_doctor_says_what_is_here(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSIAM_CACHE", str(tmp_path))
    (tmp_path / "FashionMNIST").mkdir()
    code, out, _ = call(capsys, "doctor", "--json")
    found = json.loads(out.splitlines()[-1])
    assert code == 0
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert found["threads"] == torch.get_num_threads() and found["demo_minutes"] > 0
    assert found["data"] == ["FashionMNIST"]


def test_lab_without_a_checkout_is_one_sentence(capsys, monkeypatch):
    import simsiam_course

    monkeypatch.setattr(simsiam_course, "checkout", lambda: None)
    code, _, err = call(capsys, "lab")
    assert code == 2 and "clone the repository" in err


def test_the_module_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "simsiam_course", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("demo", "train", "evaluate", "ablate", "report", "doctor", "lab"):
        assert f"  {command} " in done.stdout


def test_the_console_script_is_installed():
    assert (Path(sys.executable).parent / "simsiam-course").exists()
