"""The course on other Pythons and on its oldest dependencies: `nox -f tests/noxfile.py`, outside CI.

Sessions: `tests-3.11` to `tests-3.13` with the newest dependencies, `oldest` with the floors of pyproject.toml on the
oldest Python. Each makes an environment of its own, downloads some gigabytes (PyTorch), and runs the tests that need
no browser, no network and no notebook. A Python that is not on the machine is skipped. `nox -f tests/noxfile.py
--list` names the sessions; what follows `--` goes to pytest.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
TOOLS = ("pytest", "hypothesis", "nbval", "lightly")  # lightly is what losses and heads are held against
LEFT_OUT = "not on_cuda_everything"  # it asks PyTorch to feign a GPU, which 2.3 cannot without a driver
LIGHT = (
    "model",
    "loss",
    "collapse",
    "augment",
    "recipe",
    "checkpoint",
    "files",
    "train",
    "evaluate",
    "bad_input",
)

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


def floors(extra: str = "") -> list[str]:
    """The oldest supported dependencies as pip pins them, read from pyproject.toml: 'torch==2.3'."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    parts = [re.match(r"([\w.-]+)[>=]=([\w.]+)$", one) for one in wanted]
    return [f"{part[1]}=={part[2]}" for part in parts if part]


def light_tests(session: nox.Session) -> None:
    """Runs the tests that every environment can run, from the repository's root."""
    session.chdir(ROOT)
    files = session.posargs or [f"tests/test_{name}.py" for name in LIGHT]
    session.run(
        "pytest", "-q", "-p", "no:cacheprovider", "-k", LEFT_OUT, *files, env={"OMP_NUM_THREADS": "2"}
    )


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The newest dependencies on each Python."""
    session.install("-e", str(ROOT), *TOOLS)
    light_tests(session)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The floors of pyproject.toml on the oldest Python."""
    test = [pin for pin in floors("test") if pin.split("==")[0] in TOOLS]
    session.install(*floors(), *test)
    session.install("--no-deps", "-e", str(ROOT))
    light_tests(session)
