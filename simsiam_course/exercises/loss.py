"""Lesson 03: the loss, and where the gradient stops."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import loss
from ..loss import negative_cosine
from .core import Exercise, Fact, Function, Suspect, elsewhere, gradients, kind_and_shape, unchanged


def pair(rows: int = 6, channels: int = 5, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """p and z, twice (rows, channels), of other lengths than 1."""
    p, z = torch.randn(2, rows, channels, dtype=dtype)
    return (3 * p + 0.5).requires_grad_(), (2 * z - 0.3).requires_grad_()


def four(rows: int = 6, channels: int = 5, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """p1, p2, z1, z2, four times (rows, channels)."""
    return tuple((torch.randn(rows, channels, dtype=dtype) + i / 2).requires_grad_() for i in range(4))


def number(value: Any) -> Any:
    """A scalar as a Python number; what is none stays as it is."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def kind(value: Any) -> Any:
    """As `kind_and_shape`; a Python float is called so, whatever its value."""
    return "a plain number" if isinstance(value, float) else kind_and_shape(value)


def in_float64(f: Function, *arguments: Tensor) -> dict[str, Any]:
    """What becomes of float64, and whether a change of some 1e-10 is seen, to which float32 is blind."""
    first, *others = arguments
    little = 1e-10 * torch.arange(first.numel()).view_as(first)
    result, moved = f(first, *others), f(first + little, *others)
    return {"result": kind(result), "a change of 1e-10 is seen": bool((result != moved).any())}


def left_alone(f: Function, *arguments: Tensor) -> dict[str, bool]:
    """What a function can do besides giving its result."""
    f(*arguments)
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        back = torch.autograd.grad([argument.sum() for argument in arguments], arguments)
    return {
        "the caller calls backward()": all(argument.grad is None for argument in arguments),
        "gradients are recorded afterwards": recorded,
        "gradients reach the arguments whole": all(bool((g == 1).all()) for g in back),
    }


P = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
Z = torch.tensor([[2.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 3.0, 4.0]])


# ---- 3.1


def _gradients_of_a_pair(f: Function) -> dict[str, str]:
    p, z = pair()
    return gradients(f(p, z), p=p, z=z)


def _gradient_values(f: Function) -> list[Any]:
    p, z = pair()
    result = f(p, z)
    return [number(result), *torch.autograd.grad(result, [p])]


def _longer_and_shorter(f: Function) -> list[float]:
    """By how much the loss changes with the lengths of p and of z."""
    base = number(f(P.clone(), Z.clone()))
    return [number(f(10 * P, Z.clone())) - base, number(f(P.clone(), Z / 10)) - base]


def _change_z_in_place(p: Tensor, z: Tensor) -> Tensor:
    z = z.detach()
    z /= z.norm(dim=1, keepdim=True)
    return -(F.normalize(p, dim=1) * z).sum(dim=1).mean()


def _change_p_in_place(p: Tensor, z: Tensor) -> Tensor:
    p /= p.norm(dim=1, keepdim=True)
    return -(p * F.normalize(z.detach(), dim=1)).sum(dim=1).mean()


def _change_z_for_good(p: Tensor, z: Tensor) -> Tensor:
    return -F.cosine_similarity(p, z.requires_grad_(False), dim=1).mean()


def _detach_the_length(p: Tensor, z: Tensor) -> Tensor:
    p = p / p.norm(dim=1, keepdim=True).detach()
    return -(p * F.normalize(z.detach(), dim=1)).sum(dim=1).mean()


def _without_a_graph(p: Tensor, z: Tensor) -> Tensor:
    with torch.no_grad():
        return -F.cosine_similarity(p, z, dim=1).mean()


def backward(of: Function) -> Function:
    """A loss that takes its own gradient."""

    def wrong(*arguments: Tensor) -> Tensor:
        result = of(*arguments)
        result.backward(retain_graph=True)
        return result

    return wrong


CALLED = "`backward()` was called here: return the loss, the gradient is the caller's to take."


