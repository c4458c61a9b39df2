"""Lesson 06: features of every image, a linear probe on them, and an image's neighbours."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .. import evaluate
from ..augment import normalise
from ..data import ImageSet
from ..model import SimSiam
from .core import Exercise, Fact, Function, Suspect, kind_and_shape, place, unchanged
from .training import Away, at, crowd

# ---- 6.1

CHANNELS = 6  # of the little backbone; its projections have 8


def network() -> Any:
    """A small SimSiam in eval mode with batch norm and dropout; its pixel statistics are its own."""
    norm = nn.BatchNorm2d(CHANNELS)
    layers = (nn.Conv2d(3, CHANNELS, 3), norm, nn.ReLU(), nn.Dropout(0.5))
    nn.init.uniform_(norm.get_buffer("running_mean"), -0.5, 0.5)
    model = SimSiam.create(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), CHANNELS, 8, 8, 4)
    model.pixel_mean.copy_(torch.tensor([0.2, 0.4, 0.6]))
    model.pixel_std.copy_(torch.tensor([0.3, 0.2, 0.1]))
    return model.eval()


def pictures(count: int) -> ImageSet:
    return ImageSet(torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8), torch.arange(count) % 2)


def _sizes(f: Function) -> list[Any]:
    """Batches that do not fit, and no word about them."""
    counts = [kind_and_shape(f(network(), pictures(count), batch_size=4)) for count in (10, 3, 1)]
    return [*counts, kind_and_shape(f(network(), pictures(5)))]


def _in_order(f: Function) -> bool:
    """Whether turning the images round turns the features round."""
    model, images = network(), pictures(10)
    back = f(model, images.subset(torch.arange(9, -1, -1)), batch_size=4)
    return torch.allclose(f(model, images, batch_size=4), back.flip(0), atol=1e-5)


def _in_train_mode(f: Function) -> list[Any]:
    model, images = network().train(), pictures(10)
    return [f(model, images, batch_size=size) for size in (10, 3, 1)]


def _state(f: Function) -> dict[str, bool]:
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    f(model, pictures(10), batch_size=4)
    kept = all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    dropouts = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    return {"weights and averages are as they were": kept, "dropout is as it was": dropouts == [0.5]}


def _modes(f: Function) -> dict[str, str]:
    """The modes afterwards, of models that came in different ones."""
    found = {}
    for name in ("all in train mode", "all in eval mode", "train mode, one BN in eval mode on purpose"):
        model = network().train("all in eval" not in name)
        if "on purpose" in name:
            model.backbone[1].eval()
        before = [module.training for module in model.modules()]
        f(model, pictures(6), batch_size=4)
        kept = [module.training for module in model.modules()] == before
        found[name] = "kept" if kept else "changed"
    return found


def _gradients(f: Function) -> dict[str, bool]:
    model = network()
    model.predictor.requires_grad_(False)
    before = [weight.requires_grad for weight in model.parameters()]
    features = f(model, pictures(6), batch_size=4)
    pairs = list(zip(before, (weight.requires_grad for weight in model.parameters()), strict=True))
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        line = torch.ones(features.shape[1], requires_grad=True)
        with suppress(RuntimeError):
            (features.detach() @ line).sum().backward()
    return {
        "features know where they came from": features.requires_grad,
        "weights can still be trained": all(now for old, now in pairs if old),
        "frozen weights are still frozen": not any(now for old, now in pairs if not old),
        "gradients are recorded afterwards": recorded,
        "a probe can be trained on the features": line.grad is not None,
    }


def _batches(f: Function) -> str:
    """How many images go through the backbone at a time."""
    model, sizes = network(), [0]
    model.backbone[0].register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    f(model, pictures(10), batch_size=2)
    return "at most 2" if max(sizes) <= 2 else f"{max(sizes)}"


def _images_unchanged(f: Function) -> bool:
    images = pictures(6)
    before = images.images.clone()
    f(network(), images, batch_size=4)
    return torch.equal(images.images, before)


class Fetched(TorchFunctionMode):
    """Inside, what leaves the device `meta`, which has shapes and no numbers, becomes ones on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except NotImplementedError:
            if not (args and isinstance(args[0], Tensor) and args[0].is_meta):
                raise
            ones = torch.ones(args[0].shape, dtype=args[0].dtype)
            return ones.numpy() if func is Tensor.numpy else ones


def _there_and_back(f: Function) -> str:
    """Where the features are when the model is on another device, and whether it still is afterwards."""
    model = network().to("meta")
    found: Any = None
    try:
        with Fetched():
            found = f(model, pictures(6), batch_size=4)
    except Exception as error:
        if not any(words in str(error) for words in ("no data!", "can't convert meta", "meta tensors")):
            return "an error about devices"
    if not (model.pixel_mean.is_meta and next(model.parameters()).is_meta):
        return "the model was moved"
    return "there and not back" if isinstance(found, Tensor) and found.is_meta else "there and back"


