"""Figures show the numbers of the records; tables and numbers for the prose are what they say."""

import builtins

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from odelib import pages
from odelib.studies import STUDIES
from odelib.book.plots import accuracy_by_epoch, confusion, effects, flow, image_grid, metrics_by_epoch


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def study():
    return load_study("mnist-gradients")


def drawn(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


def test_a_line_is_the_mean_over_runs_and_a_band_reaches_from_least_to_most(study):
    repeats = [study["none"][0], study["resnet-6"][0]]  # two different runs stand for two seeds
    figure = metrics_by_epoch({"a": repeats}, ["test_accuracy", "seconds"])
    values = np.array([[m.test_accuracy for m in run.metrics] for run in repeats])
    np.testing.assert_allclose(drawn(figure.axes[0])["a"], 100 * values.mean(axis=0))
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(100 * values.min()) and band.max() == pytest.approx(100 * values.max())
    seconds = np.array([[m.seconds for m in run.metrics] for run in repeats])
    np.testing.assert_allclose(drawn(figure.axes[1])["a"], seconds.mean(axis=0))


def test_accuracies_stand_in_columns_and_an_empty_group_says_nothing(study, recwarn):
    figure = accuracy_by_epoch({"ODE": {}, "controls": {"none": study["none"]}})
    top, bottom = figure.axes[1], figure.axes[3]
    (run,) = study["none"]
    np.testing.assert_allclose(drawn(top)["none"], [100 * m.train_accuracy for m in run.metrics])
    np.testing.assert_allclose(drawn(bottom)["none"], [100 * m.test_accuracy for m in run.metrics])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["ODE", "controls"] and not figure.axes[0].lines
    assert not recwarn.list


def test_every_image_gets_its_title(sample):
    figure = image_grid(sample.train.images[:5], list("abcde"), columns=3)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", "d", "e", ""]
    np.testing.assert_array_equal(figure.axes[4].images[0].get_array(), sample.train.images[4, 0])


def test_grey_and_coloured_images_of_different_sizes_stand_in_one_figure(sample):
    colour = torch.zeros(3, 2, 2, dtype=torch.uint8)
    figure = image_grid([sample.train.images[0], colour], ["digit", "black"], columns=2)
    assert [ax.images[0].get_array().shape for ax in figure.axes] == [(28, 28), (2, 2, 3)]


def test_the_flow_is_drawn_in_the_plane_of_the_class_means():
    """Three classes, far apart in the first two channels only at the end: there every class stays together."""
    labels = torch.arange(3).repeat(4)
    corners = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])[labels]
    states = torch.stack([torch.zeros(12, 3), corners])[..., None, None].expand(2, 12, 3, 2, 2)
    figure = flow(states, labels, [0.0, 1.0])
    start, end = ([c.get_offsets() for c in ax.collections] for ax in figure.axes[:2])
    assert all((np.ptp(points, axis=0) < 1e-5).all() for points in (*start, *end))
    sides = sorted(np.linalg.norm(end[i][0] - end[j][0]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert sides == pytest.approx([9, 9, 9 * 2**0.5], rel=1e-5)


def test_effects_are_dots_at_the_mean_with_bars_over_the_seeds_in_order():
    groups = {"first": {"a": [1.0, 2.0], "b": [-3.0, -1.0], "c": [4.0]}, "second": {"d": [0.5]}}
    figure = effects(groups, [-0.5, 0.25, 0.25], "points")
    ax, last = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "a", "c"]
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [-2, 1.5, 4])
    bars = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()]
    assert bars == [[-3, -1], [1, 2], [4, 4]]
    assert (ax.get_title(), last.get_title(), last.get_xlabel()) == ("first", "second", "points")
    for panel in (ax, last):
        assert panel.get_xlim() == last.get_xlim()
        assert panel.patches[0].get_extents().get_points()[:, 0] == pytest.approx(
            panel.transData.transform([[-0.5, 0], [0.25, 0]])[:, 0]
        )


def test_confusion_is_in_percent_of_the_true_class():
    counts = torch.tensor([[3, 0, 1], [0, 1, 0], [0, 1, 0]])
    figure = confusion(counts, ("cat", "dog", "fox"))
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.images[0].get_array(), [[75, 0, 25], [0, 100, 0], [0, 100, 0]])
    assert {(t.get_position(), t.get_text()) for t in ax.texts} == {
        ((0, 0), "75"), ((2, 0), "25"), ((1, 1), "100"), ((1, 2), "100")
    }


@pytest.mark.parametrize("values, said", [([1.5], "1.50"), ([1.0, 3.0, 2.0], "2.00 (1.00 to 3.00)")])
def test_mean_and_range(values, said):
    assert pages.mean_and_range(values) == said


def test_a_table_sets_numbers_to_the_right_and_text_to_the_left(monkeypatch):
    shown = []
    monkeypatch.setattr(pages, "display", shown.append)
    pages.table(["name", "n", "share"], [["a", 3, "0.5%"], ["b", 4, "1%"]])
    assert shown[0].data.splitlines()[1:] == ["| :-- | --: | --: |", "| a | 3 | 0.5% |", "| b | 4 | 1% |"]


def test_glue_does_nothing_where_the_books_tools_are_not_installed(monkeypatch):
    real = builtins.__import__

    def without_myst(name, *rest):
        if name == "myst_nb":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_myst)
    pages.glue("key", "value")
