"""Lesson 08's checks: right answers pass in any style, wrong ones never do."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from answers import both_tests
from torch import nn

from simsiam_course.exercises.core import judge
from simsiam_course.exercises.relatives import MOMENTUM_UPDATE, NT_XENT, OFF_DIAGONAL_TERM


def unit(z):
    return z / z.norm(dim=1, keepdim=True)


# ---- 8.1 nt_xent


def without_the_diagonal(z1, z2, temperature):
    """The 2B - 1 others of each row, taken out by a mask."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    n = len(z)
    others = ~torch.eye(n, dtype=torch.bool, device=z.device)
    logits = (z @ z.T)[others].view(n, n - 1) / temperature
    i = torch.arange(n, device=z.device)
    partner = (i + n // 2) % n
    return F.cross_entropy(logits, partner - (partner > i).long())


def by_loops(z1, z2, temperature):
    z = [row / row.norm() for row in (*z1, *z2)]
    total = 0.0
    for i, query in enumerate(z):
        weights = [(query @ other / temperature).exp() for j, other in enumerate(z) if j != i]
        partner = (i + len(z1)) % len(z)
        total = total - (query @ z[partner] / temperature - sum(weights).log())
    return total / len(z)


def subtract_itself(z1, z2, temperature):
    z = F.normalize(torch.cat([z1, z2], dim=0), dim=-1)
    weights = torch.exp(z @ z.t() / temperature)
    below = weights.sum(dim=1) - weights.diagonal()
    above = torch.exp((F.normalize(z1, dim=1) * F.normalize(z2, dim=1)).sum(dim=1) / temperature)
    return (below / torch.cat([above, above])).log().mean()


def positive_first(z1, z2, temperature=0.5):
    """As public code does it: the positive in column 0, the 2B - 2 negatives behind it."""
    features = F.normalize(torch.cat([z1, z2]), dim=1)
    labels = torch.cat([torch.arange(len(z1)) for _ in range(2)])
    labels = (labels[None] == labels[:, None]).to(features.device)
    mask = torch.eye(len(labels), dtype=torch.bool).to(features.device)
    similarity, labels = features @ features.T, labels[~mask].view(len(labels), -1)
    similarity = similarity[~mask].view(len(similarity), -1)
    positives = similarity[labels].view(len(labels), -1)
    negatives = similarity[~labels].view(len(labels), -1)
    logits = torch.cat([positives, negatives], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def four_blocks(z1, z2, temperature):
    """As Google's own code: each view against the other one and against itself."""
    a, b = unit(z1), unit(z2)
    itself = torch.eye(len(a), dtype=a.dtype, device=a.device) * 1e9
    aa, bb = a @ a.T / temperature - itself, b @ b.T / temperature - itself
    ab = a @ b.T / temperature
    labels = torch.arange(len(a), device=a.device)
    one = F.cross_entropy(torch.cat([ab, aa], dim=1), labels)
    return (one + F.cross_entropy(torch.cat([ab.T, bb], dim=1), labels)) / 2


def interleaved(z1, z2, temperature):
    z = F.normalize(torch.stack([z1, z2], dim=1).flatten(0, 1), dim=1)
    logits = z @ z.T / temperature
    logits = logits - torch.diag(torch.full((len(z),), torch.inf, dtype=z.dtype, device=z.device)).nan_to_num(
        0, math.inf
    )
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device) ^ 1)


def in_place_on_its_own(z1, z2, temperature):
    logits = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = logits @ logits.T
    logits = logits / temperature
    logits.fill_diagonal_(-9e15)
    n = len(z1)
    right = torch.cat([logits.diagonal(n), logits.diagonal(-n)])
    return (logits.logsumexp(dim=1) - right).mean()


def by_cosine_similarity(z1, z2, temperature):
    z = torch.cat((z1, z2))
    cosines = F.cosine_similarity(z[:, None], z[None], dim=-1) / temperature
    cosines = torch.where(torch.eye(len(z), device=z.device) > 0, torch.tensor(-1e30, dtype=z.dtype), cosines)
    labels = torch.cat([torch.arange(len(z1), len(z)), torch.arange(len(z1))]).to(z.device)
    return nn.CrossEntropyLoss()(cosines, labels)


