from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
from torch import nn

from simsiam_course.errors import InputError
from simsiam_course.heads import directpred_weight
from simsiam_course.loss import negative_cosine, symmetric_loss
from simsiam_course.model import (
    BACKBONES,
    OUTPUT_BN,
    PREDICTORS,
    STOP_GRADIENT,
    DirectPred,
    SimSiam,
    create_backbone,
    identity_predictor,
    method_facts,
    predictor,
    projector,
    tiny,
)

NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(**switches) -> SimSiam:
    """A SimSiam of a few thousand weights: 8 features, z of 12 channels."""
    return SimSiam.create(tiny((4, 4, 4, 8)), 8, 12, 16, 6, **switches)


def views(n: int = 8, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 3, size, size), torch.randn(n, 3, size, size)


def count(module: nn.Module) -> int:
    return sum(w.numel() for w in module.parameters())


def loss_of(model: SimSiam, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    return symmetric_loss(*model(x1, x2), stop_gradient=model.stop_gradient)


def learns(module: nn.Module) -> bool:
    return any(w.grad is not None and bool(w.grad.norm() > 0) for w in module.parameters())


# --- backbones


@pytest.mark.parametrize("name, dim, parameters", [
    ("tiny", 128, 70_784), ("tiny_half", 64, 17_856), ("tiny_double", 256, 281_856),
    ("resnet18", 512, 11_168_832), ("resnet50", 2048, 23_500_352),
])  # fmt: skip
def test_a_backbone_gives_as_many_features_as_it_says(name, dim, parameters):
    backbone, says = create_backbone(name)
    assert says == dim and count(backbone) == parameters
    assert backbone.eval()(torch.randn(2, 3, 32, 32)).shape == (2, dim)


@pytest.mark.parametrize("name, scale", [("tiny_half", 0.5), ("tiny_double", 2)])
def test_half_and_double_are_tiny_with_other_widths(name, scale):
    def widths(backbone):
        return [part.out_channels for part in backbone if isinstance(part, nn.Conv2d)]

    default, scaled = (create_backbone(of)[0] for of in ("tiny", name))
    assert [type(part) for part in default] == [type(part) for part in scaled]
    assert widths(scaled) == [scale * width for width in widths(default)]


def test_tiny_takes_images_from_eight_pixels_up_and_other_widths():
    for size in (8, 28, 96):
        assert tiny((4, 4, 4, 8))(torch.randn(2, 3, size, size)).shape == (2, 8)


@pytest.mark.parametrize("name, last_bn", [("resnet18", "bn2"), ("resnet50", "bn3")])
def test_every_residual_block_starts_as_the_identity(name, last_bn):
    backbone, _ = create_backbone(name)
    blocks = [block for layer in range(1, 5) for block in getattr(backbone, f"layer{layer}")]
    assert all(getattr(block, last_bn).weight.eq(0).all() for block in blocks)


def test_the_cifar_stem_keeps_the_resolution_and_the_imagenet_stem_quarters_it():
    seen = {}
    for stem in (True, False):
        backbone, _ = create_backbone("resnet18", cifar_stem=stem)
        up_to_layer1 = nn.Sequential(*list(backbone.children())[:5])
        seen[stem] = tuple(up_to_layer1.eval()(torch.randn(1, 3, 32, 32)).shape)
    assert seen == {True: (1, 64, 32, 32), False: (1, 64, 8, 8)}


@pytest.mark.parametrize("widths, says", [((), "no widths"), ((4, 0), r"widths\[1\] is 0")])
def test_tiny_needs_a_width_for_each_block(widths, says):
    with pytest.raises(InputError, match=says):
        tiny(widths)


# --- heads, held against lightly's


def same_weights(ours: nn.Module, theirs: nn.Module) -> None:
    values = list(ours.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))


@pytest.mark.parametrize("train", [True, False])
def test_the_projector_is_lightlys(train):
    ours, theirs = projector(20, 32, 24), SimSiamProjectionHead(20, 32, 24)
    same_weights(ours, theirs)
    y = torch.randn(8, 20)
    torch.testing.assert_close(ours.train(train)(y), theirs.train(train)(y))


