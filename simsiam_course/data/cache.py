"""Where downloads lie, and the converted sets that make the second load take a moment."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from .images import ImageSet, read_file


def cache_dir() -> Path:
    """The folder of downloads, laid out as torchvision's `root`: $SIMSIAM_CACHE, or the user's cache.

    Raises InputError where it is in a home folder and nobody knows where that is.
    """
    from platformdirs import user_cache_dir

    chosen = os.environ.get("SIMSIAM_CACHE")
    try:
        return Path(chosen or user_cache_dir("simsiam-course", appauthor=False)).expanduser()
    except RuntimeError:  # no such user, or one without a home, as in some containers
        raise InputError(
            f"The cache '{chosen or '~'}' is in a home folder that is not known: "
            "set SIMSIAM_CACHE to the full path of a folder."
        ) from None


def converted(key: str, origin: str, convert: Callable[[], tuple[ImageSet, str]]) -> ImageSet:
    """The set that `convert` makes, from the cache where it was made before.

    key: names the file. origin: what the images were made from; a file of another origin, or a damaged one,
    is made again. `convert` returns the set and a warning ("" for none), which is repeated at every load. A
    cache that cannot be written costs time, nothing else.
    """
    path = cache_dir() / "converted" / f"{key}.safetensors"
    images, warning = _kept(path, origin) or (None, "")
    if images is None:
        images, warning = convert()
        try:
            images.save(path, notes={"origin": origin, "warning": warning})
        except InputError as error:
            warnings.warn(
                f"The converted images are not kept; the next load is slow too. {error}", stacklevel=2
            )
    if warning:
        warnings.warn(warning, stacklevel=2)
    return images


def _kept(path: Path, origin: str) -> tuple[ImageSet, str] | None:
    try:
        images, notes = read_file(path)
    except InputError:
        return None
    return (images, notes.get("warning", "")) if notes.get("origin") == origin else None
