"""Batch norm over all processes: the statistics of the whole batch, however many share it.

PyTorch has one for GPUs. This one works wherever processes can talk, so that two processes of a laptop train what one
would. Source: the gradient is that of Ioffe & Szegedy (ICML 2015, Sec. 3), its two sums taken over all processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .distributed import world
from .errors import InputError


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) by the moments of all processes, whose gradient needs two sums over all of them.

    x (n, C, ...) -> y (n, C, ...), mean (C,), var (C,), N (1,), the number of values a channel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        over = [d for d in range(x.ndim) if d != 1]
        var, mean = torch.var_mean(x, over, correction=0)  # (C,) of the own values
        n = mean.new_full((1,), x.numel() / len(mean))
        parts = [torch.empty(2 * len(mean) + 1, dtype=mean.dtype, device=x.device) for _ in range(world())]
        dist.all_gather(parts, torch.cat([mean, var, n]))
        means, variances, counts = torch.stack(parts).split([len(mean), len(mean), 1], dim=1)
        share = counts / counts.sum()  # (processes, 1)
        mean = (share * means).sum(dim=0)
        var = (share * (variances + (means - mean).square())).sum(dim=0)  # within and between
        scale = (var + eps).rsqrt()
        y = (x - _wide(mean, x)) * _wide(scale, x)
        ctx.save_for_backward(y, scale, counts.sum())
        ctx.mark_non_differentiable(mean, var, n)
        return y, mean, var, counts.sum()[None]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None]:
        y, scale, count = ctx.saved_tensors
        over = [d for d in range(y.ndim) if d != 1]
        sums = torch.stack([gradient.sum(over), (gradient * y).sum(over)])  # (2, C)
        dist.all_reduce(sums)
        of_mean, of_var = sums / count
        return (gradient - _wide(of_mean, y) - y * _wide(of_var, y)) * _wide(scale, y), None


def _wide(channels: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...), to be broadcast along x."""
    return channels.view(1, -1, *[1] * (x.ndim - 2))


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose statistics are those of all processes, on any device; PyTorch's own is for GPUs only.

    Shapes: (n, C) or (n, C, ...) -> the same. As PyTorch's BN in all else; with one process it is that one.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise InputError(f"Batch norm got the shape {tuple(x.shape)}, expected (n, C) or (n, C, ...).")

    def forward(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        if world() == 1 or not (self.training or self.running_mean is None):
            return super().forward(x)
        y, mean, var, n = _Normalise.apply(x.to(torch.promote_types(x.dtype, torch.float32)), self.eps)
        if self.training and self.running_mean is not None and self.running_var is not None:
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
            self._remember(self.running_mean, mean)
            self._remember(self.running_var, var * (n / (n - 1)))
        if self.affine:
            y = y * _wide(self.weight, y) + _wide(self.bias, y)
        return y.to(x.dtype)

    @torch.no_grad()
    def _remember(self, running: Tensor, new: Tensor) -> None:
        momentum = 1 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum
        running.lerp_(new.to(running.dtype), momentum)


def synchronize(model: nn.Module) -> nn.Module:
    """Swaps every batch norm inside a model for a synchronized one with the same weights; names stay as they are."""
    for name, child in model.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(model, name, _synchronized(child))
        else:
            synchronize(child)
    return model


def _synchronized(norm: Any) -> nn.Module:
    kind = (
        nn.SyncBatchNorm
        if norm.__class__ is not SyncBatchNorm and dist.get_backend() == "nccl"
        else SyncBatchNorm
    )
    knobs = {"eps": norm.eps, "momentum": norm.momentum, "affine": norm.affine}
    new = kind(norm.num_features, **knobs, track_running_stats=norm.track_running_stats)
    for name, value in [*norm._parameters.items(), *norm._buffers.items()]:
        setattr(new, name, value)  # the very tensors: an optimiser may hold them already
    return new.train(norm.training)