@pytest.mark.parametrize("train", [True, False])
def test_the_predictor_is_lightlys(train):
    ours, theirs = predictor(24, 6), SimSiamPredictionHead(24, 6, 24)
    same_weights(ours, theirs)
    z = torch.randn(8, 24)
    torch.testing.assert_close(ours.train(train)(z), theirs.train(train)(z))


def test_the_projectors_size():
    first, hidden, last = 8 * 16 + 32, 16 * 16 + 32, 16 * 12
    assert count(projector(8, 16, 12, layers=2)) == first + last
    assert count(projector(8, 16, 12, layers=3)) == first + hidden + last


def test_the_output_bn_decides_the_spread_of_z():
    y = 5 * torch.randn(256, 8)
    for output_bn in OUTPUT_BN:
        z = projector(8, 16, 12, output_bn=output_bn)(y)
        assert torch.allclose(z.std(dim=0), torch.ones(12), atol=0.01) == (output_bn != "none")
    assert isinstance(projector(8, 16, 12, output_bn="none")[-1], nn.Linear)
    assert count(projector(8, 16, 12, output_bn="affine")) - count(projector(8, 16, 12)) == 2 * 12


@pytest.mark.parametrize("layers", [2, 3])
def test_without_hidden_bn_the_projector_has_biases_instead(layers):
    head = projector(8, 16, 12, layers=layers, hidden_bn=False)
    linear = [part for part in head if isinstance(part, nn.Linear)]
    assert [part.bias is not None for part in linear] == [True, True, False][
        3 - layers :
    ]  # BN after the last
    assert [type(part).__name__ for part in head] == ["Linear", "ReLU"] * (layers - 1) + [
        "Linear",
        "BatchNorm1d",
    ]
    none = projector(8, 16, 12, layers=layers, hidden_bn=False, output_bn="none")
    assert not any(isinstance(part, nn.BatchNorm1d) for part in none) and none[-1].bias is not None


