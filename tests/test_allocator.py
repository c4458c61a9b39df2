"""What is freed stays with the process: the system is not asked for the same memory again."""

import os
import platform
import subprocess
import sys

import pytest

from simsiam_course import allocator

FAULTS = """
import resource
import torch
from simsiam_course import Recipe, allocator, load_pair
from simsiam_course.train import Trainer
{before}
images, _ = load_pair("patterns", limit=512)
Trainer((recipe := Recipe()).build(), images, recipe, device="cpu")

def faults(times):
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(5 * 2**20)  # 20 MiB, as the largest activations of a step
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start

faults(3)
print(faults(20) / 20)
"""
HANDED_BACK = """
allocator.set_thresholds(2**22, 2**23)
import simsiam_course.train
simsiam_course.train.keep_freed_memory = lambda: False
"""


def faults_a_tensor(before: str = "") -> float:
    done = subprocess.run([sys.executable, "-c", FAULTS.format(before=before)], capture_output=True, text=True,
                          check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})  # fmt: skip
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_trainer_keeps_what_is_freed():
    kept, handed_back = faults_a_tensor(), faults_a_tensor(HANDED_BACK)
    assert handed_back > 5  # 5,120 pages, or ten where the system gives huge ones
    assert kept < 1


def test_elsewhere_than_on_linux_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.set_thresholds(2**22, 2**23)


def test_a_c_library_without_mallopt_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.set_thresholds(2**22, 2**23)
