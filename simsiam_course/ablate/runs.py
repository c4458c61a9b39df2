"""Runs, and the ledgers that keep them.

A ledger is a file of JSON lines, one per run, appended as runs end: an interrupted sweep goes on where it stopped.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..augment import PRESETS
from ..collapse import diagnose
from ..data import ImageSet
from ..errors import LARGEST, InputError, check_number, check_whole, shown
from ..evaluate import measure
from ..files import append_line, make_folder, read_lines, remove_leftovers, write_lines
from ..lock import file_lock
from ..recipe import Recipe
from ..train import Diverged, History, Trainer, cosines, fit
from ..watch import Watch, pack
from .experiments import COURSE, HISTORY_ROWS, Experiment

LEDGER = "results.jsonl"
MEASURED = ("loss", "std", "effective_rank", "knn", "linear", "wobble", "seconds")

Row = dict[str, Any]


class Planned(NamedTuple):
    """A run that a ledger shall have."""

    experiment: Experiment
    variant: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int, Recipe]:
        """As `key` has it of the row."""
        return self.experiment.name, self.variant, self.seed, self.experiment.recipe(self.variant, self.seed)


def run_variant(
    experiment: Experiment,
    variant: str,
    seed: int,
    train: ImageSet,
    test: ImageSet,
    *,
    device: str = "auto",
    progress: bool = True,
) -> tuple[Row, nn.Module]:
    """Trains and measures one variant with one seed; its ledger row and its model come back.

    Errors: `InputError` as `fit` has them; a run that diverges gives a row that says so.
    """
    recipe = experiment.recipe(variant, seed)
    model = recipe.build()
    history, figures, verdict = History(), {}, "diverged"
    extra: dict[str, Any] = {}
    watch = Watch(train, test, recipe)

    def keep(row: Row, model: nn.Module) -> Row:
        measured = watch(row, model)
        history.append({**row, **measured})
        return measured

    try:
        fit(model, train, recipe, device=device, callback=keep, progress=progress)
        figures = measure(model, train, test, augmentation=PRESETS[recipe.augmentation])
        verdict = diagnose({**figures, "history": cosines(history, recipe)}).name
        extra = experiment.further(model, train, test) if experiment.further else {}
    except Diverged:
        pass
    last = history[-1] if history else {}
    seconds, seen = last.get("seconds"), last.get("images_seen", 0)
    row = {
        "experiment": experiment.name,
        "variant": variant,
        "seed": seed,
        "stop_gradient": recipe.stop_gradient,
        "predictor": recipe.predictor,
        "images_seen": seen,
        **{name: figures.get(name) for name in ("loss", "std", "effective_rank", "dim", "knn", "linear")},
        **extra,
        "train_loss": last.get("loss"),
        "wobble": wobble(history),
        "seconds": seconds,
        "images_per_second": seen / seconds if seconds else None,
        "device": str(next(model.parameters()).device.type),
        "threads": torch.get_num_threads(),
        "diagnosis": verdict,
        "recipe": recipe.to_dict(),
        "history": thin(history, experiment.history_rows),
    }
    if experiment.frames:
        row["frames"] = [{"step": f["step"], "points": pack(f["points"])} for f in watch.frames]
    if os.environ.get("SIMSIAM_QUICK"):
        row["quick"] = True
    return row, model


def wobble(history: Sequence[Row]) -> float | None:
    """How unsteady training is: mean change of the loss, up or down, from row to row of the run's third quarter.

    There the default rate is neither warming up nor decaying. None for a history of fewer than 8 rows.
    """
    if len(history) < 8:
        return None
    losses = [row["loss"] for row in history[len(history) // 2 : 3 * len(history) // 4]]
    return statistics.fmean(abs(b - a) for a, b in zip(losses, losses[1:], strict=False))


def run(
    experiment: Experiment,
    *,
    seeds: int,
    out: str | Path,
    device: str = "auto",
    jobs: int = 1,
    progress: bool = True,
) -> Iterator[Row]:
    """Runs every variant for seeds 0 to `seeds` - 1 and yields the ledger's rows; those there are not run again.

    `out` is a folder, or the ledger itself where it ends in .jsonl. `jobs` runs at once have one thread each; then
    rows come as they are done.
    Errors: `InputError` where `out` cannot be written, another process writes its ledger, or that is damaged.
    """
    plan = [Planned(experiment, variant, seed) for seed in range(seeds) for variant in experiment.variants]
    yield from _run(plan, {experiment.name: ledger_path(out)}, device=device, jobs=jobs, progress=progress)


def run_all(
    folder: str | Path, *, device: str = "auto", jobs: int = 1, progress: bool = True
) -> Iterator[Row]:
    """Makes the course's ledgers, or what they lack, in a folder, and yields the rows: seed 0 of all, seed 1, ...

    A run that two experiments share, such as SimSiam itself, is made once. Errors: as `run`.
    """
    most = max(experiment.seeds for experiment in COURSE)
    plan = [
        Planned(experiment, variant, seed)
        for seed in range(most)
        for experiment in COURSE
        if seed < experiment.seeds
        for variant in experiment.variants
    ]
    ledgers = {experiment.name: Path(folder) / experiment.ledger for experiment in COURSE}
    yield from _run(plan, ledgers, device=device, jobs=jobs, progress=progress)


def _run(
    plan: Sequence[Planned], ledgers: dict[str, Path], *, device: str, jobs: int, progress: bool
) -> Iterator[Row]:
    """Yields the rows that are there, then those that are made, each written to its ledger as it comes."""
    with ExitStack() as locks:
        for path in sorted(set(ledgers.values())):
            make_folder(path.parent)
            locks.enter_context(file_lock(path))
            remove_leftovers(path)
        yield from _run_alone(plan, ledgers, device=device, jobs=jobs, progress=progress)


def _run_alone(
    plan: Sequence[Planned], ledgers: dict[str, Path], *, device: str, jobs: int, progress: bool
) -> Iterator[Row]:
    from tqdm.auto import tqdm

    rows = [check_row(row, path) for path in ledgers.values() if path.exists() for row in read_lines(path)]
    quick = bool(os.environ.get("SIMSIAM_QUICK"))
    known = {key(row): row for row in rows if quick or not row.get("quick")}
    data = {planned.experiment.name: planned.experiment.data for planned in plan}
    kept = {planned.experiment.name: _detail(planned) for planned in plan}

    def same(experiment: str, variant: str, seed: int, recipe: Recipe) -> Any:
        """What runs share that differ in name only."""
        return data.get(experiment, experiment), recipe

    def detail(row: Row) -> tuple[bool, bool, int]:
        """How much of its run a row has kept."""
        return kept.get(row["experiment"], (False, False, 0))

    def enough(row: Row, group: list[Planned]) -> bool:
        return all(a >= b for planned in group for a, b in zip(detail(row), _detail(planned), strict=True))

    measured = [row for row in known.values() if all(column in row for column in MEASURED)]
    there = {same(*key(row)): row for row in sorted(measured, key=detail)}  # of several the one with most
    groups: dict[Any, list[Planned]] = {}
    bar = tqdm(total=len(plan), disable=not progress, unit="run")
    for planned in plan:
        if planned.key in known:
            bar.update()
            yield known[planned.key]
        else:
            groups.setdefault(same(*planned.key), []).append(planned)
    done = {run: row for run, row in there.items() if run in groups and enough(row, groups[run])}
    to_make = [max(group, key=_detail) for run, group in groups.items() if run not in done]
    ready = ((groups[run], row) for run, row in done.items())
    made = ((groups[same(*key(row))], row) for row in _rows(to_make, device, jobs, progress))
    try:
        for group, row in chain(ready, made):
            for planned in group:
                bar.set_postfix_str(f"{planned.experiment.name}, {planned.variant}, seed {planned.seed}")
                bar.update()
                own = _named(row, planned)
                append_line(ledgers[planned.experiment.name], own)
                yield own
    finally:
        bar.close()
    for path in set(ledgers.values()):
        _sort(path, [planned.key for planned in plan])


def _detail(planned: Planned) -> tuple[bool, bool, int]:
    """How much of a run its experiment keeps."""
    experiment = planned.experiment
    return experiment.further is not None, experiment.frames, experiment.history_rows


def _named(row: Row, planned: Planned) -> Row:
    """A run's row under the name of an experiment that shares it, with as much of it as that one keeps."""
    experiment = planned.experiment
    own = {**row, "experiment": experiment.name, "variant": planned.variant}
    own["history"] = thin(row["history"], experiment.history_rows)
    if not experiment.frames:
        own.pop("frames", None)
    return own


