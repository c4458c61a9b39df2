"""The weights that come with the course are those of the manifest, and give its figures."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from simsiam_course import data_file, weights
from simsiam_course.augment import PRESETS
from simsiam_course.data import load_pair, patterns
from simsiam_course.errors import InputError
from simsiam_course.evaluate import measure
from simsiam_course.recipe import Recipe
from simsiam_course.weights import MANIFEST, SWITCHES, load, load_or_train, manifest, sha256, write

NAMES = tuple(SWITCHES)


@pytest.fixture(scope="module")
def sets():
    return load_pair("patterns")


def test_the_manifest_names_the_files_and_their_hashes_hold():
    entries = manifest()
    assert list(entries)[:3] == list(NAMES) == ["healthy", "collapsed", "random"]
    assert list(entries)[3:] in ([], ["cifar10"])  # the fourth is made by a command of its own
    for entry in entries.values():
        path = data_file(f"checkpoints/{entry['file']}")
        assert sha256(path) == entry["sha256"]
        assert path.stat().st_size < 2**20


@pytest.mark.parametrize("name", NAMES)
def test_a_network_gives_the_figures_of_the_manifest(name, sets):
    model, entry = load(name)
    assert Recipe.from_dict(entry["recipe"]) == weights.recipe(name)
    found = measure(model, *sets, augmentation=PRESETS[entry["recipe"]["augmentation"]])
    # rounding differs between processors, and a vote or two with it
    tolerances = {"knn": 0.01, "linear": 0.01, "std": 0.01, "effective_rank": 0.1, "loss": 0.01}
    for figure, tolerance in tolerances.items():
        assert found[figure] == pytest.approx(entry["figures"][figure], abs=tolerance), figure


def test_they_are_what_they_are_called():
    figures = {name: entry["figures"] for name, entry in manifest().items()}
    assert figures["healthy"]["knn"] > 0.8 > 0.5 > figures["collapsed"]["knn"]
    assert figures["collapsed"]["effective_rank"] < 2 < 5 < figures["healthy"]["effective_rank"]
    assert figures["random"]["knn"] < 0.5 and figures["random"]["loss"] > -0.5


@pytest.mark.parametrize("name", NAMES)
def test_it_is_loaded_where_it_is_there_and_says_so(name, capsys):
    model = load_or_train(name, device="cpu")
    assert not model.training
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: loaded weights that came with the course") and "kNN" in said


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder of weights of its own, and recipes of one pass."""
    folder = tmp_path / "checkpoints"
    monkeypatch.setattr(weights, "load_pair", lambda name: (patterns(128, seed=1), patterns(64, seed=2)))
    monkeypatch.setattr(
        weights, "recipe", lambda name: Recipe(epochs=1, batch_size=32).replace(**SWITCHES[name])
    )

    def own_file(name):
        path = tmp_path / name
        if not path.is_file():
            raise InputError(f"there is no '{name}'.")
        return path

    monkeypatch.setattr(weights, "data_file", own_file)
    return folder


def test_one_command_makes_them_and_what_it_made_is_loaded(small, capsys):
    entries = write(small, progress=False)
    assert json.loads((small / MANIFEST).read_bytes()) == entries == manifest()
    assert {path.name for path in small.iterdir()} == {*(f"{name}.safetensors" for name in NAMES), MANIFEST}
    for name in NAMES:
        state = load_or_train(name, device="cpu").state_dict()
        made = weights.make(name, patterns(128, seed=1), device="cpu", progress=False).state_dict()
        assert all(torch.equal(state[key], made[key]) for key in made), name
    assert capsys.readouterr().out.count("loaded weights") == 3
    assert [entries[name]["trained"] for name in NAMES] == [True, True, False]


def break_nothing(folder):
    shutil.rmtree(folder)


def break_a_byte(folder):
    path = folder / "healthy.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut_short(folder):
    path = folder / "healthy.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def remove(folder):
    (folder / "healthy.safetensors").unlink()


def no_json(folder):
    (folder / MANIFEST).write_text("{")


def no_entry(folder):
    (folder / MANIFEST).write_text('{"healthy": {"file": "healthy.safetensors"}}')


@pytest.mark.parametrize("damage", [break_nothing, break_a_byte, cut_short, remove, no_json, no_entry])
def test_it_is_trained_where_the_file_is_not_as_it_should_be_and_says_why(small, damage, capsys):
    write(small, progress=False)
    damage(small)
    model = load_or_train("healthy", device="cpu", progress=False)
    said = capsys.readouterr().out
    assert "healthy: making it, because: " in said and "healthy: trained just now, seed 0." in said
    made = weights.make("healthy", patterns(128, seed=1), device="cpu", progress=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), made.parameters(), strict=True))


def test_own_images_are_trained_on_where_they_are_given(small, capsys):
    images = patterns(96, seed=9)
    model = load_or_train("random", images=images, device="cpu", progress=False)
    torch.testing.assert_close(model.pixel_mean, images.mean)
    assert "untrained, its batch norms set just now" in capsys.readouterr().out


