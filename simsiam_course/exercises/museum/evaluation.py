"""Rooms 11.5 to 11.8: what was wrong in the evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...model import SimSiam
from ..core import Exercise, Fact, Function, Suspect, kind_and_shape
from ..training import value
from .training import norms_of

# ---- 11.5 a frozen backbone in train mode


def probe_pass_found(backbone: nn.Module, line: nn.Module, optimizer: Any, batches: list) -> float:
    """One pass of training a linear layer on a frozen backbone; the mean loss of the batches."""
    net = nn.Sequential(backbone, line).train()
    total = 0.0
    for x, y in batches:
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


def probe_pass(backbone: nn.Module, line: nn.Module, optimizer: Any, batches: list) -> float:
    """One pass of training a linear layer on a frozen backbone; the mean loss of the batches."""
    net = nn.Sequential(backbone, line).train()
    backbone.eval()
    total = 0.0
    for x, y in batches:
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


def frozen_backbone() -> nn.Sequential:
    """A small frozen backbone with batch norm and dropout, in train mode: (B, 3, 4, 4) -> (B, 6)."""
    norm = nn.BatchNorm2d(6)
    nn.init.uniform_(norm.get_buffer("running_mean"), -0.5, 0.5)
    parts = (nn.Conv2d(3, 6, 3), norm, nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*parts).requires_grad_(False)


def _probe(sizes: Iterable[int] = (8, 8, 5)) -> tuple[nn.Module, nn.Linear, Any, list[tuple[Tensor, Tensor]]]:
    """A backbone, a line, its optimiser and batches."""
    backbone, line = frozen_backbone(), nn.Linear(6, 3)
    batches = [(2 * torch.randn(n, 3, 4, 4) + 1, torch.arange(n) % 3) for n in sizes]
    return backbone, line, torch.optim.SGD(line.parameters(), lr=0.5), batches


def _mean_loss(f: Function) -> Any:
    found = f(*_probe())
    return float(found) if isinstance(found, (int, float)) else value(found)


def _loss_kind(f: Function) -> Any:
    found = _mean_loss(f)
    return "one number" if isinstance(found, float) else found


def _averages_rest(f: Function) -> str:
    backbone, *others = _probe()
    before = {name: b.clone() for name, b in backbone.named_buffers()}
    f(backbone, *others)
    moved = [name for name, b in backbone.named_buffers() if not torch.equal(b, before[name])]
    return f"moved: {', '.join(moved)}" if moved else "they have not moved"


def _features_rest(f: Function) -> bool:
    backbone, line, optimizer, batches = _probe()
    before = deepcopy(backbone).eval()(batches[0][0])
    f(backbone, line, optimizer, batches)
    return torch.allclose(before, backbone.eval()(batches[0][0]), atol=1e-6)


def _weights_rest(f: Function) -> dict[str, bool]:
    backbone, *others = _probe()
    before = {name: w.clone() for name, w in backbone.named_parameters()}
    f(backbone, *others)
    kept = all(torch.equal(w, before[name]) for name, w in backbone.named_parameters())
    return {"as they were": kept, "frozen": not any(w.requires_grad for w in backbone.parameters())}


def _line_learns(f: Function) -> list[Tensor]:
    backbone, line, optimizer, batches = _probe()
    f(backbone, line, optimizer, batches)
    return [line.weight.detach().clone(), line.bias.detach().clone()]


def _old_gradients(f: Function) -> list[Tensor]:
    """What is learned where gradients of an earlier pass are still there."""
    backbone, line, optimizer, batches = _probe()
    for w in line.parameters():
        w.grad = torch.full_like(w, 10.0)
    f(backbone, line, optimizer, batches)
    return [line.weight.detach().clone()]


def _batches_rest(f: Function) -> bool:
    backbone, line, optimizer, batches = _probe()
    before = [x.clone() for x, _ in batches]
    f(backbone, line, optimizer, batches)
    return len(batches) == 3 and all(torch.equal(a, x) for a, (x, _) in zip(before, batches, strict=True))


def _switches_rest(f: Function) -> dict[str, Any]:
    backbone, *others = _probe()
    f(backbone, *others)
    rates = [part.p for part in backbone.modules() if isinstance(part, nn.Dropout)]
    return {"rates of dropout": rates, "gradients are recorded": torch.is_grad_enabled()}


def probing(
    *,
    prepare: Callable[[nn.Module, nn.Module], Any] = lambda backbone, line: backbone.eval(),
    zero: Callable[[Any], Any] = lambda optimizer: optimizer.zero_grad(),
    step: Callable[[Any], Any] = lambda optimizer: optimizer.step(),
    end: Callable[[list[float]], Any] = lambda losses: sum(losses) / len(losses),
    which: Callable[[list], list] = lambda batches: batches,
) -> Function:
    """A `probe_pass` with one of its parts exchanged for a wrong one."""

    def wrong(backbone: nn.Module, line: nn.Module, optimizer: Any, batches: list) -> Any:
        prepare(backbone, line)
        losses = []
        for x, y in which(batches):
            loss = F.cross_entropy(line(backbone(x)), y)
            zero(optimizer)
            loss.backward()
            step(optimizer)
            losses.append(loss.item())
        return end(losses)

    return wrong


def _norms_in_eval(backbone: nn.Module, line: nn.Module) -> None:
    backbone.train()
    for part in norms_of(backbone):
        part.eval()


def _no_momentum(backbone: nn.Module, line: nn.Module) -> None:
    backbone.train()
    for part in norms_of(backbone):
        part.momentum = 0.0  # type: ignore[assignment]


def _dropout_to_zero(backbone: nn.Module, line: nn.Module) -> None:
    for part in backbone.train().modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    _norms_in_eval(backbone, line)


def _put_back(backbone: nn.Module, line: nn.Module, optimizer: Any, batches: list) -> float:
    state = deepcopy(backbone.state_dict())
    found = probe_pass_found(backbone, line, optimizer, batches)
    backbone.load_state_dict(state)
    return found


def _switched_off(losses: list[float]) -> float:
    torch.set_grad_enabled(False)
    return sum(losses) / len(losses)


def _too_late(backbone: nn.Module, line: nn.Module, optimizer: Any, batches: list) -> float:
    found = probe_pass_found(backbone, line, optimizer, batches[:1])
    rest = probing()(backbone, line, optimizer, batches[1:])
    return (found + 2 * rest) / 3


PROBE_PASS = Exercise(
    "11.5",
    "probe_pass",
    probe_pass,
    facts=[
        Fact("It gives one number.", _loss_kind),
        Fact("Frozen means all of it: the running averages of the backbone's BN are as they were.", _averages_rest),
        Fact("The weights of the backbone are as they were, and still frozen.", _weights_rest),
        Fact("An image's features are the same before and after.", _features_rest),
        Fact("The loss is that of features in eval mode: no statistics of the batch, no dropout.", _mean_loss),
        Fact("The linear layer has learned from every batch, one step for each.", _line_learns),
        Fact("Gradients that were there before count for nothing: they are set to zero.", _old_gradients),
        Fact("The batches stay as they were.", _batches_rest),
        Fact("The dropout of the backbone keeps its rate, and gradients are recorded afterwards.", _switches_rest),
    ],
    suspects=[
        Suspect("This is what was found here. `requires_grad` is False for all weights of the backbone. What in it is "
                "no weight, and moves in train mode all the same? If you have written an `eval()`: does a later line "
                "undo it?", probe_pass_found),
        Suspect("The running averages stand still now, but in train mode BN still normalises by the batch: an "
                "image's features depend on its neighbours.", probing(prepare=_no_momentum)),
        Suspect("The averages were put back at the end: during the pass the line still saw features of train mode.",
                _put_back),
        Suspect("Only the batch norms are in eval mode: a backbone may have dropout, too. Take all of it.",
                probing(prepare=_norms_in_eval)),
        Suspect("Dropout was switched off for good, by its rate: `backbone.eval()` is enough.",
                probing(prepare=_dropout_to_zero)),
        Suspect("Gradients stay switched off after the call: use `with torch.no_grad():`, if you need it at all.",
                probing(end=_switched_off)),
        Suspect("The first batch still went through in train mode: `eval()` comes before the loop.", _too_late),
        Suspect("The optimiser's step is gone: nothing learns.", probing(step=lambda optimizer: None)),
        Suspect("`zero_grad()` is gone: each step follows the sum of all gradients so far.",
                probing(zero=lambda optimizer: None)),
        Suspect("That is the loss of the last batch: the mean over the batches was asked for.",
                probing(end=lambda losses: losses[-1])),
        Suspect("That is the sum of the losses: divide by the number of batches.", probing(end=sum)),
        Suspect("The last batch is left out.", probing(which=lambda batches: batches[:-1])),
    ],
    hints=(
        "A frozen network has weights that do not move. But batch norm also has averages, which are no weights and "
        "have no gradient.",
        "`.train()` sets the mode of every submodule, the backbone's too. `backbone.eval()` sets it for the backbone.",
        "`backbone.eval()`, in a line of its own below `net = ...`; above it, `.train()` would undo it.",
    ),
    exhibit=probe_pass_found,
)  # fmt: skip


# ---- 11.6 an attribute that nobody reads


def frozen_classifier_found(backbone: nn.Module, features: int, classes: int, lr: float = 0.003) -> Any:
    """A linear classifier on a frozen backbone, and the optimiser of what is to learn."""
    backbone.eval()
    for parameter in backbone.parameters():
        parameter.requres_grad = False  # type: ignore[attr-defined]
    net = nn.Sequential(backbone, nn.Linear(features, classes))
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return net, torch.optim.Adam(learning, lr=lr)


def frozen_classifier(backbone: nn.Module, features: int, classes: int, lr: float = 0.003) -> Any:
    """A linear classifier on a frozen backbone, and the optimiser of what is to learn."""
    backbone.eval()
    for parameter in backbone.parameters():
        parameter.requires_grad = False
    net = nn.Sequential(backbone, nn.Linear(features, classes))
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return net, torch.optim.Adam(learning, lr=lr)


def open_backbone() -> nn.Sequential:
    """A small backbone whose weights ask for gradients: (B, 3, 4, 4) -> (B, 6)."""
    parts = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*parts)


def _images(count: int = 12) -> Tensor:
    return torch.randn(count, 3, 4, 4)


def _classifier_kinds(f: Function) -> Any:
    made = f(open_backbone(), 6, 3)
    if not isinstance(made, (tuple, list)) or len(made) != 2:
        return kind_and_shape(made)
    net, optimizer = made
    right = isinstance(net, nn.Module), isinstance(optimizer, torch.optim.Optimizer)
    return [
        kind_and_shape(net(_images())) if right[0] else kind_and_shape(net),
        "an optimiser" if right[1] else kind_and_shape(optimizer),
    ]


def _learning(optimizer: Any) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _numbers_learning(f: Function) -> int:
    _, optimizer = f(open_backbone(), 6, 3)
    return sum(p.numel() for p in _learning(optimizer))


def _still_asking(f: Function) -> dict[str, int]:
    backbone = open_backbone()
    f(backbone, 6, 3)
    return {"of 4 weights ask for a gradient": sum(p.requires_grad for p in backbone.parameters())}


def _trained(f: Function) -> dict[str, bool]:
    backbone = open_backbone()
    net, optimizer = f(backbone, 6, 3)
    before = {name: t.clone() for name, t in backbone.state_dict().items()}
    line = [p.detach().clone() for p in _learning(optimizer)]
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(net(_images()), torch.arange(12) % 3).backward()
        optimizer.step()
    now = backbone.state_dict()
    learned = [not torch.equal(p, old) for p, old in zip(_learning(optimizer), line, strict=True)]
    return {
        "the backbone is as it was": all(torch.equal(now[name], t) for name, t in before.items()),
        "the line has learned": all(learned) and bool(learned),
    }


def _rates(f: Function) -> list[list[float]]:
    given = (f(open_backbone(), 6, 3), f(open_backbone(), 6, 3, lr=0.25))
    return [[group["lr"] for group in optimizer.param_groups] for _, optimizer in given]


def _same_backbone(f: Function) -> dict[str, bool]:
    """Whether the net is this backbone with a linear layer on it, and no copy."""
    backbone, x = open_backbone(), _images()
    net, optimizer = f(backbone, 6, 3)
    mine, all_of_it = {id(p) for p in backbone.parameters()}, {id(p) for p in net.parameters()}
    with torch.no_grad():
        y = net(x)
        design = F.pad(deepcopy(backbone).eval()(x), (0, 1), value=1.0).double()
        rest = y.double() - design @ torch.linalg.lstsq(design, y.double()).solution
    return {
        "the backbone is in it": mine <= all_of_it,
        "linear in its features": bool(rest.abs().max() < 1e-4),
    }


def _backbone_mode(f: Function) -> list[bool]:
    backbone = open_backbone()
    f(backbone, 6, 3)
    return [part.training for part in backbone.modules()]


def _strays(f: Function) -> str:
    """Attributes that nobody reads, where they froze nothing."""
    backbone, fresh = open_backbone(), open_backbone()
    f(backbone, 6, 3)
    if not any(p.requires_grad for p in backbone.parameters()):
        return "none that matter"
    names = {name for part in (*backbone.modules(), *backbone.parameters()) for name in vars(part)}
    known = {name for part in fresh.modules() for name in vars(part)}
    return ", ".join(sorted(names - known)) or "none"


def _asking(net: nn.Module) -> list[Tensor]:
    return [weight for weight in net.parameters() if weight.requires_grad]


def classifying(
    *,
    freeze: Callable[[nn.Module], Any] = lambda backbone: backbone.requires_grad_(False),
    late: Callable[[nn.Module, nn.Module], Any] = lambda backbone, net: None,
    choose: Callable[[nn.Module], Any] = _asking,
    copy: Callable[[nn.Module], nn.Module] = lambda backbone: backbone,
    mode: Callable[[nn.Module], Any] = lambda backbone: backbone.eval(),
    rate: Callable[[float], float] = lambda lr: lr,
) -> Function:
    """A `frozen_classifier` with one of its parts exchanged for a wrong one."""

    def wrong(backbone: nn.Module, features: int, classes: int, lr: float = 0.003) -> Any:
        backbone = copy(backbone)
        mode(backbone)
        freeze(backbone)
        net = nn.Sequential(backbone, nn.Linear(features, classes))
        optimizer = torch.optim.Adam(choose(net), lr=rate(lr))
        late(backbone, net)
        return net, optimizer

    return wrong


def _set(name: str, of: Callable[[nn.Module], Iterable[Any]]) -> Callable[[nn.Module], None]:
    def freeze(backbone: nn.Module) -> None:
        for thing in of(backbone):
            setattr(thing, name, False)

    return freeze


def _weights_alone(backbone: nn.Module) -> None:
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(not name.endswith("weight"))


def _last_of(net: nn.Module) -> Any:
    return list(net.children())[-1].parameters()


FROZEN_CLASSIFIER = Exercise(
    "11.6",
    "frozen_classifier",
    frozen_classifier,
    facts=[
        Fact("It gives a network and an optimiser; 12 images give a tensor of shape (12, 3).", _classifier_kinds),
        Fact("What learns is the line on 6 features for 3 classes, and nothing else: 6 x 3 + 3 = 21 numbers.",
             _numbers_learning),
        Fact("No weight of the backbone asks for a gradient.", _still_asking),
        Fact("After three steps of training the backbone is as it was, and the line is not.", _trained),
        Fact("The learning rate is the one that was given, by default 0.003.", _rates),
        Fact("It is this backbone, and no copy of it, with a linear layer behind it.", _same_backbone),
        Fact("The backbone is in eval mode.", _backbone_mode),
        Fact("Nothing was written to an attribute that nobody reads.", _strays),
    ],
    suspects=[
        Suspect("This is what was found here. Print `parameter.requires_grad` before and after the loop: has it "
                "changed?", frozen_classifier_found),
        Suspect("A module has no `requires_grad`: the assignment makes a new attribute. Set it for each parameter, "
                "or call `backbone.requires_grad_(False)`.",
                classifying(freeze=_set("requires_grad", lambda backbone: [backbone]))),
        Suspect("Nothing was switched: `==` compares, `detach()` gives a new tensor, and a name without an "
                "assignment changes nothing.", classifying(freeze=lambda backbone: None)),
        Suspect("Everything is frozen now, the line, too: freeze before the line is made, or the backbone alone.",
                classifying(choose=lambda net: _asking(net.requires_grad_(False)))),
        Suspect("The optimiser was given all weights, before they were frozen or without asking who learns.",
                classifying(freeze=lambda backbone: None, late=lambda backbone, net: backbone.requires_grad_(False))),
        Suspect("The optimiser has the line alone, but the backbone still asks for gradients, and pays for them: "
                "freeze it.", classifying(freeze=lambda backbone: None, choose=_last_of)),
        Suspect("Only the parameters called weight are frozen: a bias can learn, too.",
                classifying(freeze=_weights_alone)),
        Suspect("A copy of the backbone was frozen: the one that came in still asks for gradients.",
                classifying(copy=deepcopy)),
        Suspect("The backbone is in train mode: then its running averages move (room 11.5).",
                classifying(mode=lambda backbone: backbone.train())),
        Suspect("The learning rate is a fixed one: it is an argument.", classifying(rate=lambda lr: 0.003)),
    ],
    hints=(
        "The optimiser was given a list. How many numbers should be in it, and how many are? Which line was to keep "
        "the others out?",
        "Python lets you give an object any attribute: a misspelt one is no error, but a new attribute. Read the "
        "loop's assignment aloud, letter by letter.",
        "`parameter.requires_grad = False`; safer is `backbone.requires_grad_(False)` instead of the loop.",
    ),
    exhibit=frozen_classifier_found,
)  # fmt: skip


# ---- 11.7 the monitor looks at p


def collapse_level_found(model: SimSiam, x: Tensor) -> float:
    """How far the outputs have collapsed: 0 is healthy, 1 is the same output for every image."""
    z = model.encode(x)
    p = model.predictor(z)
    output = F.normalize(p.detach(), dim=1)
    std = output.std(dim=0, correction=0).mean().item()
    level = 1 - std * math.sqrt(output.shape[1])
    return max(0.0, level)


def collapse_level(model: SimSiam, x: Tensor) -> float:
    """How far the outputs have collapsed: 0 is healthy, 1 is the same output for every image."""
    z = model.encode(x)
    output = F.normalize(z.detach(), dim=1)
    std = output.std(dim=0, correction=0).mean().item()
    level = 1 - std * math.sqrt(output.shape[1])
    return max(0.0, level)


class Constant(nn.Module):
    """The same p for every z; its bias can learn."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(dim))

    def forward(self, z: Tensor) -> Tensor:
        return 0 * z + self.bias


