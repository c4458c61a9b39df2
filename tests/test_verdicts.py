"""The paper's directions are claims on ledgers, and one rule with stated edges says what becomes of each."""

from __future__ import annotations

import math
import re

import pytest

from simsiam_course import ablate
from simsiam_course.ablate import (
    COURSE,
    DIRECTIONS,
    FLIP_HURTS,
    MEASURED,
    Claim,
    Direction,
    judge,
    own_verdict,
    verdict_table,
)
from simsiam_course.ablate.verdicts import EQUIVALENT, ERRORS, NINETY, OPEN, OPPOSITE, SAME

CLAIM = Claim("knn", ("made_up", "a"), ("made_up", "b"))
CLAIMS = [claim for direction in DIRECTIONS for claim in direction.claims]


def ledgers(**values):
    """A ledger of one figure: `ledgers(a=[.8, .9], b=[.1])`."""
    rows = [{"variant": variant, "knn": value} for variant, found in values.items() for value in found]
    return {"made_up": rows}


def finding(claim=CLAIM, **values):
    return judge(Direction("d", "s", (claim,)), ledgers(**values))[1][0]


def around(mean, half=1.0):
    """Two seeds whose mean has the standard error `half`."""
    return [mean - half, mean + half]


# --- the rule


def test_the_effect_is_the_difference_of_the_means_and_its_error_that_of_two_means():
    found = finding(a=[1.0, 2.0, 6.0], b=[0.5, 1.5])
    assert found.effect == pytest.approx(3 - 1)
    assert found.error == pytest.approx(math.sqrt(7 / 3 + 0.5 / 2))


@pytest.mark.parametrize("effect, verdict", [
    (2.01, "holds"), (2.0, "open"), (0.0, "open"), (-2.0, "open"), (-2.01, "fails"),
])  # fmt: skip
def test_a_claim_holds_beyond_two_standard_errors_fails_beyond_two_on_the_other_side_and_is_open_between(
    effect, verdict
):
    found = finding(a=around(effect), b=[0.0, 0.0])
    assert (ERRORS, found.error) == (2.0, 1.0)
    assert found.verdict == verdict


@pytest.mark.parametrize("effect, verdict", [(5.01, "holds"), (5.0, "open"), (1.0, "open"), (0.99, "fails")])
def test_a_margin_is_added_to_what_must_be_exceeded(effect, verdict):
    assert finding(CLAIM._replace(margin=3.0), a=around(effect), b=[0.0, 0.0]).verdict == verdict


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("effect, error, verdict", [
    (0.0, 0.6, "holds"),  # 1.645 x .6 is below 1
    (0.0, 0.625, "open"),
    (0.5, 0.25, "holds"), (0.625, 0.25, "open"),
    (1.5, 0.25, "open"), (1.51, 0.25, "fails"),  # beyond the margin by two standard errors
    (1.0, 0.0, "open"), (0.99, 0.0, "holds"), (1.01, 0.0, "fails"),
])  # fmt: skip
def test_equal_holds_where_the_ninety_per_cent_interval_is_within_the_margin(side, effect, error, verdict):
    equal = CLAIM._replace(margin=1.0, equal=True)
    found = finding(equal, a=around(side * effect, error), b=[0.0, 0.0])
    assert NINETY == 1.645 and found.error == pytest.approx(error)
    assert found.verdict == verdict


@pytest.mark.parametrize("a, b", [([0.9], [0.1, 0.2]), ([0.9, 0.8], []), ([], [])])
def test_one_seed_is_no_evidence(a, b):
    found = finding(a=a, b=b)
    assert found.verdict == "open" and math.isnan(found.effect) and math.isnan(found.error)


def test_a_run_without_the_figure_counts_not_at_all():
    nothing = [None, math.nan, math.inf, -math.inf]
    found = finding(a=[0.9, *nothing, 0.8], b=[0.1, 0.2])
    assert (found.effect, found.verdict) == (pytest.approx(0.7), "holds")
    assert finding(a=[0.9, *nothing], b=[0.1, 0.2]).verdict == "open"
    without = {"made_up": [{"variant": "a"}, {"variant": "b", "knn": 0.1}]}  # a ledger older than the figure
    assert judge(Direction("d", "s", (CLAIM,)), without)[1][0].verdict == "open"


def test_an_experiment_that_was_not_run_leaves_its_claims_open():
    assert judge(Direction("d", "s", (CLAIM,)), {})[0] == OPEN


@pytest.mark.parametrize("effects, verdict", [
    ((3.0, 3.0), SAME), ((3.0, 0.0), OPEN), ((3.0, -3.0), OPPOSITE), ((0.0, -3.0), OPPOSITE), ((0.0, 0.0), OPEN),
])  # fmt: skip
def test_a_direction_is_the_papers_where_all_claims_hold_and_opposite_where_one_fails(effects, verdict):
    claims = tuple(CLAIM._replace(better=("made_up", name)) for name in ("first", "second"))
    made = ledgers(first=around(effects[0]), second=around(effects[1]), b=[0.0, 0.0])
    assert judge(Direction("d", "s", claims), made)[0] == verdict


# --- the paper's twelve


def test_there_are_twelve_directions_each_with_its_place_in_the_paper():
    assert len(DIRECTIONS) == len({direction.said for direction in DIRECTIONS}) == 12
    for direction in DIRECTIONS:
        assert direction.claims
        assert re.fullmatch(r"(Fig\. \d|Table \d[a-d]?|Sec\. \d\.\d|App\. [A-E])", direction.source)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{'.'.join(claim.better)} {claim.figure}")
