"""SimSiam with ResNet-18 on CIFAR-10 as fast as a GPU can: the speed, then two published recipes.

    python benchmarks/gpu.py --minutes 9                          both parts, in nine minutes
    python benchmarks/gpu.py --parts speed --batches 512          one batch size
    python benchmarks/gpu.py --parts train --recipe B --out FOLDER    again with the same folder: goes on

`speed` sets lightly's loop against every rung of a ladder that ends in a CUDA graph. `train` follows recipe A, the
paper's (App. D: 800 passes, linear 91.8 %), or B, lightly's benchmark (200 passes, kNN 81.9 %), and reports kNN and
linear accuracy by wall time. All of it also runs on a CPU, where --quick makes it end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gpu_speed
import gpu_train
import torch
from fast import LADDER, Rung
from machine import describe
from options import Parser
from rounds import LEDGER, keep

from simsiam_course.data import ImageSet, load_pair, patterns
from simsiam_course.errors import InputError
from simsiam_course.files import check_folder
from simsiam_course.recipe import Recipe
from simsiam_course.train import resolve_device

PARTS = ("speed", "train")
RUNS = Path("runs") / "gpu"
QUICK: dict[str, Any] = {
    "backbone": "tiny", "projection_dim": 32, "hidden_dim": 32, "predictor_hidden_dim": 8, "batch_size": 32,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: 0 if all went well, 2 after bad options or data, with one sentence."""
    begun = time.perf_counter()
    try:
        options = _options(arguments)
        end = begun + 60 * options.minutes
        images = _images(options)
        torch.backends.cudnn.benchmark = True  # for everyone here; shapes never change
        with tempfile.TemporaryDirectory() as scratch:
            options.runs = options.runs or Path(scratch)
            for part in options.parts:
                half = options.minutes * 30 if part == "speed" and "train" in options.parts else 0
                PART[part](images, options, partial(_seconds_until, end - half))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def speed(images: tuple[ImageSet, ImageSet], options: argparse.Namespace, left: Callable[[], float]) -> None:
    """Races at every batch size; each has an equal share of the time that is left."""
    ladder = {name: replace(rung, compile=rung.compile and options.compile) for name, rung in LADDER.items()
              if (options.compile or name != "+ torch.compile") and (options.graph or not rung.graph)}  # fmt: skip
    for i, batch in enumerate(options.batches):
        later = left() * (1 - 1 / (len(options.batches) - i))  # belongs to the batch sizes after this one
        recipe = _recipe("A", options).replace(batch_size=batch)
        rows = gpu_speed.race(
            images[0], recipe, ladder=ladder, workers=options.workers, device=options.device,
            left=partial(_seconds_until, time.perf_counter() + left() - later),
            rounds=1 if options.quick else gpu_speed.ROUNDS,
        )  # fmt: skip
        if rows:
            print(gpu_speed.table(rows), end="\n\n", flush=True)
            _keep(f"gpu speed at batch {batch}", rows, options)


def train(images: tuple[ImageSet, ImageSet], options: argparse.Namespace, left: Callable[[], float]) -> None:
    """Goes on with the recipe's run, and keeps what it has come to."""
    cuda = options.device == "cuda"
    rung = Rung(channels_last=True, bf16=cuda, compile=options.compile, graph=options.graph)
    run = gpu_train.start(
        _recipe(options.recipe, options), *images, options.runs / options.recipe, rung, device=options.device,
        probing={"copies": 2, "passes": 10} if options.quick else {},
    )  # fmt: skip
    gpu_train.train_for(run, left)
    found = gpu_train.result(options.recipe, run)
    print(gpu_train.table(found), end="\n\n", flush=True)
    _keep(f"gpu recipe {options.recipe}", [found], options)


PART = {"speed": speed, "train": train}


def _seconds_until(end: float) -> float:
    return end - time.perf_counter()


def _recipe(name: str, options: argparse.Namespace) -> Recipe:
    recipe = gpu_train.RECIPES[name]
    epochs = options.epochs or (2 if options.quick else recipe.epochs)
    return recipe.replace(epochs=epochs, **(QUICK if options.quick else {}))


def _images(options: argparse.Namespace) -> tuple[ImageSet, ImageSet]:
    if not options.quick:
        return load_pair(options.data or "cifar10", test=options.test)
    if options.data is None:
        return patterns(128), patterns(64, split="test")
    images, test = load_pair(options.data, test=options.test, limit=128)
    return images, test.subset(torch.arange(min(64, len(test))))


def _keep(benchmark: str, rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    if options.ledger:
        keep(benchmark, rows, describe(options.device), options.ledger)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked. Errors: `InputError`."""
    parser = Parser(__doc__)
    add = parser.add_argument
    flag = argparse.BooleanOptionalAction
    add("--parts", type=_names, default=PARTS, metavar="speed,train", help="what to run (default: both)")
    add("--data", help="training images, as in simsiam-course (default: cifar10; with --quick, patterns)")
    add("--test", help="test images (default: those that belong to --data)")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--minutes", type=float, default=9.0, help="for all that is asked for together (default: 9)")
    add("--batches", type=_sizes, metavar="128,512", help="batch sizes of speed")
    add("--workers", type=int, help="of lightly's loader (default: the cores; with --quick, none)")
    add("--recipe", choices=gpu_train.RECIPES, default="B", help="of train (default: B)")
    add("--epochs", type=int, help="passes of the whole recipe (default: as published)")
    add("--out", type=Path, help=f"folder of {LEDGER.name} and the runs (default: data/results and runs/gpu)")
    add("--compile", action=flag, help="use torch.compile (default: on a GPU; a CPU needs a C++ compiler)")
    add("--graph", action=flag, help="use a CUDA graph (default: on a GPU)")
    add(
        "--quick",
        action="store_true",
        help="only to try the command: tiny model, few images, no ledger without --out",
    )
    options = parser.parse_args(arguments)
    options.device = resolve_device(options.device).type
    for name in ("minutes", "epochs"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise InputError(f"--{name} is {value}, expected a number above 0.")
    if options.test and not options.data:
        raise InputError("There are test images without training images: give --data too.")
    if options.workers is None:
        options.workers = 0 if options.quick else describe()["cores"]
    if options.workers < 0:
        raise InputError(f"--workers is {options.workers}, expected 0 or more.")
    options.batches = options.batches or ((16, 32) if options.quick else (128, 512))
    options.ledger = options.out / LEDGER.name if options.out else None if options.quick else LEDGER
    options.runs = options.out or (None if options.quick else RUNS)
    for folder in (options.ledger and options.ledger.parent, options.runs):
        if folder:
            check_folder(folder)
    _decide_what_to_use(options)
    return options


def _decide_what_to_use(options: argparse.Namespace) -> None:
    """Where nobody has decided about torch.compile and CUDA graphs, a GPU gets both."""
    cuda = options.device == "cuda"
    if options.graph and not cuda:
        raise InputError("A CUDA graph needs a CUDA device: leave --graph out.")
    missing = [name for name, asked in (("torch.compile", options.compile), ("CUDA graph", options.graph))
               if asked is None and not cuda]  # fmt: skip
    if missing:
        print(f"There is no CUDA device, so without {' and '.join(missing)}.")
    options.compile = cuda if options.compile is None else options.compile
    options.graph = cuda if options.graph is None else options.graph


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"there is no part '{unknown[0]}', only {' and '.join(PARTS)}")
    return [part for part in PARTS if part in names]


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 2:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of batch sizes such as 128,512")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
