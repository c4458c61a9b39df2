"""What one watches while a network trains: kNN accuracy, and z of a few images as points in a plane.

A `Watch` is a callback for `fit`. The lessons, the interactive lab and the ledgers use the same one, so that a replay
shows what a live run would have.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .collapse import unit_rows
from .data import ImageSet
from .evaluate import accuracy_between, embed, no_accuracy, project
from .recipe import Recipe
from .train import total_steps

BANK, QUERIES, POINTS = 1_024, 512, 200  # images: neighbours, those that ask, those whose z is drawn
STEPS = 127  # of a coordinate from 0 to 1: what is kept of it in a ledger


class Watch:
    """A callback for `fit` that measures at `moments` rows of a run, evenly spread, the first and the last among them.

    It gives the history a column `knn`, None in the other rows, and keeps in `frames` where z of 200 test images lies:
    {"step", "points"}, points (N, 2) as `plane` has them. `labels` are those images' classes, (N,).
    """

    def __init__(self, train: ImageSet, test: ImageSet, recipe: Recipe, *, moments: int = 12) -> None:
        self.bank, self.queries, self.sample = train.sample(BANK), test.sample(QUERIES), test.sample(POINTS)
        self.labels = self.sample.labels
        self.accuracy = not no_accuracy(self.bank, self.queries)
        last, every = total_steps(recipe, train), recipe.monitor_every
        spread = [every + i * (last - every) / max(1, moments - 1) for i in range(moments)]
        self.due = sorted({min(last, math.ceil(step / every) * every) for step in spread})
        self.frames: list[dict[str, Any]] = []

    def __call__(self, row: Mapping[str, Any], model: nn.Module) -> dict[str, float | None]:
        """The column for a row; a model whose features are no longer finite has None, and no frame."""
        if row["step"] not in self.due:
            return {"knn": None}
        features, z = embed(model, self.bank), project(model, self.sample)  # (N, backbone_dim), (N, D)
        if not (features.isfinite().all() and z.isfinite().all()):
            return {"knn": None}
        before = self.frames[-1]["points"] if self.frames else None
        self.frames.append({"step": row["step"], "points": plane(z, before)})
        if not self.accuracy:
            return {"knn": None}
        return {"knn": accuracy_between(features, self.bank, embed(model, self.queries), self.queries)}


def plane(z: Tensor, before: Tensor | None = None) -> Tensor:
    """z/|z| seen along its two widest directions, from its mean.

    z: (N, D) -> (N, 2), coordinates from -2 to 2 in lengths of z/|z|: one output for all images is one point, outputs
    along a line are a line. With `before`, the points of an earlier moment, it is turned and mirrored to lie as near
    them as it can, so that a film does not jump. InputError as in `unit_rows`.
    """
    u = unit_rows(z).double()
    u = u - u.mean(dim=0)
    _, _, v = torch.linalg.svd(u, full_matrices=False)  # (min(N, D), D)
    points = u @ v[:2].T  # (N, 2)
    if points.shape[1] < 2:  # z has one channel
        points = torch.cat([points, torch.zeros_like(points)], dim=1)
    if before is not None:  # orthogonal Procrustes: the rotation nearest to the earlier points
        a, _, b = torch.linalg.svd(points.T @ before.double())
        points = points @ (a @ b)
    return points.float()


def pack(points: Tensor) -> str:
    """Points as text for a ledger, (N, 2) -> base64 of bytes; coordinates beyond 1 are cut, the error is below .004."""
    steps = (points.clamp(-1, 1) * STEPS).round().to(torch.int8).contiguous()
    return base64.b64encode(steps.numpy().tobytes()).decode("ascii")


def unpack(text: str) -> Tensor:
    """The points of `pack`, (N, 2)."""
    steps = torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.int8)
    return steps.view(-1, 2).float() / STEPS
