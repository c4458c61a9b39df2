"""A read-out finds what is in the features, and nothing that is not; the ledger's rows hold it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from simsiam_course import ablate, probes
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.model import SimSiam, create_backbone
from simsiam_course.probes import FACTORS, factor_probes, on_circle, read_out, targets


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_what_is_a_linear_function_of_the_features_is_read_exactly_in_any_units():
    x, weights = noise(300, 6), noise(6, 2, seed=1)
    y = x @ weights + 3
    units = torch.tensor([1e-3, 1.0, 1e3, 1.0, 1.0, 1.0])
    assert read_out(x[:200], y[:200], x[200:], y[200:]) == pytest.approx(1, abs=1e-3)
    assert read_out(units * x[:200] + 7, y[:200], units * x[200:] + 7, y[200:]) == pytest.approx(1, abs=1e-3)


def test_what_is_not_in_the_features_is_not_read():
    assert read_out(noise(300, 6), noise(300, 1, seed=1), noise(200, 6, seed=2), noise(200, 1, seed=3)) < 0.05


def test_a_channel_without_spread_does_no_harm():
    x = torch.cat([noise(100, 2), torch.full((100, 1), 5.0)], dim=1)
    assert read_out(x, x[:, :1], x, x[:, :1]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "sets",
    [
        (noise(9, 3), noise(8, 1), noise(9, 3), noise(9, 1)),
        (noise(9, 3), noise(9, 1), noise(9, 2), noise(9, 1)),
        (noise(9), noise(9, 1), noise(9), noise(9, 1)),
        (noise(9, 3) / 0, noise(9, 1), noise(9, 3), noise(9, 1)),
    ],
)
def test_what_does_not_fit_is_refused(sets):
    with pytest.raises(InputError):
        read_out(*sets)


def test_hue_and_orientation_are_circular():
    just_below, just_above = torch.tensor([0.999]), torch.tensor([0.001])
    for name, period in (("hue", 1.0), ("orientation", math.pi)):
        factors = dict.fromkeys(FACTORS, torch.tensor([1.0]))
        near = [targets(factors | {name: period * share})[name] for share in (just_below, just_above)]
        torch.testing.assert_close(near[0], near[1], atol=0.02, rtol=0)
    torch.testing.assert_close(on_circle(torch.tensor([0.0])), torch.tensor([[1.0, 0.0]]))


class MeanColour(torch.nn.Module):
    """Features that know the hue and nothing else."""

    def features(self, x):
        return x.mean(dim=(2, 3))


def test_mean_colour_tells_the_hue_and_neither_frequency_nor_orientation():
    found = factor_probes(MeanColour(), patterns(400, seed=1), patterns(200, seed=2))
    assert list(found) == list(FACTORS)
    assert found["hue"] > 0.7
    assert max(found["frequency"], found["orientation"]) < 0.1


def test_features_that_are_not_finite_have_no_figures():
    class Diverged(MeanColour):
        def features(self, x):
            return super().features(x) / 0

    assert factor_probes(Diverged(), patterns(40), patterns(40, seed=1)) == dict.fromkeys(FACTORS)


def test_images_without_factors_are_refused():
    images = replace(patterns(40), factors={})
    with pytest.raises(InputError, match="use 'patterns'"):
        factor_probes(MeanColour(), images, images)


def test_the_model_is_left_as_it_was():
    model = SimSiam.create(*create_backbone("tiny"), 16, 16, 8).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    factor_probes(model, patterns(40), patterns(40, seed=1))
    assert model.training and all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_a_row_of_the_experiment_holds_the_figures():
    small = replace(ablate.FACTORS, base={"epochs": 1, "batch_size": 32, "monitor_every": 4})
    sets = patterns(128, seed=1), patterns(64, seed=2)
    row, model = ablate.run_variant(small, "no_colour_jitter", 0, *sets, device="cpu", progress=False)
    assert {name: row[name] for name in FACTORS} == factor_probes(model, *sets)
    assert row["recipe"]["augmentation"] == "crop_and_flip"


def test_the_two_variants_differ_in_colour_alone():
    from simsiam_course.augment import PRESETS

    colour = {"brightness", "contrast", "saturation", "hue", "jitter", "gray"}
    with_jitter, without = (vars(PRESETS[name]) for name in ("patterns", "crop_and_flip"))
    assert {name for name in with_jitter if with_jitter[name] != without[name]} == colour
    assert all(without[name] == 0 for name in colour)
    assert probes.FACTORS == ("hue", "frequency", "orientation")
