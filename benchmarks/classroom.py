"""How much memory and time a class needs: one lesson's kernel alone, and several at once on one machine.

`python benchmarks/classroom.py` runs lesson 05, the one to do live, from a clean kernel as a student would, once
alone and then twice at the same time; `--lesson 03 --at-once 1 2 4` asks for others. The peak is Linux's VmHWM of
the kernel's process, the most that lay in memory at any time. Kernels share the pages of PyTorch's libraries, so two
of them take less than twice the peak of one: Pss, which counts shared pages in parts, is read after the last cell.

Each kernel has its share of the cores as OMP_NUM_THREADS, at least one. Left alone it would take as many threads as
there are cores, and kernels that do so at the same time wait for each other: `--threads 2` shows by how much.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from memory import kilobytes

ROOT = Path(__file__).resolve().parents[1]


def kernel(path: Path, threads: int = 1) -> dict[str, float]:
    """Runs a notebook in a kernel of its own: megabytes at its peak and at its end, and seconds."""
    import nbformat
    from nbclient import NotebookClient
    from tqdm.auto import tqdm

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=1800, resources={"metadata": {"path": str(path.parent)}}, store_widget_state=False
    )
    start = time.perf_counter()
    with client.setup_kernel(env={**os.environ, "OMP_NUM_THREADS": str(threads)}):
        for number, cell in enumerate(tqdm(notebook.cells, desc=path.stem, leave=False, disable=None)):
            client.execute_cell(cell, number)
        process = client.km.provisioner.pid
        return {
            "threads": threads,
            "peak_mb": kilobytes(f"/proc/{process}/status", "VmHWM") / 1024,
            "shared_once_mb": kilobytes(f"/proc/{process}/smaps_rollup", "Pss") / 1024,
            "seconds": time.perf_counter() - start,
        }


def at_once(path: Path, kernels: int, threads: int | None = None) -> list[dict[str, float]]:
    """So many kernels with the same notebook at the same time, each with so many threads, or its share of the cores."""
    threads = threads or max(1, (os.cpu_count() or 1) // kernels)
    with ThreadPoolExecutor(kernels) as pool:
        return list(pool.map(kernel, [path] * kernels, [threads] * kernels))


def table(found: dict[int, list[dict[str, float]]]) -> str:
    """A line for each number of kernels: the largest peak of one, the sum with shared pages once, and the time."""
    lines = [f"{'kernels':>7}{'threads':>9}{'peak of one, MB':>17}{'all at the end, MB':>20}{'seconds':>9}"]
    for kernels, rows in found.items():
        peak = max(row["peak_mb"] for row in rows)
        together = sum(row["shared_once_mb"] for row in rows)
        seconds = max(row["seconds"] for row in rows)
        lines.append(f"{kernels:>7}{rows[0]['threads']:>9}{peak:>17,.0f}{together:>20,.0f}{seconds:>9,.0f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Measures and prints; None where there is no /proc, which a sentence says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lesson", default="05", help="the lesson's number")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2], help="kernels at the same time")
    parser.add_argument(
        "--threads", type=int, help="threads of each kernel, instead of its share of the cores"
    )
    options = parser.parse_args(arguments)
    paths = sorted((ROOT / "notebooks").glob(f"{options.lesson}_*.ipynb"))
    if not paths:
        parser.error(f"there is no lesson {options.lesson}: give a number from 00 to 11.")
    if min(*options.at_once, 1 if options.threads is None else options.threads) < 1:
        parser.error("--at-once and --threads must be at least 1.")
    if not Path("/proc/self/smaps_rollup").exists():
        print("The memory of a process is read from Linux's /proc, which is not here.", file=sys.stderr)
        return None
    found = {kernels: at_once(paths[0], kernels, options.threads) for kernels in options.at_once}
    print(f"Lesson {options.lesson}, {paths[0].name}, from a clean kernel:\n{table(found)}")
    return {str(kernels): rows for kernels, rows in found.items()}


if __name__ == "__main__":
    main()
