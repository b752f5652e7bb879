"""What studies measure: the clock, the bytes kept for the backward pass, gradient errors, solvers swapped after training."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from odelib import Config, ImageClassifier, ODEBlock, RecordError, Solver, build
from odelib.measurements.confusion import count_confusion, measure_confusion
from odelib.measurements.cross_solver import SOLVERS, measure_cross_solver
from odelib.measurements import MEASUREMENTS
from odelib.measurements.gradient_error import GradientError, block_gradient, cosine, measure_gradient_error, relative
from odelib.measurements.loss_scale import LossScale, measure_loss_scale
from odelib.measurements.memory import Memory, measure_memory
from odelib.saved_bytes import count_saved_bytes
from odelib.records import Environment, save_weights
from odelib.measurements.timing import StepTime, Timing, interleave, measure_timing
from odelib.training import evaluate

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def cases(quick):
    """A small study: three ways to solve and a network without a block."""
    quick = replace(quick, width=4)
    return {
        "direct-dopri5": replace(quick, method="dopri5"),
        "adjoint-dopri5": replace(quick, method="dopri5", gradient="adjoint"),
        "adjoint-euler": replace(quick, method="euler", gradient="adjoint"),
        "none": replace(quick, network="none"),
    }


@pytest.fixture
def trained(cases, tiny) -> ImageClassifier:
    return build(cases["direct-dopri5"], tiny)


# Timing


class Clock:
    """A clock that stands still until an action moves it."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def action(self, name, *seconds):
        left = list(seconds)

        def act():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return act

    def __call__(self):
        return self.now


def test_actions_take_turns_and_every_other_round_goes_backwards():
    clock = Clock()
    actions = {name: clock.action(name, 1.0) for name in "abc"}
    interleave(actions, rounds=2, warmup=1, clock=clock)
    assert "".join(clock.calls) == "abc" + "cba" + "abc"


def test_seconds_are_those_of_each_action_without_the_warm_up():
    clock = Clock()
    actions = {"slow start": clock.action("slow start", 100.0, 7.0, 3.0, 4.0), "even": clock.action("even", 0.5)}
    seconds = interleave(actions, rounds=3, warmup=1, clock=clock)
    assert seconds == {"slow start": [7.0, 3.0, 4.0], "even": [0.5, 0.5, 0.5]}


def test_quartiles_of_the_seconds():
    assert StepTime("a", 1, 1, (4.0, 1.0, 3.0, 2.0, 5.0)).quartiles == (2.0, 3.0, 4.0)


def test_timing_counts_nfe_and_leaves_the_weights_alone(cases, tiny, trained):
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    timing = measure_timing(cases, tiny, trained, CPU, rounds=2)
    rows = {row.case: row for row in timing.rows}
    assert list(rows) == list(cases) and timing.steps_per_epoch == 48 // 16
    assert (rows["adjoint-euler"].nfe_forward, rows["adjoint-euler"].nfe_backward) == (1, 1)
    assert (rows["none"].nfe_forward, rows["none"].nfe_backward) == (0, 0)
    assert rows["direct-dopri5"].nfe_forward == rows["adjoint-dopri5"].nfe_forward >= 8
    assert rows["direct-dopri5"].nfe_backward == 0 < rows["adjoint-dopri5"].nfe_backward
    assert all(len(row.seconds) == 2 and min(row.seconds) > 0 for row in timing.rows)
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())


# Memory


def test_bytes_of_a_small_graph_are_exact():
    """exp saves its result, which is also what sin saves: 1,000 numbers of 8 bytes, once."""
    x = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    with count_saved_bytes() as saved:
        y = x.exp().sin().sum()
    assert saved.n == 8000
    y.backward()
    torch.testing.assert_close(x.grad, x.exp().cos() * x.exp())


def test_views_count_once_and_besides_not_at_all():
    x = torch.randn(10, 10, requires_grad=True)
    with count_saved_bytes() as saved:
        (x[:5].exp().view(-1) * 2).pow(2).sum()
    assert saved.n == 2 * 50 * 4  # the result of exp, and what pow squares
    with count_saved_bytes([x]) as saved:
        (x * x).sum()
    assert saved.n == 0
    with count_saved_bytes() as saved:
        (x * x).sum()
    assert saved.n == 400


