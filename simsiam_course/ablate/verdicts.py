"""The paper's directions, each held against the ledgers by one rule.

A direction is a list of claims, "the kNN of A is above that of B". For each claim the effect is the difference of the
means over seeds, its standard error that of a difference of two means, and a claim *holds* where the effect is more
than two standard errors on its side of the margin, *fails* where it is so on the other side, and is *open* between. A
direction has the same verdict where all its claims hold, the opposite one where one fails, and else is not resolved.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Rows = Mapping[str, Sequence[Mapping[str, Any]]]  # of each experiment

ERRORS = 2.0  # standard errors that an effect must have
EQUIVALENT = 0.02  # a difference in accuracy that does not matter
NINETY = 1.645  # standard errors to each side: an interval that holds the truth in nine cases of ten
SAME, OPPOSITE, OPEN = "same direction", "opposite", "not resolved"


class Claim(NamedTuple):
    """`figure` of `better` is above that of `worse`, by more than `margin`; variants of one experiment each.

    With `equal` instead: the two differ by less than `margin`, with 90 % confidence.
    """

    figure: str
    better: tuple[str, str]
    worse: tuple[str, str]
    margin: float = 0.0
    equal: bool = False


class Finding(NamedTuple):
    """What the ledgers say of a claim: effect (mean of better - mean of worse), its standard error, and the verdict."""

    claim: Claim
    effect: float
    error: float
    verdict: str


@dataclass(frozen=True)
class Direction:
    """Something that the paper found, where, and the claims that it makes of the miniature."""

    said: str
    source: str
    claims: tuple[Claim, ...]


def _above(figure: str, better: str, worse: str, **rest: Any) -> Claim:
    """A claim on variants written as experiment.variant."""
    a, b = (tuple(name.split(".")) for name in (better, worse))
    return Claim(figure, a, b, **rest)  # type: ignore[arg-type]


DIRECTIONS = (
    Direction("without stop-gradient it collapses", "Fig. 2", (
        _above("knn", "failures.simsiam", "failures.no_stop_gradient"),
        _above("effective_rank", "failures.simsiam", "failures.no_stop_gradient"),
    )),
    Direction("without a predictor it collapses", "Table 1a", (
        _above("knn", "predictor.mlp", "predictor.none"),
        _above("effective_rank", "predictor.mlp", "predictor.none"),
    )),
    Direction("with a predictor that is never trained it fails at a high loss", "Table 1b", (
        _above("knn", "predictor.mlp", "predictor.frozen"),
        _above("loss", "predictor.frozen", "predictor.none"),
        _above("loss", "predictor.frozen", "predictor.mlp"),
    )),
    Direction("a predictor whose rate does not decay learns more", "Table 1c", (
        _above("knn", "decay.constant", "decay.decayed"),
    )),
    Direction("batches of 32, 64 and 128 learn as much", "Table 2", (
        _above("knn", "batch_size.batch_32", "batch_size.batch_64", margin=EQUIVALENT, equal=True),
        _above("knn", "batch_size.batch_128", "batch_size.batch_64", margin=EQUIVALENT, equal=True),
    )),
    Direction("a batch sixteen times as large learns less, with SGD", "Table 2", (
        _above("knn", "batch_size.batch_64", "batch_size.batch_1024"),
    )),
    Direction("without BN in the heads it learns much less, and does not collapse", "Table 3a", (
        _above("knn", "slow_batch_norm.hidden_and_z", "slow_batch_norm.nowhere"),
        _above("effective_rank", "slow_batch_norm.nowhere", "predictor.none"),
    )),
    Direction("with BN on p training is unstable", "Table 3d", (
        _above("wobble", "prediction_bn.with", "prediction_bn.without"),
    )),
    Direction("with cross-entropy it learns, but less", "Sec. 4.5", (
        _above("knn", "similarity.cross_entropy", "predictor.none"),
        _above("knn", "similarity.cosine", "similarity.cross_entropy"),
    )),
    Direction("an asymmetric loss learns less, and two pairs make up for most of it", "Sec. 4.6", (
        _above("knn", "symmetry.symmetric", "symmetry.asymmetric"),
        _above("knn", "symmetry.asymmetric_2x", "symmetry.asymmetric"),
    )),
    Direction("more channels of z learn more", "App. B", (
        _above("knn", "dimension.d_512", "dimension.d_64"),
    )),
    Direction("with a moving average as target it learns without a predictor", "Sec. 5.2", (
        _above("knn", "moving_average.no_h_average", "moving_average.no_h"),
        _above("effective_rank", "moving_average.no_h_average", "moving_average.no_h"),
    )),
)  # fmt: skip


# Not the paper's: a claim of this course, judged by the same rule.
FLIP_HURTS = Direction("on digits a left-right flip costs accuracy", "lesson 09", (
    _above("knn", "digits.no_flip", "digits.flip"),
    _above("linear", "digits.no_flip", "digits.flip"),
))  # fmt: skip


def judge(direction: Direction, ledgers: Rows) -> tuple[str, list[Finding]]:
    """The verdict on a direction and what it rests on. Runs that have no figure count as chance would: not at all."""
    findings = [_find(claim, ledgers) for claim in direction.claims]
    verdicts = [finding.verdict for finding in findings]
    if "fails" in verdicts:
        return OPPOSITE, findings
    return (OPEN if "open" in verdicts else SAME), findings


def _find(claim: Claim, ledgers: Rows) -> Finding:
    a, b = (_values(ledgers, place, claim.figure) for place in (claim.better, claim.worse))
    if len(a) < 2 or len(b) < 2:
        return Finding(claim, math.nan, math.nan, "open")
    effect = statistics.fmean(a) - statistics.fmean(b)
    error = math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
    if claim.equal:
        inside = abs(effect) + NINETY * error < claim.margin
        outside = abs(effect) - ERRORS * error > claim.margin
        return Finding(claim, effect, error, "holds" if inside else "fails" if outside else "open")
    distance = effect - claim.margin
    holds, fails = distance > ERRORS * error, distance < -ERRORS * error
    return Finding(claim, effect, error, "holds" if holds else "fails" if fails else "open")


def _values(ledgers: Rows, place: tuple[str, str], figure: str) -> list[float]:
    experiment, variant = place
    found = [row.get(figure) for row in ledgers.get(experiment, ()) if row["variant"] == variant]
    return [value for value in found if value is not None and math.isfinite(value)]


def effects(findings: Sequence[Finding]) -> list[str]:
    """A line for each finding: what was compared, the effect with its standard error, the verdict."""
    return [
        f"      {finding.claim.figure}: {finding.claim.better[1]} - {finding.claim.worse[1]} = "
        f"{finding.effect:+.3f} ± {finding.error:.3f} ({finding.verdict})"
        for finding in findings
    ]


def verdict_table(ledgers: Rows) -> str:
    """All directions as plain text: what the paper found, our effects with their standard errors, the verdict."""
    lines = []
    for i, direction in enumerate(DIRECTIONS, 1):
        verdict, findings = judge(direction, ledgers)
        lines += [f"{i:>2}. {direction.said} ({direction.source}): {verdict}", *effects(findings)]
    same = sum(judge(direction, ledgers)[0] == SAME for direction in DIRECTIONS)
    return "\n".join([*lines, f"{same} of {len(DIRECTIONS)} directions are the paper's."])


def own_verdict(direction: Direction, ledgers: Rows) -> str:
    """A claim of this course's own as plain text: its effects with their standard errors, and what becomes of it."""
    verdict, findings = judge(direction, ledgers)
    becomes = {SAME: "holds", OPPOSITE: "the opposite holds", OPEN: OPEN}[verdict]
    return "\n".join([f"{direction.said} ({direction.source}): {becomes}", *effects(findings)])
