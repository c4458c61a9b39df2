"""Image sets, the patterns, and every source that needs no network."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from simsiam_course.data import (
    SOURCES,
    ImageSet,
    cache_dir,
    folders,
    load,
    load_pair,
    patterns,
    write_demo_folder,
)
from simsiam_course.errors import InputError
from simsiam_course.evaluate import baselines
from simsiam_course.recipe import Recipe


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSIAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def image_set(n: int = 12, classes: int = 3, size: int = 8) -> ImageSet:
    images = torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(n)).to(
        torch.uint8
    )
    return ImageSet(
        images, torch.arange(n) % classes, tuple("abcdefghij"[:classes]), name="small", split="train"
    )


# --- ImageSet


def test_a_saved_set_loads_as_it_was(tmp_path: Path) -> None:
    saved = image_set()
    saved.save(tmp_path / "set.safetensors")
    loaded = ImageSet.load(tmp_path / "set.safetensors")
    assert torch.equal(loaded.images, saved.images) and torch.equal(loaded.labels, saved.labels)
    assert (loaded.name, loaded.split, loaded.classes) == ("small", "train", ("a", "b", "c"))
    assert os.listdir(tmp_path) == ["set.safetensors"]


def test_an_unlabelled_set_is_saved_without_labels(tmp_path: Path) -> None:
    ImageSet(image_set().images).save(tmp_path / "set.safetensors")
    loaded = ImageSet.load(tmp_path / "set.safetensors")
    assert loaded.labels is None and not loaded.labelled and loaded.classes == ()


def test_a_saved_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    image_set().save(tmp_path / "set.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "set.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_saving_where_a_file_is_the_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write"):
        image_set().save(tmp_path / "file" / "set.safetensors")


def test_mean_and_std_are_those_of_the_pixels() -> None:
    images = image_set(50).images
    pixels = images.double() / 255
    torch.testing.assert_close(ImageSet(images).mean, pixels.mean((0, 2, 3)).float())
    torch.testing.assert_close(ImageSet(images).std, pixels.std((0, 2, 3), correction=0).float())


def test_images_of_one_colour_have_a_std_that_can_be_divided_by() -> None:
    assert ImageSet(torch.full((4, 3, 8, 8), 7, dtype=torch.uint8)).std.min() > 0


def test_repr_tells_what_a_set_is() -> None:
    assert repr(patterns(10)).startswith(
        "ImageSet 'patterns', train: 10 images of 32x32, 10 classes: stripes, checks"
    )
    assert "factors hue" in repr(patterns(10)) and "mean" in repr(patterns(10))
    unlabelled = repr(ImageSet(image_set().images))
    assert "unlabelled" in unlabelled and "need two labelled classes" in unlabelled
    assert "(1 unlabelled)" in repr(ImageSet(image_set(3).images, torch.tensor([0, 1, -1])))


def test_one_class_or_only_unlabelled_images_do_not_count_as_labelled() -> None:
    images = image_set(4).images
    assert ImageSet(images, torch.tensor([0, 1, -1, -1])).labelled
    assert not ImageSet(images, torch.tensor([2, 2, -1, -1])).labelled
    assert not ImageSet(images, torch.full((4,), -1)).labelled


def test_a_subset_keeps_images_labels_and_factors_together() -> None:
    everything = patterns(20)
    some = everything.subset(torch.tensor([5, 3]))
    assert torch.equal(some.images, everything.images[[5, 3]])
    assert some.labels.tolist() == everything.labels[[5, 3]].tolist()
    assert some.factors["hue"].tolist() == everything.factors["hue"][[5, 3]].tolist()
    assert len(everything.subset(everything.labels == 0)) == 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-1, 4), min_size=5, max_size=60),
    st.sampled_from([0.2, 0.25, 0.5]),
    st.integers(0, 3),
)
def test_a_split_takes_the_same_share_of_every_class(labels: list[int], fraction: float, seed: int) -> None:
    ids = torch.arange(len(labels), dtype=torch.float32)
    images = torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8)
    train, test = ImageSet(images, torch.tensor(labels), factors={"id": ids}).split_off(fraction, seed)
    assert sorted(train.factors["id"].tolist() + test.factors["id"].tolist()) == ids.tolist()
    assert 0 < len(test) <= math.floor(len(labels) * fraction + 1e-9)
    if min(map(labels.count, set(labels))) > 1:
        assert len(test) == math.floor(len(labels) * fraction + 1e-9)
    for label in set(labels):
        assert abs(int((test.labels == label).sum()) - labels.count(label) * fraction) <= 1
    unseen = set(test.labels.tolist()) - set(train.labels.tolist()) - {-1}
    assert not unseen or unseen == set(test.labels.tolist())  # nothing else could be tested on


def test_the_only_picture_of_a_class_is_trained_on() -> None:
    images = torch.zeros(62, 3, 8, 8, dtype=torch.uint8)
    train, test = ImageSet(images, torch.tensor([0] * 56 + [1, 2, 3, 4, 5, 6])).split_off()
    assert set(train.labels.tolist()) == set(range(7)) and test.labels.tolist() == [0] * 11
    train, test = ImageSet(images, torch.arange(62)).split_off()  # a picture each: the labels are of no use
    assert (len(train), len(test)) == (50, 12)


def test_a_split_is_the_same_for_the_same_seed_and_keeps_the_order() -> None:
    first, second, other = (patterns(50).split_off(seed=seed)[1] for seed in (0, 0, 1))
    assert first.fingerprint() == second.fingerprint() != other.fingerprint()
    unlabelled = ImageSet(image_set(10).images, factors={"id": torch.arange(10)})
    assert unlabelled.split_off()[0].factors["id"].diff().min() > 0


def test_too_few_images_to_split_is_one_sentence() -> None:
    with pytest.raises(InputError, match="too few to set 20% aside"):
        image_set(3).split_off()


def test_a_fingerprint_changes_with_a_pixel_a_label_and_the_shape() -> None:
    base = image_set()
    brighter, relabelled = base.images.clone(), base.labels.clone()
    brighter[0, 0, 0, 0] ^= 1
    relabelled[0] = 2
    others = [
        ImageSet(brighter, base.labels),
        ImageSet(base.images, relabelled),
        ImageSet(base.images),
        ImageSet(base.images.reshape(12, 3, 4, 16).reshape(3, 3, 16, 16)),
    ]
    assert len({base.fingerprint(), *(other.fingerprint() for other in others)}) == 5
    assert base.fingerprint() == image_set().fingerprint()


@pytest.mark.parametrize(
    ("tensors", "metadata", "sentence"),
    [
        ({"pictures": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, {}, r"keys are \['pictures'\]"),
        (
            {"images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "boxes": torch.zeros(2)},
            {},
            r"\['boxes'\] are unknown",
        ),
        ({"images": torch.zeros(2, 3, 8, 8)}, {}, "float32, not uint8"),
        ({"images": torch.zeros(2, 8, 8, 3, dtype=torch.uint8)}, {}, r"not \(N, 3, H, W\)"),
        ({"images": torch.zeros(3, 8, 8, dtype=torch.uint8)}, {}, r"not \(N, 3, H, W\)"),
        ({"images": torch.zeros(0, 3, 8, 8, dtype=torch.uint8)}, {}, "no images"),
        ({"images": torch.zeros(2, 3, 7, 8, dtype=torch.uint8)}, {}, "7x8 pixels"),
        ({"labels": torch.zeros(2, dtype=torch.int32)}, {}, "int32, not int64"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, {}, r"shape \(3,\), not \(2,\)"),
        ({"labels": torch.tensor([0, -2])}, {}, "Label -2 is out of range"),
        (
            {"labels": torch.tensor([0, 2])},
            {"classes": '["a", "b"]'},
            "Label 2 is out of range for 2 class names",
        ),
        ({}, {"classes": "a, b"}, "not a JSON list"),
        ({}, {"classes": '{"a": 0}'}, "not a JSON list"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence_with_its_name(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], sentence: str
) -> None:
    good = {"images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)} if "pictures" not in tensors else {}
    save_file({**good, **tensors}, tmp_path / "bad.safetensors", metadata)
    with pytest.raises(InputError, match=sentence) as caught:
        load(f"file:{tmp_path / 'bad.safetensors'}")
    assert "bad.safetensors" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, keep: int) -> None:
    image_set().save(tmp_path / "cut.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "cut.safetensors").read_bytes()[:keep])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        ImageSet.load(tmp_path / "cut.safetensors")


def test_a_loaded_set_survives_the_end_of_its_file(tmp_path: Path) -> None:
    image_set().save(tmp_path / "set.safetensors")
    loaded = ImageSet.load(tmp_path / "set.safetensors")
    with open(tmp_path / "set.safetensors", "r+b") as file:
        file.truncate(0)
    assert torch.equal(loaded.images, image_set().images)


# --- patterns


def test_patterns_are_the_same_bits_for_the_same_seed_and_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    try:
        prints = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            prints.append(patterns(500, seed=3).fingerprint())
    finally:
        torch.set_num_threads(before)
    assert prints[0] == prints[1]


def test_patterns_differ_between_seeds_and_between_train_and_test() -> None:
    sets = [patterns(100, seed=seed, split=split) for seed in (0, 1, 2) for split in ("train", "test")]
    assert len({images.fingerprint() for images in sets}) == len(sets)


def test_patterns_are_balanced_and_shuffled_and_say_their_factors() -> None:
    images = patterns(1000)
    assert images.labels.bincount().tolist() == [100] * 10 and images.labels.diff().ne(0).float().mean() > 0.8
    assert set(images.factors) >= {"hue", "order", "frequency", "orientation", "phase", "shading", "noise"}
    assert all(values.dtype == torch.float32 for values in images.factors.values())
    low, high = images.factors["frequency"].aminmax()
    assert 3.2 <= low < 3.3 and 6.1 < high <= 6.2


def test_a_pattern_has_two_tones_of_its_one_hue() -> None:
    images = patterns(300, size=64)
    pixels = images.images.double().mean((2, 3)) / 255
    strongest = pixels.argmax(1)
    expected = (images.factors["hue"] * 3).round().long() % 3  # the nearest of red, green, blue
    clear = (images.factors["hue"] * 3 - (images.factors["hue"] * 3).round()).abs() < 0.3
    assert torch.equal(strongest[clear], expected[clear])


def test_the_frequency_factor_is_the_number_of_cycles() -> None:
    images = patterns(2000, size=64)
    stripes = images.subset(images.labels == images.classes.index("stripes"))
    spectrum = torch.fft.fft2(
        stripes.images.double().mean(1) - stripes.images.double().mean((1, 2, 3))[:, None, None]
    ).abs()
    spectrum[:, :2, :2] = spectrum[:, -1:, :2] = 0  # the shading
    peak = spectrum.flatten(1).argmax(1)
    cycles = torch.fft.fftfreq(64, 1 / 64)
    measured = torch.hypot(cycles[peak // 64], cycles[peak % 64])
    assert (measured - stripes.factors["frequency"]).abs().median() < 0.5


@pytest.mark.parametrize(
    "bad, said", [({"n": 0}, "n is 0"), ({"size": 7}, "size is 7"), ({"split": "all"}, "'all'")]
)
def test_patterns_that_cannot_be_drawn_are_one_sentence(bad: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        patterns(**bad)


@pytest.mark.parametrize("seed", [0, 1])
def test_neither_pixels_nor_a_random_backbone_say_much_about_the_class_of_a_pattern(seed: int) -> None:
    train, test = patterns(seed=seed), patterns(2048, seed=seed, split="test")
    found = baselines(train, test, Recipe(seed=seed).build)
    assert 0.15 <= found["raw_pixels_knn"] <= 0.30
    assert 0.15 <= found["random_backbone_knn"] <= 0.30


# --- load, load_pair


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("imagenet", "patterns, digits, cifar10"),
        ("", "no data set ''"),
        ("file:", "no path"),
        ("folder:", "no path"),
        ("file:/no/such.safetensors", "no file"),
        ("folder:/no/such", "no folder"),
        ("folder:\0", "NUL"),
        ("file:~nobody/" + "x" * 5000, "no file"),
        ("folder:" + "x" * 5000, "no folder"),
        ("x" * 5000, "no data set"),
        (5, "data set is 5, expected a name"),
        (None, "data set is None, expected a name"),
        (["patterns"], "expected a name"),
        (Path("pictures"), "write 'folder:PATH'"),
    ],
)
def test_a_name_that_is_no_source_is_one_sentence(name: object, sentence: str) -> None:
    for read in (load, load_pair):
        with pytest.raises(InputError, match=sentence):
            read(name)


def test_a_bare_path_is_told_its_prefix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"write folder:{tmp_path}"):
        load(str(tmp_path))


@pytest.mark.parametrize("bad", [{"split": "valid"}, {"size": 4}, {"size": 32.0}, {"size": True}])
def test_a_split_or_size_that_does_not_exist_is_one_sentence(bad: dict) -> None:
    with pytest.raises(InputError, match="choose"):
        load("patterns", **bad)


def test_digits_come_in_colour_at_the_size_asked_for() -> None:
    train, test, everything = (load("digits", split=split, size=16) for split in ("train", "test", "all"))
    assert (len(train), len(test), len(everything)) == (1438, 359, 1797)
    assert everything.images.shape == (1797, 3, 16, 16) and everything.images.max() == 255
    assert (everything.images == everything.images[:, :1]).all()
    assert (test.labels.bincount() - everything.labels.bincount() * 0.2).abs().max() <= 1


def test_all_patterns_are_the_training_images_and_then_the_test_images() -> None:
    everything, (train, test) = load("patterns", split="all"), load_pair("patterns")
    assert torch.equal(everything.images, torch.cat([train.images, test.images]))
    assert len(everything.factors["hue"]) == 6144


def test_two_files_are_used_whole_and_one_is_split(tmp_path: Path) -> None:
    for name, n in (("a", 30), ("b", 12)):
        image_set(n).save(tmp_path / f"{name}.safetensors")
    a, b = (f"file:{tmp_path / name}.safetensors" for name in "ab")
    assert [len(images) for images in load_pair(a, test=b)] == [30, 12]
    assert [len(images) for images in load_pair(a)] == [24, 6]
    assert [images.split for images in load_pair(a)] == ["train", "test"]
    assert [len(images) for images in load_pair("patterns", test="patterns")] == [4096, 2048]


def test_a_file_may_be_larger_than_the_size_that_others_are_scaled_to(tmp_path: Path) -> None:
    ImageSet(torch.zeros(2, 3, 8, 1100, dtype=torch.uint8)).save(tmp_path / "wide.safetensors")
    assert len(load(f"file:{tmp_path / 'wide.safetensors'}", split="all", size=1100)) == 2
    with pytest.raises(InputError, match="Size 1100"):
        load("digits", size=1100)


def test_a_limit_cuts_the_training_set_only_and_keeps_its_order() -> None:
    train, test = load_pair("patterns", limit=100)
    again, _ = load_pair("patterns", limit=100)
    full = [image.numpy().tobytes() for image in load("patterns").images]
    places = [full.index(image.numpy().tobytes()) for image in train.images]
    assert len(train) == 100 and len(test) == 2048 and places == sorted(places) != list(range(100))
    assert train.fingerprint() == again.fingerprint()
    assert len(load_pair("patterns", limit=10**6)[0]) == 4096


@pytest.mark.parametrize("limit", [0, -3, 2.5, True])
def test_a_limit_that_is_no_count_is_one_sentence(limit: object) -> None:
    with pytest.raises(InputError, match="limit"):
        load_pair("patterns", limit=limit)


def test_training_and_test_images_must_fit_together(tmp_path: Path) -> None:
    image_set(30, size=16).save(tmp_path / "large.safetensors")
    image_set(30).save(tmp_path / "small.safetensors")
    image_set(30, classes=4).save(tmp_path / "four.safetensors")
    small, large, four = (f"file:{tmp_path / name}.safetensors" for name in ("small", "large", "four"))
    with pytest.raises(InputError, match="8x8, test images of 'small' are 16x16"):
        load_pair(small, test=large)
    with pytest.raises(InputError, match="same classes"):
        load_pair(small, test=four)


def test_every_source_has_a_line_of_help() -> None:
    assert list(SOURCES)[0] == "patterns" and all(SOURCES.values())
    json.dumps(SOURCES)


def test_the_cache_is_where_the_variable_says_or_the_users(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    assert cache_dir() == cache
    monkeypatch.delenv("SIMSIAM_CACHE")
    assert cache_dir().name == "simsiam-course" or "simsiam-course" in cache_dir().parts


# --- folder:


def picture(
    path: Path, size: tuple[int, int] = (40, 20), mode: str = "RGB", colour: object = None, **options
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = ((200, 100, 50) if mode == "RGB" else 0) if colour is None else colour
    Image.new(mode, size, colour).save(path, **options)


def mean_colour(name: str) -> list[float]:
    return load(name, split="all").images.double().mean((0, 2, 3)).tolist()


def test_class_folders_are_classes_by_sorted_name(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "pets" / "dog" / f"{i}.png", colour=(0, 0, 250))
        picture(tmp_path / "pets" / "cat" / "deep" / f"{i}.JPG", colour=(250, 0, 0))
    (tmp_path / "pets" / "empty").mkdir()
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no picture")
    picture(tmp_path / "pets" / ".hidden" / "x.png")
    picture(tmp_path / "pets" / "dog" / ".x.png")
    images = load(f"folder:{tmp_path / 'pets'}", split="all")
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.images.shape == (6, 3, 32, 32) and images.name == "folder:pets"
    assert images.images[0, 0].float().mean() > 240 and images.images[5, 2].float().mean() > 240


def test_a_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / "flat" / f"{i}.png")
    train, test = load_pair(f"folder:{tmp_path / 'flat'}", size=16)
    assert train.labels is None and (len(train), len(test)) == (4, 1) and train.images.shape[-1] == 16


@pytest.mark.parametrize(
    ("file", "mode", "colour", "expected"),
    [
        ("l.png", "L", 100, (100, 100, 100)),
        ("la.png", "LA", (100, 0), (255, 255, 255)),
        ("rgba.png", "RGBA", (0, 0, 200, 255), (0, 0, 200)),
        ("clear.png", "RGBA", (0, 0, 200, 0), (255, 255, 255)),
        ("p.gif", "P", 0, (0, 0, 0)),
        ("one.png", "1", 1, (255, 255, 255)),
        ("sixteen.png", "I;16", 65535 // 2, (127, 127, 127)),
        ("cmyk.jpg", "CMYK", (0, 0, 0, 0), (255, 255, 255)),
        ("tiff.tif", "RGB", (9, 99, 199), (9, 99, 199)),
        ("bmp.bmp", "RGB", (9, 99, 199), (9, 99, 199)),
        ("webp.webp", "RGB", (9, 99, 199), (9, 99, 199)),
    ],
)
def test_pictures_of_every_mode_become_rgb(
    tmp_path: Path, file: str, mode: str, colour: object, expected: tuple[int, ...]
) -> None:
    picture(tmp_path / "folder" / file, mode=mode, colour=colour)
    assert mean_colour(f"folder:{tmp_path / 'folder'}") == pytest.approx(expected, abs=4)


def test_the_shorter_side_fits_and_the_centre_is_kept(tmp_path: Path) -> None:
    wide = Image.new("RGB", (90, 30), (255, 0, 0))
    wide.paste((0, 255, 0), (30, 0, 60, 30))
    (tmp_path / "wide").mkdir()
    wide.save(tmp_path / "wide" / "a.png")
    red, green, _ = mean_colour(f"folder:{tmp_path / 'wide'}")
    assert red < 1 and green > 254


def test_shrinking_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    columns = np.zeros((512, 512, 3), np.uint8)
    columns[:, ::2] = 255
    (tmp_path / "fine").mkdir()
    Image.fromarray(columns).save(tmp_path / "fine" / "a.png")
    assert load(f"folder:{tmp_path / 'fine'}", split="all").images.float().std() < 3


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    halves = Image.new("RGB", (40, 40), (255, 0, 0))
    halves.paste((0, 0, 255), (0, 20, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    (tmp_path / "turned").mkdir()
    halves.save(tmp_path / "turned" / "a.png", exif=exif)
    image = load(f"folder:{tmp_path / 'turned'}", split="all").images[0]
    assert image[2, :10].float().mean() > 250 and image[0, -10:].float().mean() > 250


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
def test_damaged_exif_costs_the_turn_and_not_the_picture(tmp_path: Path, kind: str) -> None:
    picture(tmp_path / "odd" / f"a.{kind}", exif=b"Exif\0\0damaged, and no TIFF at all")
    assert mean_colour(f"folder:{tmp_path / 'odd'}") == pytest.approx((200, 100, 50), abs=4)


def test_whole_numbers_beyond_16_bits_are_refused_as_floats_are(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name, most in (("16", 65535), ("32", 2**20)):
        values = np.linspace(0, most, 400, dtype=np.int32).reshape(20, 20)
        Image.fromarray(values).save(tmp_path / "deep" / f"{name}.tif")
    with pytest.warns(UserWarning, match=r"Skipped 1 broken picture .*32\.tif \(pixels are 32-bit"):
        images = load(f"folder:{tmp_path / 'deep'}", split="all")
    assert images.images.float().mean().item() == pytest.approx(127, abs=2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("limit", [200, 150, 10])  # read, warned about and refused by Pillow
def test_a_large_jpeg_is_shrunk_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    picture(tmp_path / "phone" / "a.jpg", size=(2000, 1600))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit * 16_000)
    monkeypatch.setattr(folders, "MOST_PIXELS", 400_000)
    assert mean_colour(f"folder:{tmp_path / 'phone'}") == pytest.approx((200, 100, 50), abs=4)


def test_a_folder_whose_name_is_not_text_has_one_in_the_set(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))
    try:
        picture(folder / "a.png")
    except OSError:
        pytest.skip("this file system has names of text only")
    for _ in range(2):
        assert load(f"folder:{folder}", split="all").name == "folder:bad?"


def test_a_folder_is_read_where_standard_error_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "folder" / "a.png")
    monkeypatch.setattr(sys, "stderr", None)
    assert len(load(f"folder:{tmp_path / 'folder'}", split="all")) == 1


def test_broken_pictures_are_named_counted_and_skipped_at_every_load(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    for i in range(4):
        picture(folder / "good" / f"{i}.png")
    picture(folder / "bad" / "cut.jpg", size=(300, 300))
    (folder / "bad" / "cut.jpg").write_bytes((folder / "bad" / "cut.jpg").read_bytes()[:700])
    (folder / "bad" / "text.png").write_text("no picture at all")
    picture(folder / "bad" / "fine.png")
    for _ in range(2):
        with pytest.warns(
            UserWarning, match=r"Skipped 2 broken pictures.*bad.cut\.jpg.*bad.text\.png"
        ) as caught:
            images = load(f"folder:{folder}", split="all")
        assert len(images) == 5 and len(caught) == 1
    assert images.labels.tolist() == [0, 1, 1, 1, 1]


def test_a_decompression_bomb_is_a_broken_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "bombs" / "a.png", size=(10, 10))
    picture(tmp_path / "bombs" / "bomb.png", size=(100, 100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(UserWarning, match=r"Skipped 1 broken picture .*bomb\.png"):
        assert len(load(f"folder:{tmp_path / 'bombs'}", split="all")) == 1


def test_folders_without_a_picture_are_one_sentence(tmp_path: Path) -> None:
    for name in ("empty", "texts", "fakes"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    (tmp_path / "fakes" / "a.png").write_text("a")
    for name, sentence in (
        ("empty", "no pictures"),
        ("texts", "no pictures"),
        ("fakes", "None of 1 pictures"),
    ):
        with pytest.raises(InputError, match=sentence):
            load(f"folder:{tmp_path / name}")
    with pytest.raises(InputError, match="no folder"):
        load(f"folder:{tmp_path / 'texts' / 'a.txt'}")


def test_a_single_subfolder_is_no_class_and_hides_no_picture_beside_it(tmp_path: Path) -> None:
    for file in ("a.png", "old/b.png", "old/older/c.png"):
        picture(tmp_path / "one" / file)
    images = load(f"folder:{tmp_path / 'one'}", split="all")
    assert len(images) == 3 and images.labels is None and images.classes == ()


def test_pictures_beside_class_folders_are_told(tmp_path: Path) -> None:
    for file in ("cat/1.png", "dog/1.png", "stray.png"):
        picture(tmp_path / "pets" / file)
    with pytest.warns(UserWarning, match="Passed over 1 picture beside the class folders"):
        images = load(f"folder:{tmp_path / 'pets'}", split="all")
    assert images.labels.tolist() == [0, 1]


def test_kinds_that_cannot_be_read_are_told_with_what_to_do(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file in ("1.HEIC", "2.heic", ".3.heic", "4.cr2"):
            (tmp_path / name / file).write_bytes(b"x")
    picture(tmp_path / "a" / "5.png")
    said = r"3 files of a kind that is not read here \(\.cr2, \.heic\): save as JPEG"
    with pytest.warns(UserWarning, match=said):
        assert len(load(f"folder:{tmp_path / 'a'}", split="all")) == 1
    with pytest.raises(InputError, match=f"no pictures in .*{said}"):
        load(f"folder:{tmp_path / 'b'}")


def test_a_moving_picture_gives_its_first_frame_and_a_palette_its_colours(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (30, 30), colour) for colour in ((250, 0, 0), (0, 0, 250)))
    (tmp_path / "moving").mkdir()
    red.save(tmp_path / "moving" / "a.gif", save_all=True, append_images=[blue, blue], duration=50)
    (tmp_path / "palette").mkdir()
    blue.quantize(4).save(tmp_path / "palette" / "a.png")
    assert mean_colour(f"folder:{tmp_path / 'moving'}") == pytest.approx((250, 0, 0), abs=4)
    assert mean_colour(f"folder:{tmp_path / 'palette'}") == pytest.approx((0, 0, 250), abs=4)


def test_a_loop_of_links_does_not_trap_the_reader(tmp_path: Path) -> None:
    picture(tmp_path / "loop" / "a" / "1.png")
    (tmp_path / "loop" / "a" / "again").symlink_to(tmp_path / "loop", target_is_directory=True)
    (tmp_path / "loop" / "b").symlink_to(tmp_path / "loop", target_is_directory=True)
    assert len(load(f"folder:{tmp_path / 'loop'}", split="all")) == 1


def test_the_demo_folder_is_odd_reproducible_and_has_second_shots(tmp_path: Path) -> None:
    a, b = (write_demo_folder(tmp_path / name, count=48, seed=3) for name in "ab")
    files = sorted(path.relative_to(a) for path in a.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(b) for path in b.rglob("*") if path.is_file())
    assert all((a / file).read_bytes() == (b / file).read_bytes() for file in files)
    with pytest.warns(UserWarning, match=r"Skipped 2 broken pictures.*cut_short\.png.*empty\.jpg"):
        images = load(f"folder:{a}", split="all")
    assert len(images) == 48 + 6 and len(images.classes) == 10
    sizes = {Image.open(a / file).size for file in files if "IMG" in file.name}
    modes = {Image.open(a / file).mode for file in files if "IMG" in file.name}
    assert len(sizes) > 20 and modes == {"RGB", "L", "RGBA"}
    flat = torch.nn.functional.normalize(images.images.float().flatten(1), dim=1)
    assert ((flat @ flat.T).fill_diagonal_(0) > 0.99).any(dim=1).sum() >= 12


# --- the cache of converted sets


def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders read picture by picture from now on."""
    read, original = [], folders.convert_folder
    monkeypatch.setattr(
        folders, "convert_folder", lambda path, **options: (read.append(path), original(path, **options))[1]
    )
    return read


