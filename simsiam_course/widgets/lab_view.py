"""The lab: switches, live curves, and z as points in the plane. `collapse_lab()` shows it.

Between two steps of a run the kernel's other work has its turn (`asyncio.sleep(0)`), so that *Stop* is heard.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import atomic_write, make_folder
from ..live import Pace, in_words
from ..plot import Stage, png
from .lab_model import LEDGER_MOMENTS, REPLAY, Growing, Lab, Run
from .lab_switches import LAB_PRESETS, SWITCHES
from .parts import lines, new_button, traffic_light, with_tip

SHARE = 0.12  # of a run's time may go into drawing
SHOWN = 6  # runs that are compared at a time
ENDS = {"finished": "finished at", "stopped": "was stopped at", "diverged": "diverged near"}
NO_TASKS = " To stop it, interrupt the kernel (the ■ button)."


def collapse_lab(**options: Any) -> CollapseLab:
    """The interactive lab: break SimSiam by its switches and watch what happens to z.

    `data`, `ledger` and `device` as in `Lab`; `folder` is where pictures are saved, by default the working folder.
    Write `lab` at the end of a cell to show it; `await lab.run()` in a cell does what *Run* does.
    """
    return CollapseLab(**options)


class CollapseLab:
    """The lab's widgets. `run`, `replay` and `preset` are coroutines; `stop`, `compare` and `save` act at once.

    `tasks` says whether a click may start an asyncio task, as JupyterLab's kernel can; without, the click itself
    trains, and only the kernel's interrupt stops it. Errors: as `Lab` has them.
    """

    def __init__(self, *, folder: str | Path = ".", tasks: bool | None = None, **options: Any) -> None:
        import ipywidgets as W

        self.lab = Lab(**options)
        self.folder = Path(folder)
        # Colab shows nothing of a task that works on after the click's message is done
        self.tasks = "google.colab" not in sys.modules if tasks is None else tasks
        self.busy = self.heard = self.by_hand = self.listing = False
        self.drawn = 0
        self.task: Any = None
        self.labels = self.lab.labels()
        self.shown: list[Run] = []
        self.stage: Stage | None = None

        wide = {"width": "270px"}
        told = {"style": {"description_width": "95px"}}
        self.switches = {
            knob: with_tip(
                W.Dropdown(
                    options=list(switch.choices), value=getattr(self.lab.recipe(), knob),
                    description=switch.label, layout=W.Layout(**wide), **told,
                ),
                switch.tip,
            )
            for knob, switch in SWITCHES.items()
        }  # fmt: skip
        self.seed = with_tip(
            W.BoundedIntText(value=0, min=0, max=9999, description="seed", layout=W.Layout(**wide), **told),
            "Initialisation, order and augmentations.",
        )
        self.passes = with_tip(
            W.BoundedIntText(
                value=self.lab.passes, min=1, max=100, description="passes", layout=W.Layout(**wide), **told
            ),
            "How often every training image is seen.",
        )
        self.longer: dict[str, Callable[[], Coroutine]] = {
            "run": self.run,
            "replay": self.replay,
            **{name: partial(self.preset, name) for name in LAB_PRESETS},
        }
        self.instant = {"stop": self.stop, "compare": self.compare, "save": self.save}
        self.buttons = {
            "run": new_button("Run", "Train with these switches."),
            "stop": new_button("Stop", "End the run after its present step."),
            "replay": new_button("Replay", "Play the ledger's run of these switches in a second."),
            "compare": new_button("Compare", f"Lay the last {SHOWN} runs over each other."),
            "save": new_button("Save picture", "Write what is shown into a PNG file."),
            **{name: new_button(p.title, p.look, "auto") for name, p in LAB_PRESETS.items()},
        }
        self.buttons["run"].button_style = "primary"
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self._pressed(name))
        self.expect, self.status, self.light, self.words = (W.HTML() for _ in range(4))
        self.chosen = with_tip(
            W.SelectMultiple(
                options=[], description="runs", rows=5, layout=W.Layout(width="min(640px, 98%)"),
                style={"description_width": "40px"},
            ),
            "Choose one run to see it, or several to compare them.",
        )  # fmt: skip
        self.pictures = tuple(W.Image(format="png", layout=W.Layout(max_width="100%")) for _ in range(2))
        self.frame = W.HBox(layout=W.Layout(flex_flow="row wrap", align_items="flex-start"))  # empty at first
        row = W.Layout(flex_flow="row wrap", align_items="center")
        main, ready = list(self.buttons.values())[:5], list(self.buttons.values())[5:]
        self.view = W.VBox(
            [
                W.HBox([*self.switches.values(), self.seed, self.passes], layout=row),
                self.expect,
                W.HBox(main, layout=row),
                W.HBox([W.Label("Ready-made:"), *ready], layout=row),
                self.status,
                self.light,
                self.frame,
                self.words,
                self.chosen,
            ]
        )
        for control in (*self.switches.values(), self.seed, self.passes):
            control.observe(self._expect, "value")
        self.chosen.observe(self._choose, "value")
        self._expect()
        self._lock()
        self._say("Move a switch, guess what will happen, and press Run.")

    # ---- what the buttons do

    async def run(self) -> Run:
        """Trains one run with the present switches and returns it.

        An interrupt ends the run and goes on to the caller. Errors: `InputError` while another run goes on.
        """
        recipe = self.recipe()
        return await self._alone(lambda: self._follow(self.lab.train(recipe)))

    async def replay(self) -> Run | None:
        """Plays the ledger's run of the present switches; where it has none, says so and returns None."""
        row = self.lab.find(self.recipe())
        if row is None:
            self._say("The ledger has no run of these switches: press Run to train one.")
            return None
        return await self._alone(lambda: self._follow(self.lab.replay(row), REPLAY))

    async def preset(self, name: str) -> list[Run]:
        """Plays or trains the runs of a preset, compares them, and says what to look at."""
        return await self._alone(lambda: self._perform(name))

    def stop(self) -> None:
        """Ends the present run after its present step."""
        for run in self.lab.runs:
            run.stopping = run.stopping or run.state == "running"

    def compare(self, runs: list[Run] | None = None) -> None:
        """Lays runs over each other, by default the last six."""
        runs = [*(runs or self.lab.runs)][-SHOWN:]
        if not runs:
            self._say("There is no run yet: press Run or Replay.")
            return
        self._show(runs)

    def save(self) -> Path | None:
        """Writes the picture into the folder, under a name that is free, and says where; None without a run.

        Errors: `InputError` where the folder cannot be written.
        """
        if not self.shown:
            self._say("There is no picture yet: press Run or Replay.")
            return None
        folder = make_folder(self.folder)
        taken = {path.name for path in folder.glob("collapse_lab_*.png")}
        name = next(name for i in range(1, 10**6) if (name := f"collapse_lab_{i:03}.png") not in taken)
        atomic_write(folder / name, png(self.figure(), dpi=150))
        self._say(f"Saved: {(folder / name).resolve()}")
        return folder / name

    def recipe(self) -> Any:
        """The recipe that the switches stand for."""
        knobs = {knob: control.value for knob, control in self.switches.items()}
        return self.lab.recipe(passes=self.passes.value, seed=self.seed.value, **knobs)

    def figure(self) -> Any:
        """What is shown as one matplotlib figure, for a file or a static picture; None without a run."""
        if not self.shown:
            return None
        note = "   ".join(f"{run.name}: {run.diagnosis.name}." for run in self.shown)
        stage = self._stage(self.shown, whole=True, note=note)
        stage.draw([run.act for run in self.shown])
        return stage.figures[0]

    def alt(self) -> str:
        """What is shown, in words."""
        return " ".join(f"{run.name}: {in_words(run.history)} {run.diagnosis!r}" for run in self.shown)

    # ---- one run after the other

    async def _alone(self, work: Callable[[], Coroutine]) -> Any:
        """Does the work with the controls locked, and unlocks them whatever happens."""
        if self.busy:
            raise InputError("A run is going on: stop it first, or wait for its end.")
        self.busy = True
        self._lock()
        try:
            return await work()
        finally:
            self.busy = self.heard = self.by_hand = False
            self._lock()
            self._expect()

    async def _perform(self, name: str) -> list[Run]:
        runs: list[Run] = []
        for growing, seconds in self.lab.perform(name, seed=self.seed.value, passes=self.passes.value):
            runs.append(await self._follow(growing, seconds))
            if runs[-1].stopping:
                break
        self._show(runs, LAB_PRESETS[name].look)
        return runs

    async def _follow(self, growing: Growing, seconds: float | None = None) -> Run:
        """Draws a run while it grows; a replay shows each of its moments, spread over `seconds`."""
        pace, run = Pace(SHARE), next(growing)
        self._show([run])
        start = time.perf_counter()
        await self._breathe(0)
        try:
            for i, _ in enumerate(growing, start=1):
                if seconds is not None or (pace.due() and self._news(run)):
                    with pace:
                        self._draw()
                wait = 0 if seconds is None else start + i * seconds / LEDGER_MOMENTS - time.perf_counter()
                await self._breathe(wait)
        finally:
            growing.close()
            self._show([run])
        return run

    async def _breathe(self, seconds: float) -> None:
        """Gives the kernel its turn: a click on Stop is heard now."""
        if self.by_hand:
            time.sleep(max(0.0, seconds))
        else:
            await asyncio.sleep(max(0.0, seconds))

    def _pressed(self, name: str) -> None:
        """What a button does: at once, or as a task of the kernel's loop, or (without tasks) until it is done."""
        if name in self.instant:
            try:
                self.instant[name]()
            except InputError as error:
                self._say(str(error))
            return
        if self.busy or (self.task is not None and not self.task.done()):
            return
        work = self._reported(self.longer[name]())
        if self.tasks and (loop := _loop()):
            self.heard = True
            self.task = loop.create_task(work)
        else:
            self.by_hand = True
            with suppress(StopIteration):
                while True:
                    work.send(None)

    async def _reported(self, work: Coroutine) -> None:
        """Nobody awaits a click: what goes wrong is told in the status line."""
        try:
            await work
        except (KeyboardInterrupt, asyncio.CancelledError):
            pass  # the run says that it was stopped
        except InputError as error:
            self._say(str(error))
        except Exception as error:
            self._say(f"The run failed. {type(error).__name__}: {error}")
            raise

    # ---- what is seen

    def _show(self, runs: list[Run], note: str = "") -> None:
        """Brings these runs on the stage, and lists all there are."""
        if runs != self.shown or self.stage is None:
            self.shown, self.stage = runs, self._stage(runs)
        self._draw(note)
        self._list()

    def _stage(self, runs: list[Run], **options: Any) -> Stage:
        ids, classes = self.labels
        together = f"Runs {', '.join(str(run.number) for run in runs)} compared"
        return Stage(
            [run.name for run in runs], title=runs[0].title if len(runs) == 1 else together,
            images=max(run.images for run in runs), labels=ids, classes=classes, **options,
        )  # fmt: skip

    def _draw(self, note: str = "") -> None:
        """Replaces pictures, light and words, all of the same moment."""
        if self.stage is None:
            return
        self.stage.draw([run.act for run in self.shown])
        for image, png_bytes in zip(self.pictures, self.stage.pngs(), strict=True):
            image.value = png_bytes
        self.frame.children = self.pictures
        self.drawn = len(self.shown[0].history)
        self.light.value = "".join(traffic_light(run) for run in self.shown)
        self.words.value = lines(*(f"{run.name}: {in_words(run.history)}" for run in self.shown))
        self._say(" ".join([*(self._state(run) for run in self.shown), note]).strip())

    def _news(self, run: Run) -> bool:
        """Whether the run has a row that is not drawn yet."""
        return len(run.history) > self.drawn

    def _state(self, run: Run) -> str:
        """What a run is doing, or how it ended; nothing of one that ended long ago."""
        step = run.history[-1]["step"] if run.history else 0
        if run.state != "running":
            return f"Run {run.number} {ENDS[run.state]} step {step}." if len(self.shown) == 1 else ""
        doing = "is replayed" if run.origin == "ledger" else "is training"
        total = run.images // run.recipe.batch_size
        return f"Run {run.number} {doing}: step {step} of {total}.{'' if self.heard else NO_TASKS}"

    def _say(self, text: str) -> None:
        """One line that a screen reader reads out, but not twice a second while a run goes on."""
        live = "off" if any(run.state == "running" for run in self.shown) else "polite"
        self.status.value = lines(text, attributes=f'role="status" aria-live="{live}"')

    def _expect(self, _: Any = None) -> None:
        """What the next run will cost, and which kNN the ledger knows of."""
        try:
            self.expect.value = lines(self.lab.expectation(self.recipe()))
        except InputError as error:
            self.expect.value = lines(str(error))

    def _list(self) -> None:
        """All runs that are kept, those on the stage chosen."""
        self.listing = True
        try:
            self.chosen.options = [(f"{run.name}: {run.diagnosis.name}", run.number) for run in self.lab.runs]
            self.chosen.value = tuple(run.number for run in self.shown if run in self.lab.runs)
        finally:
            self.listing = False

    def _choose(self, _: Any) -> None:
        if not self.listing and not self.busy and self.chosen.value:
            self.compare([run for run in self.lab.runs if run.number in self.chosen.value])

    def _lock(self) -> None:
        """Which buttons may be pressed now. The switches may always be moved: they are for the next run."""
        for name, button in self.buttons.items():
            button.disabled = not (self.busy and self.heard) if name == "stop" else self.busy
        self.chosen.disabled = self.busy

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)


def _loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs now, if one does."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None
