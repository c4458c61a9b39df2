"""The lab without its widgets: switches, runs, the ledger, and what one may expect of a run."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..ablate import FAILURES
from ..augment import PRESETS
from ..collapse import Diagnosis, diagnose
from ..data import ImageSet
from ..errors import InputError
from ..evaluate import health
from ..plot import Act
from ..recipe import Recipe
from ..train import QUICK_STEPS, Diverged, History, Trainer, total_steps
from ..watch import POINTS, Watch, unpack
from .lab_switches import DEFAULT, LAB_PRESETS, SWITCHES, difference, passes, settings

LEDGER = "results/collapse.jsonl"
SECONDS = 20  # about what a run should take
STATED_SPEED = 2_000.0  # images a second on two CPU cores, until a run of this session has been timed
REPLAY = 1.0  # seconds that a replay takes
MOMENTS = 16  # of a live run at which kNN is measured and z pictured
LEDGER_MOMENTS = 12  # those of a run in the ledger
KEPT = 12  # runs; older ones are dropped
IMAGES_A_ROW = 640  # between two rows of the history, whatever the batch


@dataclass(eq=False)
class Run:
    """One run on the lab's bench; it keeps its own settings, so a switch that is moved later relabels nothing."""

    number: int
    recipe: Recipe
    images: int  # that the whole run sees
    origin: str  # "live" or "ledger"
    state: str = "running"  # then "finished", "stopped" or "diverged"
    history: History = field(default_factory=History)
    frames: list[dict[str, Any]] = field(default_factory=list)  # {"step", "points" (N, 2)}
    figures: dict[str, Any] = field(default_factory=dict)  # measured at the end, on clean test images
    stopping: bool = False

    @property
    def name(self) -> str:
        """'2: no predictor', with what else differs from the recipe's defaults."""
        ledger = " (ledger)" if self.origin == "ledger" else ""
        return f"{self.number}: {difference(self.recipe)}{ledger}"

    @property
    def title(self) -> str:
        """Where the run comes from, and all its settings, in three lines."""
        origin = "from the ledger" if self.origin == "ledger" else "trained here"
        return f"Run {self.number}, {origin}, {settings(self.recipe)}"

    @property
    def act(self) -> Act:
        """What the stage shows of it now."""
        frame = self.frames[-1] if self.frames else None
        return Act(
            self.history,
            frame and frame["points"],
            frame["step"] * self.recipe.batch_size if frame else None,
        )

    @property
    def diagnosis(self) -> Diagnosis:
        """What its numbers show so far: the history's while it runs, those of the test images at its end."""
        lost = {"loss": math.nan} if self.state == "diverged" else {}
        return diagnose({**self.figures, "history": self.history, **lost})

    @property
    def light(self) -> str:
        """green, amber or red by the diagnosis; grey while it runs."""
        return "grey" if self.state == "running" else self.diagnosis.light


Growing = Generator[Run, None, None]  # a run, yielded again whenever it has grown


