"""The live curves follow a run, cost it little, and say in words what they show."""

from __future__ import annotations

import ipywidgets
import pytest

from simsiam_course import live as live_module
from simsiam_course.data import patterns
from simsiam_course.live import LiveCurves
from simsiam_course.recipe import Recipe
from simsiam_course.train import fit

RECIPE = Recipe(epochs=1, batch_size=32, monitor_every=1, warmup_steps=0, lr=0.1, predictor_lr=1.0)


@pytest.fixture
def images():
    return patterns(96, seed=0)


def row(step: int, **columns: float | None) -> dict:
    return {
        "step": step,
        "images_seen": 64 * step,
        "loss": -0.5,
        "std": 0.9,
        "effective_rank": 4.0,
        **columns,
    }


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The module's clock; a drawing takes one second of it."""
    clock = Clock()
    monkeypatch.setattr(live_module, "time", clock)

    def slow_png(figure):
        clock.now += 1.0
        return b"picture at %d" % clock.now

    monkeypatch.setattr("simsiam_course.plot.png", slow_png)
    return clock


def test_the_picture_is_replaced_while_fit_trains(images):
    seen = []

    class Spy(LiveCurves):
        def draw(self):
            super().draw()
            seen.append(bytes(self.picture.value))

    live = Spy("your train_step", share=1.0)
    history = fit(RECIPE.build(), images, RECIPE, callback=live, progress=False, device="cpu")
    assert len(seen) == len(set(seen)) == len(history) == 3
    assert all(picture.startswith(b"\x89PNG") for picture in seen)
    assert live.view.children == (live.picture, live.words)


def test_what_is_measured_is_drawn_said_and_written_into_the_history(images):
    live = LiveCurves(measure=lambda model: {"knn": 0.25})
    history = fit(RECIPE.build(), images, RECIPE, callback=live, progress=False, device="cpu")
    live.draw()
    assert history["knn"] == [0.25] * 3 and [r["knn"] for r in live.rows] == [0.25] * 3
    assert "After step 3: loss -" in live.words.value and "kNN 25.0%" in live.words.value


def test_watching_changes_nothing(images):
    plain = fit(RECIPE.build(), images, RECIPE, progress=False, device="cpu")
    watched = fit(RECIPE.build(), images, RECIPE, callback=LiveCurves(), progress=False, device="cpu")
    assert [plain[c] for c in ("loss", "std", "effective_rank")] == [
        watched[c] for c in ("loss", "std", "effective_rank")
    ]


def test_drawing_takes_no_more_than_its_share_of_the_time(clock):
    live = LiveCurves(share=0.25)
    drawn = []
    for step in range(1, 41):
        clock.now += 0.5
        before = live.picture.value
        live(row(step), None)
        drawn.append(live.picture.value != before)
    assert drawn[0] and sum(drawn) / clock.now <= 0.26
    assert len(live.rows) == 40  # rows that were not drawn are not lost
    before = live.picture.value
    live.draw()
    assert live.picture.value != before


def test_the_words_say_whose_code_runs_and_hold_no_markup_of_it():
    live = LiveCurves("your <b>projector</b>")
    assert live.words.value == "No step has been taken yet.<br>Running: your &lt;b&gt;projector&lt;/b&gt;."
    assert LiveCurves().words.value == "No step has been taken yet."


def test_what_was_not_measured_is_left_out_of_the_words():
    assert live_module.in_words([row(20, std=None, effective_rank=None)]) == "After step 20: loss -0.50."


def test_it_is_made_of_core_widgets_only():
    live = LiveCurves()
    live(row(1), None)
    widgets = [live.view, *live.view.children]
    assert [type(widget) for widget in widgets] == [ipywidgets.VBox, ipywidgets.Image, ipywidgets.HTML]


def test_the_stop_button_goes_through(images):
    """A KeyboardInterrupt in the middle of a run is the caller's, and the curves so far stay."""

    def stop(model):
        if len(live.rows) == 2:
            raise KeyboardInterrupt
        return {}

    live = LiveCurves(measure=stop, share=1.0)
    with pytest.raises(KeyboardInterrupt):
        fit(RECIPE.build(), images, RECIPE, callback=live, progress=False, device="cpu")
    assert len(live.rows) == 2 and "After step 2" in live.words.value
