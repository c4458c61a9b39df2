"""Files made to do harm: nothing in them is run, unpacked outside its place, or taken at its word about sizes."""

import ast
import functools
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
import zlib
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import torch
from PIL import Image

from simsiam_course import checkpoint as ckpt
from simsiam_course import cli
from simsiam_course.data import ImageSet, download, load
from simsiam_course.errors import InputError, printable
from simsiam_course.files import json_bytes

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


class Bomb:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSIAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# ---- pickles


@pytest.mark.parametrize("pack", ["pickle", "torch", "torch_old", "zip"])
def test_a_pickle_is_never_opened_whatever_it_is_called(tmp_path, pack):
    mark, path = tmp_path / "it_ran", tmp_path / "weights.safetensors"
    if pack == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    elif pack == "zip":
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("archive/data.pkl", pickle.dumps(Bomb(mark)))
    else:
        torch.save({"model": Bomb(mark)}, path, _use_new_zipfile_serialization=pack == "torch")
    for read in (ckpt.load_tensors, ckpt.load_weights, ImageSet.load):
        with pytest.raises(InputError, match="not a whole safetensors|damaged or not a safetensors"):
            read(path)
    assert not mark.exists()
    if pack.startswith("torch"):  # the bomb is a live one
        torch.load(path.rename(tmp_path / "weights.pt"), weights_only=False)
        assert mark.exists()


def test_batches_in_the_cache_that_are_not_the_originals_are_not_opened(cache, tmp_path, monkeypatch):
    folder = cache / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "it_ran")))
    monkeypatch.setattr(download, "fetch", _no_network)
    with pytest.raises(InputError, match="no network"):
        load("cifar10")
    assert not (tmp_path / "it_ran").exists()


def test_an_old_set_of_torchvision_in_the_cache_is_not_run(cache, tmp_path, monkeypatch):
    """Old versions of torchvision kept Fashion-MNIST as a pickle, and newer ones still look for it."""
    folder = cache / "FashionMNIST" / "processed"
    folder.mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        torch.save(Bomb(tmp_path / "it_ran"), folder / name)
    monkeypatch.setattr(download, "fetch", _no_network)
    with pytest.raises(InputError, match="no network"):
        load("fashion_mnist")
    assert not (tmp_path / "it_ran").exists()


def _no_network(archive):
    raise InputError("There is no network in a test.")


# ---- safetensors that lie


def header(text, claimed=None):
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(data) if claimed is None else claimed) + data


LIES = {
    "a header of 2^60 bytes": header({}, 2**60),
    "a header of 2^64 - 1 bytes": header({}, 2**64 - 1),
    "a header longer than the file": header({}, 5_000),
    "no header": b"",
    "half a length": b"\x08\0\0",
    "a header that is no JSON": header(b"{'images'"),
    "a header in another encoding": header("{}".encode("utf-16")),
    "a tensor of a petabyte": header({"images": {"dtype": "U8", "shape": [2**50], "data_offsets": [0, 2**50]}}),
    "a shape that overflows": header({"images": {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 0]}}),
    "offsets that go backwards": header({"images": {"dtype": "U8", "shape": [4], "data_offsets": [4, 0]}}) + bytes(8),
    "offsets before the file": header({"images": {"dtype": "U8", "shape": [4], "data_offsets": [-4, 0]}}) + bytes(8),
    "tensors that overlap": header(
        {name: {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]} for name in ("images", "labels")}
    ) + bytes(8),
    "a type nobody knows": header({"images": {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 1]}}) + b"x",
    "a name for metadata": header({"__metadata__": [1, 2]}),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_file_that_lies_about_itself_is_one_sentence(tmp_path, lie):
    path = tmp_path / "lie.safetensors"
    path.write_bytes(LIES[lie])
    for read in (ckpt.load_tensors, ImageSet.load):
        with pytest.raises(InputError) as refused:
            read(path)
        assert str(refused.value).endswith(".") and str(path) in str(refused.value)


# ---- archives


