"""Lesson 02: projector and predictor, and what can be seen of any MLP from outside.

A student's heads may have any weights, two layers or three, biases or not. So the facts speak of what every right one
does: what BN and ReLU leave unchanged, what its own weights give by hand, who learns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations, product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import heads
from .core import Exercise, Fact, Function, Suspect, elsewhere, gradients, kind_and_shape, unchanged

IN, HIDDEN, OUT = 8, 16, 12  # a projector's widths in the checks
DIM, NECK = 12, 5  # a predictor's
Layers = Sequence[Tensor]


@dataclass(frozen=True)
class Seen:
    """An outcome of random weights: `state` is what is compared, `text` shows the student's own numbers."""

    state: Any
    text: str = field(compare=False)

    def __str__(self) -> str:
        return self.text


def batch(rows: int, channels: int) -> Tensor:
    """Rows with a mean and a spread of their own in every channel, (rows, channels)."""
    return torch.randn(rows, channels) * torch.linspace(1, 3, channels) + torch.linspace(-1, 2, channels)


def matrices(module: nn.Module) -> list[Tensor]:
    return [w for w in module.parameters() if w.ndim == 2 and 1 not in w.shape]


def orders(module: nn.Module, widths: Sequence[int]) -> list[list[Tensor]]:
    """Every way to put all weight matrices, each as (out, in), in a row that leads from width to width.

    There may be several: who writes x @ W keeps W as (in, out), and layers may be registered in any order.
    """
    if len(matrices(module)) != len(widths) - 1:
        return []
    found = []
    for row in permutations(matrices(module)):
        steps = zip(row, widths, widths[1:], strict=False)
        found += [
            list(way) for way in product(*([w for w in (v, v.T) if w.shape == (b, a)] for v, a, b in steps))
        ]
    return found


def _with_an_outlier(x: Tensor) -> Tensor:
    """The first row is far off, so that after BN it is above 6: no ReLU6."""
    return torch.cat((30 * x[:1], x[1:]))


def standardised(x: Tensor) -> Tensor:
    """What BN does to a batch in train mode."""
    return F.batch_norm(x, None, None, training=True)


def by_hand(weights: Layers, x: Tensor) -> Tensor:
    """Linear, BN, ReLU, and so on, and a last Linear; a bias before BN would change nothing."""
    for w in weights[:-1]:
        x = standardised(x @ w.T).relu()
    return x @ weights[-1].T


def distance(a: Tensor, b: Tensor, what: str, below: float = 2e-3) -> Seen:
    """How far two outputs are apart at most."""
    largest = (a - b).abs().max().item()
    return Seen(
        largest < below, f"{what} by {f'less than {below:g}' if largest < below else f'up to {largest:.2g}'}"
    )


def best(tries: Iterable[Seen]) -> Seen:
    """One that is right, where there is one."""
    return max(tries, key=lambda seen: seen.state)


# ---- what projector and predictor have in common: `make` builds a module from a student's function

Make = Callable[[Function], nn.Module]


def _a_projector(f: Function) -> nn.Module:
    return f(IN, HIDDEN, OUT)


def _a_predictor(f: Function) -> nn.Module:
    return f(DIM, NECK)


def _orders_of_projector(module: nn.Module) -> list[list[Tensor]]:
    return [*orders(module, (IN, HIDDEN, OUT)), *orders(module, (IN, HIDDEN, HIDDEN, OUT))]


def _orders_of_predictor(module: nn.Module) -> list[list[Tensor]]:
    return orders(module, (DIM, NECK, DIM))


def kind(make: Make, channels: int) -> Function:
    def look(f: Function) -> Any:
        x = batch(64, channels)
        module = make(f)
        return kind_and_shape(module(x) if isinstance(module, nn.Module) else module)

    return look


def widths(make: Make, orders_of: Callable, channels: int) -> Function:
    def look(f: Function) -> Seen:
        module = make(f)
        module(batch(64, channels))
        said = ", ".join(f"{w.shape[1]} to {w.shape[0]}" for w in matrices(module))
        said = f"weight matrices {said}" if said else "no weight matrix"
        return Seen("right" if orders_of(module) else said, said)

    return look


