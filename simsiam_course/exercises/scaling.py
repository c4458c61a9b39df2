"""Lesson 10: a process's share of a batch, batch norm over several processes, and the plan of a larger run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .core import Exercise, Fact, Function, Suspect, elsewhere, kind_and_shape, unchanged

# ---- 10.1


def _plain(found: Any) -> Any:
    """A plan as plain numbers, so that a tensor or a numpy number of one value is as good."""
    if isinstance(found, (tuple, list)):
        return [_plain(part) for part in found]
    return found.item() if hasattr(found, "item") else found


def planned(*cases: tuple[int, int, int, int, float], which: int | None = None) -> Function:
    def look(f: Function) -> Any:
        found = [_plain(f(*case)) for case in cases]
        return found if which is None else [plan[which] for plan in found]

    return look


def _kind_of_plan(f: Function) -> Any:
    steps, rate = _plain(f(1024, 2, 32, 2, 0.05))
    return [type(steps).__name__, isinstance(rate, float)]


def plan_solution(
    images: int, epochs: int, per_process: int, processes: int, base: float
) -> tuple[int, float]:
    batch = per_process * processes  # of all together: the one that counts
    return images // batch * epochs, base * batch / 256


def planning(
    *,
    batch: Function = lambda per_process, processes: per_process * processes,
    steps: Function = lambda images, epochs, batch: images // batch * epochs,
    rate: Function = lambda base, batch, per_process, processes: base * batch / 256,
) -> Function:
    """A plan with one of its parts exchanged for a wrong one."""

    def wrong(images: int, epochs: int, per_process: int, processes: int, base: float) -> Any:
        whole = batch(per_process, processes)
        return steps(images, epochs, whole), rate(base, whole, per_process, processes)

    return wrong


PLAN = Exercise(
    "10.1",
    "plan",
    plan_solution,
    facts=[
        Fact("It gives two numbers: steps, a whole number, and the learning rate.", _kind_of_plan),
        Fact(
            "One process, 32 images a step, 1,024 images, 2 passes: 64 steps.",
            planned((1024, 2, 32, 1, 0.05), which=0),
        ),
        Fact(
            "The rate of one process with 256 images a step is the base rate itself.",
            planned((1024, 2, 256, 1, 0.05), which=1),
        ),
        Fact(
            "Two processes with 32 images each take 64 a step, so 1,024 images in 2 passes are 32 steps.",
            planned((1024, 2, 32, 2, 0.05), which=0),
        ),
        Fact(
            "The rate goes with the images of all processes: base .05 with 2 x 128 is .05, with 8 x 64 it is .1.",
            planned((4096, 1, 128, 2, 0.05), (4096, 1, 64, 8, 0.05), which=1),
        ),
        Fact(
            "A last batch that is not whole is left out in every pass: 100 images, batches of 32, 10 passes, 30 "
            "steps.",
            planned((100, 10, 32, 1, 0.05), which=0),
        ),
        Fact(
            "The paper's ImageNet run: 1,281,167 images, 100 passes, 8 GPUs with 64 images each, base .05.",
            planned((1_281_167, 100, 64, 8, 0.05)),
        ),
        Fact("It holds for other numbers.", planned((50_000, 800, 128, 4, 0.03), (999, 7, 10, 3, 0.2))),
    ],
    suspects=[
        Suspect(
            "The number of processes has no part in it: all of them together take "
            "`per_process * processes` images a step.",
            planning(batch=lambda n, p: n),
        ),
        Suspect(
            "Steps and rate were made from different batches: the rate, too, goes with the images of all "
            "processes.",
            planning(rate=lambda base, batch, n, p: base * n / 256),
        ),
        Suspect(
            "The steps are those of one process alone: with more processes a pass has fewer steps.",
            lambda images, epochs, n, p, base: (images // n * epochs, base * n * p / 256),
        ),
        Suspect(
            "The rate was not scaled: `base` is the rate for 256 images a step.",
            planning(rate=lambda base, batch, n, p: base),
        ),
        Suspect(
            "The rate was multiplied by the number of processes, which is right only if each has 256 images.",
            planning(rate=lambda base, batch, n, p: base * p),
        ),
        Suspect(
            "The rate was divided where it should be multiplied: more images, a larger rate.",
            planning(rate=lambda base, batch, n, p: base * 256 / batch),
        ),
        Suspect(
            "The rate was scaled by the root of the batch. There are such rules; the paper's is linear.",
            planning(rate=lambda base, batch, n, p: base * math.sqrt(batch / 256)),
        ),
        Suspect(
            "All passes were taken as one long one: the images left over at the end of a pass were saved for the "
            "next. `fit` drops them.",
            planning(steps=lambda images, epochs, batch: images * epochs // batch),
        ),
        Suspect(
            "The steps were rounded up: a last batch that is not whole is left out.",
            planning(steps=lambda images, epochs, batch: -(-images // batch) * epochs),
        ),
        Suspect(
            "Steps are whole: divide by `//`.",
            planning(steps=lambda images, epochs, batch: images / batch * epochs),
        ),
        Suspect(
            "These are the steps of one pass: multiply by the passes.",
            planning(steps=lambda images, epochs, batch: images // batch),
        ),
        Suspect(
            "The two came in the other order: steps first, then the rate.",
            lambda *given: plan_solution(*given)[::-1],
        ),
    ],
    hints=(
        "What counts is the number of images that all processes together take in a step. A pass has as many steps as "
        "whole batches fit into it, and the rate goes with the batch.",
        "`batch = per_process * processes`; `//` for whole batches; the rate is for 256 images, so scale it by "
        "`batch / 256`.",
        "`return images // batch * epochs, base * batch / 256`",
    ),
)


# ---- 10.2


def images_of(f: Function, n: int = 24, batch_size: int = 8, world: int = 2) -> Any:
    """Whole passes, as nested lists: step -> process -> images."""
    order = torch.arange(n)
    steps = range(n // batch_size)
    return [[_list(f(order, s, batch_size, rank, world)) for rank in range(world)] for s in steps]


def _list(found: Any) -> Any:
    return found.tolist() if isinstance(found, Tensor) else found


def _sizes(f: Function) -> list[Any]:
    order = torch.arange(24)
    return [kind_and_shape(f(order, 0, 8, 0, world)) for world in (1, 2, 4)]


def _together(f: Function) -> list[Any]:
    """The images of a step, all processes together, in the order of the processes."""
    return [sum(processes, []) for processes in images_of(f)]


def _seen(f: Function) -> dict[str, int]:
    seen = [i for processes in images_of(f, 32, 8, 4) for images in processes for i in images]
    return {"images seen": len(seen), "different ones": len(set(seen))}


def _shuffled(f: Function) -> list[Any]:
    order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
    return [_list(f(order, step, 4, rank, 2)) for step in (0, 1) for rank in (0, 1)]


def _other_worlds(f: Function) -> list[Any]:
    return [images_of(f, 24, 12, world) for world in (1, 3, 6)]


def share_of_batch_solution(order: Tensor, step: int, batch_size: int, rank: int, world: int) -> Tensor:
    batch = order[step * batch_size : (step + 1) * batch_size]  # (B,), the same in every process
    size = batch_size // world
    return batch[rank * size : (rank + 1) * size]


def _places(start: Function, size: Function) -> Function:
    """A share by its first place in the order and its length, both from (step, batch_size, rank, world)."""

    def wrong(order: Tensor, step: int, batch_size: int, rank: int, world: int) -> Tensor:
        first = start(step, batch_size, rank, world)
        return order[first : first + size(batch_size, world)]

    return wrong


SHARE_OF_BATCH = Exercise(
    "10.2",
    "share_of_batch",
    share_of_batch_solution,
    facts=[
        Fact(
            "Of a batch of 8 one process alone takes 8 images, each of two takes 4, each of four takes 2.",
            _sizes,
        ),
        Fact(
            "In step 0 of 24 images in order, batch 8, two processes: the first has images 0 to 3, the second 4 to 7.",
            lambda f: images_of(f)[0],
        ),
        Fact(
            "Step 1 goes on where step 0 ended: images 8 to 15, 4 for each of the two.",
            lambda f: images_of(f)[1],
        ),
        Fact(
            "In each step the shares of all processes, laid end to end, are the batch that one process would have.",
            _together,
        ),
        Fact("In a pass of four processes over 32 images every image is seen once.", _seen),
        Fact(
            "Images left over at the end of a pass move nothing: of 27, batch 8, step 1 has 8 to 15.",
            lambda f: images_of(f, 27)[1],
        ),
        Fact("The images are those of the shuffled order, not their places in it.", _shuffled),
        Fact("It holds for 1, 3 and 6 processes.", _other_worlds),
        Fact(
            "The order stays as it was.",
            lambda f: unchanged(lambda order: f(order, 1, 8, 1, 2), torch.arange(24)),
        ),
    ],
    suspects=[
        Suspect(
            "Every process takes the whole batch: they all do the same work, and no step is any larger or faster.",
            _places(lambda s, b, r, w: s * b, lambda b, w: b),
        ),
        Suspect(
            "Every process takes the same part of the batch, the first: the rest is never seen. Add `rank * size`.",
            _places(lambda s, b, r, w: s * b, lambda b, w: b // w),
        ),
        Suspect(
            "`batch_size` was taken as the images of each process. It is that of all together: each has "
            "`batch_size // world`.",
            _places(lambda s, b, r, w: (s * w + r) * b, lambda b, w: b),
        ),
        Suspect(
            "A step was counted in shares: all processes together go on by `batch_size` a step, not by a share.",
            _places(lambda s, b, r, w: s * (b // w) + r * (b // w), lambda b, w: b // w),
        ),
        Suspect(
            "The step has no part in it: every step would train on the same batch. Start at `step * batch_size`.",
            _places(lambda s, b, r, w: r * (b // w), lambda b, w: b // w),
        ),
        Suspect(
            "Every process has a block of the order to itself. It sees each image once, but a step's batch is not "
            "the one that a single process would take: cut the batch first, then the share.",
            lambda order, s, b, r, w: order[r * (len(order) // w) :][s * (b // w) : (s + 1) * (b // w)],
        ),
        Suspect(
            "The images were dealt out like cards, every `world`-th to a process. All are seen once, but laid end "
            "to end the shares are not the batch in its order: take a piece without gaps.",
            lambda order, s, b, r, w: order[s * b : (s + 1) * b][r::w],
        ),
        Suspect(
            "The share begins at `rank` instead of `rank * size`: the shares overlap.",
            _places(lambda s, b, r, w: s * b + r, lambda b, w: b // w),
        ),
        Suspect(
            "The processes were counted from 1: `rank` begins at 0.",
            _places(lambda s, b, r, w: s * b + (r - 1) * (b // w), lambda b, w: b // w),
        ),
        Suspect(
            "These are places in the order, not images: the order has been shuffled, so look the places up in it.",
            lambda order, s, b, r, w: torch.arange(s * b + r * (b // w), s * b + (r + 1) * (b // w)),
        ),
        Suspect(
            "Each process shuffled the order for itself: then images are seen twice, and others never.",
            lambda order, s, b, r, w: share_of_batch_solution(order.roll(r), s, b, r, w),
        ),
    ],
    hints=(
        "First the batch of the step, which is the same in every process. Then the piece of it that belongs to this "
        "process: as many pieces as there are processes, all of one size.",
        "Slicing twice: `order[a:b]`, with `step * batch_size` for a; then again with `rank * size`, where "
        "`size = batch_size // world`.",
        "`batch = order[step * batch_size : (step + 1) * batch_size]`, then "
        "`return batch[rank * size : (rank + 1) * size]`",
    ),
)

# ---- 10.3

MEANS = torch.tensor([[0.0, 1.0], [4.0, 1.0]])  # two processes, two channels
VARIANCES = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
COUNTS = torch.tensor([8, 8])


def parts(*counts: int, channels: int = 3, shift: float = 2.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x of all processes, and what each of them knows of its own part: means, variances, counts."""
    generator = torch.Generator().manual_seed(7)
    x = [torch.randn(n, channels, generator=generator, dtype=torch.float64) * (1 + i) + shift * i
         for i, n in enumerate(counts)]  # fmt: skip
    means = torch.stack([part.mean(dim=0) for part in x])
    variances = torch.stack([part.var(dim=0, correction=0) for part in x])
    return torch.cat(x), means, variances, torch.tensor(counts)


