"""Lesson 07: a target that remembers, a target that waits, and a predictor that nobody trains."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .. import heads, relatives
from ..loss import negative_cosine, symmetric_loss
from ..model import SimSiam
from ..relatives import TargetNetwork
from .core import Exercise, Fact, Function, Suspect, elsewhere, gradients, kind_and_shape, place, unchanged

# ---- 7.1


def memory(
    rows: int = 6, channels: int = 5, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """eta and z, twice (rows, channels), and who was seen before, (rows, 1): the odd rows."""
    eta, z = torch.randn(2, rows, channels, dtype=dtype)
    return 2 * eta + 0.5, (3 * z - 0.2).requires_grad_(), torch.arange(rows)[:, None] % 2 == 1


def detached(value: Any) -> Any:
    """A tensor's numbers, whoever may ask them for a gradient; what is no real tensor is told in words."""
    real = isinstance(value, Tensor) and not value.is_complex()
    return value.detach() if real else kind_and_shape(value)


ETA, NEW = torch.tensor([[1.0, 0.0], [5.0, 5.0]]), torch.tensor([[0.0, 1.0], [2.0, 8.0]])
FIRST = torch.tensor([[True], [False]])  # the second image has no eta yet


def _everybody(seen: bool) -> Function:
    def look(f: Function) -> Any:
        eta, z, who = memory()
        return detached(f(eta, z, torch.full_like(who, seen), 0.7))

    return look


def _ends(f: Function) -> list[Any]:
    eta, z, seen = memory(4, 3)
    return [detached(f(eta, z, seen, m)) for m in (0.0, 1.0)]


def _passes(f: Function) -> list[Any]:
    """eta of one image over five passes, in which z is 1, 0, 0, 0, 0."""
    eta, seen, found = torch.full((1, 1), 9.0), torch.tensor([[False]]), []
    for z in (1.0, 0.0, 0.0, 0.0, 0.0):
        eta = detached(f(eta, torch.tensor([[z]]), seen, 0.8))
        seen = torch.tensor([[True]])
        found.append(eta.item() if isinstance(eta, Tensor) and eta.numel() == 1 else kind_and_shape(eta))
    return found


def _no_gradient(f: Function) -> dict[str, str]:
    """Whether the targets of the images that were seen, and those of the others, lead a gradient to z."""
    eta, z, seen = memory()
    asks = f(eta, z, seen, 0.8).requires_grad
    groups = {"those seen before": seen, "those that are new": ~seen}
    found = {name: gradients((f(eta, z, seen, 0.8) * who).sum(), z=z)["z"] for name, who in groups.items()}
    return {**found, "asked for": "a gradient" if asks else "none"}


def _z_as_before(f: Function) -> dict[str, bool]:
    """What a function can do to z, or leave switched off, besides giving its result."""
    eta, z, seen = memory()
    f(eta, z, seen, 0.8)
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        (back,) = torch.autograd.grad(z.sum(), [z]) if z.requires_grad else (torch.zeros(1),)
    return {
        "z can still be learned from": bool((back == 1).all()),
        "gradients are recorded afterwards": recorded,
    }


def _as_target(f: Function) -> Tensor:
    """The gradient of a prediction that is to come near to the result."""
    eta, z, seen = memory()
    p = torch.ones_like(z, requires_grad=True)
    return torch.autograd.grad((p * f(eta, z, seen, 0.8)).sum(), [p])[0]


def _averages_of_float64(f: Function) -> dict[str, Any]:
    """What becomes of float64, and whether a change of some 1e-10 is seen, to which float32 is blind."""
    eta, z, seen = memory(dtype=torch.float64)
    little = 1e-10 * (1 + torch.arange(z.numel()).view_as(z))
    result, moved = f(eta, z, seen, 0.8), f(eta + little, z + little, seen, 0.8)
    return {"result": kind_and_shape(result), "a change of 1e-10 is seen": bool((result != moved).all())}


def _average_elsewhere(f: Function) -> str:
    eta, z, seen = memory()
    return elsewhere(lambda *tensors: f(*tensors, 0.8), eta, z.detach(), seen)


def _mean(eta: Tensor, z: Tensor, seen: Tensor, keep: float, add: float) -> Tensor:
    """keep x eta + add x z of those that were seen, z of the others; no gradient."""
    z = z.detach()
    return torch.where(seen, keep * eta + add * z, z)


def _eta_in_place(eta: Tensor, z: Tensor, seen: Tensor, momentum: float) -> Tensor:
    eta.mul_(momentum).add_((1 - momentum) * z.detach())
    return torch.where(seen, eta, z.detach())


def _z_in_place(eta: Tensor, z: Tensor, seen: Tensor, momentum: float) -> Tensor:
    target = z.detach()
    target[seen[:, 0]] = momentum * eta[seen[:, 0]] + (1 - momentum) * target[seen[:, 0]]
    return target


def _z_for_good(eta: Tensor, z: Tensor, seen: Tensor, momentum: float) -> Tensor:
    z.requires_grad_(False)
    return relatives.moving_average(eta, z, seen, momentum)


def _switched_off(eta: Tensor, z: Tensor, seen: Tensor, momentum: float) -> Tensor:
    torch.set_grad_enabled(False)
    return relatives.moving_average(eta, z, seen, momentum)


def _one_for_all(eta: Tensor, z: Tensor, seen: Tensor, momentum: float) -> Tensor:
    z = z.detach()
    return momentum * eta + (1 - momentum) * z if seen.any() else z


def _all_or_none(eta: Tensor, z: Tensor, seen: Tensor, momentum: float) -> Tensor:
    z = z.detach()
    return momentum * eta + (1 - momentum) * z if seen.all() else z


