"""Every figure of the course: numbers in, a `matplotlib.figure.Figure` out.

Nothing here touches pyplot or leaves a setting behind, so a figure looks the same in a notebook, a widget,
a test and the report. A variant keeps its colour, its line and its marker from figure to figure: none is told
by colour alone.
"""

from __future__ import annotations

from .lesson_collapse import coincidence, planes, small_multiples, unlabelled
from .lesson_loss import flow_fields, flow_path
from .lesson_museum import before_and_after, by_class
from .lesson_network import architecture, channel_statistics, directions, layer_scales
from .lesson_own import labels_needed, read_in_views
from .lesson_paper import accuracies, alternations, verdicts
from .lesson_relatives import family, followers, formula, matrices, monitors, race
from .lesson_representation import factors_kept, lies
from .lesson_scaling import rates, same_run, time_shares
from .lesson_views import TURNED, knobs, readable, sampling, sheet
from .look import THEME, label, picture, png, styles, theme
from .maps import embedding_2d, spectra, triptych
from .pictures import gallery, views
from .runs import ablation, curves, mean_and_sd
from .stage import Act, Stage

__all__ = [
    "THEME",
    "TURNED",
    "Act",
    "Stage",
    "ablation",
    "accuracies",
    "alternations",
    "architecture",
    "before_and_after",
    "by_class",
    "channel_statistics",
    "coincidence",
    "curves",
    "directions",
    "embedding_2d",
    "factors_kept",
    "family",
    "flow_fields",
    "flow_path",
    "followers",
    "formula",
    "gallery",
    "knobs",
    "label",
    "labels_needed",
    "layer_scales",
    "lies",
    "matrices",
    "mean_and_sd",
    "monitors",
    "picture",
    "planes",
    "png",
    "race",
    "rates",
    "read_in_views",
    "readable",
    "same_run",
    "sampling",
    "sheet",
    "small_multiples",
    "spectra",
    "styles",
    "theme",
    "time_shares",
    "triptych",
    "unlabelled",
    "verdicts",
    "views",
]