def _plain_negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    p = F.normalize(p, dim=1)  # (B, D), each row of length 1
    z = F.normalize(z.detach(), dim=1)  # (B, D), a target
    return -(p * z).sum(dim=1).mean()  # (B, D) -> (B,) -> ()


NEGATIVE_COSINE = Exercise(
    "3.1",
    "negative_cosine",
    negative_cosine,
    facts=[
        Fact("For p and z of shape (6, 5) it gives one number, a tensor of shape ().", lambda f: kind(f(*pair()))),
        Fact(
            "For p = [[3, 0, 0], [1, 1, 0], [0, 0, 2]] and z = [[2, 0, 0], [0, 5, 0], [0, 3, 4]] the cosines are 1, "
            "0.707 and 0.8; the loss is minus their mean, -0.836.",
            lambda f: number(f(P.clone(), Z.clone())),
        ),
        Fact("Only directions count: with p ten times as long, or z a tenth, the loss changes by 0.",
             _longer_and_shorter),
        Fact("It is -1 where p and z point the same way, and 1 where they point opposite ways.",
             lambda f: [number(f(Z.clone(), 2 * Z)), number(f(Z.clone(), -2 * Z))]),
        Fact("It holds for random p and z.", lambda f: number(f(*pair(7, 11)))),
        Fact("It works for a batch of one, too.", lambda f: [kind(f(*pair(1, 5))), number(f(*pair(1, 5)))]),
        Fact("p and z stay as they were: nothing is changed in place.",
             lambda f: unchanged(f, *(t.detach() for t in pair()))),
        Fact("p receives a gradient and z does not: z is a target, `z.detach()`.", _gradients_of_a_pair),
        Fact("The gradient that p receives is that of the loss.", _gradient_values),
        Fact("The loss is returned, and nothing else happens: no `backward()`, no switch left off, no hook.",
             lambda f: left_alone(f, *pair())),
        Fact("float64 in, float64 out, and float64 all the way.",
             lambda f: in_float64(f, *pair(dtype=torch.float64))),
        Fact("It computes where p and z are: no `.cpu()`, no tensor made on another device.",
             lambda f: elsewhere(f, *pair())),
    ],
    suspects=[
        Suspect("The minus is missing. The *negative* cosine is to be minimised: -1 is perfect agreement.",
                lambda p, z: F.cosine_similarity(p, z.detach(), dim=1).mean()),
        Suspect("The rows are not of length 1: divide p and z by their norms (F.normalize) before you multiply.",
                lambda p, z: -(p * z.detach()).sum(dim=1).mean()),
        Suspect("The minus and the norms are both missing: divide p and z by their norms (F.normalize) first.",
                lambda p, z: (p * z.detach()).sum(dim=1).mean()),
        Suspect("Only p has length 1: normalise z as well.",
                lambda p, z: -(F.normalize(p, dim=1) * z.detach()).sum(dim=1).mean()),
        Suspect("Only z has length 1: normalise p as well.",
                lambda p, z: -(p * F.normalize(z.detach(), dim=1)).sum(dim=1).mean()),
        Suspect("It was normalised over the batch (dim=0). A row is one image: use dim=1.",
                lambda p, z: -(F.normalize(p, dim=0) * F.normalize(z.detach(), dim=0)).sum(dim=1).mean()),
        Suspect("The mean was taken over all entries. Sum over the channels (dim=1), then take the mean over the "
                "images.",
                lambda p, z: -(F.normalize(p, dim=1) * F.normalize(z.detach(), dim=1)).mean()),
        Suspect("The images were summed. Take the mean over the batch, so that its size does not matter.",
                lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).sum()),
        Suspect("The images were not averaged: one number for each came back. End with `.mean()`.",
                lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1)),
        Suspect("The detach is missing: z received a gradient. Start with `z = z.detach()`.",
                lambda p, z: -F.cosine_similarity(p, z, dim=1).mean()),
        Suspect("p was detached instead of z: the prediction must move, the target must not.",
                lambda p, z: -F.cosine_similarity(p.detach(), z, dim=1).mean()),
        Suspect("Nobody can learn from this loss: everything was detached, or stood under `torch.no_grad()`. Only z "
                "is a target.",
                _without_a_graph),
        Suspect("`.item()` makes a plain number of the loss, and nothing can learn from a number: give the tensor "
                "back.",
                lambda p, z: -F.cosine_similarity(p, z.detach(), dim=1).mean().item()),
        Suspect("z itself was changed for good (`requires_grad_(False)`, `detach_()`): `z.detach()` gives a new "
                "tensor.",
                _change_z_for_good),
        Suspect("z was changed in place, and `z.detach()` shares its memory: write `z = z / ...`, not `z /= ...`.",
                _change_z_in_place),
        Suspect("`p /= ...` changes p in place, which autograd does not allow here: write `p = p / ...`.",
                _change_p_in_place),
        Suspect("The lengths were detached, too: p's length depends on p, and its gradient belongs to the loss.",
                _detach_the_length),
        Suspect("Every p was compared with every z. Row i of p belongs to row i of z: `p * z`, not `p @ z.T`.",
                lambda p, z: -(F.normalize(p, dim=1) @ F.normalize(z.detach(), dim=1).T).mean()),
        Suspect("The whole batch became one long vector: each image has a cosine of its own (dim=1), then comes the "
                "mean.",
                lambda p, z: -F.cosine_similarity(p.flatten(), z.detach().flatten(), dim=0)),
        Suspect("`squeeze()` removes every dimension of size 1, and so the batch dimension of a batch of one.",
                lambda p, z: -F.cosine_similarity(p.squeeze(), z.detach().squeeze(), dim=1).mean()),
        Suspect("It always computes in float32: drop the `.float()`, the result has the dtype of p and z.",
                lambda p, z: -F.cosine_similarity(p.float(), z.detach().float(), dim=1).mean()),
        Suspect("This is a distance, not a cosine. They are related, |p - z|^2 = 2 - 2 cos, but the loss is minus "
                "the cosine.",
                lambda p, z: (F.normalize(p, dim=1) - F.normalize(z.detach(), dim=1)).square().sum(dim=1).mean()),
        Suspect(CALLED, backward(negative_cosine)),
        Suspect("1 was added: the loss is minus the cosine itself, and good values are negative.",
                lambda p, z: 1 - F.cosine_similarity(p, z.detach(), dim=1).mean()),
    ],
    hints=(
        "The cosine of two vectors is their dot product after both were given length 1.",
        "`F.normalize(p, dim=1)` gives every row length 1; `z.detach()` makes z a target.",
        "`return -(F.normalize(p, dim=1) * F.normalize(z.detach(), dim=1)).sum(dim=1).mean()`",
    ),
    solution=_plain_negative_cosine,
)  # fmt: skip


