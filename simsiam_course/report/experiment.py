"""The page of one experiment: its sentences, made from the numbers of its rows."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeGuard

from .. import plot
from ..collapse import diagnose
from .page import Html, element, grid, markup, paragraph, picture, report, section

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Row = Mapping[str, Any]
Line = Mapping[str, Any]  # of `ablate.table`: variant, n, and (mean, sd) of each figure

PAPER_ADDRESS = "https://arxiv.org/abs/2011.10566"
SOURCES = (
    (
        "X. Chen, K. He: Exploring Simple Siamese Representation Learning. CVPR 2021, arXiv:2011.10566v1.",
        PAPER_ADDRESS,
    ),
    (
        "L. McInnes, J. Healy, J. Melville: UMAP, Uniform Manifold Approximation and Projection. 2018.",
        "https://arxiv.org/abs/1802.03426",
    ),
    ("O. Roy, M. Vetterli: The effective rank. EUSIPCO 2007 (here with squared singular values).", ""),
)

GLOSSARY = (
    (
        "loss",
        "negative cosine between prediction and target of two views: −1 is perfect agreement, and a constant "
        "output has it too, so a low loss alone says nothing.",
    ),
    ("std", "how far z/|z| spreads, times √d: 1 is healthy, 0 is a constant."),
    ("effective rank", "in how many directions z/|z| spreads: 1 is a point or a line."),
    (
        "kNN",
        "accuracy when each test image takes the label of the training images whose features are nearest.",
    ),
    ("linear", "accuracy of a linear classifier on the same features, which stay as they are."),
)


def experiment_report(
    experiment: Any,
    rows: Sequence[Row],
    table: Sequence[Line],
    baselines: Mapping[str, float | None] | None,
    figures: Sequence[tuple[Figure, str, str]],
    features: Sequence[tuple[Figure, str, str]] = (),
) -> str:
    """The page of one experiment.

    experiment: has `title`, `question`, `paper` and `data`, or is a title. `paper`: variant -> (linear accuracy on
    ImageNet with ResNet-50 after 100 passes, source). rows: the ledger's; table: `ablate.table` of them.
    figures: (figure, alt, caption), the curves, at the top; features: the same of what was learned, further down.
    """
    title = experiment if isinstance(experiment, str) else str(experiment.title)
    question = getattr(experiment, "question", "")
    blocks: list[object] = [
        element("p", headline(rows, table), class_="lead"),
        paragraph(what_was_run(rows, data=getattr(experiment, "data", None))),
        *(picture(*figure) for figure in figures),
        section("The numbers", _numbers(rows, table, baselines or {}), _glossary()),
        section("What the numbers say", _diagnoses(rows)),
    ]
    if question:
        asked = (element("h2", "A question to ask the class"), paragraph(question))
        blocks.append(element("section", *asked, class_="question"))
    blocks.append(section("Beside the paper", *_beside_the_paper(experiment, rows, table)))
    if features:
        blocks.append(section("What the features look like", *(picture(*figure) for figure in features)))
    blocks.append(section("Sources", element("ul", *(element("li", _source(*source)) for source in SOURCES))))
    return report(title, *blocks)


def headline(rows: Sequence[Row], table: Sequence[Line]) -> str:
    """What came out: the variants by the diagnosis that all their runs share, healthy ones first."""
    groups: dict[str, list[str]] = {"healthy": []}
    for line in table:
        names = sorted(set(_names(rows, line["variant"])))
        shared = names[0] if len(names) == 1 else "differing from seed to seed"
        knn = line.get("knn", (None, None))
        shown = f" (kNN {_figure_text(knn, percent=True)})" if _known(knn[0]) else ""
        groups.setdefault(shared, []).append(plot.label(line["variant"]) + shown)
    groups["healthy"] = groups["healthy"] or ["no variant"]
    return " ".join(f"{_capital(name)}: {_listed(variants)}." for name, variants in groups.items())


def what_was_run(rows: Sequence[Row], *, data: str | None = None) -> str:
    """Data, variants, seeds, images seen, device and time of a set of runs, in two sentences."""
    variants, seeds = len({row["variant"] for row in rows}), sorted({row["seed"] for row in rows})
    which = (
        f"from seed {seeds[0]}" if len(seeds) == 1 else f"from each of {len(seeds)} seeds ({_span(seeds)})"
    )
    where = f" on the images of '{data}'" if data else ""
    seen = [row["images_seen"] for row in rows if _known(row.get("images_seen"))] or [0]
    count = f"{seen[0]:,}" if len(set(seen)) == 1 else f"{min(seen):,} to {max(seen):,}"
    count = count if seen != [0] else "an unknown number of"
    times = [row["seconds"] for row in rows if _known(row.get("seconds"))]
    speeds = [row["images_per_second"] for row in rows if _known(row.get("images_per_second"))]
    devices = _listed(sorted({str(row["device"]) for row in rows if row.get("device")}))
    took = f" and trained for {statistics.fmean(times):,.0f} s" if times else ""
    took += f" on {devices}" if devices else ""
    rate = f" ({statistics.fmean(speeds):,.0f} images/s)" if speeds else ""
    total = f"; all {len(rows)} runs together took {_duration(sum(times))}" if len(times) > 1 else ""
    noun = "variant was" if variants == 1 else "variants were"
    return (
        f"{variants} {noun} trained{where}, {which}. "
        f"A run saw {count} images (an image counts once a pass){took}{rate}{total}."
    )


def ablation_alt(table: Sequence[Line]) -> str:
    """A text that stands in for the figure of `plot.ablation`, made from its numbers."""
    lines = []
    for line in table:
        parts = [
            f"{name} {_figure_text(line.get(key), percent=key == 'knn', digits=_DIGITS.get(key, 2))}"
            for key, name in (
                ("loss", "loss"),
                ("std", "std"),
                ("effective_rank", "effective rank"),
                ("knn", "kNN"),
            )
            if line.get(key, (None,))[0] is not None
        ]
        lines.append(f"{plot.label(line['variant'])}: {', '.join(parts) or 'no finite numbers'}")
    shown = "Curves of loss, std and effective rank over the images seen, and kNN accuracy."
    return f"{shown} At the end: {'; '.join(lines)}."


def _numbers(rows: Sequence[Row], table: Sequence[Line], baselines: Mapping[str, float | None]) -> Html:
    columns = (
        ("knn", "kNN"),
        ("linear", "linear"),
        ("effective_rank", "effective rank"),
        ("std", "std"),
        ("loss", "loss"),
        ("seconds", "seconds"),
    )
    lines = [
        [
            plot.label(line["variant"]),
            _runs(rows, line),
            *(
                _figure_text(line.get(key), percent=key in ("knn", "linear"), digits=_DIGITS.get(key, 2))
                for key, _ in columns
            ),
        ]
        for line in table
    ]
    for key, name in (("raw_pixels_knn", "raw pixels"), ("random_backbone_knn", "random backbone")):
        if _known(baselines.get(key)):
            lines.append(
                [name, "", _figure_text((baselines[key], None), percent=True), *[""] * (len(columns) - 1)]
            )
    repeated = any(line["n"] > 1 for line in table)
    caption = (
        "Mean ± standard deviation over n seeds" if repeated else "One seed each, so no standard deviation"
    )
    caption += ", measured on test images after training."
    if any("of" in line[1] for line in lines):
        caption += " n as '3 of 5': only 3 of 5 runs ended in finite numbers, and the mean is over those."
    if any(line.get(key, (None,))[0] is None for line in table for key, _ in columns):
        caption += " A dash: not measured, or not a finite number."
    return grid(["variant", "n", *(name for _, name in columns)], lines, caption=caption)


def _runs(rows: Sequence[Row], line: Line) -> str:
    """How many runs a mean is over; where some of them diverged, how many ended in finite numbers."""
    finite = sum(_known(row.get("loss")) for row in rows if row["variant"] == line["variant"])
    return str(line["n"]) if finite in (0, line["n"]) else f"{finite} of {line['n']}"


_DIGITS = {"effective_rank": 1, "seconds": 0, "loss": 3}


def _glossary() -> Html:
    terms = [part for term, meaning in GLOSSARY for part in (element("dt", term), element("dd", meaning))]
    return element("details", element("summary", "What each column means"), element("dl", *terms))


def _diagnoses(rows: Sequence[Row]) -> Html:
    """Each variant's diagnosis: the name, in how many runs, and the evidence and advice of the first."""
    parts = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        named = Counter(_names(rows, variant)).most_common()
        counts = [name if len(own) == 1 else f"{name} in {count} of {len(own)} runs" for name, count in named]
        parts.append(element("dt", f"{plot.label(variant)}: {', '.join(counts)}"))
        for name, _ in named:
            row = next(row for row in own if _diagnosis(row)["name"] == name)
            told = [_sentence(_diagnosis(row).get(key)) for key in ("evidence", "advice")]
            text = " ".join(filter(None, told))
            seed = f"Seed {row['seed']}: " if len(own) > 1 else ""
            parts.append(element("dd", seed + text) if text else Html())
    return element("dl", *parts)


