"""Experiments are data, the ledger survives interruptions, and the table is the mean over seeds."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace

import pytest

from simsiam_course import ablate
from simsiam_course.ablate import COLLAPSE, COURSE, EXPERIMENTS, MEASURED, Experiment, runs, tables, verdicts
from simsiam_course.augment import PRESETS
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.files import read_lines, write_lines
from simsiam_course.recipe import Recipe

SMALL = Experiment(
    name="small", title="t", question="q", paper={}, variants={"simsiam": {}, "none": {"stop_gradient": "none"}},
    base={"epochs": 1, "batch_size": 32, "monitor_every": 1},
)  # fmt: skip


@pytest.fixture
def small_data(monkeypatch):
    monkeypatch.setattr(runs, "_load", lambda name: (patterns(128, seed=1), patterns(64, seed=2)))


def run(out, seeds=1):
    return list(ablate.run(SMALL, seeds=seeds, out=out, device="cpu", progress=False))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_variant_of_every_experiment_is_a_recipe_with_one_difference_at_least(name):
    experiment = ablate.find(name)
    recipes = [experiment.recipe(variant, 0) for variant in experiment.variants]
    assert len(set(recipes)) == len(recipes)
    assert all(recipe.seed == 7 for recipe in (experiment.recipe(v, 7) for v in experiment.variants))


def test_the_collapse_experiment_is_the_two_by_two():
    switches = {
        (COLLAPSE.recipe(v, 0).stop_gradient, COLLAPSE.recipe(v, 0).predictor) for v in COLLAPSE.variants
    }
    assert switches == {("target", "mlp"), ("none", "mlp"), ("target", "none"), ("none", "none")}
    budgets = {(COLLAPSE.recipe(v, 0).epochs, COLLAPSE.recipe(v, 0).batch_size) for v in COLLAPSE.variants}
    assert len(budgets) == 1


def test_a_row_holds_the_figures_the_recipe_and_a_thin_history(small_data, tmp_path):
    row = run(tmp_path)[0]
    assert row == read_lines(tmp_path / ablate.LEDGER)[0]
    assert row.keys() >= {
        "experiment", "variant", "seed", "stop_gradient", "predictor", "images_seen", "loss", "std", "effective_rank",
        "knn", "linear", "seconds", "images_per_second", "device", "diagnosis",
    }  # fmt: skip
    assert row["images_seen"] == 128 and row["recipe"] == SMALL.recipe("simsiam", 0).to_dict()
    assert [r["step"] for r in row["history"]] == [1, 2, 3, 4]
    assert row["images_per_second"] == pytest.approx(128 / row["seconds"])


def test_an_interrupted_sweep_goes_on_and_what_is_there_is_not_run_again(small_data, tmp_path):
    first = run(tmp_path)
    with open(tmp_path / ablate.LEDGER, "ab") as file:
        file.write(b'{"experiment": "small", "vari')  # killed while writing
    rows = run(tmp_path, seeds=2)
    assert rows[:2] == first
    ledger = read_lines(tmp_path / ablate.LEDGER)
    assert [(row["variant"], row["seed"]) for row in ledger] == [
        ("simsiam", 0),
        ("none", 0),
        ("simsiam", 1),
        ("none", 1),
    ]


def test_a_run_of_another_recipe_is_not_taken_for_this_one(small_data, tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setitem(SMALL.base, "lr", 0.3)
    run(tmp_path)
    assert len(read_lines(tmp_path / ablate.LEDGER)) == 4


def test_a_run_that_diverges_is_a_row_that_says_so():
    wild = Experiment("wild", "t", "q", {}, {"wild": {"lr": 1e30, "warmup_steps": 0}}, base=SMALL.base)
    row, _ = ablate.run_variant(
        wild, "wild", 0, patterns(128, seed=1), patterns(64, seed=2), device="cpu", progress=False
    )
    assert row["diagnosis"] == "diverged"
    assert row["knn"] is None
    json.dumps(row, allow_nan=False)


def test_the_table_is_mean_and_sample_sd_over_seeds():
    rows = [
        {"variant": v, **dict.fromkeys(ablate.MEASURED), "knn": knn}
        for v, knn in (("a", 0.8), ("b", 0.2), ("a", 0.9))
    ]
    a, b = ablate.table(rows)
    assert (a["variant"], a["n"], b["variant"], b["n"]) == ("a", 2, "b", 1)
    assert a["knn"] == pytest.approx((0.85, 0.0707), abs=1e-4)
    assert b["knn"] == (0.2, None)
    assert a["linear"] == (None, None)
    assert "0.850±0.071" in ablate.format_table([a, b])


def test_thinning_keeps_first_and_last():
    rows = [{"step": i} for i in range(1000)]
    thin = ablate.thin(rows, 60)
    assert len(thin) == 60 and thin[0] == rows[0] and thin[-1] == rows[-1]
    assert ablate.thin(rows[:5], 60) == rows[:5]


def test_an_unknown_experiment_is_told_with_the_known_ones():
    with pytest.raises(InputError, match="no experiment 'x': choose one of collapse"):
        ablate.find("x")


@pytest.mark.parametrize("text", [None, "", '{"variant": "simsiam"}\n', '["a"]\n'])
def test_a_folder_without_a_sound_ledger_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / ablate.LEDGER).write_text(text)
    with pytest.raises(InputError):
        ablate.read_ledger(tmp_path)


# ---- sharing, order, interruptions: what is made, with runs that cost nothing

TWO = {"simsiam": {}, "none": {"stop_gradient": "none"}}
FIRST = Experiment(
    "first", "First?", "q", {}, TWO, ledger="first.jsonl", seeds=2, history_rows=4, frames=False
)
SECOND = Experiment(
    "second", "Second?", "q", {"as_it_is": ("68.1 %", "Table 9")},
    {"as_it_is": {}, "fast": {"lr": 1.0}}, ledger="second.jsonl", seeds=3,
)  # fmt: skip


def figures(value):
    return dict.fromkeys(MEASURED, value)


def made_up(experiment, variant, seed):
    """A ledger row of a run that was never made."""
    recipe = experiment.recipe(variant, seed)
    return {
        "experiment": experiment.name, "variant": variant, "seed": seed, **figures(0.5), "diagnosis": "healthy",
        "recipe": recipe.to_dict(), "history": [{"step": i} for i in range(40)][: experiment.history_rows],
        **({"frames": ["film"]} if experiment.frames else {}),
        **({"further": 1.0} if experiment.further else {}),
    }  # fmt: skip


@pytest.fixture
def made(monkeypatch):
    """Runs that are not made but noted, (experiment, variant, seed) each, of a course of two experiments."""
    noted = []

    def run_variant(experiment, variant, seed, train, test, **options):
        noted.append((experiment.name, variant, seed))
        return made_up(experiment, variant, seed), None

    monkeypatch.setattr(runs, "_load", lambda name: (None, None))
    monkeypatch.setattr(runs, "run_variant", run_variant)
    monkeypatch.setattr(runs, "COURSE", (FIRST, SECOND))
    return noted


def run_all(folder):
    return list(ablate.run_all(folder, device="cpu", progress=False))


def names(rows):
    return [(row["experiment"], row["variant"], row["seed"]) for row in rows]


def test_the_course_is_made_seed_by_seed_each_run_in_its_ledger(made, tmp_path):
    rows = run_all(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.jsonl", "second.jsonl"]
    first, second = (read_lines(tmp_path / experiment.ledger) for experiment in (FIRST, SECOND))
    assert names(first) == [("first", variant, seed) for seed in range(2) for variant in TWO]
    assert names(second) == [
        ("second", variant, seed) for seed in range(3) for variant in ("as_it_is", "fast")
    ]
    assert sorted(names(rows)) == sorted(names([*first, *second]))
    seeds = [seed for _, _, seed in made]
    assert seeds == sorted(seeds)


def test_a_run_that_two_experiments_share_is_made_once_by_the_one_that_keeps_most_of_it(made, tmp_path):
    run_all(tmp_path)
    assert len(made) == len(set(made)) == 3 + 2 + 3
    assert [name for name in made if name[1] in ("simsiam", "as_it_is")] == [
        ("second", "as_it_is", seed) for seed in range(3)
    ]
    one, other = read_lines(tmp_path / "first.jsonl")[0], read_lines(tmp_path / "second.jsonl")[0]
    assert (one["variant"], other["variant"]) == ("simsiam", "as_it_is")
    assert one["recipe"] == other["recipe"]
    assert len(one["history"]) == 4 and "frames" not in one
    assert len(other["history"]) == 40 and other["frames"] == ["film"]


def test_the_same_recipe_on_other_images_is_another_run(made, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "COURSE", (FIRST, replace(SECOND, data="digits")))
    run_all(tmp_path)
    assert len(made) == 4 + 6


def test_what_is_there_is_not_made_again(made, tmp_path):
    run_all(tmp_path)
    ledgers = {path: path.read_bytes() for path in tmp_path.iterdir()}
    made.clear()
    assert len(run_all(tmp_path)) == 4 + 6
    assert made == [] and {path: path.read_bytes() for path in tmp_path.iterdir()} == ledgers


@pytest.mark.parametrize("done", [0, 1, 3, 7])
def test_a_course_interrupted_anywhere_goes_on_and_ends_as_one_that_was_not(
    made, tmp_path, monkeypatch, done
):
    run_all(tmp_path / "whole")
    made.clear()
    sound, count = runs.run_variant, 0

    def interrupted(*args, **options):
        nonlocal count
        count += 1
        if count > done:
            raise KeyboardInterrupt
        return sound(*args, **options)

    monkeypatch.setattr(runs, "run_variant", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(tmp_path / "broken")
    monkeypatch.setattr(runs, "run_variant", sound)
    run_all(tmp_path / "broken")
    assert len(made) == len(set(made)) == 8
    for experiment in (FIRST, SECOND):
        whole, broken = (tmp_path / folder / experiment.ledger for folder in ("whole", "broken"))
        assert broken.read_bytes() == whole.read_bytes()


def test_a_row_whose_experiment_keeps_less_of_a_run_does_not_stand_in_for_one_that_keeps_more(made, tmp_path):
    run_all(tmp_path)
    (tmp_path / "second.jsonl").unlink()
    made.clear()
    run_all(tmp_path)
    assert {("second", "as_it_is", seed) for seed in range(3)} < set(made)
    assert all(
        row["frames"] == ["film"] and len(row["history"]) == 40
        for row in read_lines(tmp_path / "second.jsonl")
    )
    (tmp_path / "first.jsonl").unlink()
    made.clear()
    run_all(tmp_path)
    assert made == [("first", "none", 0), ("first", "none", 1)]


def test_further_measurements_are_made_where_another_experiment_has_the_run_without_them(
    made, tmp_path, monkeypatch
):
    probed = replace(SECOND, name="probed", ledger="probed.jsonl", further=lambda model, train, test: {})
    run_all(tmp_path)
    made.clear()
    monkeypatch.setattr(runs, "COURSE", (FIRST, SECOND, probed))
    run_all(tmp_path)
    assert len(made) == 6 and {name for name, _, _ in made} == {"probed"}
    assert all(row["further"] == 1.0 for row in read_lines(tmp_path / "probed.jsonl"))


def test_a_row_from_before_a_figure_was_measured_stays_and_is_not_shared(made, tmp_path):
    old = made_up(SECOND, "as_it_is", 0)
    del old["wobble"]
    write_lines(tmp_path / "second.jsonl", [old])
    run_all(tmp_path)
    assert read_lines(tmp_path / "second.jsonl")[0] == old
    assert ("first", "simsiam", 0) in made and ("second", "as_it_is", 0) not in made


def test_a_ledger_ends_in_the_order_of_the_plan_and_what_is_not_planned_follows(made, tmp_path):
    stranger = made_up(replace(FIRST, name="stranger"), "none", 0)
    rows = [made_up(FIRST, "none", 1), stranger, made_up(FIRST, "simsiam", 0)]
    write_lines(tmp_path / "first.jsonl", rows)
    run_all(tmp_path)
    assert names(read_lines(tmp_path / "first.jsonl")) == [
        *[("first", variant, seed) for seed in range(2) for variant in TWO], ("stranger", "none", 0),
    ]  # fmt: skip
    assert ("first", "none", 1) not in made


def test_a_quick_row_is_not_taken_for_a_real_one_and_gives_way_to_it(made, tmp_path):
    quick = {**made_up(FIRST, "none", 0), "quick": True}
    write_lines(tmp_path / "first.jsonl", [quick])
    run_all(tmp_path)
    assert ("first", "none", 0) in made
    rows = read_lines(tmp_path / "first.jsonl")
    assert names(rows) == [("first", variant, seed) for seed in range(2) for variant in TWO]
    assert not any("quick" in row for row in rows)


def test_in_quick_mode_a_quick_row_is_what_is_there(made, tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSIAM_QUICK", "1")
    write_lines(tmp_path / "first.jsonl", [{**made_up(FIRST, "none", 0), "quick": True}])
    run_all(tmp_path)
    assert ("first", "none", 0) not in made and len(read_lines(tmp_path / "first.jsonl")) == 4


def test_a_run_in_quick_mode_says_so_in_its_row(small_data, monkeypatch):
    pair = runs._load("patterns")
    for quick in (True, False):
        monkeypatch.setenv("SIMSIAM_QUICK", "1" if quick else "")
        row, _ = ablate.run_variant(SMALL, "simsiam", 0, *pair, device="cpu", progress=False)
        assert row.get("quick", False) == quick


def test_a_ledger_that_cannot_be_written_is_refused_before_anything_is_made(made, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError):
        run_all(tmp_path / "file" / "results")
    assert made == []


# ---- several at once


@pytest.fixture
def on_disk(tmp_path):
    """SMALL on images that a worker process finds too."""
    patterns(160, seed=1).save(tmp_path / "images.safetensors")
    return replace(SMALL, data=f"file:{tmp_path}/images.safetensors")


def test_two_at_once_give_the_rows_of_one_after_the_other(on_disk, tmp_path):
    ledgers = []
    for jobs in (1, 2):
        out = tmp_path / f"{jobs}.jsonl"
        rows = list(ablate.run(on_disk, seeds=1, out=out, device="cpu", jobs=jobs, progress=False))
        ledgers.append(read_lines(out))
        assert sorted(map(ablate.key, rows), key=str) == sorted(map(ablate.key, ledgers[-1]), key=str)
    one, two = ledgers
    assert [ablate.key(row) for row in one] == [ablate.key(row) for row in two]  # in the plan's order
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in ("loss", "std", "effective_rank", "train_loss"):
            assert a[name] == pytest.approx(b[name], rel=1e-3)
        assert [row["step"] for row in a["history"]] == [row["step"] for row in b["history"]]
    assert list(ablate.run(on_disk, seeds=1, out=tmp_path / "2.jsonl", jobs=2, progress=False)) == two


def test_what_a_worker_refuses_ends_them_all_with_its_sentence(on_disk, tmp_path):
    large = replace(on_disk, base={"batch_size": 512})
    with pytest.raises(InputError, match="batch of 512 is larger than the training set of 128"):
        list(ablate.run(large, seeds=1, out=tmp_path, device="cpu", jobs=2, progress=False))
    assert multiprocessing.active_children() == []


def _killed(model, train, test):
    """A measurement that this machine's memory does not outlive."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_a_worker_that_is_killed_is_told_in_one_sentence(on_disk, tmp_path):
    deadly = replace(on_disk, further=_killed)
    with pytest.raises(InputError, match=r"was killed.*so run the command again, with fewer --jobs"):
        list(ablate.run(deadly, seeds=1, out=tmp_path, device="cpu", jobs=2, progress=False))


