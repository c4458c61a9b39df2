"""Bad input on the command line: one sentence on standard error, exit code 2, nothing trained and nothing written.

One table for all commands; every case names the part of the sentence that tells what was wrong. test_cli.py has
the plain cases of each option, this file those that come from files, names and characters.
"""

import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import call
from PIL import Image
from safetensors.torch import save, save_file

from simsiam_course import checkpoint as ckpt
from simsiam_course import cli
from simsiam_course.ablate import COLLAPSE, MEASURED
from simsiam_course.data import patterns
from simsiam_course.files import json_bytes
from simsiam_course.recipe import Recipe

RECIPE = Recipe(epochs=2, batch_size=32)
DEEP = "[" * 100_000  # deeper than a parser that calls itself can go


def ledger_row(**changes):
    """A whole row of a ledger, with some of it changed; `None` leaves a key out."""
    row = {
        "experiment": "collapse", "variant": "simsiam", "seed": 0, "images_seen": 64, "diagnosis": "healthy",
        "recipe": COLLAPSE.recipe("simsiam", 0).to_dict(), "history": [], "train_loss": -0.5, "device": "cpu",
        **dict.fromkeys(MEASURED, 0.5),
    }  # fmt: skip
    return {name: value for name, value in (row | changes).items() if value is not None}


def notebook(**changes):
    """A notebook of one empty cell."""
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "source": "1",
        "outputs": [],
        "execution_count": None,
    }
    return {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **changes}


LEDGERS = {  # name of a file -> its bytes
    "blank": b"",
    "newlines": b"\n\n\n",
    "broken_line": b'{"experiment": \n' + json_bytes(ledger_row()) + b"\n",
    "words": b"this is no ledger\nat all\n",
    "binary": b"\xff\xfe\x00\x01\n\x80\x81\n{}\n",
    "deep": DEEP.encode() + b"\n{}\n",
    "number": b"5\n",
    "list": b"[1, 2]\n",
    "null": b"null\n",
    "no_variant": json_bytes(ledger_row(variant=None)) + b"\n",
    "variant_list": json_bytes(ledger_row(variant=["a"])) + b"\n",
    "variant_escape": json_bytes(ledger_row(variant="\x1b[2Jred")) + b"\n",
    "other_version": json_bytes(ledger_row(recipe={"temperatur": 1})) + b"\n",
    "recipe_text": json_bytes(ledger_row(recipe="default")) + b"\n",
    "seed_text": json_bytes(ledger_row(seed="0")) + b"\n",
    "knn_text": json_bytes(ledger_row(knn="high")) + b"\n",
    "knn_infinite": json_bytes(ledger_row(knn=0.75)).replace(b"0.75", b"1e999") + b"\n",
    "history_text": json_bytes(ledger_row(history="long")) + b"\n",
    "history_rows": json_bytes(ledger_row(history=[1, 2])) + b"\n",
    "history_loss": json_bytes(ledger_row(history=[{"step": 1, "loss": "low"}])) + b"\n",
    "unknown_experiment": json_bytes(ledger_row(experiment="colapse")) + b"\n",
}
KNOBS = {  # name of a run folder -> what its recipe.json holds
    "empty_recipe": "",
    "deep_recipe": DEEP,
    "list_recipe": "[1, 2]",
    "binary_recipe": "\x00\x01\x02",
    "unknown_knob": json.dumps({"epoch": 3}),
    "text_knob": json.dumps({"lr": "fast"}),
    "nan_knob": '{"lr": NaN}',
    "infinite_knob": '{"lr": 1e999}',
    "bool_knob": json.dumps({"epochs": True}),
    "null_knob": json.dumps({"backbone": None}),
    "list_knob": json.dumps({"predictor": ["mlp"]}),
    "dict_knob": json.dumps({"method": {"name": "byol"}}),
    "float_layers": json.dumps({"projector_layers": 2.0}),
    "huge_width": json.dumps({"projection_dim": 10**9}),
    "huge_seed": json.dumps({"seed": 2**70}),
    "huge_epochs": json.dumps({"epochs": 10**300}),
    "huge_bank": json.dumps({"method": "moco", "bank_size": 10**15}),
    "huge_warmup": json.dumps({"warmup_steps": 10**400}),
    "digits_of_a_number": '{"seed": ' + "9" * 5_000 + "}",
    "negative_width": json.dumps({"hidden_dim": -256}),
}


