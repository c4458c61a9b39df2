"""Curves that grow while a network trains: one picture, replaced after a row of the history.

The callback runs between two steps of `fit`, in the same thread: it draws, puts the picture's bytes into the widget,
and returns. No thread is needed, and no Output widget, which shows stale pictures in a callback.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from torch import nn

SHARE = 0.1  # of the time that may go into drawing: a picture takes longer than ten steps
WORDS = {
    "loss": "loss {:.2f}",
    "std": "std {:.2f}",
    "effective_rank": "effective rank {:.1f}",
    "knn": "kNN {:.1%}",
}


class Pace:
    """Says when there is time for the next drawing: drawings, done `with` it, take no more than `share` of the time."""

    def __init__(self, share: float = SHARE) -> None:
        self.share, self.next = share, -math.inf

    def due(self) -> bool:
        return time.perf_counter() >= self.next

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        end = time.perf_counter()
        self.next = end + (end - self.start) * (1 / self.share - 1)


class LiveCurves:
    """A callback for `fit` that draws loss, std, effective rank and kNN accuracy as they come.

    `whose` says below the curves whose code is running. `measure(model)` may give more columns, as {"knn": 0.8}; it is
    asked at every row, and `fit` writes what it gives into the history. Show it with `display(live)` before the run;
    `live.draw()` after the run brings in the last rows, which may have come too fast to be drawn.
    """

    def __init__(
        self,
        whose: str = "",
        *,
        measure: Callable[[nn.Module], Mapping[str, float]] | None = None,
        share: float = SHARE,
    ) -> None:
        import ipywidgets as W

        self.whose, self.measure, self.pace = whose, measure, Pace(share)
        self.rows: list[dict[str, Any]] = []
        self.picture = W.Image(format="png", layout=W.Layout(max_width="100%"))
        self.words = W.HTML(self._said())
        self.view = W.VBox([self.words])  # the picture comes with the first row

    def __call__(self, row: Mapping[str, Any], model: nn.Module) -> dict[str, float]:
        """Takes in a row, draws it if there is time, and returns the columns that were measured."""
        measured = dict(self.measure(model)) if self.measure else {}
        self.rows.append({**row, **measured})
        if self.pace.due():
            self.draw()
        return measured

    def draw(self) -> None:
        """Replaces the picture and the words below it by the present ones."""
        from .plot import curves, png

        with self.pace:
            self.picture.value = png(curves(self.rows))
            self.words.value = self._said()
            self.view.children = (self.picture, self.words)

    def _said(self) -> str:
        lines = [in_words(self.rows), f"Running: {self.whose}." if self.whose else ""]
        return "<br>".join(escape(line) for line in lines if line)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)


def in_words(rows: list[dict[str, Any]]) -> str:
    """The last row in words, for those who hear the page; what was not measured is left out."""
    if not rows:
        return "No step has been taken yet."
    last = rows[-1]
    said = [words.format(last[name]) for name, words in WORDS.items() if last.get(name) is not None]
    return f"After step {last['step']}: {', '.join(said) or 'nothing was measured'}."
