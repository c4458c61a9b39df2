"""Lesson 00's check passes every right average, however it is written, and no wrong one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from simsiam_course.exercises.core import judge
from simsiam_course.exercises.start import AVERAGE_POOL

RIGHT = {
    "negative dimensions": lambda x: torch.mean(x, dim=[-1, -2]),
    "one after the other": lambda x: x.mean(3).mean(2),
    "flattened": lambda x: x.flatten(2).mean(-1),
    "pooled": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "einsum": lambda x: torch.einsum("bchw->bc", x) / (x.shape[2] * x.shape[3]),
    "by a loop": lambda x: torch.stack([torch.stack([channel.mean() for channel in image]) for image in x]),
}
WRONG = {
    "second channel detached": (lambda x: torch.cat((x[:, :1], x[:, 1:].detach()), 1).mean((2, 3)), ""),
    "sparse": (lambda x: x.mean((2, 3)).to_sparse(), ""),
    "on another device": (lambda x: x.to("meta").mean((2, 3)), ""),
    "squeezed": (lambda x: x.mean((2, 3)).squeeze(), ""),
    "median": (lambda x: x.flatten(2).median(2).values, ""),
    "largest": (lambda x: x.amax((2, 3)), "This is the largest value"),
}


@pytest.mark.parametrize("function", RIGHT.values(), ids=RIGHT)
def test_a_right_average_passes_however_it_is_written(function):
    verdict = judge(AVERAGE_POOL, function)
    assert verdict.status == "passed", (verdict, verdict.yours, verdict.expected)


@pytest.mark.parametrize(("function", "because"), WRONG.values(), ids=WRONG)
def test_a_wrong_average_fails(function, because):
    verdict = judge(AVERAGE_POOL, function)
    assert verdict.status == "failed" and because in verdict.cause


def test_the_pixel_in_the_middle_is_not_called_the_largest():
    verdict = judge(AVERAGE_POOL, lambda x: x[:, :, x.shape[2] // 2, x.shape[3] // 2])
    assert verdict.status == "failed" and "largest" not in verdict.cause
