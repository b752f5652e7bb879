"""ODEBlock: what it solves, how exactly, with how many evaluations of f; and what it refuses."""

import importlib.util
import math

import numpy as np
import pytest
import torch
import torchdiffeq
from torch import nn

import odelib.odeblock
from odelib import ODEBlock, ODEfunc, Solver, count_evaluations
from odelib.errors import OptionError
from odelib.odeblock import LIBRARIES

STAGES = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}


class Growth(nn.Module):
    """dz/dt = rate cos(t) z, solved by z(t) = z(0) exp(rate sin t): smooth, and time matters."""

    def __init__(self, rate=1.0):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate, dtype=torch.float64))

    def forward(self, t, z):
        return self.rate.to(z) * torch.cos(t) * z

    def exact(self, z, t0, t1):
        return z * torch.exp(self.rate.detach() * (math.sin(t1) - math.sin(t0))).to(z)


class Bend(nn.Module):
    """A smooth nonlinear dynamics that bends enough for steps to be rejected."""

    def forward(self, t, z):
        return torch.sin(12 * t) * 8 * torch.cos(3 * z) + z.flip(-1)


class Narrow(nn.Module):
    """A velocity for the first channel only: it has the right rank, so that addition would broadcast it."""

    def forward(self, t, z):
        return -z[:, :1]


def start(*shape):
    return torch.randn(*(shape or (4, 3)), dtype=torch.float64)


def nfe(block, z):
    with count_evaluations(block) as seen:
        block(z)
    return seen.n


# What it solves


@pytest.mark.parametrize("method", METHODS)
def test_every_method_solves_the_equation(method):
    gradient = "adjoint" if method == "scipy_solver" else "direct"
    step_size = 0.01 if method in FIXED_GRID else None
    f = Growth()
    block = ODEBlock(f, Solver(method, rtol=1e-7, atol=1e-7, step_size=step_size, gradient=gradient))
    z = start()
    tolerance = {"euler": 1e-2, "midpoint": 1e-4, "heun2": 1e-4, "dopri8": 1e-4}.get(method, 1e-5)
    torch.testing.assert_close(block(z), f.exact(z, 0, 1), rtol=tolerance, atol=0)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_keeps_shape_and_dtype(shape, dtype):
    z1 = ODEBlock(Growth())(start(*shape).to(dtype))
    assert z1.shape == shape and z1.dtype == dtype


@pytest.mark.parametrize("t0, t1", [(0.0, 1.0), (0.5, 2.0), (1.0, -1.0)])
def test_end_times_are_those_asked_for(t0, t1):
    f = Growth()
    z = start()
    block = ODEBlock(f, Solver(rtol=1e-8, atol=1e-8), t0=t0, t1=t1)
    torch.testing.assert_close(block(z), f.exact(z, t0, t1), rtol=1e-6, atol=0)


def test_block_of_the_network_is_undone_by_solving_back():
    f = ODEfunc(8).double()
    z = start(2, 8, 5, 5)
    there = ODEBlock(f, Solver(rtol=1e-9, atol=1e-9))
    back = ODEBlock(f, Solver(rtol=1e-9, atol=1e-9), t0=1.0, t1=0.0)
    z1 = there(z)
    assert (z1 - z).abs().max() > 0.1  # it went somewhere
    torch.testing.assert_close(back(z1), z, rtol=0, atol=1e-5)


def test_two_half_blocks_make_one():
    f = Bend()
    z = start()
    whole, first, second = (
        ODEBlock(f, Solver(rtol=1e-9, atol=1e-9), t0=t0, t1=t1) for t0, t1 in [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0)]
    )
    torch.testing.assert_close(second(first(z)), whole(z), rtol=0, atol=1e-6)


def test_block_adds_no_parameters_to_those_of_f():
    f = ODEfunc(8)
    assert set(ODEBlock(f).state_dict()) == {f"f.{name}" for name in f.state_dict()}


def test_repr_names_the_solver_and_what_steers_it():
    assert "rk4, step_size=0.5, gradient=direct" in repr(ODEBlock(Growth(), Solver("rk4", step_size=0.5)))
    assert "dopri5, rtol=0.001, atol=1e-05, gradient=adjoint" in repr(ODEBlock(Growth(), Solver(atol=1e-5, gradient="adjoint")))


