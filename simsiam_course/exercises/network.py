"""Lesson 02: the network's parts (projector and predictor: heads.py), the forward pass, and h as the identity."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import heads
from ..loss import negative_cosine, symmetric_loss
from ..model import SimSiam
from .core import Exercise, Fact, Function, Suspect, elsewhere, gradients, kind_and_shape, unchanged
from .heads import (
    PREDICTOR,
    PROJECTOR,
    Seen,
    batch,
    best,
    distance,
    double,
    kept,
    matrices,
    on_another_device,
    orders,
    widths,
)

# ---- 2.3


class Parts(SimSiam):
    """A SimSiam whose own forward is not there, because the student writes it."""

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        raise NotImplementedError("model(x1, x2) is what you are writing")


class Map(nn.Module):
    """x -> a x + b."""

    def __init__(self, a: float, b: float) -> None:
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x: Tensor) -> Tensor:
        return self.a * x + self.b


def network() -> Parts:
    """A few hundred weights, with BN in every part: (B, 3, 2, 2) -> 8 features -> z of 5 channels."""
    backbone = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU())
    return Parts(backbone, heads.projector(8, 10, 5), heads.predictor(5, 4))


def two_views(rows: int = 6) -> tuple[Tensor, Tensor]:
    """Two views with a different mean and spread, twice (rows, 3, 2, 2)."""
    return torch.randn(rows, 3, 2, 2), 2 * torch.randn(rows, 3, 2, 2) + 1


def _run(f: Function, *, train: bool = True, rows: int = 6) -> Any:
    model, (x1, x2) = network().train(train), two_views(rows)
    return f(model, x1, x2)


def _forward_by_hand(f: Function) -> Any:
    """backbone 2 x, projector x + 1, predictor 10 x: x = 3 and 4 give z = 7 and 9, x = 5 and 6 give z = 11 and 13."""
    model = Parts(Map(2, 0), Map(1, 1), Map(10, 0))
    out = f(model, torch.tensor([[3.0], [4.0]]), torch.tensor([[5.0], [6.0]]))
    return [part.flatten().tolist() for part in out]


def _own_statistics(f: Function) -> Seen:
    z = _run(f)[2:]
    means = [part.mean(dim=0).abs().max().item() for part in z]
    said = " and ".join(f"{max(mean, 0.01):.2f}" for mean in means)
    small = max(means) < 1e-3
    return Seen(
        [mean < 1e-3 for mean in means], "means of 0" if small else f"largest means of z1 and z2: {said}"
    )


def _values(train: bool, rows: int = 6) -> Function:
    return lambda f: [part.detach() for part in _run(f, train=train, rows=rows)]


def _modes(f: Function) -> dict[str, bool]:
    modes = {}
    for train in (True, False):
        model = network().train(train)
        f(model, *two_views())
        kept = all(part.training == train for part in model.modules())
        modes[f"{'train' if train else 'eval'} mode kept:"] = kept
    return modes


def _passes(f: Function) -> dict[str, int]:
    """How many batches the first BN of each part has seen."""
    model = network()
    f(model, *two_views())
    counts = {}
    for name in ("backbone", "projector", "predictor"):
        bn = next(m for m in getattr(model, name).modules() if isinstance(m, nn.BatchNorm1d))
        counts[name] = int(bn.num_batches_tracked or 0)
    return counts


def _left_alone(f: Function) -> dict[str, bool]:
    model, (x1, x2) = network(), two_views()
    weights = [w.detach().clone() for w in model.parameters()]
    for w in model.parameters():
        w.grad = torch.ones_like(w)
    views = unchanged(lambda a, b: f(model, a, b), x1, x2)
    gradients_kept = all(w.grad is not None and bool((w.grad == 1).all()) for w in model.parameters())
    same = all(torch.equal(w, old) for w, old in zip(model.parameters(), weights, strict=True))
    averages = [b.clone() for b in model.eval().buffers()]
    f(model, x1, x2)
    averages_kept = all(torch.equal(b, old) for b, old in zip(model.buffers(), averages, strict=True))
    return {
        "x1 kept:": views["argument 1"],
        "x2 kept:": views["argument 2"],
        "weights kept:": same,
        "their gradients:": gradients_kept,
        "BN's averages in eval mode:": averages_kept,
    }


def _who(output: int) -> Function:
    def look(f: Function) -> dict[str, str]:
        model, (x1, x2), at = network(), two_views(), torch.randn(6, 5)
        x1.requires_grad_()
        x2.requires_grad_()
        out = f(model, x1, x2)[output]
        first = {
            name: next(getattr(model, name).parameters()) for name in ("backbone", "projector", "predictor")
        }
        found = gradients((out * at).sum(), x1=x1, x2=x2, **first)
        return {f"{name}:": who for name, who in found.items()}

    return look


def _gradient_values(f: Function) -> list[Tensor]:
    model, (x1, x2), at = network(), two_views(), torch.randn(4, 6, 5)
    total = torch.stack(
        [(part * weight).sum() for part, weight in zip(f(model, x1, x2), at, strict=True)]
    ).sum()
    return list(torch.autograd.grad(total, list(model.parameters())))


def _forward_in_double(f: Function) -> Any:
    return kind_and_shape(f(network().double(), *(x.double() for x in two_views())))


def _forward_elsewhere(f: Function) -> str:
    model = network().to("meta")
    return elsewhere(lambda x1, x2: f(model, x1, x2), *two_views(), turn=False)


def _f(model: SimSiam, x: Tensor) -> Tensor:
    return model.projector(model.backbone(x))


def _plain(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    z1, z2 = _f(model, x1), _f(model, x2)
    return model.predictor(z1), model.predictor(z2), z1, z2


def _joined(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    z = _f(model, torch.cat([x1, x2]))
    return (*model.predictor(z).chunk(2), *z.chunk(2))


def _joined_predictor(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    z1, z2 = _f(model, x1), _f(model, x2)
    return (*model.predictor(torch.cat([z1, z2])).chunk(2), z1, z2)


def _four_passes(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    return model.predictor(_f(model, x1)), model.predictor(_f(model, x2)), _f(model, x1), _f(model, x2)


def _without_gradient(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return _plain(model, x1, x2)


def _a_copy(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    p1, _, z1, _ = _plain(model, x1, x1)
    _, p2, _, z2 = _plain(copy.deepcopy(model), x2, x2)
    return p1, p2, z1, z2


def _reordered(*order: int) -> Function:
    def run(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
        out = _plain(model, x1, x2)
        return tuple(out[i] for i in order)

    return run


def _detached(*which: int) -> Function:
    def run(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.detach() if i in which else part for i, part in enumerate(_plain(model, x1, x2)))

    return run


def _h_of_a_constant(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    z1, z2 = _f(model, x1), _f(model, x2)
    return model.predictor(z1.detach()), model.predictor(z2.detach()), z1, z2


def _h_of_features(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    y1, y2 = model.backbone(x1), model.backbone(x2)
    return model.predictor(y1), model.predictor(y2), model.projector(y1), model.projector(y2)


def _no_projector(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    z1, z2 = model.backbone(x1), model.backbone(x2)
    return model.predictor(z1), model.predictor(z2), z1, z2


def _crossed(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    p1, p2, z1, z2 = _plain(model, x1, x2)
    return p2, p1, z1, z2


def _lengths_of_one(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    return tuple(F.normalize(part, dim=1) for part in _plain(model, x1, x2))


def _in_eval_mode(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    model.eval()
    return _plain(model, x1, x2)


def _in_train_mode(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    model.train()
    return _plain(model, x1, x2)


def _zero_grad(model: SimSiam, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    model.zero_grad()
    return _plain(model, x1, x2)


def _solution_forward(model, x1, x2):
    z1 = model.projector(model.backbone(x1))  # (B, D)
    z2 = model.projector(model.backbone(x2))
    p1, p2 = model.predictor(z1), model.predictor(z2)
    return p1, p2, z1, z2


FORWARD = Exercise(
    "2.3",
    "forward",
    SimSiam.forward,
    facts=[
        Fact("For two views of six images and z of 5 channels it gives four tensors of shape (6, 5).",
             lambda f: kind_and_shape(_run(f))),
        Fact("Let the backbone double, the projector add 1 and the predictor multiply by 10. "
             "Views x1 = 3, 4 and x2 = 5, 6 "
             "then give p1 = 70, 90; p2 = 110, 130; z1 = 7, 9; z2 = 11, 13, in this order.", _forward_by_hand),
        Fact("Each view has a pass of its own, so that BN sees one view at a time: "
             "over the batch, each channel of z1 has "
             "mean 0, and so has each channel of z2.", _own_statistics),
        Fact("It holds for random views, in train mode, and for a batch of seven.", _values(train=True, rows=7)),
        Fact("It holds for random views, in eval mode.", _values(train=False)),
        Fact("It leaves the model in the mode it was in, train or eval.", _modes),
        Fact("Each part runs twice, once for each view: z1 and z2 are computed once, kept, and given to h.", _passes),
        Fact("In eval mode it works for a batch of one, too.", _values(train=False, rows=1)),
        Fact("The views, the weights and their gradients stay as they were; in eval mode BN's averages, too.",
             _left_alone),
        Fact("z1: the gradient reaches x1, the backbone and the projector. Nothing is detached yet.", _who(2)),
        Fact("z2: the gradient reaches x2 and *the same* backbone and projector. Nothing is detached yet.", _who(3)),
        Fact("p1: the gradient reaches x1, the backbone, the projector and the predictor.", _who(0)),
        Fact("p2: the gradient reaches x2, the backbone, the projector and the predictor.", _who(1)),
        Fact("The gradients of all weights are right.", _gradient_values),
        Fact("float64 in, float64 out.", _forward_in_double),
        Fact("It computes where the model and the views are: no `.cpu()`, no tensor made on another device.",
             _forward_elsewhere),
    ],
    suspects=[
        Suspect("The order is p1, z1, p2, z2. Expected are both predictions first: p1, p2, z1, z2.",
                _reordered(0, 2, 1, 3)),
        Suspect("z comes before p. Expected are the predictions first: p1, p2, z1, z2.", _reordered(2, 3, 0, 1)),
        Suspect("The order is p2, p1: p1 belongs to x1. Views are crossed in the loss, not here.", _crossed),
        Suspect("z1 and z2 are detached. That belongs to the loss, which has a switch for it.", _detached(2, 3)),
        Suspect("z1 is detached. That belongs to the loss, which has a switch for it.", _detached(2)),
        Suspect("z2 is detached. That belongs to the loss, which has a switch for it.", _detached(3)),
        Suspect("p1 and p2 are detached: nothing could learn.", _detached(0, 1)),
        Suspect("h is given a detached z: then p teaches the predictor only, and never the encoder.", _h_of_a_constant),
        Suspect("It runs under `no_grad`: nothing could learn.", _without_gradient),
        Suspect("The first view's pass is used for the second view, too: x2 is never looked at.",
                lambda model, x1, x2: _plain(model, x1, x1)),
        Suspect("The second view's pass is used for the first view, too: x1 is never looked at.",
                lambda model, x1, x2: _plain(model, x2, x2)),
        Suspect("Both views go through in one pass, so that BN sees both at once: make a pass for each.", _joined),
        Suspect("z1 and z2 go through the predictor in one pass: its BN, too, is to see one view at a time.",
                _joined_predictor),
        Suspect("The predictor is given the backbone's features: it works on z, p = h(z).", _h_of_features),
        Suspect("The projector is left out: z = projector(backbone(x)).", _no_projector),
        Suspect("The predictor is left out: p = predictor(z).",
                lambda model, x1, x2: tuple(_plain(model, x1, x2)[i] for i in (2, 3, 2, 3))),
        Suspect("The model was put into eval mode: "
                "in training BN must use the batch, and the caller decides on the mode.",
                _in_eval_mode),
        Suspect("The model was put into train mode: "
                "in eval mode it must stay there, and the caller decides on the mode.",
                _in_train_mode),
        Suspect("z is computed again for p: that takes twice the time, and BN counts every view twice. Keep z1 and z2.",
                _four_passes),
        Suspect("The second view goes through a copy of the network: "
                "shared weights means the same modules for both views.",
                _a_copy),
        Suspect("The gradients were set to zero (`zero_grad`): when that is done is the training loop's business.",
                _zero_grad),
        Suspect("The outputs are given length 1: lengths are the loss's business.", _lengths_of_one),
        Suspect("Only p and z of the first view came back: four are needed.",
                lambda model, x1, x2: _plain(model, x1, x2)[::2]),
        Suspect("Only the predictions came back: the loss needs z1 and z2, too.",
                lambda model, x1, x2: _plain(model, x1, x2)[:2]),
        Suspect("The loss came back: it is written in lesson 03. Return p1, p2, z1, z2.",
                lambda model, x1, x2: symmetric_loss(*_plain(model, x1, x2))),
        Suspect("`model(x1, x2)` is the function you are writing: "
                "use model.backbone, model.projector, model.predictor.",
                lambda model, x1, x2: model(x1, x2)),
    ],
    hints=(
        "Follow one view through the picture: "
        "backbone, projector, then the predictor. Then the other view, through the same parts.",
        "`z1 = model.projector(model.backbone(x1))`, and `model.predictor(z1)` is p1.",
        "`z1, z2 = (model.projector(model.backbone(x)) for x in (x1, x2))`, then `return model.predictor(z1), "
        "model.predictor(z2), z1, z2`",
    ),
    solution=_solution_forward,
)  # fmt: skip


# ---- 2.4


def _an_identity(f: Function) -> nn.Module:
    return f(4)


def _identity_kind(f: Function) -> Any:
    h = _an_identity(f)
    return kind_and_shape(h(torch.randn(6, 4)) if isinstance(h, nn.Module) else h)


def _identity_of(z: Tensor) -> Function:
    return lambda f: f(z.shape[1])(z.clone()).detach()


def _identity_of_random(f: Function) -> list[Tensor]:
    z = [batch(9, channels) for channels in (4, 3, 7, 1)]
    return [f(part.shape[1])(part).detach() for part in z]


def _identity_of_any_size(f: Function) -> dict[str, Tensor]:
    z = torch.tensor([[1.0, -2.0, 3.0, -4.0], [-5.0, 6.0, -7.0, 8.0]])
    h = f(4)
    return {f"times {size:g}:": h(size * z).detach() / size for size in (1e-3, 1e4)}


def _other_weights(f: Function) -> Seen:
    """With random weights, is it W2 ReLU(W1 z + b1) + b2?"""
    z = batch(9, 4)
    h = _an_identity(f)
    with torch.no_grad():
        for w in h.parameters():
            w.copy_(torch.randn_like(w))
        p = h(z)
        bias = {len(w): w for w in h.parameters() if w.ndim == 1}
        tries = [(z @ widen.T + bias.get(8, 0)).relu() @ narrow.T + bias.get(4, 0)
                 for widen, narrow in orders(h, (4, 8, 4))]  # fmt: skip
    return best(distance(p, expected, "they differ") for expected in tries)


def _identity_trained(f: Function) -> Seen:
    z, at = batch(9, 4), torch.randn(9, 4)
    h = _an_identity(f)
    weights = [w for w in matrices(h) if w.requires_grad]
    loss = (h(z) * at).sum()
    found: Sequence[Tensor | None] = []
    if loss.requires_grad and weights:
        found = torch.autograd.grad(loss, weights, allow_unused=True)
    learn = sum(g is not None and bool(g.abs().sum() > 0) for g in found)
    return Seen(learn, f"{learn} of {len(matrices(h))} weight matrices learn")


def _identity_gradient(f: Function) -> Tensor:
    z, at = batch(9, 4).requires_grad_(), torch.randn(9, 4)
    return torch.autograd.grad((_an_identity(f)(z) * at).sum(), [z])[0]


def _identity_fresh(f: Function) -> dict[str, bool]:
    a, b = f(4), f(4)
    first, second = ([w.data_ptr() for w in module.parameters()] for module in (a, b))
    return {
        "memory shared by two of them:": not set(first).isdisjoint(second),
        "by two weights of one:": len(set(first)) < len(first),
    }


def _identity_loss(f: Function) -> float:
    z = batch(64, 12)
    return negative_cosine(f(12)(z), z).item()


@torch.no_grad()
def _split(
    d: int,
    first: tuple[float, float] = (1, -1),
    second: tuple[float, float] = (1, -1),
    *,
    zero: bool = True,
    middle: Sequence[nn.Module] = (),
    end: Sequence[nn.Module] = (),
    relu: bool = True,
) -> nn.Sequential:
    """Linear of [first z], ReLU, Linear of [second z], with what is asked for in between."""
    widen, narrow, one = nn.Linear(d, 2 * d), nn.Linear(2 * d, d), torch.eye(d)
    widen.weight.copy_(torch.cat([a * one for a in first]))
    narrow.weight.copy_(torch.cat([a * one for a in second], dim=1))
    if zero:
        widen.bias.zero_()
        narrow.bias.zero_()
    return nn.Sequential(widen, *middle, nn.ReLU() if relu else nn.Identity(), narrow, *end)


@torch.no_grad()
def _square(d: int) -> nn.Sequential:
    layers = [nn.Linear(d, d), nn.Linear(d, d)]
    for layer in layers:
        layer.weight.copy_(torch.eye(d))
        layer.bias.zero_()
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


@torch.no_grad()
def _lifted(d: int) -> nn.Sequential:
    h = _square(d)
    h[0].get_parameter("bias").fill_(100)
    h[2].get_parameter("bias").fill_(-100)
    return h


def _in_place(d: int) -> nn.Module:
    h = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))
    one = torch.eye(d)
    h[0].get_parameter("weight").copy_(torch.cat([one, -one]))
    return h


def _tied(d: int) -> nn.Module:
    h = _split(d)
    h[2].weight = nn.Parameter(h[0].get_parameter("weight").detach().T)
    return h


@functools.cache
def _always_the_same_identity(d: int) -> nn.Module:
    return _split(d)


IDENTITY_PREDICTOR = Exercise(
    "2.4",
    "identity_predictor",
    heads.identity_predictor,
    facts=[
        Fact("`identity_predictor(4)` gives a module that turns z of shape (6, 4) into p of the same shape.",
             _identity_kind),
        Fact("It has two weight matrices, from 4 to 8 channels and back to 4: two hidden channels for each of z.",
             widths(_an_identity, lambda h: orders(h, (4, 8, 4)), 4)),
        Fact("z = [[1, -2], [0, 3]] comes out as it went in: the negative numbers, too.",
             _identity_of(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))),
        Fact("Random z come out as they went in, whatever their number of channels.", _identity_of_random),
        Fact("So do very small and very large numbers.", _identity_of_any_size),
        Fact("It works for a batch of one, too.", _identity_of(torch.tensor([[2.0, -1.0, 0.5]]))),
        Fact("Every call gives a new module, each of whose weights has memory of its own.", _identity_fresh),
        Fact("With any other weights it gives what Linear, ReLU, Linear give: it is a predictor that "
             "*happens* to be the identity.", _other_weights),
        Fact("z stays as it was: nothing is changed in place.", kept(_an_identity, 4)),
        Fact("The gradient goes through it to z as though it were not there.", _identity_gradient),
        Fact("Both weight matrices can be trained on from there.", _identity_trained),
        Fact("The loss of z with itself, D(h(z), z), is -1.", _identity_loss, tolerance=1e-6),
        Fact("After `.double()` it takes and gives float64.", double(_an_identity, 4)),
        Fact("After `.to(device)` it computes on that device.", on_another_device(_an_identity, 4)),
    ],
    suspects=[
        Suspect("It has no weights that PyTorch knows: no `nn.Parameter`, layers in a plain list, or none at all. "
                "Find weights of Linear, ReLU, Linear that give the identity.", lambda d: nn.Identity()),
        Suspect("The weights are as initialised: set them, or h(z) is not z.",
                lambda d: nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))),
        Suspect("The biases are as initialised: set them to 0 (or leave them out, `bias=False`).",
                lambda d: _split(d, zero=False)),
        Suspect("The second layer adds the halves, z+ + z-, which is |z|: subtract the second half.",
                lambda d: _split(d, second=(1, 1))),
        Suspect("The negative numbers are lost: the second half must be -z in the first layer, "
                "and be subtracted in the second.",
                lambda d: _split(d, first=(1, 1), second=(1, 0))),
        Suspect("Both halves of the first layer are +z, and the second layer subtracts them: nothing is left.",
                lambda d: _split(d, first=(1, 1))),
        Suspect("The sign is turned round: -z comes out. The first half is +z and counts +1.",
                lambda d: _split(d, first=(-1, 1))),
        Suspect("Twice z comes out: z+ and z- must each count once.", lambda d: _split(d, second=(2, -2))),
        Suspect("The ReLU is missing. Without it h is z - (-z), or a half of it, and no predictor.",
                lambda d: _split(d, second=(0.5, -0.5), relu=False)),
        Suspect("The ReLU is missing: z - (-z) is 2 z.", lambda d: _split(d, relu=False)),
        Suspect("There is BN in between: it gives every channel mean 0 and variance 1, whatever z was.",
                lambda d: _split(d, middle=[nn.BatchNorm1d(2 * d)])),
        Suspect("There is a ReLU on z or on p, too: it cuts off the negative numbers.",
                lambda d: _split(d, end=[nn.ReLU()])),
        Suspect("The hidden layer is as wide as z: the ReLU then loses the negative numbers. Take two for each.",
                _square),
        Suspect("A large bias keeps z above 0 for the ReLU: that works up to a certain size only. "
                "Use two hidden channels for each.",
                _lifted),
        Suspect("Weights cannot be changed in place while autograd looks on: "
                "do it inside `with torch.no_grad():`.", _in_place),
        Suspect("The weights are frozen: h should be able to learn on from the identity.",
                lambda d: _split(d).requires_grad_(False)),
        Suspect("The same module comes back from every call: build it inside the function.", _always_the_same_identity),
        Suspect("Both matrices share their memory, so each change of one changes the other: add `.clone()`.", _tied),
        Suspect("A function came back instead of a module.", lambda d: lambda z: z),
    ],
    hints=(
        "A ReLU keeps the positive part of a number. "
        "The positive part of -z is what it lost; with both, z = ReLU(z) - ReLU(-z).",
        "With `one = torch.eye(dim)`, the first layer's weight is `torch.cat([one, -one])`, the second's "
        "`torch.cat([one, -one], dim=1)`. Set them inside `with torch.no_grad():`.",
        "`h = nn.Sequential(nn.Linear(dim, 2 * dim, bias=False), nn.ReLU(), nn.Linear(2 * dim, dim, bias=False))`, "
        "then `h[0].weight.copy_(torch.cat([one, -one]))` and `h[2].weight.copy_(torch.cat([one, -one], dim=1))`, "
        "and `return h`",
    ),
)  # fmt: skip

EXERCISES = (PROJECTOR, PREDICTOR, FORWARD, IDENTITY_PREDICTOR)
