"""Every public function that takes tensors, options or bytes, given what nobody would give it.

One table: a function, a strategy for its arguments, and a plain reference in float64. An answer must be the
reference's, or a refusal (`ValueError`, which `InputError` is, or `TypeError`) where the reference refuses too;
arguments are never changed. With `--hypothesis-profile many` each line gets 300 arguments instead of 25.
"""

import copy
import math
import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from simsiam_course import (
    ablate,
    augment,
    checkpoint,
    collapse,
    errors,
    evaluate,
    files,
    heads,
    loss,
    model,
    probes,
)
from simsiam_course import data_file as course_file
from simsiam_course.data import ImageSet, load, patterns
from simsiam_course.data.folders import load_folder
from simsiam_course.data.images import read_file
from simsiam_course.recipe import Recipe, learning_rate
from simsiam_course.relatives import losses
from simsiam_course.train import resolve_device

EXAMPLES = settings.default.max_examples if settings.default.max_examples > 100 else 25  # the profile `many`
FUZZ = settings(  # shrinking a failure to a smaller one takes minutes; the arguments are small as they are
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 25, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


class Refused:
    """What a reference returns where the function must refuse; with a value, both are right."""

    def __init__(self, value=None):
        self.value = value


REFUSED = Refused()


@dataclass(frozen=True)
class Case:
    """A line of the table."""

    name: str
    call: Any
    arguments: Any  # a strategy for a tuple of positional arguments
    reference: Any  # the answer, REFUSED, or a function that says whether an answer is right


# ---- strategies

FLOATS = (torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
OTHERS = (torch.int64, torch.uint8, torch.bool, torch.complex64)
KINDS = ("normal", "normal", "normal", "zeros", "constant", "tiny", "huge", "one", "nan", "inf", "offset")
STRANGERS = (None, 3, 2.5, "text", [[1.0, 2.0]], {"a": 1}, np.ones((3, 2), np.float32))


def make(shape, dtype, kind, layout, seed):
    """A tensor of that description."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "zeros":
        x = x * 0
    elif kind == "constant":
        x = x * 0 + 0.7
    elif kind == "offset":
        x = x * 1e-3 + 5
    elif kind in ("tiny", "huge") and dtype.is_floating_point:
        power = {torch.float16: 3, torch.float64: 200}.get(dtype, 25)
        x = x * 10.0 ** (power if kind == "huge" else -power)
    elif kind in ("one", "nan", "inf") and x.numel():
        x = x * 0 if kind == "one" else x
        x.flatten()[seed % x.numel()] = {"one": 1.0, "nan": math.nan, "inf": math.inf}[kind]
    if not dtype.is_floating_point and not dtype.is_complex:
        x = x.nan_to_num(0, 0, 0).mul(3).clamp(0 if dtype == torch.uint8 else -9, 9)
    x = x.to(dtype)
    if layout == "transposed" and x.ndim >= 2:
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    elif layout == "strided" and x.ndim >= 1:
        wide = torch.stack([x, x], dim=-1).flatten(-2) if x.ndim else x
        x = wide[..., ::2]
    elif layout == "expanded" and x.ndim >= 1 and x.shape[0] > 0:
        x = x[:1].expand_as(x)
    elif layout == "grad" and dtype.is_floating_point:
        x = x.requires_grad_()
    return x


LAYOUTS = st.sampled_from(("contiguous", "contiguous", "transposed", "strided", "expanded", "grad"))
SEEDS = st.integers(0, 2**31)


def tensors(shape=None, dtypes=FLOATS, kinds=KINDS):
    """Tensors of a shape (a tuple or a strategy), by default of any."""
    shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple) if shape is None else shape
    shapes = st.just(shapes) if isinstance(shapes, tuple) else shapes
    return st.builds(make, shapes, st.sampled_from(dtypes), st.sampled_from(kinds), LAYOUTS, SEEDS)


def anything():
    """What a person might pass by mistake."""
    return st.one_of(tensors(dtypes=(*FLOATS, *OTHERS)), st.sampled_from(STRANGERS))


MATRIX = st.tuples(st.integers(1, 7), st.integers(1, 6))


def matrices(count, shape=MATRIX, **options):
    """`count` tensors, mostly of one matrix shape and one dtype, now and then of something else."""

    @st.composite
    def draw(draw):
        n, d = draw(shape)
        dtype = draw(st.sampled_from(options.get("dtypes", FLOATS)))
        odd = draw(st.sampled_from([None, None, None, None, 0, count - 1]))
        return tuple(
            draw(anything()) if i == odd else draw(tensors((n, d), (dtype,), options.get("kinds", KINDS)))
            for i in range(count)
        )

    return draw()


NUMBERS = st.one_of(
    st.integers(-3, 40), st.floats(-2, 3), st.just(10**400), st.just(math.inf), st.just(math.nan), st.just(True),
    st.just(None), st.just("3"), st.just(1e308), st.just(0.1), st.just(2**62), st.just(1j),
)  # fmt: skip
WORDS = st.one_of(
    st.text(max_size=12), st.sampled_from(["", "\0", "\ud800", "../x", "file:", "folder:", "patterns"]),
    st.sampled_from(["mlp", "none", "a" * 999]),
    st.none(), st.integers(), st.booleans(), st.just(("mlp",)), st.binary(max_size=8), st.just(["none"]), st.just({}),
)  # fmt: skip


def pure(value):
    return isinstance(value, Tensor)


# ---- comparing


def floats(*values, ndim=2):
    """Whether all are floating tensors of so many dimensions."""
    return all(isinstance(v, Tensor) and v.is_floating_point() and v.ndim == ndim for v in values)


def pair(p, z):
    return floats(p, z) and p.shape == z.shape and p.numel() > 0


def double(x):
    return x.detach().double()


def unit(x):
    """x/|x| in float64, as loss.py has it: too short or too long for its type counts as 0."""
    most = {torch.float64: 1e154, torch.float16: 6e4}.get(x.dtype, 1.8e19)
    length = double(x).norm(dim=1, keepdim=True)
    u = double(x) / length.clamp(min=1e-12)
    u = torch.where(length > most, 0 * u, u)
    return u.masked_fill(~double(x).isfinite().all(dim=1, keepdim=True), math.nan)


TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 6e-2, torch.float32: 2e-5, torch.float64: 1e-9}


def tolerance(*given):
    """That of the coarsest type among the tensors."""
    return max((TOLERANCE.get(x.dtype, 2e-5) for x in given if isinstance(x, Tensor)), default=1e-6)


def same(found, wanted, loose):
    """Whether two answers agree: numbers, tensors, or tuples of them; NaN agrees with NaN."""
    if isinstance(wanted, (tuple, list)):
        return len(found) == len(wanted) and all(
            same(a, b, loose) for a, b in zip(found, wanted, strict=True)
        )
    if isinstance(wanted, (Tensor, float, int)) and not isinstance(wanted, bool):
        found, wanted = (torch.as_tensor(x).detach().double() for x in (found, wanted))
        return found.shape == wanted.shape and torch.allclose(
            found, wanted, rtol=loose, atol=loose, equal_nan=True
        )
    return found == wanted


def frozen(value):
    """A copy that later shows whether the value was changed."""
    if isinstance(value, Tensor):
        return value.detach().clone(), value.stride(), value.requires_grad, value._version
    if isinstance(value, ImageSet):
        return frozen(value.images), frozen(value.labels)
    return copy.deepcopy(value) if not callable(value) else None


def _comparable(x):
    """A tensor in which NaN equals NaN."""
    x = torch.view_as_real(x.detach()) if x.is_complex() else x.detach()
    return x.nan_to_num(7) if x.is_floating_point() else x


def unchanged(value, before):
    if isinstance(value, Tensor):
        kept, stride, grad, version = before
        equal = torch.equal(_comparable(value), _comparable(kept))
        return (
            equal and value.stride() == stride and value.requires_grad == grad and value._version == version
        )
    if isinstance(value, ImageSet):
        return unchanged(value.images, before[0]) and unchanged(value.labels, before[1])
    return True if callable(value) else repr(value) == repr(before)


# ---- references


def negative_cosine(p, z):
    if not pair(p, z):
        return REFUSED
    for x in (p, z):  # 1e-12, below which a row counts as 0, is 0 itself in float16
        if x.dtype == torch.float16 and (double(x).norm(dim=1) < 1e-3).any():
            return lambda found: True
    if p.shape[1] == 1 and 1e18 < max(double(x).abs().max() for x in (p, z)) < math.inf:
        return lambda found: abs(float(found)) < 1.1  # the length of one number needs no square
    return -(unit(p) * unit(z)).sum(dim=1).mean()


def cross_entropy(p, z):
    if not pair(p, z):
        return REFUSED
    if not (p.isfinite().all() and z.isfinite().all()):
        return lambda found: not found.isfinite() or True
    return -(F.softmax(double(z), 1) * F.log_softmax(double(p), 1)).sum(1).mean()


def symmetric(p1, p2, z1, z2, where):
    if where not in loss.STOP_GRADIENT or not (pair(p1, z2) and pair(p2, z1)):
        return REFUSED
    parts = [negative_cosine(p1, z2), negative_cosine(p2, z1)]
    if any(callable(part) for part in parts):
        return lambda found: True
    return sum(parts) / 2


def call_symmetric(p1, p2, z1, z2, where):
    return loss.symmetric_loss(p1, p2, z1, z2, stop_gradient=where)


def monitored(*zs):
    return floats(*zs) and all(len(z) >= 2 and z.shape[1] >= 1 and bool(z.isfinite().all()) for z in zs)


def exact_unit(z):
    """z/|z| whatever its size; a row of zeros stays."""
    largest = double(z).abs().amax(dim=1, keepdim=True)
    scaled = double(z) / largest.masked_fill(largest == 0, 1)
    return F.normalize(scaled, dim=1)


def std(z):
    if not monitored(z):
        return REFUSED
    return float(np.std(exact_unit(z).numpy(), axis=0).mean() * math.sqrt(z.shape[1]))


def shares(z):
    u = exact_unit(z).numpy()
    s2 = np.linalg.svd(u - u.mean(axis=0), compute_uv=False) ** 2
    return s2 / s2.sum()


def spectrum(z):
    if not monitored(z):
        return REFUSED
    spread = std(z)
    if abs(spread - collapse.CONSTANT) < 1e-3:
        return lambda found: True
    found = np.eye(1, min(z.shape))[0] if spread < collapse.CONSTANT else shares(z)
    return torch.from_numpy(found)


def effective_rank(z):
    p = spectrum(z)
    if not isinstance(p, Tensor):
        return p
    p = p[p > 0]
    return float((-(p * p.log()).sum()).exp())


def alignment(z1, z2):
    if not monitored(z1, z2) or z1.shape != z2.shape:
        return REFUSED
    return float(((exact_unit(z1) - exact_unit(z2)) ** 2).sum(1).mean())


def uniformity(z):
    if not monitored(z):
        return REFUSED
    u = exact_unit(z)
    d2 = ((u[:, None] - u[None]) ** 2).sum(-1)
    i, j = np.triu_indices(len(u), 1)
    return float(np.log(np.exp(-2 * d2.numpy()[i, j]).mean()))


def features(bank, queries):
    shapes = floats(bank, queries) and bank.shape[1] == queries.shape[1] and len(queries) and len(bank)
    return bool(shapes and bank.isfinite().all() and queries.isfinite().all() and bank.shape[1])


def cosines(bank, queries):
    return exact_unit(queries) @ exact_unit(bank).T


def neighbours(bank, queries, k):
    if (
        not features(bank, queries)
        or isinstance(k, bool)
        or not isinstance(k, int)
        or not 1 <= k <= len(bank)
    ):
        return REFUSED
    if bank.dtype != queries.dtype:
        return Refused(lambda found: True)
    near = cosines(bank, queries)
    loose = 4 * tolerance(bank, queries) + 1e-6

    def right(found):
        """Each row has k different ones, and none left out is nearer than one of them."""
        for row, chosen in zip(near, found, strict=True):
            left = [float(row[j]) for j in range(len(row)) if j not in chosen.tolist()]
            kept = row[chosen]
            if len(set(chosen.tolist())) != k or (left and max(left) > float(kept.min()) + loose):
                return False
            if any(float(kept[i + 1]) > float(kept[i]) + loose for i in range(k - 1)):
                return False
        return found.shape == (len(near), k)

    return right


def call_neighbours(bank, queries, k):
    return evaluate.neighbours(bank, queries, k=k)


def knn(bank, labels, queries, k):
    fits = isinstance(labels, Tensor) and not labels.is_floating_point() and not labels.is_complex()
    if not features(bank, queries) or not fits or labels.shape != (len(bank),) or labels.dtype == torch.bool:
        return (
            REFUSED
            if not (isinstance(labels, Tensor) and labels.dtype in (torch.bool, torch.complex64))
            else Refused(lambda _: True)
        )
    kept = labels >= 0
    if not kept.any() or isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= int(kept.sum()):
        return REFUSED
    if bank.dtype != queries.dtype:
        return Refused(lambda found: True)
    near, labels = cosines(bank, queries)[:, kept], labels[kept]
    ordered = near.sort(dim=1, descending=True).values
    loose = 4 * tolerance(bank, queries) + 1e-6
    from sklearn.neighbors import KNeighborsClassifier

    def weights(distances):
        return np.exp((1 - distances) / 0.1)

    votes = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
    u = exact_unit(bank)[kept]
    clear = bool((u.norm(dim=1) > 0).all()) and bool((exact_unit(queries).norm(dim=1) > 0).all())

    def right(found):
        if found.shape != (len(queries),) or not set(found.tolist()) <= set(labels.tolist()):
            return False
        if (
            not clear
            or tolerance(bank, queries) > 1e-4
            or (k < len(u) and (ordered[:, k - 1] - ordered[:, k] < loose).any())
        ):
            return True  # who is a neighbour is a matter of rounding
        votes.fit(u.numpy(), labels.numpy())
        chances = torch.from_numpy(votes.predict_proba(exact_unit(queries).numpy()))
        column = torch.tensor([votes.classes_.tolist().index(label) for label in found.tolist()])
        return bool((chances.gather(1, column[:, None])[:, 0] >= chances.max(dim=1).values - 1e-3).all())

    return right


def call_knn(bank, labels, queries, k):
    return evaluate.knn(bank, labels, queries, k=k)


@st.composite
def knn_arguments(draw):
    bank, queries = draw(matrices(2))
    n = len(bank) if isinstance(bank, Tensor) and bank.ndim else 3
    if isinstance(queries, Tensor) and queries.ndim == 2 and draw(st.booleans()):
        queries = queries[: draw(st.integers(0, len(queries)))]
    labels = draw(st.one_of(
        st.lists(st.integers(-1, 3), min_size=n, max_size=n).map(lambda v: torch.tensor(v, dtype=torch.int64)),
        anything(),
    ))  # fmt: skip
    return bank, labels, queries, draw(st.one_of(st.integers(1, 3), NUMBERS))


def images_ok(images, mean, std):
    whole = (
        isinstance(images, Tensor)
        and images.dtype == torch.uint8
        and images.ndim == 4
        and images.shape[1] == 3
    )
    sizes = whole and len(images) > 0 and min(images.shape[2:]) >= 2
    given = all(isinstance(v, Tensor) and v.shape == (3,) and not v.is_complex() for v in (mean, std))
    return bool(sizes and given)


def bytes_of(shape, seed, layout):
    x = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    if layout == "transposed":
        x = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    return x.to(memory_format=torch.channels_last) if layout == "strided" else x


PIXELS = st.builds(
    bytes_of, st.tuples(st.integers(1, 3), st.just(3), st.integers(2, 12), st.integers(2, 12)), SEEDS, LAYOUTS
)
THREE = st.one_of(
    tensors((3,), (torch.float32, torch.float64), ("normal", "constant")).map(
        lambda x: x.detach().abs() + 0.1
    ),
    tensors((3,), (torch.float32, torch.float64), ("normal", "constant")).map(
        lambda x: x.detach().abs() + 0.1
    ),
    tensors(),
)


def normalise(images, mean, std):
    if not images_ok(images, mean, std):
        return Refused(lambda found: found.shape == images.shape)
    if not (mean.isfinite().all() and std.isfinite().all() and (std.abs() > 1e-6).all()):
        return lambda found: found.shape == images.shape
    mean, std = (double(v)[:, None, None] for v in (mean, std))
    return (double(images) / 255 - mean) / std


def call_views(images, augmentation, seed, mean, std):
    generator = torch.Generator().manual_seed(seed)
    return augment.two_views(images, augmentation, generator, mean, std)


def views(images, augmentation, seed, mean, std):
    """Each image alone, with its own parameters, must give what the batch gives."""
    if not images_ok(images, mean, std):
        return Refused(lambda found: True)
    drawn = augmentation.draw(2 * len(images), torch.Generator().manual_seed(seed))
    alone = [
        augmentation.apply(
            images[i % len(images)][None].contiguous(), {k: v[i : i + 1] for k, v in drawn.items()}, mean, std
        )
        for i in range(2 * len(images))
    ]
    if not all(view.isfinite().all() for view in alone):
        return lambda found: all(view.shape == images.shape for view in found)

    def right(found):
        together = torch.cat(found)
        scale = together.abs().max() + 1
        return together.dtype == torch.float32 and bool(
            ((together - torch.cat(alone)).abs() <= 1e-4 * scale).all()
        )

    return right


AUGMENTATIONS = st.sampled_from([*augment.PRESETS.values(), augment.Augmentation(solarize=0.5, blur=1.0)])


def make_augmentation(knobs):
    return augment.Augmentation(**knobs)


def augmentation(knobs):
    ranges = {**dict.fromkeys(("flip", "vertical_flip", "turn", "jitter", "gray", "blur", "solarize"), 1.0), "hue": 0.5,
              **dict.fromkeys(("brightness", "contrast", "saturation"), 1.79e308)}  # fmt: skip
    for name, value in knobs.items():
        if name in ranges:
            if not number(value) or not 0 <= value <= ranges[name]:
                return REFUSED
        else:
            good = isinstance(value, tuple) and len(value) == 2 and all(number(v) for v in value)
            most = 1.0 if name == "crop_scale" else 1.79e308
            if not good or not 0 < value[0] <= value[1] <= most:
                return REFUSED
    return lambda found: all(getattr(found, name) == value for name, value in knobs.items())


def number(value):
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return real and abs(value) < 1.79e308 and value == value


def whole(value, least=1, most=math.inf):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def draw_n(n):
    return augment.PRESETS["simclr"].draw(n, torch.Generator().manual_seed(0))


def rate(step, total, lr, batch_size, schedule, warmup, decay):
    return learning_rate(
        step,
        total,
        lr=lr,
        batch_size=batch_size,
        schedule=schedule,
        warmup_steps=warmup,
        decay_fraction=decay,
    )


def rate_reference(step, total, lr, batch_size, schedule, warmup, decay):
    sound = whole(total) and whole(step, 0) and whole(batch_size) and whole(warmup, 0)
    if not sound or step >= total or not number(lr) or lr <= 0 or not number(decay) or not 0 <= decay <= 1:
        return REFUSED
    if schedule not in ("stable_decay", "cosine", "constant"):
        return REFUSED
    if max(total, batch_size, warmup) > 1e8 or lr > 1e100:
        return Refused(math.isfinite)
    peak = lr * batch_size / 256
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    if schedule == "cosine":
        return peak * (1 + math.cos(math.pi * done)) / 2
    if schedule == "stable_decay" and decay > 0 and done > 1 - decay:
        return peak * (1 - done) / decay
    return peak


def recipe_right(knobs):
    """A recipe that is made holds what was given, with values of their kind; all else is refused."""
    known = {f.name: f for f in fields(Recipe)}
    default = Recipe()

    def right(found):
        for name, value in knobs.items():
            kind = type(getattr(default, name))
            fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (
                kind is bool
            )
            if not fits or getattr(found, name) != value:
                return False
        return True

    if not isinstance(knobs, dict) or not knobs.keys() <= known.keys():
        return REFUSED
    return Refused(right)


KNOBS = st.dictionaries(
    st.one_of(*[st.sampled_from([f.name for f in fields(Recipe)])] * 2, st.text(max_size=5)),
    st.one_of(NUMBERS, WORDS, st.sampled_from(["linear", "cosine", "tiny", "simclr", "he", "none", 2, 3, 64, 0.5])),
    max_size=3,
)  # fmt: skip


def diagnosis(measurements):
    """A name from the table and its evidence, or a refusal of what is no number."""
    names = {rule.name for rule in collapse.RULES} | {"unknown"}
    if not isinstance(measurements, dict):
        return REFUSED
    return Refused(lambda found: found.name in names and bool(found.evidence) and bool(found.advice))


VALUE = st.one_of(
    st.floats(), st.floats(-1, 1), st.integers(-5, 500), st.none(), st.sampled_from(["a", [1], True])
)
ROW = st.dictionaries(
    st.sampled_from(["step", "loss", "std", "effective_rank", "x"]),
    st.one_of(st.floats(-1, 1), VALUE),
    max_size=4,
)
MEASUREMENTS = st.one_of(
    st.dictionaries(
        st.sampled_from(["loss", "std", "effective_rank", "steps", "dim"]), VALUE, max_size=5
    ).flatmap(
        lambda d: st.one_of(st.just(d), st.lists(ROW, max_size=12).map(lambda rows: {**d, "history": rows}))
    ),
    st.sampled_from([None, 3, [], "healthy", {"history": 3}, {"history": [1, 2]}, {"history": {"a": 1}}]),
)


def image_set(images, labels):
    if (
        not isinstance(images, Tensor)
        or images.dtype != torch.uint8
        or images.ndim != 4
        or images.shape[1] != 3
    ):
        return REFUSED
    if len(images) == 0 or min(images.shape[2:]) < 8:
        return REFUSED
    if labels is not None:
        fits = isinstance(labels, Tensor) and labels.dtype == torch.int64 and labels.shape == (len(images),)
        if not fits or int(labels.min()) < -1:
            return REFUSED
    flat = double(images).transpose(0, 1).reshape(3, -1) / 255

    def right(found):
        moments = same(found.mean, flat.mean(1), 1e-6) and same(
            found.std, flat.std(1, correction=0).clamp(min=1e-3), 1e-5
        )
        return moments and len(found) == len(images) and "ImageSet" in repr(found)

    return right


SMALL = st.builds(
    bytes_of,
    st.tuples(st.integers(0, 5), st.sampled_from([3, 3, 3, 1]), st.integers(6, 12), st.integers(8, 11)),
    SEEDS,
    LAYOUTS,
)
SETS = st.builds(lambda n, seed: patterns(n, size=8, seed=seed), st.integers(1, 12), st.integers(0, 5))


def subset(images, indices):
    if (
        not isinstance(indices, Tensor)
        or indices.ndim != 1
        or indices.dtype not in (torch.int64, torch.bool, torch.uint8)
    ):
        return Refused(lambda found: True)
    if indices.dtype == torch.uint8 or (indices.dtype == torch.bool and len(indices) != len(images)):
        return Refused(lambda found: True)
    chosen = indices.nonzero()[:, 0] if indices.dtype == torch.bool else indices
    if not len(chosen) or (
        indices.dtype == torch.int64
        and not (-len(images) <= int(chosen.min()) and int(chosen.max()) < len(images))
    ):
        return REFUSED
    return lambda found: (
        torch.equal(found.images, images.images[chosen]) and torch.equal(found.labels, images.labels[chosen])
    )


def sample(images, count):
    if not whole(count):
        return REFUSED
    return lambda found: (
        len(found) == min(count, len(images)) and found.images.shape[1:] == images.images.shape[1:]
    )


def split_off(images, fraction):
    if not number(fraction) or not 0 < fraction < 1:
        return REFUSED

    def right(found):
        train, test = found
        known, asked = set(train.labels.tolist()), set(test.labels.tolist())
        return (
            len(train) + len(test) == len(images)
            and -1 - len(known) <= len(test) - fraction * len(images) <= 1  # an image of each class may stay
            and len(test) > 0
            and (asked <= known or asked.isdisjoint(known))
        )

    return Refused(right)


def sized(n, size, seed):
    if not whole(n, 1, 10**9) or not whole(size, 8, 1024) or not whole(seed, 0, 2**32 - 1):
        return REFUSED
    if n * size * size > 1e6:
        return Refused(lambda found: True)
    return lambda found: found.images.shape == (n, 3, size, size)


def call_patterns(n, size, seed):
    big = whole(n) and whole(size) and n * size * size > 1e6
    if big and n <= 1e9 and size <= 1024:
        raise ValueError("not made in a test")
    return patterns(n, size=size, seed=seed)


def nt_xent(z1, z2, temperature):
    if not pair(z1, z2) or not number(temperature) or temperature <= 0:
        return REFUSED
    extreme = not (1e-2 < temperature < 1e3) or not (z1.isfinite().all() and z2.isfinite().all())
    if extreme or z1.dtype != z2.dtype or tolerance(z1, z2) > 1e-4:
        return lambda found: found.shape == ()
    q = unit(torch.cat([z1, z2]))
    logits = (q @ q.T / temperature).fill_diagonal_(-math.inf)
    n = len(z1)
    return F.cross_entropy(logits, torch.arange(2 * n).roll(n))


def two(z1, z2):
    """A loss of two views is refused unless they are; NaN may come out where it goes in."""
    if not pair(z1, z2) or len(z1) < 2:
        return REFUSED
    return None


def barlow(z1, z2):
    if two(z1, z2):
        return REFUSED
    rough = tolerance(z1, z2) > 1e-4 or not (z1.isfinite().all() and z2.isfinite().all())
    if rough or max(double(z1).abs().max(), double(z2).abs().max()) > 1e4 or z1.dtype != z2.dtype:
        return lambda found: found.shape == ()
    a, b = (
        (double(z) - double(z).mean(0)) / (double(z).var(0, correction=0) + 1e-5).sqrt() for z in (z1, z2)
    )
    c = a.T @ b / len(a)
    off = c - torch.diag(c.diagonal())
    wanted = (1 - c.diagonal()).square().sum() + 5e-3 * off.square().sum()
    return lambda found: abs(float(found) - float(wanted)) <= 2e-3 * (1 + float(wanted))


def vicreg(z1, z2):
    if two(z1, z2):
        return REFUSED
    rough = tolerance(z1, z2) > 1e-4 or not (z1.isfinite().all() and z2.isfinite().all())
    if rough or max(double(z1).abs().max(), double(z2).abs().max()) > 1e4 or z1.dtype != z2.dtype:
        return lambda found: found.shape == ()
    a, b = double(z1), double(z2)
    wanted = 25 * ((a - b) ** 2).mean()
    for z in (a, b):
        wanted += 25 * F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() / 2
        c = torch.cov(z.T).reshape(z.shape[1], z.shape[1])
        wanted += (c - torch.diag(c.diagonal())).square().sum() / z.shape[1]
    return lambda found: abs(float(found) - float(wanted)) <= 1e-3 * (1 + float(wanted))


def sinkhorn(scores, epsilon):
    if not floats(scores) or scores.numel() == 0 or not number(epsilon) or epsilon <= 0:
        return REFUSED
    if (
        tolerance(scores) > 1e-4
        or not scores.isfinite().all()
        or double(scores).abs().max() > 1e3
        or epsilon < 0.05
    ):
        return lambda found: found.shape == scores.shape
    return lambda found: same(found.sum(1), torch.ones(len(scores)), 1e-3) and bool((found >= 0).all())


def head(kind, dim, hidden):
    if kind not in heads.PREDICTORS or not isinstance(kind, str) or not whole(dim) or not whole(hidden):
        return REFUSED
    if max(dim, hidden) > 40:
        return Refused(lambda found: True)
    return lambda found: found.train()(torch.randn(4, dim)).shape == (4, dim)


def call_head(kind, dim, hidden):
    if whole(dim) and whole(hidden) and max(dim, hidden) > 40:
        raise ValueError("not built in a test")
    return heads.predictor(dim, hidden, kind=kind)


def projector(layers, output_bn, dim):
    if (
        not whole(layers, 2, 3)
        or output_bn not in heads.OUTPUT_BN
        or not isinstance(output_bn, str)
        or not whole(dim)
    ):
        return REFUSED
    return lambda found: found.train()(torch.randn(4, 5)).shape == (4, dim)


def call_projector(layers, output_bn, dim):
    if whole(dim) and dim > 40:
        raise ValueError("not built in a test")
    return heads.projector(5, 6, dim, layers=layers, output_bn=output_bn)


def forward(x1, x2, training):
    """SimSiam on two views: four (B, D), or a refusal of what are no images."""

    def views_ok(x):
        return (
            isinstance(x, Tensor)
            and x.dtype == torch.float32
            and x.ndim == 4
            and x.shape[1] == 3
            and len(x)
            and bool(x.isfinite().all())
        )

    if not (views_ok(x1) and views_ok(x2)) or x1.shape != x2.shape or (training and len(x1) == 1):
        return REFUSED
    if not double(torch.cat([x1, x2])).abs().max() < 1e4:
        return Refused(lambda found: True)
    if min(x1.shape[2:]) < 8:
        return Refused(lambda found: all(y.shape == (len(x1), 8) for y in found))
    return lambda found: all(y.shape == (len(x1), 8) and bool(y.isfinite().all()) for y in found)


def call_forward(x1, x2, training):
    torch.manual_seed(0)
    net = model.SimSiam.create(model.tiny((4, 8)), 8, 8, 8, 4)
    return net.train(training)(x1, x2)


IMAGES = st.one_of(
    tensors(st.sampled_from([(2, 3, 8, 8), (2, 3, 9, 8), (1, 3, 8, 8), (2, 1, 8, 8), (2, 3, 2, 2), (0, 3, 8, 8)]),
            (torch.float32, torch.float32, torch.float64, torch.int64)),
    anything(),
)  # fmt: skip


def read_out(bank, target, rows, wanted):
    shapes = floats(bank, target, rows, wanted) and bank.shape[1] == rows.shape[1] and bank.shape[1] > 0
    fits = (
        shapes
        and len(bank) == len(target) > 0
        and len(rows) == len(wanted) > 0
        and target.shape[1] == wanted.shape[1] > 0
    )
    if not fits or not all(x.isfinite().all() for x in (bank, target, rows, wanted)):
        return REFUSED
    return Refused(lambda found: isinstance(found, float) and (0 <= found <= 1 or len(rows) < 2))


def choice(value, choices):
    known = any(
        isinstance(value, type(c)) and isinstance(value, bool) == isinstance(c, bool) and value == c
        for c in choices
    )
    return (lambda found: found is None) if known else REFUSED


def between(value, low, high):
    return (lambda found: found is None) if number(value) and low <= value <= high else REFUSED


def counted(value, least, most):
    return (lambda found: found is None) if whole(value, least, most) else REFUSED


def moments(values):
    there = [value for value in values if value is not None]

    def right(found):
        mean, sd = found
        wanted = np.mean(there) if there else None
        close = mean is wanted is None or (
            mean is not None and math.isclose(mean, wanted, rel_tol=1e-9, abs_tol=1e-12)
        )
        return close and (sd is None) == (len(there) < 2)

    return right


def thinned(history, rows):
    if not whole(rows, 2):
        return REFUSED

    def right(found):
        steps = [row["step"] for row in found]
        return (
            steps == sorted(set(steps))
            and (not history or steps[-1] == history[-1]["step"])
            and len(found) <= max(rows, len(history))
        )

    return right


HISTORY = st.integers(0, 30).map(lambda n: [{"step": i, "loss": i / 7, "knn": None} for i in range(n)])


def refusal_or(kind):
    """A reference that only asks for an answer of a kind, or a refusal."""
    return lambda *given: Refused(lambda found: isinstance(found, kind))


def json_or_not(data):
    import json

    try:
        wanted = json.loads(data)
    except (ValueError, RecursionError):
        return REFUSED
    return lambda found: repr(found) == repr(wanted)


JSON = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"{}", b"[1]", b"[" * 50_000, b'{"a": NaN}', b"\xff", b"9" * 5000]),
)

TABLE = [
    Case("negative_cosine", loss.negative_cosine, matrices(2), negative_cosine),
    Case(
        "cross_entropy_similarity",
        loss.cross_entropy_similarity,
        matrices(2, kinds=("normal", "zeros", "constant", "tiny", "one", "offset", "nan")),
        cross_entropy,
    ),
    Case(
        "symmetric_loss",
        call_symmetric,
        st.tuples(matrices(4), st.one_of(st.sampled_from(loss.STOP_GRADIENT), WORDS)).map(
            lambda a: (*a[0], a[1])
        ),
        symmetric,
    ),
    Case(
        "stop_gradient",
        loss.stop_gradient,
        st.tuples(tensors(), tensors(), st.one_of(st.sampled_from(loss.STOP_GRADIENT), WORDS)),
        lambda p, z, where: (
            (lambda found: same(found, (p, z), 0))
            if isinstance(where, str) and where in loss.STOP_GRADIENT
            else REFUSED
        ),
    ),
    Case("std", collapse.std, matrices(1), std),
    Case("spectrum", collapse.spectrum, matrices(1, dtypes=(torch.float32, torch.float64)), spectrum),
    Case(
        "effective_rank",
        collapse.effective_rank,
        matrices(1, dtypes=(torch.float32, torch.float64)),
        effective_rank,
    ),
    Case("alignment", collapse.alignment, matrices(2), alignment),
    Case("uniformity", collapse.uniformity, matrices(1), uniformity),
    Case("diagnose", collapse.diagnose, st.tuples(MEASUREMENTS), diagnosis),
    Case(
        "neighbours",
        call_neighbours,
        st.tuples(matrices(2), st.one_of(st.integers(1, 3), NUMBERS)).map(lambda a: (*a[0], a[1])),
        neighbours,
    ),
    Case("knn", call_knn, knn_arguments(), knn),
    Case(
        "normalise",
        augment.normalise,
        st.tuples(st.one_of(PIXELS, PIXELS, anything()), THREE, THREE),
        normalise,
    ),
    Case(
        "two_views",
        call_views,
        st.tuples(st.one_of(PIXELS, PIXELS, PIXELS, anything()), AUGMENTATIONS, SEEDS, THREE, THREE),
        views,
    ),
    Case(
        "Augmentation",
        make_augmentation,
        st.tuples(
            st.dictionaries(
                st.sampled_from([f.name for f in fields(augment.Augmentation)]),
                st.one_of(
                    NUMBERS, st.tuples(NUMBERS, NUMBERS), st.tuples(st.floats(0.1, 0.5), st.floats(0.5, 1))
                ),
                max_size=2,
            )
        ),
        augmentation,
    ),
    Case(
        "draw",
        draw_n,
        st.tuples(st.one_of(st.integers(-2, 9), NUMBERS.filter(lambda n: not whole(n, 10**6)))),
        lambda n: (lambda found: all(len(v) == n for v in found.values())) if whole(n) else REFUSED,
    ),
    Case(
        "learning_rate",
        rate,
        st.tuples(
            *[st.one_of(st.integers(0, 20), NUMBERS)] * 2,
            st.one_of(st.floats(0.01, 2), NUMBERS),
            st.one_of(st.integers(1, 64), NUMBERS),
            st.one_of(st.sampled_from(["cosine", "stable_decay", "constant"]), WORDS),
            st.one_of(st.integers(0, 20), NUMBERS),
            st.one_of(st.floats(0, 1), NUMBERS),
        ),
        rate_reference,
    ),
    Case(
        "Recipe.from_dict",
        Recipe.from_dict,
        st.tuples(st.one_of(KNOBS, KNOBS, st.sampled_from([None, [], "lr", 3]))),
        recipe_right,
    ),
    Case("Recipe.replace", lambda knobs: Recipe().replace(**knobs), st.tuples(KNOBS), recipe_right),
    Case(
        "ImageSet",
        ImageSet,
        st.tuples(
            st.one_of(SMALL, anything()),
            st.one_of(st.none(), st.integers(0, 5).map(lambda n: torch.arange(n) - 1), anything()),
        ),
        image_set,
    ),
    Case(
        "ImageSet.subset",
        lambda images, indices: images.subset(indices),
        st.tuples(
            SETS,
            st.one_of(
                tensors(dtypes=(torch.int64, torch.bool)),
                st.lists(st.integers(-3, 6), max_size=5).map(lambda v: torch.tensor(v, dtype=torch.int64)),
                anything(),
            ),
        ),
        subset,
    ),
    Case("ImageSet.sample", lambda images, count: images.sample(count), st.tuples(SETS, NUMBERS), sample),
    Case(
        "ImageSet.split_off",
        lambda images, fraction: images.split_off(fraction),
        st.tuples(SETS, st.one_of(st.floats(0, 1), NUMBERS)),
        split_off,
    ),
    Case(
        "patterns",
        call_patterns,
        st.tuples(
            st.one_of(st.integers(0, 12), NUMBERS),
            st.one_of(st.integers(6, 16), NUMBERS),
            st.one_of(st.integers(0, 3), NUMBERS),
        ),
        sized,
    ),
    Case(
        "load",
        lambda name, split, size: load(name, split=split, size=size),
        st.tuples(WORDS.filter(lambda w: w != "patterns"), WORDS, NUMBERS),
        lambda *a: REFUSED,
    ),
    Case(
        "nt_xent",
        losses.nt_xent,
        st.tuples(matrices(2), st.one_of(st.floats(0.1, 2), NUMBERS)).map(lambda a: (*a[0], a[1])),
        nt_xent,
    ),
    Case("barlow_twins_loss", losses.barlow_twins_loss, matrices(2), barlow),
    Case("vicreg_loss", losses.vicreg_loss, matrices(2), vicreg),
    Case(
        "sinkhorn",
        lambda scores, epsilon: losses.sinkhorn(scores, epsilon=epsilon),
        st.tuples(matrices(1), st.one_of(st.floats(0.05, 1), NUMBERS)).map(lambda a: (*a[0], a[1])),
        sinkhorn,
    ),
    Case(
        "predictor",
        call_head,
        st.tuples(st.one_of(st.sampled_from(heads.PREDICTORS), WORDS), NUMBERS, NUMBERS),
        head,
    ),
    Case(
        "projector",
        call_projector,
        st.tuples(
            st.one_of(st.integers(1, 4), NUMBERS), st.one_of(st.sampled_from(heads.OUTPUT_BN), WORDS), NUMBERS
        ),
        lambda layers, bn, dim: Refused(lambda found: True) if whole(dim, 41) else projector(layers, bn, dim),
    ),
    Case(
        "SimSiam.forward",
        call_forward,
        st.tuples(IMAGES, IMAGES, st.booleans()).flatmap(
            lambda a: st.sampled_from(
                [a, (a[0], copy.deepcopy(a[0]) if not pure(a[0]) else a[0].detach().clone(), a[2])]
            )
        ),
        forward,
    ),
    Case(
        "read_out",
        probes.read_out,
        st.tuples(matrices(4, dtypes=(torch.float32, torch.float64))).map(lambda a: a[0]),
        read_out,
    ),
    Case("create_backbone", model.create_backbone, st.tuples(WORDS), lambda name: REFUSED),
    Case("method_facts", model.method_facts, st.tuples(WORDS), refusal_or(model.MethodFacts)),
    Case("resolve_device", resolve_device, st.tuples(WORDS), lambda name: REFUSED),
    Case("find", ablate.find, st.tuples(WORDS), lambda name: REFUSED),
    Case("data_file", course_file, st.tuples(st.text(max_size=20)), lambda name: REFUSED),
    Case(
        "check_choice",
        lambda value, choices: errors.check_choice("x", value, choices),
        st.tuples(
            st.one_of(WORDS, NUMBERS, anything()),
            st.sampled_from([("mlp", "none"), (2, 3), (True, False), ("",)]),
        ),
        choice,
    ),
    Case(
        "check_number",
        lambda value, low, high: errors.check_number("x", value, low, high),
        st.tuples(
            st.one_of(NUMBERS, WORDS, anything()), st.sampled_from([0, -1]), st.sampled_from([1, 1e300])
        ),
        between,
    ),
    Case(
        "check_whole",
        lambda value, least, most: errors.check_whole(least=least, most=most, x=value),
        st.tuples(st.one_of(NUMBERS, WORDS, anything()), st.integers(-1, 2), st.sampled_from([5, math.inf])),
        counted,
    ),
    Case("parse_json", files.parse_json, st.tuples(JSON), json_or_not),
    Case(
        "mean_sd",
        ablate.tables.mean_sd,
        st.tuples(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=6)),
        moments,
    ),
    Case("thin", ablate.runs.thin, st.tuples(HISTORY, NUMBERS), thinned),
]


TRIED = dict.fromkeys((case.name for case in TABLE), 0)


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_right_or_refused_and_never_changed(case):
    @FUZZ
    @given(case.arguments)
    def hold(arguments):
        TRIED[case.name] += 1
        before = [frozen(value) for value in arguments]
        wanted = case.reference(*arguments)
        refused, wanted = (True, wanted.value) if isinstance(wanted, Refused) else (False, wanted)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = case.call(*arguments)
        except (ValueError, TypeError) as error:
            assert refused, f"refused: {error}"
            if isinstance(error, errors.InputError):
                assert str(error).rstrip().endswith((".", "?")) and len(str(error)) < 1500
        else:
            assert wanted is not None, f"not refused: {found}"
            loose = tolerance(*arguments)
            assert wanted(found) if callable(wanted) else same(found, wanted, loose), (
                f"{found} and not {wanted}"
            )
        assert all(unchanged(value, kept) for value, kept in zip(arguments, before, strict=True))

    hold()


# ---- files: any bytes are read or refused


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@st.composite
def spoiled(draw, good):
    """A sound file with bytes changed, cut out, put in or cut off; or bytes that never were one."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        at = draw(st.sampled_from([at, min(at, 200), min(at, 8)]))  # most of what matters stands in front
        match draw(st.sampled_from(["change", "cut", "insert", "end", "random"])):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
            case "cut":
                del data[at : at + draw(st.integers(1, 9))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "end":
                del data[at:]
            case "random":
                data = bytearray(draw(st.binary(max_size=60)))
    return bytes(data)


def written(place, name, data):
    path = place / name
    path.write_bytes(data)
    return path


WEIGHTS = save(
    {"model.w": torch.arange(6.0), "model.b": torch.ones(2)},
    {"format": checkpoint.FORMAT, "about": '{"recipe": {}}'},
)
SET = save(
    {"images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "labels": torch.tensor([0, 1])},
    {"classes": '["a", "b"]', "name": "n"},
)
LINE = (
    b'{"experiment": "collapse", "variant": "simsiam", "seed": 0, "recipe": {"lr": 0.5}, "knn": 0.5, '
    b'"history": [{"step": 1, "loss": -0.5}]}\n'
)


def pictures():
    from io import BytesIO

    from PIL import Image

    found = []
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"):
        buffer = BytesIO()
        Image.linear_gradient("L").resize((12, 10)).convert("RGB").save(buffer, kind)
        found.append(buffer.getvalue())
    return found


READERS = {
    "load_tensors": (checkpoint.load_tensors, "w.safetensors", spoiled([WEIGHTS]), tuple),
    "load_weights": (checkpoint.load_weights, "v.safetensors", spoiled([WEIGHTS]), tuple),
    "ImageSet.load": (read_file, "s.safetensors", spoiled([SET]), tuple),
    "read_lines": (files.read_lines, "l.jsonl", spoiled([LINE * 3]), list),
    "read_ledger": (ablate.read_ledger, "m.jsonl", spoiled([LINE, LINE * 3]), list),
    "a picture": (lambda path: load_folder(path.parent, size=8), "pictures/a.png", spoiled(pictures()), ImageSet),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_any_bytes_are_read_or_refused_in_one_sentence(reader, place):
    read, name, strategy, kind = READERS[reader]
    (place / "pictures").mkdir(exist_ok=True)

    @FUZZ
    @given(strategy)
    def hold(data):
        TRIED[reader] = TRIED.get(reader, 0) + 1
        path = written(place, name, data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = read(path)
        except errors.InputError as error:
            assert str(error).endswith(".") and str(path.parent) in str(error)
        else:
            assert isinstance(found, kind)
        assert path.read_bytes() == data

    hold()


def test_the_table_names_everything_once():
    names = [case.name for case in TABLE]
    assert len(names) == len(set(names)) and len(names) + len(READERS) >= 45


@pytest.fixture(scope="module", autouse=True)
def count_told():
    yield
    print(f"\n{sum(TRIED.values()):,} examples of {sum(map(bool, TRIED.values()))} functions")
