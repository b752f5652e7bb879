"""The chapters on the backward pass: every identity that they claim, and the module that they build.

All in float64 and, unless a test says otherwise, on a tanh network that depends on the time.
"""

import inspect
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import jvp
from torchdiffeq import odeint
from torchdiffeq import odeint_adjoint as theirs

from odelib import solvers
from odelib.book import identities
from odelib.book.identities import (
    DOUBLE,
    Checks,
    Field,
    J_transposed,
    error,
    f_theta_times,
    gauss,
    path_and_adjoint,
    path_and_sensitivity,
)
from odelib.book.identities import solve as tight
from odelib.book.mistakes import MISTAKES
from odelib.gradients import odeint_adjoint
from odelib.solvers import TABLEAUS, runge_kutta_step

TIMES = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=DOUBLE)


def euler(f, z, times, steps=8):
    """`steps` Euler steps in every interval; plain autograd goes through."""
    states = [z]
    for t0, t1 in pairwise(times):
        h = (t1 - t0) / steps
        for k in range(steps):
            z = z + h * f(t0 + k * h, z)
        states.append(z)
    return torch.stack(states)


@pytest.fixture
def f():
    return Field()


@pytest.fixture
def z0():
    return torch.randn(2, 3, dtype=DOUBLE)


def loss_of(states, weight):
    """A loss that is linear in no state and looks at each of them."""
    return (weight * states.sin()).sum() + 0.1 * states.prod(dim=0).sum()


def gradients(solver, f, z0, times, weight):
    """Gradients for z0, the times and every parameter."""
    z0, times = z0.clone().requires_grad_(), times.clone().requires_grad_()
    loss = loss_of(solver(f, z0, times), weight)
    return torch.autograd.grad(loss, [z0, times, *f.parameters()])


def ours(f, z0, times):
    return odeint_adjoint(f, z0, times, tight)


# The theorem: gradients for z0, theta and every time


@pytest.mark.parametrize("times", [TIMES, TIMES[[0, 3]], TIMES.flip(0), 2 * TIMES - 3], ids=str)
def test_own_adjoint_equals_direct_and_torchdiffeq(f, z0, times):
    weight = torch.randn(len(times), 2, 3, dtype=DOUBLE)
    mine = gradients(ours, f, z0, times, weight)
    for reference in (
        gradients(tight, f, z0, times, weight),
        gradients(lambda f, z, t: theirs(f, z, t, rtol=1e-10, atol=1e-12), f, z0, times, weight),
    ):
        for name, value, expected in zip(["z0", "times", *dict(f.named_parameters())], mine, reference, strict=True):
            assert expected.norm() > 1e-3, name
            assert error(value, expected) < 1e-7, name


def test_gradients_of_every_time_are_those_of_finite_differences(f, z0):
    weight, h = torch.randn(4, 2, 3, dtype=DOUBLE), 1e-4
    mine = gradients(ours, f, z0, TIMES, weight)[1]
    with torch.no_grad():
        for i in range(4):
            shift = torch.zeros(4, dtype=DOUBLE)
            shift[i] = h
            above, below = (loss_of(tight(f, z0, TIMES + s), weight).item() for s in (shift, -shift))
            assert mine[i].item() == pytest.approx((above - below) / (2 * h), rel=1e-6)


def test_gradcheck_for_state_times_and_parameters(f, z0):
    times = TIMES[[0, 2, 3]].clone().requires_grad_()
    z0 = z0[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z, t, *theta: odeint_adjoint(f, z, t, tight, theta),
        (z0, times, *f.parameters()),
        eps=1e-4,
        rtol=1e-5,
        fast_mode=True,
    )


def test_end_time_derivatives_have_the_signs_of_the_theorem(f, z0):
    """dL/dt1 = a(t1) f(t1), dL/dt0 = -a(t0) f(t0): for a positive speed and L = z(t1), a longer way is a larger L."""

    def constant(t, z):
        return torch.full_like(z, 3.0) + 0 * z

    times = torch.tensor([0.0, 2.0], dtype=DOUBLE, requires_grad=True)
    odeint_adjoint(constant, torch.zeros(1, dtype=DOUBLE), times, tight)[-1].sum().backward()
    assert times.grad.tolist() == pytest.approx([-3.0, 3.0])