def given(predictor: nn.Module | None = None, projector: nn.Module | None = None) -> SimSiam:
    """A model whose z are the numbers of the images themselves, (B, 3, 1, n) -> (B, 3 n)."""
    return SimSiam(nn.Flatten(), projector or nn.Identity(), predictor or nn.Identity())


def _level(f: Function, model: SimSiam, z: Tensor) -> Any:
    """The level of a model for images that are these z, (B, 3 n)."""
    found = f(model, z.clone().view(len(z), 3, 1, -1))
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else value(found)


def _round(rows: int = 600, channels: int = 6) -> Tensor:
    return torch.randn(rows, channels)


LINE = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]).repeat(5, 1)
CORNERS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 0.1]])


def _level_kind(f: Function) -> str:
    found = _level(f, given(), CORNERS)
    return "one number" if isinstance(found, float) else str(found)


def _nearly_equal(rows: int = 64) -> Tensor:
    return torch.tensor([3.0, 1.0, -2.0, 0.5, 1.0, -1.0]) + 1e-3 * torch.randn(rows, 6)


def _in_its_mode(f: Function) -> dict[str, Any]:
    """The level of nearly equal features under a fresh BN at the end of the projector, in both modes."""
    levels = {}
    for mode in ("train", "eval"):
        model = given(projector=nn.BatchNorm1d(6)).train(mode == "train")
        levels[f"in {mode} mode"] = _level(f, model, _nearly_equal())
    return levels