def _plain_moving_average(eta: Tensor, z: Tensor, seen: Tensor, momentum: float) -> Tensor:
    z = z.detach()  # a target: no gradient
    average = momentum * eta + (1 - momentum) * z  # (B, D)
    return torch.where(seen, average, z)  # (B, 1) decides for the whole row


MOVING_AVERAGE = Exercise(
    "7.1",
    "moving_average",
    relatives.moving_average,
    facts=[
        Fact("For eta and z of shape (6, 5), and seen of shape (6, 1), it gives a tensor of shape (6, 5).",
             lambda f: kind_and_shape(f(*memory(), 0.8))),
        Fact("With momentum .8, an image that was seen has eta = [1, 0] and now z = [0, 1]: its target is [.8, .2]. "
             "One that was never seen has z = [2, 8]: that is its target.",
             lambda f: detached(f(ETA.clone(), NEW.clone(), FIRST.clone(), 0.8))),
        Fact("Of images that were all seen before it is momentum x eta + (1 - momentum) x z.", _everybody(True)),
        Fact("Of images that are all new it is z, whatever stands in eta.", _everybody(False)),
        Fact("It decides for each image of a batch: here every second one was seen before.",
             lambda f: detached(f(*memory(7, 4), 0.9))),
        Fact("With momentum 0 nothing is remembered, with momentum 1 nothing is added.", _ends),
        Fact("Over five passes in which z is 1, 0, 0, 0, 0, and with momentum .8, it is 1, .8, .64, .512 and .4096.",
             _passes),
        Fact("It works for a batch of one, and with a single channel.",
             lambda f: [detached(f(*memory(*size), 0.8)) for size in ((1, 5), (1, 1), (5, 1))]),
        Fact("eta, z and seen stay as they were: nothing is changed in place.",
             lambda f: (m := memory()) and unchanged(lambda *t: f(*t, 0.8), m[0], m[1].detach(), m[2])),
        Fact("It is a target: it asks for no gradient.", _no_gradient),
        Fact("A loss can use it as a target: a prediction that is compared with it receives its gradient.", _as_target),
        Fact("z itself is not cut off: others can still learn from it, and gradients are recorded afterwards.",
             _z_as_before),
        Fact("float64 in, float64 out, and float64 all the way.", _averages_of_float64),
        Fact("It computes where its input is: no `.cpu()`, no tensor made on another device.", _average_elsewhere),
    ],
    suspects=[
        Suspect("m and 1 - m changed places: momentum is the share of the *old* eta, so .8 keeps most of it.",
                lambda eta, z, seen, momentum: _mean(eta, z, seen, 1 - momentum, momentum)),
        Suspect("`seen` was never looked at: an image that comes for the first time has no eta to average with, its "
                "target is z.",
                lambda eta, z, seen, momentum: momentum * eta + (1 - momentum) * z.detach()),
        Suspect("An image that was never seen got (1 - m) z, as though its eta were 0: there is nothing to average "
                "with, so take z whole.",
                lambda eta, z, seen, momentum: momentum * eta * seen + (1 - momentum) * z.detach()),
        Suspect("An image that was never seen kept its eta, in which nothing stands yet: its target is z.",
                lambda eta, z, seen, momentum: torch.where(seen, momentum * eta + (1 - momentum) * z.detach(), eta)),
        Suspect("An image that was never seen got zeros: its target is z.",
                lambda eta, z, seen, momentum: seen * (momentum * eta + (1 - momentum) * z.detach())),
        Suspect("`seen` is the wrong way round: the average is for those that were seen, plain z for the others.",
                lambda eta, z, seen, momentum: torch.where(seen, z, momentum * eta + (1 - momentum) * z).detach()),
        Suspect("Nothing is remembered: those that were seen before need eta, too.",
                lambda eta, z, seen, momentum: z.detach().clone()),
        Suspect("Nothing new comes in: of those that were seen, eta is only what it was before.",
                lambda eta, z, seen, momentum: torch.where(seen, eta, z.detach())),
        Suspect("The old eta is not shrunk: m belongs to it, 1 - m to z, and the two weights sum to 1.",
                lambda eta, z, seen, momentum: _mean(eta, z, seen, 1, 1 - momentum)),
        Suspect("z has its full weight beside m eta: it is to be multiplied by 1 - m, so that the weights sum to 1.",
                lambda eta, z, seen, momentum: _mean(eta, z, seen, momentum, 1)),
        Suspect("This is the plain mean of the two: `momentum` says how much of eta is kept.",
                lambda eta, z, seen, momentum: _mean(eta, z, seen, 0.5, 0.5)),
        Suspect("The .8 of the paper was written in: take `momentum`, whatever it is.",
                lambda eta, z, seen, momentum: _mean(eta, z, seen, 0.8, 0.2)),
        Suspect("The average was given length 1: the loss does that by itself, eta keeps its length.",
                lambda eta, z, seen, momentum: F.normalize(_mean(eta, z, seen, momentum, 1 - momentum), dim=1)),
        Suspect("z was given length 1 first: average z as it is.",
                lambda eta, z, seen, momentum: _mean(eta, F.normalize(z, dim=1), seen, momentum, 1 - momentum)),
        Suspect("One decision was made for the whole batch, by `seen.any()`: each image has its own, use "
                "`torch.where(seen, ..., ...)`.",
                _one_for_all),
        Suspect("One decision was made for the whole batch, by `seen.all()`: each image has its own, use "
                "`torch.where(seen, ..., ...)`.",
                _all_or_none),
        Suspect("The average went over the images of the batch. It goes over the passes: row i of eta and row i of z.",
                lambda eta, z, seen, momentum: _mean(eta, z.mean(dim=0, keepdim=True).expand_as(z), seen, momentum,
                                                     1 - momentum)),
        Suspect("Only the images that were seen came back: every image of the batch needs a target.",
                lambda eta, z, seen, momentum: (momentum * eta + (1 - momentum) * z.detach())[seen[:, 0]]),
        Suspect("`seen` lost its second dimension, and then it does not fit to (B, D): use it as it comes, (B, 1).",
                lambda eta, z, seen, momentum: torch.where(seen.squeeze(), momentum * eta + (1 - momentum) * z,
                                                           z).detach()),
        Suspect("The gradient is left in: the result is a target, so detach z, or work under `torch.no_grad()`.",
                lambda eta, z, seen, momentum: torch.where(seen, momentum * eta + (1 - momentum) * z, z)),
        Suspect("The average is detached and the new images are not: those get z as it came, with its gradient.",
                lambda eta, z, seen, momentum: torch.where(seen, momentum * eta + (1 - momentum) * z.detach(), z)),
        Suspect("eta was changed in place (`eta *= ...`, `mul_`, `lerp_`): return a new tensor, the caller keeps it.",
                _eta_in_place),
        Suspect("z was changed in place, and `z.detach()` shares its memory: make a new tensor, or `clone()` first.",
                _z_in_place),
        Suspect("z itself was changed for good (`requires_grad_(False)`, `detach_()`): `z.detach()` gives a new "
                "tensor, and f still learns from z.",
                _z_for_good),
        Suspect("Gradients stay switched off: `torch.set_grad_enabled(False)` holds until somebody switches them on. "
                "`z.detach()` is enough.",
                _switched_off),
        Suspect("It always computes in float32: drop the `.float()`, the result has the dtype of z.",
                lambda eta, z, seen, momentum: _mean(eta.float(), z.float(), seen, momentum, 1 - momentum)),
        Suspect("Nothing was returned: end with `return`.",
                lambda eta, z, seen, momentum: print(end="")),
        Suspect("The new images are detached and the average is not: detach z, before anything else.",
                lambda eta, z, seen, m: torch.where(seen, m * eta + (1 - m) * z, z.detach())),
        Suspect("What is made under `torch.inference_mode()` can be used in no loss: take `torch.no_grad()` or "
                "`detach()`.",
                torch.inference_mode()(_plain_moving_average)),
        Suspect("A tensor was made on the CPU: give it `device=z.device`, or make it with `torch.empty_like(z)`.",
                lambda eta, z, seen, m: _plain_moving_average(eta + torch.zeros(z.shape, dtype=z.dtype), z, seen, m)),
    ],
    hints=(
        "Two cases, and each image of the batch is in one of them: where there is an eta, average; where there is "
        "none yet, take z.",
        "`torch.where(seen, a, b)` takes a where seen is true and b elsewhere; seen (B, 1) counts for a whole row. "
        "`z.detach()` has no gradient.",
        "`z = z.detach()`, then `return torch.where(seen, momentum * eta + (1 - momentum) * z, z)`",
    ),
    solution=_plain_moving_average,
)  # fmt: skip


