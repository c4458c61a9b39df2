"""The command line: `simsiam-course`, or `python -m simsiam_course`.

Arguments are checked before any work starts; what is wrong is told in one sentence on standard error, with exit
code 2. With `--json` the last line of standard output is one JSON object.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import InputError, check_number
from .presets import WHAT_FOR
from .terminal import answer

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Build SimSiam, take out its parts, and watch what happens.",
)  # fmt: skip

_PRESETS = "\n".join(["\b", "Presets:", *(f"  {name:<16} {said}" for name, said in WHAT_FOR.items())])
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Data = Annotated[
    str, typer.Option(help="patterns, digits, cifar10, ..., folder:PATH or file:PATH.safetensors.")
]
Test = Annotated[
    str | None, typer.Option(help="Test images; by default the set's own, or a stratified fifth.")
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo"),
    seeds: Annotated[int, typer.Option(help="Seeds 0 to N-1 of each variant.")] = 1,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Runs the 2x2 of stop-gradient and predictor on embedded images: results, figures and a report."""
    _at_least_one("--seeds", seeds)
    from .train import resolve_device

    resolve_device(device)
    from . import ablate
    from .demo import demo as run_demo

    result = run_demo(out, seeds=seeds, device=device, progress=_progress(), on_run=_print_run)
    base = result["baselines"]
    print(ablate.format_table(ablate.table(result["runs"])))
    print(
        f"kNN of raw pixels {base['raw_pixels_knn']:.3f}, of a random backbone {base['random_backbone_knn']:.3f}"
    )
    print(f"{result['seconds']:.0f} s in all. Open {out / 'report.html'} in a browser.")
    _print_json(result, json)