def with_log_softmax(z1, z2, temperature):
    q = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = torch.einsum("id,jd->ij", q, q).div(temperature)
    logits = logits.masked_fill(torch.eye(len(q), device=q.device).bool(), float("-inf"))
    rows = torch.arange(len(q), device=q.device)
    return -F.log_softmax(logits, dim=1)[rows, rows.roll(len(z1))].mean()


def with_options(z1, z2, temperature=0.1, *, reduction="mean"):
    z = F.normalize(torch.vstack([z1, z2]), dim=1)
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), device=z.device) == 1, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z1)), reduction=reduction)


class AsModule(nn.Module):
    def forward(self, z1, z2, temperature):
        return with_log_softmax(z1, z2, temperature)


def double_inside(z1, z2, temperature):
    return with_log_softmax(z1.double(), z2.double(), temperature).to(z1.dtype)


RIGHT_NT_XENT = [
    without_the_diagonal, by_loops, subtract_itself, positive_first, four_blocks, interleaved, in_place_on_its_own,
    by_cosine_similarity, with_log_softmax, with_options, AsModule(), double_inside,
]  # fmt: skip


def negatives_of_one_view(z1, z2, temperature):
    a, b = unit(z1), unit(z2)
    labels = torch.arange(len(a), device=a.device)
    return F.cross_entropy(torch.cat([a @ b.T], dim=1) / temperature, labels)


def own_view_only(z1, z2, temperature):
    a, b = unit(z1), unit(z2)
    right = (a * b).sum(1, keepdim=True)
    itself = torch.eye(len(a), dtype=torch.bool, device=a.device)
    logits = torch.cat([right, (a @ a.T).masked_fill(itself, -torch.inf)], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(a), dtype=torch.long, device=a.device))


def masked_by_minus_twenty(z1, z2, temperature):
    z = unit(torch.cat([z1, z2]))
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -20)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z1)))


def half_detached(z1, z2, temperature):
    """Right value, half of the gradient."""
    z = unit(torch.cat([z1, z2]))
    logits = z @ z.detach().T / temperature
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z1)))


def made_on_the_cpu(z1, z2, temperature):
    z = unit(torch.cat([z1, z2]))
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z1)))


def single_precision(z1, z2, temperature):
    return with_log_softmax(z1.float(), z2.float(), temperature).to(z1.dtype)


def fixed_temperature(z1, z2, temperature):
    return with_log_softmax(z1, z2, 0.5)


def fixed_batch(z1, z2, temperature):
    z = unit(torch.cat([z1, z2]))
    logits = (z @ z.T / temperature).masked_fill(
        torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf
    )
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(2))


def unit_length_is_a_constant(z1, z2, temperature):
    z = torch.cat([z1, z2])
    z = z / z.norm(dim=1, keepdim=True).detach()
    logits = (z @ z.T / temperature).masked_fill(
        torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf
    )
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z1)))


def squared_distances(z1, z2, temperature):
    z = unit(torch.cat([z1, z2]))
    logits = -(z[:, None] - z[None]).square().sum(-1) / temperature
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z1)))


def centred(z1, z2, temperature):
    z = torch.cat([z1, z2])
    return with_log_softmax(*(z - z.mean(dim=0)).chunk(2), temperature)


def clamped(z1, z2, temperature):
    z = unit(torch.cat([z1, z2]))
    logits = (z @ z.T).clamp(min=0) / temperature
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z1)))


def smoothed(z1, z2, temperature):
    z = unit(torch.cat([z1, z2]))
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -1e4)
    partner = torch.arange(len(z), device=z.device).roll(len(z1))
    return F.cross_entropy(logits, partner, label_smoothing=0.01)


def with_a_margin(z1, z2, temperature):
    return with_log_softmax(z1, z2, temperature) + 1e-3


def no_return(z1, z2, temperature):
    with_log_softmax(z1, z2, temperature)