def test_nothing_is_saved_where_nothing_needs_a_gradient():
    with count_saved_bytes() as saved:
        torch.randn(10).exp().sin()
    assert saved.n == 0


class Wave(nn.Module):
    """dz/dt = sin(z): saves z and nothing else."""

    def forward(self, t, z):
        return z.sin()


def test_direct_euler_saves_one_state_a_step_and_the_adjoint_only_its_ends():
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    kept = {}
    for gradient in ("direct", "adjoint"):
        for steps in (2, 4, 8):
            block = ODEBlock(Wave(), Solver("euler", step_size=1 / steps, gradient=gradient))
            with count_saved_bytes([z]) as saved:
                block(z)
            kept[gradient, steps] = saved.n
    a_state = 5 * 3 * 8
    assert a_state <= (kept["direct", 8] - kept["direct", 4]) / 4 < 2 * a_state
    assert kept["direct", 8] - kept["direct", 4] == 2 * (kept["direct", 4] - kept["direct", 2])
    assert kept["adjoint", 2] == kept["adjoint", 4] == kept["adjoint", 8] < 3 * a_state


def test_memory_of_the_direct_gradient_grows_with_nfe_and_that_of_the_adjoint_does_not(cases, tiny, trained):
    memory = measure_memory(cases, tiny, trained, CPU, batch_size=4)
    for gradient, grows in (("direct", True), ("adjoint", False)):
        rows = sorted((r.nfe_forward, r.bytes) for r in memory.rows if (r.method, r.gradient) == ("dopri5", gradient))
        assert rows[-1][0] > rows[0][0]
        assert (rows[-1][1] > rows[0][1]) is grows
    assert memory.state_bytes < memory.evaluation_bytes


# Gradient error


def test_distance_and_angle():
    a, b = torch.tensor([3.0, 4.0]).double(), torch.tensor([0.0, 5.0]).double()
    assert relative(a, a) == 0 and relative(2 * a, a) == pytest.approx(1)
    assert cosine(2 * a, a) == pytest.approx(1) and cosine(-a, a) == pytest.approx(-1)
    assert cosine(a, b) == pytest.approx(0.8)


