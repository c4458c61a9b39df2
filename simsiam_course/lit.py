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
from .train import check_images, make_optimizer, set_rates, train_step

try:
    import lightning as L
except ImportError as error:
    raise InputError("Lightning is not here: python -m pip install 'simsiam-course[scale]'.") from error

PRECISION: dict[str, Any] = {"off": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
CARRIED: dict[str, tuple[Any, ...]] = {  # of the knobs of the loss and the loop; all others are carried
    "method": ("simsiam",), "similarity": ("cosine",), "symmetric": (True,), "pairs": (1,), "compile": (False,),
    "stop_gradient": ("target", "none", "wrong_side"),
}  # fmt: skip


class LitSimSiam(L.LightningModule):
    """A recipe's model with what Lightning asks of it; a batch is (uint8 images (B, 3, H, W),)."""

    def __init__(self, recipe: Recipe, images: ImageSet) -> None:
        super().__init__()
        self.recipe, self.model = recipe, recipe.build()
        self.model.pixel_mean.copy_(images.mean)  # for `measure` and `embed` too
        self.model.pixel_std.copy_(images.std)

    def on_fit_start(self) -> None:
        seed = self.recipe.seed + 1 + self.global_rank  # every process draws its own
        self.draws = torch.Generator(self.device).manual_seed(seed)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        total = int(self.trainer.estimated_stepping_batches)
        set_rates(self.trainer.optimizers[0], self.recipe, self.global_step, total)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        moments = self.model.pixel_mean, self.model.pixel_std
        views = two_views(batch[0], PRESETS[self.recipe.augmentation], self.draws, *moments)
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

    Errors: `InputError` for a knob that is not carried, a batch larger than the set or one that does not divide, or
    images that cannot be augmented as the recipe says.
    """
    for knob, carried in CARRIED.items():
        if (value := getattr(recipe, knob)) not in carried:
            raise InputError(
                f"{knob} is {value!r}, and Lightning's version trains with {' or '.join(map(repr, carried))} only: "
                "use simsiam_course.fit."
            )
    check_images(recipe, images)
    module = LitSimSiam(recipe, images)
    several: dict[str, Any] = {"strategy": "ddp", "sync_batchnorm": True} if devices > 1 else {}
    trainer = L.Trainer(
        max_epochs=recipe.epochs, devices=devices, precision=PRECISION[recipe.amp], **several | options
    )
    trainer.fit(module, loader(recipe, images, devices))
    return module