WRONG_NT_XENT = [
    negatives_of_one_view, own_view_only, masked_by_minus_twenty, half_detached, made_on_the_cpu, single_precision,
    fixed_temperature, fixed_batch, unit_length_is_a_constant, squared_distances, centred, clamped, smoothed,
    with_a_margin, no_return, lambda z1, z2, temperature: with_log_softmax(z1, z1, temperature),
    lambda z1, z2, temperature: with_log_softmax(z1, z2, 1 / temperature),
    lambda z1, z2, temperature: with_log_softmax(z1, z2, temperature) / temperature,
    lambda z1, z2, temperature: with_log_softmax(z1, z2, temperature) / math.log(2),
    lambda z1, z2, temperature: torch.zeros(()), "a string",
]  # fmt: skip


# ---- 8.2 momentum_update


def with_data(target, online, momentum):
    """The form of much public code: the values behind the Parameter are exchanged."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.data = momentum * old.data + (1 - momentum) * new.data


def with_data_in_place(target, online, momentum):
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.data.mul_(momentum).add_(new.data, alpha=1 - momentum)


@torch.no_grad()
def with_lerp(target, online, momentum):
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, 1 - momentum)


def with_copy(target, online, momentum):
    with torch.no_grad():
        for old, new in zip(target.parameters(), online.parameters(), strict=True):
            old.copy_(old * momentum + new * (1.0 - momentum))


@torch.no_grad()
def by_name(target, online, momentum):
    theirs = dict(online.named_parameters())
    for name, old in target.named_parameters():
        old += (1 - momentum) * (theirs[name] - old)


def with_indices(target, online, momentum):
    ours, theirs = list(target.parameters()), list(online.parameters())
    for i in range(len(ours)):
        ours[i].data[:] = ours[i].data * momentum + theirs[i].data * (1 - momentum)


def with_foreach(target, online, momentum):
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - momentum)


@torch.no_grad()
def module_by_module(target, online, momentum):
    for ours, theirs in zip(target.modules(), online.modules(), strict=True):
        for old, new in zip(ours.parameters(recurse=False), theirs.parameters(recurse=False), strict=True):
            old.mul_(momentum)
            old.add_((1 - momentum) * new)


def set_data(target, online, momentum):
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.data.copy_(old.detach() - (1 - momentum) * (old.detach() - new.detach()))


def parameters_of_the_state(target, online, momentum):
    names = {name for name, _ in target.named_parameters()}
    ours, theirs = target.state_dict(), online.state_dict()
    for name in names:
        ours[name].mul_(momentum).add_(theirs[name], alpha=1 - momentum)
    return target


class AsCallable:
    def __init__(self):
        self.steps = 0

    @torch.no_grad()
    def __call__(self, target, online, momentum):
        self.steps += 1
        for old, new in zip(target.parameters(), online.parameters(), strict=True):
            old.set_(torch.lerp(new, old, momentum))


RIGHT_UPDATES = [
    with_data, with_data_in_place, with_lerp, with_copy, by_name, with_indices, with_foreach, module_by_module,
    set_data, parameters_of_the_state, AsCallable(),
    lambda target, online, momentum=0.99, verbose=False: with_lerp(target, online, momentum),
]  # fmt: skip


def state_without_counts(target, online, momentum):
    """Averages the floats of the whole state: BN's running statistics are among them."""
    theirs = online.state_dict()
    for name, old in target.state_dict().items():
        if old.is_floating_point():
            old.copy_(momentum * old + (1 - momentum) * theirs[name])


def new_weights_by_deepcopy(target, online, momentum):
    target = copy.deepcopy(target)
    with_lerp(target, online, momentum)
    return target


def on_the_copy_of_the_state(target, online, momentum):
    state = {name: value.clone() for name, value in target.state_dict().items()}
    for name, value in online.named_parameters():
        state[name] = momentum * state[name] + (1 - momentum) * value.detach()


@torch.no_grad()
def last_two_only(target, online, momentum):
    for old, new in list(zip(target.parameters(), online.parameters(), strict=True))[-2:]:
        old.lerp_(new, 1 - momentum)