def fresh(make: Make, channels: int) -> Function:
    def look(f: Function) -> dict[str, bool]:
        a, b = make(f), make(f)
        for module in (a, b):
            module(batch(64, channels))
        same = [torch.equal(v, w) for v, w in zip(matrices(a), matrices(b), strict=False)]
        shared = {id(w) for w in a.parameters()} & {id(w) for w in b.parameters()}
        train = all(part.training for part in a.modules())
        return {
            "weights shared by two:": bool(shared),
            "the same numbers in both:": any(same),
            "in train mode:": train,
        }

    return look


def repeatable(make: Make, channels: int) -> Function:
    def look(f: Function) -> Seen:
        x = batch(64, channels)
        module = make(f)
        return distance(module(x), module(x), "they differ")

    return look


def stretched(make: Make, channels: int) -> Function:
    def look(f: Function) -> Seen:
        x = batch(64, channels)
        module = make(f)
        return distance(module(x), module(3 * x + 5), "the output changes", below=0.02)

    return look


def neighbours(make: Make, channels: int) -> Function:
    def look(f: Function) -> Seen:
        x = batch(64, channels)
        module = make(f)
        differ = not distance(module(x)[:32], module(x[:32]), "").state
        return Seen(differ, "it depends on them" if differ else "it does not depend on them")

    return look


def bends(make: Make, channels: int) -> Function:
    def look(f: Function) -> Seen:
        x = batch(64, channels)
        module = make(f)
        module(x)
        module.eval()
        a, b = x[:32], x[32:]
        bend = (module(a) + module(b) - module(a + b) - module(0 * a)).abs().max().item()
        return Seen(bend > 1e-3, "a bend" if bend > 1e-3 else "a straight line: one Linear would do the same")

    return look


def alone(make: Make, channels: int) -> Function:
    def look(f: Function) -> Seen:
        x = batch(64, channels)
        module = make(f)
        for _ in range(5):
            module(x)
        module.eval()
        one_by_one = torch.cat([module(x[i : i + 1]) for i in range(4)])
        return distance(module(x)[:4], one_by_one, "alone and in a batch differ")

    return look


def settled(make: Make, channels: int) -> Function:
    """After 600 passes the running averages are the batch's own, but for a variance divided by one row less."""

    def look(f: Function) -> Seen:
        x = batch(64, channels)
        module = make(f)
        with torch.no_grad():
            for _ in range(600):
                trained = module(x)
            module.eval()
            return distance(module(x), trained, "the two modes differ", below=0.3)

    return look


def reaches_input(make: Make, channels: int) -> Function:
    def look(f: Function) -> dict[str, str]:
        x, at = batch(64, channels).requires_grad_(), torch.randn(64, OUT)
        return gradients((make(f)(x) * at).sum(), input=x)

    return look


def learners(make: Make, channels: int, right: Callable[[int], Sequence[int]]) -> Function:
    """Who learns: all weight matrices, and `right(number of matrices)` numbers beside them (BN's scale and shift)."""

    def look(f: Function) -> Seen:
        x, at = batch(64, channels).double(), torch.randn(64, OUT).double()
        module = make(f)
        module(x.float())
        out = module.double()(x)
        weights = [w for w in module.parameters() if w.requires_grad]
        found = torch.autograd.grad((out * at).sum(), weights, allow_unused=True) if weights else ()
        size = max((g.abs().max().item() for g in found if g is not None), default=0.0)
        learn = [
            w for w, g in zip(weights, found, strict=True) if g is not None and g.abs().max() > 1e-9 * size
        ]
        ids = {id(w) for w in learn}
        learning = sum(id(w) in ids for w in matrices(module))
        total = len(matrices(module))
        beside = sum(w.numel() for w in learn) - sum(w.numel() for w in matrices(module) if id(w) in ids)
        state = "right" if beside in right(total) else "fewer" if beside < min(right(total)) else "more"
        return Seen(
            (learning == total, state),
            f"{learning} of {total} weight matrices and {beside} numbers beside them",
        )

    return look


def each_bn_once(make: Make, channels: int) -> Function:
    def look(f: Function) -> Seen:
        module = make(f)
        module(batch(64, channels))
        seen = [int(bn.num_batches_tracked or 0) for bn in module.modules() if isinstance(bn, nn.BatchNorm1d)]
        return Seen(
            max(seen, default=0) <= 1, f"batches that each BN saw in one pass: {', '.join(map(str, seen))}"
        )

    return look


