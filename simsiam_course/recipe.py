"""Every knob of a run, in one place, each with its reason.

A `Recipe` says how to train; it knows nothing of the images. The defaults are the short budget that teaches in
half a minute on two CPU cores; the paper's own settings are `PRESETS["paper_cifar10"]` (presets.py).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from .augment import PRESETS as AUGMENTATIONS
from .errors import InputError, check_choice, check_number, check_whole, nearest, shown
from .model import BACKBONES, OUTPUT_BN, PREDICTORS, STOP_GRADIENT, SimSiam, create_backbone
from .presets import PRESETS, preset
from .relatives import METHODS

AMP = ("off", "bf16", "fp16")
SCHEDULES = ("stable_decay", "cosine", "constant")
SIMILARITIES = ("cosine", "cross_entropy")
INITS = ("default", "he")
MOST = 100_000_000  # of what is counted: passes, steps, rows of a bank
WIDEST = 16_384  # channels; two layers of so many have a gigabyte of weights between them


@dataclass(frozen=True)
class Recipe:
    """How one run is made: the model, the augmentations and the optimisation.

    Errors: `InputError` for a value out of range, and (through `from_dict` and `replace`) for an unknown knob.
    Source: paper, Sec. 3 and App. A and D; where a default departs from them the comment says why.
    """

    # the model
    backbone: str = "tiny"  # 71 k parameters: a pass over 4,096 images takes two seconds on two cores
    cifar_stem: bool = (
        True  # resnets only: 3x3 first convolution, no max-pool; without it 32x32 images lose 10 points
    )
    projection_dim: int = 256  # the paper's 2048 is for a backbone of 2048 features; ours has 128
    hidden_dim: int = 256  # as wide as the output, as in the paper
    projector_layers: int = 2  # App. D: two layers on CIFAR-10 (three on ImageNet)
    predictor_hidden_dim: int = 64  # a bottleneck of a quarter, the paper's 512 to 2048
    predictor: str = "mlp"  # the second switch: none, frozen, bias, linear, directpred
    stop_gradient: str = "target"  # the first switch: none, wrong_side, both
    output_bn: str = "affine_free"  # the third switch; Table 3: 68.2 without the affine part, 68.1 with it
    hidden_bn: bool = True  # in the hidden layers of both heads (Table 3a: 34.6 without any BN in the heads)
    predictor_output_bn: bool = False  # Table 3d: with it training is unstable
    init: str = "default"  # PyTorch's own, as App. A says
    joint: bool = False  # one forward pass for both views: faster, but BN then sees both (not the paper's)

    # the method
    method: str = "simsiam"  # or a relative: relatives/
    without: str = ""  # a part of the relative to leave out: "negatives", "momentum", ...
    symmetric: bool = True  # each view foretells the other (Sec. 4.6)
    pairs: int = 1  # of views, an image and step; two make up for a loss that is not symmetric (Sec. 4.6)
    temperature: float = 0.2  # simclr, moco, swav: low, and the nearest negatives count most
    target_momentum: float = 0.99  # moco, byol: their target follows over about 100 steps; moving_average: .8
    target_every: int = 1  # alternating: steps between two copies of f (Sec. 5.2)
    bank_size: int = 4_096  # moco: keys; moving_average: at least one row an image

    # the images
    augmentation: str = "patterns"  # a preset of augment.py
    similarity: str = "cosine"  # Eq. 1; cross_entropy is Sec. 4.5

    # the optimisation
    epochs: int = 20  # passes over the training images: half a minute on two cores
    batch_size: int = 64  # small batches learn several times faster per image on a short budget
    lr: float = 0.8  # per 256 images: the step is lr x batch_size / 256 (Sec. 3), so .2 at 64
    momentum: float = 0.9
    nesterov: bool = True  # the paper: False; `benchmarks/cpu.py --only choices` is about this and h's rate
    weight_decay: float = 5e-4  # on all parameters, BN's included (App. D)
    schedule: str = "stable_decay"  # the paper's cosine anneals too early on a short budget
    warmup_steps: int = 100  # at full rate from the start some seeds diverge, or learn late
    decay_fraction: float = 0.25  # the last quarter of stable_decay goes linearly to zero
    predictor_lr: float = 12.0  # times lr; the paper: 1. A faster h saves passes (Tian et al. 2021)
    predictor_schedule: str = "constant"  # Table 1c: h keeps its rate (68.1 against 67.7)

    # the run
    seed: int = 0  # initialisation, order and augmentations
    channels_last: bool = True  # what the convolutions of CPUs and GPUs like best
    amp: str = "off"  # bf16 or fp16 (GPUs only) convolutions and products: lesson 10 measures what it buys
    compile: bool = False  # the first step then takes long: a compiler runs
    monitor_every: int = 10  # steps between two rows of the history

    def __post_init__(self) -> None:
        check_choice("backbone", self.backbone, BACKBONES)
        check_choice("predictor", self.predictor, PREDICTORS)
        check_choice("stop_gradient", self.stop_gradient, STOP_GRADIENT)
        check_choice("output_bn", self.output_bn, OUTPUT_BN)
        check_choice("init", self.init, INITS)
        check_choice("augmentation", self.augmentation, tuple(AUGMENTATIONS))
        check_choice("similarity", self.similarity, SIMILARITIES)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("amp", self.amp, AMP)
        check_choice("predictor_schedule", self.predictor_schedule, ("constant", "same"))
        check_choice("projector_layers", self.projector_layers, (2, 3))
        check_choice("method", self.method, tuple(METHODS))
        check_choice("without", self.without, ("", *getattr(METHODS[self.method], "PARTS", ())))
        flags = (
            "cifar_stem",
            "joint",
            "nesterov",
            "channels_last",
            "compile",
            "hidden_bn",
            "predictor_output_bn",
            "symmetric",
        )
        for name in flags:
            check_choice(name, getattr(self, name), (True, False))
        for name in (
            "projection_dim", "hidden_dim", "predictor_hidden_dim", "epochs", "monitor_every", "pairs", "target_every",
            "bank_size",
        ):  # fmt: skip
            check_whole(most=WIDEST if name.endswith("_dim") else MOST, **{name: getattr(self, name)})
        check_whole(least=2, most=MOST, batch_size=self.batch_size)
        check_whole(least=0, most=MOST, warmup_steps=self.warmup_steps)
        check_whole(least=0, most=2**32 - 1, seed=self.seed)
        check_number("lr", self.lr, 0, 1e100, open_ends=True)
        check_number("predictor_lr", self.predictor_lr, 0, 1e100, open_ends=True)
        check_number("momentum", self.momentum, 0, 0.999)
        check_number("target_momentum", self.target_momentum, 0, 1)
        check_number("temperature", self.temperature, 0, open_ends=True)
        if self.method != "simsiam":
            self._check_relative()
        check_number("weight_decay", self.weight_decay, 0, 1e6)
        check_number("decay_fraction", self.decay_fraction, 0, 1)

    def _check_relative(self) -> None:
        """A relative has a loss of its own, so the knobs of SimSiam's loss must be as they are."""
        for name, wanted in (("symmetric", True), ("pairs", 1), ("similarity", "cosine")):
            if getattr(self, name) != wanted:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}, which is for SimSiam's loss: {self.method} has its own, "
                    f"so leave it at {wanted!r}."
                )

    def replace(self, **changes: Any) -> Recipe:
        """This recipe with some knobs changed. Errors: `InputError` for an unknown knob or a bad value."""
        return Recipe.from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """The knobs as a flat dict that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, knobs: dict[str, Any]) -> Recipe:
        """A recipe from a dict of knobs; those not given keep their default. Errors: `InputError`, unknown knob."""
        if not isinstance(knobs, dict):
            raise InputError(f"The knobs of a recipe are {shown(knobs)}, expected a dict: {{'epochs': 3}}.")
        names = [field.name for field in dataclasses.fields(cls)]
        for name in knobs:
            if name not in names:
                raise InputError(
                    f"A recipe has no knob '{name}'{nearest(name, names)}: the knobs are {', '.join(names)}."
                )
        return cls(**knobs)

    def differences(self, other: Recipe) -> str:
        """The knobs in which two recipes differ, as one phrase: 'lr 0.6 and 0.3'."""
        mine, theirs = self.to_dict(), other.to_dict()
        return ", ".join(f"{k} {mine[k]} and {theirs[k]}" for k in mine if mine[k] != theirs[k])

    def step_lr(self, step: int, total: int) -> float:
        """The learning rate of the backbone and the projector at one step (0 .. total - 1)."""
        return learning_rate(
            step, total, lr=self.lr, batch_size=self.batch_size, schedule=self.schedule,
            warmup_steps=self.warmup_steps, decay_fraction=self.decay_fraction,
        )  # fmt: skip

    def build(self) -> SimSiam:
        """A fresh model as this recipe's seed makes it; the global generator is left as it was."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            backbone, dim = create_backbone(self.backbone, cifar_stem=self.cifar_stem)
            relative = {} if self.method == "simsiam" else {
                name: getattr(self, name)
                for name in ("without", "temperature", "target_momentum", "target_every", "bank_size")
            }  # fmt: skip
            model = METHODS[self.method].create(
                backbone, dim, self.projection_dim, self.hidden_dim, self.predictor_hidden_dim,
                stop_gradient=self.stop_gradient, predictor=self.predictor, hidden_bn=self.hidden_bn,
                output_bn=self.output_bn, predictor_bn=self.hidden_bn, predictor_output_bn=self.predictor_output_bn,
                projector_layers=self.projector_layers, init=self.init, joint=self.joint, **relative,
            )  # fmt: skip
        return model.to(memory_format=torch.channels_last) if self.channels_last else model


