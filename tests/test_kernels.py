"""A kernel that is interrupted or stopped leaves no process and no lock behind."""

import os
import sys
import time
import uuid
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from simsiam_course.data import patterns
from simsiam_course.lock import folder_lock

MARK = "SIMSIAM_KERNEL"
SOON = 60.0  # seconds, on a busy machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Kernel:
    """A kernel whose descendants can be found by a variable of their environment."""

    def __init__(self):
        self.name = uuid.uuid4().hex
        self.manager, self.client = start_new_kernel(env={**os.environ, MARK: self.name}, startup_timeout=120)

    def begin(self, code, until):
        """Runs a cell, and comes back when it has printed a word."""
        self.cell = self.client.execute(code)
        said = ""
        while until not in said:
            message = self.client.get_iopub_msg(timeout=SOON)
            if message["parent_header"].get("msg_id") == self.cell:
                assert message["msg_type"] != "error", message["content"]
                said += message["content"].get("text", "")

    def interrupted(self):
        """How the running cell ends after the stop button."""
        self.manager.interrupt_kernel()
        while True:
            reply = self.client.get_shell_msg(timeout=SOON)
            if reply["parent_header"].get("msg_id") == self.cell:
                return reply["content"].get("ename")

    def run(self, code):
        """Runs a cell to its end."""
        reply = self.client.execute(code, reply=True, timeout=SOON)["content"]
        assert reply["status"] == "ok", reply

    def processes(self):
        """Command lines of the kernel and of all that it has started, on whomever's account they run now."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.name}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def workers(self):
        return [line for line in self.processes() if "spawn_main" in line]

    def stop(self):
        """The way of the *Shut Down* button where the kernel does not answer, since it is busy."""
        self.manager.shutdown_kernel(now=True)
        self.client.stop_channels()


def eventually(what):
    """Whether something is, or soon becomes, empty."""
    end = time.monotonic() + SOON
    while what() and time.monotonic() < end:
        time.sleep(0.1)
    return what() == []


@pytest.fixture
def kernel():
    kernel = Kernel()
    yield kernel
    if kernel.manager.has_kernel:
        kernel.stop()


SETUP = """
from simsiam_course import ablate
from simsiam_course.data import ImageSet
from simsiam_course.recipe import Recipe
from simsiam_course.train import fit
images = ImageSet.load("{folder}/images.safetensors")
endless = Recipe(epochs=100_000, batch_size=32, monitor_every=1)
sweep = ablate.Experiment(
    name="small", title="t", question="q", paper={{}}, variants={{"a": {{}}, "b": {{"predictor": "none"}}}},
    base={{"epochs": 100_000, "batch_size": 32}}, data="file:{folder}/images.safetensors",
)
def say(row, model):
    if row["step"] == 2:
        print("begun", flush=True)
"""
FIT = 'fit(endless.build(), images, endless, out="{folder}/run", callback=say, progress=False, device="cpu")'
SWEEP = 'print("begun"); list(ablate.run(sweep, seeds=1, out="{folder}/sweep", jobs=2, progress=False, device="cpu"))'


def test_an_interrupted_or_stopped_kernel_leaves_nobody_and_no_lock(kernel, tmp_path):
    patterns(160, size=16, seed=5).save(tmp_path / "images.safetensors")
    kernel.run(SETUP.format(folder=tmp_path))

    kernel.begin(FIT.format(folder=tmp_path), until="begun")
    assert kernel.interrupted() == "KeyboardInterrupt"
    with folder_lock(tmp_path / "run") as free:
        assert free.held

    kernel.begin(SWEEP.format(folder=tmp_path), until="begun")
    end = time.monotonic() + SOON
    while len(kernel.workers()) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1.0)  # at whatever the workers are then: imports, data, training
    assert kernel.interrupted() is not None
    assert eventually(kernel.workers)
    assert not (tmp_path / "sweep" / ".results.jsonl.lock").exists()

    kernel.begin(SWEEP.format(folder=tmp_path), until="begun")
    end = time.monotonic() + SOON
    while len(kernel.workers()) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    kernel.stop()
    assert eventually(kernel.processes)
    with folder_lock(tmp_path / "sweep") as free:
        assert free.held
