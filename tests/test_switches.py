"""Lower precision and compiled code: on while a model trains, gone afterwards, refused where they cannot be."""

from functools import partial

import pytest
import torch

from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.evaluate import embed
from simsiam_course.recipe import Recipe
from simsiam_course.train import Trainer, fit

RECIPE = Recipe(
    backbone="tiny_half", batch_size=16, epochs=1, projection_dim=64, hidden_dim=64, monitor_every=1
)


@pytest.fixture(scope="module")
def images():
    return patterns(64, size=16, seed=5)


def losses(images, **changes):
    recipe = RECIPE.replace(**changes)
    model = recipe.build()
    return model, fit(model, images, recipe, device="cpu", progress=False)["loss"]


def is_plain(model):
    return not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("method", ["simsiam", "moco"])
def test_bf16_is_coarser_and_ends_near_float32(images, method):
    model, found = losses(images, amp="bf16", method=method)
    _, wanted = losses(images, method=method)
    assert found != wanted and found[:1] == pytest.approx(wanted[:1], abs=0.03)
    assert is_plain(model) and {w.dtype for w in model.parameters()} == {torch.float32}


def test_outputs_are_float32_while_training_and_nothing_is_lowered_in_eval_mode(images):
    recipe = RECIPE.replace(amp="bf16")
    trainer, seen = Trainer(recipe.build(), images, recipe, device="cpu"), []
    inner = trainer.model.backbone.register_forward_hook(lambda m, x, y: seen.append(y.dtype))
    outputs = trainer.model.train()(*trainer.views(torch.arange(16)))
    assert {y.dtype for y in outputs} == {torch.float32} and set(seen) == {torch.bfloat16}
    seen.clear()
    embed(trainer.model, images)
    assert set(seen) == {torch.float32}
    inner.remove()
    trainer.close()


def test_compiled_parts_take_the_same_steps(images, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    model, found = losses(images, compile=True)
    assert found == pytest.approx(losses(images)[1], abs=1e-4)
    assert is_plain(model)


@pytest.mark.parametrize(("error", "said"), [
    ("no C++ compiler\nat line 3", r"^torch.compile does not work here \(no C\+\+ compiler\): leave"),
    ("CUDA out of memory. Tried to allocate 2 GiB", "^The memory does not suffice for a training step of 16"),
])  # fmt: skip
def test_what_the_first_compiled_step_raises_is_one_sentence(images, monkeypatch, error, said):
    def broken(forward, **options):
        def call(*inputs):
            raise RuntimeError(error)

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(InputError, match=said):
        losses(images, compile=True)


def test_fp16_is_for_gpus(images):
    with pytest.raises(InputError, match="^amp 'fp16' is for GPUs: on a CPU use 'bf16'"):
        losses(images, amp="fp16")


@pytest.mark.cuda
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_lower_precision_trains_on_a_gpu_and_its_scale_is_in_the_checkpoint(images, amp):
    recipe = RECIPE.replace(amp=amp, epochs=2)
    trainer = Trainer(recipe.build(), images, recipe, device="cuda")
    values = [trainer.advance().item() for _ in range(8)]
    assert all(-1 <= value <= 1 for value in values)
    assert bool(trainer.state()[1]["scaler"]) == (amp == "fp16")
    trainer.close()
