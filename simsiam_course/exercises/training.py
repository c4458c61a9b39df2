"""Lesson 04: the learning rate, one step of training, and a monitor that asks the neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .. import evaluate, recipe, train
from ..loss import negative_cosine, symmetric_loss
from ..model import SimSiam
from . import loss as lesson_03
from . import network as lesson_02
from .core import Exercise, Fact, Function, Suspect, gradients, kind_and_shape, place, unchanged

# ---- 4.1


def rate(value: Any) -> Any:
    """A rate as a Python number, whatever kind of number it is; what is none stays as it is."""
    one = isinstance(value, Tensor) and value.numel() == 1
    if one or (hasattr(value, "item") and getattr(value, "shape", None) == ()):
        return float(value.item())
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain else kind_and_shape(value)


def rates(f: Function, total: int, *, steps: Sequence[int] = (), lr: float = 1.0) -> list[Any]:
    """The rates of a run of `total` steps of 256 images, or of some of its steps."""
    return [rate(f(step, total, lr=lr, batch_size=256)) for step in steps or range(total)]


def _peaks(f: Function) -> list[Any]:
    return [rate(f(0, 100, lr=0.5, batch_size=batch)) for batch in (64, 128, 512)]


def _anywhere(f: Function) -> list[Any]:
    cases = ((3, 11, 0.6, 64), (90, 91, 30.0, 4096), (17, 960, 0.05, 100), (5, 6, 1e3, 1))
    return [rate(f(step, total, lr=lr, batch_size=batch)) for step, total, lr, batch in cases]


def _asked_again(f: Function) -> Any:
    rates(f, 10)
    return rates(f, 10, steps=(7, 0, 3, 7))


def learning_rate_solution(step: int, total: int, *, lr: float, batch_size: int) -> float:
    peak = lr * batch_size / 256
    done = step / total  # from 0 to almost 1
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def falling(curve: Function) -> Function:
    """A learning rate with the right peak and another curve of the share that is done."""
    return lambda step, total, lr, batch_size: lr * batch_size / 256 * curve(step / total)


EXACT = 1e-6
LEARNING_RATE = Exercise(
    "4.1",
    "learning_rate",
    recipe.learning_rate,
    facts=[
        Fact("It gives one number.",
             lambda f: "one number" if isinstance(r := rate(f(0, 100, lr=0.5, batch_size=256)), float) else r),
        Fact("At step 0 of 100, with lr = 0.5 and a batch of 256, the rate is lr itself: 0.5.",
             lambda f: rates(f, 100, steps=[0], lr=0.5), EXACT),
        Fact("It is linear in the batch: at step 0 with lr = 0.5, batches of 64, 128 and 512 have 0.125, 0.25 and 1.",
             _peaks, EXACT),
        Fact("With a peak of 1 the rates of a run of 4 steps are 1, 0.854, 0.5 and 0.146.",
             lambda f: rates(f, 4), EXACT),
        Fact("It falls from the first step to the last and is never below 0, in runs of 7 and of 1000 steps.",
             lambda f: [rates(f, 7), rates(f, 1000, steps=(0, 1, 250, 500, 750, 999))], EXACT),
        Fact("It is linear in lr, and holds for other values of step, total and batch size, too.",
             _anywhere, EXACT),
        Fact("A run of a single step has its full rate: nothing is divided by zero.", lambda f: rates(f, 1), EXACT),
        Fact("It knows nothing of earlier calls: steps asked in another order, or twice, have the same rates.",
             _asked_again, EXACT),
    ],
    suspects=[
        Suspect("The batch has no part in it: the peak is lr * batch_size / 256.",
                lambda step, total, lr, batch_size: lr * cosine(step / total)),
        Suspect("The scaling is upside down: a larger batch has a larger rate, lr * batch_size / 256.",
                lambda step, total, lr, batch_size: lr * 256 / batch_size * cosine(step / total)),
        Suspect("That is the square root of the scaling. SimSiam scales linearly: lr * batch_size / 256.",
                lambda step, total, lr, batch_size: lr * math.sqrt(batch_size / 256) * cosine(step / total)),
        Suspect("`//` drops the fraction, so that a batch below 256 has no rate at all: divide with `/`.",
                lambda step, total, lr, batch_size: lr * (batch_size // 256) * cosine(step / total)),
        Suspect("The 256 is missing: lr is given for 256 images, so divide the batch by it.",
                lambda step, total, lr, batch_size: lr * batch_size * cosine(step / total)),
        Suspect("The rate never falls: the cosine is missing, or `step // total` made it a cosine of 0 all the way.",
                lambda step, total, lr, batch_size: lr * batch_size / 256),
        Suspect("It falls on a straight line. The cosine falls slowly at first, fast in the middle and slowly at the "
                "end.",
                falling(lambda done: 1 - done)),
        Suspect("The half is missing: 1 + cos goes from 2 to 0, so a run would start at twice its peak.",
                falling(lambda done: 2 * cosine(done))),
        Suspect("The 1 is missing: the cosine alone goes from 1 down to -1, and a negative rate climbs uphill.",
                falling(lambda done: math.cos(math.pi * done))),
        Suspect("The cosine was halved and then 1 was added: the half belongs to both, 0.5 * (1 + cos).",
                falling(lambda done: 1 + 0.5 * math.cos(math.pi * done))),
        Suspect("The minus turns it round: 1 - cos rises from 0. Take 1 + cos.",
                falling(lambda done: 0.5 * (1 - math.cos(math.pi * done)))),
        Suspect("The pi is missing: the cosine is to go through half a turn, from 0 to pi.",
                falling(lambda done: 0.5 * (1 + math.cos(done)))),
        Suspect("The cosine goes through a whole turn, 2 pi, so the rate comes back up at the end: take pi.",
                falling(lambda done: cosine(2 * done))),
        Suspect("That is a quarter of a turn, cos(pi/2 * done), another curve: take 0.5 * (1 + cos(pi * done)).",
                falling(lambda done: math.cos(math.pi / 2 * done))),
        Suspect("The cosine takes radians, and got degrees: pi, not 180.",
                falling(lambda done: 0.5 * (1 + math.cos(180 * done)))),
        Suspect("The share that is done is step / total, not step / (total - 1): the last step is still a step, at a "
                "rate above 0.",
                lambda step, total, lr, batch_size: lr * batch_size / 256 * cosine(step / (total - 1))),
        Suspect("Steps are counted from 0: at the first one nothing is done yet, so take step, not step + 1.",
                lambda step, total, lr, batch_size: lr * batch_size / 256 * cosine((step + 1) / total)),
    ],
    hints=(
        "Two factors: the peak, which depends on lr and the batch, and a curve that goes from 1 to 0 during the run.",
        "`math.cos(math.pi * done)` goes from 1 to -1 while `done = step / total` goes from 0 to 1; add 1 and halve "
        "it.",
        "`return lr * batch_size / 256 * 0.5 * (1 + math.cos(math.pi * step / total))`",
    ),
    solution=learning_rate_solution,
)  # fmt: skip


# ---- 4.2


class Small(SimSiam):
    """A SimSiam of a few weights, in train mode, that counts the images its encoder sees."""

    def __init__(self) -> None:
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU())
        projector = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6, affine=False))
        super().__init__(backbone, projector, nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 6)))
        self.seen = 0
        backbone.register_forward_hook(self._count)

    def _count(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seen += len(output)


def small(images: int = 6, dtype: torch.dtype = torch.float32) -> tuple[Small, Tensor, Tensor]:
    """A small model and two views of so many images, (B, 3, 2, 2)."""
    x1, x2 = torch.randn(images, 3, 2, 2).to(dtype), torch.randn(images, 3, 2, 2).to(dtype)
    model = Small()
    model.to(dtype)
    return model, x1, x2


def value(result: Any) -> Any:
    """A scalar as a Python number; what is none is told in words."""
    return result.item() if isinstance(result, Tensor) and result.numel() == 1 else kind_and_shape(result)


def _images_seen(f: Function) -> int:
    model, x1, x2 = small()
    f(model, x1, x2)
    return model.seen


def _one_changes(f: Function) -> Any:
    """The losses with the same two views, with another first, and with another second view."""
    model, x1, x2 = small()
    return [value(f(model, *views)) for views in ((x1, x2), (x1.exp(), x2), (x1, x2.flip(0)))]


def _weights_stay(f: Function) -> bool:
    model, x1, x2 = small()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    f(model, x1, x2)
    return all(torch.equal(before[name], weight.detach()) for name, weight in model.named_parameters())


def _who_has_a_gradient(f: Function) -> str:
    model, x1, x2 = small()
    f(model, x1, x2)
    found = any(p.grad is not None for p in model.parameters())
    return "some weights have one" if found else "no weight has one"


def _earlier_gradients(f: Function) -> bool:
    model, x1, x2 = small()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    f(model, x1, x2)
    return all(p.grad is not None and bool((p.grad == 1).all()) for p in model.parameters())


def _parts(model: SimSiam) -> dict[str, Tensor]:
    return {name: next(getattr(model, name).parameters()) for name in ("backbone", "projector", "predictor")}


def _who_learns(f: Function) -> dict[str, str]:
    model, x1, x2 = small()
    return gradients(f(model, x1, x2), **_parts(model))


def _gradient_values(f: Function) -> list[Tensor]:
    model, x1, x2 = small()
    return list(torch.autograd.grad(f(model, x1, x2), list(model.parameters())))


def _batch_norm(f: Function) -> list[Any]:
    """The running mean of BN after a step: one view after the other has moved it, in train mode."""
    model, x1, x2 = small()
    right = [deepcopy(model), deepcopy(model)]
    right[0](x1, x2)
    right[1](x2, x1)  # the loss is the same
    f(model, x1, x2)
    mean = next(model.backbone.buffers())
    moved = any(torch.allclose(mean, next(other.backbone.buffers()), atol=1e-5) for other in right)
    return ["moved by both views" if moved else mean.clone(), model.training]


def _left_alone(f: Function) -> dict[str, bool]:
    """What a function can change besides its arguments."""
    model, x1, x2 = small()
    model.predictor.requires_grad_(False)
    f(model, x1, x2)
    return {
        "frozen weights are still frozen": not any(p.requires_grad for p in model.predictor.parameters()),
        "gradients are recorded afterwards": torch.is_grad_enabled(),
    }


def _on_another_device(f: Function) -> str:
    model, x1, x2 = small()
    model.to("meta")
    return place(lambda: f(model, x1.to("meta"), x2.to("meta")), home="meta")


def train_step_solution(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    p1, p2, z1, z2 = model(x1, x2)  # (B, D) each
    return symmetric_loss(p1, p2, z1, z2)


def _backward(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    loss = symmetric_loss(*model(x1, x2))
    loss.backward()
    return loss


def _whole_step(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = symmetric_loss(*model(x1, x2))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def _zero_grad(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    model.zero_grad()
    return symmetric_loss(*model(x1, x2))


def _four_calls(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    p1, p2, z1, z2 = (model(x1, x2)[i] for i in range(4))
    return symmetric_loss(p1, p2, z1, z2)


def _eval_mode(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    model.eval()
    return symmetric_loss(*model(x1, x2))


def _thawed(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    model.requires_grad_(True)
    return symmetric_loss(*model(x1, x2))


def _left_off(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    loss = symmetric_loss(*model(x1, x2))
    torch.set_grad_enabled(False)
    return loss


def _in_place(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    x1 -= x1.mean()
    return symmetric_loss(*model(x1, x2))


def _p_and_z_in_turn(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    p1, z1, p2, z2 = model(x1, x2)
    return symmetric_loss(p1, p2, z1, z2)


def _z_first(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    z1, z2, p1, p2 = model(x1, x2)
    return symmetric_loss(p1, p2, z1, z2)


def _uncrossed(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    p1, p2, z1, z2 = model(x1, x2)
    return symmetric_loss(p1, p2, z2, z1)


def _one_direction(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    p1, _, _, z2 = model(x1, x2)
    return negative_cosine(p1, z2)


def _no_return(model: SimSiam, x1: Tensor, x2: Tensor) -> None:
    symmetric_loss(*model(x1, x2))


TRAIN_STEP = Exercise(
    "4.2",
    "train_step",
    train.train_step,
    facts=[
        Fact("For a model and two views of 6 images it gives one number, a tensor of shape ().",
             lambda f: kind_and_shape(f(*small()))),
        Fact("The encoder sees each of the two views of 6 images once: 12 images in all.", _images_seen),
        Fact("The loss is the symmetric loss of what `model(x1, x2)` gives.", lambda f: value(f(*small()))),
        Fact("Both views count: the loss changes with the first one, and with the second one.", _one_changes),
        Fact("It works for a batch of two images, too.", lambda f: value(f(*small(2)))),
        Fact("The views stay as they were: nothing is changed in place.",
             lambda f: (s := small()) and unchanged(lambda *views: f(s[0], *views), s[1], s[2])),
        Fact("The model is used in the mode that it is in: here train mode, in which BN's running averages move.",
             _batch_norm),
        Fact("No weight has moved: the optimiser's step is the caller's.", _weights_stay),
        Fact("No weight has a gradient yet: `backward()` is the caller's.", _who_has_a_gradient),
        Fact("Gradients that were there before are still there: `zero_grad()` is the caller's.", _earlier_gradients),
        Fact("The caller can take the gradient: it reaches backbone, projector and predictor.", _who_learns),
        Fact("The gradients are those of SimSiam's loss, in which z is a target.", _gradient_values),
        Fact("Frozen weights stay frozen, and gradients are recorded afterwards as before.", _left_alone),
        Fact("float64 in, float64 out.", lambda f: kind_and_shape(f(*small(dtype=torch.float64)))),
        Fact("It computes where the model and the views are: no `.cpu()`, no tensor made on another device.",
             _on_another_device),
    ],
    suspects=[
        Suspect("The loss was computed and not returned: end with `return`.", _no_return),
        Suspect("A Python number has no gradient: return the tensor itself, without `.item()`.",
                lambda model, x1, x2: symmetric_loss(*model(x1, x2)).item()),
        Suspect("The loss was detached, or computed under `torch.no_grad()`: the caller can no longer take its "
                "gradient.",
                lambda model, x1, x2: symmetric_loss(*model(x1, x2)).detach()),
        Suspect("`backward()` was called here. Return the loss only: `fit` takes the gradient.", _backward),
        Suspect("An optimiser was built and stepped here. Return the loss only: `fit` has an optimiser, with "
                "momentum and a schedule.",
                _whole_step),
        Suspect("Gradients were changed here, by `zero_grad()` or by clipping: that is `fit`'s to do, too.",
                _zero_grad),
        Suspect("The same view went in twice: the second argument is x2.",
                lambda model, x1, x2: symmetric_loss(*model(x1, x1))),
        Suspect("The model gives p1, p2, z1, z2 in this order; they were taken as p1, z1, p2, z2.", _p_and_z_in_turn),
        Suspect("The model gives p1, p2, z1, z2 in this order; they were taken as z1, z2, p1, p2.", _z_first),
        Suspect("z1 and z2 were exchanged on the way into the loss, which crosses the views already: give p1, p2, "
                "z1, z2.",
                _uncrossed),
        Suspect("Only one view predicts the other: the symmetric loss is over both.", _one_direction),
        Suspect("The minus is there twice: the symmetric loss is negative already, and is minimised.",
                lambda model, x1, x2: -symmetric_loss(*model(x1, x2))),
        Suspect("The loss was multiplied by the number of images: it is a mean already.",
                lambda model, x1, x2: symmetric_loss(*model(x1, x2)) * len(x1)),
        Suspect("The model was called once for each of its four outputs: call it once and take all four.", _four_calls),
        Suspect("The model was put into eval mode: BN then takes its running averages and learns nothing of the "
                "batch.",
                _eval_mode),
        Suspect("The target is not detached: z must receive no gradient.",
                lambda model, x1, x2: symmetric_loss(*model(x1, x2), stop_gradient="none")),
        Suspect("`requires_grad_(True)` unfreezes what the caller has frozen: leave the weights alone.", _thawed),
        Suspect("Gradients stay switched off after the call: `torch.set_grad_enabled(False)` has no part in a step.",
                _left_off),
        Suspect("A view was changed in place: whoever uses it next gets another one.", _in_place),
        Suspect("More than the loss came back: return the loss alone.",
                lambda model, x1, x2: (symmetric_loss(*model(x1, x2)), *model(x1, x2)[2:])),
    ],
    hints=(
        "Two lines: the views go through the model, and what comes out goes into the loss. Everything else is the "
        "caller's.",
        "`model(x1, x2)` gives p1, p2, z1, z2, in the order in which `symmetric_loss` takes them.",
        "`p1, p2, z1, z2 = model(x1, x2)`, then `return symmetric_loss(p1, p2, z1, z2)`",
    ),
    solution=train_step_solution,
)  # fmt: skip


# ---- 4.3


def at(*degrees: float, length: float = 1.0) -> Tensor:
    """Vectors in the plane at these angles, (N, 2): their cosines are easy to see."""
    angles = torch.tensor(degrees) * math.pi / 180
    return length * torch.stack([angles.cos(), angles.sin()], dim=1)


def crowd(
    bank: int = 60, queries: int = 40, channels: int = 8, classes: int = 5, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """A bank (N, D) with labels (N,) and queries (M, D), of various lengths, their classes overlapping."""
    centres = torch.randn(classes, channels)
    labels, asked = torch.arange(bank) % classes, torch.arange(queries) % classes
    features = (centres[labels] + torch.randn(bank, channels)) * (0.2 + 3 * torch.rand(bank, 1))
    sought = (centres[asked] + torch.randn(queries, channels)) * (0.2 + 3 * torch.rand(queries, 1))
    return features.to(dtype), labels, sought.to(dtype)


def found(f: Function, bank: Tensor, labels: Any, queries: Tensor, k: int, temperature: float = 0.1) -> Any:
    """The labels that a kNN finds, as a list; what is no tensor of whole numbers is told in words."""
    labels = labels if isinstance(labels, Tensor) else torch.tensor(labels)
    result = f(bank, labels, queries, k=k, temperature=temperature)
    whole = isinstance(result, Tensor) and not result.is_floating_point() and result.ndim == 1
    return result.tolist() if whole else kind_and_shape(result)


EAST = at(0)  # the query of the examples


def _kind(f: Function) -> Any:
    bank, labels, queries = crowd()
    return kind_and_shape(f(bank, labels, queries, k=5, temperature=0.1))


def _own_neighbour(f: Function) -> Any:
    bank, labels, _ = crowd()
    return found(f, bank, labels, bank, 1)


def _at_random(f: Function) -> list[Any]:
    bank, labels, queries = crowd()
    return [found(f, bank, labels, queries, k, t) for k in (1, 7, 20, 60) for t in (0.07, 0.1, 0.5, 2.0)]


def _inputs_unchanged(f: Function) -> dict[str, bool]:
    return unchanged(lambda bank, labels, queries: f(bank, labels, queries, k=3, temperature=0.1), *crowd())


def _each_alone(f: Function) -> list[Any]:
    """Queries asked one by one, and all at once."""
    bank, labels, queries = crowd(queries=7)
    alone = [found(f, bank, labels, query, 9) for query in queries.split(1)]
    if not all(isinstance(one, list) for one in alone):
        return alone[:1]
    return ["the same" if sum(alone, []) == found(f, bank, labels, queries, 9) else "other labels"]


FACTORIES = (torch.zeros, torch.ones, torch.full, torch.empty, torch.tensor, torch.as_tensor, torch.from_numpy,
             torch.arange, torch.eye, Tensor.cpu)  # fmt: skip


class Away(TorchFunctionMode):
    """Inside, what is made without saying where, or asked for by `.cpu()`, is not where the features are."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        said = "device" in (kwargs or {})
        if func not in FACTORIES or said or made.ndim == 0:  # a single number may be anywhere
            return made
        self.made.append(made.to("meta"))
        return self.made[-1]

    def settled(self, found: Any) -> Any:
        """Without labels or places that were just put there: nothing is computed with them but an accuracy."""
        whole = isinstance(found, Tensor) and not found.is_floating_point()
        return None if whole and any(found is made for made in self.made) else found


