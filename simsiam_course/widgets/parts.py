"""The small parts of the lab's view: the traffic light, lines of text, buttons and tooltips."""

from __future__ import annotations

from html import escape
from typing import Any

from ..collapse import Diagnosis
from .lab_model import Run

LAMPS = {  # of the traffic light: colour, colour of the symbol on it, symbol
    "red": ("#b3261e", "#ffffff", "✕"),
    "amber": ("#f2b31b", "#1f2428", "!"),
    "green": ("#00734f", "#ffffff", "✓"),
}
LAMP = (
    "display:inline-block;vertical-align:top;width:20px;height:20px;margin:1px;border-radius:50%;text-align:center;"
    "font:bold 14px/20px sans-serif;"
)
CASE = "flex:none;padding:2px 4px;border-radius:13px;background:#23282d;"
BOX = "display:flex;gap:10px;align-items:center;margin:4px 0;line-height:1.35;"


def traffic_light(run: Run) -> str:
    """The traffic light of a run: a lamp with a symbol, the diagnosis in words, its evidence and advice."""
    so_far = "… still running, so far: " if run.state == "running" else ""
    return light(run.name, run.diagnosis, run.light, so_far=so_far)


def light(title: str, diagnosis: Diagnosis, lit: str, *, so_far: str = "") -> str:
    """A traffic light as HTML: `lit` is green, amber, red or, for no lamp, grey; the words say it too."""
    lamps = "".join(
        f'<span style="{LAMP}background:{colour if name == lit else "#4a5158"};color:{ink}">'
        f"{symbol if name == lit else ''}</span>"
        for name, (colour, ink, symbol) in LAMPS.items()
    )
    name = diagnosis.name[0].upper() + diagnosis.name[1:]
    symbol = LAMPS[lit][2] + " " if lit in LAMPS else ""
    return (
        f'<div style="{BOX}"><span aria-hidden="true" style="{CASE}">{lamps}</span><span>{escape(title)}: '
        f"{so_far}<b>{symbol}{escape(name)}</b>. {escape(_sentence(diagnosis.evidence))} "
        f"{escape(diagnosis.advice)}</span></div>"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def lines(*lines: str, attributes: str = "") -> str:
    """Lines of plain text as HTML; an HTML widget's own lines are as high as a button."""
    return f'<div style="line-height:1.35" {attributes}>{"<br>".join(escape(line) for line in lines)}</div>'


def new_button(label: str, tip: str, width: str = "120px") -> Any:
    """A button without an icon, which would be a part of the name that a screen reader hears."""
    import ipywidgets as W

    return W.Button(description=label, tooltip=tip, layout=W.Layout(width=width))


def with_tip(control: Any, tip: str) -> Any:
    """Gives a control its tooltip, under the name that ipywidgets 8 or 7 has for it."""
    name = "tooltip" if control.has_trait("tooltip") else "description_tooltip"
    setattr(control, name, tip)
    return control