def test_an_observation_at_the_start_pulls_at_z0_and_not_at_t0(f, z0):
    times, z0 = TIMES[[0, 3]].clone().requires_grad_(), z0.clone().requires_grad_()
    w = torch.randn(2, 3, dtype=DOUBLE)
    gz, gt = torch.autograd.grad((w * ours(f, z0, times)[0]).sum(), [z0, times])
    torch.testing.assert_close(gz, w, rtol=0, atol=0)
    assert gt.tolist() == [0.0, 0.0]


# Lemmas


def test_solution_is_differentiable_and_its_derivative_obeys_the_variational_equation(f, z0):
    direction = torch.randn(2, 3, dtype=DOUBLE)
    s = path_and_sensitivity(f, z0, direction, None, TIMES)[1][-1]
    remainders = []
    for eps in (1e-2, 1e-3):
        moved = tight(f, z0 + eps * direction, TIMES)[-1] - tight(f, z0, TIMES)[-1]
        remainders.append((moved - eps * s).norm().item())
    assert remainders[0] / remainders[1] == pytest.approx(100, rel=0.15)  # the remainder is of second order


def test_value_function_is_constant_along_the_path_and_a_is_its_gradient(f, z0):
    w = torch.randn(2, 3, dtype=DOUBLE)
    z, a = path_and_adjoint(f, z0, w, TIMES)
    for i in range(3):
        y = z[i].detach().requires_grad_()
        value = (w * tight(f, y, TIMES[i:])[-1]).sum()
        assert value.item() == pytest.approx((w * z[-1]).sum().item(), rel=1e-8)
        assert error(torch.autograd.grad(value, y)[0], a[i]) < 1e-7


# The five derivations


def test_linear_dynamics_have_the_adjoint_of_the_matrix_exponential():
    """a(t) = exp(A^T (1 - t)) w: A^T, and not A, which this A tells apart."""
    A = torch.tensor([[0.3, 2.0], [-1.0, -0.5]], dtype=DOUBLE, requires_grad=True)
    w, z0 = torch.tensor([1.0, -2.0], dtype=DOUBLE), torch.tensor([0.7, 0.4], dtype=DOUBLE, requires_grad=True)
    times = torch.tensor([0.0, 1.0], dtype=DOUBLE)
    loss = w @ odeint_adjoint(lambda t, z: A @ z, z0, times, tight, [A])[-1]
    gz, gA = torch.autograd.grad(loss, [z0, A])
    expected = torch.autograd.grad(w @ torch.linalg.matrix_exp(A) @ z0, [z0, A])
    assert error(gz, expected[0]) < 1e-8 and error(gA, expected[1]) < 1e-8
    assert error(torch.linalg.matrix_exp(A.detach()) @ w, gz) > 0.1


def test_short_time_flow_map_is_identity_plus_eps_jacobian_up_to_second_order(f, z0):
    _, a = path_and_adjoint(f, z0[0], torch.ones(3, dtype=DOUBLE), torch.tensor([0.0, 0.01, 0.1, 1.0], dtype=DOUBLE))
    J = torch.autograd.functional.jacobian(lambda z: f(TIMES[0], z), z0[0])
    defects = [(a[0] - a[i] - eps * J.T @ a[i]).norm().item() for i, eps in ((1, 0.01), (2, 0.1))]
    assert 50 < defects[1] / defects[0] < 200


def test_euler_backpropagation_is_the_recursion(f, z0):
    n, w = 5, torch.randn(2, 3, dtype=DOUBLE)
    h, t = 1 / n, torch.arange(n, dtype=DOUBLE) / n
    start = z0.clone().requires_grad_()
    expected = torch.autograd.grad((w * euler(f, start, TIMES[[0, 3]], n)[-1]).sum(), [start, *f.parameters()])
    states = [z0]
    for k in range(n):
        states.append((states[-1] + h * f(t[k], states[-1])).detach())
    a, g = w, [torch.zeros_like(p) for p in f.parameters()]
    for k in reversed(range(n)):
        z = states[k].requires_grad_()
        Ja, *products = torch.autograd.grad(f(t[k], z), [z, *f.parameters()], a)
        a, g = a + h * Ja, [old + h * new for old, new in zip(g, products, strict=True)]
    for value, reference in zip([a, *g], expected, strict=True):
        assert error(value, reference) < 1e-12


