"""What every lesson's first cell sets up: the device, a seed, and the one way to show a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .errors import InputError
from .train import QUICK_STEPS, resolve_device

SEED = 0


@dataclass(frozen=True)
class Lesson:
    """What a lesson is called and costs: the student's minutes, and the machine's on two CPU cores."""

    title: str
    minutes: int
    machine_minutes: float


LESSONS = {
    "00": Lesson("Start here", 15, 1),
    "05": Lesson("Collapse", 45, 2),
}


class Course:
    """A lesson's helper: `device`, `rng` (a seeded generator on the CPU) and `show`."""

    def __init__(self, number: str) -> None:
        self.number = number
        self.lesson = LESSONS[number]
        self.device = resolve_device("auto")
        self.rng = torch.Generator().manual_seed(SEED)

    def show(self, figure: Any, *, alt: str) -> None:
        """Shows a matplotlib figure with its alt text stored in the output, for those who hear the page.

        Errors: `InputError` where the alt text is empty.
        """
        if not alt.strip():
            raise InputError("The figure has no alt text: say in one sentence what is to be seen in it.")
        from IPython.display import Image, display

        from .plot import png

        display(Image(data=png(figure), format="png", alt=alt))

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

    Errors: `InputError`, unknown lesson.
    """
    if number not in LESSONS:
        raise InputError(f"There is no lesson '{number}': the lessons are {', '.join(LESSONS)}.")
    course = Course(number)
    torch.manual_seed(SEED)
    name = (
        torch.cuda.get_device_name(0)
        if course.device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    lesson = course.lesson
    print(f"Lesson {number}, {lesson.title}: about {lesson.minutes} minutes of reading and writing.")
    print(f"Device: {name}. The cells run for about {lesson.machine_minutes:g} min on two CPU cores.")
    if os.environ.get("SIMSIAM_QUICK"):
        print(f"SIMSIAM_QUICK is set: every training stops after {QUICK_STEPS} steps and shows no result.")
    return course
