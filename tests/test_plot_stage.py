"""The lab's picture: axes that stay, data that move, and the same bytes for the same moment."""

from __future__ import annotations

import pytest
import torch

from simsiam_course.plot import Act, Stage

LABELS, CLASSES = [i % 3 for i in range(30)], ("dots", "waves", "rings")


def rows(count: int, **columns: float) -> list[dict]:
    row = {"loss": -0.5, "std": 0.9, "effective_rank": 4.0, "knn": None, **columns}
    return [{**row, "step": i, "images_seen": 100 * i} for i in range(1, count + 1)]


def stage(count: int = 1, **options) -> Stage:
    names = [f"{i}: a run with a name" for i in range(count)]
    return Stage(names, title="settings", images=1_000, labels=LABELS, classes=CLASSES, **options)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("whole", [False, True])
def test_one_to_six_runs_fit_on_it(count, whole):
    drawn = stage(count, whole=whole)
    drawn.draw([Act(rows(5), torch.zeros(30, 2), 500)] * count)
    pictures = drawn.pngs()
    assert len(pictures) == (1 if whole else 2) and all(p.startswith(b"\x89PNG") for p in pictures)
    assert len(drawn.planes) == count


def test_a_point_is_a_point_because_the_plane_does_not_zoom():
    drawn = stage()
    (ax, *_) = drawn.figures[0].axes
    before = ax.get_xlim(), ax.get_ylim()
    drawn.draw([Act(rows(3), 1e-3 * torch.randn(30, 2), 300)])
    assert (ax.get_xlim(), ax.get_ylim()) == before and before[0][0] < -1 < 1 < before[0][1]
    assert "after 300 images" in [text.get_text() for text in ax.texts]


def test_the_same_moment_gives_the_same_bytes_whatever_came_before():
    film, still = stage(), stage()
    for count in (1, 3, 7):
        film.draw([Act(rows(count, effective_rank=3.0 * count), torch.ones(30, 2) / count, 100 * count)])
    still.draw([Act(rows(7, effective_rank=21.0), torch.ones(30, 2) / 7, 700)])
    assert film.pngs() == still.pngs()


def test_what_was_not_measured_leaves_no_gap():
    drawn = stage()
    history = rows(6)
    history[1]["knn"], history[4]["knn"] = 0.3, 0.6
    drawn.draw([Act([*history, {**history[-1], "loss": float("nan"), "images_seen": 700}])])
    (line,) = drawn.curves["knn"][1]
    assert list(line.get_xdata()) == [200, 500] and list(line.get_ydata()) == [0.3, 0.6]
    assert len(drawn.curves["loss"][1][0].get_xdata()) == 6
    assert "no picture of z" in [text.get_text() for text in drawn.figures[0].axes[0].texts]
