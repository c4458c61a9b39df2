"""Two questions to ask of your own images before you believe an accuracy: does the test leak, and how few labels do?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError


def near_duplicates(train: Tensor, test: Tensor, threshold: float) -> Tensor:
    """Which test images have a near-duplicate among the training images: a cosine of at least `threshold` to any.

    train: (N, D), test: (M, D), features or pixels -> bool (M,). Errors: `InputError` for shapes that do not fit. What
    is true of a test image that was also trained on says nothing of images that come tomorrow.
    """
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1] or not len(train):
        raise InputError(
            f"The shapes are {tuple(train.shape)} and {tuple(test.shape)}, expected (N, D) and (M, D)."
        )
    cosines = F.normalize(test.float(), dim=1) @ F.normalize(train.float(), dim=1).T  # (M, N)
    return cosines.amax(dim=1) >= threshold  # (M,)


def few_labels(labels: Tensor, shots: int) -> Tensor:
    """The rows of the first `shots` images of every class, in their original order; unlabelled ones (-1) never.

    labels: int64 (N,) -> int64 (at most classes x shots,). Errors: `InputError` for fewer than one shot. With these
    rows a linear probe says how many labels a backbone needs.
    """
    if shots < 1:
        raise InputError(f"shots is {shots}, expected a whole number of at least 1.")
    rows = [(labels == label).nonzero().flatten()[:shots] for label in labels.unique().tolist() if label >= 0]
    return torch.cat(rows).sort().values if rows else torch.empty(0, dtype=torch.int64, device=labels.device)
