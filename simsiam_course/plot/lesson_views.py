"""Figures of lesson 01: pictures in rows, a crop as two matrices, and what each augmentation hides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..augment import Augmentation, crop, sampling_matrix
from ..errors import InputError
from .look import INK, VERMILLION, WIDTH, new_figure, theme
from .pictures import _picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OFF = Augmentation(
    crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, brightness=0, contrast=0, saturation=0, hue=0, gray=0
)

TURNED: dict[str, dict[str, list]] = {  # what `Augmentation.apply` is given for one image, one knob at a time
    "as it is": {},
    "crop, 0.2 of the area": {"box": [[0.1, 0.05, 0.447, 0.447]]},
    "flip": {"flip": [True]},
    "brightness 0.6": {"brightness": [0.6]},
    "brightness 1.4": {"brightness": [1.4]},
    "contrast 0.6": {"contrast": [0.6]},
    "saturation 0.6": {"saturation": [0.6]},
    "hue by 0.1 turns": {"hue": [0.1]},
    "hue by 0.5 turns": {"hue": [0.5]},
    "gray": {"gray": [True]},
    "blur, sigma 2": {"blur": [2.0]},
    "solarize": {"solarize": [True]},
}


def knobs(images: Mapping[str, Tensor], turned: Mapping[str, Mapping[str, list]] = TURNED) -> Figure:
    """Each image under each knob, the others at rest: name -> uint8 (1, 3, H, W), six knobs in a row.

    turned: title -> the drawn parameters that differ from rest, as `Augmentation.draw` gives them for one image.
    Errors: `InputError` where there is no image or no knob.
    """
    neutral = OFF.draw(1, torch.Generator())
    zeros, ones = torch.zeros(3), torch.ones(3)  # pixels stay in [0, 1]
    names = list(turned)
    blocks = [names[i : i + 6] for i in range(0, len(names), 6)]
    rows: list[tuple[str, list[Tensor]]] = []
    titles: list[list[str]] = []
    for block in blocks:
        for kind, image in images.items():
            drawn = [{name: torch.tensor(value) for name, value in turned[title].items()} for title in block]
            rows.append((kind, [OFF.apply(image, neutral | knob, zeros, ones)[0] for knob in drawn]))
            titles.append(block if len(titles) % len(images) == 0 else [])
    return sheet(rows, titles)


@theme()
def sheet(
    rows: Sequence[tuple[str, Sequence[Tensor] | Tensor]],
    titles: Sequence[Sequence[str]] = (),
    *,
    width: float = WIDTH,
) -> Figure:
    """Pictures in rows, each row with its name at the left: (name, pictures (3, H, W) in [0, 1] of any sizes).

    titles: what stands above the pictures of each row, which may be nothing; width in inches.
    Errors: `InputError` where there is no picture.
    """
    columns = max((len(pictures) for _, pictures in rows), default=0)
    if not columns:
        raise InputError("There is no picture to show: give at least one row of at least one picture.")
    side = min(width / columns, 2.4)
    figure = new_figure(width, len(rows) * side + 0.2 * sum(map(bool, titles)), pad=0.03)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for i, (line, (name, pictures)) in enumerate(zip(axes, rows, strict=True)):
        for j, ax in enumerate(line):
            if j >= len(pictures):
                ax.axis("off")
                continue
            _picture(ax, pictures[j].cpu())
            if i < len(titles) and j < len(titles[i]):
                ax.set_title(titles[i][j], fontsize=9.5, weight="normal", pad=3, loc="center")
        line[0].set_ylabel(name, fontsize=10.5, color=INK)
    return figure


@theme()
def sampling(image: Tensor, box: Tensor, *, flip: Tensor | None = None) -> Figure:
    """A crop as it is computed: the box in the image, one matrix for the rows, one for the columns, and the view.

    image: (1, 3, H, W) in [0, 1]; box: (1, 4), top, left, height, width as fractions; flip: (1,) bool.
    """
    from matplotlib.patches import Rectangle

    top, left, height, width = box.unbind(1)
    rows, columns = image.shape[2:]
    figure = new_figure(WIDTH, 2.75, pad=0.04)
    axes = figure.subplots(1, 4)
    _picture(axes[0], image[0])
    corner = (left.item() * columns - 0.5, top.item() * rows - 0.5)
    for colour, line in (("white", 4.5), (VERMILLION, 2.2)):  # a white rim is seen on dark and on light
        edge = Rectangle(corner, width.item() * columns, height.item() * rows, fill=False, ec=colour, lw=line)
        edge.set_clip_on(False)
        axes[0].add_patch(edge)
    matrices = {
        "rows": sampling_matrix(top, height, rows),
        "columns": sampling_matrix(left, width, columns, flip),
    }
    for ax, (name, matrix) in zip(axes[1:], matrices.items(), strict=False):
        shown = ax.imshow(matrix[0].numpy(), vmin=0, vmax=1, interpolation="nearest")
        ax.set(xlabel=f"old {name}", ylabel=f"new {name}")
        ax.grid(False)
    figure.colorbar(shown, ax=axes[2], shrink=0.62, label="weight")
    _picture(axes[3], crop(image, box, flip)[0])
    for ax, title in zip(
        axes, ("image and box", "matrix of the rows", "of the columns", "view"), strict=True
    ):
        ax.set_title(title)
    return figure


@theme()
def readable(table: Mapping[str, Mapping[str, float]]) -> Figure:
    """How well each factor can be read under each augmentation, as numbers on a map: augmentation -> factor -> share.

    Errors: `InputError` for an empty table, or rows of different factors.
    """
    factors = list(next(iter(table.values()), {}))
    if not factors or any(list(row) != factors for row in table.values()):
        raise InputError("The table is empty or its rows differ in their factors: give each the same ones.")
    figure = new_figure(WIDTH, 0.75 + 0.33 * len(table))
    ax = figure.subplots()
    shares = [list(row.values()) for row in table.values()]
    ax.imshow(shares, vmin=0, vmax=1, aspect="auto", cmap="cividis")
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            _number(ax, j, i, share)
    ax.set_xticks(range(len(factors)), factors)
    ax.set_yticks(range(len(table)), list(table))
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0, labelcolor=INK)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return figure


def _number(ax: Axes, x: float, y: float, share: float) -> None:
    ax.text(
        x,
        y,
        f"{share:.2f}",
        fontsize=10.5,
        ha="center",
        va="center",
        color="white" if share < 0.55 else "black",
    )