def _devices(f: Function) -> str:
    bank, labels, queries = crowd()
    with Away() as away:
        return place(lambda: away.settled(f(bank, labels, queries, k=5, temperature=0.1)), home="cpu")


def knn_solution(bank: Tensor, bank_labels: Tensor, queries: Tensor, k: int, temperature: float) -> Tensor:
    cosines = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T  # (M, N)
    nearest, index = cosines.topk(k, dim=1)  # (M, k), (M, k)
    weights = (nearest / temperature).exp()  # (M, k)
    votes = weights.new_zeros(len(queries), int(bank_labels.max()) + 1)  # (M, C)
    return votes.scatter_add_(1, bank_labels[index], weights).argmax(dim=1)  # (M,)


def variant(
    *, cosines: Any = None, nearest: Any = None, weigh: Any = None, count: Any = None, end: Any = None
) -> Function:
    """A kNN with one of its parts exchanged for a wrong one."""

    def wrong(bank: Tensor, bank_labels: Tensor, queries: Tensor, k: int, temperature: float) -> Any:
        similar = (cosines or _cosines)(queries, bank)  # (M, N)
        values, index = (nearest or torch.topk)(similar, k)  # (M, k), (M, k)
        weights = (weigh or _weights)(values, temperature)  # (M, k)
        votes = weights.new_zeros(len(queries), int(bank_labels.max()) + 1)  # (M, C)
        votes = (count or _add)(votes, bank_labels[index], weights)
        return (end or _largest)(votes, bank_labels, index)

    return wrong


