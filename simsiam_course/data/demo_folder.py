"""A folder of pictures such as people have: any size, any direction, several kinds of files, some of them broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..files import make_folder
from .patterns import patterns

BURST = 8  # every so many pictures there is a second shot of the same print


def write_demo_folder(path: str | Path, *, count: int = 900, seed: int = 0) -> Path:
    """Writes `count` pictures of prints, photographed from above, into one folder a class, and gives it back.

    Each is turned by random quarters and has a side of 36 to 80 pixels; some are grey or transparent; of every eighth
    there is a second shot, a little brighter and noisier, as when a button is held down. Two files are broken, one is
    hidden, and one is no picture. The same seed gives the same pictures. Errors: `InputError`, folder not writable.
    """
    from PIL import Image

    folder = make_folder(path)
    rng, prints = np.random.default_rng(seed), patterns(count, size=48, seed=seed + 7)
    labels = prints.labels if prints.labels is not None else torch.zeros(count, dtype=torch.int64)
    for name in prints.classes:
        (folder / name).mkdir(exist_ok=True)
    for i, (image, label) in enumerate(zip(prints.images, labels.tolist(), strict=True)):
        place = folder / prints.classes[label]
        pixels = np.rot90(image.permute(1, 2, 0).numpy(), int(rng.integers(4)))
        side = int(rng.integers(36, 81))
        picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side + int(rng.integers(12))))
        kind = ("L", "RGBA")[i % 2] if i % 30 < 2 else "RGB"
        picture.convert(kind).save(place / f"IMG_{i:04d}.png")
        if i % BURST == 0:
            again = np.asarray(picture) * 1.1 + rng.normal(0, 4, np.asarray(picture).shape)
            shot = Image.fromarray(again.clip(0, 255).astype(np.uint8))
            shot.convert(kind).save(place / f"IMG_{i:04d}_second.png")
    first = folder / prints.classes[0]
    whole = next(first.glob("*.png")).read_bytes()
    (first / "cut_short.png").write_bytes(whole[: len(whole) // 2])
    (first / "empty.jpg").write_bytes(b"")
    (first / ".hidden.png").write_bytes(whole)
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    return folder
