"""Experiments as data: variants of one recipe, run over seeds, kept in a ledger, summed up in a table.

A ledger is a file of JSON lines, one per run, appended as runs end: an interrupted sweep goes on where it stopped.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .augment import PRESETS
from .collapse import diagnose
from .data import ImageSet
from .errors import InputError
from .evaluate import measure
from .files import append_line, make_folder, read_lines
from .recipe import Recipe
from .train import Diverged, History, fit

LEDGER = "results.jsonl"
HISTORY_ROWS = 60  # enough for a curve; the ledger stays small
MEASURED = ("loss", "std", "effective_rank", "knn", "linear", "seconds")


@dataclass(frozen=True)
class Experiment:
    """A question, the variants that answer it, and what the paper found.

    `variants` maps a name to the knobs in which it differs from the default `Recipe`; `base` holds those they share.
    """

    name: str
    title: str
    question: str
    paper: str
    variants: dict[str, dict[str, Any]]
    base: dict[str, Any] = field(default_factory=dict)
    data: str = "patterns"

    def recipe(self, variant: str, seed: int) -> Recipe:
        """The recipe of one run."""
        return Recipe.from_dict({**self.base, **self.variants[variant], "seed": seed})


COLLAPSE = Experiment(
    name="collapse",
    title="What keeps SimSiam from collapsing?",
    question="Which of the two parts, the stop-gradient and the predictor, can be left out?",
    paper="With both: 67.7 +- 0.1 % linear accuracy on ImageNet. Without stop-gradient: 0.1 % (Fig. 2). "
    "Without a predictor: 0.1 % (Table 1a).",
    variants={
        "simsiam": {},
        "no_stop_gradient": {"stop_gradient": "none"},
        "no_predictor": {"predictor": "none"},
        "neither": {"stop_gradient": "none", "predictor": "none"},
    },
)
STOP_GRADIENT = Experiment(
    name="stop_gradient",
    title="Where must the gradient stop?",
    question="On the target, nowhere, on the side of the predictor, or on both sides?",
    paper="On the target: 67.7 %. Nowhere: 0.1 % (Fig. 2). The other two are not in the paper.",
    variants={name: {"stop_gradient": name} for name in ("target", "none", "wrong_side", "both")},
)
PREDICTOR = Experiment(
    name="predictor",
    title="What must the predictor be able to do?",
    question="Must h learn, and how much must it be able to learn?",
    paper="MLP: 67.7 %. No predictor: 0.1 % (Table 1a). Random and never trained: 1.5 %, the loss stays high, "
    "which is not collapse (Table 1b). Rate not decayed: 68.1 % (Table 1c).",
    variants={
        **{name: {"predictor": name} for name in ("mlp", "none", "frozen", "bias", "linear", "directpred")},
        "mlp_decayed": {"predictor_schedule": "same"},
    },
)
OUTPUT_BN = Experiment(
    name="output_bn",
    title="What does the batch norm on z do to a collapse?",
    question="With and without stop-gradient: does the standard deviation still tell?",
    paper="Output BN with its affine part 68.1 %, without it 68.2 %, no BN on the output 67.4 % (Table 3).",
    variants={
        f"{bn}{label}": {"output_bn": bn, "stop_gradient": stop}
        for bn in ("affine_free", "affine", "none")
        for label, stop in (("", "target"), ("_no_stop_gradient", "none"))
    },
)
EXPERIMENTS = {experiment.name: experiment for experiment in (COLLAPSE, STOP_GRADIENT, PREDICTOR, OUTPUT_BN)}


def find(name: str) -> Experiment:
    """The experiment of that name. Errors: `InputError`, unknown name."""
    if name not in EXPERIMENTS:
        raise InputError(f"There is no experiment '{name}': choose one of {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]


def run_variant(
    experiment: Experiment,
    variant: str,
    seed: int,
    train: ImageSet,
    test: ImageSet,
    *,
    device: str = "auto",
    progress: bool = True,
) -> tuple[dict[str, Any], nn.Module]:
    """Trains and measures one variant with one seed; its ledger row and its model come back.

    Errors: `InputError` as `fit` has them; a run that diverges gives a row that says so.
    """
    recipe = experiment.recipe(variant, seed)
    model = recipe.build()
    history, figures, verdict = History(), {}, "diverged"

    def keep(row: dict[str, Any], _: nn.Module) -> None:
        history.append(row)

    try:
        fit(model, train, recipe, device=device, callback=keep, progress=progress)
        figures = measure(model, train, test, augmentation=PRESETS[recipe.augmentation])
        verdict = diagnose({**figures, "history": history}).name
    except Diverged:
        pass
    last = history[-1] if history else {}
    seconds, seen = last.get("seconds"), last.get("images_seen", 0)
    row = {
        "experiment": experiment.name,
        "variant": variant,
        "seed": seed,
        "stop_gradient": recipe.stop_gradient,
        "predictor": recipe.predictor,
        "images_seen": seen,
        **{name: figures.get(name) for name in ("loss", "std", "effective_rank", "dim", "knn", "linear")},
        "train_loss": last.get("loss"),
        "seconds": seconds,
        "images_per_second": seen / seconds if seconds else None,
        "device": str(next(model.parameters()).device.type),
        "diagnosis": verdict,
        "recipe": recipe.to_dict(),
        "history": thin(history),
    }
    return row, model


def run(
    experiment: Experiment, *, seeds: int, out: str | Path, device: str = "auto", progress: bool = True
) -> Iterator[dict[str, Any]]:
    """Runs every variant for seeds 0 to `seeds` - 1 and yields the ledger's rows; those there are not run again.

    Errors: `InputError` where `out` cannot be written or its ledger is damaged.
    """
    from tqdm.auto import tqdm

    from .data import load_pair

    path = make_folder(out) / LEDGER
    known = {key(row): row for row in (read_lines(path) if path.exists() else [])}
    plan = [(seed, variant) for seed in range(seeds) for variant in experiment.variants]
    train, test = load_pair(experiment.data)
    for seed, variant in (bar := tqdm(plan, disable=not progress, unit="run", desc=experiment.name)):
        bar.set_postfix_str(f"{variant}, seed {seed}")
        wanted = (experiment.name, variant, seed, experiment.recipe(variant, seed))
        row = known.get(wanted)
        if row is None:
            row, _ = run_variant(experiment, variant, seed, train, test, device=device, progress=progress)
            append_line(path, row)
        yield row


def key(row: dict[str, Any]) -> tuple[str, str, int, Recipe]:
    """What makes two ledger rows the same run. Errors: `InputError` where a row lacks it."""
    try:
        return row["experiment"], row["variant"], row["seed"], Recipe.from_dict(row["recipe"])
    except (KeyError, TypeError) as error:
        raise InputError(f"A row of the ledger lacks {error}: delete the row or the file.") from None


def read_ledger(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a folder's ledger. Errors: `InputError` where there is none, it is empty or it is damaged."""
    path = Path(folder) / LEDGER
    rows = read_lines(path) if path.is_file() else []
    if not rows:
        raise InputError(f"'{folder}' holds no results: name a folder that 'demo' or 'ablate' has written.")
    for row in rows:
        key(row)
    return rows


