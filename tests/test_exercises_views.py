"""Lesson 01's checks let every right answer through, however it is written, and no wrong one; and what 1.4 measures."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch

from simsiam_course import augment
from simsiam_course.augment import PRESETS, Augmentation, normalise
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.exercises.core import judge
from simsiam_course.exercises.views import COLOUR_MAP, CROP_BOX, TWO_VIEWS, readable_factors

WEIGHTS = torch.tensor([0.2989, 0.587, 0.114])


def passes(exercise, function):
    verdict = judge(exercise, function)
    assert verdict.status == "passed", (verdict, verdict.yours, verdict.expected)


def fails(exercise, function, because=""):
    verdict = judge(exercise, function)
    assert verdict.status == "failed" and because in verdict.cause, (verdict, verdict.yours)


def name(function) -> str:
    return function.__name__


# ---- 1.1


def box_by_columns(area, ratio, where):
    height, width = torch.sqrt(area / ratio), torch.sqrt(area * ratio)
    top, left = where[:, 0] * (1 - height), where[:, 1] * (1 - width)
    return torch.stack([top, left, height, width], dim=1)


def box_by_a_loop(area, ratio, where):
    rows = []
    for a, r, (down, right) in zip(area, ratio, where, strict=True):
        height, width = (a / r) ** 0.5, (a * r) ** 0.5
        rows.append(torch.stack((down * (1 - height), right * (1 - width), height, width)))
    return torch.stack(rows)


def box_by_numbers(area, ratio, where):
    rows = []
    for i in range(len(area)):
        height = math.sqrt(area[i].item() / ratio[i].item())
        width = height * ratio[i].item()
        rows.append([where[i, 0].item() * (1 - height), where[i, 1].item() * (1 - width), height, width])
    return torch.tensor(rows, dtype=area.dtype, device=area.device)


def box_by_filling(area, ratio, where, *, eps=0.0):
    box = area.new_empty(len(area), 4)
    box[:, 2] = (area / ratio + eps).pow(0.5)
    box[:, 3] = box[:, 2] * ratio
    box[:, :2] = where - where * box[:, 2:]
    return box


def box_by_logarithms(area, ratio, where):
    half = torch.stack((-ratio.log(), ratio.log()), -1)
    sides = (0.5 * (area.log()[:, None] + half)).exp()
    return torch.hstack((where * (1 - sides), sides))


def box_by_interpolation(area, ratio, where):
    sides = torch.stack(((area / ratio).sqrt(), (area * ratio).sqrt()), dim=-1)
    return torch.cat((torch.lerp(torch.zeros_like(sides), 1 - sides, where), sides), dim=-1)


def box_by_columns_of_where(area, ratio, where):
    (down, right), width = where.T, (area * ratio).sqrt()
    height = area / width
    return torch.column_stack((down * (1 - height), right * (1 - width), height, width))


def box_transposed_twice(area, ratio, where):
    height, width = (area / ratio).sqrt(), (area * ratio).sqrt()
    sides = torch.stack((height, width))
    return torch.cat((where.T * (1 - sides), sides)).T


def box_clamped(area, ratio, where):
    sides = torch.stack((area / ratio, area * ratio), dim=1).sqrt().clamp(max=1)
    return torch.cat((where * (1 - sides), sides), dim=1)


def box_by_einsum(area, ratio, where):
    sides = torch.einsum("b,bs->bs", area.sqrt(), torch.stack((1 / ratio, ratio), 1).sqrt())
    return torch.cat((torch.einsum("bs,bs->bs", where, 1 - sides), sides), 1)


def box_by_lists(area, ratio, where):
    rows = []
    for a, r, (down, right) in zip(area.tolist(), ratio.tolist(), where.tolist(), strict=True):
        height, width = (a / r) ** 0.5, (a * r) ** 0.5
        rows.append([down * (1 - height), right * (1 - width), height, width])
    return area.new_tensor(rows)


class Box:
    def __call__(self, area, ratio, where):
        return augment.crop_box(area, ratio, where)


RIGHT_BOXES = [
    box_by_columns, box_by_a_loop, box_by_numbers, box_by_filling, box_by_logarithms, box_by_interpolation,
    box_by_columns_of_where, box_transposed_twice, box_clamped, box_by_einsum, box_by_lists,
]  # fmt: skip


@pytest.mark.parametrize("function", RIGHT_BOXES, ids=name)
def test_a_right_crop_box_passes_however_it_is_written(function):
    passes(CROP_BOX, function)


def test_a_crop_box_may_be_an_object():
    passes(CROP_BOX, Box())


def box(area, ratio, where):
    return augment.crop_box(area, ratio, where)


def box_in_place(area, ratio, where):
    area.mul_(1)
    where.mul_(0.5)
    return box(area, ratio, where * 2)


WRONG_BOXES = {
    "ratio ignored": lambda a, r, w: box(a, torch.ones_like(a), w),
    "ratio of the first": lambda a, r, w: box(a, r[:1].expand_as(r), w),
    "place of the first": lambda a, r, w: box(a, r, w[:1].expand_as(w)),
    "one place for both sides": lambda a, r, w: box(a, r, w[:, :1].expand_as(w)),
    "mean area": lambda a, r, w: box(a.mean().expand_as(a), r, w),
    "always in the middle": lambda a, r, w: box(a, r, torch.full_like(w, 0.5)),
    "random place": lambda a, r, w: box(a, r, torch.rand_like(w)),
    "in pixels": lambda a, r, w: 32 * box(a, r, w),
    "rounded to pixels": lambda a, r, w: (32 * box(a, r, w)).round() / 32,
    "left, top": lambda a, r, w: box(a, r, w)[:, [1, 0, 2, 3]],
    "width, height": lambda a, r, w: box(a, r, w)[:, [0, 1, 3, 2]],
    "negative": lambda a, r, w: -box(a, r, w),
    "half precision": lambda a, r, w: box(a, r, w).half(),
    "always float32": lambda a, r, w: box(a.float(), r.float(), w.float()),
    "a list": lambda a, r, w: box(a, r, w).tolist(),
    "a tuple of columns": lambda a, r, w: box(a, r, w).unbind(1),
    "batch of one squeezed": lambda a, r, w: box(a, r, w).squeeze(0),
    "on the CPU": lambda a, r, w: box(a.cpu(), r.cpu(), w.cpu()),
    "a constant of the CPU": lambda a, r, w: box(a, r, w) + torch.zeros(4),
    "changed in place": box_in_place,
    "nothing returned": lambda a, r, w: box(a, r, w) and None,
    "half an image at most": lambda a, r, w: box(a.clamp(max=0.5), r, w),
    "a fifth of the image at least": lambda a, r, w: box(a.clamp(min=0.2), r, w),
    "three fifths at most": lambda a, r, w: box(a.clamp(max=0.6), r, w),
    "no narrow box": lambda a, r, w: box(a, r.clamp(0.7, 2), w),
    "numbers without a device": lambda a, r, w: torch.tensor(box(a, r, w).tolist(), dtype=a.dtype),
}  # fmt: skip


@pytest.mark.parametrize("function", WRONG_BOXES.values(), ids=WRONG_BOXES)
def test_a_wrong_crop_box_fails(function):
    fails(CROP_BOX, function)


def room(a, r, w):
    return 1 - box(a, r, w)[:, 2:]


SAID_OF_BOXES = {
    "the middle": (lambda a, r, w: torch.cat((1 - room(a, r, w), 1 - room(a, r, w)), 1) / torch.tensor([2, 2, 1, 1])
                   + torch.cat((w * room(a, r, w), 0 * w), 1), "yours is its middle"),
    "cut off": (lambda a, r, w: torch.cat((torch.min(w, room(a, r, w)), 1 - room(a, r, w)), 1), "cut off"),
    "rooms exchanged": (lambda a, r, w: torch.cat((w * room(a, 1 / r, w), 1 - room(a, r, w)), 1), "are exchanged"),
}  # fmt: skip


@pytest.mark.parametrize(("function", "because"), SAID_OF_BOXES.values(), ids=SAID_OF_BOXES)
def test_what_is_said_of_a_wrong_crop_box_is_true(function, because):
    fails(CROP_BOX, function, because)


# ---- 1.2


def grey_rows(like):
    return WEIGHTS.to(like.device).expand(3, 3)


def map_by_three_matrices(brightness, contrast, saturation, mean_colour):
    """Homogeneous 4x4 matrices, one for each step, multiplied."""

    def matrix(left, column):
        row = torch.tensor([0.0, 0, 0, 1], device=left.device).expand(len(left), 1, 4)
        return torch.cat((torch.cat((left, column), 2), row), 1)

    eye, none = (
        torch.eye(3, device=brightness.device),
        torch.zeros(len(brightness), 3, 1, device=brightness.device),
    )
    b, c, s = (factor[:, None, None] for factor in (brightness, contrast, saturation))
    mean = grey_rows(b) @ (brightness[:, None] * mean_colour)[:, :, None]
    steps = (
        matrix(b * eye, none),
        matrix(c * eye, (1 - c) * mean),
        matrix(s * eye + (1 - s) * grey_rows(b), none),
    )
    return (steps[2] @ steps[1] @ steps[0])[:, :3]


def map_by_a_loop(brightness, contrast, saturation, mean_colour):
    maps = []
    for b, c, s, mean in zip(brightness, contrast, saturation, mean_colour, strict=True):
        grey = 0.299 * mean[0] + 0.587 * mean[1] + 0.114 * mean[2]
        mix = s * torch.eye(3, device=b.device) + (1 - s) * grey_rows(b)
        maps.append(torch.cat((b * c * mix, ((1 - c) * b * grey).expand(3, 1)), 1))
    return torch.stack(maps)


def map_by_filling(brightness, contrast, saturation, mean_colour):
    colours = mean_colour.new_zeros(len(brightness), 3, 4)
    for i, weight in enumerate((0.299, 0.587, 0.114)):
        colours[:, :, i] = ((1 - saturation) * weight)[:, None]
        colours[:, i, i] += saturation
    colours *= (brightness * contrast)[:, None, None]
    grey = mean_colour @ WEIGHTS.to(mean_colour.device)
    colours[:, :, 3] = (brightness * (1 - contrast) * grey)[:, None]
    return colours


def map_by_lerp(brightness, contrast, saturation, mean_colour):
    eye = torch.eye(3, device=brightness.device)
    mix = torch.lerp(grey_rows(brightness).clone(), eye, saturation.view(-1, 1, 1))
    grey = (WEIGHTS.to(mean_colour) * mean_colour).sum(1)
    shift = torch.lerp(grey, torch.zeros_like(grey), contrast) * brightness
    return torch.cat((mix * (brightness * contrast).view(-1, 1, 1), shift.view(-1, 1, 1).repeat(1, 3, 1)), -1)


def map_with_the_offset_mixed(brightness, contrast, saturation, mean_colour):
    """The constant goes through the saturation step as the pixels do; grey stays grey."""
    s = saturation[:, None, None]
    mix = s * torch.eye(3, device=s.device) + (1 - s) * grey_rows(s)
    grey = ((1 - contrast) * brightness * (mean_colour @ WEIGHTS.to(s.device)))[:, None].expand(-1, 3)
    return torch.cat(((brightness * contrast)[:, None, None] * mix, mix @ grey[:, :, None]), 2)


def map_by_einsum(brightness, contrast, saturation, mean_colour):
    eye = torch.eye(3, device=brightness.device)
    mix = torch.einsum("b,ij->bij", saturation, eye) + torch.einsum(
        "b,ij->bij", 1 - saturation, grey_rows(eye)
    )
    offset = torch.einsum("b,bc,ic->bi", brightness * (1 - contrast), mean_colour, grey_rows(eye))
    return torch.cat((torch.einsum("b,b,bij->bij", brightness, contrast, mix), offset.unsqueeze(2)), dim=2)


def map_by_probing(brightness, contrast, saturation, mean_colour):
    """What the steps make of black, red, green and blue."""
    colours = torch.cat(
        (torch.eye(3, device=brightness.device), torch.zeros(3, 1, device=brightness.device)), 1
    )
    x = colours.expand(len(brightness), 3, 4) * brightness[:, None, None]
    grey = ((mean_colour * brightness[:, None]) @ WEIGHTS.to(x.device))[:, None, None]
    x = contrast[:, None, None] * x + (1 - contrast)[:, None, None] * grey
    own = (x * WEIGHTS.to(x.device)[:, None]).sum(1, keepdim=True)
    x = saturation[:, None, None] * x + (1 - saturation)[:, None, None] * own
    return torch.cat((x[:, :, :3] - x[:, :, 3:], x[:, :, 3:]), 2)


def map_saturation_first(brightness, contrast, saturation, mean_colour):
    """Another order of the steps comes to the same, for the grey of a colour is what saturation keeps."""
    b, c, s = (factor.reshape(-1, 1, 1) for factor in (brightness, contrast, saturation))
    mix = s * torch.eye(3, device=s.device) + (1 - s) * grey_rows(s)
    mean = grey_rows(s) @ mix @ mean_colour.unsqueeze(-1)
    return torch.cat((mix * c * b, b * (mean - c * mean)), dim=-1)


def map_by_outer_products(brightness, contrast, saturation, mean_colour):
    ones, weights = torch.ones(3, device=brightness.device), WEIGHTS.to(brightness.device)
    grey = torch.outer(ones, weights)
    left = (brightness * contrast * saturation)[:, None, None] * torch.diag(ones)
    left = left + (brightness * contrast * (1 - saturation))[:, None, None] * grey
    right = torch.outer(brightness * (1 - contrast) * (mean_colour * weights).sum(1), ones)
    return torch.cat([left, right[..., None]], dim=-1)


def map_by_lists(brightness, contrast, saturation, mean_colour):
    maps = []
    for b, c, s, mean in zip(
        *(x.tolist() for x in (brightness, contrast, saturation, mean_colour)), strict=True
    ):
        constant = b * (1 - c) * sum(w * m for w, m in zip(WEIGHTS.tolist(), mean, strict=True))
        maps.append([[b * c * (s * (i == j) + (1 - s) * WEIGHTS[j].item()) for j in range(3)] + [constant]
                     for i in range(3)])  # fmt: skip
    return torch.tensor(maps, device=brightness.device)


def map_of_the_package(brightness, contrast, saturation, mean_colour, hue=None):
    return augment.colour_map(brightness, contrast, saturation, mean_colour, hue=hue)


RIGHT_MAPS = [
    map_by_three_matrices, map_by_a_loop, map_by_filling, map_by_lerp, map_with_the_offset_mixed, map_by_einsum,
    map_by_probing, map_saturation_first, map_by_outer_products, map_of_the_package,
    map_by_lists,
]  # fmt: skip


@pytest.mark.parametrize("function", RIGHT_MAPS, ids=name)
def test_a_right_colour_map_passes_however_it_is_written(function):
    passes(COLOUR_MAP, function)


def colours(b, c, s, m):
    return augment.colour_map(b, c, s, m)


def map_in_place(b, c, s, m):
    m.mul_(0.5)
    return colours(b, c, s, 2 * m)


WRONG_MAPS = {
    "arguments in another order": lambda b, c, s, m: colours(c, b, s, m),
    "contrast and saturation exchanged": lambda b, c, s, m: colours(b, s, c, m),
    "no brightness": lambda b, c, s, m: colours(torch.ones_like(b), c, s, m),
    "brightness in reverse": lambda b, c, s, m: colours(2 - b, c, s, m),
    "saturation squared": lambda b, c, s, m: colours(b, c, s * s, m),
    "weights of another norm": lambda b, c, s, m: _with_weights(b, c, s, m, (0.2126, 0.7152, 0.0722)),
    "blue, green, red": lambda b, c, s, m: _with_weights(b, c, s, m, (0.114, 0.587, 0.299)),
    "mean colour turned": lambda b, c, s, m: colours(b, c, s, m.flip(1)),
    "mean colours of other images": lambda b, c, s, m: colours(b, c, s, m.roll(1, 0)),
    "mean factors": lambda b, c, s, m: colours(b.mean().expand_as(b), c, s, m),
    "rows turned": lambda b, c, s, m: colours(b, c, s, m).flip(1),
    "for 0 to 255": lambda b, c, s, m: colours(b, c, s, 255 * m),
    "inverse": lambda b, c, s, m: colours(1 / b, 1 / c, 1 / s, m),
    "no last column": lambda b, c, s, m: colours(b, c, s, m)[:, :, :3],
    "4 x 4": lambda b, c, s, m: torch.cat((colours(b, c, s, m), torch.zeros(len(b), 1, 4)), 1),
    "clamped": lambda b, c, s, m: colours(b, c, s, m).clamp(0, 1),
    "batch of one squeezed": lambda b, c, s, m: colours(b, c, s, m).squeeze(0),
    "changed in place": map_in_place,
    "on the CPU": lambda b, c, s, m: colours(b.cpu(), c.cpu(), s.cpu(), m.cpu()),
    "a constant of the CPU": lambda b, c, s, m: colours(b, c, s, m) + 0 * torch.eye(3, 4),
    "numbers without a device": lambda b, c, s, m: torch.tensor(colours(b, c, s, m).tolist()),
    "factors of 1.6 at most": lambda b, c, s, m: colours(b.clamp(max=1.6), c.clamp(max=1.6), s.clamp(max=1.6), m),
    "no dark mean": lambda b, c, s, m: colours(b, c, s, m.clamp(0.2, 0.8)),
    "grey": lambda b, c, s, m: augment.colour_map(b, c, s, m, gray=torch.ones_like(b) > 0),
    "hue": lambda b, c, s, m: augment.colour_map(b, c, s, m, hue=torch.full_like(b, 0.1)),
}  # fmt: skip


def _with_weights(b, c, s, m, weights):
    rows = torch.tensor(weights).expand(3, 3)
    b, c, s = (factor[:, None, None] for factor in (b, c, s))
    mix = s * torch.eye(3) + (1 - s) * rows
    return torch.cat((b * c * mix, b * (1 - c) * (m @ rows.T)[:, :, None]), 2)


@pytest.mark.parametrize("function", WRONG_MAPS.values(), ids=WRONG_MAPS)
def test_a_wrong_colour_map_fails(function):
    fails(COLOUR_MAP, function)


# ---- 1.3


def two_calls(images, augmentation, generator, mean, std):
    x1 = augmentation(images, generator, mean, std)
    x2 = augmentation(images, generator, mean, std)
    return x1, x2


def one_call_cut_in_the_middle(images, augmentation, generator, mean, std):
    views = augmentation(torch.cat([images, images], dim=0), generator, mean, std)
    return views[: len(images)], views[len(images) :]


def one_call_of_neighbours(images, augmentation, generator, mean, std):
    views = augmentation(images.repeat_interleave(2, dim=0), generator, mean, std)
    return views[::2], views[1::2]


def one_call_reshaped(images, augmentation, generator, mean, std):
    views = augmentation(images.repeat(2, 1, 1, 1), generator, mean, std)
    return views.view(2, *images.shape).unbind()


def drawn_and_applied(images, augmentation, generator, mean, std):
    first, second = augmentation.draw(len(images), generator), augmentation.draw(len(images), generator)
    return augmentation.apply(images, first, mean, std), augmentation.apply(images, second, mean, std)


def drawn_at_once(images, augmentation, generator, mean, std):
    n = len(images)
    drawn = augmentation.draw(2 * n, generator)
    halves = [{key: value[part] for key, value in drawn.items()} for part in (slice(0, n), slice(n, 2 * n))]
    return [augmentation.apply(images, half, mean, std) for half in halves]


def image_by_image(images, augmentation, generator, mean, std):
    pairs = [[augmentation(image[None], generator, mean, std)[0] for _ in range(2)] for image in images]
    x1, x2 = zip(*pairs, strict=True)
    return torch.stack(x1), torch.stack(x2)


def a_list_of_two(images, augmentation, generator, mean, std):
    return [augmentation(images, generator, mean, std) for _ in range(2)]


def one_tensor_of_two(images, augmentation, generator, mean, std):
    return torch.stack([augmentation(images, generator, mean, std) for _ in range(2)])


def second_first(images, augmentation, generator, mean, std, **_):
    x2 = augmentation(images.clone(), generator, mean=mean, std=std)
    return augmentation(images.clone(), generator, mean=mean, std=std), x2


def normalised_by_hand(images, augmentation, generator, mean, std):
    zeros, ones = torch.zeros_like(mean), torch.ones_like(std)
    views = augmentation(torch.cat((images, images)), generator, zeros, ones)
    return ((views - mean[:, None, None]) / std[:, None, None]).chunk(2)


def shuffled_together(images, augmentation, generator, mean, std):
    """Images may be drawn for in any order, as long as they come back in theirs."""
    order = torch.randperm(len(images), generator=generator)
    views = [augmentation(images[order], generator, mean, std)[order.argsort()] for _ in range(2)]
    return views[0], views[1]


RIGHT_VIEWS = [
    two_calls, one_call_cut_in_the_middle, one_call_of_neighbours, one_call_reshaped, drawn_and_applied, drawn_at_once,
    image_by_image, a_list_of_two, one_tensor_of_two, second_first, normalised_by_hand, shuffled_together,
]  # fmt: skip


@pytest.mark.parametrize("function", RIGHT_VIEWS, ids=name)
def test_right_views_pass_however_they_are_made(function):
    passes(TWO_VIEWS, function)


@pytest.mark.parametrize("seed", range(5))
def test_right_views_pass_whatever_is_drawn(seed):
    """No fact hangs by a lucky draw: the same answer, its generator some steps further."""

    def later(images, augmentation, generator, mean, std):
        torch.rand(1 + 17 * seed, generator=generator)
        return two_calls(images, augmentation, generator, mean, std)

    passes(TWO_VIEWS, later)


def views(i, a, g, m, s):
    return augment.two_views(i, a, g, m, s)


def of(part):
    """Two views of an augmentation that was changed by `part(augmentation)`."""
    return lambda i, a, g, m, s: views(i, replace(a, **part(a)), g, m, s)


def weaker_second(i, a, g, m, s):
    weak = Augmentation(crop_scale=(0.9, 1.0), brightness=0.1, contrast=0.1, saturation=0.1, hue=0, gray=0)
    return a(i, g, m, s), (a if a.jitter == 0 else weak)(i, g, m, s)


def one_crop_for_all(i, a, g, m, s):
    n = len(i)
    drawn = a.draw(2 * n, g)
    drawn["box"] = drawn["box"][:1].expand(2 * n, 4)
    for key in ("flip", "gray"):
        drawn[key] = drawn[key][:1].expand(2 * n)
    return a.apply(torch.cat((i, i)), drawn, m, s).chunk(2)


def seed_of_the_global(i, a, g, m, s):
    return views(i, a, torch.Generator().manual_seed(int(torch.randint(1000, ()))), m, s)


def global_shuffle(i, a, g, m, s):
    torch.randperm(len(i))
    return views(i, a, g, m, s)


def normalised_in_place(i, a, g, m, s):
    m += 0.1
    return views(i, a, g, m - 0.1, s)


def copied_generator(i, a, g, m, s):
    return views(i, a, torch.Generator().manual_seed(g.initial_seed()), m, s)


def state_put_back(i, a, g, m, s):
    state = g.get_state()
    x1, x2 = views(i, a, g, m, s)
    g.set_state(state)
    return x1, x2


def last_image_dropped(i, a, g, m, s):
    x1, x2 = views(i, a, g, m, s)
    return x1[: max(1, len(i) - 1)], x2[: max(1, len(i) - 1)]


def shared(*names):
    """Two views that have some draws in common."""

    def make(i, a, g, m, s):
        one, two = a.draw(len(i), g), a.draw(len(i), g)
        return a.apply(i, one, m, s), a.apply(i, two | {name: one[name] for name in names}, m, s)

    return make


def one_for_all(name):
    """Two views in which a draw serves the whole batch."""

    def make(i, a, g, m, s):
        drawn = [a.draw(len(i), g) for _ in range(2)]
        return tuple(a.apply(i, d | {name: d[name][:1].expand_as(d[name])}, m, s) for d in drawn)

    return make


def other_second(**knobs):
    return lambda i, a, g, m, s: (a(i, g, m, s), replace(a, **knobs)(i, g, m, s))


def last_one_clean(i, a, g, m, s):
    x1, x2 = views(i, a, g, m, s)
    return x1, torch.cat((x2[:-1], normalise(i[-1:], m, s)))


def clamped(i, a, g, m, s):
    m, s = m[:, None, None], s[:, None, None]
    return tuple(((x * s + m).clamp(0, 1) - m) / s for x in views(i, a, g, m.flatten(), s.flatten()))


def state_copied(i, a, g, m, s):
    again = torch.Generator()
    again.set_state(g.get_state())
    return a(i, g, m, s), a(i, again, m, s)


def another_module(i, a, g, m, s):
    return views(i, a, torch.Generator().manual_seed(random.randrange(10**6)), m, s)


SAID_OF_VIEWS = {
    "the same crop": (shared("box"), "Both views of an image got the same crop"),
    "one crop": (one_for_all("box"), "All images of a batch got the same crop:"),
    "a copied state": (state_copied, "from the one generator"),
    "Python's random": (another_module, "elsewhere than the given generator"),
}


@pytest.mark.parametrize(("function", "because"), SAID_OF_VIEWS.values(), ids=SAID_OF_VIEWS)
def test_what_is_said_of_wrong_views_is_true(function, because):
    fails(TWO_VIEWS, function, because)


def test_a_second_view_of_another_crop_is_not_called_mirrored():
    verdict = judge(TWO_VIEWS, other_second(crop_scale=(0.8, 1)))
    assert verdict.status == "failed" and "mirrored" not in verdict.cause


WRONG_VIEWS = {
    **{f"shared {name}": shared(name) for name in ("box", "flip", "hue", "gray", "brightness", "contrast")},
    **{f"one {name} for all": one_for_all(name) for name in ("box", "hue", "gray", "contrast", "saturation")},
    **{f"second with {name} 0": other_second(**{name: 0.0}) for name in ("gray", "hue", "contrast", "saturation")},
    "both without gray": of(lambda a: {"gray": 0.0}),
    "second not cropped": other_second(crop_scale=(1, 1), crop_ratio=(1, 1)),
    "last image clean": last_one_clean,
    "clamped": clamped,
    "inference": torch.inference_mode()(views),
    "zeros of the CPU": lambda i, a, g, m, s: tuple(torch.zeros(i.shape) + x for x in views(i, a, g, m, s)),
    "both of the second draw": lambda i, a, g, m, s: (a(i, g, m, s), *[a(i, g, m, s)] * 2)[1:],
    "three views": lambda i, a, g, m, s: (*views(i, a, g, m, s), a(i, g, m, s)),
    "one after the other in one tensor": lambda i, a, g, m, s: torch.cat(views(i, a, g, m, s)),
    "pairs": lambda i, a, g, m, s: list(zip(*views(i, a, g, m, s), strict=True)),
    "without flip": of(lambda a: {"flip": 0.0}),
    "always mirrored": of(lambda a: {"flip": 1.0 if a.flip else 0.0}),
    "half the strength": of(lambda a: {"brightness": a.brightness / 2}),
    "weaker second view": weaker_second,
    "one crop for all": one_crop_for_all,
    "second view shifted by one": lambda i, a, g, m, s: (a(i, g, m, s), a(i, g, m, s).roll(1, 0)),
    "rows turned": lambda i, a, g, m, s: tuple(x.flip(0) for x in views(i, a, g, m, s)),
    "second upside down": lambda i, a, g, m, s: (a(i, g, m, s), a(i, g, m, s).flip(2)),
    "pixels 0 to 255": lambda i, a, g, m, s: tuple(255 * x for x in views(i, a, g, m, s)),
    "only one normalised": lambda i, a, g, m, s: (a(i, g, m, s), a(i, g, 0 * m, s / s)),
    "std of another channel": lambda i, a, g, m, s: views(i, a, g, m, s.flip(0)),
    "one mean for all channels": lambda i, a, g, m, s: views(i, a, g, m.mean().expand(3), s),
    "float64": lambda i, a, g, m, s: tuple(x.double() for x in views(i, a, g, m, s)),
    "bytes": lambda i, a, g, m, s: tuple(x.byte() for x in views(i, a, g, m, s)),
    "seeded by the global generator": seed_of_the_global,
    "the global generator for something else": global_shuffle,
    "a copy of the generator": copied_generator,
    "a new seed each time": lambda i, a, g, m, s: views(i, a, torch.Generator().manual_seed(torch.seed() % 99), m, s),
    "state put back": state_put_back,
    "mean changed in place": normalised_in_place,
    "the preset": lambda i, a, g, m, s: views(i, PRESETS["patterns"], g, m, s),
    "last image dropped": last_image_dropped,
    "clean images": lambda i, a, g, m, s: (normalise(i, m, s), normalise(i, m, s)),
    "on the CPU": lambda i, a, g, m, s: views(i.to("cpu"), a, g, m.to("cpu"), s.to("cpu")),
    "squeezed": lambda i, a, g, m, s: tuple(x.squeeze(0) for x in views(i, a, g, m, s)),
}  # fmt: skip


@pytest.mark.parametrize("function", WRONG_VIEWS.values(), ids=WRONG_VIEWS)
def test_wrong_views_fail(function):
    fails(TWO_VIEWS, function)


# ---- 1.4


@pytest.fixture(scope="module")
def stripes():
    images = patterns(4000, seed=1)
    return images.subset(images.labels == images.classes.index("stripes"))


def read(stripes, **changed):
    off = {"crop_scale": (1, 1), "crop_ratio": (1, 1), "flip": 0, "jitter": 0, "gray": 0}
    one = Augmentation(**{**off, **changed})
    generator = torch.Generator().manual_seed(0)
    return readable_factors(stripes, one(stripes.images, generator, torch.zeros(3), torch.ones(3)))


def test_all_factors_can_be_read_off_clean_images(stripes):
    found = read(stripes)
    assert list(found) == ["hue", "brightness", "frequency", "orientation", "phase"]
    assert min(found.values()) > 0.85


@pytest.mark.parametrize(
    ("changed", "hidden"),
    [
        ({"crop_scale": (0.2, 1), "crop_ratio": (3 / 4, 4 / 3)}, {"frequency", "phase"}),
        ({"flip": 0.5}, {"orientation"}),
        ({"jitter": 0.8, "contrast": 0, "saturation": 0}, {"brightness"}),
        ({"jitter": 0.8, "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0.5}, {"hue"}),
        ({"jitter": 0.8, "brightness": 0, "hue": 0}, set()),
    ],
    ids=["crop", "flip", "brightness", "hue", "contrast and saturation"],
)
def test_an_augmentation_hides_what_it_changes_and_nothing_else(stripes, changed, hidden):
    found = read(stripes, **changed)
    assert {name for name, share in found.items() if share < 0.7} == hidden


def test_half_of_the_orientation_survives_a_flip_and_a_fifth_of_the_hue_is_next_to_nothing(stripes):
    assert read(stripes, flip=0.5)["orientation"] == pytest.approx(0.5, abs=0.1)
    hue = read(stripes, jitter=0.8, brightness=0, contrast=0, saturation=0, hue=0.5)["hue"]
    assert hue < 0.12  # .2 squared is .04: R^2 counts squares


def test_views_that_do_not_belong_to_the_images_are_refused(stripes):
    with pytest.raises(InputError, match="give one of each"):
        readable_factors(stripes, torch.zeros(3, 3, 32, 32))
    with pytest.raises(InputError, match="at least 40"):
        readable_factors(stripes.subset(torch.arange(10)), torch.zeros(10, 3, 32, 32))
