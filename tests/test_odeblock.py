"""ODEBlock: what it solves, how exactly, with how many evaluations of f; and what it refuses."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
import torchdiffeq
from conftest import Bend, start
from torch import nn
from torchdiffeq._impl.odeint import SOLVERS

from odelib import Config, ODEBlock, ODEfunc, Solver, count_evaluations, odeblock
from odelib.errors import OptionError, SolverError
from odelib.odeblock import LIBRARIES, change_solver

METHODS = LIBRARIES["torchdiffeq"]
MODES = [
    (library, gradient)
    for library in LIBRARIES
    for gradient in ("direct", "adjoint", "seminorm", "checkpoint")
    if library == "odelib" or gradient != "checkpoint"
]
FIXED_GRID_MODES = [(library, gradient) for library, gradient in MODES if gradient != "seminorm"]  # it chooses steps
EVERY_WAY = [("dopri5", *mode) for mode in MODES] + [("rk4", *mode) for mode in FIXED_GRID_MODES]
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


class Narrow(nn.Module):
    """A velocity for the first channel only: it has the right rank, so that addition would broadcast it."""

    def forward(self, t, z):
        return -z[:, :1]


def nfe(block, z):
    with count_evaluations(block) as seen:
        block(z)
    return seen.n


# What it solves


@pytest.mark.parametrize("method", METHODS.names)
def test_every_method_solves_the_equation(method):
    step_size = 0.01 if method in METHODS.fixed else None
    f = Growth()
    block = ODEBlock(f, Solver(method, rtol=1e-7, atol=1e-7, step_size=step_size))
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
    f = ODEfunc(8, activation=nn.Softplus).double()  # kinks would cost many small steps
    z = start(2, 8, 5, 5)
    there = ODEBlock(f, Solver(rtol=1e-9, atol=1e-9))
    back = ODEBlock(f, there.solver, t0=1.0, t1=0.0)
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
    assert "dopri5, rtol=0.001, atol=1e-05, gradient=adjoint" in repr(
        ODEBlock(Growth(), Solver(atol=1e-5, gradient="adjoint"))
    )


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
    """Accepted and rejected steps are counted by torchdiffeq's own callbacks, which know nothing of our counters."""
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
@pytest.mark.parametrize("library", LIBRARIES)
def test_adjoint_on_a_fixed_grid_takes_the_same_steps_back(library, steps):
    block = ODEBlock(Growth(), Solver("rk4", step_size=1 / steps, gradient="adjoint", library=library))
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
    blocks = [
        ODEBlock(Growth(), Solver("euler", step_size=0.5)),
        ODEBlock(Growth(), Solver("rk4")),
        ODEBlock(Growth(), Solver("midpoint")),
    ]
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
            assert len(block._counters) == 1 and not block.f._forward_pre_hooks
            block(start())
            if error:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert not block._counters
    block(start())
    assert seen.n == 4


