"""Contestants that take turns, what came of it, and the ledger it goes to.

A machine that others use too is slow for a minute and fast for the next. So nobody is measured alone: in every round
each contestant has one turn, the order moves on by one, and a ratio is taken within a round before the median is.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simsiam_course.files import make_folder, read_lines, write_lines

LEDGER = Path(__file__).resolve().parents[1] / "data" / "results" / "speed.jsonl"

Turn = Callable[[], float]  # does its share of work once and returns units a second


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


def keep(
    benchmark: str, rows: Iterable[Mapping[str, Any]], machine: Mapping[str, Any], path: Path = LEDGER
) -> None:
    """Writes a benchmark's rows into the ledger, in place of those it wrote before on the same machine."""
    make_folder(path.parent)
    kept = [row for row in (read_lines(path) if path.exists() else [])
            if (row["benchmark"], row["machine"]["cpu"], row["machine"]["gpu"])
            != (benchmark, machine["cpu"], machine["gpu"])]  # fmt: skip
    new = [{"benchmark": benchmark, **row, "machine": dict(machine)} for row in rows]
    write_lines(path, kept + new)