# ---- what a row says


def test_wobble_is_the_mean_change_of_the_loss_in_the_third_quarter():
    losses = [9.0, -9.0, 9.0, -9.0, -9.0, 9.0, 0.1, 0.4, 0.2, 5.0, -5.0, 5.0]
    assert runs.wobble([{"loss": x} for x in losses]) == pytest.approx((0.3 + 0.2) / 2)
    assert runs.wobble([{"loss": -0.9}] * 12) == 0
    assert runs.wobble([{"loss": 1.0}] * 7) is None


def test_a_relative_has_a_row_like_any_other(small_data):
    simclr = replace(SMALL, variants={"simclr": ablate.find("relatives").variants["simclr"]})
    row, model = ablate.run_variant(simclr, "simclr", 0, *runs._load("x"), device="cpu", progress=False)
    assert -1 <= row["loss"] <= 1 < row["train_loss"]  # D(z, z) of clean images' views, and NT-Xent
    assert row["recipe"]["method"] == "simclr" and type(model).__name__ == "SimCLR"
    json.dumps(row, allow_nan=False)


# ---- the experiments


def test_no_two_of_the_courses_ledgers_share_a_file():
    ledgers = [experiment.ledger for experiment in COURSE]
    assert len(set(ledgers)) == len(ledgers)
    assert all(ledger.endswith(".jsonl") for ledger in ledgers)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiments_figures_of_the_paper_and_its_panels_are_of_its_own_variants(name):
    experiment = ablate.find(name)
    assert experiment.name == name
    assert experiment.paper.keys() <= experiment.variants.keys()
    assert all(said and source for said, source in experiment.paper.values())
    assert {
        variant for panel in experiment.panels.values() for variant in panel
    } <= experiment.variants.keys()


