"""What the processes of one launch know of each other beyond the training: restarts, a run begun, a sentence said.

torchrun keeps a small store for as long as it lives, through all restarts. The training itself is in distributed.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from .distributed import launched, rank, restarts, store, world
from .errors import InputError
from .terminal import say

SAID, FOLDER = "simsiam_course/said", "simsiam_course/folder"


def remember_folder(path: object) -> None:
    """Notes that this launch has begun a run there."""
    if launched() and rank() == 0:
        store().set(FOLDER, os.path.abspath(str(path)))


def began(path: object) -> bool:
    """Whether these processes were started anew and their launch has begun the run in this folder."""
    if not restarts()[0] or not launched() or not store().check([FOLDER]):
        return False
    return store().get(FOLDER).decode() == os.path.abspath(str(path))


def first_to_say(*, for_good: bool) -> bool:
    """Whether no process of this launch has ended with a sentence before; asking counts as saying it.

    What is wrong with the input is said for good, and ends the launch; that a process is gone, once in every start.
    """
    if not launched():
        return True
    try:
        if for_good:
            return store().add(SAID, 1) == 1
        return not store().check([SAID]) and store().add(f"{SAID} {restarts()[0]}", 1) == 1
    except RuntimeError:  # there is no store, or the launcher is gone
        return os.environ["RANK"] == "0"


def run(answer: Callable[[], int]) -> None:
    """Ends this process with the exit code that `answer` returns, and never waits for the others.

    After bad input nothing is tried anew. What a lost connection raises is not told: the process that is gone was the
    one with something to say.
    """
    if launched() and restarts()[0] > 0 and store().check([SAID]):
        leave(2)
    command = sys.argv[1:2]
    try:
        if launched() and command not in (["train"], []) and not {"--help"} & {*sys.argv}:
            raise InputError(f"torchrun is for 'train': run '{command[0]}' in one process, without torchrun.")
        leave(answer())
    except InputError as error:
        say(str(error), for_good=True)
        leave(2)
    except RuntimeError as error:
        if not _peer_lost(error):
            raise
        say("Another process of this run is gone, so all end here.", for_good=False)
        leave(1)


def _peer_lost(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone."""
    words = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe")
    return world() > 1 and any(word in str(error) for word in words)


def leave(code: int) -> None:
    """Ends the process; where others still wait for it at once, since to part properly takes all of them."""
    for stream in (sys.stdout, sys.stderr):
        if stream:  # not where it is closed
            stream.flush()
    if world() > 1:
        os._exit(code)
    sys.exit(code)
