"""Augmentations: held against torchvision's, one image at a time, and their promises about randomness."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from scipy.stats import ks_2samp
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from simsiam_course.augment import (
    LUMA,
    PRESETS,
    Augmentation,
    _constants,
    colour_map,
    crop,
    crop_box,
    gaussian_blur,
    hue_map,
    normalise,
    two_views,
)
from simsiam_course.errors import InputError

MEAN, STD = torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.25, 0.24, 0.26])
OFF = Augmentation(
    crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, brightness=0, contrast=0, saturation=0, hue=0, gray=0
)
EVERYTHING = Augmentation(blur=0.5, solarize=0.5, vertical_flip=0.5, turn=0.75)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(n: int = 8, height: int = 32, width: int = 32) -> torch.Tensor:
    """Uniform noise: the hardest picture for an interpolation, and every colour is in it."""
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator(1))


def apply_map(images: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bij,bjhw->bihw", colours[:, :, :3], images) + colours[:, :, 3, None, None]


def pixels(views: torch.Tensor) -> torch.Tensor:
    """Undo the normalisation."""
    return views * STD[:, None, None] + MEAN[:, None, None]


def only(**knobs: object) -> Augmentation:
    return dataclasses.replace(OFF, **knobs)


# ---- crop and flip


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
def test_crop_of_whole_pixels_is_torchvisions_resized_crop(height, width):
    images = random_images(6, height, width) / 255
    for top, left, h, w in [
        (0, 0, height, width),
        (3, 5, 20, 17),
        (11, 0, 1, 9),
        (height - 8, width - 9, 8, 9),
    ]:
        box = torch.tensor([top / height, left / width, h / height, w / width]).expand(6, 4)
        theirs = tv.resized_crop(images, top, left, h, w, [height, width], antialias=True)
        assert (crop(images, box) - theirs).abs().max() < 1e-5
        mirrored = crop(images, box, torch.ones(6, dtype=torch.bool))
        assert (mirrored - tv.horizontal_flip(theirs)).abs().max() < 1e-5


def test_crop_sees_no_pixel_outside_its_box():
    images = random_images(1).float()
    outside = torch.full_like(images, 1e6)
    outside[:, :, 8:24, 10:20] = images[:, :, 8:24, 10:20]
    box = torch.tensor([[8 / 32, 10 / 32, 16 / 32, 10 / 32]])
    assert torch.equal(crop(images, box), crop(outside, box))


def test_turns_are_torchs_rot90_and_flips_torchs_flip_one_image_at_a_time():
    images, n = random_images(64), 64
    augmentation = dataclasses.replace(EVERYTHING, blur=0, solarize=0)
    drawn = augmentation.draw(n, generator())
    assert drawn["turn"].unique().tolist() == [0, 1, 2, 3] and 0 < drawn["vertical_flip"].sum() < n
    still = {**drawn, "flip": torch.zeros(n, dtype=torch.bool)}
    del still["turn"], still["vertical_flip"]
    plain, views = (augmentation.apply(images, parameters, MEAN, STD) for parameters in (still, drawn))
    for i in range(n):
        expected = torch.flip(plain[i], [2]) if drawn["flip"][i] else plain[i]
        expected = torch.flip(expected, [1]) if drawn["vertical_flip"][i] else expected
        expected = torch.rot90(expected, int(drawn["turn"][i]), [1, 2])
        torch.testing.assert_close(views[i], expected, atol=1e-5, rtol=0)


def test_turns_and_vertical_flips_are_as_frequent_as_asked_and_change_no_other_draw():
    n = 20_000
    augmentation = dataclasses.replace(Augmentation(), vertical_flip=0.3, turn=0.6)
    drawn, without = augmentation.draw(n, generator()), Augmentation().draw(n, generator())
    assert drawn["vertical_flip"].float().mean() == pytest.approx(0.3, abs=0.015)
    shares = torch.bincount(drawn["turn"], minlength=4) / n
    assert shares.tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2], abs=0.015)
    assert drawn.keys() - without.keys() == {"vertical_flip", "turn"}
    assert all(torch.equal(drawn[name], without[name]) for name in without)


def test_only_square_images_are_turned_and_any_are_flipped_upside_down():
    images = random_images(4, 24, 40)
    with pytest.raises(InputError, match="24x40 pixels, but only square ones"):
        only(turn=1)(images, generator(), MEAN, STD)
    view = only(vertical_flip=1)(images, generator(), MEAN, STD)
    torch.testing.assert_close(view, normalise(images, MEAN, STD).flip(2), atol=2e-5, rtol=0)


def test_crop_stays_inside_the_image_for_any_box():
    n = 1000
    box = crop_box(torch.rand(n) ** 6, torch.ones(n), torch.rand(n, 2))
    ones = torch.ones(n, 3, 16, 16)
    assert (crop(ones, box) - 1).abs().max() < 1e-5


def test_crop_box_has_the_area_and_the_ratio_and_lies_where_asked():
    area, ratio = torch.tensor([0.25, 0.5]), torch.tensor([1.0, 2.0])
    boxes = crop_box(area, ratio, torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    expected = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.0, 0.0, 0.5, 1.0]])
    torch.testing.assert_close(boxes, expected)


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [
        ((0.2, 1.0), (3 / 4, 4 / 3)),
        ((0.1, 0.2), (0.2, 5.0)),
        ((0.9, 1.0), (0.5, 2.0)),
        ((0.8, 1.0), (1.5, 3.0)),
        ((0.8, 1.0), (0.3, 0.7)),
    ],
)
def test_boxes_are_distributed_as_torchvisions_random_resized_crop(scale, ratio):
    torch.manual_seed(0)
    canvas = torch.empty(1, 1000, 1000)  # large, so that torchvision's rounding to pixels does not matter
    torchvisions = v2.RandomResizedCrop(32, scale, ratio)
    draw = (
        getattr(torchvisions, "make_params", None) or torchvisions._get_params
    )  # the name in older versions
    theirs = torch.tensor([list(draw([canvas]).values()) for _ in range(2000)])
    ours = Augmentation(crop_scale=scale, crop_ratio=ratio).draw(6000, generator())["box"]
    for name, a, b in zip(("top", "left", "height", "width"), 1000 * ours.T, theirs.T, strict=True):
        # to 5 pixels of 1000: fallback boxes are many equal ones, and torchvision rounds them down
        assert ks_2samp((a / 5).round(), (b / 5).round()).pvalue > 1e-3, name
    our_ratios, their_ratios = (box[:, 3] / box[:, 2] for box in (ours, theirs))
    assert ks_2samp((20 * our_ratios).round(), (20 * their_ratios).round()).pvalue > 1e-3
    assert ours.min() >= 0 and (ours[:, :2] + ours[:, 2:]).max() <= 1 + 1e-6


# ---- colours


def torchvisions_colours(image, brightness, contrast, saturation, gray):
    image = tv.adjust_brightness(image, brightness)
    image = tv.adjust_contrast(image, contrast)
    image = tv.adjust_saturation(image, saturation)
    return tv.rgb_to_grayscale(image, num_output_channels=3) if gray else image


def test_colour_map_is_torchvisions_functions_in_the_same_order():
    images = 0.35 + 0.2 * random_images(12) / 255  # narrow, so that nothing clamps
    brightness, contrast, saturation = (0.6 + 0.8 * torch.rand(3, 12, generator=generator())).unbind()
    gray = torch.arange(12) % 3 == 0
    theirs = torch.stack(
        [
            torchvisions_colours(x, b.item(), c.item(), s.item(), g.item())
            for x, b, c, s, g in zip(images, brightness, contrast, saturation, gray, strict=True)
        ]
    )
    assert theirs.min() > 0 and theirs.max() < 1, "torchvision clamped: the comparison would prove nothing"
    ours = apply_map(images, colour_map(brightness, contrast, saturation, images.mean((2, 3)), gray=gray))
    assert (ours - theirs).abs().max() < 1e-5


def test_a_whole_view_is_torchvisions_one_image_at_a_time():
    images = (90 + 50 * (random_images(12) / 255)).to(torch.uint8)
    parameters = Augmentation(hue=0, blur=0.5, solarize=0.5).draw(12, generator(5))
    whole = torch.tensor([[4, 8, 20, 16]]) / 32
    parameters["box"] = whole.expand(12, 4)
    ours = pixels(EVERYTHING.apply(images, parameters, MEAN, STD))
    for i, image in enumerate(images / 255):
        drawn = {name: value[i].item() for name, value in parameters.items() if name != "box"}
        view = tv.resized_crop(image, 4, 8, 20, 16, [32, 32], antialias=True)
        view = tv.horizontal_flip(view) if drawn["flip"] else view
        view = torchvisions_colours(
            view, drawn["brightness"], drawn["contrast"], drawn["saturation"], drawn["gray"]
        )
        view = tv.gaussian_blur(view, [3, 3], drawn["blur"]) if drawn["blur"] else view
        view = tv.solarize(view, 0.5) if drawn["solarize"] else view
        assert view.min() > 0 and view.max() < 1
        assert (ours[i] - view).abs().max() < 1e-5


def test_contrast_pulls_towards_the_mean_grey_of_the_crop_not_of_the_image():
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    images[:, :, :, 16:] = 200
    parameters = OFF.draw(1, generator()) | {
        "contrast": torch.zeros(1),
        "box": torch.tensor([[0, 0.5, 1, 0.5]]),
    }
    view = pixels(OFF.apply(images, parameters, MEAN, STD))
    torch.testing.assert_close(view, torch.full_like(view, 0.9999 * 200 / 255))


def test_hue_keeps_grey_and_luma():
    turns = torch.linspace(-0.5, 0.5, 41)
    maps = hue_map(turns)
    luma = torch.tensor(LUMA)
    torch.testing.assert_close(
        maps.sum(2), torch.ones(41, 3), atol=1e-6, rtol=0
    )  # grey (v, v, v) stays (v, v, v)
    torch.testing.assert_close(luma @ maps, luma.expand(41, 3), atol=1e-6, rtol=0)


def test_hue_is_a_rotation_so_turns_add_up():
    a, b = torch.rand(2, 50, generator=generator()) - 0.5
    torch.testing.assert_close(hue_map(a) @ hue_map(b), hue_map(a + b), atol=1e-5, rtol=0)
    torch.testing.assert_close(hue_map(torch.zeros(1)), torch.eye(3)[None])


def test_hue_by_a_third_makes_red_the_greenest_colour():
    red = torch.tensor([1.0, 0.0, 0.0])
    assert (hue_map(torch.tensor([1 / 3]))[0] @ red).argmax() == 1
    assert tv.adjust_hue(red.view(3, 1, 1), 1 / 3).argmax() == 1


@pytest.mark.parametrize(("strength", "difference", "change"), [(0.1, 0.0453, 0.0511), (0.5, 0.1182, 0.2445)])
def test_hue_differs_from_torchvisions_by_the_stated_mean(strength, difference, change):
    """Mean absolute difference over uniformly random colours in [0, 1], beside torchvision's own change."""
    images = random_images(41) / 255
    turns = torch.linspace(-strength, strength, 41)
    theirs = torch.stack([tv.adjust_hue(x, t.item()) for x, t in zip(images, turns, strict=True)])
    ours = torch.einsum("bij,bjhw->bihw", hue_map(turns), images)
    assert (ours - theirs).abs().mean() == pytest.approx(difference, abs=0.001)
    assert (images - theirs).abs().mean() == pytest.approx(change, abs=0.001)


