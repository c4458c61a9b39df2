"""Lesson 05: right answers pass in any style, wrong ones never do; the six runs show what is said of them."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from answers import both_tests
from torch import nn

from simsiam_course import collapse
from simsiam_course.collapse import diagnose
from simsiam_course.exercises import checks_for
from simsiam_course.exercises.collapse import (
    CONTRADICTIONS,
    EFFECTIVE_RANK,
    NAME_THAT_FAILURE,
    NAMES,
    STD,
    contradiction,
    name_that_failure,
    unlabelled,
)
from simsiam_course.exercises.core import judge


def unit(z):
    return z / z.norm(dim=1, keepdim=True)


# ---- 5.1 std


def std_of_numpy(z):
    u = z.detach().cpu().numpy()
    u = u / np.linalg.norm(u, axis=1, keepdims=True)
    return np.mean(np.std(u, axis=0)) * np.sqrt(u.shape[1])


def std_by_moments(z):
    u = unit(z.double())
    variance = u.square().mean(dim=0) - u.mean(dim=0).square()
    return variance.clamp(min=0).sqrt().mean() * math.sqrt(z.size(1))


def std_by_loops(z):
    rows = [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in z.tolist()]
    channels = list(zip(*rows, strict=True))
    return sum(statistics.pstdev(channel) for channel in channels) / len(channels) * len(channels) ** 0.5


def std_scaled_first(z):
    """Each row of length sqrt(d): the factor is in it."""
    n, d = z.shape
    return (F.normalize(z, dim=1) * d**0.5).var(dim=0, unbiased=False).sqrt().sum().div(d)


def std_corrected_by_hand(z):
    n = len(z)
    return F.normalize(z).std(0).mean().mul(math.sqrt((n - 1) / n * z.shape[1])).item()


def std_by_distance(z):
    u = torch.einsum("nd,n->nd", z, z.pow(2).sum(1).rsqrt())
    off = u - u.mean(0, keepdim=True)
    return torch.linalg.vector_norm(off, dim=0).mean() / len(z) ** 0.5 * z.shape[1] ** 0.5


class StdModule(nn.Module):
    def forward(self, z):
        spread, _ = torch.std_mean(nn.functional.normalize(z, p=2.0, dim=-1), dim=0, correction=0)
        return torch.sqrt(torch.tensor(float(z.shape[-1]))).to(z.device) * spread.mean()


STDS = [
    collapse.std,
    std_of_numpy,
    std_by_moments,
    std_by_loops,
    std_scaled_first,
    std_corrected_by_hand,
    std_by_distance,
    StdModule(),
    lambda z, eps=1e-12: (
        float(F.normalize(z, dim=1, eps=eps).std(dim=0, correction=0).mean()) * z.shape[1] ** 0.5
    ),
    lambda z: (
        torch.stack([unit(z)[:, j].std(correction=0) for j in range(z.shape[1])]).mean() * z.shape[1] ** 0.5
    ),
    lambda z: (unit(z.T.clone().T).T.std(dim=1, correction=0)).mean().item() * math.sqrt(z.shape[1]),
]


def std_in_place(z):
    z /= z.norm(dim=1, keepdim=True)
    return z.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5


WRONG_STDS = [
    std_in_place,
    lambda z: collapse.std(z) + 0.01,
    lambda z: min(1.0, collapse.std(z) * 1.01),
    lambda z: torch.tensor([collapse.std(z)]),
    lambda z: str(collapse.std(z)),
    lambda z: collapse.std(z[:-1]),
    lambda z: collapse.std(z[:, :-1]),
    lambda z: collapse.std(z - z.mean(dim=0)),
    lambda z: collapse.std(z.abs()),
    lambda z: unit(z).std(dim=0, correction=0).median() * z.shape[1] ** 0.5,
    lambda z: unit(z).std(dim=0, correction=0).min() * z.shape[1] ** 0.5,
    lambda z: unit(z).std(dim=0, correction=0).mean() * 64**0.5,
    lambda z: unit(z).var(dim=0, correction=0).sum(),
    lambda z: 1.0,
    lambda z: 1 - unit(z).mean(dim=0).norm(),
    lambda z: (unit(z).std(dim=0, correction=0) + torch.zeros(z.shape[1])).mean() * z.shape[1] ** 0.5,
    lambda z, p: collapse.std(z),
    lambda z: round(collapse.std(z), 2),
    lambda z: collapse.std(z.half()) if z.dtype == torch.float64 else collapse.std(z) * 0.999,
]


# ---- 5.2 effective_rank


def shares_by_covariance(z):
    u = unit(z.double())
    values = torch.linalg.eigvalsh(torch.cov(u.T, correction=0)).clamp(min=0)
    return values / values.sum()


def rank_by_covariance(z):
    if std_by_moments(z) < 0.05:
        return 1.0
    q = shares_by_covariance(z)
    return torch.distributions.Categorical(probs=q).entropy().exp()


def rank_of_numpy(z):
    u = z.detach().cpu().numpy()
    u = u / np.linalg.norm(u, axis=1, keepdims=True)
    if u.std(axis=0).mean() * u.shape[1] ** 0.5 <= 0.05:
        return 1
    s = np.linalg.svd(u - u.mean(axis=0), compute_uv=False) ** 2
    q = s[s > 0] / s.sum()
    return np.exp(-np.sum(q * np.log(q)))


def rank_by_loops(z):
    if collapse.std(z) < 0.05:
        return torch.ones(())
    u = F.normalize(z, dim=1)
    entropy = 0.0
    values = torch.linalg.svdvals(u - u.mean(0)) ** 2
    for share in (values / values.sum()).tolist():
        if share > 0:
            entropy -= share * math.log(share)
    return math.exp(entropy)


def rank_in_bits(z):
    if collapse.std(z) < 0.05:
        return 1.0
    s2 = torch.linalg.svd(unit(z) - unit(z).mean(0), full_matrices=False).S.square()
    q = s2 / s2.sum()
    return 2 ** -(q * (q + 1e-12).log2()).sum()


def rank_by_gram(z):
    u = F.normalize(z.double(), dim=1)
    u = u - u.mean(dim=0, keepdim=True)
    if u.square().mean(dim=0).sqrt().mean() * u.shape[1] ** 0.5 < 0.05:
        return 1.0
    q = torch.linalg.eigvalsh(u @ u.T).clamp(min=1e-15)
    q = q / q.sum()
    return torch.exp(-torch.xlogy(q, q).sum()).float()


def rank_as_a_product(z):
    """exp of the entropy is the product of q ** -q."""
    return 1.0 if collapse.std(z) < 0.05 else collapse.spectrum(z).pow(-collapse.spectrum(z)).prod().item()


def rank_by_a_mask(z):
    u = F.normalize(z, dim=1)
    s2 = torch.linalg.svdvals(u - u.mean(dim=0)).pow(2)
    q = s2 / s2.sum().clamp(min=1e-30)
    found = torch.special.entr(q).sum().exp()
    return torch.where(torch.tensor(std_scaled_first(z).item() < 0.05), torch.ones_like(found), found)


class Rank:
    def __call__(self, z, limit=0.05):
        return (
            1.0 if std_by_distance(z) < limit else torch.special.entr(collapse.spectrum(z.cpu())).sum().exp()
        )


RANKS = [
    collapse.effective_rank, rank_by_covariance, rank_of_numpy, rank_by_loops, rank_in_bits, rank_by_gram,
    rank_as_a_product, rank_by_a_mask, Rank(), lambda z: max(1.0, rank_of_numpy(z)), lambda z: rank_by_gram(z.clone()),
]  # fmt: skip


def rank_in_place(z):
    z -= 0 * z.mean(dim=0)
    z *= 2
    return collapse.effective_rank(z)


def rank_made_elsewhere(z):
    n = len(z)
    centre = torch.eye(n) - torch.ones(n, n) / n
    return 1.0 if collapse.std(z) < 0.05 else rank_of_centred(centre.to(z.dtype) @ unit(z))


def rank_of_centred(u):
    s2 = torch.linalg.svdvals(u).square()
    return torch.special.entr(s2 / s2.sum()).sum().exp()


def rank_below(limit):
    """Another threshold, or another spread that is held against it."""
    return lambda z: 1.0 if collapse.std(z) < limit else rank_of_centred(unit(z) - unit(z).mean(0))


def rank_without_root(z):
    return 1.0 if unit(z).std(dim=0).mean() < 0.05 else rank_of_centred(unit(z) - unit(z).mean(0))


def rank_with_one_std(z):
    return 1.0 if unit(z).std() < 0.05 else rank_of_centred(unit(z) - unit(z).mean(0))


def rank_without_clamp(z):
    if collapse.std(z) < 0.05:
        return 1.0
    values = torch.linalg.eigvalsh(torch.cov(F.normalize(z, dim=1).T))
    return torch.special.entr(values / values.sum()).sum().exp().item()


WRONG_RANKS = [
    rank_with_one_std, rank_without_clamp, rank_below(0.02), rank_below(0.1), rank_below(0.18), rank_without_root,
    rank_in_place, rank_made_elsewhere,
    lambda z: collapse.effective_rank(z) + 0.01,
    lambda z: collapse.effective_rank(z) - 1,
    lambda z: collapse.effective_rank(z[:-1]),
    lambda z: collapse.effective_rank(z - z.mean(dim=0)),
    lambda z: collapse.effective_rank(z.abs()),
    lambda z: round(collapse.effective_rank(z)),
    lambda z: torch.linalg.matrix_rank(z).float(),
    lambda z: rank_of_centred(unit(z) - unit(z).mean(0)),
    lambda z: float("nan") if collapse.std(z) < 0.05 else collapse.effective_rank(z),
    lambda z: 1.0 if collapse.std(z) < 1e-5 else rank_of_centred(unit(z) - unit(z).mean(0)),
    lambda z: 1.0 if collapse.std(z) < 0.05 else rank_of_centred(unit(z)),
    lambda z: 1.0 if collapse.std(z) < 0.05 else rank_of_centred(z - z.mean(0)),
    lambda z: 1.0 if collapse.std(z) < 0.05 else 1 / collapse.spectrum(z).max().item(),
    lambda z: 1.0 if collapse.std(z) < 0.05 else 1 / collapse.spectrum(z).square().sum().item(),
    lambda z: math.exp(-(collapse.spectrum(z) * collapse.spectrum(z).log()).sum()),
    collapse.spectrum,
    lambda z: [collapse.effective_rank(z)],
    lambda z: min(collapse.effective_rank(z), 4.0),
    lambda z: collapse.effective_rank(z) if len(z) > z.shape[1] else float(len(z)),
]  # fmt: skip


# ---- 5.3 name_that_failure


def answers(**changed):
    return {**name_that_failure(), **changed}


GUESSES = [
    name_that_failure,
    lambda: dict(reversed(name_that_failure().items())),
    lambda: {run: name.upper() for run, name in name_that_failure().items()},
    lambda: {run: f" {name.replace(' ', '_')} " for run, name in name_that_failure().items()},
    lambda: answers(G="healthy"),
    lambda: {run: diagnose({"history": history}).name for run, history in unlabelled().items()},
]
WRONG_GUESSES = [
    lambda: {},
    lambda: {"A": "healthy"},
    lambda: list(name_that_failure().values()),
    lambda: "healthy",
    lambda: answers(B=None),
    lambda: answers(B=...),
    lambda: answers(C="collapsed"),
    lambda: answers(C=3),
    lambda: {run.lower(): name for run, name in name_that_failure().items()},
    lambda: dict.fromkeys("ABCDEF", "healthy"),
    lambda: dict(zip("ABCDEF", sorted(name_that_failure().values()), strict=True)),
    lambda runs: name_that_failure(),
]

test_a_right_answer_in_another_style_passes, test_a_wrong_answer_never_passes = both_tests(
    (STD, STDS, WRONG_STDS),
    (EFFECTIVE_RANK, RANKS, WRONG_RANKS),
    (NAME_THAT_FAILURE, GUESSES, WRONG_GUESSES),
)

SAID = [
    (EFFECTIVE_RANK, rank_with_one_std, "The std of all numbers at once"),
    (EFFECTIVE_RANK, rank_without_clamp, "Rounding makes an eigenvalue of 0"),
    (EFFECTIVE_RANK, rank_below(0.03), "The threshold of std is too low"),
    (EFFECTIVE_RANK, rank_below(0.3), "The threshold of std is too high"),
    (EFFECTIVE_RANK, rank_without_root, "The factor sqrt(d) is missing"),
]


@pytest.mark.parametrize(("exercise", "function", "words"), SAID)
def test_a_wrong_answer_is_told_its_cause(exercise, function, words):
    verdict = judge(exercise, function)
    assert verdict.cause.startswith(words), (verdict.message, verdict.yours)


def test_a_card_says_what_contradicts_a_wrong_name_and_gives_no_answer_away():
    check = checks_for("05")
    for run, right in name_that_failure().items():
        for wrong in set(NAMES) - {right}:
            verdict = judge(NAME_THAT_FAILURE, lambda run=run, wrong=wrong: answers(**{run: wrong}))
            assert (verdict.yours, verdict.cause) == (wrong, contradiction(run, wrong))
            assert right not in verdict.expected
    assert check.name_that_failure(lambda: answers(A="healthy")) is name_that_failure


def test_the_first_wrong_name_is_told_about_first():
    verdict = judge(NAME_THAT_FAILURE, lambda: dict.fromkeys("ABCDEF", "healthy"))
    assert verdict.cause == contradiction("A", "healthy")


# ---- the six runs: what the sentences say is to be seen in the curves


@pytest.mark.parametrize("run", name_that_failure())
def test_diagnose_agrees_with_the_right_name(run):
    assert diagnose({"history": unlabelled()[run]}).name == name_that_failure()[run]


def column(run, name):
    return [row[name] for row in unlabelled()[run] if row.get(name) is not None]


def test_each_name_is_right_once_and_every_wrong_one_has_its_sentence():
    assert sorted(name_that_failure().values()) == sorted(NAMES)
    assert {right: set(said) for right, said in CONTRADICTIONS.items()} == {
        n: set(NAMES) - {n} for n in NAMES
    }


def test_the_curves_show_what_the_sentences_say():
    run = {name: letter for letter, name in name_that_failure().items()}
    last = {
        name: {c: column(r, c)[-1] for c in ("loss", "std", "effective_rank", "step")}
        for name, r in run.items()
    }
    assert last["healthy"]["loss"] < -0.7 and last["healthy"]["std"] > 0.9
    assert last["healthy"]["effective_rank"] > 4
    assert last["complete collapse"]["std"] < 0.05 and last["complete collapse"]["loss"] < -0.95
    line = last["dimensional collapse"]
    assert line["std"] > 0.2 and line["effective_rank"] < 1.6 and line["loss"] < -0.6
    calm = last["not learning"]
    assert calm["loss"] > -0.4 and calm["std"] > 0.5 and calm["effective_rank"] > 2
    tail = column(run["not learning"], "loss")[-8:]
    assert max(tail) - min(tail) < 0.15
    assert last["too short"]["step"] < 100 and last["too short"]["effective_rank"] > 1.5
    short = column(run["too short"], "loss")
    assert short[-1] < short[0] - 0.05 and short[-1] > -0.6 and min(column(run["too short"], "std")) > 0.5
    assert max(last[name]["step"] for name in NAMES) > 400


def test_the_loss_of_a_diverged_run_jumps_about_late_in_the_run():
    (run,) = (letter for letter, name in name_that_failure().items() if name == "diverged")
    late = column(run, "loss")[len(column(run, "loss")) // 2 :]
    assert max(late) - min(late) > 0.4 and max(late) > -0.3
