"""The command behind the confusion table: its plan, its counts, that it goes on where it stopped, what it refuses."""

from __future__ import annotations

import re

import diagnoses
import pytest
import torch

from simsiam_course.ablate import FAILURES
from simsiam_course.data import patterns
from simsiam_course.exercises.collapse import name_that_failure, unlabelled
from simsiam_course.files import read_lines


@pytest.fixture
def images(monkeypatch):
    """Few and fixed images, whatever set is asked for."""
    pair = patterns(128, seed=1), patterns(64, seed=2)
    monkeypatch.setattr(diagnoses, "load_pair", lambda data, limit: pair)


def call(capsys, *options):
    code = diagnoses.main([str(option) for option in options])
    return code, *capsys.readouterr()


def test_a_quick_run_takes_every_plan_everywhere_and_counts_it(images, capsys, tmp_path):
    ledger = tmp_path / "diagnoses.jsonl"
    code, out, err = call(capsys, "--quick", "--data", "digits", "--out", ledger)
    rows = read_lines(ledger)
    places = ["digits", "digits, wider"]
    assert (code, err) == (0, "")
    assert [(row["where"], row["planned"]) for row in rows] == [
        (w, p) for w in places for p in diagnoses.PLANNED
    ]
    assert {row["seed"] for row in rows} == {diagnoses.FIRST_SEED}
    assert [row["recipe"]["augmentation"] for row in rows[::6]] == ["digits", "digits"]
    right = sum(diagnoses.right(row) for row in rows)
    assert f"{right} of 12 runs have a right name." in out
    lines = [
        line for line in out.splitlines() if re.match(r"digits.* (healthy|too short|no |frozen|rate)", line)
    ]
    counts = [sum(int(cell) for cell in re.findall(r"(?<= )\d+(?= |$)", line)) for line in lines[:12]]
    assert counts == [1] * 12

    assert call(capsys, "--table", "--out", ledger)[1] == out
    before = ledger.read_bytes()
    assert call(capsys, "--quick", "--data", "digits", "--out", ledger)[1] == out
    assert ledger.read_bytes() == before, "what is in the ledger was run again"


def test_a_plan_differs_from_the_healthy_run_in_what_it_says():
    base = diagnoses.knobs_for("patterns", 1)
    pair = patterns(128, seed=1), patterns(64, seed=2)
    rows = {plan: diagnoses.planned_run(plan, 100, pair, base, progress=False) for plan in diagnoses.PLANNED}
    healthy = rows["healthy"]["recipe"]
    changed = {
        plan: {k: v for k, v in row["recipe"].items() if v != healthy[k]} for plan, row in rows.items()
    }
    assert changed == {
        "healthy": {},
        "no stop-gradient": {"stop_gradient": "none"},
        "no predictor": {"predictor": "none"},
        "frozen predictor": {"predictor": "frozen"},
        "rate much too high": {"lr": pytest.approx(diagnoses.TOO_HIGH * healthy["lr"])},
        "too short": changed["too short"],
    }
    assert changed["too short"].keys() <= {"epochs"}


def test_the_wider_backbone_is_wider_and_leaves_the_recipe_as_it_is():
    from simsiam_course import recipe

    base, pair = diagnoses.knobs_for("patterns", 1), (patterns(128, seed=1), patterns(64, seed=2))
    before = recipe.create_backbone
    rows = [
        diagnoses.planned_run("too short", 100, pair, base, widths=widths, progress=False)
        for widths in ((4, 4, 4, 8), (4, 4, 4, 16))
    ]
    assert rows[0]["recipe"] == rows[1]["recipe"] and rows[0]["loss"] != rows[1]["loss"]
    assert recipe.create_backbone is before


def test_the_table_names_what_was_misnamed_and_the_command_says_so(capsys, tmp_path):
    rows = [
        {
            "where": "x",
            "planned": "healthy",
            "seed": 100,
            "diagnosis": name,
            "loss": -0.9,
            "std": 1.0,
            "effective_rank": None,
        }
        for name in ("healthy", "healthy", "too short")
    ]
    rows.append(rows[0] | {"planned": "no predictor", "diagnosis": "dimensional collapse"})
    said = diagnoses.table(rows)
    assert "3 of 4 runs have a right name." in said
    assert "x, healthy, seed 100: too short (loss -0.9, std 1)" in said
    assert re.search(r"x +healthy +2 +- +1", said)
    diagnoses.write_lines(tmp_path / "ledger.jsonl", rows)
    assert call(capsys, "--table", "--out", tmp_path / "ledger.jsonl")[0] == 1


def test_the_six_curve_sets_are_made_by_the_command(images, capsys, tmp_path):
    out = tmp_path / "unlabelled.jsonl"
    assert call(capsys, "--curves", "--quick", "--out", out)[0] == 0
    rows = read_lines(out)
    assert [row["run"] for row in rows] == list(name_that_failure())
    assert rows[0]["history"][0].keys() == unlabelled()["A"][0].keys()
    assert all(len(row["history"]) <= 45 for row in rows)


def test_every_planned_switch_is_one_of_the_failures_of_the_ledger():
    switched = [knobs for knobs, _ in diagnoses.PLANNED.values() if knobs and "lr" not in knobs]
    assert all(knobs in FAILURES.variants.values() for knobs in switched)


@pytest.mark.parametrize("options, sentence", [
    (["--seeds", "0"], "--seeds is 0, expected 1 or more"),
    (["--fast"], "unrecognized arguments: --fast"),
    (["--data", "nowhere"], "There is no data set 'nowhere'"),
])  # fmt: skip
def test_bad_options_are_one_sentence(capsys, tmp_path, options, sentence):
    code, out, err = call(capsys, "--quick", *options)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert sentence in err
    assert torch.get_num_threads() >= 1
