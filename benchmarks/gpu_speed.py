"""Images a second on one device: lightly's loop and every rung of our ladder, in turns, each turn a pass."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

import torch
from fast import LADDER, FastTrainer, Rung, autocast, make_trainer
from machine import matrix_rate, operations, wait
from rounds import alternate, ratio, summary
from views import Pictures, lightly_transform

from simsiam_course.augment import PRESETS
from simsiam_course.data import ImageSet
from simsiam_course.recipe import Recipe
from simsiam_course.speed import ENDLESS
from simsiam_course.train import train_step

ROUNDS = 5
LARGE = 8192  # side of the matrices: smaller ones would time the launch, not the card
PEERS = {"lightly, float32": Rung(), "lightly, bfloat16": LADDER["+ bfloat16"]}

Row = dict[str, Any]


class Contestant(Protocol):
    """Who takes part: `turn` trains for one pass and returns images a second."""

    rung: Rung

    def turn(self) -> float: ...


class Ours:
    """The loop around a trainer: it asks the device for nothing until the pass is over."""

    def __init__(self, images: ImageSet, recipe: Recipe, rung: Rung, device: str) -> None:
        self.device = device
        self.trainer = make_trainer(images, recipe.replace(epochs=ENDLESS), rung, device=device)
        self.trainer.advance()  # compiles and records
        self.rung = rung
        if isinstance(self.trainer, FastTrainer):
            self.rung = self.trainer.rung  # what is left of it
            print(*self.trainer.notes, sep="\n", end="\n" if self.trainer.notes else "")

    def turn(self) -> float:
        wait(self.device)
        start = time.perf_counter()
        for _ in range(self.trainer.steps_per_epoch):
            self.trainer.advance()
        wait(self.device)
        return self.trainer.steps_per_epoch * self.trainer.recipe.batch_size / (time.perf_counter() - start)


class Lightly:
    """lightly's benchmark: its transform on PIL images, a DataLoader, its loss; the model and its SGD are ours.

    The benchmark trains in float32. With `LADDER["+ bfloat16"]` it gets the layout and the precision of our rung of
    that name. Left out, to its advantage: reading PNG files, Lightning's loop, kNN after each pass, new workers each
    pass. Source: lightly's docs/source/getting_started/benchmarks/cifar10_benchmark.py.
    """

    def __init__(self, loader: Any, recipe: Recipe, rung: Rung, device: str) -> None:
        from lightly.loss import NegativeCosineSimilarity

        self.loader, self.rung, self.device = loader, rung, torch.device(device)
        self.criterion = NegativeCosineSimilarity()
        self.layout = torch.channels_last if rung.channels_last else torch.contiguous_format
        model: Any = recipe.build()
        self.model = model.to(self.device, memory_format=self.layout).train()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=recipe.lr * recipe.batch_size / 256,
            momentum=recipe.momentum, weight_decay=recipe.weight_decay,
        )  # fmt: skip

    def turn(self) -> float:
        start, seen = time.perf_counter(), 0
        for views, _ in self.loader:
            x1, x2 = (x.to(self.device, non_blocking=True, memory_format=self.layout) for x in views)
            with autocast(self.device, self.rung):
                p1, p2, z1, z2 = self.model(x1, x2)
                loss = 0.5 * (self.criterion(z1.detach(), p2) + self.criterion(z2.detach(), p1))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            seen += len(x1)
        wait(self.device.type)
        return seen / (time.perf_counter() - start)


def lightly_loader(images: ImageSet, recipe: Recipe, workers: int, device: str) -> Any:
    """A shuffled pass over PIL images, whose workers stay from pass to pass."""
    pictures = Pictures(images)
    pictures.transform = lightly_transform(PRESETS[recipe.augmentation], images)
    return torch.utils.data.DataLoader(
        pictures, batch_size=recipe.batch_size, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0, pin_memory=device == "cuda",
    )  # fmt: skip


def contestants(
    images: ImageSet, recipe: Recipe, ladder: Mapping[str, Rung], workers: int, device: str
) -> dict[str, Callable[[], Contestant]]:
    """Who takes part, each as a call that prepares it; lightly first, as its workers are forks of this process."""
    makers: dict[str, Callable[[], Contestant]] = {}
    try:
        loader = lightly_loader(images, recipe, workers, device)
        for name, rung in PEERS.items():
            makers[name] = partial(Lightly, loader, recipe, rung, device)
    except ImportError:
        print("lightly is not installed, so there is nobody to compare with: pip install lightly.")
    for name, rung in ladder.items():
        makers[name] = partial(Ours, images, recipe, rung, device)
    return makers


def race(
    images: ImageSet, recipe: Recipe, *, ladder: Mapping[str, Rung], workers: int, device: str,
    left: Callable[[], float], rounds: int = ROUNDS,
) -> list[Row]:  # fmt: skip
    """Rows of all contestants at one batch size; as many rounds as fit into the seconds that are `left`."""
    taking_part: dict[str, Contestant] = {}
    memory: dict[str, int] = {}
    start, preparing = left(), 0.0
    for name, make in contestants(images, recipe, ladder, workers, device).items():
        if left() <= 0:
            print(f"No time is left before {name}: give more --minutes.")
            return []
        begun, held = left(), _memory_from_here(device)
        contestant = make()
        preparing += begun - left()
        ours = [other.rung for other in taking_part.values() if isinstance(other, Ours)]
        if isinstance(contestant, Ours) and contestant.rung in ours:
            print(f"{name} is left out: it would be the same as the one before.")
            continue
        rate = contestant.turn()
        taking_part[name], memory[name] = contestant, _peak(device) - held
        print(f"batch {recipe.batch_size}, {name}: {rate:,.0f} images/s in its first pass", flush=True)
    a_round = start - left() - preparing
    rounds = min(rounds, int(0.9 * left() / a_round) - 1)  # one to warm up; a tenth for what comes after
    if rounds < 1:
        print(
            f"Two rounds of {a_round:.0f} s do not fit into the {max(0, left()):.0f} s left: give more --minutes."
        )
        return []
    rates = alternate(
        {name: one.turn for name, one in taking_part.items()}, rounds, label=f"batch {recipe.batch_size}"
    )
    rows = rows_of(rates, memory, recipe, images, device)
    return [row | {"workers": workers if row["name"] in PEERS else None, "rung": asdict(taking_part[row["name"]].rung)}
            for row in rows]  # fmt: skip


def rows_of(
    rates: Mapping[str, Sequence[float]],
    memory: Mapping[str, int],
    recipe: Recipe,
    images: ImageSet,
    device: str,
) -> list[Row]:
    """One row a contestant: its rate, how often it is lightly's best, and the fraction of what the matrix units do."""
    peers = [name for name in PEERS if name in rates]
    best = max(peers, key=lambda name: summary(rates[name]).median, default=None)
    limit = matrix_rate(device, torch.bfloat16, size=LARGE if device == "cuda" else 512)
    per_image = step_operations(recipe, images.images.shape[-1]) / recipe.batch_size
    rows = []
    for name, values in rates.items():
        rate = summary(values)
        row: Row = {"name": name, "batch_size": recipe.batch_size, "rounds": len(values),
                    **_named("images_per_second", rate), "peak_memory": memory[name]}  # fmt: skip
        if best and name not in PEERS:
            row |= {"compared_with": best, **_named("times_lightly", ratio(values, rates[best]))}
        row |= {"operations_per_image": per_image, "bfloat16_matrix_rate": limit,
                "fraction_of_matrix_rate": rate.median * per_image / limit}  # fmt: skip
        rows.append(row)
    return rows


