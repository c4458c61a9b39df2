"""SimSiam: one encoder, two views, and a predictor that guesses one from the other.

    x1, x2     two random views of the same images                       (B, 3, H, W)
    z1, z2     f(x1), f(x2), the projections; f is backbone + projector  (B, D)
    p1, p2     h(z1), h(z2), the predictions                             (B, D)
    loss       D(p1, sg z2)/2 + D(p2, sg z1)/2                           see loss.py

Both views go through the *same* f: that is what Siamese means. Three parts, three jobs:

- The **backbone** sees. Its pooled features are what one keeps; the two heads are thrown away after training.
- The **projector**, an MLP of two or three layers, stands between the features and a loss that wants
  everything forgotten in which two views differ. It ends in a batch normalisation (BN), so that every
  channel of z has the same spread over a batch. Without any BN in the heads little is learned (Table 3a:
  34.6 %).
- The **predictor** h, an MLP with a bottleneck and no BN at its end (with one, training is unstable: Table
  3d). Take it away and SimSiam collapses (Table 1a: 0.1 %).

A linear layer followed by BN has no bias, since BN subtracts the mean and any bias with it. The projector's
last BN has no scale and shift of its own (`affine_free`): 68.2 % without them, 68.1 % with them (Table 3c).

Three switches turn parts off, because you understand a part when you have seen what happens without it:
`stop_gradient` (see loss.py), `output_bn`, and `predictor`:

    mlp         Linear, BN, ReLU, Linear: the method
    none        h(z) = z (Table 1a)
    frozen      the mlp as initialised, never trained; its BN still works (Table 1b)
    bias        h(z) = z + b, a single learned vector (Zhang et al., ICLR 2022)
    linear      h(z) = W z + b
    directpred  h(z) = W z, with W computed from z instead of trained (Tian et al., ICML 2021)

Initialisation is PyTorch's default (App. A): `nn.Linear`'s own for the heads, and for a backbone the one it
came with, which for a resnet is torchvision's.

Paper: Chen & He, *Exploring Simple Siamese Representation Learning*, CVPR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from .backbones import BACKBONES, create_backbone, tiny
from .errors import InputError, check_choice
from .heads import OUTPUT_BN, PREDICTORS, DirectPred, identity_predictor, predictor, projector
from .heads import predictor as build_predictor  # `SimSiam.create` has an argument called predictor
from .loss import STOP_GRADIENT

__all__ = [
    "BACKBONES", "OUTPUT_BN", "PREDICTORS", "STOP_GRADIENT", "DirectPred", "Dims", "MethodFacts", "SimSiam",
    "create_backbone", "identity_predictor", "method_facts", "predictor", "projector", "tiny",
]  # fmt: skip


class Dims(NamedTuple):
    """The widths of a SimSiam; the paper's are 2048, 2048, 2048 and 512."""

    backbone: int
    hidden: int
    projection: int
    predictor_hidden: int