def _beside_the_paper(experiment: Any, rows: Sequence[Row], table: Sequence[Line]) -> list[Html]:
    """The paper's figures next to ours, and what the comparison of the monitors may honestly say."""
    paper = getattr(experiment, "paper", None)
    blocks = []
    if paper:
        lines = []
        for line in table:
            figure, source = paper.get(line["variant"], ("not reported", ""))
            lines.append(
                [
                    plot.label(line["variant"]),
                    figure,
                    source or "–",
                    *(_figure_text(line.get(key), percent=True) for key in ("linear", "knn")),
                ]
            )
        head = ["variant", "paper: linear", "where", "here: linear", "here: kNN"]
        blocks.append(
            grid(
                head,
                lines,
                caption="Paper: ImageNet, ResNet-50, 100 passes, 1,000 classes (chance is 0.1 %). "
                "Here: a small network on small images. Compare the order, not the size.",
                words=True,
            )
        )
    before, told, after = paper_sentences(rows, table)
    if told:
        blocks += [
            paragraph(before),
            element("ul", *(element("li", text) for text in told)),
            paragraph(after),
        ]
    return blocks + [
        paragraph("All of the paper's numbers: ", _source("arXiv:2011.10566v1", PAPER_ADDRESS), ".")
    ]


def paper_sentences(rows: Sequence[Row], table: Sequence[Line]) -> tuple[str, list[str], str]:
    """The collapses seen here beside the paper's Fig. 2: an opening, one sentence per collapse, a warning."""
    told = []
    for line in table:
        counts = Counter(_names(rows, line["variant"]))
        runs, name = counts.total(), _capital(plot.label(line["variant"]))
        std, rank = (
            _figure_text(line.get(key), digits=_DIGITS.get(key, 2)) for key in ("std", "effective_rank")
        )
        if counts["complete collapse"] == runs:
            last = [
                row["history"][-1].get("std")
                for row in rows
                if row["variant"] == line["variant"] and row["history"]
            ]
            held = statistics.fmean(known) if (known := [value for value in last if _known(value)]) else 0.0
            told.append(
                f"{name}: the std of clean test images is {std}, a constant output as in the paper's figure"
                + (
                    f"; in the last training batch it was {held:.2f}, because output BN gives each channel variance 1 "
                    "within a batch, and a few odd images carry it."
                    if held >= 0.2
                    else "."
                )
            )
        elif counts["dimensional collapse"] == runs:
            told.append(
                f"{name}: the std of clean test images is {std}, not 0, and the effective rank {rank}: the outputs "
                "still differ, but along one line."
            )
        elif counts["complete collapse"] + counts["dimensional collapse"]:
            told.append(
                f"{name}: {counts['complete collapse']} of {runs} runs became constant and "
                f"{counts['dimensional collapse']} kept to one line."
            )
    opening = (
        "In the paper's Fig. 2 the run without stop-gradient collapses to a constant although z has batch "
        "normalisation: its std falls to 0 (drawn there without the factor √d). The collapses here:"
    )
    warning = (
        "Chance accuracy alone would not prove a collapse (the paper's footnote 4): std and rank show it."
    )
    return opening, told, warning