# ---- 7.2


def small(
    images: int = 6, dtype: torch.dtype = torch.float32
) -> tuple[SimSiam, TargetNetwork, Tensor, Tensor]:
    """A SimSiam of a few weights in train mode, a target that is a copy of another one, two views (B, 3, 2, 2)."""
    x1, x2 = torch.randn(2, images, 3, 2, 2, dtype=dtype)
    other, model = _network().to(dtype), _network().to(dtype)
    return model, TargetNetwork(other.backbone, other.projector), x1, x2


def _network() -> SimSiam:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU())
    projector = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6, affine=False))
    h = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 6))
    return SimSiam(backbone, projector, h)


def _loss(step: int, every: int, images: int = 6) -> Function:
    """The loss at one step, as a plain number."""

    def look(f: Function) -> Any:
        return _number(f(*small(images), step=step, every=every))

    return look


def _number(result: Any) -> Any:
    one = isinstance(result, Tensor) and result.numel() == 1
    return result.item() if one else kind_and_shape(result)


def _follows(model: SimSiam, target: TargetNetwork, x: Tensor) -> bool:
    """Whether f and the target give the same z. Only BN's running averages move, which nobody reads in train mode."""
    with torch.no_grad():
        return torch.allclose(model.encode(x), target(x), atol=1e-5)


def _renewals(every: int, steps: tuple[int, ...]) -> Function:
    """At which of the steps the target is f's copy afterwards; f moves before every one of them."""

    def look(f: Function) -> str:
        model, target, x1, x2 = small()
        when = []
        for step in steps:
            with torch.no_grad():
                for p in (*model.backbone.parameters(), *model.projector.parameters()):
                    p.add_(0.3 * torch.randn(p.shape))
            f(model, target, x1, x2, step=step, every=every)
            if _follows(model, target, x1):
                when.append(step)
        return f"copied at step {', '.join(map(str, when))}" if when else "never copied"

    return look


def _moving_on(f: Function) -> list[Any]:
    """The losses of four steps of a run with a copy every two, in which f moves after each."""
    model, target, x1, x2 = small()
    found = []
    for step in range(4):
        found.append(_number(f(model, target, x1, x2, step=step, every=2)))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.2 * torch.randn(p.shape))
    return found


def _both_views(f: Function) -> list[Any]:
    """The losses with the same two views, with another first one, and with another second one."""
    model, target, x1, x2 = small()
    pairs = ((x1, x2), (x1.exp(), x2), (x1, x2.flip(0)))
    return [_number(f(model, target, *views, step=1, every=5)) for views in pairs]


def _who_learns(f: Function) -> dict[str, str]:
    model, target, x1, x2 = small()
    parts = {name: next(getattr(model, name).parameters()) for name in ("backbone", "projector", "predictor")}
    weight = next(target.parameters())
    loss = f(model, target, x1, x2, step=1, every=5)
    asked = {"the target": weight} if weight.requires_grad else {}
    return {"the target": "none", **gradients(loss, **parts, **asked)}


