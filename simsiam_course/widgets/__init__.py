"""What one can play with: predictions and the lab. Core ipywidgets only, no threads, no Output widget.

`import simsiam_course.widgets` loads no widget: ipywidgets is imported when the first one is made.
"""

from __future__ import annotations

from typing import Any

from .health_card import HealthCard, health_card
from .lab_view import CollapseLab, collapse_lab
from .prediction import Prediction

__all__ = ["CollapseLab", "HealthCard", "Prediction", "collapse_lab", "display", "health_card"]


def display(view: Any) -> None:
    """Shows a widget."""
    from IPython.display import display as show

    show(view)