@pytest.mark.parametrize("experiment", COURSE, ids=lambda experiment: experiment.name)
def test_the_variants_of_a_course_experiment_have_one_budget(experiment):
    recipes = [experiment.recipe(variant, 0) for variant in experiment.variants]
    assert len({recipe.epochs for recipe in recipes}) == 1
    warm_up = {recipe.warmup_steps * recipe.batch_size for recipe in recipes}  # in images
    assert max(warm_up) - min(warm_up) < max(recipe.batch_size for recipe in recipes)
    assert len({recipe.lr for recipe in recipes}) == 1  # per 256 images: scaled linearly with the batch


def test_the_batches_warm_up_over_as_many_images_as_the_default():
    default = Recipe()
    assert default.warmup_steps * default.batch_size == ablate.experiments.WARM_UP_IMAGES
    experiment = ablate.find("batch_size")
    assert experiment.recipe("batch_64", 0) == default.replace(**experiment.base)


def test_alternation_over_a_pass_is_as_long_as_a_pass():
    recipe = ablate.find("alternation").recipe("one_pass", 0)
    assert recipe.target_every == 4096 // recipe.batch_size


def test_the_moving_average_has_a_row_for_every_image_of_its_set():
    experiment = ablate.find("moving_average")
    assert experiment.recipe("no_h_average", 0).bank_size >= len(patterns())


