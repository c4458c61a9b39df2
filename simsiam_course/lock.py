"""One process at a time: locks that the operating system takes back when their holder dies, however it dies.

A lock is a small hidden file beside what it guards. Whoever only reads needs none, so read-only places can be read.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import InputError


class Lock:
    """Holds a place for one process from now until `release`, the end of a `with` block, or the process's death.

    path: the lock's own file; its folder must be there. busy: the sentence for the one who comes second, who gets it
    as an `InputError`, or, with `wait`, on standard error, and then waits for his turn. A file system that knows no
    locks gives none, and the work goes on without.
    Errors: `InputError` where another process holds the place.
    """

    def __init__(self, path: str | Path, busy: str, *, wait: bool = False) -> None:
        self.path, self.lock = Path(path), None
        lock = self._acquired(0.0)
        if lock is False and wait:
            print(busy, file=sys.stderr, flush=True)
            lock = self._acquired(-1)
        if lock is False:
            raise InputError(busy)
        self.lock = lock

    @property
    def held(self) -> bool:
        """Whether there is a lock, and nobody else is here."""
        return self.lock is not None

    def _acquired(self, seconds: float) -> Any:
        """The lock, False where another holds it, None where there are no locks."""
        from filelock import FileLock, Timeout

        lock = FileLock(str(self.path), timeout=seconds, mode=0o666)  # a class may share one cache
        try:
            lock.acquire()
        except Timeout:
            return False
        except (OSError, NotImplementedError):
            return None
        return lock

    def release(self) -> None:
        """Gives the place free and deletes the lock's file; a second time it does nothing."""
        lock, self.lock = self.lock, None
        if lock is None:
            return
        if os.name != "nt":  # there a file that is open cannot be deleted
            with suppress(OSError):
                self.path.unlink()
        lock.release()

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def folder_lock(folder: str | Path) -> Lock:
    """The lock of a folder that one process writes. Errors: `InputError` where another process does."""
    return Lock(
        Path(folder) / ".lock",
        f"Another process is writing '{folder}': wait until it has ended, or choose another place.",
    )


def file_lock(path: str | Path) -> Lock:
    """The lock of a file that one process writes. Errors: `InputError` where another process does."""
    path = Path(path)
    return Lock(
        path.with_name(f".{path.name}.lock"),
        f"Another process is writing '{path}': wait until it has ended, or choose another place.",
    )
