"""Rates by turns and the stages of a step."""

import pytest

from simsiam_course import speed
from simsiam_course.data import patterns
from simsiam_course.recipe import Recipe
from simsiam_course.train import Trainer

RECIPE = Recipe(backbone="tiny_half", batch_size=16, epochs=1)


def test_a_race_has_a_rate_a_round_for_each_recipe():
    images = patterns(32, size=16, seed=0)
    recipes = speed.switched(RECIPE, ("none", "channels_last"))
    assert [recipe.channels_last for recipe in recipes.values()] == [False, True]
    rates = speed.race(recipes, images, steps=2, rounds=2, device="cpu")
    assert {name: len(found) for name, found in rates.items()} == {"none": 2, "channels_last": 2}
    assert all(rate > 0 for found in rates.values() for rate in found)


def test_every_switch_changes_what_it_names_and_nothing_else():
    recipes = speed.switched(RECIPE)
    none = RECIPE.replace(channels_last=False)
    assert recipes["none"] == none
    assert recipes["bf16"] == none.replace(amp="bf16") and recipes["compile"] == none.replace(compile=True)
    assert recipes["all three"] == RECIPE.replace(amp="bf16", compile=True)


def test_the_stages_and_the_rest_are_the_whole_step():
    recipe = RECIPE.replace(epochs=100)
    trainer = Trainer(recipe.build(), patterns(32, size=16, seed=0), recipe, device="cpu")
    *parts, whole = speed.stages(trainer, 3)
    trainer.close()
    assert whole["name"] == "whole step" and whole["share"] == 1
    assert sum(row["seconds"] for row in parts) == pytest.approx(whole["seconds"])
    assert [row["name"] for row in parts][:2] == [speed.AUGMENTATION, "forward, backbone"]


def test_hours_are_images_over_rate():
    assert speed.hours(3600, 2, 1.0) == 2