def step(method, f, z, h=0.5):
    """One step from t = 0."""
    return runge_kutta_step(lambda t, z: f(torch.tensor(t, dtype=DOUBLE), z), 0.0, h, z, method)[0]


def backpropagate(method, f, z, a, h=0.5):
    """a_k, the gradients of the parameters, and kappa of every stage, by the recursion."""
    places, slopes, kappa, products = [], [], {}, {}
    for c, row in zip(method.c, method.a):
        y = (z + h * sum((x * F for x, F in zip(row, slopes)), 0 * z)).detach().requires_grad_()
        places.append((torch.tensor(c * h, dtype=DOUBLE), y))
        slopes.append(f(*places[-1]).detach())
    for i in reversed(range(len(places))):
        later = sum((method.a[j][i] * products[j][0] for j in range(i + 1, len(places))), 0 * z)
        kappa[i] = h * method.b[i] * a + h * later
        products[i] = torch.autograd.grad(f(*places[i]), [places[i][1], *f.parameters()], kappa[i])
    of_state, *of_theta = [sum(parts) for parts in zip(*products.values())]
    return [a + of_state, *of_theta], kappa


@pytest.mark.parametrize("method", TABLEAUS.values(), ids=lambda method: method.name)
def test_runge_kutta_backpropagation_is_the_recursion(f, z0, method):
    """For every method, whatever weights of it are zero; and so a.s is constant over the step, exactly."""
    w, push = torch.randn(2, 2, 3, dtype=DOUBLE)
    start = z0.clone().requires_grad_()
    expected = torch.autograd.grad((w * step(method, f, start)).sum(), [start, *f.parameters()])
    found, _ = backpropagate(method, f, z0, w)
    for value, reference in zip(found, expected, strict=True):
        assert error(value, reference) < 1e-12
    pushed = jvp(lambda z: step(method, f, z), z0, push)[1]
    pair = step(method, lambda t, y: torch.stack(jvp(lambda z: f(t, z), y[0], y[1])), torch.stack([z0, push]))
    assert error(pair[1], pushed) < 1e-12
    assert (found[0] * push).sum().item() == pytest.approx((w * pushed).sum().item(), rel=1e-12)


def test_a_stage_without_weight_counts_where_a_later_stage_uses_it(f, z0):
    """The second and the seventh of dopri5 have none."""
    dopri5 = TABLEAUS["dopri5"]
    assert dopri5.b[1] == dopri5.b[6] == 0 and TABLEAUS["midpoint"].b[0] == TABLEAUS["bosh3"].b[3] == 0
    kappa = backpropagate(dopri5, f, z0, torch.ones_like(z0))[1]
    assert kappa[1].norm() > 1e-5 and not kappa[6].any()


@pytest.mark.parametrize("method", [m for m in TABLEAUS.values() if all(m.b)], ids=lambda method: method.name)
def test_without_zero_weights_it_is_a_runge_kutta_method_of_the_adjoint(f, z0, method):
    """Stages a_i = a + h sum_j>i b_j alpha_ji / b_i J_j^T a_j, where kappa_i = h b_i a_i."""
    h, w = 0.5, torch.randn(2, 3, dtype=DOUBLE)
    _, kappa = backpropagate(method, f, z0, w, h)
    slopes, products = [], {}
    places = []
    for c, row in zip(method.c, method.a):
        places.append((torch.tensor(c * h, dtype=DOUBLE), z0 + h * sum((x * F for x, F in zip(row, slopes)), 0 * z0)))
        slopes.append(f(*places[-1]).detach())
    for i in reversed(range(len(places))):
        later = range(i + 1, len(places))
        stage = w + h * sum((method.b[j] * method.a[j][i] / method.b[i] * products[j] for j in later), 0 * w)
        assert error(h * method.b[i] * stage, kappa[i]) < 1e-12
        products[i] = J_transposed(f, *places[i], stage)


