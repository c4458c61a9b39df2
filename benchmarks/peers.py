"""Our training loop and the peers': lightly's, and the same loop on kornia's and on torchvision's augmentations.

Everyone trains the model that the recipe builds, with its batch, its SGD and one forward pass a view, on views made
by the recipe's augmentations, said in the library's own terms. A peer's loop is that of lightly's SimSiam example
(examples/pytorch/simsiam.py), which never waits for a number either; only where the views come from differs. Memory
format is everyone's own: what the recipe says in ours, PyTorch's default in theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import torch
import views
from torch import Tensor
from torch.nn.functional import cosine_similarity

from simsiam_course.augment import PRESETS, two_views
from simsiam_course.data import ImageSet
from simsiam_course.recipe import Recipe
from simsiam_course.train import fit


class Contestant(Protocol):
    """Who takes part: `pairs` makes the views of so many steps, `train` takes the steps and returns images/s."""

    def pairs(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]: ...
    def train(self, steps: int) -> float: ...
    def close(self) -> None: ...


class Ours:
    """The package's `fit`, its set-up, monitors and final check included."""

    def __init__(self, images: ImageSet, recipe: Recipe) -> None:
        self.images, self.recipe = images, recipe.replace(epochs=1)
        self.model = recipe.build()
        self.draws = torch.Generator().manual_seed(recipe.seed)

    def train(self, steps: int) -> float:
        images = self.images.subset(views.shuffled(len(self.images), steps * self.recipe.batch_size))
        start = time.perf_counter()
        history = fit(self.model, images, self.recipe, device="cpu", progress=False)
        return history[-1]["images_seen"] / (time.perf_counter() - start)

    def pairs(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        augmentation, mean, std = PRESETS[self.recipe.augmentation], self.images.mean, self.images.std
        batch = self.recipe.batch_size
        for chosen in views.shuffled(len(self.images), steps * batch).split(batch):
            yield two_views(self.images.images[chosen], augmentation, self.draws, mean, std)

    def close(self) -> None:
        pass


class Peer:
    """The loop of lightly's example around any source of pairs of views."""

    def __init__(
        self,
        pairs: views.Pairs,
        images: ImageSet,
        recipe: Recipe,
        criterion: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.pairs, self.batch, self.criterion = pairs, recipe.batch_size, criterion
        self.model = recipe.build().to(memory_format=torch.contiguous_format)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=recipe.lr * recipe.batch_size / 256,
            momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay,
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.model.projector(self.model.backbone(x))  # without the checks that our own forward makes
        return z.detach(), self.model.predictor(z)

    def train(self, steps: int) -> float:
        self.model.train()
        start = time.perf_counter()
        total_loss = torch.zeros(())
        for x0, x1 in self.pairs(steps):
            (z0, p0), (z1, p1) = self.forward(x0), self.forward(x1)
            loss = 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))
            total_loss += loss.detach()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return steps * self.batch / (time.perf_counter() - start)

    def close(self) -> None:
        if isinstance(self.pairs, views.Loader):
            self.pairs.close()


def lightly(images: ImageSet, recipe: Recipe, *, workers: int) -> Peer:
    """lightly: its data set, transform, collate function and loss; PIL images in a DataLoader."""
    from lightly.data import LightlyDataset
    from lightly.data.multi_view_collate import MultiViewCollate
    from lightly.loss import NegativeCosineSimilarity

    transform = views.lightly_transform(PRESETS[recipe.augmentation], images)
    dataset = LightlyDataset.from_torch_dataset(views.Pictures(images), transform=transform)
    loader = views.Loader(dataset, recipe, workers=workers, collate_fn=MultiViewCollate())
    return Peer(loader, images, recipe, NegativeCosineSimilarity())


def torchvision(images: ImageSet, recipe: Recipe, *, workers: int) -> Peer:
    """torchvision v2 on tensors, image by image in a DataLoader: on a batch v2 draws once for all its images."""
    transform = views.torchvision_transform(PRESETS[recipe.augmentation], images)
    return Peer(
        views.Loader(views.Tensors(images, transform), recipe, workers=workers),
        images,
        recipe,
        negative_cosine,
    )


def kornia(images: ImageSet, recipe: Recipe) -> Peer:
    """kornia on whole batches, each image with its own draw; the images stay on the device, as in our loop."""
    augment = views.kornia_transform(PRESETS[recipe.augmentation], images)

    def pairs(steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in views.shuffled(len(images), steps * recipe.batch_size).split(recipe.batch_size):
            x = images.images[chosen] / 255
            yield augment(x), augment(x)

    return Peer(pairs, images, recipe, negative_cosine)


def negative_cosine(z: Tensor, p: Tensor) -> Tensor:
    """What lightly's NegativeCosineSimilarity computes."""
    return -cosine_similarity(z, p, dim=1).mean()


CONTESTANTS: dict[str, Callable[[ImageSet, Recipe], Contestant]] = {
    "ours": Ours,
    "lightly-0": partial(lightly, workers=0),
    "lightly-2": partial(lightly, workers=2),
    "lightly-8": partial(lightly, workers=8),
    "kornia": kornia,
    "torchvision-0": partial(torchvision, workers=0),
    "torchvision-2": partial(torchvision, workers=2),
}


def title(name: str) -> str:
    """'lightly-2' as a person would write it."""
    library, _, workers = name.partition("-")
    library = {"torchvision": "torchvision v2"}.get(library, library)
    return f"{library}, {workers} workers" if workers else library
