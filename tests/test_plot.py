"""What a figure claims is what the numbers say; how it looks is left to the eye."""

from __future__ import annotations

import io
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure
from PIL import Image

from simsiam_course import plot
from simsiam_course.augment import PRESETS
from simsiam_course.data import ImageSet
from simsiam_course.errors import InputError

LOSSES = {"simsiam": (-0.9, -0.8, -0.7), "no_stop_gradient": (-0.95, -0.97, -0.99)}


def run(variant="simsiam", seed=0, *, loss=-0.9, knn=0.5, steps=10):
    """A ledger row whose loss falls in a straight line from 0 to `loss`."""
    history = [
        {"step": i, "images_seen": 64 * i, "loss": loss * i / steps, "std": 1.0, "effective_rank": 1 + i / 2}
        for i in range(1, steps + 1)
    ]
    return {"variant": variant, "seed": seed, "loss": loss, "knn": knn, "history": history}


def sweep():
    return [run(v, seed, loss=loss) for v, losses in LOSSES.items() for seed, loss in enumerate(losses)]


def texts(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def legend(figure: Figure) -> list[str]:
    return [t.get_text() for t in figure.legends[0].get_texts()]


# ---- the curves


def test_mean_and_sd_are_those_of_the_seeds():
    x, mean, sd = plot.mean_and_sd([row["history"] for row in sweep()[:3]], "loss")
    assert x.tolist() == [64 * i for i in range(1, 11)]
    assert mean[-1] == pytest.approx(-0.8)
    assert sd[-1] == pytest.approx(0.1)  # of -.9, -.8, -.7, divided by n - 1


def test_a_seed_without_a_number_is_left_out_of_the_mean_and_one_seed_has_no_sd():
    histories = [[{"images_seen": 64, "loss": loss}] for loss in (-0.5, None, float("nan"))]
    _, mean, sd = plot.mean_and_sd(histories, "loss")
    assert mean.tolist() == [-0.5]
    assert np.isnan(sd).all()


def test_the_band_reaches_one_sd_to_each_side_of_the_mean():
    ax = plot.ablation(sweep()).axes[0]
    (band, _) = (c for c in ax.collections if isinstance(c, PolyCollection))
    last = band.get_paths()[0].vertices
    last = last[last[:, 0] == 640][:, 1]
    assert (last.min(), last.max()) == (pytest.approx(-0.9), pytest.approx(-0.7))


def test_one_seed_has_no_band_and_the_figure_says_so():
    figure = plot.ablation([run("simsiam"), run("neither")])
    assert not [c for ax in figure.axes for c in ax.collections if isinstance(c, PolyCollection)]
    assert any("no band" in text for text in texts(figure))


def test_every_variant_has_its_own_colour_line_and_marker_and_keeps_it():
    styles = plot.styles([*plot.look.STYLES, "batch_64", "batch_128", "batch_256"])
    for part in ("colour", "marker"):
        assert len({getattr(s, part) for s in styles.values()}) == 7
    assert len({str(s.line) for s in list(styles.values())[:4]}) == 4
    assert plot.styles(["neither"])["neither"] == styles["neither"]


def test_every_variant_is_named_in_the_legend_and_beside_its_accuracy():
    figure = plot.ablation(sweep())
    assert legend(figure) == ["SimSiam", "no stop-gradient"]
    assert [t.get_text() for t in figure.axes[3].get_yticklabels()] == ["SimSiam", "no stop-gradient"]


def test_where_seeds_differ_in_number_the_legend_counts_them():
    assert legend(plot.ablation([*sweep(), run("neither")])) == [
        "SimSiam (n = 3)",
        "no stop-gradient (n = 3)",
        "neither of the two (n = 1)",
    ]


def test_the_baselines_stand_where_they_were_measured():
    ax = plot.ablation(sweep(), baselines={"raw_pixels_knn": 0.2, "random_backbone_knn": None}).axes[3]
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [0.2]
    assert "raw pixels" in [t.get_text() for t in ax.get_yticklabels()]
    assert "random backbone" not in [t.get_text() for t in ax.get_yticklabels()]


def test_the_accuracies_are_written_as_mean_and_sd():
    figure = plot.ablation([run(seed=i, knn=k) for i, k in enumerate((0.8, 0.9))])
    assert "85.0 ± 7.1 %" in texts(figure)


def test_theory_s_reference_lines_are_there():
    loss, std, rank, _ = plot.ablation(sweep()).axes
    for ax, values in ((loss, {-1}), (std, {0, 1}), (rank, {1})):
        assert values <= {line.get_ydata()[0] for line in ax.lines if len(set(line.get_ydata())) == 1}
        low, high = ax.get_ylim()
        assert all(low < value < high for value in values)


def test_a_loss_that_is_no_cosine_gets_no_floor_at_minus_one():
    ax = plot.ablation([run(loss=-5.0)]).axes[0]
    assert not any("agree perfectly" in t.get_text() for t in ax.texts)


def test_a_run_that_diverged_is_marked_where_it_did():
    row = run(knn=None)
    for line in row["history"][6:]:
        line.update(loss=None, std=None, effective_rank=None)
    figure = plot.ablation([row, run("neither")])
    cross = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert cross[0].get_xdata() == [64 * 6]
    assert "diverged" in texts(figure)
    assert "not measured" in texts(figure)
    assert plot.png(figure)


def test_a_name_that_looks_like_a_formula_is_shown_as_it_is():
    figure = plot.ablation([run(r"$\nonsense{$ <b>")])
    assert legend(figure) == [r"$\nonsense{$ <b>"]
    assert plot.png(figure)  # read as a formula it would raise


def test_no_rows_is_an_error():
    with pytest.raises(InputError, match="no runs"):
        plot.ablation([])


def test_curves_show_knn_only_where_it_was_taken():
    history = run()["history"]
    assert len(plot.curves(history).axes) == 3
    history[-1]["knn"] = 0.7
    figure = plot.curves({"mine": history, "simsiam": run()["history"]}, title="Two runs")
    assert len(figure.axes) == 4
    assert legend(figure) == ["mine", "SimSiam"]
    assert "Two runs" in texts(figure)


# ---- files and settings


def test_a_png_has_the_size_of_its_figure_and_is_not_blank():
    figure = plot.ablation(sweep())
    image = Image.open(io.BytesIO(plot.png(figure)))
    assert image.size == (900, round(100 * figure.get_figheight()))
    assert image.width <= 1000  # a notebook's cell
    assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 50


def test_a_stored_picture_is_small_and_looks_the_same():
    figure = plot.ablation(sweep())
    full = Image.open(io.BytesIO(plot.png(figure))).convert("RGB")
    data, kind = plot.picture(figure)
    small = Image.open(io.BytesIO(data))
    assert kind == "png" and small.mode == "P" and len(data) < len(plot.png(figure)) / 2
    assert np.abs(np.asarray(small.convert("RGB"), float) - np.asarray(full)).mean() < 1


@pytest.mark.parametrize(("smooth", "kind"), [(True, "jpeg"), (False, "png")])
def test_photographs_keep_all_their_colours(smooth, kind):
    rng = np.random.default_rng(0)
    if smooth:  # three ramps and some grain: as in a sky
        ramp = np.stack(np.broadcast_arrays(*np.ogrid[0:1:320j, 0:1:480j], 0.5), axis=-1)
        photo = (ramp + 0.01 * rng.standard_normal(ramp.shape)).clip(0, 1)
    else:  # large squares, each of one colour: JPEG would be larger and worse
        photo = np.kron(rng.random((20, 30, 3)), np.ones((16, 16, 1)))
    figure = Figure(figsize=(4.8, 3.2), dpi=100)
    figure.figimage(photo)
    data, found = plot.picture(figure)
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)
    assert found == kind
    assert np.abs(shown - np.asarray(Image.open(io.BytesIO(plot.png(figure))).convert("RGB"))).mean() < 2.5


