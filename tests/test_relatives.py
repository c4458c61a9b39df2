"""The relatives: losses held against lightly's, targets without a gradient, and methods that are what they say."""

from __future__ import annotations

import copy
import inspect
import math
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import BarlowTwinsLoss, NTXentLoss, SwaVLoss, VICRegLoss
from lightly.loss.swav_loss import sinkhorn as lightlys_sinkhorn
from torch import nn

from simsiam_course import checkpoint as ckpt
from simsiam_course import relatives
from simsiam_course import train as train_module
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.loss import negative_cosine, symmetric_loss
from simsiam_course.model import SimSiam, method_facts, tiny
from simsiam_course.recipe import Recipe
from simsiam_course.relatives import (
    FORMULAS,
    METHODS,
    Relative,
    TargetNetwork,
    alternating_step,
    bank_loss,
    barlow_twins_loss,
    cross_correlation,
    momentum_update,
    moving_average,
    nt_xent,
    off_diagonal_term,
    sinkhorn,
    vicreg_loss,
)
from simsiam_course.train import Trainer, fit, train_step

B, D = 24, 6
BANK = 256
SMALL = {"projection_dim": 64, "hidden_dim": 64, "predictor_hidden_dim": 16, "bank_size": BANK}
RUN = {**SMALL, "batch_size": 32, "epochs": 2, "warmup_steps": 2, "lr": 0.2}
TARGETS = {
    "alternating": {"method": "alternating", "target_every": 3},
    "moving_average": {"method": "moving_average", "predictor": "none", "target_momentum": 0.8},
}
EVERY = {**FORMULAS, **TARGETS}
OWN = [name for name in EVERY if name != "simsiam"]  # those with a loss of their own
SECOND_NETWORK = ["alternating", "moco", "byol"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def z():
    """Projections of two views, with a spread and a mean of their own in every channel."""
    scale, shift = torch.rand(D).double() + 0.5, torch.randn(D).double()
    common = torch.randn(B, D).double()
    return [(common + 0.5 * torch.randn(B, D).double()) * scale + shift for _ in range(2)]


@pytest.fixture(scope="module")
def images():
    return patterns(256, size=16, seed=5)


def recipe(name: str, **knobs) -> Recipe:
    return Recipe.from_dict({**RUN, **EVERY[name], **knobs})


def trainer(name: str, images, **knobs) -> Trainer:
    made = recipe(name, **knobs)
    return Trainer(made.build(), images, made, device="cpu")


def losses(run: Trainer, steps: int) -> list[float]:
    return [float(run.advance()) for _ in range(steps)]


def views(n: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two views of n images, and which of the set they are."""
    return torch.randn(n, 3, 16, 16), torch.randn(n, 3, 16, 16), torch.arange(n)


def weights(*parts: nn.Module) -> list[torch.Tensor]:
    return [w.detach().clone() for part in parts for w in part.parameters()]


def equal(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def agree(ours, theirs, z) -> None:
    """The same value, and the same gradient for both views."""
    found = []
    for loss in (ours, theirs):
        leaves = [y.clone().requires_grad_() for y in z]
        value = loss(*leaves)
        value.sum().backward()
        found.append([value.detach().squeeze(), *(leaf.grad for leaf in leaves)])
    assert found[0][1].norm() > 1e-4
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


# --- the losses, held against lightly's


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_is_lightlys(z, temperature):
    agree(lambda *y: nt_xent(*y, temperature=temperature), NTXentLoss(temperature), z)


def test_nt_xent_of_two_images_by_hand():
    z = torch.eye(2)  # at each of the four: the partner at cosine 1, the two others at 0
    assert nt_xent(z, z, temperature=1.0).item() == pytest.approx(-math.log(math.e / (math.e + 2)))
    assert nt_xent(z, 7 * z, temperature=1.0) == nt_xent(z, z, temperature=1.0)  # lengths do not matter


def test_nt_xent_compares_with_the_keys_and_never_with_ones_own(z):
    k1, k2 = (torch.randn(B, D).double() for _ in range(2))
    q = F.normalize(torch.cat(z), dim=1)
    k = F.normalize(torch.cat([k1, k2]), dim=1)
    by_hand = []
    for i in range(2 * B):
        odds = {j: (q[i] @ k[j] / 0.3).exp() for j in range(2 * B) if j != i}
        by_hand.append(-(odds[(i + B) % (2 * B)] / sum(odds.values())).log())
    torch.testing.assert_close(nt_xent(*z, temperature=0.3, keys=(k1, k2)), torch.stack(by_hand).mean())
    torch.testing.assert_close(nt_xent(*z, keys=tuple(z)), nt_xent(*z))


@pytest.mark.parametrize("temperature", [0, -0.5, math.nan])
def test_a_temperature_not_above_zero_is_refused(z, temperature):
    with pytest.raises(InputError, match="temperature is .*, expected a finite number above 0"):
        nt_xent(*z, temperature=temperature)


def test_the_loss_of_the_bank_is_lightlys_and_no_gradient_reaches_keys(z):
    theirs = NTXentLoss(0.2, memory_bank_size=(16, D)).double()
    bank = theirs.memory_bank.bank.double().clone()
    q, k = z[0].requires_grad_(), z[1].requires_grad_()
    expected = theirs(q, k.detach())
    gradient = torch.autograd.grad(expected, q)[0]
    loss = bank_loss(q, k, bank, temperature=0.2)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(q.grad, gradient)
    assert k.grad is None and bank.grad is None


def test_the_loss_of_the_bank_at_chance_is_the_log_of_the_number_of_keys():
    one = torch.ones(3, D)
    assert bank_loss(one, one, F.normalize(one, dim=1).repeat(5, 1)).item() == pytest.approx(math.log(1 + 15))


def test_sinkhorn_is_lightlys(z):
    scores = torch.rand(B, 5).double()
    torch.testing.assert_close(sinkhorn(scores), lightlys_sinkhorn(scores))
    torch.testing.assert_close(
        sinkhorn(scores, epsilon=0.5, iterations=7), lightlys_sinkhorn(scores, iterations=7, epsilon=0.5)
    )


def test_sinkhorn_gives_every_image_one_and_every_prototype_the_same_share():
    scores = torch.rand(B, 5).double()
    scores[:, 2] += 0.5  # which all images like best
    q = sinkhorn(scores, iterations=200)
    torch.testing.assert_close(sinkhorn(scores).sum(dim=1), torch.ones(B).double())
    torch.testing.assert_close(q.sum(dim=1), torch.ones(B).double())
    torch.testing.assert_close(q.sum(dim=0), torch.full((5,), B / 5).double())
    assert (scores / 0.05).softmax(dim=1)[:, 2].sum() > 3 * B / 5  # without it, that one takes most


def test_sinkhorn_does_not_mind_large_scores_and_refuses_an_epsilon_of_zero():
    scores = torch.rand(B, 5)
    torch.testing.assert_close(sinkhorn(scores + 100), sinkhorn(scores), atol=1e-3, rtol=1e-3)
    assert not lightlys_sinkhorn(scores + 100).isfinite().all()
    with pytest.raises(InputError, match="epsilon is 0, expected"):
        sinkhorn(scores, epsilon=0)


def test_the_cross_correlation_is_torchs(z):
    z1, z2 = (100 * y for y in z)  # so that the 1e-5 below the root does not count
    theirs = torch.corrcoef(torch.cat([z1, z2], dim=1).T)
    torch.testing.assert_close(cross_correlation(z1, z2), theirs[:D, D:], atol=1e-6, rtol=0)
    constant = torch.ones_like(z1)  # goes with nothing, and is no division by zero
    assert cross_correlation(constant, z1).abs().max() < 1e-5


def test_the_off_diagonal_term_is_the_sum_of_the_squares_beside_the_diagonal():
    assert off_diagonal_term(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).item() == 4 + 9
    assert off_diagonal_term(5 * torch.eye(3)).item() == 0


@pytest.mark.parametrize("weight", [0.0, 5e-3, 1.0])
def test_the_loss_of_barlow_twins_is_lightlys(z, weight):
    agree(lambda *y: barlow_twins_loss(*y, off_diagonal_weight=weight), BarlowTwinsLoss(weight), z)


def test_barlow_twins_is_content_with_channels_that_agree_and_differ():
    ones = torch.ones(B, 1).double()
    orthogonal = torch.linalg.qr(torch.cat([ones, torch.randn(B, D).double()], dim=1))[0]
    y = 100 * orthogonal[:, 1:]  # to one another, and to the ones: of mean 0
    assert barlow_twins_loss(y, y).item() == pytest.approx(0, abs=1e-6)
    assert barlow_twins_loss(y, -y).item() == pytest.approx(4 * D, abs=1e-4)


@pytest.mark.parametrize("of", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_the_loss_of_vicreg_is_lightlys_in_each_of_its_terms(z, of):
    z = [y * torch.tensor([0.1, 0.3, 0.5, 1, 2, 3]).double() for y in z]  # some channels vary less than 1
    weight = dict(zip(("invariance", "variance", "covariance"), of, strict=True))
    agree(lambda *y: vicreg_loss(*y, **weight), VICRegLoss(*of), z)


def test_vicreg_uses_the_unbiased_variance_and_covariance():
    y = torch.tensor([[0.0, 0.0], [0.6, 0.3]]).double()  # variances .18 and .045; half as much over n
    gaps = [1 - math.sqrt(v + 1e-4) for v in (0.18, 0.045)]
    assert vicreg_loss(y, y, invariance=0, covariance=0, variance=1).item() == pytest.approx(fmean(gaps))
    assert vicreg_loss(y, y, invariance=0, variance=0, covariance=1).item() == pytest.approx(2 * 0.09**2)


# --- the targets


@pytest.mark.parametrize("momentum", [0, 0.5, 1])
def test_the_target_goes_on_to_the_weighted_mean_in_place(momentum):
    target, online = (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)) for _ in range(2))
    before, there, now = weights(target), weights(online), list(target.parameters())
    momentum_update(target, online, momentum)
    for old, new, w in zip(before, there, target.parameters(), strict=True):
        expected = momentum * old + (1 - momentum) * new
        assert torch.equal(w, expected) if momentum in (0, 1) else torch.allclose(w, expected)
    assert all(a is b for a, b in zip(now, target.parameters(), strict=True))
    assert equal(weights(online), there)
    assert all(w.grad_fn is None and w.grad is None for part in (target, online) for w in part.parameters())


def test_the_running_statistics_of_bn_are_no_weights():
    target, online = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    online(torch.randn(8, 3) + 5)
    momentum_update(target, online, 0)
    assert torch.equal(target.running_mean, torch.zeros(3)) and online.running_mean.min() > 0


@pytest.mark.parametrize("momentum", [-0.01, 1.01, math.nan])
def test_a_momentum_outside_zero_to_one_is_refused(momentum):
    layer = nn.Linear(2, 2)
    with pytest.raises(InputError, match="momentum is .*, expected a finite number at least 0 and at most 1"):
        momentum_update(layer, nn.Linear(2, 2), momentum)


def test_networks_of_different_shape_are_not_averaged():
    with pytest.raises(ValueError):
        momentum_update(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), 0.5)


def test_a_target_network_is_f_at_first_and_no_gradient_reaches_it():
    model = SimSiam.create(tiny((4, 4, 4, 8)), 8, 12, 16, 6)
    target, (x1, x2, _) = TargetNetwork(model.backbone, model.projector), views()
    x1.requires_grad_()
    assert torch.equal(target(x1), model.encode(x1)) and not target(x1).requires_grad
    own = {w.data_ptr() for w in target.parameters()}
    assert not own & {w.data_ptr() for w in model.parameters()}
    (target(x1) * model.encode(x2)).sum().backward()
    assert all(w.grad is None and not w.requires_grad for w in target.parameters())
    assert x1.grad is None and model.projector[0].weight.grad is not None


def test_a_moving_average_starts_with_what_it_sees_first():
    eta, seen = torch.ones(2, 2), torch.tensor([[True], [False]])
    z = torch.tensor([[0.0, 2.0], [0.0, 2.0]], requires_grad=True)
    average = moving_average(eta, z, seen, 0.75)
    assert average.tolist() == [[0.75, 1.25], [0.0, 2.0]] and not average.requires_grad


# --- what the methods have in common


def test_the_formulas_say_the_same_as_the_words():
    """A line "Name  SimSiam - part + ..." of the module's text, and the knobs under that name."""
    said = {}
    for line in (relatives.__doc__ or "").splitlines():
        name, _, formula = line.strip().partition("  ")
        if formula.strip().startswith("SimSiam"):
            said[name.lower().replace(" ", "_")] = formula
    assert list(said) == ["simclr", "byol", "swav", "barlow_twins", "vicreg"]
    for name, formula in said.items():
        model = recipe(name).build()
        assert ("- predictor" in formula) == isinstance(model.predictor, nn.Identity), name
        assert ("- stop-gradient" in formula) == (model.stop_gradient == "none"), name
        assert ("+ a momentum encoder" in formula) == ("target" in dict(model.named_children())), name
        assert ("+ clusters" in formula) == ("prototypes" in dict(model.named_children())), name
        assert ("+ negatives" in formula) == ("negatives" in model.PARTS), name


@pytest.mark.parametrize("name", FORMULAS)
def test_each_method_has_what_its_facts_say(name):
    facts, model = method_facts(name), recipe(name).build()
    assert type(model) is METHODS[name]
    assert ("bank" in dict(model.named_buffers())) == facts.requires_memory_bank
    assert ("target" in dict(model.named_children())) == facts.uses_momentum_encoder
    assert ("negatives" in getattr(model, "PARTS", ())) == facts.uses_negatives
    assert ("prototypes" in dict(model.named_children())) == (facts.category == "clustering")
    assert isinstance(model.predictor, nn.Identity) == (facts.category != "distillation")


def test_there_is_a_formula_for_every_method_there_are_facts_on():
    assert [method_facts(name).name for name in FORMULAS] == [
        "SimSiam", "SimCLR", "MoCo", "BYOL", "SwAV", "Barlow Twins", "VICReg",
    ]  # fmt: skip
    assert METHODS.keys() == EVERY.keys()


@pytest.mark.parametrize("name", OWN)
def test_backbone_and_projector_start_as_simsiams_do(name):
    ours, simsiams = (recipe(of, output_bn="affine_free").build() for of in (name, "simsiam"))
    assert equal(weights(ours.backbone, ours.projector), weights(simsiams.backbone, simsiams.projector))


@pytest.mark.parametrize("init", ["default", "he"])
@pytest.mark.parametrize("name", SECOND_NETWORK)
def test_the_second_network_starts_as_the_first(name, init):
    model = recipe(name, init=init).build()
    assert equal(weights(model.target), weights(model.backbone, model.projector))


@pytest.mark.parametrize("name", SECOND_NETWORK)
def test_the_optimiser_does_not_know_the_second_network(name, images):
    run = trainer(name, images, target_momentum=1.0, target_every=1_000)
    before = weights(run.model.target)
    trained = {id(w) for group in run.optimizer.param_groups for w in group["params"]}
    assert not trained & {id(w) for w in run.model.target.parameters()}
    assert trained == {id(w) for part in (run.model.backbone, run.model.projector, run.model.predictor)
                       for w in part.parameters()}  # fmt: skip
    losses(run, 2)
    assert equal(before, weights(run.model.target))
    assert not equal(before, weights(run.model.backbone, run.model.projector))


@pytest.mark.parametrize("name", EVERY)
def test_each_learns_what_its_own_loss_asks_for(name, images):
    curve = losses(trainer(name, images, batch_size=64, epochs=8, warmup_steps=5, target_momentum=0.99), 32)
    assert all(map(math.isfinite, curve))
    assert fmean(curve[-4:]) < fmean(curve[4:8]) - 0.02  # from where the bank is full


def test_the_defaults_are_those_of_a_recipe():
    given = inspect.signature(Relative.__init__).parameters
    knobs = ("without", "temperature", "target_momentum", "target_every", "bank_size")
    assert {name: given[name].default for name in knobs} == {name: getattr(Recipe(), name) for name in knobs}


@pytest.mark.parametrize("name", EVERY)
def test_a_checkpoint_resumes_on_the_very_same_curve(name, images, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(row, model):
        if row["step"] == 4:
            raise Stop

    def run(**options):
        made = recipe(name, epochs=1, monitor_every=2)
        model = made.build()
        return model, fit(model, images, made, device="cpu", progress=False, **options)["loss"]

    model, whole = run()
    monkeypatch.setattr(train_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)  # one after every step
    with pytest.raises(Stop):
        run(out=tmp_path, callback=stop)
    resumed_model, resumed = run(out=tmp_path, resume=True)
    assert resumed == whole and len(whole) == 4
    assert equal(model.state_dict().values(), resumed_model.state_dict().values())
    loaded, _, _ = ckpt.load_run(tmp_path)
    assert type(loaded) is METHODS[EVERY[name].get("method", "simsiam")]


@pytest.mark.parametrize("part", [
    (name, part) for name in OWN for part in METHODS[name].PARTS
], ids=" without ".join)  # fmt: skip
def test_a_part_left_out_changes_the_curve(part, images):
    name, without = part
    with_it, without_it = (losses(trainer(name, images, without=w), 3) for w in ("", without))
    assert with_it[2] != without_it[2]
    second_network_only = without == "momentum"  # which at first is the first
    assert (with_it[0] == without_it[0]) == second_network_only


@pytest.mark.parametrize("name, part", [("byol", "negatives"), ("simclr", "momentum"), ("moco", "sinkhorn")])
def test_a_part_that_a_method_does_not_have_is_told_with_those_it_has(name, part):
    says = f"without is '{part}', expected one of .*{METHODS[name].PARTS[0]}"
    with pytest.raises(InputError, match=says):
        recipe(name, without=part)
    with pytest.raises(InputError, match=says):
        METHODS[name].create(tiny((4, 4, 4, 8)), 8, 12, 16, 6, without=part)


@pytest.mark.parametrize("knob, value", [
    ("temperature", 0), ("target_momentum", 1.5), ("target_every", 0), ("bank_size", 0), ("bank_size", 2.5),
])  # fmt: skip
def test_a_knob_out_of_range_is_told_with_what_was_expected(knob, value):
    with pytest.raises(InputError, match=f"^{knob} is {value}, expected"):
        METHODS["moco"].create(tiny((4, 4, 4, 8)), 8, 12, 16, 6, **{knob: value})


def test_a_relative_must_know_the_width_of_z():
    with pytest.raises(InputError, match="BYOL must know the width of z: make it with `create`"):
        METHODS["byol"](nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 4))


def test_a_relative_without_a_loss_of_its_own_is_unfinished():
    model = Relative.create(tiny((4, 4, 4, 8)), 8, 12, 16, 6)
    with pytest.raises(NotImplementedError):
        model.loss(*views())


# --- one by one


@pytest.mark.parametrize("name, knobs", [
    ("alternating", {"target_every": 1}), ("byol", {"without": "momentum"}), ("byol", {"target_momentum": 0.0}),
])  # fmt: skip
def test_it_is_simsiam_step_for_step(name, knobs, images):
    ours, simsiams = trainer(name, images, **knobs), trainer("simsiam", images)
    assert losses(ours, 6) == losses(simsiams, 6)
    for part in ("backbone", "projector", "predictor"):
        assert equal(weights(getattr(ours.model, part)), weights(getattr(simsiams.model, part)))


def test_alternation_renews_its_target_at_every_third_step_only(images):
    run = trainer("alternating", images, target_every=3)
    model = run.model
    changes, follows = [], []
    for _ in range(8):
        old, f = weights(model.target), weights(model.backbone, model.projector)
        run.advance()
        changes.append(not equal(old, weights(model.target)))
        follows.append(equal(f, weights(model.target)))
    assert changes == [False, False, False, True, False, False, True, False]
    assert follows == [True, False, False, True, False, False, True, False]


def test_a_step_of_alternation_is_the_loss_against_the_older_f():
    model, (x1, x2, _) = recipe("simsiam").build(), views()
    target = TargetNetwork(recipe("simsiam", seed=1).build().backbone, model.projector)
    old = weights(target)
    p1, p2, _, _ = model(x1, x2)
    expected = negative_cosine(p1, target(x2)) / 2 + negative_cosine(p2, target(x1)) / 2
    torch.testing.assert_close(alternating_step(model, target, x1, x2, step=2, every=3), expected)
    assert equal(old, weights(target))
    renewed = alternating_step(model, target, x1, x2, step=3, every=3)
    torch.testing.assert_close(renewed, train_step(model, x1, x2))
    assert equal(weights(target), weights(model.backbone, model.projector))


def test_the_moving_average_remembers_what_it_saw_and_that_alone():
    model, (x1, x2, _) = recipe("moving_average").build(), views()
    chosen = torch.tensor([3, 1, 200, 7, 9, 0, 255, 4])
    _, _, z1, z2 = model(x1, x2)
    first = model.loss(x1, x2, chosen)
    torch.testing.assert_close(first, symmetric_loss(z1, z2, z1, z2))  # nothing seen yet: the targets are z
    mean = (z1 + z2).detach() / 2
    torch.testing.assert_close(model.eta[chosen], mean)
    others = torch.ones(BANK, dtype=torch.bool).index_fill(0, chosen, False)
    assert model.seen[chosen].all() and not model.seen[others].any() and not model.eta[others].any()

    y1, y2, _ = views()
    _, _, z1, z2 = model(y1, y2)
    targets = [0.8 * mean + 0.2 * z for z in (z1, z2)]
    expected = negative_cosine(z1, targets[1]) / 2 + negative_cosine(z2, targets[0]) / 2
    torch.testing.assert_close(model.loss(y1, y2, chosen), expected)
    torch.testing.assert_close(model.eta[chosen], 0.8 * mean + 0.1 * (z1 + z2).detach())
    assert not model.eta.requires_grad


def test_the_moving_average_needs_a_row_for_every_image(images):
    with pytest.raises(
        InputError, match="bank has 255 rows for 256 training images, and each needs one: give"
    ):
        trainer("moving_average", images, bank_size=255, batch_size=256, epochs=1)


def test_simclr_compares_z_with_z_unless_there_is_a_predictor_and_a_stop_gradient():
    (x1, x2, chosen) = views()
    plain = recipe("simclr").build()
    _, _, z1, z2 = plain(x1, x2)
    torch.testing.assert_close(plain.loss(x1, x2, chosen), nt_xent(z1, z2, temperature=0.2))
    for stop in ("target", "none"):
        model = recipe("simclr", predictor="mlp", stop_gradient=stop).build()
        p1, p2, z1, z2 = model(x1, x2)
        keys = (z1.detach(), z2.detach()) if stop == "target" else (z1, z2)
        expected = nt_xent(p1, p2, temperature=0.2, keys=keys)
        loss = model.loss(x1, x2, chosen)
        torch.testing.assert_close(loss, expected)
        w = model.projector[0].weight
        torch.testing.assert_close(torch.autograd.grad(loss, w)[0], torch.autograd.grad(expected, w)[0])


def test_simclr_without_negatives_only_agrees():
    model, (x1, x2, chosen) = recipe("simclr", without="negatives").build(), views()
    _, _, z1, z2 = model(x1, x2)
    torch.testing.assert_close(model.loss(x1, x2, chosen), negative_cosine(z1, z2, stop_gradient=False))


def test_mocos_loss_is_of_the_bank_as_it_was_and_each_view_is_query_and_key():
    model, (x1, x2, chosen) = recipe("moco").build(), views()
    bank = model.bank.clone()
    _, _, q1, q2 = model(x1, x2)
    k1, k2 = model.target(x1), model.target(x2)
    loss = model.loss(x1, x2, chosen)
    torch.testing.assert_close(loss, bank_loss(q1, k2, bank) / 2 + bank_loss(q2, k1, bank) / 2)
    torch.testing.assert_close(model.bank[:16], F.normalize(torch.cat([k1, k2]), dim=1))
    assert torch.equal(model.bank[16:], bank[16:]) and model.place == 16
    loss.backward()  # the bank has changed since


def test_moco_without_negatives_only_agrees_with_its_target():
    model, (x1, x2, chosen) = recipe("moco", without="negatives").build(), views()
    bank = model.bank.clone()
    _, _, q1, q2 = model(x1, x2)
    expected = symmetric_loss(q1, q2, model.target(x1), model.target(x2))
    torch.testing.assert_close(model.loss(x1, x2, chosen), expected)
    assert torch.equal(model.bank, bank)


def test_the_bank_is_a_queue_the_oldest_go_first():
    model = recipe("moco", bank_size=5).build()
    keys = F.normalize(torch.randn(17, 64), dim=1)
    first = model.bank.clone()
    torch.testing.assert_close(first.norm(dim=1), torch.ones(5))
    model.remember(3 * keys[:3])  # lengths do not matter
    torch.testing.assert_close(model.bank, torch.cat([keys[:3], first[3:]]))
    model.remember(keys[3:6])  # two at the end, one in the place of the oldest
    torch.testing.assert_close(model.bank, torch.cat([keys[5:6], keys[1:5]]))
    model.remember(keys[6:8])
    torch.testing.assert_close(model.bank, torch.cat([keys[5:8], keys[3:5]]))
    model.remember(keys[8:17])  # more than there are places: the last five stay
    last = F.normalize(keys[12:17], dim=1)
    assert sorted(model.bank.tolist()) == sorted(last.tolist())


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_the_momentum_encoder_follows_before_every_step(name, images):
    run = trainer(name, images, target_momentum=0.9)
    run.advance()
    old, f = weights(run.model.target), weights(run.model.backbone, run.model.projector)
    assert not equal(old, f)
    run.advance()
    for before, online, now in zip(old, f, weights(run.model.target), strict=True):
        torch.testing.assert_close(now, 0.9 * before + 0.1 * online)


def test_byols_targets_are_the_momentum_encoders():
    model, (x1, x2, chosen) = recipe("byol", target_momentum=1.0).build(), views()
    with torch.no_grad():
        for w in model.target.parameters():
            w.add_(0.1 * torch.randn_like(w))
    p1, p2, z1, z2 = model(x1, x2)
    expected = negative_cosine(p1, model.target(x2)) / 2 + negative_cosine(p2, model.target(x1)) / 2
    torch.testing.assert_close(model.loss(x1, x2, chosen), expected)
    assert (expected - symmetric_loss(p1, p2, z1, z2)).abs() > 1e-3


def scores_of(model, x1, x2) -> list[torch.Tensor]:
    """Cosines of the two views' z with the prototypes. Shapes: (B, K) twice."""
    prototypes = F.normalize(model.prototypes.weight, dim=1)
    return [F.normalize(y, dim=1) @ prototypes.T for y in model(x1, x2)[2:]]


def test_the_loss_of_swav_is_lightlys():
    model, (x1, x2, chosen) = recipe("swav").build(), views(16)
    expected = SwaVLoss(temperature=0.2)(scores_of(model, x1, x2), []).squeeze()
    loss = model.loss(x1, x2, chosen)
    torch.testing.assert_close(loss, expected)
    for part in (model.backbone[0], model.projector[0]):
        ours, theirs = (torch.autograd.grad(of, part.weight, retain_graph=True)[0] for of in (loss, expected))
        assert ours.norm() > 1e-5
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_swavs_prototypes_have_length_one_and_learn(images):
    run = trainer("swav", images)
    prototypes = run.model.prototypes.weight
    before = F.normalize(prototypes.detach(), dim=1)
    run.advance()
    assert (F.normalize(prototypes.detach(), dim=1) - before).norm() > 1e-4
    run.model.loss(*views())
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(100))


@pytest.mark.parametrize("stop", ["target", "none"])
def test_swavs_stop_gradient_is_on_the_assignments(stop):
    model, (x1, x2, chosen) = recipe("swav", stop_gradient=stop).build(), views()
    s1, s2 = scores_of(model, x1, x2)
    codes = [sinkhorn(s.detach() if stop == "target" else s) for s in (s1, s2)]
    foretold = [(s / 0.2).log_softmax(dim=1) for s in (s2, s1)]  # each by the other view
    expected = sum(-(q * log).sum(dim=1).mean() / 2 for q, log in zip(codes, foretold, strict=True))
    loss, w = model.loss(x1, x2, chosen), model.projector[0].weight
    torch.testing.assert_close(loss, expected)
    ours, by_hand = (torch.autograd.grad(of, w)[0] for of in (loss, expected))
    torch.testing.assert_close(ours, by_hand, atol=1e-6, rtol=1e-4)


def test_swav_without_sinkhorn_lets_one_prototype_take_all():
    scores = torch.rand(B, 100)
    scores[:, 2] += 2
    with_it, without_it = (recipe("swav", without=part).build().assign(scores) for part in ("", "sinkhorn"))
    torch.testing.assert_close(without_it, (scores / 0.05).softmax(dim=1))
    assert with_it[:, 2].sum() < 0.1 * B < 0.9 * B < without_it[:, 2].sum()


@pytest.mark.parametrize("without, weight", [("", 5e-3), ("decorrelation", 0.0)])
def test_the_loss_of_barlow_twins_is_per_channel(without, weight):
    model, (x1, x2, chosen) = recipe("barlow_twins", without=without).build(), views()
    _, _, z1, z2 = model(x1, x2)
    expected = barlow_twins_loss(z1, z2, off_diagonal_weight=weight) / 64
    torch.testing.assert_close(model.loss(x1, x2, chosen), expected)


@pytest.mark.parametrize("without", ["", "variance", "covariance"])
def test_the_loss_of_vicreg_is_in_units_of_its_first_weight(without):
    model, (x1, x2, chosen) = recipe("vicreg", without=without).build(), views()
    _, _, z1, z2 = model(x1, x2)
    expected = vicreg_loss(z1, z2, **({without: 0.0} if without else {})) / 25
    torch.testing.assert_close(model.loss(x1, x2, chosen), expected)
    assert not torch.isclose(expected, vicreg_loss(z1, z2) / 25) or not without


def test_a_copy_of_a_relative_has_a_target_of_its_own():
    model = recipe("byol").build()
    twin = copy.deepcopy(model)
    twin.follow(0.0)
    with torch.no_grad():
        twin.target.encoder[0][0].weight.zero_()
    assert model.target.encoder[0][0].weight.any()


@pytest.mark.cuda
@pytest.mark.parametrize("name", OWN)
def test_on_cuda_each_has_the_losses_it_has_on_the_cpu(name):
    curves = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(1)
        model, batch = recipe(name).build().to(device), [x.to(device) for x in views()]
        curves.append([float(model.loss(*batch)) for _ in range(2)])
    assert curves[1] == pytest.approx(curves[0], abs=1e-2)
