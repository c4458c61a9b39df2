"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import glob
import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

HOUR = 3600.0  # seconds after which nobody is still writing a temporary file


def atomic_write(path: str | Path, *data: bytes | memoryview) -> None:
    """Writes a file so that a reader, or a crash, finds the old bytes or the new ones and nothing between.

    data: the parts of the file, in their order. Errors: `InputError` where the place cannot be written or the disk is
    full; no temporary file stays behind.
    """
    path = Path(path)
    with friendly_os_errors(path):
        remove_leftovers(path, older_than=HOUR)
        handle, temporary = tempfile.mkstemp(prefix=_prefix(path), suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_safetensors(path: str | Path, tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors and metadata as `atomic_write` does: equal ones give the same bytes, and so the same hash.

    The library shuffles the metadata anew in every file; here they stand in the order of their names.
    """
    from safetensors.torch import save

    written = memoryview(save(tensors, dict(metadata)))
    end = 8 + int.from_bytes(written[:8], "little")  # 8 bytes of its length, the header as JSON, the tensors
    header = json.loads(bytes(written[8:end])) | {"__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors are aligned
    atomic_write(path, len(text).to_bytes(8, "little"), text, written[end:])


def remove_leftovers(path: str | Path, *, older_than: float = 0.0) -> None:
    """Deletes the temporary files that killed writers of this file have left, or those of some age in seconds.

    Without an age only who holds the file's lock may do so: a writer's own would go too.
    """
    path, now = Path(path), time.time()
    for file in path.parent.glob("." + glob.escape(_prefix(path)[1:]) + "*.tmp"):
        with suppress(OSError):
            if now - file.stat().st_mtime >= older_than:
                file.unlink()


def _prefix(path: Path) -> str:
    return f".{path.name[:40]}."


def make_folder(path: str | Path) -> Path:
    """Creates a folder and proves, by writing and deleting a file, that it takes files; existing ones are kept.

    Errors: `InputError` where it cannot be made or written. Trying is the only test that holds for root too.
    """
    path = Path(path)
    with friendly_os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        handle, probe = tempfile.mkstemp(prefix=".write-test-", dir=path)
        os.close(handle)
        Path(probe).unlink(missing_ok=True)
    return path


def check_folder(path: str | Path) -> None:
    """Proves that a folder can be made and written, and leaves everything as it was.

    Errors: `InputError` where it cannot: before the long work, not after it.
    """
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        make_folder(path)
    finally:
        for folder in missing:
            with suppress(OSError):  # another run may have begun in it; and 'new/..' is not empty
                folder.rmdir()


class friendly_os_errors:
    """Turns the file system's refusals inside a `with` block into one sentence about `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ValueError) and not isinstance(error, InputError):  # NUL, or half a character
            raise InputError(f"Cannot write {str(self.path)!r}: no file can have that name.") from error
        if not isinstance(error, OSError):
            return
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; free some space or choose another folder"
        else:
            reason = f"{(error.strerror or str(error)).lower()}; choose a folder that can be written"
        raise InputError(f"Cannot write '{self.path}': {reason}.") from error


def append_line(path: str | Path, row: dict[str, Any]) -> None:
    """Appends one JSON object as a line: the whole line or, where the disk is full, nothing of it.

    A line that an earlier crash cut short is removed first.
    Errors: `InputError` where the file cannot be written or the disk is full.
    """
    path = Path(path)
    line = json_bytes(row) + b"\n"
    # Unbuffered: a buffer would keep what did not fit, and write some of it after all when the file is closed.
    with friendly_os_errors(path), open(path, "a+b", buffering=0) as file:
        end = _end_of_last_line(file)
        file.truncate(end)
        try:
            written = 0
            while written < len(line):
                written += file.write(line[written:])
        except BaseException:  # a full disk, or Ctrl-C
            file.truncate(end)
            raise


def _end_of_last_line(file: IO[bytes]) -> int:
    """The position after the last newline of an open file."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return 0
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return end
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def write_lines(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replaces a file by these JSON objects, a line each, atomically. Errors: `InputError`, place not writable."""
    atomic_write(path, b"".join(json_bytes(row) + b"\n" for row in rows))


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines; a last line cut short by a crash is left out.

    Errors: `InputError` where a line other than the last is damaged.
    """
    lines = Path(path).read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                row = parse_json(line)
        except ValueError:
            if number < len(lines):
                raise InputError(
                    f"Line {number} of '{path}' is not JSON: delete that line or the file."
                ) from None
            break
        if line.strip():
            if not isinstance(row, dict):
                raise InputError(f"Line {number} of '{path}' has no names: delete that line or the file.")
            rows.append(row)
    return rows


def parse_json(text: str | bytes) -> Any:
    """What JSON says. Errors: `ValueError` for all that is none, also where it is nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """JSON with non-finite numbers as null, because the standard has no NaN."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
