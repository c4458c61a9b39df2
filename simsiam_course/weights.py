"""The weights that come with the course: a healthy, a collapsed and a random network.

`load_or_train(name)` loads them in a second where they are there and intact, trains them where they are not, and says
which of the two it did. `write` makes them: `simsiam-course checkpoints`.
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
from .checkpoint import load_weights, save_weights
from .data import ImageSet, load_pair
from .errors import InputError, check_choice
from .evaluate import measure, random_backbone
from .files import atomic_write, json_bytes, make_folder, parse_json
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
    """A network that came with the course, and what the manifest says of it.

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

    Errors: `InputError` where the folder cannot be written, or SIMSIAM_QUICK would cut the training short.
    """
    if os.environ.get("SIMSIAM_QUICK"):
        raise InputError("SIMSIAM_QUICK ends every training after 30 steps: unset it to make weights.")
    place = make_folder(folder)
    train, test = load_pair(DATA)
    entries: dict[str, Any] = {}
    for name in SWITCHES:
        own, model = recipe(name), make(name, train, device=device, progress=progress)
        found = measure(model, train, test, augmentation=PRESETS[own.augmentation])
        path = place / f"{name}.safetensors"
        save_weights(path, model, own, trained=name != "random")
        entries[name] = {
            "file": path.name,
            "sha256": sha256(path),
            "trained": name != "random",
            "data": DATA,
            "seed": SEED,
            "figures": {key: found[key] for key in FIGURES},
            "recipe": own.to_dict(),
        }
        on_file(name, entries[name])
    atomic_write(place / MANIFEST, json_bytes(entries, indent=2) + b"\n")
    return entries
