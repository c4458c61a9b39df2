"""Two published CIFAR-10 recipes, trained as far as a number of minutes reaches, and on from there in the next call.

A folder holds a run. `state.safetensors` is exact: weights, momentum, generators, rows. The files of weights beside it
are small enough to carry; a folder that has only them is gone on with too, since SGD has forgotten an old momentum,
and built up a new one, after some twenty steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fast import FastTrainer, Rung, autocast, make_trainer
from machine import wait
from probe import labels_of, probe
from torch import Tensor
from weights import load_parts, parts_in, save_parts

from simsiam_course import checkpoint as ckpt
from simsiam_course.data import ImageSet
from simsiam_course.errors import InputError
from simsiam_course.evaluate import embed, knn_accuracy
from simsiam_course.files import make_folder
from simsiam_course.presets import PRESETS
from simsiam_course.recipe import Recipe
from simsiam_course.train import Diverged, Trainer

STATE = "state.safetensors"
SECONDS_BETWEEN_SAVES = 60.0
STEPS_AHEAD = 50  # at most, of the host before the device, so that the clock means something
EVALUATIONS = 20  # by kNN, evenly over the passes of the whole recipe
LINEAR_EVERY = 5  # of those, and at the end of every call
K, TEMPERATURE = 200, 0.1  # of kNN, as in lightly's benchmark

PAPER = Recipe.from_dict(PRESETS["paper_cifar10"])
RECIPES = {
    "A": PAPER,  # App. D
    # lightly's benchmark: rate .06 at batch 128, h on the cosine too, an output BN with scale and shift. It also
    # normalises by ImageNet's statistics, lowers the rate once a pass and does not zero the residual branches; we do.
    "B": Recipe.from_dict(PRESETS["lightly_cifar10"]),
}
PUBLISHED = {
    "A": {"linear": 0.918, "source": "Chen & He, App. D, after 800 passes"},
    "B": {"knn": 0.819, "source": "lightly's CIFAR-10 benchmark, the best of 200 passes on the test images"},
}

Row = dict[str, Any]


class Run:
    """A trainer, its rows, the seconds spent on it, and the folder that they are kept in.

    `probing` are options of `probe`. Errors: `InputError` for images without labels or a folder not writable.
    """

    def __init__(
        self, folder: Path, trainer: Trainer, train: ImageSet, test: ImageSet, probing: Mapping[str, int]
    ) -> None:
        for images, role in ((train, "training"), (test, "test")):
            if not images.labelled:
                raise InputError(
                    f"The {role} images have labels of fewer than two classes: give labelled ones."
                )
        self.folder, self.trainer, self.train, self.test = make_folder(folder), trainer, train, test
        self.k = min(K, int((labels_of(train) >= 0).sum()))
        self.probing = probing
        self.rows: list[Row] = []
        self.spent = 0.0  # seconds, in the calls before this one
        self.begun = self.saved = time.perf_counter()

    @property
    def rung(self) -> Rung:
        """What is done for speed; a first step may have struck something from it."""
        plain = Rung(channels_last=self.trainer.recipe.channels_last)
        return self.trainer.rung if isinstance(self.trainer, FastTrainer) else plain

    @property
    def seconds(self) -> float:
        """All that the run has taken so far, measurements and files included."""
        return self.spent + time.perf_counter() - self.begun

    def knn(self) -> float:
        """kNN accuracy on the test images, on backbone features."""
        device = self.trainer.device
        with autocast(device, self.rung):
            bank, queries = (
                embed(self.trainer.model, images).to(device) for images in (self.train, self.test)
            )
        labels = self.train.labels, self.test.labels
        return knn_accuracy(bank, labels[0], queries, labels[1], k=self.k, temperature=TEMPERATURE)

    def linear(self) -> float:
        """Accuracy of a linear layer on the same features."""
        precision = autocast(self.trainer.device, self.rung)
        return probe(self.trainer.model, self.train, self.test, precision, **self.probing)

    def save(self) -> None:
        """Replaces the state by the present one. Errors: `Diverged` where it is not worth keeping."""
        if not self.trainer.sound():
            raise Diverged(f"The loss is no longer a finite number at step {self.trainer.done}: '{self.folder}' holds "
                           "the last good state; try a smaller rate.")  # fmt: skip
        ckpt.save_tensors(self.folder / STATE, *self.state())
        self.saved = time.perf_counter()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The trainer's state, with what has been measured."""
        tensors, about = self.trainer.state()
        return tensors, about | {
            "rows": self.rows,
            "seconds": self.seconds,
            "device": self.trainer.device.type,
        }

    def restore(self) -> str:
        """Goes on where the folder's last call stopped, and says in a sentence where that is.

        Errors: `InputError` where the files are damaged, or of another recipe, other images or another device.
        """
        path, exact = self.folder / STATE, ""
        if path.exists():
            tensors, about = ckpt.load_tensors(path)
        elif parts_in(self.folder):
            path, exact = parts_in(self.folder)[0], ", from rounded weights and without momentum"
            tensors, about = load_parts(self.folder)
        else:
            return f"A new run in '{self.folder}'."
        if about.get("device") != self.trainer.device.type:
            raise InputError(
                f"'{path}' was trained on '{about.get('device')}': use that --device, or another --out."
            )
        self.trainer.restore(tensors, about, path)
        self.rows, self.spent = about["rows"], about["seconds"]
        return f"Going on after step {self.trainer.done} of {self.trainer.total}{exact}."


