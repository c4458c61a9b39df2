"""`embed` does what it says, kNN and probe agree with scikit-learn, health needs no labels."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from simsiam_course import evaluate
from simsiam_course.augment import PRESETS, normalise
from simsiam_course.data import ImageSet, patterns
from simsiam_course.errors import InputError
from simsiam_course.evaluate import (
    baselines,
    embed,
    health,
    knn,
    knn_accuracy,
    linear_probe,
    measure,
    neighbours,
    project,
    random_backbone,
)
from simsiam_course.model import SimSiam, create_backbone


class Toy(nn.Module):
    """The least that can be evaluated: a convolution with BN as backbone, two linear maps as heads."""

    def __init__(self) -> None:
        super().__init__()
        layers = (
            nn.Conv2d(3, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.backbone = nn.Sequential(*layers)
        self.projector = nn.Linear(8, 16)
        self.predictor = nn.Linear(16, 16)
        self.register_buffer("pixel_mean", torch.full((3,), 0.4))
        self.register_buffer("pixel_std", torch.full((3,), 0.2))

    def features(self, x):
        return self.backbone(x)

    def encode(self, x):
        return self.projector(self.features(x))

    def forward(self, x1, x2):
        z1, z2 = self.encode(x1), self.encode(x2)
        return self.predictor(z1), self.predictor(z2), z1, z2


def pictures(n: int = 50, *, labels: bool = True, seed: int = 0) -> ImageSet:
    """Noise, whose brightness tells two classes apart."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % 2
    images = torch.randint(0, 128, (n, 3, 16, 16), generator=generator) + 127 * classes.view(-1, 1, 1, 1)
    return ImageSet(images.to(torch.uint8), classes if labels else None, ("dark", "light") if labels else ())


@pytest.fixture
def model() -> Toy:
    torch.manual_seed(0)
    return Toy()


def simsiam(seed: int = 0) -> SimSiam:
    torch.manual_seed(seed)
    backbone, dim = create_backbone("tiny")
    return SimSiam.create(backbone, dim, projection_dim=64, hidden_dim=64, predictor_hidden_dim=16)


def clouds(n: int, d: int = 12, classes: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping clouds, so that the votes are close."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99))
    return centres[labels] + 1.5 * torch.randn(n, d, generator=generator), labels


# --------------------------------------------------------------------------------------------- embed, project


def test_embed_gives_one_row_per_image_in_order_and_keeps_the_last_batch(model):
    images = pictures(50)
    x = normalise(images.images, model.pixel_mean, model.pixel_std)
    expected = model.eval().features(x).detach()
    for batch_size in (1, 7, 49, 50, 512):
        torch.testing.assert_close(embed(model, images, batch_size=batch_size), expected)


def test_embed_gives_float32_without_gradient_and_leaves_the_statistics_alone(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features = embed(model, pictures())
    assert features.dtype == torch.float32 and features.device.type == "cpu" and not features.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_features_can_train_a_head(model):
    head = nn.Linear(8, 2)
    head(embed(model, pictures())).sum().backward()  # tensors made in inference mode would raise here
    assert head.weight.grad is not None


@pytest.mark.parametrize("fails", [False, True])
def test_each_submodule_gets_its_own_mode_back_even_after_an_error(model, fails):
    model.train()
    model.backbone[1].eval()  # frozen on purpose
    modes = [module.training for module in model.modules()]
    if fails:
        model.features = lambda x: 1 / 0
        with pytest.raises(ZeroDivisionError):
            embed(model, pictures())
    else:
        embed(model, pictures())
    assert [module.training for module in model.modules()] == modes


def test_pixels_are_scaled_by_the_model_and_without_that_by_the_images(model):
    images = pictures()
    own = embed(model, images)
    model.pixel_mean = model.pixel_std = None
    x = normalise(images.images, images.mean, images.std)
    torch.testing.assert_close(embed(model, images), model.eval().features(x).detach())
    assert not torch.allclose(embed(model, images), own)


def test_a_channels_last_model_gets_channels_last_images(model):
    expected, seen = embed(model, pictures()), []
    model.backbone.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(embed(model, pictures()), expected)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)


def test_project_gives_z(model):
    x = normalise(pictures().images, model.pixel_mean, model.pixel_std)
    torch.testing.assert_close(project(model, pictures()), model.eval().encode(x).detach())


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_a_bad_batch_size_is_an_error(model, batch_size):
    with pytest.raises(InputError, match="batch_size"):
        embed(model, pictures(), batch_size=batch_size)


def test_a_model_without_features_or_with_unpooled_ones_is_an_error(model):
    with pytest.raises(InputError, match="no method features"):
        embed(nn.Linear(3, 3), pictures())
    model.features = lambda x: model.backbone[0](x)  # noqa: PLW0108 (a module would not replace the method)
    with pytest.raises(InputError, match="pool and flatten"):
        embed(model, pictures())


def test_something_else_than_an_image_set_is_an_error(model):
    with pytest.raises(InputError, match="expected an ImageSet"):
        embed(model, torch.zeros(4, 3, 16, 16))


# -------------------------------------------------------------------------------------------------------- knn


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (5, 0.1), (20, 0.07), (200, 1.0)])
def test_knn_votes_as_scikit_learn_with_the_same_weights(k, temperature):
    from sklearn.neighbors import KNeighborsClassifier

    (bank, labels), (queries, _) = clouds(500), clouds(300, seed=1)
    reference = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / temperature)
    ).fit(bank.double().numpy(), labels.numpy())
    expected = reference.predict(queries.double().numpy())
    assert (knn(bank, labels, queries, k=k, temperature=temperature).numpy() == expected).all()


