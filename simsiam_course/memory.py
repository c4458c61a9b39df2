"""When memory does not suffice: smaller batches where the result does not depend on them, else one sentence."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

import torch

from .errors import InputError

T = TypeVar("T")
SIGNS = (
    "out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "bad allocation", "alloc_failed",
    "could not create a primitive",  # oneDNN's word for it, in convolutions on the CPU
)  # fmt: skip


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, the host's or the GPU's, did not suffice: PyTorch has several words for it."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def in_smaller_batches(work: Callable[[int], T], batch_size: int, *, least: int = 1) -> T:
    """`work(batch_size)`, and where memory does not suffice for it, of half as many images, and so on.

    Every halving is told on standard error. Errors: `InputError` where not even `least` images at once can be had.
    """
    while True:
        try:
            return work(batch_size)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            forget(error)
        if batch_size <= least:
            raise InputError(
                f"The memory does not suffice for {batch_size} image{'s' * (batch_size > 1)} at once: close other "
                "programs, or use smaller images or a smaller backbone."
            )
        half = max(least, batch_size // 2)
        print(
            f"The memory does not suffice for {batch_size} images at once: going on with {half}.",
            file=sys.stderr,
            flush=True,
        )
        batch_size = half


def step_does_not_fit(batch_size: int) -> InputError:
    """What to do when a training step does not fit into memory."""
    half = batch_size // 2
    smaller = f"try a batch of {half} (--batch-size {half} in a new --out), " if half >= 2 else "try "
    return InputError(
        f"The memory does not suffice for a training step of {batch_size} images: {smaller}smaller images (--size) "
        "or a smaller backbone."
    )


def forget(error: BaseException) -> None:
    """Gives back what the frames of a failed attempt hold, so that the next one finds the memory free."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