class Lab:
    """Trains and replays runs one after the other and keeps them.

    `data` is (train, test), by default `patterns`; `ledger` rows of `ablate.run_variant`, by default the course's.
    """

    def __init__(
        self,
        data: tuple[ImageSet, ImageSet] | None = None,
        ledger: Sequence[Mapping[str, Any]] | None = None,
        device: str = "auto",
    ) -> None:
        if data is not None:
            self.data = data
        if ledger is not None:
            self.ledger = list(ledger)
        self.device = device
        self.runs: list[Run] = []
        self.count = 0
        self.speed = STATED_SPEED
        self.timed = False

    @cached_property
    def data(self) -> tuple[ImageSet, ImageSet]:
        """(train, test)."""
        from ..data import load_pair

        return load_pair(FAILURES.data)

    @cached_property
    def ledger(self) -> list[Mapping[str, Any]]:
        """The rows of the course's ledger; none where it is missing."""
        from .. import data_file
        from ..files import read_lines

        try:
            return list(read_lines(data_file(LEDGER)))
        except InputError:
            return []

    @property
    def passes(self) -> int:
        """How many passes take about 20 seconds, at most the recipe's own number."""
        return max(1, min(DEFAULT.epochs, round(SECONDS * self.speed / len(self.data[0]))))

    def recipe(self, *, passes: int | None = None, **switches: Any) -> Recipe:
        """The recipe of a run with some switches moved. Errors: `InputError` for an unknown one or a bad value."""
        batch = switches.get("batch_size", DEFAULT.batch_size)
        every = max(1, IMAGES_A_ROW // batch) if isinstance(batch, int) and batch > 0 else 1
        return DEFAULT.replace(epochs=passes or self.passes, monitor_every=every, **switches)

    def images_of(self, recipe: Recipe) -> int:
        """How many images a run sees."""
        return total_steps(recipe, self.data[0]) * recipe.batch_size

    def seconds_of(self, recipe: Recipe) -> float:
        """How long a run should take."""
        return self.images_of(recipe) / self.speed

    def find(self, recipe: Recipe) -> Mapping[str, Any] | None:
        """The ledger's run of these switches: of this seed where it is there, else of another; None without any."""
        rows = self._alike(recipe)
        return next((row for row in rows if row["seed"] == recipe.seed), rows[0] if rows else None)

    def expected_knn(self, recipe: Recipe) -> tuple[float, float, int] | None:
        """(lowest, highest, how many runs): the ledger's kNN after as many images; None where it does not know."""
        found, images = [], self.images_of(recipe)
        for row in self._alike(recipe):
            known = [
                r["knn"] for r in row["history"] if r.get("knn") is not None and r["images_seen"] <= images
            ]
            found += known[-1:]
        return (min(found), max(found), len(found)) if found else None

    def expectation(self, recipe: Recipe) -> str:
        """How long a run should take, and which kNN the ledger knows of, in words."""
        if os.environ.get("SIMSIAM_QUICK"):
            return f"SIMSIAM_QUICK is set: the run stops after {QUICK_STEPS} steps and shows no result."
        speed = "at the speed of your last run" if self.timed else "on two idle CPU cores"
        images, seconds = len(self.data[0]), self.seconds_of(recipe)
        said = f"{passes(recipe)} of {images:,} images, about {seconds:.0f} s {speed}. "
        known = self.expected_knn(recipe)
        if known is None:
            return said + "The ledger has no such run: guess the kNN accuracy, then see."
        low, high, count = known
        spread = f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}"
        runs = "1 run" if count == 1 else f"{count} runs"
        return said + f"kNN to expect: about {spread} ({runs} of the ledger, after as many images)."

    def _alike(self, recipe: Recipe) -> list[Mapping[str, Any]]:
        return [
            row for row in self.ledger if all(row["recipe"].get(k) == getattr(recipe, k) for k in SWITCHES)
        ]

    def train(self, recipe: Recipe) -> Growing:
        """Trains one run and yields it after every step; after `stop` it ends early. At its end it is diagnosed.

        Errors: `InputError` where the batch is larger than the training set.
        """
        train, test = self.data
        model = recipe.build()
        trainer = Trainer(model, train, recipe, device=self.device)
        watch = Watch(train, test, recipe, moments=MOMENTS)
        run = self._new(recipe, "live", self.images_of(recipe))
        run.frames = watch.frames
        try:
            yield run
            for row in trainer.steps(watch):
                if row is not None:
                    run.history.append(row)
                yield run
                if run.stopping:
                    break
            run.figures, _ = health(model, test, augmentation=PRESETS[recipe.augmentation])
            run.figures["steps"] = trainer.done
            run.state = "stopped" if run.stopping else "finished"
        except Diverged:
            run.state = "diverged"
        finally:
            trainer.close()
            if run.state == "running":  # an interrupt, or nobody asked for the next step
                run.state = "stopped"
            if run.history and run.history[-1]["images_seen"] >= 10 * IMAGES_A_ROW:
                self.speed = run.history[-1]["images_seen"] / run.history[-1]["seconds"]
                self.timed = True

    def replay(self, row: Mapping[str, Any]) -> Growing:
        """A run of the ledger, yielded as it was at each moment when z was pictured."""
        recipe = Recipe.from_dict(row["recipe"])
        history, frames = row["history"], row.get("frames") or []
        run = self._new(recipe, "ledger", history[-1]["images_seen"] if history else 1)
        steps = [frame["step"] for frame in frames] or [
            r["step"] for r in history[:: max(1, len(history) // LEDGER_MOMENTS)]
        ]
        try:
            yield run
            for i, step in enumerate(steps):
                if run.stopping:
                    return
                end = i == len(steps) - 1
                run.history[:] = [r for r in history if end or r["step"] <= step]
                if frames:
                    run.frames.append({"step": step, "points": unpack(frames[i]["points"])})
                yield run
            if row["diagnosis"] == "diverged" and row["loss"] is None:
                run.state = "diverged"
            else:
                run.figures = {name: row.get(name) for name in ("loss", "std", "effective_rank", "dim")}
                run.state = "finished"
        finally:
            if run.state == "running":
                run.state = "stopped"

    def perform(self, preset: str, *, seed: int, passes: int) -> Iterator[tuple[Growing, float | None]]:
        """The runs of a preset one by one, and the seconds of a replay: replayed where the ledger has them."""
        for variant in LAB_PRESETS[preset].variants:
            recipe = self.recipe(passes=passes, seed=seed, **FAILURES.variants[variant])
            row = self.find(recipe)
            yield (self.train(recipe), None) if row is None else (self.replay(row), REPLAY)

    def labels(self) -> tuple[list[int], Sequence[str]]:
        """The classes of the images whose z is drawn, (N,), and their names."""
        sample = self.data[1].sample(POINTS)
        ids = [-1] * len(sample) if sample.labels is None else sample.labels.tolist()
        return ids, sample.classes

    def _new(self, recipe: Recipe, origin: str, images: int) -> Run:
        self.count += 1
        run = Run(self.count, recipe, images, origin)
        self.runs = [*self.runs, run][-KEPT:]
        return run
