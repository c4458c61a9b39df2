"""The figures of lesson 08 show what they are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simsiam_course import plot
from simsiam_course.errors import InputError
from simsiam_course.relatives import FORMULAS


def texts(figure):
    return [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")) if t.get_text()]


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def run(variant, seed=0, end=0.8):
    knn = np.linspace(0.1, end, 5)
    rows = [
        {"step": 10 * i, "images_seen": 640 * i, "loss": 3.0 - i, "std": 1.0, "effective_rank": 4.0 + i}
        for i in range(5)
    ]
    for row, value in zip(rows, knn + 0.01 * seed, strict=True):
        row["knn"] = float(value)
    return {"variant": variant, "seed": seed, "knn": end + 0.01 * seed, "history": rows}


# ---- the family


def test_formulas_say_what_the_methods_lack_and_add():
    said = {name: plot.formula(name, knobs) for name, knobs in FORMULAS.items()}
    assert said["simsiam"] == "h and stop-gradient" and said["byol"] == "+ momentum"
    assert said["simclr"] == "− h − stop-gradient + negatives"
    assert said["moco"] == "− h + negatives + bank + momentum"
    assert said["swav"] == "− h + clusters"
    assert said["barlow_twins"] == said["vicreg"] == "− h − stop-gradient + decorrelation"


def test_a_formula_follows_the_knobs():
    assert plot.formula("byol", {"method": "byol", "predictor": "none"}) == "− h + momentum"
    assert plot.formula("simclr", {"method": "simclr"}) == "+ negatives"


def test_the_family_has_a_panel_for_each_method_and_a_key():
    figure = plot.family(FORMULAS)
    assert titles(figure) == ["SimSiam", "SimCLR", "MoCo", "BYOL", "SwAV", "Barlow Twins", "VICReg", "Key"]
    panels = {ax.get_title(loc="left"): [t.get_text() for t in ax.texts] for ax in figure.axes}
    assert [name for name, said in panels.items() if "h" in said] == ["SimSiam", "BYOL", "Key"]
    assert [name for name, said in panels.items() if "f′" in said] == ["MoCo", "BYOL", "Key"]
    assert [name for name, said in panels.items() if "bank" in said] == ["MoCo", "Key"]
    assert plot.png(figure)


def test_a_stop_gradient_is_drawn_where_there_is_one():
    lines = {name: len(plot.family({name: FORMULAS[name]}).axes[0].lines) for name in FORMULAS}
    stopped = [name for name, count in lines.items() if count > min(lines.values())]
    assert stopped == ["simsiam", "moco", "byol", "swav"]


# ---- matrices


def test_matrices_share_one_scale_and_carry_marks():
    framed, crossed = torch.eye(3).bool().roll(1, 0), torch.eye(3).bool()
    figure = plot.matrices(
        {"a": torch.zeros(3, 3), "b": torch.ones(3, 3)}, framed=framed, crossed=crossed, rows="r", columns="c"
    )
    left, right = figure.axes[:2]
    assert titles(figure)[:2] == ["a", "b"] and left.get_ylabel() == "r" and right.get_xlabel() == "c"
    assert left.images[0].get_clim() == right.images[0].get_clim() == (-1, 1)
    assert (left.images[0].get_array() == 0).all() and (right.images[0].get_array() == 1).all()
    frames = [patch for patch in left.patches if not patch.get_fill()]
    places = sorted([round(f.get_y() + 0.5), round(f.get_x() + 0.5)] for f in frames)
    assert places == framed.nonzero().tolist()
    assert len(left.lines) == 6
    assert plot.png(figure)


def test_shares_are_those_of_the_columns():
    figure = plot.matrices({"q": torch.tensor([[0.5, 0.5], [1.0, 0.0]])}, low=0, shares=True)
    assert [bar.get_height() for bar in figure.axes[1].patches] == [0.75, 0.25]
    assert figure.axes[0].images[0].get_clim() == (0, 1)


# ---- a weight that follows


def test_followers_draw_the_online_weight_and_each_target():
    figure = plot.followers(
        [0.0, 1.0, 1.0], {"momentum 0.9": [0.0, 0.1, 0.19], "momentum 0.5": [0.0, 0.5, 0.75]}
    )
    drawn = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert drawn == [[0, 1, 1], [0, 0.1, 0.19], [0, 0.5, 0.75]]
    assert {"momentum 0.9", "momentum 0.5"} <= set(texts(figure))
    assert len({line.get_color() for line in figure.axes[0].lines}) == 3
    assert plot.png(figure)


# ---- the race


@pytest.fixture
def groups():
    return {
        "simsiam": [run("simsiam", s) for s in (0, 1, 2)],
        "barlow_twins": [run("barlow_twins", s, 0.5) for s in (0, 1, 2)],
    }


def test_the_race_has_a_panel_for_each_method_and_one_for_the_end(groups):
    figure = plot.race(groups)
    assert titles(figure)[:3] == ["SimSiam", "Barlow Twins", "at the end"]
    simsiam, twins, ends = figure.axes[:3]
    assert len(simsiam.lines) == 1 and len(twins.lines) == 2
    assert np.allclose(twins.lines[0].get_ydata(), simsiam.lines[0].get_ydata())
    assert np.allclose(twins.lines[1].get_ydata(), np.linspace(0.1, 0.5, 5) + 0.01)
    assert [t.get_text() for t in ends.get_yticklabels()] == ["SimSiam", "Barlow Twins"]
    seeds, mean = ends.lines[2:4]
    assert np.allclose(seeds.get_xdata(), [0.5, 0.51, 0.52]) and np.allclose(mean.get_xdata(), 0.51)
    assert any("n = 3" in text for text in texts(figure))
    assert plot.png(figure)


def test_a_run_that_ended_without_a_figure_is_left_out_at_the_end(groups):
    groups["barlow_twins"][0]["knn"] = None
    assert np.allclose(plot.race(groups).axes[2].lines[2].get_xdata(), [0.51, 0.52])


def test_monitors_leave_the_losses_out_and_name_the_missing_part(groups):
    figure = plot.monitors({"swav_no_sinkhorn": groups["simsiam"]}, beside=groups["simsiam"])
    assert titles(figure)[0].replace("\n", " ") == "SwAV, no sinkhorn"
    assert [ax.get_ylabel() for ax in figure.axes] == ["std of z", "effective rank", "kNN accuracy"]
    assert plot.png(figure)


@pytest.mark.parametrize("draw", [
    lambda: plot.family({}), lambda: plot.matrices({}), lambda: plot.matrices({"a": torch.zeros(3)}),
    lambda: plot.race({}), lambda: plot.race({"simsiam": []}), lambda: plot.monitors({}),
])  # fmt: skip
def test_nothing_to_draw_is_one_clear_error(draw):
    with pytest.raises(InputError, match="nothing to draw"):
        draw()


def test_what_does_not_fit_is_one_clear_error():
    with pytest.raises(InputError, match="another shape"):
        plot.matrices({"a": torch.zeros(3, 3)}, framed=torch.eye(2).bool())
    for targets in ({}, {"a": [1.0]}):
        with pytest.raises(InputError, match="as many numbers"):
            plot.followers([1.0, 2.0], targets)
    with pytest.raises(InputError, match="no facts"):
        plot.family({"supersiam": {}})