def test_every_claim_is_on_variants_of_the_courses_ledgers_and_a_figure_that_they_have(claim):
    experiments = {experiment.name: experiment for experiment in COURSE}
    for experiment, variant in (claim.better, claim.worse):
        assert variant in experiments[experiment].variants
    assert claim.figure in MEASURED
    assert claim.better != claim.worse


def test_equality_is_within_two_points_and_for_accuracy_only():
    assert EQUIVALENT == 0.02
    equal = [claim for claim in CLAIMS if claim.equal]
    assert len(equal) == 2
    assert all(claim.margin == EQUIVALENT and claim.figure == "knn" for claim in equal)
    assert all(claim.margin == 0 for claim in CLAIMS if not claim.equal)


def test_variants_that_are_compared_have_the_same_budget():
    """Claims across experiments are sound only where both sides had as many passes over the same images."""
    experiments = {experiment.name: experiment for experiment in COURSE}
    for claim in CLAIMS:
        a, b = (experiments[name].recipe(variant, 0) for name, variant in (claim.better, claim.worse))
        assert (a.epochs, experiments[claim.better[0]].data) == (b.epochs, experiments[claim.worse[0]].data)


def as_in_the_paper():
    """Rows in which every claim holds: better is far above worse, or the two are equal."""
    made = {experiment.name: {} for experiment in COURSE}
    for claim in CLAIMS:
        for place in (claim.better, claim.worse):
            made[place[0]].setdefault(place[1], {})
    for _ in range(len(CLAIMS)):  # a chain of claims settles: each better one is put above its worse one
        for claim in CLAIMS:
            better, worse = (made[name][variant] for name, variant in (claim.better, claim.worse))
            low = worse.setdefault(claim.figure, 0.0)
            better[claim.figure] = low if claim.equal else max(better.get(claim.figure, 0.0), low + 1)
    return {
        name: [{"variant": v, **figures} for v, figures in variants.items() for _ in range(3)]
        for name, variants in made.items()
    }


def test_the_claims_contradict_neither_themselves_nor_one_another():
    made = as_in_the_paper()
    assert [judge(direction, made)[0] for direction in DIRECTIONS] == [SAME] * 12
    assert "12 of 12 directions are the paper's." in verdict_table(made)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{'.'.join(claim.better)} {claim.figure}")
def test_turned_round_each_claim_alone_makes_its_direction_opposite(claim):
    made = as_in_the_paper()
    for row in made[claim.better[0]]:
        if row["variant"] == claim.better[1]:
            row[claim.figure] = -100.0
    assert judge(next(d for d in DIRECTIONS if claim in d.claims), made)[0] == OPPOSITE


# --- this course's own claim


def test_the_claim_about_flips_is_none_of_the_papers_and_is_judged_by_the_same_rule():
    digits = ablate.find("digits")
    assert FLIP_HURTS not in DIRECTIONS and "digits" not in {
        name for c in CLAIMS for name, _ in (c.better, c.worse)
    }
    for claim in FLIP_HURTS.claims:
        assert (claim.better, claim.worse) == (("digits", "no_flip"), ("digits", "flip"))
        assert claim.figure in MEASURED and not claim.margin
    assert (
        digits.recipe("flip", 0).differences(digits.recipe("no_flip", 0))
        == "augmentation digits_flip and digits"
    )

    def said(no_flip, flip):
        rows = [{"variant": v, "knn": x, "linear": x}
                for v, values in (("no_flip", no_flip), ("flip", flip)) for x in values]  # fmt: skip
        return own_verdict(FLIP_HURTS, {"digits": rows}).splitlines()

    costs = said([0.95, 0.96], [0.90, 0.91])
    assert costs[0] == "on digits a left-right flip costs accuracy (lesson 09): holds"
    assert costs[1] == "      knn: no_flip - flip = +0.050 ± 0.007 (holds)" and len(costs) == 3
    assert said([0.90, 0.91], [0.95, 0.96])[0].endswith(": the opposite holds")
    assert said([0.90, 0.95], [0.90, 0.96])[0].endswith(f": {OPEN}") and said([], [])[0].endswith(f": {OPEN}")


# --- the table


def test_the_table_has_a_line_for_each_direction_and_each_claim_and_counts():
    made = as_in_the_paper()
    del made["symmetry"], made["dimension"]
    lines = verdict_table(made).splitlines()
    assert len(lines) == 12 + len(CLAIMS) + 1
    heads = [line for line in lines if re.match(r" ?\d+\. ", line)]
    assert [int(line.split(".")[0]) for line in heads] == list(range(1, 13))
    assert all(d.said in line and d.source in line for d, line in zip(DIRECTIONS, heads, strict=True))
    assert [line.rsplit(": ", 1)[1] for line in heads].count(OPEN) == 2
    assert lines[-1] == "10 of 12 directions are the paper's."
    assert "      knn: simsiam - no_stop_gradient = +1.000 ± 0.000 (holds)" in lines


def test_without_any_ledger_nothing_is_resolved():
    assert verdict_table({}).endswith("\n0 of 12 directions are the paper's.")


def test_the_table_of_a_ledger_says_what_judge_says():
    rows = ablate.read_course(ablate.FAILURES)
    verdict, findings = judge(DIRECTIONS[0], {"failures": rows})
    assert verdict == SAME  # the course's premise
    text = verdict_table({"failures": rows})
    for found in findings:
        effect = f"{found.effect:+.3f} ± {found.error:.3f} ({found.verdict})"
        assert f"{found.claim.figure}: simsiam - no_stop_gradient = {effect}" in text