def kept(make: Make, channels: int) -> Function:
    def look(f: Function) -> dict[str, bool]:
        x = batch(64, channels)
        return unchanged(make(f), x)

    return look


def double(make: Make, channels: int) -> Function:
    return lambda f: kind_and_shape(make(f).double()(batch(64, channels).double()))


def on_another_device(make: Make, channels: int) -> Function:
    return lambda f: elsewhere(make(f).to("meta"), batch(64, channels), turn=False)


# ---- 2.1


def _spread(z: Tensor) -> Seen:
    mean, sd = z.mean(dim=0), z.std(dim=0, correction=0)
    text = f"means from {mean.min():.2f} to {mean.max():.2f}, standard deviations from {sd.min():.2f} to {sd.max():.2f}"
    state = (bool(mean.abs().max() < 0.01), bool((sd - 1).abs().max() < 0.05), bool((z < 0).any()))
    return Seen(state, text.replace("-0.00", "0.00"))


def _spread_at_first(f: Function) -> Seen:
    x = batch(64, IN)
    return _spread(_a_projector(f)(x))


def _spread_later(f: Function) -> Seen:
    x = batch(64, IN)
    projector = _a_projector(f)
    projector(x)
    with torch.no_grad():
        for w in projector.parameters():
            if w.requires_grad:
                w.add_(0.5 * torch.randn_like(w))
    return _spread(projector(x))


def _projector_by_hand(f: Function) -> Seen:
    x = _with_an_outlier(batch(64, IN))
    projector = _a_projector(f)
    z = projector(x)
    rows = _orders_of_projector(projector)
    return best(distance(z, standardised(by_hand(row, x)), "they differ") for row in rows)


def _mlp(
    *widths: int, norm: Callable = nn.BatchNorm1d, bend: Callable = nn.ReLU, last: Sequence = ()
) -> nn.Sequential:
    """Linear, BN, ReLU, ..., Linear, and `last`."""
    parts: list[nn.Module] = []
    for d_in, d_out in zip(widths[:-2], widths[1:-1], strict=True):
        parts += [nn.Linear(d_in, d_out), norm(d_out), bend()]
    return nn.Sequential(*parts, nn.Linear(widths[-2], widths[-1]), *last)


def _end(dim: int) -> tuple[nn.Module, ...]:
    return (nn.BatchNorm1d(dim, affine=False),)


def _relu_first(a: int, b: int, c: int, last: Sequence) -> nn.Sequential:
    return nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.BatchNorm1d(b), nn.Linear(b, c), *last)


def _one_bn(a: int, b: int, c: int) -> nn.Sequential:
    bn = nn.BatchNorm1d(b)
    return nn.Sequential(
        nn.Linear(a, b),
        bn,
        nn.ReLU(),
        nn.Linear(b, b),
        bn,
        nn.ReLU(),
        nn.Linear(b, c),
        nn.BatchNorm1d(c, affine=False),
    )


def _second_bare(a: int, b: int, c: int) -> nn.Sequential:
    parts = list(_mlp(a, b, b, c, last=_end(c)))
    return nn.Sequential(*(part for i, part in enumerate(parts) if i != 4))


@functools.cache
def _always_the_same(a: int, b: int, c: int) -> nn.Module:
    return _mlp(a, b, c, last=_end(c))


def _solution_projector(backbone_dim, hidden_dim, projection_dim):
    return nn.Sequential(
        nn.Linear(backbone_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, projection_dim, bias=False),
        nn.BatchNorm1d(projection_dim, affine=False),
    )


