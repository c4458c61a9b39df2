"""The form that every notebook has. That a notebook runs is nbval's to say; how it reads, the eye's."""

from __future__ import annotations

import ast
import importlib
import json
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

from simsiam_course import exercises
from simsiam_course.lesson import LESSONS
from simsiam_course.notebooks import stubs
from simsiam_course.stamp import read_address

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ADDRESS = read_address(ROOT)

TEXT_CELLS, CODE_CELLS = range(15, 26), range(12, 21)
CODE_LINES = 15
DIFFICULTY = r"\*\*Difficulty\*\* [●○]{3}, about \d+ minutes\."
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#{1,6}) +\S", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])(?:/(?:home|root|Users|work|tmp|opt|var|mnt|content)/|[A-Z]:\\)")
WARNING = re.compile(r"\b\w*Warning\b|Traceback \(most recent call last\)")
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")
WIDGET = "application/vnd.jupyter.widget-view+json"
MARKER = re.compile(r"# NBVAL_(IGNORE_OUTPUT|CHECK_OUTPUT|RAISES_EXCEPTION)")
CHECK_CELL = re.compile(r"(\w+) = check\.\1\(\1\)")
HINTS = ("idea", "function", "line")

# Numbers that may be results are percentages and decimals; not those in code, formulas, links and comments.
NO_PROSE = re.compile(r"`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|<[^>]*>", re.DOTALL)
RESULT = re.compile(r"(?<![\w.])-?(?:\d+(?:\.\d+)?\s?%|\d*\.\d+(?![\w]|\.\d))")
SOURCE = re.compile(
    r"\b(?:Tables?|Fig(?:ure|\.)s?|Sec(?:tion|\.)s?|App(?:endix|\.)|Algorithm|[Ff]ootnote) \(?[A-Z0-9]"
    r"|\([^()]*\b(?:19|20)\d\d\b[^()]*\)|\]\(https?:"
)
EXERCISE = re.compile(r"^#+ Exercise (\d+\.\d+)", re.MULTILINE)
QUESTION = re.compile(r"\*\*(?:Predict\.|\d\.)")
FOLLOWS = {  # numbers that are no result, and from what they follow
    "05": {
        "0.1 %": "chance among 1,000 classes",
        "0.25": "the formula beside it",
        "0.35": "the formula beside it",
    },
}


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
    if notebook.cells[1].source != ADDRESS.setup_cell(number):
        yield "the setup cell is not the one of all notebooks: run simsiam-course stamp"
    if ADDRESS.badge(name) not in first.source:
        yield "the Colab badge does not lead to this notebook and release: run simsiam-course stamp"
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


def has_neither_too_little_nor_too_much(notebook, name):
    """Checks of exercises do not count: they are one line, always the same, and nothing to read."""
    code = len([cell for cell in code_cells(notebook) if not CHECK_CELL.fullmatch(cell.source)])
    text = len(notebook.cells) - len(code_cells(notebook))
    for kind, count, wanted in (("code", code, CODE_CELLS), ("text", text, TEXT_CELLS)):
        if count not in wanted:
            yield f"{count} {kind} cells, expected {wanted.start} to {wanted.stop - 1}"


def is_finished(notebook, name):
    if any(re.search(r"\b(?:XXX|TODO|FIXME)\b", cell.source) for cell in notebook.cells):
        yield "something is still to be written"


def ends_as_all_lessons_do(notebook, name):
    text = prose(notebook)
    questions = text.partition("\n## Three questions\n")[2].partition("\n## ")[0]
    if questions.count("<details>") != 3:
        yield "no section of three questions with their answers"
    if not re.search(
        r"\n## Summary\n.*\n\*\*Further reading:\*\* .*\n\*\*Next lesson:\*\* ", "\n" + text, re.DOTALL
    ):
        yield "it does not end with summary, further reading and next lesson"


