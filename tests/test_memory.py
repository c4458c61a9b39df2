"""Where memory does not suffice there are smaller batches, or one sentence that says what to try."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from simsiam_course import plot
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.evaluate import embed, measure, random_backbone
from simsiam_course.memory import in_smaller_batches, out_of_memory
from simsiam_course.plot import maps
from simsiam_course.recipe import Recipe
from simsiam_course.train import fit, train_step

FULL = {
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "cpu": RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
    ),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    "onednn": RuntimeError("could not create a primitive"),
    "numpy": MemoryError(),
}


@pytest.fixture(scope="module")
def images():
    return patterns(100, size=16, seed=1)


@pytest.fixture
def model():
    return Recipe().build()


def full_above(model, method, largest, error):
    """Makes a method of a model fail for more than `largest` images; the sizes that it was asked for."""
    sizes, sound = [], getattr(model, method)

    def forward(x, *others):
        sizes.append(len(x))
        if len(x) > largest:
            raise error
        return sound(x, *others)

    setattr(model, method, forward)
    return sizes


@pytest.mark.parametrize("name", FULL)
def test_embed_halves_its_batches_says_so_and_gives_the_same(model, images, capsys, name):
    whole = embed(model, images)
    sizes = full_above(model, "features", 30, FULL[name])
    features = embed(model, images, batch_size=64)
    torch.testing.assert_close(features, whole)
    assert sizes == [50, 25, 25, 25, 25]  # batches of nearly equal size
    assert capsys.readouterr().err == "The memory does not suffice for 64 images at once: going on with 32.\n"


def test_where_not_even_one_image_fits_one_sentence_says_what_to_do(model, images):
    full_above(model, "features", 0, FULL["cuda"])
    with pytest.raises(
        InputError, match="does not suffice for 1 image at once: close other programs, or use smaller"
    ):
        embed(model, images, batch_size=2)
    assert not any(module.training is False for module in model.modules())  # as it was


def test_another_error_is_no_lack_of_memory(model, images):
    full_above(model, "features", 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        embed(model, images)
    assert not out_of_memory(ValueError("out of memory")) and not out_of_memory(KeyboardInterrupt())


def test_a_measurement_and_a_random_backbone_get_through_with_smaller_batches(model, images):
    from simsiam_course.augment import PRESETS

    train, test = images.split_off()
    whole = measure(model, train, test, PRESETS["patterns"], batch_size=16)
    for method, error in (("features", FULL["cpu"]), ("encode", FULL["numpy"])):
        full_above(model, method, 9, error)
    small = measure(model, train, test, PRESETS["patterns"], batch_size=16)
    for name in ("std", "effective_rank", "knn"):
        assert small[name] == pytest.approx(whole[name], abs=1e-4)
    assert small["loss"] == pytest.approx(whole["loss"], abs=0.1)  # of other views
    made = Recipe().build()
    sizes = full_above(made, "encode", 13, FULL["cpu"])
    random_backbone(lambda: made, train, batch_size=16)
    assert sizes[0] == 16 and sizes[-1] <= 8
    full_above(made, "encode", 3, FULL["cpu"])
    with pytest.raises(InputError, match="for 4 images at once"):
        random_backbone(lambda: made, train, batch_size=8)


def test_what_a_failed_attempt_held_is_given_back():
    held = []

    class Large:
        def __del__(self):
            held.remove(self.size)

    def work(size):
        large = Large()
        large.size = size
        held.append(size)
        if size > 2:
            raise MemoryError
        return held.copy(), large

    found, _ = in_smaller_batches(work, 8)
    assert found == [2]


@pytest.mark.parametrize("name", ["cuda", "cpu"])
def test_a_training_step_that_does_not_fit_names_the_batch_to_try(model, images, tmp_path, name):
    def step(model, x1, x2):
        if len(calls) == 2:
            raise FULL[name]
        calls.append(len(x1))
        return train_step(model, x1, x2)

    calls = []
    recipe = Recipe(epochs=2, batch_size=32)
    with pytest.raises(
        InputError, match="step of 32 images: try a batch of 16 .--batch-size 16 in a new --out., small"
    ):
        fit(model, images, recipe, step=step, out=tmp_path, device="cpu", progress=False)
    history = fit(recipe.build(), images, recipe, out=tmp_path, resume=True, device="cpu", progress=False)
    assert history[-1]["step"] == 6


def test_the_smallest_batch_is_not_halved(model, images):
    def step(model, x1, x2):
        raise MemoryError

    with pytest.raises(InputError, match="step of 2 images: try smaller images"):
        fit(model, images, Recipe(epochs=1, batch_size=2), step=step, device="cpu", progress=False)


REAL = """
import resource, torch
from simsiam_course.data import ImageSet
from simsiam_course.evaluate import embed
from simsiam_course.recipe import Recipe
model = Recipe().build()
images = ImageSet(torch.randint(0, 255, (400, 3, 64, 64), dtype=torch.uint8))
embed(model, images.subset(torch.arange(8)))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20, resource.RLIM_INFINITY))
print(len(embed(model, images)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_embed_goes_on_where_the_system_gives_no_more_memory():
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=False)
    assert done.stdout == "400\n", done.stderr
    assert done.stderr.startswith("The memory does not suffice for 512 images at once: going on with 256.\n")


# ---- maps


class FakeUMAP:
    """UMAP that needs memory for no more than `largest` rows, and puts every row at its first two features."""

    largest, seen = 10**9, []

    def __init__(self, n_neighbors, **options):
        assert n_neighbors >= 2

    def fit_transform(self, x):
        self.seen.append(len(x))
        if len(x) > self.largest:
            raise MemoryError
        return x[:, :2]


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(FakeUMAP, "seen", [])
    monkeypatch.setattr(maps, "_umap", lambda: type("umap", (), {"UMAP": FakeUMAP}))
    return FakeUMAP


def rows(n):
    """Rows whose direction in the plane says where they belong."""
    angle = torch.linspace(0, 6, n)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_umap_sees_a_sample_and_the_other_rows_lie_between_their_neighbours(fake):
    x = rows(3000)
    points, method = plot.embedding_2d(x, sample=700)
    assert (
        method == "umap" and fake.seen == [700] and points.shape == (3000, 2) and points.dtype == np.float32
    )
    assert np.abs(points - x.numpy()).max() < 0.05
    assert (
        np.abs(points - x.numpy()).max(axis=1) < 1e-6
    ).sum() >= 700  # the rows that it saw are where it put them
    assert np.array_equal(points, plot.embedding_2d(x, sample=700)[0])


def test_umap_of_no_more_rows_than_the_sample_sees_them_all(fake):
    assert plot.embedding_2d(rows(800))[0].shape == (800, 2) and fake.seen == [800]


def test_umap_sees_half_as_many_rows_where_memory_does_not_suffice(fake, monkeypatch, capsys):
    monkeypatch.setattr(fake, "largest", 1000)
    points, _ = plot.embedding_2d(rows(3000))
    assert fake.seen == [3000, 1500, 750] and points.shape == (3000, 2)
    assert "going on with 750" in capsys.readouterr().err
    monkeypatch.setattr(fake, "largest", 100)
    with pytest.raises(InputError, match="memory does not suffice for 500 images"):
        plot.embedding_2d(rows(3000))


def test_a_sample_of_two_is_refused():
    with pytest.raises(InputError, match="sample is 2"):
        plot.embedding_2d(rows(10), sample=2)