PROJECTOR = Exercise(
    "2.1",
    "projector",
    heads.projector,
    facts=[
        Fact("`projector(8, 16, 12)` gives a module that turns features of shape (64, 8) into z of shape (64, 12).",
             kind(_a_projector, IN)),
        Fact("Its weight matrices lead from 8 to 16 channels, with three layers again to 16, and then to 12.",
             widths(_a_projector, _orders_of_projector, IN)),
        Fact("Every call gives a new module, in train mode, with new random weights.", fresh(_a_projector, IN)),
        Fact("In train mode the same batch twice gives the same z: no dropout, no noise.",
             repeatable(_a_projector, IN)),
        Fact("In train mode each channel of z has mean 0 and standard deviation 1 over the batch: "
             "the output has BN, and no ReLU after it.", _spread_at_first),
        Fact("That stays so whatever its weights become in training: the last BN has no scale and shift of its own.",
             _spread_later),
        Fact("Stretch and shift all features, 3 y + 5, and z stays as it is: BN stands between Linear and ReLU.",
             stretched(_a_projector, IN)),
        Fact("In train mode the z of an image depends on its neighbours in the batch, whose mean and spread BN takes.",
             neighbours(_a_projector, IN)),
        Fact("It can bend: for features a and b, f(a) + f(b) differs from f(a + b) + f(0). A ReLU does that.",
             bends(_a_projector, IN)),
        Fact("With its own weight matrices, Linear, BN, ReLU, then Linear, BN computed by hand give the same z.",
             _projector_by_hand),
        Fact("In eval mode the z of an image does not depend on its neighbours, and a batch of one works.",
             alone(_a_projector, IN)),
        Fact("After many passes of one batch, eval mode gives nearly what train mode gave: "
             "the running averages follow the batches.", settled(_a_projector, IN)),
        Fact("Every layer has a BN of its own, which sees one batch in a pass.", each_bn_once(_a_projector, IN)),
        Fact("The features stay as they were: nothing is changed in place.", kept(_a_projector, IN)),
        Fact("The gradient of z goes through it to the features.", reaches_input(_a_projector, IN)),
        Fact("All its weight matrices learn, and each hidden BN has a scale and a shift that learn, too.",
             learners(_a_projector, IN, lambda total: [2 * HIDDEN * (total - 1)])),
        Fact("After `.double()` it takes and gives float64.", double(_a_projector, IN)),
        Fact("After `.to(device)` it computes on that device.", on_another_device(_a_projector, IN)),
    ],
    suspects=[
        Suspect("The output has no BN. A projector ends with one (Table 3c), unlike the predictor.",
                _mlp),
        Suspect("The last BN has a scale and a shift that can learn: give it `affine=False`.",
                lambda a, b, c: _mlp(a, b, c, last=[nn.BatchNorm1d(c)])),
        Suspect("There is a ReLU at the end. It would make every number of z positive or 0: the last layer has none.",
                lambda a, b, c: _mlp(a, b, c, last=[*_end(c), nn.ReLU()])),
        Suspect("The hidden layers have no BN: it follows every Linear, and the ReLU comes after it.",
                lambda a, b, c: _mlp(a, b, c, norm=lambda d: nn.Identity(), last=_end(c))),
        Suspect("The ReLU is missing. Two Linear layers in a row, with BN or not, are no more than one.",
                lambda a, b, c: _mlp(a, b, c, bend=nn.Identity, last=_end(c))),
        Suspect("ReLU and BN are in the wrong order: Linear, then BN, then ReLU.",
                lambda a, b, c: _relu_first(a, b, c, _end(c))),
        Suspect("The ReLU of the output layer stands before its BN: z would be lopsided. The last layer has no ReLU.",
                lambda a, b, c: _mlp(a, b, c, last=[nn.ReLU(), *_end(c)])),
        Suspect("This is LayerNorm: it normalises each image over its channels, BN each channel over the batch.",
                lambda a, b, c: _mlp(a, b, c, norm=nn.LayerNorm, last=[nn.LayerNorm(c, elementwise_affine=False)])),
        Suspect("The hidden BN has no scale and shift that learn: `affine=False` belongs to the last BN only.",
                lambda a, b, c: _mlp(a, b, c, norm=lambda d: nn.BatchNorm1d(d, affine=False), last=_end(c))),
        Suspect("One and the same BN module stands after two layers. Each needs its own, with its averages.",
                _one_bn),
        Suspect("The second hidden layer has no BN.", _second_bare),
        Suspect("There is no hidden layer: a projector is an MLP, with two Linear layers at least.",
                lambda a, b, c: nn.Sequential(nn.Linear(a, c), *_end(c))),
        Suspect("There are four Linear layers: the paper has three (two on CIFAR-10).",
                lambda a, b, c: _mlp(a, b, b, b, c, last=_end(c))),
        Suspect("The last BN has the width of the hidden layer: it needs projection_dim channels.",
                lambda a, b, c: _mlp(a, b, c, last=_end(b))),
        Suspect("hidden_dim and projection_dim changed places.", lambda a, b, c: _mlp(a, c, b, last=_end(b))),
        Suspect("A list of layers came back, which cannot be called: put them into `nn.Sequential(...)`.",
                lambda a, b, c: list(_mlp(a, b, c, last=_end(c)))),
        Suspect("The same module comes back from every call: build it inside the function.", _always_the_same),
        Suspect("Its weights are frozen (`requires_grad` is off): a projector learns.",
                lambda a, b, c: _mlp(a, b, c, last=_end(c)).requires_grad_(False)),
        Suspect("It came back in eval mode, where BN uses its averages of past batches: "
                "a fresh module is in train mode.",
                lambda a, b, c: _mlp(a, b, c, last=_end(c)).eval()),
        Suspect("The running averages do not follow the batches: leave BN's `momentum` as it is.",
                lambda a, b, c: _mlp(a, b, c, norm=functools.partial(nn.BatchNorm1d, momentum=0.0), last=_end(c))),
        Suspect("There is chance in it, as in dropout: the paper's heads have none.",
                lambda a, b, c: _mlp(a, b, c, bend=lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.2)), last=_end(c))),
        Suspect("PyTorch knows none of its layers: make them in `__init__`, in `nn.Sequential` or `nn.ModuleList`.",
                lambda a, b, c: _unknown(_mlp(a, b, c, last=_end(c)))),
        Suspect("PyTorch does not know the BNs, as in a plain list: put them into `nn.Sequential` or `nn.ModuleList`.",
                lambda a, b, c: _mlp(a, b, c, norm=lambda d: _unknown(nn.BatchNorm1d(d)),
                                     last=[_unknown(*_end(c))])),
        Suspect("In eval mode a BN still takes its numbers from the batch: `track_running_stats=False`, "
                "or a `.train()` in forward.",
                lambda a, b, c: _mlp(a, b, c, norm=functools.partial(nn.BatchNorm1d, track_running_stats=False),
                                     last=[nn.BatchNorm1d(c, affine=False, track_running_stats=False)])),
        Suspect("There is another bend than the ReLU.", lambda a, b, c: _mlp(a, b, c, bend=nn.GELU, last=_end(c))),
    ],
    hints=(
        "A hidden layer is three modules in this order: "
        "Linear, BN, ReLU. The output layer is Linear and BN, without ReLU.",
        "`nn.Sequential(...)` puts modules in a row; the last one is `nn.BatchNorm1d(projection_dim, affine=False)`.",
        "`return nn.Sequential(nn.Linear(backbone_dim, hidden_dim), nn.BatchNorm1d(hidden_dim), nn.ReLU(), "
        "nn.Linear(hidden_dim, projection_dim), nn.BatchNorm1d(projection_dim, affine=False))`",
    ),
    solution=_solution_projector,
)  # fmt: skip