def test_the_same_numbers_give_the_same_bytes():
    assert plot.png(plot.ablation(sweep())) == plot.png(plot.ablation(sweep()))


def test_nothing_is_cut_off_at_the_edges():
    for rows in (sweep(), [run(f"a_variant_with_a_long_name_{i}") for i in range(7)]):
        pixels = np.asarray(Image.open(io.BytesIO(plot.png(plot.ablation(rows)))).convert("L"))
        edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (edges == 255).all()


def test_drawing_leaves_no_setting_and_no_pyplot_figure_behind():
    before = dict(matplotlib.rcParams)
    plot.png(plot.ablation(sweep()))
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


# ---- maps of the features


@pytest.fixture
def clusters():
    """Ten classes of 30 images, each around its own direction."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(10).repeat_interleave(30)
    centres = torch.eye(10, 32)
    return centres[labels] + 0.05 * torch.randn(300, 32, generator=generator), labels


def neighbours_agree(points: np.ndarray, labels: torch.Tensor) -> float:
    distances = torch.cdist(torch.as_tensor(points), torch.as_tensor(points)).fill_diagonal_(torch.inf)
    return (labels[distances.argmin(dim=1)] == labels).float().mean().item()


def test_umap_keeps_classes_together_and_repeats_itself(clusters):
    features, labels = clusters
    points, method = plot.embedding_2d(features, seed=3)
    assert (points.shape, points.dtype, method) == ((300, 2), np.float32, "umap")
    assert neighbours_agree(points, labels) > 0.95
    assert np.array_equal(points, plot.embedding_2d(features, seed=3)[0])


def test_pca_is_scikit_learn_s_of_the_normalised_rows(clusters):
    from sklearn.decomposition import PCA

    points, method = plot.embedding_2d(clusters[0], method="pca")
    rows = torch.nn.functional.normalize(clusters[0], dim=1).numpy()
    assert method == "pca"
    assert np.allclose(points, PCA(2, svd_solver="full").fit_transform(rows), atol=1e-5)


def test_without_umap_pca_takes_over_and_the_figure_says_so(clusters, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    assert plot.embedding_2d(clusters[0])[1] == "pca"
    assert any(
        "PCA, because umap-learn is not installed" in t for t in texts(plot.triptych({"a": clusters[0]}))
    )


@pytest.mark.parametrize("method", ["umap", "pca"])
def test_features_that_are_all_alike_are_one_point(method):
    points, _ = plot.embedding_2d(torch.ones(50, 8) * torch.linspace(1, 2, 50)[:, None], method=method)
    assert (points == 0).all()


@pytest.mark.parametrize(
    ("features", "method", "said"),
    [
        (torch.ones(10, 4), "tsne", "no method 'tsne'"),
        (torch.ones(2, 4), "pca", "at least three images"),
        (torch.ones(10), "pca", "at least three images"),
        (torch.full((10, 4), torch.nan), "pca", "NaN or infinity"),
    ],
)
def test_features_without_a_map_are_an_error(features, method, said):
    with pytest.raises(InputError, match=said):
        plot.embedding_2d(features, method=method)


def test_the_triptych_names_its_panels_its_accuracies_and_its_classes(clusters):
    features, labels = clusters
    classes = tuple(f"kind {i}" for i in range(10))
    figure = plot.triptych(
        {"random": features, "collapsed": torch.ones(300, 4), "healthy": features},
        labels, classes, knn={"random": 0.187, "healthy": 0.88, "collapsed": None}, method="pca",
    )  # fmt: skip
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["random: kNN 18.7 %", "collapsed", "healthy: kNN 88.0 %"]
    assert legend(figure) == list(classes)
    assert any("one point" in t for t in texts(figure))


def test_a_class_has_the_same_colour_and_marker_in_every_panel_and_no_other_class_has_it(clusters):
    features, labels = clusters
    figure = plot.triptych({"a": features, "b": features.flip(1)}, labels, method="pca")
    looks = []
    for ax in figure.axes:
        dots = [c for c in ax.collections if isinstance(c, PathCollection)]
        assert [len(c.get_offsets()) for c in dots] == [30] * 10
        looks.append([(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in dots])
    assert looks[0] == looks[1]
    assert len({colour for colour, _ in looks[0]}) == len({marker for _, marker in looks[0]}) == 10


def test_the_triptych_works_without_labels_with_some_and_with_many_classes(clusters):
    features, labels = clusters
    assert not plot.triptych({"a": features}, method="pca").legends
    some = torch.where(labels < 2, labels, -1)
    assert legend(plot.triptych({"a": features}, some, method="pca")) == ["unlabelled", "class 0", "class 1"]
    assert not plot.triptych({"a": features}, torch.arange(300) // 3, method="pca").legends


def test_a_large_set_is_thinned_alike_in_every_panel_and_the_figure_counts(clusters):
    figure = plot.triptych({"a": clusters[0], "b": clusters[0]}, method="pca", limit=100)
    a, b = (ax.collections[0].get_offsets() for ax in figure.axes)
    assert len(a) == 100
    assert np.array_equal(a, b)
    assert any("100 images" in t for t in texts(figure))


def test_a_model_that_diverged_has_a_panel_that_says_so(clusters):
    figure = plot.triptych({"a": clusters[0], "b": torch.full((300, 4), torch.nan)}, method="pca")
    assert "diverged: no finite features" in texts(figure)


def test_features_of_different_images_are_an_error(clusters):
    with pytest.raises(InputError, match="same images"):
        plot.triptych({"a": clusters[0], "b": clusters[0][:-1]}, method="pca")
    with pytest.raises(InputError, match="same images"):
        plot.triptych({"a": clusters[0]}, clusters[1][:-1], method="pca")


def test_spectra_are_those_of_collapse_and_the_legend_has_the_ranks():
    from simsiam_course.collapse import spectrum

    z = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    line = torch.linspace(-1, 1, 50)[:, None] * torch.ones(1, 4)
    figure = plot.spectra({"simsiam": z, "neither": line, "no_predictor": torch.full((9, 3), torch.nan)})
    healthy, collapsed = figure.axes[0].lines
    assert np.allclose(healthy.get_ydata(), spectrum(z).numpy())
    assert collapsed.get_ydata().tolist() == pytest.approx([1.0])
    assert figure.axes[0].get_yscale() == "log"
    assert legend(figure)[1:] == ["neither of the two: effective rank 1.0", "no predictor: diverged"]


# ---- pictures


@pytest.fixture
def images():
    pixels = torch.randint(
        0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return ImageSet(pixels, torch.arange(12) % 3, ("cat", "dog", "a_very_long_class_name"))


def test_the_contact_sheet_shows_the_originals_and_two_different_views(images):
    figure = plot.views(images, PRESETS["cifar"], count=4)
    shown = [np.asarray(ax.get_images()[0].get_array()) for ax in figure.axes]
    assert len(shown) == 12
    assert np.allclose(shown[1] * 255, images.images[1].permute(1, 2, 0).numpy())
    assert not np.allclose(shown[4], shown[8])
    assert all(image.min() >= 0 and image.max() <= 1 for image in shown)
    assert {"original", "view 1", "view 2", "cat", "a_very_long_…"} <= set(texts(figure))


def test_the_gallery_shows_the_neighbours_and_tells_right_from_wrong_without_colour(images):
    figure = plot.gallery(images, torch.tensor([[0, 3, 1], [1, 0, 4]]))
    shown = [np.asarray(ax.get_images()[0].get_array()) for ax in figure.axes]
    assert np.allclose(shown[2] * 255, images.images[3].permute(1, 2, 0).numpy())
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["cat", "cat", "cat", "× dog", "dog", "dog", "× cat", "dog"]
    assert [figure.axes[i].spines["top"].get_linestyle() for i in (2, 3)] == ["-", (0, (3, 1.6))]


def test_the_gallery_works_without_labels(images):
    bare = ImageSet(images.images)
    figure = plot.gallery(bare, torch.tensor([[1, 2]]), queries=images)
    assert figure.axes[1].get_title() == ""
    assert plot.png(figure)


def test_neighbours_that_do_not_fit_are_an_error(images):
    for wrong in (
        torch.tensor([[12]]),
        torch.tensor([[-1]]),
        torch.tensor([0, 1]),
        torch.zeros(13, 2).long(),
    ):
        with pytest.raises(InputError, match="do not fit"):
            plot.gallery(images, wrong)