def embed_solution(model: SimSiam, images: ImageSet, batch_size: int = 512) -> Tensor:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    features = []
    with torch.no_grad():
        for x in images.images.split(batch_size):  # (B, 3, H, W) uint8, the last batch may be smaller
            x = normalise(x.to(model.pixel_mean.device), model.pixel_mean, model.pixel_std)
            features.append(model.features(x).cpu())  # (B, D)
    for module, training in modes.items():
        module.training = training
    return torch.cat(features)  # (N, D)


def embedding(
    *,
    batches: Callable[[ImageSet, int], Any] = lambda images, size: images.images.split(size),
    pixels: Callable[[Tensor, SimSiam, ImageSet], Tensor] | None = None,
    forward: Callable[[SimSiam, Tensor], Tensor] = lambda model, x: model.features(x),
    before: Callable[[SimSiam], Any] = lambda model: model.eval(),
    after: Callable[[SimSiam, dict], Any] | None = None,
    mode: Callable[[], Any] = torch.no_grad,
    end: Callable[[list[Tensor]], Any] = torch.cat,
) -> Function:
    """An `embed` with one of its parts exchanged for a wrong one."""

    def wrong(model: SimSiam, images: ImageSet, batch_size: int = 512) -> Any:
        modes = {module: module.training for module in model.modules()}
        before(model)
        with mode():
            features = [
                forward(model, (pixels or _own_pixels)(x, model, images)) for x in batches(images, batch_size)
            ]
            result = end(features)
        (after or _put_back)(model, modes)
        return result

    return wrong


def _own_pixels(x: Tensor, model: SimSiam, images: ImageSet) -> Tensor:
    return normalise(x.to(model.pixel_mean.device), model.pixel_mean, model.pixel_std)


def _put_back(model: SimSiam, modes: dict[nn.Module, bool]) -> None:
    for module, training in modes.items():
        module.training = training


def _only_full(images: ImageSet, size: int) -> Any:
    return [x for x in images.images.split(size) if len(x) == size]


def _all_but_the_last(images: ImageSet, size: int) -> Any:
    return [images.images[start : start + size] for start in range(0, len(images) - size, size)]


def _shuffled(images: ImageSet, size: int) -> Any:
    return images.images[torch.randperm(len(images))].split(size)


def _norms_to_eval(model: SimSiam) -> None:
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.eval()


def _top_mode(model: SimSiam, modes: dict[nn.Module, bool]) -> None:
    model.train(modes[model])


def _left_off(model: SimSiam, images: ImageSet, batch_size: int = 512) -> Tensor:
    torch.set_grad_enabled(False)
    return embed_solution(model, images, batch_size)


def _thawed(model: SimSiam, modes: dict[nn.Module, bool]) -> None:
    _put_back(model, modes)
    model.requires_grad_(True)


def _dropout_to_zero(model: SimSiam) -> None:
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _weights_frozen(model: SimSiam, images: ImageSet, batch_size: int = 512) -> Tensor:
    model.requires_grad_(False)
    return embed_solution(model, images, batch_size)