class Scaled(nn.Module):
    """dz/dt = p z, so that z(1) = e^p z(0): both gradients are known."""

    def __init__(self, p):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p, dtype=torch.float64))

    def forward(self, t, z):
        return self.p * z


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_gradient_of_the_block_in_closed_form(gradient):
    block = ODEBlock(Scaled(0.5), Solver(rtol=1e-9, atol=1e-9, gradient=gradient))
    z, cotangent = torch.randn(2, 4, 3, dtype=torch.float64)
    ours = block_gradient(block, z, cotangent)
    growth = torch.tensor(0.5).double().exp()
    torch.testing.assert_close(ours.state, (growth * cotangent).flatten(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(ours.theta, (growth * (cotangent * z).sum()).view(1), rtol=1e-6, atol=1e-9)
    assert ours.nfe_forward > 0 and (ours.nfe_backward == 0) is (gradient == "direct")


def test_a_coarse_solver_has_a_larger_gradient_error_than_a_fine_one(cases, tiny, trained):
    found = measure_gradient_error(cases, tiny, trained, CPU, images=2)
    rows = {row.case: row for row in found.rows}
    assert set(rows) == {"direct-dopri5", "adjoint-dopri5", "adjoint-euler"}
    assert found.reference_error < 0.01
    assert rows["direct-dopri5"].theta_gap == 0 < rows["adjoint-dopri5"].theta_gap
    assert rows["adjoint-euler"].theta_error > 2 * rows["direct-dopri5"].theta_error
    assert rows["adjoint-euler"].theta_cosine < rows["direct-dopri5"].theta_cosine


def test_a_larger_loss_makes_the_adjoint_dearer_and_better(cases, tiny, trained):
    found = measure_loss_scale(cases, tiny, trained, CPU, images=2, scales=(1.0, 1e4))
    rows = [row for row in found.rows if row.gradient == "adjoint"]
    assert rows[-1].nfe_backward > rows[0].nfe_backward
    assert rows[-1].theta_error < rows[0].theta_error
    assert {row.nfe_forward for row in rows} == {rows[0].nfe_forward}
    assert rows[-1].adjoint_rms / rows[0].adjoint_rms == pytest.approx(rows[-1].scale / rows[0].scale, rel=1e-4)


# Other solvers after training


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
def test_every_network_with_weights_is_tested_with_every_solver(cases, tiny, trained, tmp_path, gradient):
    """However it was trained: the seminorm goes with adaptive methods only, and does not matter here."""
    config = replace(cases["adjoint-euler"], method="dopri5", gradient=gradient)
    for name in ("adjoint-euler-seed3", "none-seed0"):
        save_weights(tmp_path / f"{name}.safetensors", trained, config)
    (tmp_path / "adjoint-euler-seed4.checkpoint.safetensors").touch()
    found = measure_cross_solver(cases, tiny, tmp_path, CPU)
    assert [(row.case, row.seed, row.solver) for row in found.rows] == [("adjoint-euler", 3, s) for s in SOLVERS]
    nfe = {row.solver: row.nfe for row in found.rows}
    assert nfe["euler, 1 step"] == 1 and nfe["euler, 16 steps"] == 16 and nfe["rk4, 4 steps"] == 16
    assert nfe["dopri5, 1e-5"] > nfe["dopri5, 1e-3"]
    assert all(0 <= row.accuracy <= 1 for row in found.rows)


@pytest.mark.parametrize("measured", [measure_cross_solver, measure_confusion])
def test_a_study_without_weights_cannot_be_tested(measured, cases, tiny, tmp_path):
    with pytest.raises(RecordError, match="holds no weights"):
        measured(cases, tiny, tmp_path, CPU)


# Confusion


def test_confusion_counts_true_classes_in_rows_and_predicted_ones_in_columns(tiny):
    """Of a network that takes every image for a 7, and of one that knows the labels."""

    class Says(nn.Module):
        def __init__(self, answers):
            super().__init__()
            self.answers = iter(answers)

        def forward(self, x):
            return nn.functional.one_hot(torch.stack([next(self.answers) for _ in x]), 10).float()

    labels = tiny.test.labels
    each = labels.bincount(minlength=10)
    sevens = count_confusion(Says(torch.full_like(labels, 7)), tiny.test, 10)
    assert sevens[:, 7].equal(each) and sevens.sum() == len(labels)
    assert count_confusion(Says(labels), tiny.test, 10).equal(each.diag())


def test_confusion_is_counted_for_every_network_with_weights_in_eval_mode(cases, tiny, tmp_path):
    config = replace(cases["none"], dropout=0.9)
    model = build(config, tiny)
    for name in ("none-seed0", "direct-dopri5-seed2"):
        save_weights(tmp_path / f"{name}.safetensors", model, config)
    found = measure_confusion(cases, tiny, tmp_path, CPU)
    assert [(row.case, row.seed) for row in found.rows] == [("direct-dopri5", 2), ("none", 0)]
    _, accuracy = evaluate(model, tiny.test)
    for row in found.rows:
        assert sum(row.counts[i][i] for i in range(10)) == round(accuracy * len(tiny.test))
    found.save(tmp_path / "confusion.json")
    assert MEASUREMENTS["confusion"].load(tmp_path / "confusion.json") == found


# Records


@pytest.mark.parametrize("name", ["timing", "memory", "loss-scale", "gradient-error", "cross-solver"])
def test_a_measurement_read_back_is_the_one_that_was_saved(cases, tiny, trained, tmp_path, name):
    if name == "cross-solver":
        save_weights(tmp_path / "adjoint-euler-seed0.safetensors", trained, cases["adjoint-euler"])
        made = measure_cross_solver(cases, tiny, tmp_path, CPU)
    elif name == "timing":
        made = Timing(Environment.here(CPU), 16, 3, (StepTime("a", 26, 0, (0.25, 1 / 3)),))
    elif name == "loss-scale":
        made = measure_loss_scale(cases, tiny, trained, CPU, images=2, scales=(1.0,))
    else:
        made = {"memory": measure_memory, "gradient-error": measure_gradient_error}[name](cases, tiny, trained, CPU, 2)
    made.save(tmp_path / f"{name}.json")
    kind = MEASUREMENTS[name]
    assert kind.load(tmp_path / f"{name}.json") == made
    wrong = {Timing, Memory, LossScale, GradientError} - {kind}
    with pytest.raises(RecordError, match="is not a record of odelib"):
        wrong.pop().load(tmp_path / f"{name}.json")
