"""Weights and checkpoints as safetensors: tensors and JSON, never a pickle.

A checkpoint holds all that the next step depends on: weights, momentum, generators and the position. It replaces the
one before it in a single step, so a run killed at any moment finds the old one or the new one, whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .errors import InputError
from .files import json_bytes, parse_json, write_safetensors
from .recipe import Recipe

CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.jsonl"
RECIPE = "recipe.json"
FORMAT = "simsiam_course 1"  # raised when a file of an older version could no longer be read


def save_tensors(path: str | Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Writes tensors with a JSON description of them, atomically. Errors: `InputError`, place not writable."""
    plain = {  # copies: the format takes no two tensors, tied weights for instance, that share memory
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    write_safetensors(path, plain, {"format": FORMAT, "about": json_bytes(about).decode()})


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description that `save_tensors` wrote.

    Errors: `InputError` where the file is missing, cut short, damaged or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file '{path}': name a checkpoint or weights that a run has written.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            about = parse_json(metadata.get("about", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"'{path}' is damaged or not a safetensors file ({error}): train again.") from error
    if metadata.get("format") != FORMAT or not isinstance(about, dict):
        raise InputError(f"'{path}' was not written by this version of simsiam_course: train again.")
    return tensors, about


def save_weights(path: str | Path, model: nn.Module, recipe: Recipe, **about: Any) -> None:
    """Writes a model's weights with the recipe that built it. Errors: `InputError`, place not writable."""
    save_tensors(path, prefixed("model", model.state_dict()), {"recipe": recipe.to_dict(), **about})


def load_weights(path: str | Path) -> tuple[nn.Module, Recipe, dict[str, Any]]:
    """The model, its recipe and what else is known of it, from a checkpoint or a file of weights.

    Errors: `InputError` where the file is damaged, or its weights do not fit the model its recipe builds.
    """
    tensors, about = load_tensors(path)
    recipe = recipe_of(about, path)
    model = recipe.build()
    load_state(model, tensors, path)
    return model, recipe, about


def recipe_of(about: dict[str, Any], path: str | Path) -> Recipe:
    """The recipe in a file's description. Errors: `InputError` where there is none or it is of no use."""
    if not isinstance(about.get("recipe"), dict):
        raise InputError(f"'{path}' does not say by which recipe it was trained: train again.")
    return Recipe.from_dict(about["recipe"])


def load_state(model: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Copies weights into a model, name by name, in the memory layout that the model has.

    Errors: `InputError` where a name or a shape differs: a checkpoint of another model.
    """
    weights, own = stripped("model", tensors), model.state_dict()
    odd = sorted(weights.keys() ^ own.keys()) or [
        k
        for k in own  # rounded weights are weights, counts are not
        if own[k].shape != weights[k].shape or own[k].is_floating_point() != weights[k].is_floating_point()
    ]
    if odd:
        raise InputError(
            f"'{path}' is a checkpoint of another model ('{odd[0]}' does not fit): use the recipe it was trained by."
        )
    model.load_state_dict(weights)


def check_counts(about: dict[str, Any], path: str | Path, **kinds: type) -> None:
    """Errors: `InputError` where a description lacks one of these numbers, each of its type and none below 0."""
    for name, kind in kinds.items():
        if type(about.get(name)) is not kind or not about[name] >= 0:
            raise damaged(path, name)


def damaged(path: str | Path, part: str) -> InputError:
    """The sentence about a checkpoint that can be read and is not whole."""
    return InputError(
        f"'{path}' is damaged: its '{part}' is missing or does not fit; train again with another --out."
    )


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with `prefix.` before each name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def stripped(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name begins with `prefix.`, without it."""
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def read_recipe(run: str | Path) -> Recipe:
    """The recipe of a run folder. Errors: `InputError` where the folder holds no run, or the file is damaged."""
    path = Path(run) / RECIPE
    if not path.is_file():
        raise InputError(
            f"'{run}' holds no run: name a folder that 'simsiam-course train --out' has written."
        )
    try:
        knobs = parse_json(path.read_bytes())
    except ValueError:
        knobs = None
    if not isinstance(knobs, dict):
        raise InputError(f"'{path}' is damaged: train again, or restore the file.")
    return Recipe.from_dict(knobs)


def load_run(run: str | Path) -> tuple[nn.Module, Recipe, dict[str, Any]]:
    """The model, recipe and description of a run folder's last checkpoint.

    Errors: `InputError` where there is no run, or the checkpoint belongs to another recipe or another model.
    """
    recipe = read_recipe(run)
    path = Path(run) / CHECKPOINT
    if not path.is_file():
        raise InputError(f"'{run}' has no checkpoint yet: train on with '--out {run} --resume'.")
    tensors, about = load_tensors(path)
    check_same_recipe(recipe_of(about, path), recipe, path)
    model = recipe.build()
    load_state(model, tensors, path)
    return model, recipe, about


def check_same_recipe(stored: Recipe, wanted: Recipe, path: str | Path) -> None:
    """Errors: `InputError` where a checkpoint belongs to another recipe than the one wanted."""
    if stored != wanted:
        raise InputError(
            f"'{path}' is a checkpoint of another recipe ({stored.differences(wanted)}): "
            "use the same options as before, or another --out."
        )


def holds_run(folder: str | Path) -> bool:
    """Whether a folder holds the files of a run, whole or begun."""
    return any(os.path.exists(Path(folder) / name) for name in (CHECKPOINT, HISTORY, RECIPE))