@cache
def exercises_of(lesson):
    """A lesson's own exercises, and those of earlier lessons that it takes up again, by function."""
    if lesson not in exercises.MODULES:
        return {}, {}
    module = importlib.import_module(f"simsiam_course.exercises.{exercises.MODULES[lesson]}")
    return tuple({e.name: e for e in part} for part in (module.EXERCISES, getattr(module, "RESTATED", ())))


def asks_and_checks_every_exercise(notebook, name):
    """A stub stands alone and the next cell is its check; those taken up from earlier lessons may stand together.

    Where a function is to be repaired, the exhibit is the stub.
    """
    own, restated = exercises_of(name[:2])
    known = {**own, **restated}
    code = "\n".join(cell.source for cell in code_cells(notebook)).splitlines()
    asked = []
    for cell, after in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        found = stubs(cell.source, known) if cell.cell_type == "code" else []
        for stub in found:
            asked.append(stub.name)
            check = f"{stub.name} = check.{stub.name}({stub.name})"
            alone = all(node.name in restated for node in found) or len(found) == 1
            if stub.name not in known:
                yield f"`{stub.name}` is no exercise of this lesson"
            if not alone or len(ast.parse(cell.source).body) > len(found):
                yield f"the stub of `{stub.name}` does not stand alone in its cell"
            exhibit = stub.name in known and known[stub.name].exhibit is not None
            if (len(stub.body) != 2 and not exhibit) or not ast.get_docstring(stub):
                yield f"the stub of `{stub.name}` is not a signature, a docstring and `...`"
            if check not in code if stub.name in restated else after is None or after.source.strip() != check:
                yield f"the cell after `{stub.name}` is not its check"
    for exercise in (*own.values(), *restated.values()):
        if asked.count(exercise.name) != 1:
            yield f"exercise {exercise.number} `{exercise.name}` is asked {asked.count(exercise.name)} times"


def explains_every_exercise_and_gives_three_hints(notebook, name):
    own, _ = exercises_of(name[:2])
    text = ""  # since the last stub
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text += "\n\n" + cell.source
            continue
        for stub in stubs(cell.source, own):
            if stub.name in own:
                yield from unexplained(own[stub.name], text)
            text = ""


def unexplained(exercise, text):
    said = f"exercise {exercise.number}"
    if not re.search(rf"^##+ Exercise {re.escape(exercise.number)}\b.*\n\n{DIFFICULTY}", text, re.MULTILINE):
        yield f"{said} has no heading with difficulty and minutes below it"
    flat = " ".join(text.split())
    for i, (kind, hint) in enumerate(zip(HINTS, exercise.hints, strict=True), start=1):
        block = f"<details>\n<summary>Hint {i}: {kind}</summary>\n\n{hint}\n\n</details>"
        if " ".join(block.split()) not in flat:
            yield f"{said} has not its hint {i} ({kind}) as it stands in the exercise, in a <details>"


def marks_cells_for_nbval_exactly(notebook, name):
    for cell in code_cells(notebook):
        for line in cell.source.splitlines():
            if re.search(r"nbval|pytest_validate", line, re.IGNORECASE) and not MARKER.fullmatch(line):
                yield f"nbval would not see {line!r}: a marker is a line of its own, and no cell is skipped"
        if any("nbval" in tag or tag == "raises-exception" for tag in cell.metadata.get("tags", ())):
            yield f"cell {cell.id} is marked by a tag, which a reader does not see: use a comment"


