"""Kills programs at random moments, lets them go on, and counts what survived.

    python tests/faults.py                        a few tries of each fault, as the tests make them
    python tests/faults.py --tries 200 --write    and the table in tests/README.md

Each try starts a program, ends it by SIGKILL or SIGTERM at a random moment of its life, looks at what it left, starts
it again and compares the end with that of a program that nobody disturbed. To make hundreds of tries in minutes most
programs are forked from this process, which has PyTorch loaded, and run the package's own command line in the child;
the others are processes of their own. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import io
import itertools
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "README.md"
MARK = "SIMSIAM_FAULT"  # in the environment of a victim and of whatever it starts
CLOCK = ("seconds", "images_per_second")  # the only columns that may differ between equal runs
TRAIN = ("--epochs", "6", "--batch-size", "16")
GRACE = 20.0  # seconds for what must happen soon


class Lost(Exception):
    """What a fault has destroyed, or left behind."""


# ---- victims


class Victim:
    """A program of its own session, forked from this process or as a command."""

    def __init__(self, program: Callable[[], Any] | list[str], log: Path) -> None:
        self.mark, self.log = f"{os.getpid()}-{random.getrandbits(64)}", log
        environment = {**os.environ, MARK: self.mark}
        if isinstance(program, list):
            with open(log, "ab") as out:
                self.pid = subprocess.Popen(
                    program, stdout=out, stderr=out, env=environment, start_new_session=True
                ).pid
            return
        self.pid = os.fork()
        if self.pid == 0:
            self._be(program)

    def _be(self, program: Callable[[], Any]) -> None:
        """The child: runs the program and never comes back."""
        code = 99
        try:
            os.setsid()
            os.environ[MARK] = self.mark  # for what it starts
            out = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            program()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self, seconds: float) -> int | None:
        """The exit code, minus a signal's number where that ended it; None after so many seconds."""
        handle = os.pidfd_open(self.pid)
        try:
            ended, _, _ = select.select([handle], [], [], seconds)
        finally:
            os.close(handle)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) if ended else None

    def kill(self, number: int) -> None:
        """Sends a signal and waits for the end."""
        os.kill(self.pid, number)
        code = self.wait(GRACE)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(GRACE)
            raise Lost(f"it lived on for {GRACE:g} s after {signal.Signals(number).name}")
        if code not in (-number, 128 + number, 2, 0):
            raise Lost(f"it ended with {code} after {signal.Signals(number).name}: {self.said()}")

    def finish(self) -> None:
        """Waits for an end without a fault."""
        if code := self.wait(180):
            raise Lost(f"it did not go on, but ended with {code}: {self.said()}")

    def said(self) -> str:
        return " | ".join(self.log.read_text("utf-8", "replace").splitlines()[-4:])

    def orphans(self) -> list[int]:
        """The processes that it, or one of its own, has started and that still run."""
        return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if self._is_mine(entry)]

    def _is_mine(self, entry: Path) -> bool:
        try:
            return f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def leaves_nobody(self) -> None:
        end = time.monotonic() + GRACE
        while orphans := self.orphans():
            if time.monotonic() > end:
                for pid in orphans:
                    os.kill(pid, signal.SIGKILL)
                raise Lost(f"{len(orphans)} processes were left behind")
            time.sleep(0.1)


def command_line(*arguments: Any) -> Callable[[], None]:
    """The package's command line, for a forked child, with a checkpoint after nearly every step."""

    def run() -> None:
        from simsiam_course import cli, train

        prepare()
        train.SECONDS_BETWEEN_CHECKPOINTS = 0.02
        sys.argv = ["simsiam-course", *map(str, arguments)]
        cli.main()

    return run


def prepare() -> None:
    """Makes a tiny experiment known to `ablate`."""
    from simsiam_course import ablate

    ablate.EXPERIMENTS["tiny"] = ablate.Experiment(
        name="tiny", title="t", question="q", paper={}, variants={"simsiam": {}, "none": {"predictor": "none"}},
        base={"epochs": 2, "batch_size": 16}, data=f"file:{os.environ['FAULT_IMAGES']}",
    )  # fmt: skip


# ---- faults: each makes a place, is disturbed in it, goes on, and must end as the undisturbed one


def without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_clock(item) for name, item in value.items() if name not in CLOCK}
    return [without_clock(item) for item in value] if isinstance(value, list) else value


def only(folder: Path, *names: str) -> None:
    """Loses where the folder holds anything else, such as half of a file."""
    found = sorted(path.name for path in folder.rglob("*"))
    if found != sorted(names):
        raise Lost(f"the folder holds {found}")


