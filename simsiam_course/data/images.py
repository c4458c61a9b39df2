"""`ImageSet`: uint8 images and, where known, their labels, class names and factors; one safetensors file."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, check_number, check_whole
from ..files import friendly_os_errors, parse_json, write_safetensors

SMALLEST = 8  # pixels a side: below this a crop of a fifth of the area is a pixel or two
LARGEST = 1_024  # pixels a side: all images of a set lie in memory, 3 MB each at this size
STD_FLOOR = 1e-3  # a quarter of one grey level of 255: images of one colour normalise to 0, not to NaN


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images, and what is known about them; everything is checked when the set is made.

    images: uint8 (N, 3, H, W), H and W at least 8. labels: int64 (N,), -1 = unlabelled, or None.
    classes: the name of label 0, 1, ...; may be empty. factors: name -> (N,), what a generator drew.
    Raises InputError where any of that does not hold.
    """

    images: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    name: str = "images"
    split: str = "all"
    factors: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_images(self.images)
        if self.labels is not None:
            _check_labels(self.labels, len(self.images), self.classes)
        for name, values in self.factors.items():
            if values.shape != (len(self.images),):
                raise InputError(
                    f"Factor {name!r} has shape {tuple(values.shape)}; give each of {len(self)} images one."
                )

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and std per channel, from exact counts: the same bits on every device and in every order."""
        counts = torch.zeros(3, 256, dtype=torch.int64)
        for chunk in self.images.split(512):  # bounded memory
            for channel, pixels in enumerate(chunk.cpu().unbind(1)):
                counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
        value = torch.arange(256, dtype=torch.float64) / 255
        share = counts.double() / counts.sum(1, keepdim=True)
        mean = share @ value
        std = (share * (value - mean[:, None]).square()).sum(1).sqrt().clamp(min=STD_FLOOR)
        return mean.float().to(self.images.device), std.float().to(self.images.device)

    @property
    def mean(self) -> Tensor:
        """Mean per channel of pixels in [0, 1]: float32 (3,)."""
        return self._moments[0]

    @property
    def std(self) -> Tensor:
        """Standard deviation per channel of pixels in [0, 1]: float32 (3,), at least 0.001."""
        return self._moments[1]

    @cached_property
    def labelled(self) -> bool:
        """True where at least two classes have images: only then do kNN and a linear probe mean anything."""
        return self.labels is not None and self.labels[self.labels >= 0].unique().numel() >= 2

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images.shape[-2:]
        if self.labels is None:
            labels = "unlabelled"
        else:
            present = self.labels[self.labels >= 0].unique().numel()
            names = ": " + ", ".join(self.classes[:10]) + (", ..." if len(self.classes) > 10 else "")
            labels = f"{present} class{'' if present == 1 else 'es'}" + (names if self.classes else "")
            if missing := int((self.labels < 0).sum()):
                labels += f" ({missing:,} unlabelled)"
        mean, std = (
            " ".join(f"{value:.3f}" for value in values.tolist()) for values in (self.mean, self.std)
        )
        return (
            f"ImageSet {self.name!r}, {self.split}: {len(self):,} images of {height}x{width}, {labels}"
            + (f"; factors {', '.join(self.factors)}" if self.factors else "")
            + f"; mean {mean}, std {std}"
            + ("" if self.labelled else "; kNN and linear probe need two labelled classes")
        )

    def subset(self, indices: Tensor) -> ImageSet:
        """The images at `indices` (integers or booleans), in that order, with all that belongs to them."""
        if not isinstance(indices, Tensor) or indices.dtype not in (torch.int64, torch.int32, torch.bool):
            got = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
            raise InputError(f"The indices are {got}, expected a tensor of whole numbers or of booleans.")
        n, mask = len(self), indices.dtype == torch.bool
        if indices.ndim != 1 or (mask and len(indices) != n):
            raise InputError(
                f"The indices have shape {tuple(indices.shape)}, expected one row, ({n},) for booleans."
            )
        if not mask and len(indices) and not -n <= int(indices.min()) <= int(indices.max()) < n:
            raise InputError(
                f"The indices run from {int(indices.min())} to {int(indices.max())}; there are {n} images."
            )
        indices = indices.to(self.images.device)
        return replace(
            self,
            images=self.images[indices],
            labels=None if self.labels is None else self.labels[indices],
            factors={name: values[indices] for name, values in self.factors.items()},
        )

    def sample(self, count: int, seed: int = 0) -> ImageSet:
        """At most `count` of the images, drawn at random without looking at the labels, in their original order."""
        check_whole(count=count)
        check_whole(seed=seed, least=0, most=2**63 - 1)
        shuffled = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.subset(shuffled[:count].sort().values)

    def split_off(self, fraction: float = 0.2, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """(train, test): the same share of every class for testing, a random one of unlabelled images.

        A class keeps one image for training at least, unless no other were left to test on. Both keep the
        original order. Raises InputError where one of the two would be empty.
        """
        check_number("fraction", fraction, 0, 1, open_ends=True)
        check_whole(seed=seed, least=0, most=2**63 - 1)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        if self.labels is not None:
            order = order[self.labels.cpu()[order].argsort(stable=True)]
        # Every 1/fraction-th image along the classes: the shares are right to one image in each of them.
        quota = (torch.arange(len(self) + 1, dtype=torch.float64) * fraction + 1e-9).floor()
        in_test = torch.zeros(len(self), dtype=torch.bool)
        in_test[order] = quota.diff() > 0
        if self.labels is not None:
            labels = self.labels.cpu()
            unseen = (labels >= 0) & ~torch.isin(labels, labels[~in_test])  # classes that are all in the test
            first = torch.ones_like(in_test)
            first[order[1:]] = labels[order].diff() != 0
            known = in_test & ~(unseen & first)
            in_test = known if known.any() else in_test
        if in_test.all() or not in_test.any():
            raise InputError(
                f"'{self.name}' has {len(self)} images, too few to set {fraction:.0%} aside for testing; "
                "add images or name a test set."
            )
        train, test = self.subset(~in_test), self.subset(in_test)
        return replace(train, split="train"), replace(test, split="test")

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with its tensors on `device`."""
        return replace(
            self,
            images=self.images.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            factors={name: values.to(device) for name, values in self.factors.items()},
        )

    def fingerprint(self) -> str:
        """A short text that changes with any pixel, label or shape: so a resumed run knows its own data."""
        crc = zlib.crc32(self.images.cpu().contiguous().numpy().data)
        if self.labels is not None:
            crc = zlib.crc32(self.labels.cpu().contiguous().numpy().data, crc)
        return "x".join(map(str, self.images.shape)) + f"-{crc:08x}"

    def save(self, path: str | Path, notes: Mapping[str, str] | None = None) -> None:
        """Write one safetensors file: images, labels (if any), and name, split and classes as metadata.

        Factors are not kept; `notes` are further metadata. The file appears whole or not at all. Raises
        InputError where it cannot be written.
        """
        path = Path(os.path.expanduser(path))
        tensors = {"images": self.images} | ({} if self.labels is None else {"labels": self.labels})
        tensors = {key: tensor.cpu().contiguous() for key, tensor in tensors.items()}
        about = {"name": self.name, "split": self.split, "classes": json.dumps(self.classes), **(notes or {})}
        with friendly_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, tensors, about)

    @classmethod
    def load(cls, path: str | Path) -> ImageSet:
        """The set in a file that `save`, or any program, wrote; InputError says what is wrong with it."""
        return read_file(path)[0]


