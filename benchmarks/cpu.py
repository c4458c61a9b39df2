"""How fast the course trains on a CPU: beside its peers, beside what the machine can do, and until it has learned.

    python benchmarks/cpu.py                            everything, half an hour on two cores that are idle
    python benchmarks/cpu.py --only training account    some of it
    python benchmarks/cpu.py --quick                    all of it in a minute: whether it runs, not how fast
    python benchmarks/cpu.py --figure                   speed.png and the tables from the ledger, nothing measured

Every part is printed and written to speed.jsonl as soon as it is done; a row is what the part's function says below.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import memory
from account import account
from cpu_figure import alt_text, speed
from cpu_tables import PARTS, closing, latest, show
from learning import time_to_knn
from machine import COPIED, MATRIX, describe
from peers import CONTESTANTS, Contestant
from rounds import LEDGER, Turn, alternate, keep, ratio, summary

from simsiam_course.data import ImageSet, load_pair
from simsiam_course.errors import InputError, check_whole
from simsiam_course.files import atomic_write, check_folder, read_lines
from simsiam_course.plot import png
from simsiam_course.recipe import Recipe
from simsiam_course.speed import SWITCHES, switched
from simsiam_course.speed import race as race_of_recipes

Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much of everything is measured."""

    rounds: int = 5
    steps: int = 64  # a turn: one pass over patterns' 4,096 images
    slow_steps: int = 3  # a turn with a resnet18, of which one step takes seconds
    slow_batch: int | None = None
    seeds: int = 5
    epochs: int = Recipe.epochs
    limit: int | None = None  # training images
    contestants: tuple[str, ...] = tuple(CONTESTANTS)
    switches: tuple[str, ...] = tuple(SWITCHES)
    weighed: tuple[str, ...] = tuple(CONTESTANTS)  # whose memory is measured
    matrix: int = MATRIX
    copied: int = COPIED


QUICK = Size(
    rounds=2, steps=2, slow_steps=1, slow_batch=2, seeds=1, epochs=1, limit=256, matrix=256, copied=2**22,
    contestants=tuple(name for name in CONTESTANTS if name != "lightly-8"), weighed=("ours", "lightly-2"),
    switches=tuple(name for name in SWITCHES if not SWITCHES[name].get("compile")),  # a compiler takes a minute
)  # fmt: skip


def race(turns: Mapping[str, Turn], size: Size, about: Mapping[str, Any], label: str) -> list[Row]:
    """A row for each contestant: its rates by round, their median and range, and how many times faster ours is."""
    rates = alternate(turns, size.rounds, label=label)
    return [
        {"contestant": name, **about, "rates": found, **summary(found)._asdict(),
         "ours_over_it": ratio(rates["ours"], found)._asdict()}
        for name, found in rates.items()
    ]  # fmt: skip


@contextmanager
def ready(names: Iterable[str], images: ImageSet, recipe: Recipe) -> Iterator[dict[str, Contestant]]:
    """The contestants of these names, whose workers are gone afterwards."""
    made: dict[str, Contestant] = {}
    try:
        for name in names:
            made[name] = CONTESTANTS[name](images, recipe)
        yield made
    finally:
        for contestant in made.values():
            contestant.close()


def training(size: Size, images: ImageSet, recipe: Recipe, before: Sequence[Row]) -> list[Row]:
    """Images a second of the training loops with the recipe's backbone."""
    about = {"unit": "images/s", **setting(images, recipe, size.steps)}
    with ready(size.contestants, images, recipe) as made:
        turns = {name: partial(contestant.train, size.steps) for name, contestant in made.items()}
        return race(turns, size, about, "training")


def augmentation(size: Size, images: ImageSet, recipe: Recipe, before: Sequence[Row]) -> list[Row]:
    """Views a second of the same loops when nobody trains on the views."""

    def views(contestant: Contestant) -> float:
        start = time.perf_counter()
        made = sum(len(x1) + len(x2) for x1, x2 in contestant.pairs(size.steps))
        return made / (time.perf_counter() - start)

    about = {"unit": "views/s", **setting(images, recipe, size.steps)}
    with ready(size.contestants, images, recipe) as made:
        turns = {name: partial(views, contestant) for name, contestant in made.items()}
        return race(turns, size, about, "augmentation")


def resnet18(size: Size, images: ImageSet, recipe: Recipe, before: Sequence[Row]) -> list[Row]:
    """The training loops with a resnet18, lightly's with the worker count that was its best in `training`."""
    recipe = recipe.replace(backbone="resnet18", batch_size=size.slow_batch or recipe.batch_size)
    ranked = [row for row in before if row["part"] == "training" and row["contestant"].startswith("lightly")]
    best = {max(ranked, key=lambda row: row["median"])["contestant"]} if ranked else set(size.contestants)
    names = [name for name in size.contestants if not name.startswith("lightly") or name in best]
    about = {"unit": "images/s", **setting(images, recipe, size.slow_steps)}
    with ready(names, images, recipe) as made:
        turns = {name: partial(contestant.train, size.slow_steps) for name, contestant in made.items()}
        return race(turns, size, about, "resnet18")


def floor(size: Size, images: ImageSet, recipe: Recipe, before: Sequence[Row]) -> list[Row]:
    """Where a step's time goes, by stage and by kind of operation, the monitors' share, and the machine's limit."""
    rates = {"matrix": size.matrix, "copied": size.copied}
    return account(images, recipe, steps=size.steps, rounds=size.rounds, **rates)


