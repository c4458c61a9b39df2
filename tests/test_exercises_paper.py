"""Lesson 07: right answers pass however they are written, wrong ones never do."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from answers import both_tests
from torch import nn

from simsiam_course.exercises import checks_for
from simsiam_course.exercises.core import judge
from simsiam_course.exercises.paper import ALTERNATING_STEP, DIRECTPRED, MOVING_AVERAGE
from simsiam_course.heads import directpred_weight
from simsiam_course.loss import negative_cosine, symmetric_loss
from simsiam_course.relatives import alternating_step, momentum_update, moving_average

# ---- 7.1


def average_in_a_loop(eta, z, seen, momentum):
    rows = []
    for old, new, known in zip(eta, z.detach(), seen, strict=True):
        rows.append(momentum * old + (1 - momentum) * new if known else new)
    return torch.stack(rows)


def average_by_index(eta, z, seen, momentum):
    target = z.detach().clone()
    known = seen.squeeze(1)
    target[known] = momentum * eta[known] + (1 - momentum) * target[known]
    return target


@torch.no_grad()
def average_by_share(eta, z, seen, momentum):
    """Who was never seen has a momentum of 0."""
    share = momentum * seen
    return share * eta + (1 - share) * z


def average_as_a_step(eta, z, seen, momentum):
    z = z.detach()
    return z + (eta - z) * momentum * seen


def average_under_no_grad(eta, z, seen, momentum):
    with torch.no_grad():
        return torch.where(seen, eta.lerp(z, 1 - momentum), z)


def average_of_a_copy(eta, z, seen, momentum):
    target = eta.clone()
    target *= momentum
    target += (1 - momentum) * z.detach()
    return target.where(seen, z.detach())


def average_masked(eta, z, seen, momentum):
    both = torch.add(eta * momentum, z.detach(), alpha=1 - momentum)
    return both.masked_fill(~seen, 0) + z.detach().masked_fill(seen, 0)


def average_with_an_option(eta, z, seen, momentum=0.8, *, detach=True):
    z = z.detach() if detach else z
    return torch.where(seen.expand_as(z), momentum * eta + (1 - momentum) * z, z)


def average_where_needed(eta, z, seen, momentum):
    z = z.data
    if not seen.any():
        return z
    return torch.where(seen, eta - (1 - momentum) * (eta - z), z)


def average_in_float64(eta, z, seen, momentum):
    both = momentum * eta.double() + (1 - momentum) * z.detach().double()
    return torch.where(seen, both, z.detach().double()).to(z.dtype)


class Average(nn.Module):
    def forward(self, eta, z, seen, momentum):
        return torch.where(seen, torch.lerp(z, eta, momentum), z).detach()


AVERAGES = [
    average_in_a_loop, average_by_index, average_by_share, average_as_a_step, average_under_no_grad, average_of_a_copy,
    average_masked, average_with_an_option, average_where_needed, average_in_float64, Average(),
    lambda eta, z, seen, momentum: torch.where(seen, momentum * eta + (1 - momentum) * z, z).detach(),
    lambda eta, z, seen, momentum: torch.where(~seen, z.detach(), momentum * eta + (1.0 - momentum) * z.detach()),
]  # fmt: skip


def averaged(change):
    """Something wrong done to the right average."""
    return lambda eta, z, seen, momentum: change(moving_average(eta, z, seen, momentum))


def given(change):
    """The right average of something else."""
    return lambda eta, z, seen, momentum: moving_average(*change(eta, z, seen, momentum))


def average_by_one_decision(eta, z, seen, momentum):
    return moving_average(eta, z, seen[:1].expand_as(seen), momentum)


def average_that_counts(eta, z, seen, momentum, calls=[]):  # noqa: B006
    """The plain mean over all passes: its share of the new one shrinks."""
    calls.append(1)
    return torch.where(seen, eta + (z - eta) / (1 + len(calls)), z).detach()


def average_kept(eta, z, seen, momentum):
    eta[:] = moving_average(eta, z, seen, momentum)
    return eta


def average_marked(eta, z, seen, momentum):
    target = moving_average(eta, z, seen, momentum)
    seen.fill_(True)
    return target


def average_made_elsewhere(eta, z, seen, momentum):
    target = torch.zeros(z.shape, dtype=z.dtype)
    return target + moving_average(eta, z, seen, momentum)


def average_cut(eta, z, seen, momentum):
    z.detach_()
    return moving_average(eta, z, seen, momentum)


def average_of_few(eta, z, seen, momentum):
    return moving_average(eta.squeeze(), z.squeeze(), seen.squeeze(), momentum)


WRONG_AVERAGES = [
    average_by_one_decision, average_that_counts, average_kept, average_marked, average_made_elsewhere, average_cut,
    average_of_few,
    averaged(lambda eta: eta.tolist()),
    averaged(lambda eta: -eta),
    averaged(lambda eta: eta.requires_grad_()),
    averaged(lambda eta: eta.mean(dim=0)),
    averaged(lambda eta: eta - eta.mean(dim=0)),
    averaged(lambda eta: eta.half().to(eta.dtype)),
    averaged(lambda eta: eta.sum()),
    averaged(lambda eta: (eta, True)),
    averaged(lambda eta: eta.round(decimals=2)),
    given(lambda eta, z, seen, m: (z.detach(), eta, seen, m)),
    given(lambda eta, z, seen, m: (eta, z, ~seen, m)),
    given(lambda eta, z, seen, m: (eta, z, seen, m**2)),
    given(lambda eta, z, seen, m: (eta, z, seen, min(m, 0.9))),
    given(lambda eta, z, seen, m: (eta, z, eta != 0, m)),
    given(lambda eta, z, seen, m: (eta.flip(0), z, seen, m)),
    given(lambda eta, z, seen, m: (F.normalize(eta, dim=1), F.normalize(z, dim=1), seen, m)),
    torch.inference_mode()(moving_average),
    lambda eta, z, seen, m: torch.where(seen, m * eta + (1 - m) * z, z.detach()),
    lambda eta, z, seen, m: torch.where(torch.full(seen.shape, True) & seen, m * eta + (1 - m) * z, z).detach(),
    lambda eta, z, seen, momentum: momentum * eta + (1 - momentum) * z,
    lambda eta, z, seen: moving_average(eta, z, seen, 0.8),
]  # fmt: skip

# ---- 7.2


def step_in_words(model, target, x1, x2, *, step, every):
    due = step % every == 0
    if due:
        target.follow(model.backbone, model.projector)
    t1, t2 = target(x1), target(x2)
    p1, p2, _, _ = model(x1, x2)
    return symmetric_loss(p1, p2, t1, t2)


def step_of_two_cosines(model, target, x1, x2, *, step, every):
    if not step % every:
        target.follow(model.backbone, model.projector, momentum=0.0)
    p1, p2 = model(x1, x2)[:2]
    return negative_cosine(p1, target(x2)) / 2 + negative_cosine(p2, target(x1)) / 2


def step_by_torch(model, target, x1, x2, step, every):
    if step in range(0, step + 1, every):
        target.follow(model.backbone, model.projector)
    p1, p2, *_ = model(x1, x2)
    both = F.cosine_similarity(p1, target(x2)) + F.cosine_similarity(p2, target(x1))
    return -both.mean() / 2


def step_with_buffers(model, target, x1, x2, *, step, every):
    """The running statistics of BN are copied, too: in train mode nobody reads them."""
    if step // every * every == step:
        target.encoder.load_state_dict(nn.Sequential(model.backbone, model.projector).state_dict())
    p1, p2, _, _ = model(x1, x2)
    with torch.no_grad():
        z1, z2 = target(x1), target(x2)
    return symmetric_loss(p1, p2, z1, z2)


def step_weight_by_weight(model, target, x1, x2, *, step, every):
    if step % every == 0:
        weights = [*model.backbone.parameters(), *model.projector.parameters()]
        for kept, p in zip(target.parameters(), weights, strict=True):
            kept.data.copy_(p.data)
    p1, p2, _, _ = model(x1, x2)
    return symmetric_loss(p1, p2, target(x1).detach(), target(x2).detach())


def step_with_a_new_copy(model, target, x1, x2, *, step, every):
    if step % every == 0:
        target.encoder = deepcopy(nn.Sequential(model.backbone, model.projector))
    return alternating_step(model, target, x1, x2, step=1, every=2)


def step_made_again(model, target, x1, x2, *, step, every):
    if step % every == 0:
        target.__init__(model.backbone, model.projector)
    return alternating_step(model, target, x1, x2, step=1, every=2)


def step_by_momentum(model, target, x1, x2, *, step, every):
    """A momentum of 1 leaves the target as it is."""
    momentum_update(target.encoder, nn.Sequential(model.backbone, model.projector), float(step % every != 0))
    p1, p2, _, _ = model(x1, x2)
    return symmetric_loss(p1, p2, target(x1), target(x2))


def step_by_parts(model, target, x1, x2, *, step, every):
    if step % every == 0:
        target.follow(model.backbone, model.projector)
    p2 = model.predictor(model.encode(x2))
    p1 = model.predictor(model.encode(x1))
    return symmetric_loss(p1, p2, target(x1), target(x2))


def step_the_other_way_round(model, target, x1, x2, *, step, every):
    return step_in_words(model, target, x2, x1, step=step, every=every)


def step_with_an_option(model, target, x1, x2, *, step=0, every=1, loss=symmetric_loss):
    if step % every == 0:
        target.follow(model.backbone, model.projector)
    p1, p2, _, _ = model(x1, x2)
    value = loss(p1, p2, target(x1), target(x2))
    assert value.shape == ()
    return value


class Step:
    def __call__(self, model, target, x1, x2, *, step, every):
        return step_in_words(model, target, x1, x2, step=step, every=every)


STEPS = [
    step_in_words, step_of_two_cosines, step_by_torch, step_with_buffers, step_weight_by_weight, step_with_a_new_copy,
    step_made_again, step_by_momentum, step_by_parts, step_the_other_way_round, step_with_an_option, Step(),
]  # fmt: skip


def lost(change):
    """Something wrong done to the right loss."""
    return lambda *tensors, step, every: change(step_in_words(*tensors, step=step, every=every))


def at(change):
    """The right step at another moment."""

    def answer(*tensors, step, every):
        step, every = change(step, every)
        return step_in_words(*tensors, step=step, every=every)

    return answer


def counting():
    """A step that counts its calls instead of looking at `step`."""
    calls = iter(range(10**9))
    return lambda *tensors, step, every: step_in_words(*tensors, step=next(calls), every=every)


def before(change):
    def answer(model, target, x1, x2, *, step, every):
        change(model, target, x1, x2)
        return step_in_words(model, target, x1, x2, step=step, every=every)

    return answer


def step_in_eval_for_a_moment(model, target, x1, x2, *, step, every):
    if step % every == 0:
        target.follow(model.backbone, model.projector)
    p1, p2, _, _ = model(x1, x2)
    target.eval()
    z1, z2 = target(x1), target(x2)
    target.train()
    return symmetric_loss(p1, p2, z1, z2)


def step_of_joined_views(model, target, x1, x2, *, step, every):
    if step % every == 0:
        target.follow(model.backbone, model.projector)
    p1, p2 = model.predictor(model.encode(torch.cat([x1, x2]))).chunk(2)
    return symmetric_loss(p1, p2, target(x1), target(x2))


def step_of_a_joined_target(model, target, x1, x2, *, step, every):
    if step % every == 0:
        target.follow(model.backbone, model.projector)
    p1, p2, _, _ = model(x1, x2)
    return symmetric_loss(p1, p2, *target(torch.cat([x1, x2])).chunk(2))


def step_of_a_copy(model, target, x1, x2, *, step, every):
    return step_in_words(deepcopy(model), target, x1, x2, step=step, every=every)


def step_of_remembered_targets(model, target, x1, x2, *, step, every, kept={}):  # noqa: B006
    """The z of the first batch of a round, for every batch of it."""
    if step % every == 0 or "z" not in kept:
        target.follow(model.backbone, model.projector)
        kept["z"] = target(x1), target(x2)
    p1, p2, _, _ = model(x1, x2)
    return symmetric_loss(p1, p2, *kept["z"])


def step_with_a_swap(model, target, x1, x2, *, step, every):
    """f and the target change places."""
    if step % every == 0:
        old = deepcopy(target.encoder)
        target.follow(model.backbone, model.projector)
        momentum_update(nn.Sequential(model.backbone, model.projector), old, 0.0)
    p1, p2, _, _ = model(x1, x2)
    return symmetric_loss(p1, p2, target(x1), target(x2))


def step_that_learns(model, target, x1, x2, *, step, every):
    loss = step_in_words(model, target, x1, x2, step=step, every=every)
    with torch.no_grad():
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            p -= 0.1 * g
    return loss


def step_of_one_view(model, target, x1, x2, *, step, every):
    return step_in_words(model, target, x1, x1, step=step, every=every)


WRONG_STEPS = [
    counting(), step_in_eval_for_a_moment, step_of_joined_views, step_of_a_joined_target, step_of_a_copy,
    step_of_remembered_targets, step_with_a_swap, step_that_learns, step_of_one_view,
    lost(lambda loss: loss * 2), lost(lambda loss: loss + 1), lost(lambda loss: -loss), lost(lambda loss: loss[None]),
    lost(lambda loss: loss.detach()), lost(lambda loss: loss.detach().requires_grad_()), lost(float),
    lost(lambda loss: loss.half()), lost(lambda loss: (loss, 0)),
    at(lambda step, every: (step + 1, every)),
    at(lambda step, every: (step, 2 * every)),
    at(lambda step, every: (step, every + 1)),
    at(lambda step, every: (step // every, every)),
    at(lambda step, every: (max(step, 1), every)),
    at(lambda step, every: (min(step, every), every)),
    at(lambda step, every: (step, min(every, 3))),
    before(lambda model, target, x1, x2: target.follow(model.backbone, model.projector, 0.99)),
    before(lambda model, target, x1, x2: momentum_update(target.encoder[1], model.projector, 0.0)),
    before(lambda model, target, x1, x2: model.encode(x1)),
    before(lambda model, target, x1, x2: model.zero_grad()),
    before(lambda model, target, x1, x2: x2.mul_(0.5)),
    before(lambda model, target, x1, x2: model.requires_grad_(True)),
    before(lambda model, target, x1, x2: model.train()),
    before(lambda model, target, x1, x2: target.train()),
    before(lambda model, target, x1, x2: torch.set_grad_enabled(False)),
    lambda model, target, x1, x2: symmetric_loss(*model(x1, x2)),
]  # fmt: skip

# ---- 7.3


def weight_of_rank_one_maps(correlation, eps):
    values, U = torch.linalg.eigh(correlation)
    W = torch.zeros_like(correlation)
    for value, u in zip(values, U.T, strict=True):
        W = W + ((value.clamp(min=0) / values[-1]).sqrt() + eps) * torch.outer(u, u)
    return W


def weight_by_svd(correlation, eps):
    U, s, Vh = torch.linalg.svd(correlation)
    return U @ torch.diag(torch.sqrt(s / s[0]) + eps) @ U.T


def weight_of_a_root(correlation, eps):
    """The matrix root of C / max, plus eps times the identity: the same."""
    values, U = torch.linalg.eigh(correlation)
    root = U * (values.relu() / values.max()) ** 0.5 @ U.mT
    return root + eps * torch.eye(len(U), dtype=root.dtype, device=root.device)


def weight_normalised_first(correlation, eps):
    C = correlation / torch.linalg.matrix_norm(correlation, ord=2)
    values, U = torch.linalg.eigh((C + C.T) / 2)
    return torch.einsum("ik,k,jk->ij", U, values.clamp(min=1e-12).sqrt() + eps, U)


def weight_with_abs(correlation, eps=0.01):
    values, U = torch.linalg.eigh(correlation)
    return U @ torch.diag_embed(torch.abs(values / values.abs().max()).sqrt().add(eps)) @ U.transpose(0, 1)


def weight_of_roots(correlation, eps):
    values, U = torch.linalg.eigh(correlation)
    roots = torch.where(values > 0, values, torch.zeros_like(values)).sqrt()
    return (U * (roots / roots.max() + eps)[None, :]).matmul(U.t())


def weight_in_descending_order(correlation, eps):
    values, U = torch.linalg.eigh(correlation)
    values, U = values.flip(0), U.flip(1)
    return U @ ((values.clamp(min=0) / values[0]).sqrt() + eps).diag() @ U.T


@torch.no_grad()
def weight_under_no_grad(correlation, eps):
    values, U = torch.linalg.eigh(correlation.double())
    lengths = (values.clamp(min=0) / values.max()).sqrt() + eps
    return (U @ torch.diag(lengths) @ U.T).to(correlation.dtype)


def weight_with_numbers(correlation, eps):
    values, U = torch.linalg.eigh(correlation)
    largest = values.max().item()
    return U @ torch.diag((values.clamp(min=0) / largest).sqrt() + eps) @ U.T


def weight_with_a_moved_identity(correlation, eps):
    values, U = torch.linalg.eigh(correlation)
    root = U @ torch.diag((values.clamp(min=0) / values.max()).sqrt()) @ U.T
    return root + eps * torch.eye(len(correlation)).to(correlation)


class Weight:
    def __call__(self, correlation, eps):
        return directpred_weight(correlation, eps)


WEIGHTS = [
    weight_of_rank_one_maps, weight_by_svd, weight_of_a_root, weight_normalised_first, weight_with_abs, weight_of_roots,
    weight_in_descending_order, weight_under_no_grad, weight_with_numbers, weight_with_a_moved_identity, Weight(),
    directpred_weight,
]  # fmt: skip


def weighted(change):
    """Something wrong done to the right W."""
    return lambda correlation, eps: change(directpred_weight(correlation, eps))


def spectrum(change):
    """Other lengths for the eigenvalues, ascending."""

    def answer(correlation, eps):
        values, U = torch.linalg.eigh(correlation)
        return U @ torch.diag(change(values, eps)) @ U.T

    return answer


def weight_by_cholesky(correlation, eps):
    C = correlation / torch.linalg.eigvalsh(correlation)[-1]
    return torch.linalg.cholesky(C) + eps * torch.eye(len(C))


def weight_of_the_diagonal(correlation, eps):
    return torch.diag((correlation.diag() / correlation.diag().max()).sqrt() + eps)


def weight_on_the_cpu(correlation, eps):
    values, U = torch.linalg.eigh(correlation)
    lengths = torch.zeros(len(values), dtype=values.dtype)
    lengths += (values.clamp(min=0) / values.max()).sqrt() + eps
    return U @ torch.diag(lengths) @ U.T


def weight_by_unsorted_svd(correlation, eps):
    _, s, Vh = torch.linalg.svd(correlation)
    return Vh @ torch.diag((s / s.max()).sqrt() + eps) @ Vh.T


WRONG_WEIGHTS = [
    weight_by_cholesky, weight_of_the_diagonal, weight_on_the_cpu, weight_by_unsorted_svd,
    weighted(lambda W: -W), weighted(lambda W: W @ W), weighted(torch.linalg.inv), weighted(lambda W: W.float()),
    weighted(lambda W: W / W.norm()), weighted(lambda W: W.tolist()), weighted(lambda W: W.triu()),
    weighted(lambda W: W.flip(0)), weighted(lambda W: W - W.mean()), weighted(lambda W: W / W.max()),
    spectrum(lambda v, eps: (v / v.max()).sqrt() + eps),
    spectrum(lambda v, eps: (v.clamp(min=0) / v.max()).sqrt() + 0.01),
    spectrum(lambda v, eps: (v.clamp(min=0) / v.max()).sqrt().clamp(min=eps)),
    spectrum(lambda v, eps: (v.clamp(min=0) / v.max()).sqrt() * (1 + eps)),
    spectrum(lambda v, eps: (v.clamp(min=0) / v.max()).sqrt() + eps**2),
    spectrum(lambda v, eps: (v.clamp(min=0) / v.max()) ** 0.25 + eps),
    spectrum(lambda v, eps: (v.clamp(min=0) / v[-2:].mean()).sqrt() + eps),
    spectrum(lambda v, eps: v.clamp(min=0).sqrt() / v.clamp(min=0).sqrt().sum() + eps),
    spectrum(lambda v, eps: (v.clamp(min=0) / v.norm()).sqrt() + eps),
    spectrum(lambda v, eps: (1 - v.clamp(min=0) / v.max()).clamp(min=0).sqrt() + eps),
    spectrum(lambda v, eps: torch.ones_like(v) + eps),
    lambda correlation: directpred_weight(correlation, 0.01),
]  # fmt: skip

test_a_right_answer_in_another_style_passes, test_a_wrong_answer_never_passes = both_tests(
    (MOVING_AVERAGE, AVERAGES, WRONG_AVERAGES),
    (ALTERNATING_STEP, STEPS, WRONG_STEPS),
    (DIRECTPRED, WEIGHTS, WRONG_WEIGHTS),
)

SAID = [
    (MOVING_AVERAGE, average_kept, "eta was changed in place"),
    (MOVING_AVERAGE, average_cut, "z itself was changed for good"),
    (MOVING_AVERAGE, WRONG_AVERAGES[-2], "`seen` was never looked at"),
    (MOVING_AVERAGE, torch.inference_mode()(moving_average), "What is made under `torch.inference_mode()`"),
    (MOVING_AVERAGE, average_made_elsewhere, "A tensor was made on the CPU"),
    (ALTERNATING_STEP, at(lambda step, every: (step + 1, every)), "The copy comes one step early"),
    (ALTERNATING_STEP, before(lambda model, target, x1, x2: model.zero_grad()), "`zero_grad()` deletes"),
    (DIRECTPRED, weighted(lambda W: W.float()), "It always computes in float32"),
    (DIRECTPRED, spectrum(lambda v, eps: (v / v.max()).sqrt() + eps), "A negative eigenvalue"),
]


@pytest.mark.parametrize(("exercise", "function", "words"), SAID)
def test_a_wrong_answer_is_told_its_cause(exercise, function, words):
    verdict = judge(exercise, function)
    assert verdict.cause.startswith(words), (verdict.message, verdict.yours)


def test_an_answer_is_used_where_it_is_right(capsys):
    check = checks_for("07")
    assert check.moving_average(average_by_index) is average_by_index
    assert check.alternating_step(lambda *_, **__: torch.zeros(())) is alternating_step
    assert check.whose("moving_average", "directpred_weight") == (
        "your moving_average, the reference directpred_weight"
    )
    assert "not yet" in capsys.readouterr().out
