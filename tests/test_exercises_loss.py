"""Lesson 03's checks against answers that nobody wrote into them: right ones in other styles pass, wrong ones fail."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from simsiam_course import loss
from simsiam_course.exercises import loss as lesson
from simsiam_course.exercises.core import judge

D = loss.negative_cosine


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def odds(z):
    return z.detach().softmax(1)


# ---- 3.1 negative_cosine


def cosine_by_loops(p, z):
    total = 0.0
    for row, target in zip(p, z.detach(), strict=True):
        dot = sum(a * b for a, b in zip(row, target, strict=True))
        total = total - dot / (sum(a * a for a in row).sqrt() * sum(b * b for b in target).sqrt())
    return total / len(p)


def cosine_under_no_grad(p, z):
    with torch.no_grad():
        z = F.normalize(z, dim=1)
    return -(F.normalize(p, dim=1) * z).sum(dim=1).mean()


def cosine_in_a_buffer(p, z):
    values = p.new_empty(len(p))
    for i in range(len(p)):
        values[i] = F.cosine_similarity(p[i], z[i].detach(), dim=0)
    return -values.mean()


def cosine_with_looks_at_the_input(p, z):
    assert p.shape == z.shape and p.ndim == 2
    if not bool(torch.isfinite(p).all()):
        raise ValueError("no numbers")
    return -F.cosine_similarity(p, z.detach()).mean()


class CosineModule(nn.Module):
    def forward(self, p, z):
        return -nn.CosineSimilarity(dim=1)(p, z.detach()).mean()


def with_options(p, z, *, dim=1, eps=1e-8):
    return F.cosine_similarity(p, z.detach(), dim=dim, eps=eps).mean().neg()


def float64_inside(p, z):
    return -F.cosine_similarity(p.double(), z.detach().double(), dim=1).mean().to(p.dtype)


RIGHT_COSINE = {
    "F.cosine_similarity": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).mean(),
    "the last dimension": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=-1).mean(),
    "loops": cosine_by_loops,
    "einsum": lambda p, z: -torch.einsum("bd,bd->b", unit(p), unit(z.detach())).mean(),
    "einsum to a scalar": lambda p, z: -torch.einsum("bd,bd->", unit(p), unit(z.detach())) / len(p),
    "bmm": lambda p, z: -(unit(p)[:, None] @ unit(z.detach())[:, :, None]).squeeze().mean(),
    "the diagonal of all pairs": lambda p, z: -(unit(p) @ unit(z.detach()).T).diagonal().mean(),
    "the trace": lambda p, z: -torch.trace(unit(p) @ unit(z.detach()).T) / p.shape[0],
    "divided afterwards": lambda p, z: -((p * z.detach()).sum(1) / p.norm(dim=1) / z.detach().norm(dim=1)).mean(),
    "no_grad": cosine_under_no_grad,
    "z.data": lambda p, z: -F.cosine_similarity(p, z.data, dim=1).mean(),
    "detached after normalising": lambda p, z: -(unit(p) * unit(z).detach()).sum(1).mean(),
    "from the distance": lambda p, z: (unit(p) - unit(z.detach())).square().sum(1).mean() / 2 - 1,
    "mean of -cos": lambda p, z: torch.mean(-torch.cosine_similarity(p, z.clone().detach())),
    "rsqrt": lambda p, z: -((p * z.detach()).sum(1) * (p.square().sum(1) * z.detach().square().sum(1)).rsqrt()).mean(),
    "times the number of channels": lambda p, z: -(unit(p) * unit(z.detach())).mean() * p.size(1),
    "a little eps": lambda p, z: -((p * z.detach()).sum(1) / (p.norm(dim=1) * z.detach().norm(dim=1) + 1e-6)).mean(),
    "eps at each length": lambda p, z: -(
        (p / (p.norm(dim=1, keepdim=True) + 1e-5)) * (z.detach() / (z.norm(dim=1, keepdim=True).detach() + 1e-5))
    ).sum(1).mean(),
    "vmap": lambda p, z: -torch.vmap(lambda a, b: a @ b / (a.norm() * b.norm()))(p, z.detach()).mean(),
    "the embedding loss": lambda p, z: F.cosine_embedding_loss(p, z.detach(), p.new_ones(len(p))) - 1,
    "a buffer": cosine_in_a_buffer,
    "looks at the input": cosine_with_looks_at_the_input,
    "a module": CosineModule(),
    "more options": with_options,
    "float64 inside": float64_inside,
    "linalg": lambda p, z: -torch.linalg.vecdot(unit(p), unit(z.detach())).mean(),
    "the package without its stop": lambda p, z: loss.negative_cosine(p, z.detach(), stop_gradient=False),
}  # fmt: skip


def in_place(p, z):
    z = z.detach()
    z /= z.norm(dim=1, keepdim=True)
    return -(F.normalize(p, dim=1) * z).sum(1).mean()


def cosine_of_a_copy_in_place(p, z):
    z = z.detach().clone()
    z /= z.norm(dim=1, keepdim=True)
    p = p.clone()
    p /= p.norm(dim=1, keepdim=True)
    return -(p * z).sum(1).mean()


def p_in_place(p, z):
    p.data.div_(p.data.norm(dim=1, keepdim=True))
    return -F.cosine_similarity(p, z.detach(), dim=1).mean()


def forgets_return(p, z):
    -F.cosine_similarity(p, z.detach(), dim=1).mean()


def nothing_has_a_gradient(p, z):
    with torch.no_grad():
        return -F.cosine_similarity(p, z, dim=1).mean()


def z_for_good(p, z):
    z.requires_grad_(False)
    return -F.cosine_similarity(p, z, dim=1).mean()


def on_the_cpu(p, z):
    values = torch.zeros(len(p))
    for i in range(len(p)):
        values[i] = F.cosine_similarity(p[i], z[i].detach(), dim=0)
    return -values.mean().to(p.dtype)


WRONG_COSINE = {
    "abs": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).abs().mean(),
    "relu": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).relu().mean(),
    "squared": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).square().mean(),
    "angle": lambda p, z: torch.acos(F.cosine_similarity(p, z.detach(), dim=1)).mean(),
    "median": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).median(),
    "halved": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).mean() / 2,
    "doubled": lambda p, z: -2 * F.cosine_similarity(p, z.detach(), dim=1).mean(),
    "temperature": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).mean() / 0.1,
    "2 - 2 cos": lambda p, z: 2 - 2 * F.cosine_similarity(p, z.detach(), dim=1).mean(),
    "all pairs": lambda p, z: -(unit(p) @ unit(z.detach()).T).mean(),
    "all pairs summed": lambda p, z: -(unit(p) @ unit(z.detach()).T).sum() / len(p),
    "one long vector": lambda p, z: -F.cosine_similarity(p.flatten(), z.detach().flatten(), dim=0),
    "the mean vectors": lambda p, z: -F.cosine_similarity(p.mean(0), z.detach().mean(0), dim=0),
    "the wrong dim": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=0).mean(),
    "batch and channels normalised": lambda p, z: -(F.normalize(unit(p), dim=0) * unit(z.detach())).sum(1).mean(),
    "the L1 length": lambda p, z: -(F.normalize(p, p=1, dim=1) * F.normalize(z.detach(), p=1, dim=1)).sum(1).mean(),
    "squared lengths": lambda p, z: -((p * z.detach()).sum(1) / p.square().sum(1) / z.detach().square().sum(1)).mean(),
    "softmax for length": lambda p, z: -(p.softmax(1) * z.detach().softmax(1)).sum(1).mean(),
    "correlation": lambda p, z: -F.cosine_similarity(
        p - p.mean(1, keepdim=True), z.detach() - z.detach().mean(1, keepdim=True)).mean(),
    "centred over the batch": lambda p, z: -F.cosine_similarity(p - p.mean(0), z.detach() - z.detach().mean(0)).mean(),
    "a batch of six": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).sum() / 6,
    "five channels": lambda p, z: -(unit(p) * unit(z.detach())).mean() * 5,
    "the batch for the channels": lambda p, z: -(unit(p) * unit(z.detach())).mean() * len(p),
    "n - 1": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).sum() / max(len(p) - 1, 1),
    "a large eps": lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1, eps=1).mean(),
    "an eps": lambda p, z: -((p * z.detach()).sum(1) / (p.norm(dim=1) * z.detach().norm(dim=1) + 1e-3)).mean(),
    "an eps at a length": lambda p, z: -(unit(p) * (z.detach() / (z.detach().norm(dim=1, keepdim=True) + 1e-3))).sum(
        1).mean(),
    "squeezed": lambda p, z: -F.cosine_similarity(p.squeeze(), z.detach().squeeze(), dim=1).mean(),
    "first image only": lambda p, z: -F.cosine_similarity(p[0], z[0].detach(), dim=0),
    "next image": lambda p, z: -F.cosine_similarity(p, z.detach().roll(1, 0)).mean(),
    "z moves alone": lambda p, z: -F.cosine_similarity(z, p.detach()).mean(),
    "lengths detached": lambda p, z: -(p / p.norm(dim=1, keepdim=True).detach() * unit(z.detach())).sum(1).mean(),
    "a number": lambda p, z: -F.cosine_similarity(p, z.detach()).mean().item(),
    "a new tensor": lambda p, z: torch.tensor(-F.cosine_similarity(p, z.detach()).mean().item(), dtype=p.dtype),
    "shape (1,)": lambda p, z: -F.cosine_similarity(p, z.detach()).mean()[None],
    "keepdim": lambda p, z: -F.cosine_similarity(p, z.detach()).mean(0, keepdim=True),
    "float16": lambda p, z: -F.cosine_similarity(p, z.detach()).mean().half(),
    "float64": lambda p, z: -F.cosine_similarity(p.double(), z.detach().double()).mean(),
    "always float32": lambda p, z: -F.cosine_similarity(p.float(), z.detach().float()).mean(),
    "float32 inside": lambda p, z: -F.cosine_similarity(p.float(), z.detach().float()).mean().to(p.dtype),
    "bfloat16 inside": lambda p, z: -F.cosine_similarity(p.bfloat16(), z.detach().bfloat16()).mean().to(p.dtype),
    "to the cpu": lambda p, z: -F.cosine_similarity(p.cpu(), z.detach().cpu()).mean(),
    "a buffer on the cpu": on_the_cpu,
    "in place": in_place,
    "p in place": p_in_place,
    "what autograd needs, overwritten": cosine_of_a_copy_in_place,
    "no return": forgets_return,
    "no gradient at all": nothing_has_a_gradient,
    "z for good": z_for_good,
    "a tuple": lambda p, z: (-F.cosine_similarity(p, z.detach()).mean(), p),
    "one argument": lambda p: p,
    "gradient twice": lambda p, z: -F.cosine_similarity(2 * p - p.detach(), z.detach()).mean(),
    "gradient reversed": lambda p, z: -F.cosine_similarity(2 * p.detach() - p, z.detach()).mean(),
    "a constant": lambda p, z: p.sum() * 0 - 1,
}  # fmt: skip


# ---- 3.2 symmetric_loss


def both_under_no_grad(p1, p2, z1, z2):
    with torch.no_grad():
        z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    return -((F.normalize(p1, dim=1) * z2).sum(1) + (F.normalize(p2, dim=1) * z1).sum(1)).mean() / 2


def loop_over_views(p1, p2, z1, z2):
    p, z, total = [p1, p2], [z1, z2], 0
    for i in range(2):
        total += D(p[i], z[1 - i])
    return total / 2


def with_an_inner_function(p1, p2, z1, z2):
    def d(p, z):
        return -F.cosine_similarity(p, z.detach(), dim=1).mean()

    return 0.5 * d(p1, z2) + 0.5 * d(p2, z1)


class SymmetricModule(nn.Module):
    def forward(self, p1, p2, z1, z2):
        return D(p1, z2) / 2 + D(p2, z1) / 2


def symmetric_by_loops(p1, p2, z1, z2):
    total = 0
    for i in range(len(p1)):
        total = total + F.cosine_similarity(p1[i], z2[i].detach(), dim=0)
        total = total + F.cosine_similarity(p2[i], z1[i].detach(), dim=0)
    return -total / (2 * len(p1))


RIGHT_SYMMETRIC = {
    "the mean of two": lambda p1, p2, z1, z2: (D(p1, z2) + D(p2, z1)) / 2,
    "halves": lambda p1, p2, z1, z2: 0.5 * D(p1, z2) + 0.5 * D(p2, z1),
    "the other order": lambda p1, p2, z1, z2: D(p2, z1) / 2 + D(p1, z2) / 2,
    "detached here, too": lambda p1, p2, z1, z2: (D(p1, z2.detach()) + D(p2, z1.detach())) / 2,
    "detached here only": lambda p1, p2, z1, z2: (
        D(p1, z2.detach(), stop_gradient=False) + D(p2, z1.detach(), stop_gradient=False)) / 2,
    "stacked": lambda p1, p2, z1, z2: torch.stack([D(p1, z2), D(p2, z1)]).mean(),
    "concatenated": lambda p1, p2, z1, z2: D(torch.cat([p1, p2]), torch.cat([z2, z1])),
    "F.cosine_similarity": lambda p1, p2, z1, z2: -(
        F.cosine_similarity(p1, z2.detach()) + F.cosine_similarity(p2, z1.detach())).mean() / 2,
    "a tensor with a third dimension": lambda p1, p2, z1, z2: -F.cosine_similarity(
        torch.stack([p1, p2]), torch.stack([z2, z1]).detach(), dim=2).mean(),
    "einsum": lambda p1, p2, z1, z2: -torch.einsum(
        "vbd,vbd->", torch.stack([unit(p1), unit(p2)]), torch.stack([unit(z2), unit(z1)]).detach()) / (2 * len(p1)),
    "no_grad": both_under_no_grad,
    "a loop over the views": loop_over_views,
    "loops": symmetric_by_loops,
    "an inner function": with_an_inner_function,
    "a module": SymmetricModule(),
    "options": lambda p1, p2, z1, z2, weight=0.5: weight * D(p1, z2) + (1 - weight) * D(p2, z1),
    "through lerp": lambda p1, p2, z1, z2: torch.lerp(D(p1, z2), D(p2, z1), 0.5),
    "through sum": lambda p1, p2, z1, z2: sum(D(p, z) for p, z in ((p1, z2), (p2, z1))) / 2,
    "stop_gradient of 3.3": lambda p1, p2, z1, z2: sum(
        D(*loss.stop_gradient(p, z, "target"), stop_gradient=False) for p, z in ((p1, z2), (p2, z1))) / 2,
    "float64 inside": lambda p1, p2, z1, z2: loss.symmetric_loss(
        *(x.double() for x in (p1, p2, z1, z2))).to(p1.dtype),
}  # fmt: skip


def symmetric_in_place(p1, p2, z1, z2):
    for z in (z1.detach(), z2.detach()):
        z /= z.norm(dim=1, keepdim=True)
    return D(p1, z2) / 2 + D(p2, z1) / 2


def p_overwritten(p1, p2, z1, z2):
    z1, z2 = z2, z1
    p1, p2 = p2, p1
    return D(p1, z1) / 2 + D(p2, z2) / 2


def first_term_lost(p1, p2, z1, z2):
    for p, z in ((p1, z2), (p2, z1)):
        total = D(p, z) / 2
    return total


def symmetric_forgets_return(p1, p2, z1, z2):
    D(p1, z2) / 2 + D(p2, z1) / 2


def free(p, z):
    return D(p, z, stop_gradient=False)


WRONG_SYMMETRIC = {
    "a quarter": lambda p1, p2, z1, z2: (D(p1, z2) + D(p2, z1)) / 4,
    "a half too many": lambda p1, p2, z1, z2: (D(p1, z2) / 2 + D(p2, z1) / 2) / 2,
    "the half of the other term": lambda p1, p2, z1, z2: D(p1, z2) / 2 + D(p2, z1),
    "first half only": lambda p1, p2, z1, z2: D(p1, z2) / 2,
    "second half only": lambda p1, p2, z1, z2: D(p2, z1) / 2,
    "a term lost": first_term_lost,
    "p1 twice": lambda p1, p2, z1, z2: D(p1, z2) / 2 + D(p1, z1) / 2,
    "p2 twice": lambda p1, p2, z1, z2: D(p2, z2) / 2 + D(p2, z1) / 2,
    "z1 twice": lambda p1, p2, z1, z2: D(p1, z1) / 2 + D(p2, z1) / 2,
    "z2 twice": lambda p1, p2, z1, z2: D(p1, z2) / 2 + D(p2, z2) / 2,
    "p1 with z1 among four": lambda p1, p2, z1, z2: (D(p1, z2) + D(p2, z1) + D(p1, z1) + D(p2, z2)) / 4,
    "predictions too": lambda p1, p2, z1, z2: (D(p1, z2) + D(p2, z1) + D(p1, p2)) / 3,
    "the larger": lambda p1, p2, z1, z2: torch.maximum(D(p1, z2), D(p2, z1)),
    "the smaller": lambda p1, p2, z1, z2: torch.minimum(D(p1, z2), D(p2, z1)),
    "the product": lambda p1, p2, z1, z2: -D(p1, z2) * D(p2, z1),
    "unequal": lambda p1, p2, z1, z2: 0.4 * D(p1, z2) + 0.6 * D(p2, z1),
    "the difference of signs": lambda p1, p2, z1, z2: -D(p1, z2) / 2 + D(p2, z1) / 2,
    "of the means": lambda p1, p2, z1, z2: D((p1 + p2) / 2, (z1 + z2) / 2),
    "p of the sum": lambda p1, p2, z1, z2: D(p1 + p2, z1 + z2),
    "joined along the channels": lambda p1, p2, z1, z2: D(torch.cat([p1, p2], 1), torch.cat([z2, z1], 1)),
    "joined, not crossed": lambda p1, p2, z1, z2: D(torch.cat([p1, p2]), torch.cat([z1, z2])),
    "exchanged twice": p_overwritten,
    "one target free": lambda p1, p2, z1, z2: D(p1, z2) / 2 + free(p2, z1) / 2,
    "the other target free": lambda p1, p2, z1, z2: free(p1, z2) / 2 + D(p2, z1) / 2,
    "one prediction stopped": lambda p1, p2, z1, z2: D(p1.detach(), z2) / 2 + D(p2, z1) / 2,
    "wrong side": lambda p1, p2, z1, z2: free(p1.detach(), z2) / 2 + free(p2.detach(), z1) / 2,
    "everything stopped": lambda p1, p2, z1, z2: D(p1.detach(), z2) / 2 + D(p2.detach(), z1) / 2,
    "plus one": lambda p1, p2, z1, z2: 1 + D(p1, z2) / 2 + D(p2, z1) / 2,
    "two terms": lambda p1, p2, z1, z2: (D(p1, z2), D(p2, z1)),
    "stacked, no mean": lambda p1, p2, z1, z2: torch.stack([D(p1, z2), D(p2, z1)]),
    "a number": lambda p1, p2, z1, z2: (D(p1, z2) / 2 + D(p2, z1) / 2).item(),
    "the first image": lambda p1, p2, z1, z2: D(p1[:1], z2[:1]) / 2 + D(p2[:1], z1[:1]) / 2,
    "dot products": lambda p1, p2, z1, z2: -((p1 * z2.detach()).sum(1) + (p2 * z1.detach()).sum(1)).mean() / 2,
    "distances": lambda p1, p2, z1, z2: ((p1 - z2.detach()).square() + (p2 - z1.detach()).square()).mean() / 2,
    "in place": symmetric_in_place,
    "no return": symmetric_forgets_return,
    "float16": lambda p1, p2, z1, z2: loss.symmetric_loss(p1, p2, z1, z2).half(),
    "float64": lambda p1, p2, z1, z2: loss.symmetric_loss(p1, p2, z1, z2).double(),
    "always float32": lambda p1, p2, z1, z2: loss.symmetric_loss(*(x.float() for x in (p1, p2, z1, z2))),
    "to the cpu": lambda p1, p2, z1, z2: loss.symmetric_loss(*(x.cpu() for x in (p1, p2, z1, z2))),
    "squeezed": lambda p1, p2, z1, z2: loss.symmetric_loss(*(x.squeeze() for x in (p1, p2, z1, z2))),
    "the order z1, z2, p1, p2": lambda z1, z2, p1, p2: loss.symmetric_loss(p1, p2, z1, z2),
    "the order p1, z1, p2, z2": lambda p1, z1, p2, z2: loss.symmetric_loss(p1, p2, z1, z2),
    "the gradient of one term doubled": lambda p1, p2, z1, z2: D(2 * p1 - p1.detach(), z2) / 2 + D(p2, z1) / 2,
}  # fmt: skip


# ---- 3.3 stop_gradient


def by_match(p, z, where):
    match where:
        case "target":
            return p, z.detach()
        case "wrong_side":
            return p.detach(), z
        case "both":
            return p.detach(), z.detach()
    return p, z


def by_dictionary(p, z, where="target"):
    stop_p, stop_z = {"target": (0, 1), "none": (0, 0), "wrong_side": (1, 0), "both": (1, 1)}[where]
    return (p.detach() if stop_p else p), (z.detach() if stop_z else z)


def under_no_grad(p, z, where):
    with torch.no_grad():
        fixed_p, fixed_z = p.clone(), z.clone()
    return (fixed_p if where in ("wrong_side", "both") else p), (
        fixed_z if where in ("target", "both") else z
    )


def by_set_grad_enabled(p, z, where):
    with torch.set_grad_enabled(where not in ("wrong_side", "both")):
        p = p.view_as(p)
    with torch.set_grad_enabled(where not in ("target", "both")):
        z = z.view_as(z)
    return p, z


class Stop(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


def with_errors(p, z, where):
    if where not in ("target", "none", "wrong_side", "both"):
        raise ValueError(where)
    p = p if where in ("target", "none") else p.detach()
    z = z if where in ("wrong_side", "none") else z.detach()
    return p, z


def copy_then_detach_in_place(p, z, where):
    if where in ("target", "both"):
        z = z.clone().detach_()
    if where in ("wrong_side", "both"):
        p = p.clone().detach_()
    return p, z


def chosen(p, z, where, stop):
    return (stop(p) if where in ("wrong_side", "both") else p), (
        stop(z) if where in ("target", "both") else z
    )


RIGHT_STOP = {
    "match": by_match,
    "a dictionary": by_dictionary,
    "no_grad": under_no_grad,
    "set_grad_enabled": by_set_grad_enabled,
    "errors for the unknown": with_errors,
    "copies": copy_then_detach_in_place,
    "data": lambda p, z, where: chosen(p, z, where, lambda x: x.data),
    "detach and clone": lambda p, z, where: chosen(p, z, where, lambda x: x.detach().clone()),
    "an autograd function": lambda p, z, where: chosen(p, z, where, Stop.apply),
    "a list": lambda p, z, where: list(chosen(p, z, where, torch.Tensor.detach)),
    "more options": lambda p, z, where="target", *, check=True: loss.stop_gradient(p, z, where),
    "clones of what moves": lambda p, z, where: tuple(x.clone() for x in loss.stop_gradient(p, z, where)),
    "times one": lambda p, z, where: tuple(x * 1 for x in loss.stop_gradient(p, z, where)),
    "by ends of the word": lambda p, z, where: (
        p.detach() if where[0] in "wb" else p, z.detach() if where[0] in "tb" else z),
    "negated": lambda p, z, where: (
        p if where != "wrong_side" and where != "both" else p.detach(),
        z.detach() if not (where == "none" or where == "wrong_side") else z),
    "torch.where": lambda p, z, where: chosen(
        p, z, where, lambda x: torch.where(torch.ones_like(x) > 0, x.detach(), x)),
}  # fmt: skip


def for_good(p, z, where):
    if where in ("target", "both"):
        z.requires_grad_(False)
    if where in ("wrong_side", "both"):
        p.requires_grad_(False)
    return p, z


def detach_in_place(p, z, where):
    if where in ("target", "both"):
        z.detach_()
    if where in ("wrong_side", "both"):
        p.detach_()
    return p, z


def called_and_thrown_away(p, z, where):
    if where in ("target", "both"):
        z.detach()
    if where in ("wrong_side", "both"):
        p.detach()
    return p, z


def no_grad_without_work(p, z, where):
    with torch.no_grad():
        return p, z


def by_or(p, z, where):
    if where == "target" or "both":  # noqa: SIM222
        z = z.detach()
    if where == "wrong_side" or "both":  # noqa: SIM222
        p = p.detach()
    return p, z


def elif_instead_of_if(p, z, where):
    if where in ("target", "both"):
        z = z.detach()
    elif where in ("wrong_side", "both"):
        p = p.detach()
    return p, z


def only_z(p, z, where):
    return loss.stop_gradient(p, z, where)[1]


def forgets_return_for_none(p, z, where):
    if where != "none":
        return loss.stop_gradient(p, z, where)
    return None


def slows_z(p, z, where):
    p, z = loss.stop_gradient(p, z, where)
    return p, z / 2 + z.detach() / 2


def misspelt(p, z, where):
    if where in ("target", "both"):
        z = z.detach()
    if where in ("wrong side", "both"):
        p = p.detach()
    return p, z


def stops(p, z, p_for, z_for, where):
    return (p.detach() if where in p_for else p), (z.detach() if where in z_for else z)


def none_stops_both(p, z, where):
    return p.detach() if where != "target" else p, z.detach() if where != "wrong_side" else z


def comma_lost(p, z, where):
    if where in ("target" "both",):  # fmt: skip # noqa: ISC001
        z = z.detach()
    if where in ("wrong_side" "both",):  # fmt: skip # noqa: ISC001
        p = p.detach()
    return p, z


def took_its_gradient(of):
    def wrong(*arguments):
        result = of(*arguments)
        result.backward()
        return result

    return wrong


WRONG_STOP = {
    "none stops both": none_stops_both,
    "a comma lost": comma_lost,
    "for good": for_good,
    "in place": detach_in_place,
    "thrown away": called_and_thrown_away,
    "no_grad around nothing": no_grad_without_work,
    "or": by_or,
    "elif": elif_instead_of_if,
    "z alone": only_z,
    "nothing for none": forgets_return_for_none,
    "half a gradient for z": slows_z,
    "a wrong word": misspelt,
    "p always": lambda p, z, where: (p.detach(), z),
    "both always": lambda p, z, where: (p.detach(), z.detach()),
    "both but for none": lambda p, z, where: (p, z) if where == "none" else (p.detach(), z.detach()),
    "none stops p": lambda p, z, where: stops(p, z, ("none", "wrong_side", "both"), ("target", "both"), where),
    "both stops p only": lambda p, z, where: stops(p, z, ("wrong_side", "both"), ("target",), where),
    "both stops neither": lambda p, z, where: stops(p, z, ("wrong_side",), ("target",), where),
    "the other way round": lambda p, z, where: stops(p, z, ("target", "none"), ("wrong_side", "none"), where),
    "wrong_side does nothing": lambda p, z, where: stops(p, z, ("both",), ("target", "both"), where),
    "wrong_side stops both": lambda p, z, where: stops(
        p, z, ("wrong_side", "both"), ("target", "both", "wrong_side"), where),
    "target stops both": lambda p, z, where: stops(p, z, ("target", "wrong_side", "both"), ("target", "both"), where),
    "target stops nobody": lambda p, z, where: stops(p, z, ("wrong_side", "both"), ("both",), where),
    "zeros for p": lambda p, z, where: chosen(p, z, where, torch.zeros_like),
    "normalised": lambda p, z, where: tuple(F.normalize(x, dim=1) for x in loss.stop_gradient(p, z, where)),
    "negated": lambda p, z, where: tuple(-x for x in loss.stop_gradient(p, z, where)),
    "in reverse for both": lambda p, z, where: loss.stop_gradient(p, z, where)[:: -1 if where == "both" else 1],
    "p twice": lambda p, z, where: (loss.stop_gradient(p, z, where)[0],) * 2,
    "float64": lambda p, z, where: tuple(x.double() for x in loss.stop_gradient(p, z, where)),
    "float64 for both": lambda p, z, where: tuple(
        x.double() if where == "both" else x for x in loss.stop_gradient(p, z, where)),
    "through float32": lambda p, z, where: tuple(x.float().to(p.dtype) for x in loss.stop_gradient(p, z, where)),
    "through float16": lambda p, z, where: tuple(x.half().to(p.dtype) for x in loss.stop_gradient(p, z, where)),
    "numpy": lambda p, z, where: chosen(p, z, where, lambda x: x.detach().numpy()),
    "lists": lambda p, z, where: chosen(p, z, where, lambda x: x.tolist()),
    "to the cpu": lambda p, z, where: chosen(p, z, where, lambda x: x.detach().cpu()),
    "a new one on the cpu": lambda p, z, where: chosen(
        p, z, where, lambda x: x.detach() if x.device.type == "cpu" else torch.zeros(x.shape)),
    "three things": lambda p, z, where: (*loss.stop_gradient(p, z, where), where),
    "flattened": lambda p, z, where: tuple(x.flatten() for x in loss.stop_gradient(p, z, where)),
    "gradients doubled": lambda p, z, where: [2 * x - x.detach() for x in loss.stop_gradient(p, z, where)],
    "a little noise": lambda p, z, where: tuple(x + 1e-5 for x in loss.stop_gradient(p, z, where)),
}  # fmt: skip


# ---- 3.4 cross_entropy_similarity


def entropy_by_loops(p, z):
    total = 0.0
    for row, target in zip(p, z.detach(), strict=True):
        for k in range(len(row)):
            total = total - target.softmax(0)[k] * (row[k] - row.logsumexp(0))
    return total / len(p)


def entropy_under_no_grad(p, z):
    with torch.no_grad():
        target = F.softmax(z, dim=1)
    return -(target * F.log_softmax(p, dim=1)).sum(1).mean()


def softmax_by_hand(p, z):
    z = z.detach()
    e = (z - z.amax(1, keepdim=True)).exp()
    target = e / e.sum(1, keepdim=True)
    shifted = p - p.amax(1, keepdim=True)
    return -(target * (shifted - shifted.exp().sum(1, keepdim=True).log())).sum(1).mean()


def divergence_and_entropy(p, z):
    target = odds(z)
    kl = F.kl_div(F.log_softmax(p, 1), target, reduction="batchmean")
    return kl + torch.special.entr(target).sum(1).mean()


class EntropyModule(nn.Module):
    def forward(self, p, z):
        return nn.CrossEntropyLoss()(p, z.detach().softmax(dim=1))


RIGHT_ENTROPY = {
    "F.cross_entropy": lambda p, z: F.cross_entropy(p, F.softmax(z.detach(), dim=1)),
    "loops": entropy_by_loops,
    "no_grad": entropy_under_no_grad,
    "by hand": softmax_by_hand,
    "divergence plus entropy": divergence_and_entropy,
    "a module": EntropyModule(),
    "methods": lambda p, z: -(z.detach().softmax(-1) * p.log_softmax(-1)).sum(-1).mean(),
    "einsum": lambda p, z: -torch.einsum("bd,bd->b", odds(z), F.log_softmax(p, 1)).mean(),
    "logsumexp": lambda p, z: (p.logsumexp(1) - (odds(z) * p).sum(1)).mean(),
    "detached later": lambda p, z: -(F.softmax(z, 1).detach() * F.log_softmax(p, 1)).sum(1).mean(),
    "exp of the logarithm": lambda p, z: -(F.log_softmax(z.detach(), 1).exp() * F.log_softmax(p, 1)).sum(1).mean(),
    "a sum over all": lambda p, z: -(odds(z) * F.log_softmax(p, 1)).sum() / len(p),
    "the mean times the channels": lambda p, z: -(odds(z) * F.log_softmax(p, 1)).mean() * p.shape[1],
    "distributions": lambda p, z: -(odds(z) * torch.distributions.Categorical(logits=p).logits).sum(1).mean(),
    "the diagonal": lambda p, z: -(odds(z) @ F.log_softmax(p, 1).T).diagonal().mean(),
    "options": lambda p, z, *, temperature=1.0: F.cross_entropy(p / temperature, odds(z / temperature)),
    "nn.LogSoftmax": lambda p, z: -(nn.Softmax(dim=1)(z.data) * nn.LogSoftmax(dim=1)(p)).sum(1).mean(),
    "float64 inside": lambda p, z: F.cross_entropy(p.double(), odds(z.double())).to(p.dtype),
    "vmap": lambda p, z: torch.vmap(lambda a, b: -(b.softmax(0) * a.log_softmax(0)).sum())(p, z.detach()).mean(),
}  # fmt: skip


def entropy_in_place(p, z):
    z = z.detach()
    z -= z.amax(1, keepdim=True)
    return F.cross_entropy(p, z.softmax(1))


WRONG_ENTROPY = {
    "log(softmax)": lambda p, z: -(odds(z) * F.softmax(p, 1).log()).sum(1).mean(),
    "a small number in the logarithm": lambda p, z: -(odds(z) * (F.softmax(p, 1) + 1e-8).log()).sum(1).mean(),
    "clamped": lambda p, z: -(odds(z) * F.softmax(p, 1).clamp(min=1e-7).log()).sum(1).mean(),
    "log2": lambda p, z: -(odds(z) * F.log_softmax(p, 1)).sum(1).mean() / math.log(2),
    "halved": lambda p, z: F.cross_entropy(p, odds(z)) / 2,
    "temperature": lambda p, z: F.cross_entropy(p / 0.1, odds(z / 0.1)),
    "temperature on z": lambda p, z: F.cross_entropy(p, odds(z / 0.5)),
    "normalised first": lambda p, z: F.cross_entropy(F.normalize(p, dim=1), odds(F.normalize(z, dim=1))),
    "p normalised": lambda p, z: F.cross_entropy(F.normalize(p, dim=1), odds(z)),
    "both log_softmax": lambda p, z: -(F.log_softmax(z.detach(), 1) * F.log_softmax(p, 1)).sum(1).mean(),
    "no softmax at p": lambda p, z: -(odds(z) * p).sum(1).mean(),
    "log of p": lambda p, z: -(odds(z) * p.abs().log()).sum(1).mean(),
    "softmax before cross_entropy": lambda p, z: F.cross_entropy(p.softmax(1), odds(z)),
    "z as it is": lambda p, z: F.cross_entropy(p, z.detach()),
    "sigmoid": lambda p, z: F.binary_cross_entropy_with_logits(p, z.detach().sigmoid()),
    "sigmoid, summed": lambda p, z: F.binary_cross_entropy_with_logits(
        p, z.detach().sigmoid(), reduction="none").sum(1).mean(),
    "relu odds": lambda p, z: -(F.normalize(z.detach().relu(), p=1, dim=1) * F.log_softmax(p, 1)).sum(1).mean(),
    "smoothed labels": lambda p, z: F.cross_entropy(p, odds(z), label_smoothing=0.1),
    "the entropy of z": lambda p, z: torch.special.entr(odds(z)).sum(1).mean() + 0 * p.sum(),
    "the entropy of p": lambda p, z: torch.special.entr(p.softmax(1)).sum(1).mean(),
    "reverse divergence": lambda p, z: F.kl_div(odds(z).log(), p.softmax(1), reduction="batchmean"),
    "the mean square": lambda p, z: (p.softmax(1) - odds(z)).square().sum(1).mean(),
    "the whole batch one softmax": lambda p, z: -(odds(z) * p.flatten().log_softmax(0).view_as(p)).sum(1).mean(),
    "log over the batch": lambda p, z: -(odds(z) * F.log_softmax(p, 0)).sum(1).mean(),
    "odds over the batch": lambda p, z: -(z.detach().softmax(0) * F.log_softmax(p, 1)).sum(1).mean(),
    "F.cross_entropy summed": lambda p, z: F.cross_entropy(p, odds(z), reduction="sum"),
    "argmax of p": lambda p, z: F.cross_entropy(z.detach(), p.argmax(1)),
    "the mean of p": lambda p, z: F.cross_entropy(p.mean(0), odds(z).mean(0)),
    "the next image": lambda p, z: F.cross_entropy(p, odds(z).roll(1, 0)),
    "six images": lambda p, z: F.cross_entropy(p, odds(z), reduction="sum") / 6,
    "five channels": lambda p, z: -(odds(z) * F.log_softmax(p, 1)).mean() * 5,
    "squeezed": lambda p, z: -(z.detach().squeeze().softmax(1) * p.squeeze().log_softmax(1)).sum(1).mean(),
    "shape (1,)": lambda p, z: F.cross_entropy(p, odds(z))[None],
    "float16": lambda p, z: F.cross_entropy(p, odds(z)).half(),
    "float64": lambda p, z: F.cross_entropy(p.double(), odds(z.double())),
    "always float32": lambda p, z: F.cross_entropy(p.float(), odds(z.float())),
    "float32 inside": lambda p, z: F.cross_entropy(p.float(), odds(z.float())).to(p.dtype),
    "a number": lambda p, z: F.cross_entropy(p, odds(z)).item(),
    "in place": entropy_in_place,
    "p stopped": lambda p, z: F.cross_entropy(p.detach(), F.softmax(z, 1)),
    "both stopped": lambda p, z: F.cross_entropy(p.detach(), odds(z)),
    "part of p stopped": lambda p, z: (p.detach().logsumexp(1) - (odds(z) * p).sum(1)).mean(),
    "to the cpu": lambda p, z: F.cross_entropy(p.cpu(), odds(z).cpu()),
    "cosine": loss.negative_cosine,
    "two directions": lambda p, z: F.cross_entropy(p, odds(z)) / 2 + F.cross_entropy(z.detach(), p.softmax(1)) / 2,
    "the largest channel left out": lambda p, z: F.cross_entropy(p - p.amax(), odds(z)) + 1e-3,
}  # fmt: skip

CASES = (
    (lesson.NEGATIVE_COSINE, RIGHT_COSINE, WRONG_COSINE),
    (lesson.SYMMETRIC_LOSS, RIGHT_SYMMETRIC, WRONG_SYMMETRIC),
    (lesson.STOP_GRADIENT, RIGHT_STOP, WRONG_STOP),
    (lesson.CROSS_ENTROPY, RIGHT_ENTROPY, WRONG_ENTROPY),
)
RIGHT = [pytest.param(e, f, id=f"{e.name}-{name}") for e, right, _ in CASES for name, f in right.items()]
D = loss.negative_cosine
SAID = [
    (lesson.NEGATIVE_COSINE, took_its_gradient(D), "`backward()` was called here"),
    (lesson.SYMMETRIC_LOSS, took_its_gradient(loss.symmetric_loss), "`backward()` was called here"),
    (lesson.CROSS_ENTROPY, took_its_gradient(loss.cross_entropy_similarity), "`backward()` was called here"),
    (lesson.SYMMETRIC_LOSS, lambda p1, p2, z1, z2: (D(p1, p2) + D(z1, z2)) / 2, "p1 was compared with p2"),
    (lesson.STOP_GRADIENT, none_stops_both, "'none' stops both"),
    (lesson.STOP_GRADIENT, comma_lost, "Nothing is ever detached"),
]
WRONG = [pytest.param(e, f, id=f"{e.name}-{name}") for e, _, wrong in CASES for name, f in wrong.items()]


@pytest.mark.parametrize(("exercise", "function"), RIGHT)
def test_a_right_answer_in_another_style_passes(exercise, function):
    verdict = judge(exercise, function)
    assert verdict.status == "passed", (verdict, verdict.yours, verdict.expected)


@pytest.mark.parametrize(("exercise", "function", "words"), SAID)
def test_a_wrong_answer_is_told_its_cause(exercise, function, words):
    verdict = judge(exercise, function)
    assert verdict.cause.startswith(words), (verdict.message, verdict.yours)


@pytest.mark.parametrize("exercise", [lesson.NEGATIVE_COSINE, lesson.SYMMETRIC_LOSS, lesson.CROSS_ENTROPY])
def test_what_a_loss_does_besides_its_result_is_noticed(exercise):
    def quietly_backward(*arguments):
        result = exercise.reference(*arguments)
        if result.requires_grad:
            result.backward(retain_graph=True)
        return result

    def switched_off(*arguments):
        result = exercise.reference(*arguments)
        torch.set_grad_enabled(False)
        return result

    def hooked(*arguments):
        if arguments[-1].requires_grad:
            arguments[-1].register_hook(lambda g: g * 0)
        return exercise.reference(*arguments)

    for wrong in (quietly_backward, switched_off, hooked):
        assert judge(exercise, wrong).status == "failed"


@pytest.mark.parametrize(("exercise", "function"), WRONG)
def test_a_wrong_answer_that_no_suspect_foresaw_is_not_passed(exercise, function):
    assert judge(exercise, function).status == "failed"