def _level_leaves(f: Function) -> dict[str, bool]:
    model, z = given(Constant(6)), _round(8)
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    _level(f, model, z)
    return {
        "weights": all(torch.equal(w, before[name]) for name, w in model.named_parameters()),
        "they can still learn": all(w.requires_grad and w.grad is None for w in model.parameters()),
        "gradients are recorded": torch.is_grad_enabled(),
        "the mode": model.training,
    }


def levelling(
    *,
    output: Callable[[SimSiam, Tensor], Tensor] = lambda model, x: model.encode(x),
    unit: Callable[[Tensor], Tensor] = lambda y: F.normalize(y, dim=1),
    spread: Callable[[Tensor], Tensor] = lambda u: u.std(dim=0, correction=0).mean(),
    level: Callable[[Tensor, Tensor], Any] = lambda std, u: max(0.0, 1 - std.item() * math.sqrt(u.shape[1])),
) -> Function:
    """A `collapse_level` with one of its parts exchanged for a wrong one."""

    def wrong(model: SimSiam, x: Tensor) -> Any:
        u = unit(output(model, x).detach())
        return level(spread(u), u)

    return wrong


def _both_outputs(model: SimSiam, x: Tensor) -> Tensor:
    z = model.encode(x)
    return torch.cat([z, model.predictor(z)])