class SimSiam(nn.Module):
    """A backbone, a projector and a predictor, and the switches that say what is done with them.

    `SimSiam.create` builds the heads; give this constructor heads of your own. Without `dims` it cannot
    know, and does not check, how many features the backbone should give. `pixel_mean` and `pixel_std` (3,)
    are those of the training images in [0, 1]: they travel with the weights, so that new images are
    normalised as the old ones were.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        *,
        stop_gradient: str = "target",
        predictor_kind: str = "mlp",
        joint: bool = False,
        dims: Dims | None = None,
    ) -> None:
        super().__init__()
        check_choice("stop_gradient", stop_gradient, STOP_GRADIENT)
        self.backbone = backbone
        self.projector = projector
        self.predictor = predictor
        self.stop_gradient = stop_gradient
        self.predictor_kind = predictor_kind
        self.joint = joint
        self.dims = dims
        self.register_buffer("pixel_mean", torch.full((3,), 0.5))
        self.register_buffer("pixel_std", torch.full((3,), 0.25))

    @classmethod
    def create(
        cls,
        backbone: nn.Module,
        backbone_dim: int,
        projection_dim: int = 2048,
        hidden_dim: int = 2048,
        predictor_hidden_dim: int = 512,
        *,
        stop_gradient: str = "target",
        predictor: str = "mlp",
        hidden_bn: bool = True,
        output_bn: str = "affine_free",
        predictor_bn: bool = True,
        predictor_output_bn: bool = False,
        projector_layers: int = 3,
        init: str = "default",
        joint: bool = False,
        **method: Any,
    ) -> Self:
        """A SimSiam around any backbone that maps (B, 3, H, W) to (B, backbone_dim).

        `init="he"` draws every convolution and linear layer anew, the backbone's too: not for a pretrained
        one. `method` is what a relative asks for beyond (relatives.py).
        Errors: `InputError` for a dimension below 1 or an unknown switch; a backbone that gives another
        number of features is found when it first sees an image. Source: Sec. 3 and App. A.
        """
        if not isinstance(backbone, nn.Module):
            raise InputError(
                f"The backbone is {backbone!r}, expected a module: SimSiam.create(*create_backbone('tiny'))."
            )
        check_choice("init", init, ("default", "he"))
        head = projector(
            backbone_dim, hidden_dim, projection_dim,
            layers=projector_layers, hidden_bn=hidden_bn, output_bn=output_bn,
        )  # fmt: skip
        h = build_predictor(
            projection_dim, predictor_hidden_dim,
            kind=predictor, hidden_bn=predictor_bn, output_bn=predictor_output_bn,
        )  # fmt: skip
        if init == "he":
            for part in (backbone, head, h):
                part.apply(_he)
        return cls(
            backbone, head, h,
            stop_gradient=stop_gradient, predictor_kind=predictor, joint=joint,
            dims=Dims(backbone_dim, hidden_dim, projection_dim, predictor_hidden_dim),
            **method,
        )  # fmt: skip

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Two views in, p1, p2, z1, z2 out, in the order of `symmetric_loss`; nothing is detached here.

        Each view has its own pass, so that BN sees one view at a time, as in the paper, unless `joint` is on.
        Shapes: twice (B, 3, H, W) -> four times (B, D).
        Errors: `InputError` for views of different shapes, and those of `encode`. Source: Alg. 1.
        """
        _check_kind(x1)
        _check_kind(x2)
        if x1.shape != x2.shape:
            raise InputError(
                f"The views have shapes {tuple(x1.shape)} and {tuple(x2.shape)}, expected the same twice."
            )
        _check_batch(x1, self.training)
        if self.joint:
            z1, z2 = self.encode(torch.cat([x1, x2])).chunk(2)
        else:
            z1, z2 = self.encode(x1), self.encode(x2)

        h = self.predictor
        if isinstance(h, DirectPred) and self.training:
            h.update(torch.cat([z1, z2]))  # one W for both views
        p1, p2 = h(torch.cat([z1, z2])).chunk(2) if self.joint else (h(z1), h(z2))
        if p1.shape != z1.shape:
            raise InputError(
                f"The predictor gives {p1.shape[-1]} numbers an image and the projector {z1.shape[-1]}, "
                "expected the same: the loss compares the two."
            )
        return p1, p2, z1, z2

    def encode(self, x: Tensor) -> Tensor:
        """The projections z = f(x), on which collapse is measured.

        Shapes: (B, 3, H, W) -> (B, D).
        Errors: `InputError` for a batch of one in train mode, and those of `features`.
        """
        _check_batch(x, self.training)
        return self.projector(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The backbone's pooled features, for kNN, probe and UMAP.

        Shapes: (B, 3, H, W) -> (B, backbone_dim).
        Errors: `InputError` for images that are none, integers or (looked at on the CPU only) not finite,
        and for a backbone that gives another number of features than it should.
        """
        _check_images(x)
        try:
            y = self.backbone(x)
        except RuntimeError as error:
            if x.ndim == 4 and x.shape[1] == 3 and x.dtype == torch.float32:
                raise
            what = f"{x.dtype} of shape {tuple(x.shape)}"
            raise InputError(f"The backbone refuses {what}, expected torch.float32 (B, 3, H, W).") from error
        if self.dims and y.shape != (len(x), self.dims.backbone):
            made = y.shape[1] if y.ndim == 2 else tuple(y.shape[1:])
            cure = f"create the model with backbone_dim={made}" if y.ndim == 2 else "end it with pooling"
            raise InputError(
                f"The backbone gives {made} features an image, backbone_dim is {self.dims.backbone}: {cure}."
            )
        return y

    @torch.no_grad()
    def set_identity_predictor(self) -> None:
        """Set h(z) = z by the weights of `identity_predictor`, so that D(h(z), z) = -1.

        Errors: `InputError` unless h is an mlp without BN whose hidden layer has 2 D channels.
        """
        h = self.predictor
        match list(h) if isinstance(h, nn.Sequential) else []:
            case [nn.Linear(in_features=d, out_features=n) as widen, nn.ReLU(), nn.Linear() as narrow] if (
                n == 2 * d
            ):
                for layer, identity in zip((widen, narrow), identity_predictor(d)[::2], strict=True):
                    layer.weight.copy_(identity.get_parameter("weight"))
                    if layer.bias is not None:
                        layer.bias.zero_()
            case _:
                raise InputError(
                    f"This predictor ({_describe(h)}) cannot be the identity: create the model with "
                    "predictor_hidden_dim = 2 * projection_dim and predictor_bn=False."
                )

    def __repr__(self) -> str:
        rows = [
            ("backbone", f"images -> {self.dims.backbone if self.dims else 'features'}", self.backbone),
            ("projector", _describe(self.projector), self.projector),
            ("predictor", f"{self.predictor_kind}: {_describe(self.predictor)}", self.predictor),
        ]
        width = max(len(text) for _, text, _ in rows)
        lines = [f"  {name:<9}  {text:<{width}}  {_count(part)}" for name, text, part in rows]
        passes = "both views in one pass" if self.joint else "a pass for each view"
        return "\n".join(["SimSiam(", *lines, f"  stop_gradient={self.stop_gradient!r}, {passes}", ")"])


@dataclass(frozen=True)
class MethodFacts:
    """What a self-supervised method needs."""

    name: str
    category: str
    requires_memory_bank: bool
    uses_momentum_encoder: bool
    uses_negatives: bool


_METHODS = (
    MethodFacts("SimSiam", "distillation", False, False, False),
    MethodFacts("SimCLR", "contrastive", False, False, True),
    MethodFacts("MoCo", "contrastive", True, True, True),
    MethodFacts("BYOL", "distillation", False, True, False),
    MethodFacts("SwAV", "clustering", False, False, False),
    MethodFacts("Barlow Twins", "decorrelation", False, False, False),
    MethodFacts("VICReg", "decorrelation", False, False, False),
)


def method_facts(name: str) -> MethodFacts:
    """What SimSiam or one of its relatives needs; capitals, spaces and dashes in the name do not matter.

    *Distillation*: one branch predicts the other, and the two are not treated alike. MoCo means versions 1
    and 2; SwAV's optional queue for small batches does not count as a memory bank.
    Errors: `InputError` for an unknown method. Source: Sec. 2 and 6.2, and the methods' own papers.
    """
    for facts in _METHODS:
        if _plain(facts.name) == _plain(str(name)):
            return facts
    raise InputError(f"There are no facts on {name!r}: try {', '.join(f.name for f in _METHODS)}.")


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _check_batch(x: Tensor, training: bool) -> None:
    if training and len(x) == 1:
        raise InputError("A batch of one cannot train BN: give two images or more, or use model.eval().")


def _check_kind(x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise InputError(f"The images are a {type(x).__name__}, expected a tensor (B, 3, H, W).")
    if x.ndim < 2 or len(x) == 0:
        raise InputError(f"The images have shape {tuple(x.shape)}, expected (B, 3, H, W) with B > 0.")


def _check_images(x: Tensor) -> None:
    _check_kind(x)
    if not x.is_floating_point():
        raise InputError(
            f"The images hold {x.dtype}, expected floats: use normalise(images, mean, std) first."
        )
    # On a GPU every step would wait for the answer; there the loss shows it. A sum is far cheaper than
    # isfinite().all() and hides nothing: NaN and infinity never add up to a finite number.
    if x.device.type == "cpu" and not x.detach().sum(dtype=torch.float32).isfinite():
        raise InputError("The images hold NaN or infinite numbers: look for a division by zero.")


def _he(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _describe(head: nn.Module) -> str:
    text = ""
    for part in head if isinstance(head, nn.Sequential) else [head]:
        if isinstance(part, nn.Linear):
            text += f" -> {part.out_features}" if text else f"{part.in_features} -> {part.out_features}"
        elif isinstance(part, nn.BatchNorm1d):
            text += " BN" if part.affine else " BN (no scale and shift)"
        else:
            text += f" {type(part).__name__}"
    return text.strip()


def _count(part: nn.Module) -> str:
    count = sum(w.numel() for w in part.parameters())
    trained = sum(w.numel() for w in part.parameters() if w.requires_grad)
    return f"{count:>10,} parameters" + ("" if trained == count else f", {trained:,} of them trained")
