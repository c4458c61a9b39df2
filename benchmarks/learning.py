"""How long it takes until something has been learned."""

from __future__ import annotations

import time
from typing import Any

from simsiam_course.data import load_pair
from simsiam_course.evaluate import embed, knn_accuracy
from simsiam_course.recipe import Recipe
from simsiam_course.train import Trainer

TARGET = 0.85  # kNN accuracy


def time_to_knn(recipe: Recipe, *, limit: int | None = None) -> dict[str, Any]:
    """Seconds until kNN on all test images of `patterns` is 85 % at the end of a pass, and the whole run.

    `seconds` are those of training, the model's making and the monitors included; `with_measuring` counts the kNN
    after every pass too. Both are None where the accuracy stays below; `final` is the last pass.
    """
    from tqdm.auto import tqdm

    train, test = load_pair("patterns", limit=limit)
    passes: list[dict[str, Any]] = []
    start = mark = time.perf_counter()
    trainer = Trainer(recipe.build(), train, recipe, device="cpu")
    model, seconds = trainer.model, 0.0
    for done in tqdm(range(1, recipe.epochs + 1), desc=f"kNN, seed {recipe.seed}", leave=False, disable=None):
        for _ in range(trainer.steps_per_epoch):  # what `fit` does
            trainer.advance()
            if trainer.row_due:
                trainer.row()
        seconds += time.perf_counter() - mark
        knn = knn_accuracy(embed(model, train), train.labels, embed(model, test), test.labels)
        mark = time.perf_counter()
        passes.append({"pass": done, "knn": knn, "seconds": seconds, "with_measuring": mark - start})
    trainer.close()
    reached = next((row for row in passes if row["knn"] >= TARGET), dict.fromkeys(passes[0]))
    return {"seed": recipe.seed, "target": TARGET, **reached, "final": passes[-1], "passes": passes}