def _source(text: str, address: str) -> Html:
    return element("a", text, href=address) if address else markup(text)


def _diagnosis(row: Row) -> Mapping[str, str]:
    """A row's diagnosis; where it has only the name, its numbers are read again for the evidence."""
    found = row.get("diagnosis") or "unknown"
    if not isinstance(found, str):
        return found
    again = diagnose(row)
    return asdict(again) if again.name == found else {"name": found}


def _names(rows: Sequence[Row], variant: str) -> list[str]:
    return [_diagnosis(row)["name"] for row in rows if row["variant"] == variant]


def _known(value: Any) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _figure_text(value: Any, *, percent: bool = False, digits: int = 2) -> str:
    """(mean, sd) as a person writes it: 88.1 ± 0.4 %; a dash without a mean, no ± without an sd."""
    mean, sd = value or (None, None)
    if not _known(mean):
        return "–"
    scale, digits = (100, 1) if percent else (1, digits)
    text = f"{scale * mean:,.{digits}f}".replace("-", "\N{MINUS SIGN}")
    text += f" ± {scale * sd:,.{digits}f}" if _known(sd) else ""
    return text + (" %" if percent else "")


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _span(seeds: Sequence[int]) -> str:
    whole = list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _sentence(text: str | None) -> str:
    """The text with a capital and a full stop."""
    text = (text or "").strip()
    return _capital(text) + ("" if text.endswith((".", "!", "?")) else ".") if text else ""