def _merged(*counts: int, **options: Any) -> Function:
    return lambda f: f(*parts(*counts, **options)[1:])


def _as_batch_norm(f: Function) -> list[Any]:
    """The outputs of a batch norm by the merged moments, for a few rows."""
    x, *known = parts(6, 6)
    mean, var = f(*known)
    return [((x - mean) / (var + 1e-5).sqrt())[:2]]


def merge_moments_solution(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    share = (counts / counts.sum())[:, None]  # (P, 1)
    mean = (share * means).sum(dim=0)  # (C,)
    var = (share * (variances + (means - mean) ** 2)).sum(dim=0)  # within the parts, and between them
    return mean, var


def merging(
    *,
    share: Function = lambda counts: (counts / counts.sum())[:, None],
    within: Function = lambda variances: variances,
    between: Function = lambda means, mean: (means - mean) ** 2,
    after: Function = lambda var, counts: var,
) -> Function:
    """A merge with one of its parts exchanged for a wrong one."""

    def wrong(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        weight = share(counts)
        mean = (weight * means).sum(dim=0)
        return mean, after((weight * (within(variances) + between(means, mean))).sum(dim=0), counts)

    return wrong


def _by_squares(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(dim=0)
    return mean, (share * (variances + means**2)).sum(dim=0)


def _in_place(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(dim=0)
    variances += (means - mean) ** 2
    return mean, (share * variances).sum(dim=0)


MERGE_MOMENTS = Exercise(
    "10.3",
    "merge_moments",
    merge_moments_solution,
    facts=[
        Fact(
            "From means and variances of shape (2, 2), two processes and two channels, it gives a mean and a variance "
            "of shape (2,) each.",
            lambda f: kind_and_shape(f(MEANS.clone(), VARIANCES.clone(), COUNTS)),
        ),
        Fact(
            "Two halves with means 0 and 4: the mean of all is 2. In the other channel both are 1, and so is theirs.",
            lambda f: f(MEANS.clone(), VARIANCES.clone(), COUNTS)[0],
        ),
        Fact(
            "If the means agree, the variance is the mean of the variances: 2 and 2 give 2.",
            lambda f: f(MEANS.clone(), VARIANCES.clone(), COUNTS)[1][1],
        ),
        Fact(
            "If they do not, what lies between them counts, too: variances 1 and 3 with means 0 and 4 give "
            "(1 + 3) / 2 + 4 = 6.",
            lambda f: f(MEANS.clone(), VARIANCES.clone(), COUNTS)[1][0],
        ),
        Fact("With parts of 2 and of 6 values the larger one counts three times as much.", _merged(2, 6)),
        Fact("For five processes the moments are those of all values together.", _merged(3, 5, 2, 7, 4)),
        Fact("One process alone has its own moments.", _merged(9)),
        Fact(
            "A large mean takes no digits from the variance: with means near a million it is still right.",
            lambda f: f(MEANS + 1e6, VARIANCES.clone(), COUNTS)[1],
            tolerance=0.05,
        ),
        Fact("A batch normalised by them has the values it would have in one process.", _as_batch_norm),
        Fact(
            "Means and variances stay as they were.",
            lambda f: unchanged(f, MEANS.clone(), VARIANCES.clone(), COUNTS.clone()),
        ),
        Fact(
            "It computes where the moments are: no `.cpu()`, no tensor made on another device.",
            lambda f: elsewhere(f, MEANS, VARIANCES, COUNTS),
        ),
    ],
    suspects=[
        Suspect(
            "The variances were averaged, and that the means lie apart was forgotten: values spread around their "
            "own mean, and the means spread around the mean of all.",
            merging(between=lambda means, mean: torch.zeros_like(means)),
        ),
        Suspect(
            "All processes were counted alike. A part of more values counts for more: weight by "
            "`counts / counts.sum()`.",
            merging(share=lambda counts: torch.ones(len(counts), 1, device=counts.device) / len(counts)),
        ),
        Suspect(
            "Standard deviations were averaged and squared. Variances add up, their roots do not.",
            lambda m, v, c: (
                merging()(m, v, c)[0],
                (merging(within=lambda v: v.sqrt(), between=lambda m, a: 0 * m)(m, v, c)[1]) ** 2,
            ),
        ),
        Suspect(
            "A standard deviation came out: leave the root out.",
            merging(after=lambda var, counts: var.sqrt()),
        ),
        Suspect(
            "The distance of the means was not squared.",
            merging(between=lambda means, mean: (means - mean).abs()),
        ),
        Suspect(
            "This is the mean of the squares. Take the square of the mean off it, or use distances from the mean.",
            _by_squares,
        ),
        Suspect(
            "Taking the square of the mean from the mean of the squares loses the digits in which they differ: "
            "where the mean is large, nothing right is left. Use the distances of the means from their mean.",
            lambda m, v, c: (_by_squares(m, v, c)[0], _by_squares(m, v, c)[1] - _by_squares(m, v, c)[0] ** 2),
        ),
        Suspect(
            "The variances of the parts are missing: only the distances between their means are in it.",
            merging(within=lambda variances: 0 * variances),
        ),
        Suspect(
            "It was divided by one less than the number of values. Batch norm normalises by the plain mean; the "
            "correction is for its running variance only.",
            merging(after=lambda var, counts: var * counts.sum() / (counts.sum() - 1)),
        ),
        Suspect(
            "The parts were summed and never divided by the number of values.",
            merging(share=lambda c: c[:, None]),
        ),
        Suspect("Only the first process was asked.", lambda m, v, c: (m[0], v[0])),
        Suspect(
            "The moments were averaged over the channels (dim=1). Every channel has its own: sum over the "
            "processes, dim=0.",
            lambda m, v, c: (m.mean(dim=1), v.mean(dim=1)),
        ),
        Suspect(
            "Means or variances themselves were changed: write `v = v + ...`, not `v += ...`.", _in_place
        ),
    ],
    hints=(
        "Each part counts by its share of all values. The variance of all has two sources: how values spread within "
        "their part, and how far the parts' means lie from the mean of all.",
        "`share = (counts / counts.sum())[:, None]`, then weighted sums over dim=0 of the means, and of variances plus "
        "squared distances of the means.",
        "`mean = (share * means).sum(dim=0)`, then "
        "`return mean, (share * (variances + (means - mean) ** 2)).sum(dim=0)`",
    ),
)

EXERCISES = (PLAN, SHARE_OF_BATCH, MERGE_MOMENTS)
