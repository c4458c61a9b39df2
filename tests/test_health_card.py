"""The health card says what `diagnose` says, on what it rests, and never by colour alone."""

from __future__ import annotations

import pytest

from simsiam_course.collapse import HEALTHY, RULES, Diagnosis, checklist, diagnose
from simsiam_course.errors import InputError
from simsiam_course.widgets import health_card

GOOD = {"loss": -0.9, "std": 0.98, "effective_rank": 12.0, "dim": 256, "steps": 1280}
ACCURATE = {"knn": 0.7, "raw_pixels_knn": 0.37, "random_backbone_knn": 0.71}
CASES = {
    "green": (GOOD, "✓", "Healthy"),
    "red": ({**GOOD, "std": 0.01, "effective_rank": 1.0, "loss": -1.0}, "✕", "Complete collapse"),
    "amber": ({**GOOD, "steps": 20}, "!", "Too short"),
}


@pytest.mark.parametrize("lit", CASES)
def test_the_light_is_that_of_the_diagnosis_in_symbol_and_words(lit):
    measurements, symbol, name = CASES[lit]
    card = health_card("mine", measurements, images="20 pictures")
    assert card.diagnosis == diagnose(measurements) and card.diagnosis.light == lit
    assert repr(card).startswith(f"mine (20 pictures): {symbol} {lit}. {name}: ")
    assert card.diagnosis.advice in repr(card)
    html = card._repr_html_()
    assert f"<b>{symbol} {name}</b>" in html and html.count(">✓</span>") == (lit == "green")


def test_every_name_of_a_diagnosis_has_a_light():
    lights = {rule.name: Diagnosis(rule.name, "", "").light for rule in RULES}
    assert {name for name, light in lights.items() if light == "green"} == {"healthy"}
    assert {name for name, light in lights.items() if light == "red"} == {
        "diverged", "complete collapse", "dimensional collapse",
    }  # fmt: skip


def test_the_rows_are_the_conditions_of_health_and_mark_what_does_not_hold():
    rows = health_card("mine", {**GOOD, "std": 0.4, "loss": None}).rows
    assert len(rows) == len(HEALTHY.conditions) + 1
    assert [(mark, what, here) for mark, what, here, _ in rows] == [
        (None, "loss of two views", "not known"), (False, "std of z", "0.40"),
        (True, "effective rank of z", "12.00"), (None, "kNN accuracy", "not known"),
    ]  # fmt: skip
    assert rows[1][3] == "at least 0.5" and rows[3][3] == "needs labels of two classes"


def test_a_narrow_z_needs_no_high_rank():
    items = {item.fact: item for item in checklist({**GOOD, "effective_rank": 2.5, "dim": 3})}
    assert items["effective_rank"].wanted == "at least 2.25" and items["effective_rank"].holds
    assert not {item.fact: item for item in checklist({**GOOD, "effective_rank": 2.5})}[
        "effective_rank"
    ].holds


def test_accuracy_is_held_against_both_baselines_and_is_no_part_of_the_diagnosis():
    card = health_card("mine", GOOD | ACCURATE)
    assert card.rows[-2:] == (
        (True, "kNN accuracy", "70.0%", "above raw pixels: 37.0%"),
        (False, "kNN accuracy", "70.0%", "above a random backbone: 71.0%"),
    )
    assert card.diagnosis == health_card("mine", GOOD).diagnosis
    assert repr(card).count("\n") == 1 + len(card.rows)


def test_a_title_is_text_and_a_word_for_a_number_is_refused():
    assert "<b>x" not in health_card("<b>x", GOOD)._repr_html_().split("✓")[0]
    with pytest.raises(InputError, match="std is 'high'"):
        health_card("mine", {**GOOD, "std": "high"})