def _rows(plan: Sequence[Planned], device: str, jobs: int, progress: bool) -> Iterator[Row]:
    """Makes the runs, one after the other, or several at once in processes of one thread each."""
    if jobs == 1 or len(plan) < 2:
        for planned in plan:
            train, test = _load(planned.experiment.data)
            yield run_variant(*planned, train, test, device=device, progress=progress)[0]
        return
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(min(jobs, len(plan)), context, _start_worker) as pool:
        try:
            futures = [pool.submit(_row, planned, device) for planned in plan]
            yield from (future.result() for future in as_completed(futures))
        except BrokenProcessPool:
            raise InputError(
                "A process that made a run was killed, perhaps for want of memory: the ledger keeps what was done, "
                "so run the command again, with fewer --jobs."
            ) from None
        except BaseException:  # a worker that is left alone would finish its run first
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _start_worker() -> None:
    """The parent alone hears Ctrl-C; a worker has one thread, since two that have two each slow each other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends a worker whose parent was killed: nobody else would, and it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _row(planned: Planned, device: str) -> Row:
    train, test = _load(planned.experiment.data)
    return run_variant(*planned, train, test, device=device, progress=False)[0]


@cache
def _load(data: str) -> tuple[ImageSet, ImageSet]:
    from ..data import load_pair

    return load_pair(data)


def _sort(path: Path, order: Sequence[tuple]) -> None:
    """Brings the rows of a ledger into the order of a plan; others follow, and quick ones give way to real ones."""
    place = {name: i for i, name in enumerate(order)}
    rows = read_lines(path)
    real = {key(row) for row in rows if not row.get("quick")}
    kept = [row for row in rows if not row.get("quick") or key(row) not in real]
    ordered = sorted(kept, key=lambda row: place.get(key(row), len(place)))
    if ordered != rows:
        write_lines(path, ordered)


def seconds_per_run(recipe: Recipe, images: ImageSet, *, device: str = "auto", steps: int = 5) -> float:
    """How long this machine trains for one run of a recipe, from a few of its steps."""
    trainer = Trainer(recipe.build(), images, recipe, device=device)
    trainer.advance()
    start = time.perf_counter()
    for _ in range(steps):
        trainer.advance()
    float(trainer.loss_sum)
    trainer.close()
    return (time.perf_counter() - start) / steps * trainer.total


def key(row: dict[str, Any]) -> tuple[str, str, int, Recipe]:
    """What makes two ledger rows the same run. Errors: `InputError` where a row lacks it."""
    try:
        return row["experiment"], row["variant"], row["seed"], Recipe.from_dict(row["recipe"])
    except (KeyError, TypeError) as error:
        raise InputError(f"A row of the ledger lacks {error}: delete the row or the file.") from None


def ledger_path(place: str | Path) -> Path:
    """The ledger of a folder, or the place itself where it ends in .jsonl."""
    return Path(place) if Path(place).suffix == ".jsonl" else Path(place) / LEDGER


def read_ledger(place: str | Path) -> list[dict[str, Any]]:
    """The rows of a ledger, or of a folder's. Errors: `InputError` where there is none, it is empty or damaged."""
    path = ledger_path(place)
    rows = read_lines(path) if path.is_file() else []
    if not rows:
        raise InputError(f"'{place}' holds no results: name a folder that 'demo' or 'ablate' has written.")
    return [check_row(row, path) for row in rows]


