"""Random views of a whole batch at once, on its own device: what SimSiam is told to ignore.

Crop and flip are one affine map of positions, and bilinear interpolation is separable: the new image is
`rows @ image @ columns.T`, with one small matrix per image and side. Brightness, contrast, saturation, hue
and grayscale are affine in the colours: all five and the normalisation are one 3x4 matrix per image. So a
view is a few batched matrix products, whatever was drawn, and every image has its own draw. Drawing is kept
apart from applying, so that a process can draw for the whole batch and apply its slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from .errors import LARGEST, InputError, shown

CROP_TRIES = 10
LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look (BT.601)
GREY = (0.2989, 0.587, 0.114)  # the same as torchvision rounds it: these sum to .9999


@dataclass(frozen=True)
class Augmentation:
    """How far two views of one image may differ; one strength or probability per knob, 0 switches it off.

    Order: crop, flip, vertical flip, turn, brightness, contrast, saturation, hue, grayscale, blur, solarize
    (torchvision's jitter draws the order of its four). Pixels may leave [0, 1]: nothing is clamped, between
    the steps or at the end.
    Raises InputError for a value outside its range. Source: App. A and D; solarization is BYOL's, vertical
    flip and turn are for pictures without an up and a down.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Area of the crop as a fraction of the image's, uniform between the two; (1, 1) is the whole image."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of the crop, relative to the image's own, log-uniform between the two."""
    flip: float = 0.5
    """Probability of a left-right flip."""
    brightness: float = 0.4
    """b: pixels are multiplied by a factor, uniform in [max(0, 1 - b), 1 + b]."""
    contrast: float = 0.4
    """c: distance from the crop's mean grey is multiplied by a factor, uniform in [max(0, 1 - c), 1 + c]."""
    saturation: float = 0.4
    """s: distance from the pixel's own grey is multiplied by a factor, uniform in [max(0, 1 - s), 1 + s]."""
    hue: float = 0.1
    """h: colours are rotated about grey by an angle, uniform in [-h, h] turns; at most .5."""
    jitter: float = 0.8
    """Probability that brightness, contrast, saturation and hue are changed at all."""
    gray: float = 0.2
    """Probability that colour is removed."""
    blur: float = 0.0
    """Probability of Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur in pixels, uniform between the two."""
    solarize: float = 0.0
    """Probability that pixels above one half are inverted."""
    vertical_flip: float = 0.0
    """Probability of a flip upside down."""
    turn: float = 0.0
    """Probability of a turn by one, two or three quarters; .75 makes all four directions as likely."""

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "gray", "blur", "solarize", "vertical_flip", "turn"):
            _check_range(name, getattr(self, name), 0, 1)
        for name in ("brightness", "contrast", "saturation"):
            _check_range(name, getattr(self, name), 0, math.inf)
        _check_range("hue", self.hue, 0, 0.5)
        for name, high in (("crop_scale", 1), ("crop_ratio", math.inf), ("blur_sigma", math.inf)):
            _check_pair(name, getattr(self, name), high)
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a list would have no hash

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the parameters of n views, each independent of the others, on the generator's device.

        Every value is (n, ...), so `{k: v[a:b] for k, v in parameters.items()}` belongs to images a to b:
        `box` (n, 4) top, left, height, width as fractions of the image; `flip`, `gray`, `solarize` (n,) bool;
        `brightness`, `contrast`, `saturation` (n,) factors; `hue` (n,) turns; `blur` (n,) sigma in pixels or
        0.
        `blur`, `solarize`, `vertical_flip` and `turn` (quarters, counter-clockwise) are absent where their
        probability is 0, so that nobody needs to ask the device.
        Raises InputError for n < 1.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InputError(f"cannot draw for {shown(n)} images: n must be a whole number of at least 1.")
        device = generator.device
        u = torch.rand(n, 2 * CROP_TRIES + 12, generator=generator, device=device)
        area, ratio, where, single = u.split((CROP_TRIES, CROP_TRIES, 2, 10), dim=1)
        flip, jitter, brightness, contrast, saturation, hue, gray, blur, sigma, solarize = single.unbind(1)

        def factor(u: Tensor, strength: float) -> Tensor:
            return torch.where(jittered, _between(u, max(0.0, 1 - strength), 1 + strength), 1.0)

        jittered = jitter < self.jitter
        parameters = {
            "box": self._draw_box(area, ratio, where),
            "flip": flip < self.flip,
            "brightness": factor(brightness, self.brightness),
            "contrast": factor(contrast, self.contrast),
            "saturation": factor(saturation, self.saturation),
            "hue": torch.where(jittered, _between(hue, -self.hue, self.hue), 0.0),
            "gray": gray < self.gray,
        }
        if self.blur > 0:
            parameters["blur"] = torch.where(blur < self.blur, _between(sigma, *self.blur_sigma), 0.0)
        if self.solarize > 0:
            parameters["solarize"] = solarize < self.solarize
        if self.vertical_flip > 0 or self.turn > 0:  # drawn last: all else is as it was without them
            vertical, turn = torch.rand(n, 2, generator=generator, device=device).unbind(1)
            if self.vertical_flip > 0:
                parameters["vertical_flip"] = vertical < self.vertical_flip
            if self.turn > 0:
                quarters = (turn * (3 / self.turn)).long().clamp(max=2) + 1
                parameters["turn"] = torch.where(turn < self.turn, quarters, 0)
        return parameters

    def _draw_box(self, area: Tensor, ratio: Tensor, where: Tensor) -> Tensor:
        """The first of ten tries that fits into the image, or the largest centred box: torchvision's rule."""
        low, high = self.crop_ratio
        area = _between(area, *self.crop_scale)  # (n, tries)
        ratio = _between(ratio, math.log(low), math.log(high)).exp()
        fits = (area * ratio <= 1) & (area / ratio <= 1)  # squares of width and height
        found, first = fits.max(dim=1, keepdim=True)  # (n, 1)
        nearest = min(max(1.0, low), high)
        area = torch.where(found, area.gather(1, first), min(nearest, 1 / nearest))
        ratio = torch.where(found, ratio.gather(1, first), nearest)
        where = torch.where(found, where, 0.5)
        return crop_box(area.squeeze(1), ratio.squeeze(1), where)

    def apply(self, images: Tensor, parameters: dict[str, Tensor], mean: Tensor, std: Tensor) -> Tensor:
        """Make one view of each image from drawn parameters.

        images: uint8 (B, 3, H, W), left as they are; parameters: B of them, from any device; mean, std: (3,)
        of pixels in [0, 1]. Returns float32 (B, 3, H, W), (view - mean) / std, on the images' device.
        Raises InputError for another dtype, shape or number of parameters.
        """
        mean, std = _check(images, mean, std)
        if len(parameters["box"]) != len(images):
            raise InputError(
                f"{len(parameters['box'])} parameters for {len(images)} images: "
                "draw as many as there are images, or slice both alike."
            )
        with torch.autocast(images.device.type, enabled=False):  # bfloat16 would drop the pixels' low bits
            drawn = {name: value.to(images.device) for name, value in parameters.items()}
            x = crop(
                images.float(), drawn["box"], drawn["flip"], drawn.get("vertical_flip"), drawn.get("turn")
            )
            colours = colour_map(
                drawn["brightness"],
                drawn["contrast"],
                drawn["saturation"],
                x.mean(dim=(2, 3)) / 255,
                hue=drawn["hue"],
                gray=drawn["gray"],
            )
            x = _normalised_colours(x, colours, mean, std)
            if "blur" in drawn:
                x = gaussian_blur(x, drawn["blur"])
            if "solarize" in drawn:
                x = _solarize(x, drawn["solarize"], mean, std)
        return x

    def __call__(self, images: Tensor, generator: torch.Generator, mean: Tensor, std: Tensor) -> Tensor:
        """Draw and apply: one random view of each image, uint8 (B, 3, H, W) -> float32 (B, 3, H, W)."""
        return self.apply(images, self.draw(len(images), generator), mean, std)


