"""Targets that are not z of this moment: from a second network, or remembered."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..errors import check_number


@torch.no_grad()
def momentum_update(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Every weight of the target goes on to momentum x itself + (1 - momentum) x the online network's, in place.

    Momentum 0 copies, 1 leaves the target as it is. The running statistics of BN are no weights: each network keeps
    its own.
    Errors: `InputError` for a momentum outside [0, 1]. Source: MoCo, Eq. 2; BYOL, Eq. 1.
    """
    check_number("momentum", momentum, 0, 1)
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, 1 - momentum)


class TargetNetwork(nn.Module):
    """A second f, at first a copy of the given one, that no gradient reaches. Shapes: (B, 3, H, W) -> (B, D)."""

    def __init__(self, backbone: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(copy.deepcopy(backbone), copy.deepcopy(projector)).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def follow(self, backbone: nn.Module, projector: nn.Module, momentum: float = 0.0) -> None:
        """Takes over their weights, slowly where there is momentum."""
        momentum_update(self.encoder, nn.Sequential(backbone, projector), momentum)


@torch.no_grad()
def moving_average(eta: Tensor, z: Tensor, seen: Tensor, momentum: float) -> Tensor:
    """m eta + (1 - m) z where there is an eta, and z where there is none yet; no gradient.

    Shapes: eta, z (B, D), seen (B, 1) bool -> (B, D). Source: Sec. 5.2.
    """
    return torch.where(seen, torch.lerp(z, eta, momentum), z)
