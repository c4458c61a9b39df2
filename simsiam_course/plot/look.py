"""The look that all figures share: theme, colours, styles, legends, and how a figure becomes a file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image as PILImage

Row = Mapping[str, Any]  # a run of the ledger, or a line of its history

WIDTH = 9.0  # inches: at 100 dpi the width of a notebook's cell
THEME: dict[Any, Any] = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.08,
    "axes.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5b6570",
    "axes.grid": True,
    "grid.color": "#e6e9ec",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": "#3c444c",
    "ytick.color": "#3c444c",
    "legend.frameon": False,
    "image.cmap": "cividis",
    "text.parse_math": False,  # a class or a variant may have a dollar in its name
}
INK, GREY = "#1f2428", "#69737d"
COLOURS = 256  # of a chart in a stored output: all that a palette holds

# Okabe & Ito (2008): eight colours that can be told apart with any of the common colour-vision deficiencies
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
CLASS_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW, BLACK, "#882255", "#999999")
CLASS_MARKERS = "osD^vPX<>p"


class Style(NamedTuple):
    """How a variant is drawn, everywhere."""

    colour: str
    line: Any
    marker: str


STYLES = {
    "simsiam": Style(BLUE, "-", "o"),
    "no_stop_gradient": Style(VERMILLION, (0, (5, 2)), "s"),
    "no_predictor": Style(GREEN, (0, (5, 1.5, 1, 1.5)), "^"),
    "neither": Style(PURPLE, (0, (1.2, 1.4)), "D"),
}
FURTHER_STYLES = (
    Style(BLUE, "-", "o"),
    Style(VERMILLION, (0, (5, 2)), "s"),
    Style(GREEN, (0, (5, 1.5, 1, 1.5)), "^"),
    Style(PURPLE, (0, (1.2, 1.4)), "D"),
    Style(ORANGE, (0, (8, 2)), "v"),
    Style(SKY, "-", "P"),
    Style(BLACK, (0, (3, 1, 1, 1, 1, 1)), "X"),
)
LABELS = {
    "simsiam": "SimSiam",
    "no_stop_gradient": "no stop-gradient",
    "no_predictor": "no predictor",
    "neither": "neither of the two",
    "wrong_side": "stop-gradient on the wrong side",
    "frozen": "predictor never trained",
    "bn_affine": "affine output BN",
    "bn_affine_no_stop_gradient": "affine output BN, no stop-gradient",
    "bn_none": "no output BN",
    "bn_none_no_stop_gradient": "no output BN, no stop-gradient",
}


@contextmanager
def theme() -> Iterator[None]:
    """The look of the course inside a `with` block or a function decorated `@theme()`, and only there."""
    import matplotlib

    with matplotlib.rc_context(THEME):
        yield


def png(figure: Figure, *, dpi: int | None = None, compress_level: int = 6) -> bytes:
    """The bytes of a PNG file of exactly the figure's size: inches times dpi (its own by default).

    `compress_level`: 0 to 9; 1 saves half the time and makes a larger file.
    """
    buffer = io.BytesIO()
    with theme():
        figure.savefig(
            buffer,
            format="png",
            dpi=dpi or figure.dpi,
            metadata={"Software": None},
            pil_kwargs={"compress_level": compress_level},
        )
    return buffer.getvalue()


def picture(figure: Figure) -> tuple[bytes, str]:
    """A figure for a notebook's stored output, as small as one cannot see, and its format: "png" or "jpeg".

    256 colours are enough for a chart; photographs would show bands, and become the smaller of PNG and JPEG.
    """
    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(png(figure))).convert("RGB")
    reduced = image.quantize(COLOURS, dither=Image.Dither.NONE)
    error = np.abs(np.asarray(reduced.convert("RGB"), dtype=np.float32) - np.asarray(image)).mean()
    if error < 1:
        return _encoded(reduced, "png"), "png"
    kinds = {"png": _encoded(image, "png"), "jpeg": _encoded(image, "jpeg", quality=85, subsampling=0)}
    kind = min(kinds, key=lambda kind: len(kinds[kind]))
    return kinds[kind], kind


def _encoded(image: PILImage, kind: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **settings)
    return buffer.getvalue()


def label(name: str) -> str:
    """The name of a variant as a person would write it."""
    return LABELS.get(name) or str(name).replace("_", " ").strip() or "(no name)"


def styles(names: Sequence[str]) -> dict[str, Style]:
    """A style for each name: the demo's four keep theirs, others take those that are left, in order."""
    taken = {STYLES[name] for name in names if name in STYLES}
    free = [style for style in FURTHER_STYLES if style not in taken] or list(FURTHER_STYLES)
    others = [name for name in names if name not in STYLES]
    return {name: STYLES[name] for name in names if name in STYLES} | {
        name: free[i % len(free)] for i, name in enumerate(others)
    }


def class_style(i: int) -> tuple[str, str]:
    """Ten colours, ten markers; the eleventh class has the first colour and the second marker."""
    return CLASS_COLOURS[i % 10], CLASS_MARKERS[(i + i // 10) % 10]


def class_name(i: int, classes: Sequence[str]) -> str:
    if i < 0:
        return "unlabelled"
    return classes[i].strip("_ ") or f"class {i}" if i < len(classes) else f"class {i}"


def new_figure(width: float, height: float, *, pad: float | None = None) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=pad, h_pad=pad))


def line_legend(figure: Figure, named: Mapping[str, Style], *, size: float = 10) -> None:
    """Line, marker and name of each variant above the panels, in as many columns as there is room for."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=s.colour,
            linestyle=s.line,
            marker=s.marker,
            linewidth=1.9,
            markersize=6,
            markeredgecolor="white",
            label=name,
        )
        for name, s in named.items()
    ]
    widths = [0.8 + 0.075 * len(name) for name in named]  # inches, about
    room = figure.bbox.width / figure.dpi  # a subfigure has these too
    columns = len(named) if sum(widths) <= room else max(1, int(room / max(widths)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=3.4, fontsize=size)


def foot(figure: Figure, text: str) -> None:
    """A small line at the foot of the figure."""
    figure.supxlabel(text, fontsize=8.5, color=GREY)


def percent(value: float, _: Any = None) -> str:
    """A fraction as an axis shows it; the second argument is the position that matplotlib passes."""
    return f"{100 * value:.0f} %"


def bare(ax: Axes) -> None:
    """Takes ticks, grid and frame off."""
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
