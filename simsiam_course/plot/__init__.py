"""Every figure of the course: numbers in, a `matplotlib.figure.Figure` out.

Nothing here touches pyplot or leaves a setting behind, so a figure looks the same in a notebook, a widget,
a test and the report. A variant keeps its colour, its line and its marker from figure to figure: none is told
by colour alone.
"""

from __future__ import annotations

from .look import THEME, label, png, styles, theme
from .maps import embedding_2d, spectra, triptych
from .pictures import gallery, views
from .runs import ablation, curves, mean_and_sd

__all__ = [
    "THEME",
    "ablation",
    "curves",
    "embedding_2d",
    "gallery",
    "label",
    "mean_and_sd",
    "png",
    "spectra",
    "styles",
    "theme",
    "triptych",
    "views",
]
