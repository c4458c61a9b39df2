"""The health card: what the monitors say of a trained network, as a traffic light and a small table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from ..collapse import Diagnosis, checklist, diagnose
from .parts import LAMPS, light

NAMES = {"loss": "loss of two views", "std": "std of z", "effective_rank": "effective rank of z"}
ACCURACY = "kNN accuracy"
BASELINES = {"raw_pixels_knn": "raw pixels", "random_backbone_knn": "a random backbone"}
HEAD = ("", "what", "here", "wanted")
CELL = "text-align:left;padding:1px 18px 1px 0"


@dataclass(frozen=True, repr=False)
class HealthCard:
    """A network's title, its diagnosis, and the rows (holds, what, here, wanted) that it rests on.

    In a notebook it shows itself as a traffic light above a table, elsewhere as text.
    """

    title: str
    diagnosis: Diagnosis
    rows: tuple[tuple[bool | None, str, str, str], ...]

    def __repr__(self) -> str:
        lamp, said = self.diagnosis.light, f"{self.diagnosis!r}"
        head = f"{self.title}: {LAMPS[lamp][2]} {lamp}. {said}"
        cells = [HEAD, *((_mark(holds), *rest) for holds, *rest in self.rows)]
        wide = [max(len(row[i]) for row in cells) for i in range(4)]
        lines = ["  ".join(f"{text:<{w}}" for text, w in zip(row, wide, strict=True)) for row in cells]
        return "\n".join([head, *(line.rstrip() for line in lines)])

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="{CELL}">{text}</th>' for text in HEAD)
        body = "".join(
            "<tr>"
            + "".join(f'<td style="{CELL}">{escape(text)}</td>' for text in (_mark(holds), *rest))
            + "</tr>"
            for holds, *rest in self.rows
        )
        table = f'<table style="margin:2px 0 2px 0"><tr>{head}</tr>{body}</table>'
        return light(self.title, self.diagnosis, self.diagnosis.light) + table


def health_card(title: str, measurements: Mapping[str, Any], *, images: str = "") -> HealthCard:
    """The card of a network: `measurements` as `measure`, `health` and `baselines` give them, the history too.

    The thresholds are those of `diagnose`. Accuracy, where it is known, is held against raw pixels and a random
    backbone: it is no part of the diagnosis, which needs no labels. `images` says, in words, on which it was
    measured. Errors: `InputError` as `diagnose` has them.
    """
    rows: list[tuple[bool | None, str, str, str]] = [
        (None if item.value is None else item.holds, NAMES[item.fact], _number(item.value), item.wanted)
        for item in checklist(measurements)
    ]
    knn = measurements.get("knn")
    for key, words in BASELINES.items():
        other = measurements.get(key)
        if knn is not None and other is not None:
            rows.append((knn > other, ACCURACY, f"{knn:.1%}", f"above {words}: {other:.1%}"))
    if knn is None:
        rows.append((None, ACCURACY, "not known", "needs labels of two classes"))
    named = f"{title} ({images})" if images else title
    return HealthCard(named, diagnose(measurements), tuple(rows))


def _mark(holds: bool | None) -> str:
    return {True: "✓", False: "✕", None: "?"}[holds]


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"
