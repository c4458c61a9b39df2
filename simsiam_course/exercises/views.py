"""Lesson 01: the box of a crop, the colours as one matrix, two independent views; and what a view still tells."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import augment, probes
from ..augment import Augmentation, normalise
from ..data import ImageSet
from ..errors import InputError
from .core import Exercise, Fact, Function, Suspect, elsewhere, gradients, kind_and_shape, unchanged

# ---- 1.1


def boxes(n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """area (n,), ratio (n,) and where (n, 2) of boxes that fit into the image."""
    height, width = 0.2 + 0.79 * torch.rand(2, n)
    return height * width, width / height, torch.rand(n, 2)


def _column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _area_and_ratio(f: Function) -> dict[str, Tensor]:
    height, width = f(*boxes())[:, 2:].unbind(1)
    return {"height * width": height * width, "width / height": width / height}


def _edges(f: Function) -> dict[str, Tensor]:
    area, ratio, _ = boxes(2)
    first, last = f(area, ratio, torch.zeros(2, 2)), f(area, ratio, torch.ones(2, 2))
    return {"top and left": first[:, :2], "bottom and right": last[:, :2] + last[:, 2:]}


def _inside(f: Function) -> dict[str, bool]:
    box = f(*boxes(500))
    start, end = box[:, :2], box[:, :2] + box[:, 2:]
    return {"starts in it": bool((start >= 0).all()), "ends in it": bool((end <= 1 + 1e-4).all())}


def _sides(area: Tensor, ratio: Tensor) -> Tensor:
    return torch.stack((area / ratio, area * ratio), dim=1).sqrt()


def _box_of(sides: Tensor, where: Tensor) -> Tensor:
    return torch.cat((where * (1 - sides), sides), dim=1)


def _pushed_back(area: Tensor, ratio: Tensor, where: Tensor) -> Tensor:
    sides = _sides(area, ratio)
    return torch.cat(((where - sides / 2).clamp(min=0).minimum(1 - sides), sides), dim=1)


CROP_BOX = Exercise(
    "1.1",
    "crop_box",
    augment.crop_box,
    facts=[
        Fact("For area (5,), ratio (5,) and where (5, 2) it gives one box for each: a tensor of shape (5, 4).",
             lambda f: kind_and_shape(f(*boxes()))),
        Fact("A quarter of the area, as wide as high, in the middle: top .25, left .25, height .5, width .5.",
             lambda f: f(_column(0.25), _column(1.0), torch.tensor([[0.5, 0.5]]))),
        Fact("Half of the area, twice as wide as high: height .5, width 1; with where (1, 0) it lies at the "
             "bottom, top .5.",
             lambda f: f(_column(0.5), _column(2.0), torch.tensor([[1.0, 0.0]]))),
        Fact("Height times width is the area, and width over height is the ratio.", _area_and_ratio),
        Fact("where = 0 puts the box at the top and left edge, where = 1 at the bottom and right edge.", _edges),
        Fact("A box lies inside the image.", _inside),
        Fact("It holds for random boxes, each with its own area, ratio and place.", lambda f: f(*boxes(50))),
        Fact("It works for a batch of one, too.", lambda f: f(*boxes(1))),
        Fact("area, ratio and where stay as they were: nothing is changed in place.",
             lambda f: unchanged(f, *boxes())),
        Fact("float64 in, float64 out.", lambda f: kind_and_shape(f(*(t.double() for t in boxes())))),
        Fact("It computes where its arguments are: no `.cpu()`, no tensor made on another device.",
             lambda f: elsewhere(f, *boxes())),
    ],
    suspects=[
        Suspect("The root is missing: height times width must give the area, not its square.",
                lambda area, ratio, where: _box_of(_sides(area, ratio).square(), where)),
        Suspect("The root belongs to the ratio, too: the sides are sqrt(area / ratio) and sqrt(area * ratio).",
                lambda area, ratio, where: _box_of(torch.stack((area.sqrt() / ratio, area.sqrt() * ratio), 1), where)),
        Suspect("The ratio is the wrong way up: it is width over height, so a large one makes the box wide.",
                lambda area, ratio, where: _box_of(_sides(area, ratio).flip(1), where)),
        Suspect("`where` was taken for the edge itself, and the box may stick out. Top runs from 0 to 1 - height.",
                lambda area, ratio, where: torch.cat((where, _sides(area, ratio)), 1)),
        Suspect("`where` was taken for the middle of the box. Top runs from 0 to 1 - height: `where * (1 - sides)`.",
                lambda area, ratio, where: torch.cat((where - _sides(area, ratio) / 2, _sides(area, ratio)), 1)),
        Suspect("Where the box begins is wanted, and yours is its middle: leave out the half side.",
                lambda area, ratio, where: torch.cat((where * (1 - _sides(area, ratio)) + _sides(area, ratio) / 2,
                                                      _sides(area, ratio)), 1)),
        Suspect("`where` was taken for the edge itself, and cut off where the box would stick out. "
                "Use `where * (1 - sides)`.",
                lambda area, ratio, where: torch.cat((where.minimum(1 - _sides(area, ratio)), _sides(area, ratio)), 1)),
        Suspect("The free rooms are exchanged: top has 1 - height, left has 1 - width.",
                lambda area, ratio, where: torch.cat((where * (1 - _sides(area, ratio).flip(1)), _sides(area, ratio)),
                                                     1)),
        Suspect("The middle was moved back into the image, so most boxes stick to an edge. Use `where * (1 "
                "- sides)`.",
                _pushed_back),
        Suspect("The free room is 1 - side: `where` was multiplied by the side itself.",
                lambda area, ratio, where: torch.cat((where * _sides(area, ratio), _sides(area, ratio)), 1)),
        Suspect("`where` is the wrong way round: 0 is the top and left edge, 1 the bottom and right one.",
                lambda area, ratio, where: _box_of(_sides(area, ratio), 1 - where)),
        Suspect("The two columns of `where` are exchanged: the first says how far down, the second how far right.",
                lambda area, ratio, where: _box_of(_sides(area, ratio), where.flip(1))),
        Suspect("The order is top, left, height, width: yours is left, top, width, height.",
                lambda area, ratio, where: _box_of(_sides(area, ratio), where)[:, [1, 0, 3, 2]]),
        Suspect("The order is top, left, height, width: the sides came first.",
                lambda area, ratio, where: _box_of(_sides(area, ratio), where)[:, [2, 3, 0, 1]]),
        Suspect("A box is top, left, height, width: yours ends with its bottom and right edge.",
                lambda area, ratio, where: torch.cat(
                    (where * (1 - _sides(area, ratio)), where * (1 - _sides(area, ratio)) + _sides(area, ratio)), 1)),
        Suspect("The four numbers of a box belong in a row: stack along dim=1, not dim=0.",
                lambda area, ratio, where: _box_of(_sides(area, ratio), where).T),
        Suspect("One box for the whole batch: the first area and ratio were used for every image.",
                lambda area, ratio, where: _box_of(_sides(area, ratio)[:1].expand(len(area), 2), where)),
    ],
    hints=(
        "Two equations, height · width = area and width / height = ratio, give both sides. "
        "A box of side s has 1 - s of room to move in.",
        "`torch.stack((a, b), dim=1)` makes two columns of two vectors, "
        "`torch.cat((ab, cd), dim=1)` puts columns side by side.",
        "`sides = torch.stack((area / ratio, area * ratio), dim=1).sqrt()`, "
        "then `where * (1 - sides)` and `sides` side by side.",
    ),
)  # fmt: skip


# ---- 1.2

WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green and blue in a grey
PIXELS = torch.eye(3)  # red, green, blue, one in each column


def knobs(n: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """brightness, contrast, saturation, three times (n,), and mean_colour (n, 3)."""
    brightness, contrast, saturation = 2 * torch.rand(3, n)
    return brightness, contrast, saturation, torch.rand(n, 3)


def _colours(
    f: Function, brightness: float, contrast: float, saturation: float, pixels: Tensor = PIXELS
) -> Tensor:
    """What becomes of some pixels (3, K), as (K, 3), when the mean colour is (.2, .4, .6)."""
    colours = f(_column(brightness), _column(contrast), _column(saturation), torch.tensor([[0.2, 0.4, 0.6]]))
    return (colours[0, :, :3] @ pixels + colours[0, :, 3:]).T


def _one_after_the_other(f: Function) -> Tensor:
    """Random pixels (5, 3, 4) through the maps of five images."""
    colours, pixels = f(*knobs()), torch.rand(5, 3, 4)
    return colours[:, :, :3] @ pixels + colours[:, :, 3:]


PIXEL = torch.tensor([[1.0], [0.5], [0.0]])


def _plain_colour_map(
    brightness: Tensor, contrast: Tensor, saturation: Tensor, mean_colour: Tensor
) -> Tensor:
    weights = torch.tensor([0.2989, 0.587, 0.114], device=brightness.device)
    b, c, s = (factor[:, None, None] for factor in (brightness, contrast, saturation))  # (B, 1, 1) each
    grey = weights.expand(3, 3)  # a pixel's grey, three times
    colour = torch.eye(3, device=brightness.device)
    matrix = b * c * (s * colour + (1 - s) * grey)  # (B, 3, 3)
    mean_grey = (mean_colour @ weights)[:, None, None]  # (B, 1, 1)
    offset = (1 - c) * b * mean_grey  # (B, 1, 1)
    return torch.cat((matrix, offset.expand(-1, 3, 1)), dim=2)  # (B, 3, 4)


def _variant(
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    mean_colour: Tensor,
    *,
    weights: tuple[float, float, float] = WEIGHTS,
    towards: str = "mean grey",
    blend: str = "saturation",
    matrix: str = "b c",
    offset: str = "b (1 - c)",
) -> Tensor:
    """The same map with something wrong, of which the suspects choose."""
    b, c, s = (factor[:, None, None] for factor in (brightness, contrast, saturation))
    rows = torch.tensor(weights).expand(3, 3)
    s = 1 - s if blend == "grey" else s
    eye = torch.eye(3)
    mix = {"saturation": s * eye + (1 - s) * rows, "columns": s * eye + (1 - s) * rows.T, "none": eye + 0 * s,
           "no grey": s * eye}.get(blend, s * eye + (1 - s) * rows)  # fmt: skip
    mean_grey = mean_colour @ rows.mT  # (B, 3)
    goal = {
        "mean grey": mean_grey,
        "mean colour": mean_colour,
        "one half": torch.full_like(mean_colour, 0.5),
        "batch": mean_grey.mean(0).expand_as(mean_grey),
    }[towards][:, :, None]
    scale = {"b c": b * c, "b": b + 0 * c, "c": c + 0 * b, "b + c": b + c}[matrix]
    moved = {"b (1 - c)": b * (1 - c), "1 - c": 1 - c, "b": b + 0 * c, "0": 0 * c, "b c": b * c, "s": b * (1 - c) * s,
             "b (c - 1)": b * (c - 1)}[offset]  # fmt: skip
    return torch.cat((scale * mix, (moved * goal).expand(-1, 3, 1)), 2)


def _wrong(**what: Any) -> Function:
    return lambda b, c, s, m: _variant(b, c, s, m, **what)


def _on_the_cpu(brightness: Tensor, contrast: Tensor, saturation: Tensor, mean_colour: Tensor) -> Tensor:
    weights = torch.tensor(WEIGHTS) + 0 * mean_colour[0]
    return _variant(brightness, contrast, saturation, mean_colour, weights=tuple(weights.tolist()))


COLOUR_MAP = Exercise(
    "1.2",
    "colour_map",
    augment.colour_map,
    solution=_plain_colour_map,
    facts=[
        Fact("For three times (5,) and mean_colour (5, 3) it gives one matrix for each image: a tensor of "
             "shape (5, 3, 4).",
             lambda f: kind_and_shape(f(*knobs()))),
        Fact("Factors of 1 change nothing: the left of the matrix is the identity, the last column 0.",
             lambda f: f(_column(1.0), _column(1.0), _column(1.0), torch.tensor([[0.2, 0.4, 0.6]])), 1e-3),
        Fact("brightness 2 makes every pixel twice as bright: twice the identity, and a last column of 0.",
             lambda f: f(_column(2.0), _column(1.0), _column(1.0), torch.tensor([[0.2, 0.4, 0.6]])), 1e-3),
        Fact("saturation 0 makes every pixel its own grey: red (.299, .299, .299), green .587, blue .114, a "
             "row for each.",
             lambda f: _colours(f, 1, 1, 0), 1e-3),
        Fact("saturation .5 goes half of the way to grey: (1, .5, 0), whose grey is .592, becomes (.796, "
             ".546, .296).",
             lambda f: _colours(f, 1, 1, 0.5, PIXEL), 1e-3),
        Fact("contrast 0 makes every pixel the mean grey: with mean colour (.2, .4, .6) that is .363.",
             lambda f: _colours(f, 1, 0, 1), 1e-3),
        Fact("contrast .5 goes half of the way to the mean grey .363: (1, .5, 0) becomes (.681, .431, .181).",
             lambda f: _colours(f, 1, 0.5, 1, PIXEL), 1e-3),
        Fact("Brightness comes first, so the mean grey is that of the brightened crop: brightness 2 and "
             "contrast 0 give .726.",
             lambda f: _colours(f, 2, 0, 1), 1e-3),
        Fact("It does to random pixels what the three steps do one after the other.", _one_after_the_other, 1e-3),
        Fact("Every image has its own matrix, of its own factors and mean colour.", lambda f: f(*knobs(9)), 1e-3),
        Fact("It works for a batch of one, too.", lambda f: f(*knobs(1)), 1e-3),
        Fact("The arguments stay as they were: nothing is changed in place.", lambda f: unchanged(f, *knobs())),
        Fact("It computes where its arguments are: constants are made with `device=brightness.device`.",
             lambda f: elsewhere(f, *knobs())),
    ],
    suspects=[
        Suspect("The last column is 0, so contrast only darkens. It must add (1 - contrast) times the mean grey.",
                _wrong(offset="0")),
        Suspect("The mean grey is that of the *brightened* crop: multiply it by brightness, too.",
                _wrong(offset="1 - c")),
        Suspect("The last column lacks the factor 1 - contrast: with contrast 1 nothing may be added.",
                _wrong(offset="b")),
        Suspect("The last column has contrast where it needs 1 - contrast.", _wrong(offset="b c")),
        Suspect("The last column has the wrong sign: it adds (1 - contrast) times the mean grey.",
                _wrong(offset="b (c - 1)")),
        Suspect("Saturation was applied to the last column, too: the mean grey has no colour to lose.",
                _wrong(offset="s")),
        Suspect("Contrast pulls towards the mean *grey*, one number for each image, not towards the mean colour.",
                _wrong(towards="mean colour")),
        Suspect("Contrast pulls towards the image's own mean grey, not towards .5.", _wrong(towards="one half")),
        Suspect("The mean grey was taken over the batch: every image has its own.", _wrong(towards="batch")),
        Suspect("Brightness has no part in it: it multiplies the matrix and the mean grey.",
                lambda b, c, s, m: _variant(torch.ones_like(b), c, s, m)),
        Suspect("The matrix lacks contrast: it scales by brightness times contrast.", _wrong(matrix="b")),
        Suspect("The matrix lacks brightness: it scales by brightness times contrast.", _wrong(matrix="c")),
        Suspect("Brightness and contrast were added: one after the other means that their factors are multiplied.",
                _wrong(matrix="b + c")),
        Suspect("Saturation is the wrong way round: s times the colour and 1 - s times its grey.",
                _wrong(blend="grey")),
        Suspect("The grey weights stand in a column. New red = grey of the pixel: each *row* holds the "
                "three weights.",
                _wrong(blend="columns")),
        Suspect("Saturation has no part in it: s times the colour and 1 - s times its grey.", _wrong(blend="none")),
        Suspect("Saturation lost the grey: s times the colour *and* 1 - s times its grey.", _wrong(blend="no grey")),
        Suspect("Red, green and blue do not look equally bright: their weights in a grey are .2989, .587 and .114.",
                _wrong(weights=(1 / 3, 1 / 3, 1 / 3))),
        Suspect("One matrix for the whole batch: every image has its own factors.",
                lambda b, c, s, m: _variant(*(x[:1].expand_as(x) for x in (b, c, s, m)))),
        Suspect("The matrix is transposed: new = matrix @ pixel, and the constant is its last column.",
                lambda b, c, s, m: _variant(b, c, s, m).mT),
        Suspect("The constant belongs in the last column, behind the 3x3 matrix.",
                lambda b, c, s, m: _variant(b, c, s, m)[:, :, [3, 0, 1, 2]]),
        Suspect("A constant was made on the CPU: give it `device=brightness.device`.", _on_the_cpu),
    ],
    hints=(
        "Write each step as matrix · pixel + constant, with I the identity and G three rows of grey weights. "
        "Brightness: b · I. Contrast: c · I, and the constant (1 - c) · mean grey. Saturation: s · I + (1 - s) · G.",
        "`torch.eye(3)` is I, `weights.expand(3, 3)` is G, `mean_colour @ weights` the mean grey, (B,). "
        "`b[:, None, None]`, (B, 1, 1), can be multiplied by a (3, 3).",
        "The matrix is `b * c * (s * eye + (1 - s) * grey)`, the constant `(1 - c) * b * mean_grey`, (B, 1, 1); "
        "then `torch.cat((matrix, constant.expand(-1, 3, 1)), dim=2)`.",
    ),
)  # fmt: skip


# ---- 1.3

MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
FULL = Augmentation(hue=0.5)
GEOMETRY = Augmentation(jitter=0, gray=0)
NOTHING = Augmentation(
    (1, 1), (1, 1), flip=0, brightness=0, contrast=0, saturation=0, hue=0, jitter=1, gray=0
)
ONE_KNOB = {
    "crop": replace(NOTHING, crop_scale=(0.2, 1), crop_ratio=(3 / 4, 4 / 3)),
    "contrast": replace(NOTHING, contrast=0.4),
    "saturation": replace(NOTHING, saturation=0.4),
    "hue": replace(NOTHING, hue=0.5),
}


class Anywhere(Augmentation):
    """An augmentation that only normalises, on whatever device: the real one refuses images without numbers."""

    def apply(self, images: Tensor, parameters: dict[str, Tensor], mean: Tensor, std: Tensor) -> Tensor:
        return (images.float() / 255 - mean[:, None, None]) / std[:, None, None]


def pictures(n: int = 6) -> Tensor:
    """Random images, uint8 (n, 3, 8, 12)."""
    return torch.randint(0, 256, (n, 3, 8, 12), dtype=torch.uint8)


def _views(f: Function, images: Tensor, augmentation: Augmentation, generator: Any = 0) -> list[Tensor]:
    """The two views, whatever they come in; `generator` is one or a seed for one."""
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    x1, x2 = f(images, augmentation, generator, MEAN.clone(), STD.clone())
    return [x1, x2]


def _two_of_them(f: Function) -> Any:
    """Their kinds, whatever holds them."""
    result = f(pictures(), FULL, torch.Generator().manual_seed(0), MEAN.clone(), STD.clone())
    if isinstance(result, Tensor) and len(result) == 2:
        return [kind_and_shape(view) for view in result]
    return kind_and_shape(result)


def _rows(f: Function) -> dict[str, list[int]]:
    """Whose image is in each row: six images of one grey each, cropped and flipped, know each other by brightness."""
    grey = torch.tensor([0, 40, 80, 120, 160, 200], dtype=torch.uint8)[torch.tensor([3, 0, 5, 1, 4, 2])]
    x1, x2 = _views(f, grey[:, None, None, None].expand(6, 3, 8, 12).contiguous(), GEOMETRY)
    back = torch.tensor([1, 3, 5, 0, 4, 2])  # the image of each brightness
    return {
        name: back[x.flatten(1).mean(1).argsort().argsort()].tolist() for name, x in (("x1", x1), ("x2", x2))
    }


def _white(f: Function) -> dict[str, Tensor]:
    x1, x2 = _views(f, torch.full((1, 3, 8, 12), 255, dtype=torch.uint8), NOTHING)
    return {"x1": x1.mean((0, 2, 3)), "x2": x2.mean((0, 2, 3))}


def _clean(f: Function) -> dict[str, str]:
    images = pictures()
    views = _views(f, images.clone(), NOTHING)
    clean = normalise(images, MEAN, STD)
    known = {"the images": clean, "the images mirrored": clean.flip(3)}
    said = [
        next((name for name, x in known.items() if torch.allclose(view, x, atol=1e-4)), "something else")
        for view in views
    ]
    return dict(zip(("x1", "x2"), said, strict=True))


def _different(views: Tensor) -> int:
    """How many views of (B, 3, H, W) are unlike all before them."""
    apart = torch.cdist(views.flatten(1), views.flatten(1), p=math.inf) > 1e-5
    return sum(bool(apart[i, :i].all()) for i in range(len(views)))


def _differ(f: Function) -> str:
    x1, x2 = _views(f, pictures(), FULL)
    return f"{sum(not torch.allclose(a, b, atol=1e-3) for a, b in zip(x1, x2, strict=True))} of 6"


def _own_draws(f: Function) -> dict[str, tuple[int, int, int]]:
    """Knob by knob, how many views are different: in x1, in x2, in both, where the image as it was does not count."""
    images = pictures(1).repeat(8, 1, 1, 1)
    clean, found = normalise(images[:1], MEAN, STD), {}
    for knob, augmentation in ONE_KNOB.items():
        x1, x2 = _views(f, images, augmentation)
        first, second, both = (_different(torch.cat((clean, *x))) - 1 for x in ([x1], [x2], [x1, x2]))
        found[knob] = (first, second, both)
    return found


def _about(share: float) -> str:
    """A share of 400 in words that chance does not change: a standard deviation is .02 or .025."""
    for words, middle in (
        ("none", 0.0),
        ("a quarter", 0.25),
        ("half", 0.5),
        ("three quarters", 0.75),
        ("all", 1.0),
    ):
        if abs(share - middle) < 0.11:
            return f"about {words}"
    return f"{share:.0%}"


def _mirrored(f: Function) -> dict[str, str]:
    """400 times an image that is dark on the left: in which views is it dark on the right?"""
    ramp = torch.arange(0, 240, 20, dtype=torch.uint8).expand(400, 3, 8, 12).contiguous()
    views = _views(f, ramp, replace(NOTHING, flip=0.5))
    return _shares("mirrored", *(x[..., 0].mean((1, 2)) > x[..., -1].mean((1, 2)) for x in views))


def _greyed(f: Function) -> dict[str, str]:
    """400 times a red image: which views have lost the colour?"""
    red = torch.tensor([200, 50, 50], dtype=torch.uint8)[:, None, None].expand(400, 3, 8, 12).contiguous()
    views = [_pixels(x) for x in _views(f, red, replace(NOTHING, gray=0.5))]
    return _shares("grey", *((x.amax(1) - x.amin(1)).amax((1, 2)) < 0.05 for x in views))


def _shares(what: str, one: Tensor, two: Tensor) -> dict[str, str]:
    """In how many of the 400 something was chosen: one, two (400,) bool."""
    shares = {f"x1 {what}": one, f"x2 {what}": two, "both": one & two}
    return {name: _about(chosen.float().mean().item()) for name, chosen in shares.items()}


def _pixels(view: Tensor) -> Tensor:
    return view * STD[:, None, None] + MEAN[:, None, None]


def _brightened(f: Function) -> dict[str, bool]:
    """The brightness factors, .6 to 1.4, of 400 views and 400 more of a light grey image, which may get above 1."""
    grey = torch.full((400, 3, 8, 8), 220, dtype=torch.uint8)
    views = [_pixels(x) for x in _views(f, grey, replace(NOTHING, brightness=0.4))]
    factors = [view.mean((1, 2, 3)) * 255 / 220 for view in views]
    together = torch.corrcoef(torch.stack(factors))[0, 1].abs().item()
    whole = [bool(v.min() > 0.59 and v.min() < 0.65 and v.max() > 1.35 and v.max() < 1.41) for v in factors]
    return {"x1 covers the range": whole[0], "x2 covers it": whole[1], "independent": together < 0.25}


def _alike(a: list[Tensor], b: list[Tensor]) -> str:
    alike = all(torch.allclose(x, y, atol=1e-4) for x, y in zip(a, b, strict=True))
    return "the same" if alike else "something else"


def _seeds(f: Function) -> dict[str, str]:
    images = pictures()
    torch.manual_seed(1)
    first = _views(f, images, FULL, 5)
    torch.manual_seed(2)
    again, other = _views(f, images, FULL, 5), _views(f, images, FULL, 6)
    return {"the same seed gives": _alike(first, again), "another seed gives": _alike(first, other)}


def _goes_on(f: Function) -> dict[str, str]:
    images, generator = pictures(), torch.Generator().manual_seed(0)
    first, second = _views(f, images, FULL, generator), _views(f, images, FULL, generator)
    return {f"in the next call x{i + 1} is": _alike(first[i : i + 1], second[i : i + 1]) for i in range(2)}


def _global_generator(f: Function) -> str:
    images = pictures()
    before = torch.random.get_rng_state()
    _views(f, images, FULL)
    return "as it was" if torch.equal(before, torch.random.get_rng_state()) else "moved on"


def _left_alone(f: Function) -> dict[str, bool]:
    generator = torch.Generator().manual_seed(0)
    kept = unchanged(lambda i, m, s: f(i, FULL, generator, m, s), pictures(), MEAN.clone(), STD.clone())
    return dict(zip(("images", "mean", "std"), kept.values(), strict=True))


def _trains(f: Function) -> dict[str, str]:
    x1, x2 = _views(f, pictures(), FULL)
    w1, w2 = (torch.ones((), requires_grad=True) for _ in range(2))
    return gradients((w1 * x1).square().sum() + (w2 * x2).square().sum(), x1=w1, x2=w2)


def _single(f: Function) -> Any:
    x1, x2 = _views(f, pictures(1), FULL)
    return [kind_and_shape(x1), kind_and_shape(x2), bool((x1 - x2).abs().max() > 1e-3)]


def _in_place(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    views = augment.two_views(images, a, g, *pixel)
    images[:] = images.flip(3)
    return views


def _reseeded(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    x1 = a(images, g, *pixel)
    g.manual_seed(g.initial_seed())
    return x1, a(images, g, *pixel)


def _seeded_twice(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    return tuple(a(images, g.manual_seed(0), *pixel) for _ in range(2))


def _started_again(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    g.manual_seed(g.initial_seed())
    return augment.two_views(images, a, g, *pixel)


def _one_draw(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    drawn = [a.draw(1, g) for _ in range(2)]
    every = [
        {name: value.expand(len(images), *value.shape[1:]) for name, value in one.items()} for one in drawn
    ]
    return tuple(a.apply(images, one, *pixel) for one in every)


def _with_crops(change: Function) -> Function:
    """Two views whose crops were changed: `change(box1, box2)` gives both anew."""

    def views(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
        one, two = a.draw(len(images), g), a.draw(len(images), g)
        one["box"], two["box"] = change(one["box"], two["box"])
        return a.apply(images, one, *pixel), a.apply(images, two, *pixel)

    return views


def _rolled(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    drawn = a.draw(len(images), g)
    again = {name: value.roll(1, 0) for name, value in drawn.items()}
    return a.apply(images, drawn, *pixel), a.apply(images, again, *pixel)


def _shuffled(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    x1, x2 = augment.two_views(images, a, g, *pixel)
    return x1, x2[torch.randperm(len(images), generator=g)]


def _interleaved(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    return a(images.repeat_interleave(2, 0), g, *pixel).chunk(2)


def _every_second(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    views = a(torch.cat((images, images)), g, *pixel)
    return views[::2], views[1::2]


def _own_generator(images: Tensor, a: Augmentation, g: torch.Generator, *pixel: Tensor) -> Any:
    return augment.two_views(images, a, torch.Generator().manual_seed(0), *pixel)


TWO_VIEWS = Exercise(
    "1.3",
    "two_views",
    augment.two_views,
    facts=[
        Fact("For six images of 8 x 12 pixels it gives two tensors of shape (6, 3, 8, 12), float32.", _two_of_them),
        Fact("Row i of both views shows image i.", _rows),
        Fact("Both views are normalised, (pixel - mean) / std: with mean (.5, .4, .3) and std (.2, .25, .3) "
             "white is (2.5, 2.4, 2.333).", _white),
        Fact("An augmentation that changes nothing gives the clean images, normalised, in both views.", _clean),
        Fact("The two views of an image differ.", _differ),
        Fact("Eight times the same image: each row and each view has a crop, contrast, saturation and hue of its own, "
             "8 different ones in x1, 8 in x2, 16 in both.", _own_draws),
        Fact("The views are independent: half of the first, half of the second, and a quarter of both are mirrored.",
             _mirrored),
        Fact("With a chance of one half to lose its colour, half of the first, half of the second, and a quarter of "
             "both are grey.", _greyed),
        Fact("Both views are drawn from the whole range of the augmentation, independently.", _brightened),
        Fact("The given generator decides: the same seed gives the same views, another seed gives others.", _seeds),
        Fact("The generator goes on: the next call gives other views, both of them.", _goes_on),
        Fact("PyTorch's global generator stays as it was: all chance comes from the given one.", _global_generator),
        Fact("images, mean and std stay as they were: nothing is changed in place.", _left_alone),
        Fact("It works for a batch of one, too, whose two views differ.", _single),
        Fact("A network can learn from both views.", _trains),
        Fact("It computes where the images are: no `.cpu()`, no tensor made on another device.",
             lambda f: elsewhere(lambda i, m, s: f(i, Anywhere(), torch.Generator(), m, s), pictures(), MEAN, STD)),
    ],
    suspects=[
        Suspect("The same view came back twice. One call of `augmentation`, or one `draw`, serves one view: "
                "make two, from the one generator.",
                lambda i, a, g, m, s: (a(i, g, m, s),) * 2),
        Suspect("One view came back: return two of them, `return x1, x2`.", lambda i, a, g, m, s: a(i, g, m, s)),
        Suspect("All images of a batch got the same crop and colours: draw `len(images)` parameters, not one.",
                _one_draw),
        Suspect("Both views of an image got the same crop: the second needs a `box` of its own.",
                _with_crops(lambda one, two: (one, one))),
        Suspect("All images of a batch got the same crop: each needs a `box` of its own.",
                _with_crops(lambda one, two: (one[:1].expand_as(one), two[:1].expand_as(two)))),
        Suspect("The generator was seeded again between the views, so the second view repeats the first.", _reseeded),
        Suspect("The generator was seeded before each view, so the second repeats the first. It moves on by "
                "itself: never seed it.",
                _seeded_twice),
        Suspect("The second view uses the draws of the first for other images: it needs draws of its own.", _rolled),
        Suspect("The second view is the first one mirrored: it needs draws of its own.",
                lambda i, a, g, m, s: (x := a(i, g, m, s), x.flip(3))),
        Suspect("Only the first view was augmented: the second is the clean image.",
                lambda i, a, g, m, s: (a(i, g, m, s), normalise(i, m, s))),
        Suspect("Only the second view was augmented: the first is the clean image.",
                lambda i, a, g, m, s: (normalise(i, m, s), a(i, g, m, s))),
        Suspect("The views of one image are neighbours in your batch of 2B, and were cut in the middle: "
                "take every second row.",
                _interleaved),
        Suspect("The first B rows of your batch of 2B are the first views: cut it in the middle, do not "
                "take every second row.",
                _every_second),
        Suspect("The second view was shuffled: row i of both must come from image i.", _shuffled),
        Suspect("Nothing was normalised: pass mean and std on to `augmentation`.",
                lambda i, a, g, m, s: augment.two_views(i, a, g, torch.zeros(3), torch.ones(3))),
        Suspect("It was normalised twice: `augmentation` does it already.",
                lambda i, a, g, m, s: tuple((x - m[:, None, None]) / s[:, None, None]
                                            for x in augment.two_views(i, a, g, m, s))),
        Suspect("mean and std changed places: `augmentation(images, generator, mean, std)`.",
                lambda i, a, g, m, s: augment.two_views(i, a, g, s, m)),
        Suspect("Another augmentation was used than the one that was given.",
                lambda i, a, g, m, s: augment.two_views(i, FULL, g, m, s)),
        Suspect("Chance came from elsewhere than the given generator: pass that one on.",
                lambda i, a, g, m, s: augment.two_views(i, a, torch.default_generator, m, s)),
        Suspect("A generator with a fixed seed was made inside: every batch would get the same draws. Use "
                "the given one.",
                _own_generator),
        Suspect("The given generator was seeded again at the start: every batch would get the same draws.",
                _started_again),
        Suspect("The images themselves were changed. The next epoch needs them as they were.", _in_place),
        Suspect("The views are inference tensors, from which no network can learn: use `torch.no_grad`, or nothing.",
                torch.inference_mode()(augment.two_views)),
        Suspect("The images were moved to the CPU: leave them where they are.",
                lambda i, a, g, m, s: augment.two_views(i.cpu(), a, g, m.cpu(), s.cpu())),
    ],
    hints=(
        "A view is one call of `augmentation`, which draws for every image anew. Two views of each image are 2B views.",
        "`augmentation(images, generator, mean, std)` gives one view of each image; the generator moves on by itself.",
        "`x1 = augmentation(images, generator, mean, std)`, the same again for x2, and `return x1, x2`.",
    ),
)  # fmt: skip

EXERCISES = (CROP_BOX, COLOUR_MAP, TWO_VIEWS)


# ---- 1.4, which is measured and not checked

ZOOM = 2  # the spectrum is read at half cycles a side


def readable_factors(stripes: ImageSet, views: Tensor) -> dict[str, float]:
    """How well the factors behind striped `patterns` can still be read off one view of each image.

    views: (N, 3, H, W), pixels in [0, 1], row i of image i. -> name of a factor to R^2 on the second half of the
    images, of a least-squares fit on the first half: 1 = read exactly, 0 = no better than the average.
    What is fitted are nine numbers of a view: mean red, green and blue; frequency, orientation and phase of the
    strongest wave, the angles as cosine and sine; and 1. A wave turned by half a turn is the same wave, so twice
    the orientation is fitted; dark and light change places with `order`, so twice the phase.
    Errors: `InputError` for fewer than 40 images, or another number of views.
    """
    if len(views) != len(stripes) or len(views) < 40:
        raise InputError(
            f"There are {len(views)} views of {len(stripes)} images: give one of each, and at least 40."
        )
    readings, half = _readings(views), len(views) // 2
    known = {name: values.to(views) for name, values in stripes.factors.items()}
    wanted = probes.targets(known) | {
        "brightness": known["brightness"][:, None],
        "phase": probes.on_circle(4 * math.pi * known["phase"]),
    }
    found = {}
    for name in ("hue", "brightness", "frequency", "orientation", "phase"):
        target = wanted[name]  # (N, 1) or (N, 2)
        weights = torch.linalg.lstsq(readings[:half], target[:half]).solution
        missed = (target[half:] - readings[half:] @ weights).square().sum()
        spread = (target[half:] - target[:half].mean(0)).square().sum()
        found[name] = max(0.0, 1 - (missed / spread).item())
    return found


def _readings(views: Tensor) -> Tensor:
    """Mean colour, and the strongest wave's frequency, orientation and phase in the middle: (N, 9)."""
    count, _, size, _ = views.shape
    grey = views.mean(1)
    grey = grey - grey.mean((1, 2), keepdim=True)
    waves = torch.fft.rfft2(grey.mT, s=(ZOOM * size, ZOOM * size))  # the last axis is y, from 0 up
    columns = waves.shape[2]
    waves = waves.flatten(1)
    strongest = waves.abs().argmax(1)  # (N,)
    x = torch.fft.fftfreq(ZOOM * size, 1 / size, device=views.device)[strongest // columns]  # cycles a side
    y = torch.fft.rfftfreq(ZOOM * size, 1 / size, device=views.device)[strongest % columns]
    at_corner = waves.gather(1, strongest[:, None])[:, 0].angle()
    phase = at_corner + math.pi * (x + y) * (size - 1) / size
    waves_read = (
        torch.hypot(x, y)[:, None],
        probes.on_circle(2 * torch.atan2(y, x)),
        probes.on_circle(2 * phase),
    )
    return torch.cat((views.mean((2, 3)), *waves_read, torch.ones_like(x)[:, None]), dim=1)