@pytest.mark.parametrize("variant", ablate.find("augmentations").variants)
def test_each_augmentation_is_taken_out_or_put_in_alone(variant):
    names = {"all": "patterns"}
    assert ablate.find("augmentations").recipe(variant, 0).augmentation == names.get(variant, variant)
    assert names.get(variant, variant) in PRESETS


def test_each_relative_has_a_twin_that_lacks_one_thing():
    whole, broken = ablate.find("relatives"), ablate.find("broken")
    twins = {name: next(m for m in whole.variants if name.startswith(f"{m}_no_")) for name in broken.variants}
    assert set(twins.values()) == whole.variants.keys() - {"simsiam"}
    for name, twin in twins.items():
        assert broken.recipe(name, 0).differences(whole.recipe(twin, 0)).count(" and ") == 1


def test_a_course_ledger_that_is_not_kept_is_told():
    with pytest.raises(InputError, match="no ledger of 'collapse': run it with 'ablate'"):
        ablate.read_course(COLLAPSE)


# ---- tables


def test_the_table_reads_a_ledger_from_before_a_figure_was_measured():
    row = {"variant": "a", **figures(0.5)}
    old = {name: value for name, value in row.items() if name != "wobble"}
    (line,) = ablate.table([old, row])
    assert line["n"] == 2 and line["knn"] == (0.5, 0.0) and line["wobble"] == (0.5, None)


