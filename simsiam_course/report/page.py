"""The parts of a page: a `str` that goes in is escaped; what comes out is `Html` and is not escaped again."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure


STYLE = """
:root { color-scheme: light dark; --ink: #1f2428; --soft: #59636e; --paper: #fff; --line: #d9dee3;
  --tint: #f3f6f8; --accent: #00588c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebee; --soft: #a9b3bd; --paper: #16191d; --line: #3a424a; --tint: #20252b;
    --accent: #7cc4f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem; max-width: 61rem; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 system-ui, "Segoe UI", Roboto, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .5rem; }
p, li, dd { max-width: 46rem; }
a { color: var(--accent); }
.lead { font-size: 1.2rem; }
figcaption { color: var(--soft); font-size: .95rem; margin: .5rem 0; max-width: 46rem; }
figure { margin: 1.25rem 0; }
.wide { overflow-x: auto; }
.wide:focus-visible { outline: 2px solid var(--accent); }
img { display: block; width: 100%; max-width: 56.25rem; height: auto; background: #fff;
  border-radius: .5rem; border: 1px solid var(--line); }
@media (max-width: 40rem) { img { min-width: 36rem; } }
table { border-collapse: collapse; font-size: .95rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, .words th, .words td { text-align: left; }
.words td:nth-child(3) { white-space: normal; min-width: 9rem; }
thead th { color: var(--soft); font-weight: 600; }
tbody th { font-weight: 600; }
dt { font-weight: 600; margin-top: .75rem; }
dd { margin: 0; }
.question { margin: 2.5rem 0; padding: 1rem 1.25rem; background: var(--tint);
  border-left: .3rem solid var(--accent); border-radius: .25rem; }
.question h2 { margin: 0 0 .25rem; }
.question p { margin: 0; font-size: 1.1rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; }
"""


class Html(str):
    """Text that is HTML already."""


def markup(*parts: object) -> Html:
    """Parts of a page joined: `Html` as it is, anything else as escaped text."""
    return Html("".join(part if isinstance(part, Html) else html.escape(str(part)) for part in parts))


def element(tag: str, *parts: object, **attributes: str) -> Html:
    """An HTML element around escaped parts; an attribute's trailing underscore is dropped (`class_`)."""
    inside = "".join(f' {name.rstrip("_")}="{html.escape(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{inside}>{markup(*parts)}</{tag}>")


def paragraph(*parts: object) -> Html:
    """A paragraph of text."""
    return element("p", *parts)


def section(heading: str, *blocks: object) -> Html:
    """A heading and what stands below it."""
    return element("section", element("h2", heading), *blocks)


def picture(figure: Figure, alt: str, caption: str = "") -> Html:
    """A figure inside the page, as PNG, with the text that stands in for it and a caption below."""
    source = "data:image/png;base64," + base64.b64encode(plot.png(figure)).decode()
    width, height = (str(round(inches * figure.dpi)) for inches in figure.get_size_inches())
    image = Html(f'<img src="{source}" alt="{html.escape(alt)}" width="{width}" height="{height}">')
    below = element("figcaption", caption) if caption else Html()
    return element("figure", _wide(image, f"Figure: {alt}"), below)


def grid(
    head: Sequence[object], lines: Sequence[Sequence[object]], *, caption: str, words: bool = False
) -> Html:
    """A table that scrolls where the page is narrow; the first cell names its line, `words` aligns left."""
    top = element("tr", *(element("th", cell, scope="col") for cell in head))
    body = [
        element("tr", element("th", line[0], scope="row"), *(element("td", cell) for cell in line[1:]))
        for line in lines
    ]
    table = element(
        "table", element("thead", top), element("tbody", *body), class_="words" if words else "figures"
    )
    return element("figure", element("figcaption", caption), _wide(table, f"Table: {caption}"))


def _wide(block: Html, name: str) -> Html:
    """A box that scrolls sideways, by keyboard too."""
    return element("div", block, class_="wide", tabindex="0", role="region", **{"aria-label": name})


def report(title: str, *sections: object) -> str:
    """A whole page: its title and its sections, each `Html` or, escaped, a string that becomes a paragraph.

    The page has no script and asks for nothing outside itself; its content security policy says so too.
    """
    blocks = [block if isinstance(block, Html) else paragraph(block) for block in sections]
    main = element("main", element("h1", title), *blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f'<link rel="icon" href="data:,">\n{element("title", title)}\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{main}\n</body>\n</html>\n"
    )