# ---- 2.2


def _twice_the_weights(f: Function) -> float:
    """How much wider p spreads when all weight matrices are doubled."""
    z = batch(64, DIM)
    h = _a_predictor(f)
    before = h(z).detach()
    with torch.no_grad():
        for w in matrices(h):
            w *= 2
    return round((h(z).std(dim=0).mean() / before.std(dim=0).mean()).item(), 2)


def _both_signs(f: Function) -> dict[str, bool]:
    z = batch(64, DIM)
    p = _a_predictor(f)(z)
    return {"numbers above 0:": bool((p > 0).any()), "below 0:": bool((p < 0).any())}


def _predictor_by_hand(f: Function) -> Seen:
    z = _with_an_outlier(batch(64, DIM))
    h = _a_predictor(f)
    p = h(z)
    rows = (by_hand(row, z) for row in _orders_of_predictor(h))
    return best(
        distance(p - p.mean(dim=0), q - q.mean(dim=0), "apart from a bias, they differ") for q in rows
    )


class _Around(nn.Module):
    """A module with something done to its input before, or to its output after."""

    def __init__(
        self, inside: nn.Module, before: Callable | None = None, after: Callable | None = None
    ) -> None:
        super().__init__()
        self.inside, self.before, self.after = inside, before, after

    def forward(self, x: Tensor) -> Tensor:
        y = self.inside(self.before(x) if self.before else x)
        return self.after(x, y) if self.after else y


