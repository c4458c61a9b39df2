"""Lesson 02's checks pass what is right, however it is written, and never what is wrong."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simsiam_course import heads
from simsiam_course.exercises.core import judge
from simsiam_course.exercises.network import FORWARD, IDENTITY_PREDICTOR, PREDICTOR, PROJECTOR
from simsiam_course.loss import negative_cosine


class MLP(nn.Module):
    """Linear, BN, ReLU, Linear and perhaps BN, as a class; layers registered in another order than they are used."""

    def __init__(self, a: int, b: int, c: int, output_bn: bool, bias: bool = True) -> None:
        super().__init__()
        self.out = nn.Linear(b, c, bias=bias)
        self.bn = nn.BatchNorm1d(b)
        self.hidden = nn.Linear(a, b, bias=bias)
        self.out_bn = nn.BatchNorm1d(c, affine=False) if output_bn else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.out(torch.relu(self.bn(self.hidden(x))))
        return x if self.out_bn is None else self.out_bn(x)


class ByHand(nn.Module):
    """Weights (in, out), einsum, and BN written out with its running averages."""

    def __init__(self, a: int, b: int, c: int, output_bn: bool) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(a, b) / a**0.5)
        self.w2 = nn.Parameter(torch.randn(b, b) / b**0.5) if output_bn else None
        self.w3 = nn.Parameter(torch.randn(b, c) / b**0.5)
        self.scale, self.shift = nn.Parameter(torch.ones(b)), nn.Parameter(torch.zeros(b))
        self.scale2, self.shift2 = (
            nn.Parameter(t(b)) if output_bn else None for t in (torch.ones, torch.zeros)
        )
        for i, d in enumerate((b, b, c)):
            self.register_buffer(f"mean{i}", torch.zeros(d))
            self.register_buffer(f"var{i}", torch.ones(d))
        self.output_bn = output_bn

    def norm(self, x: Tensor, i: int) -> Tensor:
        mean, var = getattr(self, f"mean{i}"), getattr(self, f"var{i}")
        if self.training:
            now, spread = x.mean(dim=0), x.var(dim=0, correction=0)
            with torch.no_grad():
                mean.lerp_(now, 0.1)
                var.lerp_(spread, 0.1)
            mean, var = now, spread
        return (x - mean) / (var + 1e-5).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        x = (self.norm(torch.einsum("bi,ij->bj", x, self.w1), 0) * self.scale + self.shift).clamp(min=0)
        if self.w2 is not None:
            x = (self.norm(torch.einsum("bi,ij->bj", x, self.w2), 1) * self.scale2 + self.shift2).clamp(min=0)
        x = torch.einsum("bi,ij->bj", x, self.w3)
        return self.norm(x, 2) if self.output_bn else x


def block(a: int, b: int, **options) -> nn.Sequential:
    return nn.Sequential(nn.Linear(a, b, **options), nn.BatchNorm1d(b), nn.ReLU(inplace=True))


def seq(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(*parts)


def bare_bn(c: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(c, affine=False)


# ---- 2.1


def frozen_affine(a, b, c):
    """As the authors' code does it: BN without scale and shift, the bias before it frozen."""
    last = nn.Linear(b, c)
    last.bias.requires_grad_(False)
    return seq(*block(a, b, bias=False), *block(b, b, bias=False), last, bare_bn(c))


def frozen_scale_and_shift(a, b, c):
    bn = nn.BatchNorm1d(c)
    bn.requires_grad_(False)
    return seq(block(a, b), nn.Linear(b, c), bn)


def grown(a, b, c):
    layers = []
    for d_in, d_out in ((a, b), (b, b)):
        layers.append(nn.Linear(d_in, d_out, bias=False))
        layers.append(nn.BatchNorm1d(d_out))
        layers.append(nn.ReLU())
    layers += [nn.Linear(b, c, bias=False), nn.BatchNorm1d(c, affine=False)]
    return nn.Sequential(*layers)


