"""The ledger of the benchmarks; how contestants take turns is simsiam_course/speed.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from simsiam_course.files import make_folder, read_lines, write_lines
from simsiam_course.speed import Summary, Turn, alternate, ratio, summary

__all__ = ["LEDGER", "Summary", "Turn", "alternate", "keep", "ratio", "summary"]

LEDGER = Path(__file__).resolve().parents[1] / "data" / "results" / "speed.jsonl"


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
