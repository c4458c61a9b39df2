"""A folder of pictures, of any size and kind, as one `ImageSet`."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import InputError, printable
from .cache import converted
from .images import ImageSet

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

SUFFIXES = {
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm",
    ".pbm", ".jpe",
}  # fmt: skip
UNREAD = {  # by Pillow
    ".heic", ".heif", ".jxl", ".svg", ".psd", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw",
}  # fmt: skip
MOST_PIXELS = 2**26  # of one picture, 268 MB while it is read; of a JPEG after its decoder has shrunk it
MOST_BEFORE = 2**28  # of a JPEG before that: phones make 200 megapixels
READER = 2  # one more whenever the same files are read in another way: what was converted before is stale


def load_folder(path: str | Path, *, size: int = 32, name: str | None = None) -> ImageSet:
    """The pictures in a folder: subfolders with pictures are classes, by sorted name; fewer than two, no labels.

    Every picture is turned as its EXIF says, resized once with antialias so that its shorter side is `size`,
    and cut to its centre: uint8 (N, 3, size, size). Transparency becomes white, 16 bits become 8, of moving
    pictures the first frame is taken. Hidden files, links to folders and files that are no pictures are
    passed over; broken pictures are skipped with one warning that names some and counts all, and that tells of
    pictures beside class folders and of kinds that cannot be read. The result is kept in the cache until the
    folder changes. Raises InputError for a folder that is missing or has no
    readable picture.
    """
    if "\0" in str(path):
        raise InputError(f"The folder '{printable(str(path))}' has a NUL character; check the path.")
    path = Path(os.path.realpath(os.path.expanduser(path)))
    if os.path.isfile(path):
        raise InputError(f"'{path}' is no folder but a file; give the folder it is in.")
    if not os.path.isdir(path):
        raise InputError(f"There is no folder '{path}'; check the path.")
    try:
        state = _state(path)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror}); check its permissions.") from error
    name = name or _text(f"folder:{path.name}")
    place = hashlib.sha256(str(path).encode(errors="replace")).hexdigest()[:12]
    convert = partial(convert_folder, path, size=size, name=name)
    return replace(converted(f"folder-{place}-{size}", state, convert), name=name)


def _listing(path: Path) -> tuple[list[Path], tuple[str, ...], str]:
    """Sorted pictures, class names (none for fewer than two subfolders), and a sentence on what is left out."""
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
    groups = {folder.name: files for folder in folders if (files := sorted(_pictures(folder)))}
    beside = [entry for entry in entries if _is_picture(entry)]
    inside = [file for files in groups.values() for file in files]
    if len(groups) < 2:  # one subfolder tells nothing apart
        return inside + beside, (), ""
    lost = len(beside)
    said = f"Passed over {lost} picture{'s' if lost > 1 else ''} beside the class folders in '{path}'."
    return inside, tuple(groups), said if beside else ""


def _pictures(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):  # does not follow links to folders: loops cannot trap it
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (entry for entry in map(Path(parent).joinpath, files) if _is_picture(entry))


def _unread(path: Path) -> str:
    """A sentence on the pictures of a kind that cannot be read here; "" where there are none."""
    names = [name for _, _, files in os.walk(path) for name in files if not name.startswith(".")]
    kinds = [kind for name in names if (kind := Path(name).suffix.lower()) in UNREAD]
    if not kinds:
        return ""
    files = f"{len(kinds)} file{'s' if len(kinds) > 1 else ''}"
    return f"Passed over {files} of a kind that is not read here ({', '.join(sorted(set(kinds)))}): save as JPEG."


def _is_picture(entry: Path) -> bool:
    return entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()


def _state(path: Path) -> str:
    """Changes when a picture is added, removed, renamed or written, and with what is told of files left out."""
    files, _, beside = _listing(path)
    digest = hashlib.sha256(f"{READER}\0{beside}\0{_unread(path)}\n".encode(errors="replace"))
    for file in files:
        status = file.stat()
        line = f"{file.relative_to(path)}\0{status.st_mtime_ns}\0{status.st_size}\n"
        digest.update(line.encode(errors="replace"))
    return digest.hexdigest()


def convert_folder(path: Path, *, size: int, name: str) -> tuple[ImageSet, str]:
    """What `load_folder` returns, read anew, and its warning ("" for none)."""
    from tqdm.auto import tqdm

    files, classes, beside = _listing(path)
    unread = _unread(path)
    if not files:
        hint = f" {unread}" if unread else ""
        raise InputError(
            f"There are no pictures in '{path}'; give a folder of JPEG, PNG or similar files.{hint}"
        )
    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
    broken: dict[int, str] = {}
    pool = ThreadPoolExecutor()
    try:
        results = pool.map(lambda file: _read(file, size), files)
        terminal = sys.stderr is not None and sys.stderr.isatty()  # None where it is closed
        unseen = not terminal and not type(sys.stderr).__module__.startswith("ipykernel")
        bar = tqdm(results, total=len(files), desc="reading", unit="picture", disable=unseen)
        for i, result in enumerate(bar):
            if isinstance(result, str):
                broken[i] = result
            else:
                images[i] = torch.from_numpy(result).permute(2, 0, 1)
    finally:
        pool.shutdown(cancel_futures=True)
    if len(broken) == len(files):
        raise InputError(
            f"None of {len(files)} pictures in '{path}' can be read (first: {broken[0]}); check the files."
        )
    whole = torch.tensor([i not in broken for i in range(len(files))])
    labels = None
    if classes:
        number = {folder: label for label, folder in enumerate(classes)}
        labels = torch.tensor([number[file.relative_to(path).parts[0]] for file in files])[whole]
    kept = ImageSet(images if whole.all() else images[whole], labels, classes, name=name)
    complaints = [_complaint(path, [(files[i], why) for i, why in broken.items()]), beside, unread]
    said = " ".join(complaint for complaint in complaints if complaint)
    return kept, _text(said)


def _text(said: str) -> str:
    """The name of a file need not be text; what is kept in a file must be."""
    return said.encode(errors="replace").decode()


def _complaint(path: Path, broken: list[tuple[Path, str]]) -> str:
    if not broken:
        return ""
    some = ", ".join(
        f"{printable(str(file.relative_to(path)))} ({printable(why)})" for file, why in broken[:3]
    )
    rest = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
    count = f"{len(broken)} broken picture{'s' if len(broken) > 1 else ''}"
    return f"Skipped {count} in '{printable(str(path))}': {some}{rest}."


def _read(file: Path, size: int) -> np.ndarray | str:
    """The picture as uint8 (size, size, 3), or what is wrong with it."""
    from PIL import Image, ImageOps

    try:
        with _opened(file) as picture:
            _check_pixels(picture, MOST_BEFORE)  # a progressive JPEG is held whole before it is shrunk
            picture.draft("RGB", (4 * size, 4 * size))  # JPEG decoders shrink large photos while they read
            _check_pixels(picture, MOST_PIXELS)
            picture.load()
            upright = _as_rgb(_upright(picture))
            return np.array(ImageOps.fit(upright, (size, size), method=Image.Resampling.BICUBIC))
    except Exception as error:  # a broken file can raise nearly anything in its decoder
        reason = str(error).replace(f" {str(file)!r}", "")  # the warning names the file once
        return " ".join(reason.split()) or type(error).__name__


def _opened(file: Path) -> PILImage:
    """As Pillow opens it, but that JPEGs are spared its limit, which knows nothing of shrinking."""
    from PIL import Image, JpegImagePlugin

    with file.open("rb") as start:
        jpeg = start.read(3) == b"\xff\xd8\xff"
    return JpegImagePlugin.JpegImageFile(file) if jpeg else Image.open(file)


def _check_pixels(picture: PILImage, most: int) -> None:
    if picture.width * picture.height > most:
        raise ValueError(f"it claims {picture.width}x{picture.height} pixels, at most {most:,} are read")


def _upright(picture: PILImage) -> PILImage:
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF says nothing of the pixels, which are whole
        return picture


def _as_rgb(picture: PILImage) -> PILImage:
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits; Pillow's convert() would clip them
        values = np.asarray(picture).clip(min=0)
        if values.max() > 65535:
            raise ValueError("pixels are 32-bit numbers of unknown range; save it as 8 or 16 bits")
        return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ValueError("pixels are floats of unknown range; save it as 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")