def named(a, b, c):
    h = nn.Sequential()
    h.add_module("fc", nn.Linear(a, b))
    h.add_module("norm", nn.BatchNorm1d(b))
    h.add_module("bend", nn.ReLU())
    h.add_module("out", nn.Linear(b, c))
    h.add_module("out_norm", bare_bn(c))
    return h


def he(a, b, c):
    h = named(a, b, c)
    nn.init.kaiming_normal_(h.fc.weight)
    nn.init.kaiming_normal_(h.out.weight)
    nn.init.zeros_(h.fc.bias)
    return h


class projector_class(nn.Module):  # noqa: N801
    def __init__(self, backbone_dim, hidden_dim, projection_dim):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(backbone_dim, hidden_dim), nn.Linear(hidden_dim, hidden_dim)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(hidden_dim), nn.BatchNorm1d(hidden_dim)])
        self.last, self.last_norm = nn.Linear(hidden_dim, projection_dim), bare_bn(projection_dim)

    def forward(self, y):
        for layer, norm in zip(self.layers, self.norms, strict=True):
            y = F.relu(norm(layer(y)))
        return self.last_norm(self.last(y))


class Standardised(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        x = self.inside(x)
        return (x - x.mean(dim=0)) / x.std(dim=0, correction=0)


class Detached(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x.detach())


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_(-1, 1)


def twice(a, b, c):
    middle = nn.Linear(b, b)
    return seq(*block(a, b), middle, nn.BatchNorm1d(b), nn.ReLU(), middle, nn.BatchNorm1d(b), nn.ReLU(),
               nn.Linear(b, c), bare_bn(c))  # fmt: skip


def seeded(make):
    torch.manual_seed(0)
    return make()


def frozen_first(h):
    next(h.parameters()).requires_grad_(False)
    return h


def eval_second(h):
    h[1].eval()
    return h


RIGHT_PROJECTORS = {
    "two layers": lambda a, b, c: heads.projector(a, b, c, layers=2),
    "three layers": lambda a, b, c: heads.projector(a, b, c, layers=3),
    "biases": lambda a, b, c: seq(block(a, b), nn.Linear(b, c), bare_bn(c)),
    "three with biases": lambda a, b, c: seq(block(a, b), block(b, b), nn.Linear(b, c), bare_bn(c)),
    "the authors'": frozen_affine,
    "frozen scale and shift": frozen_scale_and_shift,
    "a loop": grown,
    "names": named,
    "He": he,
    "a class": projector_class,
    "another class": lambda a, b, c: MLP(a, b, c, output_bn=True),
    "a class without biases": lambda a, b, c: MLP(a, b, c, output_bn=True, bias=False),
    "by hand": lambda a, b, c: ByHand(a, b, c, output_bn=True),
    "lazy layers": lambda a, b, c: seq(
        nn.LazyLinear(b), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(c), bare_bn(c)
    ),
    "another momentum": lambda a, b, c: seq(
        nn.Linear(a, b), nn.BatchNorm1d(b, momentum=0.01, eps=1e-4), nn.ReLU(), nn.Linear(b, c), bare_bn(c)
    ),
    "an extra argument": lambda a, b, c, layers=2: heads.projector(a, b, c, layers=layers),
}
WRONG_PROJECTORS = {
    "momentum 0": lambda a, b, c: seq(
        nn.Linear(a, b), nn.BatchNorm1d(b, momentum=0.0), nn.ReLU(), nn.Linear(b, c), bare_bn(c)
    ),
    "ReLU6": lambda a, b, c: seq(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU6(), nn.Linear(b, c), bare_bn(c)),
    "a bottleneck": lambda a, b, c: seq(*block(a, b // 2), nn.Linear(b // 2, c), bare_bn(c)),
    "leaky": lambda a, b, c: seq(
        nn.Linear(a, b), nn.BatchNorm1d(b), nn.LeakyReLU(0.2), nn.Linear(b, c), bare_bn(c)
    ),
    "tanh": lambda a, b, c: seq(nn.Linear(a, b), nn.BatchNorm1d(b), nn.Tanh(), nn.Linear(b, c), bare_bn(c)),
    "ReLU6 on a wide scale": lambda a, b, c: seq(
        block(a, b), nn.Linear(b, c), bare_bn(c), nn.Hardtanh(-1, 1)
    ),
    "dropout": lambda a, b, c: seq(block(a, b), nn.Dropout(0.2), nn.Linear(b, c), bare_bn(c)),
    "instance norm": lambda a, b, c: seq(
        nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU(), nn.Linear(b, c), bare_bn(c)
    ),
    "standardised by hand, in eval mode too": lambda a, b, c: Standardised(seq(block(a, b), nn.Linear(b, c))),
    "ReLU on the features": lambda a, b, c: seq(nn.ReLU(), block(a, b), nn.Linear(b, c), bare_bn(c)),
    "in place on the features": lambda a, b, c: seq(Clamp(), block(a, b), nn.Linear(b, c), bare_bn(c)),
    "BN on the features": lambda a, b, c: seq(nn.BatchNorm1d(a), block(a, b), nn.Linear(b, c), bare_bn(c)),
    "softmax": lambda a, b, c: seq(block(a, b), nn.Linear(b, c), bare_bn(c), nn.Softmax(dim=1)),
    "a shared Linear": twice,
    "BN twice": lambda a, b, c: seq(
        nn.Linear(a, b), nn.BatchNorm1d(b), nn.BatchNorm1d(b), nn.ReLU(), nn.Linear(b, c), bare_bn(c)
    ),
    "half precision": lambda a, b, c: heads.projector(a, b, c).half(),
    "seeded": lambda a, b, c: seeded(lambda: heads.projector(a, b, c)),
    "a class, not a module": lambda a, b, c: nn.Sequential,
    "a number": lambda a, b, c: 3,
    "no hidden ReLU in the second layer": lambda a, b, c: seq(
        block(a, b), nn.Linear(b, b), nn.BatchNorm1d(b), nn.Linear(b, c), bare_bn(c)
    ),
    "detached": lambda a, b, c: Detached(heads.projector(a, b, c)),
    "first layer frozen": lambda a, b, c: frozen_first(heads.projector(a, b, c)),
    "hidden BN in eval mode": lambda a, b, c: eval_second(heads.projector(a, b, c)),
}


# ---- 2.2


def small(h):
    with torch.no_grad():
        h[0].weight.mul_(0.5)
        h[-1].weight.mul_(0.5)
    return h


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class NoGrad(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x)


class Tied(nn.Module):
    def __init__(self, d: int, n: int) -> None:
        super().__init__()
        self.widen, self.bn = nn.Linear(d, n), nn.BatchNorm1d(n)

    def forward(self, z: Tensor) -> Tensor:
        return self.bn(self.widen(z)).relu() @ self.widen.weight


RIGHT_PREDICTORS = {
    "the package's": heads.predictor,
    "biases": lambda d, n: seq(block(d, n), nn.Linear(n, d)),
    "no biases": lambda d, n: seq(block(d, n, bias=False), nn.Linear(n, d, bias=False)),
    "the authors'": lambda d, n: seq(*block(d, n, bias=False), nn.Linear(n, d)),
    "a class": lambda d, n: MLP(d, n, d, output_bn=False),
    "a class without biases": lambda d, n: MLP(d, n, d, output_bn=False, bias=False),
    "by hand": lambda d, n: ByHand(d, n, d, output_bn=False),
    "names": lambda d, n: nn.Sequential(*list(named(d, n, d))[:-1]),
    "He": lambda d, n: nn.Sequential(*list(he(d, n, d))[:-1]),
    "small weights": lambda d, n: small(heads.predictor(d, n)),
    "lazy layers": lambda d, n: seq(nn.LazyLinear(n), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(n, d)),
    "an extra argument": lambda dim, hidden_dim, bn=True: seq(
        block(dim, hidden_dim), nn.Linear(hidden_dim, dim)
    ),
    "an identity at the end": lambda d, n: seq(block(d, n), nn.Linear(n, d), nn.Identity()),
}
WRONG_PREDICTORS = {
    "momentum 0": lambda d, n: seq(
        nn.Linear(d, n), nn.BatchNorm1d(n, momentum=0.0), nn.ReLU(), nn.Linear(n, d)
    ),
    "ReLU6": lambda d, n: seq(nn.Linear(d, n), nn.BatchNorm1d(n), nn.ReLU6(), nn.Linear(n, d)),
    "half the bottleneck": lambda d, n: seq(block(d, n // 2), nn.Linear(n // 2, d)),
    "the identity": lambda d, n: nn.Identity(),
    "tanh at the end": lambda d, n: seq(block(d, n), nn.Linear(n, d), nn.Tanh()),
    "leaky": lambda d, n: seq(nn.Linear(d, n), nn.BatchNorm1d(n), nn.LeakyReLU(), nn.Linear(n, d)),
    "LayerNorm at the end": lambda d, n: seq(block(d, n), nn.Linear(n, d), nn.LayerNorm(d)),
    "dropout": lambda d, n: seq(block(d, n), nn.Dropout(0.3), nn.Linear(n, d)),
    "BN on z": lambda d, n: seq(nn.BatchNorm1d(d), block(d, n), nn.Linear(n, d)),
    "BN twice": lambda d, n: seq(
        nn.Linear(d, n), nn.BatchNorm1d(n), nn.BatchNorm1d(n), nn.ReLU(), nn.Linear(n, d)
    ),
    "minus": lambda d, n: seq(block(d, n), nn.Linear(n, d), Times(-1)),
    "twice": lambda d, n: seq(block(d, n), nn.Linear(n, d), Times(2)),
    "without gradient": lambda d, n: NoGrad(heads.predictor(d, n)),
    "first layer frozen": lambda d, n: frozen_first(heads.predictor(d, n)),
    "frozen": lambda d, n: heads.predictor(d, n, kind="frozen"),
    "linear": lambda d, n: heads.predictor(d, n, kind="linear"),
    "bias": lambda d, n: heads.predictor(d, n, kind="bias"),
    "without BN": lambda d, n: heads.predictor(d, n, hidden_bn=False),
    "another dtype": lambda d, n: heads.predictor(d, n).double(),
    "seeded": lambda d, n: seeded(lambda: heads.predictor(d, n)),
    "standardised by hand": lambda d, n: seq(Standardised(nn.Linear(d, n)), nn.ReLU(), nn.Linear(n, d)),
    "a tied second layer": Tied,
    "in place": lambda d, n: seq(Clamp(), block(d, n), nn.Linear(n, d)),
}


# ---- 2.3


def plain(model, x1, x2):
    z1 = model.projector(model.backbone(x1))
    z2 = model.projector(model.backbone(x2))
    return model.predictor(z1), model.predictor(z2), z1, z2


def view_by_view(model, x1, x2):
    y1 = model.backbone(x1)
    z1 = model.projector(y1)
    p1 = model.predictor(z1)
    y2 = model.backbone(x2)
    z2 = model.projector(y2)
    p2 = model.predictor(z2)
    return p1, p2, z1, z2


def part_by_part(model, x1, x2):
    y1, y2 = model.backbone(x1), model.backbone(x2)
    z1, z2 = model.projector(y1), model.projector(y2)
    p1, p2 = model.predictor(z1), model.predictor(z2)
    return (p1, p2, z1, z2)


def second_view_first(model, x1, x2):
    z2 = model.projector(model.backbone(x2))
    p2 = model.predictor(z2)
    z1 = model.projector(model.backbone(x1))
    return model.predictor(z1), p2, z1, z2


def with_lists(model, x1, x2):
    z = [model.projector(model.backbone(x)) for x in (x1, x2)]
    p = [model.predictor(z_i) for z_i in z]
    return [*p, *z]


def with_encode(model, x1, x2):
    z1, z2 = model.encode(x1), model.encode(x2)
    return model.predictor(z1), model.predictor(z2), z1, z2


def with_features(model, x1, x2):
    z1, z2 = model.projector(model.features(x1)), model.projector(model.features(x2))
    return model.predictor(z1), model.predictor(z2), z1, z2


def with_sequential(model, x1, x2):
    f = nn.Sequential(model.backbone, model.projector)
    z1, z2 = f(x1), f(x2)
    return model.predictor(z1), model.predictor(z2), z1, z2


def with_inner_function(model, x1, x2):
    def f(x):
        return model.projector(model.backbone(x))

    h = model.predictor
    z1, z2 = map(f, (x1, x2))
    return h(z1), h(z2), z1, z2


def with_dict(model, x1, x2, **options):
    out = {}
    for i, x in enumerate((x1, x2), start=1):
        out[f"z{i}"] = model.projector(model.backbone(x))
        out[f"p{i}"] = model.predictor(out[f"z{i}"])
    return out["p1"], out["p2"], out["z1"], out["z2"]


def with_forward(model, x1, x2, h=None):
    z1 = model.projector.forward(model.backbone.forward(x1))
    z2 = model.projector.forward(model.backbone.forward(x2))
    h = h or model.predictor
    return h.forward(z1), h.forward(z2), z1, z2


def one_pass_in_eval_mode(model, x1, x2):
    if not model.training:
        z = model.projector(model.backbone(torch.cat([x1, x2])))
        return (*model.predictor(z).chunk(2), *z.chunk(2))
    return plain(model, x1, x2)


RIGHT_FORWARDS = (plain, view_by_view, part_by_part, second_view_first, with_lists, with_encode, with_features,
                  with_sequential, with_inner_function, with_dict, with_forward, one_pass_in_eval_mode)  # fmt: skip


def then(change):
    """The right answer, changed at the end."""
    return lambda model, x1, x2: change(*plain(model, x1, x2))


def joined_backbone(model, x1, x2):
    y1, y2 = model.backbone(torch.cat([x1, x2])).chunk(2)
    z1, z2 = model.projector(y1), model.projector(y2)
    return model.predictor(z1), model.predictor(z2), z1, z2


def eval_for_the_second(model, x1, x2):
    z1 = model.projector(model.backbone(x1))
    model.eval()
    z2 = model.projector(model.backbone(x2))
    model.train()
    return model.predictor(z1), model.predictor(z2), z1, z2


def target_without_gradient(model, x1, x2):
    z1 = model.projector(model.backbone(x1))
    with torch.no_grad():
        z2 = model.projector(model.backbone(x2))
    return model.predictor(z1), model.predictor(z2), z1, z2


def shuffled(model, x1, x2):
    p1, p2, z1, z2 = plain(model, x1, x2.flip(0))
    return p1, p2, z1, z2


def in_place(model, x1, x2):
    x1 *= 1.5
    return plain(model, x1, x2)


def float_inside(model, x1, x2):
    return tuple(part.float() for part in plain(model, x1, x2))


def on_the_cpu(model, x1, x2):
    return plain(model, x1.cpu(), x2.cpu())


def three_passes_of_h(model, x1, x2):
    p1, p2, z1, z2 = plain(model, x1, x2)
    return model.predictor(z1), p2, z1, z2


def copied_head(model, x1, x2):
    z1, z2 = (model.projector(model.backbone(x)) for x in (x1, x2))
    return model.predictor(z1), copy.deepcopy(model.predictor)(z2), z1, z2


def zeroes_gradients_and_weights(model, x1, x2):
    out = plain(model, x1, x2)
    with torch.no_grad():
        for w in model.parameters():
            w.mul_(0.99)
    return out


def h_twice(model, x1, x2):
    p1, p2, z1, z2 = plain(model, x1, x2)
    return model.predictor(p1), model.predictor(p2), z1, z2


def averages_forgotten(model, x1, x2):
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d) and not model.training:
            out = plain(model, x1, x2)
            part.reset_running_stats()
            part.running_mean.add_(1)
            return out
    return plain(model, x1, x2)


WRONG_FORWARDS = {
    "flattened first": lambda m, x1, x2: plain(m, x1.flatten(1), x2.flatten(1)),
    "six rows": then(lambda *out: tuple(part[:6] for part in out)),
    "gradients set to zero": lambda m, x1, x2: m.zero_grad() or plain(m, x1, x2),
    "averages forgotten": averages_forgotten,
    "first the views of one": then(lambda p1, p2, z1, z2: (p1, z2, p2, z1)),
    "z in the wrong order": then(lambda p1, p2, z1, z2: (p1, p2, z2, z1)),
    "one z detached": then(lambda p1, p2, z1, z2: (p1, p2, z1, z2.detach())),
    "one p detached": then(lambda p1, p2, z1, z2: (p1.detach(), p2, z1, z2)),
    "p is z": then(lambda p1, p2, z1, z2: (z1, z2, z1, z2)),
    "z is p": then(lambda p1, p2, z1, z2: (p1, p2, p1, p2)),
    "negative": then(lambda p1, p2, z1, z2: (-p1, p2, z1, z2)),
    "h twice": h_twice,
    "five": then(lambda p1, p2, z1, z2: (p1, p2, z1, z2, z2)),
    "stacked": then(lambda p1, p2, z1, z2: torch.stack([p1, p2, z1, z2])),
    "a dict": then(lambda p1, p2, z1, z2: {"p1": p1, "p2": p2, "z1": z1, "z2": z2}),
    "scaled": then(lambda p1, p2, z1, z2: (p1, p2, z1 / 5**0.5, z2)),
    "joined backbone": joined_backbone,
    "eval for the second": eval_for_the_second,
    "target without gradient": target_without_gradient,
    "shuffled": shuffled,
    "in place": in_place,
    "float inside": float_inside,
    "on the cpu": on_the_cpu,
    "h three times": three_passes_of_h,
    "copied head": copied_head,
    "weights changed": zeroes_gradients_and_weights,
    "nothing": lambda m, x1, x2: print(end=""),
}


# ---- 2.4


def with_parameter(dim):
    h = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
    one = torch.eye(dim)
    h[0].weight = nn.Parameter(torch.cat([one, -one]))
    h[2].weight = nn.Parameter(torch.cat([one, -one], dim=1))
    h[0].bias = nn.Parameter(torch.zeros(2 * dim))
    h[2].bias = nn.Parameter(torch.zeros(dim))
    return h


def with_data(dim):
    h = nn.Sequential(
        nn.Linear(dim, 2 * dim, bias=False), nn.ReLU(inplace=True), nn.Linear(2 * dim, dim, bias=False)
    )
    one = torch.eye(dim)
    h[0].weight.data = torch.cat([one, -one])
    h[2].weight.data = torch.cat([one, -one], 1)
    return h


def interleaved(dim):
    h = with_data(dim)
    order = torch.arange(2 * dim).view(2, dim).T.flatten()
    h[0].weight.data, h[2].weight.data = h[0].weight.data[order], h[2].weight.data[:, order]
    return h


def negative_first(dim):
    h = with_data(dim)
    h[0].weight.data.neg_()
    h[2].weight.data.neg_()
    return h


def scaled(dim):
    h = with_data(dim)
    h[0].weight.data *= 4
    h[2].weight.data /= 4
    return h


def rotated(dim):
    h = with_data(dim)
    Q = torch.linalg.qr(torch.randn(dim, dim)).Q
    h[0].weight.data, h[2].weight.data = h[0].weight.data @ Q, Q.T @ h[2].weight.data
    return h


def in_loops(dim):
    h = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
    with torch.no_grad():
        for layer in (h[0], h[2]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for i in range(dim):
            h[0].weight[i, i], h[0].weight[dim + i, i] = 1, -1
            h[2].weight[i, i], h[2].weight[i, dim + i] = 1, -1
    return h


def loaded(dim):
    h = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
    one = torch.eye(dim)
    zero = {"0.bias": torch.zeros(2 * dim), "2.bias": torch.zeros(dim)}
    h.load_state_dict({"0.weight": torch.cat([one, -one]), "2.weight": torch.cat([one, -one], 1), **zero})
    return h


class TwoLayers(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        one = torch.eye(dim)
        self.widen = nn.Parameter(torch.cat([one, -one], dim=1))  # (D, 2 D)
        self.narrow = nn.Parameter(torch.cat([one, -one]))  # (2 D, D)

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.widen).clamp(min=0) @ self.narrow


def by_the_model(dim):
    h = heads.predictor(dim, 2 * dim, hidden_bn=False)
    h.load_state_dict(heads.identity_predictor(dim).state_dict())
    return h


def by_kron(dim):
    h = with_data(dim)
    h[0].weight.data = torch.kron(torch.tensor([[1.0], [-1.0]]), torch.eye(dim))
    h[2].weight.data = h[0].weight.data.T.clone()
    return h


RIGHT_IDENTITIES = (heads.identity_predictor, with_parameter, with_data, interleaved, negative_first, scaled, rotated,
                    in_loops, loaded, TwoLayers, by_the_model, by_kron)  # fmt: skip


def changed(change):
    def make(dim):
        h = heads.identity_predictor(dim)
        with torch.no_grad():
            change(h)
        return h

    return make


def four_times_as_wide(dim):
    h = nn.Sequential(nn.Linear(dim, 4 * dim, bias=False), nn.ReLU(), nn.Linear(4 * dim, dim, bias=False))
    one = torch.eye(dim)
    h[0].weight.data = torch.cat([one, -one, one, -one])
    h[2].weight.data = torch.cat([one, -one, one, -one], 1) / 2
    return h


def residual(dim):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.widen, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
            nn.init.zeros_(self.narrow.weight)
            nn.init.zeros_(self.narrow.bias)

        def forward(self, z):
            return z + self.narrow(self.widen(z).relu())

    return Residual()


def unused_weights(dim):
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.widen, self.narrow = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

        def forward(self, z):
            return z.clone()

    return Unused()


def tied(dim):
    h = with_data(dim)
    h[2].weight.data = h[0].weight.data.T
    return h


def tied_parameter(dim):
    h = with_data(dim)
    h[2].weight = nn.Parameter(h[0].weight.detach().T)
    return h


WRONG_IDENTITIES = {
    "tied": tied,
    "tied parameter": tied_parameter,
    "nearly": changed(lambda h: h[2].weight.mul_(1.01)),
    "rows exchanged": changed(lambda h: h[2].weight.copy_(h[2].weight.flip(0))),
    "one sign": changed(lambda h: h[0].weight[0].neg_()),
    "a little bias": changed(lambda h: h[2].bias.fill_(0.01)),
    "leaky": lambda d: nn.Sequential(
        heads.identity_predictor(d)[0], nn.LeakyReLU(), heads.identity_predictor(d)[2]
    ),
    "four times": four_times_as_wide,
    "residual": residual,
    "unused weights": unused_weights,
    "dropout": lambda d: seq(*heads.identity_predictor(d), nn.Dropout(0.1)),
    "float64": lambda d: heads.identity_predictor(d).double(),
    "detached": lambda d: Detached(heads.identity_predictor(d)),
    "as built": lambda d: heads.predictor(d, 2 * d, hidden_bn=False),
    "with BN": lambda d: heads.predictor(d, 2 * d),
    "fixed size": lambda d: heads.identity_predictor(4),
    "normalised": lambda d: Normalised(heads.identity_predictor(d)),
    "in place": lambda d: seq(nn.ReLU(inplace=True), heads.identity_predictor(d)),
}


class Normalised(nn.Module):
    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, z: Tensor) -> Tensor:
        return F.normalize(self.inside(z), dim=1)


RIGHT = [
    *((PROJECTOR, name, f) for name, f in RIGHT_PROJECTORS.items()),
    *((PREDICTOR, name, f) for name, f in RIGHT_PREDICTORS.items()),
    *((FORWARD, f.__name__, f) for f in RIGHT_FORWARDS),
    *((IDENTITY_PREDICTOR, f.__name__, f) for f in RIGHT_IDENTITIES),
]
WRONG = [
    *((PROJECTOR, name, f) for name, f in WRONG_PROJECTORS.items()),
    *((PREDICTOR, name, f) for name, f in WRONG_PREDICTORS.items()),
    *((FORWARD, name, f) for name, f in WRONG_FORWARDS.items()),
    *((IDENTITY_PREDICTOR, name, f) for name, f in WRONG_IDENTITIES.items()),
]


@pytest.mark.parametrize(("exercise", "name", "function"), RIGHT, ids=[f"{e.name}-{n}" for e, n, _ in RIGHT])
def test_a_right_answer_passes_however_it_is_written(exercise, name, function):
    verdict = judge(exercise, function)
    assert verdict.status == "passed", (verdict, verdict.yours, verdict.expected)


@pytest.mark.parametrize(("exercise", "name", "function"), WRONG, ids=[f"{e.name}-{n}" for e, n, _ in WRONG])
def test_a_wrong_answer_never_passes(exercise, name, function):
    assert judge(exercise, function).status == "failed"


class FirstInAList(nn.Module):
    def __init__(self, norm: nn.Module, inside: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.hidden, self.norms = inside, [norm, last]

    def forward(self, x: Tensor) -> Tensor:
        return self.norms[1](self.hidden[1](self.norms[0](self.hidden[0](x)).relu()))


def with_bn_in_a_list(a, b, c):
    return FirstInAList(nn.BatchNorm1d(b), seq(nn.Linear(a, b), nn.Linear(b, c)), bare_bn(c))


SAID = {
    "2.1 momentum": (PROJECTOR, WRONG_PROJECTORS["momentum 0"], "running averages do not follow"),
    "2.2 momentum": (PREDICTOR, WRONG_PREDICTORS["momentum 0"], "running averages do not follow"),
    "2.1 BN in a list": (PROJECTOR, with_bn_in_a_list, "as in a plain list"),
    "2.1 dropout": (PROJECTOR, WRONG_PROJECTORS["dropout"], "There is chance in it"),
    "2.2 dropout": (PREDICTOR, WRONG_PREDICTORS["dropout"], "There is chance in it"),
    "2.2 leaky": (PREDICTOR, WRONG_PREDICTORS["leaky"], "Something beside Linear, BN, ReLU, Linear"),
    "2.3 z2 detached": (FORWARD, WRONG_FORWARDS["one z detached"], "z2 is detached"),
    "2.3 zero_grad": (FORWARD, WRONG_FORWARDS["gradients set to zero"], "`zero_grad`"),
    "2.4 tied": (IDENTITY_PREDICTOR, tied, "share their memory"),
    "2.4 tied parameter": (IDENTITY_PREDICTOR, tied_parameter, "share their memory"),
}


@pytest.mark.parametrize(("exercise", "function", "because"), SAID.values(), ids=SAID)
def test_what_is_said_of_a_wrong_answer_is_true(exercise, function, because):
    verdict = judge(exercise, function)
    assert verdict.status == "failed" and because in verdict.cause, (verdict, verdict.yours)


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_the_verdict_does_not_hang_on_the_random_weights(layers, seed):
    def unlucky(a, b, c):
        torch.randn(seed)
        return heads.projector(a, b, c, layers=layers)

    assert judge(PROJECTOR, unlucky).status == "passed"
    assert (
        judge(PREDICTOR, lambda d, n: torch.randn(seed) is None or heads.predictor(d, n)).status == "passed"
    )


def test_the_numbers_on_a_card_are_the_students():
    verdict = judge(PROJECTOR, lambda a, b, c: seq(block(a, b), nn.Linear(b, c), nn.BatchNorm1d(c)))
    assert "standard deviations from" in verdict.yours and "1.00 to 1.00" in verdict.expected
    assert "affine=False" in verdict.cause


def test_the_loss_of_z_with_itself_is_minus_one_with_the_identity_predictor():
    z = torch.randn(64, 32)
    assert negative_cosine(heads.identity_predictor(32)(z), z).item() == pytest.approx(-1, abs=1e-6)
