"""Lesson 08: SimCLR's loss, a target network that follows, and channels that must not repeat one another."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..relatives import losses, targets
from .core import MIXED, Exercise, Fact, Function, Suspect, elsewhere, gradients, place, unchanged
from .loss import CALLED, backward, in_float64, kind, left_alone, number, pair

# ---- 8.1

T = 0.5  # a temperature for where it does not matter which
ONES = torch.ones(3, 4)
LENGTHS = torch.tensor([[0.2], [7.0]])
SQUARE = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # two images at right angles


def at(temperature: float, *views: Tensor) -> Function:
    """The loss of these two views, or of a random pair."""
    return lambda f: number(f(*(view.clone() for view in views or pair(7, 11)), temperature))


def plain(f: Function) -> Function:
    """The loss as a function of the views alone."""
    return lambda z1, z2: f(z1, z2, T)


def _other_lengths(f: Function) -> list[Any]:
    return [number(f(z1, z2, 1.0)) for z1, z2 in ((SQUARE, SQUARE), (SQUARE * LENGTHS, SQUARE / LENGTHS))]


def _whose_negatives(f: Function) -> list[Any]:
    """Two images whose first views are alike; then two whose views 1 and 2 are alike across the images."""
    alike, turned = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    return [number(f(z1, z2, 1.0)) for z1, z2 in ((alike, turned), (turned, turned.flip(0)))]


def _other_order(f: Function) -> list[Any]:
    """The loss, with the images in another order, and with the views exchanged."""
    z1, z2 = (z.detach() for z in pair())
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    return [number(f(*views, T)) for views in ((z1, z2), (z1[order], z2[order]), (z2, z1))]


def _two_views_of_one(f: Function) -> list[Any]:
    """A batch of one has one candidate, the partner, even where nothing could be farther away."""
    z = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    return [number(f(z, other, 0.1)) for other in (2 * z, -z)]


def _gradients_of_views(f: Function) -> dict[str, str]:
    z1, z2 = pair()
    return gradients(f(z1, z2, T), z1=z1, z2=z2)


def _gradient_values(f: Function) -> list[Any]:
    z1, z2 = pair()
    return list(torch.autograd.grad(f(z1, z2, T), [z1, z2]))


def nt_xent_solution(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    z = F.normalize(torch.cat([z1, z2]), dim=1)  # (2 B, D), each row of length 1
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)  # (2 B, 2 B)
    logits = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(z1))  # row i of z1 belongs to row i of z2
    return F.cross_entropy(logits, partner)


def contrast(
    *,
    unit: Function = lambda z: F.normalize(z, dim=1),
    keys: Function = lambda z: z,
    scale: Function = lambda cosines, temperature: cosines / temperature,
    masked: float | None = -torch.inf,
    shift: int | None = None,
    of: Function = F.cross_entropy,
) -> Function:
    """An NT-Xent with one of its parts exchanged for a wrong one; `shift`: how far away the partner's row is."""

    def wrong(z1: Tensor, z2: Tensor, temperature: float) -> Any:
        z = unit(torch.cat([z1, z2]))
        logits = scale(z @ keys(z).T, temperature)
        if masked is not None:
            logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), masked)
        partner = torch.arange(len(z), device=z.device).roll(len(z1) if shift is None else shift)
        return of(logits, partner)

    return wrong


def _picked(logits: Tensor, partner: Tensor) -> Tensor:
    """What each row says of its partner, (2 B,)."""
    return logits[torch.arange(len(logits), device=logits.device), partner]


def _without_partner(logits: Tensor, partner: Tensor) -> Tensor:
    where = F.one_hot(partner, len(logits)).bool()
    return (logits.masked_fill(where, -torch.inf).logsumexp(dim=1) - _picked(logits, partner)).mean()


def _partner_twice(logits: Tensor, partner: Tensor) -> Tensor:
    right = _picked(logits, partner)
    return F.cross_entropy(torch.cat([right[:, None], logits], dim=1), torch.zeros_like(partner))


def _mean_of_negatives(logits: Tensor, partner: Tensor) -> Tensor:
    where = F.one_hot(partner, len(logits)).bool()
    others = logits.masked_fill(where, -torch.inf).exp().sum(dim=1) / (len(logits) - 2)
    right = _picked(logits, partner)
    return ((right.exp() + others).log() - right).mean()


def _other_view_only(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    logits = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T / temperature  # (B, B)
    partner = torch.arange(len(z1), device=z1.device)
    return (F.cross_entropy(logits, partner) + F.cross_entropy(logits.T, partner)) / 2


def _other_view_one_way(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    logits = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(z1), device=z1.device))


def _view_1_only(logits: Tensor, partner: Tensor) -> Tensor:
    half = len(logits) // 2
    return F.cross_entropy(logits[:half], partner[:half])


