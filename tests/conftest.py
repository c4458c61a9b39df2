"""What all tests share: a cache of their own, strict checks in kernels, and no CUDA test where there is no CUDA."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest
from hypothesis import settings

settings.register_profile("many", max_examples=300, deadline=None)  # pytest --hypothesis-profile many

CACHE = pytest.StashKey[tempfile.TemporaryDirectory]()


def pytest_configure(config: pytest.Config) -> None:
    """Kernels and subprocesses inherit the variables: no user's cache is touched, and a failed check is an error."""
    folder = tempfile.TemporaryDirectory(prefix="simsiam-cache-", ignore_cleanup_errors=True)
    config.stash[CACHE] = folder
    os.environ["SIMSIAM_CACHE"] = folder.name
    os.environ["SIMSIAM_CHECKS"] = "strict"
    if at_once := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        # Two processes that each use every core slow each other; and Ctrl-C is what some tests are about.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // at_once))


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[CACHE].cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def checks_as_a_student_has_them(monkeypatch):
    """A test function sees cards, and has patience; the kernels in which nbval runs the notebooks are strict."""
    monkeypatch.delenv("SIMSIAM_CHECKS", raising=False)
    if core := sys.modules.get("simsiam_course.exercises.core"):
        monkeypatch.setattr(core, "SECONDS", core.PATIENT)


@pytest.fixture(autouse=True)
def a_share_of_the_cores():
    """What sets the number of threads, as some commands do, must not slow the tests that come after it."""
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    yield
    if before and torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture
def tmpfs(tmp_path):
    """Mounts small or read-only file systems: chmod does not stop root, and only a real disk is ever full."""
    mounted = []

    def mount(options):
        folder = tmp_path / f"tmpfs-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        if (
            shutil.which("mount") is None
            or subprocess.run(command, capture_output=True, check=False).returncode
        ):
            pytest.skip("mounting a tmpfs needs root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)