def test_an_unknown_name_is_one_sentence():
    with pytest.raises(InputError, match="expected one of healthy, collapsed, random"):
        load_or_train("perfect")


def test_a_quick_run_makes_no_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSIAM_QUICK", "1")
    with pytest.raises(InputError, match="unset it"):
        write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_names_what_it_made(small, monkeypatch, capsys):
    import sys

    from simsiam_course import cli

    monkeypatch.setattr(sys, "argv", ["simsiam-course", "checkpoints", "--out", str(small), "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    *lines, last = capsys.readouterr().out.splitlines()
    assert not end.value.code and json.loads(last) == manifest()
    assert [line.partition(":")[0] for line in lines if "sha256" in line] == list(NAMES)


# ---- the fourth, trained on photographs


@pytest.fixture
def photos(small, tmp_path):
    """What the command is given: two files of images, and places for the run and the weights."""
    patterns(96, seed=3).save(tmp_path / "train.safetensors")
    patterns(64, seed=4).save(tmp_path / "test.safetensors")
    return {"data": f"file:{tmp_path}/train.safetensors", "test": f"file:{tmp_path}/test.safetensors",
            "run": tmp_path / "run", "epochs": 2, "device": "cpu", "progress": False}  # fmt: skip


def load_pair_as_it_is(monkeypatch):
    monkeypatch.setattr(weights, "load_pair", load_pair)


def test_the_network_of_photographs_has_its_provenance_and_gives_its_figures(
    small, photos, tmp_path, monkeypatch
):
    from simsiam_course.presets import preset

    write(small, progress=False)
    load_pair_as_it_is(monkeypatch)
    before = manifest()
    entry = weights.write_photos(small, **photos)
    assert manifest() == {**before, "cifar10": entry} and list(manifest())[-1] == "cifar10"
    model, found = load("cifar10")
    train, test = load_pair(photos["data"], test=photos["test"])
    measured = measure(model, train, test, augmentation=PRESETS["cifar"])
    assert {key: measured[key] for key in entry["figures"]} == pytest.approx(found["figures"], abs=1e-6)
    assert (entry["images"], entry["test_images"], entry["images_seen"]) == (96, 64, 128)
    assert entry["fingerprint"] == train.fingerprint() and entry["data"] == train.name
    assert entry["seconds"] > 0 and "threads" in entry["hardware"]
    assert set(entry["baselines"]) == {"raw_pixels_knn", "random_backbone_knn"}
    assert Recipe.from_dict(entry["recipe"]) == Recipe.from_dict({**preset("photos"), "epochs": 2})
    monkeypatch.setattr(weights, "load_pair", lambda name: (patterns(128, seed=1), patterns(64, seed=2)))
    write(small, progress=False)  # the three are made again, and the fourth stays
    assert manifest()["cifar10"] == entry and load("cifar10")


def test_a_run_on_photographs_that_was_killed_goes_on_to_the_same_weights(
    small, photos, tmp_path, monkeypatch
):
    from simsiam_course import train as training

    load_pair_as_it_is(monkeypatch)
    whole = weights.write_photos(small, **photos)
    advance, steps = training.Trainer.advance, []

    def killed(self):
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    photos["run"] = tmp_path / "again"
    with monkeypatch.context() as inner:
        inner.setattr(training.Trainer, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            weights.write_photos(tmp_path / "other", **photos)
    assert not list((tmp_path / "other").iterdir())
    again = weights.write_photos(tmp_path / "other", **photos)
    assert len(steps) == 2 and again["sha256"] == whole["sha256"]


def run_command(monkeypatch, *arguments):
    import sys

    from simsiam_course import cli

    monkeypatch.setattr(sys, "argv", ["simsiam-course", "checkpoints", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_the_command_makes_the_fourth_by_its_name(small, photos, tmp_path, monkeypatch, capsys):
    load_pair_as_it_is(monkeypatch)
    code = run_command(monkeypatch, "cifar10", "--data", photos["data"], "--test", photos["test"], "--epochs", 1,
                       "--run", photos["run"], "--out", small, "--json")  # fmt: skip
    *lines, last = capsys.readouterr().out.splitlines()
    assert not code and json.loads(last) == manifest() and list(manifest()) == ["cifar10"]
    assert lines[-1].startswith("cifar10: kNN ")


@pytest.mark.parametrize(("arguments", "said"), [
    (["imagenet"], "no weights 'imagenet' to make"), (["--epochs", "3"], "are for 'checkpoints cifar10' only"),
    (["cifar10", "--epochs", "0"], "epochs is 0"), (["cifar10", "--data", "folder:/no/where"], "no folder"),
])  # fmt: skip
def test_what_the_command_cannot_do_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    code = run_command(monkeypatch, *arguments, "--out", tmp_path / "weights")
    err = capsys.readouterr().err
    assert code == 2 and said in err and len(err.splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
