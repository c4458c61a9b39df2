r"""How far apart are two views, and who may move to close the gap?

SimSiam sees two views of an image. The encoder f turns them into projections z1 and z2, the predictor h
guesses each from the other, p1 = h(z1) and p2 = h(z2), and the loss asks how well it guessed. Lengths do
not matter, only directions (Eq. 1):

    D(p, z) = - p/|p| . z/|z|              from -1, the same direction, over 0 to +1, the opposite one

so a good loss is *negative*: read -.9, not 0. Both views play both parts (Eq. 2):

    L = D(p1, z2)/2 + D(p2, z1)/2

A constant output makes L = -1, the best there is, and knows nothing: that is *collapse*. What keeps SimSiam
away from it is one word in the code. z is a target, and no gradient flows into a target (Eq. 4):

    L = D(p1, sg z2)/2 + D(p2, sg z1)/2    sg(z) is z, taken as a constant: `z.detach()`

`symmetric_loss` can put sg elsewhere, because a thing is best understood by taking it away:

    target        D(p, sg z)       the method
    none          D(p, z)          both sides move; it collapses
    wrong_side    D(sg p, z)       the target runs after the prediction, and h never learns
    both          D(sg p, sg z)    nothing moves

Without a predictor p is z, and then sg changes no direction: every pair is counted from both sides and sg
keeps one of the two, so the gradient is exactly half of what it is without sg (Sec. 4.2). Neither the
stop-gradient alone nor the predictor alone prevents collapse: it takes both.

NaN in gives NaN out: a loss that is no number is how a training loop notices that a run diverged. Shapes and
types are checked, which is free; looking at the values would make a GPU wait for the CPU in every step.

Paper: Chen & He, *Exploring Simple Siamese Representation Learning*, CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from .errors import InputError, check_choice

STOP_GRADIENT = ("target", "none", "wrong_side", "both")


def negative_cosine(p: Tensor, z: Tensor, *, stop_gradient: bool = True) -> Tensor:
    """How well p points where z points: D(p, z), averaged over the batch.

    Shapes: p (B, D), z (B, D) -> (). Unit: -1 (same direction) to 1 (opposite); a row whose length is below 1e-12, or
    so large that its square overflows (1.8e19 in float32), has no direction and counts as 0.
    Errors: `InputError` for shapes that differ, an empty batch or numbers that are not floats.
    Source: Eq. 1 and 3.
    """
    _check_pair(p, z)
    if stop_gradient:
        z = z.detach()
    p = F.normalize(p, dim=1)  # (B, D), each row of length 1
    z = F.normalize(z, dim=1)  # (B, D)
    return -(p * z).sum(dim=1).mean()  # (B, D) -> (B,) -> ()


def cross_entropy_similarity(p: Tensor, z: Tensor, *, stop_gradient: bool = True) -> Tensor:
    """How well p predicts z when their D channels are read as the odds of D made-up classes.

    Shapes: p (B, D), z (B, D) -> (). Unit: nats, 0 or more; for a uniform p it is log D.
    Errors: as `negative_cosine`. Source: Sec. 4.5 (63.2 % where the cosine has 68.1 %).
    """
    _check_pair(p, z)
    if stop_gradient:
        z = z.detach()
    odds = F.softmax(z, dim=1)  # (B, D), each row sums to 1
    return -(odds * F.log_softmax(p, dim=1)).sum(dim=1).mean()  # (B, D) -> (B,) -> ()


def stop_gradient(p: Tensor, z: Tensor, where: str = "target") -> tuple[Tensor, Tensor]:
    """p and z as before, with the gradient stopped at one of them, at both or at none; no value changes.

    Shapes: any. Errors: `InputError` for an unknown `where`. Source: Eq. 3; the other places: Sec. 4.1.
    """
    check_choice("stop_gradient", where, STOP_GRADIENT)
    _check_tensors(p, z)
    if where in ("target", "both"):
        z = z.detach()
    if where in ("wrong_side", "both"):
        p = p.detach()
    return p, z


_stop = stop_gradient  # symmetric_loss has an argument of that name


def symmetric_loss(
    p1: Tensor,
    p2: Tensor,
    z1: Tensor,
    z2: Tensor,
    *,
    stop_gradient: str = "target",
    similarity: Callable[..., Tensor] = negative_cosine,
) -> Tensor:
    """SimSiam's loss: each view predicts the other, D(p1, z2)/2 + D(p2, z1)/2.

    Shapes: four times (B, D), in the order that `SimSiam.forward` returns them -> ().
    Unit: that of `similarity(p, z, *, stop_gradient)`.
    Errors: `InputError` for an unknown switch, and those of the similarity. Source: Eq. 2 and 4.
    """
    (p1, z2), (p2, z1) = _stop(p1, z2, stop_gradient), _stop(p2, z1, stop_gradient)
    return similarity(p1, z2, stop_gradient=False) / 2 + similarity(p2, z1, stop_gradient=False) / 2


def _check_tensors(p: Tensor, z: Tensor) -> None:
    for name, value in (("p", p), ("z", z)):
        if not isinstance(value, Tensor):
            raise InputError(f"{name} is a {type(value).__name__}, expected a tensor (B, D).")


def _check_pair(p: Tensor, z: Tensor) -> None:
    _check_tensors(p, z)
    if p.shape != z.shape or p.ndim != 2 or p.numel() == 0:
        raise InputError(f"p is {tuple(p.shape)} and z is {tuple(z.shape)}, expected (B, D) twice.")
    for name, value in (("p", p), ("z", z)):
        if not value.is_floating_point():
            raise InputError(f"{name} holds {value.dtype}, expected floats: use {name}.float().")