def read_file(path: str | Path) -> tuple[ImageSet, dict[str, str]]:
    """The image set in a safetensors file, and the file's metadata; raises InputError naming the file."""
    from safetensors import SafetensorError, safe_open

    path = Path(os.path.expanduser(path))
    if not os.path.isfile(path):
        if os.path.isdir(path):
            raise InputError(f"'{path}' is a folder; give a safetensors file, or write folder:PATH.")
        raise InputError(f"There is no file '{path}'; check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copies: tensors mapped from a file die with it when somebody shortens the file.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, AttributeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{path}' is not a whole safetensors file ({reason}); copy or download it again."
        ) from error
    try:
        return _from_tensors(tensors, metadata, default_name=path.stem), metadata
    except InputError as error:
        raise InputError(f"'{path}': {error}") from None


def _from_tensors(tensors: dict[str, Tensor], metadata: dict[str, str], *, default_name: str) -> ImageSet:
    if "images" not in tensors:
        raise InputError(
            f"The keys are {sorted(tensors)}; store uint8 images (N, 3, H, W) under the key 'images'."
        )
    if unknown := sorted(set(tensors) - {"images", "labels"}):
        raise InputError(f"The keys {unknown} are unknown; keep 'images' and 'labels' only.")
    try:
        classes = parse_json(metadata.get("classes", "[]"))
    except ValueError:
        classes = None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise InputError("The metadata 'classes' is not a JSON list of names; write it with json.dumps.")
    return ImageSet(
        tensors["images"],
        tensors.get("labels"),
        tuple(classes),
        name=metadata.get("name", default_name),
        split=metadata.get("split", "all"),
    )


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise InputError(f"Images are a {type(images).__name__}; give a tensor of bytes (N, 3, H, W).")
    if images.dtype != torch.uint8:
        raise InputError(f"Images are {_short(images.dtype)}, not uint8; store pixels as 0 to 255.")
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"Images have shape {tuple(images.shape)}, not (N, 3, H, W); put three colours second."
        )
    if len(images) == 0:
        raise InputError("There are no images; give at least one.")
    if min(images.shape[-2:]) < SMALLEST:
        height, width = images.shape[-2:]
        raise InputError(f"Images are {height}x{width} pixels; use images of at least {SMALLEST} a side.")


def _check_labels(labels: Tensor, count: int, classes: tuple[str, ...]) -> None:
    if not isinstance(labels, Tensor):
        raise InputError(f"Labels are a {type(labels).__name__}; give a tensor of whole numbers (N,).")
    if labels.dtype != torch.int64:
        raise InputError(f"Labels are {_short(labels.dtype)}, not int64; convert them.")
    if labels.shape != (count,):
        raise InputError(
            f"Labels have shape {tuple(labels.shape)}, not ({count},); give each image one label."
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < -1:
        raise InputError(f"Label {lowest} is out of range; use 0, 1, ... for classes and -1 for unlabelled.")
    if classes and highest >= len(classes):
        raise InputError(
            f"Label {highest} is out of range for {len(classes)} class names; name or renumber them all."
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
