"""The lab without a browser: what its switches mean, what it shows, and that it never shows a stale picture."""

from __future__ import annotations

import asyncio
import itertools
import time

import ipywidgets
import matplotlib.image
import pytest

import simsiam_course
from simsiam_course import ablate
from simsiam_course.ablate import FAILURES
from simsiam_course.data import patterns
from simsiam_course.errors import InputError
from simsiam_course.recipe import Recipe
from simsiam_course.widgets import lab_model, lab_switches
from simsiam_course.widgets.lab_model import Lab
from simsiam_course.widgets.lab_switches import LAB_PRESETS, SWITCHES

SMALL = {
    "epochs": 6,
    "batch_size": 32,
    "monitor_every": 2,
    "warmup_steps": 4,
    "projection_dim": 16,
    "hidden_dim": 16,
}


@pytest.fixture(scope="module")
def data():
    return patterns(128, seed=1), patterns(96, seed=2)


@pytest.fixture(scope="module")
def ledger(data):
    """Rows as `ablate` writes them, of tiny runs that carry the course's switches."""
    rows = []
    for variant, seed in (
        ("simsiam", 0),
        ("no_stop_gradient", 0),
        ("bn_none_no_stop_gradient", 0),
        ("simsiam", 1),
    ):
        knobs = {"batch_size": 32, "epochs": 3, "monitor_every": 2}
        tiny = ablate.Experiment("failures", "t", "q", "p", FAILURES.variants, base=knobs)
        row, _ = ablate.run_variant(tiny, variant, seed, *data, device="cpu", progress=False)
        row["recipe"]["batch_size"] = Recipe().batch_size  # it stands for a run with the course's batch
        rows.append(row)
    return rows


