"""The methods: SimSiam with something added or taken out, a few lines each."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, check_choice, check_number, check_whole
from ..loss import negative_cosine, stop_gradient, symmetric_loss
from ..model import SimSiam
from .losses import bank_loss, barlow_twins_loss, nt_xent, sinkhorn, vicreg_loss
from .targets import TargetNetwork, moving_average


class Relative(SimSiam):
    """A method made of SimSiam's parts: it has a `loss` of its own, which `fit` calls, and may have a second network.

    `without` takes one of its `PARTS` out. `temperature`, `target_momentum`, `target_every` and `bank_size` are for
    those methods that have such a thing. `chosen` in `loss` is which images of the set the views are of.
    Errors: `InputError` for a value out of range, or a part that the method does not have.
    """

    PARTS: tuple[str, ...] = ()
    HAS_TARGET = False

    def __init__(
        self,
        *parts: Any,
        without: str = "",
        temperature: float = 0.2,
        target_momentum: float = 0.99,
        target_every: int = 1,
        bank_size: int = 4_096,
        **switches: Any,
    ) -> None:
        super().__init__(*parts, **switches)
        check_choice("without", without, ("", *self.PARTS))
        check_number("temperature", temperature, 0, open_ends=True)
        check_number("target_momentum", target_momentum, 0, 1)
        check_whole(target_every=target_every, bank_size=bank_size)
        if self.dims is None:
            raise InputError(f"{type(self).__name__} must know the width of z: make it with `create`.")
        self.without, self.temperature, self.bank_size = without, temperature, bank_size
        self.target_momentum = 0.0 if without == "momentum" else target_momentum
        self.target_every = target_every
        self.projection_dim = self.dims.projection
        if self.HAS_TARGET:
            self.target = TargetNetwork(self.backbone, self.projector)

    def loss(self, x1: Tensor, x2: Tensor, chosen: Tensor) -> Tensor:
        """The loss of one pair of views. Shapes: (B, 3, H, W) twice, chosen (B,) -> ()."""
        raise NotImplementedError

    def follow(self, momentum: float) -> None:
        """Lets the second network follow the first, before a step."""
        self.target.follow(self.backbone, self.projector, momentum)


def alternating_step(
    model: SimSiam, target: TargetNetwork, x1: Tensor, x2: Tensor, *, step: int, every: int
) -> Tensor:
    """The loss of one pair of views; `target` takes the weights of f over at every `every`-th step, 0 the first.

    Shapes: (B, 3, H, W) twice -> (). Source: Sec. 5.2.
    """
    if step % every == 0:
        target.follow(model.backbone, model.projector)
    p1, p2, _, _ = model(x1, x2)  # (B, D) each
    return symmetric_loss(p1, p2, target(x1), target(x2))


class Alternating(Relative):
    """SimSiam whose targets come from a copy of f that is renewed every `target_every` steps: k-step alternation.

    The paper computes the targets of k batches, keeps them and takes k steps; a copy of the weights of that moment
    gives the same targets when they are needed. With k = 1 it is SimSiam. Source: Sec. 5.2.
    """

    HAS_TARGET = True

    steps: Tensor

    def __init__(self, *parts: Any, **switches: Any) -> None:
        super().__init__(*parts, **switches)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def loss(self, x1: Tensor, x2: Tensor, chosen: Tensor) -> Tensor:
        loss = alternating_step(self, self.target, x1, x2, step=int(self.steps), every=self.target_every)
        self.steps += 1
        return loss


class MovingAverage(Relative):
    """Each image's target is the moving average of its own z: eta <- m eta + (1 - m) z, m = `target_momentum`.

    It is made to do without a predictor. Where the loss compares z1 with eta, eta has taken in z2, and the other way
    round; kept is what has taken in their mean. `bank_size` is at least the number of images: `fit` sees to it.
    Source: Sec. 5.2, m = .8.
    """

    eta: Tensor
    seen: Tensor

    def __init__(self, *parts: Any, **switches: Any) -> None:
        super().__init__(*parts, **switches)
        self.register_buffer("eta", torch.zeros(self.bank_size, self.projection_dim))
        self.register_buffer("seen", torch.zeros(self.bank_size, 1, dtype=torch.bool))

    def loss(self, x1: Tensor, x2: Tensor, chosen: Tensor) -> Tensor:
        p1, p2, z1, z2 = self(x1, x2)  # (B, D) each
        eta, seen, m = self.eta[chosen], self.seen[chosen], self.target_momentum
        loss = negative_cosine(p1, moving_average(eta, z2, seen, m)) / 2
        loss = loss + negative_cosine(p2, moving_average(eta, z1, seen, m)) / 2
        self.eta[chosen] = moving_average(eta, (z1 + z2) / 2, seen, m)
        self.seen[chosen] = True
        return loss


class SimCLR(Relative):
    """Negatives: among all other views of the batch, each must find its partner.

    With a predictor, p is compared with z, and the stop-gradient is on z, as in SimSiam (the paper's Sec. 6.2).
    Source: Chen et al., ICML 2020.
    """

    PARTS = ("negatives",)

    def loss(self, x1: Tensor, x2: Tensor, chosen: Tensor) -> Tensor:
        p1, p2, z1, z2 = self(x1, x2)  # (B, D) each
        (p1, k2), (p2, k1) = (stop_gradient(p, z, self.stop_gradient) for p, z in ((p1, z2), (p2, z1)))
        if self.without == "negatives":
            return symmetric_loss(p1, p2, k1, k2, stop_gradient="none")
        return nt_xent(p1, p2, temperature=self.temperature, keys=(k1, k2))


class MoCo(Relative):
    """Negatives from a bank of older keys, which a momentum encoder makes; each view is query and key in turn.

    One device sees the whole batch, so BN has the same statistics however it is shuffled: there is no shuffling here.
    Source: He et al., CVPR 2020; temperature .2: Chen et al., 2020 (MoCo v2).
    """

    PARTS = ("negatives", "momentum")
    HAS_TARGET = True
    bank: Tensor
    place: Tensor

    def __init__(self, *parts: Any, **switches: Any) -> None:
        super().__init__(*parts, **switches)
        self.register_buffer("bank", F.normalize(torch.randn(self.bank_size, self.projection_dim), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def loss(self, x1: Tensor, x2: Tensor, chosen: Tensor) -> Tensor:
        self.follow(self.target_momentum)
        q1, q2, _, _ = self(x1, x2)  # (B, D) each
        k1, k2 = self.target(x1), self.target(x2)
        if self.without == "negatives":
            return symmetric_loss(q1, q2, k1, k2)
        bank = self.bank.clone()  # the gradient needs it as it is now
        self.remember(torch.cat([k1, k2]))
        first, second = (bank_loss(q, k, bank, temperature=self.temperature) for q, k in ((q1, k2), (q2, k1)))
        return first / 2 + second / 2

    def remember(self, keys: Tensor) -> None:
        """Puts keys in the place of the bank's oldest. Shapes: (N, D)."""
        keys = F.normalize(keys[-self.bank_size :], dim=1)
        places = (self.place + torch.arange(len(keys), device=keys.device)) % self.bank_size
        self.bank[places] = keys
        self.place.copy_((self.place + len(keys)) % self.bank_size)


class BYOL(Relative):
    """The target comes from a momentum encoder. Source: Grill et al., NeurIPS 2020."""

    PARTS = ("momentum",)
    HAS_TARGET = True

    def loss(self, x1: Tensor, x2: Tensor, chosen: Tensor) -> Tensor:
        self.follow(self.target_momentum)
        p1, p2, _, _ = self(x1, x2)  # (B, D) each
        return symmetric_loss(p1, p2, self.target(x1), self.target(x2))


class SwAV(Relative):
    """Clusters: each view foretells to which prototype the other is assigned, and all get the same share.

    Without `sinkhorn` the assignment is a softmax, and nothing keeps one prototype from taking all images. The
    stop-gradient is on the assignments. Source: Caron et al., NeurIPS 2020, without its queue and multi-crop.
    """

    PARTS = ("sinkhorn",)
    PROTOTYPES, EPSILON = 100, 0.05

    def __init__(self, *parts: Any, **switches: Any) -> None:
        super().__init__(*parts, **switches)
        self.prototypes = nn.Linear(self.projection_dim, self.PROTOTYPES, bias=False)

    def loss(self, x1: Tensor, x2: Tensor, chosen: Tensor) -> Tensor:
        with torch.no_grad():
            self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
        prototypes = self.prototypes.weight.clone()  # (K, D), since the next pair of views changes it
        p1, p2, z1, z2 = (F.normalize(y, dim=1) @ prototypes.T for y in self(x1, x2))  # (B, K) cosines
        loss = torch.zeros((), device=x1.device)
        for p, z in ((p1, z2), (p2, z1)):
            p, codes = stop_gradient(p, self.assign(z), self.stop_gradient)
            loss = loss - (codes * (p / self.temperature).log_softmax(dim=1)).sum(dim=1).mean() / 2
        return loss

    def assign(self, scores: Tensor) -> Tensor:
        """Soft assignments. Shapes: (B, K) -> (B, K), rows sum to 1."""
        if self.without == "sinkhorn":
            return (scores / self.EPSILON).softmax(dim=1)
        return sinkhorn(scores, epsilon=self.EPSILON)


class BarlowTwins(Relative):
    """Channels that must not repeat one another; the loss is per channel, so that SimSiam's rate fits.

    Source: Zbontar et al., ICML 2021.
    """

    PARTS = ("decorrelation",)

    def loss(self, x1: Tensor, x2: Tensor, chosen: Tensor) -> Tensor:
        _, _, z1, z2 = self(x1, x2)  # (B, D) each
        weight = 0.0 if self.without == "decorrelation" else 5e-3
        return barlow_twins_loss(z1, z2, off_diagonal_weight=weight) / z1.shape[1]


class VICReg(Relative):
    """Channels that must vary, and not together; the loss is in units of its first weight.

    Source: Bardes et al., ICLR 2022.
    """

    PARTS = ("variance", "covariance")

    def loss(self, x1: Tensor, x2: Tensor, chosen: Tensor) -> Tensor:
        _, _, z1, z2 = self(x1, x2)  # (B, D) each
        return vicreg_loss(z1, z2, **({self.without: 0.0} if self.without else {})) / 25


METHODS: dict[str, type[SimSiam]] = {
    "simsiam": SimSiam, "alternating": Alternating, "moving_average": MovingAverage, "simclr": SimCLR, "moco": MoCo,
    "byol": BYOL, "swav": SwAV, "barlow_twins": BarlowTwins, "vicreg": VICReg,
}  # fmt: skip
