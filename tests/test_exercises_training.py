"""Lesson 04: right answers pass however they are written, wrong ones never do."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from answers import both_tests

from simsiam_course.exercises import checks_for
from simsiam_course.exercises.core import judge
from simsiam_course.exercises.training import KNN, LEARNING_RATE, TRAIN_STEP
from simsiam_course.loss import negative_cosine, symmetric_loss

# ---- 4.1


def rate_in_steps(step, total, *, lr, batch_size):
    scaled = lr / 256 * batch_size
    share = step / total
    return scaled / 2 + scaled / 2 * math.cos(share * math.pi)


def rate_by_square(step, total, *, lr, batch_size):
    """(1 + cos 2a) / 2 is the square of cos a."""
    return lr * batch_size / 256 * math.cos(math.pi * step / total / 2) ** 2


def rate_of_numpy(step, total, lr, batch_size):
    return np.float64(lr) * batch_size / 256 * (1 + np.cos(np.pi * step / total)) / 2


def rate_of_torch(step, total, *, lr, batch_size):
    return (
        lr
        * batch_size
        / 256
        * 0.5
        * (1 + torch.cos(torch.tensor(math.pi * step / total, dtype=torch.float64)))
    )


def rate_with_a_floor(step, total, *, lr, batch_size, floor=0.0):
    return floor + (lr * batch_size / 256 - floor) * 0.5 * (1.0 + math.cos(math.pi * step / total))


def rate_from_the_end(step, total, *, lr, batch_size):
    left = total - step
    return lr * batch_size / 256 * (1 - math.cos(math.pi * left / total)) / 2


def rate_of_torchs_own_schedule(step, total, *, lr, batch_size):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr * batch_size / 256)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    for _ in range(step):
        optimizer.step()
        schedule.step()
    return schedule.get_last_lr()[0]


class Rate:
    def __call__(self, step, total, *, lr, batch_size):
        return rate_in_steps(step, total, lr=lr, batch_size=batch_size)


RATES = [
    rate_in_steps,
    rate_by_square,
    rate_of_numpy,
    rate_of_torch,
    rate_with_a_floor,
    rate_from_the_end,
    rate_of_torchs_own_schedule,
    Rate(),
    lambda step, total, **knobs: np.array(rate_in_steps(step, total, **knobs)),
    lambda step, total, lr=0.6, batch_size=64: rate_of_numpy(step, total, lr, batch_size),
    lambda step, total, **knobs: rate_in_steps(int(step), int(total), **knobs),
]


def counting():
    """A rate that counts its calls instead of looking at the step."""
    calls = iter(range(10**9))
    return lambda step, total, *, lr, batch_size: rate_in_steps(
        next(calls) % total, total, lr=lr, batch_size=batch_size
    )


def other(change):
    """The right rate of wrong arguments."""
    return lambda step, total, *, lr, batch_size: rate_of_numpy(*change(step, total, lr, batch_size))


def made(change):
    """Something wrong done to the right rate."""
    return lambda step, total, *, lr, batch_size: change(rate_of_numpy(step, total, lr, batch_size))


def curve(shape):
    return lambda step, total, *, lr, batch_size: lr * batch_size / 256 * shape(step / total)


WRONG_RATES = [
    lambda step, total, *, lr, batch_size: None if step else lr,
    lambda step, total, lr: lr,
    counting(),
    made(lambda rate: [rate]),
    made(str),
    made(lambda rate: -rate),
    made(lambda rate: max(1e-3, rate)),
    made(lambda rate: round(rate, 3)),
    other(lambda step, total, lr, batch: (step, total, 0.6, batch)),
    other(lambda step, total, lr, batch: (step, 960, lr, batch)),
    other(lambda step, total, lr, batch: (step, total + 1, lr, batch)),
    other(lambda step, total, lr, batch: (step, max(1, total - 1), lr, batch)),
    other(lambda step, total, lr, batch: (step, total, lr, min(256, batch))),
    other(lambda step, total, lr, batch: (step, total, lr, batch + 1)),
    curve(lambda done: 0.95 ** (100 * done)),
    curve(lambda done: 0.1 if done > 0.5 else 1),
    curve(lambda done: math.cos(math.pi * done / 2) ** 4),
    lambda step, total, *, lr, batch_size: rate_of_numpy(step, total, lr, batch_size) * (total > 1),
]

# ---- 4.2


def step_in_words(model, x1, x2):
    outputs = model(x1, x2)
    return symmetric_loss(*outputs)


def step_of_two_cosines(model, x1, x2):
    p1, p2, z1, z2 = model(x1, x2)
    return 0.5 * negative_cosine(p1, z2) + 0.5 * negative_cosine(p2, z1)


def step_by_torch(model, x1, x2):
    p1, p2, z1, z2 = model(x1, x2)
    return -(F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()) / 2


def step_detached_twice(model, x1, x2):
    p1, p2, z1, z2 = model(x1, x2)
    return symmetric_loss(p1, p2, z1.detach(), z2.detach())


def step_by_name(model, x1, x2):
    names = ("p1", "p2", "z1", "z2")
    return symmetric_loss(**dict(zip(names, model(x1, x2), strict=True)))


def step_of_forward(model, x1, x2):
    return symmetric_loss(*model.forward(x1, x2))


def step_by_parts(model, x1, x2):
    z1, z2 = model.encode(x1), model.encode(x2)
    return symmetric_loss(model.predictor(z1), model.predictor(z2), z1, z2)


def step_with_a_switch(model, x1, x2, stop_gradient="target"):
    p1, p2, z1, z2 = model(x1, x2)
    loss = symmetric_loss(p1, p2, z1, z2, stop_gradient=stop_gradient)
    assert loss.shape == ()
    return loss


def step_in_train_mode(model, x1, x2):
    model.train()
    return symmetric_loss(*model(x1, x2))


class Step:
    def __call__(self, model, x1, x2):
        return step_in_words(model, x1, x2)


def step_the_other_way_round(model, x1, x2):
    """The loss is symmetric: only the order in which BN's averages move is another one."""
    return symmetric_loss(*model(x2, x1))


