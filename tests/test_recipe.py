"""A recipe holds every knob, refuses what it does not know, and its schedule is the one it names."""

import pytest

from simsiam_course.augment import PRESETS as AUGMENTATIONS
from simsiam_course.errors import InputError
from simsiam_course.presets import PRESETS, preset_of
from simsiam_course.recipe import Recipe, learning_rate, settled


def test_a_recipe_survives_the_way_through_a_dict():
    recipe = Recipe(lr=0.1, predictor="none", seed=3)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert recipe.replace(seed=4).seed == 4


def test_an_unknown_knob_is_named_with_the_one_that_was_meant():
    with pytest.raises(InputError, match="no knob 'batchsize'.*'batch_size'"):
        Recipe.from_dict({"batchsize": 64})
    with pytest.raises(InputError, match="no knob 'q'.*the knobs are backbone"):
        Recipe().replace(q=1)


@pytest.mark.parametrize(
    ("knob", "value"),
    [("backbone", "vgg"), ("predictor", "cnn"), ("stop_gradient", "yes"), ("output_bn", True), ("augmentation", "x"),
     ("schedule", "steps"), ("init", "zeros"), ("similarity", "l2"), ("epochs", 0), ("epochs", 2.5), ("epochs", True),
     ("batch_size", 1), ("lr", 0), ("lr", -1), ("lr", float("nan")), ("lr", float("inf")), ("lr", "fast"),
     ("momentum", 1.0), ("weight_decay", -1e-4), ("decay_fraction", 1.5), ("seed", -1), ("projection_dim", 0),
     ("projector_layers", 4), ("monitor_every", 0), ("joint", "no"), ("hidden_bn", "yes"),
     ("predictor_output_bn", "affine"), ("symmetric", "half"), ("method", "dino"), ("pairs", 0), ("pairs", 1.5),
     ("temperature", 0), ("temperature", float("inf")), ("target_momentum", 1.01), ("target_momentum", -0.1),
     ("target_every", 0), ("bank_size", 0), ("without", "negatives"),
     ("amp", "half"), ("amp", True), ("compile", "yes")],
)  # fmt: skip
def test_a_value_out_of_range_is_told_with_its_knob_and_what_was_expected(knob, value):
    with pytest.raises(InputError, match=f"^{knob} is .*expected"):
        Recipe(**{knob: value})


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_recipe(name):
    Recipe.from_dict(PRESETS[name])


def test_the_published_recipes_for_cifar10_are_as_published():
    """App. D of the paper; lightly's benchmark, whose .06 is for the batch of 128 as it is."""
    paper, lightly = (Recipe.from_dict(PRESETS[name]) for name in ("paper_cifar10", "lightly_cifar10"))
    for recipe in (paper, lightly):
        assert (recipe.backbone, recipe.cifar_stem, recipe.projector_layers) == ("resnet18", True, 2)
        assert (recipe.projection_dim, recipe.hidden_dim, recipe.predictor_hidden_dim) == (2048, 2048, 512)
        assert (recipe.momentum, recipe.nesterov, recipe.weight_decay) == (0.9, False, 5e-4)
        assert (recipe.schedule, recipe.warmup_steps, recipe.predictor_lr) == ("cosine", 0, 1.0)
        assert AUGMENTATIONS[recipe.augmentation].blur == 0
    assert (paper.epochs, paper.batch_size, lightly.epochs, lightly.batch_size) == (800, 512, 200, 128)
    assert [recipe.step_lr(0, 100) for recipe in (paper, lightly)] == pytest.approx([0.06, 0.06])
    assert (paper.predictor_schedule, lightly.predictor_schedule) == ("constant", "same")


def test_the_recipe_for_imagenet_is_the_papers():
    """Sec. 3."""
    recipe = Recipe.from_dict(PRESETS["paper_imagenet"])
    assert (recipe.backbone, recipe.cifar_stem, recipe.projector_layers) == ("resnet50", False, 3)
    assert (recipe.projection_dim, recipe.hidden_dim, recipe.predictor_hidden_dim) == (2048, 2048, 512)
    assert (recipe.batch_size, recipe.epochs, recipe.momentum, recipe.weight_decay) == (512, 100, 0.9, 1e-4)
    assert (recipe.schedule, recipe.predictor_schedule, recipe.nesterov) == ("cosine", "constant", False)
    assert recipe.step_lr(0, 100) == pytest.approx(0.1)
    assert AUGMENTATIONS[recipe.augmentation].blur == 0.5