@pytest.mark.parametrize("method, order", [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_gradient_through_the_steps_converges_with_the_order_of_the_method(f, z0, method, order):
    weight, errors = torch.randn(2, 2, 3, dtype=DOUBLE), []
    exact = gradients(ours, f, z0, TIMES[[0, 3]], weight)
    for steps in (32, 64):

        def solve(f, z, t):
            return odeint(f, z, t, method=method, options={"step_size": 1 / steps})

        found = gradients(solve, f, z0, TIMES[[0, 3]], weight)
        errors.append(max(error(x, y) for x, y in zip((found[0], *found[2:]), (exact[0], *exact[2:]))))
    slope = torch.tensor(errors[0] / errors[1]).log2().item()
    assert slope == pytest.approx(order, abs=0.35)


def sensitivity_and_adjoint(f, z0, w, dz0, dtheta, grid):
    """z, a, the sensitivity s in the direction (dz0, dtheta) and f_theta dtheta at the times of `grid`."""
    z, a = path_and_adjoint(f, z0, w, grid)
    s = path_and_sensitivity(f, z0, dz0, dtheta, grid)[1]
    return z, a, s, torch.stack([f_theta_times(f, t, y, dtheta) for t, y in zip(grid, z)])


def test_duality_and_the_lagrangian_for_any_multiplier(f, z0):
    """a.s grows by a.f_theta dtheta alone, and any path lambda gives the same derivative, with the terms in s added."""
    grid, weight = gauss(24)
    w, dz0 = torch.randn(2, 2, 3, dtype=DOUBLE)
    dtheta = tuple(torch.randn_like(p) for p in f.parameters())
    with torch.no_grad():
        z, a, s, push = sensitivity_and_adjoint(f, z0, w, dz0, dtheta, grid)
        derivative = (w * s[-1]).sum().item()
        gathered = (weight * (a * push).sum(dim=(1, 2))).sum()
        assert ((a[0] * dz0).sum() + gathered).item() == pytest.approx(derivative, rel=1e-8)
        p, q = torch.randn(2, 2, 3, dtype=DOUBLE)
        multiplier = torch.stack([p * torch.cos(3 * t) + q * t**2 for t in grid])
        rate = torch.stack([-3 * p * torch.sin(3 * t) + 2 * q * t for t in grid])
        Jl = torch.stack([J_transposed(f, t, x, v) for t, x, v in zip(grid, z, multiplier)])
        inside = ((rate + Jl) * s + multiplier * push).sum(dim=(1, 2))
        total = ((w - multiplier[-1]) * s[-1]).sum() + (multiplier[0] * dz0).sum() + (weight * inside).sum()
        assert total.item() == pytest.approx(derivative, rel=1e-8)
        assert (weight * ((rate + Jl) * s).sum(dim=(1, 2))).sum().abs() > 0.1  # the terms that a removes are not small


def test_product_of_adjoint_and_sensitivity_is_constant(f, z0):
    w, dz0 = torch.randn(2, 2, 3, dtype=DOUBLE)
    with torch.no_grad():
        _, a, s, _ = sensitivity_and_adjoint(f, z0, w, dz0, tuple(map(torch.zeros_like, f.parameters())), TIMES)
    products = (a * s).sum(dim=(1, 2))
    assert ((products - products[0]).abs().max() / products[0].abs()).item() < 1e-8
    assert (a[0] - a[-1]).norm() > 0.1


def test_hamiltonian_is_conserved_by_autonomous_dynamics_only(z0):
    w = torch.randn(2, 3, dtype=DOUBLE)
    spread = {}
    for autonomous in (True, False):
        f = Field(autonomous=autonomous)
        z, a = path_and_adjoint(f, z0, w, TIMES)
        H = torch.stack([(a_ * f(t, z_)).sum() for t, z_, a_ in zip(TIMES, z, a)])
        spread[autonomous] = ((H - H[0]).abs().max() / H[0].abs()).item()
    assert spread[True] < 1e-8 and spread[False] > 1e-3


def test_exact_change_of_the_loss_for_a_large_change_of_theta(f, z0):
    """L(theta + d) - L(theta) is the integral of a difference of Hamiltonians, and d is not small."""
    torch.manual_seed(1)
    changed, w = Field(), torch.randn(2, 3, dtype=DOUBLE)
    nodes, weight = gauss(24)
    end = nodes[-1]
    with torch.no_grad():
        path = tight(changed, z0, nodes)
    total = 0.0
    for t, z, share in list(zip(nodes, path, weight))[1:-1]:
        y = z.clone().requires_grad_()
        value = (w * tight(f, y, torch.stack([t, end]))[-1].sin()).sum()
        (a,) = torch.autograd.grad(value, y)
        total += (share * (a * (changed(t, z) - f(t, z))).sum()).item()
    with torch.no_grad():
        old, new = ((w * g[-1].sin()).sum().item() for g in (tight(f, z0, TIMES), path))
    assert abs(new - old) > 0.1
    assert total == pytest.approx(new - old, rel=1e-7)


# Parameters and time as states, batches, running costs


def test_clock_as_a_state_gives_the_gradient_of_the_start(f, z0):
    """dL/dt0 = -a(t0) f(t0) = -w f(t1) + the integral of a df/dt."""
    w = torch.randn(2, 3, dtype=DOUBLE)
    nodes, weight = gauss(24)
    z, a = path_and_adjoint(f, z0, w, nodes)
    at = [(a_ * jvp(lambda t: f(t, z_), t, torch.ones_like(t))[1]).sum() for t, z_, a_ in zip(nodes, z, a)]
    by_clock = -(w * f(nodes[-1], z[-1])).sum() + (weight * torch.stack(at)).sum()
    assert by_clock.item() == pytest.approx(-(a[0] * f(nodes[0], z0)).sum().item(), rel=1e-8)


def test_parameters_as_states_give_the_same_gradient(f, z0):
    """theta appended to the state, with dtheta/dt = 0: the adjoint's part for it is dL/dtheta."""
    names, shapes = zip(*((name, p.shape) for name, p in f.named_parameters()))
    theta = torch.cat([p.detach().flatten() for p in f.parameters()])

    def whole(t, y):
        z, flat = y[:6].view(2, 3), y[6:]
        values = [v.view(s) for v, s in zip(flat.split([s.numel() for s in shapes]), shapes)]
        dz = torch.func.functional_call(f, dict(zip(names, values)), (t, z))
        return torch.cat([dz.flatten(), torch.zeros_like(flat)])

    y = torch.cat([z0.flatten(), theta]).requires_grad_()
    w = torch.randn(2, 3, dtype=DOUBLE)
    odeint_adjoint(whole, y, TIMES, tight)[-1, :6].mul(w.flatten()).sum().backward()
    (w * ours(f, z0, TIMES)[-1]).sum().backward()
    assert error(y.grad[6:], torch.cat([p.grad.flatten() for p in f.parameters()])) < 1e-7


def test_gradient_of_a_batch_is_the_sum_over_its_images(f):
    z0, w = torch.randn(2, 4, 3, dtype=DOUBLE)
    together = torch.autograd.grad((w * ours(f, z0, TIMES)[-1]).sum(), f.parameters())
    alone = [torch.autograd.grad((w[k] * ours(f, z0[k], TIMES)[-1]).sum(), f.parameters()) for k in range(4)]
    for value, parts in zip(together, zip(*alone), strict=True):
        assert error(value, sum(parts)) < 1e-8


def test_running_cost_adds_its_gradients_to_those_of_z_and_of_theta(f, z0):
    """The kinetic energy: da/dt = -J^T (a + f) with a(t1) = 0, and dL/dtheta is the integral of f_theta^T (a + f)."""

    def with_cost(t, y):
        velocity = f(t, y[:6].view(2, 3))
        return torch.cat([velocity.flatten(), velocity.square().sum()[None] / 2])

    y = torch.cat([z0.flatten(), torch.zeros(1, dtype=DOUBLE)]).requires_grad_()
    cost = odeint_adjoint(with_cost, y, TIMES, tight, f.parameters())[-1, -1]
    expected, *of_theta = torch.autograd.grad(cost, [y, *f.parameters()])
    nodes, weight = gauss(24)
    z1 = tight(f, z0, nodes)[-1].detach()

    def equation(t, y):
        velocity = f(t, y[0])
        return torch.stack([velocity, -J_transposed(f, t, y[0], y[1] + velocity)])

    path = tight(equation, torch.stack([z1, torch.zeros_like(z1)]), nodes.flip(0)).flip(0).detach()
    assert error(path[0, 1], expected[:6]) < 1e-7
    found, without = [torch.zeros_like(p) for p in f.parameters()], [torch.zeros_like(p) for p in f.parameters()]
    for t, (z, a), share in zip(nodes, path, weight):
        velocity = f(t, z)
        for total, price in ((found, a + velocity.detach()), (without, a)):
            for part, product in zip(total, torch.autograd.grad(velocity, f.parameters(), price, retain_graph=True)):
                part += share * product
    assert error(found, list(of_theta)) < 1e-7
    assert error(without, list(of_theta)) > 0.1  # the direct part is not small


def test_one_number_by_hand():
    """dz/dt = theta z and L = z(1)^2 / 2; and dz/dt = theta z^2, where J depends on the path."""
    times = TIMES[[0, 3]]

    def found(f, loss):
        theta, z0 = (torch.tensor([x], dtype=DOUBLE, requires_grad=True) for x in (0.4, 1.5))
        end = odeint_adjoint(lambda t, z: f(theta, z), z0, times, tight, [theta])[-1]
        return torch.autograd.grad(loss(end), [z0, theta]), z0.detach(), end.detach()

    gradient, z0, z1 = found(lambda theta, z: theta * z, lambda z: z.square().sum() / 2)
    assert error(list(gradient), [z1**2 / z0, z1**2]) < 1e-8
    gradient, z0, z1 = found(lambda theta, z: theta * z**2, torch.sum)
    assert error(list(gradient), [(z1 / z0) ** 2, z1**2]) < 1e-8


def test_rows_of_the_jacobian_are_adjoints_and_its_columns_sensitivities(f, z0):
    rows = [path_and_adjoint(f, z0[0], e, TIMES)[1][0] for e in torch.eye(3, dtype=DOUBLE)]
    columns = [path_and_sensitivity(f, z0[0], e, None, TIMES)[1][-1] for e in torch.eye(3, dtype=DOUBLE)]
    assert error(torch.stack(rows), torch.stack(columns, dim=1)) < 1e-8


# What the method is not


def test_adjoint_on_a_fixed_grid_is_not_the_gradient_of_the_discrete_loss(f, z0):
    weight, gaps = torch.randn(2, 2, 3, dtype=DOUBLE), []
    for steps in (16, 32, 64):
        direct = gradients(lambda f, z, t: euler(f, z, t, steps), f, z0, TIMES[[0, 3]], weight)
        adjoint = gradients(
            lambda f, z, t: odeint_adjoint(f, z, t, lambda *args: euler(*args, steps)), f, z0, TIMES[[0, 3]], weight
        )
        gaps.append(error(adjoint[0], direct[0]))
    assert gaps[0] > 1e-3
    assert 1.6 < gaps[0] / gaps[1] < 2.4 and 1.6 < gaps[1] / gaps[2] < 2.4


def test_adjoint_on_a_fixed_grid_is_the_gradient_of_no_function(f, z0):
    """Else its Jacobian were symmetric, as that of the direct gradient is."""
    w, shift = torch.randn(3, dtype=DOUBLE), 1e-4

    def of_start(z, solver):
        z = z.clone().requires_grad_()
        return torch.autograd.grad(w @ solver(f, z, TIMES[[0, 3]])[-1], z)[0]

    def asymmetry(steps, adjoint):
        def few(*args):
            return euler(*args, steps)

        solver = (lambda *args: odeint_adjoint(*args, few)) if adjoint else few
        pushes = shift * torch.eye(3, dtype=DOUBLE)
        slopes = [(of_start(z0[0] + e, solver) - of_start(z0[0] - e, solver)) / (2 * shift) for e in pushes]
        return error(torch.stack(slopes), torch.stack(slopes).T)

    assert asymmetry(1, adjoint=False) < 1e-6
    found = [asymmetry(steps, adjoint=True) for steps in (1, 4, 16)]
    assert found[0] > 0.01 and found[2] < found[0]


def test_intermediate_times_mend_the_reconstruction_of_a_decay():
    """A transient z_1 that dies as e^(-20 t) and leaves its trace in z_2; dL/dz_1(0) = 1 needs the transient back."""

    def fast(t, z):
        return torch.stack([-20 * z[0], 20 * z[0] ** 2])

    def gradient(pieces, direct=False):
        z0 = torch.tensor([1.0, 0.0], dtype=DOUBLE, requires_grad=True)
        times = torch.linspace(0, 1, pieces + 1, dtype=DOUBLE)

        def solver(f, z, t):
            return odeint(f, z, t, rtol=1e-6, atol=1e-6)

        states = solver(fast, z0, times) if direct else odeint_adjoint(fast, z0, times, solver)
        return torch.autograd.grad(states[-1, 1], z0)[0][0].item()

    assert abs(gradient(1, direct=True) - 1) < 1e-4
    assert abs(gradient(1) - 1) > 1
    assert abs(gradient(10) - 1) < 1e-3


def test_formulas_hold_for_relu_where_the_path_crosses_its_kinks(z0):
    f, w = Field(torch.relu), torch.randn(2, 3, dtype=DOUBLE)
    with torch.no_grad():
        active = [f.inner(torch.cat([z, t.expand(2, 1)], dim=1)) > 0 for t, z in zip(TIMES, tight(f, z0, TIMES))]
    assert any((a != active[0]).any() for a in active)  # a kink is crossed
    start, h = z0.clone().requires_grad_(), 1e-5
    (g,) = torch.autograd.grad((w * ours(f, start, TIMES[[0, 3]])[-1]).sum(), start)
    push = torch.randn(2, 3, dtype=DOUBLE)
    with torch.no_grad():
        up, down = ((w * tight(f, z0 + s * h * push, TIMES)[-1]).sum() for s in (1, -1))
    assert (g * push).sum().item() == pytest.approx(((up - down) / (2 * h)).item(), rel=1e-3)


def test_relu_leaves_rk4_order_two_for_the_state_and_one_for_the_gradient():
    """Means over ten networks; with tanh both are of order four."""
    measured = {}
    for activation in (torch.relu, torch.tanh):
        logs = []
        for seed in range(10):
            torch.manual_seed(seed)
            f, w = Field(activation), torch.ones(3, dtype=DOUBLE)
            z0 = torch.randn(3, dtype=DOUBLE, requires_grad=True)

            def both(**solver):
                z1 = odeint(f, z0, TIMES[[0, 3]], **solver)[-1]
                return z1.detach(), torch.autograd.grad(w @ z1, z0)[0]

            sharp = both(rtol=1e-11, atol=1e-11)
            grids = [both(method="rk4", options={"step_size": 1 / n}) for n in (4, 8, 16, 32)]
            logs.append([[np.log(error(x, y)) for x, y in zip(grid, sharp)] for grid in grids])
        measured[activation] = -np.polyfit(np.log([4, 8, 16, 32]), np.mean(logs, axis=0), 1)[0]
    assert measured[torch.tanh] == pytest.approx([4, 4], abs=0.3)
    assert measured[torch.relu] == pytest.approx([2, 1], abs=0.6)


def test_a_field_that_jumps_moves_its_end_by_more_than_the_formulas_say():
    """f = 1 below z = 1/2 and 2 above: J = 0 on both sides, and z(1) moves twice as fast as z(0)."""
    ends = []
    for z in (-0.01, 0.01):
        for _ in range(2000):
            z += (1 if z < 0.5 else 2) / 2000
        ends.append(z)
    assert (ends[1] - ends[0]) / 0.02 == pytest.approx(2, abs=0.06)


# Mistakes


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_planted_mistake_is_caught_by_the_test_that_the_page_names(monkeypatch, f, z0, mistake):
    test = globals()[mistake.test]
    given = {name: {"f": f, "z0": z0}[name] for name in inspect.signature(test).parameters}
    monkeypatch.setattr(sys.modules[__name__], "odeint_adjoint", mistake.planted())
    with pytest.raises(AssertionError):
        test(**given)


def test_a_mistake_whose_line_is_gone_says_so():
    with pytest.raises(ValueError, match="no jump: 'a line that is not there' stands 0 times"):
        replace(MISTAKES[5], edits=(("a line that is not there", ""),)).planted()


def test_checks_fail_where_two_sides_differ_and_keep_a_record(monkeypatch, capsys):
    check = Checks()
    check("equal", [1.0, torch.tensor([2.0])], torch.tensor([1.0, 2.0]), 1e-12)
    for wrong in (torch.tensor([1.0, 2.1]), torch.tensor([1.0, float("nan")])):
        with pytest.raises(AssertionError, match="not equal: the relative error"):
            check("not equal", wrong, torch.tensor([1.0, 2.0]), 1e-3)
    assert check.rows == [("equal", 0.0, 1e-12)] and capsys.readouterr().out == "equal: relative error 0e+00\n"
    shown = []
    monkeypatch.setattr(identities, "table", lambda header, rows: shown.extend([header, *rows]))
    check.show()
    assert shown == [["identity", "relative error", "tolerance"], ["equal", "0e+00", "1e-12"]]


# The door, and odds and ends of the module


@pytest.mark.parametrize(
    "times, message",
    [
        ([0.0], "at least two floats"),
        ([[0.0, 1.0]], "in a row"),
        ([0, 1], "floats"),
        ([0.0, 1.0, 1.0], "strictly"),
        ([0.0, 1.0, 0.5], "strictly"),
        ([0.0, float("nan")], "strictly"),
    ],
)
def test_times_are_checked(unchecked, f, z0, times, message):
    with pytest.raises(ValueError, match=message):
        odeint_adjoint(f, z0, torch.tensor(times), tight)


def test_dynamics_and_solver_of_wrong_shape_are_named(f, z0):
    with pytest.raises(ValueError, match=r"shape of the state: got \(1, 3\) for \(2, 3\)"):
        odeint_adjoint(lambda t, z: z[:1], z0, TIMES, euler)
    with pytest.raises(ValueError, match=r"one state for each time: got \(2, 3\) for \(4, 2, 3\)"):
        odeint_adjoint(f, z0, TIMES, lambda f, z, t: euler(f, z, t)[-1])


def test_frozen_parameters_get_none_and_disturb_no_other(f, z0):
    (ours(f, z0, TIMES)[-1] ** 2).sum().backward()
    expected = f.outer.weight.grad.clone()
    f.zero_grad()
    f.inner.requires_grad_(False)
    (ours(f, z0, TIMES)[-1] ** 2).sum().backward()
    assert f.inner.weight.grad is None
    assert error(f.outer.weight.grad, expected) < 1e-7


def test_dynamics_of_the_time_alone_have_the_identity_as_gradient():
    z0 = torch.randn(2, 3, dtype=DOUBLE, requires_grad=True)
    odeint_adjoint(lambda t, z: torch.ones_like(z) * t, z0, TIMES, tight)[-1].sum().backward()
    torch.testing.assert_close(z0.grad, torch.ones_like(z0))


def test_unused_parameter_gets_zero_and_a_second_derivative_is_refused(f, z0):
    f.idle = nn.Parameter(torch.ones(2, dtype=DOUBLE))
    z0 = z0.requires_grad_()
    (g, *_, idle) = torch.autograd.grad(
        ours(f, z0, TIMES)[-1].pow(2).sum(), [z0, f.inner.weight, f.idle], create_graph=True
    )
    assert idle.tolist() == [0.0, 0.0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_states_of_images_and_of_float32_keep_shape_and_dtype():
    conv = nn.Conv2d(2, 2, 3, padding=1)
    z0 = torch.randn(3, 2, 4, 4, requires_grad=True)
    times = torch.tensor([0.0, 1.0], requires_grad=True)
    states = odeint_adjoint(lambda t, z: torch.tanh(conv(z)), z0, times, euler, tuple(conv.parameters()))
    states[-1].sum().backward()
    assert states.shape == (2, 3, 2, 4, 4) and z0.grad.shape == z0.shape
    assert {g.dtype for g in (z0.grad, times.grad, conv.weight.grad)} == {torch.float32}


def test_f_sees_the_time_in_the_type_of_the_state_whatever_that_of_times():
    def f(t, z):
        assert t.dtype == z.dtype
        return torch.cat([z[:, 1:], t.expand(2, 1)], dim=1)

    z0 = torch.randn(2, 3, requires_grad=True)
    times = torch.tensor([0.0, 1.0], dtype=DOUBLE, requires_grad=True)
    odeint_adjoint(f, z0, times, solvers.odeint)[-1].sum().backward()
    assert z0.grad.dtype == torch.float32 and times.grad.dtype == DOUBLE and times.grad.any()


def test_parameters_may_be_given_as_a_module_yields_them(f, z0):
    z0 = z0.requires_grad_()
    for solve in (ours, lambda f, *args: odeint_adjoint(lambda t, z: f(t, z), *args, tight, f.parameters())):
        f.zero_grad()
        solve(f, z0, TIMES)[-1].sum().backward()
        assert f.inner.weight.grad.any()


def test_nothing_but_the_requested_states_and_the_parameters_is_kept(f, z0):
    """Memory does not grow with the steps."""
    kept = []
    for steps in (4, 64):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            odeint_adjoint(f, z0, TIMES, lambda *p: euler(*p, steps))
        kept.append(sum(sizes))
    parameters = sum(p.numel() for p in f.parameters())
    assert kept == [len(TIMES) + 4 * z0.numel() + parameters] * 2
