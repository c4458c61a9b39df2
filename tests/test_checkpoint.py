"""A checkpoint is whole, belongs to its recipe and its model, and is never a pickle."""

import pickle

import pytest
import torch

from simsiam_course import checkpoint as ckpt
from simsiam_course.errors import InputError
from simsiam_course.files import atomic_write, json_bytes
from simsiam_course.recipe import Recipe

RECIPE = Recipe(seed=3)


@pytest.fixture
def run(tmp_path):
    """A folder as a finished run leaves it."""
    ckpt.save_weights(tmp_path / ckpt.CHECKPOINT, RECIPE.build(), RECIPE, step=7, size=32)
    atomic_write(tmp_path / ckpt.RECIPE, json_bytes(RECIPE.to_dict()))
    return tmp_path


def test_weights_come_back_as_they_went_with_their_recipe(run):
    model, recipe, about = ckpt.load_weights(run / ckpt.CHECKPOINT)
    assert recipe == RECIPE and about["step"] == 7 and about["size"] == 32
    for name, tensor in RECIPE.build().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_channels_last_weights_come_back_in_the_models_own_layout(run):
    model = RECIPE.build().to(memory_format=torch.channels_last)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ckpt.save_weights(run / ckpt.CHECKPOINT, model, RECIPE)
    ckpt.load_state(model, ckpt.load_tensors(run / ckpt.CHECKPOINT)[0], run)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]) and tensor.stride() == weights[name].stride()


def test_weights_that_share_memory_are_saved_and_come_back_tied(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    ckpt.save_weights(tmp_path / "tied.safetensors", model, RECIPE)
    tensors, _ = ckpt.load_tensors(tmp_path / "tied.safetensors")
    before = model[0].weight.clone()
    with torch.no_grad():
        model[0].weight.zero_()
    ckpt.load_state(model, tensors, tmp_path)
    assert torch.equal(model[1].weight, before) and model[1].weight is model[0].weight


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_anywhere_is_never_taken_for_a_whole_one(run, keep):
    path = run / ckpt.CHECKPOINT
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(InputError, match="damaged"):
        ckpt.load_run(run)


def test_a_pickle_is_refused_unopened(run):

    (run / ckpt.CHECKPOINT).write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="damaged or not a safetensors file"):
        ckpt.load_run(run)


def test_a_checkpoint_of_another_recipe_is_refused_with_the_difference(run):
    atomic_write(run / ckpt.RECIPE, json_bytes(RECIPE.replace(lr=0.5).to_dict()))
    with pytest.raises(InputError, match="another recipe .lr 0.8 and 0.5"):
        ckpt.load_run(run)


def test_a_checkpoint_of_another_model_is_refused_with_the_weight_that_does_not_fit(run):
    wide = Recipe(projection_dim=128)
    ckpt.save_weights(run / ckpt.CHECKPOINT, wide.build(), RECIPE)
    with pytest.raises(InputError, match="another model .'.*' does not fit"):
        ckpt.load_run(run)


def test_a_folder_without_a_run_or_without_a_checkpoint_is_named(tmp_path, run):
    with pytest.raises(InputError, match="holds no run"):
        ckpt.load_run(tmp_path / "nowhere")
    (run / ckpt.CHECKPOINT).unlink()
    with pytest.raises(InputError, match="no checkpoint yet"):
        ckpt.load_run(run)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", '{"speed": 3}', '{"lr": "fast"}'])
def test_a_damaged_recipe_is_one_sentence(run, text):
    (run / ckpt.RECIPE).write_text(text)
    with pytest.raises(InputError):
        ckpt.load_run(run)


def test_a_safetensors_file_of_somebody_else_is_refused(run):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, run / ckpt.CHECKPOINT)
    with pytest.raises(InputError, match="not written by this version"):
        ckpt.load_run(run)
