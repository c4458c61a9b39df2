"""Lesson 00: one small exercise, to meet the checks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .core import Exercise, Fact, Function, Suspect, elsewhere, kind_and_shape, unchanged


def average_pool(x: Tensor) -> Tensor:
    """The mean over all places of every channel: what ends a CNN backbone. Shapes: (B, C, H, W) -> (B, C)."""
    return x.mean(dim=(2, 3))


def maps(b: int = 2, c: int = 3, h: int = 4, w: int = 5) -> Tensor:
    """Feature maps, (b, c, h, w)."""
    return torch.randn(b, c, h, w)


def _counted(f: Function) -> Any:
    return f(torch.tensor([[[[0.0, 3.0], [2.0, 1.0]], [[4.0, 7.0], [6.0, 5.0]]]]))


def _gradient(f: Function) -> Tensor:
    x, at = maps().requires_grad_(), torch.randn(2, 3)
    return torch.autograd.grad((f(x) * at).sum(), x)[0]


AVERAGE_POOL = Exercise(
    "0.1",
    "average_pool",
    average_pool,
    facts=[
        Fact("For x of shape (2, 3, 4, 5) it gives one number for each image and channel, shape (2, 3).",
             lambda f: kind_and_shape(f(maps()))),
        Fact("For one image with the channels [[0, 3], [2, 1]] and [[4, 7], [6, 5]] it gives [[1.5, 5.5]].", _counted),
        Fact("It holds for random maps, higher than wide.", lambda f: f(maps(4, 2, 7, 3))),
        Fact("It works for a batch of one with one channel, too: shape (1, 1).",
             lambda f: kind_and_shape(f(maps(1, 1)))),
        Fact("x stays as it was.", lambda f: unchanged(f, maps())),
        Fact("Gradients flow through it.", _gradient),
        Fact("It computes where x is.", lambda f: elsewhere(f, maps())),
    ],
    suspects=[
        Suspect("The mean went over everything. Name the two dimensions of a picture: `dim=(2, 3)`.",
                lambda x: x.mean()),
        Suspect("The mean went over images and channels. The dimensions are counted from 0: height is 2, width is 3.",
                lambda x: x.mean(dim=(0, 1))),
        Suspect("The channels were averaged as well: (1, 2, 3) is one dimension too many.",
                lambda x: x.mean(dim=(1, 2, 3))),
        Suspect("The images were averaged as well: dimension 0 is the batch.", lambda x: x.mean(dim=(0, 2, 3))),
        Suspect("Only the width was averaged: height is dimension 2.", lambda x: x.mean(dim=3)),
        Suspect("Only the height was averaged: width is dimension 3.", lambda x: x.mean(dim=2)),
        Suspect("The averaged dimensions were kept with length 1: leave out `keepdim`.",
                lambda x: x.mean(dim=(2, 3), keepdim=True)),
        Suspect("This is the sum. Divide by the number of places, or use `mean`.", lambda x: x.sum(dim=(2, 3))),
        Suspect("This is the largest value, not the mean.", lambda x: x.amax(dim=(2, 3))),
    ],
    hints=(
        "Two of the four dimensions are to disappear: height and width.",
        "`x.mean(dim=...)` takes several dimensions at once, as a tuple.",
        "`return x.mean(dim=(2, 3))`",
    ),
)  # fmt: skip

EXERCISES = (AVERAGE_POOL,)