@pytest.mark.parametrize(
    "experiment", [ablate.find("failures"), ablate.find("factors")], ids=lambda e: e.name
)
def test_the_courses_first_ledgers_have_a_table_beside_the_papers(experiment):
    text = ablate.beside_paper(experiment, ablate.read_course(experiment))
    assert len(text.splitlines()) == 1 + len(experiment.variants)


def test_beside_the_paper_stand_mean_and_sd_of_the_ledger_and_what_the_runs_were_called():
    rows = [
        {**made_up(SECOND, variant, seed), "knn": knn, "effective_rank": 7.0, "diagnosis": diagnosis}
        for variant, seed, knn, diagnosis in (
            ("fast", 0, 0.1, "not learning"), ("as_it_is", 0, 0.8, "healthy"), ("as_it_is", 1, 0.9, "healthy"),
            ("as_it_is", 2, 0.85, "unknown"),
        )
    ]  # fmt: skip
    stranger = {**made_up(replace(SECOND, name="stranger"), "fast", 0), "knn": 0.9}
    head, as_it_is, fast = ablate.beside_paper(SECOND, [*rows, stranger]).splitlines()
    assert " ".join(head.split()) == "variant paper kNN rank of z n diagnosis"
    assert " ".join(as_it_is.split()) == "as_it_is 68.1 % 0.850±0.050 7.000±0.000 3 healthy 2, unknown 1"
    assert " ".join(fast.split()) == "fast - 0.100 7.000 1 not learning"
    only = ablate.beside_paper(SECOND, rows[:1])
    assert "as_it_is" not in only and "fast" in only