class Training:
    """`train`: the resumed curve is the uninterrupted one."""

    def program(self, place: Path, again: bool) -> tuple[Any, ...]:
        data = f"file:{os.environ['FAULT_IMAGES']}"
        return ("train", "--data", data, *TRAIN, "--out", place / "run", *(["--resume"] if again else []))

    def look(self, place: Path) -> None:
        """Right after the fault: what is there is whole."""
        from simsiam_course import checkpoint as ckpt
        from simsiam_course.files import read_lines

        run = place / "run"
        if (run / ckpt.CHECKPOINT).exists():
            ckpt.load_run(run)
        if (run / ckpt.HISTORY).exists():
            read_lines(run / ckpt.HISTORY)

    def end(self, place: Path) -> Any:
        from simsiam_course import checkpoint as ckpt
        from simsiam_course.files import read_lines

        run = place / "run"
        only(run, ckpt.CHECKPOINT, ckpt.HISTORY, ckpt.RECIPE)
        tensors, _ = ckpt.load_tensors(run / ckpt.CHECKPOINT)
        del tensors["run.global"]  # of no use to a model without dropout, and another one in every process
        weights = {name: tensor.tolist() for name, tensor in tensors.items()}
        return without_clock(read_lines(run / ckpt.HISTORY)), weights


class Sweep:
    """`ablate`: the ledger has each run once and whole, and as it would have been."""

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs

    def program(self, place: Path, again: bool) -> tuple[Any, ...]:
        return ("ablate", "tiny", "--seeds", 2, "--out", place / "sweep", "--jobs", self.jobs)

    def look(self, place: Path) -> None:
        from simsiam_course.files import read_lines

        if (ledger := place / "sweep" / "results.jsonl").exists():
            rows = [(row["variant"], row["seed"]) for row in read_lines(ledger)]
            if len(rows) != len(set(rows)):
                raise Lost(f"a run stands in the ledger twice: {rows}")

    def end(self, place: Path) -> Any:
        from simsiam_course.files import read_lines

        only(place / "sweep", "results.jsonl")
        return without_clock(read_lines(place / "sweep" / "results.jsonl"))


class Notebook:
    """`execute`: the file is the old one or the new one."""

    CELLS = ("print('new')", "import time; time.sleep(0.3)", "sum(range(10))")

    def program(self, place: Path, again: bool) -> tuple[Any, ...]:
        import nbformat

        path = place / "lesson.ipynb"
        if not again:
            cells = [nbformat.v4.new_code_cell(code, id=f"c{i}") for i, code in enumerate(self.CELLS)]
            nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        self.old = path.read_bytes()
        return ("execute", path)

    def look(self, place: Path) -> None:
        if (now := (place / "lesson.ipynb").read_bytes()) != self.old and now != self.whole:
            raise Lost("the notebook is neither the old one nor the new one")

    def end(self, place: Path) -> Any:
        only(place, "lesson.ipynb", "log")
        self.whole = (place / "lesson.ipynb").read_bytes()
        return self.whole


class Download:
    """A download: no half of a file under its final name."""

    def __init__(self, url: str, payload: bytes) -> None:
        self.url, self.payload = url, payload

    def program(self, place: Path, again: bool) -> Callable[[], Any]:
        from simsiam_course import terminal
        from simsiam_course.data.download import Archive, fetch

        def run() -> None:
            os.environ["SIMSIAM_CACHE"] = str(place / "cache")
            with terminal.told_to_end():
                try:
                    fetch(Archive("set/file.bin", (self.url,), hashlib.md5(self.payload).hexdigest(), 1.0))
                except terminal.Terminated:
                    sys.exit(143)

        return run

    def look(self, place: Path) -> None:
        if (file := place / "cache" / "set" / "file.bin").exists() and file.read_bytes() != self.payload:
            raise Lost("half of a file has the final name")

    def end(self, place: Path) -> Any:
        only(place / "cache", "set", "file.bin")
        return (place / "cache" / "set" / "file.bin").read_bytes()


class Slowly(http.server.BaseHTTPRequestHandler):
    """Serves one file in twenty pieces."""

    payload = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.payload)))
        self.end_headers()
        size = len(self.payload) // 20
        try:
            for start in range(0, len(self.payload), size):
                self.wfile.write(self.payload[start : start + size])
                time.sleep(0.01)
        except OSError:
            pass  # the client was killed

    def log_message(self, *arguments: Any) -> None:
        pass


# ---- tries