def train_for(
    run: Run, left: Callable[[], float], *, evaluations: int = EVALUATIONS, progress: bool = True
) -> None:
    """Trains to the recipe's end, or until the seconds that are `left` just do for a last measurement and the files.

    Takes one step at least. Errors: `Diverged` where the loss is no longer finite.
    """
    from tqdm.auto import tqdm

    trainer, device = run.trainer, run.trainer.device.type
    every = max(1, trainer.recipe.epochs // evaluations) * trainer.steps_per_epoch
    ending = min(30.0, 0.2 * left())  # seconds that the last measurement takes: a guess until there was one
    mark, marked = 0.0, -1  # when, and after which step, the present stretch of steps began
    with tqdm(
        total=trainer.total, initial=trainer.done, disable=not progress, unit="step", mininterval=1
    ) as bar:
        while trainer.done < trainer.total and (marked < 0 or left() > ending):
            trainer.advance()
            bar.update()
            if marked < 0 or trainer.done % STEPS_AHEAD == 0:
                wait(device)
            if marked < 0:  # the first step compiles and records
                mark, marked = time.perf_counter(), trainer.done
                for note in trainer.notes if isinstance(trainer, FastTrainer) else ():
                    bar.write(note)
            if trainer.done % every == 0 or trainer.done == trainer.total:
                wait(device)
                begun, images = time.perf_counter(), (trainer.done - marked) * trainer.recipe.batch_size
                row = trainer.row() | {"images_per_second": images / (begun - mark) if images else None}
                linear = trainer.done % (LINEAR_EVERY * every) == 0 or trainer.done == trainer.total
                row |= {"knn": run.knn(), "linear": run.linear() if linear else None, "seconds": run.seconds}
                run.rows.append(row)
                bar.set_postfix_str(f"kNN {row['knn']:.1%}")
                mark, marked = time.perf_counter(), trainer.done
                if linear:
                    ending = 1.5 * (mark - begun) + 2
            if time.perf_counter() - run.saved > SECONDS_BETWEEN_SAVES:
                run.save()
    if not run.rows or run.rows[-1]["step"] != trainer.done:
        run.rows.append({"step": trainer.done, "epoch": trainer.done / trainer.steps_per_epoch,
                         "knn": run.knn(), "linear": None, "seconds": run.seconds})  # fmt: skip
    if run.rows[-1]["linear"] is None:
        run.rows[-1] |= {"linear": run.linear(), "seconds": run.seconds}
    run.save()
    save_parts(run.folder, *run.state())


def start(
    recipe: Recipe, train: ImageSet, test: ImageSet, folder: Path, rung: Rung, *,
    device: str, probing: Mapping[str, int] = {},
) -> Run:  # fmt: skip
    """A run, new or gone on with; prints which. Errors: those of `Run` and of `Run.restore`."""
    run = Run(folder, make_trainer(train, recipe, rung, device=device), train, test, probing)
    print(run.restore(), flush=True)
    return run


def result(name: str, run: Run) -> Row:
    """What a run has come to: its last accuracies and, under a name that says so, the best on the test images."""
    last, best = run.rows[-1], max(run.rows, key=lambda row: row["knn"])
    return {
        "recipe": name, "images": run.train.name, "rung": asdict(run.rung),
        "epochs": run.trainer.recipe.epochs, "epoch": last["epoch"], "seconds": last["seconds"], "knn": last["knn"],
        "linear": last["linear"], "best_knn_chosen_on_test": best["knn"], "best_knn_epoch": best["epoch"],
        "published": PUBLISHED[name], "curve": run.rows,
    }  # fmt: skip


def table(found: Row) -> str:
    """The curve by wall time, and what stands in the literature."""
    line = "{:>9}{:>9}{:>9}{:>7}{:>7}{:>11}{:>9}{:>9}"
    lines = [line.format("pass", "minutes", "loss", "std", "rank", "images/s", "kNN", "linear")]
    forms = {"loss": "{:.4f}", "std": "{:.2f}", "effective_rank": "{:.1f}", "images_per_second": "{:,.0f}",
             "knn": "{:.2%}", "linear": "{:.2%}"}  # fmt: skip
    for row in found["curve"]:
        cells = ["-" if row.get(name) is None else form.format(row[name]) for name, form in forms.items()]
        lines.append(line.format(f"{row['epoch']:.1f}", f"{row['seconds'] / 60:.1f}", *cells))
    what, source = found["published"]
    precision = "bfloat16" if found["rung"]["bf16"] else "float32"
    lines.append(
        f"Recipe {found['recipe']} on {found['images']}, {precision}, after pass {found['epoch']:.1f} of "
        f"{found['epochs']} and {found['seconds'] / 60:.1f} minutes: kNN {found['knn']:.2%}, linear "
        f"{found['linear']:.2%}. Best kNN, chosen on the test images: {found['best_knn_chosen_on_test']:.2%}, after "
        f"pass {found['best_knn_epoch']:.1f}. Published: {what} {found['published'][what]:.1%} "
        f"({found['published'][source]})."
    )
    return "\n".join(lines)
