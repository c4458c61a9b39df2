"""One page that says what was run, what came out and what it means, in a single HTML file.

Every sentence about a result is made from the numbers of the rows; none is typed in. A plain `str` is escaped
wherever it enters the page; only `Html`, which the functions here return, is taken as it is.
"""

from __future__ import annotations

from .experiment import ablation_alt, experiment_report, headline, paper_sentences, what_was_run
from .files import write
from .page import Html, element, grid, markup, paragraph, picture, report, section

__all__ = [
    "Html",
    "ablation_alt",
    "element",
    "experiment_report",
    "grid",
    "headline",
    "markup",
    "paper_sentences",
    "paragraph",
    "picture",
    "report",
    "section",
    "what_was_run",
    "write",
]
