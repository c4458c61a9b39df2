"""Images to learn from: made by code, downloaded, or your own; all of them one `ImageSet`."""

from __future__ import annotations

from .cache import cache_dir
from .demo_folder import write_demo_folder
from .images import ImageSet
from .patterns import patterns
from .sources import SOURCES, load, load_pair

__all__ = ["SOURCES", "ImageSet", "cache_dir", "load", "load_pair", "patterns", "write_demo_folder"]