def step_with_x2_first(model, x1, x2):
    z2, z1 = model.encode(x2), model.encode(x1)
    return symmetric_loss(model.predictor(z1), model.predictor(z2), z1, z2)


STEPS = [
    step_the_other_way_round,
    step_with_x2_first,
    step_in_words,
    step_of_two_cosines,
    step_by_torch,
    step_detached_twice,
    step_by_name,
    step_of_forward,
    step_by_parts,
    step_with_a_switch,
    step_in_train_mode,
    Step(),
    partial(step_with_a_switch, stop_gradient="target"),
]


def joined(model, x1, x2):
    """Both views in one pass: BN sees twice the batch."""
    z1, z2 = model.encode(torch.cat([x1, x2])).chunk(2)
    return symmetric_loss(model.predictor(z1), model.predictor(z2), z1, z2)


def noisy(model, x1, x2):
    x1 += 0.0
    x1.mul_(1.5)
    return symmetric_loss(*model(x1, x2))


def penalised(model, x1, x2):
    return step_in_words(model, x1, x2) + 1e-2 * sum(p.square().sum() for p in model.parameters())


def from_a_copy(model, x1, x2):
    from copy import deepcopy

    return symmetric_loss(*deepcopy(model)(x1, x2))


def stepping_quietly(model, x1, x2):
    loss = step_in_words(model, x1, x2)
    with torch.no_grad():
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            p -= 0.1 * g
    return loss


def gradient_kept(model, x1, x2):
    loss = step_in_words(model, x1, x2)
    loss.backward(retain_graph=True)
    return loss


def frozen_predictor(model, x1, x2):
    z1, z2 = model.encode(x1), model.encode(x2)
    with torch.no_grad():
        p1, p2 = model.predictor(z1), model.predictor(z2)
    return symmetric_loss(p1 + 0 * z1, p2 + 0 * z2, z1, z2)


def unfrozen(model, x1, x2):
    model.requires_grad_(True)
    return step_in_words(model, x1, x2)


def left_off(model, x1, x2):
    loss = step_in_words(model, x1, x2)
    torch.set_grad_enabled(False)
    return loss


def centred_in_place(model, x1, x2):
    return step_in_words(model, x1.sub_(x1.mean()), x2)


def clipped(model, x1, x2):
    loss = step_in_words(model, x1, x2)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return loss


