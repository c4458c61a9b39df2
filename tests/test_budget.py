"""The work of an image is counted, this machine is measured, and a GPU is estimated by one stated rule."""

from __future__ import annotations

import pytest
from torch import nn

from simsiam_course import budget as budgets
from simsiam_course.budget import Budget, budget, budget_table, operations_per_image
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.presets import PRESETS
from simsiam_course.recipe import Recipe

SMALL = Recipe(batch_size=8)


def test_the_operations_are_those_of_the_layers_forward_and_at_most_twice_that_backward():
    """Two for each weight at each place of use, in both views; no gradient is needed of the images themselves."""
    model, forward = SMALL.build(), [0.0]

    def count(module, inputs, y):
        forward[0] += 2 * module.weight[0].numel() * y.numel()

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    x = patterns(8).images.float()
    model(x, x)
    assert 2.7 < operations_per_image(SMALL, patterns(16)) / (forward[0] / 8) <= 3


def test_a_gpu_is_as_much_faster_as_the_rule_says(monkeypatch):
    monkeypatch.setattr(budgets, "throughput", lambda recipe, images, steps: 100.0)
    monkeypatch.setattr(budgets, "operations_per_image", lambda recipe, images: 5e9)
    monkeypatch.setattr(budgets, "matrix_rate", lambda: 1e12)
    found = budget("lightly_cifar10", peaks={"twice": 2e12, "ten times": 1e13})
    seen = 50_000 // 128 * 128 * 200
    assert (found.images, found.fraction) == (seen, 0.5)
    assert found.hours == pytest.approx(
        {"here": seen / 100 / 3600, "twice": seen / 200 / 3600, "ten times": seen / 1000 / 3600}
    )


def test_it_is_measured_for_any_preset_and_an_unknown_one_is_refused():
    found = budget("photos", images=1000, batch_size=4, steps=1)
    assert found.images == 1000 // 64 * 64 * Recipe.from_dict(PRESETS["photos"]).epochs
    assert found.images_per_second > 0 and set(found.hours) == {"here", *budgets.PEAKS}
    assert min(found.hours.values()) > 0 and found.operations > 1e6
    with pytest.raises(InputError, match="no preset 'photo'"):
        budget("photo")


def test_the_table_has_a_line_for_each_recipe_and_says_its_assumption():
    made = [Budget("a", 10**6, 2e9, 50.0, 0.4, {"here": 0.5, "T4": 72.0}),
            Budget("longer", 10**7, 2e9, 50.0, 0.3, {"here": 5.0, "T4": 0.001})]  # fmt: skip
    head, first, second, foot = budget_table(made).splitlines()
    assert head.split()[-3:] == ["here", "T4,", "est."]
    assert first.split() == ["a", "1.0", "M", "2.00", "50", "30", "min", "3", "days"]
    assert second.split() == ["longer", "10.0", "M", "2.00", "50", "5.0", "h", "under", "a", "minute"]
    assert foot == "Estimates assume the fraction of the peak that was reached here (40%, 30%)."