def test_grey_images_stay_grey():
    images = random_images(64)[:, :1].expand(-1, 3, -1, -1)
    view = pixels(EVERYTHING(images, generator(), MEAN, STD))
    assert (view - view[:, :1]).abs().max() < 2e-6


# ---- blur and solarization


@pytest.mark.parametrize(("size", "taps"), [(32, 3), (64, 7), (224, 23)])
def test_blur_is_torchvisions_with_a_sigma_per_image(size, taps):
    images = random_images(4, size, size + 8) / 255
    sigma = torch.tensor([0.1, 0.5, 1.0, 2.0])
    theirs = torch.stack(
        [tv.gaussian_blur(x, [taps, taps], s.item()) for x, s in zip(images, sigma, strict=True)]
    )
    assert (gaussian_blur(images, sigma) - theirs).abs().max() < 1e-5


def test_blur_of_sigma_zero_changes_nothing():
    images = random_images(2) / 255
    assert torch.equal(gaussian_blur(images, torch.zeros(2)), images)


def test_solarize_inverts_the_bright_half():
    images = random_images()
    view = pixels(only(solarize=1)(images, generator(), MEAN, STD))
    torch.testing.assert_close(view, tv.solarize(images / 255, 0.5), atol=1e-6, rtol=0)


# ---- randomness