@cache
def ledger():
    """The measurements of every run and benchmark in data/results."""
    values = []
    for path in sorted((ROOT / "data" / "results").glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            values += [v for v in json.loads(line).values() if isinstance(v, float)]
    return values


EXERCISE_NUMBERS = {e.number for lesson in exercises.MODULES for e in exercises_of(lesson)[0].values()}


def is_measured(number):
    digits = number.rstrip("% \n")
    places = len(digits.partition(".")[2])
    scale = 100 if number.endswith("%") else 1
    return any(f"{scale * value:.{places}f}" == f"{float(digits):.{places}f}" for value in ledger())


def backs_every_result(notebook, name):
    text = prose(notebook)
    known = {*FOLLOWS.get(name[:2], {}), *EXERCISE_NUMBERS, *EXERCISE.findall(text)}
    for paragraph in re.split(r"\n\s*\n(?!\|)", text):  # a table belongs to the sentence before it
        if SOURCE.search(paragraph) or QUESTION.match(paragraph):
            continue
        for number in RESULT.findall(NO_PROSE.sub(" ", paragraph)):
            if number not in known and not is_measured(number):
                yield f"{number!r} has no source beside it and is in no ledger (a setting is written as `code`)"


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
    has_neither_too_little_nor_too_much,
    is_finished,
    ends_as_all_lessons_do,
    asks_and_checks_every_exercise,
    explains_every_exercise_and_gives_three_hints,
    marks_cells_for_nbval_exactly,
    backs_every_result,
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


def cell_of(nb, part):
    """The first cell with this in it, and its index."""
    return next((i, cell) for i, cell in enumerate(nb.cells) if part in cell.source)


def rewrite(part, new, *, after=0):
    """Replaces a piece of text, wherever it first stands; or the whole cell that comes after it."""

    def change(nb):
        i, cell = cell_of(nb, part)
        nb.cells[i + after].source = new if after else cell.source.replace(part, new)

    return change


def again(part):
    """The cell with this in it and the next one, once more at the end."""

    def change(nb):
        i, _ = cell_of(nb, part)
        for cell in nb.cells[i : i + 2]:
            add_code(cell.source)(nb)

    return change


def many(change):
    return lambda nb: [change(nb) for _ in range(12)]


def stream(name, text):
    return nbformat.v4.new_output("stream", name=name, text=text)


STUB, CHECK = "def average_pool(x):", "average_pool = check.average_pool(average_pool)"
BROKEN = {
    "another release in the setup cell": (replace(1, f"@{ADDRESS.release}", "@main"), "setup cell"),
    "a dependency that moves": (replace(1, " --no-deps", ""), "setup cell"),
    "another lesson's setup": (replace(1, 'setup("0', 'setup("1'), "setup cell"),
    "another notebook's badge": (
        replace(0, f"/blob/{ADDRESS.release}/notebooks/", "/blob/old/notebooks/"),
        "badge",
    ),
    "no objectives": (replace(0, "After this lesson you can", "Contents"), "objectives"),
    "other minutes": (replace(0, "minutes for you", "hours for you"), "minutes"),
    "a second title": (add_text("# Another title"), "level 1"),
    "a level left out": (add_text("## Two\n\n#### Four"), "level 4 follows one of level 2"),
    "a long cell": (add_code("x = 1\n" * 16), "16 lines"),
    "too much to read": (many(add_text("More.")), "text cells, expected 15 to 25"),
    "too much to run": (many(add_code("x = 1")), "code cells, expected 12 to 20"),
    "a gap": (add_text("**Explain.** XXX"), "still to be written"),
    "a question too few": (rewrite("## Three questions", "## Two questions"), "three questions"),
    "no summary": (rewrite("## Summary", "## Contents"), "summary"),
    "no next lesson": (rewrite("**Next lesson:**", "Then:"), "next lesson"),
    "an exercise that is never checked": (rewrite(STUB, "x = 1", after=1), "is not its check"),
    "a check of something else": (
        rewrite(STUB, "average_pool = check.forward(average_pool)", after=1),
        "not its check",
    ),
    "a check with company": (rewrite(CHECK, f"{CHECK}\nprint(1)"), "is not its check"),
    "a stub with company": (rewrite(STUB, f"import torch\n\n\n{STUB}"), "not stand alone"),
    "a stub without a sentence": (
        rewrite('"""The mean over all places of every channel."""', "..."),
        "a docstring and",
    ),
    "an exercise that is gone": (
        rewrite(STUB, STUB.replace("average_pool", "mean_pool")),
        "`mean_pool`|asked 0 times",
    ),
    "an exercise asked twice": (again(STUB), "exercise 0.1"),
    "an exercise without minutes": (rewrite("●○○, about 3 minutes", "●○○"), "difficulty and minutes"),
    "an exercise with another number": (
        rewrite("## Exercise 0.1", "## Exercise 0.2"),
        "difficulty and minutes",
    ),
    "another hint": (rewrite("Two of the four dimensions", "Three of the four dimensions"), "hint 1 (idea)"),
    "a hint in the open": (
        rewrite("<summary>Hint 3: line</summary>", "<summary>3</summary>"),
        "hint 3 (line)",
    ),
    "a marker with a reason": (add_code("# NBVAL_IGNORE_OUTPUT: it varies\nx = 1"), "nbval"),
    "a marker behind code": (add_code("x = 1  # NBVAL_IGNORE_OUTPUT"), "nbval"),
    "a misspelt marker": (add_code("# nbval-ignore-output\nx = 1"), "nbval"),
    "a skipped cell": (add_code("# NBVAL_SKIP\nx = 1"), "no cell is skipped"),
    "a hidden marker": (lambda nb: code_cells(nb)[-1].metadata.update(tags=["raises-exception"]), "tag"),
    "a result from nowhere": (
        add_text("In the end SimSiam\nreaches 93.17 %, and that is good."),
        "'93.17 %'",
    ),
    "a loss from nowhere": (add_text("Expect a loss of\n-0.31234, `not` more."), "'-0.31234'"),
    "an answer from nowhere": (
        add_text("<details>\n<summary>A</summary>\n\nIt is .31234.\n\n</details>"),
        "'.31234'",
    ),
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
    assert all(any(part in error for part in said.split("|")) for error in errors)


def test_what_looks_like_a_fault_and_is_none_passes():
    notebook = read(NOTEBOOKS[0])
    add_text("```\n# a comment, no title\n</summary> x\n```\n\n[paper](https://arxiv.org/abs/2011.10566)")(
        notebook
    )
    add_code("# NBVAL_IGNORE_OUTPUT\nx = 1", picture(**{"image/png": {"alt": "Two curves."}}))(notebook)
    assert form_errors(notebook, NOTEBOOKS[0].name) == []


KNN = json.loads((ROOT / "data" / "results" / "collapse.jsonl").read_text("utf-8").splitlines()[0])["knn"]


@pytest.mark.parametrize(
    "text",
    [
        "SimSiam reaches 67.7 % (Chen & He, 2021).",
        "Without it, 0.1 % (Table 1a).",
        "App. A has a blur of .1 to 2.0.",
        "The footnote 4 of the paper warns of 0.1 %.",
        "Table 2 says:\n\n| batch | 64 |\n|---|---|\n| accuracy, % | 66.1 |",
        "BYOL: 74.3 %, see [the paper](https://arxiv.org/abs/2006.07733).",
        f"A longer run ends near {KNN:.0%}.",
        f"A longer run ends near {100 * KNN:.1f} %, which is {KNN:.2f}.",
        "It is $x = 0.31234$, or `0.31234` in code.",
        "$$\\mathrm{std} = 0.31234\n\\cdot 2$$",
        "**Predict.** Will it be above 31.234 %?",
        "**1.** Your run ends with a loss of -0.31234. What do you do?",
        "Exercises 2.1, 2.2 and 3.4 are used again, those of 1.2-1.3 are not. Version 7.7.1 of 2024.",
        "Eight images of 32x32 and 64 steps, -1 to 1.",
    ],
)
def test_a_number_with_a_source_passes(text):
    notebook = read(NOTEBOOKS[0])
    add_text(text)(notebook)
    assert form_errors(notebook, NOTEBOOKS[0].name) == []


def test_every_number_that_follows_from_something_is_still_said():
    for lesson, numbers in FOLLOWS.items():
        (path,) = (path for path in NOTEBOOKS if path.name.startswith(lesson))
        assert [number for number in numbers if number not in prose(read(path))] == []
