"""What is on this machine, and how long things will take on it."""

from __future__ import annotations

import os
import platform
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "scikit-learn", "umap-learn", "ipywidgets", "jupyterlab",
            "safetensors", "nbval", "pytest")  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "firefox", "microsoft-edge")
MEASURED_STEPS = 30


def examine() -> dict[str, Any]:
    """Versions, device, memory, disk, cached data, browser, kernel and the minutes that a demo takes here.

    A package or a program that is missing is null. The minutes come from 30 training steps, taken now.
    """
    import torch

    from . import __version__, checkout
    from .data import cache_dir

    cache = cache_dir()
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "simsiam_course": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "versions": {name: _version(name) for name in PACKAGES},
        "device": cuda or "cpu",
        "threads": torch.get_num_threads(),
        "memory_gb": _memory_gb(),
        "disk_free_gb": round(shutil.disk_usage(_existing(cache)).free / 1e9, 1),
        "cache": str(cache),
        "data": sorted(p.name for p in cache.iterdir() if not p.name.startswith("."))
        if cache.is_dir()
        else [],
        "notebooks": checkout() is not None,
        "browser": next((name for name in BROWSERS if shutil.which(name)), None),
        "kernel": _kernel(),
        "demo_minutes": round(_demo_minutes(), 1),
    }


def cpu_name() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def sentences(found: dict[str, Any]) -> list[str]:
    """The findings for a person, and what to do where something is missing."""
    missing = [name for name, version in found["versions"].items() if version is None]
    lines = [
        f"simsiam_course {found['simsiam_course']}, Python {found['python']}, {found['system']}",
        ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version),
        f"Device: {found['device']}, {found['threads']} threads, {found['memory_gb'] or '?'} GB of memory, "
        f"{found['disk_free_gb']} GB of disk free",
        f"Data in {found['cache']}: {', '.join(found['data']) or 'nothing yet; patterns and digits need nothing'}",
        f"Browser: {found['browser'] or 'none found'}. Kernel: {found['kernel'] or 'none found'}. "
        f"Notebooks: {'here' if found['notebooks'] else 'not beside this installation'}",
        f"A demo takes about {found['demo_minutes']} minutes on this device.",
    ]
    if missing:
        lines.append(f"Missing: python -m pip install {' '.join(missing)}")
    return lines


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.absolute().parents) if p.exists())


def _kernel() -> str | None:
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        return next(iter(KernelSpecManager().find_kernel_specs()), None)
    except ImportError:
        return None


def _demo_minutes() -> float:
    """The demo's four runs at the rate of a few steps; measuring and drawing take about as long as one of them."""
    from .ablate import COLLAPSE
    from .data import load
    from .train import Trainer

    recipe = COLLAPSE.recipe("simsiam", 0)
    trainer = Trainer(recipe.build(), load(COLLAPSE.data), recipe)
    trainer.advance()
    start = time.perf_counter()
    for _ in range(MEASURED_STEPS):
        trainer.advance()
    float(trainer.loss_sum)
    seconds = (time.perf_counter() - start) / MEASURED_STEPS * trainer.steps_per_epoch * recipe.epochs
    trainer.close()
    return 5 * seconds / 60