def test_bn_on_p_gives_every_channel_mean_zero_and_spread_one():
    h = predictor(12, 6, output_bn=True)
    p = h(5 * torch.randn(256, 12))
    torch.testing.assert_close(p.mean(dim=0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(p.std(dim=0), torch.ones(12), atol=0.05, rtol=0)
    assert count(h) == count(predictor(12, 6)) + 2 * 12
    model = small(predictor_output_bn=True, hidden_bn=False, predictor_bn=False)
    kinds = [[type(part).__name__ for part in head] for head in (model.projector, model.predictor)]
    assert kinds == [["Linear", "ReLU", "Linear", "ReLU", "Linear", "BatchNorm1d"],
                     ["Linear", "ReLU", "Linear", "BatchNorm1d"]]  # fmt: skip


@pytest.mark.parametrize("kind, parameters, trained", [
    ("mlp", 12 * 6 + 12 + 6 * 12 + 12, True), ("frozen", 12 * 6 + 12 + 6 * 12 + 12, False),
    ("none", 0, False), ("bias", 12, True), ("linear", 12 * 12 + 12, True), ("directpred", 0, False),
])  # fmt: skip
def test_the_predictors_sizes(kind, parameters, trained):
    h = predictor(12, 6, kind=kind)
    assert count(h) == parameters
    assert any(w.requires_grad for w in h.parameters()) == trained
    assert h(torch.randn(8, 12)).shape == (8, 12)


# --- SimSiam


def test_the_papers_dimensions_are_the_default():
    model = SimSiam.create(tiny((4, 4, 4, 8)), 8)
    assert model.dims == (8, 2048, 2048, 512)
    assert [m.out_features for m in model.projector if isinstance(m, nn.Linear)] == [2048, 2048, 2048]
    assert [m.out_features for m in model.predictor if isinstance(m, nn.Linear)] == [512, 2048]


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("kind", PREDICTORS)
def test_forward_gives_p_and_z_of_both_views(kind, joint):
    outputs = small(predictor=kind, joint=joint)(*views())
    assert [tuple(o.shape) for o in outputs] == [(8, 12)] * 4


def test_p_is_h_of_z_and_z_is_the_projection_of_the_features():
    model, (x1, x2) = small().eval(), views()
    p1, p2, z1, z2 = model(x1, x2)
    torch.testing.assert_close(z2, model.projector(model.features(x2)))
    torch.testing.assert_close(z1, model.encode(x1))
    torch.testing.assert_close(p1, model.predictor(z1))
    torch.testing.assert_close(p2, model.predictor(z2))


def test_each_view_has_its_own_batch_statistics_unless_joint():
    x1, x2 = views()
    for joint in (False, True):
        model = small(joint=joint)
        z1, z2 = model(x1, x2 + 3)[2:]
        both = torch.cat([z1, z2])
        assert torch.allclose(z1.mean(dim=0), torch.zeros(12), atol=1e-5) == (not joint)
        assert torch.allclose(both.mean(dim=0), torch.zeros(12), atol=1e-5)
        apart = model.encode(x1), model.encode(x2 + 3)
        assert torch.allclose(z1, apart[0], atol=1e-5) == (not joint)


def test_in_eval_mode_joint_makes_no_difference():
    model, (x1, x2) = small().eval(), views()
    apart = model(x1, x2)
    model.joint = True
    for a, b in zip(apart, model(x1, x2), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("switch, h_learns, f_learns", [
    ("target", True, True), ("none", True, True), ("wrong_side", False, True), ("both", False, False),
])  # fmt: skip
def test_who_learns_under_each_switch(switch, h_learns, f_learns):
    model = small(stop_gradient=switch)
    loss = loss_of(model, *views())
    assert loss.requires_grad == (h_learns or f_learns)
    if loss.requires_grad:
        loss.backward()
    assert learns(model.predictor) == h_learns
    assert learns(model.projector) == learns(model.backbone) == f_learns


def test_without_a_predictor_the_stop_gradient_halves_every_gradient():
    model, (x1, x2) = small(predictor="none").double(), views()
    gradients = {}
    for switch in ("target", "none"):
        model.zero_grad()
        symmetric_loss(*model(x1.double(), x2.double()), stop_gradient=switch).backward()
        gradients[switch] = torch.cat([w.grad.flatten() for w in model.parameters()])
    assert gradients["none"].norm() > 0.01
    torch.testing.assert_close(gradients["target"], gradients["none"] / 2, rtol=1e-6, atol=1e-12)


def test_with_a_predictor_it_does_not():
    model, (x1, x2) = small().double(), views()
    gradients = {}
    for switch in ("target", "none"):
        model.zero_grad()
        symmetric_loss(*model(x1.double(), x2.double()), stop_gradient=switch).backward()
        gradients[switch] = torch.cat([w.grad.flatten() for w in model.backbone.parameters()])
    assert torch.cosine_similarity(gradients["target"], gradients["none"], dim=0) < 0.99


def test_the_identity_predictor_makes_the_loss_of_z_with_itself_minus_one():
    model = SimSiam.create(tiny((4, 4, 4, 8)), 8, 12, 16, 24, predictor_bn=False)
    z = model.encode(views()[0])
    assert negative_cosine(model.predictor(z), z).item() > -0.9
    model.set_identity_predictor()
    torch.testing.assert_close(model.predictor(z), z)
    assert negative_cosine(model.predictor(z), z).item() == pytest.approx(-1, abs=1e-6)
    assert all(w.requires_grad for w in model.predictor.parameters())


@pytest.mark.parametrize("dim", [1, 12])
def test_the_identity_predictor_gives_back_what_it_gets_and_can_be_trained(dim):
    h, z = identity_predictor(dim), 5 * torch.randn(7, dim)
    assert torch.equal(h(z), z)
    assert [m.out_features for m in h if isinstance(m, nn.Linear)] == [2 * dim, dim]
    (h(z) - z - 1).square().sum().backward()
    assert learns(h) and all(w.requires_grad for w in h.parameters())
    with pytest.raises(InputError, match="dim is 0, expected a whole number of at least 1"):
        identity_predictor(0)


@pytest.mark.parametrize("hidden, switches", [
    (24, {}), (12, {"predictor_bn": False}), (24, {"predictor": "none"}), (24, {"predictor": "linear"}),
])  # fmt: skip
def test_no_other_predictor_can_be_made_the_identity(hidden, switches):
    model = SimSiam.create(tiny((4, 4, 4, 8)), 8, 12, 16, hidden, **switches)
    with pytest.raises(InputError, match="cannot be the identity: .* 2 [*] projection_dim and predictor_bn"):
        model.set_identity_predictor()


def test_a_frozen_predictor_gets_no_gradient_and_its_bn_still_works():
    model = small(predictor="frozen")
    weights = [w.clone() for w in model.predictor.parameters()]
    loss_of(model, *views()).backward()
    assert all(w.grad is None for w in model.predictor.parameters()) and learns(model.backbone)
    torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1).step()
    assert all(torch.equal(w, old) for w, old in zip(model.predictor.parameters(), weights, strict=True))
    hidden = model.predictor[:2](7 + 3 * torch.randn(64, 12))
    assert torch.allclose(hidden.mean(dim=0), torch.zeros(6), atol=1e-5)
    assert model.predictor[1].running_mean.norm() > 0


def test_directpred_is_set_by_the_correlation_of_z():
    h = DirectPred(6, rho=0.0, eps=0.01)
    z = torch.randn(512, 6) * torch.tensor([4.0, 2.0, 1.0, 1.0, 0.5, 0.0])
    h.update(z)
    values, U = torch.linalg.eigh(z.double().T @ z.double() / 512)
    W = U @ torch.diag((values.clamp(min=0) / values.max()).sqrt() + 0.01) @ U.T
    torch.testing.assert_close(h.weight.double(), W, atol=1e-3, rtol=0)
    torch.testing.assert_close(h(z), z @ h.weight.T)


def test_directpreds_weight_keeps_the_directions_and_takes_the_root_of_their_share():
    U = torch.linalg.qr(torch.randn(3, 3))[0]
    W = directpred_weight(U * torch.tensor([4.0, 1.0, 0.0]) @ U.T, eps=0.25)
    torch.testing.assert_close(W, U * torch.tensor([1.25, 0.75, 0.25]) @ U.T, atol=1e-3, rtol=0)
    torch.testing.assert_close(W, W.T)
    torch.testing.assert_close(directpred_weight(torch.eye(3)), 1.01 * torch.eye(3))


def test_directpreds_weight_of_what_is_no_correlation_is_finite():
    torch.testing.assert_close(directpred_weight(torch.zeros(3, 3)), 0.01 * torch.eye(3))
    W = directpred_weight(torch.tensor([[NAN, NAN], [NAN, 4.0]]))
    torch.testing.assert_close(W, torch.diag(torch.tensor([0.01, 1.01])))
    negative = directpred_weight(torch.diag(torch.tensor([-1.0, 1.0])))  # rounding noise below 0
    torch.testing.assert_close(negative, torch.diag(torch.tensor([0.01, 1.01])))


def test_directpred_keeps_rho_of_the_past():
    h, z = DirectPred(6, rho=0.3), torch.randn(64, 6)
    h.update(z)
    torch.testing.assert_close(h.correlation, 0.3 * torch.eye(6) + 0.7 * z.T @ z / 64)


def test_directpred_is_updated_once_a_step_in_train_mode_only():
    model, (x1, x2) = small(predictor="directpred"), views()
    model.eval()(x1, x2)
    assert torch.equal(model.predictor.weight, torch.eye(12))
    z1, z2 = model.train()(x1, x2)[2:]
    expected = DirectPred(12)
    expected.update(torch.cat([z1, z2]))
    assert torch.equal(model.predictor.weight, expected.weight)
    loss_of(model, x1, x2).backward()
    assert learns(model.backbone) and "predictor.correlation" in model.state_dict()


def test_directpred_survives_a_diverged_step():
    h = DirectPred(4)
    h.update(torch.full((8, 4), NAN))
    assert h.weight.isfinite().all()


def test_he_initialisation_scales_and_leaves_the_zero_initialised_bns():
    backbone, dim = create_backbone("resnet18")
    model = SimSiam.create(backbone, dim, 512, 512, 128, init="he")
    weight = model.projector[0].weight
    assert weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert model.backbone.layer1[0].bn2.weight.eq(0).all()
    default = SimSiam.create(nn.Flatten(), 512, 512, 512, 128).projector[0].weight
    assert default.std().item() == pytest.approx((1 / 3 / 512) ** 0.5, rel=0.02)


def test_the_default_leaves_a_backbone_as_it_came():
    backbone = tiny()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    SimSiam.create(backbone, 128, 12, 16, 6)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_the_same_seed_gives_the_same_model():
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(small())
    for a, b in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(a, b)


def test_the_pixel_statistics_travel_with_the_weights():
    model, other = small(), small()
    model.pixel_mean.copy_(torch.tensor([0.1, 0.2, 0.3]))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.pixel_mean, model.pixel_mean) and other.pixel_std.tolist() == [0.25] * 3


def test_heads_of_ones_own_need_no_dims():
    model = SimSiam(nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 4))
    assert [o.shape for o in model(torch.randn(5, 6), torch.randn(5, 6))] == [(5, 4)] * 4
    assert "6 -> 4" in repr(model)


