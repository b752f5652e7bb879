"""Figures show the numbers of the records; tables and numbers for the prose are what they say."""

import builtins

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from odelib.book import pages
from odelib.book.gradient_figures import loss_scale
from odelib.book.plots import (
    COLORS,
    bars,
    confusion,
    curves,
    flow,
    image_grid,
    metrics_by_epoch,
    panels,
    scatter,
    time_lines,
)
from odelib.book.trade_off_figures import error_against_time, error_by_epoch, work_and_precision
from odelib.measurements.loss_scale import LossScale, LossScaleRow
from odelib.studies import STUDIES, mnist
from odelib.studies.summary import final


@pytest.fixture(scope="module")
def study():
    return STUDIES["mnist-gradients"].runs()


def drawn(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


def drawn_points(ax):
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_pyplot_keeps_no_figure_so_that_a_notebook_shows_it_once():
    figure, (ax,) = panels(1)
    assert plt.get_fignums() == [] and ax.figure is figure


def test_a_line_is_the_mean_over_runs_and_a_band_reaches_from_least_to_most(study):
    repeats = [study["none"][0], study["resnet-6"][0]]  # two different runs stand for two seeds
    figure = metrics_by_epoch({"a": repeats}, ["test_accuracy", "seconds"])
    values = np.array([[m.test_accuracy for m in run.metrics] for run in repeats])
    np.testing.assert_allclose(drawn(figure.axes[0])["a"], 100 * values.mean(axis=0))
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(100 * values.min()) and band.max() == pytest.approx(100 * values.max())
    seconds = np.array([[m.seconds for m in run.metrics] for run in repeats])
    np.testing.assert_allclose(drawn(figure.axes[1])["a"], seconds.mean(axis=0))


def test_errors_stand_in_columns_and_an_empty_group_says_nothing(study, recwarn):
    figure = error_by_epoch({"ODE": {}, "controls": {"none": study["none"][:1]}})
    top, bottom = figure.axes[1], figure.axes[3]
    run = study["none"][0]
    np.testing.assert_allclose(drawn(top)["none"], [100 * (1 - m.train_accuracy) for m in run.metrics])
    np.testing.assert_allclose(drawn(bottom)["none"], [100 * (1 - m.test_accuracy) for m in run.metrics])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["ODE", "controls"] and not figure.axes[0].lines
    assert not recwarn.list


def test_errors_stand_at_the_median_of_the_seconds_and_arrows_lead_from_direct_to_adjoint():
    study = STUDIES["mnist-gradients"]
    runs, timing = study.runs(), study.measured("timing")
    seconds = mnist.median_seconds(timing)
    figure = error_against_time(runs, timing)
    for ax, name in zip(figure.axes, ("test_accuracy", "train_accuracy")):
        drawn_at = {(x, y) for line in ax.lines for x, y in zip(*line.get_data())}
        for case, found in runs.items():
            if case != "seminorm-dopri5" and not case.endswith("rk4-4"):
                assert {(seconds[case], 100 * (1 - a)) for a in final(found, name)} <= drawn_at, case
        arrows = [text for text in ax.texts if text.arrow_patch]
        assert [arrow.xyann[0] for arrow in arrows] == [seconds[f"direct-{solver}"] for solver in mnist.SOLVERS]
        assert [arrow.xy[0] for arrow in arrows] == [seconds[f"adjoint-{solver}"] for solver in mnist.SOLVERS]


def test_work_and_precision_are_means_over_the_batches():
    record = STUDIES["mnist-gradients"].measured("work-precision")
    figure = work_and_precision(record)
    for ax, library in zip(figure.axes, ("torchdiffeq", "odelib")):
        mine = [row for row in record.rows if row.library == library]
        assert list(drawn(ax)) == list(dict.fromkeys(row.method for row in mine))
        errors = [row.theta_error for row in mine if (row.method, row.steps) == ("rk4", 4)]
        (line,) = [line for line in ax.lines if line.get_label() == "rk4"]
        assert line.get_xdata()[2] == 16 and line.get_ydata()[2] == pytest.approx(100 * sum(errors) / len(errors))


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


def colored(ax):
    """Left end, width and colour of every bar, by its row."""
    return [(round(p.get_x(), 6), p.get_width(), to_hex(p.get_facecolor()).upper()) for p in ax.patches]


def test_bars_are_stacked_from_their_parts_the_first_bar_on_top():
    parts = {"floor": {"a": 3.0, "b": 2.0}, "solver": {"a": 1.0, "b": 0.5}}
    figure = bars(parts, "ms", {"a": (3.5, 4.0, 4.25), "b": (2.0, 2.5, 3.0)}, colors=(COLORS[0], COLORS[4]))
    (ax,) = figure.axes
    assert colored(ax) == [(0, 3, COLORS[0]), (0, 2, COLORS[0]), (3, 1, COLORS[4]), (2, 0.5, COLORS[4])]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"] and ax.yaxis_inverted()
    whiskers = [segment[:, 0].tolist() for bar in ax.collections for segment in bar.get_segments()]
    assert whiskers == [[3.5, 4.25], [2, 3]]
    assert ax.get_xlabel() == "ms"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["floor", "solver"]


def test_a_part_need_not_have_every_bar_and_whiskers_are_not_needed():
    figure = bars({"direct": {"a": 3.0}, "adjoint": {"b": 2.0}}, "s")
    (ax,) = figure.axes
    assert [width for _, width, _ in colored(ax)] == [3, 0, 0, 2] and not ax.collections and not ax.lines


def test_curves_go_through_their_points_some_of_them_dashed():
    (ax,) = curves({"a": [(1, 2.0), (3, 4.0)], "b": [(5.0, 6.0)]}, "NFE", "MB", dashed=["b"]).axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 2], [3, 4]], [[5, 6]]]
    assert [(line.get_label(), line.get_linestyle()) for line in ax.lines] == [("a", "-"), ("b", "--")]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("NFE", "MB")


