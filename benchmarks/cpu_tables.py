"""The rows of the CPU benchmark as text."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from peers import title
from rounds import Summary

PARTS = (
    "training",
    "augmentation",
    "resnet18",
    "account",
    "switches",
    "knn",
    "choices",
    "memory",
)  # in the order they are measured

Row = dict[str, Any]


def latest(rows: Sequence[Row], machine: Row | None = None) -> list[Row]:
    """This benchmark's rows of one machine, in the order of the parts: by default the one measured last."""
    ours = [row for row in rows if row["benchmark"] in {f"cpu {part}" for part in PARTS}]
    if not ours:
        return []
    wanted = machine or ours[-1]["machine"]
    same = [row for row in ours if all(row["machine"][key] == wanted[key] for key in ("cpu", "gpu"))]
    return sorted(same, key=lambda row: PARTS.index(row["part"]))


def show(part: str, rows: Sequence[Row]) -> str:
    """One part as a table; empty where it has not been measured."""
    return "\n" + SHOWN[part](rows) if rows else ""


def best_lightly(rows: Sequence[Row]) -> Row | None:
    """The row of lightly's loop with the worker count that was fastest."""
    found = [row for row in rows if row["contestant"].startswith("lightly")]
    return max(found, key=lambda row: row["median"], default=None)


def closing(rows: Sequence[Row]) -> str:
    """The line that everything ends with: beside lightly, and beside the limit."""
    parts = {part: [row for row in rows if row["part"] == part] for part in PARTS}
    said = []
    if best := best_lightly(parts["training"]):
        said.append(f"{Summary(**best['ours_over_it'])} times the images/s of {title(best['contestant'])}")
    if parts["account"]:
        floor = parts["account"][-1]
        said.append(f"fraction of the limit: {floor['fraction']:.2f}")
    return "; ".join(said)


def _race(rows: Sequence[Row]) -> str:
    about, rounds, side = rows[0], len(rows[0]["rates"]), rows[0]["side"]
    heading = "Augmentation alone" if about["part"] == "augmentation" else f"Training, {about['backbone']}"
    head = (
        f"{heading}: images of {side}x{side}, '{about['augmentation']}', batch {about['batch_size']}, "
        f"{about['steps']} steps a turn; median and range of {rounds} rounds\n"
    )
    lines = [(title(row["contestant"]), _figures(row), _times(row)) for row in rows]
    return head + table([("", about["unit"], "ours over it"), *lines])


def _account(rows: Sequence[Row]) -> str:
    milliseconds = [(row["name"], f"{1e3 * row['seconds']:.2f}", _percent(row["share"])) for row in rows
                    if row["what"] == "stage"]  # fmt: skip
    kinds = [
        (row["name"], f"{1e3 * row['seconds']:.2f}", _percent(row["share"]), _of_rate(row))
        for row in rows
        if row["what"] == "kind"
    ]
    monitors, floor = (next(row for row in rows if row["what"] == what) for what in ("monitors", "floor"))
    reached = floor["images_per_second"]
    lines = [
        ("operations a step, forward and backward", f"{floor['operations'] / 1e9:.2f} billion"),
        ("matrix product of this machine", f"{floor['matrix_rate'] / 1e9:.0f} billion/s"),
        ("copy in memory, bytes read and written", f"{floor['memory_rate'] / 1e9:.1f} billion/s"),
        (monitors["name"], f"{_percent(monitors['share'])} of the time by turns, "
         f"{_percent(monitors['share_by_row'])} by the clock around a row"),
        ("the limit: all time in matrix products", f"{floor['limit']:,.0f} images/s"),
        ("fit", f"{_figures(reached)} images/s"),
        ("fraction of the limit", f"{floor['fraction']:.2f}"),
    ]  # fmt: skip
    return "\n\n".join([
        "Account of a step: by stage\n" + table([("", "ms", "share"), *milliseconds]),
        "By kind of operation (profiler's own time; bytes: the least that the activations need, caches not counted)\n"
        + table([("", "ms", "share", "of the machine's rate"), *kinds]),
        "The limit\n" + table(lines),
    ])  # fmt: skip


def _of_rate(row: Row) -> str:
    if row.get("operations"):
        return f"{_percent(row['of_matrix_rate'])} of the matrix rate"
    return f"{_percent(row['of_memory_rate'])} of the memory rate" if row.get("bytes") else ""


def _switches(rows: Sequence[Row]) -> str:
    about, rounds = rows[0], len(rows[0]["rates"])
    head = (
        f"Switches of the recipe, {about['backbone']}, batch {about['batch_size']}, {about['steps']} steps a turn; "
        f"median and range of {rounds} rounds\n"
    )
    lines = [(row["switch"], _figures(row), f"x {Summary(**row['gain'])}") for row in rows]
    return head + table([("", about["unit"], "over none"), *lines])


def _knn(rows: Sequence[Row]) -> str:
    times = [row["seconds"] for row in rows]
    end = (
        f"median {statistics.median(times):.1f} s, slowest {max(times):.1f} s"
        if None not in times
        else "not all reach it"
    )
    head = f"Time to {rows[0]['target']:.0%} kNN on patterns, at the end of a pass: {end}\n"
    return head + table([("seed", *LEARNED), *((str(row["seed"]), *_learned(row)) for row in rows)])


def _choices(rows: Sequence[Row]) -> str:
    head = f"The recipe without its choices for a short budget, seed {rows[0]['seed']}\n"
    return head + table([("", *LEARNED), *((row["choice"], *_learned(row)) for row in rows)])


LEARNED = ("pass", "training s", "with kNN s", "final kNN", "whole run s")


def _learned(row: Row) -> tuple[str, ...]:
    reached = (str(row["pass"] or "-"), _seconds(row["seconds"]), _seconds(row["with_measuring"]))
    return (*reached, f"{row['final']['knn']:.3f}", _seconds(row["final"]["seconds"]))


def _memory(rows: Sequence[Row]) -> str:
    lines = [
        (
            title(row["contestant"]),
            str(row["processes"]),
            f"{row['peak_mb']:,.0f}",
            f"{row['shared_once_mb']:,.0f}",
        )
        for row in rows
    ]
    head = "Memory in MB, workers included: peak of each process, summed; and shared pages counted once, at the end\n"
    return head + table([("", "processes", "peak", "shared once"), *lines])


SHOWN: dict[str, Callable[[Sequence[Row]], str]] = {
    "training": _race, "augmentation": _race, "resnet18": _race, "account": _account, "switches": _switches,
    "knn": _knn, "choices": _choices, "memory": _memory,
}  # fmt: skip


def table(lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as what is in them: the first to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    shown = [
        [
            f"{cell:{'>' if i else '<'}{width}}"
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join("  " + "  ".join(cells).rstrip() for cells in shown)


def _figures(row: Row) -> str:
    return str(Summary(row["median"], row["low"], row["high"]))


def _times(row: Row) -> str:
    return "" if row["contestant"] == "ours" else f"x {Summary(**row['ours_over_it'])}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