def two_views(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator, mean: Tensor, std: Tensor
) -> tuple[Tensor, Tensor]:
    """Make two views of each image, drawn independently per image and per view (Sec. 3, Algorithm 1).

    images: uint8 (B, 3, H, W); mean, std: (3,) of pixels in [0, 1]. Returns x1, x2, each float32 (B, 3, H,
    W), normalised. Raises InputError as `Augmentation.apply` does.
    """
    _check(images, mean, std)
    views = augmentation(
        torch.cat((images, images)), generator, mean, std
    )  # (2 B, 3, H, W): one call, not two
    x1, x2 = views.chunk(2)
    return x1, x2


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise clean images by (x - mean) / std of pixels in [0, 1].

    images: uint8 (B, 3, H, W); mean, std: (3,). Returns float32 (B, 3, H, W).
    Raises InputError for another dtype or shape.
    """
    mean, std = _check(images, mean, std)
    return (images / 255 - mean[:, None, None]) / std[:, None, None]


# ---- where the pixels come from: one affine map and one matrix per side


def crop_box(area: Tensor, ratio: Tensor, where: Tensor) -> Tensor:
    """Turn area and aspect ratio into a box that lies inside the image.

    area: (B,), fraction of the image's; ratio: (B,), width over height, relative to the image's own;
    where: (B, 2) in [0, 1], 0 puts the box at the top (left) edge and 1 at the bottom (right).
    Returns (B, 4): top, left, height, width as fractions of the image; both sides must come out as at most 1.
    """
    sides = torch.stack((area / ratio, area * ratio), dim=1).sqrt()  # (B, 2) height, width
    return torch.cat((where * (1 - sides), sides), dim=1)  # (B, 4)


def sampling_matrix(start: Tensor, length: Tensor, size: int, flip: Tensor | None = None) -> Tensor:
    """Bilinear interpolation along one side as a matrix: entry (i, j) is what pixel j gives to new pixel i.

    start, length: (B,), the box along this side as fractions of it; size: pixels; flip: (B,) bool, mirrors
    the output. Returns (B, size, size), rows sum to 1. Positions stay inside the box, so that no pixel
    outside it is seen, as in torchvision's resized_crop; antialias has nothing to do, as no box is larger
    than the output.
    """
    pixels = torch.arange(size, device=start.device, dtype=torch.float32)
    start, length = start[:, None] * size, length[:, None] * size  # (B, 1)
    position = start + length / size * (pixels + 0.5) - 0.5  # (B, size)
    position = position.clamp(start, start + length - 1).clamp_(0, size - 1)
    if flip is not None:
        position = torch.where(flip[:, None], position.flip(1), position)
    return (position[:, :, None] - pixels).abs_().neg_().add_(1).clamp_(min=0)  # (B, size, size)


def crop(
    images: Tensor,
    box: Tensor,
    flip: Tensor | None = None,
    vertical_flip: Tensor | None = None,
    turn: Tensor | None = None,
) -> Tensor:
    """Cut each image's box out, scale it to the image's size, flip and turn it where asked.

    images: float (B, 3, H, W); box: (B, 4) top, left, height, width as fractions of the image; flip,
    vertical_flip: (B,) bool, left-right and upside down; turn: (B,) int64, quarters counter-clockwise, after
    the flips. Returns float (B, 3, H, W). Raises InputError for a turn of images that are not square.
    A quarter turn is a mirror and a transpose, so that turning costs one pass over the images.
    """
    top, left, height, width = box.unbind(1)
    if turn is not None:
        if images.shape[2] != images.shape[3]:
            size = "x".join(map(str, images.shape[2:]))
            raise InputError(f"images are {size} pixels, but only square ones can be turned: set turn to 0.")
        mirrored, upside = (turn == 1) | (turn == 2), turn >= 2
        flip = mirrored if flip is None else flip ^ mirrored
        vertical_flip = upside if vertical_flip is None else vertical_flip ^ upside
    rows = sampling_matrix(top, height, images.shape[2], vertical_flip)
    columns = sampling_matrix(left, width, images.shape[3], flip)
    x = _resample(images, rows, columns)
    return x if turn is None else torch.where((turn % 2 == 1)[:, None, None, None], x.mT, x)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with its own Gaussian, edges reflected; agrees with torchvision's gaussian_blur.

    images: float (B, 3, H, W); sigma: (B,) pixels, 0 leaves the image as it is. Returns (B, 3, H, W).
    The kernel spans about a tenth of the shorter side: 23 taps at 224 pixels, 3 at 32. Source: SimCLR, App.
    A.
    """
    height, width = images.shape[2:]
    radius = max(1, min(height, width) // 20)
    return _resample(images, _blur_matrix(sigma, height, radius), _blur_matrix(sigma, width, radius))


def _resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ image @ columns.T per image and channel; channels lie below each other in the first product."""
    across = torch.bmm(images.flatten(1, 2), columns.mT).view(images.shape)
    return torch.matmul(rows[:, None], across)  # (B, 3, H, W)


def _blur_matrix(sigma: Tensor, size: int, radius: int) -> Tensor:
    """One side's blur as a matrix (B, size, size): a tap's weight lands on the pixel it reflects to."""
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)  # (B, taps)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    source = (torch.arange(size, device=sigma.device) + offsets[:, None]).abs()  # (taps, size), first edge
    source = size - 1 - (size - 1 - source).abs()  # last edge
    taps = torch.nn.functional.one_hot(source, size).to(kernel.dtype)  # (taps, size, size)
    return (kernel @ taps.flatten(1)).view(-1, size, size)


# ---- what happens to the colours: one 3x4 matrix per image


def colour_map(
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    mean_colour: Tensor,
    *,
    hue: Tensor | None = None,
    gray: Tensor | None = None,
) -> Tensor:
    """Write brightness, then contrast, saturation, hue and grayscale as one affine map per image.

    brightness, contrast, saturation: (B,) factors, 1 changes nothing; mean_colour: (B, 3), the crop's
    mean pixel in [0, 1]; hue: (B,) turns; gray: (B,) bool.
    Returns (B, 3, 4), for pixels in [0, 1]: new = map[:, :, :3] @ pixel + map[:, :, 3].
    Agrees with torchvision's functions in this order where nothing clamps, but for hue (see `hue_map`).
    Why a fourth column: contrast pulls towards a constant, the mean grey of the brightened crop.
    """
    grey, eye = _constants(brightness.device)[:2]  # (3, 3), each row the grey weights
    s = saturation[:, None, None]
    mix = grey + s * (eye - grey)  # (B, 3, 3)
    if hue is not None:
        mix = hue_map(hue) @ mix
    if gray is not None:
        mix = torch.where(gray[:, None, None], grey @ mix, mix)
    mean_grey = brightness[:, None] * (mean_colour @ grey.mT)  # (B, 3), three times the same
    offset = mix @ ((1 - contrast[:, None]) * mean_grey)[:, :, None]  # (B, 3, 1)
    return torch.cat(((brightness * contrast)[:, None, None] * mix, offset), dim=2)


def hue_map(turns: Tensor) -> Tensor:
    """Rotate colours about the grey axis by so many turns: (B,) -> (B, 3, 3), 1/3 takes red towards green.

    Keeps grey and luma exactly. A plain rotation about the grey axis would change luma, so a colour is split
    into its luma, laid along the axis, and the rest; the rest is rotated, then sheared back to luma 0.
    An approximation: torchvision's hue goes through HSV, keeps a pixel's largest and smallest value and
    changes its luma. Mean difference over uniformly random colours: .045 for turns within .1, .118 within .5,
    where torchvision's own change is .051 and .244.
    """
    luma, rest, turned = _constants(turns.device)[2:]  # (3, 3) each
    angle = (2 * math.pi * turns)[:, None, None]
    return luma + angle.cos() * rest + angle.sin() * turned  # (B, 3, 3)


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fixed 3x3 matrices: to grey, identity, to luma, what luma leaves, and that turned by a quarter."""
    eye = torch.eye(3, device=device)
    grey, luma = torch.tensor([[GREY] * 3, [LUMA] * 3], device=device)
    rest = eye - luma
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=device) / math.sqrt(
        3
    )  # with the grey axis
    return grey, eye, luma, rest, rest @ cross


