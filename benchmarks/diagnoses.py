"""Does `diagnose` name failures right that it has not seen?  Planned failures against the names that they get.

    python benchmarks/diagnoses.py                           patterns, digits and a wider backbone, seeds 100 to 102
    python benchmarks/diagnoses.py --data cifar10 --seeds 1  other images; file:PATH.safetensors for those at hand
    python benchmarks/diagnoses.py --quick                   a minute: whether it runs, not what is named
    python benchmarks/diagnoses.py --table                   the table from the ledger, nothing is run
    python benchmarks/diagnoses.py --curves                  makes the six curve sets of lesson 05 again

The thresholds of `collapse.RULES` come from `patterns`, seeds 0 to 4; here the seeds start at 100. Every run is
appended to diagnoses.jsonl as it ends; called again, the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from options import Parser
from rounds import LEDGER as SPEED

from simsiam_course.ablate import Experiment, run_variant, thin
from simsiam_course.backbones import TINY_WIDTHS, tiny
from simsiam_course.data import ImageSet, load_pair
from simsiam_course.errors import InputError
from simsiam_course.files import append_line, check_folder, read_lines, write_lines
from simsiam_course.presets import PHOTOS
from simsiam_course.recipe import Recipe

LEDGER, CURVES = SPEED.parent / "diagnoses.jsonl", SPEED.parent / "unlabelled.jsonl"
FIRST_SEED = 100
WIDER = tuple(round(1.5 * width) for width in TINY_WIDTHS)
LIMIT, TESTED = 4096, 2048  # images to train on, and to test on, at most
EPOCHS = Recipe.epochs * 4096 // LIMIT
SHORT = 60  # steps of a run that is too short
TOO_HIGH = 100.0  # times the rate of the recipe

COLLAPSED = ("complete collapse", "dimensional collapse")
PLANNED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {  # what is done, and the names that are right
    "healthy": ({}, ("healthy",)),
    "no stop-gradient": ({"stop_gradient": "none"}, COLLAPSED),
    "no predictor": ({"predictor": "none"}, COLLAPSED),
    "frozen predictor": ({"predictor": "frozen"}, ("not learning",)),
    "rate much too high": ({"lr": TOO_HIGH}, ("diverged",)),
    "too short": ({}, ("too short",)),
}
UNLABELLED = {  # run -> (what is planned, further knobs): the order has been shuffled once
    "A": ("frozen predictor", {}),
    "B": ("no predictor", {}),
    "C": ("too short", {}),
    "D": ("no stop-gradient", {"output_bn": "none"}),
    "E": ("healthy", {}),
    "F": (
        "rate much too high",
        {"warmup_steps": None},
    ),  # the rate climbs to the end: it learns before it breaks
}
NAMES = (*dict.fromkeys(name for _, names in PLANNED.values() for name in names), "unknown")

Row = dict[str, Any]


def knobs_for(data: str, epochs: int) -> dict[str, Any]:
    """What `simsiam-course train` takes for such images, for as many images in all as `patterns` gets."""
    preset = {"augmentation": data} if data in ("patterns", "digits") else PHOTOS
    return preset | {"epochs": epochs}


def planned_run(
    planned: str,
    seed: int,
    pair: tuple[ImageSet, ImageSet],
    base: Mapping[str, Any],
    *,
    widths: Sequence[int] = TINY_WIDTHS,
    progress: bool = True,
) -> Row:
    """Runs one planned failure and returns its row, as a ledger of `ablate` has it."""
    train, test = pair
    knobs, _ = PLANNED[planned]
    recipe = Recipe.from_dict({**base, **knobs})
    if "lr" in knobs:
        knobs = knobs | {"lr": knobs["lr"] * Recipe.from_dict(dict(base)).lr}
    if planned == "too short":
        passes = max(1, SHORT // (len(train) // recipe.batch_size))
        knobs, train = (
            {"epochs": passes},
            train.subset(torch.arange(min(len(train), SHORT * recipe.batch_size))),
        )
    experiment = Experiment("diagnoses", "", "", {}, {planned: knobs}, base=dict(base))
    with mock.patch("simsiam_course.recipe.create_backbone", lambda *_, **__: (tiny(widths), widths[-1])):
        row, _ = run_variant(experiment, planned, seed, train, test, device="cpu", progress=progress)
    return row


def plan(options: argparse.Namespace) -> Iterator[tuple[str, str, Sequence[int], str, int]]:
    """What is run: where, on which images, with which widths, which failure, which seed."""
    situations = [(data.rpartition("/")[2], data, TINY_WIDTHS) for data in options.data]
    situations.append((f"{situations[0][0]}, wider", options.data[0], WIDER))
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        for name, data, widths in situations:
            for planned in PLANNED:
                yield name, data, widths, planned, seed


def measure(options: argparse.Namespace) -> list[Row]:
    """The rows of the plan: from the ledger where they are there, else run and appended."""
    from tqdm.auto import tqdm

    known = read_lines(options.out) if options.out and options.out.exists() else []
    done = {(row["where"], row["planned"], row["seed"], row["epochs"]): row for row in known}
    rows, pairs, todo = [], {}, list(plan(options))
    for where, data, widths, planned, seed in (bar := tqdm(todo, unit="run", disable=options.silent)):
        bar.set_postfix_str(f"{where}: {planned}, seed {seed}")
        if data not in pairs:
            train, test = load_pair(data, limit=options.limit)
            pairs = {data: (train, test.sample(TESTED))}
        epochs = max(1, round(options.epochs * LIMIT / len(pairs[data][0])))
        row = done.get((where, planned, seed, epochs))
        if row is None:
            base = knobs_for(data, epochs)
            found = planned_run(planned, seed, pairs[data], base, widths=widths, progress=not options.silent)
            row = summary(found) | {"where": where, "planned": planned, "epochs": epochs}
            if options.out:
                append_line(options.out, row)
        rows.append(row)
    return rows


def summary(row: Row) -> Row:
    """What is kept of a run: its measurements and the end of its curves."""
    kept = ("seed", "diagnosis", "loss", "std", "effective_rank", "knn", "train_loss", "seconds")
    last = row["history"][-1] if row["history"] else {}
    batch = {f"batch_{name}": last.get(name) for name in ("std", "effective_rank")}
    return {name: row[name] for name in kept} | batch | {"steps": last.get("step"), "recipe": row["recipe"]}


def right(row: Row) -> bool:
    return row["diagnosis"] in PLANNED[row["planned"]][1]


def table(rows: Sequence[Row]) -> str:
    """Planned against diagnosed, a line for each place and plan, with counts; then what was misnamed."""
    named = [name for name in NAMES if any(row["diagnosis"] == name for row in rows)]
    places = list(dict.fromkeys(row["where"] for row in rows))
    wide = max(len("images"), *(len(place) for place in places)) + 2
    lines = [f"{'images':<{wide}}{'planned':<20}" + "".join(f"{name:>22}" for name in named)]
    for where in places:
        for planned in PLANNED:
            group = [row for row in rows if (row["where"], row["planned"]) == (where, planned)]
            counts = Counter(row["diagnosis"] for row in group)
            cells = "".join(f"{counts[name] or '-':>22}" for name in named)
            if group:
                lines.append(f"{where:<{wide}}{planned:<20}{cells}")
    wrong = [row for row in rows if not right(row)]
    lines.append(f"\n{len(rows) - len(wrong)} of {len(rows)} runs have a right name.")
    for row in wrong:
        known = {name: row[name] for name in ("loss", "std", "effective_rank") if row[name] is not None}
        figures = ", ".join(f"{name} {value:.3g}" for name, value in known.items())
        lines.append(f"{row['where']}, {row['planned']}, seed {row['seed']}: {row['diagnosis']} ({figures})")
    return "\n".join(lines)


def curves(options: argparse.Namespace) -> list[Row]:
    """The six curve sets of lesson 05, one real run each, thinned."""
    from tqdm.auto import tqdm

    pair, rows = load_pair("patterns", limit=options.limit), []
    for run, (planned, further) in (bar := tqdm(UNLABELLED.items(), unit="run", disable=options.silent)):
        bar.set_postfix_str(run)
        climb = {
            name: options.epochs * len(pair[0]) // 64 for name, value in further.items() if value is None
        }
        base = knobs_for("patterns", options.epochs) | further | climb
        row = planned_run(planned, FIRST_SEED, pair, base, progress=not options.silent)
        columns = ("step", "images_seen", "loss", "std", "effective_rank", "knn")
        history = [{name: line.get(name) for name in columns} for line in thin(row["history"], rows=30)]
        rows.append({"run": run, "planned": planned, "recipe": row["recipe"], "history": history})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: 0 if every run got a right name (or --quick), 1 if not, 2 after bad options."""
    try:
        options = _options(arguments)
        if options.curves:
            rows = curves(options)
            write_lines(options.out or CURVES, rows)
            print(f"Six curve sets are in {options.out or CURVES}.")
            return 0
        if options.table and not (options.out and options.out.exists()):
            raise InputError(f"There is no ledger '{options.out}' yet: run the command without --table.")
        rows = read_lines(options.out) if options.table else measure(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(rows))
    return int(not options.quick and not all(map(right, rows)))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked. Errors: `InputError`."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add(
        "--data",
        nargs="+",
        default=["patterns", "digits"],
        help="sets of images; the first also has a wider backbone",
    )
    add("--seeds", type=int, default=3, help=f"how many, from {FIRST_SEED} on")
    add(
        "--epochs",
        type=int,
        default=EPOCHS,
        help=f"passes over {LIMIT} images; smaller sets get more of them",
    )
    add("--limit", type=int, default=LIMIT, help="training images at most")
    add("--threads", type=int, help="CPU threads")
    add("--out", type=Path, help=f"the ledger (default: data/results/{LEDGER.name}; with --quick, none)")
    add("--quick", action="store_true", help="only to try the command: one seed, one pass, few images")
    add("--table", action="store_true", help="print the table of the ledger")
    add("--curves", action="store_true", help=f"write data/results/{CURVES.name}")
    options = parser.parse_args(arguments)
    for name in ("seeds", "epochs", "limit"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} is {getattr(options, name)}, expected 1 or more.")
    if options.quick:
        options.seeds, options.epochs, options.limit = 1, 1, min(options.limit, 256)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.silent = options.quick
    if not options.out and not options.curves:
        options.out = None if options.quick and not options.table else LEDGER
    if options.out:
        check_folder(options.out.parent)
    return options


if __name__ == "__main__":
    sys.exit(main())
