"""The main job: the 2x2 of stop-gradient and predictor, trained, measured, drawn and reported in one go."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import ablate, plot, report
from .ablate import COLLAPSE
from .checkpoint import save_weights
from .data import load_pair
from .evaluate import baselines, embed, knn_accuracy, random_backbone
from .files import atomic_write, make_folder, write_lines
from .lock import folder_lock
from .recipe import Recipe

UNPRINTED = ("recipe", "history", "frames")  # long, and in the ledger


def demo(
    out: str | Path,
    *,
    seeds: int = 1,
    device: str = "auto",
    progress: bool = True,
    on_run: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Runs the 2x2 on `patterns` and writes results, figures, the report and the healthy weights into a folder.

    Comes back: `runs` (one dict per variant and seed, without what is long), `baselines` (kNN accuracy of the raw
    pixels and of a random backbone) and `seconds` of the whole. Files: `results.jsonl`, `ablation.png`, `umap.png`,
    `report.html`, `healthy.safetensors`; those of an earlier demo are replaced. `on_run` is called with every row as
    it comes.
    Errors: `InputError` where the folder cannot be written, or another process writes it.
    Source: Fig. 2 and Table 1 of the paper.
    """
    start = time.perf_counter()
    folder = make_folder(out)
    with folder_lock(folder):
        return _demo(folder, start, seeds, device, progress, on_run)


def _demo(
    folder: Path,
    start: float,
    seeds: int,
    device: str,
    progress: bool,
    on_run: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    train, test = load_pair(COLLAPSE.data)
    rows: list[dict[str, Any]] = []
    models = {}
    for seed in range(seeds):
        for variant in COLLAPSE.variants:
            row, model = ablate.run_variant(
                COLLAPSE, variant, seed, train, test, device=device, progress=progress
            )
            rows.append(row)
            on_run(row)
            write_lines(folder / ablate.LEDGER, rows)
            if seed == 0:
                models[variant] = model
    save_weights(
        folder / "healthy.safetensors",
        models["simsiam"],
        COLLAPSE.recipe("simsiam", 0),
        size=train.images.shape[-1],
    )
    untrained = random_backbone(Recipe().build, train)
    base = baselines(train, test)  # raw pixels
    base["random_backbone_knn"] = knn_accuracy(
        embed(untrained, train), train.labels, embed(untrained, test), test.labels
    )
    shown = {"random": untrained, "collapsed": models["no_stop_gradient"], "healthy": models["simsiam"]}
    accuracies = {
        "random": base["random_backbone_knn"],
        "collapsed": _first(rows, "no_stop_gradient")["knn"],
        "healthy": _first(rows, "simsiam")["knn"],
    }
    sample = test.subset(torch.arange(min(len(test), 1000)))
    triptych = plot.triptych(
        {name: embed(model, sample) for name, model in shown.items()},
        sample.labels,
        sample.classes,
        knn=accuracies,
    )
    alt = "2-D maps of a random, a collapsed and a healthy backbone's features"
    report.write(rows, folder, baselines=base, features=[(triptych, alt, "Seed 0, the same images.")])
    atomic_write(folder / "umap.png", plot.png(triptych))
    runs = [{name: value for name, value in row.items() if name not in UNPRINTED} for row in rows]
    return {"runs": runs, "baselines": base, "seconds": time.perf_counter() - start}


def _first(rows: list[dict[str, Any]], variant: str) -> dict[str, Any]:
    return next(row for row in rows if row["variant"] == variant)
