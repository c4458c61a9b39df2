"""Rooms 11.1 to 11.4: what was wrong in the training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...loss import negative_cosine, symmetric_loss
from ...model import SimSiam
from .. import loss as lesson_03
from ..core import Exercise, Fact, Function, Suspect, gradients, kind_and_shape, unchanged
from ..training import small, value

# ---- 11.1 the target is the same view


def two_view_loss_found(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """SimSiam's loss: the mean of two negative cosines between predictions and targets."""
    p1, p2 = F.normalize(p1, dim=1), F.normalize(p2, dim=1)
    z1, z2 = F.normalize(z1.detach(), dim=1), F.normalize(z2.detach(), dim=1)
    first = -(p1 * z1).sum(dim=1).mean()
    second = -(p2 * z2).sum(dim=1).mean()
    return (first + second) / 2


def two_view_loss(p1: Tensor, p2: Tensor, z1: Tensor, z2: Tensor) -> Tensor:
    """SimSiam's loss: the mean of two negative cosines between predictions and targets."""
    p1, p2 = F.normalize(p1, dim=1), F.normalize(p2, dim=1)
    z1, z2 = F.normalize(z1.detach(), dim=1), F.normalize(z2.detach(), dim=1)
    first = -(p1 * z2).sum(dim=1).mean()
    second = -(p2 * z1).sum(dim=1).mean()
    return (first + second) / 2


D = negative_cosine
TWO_VIEW_LOSS = Exercise(
    "11.1",
    "two_view_loss",
    two_view_loss,
    facts=lesson_03.SYMMETRIC_LOSS.facts,
    suspects=[
        Suspect("This is what was found here. Ask of each of the two terms: which view was predicted from which?",
                two_view_loss_found),
        Suspect("Only one of the two terms was put right: the other still compares a view with itself.",
                lambda p1, p2, z1, z2: D(p1, z2) / 2 + D(p2, z2) / 2),
        Suspect("The first term is the one that was left: it still compares a view with itself.",
                lambda p1, p2, z1, z2: D(p1, z1) / 2 + D(p2, z1) / 2),
        Suspect("The predictions are compared with each other now. The target of a prediction is a projection, z.",
                lambda p1, p2, z1, z2: D(p1, p2) / 2 + D(p2, p1) / 2),
        Suspect("Now the projections are compared, and the predictor has no part in it: p is to foretell z.",
                lambda p1, p2, z1, z2: D(z1, z2) / 2 + D(z2, z1) / 2),
        Suspect("The views are crossed, but the `detach` was lost on the way: z is a target, and gets no gradient.",
                lambda p1, p2, z1, z2: symmetric_loss(p1, p2, z1, z2, stop_gradient="none")),
        Suspect("The `detach` stands at p now: the prediction is to move, and the target is to stay.",
                lambda p1, p2, z1, z2: symmetric_loss(p1, p2, z1, z2, stop_gradient="wrong_side")),
        Suspect("A single term is left: both views are to be predicted, each from the other.",
                lambda p1, p2, z1, z2: D(p1, z2)),
        Suspect("The half is gone: the mean of two terms is their sum divided by 2.",
                lambda p1, p2, z1, z2: D(p1, z2) + D(p2, z1)),
        Suspect("A minus was lost or doubled: -1 is perfect agreement, not 1.",
                lambda p1, p2, z1, z2: -symmetric_loss(p1, p2, z1, z2)),
        Suspect("Crossed terms were added to the old ones: the old ones have to go.",
                lambda p1, p2, z1, z2: (D(p1, z1) + D(p2, z2) + D(p1, z2) + D(p2, z1)) / 4),
    ],
    hints=(
        "Follow each of the four letters back to its image: p1 was made from view 1. Which z is news to it?",
        "Read Eq. 2 of the paper, or the docstring of `simsiam_course.loss`: D(p1, z2)/2 + D(p2, z1)/2.",
        "`first = -(p1 * z2).sum(dim=1).mean()`, and in `second` p2 meets z1.",
    ),
    exhibit=two_view_loss_found,
)  # fmt: skip


# ---- 11.2 the target network is never updated


