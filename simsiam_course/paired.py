"""What a list of augmentations leaves of a digit: factors read off views by a line, on pairs that differ in one factor.

Each handwritten digit is there twice, as it is and with one factor changed; each of the two gets a random view of its
own. A linear probe on fixed random features is fitted to the views of some digits, and asked of views of others which
of the two it sees. What it can tell survived the augmentations, so a network may learn it; what it cannot tell is gone
from what two views share.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .augment import Augmentation
from .data import ImageSet, load_pair
from .errors import InputError

FACTORS = {  # name -> what the second picture of a pair has done to it
    "digit": "nothing is changed: which of the ten digits it is",
    "mirror": "left and right exchanged",
    "upside down": "top and bottom exchanged",
    "half turn": "turned by half a turn, as a 6 that becomes a 9",
    "colour": "written in blue ink, the other in red",
    "ink": "written in paler ink, at four fifths of the brightness",
}
CHANCE = {name: 0.1 if name == "digit" else 0.5 for name in FACTORS}
# What is read with at least the first accuracy is kept, what is read with at most the second is removed.
READ, GONE = 0.7, 0.65
SIZE, MARGIN = 16, 2  # pixels a side, and of those around a digit
FITTED, ASKED, ROUNDS = 350, 200, 2  # digits to fit the probe to, others to ask it of, views of each
WIDTH, RIDGE = 256, 30.0  # random features, and the penalty of the probe
# Two inks, one the other with its hue turned: as bright and as colourful.
RED, BLUE = (0.9, 0.45, 0.45), (0.533, 0.533, 0.983)


def changed(images: Tensor, factor: str) -> Tensor:
    """The second pictures of the pairs, uint8 (N, 3, H, W) -> the same. Errors: `InputError`, unknown factor."""
    if factor not in FACTORS:
        raise InputError(f"There is no factor '{factor}': choose from {', '.join(FACTORS)}.")
    if factor == "mirror":
        return images.flip(3)
    if factor == "upside down":
        return images.flip(2)
    if factor == "half turn":
        return images.flip(2, 3)
    if factor == "ink":
        return (images.float() * 0.8).round().to(torch.uint8)
    return _tinted(images, BLUE) if factor == "colour" else images


def _tinted(images: Tensor, colour: tuple[float, ...]) -> Tensor:
    return (images.float() * torch.tensor(colour)[:, None, None]).round().to(torch.uint8)


def read_in_views(augmentation: Augmentation, *, seed: int = 0) -> dict[str, float]:
    """How often a linear probe reads each factor off one view of a digit that it was not fitted to: name -> accuracy.

    Chance is .1 for the digit and .5 for the others. About a second on two cores; the same list again costs nothing.
    Errors: `InputError` where it is no `Augmentation`.
    """
    if not isinstance(augmentation, Augmentation):
        raise InputError(f"got a {type(augmentation).__name__}, expected an augment.Augmentation: make one.")
    return dict(_read_in_views(augmentation, seed))


@cache
def _read_in_views(augmentation: Augmentation, seed: int) -> dict[str, float]:
    train, test = _digits()
    found = {}
    for factor in FACTORS:
        generator = torch.Generator().manual_seed(seed)
        fitted, asked = (_views(part, factor, augmentation, generator) for part in (train, test))
        found[factor] = _probe(*fitted, *asked, classes=10 if factor == "digit" else 2)
    return found


@cache
def _digits() -> tuple[ImageSet, ImageSet]:
    """Digits with a margin around them, some to fit the probe to and others to ask it of."""
    train, test = load_pair("digits", size=SIZE - 2 * MARGIN)

    def framed(part: ImageSet, count: int) -> ImageSet:
        some = part.sample(count)
        return ImageSet(F.pad(some.images, (MARGIN,) * 4), some.labels, some.classes)

    return framed(train, FITTED), framed(test, ASKED)


def _views(
    part: ImageSet, factor: str, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random features of views and what is to be read off them. Shapes: (M, WIDTH), (M,)."""
    first = _tinted(part.images, RED) if factor == "colour" else part.images
    kinds = [first] if factor == "digit" else [first, changed(part.images, factor)]
    images = torch.cat(kinds * ROUNDS)
    if factor == "digit" and part.labels is not None:
        labels = part.labels.repeat(ROUNDS)
    else:
        labels = torch.arange(len(kinds)).repeat_interleave(len(part)).repeat(ROUNDS)
    pixels = augmentation(images, generator, part.mean, part.std).flatten(1)  # (M, 3 H W)
    fixed = torch.Generator().manual_seed(0)
    weights = torch.randn(pixels.shape[1], WIDTH, generator=fixed) / pixels.shape[1] ** 0.5
    return (pixels @ weights + 0.5 * torch.rand(WIDTH, generator=fixed)).relu(), labels


def _probe(views: Tensor, labels: Tensor, asked: Tensor, truth: Tensor, *, classes: int) -> float:
    """Accuracy of a ridge regression on the labels, one column a class. Shapes: (M, D), (M,), (K, D), (K,)."""
    mean, share = views.mean(dim=0), F.one_hot(labels, classes).double().mean(dim=0)
    x, y = (views - mean).double(), F.one_hot(labels, classes).double() - share
    gram = x.T @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(gram, x.T @ y)  # (D, C)
    read = (asked - mean).double() @ weights + share
    return (read.argmax(dim=1) == truth).double().mean().item()