def packed_tar(path, *members):
    """A .tar.gz of (name, what): bytes are a file, a string is a link's target, a list a kind of member."""
    with tarfile.open(path, "w:gz") as bundle:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
                bundle.addfile(info, io.BytesIO(what))
                continue
            if isinstance(what, str):
                info.type, info.linkname = (
                    (tarfile.LNKTYPE if what.startswith("=") else tarfile.SYMTYPE),
                    what.strip("="),
                )
            else:
                (info.type,) = what
            bundle.addfile(info)
    return path


@pytest.mark.parametrize("members", [
    [("../outside", b"x")],
    [("/../../outside", b"x")],
    [("a/../../outside", b"x")],
    [("link", "../"), ("link/outside", b"x")],
    [("link", "/etc"), ("link/simsiam_outside", b"x")],
    [("hard", "=../outside_target")],
    [("device", [tarfile.CHRTYPE])],
    [("block", [tarfile.BLKTYPE])],
    [("pipe", [tarfile.FIFOTYPE])],
], ids=str)  # fmt: skip
def test_a_tar_stays_in_its_folder(tmp_path, members):
    place = tmp_path / "unpacked" / "here"
    (tmp_path / "unpacked").mkdir()
    archive = packed_tar(tmp_path / "bad.tar.gz", *members)
    with pytest.raises(InputError, match="is not unpacked"):
        download._unpack(archive, place)
    inside = [path for path in tmp_path.rglob("*") if path not in (archive, place, place.parent)]
    assert not [path for path in inside if not path.is_relative_to(place)]
    assert not [path for path in inside if path.is_file() or path.is_char_device() or path.is_fifo()]


def test_a_tar_with_a_name_that_no_file_can_have_is_refused(tmp_path):
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as bundle:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"path": "a\0b"}
        bundle.addfile(info)
    with pytest.raises(InputError, match="is not unpacked"):
        download._unpack(tmp_path / "bad.tar.gz", tmp_path / "here")
    assert not list((tmp_path / "here").iterdir())


def test_a_zip_stays_in_its_folder(tmp_path):
    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for name in ("../outside", "/outside", "a/../../outside", "..\\outside"):
            bundle.writestr(name, "x")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        bundle.writestr(link, "/etc/passwd")
    place = tmp_path / "unpacked" / "here"
    download._unpack(archive, place)
    written = [path for path in tmp_path.rglob("*") if path != archive]
    assert all(path.is_relative_to(place.parent) for path in written)
    assert not any(path.is_symlink() for path in written)
    assert not (tmp_path / "outside").exists() and not (place.parent / "outside").exists()


