"""Downloads that end with the right file or with one sentence: mirrors in turn, and a checksum decides."""

from __future__ import annotations

import glob
import gzip
import os
import shutil
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import InputError
from ..files import friendly_os_errors
from ..lock import Lock
from .cache import cache_dir

if TYPE_CHECKING:
    from requests import Response

STALLED_AFTER = 20  # seconds with next to nothing; then the next mirror
SLOWEST = 1_000  # bytes/s; anything above may be a mirror on a bad day
DAY = 86_400.0  # seconds after which nobody is still unpacking
USUAL_SPEED = 3.0  # MB/s, for the estimate told beforehand
SWELLS = 20  # times: the published sets grow to twice their archive's size at most
KNOWN_SPEED = {"www.cs.toronto.edu": 0.06}  # MB/s, pytorch/vision#9536


class BadMirror(ValueError):
    """Says in a few words why the next mirror gets its turn."""


@dataclass(frozen=True)
class Archive:
    """A file to download.

    path: where torchvision's own download puts it, below the cache. urls: mirrors in the order to try them.
    md5: what makes a mirror's file the original. megabytes: of 10^6 bytes, told before the download.
    """

    path: str
    urls: tuple[str, ...]
    md5: str
    megabytes: float


def fetch(archive: Archive) -> Path:
    """The archive in the cache: as it lies there if its checksum holds, else from the first good mirror.

    The file appears whole and checked or not at all. Where two processes ask for it, one fetches it and the other
    waits. Raises InputError where no mirror delivers it or the cache cannot be written.
    """
    target = cache_dir() / archive.path
    lock_file = target.with_name(f".{target.name}.lock")
    # Who was killed at the very end has left his lock beside the whole file: then on, to clear it away.
    if not lock_file.exists() and _is_there(archive, target):
        return target
    with friendly_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"Another process is downloading '{target}': waiting until it has ended."
    with Lock(lock_file, waiting, wait=True) as lock:
        if lock.held:
            _remove_scratch(target.parent, f".{target.name}.", ".partial")
        return target if _is_there(archive, target) else _from_mirrors(archive, target)


def _is_there(archive: Archive, target: Path) -> bool:
    import pooch

    return target.is_file() and pooch.file_hash(str(target), alg="md5") == archive.md5


def _from_mirrors(archive: Archive, target: Path) -> Path:
    import pooch
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    pooch.get_logger().setLevel("WARNING")
    download = partial(_download, size=round(archive.megabytes * 1e6))
    failures = []
    for url in archive.urls:
        host = urlsplit(url).netloc
        with friendly_os_errors(target), _partial(target) as folder:
            print(_announcement(archive, host, target), file=sys.stderr)
            try:
                pooch.retrieve(url, f"md5:{archive.md5}", target.name, folder, downloader=download)
            except (RequestException, HTTPError, ValueError) as error:
                failures.append(f"{host}: {_reason(error)}")
                continue
            os.replace(Path(folder) / target.name, target)
            target.chmod(0o644)  # pooch keeps a file for its owner, but a class may share one cache
            return target
    raise InputError(
        f"'{target.name}' could not be downloaded ({'; '.join(failures)}); check the connection and "
        f"try again, put the file with MD5 {archive.md5} into '{target.parent}' yourself, or use patterns or "
        "digits, which need no download."
    )


def _partial(target: Path) -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(
        prefix=f".{target.name}.", suffix=".partial", dir=target.parent, ignore_cleanup_errors=True
    )


@contextmanager
def unpacked(*archives: Archive) -> Iterator[Path]:
    """The archives, fetched and unpacked for a `with` block into a folder laid out as torchvision's `root`.

    Raises InputError as `fetch` does, or where there is no room.
    """
    files = [fetch(archive) for archive in archives]
    with _scratch() as root:
        for archive, file in zip(archives, files, strict=True):
            _unpack(file, (root / archive.path).parent)
        yield root


def _download(url: str, output_file: str, pooch_: object, *, size: int) -> None:
    """Pooch's HTTPDownloader waits for as long as a byte comes now and then, and takes a body without an end."""
    from tqdm.auto import tqdm

    name = PurePosixPath(urlsplit(url).path).name
    with (
        _answer(url) as response,
        open(output_file, "wb") as file,
        tqdm(total=size, unit="B", unit_scale=True, desc=name) as bar,
    ):
        read = getattr(response.raw, "read1", response.raw.read)  # read1, as it comes: urllib3 from 2.2
        since, before = time.monotonic(), 0
        while piece := read(2**16, decode_content=False):  # the checksum is that of the packed file
            file.write(piece)
            bar.update(len(piece))
            if file.tell() > 1.1 * size + 1e6:
                raise BadMirror("too long")
            if time.monotonic() - since > STALLED_AFTER:
                if file.tell() - before < SLOWEST * STALLED_AFTER:
                    raise BadMirror(f"less than {SLOWEST / 1000:g} kB/s for {STALLED_AFTER:g} s")
                since, before = time.monotonic(), file.tell()


