"""JupyterLab as the course starts it: on this machine only, with a token, and asking nothing of any other host."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

LAB_NOTEBOOK = "collapse_lab.ipynb"
QUIET = (  # no questions to PyPI or to Jupyter's news page
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)
SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
WELCOME = """# Break SimSiam, and watch

**Click ▶ in the toolbar above** (or press Shift + Enter). The lab takes the place of this text after a few seconds."""
CODE = """import simsiam_course

lab = simsiam_course.collapse_lab(folder={folder})
lab"""


def server_command(folder: Path) -> list[str]:
    """The command that opens JupyterLab on a folder, on 127.0.0.1 with a token of its own."""
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command


def app_command(folder: Path, pictures: Path) -> tuple[list[str], dict[str, str]]:
    """The command that opens the lab alone, in JupyterLab's single-document mode, and its environment.

    `folder`, an empty one, gets the notebook and the settings; what *Save picture* writes goes to `pictures`.
    """
    (folder / LAB_NOTEBOOK).write_text(json.dumps(lab_notebook(pictures), indent=1), encoding="utf-8")
    settings = folder / ".config" / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
    paths = [str(folder / ".config"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    workspaces = {"JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces")}
    environment = {**os.environ, **workspaces, "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, paths))}
    address = f"--LabApp.default_url=/doc/tree/{LAB_NOTEBOOK}"
    return [*server_command(folder), address, *QUIET], environment


def lab_notebook(pictures: Path) -> dict[str, Any]:
    """A notebook that shows the lab and nothing else: one cell, its code collapsed, its output says how to start."""
    cell = {
        "cell_type": "code", "id": "lab", "metadata": {"jupyter": {"source_hidden": True}}, "execution_count": None,
        "source": CODE.format(folder=repr(str(pictures))),
        "outputs": [{"output_type": "display_data", "metadata": {}, "data": {"text/markdown": WELCOME}}],
    }  # fmt: skip
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
