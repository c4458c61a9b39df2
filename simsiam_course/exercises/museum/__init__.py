"""Lesson 11: eight bugs that were found in public code, each in a function of ten lines.

A room has two functions: the *exhibit*, which is the code as it was found (told anew in the course's words), and the
same function repaired, in at most three lines. The notebook shows the exhibit, and the student repairs it.
"""

from __future__ import annotations

from types import SimpleNamespace

from . import evaluation, training

EXERCISES = (*training.EXERCISES, *evaluation.EXERCISES)
FOUND = SimpleNamespace(**{exercise.name: exercise.exhibit for exercise in EXERCISES})
"""The exhibits as they were found, by name: `FOUND.two_view_loss`."""
