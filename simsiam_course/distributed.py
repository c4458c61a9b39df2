"""Several processes that train one model as one process would, each with its share of every batch.

`torchrun` starts them and tells each who it is. The run stays that of one process, up to the rounding of sums:

    the batch   all draw the order and the augmentations of the whole batch from equal generators; each makes the views
                of its share, so every image is seen once a pass                                      `share`
    BN          its statistics are those of the whole batch: `sync_batch_norm.synchronize`
    the loss    is computed by every process from the outputs of all, so it may compare images: `Gather`
    gradients   are averaged after backward, one message for all of them: `average_gradients`

PyTorch's DistributedDataParallel sends gradients while backward still runs, which pays where they are large. It wants
to wrap the model, and every method and loss of this course would have to know; one message afterwards is as exact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .errors import InputError

PATIENCE = timedelta(hours=2)  # of the others, while the first one downloads
CONNECTING = timedelta(seconds=60)


def world() -> int:
    """How many processes train together; 1 outside of `processes`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0; process 0 is the one that writes files and says things."""
    return dist.get_rank() if world() > 1 else 0


def by_torchrun() -> bool:
    """Whether torchrun started this process, and so keeps a store for it."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def launched() -> bool:
    """Whether a launcher started this process as one of several, or torchrun as the only one.

    Some job managers set WORLD_SIZE, and RANK, for a single process: who launches several says where they meet.
    """
    several = by_torchrun() or int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def restarts() -> tuple[int, int]:
    """How often torchrun has started these processes anew, and how often it would."""
    done, most = (
        int(os.environ.get(f"TORCHELASTIC_{name}", "0")) for name in ("RESTART_COUNT", "MAX_RESTARTS")
    )
    return done, most


@cache
def store() -> dist.TCPStore:
    """What the processes of a launch note for one another; torchrun's own, through all restarts, or process 0's."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosted = os.environ["RANK"] == "0" and not by_torchrun()
    return dist.TCPStore(
        host, port, is_master=hosted, wait_for_workers=False, timeout=CONNECTING, multi_tenant=True
    )


@contextmanager
def processes(device: str = "auto") -> Iterator[None]:
    """Joins the processes that were launched together; without a launcher it does nothing.

    gloo connects CPUs, nccl GPUs. All wait for one another before they part: gloo aborts a process now and then whose
    peer has already left.
    Errors: `InputError` where a machine has more processes than GPUs.
    """
    if not launched() or int(os.environ["WORLD_SIZE"]) == 1 or world() > 1:
        yield
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        own_gpu()
    # torchrun's store outlives a restart, and with it the addresses of processes that are gone: each start has its own.
    attempt = dist.PrefixStore(f"simsiam_course/start-{restarts()[0]}", store())
    dist.init_process_group(
        "nccl" if cuda else "gloo", timeout=PATIENCE, store=attempt,
        rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]),
    )  # fmt: skip
    yield
    dist.barrier()
    dist.destroy_process_group()


def own_gpu() -> torch.device:
    """The GPU of this process, the one with its number on this machine. Errors: `InputError`, there is none."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise InputError(
            f"This machine has {torch.cuda.device_count()} GPU for process {local + 1}: give --nproc-per-node at most "
            "the number of GPUs, or --device cpu."
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def share(batch_size: int) -> slice:
    """The places of this process in a batch, as many as any other's; all shares together are the batch.

    Errors: `InputError` where the batch does not divide, or leaves a process a single image, which BN cannot train on.
    """
    size, left = divmod(batch_size, world())
    if left or size < 2:
        raise InputError(
            f"A batch of {batch_size} images cannot be shared by {world()} processes: choose a batch_size that is a "
            "multiple of their number, at least twice that."
        )
    return slice(rank() * size, (rank() + 1) * size)


def from_first(make: Callable[[], Any]) -> Any:
    """What `make` returns in process 0, which alone calls it, in all processes."""
    made = [make() if rank() == 0 else None]
    if world() > 1:
        dist.broadcast_object_list(made, src=0)
    return made[0]


def one_after_another(make: Callable[[], Any]) -> Any:
    """What `make` returns, called in process 0 first, so that the others find what it has downloaded."""
    if rank() == 0:
        made = make()
    if world() > 1:
        dist.barrier()
    return made if rank() == 0 else make()


# ---- one batch in several processes


class Gather(torch.autograd.Function):
    """The rows of all processes, in their order. Shapes: (B / processes, ...) -> (B, ...).

    Every process computes the same loss from them, so the gradient of its own rows is the same everywhere. Times the
    number of processes, because `average_gradients` divides by it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.chunk(world())[rank()] * world()


def gather(outputs: Any) -> Any:
    """`Gather` for a tensor, or for each of a tuple."""
    if isinstance(outputs, tuple):
        return tuple(gather(y) for y in outputs)
    return Gather.apply(outputs) if world() > 1 else outputs


def gather_outputs(*modules: nn.Module) -> list[Any]:
    """Lets modules give the outputs of the whole batch while they train; returns the hooks, to be removed."""

    def whole(module: nn.Module, inputs: Any, outputs: Any) -> Any:
        return gather(outputs) if module.training else outputs

    return [module.register_forward_hook(whole) for module in modules] if world() > 1 else []


@torch.no_grad()
def average_(*tensors: Tensor) -> None:
    """Replaces tensors of one type by their mean over the processes, in one message."""
    if world() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, mean in zip(tensors, (flat / world()).split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def average_gradients(weights: Iterable[nn.Parameter]) -> None:
    """Replaces gradients by their mean over the processes: that of the mean loss, as shares are equal."""
    average_(*(weight.grad for weight in weights if weight.grad is not None))
