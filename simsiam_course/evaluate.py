"""What did it learn?  Frozen features, read by neighbours, by a line, and by the collapse monitors.

Two kinds of output are measured, and never mixed: *features*, the backbone's pooled output, by kNN, probe and
neighbours; z, the projections, by the collapse monitors. Both in eval mode, on clean images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import collapse
from .augment import Augmentation, normalise
from .data import ImageSet
from .errors import InputError, shown
from .loss import symmetric_loss
from .memory import in_smaller_batches

MONITORED = 2_048  # images that loss, std and effective rank are computed on
TINY = 1e-9  # features shorter than this are scaled up before their squares vanish
CHUNK = 2**24  # similarities held at once: 64 MB


def embed(model: nn.Module, images: ImageSet, *, batch_size: int = 512) -> Tensor:
    """Features of every image: the backbone's pooled output, without augmentation.

    -> (N, backbone_dim) float32 on the CPU, row i from image i. Eval mode, no gradient; afterwards every
    submodule is in the mode it was in. Where memory does not suffice, the batches become smaller. InputError for
    no images, a batch size below 1, a model without `features`, or an image that memory does not hold. In train
    mode batch norm would make an image's features depend on its neighbours in the batch, and evaluation would
    move its running statistics.
    """
    return _outputs(model, "features", images, batch_size)


def project(model: nn.Module, images: ImageSet, *, batch_size: int = 512) -> Tensor:
    """Projections z of every image, (N, D) float32 on the CPU; all else as `embed`."""
    return _outputs(model, "encode", images, batch_size)


@torch.no_grad()
def _outputs(model: nn.Module, method: str, images: ImageSet, batch_size: int) -> Tensor:
    forward = getattr(model, method, None)
    if forward is None:
        raise InputError(
            f"{type(model).__name__} has no method {method}(x), which evaluation calls: "
            "pass a SimSiam model, or give yours that method."
        )

    def rows(batch_size: int) -> Tensor:
        return torch.cat([_rows(forward(x), method) for x in _clean_batches(model, images, batch_size)])

    with _eval_mode(model):
        return in_smaller_batches(rows, batch_size)


def _rows(y: Tensor, method: str) -> Tensor:
    if y.ndim != 2:
        raise InputError(
            f"{method}(x) gave shape {tuple(y.shape)}, expected one row per image, (B, D): "
            "pool and flatten its output."
        )
    return y.float().cpu()


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards each submodule is as it was (some may be in eval mode on purpose)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _clean_batches(model: nn.Module, images: ImageSet, batch_size: int) -> Iterator[Tensor]:
    """Normalised images in order, (B, 3, H, W), on the model's device and in its memory format.

    The batches are of nearly equal size, so that a plain average over them is one over the images.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(
            f"batch_size is {batch_size!r}, expected a whole number of at least 1: 512 is usual."
        )
    if not isinstance(getattr(images, "images", None), Tensor) or len(images.images) == 0:
        raise InputError(
            f"got a {type(images).__name__} without images, expected an ImageSet with at least one: load one."
        )
    device, memory_format = _place(model)
    mean, std = _pixel_statistics(model, images)
    for x in images.images.tensor_split(math.ceil(len(images.images) / batch_size)):
        yield normalise(x.to(device), mean, std).contiguous(memory_format=memory_format)


def _place(model: nn.Module) -> tuple[torch.device, torch.memory_format]:
    weights = [*model.parameters(), *model.buffers()]
    device = weights[0].device if weights else torch.device("cpu")
    last = any(
        w.ndim == 4 and not w.is_contiguous() and w.is_contiguous(memory_format=torch.channels_last)
        for w in weights
    )
    return device, torch.channels_last if last else torch.contiguous_format


def _pixel_statistics(model: nn.Module, images: ImageSet) -> tuple[Tensor, Tensor]:
    """Those the model was trained with, so that it sees all images in its own scale; else the images'."""
    device, _ = _place(model)
    mean, std = getattr(model, "pixel_mean", None), getattr(model, "pixel_std", None)
    mean, std = (images.mean, images.std) if mean is None or std is None else (mean, std)
    return mean.to(device), std.to(device)


def neighbours(bank: Tensor, queries: Tensor, *, k: int = 5) -> Tensor:
    """The k rows of the bank most similar to each query by cosine, most similar first.

    bank: (N, D), queries: (M, D) -> (M, k) int64. InputError for shapes that do not fit, NaN, or k beyond N.
    A query that is itself in the bank comes first in its own row.
    """
    return _nearest(bank, queries, k)[1]