WRONG_STEPS = [
    unfrozen, left_off, centred_in_place, clipped,
    lambda model, x1, x2: step_in_words(model, x1 + 1, x2),
    joined, noisy, penalised, from_a_copy, stepping_quietly, gradient_kept, frozen_predictor,
    lambda model, x1, x2: model(x1, x2),
    lambda model, x1, x2: step_in_words(model, x2, x2),
    lambda model, x1, x2: 2 * step_in_words(model, x1, x2),
    lambda model, x1, x2: 1 + step_in_words(model, x1, x2),
    lambda model, x1, x2: step_in_words(model, x1, x2).exp(),
    lambda model, x1, x2: step_in_words(model, x1, x2).half(),
    lambda model, x1, x2: step_in_words(model, x1, x2).reshape(1),
    lambda model, x1, x2: symmetric_loss(*model(x1, x2), stop_gradient="wrong_side"),
    lambda model, x1, x2: symmetric_loss(*(t.detach() for t in model(x1, x2))),
    lambda model, x1, x2: (step_in_words(model, x1, x2) + step_in_words(model, x2, x1)) / 2,
    lambda model, x1, x2: step_in_words(model, x1[:-1], x2[:-1]),
    lambda model, x1, x2: step_in_words(model, x1, x2).cpu().detach(),
    lambda model, x1, x2: step_in_words(model, x1.float(), x2.float()),
    lambda model, x1, x2: torch.tensor(float(step_in_words(model, x1, x2)), requires_grad=True),
    lambda model, x1, x2: step_in_words(model, x1 + torch.zeros(x1.shape), x2),
    lambda model, x1: step_in_words(model, x1, x1),
]  # fmt: skip

# ---- 4.3


def knn_in_loops(bank, bank_labels, queries, k, temperature):
    answers = []
    for query in queries:
        cosines = [F.cosine_similarity(query, row, dim=0).item() for row in bank]
        nearest = sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]
        votes = defaultdict(float)
        for i in nearest:
            votes[int(bank_labels[i])] += math.exp(cosines[i] / temperature)
        answers.append(max(votes, key=votes.get))
    return torch.tensor(answers, device=queries.device)


def knn_one_hot(bank, bank_labels, queries, k=20, temperature=0.1):
    similar = torch.einsum("md,nd->mn", F.normalize(queries), F.normalize(bank))
    values, index = similar.sort(dim=1, descending=True)
    one_hot = F.one_hot(bank_labels)[index[:, :k]].to(values)  # (M, k, C)
    return torch.einsum("mk,mkc->mc", (values[:, :k] / temperature).exp(), one_hot).argmax(1)


def knn_class_by_class(bank, bank_labels, queries, k, temperature):
    values, index = F.cosine_similarity(queries[:, None], bank[None], dim=2).topk(k)
    labels = bank_labels[index]
    classes = bank_labels.unique()
    weights = torch.exp(values / temperature)
    votes = torch.stack([(weights * (labels == c)).sum(dim=1) for c in classes], dim=1)
    return classes[votes.argmax(dim=1)]


def knn_by_softmax(bank, bank_labels, queries, k, temperature):
    """The weights of one query may be divided by their sum: that changes no winner."""
    values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).t()).topk(k, dim=1)
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1, device=queries.device, dtype=values.dtype)
    votes.scatter_add_(1, bank_labels[index], F.softmax(values / temperature, dim=1))
    return votes.max(dim=1).indices


def knn_by_mask(bank, bank_labels, queries, k, temperature):
    similar = (queries / queries.norm(dim=1, keepdim=True)) @ (bank / bank.norm(dim=1, keepdim=True)).T
    last = similar.topk(k, dim=1).values[:, -1:]
    weights = torch.where(similar >= last, (similar / temperature).exp(), torch.zeros_like(similar))
    return (weights @ F.one_hot(bank_labels).to(weights)).argmax(dim=1)


def knn_of_numpy(bank, bank_labels, queries, k, temperature):
    device = queries.device
    b, q, y = (t.detach().cpu().numpy() for t in (bank, queries, bank_labels))
    similar = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)
    ).T
    index = np.argsort(-similar, axis=1)[:, :k]
    weights = np.exp(np.take_along_axis(similar, index, 1) / temperature)
    votes = np.stack(
        [np.bincount(y[i], weights=w, minlength=y.max() + 1) for i, w in zip(index, weights, strict=True)]
    )
    return torch.from_numpy(votes.argmax(axis=1)).to(device)


@torch.no_grad()
def knn_index_add(bank, bank_labels, queries, k, temperature):
    values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
    votes = values.new_zeros(len(queries), 1 + bank_labels.max())
    rows = torch.arange(len(queries), device=queries.device)[:, None].expand_as(index)
    votes.index_put_((rows, bank_labels[index]), (values / temperature).exp(), accumulate=True)
    return votes.argmax(dim=-1)


