"""The weights that come with the course: a healthy, a collapsed and a random network, and one trained on photographs.

`load_or_train(name)` loads the first three in a second where they are there and intact, trains them where they are
not, and says which of the two it did. `write` makes them: `simsiam-course checkpoints`. The fourth takes longer than a
lesson and needs a download, so it is loaded or left out; `write_photos` makes it: `simsiam-course checkpoints cifar10`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from . import data_file
from .augment import PRESETS
from .checkpoint import holds_run, load_weights, save_weights
from .data import ImageSet, load_pair
from .errors import InputError, check_choice
from .evaluate import baselines, measure, random_backbone
from .files import atomic_write, json_bytes, make_folder, parse_json
from .lock import folder_lock
from .presets import preset
from .recipe import Recipe
from .train import fit, resolve_device

FOLDER, MANIFEST = "checkpoints", "manifest.json"
DATA, SEED = "patterns", 0
SWITCHES: dict[str, dict[str, Any]] = {  # in which each differs from `Recipe()`
    "healthy": {},
    "collapsed": {"stop_gradient": "none"},
    "random": {},  # untrained, but for the statistics of its batch norms
}
FIGURES = ("knn", "linear", "std", "effective_rank", "loss")
PHOTOS = "cifar10"  # the fourth network, and the data that it is trained on


def load_or_train(
    name: str, *, images: ImageSet | None = None, device: str = "auto", progress: bool = True
) -> nn.Module:
    """The network of that name, in eval mode, and a printed sentence on where it comes from.

    Loaded where the course's file has the sha256 that its manifest names; else made by the same recipe from `images`
    (by default the training images of `patterns`), which takes half a minute on two CPU cores. Errors: `InputError`,
    unknown name or device.
    """
    check_choice("name", name, tuple(SWITCHES))
    place = resolve_device(device)
    try:
        model, entry = load(name)
    except InputError as error:
        print(f"{name}: making it, because: {error}", flush=True)
        model = make(name, load_pair(DATA)[0] if images is None else images, device=device, progress=progress)
        print(f"{name}: {_origin(name)} just now, seed {SEED}.")
    else:
        said = ", ".join(f"{label} {entry['figures'][key]:.2f}" for key, label in _SAID.items())
        print(f"{name}: loaded weights that came with the course, {_origin(name)} with seed {SEED} ({said}).")
    return model.to(place).eval()


_SAID = {"knn": "kNN", "effective_rank": "effective rank of z"}


def _origin(name: str) -> str:
    return "untrained, its batch norms set" if name == "random" else "trained"


def load(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A network that came with the course, also `cifar10`, and what the manifest says of it.

    Errors: `InputError` where the file is missing, or is not the one that the manifest names.
    """
    entry = manifest().get(name)
    if not isinstance(entry, dict) or not {"file", "sha256", "figures"} <= entry.keys():
        raise InputError(f"the manifest of the course's weights does not describe '{name}'.")
    path = data_file(f"{FOLDER}/{entry['file']}")
    if sha256(path) != entry["sha256"]:
        raise InputError(
            f"'{path.name}' is not the file that the manifest names: it was changed or cut short."
        )
    return load_weights(path)[0], entry


def manifest() -> dict[str, Any]:
    """name -> file, sha256, recipe, seed and figures. Errors: `InputError` where it is missing or damaged."""
    path = data_file(f"{FOLDER}/{MANIFEST}")
    try:
        found = parse_json(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"'{path.name}' is damaged: get it again, or make it by 'simsiam-course checkpoints'."
        )
    return found