def knn(
    bank: Tensor, bank_labels: Tensor | None, queries: Tensor, *, k: int = 20, temperature: float = 0.1
) -> Tensor:
    """Label of each query by a vote of its k nearest neighbours, each weighing exp(cosine / temperature).

    bank: (N, D), bank_labels: (N,), queries: (M, D) -> (M,) int64. Rows of the bank labelled -1 do not vote.
    InputError for shapes that do not fit, NaN, no labels, a temperature not above 0, or k beyond the labelled
    rows. Wu et al. (2018), section 3.4, with k = 200 and temperature .07 there. The SimSiam paper shows this
    accuracy in its Fig. 2 and gives neither number.
    """
    if not temperature > 0:
        raise InputError(f"temperature is {temperature!r}, expected a number above 0: .1 is usual.")
    bank, bank_labels = _labelled(bank, bank_labels)
    similarities, indices = _nearest(bank, queries, k)  # (M, k), (M, k)
    weights = ((similarities - similarities[:, :1]) / temperature).exp()  # nearest = 1: no overflow
    classes, compact = bank_labels.to(bank.device).unique(return_inverse=True)  # (C,), (N,)
    votes = weights.new_zeros(len(queries), len(classes))  # (M, C)
    return classes[votes.scatter_add_(1, compact[indices], weights).argmax(dim=1)]  # (M,)


def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor | None,
    queries: Tensor,
    labels: Tensor | None,
    *,
    k: int = 20,
    temperature: float = 0.1,
) -> float:
    """Fraction of the queries whose label `knn` finds; queries labelled -1 are left out.

    labels: (M,) -> from 0 to 1. InputError as in `knn`, or where no query has a label.
    """
    queries, labels = _labelled(queries, labels)
    found = knn(bank, bank_labels, queries, k=k, temperature=temperature)
    return (found == labels.to(found.device)).float().mean().item()


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor | None,
    features: Tensor,
    labels: Tensor | None,
    *,
    regularisation: float = 1.0,
    max_iterations: int = 200,
) -> float:
    """Accuracy of logistic regression on frozen, standardised features; rows labelled -1 are left out.

    (N, D), (N,), (M, D), (M,) -> from 0 to 1. InputError for shapes that do not fit, NaN, no labels, or fewer
    than two classes to tell apart. Scikit-learn's L-BFGS with C = 1 / regularisation: deterministic, and no
    learning rate to tune (the paper's probe, App. A, needs LARS). It stops silently after `max_iterations`.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train_features, train_labels = _labelled(train_features, train_labels)
    features, labels = _labelled(features, labels)
    _check_features(train_features, features)
    if len(train_labels.unique()) < 2:
        raise InputError(
            "the training labels hold one class, expected at least two to tell apart: "
            "pass images of more classes."
        )
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1 / regularisation, max_iter=max_iterations))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(train_features.cpu().numpy(), train_labels.cpu().numpy())
    return float(probe.score(features.cpu().numpy(), labels.cpu().numpy()))


def _nearest(bank: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines and rows of the k nearest, nearest first, (M, k) each; chunks of queries bound the memory."""
    _check_features(bank, queries)
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= len(bank):
        raise InputError(
            f"k is {shown(k)}, expected a whole number from 1 to {len(bank)}, the (labelled) rows of the bank: "
            "lower k or give more images."
        )
    bank = _unit(bank)  # (N, D)
    chunks = queries.to(bank.dtype).split(max(1, CHUNK // len(bank)))
    nearest = [(_unit(chunk) @ bank.T).topk(k, dim=1) for chunk in chunks]
    return torch.cat([top.values for top in nearest]), torch.cat([top.indices for top in nearest])


def _unit(x: Tensor) -> Tensor:
    """x/|x|, row by row, also of rows whose squares over- or underflow. Shapes: (N, D) -> (N, D), float32 or better."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    length = x.norm(dim=1)  # (N,)
    if not (length.isfinite() & (length > TINY)).all():
        largest = x.abs().amax(dim=1, keepdim=True)  # (N, 1)
        x = x / largest.masked_fill(largest == 0, 1)
    return F.normalize(x, dim=1)


def _check_features(bank: Tensor, queries: Tensor) -> None:
    for value in (bank, queries):
        if not isinstance(value, Tensor):
            raise InputError(f"features are a {type(value).__name__}, expected a tensor (N, D): use `embed`.")
    if (
        bank.ndim != 2
        or queries.ndim != 2
        or bank.shape[1] != queries.shape[1]
        or not bank.shape[1]
        or not len(queries)
    ):
        raise InputError(
            f"features have shapes {tuple(bank.shape)} and {tuple(queries.shape)}, expected (N, D) and "
            "(M, D): embed both sets with the same model."
        )
    if not (
        bank.is_floating_point()
        and queries.is_floating_point()
        and bank.isfinite().all()
        and queries.isfinite().all()
    ):
        raise InputError(
            "features hold NaN, infinity or integers, expected finite floating numbers: "
            "if the model gave them, its training has diverged."
        )


def _labelled(features: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The rows that have a label."""
    if labels is None:
        raise InputError(
            "the images have no labels, expected some: pass labelled ones, or read `health` instead."
        )
    for value in (features, labels):
        if not isinstance(value, Tensor):
            raise InputError(f"features and labels are tensors, got a {type(value).__name__}: use `embed`.")
    if labels.is_floating_point() or labels.is_complex() or labels.shape != features.shape[:1]:
        raise InputError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}, expected integers, one for "
            f"each of the {len(features)} rows of features: pass labels of the same images."
        )
    kept = labels >= 0
    if kept.all():
        return features, labels
    if not kept.any():
        raise InputError("every label is -1 (unlabelled), expected some labels: pass labelled images.")
    return features[kept.to(features.device)], labels[kept]