def test_the_repr_teaches():
    text = repr(small(stop_gradient="none", predictor="frozen"))
    assert len(text.splitlines()) == 6
    for part in ("images -> 8", "8 -> 16 BN ReLU -> 16 BN ReLU -> 12 BN", "frozen: 12 -> 6 BN ReLU -> 12",
                 "stop_gradient='none'", "0 of them trained"):  # fmt: skip
        assert part in text


# --- what cannot work says so, once and clearly


@pytest.mark.parametrize("name", ["backbone_dim", "projection_dim", "hidden_dim", "predictor_hidden_dim"])
@pytest.mark.parametrize("value", [0, -3, 2.5, True, "8"])
def test_a_dimension_is_a_whole_number_of_at_least_one(name, value):
    dims = {"backbone_dim": 8, "projection_dim": 12, "hidden_dim": 16, "predictor_hidden_dim": 6, name: value}
    with pytest.raises(InputError, match=f"{name} is {value!r}, expected a whole number"):
        SimSiam.create(tiny((4, 4, 4, 8)), **dims)


@pytest.mark.parametrize("backbone, dim, says", [
    (tiny((4, 4, 4, 8)), 64, "gives 8 features an image, backbone_dim is 64: .* with backbone_dim=8"),
    (nn.Flatten(), 64, "gives 768 features an image, backbone_dim is 64"),
    (nn.Conv2d(3, 8, 3), 8, r"gives \(8, 14, 14\) features an image, backbone_dim is 8: .* pooling"),
])  # fmt: skip
def test_a_backbone_of_other_dimension_names_both_numbers(backbone, dim, says):
    with pytest.raises(InputError, match=says):
        SimSiam.create(backbone, dim, 12, 16, 6)(*views())


