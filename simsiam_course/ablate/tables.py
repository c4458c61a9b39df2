"""Ledgers summed up: mean and standard deviation over seeds, and the paper's figures beside them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..data import load_pair
from .experiments import COURSE, EXPERIMENTS, Experiment
from .runs import MEASURED, read_course, read_ledger, seconds_per_run
from .verdicts import FLIP_HURTS, own_verdict, verdict_table

MEASURING = 1.2  # a run with its measurements takes so many times its training


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
            **{name: mean_sd(row.get(name) for row in group) for name in MEASURED},
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


def beside_paper(experiment: Experiment, rows: Iterable[dict[str, Any]]) -> str:
    """The variants of an experiment as plain text: what the paper has, and what the ledger's rows have.

    kNN is of the features, mean and standard deviation over n seeds; the names are those of `diagnose`, with how many
    seeds got them where they differ.
    """
    rows = [row for row in rows if row["experiment"] == experiment.name]
    lines = {line["variant"]: line for line in table(rows)}
    wide = max(len(name) for name in experiment.variants)
    text = [f"{'variant':<{wide}}  {'paper':>13}  {'kNN':>13}  {'rank of z':>13}  {'n':>2}  diagnosis"]
    for variant in experiment.variants:
        if variant not in lines:
            continue
        line = lines[variant]
        names = Counter(row["diagnosis"] for row in rows if row["variant"] == variant)
        said = ", ".join(name if len(names) == 1 else f"{name} {n}" for name, n in names.most_common())
        paper = experiment.paper.get(variant, ("-", ""))[0]
        knn, rank = (_plus_minus(line[name]) for name in ("knn", "effective_rank"))
        text.append(f"{variant:<{wide}}  {paper:>13}  {knn:>13}  {rank:>13}  {line['n']:>2}  {said}")
    return "\n".join(text)


def course_tables(folder: Path | None = None) -> str:
    """Every table of the course's ledgers, or of those in a folder, and the verdicts. Errors: as `read_ledger`."""
    ledgers = {
        experiment.name: read_ledger(folder / experiment.ledger) if folder else read_course(experiment)
        for experiment in COURSE
    }
    parts = [
        f"{experiment.name}: {experiment.title}\n{beside_paper(experiment, ledgers[experiment.name])}"
        for experiment in COURSE
    ]
    return "\n\n".join([*parts, own_verdict(FLIP_HURTS, ledgers), verdict_table(ledgers)])


def costs(*, device: str = "auto", progress: bool = True) -> str:
    """The experiments as plain text, with the minutes that one seed of each takes here, from a few steps of each."""
    from tqdm.auto import tqdm

    text = [f"{'experiment':<15}{'variants':>9}{'minutes a seed':>16}  question"]
    known: dict[Any, float] = {}
    for experiment in tqdm(EXPERIMENTS.values(), disable=not progress, unit="experiment", leave=False):
        images, _ = load_pair(experiment.data)
        for variant in experiment.variants:
            recipe = experiment.recipe(variant, 0)
            if recipe not in known:
                known[recipe] = seconds_per_run(recipe, images, device=device)
        seconds = sum(known[experiment.recipe(variant, 0)] for variant in experiment.variants)
        minutes = MEASURING * seconds / 60
        text.append(f"{experiment.name:<15}{len(experiment.variants):>9}{minutes:>16.1f}  {experiment.title}")
    return "\n".join(text)