def settled(name: str) -> dict[str, Any]:
    """Every knob that any preset sets, with its value under this one: by these presets are told apart."""
    knobs = Recipe.from_dict(preset(name)).to_dict()
    return {knob: knobs[knob] for knob in {knob for one in PRESETS.values() for knob in one}}


def learning_rate(
    step: int,
    total: int,
    *,
    lr: float,
    batch_size: int,
    schedule: str = "cosine",
    warmup_steps: int = 0,
    decay_fraction: float = 0.25,
) -> float:
    """The learning rate at one step: linear scaling with the batch, a linear warm-up, then the schedule.

    `lr` is per 256 images; `step` runs from 0 to `total` - 1. `cosine` falls from the first step on,
    `stable_decay` stays constant and falls linearly over the last `decay_fraction` of the steps.
    Errors: `InputError` for an unknown schedule, or a number out of its range. Source: Sec. 3 (scaling, cosine).
    """
    check_choice("schedule", schedule, SCHEDULES)
    check_whole(total=total, batch_size=batch_size, most=MOST)
    check_whole(step=step, least=0, most=total - 1)
    check_whole(warmup_steps=warmup_steps, least=0, most=MOST)
    check_number("lr", lr, 0, 1e100, open_ends=True)
    check_number("decay_fraction", decay_fraction, 0, 1)
    peak = lr * batch_size / 256
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, total - warmup_steps)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "stable_decay" and decay_fraction > 0:
        return peak * min(1.0, (1 - done) / decay_fraction)
    return peak
