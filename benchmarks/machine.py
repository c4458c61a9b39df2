"""What this machine is, and how fast it could be: its matrix rate, its memory, and the operations of a step."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MATRIX = 2048  # side of the matrices whose product shows the rate: large enough to be all arithmetic
COPIED = 2**28  # bytes: larger than the caches of a laptop


def describe(device: str = "cpu") -> dict[str, Any]:
    """The hardware and the versions that a figure was measured with: what every row of the ledger names."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def wait(device: str = "cpu") -> None:
    """Returns when the device has done all it was given: call it before the clock is read."""
    if device == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: str = "cpu", dtype: torch.dtype = torch.float32, *, size: int = MATRIX) -> float:
    """Floating-point operations a second in one large matrix product, the best of ten."""
    a, b = torch.randn(2, size, size, device=device).to(dtype).unbind()
    return 2 * size**3 / _best(lambda: a @ b, device)


def memory_rate(device: str = "cpu", *, size: int = COPIED) -> float:
    """Bytes a second that a copy reads and writes, the best of ten."""
    a = torch.zeros(size, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * size / _best(lambda: b.copy_(a), device)


def operations(work: Callable[[], Any]) -> int:
    """Floating-point operations of the convolutions and matrix products that `work` runs, backward included."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def _best(work: Callable[[], Any], device: str, times: int = 10) -> float:
    seconds = []
    for _ in range(times + 2):  # two to warm up
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[2:])


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
