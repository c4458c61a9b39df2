"""The page is one file, says what the numbers say, and lets no text become code."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from simsiam_course import plot, report
from simsiam_course.ablate import COLLAPSE, table

BASELINES = {"raw_pixels_knn": 0.203, "random_backbone_knn": 0.187}


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if not self.open or self.open[-1] != "style" else ""

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def run(variant, seed=0, *, name="healthy", **changes):
    row = {"experiment": "collapse", "variant": variant, "seed": seed, "images_seen": 69632, "device": "cpu"}
    row |= {"loss": -0.9, "std": 0.99, "effective_rank": 8.5, "knn": 0.88, "linear": 0.9}
    row |= {"seconds": 50.0, "images_per_second": 1392.0}
    row["history"] = [{"step": 1, "images_seen": 64, "loss": -0.1, "std": 1.0, "effective_rank": 2.0}]
    row["diagnosis"] = {
        "name": name,
        "evidence": f"evidence of {variant}",
        "advice": f"Advice for {variant}.",
    }
    return row | changes


def line_collapse(variant, seed=0, **changes):
    figures = {"std": 0.37, "effective_rank": 1.2, "knn": 0.16, "linear": 0.19} | changes
    return run(variant, seed, name="dimensional collapse", **figures)


def demo_rows():
    return [run("simsiam"), *(line_collapse(v) for v in ("no_stop_gradient", "no_predictor", "neither"))]


def page_of(rows, experiment=COLLAPSE, *, baselines=BASELINES, figures=()):
    return report.experiment_report(experiment, rows, table(rows), baselines, list(figures))


@pytest.fixture(scope="module")
def demo():
    rows = demo_rows()
    figures = [
        (plot.ablation(rows), "Four curves", "One budget."),
        (plot.curves(rows[0]["history"]), "Maps", ""),
    ]
    return page_of(rows, figures=figures)


def test_the_page_is_one_file_that_asks_nobody_for_anything(demo):
    page = Page(demo)
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if re.search(r"https?:|//", value or "") and not (value or "").startswith("data:"):
                assert (tag, name) == ("a", "href"), f"<{tag} {name}> reaches outside the page"
    assert not page.all("script")
    assert not re.search(r"@import|url\(|\son\w+=", demo)
    assert all(a["href"].startswith("data:") for a in page.all("link"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_every_tag_is_closed_and_the_page_has_one_title_and_a_language(demo):
    page = Page(demo)
    assert page.open == []
    assert len(page.all("h1")) == len(page.all("title")) == 1
    assert page.all("html") == [{"lang": "en"}]


def test_it_is_readable_on_a_phone_and_in_the_dark(demo):
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in Page(demo).all("meta")
    assert "prefers-color-scheme: dark" in demo
    scrolling = [a for a in Page(demo).all("div") if a.get("class") == "wide"]
    assert len(scrolling) == 4  # two tables, two figures
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)


def test_every_figure_is_inside_the_page_with_its_alt_text_and_its_size(demo):
    first, second = Page(demo).all("img")
    assert (first["alt"], second["alt"]) == ("Four curves", "Maps")
    kind, data = first["src"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert (first["width"], first["height"]) == ("900", "660")
    assert "One budget." in Page(demo).text


@pytest.mark.parametrize(
    "place", ["variant", "title", "question", "paper", "evidence", "alt", "caption", "device"]
)
def test_no_text_becomes_code(place):
    bad = "<script>alert('1')</script>\" onload=\"x"
    rows = [run(bad if place == "variant" else "simsiam")]
    if place == "evidence":
        rows[0]["diagnosis"] = {"name": bad, "evidence": bad, "advice": bad}
    if place == "device":
        rows[0]["device"] = bad
    about = {"name": "mine", "title": "T", "question": "Q", "paper": {"simsiam": ("P", "Q")}}
    about |= {place: {"simsiam": (bad, bad)} if place == "paper" else bad} if place in about else {}
    figure = (Figure(), bad if place == "alt" else "alt", bad if place == "caption" else "caption")
    text = page_of(rows, SimpleNamespace(**about), figures=[figure])
    page = Page(text)
    assert not page.all("script")
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert "&lt;script&gt;" in text


def test_plain_strings_are_enough():
    assert "Only a title" in Page(page_of(demo_rows(), "Only a title")).text
    text = report.report("A & B", "one < two", report.section("S", "three"))
    assert "<h1>A &amp; B</h1><p>one &lt; two</p>" in text


def test_what_was_run_is_told_in_two_sentences():
    rows = [run(v, s, seconds=50.0 + s) for v in ("simsiam", "neither") for s in range(3)]
    assert report.what_was_run(rows, data="patterns") == (
        "2 variants were trained on the images of 'patterns', from each of 3 seeds (0 to 2). "
        "A run saw 69,632 images (an image counts once a pass) and trained for 51 s on cpu (1,392 images/s); "
        "all 6 runs together took 5 minutes."
    )


def test_what_was_run_says_so_where_runs_differ_or_lack_a_number():
    rows = [run("simsiam"), run("neither", 4, images_seen=640, seconds=None, images_per_second=None)]
    said = report.what_was_run(rows)
    assert "2 seeds (0, 4)" in said
    assert "640 to 69,632 images" in said


def test_the_headline_sorts_the_variants_by_what_was_found():
    rows = [*demo_rows(), run("other", 0), line_collapse("other", 1)]
    assert report.headline(rows, table(rows)) == (
        "Healthy: SimSiam (kNN 88.0 %). "
        "Dimensional collapse: no stop-gradient (kNN 16.0 %), no predictor (kNN 16.0 %) "
        "and neither of the two (kNN 16.0 %). "
        "Differing from seed to seed: other (kNN 52.0 ± 50.9 %)."
    )
    collapsed = rows[1:2]
    assert report.headline(collapsed, table(collapsed)).startswith("Healthy: no variant. ")


def test_the_table_has_mean_sd_and_n_and_a_dash_where_there_is_no_number():
    gone = dict.fromkeys(("loss", "std", "effective_rank", "knn", "linear"))
    rows = [run("simsiam", s, knn=k) for s, k in enumerate((0.86, 0.88, 0.90))]
    rows += [run("neither", s, name="diverged", **gone) for s in range(3)]
    rows += [run("other", 0), run("other", 1), run("other", 2, **gone)]
    cells = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)
        for line in re.findall(r"<tr>(.*?)</tr>", page_of(rows))
    ]
    lines = {line[0]: line[1:] for line in cells[:6]}
    assert lines["SimSiam"][:2] == ["3", "88.0 ± 2.0 %"]
    assert lines["SimSiam"][5] == "−0.900 ± 0.000"
    assert lines["neither of the two"][:6] == ["3", "–", "–", "–", "–", "–"]
    assert lines["other"][0] == "2 of 3"
    assert lines["raw pixels"][1] == "20.3 %"


def test_one_seed_shows_no_sd_and_says_so(demo):
    assert "±" not in Page(demo).text.replace("67.7 ± 0.1", "")
    assert "One seed each, so no standard deviation" in Page(demo).text


def test_each_variant_has_its_diagnosis_its_evidence_and_its_advice():
    rows = [line_collapse("neither", 0), line_collapse("neither", 1), run("neither", 2)]
    text = Page(page_of(rows)).text
    assert "neither of the two: dimensional collapse in 2 of 3 runs, healthy in 1 of 3 runs" in text
    assert "Seed 0: Evidence of neither. Advice for neither." in text
    assert "Seed 2: Evidence of neither." in text


def test_a_diagnosis_that_is_only_a_name_gets_its_evidence_from_the_numbers():
    history = [
        {"step": i, "images_seen": i, "loss": -0.9, "std": 0.3, "effective_rank": 1.1}
        for i in range(0, 800, 10)
    ]
    rows = [line_collapse("neither", diagnosis="dimensional collapse", history=history)]
    assert "lie along one line" in Page(page_of(rows)).text
    rows[0]["diagnosis"] = (
        "healthy"  # not what the numbers say: the name stays, no evidence is made up for it
    )
    assert "neither of the two: healthy" in Page(page_of(rows)).text


def test_the_paper_s_numbers_stand_beside_ours_with_their_source(demo):
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in re.findall(r"<tr>(.*?)</tr>", demo)]
    assert ["SimSiam", "67.7 ± 0.1 %", "Fig. 2", "90.0 %", "88.0 %"] in cells
    assert ["no stop-gradient", "0.1 %", "Fig. 2", "19.0 %", "16.0 %"] in cells
    assert ["no predictor", "0.1 %", "Table 1a", "19.0 %", "16.0 %"] in cells
    assert ["neither of the two", "not reported", "–", "19.0 %", "16.0 %"] in cells
    assert "https://arxiv.org/abs/2011.10566" in [a["href"] for a in Page(demo).all("a")]


def test_what_is_said_of_the_collapse_follows_the_rows():
    rows = demo_rows()
    _, told, _ = report.paper_sentences(rows, table(rows))
    assert len(told) == 3
    assert told[0] == (
        "No stop-gradient: the std of clean test images is 0.37, not 0, and the effective rank 1.2: "
        "the outputs still differ, but along one line."
    )
    constant = [run("neither", name="complete collapse", std=0.01, effective_rank=1.0)]
    last = constant[0]["history"][-1]
    said = []
    for last["std"] in (0.01, 0.35):  # in the last training batch
        said.append(report.paper_sentences(constant, table(constant))[1][0])
    assert all(
        "clean test images is 0.01, a constant output as in the paper" in sentence for sentence in said
    )
    assert "training batch" not in said[0] and "in the last training batch it was 0.35" in said[1]
    mixed = [*constant, line_collapse("neither", 1), run("neither", 2)]
    assert (
        "1 of 3 runs became constant and 1 kept to one line"
        in report.paper_sentences(mixed, table(mixed))[1][0]
    )


def test_nothing_is_said_of_a_collapse_that_did_not_happen():
    rows = [run("simsiam"), run("no_stop_gradient")]
    text = Page(page_of(rows)).text
    assert "falls to 0" not in text
    assert "along one line" not in text


def test_another_experiment_brings_its_own_comparison():
    paper = {"none": ("1.5 %", "Table 1b")}
    text = page_of([run("none")], SimpleNamespace(name="x", title="T", question="", paper=paper))
    assert "<td>1.5 %</td><td>Table 1b</td>" in text
    assert "67.7" not in text


def test_the_question_for_the_class_is_there(demo):
    assert COLLAPSE.question in Page(demo).text


def test_the_alt_text_of_the_ablation_has_its_numbers():
    rows = demo_rows()[:2]
    assert report.ablation_alt(table(rows)).endswith(
        "SimSiam: loss −0.900, std 0.99, effective rank 8.5, kNN 88.0 %; "
        "no stop-gradient: loss −0.900, std 0.37, effective rank 1.2, kNN 16.0 %."
    )


def test_without_labels_and_baselines_the_page_still_stands():
    rows = [run("simsiam", knn=None, linear=None)]
    text = Page(page_of(rows, baselines=None)).text
    assert "kNN 88" not in text
    assert "raw pixels" not in text