def test_a_predictor_of_other_dimension_names_both_numbers():
    with pytest.raises(InputError, match="predictor gives 5 numbers an image and the projector 4"):
        SimSiam(nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 5))(torch.randn(5, 6), torch.randn(5, 6))


@pytest.mark.parametrize("knob, says", [
    ({"stop_gradient": "left"}, "stop_gradient is 'left', expected one of target, none, wrong_side, both"),
    ({"predictor": "cnn"}, "predictor is 'cnn', expected one of mlp, none"),
    ({"output_bn": True}, "output_bn is True, expected one of affine_free"),
    ({"projector_layers": 1}, "layers is 1, expected one of 2, 3"),
    ({"init": "xavier"}, "init is 'xavier', expected one of default, he"),
])  # fmt: skip
def test_an_unknown_switch_lists_the_known_ones(knob, says):
    with pytest.raises(InputError, match=says):
        small(**knob)


def test_an_unknown_backbone_lists_the_known_ones():
    with pytest.raises(InputError, match="no backbone 'vgg': choose one of tiny, tiny_half, .*, resnet50"):
        create_backbone("vgg")
    with pytest.raises(InputError, match="expected a module"):
        SimSiam.create("tiny", 128)


@pytest.mark.parametrize("joint", [False, True])
def test_a_batch_of_one_trains_no_bn_but_can_be_evaluated(joint):
    model, (x1, x2) = small(joint=joint), views(1)
    with pytest.raises(InputError, match="batch of one"):
        model(x1, x2)
    assert model.eval()(x1, x2)[0].shape == (1, 12)