def test_same_seed_same_bits():
    images = random_images()
    first, again = (EVERYTHING(images, generator(7), MEAN, STD) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, EVERYTHING(images, generator(8), MEAN, STD))


def test_a_slice_of_the_parameters_makes_the_slice_of_the_views():
    images = random_images()
    parameters = EVERYTHING.draw(8, generator())
    whole = EVERYTHING.apply(images, parameters, MEAN, STD)
    part = EVERYTHING.apply(images[3:6], {k: v[3:6] for k, v in parameters.items()}, MEAN, STD)
    torch.testing.assert_close(part, whole[3:6], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "name", [name for name in PRESETS if name != "no_crop"]
)  # it leaves some as they are
def test_views_differ_from_each_other_and_between_images(name):
    images = random_images(1).expand(16, -1, -1, -1)  # the same picture sixteen times
    x1, x2 = two_views(images, PRESETS[name], generator(), MEAN, STD)
    views = torch.cat((x1, x2)).flatten(1)
    assert torch.pdist(views).min() > 1


def test_every_knob_is_independent_of_every_other():
    drawn = Augmentation(jitter=0.5, blur=1, solarize=0.5).draw(20_000, generator())
    drawn["jittered"] = drawn["brightness"] != 1
    columns = torch.cat([value.float().view(20_000, -1) for value in drawn.values()], dim=1).T
    correlation = torch.corrcoef(columns) - torch.eye(len(columns))
    correlation[:4, :4] = 0  # a box's four numbers hang together
    assert correlation.abs().max() < 0.04


