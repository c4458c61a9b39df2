"""The collapse monitors on clouds whose answer is known by hand, and the names that `diagnose` gives."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from simsiam_course.collapse import (
    RULES,
    alignment,
    diagnose,
    effective_rank,
    spectrum,
    std,
    uniformity,
)
from simsiam_course.errors import InputError


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plus_minus_v(noise: float = 0.02) -> torch.Tensor:
    """Every output is v or -v: what output BN leaves of a collapse."""
    v, signs = normal(128).sign(), normal(512, 1, seed=1).sign()
    return signs * v + noise * normal(512, 128, seed=2)


# -------------------------------------------------------------------------------------------------------- std


def test_std_of_gaussian_outputs_is_one_within_monte_carlo_error():
    assert std(normal(4_096, 512)) == pytest.approx(1, abs=0.005)


def test_std_is_the_papers_figure_times_sqrt_d():
    z = normal(256, 64)
    assert std(z) == pytest.approx(F.normalize(z, dim=1).std(dim=0, correction=0).mean().item() * 8, rel=1e-6)


def test_std_is_at_most_one_even_of_a_small_batch():
    assert all(std(normal(2, 8, seed=seed)) <= 1 for seed in range(50))


def test_std_of_a_constant_is_zero():
    assert std(normal(1, 64).expand(100, 64)) == pytest.approx(0, abs=1e-6)


def test_std_does_not_see_lengths():
    z = normal(128, 32)
    assert std(z * torch.rand(128, 1).add(0.1)) == pytest.approx(std(z), abs=1e-6)


# --------------------------------------------------------------------------------------------- effective rank


def test_rank_of_a_cloud_in_five_directions_is_about_five():
    basis = torch.linalg.qr(normal(256, 5, seed=1)).Q.T
    assert effective_rank(normal(2_048, 5) @ basis) == pytest.approx(5, abs=0.05)


def test_rank_of_a_constant_with_rounding_noise_is_exactly_one():
    assert effective_rank(normal(1, 256) + 1e-3 * normal(2_048, 256, seed=1)) == 1.0


def test_rank_shows_a_line_to_which_std_is_blind():
    assert std(plus_minus_v()) > 0.95
    assert 1 <= effective_rank(plus_minus_v()) < 2


def test_rank_is_exp_of_the_entropy_of_a_spectrum_made_by_hand():
    # Six unit vectors, +-e1 four times as often as +-e2 and +-e3: mean 0, shares 4/6, 1/6, 1/6.
    axes = torch.eye(3)[[0, 0, 0, 0, 1, 2]]
    z = torch.cat([axes, -axes])
    shares = [4 / 6, 1 / 6, 1 / 6]
    assert spectrum(z).tolist() == pytest.approx(shares)
    assert effective_rank(z) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))


@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (64, 64), (3, 2_048)])
def test_rank_and_spectrum_agree_with_singular_values(shape):
    z = normal(*shape) @ torch.diag(torch.logspace(0, -3, shape[1]))
    u = F.normalize(z.double(), dim=1)
    s2 = torch.linalg.svdvals(u - u.mean(dim=0)).square()
    p = s2 / s2.sum()
    assert spectrum(z).tolist() == pytest.approx(p.tolist(), abs=1e-6)
    assert effective_rank(z) == pytest.approx(torch.special.entr(p).sum().exp().item(), abs=1e-4)


def test_spectrum_is_a_descending_distribution_and_that_of_a_constant_is_one_zero_zero():
    shares = spectrum(normal(64, 32))
    assert shares.shape == (32,) and shares.sum().item() == pytest.approx(1)
    assert (shares.diff() <= 0).all() and (shares >= 0).all()
    assert spectrum(torch.ones(10, 4)).tolist() == [1, 0, 0, 0]


# ----------------------------------------------------------------------------------- alignment and uniformity


def test_alignment_is_zero_for_equal_views_two_for_right_angles_and_four_for_opposite_ones():
    e1, e2 = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[0.0, 5.0]] * 3)
    assert [alignment(e1, e1), alignment(e1, e2), alignment(e1, -e1)] == pytest.approx([0, 2, 4])


def test_uniformity_is_the_log_of_the_mean_over_pairs():
    z = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])  # squared distances 2, 4 and 2
    assert uniformity(z) == pytest.approx(math.log((2 * math.exp(-4) + math.exp(-8)) / 3), rel=1e-5)
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-5)


# ------------------------------------------------------------------------------------------------- robustness


def test_rows_of_zeros_give_numbers():
    z = normal(32, 16)
    z[::2] = 0
    assert 0 < std(z) < 1 and effective_rank(z) > 1
    assert (std(torch.zeros(8, 4)), effective_rank(torch.zeros(8, 4))) == (0, 1)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tiny_and_huge_outputs_neither_underflow_nor_overflow(scale):
    z = normal(64, 32)
    assert effective_rank(z * scale) == pytest.approx(effective_rank(z), abs=1e-4)


def test_half_precision_and_gradients_are_accepted():
    z = normal(64, 32)
    assert effective_rank(z.bfloat16()) == pytest.approx(effective_rank(z), abs=0.1)
    assert std(z.requires_grad_()) == std(z.detach())


@pytest.mark.parametrize("measure", [std, effective_rank, spectrum, uniformity, lambda z: alignment(z, z)])
@pytest.mark.parametrize(
    ("z", "said"),
    [
        (torch.ones(4, 3, dtype=torch.int64), "int64"),
        (torch.ones(4), r"shape \(4,\)"),
        (torch.ones(1, 3), "at least two rows"),
        (torch.tensor([[1.0, math.nan], [1.0, 1.0]]), "NaN"),
        (torch.tensor([[1.0, math.inf], [1.0, 1.0]]), "infinity"),
        ([[1.0, 2.0]], "list"),
    ],
)
def test_bad_input_is_one_clear_error(measure, z, said):
    with pytest.raises(InputError, match=said):
        measure(z)


def test_alignment_of_unpaired_views_is_an_error():
    with pytest.raises(InputError, match="two views of the same images"):
        alignment(normal(4, 3), normal(5, 3))


# --------------------------------------------------------------------------------------------------- diagnose


def run(losses, *, std=1.0, effective_rank=8.0, every=10) -> dict:
    """What is known after a run with these losses, one row every so many steps."""
    rows = [
        {"step": (i + 1) * every, "loss": loss, "std": std, "effective_rank": effective_rank}
        for i, loss in enumerate(losses)
    ]
    return {"history": rows, "dim": 256}


def descent(to: float, n: int = 100) -> list[float]:
    """A loss that falls fast, then hardly: from 0 to nearly `to`."""
    return [to * (1 - math.exp(-8 * i / n)) for i in range(n)]


RUNS = {
    "healthy": run(descent(-0.9)),
    "complete collapse": run(descent(-1.0), std=0.01, effective_rank=1.0),
    "dimensional collapse": run(descent(-0.95), std=0.4, effective_rank=1.3),
    "diverged": run(descent(-0.9)[:50] + [-0.9, -0.35] * 25),
    "not learning": run([-0.1 + 0.02 * (-1) ** i for i in range(100)]),
    "too short": run([-0.55 * i / 100 for i in range(100)]),
}


@pytest.mark.parametrize("name", RUNS)
def test_each_kind_of_run_gets_its_name(name):
    assert diagnose(RUNS[name]).name == name


def test_every_name_of_the_table_is_tested():
    assert {rule.name for rule in RULES} == set(RUNS)


def test_a_line_is_a_collapse_although_std_is_healthy():
    assert diagnose({"std": std(plus_minus_v()), "effective_rank": effective_rank(plus_minus_v())}).name == (
        "dimensional collapse"
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("key", ["loss", "std", "effective_rank"])
def test_a_number_that_is_not_finite_is_divergence(key, bad):
    assert diagnose({"loss": -0.9, "std": 1.0, "effective_rank": 8.0, key: bad}).name == "diverged"
    rows = RUNS["healthy"]["history"]
    assert diagnose({"history": [*rows[:50], rows[50] | {key: bad}, *rows[51:]]}).name == "diverged"


def test_a_loss_that_was_low_and_rises_is_divergence():
    assert diagnose(run(descent(-0.9) + [-0.3] * 60)).name == "diverged"


@pytest.mark.parametrize("rank", [1.2, 8.0])
def test_a_loss_that_stays_high_is_divergence_if_it_never_calms_and_else_not_learning(rank):
    """As with a rate far too high, and as with a predictor that is never trained."""
    for swing, name in ((0.2, "diverged"), (0.03, "not learning")):
        losses = [-0.3 + swing * (-1) ** i for i in range(100)]
        assert diagnose(run(losses, std=0.8, effective_rank=rank)).name == name


def test_a_collapse_that_swings_is_still_a_collapse():
    """Without a predictor the loss may swing by a half: low on average, and the outputs on one line."""
    losses = descent(-0.9)[:50] + [-0.9, -0.9, -0.35] * 17
    assert diagnose(run(losses, std=0.6, effective_rank=1.2)).name == "dimensional collapse"


def test_thirty_steps_are_too_few_to_be_judged():
    assert diagnose(run([-0.9] * 3, std=0.4, effective_rank=1.2)).name == "too short"


def test_what_is_given_counts_more_than_the_last_row():
    assert diagnose(RUNS["healthy"] | {"std": 0.01, "effective_rank": 1.0}).name == "complete collapse"


@pytest.mark.parametrize("missing", ["loss", "std", "effective_rank"])
def test_health_is_not_claimed_where_a_number_is_missing(missing):
    known = {"loss": -0.9, "std": 1.0, "effective_rank": 8.0}
    assert diagnose(known).name == "healthy"
    for partial in (known | {missing: None}, {key: known[key] for key in known if key != missing}):
        assert diagnose(partial).name == "unknown"
        assert missing.replace("_", " ") in diagnose(partial).evidence


@pytest.mark.parametrize(
    "measurements",
    [
        {},
        {"history": []},
        {"note": "no labels", "knn": 0.1},  # chance accuracy proves nothing
        {"loss": -0.9, "std": 1.0, "effective_rank": 3.0},  # between collapse and health
        {"loss": 5.3, "std": 1.0, "effective_rank": 8.0},  # a cross-entropy, not a cosine
        {"loss": -0.1, "std": 1.0, "effective_rank": 8.0},  # untrained, or stuck: only a history tells
    ],
)
def test_evidence_that_cannot_tell_gives_unknown(measurements):
    assert diagnose(measurements).name == "unknown"


def test_few_channels_are_not_blamed_for_a_low_rank():
    known = {"loss": -0.9, "std": 1.0, "effective_rank": 1.9}
    assert diagnose(known | {"dim": 256}).name == "dimensional collapse"
    assert diagnose(known | {"dim": 2}).name == "healthy"


def test_a_diagnosis_reads_like_a_sentence():
    said = repr(diagnose({"std": 0.4, "effective_rank": 1.26}))
    assert said.startswith("Dimensional collapse: the outputs differ, but lie along one line (std is 0.4")
    assert "the effective rank is 1.26, below 2)" in said
    assert said.endswith("blind to this.")


@pytest.mark.parametrize(
    "measurements",
    [
        None,
        [("loss", -0.9)],
        {"loss": "-.9"},
        {"std": torch.tensor(1.0)},
        {"effective_rank": True},
        {"history": {"loss": [-0.9]}},
        {"history": [1, 2]},
        {"history": [{"loss": "low"}]},
        {"dim": "256"},
    ],
)
def test_a_wrong_type_is_an_error(measurements):
    with pytest.raises(InputError, match="expected"):
        diagnose(measurements)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_monitors_agree_on_cuda():
    z = normal(64, 256)
    assert effective_rank(z.cuda()) == pytest.approx(effective_rank(z), abs=1e-4)
    assert std(z.cuda()) == pytest.approx(std(z), abs=1e-5)
    assert uniformity(z.cuda()) == pytest.approx(uniformity(z), abs=1e-4)