def test_points_have_a_colour_for_their_group_and_a_marker_for_their_kind():
    (ax,) = scatter(
        {"a": {"x": [(1.0, 2.0), (10.0, 3.0)], "y": [(5.0, 6.0)]}, "b": {"y": [(7.0, 8.0)]}}, "MB", "ms"
    ).axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 2], [10, 3]], [[5, 6]], [[7, 8]]]
    assert [line.get_label() for line in ax.lines] == ["a x", "a y", "b y"]
    assert [line.get_color() for line in ax.lines] == [COLORS[0], COLORS[0], COLORS[1]]
    assert ax.lines[0].get_marker() != ax.lines[1].get_marker() == ax.lines[2].get_marker()
    assert ax.get_xscale() == "log" and ax.get_ylim()[0] == 0


def test_the_scale_of_the_loss_is_drawn_as_the_size_of_the_adjoint(study):
    environment = study["none"][0].environment
    rows = tuple(
        LossScaleRow(gradient, scale, 1e-5 * scale, 26, nfe, error, 0.0)
        for gradient, scale, nfe, error in [
            ("adjoint", 1.0, 26, 0.08),
            ("adjoint", 100.0, 104, 0.01),
            ("seminorm", 1.0, 32, 0.06),
            ("seminorm", 100.0, 80, 0.02),
        ]
    )
    figure = loss_scale(LossScale(environment, 32, 1e-3, 0.05, rows))
    nfe, error, both = (drawn_points(ax) for ax in figure.axes)
    assert nfe["adjoint"] == [[1e-5, 26], [1e-3, 104]] and nfe["seminorm"] == [[1e-5, 32], [1e-3, 80]]
    np.testing.assert_allclose(error["adjoint"], [[1e-5, 8], [1e-3, 1]])
    np.testing.assert_allclose(both["seminorm"], [[32, 6], [80, 2]])
    np.testing.assert_allclose(np.array(both["direct"])[:, 1], 5)
    for ax in figure.axes[:2]:
        (band,) = ax.patches
        assert (band.get_x(), band.get_width()) == pytest.approx((1e-5, 31e-5))
        assert any(list(line.get_xdata()) == [1e-3, 1e-3] and line.get_linestyle() == ":" for line in ax.lines)
    assert any(list(line.get_ydata()) == [26, 26] for line in figure.axes[0].lines)


