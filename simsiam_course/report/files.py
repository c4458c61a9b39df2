"""The page of a ledger and its pictures, written into a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import ablate, plot
from ..files import atomic_write
from .experiment import ablation_alt, experiment_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(
    rows: Sequence[dict[str, Any]],
    folder: Path,
    *,
    baselines: Mapping[str, float | None] | None = None,
    features: Sequence[tuple[Figure, str, str]] = (),
) -> Path:
    """Writes `report.html` and `ablation.png` (and -2, -3, ... where the experiment has more panels); the page's path.

    rows: those of a ledger, whose first row names the experiment; rows of others are left out. `baselines` and
    `features` as in `experiment_report`. Errors: `InputError`, unknown experiment.
    """
    experiment = ablate.find(rows[0]["experiment"])
    rows = [row for row in rows if row["experiment"] == experiment.name]
    panels = experiment.panels or {"All variants saw the same number of images.": tuple(experiment.variants)}
    figures = []
    for i, (caption, variants) in enumerate(panels.items(), 1):
        drawn = [row for row in rows if row["variant"] in variants]
        if drawn:
            figure = plot.ablation(drawn, baselines=baselines)
            figures.append((figure, ablation_alt(ablate.table(drawn)), caption))
            atomic_write(folder / f"ablation{f'-{i}' if i > 1 else ''}.png", plot.png(figure))
    page = experiment_report(experiment, rows, ablate.table(rows), baselines, figures, features)
    atomic_write(folder / "report.html", page.encode())
    return folder / "report.html"
