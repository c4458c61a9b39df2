"""What the features look like: maps of them in the plane, and the spectrum of z."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..collapse import effective_rank, spectrum
from ..errors import InputError, check_whole
from ..evaluate import neighbours
from ..memory import in_smaller_batches
from .look import (
    BLUE,
    GREY,
    INK,
    WIDTH,
    YELLOW,
    bare,
    class_name,
    class_style,
    foot,
    label,
    line_legend,
    new_figure,
    styles,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLE = 10_000  # rows that UMAP sees at most: its time and memory grow with them
LEAST_SAMPLE = 500


def embedding_2d(
    features: Tensor | np.ndarray, *, method: str = "umap", seed: int = 0, sample: int = SAMPLE
) -> tuple[np.ndarray, str]:
    """Each row of the features as a point in the plane, near its neighbours by cosine, as in the kNN.

    features: (N, D), N >= 3 -> (N, 2) float32, and the method that was used: "umap", or "pca" where that was
    asked for or umap-learn is not installed. The same seed gives the same map; about 2,000 rows take ten
    seconds. Of more than `sample` rows UMAP sees so many, drawn by the seed, and each of the others goes to the
    mean point of its nearest five among them; where memory does not suffice it sees half as many, and says so.
    Features that are all alike become one point.
    Errors: `InputError` for an unknown method, a wrong shape, a sample below 3, NaN or infinity, or where there is
    memory for no map at all.
    """
    if method not in ("umap", "pca"):
        raise InputError(f"There is no method '{method}' for a map: choose 'umap' or 'pca'.")
    check_whole(least=3, sample=sample)
    x = torch.as_tensor(features).detach().cpu().float()
    if x.ndim != 2 or len(x) < 3:
        raise InputError(
            f"The features have shape {tuple(x.shape)}, where (N, D) with N >= 3 was expected: pass the "
            "features of at least three images."
        )
    if not x.isfinite().all():
        raise InputError(
            "The features hold NaN or infinity, so they have no map: the run has diverged, lower its lr."
        )
    u = F.normalize(x, dim=1)  # (N, D)
    spread = float((u - u.mean(dim=0)).norm(dim=1).max())
    umap = _umap() if method == "umap" else None
    used = "pca" if umap is None else "umap"
    if spread < 1e-5:  # float32 cannot tell the rows apart, and both methods would enlarge the noise
        return np.zeros((len(u), 2), np.float32), used
    if umap is None:
        return _pca(u), used

    def points(rows: int) -> np.ndarray:
        return _umap_of_sample(umap, u, rows, seed)

    return in_smaller_batches(points, min(sample, len(u)), least=min(sample, len(u), LEAST_SAMPLE)), used


def _umap_of_sample(umap: Any, u: Tensor, rows: int, seed: int) -> np.ndarray:
    """UMAP of some rows, drawn by the seed, and the others between their neighbours. Shapes: (N, D) -> (N, 2)."""
    chosen = torch.randperm(len(u), generator=torch.Generator().manual_seed(seed))[:rows].sort().values
    seen = u[chosen]  # (rows, D)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reducer = umap.UMAP(n_neighbors=min(15, rows - 1), init="pca", random_state=seed, n_jobs=1)
        points = np.asarray(reducer.fit_transform(seen.numpy()), np.float32)
    if rows == len(u):
        return points
    nearest = neighbours(seen, u, k=min(5, rows))  # (N, 5)
    placed = points[nearest.numpy()].mean(axis=1)  # (N, 2)
    placed[chosen.numpy()] = points
    return placed


@theme()
def triptych(
    features: Mapping[str, Tensor | np.ndarray],
    labels: Tensor | np.ndarray | None = None,
    classes: Sequence[str] = (),
    *,
    knn: Mapping[str, float | None] | None = None,
    method: str = "umap",
    seed: int = 0,
    limit: int = 2000,
) -> Figure:
    """Maps of several backbones' features side by side: the same images, the same seed, the same colours.

    features: title -> (N, D), row i of each from image i. labels: (N,), -1 = unlabelled, or None. knn: title
    -> fraction, written above the map. More than `limit` images are thinned by the seed, alike in all panels.
    Errors: `InputError` where there is nothing to draw, or rows of features and labels differ in number.
    """
    arrays = {name: torch.as_tensor(x).detach().cpu() for name, x in features.items()}
    sizes = {len(x) for x in arrays.values()} | ({len(labels)} if labels is not None else set())
    if len(sizes) != 1:
        raise InputError(
            f"Features and labels have {sorted(sizes)} rows, where one row per image was expected: pass "
            "the same images to every model."
        )
    count = sizes.pop()
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:limit].sort().values
    ids = None if labels is None else torch.as_tensor(labels).cpu()[chosen].numpy()
    present = [] if ids is None else [int(i) for i in np.unique(ids)]
    legend_rows = (
        math.ceil(len(present) / 6) if len(present) <= 24 else 0
    )  # more classes than colours can name
    panel = WIDTH / max(3, len(arrays))
    figure = new_figure(panel * len(arrays), panel + 0.6 + 0.24 * legend_rows)
    used = method
    for ax, (name, x) in zip(figure.subplots(1, len(arrays), squeeze=False)[0], arrays.items(), strict=True):
        accuracy = (knn or {}).get(name)
        ax.set_title(name if accuracy is None else f"{name}: kNN {100 * accuracy:.1f} %")
        if x.isfinite().all():
            points, used = embedding_2d(x[chosen], method=method, seed=seed)
            _scatter(ax, points, ids, classes)
        else:
            ax.annotate(
                "diverged: no finite features", (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY
            )
        bare(ax)
        ax.spines[:].set(visible=True, color="#d5dade", linewidth=0.8)
    what = used.upper() + (", because umap-learn is not installed" if used != method else "")
    note = f"{what}. {len(chosen):,} images, the same in each panel. Directions and distances have no unit."
    if legend_rows:
        class_legend(figure, present, classes, legend_rows, note)
    else:
        foot(figure, note)
    return figure


def _umap() -> Any:
    """The umap package, quietly; None where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import umap
        except ImportError:
            return None
    return umap