def test_time_lines_are_dotted_behind_their_last_mark_and_the_first_is_on_top():
    (ax,) = time_lines({"a": [1, 5], "b": [5, 10]}, {0: "0", 5: "one", 10: "two"}, "steps").axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "a"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "one", "two"]
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist(), line.get_linestyle()) for line in ax.lines]
    assert lines[:3] == [([0, 10], [0, 0], "-"), ([10, 10], [0, 0], ":"), ([5, 10], [0, 0], "None")]
    assert lines[3:] == [([0, 5], [1, 1], "-"), ([5, 10], [1, 1], ":"), ([1, 5], [1, 1], "None")]
    assert ax.get_xlabel() == "steps"


def test_confusion_is_in_percent_of_the_true_class():
    counts = torch.tensor([[3, 0, 1], [0, 1, 0], [0, 1, 0]])
    figure = confusion(counts, ("cat", "dog", "fox"))
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.images[0].get_array(), [[75, 0, 25], [0, 100, 0], [0, 100, 0]])
    assert {(t.get_position(), t.get_text()) for t in ax.texts} == {
        ((0, 0), "75"),
        ((2, 0), "25"),
        ((1, 1), "100"),
        ((1, 2), "100"),
    }


def shown_table(monkeypatch, header, rows):
    shown = []
    monkeypatch.setattr(pages, "display", shown.append)
    pages.table(header, rows)
    return shown[0].data.splitlines()


def test_a_table_sets_numbers_to_the_right_and_text_to_the_left(monkeypatch):
    lines = shown_table(monkeypatch, ["name", "n", "share"], [["a", 3, "0.5%"], ["b", 4, "1%"]])
    assert lines == ["| name | n | share |", "| :-- | --: | --: |", "| a | 3 | 0.5% |", "| b | 4 | 1% |"]


@pytest.mark.parametrize(
    "column, side",
    [
        (["-0.31", "+0.50"], "--:"),
        (["−0.31", 0.5], "--:"),
        (["1.50 (1.00 to 2.00)", "26.0 + 0.0"], "--:"),
        (["1e-3", "12 ms"], "--:"),
        (["–", 3, ""], "--:"),
        (["a", "3"], ":--"),
        (["3", "a"], ":--"),
        (["3 runs of x"], ":--"),
        (["2.9.0", "dopri5"], ":--"),
        (["–", ""], ":--"),
        (["resnet-1"], ":--"),
    ],
)
def test_all_cells_of_a_column_say_where_it_stands(monkeypatch, column, side):
    lines = shown_table(monkeypatch, ["case", "value"], [["x", cell] for cell in column])
    assert lines[1] == f"| :-- | {side} |"


def test_a_table_without_rows_shows_its_header(monkeypatch):
    assert shown_table(monkeypatch, ["case", "n"], []) == ["| case | n |", "| :-- | :-- |"]


def test_glue_does_nothing_where_the_books_tools_are_not_installed(monkeypatch):
    real = builtins.__import__

    def without_myst(name, *rest):
        if name == "myst_nb":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_myst)
    pages.glue("key", "value")


def test_all_numbers_of_a_page_are_glued_under_its_name(monkeypatch):
    glued = []
    monkeypatch.setattr(pages, "glue", lambda key, value: glued.append((key, value)))
    pages.glue_all("speed", {"a": "1", "b-2": "x"})
    assert glued == [("speed-a", "1"), ("speed-b-2", "x")]


def test_the_table_of_epochs_takes_runs_that_were_not_tested(monkeypatch):
    shown = []
    monkeypatch.setattr(pages, "table", lambda header, rows: shown.extend(rows))
    for study, case in (("mnist-gradients", "none"), ("cifar10-modern", "choice-baseline")):
        pages.metrics_table(STUDIES[study].runs()[case][0])
    tested, untested = shown[0], shown[-1]
    assert tested[3].endswith("%") and untested[3] == "–"
