"""`patterns`: ten classes of printed cloth, drawn by code, with every factor behind each image.

An image is a print in two tones of one hue. What is printed is its class; hue, brightness, light/dark order,
frequency, orientation, stretch, phase, shading and sensor noise vary freely in every class, so neither pixels
nor the features of a random network say much about the class, while what the augmentations keep, the kind of
print, says everything.

Three choices decide whether two views agree on the print or on something cheaper, and were found by trying.
Two tones of *one* hue: with two free colours, colour is the easiest thing to agree on. Tones of fixed luma and
little chroma: a strong colour, turned by the hue jitter, is an outlier detector's feast, and SimSiam then stays
for many passes where most views share one output. Little shading: light is as easy to agree on as colour.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..augment import LUMA
from ..errors import InputError, check_whole
from .images import LARGEST, SMALLEST, ImageSet

LIGHT, DARK = 0.75, 0.25  # luma of the two tones before brightness
CHROMA = 0.12  # distance of both tones from grey
SPLITS = ("train", "test")


def patterns(n: int = 4096, *, size: int = 32, seed: int = 0, split: str = "train") -> ImageSet:
    """`n` prints of `size` x `size` pixels in ten balanced classes, shuffled; same arguments, same bits.

    Factors, float32 (n,): hue in turns in [0, 1), brightness by which both tones are multiplied, order (1 =
    dark on light), frequency in cycles a side, orientation in radians in [0, pi), stretch by which the print is
    narrower across itself than along, phase and phase_across = the origin's place in cycles in [-1, 1), shading =
    strength of a linear falloff of light, shading_direction in radians, noise = its standard deviation.
    Raises InputError for fewer than one image, a size below 8, or a split that is neither "train" nor "test".
    """
    check_whole(n=n, most=10**9)
    check_whole(size=size, least=SMALLEST, most=LARGEST)
    check_whole(seed=seed, least=0, most=2**62)
    if split not in SPLITS:
        raise InputError(f"Patterns have no split {split!r}; choose 'train' or 'test'.")
    generator = torch.Generator().manual_seed(2 * seed + SPLITS.index(split))
    labels = torch.arange(n)[torch.randperm(n, generator=generator)] % len(CLASSES)
    factors = _draw_factors(n, generator)
    images = torch.empty(n, 3, size, size, dtype=torch.uint8)
    for label, name in enumerate(CLASSES):
        members = labels == label
        if members.any():
            own = {factor: values[members] for factor, values in factors.items()}
            images[members] = _render(name, own, size, generator)
    return ImageSet(images, labels, CLASSES, name="patterns", split=split, factors=factors)


def _draw_factors(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    return {
        "hue": uniform(0, 1),
        "brightness": uniform(0.6, 1.3),
        "order": torch.randint(2, (n,), generator=generator).float(),
        "frequency": uniform(3.2, 6.2),
        "orientation": uniform(0, math.pi),
        "stretch": uniform(-0.35, 0.35).exp(),
        "phase": uniform(-1, 1),
        "phase_across": uniform(-1, 1),
        "shading": uniform(0, 0.1),
        "shading_direction": uniform(0, 2 * math.pi),
        "noise": uniform(0.09, 0.15),
    }


def _render(name: str, factors: dict[str, Tensor], size: int, generator: torch.Generator) -> Tensor:
    """Prints of one class as uint8 (n, 3, size, size)."""
    column = {factor: values[:, None, None] for factor, values in factors.items()}  # (n, 1, 1)
    axis = (torch.arange(size) + 0.5) / size - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")  # (size, size), in [-1/2, 1/2]
    cos, sin = column["orientation"].cos(), column["orientation"].sin()
    u = column["frequency"] * (cos * x + sin * y)  # (n, size, size), in cycles
    v = column["frequency"] * column["stretch"] * (cos * y - sin * x)
    distance = PRINTS[name](u + column["phase"], v + column["phase_across"], generator)
    # One pixel from tone to tone: edges are smooth at every frequency and size.
    ink = (0.5 + distance * size / column["frequency"]).clamp(0, 1)
    ink = torch.where(column["order"] > 0.5, ink, 1 - ink)[:, None]  # (n, 1, size, size)
    tint = CHROMA * _chroma(factors["hue"])  # (n, 3)
    light, dark = (
        (factors["brightness"][:, None] * (luma + tint))[:, :, None, None] for luma in (LIGHT, DARK)
    )  # (n, 3, 1, 1)
    direction = column["shading_direction"]
    shade = 1 - column["shading"] * (0.5 + direction.cos() * x + direction.sin() * y)
    noise = torch.randn(len(u), 3, size, size, generator=generator) * column["noise"][:, None]
    pixels = torch.lerp(light, dark, ink) * shade[:, None] + noise
    return (pixels * 255).round_().clamp_(0, 255).to(torch.uint8)


def _chroma(hue: Tensor) -> Tensor:
    """The direction of a hue among the colours of luma 0: (n,) turns -> (n, 3)."""
    luma = torch.tensor(LUMA)
    axes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 3**-0.5, -(3**-0.5)]])  # towards red, from blue to green
    red, green = axes - (axes @ luma)[:, None]
    angle = 2 * math.pi * hue[:, None]
    return angle.cos() * red + angle.sin() * green


# Each print is a signed distance to the edge of its ink, in cycles, positive inside. u runs along the print
# and v across it, both (n, size, size) in cycles from the print's origin.


def _wave(u: Tensor) -> Tensor:
    """Distance to the edge of stripes as wide as their gaps, period 1: in [-1/4, 1/4]."""
    return 0.25 - (u - u.floor() - 0.5).abs()


def _centred(u: Tensor) -> Tensor:
    """Position in the cell, from its middle: in [-1/2, 1/2)."""
    return u - u.floor() - 0.5


def _stripes(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    return _wave(u)


def _checks(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    a, b = _wave(u), _wave(v)
    return torch.maximum(torch.minimum(a, b), torch.minimum(-a, -b))


def _dots(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    return 0.32 - torch.hypot(_centred(u), _centred(v))


def _waves(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    return 0.8 * _wave(u + 0.28 * torch.sin(2 * math.pi * 0.45 * v))


def _rings(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    """Ovals, so that rings too have an orientation; the origin is their middle."""
    return 0.8 * _wave(torch.hypot(u, 1.3 * v))


def _bricks(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    rows = 1.4 * v
    along = 0.7 * u + 0.5 * (rows.floor() % 2)  # every second row is half a brick further
    mortar = torch.minimum((0.5 - _centred(rows).abs()) / 1.4, (0.5 - _centred(along).abs()) / 0.7)
    return mortar - 0.12


def _zigzags(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    return 0.6 * _wave(u + 1.4 * _centred(0.8 * v).abs())


def _camouflage(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    """Blobs: the positive part of a sum of eight waves, slower than `u`, in random directions."""
    angle, phase, pace = torch.rand(3, len(u), 8, 1, 1, generator=generator).unbind()  # (n, 8, 1, 1)
    angle, phase, pace = 2 * math.pi * angle, 2 * math.pi * phase, 2 * math.pi * (0.45 + 0.5 * pace)
    field = torch.zeros_like(u)
    for k in range(8):
        field += torch.sin(pace[:, k] * (angle[:, k].cos() * u + angle[:, k].sin() * v) + phase[:, k])
    return field / 10


def _triangles(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    """Equilateral triangles, up and down by turns, cut by three families of lines of sum 0."""
    a, b = 0.8 * u, 0.8 * (math.sqrt(3) / 2 * v - u / 2)
    lines = (a, b, -a - b)
    up = torch.stack(lines).floor().sum(0) == -1
    edge = torch.stack([0.5 - _centred(line).abs() for line in lines]).amin(0) / 0.8
    return torch.where(up, edge, -edge)


def _grid(u: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    return 0.13 - torch.minimum(_centred(u).abs(), _centred(v).abs())


PRINTS = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "waves": _waves,
    "rings": _rings,
    "bricks": _bricks,
    "zigzags": _zigzags,
    "camouflage": _camouflage,
    "triangles": _triangles,
    "grid": _grid,
}
CLASSES = tuple(PRINTS)
