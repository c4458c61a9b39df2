"""A watch measures at a few moments, changes nothing, and draws a point as a point and a line as a line."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from simsiam_course import Recipe, fit
from simsiam_course.data.patterns import patterns
from simsiam_course.errors import InputError
from simsiam_course.watch import POINTS, Watch, pack, plane, unpack

RECIPE = Recipe(epochs=3, batch_size=16, monitor_every=2)


@pytest.fixture(scope="module")
def images():
    return patterns(160, seed=3), patterns(120, seed=4)


def watched(images, recipe=RECIPE, **options):
    train, test = images
    watch = Watch(train, test, recipe, **options)
    history = fit(recipe.build(), train, recipe, device="cpu", callback=watch, progress=False)
    return watch, history


def test_it_measures_at_moments_spread_evenly_from_the_first_row_to_the_last(images):
    watch, history = watched(images, moments=4)
    measured = [row["step"] for row in history if row["knn"] is not None]
    assert measured == [frame["step"] for frame in watch.frames] == [2, 12, 22, 30]
    assert all(frame["points"].shape == (120, 2) for frame in watch.frames)
    assert watch.labels.shape == (120,) and POINTS == 200


def test_watching_changes_nothing(images):
    _, history = watched(images)
    alone = fit(RECIPE.build(), images[0], RECIPE, device="cpu", progress=False)
    assert history["loss"] == alone["loss"]


def test_a_quick_run_is_measured_at_its_end_too(images, monkeypatch):
    monkeypatch.setenv("SIMSIAM_QUICK", "1")
    watch, history = watched(images, RECIPE.replace(epochs=50))
    assert watch.frames[-1]["step"] == history[-1]["step"] == 30


@pytest.mark.parametrize("moved", [None, 100], ids=["no labels", "other classes"])
def test_where_no_class_is_known_there_are_points_and_no_accuracy(moved, images):
    train, test = images
    labels = None if moved is None else train.labels + moved
    watch, history = watched((replace(train, labels=labels, classes=()), test))
    assert set(history["knn"]) == {None}
    assert watch.frames


def test_a_model_that_is_no_longer_finite_has_no_frame(images):
    train, test = images
    model = RECIPE.build()
    with torch.no_grad():
        next(model.backbone.parameters()).fill_(math.nan)
    watch = Watch(train, test, RECIPE)
    assert watch({"step": watch.due[0]}, model) == {"knn": None}
    assert watch.frames == []


def test_a_constant_is_a_point_and_a_line_is_a_line():
    constant = torch.ones(50, 8)
    assert plane(constant).abs().max() < 1e-6
    angle = torch.linspace(-0.5, 0.5, 50)
    arc = torch.stack([angle.cos(), angle.sin(), *[torch.zeros(50)] * 6], dim=1)
    points = plane(arc)
    assert points[:, 0].std() > 5 * points[:, 1].std()
    assert plane(torch.randn(50, 1)).shape == (50, 2)


def test_distances_in_the_plane_are_those_on_the_sphere_where_two_directions_are_all_there_is():
    angle = torch.rand(40) * 2 * math.pi
    u = torch.stack([angle.cos(), angle.sin()], dim=1) @ torch.linalg.qr(torch.randn(6, 6)).Q[:2]
    torch.testing.assert_close(torch.cdist(plane(u), plane(u)), torch.cdist(u, u), atol=1e-3, rtol=1e-3)


def test_a_film_does_not_jump():
    z = torch.randn(60, 5) * torch.tensor([3.0, 2.9, 0.1, 0.1, 0.1])
    first = plane(z)
    turned = plane(z * torch.tensor([-1.0, 1.0, 1.0, 1.0, 1.0]), first)  # a mirrored network
    torch.testing.assert_close(turned, first, atol=1e-4, rtol=1e-4)


def test_points_survive_the_ledger_to_a_two_hundredth():
    points = torch.rand(200, 2) * 2 - 1
    assert (unpack(pack(points)) - points).abs().max() <= 0.5 / 127 + 1e-6
    assert len(pack(points)) < 600


def test_z_that_is_no_matrix_is_refused():
    with pytest.raises(InputError, match="expected floating numbers"):
        plane(torch.ones(3))
