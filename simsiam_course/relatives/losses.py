"""The relatives' losses, functions of z alone; each agrees with its method's paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, check_number


def _check_views(z1: Tensor, z2: Tensor, least: int = 1) -> None:
    """Errors: `InputError` for what are no two views of the same images, at least `least` of them."""
    for name, z in (("z1", z1), ("z2", z2)):
        if not isinstance(z, Tensor) or not z.is_floating_point():
            got = z.dtype if isinstance(z, Tensor) else type(z).__name__
            raise InputError(f"{name} is {got}, expected a tensor of floats (B, D).")
    if z1.shape != z2.shape or z1.ndim != 2 or len(z1) < least or not z1.shape[1]:
        shapes = f"{tuple(z1.shape)} and {tuple(z2.shape)}"
        raise InputError(f"z1 and z2 have shapes {shapes}, expected (B, D) twice, B at least {least}.")


NEVER = -torch.inf  # the logit of what may not be chosen


def nt_xent(
    z1: Tensor, z2: Tensor, temperature: float = 0.5, *, keys: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """SimCLR's loss: among all other views of the batch, which one is of the same image?

    `keys` are what z1 and z2 are compared with, by default z1 and z2 themselves.
    Shapes: (B, D), (B, D) -> (). Unit: nats. Errors: `InputError` for a temperature not above 0.
    Source: Chen et al., ICML 2020, Eq. 1 and Algorithm 1.
    """
    check_number("temperature", temperature, 0, open_ends=True)
    _check_views(z1, z2)
    q = F.normalize(torch.cat([z1, z2]), dim=1)  # (2 B, D)
    k = q if keys is None else F.normalize(torch.cat(keys), dim=1)  # (2 B, D)
    itself = torch.eye(len(q), dtype=torch.bool, device=q.device)
    logits = (q @ k.T / temperature).masked_fill(itself, NEVER)  # (2 B, 2 B)
    partner = torch.arange(len(q), device=q.device).roll(len(z1))  # row i of z1 belongs to row i of z2
    return F.cross_entropy(logits, partner)


def bank_loss(q: Tensor, k: Tensor, bank: Tensor, *, temperature: float = 0.2) -> Tensor:
    """MoCo's loss: is the key of the same image nearer to the query than all keys of the bank?

    Shapes: q, k (B, D), bank (K, D) with rows of length 1 -> (). Unit: nats. No gradient reaches keys.
    Source: He et al., CVPR 2020, Eq. 1; temperature .2 from MoCo v2.
    """
    q, k = F.normalize(q, dim=1), F.normalize(k.detach(), dim=1)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ bank.T], dim=1) / temperature  # (B, 1 + K)
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignments of images to prototypes in which every prototype gets the same share of the batch.

    Shapes: (B, K) -> (B, K), rows sum to 1. Errors: `InputError` for an epsilon not above 0.
    Source: Caron et al., NeurIPS 2020, Sec. 3.1 and App. A.
    """
    check_number("epsilon", epsilon, 0, open_ends=True)
    _check_views(scores, scores)
    q = ((scores - scores.max()) / epsilon).exp()  # (B, K); the largest is 1: no overflow
    for _ in range(iterations):
        q = q / q.sum(dim=0, keepdim=True).clamp(min=1e-12) / q.shape[1]  # every prototype: 1/K
        q = q / q.sum(dim=1, keepdim=True).clamp(min=1e-12) / q.shape[0]  # every image: 1/B
    return q * len(q)


def cross_correlation(z1: Tensor, z2: Tensor) -> Tensor:
    """How each channel of one view goes with each of the other, over the batch.

    Shapes: (B, D), (B, D) -> (D, D), from -1 to 1. Source: Zbontar et al., ICML 2021, Eq. 2.
    """
    _check_views(z1, z2, least=2)
    z1, z2 = ((z - z.mean(dim=0)) / z.var(dim=0, correction=0).add(1e-5).sqrt() for z in (z1, z2))
    return z1.T @ z2 / len(z1)


def off_diagonal_term(matrix: Tensor) -> Tensor:
    """Sum of the squares of what a square matrix holds beside its diagonal.

    Shapes: (D, D) -> (). Source: Zbontar et al., ICML 2021, Eq. 1 (second term, without lambda).
    """
    others = ~torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)  # (D, D)
    return matrix[others].square().sum()


def barlow_twins_loss(z1: Tensor, z2: Tensor, *, off_diagonal_weight: float = 5e-3) -> Tensor:
    """Each channel shall agree with itself in the other view, and with no other channel.

    Shapes: (B, D), (B, D) -> (), >= 0. Source: Zbontar et al., ICML 2021, Eq. 1, lambda = 5e-3.
    """
    c = cross_correlation(z1, z2)  # (D, D)
    return (1 - c.diagonal()).square().sum() + off_diagonal_weight * off_diagonal_term(c)


def vicreg_loss(
    z1: Tensor, z2: Tensor, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """Views shall agree, every channel shall vary by at least 1, and no two channels together.

    Shapes: (B, D), (B, D) -> (), >= 0. Source: Bardes et al., ICLR 2022, Eq. 1 to 6.
    """
    _check_views(z1, z2, least=2)
    loss = invariance * F.mse_loss(z1, z2)
    for z in (z1, z2):
        loss = loss + variance * F.relu(1 - z.var(dim=0).add(1e-4).sqrt()).mean() / 2
        loss = loss + covariance * off_diagonal_term(torch.cov(z.T).view(z.shape[1], -1)) / z.shape[1]
    return loss
