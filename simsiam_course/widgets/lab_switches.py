"""What the lab lets one change, in words, and the runs that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..recipe import Recipe

DEFAULT = Recipe()


@dataclass(frozen=True)
class Switch:
    """A knob of the recipe that the lab offers: its label, its choices as (words, value), and what it is for."""

    label: str
    choices: tuple[tuple[str, Any], ...]
    tip: str

    def brief(self, value: Any) -> str:
        """The first words of a choice; a value that is none of them speaks for itself."""
        words = next((words for words, choice in self.choices if choice == value), str(value))
        return words.partition(":")[0].partition(" (")[0]


SWITCHES = {
    "stop_gradient": Switch(
        "stop-gradient",
        (("target (paper)", "target"), ("none", "none"), ("both sides", "both"),
         ("wrong side", "wrong_side")),
        "Where the gradient stops: on z, nowhere, on both, or on p.",
    ),
    "predictor": Switch(
        "predictor",
        (("MLP (paper)", "mlp"), ("none", "none"), ("frozen", "frozen"), ("bias only", "bias")),
        "The head h: trained, left out, random and never trained, or p = z + b.",
    ),
    "output_bn": Switch(
        "output BN",
        (("affine-free (paper)", "affine_free"), ("affine", "affine"), ("none", "none")),
        "Batch normalisation at the end of the projector.",
    ),
    "predictor_lr": Switch(
        "predictor lr",
        tuple(
            (f"{times:g} times lr" + (" (paper)" if times == 1 else ""), times)
            for times in sorted({0.1, 1.0, 4.0, 16.0, DEFAULT.predictor_lr})
        ),
        "The learning rate of h, as a multiple of that of the encoder.",
    ),
    "batch_size": Switch(
        "batch size",
        tuple((str(size), size) for size in (32, 64, 128, 256, 512)),
        "Images a step. The learning rate goes with it, as in the paper.",
    ),
    "augmentation": Switch(
        "augmentation",
        (("very weak: large crops", "digits"), ("weak: crops, flips", "crop_and_flip"),
         ("medium: and colours", "cifar"), ("strong: and any hue", "patterns"),
         ("strongest: small crops, blur", "simclr")),
        "How far two views of one image may differ: a preset of augment.py.",
    ),
}  # fmt: skip
PHRASES = {
    ("stop_gradient", "none"): "no stop-gradient",
    ("stop_gradient", "both"): "stop-gradient on both sides",
    ("stop_gradient", "wrong_side"): "stop-gradient on the wrong side",
    ("predictor", "none"): "no predictor",
    ("predictor", "frozen"): "frozen predictor",
    ("predictor", "bias"): "bias predictor",
    ("output_bn", "affine"): "affine output BN",
    ("output_bn", "none"): "no output BN",
}


@dataclass(frozen=True)
class Preset:
    """Variants of the experiment `failures` that belong together, and what to look at when they are compared."""

    title: str
    variants: tuple[str, ...]
    look: str


LAB_PRESETS = {
    "figure_2": Preset(
        "The paper's Figure 2",
        ("simsiam", "no_stop_gradient"),
        "With and without stop-gradient. Which run has the lower loss, and which has learned something? In the paper "
        "(ImageNet, Figure 2) the loss without stop-gradient goes to -1 at once, std to 0, and kNN to chance.",
    ),
    "table_1": Preset(
        "Table 1",
        ("simsiam", "no_predictor", "frozen"),
        "The predictor trained, left out, and random. In the paper (Table 1: 67.7, 0.1 and 1.5 % linear accuracy) "
        "the last two fail for different reasons. Which of them is a collapse, and which number tells you so?",
    ),
    "bn": Preset(
        "BN hides the collapse",
        ("simsiam", "no_stop_gradient", "bn_none_no_stop_gradient"),
        "Two runs have no stop-gradient, and one of these no output BN. Look at std and effective rank of the "
        "training batches side by side: which of the two tells of the collapse in both runs?",
    ),
}


def difference(recipe: Recipe) -> str:
    """The switches that differ from the recipe's defaults, in words; 'SimSiam' where none does."""
    moved = [
        PHRASES.get((knob, value), f"{switch.label} {switch.brief(value)}")
        for knob, switch in SWITCHES.items()
        if (value := getattr(recipe, knob)) != getattr(DEFAULT, knob)
    ]
    return ", ".join(moved or ["SimSiam"]) + (f", seed {recipe.seed}" if recipe.seed else "")


def passes(recipe: Recipe) -> str:
    """'1 pass', '12 passes'."""
    return f"{recipe.epochs} pass{'es' if recipe.epochs > 1 else ''}"


def settings(recipe: Recipe) -> str:
    """Seed, passes and all switches with their values, in three lines."""
    said = [f"{switch.label} {switch.brief(getattr(recipe, knob))}" for knob, switch in SWITCHES.items()]
    length = f"seed {recipe.seed}, {passes(recipe)}"
    return "\n".join((f"{length}:", f"{', '.join(said[:3])},", ", ".join(said[3:])))
