"""Lesson 01's figures show the pictures and the numbers that they were given."""

from __future__ import annotations

import matplotlib
import pytest
import torch

from simsiam_course import plot
from simsiam_course.augment import crop, sampling_matrix
from simsiam_course.errors import InputError

ROWS = [("photo", torch.rand(3, 3, 20, 20)), ("print", torch.rand(2, 3, 8, 8))]
TABLE = {"nothing": {"hue": 1.0, "phase": 0.97}, "crop": {"hue": 0.96, "phase": 0.0}}


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def pictures(figure):
    return [
        ax.images[0].get_array() for ax in figure.axes if ax.images and ax.images[0].get_array().ndim == 3
    ]


def test_a_sheet_shows_every_picture_in_its_row_under_its_title():
    figure = plot.sheet(ROWS, [["a", "b", "c"]])
    shown = pictures(figure)
    assert len(shown) == 5
    torch.testing.assert_close(torch.tensor(shown[3]), ROWS[1][1][0].permute(1, 2, 0))
    assert [text for text in texts(figure) if len(text) == 1] == ["a", "b", "c"]
    assert {"photo", "print"} <= set(texts(figure))


def test_a_sheet_is_as_wide_as_it_is_asked_to_be_and_cuts_off_what_no_screen_shows():
    figure = plot.sheet([("", [torch.full((3, 8, 8), 1.4)])], width=5)
    assert figure.get_figwidth() == 5
    assert pictures(figure)[0].max() == 1


@pytest.mark.parametrize("rows", [[], [("photo", [])]])
def test_a_sheet_without_pictures_is_refused(rows):
    with pytest.raises(InputError, match="no picture"):
        plot.sheet(rows)


def test_every_knob_is_shown_on_every_image_and_named_once():
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    figure = plot.knobs({"photo": image, "print": image})
    assert len(pictures(figure)) == 2 * len(plot.TURNED)
    assert [text for text in texts(figure) if text in plot.TURNED] == list(plot.TURNED)


def test_a_knob_changes_what_it_says_and_rest_changes_nothing():
    image = torch.randint(20, 120, (1, 3, 32, 32), dtype=torch.uint8)
    turned = {name: plot.TURNED[name] for name in ("as it is", "flip", "brightness 1.4", "gray")}
    as_it_is, flip, bright, gray = (torch.tensor(x) for x in pictures(plot.knobs({"print": image}, turned)))
    torch.testing.assert_close(as_it_is, image[0].permute(1, 2, 0) / 255)
    torch.testing.assert_close(flip, as_it_is.flip(1))
    torch.testing.assert_close(bright, 1.4 * as_it_is)
    torch.testing.assert_close(gray[..., 0], gray[..., 2])


def test_no_knobs_are_refused():
    with pytest.raises(InputError, match="no picture"):
        plot.knobs({"print": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)}, {})


def test_the_matrices_of_a_crop_are_those_that_crop_it():
    image, flip = torch.rand(1, 3, 24, 32), torch.tensor([True])
    box = torch.tensor([[0.25, 0.5, 0.5, 0.25]])
    before, rows, columns, view = plot.sampling(image, box, flip=flip).axes[:4]
    torch.testing.assert_close(
        torch.tensor(rows.images[0].get_array()), sampling_matrix(box[:, 0], box[:, 2], 24)[0]
    )
    expected = sampling_matrix(box[:, 1], box[:, 3], 32, flip)[0]
    torch.testing.assert_close(torch.tensor(columns.images[0].get_array()), expected)
    expected = crop(image, box, flip)[0].clamp(0, 1).permute(1, 2, 0)
    torch.testing.assert_close(torch.tensor(view.images[0].get_array()), expected)
    edge = before.patches[-1]
    assert (*edge.get_xy(), edge.get_width(), edge.get_height()) == (15.5, 5.5, 8, 12)


def test_the_map_of_what_can_be_read_shows_every_number():
    figure = plot.readable(TABLE)
    assert [text for text in texts(figure) if text[0].isdigit()] == ["1.00", "0.97", "0.96", "0.00"]
    assert {"hue", "phase", "nothing", "crop"} <= set(texts(figure))


@pytest.mark.parametrize("table", [{}, {"a": {}}, {"a": {"hue": 1.0}, "b": {"phase": 1.0}}])
def test_a_table_with_holes_is_refused(table):
    with pytest.raises(InputError, match="the same ones"):
        plot.readable(table)