def step_operations(recipe: Recipe, size: int) -> int:
    """Operations of a training step, counted on tensors that have shapes only."""
    model = recipe.build().to("meta")
    x1, x2 = torch.empty(2, recipe.batch_size, 3, size, size, device="meta").unbind()
    return operations(lambda: train_step(model, x1, x2).backward())


def table(rows: Sequence[Row]) -> str:
    """The rows of one batch size for reading."""
    line = "{:<20}{:>30}{:>24}{:>10}{:>9}"
    lines = [
        line.format(
            f"Batch {rows[0]['batch_size']}", "images/s (range)", "x lightly (range)", "of limit", "GB"
        )
    ]
    for row in rows:
        times = _spread(row, "times_lightly", "{:.2f}") if "times_lightly" in row else "-"
        lines.append(line.format(
            row["name"], _spread(row, "images_per_second", "{:,.0f}"), times,
            f"{row['fraction_of_matrix_rate']:.1%}", f"{row['peak_memory'] / 1e9:.2f}",
        ))  # fmt: skip
    limit, image = rows[0]["bfloat16_matrix_rate"] / 1e12, rows[0]["operations_per_image"] / 1e9
    lines.append(
        f"The limit: {limit:.3g} Tflop/s in a bfloat16 matrix product; an image takes {image:.3g} Gflop."
    )
    return "\n".join(lines)


def _named(name: str, value: Any) -> Row:
    return {name: value.median, f"{name}_low": value.low, f"{name}_high": value.high}


def _spread(row: Row, name: str, form: str) -> str:
    return "{} ({} to {})".format(*(form.format(row[key]) for key in (name, f"{name}_low", f"{name}_high")))


def _memory_from_here(device: str) -> int:
    """Bytes now held on the device; the peak is counted from here on."""
    if device != "cuda":
        return 0
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(device: str) -> int:
    """The most bytes held on the device since, the search for the fastest convolution included."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else 0