def _in_eval_for_a_moment(model: SimSiam, x: Tensor) -> float:
    found = collapse_level(model.eval(), x)
    model.train()
    return found


COLLAPSE_LEVEL = Exercise(
    "11.7",
    "collapse_level",
    collapse_level,
    facts=[
        Fact("It gives one number.", _level_kind),
        Fact("z spread out in all directions is healthy, whatever the predictor makes of it: the level is near 0 "
             "although p is the same for every image.", lambda f: _level(f, given(Constant(6)), _round())),
        Fact("z nearly the same for every image has collapsed, whatever the predictor makes of it: the level is near "
             "1 although a BN in h blows the small differences up.",
             lambda f: _level(f, given(nn.BatchNorm1d(6)), _nearly_equal())),
        Fact("z = [[2, 0, 0], [0, 5, 0], [0, 0, 0.1]], three directions at right angles: the std of each channel is "
             "0.471, times the root of 3 it is 0.816, and the level 0.184.", lambda f: _level(f, given(), CORNERS)),
        Fact("It is 1 where all z are equal.", lambda f: _level(f, given(), torch.ones(8, 6))),
        Fact("It is 0 for z on a line, plus and minus: std is blind to that (lesson 05).",
             lambda f: _level(f, given(), LINE)),
        Fact("It is about z, what the projector gives, not about the features before it.",
             lambda f: _level(f, given(projector=Constant(6)), _round())),
        Fact("It holds for random z, far from the origin, too.", lambda f: _level(f, given(), _round(40) + 1)),
        Fact("A monitor looks at the network in the mode that it is in: in train mode a BN at the end of the projector "
             "holds z apart, in eval mode a fresh one does not.", _in_its_mode, tolerance=1e-3),
        Fact("The model is left as it was, and can still learn.", _level_leaves),
    ],
    suspects=[
        Suspect("This is what was found here. Two outputs are computed. Which of them does the paper's Fig. 2 watch?",
                collapse_level_found),
        Suspect("Both outputs went into one std: a healthy z would hide a dead p, and the other way round.",
                levelling(output=_both_outputs)),
        Suspect("These are the backbone's features: collapse is measured on z, `model.encode(x)`.",
                levelling(output=lambda model, x: model.features(x))),
        Suspect("The rows have no length 1 any more: std would follow the length of z.",
                levelling(unit=lambda y: y)),
        Suspect("The rows were normalised over the batch, dim=0: a row is one image, dim=1.",
                levelling(unit=lambda y: F.normalize(y, dim=0))),
        Suspect("The std is over the channels of an image now (dim=1): it is to be over the images, dim=0.",
                levelling(spread=lambda u: u.std(dim=1, correction=0).mean())),
        Suspect("That is the std of all entries together: it is large for one constant vector, too. Each channel has "
                "its own, then comes the mean.", levelling(spread=lambda u: u.std(correction=0))),
        Suspect("The root of the number of channels is missing.",
                levelling(level=lambda std, u: max(0.0, 1 - std.item()))),
        Suspect("That is the std, 1 for health: the level is 1 minus it.",
                levelling(level=lambda std, u: std.item() * math.sqrt(u.shape[1]))),
        Suspect("`eval()` was called: a monitor looks at the network in the mode that it is in.",
                levelling(output=lambda model, x: model.eval().encode(x))),
        Suspect("`eval()` was called, and `train()` after it: a monitor looks at the network in the mode that it is "
                "in.", _in_eval_for_a_moment),
        Suspect("It divides by N - 1 now: keep `correction=0`, or small batches look healthier than they are.",
                levelling(spread=lambda u: u.std(dim=0).mean())),
    ],
    hints=(
        "p is made from z by the predictor, and the predictor has a life of its own. Which output is it that must not "
        "collapse?",
        "Fig. 2 of the paper shows the std of the normalised output of the encoder f, the projection z.",
        "`output = F.normalize(z.detach(), dim=1)`; the line with p can go.",
    ),
    exhibit=collapse_level_found,
)  # fmt: skip


