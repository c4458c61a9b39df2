"""The lab and the lessons as a person uses them: JupyterLab in Chromium, clicked. Needs an installed Chromium."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from simsiam_course.jupyter import QUIET, server_command

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # fmt: skip
SETTINGS = {  # all cells are in the page, no news, no autosave in the middle of a test
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
PASSES = 8  # enough for the light to turn green
NOTEBOOK = """import os
os.environ.pop("SIMSIAM_QUICK", None)
import simsiam_course
lab = simsiam_course.collapse_lab()
lab"""

# Every different picture that the page shows in one place, in order, as a hash of its bytes.
WATCH = """() => {
  const seen = window.__frames = [], last = [];
  const key = async src => {
    const hash = await crypto.subtle.digest('SHA-256', await (await fetch(src)).arrayBuffer());
    return Array.from(new Uint8Array(hash).slice(0, 6), x => x.toString(16).padStart(2, '0')).join('');
  };
  const tick = () => {
    document.querySelectorAll('.jp-OutputArea img').forEach((img, i) => {
      if (!img.src || img.src === last[i]) return;
      last[i] = img.src;
      key(img.src).then(k => seen.push([i, k])).catch(() => {});
    });
    requestAnimationFrame(tick);
  };
  tick();
}"""
NOW = """async () => Promise.all([...document.querySelectorAll('.jp-OutputArea img')].map(async img => {
  const hash = await crypto.subtle.digest('SHA-256', await (await fetch(img.src)).arrayBuffer());
  return Array.from(new Uint8Array(hash).slice(0, 6), x => x.toString(16).padStart(2, '0')).join('');
}))"""
IDLE = """() => window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel?.status === 'idle'"""
CHOSEN = ".jp-OutputArea select[multiple] option:checked"
ALL_RUN = """() => {
  const p = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(x => x.textContent.trim());
  return p.length > 0 && p.every(t => /^\\[\\d+\\]:$/.test(t)); }"""


def own_jupyter(scratch: Path) -> dict[str, str]:
    """An environment in which nothing of the user's Jupyter is read or changed."""
    places = {
        f"JUPYTER{name}_DIR": str(scratch / name.lower().strip("_"))
        for name in ("_CONFIG", "_DATA", "_RUNTIME", "LAB_SETTINGS", "LAB_WORKSPACES")
    }
    for plugin, settings in SETTINGS.items():
        file = scratch / "lab_settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    return {**os.environ, **places, "IPYTHONDIR": str(scratch / "ipython")}