def checkpoints(place):
    """Run folders whose recipe is sound and whose checkpoint is not."""
    sound = RECIPE.build()
    weights = ckpt.prefixed("model", {name: t.contiguous() for name, t in sound.state_dict().items()})
    about = {"recipe": RECIPE.to_dict(), "step": 1, "size": 32}
    header = {"format": ckpt.FORMAT, "about": json_bytes(about).decode()}
    whole = save(weights, header)
    first = next(iter(weights))
    other = Recipe(epochs=2, batch_size=32, projection_dim=128).build().state_dict()
    wide = ckpt.prefixed("model", {name: t.contiguous() for name, t in other.items()})
    files = {
        "ck_empty": b"",
        "ck_cut": whole[: len(whole) // 3],
        "ck_short": whole[:7],
        "ck_oversize": struct.pack("<Q", 2**60) + whole[8:],
        "ck_header_negative": struct.pack("<q", -1) + whole[8:],
        "ck_pickle": pickle.dumps({"model": 1}),
        "ck_zip": b"PK\x03\x04" + bytes(100),
        "ck_foreign": save({"weight": torch.zeros(3)}),
        "ck_version": save(weights, {**header, "format": "simsiam_course 99"}),
        "ck_about_words": save(weights, {**header, "about": "words"}),
        "ck_about_deep": save(weights, {**header, "about": DEEP}),
        "ck_about_list": save(weights, {**header, "about": "[]"}),
        "ck_no_recipe": save(weights, {**header, "about": "{}"}),
        "ck_bad_recipe": save(weights, {**header, "about": '{"recipe": {"lr": -1}}'}),
        "ck_other_recipe": save(
            weights, {**header, "about": json_bytes({"recipe": Recipe().to_dict()}).decode()}
        ),
        "ck_shapes": save(wide, header),
        "ck_missing": save({name: value for name, value in weights.items() if name != first}, header),
        "ck_extra": save({**weights, "model.extra": torch.zeros(1)}, header),
        "ck_integers": save({**weights, first: weights[first].to(torch.int32)}, header),
        "ck_size_text": save(weights, {**header, "about": json_bytes({**about, "size": "large"}).decode()}),
        "sound": whole,
    }
    for name, data in files.items():
        folder = place / name
        folder.mkdir()
        (folder / ckpt.RECIPE).write_bytes(json_bytes(RECIPE.to_dict()))
        (folder / ckpt.CHECKPOINT).write_bytes(data)
    for name, text in (("log_words", "a\nb\n"), ("log_numbers", "1\n2\n"), ("log_loss", '{"loss": "low"}\n')):
        folder = place / name
        folder.mkdir()
        (folder / ckpt.RECIPE).write_bytes(json_bytes(RECIPE.to_dict()))
        (folder / ckpt.CHECKPOINT).write_bytes(whole)
        (folder / ckpt.HISTORY).write_text(text)


def sets(place):
    """Image sets and folders of pictures that are of no use."""
    patterns(64, seed=1).save(place / "train.safetensors")
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    whole = (place / "train.safetensors").read_bytes()
    (place / "set_oversize.safetensors").write_bytes(struct.pack("<Q", 2**60) + whole[8:])
    (place / "set_pickle.safetensors").write_bytes(pickle.dumps(images.numpy()))
    (place / "set_words.safetensors").write_text("uint8 images, honestly")
    (place / "set_claims.safetensors").write_bytes(
        _claiming({"dtype": "U8", "shape": [2**40, 3, 32, 32], "data_offsets": [0, 9]})
    )
    save_file({"images": images[:0]}, place / "set_none.safetensors")
    save_file({"images": images[:, :, :4, :4].clone()}, place / "set_tiny.safetensors")
    save_file({"images": images, "labels": torch.zeros(4)}, place / "set_float_labels.safetensors")
    save_file({"images": images}, place / "set_classes.safetensors", {"classes": DEEP})
    save_file({"images": images}, place / "set_classes_words.safetensors", {"classes": "cat, dog"})
    save_file({"images": images[:, :, :16, :16].clone()}, place / "small.safetensors")
    torch.save({"images": images}, place / "set_torch.safetensors")
    for name in ("empty", "words", "broken", "hidden", "deep/er"):
        (place / name).mkdir(parents=True)
    (place / "words" / "a.txt").write_text("no picture")
    for i in range(2):
        (place / "broken" / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
        Image.new("RGB", (9, 9)).save(place / "hidden" / f".{i}.png")


def _claiming(entry):
    header = json.dumps({"images": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(9)


def notebooks(place):
    texts = {
        "nb_empty": "", "nb_words": "print('hello')", "nb_list": "[]", "nb_number": "3", "nb_deep": DEEP,
        "nb_object": "{}", "nb_future": json.dumps(notebook(nbformat=99)),
        "nb_text_version": json.dumps(notebook(nbformat="4")),
        "nb_no_cells": json.dumps({"metadata": {}, "nbformat": 4, "nbformat_minor": 5}),
        "nb_cells_text": json.dumps(notebook(cells="none")),
        "nb_cell_number": json.dumps(notebook(cells=[1])),
        "nb_kernel": json.dumps(notebook(metadata={"kernelspec": {"name": "no-such-kernel", "display_name": "x"}})),
    }  # fmt: skip
    for name, text in texts.items():
        (place / f"{name}.ipynb").write_text(text)
    (place / "nb_binary.ipynb").write_bytes(b"\xff\xfe\x00" * 30)
    (place / "mine").mkdir()
    (place / "mine" / "03_loss_and_stop_gradient.ipynb").write_text(json.dumps(notebook()))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Everything that the table asks for, in one folder."""
    place = tmp_path_factory.mktemp("bad")
    for name, data in LEDGERS.items():
        (place / f"{name}.jsonl").write_bytes(data)
    for name, text in KNOBS.items():
        (place / name).mkdir()
        (place / name / ckpt.RECIPE).write_text(text)
        (place / name / ckpt.CHECKPOINT).write_bytes(b"never read")
    checkpoints(place)
    sets(place)
    notebooks(place)
    return place


TRAIN = ["train", "--data", "patterns"]
SET = ["train", "--data"]
LONG = "a" * 300

CASES = {
    # demo
    "demo: out is a file": (["demo", "--out", "{}/words/a.txt"], "a.txt"),
    "demo: out has a NUL byte": (["demo", "--out", "a\0b"], "NUL"),
    "demo: out is half a character": (["demo", "--out", "a\ud800b"], "cannot be written as bytes"),
    "demo: out is empty": (["demo", "--out", ""], "is empty"),
    "demo: out is empty after the sign": (["demo", "--out="], "'--out=' is empty"),
    "demo: out is too long": (["demo", "--out", LONG], "name too long"),
    "demo: seeds in words": (["demo", "--seeds", "three"], "--seeds"),
    "demo: half a seed": (["demo", "--seeds", "1.5"], "--seeds"),
    "demo: negative seeds": (["demo", "--seeds", "-3"], "--seeds is -3"),
    "demo: device": (["demo", "--device", "cuda:7"], "cuda:7"),
    "demo: an argument too many": (["demo", "now"], "now"),
    # train: names of data
    "data: typing error": ([*SET, "paterns"], "did you mean 'patterns'"),
    "data: capitals": ([*SET, "CIFAR-10"], "did you mean 'cifar10'"),
    "data: fashion": ([*SET, "fashion-mnist"], "did you mean 'fashion_mnist'"),
    "data: empty": ([*SET, ""], "is empty"),
    "data: blanks": ([*SET, "   "], "no data set"),
    "data: a URL": ([*SET, "https://example.org/pictures.zip"], "download it"),
    "data: file:// URL": ([*SET, "file:///nowhere/x.safetensors"], "/nowhere/x.safetensors"),
    "data: folder: without a path": ([*SET, "folder:"], "folder:PATH"),
    "data: file: without a path": ([*SET, "file:"], "file:PATH"),
    "data: folder: on a file": ([*SET, "folder:{}/words/a.txt"], "is no folder but a file"),
    "data: file: on a folder": ([*SET, "file:{}/empty"], "is a folder"),
    "data: a path without folder:": ([*SET, "{}/broken"], "write folder:"),
    "data: control characters": ([*SET, "pat\x1b[31mterns\x07"], r"pat\x1b[31mterns\x07"),
    "data: newlines": ([*SET, "one\ntwo\r\nthree"], "no data set"),
    "data: NUL": ([*SET, "folder:a\0b"], "NUL"),
    "data: unpaired surrogate": ([*SET, "folder:\ud83d"], "cannot be written as bytes"),
    "data: home of nobody": ([*SET, "folder:~nobody-of-that-name/pictures"], "There is no folder"),
    "data: a device": ([*SET, "file:/dev/null"], "/dev/null"),
    "data: broken pictures only": ([*SET, "folder:{}/broken"], "None of 2 pictures"),
    "data: hidden pictures only": ([*SET, "folder:{}/hidden"], "no pictures"),
    "data: folders without pictures": ([*SET, "folder:{}/deep"], "no pictures"),
    # train: files of images
    "file: pickle": ([*SET, "file:{}/set_pickle.safetensors"], "not a whole safetensors file"),
    "file: torch.save": ([*SET, "file:{}/set_torch.safetensors"], "not a whole safetensors file"),
    "file: words": ([*SET, "file:{}/set_words.safetensors"], "not a whole safetensors file"),
    "file: header of 2^60 bytes": ([*SET, "file:{}/set_oversize.safetensors"], "not a whole safetensors file"),
    "file: claims a terabyte": ([*SET, "file:{}/set_claims.safetensors"], "not a whole safetensors file"),
    "file: no images": ([*SET, "file:{}/set_none.safetensors"], "There are no images"),
    "file: images of 4x4": ([*SET, "file:{}/set_tiny.safetensors"], "4x4"),
    "file: float labels": ([*SET, "file:{}/set_float_labels.safetensors"], "Labels are float32"),
    "file: classes too deep": ([*SET, "file:{}/set_classes.safetensors"], "'classes'"),
    "file: classes in words": ([*SET, "file:{}/set_classes_words.safetensors"], "'classes'"),
    "file: test of another size": (
        [*SET, "file:{}/train.safetensors", "--test", "file:{}/small.safetensors"], "give both the same size",
    ),
    "test: unknown": ([*SET, "file:{}/train.safetensors", "--test", "tset"], "tset"),
    # train: numbers
    "limit: negative": ([*TRAIN, "--limit", "-5"], "limit"),
    "limit: infinite": ([*TRAIN, "--limit", "inf"], "--limit"),
    "size: negative": ([*TRAIN, "--size", "-32"], "Size -32"),
    "size: too small": ([*TRAIN, "--size", "4"], "Size 4"),
    "size: beyond all memory": ([*TRAIN, "--size", "100000000"], "Size 100000000"),
    "size: digits beyond all memory": ([*SET, "digits", "--size", "20000"], "from 8 to 1024"),
    "epochs: none": ([*TRAIN, "--epochs", "0"], "epochs is 0"),
    "epochs: negative": ([*TRAIN, "--epochs", "-1"], "epochs is -1"),
    "epochs: beyond counting": ([*TRAIN, "--epochs", "9" * 400], "epochs is 9"),
    "batch: negative": ([*TRAIN, "--batch-size", "-64"], "batch_size is -64"),
    "batch: beyond counting": ([*TRAIN, "--batch-size", "9" * 30], "batch_size is 9"),
    "lr: infinite": ([*TRAIN, "--lr", "inf"], "lr is inf"),
    "lr: overflow": ([*TRAIN, "--lr", "1e999"], "lr is inf"),
    "lr: so large that a step overflows": ([*TRAIN, "--lr", "1e300"], "lr is 1e+300"),
    "lr: with a comma": ([*TRAIN, "--lr", "0,5"], "--lr"),
    "seed: negative": ([*TRAIN, "--seed", "-1"], "seed is -1"),
    "seed: too large": ([*TRAIN, "--seed", str(2**80)], "seed is"),
    "predictor: typing error": ([*TRAIN, "--predictor", "lineer"], "did you mean 'linear'"),
    "method: typing error": ([*TRAIN, "--method", "simclrr"], "did you mean 'simclr'"),
    "augmentation: typing error": ([*TRAIN, "--augmentation", "nocrop"], "did you mean 'no_crop'"),
    "backbone: with a path": ([*TRAIN, "--backbone", "../../etc/passwd"], "backbone"),
    "option: typing error": ([*TRAIN, "--epoch", "3"], "--epoch"),
    "option: without its value": ([*TRAIN, "--epochs"], "--epochs"),
    "out: inside a file": ([*TRAIN, "--out", "{}/words/a.txt/x/y"], "a.txt"),
    "out: too long": ([*TRAIN, "--out", LONG], "name too long"),
    # train --resume and evaluate: folders of runs
    **{
        f"resume: {name}": (["train", "--data", "file:{}/train.safetensors", "--resume", "--out", "{}/" + name], "")
        for name in (*KNOBS,
                     "ck_cut", "ck_foreign", "ck_oversize", "ck_version", "ck_shapes", "ck_about_deep", "sound")
    },
    **{f"evaluate: {name}": (["evaluate", "{}/" + name, "--data", "file:{}/train.safetensors"], said)
       for name, said in {
        **dict.fromkeys(KNOBS, ""),
        "unknown_knob": "did you mean 'epochs'", "nan_knob": "lr", "float_layers": "projector_layers is 2.0",
        "huge_width": "projection_dim is 1000000000", "huge_seed": "seed", "huge_bank": "bank_size",
        "ck_empty": "damaged", "ck_cut": "damaged", "ck_short": "damaged", "ck_oversize": "damaged",
        "ck_header_negative": "damaged", "ck_pickle": "damaged", "ck_zip": "damaged",
        "ck_foreign": "this version", "ck_version": "this version", "ck_about_words": "damaged",
        "ck_about_deep": "damaged", "ck_about_list": "this version", "ck_no_recipe": "does not say",
        "ck_bad_recipe": "lr is -1", "ck_other_recipe": "another recipe", "ck_shapes": "another model",
        "ck_missing": "another model", "ck_extra": "model.extra"[6:], "ck_integers": "another model",
        "ck_size_text": "Size 'large'", "log_words": "Line 1", "log_numbers": "Line 1", "log_loss": "loss is 'low'",
        "empty": "holds no run", "words/a.txt": "holds no run", "nowhere": "holds no run",
    }.items()},
    "evaluate: sound run, no data": (["evaluate", "{}/sound"], "--data"),
    "evaluate: no run": (["evaluate"], "'run'"),
    # ablate
    "ablate: typing error": (["ablate", "colapse"], "did you mean 'collapse'"),
    "ablate: path for a name": (["ablate", "../collapse"], "../collapse"),
    "ablate: empty name": (["ablate", ""], "is empty"),
    "ablate: out in a file": (["ablate", "collapse", "--out", "{}/words/a.txt/x"], "a.txt"),
    "ablate: negative jobs": (["ablate", "collapse", "--jobs", "-1"], "--jobs"),
    **{f"ablate on {name}.jsonl": (["ablate", "collapse", "--out", "{}/" + name + ".jsonl"], f"{name}.jsonl")
       for name in ("broken_line", "words", "binary", "deep", "number", "list", "null", "variant_list",
                    "other_version")},
    # report
    **{f"report on {name}.jsonl": (["report", "{}/" + name + ".jsonl"],
                                   "colapse" if name == "unknown_experiment" else name)
       for name in LEDGERS},
    "report: a folder for a ledger": (["report", "{}/empty"], "holds no results"),
    "report: a picture": (["report", "{}/broken/0.png"], "holds no results"),
    "report: out is a file": (["report", "--out", "{}/words/a.txt"], "a.txt"),
    "report: NUL": (["report", "a\0.jsonl"], "NUL"),
    # checkpoints, doctor
    "checkpoints: out is a file": (["checkpoints", "--out", "{}/words/a.txt"], "a.txt"),
    "checkpoints: device": (["checkpoints", "--device", "gpu"], "gpu"),
    "doctor: an argument": (["doctor", "who"], "who"),
    "doctor: an option": (["doctor", "--fix"], "--fix"),
    # execute
    **{f"execute: {name}": (["execute", "{}/" + name + ".ipynb"], name) for name in (
        "nb_empty", "nb_words", "nb_list", "nb_number", "nb_deep", "nb_object", "nb_future", "nb_text_version",
        "nb_no_cells", "nb_cells_text", "nb_cell_number", "nb_binary", "nb_kernel", "nb_nowhere",
    )},
    "execute: a folder": (["execute", "{}/empty"], "empty"),
    "execute: empty": (["execute", ""], "is empty"),
    "execute: NUL": (["execute", "a\0b.ipynb"], "NUL"),
    # solutions, stamp, lab
    "solutions: out is a file": (["solutions", "{}/words/a.txt"], "a.txt"),
    "solutions: no folder": (["solutions"], "'out'"),
    "solutions: into the lessons' like": (["solutions", "{}/mine"], "no solved copy"),
    "solutions: empty": (["solutions", ""], "is empty"),
    "stamp: an argument": (["stamp", "it"], "it"),
    "lab: an argument": (["lab", "coat"], "coat"),
    "lab: an option": (["lab", "--ip", "0.0.0.0"], "--ip"),
    # the program
    "command: typing error": (["trian"], "trian"),
    "command: control characters": (["\x1b[31mred"], r"\x1b[31mred"),
    "command: empty": ([""], "is empty"),
}  # fmt: skip


@pytest.fixture
def no_training(monkeypatch):
    """What is refused is refused before the first step."""
    from simsiam_course.train import Trainer

    def advance(self):
        raise AssertionError("training has begun")

    monkeypatch.setattr(Trainer, "advance", advance)


def state(folder):
    """All that is below a folder, files with their size and the time they were written."""
    found = [(path, path.stat()) for path in folder.rglob("*")]
    return {path: (stat.st_size, stat.st_mtime_ns) if path.is_file() else () for path, stat in found}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence(capsys, place, tmp_path, monkeypatch, no_training, case):
    monkeypatch.chdir(tmp_path)
    before = state(place)
    arguments, part = CASES[case]
    code, out, err = call(capsys, *(argument.replace("{}", str(place)) for argument in arguments))
    assert (code, out) == (2, "")
    (sentence,) = err.splitlines()
    assert part in sentence and sentence.endswith(".") and "Traceback" not in sentence
    assert all(character.isprintable() for character in sentence)
    assert len(sentence) < 600 + 2 * len(str(place))
    assert not list(tmp_path.iterdir())
    assert state(place) == before


def test_the_table_covers_every_command_and_is_long():
    commands = {arguments[0] for arguments, _ in CASES.values()}
    known = {command.callback.__name__ for command in cli.app.registered_commands}
    assert known <= commands
    assert len(CASES) >= 120


@pytest.mark.parametrize("command", ["lab", "stamp", "execute", "checkpoints", "solutions", "ablate"])
def test_commands_that_need_a_clone_say_so_without_one(capsys, tmp_path, monkeypatch, no_training, command):
    import simsiam_course

    monkeypatch.setattr(simsiam_course, "checkout", lambda: None)
    monkeypatch.chdir(tmp_path)
    more = {"solutions": [str(tmp_path / "solved")], "ablate": ["--all"]}.get(command, [])
    code, out, err = call(capsys, command, *more)
    assert (code, out) == (2, "") and "clone the repository" in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_weights_are_not_made_where_training_is_cut_short(capsys, tmp_path, monkeypatch, no_training):
    monkeypatch.setenv("SIMSIAM_QUICK", "1")
    code, out, err = call(capsys, "checkpoints", "--out", tmp_path / "weights")
    assert (code, out) == (2, "") and "unset it" in err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("encoding", "arguments"), [
    ("utf-8", ["train", "--data", "\x1b]0;title\x07"]),
    ("ascii", ["evaluate", os.fsdecode(b"caf\xe9 \xc3\xbc")]),
])  # fmt: skip
def test_the_program_itself_says_one_sentence_in_any_encoding(tmp_path, encoding, arguments):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
    arguments = [*arguments, "--data", "patterns"] if arguments[0] == "evaluate" else arguments
    command = [sys.executable, "-m", "simsiam_course", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 2 and done.stdout == b""
    sentence = done.stderr.decode("utf-8")
    assert len(sentence.splitlines()) == 1 and sentence.endswith(".\n") and "Traceback" not in sentence
    assert sentence.strip().isprintable()
    assert not list(tmp_path.iterdir())


def test_a_result_with_odd_names_is_printed_in_any_encoding(tmp_path):
    """A ledger in a folder whose name no encoding has: the page is made and the terminal stays whole."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xbc"))
    folder.mkdir()
    (folder / "results.jsonl").write_bytes(json_bytes(ledger_row()) + b"\n")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "simsiam_course", "report", str(folder)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert (folder / "report.html").is_file() and b"Open " in done.stdout