def _gradient_values(f: Function) -> list[Tensor]:
    found: list[Tensor] = []
    for step in (0, 1):
        model, target, x1, x2 = small()
        found += torch.autograd.grad(f(model, target, x1, x2, step=step, every=5), list(model.parameters()))
    return found


def _as_simsiam(f: Function) -> dict[str, bool]:
    """With a copy at every step: loss and gradients beside SimSiam's own."""
    model, target, x1, x2 = small()
    right = symmetric_loss(*deepcopy(model)(x1, x2)).item()
    weights = list(model.parameters())
    wanted = torch.autograd.grad(symmetric_loss(*model(x1, x2)), weights)
    loss = f(model, target, x1, x2, step=7, every=1)
    found = torch.autograd.grad(loss, weights)
    alike = all(torch.allclose(a, b, atol=1e-5) for a, b in zip(wanted, found, strict=True))
    return {"the loss": abs(_number(loss) - right) < 1e-5, "the gradients": alike}


def _batch_norm(f: Function) -> list[Any]:
    """The running mean of BN after a step, which both views have moved, and the modes that were train and eval."""
    model, target, x1, x2 = small()
    right = [deepcopy(model), deepcopy(model)]
    right[0](x1, x2)
    right[1](x2, x1)  # the loss is the same
    f(model, target, x1, x2, step=1, every=5)
    mean = next(model.backbone.buffers())
    moved = any(torch.allclose(mean, next(other.backbone.buffers()), atol=1e-5) for other in right)
    modes = [model.training, target.training]
    f(model.eval(), target.eval(), x1, x2, step=1, every=5)
    return ["moved by each view once" if moved else mean.clone(), *modes, model.training, target.training]


def _weights_stay(f: Function) -> dict[str, bool]:
    """Who has other weights after a step with a copy, and after one without."""
    found = {}
    for name, step in (("f and h, at a step with a copy", 0), ("f and h, between two copies", 1)):
        model, target, x1, x2 = small()
        before = [p.detach().clone() for p in model.parameters()]
        f(model, target, x1, x2, step=step, every=5)
        found[name] = all(map(torch.equal, before, (p.detach() for p in model.parameters())))
    return found


def _left_to_the_caller(f: Function) -> dict[str, bool]:
    """What a step may do besides giving a loss: gradients taken or deleted, weights frozen or thawed."""
    model, target, x1, x2 = small()
    for p in model.projector.parameters():
        p.grad = torch.ones_like(p)
    model.predictor.requires_grad_(False)
    f(model, target, x1, x2, step=0, every=1)
    kept = all(p.grad is not None and bool((p.grad == 1).all()) for p in model.projector.parameters())
    return {
        "no `backward()`": all(p.grad is None for p in model.backbone.parameters()),
        "earlier gradients are kept": kept,
        "frozen weights are still frozen": not any(p.requires_grad for p in model.predictor.parameters()),
        "gradients are recorded afterwards": torch.is_grad_enabled(),
    }


def _step_elsewhere(f: Function) -> str:
    model, target, x1, x2 = small()
    model.to("meta")
    target.to("meta")
    return place(lambda: f(model, target, x1.to("meta"), x2.to("meta"), step=0, every=1), home="meta")


def _renewed(when: Function) -> Function:
    """An answer that copies f when `when(step, every)`."""

    def answer(
        model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
    ) -> Tensor:
        if when(step, every):
            target.follow(model.backbone, model.projector)
        p1, p2, _, _ = model(x1, x2)
        return symmetric_loss(p1, p2, target(x1), target(x2))

    return answer


def _compared(loss: Function) -> Function:
    """An answer that copies f in time and makes another loss of (p1, p2, z1, z2, t1, t2), t from the target."""

    def answer(
        model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
    ) -> Any:
        if step % every == 0:
            target.follow(model.backbone, model.projector)
        return loss(*model(x1, x2), target(x1), target(x2))

    return answer


def _first(change: Function) -> Function:
    """An answer that does something to (model, target, x1, x2) before everything else is right."""

    def answer(
        model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
    ) -> Tensor:
        change(model, target, x1, x2)
        return relatives.alternating_step(model, target, x1, x2, step=step, every=every)

    return answer


def _copied(copy: Function) -> Function:
    """An answer that renews the target in time by `copy(model, target)`."""

    def answer(
        model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
    ) -> Tensor:
        if step % every == 0:
            copy(model, target)
        return relatives.alternating_step(model, target, x1, x2, step=1, every=2)

    return answer


def _copy_afterwards(
    model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
) -> Tensor:
    loss = relatives.alternating_step(model, target, x1, x2, step=1, every=2)
    if step % every == 0:
        target.follow(model.backbone, model.projector)
    return loss


@torch.no_grad()
def _backwards(model: SimSiam, target: TargetNetwork) -> None:
    weights = (*model.backbone.parameters(), *model.projector.parameters())
    for p, kept in zip(weights, target.parameters(), strict=True):
        p.copy_(kept)


@torch.no_grad()
def _backbone_only(model: SimSiam, target: TargetNetwork) -> None:
    for kept, p in zip(target.encoder[0].parameters(), model.backbone.parameters(), strict=True):
        kept.copy_(p)


def _share(model: SimSiam, target: TargetNetwork) -> None:
    target.encoder = nn.Sequential(model.backbone, model.projector)


def _predicted_by_the_target(
    model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
) -> Tensor:
    if step % every == 0:
        target.follow(model.backbone, model.projector)
    _, _, z1, z2 = model(x1, x2)
    return symmetric_loss(model.predictor(target(x1)), model.predictor(target(x2)), z1, z2)