@torch.no_grad()
def random_backbone(
    make_model: Callable[[], nn.Module], train: ImageSet, *, seed: int = 0, batch_size: int = 512
) -> nn.Module:
    """An untrained model whose BN statistics come from one pass over the training images.

    make_model() -> a new model, which is returned in its own mode, its pixel statistics those of `train`.
    InputError as in `embed`, or for a single image. The seed is this model's alone: the global generator is
    left as it was. Without the pass BN would do nothing in eval mode, and a trained model would be compared
    with a handicapped one.
    """
    if len(train) < 2:
        raise InputError("there is one training image, expected at least two for BN statistics: pass more.")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model: Any = make_model()
    if isinstance(getattr(model, "pixel_mean", None), Tensor):
        model.pixel_mean.copy_(train.mean)
        model.pixel_std.copy_(train.std)
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]

    def one_pass(batch_size: int) -> None:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            norm.train()
        for x in _clean_batches(model, train, batch_size):
            model.encode(x)

    with _eval_mode(model):
        in_smaller_batches(one_pass, max(batch_size, 4), least=4)  # at least 4: no batch is of one image
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


def raw_pixels(images: ImageSet, mean: Tensor, std: Tensor) -> Tensor:
    """The images themselves as features, (N, 3 H W): normalised pixels, what learning has to beat."""
    return normalise(images.images, mean, std).flatten(1)


def baselines(
    train: ImageSet,
    test: ImageSet,
    make_model: Callable[[], nn.Module] | None = None,
    *,
    k: int = 20,
    temperature: float = 0.1,
    seed: int = 0,
    batch_size: int = 512,
) -> dict[str, float | None]:
    """kNN accuracy of what has not been trained: raw pixels, and a random backbone from `make_model`.

    -> {"raw_pixels_knn", "random_backbone_knn"}, fractions; None where there are not two classes to tell
    apart, or no `make_model`. InputError as in `knn`; k is cut to the labelled training images.
    """
    found: dict[str, float | None] = {"raw_pixels_knn": None, "random_backbone_knn": None}
    if no_accuracy(train, test):
        return found

    def accuracy(features: Callable[[ImageSet], Tensor]) -> float:
        return accuracy_between(features(train), train, features(test), test, k=k, temperature=temperature)

    found["raw_pixels_knn"] = accuracy(lambda images: raw_pixels(images, train.mean, train.std))
    if make_model is not None:
        model = random_backbone(make_model, train, seed=seed, batch_size=batch_size)
        found["random_backbone_knn"] = accuracy(lambda images: embed(model, images, batch_size=batch_size))
    return found


def measure(
    model: nn.Module,
    train: ImageSet,
    test: ImageSet,
    augmentation: Augmentation | None = None,
    *,
    k: int = 20,
    temperature: float = 0.1,
    seed: int = 0,
    batch_size: int = 512,
    linear: bool = True,
) -> dict[str, float | str | None]:
    """Everything that is reported of a trained model, in eval mode.

    -> {"loss", "std", "effective_rank", "dim", "knn", "linear"} and, where an accuracy is None, a sentence
    "note" that says why; `diagnose` reads it as it is. loss: symmetric loss of two views of up to 2,048 test
    images, None without an augmentation; std and effective_rank: of z of the same images, clean; all three
    NaN where z is; dim: channels of z; knn and linear: fractions, of the features of all test images, k cut
    to the labelled training images; without `linear` its probe, which takes longest, is left out. InputError
    as in `embed`, or for fewer than two test images. Images and views follow from `seed`, on every device alike.
    """
    found: dict[str, float | str | None] = dict(_monitors(model, test, augmentation, seed, batch_size))
    found |= {"knn": None, "linear": None}
    note = no_accuracy(train, test)
    if not note:
        train_features = embed(model, train, batch_size=batch_size)
        features = embed(model, test, batch_size=batch_size)
        if train_features.isfinite().all() and features.isfinite().all():
            found["knn"] = accuracy_between(
                train_features, train, features, test, k=k, temperature=temperature
            )
            if linear:
                found["linear"] = linear_probe(train_features, train.labels, features, test.labels)
        else:
            note = "kNN and linear accuracy are left out: the model's features are NaN or infinite."
    return found | {"note": note} if note else found


