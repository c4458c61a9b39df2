"""Experiments as data: variants of one recipe, run over seeds, kept in a ledger, summed up in a table.

A ledger is a file of JSON lines, one per run, appended as runs end: an interrupted sweep goes on where it stopped.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
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
from .probes import factor_probes
from .recipe import Recipe
from .train import Diverged, History, fit
from .watch import Watch, pack

LEDGER = "results.jsonl"
HISTORY_ROWS = 60  # enough for a curve; the ledger stays small
MEASURED = ("loss", "std", "effective_rank", "knn", "linear", "seconds")


@dataclass(frozen=True)
class Experiment:
    """A question, the variants that answer it, and what the paper found.

    `variants` maps a name to the knobs in which it differs from the default `Recipe`; `base` holds those they share.
    `paper` maps a variant to its linear accuracy there and where that stands; `panels` says which variants are drawn
    together, by the title of the figure, all in one where it is empty. `further(model, train, test)` gives the row
    further measurements.
    """

    name: str
    title: str
    question: str
    paper: dict[str, tuple[str, str]]
    variants: dict[str, dict[str, Any]]
    base: dict[str, Any] = field(default_factory=dict)
    data: str = "patterns"
    panels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    further: Callable[[nn.Module, ImageSet, ImageSet], dict[str, Any]] | None = None

    def recipe(self, variant: str, seed: int) -> Recipe:
        """The recipe of one run."""
        return Recipe.from_dict({**self.base, **self.variants[variant], "seed": seed})


PAPER = "67.7 ± 0.1 %"  # with all parts, 100 passes; 68.1 where h keeps its rate
COLLAPSE = Experiment(
    name="collapse",
    title="What keeps SimSiam from collapsing?",
    question="Which of the two parts, the stop-gradient and the predictor, can be left out?",
    paper={
        "simsiam": (PAPER, "Fig. 2"),
        "no_stop_gradient": ("0.1 %", "Fig. 2"),
        "no_predictor": ("0.1 %", "Table 1a"),
    },
    variants={
        "simsiam": {},
        "no_stop_gradient": {"stop_gradient": "none"},
        "no_predictor": {"predictor": "none"},
        "neither": {"stop_gradient": "none", "predictor": "none"},
    },
    base={"epochs": 17},  # `demo` runs all four while people wait: three minutes on two cores
)
STOP_GRADIENT = Experiment(
    name="stop_gradient",
    title="Where must the gradient stop?",
    question="On the target, nowhere, on the side of the predictor, or on both sides?",
    paper={"target": (PAPER, "Fig. 2"), "none": ("0.1 %", "Fig. 2")},
    variants={name: {"stop_gradient": name} for name in ("target", "none", "wrong_side", "both")},
)
PREDICTOR = Experiment(
    name="predictor",
    title="What must the predictor be able to do?",
    question="Must h learn, and how much must it be able to learn?",
    paper={
        "mlp": ("68.1 %", "Table 1c"),
        "none": ("0.1 %", "Table 1a"),
        "frozen": ("1.5 %", "Table 1b: the loss stays high, no collapse"),
        "mlp_decayed": ("67.7 %", "Table 1, baseline"),
    },
    variants={
        **{name: {"predictor": name} for name in ("mlp", "none", "frozen", "bias", "linear", "directpred")},
        "mlp_decayed": {"predictor_schedule": "same"},
    },
)
OUTPUT_BN = Experiment(
    name="output_bn",
    title="What does the batch norm on z do to a collapse?",
    question="With and without stop-gradient: does the standard deviation still tell?",
    paper={
        "bn_affine_free": ("68.2 %", "Sec. 4.4"),
        "bn_affine": ("68.1 %", "Table 3c"),
        "bn_none": ("67.4 %", "Table 3b"),
    },
    variants={
        f"bn_{bn}{label}": {"output_bn": bn, "stop_gradient": stop}
        for bn in ("affine_free", "affine", "none")
        for label, stop in (("", "target"), ("_no_stop_gradient", "none"))
    },
)
_OTHER_BN = {
    name: knobs for name, knobs in OUTPUT_BN.variants.items() if not name.startswith("bn_affine_free")
}
FAILURES = Experiment(
    name="failures",
    title="In which ways does SimSiam fail?",
    question="Where the gradient stops, what the predictor may do, whether z is normalised: what breaks, and how?",
    paper={
        **COLLAPSE.paper,
        "frozen": PREDICTOR.paper["frozen"],
        **{name: OUTPUT_BN.paper[name] for name in ("bn_affine", "bn_none")},
    },
    variants={
        **COLLAPSE.variants,
        "wrong_side": {"stop_gradient": "wrong_side"},
        "frozen": {"predictor": "frozen"},
        **_OTHER_BN,
    },
    panels={
        "Stop-gradient and predictor": tuple(COLLAPSE.variants),
        "Stop-gradient on the wrong side, predictor never trained": ("simsiam", "wrong_side", "frozen"),
        "Batch norm on z": ("simsiam", "no_stop_gradient", *_OTHER_BN),
    },
)
FACTORS = Experiment(
    name="factors",
    title="What do the augmentations make it forget?",
    question="With strong hue jitter, or without any colour jitter: which factors are left in the features?",
    paper={},
    variants={
        "hue_jitter": {"augmentation": "patterns"},
        "no_colour_jitter": {"augmentation": "crop_and_flip"},
    },
    further=factor_probes,
)
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (COLLAPSE, FAILURES, STOP_GRADIENT, PREDICTOR, OUTPUT_BN, FACTORS)
}


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
    extra: dict[str, Any] = {}
    watch = Watch(train, test, recipe)

    def keep(row: dict[str, Any], model: nn.Module) -> dict[str, Any]:
        measured = watch(row, model)
        history.append({**row, **measured})
        return measured

    try:
        fit(model, train, recipe, device=device, callback=keep, progress=progress)
        figures = measure(model, train, test, augmentation=PRESETS[recipe.augmentation])
        verdict = diagnose({**figures, "history": history}).name
        extra = experiment.further(model, train, test) if experiment.further else {}
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
        **extra,
        "train_loss": last.get("loss"),
        "seconds": seconds,
        "images_per_second": seen / seconds if seconds else None,
        "device": str(next(model.parameters()).device.type),
        "diagnosis": verdict,
        "recipe": recipe.to_dict(),
        "history": thin(history),
        "frames": [{"step": frame["step"], "points": pack(frame["points"])} for frame in watch.frames],
    }
    return row, model


def run(
    experiment: Experiment, *, seeds: int, out: str | Path, device: str = "auto", progress: bool = True
) -> Iterator[dict[str, Any]]:
    """Runs every variant for seeds 0 to `seeds` - 1 and yields the ledger's rows; those there are not run again.

    `out` is a folder, or the ledger itself where it ends in .jsonl.
    Errors: `InputError` where `out` cannot be written or its ledger is damaged.
    """
    from tqdm.auto import tqdm

    from .data import load_pair

    path = ledger_path(out)
    make_folder(path.parent)
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


def ledger_path(place: str | Path) -> Path:
    """The ledger of a folder, or the place itself where it ends in .jsonl."""
    return Path(place) if Path(place).suffix == ".jsonl" else Path(place) / LEDGER


def read_ledger(place: str | Path) -> list[dict[str, Any]]:
    """The rows of a ledger, or of a folder's. Errors: `InputError` where there is none, it is empty or damaged."""
    path = ledger_path(place)
    rows = read_lines(path) if path.is_file() else []
    if not rows:
        raise InputError(f"'{place}' holds no results: name a folder that 'demo' or 'ablate' has written.")
    for row in rows:
        key(row)
    return rows


def thin(history: list[dict[str, Any]], rows: int = HISTORY_ROWS) -> list[dict[str, Any]]:
    """About `rows` rows of a history, evenly spread, with the last one and all where the kNN was measured.

    Numbers keep five digits, which is more than a curve shows.
    """
    stride = max(1.0, (len(history) - 1) / (rows - 1))
    kept = {round(i * stride) for i in range(min(rows, len(history)))}
    kept |= {i for i, row in enumerate(history) if row.get("knn") is not None}
    return [{name: _short(value) for name, value in history[i].items()} for i in sorted(kept)]


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


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
