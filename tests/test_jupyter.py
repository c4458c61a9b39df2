"""JupyterLab as the course starts it: here only, quiet, and with a notebook that shows the lab."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

import simsiam_course
from simsiam_course import cli, jupyter


def test_the_notebook_is_sound_shows_the_lab_and_its_code_is_collapsed(tmp_path):
    notebook = nbformat.from_dict(jupyter.lab_notebook(tmp_path))
    nbformat.validate(notebook)
    (cell,) = notebook.cells
    assert cell.metadata["jupyter"]["source_hidden"] is True
    assert "collapse_lab(" in cell.source and repr(str(tmp_path)) in cell.source
    assert "Click ▶" in cell.outputs[0].data["text/markdown"]


def test_the_lab_alone_needs_no_clone_and_leaves_nothing_behind(tmp_path, monkeypatch):
    seen = {}

    def run(command, *, env, check):
        (folder,) = [part.partition("=")[2] for part in command if part.startswith("--ServerApp.root_dir=")]
        settings = (
            Path(env["JUPYTER_CONFIG_PATH"].split(":")[0]) / "labconfig" / "default_setting_overrides.json"
        )
        seen.update(command=command, folder=Path(folder), settings=json.loads(settings.read_text()))
        seen["notebook"] = nbformat.read(Path(folder) / jupyter.LAB_NOTEBOOK, as_version=4)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(simsiam_course, "checkout", lambda: None)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.lab(app=True)
    assert end.value.code == 0
    assert "--ip=127.0.0.1" in seen["command"] and "--LabApp.news_url=None" in seen["command"]
    assert f"--LabApp.default_url=/doc/tree/{jupyter.LAB_NOTEBOOK}" in seen["command"]
    assert not any(
        "token" in part or "password" in part for part in seen["command"]
    )  # Jupyter makes a token itself
    assert seen["settings"]["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    assert repr(str(tmp_path)) in seen["notebook"].cells[0].source  # pictures go where the command was given
    assert not seen["folder"].exists()


def test_the_lessons_open_in_jupyterlab(monkeypatch):
    seen = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: seen.append(command) or SimpleNamespace(returncode=0)
    )
    with pytest.raises(SystemExit):
        cli.lab(app=False)
    assert "--ip=127.0.0.1" in seen[0] and any(part.endswith("notebooks") for part in seen[0])
