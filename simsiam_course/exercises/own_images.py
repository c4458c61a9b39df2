"""Lesson 09: a preset that keeps what makes a digit, a leak between training and test, and few labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import splits
from ..augment import Augmentation
from ..paired import FACTORS, GONE, READ, read_in_views
from .core import Exercise, Fact, Function, Suspect, elsewhere, kind_and_shape, unchanged

# ---- 9.1

SHAPE = ("digit", "mirror", "upside down", "half turn")  # without these a digit is not what it was
WRITER = ("colour", "ink")
LOST = 0.6  # an accuracy below this is near chance


def digits_preset() -> tuple[Augmentation, tuple[str, ...], tuple[str, ...]]:
    """A list of augmentations for digits, the factors that it keeps, and those that it removes."""
    augmentation = Augmentation(
        crop_scale=(0.7, 1.0), crop_ratio=(0.9, 1.1), flip=0.0,  # a mirrored digit is no digit
        brightness=0.6, contrast=0.0, saturation=0.0, hue=0.0, jitter=1.0, gray=1.0,  # any ink, no colour
    )  # fmt: skip
    return augmentation, ("digit", "mirror", "upside down", "half turn"), ("colour", "ink")


@dataclass(frozen=True)
class Reading:
    """Factors that are not as declared, with how far they are gone; the accuracies are shown and do not count."""

    names: tuple[tuple[str, str], ...]
    said: str = field(compare=False)

    def __str__(self) -> str:
        return self.said


def _three(f: Function) -> Any:
    """What came back, in words."""
    found = f()
    if found is Ellipsis:
        return Ellipsis
    if not isinstance(found, (tuple, list)) or len(found) != 3:
        return kind_and_shape(found) if not isinstance(found, Augmentation) else "an Augmentation alone"
    augmentation, *lists = found
    if not isinstance(augmentation, Augmentation):
        return f"first {kind_and_shape(augmentation)}"
    for name, names in zip(("kept", "removed"), lists, strict=True):
        if not isinstance(names, (tuple, list, set, frozenset)) or not all(isinstance(n, str) for n in names):
            return f"{name} is {kind_and_shape(names)}"
    return "an Augmentation and two collections of names"


def _declared(f: Function) -> dict[str, list[str]]:
    _, kept, removed = f()
    both = [*kept, *removed]
    return {
        "unknown": sorted(set(both) - set(FACTORS)),
        "in neither": [name for name in FACTORS if name not in both],
        "twice": [name for name in FACTORS if both.count(name) > 1],
    }


def _given_up(f: Function) -> list[str]:
    _, kept, _ = f()
    return [name for name in SHAPE if name not in kept]


def _is_anything_removed(f: Function) -> bool:
    return bool(len(f()[2]))


def _not_kept(f: Function) -> Reading:
    augmentation, kept, _ = f()
    read = read_in_views(augmentation)
    wrong = {name: read[name] for name in FACTORS if name in kept and read[name] < READ}
    return Reading(_how(wrong), _said(wrong, f"all that is kept is read, with at least {READ:.0%}"))


def _not_removed(f: Function) -> Reading:
    augmentation, _, removed = f()
    read = read_in_views(augmentation)
    wrong = {name: read[name] for name in FACTORS if name in removed and read[name] > GONE}
    return Reading(_how(wrong), _said(wrong, f"nothing that is removed is read, with at most {GONE:.0%}"))


def _how(wrong: dict[str, float]) -> tuple[tuple[str, str], ...]:
    return tuple((name, "gone" if accuracy < LOST else "weak") for name, accuracy in wrong.items())


def _said(wrong: dict[str, float], fine: str) -> str:
    return ", ".join(f"{name} is read with {accuracy:.0%}" for name, accuracy in wrong.items()) or fine


STILL: dict[str, Any] = {"crop_scale": (0.7, 1.0), "crop_ratio": (0.9, 1.1), "flip": 0.0, "brightness": 0.6,
                         "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "jitter": 1.0, "gray": 1.0}  # fmt: skip


def with_list(
    kept: tuple[str, ...] = SHAPE, removed: tuple[str, ...] = WRITER, **knobs: Any
) -> Callable[[], Any]:
    """The solution with other knobs, or another declaration."""
    return lambda: (Augmentation(**{**STILL, **knobs}), kept, removed)


DIGITS_PRESET = Exercise(
    "9.1",
    "digits_preset",
    digits_preset,
    facts=[
        Fact(
            "It returns three things: an `Augmentation`, and the names of what it keeps and of what it removes.",
            _three,
        ),
        Fact(
            "Each of the six factors is declared once, as kept or as removed, by its name in `FACTORS`.",
            _declared,
        ),
        Fact(
            "Which digit it is, mirror, upside down and half turn are kept: a 6 that is turned is a 9, and a mirrored "
            "2 is no digit.",
            _given_up,
        ),
        Fact(
            "Something is removed: if two views differ in nothing that one could name, there is nothing to learn to "
            "ignore.",
            _is_anything_removed,
        ),
        Fact(
            f"What is declared as kept is read off a view by a linear probe, in at least {READ:.0%} of the pairs.",
            _not_kept,
        ),
        Fact(
            f"What is declared as removed is not: the probe is right in at most {GONE:.0%} of the pairs (chance: 50%).",
            _not_removed,
        ),
    ],
    suspects=[
        Suspect(
            "Only the list of augmentations came back: return it with what it keeps and what it removes, "
            "`return augmentation, kept, removed`.",
            lambda: digits_preset()[0],
        ),
        Suspect(
            "The name of a preset is no list of augmentations: take it from `PRESETS`, or make an `Augmentation`.",
            lambda: ("digits", *digits_preset()[1:]),
        ),
        Suspect(
            'A single name without a comma is a word, not a collection: write `("ink",)` or `["ink"]`.',
            lambda: (digits_preset()[0], SHAPE, "ink"),
        ),
        Suspect(
            "The two collections are exchanged: what is kept comes first.",
            with_list(kept=WRITER, removed=SHAPE),
        ),
        Suspect(
            "The flips are declared as harmless. On photographs they are; here a factor that is removed takes the "
            "digit's meaning with it.",
            with_list(kept=("digit", "upside down", "half turn"), removed=("mirror", *WRITER)),
        ),
        Suspect(
            "Everything is declared as kept, so two views need not differ: decide what a writer may do differently.",
            with_list(kept=tuple(FACTORS), removed=()),
        ),
        Suspect(
            "Half of the views are mirrored, so nobody can tell a digit from its mirror image: set `flip=0`. The "
            "default is .5, for photographs.",
            with_list(flip=0.5),
        ),
        Suspect("Views are flipped upside down: set `vertical_flip=0`.", with_list(vertical_flip=0.5)),
        Suspect(
            "Views are turned by quarters, as for pictures from above: set `turn=0`.", with_list(turn=0.75)
        ),
        Suspect(
            "This is the list for photographs: it mirrors, and its crop may leave a fifth of the picture, in which "
            "there is no digit any more.",
            lambda: (Augmentation(), SHAPE, WRITER),
        ),
        Suspect(
            "The crop is too small: what is left need not show which digit it was. Raise the first number of "
            "`crop_scale`.",
            with_list(crop_scale=(0.2, 1.0)),
        ),
        Suspect(
            "`jitter` is the probability that brightness, contrast, saturation and hue change at all: at 0 it "
            "switches them off, and no colour is removed without `gray`.",
            with_list(jitter=0.0, gray=0.0),
        ),
        Suspect(
            "The ink's brightness is what it was: `brightness` is too small, or `jitter`, its probability, is.",
            with_list(brightness=0.1),
        ),
        Suspect(
            "Red is still red, and blue is blue: remove the colour by `gray=1`, or turn it all the way by "
            "`hue=.5` with `jitter=1`.",
            with_list(gray=0.0),
        ),
    ],
    hints=(
        "Go through the factors one by one. Would a teacher give the same mark if it were changed? If not, no knob may "
        "change it. If yes, choose the knob that changes it at random, and strongly enough.",
        "`Augmentation(...)` with `flip=0.0`, a `crop_scale` near 1, and what is the writer's alone: `brightness` for "
        "pale ink, `gray` or `hue` for its colour, `jitter` for how often.",
        "`augmentation = Augmentation(crop_scale=(0.7, 1.0), crop_ratio=(0.9, 1.1), flip=0.0, brightness=0.6, "
        'contrast=0.0, saturation=0.0, hue=0.0, jitter=1.0, gray=1.0)`, then `return augmentation, ("digit", '
        '"mirror", "upside down", "half turn"), ("colour", "ink")`',
    ),
)

# ---- 9.2

BANK = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
ASKED = torch.tensor([[3.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [0.1, 5.0]])  # cosines 1, .707, 0 and -1, nearly 1


def _as_list(f: Function, train: Tensor, test: Tensor, threshold: float) -> Any:
    found = f(train.clone(), test.clone(), threshold)
    return found.tolist() if isinstance(found, Tensor) else found


def _random_rows(n: int, seed: int, *, d: int = 6) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def _cases(f: Function) -> list[Any]:
    """Random features; every third of the test was copied from training, made brighter and given a little noise."""
    train, test = _random_rows(40, 1), _random_rows(15, 2)
    test[::3] = 2.5 * train[5:10] + 0.05 * _random_rows(5, 3)
    return [_as_list(f, train, test, threshold) for threshold in (0.5, 0.9, 0.99)]


def near_duplicates_solution(train: Tensor, test: Tensor, threshold: float) -> Tensor:
    cosines = F.normalize(test, dim=1) @ F.normalize(train, dim=1).T  # (M, N)
    return cosines.max(dim=1).values >= threshold


def _leak(
    of: Callable[[Tensor], Tensor], unit: Callable[[Tensor], Tensor] = lambda x: F.normalize(x, dim=1)
) -> Function:
    """A search for leaks that says `of` of its cosines (M, N, less the threshold)."""
    return lambda train, test, threshold: of(unit(test) @ unit(train).T - threshold)


NEAR_DUPLICATES = Exercise(
    "9.2",
    "near_duplicates",
    splits.near_duplicates,
    facts=[
        Fact(
            "For 40 training and 15 test rows it gives one yes or no for each test row: a bool tensor of shape (15,).",
            lambda f: kind_and_shape(f(_random_rows(40, 1), _random_rows(15, 2), 0.9)),
        ),
        Fact(
            "By hand: training rows [1, 0] and [0, 2]; of the test rows [3, 0], [1, 1], [-1, 0] and [.1, 5] the first "
            "and the last point where a training row does: with threshold .9 yes, no, no, yes.",
            lambda f: _as_list(f, BANK, ASKED, 0.9),
        ),
        Fact(
            "With threshold .7 [1, 1] counts, too: its cosine with both is .707.",
            lambda f: _as_list(f, BANK, ASKED, 0.7),
        ),
        Fact(
            "A cosine that is the threshold itself is enough.",
            lambda f: _as_list(f, torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), 1.0),
        ),
        Fact(
            "Copies are found among random features although they are brighter and noisy, at any threshold.",
            _cases,
        ),
        Fact(
            "The features stay as they were.",
            lambda f: unchanged(lambda a, b: f(a, b, 0.9), _random_rows(4, 1), _random_rows(3, 2)),
        ),
        Fact(
            "It computes where the features are: no `.cpu()`, no tensor made on another device.",
            lambda f: elsewhere(f, _random_rows(4, 1), _random_rows(3, 2), 0.9),
        ),
    ],
    suspects=[
        Suspect(
            "The rows are not of length 1, so a bright picture is near to everything: `F.normalize(..., dim=1)` for "
            "both.",
            _leak(lambda c: (c >= 0).any(dim=1), unit=lambda x: x),
        ),
        Suspect(
            "It says for each training row whether it is in the test: take the maximum over the training rows, so "
            "that one answer for each test row is left.",
            _leak(lambda c: (c >= 0).any(dim=0)),
        ),
        Suspect("One answer for all came back: each test row has its own.", _leak(lambda c: (c >= 0).any())),
        Suspect(
            "There is an answer for every pair: a test row has a near-duplicate if any training row is near.",
            _leak(lambda c: c >= 0),
        ),
        Suspect(
            "The cosines came back, not yes or no: compare them with the threshold.",
            _leak(lambda c: c.amax(dim=1)),
        ),
        Suspect(
            "The rows' numbers came back, not a yes or no for each row: leave the comparison as it is, without "
            "`nonzero`.",
            _leak(lambda c: (c.amax(dim=1) >= 0).nonzero().flatten()),
        ),
        Suspect(
            "It must be near to one training row, not to all of them or on the mean: take the maximum, or `any`.",
            _leak(lambda c: c.mean(dim=1) >= 0),
        ),
        Suspect(
            "Yes and no are exchanged: near means a cosine of at least the threshold.",
            _leak(lambda c: c.amax(dim=1) < 0),
        ),
        Suspect(
            "A cosine that equals the threshold is enough: write `>=`.", _leak(lambda c: c.amax(dim=1) > 0)
        ),
        Suspect(
            "The absolute value makes an opposite of a duplicate: the cosine itself counts.",
            lambda train, test, t: (
                (F.normalize(test, dim=1) @ F.normalize(train, dim=1).T).abs().amax(dim=1) >= t
            ),
        ),
        Suspect(
            "It was normalised over the rows (dim=0): a row is one image, use dim=1.",
            _leak(lambda c: (c >= 0).any(dim=1), unit=lambda x: F.normalize(x, dim=0)),
        ),
        Suspect(
            "The test rows were compared with themselves, and each is its own duplicate.",
            lambda train, test, t: near_duplicates_solution(test, test, t),
        ),
        Suspect(
            "Plain numbers came back: keep the tensor, without `.tolist()`.",
            lambda train, test, t: near_duplicates_solution(train, test, t).tolist(),
        ),
    ],
    hints=(
        "Compare every test row with every training row by the cosine. A test row leaks if the largest of its cosines "
        "reaches the threshold.",
        "`F.normalize(..., dim=1)` for both, a matrix product `test @ train.T` of shape (M, N), and `.amax(dim=1)`.",
        "`cosines = F.normalize(test, dim=1) @ F.normalize(train, dim=1).T`, then `return cosines.amax(dim=1) >= "
        "threshold`",
    ),
    solution=near_duplicates_solution,
)

# ---- 9.3

LABELS = torch.tensor([2, 0, 2, -1, 1, 0, 2, 0, -1, 1])


def _rows(labels: Tensor, shots: int) -> Function:
    def of(f: Function) -> Any:
        found = f(labels.clone(), shots)
        return found.tolist() if isinstance(found, Tensor) else found

    return of


def _sorted_rows(labels: Tensor, shots: int) -> Function:
    """As `_rows`, whatever their order."""

    def of(f: Function) -> Any:
        found = _rows(labels, shots)(f)
        return (
            sorted(found) if isinstance(found, list) and all(isinstance(row, int) for row in found) else found
        )

    return of


def _many(f: Function) -> list[Any]:
    labels = torch.randint(-1, 5, (60,), generator=torch.Generator().manual_seed(4))
    return [_rows(labels, shots)(f) for shots in (1, 3, 100)]


def few_labels_solution(labels: Tensor, shots: int) -> Tensor:
    rows = [(labels == label).nonzero().flatten()[:shots] for label in labels.unique() if label >= 0]
    return torch.cat(rows).sort().values


def _each(
    rows: Callable[[Tensor, int], list[Tensor]], then: Callable[[Tensor], Any] = lambda x: x.sort().values
) -> Function:
    return lambda labels, shots: then(torch.cat(rows(labels, shots)))


def _of_classes(labels: Tensor, shots: int, *, last: bool = False, unlabelled: bool = False) -> list[Tensor]:
    found = []
    for label in labels.unique():
        if label >= 0 or unlabelled:
            rows = (labels == label).nonzero().flatten()
            found.append(rows[-shots:] if last else rows[:shots])
    return found


def _stopped_short(labels: Tensor, shots: int) -> list[Tensor]:
    """As many rows of each class as the smallest has."""
    whole = _of_classes(labels, shots)
    return [rows[: min(len(r) for r in whole)] for rows in whole]


FEW_LABELS = Exercise(
    "9.3",
    "few_labels",
    splits.few_labels,
    facts=[
        Fact(
            "It gives row numbers: an int64 tensor of one dimension.",
            lambda f: kind_and_shape(f(LABELS.clone(), 1)),
        ),
        Fact(
            "Of the labels 2 0 2 -1 1 0 2 0 -1 1 with one shot the rows 0, 1 and 4 come first in their class.",
            _sorted_rows(LABELS, 1),
        ),
        Fact("With two shots these are the rows 0, 1, 2, 4, 5 and 9.", _sorted_rows(LABELS, 2)),
        Fact("The rows come in increasing order.", _rows(LABELS, 2)),
        Fact(
            "A class with too few images gives those that it has: with three shots of class 1 two.",
            _rows(LABELS, 3),
        ),
        Fact(
            "Where every image is labelled, and some number is no class: of the labels 3 0 3 0, rows 0 and 1.",
            _rows(torch.tensor([3, 0, 3, 0]), 1),
        ),
        Fact("It holds for random labels and any number of shots.", _many),
        Fact("The labels stay as they were.", lambda f: unchanged(lambda x: f(x, 2), LABELS.clone())),
    ],
    suspects=[
        Suspect(
            "A mask came back, or the labels: `nonzero()` turns a mask into row numbers.",
            lambda labels, shots: torch.isin(torch.arange(len(labels)), few_labels_solution(labels, shots)),
        ),
        Suspect(
            "The labels of the chosen rows came back: return the rows.",
            lambda labels, shots: labels[few_labels_solution(labels, shots)],
        ),
        Suspect(
            "A list came back: make one tensor of it with `torch.cat`.",
            lambda labels, shots: few_labels_solution(labels, shots).tolist(),
        ),
        Suspect(
            "These are the first rows of all, whatever their class: some classes are left without a label.",
            lambda labels, shots: (labels >= 0).nonzero().flatten()[: shots * 3],
        ),
        Suspect(
            "Label -1 means that there is no label, and it was taken for a class: leave it out.",
            _each(lambda labels, shots: _of_classes(labels, shots, unlabelled=True)),
        ),
        Suspect(
            "The last rows of each class were taken: `[:shots]` takes the first.",
            _each(lambda labels, shots: _of_classes(labels, shots, last=True)),
        ),
        Suspect(
            "The number of shots was for all classes together: each class gets so many.",
            lambda labels, shots: few_labels_solution(labels, 1)[:shots],
        ),
        Suspect(
            "Only one row of each class is left: take the first `shots`.",
            lambda labels, shots: few_labels_solution(labels, 1),
        ),
        Suspect(
            "The rows stand class by class: sort them, so that they are in their original order.",
            _each(_of_classes, lambda rows: rows),
        ),
        Suspect(
            "All classes were cut to the smallest: a class that has enough images gives all its shots.",
            _each(_stopped_short),
        ),
        Suspect(
            "One shot too many was taken: Python's `[:shots]` stops before `shots`.",
            lambda labels, shots: few_labels_solution(labels, shots + 1),
        ),
    ],
    hints=(
        "Go from class to class, leave out -1, and take the first rows of each.",
        "`labels.unique()`, `(labels == label).nonzero().flatten()[:shots]`, `torch.cat`, `.sort().values`.",
        "`rows = [(labels == label).nonzero().flatten()[:shots] for label in labels.unique() if label >= 0]`, then "
        "`return torch.cat(rows).sort().values`",
    ),
    solution=few_labels_solution,
)

EXERCISES = [DIGITS_PRESET, NEAR_DUPLICATES, FEW_LABELS]