# How exactly


@pytest.mark.parametrize("method, order", [("euler", 1), ("midpoint", 2), ("heun3", 3), ("rk4", 4)])
def test_error_falls_with_the_order_of_the_method(method, order):
    f = Growth(rate=2.0)
    z = start()
    steps = np.array([8, 16, 32, 64])
    errors = [(ODEBlock(f, Solver(method, step_size=1 / n))(z) - f.exact(z, 0, 1)).abs().max().item() for n in steps]
    slope = np.polyfit(np.log(1 / steps), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.3


def test_smaller_tolerance_buys_accuracy_with_evaluations():
    f = Growth(rate=3.0)
    z = start()
    blocks = [ODEBlock(f, Solver(rtol=tolerance, atol=tolerance)) for tolerance in (1e-2, 1e-5, 1e-8)]
    errors = [(block(z) - f.exact(z, 0, 1)).abs().max().item() for block in blocks]
    costs = [nfe(block, z) for block in blocks]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert costs[0] < costs[1] < costs[2]


# With how many evaluations


@pytest.mark.parametrize("method", STAGES)
@pytest.mark.parametrize("steps", [1, 3, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fixed_grid_costs_stages_times_steps(method, steps, dtype):
    assert nfe(ODEBlock(Growth(), Solver(method, step_size=1 / steps)), start().to(dtype)) == STAGES[method] * steps


@pytest.mark.parametrize("method", STAGES)
def test_without_a_step_size_a_fixed_grid_takes_one_step(method):
    assert nfe(ODEBlock(Growth(), Solver(method)), start()) == STAGES[method]


@pytest.mark.parametrize(
    "method, per_step", [("dopri5", 6), ("dopri8", 13), ("bosh3", 3), ("fehlberg2", 2), ("adaptive_heun", 1)]
)
def test_an_adaptive_method_costs_two_and_its_stages_for_each_step(method, per_step):
    """Accepted and rejected steps are counted by torchdiffeq's own callbacks, which know nothing of our hooks."""
    steps = {"accepted": 0, "rejected": 0}

    class Watched(Bend):
        def callback_accept_step(self, t, z, dt):
            steps["accepted"] += 1

        def callback_reject_step(self, t, z, dt):
            steps["rejected"] += 1

    z = start()
    with torch.no_grad():
        torchdiffeq.odeint(Watched(), z, torch.tensor([0.0, 1.0]).double(), method=method, rtol=1e-4, atol=1e-4)
        assert steps["accepted"] > 1 and steps["rejected"] > 0
        n = steps["accepted"] + steps["rejected"]
        assert nfe(ODEBlock(Bend(), Solver(method, rtol=1e-4, atol=1e-4)), z) == 2 + per_step * n


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_forward_and_backward_are_counted_apart(gradient):
    block = ODEBlock(Growth(), Solver(gradient=gradient))
    z = start()
    with count_evaluations(block) as forward:
        loss = block(z).square().sum()
    after_forward = forward.n
    with count_evaluations(block) as backward:
        loss.backward()
    assert forward.n == after_forward == nfe(ODEBlock(Growth()), z)
    if gradient == "direct":
        assert backward.n == 0
    else:
        assert backward.n > 0 and backward.n % 6 == 2  # dopri5 again: 2 + 6n


@pytest.mark.parametrize("steps", [1, 4])
def test_adjoint_on_a_fixed_grid_takes_the_same_steps_back(steps):
    block = ODEBlock(Growth(), Solver("rk4", step_size=1 / steps, gradient="adjoint"))
    loss = block(start()).sum()
    with count_evaluations(block) as backward:
        loss.backward()
    assert backward.n == 4 * steps


def test_what_runs_between_two_scopes_is_in_neither():
    """This is the leak of the published script: its evaluation passes were added to the next training step."""
    block = ODEBlock(Growth(), Solver("euler", step_size=0.25))
    first = nfe(block, start())
    for _ in range(3):
        block(start())
    assert (first, nfe(block, start())) == (4, 4)


def test_several_blocks_add_up():
    blocks = [ODEBlock(Growth(), Solver("euler", step_size=0.5)), ODEBlock(Growth(), Solver("rk4")), ODEBlock(Growth(), Solver("midpoint"))]
    model = nn.Sequential(blocks[0], nn.Sequential(blocks[1], nn.Tanh()), blocks[2])
    assert nfe(model, start()) == 2 + 4 + 2


def test_dynamics_shared_by_two_blocks_are_counted_once_a_call():
    f = Growth()
    model = nn.Sequential(ODEBlock(f, Solver("euler")), ODEBlock(f, Solver("rk4")))
    evaluations = nfe(model, start())
    assert evaluations == 1 + 4


def test_a_network_without_a_block_evaluates_nothing():
    assert nfe(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), torch.randn(4, 3)) == 0


def test_an_inner_scope_takes_nothing_from_the_outer_one():
    block = ODEBlock(Growth(), Solver("rk4"))
    with count_evaluations(block) as outer:
        block(start())
        assert nfe(block, start()) == 4
    assert outer.n == 8


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_stays_on_the_model(error):
    block = ODEBlock(Growth(), Solver("rk4"))
    try:
        with count_evaluations(block) as seen:
            assert len(block.f._forward_pre_hooks) == 1
            block(start())
            if error:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert len(block.f._forward_pre_hooks) == 0
    block(start())
    assert seen.n == 4


# States on the way


@pytest.mark.parametrize("t0, t1", [(0.0, 1.0), (0.1, 0.7), (1.0, 0.0)])
def test_trajectory_follows_the_exact_solution_to_the_end_of_forward(t0, t1):
    f = Growth()
    z = start(2, 3, 4)
    block = ODEBlock(f, Solver(rtol=1e-9, atol=1e-9), t0=t0, t1=t1)
    times = torch.linspace(t0, t1, 5, dtype=torch.float64)
    states = block.trajectory(z, times)
    assert states.shape == (5, 2, 3, 4)
    assert torch.equal(states[0], z)
    for t, state in zip(times.tolist(), states):
        torch.testing.assert_close(state, f.exact(z, t0, t), rtol=1e-5, atol=0)
    torch.testing.assert_close(states[-1], block(z), rtol=1e-7, atol=0)


def test_trajectory_gives_the_times_asked_for_with_or_without_the_first():
    z = start()
    block = ODEBlock(Growth(), Solver(rtol=1e-8, atol=1e-8))
    with_first = block.trajectory(z, torch.tensor([0.0, 0.25, 1.0]))
    without = block.trajectory(z, torch.tensor([0.25, 1.0]))
    assert torch.equal(with_first[1:], without)


def test_trajectory_to_the_first_time_alone_is_the_state_itself():
    z = start()
    assert torch.equal(ODEBlock(Growth()).trajectory(z, torch.tensor([0.0])), z[None])


def test_first_time_is_recognised_where_it_is_no_binary_fraction():
    """0.1 is another number in float32 than in Python, yet the same time."""
    z = start().float()
    states = ODEBlock(Growth(), t0=0.1, t1=0.7).trajectory(z, torch.tensor([0.1, 0.7]))
    assert torch.equal(states[0], z)


def test_more_times_cost_an_adaptive_method_no_more_evaluations():
    block = ODEBlock(Bend(), Solver(rtol=1e-4, atol=1e-4))
    z = start()
    with count_evaluations(block) as many:
        block.trajectory(z, torch.linspace(0, 1, 50))
    assert many.n == nfe(block, z)


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_trajectory_agrees_with_forward_on_a_fixed_grid(gradient):
    z = start()
    block = ODEBlock(Growth(), Solver("rk4", step_size=0.25, gradient=gradient))
    states = block.trajectory(z, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(states[-1], block(z))
    torch.testing.assert_close(states[0], ODEBlock(Growth(), Solver("rk4", step_size=0.25), t1=0.5)(z))


@pytest.mark.parametrize(
    "t0, t1, times",
    [
        (0.0, 1.0, [0.5, 0.25]),
        (0.0, 1.0, [0.5, 0.5]),
        (0.0, 1.0, [0.0, 0.0]),
        (0.0, 1.0, [-0.5, 1.0]),
        (0.0, 1.0, []),
        (1.0, 0.0, [0.5, 0.75]),
        (1.0, 0.0, [2.0]),
    ],
)
def test_times_that_do_not_run_from_t0_towards_t1_are_refused(t0, t1, times):
    with pytest.raises(ValueError, match="times must run strictly from t0"):
        ODEBlock(Growth(), t0=t0, t1=t1).trajectory(start(), torch.tensor(times))


# What it refuses


@pytest.fixture(scope="module")
def plain():
    """odeblock.py as a user gets it: imported by another name, so that no shape checker is built in."""
    spec = importlib.util.spec_from_file_location("plain_odeblock", odelib.odeblock.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5"])
@pytest.mark.parametrize("checked", [True, False])
def test_dynamics_of_another_shape_are_refused_not_broadcast(plain, checked, method, gradient):
    block = (ODEBlock if checked else plain.ODEBlock)(Narrow(), method, gradient=gradient)
    with pytest.raises(ValueError, match=r"f must keep the shape of the state: got \(4, 1\) for \(4, 3\)"):
        block(start())
    with pytest.raises(ValueError, match="f must keep the shape"):
        block.trajectory(start(), torch.tensor([0.5, 1.0]))


def test_torchdiffeq_alone_would_have_broadcast_it():
    """The reason for the check above."""
    z = start()
    assert torchdiffeq.odeint(Narrow(), z, torch.tensor([0.0, 1.0]), method="euler").shape == (2, 4, 3)


WRONG = [
    (dict(method="rk5"), "unknown method 'rk5'; choose from .*dopri5.*rk4"),
    (dict(gradient="exact"), "unknown gradient 'exact'; choose from direct, adjoint, seminorm"),
    (dict(rtol=0.0), "rtol and atol must be positive, got rtol=0, atol=0.001"),
    (dict(atol=-1.0), "rtol and atol must be positive, got rtol=0.001, atol=-1"),
    (dict(rtol=math.nan), "rtol and atol must be positive"),
    (dict(step_size=0.1), r"step_size is for fixed grids only \(euler, .*\), not for 'dopri5'"),
    (dict(method="rk4", step_size=0.0), "step_size must be positive, got 0"),
    (dict(method="rk4", step_size=-0.5), "step_size must be positive, got -0.5"),
    (dict(method="rk4", gradient="seminorm"), "'rk4' chooses none, take 'adjoint'"),
    (dict(method="scipy_solver"), "scipy_solver leaves PyTorch, .* take gradient 'adjoint'"),
]


@pytest.mark.parametrize("options, message", WRONG)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        ODEBlock(Growth(), Solver(**options))


@pytest.mark.parametrize("options, message", WRONG)
def test_options_set_later_are_checked_when_solving(options, message):
    block = ODEBlock(Growth())
    for name, value in options.items():
        setattr(block, name, value)
    with pytest.raises(OptionError, match=message):
        block(start())


def test_equal_end_times_are_refused():
    with pytest.raises(OptionError, match="two different end times, got t0 = t1 = 0.5"):
        ODEBlock(Growth(), t0=0.5, t1=0.5)


def test_equal_end_times_set_later_are_refused_when_solving():
    block = ODEBlock(Growth())
    block.t1 = 0.0
    with pytest.raises(OptionError, match="two different end times"):
        block(start())


def test_a_block_may_be_solved_again_with_another_method():
    block = ODEBlock(Growth(), Solver(rtol=1e-8, atol=1e-8))
    z = start()
    by_dopri5 = block(z)
    block.method, block.step_size = "rk4", 0.05
    torch.testing.assert_close(block(z), by_dopri5, rtol=1e-6, atol=0)


def test_every_method_is_fixed_adaptive_or_scipys():
    assert set(FIXED_GRID) | set(ADAPTIVE) | {"scipy_solver"} == set(METHODS)
    assert not set(FIXED_GRID) & set(ADAPTIVE)
    assert {"euler", "midpoint", "rk4"} <= set(FIXED_GRID) and {"dopri5", "dopri8", "bosh3"} <= set(ADAPTIVE)
