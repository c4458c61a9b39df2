"""The Lightning version takes the package's own steps, and says what is missing where Lightning is."""

import subprocess
import sys

import pytest
import torch

from simsiam_course.augment import PRESETS, two_views
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.recipe import Recipe
from simsiam_course.train import make_optimizer, set_rates, train_step

RECIPE = Recipe(
    backbone="tiny_half", batch_size=16, epochs=4, projection_dim=64, hidden_dim=64, warmup_steps=2
)
QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
         "enable_model_summary": False}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return patterns(64, size=16, seed=5)


def by_hand(images, batches):
    """The losses and the weights of a run on the same batches, step by step."""
    model, losses = RECIPE.build().train(), []
    model.pixel_mean.copy_(images.mean)
    model.pixel_std.copy_(images.std)
    optimizer, _ = make_optimizer(model, RECIPE)
    draws = torch.Generator().manual_seed(RECIPE.seed + 1)
    for step, x in enumerate(batches):
        set_rates(optimizer, RECIPE, step, len(batches))
        loss = train_step(model, *two_views(x, PRESETS["patterns"], draws, images.mean, images.std))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def test_lightning_takes_the_packages_own_steps(images):
    import lightning

    from simsiam_course import lit

    losses, batches = [], []

    class Note(lightning.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            losses.append(outputs["loss"].item())
            batches.append(batch[0].clone())

    module = lit.train(RECIPE, images, callbacks=[Note()], **QUIET)
    wanted, weights = by_hand(images, batches)
    assert len(losses) == 16 and losses == pytest.approx(wanted, abs=1e-6)
    assert losses[-1] < losses[0]
    assert (
        len({x.sum().item() for x in batches}) == 16
    )  # no two batches alike: every pass has an order of its own
    for name, tensor in module.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("knob", "value", "said"), [
    ("method", "byol", "method is 'byol', and Lightning's version trains with 'simsiam' only"),
    ("similarity", "cross_entropy", "with 'cosine' only: use simsiam_course.fit"),
    ("symmetric", False, "with True only"), ("pairs", 2, "with 1 only"), ("compile", True, "with False only"),
    ("stop_gradient", "both", "with 'target' or 'none' or 'wrong_side' only"),
    ("batch_size", 128, "The batch of 128 is larger than the training set of 64 images"),
])  # fmt: skip
def test_what_lightning_does_not_carry_is_refused(images, knob, value, said):
    from simsiam_course import lit

    with pytest.raises(InputError, match=said):
        lit.train(RECIPE.replace(**{knob: value}), images, **QUIET)


def test_a_batch_that_does_not_divide_is_refused(images):
    from simsiam_course import lit

    with pytest.raises(InputError, match="A batch of 16 cannot be shared by 3 devices"):
        lit.loader(RECIPE, images, 3)


def test_without_lightning_one_sentence_says_what_to_install():
    code = (
        "import sys; sys.modules['lightning'] = None\n"
        "from simsiam_course import InputError\n"
        "try:\n    import simsiam_course.lit\n"
        "except InputError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Lightning is not here: python -m pip install 'simsiam-course[scale]'.\n"