def test_a_diverged_run_stands_in_the_table_with_a_dash():
    row = {**made_up(SECOND, "fast", 0), **figures(None), "diagnosis": "diverged"}
    line = ablate.beside_paper(SECOND, [row]).splitlines()[1]
    assert " ".join(line.split()) == "fast - - - 1 diverged"


def test_the_courses_tables_are_those_of_a_folder_and_end_with_the_verdicts(tmp_path):
    for experiment in COURSE:
        rows = [made_up(experiment, variant, seed) for seed in range(2) for variant in experiment.variants]
        write_lines(tmp_path / experiment.ledger, rows)
    text = ablate.course_tables(tmp_path)
    parts = text.split("\n\n")
    assert len(parts) == len(COURSE) + 2
    for experiment, part in zip(COURSE, parts, strict=False):
        title, head, *lines = part.splitlines()
        assert title == f"{experiment.name}: {experiment.title}"
        assert [line.split()[0] for line in lines] == list(experiment.variants)
    assert verdicts.FLIP_HURTS.said in parts[-2]
    assert parts[-1].startswith(" 1. ") and parts[-1].endswith("of 12 directions are the paper's.")
    (tmp_path / COURSE[-1].ledger).unlink()
    with pytest.raises(InputError, match="holds no results"):
        ablate.course_tables(tmp_path)


def test_the_costs_are_minutes_of_training_and_measuring_and_a_shared_recipe_is_timed_once(monkeypatch):
    timed = []
    monkeypatch.setattr(tables, "load_pair", lambda name: (name, None))
    monkeypatch.setattr(tables, "EXPERIMENTS", {"first": FIRST, "second": SECOND})
    monkeypatch.setattr(
        tables, "seconds_per_run", lambda recipe, images, device: timed.append(recipe) or 50.0
    )
    head, first, second = ablate.costs(progress=False).splitlines()
    assert head.split() == ["experiment", "variants", "minutes", "a", "seed", "question"]
    assert first.split() == ["first", "2", "2.0", "First?"]  # two of 50 s, and a fifth for the measurements
    assert second.split() == ["second", "2", "2.0", "Second?"]
    assert len(timed) == len(set(timed)) == 3


def test_the_seconds_of_a_run_are_those_of_a_step_times_its_steps(monkeypatch):
    clock = iter([0.0, 10.0])  # before and after five steps
    monkeypatch.setattr(runs.time, "perf_counter", lambda: next(clock))
    recipe = SMALL.recipe("simsiam", 0).replace(epochs=3)
    assert runs.seconds_per_run(recipe, patterns(128, seed=1), device="cpu", steps=5) == 2.0 * 12