def test_knn_is_the_same_in_chunks(monkeypatch):
    (bank, labels), (queries, _) = clouds(500), clouds(300, seed=1)
    whole = knn(bank, labels, queries)
    monkeypatch.setattr(evaluate, "CHUNK", 1_700)  # three queries at a time
    assert torch.equal(knn(bank, labels, queries), whole)


def test_knn_weighs_the_nearer_neighbour_more():
    bank = torch.tensor([[1.0, 0.0], [0.5, 0.8], [0.5, 0.8]])
    labels, query = torch.tensor([7, 3, 3]), torch.tensor([[1.0, 0.0]])
    assert knn(bank, labels, query, k=3, temperature=0.1).tolist() == [7]
    assert knn(bank, labels, query, k=3, temperature=10.0).tolist() == [3]


def test_a_very_low_temperature_does_not_overflow():
    (bank, labels), (queries, _) = clouds(100), clouds(50, seed=1)
    assert torch.equal(knn(bank, labels, queries, temperature=1e-4), knn(bank, labels, queries, k=1))


def test_unlabelled_rows_neither_vote_nor_count():
    (bank, labels), (queries, truth) = clouds(200), clouds(100, seed=1)
    some = torch.arange(200) % 3 > 0
    partial = labels.where(some, -1)
    expected = knn(bank[some], labels[some], queries)
    assert torch.equal(knn(bank, partial, queries), expected)
    assert knn_accuracy(bank, partial, queries, truth.where(truth > 0, -1)) == pytest.approx(
        (expected == truth)[truth > 0].float().mean().item()
    )


