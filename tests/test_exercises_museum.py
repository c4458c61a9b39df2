"""Lesson 11: every card is red before and green after, every repair is short, and checks see what a function does."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from copy import copy, deepcopy
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F
from answers import both_tests
from torch import nn

from simsiam_course.augment import crop, crop_box
from simsiam_course.collapse import std
from simsiam_course.evaluate import embed
from simsiam_course.exercises import WrongAnswer, checks_for, museum
from simsiam_course.exercises.core import as_found, judge
from simsiam_course.exercises.solution import source
from simsiam_course.heads import projector
from simsiam_course.loss import negative_cosine, symmetric_loss
from simsiam_course.notebooks import solve, stubs
from simsiam_course.train import train_step

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "11_bug_museum.ipynb"
ROOMS = museum.EXERCISES


def name(exercise) -> str:
    return exercise.name


def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def cells():
    """The exhibits as the notebook has them: name -> code."""
    known = {exercise.name: exercise for exercise in ROOMS}
    code = [cell.source for cell in notebook().cells if cell.cell_type == "code"]
    return {stub.name: text for text in code for stub in stubs(text, known)}


def in_a_notebook(code, function, monkeypatch, *, number=[0]):  # noqa: B006
    """What a cell with this code defines, its source known to Python as it is in a notebook."""
    import linecache

    number[0] += 1
    file = f"<cell {number[0]}>"
    monkeypatch.setitem(linecache.cache, file, (len(code), None, code.splitlines(keepends=True), file))
    space = {
        "F": F,
        "torch": torch,
        "nn": nn,
        "deepcopy": deepcopy,
        "math": math,
        "symmetric_loss": symmetric_loss,
    }
    exec(compile(code, file, "exec"), space)
    return space[function]


# ---- red before, green after, in three lines


@pytest.mark.parametrize("exercise", ROOMS, ids=name)
def test_the_card_is_red_before_and_green_after(exercise, monkeypatch, capsys):
    check = checks_for("11")
    for strict in ("", "strict"):
        monkeypatch.setenv("SIMSIAM_CHECKS", strict)
        found = in_a_notebook(cells()[exercise.name], exercise.name, monkeypatch)
        assert getattr(check, exercise.name)(found) is exercise.reference
        assert check.results[exercise.number].status == "failed"
        said = capsys.readouterr().out
        assert (
            f"✘ {exercise.number} `{exercise.name}`: not yet." in said
            and "This is what was found here." in said
        )
    right = in_a_notebook(source(exercise.reference), exercise.name, monkeypatch)
    assert getattr(check, exercise.name)(right) is right
    assert check.results[exercise.number].status == "passed" and "passed" in capsys.readouterr().out


@pytest.mark.parametrize("exercise", ROOMS, ids=name)
def test_a_changed_function_that_is_wrong_still_raises_in_strict_mode(exercise, monkeypatch):
    monkeypatch.setenv("SIMSIAM_CHECKS", "strict")
    code = cells()[exercise.name]
    body = code.index('"""\n', code.index('"""') + 3) + 4
    changed = f"{code[:body]}    something = 0  # was tried\n{code[body:]}"
    with pytest.raises(
        WrongAnswer, match=rf"{exercise.number} {exercise.name}: .*This is what was found here\."
    ):
        getattr(checks_for("11"), exercise.name)(in_a_notebook(changed, exercise.name, monkeypatch))


@pytest.mark.parametrize("exercise", ROOMS, ids=name)
def test_about_ten_lines_are_repaired_in_at_most_three(exercise):
    found, right = (source(f, exercise.name).splitlines() for f in (exercise.exhibit, exercise.reference))
    found = [line for line in found if not re.match(r"(from|import) ", line)]
    right = [line for line in right if not re.match(r"(from|import) ", line)]
    changed = [line for line in difflib.ndiff(found, right) if line[0] in "+-"]
    assert 1 <= max(sum(line[0] == sign for line in changed) for sign in "+-") <= 3, changed
    assert 6 <= len(cells()[exercise.name].splitlines()) - 2 <= 12  # without signature and docstring


def test_the_notebook_shows_the_exhibits_and_nothing_else_is_one():
    assert list(cells()) == [exercise.name for exercise in ROOMS] == list(vars(museum.FOUND))
    for exercise in ROOMS:
        assert as_found(exercise, exercise.exhibit) and not as_found(exercise, exercise.reference)
        assert not as_found(exercise, len) and not as_found(exercise, None) and not as_found(exercise, 3)


def test_solved_no_exhibit_is_left():
    solved = notebook()
    assert solve(solved, "11") == [exercise.name for exercise in ROOMS]
    known = {exercise.name: exercise for exercise in ROOMS}
    code = "\n".join(cell.source for cell in solved.cells if cell.cell_type == "code")
    assert [
        stub for cell in solved.cells for stub in stubs(cell.source, known)
    ] == [] and "requres" not in code


@pytest.mark.parametrize("exercise", ROOMS, ids=name)
def test_each_diagnosis_names_its_public_case(exercise):
    public = {
        "11.1": "isaaccorley/simsiam-pytorch", "11.2": "Lightning-Universe/lightning-bolts",
        "11.3": "keras-team/keras-io", "11.4": "shilu10/SimSiam-tensorflow2", "11.5": "leftthomas/SimSiam",
        "11.6": "isaaccorley/simsiam-pytorch", "11.7": "lightly-ai/lightly",
        "11.8": "f2010126/SimSiam-91.9-top1-acc-on-CIFAR10",
    }  # fmt: skip
    texts = [cell.source for cell in notebook().cells if cell.cell_type == "markdown"]
    at = next(i for i, text in enumerate(texts) if f"Exercise {exercise.number}:" in text)
    diagnosis = texts[at + 1].partition("<summary>Diagnosis")[2]
    case = re.escape(public[exercise.number])
    assert re.search(
        rf"\*\*Where it was found\.\*\* In {case}.*https://github\.com/{case}/blob/", diagnosis, re.DOTALL
    )


# ---- 11.1


def crossed(p1, p2, z1, z2):
    return -(F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()) / 2


def swapped_at_the_top(p1, p2, z1, z2):
    z1, z2 = z2, z1
    p1, p2 = F.normalize(p1, dim=1), F.normalize(p2, dim=1)
    z1, z2 = F.normalize(z1.detach(), dim=1), F.normalize(z2.detach(), dim=1)
    return (-(p1 * z1).sum(dim=1).mean() - (p2 * z2).sum(dim=1).mean()) / 2


def in_one_go(p1, p2, z1, z2):
    p, z = torch.cat([p1, p2]), torch.cat([z2, z1]).detach()
    return -torch.einsum("bd,bd->b", p / p.norm(dim=1, keepdim=True), z / z.norm(dim=1, keepdim=True)).mean()


def by_distance(p1, p2, z1, z2):
    far = lambda p, z: (F.normalize(p, dim=1) - F.normalize(z.detach(), dim=1)).square().sum(dim=1)  # noqa: E731
    return (far(p1, z2) + far(p2, z1)).mean() / 4 - 1


def under_no_grad(p1, p2, z1, z2):
    with torch.no_grad():
        z1, z2 = F.normalize(z1), F.normalize(z2)
    return -0.5 * (F.normalize(p1) * z2).sum(1).mean() - 0.5 * (F.normalize(p2) * z1).sum(1).mean()


def image_by_image(p1, p2, z1, z2):
    pairs = [(p1[i], z2[i]) for i in range(len(p1))] + [(p2[i], z1[i]) for i in range(len(p2))]
    return -torch.stack([F.cosine_similarity(p, z.detach(), dim=0) for p, z in pairs]).mean()


def only_first_detached(p1, p2, z1, z2):
    return negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1, stop_gradient=False) / 2


def over_the_batch(p1, p2, z1, z2):
    return -(F.normalize(p1, dim=0) * F.normalize(z2.detach(), dim=0)).sum(1).mean()


def in_float32(p1, p2, z1, z2):
    return symmetric_loss(*(t.float() for t in (p1, p2, z1, z2)))


def plus_one(p1, p2, z1, z2):
    return 1 + symmetric_loss(p1, p2, z1, z2)


LOSS = (
    museum.training.TWO_VIEW_LOSS,
    [crossed, swapped_at_the_top, in_one_go, by_distance, under_no_grad, image_by_image, symmetric_loss],
    [only_first_detached, over_the_batch, in_float32, plus_one],
)


# ---- 11.2


def encode_again(model):
    def step(model, x1, x2):
        p1, p2 = model.predictor(model.encode(x1)), model.predictor(model.encode(x2))
        with torch.no_grad():
            z1, z2 = model.encode(x1), model.encode(x2)
        return symmetric_loss(p1, p2, z1, z2)

    return step


def encode_once(model):
    def step(model, x1, x2):
        z1, z2 = model.encode(x1), model.encode(x2)
        return symmetric_loss(model.predictor(z1), model.predictor(z2), z1.detach(), z2.detach())

    return step


def copy_in_the_step(model):
    def step(model, x1, x2):
        target = deepcopy(model)
        p1, p2 = model.predictor(model.encode(x1)), model.predictor(model.encode(x2))
        with torch.no_grad():
            z1, z2 = target.encode(x1), target.encode(x2)
        return symmetric_loss(p1, p2, z1, z2)

    return step


def load_before(model):
    target = deepcopy(model)

    def step(model, x1, x2):
        target.load_state_dict(model.state_dict())
        p1, p2 = model.predictor(model.encode(x1)), model.predictor(model.encode(x2))
        with torch.no_grad():
            z1, z2 = target.encode(x1), target.encode(x2)
        return symmetric_loss(p1, p2, z1, z2)

    return step


def copy_weight_by_weight(model):
    target = deepcopy(model)

    def step(model, x1, x2):
        with torch.no_grad():
            for old, new in zip(target.parameters(), model.parameters(), strict=True):
                old.copy_(new)
            z1, z2 = target.encode(x1), target.encode(x2)
        p1, p2 = model.predictor(model.encode(x1)), model.predictor(model.encode(x2))
        return symmetric_loss(p1, p2, z1, z2)

    return step


def shallow_copy(model):
    target = copy(model)

    def step(model, x1, x2):
        p1, p2 = model.predictor(model.encode(x1)), model.predictor(model.encode(x2))
        with torch.no_grad():
            z1, z2 = target.encode(x1), target.encode(x2)
        return symmetric_loss(p1, p2, z1, z2)

    return step


def the_courses_own(model):
    return train_step


class StepClass:
    def __init__(self, model):
        self.model = model

    def __call__(self, model, x1, x2):
        return symmetric_loss(*self.model(x1, x2))


def renewed_every_second(model):
    target, count = deepcopy(model), [0]

    def step(model, x1, x2):
        if count[0] % 2 == 0:
            target.load_state_dict(model.state_dict())
        count[0] += 1
        p1, p2 = model.predictor(model.encode(x1)), model.predictor(model.encode(x2))
        with torch.no_grad():
            z1, z2 = target.encode(x1), target.encode(x2)
        return symmetric_loss(p1, p2, z1, z2)

    return step


def a_loss_at_once(model):
    return torch.zeros(())


def frozen_for_good(model):
    target = model.requires_grad_(False)

    def step(model, x1, x2):
        return symmetric_loss(*target(x1, x2))

    return step


def takes_the_gradient(model):
    def step(model, x1, x2):
        loss = train_step(model, x1, x2)
        loss.backward(retain_graph=True)
        return loss

    return step


def one_direction(model):
    def step(model, x1, x2):
        p1, _, _, z2 = model(x1, x2)
        return negative_cosine(p1, z2)

    return step


STEP = (
    museum.training.MAKE_STEP,
    [encode_again, encode_once, copy_in_the_step, load_before, copy_weight_by_weight, shallow_copy, the_courses_own,
     StepClass],
    [renewed_every_second, a_loss_at_once, frozen_for_good, takes_the_gradient, one_direction],
)  # fmt: skip


# ---- 11.3


def nearest_neighbour(images, generator):
    size = images.shape[-1]
    side = size // 2
    places = torch.randint(0, size - side + 1, (len(images), 2), generator=generator)
    crops = torch.stack([x[:, i : i + side, j : j + side] for x, (i, j) in zip(images, places, strict=True)])
    return F.interpolate(crops, size=size)


def bicubic(images, generator):
    side = images.shape[2] // 2
    rows = torch.randint(images.shape[2] - side + 1, (len(images),), generator=generator)
    columns = torch.randint(images.shape[3] - side + 1, (len(images),), generator=generator)
    crops = [
        images[n : n + 1, :, rows[n] : rows[n] + side, columns[n] : columns[n] + side]
        for n in range(len(images))
    ]
    return F.interpolate(torch.cat(crops), scale_factor=2, mode="bicubic")


def image_by_image_crop(images, generator):
    out = torch.empty_like(images)
    size = images.shape[-1]
    for n, x in enumerate(images):
        top, left = torch.randint(size // 2 + 1, (2,), generator=generator).tolist()
        cut = x[None, :, top : top + size // 2, left : left + size // 2]
        out[n] = F.interpolate(cut, size=(size, size), mode="bilinear", align_corners=True)[0]
    return out


def by_indices(images, generator):
    n, _, size, _ = images.shape
    side = size // 2
    at = torch.randint(size - side + 1, (2, n, 1), generator=generator) + torch.arange(side)  # (2, n, side)
    rows, columns = at[0][:, None, :, None], at[1][:, None, None, :]
    crops = images[torch.arange(n)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, columns]
    return crops.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def random_permutation(images, generator):
    size, side = images.shape[-1], images.shape[-1] // 2
    draw = lambda: int(torch.randperm(size - side + 1, generator=generator)[0])  # noqa: E731
    crops = [x[:, i : i + side, j : j + side] for x, i, j in ((x, draw(), draw()) for x in images)]
    return F.interpolate(torch.stack(crops), size=(size, size), mode="bilinear")


def with_the_courses_crop(images, generator):
    n, size = len(images), images.shape[-1]
    side = size // 2
    where = torch.randint(size - side + 1, (n, 2), generator=generator) / (size - side)
    box = crop_box(torch.full((n,), 0.25), torch.ones(n), where)
    return crop(images.float(), box).to(images.dtype)


def turned(images, generator):
    return museum.training.random_crop(images, generator).flip(2)


def transposed(images, generator):
    return museum.training.random_crop(images, generator).transpose(2, 3)


def shuffled(images, generator):
    return museum.training.random_crop(images, generator)[torch.randperm(len(images), generator=generator)]


def in_place(images, generator):
    images.copy_(museum.training.random_crop(images, generator))
    return images


def one_seed(images, generator):
    return museum.training.random_crop(images, torch.Generator().manual_seed(0))


def any_size(images, generator):
    """Half of the side at least: another crop each time, but not the one that was asked for."""
    side = int(torch.randint(images.shape[-1] // 2, images.shape[-1], (), generator=generator))
    return museum.training.cropping(side=lambda size: (side, side))(images, generator)


def never_above_32(images, generator):
    size, side = images.shape[-1], min(32, images.shape[-1] // 2)
    at = torch.randint(size - side + 1, (len(images), 2), generator=generator).tolist()
    crops = [x[:, i : i + side, j : j + side] for x, (i, j) in zip(images, at, strict=True)]
    return F.interpolate(torch.stack(crops), size=(size, size), mode="bilinear")


CROP = (
    museum.training.RANDOM_CROP,
    [nearest_neighbour, bicubic, image_by_image_crop, by_indices, random_permutation, with_the_courses_crop],
    [
        turned,
        transposed,
        shuffled,
        in_place,
        one_seed,
        any_size,
        never_above_32,
        lambda images, generator: images,
    ],
)


# ---- 11.4


def deep_copies(features, width):
    bn = nn.BatchNorm1d(width)
    first = [nn.Linear(features, width), bn, nn.ReLU()]
    second = [nn.Linear(width, width), deepcopy(bn), nn.ReLU()]
    third = [nn.Linear(width, width), deepcopy(bn)]
    return nn.Sequential(*first, *second, *third)


def as_in_lesson_02(features, width):
    return projector(features, width, width)


def a_list_of_norms(features, width):
    bn = [nn.BatchNorm1d(width) for _ in range(3)]
    parts = []
    for i, norm in enumerate(bn):
        parts += [nn.Linear(width if i else features, width, bias=False), norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*parts[:-1])


def a_name_that_builds(features, width):
    bn = lambda: nn.BatchNorm1d(width)  # noqa: E731
    return nn.Sequential(nn.Linear(features, width), bn(), nn.ReLU(), nn.Linear(width, width), bn(), nn.ReLU(),
                         nn.Linear(width, width), bn())  # fmt: skip


def in_blocks(features, width):
    block = lambda d: nn.Sequential(nn.Linear(d, width), nn.BatchNorm1d(width), nn.ReLU())  # noqa: E731
    last = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width, affine=False))
    return nn.Sequential(block(features), block(width), last)


class ProjectorModule(nn.Module):
    def __init__(self, features, width):
        super().__init__()
        self.one, self.two, self.three = (nn.Linear(d, width) for d in (features, width, width))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(3))

    def forward(self, x):
        x = F.relu(self.norms[0](self.one(x)))
        x = torch.relu(self.norms[1](self.two(x)))
        return self.norms[2](self.three(x))


def other_momentum(features, width):
    made = museum.training.make_projector(features, width)
    for norm in museum.training.norms_of(made):
        norm.momentum = 0.05
    return made


def one_object_in_a_list(features, width):
    bn = [nn.BatchNorm1d(width)] * 3
    return nn.Sequential(nn.Linear(features, width), bn[0], nn.ReLU(), nn.Linear(width, width), bn[1], nn.ReLU(),
                         nn.Linear(width, width), bn[2])  # fmt: skip


def shared_averages(features, width):
    made = museum.training.make_projector(features, width)
    first, *others = museum.training.norms_of(made)
    for norm in others:
        norm.running_mean, norm.running_var = first.running_mean, first.running_var
    return made


def shared_scale_and_shift(features, width):
    made = museum.training.make_projector(features, width)
    first, *others = museum.training.norms_of(made)
    for norm in others:
        norm.weight, norm.bias = first.weight, first.bias
    return made


def two_layers(features, width):
    return projector(features, width, width, layers=2)


def leaky(features, width):
    return museum.training.projecting(nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm1d, relu=nn.LeakyReLU)(
        features, width
    )


def only_one_relu(features, width):
    return nn.Sequential(nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width),
                         nn.BatchNorm1d(width), nn.Linear(width, width), nn.BatchNorm1d(width))  # fmt: skip


def norm_of_the_input(features, width):
    parts = []
    for d in (features, width, width):
        parts += [nn.BatchNorm1d(d), nn.Linear(d, width), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


PROJECTOR = (
    museum.training.MAKE_PROJECTOR,
    [
        deep_copies,
        as_in_lesson_02,
        a_list_of_norms,
        a_name_that_builds,
        in_blocks,
        ProjectorModule,
        other_momentum,
    ],
    [
        one_object_in_a_list,
        shared_averages,
        shared_scale_and_shift,
        two_layers,
        leaky,
        only_one_relu,
        norm_of_the_input,
    ],
)


# ---- 11.5


def eval_below(backbone, line, optimizer, batches):
    net = nn.Sequential(backbone, line).train()
    backbone.eval()
    total = 0.0
    for x, y in batches:
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)


def all_in_eval(backbone, line, optimizer, batches):
    net = nn.Sequential(backbone, line).eval()
    losses = []
    for x, y in batches:
        optimizer.zero_grad(set_to_none=False)
        losses.append(F.cross_entropy(net(x), y))
        losses[-1].backward()
        optimizer.step()
    return torch.stack(losses).mean().item()


def features_without_gradient(backbone, line, optimizer, batches):
    backbone.eval()
    total = 0.0
    for x, y in batches:
        with torch.no_grad():
            features = backbone(x)
        loss = nn.CrossEntropyLoss()(line(features), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += float(loss)
    return total / len(batches)


def mode_put_back(backbone, line, optimizer, batches):
    modes = [module.training for module in backbone.modules()]
    found = features_without_gradient(backbone, line, optimizer, batches)
    for module, training in zip(backbone.modules(), modes, strict=True):
        module.training = training
    return found


def features_made_first(backbone, line, optimizer, batches):
    with torch.no_grad():
        known = [(backbone.eval()(x), y) for x, y in batches]
    return eval_below(nn.Identity(), line, optimizer, known)


def train_of_the_line_alone(backbone, line, optimizer, batches):
    net = nn.Sequential(backbone.train(False), line.train(True))
    return museum.evaluation.probe_pass(net[0], net[1], optimizer, batches)


def thawed(backbone, line, optimizer, batches):
    found = eval_below(backbone, line, optimizer, batches)
    backbone.requires_grad_(True)
    return found


def one_step_for_all(backbone, line, optimizer, batches):
    net = nn.Sequential(backbone.eval(), line)
    loss = torch.stack([F.cross_entropy(net(x), y) for x, y in batches]).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def gives_a_tensor_of_losses(backbone, line, optimizer, batches):
    museum.evaluation.probe_pass(backbone, line, optimizer, batches)
    return torch.zeros(len(batches))


def weighted_by_size(backbone, line, optimizer, batches):
    net, total = nn.Sequential(backbone.eval(), line), 0.0
    for x, y in batches:
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
    return total / sum(len(x) for x, _ in batches)


def eval_undone(backbone, line, optimizer, batches):
    backbone.eval()
    return museum.FOUND.probe_pass(backbone, line, optimizer, batches)


def batches_used_up(backbone, line, optimizer, batches):
    kept = [batches.pop(0) for _ in list(batches)]
    return eval_below(backbone, line, optimizer, kept)


def switched_off(backbone, line, optimizer, batches):
    found = eval_below(backbone, line, optimizer, batches)
    torch.set_grad_enabled(False)
    return found


PROBE = (
    museum.evaluation.PROBE_PASS,
    [
        eval_below,
        all_in_eval,
        features_without_gradient,
        mode_put_back,
        features_made_first,
        train_of_the_line_alone,
    ],
    [
        switched_off,
        thawed,
        one_step_for_all,
        gives_a_tensor_of_losses,
        weighted_by_size,
        eval_undone,
        batches_used_up,
    ],
)


# ---- 11.6


def by_the_method(backbone, features, classes, lr=0.003):
    backbone.eval().requires_grad_(False)
    net = nn.Sequential(backbone, nn.Linear(features, classes))
    return net, torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=lr)


def the_lines_parameters(backbone, features, classes, lr=0.003):
    backbone.requires_grad_(False).eval()
    line = nn.Linear(features, classes)
    return nn.Sequential(backbone, line), torch.optim.Adam(line.parameters(), lr=lr)


def misspelt_and_then_right(backbone, features, classes, lr=0.003):
    backbone.eval()
    for parameter in backbone.parameters():
        parameter.requres_grad = False
        parameter.requires_grad_(False)
    net = nn.Sequential(backbone, nn.Linear(features, classes))
    learning = filter(lambda parameter: parameter.requires_grad, net.parameters())
    return net, torch.optim.Adam(learning, lr=lr)


def by_name(backbone, features, classes, lr=0.003):
    for _, parameter in backbone.eval().named_parameters():
        parameter.requires_grad = False
    net = nn.Sequential(backbone, nn.Flatten(), nn.Linear(features, classes))
    return net, torch.optim.Adam([{"params": net[-1].parameters(), "lr": lr}])


class Classifier(nn.Module):
    def __init__(self, backbone, features, classes):
        super().__init__()
        self.backbone, self.line = backbone.requires_grad_(False).eval(), nn.Linear(features, classes)

    def forward(self, x):
        with torch.no_grad():
            features = self.backbone(x)
        return self.line(features)


def by_a_module(backbone, features, classes, lr=0.003):
    net = Classifier(backbone, features, classes)
    return [net, torch.optim.Adam(net.line.parameters(), lr=lr)]


def sgd_instead(backbone, features, classes, lr=0.003):
    net = by_the_method(backbone, features, classes)[0]
    return net, torch.optim.SGD(net[1].parameters(), lr=lr, momentum=0.9)


def net_alone(backbone, features, classes, lr=0.003):
    return by_the_method(backbone, features, classes, lr)[0]


def a_hidden_layer(backbone, features, classes, lr=0.003):
    backbone.eval().requires_grad_(False)
    line = nn.Sequential(
        nn.Linear(features, 1), nn.ReLU(), nn.Linear(1, classes), nn.Linear(classes, classes, False)
    )
    return nn.Sequential(backbone, line), torch.optim.Adam(line.parameters(), lr=lr)


def without_bias(backbone, features, classes, lr=0.003):
    backbone.eval().requires_grad_(False)
    line = nn.Linear(features, classes, bias=False)
    return nn.Sequential(backbone, line), torch.optim.Adam(line.parameters(), lr=lr)


def a_nonlinear_end(backbone, features, classes, lr=0.003):
    backbone.eval().requires_grad_(False)
    net = nn.Sequential(backbone, nn.Linear(features, classes), nn.Softmax(dim=1))
    return net, torch.optim.Adam(net[1].parameters(), lr=lr)


def only_compared(backbone, features, classes, lr=0.003):
    for parameter in backbone.eval().parameters():
        parameter.requires_grad == False  # noqa: B015, E712
    return museum.evaluation.classifying(freeze=lambda backbone: None)(backbone, features, classes, lr)


CLASSIFIER = (
    museum.evaluation.FROZEN_CLASSIFIER,
    [by_the_method, the_lines_parameters, misspelt_and_then_right, by_name, by_a_module, sgd_instead],
    [net_alone, a_hidden_layer, without_bias, a_nonlinear_end, only_compared],
)


# ---- 11.7


def by_std_of_the_course(model, x):
    with torch.no_grad():
        return max(0.0, 1 - std(model.encode(x)))


def by_var(model, x):
    z = model.encode(x).detach()
    z = z / z.norm(dim=1, keepdim=True)
    return (1 - z.var(dim=0, unbiased=False).sqrt().mean() * z.shape[1] ** 0.5).clamp(min=0).item()


def p_still_computed(model, x):
    z = model.encode(x)
    p = model.predictor(z)  # noqa: F841
    output = F.normalize(z.detach(), dim=1)
    return max(0.0, 1 - output.std(dim=0, correction=0).mean().item() * math.sqrt(output.shape[1]))


def by_hand(model, x):
    z = F.normalize(model.projector(model.features(x)).detach(), dim=1)
    away = (z - z.mean(dim=0)).square().mean(dim=0).sqrt()
    return max(1 - float(away.mean()) * len(away) ** 0.5, 0)


def from_forward(model, x):
    _, _, z, _ = model(x, x)
    return max(0.0, 1 - std(z))


def as_a_tensor(model, x):
    z = F.normalize(model.encode(x).detach(), dim=1)
    return torch.relu(1 - z.std(dim=0, correction=0).mean() * z.shape[1] ** 0.5)


def smaller_of_both(model, x):
    z = model.encode(x)
    return max(0.0, 1 - max(std(z), std(model.predictor(z))))


def larger_of_both(model, x):
    z = model.encode(x)
    return max(0.0, 1 - min(std(z), std(model.predictor(z))))


def a_list(model, x):
    return [max(0.0, 1 - std(model.encode(x)))]


def squared(model, x):
    return max(0.0, 1 - std(model.encode(x)) ** 2)


def with_median(model, x):
    z = F.normalize(model.encode(x).detach(), dim=1)
    return max(0.0, 1 - z.std(dim=0, correction=0).median().item() * z.shape[1] ** 0.5)


def frozen_afterwards(model, x):
    return max(0.0, 1 - std(model.requires_grad_(False).encode(x)))


def eval_for_a_moment(model, x):
    level = max(0.0, 1 - std(model.eval().encode(x)))
    model.train()
    return level


LEVEL = (
    museum.evaluation.COLLAPSE_LEVEL,
    [by_std_of_the_course, by_var, p_still_computed, by_hand, from_forward, as_a_tensor],
    [smaller_of_both, larger_of_both, a_list, squared, with_median, frozen_afterwards, eval_for_a_moment],
)


# ---- 11.8


def by_split(model, images, batch_size=256):
    with torch.no_grad():
        return torch.cat([model.features(x).cpu() for x in images.split(batch_size)])


def by_range(model, images, batch_size=256):
    bank = torch.zeros(len(images), model.dims.backbone)
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            bank[start : start + batch_size] = model.features(images[start : start + batch_size]).cpu()
    return bank


def rounded_up_by_hand(model, images, batch_size=256):
    bank = torch.zeros(len(images), model.dims.backbone)
    with torch.no_grad():
        for i in range((len(images) + batch_size - 1) // batch_size):
            rows = slice(i * batch_size, (i + 1) * batch_size)
            bank[rows] = model.features(images[rows]).cpu()
    return bank


def the_rest_afterwards(model, images, batch_size=256):
    bank = museum.FOUND.feature_bank(model, images, batch_size)
    full = len(images) // batch_size * batch_size
    if full < len(images):
        with torch.no_grad():
            bank[full:] = model.features(images[full:]).cpu()
    return bank


def by_a_loader(model, images, batch_size=256):
    with torch.no_grad():
        loader = torch.utils.data.DataLoader(images, batch_size=batch_size)
        return torch.cat([model.features(x) for x in loader])


def one_by_one(model, images, batch_size=256):
    with torch.no_grad():
        return torch.cat([model.features(x[None]) for x in images])


def as_embed_wants_them(model, images, batch_size=256):
    return embed(model, images, batch_size=batch_size)  # an ImageSet, not a tensor


def unit_rows(model, images, batch_size=256):
    return F.normalize(by_split(model, images, batch_size), dim=1)


def last_twice(model, images, batch_size=256):
    """The last batch is a full one, moved back: rows in it would be written to the wrong places."""
    starts = [*range(0, len(images) - batch_size, batch_size), max(0, len(images) - batch_size)]
    with torch.no_grad():
        return torch.cat([model.features(images[i : i + batch_size]) for i in starts])[: len(images)]


def in_train_mode(model, images, batch_size=256):
    return by_split(model.train(), images, batch_size)


def transposed_bank(model, images, batch_size=256):
    return by_split(model, images, batch_size).T


def a_list_of_batches(model, images, batch_size=256):
    with torch.no_grad():
        return [model.features(x) for x in images.split(batch_size)]


def no_batch_of_one(model, images, batch_size=256):
    bank = torch.zeros(len(images), model.dims.backbone)
    for i in range(0, len(images), batch_size):
        if i + 1 < len(images):
            bank[i : i + batch_size] = model.features(images[i : i + batch_size]).detach()
    return bank


def thawed_afterwards(model, images, batch_size=256):
    bank = by_split(model.requires_grad_(False), images, batch_size)
    model.requires_grad_(True)
    return bank


BANK = (
    museum.evaluation.FEATURE_BANK,
    [by_split, by_range, rounded_up_by_hand, the_rest_afterwards, by_a_loader, one_by_one],
    [
        as_embed_wants_them,
        no_batch_of_one,
        thawed_afterwards,
        unit_rows,
        last_twice,
        in_train_mode,
        transposed_bank,
        a_list_of_batches,
    ],
)

test_a_right_answer_in_another_style_passes, test_a_wrong_answer_fails = both_tests(
    LOSS, STEP, CROP, PROJECTOR, PROBE, CLASSIFIER, LEVEL, BANK
)


@pytest.mark.parametrize("exercise", ROOMS, ids=name)
def test_the_solution_is_the_repaired_function(exercise):
    assert exercise.solution is None and judge(exercise, exercise.reference).status == "passed"
    assert inspect.signature(exercise.reference) == inspect.signature(exercise.exhibit)
