"""Training is deterministic, watches without disturbing, and a run killed at any moment resumes on the same curve."""

import json

import pytest
import torch
from torch import nn

from simsiam_course import checkpoint as ckpt
from simsiam_course import train as train_module
from simsiam_course.data import ImageSet, patterns
from simsiam_course.errors import InputError
from simsiam_course.files import read_lines
from simsiam_course.loss import cross_entropy_similarity, negative_cosine, symmetric_loss
from simsiam_course.recipe import Recipe
from simsiam_course.train import Diverged, Trainer, asymmetric_step, cosines, fit, resolve_device, train_step

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


# ---- which loss


def two_views_of(model, n=8):
    torch.manual_seed(0)
    return [torch.randn(n, 3, 16, 16, requires_grad=True) for _ in range(2)]


def first_loss(images, recipe, **options):
    """The loss of the first step of a run."""
    return Trainer(recipe.build(), images, recipe, device="cpu", **options).advance()


def test_the_asymmetric_loss_is_of_p1_and_z2_and_moves_the_first_view_only():
    model = RECIPE.build()
    x1, x2 = two_views_of(model)
    loss = asymmetric_step(model, x1, x2)
    p1, _, _, z2 = model(x1, x2)
    torch.testing.assert_close(loss, negative_cosine(p1, z2))
    loss.backward()
    assert x2.grad is None and x1.grad.norm() > 0
    assert all(w.grad is not None for w in model.parameters())


@pytest.mark.parametrize("stop, moved", [
    ("target", (True, False)), ("none", (True, True)), ("wrong_side", (False, True)), ("both", (False, False)),
])  # fmt: skip
def test_the_gradient_of_the_asymmetric_loss_stops_where_the_model_says(stop, moved):
    model = RECIPE.replace(stop_gradient=stop).build()
    x1, x2 = two_views_of(model)
    loss = asymmetric_step(model, x1, x2)
    if loss.requires_grad:
        loss.backward()
    assert tuple(x.grad is not None for x in (x1, x2)) == moved


def test_two_asymmetric_losses_with_the_views_exchanged_are_the_symmetric_one():
    model = RECIPE.build()
    x1, x2 = two_views_of(model)
    both = asymmetric_step(model, x1, x2) / 2 + asymmetric_step(model, x2, x1) / 2
    torch.testing.assert_close(both, train_step(model, x1, x2))


@pytest.mark.parametrize("knobs, step", [
    ({}, lambda m, x1, x2: symmetric_loss(*m(x1, x2))),
    ({"symmetric": False}, asymmetric_step),
    ({"similarity": "cross_entropy"},
     lambda m, x1, x2: symmetric_loss(*m(x1, x2), similarity=cross_entropy_similarity)),
    ({"similarity": "cross_entropy", "symmetric": False},
     lambda m, x1, x2: asymmetric_step(m, x1, x2, similarity=cross_entropy_similarity)),
], ids=("symmetric", "asymmetric", "cross_entropy", "asymmetric cross_entropy"))  # fmt: skip
def test_the_recipe_says_which_loss(images, knobs, step):
    recipe = RECIPE.replace(**knobs)
    loss = first_loss(images, recipe)
    assert loss == first_loss(images, recipe, step=step)
    assert (loss == first_loss(images, RECIPE)) == (not knobs)
    assert loss == first_loss(images, recipe, step=train_step)  # the package's own step is no other


def test_two_pairs_are_two_fresh_draws_of_the_same_images_and_their_mean(images):
    pairs, values = [], []

    def step(model, x1, x2):
        pairs.append((x1, x2))
        values.append(train_step(model, x1, x2))
        return values[-1]

    recipe = RECIPE.replace(pairs=2)
    trainer = Trainer(recipe.build(), images, recipe, step=step, device="cpu")
    seen = []
    draw = trainer.views
    trainer.views = lambda chosen: seen.append(chosen) or draw(chosen)
    loss = trainer.advance()
    assert len(pairs) == 2 and torch.equal(*seen)
    assert not torch.equal(pairs[0][0], pairs[1][0]) and not torch.equal(pairs[0][1], pairs[1][1])
    torch.testing.assert_close(loss, (values[0] + values[1]).detach() / 2)
    assert trainer.done == 1
    weight = trainer.model.projector[0].weight
    assert torch.isfinite(weight.grad).all() and weight.grad.norm() > 0


def test_two_pairs_take_as_many_steps_as_one(images):
    for pairs in (1, 2):
        assert run(images, RECIPE.replace(pairs=pairs))[1]["step"][-1] == 15


def test_a_relatives_own_loss_is_what_is_trained_unless_a_step_is_given(images):
    recipe = RECIPE.replace(method="simclr")
    given = []

    class Own(type(recipe.build())):
        def loss(self, x1, x2, chosen):
            given.append((x1.shape, x2.shape, chosen))
            return super().loss(x1, x2, chosen)

    model = recipe.build()
    model.__class__ = Own
    trainer = Trainer(model, images, recipe, device="cpu")
    trainer.advance()
    assert [(a[0], b[0], len(chosen)) for a, b, chosen in given] == [(32, 32, 32)]
    assert len(set(given[0][2].tolist())) == 32 and 0 <= min(given[0][2]) <= max(given[0][2]) < 160
    simsiams = first_loss(images, RECIPE)
    assert first_loss(images, recipe, step=train_step) == simsiams != first_loss(images, recipe)


