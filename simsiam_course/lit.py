"""The training of this course as a LightningModule: what is left to say when a framework brings the loop.

    from simsiam_course import Recipe, lit, load_pair

    train, _ = load_pair("patterns")
    module = lit.train(Recipe(), train)             # one device
    module = lit.train(Recipe(), train, devices=2)  # two GPUs: DDP with synchronized batch norm

Lightning brings devices, processes, precision, logging and checkpoints. What is SimSiam stays here: two views, the
loss, and the rate of h. Needs the extra `scale`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from .augment import PRESETS, two_views
from .data import ImageSet
from .errors import InputError
from .recipe import Recipe
from .train import make_optimizer, set_rates, train_step

try:
    import lightning as L
except ImportError as error:
    raise InputError("Lightning is not here: python -m pip install 'simsiam-course[scale]'.") from error

PRECISION: dict[str, Any] = {"off": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class LitSimSiam(L.LightningModule):
    """A recipe's model with what Lightning asks of it; a batch is (uint8 images (B, 3, H, W),)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, recipe: Recipe, images: ImageSet) -> None:
        super().__init__()
        self.recipe, self.model = recipe, recipe.build()
        self.register_buffer("mean", images.mean)
        self.register_buffer("std", images.std)

    def on_fit_start(self) -> None:
        seed = self.recipe.seed + 1 + self.global_rank  # every process draws its own
        self.draws = torch.Generator(self.device).manual_seed(seed)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        total = int(self.trainer.estimated_stepping_batches)
        set_rates(self.trainer.optimizers[0], self.recipe, self.global_step, total)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        views = two_views(batch[0], PRESETS[self.recipe.augmentation], self.draws, self.mean, self.std)
        loss = train_step(self.model, *views)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.model, self.recipe)[0]


def loader(recipe: Recipe, images: ImageSet, devices: int = 1) -> DataLoader:
    """Whole batches of bytes in a new order every pass; each of `devices` processes gets its share of a batch.

    Errors: `InputError` where the batch does not divide.
    """
    size, left = divmod(recipe.batch_size, devices)
    if left:
        raise InputError(
            f"A batch of {recipe.batch_size} cannot be shared by {devices} devices: choose a multiple."
        )
    order = torch.Generator().manual_seed(recipe.seed)
    return DataLoader(TensorDataset(images.images), size, shuffle=True, drop_last=True, generator=order)


def train(recipe: Recipe, images: ImageSet, *, devices: int = 1, **options: Any) -> LitSimSiam:
    """Trains by Lightning on one device or, with DDP, on several; `options` go to its Trainer.

    Errors: `InputError` for a recipe of another method than SimSiam, or a batch that does not divide.
    """
    if recipe.method != "simsiam":
        raise InputError(f"This module trains simsiam, not {recipe.method}: use simsiam_course.fit.")
    module = LitSimSiam(recipe, images)
    several: dict[str, Any] = {"strategy": "ddp", "sync_batchnorm": True} if devices > 1 else {}
    trainer = L.Trainer(
        max_epochs=recipe.epochs, devices=devices, precision=PRECISION[recipe.amp], **several | options
    )
    trainer.fit(module, loader(recipe, images, devices))
    return module