class Server:
    """A process in a group of its own, ended with the kernels that it has started."""

    def __init__(self, command: list[str], log: Path, **options) -> None:
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, **options
            )

    def wait_for(self, what, seconds: float = 90):
        """The first true answer of `what()`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            if answer := what():
                return answer
            time.sleep(0.1)
        raise AssertionError(f"not in {seconds} s: {self.log.read_text()}")

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def cut_short(lesson: Path) -> None:
    """Its trainings take 30 steps: nbval runs every lesson whole, here it is about the page."""
    notebook = json.loads(lesson.read_text("utf-8"))
    setup = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    setup["source"] = ["import os\n", "os.environ['SIMSIAM_QUICK'] = '1'\n", *setup["source"]]
    lesson.write_text(json.dumps(notebook), "utf-8")


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """(address, token) of a JupyterLab on copies of the lessons and on a notebook with the lab."""
    scratch = tmp_path_factory.mktemp("jupyter")
    root = scratch / "root"
    shutil.copytree(ROOT / "notebooks", root)
    for lesson in root.glob("[0-9]*.ipynb"):
        cut_short(lesson)
    cell = {"cell_type": "code", "id": "lab", "metadata": {}, "execution_count": None, "outputs": [],
            "source": NOTEBOOK}  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (root / "lab.ipynb").write_text(json.dumps(notebook))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    options = ["--no-browser", f"--port={port}", "--ServerApp.port_retries=0",
               f"--IdentityProvider.token={token}", "--expose-app-in-browser", *QUIET]  # fmt: skip
    environment = {**own_jupyter(scratch), "SIMSIAM_QUICK": "1"}
    server = Server([*server_command(root), *options], scratch / "log", env=environment)
    address = f"http://127.0.0.1:{port}"

    def answers():
        try:
            with urllib.request.urlopen(f"{address}/api?token={token}", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    try:
        server.wait_for(answers)
        yield address, token
    finally:
        server.stop()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page that must not fail, nor ask anything of another host."""
    outside, errors = [], []
    context = chromium.new_context(viewport={"width": 1280, "height": 1400})

    def note(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in (
            "127.0.0.1",
            "localhost",
        ):
            outside.append(url)

    context.on("request", lambda request: note(request.url))
    page = context.new_page()
    page.set_default_timeout(90_000)
    page.on("websocket", lambda socket: note(socket.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert outside == [] and errors == []


def open_notebook(page, jupyter, name: str) -> None:
    address, token = jupyter
    page.goto(f"{address}/lab/tree/{name}?reset&token={token}")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.wait_for_function(IDLE)


def run_all(page, seconds: float = 90) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
    page.wait_for_function(ALL_RUN, timeout=1000 * seconds)
    page.wait_for_function(IDLE)
    assert errors_of(page) == []


def errors_of(page) -> list[str]:
    kinds = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
    return [
        text[:500]
        for kind in kinds
        for text in page.locator(f'.jp-OutputArea-output[data-mime-type="{kind}"]').all_text_contents()
    ]


class Hands:
    """What a person does with the lab, and sees of it."""

    def __init__(self, page) -> None:
        self.page = page
        self.status = page.locator('.jp-OutputArea [role="status"]').last

    def button(self, name: str):
        return self.page.get_by_role("button", name=name, exact=True).and_(
            self.page.locator(".jupyter-button")
        )

    def switch(self, label: str, words: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(label=words)

    def passes(self, number: int) -> None:
        box = self.page.get_by_label("passes", exact=True)
        box.fill(str(number))
        box.press("Tab")

    def says(self, pattern: str, seconds: float = 240) -> str:
        from playwright.sync_api import expect

        expect(self.status).to_have_text(re.compile(pattern), timeout=1000 * seconds)
        return self.status.text_content()

    def light(self) -> str:
        return " ".join(self.page.locator(".widget-html", has_text="✓").or_(
            self.page.locator(".widget-html", has_text="✕")).all_text_contents())  # fmt: skip

    def pictures(self) -> list[str]:
        self.page.wait_for_timeout(300)
        return self.page.evaluate(NOW)

    def frames(self) -> list[tuple[int, str]]:
        self.page.wait_for_timeout(300)
        return [tuple(frame) for frame in self.page.evaluate("() => window.__frames")]


def healthy_and_collapsed_in_turn(hands: Hands) -> None:
    """Two runs: switches, frames, light and words belong to each other, and no picture of the one is the other's."""
    hands.page.evaluate(WATCH)
    hands.passes(PASSES)
    hands.button("Run").click()
    hands.says(r"Run 1 is training: step [1-9]")
    assert hands.button("Run").is_disabled() and hands.button("Stop").is_enabled()
    hands.switch("stop-gradient", "none")  # for the next run: it must not relabel this one
    hands.says("Run 1 finished")
    first, frames = hands.pictures(), hands.frames()
    assert len({key for place, key in frames if place == 1}) >= 10  # the curves
    assert len({key for place, key in frames if place == 0}) >= 10  # z
    light = hands.light()
    assert "1: SimSiam" in light and "✓ Healthy" in light and "stop-gradient" not in light.split(":")[1]

    hands.passes(PASSES // 2)  # a collapse is seen sooner
    hands.button("Run").click()
    hands.says(r"Run 2 is training: step [1-9]")
    before = len(hands.frames())
    hands.says("Run 2 finished")
    second, frames = hands.pictures(), hands.frames()
    light = hands.light()
    assert "2: no stop-gradient" in light and re.search(r"✕ (Complete|Dimensional) collapse", light)
    assert "Healthy" not in light
    old = {key for _, key in frames[:before]}
    assert len({key for place, key in frames[before:] if place == 1} - old) >= 4
    assert not set(second) & old and not set(first) & {
        key for _, key in frames[before:]
    }  # never a stale picture

    runs = hands.page.get_by_label("runs", exact=True)
    runs.select_option(index=0)
    hands.says("Run 1 finished")
    assert hands.pictures() == first and "✓ Healthy" in hands.light() and "✕" not in hands.light()
    runs.select_option(index=1)
    hands.says("Run 2 finished")
    assert hands.pictures() == second and "✕" in hands.light()


def test_the_lab_in_jupyterlab(page, jupyter):
    open_notebook(page, jupyter, "lab.ipynb")
    run_all(page)
    hands = Hands(page)
    healthy_and_collapsed_in_turn(hands)

    # Compare
    alone = hands.pictures()
    hands.button("Compare").click()
    page.wait_for_function(
        "() => document.querySelectorAll('.jp-OutputArea select[multiple] option:checked').length === 2"
    )
    assert hands.pictures() != alone
    assert "1: SimSiam: ✓ Healthy" in hands.light() and "2: no stop-gradient: ✕" in hands.light()

    # Stop
    hands.passes(50)
    hands.button("Run").click()
    hands.says(r"Run 3 is training: step [1-9]")
    hands.button("Stop").click()
    said = hands.says("Run 3 was stopped at step")
    assert int(re.search(r"step (\d+)", said).group(1)) < 1_000
    assert hands.button("Run").is_enabled() and hands.button("Stop").is_disabled()

    # Replay, of the switches as they are: no stop-gradient
    before = len(hands.frames())
    hands.button("Replay").click()
    hands.says("Run 4 finished", seconds=60)
    assert "4: no stop-gradient (ledger): ✕" in hands.light()
    assert len({key for place, key in hands.frames()[before:] if place == 1}) >= 5
    assert errors_of(page) == []


def test_every_control_is_reached_by_the_keyboard(page, jupyter):
    open_notebook(page, jupyter, "lab.ipynb")
    run_all(page)
    page.get_by_label("stop-gradient", exact=True).focus()
    reached = []
    for _ in range(17):
        reached.append(
            page.evaluate("() => document.activeElement.textContent || document.activeElement.type")
        )
        page.keyboard.press("Tab")
    said = " ".join(reached)
    for name in ("Run", "Replay", "Compare", "Save picture", "Figure 2", "Table 1", "BN hides"):
        assert name in said, said


def test_the_lab_alone(page, tmp_path):
    """`simsiam-course lab --app`, in a folder that holds nothing: one click starts it."""
    catcher = tmp_path / "catch.py"
    catcher.write_text("import sys\nopen(sys.argv[1], 'w').write(sys.argv[2])\n")
    caught, empty = tmp_path / "address", tmp_path / "empty"
    empty.mkdir()
    environment = {**own_jupyter(tmp_path), "BROWSER": f"{sys.executable} {catcher} {caught} %s"}
    command = [sys.executable, "-m", "simsiam_course", "lab", "--app"]
    server = Server(command, tmp_path / "log", env=environment, cwd=empty)
    try:
        server.wait_for(lambda: caught.exists() and caught.read_text())
        redirect = Path(urlsplit(caught.read_text()).path).read_text()
        address = re.search(r'href="([^"]+)"', redirect).group(1).replace("&amp;", "&")
        assert urlsplit(address).hostname == "127.0.0.1" and "token=" in address
        assert "/doc/tree/" in address
        page.goto(address)
        page.locator(".jp-OutputArea h1").wait_for()
        assert page.locator(".jp-CodeCell .jp-InputArea-editor:visible").count() == 0  # collapsed
        assert page.locator(".jp-FileBrowser:visible").count() == 0  # a single document
        page.get_by_text("| Idle").first.wait_for()  # the kernel is there
        page.locator('[data-command="notebook:run-cell-and-select-next"]').first.click()
        hands = Hands(page)
        hands.button("Run").wait_for()
        healthy_and_collapsed_in_turn(hands)
        hands.button("Save picture").click()
        assert str(empty) in hands.says("Saved: ")
        assert [path.name for path in empty.iterdir()] == ["collapse_lab_001.png"]
    finally:
        server.stop()


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "notebooks").glob("0[56]_*.ipynb")))
def test_run_all_of_a_lesson(page, jupyter, name):
    open_notebook(page, jupyter, name)
    run_all(page, seconds=180)