def test_what_is_asked_of_f_by_others_is_not_counted():
    block = ODEBlock(Growth(), Solver("rk4"))
    with count_evaluations(block) as seen:
        block.f(torch.tensor(0.0), start())
    assert seen.n == 0


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("t1, step_size, steps", [(0.3, 0.1, 3), (1.1, 0.1, 11), (0.6, 0.2, 3), (1.0, 0.3, 4)])
def test_rounding_makes_no_further_step(library, t1, step_size, steps):
    for z in (start(), start().float()):
        assert nfe(ODEBlock(Growth(), Solver("euler", step_size=step_size, library=library), t1=t1), z) == steps


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t0, t1", [(0.1, 0.7), (0.7, 0.1), (0.0, 0.1)])
@pytest.mark.parametrize("method", ["dopri5", "euler"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_ends_are_recognised_where_they_are_no_binary_fractions(library, method, t0, t1, dtype):
    """0.1 is another number in float32 than in Python, yet the same time."""
    z = start()
    block = ODEBlock(Growth(), Solver(method, library=library), t0=t0, t1=t1)
    with count_evaluations(block) as seen:
        states = block.trajectory(z, torch.tensor([t0, t1], dtype=dtype))
    assert torch.equal(states, torch.stack([z, block(z)])) and seen.n == nfe(block, z)


@pytest.mark.parametrize("library", LIBRARIES)
def test_types_of_times_and_state_need_not_agree(library):
    f, times = Growth(), torch.linspace(0, 1, 5)
    for solver in (Solver(rtol=1e-7, atol=1e-7, library=library), Solver("rk4", step_size=0.25, library=library)):
        block = ODEBlock(f, solver)
        for z in (start(), start().float()):
            states = [block.trajectory(z, times.to(dtype)) for dtype in (torch.float32, torch.float64)]
            assert {s.dtype for s in states} == {z.dtype}
            torch.testing.assert_close(states[0], states[1])
            torch.testing.assert_close(
                states[0], torch.stack([f.exact(z, 0, t / 4) for t in range(5)]), rtol=1e-4, atol=0
            )


def test_more_times_cost_an_adaptive_method_no_more_evaluations():
    block = ODEBlock(Bend(), Solver(rtol=1e-4, atol=1e-4))
    z = start()
    with count_evaluations(block) as many:
        block.trajectory(z, torch.linspace(0, 1, 50))
    assert many.n == nfe(block, z)


@pytest.mark.parametrize("library, gradient", FIXED_GRID_MODES)
@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_a_trajectory_is_on_the_grid_of_forward(method, library, gradient):
    """It passes through the states between the steps of forward, and ends where forward does, whatever is asked."""
    f, z = Growth(2.0), start()
    solver = Solver(method, step_size=0.25, gradient=gradient, library=library)
    times = torch.tensor([0.1, 0.25, 0.3, 0.5, 0.75, 0.8, 1.0])
    states = ODEBlock(f, solver).trajectory(z, times)
    for i, t in ((1, 0.25), (3, 0.5), (4, 0.75), (6, 1.0)):
        torch.testing.assert_close(states[i], ODEBlock(f, solver, t1=t)(z), rtol=1e-12, atol=0)
    for some in ([0], [1, 2], [0, 3, 5]):  # the grid does not end at the last time that is asked for
        torch.testing.assert_close(ODEBlock(f, solver).trajectory(z, times[some]), states[some], rtol=1e-12, atol=0)


@pytest.mark.parametrize("library, gradient", FIXED_GRID_MODES)
@pytest.mark.parametrize("method", ["euler", "rk4"])
@pytest.mark.parametrize("t0, t1, step_size", [(0.0, 1.0, None), (0.0, 1.0, 0.3), (0.7, -0.4, None), (0.7, -0.4, 0.25)])
def test_a_trajectory_ends_where_forward_ends(method, library, gradient, t0, t1, step_size):
    """Also where it is no multiple of the step, and where forward is one step: many times make no other solution."""
    z = start()
    block = ODEBlock(Bend(), Solver(method, step_size=step_size, gradient=gradient, library=library), t0=t0, t1=t1)
    for n in (2, 11):
        states = block.trajectory(z, torch.linspace(t0, t1, n))
        assert torch.equal(states[0], z)
        torch.testing.assert_close(states[-1], block(z), rtol=1e-12, atol=0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_between_the_points_of_a_grid_a_cubic_interpolates(library):
    """A straight line would be off by a hundredth."""
    f, z, times = Growth(), start(), torch.linspace(0, 1, 33)
    states = ODEBlock(f, Solver("rk4", step_size=0.25, library=library)).trajectory(z, times)
    expected = torch.stack([f.exact(z, 0, t) for t in times.tolist()])
    torch.testing.assert_close(states, expected, rtol=2e-4, atol=0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_beyond_t1_an_adaptive_method_goes_on_and_a_grid_has_no_points(library):
    f, z, times = Growth(), start(), torch.tensor([0.5, 1.5])
    states = ODEBlock(f, Solver(rtol=1e-8, atol=1e-8, library=library)).trajectory(z, times)
    torch.testing.assert_close(states[1], f.exact(z, 0, 1.5), rtol=1e-6, atol=0)
    for t1, asked in ((1.0, times), (-1.0, -times)):
        with pytest.raises(ValueError, match=r"the fixed grid ends at t1=-?1, got .*; take an adaptive method"):
            ODEBlock(f, Solver("rk4", library=library), t1=t1).trajectory(z, asked)


@pytest.mark.parametrize("library, gradient", MODES)
def test_times_of_a_trajectory_get_no_gradient_and_say_so(library, gradient):
    times = torch.tensor([0.5, 1.0], requires_grad=True)
    with pytest.raises(ValueError, match="times get no gradient here; take odelib.gradients.odeint_adjoint"):
        ODEBlock(Growth(), Solver(gradient=gradient, library=library)).trajectory(start(), times)


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


# Steps past the end


class Turning(nn.Module):
    """A smooth dynamics of 8 numbers with weights, which changes with time."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 8)).double()
        self.times = []

    def forward(self, t, z):
        self.times.append(t.item())
        return 2 * torch.cos(2 * t) * self.net(z)


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
@pytest.mark.parametrize("t0, t1", [(0.0, 1.0), (0.1, 0.7), (1.0, -1.0)])
def test_with_stop_at_t1_nothing_is_evaluated_past_the_ends(gradient, t0, t1):
    """0.1 and 0.7 are other numbers in float32 than in Python: there, too, the last step ends where it should."""
    for dtype, stop_at_t1 in ((torch.float64, True), (torch.float32, True), (torch.float64, False)):
        f = Turning()
        f.net.to(dtype)
        block = ODEBlock(f, Solver(gradient=gradient, stop_at_t1=stop_at_t1), t0=t0, t1=t1)
        z = start(16, 8).to(dtype).requires_grad_()
        beyond = []
        for solve in (lambda: block(z), lambda: block.trajectory(z, torch.linspace(t0, t1, 4, dtype=dtype))):
            f.times.clear()
            end = solve()
            there, count = list(f.times), len(f.times)
            end.sum().backward()
            back = f.times[count:]
            beyond += [max((t - t1) * (t1 - t0) for t in there), max([(t0 - t) * (t1 - t0) for t in back], default=-1)]
            assert not stop_at_t1 or abs(max(there, key=lambda t: abs(t - t0)) - t1) < 1e-7
        assert all(far < 1e-7 for far in beyond) is stop_at_t1


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4, 1e-5])
def test_with_stop_at_t1_the_gradient_of_a_smooth_dynamics_is_closer_at_no_cost(gradient, tolerance):
    """Than torchdiffeq's, which takes the gradient through a polynomial, or starts and ends the adjoint with one."""
    torch.manual_seed(1)
    f, z = Turning(), start(16, 8)

    def differentiate(solver):
        f.zero_grad()
        block, z0 = ODEBlock(f, solver), z.clone().requires_grad_()
        with count_evaluations(block) as seen:
            block(z0).square().sum(dim=1).mean().backward()
        return torch.cat([z0.grad.flatten(), *(p.grad.flatten() for p in f.parameters())]), seen.n

    exact, _ = differentiate(Solver("dopri8", 1e-12, 1e-12))
    past, stopped = (
        differentiate(Solver("dopri5", tolerance, tolerance, gradient=gradient, stop_at_t1=stop))
        for stop in (False, True)
    )
    assert (stopped[0] - exact).norm() < (past[0] - exact).norm() / 3
    assert stopped[1] <= past[1]


def test_a_trajectory_with_stop_at_t1_is_that_of_forward():
    block, z = ODEBlock(Bend(), Solver(rtol=1e-4, atol=1e-4, stop_at_t1=True)), start()
    with count_evaluations(block) as many:
        states = block.trajectory(z, torch.linspace(0, 1, 7))
    assert torch.equal(states[-1], block(z)) and many.n == nfe(block, z)
    times = torch.linspace(0, 1.5, 4)
    exact = ODEBlock(Bend(), Solver(rtol=1e-9, atol=1e-9)).trajectory(z, times)
    fine = replace(block.solver, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ODEBlock(Bend(), fine).trajectory(z, times), exact, rtol=0, atol=1e-3)


# What it refuses


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("checked", [True, False])
def test_dynamics_of_another_shape_are_refused_not_broadcast(request, checked, library, method, gradient):
    if not checked:
        request.getfixturevalue("unchecked")
    block = ODEBlock(Narrow(), Solver(method, gradient=gradient, library=library))
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
    (dict(rtol=math.nan), "rtol must be a finite number, got nan"),
    (dict(atol=math.inf), "atol must be a finite number, got inf"),
    (dict(step_size=0.1), r"step_size is for fixed grids only \(euler, .*\), not for 'dopri5'"),
    (dict(method="rk4", step_size=0.0), "step_size must be positive, got 0"),
    (dict(method="rk4", step_size=-0.5), "step_size must be positive, got -0.5"),
    (dict(method="rk4", gradient="seminorm"), "'rk4' chooses none, take 'adjoint'"),
    (dict(method="scipy_solver"), "unknown method 'scipy_solver'; choose from .*dopri5"),
    (dict(method="rk4", stop_at_t1=True), "stop_at_t1 is for adaptive methods of library torchdiffeq; all others end"),
    (dict(library="odelib", stop_at_t1=True), "stop_at_t1 is for adaptive methods of library torchdiffeq"),
]


@pytest.mark.parametrize("options, message", WRONG)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Solver(**options)
    with pytest.raises(OptionError, match=message):  # also where a block is to be solved again
        replace(ODEBlock(Growth()).solver, **options)


def test_a_solver_cannot_be_changed_past_its_checks():
    with pytest.raises(FrozenInstanceError):
        ODEBlock(Growth()).solver.rtol = -1.0


@pytest.mark.parametrize("solver", ["rk4", None, Solver])
def test_a_solver_must_be_one(unchecked, solver):
    with pytest.raises(OptionError, match=r"must be a Solver, such as Solver\('rk4'\), got"):
        ODEBlock(Growth(), solver)


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
    block.solver = replace(block.solver, method="rk4", step_size=0.05)
    torch.testing.assert_close(block(z), by_dopri5, rtol=1e-6, atol=0)


def test_all_blocks_of_a_model_may_be_solved_by_another_solver():
    inner, outer = ODEBlock(Growth()), ODEBlock(Growth(), Solver("midpoint"))
    change_solver(nn.Sequential(nn.Sequential(inner), nn.Tanh(), outer), Config(method="rk4", epochs=3))
    assert inner.solver == outer.solver == Solver("rk4") and type(inner.solver) is Solver


def test_every_method_is_fixed_or_adaptive_and_scipys_is_not_offered():
    known = set(SOLVERS)
    assert set(METHODS.fixed) | set(METHODS.adaptive) == set(METHODS.names) == known - {"scipy_solver"}
    assert not set(METHODS.fixed) & set(METHODS.adaptive)
    assert {"euler", "midpoint", "rk4"} <= set(METHODS.fixed) and {"dopri5", "dopri8", "bosh3"} <= set(METHODS.adaptive)


# What f and z may be: functions, no images, 16 bits


@pytest.mark.parametrize("library, gradient", MODES)
def test_f_may_be_a_function(library, gradient):
    """Its NFE is counted too."""
    block = ODEBlock(lambda t, z: -z, Solver(rtol=1e-8, atol=1e-8, gradient=gradient, library=library))
    z = start().requires_grad_()
    with count_evaluations(block) as seen:
        end = block(z)
    torch.testing.assert_close(end, z * math.exp(-1), rtol=1e-6, atol=0)
    assert seen.n > 7
    with count_evaluations(block) as back:
        end.sum().backward()
    torch.testing.assert_close(z.grad, torch.full_like(z, math.exp(-1)), rtol=1e-6, atol=0)
    assert (back.n > 5) is (gradient != "direct")
    assert block.trajectory(z, torch.tensor([0.5])).shape == (1, 4, 3)


@pytest.mark.parametrize("method, library, gradient", EVERY_WAY)
def test_a_batch_of_no_image_is_its_own_solution(method, library, gradient):
    block = ODEBlock(ODEfunc(4), Solver(method, gradient=gradient, library=library))
    z = torch.zeros(0, 4, 5, 5, requires_grad=True)
    end = block(z)
    end.sum().backward()
    assert end.shape == z.grad.shape == (0, 4, 5, 5) and nfe(block, z) == 0
    assert block.trajectory(z, torch.linspace(0, 1, 3)).shape == (3, 0, 4, 5, 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method, library, gradient", EVERY_WAY)
def test_a_state_of_16_bits_is_carried_and_differentiated(method, library, gradient, dtype):
    class Watched(Growth):
        def forward(self, t, z):
            seen.update([t.dtype, z.dtype])
            return super().forward(t, z)

    seen, f, z = set(), Watched().to(dtype), torch.rand(16, 3, dtype=dtype, requires_grad=True)
    block = ODEBlock(f, Solver(method, gradient=gradient, library=library))
    if (library, method, dtype) == ("torchdiffeq", "dopri5", torch.float16):
        with pytest.raises(SolverError, match="the step size vanished"):  # why the docstring sends float16 to odelib
            block(z)
        return
    end = block(z)
    end.sum().backward()
    assert seen == {end.dtype, z.grad.dtype} == {dtype}  # weights of 16 bits could not be multiplied with others
    factor = math.exp(math.sin(1))
    close = dict(rtol=0.05 if dtype == torch.bfloat16 else 0.01, atol=0)
    torch.testing.assert_close(end, z * factor, **close)
    torch.testing.assert_close(z.grad, torch.full_like(z, factor), **close)
    states = block.trajectory(z, torch.linspace(0, 1, 500))  # more times than numbers of 8 bits
    assert states.shape == (500, 16, 3) and torch.equal(states[-1], end)


# Steps without end


class Square(nn.Module):
    """Dynamics that jump a thousand times on the way."""

    def forward(self, t, z):
        return torch.sign(torch.sin(1000 * math.pi * t)) + 0 * z


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_a_solve_by_torchdiffeq_ends_after_so_many_steps_and_says_what_to_try(monkeypatch, gradient):
    """It would go on for ever; odelib's solvers count by themselves."""
    monkeypatch.setattr(odeblock, "MAX_STEPS", 50)
    block = ODEBlock(Square(), Solver(gradient=gradient, rtol=1e-6, atol=1e-6))
    message = r"max_steps=\d+ reached; try a larger tolerance, a smoother f or a fixed grid"
    with count_evaluations(block) as seen, pytest.raises(SolverError, match=message):
        block(torch.rand(2, 3, requires_grad=True))
    assert seen.n < 50 * 7 + 3


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
def test_the_way_back_ends_too(monkeypatch, gradient):
    """Autograd hands torchdiffeq's own assertion on; `fit` says what it means."""
    f = Growth()
    block = ODEBlock(f, Solver(gradient=gradient, rtol=1e-6, atol=1e-6))
    monkeypatch.setattr(odeblock, "MAX_STEPS", 50)
    z1 = block(torch.rand(2, 3, requires_grad=True))
    f.forward = lambda t, z: Square()(t, z) + 0 * f.rate
    with pytest.raises(AssertionError, match="max_num_steps exceeded") as caught:
        z1.sum().backward()
    assert odeblock.in_words(caught.value).startswith("max_steps=")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_a_grid_of_too_many_steps_is_refused_before_the_first(library, method):
    block = ODEBlock(Square(), Solver(method, step_size=0.99e-4, library=library))
    message = "10102 steps are needed to reach t=1, max_steps is 10000; try a larger step_size"
    for solve in (block, lambda z: block.trajectory(z, torch.tensor([0.5, 1.0]))):
        with count_evaluations(block) as seen, pytest.raises(SolverError, match=message):
            solve(torch.rand(2, 3))
        assert seen.n == 0


@pytest.mark.parametrize("tolerance", [1e-46, 1e-320])
def test_a_tolerance_that_rounds_to_zero_ends_at_once(tolerance):
    """The first step is no number then, which is no step that could be too small."""
    block = ODEBlock(Growth(), Solver(library="odelib", rtol=tolerance, atol=tolerance))
    with (
        count_evaluations(block) as seen,
        pytest.raises(SolverError, match="the tolerance is too small for the numbers"),
    ):
        block(torch.rand(2, 3))
    assert seen.n < 10


def test_an_assertion_of_somebody_else_stays_one():
    def f(t, z):
        raise AssertionError("mine")

    with pytest.raises(AssertionError, match="mine"):
        ODEBlock(f)(torch.rand(2, 3))
