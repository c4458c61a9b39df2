"""Lesson 09's checks: right answers pass in any style, wrong ones never do, and each known one has its sentence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from answers import both_tests, named

from simsiam_course.augment import PRESETS, Augmentation
from simsiam_course.errors import InputError
from simsiam_course.exercises.core import judge
from simsiam_course.exercises.own_images import (
    DIGITS_PRESET,
    EXERCISES,
    FEW_LABELS,
    NEAR_DUPLICATES,
    SHAPE,
    STILL,
)
from simsiam_course.paired import CHANCE, FACTORS, GONE, READ, changed, read_in_views
from simsiam_course.splits import few_labels, near_duplicates

# ---- 9.1 digits_preset


def with_hue():
    """The colour is turned all the way round instead of taken away."""
    augmentation = Augmentation(crop_scale=(0.8, 1), crop_ratio=(1, 1), flip=0, brightness=0.7, contrast=0.2,
                                saturation=0, hue=0.5, jitter=1, gray=0)  # fmt: skip
    return [augmentation, {"digit", "mirror", "half turn", "upside down"}, {"ink", "colour"}]


def the_courses_own_list():
    """Nothing but the crop, so colour and ink are kept; what is removed has to be named all the same."""
    return dataclasses.replace(PRESETS["digits"], gray=1.0), [*SHAPE, "ink"], ["colour"]


def ink_alone():
    augmentation = dataclasses.replace(PRESETS["digits"], brightness=0.8, jitter=1.0)
    return augmentation, ("colour", *SHAPE), frozenset(["ink"])


def without_a_crop():
    return Augmentation(**{**STILL, "crop_scale": (1, 1), "crop_ratio": (1, 1)}), SHAPE, ("ink", "colour")


RIGHT_PRESETS = [with_hue, the_courses_own_list, ink_alone, without_a_crop]


def never_returns():
    Augmentation()


def kept_is_a_word():
    return Augmentation(**STILL), "digit", ("ink",)


def a_factor_of_its_own():
    return Augmentation(**STILL), (*SHAPE, "slant"), ("colour", "ink")


def one_forgotten():
    return Augmentation(**STILL), SHAPE, ("ink",)


def declared_twice():
    return Augmentation(**STILL), (*SHAPE, "ink"), ("colour", "ink")


def the_list_for_patterns():
    return PRESETS["patterns"], SHAPE, ("colour", "ink")


def the_list_for_satellites():
    return PRESETS["satellite"], SHAPE, ("colour", "ink")


def flipped_now_and_then():
    return Augmentation(**{**STILL, "flip": 0.2}), SHAPE, ("colour", "ink")


def colour_called_gone():
    return PRESETS["digits"], (*SHAPE, "ink"), ("colour",)


def ink_called_kept():
    return Augmentation(**STILL), (*SHAPE, "ink"), ("colour",)


WRONG_PRESETS = [
    never_returns, kept_is_a_word, a_factor_of_its_own, one_forgotten, declared_twice, the_list_for_patterns,
    the_list_for_satellites, flipped_now_and_then, colour_called_gone, ink_called_kept,
]  # fmt: skip

# ---- 9.2 near_duplicates


def by_loops(train, test, threshold):
    found = [max(F.cosine_similarity(a, b, dim=0) for b in train) >= threshold for a in test]
    return torch.stack(found)


def by_cosine_similarity(train, test, threshold):
    return (F.cosine_similarity(test[:, None], train[None], dim=-1) >= threshold).any(dim=1)


def by_hand(train, test, threshold):
    a = train / train.norm(dim=1, keepdim=True)
    b = test / test.norm(dim=1, keepdim=True)
    return torch.einsum("md,nd->mn", b, a).max(1)[0].ge(threshold)


def by_topk(train, test, threshold, *, k=1):
    top = (F.normalize(test) @ F.normalize(train).t()).topk(k, dim=1).values
    return top[:, 0] >= threshold


def by_division(train, test, threshold):
    lengths = test.norm(dim=1)[:, None] * train.norm(dim=1)[None]
    return ((test @ train.T) / lengths).amax(1) >= threshold


RIGHT_DUPLICATES = [by_loops, by_cosine_similarity, by_hand, by_topk, by_division]


def by_distance(train, test, threshold):
    return torch.cdist(test, train).amin(dim=1) <= 1 - threshold


def same_place(train, test, threshold):
    n = min(len(train), len(test))
    return F.cosine_similarity(train[:n], test[:n]) >= threshold


def only_exact(train, test, threshold):
    return (test[:, None] == train[None]).all(dim=2).any(dim=1)


def in_place(train, test, threshold):
    train /= train.norm(dim=1, keepdim=True)
    return (F.normalize(test) @ train.T).amax(1) >= threshold


def fixed_threshold(train, test, threshold):
    return (F.normalize(test) @ F.normalize(train).T).amax(1) >= 0.9


def numbers_for_truth(train, test, threshold):
    return near_duplicates(train, test, threshold).float()


WRONG_DUPLICATES = [by_distance, same_place, only_exact, in_place, fixed_threshold, numbers_for_truth]

# ---- 9.3 few_labels


def count_up(labels, shots):
    seen, rows = {}, []
    for row, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if label >= 0 and seen[label] <= shots:
            rows.append(row)
    return torch.tensor(rows)


def by_cumulative_sums(labels, shots):
    member = F.one_hot(labels.clamp(min=0)).bool() & (labels >= 0)[:, None]  # (N, C)
    place = member.cumsum(dim=0)  # (N, C)
    return (member & (place <= shots)).any(dim=1).nonzero().squeeze(1)


def with_where(labels, shots):
    rows = [torch.where(labels == label)[0][:shots] for label in range(int(labels.max()) + 1)]
    return torch.sort(torch.cat(rows))[0]


def with_numpy(labels, shots):
    array = labels.numpy()
    rows = [np.flatnonzero(array == label)[:shots] for label in set(array.tolist()) - {-1}]
    return torch.from_numpy(np.sort(np.concatenate(rows)))


RIGHT_FEW = [count_up, by_cumulative_sums, with_where, with_numpy]


def at_random(labels, shots):
    rows = few_labels(labels, 10**6)
    return rows[torch.randperm(len(rows))[: shots * 3]]


def class_zero_forgotten(labels, shots):
    return torch.cat(
        [(labels == label).nonzero().flatten()[:shots] for label in labels.unique() if label > 0]
    )


def as_a_column(labels, shots):
    return few_labels(labels, shots)[:, None]


def always_two(labels, shots):
    return few_labels(labels, 2)


WRONG_FEW = [at_random, class_zero_forgotten, as_a_column, always_two]

test_right, test_wrong = both_tests(
    (DIGITS_PRESET, RIGHT_PRESETS, WRONG_PRESETS),
    (NEAR_DUPLICATES, RIGHT_DUPLICATES, WRONG_DUPLICATES),
    (FEW_LABELS, RIGHT_FEW, WRONG_FEW),
)
SUSPECTS = [(exercise, suspect) for exercise in EXERCISES for suspect in exercise.suspects]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_the_reference_and_the_solution_pass_and_the_stub_is_not_attempted(exercise):
    assert judge(exercise, exercise.reference).status == "passed"
    assert exercise.solution is None or judge(exercise, exercise.solution).status == "passed"
    assert judge(exercise, lambda *arguments: ...).status == "not attempted"


@pytest.mark.parametrize(("exercise", "suspect"), SUSPECTS, ids=named([(e, s.function) for e, s in SUSPECTS]))
def test_each_known_wrong_answer_has_its_own_sentence(exercise, suspect):
    verdict = judge(exercise, suspect.function, seconds=120)
    assert (verdict.status, verdict.cause) == ("failed", suspect.says), (verdict.message, verdict.yours)


@pytest.mark.parametrize(("answer", "message", "yours"), [
    (one_forgotten, "declared once", "in neither [colour]"),
    (declared_twice, "declared once", "twice [ink]"),
    (a_factor_of_its_own, "declared once", "unknown [slant]"),
    (flipped_now_and_then, "kept is read off", "mirror is read with"),
    (colour_called_gone, "declared as removed is not", "colour is read with 100%"),
    (ink_called_kept, "kept is read off", "ink is read with"),
])  # fmt: skip
def test_a_card_says_which_factor_is_not_as_declared(answer, message, yours):
    verdict = judge(DIGITS_PRESET, answer, seconds=120)
    assert message in verdict.message and yours in verdict.yours


# ---- what 9.1 measures


def test_nothing_but_the_whole_picture_keeps_everything_and_noise_keeps_nothing():
    still = Augmentation(crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, jitter=0, gray=0)
    read = read_in_views(still)
    assert read.keys() == FACTORS.keys() == CHANCE.keys() and min(read.values()) > READ + 0.15
    hidden = dataclasses.replace(
        still, contrast=0.0, brightness=0.0, jitter=1.0, gray=1.0, flip=0.5, turn=0.75
    )
    assert read_in_views(hidden)["colour"] == pytest.approx(CHANCE["colour"], abs=0.1)


@pytest.mark.parametrize(("knob", "factor"), [
    ({"flip": 0.5}, "mirror"), ({"vertical_flip": 0.5}, "upside down"), ({"turn": 0.75}, "half turn"),
])  # fmt: skip
def test_a_factor_that_an_augmentation_draws_is_read_no_better_than_by_chance(knob, factor):
    read = read_in_views(Augmentation(**{**STILL, **knob}))
    assert read[factor] == pytest.approx(CHANCE[factor], abs=0.08) and read[factor] < GONE
    assert read_in_views(Augmentation(**STILL))[factor] > READ


def test_pairs_differ_in_their_factor_alone():
    images = torch.randint(0, 200, (4, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(changed(images, "mirror"), images.flip(3))
    assert torch.equal(changed(changed(images, "upside down"), "mirror"), changed(images, "half turn"))
    assert torch.equal(changed(images, "digit"), images)
    assert changed(images, "ink").float().mean() == pytest.approx(
        0.8 * images.float().mean().item(), rel=0.01
    )
    with pytest.raises(InputError, match="no factor 'slant'"):
        changed(images, "slant")
    with pytest.raises(InputError, match="got a str, expected an augment.Augmentation"):
        read_in_views("digits")
    with pytest.raises(InputError, match="got a list, expected an augment.Augmentation"):
        read_in_views(["flip"])


# ---- what 9.2 and 9.3 stand in for


def test_the_package_refuses_what_does_not_fit():
    with pytest.raises(InputError, match=r"expected \(N, D\) and \(M, D\)"):
        near_duplicates(torch.ones(3, 2), torch.ones(3, 4), 0.9)
    pixels = torch.tensor([[0, 200, 9], [9, 9, 9]], dtype=torch.uint8)
    assert near_duplicates(pixels[:1], pixels, 0.9).tolist() == [True, False]
    with pytest.raises(InputError, match="shots is 0"):
        few_labels(torch.zeros(3, dtype=torch.int64), 0)
    assert few_labels(torch.full((3,), -1), 2).tolist() == []
