"""How long a training would take: here from measured steps, on a GPU estimated from what there is to compute.

The work of one image is counted: the floating-point operations of the convolutions and matrix products of both
views, forward and backward. This machine is measured. A GPU is estimated on the assumption that it reaches the same
fraction of its data sheet's float32 peak as this processor reaches of its own best matrix product. Real loops reach
less where they wait for data or memory, and more in lower precision: an estimate gives the order of magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from .data import ImageSet, patterns
from .presets import preset
from .recipe import Recipe
from .speed import ENDLESS, matrix_rate, operations, turn
from .train import Trainer

PEAKS = {  # float32 operations a second without tensor cores, from NVIDIA's data sheets
    "T4": 8.1e12,
    "RTX A6000": 38.7e12,
    "A100": 19.5e12,
}
CIFAR10 = 50_000  # training images


class Budget(NamedTuple):
    """One recipe: images that it sees, operations an image, images a second measured here, and hours by machine."""

    name: str
    images: int
    operations: float
    images_per_second: float
    fraction: float  # of the processor's best matrix product
    hours: Mapping[str, float]  # "here" measured, GPUs estimated


def operations_per_image(recipe: Recipe, images: ImageSet) -> float:
    """Floating-point operations of convolutions and matrix products for one image's two views, forward and backward."""
    trainer = Trainer(recipe.build(), images, recipe, device="cpu")
    chosen = torch.arange(recipe.batch_size)
    counted = operations(lambda: trainer.step(trainer.model, *trainer.views(chosen)).backward())
    trainer.close()
    return counted / recipe.batch_size


def throughput(recipe: Recipe, images: ImageSet, *, steps: int = 2) -> float:
    """Images a second of whole training steps on the CPU, measured now after one step to warm up."""
    trainer = Trainer(recipe.build(), images, recipe, device="cpu")
    trainer.advance()
    rate = turn(trainer, steps)
    trainer.close()
    return rate


def budget(
    name: str,
    *,
    images: int = CIFAR10,
    size: int = 32,
    batch_size: int = 32,
    steps: int = 2,
    peaks: Mapping[str, float] = PEAKS,
) -> Budget:
    """What a preset would cost on so many training images, from a few steps of it taken here and now.

    batch_size: of the measured steps, small so that they are short; the preset's own counts the images. Errors:
    `InputError`, unknown preset.
    """
    own = Recipe.from_dict(preset(name))
    small = own.replace(batch_size=min(batch_size, own.batch_size), epochs=ENDLESS)
    few = patterns(small.batch_size * 2, size=size)
    work, speed, rate = operations_per_image(small, few), throughput(small, few, steps=steps), matrix_rate()
    seen = images // own.batch_size * own.batch_size * own.epochs
    fraction = work * speed / rate
    hours = {"here": seen / speed / 3600}
    hours |= {gpu: seen * work / (fraction * peak) / 3600 for gpu, peak in peaks.items()}
    return Budget(name, seen, work, speed, fraction, hours)


def budget_table(budgets: list[Budget]) -> str:
    """The budgets as plain text, with the assumption that they rest on."""
    machines = list(budgets[0].hours)
    wide = max(len(b.name) for b in budgets)
    heads = [f"{m if m == 'here' else m + ', est.':>16}" for m in machines]
    lines = [
        f"{'recipe':<{wide}}{'images seen':>14}{'GFLOP an image':>16}{'images/s here':>15}" + "".join(heads)
    ]
    for b in budgets:
        cells = "".join(f"{_duration(b.hours[machine]):>16}" for machine in machines)
        lines.append(
            f"{b.name:<{wide}}{b.images / 1e6:>12.1f} M{b.operations / 1e9:>16.2f}{b.images_per_second:>15.0f}{cells}"
        )
    shares = ", ".join(f"{b.fraction:.0%}" for b in budgets)
    return "\n".join([*lines, f"Estimates assume the fraction of the peak that was reached here ({shares})."])


def _duration(hours: float) -> str:
    """Hours as a person says them."""
    if 60 * hours < 1:
        return "under a minute"
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"
