from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity

from simsiam_course.errors import InputError
from simsiam_course.loss import STOP_GRADIENT, cross_entropy_similarity, negative_cosine, symmetric_loss


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(16, 32, dtype=torch.float64, generator=generator).requires_grad_()  # noqa: E731
    return draw(), draw()


def gradients(p, z, loss):
    return torch.autograd.grad(loss, [p, z], allow_unused=True)


def test_negative_cosine_by_hand():
    p = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert negative_cosine(p, z).item() == pytest.approx(-(0.6 + 0.0) / 2)


def test_negative_cosine_is_lightlys_and_torchs(pair):
    p, z = pair
    loss = negative_cosine(p, z)
    torch.testing.assert_close(loss, NegativeCosineSimilarity()(p, z.detach()))
    torch.testing.assert_close(loss, -F.cosine_similarity(p, z).mean())
    (ours,) = torch.autograd.grad(loss, p)
    (theirs,) = torch.autograd.grad(NegativeCosineSimilarity()(p, z.detach()), p)
    torch.testing.assert_close(ours, theirs)


def test_negative_cosine_knows_directions_only(pair):
    p, z = pair
    torch.testing.assert_close(negative_cosine(5 * p, 0.1 * z), negative_cosine(p, z))
    assert negative_cosine(p, p).item() == pytest.approx(-1)
    assert negative_cosine(p, -p).item() == pytest.approx(1)


def test_a_zero_vector_is_no_direction_and_no_nan():
    assert negative_cosine(torch.zeros(4, 8), torch.ones(4, 8)).item() == 0


def test_cross_entropy_similarity_is_torchs_cross_entropy_with_soft_targets(pair):
    p, z = pair
    torch.testing.assert_close(cross_entropy_similarity(p, z), F.cross_entropy(p, z.softmax(dim=1)))


def test_cross_entropy_similarity_of_a_uniform_prediction_is_log_d(pair):
    _, z = pair
    assert cross_entropy_similarity(torch.zeros_like(z), z).item() == pytest.approx(math.log(32))


@pytest.mark.parametrize("similarity", [negative_cosine, cross_entropy_similarity])
def test_the_similarity_stops_the_gradient_at_z_unless_told_otherwise(pair, similarity):
    p, z = pair
    to_p, to_z = gradients(p, z, similarity(p, z))
    assert to_p.norm() > 0 and to_z is None
    to_p, to_z = gradients(p, z, similarity(p, z, stop_gradient=False))
    assert to_p.norm() > 0 and to_z.norm() > 0


@pytest.mark.parametrize("similarity", [negative_cosine, cross_entropy_similarity])
def test_the_symmetric_loss_is_half_of_each_direction(similarity):
    p1, p2, z1, z2 = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(1)).unbind()
    loss = symmetric_loss(p1, p2, z1, z2, similarity=similarity)
    torch.testing.assert_close(loss, (similarity(p1, z2) + similarity(p2, z1)) / 2)
    torch.testing.assert_close(loss, symmetric_loss(p2, p1, z2, z1, similarity=similarity))


def test_the_switch_moves_gradients_and_not_the_value(pair):
    p, z = pair
    values = {symmetric_loss(p, p, z, z, stop_gradient=switch).item() for switch in STOP_GRADIENT}
    assert len(values) == 1


@pytest.mark.parametrize("switch, p_learns, z_learns", [
    ("target", True, False), ("none", True, True), ("wrong_side", False, True), ("both", False, False),
])  # fmt: skip
@pytest.mark.parametrize("similarity", [negative_cosine, cross_entropy_similarity])
def test_where_the_gradient_goes(switch, p_learns, z_learns, similarity):
    leaves = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(1)).unbind()
    p1, p2, z1, z2 = [leaf.clone().requires_grad_() for leaf in leaves]
    loss = symmetric_loss(p1, p2, z1, z2, stop_gradient=switch, similarity=similarity)
    assert loss.requires_grad == (p_learns or z_learns)
    if loss.requires_grad:
        loss.backward()
    for leaf, learns in ((p1, p_learns), (p2, p_learns), (z1, z_learns), (z2, z_learns)):
        assert (leaf.grad is not None and bool(leaf.grad.norm() > 0)) == learns


def test_without_a_predictor_the_stop_gradient_halves_the_gradient(pair):
    z1, z2 = pair
    half = torch.cat(gradients(z1, z2, symmetric_loss(z1, z2, z1, z2, stop_gradient="target")))
    whole = torch.cat(gradients(z1, z2, symmetric_loss(z1, z2, z1, z2, stop_gradient="none")))
    assert whole.norm() > 0.01
    torch.testing.assert_close(half, whole / 2, rtol=1e-6, atol=0)


def test_the_inputs_are_left_as_they_were(pair):
    p, z = pair
    before = p.detach().clone(), z.detach().clone()
    negative_cosine(p, z), cross_entropy_similarity(p, z)
    assert torch.equal(p, before[0]) and torch.equal(z, before[1])


def test_nan_passes_through_so_that_a_training_loop_can_see_it():
    p = torch.tensor([[float("nan"), 1.0], [1.0, 1.0]])
    assert negative_cosine(p, torch.ones(2, 2)).isnan()


@pytest.mark.parametrize("similarity", [negative_cosine, cross_entropy_similarity])
@pytest.mark.parametrize("p, z, says", [
    (torch.ones(4, 8), torch.ones(4, 9), r"\(4, 8\).*\(4, 9\)"),
    (torch.ones(4, 8), torch.ones(3, 8), r"\(4, 8\).*\(3, 8\)"),
    (torch.ones(8), torch.ones(8), r"\(8,\)"),
    (torch.ones(0, 8), torch.ones(0, 8), r"\(0, 8\)"),
    (torch.ones(4, 8).long(), torch.ones(4, 8), "p holds torch.int64"),
    (torch.ones(4, 8), torch.ones(4, 8).byte(), "z holds torch.uint8"),
])  # fmt: skip
def test_a_bad_pair_is_one_clear_error(similarity, p, z, says):
    with pytest.raises(InputError, match=says):
        similarity(p, z)


def test_an_unknown_switch_is_one_clear_error(pair):
    p, z = pair
    with pytest.raises(InputError, match="stop_gradient is 'left', expected one of target, none, wrong_side"):
        symmetric_loss(p, p, z, z, stop_gradient="left")
