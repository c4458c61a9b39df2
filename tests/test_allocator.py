"""What a step frees serves the next one: the system is hardly asked for memory."""

import os
import platform
import subprocess
import sys

import pytest

from simsiam_course import allocator

FAULTS = """
import resource
from simsiam_course import Recipe, allocator, load_pair
from simsiam_course.train import Trainer
{before}
images, _ = load_pair("patterns", limit=512)
trainer = Trainer((recipe := Recipe()).build(), images, recipe, device="cpu")
for _ in range(8):
    trainer.advance()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    trainer.advance()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


def faults_a_step(before: str = "") -> float:
    done = subprocess.run([sys.executable, "-c", FAULTS.format(before=before)], capture_output=True, text=True,
                          check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})  # fmt: skip
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_training_asks_the_system_for_a_tenth_of_the_pages():
    handed_back = "allocator.set_thresholds(2**22, 2**23); allocator.keep_freed_memory = lambda: False"
    handed_back += "; import simsiam_course.train as t; t.keep_freed_memory = allocator.keep_freed_memory"
    assert faults_a_step() < faults_a_step(handed_back) / 10


def test_elsewhere_than_on_linux_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.set_thresholds(2**22, 2**23)


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.set_thresholds(2**22, 2**23)