def test_data_have_the_preset_that_is_made_for_them():
    assert [preset_of(data) for data in ("patterns", "digits", "eurosat", "cifar10", "folder:x")] == [
        "default", "digits", "satellite", "photos", "photos",
    ]  # fmt: skip
    assert settled("photos").keys() == settled("default").keys() == {k for p in PRESETS.values() for k in p}
    assert settled("photos")["lr"] == 0.3 and settled("default")["lr"] == Recipe().lr


def test_the_rate_scales_with_the_batch():
    assert learning_rate(0, 10, lr=0.05, batch_size=512) == pytest.approx(0.1)
    assert learning_rate(0, 10, lr=0.05, batch_size=64) == pytest.approx(0.0125)


def test_cosine_starts_at_the_peak_is_half_way_down_in_the_middle_and_ends_near_zero():
    rates = [learning_rate(step, 100, lr=1, batch_size=256) for step in range(100)]
    assert rates[0] == 1
    assert rates[50] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3
    assert rates == sorted(rates, reverse=True)


def test_stable_decay_warms_up_stays_and_falls_over_its_last_part():
    rates = [
        learning_rate(
            s, 120, lr=1, batch_size=256, schedule="stable_decay", warmup_steps=20, decay_fraction=0.25
        )
        for s in range(120)
    ]
    assert rates[:20] == pytest.approx([(s + 1) / 20 for s in range(20)])
    assert set(rates[20:95]) == {1}
    assert rates[95:] == pytest.approx([1 - k / 25 for k in range(25)])


def test_building_a_model_follows_the_seed_and_leaves_the_global_generator_alone():
    import torch

    state = torch.get_rng_state()
    first, second, other = (Recipe(seed=s).build().state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_differences_name_the_knobs():
    assert Recipe(lr=0.1).differences(Recipe(lr=0.2)) == "lr 0.1 and 0.2"


# ---- the knobs of the ablations and the relatives


def test_no_batch_norm_in_the_heads_means_none_at_all():
    from torch import nn

    def norms(**knobs):
        model = Recipe(**knobs).build()
        return [
            sum(isinstance(part, nn.BatchNorm1d) for part in head.modules())
            for head in (model.projector, model.predictor)
        ]

    assert norms() == [2, 1]
    assert norms(hidden_bn=False, output_bn="none") == [0, 0]
    assert norms(output_bn="none") == [1, 1]
    assert norms(predictor_output_bn=True) == [2, 2]


def test_a_relatives_knobs_reach_its_model():
    knobs = {"without": "momentum", "temperature": 0.5, "target_every": 3, "bank_size": 77}
    model = Recipe(method="moco", predictor="none", **knobs).build()
    assert {name: getattr(model, name) for name in knobs} == knobs
    assert (model.target_momentum, tuple(model.bank.shape)) == (0.0, (77, 256))
    assert Recipe(method="moco", target_momentum=0.7).build().target_momentum == 0.7


def test_simsiam_knows_nothing_of_the_relatives_knobs():
    from simsiam_course.model import SimSiam

    model, other = Recipe().build(), Recipe(temperature=0.5, bank_size=77, target_every=3).build()
    assert type(model) is type(other) is SimSiam
    assert model.state_dict().keys() == other.state_dict().keys()


def test_a_loss_that_is_not_symmetric_is_simsiams_only():
    assert Recipe(symmetric=False, predictor="none").symmetric is False
    for knob, value in (("symmetric", False), ("pairs", 2), ("similarity", "cross_entropy")):
        with pytest.raises(InputError, match=f"{knob} is .*, which is for SimSiam's loss: byol has its own"):
            Recipe(method="byol", **{knob: value})


def test_what_cannot_be_left_out_is_told_with_what_can():
    with pytest.raises(InputError, match="without is 'sinkhorn', expected one of '', negatives, momentum[.]"):
        Recipe(method="moco", without="sinkhorn")
    with pytest.raises(InputError, match="without is 'predictor', expected one of ''[.]"):
        Recipe(without="predictor")


def test_a_recipe_written_before_a_knob_was_there_has_its_default():
    knobs = Recipe().to_dict()
    for name in ("method", "pairs", "bank_size"):
        del knobs[name]
    assert Recipe.from_dict(knobs) == Recipe()


# ---- switches


def test_a_checkpoint_written_before_the_switches_is_of_the_same_recipe():
    knobs = Recipe().to_dict()
    del knobs["amp"], knobs["compile"]
    assert Recipe.from_dict(knobs) == Recipe()
    assert (Recipe().amp, Recipe().compile) == ("off", False)
