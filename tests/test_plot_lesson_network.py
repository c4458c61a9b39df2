"""The figures of lesson 02 show what they are given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from simsiam_course import plot
from simsiam_course.errors import InputError
from simsiam_course.model import SimSiam, tiny


def texts(figure):
    return [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def legend(figure):
    return [t.get_text() for each in figure.legends for t in each.get_texts()]


@pytest.fixture
def z():
    return torch.randn(60, 8, generator=torch.Generator().manual_seed(0))


def test_channel_statistics_are_those_of_the_channels_and_the_cosines_leave_an_image_itself_out(z):
    figure = plot.channel_statistics({"plain": z, "shifted": 2 * z + 30})
    dots = figure.axes[0].collections
    assert torch.allclose(
        torch.tensor(dots[1].get_offsets()[:, 0]), (2 * z + 30).mean(dim=0).double(), atol=1e-4
    )
    assert torch.allclose(torch.tensor(dots[0].get_offsets()[:, 1]), z.std(dim=0, correction=0).double())
    plain, shifted = (stairs.get_data() for stairs in figure.axes[1].patches)
    middle = (plain.edges[1:] + plain.edges[:-1]) / 2
    assert middle[shifted.values > 0].min() > 0.9 and (plain.values * middle).sum() < 2
    assert plain.values[-1] == 0  # an image's cosine with itself is not among them
    assert legend(figure) == ["plain", "shifted"]
    assert plot.png(figure)


def test_directions_are_counted_without_the_mean_and_without_rounding_noise(z):
    narrow = z[:, :3] @ torch.randn(3, 8, generator=torch.Generator().manual_seed(1)) + 5
    figure = plot.directions({"z": z, "p": narrow})
    assert legend(figure) == ["z: 8 directions", "p: 3 directions"]
    wide, thin = figure.axes[0].lines
    s = torch.linalg.svdvals((z - z.mean(dim=0)).double())
    assert torch.allclose(torch.tensor(wide.get_ydata()), s / s[0])
    assert len(thin.get_xdata()) == 3
    assert plot.png(figure)


def test_the_architecture_names_widths_and_counts_all_parameters():
    model = SimSiam.create(tiny((4, 4, 4, 8)), 8, 12, 16, 6)
    figure = plot.architecture({"small": model, "the same": model})
    counts = [
        sum(w.numel() for w in getattr(model, part).parameters())
        for part in ("backbone", "projector", "predictor")
    ]
    said = [t for t in texts(figure) if "parameters" in t]
    assert [t.split("\n")[1].split(" ")[0] for t in said[:3]] == [f"{count:,}" for count in counts]
    assert {"features\n8", "hidden\n16", "z\n12", "hidden\n6", "p\n12"} <= set(texts(figure))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["small", "the same"]
    assert plot.png(figure)


def test_layer_scales_has_a_point_for_each_layer_and_a_line_for_each_initialisation():
    rows = [{"layer": f"projector {i}", "spread": 10.0**i, "gradient": 0.1} for i in (1, 2, 3)]
    figure = plot.layer_scales({"default": rows, "he": rows})
    for ax, column in zip(figure.axes, ("spread", "gradient"), strict=True):
        assert [list(line.get_ydata()) for line in ax.lines] == [[row[column] for row in rows]] * 2
        assert ax.get_yscale() == "log"
    assert legend(figure) == ["default", "he"]
    assert plot.png(figure)


@pytest.mark.parametrize(("draw", "what"), [
    (plot.channel_statistics, {}), (plot.channel_statistics, {"one": torch.ones(1, 4)}), (plot.directions, {}),
    (plot.architecture, {}), (plot.layer_scales, {}), (plot.layer_scales, {"default": []}),
    (plot.architecture, {"mine": SimSiam(nn.Flatten(), nn.Linear(6, 4), nn.Linear(4, 4))}),
])  # fmt: skip
def test_nothing_to_draw_is_an_error(draw, what):
    with pytest.raises(InputError, match="pass|build"):
        draw(what)