@app.command(epilog=_PRESETS)
def train(
    data: Data,
    test: Test = None,
    limit: Annotated[int | None, typer.Option(help="Use at most N training images.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the images in pixels (default 32).")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="tiny, tiny_half, tiny_double, resnet18 or resnet50.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A recipe and its augmentations, see below; other options go before it."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step, two views each.")] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate per 256 images (default: the preset's)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Initialisation, order and augmentations.")] = None,
    method: Annotated[
        str | None, typer.Option(help="simsiam, or simclr, moco, byol, swav, barlow_twins, vicreg, ...")
    ] = None,
    stop_gradient: Annotated[str | None, typer.Option(help="target, none, wrong_side or both.")] = None,
    predictor: Annotated[
        str | None, typer.Option(help="mlp, none, frozen, bias, linear or directpred.")
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(help="A list: patterns, crop_and_flip, digits, satellite, cifar, imagenet, simclr, ..."),
    ] = None,
    amp: Annotated[str | None, typer.Option(help="Lower precision: off, bf16, or fp16 (GPUs only).")] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile backbone and heads (torch.compile).")
    ] = False,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for the run (default: runs/<time>).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    json: Json = False,
) -> None:
    """Trains a backbone on images without labels, and measures it; torchrun starts it in several processes."""
    given = {"backbone": backbone, "epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed,
             "stop_gradient": stop_gradient, "predictor": predictor, "augmentation": augmentation,
             "amp": amp, "compile": compiled or None}  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if method is not None:
        given = {**_formula(method), **given}
    from .distributed import from_first, one_after_another, processes, rank, restarts
    from .launch import began
    from .train import fit, resolve_device

    resolve_device(device)
    if resume and out is None:
        raise InputError("--resume needs --out: name the folder of the run to go on with.")
    if restarts()[1] and out is None:
        raise InputError(
            "--max-restarts needs --out: name the folder in which a run that is started anew goes on."
        )
    with processes(device):
        first = rank() == 0
        resume = resume or (out is not None and began(out))
        recipe, folder = from_first(lambda: _prepare(given, data, preset, out, resume))
        images, test_images = one_after_another(lambda: _load(data, test, limit, size))
        if len(test_images) < 2:
            raise InputError(
                f"'{data}' leaves {len(test_images)} image for testing, expected at least 2: give ten images or more, "
                "or a test set by --test."
            )
        model = recipe.build()
        history = fit(model, images, recipe, device=device, out=folder, resume=resume, progress=_progress())
    if not first:
        return
    result = _measured(model, recipe, images, test_images, history)
    result |= {"out": str(folder), "device": next(model.parameters()).device.type}
    _print_result(result)
    _print_json(result, json)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A folder that train has written.")],
    data: Data,
    test: Test = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measures a trained run on images: kNN, linear probe, monitors and a diagnosis."""
    from .checkpoint import HISTORY, load_run
    from .files import read_lines
    from .train import resolve_device

    place = resolve_device(device)
    model, recipe, about = load_run(run)
    images, test_images = _load(data, test, None, about.get("size"))
    given = [part.labels for part in (images, test_images) if part.labels is not None]
    if len({label for labels in given for label in labels.unique().tolist() if label >= 0}) == 1:
        raise InputError(
            f"'{data}' has images of one class only: give at least two classes to tell apart, or no labels."
        )
    log = run / HISTORY
    history = read_lines(log) if log.exists() else []
    result = _measured(model.to(place), recipe, images, test_images, history)
    _print_result(result)
    _print_json(result, json)


@app.command()
def ablate(
    name: Annotated[str, typer.Argument(help="An experiment; --list names them.")] = "",
    seeds: Annotated[int | None, typer.Option(help="Seeds 0 to N-1 of each variant (default 1).")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the ledger, or the ledger as FILE.jsonl (default: runs/ablate-<name>)."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Make the course's own ledgers (default --out: data/results of the clone)."
        ),
    ] = False,
    listed: Annotated[
        bool, typer.Option("--list", help="Name the experiments, with what each costs here.")
    ] = False,
    tables: Annotated[
        bool,
        typer.Option("--tables", help="Print the tables and verdicts of the course's ledgers; runs nothing."),
    ] = False,
    jobs: Annotated[int, typer.Option(help="Runs at once, of one thread each.")] = 1,
    device: Device = "auto",
) -> None:
    """Runs one experiment over seeds; a ledger keeps every run, and what is there is not run again."""
    _at_least_one("--seeds", 1 if seeds is None else seeds)
    _at_least_one("--jobs", jobs)
    if seeds is not None and not name:
        raise InputError(
            "--seeds is for one experiment by its name: the course's ledgers have seeds of their own."
        )
    if sum((bool(name), every, listed, tables)) != 1:
        raise InputError("'ablate' takes one of: the name of an experiment, --all, --list, --tables.")
    from . import ablate as experiments
    from .train import resolve_device

    resolve_device(device)
    if listed:
        print(experiments.costs(device=device, progress=_progress()))
    elif tables:
        print(experiments.course_tables(out))
    elif every:
        folder = out or _lessons().parent / "data" / "results"
        rows = list(experiments.run_all(folder, device=device, jobs=jobs, progress=_progress()))
        print(f"{len(rows)} runs in {folder}. Their tables: simsiam-course ablate --tables --out {folder}")
    else:
        experiment, place = experiments.find(name), out or Path("runs") / f"ablate-{name}"
        rows = list(
            experiments.run(
                experiment, seeds=seeds or 1, out=place, device=device, jobs=jobs, progress=_progress()
            )
        )
        print(experiments.format_table(experiments.table(rows)))
        print(f"Ledger: {experiments.ledger_path(place)}. A page of it: simsiam-course report {place}")


@app.command()
def report(
    ledger: Annotated[
        Path | None,
        typer.Argument(
            help="What demo or ablate has written (default: the course's own ledger of collapse)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the page (default: the ledger's; for the course's, report)."),
    ] = None,
) -> None:
    """Makes one self-contained HTML page of a ledger, and its figures."""
    from . import ablate as experiments
    from . import data_file
    from .files import make_folder
    from .report import write

    place = ledger or data_file("results/collapse.jsonl")
    rows = experiments.read_ledger(place)
    beside = place.parent if place.suffix == ".jsonl" else place
    page = write(rows, make_folder(out or (beside if ledger else Path("report"))))
    print(experiments.format_table(experiments.table(rows)))
    print(f"Open {page} in a browser.")


@app.command()
def checkpoints(
    name: Annotated[
        str,
        typer.Argument(help="Nothing for the three of `patterns`, or cifar10 for the one of photographs."),
    ] = "",
    data: Annotated[str | None, typer.Option(help="cifar10: training images (default cifar10).")] = None,
    test: Test = None,
    epochs: Annotated[int | None, typer.Option(help="cifar10: passes over the training images.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="cifar10: folder of the run, which goes on if it was interrupted.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the weights (default: data/checkpoints of the clone).")
    ] = None,
    device: Device = "cpu",
    json: Json = False,
) -> None:
    """Trains the weights that come with the course, healthy, collapsed and random, or those of cifar10."""
    from . import weights
    from .train import resolve_device

    if name not in ("", weights.PHOTOS):
        raise InputError(f"There are no weights '{name}' to make: give no name, or {weights.PHOTOS}.")
    if not name and (data, test, epochs, run) != (None,) * 4:
        raise InputError(f"--data, --test, --epochs and --run are for 'checkpoints {weights.PHOTOS}' only.")
    resolve_device(device)
    folder = out or _lessons().parent / "data" / weights.FOLDER

    def say(name: str, entry: dict[str, Any]) -> None:
        print(f"{name}: kNN {entry['figures']['knn']:.3f}, sha256 {entry['sha256'][:12]}", flush=True)

    if name:
        entry = weights.write_photos(folder, data=data or weights.PHOTOS, test=test, epochs=epochs, device=device,
                                     run=run or Path("runs") / name, progress=_progress())  # fmt: skip
        say(name, entry)
        _print_json({name: entry}, json)
    else:
        _print_json(weights.write(folder, device=device, progress=_progress(), on_file=say), json)


@app.command()
def doctor(json: Json = False) -> None:
    """Says what is here: versions, device, memory, disk, data, browser and kernel, and how long things take."""
    from .doctor import examine, sentences

    found = examine()
    print("\n".join(sentences(found)))
    _print_json(found, json)


@app.command()
def execute(
    notebooks: Annotated[
        list[Path] | None, typer.Argument(help="Notebooks; without any, all lessons.")
    ] = None,
) -> None:
    """Runs lessons from clean kernels and stores their outputs."""
    from .notebooks import execute as run

    for path in notebooks or sorted(_lessons().glob("*.ipynb")):
        print(f"{path}: {run(path):.0f} s", flush=True)


@app.command()
def solutions(
    out: Annotated[Path, typer.Argument(help="Folder for the solved notebooks.")],
    execute: Annotated[bool, typer.Option("--execute", help="Run each and store its outputs.")] = False,
) -> None:
    """Writes solved copies of the lessons, for instructors."""
    from .notebooks import execute as run
    from .notebooks import solutions as write

    for path in write(_lessons(), out):
        print(f"{path}: {run(path):.0f} s" if execute else path, flush=True)


@app.command()
def stamp() -> None:
    """Writes the address and release in pyproject.toml into every badge and setup cell."""
    from .stamp import read_address
    from .stamp import stamp as write

    root = _lessons().parent
    for path in (changed := write(root)):
        print(path.relative_to(root))
    address = read_address(root)
    print(
        f"{len(changed)} files changed; badges and setup cells lead to {address.release} of {address.repository}."
    )


@app.command()
def lab(
    app: Annotated[bool, typer.Option("--app", help="Open the collapse lab alone, for a projector.")] = False,
) -> None:
    """Opens JupyterLab on the notebooks, or on the collapse lab alone, on this machine only."""
    import subprocess
    import tempfile

    from .jupyter import app_command, server_command

    if not app:
        raise SystemExit(subprocess.run(server_command(_lessons()), check=False).returncode)
    with tempfile.TemporaryDirectory(prefix="simsiam-lab-", ignore_cleanup_errors=True) as folder:
        command, environment = app_command(Path(folder), Path.cwd())
        raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)


def _lessons() -> Path:
    """The folder of notebooks. Errors: `InputError` where the package was installed without them."""
    from . import checkout

    root = checkout()
    if root is None:
        raise InputError(
            "There are no notebooks beside this installation: clone the repository and run it there."
        )
    return root / "notebooks"


def _formula(method: str) -> dict[str, Any]:
    """The knobs that make a relative, or a method without a formula as it is."""
    from .relatives import FORMULAS

    return dict(FORMULAS.get(method, {"method": method})) | {"method": method}


def _prepare(
    given: dict[str, Any], data: str, preset: str | None, out: Path | None, resume: bool
) -> tuple[Any, Path]:
    """The recipe and the folder of a run, which can be written and holds no other."""
    from .checkpoint import holds_run
    from .files import check_folder
    from .launch import remember_folder

    recipe = _recipe(given, data, preset, out if resume else None)
    folder = out or Path("runs") / time.strftime("%Y-%m-%d-%H%M%S")
    if not resume and holds_run(folder):
        raise InputError(f"'{folder}' holds a run already: go on with --resume, or choose another --out.")
    check_folder(folder)
    remember_folder(folder)
    return recipe, folder


def _recipe(given: dict[str, Any], data: str, preset: str | None, resumed: Path | None) -> Any:
    """The recipe of a new run, or that of the run to go on with, which what is given must not contradict."""
    from .checkpoint import RECIPE, check_same_recipe, holds_run, read_recipe
    from .presets import preset as knobs_of
    from .presets import preset_of
    from .recipe import Recipe, settled

    named = {} if preset is None else settled(preset)
    if resumed is None or not holds_run(resumed):
        return Recipe.from_dict({**knobs_of(preset or preset_of(data)), **given})
    recipe = read_recipe(resumed)
    check_same_recipe(recipe, recipe.replace(**{**named, **given}), resumed / RECIPE)
    return recipe


def _load(data: str, test: str | None, limit: int | None, size: int | None) -> Any:
    from .data import load_pair

    return load_pair(data, test=test, limit=limit, size=32 if size is None else size)


def _measured(model: Any, recipe: Any, images: Any, test_images: Any, history: list) -> dict[str, Any]:
    """The figures of a trained model, its baselines, its diagnosis and what the training took."""
    from .augment import PRESETS
    from .collapse import diagnose
    from .evaluate import baselines, measure
    from .train import cosines

    def untrained() -> Any:
        return recipe.build().to(next(model.parameters()).device)

    last = history[-1] if history else {}
    seen, seconds = last.get("images_seen"), last.get("seconds")
    for name, value in {"images_seen": seen, "seconds": seconds}.items():
        if value is not None:
            check_number(name, value, 0)
    figures = measure(model, images, test_images, augmentation=PRESETS[recipe.augmentation])
    verdict = diagnose({**figures, "history": cosines(history, recipe)})
    return {**figures, **baselines(images, test_images, untrained),
            "light": verdict.light, "diagnosis": verdict.name, "evidence": verdict.evidence,
            "advice": verdict.advice, "train_loss": last.get("loss"), "images_seen": seen, "seconds": seconds,
            "images_per_second": seen / seconds if seen and seconds else None}  # fmt: skip


def _print_run(row: dict[str, Any]) -> None:
    knn = "-" if row["knn"] is None else f"{row['knn']:.3f}"
    print(
        f"{row['variant']}, seed {row['seed']}: kNN {knn}, {row['diagnosis']} ({row['seconds'] or 0:.0f} s)",
        flush=True,
    )


def _print_result(result: dict[str, Any]) -> None:
    for name, value in result.items():
        print(f"{name:>22}  {f'{value:.4g}' if isinstance(value, float) else value}")


def _print_json(result: dict[str, Any], wanted: bool) -> None:
    from .files import json_bytes

    if wanted:
        print(json_bytes(result).decode())


def _at_least_one(option: str, value: int) -> None:
    if value < 1:
        raise InputError(f"{option} is {value}, expected a whole number of at least 1.")


def _progress() -> bool:
    return bool(sys.stderr and sys.stderr.isatty())  # where standard error is closed there is none


def main() -> None:
    """Runs the program; bad input ends it with one sentence and exit code 2, Ctrl-C with 130, SIGTERM with 143."""
    if "RANK" in os.environ:  # one of several processes
        from .launch import run

        run(lambda: answer(app, sys.argv[1:]))
    else:
        sys.exit(answer(app, sys.argv[1:]))