def test_neighbours_are_the_most_similar_first():
    bank = torch.tensor([[0.0, 1.0], [1.0, 0.0], [3.0, 1.0], [-1.0, 0.0]])
    assert neighbours(bank, torch.tensor([[9.0, 0.0]]), k=4).tolist() == [[1, 2, 0, 3]]
    assert neighbours(bank, bank, k=1).squeeze(1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 101}, "from 1 to 100"),
        ({"temperature": 0.0}, "temperature"),
        ({"bank_labels": None}, "no labels"),
        ({"bank_labels": torch.full((100,), -1)}, "every label is -1"),
        ({"bank_labels": torch.zeros(99, dtype=torch.int64)}, "100 rows"),
        ({"bank_labels": torch.zeros(100)}, "float32"),
        ({"queries": torch.zeros(5, 11)}, r"\(5, 11\)"),
        ({"queries": torch.zeros(0, 12)}, r"\(0, 12\)"),
        ({"queries": torch.full((5, 12), math.nan)}, "NaN"),
        ({"bank": torch.zeros(100, 12, dtype=torch.int64)}, "integers"),
    ],
)
def test_knn_of_bad_input_is_one_clear_error(change, said):
    bank, labels = clouds(100)
    arguments = {"bank": bank, "bank_labels": labels, "queries": clouds(5)[0]} | change
    with pytest.raises(InputError, match=said):
        knn(**arguments)


# ----------------------------------------------------------------------------------------------- linear probe


def test_the_probe_is_scikit_learns_and_gives_the_same_twice():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (x, y), (features, labels) = clouds(400), clouds(300, seed=1)
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(x.numpy(), y.numpy())
    expected = reference.score(features.numpy(), labels.numpy())
    assert 0.5 < expected < 1
    assert linear_probe(x, y, features, labels) == pytest.approx(expected, abs=1e-6)
    assert linear_probe(x, y, features, labels) == linear_probe(x, y, features, labels)


def test_the_probe_leaves_unlabelled_rows_out():
    (x, y), (features, labels) = clouds(400), clouds(300, seed=1)
    some = torch.arange(400) % 2 > 0
    assert linear_probe(x, y.where(some, -1), features, labels) == linear_probe(
        x[some], y[some], features, labels
    )