def test_what_unpacks_to_a_multiple_of_itself_is_refused_before_it_fills_the_disk(tmp_path):
    zeros = bytes(20_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("zeros", zeros)
    packed_tar(tmp_path / "bomb.tar.gz", ("zeros", zeros))
    import gzip

    (tmp_path / "bomb.gz").write_bytes(gzip.compress(zeros))
    for name in ("bomb.zip", "bomb.tar.gz", "bomb.gz"):
        with pytest.raises(InputError, match="is not unpacked.*times"):
            download._unpack(tmp_path / name, tmp_path / f"of-{name}")
        written = sum(path.stat().st_size for path in (tmp_path / f"of-{name}").rglob("*"))
        assert written < 5_000_000


@pytest.mark.parametrize("name", ["cut.tar.gz", "cut.zip", "cut.gz"])
def test_an_archive_that_is_damaged_is_one_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x1f\x8b\x08\0" + os.urandom(50))
    with pytest.raises(InputError, match="is not unpacked"):
        download._unpack(tmp_path / name, tmp_path / "here")


# ---- pictures


def png_that_claims(width, height, data=b""):
    """A PNG whose header promises so many pixels; behind it is next to nothing."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", data or zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def jpeg_that_claims(width, height, **options):
    """A JPEG of 8x8 pixels whose header promises more."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG", **options)
    data = file.getvalue()
    at = data.index(b"\xff\xc2" if options else b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


CLAIMS = {
    "giga.jpg": jpeg_that_claims(32_000, 32_000),
    "most.jpg": jpeg_that_claims(65_500, 65_500, progressive=True),
    "giga.png": png_that_claims(32_000, 32_000),
    "tera.png": png_that_claims(2**31 - 1, 2**31 - 1),
    "line.png": png_that_claims(1, 2**31 - 1),
    "hundred.png": png_that_claims(12_000, 10_000),
    "giga.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "giga.gif": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0)
    + b"\x2c" + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x08\0;",
    "giga.ppm": b"P6 40000 40000 255\n" + bytes(30),
    "text.png": png_that_claims(8, 8, zlib.compress(bytes(10_000_000))),
}  # fmt: skip

MEMORY = """
import sys, warnings
from pathlib import Path
from simsiam_course.data.folders import convert_folder
warnings.simplefilter("ignore")
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
before = peak()
images, said = convert_folder(Path(sys.argv[1]), size=16, name="claims")
print(len(images), peak() - before, said.count("broken"))
"""


def test_pictures_are_not_believed_about_their_size_and_cost_no_memory(tmp_path):
    """Claims of 10^8 to 10^18 pixels beside a good picture; in a process of its own, whose memory is read."""
    for name, data in CLAIMS.items():
        (tmp_path / name).write_bytes(data)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "good.png")
    command = [sys.executable, "-c", MEMORY, str(tmp_path)]
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from Linux's /proc")
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    kept, megabytes, said = map(int, done.stdout.split())
    assert kept in (1, 2) and said == 1  # a picture of 8x8 with too much data may be read
    assert megabytes < 300