def _unknown(part: nn.Module) -> nn.Module:
    """A module that uses another which PyTorch does not know of."""
    return _Around(nn.Identity(), before=part.forward)


@functools.cache
def _always_the_same_h(d: int, n: int) -> nn.Module:
    return _mlp(d, n, d)


def _solution_predictor(dim, hidden_dim):
    return nn.Sequential(
        nn.Linear(dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, dim),
    )


PREDICTOR = Exercise(
    "2.2",
    "predictor",
    heads.predictor,
    facts=[
        Fact("`predictor(12, 5)` gives a module that turns z of shape (64, 12) into p of shape (64, 12).",
             kind(_a_predictor, DIM)),
        Fact("It has two weight matrices: from 12 to 5 channels, the bottleneck, and back to 12.",
             widths(_a_predictor, _orders_of_predictor, DIM)),
        Fact("Every call gives a new module, in train mode, with new random weights.", fresh(_a_predictor, DIM)),
        Fact("In train mode the same batch twice gives the same p: no dropout, no noise.",
             repeatable(_a_predictor, DIM)),
        Fact("Stretch and shift z, 3 z + 5, and p stays as it is: BN follows the first Linear, before the ReLU.",
             stretched(_a_predictor, DIM)),
        Fact("In train mode the p of an image depends on its neighbours in the batch, whose mean and spread BN takes.",
             neighbours(_a_predictor, DIM)),
        Fact("Double all weight matrices, and p spreads 2 times as wide: no BN stands at the output to undo it.",
             _twice_the_weights, tolerance=0.02),
        Fact("p has positive and negative numbers: no ReLU at the end.", _both_signs),
        Fact("It can bend: for a and b, h(a) + h(b) differs from h(a + b) + h(0). A ReLU does that.",
             bends(_a_predictor, DIM)),
        Fact("With its own weight matrices, Linear, BN, ReLU, Linear computed by hand give the same p.",
             _predictor_by_hand),
        Fact("In eval mode the p of an image does not depend on its neighbours, and a batch of one works.",
             alone(_a_predictor, DIM)),
        Fact("After many passes of one batch, eval mode gives nearly what train mode gave: "
             "the running averages follow the batches.", settled(_a_predictor, DIM)),
        Fact("Every layer has a BN of its own, which sees one batch in a pass.", each_bn_once(_a_predictor, DIM)),
        Fact("z stays as it was: nothing is changed in place.", kept(_a_predictor, DIM)),
        Fact("The gradient of p goes through it to z: so the encoder learns.", reaches_input(_a_predictor, DIM)),
        Fact("Both weight matrices learn, and the hidden BN has a scale and a shift for each channel that learn, too.",
             learners(_a_predictor, DIM, lambda total: [2 * NECK, 2 * NECK + DIM])),
        Fact("After `.double()` it takes and gives float64.", double(_a_predictor, DIM)),
        Fact("After `.to(device)` it computes on that device.", on_another_device(_a_predictor, DIM)),
    ],
    suspects=[
        Suspect("There is BN at the output. With it training is unstable (Table 3d): only the hidden layer has BN.",
                lambda d, n: _mlp(d, n, d, last=[nn.BatchNorm1d(d)])),
        Suspect("There is BN at the output, as in the projector. Here only the hidden layer has BN (Table 3d).",
                lambda d, n: _mlp(d, n, d, last=_end(d))),
        Suspect("The hidden layer has no BN.", lambda d, n: _mlp(d, n, d, norm=lambda k: nn.Identity())),
        Suspect("The BN is at the output instead of the hidden layer.",
                lambda d, n: _mlp(d, n, d, norm=lambda k: nn.Identity(), last=[nn.BatchNorm1d(d)])),
        Suspect("There is a ReLU at the end: p could never point where z is negative.",
                lambda d, n: _mlp(d, n, d, last=[nn.ReLU()])),
        Suspect("The ReLU is missing: without it the predictor is a linear map.",
                lambda d, n: _mlp(d, n, d, bend=nn.Identity)),
        Suspect("ReLU and BN are in the wrong order: Linear, then BN, then ReLU.",
                lambda d, n: _relu_first(d, n, d, ())),
        Suspect("The hidden layer is as wide as z: hidden_dim is not used, and there is no bottleneck.",
                lambda d, n: _mlp(d, d, d)),
        Suspect("It ends with hidden_dim channels: p must have as many as z, for the loss compares the two.",
                lambda d, n: nn.Sequential(nn.Linear(d, n), nn.BatchNorm1d(n), nn.ReLU(), nn.Linear(n, n))),
        Suspect("It stops at the bottleneck: a second Linear leads back to dim channels.",
                lambda d, n: nn.Sequential(nn.Linear(d, n), nn.BatchNorm1d(n), nn.ReLU())),
        Suspect("There is a hidden layer too many: h has two Linear layers.", lambda d, n: _mlp(d, n, n, d)),
        Suspect("There is no hidden layer: h is Linear, BN, ReLU, Linear.", lambda d, n: nn.Linear(d, d)),
        Suspect("dim and hidden_dim changed places.", lambda d, n: _mlp(n, d, n)),
        Suspect("This is LayerNorm: it normalises each image over its channels, BN each channel over the batch.",
                lambda d, n: _mlp(d, n, d, norm=nn.LayerNorm)),
        Suspect("z is added to the output (a residual connection): then h can be the identity with weights of 0.",
                lambda d, n: _Around(_mlp(d, n, d), after=lambda z, p: z + p)),
        Suspect("The output is given length 1: that is the loss's business.",
                lambda d, n: _Around(_mlp(d, n, d), after=lambda z, p: F.normalize(p, dim=1))),
        Suspect("z is detached inside: then the encoder would never learn. The stop-gradient belongs to the target.",
                lambda d, n: _Around(_mlp(d, n, d), before=lambda z: z.detach())),
        Suspect("The hidden BN has no scale and shift that learn: `affine=False` belongs to the projector's last BN "
                "only.",
                lambda d, n: _mlp(d, n, d, norm=lambda k: nn.BatchNorm1d(k, affine=False))),
        Suspect("Its weights are frozen (`requires_grad` is off). A random predictor that never learns is Table 1b: "
                "1.5 %.",
                lambda d, n: _mlp(d, n, d).requires_grad_(False)),
        Suspect("A list of layers came back, which cannot be called: put them into `nn.Sequential(...)`.",
                lambda d, n: list(_mlp(d, n, d))),
        Suspect("The same module comes back from every call: build it inside the function.", _always_the_same_h),
        Suspect("It came back in eval mode, where BN uses its averages of past batches: "
                "a fresh module is in train mode.",
                lambda d, n: _mlp(d, n, d).eval()),
        Suspect("The running averages do not follow the batches: leave BN's `momentum` as it is.",
                lambda d, n: _mlp(d, n, d, norm=functools.partial(nn.BatchNorm1d, momentum=0.0))),
        Suspect("There is chance in it, as in dropout: the paper's heads have none.",
                lambda d, n: _mlp(d, n, d, bend=lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.2)))),
        Suspect("PyTorch knows none of its layers: make them in `__init__`, in `nn.Sequential` or `nn.ModuleList`.",
                lambda d, n: _unknown(_mlp(d, n, d))),
        Suspect("PyTorch does not know the BN, as in a plain list: put it into `nn.Sequential` or `nn.ModuleList`.",
                lambda d, n: _mlp(d, n, d, norm=lambda k: _unknown(nn.BatchNorm1d(k)))),
        Suspect("In eval mode BN still takes its numbers from the batch: `track_running_stats=False`, "
                "or a `.train()` in forward.",
                lambda d, n: _mlp(d, n, d, norm=functools.partial(nn.BatchNorm1d, track_running_stats=False))),
        Suspect("Something beside Linear, BN, ReLU, Linear is in it: another bend, a norm more, a factor.",
                lambda d, n: _mlp(d, n, d, bend=nn.GELU)),
    ],
    hints=(
        "It is the projector's first layer, made narrow, and a plain Linear back to dim channels.",
        "`nn.Linear(dim, hidden_dim)`, `nn.BatchNorm1d(hidden_dim)`, `nn.ReLU()`, `nn.Linear(hidden_dim, "
        "dim)`, and nothing after it.",
        "`return nn.Sequential(nn.Linear(dim, hidden_dim), nn.BatchNorm1d(hidden_dim), nn.ReLU(), "
        "nn.Linear(hidden_dim, dim))`",
    ),
    solution=_solution_predictor,
)  # fmt: skip
