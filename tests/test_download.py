"""Downloads from a server on this machine that behaves as badly as real ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsiam_course.data import cache_dir, download, load, sources
from simsiam_course.data.download import Archive, fetch, unpacked
from simsiam_course.errors import InputError
from simsiam_course.lock import Lock

PAYLOAD = os.urandom(300_000)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class Server:
    """Serves `pages[path]`, a behaviour (handler -> None); `seen` lists the paths asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.seen: list[str] = []
        self.end = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append(self.path)
                server.pages.get(self.path, missing)(self)

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str, behaviour: Callable[[BaseHTTPRequestHandler], None]) -> str:
        self.pages[path] = behaviour
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def close(self) -> None:
        self.end.set()
        self.http.shutdown()
        self.http.server_close()


def missing(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404)


def whole(data: bytes, *, pretended: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    def behaviour(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(pretended or len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return behaviour


def truncated(handler: BaseHTTPRequestHandler) -> None:
    whole(PAYLOAD[:1000], pretended=len(PAYLOAD))(handler)


def stalled(server: Server) -> Callable[[BaseHTTPRequestHandler], None]:
    def behaviour(handler: BaseHTTPRequestHandler) -> None:
        truncated(handler)
        handler.wfile.flush()
        server.end.wait(20)

    return behaviour


def dripping(server: Server, first: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """Something of an answer, and then a byte now and then: none too late for a timeout, and never enough."""

    def behaviour(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.wfile.write(first)
            while not server.end.wait(0.02):
                handler.wfile.write(b"x")

    return behaviour


def endless(server: Server) -> Callable[[BaseHTTPRequestHandler], None]:
    def behaviour(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
            while not server.end.is_set():
                handler.wfile.write(PAYLOAD)

    return behaviour


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSIAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def archive(*urls: str, path: str = "sub/file.bin", data: bytes = PAYLOAD) -> Archive:
    return Archive(path, urls, md5(data), 0.3)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_download_lies_whole_where_torchvision_looks(server: Server, capfd: pytest.CaptureFixture) -> None:
    path = fetch(archive(server.url("/good", whole(PAYLOAD))))
    assert path == cache_dir() / "sub" / "file.bin" and path.read_bytes() == PAYLOAD
    told = capfd.readouterr()
    assert "Downloading 0.3 MB from 127.0.0.1" in told.err and "about 1 s" in told.err and told.out == ""
    assert files(cache_dir()) == [path]


def test_a_file_with_the_right_checksum_is_not_downloaded_again(server: Server) -> None:
    wanted = archive(server.url("/good", whole(PAYLOAD)))
    assert fetch(wanted) == fetch(wanted) and server.seen == ["/good"]


def test_a_damaged_file_is_downloaded_again(server: Server) -> None:
    wanted = archive(server.url("/good", whole(PAYLOAD)))
    fetch(wanted).write_bytes(PAYLOAD[:-1])
    assert fetch(wanted).read_bytes() == PAYLOAD and len(server.seen) == 2


def status(code: int) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: handler.send_error(code)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """The server dies halfway: the connection is reset, not closed."""
    truncated(handler)
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


PORTAL = whole(b"<html>Please log in to the hotel's network</html>")


def misbehaving(server: Server, how: str) -> str:
    """The address of a mirror that does not deliver."""
    if how == "refused":
        return "http://127.0.0.1:9/bad"
    return server.url("/bad", {
        "missing": missing, "truncated": truncated, "wrong": whole(PAYLOAD[::-1]), "stalled": stalled(server),
        "busy": status(429), "broken": status(500), "reset": reset, "portal": PORTAL, "partial": status(206),
        "slow head": dripping(server, b"HTTP/1.0 200 OK\r\nX-Slow: "), "endless": endless(server),
        "slow": dripping(server, b"HTTP/1.0 200 OK\r\nContent-Length: 300000\r\n\r\n"),
        "slow chunks": dripping(
            server, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n"
        ),
    }[how])  # fmt: skip


REASONS = {
    "missing": "HTTP 404",
    "truncated": "cut short",
    "wrong": "wrong checksum",
    "stalled": "no answer for 0.5 s",
    "refused": "no connection",
    "busy": "HTTP 429",
    "broken": "HTTP 500",
    "reset": "cut short",
    "portal": "wrong checksum",
    "partial": "HTTP 206",
    "slow head": "no answer for 1.5 s",
    "slow": "less than 1 kB/s for 0.5 s",
    "slow chunks": "less than 1 kB/s for 0.5 s",
    "endless": "too long",
}


@pytest.mark.parametrize("how", REASONS)
def test_the_next_mirror_is_taken_and_nothing_of_the_bad_one_stays(
    server: Server, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALLED_AFTER", 0.5)
    path = fetch(archive(misbehaving(server, how), server.url("/good", whole(PAYLOAD))))
    assert path.read_bytes() == PAYLOAD and files(cache_dir()) == [path]
    assert server.seen == (["/good"] if how == "refused" else ["/bad", "/good"])


@pytest.mark.parametrize("how", REASONS)
def test_when_no_mirror_delivers_one_sentence_says_why_and_nothing_is_left(
    server: Server, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALLED_AFTER", 0.5)
    with pytest.raises(
        InputError, match=f"could not be downloaded.*{REASONS[how]}.*check the connection"
    ) as caught:
        fetch(archive(misbehaving(server, how)))
    assert "\n" not in str(caught.value) and files(cache_dir()) == []


def test_without_a_network_one_sentence_says_what_to_do() -> None:
    with pytest.raises(InputError, match="no connection.*patterns or digits"):
        fetch(archive("http://127.0.0.1:9/file", "http://name.invalid/file"))


def test_a_cache_that_cannot_be_written_is_one_sentence(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SIMSIAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="Cannot write"):
        fetch(archive(server.url("/good", whole(PAYLOAD))))


@pytest.mark.parametrize("cache", ["~nobody-of-that-name/x", None])
def test_a_cache_in_the_home_of_nobody_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if cache:
        monkeypatch.setenv("SIMSIAM_CACHE", cache)
    else:  # a container's user without a name, who has no home
        pwd = pytest.importorskip("pwd")
        monkeypatch.setattr(pwd, "getpwuid", lambda user: {}[user])
        for name in ("SIMSIAM_CACHE", "XDG_CACHE_HOME", "HOME"):
            monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=r"^The cache '~.*' is in a home folder .*: set SIMSIAM_CACHE"):
        fetch(archive("http://127.0.0.1:9/file"))
    assert list(tmp_path.iterdir()) == []


def test_without_a_variable_for_it_the_home_folder_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIMSIAM_CACHE", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_dir().is_absolute()
    monkeypatch.setenv("SIMSIAM_CACHE", os.path.join("~", "x"))
    assert cache_dir() == Path(os.path.expanduser("~")) / "x"


def test_a_cache_that_can_only_be_read_is_read_and_not_written(
    server: Server,
    tmpfs: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    disk = tmpfs("size=800k")
    monkeypatch.setenv("SIMSIAM_CACHE", str(disk))
    old = fetch(archive(server.url("/old", whole(PAYLOAD)), path="sub/old.bin"))
    _lock_of(archive(path="sub/old.bin")).touch()  # left by a killed process
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    new = archive(server.url("/new", whole(PAYLOAD)), path="sub/new.bin")
    capfd.readouterr()
    with pytest.raises(InputError, match=r"^Cannot write '[^']*/sub/new.bin': read-only file system; choose"):
        fetch(new)
    assert capfd.readouterr().err == "" and server.seen == ["/old"]
    assert fetch(archive(path="sub/old.bin")) == old


def test_a_failed_download_keeps_the_file_that_was_there(server: Server) -> None:
    old = cache_dir() / "sub" / "file.bin"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"older version")
    with pytest.raises(InputError):
        fetch(archive(server.url("/bad", truncated)))
    assert old.read_bytes() == b"older version"


def test_of_two_that_want_one_file_the_second_waits_for_the_first(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = io.StringIO()  # not capfd: what is written while it is being read is lost
    monkeypatch.setattr(sys, "stderr", told)
    begun, goes_on = threading.Event(), threading.Event()
    half = len(PAYLOAD) // 2

    def slow(handler: BaseHTTPRequestHandler) -> None:
        whole(PAYLOAD[:half], pretended=len(PAYLOAD))(handler)
        handler.wfile.flush()
        begun.set()
        goes_on.wait(20)
        handler.wfile.write(PAYLOAD[half:])

    wanted = archive(server.url("/slow", slow))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch, wanted)
        assert begun.wait(20)
        second = pool.submit(fetch, wanted)
        end = time.monotonic() + 20
        while "Another process is downloading" not in told.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
        assert not (cache_dir() / "sub" / "file.bin").exists() and not second.done()
        goes_on.set()
        assert first.result() == second.result()
    assert first.result().read_bytes() == PAYLOAD and files(cache_dir()) == [first.result()]
    assert server.seen == ["/slow"] and "waiting until it has ended" in told.getvalue()


def test_where_the_first_fails_the_second_tries_for_itself(server: Server) -> None:
    wanted = archive(server.url("/file", missing))
    with ThreadPoolExecutor(1) as pool:
        with Lock(_lock_of(wanted), "busy"):
            second = pool.submit(fetch, wanted)
            time.sleep(0.1)
            assert server.seen == []
            server.url("/file", whole(PAYLOAD))
        assert second.result(timeout=20).read_bytes() == PAYLOAD and server.seen == ["/file"]


def _lock_of(wanted: Archive) -> Path:
    target = cache_dir() / wanted.path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.lock")


def test_what_a_killed_download_has_left_is_cleared_away(server: Server) -> None:
    wanted = archive(server.url("/good", whole(PAYLOAD)))
    _lock_of(wanted).touch()
    half = cache_dir() / "sub" / ".file.bin.x1y2z3.partial"
    half.mkdir()
    (half / "tmpabc").write_bytes(PAYLOAD[:1000])
    other = cache_dir() / "sub" / ".other.bin.x1y2z3.partial"  # another download's, perhaps at work
    other.mkdir()
    assert files(cache_dir()) != [] and fetch(wanted).read_bytes() == PAYLOAD
    assert sorted(path.name for path in (cache_dir() / "sub").iterdir()) == [other.name, "file.bin"]


def test_the_lock_of_a_download_that_was_killed_at_its_very_end_is_cleared_away(server: Server) -> None:
    wanted = archive(server.url("/good", whole(PAYLOAD)))
    path = fetch(wanted)
    _lock_of(wanted).touch()
    assert fetch(wanted) == path and files(cache_dir()) == [path] and server.seen == ["/good"]


def test_what_a_killed_unpacking_has_left_goes_after_a_day(server: Server) -> None:
    packed = gzip.compress(b"plain")
    for name, age in ((".unpacking-old", 90_000), (".unpacking-new", 60)):
        (cache_dir() / name).mkdir(parents=True)
        os.utime(cache_dir() / name, (time.time() - age, time.time() - age))
    with unpacked(archive(server.url("/gz", whole(packed)), path="a.gz", data=packed)):
        assert (cache_dir() / ".unpacking-new").exists() and not (cache_dir() / ".unpacking-old").exists()


def test_a_redirect_is_followed_and_a_circle_is_told(server: Server) -> None:
    def to(path: str) -> Callable[[BaseHTTPRequestHandler], None]:
        def behaviour(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", path)
            handler.end_headers()

        return behaviour

    server.url("/elsewhere", whole(PAYLOAD))
    assert fetch(archive(server.url("/moved", to("/elsewhere")))).read_bytes() == PAYLOAD
    with pytest.raises(InputError, match="redirected in a circle"):
        fetch(archive(server.url("/round", to("/round")), path="other.bin"))


def test_a_full_disk_is_one_sentence_and_with_space_the_download_succeeds(
    server: Server, tmpfs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmpfs("size=400k")
    monkeypatch.setenv("SIMSIAM_CACHE", str(disk))
    (disk / "ballast").write_bytes(bytes(200_000))
    wanted = archive(server.url("/good", whole(PAYLOAD)))
    with pytest.raises(InputError, match="Cannot write .*file.bin.*the disk is full"):
        fetch(wanted)
    assert files(disk) == [disk / "ballast"] and [p.name for p in (disk / "sub").iterdir()] == []
    (disk / "ballast").unlink()
    assert files(disk) == [] and fetch(wanted).read_bytes() == PAYLOAD


def test_a_full_disk_leaves_nothing_unpacked(
    server: Server, tmpfs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmpfs("size=400k")
    monkeypatch.setenv("SIMSIAM_CACHE", str(disk))
    packed = gzip.compress(b"".join(bytes([i]) * 12 for i in os.urandom(150_000)))
    wanted = archive(server.url("/gz", whole(packed)), path="a.gz", data=packed)
    with pytest.raises(InputError, match="the disk is full"), unpacked(wanted):
        pass
    assert [path.name for path in disk.iterdir()] == ["a.gz"]


@pytest.mark.parametrize("encoding", ["asked", "gzip", "x-gzip"])
def test_a_gzip_file_is_kept_packed_when_the_server_calls_it_an_encoding(
    server: Server, encoding: str
) -> None:
    packed = gzip.compress(PAYLOAD)

    def helpful(handler: BaseHTTPRequestHandler) -> None:
        body, label = packed, encoding
        if encoding == "asked":
            label = "gzip" if "gzip" in handler.headers.get("Accept-Encoding", "") else "identity"
            body = gzip.compress(packed) if label == "gzip" else packed
        handler.send_response(200)
        handler.send_header("Content-Encoding", label)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    assert fetch(archive(server.url("/gz", helpful), path="a.gz", data=packed)).read_bytes() == packed


def test_archives_are_unpacked_for_the_time_of_a_block(server: Server) -> None:
    plain, wanted = b"plain", gzip.compress(b"plain")
    with unpacked(archive(server.url("/gz", whole(wanted)), path="Set/raw/a.gz", data=wanted)) as root:
        assert (root / "Set" / "raw" / "a").read_bytes() == plain
    assert not root.exists() and files(cache_dir()) == [cache_dir() / "Set" / "raw" / "a.gz"]


# --- torchvision's sets, in small


def tar_gz(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as bundle:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_cifar10_comes_from_its_archive_and_the_second_time_from_the_converted_file(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    batches = {
        name: pickle.dumps({"data": pixels[i : i + 1].reshape(1, -1), "labels": [i % 2]})
        for i, name in enumerate(
            ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
        )
    }
    meta = pickle.dumps({"label_names": ["cat", "dog"]})
    packed = tar_gz(
        {f"cifar-10-batches-py/{name}": data for name, data in {**batches, "batches.meta": meta}.items()}
    )
    sums = [[name, md5(data)] for name, data in batches.items()]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5(meta)})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed))
    monkeypatch.setattr(CIFAR10, "url", server.url("/original", whole(packed)))
    monkeypatch.setitem(sources.MIRRORS, "cifar10", (server.url("/mirror", missing),))
    for _ in range(2):
        train, test = load("cifar10"), load("cifar10", split="test")
        assert np.array_equal(train.images.numpy(), pixels[:5]) and np.array_equal(
            test.images.numpy(), pixels[5:]
        )
        assert train.labels.tolist() == [0, 1, 0, 1, 0] and train.classes == ("cat", "dog")
    assert server.seen == ["/mirror", "/original"]
    assert len(load("cifar10", split="all")) == 6 and load("cifar10", size=16).images.shape[-1] == 16


def test_fashion_mnist_loads_from_raw_files_as_they_lie_in_a_cache_that_is_read_only(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import FashionMNIST

    raw = cache / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    resources = []
    for prefix, n in (("train", 20), ("t10k", 10)):
        images = struct.pack(">IIII", 0x803, n, 28, 28) + bytes([200]) * (n * 28 * 28)
        labels = struct.pack(">II", 0x801, n) + bytes(i % 10 for i in range(n))
        for name, data in (
            (f"{prefix}-images-idx3-ubyte.gz", images),
            (f"{prefix}-labels-idx1-ubyte.gz", labels),
        ):
            (raw / name).write_bytes(gzip.compress(data))
            resources.append((name, md5((raw / name).read_bytes())))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    (cache / "converted").touch()  # a file where the folder of converted sets would be: nothing can be kept
    with pytest.warns(UserWarning, match="not kept"):
        train = load("fashion_mnist")
    assert train.images.shape == (20, 3, 32, 32) and (train.images == 200).all()
    assert train.classes[9] == "Ankle boot" and len(files(cache)) == 5


def test_stl10_trains_on_unlabelled_and_labelled_images(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import STL10

    folder = cache / "stl10_binary"
    folder.mkdir(parents=True)
    contents = {
        "train_X.bin": bytes([10]) * (2 * 3 * 96 * 96), "train_y.bin": bytes([1, 10]),
        "unlabeled_X.bin": bytes([20]) * (3 * 3 * 96 * 96),
        "test_X.bin": bytes([30]) * (3 * 96 * 96), "test_y.bin": bytes([2]),
    }  # fmt: skip
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    sums = [[name, md5(data)] for name, data in contents.items()]
    monkeypatch.setattr(STL10, "train_list", sums[:3])
    monkeypatch.setattr(STL10, "test_list", sums[3:])
    train, test = load("stl10"), load("stl10", split="test")
    assert train.labels.tolist() == [0, 9, -1, -1, -1] and test.labels.tolist() == [1]
    assert train.images[:, 0, 0, 0].tolist() == [10, 10, 20, 20, 20] and train.images.shape == (5, 3, 32, 32)


def test_eurosat_comes_from_its_archive_or_from_its_folders(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("Crop", "Forest", "Herb", "Highway", "Industry", "Pasture", "Permanent", "River", "Sea", "Town")
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (0, 90, 0)).save(picture, "jpeg")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        for i in range(20):
            bundle.writestr(f"2750/{names[i % 10]}/{i}.jpg", picture.getvalue())
    monkeypatch.setattr(sources, "EUROSAT_MD5", md5(packed.getvalue()))
    monkeypatch.setitem(sources.MIRRORS, "eurosat", (server.url("/EuroSAT.zip", whole(packed.getvalue())),))
    for _ in range(2):
        images = load("eurosat", split="all")
        assert images.classes == names and len(images) == 20 and images.name == "eurosat"
    assert server.seen == ["/EuroSAT.zip"]
    with zipfile.ZipFile(cache / "eurosat" / "EuroSAT.zip") as bundle:
        bundle.extract("2750/Crop/0.jpg", cache / "eurosat")
        assert len(load("eurosat", split="all")) == 20  # half unpacked folders are none
        bundle.extractall(cache / "eurosat")
    (cache / "eurosat" / "2750" / "Crop" / "0.jpg").unlink()
    assert len(load("eurosat", split="all")) == 19


def test_every_mirror_list_ends_with_torchvisions_own_address_and_checksum() -> None:
    from torchvision.datasets import CIFAR10

    (cifar10,) = sources._archives("cifar10")
    assert cifar10.md5 == "c58f30108f718f92721af3b95e74349a" and cifar10.urls[-1] == CIFAR10.url
    assert "toronto" not in "".join(cifar10.urls[:-1]) and len(cifar10.urls) >= 3
    for name in ("cifar100", "stl10", "fashion_mnist"):
        for entry in sources._archives(name):
            assert len(entry.md5) == 32 and len(entry.urls) >= 2 and entry.megabytes > 0


def test_eurosat_has_torchvisions_address_and_checksum() -> None:
    import inspect

    from torchvision.datasets import EuroSAT

    code = inspect.getsource(EuroSAT.download)
    assert sources.MIRRORS["eurosat"][0] in code and sources.EUROSAT_MD5 in code


@pytest.mark.parametrize(
    ("megabytes", "host", "told"),
    [
        (2640, "a.org", "2,640.0 MB from a.org to 'x': about 15 min"),
        (170.5, "www.cs.toronto.edu", "about 47 min"),
    ],
)
def test_size_and_time_are_told_for_the_host_asked(megabytes: float, host: str, told: str) -> None:
    assert told in download._announcement(Archive("x", (), "", megabytes), host, Path("x"))
