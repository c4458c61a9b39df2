"""Programs that are killed at any moment lose nothing; the table of many more kills is in tests/README.md."""

import subprocess
import sys
from pathlib import Path

import faults
import pytest

HERE = Path(__file__).resolve().parent


def rows(text):
    """The cells of a table of faults: [killed, started as, tries, SIGKILL / SIGTERM, survived, lost]."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_programs_killed_at_random_moments_lose_nothing():
    command = [sys.executable, HERE / "faults.py", "--tries", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = rows(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(int(row[2]) for row in found) == 10
    assert all(row[4] == row[2] and row[5] == "0" for row in found)


def test_the_table_counts_hundreds_of_kills_and_no_loss():
    found = rows((HERE / "README.md").read_text("utf-8").partition("## Bad input")[0])
    tries = {killed: 0 for killed, *_ in found}
    for killed, _, count, *_ in found:
        tries[killed] += int(count)
    assert {"`train`", "`ablate`", "`execute`", "a download"} <= tries.keys()
    assert tries["`train`"] >= 200 and tries["`ablate`"] >= 200
    assert all(row[4] == row[2] and row[5] == "0" for row in found)


def test_a_row_replaces_its_own_and_leaves_the_rest_of_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "TABLE", tmp_path / "README.md")
    page = (HERE / "README.md").read_text("utf-8")
    faults.TABLE.write_text(page, "utf-8")
    line = next(line for line in page.splitlines() if line.startswith("| `train` | forked |"))
    other, new = "| `train` | forked | 7 | 4 / 3 | 7 | 0 |", "| a flood | forked | 2 | 1 / 1 | 2 | 0 |"
    faults.write_table([other, new])
    last = rows(page.partition("## Bad input")[0])[-1]
    last = "| " + " | ".join(last) + " |\n"
    assert faults.TABLE.read_text("utf-8") == page.replace(line, other).replace(last, f"{last}{new}\n")