def test_the_probe_stops_silently():
    x, y = clouds(400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linear_probe(x, y, x, y, max_iterations=1)


def test_the_probe_of_one_class_is_an_error():
    x, y = clouds(20)
    with pytest.raises(InputError, match="one class"):
        linear_probe(x, y * 0, x, y)


# -------------------------------------------------------------------------------------------- random backbone


def test_the_statistics_of_a_random_backbone_are_those_of_the_images():
    images = pictures(50)
    model = random_backbone(Toy, images, batch_size=10)
    before_bn = model.backbone[0](normalise(images.images, images.mean, images.std))
    torch.testing.assert_close(
        model.backbone[1].running_mean, before_bn.mean(dim=(0, 2, 3)), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(model.pixel_mean, images.mean)
    assert model.backbone[1].momentum == 0.1 and model.training


def test_a_random_backbone_follows_its_seed_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (embed(random_backbone(Toy, pictures(), seed=s), pictures()) for s in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(("n", "batch_size"), [(3, 2), (5, 1), (513, 512)])
def test_no_batch_of_one_reaches_bn(n, batch_size):
    assert all(
        value.isfinite().all()
        for value in random_backbone(simsiam, pictures(n), batch_size=batch_size).buffers()
    )


def test_one_image_has_no_statistics():
    with pytest.raises(InputError, match="at least two"):
        random_backbone(Toy, pictures(1))


# -------------------------------------------------------------------------------------------- measure, health


def test_measure_reports_everything_and_the_same_twice(model):
    found = measure(model, pictures(80), pictures(40, seed=1), PRESETS["cifar"])
    assert list(found) == ["loss", "std", "effective_rank", "dim", "knn", "linear"]
    assert -1 <= found["loss"] <= 1 and 0 <= found["std"] <= 1 and 1 <= found["effective_rank"] <= 16
    assert found["knn"] == found["linear"] == 1.0  # dark against light
    assert measure(model, pictures(80), pictures(40, seed=1), PRESETS["cifar"]) == found


def test_measure_does_not_depend_on_the_batch_size_but_through_rounding(model):
    a, b = (measure(model, pictures(80), pictures(40, seed=1), batch_size=size) for size in (7, 512))
    assert a.pop("loss") is b.pop("loss") is None  # there is none without an augmentation
    assert a == pytest.approx(b, rel=1e-4)


def test_the_monitors_see_at_most_2048_images(model):
    seen = []
    model.projector.register_forward_hook(lambda *call: seen.append(len(call[1][0])))
    images = pictures(2_100, labels=False)
    health(model, images, batch_size=256)
    assert sum(seen) == 2_048


@pytest.mark.parametrize("unlabelled", ["training", "test"])
def test_without_two_classes_accuracies_are_none_and_a_note_says_why(model, unlabelled):
    sets = {"training": pictures(80), "test": pictures(40, seed=1)}
    for poor in (
        pictures(40, labels=False),
        sets[unlabelled].subset(torch.arange(0, 40, 2)),
    ):  # none; one class
        chosen = sets | {unlabelled: poor}
        found = measure(model, chosen["training"], chosen["test"])
        assert found["knn"] is None and found["linear"] is None and found["std"] > 0
        assert unlabelled in found["note"] and found["note"].endswith(".")
        assert set(baselines(chosen["training"], chosen["test"], Toy).values()) == {None}


def test_labels_that_were_not_trained_on_have_no_accuracy(model):
    train, test = pictures(80), pictures(40, seed=1)
    other = replace(test, labels=test.labels + 10, classes=())
    found = measure(model, train, other)
    assert found["knn"] is None and found["linear"] is None and "no class of the test images" in found["note"]
    assert set(baselines(train, other, Toy).values()) == {None}


def test_ten_images_are_enough(model):
    assert measure(model, pictures(10), pictures(4), PRESETS["cifar"])["knn"] is not None  # k is cut to ten


def test_a_diverged_model_is_measured_and_named(model):
    nn.init.constant_(model.backbone[0].weight, math.nan)
    found = measure(model, pictures(20), pictures(10), PRESETS["cifar"])
    assert math.isnan(found["std"]) and found["knn"] is None and "NaN" in found["note"]
    assert health(model, pictures(20))[1].name == "diverged"


def test_baselines_are_the_accuracies_of_pixels_and_of_a_random_backbone():
    train, test = pictures(80), pictures(40, seed=1)
    assert baselines(train, test, Toy) == {"raw_pixels_knn": 1.0, "random_backbone_knn": 1.0}
    assert baselines(train, test)["random_backbone_knn"] is None


def test_health_needs_no_labels_and_names_a_collapse(model):
    nn.init.zeros_(model.projector.weight)  # every z is the bias
    measurements, diagnosis = health(model, pictures(labels=False))
    assert measurements["std"] < 0.05 and measurements["effective_rank"] == 1.0 and measurements["dim"] == 16
    assert diagnosis.name == "complete collapse"


def test_health_of_an_untrained_model_is_not_claimed():
    measurements, diagnosis = health(simsiam(), pictures(labels=False), augmentation=PRESETS["cifar"])
    assert measurements["loss"] > -0.4
    assert diagnosis.name in ("unknown", "dimensional collapse")


def test_health_reads_the_history():
    history = [{"step": 10 * i, "loss": math.nan, "std": None, "effective_rank": None} for i in range(20)]
    measurements, diagnosis = health(simsiam(), pictures(labels=False), history)
    assert math.isnan(measurements["loss"]) and diagnosis.name == "diverged"


def test_raw_pixels_of_patterns_are_near_chance_and_the_real_model_is_measured_in_seconds():
    train, test = patterns(1_024), patterns(512, split="test")
    assert baselines(train, test, simsiam)["raw_pixels_knn"] < 0.3
    start = time.process_time()
    found = measure(simsiam(), train, test, PRESETS["patterns"])
    assert time.process_time() - start < 20
    assert 0 < found["knn"] < 0.6 and -1 <= found["loss"] <= 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_measure_agrees_on_cuda(model):
    train, test = pictures(80), pictures(40, seed=1)
    expected = measure(model, train, test, PRESETS["cifar"])
    assert measure(model.cuda(), train, test, PRESETS["cifar"]) == pytest.approx(expected, rel=1e-2)
