"""Memory that a training step frees stays with the process, for the next step.

A step on the CPU allocates and frees tens of megabytes. glibc hands much of that back to the system at once, and the
next step pays for fresh, zeroed pages: some two thousand page faults a step with the default recipe.
`python benchmarks/cpu.py --only account` measures what keeping it is worth.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 2**30  # bytes that may lie free at the end of the heap
OWN_PAGES = 2**25  # bytes from which on a tensor gets pages of its own, which go back when it is freed


@cache
def keep_freed_memory() -> bool:
    """Asks glibc to keep what is freed, for the rest of the process; False where there is no glibc to ask."""
    return set_thresholds(OWN_PAGES, KEPT)


def set_thresholds(own_pages: int, kept: int) -> bool:
    """Sets glibc's two thresholds, in bytes, for the whole process; whether it took them."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return bool(mallopt and mallopt(M_MMAP_THRESHOLD, own_pages) and mallopt(M_TRIM_THRESHOLD, kept))
