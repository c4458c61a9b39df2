"""What this machine is, and how fast it could be: its matrix rate, its memory, and the operations of a step."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from simsiam_course.doctor import cpu_name
from simsiam_course.speed import best_seconds, matrix_rate, operations, wait

__all__ = ["COPIED", "MATRIX", "describe", "matrix_rate", "memory_rate", "operations", "wait"]

MATRIX = 2048  # side of the matrices whose product shows the rate: large enough to be all arithmetic
COPIED = 2**28  # bytes: larger than the caches of a laptop


def describe(device: str = "cpu") -> dict[str, Any]:
    """The hardware and the versions that a figure was measured with: what every row of the ledger names."""
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def memory_rate(device: str = "cpu", *, size: int = COPIED) -> float:
    """Bytes a second that a copy reads and writes, the best of ten."""
    a = torch.zeros(size, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * size / best_seconds(lambda: b.copy_(a), device)
