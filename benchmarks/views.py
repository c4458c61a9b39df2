"""Where the peers' views come from: the recipe's augmentations in each library's own terms, and their loaders."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from simsiam_course.augment import Augmentation
from simsiam_course.data import ImageSet
from simsiam_course.errors import InputError
from simsiam_course.recipe import Recipe

Pairs = Callable[[int], Iterator[tuple[Tensor, Tensor]]]  # steps -> the two views of that many batches


def lightly_transform(a: Augmentation, images: ImageSet) -> Any:
    """lightly's SimSiamTransform. Errors: `InputError` for an augmentation that it has no knob for."""
    from lightly.transforms import SimSiamTransform

    if a.crop_scale[1] != 1 or a.crop_ratio != (3 / 4, 4 / 3) or a.solarize:
        raise InputError(
            f"lightly's SimSiamTransform has no knob for some of {a}: choose another augmentation."
        )
    return SimSiamTransform(
        input_size=images.images.shape[-1], min_scale=a.crop_scale[0], hf_prob=a.flip,
        cj_prob=a.jitter, cj_strength=1.0, cj_bright=a.brightness, cj_contrast=a.contrast, cj_sat=a.saturation,
        cj_hue=a.hue, random_gray_scale=a.gray, gaussian_blur=a.blur, sigmas=a.blur_sigma,
        normalize={"mean": images.mean.tolist(), "std": images.std.tolist()},
    )  # fmt: skip


def torchvision_transform(a: Augmentation, images: ImageSet) -> Any:
    """torchvision's v2 on one uint8 image (3, H, W), bytes as long as possible, as its guide advises."""
    from torchvision.transforms import v2

    size = list(images.images.shape[-2:])
    jitter = v2.ColorJitter(a.brightness, a.contrast, a.saturation, a.hue)
    blur = v2.GaussianBlur(blur_taps(size), a.blur_sigma)
    return v2.Compose([
        v2.RandomResizedCrop(size, scale=a.crop_scale, ratio=a.crop_ratio, antialias=True),
        v2.RandomHorizontalFlip(a.flip),
        v2.RandomApply([jitter], p=a.jitter),
        v2.RandomGrayscale(a.gray),
        *([v2.RandomApply([blur], p=a.blur)] if a.blur else []),
        *([v2.RandomSolarize(128, p=a.solarize)] if a.solarize else []),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(images.mean.tolist(), images.std.tolist()),
    ])  # fmt: skip


def kornia_transform(a: Augmentation, images: ImageSet) -> Callable[[Tensor], Tensor]:
    """kornia's on floats in [0, 1] (B, 3, H, W).

    nn.Sequential and crops by slices: the fastest of kornia's ways here. AugmentationSequential took 5 to 15 % longer.
    """
    import kornia.augmentation as K

    height, width = images.images.shape[-2:]
    augment = nn.Sequential(
        K.RandomResizedCrop((height, width), scale=a.crop_scale, ratio=a.crop_ratio, cropping_mode="slice"),
        K.RandomHorizontalFlip(p=a.flip),
        K.ColorJitter(a.brightness, a.contrast, a.saturation, a.hue, p=a.jitter),
        K.RandomGrayscale(p=a.gray),
        *([K.RandomGaussianBlur(blur_taps((height, width)), a.blur_sigma, p=a.blur)] if a.blur else []),
        *([K.RandomSolarize((0.5, 0.5), (0.0, 0.0), p=a.solarize)] if a.solarize else []),
        K.Normalize(images.mean, images.std),
    )
    return torch.no_grad()(augment)


def blur_taps(size: Any) -> int:
    """As wide a kernel as ours: about a tenth of the shorter side, and odd."""
    return 2 * max(1, min(size) // 20) + 1


# ---- loaders


def shuffled(n: int, count: int) -> Tensor:
    """`count` of the numbers below n in random order; all have been taken before one is taken again."""
    return torch.cat([torch.randperm(n) for _ in range(-(-count // n))])[:count]


class Shuffled(Sampler[int]):
    """The order of a pass that is as long as a turn."""

    def __init__(self, n: int) -> None:
        self.n = self.count = n

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(shuffled(self.n, self.count).tolist())


class Loader:
    """A DataLoader whose pass is one turn, so that workers prepare nothing before it or in another's turn.

    Its workers stay from pass to pass, which lightly's example does without: starting them is not counted.
    """

    def __init__(self, dataset: Any, recipe: Recipe, *, workers: int, collate_fn: Any = None) -> None:
        self.batch, self.order = recipe.batch_size, Shuffled(len(dataset))
        with warnings.catch_warnings():  # lightly's example has 8 workers wherever it runs
            warnings.filterwarnings("ignore", "This DataLoader will create")
            self.loader = DataLoader(
                dataset, batch_size=self.batch, sampler=self.order, drop_last=True, collate_fn=collate_fn,
                num_workers=workers, persistent_workers=workers > 0,
            )  # fmt: skip

    def __call__(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        self.order.count = steps * self.batch
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")
            batches = iter(self.loader)
        for views, *_ in batches:
            yield views[0], views[1]

    def close(self) -> None:
        """Ends the workers."""
        del self.loader


class Pictures(Dataset):
    """PIL images made from an array when asked for, as torchvision's CIFAR10 does."""

    def __init__(self, images: ImageSet) -> None:
        self.arrays, self.transform = images.images.permute(0, 2, 3, 1).contiguous().numpy(), None

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        from PIL import Image

        image = Image.fromarray(self.arrays[i])
        return (self.transform(image) if self.transform else image), 0


class Tensors(Dataset):
    """Two views of a uint8 image."""

    def __init__(self, images: ImageSet, transform: Callable[[Tensor], Tensor]) -> None:
        self.images, self.transform = images.images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[list[Tensor], int]:
        return [self.transform(self.images[i]), self.transform(self.images[i])], 0