def _in_place(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    for z in (z1.detach(), z2.detach()):
        z /= z.norm(dim=1, keepdim=True)
    return nt_xent_solution(z1, z2, temperature)


def _under_no_grad(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    return nt_xent_solution(z1.detach(), z2.detach(), temperature)


NT_XENT = Exercise(
    "8.1",
    "nt_xent",
    losses.nt_xent,
    facts=[
        Fact("For z1 and z2 of shape (6, 5) it gives one number, a tensor of shape ().",
             lambda f: kind(f(*pair(), T))),
        Fact("Two images at right angles, [1, 0] and [0, 1], the same in both views: each row has the cosine 1 with "
             "its partner and 0, 0 with the two others. With temperature 1 the loss is -log(e / (e + 2)) = 0.551.",
             at(1.0, SQUARE, SQUARE)),
        Fact("With temperature 0.5 the same images have the logits 2, 0, 0 and the loss 0.239.", at(T, SQUARE, SQUARE)),
        Fact("Only directions count: with rows of other lengths the loss is still 0.551.", _other_lengths),
        Fact("If all outputs are the same, each of the 2B - 1 candidates is as likely: for 3 images log 5 = 1.609.",
             at(T, ONES, ONES)),
        Fact("Candidates are the other images of both views: of the own view as well as of the other one.",
             _whose_negatives),
        Fact("The order of the images does not count, nor which view is called the first.", _other_order),
        Fact("A partner on the far side, with another image in its place, costs the full price: 20 with temperature "
             "0.1.",
             at(0.1, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))),
        Fact("It holds for random z1 and z2 and several temperatures.",
             lambda f: [at(temperature)(f) for temperature in (0.2, 1.0, 3.0)]),
        Fact("A batch of one has one candidate, its partner: the loss is 0, even where the two views point in opposite "
             "directions.",
             _two_views_of_one, tolerance=1e-6),
        Fact("z1 and z2 stay as they were: nothing is changed in place.",
             lambda f: unchanged(plain(f), *(z.detach() for z in pair()))),
        Fact("Both views receive a gradient: nothing is a target here.", _gradients_of_views),
        Fact("The gradient is that of the loss, with every row as query and as candidate.", _gradient_values),
        Fact("The loss is returned, and nothing else happens: no `backward()`, no switch left off, no hook.",
             lambda f: left_alone(plain(f), *pair())),
        Fact("float64 in, float64 out, and float64 all the way.",
             lambda f: in_float64(plain(f), *pair(dtype=torch.float64))),
        Fact("It computes where z1 and z2 are: no `.cpu()`, no tensor made on another device.",
             lambda f: elsewhere(f, *pair(), T)),
    ],
    suspects=[
        Suspect("The rows are not of length 1: start with `F.normalize(torch.cat([z1, z2]), dim=1)`.",
                contrast(unit=lambda z: z)),
        Suspect("It was normalised over the batch (dim=0). A row is one image: use dim=1.",
                contrast(unit=lambda z: F.normalize(z, dim=0))),
        Suspect("Every row is among its own candidates, and its cosine with itself is 1, which nobody can beat: give "
                "the diagonal the logit minus infinity.",
                contrast(masked=None)),
        Suspect("The diagonal was set to 0, and a logit of 0 still counts, since exp(0) = 1: set it to minus infinity.",
                contrast(masked=0.0)),
        Suspect("The diagonal of the cosines was set to -1, which is a direction like others: minus infinity takes a "
                "candidate out.",
                contrast(scale=lambda c, t: c.masked_fill(torch.eye(len(c), dtype=torch.bool, device=c.device), -1) / t,
                         masked=None)),
        Suspect("Only the other view's images are candidates, B of them. SimCLR takes those of the own view, too: "
                "2B - 1.",
                _other_view_only),
        Suspect("Only view 1 asks, and only among view 2. All 2B rows ask, each among the 2B - 1 others.",
                _other_view_one_way),
        Suspect("Only the rows of view 1 ask. Those of view 2 have a partner, too: the mean is over 2B rows.",
                contrast(of=_view_1_only)),
        Suspect("The temperature has no part in it: divide the cosines by it.", contrast(scale=lambda c, t: c)),
        Suspect("The cosines were multiplied by the temperature: divide, so that a low one sharpens.",
                contrast(scale=lambda c, t: c * t)),
        Suspect("It was divided by the temperature twice: once is enough.",
                contrast(scale=lambda c, t: c / t**2)),
        Suspect("The right answer of each row was taken to be itself. It is the row of the same image in the other "
                "view, B rows further.",
                contrast(masked=None, shift=0)),
        Suspect("Each row was to find itself, which is not among its candidates, so that the loss is infinite: the "
                "partner is B rows further.",
                contrast(shift=0)),
        Suspect("Each row was to find the row next to it. Stacked by `cat([z1, z2])`, the partner is B rows further: "
                "`arange(2 * B).roll(B)`.",
                contrast(shift=1)),
        Suspect("The rows were summed: take the mean over all 2B, so that the size of the batch does not matter.",
                contrast(of=lambda x, y: F.cross_entropy(x, y, reduction="sum"))),
        Suspect("The sum was divided by B, or two means were added: there are 2B rows, so this is twice the loss.",
                contrast(of=lambda x, y: 2 * F.cross_entropy(x, y))),
        Suspect("The rows were not averaged: one number for each came back. End with `.mean()`.",
                contrast(of=lambda x, y: F.cross_entropy(x, y, reduction="none"))),
        Suspect("The partner is missing below the fraction bar: it is one of the 2B - 1 candidates.",
                contrast(of=_without_partner)),
        Suspect("The partner stands twice below the fraction bar: once on its own and once among all the others.",
                contrast(of=_partner_twice)),
        Suspect("The candidates that are not the partner were averaged: sum them.", contrast(of=_mean_of_negatives)),
        Suspect("The minus is missing: the loss is minus the log-probability of the partner, 0 or more.",
                contrast(of=lambda x, y: -F.cross_entropy(x, y))),
        Suspect("The minus sits at the cosines, or a distance was taken for a similarity: near rows need large logits.",
                contrast(scale=lambda c, t: -c / t)),
        Suspect("The logarithm is missing: this is the probability of the partner, not minus its logarithm.",
                contrast(of=lambda x, y: -_picked(x.softmax(dim=1), y).mean())),
        Suspect("The logits went through a softmax twice: `F.cross_entropy` does it itself.",
                contrast(of=lambda x, y: F.cross_entropy(x.softmax(dim=1), y))),
        Suspect("A small number inside the logarithm makes it finite, and wrong: `F.cross_entropy` needs none.",
                contrast(of=lambda x, y: -(_picked(x.softmax(dim=1), y) + 1e-8).log().mean())),
        Suspect("Only the partners' cosines count here: without the other candidates nothing keeps outputs apart.",
                contrast(of=lambda x, y: -_picked(x, y).mean())),
        Suspect("0 times minus infinity is no number (nan): pick the partner's entry, or let `F.cross_entropy` do it.",
                contrast(of=lambda x, y: -(F.one_hot(y, len(x)) * x.log_softmax(dim=1)).sum(dim=1).mean())),
        Suspect("The candidates were detached, as SimSiam's targets are. SimCLR has no stop-gradient: a row moves as "
                "query and as candidate.",
                contrast(keys=lambda z: z.detach())),
        Suspect("z2 was detached: SimCLR has no stop-gradient, both views move.",
                lambda z1, z2, t: nt_xent_solution(z1, z2.detach(), t)),
        Suspect("z1 was detached: SimCLR has no stop-gradient, both views move.",
                lambda z1, z2, t: nt_xent_solution(z1.detach(), z2, t)),
        Suspect("Nobody can learn from this loss: everything was detached, or stood under `torch.no_grad()`.",
                _under_no_grad),
        Suspect("`.item()` makes a plain number of the loss, and nothing can learn from a number: give the tensor "
                "back.",
                lambda z1, z2, t: nt_xent_solution(z1, z2, t).item()),
        Suspect("z1 or z2 itself was changed: write `z = z / ...`, not `z /= ...`.", _in_place),
        Suspect(CALLED, lambda z1, z2, t: backward(lambda a, b: nt_xent_solution(a, b, t))(z1, z2)),
        Suspect("The partner was taken to be the row above or below, as though the views alternated. Stacked by "
                "`cat([z1, z2])`, it is B rows further.",
                contrast(of=lambda x, y: F.cross_entropy(x, torch.arange(len(x)) ^ 1))),
        Suspect("The temperature is a fixed number: it is an argument.", contrast(scale=lambda c, t: c / 0.5)),
        Suspect("A tensor was made on the CPU: `torch.eye` and `torch.arange` need `device=z1.device`.",
                contrast(of=lambda x, y: F.cross_entropy(x, y.cpu()))),
    ],
    hints=(
        "Stack the two views to 2B rows. Each row chooses among the 2B - 1 others, by the softmax of its cosines over "
        "the temperature, and the right choice is its partner, B rows further on, or back.",
        "`F.normalize(torch.cat([z1, z2]), dim=1)`, `@`, `.masked_fill(itself, -torch.inf)` with `torch.eye(..., "
        "dtype=torch.bool)` for the diagonal, and `F.cross_entropy(logits, partner)`.",
        "`logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), "
        "-torch.inf)`, then `return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z1)))`",
    ),
    solution=nt_xent_solution,
)  # fmt: skip


# ---- 8.2


def nets(*, frozen: bool = True, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """A target and an online network of the same shape: other weights, other running statistics of BN."""
    online = nn.Sequential(
        nn.Linear(3, 4),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2)),
    )
    target = deepcopy(online)
    for network in (target, online):
        for value in (*network.parameters(), *network.buffers()):
            if value.is_floating_point():
                value.data.copy_(torch.rand_like(value) + 0.5)
    online[1].num_batches_tracked.fill_(7)  # type: ignore[operator]
    target.requires_grad_(not frozen).eval()
    return target.to(dtype), online.to(dtype)