def _normalised_colours(x: Tensor, colours: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Scale 0-255 to [0, 1], map the colours and normalise, in one pass over x (B, 3, H, W)."""
    mix = colours[:, :, :3] / (255 * std[:, None])  # (B, 3, 3)
    offset = (colours[:, :, 3:] - mean[:, None]) / std[:, None]  # (B, 3, 1)
    return torch.baddbmm(offset, mix, x.flatten(2)).view(x.shape)


def _solarize(x: Tensor, chosen: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Invert the chosen images' pixels above one half: min(v, 1 - v), in normalised units."""
    black_plus_white = ((1 - 2 * mean) / std)[:, None, None]  # v -> 1 - v is x -> this - x
    return torch.where(chosen[:, None, None, None], torch.minimum(x, black_plus_white - x), x)


# ---- checks


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def _check(images: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Check the images; return mean and std as float32 (3,) on their device."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images are {got}, expected a torch.uint8 tensor with values 0 to 255.")
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0 or min(images.shape[2:]) < 2:
        raise InputError(
            f"images have shape {tuple(images.shape)}, expected (B, 3, H, W), at least (1, 3, 2, 2)."
        )
    for value in (mean, std):
        if not isinstance(value, (Tensor, list, tuple)) or (isinstance(value, Tensor) and value.is_complex()):
            raise InputError(f"mean and std are {shown(value)}, expected (3,): one value per channel.")
    mean = torch.as_tensor(mean, dtype=torch.float32, device=images.device)
    std = torch.as_tensor(std, dtype=torch.float32, device=images.device)
    if mean.shape != (3,) or std.shape != (3,):
        raise InputError(
            f"mean and std have shapes {tuple(mean.shape)} and {tuple(std.shape)}, "
            "expected (3,): one value per channel."
        )
    return mean, std


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not _is_number(value) or not low <= value <= high:
        wanted = f"between {low} and {high}" if math.isfinite(high) else f"a number of at least {low}"
        raise InputError(f"{name} is {shown(value)}, expected {wanted}.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST


def _check_pair(name: str, pair: tuple[float, float], high: float) -> None:
    whole = isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(_is_number, pair))
    if not whole or not 0 < pair[0] <= pair[1] <= high:
        wanted = f" of at most {high}" if math.isfinite(high) else ""
        raise InputError(
            f"{name} is {shown(pair)}, expected (low, high), positive numbers{wanted} with low <= high."
        )


PRESETS: dict[str, Augmentation] = {
    "cifar": Augmentation(),  # App. D: the ImageNet list without blur
    "imagenet": Augmentation(blur=0.5),  # App. A
    "simclr": Augmentation(  # Chen et al. 2020, App. A, colour strength 1
        crop_scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5
    ),
    "patterns": Augmentation(hue=0.5),  # any hue: colour must not be what two views agree on
    "no_crop": Augmentation(
        hue=0.5, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)
    ),  # the patterns' list, less one
    "no_flip": Augmentation(hue=0.5, flip=0.0),
    "no_jitter": Augmentation(hue=0.5, jitter=0.0),
    "no_gray": Augmentation(hue=0.5, gray=0.0),
    "with_blur": Augmentation(hue=0.5, blur=0.5),
    "crop_and_flip": Augmentation(  # no colour jitter: what is then learned instead (lesson 06)
        brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, jitter=0.0, gray=0.0
    ),
    "digits": Augmentation(  # a mirrored 2 is no digit, and ink has no colour
        crop_scale=(0.6, 1.0),
        crop_ratio=(0.9, 1.1),
        flip=0.0,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        jitter=0.0,
        gray=0.0,
    ),
    "satellite": Augmentation(  # from above there is no up, and what grows there shows in its colour: little hue
        crop_scale=(0.3, 1.0), vertical_flip=0.5, turn=0.75, saturation=0.3, hue=0.05, gray=0.1
    ),
}
PRESETS["digits_flip"] = replace(PRESETS["digits"], flip=0.5)  # to see what it does to a 2 (lesson 09)