# ---- 3.2


def _separate(f: Function) -> list[float]:
    """The loss when only one of the four differs from the others, each in turn."""
    base = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    other = torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.6, 0.8]])
    return [number(f(*(other.clone() if i == j else base.clone() for j in range(4)))) for i in range(4)]


def _agree_across(f: Function) -> list[Any]:
    """p1 = z2 with p2 = z1, then with p2 = -z1; the cosine of each view's own p and z is 0.28 or -0.28."""
    x, y = torch.tensor([[1.0, 0.0]]).repeat(3, 1), torch.tensor([[0.28, 0.96]]).repeat(3, 1)
    return [number(f(x.clone(), sign * y, y.clone(), x.clone())) for sign in (1, -1)]


def _gradients_of_four(f: Function) -> dict[str, Any]:
    p1, p2, z1, z2 = four()
    result = f(p1, p2, z1, z2)
    return {"loss": number(result), **gradients(result, p1=p1, p2=p2, z1=z1, z2=z2)}


def _gradient_of_p(f: Function) -> list[Any]:
    p1, p2, z1, z2 = four()
    result = f(p1, p2, z1, z2)
    return [number(result), *torch.autograd.grad(result, [p1, p2])]


def _all_stopped(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    with torch.no_grad():
        return loss.symmetric_loss(p1, p2, z1, z2)


def _plain_symmetric_loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    return negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2  # each view predicts the other


D = negative_cosine
SYMMETRIC_LOSS = Exercise(
    "3.2",
    "symmetric_loss",
    loss.symmetric_loss,
    facts=[
        Fact("For four tensors of shape (6, 5) it gives one number, a tensor of shape ().", lambda f: kind(f(*four()))),
        Fact("Each view predicts the *other*: with p1 = z2 and p2 = z1 the loss is -1, whatever p1 has to do with z1; "
             "with p1 = z2 and p2 = -z1 it is 0.", _agree_across),
        Fact("It is the mean of D(p1, z2) and D(p2, z1): here one of p1, p2, z1, z2 differs from the rest, each in "
             "turn.",
             _separate),
        Fact("It holds for random p and z.", lambda f: number(f(*four(7, 11)))),
        Fact("It works for a batch of one, too.", lambda f: [kind(f(*four(1, 5))), number(f(*four(1, 5)))]),
        Fact("All four stay as they were: nothing is changed in place.",
             lambda f: unchanged(f, *(t.detach() for t in four()))),
        Fact("p1 and p2 receive a gradient, z1 and z2 do not.", _gradients_of_four),
        Fact("The gradients that p1 and p2 receive are those of the loss.", _gradient_of_p),
        Fact("The loss is returned, and nothing else happens: no `backward()`, no switch left off, no hook.",
             lambda f: left_alone(f, *four())),
        Fact("float64 in, float64 out, and float64 all the way.",
             lambda f: in_float64(f, *four(dtype=torch.float64))),
        Fact("It computes where p and z are: no `.cpu()`, no tensor made on another device.",
             lambda f: elsewhere(f, *four())),
    ],
    suspects=[
        Suspect("Each view was compared with itself, p1 with z1. A view is to predict the *other* view: cross them.",
                lambda p1, p2, z1, z2: D(p1, z1) / 2 + D(p2, z2) / 2),
        Suspect("Somewhere a view is compared with itself: only p1 with z2 and p2 with z1 are wanted.",
                lambda p1, p2, z1, z2: D(p1, z2) / 2 + D(p1, z1) / 2),
        Suspect("One half is missing: the second view predicts the first one, too.",
                lambda p1, p2, z1, z2: D(p1, z2)),
        Suspect("One half is missing: the first view predicts the second one, too.",
                lambda p1, p2, z1, z2: D(p2, z1)),
        Suspect("A term was lost: D(p1, z2) / 2 is there, D(p2, z1) / 2 is not.",
                lambda p1, p2, z1, z2: D(p1, z2) / 2),
        Suspect("A term was lost: D(p2, z1) / 2 is there, D(p1, z2) / 2 is not.",
                lambda p1, p2, z1, z2: D(p2, z1) / 2),
        Suspect("It was halved twice: the mean of two terms is their sum, divided by 2 once.",
                lambda p1, p2, z1, z2: (D(p1, z2) / 2 + D(p2, z1) / 2) / 2),
        Suspect("The half of each term is missing: with the sum instead of the mean, a perfect loss is -2.",
                lambda p1, p2, z1, z2: D(p1, z2) + D(p2, z1)),
        Suspect("One term has its half and the other has not: mind what the `/ 2` belongs to.",
                lambda p1, p2, z1, z2: D(p1, z2) + D(p2, z1) / 2),
        Suspect("One of the halves has the wrong sign.",
                lambda p1, p2, z1, z2: D(p1, z2) / 2 - D(p2, z1) / 2),
        Suspect("The minus is there twice: `negative_cosine` is negative already.",
                lambda p1, p2, z1, z2: -D(p1, z2) / 2 - D(p2, z1) / 2),
        Suspect("The two predictions were compared with each other: a prediction is compared with the other view's z.",
                lambda p1, p2, z1, z2: D(p1, p2) / 2 + D(p2, p1) / 2),
        Suspect("The two projections were compared with each other, and the predictor has no part in it: p is to "
                "predict z.",
                lambda p1, p2, z1, z2: D(z1, z2) / 2 + D(z2, z1) / 2),
        Suspect("z receives a gradient: the target must be detached, here or in `negative_cosine`.",
                lambda p1, p2, z1, z2: D(p1, z2, stop_gradient=False) / 2 + D(p2, z1, stop_gradient=False) / 2),
        Suspect("z1 receives a gradient: the target of the second term is not detached.",
                lambda p1, p2, z1, z2: D(p1, z2) / 2 + D(p2, z1, stop_gradient=False) / 2),
        Suspect("z2 receives a gradient: the target of the first term is not detached.",
                lambda p1, p2, z1, z2: D(p1, z2, stop_gradient=False) / 2 + D(p2, z1) / 2),
        Suspect("The gradient goes to z instead of p: they have changed places, or p was detached. p moves, z is the "
                "target.",
                lambda p1, p2, z1, z2: D(z2, p1) / 2 + D(z1, p2) / 2),
        Suspect("Nobody can learn from this loss: everything was detached, or stood under `torch.no_grad()`.",
                _all_stopped),
        Suspect("`.item()` makes a plain number of the loss, and nothing can learn from a number: give the tensor "
                "back.",
                lambda p1, p2, z1, z2: loss.symmetric_loss(p1, p2, z1, z2).item()),
        Suspect(CALLED, backward(loss.symmetric_loss)),
        Suspect("p1 was compared with p2, and z1 with z2: a view's p is compared with the *other* view's z.",
                lambda p1, p2, z1, z2: D(p1, p2) / 2 + D(z1, z2) / 2),
        Suspect("The two terms came back side by side: return one number, half of each added up.",
                lambda p1, p2, z1, z2: (D(p1, z2), D(p2, z1))),
        Suspect("The rows are not of length 1: call your `negative_cosine`, which takes care of that.",
                lambda p1, p2, z1, z2: -((p1 * z2.detach()).sum(1) + (p2 * z1.detach()).sum(1)).mean() / 2),
    ],
    hints=(
        "Both views play both parts: view 1 predicts view 2, and view 2 predicts view 1. The loss is the mean of the "
        "two.",
        "Use your `negative_cosine` twice, with p of one view and z of the other.",
        "`return negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2`",
    ),
    solution=_plain_symmetric_loss,
)  # fmt: skip


# ---- 3.3


def _in_every_case(look: Function) -> Any:
    """What is seen for each `where`; only once where it is always the same."""
    seen = {where: look(where) for where in loss.STOP_GRADIENT}
    return seen["none"] if all(str(one) == str(seen["none"]) for one in seen.values()) else seen


def _kinds(f: Function) -> Any:
    p, z = pair()
    return _in_every_case(lambda where: kind(f(p, z, where)))


def _values_kept(f: Function) -> Any:
    """Looked at in float64, where 'no value' can be taken at its word."""
    p, z = (torch.tensor([row], dtype=torch.float64, requires_grad=True) for row in ([1 / 3, 2], [-3, 0.4]))
    return _in_every_case(
        lambda where: [t.tolist() for pair in ((p, z), (p[0], z[0])) for t in f(*pair, where)]
    )


def _who(where: str) -> Function:
    def look(f: Function) -> dict[str, str]:
        p, z = pair()
        kept_p, kept_z = f(p, z, where)
        return gradients(kept_p.square().sum() + kept_z.square().sum(), p=p, z=z)

    return look


def _whole(f: Function) -> list[Tensor]:
    p, z = pair()
    kept_p, kept_z = f(p, z, "none")
    return list(torch.autograd.grad(kept_p.square().sum() + kept_z.square().sum(), [p, z]))


def _still_ask(f: Function) -> list[bool]:
    p, z = pair()
    f(p, z, "both")
    return [p.requires_grad, z.requires_grad]


def _moving_p_alone(p: Tensor, z: Tensor, where: str) -> tuple[Tensor, Tensor]:
    return p, z.detach()


def _instead(wrong: dict[str, str]) -> Function:
    """An answer that mistakes some cases for others: {what `where` says: what is done}."""

    def answer(p: Tensor, z: Tensor, where: str) -> tuple[Tensor, Tensor]:
        return loss.stop_gradient(p, z, wrong.get(where, where))

    return answer


def _for_good(p: Tensor, z: Tensor, where: str) -> tuple[Tensor, Tensor]:
    if where in ("target", "both"):
        z.requires_grad_(False)
    if where in ("wrong_side", "both"):
        p.requires_grad_(False)
    return p, z


STOP_GRADIENT = Exercise(
    "3.3",
    "stop_gradient",
    loss.stop_gradient,
    facts=[
        Fact("It gives p and z back, two tensors of their shape and dtype.", _kinds),
        Fact("A stop-gradient changes no value: what comes back is p and z, in this order, whatever `where` and "
             "their shapes are.",
             _values_kept, tolerance=1e-12),
        Fact("'target', the method: p receives a gradient, z does not.", _who("target")),
        Fact("'none': both receive a gradient.", _who("none")),
        Fact("'wrong_side': z receives a gradient, p does not.", _who("wrong_side")),
        Fact("'both': nobody receives a gradient.", _who("both")),
        Fact("Where a gradient flows, it flows whole.", _whole),
        Fact("p and z themselves stay as they were: they still ask for gradients afterwards.", _still_ask),
        Fact("It works on any device.",
             lambda f: [elsewhere(lambda p, z, i=i: f(p, z, "both")[i], *pair()) for i in (0, 1)]),
    ],
    suspects=[
        Suspect("`where` is never looked at: z is detached in every case.", _moving_p_alone),
        Suspect("p is detached in every case: look at `where`, and remember that the method's target is z.",
                lambda p, z, where: (p.detach(), z)),
        Suspect("'target' and 'wrong_side' are exchanged: the target is z.",
                _instead({"target": "wrong_side", "wrong_side": "target"})),
        Suspect("'none' and 'both' are exchanged: 'both' stops both gradients.",
                _instead({"none": "both", "both": "none"})),
        Suspect("Every case does the opposite of what it should: is there a `not` too many, or too few?",
                _instead({"target": "wrong_side", "wrong_side": "target", "none": "both", "both": "none"})),
        Suspect("p and z come back in the wrong order: return p first.",
                lambda p, z, where: loss.stop_gradient(p, z, where)[::-1]),
        Suspect("Nothing is ever detached: `z.detach()` gives a *new* tensor, which has to be used; or no word ever "
                "matches, by its spelling or for want of a comma.",
                lambda p, z, where: (p, z)),
        Suspect("Both are detached in every case: `where == 'target' or 'both'` is always true, use `where in (...)`.",
                _instead({"target": "both", "none": "both", "wrong_side": "both"})),
        Suspect("'target' stops nothing: z is to be detached there.", _instead({"target": "none"})),
        Suspect("'target' stops p as well: only z is to be detached there.", _instead({"target": "both"})),
        Suspect("'wrong_side' stops nothing: is the word spelt as it should be, with an underscore?",
                _instead({"wrong_side": "none"})),
        Suspect("'wrong_side' stops z as well: only p is to be detached there.", _instead({"wrong_side": "both"})),
        Suspect("'both' stops z only: is there an `elif` where a second `if` belongs?", _instead({"both": "target"})),
        Suspect("'both' stops p only: z is to be detached, too.", _instead({"both": "wrong_side"})),
        Suspect("'both' stops nothing: p and z are to be detached there.", _instead({"both": "none"})),
        Suspect("'none' stops both: nothing is to be detached there.", _instead({"none": "both"})),
        Suspect("'none' still stops z.", _instead({"none": "target"})),
        Suspect("'none' still stops p.", _instead({"none": "wrong_side"})),
        Suspect("The tensor itself was changed for good (`requires_grad_(False)`, `detach_()`): `z.detach()` gives a "
                "new one.",
                _for_good),
        Suspect("The values became zero. A stop-gradient keeps the value and only cuts the way back: `z.detach()`.",
                lambda p, z, where: (p, z * 0)),
    ],
    hints=(
        "Decide for p and for z separately: in which of the four cases is it cut off?",
        "z is cut off for 'target' and 'both', p for 'wrong_side' and 'both'; `detach()` does the cutting.",
        "`if where in ('target', 'both'): z = z.detach()`, and the same for p with ('wrong_side', 'both').",
    ),
)  # fmt: skip


# ---- 3.4


def _uniform(f: Function) -> Any:
    return number(f(torch.zeros(3, 8), torch.randn(3, 8)))


def _one_class(f: Function) -> Any:
    z = torch.full((2, 4), -40.0)
    z[:, 1] = 40.0
    return number(f(torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]])).repeat(2, 1), z))


