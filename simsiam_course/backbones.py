"""The backbones: an image goes in, a vector of features comes out.

A backbone is any module that maps `(B, 3, H, W)` to `(B, backbone_dim)`. Three are at hand: `tiny`, which
trains in a minute on a laptop's CPU, and torchvision's `resnet18` and `resnet50`, the paper's on CIFAR-10
and ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from .errors import InputError
from .heads import check_whole

BACKBONES = ("tiny", "resnet18", "resnet50")
TINY_WIDTHS = (16, 32, 64, 128)


def create_backbone(name: str, *, cifar_stem: bool = True) -> tuple[nn.Module, int]:
    """A fresh backbone and the number of features it gives: what `SimSiam.create` starts with.

    `cifar_stem` fits a resnet to small images: a first convolution of 3x3 and stride 1, and no max-pool.
    Errors: `InputError` for an unknown name. Source: Sec. 3 (ResNet-50), App. D (ResNet-18, CIFAR stem).
    """
    if name == "tiny":
        return tiny(), TINY_WIDTHS[-1]
    if name in BACKBONES:
        return _resnet(name, cifar_stem)
    raise InputError(f"There is no backbone {name!r}: choose one of {', '.join(BACKBONES)}.")


def tiny(widths: Sequence[int] = TINY_WIDTHS) -> nn.Sequential:
    """Blocks of 3x3 convolution, max-pool, BN and ReLU (the last without pool), then the mean over the image.

    The first convolution sees every pixel, since a stride would skip over fine texture; pooling comes before
    BN and ReLU, which then work on a quarter of the pixels.
    Shapes: (B, 3, H, W), H and W at least 2 ** (blocks - 1) -> (B, widths[-1]).
    Errors: `InputError` for no blocks or a width below 1.
    Size: 97,680 parameters by default.
    """
    if not widths:
        raise InputError("tiny got no widths, expected one for each block: tiny((16, 32, 64, 128)).")
    check_whole(**{f"widths[{i}]": width for i, width in enumerate(widths)})
    parts: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(pairwise((3, *widths))):
        pool = [nn.MaxPool2d(2)] if i + 1 < len(widths) else []
        parts += [
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
            *pool,
            nn.BatchNorm2d(c_out),
            nn.ReLU(True),
        ]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _resnet(name: str, cifar_stem: bool) -> tuple[nn.Module, int]:
    from torchvision import models

    resnet = getattr(models, name)(weights=None, zero_init_residual=True)
    dim = resnet.fc.in_features
    resnet.fc = nn.Identity()
    if cifar_stem:
        resnet.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")  # as in torchvision
        resnet.maxpool = nn.Identity()
    return resnet, dim
