"""How much memory a class needs: the peak of one lesson's kernel, and of several at once on one machine.

`python benchmarks/classroom.py` runs lesson 05, the one to do live, from a clean kernel as a student would, once
alone and then twice at the same time; `--lesson 03 --at-once 1 2 4` asks for others. The peak is Linux's VmHWM of
the kernel's process, the most that lay in memory at any time. Kernels share the pages of PyTorch's libraries, so two
of them take less than twice the peak of one: Pss, which counts shared pages in parts, is read after the last cell.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from memory import kilobytes

ROOT = Path(__file__).resolve().parents[1]


def kernel(path: Path) -> dict[str, float]:
    """Runs a notebook in a kernel of its own: megabytes at its peak and at its end, and seconds."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=1800, resources={"metadata": {"path": str(path.parent)}}, store_widget_state=False
    )
    start = time.perf_counter()
    with client.setup_kernel():
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
        process = client.km.provisioner.pid
        return {
            "peak_mb": kilobytes(f"/proc/{process}/status", "VmHWM") / 1024,
            "shared_once_mb": kilobytes(f"/proc/{process}/smaps_rollup", "Pss") / 1024,
            "seconds": time.perf_counter() - start,
        }


def at_once(path: Path, kernels: int) -> list[dict[str, float]]:
    """So many kernels with the same notebook at the same time."""
    with ThreadPoolExecutor(kernels) as pool:
        return list(pool.map(kernel, [path] * kernels))


def table(found: dict[int, list[dict[str, float]]]) -> str:
    """A line for each number of kernels: the largest peak of one, the sum with shared pages once, and the time."""
    lines = [f"{'kernels':>7}{'peak of one, MB':>17}{'all at the end, MB':>20}{'seconds':>9}"]
    for kernels, rows in found.items():
        peak = max(row["peak_mb"] for row in rows)
        together = sum(row["shared_once_mb"] for row in rows)
        lines.append(
            f"{kernels:>7}{peak:>17,.0f}{together:>20,.0f}{max(row['seconds'] for row in rows):>9,.0f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Measures and prints; None where there is no /proc, which a sentence says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lesson", default="05", help="the lesson's number")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2], help="kernels at the same time")
    options = parser.parse_args(arguments)
    paths = sorted((ROOT / "notebooks").glob(f"{options.lesson}_*.ipynb"))
    if not paths or min(options.at_once) < 1:
        parser.error(
            f"there is no lesson {options.lesson}, or no kernel: give a number as 05, and kernels from 1 up."
        )
    if not Path("/proc/self/smaps_rollup").exists():
        print("The memory of a process is read from Linux's /proc, which is not here.", file=sys.stderr)
        return None
    found = {kernels: at_once(paths[0], kernels) for kernels in options.at_once}
    print(f"Lesson {options.lesson}, {paths[0].name}, from a clean kernel:\n{table(found)}")
    return {str(kernels): rows for kernels, rows in found.items()}


if __name__ == "__main__":
    main()
