"""What a training step must cost at least on this machine, and where its time goes.

The floor is the operations of forward and backward over the rate of one large matrix product: no training is faster.
A small backbone stays well above it, since batch norm, ReLU and augmentation move many bytes and multiply little.
"""

from __future__ import annotations

import os
import re
import time
from functools import partial
from typing import Any

from machine import COPIED, MATRIX, matrix_rate, memory_rate
from peers import Ours
from rounds import alternate, ratio, summary
from torch import Tensor, nn

from simsiam_course.data import ImageSet
from simsiam_course.recipe import Recipe
from simsiam_course.speed import AUGMENTATION, OPTIMISER, stages, step, views
from simsiam_course.train import Trainer

NEVER = 10**8  # steps between two rows of a history that has none
CONVOLUTION, PRODUCT, NORM, RELU = "convolution", "matrix product", "batch norm", "ReLU"
KINDS = {  # by PyTorch's names of operations
    CONVOLUTION: re.compile("conv", re.IGNORECASE),
    NORM: re.compile("batch_?norm", re.IGNORECASE),
    RELU: re.compile("relu|threshold_backward", re.IGNORECASE),
    "pooling": re.compile("pool", re.IGNORECASE),
    PRODUCT: re.compile(r"(\b|add|A)mm(\b|Backward)|linear", re.IGNORECASE),
}
PASSES = {  # over its activations, at the least: forward + backward
    NORM: 3 + 5,  # read for the moments, read, write; read input and gradient for the sums, read both, write
    RELU: 2 + 3,  # in place: read, write; read gradient and output, write
}

Row = dict[str, Any]


def account(
    images: ImageSet, recipe: Recipe, *, steps: int, rounds: int, matrix: int = MATRIX, copied: int = COPIED
) -> list[Row]:
    """The account's rows: stages of a step, kinds of operation, the monitors, and at the end the floor."""
    peak, memory = matrix_rate(size=matrix), memory_rate(size=copied)
    trainer = Trainer(recipe.build(), images, recipe.replace(epochs=10**6), device="cpu")
    work, moved = operations(trainer), bytes_moved(trainer)
    rows = [*stages(trainer, steps), *kinds(trainer, max(2, steps // 4))]
    trainer.close()
    monitoring, rates = monitors(images, recipe, steps=steps, rounds=rounds)
    peak = max(peak, matrix_rate(size=matrix))  # a limit is the best that was seen
    for row in rows:
        if row["what"] == "kind" and row["name"] in work:
            row["operations"] = work[row["name"]]
            row["of_matrix_rate"] = row["operations"] / row["seconds"] / peak
        if row["what"] == "kind" and row["name"] in moved:
            row["bytes"] = moved[row["name"]]
            row["of_memory_rate"] = row["bytes"] / row["seconds"] / memory
    limit = recipe.batch_size * peak / sum(work.values())
    floor = {"what": "floor", "name": "floor", "operations": sum(work.values()), "matrix_rate": peak,
             "memory_rate": memory, "limit": limit, "images_per_second": summary(rates)._asdict(),
             "fraction": summary(rates).median / limit}  # fmt: skip
    return [*rows, monitoring, floor]


# ---- what there is to do


def operations(trainer: Trainer) -> dict[str, int]:
    """Floating-point operations of the convolutions and the matrix products of one forward and backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    x1, x2 = views(trainer)
    with FlopCounterMode(display=False) as counter:
        trainer.step(trainer.model, x1, x2).backward()
    trainer.optimizer.zero_grad()
    found = {CONVOLUTION: 0, PRODUCT: 0}
    for operation, count in counter.get_flop_counts()["Global"].items():
        found[CONVOLUTION if "conv" in str(operation) else PRODUCT] += count
    return found


def bytes_moved(trainer: Trainer) -> dict[str, int]:
    """The least bytes that batch norms and ReLUs of one step read and write: `PASSES` over their activations."""
    counted = {NORM: 0, RELU: 0}

    def count(module: nn.Module, inputs: Any, y: Tensor) -> None:
        kind = RELU if isinstance(module, nn.ReLU) else NORM
        counted[kind] += PASSES[kind] * y.numel() * y.element_size()

    watched = (nn.ReLU, nn.modules.batchnorm._BatchNorm)
    hooks = [m.register_forward_hook(count) for m in trainer.model.modules() if isinstance(m, watched)]
    trainer.step(trainer.model, *views(trainer))
    for hook in hooks:
        hook.remove()
    return counted


# ---- where the time goes


def kinds(trainer: Trainer, steps: int) -> list[Row]:
    """Seconds a step by kind of operation: the processor's own time of every operation that the profiler saw."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it reports that there is no GPU as an error
    from torch.profiler import ProfilerActivity, profile, record_function

    step(trainer, record_function)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            step(trainer, record_function)
    seconds = dict.fromkeys([AUGMENTATION, *KINDS, OPTIMISER, "rest"], 1e-12)  # above 0: rates are over it
    for event in profiled.events():
        seconds[kind_of(event)] += event.self_cpu_time_total / 1e6 / steps
    total = sum(seconds.values())
    return [{"what": "kind", "name": name, "seconds": s, "share": s / total} for name, s in seconds.items()]


def kind_of(event: Any) -> str:
    """The kind of an operation of the profile: its stage, where that is a kind, or the innermost name that fits."""
    found = None
    while event is not None:
        if event.name in (AUGMENTATION, OPTIMISER):
            return event.name
        found = found or next((kind for kind, names in KINDS.items() if names.search(event.name)), None)
        event = event.cpu_parent
    return found or "rest"


def monitors(images: ImageSet, recipe: Recipe, *, steps: int, rounds: int) -> tuple[Row, list[float]]:
    """What the history's rows cost: `fit` as it is against one that writes none, and a row's time by itself.

    Also the images a second of `fit` as it is.
    """
    contestants = {
        "default": Ours(images, recipe),
        "never": Ours(images, recipe.replace(monitor_every=NEVER)),
    }
    turns = {name: partial(contestant.train, steps) for name, contestant in contestants.items()}
    rates = alternate(turns, 2 * rounds, label="monitors")
    faster = ratio(rates["never"], rates["default"])
    trainer = Trainer(recipe.build(), images, recipe, device="cpu")
    row, whole = [], []
    for _ in range(8):
        start = time.perf_counter()
        trainer.advance()
        between = time.perf_counter()
        trainer.row()
        row.append(time.perf_counter() - between)
        whole.append(between - start)
    trainer.close()
    alone = summary(row[3:]).median / recipe.monitor_every / summary(whole[3:]).median
    return {"what": "monitors", "name": f"monitors, a row every {recipe.monitor_every} steps",
            "share": 1 - 1 / faster.median, "low": 1 - 1 / faster.low, "high": 1 - 1 / faster.high,
            "share_by_row": alone}, rates["default"]  # fmt: skip