def test_a_folder_is_converted_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "folder" / "a.png")
    read = conversions(monkeypatch)
    for _ in range(2):
        load(f"folder:{tmp_path / 'folder'}", split="all")
    assert len(read) == 1
    picture(tmp_path / "folder" / "b.png")
    assert len(load(f"folder:{tmp_path / 'folder'}", split="all")) == 2 and len(read) == 2
    os.utime(tmp_path / "folder" / "a.png", (1, 1))
    load(f"folder:{tmp_path / 'folder'}", split="all")
    load(f"folder:{tmp_path / 'folder'}", split="all", size=16)
    assert len(read) == 4 and len(list((cache_dir() / "converted").iterdir())) == 2


def test_what_is_told_of_a_folder_is_never_of_another_day(tmp_path: Path) -> None:
    for file in ("cat/1.png", "dog/1.png"):
        picture(tmp_path / "pets" / file)

    def told() -> str:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load(f"folder:{tmp_path / 'pets'}", split="all")
        return " ".join(str(warning.message) for warning in caught)

    assert told() == ""
    picture(tmp_path / "pets" / "stray.png")
    assert "1 picture beside" in told()
    (tmp_path / "pets" / "cat" / "x.heic").touch()
    assert "1 picture beside" in told() and "heic" in told()
    (tmp_path / "pets" / "stray.png").unlink()
    assert "beside" not in told() and "heic" in told()