@torch.no_grad()
def frozen_left_out(target, online, momentum):
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        if old.requires_grad:
            old.lerp_(new, 1 - momentum)


@torch.no_grad()
def rounded(target, online, momentum):
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.copy_((momentum * old.float() + (1 - momentum) * new.float()).to(old.dtype))


def on_the_cpu(target, online, momentum):
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.data = momentum * old.data.cpu() + (1 - momentum) * new.data.cpu()


def keeps_its_first_weights(target, online, momentum):
    if not hasattr(target, "first"):
        target.first = [p.detach().clone() for p in target.parameters()]
    with torch.no_grad():
        for old, first, new in zip(target.parameters(), target.first, online.parameters(), strict=True):
            old.copy_(momentum * first + (1 - momentum) * new)


@torch.no_grad()
def twice(target, online, momentum):
    with_lerp(target, online, momentum)
    with_lerp(target, online, momentum)


def sorted_by_size(target, online, momentum):
    ours, theirs = (sorted(n.parameters(), key=lambda p: p.numel()) for n in (target, online))
    with torch.no_grad():
        for old, new in zip(ours, reversed(theirs), strict=True):
            if old.shape == new.shape:
                old.lerp_(new, 1 - momentum)


def gradients_gone(target, online, momentum):
    with_lerp(target, online, momentum)
    for p in online.parameters():
        p.grad = torch.zeros_like(p)


def averages_gradients(target, online, momentum):
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        if new.grad is not None:
            old.data.add_(new.grad, alpha=1 - momentum)


def whole_modules(target, online, momentum):
    for i, module in enumerate(online):
        target[i] = copy.deepcopy(module)


def backbone_only(target, online, momentum):
    with_lerp(target[0], online[0], momentum) if hasattr(target, "__getitem__") else with_lerp(
        target, online, momentum
    )


WRONG_UPDATES = [
    state_without_counts, new_weights_by_deepcopy, on_the_copy_of_the_state, last_two_only, frozen_left_out, rounded,
    on_the_cpu, keeps_its_first_weights, twice, sorted_by_size, gradients_gone, averages_gradients, whole_modules,
    backbone_only, lambda target, online, momentum: with_lerp(target, online, 0.9),
    lambda target, online, momentum: with_lerp(target, online, momentum**2),
    lambda target, online, momentum: (with_lerp(target, online, momentum), target.eval()),
    lambda target, online, momentum: (with_lerp(target, online, momentum), online.train()),
    lambda target, online, momentum: (with_lerp(target, online, momentum), target.zero_grad()),
    lambda target, online, momentum: (with_lerp(target, online, momentum), torch.manual_seed(0)),
    lambda target, online, momentum: (with_lerp(target, online, momentum), target.double()),
    lambda target, online, momentum: with_lerp(online, target, momentum),
]  # fmt: skip


# ---- 8.3 off_diagonal_term


def published(c):
    """Barlow Twins' own way: without the first number the matrix has its diagonal in a column."""
    n, m = c.shape
    assert n == m
    return c.flatten()[:-1].view(n - 1, n + 1)[:, 1:].flatten().pow(2).sum() if n > 1 else 0 * c.sum()


def all_less_the_diagonal(c):
    return c.square().sum() - c.diagonal().square().sum()


def by_two_loops(c):
    total = 0 * c[0, 0]
    for i in range(len(c)):
        for j in range(len(c)):
            if i != j:
                total = total + c[i, j] ** 2
    return total


def on_a_copy(c):
    c = c.clone()
    c.fill_diagonal_(0)
    return (c * c).sum()


class TermModule(nn.Module):
    def forward(self, c):
        return all_less_the_diagonal(c)