def check_row(row: Any, path: str | Path) -> Row:
    """The row of a ledger as it is, if it is one. Errors: `InputError`, which names the file and what is wrong."""
    try:
        _check_row(row)
    except InputError as error:
        raise InputError(
            f"A row of '{path}' is none of a ledger: {error} Delete the row or the file."
        ) from None
    return row


def _check_row(row: Any) -> None:
    if not isinstance(row, dict):
        raise InputError(f"It is {shown(row)}, expected the results of a run by name.")
    for name in ("experiment", "variant"):
        if not isinstance(row.get(name), str) or not row[name].isprintable():
            raise InputError(f"{name} is {shown(row.get(name))}, expected a name.")
    check_whole(least=0, seed=row.get("seed"))
    if not isinstance(row.get("recipe"), dict):
        raise InputError(f"recipe is {shown(row.get('recipe'))}, expected knobs by name.")
    Recipe.from_dict(row["recipe"])
    history = row.get("history", [])
    if not isinstance(history, list) or not all(isinstance(line, dict) for line in history):
        raise InputError(f"history is {shown(history)}, expected a list of rows.")
    numbers = [
        (name, row.get(name)) for name in (*MEASURED, "train_loss", "images_seen", "images_per_second")
    ]
    numbers += [(name, line.get(name)) for line in history for name in ("step", "images_seen", *MEASURED)]
    for name, value in numbers:
        if value is not None:
            check_number(name, value, -LARGEST)
    if not isinstance(row.get("diagnosis"), (str, dict, type(None))):
        raise InputError(f"diagnosis is {shown(row['diagnosis'])}, expected a name.")


def thin(history: list[dict[str, Any]], rows: int = HISTORY_ROWS) -> list[dict[str, Any]]:
    """About `rows` rows of a history, evenly spread, with the last one and all where the kNN was measured.

    Numbers keep five digits, which is more than a curve shows.
    """
    check_whole(rows=rows, least=2)
    stride = max(1.0, (len(history) - 1) / (rows - 1))
    kept = {round(i * stride) for i in range(min(rows, len(history)))}
    kept |= {i for i, row in enumerate(history) if row.get("knn") is not None}
    return [{name: _short(value) for name, value in history[i].items()} for i in sorted(kept)]


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def read_course(experiment: Experiment) -> list[Row]:
    """The rows of the course's own ledger of an experiment. Errors: `InputError` where it has none."""
    from .. import data_file

    if not experiment.ledger:
        raise InputError(f"The course keeps no ledger of '{experiment.name}': run it with 'ablate'.")
    return read_ledger(data_file(f"results/{experiment.ledger}"))
