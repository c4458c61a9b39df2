"""Experiments are data, the ledger survives interruptions, and the table is the mean over seeds."""

import json

import pytest

from simsiam_course import ablate
from simsiam_course.ablate import COLLAPSE, EXPERIMENTS, Experiment
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.files import read_lines

SMALL = Experiment(
    name="small", title="t", question="q", paper={}, variants={"simsiam": {}, "none": {"stop_gradient": "none"}},
    base={"epochs": 1, "batch_size": 32, "monitor_every": 1},
)  # fmt: skip


@pytest.fixture
def small_data(monkeypatch):
    from simsiam_course import data

    monkeypatch.setattr(data, "load_pair", lambda name: (patterns(128, seed=1), patterns(64, seed=2)))


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