def sha256(path: Path) -> str:
    """The hash of a file's bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def recipe(name: str) -> Recipe:
    """The recipe of a network by name."""
    return Recipe(seed=SEED).replace(**SWITCHES[name])


def make(name: str, images: ImageSet, *, device: str = "auto", progress: bool = True) -> nn.Module:
    """Trains a network, or sets the batch norms of the random one. Errors: `InputError` as `fit` has them."""
    if name == "random":
        return random_backbone(recipe(name).build, images, seed=SEED)
    model = recipe(name).build()
    fit(model, images, recipe(name), device=device, progress=progress)
    return model


def write(
    folder: str | Path,
    *,
    device: str = "cpu",
    progress: bool = True,
    on_file: Callable[[str, dict[str, Any]], None] = lambda name, entry: None,
) -> dict[str, Any]:
    """Makes and measures all networks, writes their files and, last, the manifest, which comes back.

    Errors: `InputError` where the folder cannot be written, another process writes it, or SIMSIAM_QUICK would cut
    the training short.
    """
    _check_whole_runs()
    place = make_folder(folder)
    with folder_lock(place):
        return _write(place, device, progress, on_file)


def _write(
    place: Path, device: str, progress: bool, on_file: Callable[[str, dict[str, Any]], None]
) -> dict[str, Any]:
    train, test = load_pair(DATA)
    entries: dict[str, Any] = {}
    for name in SWITCHES:
        own, model = recipe(name), make(name, train, device=device, progress=progress)
        found = measure(model, train, test, augmentation=PRESETS[own.augmentation])
        path = place / f"{name}.safetensors"
        save_weights(path, model, own, trained=name != "random")
        entries[name] = _entry(path, own, found, trained=name != "random", data=DATA)
        on_file(name, entries[name])
    return _note(place, entries)


def write_photos(
    folder: str | Path,
    *,
    data: str = PHOTOS,
    test: str | None = None,
    run: str | Path,
    epochs: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Trains the small backbone on photographs, writes `cifar10.safetensors` and its entry of the manifest.

    `data` and `test` as `load_pair` takes them; `run` is the folder of the run, with which an interrupted one goes on.
    The recipe is the preset `photos`. The entry, which comes back, says what it was trained on, for how long and on
    which hardware, and gives the figures of the last pass. Errors: `InputError` as `load_pair` and `fit` have them,
    where the folder cannot be written, or SIMSIAM_QUICK would cut the training short.
    """
    _check_whole_runs()
    own = Recipe.from_dict(
        {**preset("photos"), "seed": SEED, **({} if epochs is None else {"epochs": epochs})}
    )
    place = make_folder(folder)
    images, test_images = load_pair(data, test=test)
    model = own.build()
    history = fit(model, images, own, device=device, out=run, resume=holds_run(run), progress=progress)
    found = measure(model, images, test_images, augmentation=PRESETS[own.augmentation])
    where = next(model.parameters()).device
    found |= baselines(images, test_images, lambda: own.build().to(where), seed=SEED)
    path = place / f"{PHOTOS}.safetensors"
    model.cpu()
    save_weights(path, model, own, trained=True)
    entry = _entry(path, own, found, trained=True, data=images.name) | {
        "images": len(images),
        "test_images": len(test_images),
        "fingerprint": images.fingerprint(),
        "images_seen": history[-1]["images_seen"],
        "seconds": history[-1]["seconds"],
        "hardware": _hardware(device),
        "baselines": {key: found[key] for key in ("raw_pixels_knn", "random_backbone_knn")},
    }
    _note(place, {PHOTOS: entry})
    return entry


def _check_whole_runs() -> None:
    if os.environ.get("SIMSIAM_QUICK"):
        raise InputError("SIMSIAM_QUICK ends every training after 30 steps: unset it to make weights.")


def _entry(path: Path, own: Recipe, found: dict[str, Any], *, trained: bool, data: str) -> dict[str, Any]:
    """What the manifest says of a file."""
    return {
        "file": path.name,
        "sha256": sha256(path),
        "trained": trained,
        "data": data,
        "seed": SEED,
        "figures": {key: found[key] for key in FIGURES},
        "recipe": own.to_dict(),
    }


def _note(place: Path, entries: dict[str, Any]) -> dict[str, Any]:
    """Puts entries into the manifest of a folder, beside those of other files, and gives these back."""
    path = place / MANIFEST
    try:
        known = parse_json(path.read_bytes()) if path.is_file() else {}
    except ValueError:
        known = {}
    known = known if isinstance(known, dict) else {}
    kept = {name: entry for name, entry in known.items() if name in (*SWITCHES, PHOTOS)}
    order = [name for name in (*SWITCHES, PHOTOS) if name in {**kept, **entries}]
    atomic_write(path, json_bytes({name: {**kept, **entries}[name] for name in order}, indent=2) + b"\n")
    return entries


def _hardware(device: str) -> str:
    """What the training ran on, in words."""
    import torch

    from .doctor import cpu_name

    if resolve_device(device).type == "cuda":
        return torch.cuda.get_device_name(0)
    return f"{cpu_name()}, {torch.get_num_threads()} threads"
