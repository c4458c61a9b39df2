"""Training is deterministic, watches without disturbing, and a run killed at any moment resumes on the same curve."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from simsiam_course import checkpoint as ckpt
from simsiam_course import train as train_module
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.files import read_lines
from simsiam_course.recipe import Recipe
from simsiam_course.train import Diverged, Trainer, fit, resolve_device, train_step

CLOCK = ("seconds", "images_per_second")  # the only columns that may differ between equal runs
RECIPE = Recipe(epochs=3, batch_size=32, monitor_every=2, warmup_steps=2)


@pytest.fixture(scope="module")
def images():
    return patterns(160, seed=5)


def without_clock(rows):
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


def run(images, recipe=RECIPE, **options):
    model = recipe.build()
    return model, fit(model, images, recipe, device="cpu", progress=False, **options)


def test_the_same_seed_gives_the_same_curve_and_another_seed_another(images):
    assert without_clock(run(images)[1]) == without_clock(run(images)[1])
    assert run(images)[1]["loss"] != run(images, RECIPE.replace(seed=1))[1]["loss"]


def test_a_row_comes_every_few_steps_and_at_the_end(images):
    _, history = run(images)
    assert history["step"] == [2, 4, 6, 8, 10, 12, 14, 15]
    assert history["images_seen"] == [32 * step for step in history["step"]]
    assert history[-1]["epoch"] == 3
    assert all(
        0 <= std <= 2 and 1 <= rank <= 32
        for std, rank in zip(history["std"], history["effective_rank"], strict=True)
    )
    assert "effective_rank" in repr(history)


def test_the_loss_of_a_row_is_the_mean_since_the_row_before(images):
    losses = []

    def step(model, x1, x2):
        loss = train_step(model, x1, x2)
        losses.append(float(loss.detach()))
        return loss

    _, history = run(images, step=step)
    assert history["loss"][0] == pytest.approx(sum(losses[:2]) / 2)
    assert history["loss"][-1] == pytest.approx(losses[14])


def test_the_monitors_do_not_change_the_curve(images):
    often, seldom = (
        run(images, RECIPE.replace(monitor_every=1))[0],
        run(images, RECIPE.replace(monitor_every=15))[0],
    )
    for a, b in zip(often.state_dict().values(), seldom.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_std_and_rank_are_those_of_z_of_the_first_view_in_train_mode(images):
    from simsiam_course.collapse import effective_rank, std

    recipe, seen = RECIPE.replace(monitor_every=1, epochs=1), []

    def step(model, x1, x2):
        p1, p2, z1, z2 = model(x1, x2)
        seen.append(z1.detach().clone())
        return train_module.symmetric_loss(p1, p2, z1, z2)

    _, history = run(images, recipe, step=step)
    assert history["std"] == pytest.approx([float(std(z)) for z in seen])
    assert history["effective_rank"] == pytest.approx([float(effective_rank(z)) for z in seen])


def rates_of_f_and_h(images, recipe):
    """The learning rates of all steps of a run, f's and h's."""
    trainer, rates = Trainer(recipe.build(), images, recipe, device="cpu"), []
    h = {id(p) for p in trainer.model.predictor.parameters()}
    while trainer.done < trainer.total:
        trainer.advance()
        now = {id(group["params"][0]) in h: group["lr"] for group in trainer.optimizer.param_groups}
        rates.append((now[False], now[True]))
    return [list(column) for column in zip(*rates, strict=True)]


def test_f_follows_the_schedule_and_h_keeps_its_rate(images):
    recipe = RECIPE.replace(schedule="cosine", warmup_steps=0, lr=0.4, predictor_lr=3.0)
    of_f, of_h = rates_of_f_and_h(images, recipe)
    assert of_f == [recipe.step_lr(s, 15) for s in range(15)]
    assert of_f[-1] < of_f[0] / 50
    assert of_h == [pytest.approx(3 * 0.4 * 32 / 256)] * 15


def test_h_can_follow_the_schedule_too_and_keeps_its_distance(images):
    of_f, of_h = rates_of_f_and_h(images, RECIPE.replace(predictor_schedule="same", predictor_lr=3.0))
    assert of_h == [pytest.approx(3 * rate) for rate in of_f]


def test_nesterov_is_what_the_recipe_says_and_needs_momentum(images):
    for nesterov, momentum, expected in ((True, 0.9, True), (False, 0.9, False), (True, 0.0, False)):
        recipe = RECIPE.replace(nesterov=nesterov, momentum=momentum)
        optimizer = Trainer(recipe.build(), images, recipe, device="cpu").optimizer
        assert {group["nesterov"] for group in optimizer.param_groups} == {expected}


def test_with_both_sides_stopped_nothing_moves_and_the_run_says_so(images, capsys):
    recipe = RECIPE.replace(stop_gradient="both")
    before = {k: v.clone() for k, v in recipe.build().named_parameters()}
    model = recipe.build()
    fit(model, images, recipe, device="cpu", progress=True)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("nothing will move") == 1


@pytest.mark.parametrize("stop_gradient", ["none", "wrong_side"])
@pytest.mark.parametrize("predictor", ["none", "frozen", "bias", "linear", "directpred"])
def test_every_pair_of_switches_trains(images, stop_gradient, predictor):
    _, history = run(images, RECIPE.replace(epochs=1, stop_gradient=stop_gradient, predictor=predictor))
    assert all(-1.001 <= loss <= 1.001 for loss in history["loss"])


def test_a_students_own_model_and_step_are_what_is_trained(images):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))

        def forward(self, x1, x2):
            return self.f(x1), self.f(x2)

    def step(model, x1, x2):
        a, b = model(x1, x2)
        return (a - b).square().mean()

    model = Own()
    before = model.f[1].weight.clone()
    history = fit(model, images, RECIPE.replace(lr=0.01), step=step, device="cpu", progress=False)
    assert not torch.equal(before, model.f[1].weight)
    assert history["std"] == [None] * len(history)  # no projector, so there is no z to watch


def test_a_callback_sees_every_row_and_may_add_columns(images):
    _, history = run(images, callback=lambda row, model: {"twice": 2 * row["step"]})
    assert history["twice"] == [2 * step for step in history["step"]]


def test_the_model_keeps_no_hook_and_knows_the_pixels_it_was_trained_on(images):
    model, _ = run(images)
    assert not model.projector._forward_hooks
    assert torch.allclose(model.pixel_mean, images.mean) and torch.allclose(model.pixel_std, images.std)


def test_a_batch_larger_than_the_set_is_refused(images):
    with pytest.raises(InputError, match="batch of 512 is larger than the training set of 160 images"):
        run(images, RECIPE.replace(batch_size=512))


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="expected auto, cpu or cuda"):
        resolve_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            resolve_device("cuda")


def test_quick_mode_stops_every_run_after_thirty_steps(images, monkeypatch):
    monkeypatch.setenv("SIMSIAM_QUICK", "1")
    assert run(images, RECIPE.replace(epochs=100))[1]["step"][-1] == train_module.QUICK_STEPS


# ---- run folders


def test_a_run_folder_holds_its_recipe_its_history_and_a_checkpoint(images, tmp_path):
    _, history = run(images, out=tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(
        [ckpt.CHECKPOINT, ckpt.HISTORY, ckpt.RECIPE]
    )
    assert read_lines(tmp_path / "run" / ckpt.HISTORY) == list(history)
    assert json.loads((tmp_path / "run" / ckpt.RECIPE).read_text()) == RECIPE.to_dict()


def test_a_folder_that_holds_a_run_is_refused_without_resume(images, tmp_path):
    run(images, out=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(InputError, match="holds a run already.*--resume"):
        run(images, out=tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


class Stop(Exception):
    pass


def stop_at(step):
    def callback(row, model):
        if row["step"] >= step:
            raise Stop

    return callback


@pytest.mark.parametrize("step", [2, 6, 10, 14])
def test_a_run_stopped_anywhere_resumes_on_the_very_same_curve(images, tmp_path, step, monkeypatch):
    monkeypatch.setattr(train_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)  # one after every step
    model, whole = run(images)
    with pytest.raises(Stop):
        run(images, out=tmp_path, callback=stop_at(step))
    resumed_model, resumed = run(images, out=tmp_path, resume=True)
    assert without_clock(resumed) == without_clock(whole)
    assert without_clock(read_lines(tmp_path / ckpt.HISTORY)) == without_clock(whole)
    for a, b in zip(model.state_dict().values(), resumed_model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_finished_run_resumed_changes_nothing(images, tmp_path):
    _, history = run(images, out=tmp_path)
    assert run(images, out=tmp_path, resume=True)[1] == history


def test_an_interrupted_run_resumes_on_the_same_curve(images, tmp_path):
    def interrupt(row, model):
        if row["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, out=tmp_path, callback=interrupt)
    assert without_clock(run(images, out=tmp_path, resume=True)[1]) == without_clock(run(images)[1])


def test_resuming_another_recipe_or_other_images_is_refused(images, tmp_path):
    run(images, out=tmp_path)
    with pytest.raises(InputError, match="another recipe .lr 0.8 and 0.3"):
        run(images, RECIPE.replace(lr=0.3), out=tmp_path, resume=True)
    with pytest.raises(InputError, match="other images"):
        run(patterns(160, seed=6), out=tmp_path, resume=True)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(images, tmp_path):
    count = 0

    def step(model, x1, x2):
        nonlocal count
        count += 1
        return train_step(model, x1, x2) * (float("nan") if count > 7 else 1)

    with pytest.raises(Diverged, match="no longer a finite number at step 8: .*last good checkpoint"):
        run(images, step=step, out=tmp_path)
    model, _, about = ckpt.load_run(tmp_path)
    assert about["step"] < 8
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("weights", [False, True])
def test_no_checkpoint_is_taken_once_loss_or_weights_are_not_finite(images, tmp_path, monkeypatch, weights):
    monkeypatch.setattr(train_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)  # after every step

    def step(model, x1, x2):
        loss = train_step(model, x1, x2)
        count.append(1)
        if len(count) == 5:  # in the middle between two rows
            loss = loss + (model.projector[0].weight.sum() * float("inf") if weights else float("nan"))
        return loss

    count = []
    with pytest.raises(Diverged):
        run(images, RECIPE.replace(monitor_every=15), step=step, out=tmp_path)
    model, _, about = ckpt.load_run(tmp_path)
    assert about["step"] == 4 and all(p.isfinite().all() for p in model.parameters())


def test_a_refused_run_leaves_no_hook_on_the_model(images, tmp_path):
    run(images, out=tmp_path)
    model = RECIPE.build()
    with pytest.raises(InputError):
        fit(model, images, RECIPE, device="cpu", progress=False, out=tmp_path)
    assert not model.projector._forward_hooks


KILLED = """
import sys
from simsiam_course import train
from simsiam_course.data import patterns
from simsiam_course.recipe import Recipe
train.SECONDS_BETWEEN_CHECKPOINTS = 0.02
recipe = Recipe(epochs=30, batch_size=32, monitor_every=2)
train.fit(recipe.build(), patterns(160, seed=5), recipe, out=sys.argv[1], resume=True, device="cpu", progress=False)
"""


def start(folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], env=environment)


def test_a_run_killed_again_and_again_ends_with_the_history_of_one_never_touched(tmp_path):
    assert start(tmp_path / "whole").wait() == 0
    generator = random.Random(time.time_ns())
    for _ in range(4):
        process = start(tmp_path / "killed")
        deadline = time.monotonic() + 60
        while not (tmp_path / "killed" / ckpt.HISTORY).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path / "killed").wait() == 0
    histories = [read_lines(tmp_path / name / ckpt.HISTORY) for name in ("killed", "whole")]
    assert len(histories[1]) == 75
    assert without_clock(histories[0]) == without_clock(histories[1])
    assert not [p for p in (tmp_path / "killed").iterdir() if p.suffix == ".tmp" and p.stat().st_size == 0]


@pytest.mark.cuda
def test_cuda_trains_and_resumes_on_the_same_curve(images, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    whole = fit(RECIPE.build(), images, RECIPE, device="cuda", progress=False)
    with pytest.raises(Stop):
        fit(RECIPE.build(), images, RECIPE, device="cuda", progress=False, out=tmp_path, callback=stop_at(6))
    resumed = fit(RECIPE.build(), images, RECIPE, device="cuda", progress=False, out=tmp_path, resume=True)
    assert resumed["loss"] == pytest.approx(whole["loss"], abs=1e-3)