def _shift_z_in_place(p: Tensor, z: Tensor) -> Tensor:
    z = z.detach()
    z -= z.amax(dim=1, keepdim=True)
    return F.cross_entropy(p, F.softmax(z, dim=1))


def _plain_cross_entropy_similarity(p: Tensor, z: Tensor) -> Tensor:
    odds = F.softmax(z.detach(), dim=1)  # (B, D), each row sums to 1; z is a target
    return -(odds * F.log_softmax(p, dim=1)).sum(dim=1).mean()  # (B, D) -> (B,) -> ()


CROSS_ENTROPY = Exercise(
    "3.4",
    "cross_entropy_similarity",
    loss.cross_entropy_similarity,
    facts=[
        Fact("For p and z of shape (6, 5) it gives one number, a tensor of shape ().", lambda f: kind(f(*pair()))),
        Fact("If p is the same in all 8 channels, it says nothing, and the loss is log 8 = 2.079.", _uniform),
        Fact("If z is sure of channel 1 and p gives that channel .2, the loss is -log .2 = 1.609.", _one_class),
        Fact("It holds for random p and z.", lambda f: number(f(*pair(7, 11)))),
        Fact("It works for a batch of one, too.", lambda f: [kind(f(*pair(1, 5))), number(f(*pair(1, 5)))]),
        Fact("Large numbers do no harm: with p and z of some hundreds the loss is still right.",
             lambda f: number(f(*(200 * t.detach() for t in pair())))),
        Fact("p and z stay as they were: nothing is changed in place.",
             lambda f: unchanged(f, *(t.detach() for t in pair()))),
        Fact("p receives a gradient and z does not: z is a target, `z.detach()`.", _gradients_of_a_pair),
        Fact("The gradient that p receives is that of the loss.", _gradient_values),
        Fact("The loss is returned, and nothing else happens: no `backward()`, no switch left off, no hook.",
             lambda f: left_alone(f, *pair())),
        Fact("float64 in, float64 out, and float64 all the way.",
             lambda f: in_float64(f, *pair(dtype=torch.float64))),
        Fact("It computes where p and z are: no `.cpu()`, no tensor made on another device.",
             lambda f: elsewhere(f, *pair())),
    ],
    suspects=[
        Suspect(CALLED, backward(loss.cross_entropy_similarity)),
        Suspect("The minus is missing: a cross-entropy is minus the expected log-probability, 0 or more.",
                lambda p, z: (F.softmax(z.detach(), 1) * F.log_softmax(p, 1)).sum(1).mean()),
        Suspect("p and z changed places: z gives the odds (softmax), p the log-odds (log_softmax).",
                lambda p, z: -(F.softmax(p, 1) * F.log_softmax(z.detach(), 1)).sum(1).mean()),
        Suspect("The softmax went over the batch (dim=0). A row is one image: use dim=1.",
                lambda p, z: -(F.softmax(z.detach(), 0) * F.log_softmax(p, 0)).sum(1).mean()),
        Suspect("The mean was taken over all entries. Sum over the channels (dim=1), then take the mean over the "
                "images.",
                lambda p, z: -(F.softmax(z.detach(), 1) * F.log_softmax(p, 1)).mean()),
        Suspect("The images were summed: take the mean over the batch.",
                lambda p, z: -(F.softmax(z.detach(), 1) * F.log_softmax(p, 1)).sum()),
        Suspect("The images were not averaged: one number for each came back. End with `.mean()`.",
                lambda p, z: -(F.softmax(z.detach(), 1) * F.log_softmax(p, 1)).sum(1)),
        Suspect("z was not turned into odds: it needs a softmax.",
                lambda p, z: -(z.detach() * F.log_softmax(p, 1)).sum(1).mean()),
        Suspect("The logarithm is missing: p needs `log_softmax`, not `softmax`.",
                lambda p, z: -(F.softmax(z.detach(), 1) * F.softmax(p, 1)).sum(1).mean()),
        Suspect("This is the Kullback-Leibler divergence: the entropy of z was subtracted. The paper takes the "
                "cross-entropy.",
                lambda p, z: F.kl_div(F.log_softmax(p, 1), F.softmax(z.detach(), 1), reduction="batchmean")),
        Suspect("z was taken for class numbers (its largest channel): the whole softmax of z is the target.",
                lambda p, z: F.cross_entropy(p, z.detach().argmax(1))),
        Suspect("z needs the softmax itself, not its logarithm; only p is taken through `log_softmax`.",
                lambda p, z: -(F.log_softmax(z.detach(), 1) * F.log_softmax(p, 1)).sum(1).mean()),
        Suspect("p went through a softmax twice: `F.cross_entropy` does the `log_softmax` of p itself.",
                lambda p, z: F.cross_entropy(F.softmax(p, 1), F.softmax(z.detach(), 1))),
        Suspect("`exp` or softmax and then `log` breaks down for large numbers: an infinity or a zero gets into it. "
                "`F.log_softmax(p, dim=1)` does both at once.",
                lambda p, z: -(F.softmax(z.detach(), 1) * F.softmax(p, 1).log()).sum(1).mean()),
        Suspect("A small number inside the logarithm keeps it finite, and wrong: use `F.log_softmax(p, dim=1)`.",
                lambda p, z: -(F.softmax(z.detach(), 1) * (F.softmax(p, 1) + 1e-8).log()).sum(1).mean()),
        Suspect("The detach is missing: z received a gradient. Start with `z = z.detach()`.",
                lambda p, z: -(F.softmax(z, 1) * F.log_softmax(p, 1)).sum(1).mean()),
        Suspect("p was detached instead of z: the prediction must move, the target must not.",
                lambda p, z: -(F.softmax(z, 1) * F.log_softmax(p.detach(), 1)).sum(1).mean()),
        Suspect("Nobody can learn from this loss: everything was detached, or stood under `torch.no_grad()`. Only z "
                "is a target.",
                lambda p, z: -(F.softmax(z.detach(), 1) * F.log_softmax(p.detach(), 1)).sum(1).mean()),
        Suspect("z was changed in place, and `z.detach()` shares its memory: write `z = z - ...`, not `z -= ...`.",
                _shift_z_in_place),
    ],
    hints=(
        "Read the channels as classes: the softmax of z is what is true, the softmax of p is what is predicted.",
        "`F.softmax(z, dim=1)` and `F.log_softmax(p, dim=1)`; the target z is detached.",
        "`return -(F.softmax(z.detach(), dim=1) * F.log_softmax(p, dim=1)).sum(dim=1).mean()`",
    ),
    solution=_plain_cross_entropy_similarity,
)  # fmt: skip

EXERCISES = (NEGATIVE_COSINE, SYMMETRIC_LOSS, STOP_GRADIENT, CROSS_ENTROPY)
