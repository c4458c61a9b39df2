"""Every figure of the course: numbers in, a `matplotlib.figure.Figure` out.

Nothing here touches pyplot or leaves a setting behind, so a figure looks the same in a notebook, a widget,
a test and the report. A variant keeps its colour, its line and its marker from figure to figure: none is told
by colour alone.
"""

from __future__ import annotations

from .lesson_loss import flow_fields, flow_path
from .lesson_network import architecture, channel_statistics, directions, layer_scales
from .lesson_views import TURNED, knobs, readable, sampling, sheet
from .look import THEME, label, png, styles, theme
from .maps import embedding_2d, spectra, triptych
from .pictures import gallery, views
from .runs import ablation, curves, mean_and_sd

__all__ = [
    "THEME",
    "TURNED",
    "ablation",
    "architecture",
    "channel_statistics",
    "curves",
    "directions",
    "embedding_2d",
    "flow_fields",
    "flow_path",
    "gallery",
    "knobs",
    "label",
    "layer_scales",
    "mean_and_sd",
    "png",
    "readable",
    "sampling",
    "sheet",
    "spectra",
    "styles",
    "theme",
    "triptych",
    "views",
]
