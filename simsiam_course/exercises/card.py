"""What a check prints: one card, in colour where there is a notebook, in words everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

MARKS = {"passed": "✔", "failed": "✘", "not attempted": "○"}
COLOURS = {"passed": "#009E73", "failed": "#D55E00", "not attempted": "#69737d"}  # Okabe & Ito, and grey


@dataclass(frozen=True)
class Card:
    """A status, a headline and lines below it; text between backquotes is code."""

    status: str
    title: str
    lines: tuple[tuple[str, str], ...] = ()  # label, text

    def __repr__(self) -> str:
        below = [f"  {label}: {text}" if label else f"  {text}" for label, text in self.lines]
        return "\n".join([f"{MARKS[self.status]} {self.title}", *below])

    def _repr_html_(self) -> str:
        rows = "".join(f"<div>{f'<b>{escape(label)}:</b> ' if label else ''}{_code(text)}</div>"
                       for label, text in self.lines)  # fmt: skip
        return (
            f'<div style="border-left: 4px solid {COLOURS[self.status]}; padding: 2px 0 2px 12px; max-width: 60em">'
            f"<b>{MARKS[self.status]} {_code(self.title)}</b>{rows}</div>"
        )


def _code(text: str) -> str:
    """HTML of a sentence: what stands between backquotes becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def show(item: Any) -> None:
    """Displays in a notebook, prints elsewhere."""
    try:
        from IPython import get_ipython
    except ImportError:
        print(item)
        return
    if get_ipython() is None:
        print(item)
    else:
        from IPython.display import display

        display(item)