@pytest.mark.parametrize("spoil", [NAN, INF, -INF])
@pytest.mark.parametrize("call", ["forward", "encode", "features"])
def test_one_pixel_that_is_no_number_is_found(spoil, call):
    model, (x1, x2) = small(), views()
    x2[3, 1, 4, 5] = spoil
    with pytest.raises(InputError, match="NaN or infinite"):
        model(x1, x2) if call == "forward" else getattr(model, call)(x2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integer_images_are_told_to_be_normalised(dtype):
    x = torch.ones(4, 3, 16, 16, dtype=dtype)
    with pytest.raises(InputError, match=f"hold {dtype}, expected floats: use normalise"):
        small()(x, x)


@pytest.mark.parametrize("x", [torch.randn(0, 3, 16, 16), torch.randn(16)])
def test_no_images_are_no_input(x):
    with pytest.raises(InputError, match="expected \\(B, 3, H, W\\) with B > 0"):
        small()(x, x)


def test_views_of_different_batches_name_both_shapes():
    with pytest.raises(InputError, match=r"\(8, 3, 16, 16\) and \(6, 3, 16, 16\), expected the same twice"):
        small()(views(8)[0], views(6)[0])


# --- the relatives


@pytest.mark.parametrize("name, category, memory_bank, momentum_encoder, negatives", [
    ("SimSiam", "distillation", False, False, False),
    ("SimCLR", "contrastive", False, False, True),
    ("MoCo", "contrastive", True, True, True),
    ("BYOL", "distillation", False, True, False),
    ("SwAV", "clustering", False, False, False),
    ("Barlow Twins", "decorrelation", False, False, False),
    ("VICReg", "decorrelation", False, False, False),
])  # fmt: skip
def test_what_each_method_needs(name, category, memory_bank, momentum_encoder, negatives):
    facts = method_facts(name)
    assert (facts.name, facts.category) == (name, category)
    assert facts.requires_memory_bank == memory_bank
    assert facts.uses_momentum_encoder == momentum_encoder
    assert facts.uses_negatives == negatives


@pytest.mark.parametrize("spelling", ["barlow twins", "Barlow-Twins", "BARLOW_TWINS", "barlowtwins"])
def test_a_methods_name_may_be_spelt_freely(spelling):
    assert method_facts(spelling).name == "Barlow Twins"


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(InputError, match="no facts on 'DINO': try SimSiam, .*, VICReg"):
        method_facts("DINO")


# --- machines


def test_importing_the_model_loads_no_torchvision():
    code = "import sys, simsiam_course.model; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", BACKBONES)
def test_channels_last_changes_the_layout_and_not_the_numbers(name):
    backbone, x = create_backbone(name)[0].eval(), torch.randn(2, 3, 32, 32)
    expected = backbone(x)
    backbone = backbone.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(backbone(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("switch", STOP_GRADIENT)
@pytest.mark.parametrize("kind", PREDICTORS)
def test_on_cuda_the_model_gives_what_it_gives_on_the_cpu(kind, switch):
    model, (x1, x2) = small(predictor=kind, stop_gradient=switch).double(), views()
    on_cuda = small(predictor=kind, stop_gradient=switch).double()
    on_cuda.load_state_dict(model.state_dict())
    expected = loss_of(model, x1.double(), x2.double())
    loss = loss_of(on_cuda.cuda(), x1.double().cuda(), x2.double().cuda())
    torch.testing.assert_close(loss.cpu(), expected, atol=1e-8, rtol=0)


@pytest.mark.cuda
def test_on_cuda_a_step_never_waits_for_the_gpu():
    model, (x1, x2) = small().cuda(), (x.cuda() for x in views())
    loss_of(model, x1, x2).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss_of(model, x1, x2).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