def make_step_found(model: SimSiam) -> Callable[..., Tensor]:
    """A training step of SimSiam: a function of the model and two views that gives the loss."""
    target = deepcopy(model)

    def step(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
        p1 = model.predictor(model.encode(x1))
        p2 = model.predictor(model.encode(x2))
        with torch.no_grad():
            z1, z2 = target.encode(x1), target.encode(x2)
        return symmetric_loss(p1, p2, z1, z2)

    return step


def make_step(model: SimSiam) -> Callable[..., Tensor]:
    """A training step of SimSiam: a function of the model and two views that gives the loss."""
    target = model

    def step(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
        p1 = model.predictor(model.encode(x1))
        p2 = model.predictor(model.encode(x2))
        with torch.no_grad():
            z1, z2 = target.encode(x1), target.encode(x2)
        return symmetric_loss(p1, p2, z1, z2)

    return step


def _shake(model: nn.Module) -> None:
    """Moves every weight, as an optimiser does: in place."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.5 * torch.randn_like(weight))


def _step_kind(f: Function) -> Any:
    model, x1, x2 = small()
    step = f(model)
    return kind_and_shape(step(model, x1, x2)) if callable(step) else kind_and_shape(step)


def _first_step(f: Function) -> Any:
    model, x1, x2 = small()
    return value(f(model)(model, x1, x2))


def _after_moves(f: Function) -> list[Any]:
    """The loss of three steps, between which all weights move."""
    model, x1, x2 = small()
    step, losses = f(model), []
    for _ in range(3):
        losses.append(value(step(model, x1, x2)))
        _shake(model)
    return losses


def _at_rest(f: Function) -> list[Any]:
    """The loss of two steps after a move, at rest."""
    model, x1, x2 = small()
    step = f(model)
    step(model, x1, x2)
    _shake(model)
    return [value(step(model, x1, x2)) for _ in range(2)]


def _step_gradients(f: Function) -> dict[str, str]:
    model, x1, x2 = small()
    step = f(model)
    parts = {name: next(getattr(model, name).parameters()) for name in ("backbone", "projector", "predictor")}
    return gradients(step(model, x1, x2), **parts)


def _step_gradient_values(f: Function) -> list[Tensor]:
    model, x1, x2 = small()
    step = f(model)
    _shake(model)
    return list(torch.autograd.grad(step(model, x1, x2), list(model.parameters())))


def _step_views(f: Function) -> list[Any]:
    model, x1, x2 = small()
    step = f(model)
    return [value(step(model, *views)) for views in ((x1, x2), (x1.exp(), x2), (x1, x2.flip(0)))]


def _step_leaves(f: Function) -> dict[str, bool]:
    model, x1, x2 = small()
    step = f(model)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    step(model, x1, x2)
    now = dict(model.named_parameters())
    return {
        "weights": now.keys() == before.keys()
        and all(torch.equal(before[n], w.detach()) for n, w in now.items()),
        "modes": [module.training for module in model.modules()] == modes,
        "frozen weights": all(weight.requires_grad for weight in now.values()),
        "no gradient yet": all(weight.grad is None for weight in now.values()),
        "gradients are recorded": torch.is_grad_enabled(),
    }


def _online_loss(model: SimSiam, target: SimSiam, x1: Tensor, x2: Tensor, **how: Any) -> Tensor:
    p1, p2 = (model.predictor(model.encode(x)) for x in (x1, x2))
    return symmetric_loss(p1, p2, target.encode(x1), target.encode(x2), **how)


def _nothing(target: SimSiam, model: SimSiam) -> None:
    pass


def _renew(target: SimSiam, model: SimSiam) -> None:
    target.load_state_dict(model.state_dict())


def with_target(
    *,
    make: Callable[[SimSiam], SimSiam] = deepcopy,
    before: Callable[[SimSiam, SimSiam], Any] = _renew,
    after: Callable[[SimSiam, SimSiam], Any] = _nothing,
    loss: Callable[..., Tensor] = _online_loss,
) -> Function:
    """A `make_step` with a target network and one of its parts exchanged for a wrong one."""

    def build(model: SimSiam) -> Callable[..., Tensor]:
        target = make(model)

        def step(model: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
            before(target, model)
            result = loss(model, target, x1, x2)
            after(target, model)
            return result

        return step

    return build


def _moving_average(target: SimSiam, model: SimSiam) -> None:
    with torch.no_grad():
        for old, new in zip(target.parameters(), model.parameters(), strict=True):
            old.lerp_(new, 0.01)


def _only_backbone(target: SimSiam, model: SimSiam) -> None:
    target.backbone.load_state_dict(model.backbone.state_dict())


def _copy_in_eval_mode(target: SimSiam, model: SimSiam) -> None:
    _renew(target, model)
    target.eval()


def _no_graph(model: SimSiam, target: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    with torch.no_grad():
        return _online_loss(model, target, x1, x2)


def _uncrossed(model: SimSiam, target: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    p1, p2 = (model.predictor(model.encode(x)) for x in (x1, x2))
    return symmetric_loss(p1, p2, target.encode(x2), target.encode(x1))


def _predicted_targets(model: SimSiam, target: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    p1, p2 = (model.predictor(model.encode(x)) for x in (x1, x2))
    return symmetric_loss(p1, p2, target.predictor(target.encode(x1)), target.predictor(target.encode(x2)))


def _p_is_z(model: SimSiam, target: SimSiam, x1: Tensor, x2: Tensor) -> Tensor:
    return symmetric_loss(model.encode(x1), model.encode(x2), target.encode(x1), target.encode(x2))


def _itself(model: SimSiam) -> SimSiam:
    return model


MAKE_STEP = Exercise(
    "11.2",
    "make_step",
    make_step,
    facts=[
        Fact("`make_step(model)` gives a function; for the model and two views it gives one number, a tensor of "
             "shape ().", _step_kind),
        Fact("At the first step the loss is that of p1, p2, z1 and z2 of this model.", _first_step),
        Fact("z comes from the encoder as it is now: after the weights have moved, twice, the losses of steps 2 and "
             "3 are still those of p and z of the same weights.", _after_moves),
        Fact("If the weights rest between two steps, the two have the same loss.", _at_rest),
        Fact("Both views count: the loss changes with the first one, and with the second one.", _step_views),
        Fact("Backbone, projector and predictor receive a gradient.", _step_gradients),
        Fact("The gradients are those of SimSiam: z is a target, and nothing flows through it.", _step_gradient_values),
        Fact("A step moves no weight, changes no mode, and leaves the gradients to the caller.", _step_leaves),
    ],
    suspects=[
        Suspect("This is what was found here. Whose weights does the optimiser move? And whose weights make z?",
                make_step_found),
        Suspect("This is a moving average of the weights: BYOL's target. SimSiam has none; its target is the encoder "
                "itself.", with_target(before=_moving_average)),
        Suspect("The copy is renewed after it was used, so that each step has the targets of the step before.",
                with_target(before=_nothing, after=_renew)),
        Suspect("Only the backbone of the copy is renewed: its projector is still the one of the start.",
                with_target(before=_only_backbone)),
        Suspect("The encoder makes its own targets now, but with a gradient: keep the `torch.no_grad()`, or detach z.",
                with_target(make=_itself, before=_nothing,
                            loss=lambda *args: _online_loss(*args, stop_gradient="none"))),
        Suspect("The copy was put into eval mode: its BN then takes running averages, and z is another one.",
                with_target(before=_copy_in_eval_mode)),
        Suspect("Everything stands under `torch.no_grad()` now: p must have a gradient, only z must not.",
                with_target(loss=_no_graph)),
        Suspect("z1 and z2 changed places: `symmetric_loss` crosses the views by itself.",
                with_target(loss=_uncrossed)),
        Suspect("The targets are predictions now: z is what the encoder gives, before the predictor.",
                with_target(loss=_predicted_targets)),
        Suspect("The predictor is gone from the loss: p is `model.predictor(...)` of the projection.",
                with_target(loss=_p_is_z)),
    ],
    hints=(
        "The optimiser has the weights of `model`, and of nobody else. What does `target` know of them?",
        "SimSiam has one encoder. `torch.no_grad()` is all the difference that there is between its two branches.",
        "`target = model`; or drop it and call `model.encode` for z1 and z2, too.",
    ),
    exhibit=make_step_found,
)  # fmt: skip


# ---- 11.3 a crop that is a no-op


def random_crop_found(images: Tensor, generator: torch.Generator) -> Tensor:
    """A square of half the side at a random place of each image, enlarged to the image's own size."""
    size, side = images.shape[-1], 32
    places = torch.randint(size - side + 1, (len(images), 2), generator=generator)
    crops = []
    for x, (top, left) in zip(images, places.tolist(), strict=True):
        crops.append(x[:, top : top + side, left : left + side])
    return F.interpolate(torch.stack(crops), size=(size, size), mode="bilinear")


def random_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """A square of half the side at a random place of each image, enlarged to the image's own size."""
    size, side = images.shape[-1], images.shape[-1] // 2
    places = torch.randint(size - side + 1, (len(images), 2), generator=generator)
    crops = []
    for x, (top, left) in zip(images, places.tolist(), strict=True):
        crops.append(x[:, top : top + side, left : left + side])
    return F.interpolate(torch.stack(crops), size=(size, size), mode="bilinear")


def graded(count: int, size: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images that say where one looks: channels are the row, the column and the number of the image."""
    rows = torch.arange(size, dtype=dtype)
    x = torch.empty(count, 3, size, size, dtype=dtype)
    x[:, 0], x[:, 1] = rows[:, None], rows[None]
    x[:, 2] = torch.arange(count, dtype=dtype)[:, None, None]
    return x


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _boxes(f: Function, count: int, size: int = 32, seed: int = 0) -> Tensor:
    """What a crop shows of graded images: (N, 4), first row and column, and how many of both."""
    out = f(graded(count, size), seeded(seed)).double()
    low, high = out[:, :2].amin(dim=(2, 3)), out[:, :2].amax(dim=(2, 3))
    return torch.cat([low, high - low + 1], dim=1).round().long()


def _box_sides(size: int, count: int = 64) -> Function:
    def look(f: Function) -> dict[str, Any]:
        sides = _boxes(f, count, size)[:, 2:]
        one = len(sides.unique(dim=0)) == 1
        return {"rows": sides[0, 0].item(), "columns": sides[0, 1].item(), "of every image": one}

    return look


def _even(f: Function) -> str:
    """Whether rows and columns of the crop are spread evenly over the output, in their order."""
    size = 32
    out, boxes = f(graded(32, size), seeded()).double(), _boxes(f, 32, size)
    wanted = (torch.arange(size) + 0.5) / size
    for axis in range(2):
        line = out[:, axis].mean(dim=2 - axis)  # (N, size)
        ramp = boxes[:, axis, None] - 0.5 + boxes[:, 2 + axis, None] * wanted
        if (line - ramp).abs().max() > 1:
            return "no"
    return "yes"


def _everywhere(f: Function) -> dict[str, Any]:
    """Of 3,000 crops of images of 8 rows and columns: which first rows and columns come, and how often."""
    first = _boxes(f, 3000, 8)[:, :2]
    shares = torch.stack([(first == i).double().mean(dim=0) for i in range(8)])  # (8, 2)
    even = bool((shares[:5] - 0.2).abs().max() < 0.05) and bool(shares[5:].sum() == 0)
    return {
        "first rows": first[:, 0].unique().tolist(),
        "first columns": first[:, 1].unique().tolist(),
        "all as often": even,
        "rows say nothing of columns": abs(torch.corrcoef(first.double().T)[0, 1].nan_to_num(1).item()) < 0.1,
    }


def _own_place(f: Function) -> str:
    places = len(_boxes(f, 64)[:, :2].unique(dim=0))
    return "many" if places > 30 else str(places)


def _own_image(f: Function) -> bool:
    out = f(graded(16), seeded())
    return bool((out[:, 2] - torch.arange(16.0)[:, None, None]).abs().max() < 1e-3)


def _by_generator(f: Function) -> dict[str, bool]:
    torch.manual_seed(1)
    generator = seeded(7)
    first, second = (f(graded(16), generator) for _ in range(2))
    torch.manual_seed(2)
    again = f(graded(16), seeded(7))
    return {
        "the same seed, the same crops": torch.equal(first, again),
        "the next call, other crops": not torch.equal(first, second),
    }


def cropping(
    *,
    side: Callable[[int], tuple[int, int]] = lambda size: (size // 2, size // 2),
    places: Callable[..., Tensor] | None = None,
    end: Callable[[Tensor, int], Tensor] = lambda x, size: F.interpolate(
        x, size=(size, size), mode="bilinear"
    ),
) -> Function:
    """A `random_crop` with one of its parts exchanged for a wrong one."""

    def wrong(images: Tensor, generator: torch.Generator) -> Tensor:
        size = images.shape[-1]
        high, wide = side(size)
        at = (places or _anywhere)(len(images), size - high + 1, size - wide + 1, generator)
        crops = [x[:, i : i + high, j : j + wide] for x, (i, j) in zip(images, at.tolist(), strict=True)]
        return end(torch.stack(crops), size)

    return wrong


def _anywhere(count: int, rows: int, columns: int, generator: Any) -> Tensor:
    draw = lambda high: torch.randint(high, (count,), generator=generator)  # noqa: E731
    return torch.stack([draw(rows), draw(columns)], dim=1)


def _never_last(count: int, rows: int, columns: int, generator: Any) -> Tensor:
    return _anywhere(count, rows - 1, columns - 1, generator)


def _one_for_all(count: int, rows: int, columns: int, generator: Any) -> Tensor:
    return _anywhere(1, rows, columns, generator).expand(count, 2)


def _diagonal(count: int, rows: int, columns: int, generator: Any) -> Tensor:
    return _anywhere(count, rows, columns, generator)[:, :1].expand(count, 2)


def _middle(count: int, rows: int, columns: int, generator: Any) -> Tensor:
    return torch.tensor([[rows // 2, columns // 2]]).expand(count, 2)


def _global(count: int, rows: int, columns: int, generator: Any) -> Tensor:
    return _anywhere(count, rows, columns, None)


def _framed(x: Tensor, size: int) -> Tensor:
    """Set in the middle of a black image."""
    before = (size - x.shape[-1]) // 2
    after = size - x.shape[-1] - before
    return F.pad(x, (before, after, before, after))


def _padded_crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """A border of 4 pixels, then a crop of the image's size: the usual crop of supervised CIFAR-10."""
    size = images.shape[-1]
    wide = F.pad(images, (4, 4, 4, 4), mode="reflect")
    at = _anywhere(len(images), 9, 9, generator).tolist()
    return torch.stack([x[:, i : i + size, j : j + size] for x, (i, j) in zip(wide, at, strict=True)])


def _shrink(images: Tensor, generator: torch.Generator) -> Tensor:
    size = images.shape[-1]
    return F.interpolate(F.interpolate(images, size=(size // 2, size // 2)), size=(size, size))


def _half_the_area(size: int) -> tuple[int, int]:
    return (round(size * 0.5**0.5),) * 2


RANDOM_CROP = Exercise(
    "11.3",
    "random_crop",
    random_crop,
    facts=[
        Fact("For 8 images of 32 x 32 pixels it gives a tensor of shape (8, 3, 32, 32).",
             lambda f: kind_and_shape(f(graded(8), seeded()))),
        Fact("What is seen of an image of 32 x 32 pixels is a square of 16 rows and 16 columns.", _box_sides(32)),
        Fact("Half the side, whatever the side is: 48 rows and columns of 96.", _box_sides(96, count=16)),
        Fact("It is enlarged evenly, in its order: what was in the middle of the crop is in the middle of the output.",
             _even),
        Fact("Each image has a place of its own.", _own_place),
        Fact("Every place comes, all as often: of 8 rows and columns the crop begins at any of the first five.",
             _everywhere),
        Fact("Crop i is a crop of image i.", _own_image),
        Fact("Places come from the generator: the same seed gives the same crops, the next call gives others.",
             _by_generator),
        Fact("It works for a batch of one, too.", lambda f: kind_and_shape(f(graded(1), seeded()))),
        Fact("The images stay as they were.", lambda f: unchanged(lambda x: f(x, seeded()), graded(4))),
        Fact("float64 in, float64 out.", lambda f: kind_and_shape(f(graded(4, dtype=torch.float64), seeded()))),
    ],
    suspects=[
        Suspect("This is what was found here. With images of 32 pixels, from how many places does `randint` choose?",
                random_crop_found),
        Suspect("A fixed number again: 16 is right for images of 32 pixels, and only for them.",
                cropping(side=lambda size: (16, 16))),
        Suspect("With `min(32, ...)` the old number is still in it: images of 96 pixels need a crop of 48.",
                cropping(side=lambda size: (min(32, size // 2),) * 2)),
        Suspect("The small crop came back: the last line is to enlarge it to the image's own size.",
                cropping(end=lambda x, size: x)),
        Suspect("The crop was set into a black frame: enlarge it, so that it fills the image.", cropping(end=_framed)),
        Suspect("A border was added and cut off again: that shifts an image by a few pixels, and shows no part of it "
                "enlarged.", _padded_crop),
        Suspect("That is half the area: half of the side is a quarter of the area.", cropping(side=_half_the_area)),
        Suspect("Only the rows are cut: a square has as many columns.",
                cropping(side=lambda size: (size // 2, size))),
        Suspect("It is a quarter of the side, a sixteenth of the area: take half of the side.",
                cropping(side=lambda size: (size // 4, size // 4))),
        Suspect("Nothing is cut off: the whole image was made smaller, and enlarged again.", _shrink),
        Suspect("All images are cut at the same place: draw a place for each of them.",
                cropping(places=_one_for_all)),
        Suspect("Every crop is from the middle: draw its place.", cropping(places=_middle)),
        Suspect("The last places never come: `randint(n)` gives 0 to n - 1, so there is a + 1 in its argument.",
                cropping(places=_never_last)),
        Suspect("First row and first column are the same number: draw two for each image.",
                cropping(places=_diagonal)),
        Suspect("The places do not come from `generator`: nobody could repeat a run.", cropping(places=_global)),
    ],
    hints=(
        "Put the numbers in: an image has 32 rows, and the crop has 32. How many places are there for it?",
        "The side of the crop has to follow the side of the image, `images.shape[-1]`.",
        "`size, side = images.shape[-1], images.shape[-1] // 2`",
    ),
    exhibit=random_crop_found,
)  # fmt: skip


# ---- 11.4 one batch norm in three layers


def make_projector_found(features: int, width: int) -> nn.Sequential:
    """A projector: three linear layers, each with a batch norm behind it, and a ReLU after the first two."""
    bn = nn.BatchNorm1d(width)
    first = [nn.Linear(features, width), bn, nn.ReLU()]
    second = [nn.Linear(width, width), bn, nn.ReLU()]
    third = [nn.Linear(width, width), bn]
    return nn.Sequential(*first, *second, *third)


def make_projector(features: int, width: int) -> nn.Sequential:
    """A projector: three linear layers, each with a batch norm behind it, and a ReLU after the first two."""
    bn = nn.BatchNorm1d(width)
    first = [nn.Linear(features, width), bn, nn.ReLU()]
    second = [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]
    third = [nn.Linear(width, width), nn.BatchNorm1d(width)]
    return nn.Sequential(*first, *second, *third)


def _batch(rows: int = 32, channels: int = 6) -> Tensor:
    return 2 * torch.randn(rows, channels) + 1


def _module(f: Function, features: int = 6, width: int = 8) -> nn.Module:
    """The projector. Errors: TypeError for what is no module."""
    made = f(features, width)
    if not isinstance(made, nn.Module):
        raise TypeError(f"it gave {kind_and_shape(made)}, expected a module")
    return made


def norms_of(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


def _train_and_eval(f: Function) -> str:
    """How far z in eval mode is from z in train mode, after BN has seen the same batch often enough."""
    module, x = _module(f), _batch()
    with torch.no_grad():
        for _ in range(200):
            z = module(x)
        apart = (module.eval()(x) - z).abs().mean().item()
    return "the same, nearly" if apart < 0.1 else f"{apart:.2f} apart"


def _z_by_channel(f: Function) -> dict[str, str]:
    z = _module(f)(_batch())
    ones = bool((z.std(dim=0, correction=0) - 1).abs().max() < 0.05)
    other = "0 over the channels of an image" if bool(z.mean(dim=1).abs().max() < 1e-3) else "another"
    return {
        "mean": "0" if bool(z.mean(dim=0).abs().max() < 1e-3) else other,
        "sd": "1" if ones else "another",
    }


def _alone_in_eval(f: Function) -> bool:
    """Whether an image's z in eval mode is the same alone and in company."""
    module, x = _module(f), _batch()
    module(x)
    module.eval()
    return torch.allclose(module(x)[:4], module(x[:4]), atol=1e-4)


def _counted_norms(f: Function) -> dict[str, Any]:
    norms = {id(part): part for part in norms_of(_module(f))}.values()
    tensors = [id(t) for part in norms for t in (*part.parameters(), *part.buffers())]
    return {"batch norms": len(norms), "each with its own numbers": len(set(tensors)) == len(tensors)}


def _shapes(f: Function) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in _module(f).parameters() if weight.ndim == 2]


def _before_norms(f: Function) -> list[str]:
    """What goes into each batch norm: of both signs, or none below 0, as behind a ReLU."""
    module, seen = _module(f), []
    for part in norms_of(module):
        part.register_forward_pre_hook(lambda _, given: seen.append(bool((given[0] < 0).any())))
    module(_batch())
    return ["both signs" if signs else "none below 0" for signs in seen]


def _bends(f: Function) -> dict[str, bool]:
    """Whether there is a ReLU: z of the mean of two inputs is not the mean of their z; and none at the end."""
    module = _module(f).eval()
    x = _batch()
    bent = module((x[:16] + x[16:]) / 2) - (module(x[:16]) + module(x[16:])) / 2
    return {"a ReLU within": bool(bent.abs().max() > 1e-5), "z has both signs": bool((module(x) < 0).any())}


def _relus(f: Function) -> str:
    """Whether the weights between first and last layer can be undone: they stand between two ReLUs."""
    module, seen = _module(f), []
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.register_forward_pre_hook(lambda _, given: seen.append(bool((given[0] < 0).any())))
    module(_batch())
    return str(["both signs" if signs else "none below 0" for signs in seen])


def _learns(f: Function) -> bool:
    module = _module(f)
    found = torch.autograd.grad(module(_batch()).square().mul(torch.randn(8)).sum(), list(module.parameters()),
                                allow_unused=True)  # fmt: skip
    return all(g is not None for g in found)


def _two_are_apart(f: Function) -> bool:
    a, b = ({id(t) for t in (*m.parameters(), *m.buffers())} for m in (_module(f), _module(f)))
    return not a & b


def _kind_of_z(f: Function) -> Any:
    return kind_and_shape(_module(f)(_batch()))


def projecting(
    *norms: Callable[[int], nn.Module], relu: Callable[[], nn.Module] = nn.ReLU, end: Sequence[nn.Module] = ()
) -> Function:
    """A projector with these three norms."""

    def build(features: int, width: int) -> nn.Sequential:
        parts: list[nn.Module] = []
        for i, norm in enumerate(norms):
            parts += [nn.Linear(width if i else features, width), norm(width), *([relu()] if i < 2 else end)]
        return nn.Sequential(*parts)

    return build


def _shared_within(features: int, width: int) -> nn.Sequential:
    bn = nn.BatchNorm1d(width)
    return projecting(lambda _: bn, lambda _: bn, nn.BatchNorm1d)(features, width)


def _shared_at_the_end(features: int, width: int) -> nn.Sequential:
    bn = nn.BatchNorm1d(width)
    return projecting(nn.BatchNorm1d, lambda _: bn, lambda _: bn)(features, width)


def _shared_first_and_last(features: int, width: int) -> nn.Sequential:
    bn = nn.BatchNorm1d(width)
    return projecting(lambda _: bn, nn.BatchNorm1d, lambda _: bn)(features, width)


def _without_averages(features: int, width: int) -> nn.Sequential:
    bn = nn.BatchNorm1d(width, track_running_stats=False)
    return projecting(lambda _: bn, lambda _: bn, lambda _: bn)(features, width)


def _three_without_averages(features: int, width: int) -> nn.Sequential:
    norm = lambda d: nn.BatchNorm1d(d, track_running_stats=False)  # noqa: E731
    return projecting(norm, norm, norm)(features, width)


def _none(width: int) -> nn.Module:
    return nn.Identity()


def _relu_first(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, width), nn.ReLU(), nn.BatchNorm1d(width),
        nn.Linear(width, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Linear(width, width), nn.BatchNorm1d(width),
    )  # fmt: skip


_KEPT: dict[tuple[int, int], nn.Sequential] = {}


def _kept(features: int, width: int) -> nn.Sequential:
    return _KEPT.setdefault((features, width), make_projector(features, width))


BN = nn.BatchNorm1d
MAKE_PROJECTOR = Exercise(
    "11.4",
    "make_projector",
    make_projector,
    facts=[
        Fact("It gives a module: 32 rows of 6 features in, a tensor of shape (32, 8) out.", _kind_of_z),
        Fact("The running averages fit: when BN has seen a batch often enough, z of this batch is nearly the same in "
             "train mode and in eval mode.", _train_and_eval),
        Fact("There are three batch norms, three objects that share no number.", _counted_norms),
        Fact("In train mode every channel of z has mean 0 and standard deviation 1.", _z_by_channel),
        Fact("In eval mode an image's z does not depend on the other images of the batch.", _alone_in_eval),
        Fact("There are three linear layers.", _shapes),
        Fact("There is a ReLU between the layers, and none behind the last.", _bends),
        Fact("Batch norm comes before the ReLU: what it is given has both signs.", _before_norms),
        Fact("The second and the third layer are given what a ReLU lets through.", _relus),
        Fact("All weights receive a gradient.", _learns),
        Fact("Two projectors share nothing.", _two_are_apart),
    ],
    suspects=[
        Suspect("This is what was found here. How many objects does the name `bn` stand for, and how many running "
                "means are there?", make_projector_found),
        Suspect("The last layer has its own now; the first two still share one.", _shared_within),
        Suspect("The first layer has its own now; the last two still share one.", _shared_at_the_end),
        Suspect("The second layer has its own now; the first and the last still share one.", _shared_first_and_last),
        Suspect("The averages were taken out of the one BN: now it needs a batch in eval mode, too, and scale and "
                "shift are still shared.", _without_averages),
        Suspect("There are three now, but without running averages: in eval mode an image's z depends on its "
                "neighbours.", _three_without_averages),
        Suspect("The batch norms are gone: share none, but have three.", projecting(_none, _none, _none)),
        Suspect("The last layer has lost its batch norm.", projecting(BN, BN, _none)),
        Suspect("That is layer norm: it looks at the channels of one image, and batch norm at one channel of all "
                "images.", projecting(nn.LayerNorm, nn.LayerNorm, nn.LayerNorm)),
        Suspect("There is a ReLU at the end: z would have no negative channel.",
                projecting(BN, BN, BN, end=[nn.ReLU()])),
        Suspect("The ReLUs are gone: three linear layers in a row are one.", projecting(BN, BN, BN, relu=nn.Identity)),
        Suspect("Batch norm and ReLU changed places.", _relu_first),
        Suspect("It was made once and kept: two networks would share one projector.", _kept),
    ],
    hints=(
        "In train mode a BN takes the statistics of the batch, and all is well. What has it to go by in eval mode?",
        "`nn.BatchNorm1d(width)` is an object with a running mean and a running variance: each layer needs its own.",
        "`second = [nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU()]`, and the third likewise.",
    ),
    exhibit=make_projector_found,
)  # fmt: skip

EXERCISES = (TWO_VIEW_LOSS, MAKE_STEP, RANDOM_CROP, MAKE_PROJECTOR)
