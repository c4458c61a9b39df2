"""A prediction before an experiment."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError


class Prediction:
    """A question with its choices; `answer` is what is chosen, at first the first."""

    def __init__(self, question: str, choices: Sequence[str]) -> None:
        if len(choices) < 2 or len(set(choices)) < len(choices):
            raise InputError(f"The choices are {list(choices)}, expected at least two, each of them once.")
        import ipywidgets as W

        self.question, self.choices = question, tuple(choices)
        self.buttons = W.RadioButtons(
            options=list(choices), value=choices[0], layout=W.Layout(width="max-content")
        )
        self.view = W.VBox([W.HTML(f"<b>Your prediction.</b> {question}"), self.buttons])

    @property
    def answer(self) -> str:
        return self.buttons.value

    def compare(self, measured: str) -> None:
        """Says how the prediction compares with what was measured, one of the choices.

        Errors: `InputError` where `measured` is none of the choices.
        """
        if measured not in self.choices:
            raise InputError(f"{measured!r} is none of the choices: {', '.join(self.choices)}.")
        right = self.answer == measured
        end = "You saw it coming." if right else "Worth a thought: what did you expect, and why?"
        print(f"You predicted: {self.answer}. Measured: {measured}.\n{end}")
