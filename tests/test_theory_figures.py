"""The figures of the pages on theory show the numbers that they are given."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from odelib.book import adjoint_figures, diagrams, field_figures, plots, resnet_figures, solver_figures
from odelib.book.front import flow_of_digits
from odelib.solvers import TABLEAUS, Step


def lines(ax):
    """What is drawn under each label, as points in a row."""
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_against_steps_has_a_tick_at_every_number_and_dashes_where_asked():
    figure = plots.against_steps([2, 4], {"a": [1.0, 0.5], "b": [2.0, 0.25]}, "error", "layers", dashed=["b"])
    (ax,) = figure.axes
    assert lines(ax) == {"a": [[2, 1], [4, 0.5]], "b": [[2, 2], [4, 0.25]]}
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["2", "4"]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "log", "layers", "error")


@pytest.mark.parametrize("n, beside", [(6, False), (7, True)])
def test_a_long_legend_stands_beside_the_axes(n, beside):
    figure = plots.against_steps([1, 2], {str(k): [1.0, 2.0] for k in range(n)}, "error")
    figure.canvas.draw()
    (ax,) = figure.axes
    assert (ax.get_legend().get_window_extent().x0 > ax.get_window_extent().x1) == beside


# From residual networks to ODEs


def test_leaps_are_lines_with_a_ring_at_their_start_over_arrows_of_one_length():
    states = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[2.0, 0.5], [1.0, -1.0]]])
    figure = resnet_figures.leaps_over_a_field(lambda z: 3 * z.flip(1), {"1 layer": states}, reach=(2.0, 1.5))
    (ax,) = figure.axes
    first, ring, second, _ = (line.get_xydata().tolist() for line in ax.lines)
    assert (first, ring, second) == ([[0, 0], [2, 0.5]], [[0, 0]], [[1, 1], [1, -1]])
    assert (ax.get_title(), ax.get_xlim(), ax.get_ylim()) == ("1 layer", (-2, 2), (-1.5, 1.5))
    (arrows,) = ax.collections
    lengths = np.hypot(arrows.U, arrows.V)
    assert len(lengths) == 15 * 11 and np.allclose(lengths, 1)
    corner = int(np.argmin(arrows.get_offsets().sum(axis=1)))
    assert (arrows.U[corner], arrows.V[corner]) == pytest.approx((-1.5 / 2.5, -2 / 2.5))


def test_states_stand_against_the_share_of_the_layers_passed_on_one_scale():
    stacks = {
        "smooth": [torch.tensor([0.0, 1.0, 4.0])],
        "random": [torch.tensor([0.0, 2.0]), torch.tensor([0.0, -9.0])],
    }
    left, right = resnet_figures.along_the_depth(stacks).axes
    assert left.lines[0].get_xydata().tolist() == [[0, 0], [0.5, 1], [1, 4]]
    assert [line.get_ydata().tolist() for line in right.lines] == [[0, 2], [0, -9]]
    assert left.get_ylim() == right.get_ylim() and left.get_ylim()[0] < -9


def test_space_is_seen_from_the_side_and_the_plane_as_it_is():
    plane = torch.tensor([[1.0, 2.0]])
    assert torch.equal(resnet_figures.seen_from_the_side(plane), plane)
    side = resnet_figures.seen_from_the_side(torch.eye(3))
    assert side[0].tolist() == [1, 0] and side[2, 0] == 0 and side[2, 1] > side[1, 1] > 0


def test_rings_have_the_colours_of_their_classes():
    curves = [(0, torch.tensor([[0.0, 1.0], [1.0, 0.0]])), (1, torch.tensor([[0.0, 2.0], [2.0, 0.0]]))]
    (ax,) = resnet_figures.rings_carried({"start": curves}).axes
    assert [line.get_color() for line in ax.lines] == list(plots.COLORS[:2])
    assert [line.get_xydata().tolist() for line in ax.lines] == [points.tolist() for _, points in curves]


# Solvers


def test_the_gaps_of_a_fan_join_the_curves_and_add_up_to_the_error():
    times, states = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 2.0, 4.0])  # Euler's steps for theta = 2
    (ax,) = solver_figures.fans({2.0: (times, states)}).axes
    *curves, steps = ax.lines
    assert [line.get_ydata()[0] for line in curves] == [1, 2, 4]
    assert [line.get_ydata()[-1] for line in curves] == pytest.approx([math.exp(2), 2 * math.e, 4])
    assert steps.get_xydata().tolist() == [[0, 1], [0.5, 2], [1, 4]]
    bars = [bar.get_segments()[0] for bar in ax.collections]
    assert [bar[0, 0] for bar in bars] == pytest.approx([0.5, 1.05, 1, 1.05])
    assert [bar[:, 1].tolist() for bar in bars] == [
        pytest.approx(ends) for ends in ([2, math.e], [2 * math.e, math.exp(2)], [4, 2 * math.e], [4, 2 * math.e])
    ]
    assert sum(np.ptp(bar[:, 1]) for bar in bars[1::2]) == pytest.approx(math.exp(2) - 4)


def test_once_round_a_circle_euler_leaves_it_and_rk4_stays():
    figure = solver_figures.once_round_a_circle([TABLEAUS["euler"], TABLEAUS["rk4"]])
    assert [ax.get_title() for ax in figure.axes] == ["euler", "rk4"]
    radii = []
    for ax in figure.axes:
        path = ax.lines[1].get_xydata()
        assert len(path) == 21 and path[0].tolist() == [1, 0]
        radii.append(np.linalg.norm(path[-1]))
    assert radii[0] == pytest.approx((1 + (2 * math.pi / 20) ** 2) ** 10) and radii[1] == pytest.approx(1, abs=1e-3)


def test_the_line_of_a_stability_region_is_where_the_factor_has_the_size_one():
    figure = solver_figures.stability_regions({"euler": lambda w: 1 + w, "none": lambda w: 0 * w})
    (ax,) = figure.axes
    circle = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    assert np.abs(circle @ [1, 1j] + 1) == pytest.approx(np.ones(len(circle)), abs=1e-3)
    assert not any(len(path.vertices) for path in ax.collections[1].get_paths())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["euler", "none"]


def test_steps_are_dots_at_their_ends_and_crosses_where_rejected_ones_began():
    steps = [Step(0.0, 0.5), Step(0.5, 1.0, accepted=False), Step(0.5, 0.25)]
    times = torch.linspace(0, 1, 11)
    figure = solver_figures.steps_taken(steps, times, 10 * times)
    top, bottom = figure.axes
    curve, accepted, rejected = (line.get_xydata().tolist() for line in top.lines)
    assert np.allclose(accepted, [[0.5, 5], [0.75, 7.5]]) and np.allclose(rejected, [[0.5, 5]]) and len(curve) == 11
    assert lines(bottom) == {"accepted": [[0, 0.5], [0.5, 0.25]], "rejected": [[0.5, 1]]}


def test_work_and_precision_are_points_of_nfe_and_error():
    problems = {"smooth": {"rk4": [(4, 1e-1), (8, 1e-2)]}, "kinks": {"euler": [(1, 1.0)]}}
    figure = solver_figures.work_precision(problems)
    assert [ax.get_title() for ax in figure.axes] == list(problems)
    assert [lines(ax) for ax in figure.axes] == [{"rk4": [[4, 0.1], [8, 0.01]]}, {"euler": [[1, 1]]}]


def test_errors_stand_against_the_tolerance_and_against_nfe():
    figure = solver_figures.tolerance_and_work({"ReLU": [(1e-1, 1e-2), (1e-2, 1e-3)]}, {"euler": [(2, 0.5)]})
    left, right = figure.axes
    points, diagonal = (line.get_xydata().tolist() for line in left.lines)
    assert points == [[0.1, 0.01], [0.01, 0.001]] and diagonal == [[0.01, 0.01], [0.1, 0.1]]
    assert lines(right) == {"euler": [[2, 0.5]]}


def test_calls_stand_in_their_order_and_the_end_of_a_step_beyond_the_end_is_drawn_for_calls_alone():
    figure = solver_figures.calls_and_errors([0.0, 0.4, 1.2], [0.5, 1.25], torch.tensor([0.0, 1.0]), [0.0, 0.1])
    left, right = figure.axes
    assert left.lines[0].get_xydata().tolist() == [[1, 0], [2, 0.4], [3, 1.2]]
    assert [line.get_ydata()[0] for line in left.lines[1:]] == [1, 0.5, 1.25]
    assert right.lines[0].get_xydata().tolist() == [[0, 0], [1, 0.1]]
    assert [line.get_xdata()[0] for line in right.lines[1:]] == [0.5]


# Fields


def test_speeds_lie_under_their_bound():
    times = torch.tensor([0.0, 1.0])
    speed, cosine = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 1.0], [0.5, 0.25]])
    left, right = field_figures.speed_and_turn(times, speed, 5.0, cosine).axes
    assert [list(line.get_ydata()) for line in left.lines] == [[1, 3], [2, 4], [5, 5]]
    assert [list(line.get_ydata()) for line in right.lines] == [[1, 0.5], [1, 0.25]]


def test_influence_is_a_share_of_the_strongest_and_none_stays_white():
    ax, _ = field_figures.influence_maps({"one": torch.tensor([[0.0, 0.5], [5.0, 0.05]])}).axes
    shown = ax.images[0].get_array()
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown)).tolist() == [[True, False], [False, False]]
    np.testing.assert_allclose(np.ma.masked_invalid(shown).compressed(), [-1, 0, -2], atol=1e-6)


def test_velocities_are_shown_for_the_channels_in_which_they_change_most():
    states = torch.arange(3 * 5 * 4.0).view(3, 5, 2, 2)
    velocities = {t: torch.zeros(5, 2, 2) for t in (0.0, 0.5, 1.0)}
    for channel, change in enumerate((3.0, 1.0, 5.0, 2.0, 4.0)):
        velocities[1.0][channel] = change
    velocities[0.5][2] = -7.0
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    figure = field_figures.velocity_maps(image, "a 4", states, velocities, channels=4)
    *maps, digit = (ax for ax in figure.axes if ax.images)
    rows = [maps[k : k + 5] for k in range(0, 20, 5)]
    assert [row[0].get_ylabel() for row in rows] == ["ch. 2", "ch. 4", "ch. 0", "ch. 3"] and digit.get_title() == "a 4"
    titles = [ax.get_title() for ax in rows[0]]
    assert titles == ["$z(0)$", "$f$, 0.0", "$f$, 0.5", "$f$, 1.0", "$z(1)$"]
    start, *between, end = rows[0]
    np.testing.assert_array_equal(start.images[0].get_array(), states[0, 2])
    np.testing.assert_array_equal(end.images[0].get_array(), states[-1, 2])
    assert start.images[0].get_clim() == end.images[0].get_clim() == (states[:, 2].min(), states[:, 2].max())
    assert [ax.images[0].get_array()[0, 0] for ax in between] == [0, -7, 5]
    assert {ax.images[0].get_clim() for ax in between} == {(-7.0, 7.0)}


# The adjoint


def test_the_adjoint_is_drawn_piece_by_piece_and_named_once():
    late = torch.tensor([1.0, 0.5]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    early = torch.tensor([0.5, 0.0]), torch.tensor([[5.0, 6.0], [7.0, 8.0]])
    (ax,) = adjoint_figures.adjoint_with_jumps([late, early], [0.5, 1.0]).axes
    drawn = [line.get_xydata().tolist() for line in ax.lines]
    assert drawn[:2] == [[[1, 1], [0.5, 3]], [[1, 2], [0.5, 4]]]
    assert drawn[2:4] == [[[0.5, 5], [0, 7]], [[0.5, 6], [0, 8]]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["$a_1$", "$a_2$"]
    assert [line.get_color() for line in ax.lines[:2]] == [line.get_color() for line in ax.lines[2:4]]
    assert [line.get_xdata()[0] for line in ax.lines[4:]] == [0.5, 1]


def test_the_error_of_a_gradient_is_drawn_with_accuracy_to_the_right():
    problems = {"smooth": {"direct": [0.1, 0.01], "adjoint": [0.2, 0.02]}, "trained": {"direct": [0.3, 0.2]}}
    left, right = adjoint_figures.gradient_error_by_tolerance([1e-2, 1e-3], problems).axes
    assert lines(left)["direct"] == [[0.01, 0.1], [0.001, 0.01]] and lines(left)["adjoint"][1] == [0.001, 0.02]
    assert left.lines[-1].get_xydata().tolist() == [[0.01, 0.01], [0.001, 0.001]]
    assert [ax.get_title() for ax in (left, right)] == list(problems) and left.get_xlim()[0] > left.get_xlim()[1]


@pytest.mark.parametrize("name", ["backward-pass", "adjoint-proofs"])
def test_a_drawing_stands_in_the_page_and_says_what_is_in_it(monkeypatch, name):
    shown = []
    monkeypatch.setattr(diagrams, "display", lambda data, raw: shown.append(data))
    diagrams.diagram(name, 'a "drawing" of <two> things')
    page = shown[0]["text/html"]
    assert shown[0]["text/plain"] == 'a "drawing" of <two> things'
    assert 'role="img" aria-label="a &quot;drawing&quot; of &lt;two&gt; things"' in page
    assert page.count("<svg") == page.count("</svg>") == 1
    drawing = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    width = float(drawing.get("viewBox").split()[2])
    assert width <= 360  # so that its text has its size on a phone
    for element in drawing.iter():
        used = {"fill", "stroke", "style"} & set(element.keys())
        assert not used, f"{element.tag} has a colour of its own"  # which would not follow the theme


# The first page


def test_the_first_page_shows_every_digit_at_six_times():
    figure = flow_of_digits(40)
    assert [ax.get_title() for ax in figure.axes] == [f"t = {k / 5:g}" for k in range(6)]
    for ax in figure.axes:
        assert sum(len(dots.get_offsets()) for dots in ax.collections) == 40
