"""Checks tell right from wrong: reference and solution pass, each known wrong answer gets its own sentence."""

from __future__ import annotations

import importlib
import re
import time
from dataclasses import replace

import pytest
import torch

from simsiam_course import exercises
from simsiam_course.errors import InputError
from simsiam_course.exercises import WrongAnswer, checks_for
from simsiam_course.exercises.core import as_found, elsewhere, judge, told_apart
from simsiam_course.exercises.solution import source

ALL = [
    exercise
    for module in exercises.MODULES.values()
    for exercise in importlib.import_module(f"simsiam_course.exercises.{module}").EXERCISES
]
KNOWN = [(exercise, suspect) for exercise in ALL for suspect in exercise.suspects]


def name(exercise) -> str:
    return exercise.name


def from_text(code: str, function: str):
    """What a cell that holds this code defines."""
    space: dict = {}
    exec(code, space)  # noqa: S102
    return space[function]


@pytest.mark.parametrize("exercise", ALL, ids=name)
def test_the_reference_passes(exercise):
    verdict = judge(exercise, exercise.reference)
    assert verdict.status == "passed", (verdict, verdict.yours, verdict.expected)


@pytest.mark.parametrize("exercise", ALL, ids=name)
def test_the_solution_that_is_shown_runs_by_itself_and_passes(exercise):
    code = source(exercise.solution or exercise.reference, exercise.name)
    verdict = judge(exercise, from_text(code, exercise.name))
    assert verdict.status == "passed", (code, verdict, verdict.yours)


@pytest.mark.parametrize(("exercise", "suspect"), KNOWN, ids=[f"{e.name}-{s.says[:40]}" for e, s in KNOWN])
def test_a_known_wrong_answer_gets_its_own_sentence(exercise, suspect):
    verdict = judge(exercise, suspect.function)
    assert (verdict.status, verdict.cause) == ("failed", suspect.says), (verdict.message, verdict.yours)


@pytest.mark.parametrize("exercise", ALL, ids=name)
def test_there_are_at_least_five_known_wrong_answers_and_each_has_a_sentence_of_its_own(exercise):
    said = [suspect.says for suspect in exercise.suspects]
    assert len(said) >= 5 and len(set(said)) == len(said)
    assert all(sentence.endswith((".", "?")) for sentence in said)


# ---- the machinery


def stub(p, z):
    """A sentence."""
    ...


def empty(p, z):
    pass


def dots(p, z):
    return ...


def half_done(p, z):
    p = p * 2
    return ...


@pytest.fixture
def check():
    return checks_for("03")


@pytest.mark.parametrize("function", [stub, empty, dots, half_done, lambda p, z: None, None, ...])
def test_what_was_not_attempted_goes_on_with_the_reference_even_in_strict_mode(
    check, function, monkeypatch, capsys
):
    monkeypatch.setenv("SIMSIAM_CHECKS", "strict")
    assert check.negative_cosine(function) is exercises.loss.NEGATIVE_COSINE.reference
    assert check.results["3.1"].status == "not attempted"
    assert "Going on with the reference." in capsys.readouterr().out


def test_a_right_answer_comes_back_and_a_wrong_one_is_replaced(check, capsys):
    right, wrong = lambda p, z: -torch.cosine_similarity(p, z.detach()).mean(), lambda p, z: 3
    assert check.negative_cosine(right) is right
    assert check.results["3.1"].status == "passed" and "passed" in capsys.readouterr().out
    assert check.negative_cosine(wrong) is exercises.loss.NEGATIVE_COSINE.reference
    assert check.results["3.1"].status == "failed"
    said = capsys.readouterr().out
    assert "not yet" in said and "Yours: 3" in said and "Expected: a tensor of shape ()" in said


def test_the_card_shows_the_students_own_numbers_and_the_likely_cause(check, capsys):
    check.negative_cosine(lambda p, z: torch.cosine_similarity(p, z.detach()).mean())
    said = capsys.readouterr().out
    yours, expected = (float(re.search(rf"{word}: ([-.0-9]+)", said)[1]) for word in ("Yours", "Expected"))
    assert yours == -expected > 0 and "The minus is missing." in said


def test_strict_mode_raises_on_what_is_wrong_with_the_sentence(check, monkeypatch):
    monkeypatch.setenv("SIMSIAM_CHECKS", "strict")
    with pytest.raises(WrongAnswer, match=r"3\.1 negative_cosine: .*The minus is missing"):
        check.negative_cosine(lambda p, z: torch.cosine_similarity(p, z.detach()).mean())


def wrong_sign(p, z: torch.Tensor) -> torch.Tensor:
    """The exhibit."""
    cosine = torch.cosine_similarity(p, z.detach())
    return cosine.mean()


def as_shown(p, z):
    # a comment, and no docstring
    cosine = torch.cosine_similarity(p, z.detach())
    return cosine.mean()


def half_repaired(p, z):
    cosine = torch.cosine_similarity(p, z.detach())
    return -cosine.sum()


a_lambda = lambda p, z: torch.cosine_similarity(p, z.detach()).mean()  # noqa: E731