def weights(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def one_weight(value: float, **options: Any) -> nn.Module:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network.requires_grad_(options.get("trains", True))


def _by_hand(f: Function) -> float:
    target, online = one_weight(2.0, trains=False), one_weight(10.0)
    f(target, online, 0.9)
    return target.weight.item()  # type: ignore[operator]


def after(momentum: float, *, times: int = 1, **options: Any) -> Function:
    """The target's weights after so many updates."""

    def look(f: Function) -> list[Tensor]:
        target, online = nets(**options)
        for _ in range(times):
            f(target, online, momentum)
        return weights(target)

    return look


def _ends(f: Function) -> dict[str, float]:
    """Where the weights 2 and 10 lead with the momenta at the two ends."""
    found = {}
    for momentum in (1.0, 0.0):
        target, online = one_weight(2.0, trains=False), one_weight(10.0)
        f(target, online, momentum)
        found[f"momentum {momentum:g}"] = target.weight.item()  # type: ignore[operator]
    return found


def _online_stays(f: Function) -> bool:
    target, online = nets()
    before = weights(online)
    f(target, online, 0.7)
    return all(torch.equal(a, b) for a, b in zip(before, weights(online), strict=True))


def _held(f: Function) -> list[Tensor]:
    """The weights that somebody got hold of before."""
    target, online = nets()
    held = list(target.parameters())
    f(target, online, 0.7)
    return [p.detach().clone() for p in held]


def _buffers(f: Function) -> dict[str, str]:
    """What becomes of the running statistics of BN."""
    target, online = nets()
    ours, theirs = ([b.clone() for b in network.buffers()] for network in (target, online))
    f(target, online, 0.7)
    changed = "became the online network's" if all(map(torch.equal, theirs, target.buffers())) else "changed"
    return {
        "the target's": "stayed" if all(map(torch.equal, ours, target.buffers())) else changed,
        "the online network's": "stayed" if all(map(torch.equal, theirs, online.buffers())) else "changed",
    }


def _own_memory(f: Function) -> list[bool]:
    """Whether the target stays where it is while the online network trains on."""
    found = []
    for momentum in (0.7, 0.0):
        target, online = nets()
        f(target, online, momentum)
        before = weights(target)
        with torch.no_grad():
            for p in online.parameters():
                p.add_(1.0)
        found.append(all(map(torch.equal, before, weights(target))))
    return found


def _history(frozen: bool) -> Function:
    """What the target's weights are afterwards: whether any has a history, and whether any asks for gradients."""

    def look(f: Function) -> dict[str, bool]:
        target, online = nets(frozen=frozen)
        f(target, online, 0.7)
        values = list(target.parameters())
        return {
            "a history is recorded": not all(p.is_leaf for p in values),
            "all ask for gradients": all(p.requires_grad for p in values),
            "some ask for gradients": any(p.requires_grad for p in values),
        }

    return look


def _frozen_part(f: Function) -> list[Tensor]:
    target, online = nets()
    online[0].requires_grad_(False)  # type: ignore[index]
    f(target, online, 0.7)
    return weights(target)


def _online_trains_on(f: Function) -> list[Tensor]:
    """The gradient of the online network, asked for before and taken after the update."""
    target, online = nets()
    loss = online(torch.randn(5, 3)).square().sum()
    f(target, online, 0.7)
    return list(torch.autograd.grad(loss, list(online.parameters())))


def _left_as_it_was(f: Function) -> dict[str, bool]:
    target, online = nets()
    target[3].train()  # type: ignore[index]
    online[1].eval()  # type: ignore[index]
    modes = [[m.training for m in network.modules()] for network in (target, online)]
    for p in (*target.parameters(), *online.parameters()):
        p.grad = torch.ones_like(p)
    numbers = torch.get_rng_state()
    f(target, online, 0.7)
    recorded = torch.is_grad_enabled()
    both = (*target.parameters(), *online.parameters())
    now = [[m.training for m in network.modules()] for network in (target, online)]
    return {
        "gradients are recorded afterwards": recorded,
        "the target is in the mode it was in": now[0] == modes[0],
        "the online network is in the mode it was in": now[1] == modes[1],
        "the online network still asks for gradients": all(p.requires_grad for p in online.parameters()),
        "gradients are as they were": all(p.grad is not None and bool((p.grad == 1).all()) for p in both),
        "float32 stays float32": all(p.dtype == torch.float32 for p in both),
        "no random number was drawn": torch.equal(torch.get_rng_state(), numbers),
    }


def _in_float64(f: Function) -> list[Any]:
    target, online = nets(dtype=torch.float64)
    f(target, online, 0.7)
    return [str(p.dtype) for p in target.parameters()] + weights(target)


def _on_another_device(f: Function) -> str:
    target, online = (network.to("meta") for network in nets())

    def first() -> Tensor:
        f(target, online, 0.7)
        return next(target.parameters())

    return place(first, home="meta", wrong=(*MIXED, "no data!"))


def momentum_update_solution(target: nn.Module, online: nn.Module, momentum: float) -> None:
    with torch.no_grad():
        for old, new in zip(target.parameters(), online.parameters(), strict=True):
            old.mul_(momentum).add_(new, alpha=1 - momentum)


def following(rule: Function, *, chosen: Function = lambda i, name, old, new: True) -> Function:
    """An update whose rule is exchanged for a wrong one, or that is done for some of the weights only."""

    @torch.no_grad()
    def wrong(target: nn.Module, online: nn.Module, momentum: float) -> None:
        both = zip(target.named_parameters(), online.parameters(), strict=True)
        for i, ((name, old), new) in enumerate(both):
            if chosen(i, name, old, new):
                old.copy_(rule(old, new, momentum))

    return wrong


def _average(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    return momentum * old + (1 - momentum) * new


def _nothing(target: nn.Module, online: nn.Module, momentum: float) -> None:
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old = momentum * old + (1 - momentum) * new  # type: ignore[assignment]


def _recorded(target: nn.Module, online: nn.Module, momentum: float) -> None:
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.mul_(momentum).add_(new, alpha=1 - momentum)


def _detached(target: nn.Module, online: nn.Module, momentum: float) -> None:
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.mul_(momentum).add_(new.detach(), alpha=1 - momentum)


def _online_follows(target: nn.Module, online: nn.Module, momentum: float) -> None:
    momentum_update_solution(online, target, momentum)


def _both_move(target: nn.Module, online: nn.Module, momentum: float) -> None:
    momentum_update_solution(target, online, momentum)
    momentum_update_solution(online, target, 0.0)


def _copy_everything(target: nn.Module, online: nn.Module, momentum: float) -> None:
    target.load_state_dict(online.state_dict())


@torch.no_grad()
def _whole_state(target: nn.Module, online: nn.Module, momentum: float) -> None:
    theirs = online.state_dict()
    for name, old in target.state_dict().items():
        old.copy_(momentum * old + (1 - momentum) * theirs[name])


@torch.no_grad()
def _copied_buffers(target: nn.Module, online: nn.Module, momentum: float) -> None:
    momentum_update_solution(target, online, momentum)
    for old, new in zip(target.buffers(), online.buffers(), strict=True):
        old.copy_(new)


def _shared(target: nn.Module, online: nn.Module, momentum: float) -> None:
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.data = new.data


def _shared_where_copied(target: nn.Module, online: nn.Module, momentum: float) -> None:
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.data = momentum * old.data + (1 - momentum) * new.data if momentum else new.data


def _once_for_each_module(target: nn.Module, online: nn.Module, momentum: float) -> None:
    for ours, theirs in zip(target.modules(), online.modules(), strict=True):
        momentum_update_solution(ours, theirs, momentum)


def _new_parameters(target: nn.Module, online: nn.Module, momentum: float) -> None:
    for ours, theirs in zip(target.modules(), online.modules(), strict=True):
        for name, old in list(ours.named_parameters(recurse=False)):
            value = _average(old.detach(), theirs.get_parameter(name).detach(), momentum)
            setattr(ours, name, nn.Parameter(value, requires_grad=old.requires_grad))


def _thaws(target: nn.Module, online: nn.Module, momentum: float) -> None:
    momentum_update_solution(target, online, momentum)
    target.requires_grad_(True)


def _freezes(target: nn.Module, online: nn.Module, momentum: float) -> None:
    target.requires_grad_(False)
    momentum_update_solution(target, online, momentum)


def _freezes_online(target: nn.Module, online: nn.Module, momentum: float) -> None:
    online.requires_grad_(False)
    momentum_update_solution(target, online, momentum)


def _switched_off(target: nn.Module, online: nn.Module, momentum: float) -> None:
    momentum_update_solution(target, online, momentum)
    torch.set_grad_enabled(False)


def _without_gradients(target: nn.Module, online: nn.Module, momentum: float) -> None:
    momentum_update_solution(target, online, momentum)
    online.zero_grad()


def _other_modes(target: nn.Module, online: nn.Module, momentum: float) -> None:
    momentum_update_solution(target, online.eval(), momentum)
    target.train()


MOMENTUM_UPDATE = Exercise(
    "8.2",
    "momentum_update",
    targets.momentum_update,
    facts=[
        Fact("A target's weight of 2 becomes 2.8 with momentum 0.9 where the online one is 10: it goes a tenth of the "
             "way.",
             _by_hand),
        Fact("With momentum 1 the weight of 2 stays, with momentum 0 it becomes the online network's 10.", _ends),
        Fact("Every weight goes its part of the way, once: those of nested layers, those of BN, and the biases.",
             after(0.7)),
        Fact("The next update starts where the last one ended.", after(0.7, times=3)),
        Fact("The online network's weights stay as they were.", _online_stays),
        Fact("It happens in place: who holds a weight of the target sees it change.", _held),
        Fact("The running statistics of BN are no weights: each network keeps its own.", _buffers),
        Fact("The target has memory of its own: it stays where it is while the online network trains on.", _own_memory),
        Fact("No gradient is recorded: a frozen target's weights have no history and ask for no gradient.",
             _history(frozen=True)),
        Fact("It works where the target's weights ask for gradients, too, and they go on to ask.",
             _history(frozen=False)),
        Fact("It does the same there.", after(0.7, frozen=False)),
        Fact("Every weight follows, also one that is frozen in the online network.", _frozen_part),
        Fact("The online network's gradient can be taken afterwards, as though nothing had happened.",
             _online_trains_on),
        Fact("Nothing else is changed: modes, switches, gradients and who asks for them, dtypes.", _left_as_it_was),
        Fact("float64 stays float64, all the way.", _in_float64, tolerance=1e-12),
        Fact("It computes where the networks are: no `.cpu()`, no tensor made on another device.", _on_another_device),
    ],
    suspects=[
        Suspect("The momentum stands at the wrong network: momentum x target + (1 - momentum) x online, so that a high "
                "one means slow.",
                following(lambda old, new, m: (1 - m) * old + m * new)),
        Suspect("The target did not move. `old = ...` only gives the name to another tensor: change the weight in "
                "place (`mul_`, `add_`, `lerp_`, `copy_`), and look whether a filter leaves all of them out.",
                _nothing),
        Suspect("A history was recorded, step after step: put it under `torch.no_grad()`.", _recorded),
        Suspect("The target's weights ask for gradients there, and then PyTorch forbids to change them in place: put "
                "it under `torch.no_grad()`.",
                _detached),
        Suspect("The online network moved instead of the target: the first argument follows, the second one trains.",
                _online_follows),
        Suspect("The online network was changed as well: only the target moves here.", _both_move),
        Suspect("The momentum has no part in it: the online weights were copied.",
                following(lambda old, new, m: new)),
        Suspect("Everything was copied, whatever the momentum is, and BN's running statistics with it.",
                _copy_everything),
        Suspect("Target and online network share their memory now (`old.data = new.data`): change the values in place.",
                _shared),
        Suspect("With momentum 0 the target's weight is the online one's memory itself, and trains on with it: copy "
                "the values.",
                _shared_where_copied),
        Suspect("BN's running statistics were averaged, too (they are in `state_dict()`): go over `parameters()`.",
                _whole_state),
        Suspect("BN's running statistics were copied from the online network: each network keeps its own.",
                _copied_buffers),
        Suspect("Only the first weight was updated: is there a `return` or `break` inside the loop, or a `next`?",
                following(_average, chosen=lambda i, *_: i == 0)),
        Suspect("The last weight was left out.", following(_average, chosen=lambda i, name, *_: name != "3.1.bias")),
        Suspect("The biases were left out: go over all `parameters()`.",
                following(_average, chosen=lambda i, name, *_: "bias" not in name)),
        Suspect("One-dimensional weights, those of BN and the biases, were left out: go over all `parameters()`.",
                following(_average, chosen=lambda i, name, old, new: old.ndim > 1)),
        Suspect("The weights of nested layers were left out: `parameters()` finds them at any depth.",
                following(_average, chosen=lambda i, name, *_: name.count(".") == 1)),
        Suspect("Some weights were updated more than once: `modules()` lists a network and its parts, and "
                "`parameters()` of each has those of its own parts, too.",
                _once_for_each_module),
        Suspect("Weights that are frozen in the online network were left out: the target follows in all of them.",
                following(_average, chosen=lambda i, name, old, new: new.requires_grad)),
        Suspect("The target's own share is not made smaller, so that it grows with every step: it is multiplied by the "
                "momentum.",
                following(lambda old, new, m: old + (1 - m) * new)),
        Suspect("The online network's share is missing its factor, 1 - momentum.",
                following(lambda old, new, m: m * old + new)),
        Suspect("The step goes the wrong way: from the target towards the online network it is online - target.",
                following(lambda old, new, m: old - (1 - m) * (new - old))),
        Suspect("The target has new parameters now: whoever held the old ones does not see the change.",
                _new_parameters),
        Suspect("The target's weights ask for gradients now: leave `requires_grad` as it is.", _thaws),
        Suspect("The target was frozen for good: leave `requires_grad` as it is, and use `torch.no_grad()`.", _freezes),
        Suspect("The online network was frozen for good: leave `requires_grad` as it is, and use `torch.no_grad()`.",
                _freezes_online),
        Suspect("Gradients stay switched off after the call: use `with torch.no_grad():`.", _switched_off),
        Suspect("`train()` or `eval()` was called: the modes are the caller's.", _other_modes),
        Suspect("Gradients were deleted: that is the caller's to do.", _without_gradients),
        Suspect("The momentum is a fixed number: it is an argument.",
                following(lambda old, new, m: 0.9 * old + 0.1 * new)),
        Suspect("Every weight went its part of the way twice: do it once.",
                following(lambda old, new, m: m * (m * old + (1 - m) * new) + (1 - m) * new)),
    ],
    hints=(
        "Walk through the weights of both networks in step. Each of the target's keeps the share `momentum` of itself "
        "and takes the rest from the online network's, in place and without a gradient.",
        "`zip(target.parameters(), online.parameters())` under `with torch.no_grad():`; `mul_`, `add_` and `lerp_` "
        "change a tensor in place.",
        "`old.mul_(momentum).add_(new, alpha=1 - momentum)` for each pair `old, new`",
    ),
    solution=momentum_update_solution,
)  # fmt: skip


# ---- 8.3

SMALL = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def square(channels: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """A matrix (D, D) that is not symmetric, with numbers of both signs."""
    return (torch.randn(channels, channels, dtype=dtype) * 0.4 + 0.1).requires_grad_()


def _diagonals(f: Function) -> list[Any]:
    c = square().detach()
    return [number(f(c)), number(f(c + 3 * torch.eye(5)))]


def _signs(f: Function) -> list[Any]:
    return [number(f(torch.tensor([[1.0, a], [b, 1.0]]))) for a, b in ((0.5, 0.5), (0.5, -0.5), (-0.5, -0.5))]


def _triangles(f: Function) -> list[Any]:
    return [number(f(torch.tensor([[1.0, a], [b, 1.0]]))) for a, b in ((0.5, 0.0), (0.0, 0.5))]


def _matrix_gradient(f: Function) -> dict[str, str]:
    c = square()
    return gradients(f(c), c=c)


def _matrix_gradient_values(f: Function) -> list[Tensor]:
    c = square(4)
    return list(torch.autograd.grad(f(c), [c]))


def others(c: Tensor) -> Tensor:
    """The matrix with zeros on its diagonal."""
    return c * (1 - torch.eye(len(c), dtype=c.dtype, device=c.device))


def _zeroed(c: Tensor) -> Tensor:
    c.detach().fill_diagonal_(0)
    return c.square().sum()


def off_diagonal_solution(c: Tensor) -> Tensor:
    beside = ~torch.eye(len(c), dtype=torch.bool, device=c.device)  # (D, D), False on the diagonal
    return c[beside].square().sum()


OFF_DIAGONAL_TERM = Exercise(
    "8.3",
    "off_diagonal_term",
    losses.off_diagonal_term,
    facts=[
        Fact("For c of shape (5, 5) it gives one number, a tensor of shape ().", lambda f: kind(f(square()))),
        Fact("For c = [[1, 2], [3, 4]] it is 2 * 2 + 3 * 3 = 13.", lambda f: number(f(SMALL.clone()))),
        Fact("It is 0 for the identity, Barlow Twins' ideal, and for a single channel, which has no others.",
             lambda f: [number(f(torch.eye(4))), number(f(torch.ones(1, 1)))]),
        Fact("A negative correlation counts as a positive one: 0.5 for two entries of 0.5 and any signs.", _signs),
        Fact("Both sides of the diagonal count: 0.25 for an entry of 0.5 above it, or below it.", _triangles),
        Fact("What stands on the diagonal does not count.", _diagonals),
        Fact("Where one channel is copied into all four, every entry is 1, and 12 of the 16 stand beside the diagonal.",
             lambda f: number(f(torch.ones(4, 4)))),
        Fact("It holds for random matrices of 3 and of 40 channels.",
             lambda f: [number(f(square(3))), number(f(square(40)))]),
        Fact("c stays as it was: nothing is changed in place.", lambda f: unchanged(f, square().detach())),
        Fact("c receives a gradient.", _matrix_gradient),
        Fact("The gradient is 2c beside the diagonal and 0 on it.", _matrix_gradient_values),
        Fact("The number is returned, and nothing else happens: no `backward()`, no switch left off, no hook.",
             lambda f: left_alone(f, square())),
        Fact("float64 in, float64 out, and float64 all the way.",
             lambda f: in_float64(f, square(dtype=torch.float64))),
        Fact("It computes where c is: no `.cpu()`, no tensor made on another device.",
             lambda f: elsewhere(f, square())),
    ],
    suspects=[
        Suspect("The diagonal is counted, too: it holds what Barlow Twins' first term is about.",
                lambda c: c.square().sum()),
        Suspect("This is the diagonal alone: what stands *beside* it is asked for.",
                lambda c: c.diagonal().square().sum()),
        Suspect("Absolute values were summed: take squares.", lambda c: others(c).abs().sum()),
        Suspect("It was summed first and squared then: positive and negative entries cancel. Square each entry.",
                lambda c: others(c).sum().square()),
        Suspect("The entries were not squared: positive and negative ones cancel.", lambda c: others(c).sum()),
        Suspect("The root was taken: this is the length. Take the sum of the squares.", lambda c: others(c).norm()),
        Suspect("The mean of all entries was taken, the zeros on the diagonal among them: take the sum.",
                lambda c: others(c).square().mean()),
        Suspect("The mean was taken: take the sum.", lambda c: c[~torch.eye(len(c), dtype=torch.bool)].square().mean()),
        Suspect("It was divided by the number of channels: that is VICReg's way. Take the plain sum.",
                lambda c: others(c).square().sum() / len(c)),
        Suspect("Only one side of the diagonal was counted. This matrix is not symmetric: count both.",
                lambda c: c.triu(1).square().sum()),
        Suspect("Only the side below the diagonal was counted. This matrix is not symmetric: count both.",
                lambda c: c.tril(-1).square().sum()),
        Suspect("One side of the diagonal was counted and doubled: this matrix is not symmetric.",
                lambda c: 2 * c.triu(1).square().sum()),
        Suspect("1 was subtracted from every entry on the diagonal: that is the first term. Here the diagonal does not "
                "count at all.",
                lambda c: (c - torch.eye(len(c))).square().sum()),
        Suspect("The weight lambda is in it: it is multiplied with the term in the loss, not here.",
                lambda c: 5e-3 * others(c).square().sum()),
        Suspect("The squares were not added up: one number for each row, or each entry, came back.",
                lambda c: others(c).square().sum(dim=1)),
        Suspect("A matrix came back: add its squares up.", lambda c: others(c).square()),
        Suspect("The minus is too much: the term is to be small, so it counts as it is.",
                lambda c: -others(c).square().sum()),
        Suspect("c itself was changed: its diagonal is gone (`fill_diagonal_`), and the first term needs it. Work on a "
                "copy, or leave the diagonal out by a mask.",
                _zeroed),
        Suspect("c was detached, or stood under `torch.no_grad()`: nobody can learn from this number.",
                lambda c: others(c.detach()).square().sum()),
        Suspect("`.item()` makes a plain number of it, and nothing can learn from a number: give the tensor back.",
                lambda c: others(c).square().sum().item()),
        Suspect(CALLED, backward(lambda c: others(c).square().sum())),
        Suspect("Entries were left out by their value, and one beside the diagonal can have it, too: go by the place.",
                lambda c: c[c != c.diagonal()].square().sum()),
        Suspect("Entries of 1 were left out, and one beside the diagonal can be 1, too: go by the place.",
                lambda c: c[c != 1].square().sum()),
        Suspect("A tensor was made on the CPU: `torch.eye` needs `device=c.device`.",
                lambda c: (c * (1 - torch.eye(len(c), dtype=c.dtype))).square().sum()),
    ],
    hints=(
        "Square every entry, leave the diagonal out, and add the rest up.",
        "`torch.eye(len(c), dtype=torch.bool, device=c.device)` is the diagonal as a mask, `~` turns it round; "
        "`c[mask]`, `.square()`, `.sum()`.",
        "`return c[~torch.eye(len(c), dtype=torch.bool, device=c.device)].square().sum()`",
    ),
    solution=off_diagonal_solution,
)  # fmt: skip

EXERCISES = (NT_XENT, MOMENTUM_UPDATE, OFF_DIAGONAL_TERM)
