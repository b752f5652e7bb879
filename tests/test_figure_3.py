"""Figure 3 of the paper: the Adams solver, the evaluations that are counted, and what the page shows of them."""

import copy
from dataclasses import replace

import pytest
import torch

from odelib import ODEBlock, Solver, build, count_evaluations
from odelib.book.record_figures import figure_3
from odelib.errors import SolverError
from odelib.measurements import MEASUREMENTS, Subject
from odelib.measurements.figure_3 import Figure3, Figure3Row, adams, measure_figure_3
from odelib.measurements.gradient_error import Problem
from odelib.records import Environment
from odelib.studies import STUDIES, modern

TIMES = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)


def swing(t, z):
    """A pendulum's small swing: its states lie on a circle."""
    return torch.stack([z[1], -z[0]])


def test_adams_follows_the_solution_as_closely_as_the_tolerance_asks():
    z = torch.tensor([1.0, 0.0], dtype=torch.float64)
    exact = torch.stack([torch.cos(TIMES), -torch.sin(TIMES)], dim=1)
    errors = [(adams(swing, z, TIMES, tolerance) - exact).abs().max() for tolerance in (1e-2, 1e-5, 1e-8)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2] and errors[2] < 1e-6


def test_adams_goes_back_in_time():
    z = torch.tensor([0.6, 0.8], dtype=torch.float64)
    there = adams(swing, z, TIMES[[0, 2]], 1e-9)[-1]
    torch.testing.assert_close(adams(swing, there, TIMES[[2, 0]], 1e-9)[-1], z, rtol=0, atol=1e-7)


@pytest.mark.filterwarnings("ignore:vode")
def test_adams_says_where_it_gives_up():
    with pytest.raises(SolverError, match="VODE gave up at a tolerance of 0.001"):
        adams(lambda t, z: -1e7 * z, torch.ones(1, dtype=torch.float64), TIMES, 1e-3)


@pytest.fixture
def subject(quick, tiny, tmp_path):
    config = replace(quick, method="dopri5", step_size=None)
    return Subject({"direct-dopri5": config}, tiny, torch.device("cpu"), tmp_path, build(config, tiny).eval())


def test_evaluations_are_those_of_the_blocks_in_float64(subject, tmp_path):
    found = measure_figure_3(subject, images=2, batches=(1,), tolerances=(1e-1, 1e-3))
    assert [(row.solver, row.tolerance, row.batch) for row in found.rows] == [
        (solver, tolerance, 1) for solver in ("adams", "dopri5") for tolerance in (1e-1, 1e-3)
    ]
    problem = Problem(subject, 2, 1)
    block = ODEBlock(copy.deepcopy(problem.f).double(), Solver(rtol=1e-3, atol=1e-3))
    with count_evaluations(block) as spent:
        block(problem.z.double())
    assert found.rows[-1].nfe_forward == spent.n
    for solver in ("adams", "dopri5"):
        loose, tight = (row for row in found.rows if row.solver == solver)
        assert tight.state_error < loose.state_error and tight.nfe_forward > loose.nfe_forward
        assert tight.nfe_backward_large >= tight.nfe_backward > 0
    found.save(tmp_path / "figure-3.json")
    assert MEASUREMENTS["figure-3"].record.load(tmp_path / "figure-3.json") == found


def rows(solver, *values):
    """Of one batch, by tolerance: (tolerance, forward, backward, backward with a large loss, error)."""
    return [Figure3Row(solver, t, 0, n, b, large, error) for t, n, b, large, error in values]


def record():
    made = rows("adams", (0.1, 10, 8, 9, 0.02), (1e-3, 40, 20, 30, 1e-3))
    made += rows("dopri5", (0.1, 14, 14, 14, 0.01), (1e-3, 26, 26, 52, 4e-3))
    return Figure3(Environment.here(torch.device("cpu"), "odelib.measurements.figure_3"), 4, tuple(made))


def test_numbers_are_the_least_and_the_largest_ratio():
    runs = STUDIES["mnist-gradients"].runs()["adjoint-dopri5"]
    said = modern.figure_3_numbers(record(), runs)
    assert said["adams-ratio"] == "0.50 to 0.80" and said["adams-ratio-large"] == "0.8 to 0.9"
    assert said["dopri5-ratio"] == "1.00 to 1.00" and said["dopri5-ratio-large"] == "1.0 to 2.0"
    assert (said["adams-error-least"], said["adams-error-most"]) == ("0.20", "1.0")
    assert said["dopri5-error-most"] == "4.0" and said["nfe-seeds"] == str(len(runs))


def test_no_backward_solve_takes_half_and_not_all_take_as_many():
    rows = STUDIES["mnist-gradients"].measured("figure-3").rows
    ratios = [row.nfe_backward / row.nfe_forward for row in rows]
    assert 0.6 < min(ratios) < 0.9 and max(ratios) <= 1
    tuning = STUDIES["cifar10-tuning"].runs()["adaptive-adjoint"]  # where the backward solve takes more
    assert all(run.last.nfe_backward > run.last.nfe_forward for run in tuning)


def test_the_figure_shows_each_solver_and_each_run():
    runs = STUDIES["mnist-gradients"].runs()["adjoint-dopri5"]
    error, backward, epochs = figure_3(record(), runs).axes
    assert [line.get_xydata().tolist() for line in error.lines] == [[[10, 0.02], [40, 1e-3]], [[14, 0.01], [26, 4e-3]]]
    assert [line.get_ydata().tolist() for line in backward.lines[:4]] == [[8, 20], [9, 30], [14, 26], [14, 52]]
    assert [line.get_ydata().tolist() for line in backward.lines[4:]] == [[10, 40], [5, 20]]
    assert len(epochs.lines) == len(runs)
