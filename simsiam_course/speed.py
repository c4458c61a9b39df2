"""How fast it trains: rates of several settings by turns, and where the time of a step goes.

A machine that others use too is slow for a minute and fast for the next. So nobody is measured alone: in every round
each contestant has one turn, the order moves on by one, and a ratio is taken within a round before the median is.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .data import ImageSet
from .loss import symmetric_loss
from .recipe import Recipe
from .train import Trainer

AUGMENTATION, OPTIMISER = "drawing and augmenting", "optimiser"
MATRIX = 1024  # side of the matrices whose product shows what a device can do
ENDLESS = 10**4  # passes: a trainer that is only measured never comes to its end
OFF: dict[str, Any] = {"channels_last": False, "amp": "off", "compile": False}
SWITCHES: dict[str, dict[str, Any]] = {  # each alone, and those together that a GPU wants
    "none": {},
    "channels_last": {"channels_last": True},
    "bf16": {"amp": "bf16"},
    "compile": {"compile": True},
    "all three": {"channels_last": True, "amp": "bf16", "compile": True},
}

Turn = Callable[[], float]  # does its share of work once and returns units a second
Stage = Callable[[str], AbstractContextManager[Any]]
Row = dict[str, Any]


class Summary(NamedTuple):
    """The median and the range of several rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 2
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def summary(values: Sequence[float]) -> Summary:
    """The median, the smallest and the largest of at least one value."""
    return Summary(statistics.median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Summary:
    """How many times faster ours is, taken round by round."""
    return summary([mine / other for mine, other in zip(ours, theirs, strict=True)])


def alternate(turns: Mapping[str, Turn], rounds: int, *, label: str = "") -> dict[str, list[float]]:
    """Gives every contestant one turn to warm up, then one in each round; returns their rates, a list each."""
    from tqdm.auto import tqdm

    names = list(turns)
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tqdm(total=(rounds + 1) * len(names), desc=label, unit="turn", leave=False, disable=None) as bar:
        for done in range(-1, rounds):
            first = done % len(names)
            for name in names[first:] + names[:first]:
                bar.set_postfix_str(name)
                rate = turns[name]()
                if done >= 0:
                    rates[name].append(rate)
                bar.update()
    return rates


# ---- images a second


def turn(trainer: Trainer, steps: int) -> float:
    """Images a second over so many further steps of a trainer, monitors and files not counted."""
    wait(trainer.device)
    start = time.perf_counter()
    for _ in range(steps):
        trainer.advance()
    wait(trainer.device)
    return steps * trainer.recipe.batch_size / (time.perf_counter() - start)


def race(
    recipes: Mapping[str, Recipe], images: ImageSet, *, steps: int, rounds: int, device: str = "auto"
) -> dict[str, list[float]]:
    """Images a second of several recipes on the same images, in turns of so many steps: name -> a rate a round.

    The first turn, in which libraries choose their kernels and a compiler runs, is not counted.
    Errors: `InputError` where a recipe cannot be trained here.
    """
    trainers: dict[str, Trainer] = {}
    try:
        for name, recipe in recipes.items():
            recipe = recipe.replace(epochs=ENDLESS)
            trainers[name] = Trainer(recipe.build(), images, recipe, device=device)
        return alternate(
            {name: partial(turn, t, steps) for name, t in trainers.items()}, rounds, label="images/s"
        )
    finally:
        for trainer in trainers.values():
            trainer.close()


def switched(recipe: Recipe, names: Sequence[str] = tuple(SWITCHES)) -> dict[str, Recipe]:
    """A recipe with all switches off, and with each of these."""
    return {name: recipe.replace(**OFF | SWITCHES[name]) for name in names}


def wait(device: torch.device | str = "cpu") -> None:
    """Returns when the device has done all it was given: before the clock is read."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


# ---- what there is to compute, and how fast the device could be


def operations(work: Callable[[], Any]) -> int:
    """Floating-point operations of the convolutions and matrix products that `work` runs, backward included."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def matrix_rate(device: str = "cpu", dtype: torch.dtype = torch.float32, *, size: int = MATRIX) -> float:
    """Floating-point operations a second in one large matrix product, the best of ten."""
    a, b = torch.randn(2, size, size, device=device).to(dtype).unbind()
    return 2 * size**3 / best_seconds(lambda: a @ b, device)


def best_seconds(work: Callable[[], Any], device: str, times: int = 10) -> float:
    """The shortest of several turns of `work`; two more before them warm up."""
    seconds = []
    for _ in range(times + 2):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[2:])


# ---- where the time goes


def views(trainer: Trainer) -> tuple[Tensor, Tensor]:
    """Two views of a random batch."""
    chosen = torch.randint(len(trainer.pixels), (trainer.recipe.batch_size,), device=trainer.device)
    return trainer.views(chosen)


def step(trainer: Trainer, stage: Stage) -> None:
    """The work of `Trainer.advance` with all switches but channels_last off, each part of it inside `stage(name)`."""
    model: Any = trainer.model
    with stage(AUGMENTATION):
        x1, x2 = views(trainer)
    with stage("forward, backbone"):
        y1, y2 = model.backbone(x1), model.backbone(x2)  # (B, backbone_dim)
    with stage("forward, heads and loss"):
        z1, z2 = model.projector(y1), model.projector(y2)  # (B, D)
        p1, p2 = model.predictor(z1), model.predictor(z2)
        loss = symmetric_loss(p1, p2, z1, z2, stop_gradient=model.stop_gradient)
    with stage("backward"):
        trainer.optimizer.zero_grad()
        loss.backward()
    with stage(OPTIMISER):
        trainer.optimizer.step()


def stages(trainer: Trainer, steps: int) -> list[Row]:
    """Seconds of each stage; steps taken apart alternate with whole ones, and `rest` is what the whole has more.

    Rows: name, seconds (median), low, high and share of the whole step, which is the last row.
    """
    seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        wait(trainer.device)
        start = time.perf_counter()
        yield
        wait(trainer.device)
        seconds[name].append(time.perf_counter() - start)

    for _ in range(steps + 3):
        step(trainer, stage)
        with stage("whole step"):
            trainer.advance()
    whole = summary(seconds.pop("whole step")[3:])  # the first three warm up
    found = [(name, summary(values[3:])) for name, values in seconds.items()]
    rest = whole.median - sum(took.median for _, took in found)
    rows: list[Row] = [{"name": name, "seconds": took.median, "low": took.low, "high": took.high}
                       for name, took in [*found, ("whole step", whole)]]  # fmt: skip
    rows.insert(-1, {"name": "rest: order, rates, checks", "seconds": rest})
    return [{"what": "stage", **row, "share": row["seconds"] / whole.median} for row in rows]


def hours(images: int, epochs: int, images_per_second: float) -> float:
    """Hours for so many passes over so many images, two views each counted as one image."""
    return images * epochs / images_per_second / 3600