def _answer(url: str) -> Response:
    """The answer up to its headers, asked for in a thread: no timeout of requests ends headers that drip."""
    import requests

    answer: Future[Response] = Future()

    def ask() -> None:
        # Identity, because a server that packs on the way breaks the checksum.
        headers = {"Accept-Encoding": "identity"}
        try:
            answer.set_result(requests.get(url, stream=True, timeout=STALLED_AFTER, headers=headers))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    patience = 3 * STALLED_AFTER  # a few addresses and redirects
    try:
        response = answer.result(patience)
    except TimeoutError:
        raise BadMirror(f"no answer for {patience:g} s") from None
    if response.status_code != 200:
        response.close()
        raise BadMirror(f"HTTP {response.status_code}")
    return response


def _announcement(archive: Archive, host: str, target: Path) -> str:
    speed = KNOWN_SPEED.get(host, USUAL_SPEED)
    seconds = archive.megabytes / speed
    duration = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(1, round(seconds))} s"
    return (
        f"Downloading {max(0.1, archive.megabytes):,.1f} MB from {host} to '{target}': "
        f"about {duration} at {speed:g} MB/s, once."
    )


def _reason(error: Exception) -> str:
    from requests.exceptions import SSLError, TooManyRedirects
    from urllib3.exceptions import ProtocolError

    if isinstance(error, BadMirror):
        return str(error)
    if isinstance(error, ProtocolError):
        return "cut short"
    if isinstance(error, TooManyRedirects):
        return "redirected in a circle"
    if isinstance(error, SSLError):
        return "no secure connection"
    if "timed out" in str(error):
        return f"no answer for {STALLED_AFTER:g} s"
    return "wrong checksum" if isinstance(error, ValueError) and "hash" in str(error) else "no connection"


@contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder beside the archives, on their disk; elsewhere if the cache is read-only."""
    _remove_scratch(cache_dir(), ".unpacking-", "", older_than=DAY)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".unpacking-", dir=cache_dir()))
        except OSError:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        yield Path(folder)


def _remove_scratch(parent: Path, prefix: str, ending: str, *, older_than: float = 0.0) -> None:
    """Deletes the temporary folders that killed processes have left."""
    for folder in parent.glob(f"{glob.escape(prefix)}*{ending}"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime >= older_than:
                shutil.rmtree(folder, ignore_errors=True)


def _unpack(file: Path, folder: Path) -> None:
    """Unpacks into a folder and nowhere else, at most `SWELLS` times the archive's size.

    The checksum has said already that the archive is the original; this holds should it ever not be. Errors:
    `InputError` for an archive that is damaged, leaves the folder, or is too large unpacked.
    """
    room = Room(file)
    with friendly_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if file.name.endswith((".tar.gz", ".tgz")):
                with tarfile.open(file) as bundle:
                    _untar(bundle, folder, room)
            elif file.suffix == ".zip":
                with zipfile.ZipFile(file) as bundle:
                    room.take(sum(member.file_size for member in bundle.infolist()))
                    bundle.extractall(folder)  # noqa: S202 (zipfile itself keeps names inside the folder)
            else:
                with gzip.open(file) as packed, open(folder / file.stem, "wb") as plain:
                    while block := packed.read(2**20):
                        room.take(len(block))
                        plain.write(block)
        except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise InputError(f"'{file}' is not unpacked ({reason}): delete it and try again.") from error


def _untar(bundle: tarfile.TarFile, folder: Path, room: Room) -> None:
    """Writes plain files and folders, and nothing else; tarfile's own filter is not in Python 3.11.0 to 3.11.3."""
    inside = folder.resolve()
    for member in bundle:
        if not (member.isreg() or member.isdir()):
            raise tarfile.TarError(f"{member.name!r} is neither a file nor a folder")
        if "\0" in member.name:
            raise tarfile.TarError(f"{member.name!r} is no name that a file can have")
        place = (inside / member.name).resolve()
        if not place.is_relative_to(inside):
            raise tarfile.TarError(f"{member.name!r} leaves the folder")
        room.take(member.size)
        packed = bundle.extractfile(member)  # None for a folder
        if packed is None:
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with packed, open(place, "wb") as plain:
            shutil.copyfileobj(packed, plain)


class Room:
    """What an archive may become: a multiple of its own size."""

    def __init__(self, file: Path) -> None:
        self.file, self.left = file, SWELLS * max(file.stat().st_size, 10_000)

    def take(self, size: int) -> None:
        """Errors: `InputError` where no room is left."""
        self.left -= size
        if self.left < 0:
            raise InputError(
                f"'{self.file}' is not unpacked, as it grows to more than {SWELLS} times its size: delete it."
            )