def _pca(u: Tensor) -> np.ndarray:
    """The first two principal components; where there is only one, the second is 0."""
    from sklearn.decomposition import PCA

    points = PCA(min(2, u.shape[1]), svd_solver="full").fit_transform(u.numpy())
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1]))).astype(np.float32)


def _scatter(ax: Axes, points: np.ndarray, ids: np.ndarray | None, classes: Sequence[str]) -> None:
    """Points in the colours and markers of their classes; those without a label small and grey, below."""
    size = float(np.clip(16000 / len(points), 9, 40))
    if ids is None:
        ax.scatter(points[:, 0], points[:, 1], s=size, color=BLUE, alpha=0.6, linewidths=0)
    for i in [] if ids is None else np.unique(ids):
        at = points[ids == i]
        if i < 0:
            ax.scatter(at[:, 0], at[:, 1], s=size / 3, color="#c4cad0", linewidths=0)
            continue
        colour, marker = class_style(i)
        edge = "#7a7400" if colour == YELLOW else "white"
        ax.scatter(
            at[:, 0],
            at[:, 1],
            s=size,
            color=colour,
            marker=marker,
            alpha=0.8,
            linewidths=0.25,
            edgecolors=edge,
        )
    if np.ptp(points) == 0:
        ax.annotate(
            "one point: all features are the same",
            (0.5, 0.42),
            xycoords="axes fraction",
            ha="center",
            fontsize=9,
            color=INK,
        )
    ax.margins(0.05)
    ax.set_aspect("equal", adjustable="datalim")


def class_legend(
    figure: Figure, present: Sequence[int], classes: Sequence[str], rows: int, note: str
) -> None:
    """Colour and marker of each class below the panels, with the note above them."""
    handles = [_class_handle(i, class_name(i, classes)) for i in present]
    legend = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=math.ceil(len(handles) / rows),
        handletextpad=0.2,
        columnspacing=1.4,
        fontsize=9.5,
        title=note,
        title_fontsize=8.5,
    )
    legend.get_title().set_color(GREY)


def _class_handle(i: int, name: str) -> Any:
    from matplotlib.lines import Line2D

    colour, marker = ("#c4cad0", ".") if i < 0 else class_style(i)
    edge = "#7a7400" if colour == YELLOW else "white"
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=marker,
        markersize=7.5,
        color=colour,
        markeredgecolor=edge,
        markeredgewidth=0.6,
        label=name,
    )


@theme()
def spectra(z: Mapping[str, Tensor]) -> Figure:
    """The share of the variance of z along each principal direction, largest first, on a logarithmic scale.

    z: variant -> (N, D). The legend has each effective rank, or says that the variant diverged. Shares below
    a millionth are not drawn. Errors: `InputError` without variants.
    """
    from matplotlib.ticker import FuncFormatter

    if not z:
        raise InputError("There are no spectra to draw: pass the projections z of at least one variant.")
    style = styles(list(z))
    named = {}
    figure = new_figure(WIDTH * 0.8, 3.9)
    ax = figure.subplots()
    longest = 1
    for variant, values in z.items():
        if not values.isfinite().all():
            named[f"{label(variant)}: diverged"] = style[variant]
            continue
        shares = spectrum(values).numpy()
        shares = shares[shares > 1e-6]
        longest = max(longest, len(shares))
        colour, line, marker = style[variant]
        ax.plot(
            np.arange(1, len(shares) + 1),
            shares,
            color=colour,
            linestyle=line,
            linewidth=1.9,
            marker=marker,
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            markevery=max(1, len(shares) // 12),
        )
        named[f"{label(variant)}: effective rank {effective_rank(values):.1f}"] = style[variant]
    ax.set_yscale("log")
    ax.set_ylim(1e-6, 2)
    ax.set_xlim(0, longest + 1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
    ax.minorticks_off()
    ax.set_title("Share of the variance of z")
    ax.set_xlabel("principal direction, largest first")
    line_legend(figure, named)
    return figure