def test_another_reader_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "folder" / "a.png")
    read = conversions(monkeypatch)
    for reader in (1, 1, 2):
        monkeypatch.setattr(folders, "READER", reader)
        load(f"folder:{tmp_path / 'folder'}", split="all")
    assert len(read) == 2


@pytest.mark.parametrize("damage", [b"", b"junk", "half"])
def test_a_damaged_converted_file_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage
) -> None:
    picture(tmp_path / "folder" / "a.png")
    load(f"folder:{tmp_path / 'folder'}", split="all")
    (file,) = (cache_dir() / "converted").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == "half" else damage)
    read = conversions(monkeypatch)
    assert len(load(f"folder:{tmp_path / 'folder'}", split="all")) == 1
    assert len(read) == 1 and len(ImageSet.load(file)) == 1


def test_a_cache_that_cannot_be_written_costs_a_warning_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "folder" / "a.png")
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIMSIAM_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not kept.*Cannot write"):
        assert len(load(f"folder:{tmp_path / 'folder'}", split="all")) == 1


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmpfs) -> None:
    folder = tmpfs("size=64k")
    with pytest.raises(InputError, match="disk is full"):
        patterns(100).save(folder / "set.safetensors")
    assert os.listdir(folder) == []


def test_importing_the_data_loads_no_heavy_library() -> None:
    heavy = ("torchvision", "PIL", "sklearn", "pooch", "platformdirs", "matplotlib")
    code = f"import sys, simsiam_course.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