@dataclass
class Fault:
    """One row of the table."""

    name: str
    started: str  # "forked" or "its own process"
    task: Any
    tries: int
    lost: list[str] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    survived: int = 0

    def start(self, place: Path, again: bool = False) -> Victim:
        program = self.task.program(place, again)
        if callable(program):
            return Victim(program, place / "log")
        if self.started == "forked":
            return Victim(command_line(*program), place / "log")
        return Victim([sys.executable, __file__, "--program", *map(str, program)], place / "log")

    def run(self, chance: random.Random) -> None:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            self.start(Path(folder)).finish()
            life = time.monotonic() - begin
            whole = self.task.end(Path(folder))
        while len(self.signals) < self.tries:
            with tempfile.TemporaryDirectory() as folder:
                number = chance.choice((signal.SIGKILL, signal.SIGTERM))
                self.once(Path(folder), whole, chance.uniform(0, life), number)
                print(
                    f"{self.name}, {self.started}: {len(self.signals)} tries, {len(self.lost)} lost",
                    end="\r",
                    file=sys.stderr,
                )

    def once(self, place: Path, whole: Any, after: float, number: int) -> None:
        victim = self.start(place)
        try:
            if victim.wait(after) is not None:
                return  # it was faster: no try
            self.signals.append(number)
            victim.kill(number)
            victim.leaves_nobody()
            self.task.look(place)
            self.start(place, again=True).finish()
            if self.task.end(place) != whole:
                raise Lost("the end is not that of the undisturbed one")
        except Exception as error:
            if not isinstance(error, Lost):
                traceback.print_exc()
            self.lost.append(f"{signal.Signals(number).name} after {after:.2f} s: {error}")
        else:
            self.survived += 1

    def row(self) -> str:
        kills = f"{self.signals.count(signal.SIGKILL)} / {self.signals.count(signal.SIGTERM)}"
        return f"| {self.name} | {self.started} | {len(self.signals)} | {kills} | {self.survived} | {len(self.lost)} |"


def faults(tries: int, only: str, url: str, payload: bytes) -> list[Fault]:
    few = tries // 10  # those that cost an import of PyTorch for each program
    table = [
        Fault("`train`", "forked", Training(), tries),
        Fault("`train`", "its own process", Training(), few),
        Fault("`ablate`", "forked", Sweep(), tries),
        Fault("`ablate --jobs 2`", "its own process", Sweep(jobs=2), few),
        Fault("`execute`", "forked", Notebook(), max(1, few)),
        Fault("a download", "forked", Download(url, payload), max(1, tries // 4)),
    ]
    return [fault for fault in table if fault.tries and only in f"{fault.name}, {fault.started}"]


HEAD = """| killed | started as | tries | SIGKILL / SIGTERM | survived | lost |
|---|---|---|---|---|---|"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=4, help="Of the first row; others have a share of it.")
    parser.add_argument("--write", action="store_true", help="Put the table into tests/README.md.")
    parser.add_argument(
        "--seed", type=int, default=None, help="Of the moments; by default another every time."
    )
    parser.add_argument("--only", default="", help="Rows that contain this text; others stay in the table.")
    options = parser.parse_args()
    seed = time.time_ns() % 2**32 if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "OMP_NUM_THREADS": "1",
            "SIMSIAM_CACHE": folder,
            "FAULT_IMAGES": f"{folder}/images.safetensors",
        }
        payload = random.Random(seed).randbytes(2_000_000)
        handler = type("Handler", (Slowly,), {"payload": payload})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        serving = os.fork()  # in a process of its own: a fork of a process with threads is a gamble
        if serving == 0:
            server.serve_forever()
        try:
            load()
            table = faults(
                options.tries, options.only, f"http://127.0.0.1:{server.server_port}/file", payload
            )
            print(HEAD, flush=True)
            for fault in table:
                fault.run(random.Random(seed))
                print(fault.row(), *fault.lost, sep="\n", flush=True)
        finally:
            os.kill(serving, signal.SIGKILL)
            os.waitpid(serving, 0)
    if options.write:
        write_table([fault.row() for fault in table])
    return 1 if any(fault.lost for fault in table) else 0


@functools.cache
def load() -> None:
    """Imports what the children need, before they are forked, and starts no thread."""
    import nbclient
    import pooch
    import requests
    import torch
    import tqdm

    from simsiam_course import notebooks
    from simsiam_course.data import patterns

    assert all((nbclient, pooch, requests, notebooks))
    tqdm.tqdm.monitor_interval = 0  # its thread
    torch.set_num_threads(1)
    patterns(80, size=16, seed=5).save(os.environ["FAULT_IMAGES"])
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for task in (Training(), Sweep()):
            with contextlib.suppress(SystemExit):
                command_line(*task.program(Path(folder), again=False))()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process with threads must not be forked"


def write_table(rows: list[str]) -> None:
    """Puts rows into the table of tests/README.md, in place of those of the same fault."""
    before, _, after = TABLE.read_text("utf-8").partition(HEAD)
    lines = after.lstrip("\n").splitlines()
    old = list(itertools.takewhile(lambda line: line.startswith("|"), lines))  # other tables follow
    rest = lines[len(old) :]
    named = {name_of(row): row for row in [*old, *rows]}
    TABLE.write_text(before + "\n".join([HEAD, *named.values(), *rest]) + "\n", "utf-8")


def name_of(row: str) -> tuple[str, ...]:
    """What was killed and how it was started."""
    return tuple(cell.strip() for cell in row.split("|")[1:3])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--program"]:  # the command line, with the tiny experiment
        from simsiam_course import cli

        prepare()
        sys.argv = ["simsiam-course", *sys.argv[2:]]
        cli.main()
    sys.exit(main())