def test_factors_and_probabilities_are_those_asked_for():
    knobs = Augmentation(
        flip=0.3, brightness=1.5, contrast=0.4, hue=0.2, jitter=0.6, gray=0.1, blur=0.7, solarize=0.2
    )
    drawn = knobs.draw(20_000, generator())
    for name, p in [("flip", 0.3), ("gray", 0.1), ("solarize", 0.2)]:
        assert drawn[name].float().mean() == pytest.approx(p, abs=0.015)
    assert (drawn["contrast"] != 1).float().mean() == pytest.approx(0.6, abs=0.015)
    assert (drawn["blur"] > 0).float().mean() == pytest.approx(0.7, abs=0.015)
    for name, low, high in [
        ("brightness", 0, 2.5),
        ("contrast", 0.6, 1.4),
        ("hue", -0.2, 0.2),
        ("blur", 0, 2),
    ]:
        assert low <= drawn[name].min() < low + 0.01 and high - 0.01 < drawn[name].max() <= high


# ---- promises about input and output


@pytest.mark.parametrize("size", [(32, 32), (17, 33)])
def test_with_every_knob_off_a_view_is_the_normalised_image(size):
    images = random_images(4, *size)
    view = OFF(images, generator(), MEAN, STD)
    assert (view - normalise(images, MEAN, STD)).abs().max() < 2e-5
    assert view.dtype == torch.float32 and view.shape == images.shape and view.is_contiguous()


