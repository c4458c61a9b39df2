"""What every lesson's first cell sets up: device, seed, checks, predictions, and the one way to show a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from .errors import InputError
from .train import QUICK_STEPS, resolve_device

if TYPE_CHECKING:
    from .exercises import Checks
    from .widgets import Prediction

SEED = 0


@dataclass(frozen=True)
class Lesson:
    """What a lesson is called and costs: the student's minutes, and the machine's on two CPU cores."""

    title: str
    minutes: int
    machine_minutes: float


LESSONS = {
    "00": Lesson("Start here", 15, 1),
    "01": Lesson("Two views of one image", 45, 1),
    "02": Lesson("The Siamese network", 45, 1),
    "03": Lesson("The loss and the stop-gradient", 60, 1),
    "04": Lesson("Training", 45, 2),
    "05": Lesson("Collapse", 75, 2),
    "06": Lesson("What did it learn?", 60, 1),
    "07": Lesson("Inside the paper", 75, 1),
    "08": Lesson("Relatives", 60, 1),
    "09": Lesson("Your own images", 60, 1),
    "10": Lesson("Scaling up", 60, 1),
    "11": Lesson("Bug museum", 60, 1),
}


class Course:
    """A lesson's helper: `device`, `rng` (a seeded generator on the CPU), `check`, `predict` and `show`."""

    def __init__(self, number: str) -> None:
        self.number = number
        self.lesson = LESSONS[number]
        self.device = resolve_device("auto")
        self.rng = torch.Generator().manual_seed(SEED)

    @cached_property
    def check(self) -> Checks:
        """The lesson's exercises: `check.NAME(function)`. Errors: `InputError` where the lesson has none."""
        from .exercises import checks_for

        return checks_for(self.number)

    def predict(self, question: str, choices: Sequence[str]) -> Prediction:
        """Asks before an experiment; the first choice is the default. The answer is compared by `.compare(measured)`.

        Errors: `InputError` for fewer than two choices, or the same one twice.
        """
        from .widgets import Prediction, display

        prediction = Prediction(question, choices)
        display(prediction.view)
        return prediction

    def show(self, figure: Any, *, alt: str) -> None:
        """Shows a matplotlib figure with its alt text stored in the output, for those who hear the page.

        Errors: `InputError` where the alt text is empty.
        """
        if not alt.strip():
            raise InputError("The figure has no alt text: say in one sentence what is to be seen in it.")
        from IPython.display import Image, display

        from .plot import picture

        data, kind = picture(figure)
        display(Image(data=data, format=kind, alt=alt))

    def in_words(self, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
        """What the curves of some runs say at their end, as a sentence for the alt text: name -> history."""
        from .plot import label

        words = {"loss": "loss", "std": "std", "effective_rank": "effective rank"}
        ends = []
        for name, history in histories.items():
            last = {key: history[-1].get(key) for key in words} if history else {}
            said = [f"{words[key]} {value:.2f}" for key, value in last.items() if value is not None]
            ends.append(f"{label(name)}: {', '.join(said) or 'nothing measured'}")
        return f"At the end: {'; '.join(ends)}."


def setup(number: str) -> Course:
    """Prepares a lesson and says, in at most three lines, where it runs and how long it takes.

    It may be called again at any time. On Colab it installs what the lesson needs and Colab lacks (see colab.py).
    Errors: `InputError`, unknown lesson.
    """
    if number not in LESSONS:
        raise InputError(f"There is no lesson '{number}': the lessons are {', '.join(LESSONS)}.")
    from . import colab

    course = Course(number)
    torch.manual_seed(SEED)
    lesson, gpu = course.lesson, course.device.type == "cuda"
    name = torch.cuda.get_device_name(0) if gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"Lesson {number}, {lesson.title}: about {lesson.minutes} minutes of reading and writing.")
    cost = f"The cells run for about {lesson.machine_minutes:g} min on two CPU cores."
    print(f"Device: {name}. {cost}{colab.advice(gpu)}")
    notes = [note for note in (colab.complete(), _quick()) if note]
    if notes:
        print(" ".join(notes))
    return course


def _quick() -> str:
    if not os.environ.get("SIMSIAM_QUICK"):
        return ""
    return f"SIMSIAM_QUICK is set: every training stops after {QUICK_STEPS} steps and shows no result."
