"""Lesson 10's checks: right answers pass in any style, wrong ones never do, and known ones hear their own sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from answers import both_tests

from simsiam_course.exercises.core import judge
from simsiam_course.exercises.scaling import EXERCISES, MERGE_MOMENTS, PLAN, SHARE_OF_BATCH

# ---- 10.1


def with_batches(images, epochs, per_process, processes, base):
    batch = per_process * processes
    return epochs * (images // batch), batch / 256 * base


def with_numpy(images, epochs, per_process, processes, base):
    batch = np.int64(per_process) * processes
    return int(epochs * np.floor(images / batch)), float(base * batch / 256)


def with_divmod(images, epochs, per_process, processes, base):
    steps, _ = divmod(images, per_process * processes)
    return [steps * epochs, base / 256 * per_process * processes]


def scaled_twice(images, epochs, per_process, processes, base):
    steps, rate = with_batches(images, epochs, per_process, processes, base)
    return steps, rate * processes


# ---- 10.2


def by_start(order, step, batch_size, rank, world):
    n = batch_size // world
    first = step * batch_size + rank * n
    return order[first : first + n]


def by_chunks(order, step, batch_size, rank, world):
    return order.split(batch_size)[step].chunk(world)[rank]


def by_view(order, step, batch_size, rank, world):
    whole = order[: len(order) // batch_size * batch_size]
    return whole.view(-1, world, batch_size // world)[step, rank]


def by_index(order, step, batch_size, rank, world):
    n = batch_size // world
    return torch.stack([order[step * batch_size + rank * n + i] for i in range(n)])


def drops_the_last(order, step, batch_size, rank, world):
    return by_start(order, step, batch_size, rank, world)[:-1]


def backwards(order, step, batch_size, rank, world):
    return by_start(order, step, batch_size, world - 1 - rank, world)


# ---- 10.3


def by_sums(means, variances, counts):
    n = counts[:, None]
    total = n.sum()
    mean = (n * means).sum(0) / total
    squares = (n * variances).sum(0) + (n * (means - mean).square()).sum(0)
    return mean, squares / total


def one_by_one(means, variances, counts):
    """Chan's rule, part by part."""
    mean, var, n = means[0], variances[0], counts[0]
    for m, v, c in zip(means[1:], variances[1:], counts[1:], strict=True):
        total = n + c
        distance = m - mean
        var = (n * var + c * v) / total + distance**2 * n * c / total**2
        mean, n = mean + distance * c / total, total
    return mean, var


def as_list(means, variances, counts):
    return list(by_sums(means, variances, counts))


def on_the_cpu(means, variances, counts):
    share = (counts / counts.sum())[:, None]
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean) ** 2)).sum(0) + torch.zeros(len(mean))[
        : len(mean)
    ].cpu()


test_right, test_wrong = both_tests(
    (PLAN, [with_batches, with_numpy, with_divmod], [scaled_twice]),
    (SHARE_OF_BATCH, [by_start, by_chunks, by_view, by_index], [drops_the_last, backwards]),
    (MERGE_MOMENTS, [by_sums, one_by_one], [lambda m, v, c: (m.mean(0), v.mean(0) + 1)]),
)

SUSPECTS = [(exercise, i) for exercise in EXERCISES for i in range(len(exercise.suspects))]


@pytest.mark.parametrize(("exercise", "i"), SUSPECTS, ids=[f"{e.number}-{i}" for e, i in SUSPECTS])
def test_a_known_wrong_answer_hears_its_own_sentence(exercise, i):
    suspect = exercise.suspects[i]
    verdict = judge(exercise, suspect.function)
    assert (verdict.status, verdict.cause) == ("failed", suspect.says)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_the_solution_passes_and_every_sentence_differs(exercise):
    assert judge(exercise, exercise.solution or exercise.reference).status == "passed"
    said = [suspect.says for suspect in exercise.suspects]
    assert len(set(said)) == len(said) >= 8