def knn_stable(bank, bank_labels, queries, k, temperature):
    values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
    weights = ((values - values.max()) / temperature).exp()
    votes = weights.new_zeros(len(queries), int(bank_labels.max()) + 1)
    return votes.scatter_add(1, bank_labels[index], weights).argmax(dim=1)


def knn_by_columns(bank, bank_labels, queries, k, temperature):
    values, index = (F.normalize(bank, dim=1) @ F.normalize(queries, dim=1).T).topk(k, dim=0)  # (k, M)
    votes = values.new_zeros(int(bank_labels.max()) + 1, len(queries))
    votes.scatter_add_(0, bank_labels[index], values.div(temperature).exp())
    return votes.argmax(0)


def knn_short_numbers(bank, bank_labels, queries, k, temperature):
    labels = knn_stable(bank, bank_labels, queries, k, temperature)
    return labels.to(bank_labels.dtype)


def knn_with_a_number(bank, bank_labels, queries, k, temperature):
    """A single number may be anywhere: PyTorch lets it meet a tensor of another device."""
    values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
    weights = torch.exp(values / torch.tensor(temperature, dtype=values.dtype))
    rows = torch.arange(len(queries))[:, None].expand_as(index)  # an index may be on the CPU
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1, dtype=values.dtype, device=queries.device)
    return votes.index_put((rows, bank_labels[index]), weights, accumulate=True).argmax(dim=1)


def knn_of_scikit_learn(bank, bank_labels, queries, k, temperature):
    from sklearn.neighbors import KNeighborsClassifier

    def weights(distance):
        return np.exp((1 - distance) / temperature)

    neighbours = KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute")
    neighbours.fit(bank.cpu().numpy(), bank_labels.cpu().numpy())
    return torch.from_numpy(neighbours.predict(queries.cpu().numpy())).to(queries.device)


def knn_of_the_hint(bank, bank_labels, queries, k, temperature):
    nearest, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
    weights = (nearest / temperature).exp()
    votes = weights.new_zeros(len(queries), int(bank_labels.max()) + 1)
    votes.scatter_add_(1, bank_labels[index], weights)
    return votes.argmax(dim=1)


def knn_in_plain_loops(bank, bank_labels, queries, k, temperature):
    return torch.tensor(knn_in_loops(bank, bank_labels, queries, k, temperature).tolist())


KNNS = [
    knn_in_plain_loops,
    lambda bank, bank_labels, queries, k, temperature: knn_stable(
        bank, bank_labels, queries, k, temperature
    ).cpu(),
    knn_of_the_hint,
    knn_with_a_number,
    knn_of_scikit_learn,
    knn_in_loops,
    knn_one_hot,
    knn_class_by_class,
    knn_by_softmax,
    knn_by_mask,
    knn_of_numpy,
    knn_index_add,
    knn_stable,
    knn_by_columns,
    knn_short_numbers,
]


def knn_index_plus(bank, bank_labels, queries, k, temperature):
    values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
    votes = values.new_zeros(len(queries), int(bank_labels.max()) + 1)
    rows = torch.arange(len(queries), device=queries.device)[:, None]
    votes[rows, bank_labels[index]] += (values / temperature).exp()
    return votes.argmax(dim=1)


def knn_in_place(bank, bank_labels, queries, k, temperature):
    bank /= bank.norm(dim=1, keepdim=True)
    return knn_stable(bank, bank_labels, queries, k, temperature)


def knn_made_elsewhere(bank, bank_labels, queries, k, temperature):
    values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1)
    return votes.scatter_add_(1, bank_labels[index], (values / temperature).exp().to(votes)).argmax(dim=1)


def knn_in_float32(bank, bank_labels, queries, k, temperature):
    values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1, device=queries.device)
    return votes.scatter_add_(1, bank_labels[index], (values / temperature).exp()).argmax(dim=1)


def knn_of_ten_classes(bank, bank_labels, queries, k, temperature):
    values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
    votes = values.new_zeros(len(queries), 5)
    return votes.scatter_add_(1, bank_labels[index].clamp(max=4), (values / temperature).exp()).argmax(dim=1)


def knn_of_classes(classes):
    def wrong(bank, bank_labels, queries, k, temperature):
        values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
        votes = values.new_zeros(len(queries), classes)
        return votes.scatter_add_(1, bank_labels[index], (values / temperature).exp()).argmax(dim=1)

    return wrong


