"""A run's weights in files that are small enough to carry: matrices in float16, no momentum, at most 15 MiB each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from simsiam_course import checkpoint as ckpt
from simsiam_course.errors import InputError

LARGEST = 15 * 2**20  # bytes


def save_parts(
    folder: Path, tensors: dict[str, Tensor], about: dict[str, Any], *, limit: int = LARGEST
) -> list[Path]:
    """Writes `weights-1-of-N.safetensors` to `weights-N-of-N.safetensors`; those of another N go."""
    small = {name: rounded(tensor) for name, tensor in tensors.items() if not name.startswith("momentum.")}
    parts = split(small, limit)
    paths = [folder / f"weights-{i}-of-{len(parts)}.safetensors" for i in range(1, len(parts) + 1)]
    for path, part in zip(paths, parts, strict=True):
        ckpt.save_tensors(path, part, about)
    for path in parts_in(folder):
        if path not in paths:
            path.unlink()
    return paths


def load_parts(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_parts` wrote. Errors: `InputError` where a part is missing, damaged or of another step."""
    paths = parts_in(folder)
    loaded = [ckpt.load_tensors(path) for path in paths]
    whole = [path.name for path in paths] == [
        f"weights-{i + 1}-of-{len(paths)}.safetensors" for i in range(len(paths))
    ]
    if not (paths and whole and len({about["step"] for _, about in loaded}) == 1):
        raise InputError(
            f"'{folder}' does not hold all weights of one step: copy the files 1-of-N to N-of-N again."
        )
    return {name: tensor for tensors, _ in loaded for name, tensor in tensors.items()}, loaded[0][1]


def parts_in(folder: Path) -> list[Path]:
    """The files of weights in a folder."""
    return sorted(folder.glob("weights-*-of-*.safetensors"))


def rounded(tensor: Tensor) -> Tensor:
    """Matrices and kernels in float16; all else, BN's statistics above all, as it is."""
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor


def split(tensors: dict[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    """The tensors in their order, in as few parts as the limit in bytes allows."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        size += tensor.nbytes
        if size > limit and parts[-1]:
            parts.append({})
            size = tensor.nbytes
        parts[-1][name] = tensor
    return parts
