"""The form that every notebook has. That a notebook runs is nbval's to say; how it reads, the eye's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nbformat
import pytest

from simsiam_course.lesson import LESSONS

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REPOSITORY = PROJECT["project"]["urls"]["Repository"]
RELEASE = PROJECT["tool"]["simsiam_course"]["release"]

SETUP = f"""# @title Setup: run me first
import sys

if "google.colab" in sys.modules:
    %pip install -q --no-deps "simsiam-course @ git+{REPOSITORY}@{RELEASE}"
import simsiam_course

course = simsiam_course.setup("NUMBER")"""
BADGE = (
    "[![Open this lesson in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    f"({REPOSITORY.replace('https://github.com', 'https://colab.research.google.com/github')}"
    f"/blob/{RELEASE}/notebooks/NAME)"
)

CODE_LINES = 15
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#{1,6}) +\S", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])(?:/(?:home|root|Users|work|tmp|opt|var|mnt|content)/|[A-Z]:\\)")
WARNING = re.compile(r"\b\w*Warning\b|Traceback \(most recent call last\)")
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")
WIDGET = "application/vnd.jupyter.widget-view+json"


def read(path: Path):
    return nbformat.read(path, as_version=4)


def prose(notebook) -> str:
    """The text cells, without what stands in code fences."""
    cells = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return "\n\n".join(FENCE.sub("", text) for text in cells)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def form_errors(notebook, name: str) -> list[str]:
    """Every rule that a notebook breaks, each as a sentence."""
    return [f"{name}: {error}" for rule in RULES for error in rule(notebook, name)]


def starts_as_all_lessons_do(notebook, name):
    number, first = name[:2], notebook.cells[0]
    if notebook.cells[1].source != SETUP.replace("NUMBER", number):
        yield "the setup cell is not the one of all notebooks (address and release: pyproject.toml)"
    if BADGE.replace("NAME", name) not in first.source:
        yield "the Colab badge does not lead to this notebook at the release in pyproject.toml"
    if "After this lesson you can" not in first.source:
        yield "the first cell has no objectives"
    lesson = LESSONS.get(number)
    if lesson is None:
        yield f"lesson.py knows no lesson {number}"
    elif (
        not first.source.startswith(f"# {number} {lesson.title}\n")
        or f"about {lesson.minutes} minutes for you" not in first.source
        or f"about {lesson.machine_minutes:g} minute" not in first.source
    ):
        yield "title and minutes in the first cell are not those of lesson.py"


def has_headings_in_order(notebook, name):
    levels = [len(marks) for marks in HEADING.findall(prose(notebook))]
    if levels.count(1) != 1:
        yield f"{levels.count(1)} headings of level 1, expected the title alone"
    for above, below in zip(levels, levels[1:], strict=False):
        if below > above + 1:
            yield f"a heading of level {below} follows one of level {above}"


def has_short_code_cells(notebook, name):
    for cell in code_cells(notebook):
        lines = len(cell.source.splitlines())
        if lines > CODE_LINES:
            yield f"cell {cell.id} has {lines} lines, expected at most {CODE_LINES}"


def opens_details_with_a_blank_line(notebook, name):
    text = prose(notebook)
    if re.search(r"</summary>[ \t]*\n[ \t]*\S", text) or re.search(r"</summary>[ \t]*\S", text):
        yield "no blank line after a </summary>: what follows would not be rendered"
    if not text.count("<details>") == text.count("</details>") == text.count("<summary>"):
        yield "a <details> is not closed or has no <summary>"


def stores_no_warning_and_no_error(notebook, name):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            said = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            if output.output_type == "error" or output.get("name") == "stderr" or WARNING.search(said):
                yield f"cell {cell.id} stores a warning or an error"
            if WIDGET in output.get("data", {}):
                yield f"cell {cell.id} stores a widget or a progress bar, which is dead without its kernel"


def describes_every_image(notebook, name):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for kind in set(IMAGES) & set(output.get("data", {})):
                if not output.metadata.get(kind, {}).get("alt", "").strip():
                    yield f"an image of cell {cell.id} has no alt text: show it by course.show"
    if re.search(r"!\[\s*\]\(|<img(?![^>]*alt=[\"'][^\"'])", prose(notebook)):
        yield "a picture in a text cell has no alt text"


def was_run_once_from_the_top(notebook, name):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts not in ([None] * len(counts), list(range(1, len(counts) + 1))):
        yield f"the execution counts are {counts}, expected 1 to {len(counts)}, or none at all"


def belongs_to_no_machine(notebook, name):
    if "widgets" in notebook.metadata:
        yield "the metadata hold widget state, with which some previews fail"
    if any("execution" in cell.metadata for cell in notebook.cells):
        yield "the metadata hold times of execution, which change with every run"
    shown = [output.get("text", "") for cell in code_cells(notebook) for output in cell.outputs]
    shown += [
        text
        for cell in code_cells(notebook)
        for output in cell.outputs
        for kind, text in output.get("data", {}).items()
        if kind.startswith("text/")
    ]
    if any(ABSOLUTE_PATH.search(text) for text in [*shown, *(cell.source for cell in notebook.cells)]):
        yield "there is a path of somebody's machine"


def needs_no_thread_and_no_output_widget(notebook, name):
    code = "\n".join(cell.source for cell in code_cells(notebook))
    if re.search(r"\bthreading\b|\bThread\(|\bOutput\(|\bpyplot\b", code):
        yield "threads, Output widgets and pyplot show stale pictures: use a callback and course.show"


def links_to_what_is_there(notebook, name):
    for target in LINK.findall(prose(notebook)):
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path) and not (ROOT / "notebooks" / path).exists():
            yield f"the link to {target} leads nowhere"


RULES = (
    starts_as_all_lessons_do,
    has_headings_in_order,
    has_short_code_cells,
    opens_details_with_a_blank_line,
    stores_no_warning_and_no_error,
    describes_every_image,
    was_run_once_from_the_top,
    belongs_to_no_machine,
    needs_no_thread_and_no_output_widget,
    links_to_what_is_there,
)


def test_there_is_a_notebook_for_every_lesson_that_can_be_set_up():
    assert [path.name[:2] for path in NOTEBOOKS] == sorted(LESSONS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(path, rule):
    assert list(rule(read(path), path.name)) == []


# ---- the rules can fail: each is broken on purpose


def picture(**metadata):
    return nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata=metadata)


def add_text(text):
    return lambda nb: nb.cells.append(nbformat.v4.new_markdown_cell(text))


def add_code(source="", *outputs):
    """A code cell at the end, as though it had been run with the others."""

    def change(nb):
        ran = code_cells(nb)[-1].execution_count
        cell = nbformat.v4.new_code_cell(source, execution_count=ran and ran + 1, outputs=list(outputs))
        nb.cells.append(cell)

    return change


def replace(cell, old, new):
    def change(nb):
        assert old in nb.cells[cell].source
        nb.cells[cell].source = nb.cells[cell].source.replace(old, new)

    return change


def stream(name, text):
    return nbformat.v4.new_output("stream", name=name, text=text)


BROKEN = {
    "another release in the setup cell": (replace(1, f"@{RELEASE}", "@main"), "setup cell"),
    "a dependency that moves": (replace(1, " --no-deps", ""), "setup cell"),
    "another lesson's setup": (replace(1, 'setup("0', 'setup("1'), "setup cell"),
    "another notebook's badge": (replace(0, f"/blob/{RELEASE}/notebooks/", "/blob/old/notebooks/"), "badge"),
    "no objectives": (replace(0, "After this lesson you can", "Contents"), "objectives"),
    "other minutes": (replace(0, "minutes for you", "hours for you"), "minutes"),
    "a second title": (add_text("# Another title"), "level 1"),
    "a level left out": (add_text("## Two\n\n#### Four"), "level 4 follows one of level 2"),
    "a long cell": (add_code("x = 1\n" * 16), "16 lines"),
    "details that would not be rendered": (
        add_text("<details>\n<summary>A</summary>\n`x`\n\n</details>"),
        "blank line",
    ),
    "details left open": (add_text("<details>\n<summary>A</summary>\n\ntext"), "not closed"),
    "a stored warning": (add_code("", stream("stdout", "FutureWarning: soon")), "warning"),
    "something on stderr": (add_code("", stream("stderr", "50%")), "warning"),
    "a stored progress bar": (
        add_code("", nbformat.v4.new_output("display_data", {WIDGET: {}, "text/plain": "0%"})),
        "progress bar",
    ),
    "an image without alt text": (add_code("", picture()), "no alt text"),
    "an image with an empty alt text": (add_code("", picture(**{"image/png": {"alt": " "}})), "no alt text"),
    "a picture in the text without alt text": (add_text("![](../README.md)"), "no alt text"),
    "a cell that was run later": (
        lambda nb: code_cells(nb)[-1].__setitem__("execution_count", 99),
        "execution counts",
    ),
    "widget state": (lambda nb: nb.metadata.__setitem__("widgets", {}), "widget state"),
    "times of execution": (
        lambda nb: nb.cells[1].metadata.__setitem__("execution", {}),
        "times of execution",
    ),
    "a path of a machine": (add_code("", stream("stdout", "saved in /home/ada/runs")), "somebody's machine"),
    "a path of a Windows machine": (add_text("open C:\\runs"), "somebody's machine"),
    "a thread": (add_code("import threading"), "threads"),
    "an Output widget": (add_code("out = widgets.Output()"), "threads"),
    "a dead link": (add_text("[there](../nowhere.md)"), "leads nowhere"),
}


@pytest.mark.parametrize(("change", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_found(change, said):
    path = NOTEBOOKS[0]
    notebook = read(path)
    assert not form_errors(notebook, path.name)
    change(notebook)
    errors = form_errors(notebook, path.name)
    assert errors
    assert all(said in error for error in errors)


def test_what_looks_like_a_fault_and_is_none_passes():
    notebook = read(NOTEBOOKS[0])
    add_text("```\n# a comment, no title\n</summary> x\n```\n\n[paper](https://arxiv.org/abs/2011.10566)")(
        notebook
    )
    add_code("", picture(**{"image/png": {"alt": "Two curves."}}))(notebook)
    assert form_errors(notebook, NOTEBOOKS[0].name) == []
