"""Has it collapsed?  Numbers computed on z, and a name for what they show.

A Siamese network can make its loss perfect by answering the same for every image. The loss cannot show
that, so three numbers are watched beside it, the first two on z/|z|, the projections without their length:

    std             how far the outputs spread         1 healthy, 0 constant   blind to outputs on a line
    effective_rank  in how many directions they do     1 a point or a line     blind to what directions mean
    kNN accuracy    whether images of a class are near                         needs labels (evaluate.py)

`diagnose` reads such numbers, and the history of a run, and answers with a name, its evidence and what to do.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from numbers import Real
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError

CONSTANT = 0.05  # std below this: only rounding noise is left between the outputs


def unit_rows(z: Tensor, name: str = "z") -> Tensor:
    """z/|z|, row by row, in float32 or better.

    z: (N, D) -> (N, D); a row of zeros has no direction and stays zero. InputError unless z is a finite,
    floating (N, D) matrix with N >= 2. Each row is first divided by its largest entry, so that no square
    over- or underflows.
    """
    if not isinstance(z, Tensor) or z.ndim != 2 or not z.is_floating_point():
        got = f"{z.dtype} of shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
        raise InputError(
            f"{name} is {got}, expected floating numbers (N, D): pass the projections of N images."
        )
    if z.shape[0] < 2 or z.shape[1] < 1:
        raise InputError(f"{name} has shape {tuple(z.shape)}, expected at least two rows: pass more images.")
    if not z.isfinite().all():
        raise InputError(
            f"{name} holds NaN or infinity, expected finite numbers: the run has diverged, "
            "so lower its learning rate."
        )
    z = z.detach().to(torch.promote_types(z.dtype, torch.float32))
    largest = z.abs().amax(dim=1, keepdim=True)  # (N, 1)
    return F.normalize(z / largest.masked_fill(largest == 0, 1), dim=1)  # (N, D)


def std(z: Tensor) -> float:
    """Spread of the outputs: mean over channels of the standard deviation of z/|z|, times sqrt(D).

    z: (N, D) -> from 0 (all outputs equal) to 1. InputError as in `unit_rows`. Section 4.1 and Fig. 2 of the
    SimSiam paper, which plots it without the factor (1/sqrt(D) is healthy there). The deviation is the
    population's (divided by N, not N - 1), because then 1 is the exact upper bound, whatever N.
    """
    return _std(unit_rows(z))


def _std(u: Tensor) -> float:
    return u.std(dim=0, correction=0).mean().item() * math.sqrt(u.shape[1])


def spectrum(z: Tensor) -> Tensor:
    """Share of the variance of z/|z| along each principal direction, largest first.

    z: (N, D) -> (min(N, D),) float64 on the CPU, >= 0, sum 1: s^2 / sum s^2, s the singular values of z/|z|
    minus its mean. (1, 0, 0, ...) by definition where std < .05, or the shares of rounding noise would be
    shown as structure. InputError as in `unit_rows`. s^2 are the eigenvalues of the smaller of the two Gram
    matrices, taken in float64: many times faster than singular values and as accurate.
    """
    u = unit_rows(z)
    shares = torch.zeros(min(u.shape), dtype=torch.float64)
    shares[0] = 1.0
    if _std(u) < CONSTANT:
        return shares
    u = u.double() if u.device.type != "mps" else u.cpu().double()  # mps has no float64
    u = u - u.mean(dim=0)
    gram = u @ u.T if u.shape[0] <= u.shape[1] else u.T @ u  # (m, m), m = min(N, D)
    s2 = torch.linalg.eigvalsh(gram.cpu()).flip(0).clamp(min=0)  # (m,)
    return s2 / s2.sum()


def effective_rank(z: Tensor) -> float:
    """In how many directions the outputs spread: exp of the entropy of the spectrum.

    z: (N, D) -> from 1 (a line) to min(N - 1, D); 1.0 by definition where std < .05. InputError as in
    `unit_rows`. Roy & Vetterli (2007) take the entropy of s / sum s; here it is that of s^2 / sum s^2, the
    shares of the variance, which a tail of small singular values moves less.
    """
    return torch.special.entr(spectrum(z)).sum().exp().item()


def alignment(z1: Tensor, z2: Tensor) -> float:
    """Mean squared distance between the two views of one image, on the unit sphere.

    z1, z2: (N, D), row i of both from image i -> from 0 (views agree) to 4. InputError as in `unit_rows`, or
    where the shapes differ. Wang & Isola (2020), alpha = 2. A collapsed network has 0: read it beside
    `uniformity`.
    """
    u1, u2 = unit_rows(z1, "z1"), unit_rows(z2, "z2")
    if u1.shape != u2.shape:
        raise InputError(
            f"z1 has shape {tuple(u1.shape)} and z2 {tuple(u2.shape)}, expected the same twice: "
            "pass the two views of the same images."
        )
    return (u1 - u2).square().sum(dim=1).mean().item()


def uniformity(z: Tensor) -> float:
    """How evenly the outputs fill the sphere: log of the mean of exp(-2 |u_i - u_j|^2) over all pairs i < j.

    z: (N, D) -> from 0 (all outputs equal) down to about -4 (evenly spread). InputError as in `unit_rows`.
    Wang & Isola (2020), t = 2. Memory grows with N^2: a few thousand rows are plenty.
    """
    return torch.pdist(unit_rows(z)).square().mul(-2).exp().mean().log().item()


LIGHTS = {"healthy": "green", "too short": "amber", "not learning": "amber", "unknown": "amber"}  # else red


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """A name for what the numbers show, the numbers that show it, and what to do; its repr says all three."""

    name: str
    evidence: str
    advice: str

    @property
    def light(self) -> str:
        """As a traffic light: green for healthy, amber where nothing is proved, red for a failure."""
        return LIGHTS.get(self.name, "red")

    def __repr__(self) -> str:
        return f"{self.name[0].upper()}{self.name[1:]}: {self.evidence}. {self.advice}"


@dataclass(frozen=True)
class Rule:
    """One line of the table: the name of a run if each condition (fact, comparison, threshold) holds."""

    name: str
    meaning: str
    conditions: tuple[tuple[str, str, float], ...]
    advice: str


# The facts that conditions speak of, in words. The last four are read off the history.
FACTS = {
    "loss": "the loss",
    "std": "std",
    "effective_rank": "the effective rank",
    "not_finite": "the count of NaN or infinite values",
    "steps": "the number of steps",
    "fall": "the fall of the loss from the third quarter of the run to the last",
    "rise": "the rise of the loss from its best quarter to the last",
    "level": "the mean of the loss over the last quarter",
    "swing": "the swing of the loss (highest minus lowest) within the last quarter",
}
COMPARISONS = {
    "<": (operator.lt, "below"),
    ">": (operator.gt, "above"),
    "<=": (operator.le, "at most"),
    ">=": (operator.ge, "at least"),
}

# Read from the top: the first rule whose conditions all hold gives the name, and no condition holds of a fact
# that is not known. The thresholds come from runs on `patterns`, clean test images (data/results/collapse.jsonl):
#   healthy, whatever BN is on z        loss -.89 to -.93, std .81 to 1.0, effective rank 10.4 to 15.6
#   collapsed                           loss -.66 to -1.0, std 0 to .32,   effective rank 1.0 to 1.89
#   predictor never trained             loss -.18 to -.28, std .32 to .96, effective rank 1.67 to 2.5
# Swing of the loss and its level while training, in the last quarter: collapsed up to .4 at -.64 to -1, predictor
# never trained up to .08 at -.16 to -.27, a rate 30 or 100 times too high .4 to .9 at -.34 to -.43 (diagnoses.py).
# In training batches output BN holds the std of collapsed runs higher, up to .63, at the same rank.
# fmt: off
RULES = (
    Rule("diverged", "a number is NaN or infinite",
         (("not_finite", ">", 0),),
         "Lower the learning rate or lengthen the warm-up, and start again from the last good checkpoint."),
    Rule("too short", "hardly begun, nothing can be told yet",
         (("steps", "<", 100),),
         "Train for more steps, then look again."),
    Rule("diverged", "the loss stays high and never calms",
         (("swing", ">", .3), ("level", ">", -.5)),
         "Lower the learning rate or lengthen the warm-up."),
    Rule("diverged", "the loss swings wildly",
         (("swing", ">", .5), ("effective_rank", ">=", 2.)),  # collapsed without predictor it swings, too
         "Lower the learning rate; batch normalisation at the predictor's output does this too (Table 3d)."),
    Rule("diverged", "the loss was low and went up again",
         (("rise", ">", .3),),
         "Lower the learning rate or lengthen the warm-up."),
    Rule("not learning", "the predictor does not learn to foretell the other view",
         (("loss", ">", -.4), ("loss", "<=", 1.), ("fall", "<=", .1), ("swing", "<=", .3)),
         "Check that the predictor is trained (a frozen one keeps the loss high) and that the learning rate is "
         "neither far too high nor too low, then weaken the augmentations."),
    Rule("complete collapse", "all images get nearly the same output",
         (("std", "<", .2),),
         "Check that the target is detached and that a predictor is trained; a low loss proves nothing."),
    Rule("dimensional collapse", "the outputs differ, but lie along one line",
         (("std", ">=", .2), ("effective_rank", "<", 2.)),
         "Check that the target is detached and that a predictor is trained; std alone is blind to this."),
    Rule("healthy", "the views agree and the outputs spread in many directions",
         (("loss", "<=", -.6), ("std", ">=", .5), ("effective_rank", ">=", 4.)),
         "Go on; kNN accuracy says how useful the features are."),
    Rule("too short", "the loss is still falling fast",
         (("fall", ">", .1),),
         "Train for more passes; on a short budget keep the rate constant and decay it only at the end."),
)
# fmt: on
HEALTHY = next(rule for rule in RULES if rule.name == "healthy")
UNKNOWN = "Give what is missing, the history too, or compare with a healthy run on the same images."


def diagnose(measurements: Mapping[str, object]) -> Diagnosis:
    """Name what the numbers of a run show: the first of `RULES` that holds, or `unknown`.

    measurements may have `loss`, `std`, `effective_rank`, `steps`, `dim` (channels of z) and `history`, a
    list of rows (dicts with `step`, `loss`, `std`, `effective_rank`); whatever is missing is taken from the
    last row of the history, other keys are not looked at, None counts as missing. The loss is the negative
    cosine, from -1 to 1. InputError for a value of the wrong type. No labels are needed, and chance accuracy
    alone would prove no collapse (footnote 4).
    """
    facts, dim = _facts(measurements)
    for rule in RULES:
        checks = list(_checks(rule, facts, dim))
        if all(holds for holds, _ in checks):
            evidence = ", ".join(said for _, said in checks)
            return Diagnosis(rule.name, f"{rule.meaning} ({evidence})", rule.advice)
    doubts = ", ".join(said for holds, said in _checks(HEALTHY, facts, dim) if not holds)
    return Diagnosis("unknown", f"no failure is seen and health is not proved ({doubts})", UNKNOWN)


class Item(NamedTuple):
    """A line of a health card: a fact, its value here (None: not known), what is wanted, and whether it holds."""

    fact: str
    value: float | None
    wanted: str
    holds: bool


def checklist(measurements: Mapping[str, object]) -> list[Item]:
    """What health asks of a run, fact by fact; measurements as `diagnose` takes them. InputError as there."""
    facts, dim = _facts(measurements)
    items = []
    for (fact, comparison, threshold), (holds, _) in zip(
        HEALTHY.conditions, _checks(HEALTHY, facts, dim), strict=True
    ):
        least = min(threshold, 0.75 * dim) if fact == "effective_rank" else threshold
        items.append(Item(fact, facts.get(fact), f"{COMPARISONS[comparison][1]} {least:.3g}", holds))
    return items


def _checks(rule: Rule, facts: dict[str, float], dim: float) -> Iterator[tuple[bool, str]]:
    """Each condition of a rule: does it hold, and the sentence that says so."""
    for fact, comparison, threshold in rule.conditions:
        compare, words = COMPARISONS[comparison]
        if fact == "effective_rank":
            threshold = min(threshold, 0.75 * dim)  # few channels cannot have a high rank
        value = facts.get(fact)
        if value is None:
            yield False, f"{FACTS[fact]} is not known"
        else:
            holds = compare(value, threshold)
            yield holds, f"{FACTS[fact]} is {value:.3g}, {'' if holds else 'not '}{words} {threshold:.3g}"


def _facts(measurements: Mapping[str, object]) -> tuple[dict[str, float], float]:
    """What `RULES` asks about, as far as it is known, and the number of channels (infinite if not known)."""
    rows = _rows(measurements)
    last = rows[-1] if rows else {}
    known = {key: _number(measurements, key, _number(last, key)) for key in ("loss", "std", "effective_rank")}
    known["steps"] = _number(measurements, "steps", _number(last, "step"))
    facts = {key: value for key, value in known.items() if value is not None}
    columns = {key: [value for row in rows if (value := _number(row, key)) is not None] for key in known}
    facts["not_finite"] = sum(not math.isfinite(value) for value in chain(facts.values(), *columns.values()))
    losses = columns["loss"]
    n = len(losses)
    if n >= 8 and not facts["not_finite"]:
        quarters = [losses[i * n // 4 : (i + 1) * n // 4] for i in range(4)]
        means = [sum(quarter) / len(quarter) for quarter in quarters]
        facts |= {
            "fall": means[2] - means[3],
            "rise": means[3] - min(means),
            "level": means[3],
            "swing": max(quarters[3]) - min(quarters[3]),
        }
    return facts, _number(measurements, "dim") or math.inf


def _rows(measurements: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    if not isinstance(measurements, Mapping):
        raise InputError(
            f"measurements is a {type(measurements).__name__}, expected a dict: pass numbers by name, "
            "such as {'loss': -.9, 'std': 1., 'effective_rank': 8.}."
        )
    rows = measurements.get("history")
    if rows is None:
        return ()
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(
            f"history is a {type(rows).__name__}, expected a list of rows (dicts with step, loss, std, "
            "effective_rank): pass the history of `fit` as it is."
        )
    return rows


def _number(row: Mapping[str, object], key: str, default: float | None = None) -> float | None:
    value = row.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(
            f"{key} is {value!r} ({type(value).__name__}), expected a number: "
            "call .item() on a tensor, or leave the key out."
        )
    return float(value)