def thin(history: list[dict[str, Any]], rows: int = HISTORY_ROWS) -> list[dict[str, Any]]:
    """At most `rows` rows of a history, evenly spread, the last one always among them."""
    if len(history) <= rows:
        return list(history)
    stride = (len(history) - 1) / (rows - 1)
    return [history[round(i * stride)] for i in range(rows)]


def table(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds, one line per variant, in the order of the rows.

    Each measured column is (mean, sd); sd is None for one seed, both are None where no run has the figure.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["variant"], []).append(row)
    return [
        {
            "variant": variant,
            "n": len(group),
            **{name: mean_sd(row[name] for row in group) for name in MEASURED},
        }
        for variant, group in groups.items()
    ]


def mean_sd(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """The mean and the sample standard deviation of the values that are there."""
    there = [value for value in values if value is not None]
    mean = statistics.fmean(there) if there else None
    return mean, statistics.stdev(there) if len(there) > 1 else None


def format_table(lines: list[dict[str, Any]]) -> str:
    """The table of `table()` as plain text, one variant a line, narrow enough for a notebook."""
    columns = {
        "knn": "kNN",
        "linear": "linear",
        "effective_rank": "rank of z",
        "std": "std of z",
        "loss": "loss",
    }
    wide = max(len(line["variant"]) for line in lines)
    rows = [f"{'variant':<{wide}}{'n':>4}" + "".join(f"{label:>13}" for label in columns.values())]
    for line in lines:
        figures = "".join(f"{_plus_minus(line[name]):>13}" for name in columns)
        rows.append(f"{line['variant']:<{wide}}{line['n']:>4}{figures}")
    return "\n".join(rows)


def _plus_minus(value: tuple[float | None, float | None]) -> str:
    mean, sd = value
    if mean is None:
        return "-"
    return f"{mean:.3f}" if sd is None else f"{mean:.3f}±{sd:.3f}"