def test_odd_files_beside_pictures_are_passed_over_and_links_do_not_loop(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (20, 20), (i * 40, 0, 0)).save(folder / name / f"{i}.png")
    (folder / "cat" / "self.png").symlink_to(folder / "cat" / "self.png")
    (folder / "cat" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "dog" / "nowhere.png").symlink_to(tmp_path / "nowhere")
    (folder / "dog" / "device.png").symlink_to(os.devnull)
    (folder / "dog" / "folder.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "dog" / "pipe.png")  # reading it would wait for ever
    images = load(f"folder:{folder}", split="all", size=16)
    assert len(images) == 6 and images.classes == ("cat", "dog")


NAMES = ["new\nline.png", "bell\x07.png", "\x1b[31mred.png", "<img src=x onerror=alert(1)>.png", "a'b\"c.png",
         "-rf.png", "ümläut.png", "\u202etxt.png", "%s%n.png"]  # fmt: skip


def test_names_of_files_do_not_reach_the_terminal_as_commands(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes(b"no picture")
        (tmp_path / f"ok{name}").write_bytes(png_that_claims(8, 8))
        Image.new("RGB", (20, 20)).save(tmp_path / f"good{name}")
    for batch in (NAMES[:3], NAMES[3:6], NAMES[6:]):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for name in NAMES:
                (tmp_path / name).unlink(missing_ok=True)
            for name in batch:
                (tmp_path / name).write_bytes(b"no picture")
            images = load(f"folder:{tmp_path}", split="all", size=16)
        said = " ".join(str(warning.message) for warning in caught)
        assert len(images) == len(NAMES) and "Skipped" in said
        assert said.isprintable()


def test_what_a_terminal_would_obey_is_written_out():
    text = "a\x1b[2J\nb\x07\x00\u202e\ud800é±"
    assert printable(text) == r"a\x1b[2J b\x07\x00\u202e\ud800é±"


# ---- pages and notebooks


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


ACTIVE_TAGS = {"script", "iframe", "object", "embed", "base", "form", "link", "meta"}


def active(text):
    """What in HTML would run, or ask another host for something."""
    found = []
    for tag, attributes in Tags(text).tags:
        if tag in ACTIVE_TAGS:
            found.append(tag)
        for name, value in attributes.items():
            goes = name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
            if name.startswith("on") or (
                goes and (value or "").strip().lower().startswith(("javascript:", "vbscript:"))
            ):
                found.append(f"{tag} {name}")
            elif goes and tag != "a" and not (value or "").startswith(("data:image/", "#")):
                found.append(f"{tag} {name}={value}")
    return found


def test_what_is_active_is_seen():
    assert active("<p onclick=x><a href=' javascript:1'>") == ["p onclick", "a href"]
    assert active("<script>1</script><img src=https://example.org/x.png>") == [
        "script",
        "img src=https://example.org/x.png",
    ]
    assert not active("<a href='https://example.org'>a</a><img src='data:image/png;base64,aa'><b style='x'>")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_and_text_of_a_notebook_run_nothing(path):
    notebook = nbformat.read(path, as_version=4)
    assert "signature" not in notebook.metadata and "trusted" not in json.dumps(notebook.metadata)
    for cell in notebook.cells:
        assert "trusted" not in cell.metadata
        if cell.cell_type == "markdown":
            assert not active(cell.source), cell.id
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            assert not {kind for kind in data if "javascript" in kind or "widget" in kind}, cell.id
            for kind in ("text/html", "image/svg+xml", "text/markdown"):
                assert not active(data.get(kind, "")), cell.id


def test_a_ledger_cannot_write_into_the_page_or_the_terminal(tmp_path, monkeypatch, capsys):
    from test_bad_input import ledger_row

    bad = "<img src=x onerror=alert(1)><script>alert(2)</script>&lt;"
    rows = [ledger_row(variant=bad, device=bad, diagnosis=bad), ledger_row(seed=1)]
    (tmp_path / "results.jsonl").write_bytes(b"".join(json_bytes(row) + b"\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["simsiam-course", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    tags = Tags(page).tags
    assert not [tag for tag, _ in tags if tag == "script"]
    assert not [attributes for _, attributes in tags if any(name.startswith("on") for name in attributes)]
    assert all(attributes["src"].startswith("data:image/png") for tag, attributes in tags if tag == "img")
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())


# ---- the source itself


@functools.cache
def sources():
    """(name, tree) of every module of the package and the benchmarks, and of the code of every notebook."""
    found = []
    for path in sorted([*ROOT.glob("simsiam_course/**/*.py"), *ROOT.glob("benchmarks/*.py")]):
        found.append((path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))))
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                found.append((f"{path.name} {cell.id}", ast.parse(_without_magics(cell.source))))
    return found


def _without_magics(source):
    return "\n".join(
        line[: len(line) - len(line.lstrip())] + "pass" if line.lstrip().startswith(("%", "!")) else line
        for line in source.splitlines()
    )


def calls(tree):
    """(name as it is written, call) of every call: ('torch.load', node)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(call):
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def dangerous(tree):
    """Calls that run what they are given, or trust a file."""
    found = []
    for name, call in calls(tree):
        given = keywords(call)
        last = name.rpartition(".")[2]
        found += (
            [name]
            if name
            in ("eval", "exec", "builtins.eval", "builtins.exec", "__import__", "os.system", "os.popen")
            else []
        )
        found += [name] if name.startswith(("pickle.", "dill.", "marshal.", "shelve.", "joblib.")) else []
        found += [name] if name == "torch.load" and given.get("weights_only") != "True" else []
        found += (
            [name] if last in ("load", "from_file") and given.get("allow_pickle", "False") != "False" else []
        )
        found += [f"{name} shell"] if given.get("shell", "False") != "False" else []
        found += (
            [name]
            if last == "extractall" and name.startswith("tar") and given.get("filter") != "'data'"
            else []
        )
        found += [name] if last in ("mktemp", "tempnam") else []
        found += [f"{name} verify"] if given.get("verify") == "False" else []
    return found


def test_what_is_dangerous_is_seen():
    code = (
        "eval(x); exec(y); torch.load(f); pickle.load(f); run(c, shell=True); np.load(f, allow_pickle=True)"
    )
    code += "; get(u, verify=False)"
    assert len(dangerous(ast.parse(code))) == 7
    assert not dangerous(ast.parse("model.eval(); torch.load(f, weights_only=True); np.load(f)"))


def test_nothing_runs_what_it_reads():
    found = {name: calls for name, tree in sources() if (calls := dangerous(tree))}
    assert not found


POSIX_ONLY = {
    "os.fork", "os.forkpty", "os.getuid", "os.geteuid", "os.setuid", "os.uname", "os.getpgid", "os.killpg", "os.setsid",
    "os.mkfifo", "os.sysconf", "os.sched_getaffinity", "os.statvfs", "os.nice", "os.wait", "signal.SIGALRM",
    "signal.SIGKILL", "signal.setitimer", "signal.ITIMER_REAL", "signal.alarm", "signal.SIGHUP", "signal.SIGUSR1",
}  # fmt: skip
POSIX_MODULES = {"fcntl", "resource", "termios", "pwd", "grp", "pty", "syslog"}


def guarded(name, tree):
    """Whether a module asks first: hasattr(os, "geteuid"), or a try that catches AttributeError."""
    module, _, attribute = name.partition(".")
    text = ast.unparse(tree)
    asks = f"hasattr({module}, '{attribute}')" in text or f"hasattr({module}, 'SIGALRM')" in text
    tries = [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    caught = [
        node for node in tries if any("AttributeError" in ast.unparse(h.type or h) for h in node.handlers)
    ]
    return asks or any(name in ast.unparse(node) for node in caught)


def posix_only(tree):
    """Names that Windows lacks, where nobody asks whether they are there."""
    found = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & POSIX_ONLY
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    forks = [
        name
        for name, call in calls(tree)
        if name.endswith(("get_context", "set_start_method")) and "'fork'" in ast.unparse(call)
    ]
    return sorted({name for name in found if not guarded(name, tree)} | (imported & POSIX_MODULES)) + forks


def test_what_windows_lacks_is_seen():
    assert posix_only(ast.parse("import os, fcntl\nos.fork()\nget_context('fork')")) == [
        "fcntl",
        "os.fork",
        "get_context",
    ]
    assert not posix_only(ast.parse("import os\nif hasattr(os, 'geteuid'): os.geteuid()"))


def test_the_package_and_the_notebooks_keep_to_what_windows_has():
    names = {
        name: found
        for name, tree in sources()
        if not name.startswith("benchmarks") and (found := posix_only(tree))
    }
    assert not names


def locale_dependent(tree):
    """Text files opened without an encoding: Windows would take the locale's."""
    found = []
    for name, call in calls(tree):
        last = name.rpartition(".")[2]
        mode = ast.unparse(call.args[1]) if len(call.args) > 1 else keywords(call).get("mode", "'r'")
        before = {"read_text": 0, "write_text": 1}.get(last)  # arguments that come before the encoding
        if before is not None and len(call.args) <= before and "encoding" not in keywords(call):
            found.append(name)
        if name == "open" and "b" not in mode and "encoding" not in keywords(call):
            found.append(name)
    return found


def test_text_is_read_and_written_as_utf_8():
    assert locale_dependent(ast.parse("open(x); p.read_text(); p.write_text(t)")) == [
        "open",
        "p.read_text",
        "p.write_text",
    ]
    assert not locale_dependent(ast.parse("open(x, 'rb'); p.read_text(encoding='utf-8')"))
    assert not {name: found for name, tree in sources() if (found := locale_dependent(tree))}


def test_every_refusal_is_a_sentence():
    """What a person is told ends with a full stop, as far as the source can show it."""
    found = []
    for name, tree in sources():
        for called, call in calls(tree):
            if not called.endswith(("InputError", "Diverged")) or not call.args:
                continue
            text = call.args[0]
            last = text.values[-1] if isinstance(text, ast.JoinedStr) else text
            if isinstance(last, ast.Constant) and not str(last.value).endswith("."):
                found.append(f"{name}:{call.lineno}")
    assert not found