RIGHT_TERMS = [
    published, all_less_the_diagonal, by_two_loops, on_a_copy, TermModule(),
    lambda c: (c * (1 - torch.eye(len(c), dtype=c.dtype, device=c.device))).pow(2).sum(),
    lambda c: c.masked_fill(torch.eye(c.shape[0], dtype=torch.bool, device=c.device), 0).norm() ** 2
    if c.numel() > 1 else c.sum() * 0,
    lambda c: c.triu(1).square().sum() + c.tril(-1).square().sum(),
    lambda c: (c - torch.diag(c.diagonal())).pow(2).sum(),
    lambda c: (c - torch.diag(torch.diag(c))).square().sum(dim=0).sum(),
    lambda c: torch.einsum("ij,ij->", c, c) - torch.einsum("ii,ii->", c, c),
    lambda c, scale=1.0: scale * torch.trace(c.T @ c) - torch.trace(c) * 0 - torch.diag(c).pow(2).sum(),
    lambda c: c[~torch.eye(len(c), device=c.device).bool()].pow(2).sum(),
    lambda c: F.mse_loss(c, torch.diag_embed(c.diagonal()), reduction="sum"),
]  # fmt: skip


def by_rolled_rows(c):
    """Takes the entry right of the diagonal for all others."""
    return c.roll(1, dims=1).diagonal().square().sum()


def mean_of_others(c):
    n = len(c)
    return all_less_the_diagonal(c) / max(1, n * (n - 1))


WRONG_TERMS = [
    by_rolled_rows, mean_of_others, lambda c: c.square().sum() - len(c), lambda c: c.square().sum() - torch.trace(c),
    lambda c: c.square().sum() - torch.trace(c.square()).detach(),
    lambda c: all_less_the_diagonal(c.float()).to(c.dtype),
    lambda c: (c.abs() - torch.diag(c.diagonal()).abs()).sum(), lambda c: all_less_the_diagonal(c - c.mean(dim=0)),
    lambda c: all_less_the_diagonal(c / c.diagonal()), lambda c: all_less_the_diagonal(c.clamp(min=0)),
    lambda c: all_less_the_diagonal(c.cpu()), lambda c: all_less_the_diagonal(c.data),
    lambda c: all_less_the_diagonal(c @ c.T), lambda c: c[c != c.diagonal()].square().sum(),
    lambda c: (c * (1 - torch.eye(len(c), dtype=c.dtype))).square().sum(),
    lambda c: c.fill_diagonal_(0).square().sum() if not c.requires_grad else all_less_the_diagonal(c),
    lambda c: all_less_the_diagonal(c) + 1e-3, lambda c: all_less_the_diagonal(c) / 2,
    lambda c: all_less_the_diagonal(c).sqrt(), lambda c: float(all_less_the_diagonal(c)),
]  # fmt: skip


test_a_right_answer_in_another_style_passes, test_a_wrong_answer_never_passes = both_tests(
    (NT_XENT, RIGHT_NT_XENT, WRONG_NT_XENT),
    (MOMENTUM_UPDATE, RIGHT_UPDATES, WRONG_UPDATES),
    (OFF_DIAGONAL_TERM, RIGHT_TERMS, WRONG_TERMS),
)


SAID = [
    (NT_XENT, masked_by_minus_twenty, ""),
    (NT_XENT, half_detached, "The candidates were detached"),
    (MOMENTUM_UPDATE, new_weights_by_deepcopy, "The target did not move"),
    (
        MOMENTUM_UPDATE,
        lambda target, online, momentum: with_lerp(online, target, momentum),
        "The online network moved",
    ),
    (MOMENTUM_UPDATE, frozen_left_out, "The target did not move"),
    (MOMENTUM_UPDATE, state_without_counts, "BN's running statistics were averaged"),
    (MOMENTUM_UPDATE, gradients_gone, "Gradients were deleted"),
    (NT_XENT, fixed_temperature, "The temperature is a fixed number"),
    (NT_XENT, made_on_the_cpu, "A tensor was made on the CPU"),
    (OFF_DIAGONAL_TERM, lambda c: all_less_the_diagonal(c.data), "c was detached"),
    (
        OFF_DIAGONAL_TERM,
        lambda c: c[c != c.diagonal()].square().sum(),
        "Entries were left out by their value",
    ),
]


@pytest.mark.parametrize(("exercise", "function", "said"), SAID)
def test_a_wrong_answer_in_another_style_is_named_or_not_at_all(exercise, function, said):
    assert judge(exercise, function).cause.startswith(said) if said else not judge(exercise, function).cause