@pytest.mark.parametrize(
    "knob",
    [
        {"crop_scale": (0.2, 0.9)},
        {"flip": 1},
        {"brightness": 0.4},
        {"contrast": 0.4},
        {"saturation": 0.4},
        {"hue": 0.1},
        {"gray": 1},
        {"blur": 1},
        {"solarize": 1},
        {"vertical_flip": 1},
        {"turn": 1},
    ],
    ids=lambda knob: next(iter(knob)),
)
def test_every_knob_alone_changes_the_view(knob):
    images = random_images(4)
    augmentation = only(jitter=1, **knob)
    assert (augmentation(images, generator(), MEAN, STD) - normalise(images, MEAN, STD)).abs().mean() > 0.01


def test_normalised_images_have_mean_0_and_std_1():
    images = random_images(64)
    mean, std = (images / 255).mean((0, 2, 3)), (images / 255).std((0, 2, 3))
    x = normalise(images, mean, std)
    assert x.mean((0, 2, 3)).abs().max() < 1e-4 and (x.std((0, 2, 3)) - 1).abs().max() < 1e-4


def test_the_input_is_never_changed():
    images = random_images()
    kept = images.clone()
    parameters = EVERYTHING.draw(8, generator())
    kept_parameters = {name: value.clone() for name, value in parameters.items()}
    EVERYTHING.apply(images, parameters, MEAN, STD)
    assert torch.equal(images, kept)
    assert all(torch.equal(parameters[name], kept_parameters[name]) for name in parameters)


def test_autocast_leaves_views_in_float32():
    images = random_images()
    plain = EVERYTHING(images, generator(), MEAN, STD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(EVERYTHING(images, generator(), MEAN, STD), plain)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(2, 3, 8, 8), "uint8"),
        ([[0]], "uint8"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"\(B, 3, H, W\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), r"\(B, 3, H, W\)"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), r"\(B, 3, H, W\)"),
    ],
)
def test_images_of_another_kind_are_refused(images, words):
    with pytest.raises(InputError, match=words):
        OFF.apply(images, OFF.draw(2, generator()), MEAN, STD)
    with pytest.raises(InputError, match=words):
        normalise(images, MEAN, STD)


def test_parameters_of_another_batch_are_refused():
    with pytest.raises(InputError, match="4 parameters for 8 images"):
        OFF.apply(random_images(8), OFF.draw(4, generator()), MEAN, STD)
    with pytest.raises(InputError, match="one value per channel"):
        OFF.apply(random_images(8), OFF.draw(8, generator()), MEAN[:1], STD)
    with pytest.raises(InputError, match="at least 1"):
        OFF.draw(0, generator())


@pytest.mark.parametrize(
    "knob",
    [
        {"flip": 1.1}, {"gray": -0.1}, {"jitter": math.nan}, {"blur": 2}, {"solarize": 2}, {"hue": 0.6},
        {"brightness": -1}, {"contrast": math.inf}, {"crop_scale": (0, 1)}, {"crop_scale": (0.5, 1.2)},
        {"crop_scale": (0.9, 0.1)}, {"crop_scale": (1,)}, {"crop_ratio": (-1, 1)}, {"blur_sigma": (0, 1)},
        {"vertical_flip": 1.5}, {"turn": -0.5},
    ],
    ids=str,
)  # fmt: skip
def test_a_knob_outside_its_range_is_refused_by_name(knob):
    with pytest.raises(InputError, match=next(iter(knob))):
        Augmentation(**knob)


