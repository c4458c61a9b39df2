"""Recipes by name, as small dicts on top of `Recipe`'s defaults, and what each is for.

Only names and numbers: the command line shows them without waiting for PyTorch.
"""

from __future__ import annotations

import difflib
from typing import Any

from .errors import InputError

# Photographs are harder than patterns: at half the rate the rank of z stays higher. 20,000 CIFAR-10 images, 6 passes,
# seed 0: kNN 46.3 % at rank 11.8 with lr .3, 45.1 % at 6.9 with .6 (raw pixels 41.7 %).
PHOTOS: dict[str, Any] = {"augmentation": "cifar", "lr": 0.3, "warmup_steps": 20, "predictor_lr": 1.0,
                          "nesterov": False}  # fmt: skip
# Chosen on a fifth of the training images of EuroSAT (500 a class), with another seed than those reported.
SATELLITE: dict[str, Any] = {"augmentation": "satellite", "lr": 0.2, "predictor_lr": 20.0}
_RESNET: dict[str, Any] = {  # what the published recipes share
    "backbone": "resnet18", "projection_dim": 2048, "hidden_dim": 2048, "predictor_hidden_dim": 512,
    "augmentation": "cifar", "schedule": "cosine", "warmup_steps": 0, "nesterov": False, "predictor_lr": 1.0,
}  # fmt: skip
# App. D: 91.8 % linear after 800 passes.
PAPER_CIFAR10: dict[str, Any] = {**_RESNET, "epochs": 800, "batch_size": 512, "lr": 0.03}
# The benchmark of the library lightly: 81.9 % kNN, the best epoch on the test images, which flatters. Its .06 is for a
# batch of 128, so .12 for 256; h's rate decays there with the rest, and the BN on z is affine.
LIGHTLY_CIFAR10: dict[str, Any] = {**_RESNET, "epochs": 200, "batch_size": 128, "lr": 0.12,
                                   "predictor_schedule": "same", "output_bn": "affine"}  # fmt: skip
# Sec. 3: 68.1 % linear after 100 passes over ImageNet.
PAPER_IMAGENET: dict[str, Any] = {**_RESNET, "backbone": "resnet50", "cifar_stem": False, "projector_layers": 3,
                                  "augmentation": "imagenet", "epochs": 100, "batch_size": 512, "lr": 0.05,
                                  "weight_decay": 1e-4}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "default": {}, "digits": {"augmentation": "digits"}, "photos": PHOTOS, "satellite": SATELLITE,
    "paper_cifar10": PAPER_CIFAR10, "lightly_cifar10": LIGHTLY_CIFAR10, "paper_imagenet": PAPER_IMAGENET,
}  # fmt: skip
WHAT_FOR = {  # one line each, for `train --help`
    "default": "the patterns of the lessons; a short budget on a CPU",
    "digits": "handwriting and other signs: no flip, no colours, large crops",
    "photos": "photographs of any kind, also what is taken for a folder",
    "satellite": "pictures from above or through a microscope: any direction, mild colours",
    "paper_cifar10": "App. D of the paper: ResNet-18, 800 passes, batch 512; needs a GPU",
    "lightly_cifar10": "lightly's benchmark: ResNet-18, 200 passes, batch 128; needs a GPU",
    "paper_imagenet": "Sec. 3 of the paper: ResNet-50, 100 passes, batch 512; needs several GPUs",
}
OF_DATA = {"patterns": "default", "digits": "digits", "eurosat": "satellite"}  # for other data: photos


def preset(name: str) -> dict[str, Any]:
    """The knobs of a preset. Errors: `InputError` for an unknown name, with the nearest one."""
    if name not in PRESETS:
        close = difflib.get_close_matches(str(name), PRESETS, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'?" if close else f"choose one of {', '.join(PRESETS)}."
        raise InputError(f"There is no preset '{name}': {hint}")
    return dict(PRESETS[name])


def preset_of(data: str) -> str:
    """The preset that a data set gets where none is named."""
    return OF_DATA.get(data, "photos")