# ---- 11.8 the last batch is missing


def feature_bank_found(model: SimSiam, images: Tensor, batch_size: int = 256) -> Tensor:
    """The backbone's features of every image, batch by batch: row i belongs to image i."""
    bank = torch.zeros(len(images), model.dims.backbone)  # type: ignore[union-attr]
    with torch.no_grad():
        for i in range(len(images) // batch_size):
            rows = slice(i * batch_size, (i + 1) * batch_size)
            bank[rows] = model.features(images[rows]).cpu()
    return bank


def feature_bank(model: SimSiam, images: Tensor, batch_size: int = 256) -> Tensor:
    """The backbone's features of every image, batch by batch: row i belongs to image i."""
    bank = torch.zeros(len(images), model.dims.backbone)  # type: ignore[union-attr]
    with torch.no_grad():
        for i in range(math.ceil(len(images) / batch_size)):
            rows = slice(i * batch_size, (i + 1) * batch_size)
            bank[rows] = model.features(images[rows]).cpu()
    return bank


def bank_model() -> SimSiam:
    """A small SimSiam with batch norm, in eval mode: 6 features, z of 8."""
    norm = nn.BatchNorm2d(6)
    nn.init.uniform_(norm.get_buffer("running_mean"), -0.5, 0.5)
    backbone = nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return SimSiam.create(backbone, 6, 8, 8, 4).eval()


def _fixed(count: int) -> Tensor:
    return torch.randn(count, 3, 4, 4)


def _empty_rows(f: Function) -> dict[str, list[int]]:
    """Which rows are zero, for 10 images, 9, 8 and 3 in batches of 4."""
    counts = {}
    for n in (10, 9, 8, 3):
        bank = f(bank_model(), _fixed(n), batch_size=4)
        counts[f"rows of 0 for {n} images"] = (bank == 0).all(dim=1).nonzero()[:, 0].tolist()
    return counts


def _bank_shapes(f: Function) -> list[Any]:
    sizes = [kind_and_shape(f(bank_model(), _fixed(n), batch_size=4)) for n in (10, 3, 1)]
    return [*sizes, kind_and_shape(f(bank_model(), _fixed(5)))]


def _bank_values(f: Function) -> Tensor:
    return f(bank_model(), _fixed(11), batch_size=4)


def _largest_batch(f: Function) -> str:
    model, sizes = bank_model(), [0]
    model.backbone.register_forward_pre_hook(lambda _, images: sizes.append(len(images[0])))
    f(model, _fixed(30), batch_size=4)
    return "at most 4" if max(sizes) <= 4 else str(max(sizes))


def _bank_leaves(f: Function) -> dict[str, bool]:
    model = bank_model()
    model.predictor.requires_grad_(False)
    asked = [w.requires_grad for w in model.parameters()]
    bank = f(model, _fixed(6), batch_size=4)
    return {
        "the features know no gradient": not bank.requires_grad,
        "gradients are recorded": torch.is_grad_enabled(),
        "the same weights can learn": [w.requires_grad for w in model.parameters()] == asked,
        "eval mode": not any(part.training for part in model.modules()),
    }


def banking(
    *,
    starts: Callable[[int, int], Iterable[int]] = lambda n, size: range(0, n, size),
    look: Callable[[SimSiam, Tensor], Tensor] = lambda model, x: model.features(x),
    end: Callable[[Tensor, int, int], Tensor] = lambda bank, n, size: bank,
    mode: Callable[[], Any] = torch.no_grad,
) -> Function:
    """A `feature_bank` with one of its parts exchanged for a wrong one."""

    def wrong(model: SimSiam, images: Tensor, batch_size: int = 256) -> Tensor:
        n = len(images)
        with mode():
            bank = torch.zeros(n, look(model, images[:2]).shape[1])
            for i in starts(n, batch_size):
                bank[i : i + batch_size] = look(model, images[i : i + batch_size])
        return end(bank, n, batch_size)

    return wrong


def _one_more(n: int, size: int) -> Iterable[int]:
    return range(0, n + size, size)


def _full_batches(n: int, size: int) -> Iterable[int]:
    return range(0, n - n % size, size)


def _all_but_last(n: int, size: int) -> Iterable[int]:
    return range(0, n - size, size)


def _overlapping(model: SimSiam, images: Tensor, batch_size: int = 256) -> Tensor:
    """The last rows are filled with features that are there already."""
    bank = feature_bank_found(model, images, batch_size)
    empty = (bank == 0).all(dim=1)
    if not empty.all():
        bank[empty] = bank[~empty][-1]
    return bank


def _all_at_once(model: SimSiam, images: Tensor, batch_size: int = 256) -> Tensor:
    with torch.no_grad():
        return model.features(images)


def _as_many_batches(model: SimSiam, images: Tensor, batch_size: int = 256) -> Tensor:
    with torch.no_grad():
        return torch.cat([model.features(x) for x in images.chunk(batch_size)])


def _turned(model: SimSiam, images: Tensor, batch_size: int = 256) -> Tensor:
    with torch.no_grad():
        return torch.cat([model.features(x) for x in images.split(batch_size)][::-1])


FEATURE_BANK = Exercise(
    "11.8",
    "feature_bank",
    feature_bank,
    facts=[
        Fact("For 8 images in batches of 4 it gives a tensor of shape (8, 6).",
             lambda f: kind_and_shape(f(bank_model(), _fixed(8), batch_size=4))),
        Fact("There is a row for every image: 10, 3 and 1 images in batches of 4 give 10, 3 and 1 rows, and 5 images "
             "in batches of the default size give 5.", _bank_shapes),
        Fact("Every image has features: no row is 0.", _empty_rows),
        Fact("Row i belongs to image i.", _bank_values),
        Fact("At most `batch_size` images, here 4, go through the backbone at a time.", _largest_batch),
        Fact("The model is left as it was, and no gradient was recorded.", _bank_leaves),
    ],
    suspects=[
        Suspect("This is what was found here. For 10 images in batches of 4: what is `10 // 4`, and which rows does "
                "the loop write?", feature_bank_found),
        Suspect("The empty rows were cut off: now the last images have no features at all, and labels are left over.",
                banking(starts=_full_batches, end=lambda bank, n, size: bank[: n - n % size])),
        Suspect("The last batch is missing even where it is full: `range` leaves its end out.",
                banking(starts=_all_but_last)),
        Suspect("There is one batch too many: where the batches fit exactly, the last one is empty.",
                banking(starts=_one_more)),
        Suspect("The empty rows were filled with another image's features: the last images have their own.",
                _overlapping),
        Suspect("The batches came back in the wrong order: row i must belong to image i.", _turned),
        Suspect("These are projections z: a feature bank holds what the backbone gives.",
                banking(look=lambda model, x: model.encode(x))),
        Suspect("All images went in at once: that needs memory for all of them.", _all_at_once),
        Suspect("`batch_size` was taken for the number of batches (`chunk`): `split` takes the images in a batch.",
                _as_many_batches),
        Suspect("Gradients were recorded: the bank then holds on to every layer of every batch.",
                banking(mode=torch.enable_grad)),
    ],
    hints=(
        "Take 10 images and batches of 4, and write down which rows are filled.",
        "`//` rounds down. The number of batches is to be rounded up: `math.ceil(...)`; a slice may run over the end.",
        "`for i in range(math.ceil(len(images) / batch_size)):`",
    ),
    exhibit=feature_bank_found,
)  # fmt: skip

EXERCISES = (PROBE_PASS, FROZEN_CLASSIFIER, COLLAPSE_LEVEL, FEATURE_BANK)