def test_a_pair_may_be_given_as_a_list():
    made = Augmentation(crop_scale=[0.2, 1.0], crop_ratio=[0.75, 4 / 3], blur_sigma=[0.1, 2.0])
    assert made == Augmentation() and hash(made) == hash(Augmentation())


def test_on_cuda_everything_is_on_one_device_and_nothing_waits_for_it():
    """Shapes and devices without the numbers: reading a value back, or mixing devices, raises here."""
    _constants.cache_clear()
    with FakeTensorMode():
        images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8, device="cuda")
        parameters = EVERYTHING.draw(8, generator())
        for device in ("cpu", "cuda"):
            drawn = {name: value.to(device) for name, value in parameters.items()}
            views = EVERYTHING.apply(
                images, drawn, torch.zeros(3, device=device), torch.ones(3, device=device)
            )
            assert (views.device.type, views.dtype, views.shape) == ("cuda", torch.float32, images.shape)
    _constants.cache_clear()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_makes_the_views_that_the_cpu_makes():
    images, parameters = random_images(64), EVERYTHING.draw(64, generator())
    on_cpu = EVERYTHING.apply(images, parameters, MEAN, STD)
    on_cuda = EVERYTHING.apply(images.cuda(), parameters, MEAN, STD)
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, atol=1e-4, rtol=0)
    drawn = EVERYTHING.draw(64, torch.Generator("cuda").manual_seed(0))
    assert {value.device.type for value in drawn.values()} == {"cuda"}


# --- presets


@pytest.mark.parametrize("name, knobs", [
    ("no_crop", {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}), ("no_flip", {"flip": 0.0}),
    ("no_jitter", {"jitter": 0.0}), ("no_gray", {"gray": 0.0}), ("with_blur", {"blur": 0.5}),
])  # fmt: skip
def test_a_preset_of_the_ablation_differs_from_the_patterns_list_in_one_augmentation(name, knobs):
    assert PRESETS[name] == dataclasses.replace(PRESETS["patterns"], **knobs)
    assert PRESETS[name] != PRESETS["patterns"]


def test_satellite_views_have_any_direction_and_digits_none_but_their_own():
    assert PRESETS["satellite"].turn == 0.75 and PRESETS["satellite"].vertical_flip == 0.5
    for name, flips in (("digits", False), ("digits_flip", True)):
        drawn = PRESETS[name].draw(200, generator())
        assert bool(drawn["flip"].any()) == flips and not {"turn", "vertical_flip"} & drawn.keys()
    assert PRESETS["digits_flip"] == dataclasses.replace(PRESETS["digits"], flip=0.5)


def test_what_is_left_out_happens_to_no_image_and_the_rest_goes_on():
    n = 400

    def happens(name):
        drawn = PRESETS[name].draw(n, generator())
        whole = torch.tensor([0.0, 0.0, 1.0, 1.0])
        return {
            "crop": not torch.allclose(drawn["box"], whole.expand(n, 4)),
            "flip": bool(drawn["flip"].any()),
            "jitter": any(bool((drawn[k] != 1).any()) for k in ("brightness", "contrast", "saturation"))
            or bool(drawn["hue"].any()),
            "gray": bool(drawn["gray"].any()),
            "blur": "blur" in drawn and bool((drawn["blur"] > 0).any()),
        }

    everything = {"crop": True, "flip": True, "jitter": True, "gray": True, "blur": False}
    assert happens("patterns") == everything
    for part in ("crop", "flip", "jitter", "gray"):
        assert happens(f"no_{part}") == {**everything, part: False}
    assert happens("with_blur") == {**everything, "blur": True}


def test_without_crop_flip_and_colours_a_view_is_the_image_itself():
    images = random_images(4)
    still = dataclasses.replace(PRESETS["no_crop"], flip=0.0, jitter=0.0, gray=0.0)
    x1, _ = two_views(images, still, generator(), MEAN, STD)
    torch.testing.assert_close(x1, normalise(images, MEAN, STD), atol=1e-4, rtol=0)