def _backward(
    model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
) -> Tensor:
    loss = relatives.alternating_step(model, target, x1, x2, step=step, every=every)
    loss.backward(retain_graph=True)
    return loss


def _step_left_off(
    model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
) -> Tensor:
    loss = relatives.alternating_step(model, target, x1, x2, step=step, every=every)
    torch.set_grad_enabled(False)
    return loss


def _plain_alternating_step(
    model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
) -> Tensor:
    if step % every == 0:
        target.follow(model.backbone, model.projector)  # a copy of f, as it is now
    p1, p2, _, _ = model(x1, x2)  # (B, D) each
    return symmetric_loss(p1, p2, target(x1), target(x2))


D = negative_cosine
ALTERNATING_STEP = Exercise(
    "7.2",
    "alternating_step",
    relatives.alternating_step,
    facts=[
        Fact("For a model, a target and two views of 6 images it gives one number, a tensor of shape ().",
             lambda f: kind_and_shape(f(*small(), step=0, every=1))),
        Fact("At step 0 the target is copied from f *before* it is used, so that the loss is SimSiam's own.",
             _loss(0, 3)),
        Fact("At step 1, with every = 3, the targets come from the target network as it is, and it is not f.",
             _loss(1, 3)),
        Fact("With every = 3, in a run of 8 steps, the target is copied at steps 0, 3 and 6.",
             _renewals(3, tuple(range(8)))),
        Fact("With every = 1 the target is copied at each step, and with every = 4, asked at steps 8, 2, 5 and 12, "
             "only at 8 and 12.",
             lambda f: [_renewals(1, (0, 1, 2))(f), _renewals(4, (8, 2, 5, 12))(f)]),
        Fact("The losses of a run of 4 steps with a copy every two, in which f moves.", _moving_on),
        Fact("Both views count: the loss changes with the first one, and with the second one.", _both_views),
        Fact("Backbone, projector and predictor receive a gradient, the target does not.", _who_learns),
        Fact("With every = 1 it is SimSiam: the same loss, the same gradients.", _as_simsiam),
        Fact("It works for a batch of two images, too.", _loss(4, 2, images=2)),
        Fact("The views stay as they were: nothing is changed in place.",
             lambda f: (s := small()) and unchanged(lambda *v: f(s[0], s[1], *v, step=0, every=1), s[2], s[3])),
        Fact("Model and target are used in the mode that they are in, be it train or eval, and f sees each view once.",
             _batch_norm),
        Fact("f and h keep their weights: the copy goes from f to the target, and the optimiser's step is the "
             "caller's.",
             _weights_stay),
        Fact("The gradients are those of SimSiam's loss with the target's z as a target.", _gradient_values),
        Fact("A loss is returned, and nothing else happens to gradients.", _left_to_the_caller),
        Fact("float64 in, float64 out.",
             lambda f: kind_and_shape(f(*small(dtype=torch.float64), step=0, every=1))),
        Fact("It computes where the model and the views are: no `.cpu()`, no tensor made on another device.",
             _step_elsewhere),
    ],
    suspects=[
        Suspect("The target is copied at every step, so nothing alternates: look at `step` and `every`.",
                _renewed(lambda step, every: True)),
        Suspect("The target is never copied: without `target.follow(...)` it stays what it was at the start.",
                _renewed(lambda step, every: False)),
        Suspect("It is the wrong way round: copy where `step % every == 0`. A remainder that is not 0 is true for "
                "`if`.",
                _renewed(lambda step, every: step % every != 0)),
        Suspect("The first copy is missing: step 0 has one, too.",
                _renewed(lambda step, every: step > 0 and step % every == 0)),
        Suspect("The copy comes one step early, at the last step of a round: steps are counted from 0, ask for "
                "`step % every == 0`.",
                _renewed(lambda step, every: (step + 1) % every == 0)),
        Suspect("`step == every` is true only once in a run: ask whether `step % every == 0`.",
                _renewed(lambda step, every: step == every)),
        Suspect("From step `every` on it is copied at each step: ask whether `step % every == 0`.",
                _renewed(lambda step, every: step == 0 or step >= every)),
        Suspect("`every % step` divides by zero at step 0, and asks the wrong question later: `step % every == 0`.",
                _renewed(lambda step, every: every % step == 0)),
        Suspect("`step // every == 0` is true for a whole round at the start and never again: take the remainder, "
                "`step % every == 0`.",
                _renewed(lambda step, every: step // every == 0)),
        Suspect("The copy is made only at step 0: it is to be renewed at every k-th step.",
                _renewed(lambda step, every: step == 0)),
        Suspect("The copy is made after the loss: first renew the target, then use it.", _copy_afterwards),
        Suspect("The targets are z of the model itself, so nothing alternates: they are `target(x1)` and "
                "`target(x2)`.",
                _compared(lambda p1, p2, z1, z2, t1, t2: symmetric_loss(p1, p2, z1, z2))),
        Suspect("One of the two targets is z of the model itself: both are to come from the target network.",
                _compared(lambda p1, p2, z1, z2, t1, t2: symmetric_loss(p1, p2, z1, t2))),
        Suspect("One of the two targets is z of the model itself: both come from the target network.",
                _compared(lambda p1, p2, z1, z2, t1, t2: symmetric_loss(p1, p2, t1, z2))),
        Suspect("Half of the loss is missing: view 2 foretells view 1, too. `symmetric_loss` takes both.",
                _compared(lambda p1, p2, z1, z2, t1, t2: D(p1, t2))),
        Suspect("Half of the loss is missing: view 1 foretells view 2, too. `symmetric_loss` takes both.",
                _compared(lambda p1, p2, z1, z2, t1, t2: D(p2, t1))),
        Suspect("A view was compared with itself: `symmetric_loss` crosses them by itself, give it `target(x1)` before "
                "`target(x2)`.",
                _compared(lambda p1, p2, z1, z2, t1, t2: symmetric_loss(p1, p2, t2, t1))),
        Suspect("Both targets come from view 1: the second one is `target(x2)`.",
                _compared(lambda p1, p2, z1, z2, t1, t2: symmetric_loss(p1, p2, t1, t1))),
        Suspect("Both targets come from view 2: the first one is `target(x1)`.",
                _compared(lambda p1, p2, z1, z2, t1, t2: symmetric_loss(p1, p2, t2, t2))),
        Suspect("The predictor has no part in it: p1 and p2 are to foretell, not z1 and z2.",
                _compared(lambda p1, p2, z1, z2, t1, t2: symmetric_loss(z1, z2, t1, t2))),
        Suspect("The half of each term is missing: with the sum instead of the mean, a perfect loss is -2.",
                _compared(lambda p1, p2, z1, z2, t1, t2: D(p1, t2) + D(p2, t1))),
        Suspect("The minus is there twice: the symmetric loss is negative already.",
                _compared(lambda p1, p2, z1, z2, t1, t2: -symmetric_loss(p1, p2, t1, t2))),
        Suspect("The predictor was put behind the target network: h belongs to f's outputs, p1 and p2 of "
                "`model(x1, x2)`.",
                _predicted_by_the_target),
        Suspect("The target follows slowly, as in BYOL: here it is a plain copy, `target.follow(model.backbone, "
                "model.projector)` without momentum.",
                _copied(lambda model, target: target.follow(model.backbone, model.projector, 0.9))),
        Suspect("Only the backbone was copied: the projector belongs to f, too.", _copied(_backbone_only)),
        Suspect("Only the projector was copied: the backbone belongs to f, too.",
                _copied(lambda model, target: target.follow(target.encoder[0], model.projector))),
        Suspect("The copy went the wrong way: the target takes the weights of f, f keeps its own.",
                _copied(_backwards)),
        Suspect("The target *is* f now, not a copy of it, and moves with every step: use `target.follow(...)`, which "
                "copies numbers.",
                _copied(_share)),
        Suspect("`eval()` changes what BN does: use the model and the target in the mode they are in.",
                _first(lambda model, target, x1, x2: target.eval())),
        Suspect("`model.eval()` changes what BN does: use the model in the mode it is in.",
                _first(lambda model, target, x1, x2: model.eval())),
        Suspect("`train()` was called: use the model and the target in the mode they are in.",
                _first(lambda model, target, x1, x2: (model.train(), target.train()))),
        Suspect("f has seen the views more often than once: BN's running averages moved twice. The targets come from "
                "`target`, there is no other pass.",
                _first(lambda model, target, x1, x2: model(x1, x2))),
        Suspect("A view was changed in place: the views are the caller's.",
                _first(lambda model, target, x1, x2: x1.sub_(x1.mean()))),
        Suspect("`requires_grad_(True)` unfreezes what somebody has frozen: leave that alone.",
                _first(lambda model, target, x1, x2: model.requires_grad_(True))),
        Suspect("`zero_grad()` deletes gradients: that is the caller's to do.",
                _first(lambda model, target, x1, x2: model.zero_grad())),
        Suspect("`backward()` was called here: return the loss, the gradient is the caller's to take.", _backward),
        Suspect("Nobody can learn from this loss: it stands under `torch.no_grad()`, or p and the target changed "
                "places, and then both are cut off.",
                _compared(lambda p1, p2, z1, z2, t1, t2: symmetric_loss(t1, t2, p1, p2))),
        Suspect("Gradients stay switched off: `torch.set_grad_enabled(False)` holds until somebody switches them on.",
                _step_left_off),
        Suspect("`.item()` makes a plain number of the loss, and nothing can learn from a number: give the tensor "
                "back.",
                _compared(lambda p1, p2, z1, z2, t1, t2: symmetric_loss(p1, p2, t1, t2).item())),
        Suspect("Nothing was returned: end with `return`.",
                _compared(lambda p1, p2, z1, z2, t1, t2: None)),
    ],
    hints=(
        "At every k-th step renew the target first. Then it is SimSiam's loss, with z from the target network.",
        "`step % every == 0` is true at 0, k, 2k, ...; `target.follow(model.backbone, model.projector)` copies; "
        "`target(x1)` is the z of view 1.",
        "After the copy: `p1, p2, _, _ = model(x1, x2)`, then "
        "`return symmetric_loss(p1, p2, target(x1), target(x2))`",
    ),
    solution=_plain_alternating_step,
)  # fmt: skip


# ---- 7.3


def some_correlation(dim: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    """z^T z / B of outputs that vary more in some directions than in others. Shapes: (D, D)."""
    z = torch.randn(4 * dim, dim, dtype=dtype) @ torch.randn(dim, dim, dtype=dtype)
    return z.T @ z / len(z) + 0.2 * torch.eye(dim, dtype=dtype)


def _weight(c: Tensor, eps: float) -> Function:
    return lambda f: detached(f(c.clone(), eps))


def _stretched(f: Function) -> list[float]:
    """How long W makes the directions of C, the widest first."""
    C = some_correlation()
    U = torch.linalg.eigh(C).eigenvectors.flip(1)
    return (f(C, 0.1) @ U).norm(dim=0).tolist()


def _another_unit(f: Function) -> dict[str, bool]:
    """Whether W is the same for a larger and for a smaller C."""
    C = some_correlation()
    W = f(C, 0.05)
    return {f"{k:g} C": torch.allclose(f(k * C, 0.05), W, atol=1e-4) for k in (100, 0.01)}


def _turned(f: Function) -> list[Tensor]:
    """W of C, and W of C in other coordinates, turned back."""
    C = some_correlation()
    R = torch.linalg.qr(torch.randn(6, 6)).Q
    return [detached(f(C, 0.1)), detached(R.T @ f(R @ C @ R.T, 0.1) @ R)]


def _rounded_below_zero(f: Function) -> Any:
    """A C in which rounding has made one direction of no variance slightly negative."""
    return detached(f(torch.diag(torch.tensor([0.25, 1.0, -1e-8])), 0.1))


def _few_rows(f: Function) -> Any:
    """C of a batch of 4 in 6 dimensions: two of its directions have no variance. What is looked at is W C W."""
    z = torch.randn(4, 6, dtype=torch.float64)
    C = z.T @ z / 4
    W = f(C, 0.01)
    return detached(W @ C @ W)


def _weights_of_float64(f: Function) -> dict[str, Any]:
    C = some_correlation(dtype=torch.float64)
    other = torch.linspace(1, 2, 6, dtype=torch.float64).diag()
    result, moved = f(C, 0.1), f(C + 1e-9 * other, 0.1)
    return {"result": kind_and_shape(result), "a change of 1e-9 is seen": bool((result != moved).any())}


class _Mixed(TorchFunctionMode):
    """Inside, it is noticed where a tensor on the CPU is computed with one on `meta`: matmul there says nothing."""

    found = False
    allowed = ("to", "copy_", "__setitem__", "__getitem__", "type_as", "expand_as", "view_as", "reshape_as")

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        parts = [
            part for a in (*args, *kwargs.values()) for part in (a if isinstance(a, (list, tuple)) else [a])
        ]
        homes = {part.device for part in parts if isinstance(part, Tensor) and part.ndim > 0}
        if len(homes) > 1 and getattr(function, "__name__", "") not in self.allowed:
            self.found = True
        return function(*args, **kwargs)


def _weight_elsewhere(f: Function) -> str:
    C = some_correlation()
    with _Mixed() as mixed, suppress(Exception):
        f(C.to("meta"), 0.1)
    return "an error about devices" if mixed.found else elsewhere(lambda c: f(c, 0.1), C)


def _weight_in_place(correlation: Tensor, eps: float) -> Tensor:
    correlation /= torch.linalg.eigvalsh(correlation)[-1]
    return heads.directpred_weight(correlation, eps)


def _of(scale: Function) -> Function:
    """An answer that makes other lengths of the eigenvalues: scale(values, eps), ascending."""

    def answer(correlation: Tensor, eps: float) -> Tensor:
        values, U = torch.linalg.eigh(correlation)
        return U @ torch.diag(scale(values.clamp(min=0), eps)) @ U.T

    return answer


def _put_together(build: Function) -> Function:
    """An answer that has the right lengths and puts them together another way: build(U, lengths)."""

    def answer(correlation: Tensor, eps: float) -> Tensor:
        values, U = torch.linalg.eigh(correlation)
        return build(U, (values.clamp(min=0) / values.max()).sqrt() + eps)

    return answer


def _unclamped(correlation: Tensor, eps: float) -> Tensor:
    values, U = torch.linalg.eigh(correlation)
    return U @ torch.diag((values / values.max()).sqrt() + eps) @ U.T


def _plain_directpred_weight(correlation: Tensor, eps: float) -> Tensor:
    values, U = torch.linalg.eigh(correlation)  # (D,) ascending, (D, D): a direction in each column
    values = values.clamp(min=0)  # rounding makes some of them negative
    lengths = (values / values.max()).sqrt() + eps  # (D,)
    return U @ torch.diag(lengths) @ U.T  # (D, D)


FOUR_AND_ONE = torch.tensor([[2.5, 1.5], [1.5, 2.5]])
DIRECTPRED = Exercise(
    "7.3",
    "directpred_weight",
    heads.directpred_weight,
    facts=[
        Fact("For C of shape (6, 6) it gives a tensor of shape (6, 6).",
             lambda f: kind_and_shape(f(some_correlation(), 0.1))),
        Fact("For C = [[4, 0], [0, 1]] and eps = 0 it is [[1, 0], [0, .5]]: the square roots of 4/4 and of 1/4.",
             _weight(torch.diag(torch.tensor([4.0, 1.0])), 0.0)),
        Fact("For the same C and eps = .1 it is [[1.1, 0], [0, .6]]: eps is added to each direction's length.",
             _weight(torch.diag(torch.tensor([4.0, 1.0])), 0.1)),
        Fact("The order of the channels does not matter: for C = [[1, 0], [0, 4]] and eps = 0 it is [[.5, 0], [0, 1]].",
             _weight(torch.diag(torch.tensor([1.0, 4.0])), 0.0)),
        Fact("C = [[2.5, 1.5], [1.5, 2.5]] has the eigenvalues 4 and 1, along (1, 1) and (1, -1). With eps = 0, W is "
             "[[.75, .25], [.25, .75]].",
             _weight(FOUR_AND_ONE, 0.0)),
        Fact("For a random C of 6 channels: W stretches the widest direction to 1 + eps, the others less.",
             _stretched),
        Fact("It holds for random C and other eps.",
             lambda f: [detached(f(some_correlation(n), eps)) for n, eps in ((5, 0.01), (9, 0.3), (4, 0.0))]),
        Fact("The unit of z does not matter: 100 C and .01 C have the same W.", _another_unit),
        Fact("In other coordinates it is the same map: turn C, and W turns with it.", _turned),
        Fact("It works for a single channel: W = [[1 + eps]].", _weight(torch.tensor([[3.0]]), 0.1)),
        Fact("Rounding can make an eigenvalue of 0 slightly negative: it counts as 0, and W has no NaN.",
             _rounded_below_zero, tolerance=2e-3),
        Fact("A batch smaller than D leaves directions without any variance, and W is finite.", _few_rows, 2e-3),
        Fact("C stays as it was: nothing is changed in place.",
             lambda f: unchanged(lambda c: f(c, 0.1), some_correlation())),
        Fact("float64 in, float64 out, and float64 all the way.", _weights_of_float64),
        Fact("It computes where C is: no `.cpu()`, no tensor made on another device.",
             _weight_elsewhere),
    ],
    suspects=[
        Suspect("The square root is missing: an eigenvalue is a variance, and W stretches by its root.",
                _of(lambda v, eps: v / v.max() + eps)),
        Suspect("The division by the largest eigenvalue is missing: the widest direction is to be stretched by 1.",
                _of(lambda v, eps: v.sqrt() + eps)),
        Suspect("The eigenvalues were divided by their sum: divide by the largest one.",
                _of(lambda v, eps: (v / v.sum()).sqrt() + eps)),
        Suspect("The eigenvalues were divided by their mean: divide by the largest one.",
                _of(lambda v, eps: (v / v.mean()).sqrt() + eps)),
        Suspect("The eigenvalues were divided by the smallest one: `eigh` gives them ascending, the largest is the "
                "*last*.",
                _of(lambda v, eps: (v / v[0]).sqrt() + eps)),
        Suspect("The root was divided by the largest eigenvalue itself: divide first, then take the root.",
                _of(lambda v, eps: v.sqrt() / v.max() + eps)),
        Suspect("eps stands inside the root: add it after the root, to the length.",
                _of(lambda v, eps: (v / v.max() + eps).sqrt())),
        Suspect("eps is missing: with it even directions in which z does not vary are predicted a little.",
                _of(lambda v, eps: (v / v.max()).sqrt())),
        Suspect("eps was multiplied in: it is added to each length, a small one too.",
                _of(lambda v, eps: (v / v.max()).sqrt() * (1 + eps))),
        Suspect("eps is a fixed number: it is an argument.", _of(lambda v, eps: (v / v.max()).sqrt() + 0.01)),
        Suspect("eps was added before the division: it belongs to the lengths, after the root.",
                _of(lambda v, eps: ((v + eps) / (v + eps).max()).sqrt())),
        Suspect("eps was added and divided away again: divide the eigenvalues first, add eps last.",
                _of(lambda v, eps: (v.sqrt() + eps) / (v.sqrt() + eps).max())),
        Suspect("eps was added to the widest length only as a guard of the division: it belongs to every length.",
                _of(lambda v, eps: (v / (v.max() + eps)).sqrt())),
        Suspect("The roots were turned upside down: that would whiten z. The widest direction is to be kept, 1.",
                _of(lambda v, eps: (v / v.max()).rsqrt() + eps)),
        Suspect("The eigenvalues were squared: take their square roots.",
                _of(lambda v, eps: (v / v.max()).square() + eps)),
        Suspect("The eigenvalues were turned round and the eigenvectors were not: value k belongs to column k of U.",
                _of(lambda v, eps: (v.flip(0) / v.max()).sqrt() + eps)),
        Suspect("U and its transpose changed places: the columns of U are the directions, W = U diag U^T.",
                _put_together(lambda U, s: U.T @ torch.diag(s) @ U)),
        Suspect("The second U is missing, or the first: W = U diag U^T turns there and back again.",
                _put_together(lambda U, s: U * s)),
        Suspect("The second U is not transposed: W = U diag U^T.",
                _put_together(lambda U, s: U @ torch.diag(s) @ U)),
        Suspect("Only the lengths are left, as a diagonal matrix: W = U diag U^T. Mind that `U * s` scales the columns "
                "of U, and `s[:, None] * U` its rows.",
                _put_together(lambda U, s: torch.diag(s))),
        Suspect("Only the lengths came back: put them between U and U^T.", _put_together(lambda U, s: s)),
        Suspect("The root was taken of each entry of C: it is the eigenvalues that have a root.",
                lambda c, eps: (c / torch.linalg.eigvalsh(c)[-1]).abs().sqrt() + eps * torch.eye(len(c))),
        Suspect("eps was added to every entry of W: it belongs to the lengths, which is the diagonal only.",
                lambda c, eps: heads.directpred_weight(c, 0.0) + eps),
        Suspect("A negative eigenvalue, which rounding makes, has no root: `clamp(min=0)` first.", _unclamped),
        Suspect("C was changed in place: write `C = C / ...`, not `C /= ...`.", _weight_in_place),
        Suspect("It always computes in float32: drop the `.float()`, the result has the dtype of C.",
                lambda c, eps: heads.directpred_weight(c.float(), eps)),
        Suspect("The result is complex: `torch.linalg.eigh` is for symmetric matrices and stays real, `eig` does not.",
                lambda c, eps: heads.directpred_weight(c, eps).to(torch.complex64)),
        Suspect("Nothing was returned: end with `return`.", lambda c, eps: print(end="")),
        Suspect("A tensor was made on the CPU: `torch.eye(len(C))` and the like need `device=C.device`.",
                lambda c, eps: heads.directpred_weight(c, 0.0) + eps * torch.eye(len(c), dtype=c.dtype)),
    ],
    hints=(
        "Keep C's directions and change its lengths: each eigenvalue becomes the root of its share of the largest "
        "one, plus eps.",
        "`values, U = torch.linalg.eigh(correlation)` gives the eigenvalues, ascending, and the directions as columns "
        "of U; `clamp(min=0)` before the root.",
        "`lengths = (values.clamp(min=0) / values.max()).sqrt() + eps`, then "
        "`return U @ torch.diag(lengths) @ U.T`",
    ),
    solution=_plain_directpred_weight,
)  # fmt: skip

EXERCISES = (MOVING_AVERAGE, ALTERNATING_STEP, DIRECTPRED)