def switches(size: Size, images: ImageSet, recipe: Recipe, before: Sequence[Row]) -> list[Row]:
    """Images a second of the recipe with its switches off and with each on, and the gain: the ratio to all off."""
    recipes = switched(recipe, size.switches)
    steps = max(1, size.steps // 4)
    rates = race_of_recipes(recipes, images, steps=steps, rounds=size.rounds, device="cpu")
    about = {"unit": "images/s", **setting(images, recipe, steps)}
    return [
        {"switch": name, "changes": SWITCHES[name], **about, "rates": found, **summary(found)._asdict(),
         "gain": ratio(found, rates["none"])._asdict()}
        for name, found in rates.items()
    ]  # fmt: skip


def knn(size: Size, images: ImageSet, recipe: Recipe, before: Sequence[Row]) -> list[Row]:
    """Seconds until kNN on all test images is 85 %, a row for each seed (see learning.py)."""
    return [time_to_knn(recipe.replace(seed=seed), limit=size.limit) for seed in range(size.seeds)]


def choices(size: Size, images: ImageSet, recipe: Recipe, before: Sequence[Row]) -> list[Row]:
    """The same for seed 0 when the recipe goes without what it adds to the paper's optimiser, a row for each."""
    without: dict[str, dict[str, Any]] = {
        "as it is": {},
        "predictor at f's rate": {"predictor_lr": 1.0},
        "plain momentum": {"nesterov": False},
        "both, as in the paper": {"predictor_lr": 1.0, "nesterov": False},
    }
    return [
        {"choice": name, "changes": changes, **time_to_knn(recipe.replace(**changes), limit=size.limit)}
        for name, changes in without.items()
    ]


def peak_memory(size: Size, images: ImageSet, recipe: Recipe, before: Sequence[Row]) -> list[Row]:
    """Megabytes of each training loop in a process of its own, its workers' included (see memory.py)."""
    return memory.measure(size.weighed, images, min(size.steps, 32))


def setting(images: ImageSet, recipe: Recipe, steps: int) -> Row:
    """What all contestants of a race have in common."""
    return {"backbone": recipe.backbone, "side": images.images.shape[-1], "batch_size": recipe.batch_size,
            "augmentation": recipe.augmentation, "steps": steps}  # fmt: skip


MEASURES: dict[str, Callable[[Size, ImageSet, Recipe, Sequence[Row]], list[Row]]] = dict(
    zip(PARTS, (training, augmentation, resnet18, floor, switches, knn, choices, peak_memory), strict=True)
)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        options = parse(arguments)
        if options.figure:
            rows = read_lines(options.path) if options.path.exists() else []
            finish(latest(rows), options.path.parent)
        else:
            measure(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped: only the parts printed above are done.", file=sys.stderr)
        return 130
    return 0


def measure(options: argparse.Namespace) -> None:
    """Measures, prints and keeps the parts one by one, and draws the figure."""
    size: Size = options.size
    recipe = Recipe(joint=False, epochs=size.epochs)
    images, _ = load_pair("patterns", limit=size.limit)
    machine = describe()
    print(f"{machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}")
    rows = latest(read_lines(options.path), machine) if options.path and options.path.exists() else []
    for part in options.parts:
        found = [{"part": part, **row} for row in MEASURES[part](size, images, recipe, rows)]
        rows = [row for row in rows if row["part"] != part] + found
        print(show(part, found), flush=True)
        if options.path:
            keep(f"cpu {part}", found, machine, options.path)
    if options.path:
        finish(latest(read_lines(options.path), machine), options.path.parent, tables=False)
    else:
        print("\n" + closing(rows))


def finish(rows: Sequence[Row], folder: Path, *, tables: bool = True) -> None:
    """Draws what the ledger has of one machine."""
    if not rows:
        raise InputError(
            f"'{folder / LEDGER.name}' holds no rows of this benchmark: measure first, without --figure."
        )
    for part in PARTS if tables else ():
        print(show(part, [row for row in rows if row["part"] == part]))
    atomic_write(folder / "speed.png", png(speed(rows), dpi=150))
    print(f"\n{folder / 'speed.png'}: {alt_text(rows)}")
    print(closing(rows))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked before anything is measured. Errors: `InputError`."""
    parser = argparse.ArgumentParser(
        description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, help=f"turns of every contestant ({Size.rounds})")
    parser.add_argument("--steps", type=int, help=f"training steps in a turn ({Size.steps})")
    parser.add_argument("--seeds", type=int, help=f"seeds 0 to N-1 for the time to 85 %% kNN ({Size.seeds})")
    parser.add_argument("--quick", action="store_true", help="a little of everything; kept only with --out")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, metavar="PART", help=f"some of: {', '.join(PARTS)}"
    )
    parser.add_argument("--out", type=Path, help="folder of speed.jsonl and speed.png (data/results)")
    parser.add_argument("--figure", action="store_true", help="print and draw what is in the ledger")
    options = parser.parse_args(arguments)
    given = {
        name: value for name in ("rounds", "steps", "seeds") if (value := getattr(options, name)) is not None
    }
    check_whole(**given)
    base = QUICK if options.quick else Size()
    options.size = replace(base, **given)
    options.parts = [part for part in PARTS if part in (options.only or PARTS)]
    folder = options.out or (None if options.quick and not options.figure else LEDGER.parent)
    if options.quick and folder and folder.resolve() == LEDGER.parent:
        raise InputError(
            "A quick run measures nothing that is worth its place in data/results: give another --out."
        )
    if folder:
        check_folder(folder)
    options.path = folder / LEDGER.name if folder else None
    return options


if __name__ == "__main__":
    os.environ.pop("SIMSIAM_QUICK", None)  # it ends every run after some steps
    sys.exit(main())