def health(
    model: nn.Module,
    images: ImageSet,
    history: Sequence[Mapping[str, Any]] | None = None,
    *,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    batch_size: int = 512,
) -> tuple[dict[str, float | None], collapse.Diagnosis]:
    """Measure a model on images without labels, and name what is seen.

    -> ({"loss", "std", "effective_rank", "dim"}, Diagnosis): loss as in `measure`, else the history's last,
    and None without both; dim: channels of z. InputError as in `measure` and `diagnose`. Give the history of
    `fit` or an augmentation: an untrained network spreads its outputs as well as a healthy one, and only the
    loss tells them apart.
    """
    measurements = _monitors(model, images, augmentation, seed, batch_size)
    diagnosis = collapse.diagnose(measurements | {"history": history})
    if measurements["loss"] is None and history:
        measurements["loss"] = history[-1].get("loss")
    return measurements, diagnosis


def _monitors(
    model: nn.Module, images: ImageSet, augmentation: Augmentation | None, seed: int, batch_size: int
) -> dict[str, float | None]:
    """loss, std, effective_rank and dim, on up to 2,048 images."""
    if len(images) > MONITORED:
        images = images.sample(MONITORED, seed)
    z = project(model, images, batch_size=batch_size)  # (N, D)
    if not z.isfinite().all():
        return {"loss": math.nan, "std": math.nan, "effective_rank": math.nan, "dim": z.shape[1]}
    loss = None if augmentation is None else _loss(model, images, augmentation, seed, batch_size)
    spread = {"std": collapse.std(z), "effective_rank": collapse.effective_rank(z)}
    return {"loss": loss, **spread, "dim": z.shape[1]}


@torch.no_grad()
def _loss(
    model: nn.Module, images: ImageSet, augmentation: Augmentation, seed: int, batch_size: int
) -> float:
    """Symmetric loss in eval mode; parameters of the views are drawn on the CPU, so that devices agree."""
    device, memory_format = _place(model)
    mean, std = _pixel_statistics(model, images)

    def mean_loss(batch_size: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        total = 0.0
        for batch in images.images.split(batch_size):
            views = []
            for _ in range(2):
                drawn = augmentation.draw(len(batch), generator)
                drawn = {name: value.to(device) for name, value in drawn.items()}
                view = augmentation.apply(batch.to(device), drawn, mean, std)  # (B, 3, H, W)
                views.append(view.contiguous(memory_format=memory_format))
            total += symmetric_loss(*model(*views)).item() * len(batch)
        return total / len(images)

    with _eval_mode(model):
        return in_smaller_batches(mean_loss, batch_size)


def accuracy_between(
    bank: Tensor, train: ImageSet, queries: Tensor, test: ImageSet, *, k: int = 20, temperature: float = 0.1
) -> float:
    """`knn_accuracy` of the features of two sets, with k cut to the labelled images of the bank.

    bank: (N, D) of `train`, queries: (M, D) of `test` -> from 0 to 1. InputError as in `knn_accuracy`.
    """
    bank, labels = _labelled(bank, train.labels)
    return knn_accuracy(bank, labels, queries, test.labels, k=min(k, len(bank)), temperature=temperature)


def no_accuracy(train: ImageSet, test: ImageSet) -> str:
    """Why there can be no accuracy, in a sentence; empty where there can."""
    for images, role in ((train, "training"), (test, "test")):
        if not images.labelled:
            return (
                f"kNN and linear accuracy are left out: the {role} images have labels of fewer "
                "than two classes, and accuracy needs two to tell apart."
            )
    known, asked = (
        set() if images.labels is None else set(images.labels.unique().tolist()) - {-1}
        for images in (train, test)
    )
    if known.isdisjoint(asked):
        return (
            "kNN and linear accuracy are left out: no class of the test images is among those of the "
            "training images."
        )
    return ""
