"""What a representation kept: how well the factors behind `patterns` can be read off frozen features by a line.

`patterns` are drawn by code, so the hue, frequency and orientation of each image are known. A linear read-out is fitted
to the features of the training images and judged on those of the test images. What two views of an image do not share
need not be in the features: the augmentations decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .data import ImageSet
from .errors import InputError
from .evaluate import embed

FACTORS = ("hue", "frequency", "orientation")
RIDGE = 1.0  # the penalty: channels of standardised features may say the same


def on_circle(angle: Tensor) -> Tensor:
    """Angles as points, (N,) radians -> (N, 2): 0 and a whole turn are the same."""
    return torch.stack((angle.cos(), angle.sin()), dim=1)


def targets(factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a read-out is fitted to, by factor: (N, 1), or (N, 2) for what is circular.

    A print turned by half a turn is the same print, so the target of the orientation is twice the angle.
    """
    return {
        "hue": on_circle(2 * math.pi * factors["hue"]),
        "frequency": factors["frequency"][:, None],
        "orientation": on_circle(2 * factors["orientation"]),
    }


def read_out(train_features: Tensor, train_target: Tensor, features: Tensor, target: Tensor) -> float:
    """R^2 on test images of a ridge regression on standardised features: 1 = read exactly, 0 = no better than the mean.

    (N, D), (N, T), (M, D), (M, T) -> from 0 to 1; what is worse than the mean counts as 0. InputError where the shapes
    do not fit or a feature is not finite.
    """
    given = (train_features, train_target, features, target)
    if not all(isinstance(x, Tensor) and x.is_floating_point() and x.ndim == 2 and x.numel() for x in given):
        raise InputError(
            "What is read and what it is read off are tensors of floats: (N, D), (N, T), (M, D), (M, T)."
        )
    fits = (
        train_target.shape[1] == target.shape[1]
        and train_features.ndim == features.ndim == 2
        and train_features.shape[1] == features.shape[1]
    )
    if not fits or len(train_features) != len(train_target) or len(features) != len(target):
        shapes = ", ".join(str(tuple(x.shape)) for x in (train_features, train_target, features, target))
        raise InputError(f"The shapes are {shapes}, expected (N, D), (N, T), (M, D), (M, T).")
    if not all(x.isfinite().all() for x in given):
        raise InputError("The features hold NaN or infinity: the training has diverged.")
    train_features, train_target, features, target = (x.detach() for x in given)
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    line = make_pipeline(StandardScaler(), Ridge(alpha=RIDGE))
    line.fit(train_features.double().cpu().numpy(), train_target.double().cpu().numpy())
    read = line.predict(features.double().cpu().numpy())  # (M, T)
    return max(0.0, float(r2_score(target.double().cpu().numpy(), read, multioutput="variance_weighted")))


def factor_probes(model: nn.Module, train: ImageSet, test: ImageSet) -> dict[str, float | None]:
    """R^2 of hue, frequency and orientation, read off a model's frozen features; None where these are not finite.

    InputError for images without factors: only `patterns` have them.
    """
    if not all(factor in images.factors for images in (train, test) for factor in FACTORS):
        raise InputError(f"'{train.name}' does not know the factors behind its images: use 'patterns'.")
    bank, features = embed(model, train), embed(model, test)  # (N, D), (M, D)
    if not (bank.isfinite().all() and features.isfinite().all()):
        return dict.fromkeys(FACTORS)
    known, wanted = targets(train.factors), targets(test.factors)
    return {name: read_out(bank, known[name], features, wanted[name]) for name in FACTORS}
