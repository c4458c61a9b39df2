"""The heads: the projector, which ends the encoder f, and the predictor h, with all that may stand in for it.

They are thrown away after training, and yet they decide whether there is anything to keep: see model.py.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .distributed import average_
from .errors import check_choice, check_whole

PREDICTORS = ("mlp", "none", "frozen", "bias", "linear", "directpred")
OUTPUT_BN = ("affine_free", "affine", "none")


def projector(
    backbone_dim: int,
    hidden_dim: int,
    projection_dim: int,
    *,
    layers: int = 3,
    hidden_bn: bool = True,
    output_bn: str = "affine_free",
) -> nn.Sequential:
    """The projection MLP: BN on every layer, ReLU on every layer but the last.

    Shapes: (B, backbone_dim) -> (B, projection_dim).
    Errors: `InputError` for a dimension below 1, other than 2 or 3 layers, or an unknown `output_bn`.
    Source: Sec. 3 (three layers), App. D (two on CIFAR-10), Table 3 (which layers have BN).
    """
    check_whole(backbone_dim=backbone_dim, hidden_dim=hidden_dim, projection_dim=projection_dim)
    check_choice("output_bn", output_bn, OUTPUT_BN)
    check_choice("layers", layers, (2, 3))
    parts: list[nn.Module] = []
    for d_in, d_out in pairwise([backbone_dim] + [hidden_dim] * (layers - 1)):
        norm = [nn.BatchNorm1d(d_out)] if hidden_bn else []
        parts += [nn.Linear(d_in, d_out, bias=not hidden_bn), *norm, nn.ReLU(inplace=True)]
    parts.append(nn.Linear(hidden_dim, projection_dim, bias=output_bn == "none"))
    if output_bn != "none":
        parts.append(nn.BatchNorm1d(projection_dim, affine=output_bn == "affine"))
    return nn.Sequential(*parts)


def predictor(
    dim: int, hidden_dim: int, *, kind: str = "mlp", hidden_bn: bool = True, output_bn: bool = False
) -> nn.Module:
    """The predictor h, or what stands in its place; only `mlp` and `frozen` have a hidden layer and BN.

    Shapes: (B, dim) -> (B, dim).
    Errors: `InputError` for a dimension below 1 or an unknown kind.
    Source: Sec. 3, Table 1 and Table 3 (BN); App. B takes a quarter of dim as hidden_dim, a bottleneck.
    """
    check_whole(projection_dim=dim, predictor_hidden_dim=hidden_dim)
    check_choice("predictor", kind, PREDICTORS)
    if kind == "none":
        return nn.Identity()
    if kind == "bias":
        return Bias(dim)
    if kind == "linear":
        return nn.Linear(dim, dim)
    if kind == "directpred":
        return DirectPred(dim)
    norm = [nn.BatchNorm1d(hidden_dim)] if hidden_bn else []
    h = nn.Sequential(
        nn.Linear(dim, hidden_dim, bias=not hidden_bn),
        *norm,
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, dim),
        *([nn.BatchNorm1d(dim)] if output_bn else []),
    )
    return h.requires_grad_(kind == "mlp")


def identity_predictor(dim: int) -> nn.Sequential:
    """A predictor with h(z) = z: it splits z in [ReLU(z), ReLU(-z)] and takes the difference, z+ - z-.

    Two hidden channels for each of z: the opposite of a bottleneck. With it D(h(z), z) = -1.
    Shapes: (B, dim) -> (B, dim). Errors: `InputError` for a dimension below 1.
    """
    check_whole(dim=dim)
    widen, narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
    one = torch.eye(dim)
    with torch.no_grad():
        widen.weight.copy_(torch.cat([one, -one]))  # (2 D, D): z and -z
        narrow.weight.copy_(torch.cat([one, -one], dim=1))  # (D, 2 D): z+ - z-
        for layer in (widen, narrow):
            layer.bias.zero_()
    return nn.Sequential(widen, nn.ReLU(inplace=True), narrow)


class Bias(nn.Module):
    """h(z) = z + b, the smallest predictor there is.

    Shapes: (B, D) -> (B, D). Source: Zhang et al., ICLR 2022.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, z: Tensor) -> Tensor:
        return z + self.bias


def directpred_weight(correlation: Tensor, eps: float = 0.01) -> Tensor:
    """DirectPred's W, read off the correlation C of z: the directions in which z varies most are predicted most.

    C = U diag(lambda) U^T gives W = U diag(sqrt(lambda / max lambda) + eps) U^T. Numbers that are not finite count
    as 0.
    Shapes: (D, D), symmetric -> (D, D). Source: Tian et al., ICML 2021, Eq. 18.
    """
    values, U = torch.linalg.eigh(correlation.nan_to_num(0, 0, 0))  # (D,) ascending, (D, D)
    scale = (values.clamp(min=0) / values[-1].clamp(min=1e-12)).sqrt() + eps  # (D,)
    return U * scale @ U.T  # (D, D)


class DirectPred(nn.Module):
    """h(z) = W z, where W is not trained but follows from the correlation of z by `directpred_weight`.

    C is a moving average of z^T z / B; C and W start as the identity.
    Shapes: (B, D) -> (B, D).
    Source: Tian et al., ICML 2021, Eq. 18 and 19; rho, eps and one update a step as in the authors' README.
    """

    correlation: Tensor
    weight: Tensor

    def __init__(self, dim: int, *, rho: float = 0.3, eps: float = 0.01) -> None:
        super().__init__()
        self.rho, self.eps = rho, eps
        self.register_buffer("correlation", torch.eye(dim))
        self.register_buffer("weight", torch.eye(dim))

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(z, self.weight)

    @torch.no_grad()
    def update(self, z: Tensor) -> None:
        """Take in a batch: the average keeps rho of the old C. Shapes: z (B, D)."""
        z = z.to(self.correlation.dtype)
        with torch.autocast(z.device.type, enabled=False):
            correlation = z.T @ z / len(z)  # (D, D)
        average_(correlation)
        self.correlation.lerp_(correlation, 1 - self.rho)
        self.weight.copy_(directpred_weight(self.correlation, self.eps))