def after(change):
    """The right labels, and something wrong done to them."""
    return lambda bank, bank_labels, queries, k, temperature: change(
        knn_stable(bank, bank_labels, queries, k, temperature)
    )


def given(change):
    """The right vote on wrong arguments."""
    return lambda bank, bank_labels, queries, k, temperature: knn_stable(
        *change(bank, bank_labels, queries, k, temperature)
    )


def knn_all_but_stacked(bank, bank_labels, queries, k, temperature):
    return torch.stack([knn_stable(bank, bank_labels, q[None], k, temperature) for q in queries])


def knn_of_the_nearest(bank, bank_labels, queries, k, temperature):
    return bank_labels[knn_stable(bank, torch.arange(len(bank)), queries, k, temperature)]


def knn_without_temperature(bank, bank_labels, queries, k):
    return knn_stable(bank, bank_labels, queries, k, 0.1)


def knn_averaged(bank, bank_labels, queries, k, temperature):
    values, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)
    weights, labels = (values / temperature).exp(), bank_labels[index]
    masks = [labels == c for c in range(int(bank_labels.max()) + 1)]
    votes = [(weights * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1) for mask in masks]
    return torch.stack(votes, dim=1).argmax(dim=1)


knn_squeezed = after(torch.squeeze)

WRONG_KNNS = [
    knn_averaged,
    knn_squeezed,
    knn_index_plus,
    knn_in_place,
    knn_made_elsewhere,
    knn_in_float32,
    knn_of_ten_classes,
    knn_of_classes(10),
    knn_of_classes(20),
    knn_all_but_stacked,
    knn_of_the_nearest,
    knn_without_temperature,
    after(lambda labels: labels.float()),
    after(lambda labels: labels.tolist()),
    after(lambda labels: labels[:, None]),
    after(lambda labels: labels + 1),
    after(lambda labels: labels * 0),
    given(lambda b, y, q, k, t: (b, y, q, min(k + 1, len(b)), t)),
    given(lambda b, y, q, k, t: (b, y, q, max(k - 1, 1), t)),
    given(lambda b, y, q, k, t: (b, y, q, min(20, len(b)), t)),
    given(lambda b, y, q, k, t: (b, y, q, k, 0.1)),
    given(lambda b, y, q, k, t: (b, y, q, k, t**2)),
    given(lambda b, y, q, k, t: (b, y, q, k, t / 2)),
    given(lambda b, y, q, k, t: (b.abs(), y, q.abs(), k, t)),
    given(lambda b, y, q, k, t: (b - b.mean(0), y, q - b.mean(0), k, t)),
    given(lambda b, y, q, k, t: (b, y, q - q.mean(0), k, t)),
]

test_a_right_answer_in_another_style_passes, test_a_wrong_answer_never_passes = both_tests(
    (LEARNING_RATE, RATES, WRONG_RATES),
    (TRAIN_STEP, STEPS, WRONG_STEPS),
    (KNN, KNNS, WRONG_KNNS),
)

SAID = [
    (TRAIN_STEP, unfrozen, "`requires_grad_(True)` unfreezes"),
    (TRAIN_STEP, left_off, "Gradients stay switched off"),
    (TRAIN_STEP, centred_in_place, "A view was changed in place"),
    (TRAIN_STEP, clipped, "Gradients were changed here"),
    (KNN, knn_averaged, "The votes of a class were averaged"),
    (KNN, knn_squeezed, "`squeeze()` removes every dimension"),
    (KNN, knn_in_float32, "The votes are float32"),
]


@pytest.mark.parametrize(("exercise", "function", "words"), SAID)
def test_a_wrong_answer_is_told_its_cause(exercise, function, words):
    verdict = judge(exercise, function)
    assert verdict.cause.startswith(words), (verdict.message, verdict.yours)


def test_the_lesson_restates_what_the_run_is_made_of():
    check = checks_for("04")
    assert {"projector", "predictor", "forward", "symmetric_loss"} <= set(dir(check))
    assert check.whose("train_step") == "the reference train_step"


def test_an_answer_is_used_where_it_is_right(capsys):
    check = checks_for("04")
    assert check.train_step(step_in_words) is step_in_words
    assert check.whose("train_step", "knn") == "your train_step, the reference knn"
    assert check.learning_rate(lambda step, total, *, lr, batch_size: lr) is LEARNING_RATE.reference
    assert "not yet" in capsys.readouterr().out