EMBED = Exercise(
    "6.1",
    "embed",
    evaluate.embed,
    facts=[
        Fact("For 8 images in batches of 4 it gives a tensor of shape (8, 6): a row for each image, a column for each "
             "channel of the backbone.",
             lambda f: kind_and_shape(f(network(), pictures(8), batch_size=4))),
        Fact("Every image counts: 10, 3 and 1 images in batches of 4 give 10, 3 and 1 rows, and 5 images in batches of "
             "the default size give 5.",
             _sizes),
        Fact("Row i belongs to image i: if the images are turned round, so are the features.", _in_order),
        Fact("The pixels are normalised with the model's own statistics, `model.pixel_mean` and `model.pixel_std`.",
             lambda f: f(network(), pictures(8), batch_size=4)),
        Fact("Eval mode: for a model that comes in train mode the features are the same, in batches of 10, 3 and 1.",
             _in_train_mode),
        Fact("Weights, BN's running averages and dropout are as they were.", _state),
        Fact("Afterwards *every* submodule is in the mode that it was in.", _modes),
        Fact("No gradient is recorded inside; everything can be trained afterwards, a probe on the features, too.",
             _gradients),
        Fact("At most `batch_size` images, here 2, go through the network at a time.", _batches),
        Fact("The images are left as they were.", _images_unchanged),
        Fact("The batches go to the device of the model, and the features come back to the CPU.", _there_and_back),
    ],
    suspects=[
        Suspect("These are projections z: features are what the *backbone* gives, `model.features(x)`.",
                embedding(forward=lambda model, x: model.encode(x))),
        Suspect("The list of batches came back: end with `torch.cat`.", embedding(end=lambda features: features)),
        Suspect("The batches were stacked, which adds a dimension: `torch.cat` puts them below each other.",
                embedding(end=torch.stack)),
        Suspect("Only the last batch came back.",
                embedding(end=lambda features: features[-1])),
        Suspect("The last batch is missing: the `range` over the images is to go up to `len(images)`.",
                embedding(batches=_all_but_the_last)),
        Suspect("The last batch was dropped because it was smaller (`drop_last`, or `len(images) // batch_size`). Its "
                "images then have no features, and every label behind them is off.",
                embedding(batches=_only_full)),
        Suspect("The order changed: was something shuffled, or drawn at random? Labels would belong to other images.",
                embedding(batches=_shuffled)),
        Suspect("The batches came back in the wrong order.",
                embedding(end=lambda features: torch.cat(features[::-1]))),
        Suspect("The pixels were normalised with the statistics of these images. The network knows those of its "
                "training images: it would see test images in other colours.",
                embedding(pixels=lambda x, model, images: normalise(x, images.mean, images.std))),
        Suspect("The pixels were only divided by 255: the network was trained on `normalise(...)`d images.",
                embedding(pixels=lambda x, model, images: x / 255)),
        Suspect("The pixels went in as 0 to 255: `normalise` divides by 255, too.",
                embedding(pixels=lambda x, model, images: x.float())),
        Suspect("The model was never put into eval mode: BN then takes the statistics of the batch, and an image's "
                "features depend on its neighbours.",
                embedding(before=lambda model: None)),
        Suspect("The model was put into train mode.", embedding(before=lambda model: model.train())),
        Suspect("Only the batch norms were put into eval mode; dropout is still at work.",
                embedding(before=_norms_to_eval)),
        Suspect("The model stays in eval mode: if this happens in the middle of a training, the rest of it runs "
                "without batch statistics.",
                embedding(after=lambda model, modes: None)),
        Suspect("`model.train()` at the end puts everything into train mode, also what was in eval mode before.",
                embedding(after=lambda model, modes: model.train())),
        Suspect("One mode for all: `model.train(mode)` overwrites that of every submodule. Keep one for each of "
                "`model.modules()`.",
                embedding(after=_top_mode)),
        Suspect("Gradients were recorded: memory grows with every batch. Use `with torch.no_grad():`.",
                embedding(mode=torch.enable_grad)),
        Suspect("`torch.inference_mode()` goes too far here: nothing can be trained on its tensors. `torch.no_grad()` "
                "is right.",
                embedding(mode=torch.inference_mode)),
        Suspect("Gradients stay switched off after the call: use `with torch.no_grad():`, which ends.", _left_off),
        Suspect("The weights were frozen for good (`requires_grad_(False)`).", _weights_frozen),
        Suspect("`requires_grad_(True)` at the end also unfreezes what was frozen before: `torch.no_grad()` is enough, "
                "and leaves the weights alone.",
                embedding(after=_thawed)),
        Suspect("Dropout was switched off by `p = 0`, for good: `model.eval()` is enough.",
                embedding(before=_dropout_to_zero)),
        Suspect("All images went in at once: that needs memory for all of them.",
                embedding(batches=lambda images, size: [images.images])),
        Suspect("`batch_size` was taken for the number of batches (`chunk`, `tensor_split`): `split(batch_size)` takes "
                "the images in a batch.",
                embedding(batches=lambda images, size: images.images.chunk(size))),
        Suspect("The batches stayed on the CPU: `x.to(model.pixel_mean.device)` brings them to the model.",
                embedding(pixels=lambda x, model, images: normalise(x, model.pixel_mean.cpu(), model.pixel_std.cpu()))),
        Suspect("The model itself was moved: leave it where it is and move the batch, `x.to(model.pixel_mean.device)`.",
                embedding(before=lambda model: model.eval().cpu())),
        Suspect("The features stayed on the device of the model: end each batch with `.cpu()`.", embedding()),
    ],
    hints=(
        "Remember the mode of every submodule, go to eval mode, take the images batch by batch and in order, without "
        "gradient, and put every mode back.",
        "`images.images.split(batch_size)` keeps order and last batch; `normalise(x, model.pixel_mean, "
        "model.pixel_std)`; `model.features(x)`; `torch.cat` at the end.",
        "First `modes = {m: m.training for m in model.modules()}` and `model.eval()`; at the end `for m, t in "
        "modes.items(): m.training = t`.",
    ),
    solution=embed_solution,
)  # fmt: skip


# ---- 6.2

Clouds = tuple[
    Tensor, Tensor, Tensor, Tensor
]  # features (N, D) and labels (N,) to train on, the same to test on


def score(value: Any) -> Any:
    """An accuracy as a Python number, whatever kind of number it is; what is none stays in words."""
    if isinstance(value, bool) or value is Ellipsis or value is None:
        return kind_and_shape(value)
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else kind_and_shape(value)
    try:
        return float(value) if not isinstance(value, str) else value
    except (TypeError, ValueError):
        return kind_and_shape(value)