def _cosines(queries: Tensor, bank: Tensor) -> Tensor:
    return F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T


def _weights(values: Tensor, temperature: float) -> Tensor:
    return (values / temperature).exp()


def _add(votes: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    return votes.scatter_add_(1, labels, weights)


def _add_once(votes: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    for j in range(labels.shape[1]):
        votes.scatter_(1, labels[:, j : j + 1], weights[:, j : j + 1])
    return votes


def _average(votes: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    counts = torch.zeros_like(votes).scatter_add_(1, labels, torch.ones_like(weights))
    return _add(votes, labels, weights) / counts.clamp(min=1)


def _add_float32(votes: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    return votes.float().scatter_add_(1, labels, weights)


def _largest(votes: Tensor, labels: Tensor, index: Tensor) -> Tensor:
    return votes.argmax(dim=1)


def _everyone(similar: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return torch.topk(similar, similar.shape[1])


def _first_alone(similar: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return torch.topk(similar, 1)


def _farthest(similar: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return torch.topk(similar, k, largest=False)


def _one_fewer(similar: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The query takes itself for the nearest and leaves it out."""
    top = torch.topk(similar, min(k + 1, similar.shape[1]))
    return top.values[:, 1:], top.indices[:, 1:]


def _mean_label(bank: Tensor, bank_labels: Tensor, queries: Tensor, k: int, temperature: float) -> Tensor:
    values, index = _cosines(queries, bank).topk(k, dim=1)
    return (F.softmax(values / temperature, dim=1) * bank_labels[index]).sum(dim=1).round().long()


def _exchanged(bank: Tensor, bank_labels: Tensor, queries: Tensor, k: int, temperature: float) -> Tensor:
    return bank_labels[_cosines(bank, queries).argmax(dim=1)]


KNN = Exercise(
    "4.3",
    "knn",
    evaluate.knn,
    facts=[
        Fact("For a bank of 60 images and 40 queries it gives a tensor of 40 whole numbers.",
             _kind),
        Fact("k = 1: three images at 10, 60 and 170 degrees have the labels 0, 1 and 2; queries at 0, 50 and 200 "
             "degrees get 0, 1 and 2.",
             lambda f: found(f, at(10, 60, 170), [0, 1, 2], at(0, 50, 200), 1)),
        Fact("Labels come back, not places: if the three images have the labels 7, 23 and 4, the queries get 7, 23 "
             "and 4.",
             lambda f: found(f, at(10, 60, 170), [7, 23, 4], at(0, 50, 200), 1)),
        Fact("A query's label does not depend on the other queries: one by one they get the same labels as together.",
             _each_alone),
        Fact("Only directions count: an image ten times as long is not nearer.",
             lambda f: [found(f, torch.cat([at(10), at(60, length=10)]), [0, 1], EAST, 1),
                        found(f, torch.cat([at(10, length=10), at(60)]), [0, 1], EAST, 1)]),
        Fact("The k nearest vote: of images at 10, 11 and 12 degrees, labelled 0, 1 and 1, the one nearest to 0 "
             "degrees has label 0, but with k = 3 label 1 wins.",
             lambda f: [found(f, at(10, 11, 12), [0, 1, 1], EAST, k) for k in (1, 3)]),
        Fact("Nobody else votes: with k = 2 the many images of label 1 that are a little farther away count for "
             "nothing.",
             lambda f: found(f, at(10, 11, 12, 12.5, 13, 13.5), [0, 0, 1, 1, 1, 1], EAST, 2)),
        Fact("Near ones weigh more: an image at 10 degrees, label 0, against two at 40 degrees, label 1. At "
             "temperature 0.1 label 0 wins, at 1 it loses.",
             lambda f: [found(f, at(10, 40, 40.1), [0, 1, 1], EAST, 3, t) for t in (0.1, 1.0)]),
        Fact("The weight is exp(cosine / temperature): the same images change sides between the temperatures 0.3 and "
             "0.34.",
             lambda f: [found(f, at(10, 40, 40.1), [0, 1, 1], EAST, 3, t) for t in (0.3, 0.34)]),
        Fact("Images on the far side, with a negative cosine, still have a small positive vote.",
             lambda f: [found(f, at(95, 140, 141, 142, 143), [0, 1, 1, 1, 1], EAST, 5, t) for t in (0.1, 0.3, 2.0)]),
        Fact("It holds for random features, at several k and temperatures.",
             _at_random),
        Fact("An image that is its own query counts as its own nearest neighbour: it is in the bank.",
             _own_neighbour),
        Fact("Bank, labels and queries stay as they were: nothing is changed in place.", _inputs_unchanged),
        Fact("It works for float64, too.", lambda f: found(f, *crowd(dtype=torch.float64), 5)),
        Fact("It computes where the features are: a tensor of your own needs `device=queries.device`, or "
             "`queries.new_zeros(...)`.",
             _devices),
    ],
    suspects=[
        Suspect("The features have no length 1: `queries @ bank.T` favours long vectors. Use F.normalize on both "
                "first.",
                variant(cosines=lambda q, b: q @ b.T)),
        Suspect("Only the queries have length 1: normalise the bank as well, or its long vectors win.",
                variant(cosines=lambda q, b: F.normalize(q, dim=1) @ b.T)),
        Suspect("Only the bank has length 1: the queries' lengths change the weights. Normalise both.",
                variant(cosines=lambda q, b: q @ F.normalize(b, dim=1).T)),
        Suspect("It was normalised over the images (dim=0). A row is one image: use dim=1.",
                variant(cosines=lambda q, b: F.normalize(q, dim=0) @ F.normalize(b, dim=0).T)),
        Suspect("These are Euclidean distances. The vote is by cosine, which does not see lengths.",
                variant(cosines=lambda q, b: -torch.cdist(q, b))),
        Suspect("The *least* similar images vote: `topk` takes the largest cosines unless told otherwise.",
                variant(nearest=_farthest)),
        Suspect("Only the nearest image decides, alone or as the largest vote of its class: all k vote, and votes add "
                "up.",
                variant(nearest=_first_alone)),
        Suspect("The whole bank votes: take the k nearest only (`topk`).", variant(nearest=_everyone)),
        Suspect("The nearest image was left out. The queries are not in the bank, so the nearest one is a neighbour "
                "like the others.",
                variant(nearest=_one_fewer)),
        Suspect("All k have the same weight: a near image is to count more, by exp(cosine / temperature).",
                variant(weigh=lambda v, t: torch.ones_like(v))),
        Suspect("The exponential is missing: cosine / temperature ranks the images as the cosine alone does.",
                variant(weigh=lambda v, t: v / t)),
        Suspect("The temperature has no part in it: divide the cosine by it.", variant(weigh=lambda v, t: v.exp())),
        Suspect("The temperature is always the same one: divide by the argument `temperature`.",
                variant(weigh=lambda v, t: (v / 0.1).exp())),
        Suspect("The cosine was multiplied by the temperature: divide by it. A small temperature makes the nearest "
                "count most.",
                variant(weigh=lambda v, t: (v * t).exp())),
        Suspect("The sign is wrong: exp(-cosine / temperature) lets the farthest of the k count most.",
                variant(weigh=lambda v, t: (-v / t).exp())),
        Suspect("The softmax went over the queries (dim=0). Each query has its own vote: dim=1.",
                variant(weigh=lambda v, t: F.softmax(v / t, dim=0))),
        Suspect("Where a class comes twice among the k, only one vote was counted: `votes[rows, labels] += weights` "
                "does that. Use `scatter_add_`.",
                variant(count=_add_once)),
        Suspect("The votes of a class were averaged: add them up, so that many near images count for more than one.",
                variant(count=_average)),
        Suspect("`squeeze()` removes every dimension of size 1, and so the only one of a single query's label.",
                variant(end=lambda votes, labels, index: votes.argmax(dim=1).squeeze())),
        Suspect("The places of the nearest images in the bank came back: look up their labels, `bank_labels[index]`.",
                variant(end=lambda votes, labels, index: index[:, 0])),
        Suspect("The votes of all classes came back: the label is the class with the most, `.argmax(dim=1)`.",
                variant(end=lambda votes, labels, index: votes)),
        Suspect("The argmax went over the queries (dim=0): each query has its own row of votes, dim=1.",
                variant(end=lambda votes, labels, index: votes.argmax(dim=0))),
        Suspect("The class with the *fewest* votes won: argmax, not argmin.",
                variant(end=lambda votes, labels, index: votes.argmin(dim=1))),
        Suspect("Labels are names, not sizes: 7 is no mean of anything. Add up the weights of each class, and take "
                "the largest.",
                _mean_label),
        Suspect("Bank and queries changed places: there is one label for each *query*.",
                _exchanged),
        Suspect("The votes are float32 whatever the features are: `torch.zeros` makes float32 unless told otherwise. "
                "`weights.new_zeros(...)` has the features' dtype, and their device.",
                variant(count=_add_float32)),
    ],
    hints=(
        "First the cosines of every query with every image of the bank; then the k largest of each row; then the sum "
        "of their weights, class by class.",
        "`F.normalize(..., dim=1)` and `@` give the cosines, `.topk(k, dim=1)` the nearest and their places, "
        "`votes.scatter_add_(1, bank_labels[index], weights)` adds up.",
        "`nearest, index = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1)`, weights "
        "`(nearest / temperature).exp()`, votes `weights.new_zeros(len(queries), int(bank_labels.max()) + 1)`, and "
        "`.argmax(dim=1)` of the votes.",
    ),
    solution=knn_solution,
)  # fmt: skip

EXERCISES = (LEARNING_RATE, TRAIN_STEP, KNN)
RESTATED = tuple(
    exercise
    for exercise in (*lesson_02.EXERCISES, *lesson_03.EXERCISES)
    if exercise.name in ("projector", "predictor", "forward", "symmetric_loss")
)