class AClass:
    def __call__(self, p, z):
        return torch.cosine_similarity(p, z.detach()).mean()


def test_an_exhibit_is_red_and_no_attempt_until_somebody_changes_it(monkeypatch, capsys):
    monkeypatch.setenv("SIMSIAM_CHECKS", "strict")
    exercise = replace(exercises.loss.NEGATIVE_COSINE, exhibit=wrong_sign)
    check = exercises.Checks([exercise])
    for untouched in (wrong_sign, as_shown):
        assert check.negative_cosine(untouched) is exercise.reference
        assert check.results["3.1"].status == "failed" and "✘" in capsys.readouterr().out
    text = "def f(p, z):\n    return 3"
    for changed in (half_repaired, a_lambda, AClass(), AClass, from_text(text, "f"), lambda p, z: 3, 3):
        with pytest.raises(WrongAnswer):
            check.negative_cosine(changed)
    assert not as_found(exercises.loss.NEGATIVE_COSINE, wrong_sign)


def test_an_error_in_the_answer_is_a_card_and_no_traceback(check, capsys):
    check.negative_cosine(lambda p, z: p @ z)
    assert "RuntimeError" in capsys.readouterr().out and check.results["3.1"].status == "failed"


def test_a_wrong_number_of_arguments_is_told(check, capsys):
    check.negative_cosine(lambda p: p)
    assert "takes 1 positional argument" in capsys.readouterr().out


@pytest.mark.parametrize("thing", [3, "text", torch.ones(2)])
def test_what_is_no_function_is_a_card(check, thing, capsys):
    check.negative_cosine(thing)
    assert check.results["3.1"].status == "failed" and "expected a function" in capsys.readouterr().out


def test_an_answer_without_an_end_is_stopped():
    def endless(p, z):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                continue

    verdict = judge(exercises.loss.NEGATIVE_COSINE, endless, seconds=0.3)
    assert verdict.status == "failed" and "more than 0.3 seconds" in verdict.message


def test_a_check_leaves_the_random_numbers_as_they_were(check):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check.negative_cosine(lambda p, z: -torch.cosine_similarity(p, z.detach()).mean() + 0 * torch.rand(()))
    assert torch.equal(torch.rand(2), expected)


def test_the_solution_comes_after_three_hints(check, capsys):
    for i in (1, 2, 3):
        check.solution("3.1")
        said = capsys.readouterr().out
        assert f"Hint {i} of 3" in said and "def negative_cosine" not in said
    check.solution("3.1")
    assert "def negative_cosine" in capsys.readouterr().out


def test_who_has_passed_sees_the_solution_at_once(check, capsys):
    check.negative_cosine(lambda p, z: -torch.cosine_similarity(p, z.detach()).mean())
    check.solution("3.1")
    assert "def negative_cosine" in capsys.readouterr().out


def test_progress_and_whose_say_where_one_stands(check, capsys):
    check.negative_cosine(lambda p, z: -torch.cosine_similarity(p, z.detach()).mean())
    capsys.readouterr()
    check.progress()
    said = capsys.readouterr().out
    assert "3.1  negative_cosine" in said and "1 of 4 passed." in said
    assert (
        check.whose("negative_cosine", "symmetric_loss")
        == "your negative_cosine, the reference symmetric_loss"
    )


def test_unknown_names_are_told(check):
    with pytest.raises(AttributeError, match="no exercise 'cosine' here: choose one of negative_cosine"):
        check.cosine(len)
    with pytest.raises(InputError, match="no exercise '9.9'"):
        check.solution("9.9")
    with pytest.raises(InputError, match="no exercises for lesson '77'"):
        checks_for("77")


def test_a_card_in_a_notebook_shows_code_as_code_and_escapes_the_rest():
    html = exercises.Card(
        "failed", "3.1 `f`: not yet.", (("Yours", "<b>"), ("", "use `dim=1`"))
    )._repr_html_()
    assert "<code>f</code>" in html and "&lt;b&gt;" in html and "<code>dim=1</code>" in html


def test_yours_and_expected_are_short_and_never_read_alike():
    assert told_apart(0.12345678, 0.2) == ("0.1235", "0.2")
    assert told_apart(0.12345678, 0.12345679) == ("0.12345678", "0.12345679")
    many, other = [[0.5, 0.25]] * 40, [[0.25, 0.5]] * 40
    yours, expected = told_apart(many, other)
    assert len(yours) < 150 and yours.endswith("... (40 in all)]") and yours != expected
    yours, expected = told_apart(many, [*many[:-1], [0.5, 0.75]])
    assert yours != expected and expected.endswith("[0.5, 0.75]]")
    assert len(set(told_apart(torch.zeros(40), torch.eye(40)[-1]))) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda c: c @ torch.eye(4),
        lambda c: torch.eye(4) @ c,
        lambda c: c.mm(torch.eye(4)),
        lambda c: torch.einsum("ij,jk->ik", c, torch.eye(4)),
        lambda c: torch.nn.functional.linear(c, torch.eye(4)),
    ],
)
def test_a_product_of_two_devices_is_an_error_though_meta_lets_it_pass(function):
    assert elsewhere(function, torch.randn(4, 4)) == "an error about devices"
