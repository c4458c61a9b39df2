"""Lesson 05: how far z spreads, in how many directions, and what the curves of a failed run say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import collapse, data_file
from ..collapse import std
from ..files import read_lines
from .core import Exercise, Fact, Function, Suspect, kind_and_shape, place, unchanged
from .training import Away

CLOSE = 1e-3  # singular values of float32: a rank is no exacter


def scalar(value: Any) -> Any:
    """One number as a Python number, whether it came as a float or as a tensor; what is none is told in words."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return float(value.item())
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain else kind_and_shape(value)


def one_number(value: Any) -> Any:
    """Whether it is one number; else what it is."""
    found = scalar(value)
    return "one number" if isinstance(found, float) else found


# ---- clouds of which one knows the answer

COMPASS = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-4.0, 0.0], [0.0, -1.0]])  # four directions, four lengths
AXES = torch.eye(3)[[0, 0, 0, 0, 1, 2]]
SIX = torch.cat([AXES, -AXES]) * torch.arange(1.0, 13.0)[:, None]  # shares 4/6, 1/6, 1/6


def cloud(n: int = 40, d: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    """n outputs in d channels that spread unequally, around a mean that is not zero."""
    return (torch.randn(n, d) * torch.linspace(0.2, 2, d) + torch.linspace(-1, 1, d)).to(dtype)


def constant(n: int = 40, d: int = 16) -> Tensor:
    """One vector, n times."""
    return torch.linspace(-1, 2, d).repeat(n, 1)


def line(n: int = 20, d: int = 16) -> Tensor:
    """Plus or minus one vector, by turns."""
    return torch.linspace(-1, 2, d) * torch.tensor([1.0, -1.0]).repeat(n // 2)[:, None]


def lengths(n: int) -> Tensor:
    return torch.linspace(0.1, 5, n)[:, None]


class NewOnesAway(Away):
    """As `Away`; `.cpu()` may be asked for, since one number comes back."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            return func(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)


def _devices(f: Function) -> str:
    z = cloud()
    with NewOnesAway():
        return place(lambda: f(z), home="cpu")


# ---- 5.1


def _other_lengths(f: Function) -> list[Any]:
    z = cloud()
    return [scalar(f(z)), scalar(f(z * lengths(len(z))))]


def _dimensions(f: Function) -> list[Any]:
    return [scalar(f(torch.randn(200, d))) for d in (4, 64, 256)]


def std_solution(z: Tensor) -> float:
    u = F.normalize(z, dim=1)  # (N, D), each row of length 1
    return u.std(dim=0, correction=0).mean().item() * z.shape[1] ** 0.5  # (N, D) -> (D,) -> one number


def spread(u: Callable[[Tensor], Tensor] = lambda z: F.normalize(z, dim=1), *,
           of: Callable[[Tensor], Any] = lambda u: u.std(dim=0, correction=0).mean(),
           factor: Callable[[Tensor], float] = lambda z: z.shape[1] ** 0.5) -> Function:  # fmt: skip
    """A std with one of its parts exchanged for a wrong one."""
    return lambda z: of(u(z)) * factor(z)


STD = Exercise(
    "5.1",
    "std",
    std,
    facts=[
        Fact("For z of shape (6, 5) it gives one number.", lambda f: one_number(f(torch.randn(6, 5)))),
        Fact("The four directions of the compass, [[2, 0], [0, 3], [-4, 0], [0, -1]], spread as widely as can be: 1.",
             lambda f: scalar(f(COMPASS))),
        Fact("A constant, the same vector for all 40 images, has 0.", lambda f: scalar(f(constant())), 2e-3),
        Fact("Lengths do not count: where all vectors point the same way it is 0, however long they are.",
             lambda f: scalar(f(constant() * lengths(40))), 2e-3),
        Fact("Plus or minus one vector has its spread in all channels, though not the same in each.",
             lambda f: scalar(f(line()))),
        Fact("Random directions have nearly 1, in 4, 64 and 256 channels alike.", _dimensions),
        Fact("It holds for a cloud whose channels spread unequally and whose mean is not zero.",
             lambda f: [scalar(f(cloud())), scalar(f(cloud(9, 30)))]),
        Fact("Rows of other lengths give the same.", _other_lengths),
        Fact("Two images are enough.", lambda f: scalar(f(cloud(2, 5)))),
        Fact("It works for float64, too.", lambda f: scalar(f(cloud(dtype=torch.float64)))),
        Fact("z stays as it was.", lambda f: unchanged(f, cloud())),
        Fact("A tensor of your own is to be made where z is: `device=z.device`.", _devices),
    ],
    suspects=[
        Suspect("The rows have no length 1: give each of them its direction alone, `F.normalize(z, dim=1)`, first.",
                spread(lambda z: z)),
        Suspect("It was normalised over the images (dim=0). A row is one image: use dim=1.",
                spread(lambda z: F.normalize(z, dim=0))),
        Suspect("The rows were divided by their squared length: the length is the square root of the sum of squares.",
                spread(lambda z: z / z.square().sum(dim=1, keepdim=True))),
        Suspect("The lengths were measured by absolute values, not by squares: `F.normalize(z, dim=1)` takes squares.",
                spread(lambda z: F.normalize(z, p=1, dim=1))),
        Suspect("The factor sqrt(d) is missing: this is the number that the paper plots, 1/sqrt(d) when healthy.",
                spread(factor=lambda z: 1.0)),
        Suspect("It was divided by sqrt(d): multiply, so that 1 is healthy whatever d is.",
                spread(factor=lambda z: z.shape[1] ** -0.5)),
        Suspect("The factor is d, without the root: take sqrt(d).", spread(factor=lambda z: float(z.shape[1]))),
        Suspect("The factor has the number of images in it: take the root of the number of *channels*, z.shape[1].",
                spread(factor=lambda z: len(z) ** 0.5)),
        Suspect("It was divided by N - 1, as `std` does unless told otherwise: `correction=0` divides by N, and then "
                "1 is the exact upper bound.",
                spread(of=lambda u: u.std(dim=0).mean())),
        Suspect("The standard deviation went over the channels (dim=1). It is taken over the images, in each channel: "
                "dim=0.",
                spread(of=lambda u: u.std(dim=1, correction=0).mean())),
        Suspect("All numbers went into one standard deviation, so that channels which differ look like images which "
                "differ: use dim=0, then the mean over the channels.",
                spread(of=lambda u: u.std(correction=0))),
        Suspect("This is the variance: take its square root in each channel, before the mean.",
                spread(of=lambda u: u.var(dim=0, correction=0).mean())),
        Suspect("The root was taken after the mean over the channels: take it in each channel, before.",
                spread(of=lambda u: u.var(dim=0, correction=0).mean().sqrt())),
        Suspect("The mean of each channel was not subtracted: a root of mean squares is not 0 for a constant.",
                spread(of=lambda u: u.square().mean(dim=0).sqrt().mean())),
        Suspect("The channels were added up: take their mean.",
                spread(of=lambda u: u.std(dim=0, correction=0).sum())),
        Suspect("One number for each channel came back: take their mean.",
                spread(of=lambda u: u.std(dim=0, correction=0))),
        Suspect("Only the widest channel was taken: the mean over all of them is asked for.",
                spread(of=lambda u: u.std(dim=0, correction=0).max())),
        Suspect("The distances from the mean were averaged as they are: a standard deviation squares them first.",
                spread(of=lambda u: (u - u.mean(dim=0)).abs().mean())),
        Suspect("The absolute value of the outputs loses their sign, and the two ends of a line become one.",
                spread(of=lambda u: u.abs().std(dim=0, correction=0).mean())),
    ],
    hints=(
        "Three steps: each row gets length 1; each channel gets a standard deviation over the images; then their "
        "mean, times sqrt(d).",
        "`F.normalize(z, dim=1)` for the rows, `.std(dim=0, correction=0)` for the channels, `z.shape[1]` is d.",
        "`return F.normalize(z, dim=1).std(dim=0, correction=0).mean().item() * z.shape[1] ** 0.5`",
    ),
    solution=std_solution,
)  # fmt: skip


# ---- 5.2


def narrow(noise: float, d: int = 16) -> Tensor:
    """A cloud of small angle around one direction, with many directions in it: std is about 0.9 times the noise."""
    return constant(d=d) + noise * torch.randn(40, d)


def _hardly_spread(f: Function) -> list[Any]:
    """Directions that differ by a little: std is about .01, .04 and 0."""
    clouds = (narrow(0.01), narrow(0.045), constant(200, 8) * lengths(200))
    return [scalar(f(z)) for z in clouds]


def _a_little_spread(f: Function) -> list[Any]:
    """Small angles, std about .2 and .065; and random directions in many channels."""
    return [scalar(f(z)) for z in (narrow(0.3), narrow(0.07), torch.randn(40, 512))]


def _two_of_eight(f: Function) -> Any:
    z = torch.zeros(30, 8)
    z[:, 2], z[:, 5] = torch.linspace(-1, 1, 30), torch.linspace(0.5, -2, 30).cos()
    return scalar(f(z))


def effective_rank_solution(z: Tensor) -> float:
    if std(z) < 0.05:  # only rounding noise is left between the outputs
        return 1.0
    u = F.normalize(z, dim=1)  # (N, D)
    s2 = torch.linalg.svdvals(u - u.mean(dim=0)).square()  # (min(N, D),)
    shares = s2 / s2.sum()  # of the variance, along each principal direction
    return torch.special.entr(shares).sum().exp().item()  # entr(q) = -q log q, and 0 where q is 0


def rank(
    u: Callable[[Tensor], Tensor] = lambda z: F.normalize(z, dim=1), *,
    middle: Callable[[Tensor], Tensor] = lambda u: u - u.mean(dim=0),
    shares: Callable[[Tensor], Tensor] = lambda x: _share(torch.linalg.svdvals(x).square()),
    count: Callable[[Tensor], Any] = lambda q: torch.special.entr(q).sum().exp(),
    of_a_constant: Any = 1.0,
) -> Function:  # fmt: skip
    """An effective rank with one of its parts exchanged for a wrong one."""

    def wrong(z: Tensor) -> Any:
        if of_a_constant is not None and std(z) < collapse.CONSTANT:
            return of_a_constant
        return count(shares(middle(u(z))))

    return wrong


def _share(s: Tensor) -> Tensor:
    return s / s.sum()


def _threshold(limit: float) -> Function:
    return lambda z: 1.0 if std(z) < limit else rank(of_a_constant=None)(z)


EFFECTIVE_RANK = Exercise(
    "5.2",
    "effective_rank",
    collapse.effective_rank,
    facts=[
        Fact("For z of shape (6, 5) it gives one number.", lambda f: one_number(f(torch.randn(6, 5)))),
        Fact("The four directions of the compass, [[2, 0], [0, 3], [-4, 0], [0, -1]], have two equal shares: 2.",
             lambda f: scalar(f(COMPASS)), CLOSE),
        Fact("Plus or minus one vector is a line: 1.", lambda f: scalar(f(line())), CLOSE),
        Fact("Twelve points on three axes with the shares 4/6, 1/6 and 1/6 have 2.38, the exponential of their "
             "entropy.",
             lambda f: scalar(f(SIX)), CLOSE),
        Fact("Where std is below 0.05 the rank is 1: for a constant, and for outputs that differ by noise alone.",
             _hardly_spread, CLOSE),
        Fact("Where std is 0.065 or more the directions count, however small the angle between them, in 16 channels "
             "and in 512.",
             _a_little_spread, CLOSE),
        Fact("A direction that is not used at all has the share 0, and adds 0.", _two_of_eight, CLOSE),
        Fact("It holds for a cloud whose channels spread unequally and whose mean is not zero.",
             lambda f: scalar(f(cloud())), CLOSE),
        Fact("It holds where there are more channels than images, and for two images.",
             lambda f: [scalar(f(cloud(9, 30))), scalar(f(cloud(2, 5)))], CLOSE),
        Fact("Rows of other lengths give the same.", _other_lengths, CLOSE),
        Fact("It works for float64, too.", lambda f: scalar(f(cloud(dtype=torch.float64))), CLOSE),
        Fact("z stays as it was.", lambda f: unchanged(f, cloud())),
        Fact("A tensor of your own is to be made where z is: `device=z.device`.", _devices),
    ],
    suspects=[
        Suspect("The rows have no length 1: the loss sees directions alone, so take `F.normalize(z, dim=1)` first.",
                rank(lambda z: z)),
        Suspect("It was normalised over the images (dim=0). A row is one image: use dim=1.",
                rank(lambda z: F.normalize(z, dim=0))),
        Suspect("The mean was subtracted first and the rows were given length 1 after it: the other way round.",
                rank(lambda z: F.normalize(z - z.mean(dim=0), dim=1), middle=lambda u: u)),
        Suspect("The mean was not subtracted: then a direction that all outputs share counts as one that they use.",
                rank(middle=lambda u: u)),
        Suspect("The mean went over the channels (dim=1): subtract the mean image, over dim=0.",
                rank(middle=lambda u: u - u.mean(dim=1, keepdim=True))),
        Suspect("One mean of all numbers was subtracted: each channel has its own, over dim=0.",
                rank(middle=lambda u: u - u.mean())),
        Suspect("The channels were divided by their standard deviations: then all of them look equally important.",
                rank(middle=lambda u: (u - u.mean(dim=0)) / u.std(dim=0, correction=0).clamp(min=1e-12))),
        Suspect("These are the shares of the singular values themselves: square them first, then they are variances.",
                rank(shares=lambda x: _share(torch.linalg.svdvals(x)))),
        Suspect("The variances were squared once more: eigenvalues of a covariance *are* the squared singular values.",
                rank(shares=lambda x: _share(torch.linalg.svdvals(x).pow(4)))),
        Suspect("The shares do not add up to 1: divide the squared singular values by their sum.",
                rank(shares=lambda x: torch.linalg.svdvals(x).square())),
        Suspect("They are divided by the largest, not by their sum: shares add up to 1.",
                rank(shares=lambda x: (s := torch.linalg.svdvals(x).square()) / s.max())),
        Suspect("These are the variances of the channels: a line that lies across the channels uses all of them. Take "
                "singular values, which find its direction.",
                rank(shares=lambda x: _share(x.square().sum(dim=0)))),
        Suspect("The exponential is missing: this is the entropy, which is log 2 for two equal shares.",
                rank(count=lambda q: torch.special.entr(q).sum())),
        Suspect("The logarithm has base 2 and the exponential base e: take the natural logarithm.",
                rank(count=lambda q: (torch.special.entr(q).sum() / 0.6931471805599453).exp())),
        Suspect("The minus is missing: the entropy is -sum q log q, and exp of the negative one is below 1.",
                rank(count=lambda q: (-torch.special.entr(q).sum()).exp())),
        Suspect("The mean was taken over the directions: the entropy is a sum.",
                rank(count=lambda q: torch.special.entr(q).mean().exp())),
        Suspect("0 times log 0 is NaN in floating point: `torch.special.entr` knows that it is 0, or leave such shares "
                "out.",
                rank(count=lambda q: (-(q * q.log()).sum()).exp())),
        Suspect("This is 1 / sum of the squared shares, another count of directions: take exp of the entropy.",
                rank(count=lambda q: 1 / q.square().sum())),
        Suspect("This is the share of the largest direction: take exp of the entropy of all of them.",
                rank(count=lambda q: q.max())),
        Suspect("The directions were counted, large or small: weigh them by their shares.",
                rank(count=lambda q: (q > 1e-6).sum().float())),
        Suspect("The shares themselves came back: one number is asked for, exp of their entropy.",
                rank(count=lambda q: q)),
        Suspect("A constant was sent through the formula, which then counts the directions of rounding noise: return 1 "
                "where std is below 0.05.",
                rank(of_a_constant=None)),
        Suspect("A constant has rank 1 by definition, not 0: a point counts as a very short line.",
                rank(of_a_constant=0.0)),
        Suspect("The threshold of std is too high: only below 0.05 is the rest mere noise.", _threshold(0.5)),
        Suspect("The threshold of std is too low: below 0.05 the rest is mere noise.", _threshold(0.02)),
        Suspect("The std of all numbers at once is not the std of 5.1: it is not 0 for a constant.",
                lambda z: 1.0 if F.normalize(z, dim=1).std() < 0.05 else rank(of_a_constant=None)(z)),
        Suspect("Rounding makes an eigenvalue of 0 a tiny negative number, and its entropy infinite: `clamp(min=0)`.",
                rank(shares=lambda x: _share(torch.linalg.eigvalsh(x.T @ x)))),
        Suspect("The factor sqrt(d) is missing in the std that is compared with 0.05: take the std of 5.1.",
                lambda z: 1.0 if spread(factor=lambda z: 1.0)(z) < 0.05 else effective_rank_solution(z)),
    ],
    hints=(
        "A constant first: it has rank 1. Else unit rows without their mean, the squared singular values, their "
        "shares, and exp of the entropy of the shares.",
        "`torch.linalg.svdvals(u - u.mean(dim=0))` gives the singular values; `torch.special.entr(q)` is -q log q, "
        "and 0 where q is 0.",
        "`s2 = torch.linalg.svdvals(u - u.mean(dim=0)).square()`, then `return torch.special.entr(s2 / "
        "s2.sum()).sum().exp().item()`; before both `if std(z) < 0.05: return 1.0`",
    ),
    solution=effective_rank_solution,
)  # fmt: skip


# ---- 5.3

NAMES = ("healthy", "complete collapse", "dimensional collapse", "diverged", "not learning", "too short")
CURVES = "results/unlabelled.jsonl"


@cache
def unlabelled() -> dict[str, list[dict[str, Any]]]:
    """The histories of six real runs, "A" to "F": step, images_seen, loss, std, effective_rank, knn in each row.

    Made by `python benchmarks/diagnoses.py --curves`; what was done to each stands in that file, too.
    """
    return {row["run"]: row["history"] for row in read_lines(data_file(CURVES))}


def name_that_failure() -> dict[str, str]:
    """What happened in each of the six runs of `unlabelled`."""
    return {
        "A": "not learning",
        "B": "dimensional collapse",
        "C": "too short",
        "D": "complete collapse",
        "E": "healthy",
        "F": "diverged",
    }


def tidy(name: Any) -> Any:
    """A name without capitals, underscores and spaces around it; what is no text stays as it is."""
    return " ".join(name.lower().replace("_", " ").split()) if isinstance(name, str) else name


def ends(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the curves of a run say: each at its end, as far as it is known there, and how they got there."""
    columns = {key: [row[key] for row in history if row.get(key) is not None] for key in history[-1]}
    last = {key: values[-1] for key, values in columns.items() if values}
    late = columns["loss"][len(columns["loss"]) // 2 :]
    extremes = {"lowest": min(late), "highest": max(late)}
    return last | extremes | {"widest": max(columns["std"]), "least": min(columns["std"])}


# What contradicts a wrong name: right name -> wrong name -> where to look and what is to be seen there.
CONTRADICTIONS = {
    "healthy": {
        "complete collapse": "Look at the std of {run}: it stays near {std:.2f}, so the outputs differ from image to "
        "image. In a complete collapse it falls to 0.",
        "dimensional collapse": "Look at the effective rank of {run}: it ends near {effective_rank:.0f}. In a "
        "dimensional collapse one direction holds nearly all, and the rank stays near 1.",
        "diverged": "Look at the loss of {run}: it falls to {loss:.2f}, calmly. A diverged run's loss climbs "
        "again, jumps about, or is no number at all.",
        "not learning": "Look at the loss of {run}: at {loss:.2f} the predictor foretells the other view well. Where "
        "nothing is learned it stays high.",
        "too short": "Look at the axis of {run}: {step:,} steps, and the loss has nearly levelled out. Nothing is "
        "missing that more steps would show.",
    },
    "complete collapse": {
        "healthy": "Look at the std of {run}: it ends at {std:.2f}, so all images get the same output. A low loss "
        "proves nothing.",
        "dimensional collapse": "Look at the std of {run}: it ends at {std:.2f}. In a dimensional collapse the outputs "
        "still differ, along a line; here not even that is left.",
        "diverged": "Look at the loss of {run}: it ends at {loss:.2f}, nearly perfect. A diverged run's loss is high, "
        "jumps about, or is no number; that it knows nothing of the images makes it no divergence (footnote 4).",
        "not learning": "Look at the loss of {run}: it ends at {loss:.2f}. The network has learned to win, in the one "
        "way that is of no use.",
        "too short": "Look at the std of {run}: it was {widest:.2f} and is {std:.2f} after {step:,} steps. More steps "
        "do not bring a constant back to life.",
    },
    "dimensional collapse": {
        "healthy": "Look at the effective rank of {run}: it ends at {effective_rank:.1f}, one direction of 256. The "
        "std is above 0 and cannot see that.",
        "complete collapse": "Look at the std of {run}: it ends at {std:.2f}, not at 0. The outputs still differ, but "
        "the effective rank says that they do so along one line.",
        "diverged": "Look at the loss of {run}: it falls to {loss:.2f}, calmly. A diverged run's loss climbs "
        "again, jumps about, or is no number at all.",
        "not learning": "Look at the loss of {run}: it ends at {loss:.2f}, so p and z agree well. Where nothing is "
        "learned they do not.",
        "too short": "Look at the effective rank of {run}: it fell to 1 early and did not move in {step:,} steps. A "
        "run that is merely young has many directions.",
    },
    "diverged": {
        "healthy": "Look at the loss of {run}: late in the run it still jumps between {highest:.2f} and {lowest:.2f}. "
        "The loss of a healthy run is calm.",
        "complete collapse": "Look at the loss of {run}: it jumps between {highest:.2f} and {lowest:.2f}. A collapse "
        "is *good* at the loss: it goes near -1 and stays there.",
        "dimensional collapse": "Look at the loss of {run}: it jumps between {highest:.2f} and {lowest:.2f}. A "
        "collapse is good at the loss and calm, whatever its rank; here the views do not even agree.",
        "not learning": "Look at the loss of {run}: it jumps between {highest:.2f} and {lowest:.2f}, so something is "
        "found and lost again. A run that does not learn is calm.",
        "too short": "Look at the loss of {run}: after {step:,} steps it still jumps between {highest:.2f} and "
        "{lowest:.2f}. That is not a run that only needs time.",
    },
    "not learning": {
        "healthy": "Look at the loss of {run}: it stays at {loss:.2f}, so the views do not agree. The spread of the "
        "outputs is what a random start has left.",
        "complete collapse": "Look at the std of {run}: it ends at {std:.2f}, not at 0, and the loss is high. A "
        "collapse has a loss near -1.",
        "dimensional collapse": "Look at the effective rank of {run}: it ends at {effective_rank:.1f}, not at 1, "
        "and the loss is high. A collapse has a loss near -1.",
        "diverged": "Look at the loss of {run}: it is high, but calm and finite, and it was never low. Nothing blew "
        "up.",
        "too short": "Look at the axis of {run}: {step:,} steps, and the loss levelled out long ago. More of the same "
        "would change nothing.",
    },
    "too short": {
        "healthy": "Look at the axis of {run}: {step:,} steps, and the loss is only at {loss:.2f}. It may become "
        "healthy; nobody can say so yet.",
        "complete collapse": "Look at the std of {run}: it has never been below {least:.2f}. The outputs differ.",
        "dimensional collapse": "Look at the effective rank of {run}: it ends at {effective_rank:.1f}, which is more "
        "than one line, after {step:,} steps only.",
        "diverged": "Look at the loss of {run}: it has come down and nothing has blown up.",
        "not learning": "Look at the loss of {run}: it began near 0 and is at {loss:.2f} after {step:,} steps only. It "
        "had begun to learn when it was stopped.",
    },
}


def contradiction(run: str, name: str) -> str:
    """What in the curves of a run contradicts a wrong name."""
    said = CONTRADICTIONS[name_that_failure()[run]][name]
    return said.format(run=run, **ends(unlabelled()[run]))


def _missing(f: Function) -> Any:
    """Which runs have no name, and which names are none of the six."""
    found = f()
    if not isinstance(found, Mapping):
        return kind_and_shape(found)
    named = {run: tidy(name) for run, name in found.items() if name is not ... and name is not None}
    return {
        "without a name": [run for run in name_that_failure() if run not in named],
        "not one of the six": [repr(name) for name in named.values() if name not in NAMES],
    }


def _fits(run: str) -> Fact:
    """One name after the other: while an earlier one is wrong, nothing is said of this one."""

    def of(f: Function) -> str:
        right, named = name_that_failure(), f()
        earlier_wrong = any(tidy(named[other]) != right[other] for other in right if other < run)
        fits = earlier_wrong or tidy(named[run]) == right[run]
        return "a name that its curves do not contradict" if fits else str(tidy(named[run]))

    return Fact(f"The curves of {run} fit the name that it was given.", of)


def _wrong_about(run: str, name: str) -> Suspect:
    return Suspect(contradiction(run, name), lambda: name_that_failure() | {run: name})


NAME_THAT_FAILURE = Exercise(
    "5.3",
    "name_that_failure",
    name_that_failure,
    facts=[
        Fact('It returns a dict that gives each of "A" to "F" one of the six names.', _missing),
        *(_fits(run) for run in name_that_failure()),
    ],
    suspects=[
        _wrong_about(run, name)
        for run, right in name_that_failure().items()
        for name in NAMES
        if name != right
    ],
    hints=(
        "Exclude before you name. First what makes all other curves worthless: a loss that blew up, or too few steps. "
        "Only then ask the std, after it the rank, and last whether the loss is low.",
        "std near 0: complete collapse. std above 0, rank near 1: dimensional collapse. Both fine: healthy if the "
        "loss is near -1, not learning if it stayed high. Read the axis for the number of steps.",
        '`return {"A": "not learning", "B": "dimensional collapse", ...}`, and the other four by the same table.',
    ),
)

EXERCISES = (STD, EFFECTIVE_RANK, NAME_THAT_FAILURE)
