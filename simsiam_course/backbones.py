"""The backbones: an image goes in, a vector of features comes out.

A backbone is any module that maps `(B, 3, H, W)` to `(B, backbone_dim)`. At hand are `tiny`, which trains in a
minute on a laptop's CPU, the same at half and at twice its width, and torchvision's `resnet18` and `resnet50`, the
paper's on CIFAR-10 and ImageNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from .errors import InputError, check_whole

BACKBONES = ("tiny", "tiny_half", "tiny_double", "resnet18", "resnet50")
TINY_WIDTHS = (8, 32, 48, 128)
SCALES = {"tiny": 1.0, "tiny_half": 0.5, "tiny_double": 2.0}  # of the widths


def create_backbone(name: str, *, cifar_stem: bool = True) -> tuple[nn.Module, int]:
    """A fresh backbone and the number of features it gives: what `SimSiam.create` starts with.

    `cifar_stem` fits a resnet to small images: a first convolution of 3x3 and stride 1, and no max-pool.
    Errors: `InputError` for an unknown name. Source: Sec. 3 (ResNet-50), App. D (ResNet-18, CIFAR stem).
    """
    if name in SCALES:
        widths = [round(SCALES[name] * width) for width in TINY_WIDTHS]
        return tiny(widths), widths[-1]
    if name in BACKBONES:
        return _resnet(name, cifar_stem)
    raise InputError(f"There is no backbone {name!r}: choose one of {', '.join(BACKBONES)}.")


def tiny(widths: Sequence[int] = TINY_WIDTHS) -> nn.Sequential:
    """Blocks of convolution, BN and ReLU, all but the first of stride 2, and the mean over what is left.

    Shapes: (B, 3, H, W) -> (B, widths[-1]). The default has 70,784 parameters. The first block sees every pixel: with
    stride 2 there too a pass takes a third of the time, but many more passes are needed. At full size, where most of
    the time would go, it is narrow and has a bias instead of BN (the image is normalised already), and the kernel that
    leads from there to half the size is 2x2; all others are 3x3.
    """
    if not widths:
        raise InputError("There are no widths, expected one for each block.")
    check_whole(**{f"widths[{i}]": width for i, width in enumerate(widths)})
    parts: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1), nn.ReLU(inplace=True)]
    for i, (c_in, c_out) in enumerate(pairwise(widths)):
        kernel, padding = (2, 0) if i == 0 else (3, 1)
        conv = nn.Conv2d(c_in, c_out, kernel, stride=2, padding=padding, bias=False)
        parts += [conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
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