@pytest.fixture
def lab(data, ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(lab_model, "IMAGES_A_ROW", 64)  # a row every second step
    lab = simsiam_course.collapse_lab(data=data, ledger=ledger, folder=tmp_path, device="cpu")
    lab.switches["batch_size"].value = 32
    lab.passes.value = 6
    return lab


def pictures(lab) -> tuple[bytes, ...]:
    return tuple(bytes(image.value) for image in lab.pictures)


# What the switches mean


def test_the_switches_begin_at_the_recipe_of_the_course(data):
    lab = simsiam_course.collapse_lab(data=data, ledger=[])
    recipe = lab.recipe()
    assert recipe.replace(epochs=Recipe().epochs, monitor_every=Recipe().monitor_every) == Recipe()
    assert set(lab.switches) == set(SWITCHES)


@pytest.mark.parametrize(
    ("knob", "value"), [(knob, value) for knob, switch in SWITCHES.items() for _, value in switch.choices]
)
def test_every_choice_of_every_switch_is_a_recipe_that_says_so(lab, knob, value):
    lab.switches[knob].value = value
    recipe = lab.recipe()
    assert getattr(recipe, knob) == value
    run = lab_model.Run(1, recipe, 1, "live")
    assert f"{SWITCHES[knob].label} {SWITCHES[knob].brief(value)}" in run.title.replace("\n", " ")
    assert (value == getattr(Recipe(), knob)) == (SWITCHES[knob].label not in run.name) or knob in (
        "stop_gradient", "predictor", "output_bn", "batch_size")  # fmt: skip


def test_names_say_what_differs_from_the_course(lab):
    assert lab_switches.difference(Recipe()) == "SimSiam"
    moved = Recipe(stop_gradient="none", predictor="frozen", batch_size=128, seed=3)
    assert lab_switches.difference(moved) == "no stop-gradient, frozen predictor, batch size 128, seed 3"


def test_a_row_is_due_after_as_many_images_whatever_the_batch(data):
    lab = Lab(data=data, ledger=[])
    spans = {
        size: lab.recipe(batch_size=size).monitor_every * size for _, size in SWITCHES["batch_size"].choices
    }
    assert set(spans.values()) <= {512, 640} and spans[Recipe().batch_size] == 640


def test_an_unknown_switch_is_refused(data):
    with pytest.raises(InputError, match="no knob 'speed'"):
        Lab(data=data, ledger=[]).recipe(speed=3)


# What to expect


def test_the_length_of_a_run_follows_from_the_speed(data):
    lab = Lab(data=data, ledger=[])
    lab.speed = 64.0  # images a second: 20 s are 1,280 images, ten passes of 128
    assert lab.passes == 10
    recipe = lab.recipe(batch_size=32)
    assert lab.seconds_of(recipe) == pytest.approx(20.0)
    assert "10 passes of 128 images, about 20 s" in lab.expectation(recipe)


def test_the_ledger_says_which_knn_to_expect_and_when_it_does_not_know(data, ledger):
    lab = Lab(data=data, ledger=ledger)
    low, high, count = lab.expected_knn(lab.recipe(passes=6))
    finals = [
        [r["knn"] for r in row["history"] if r["knn"] is not None][-1] for row in (ledger[0], ledger[3])
    ]
    assert (low, high, count) == (min(finals), max(finals), 2)
    assert "2 runs of the ledger" in lab.expectation(lab.recipe(passes=6))
    assert lab.expected_knn(lab.recipe(predictor="bias")) is None
    assert "The ledger has no such run" in lab.expectation(lab.recipe(predictor="bias"))


def test_a_short_run_is_not_promised_the_accuracy_of_a_long_one(data, ledger):
    lab = Lab(data=data, ledger=ledger)
    short = lab.recipe(passes=1, batch_size=64)
    early = [r["knn"] for r in ledger[0]["history"] if r["knn"] is not None and r["images_seen"] <= 128][-1]
    assert early in lab.expected_knn(short)[:2]


def test_the_text_below_the_switches_follows_them(lab):
    before = lab.expect.value
    lab.passes.value = 3
    assert lab.expect.value != before and "3 passes" in lab.expect.value


# A run


def test_a_run_is_drawn_diagnosed_and_kept(lab):
    run = asyncio.run(lab.run())
    assert run.state == "finished" and run.recipe == lab.recipe()
    assert run.history[-1]["images_seen"] == 6 * 128 == run.images
    assert (
        run.history[-1]["knn"] is not None
        and len(run.frames) >= 5
        and run.frames[0]["points"].shape == (96, 2)
    )
    assert run.figures["dim"] == 256 and run.diagnosis.name == "too short"  # 24 steps
    assert all(picture.startswith(b"\x89PNG") for picture in pictures(lab))
    assert "Too short" in lab.light.value and "After step 24: loss" in lab.words.value
    assert "Run 1 finished at step 24." in lab.status.value
    assert lab.chosen.options == (("1: batch size 32: too short", 1),) and lab.chosen.value == (1,)


def test_a_run_is_the_same_as_fit(lab, data):
    run = asyncio.run(lab.run())
    recipe = run.recipe
    history = simsiam_course.fit(recipe.build(), data[0], recipe, progress=False, device="cpu")
    assert (
        run.history["loss"] == history["loss"] and run.history["effective_rank"] == history["effective_rank"]
    )


def test_the_picture_changes_while_it_runs_and_drawing_has_its_share(lab, monkeypatch):
    from simsiam_course.widgets import lab_view

    monkeypatch.setattr(lab_view, "SHARE", 0.9)
    seen, draw = [], lab._draw

    def spy(*args):
        draw(*args)
        seen.append((pictures(lab), lab.status.value))

    monkeypatch.setattr(lab, "_draw", spy)
    asyncio.run(lab.run())
    assert len({curves for (_, curves), _ in seen}) >= 8
    assert len({plane for (plane, _), _ in seen}) >= 5
    steps = [status.partition("step ")[2].partition(" ")[0] for _, status in seen]
    assert len(set(steps)) >= 8  # picture and words are of the same moment


def test_stop_is_heard_after_the_present_step_and_everything_is_as_before(lab):
    async def stop_it():
        task = asyncio.ensure_future(lab.run())
        while not (lab.lab.runs and lab.lab.runs[-1].history):
            await asyncio.sleep(0)
        assert lab.buttons["run"].disabled
        before = len(lab.lab.runs[-1].history)
        lab.stop()
        run = await task
        return before, run

    before, run = asyncio.run(stop_it())
    assert run.state == "stopped" and len(run.history) <= before + 1 < 12
    assert "was stopped at step" in lab.status.value and run.figures["std"] > 0
    assert not lab.buttons["run"].disabled and lab.buttons["stop"].disabled
    assert asyncio.run(lab.run()).state == "finished"


def test_a_second_run_waits_for_the_first(lab):
    async def both():
        first = asyncio.ensure_future(lab.run())
        await asyncio.sleep(0)
        with pytest.raises(InputError, match="A run is going on"):
            await lab.run()
        lab.stop()
        return await first

    assert asyncio.run(both()).state == "stopped" and len(lab.lab.runs) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_whatever_happens_the_buttons_come_back(lab, monkeypatch, error):
    from simsiam_course.train import Trainer

    advance, count = Trainer.advance, itertools.count()

    def broken(self):
        if next(count) == 5:
            raise error
        return advance(self)

    monkeypatch.setattr(Trainer, "advance", broken)
    with pytest.raises(error):
        asyncio.run(lab.run())
    assert not lab.busy and not lab.buttons["run"].disabled
    assert lab.lab.runs[-1].state == "stopped" and "was stopped" in lab.status.value


def test_a_run_that_diverges_is_a_red_light(lab, monkeypatch):
    recipe = lab.recipe().replace(lr=1e30, warmup_steps=0)
    monkeypatch.setattr(lab, "recipe", lambda: recipe)
    run = asyncio.run(lab.run())
    assert run.state == "diverged" and run.diagnosis.name == "diverged" and run.light == "red"
    assert "✕ Diverged" in lab.light.value and not lab.busy


def test_a_batch_larger_than_the_set_is_one_sentence_in_the_status(lab):
    lab.switches["batch_size"].value = 512

    async def click():
        lab.buttons["run"].click()
        await lab.task

    asyncio.run(click())
    assert "larger than the training set" in lab.status.value and not lab.buttons["run"].disabled


def test_quick_stops_after_thirty_steps(lab, monkeypatch):
    monkeypatch.setenv("SIMSIAM_QUICK", "1")
    lab.passes.value = 20
    assert "SIMSIAM_QUICK" in lab.expect.value
    run = asyncio.run(lab.run())
    assert run.history[-1]["step"] == 30 and run.images == 30 * 32 and run.state == "finished"


# A click


def test_a_click_starts_a_task_and_another_click_stops_it(lab):
    async def clicks():
        lab.buttons["run"].click()
        assert lab.task is not None
        await asyncio.sleep(0)
        lab.buttons["run"].click()  # pressed twice: still one run
        assert not lab.buttons["stop"].disabled and "interrupt" not in lab.status.value
        for _ in range(4):
            await asyncio.sleep(0)
        lab.buttons["stop"].click()
        await lab.task

    asyncio.run(clicks())
    assert [run.state for run in lab.lab.runs] == ["stopped"] and not lab.busy


def test_awaited_in_a_cell_stop_is_the_kernels_interrupt_and_the_label_says_so(lab):
    async def watch():
        task = asyncio.ensure_future(lab.run())
        await asyncio.sleep(0)
        said = lab.status.value, lab.buttons["stop"].disabled
        lab.stop()
        await task
        return said

    status, disabled = asyncio.run(watch())
    assert "interrupt the kernel" in status and disabled


def test_where_no_tasks_run_the_click_itself_trains_and_an_interrupt_stops_it(data, ledger, monkeypatch):
    lab = simsiam_course.collapse_lab(data=data, ledger=ledger, device="cpu", tasks=False)
    lab.switches["batch_size"].value, lab.passes.value = 32, 6
    said, advance = [], simsiam_course.train.Trainer.advance

    def interrupted(self):
        said.append(lab.status.value)
        if self.done == 7:
            raise KeyboardInterrupt
        return advance(self)

    monkeypatch.setattr(simsiam_course.train.Trainer, "advance", interrupted)
    lab.buttons["run"].click()
    assert lab.lab.runs[-1].state == "stopped" and not lab.busy
    assert "interrupt the kernel" in said[-1]
    lab.switches["batch_size"].value = Recipe().batch_size
    lab.buttons["replay"].click()
    assert lab.lab.runs[-1].origin == "ledger" and lab.lab.runs[-1].state == "finished"


# Never a stale picture


def test_moving_a_switch_relabels_no_run(lab):
    async def meddle():
        task = asyncio.ensure_future(lab.run())
        await asyncio.sleep(0)
        lab.switches["stop_gradient"].value = "none"
        lab.switches["predictor"].value = "none"
        return await task

    run = asyncio.run(meddle())
    assert run.recipe.stop_gradient == "target" and "no stop-gradient" not in run.name
    assert "no stop-gradient" not in lab.light.value + lab.words.value + str(lab.chosen.options)
    title = lab.stage.figures[1].get_suptitle()
    assert "stop-gradient target" in title and "predictor MLP" in title


def test_a_new_run_takes_the_stage_before_its_first_step(lab):
    asyncio.run(lab.run())
    old = pictures(lab)
    lab.switches["stop_gradient"].value = "none"

    async def first_moment():
        task = asyncio.ensure_future(lab.run())
        await asyncio.sleep(0)
        seen = pictures(lab), lab.light.value, lab.words.value, lab.stage.figures[1].get_suptitle()
        lab.stop()
        await task
        return seen

    (plane, curves), light, words, title = asyncio.run(first_moment())
    assert plane != old[0] and curves != old[1]
    assert "no stop-gradient" in light and "still running" in light and "✓" not in light
    assert "No step has been taken yet" in words and "stop-gradient none" in title


def test_light_and_words_belong_to_the_run_that_is_chosen(lab):
    for predictor in ("mlp", "none"):
        lab.switches["predictor"].value = predictor
        asyncio.run(lab.run())
    latest = pictures(lab)
    lab.chosen.value = (1,)
    assert "no predictor" not in lab.light.value and pictures(lab) != latest
    lab.chosen.value = (2,)
    assert "no predictor" in lab.light.value and pictures(lab) == latest


# Compare, replay, presets, save


def test_compare_lays_runs_over_each_other(lab):
    lab.compare()
    assert "There is no run yet" in lab.status.value
    for seed in (0, 1):
        lab.seed.value = seed
        asyncio.run(lab.run())
    alone = pictures(lab)
    lab.compare()
    assert pictures(lab) != alone and lab.chosen.value == (1, 2)
    assert lab.light.value.count("<div") == 2 and "1: " in lab.light.value and "2: " in lab.light.value
    legend = [text.get_text() for text in lab.stage.figures[1].legends[0].get_texts()]
    assert legend == [run.name for run in lab.lab.runs]


def test_only_the_last_runs_are_compared_and_kept(lab, ledger):
    lab.switches["batch_size"].value = Recipe().batch_size
    for _ in range(lab_model.KEPT + 1):
        for _ in lab.lab.replay(ledger[0]):
            pass
    lab.compare()
    assert len(lab.lab.runs) == lab_model.KEPT and len(lab.shown) == 6
    assert [run.number for run in lab.shown] == [8, 9, 10, 11, 12, 13]


def test_a_replay_shows_the_ledgers_run_in_about_a_second(lab, ledger):
    lab.switches["batch_size"].value = Recipe().batch_size
    lab.switches["stop_gradient"].value = "none"
    start = time.perf_counter()
    run = asyncio.run(lab.replay())
    assert time.perf_counter() - start < 8  # one second where the machine has nothing else to do
    assert run.origin == "ledger" and list(run.history) == ledger[1]["history"]
    assert run.diagnosis.name == ledger[1]["diagnosis"]
    assert len(run.frames) == len(ledger[1]["frames"]) and "(ledger)" in lab.light.value


def test_a_replay_takes_the_seed_that_is_asked_for(lab, ledger):
    lab.switches["batch_size"].value = Recipe().batch_size
    lab.seed.value = 1
    assert asyncio.run(lab.replay()).recipe.seed == 1
    lab.seed.value = 77
    assert asyncio.run(lab.replay()).recipe.seed == 0  # and its name does not say 77


def test_a_replay_that_the_ledger_lacks_is_told(lab):
    lab.switches["predictor"].value = "bias"
    assert asyncio.run(lab.replay()) is None
    assert "The ledger has no run of these switches" in lab.status.value and not lab.lab.runs


def test_a_replay_can_be_stopped(lab):
    lab.switches["batch_size"].value = Recipe().batch_size

    async def clicks():
        lab.buttons["replay"].click()
        await asyncio.sleep(0)
        lab.buttons["stop"].click()
        await lab.task

    asyncio.run(clicks())
    assert lab.lab.runs[-1].state == "stopped"


def test_an_old_ledger_without_pictures_of_z_is_replayed_too(data, ledger):
    bare = {name: value for name, value in ledger[0].items() if name != "frames"}
    *_, run = Lab(data=data, ledger=[bare]).replay(bare)
    assert list(run.history) == bare["history"] and run.act.points is None


def test_a_run_of_the_ledger_that_diverged_says_so(data, ledger):
    row = {**ledger[0], "diagnosis": "diverged", "loss": None, "std": None, "effective_rank": None}
    lab = Lab(data=data, ledger=[row])
    *_, run = lab.replay(row)
    assert run.state == "diverged" and run.diagnosis.name == "diverged"


@pytest.mark.parametrize("name", LAB_PRESETS)
def test_a_preset_replays_what_the_ledger_has_trains_the_rest_and_compares(lab, name):
    lab.passes.value = 2
    runs = asyncio.run(lab.preset(name))
    wanted = [FAILURES.recipe(variant, 0) for variant in LAB_PRESETS[name].variants]
    switches = [{knob: getattr(recipe, knob) for knob in SWITCHES} for recipe in wanted]
    assert [{knob: getattr(run.recipe, knob) for knob in SWITCHES} for run in runs] == switches
    in_ledger = {"simsiam", "no_stop_gradient", "bn_none_no_stop_gradient"}
    assert [run.origin for run in runs] == [
        "ledger" if variant in in_ledger else "live" for variant in LAB_PRESETS[name].variants
    ]
    assert lab.shown == runs and LAB_PRESETS[name].look.split(".")[0] in lab.status.value


def test_stop_ends_the_whole_preset(lab):
    async def clicks():
        lab.buttons["table_1"].click()
        await asyncio.sleep(0)
        lab.buttons["stop"].click()
        await lab.task

    asyncio.run(clicks())
    assert len(lab.lab.runs) == 1


def test_the_picture_is_saved_under_a_new_name_and_the_place_is_told(lab, tmp_path):
    assert lab.save() is None
    asyncio.run(lab.run())
    first, second = lab.save(), lab.save()
    assert [path.name for path in (first, second)] == ["collapse_lab_001.png", "collapse_lab_002.png"]
    assert matplotlib.image.imread(first).shape[1] > 1000
    assert str(tmp_path / "collapse_lab_002.png") in lab.status.value


def test_a_folder_that_cannot_be_written_is_one_sentence(lab, tmp_path):
    asyncio.run(lab.run())
    (tmp_path / "file").write_text("")
    lab.folder = tmp_path / "file" / "x"
    lab.buttons["save"].click()
    assert "Cannot write" in lab.status.value


def test_what_is_shown_can_be_said(lab):
    asyncio.run(lab.run())
    assert lab.figure().get_figwidth() > 8
    assert "After step 24" in lab.alt() and "Too short" in lab.alt()


# In a notebook, without a browser


def test_a_notebook_runs_it_from_a_cell_and_from_a_click():
    import nbformat
    from nbclient import NotebookClient

    cells = (
        "import simsiam_course\nfrom simsiam_course.data import patterns\n"
        "data = (patterns(128, seed=1), patterns(96, seed=2))\n"
        "lab = simsiam_course.collapse_lab(data=data, ledger=[], device='cpu')\n"
        "lab.switches['batch_size'].value, lab.passes.value = 32, 2\nlab",
        "run = await lab.run()\nassert run.state == 'finished', run.state",
        "lab.buttons['run'].click()\nawait lab.task\nassert [run.state for run in lab.lab.runs] == ['finished'] * 2",
        "lab.compare()\nassert len(lab.shown) == 2",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (shown,) = notebook.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    assert not any(output.output_type == "error" for cell in notebook.cells for output in cell.outputs)


# Which widgets it is made of

# Traits that are set here, as ipywidgets 7.7.1 has them (8 has more).
TRAITS = {
    "HBox": {"children", "layout"},
    "VBox": {"children", "layout"},
    "Label": {"value"},
    "HTML": {"value"},
    "Image": {"format", "value", "layout"},
    "Button": {"description", "tooltip", "layout", "disabled", "button_style"},
    "Dropdown": {"options", "value", "description", "layout", "style"},
    "BoundedIntText": {"value", "min", "max", "description", "layout", "style"},
    "SelectMultiple": {"options", "value", "description", "rows", "layout", "style", "disabled"},
}


def tree(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from tree(child)


def test_it_is_made_of_core_widgets_that_ipywidgets_7_has(lab):
    kinds = {type(widget).__name__ for widget in tree(lab.view)}
    assert kinds <= set(TRAITS)
    assert all(type(widget).__module__.startswith("ipywidgets.") for widget in tree(lab.view))


def test_every_control_has_a_label_and_a_tooltip(lab):
    controls = [w for w in tree(lab.view) if hasattr(w, "description") and not isinstance(w, ipywidgets.HTML)]
    assert len(controls) >= 17
    for control in controls:
        if type(control).__name__ in TRAITS and type(control).__name__ != "Label":
            assert control.description and (getattr(control, "tooltip", "") or control.description_tooltip)


def test_the_light_is_never_told_by_colour_alone(lab):
    asyncio.run(lab.run())
    run = lab.lab.runs[0]
    figures = {
        "green ✓ Healthy": {"loss": -0.9, "std": 0.98, "effective_rank": 12.0, "steps": 800},
        "red ✕ Complete collapse": {"loss": -0.9, "std": 0.1, "effective_rank": 1.0, "steps": 800},
        "red ✕ Dimensional collapse": {"loss": -0.9, "std": 0.4, "effective_rank": 1.2, "steps": 800},
        "amber ! Not learning": {"loss": -0.1, "std": 0.9, "effective_rank": 9.0, "steps": 800},
    }
    for wanted, measured in figures.items():
        run.figures = measured
        run.history[:] = [{**row, "loss": measured["loss"]} for row in run.history]
        lab._draw()
        light, words = wanted.split(" ", 1)
        assert run.light == light and words in lab.light.value
