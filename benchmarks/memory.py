"""The peak memory of one contestant, which has a process of its own: `python memory.py NAME IMAGES STEPS`.

Counted by Linux itself, for the process and all its workers: VmHWM, the most that lay in memory at any time. (The
getrusage call has the same figure, but a child's begins at what its parent held.) Pages that workers share with the
process that started them are in the figure of each, so the sum is too much for a loader with workers; Pss, which
shares them out, has no peak and is read right after the last step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simsiam_course.data import ImageSet

BASE = "import torch"


def measure(names: Sequence[str], images: ImageSet, steps: int) -> list[dict[str, Any]]:
    """A row for each contestant, and one for a process that only imports torch; none where there is no /proc."""
    from tqdm.auto import tqdm

    if not Path("/proc/self/smaps_rollup").exists():
        return []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.safetensors"
        images.save(path)
        for name in tqdm([BASE, *names], desc="memory", leave=False, disable=None):
            command = [sys.executable, __file__, name, str(path), str(steps)]
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            rows.append({"contestant": name, **json.loads(found)})
    return rows


def peak(name: str, path: str, steps: int) -> dict[str, float]:
    """Megabytes of this process and its workers after training, `peak_mb` and `shared_once_mb`."""
    import multiprocessing
    import os

    contestant = None
    if name == BASE:
        import torch  # noqa: F401
    else:
        from peers import CONTESTANTS

        from simsiam_course.data import ImageSet
        from simsiam_course.recipe import Recipe

        contestant = CONTESTANTS[name](ImageSet.load(path), Recipe(joint=False))
        contestant.train(steps)
    processes = [os.getpid(), *(worker.pid for worker in multiprocessing.active_children())]
    found = {
        "processes": len(processes),
        "peak_mb": sum(kilobytes(f"/proc/{pid}/status", "VmHWM") for pid in processes) / 1024,
        "shared_once_mb": sum(kilobytes(f"/proc/{pid}/smaps_rollup", "Pss") for pid in processes) / 1024,
    }
    if contestant is not None:
        contestant.close()
    return found


def kilobytes(path: str, name: str) -> int:
    """The figure behind `name:` in one of Linux's lists."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    print(json.dumps(peak(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