def at_least(least: float, value: Any) -> Any:
    """Probes of different make differ a little: enough is enough."""
    found = score(value)
    return f"at least {least}" if isinstance(found, float) and least <= found <= 1 else found


def clouds(each: int = 40, asked: int = 40, channels: int = 3) -> Clouds:
    """Two classes that lie far apart along the first channel."""

    def draw(n: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(2 * n) % 2
        features = torch.randn(2 * n, channels)
        features[:, 0] += 8.0 * labels
        return features, labels

    return (*draw(each), *draw(asked))


def _by_hand(f: Function) -> Any:
    train, test = torch.tensor([-2.0, -1.0, 1.0, 2.0]), torch.tensor([-3.0, -1.5, 1.5, 3.0])
    return score(f(train[:, None], torch.tensor([0, 0, 1, 1]), test[:, None], torch.tensor([0, 0, 1, 0])))


def _one_number(f: Function) -> Any:
    found = score(f(*clouds()))
    return "a number from 0 to 1" if isinstance(found, float) and 0 <= found <= 1 else found


def _exchanged_labels(f: Function) -> Any:
    x, y, asked, labels = clouds()
    return score(f(x, 1 - y, asked, labels))


def _five_classes(f: Function) -> list[Any]:
    """Told apart; and the same with classes 1 and 2 exchanged among the test images."""
    labels = torch.arange(100) % 5
    x, asked = at(0, 72, 144, 216, 288, length=5)[labels] + torch.randn(2, 100, 2)
    others = torch.tensor([0, 2, 1, 3, 4])[labels]
    exchanged = score(f(x, labels, asked, others))
    near = isinstance(exchanged, float) and 0.55 <= exchanged <= 0.65
    return [at_least(0.95, f(x, labels, asked, labels)), "about 0.6" if near else exchanged]


def _rings(f: Function) -> Any:
    labels = torch.arange(400) % 2
    radius = (1 + 2 * labels)[:, None] + 0.1 * torch.randn(400, 1)
    x = radius * F.normalize(torch.randn(400, 2), dim=1)
    found = score(f(x[:200], labels[:200], x[200:], labels[200:]))
    return "below 0.75" if isinstance(found, float) and found < 0.75 else found


def _rare_class(f: Function) -> Any:
    """190 images of one class and 10 of the other to train on, as many of both to test on."""
    y, labels = (torch.arange(200) < 10).long(), torch.arange(200) % 2
    x, asked = torch.randn(200, 3), torch.randn(200, 3)
    x[:, 0] += 7.0 * y
    asked[:, 0] += 7.0 * labels
    return at_least(0.93, f(x, y, asked, labels))


def _units(f: Function) -> Any:
    """What matters is in thousandths, the rest in hundreds."""
    x, y, asked, labels = clouds(100, 100, channels=5)
    units, zero = (
        torch.tensor([1e-3, 100.0, 100.0, 300.0, 100.0]),
        torch.tensor([0.5, 300.0, 0.0, 0.0, -50.0]),
    )
    return at_least(0.95, f(zero + units * x, y, zero + units * asked, labels))


def _dead_channel(f: Function) -> Any:
    x, y, asked, labels = clouds()
    x[:, 2], asked[:, 2] = 0.0, 0.0
    return at_least(0.95, f(x, y, asked, labels))


def _other_mixtures(f: Function) -> list[Any]:
    """Test images of one class only, and a single one."""
    x, y, asked, labels = clouds(asked=60)
    one = labels == 1
    return [at_least(0.95, f(x, y, *some)) for some in ((asked[one], labels[one]), (asked[:1], labels[:1]))]


def _stranger(f: Function) -> Any:
    x, y, asked, labels = clouds(asked=50)
    kept = (y == 0) | (torch.arange(len(y)) % 4 == 1)  # twice as many of class 0
    x, y = x[kept], y[kept]
    asked = torch.cat([asked, torch.full((1, 3), 1e5)])
    return at_least(0.95, f(x, y, asked, torch.cat([labels, labels[:1]])))


def _correlated(f: Function) -> Any:
    """Two channels that vary together; only their difference tells the classes apart well."""
    labels = torch.arange(1500) % 2
    first = torch.randn(1500)
    second = 0.8 * first + 0.6 * torch.randn(1500)
    x = torch.stack([first + 1.6 * labels, second], dim=1)
    return at_least(0.85, f(x[:500], labels[:500], x[500:], labels[500:]))


def _weak_channels(f: Function) -> Any:
    """Channels that vary together; what tells four classes apart is in the directions that vary least."""
    torch.manual_seed(1)  # a draw in which early and late are far apart
    n, d = 800, 24
    labels = torch.arange(2 * n) % 4
    means = 1.2 * torch.randn(4, d)
    means[:, : d // 2] = 0.0
    turn = torch.linalg.qr(torch.randn(d, d)).Q
    x = (torch.randn(2 * n, d) + means[labels]) * torch.logspace(0, -1.3, d) @ turn.T
    found = score(f(x[:n], labels[:n], x[n:], labels[n:]))
    low = isinstance(found, float) and found < 0.96
    return "below 0.96" if low else at_least(0.96, found)


def _coin_flips(f: Function) -> str:
    """Features that know nothing of the labels: what is right of the labels is wrong of the opposite ones.

    Both times the random numbers are the same, so that only a look at the test labels can make a difference.
    """
    x, y = torch.randn(40, 60), torch.arange(40) % 2
    asked, labels = torch.randn(401, 60), torch.arange(401) % 2
    numpys, own = np.random.get_state(), random.getstate()
    both = []
    for told in (labels, 1 - labels):
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        both.append(score(f(x.clone(), y.clone(), asked.clone(), told)))
    np.random.set_state(numpys)
    random.setstate(own)
    if not all(isinstance(found, float) for found in both):
        return str(both)
    return "1" if abs(sum(both) - 1) < 0.002 else "more than 1" if sum(both) > 1 else "less than 1"


def linear_probe_solution(
    train_features: Tensor, train_labels: Tensor, features: Tensor, labels: Tensor
) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train_features.numpy())  # mean and sd of the training features
    line = LogisticRegression(max_iter=200)
    line.fit(scaler.transform(train_features.numpy()), train_labels.numpy())
    return float(line.score(scaler.transform(features.numpy()), labels.numpy()))


def standard(x: Tensor, by: Tensor) -> Tensor:
    """x with mean 0 and standard deviation 1 in every channel, as measured on `by`."""
    return (x - by.mean(0)) / by.std(0, correction=0).clamp(min=1e-8)


def fitted(x: Tensor, y: Tensor, **knobs: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**{"max_iter": 200, **knobs}).fit(x.numpy(), y.numpy())


def probe(
    *,
    scale: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, asked: (
        standard(x, x),
        standard(asked, x),
    ),
    fit: Callable[..., Any] = lambda x, y, asked, labels: fitted(x, y),
    read: Callable[..., Any] = lambda line, x, y, asked, labels: float(
        line.score(asked.numpy(), labels.numpy())
    ),
) -> Function:
    """A probe with one of its parts exchanged for a wrong one."""

    def wrong(train_features: Tensor, train_labels: Tensor, features: Tensor, labels: Tensor) -> Any:
        x, asked = scale(train_features, features)
        return read(fit(x, train_labels, asked, labels), x, train_labels, asked, labels)

    return wrong


def _dead_is_nan(x: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = x.mean(0), x.std(0)
    return (x - mean) / std, (asked - mean) / std


def _together(x: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat([x, asked])
    return standard(x, both), standard(asked, both)


def _in_place(x: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = x.mean(0), x.std(0).clamp(min=1e-8)
    x -= mean
    x /= std
    asked -= mean
    asked /= std
    return x, asked


def _curved(x: Tensor, y: Tensor, asked: Tensor, labels: Tensor) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(min(5, len(x))).fit(x.numpy(), y.numpy())


def _centres(x: Tensor, y: Tensor, asked: Tensor, labels: Tensor) -> Any:
    from sklearn.neighbors import NearestCentroid

    return NearestCentroid().fit(x.numpy(), y.numpy())


def _numbers(x: Tensor, y: Tensor, asked: Tensor, labels: Tensor) -> Any:
    """A regression onto the class number."""
    weights = torch.linalg.lstsq(F.pad(x, (0, 1), value=1.0), y.float()[:, None]).solution
    return lambda rows: (F.pad(rows, (0, 1), value=1.0) @ weights)[:, 0].round().long()


def _both_sets(x: Tensor, y: Tensor, asked: Tensor, labels: Tensor) -> Any:
    return fitted(torch.cat([x, asked, asked]), torch.cat([y, labels, labels]))


def _one_step(x: Tensor, y: Tensor, asked: Tensor, labels: Tensor) -> Any:
    """One step of gradient descent from zero."""
    classes = int(y.max()) + 1
    slope = x.T @ (F.one_hot(y, classes) - 1 / classes) / len(x)
    return lambda rows: (rows @ slope).argmax(dim=1)


def _best_of_three(x: Tensor, y: Tensor, asked: Tensor, labels: Tensor) -> float:
    """The regularisation that the test images like best."""
    x, asked = standard(x, x), standard(asked, x)
    return max(float(fitted(x, y, C=c).score(asked.numpy(), labels.numpy())) for c in (0.01, 1.0, 100.0))


def _by_call(line: Any, x: Tensor, y: Tensor, asked: Tensor, labels: Tensor) -> float:
    return (line(asked) == labels).float().mean().item()


LINEAR_PROBE = Exercise(
    "6.2",
    "linear_probe",
    evaluate.linear_probe,
    facts=[
        Fact("It gives one number from 0 to 1, the share of the test images whose class is right.", _one_number),
        Fact("One channel: with training images at -2 and -1 (class 0) and at 1 and 2 (class 1), of test images at -3, "
             "-1.5, 1.5 and 3 of classes 0, 0, 1 and 0 three are right: 0.75.",
             _by_hand),
        Fact("It learns from the training labels alone: if those are exchanged, every test image is wrong, and the "
             "accuracy is 0.",
             _exchanged_labels),
        Fact("Five classes around a centre can be told apart: at least 0.95. If two are exchanged among the test "
             "images, two in five are wrong: 0.6.",
             _five_classes),
        Fact("It is linear: a small ring inside a large one cannot be told from it, the accuracy stays below 0.75.",
             _rings),
        Fact("Units do not matter: if the channel that tells the classes apart is in thousandths and the others are in "
             "hundreds, it is still at least 0.95.",
             _units),
        Fact("A channel that is 0 for every image does no harm.", _dead_channel),
        Fact("A test image's class does not depend on the other test images: test images of one class only, or a "
             "single one, are told as well.",
             _other_mixtures),
        Fact("One strange test image, with features of 100,000, does not spoil the others.", _stranger),
        Fact("A class that is rare among the training images is found: at least 0.93 on as many of both.", _rare_class),
        Fact("It is trained long enough: where only the difference of two channels tells the classes apart, at least "
             "0.85 are right.",
             _correlated),
        Fact("It is trained to the end, on all training images: where 24 channels vary together and four classes "
             "differ in the directions that vary least, at least 0.96 are right.",
             _weak_channels),
        Fact("The test labels are only there to count what is right: where features say nothing of the class, the "
             "accuracy on them and the accuracy on the opposite labels add up to 1.",
             _coin_flips),
        Fact("The features are frozen: nothing is changed in place.", lambda f: unchanged(f, *clouds())),
    ],
    suspects=[
        Suspect("The accuracy is a percentage: give a share from 0 to 1.",
                probe(read=lambda line, x, y, asked, labels: 100 * line.score(asked.numpy(), labels.numpy()))),
        Suspect("The right ones were counted: divide by the number of test images.",
                probe(read=lambda line, x, y, asked, labels: int((line.predict(asked) == labels.numpy()).sum()))),
        Suspect("Predictions came back, one for each image: compare them with the labels and take the mean.",
                probe(read=lambda line, x, y, asked, labels: torch.tensor(line.predict(asked)))),
        Suspect("The probe itself came back: ask it for its accuracy on the test images.",
                probe(read=lambda line, x, y, asked, labels: line)),
        Suspect("This is the accuracy on the *training* images: what counts are the images that it has not seen.",
                probe(read=lambda line, x, y, asked, labels: float(line.score(x.numpy(), y.numpy())))),
        Suspect("This is the share of *wrong* answers.",
                probe(read=lambda line, x, y, asked, labels: 1 - float(line.score(asked.numpy(), labels.numpy())))),
        Suspect("It was trained on the *test* images: their labels may only be used to count what is right.",
                probe(fit=lambda x, y, asked, labels: fitted(asked, labels))),
        Suspect("The two sets were exchanged: it was trained on the test images and tested on the training images.",
                lambda x, y, asked, labels: linear_probe_solution(asked, labels, x, y)),
        Suspect("It was trained on the training *and* the test images.", probe(fit=_both_sets)),
        Suspect("Class numbers are names: a regression onto them thinks that class 1 lies between 0 and 2. Use a "
                "logistic regression.",
                probe(fit=_numbers, read=_by_call)),
        Suspect("This is a nearest-neighbour classifier: it asks whether classes lie together, not whether a line "
                "parts them.",
                probe(fit=_curved)),
        Suspect("The features were not standardised: the channel with the largest numbers decides, and the others are "
                "not heard.",
                probe(scale=lambda x, asked: (x, asked))),
        Suspect("The mean was subtracted but nothing was divided by the standard deviation.",
                probe(scale=lambda x, asked: (x - x.mean(0), asked - x.mean(0)))),
        Suspect("Every *image* was given length 1, which says nothing of the channels' units: standardise each "
                "channel.",
                probe(scale=lambda x, asked: (F.normalize(x, dim=1), F.normalize(asked, dim=1)))),
        Suspect("A channel without any spread was divided by 0: add a little to the standard deviation, or use "
                "`clamp(min=1e-8)`.",
                probe(scale=_dead_is_nan)),
        Suspect("The test features were standardised by themselves. Use mean and sd of the *training* features for "
                "both.",
                probe(scale=lambda x, asked: (standard(x, x), standard(asked, asked)))),
        Suspect("The test features were not standardised, the training features were.",
                probe(scale=lambda x, asked: (standard(x, x), asked))),
        Suspect("Mean and sd were taken of training and test features together: the test set has leaked into the "
                "training.",
                probe(scale=_together)),
        Suspect("The best of several was picked by the test labels: whatever is tried, settle it on the training "
                "images, and ask the test images once.",
                _best_of_three),
        Suspect("There is no bias: a line through 0 cannot do justice to classes of different size.",
                probe(fit=lambda x, y, asked, labels: fitted(x, y, fit_intercept=False))),
        Suspect("It is not trained to the end: take more steps, or larger ones.",
                probe(fit=_one_step, read=_by_call)),
        Suspect("The training was stopped early, or saw only a part of the training images: take more steps, and "
                "all of the images.",
                probe(fit=lambda x, y, asked, labels: fitted(x, y, max_iter=4))),
        Suspect("The class with the nearest mean is not what a logistic regression finds: it must learn which "
                "channels say the same.",
                probe(fit=_centres)),
        Suspect("The features themselves were standardised in place (`-=`, `/=`): whoever uses them next gets others.",
                probe(scale=_in_place)),
    ],
    hints=(
        "Standardise every channel as the training features say, train a logistic regression on the training images, "
        "and count what it gets right among the test images.",
        "scikit-learn has both: `StandardScaler().fit(...)`, then `.transform(...)` for both sets, and "
        "`LogisticRegression(max_iter=200)` with `.fit(...)` and `.score(...)`.",
        "`scaler = StandardScaler().fit(train_features.numpy())`, then `line = "
        "LogisticRegression(max_iter=200).fit(scaler.transform(train_features.numpy()), train_labels.numpy())`, and "
        "`return line.score(scaler.transform(features.numpy()), labels.numpy())`",
    ),
    solution=linear_probe_solution,
)  # fmt: skip


# ---- 6.3


def rows(f: Function, bank: Tensor, queries: Tensor, k: int) -> Any:
    """The neighbours as lists of whole numbers; anything else is told in words."""
    found = f(bank, queries, k=k)
    whole = isinstance(found, Tensor) and not found.is_floating_point() and found.ndim == 2
    return found.tolist() if whole else kind_and_shape(found)


def _places(found: Any) -> Any:
    """What came back, in words; whole numbers are whole numbers, however long."""
    whole = isinstance(found, Tensor) and found.dtype in (torch.int64, torch.int32)
    return f"whole numbers of shape {tuple(found.shape)}" if whole else kind_and_shape(found)


def _random_rows(f: Function) -> list[Any]:
    bank, _, queries = crowd()
    return [rows(f, bank, queries, k) for k in (1, 7, 60)]


def _one_by_one(f: Function) -> list[Any]:
    bank, _, queries = crowd(queries=5)
    return [rows(f, bank, query, 4) for query in queries.split(1)]


def _in_the_bank(f: Function) -> Any:
    bank, _, _ = crowd(bank=12)
    return [row[0] for row in found] if isinstance(found := rows(f, bank, bank, 3), list) else found


def _inputs_unchanged(f: Function) -> dict[str, bool]:
    bank, _, queries = crowd()
    return unchanged(lambda bank, queries: f(bank, queries, k=3), bank, queries)


def _neighbours_elsewhere(f: Function) -> str:
    bank, _, queries = crowd()

    def found() -> Any:
        try:
            return away.settled(f(bank, queries, k=5))
        except TypeError as error:
            if "numpy" in str(error):  # by way of NumPy, which is on the CPU, and back
                return queries
            raise

    with Away() as away:
        return place(found, home="cpu")


def neighbours_solution(bank: Tensor, queries: Tensor, k: int = 5) -> Tensor:
    cosines = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T  # (M, N)
    return cosines.topk(k, dim=1).indices  # (M, k), most similar first


def nearest(similar: Callable[[Tensor, Tensor], Tensor], pick: Callable[..., Any] | None = None) -> Function:
    """Neighbours by another similarity, or picked in another way."""

    def wrong(bank: Tensor, queries: Tensor, k: int = 5) -> Any:
        return (pick or _most)(similar(queries, bank), k)

    return wrong


def _most(similar: Tensor, k: int) -> Tensor:
    return similar.topk(k, dim=1).indices


def _cosines(queries: Tensor, bank: Tensor) -> Tensor:
    return F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T


def _changed_bank(queries: Tensor, bank: Tensor) -> Tensor:
    bank /= bank.norm(dim=1, keepdim=True)
    queries /= queries.norm(dim=1, keepdim=True)
    return queries @ bank.T


NEIGHBOURS = Exercise(
    "6.3",
    "neighbours",
    evaluate.neighbours,
    facts=[
        Fact("For a bank of 60 images, 40 queries and k = 5 it gives whole numbers of shape (40, 5): places in the "
             "bank.",
             lambda f: _places(f(*crowd()[::2], k=5))),
        Fact("Images at 10, 60 and 170 degrees; queries at 0, 50 and 200 degrees: the nearest are 0, 1 and 2.",
             lambda f: rows(f, at(10, 60, 170), at(0, 50, 200), 1)),
        Fact("The most similar comes first: of images at 80, 20, 50 and 5 degrees, the three nearest to 0 degrees are "
             "3, 1 and 2, in this order.",
             lambda f: rows(f, at(80, 20, 50, 5), at(0), 3)),
        Fact("Only directions count: an image that is ten times as long is not nearer, nor is it farther.",
             lambda f: [rows(f, torch.cat([at(10), at(60, length=10)]), at(0), 2),
                        rows(f, torch.cat([at(10, length=10), at(60)]), at(0), 2),
                        rows(f, torch.cat([at(10, length=10), at(60)]), at(0, length=20), 2)]),
        Fact("Nobody is left out: a query that is in the bank itself finds itself first.", _in_the_bank),
        Fact("It holds for random features and k of 1, 7 and 60, the whole bank.", _random_rows),
        Fact("It works for a single query, too.", _one_by_one),
        Fact("k is 5 where nothing is said.", lambda f: _places(f(*crowd()[::2]))),
        Fact("Bank and queries stay as they were.", _inputs_unchanged),
        Fact("It works on any device.", _neighbours_elsewhere),
    ],
    suspects=[
        Suspect("These are cosines, not places: `topk` gives `.values` and `.indices`.",
                nearest(_cosines, lambda similar, k: similar.topk(k, dim=1).values)),
        Suspect("Cosines and places came back: give the places, `.indices`, alone.",
                nearest(_cosines, lambda similar, k: tuple(similar.topk(k, dim=1)))),
        Suspect("Bank and queries changed places: every *query* has a row.",
                lambda bank, queries, k=5: neighbours_solution(queries, bank, min(k, len(queries)))),
        Suspect("The neighbours stand below each other, not side by side: a query's neighbours are a row.",
                nearest(_cosines, lambda similar, k: similar.topk(k, dim=1).indices.T)),
        Suspect("One neighbour too many or too few: take k.",
                nearest(_cosines, lambda similar, k: similar.topk(min(k + 1, similar.shape[1]), dim=1).indices)),
        Suspect("These are the images *least* like the query: the largest cosine is the nearest.",
                nearest(_cosines, lambda similar, k: similar.topk(k, dim=1, largest=False).indices)),
        Suspect("The right images in the wrong order: the most similar comes first.",
                nearest(_cosines, lambda similar, k: similar.topk(k, dim=1).indices.flip(1))),
        Suspect("The right images, but sorted by their place in the bank: the most similar comes first.",
                nearest(_cosines, lambda similar, k: similar.topk(k, dim=1).indices.sort(dim=1).values)),
        Suspect("The bank's lengths count: its long features win. Give every row length 1 first.",
                nearest(lambda queries, bank: queries @ bank.T)),
        Suspect("This is the Euclidean distance: give both length 1 first.",
                nearest(lambda queries, bank: -torch.cdist(queries, bank))),
        Suspect("The channels were given length 1 (dim=0): an image is a row, use dim=1.",
                nearest(lambda queries, bank: F.normalize(queries, dim=0) @ F.normalize(bank, dim=0).T)),
        Suspect("The sign of the cosine was lost: an image that points the opposite way is not similar.",
                nearest(lambda queries, bank: _cosines(queries, bank).abs())),
        Suspect("The first neighbour was left out, as though it were the query itself. Queries are usually other "
                "images; here nobody is left out.",
                nearest(_cosines, lambda similar, k: similar.topk(min(k + 1, similar.shape[1]), dim=1).indices[:, 1:])),
        Suspect("`squeeze()` removes every dimension of size 1, and so a single query's row, or the column of "
                "k = 1.",
                nearest(_cosines, lambda similar, k: similar.topk(k, dim=1).indices.squeeze())),
        Suspect("Rounding makes a cosine a little larger than 1, and acos of that is NaN: the cosine sorts as well.",
                nearest(lambda queries, bank: torch.acos(_cosines(queries, bank)),
                        lambda angles, k: angles.topk(k, dim=1, largest=False).indices)),
        Suspect("Bank or queries were given length 1 in place (`/=`): whoever uses them next gets others.",
                nearest(_changed_bank)),
    ],
    hints=(
        "First the cosines of every query with every image of the bank, a matrix (M, N); then the places of the k "
        "largest in each row.",
        "`F.normalize(..., dim=1)` and `@` give the cosines; `.topk(k, dim=1).indices` the places, the largest first.",
        "`return (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(k, dim=1).indices`",
    ),
    solution=neighbours_solution,
)  # fmt: skip

EXERCISES = (EMBED, LINEAR_PROBE, NEIGHBOURS)