@pytest.mark.parametrize("knobs, kept", [
    ({}, True), ({"method": "byol"}, True), ({"method": "alternating"}, True), ({"method": "moving_average"}, True),
    ({"symmetric": False}, True), ({"similarity": "cross_entropy"}, False), ({"method": "simclr"}, False),
    ({"method": "moco"}, False), ({"method": "swav"}, False), ({"method": "barlow_twins"}, False),
    ({"method": "vicreg"}, False),
], ids=str)  # fmt: skip
def test_a_loss_that_is_no_cosine_is_not_told_to_the_diagnosis(knobs, kept):
    history = [{"step": 1, "loss": 5.2, "std": 1.0}]
    assert cosines(history, Recipe(**knobs)) == [{"step": 1, "loss": 5.2 if kept else None, "std": 1.0}]
    assert history[0]["loss"] == 5.2


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


def test_images_that_cannot_be_turned_are_refused_before_anything_is_written(images, tmp_path):
    wide = ImageSet(images.images[..., :24, :])
    with pytest.raises(InputError, match="'satellite' turns images, but these are 24x32 .*--augmentation"):
        run(wide, RECIPE.replace(augmentation="satellite"), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())
    run(wide, RECIPE.replace(epochs=1))  # all others take them


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


def test_the_pixels_are_read_once_however_many_checkpoints_there_are(images, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    read, sound = [], ImageSet.fingerprint
    monkeypatch.setattr(ImageSet, "fingerprint", lambda self: read.append(1) or sound(self))
    run(images, out=tmp_path)
    assert len(read) == 1


def rewritten(path, tensors=None, **changes):
    """A checkpoint with some of it changed; `None` leaves a part out."""
    held, about = ckpt.load_tensors(path)
    held, about = held | (tensors or {}), about | changes
    plain = [{name: value for name, value in part.items() if value is not None} for part in (held, about)]
    ckpt.save_tensors(path, *plain)


def test_a_run_goes_on_where_it_began_on_a_gpu_or_on_a_cpu(images, tmp_path):
    run(images, out=tmp_path)
    state_of_a_gpu = torch.zeros(16, dtype=torch.uint8)
    rewritten(tmp_path / ckpt.CHECKPOINT, {"run.draws": state_of_a_gpu})
    with pytest.raises(InputError, match=r"trained on a GPU: go on there \(--device cuda\), or train again"):
        run(images, out=tmp_path, resume=True)


@pytest.mark.cuda
@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_does_not_change_its_kind_of_device(images, tmp_path, first, second):
    fit(RECIPE.build(), images, RECIPE, device=first, progress=False, out=tmp_path)
    with pytest.raises(InputError, match=rf"go on there \(--device {first}\)"):
        fit(RECIPE.build(), images, RECIPE, device=second, progress=False, out=tmp_path, resume=True)


@pytest.mark.parametrize(("tensors", "about", "part"), [
    ({}, {"step": None}, "step"), ({}, {"step": 1.5}, "step"), ({}, {"losses": -1}, "losses"),
    ({}, {"rows": None}, "rows"), ({}, {"seconds": "long"}, "seconds"),
    ({"run.order": None}, {}, "run.order"), ({"run.draws": None}, {}, "run.draws"),
    ({"run.global": torch.zeros(3, dtype=torch.uint8)}, {}, "run.global"),
    ({"momentum.foo": torch.zeros(1)}, {}, "momentum.foo"),
    ({"momentum.predictor.0.weight": torch.zeros(1)}, {}, "momentum.predictor.0.weight"),
], ids=str)  # fmt: skip
def test_a_checkpoint_that_is_not_whole_is_one_sentence(images, tmp_path, tensors, about, part):
    run(images, out=tmp_path)
    rewritten(tmp_path / ckpt.CHECKPOINT, tensors, **about)
    with pytest.raises(InputError, match=f"is damaged: its '{part}' is missing or does not fit"):
        run(images, out=tmp_path, resume=True)


@pytest.mark.parametrize("wrong", ["nan", "inf", "-inf"])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(images, tmp_path, wrong):
    count = 0

    def step(model, x1, x2):
        nonlocal count
        count += 1
        return train_step(model, x1, x2) * (float(wrong) if count > 7 else 1)

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


@pytest.mark.cuda
def test_cuda_trains_and_resumes_on_the_same_curve(images, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    whole = fit(RECIPE.build(), images, RECIPE, device="cuda", progress=False)
    with pytest.raises(Stop):
        fit(RECIPE.build(), images, RECIPE, device="cuda", progress=False, out=tmp_path, callback=stop_at(6))
    resumed = fit(RECIPE.build(), images, RECIPE, device="cuda", progress=False, out=tmp_path, resume=True)
    assert resumed["loss"] == pytest.approx(whole["loss"], abs=1e-3)
