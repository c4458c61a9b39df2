"""Figures made of images: a contact sheet of views, a gallery of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..augment import Augmentation, two_views
from ..data import ImageSet
from ..errors import InputError
from .look import (
    GREEN,
    GREY,
    INK,
    VERMILLION,
    WIDTH,
    bare,
    class_name,
    new_figure,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@theme()
def views(images: ImageSet, augmentation: Augmentation, *, count: int = 8, seed: int = 0) -> Figure:
    """A contact sheet: the first images of a set and, below each, the two views that training would see.

    Errors: `InputError` for a count below one.
    """
    if count < 1:
        raise InputError(f"A contact sheet of {count} images is empty: choose a count of at least 1.")
    shown = images.images[:count].cpu()  # (B, 3, H, W)
    mean, std = images.mean.cpu(), images.std.cpu()
    pair = two_views(shown, augmentation, torch.Generator().manual_seed(seed), mean, std)
    sheets = [shown / 255, *(x * std[:, None, None] + mean[:, None, None] for x in pair)]
    side = WIDTH / max(6, len(shown))
    figure = new_figure(WIDTH, 3 * side + 0.2)
    axes = figure.subplots(3, len(shown), squeeze=False)
    for line, name, sheet in zip(axes, ("original", "view 1", "view 2"), sheets, strict=True):
        for ax, image in zip(line, sheet, strict=True):
            _picture(ax, image)
        line[0].set_ylabel(name, fontsize=10.5, color=INK)
    for i, ax in enumerate(axes[0]):
        _name_above(ax, images, i)
    return figure


@theme()
def gallery(images: ImageSet, neighbours: Tensor, *, queries: ImageSet | None = None) -> Figure:
    """Query images and, to the right of each, its nearest neighbours, most similar first.

    neighbours: (M, k), indices into `images`, as `evaluate.neighbours` gives them; queries: the M images that
    were asked about, the first M of `images` if left out. Where both have labels, a neighbour of the same
    class has a full green frame, one of another class a dashed orange frame and a cross before its name.
    Errors: `InputError` for indices that do not fit.
    """
    queries = images if queries is None else queries
    fits = neighbours.ndim == 2 and neighbours.numel() and len(neighbours) <= len(queries)
    if not fits or int(neighbours.min()) < 0 or int(neighbours.max()) >= len(images):
        raise InputError(
            f"Neighbours of shape {tuple(neighbours.shape)} do not fit {len(queries)} queries and "
            f"{len(images)} images: pass what evaluate.neighbours gave for these sets."
        )
    rows, k = neighbours.shape
    side = WIDTH / max(7, k + 1)
    figure = new_figure(side * (k + 1), rows * (side + 0.18) + 0.2, pad=0.05)
    axes = figure.subplots(rows, k + 1, squeeze=False)
    for i, line in enumerate(axes):
        _picture(line[0], queries.images[i].cpu() / 255)
        _name_above(line[0], queries, i, weight="bold")
        for ax, j in zip(line[1:], neighbours[i].tolist(), strict=True):
            _picture(ax, images.images[j].cpu() / 255)
            same = _same_class(queries, i, images, j)
            _name_above(ax, images, j, mark="× " if same is False else "")
            if same is not None:
                ax.spines[:].set(
                    visible=True,
                    linewidth=2.6,
                    color=GREEN if same else VERMILLION,
                    linestyle="-" if same else (0, (3, 1.6)),
                )
    axes[0, 0].annotate("query", (0, 1.2), xycoords="axes fraction", fontsize=9, color=GREY)
    axes[0, 1].annotate("nearest first →", (0, 1.2), xycoords="axes fraction", fontsize=9, color=GREY)
    return figure


def _picture(ax: Axes, image: Tensor) -> None:
    """One image (3, H, W) in [0, 1], without axes, pixel by pixel."""
    ax.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    bare(ax)


def _name_above(ax: Axes, images: ImageSet, i: int, *, mark: str = "", weight: str = "normal") -> None:
    """The class of image i, where it has one, cut to what fits above a small picture."""
    if images.labels is None:
        return
    name = class_name(int(images.labels[i]), images.classes)
    ax.set_title(
        mark + (name if len(name) <= 13 else name[:12] + "…"),
        fontsize=8.5,
        weight=weight,
        pad=3,
        loc="center",
    )


def _same_class(queries: ImageSet, i: int, images: ImageSet, j: int) -> bool | None:
    """Whether two images are of one class; None where one of them has no label."""
    if queries.labels is None or images.labels is None:
        return None
    a, b = int(queries.labels[i]), int(images.labels[j])
    return None if min(a, b) < 0 else a == b
