"""What the pages on theory say in words of numbers that they compute is so: a page itself only shows the numbers."""

import copy
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchdiffeq
from torch import nn

from odelib import (
    Config,
    ODEBlock,
    Solver,
    build,
    count_evaluations,
    count_saved_bytes,
    load_dataset,
    load_weights,
    solvers,
)
from odelib.book.identities import Field, relu_inputs
from odelib.errors import OptionError
from odelib.records import RESULTS
from odelib.studies import STUDIES, mnist_numbers

DOUBLE = torch.float64
UNIT = torch.tensor([0.0, 1.0], dtype=DOUBLE)


@pytest.fixture(scope="module")
def network():
    """The network that was trained on MNIST, in double precision."""
    model, _ = load_weights(RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors")
    return model.double()


@pytest.fixture(scope="module")
def digits():
    return load_dataset("mnist-sample").test.pick(slice(0, 16))


@pytest.fixture(scope="module")
def states(network, digits):
    """The states of 16 digits at t = 0."""
    with torch.no_grad():
        return network.stem(digits.images.double() / 255)


@pytest.fixture(scope="module")
def few(states):
    return states[:8]


def solve(f, z, **options):
    """The state at t = 1, and NFE."""
    block = ODEBlock(f, Solver(**options))
    with torch.no_grad(), count_evaluations(block) as seen:
        return block(z), seen.n


def tolerance(size):
    return {"rtol": size, "atol": size}


def relative(value, reference):
    return ((value - reference).norm() / reference.norm()).item()


def order(sizes, errors):
    """The slope on logarithmic axes, positive where errors fall as the number of steps grows."""
    return -np.polyfit(np.log(sizes), np.log(errors), 1)[0]


# resnet-to-ode


def test_depth_refined_approaches_the_flow_with_the_order_of_the_method():
    def pendulum(t, z):
        return 4 * torch.stack([z[:, 1], -torch.sin(z[:, 0]) - 0.3 * z[:, 1]], dim=1)

    line = torch.linspace(-2, 2, 9, dtype=DOUBLE)
    z0, layers = torch.cartesian_prod(line, line), [16, 32, 64, 128]
    exact, _ = solve(pendulum, z0, **tolerance(1e-10))
    for method, expected in (("euler", 1), ("midpoint", 2), ("rk4", 4)):
        ends = [solve(pendulum, z0, method=method, step_size=1 / n)[0] for n in layers]
        assert order(layers, [(z1 - exact).abs().max() for z1 in ends]) == pytest.approx(expected, abs=0.4)


START_OF_STACKS = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))


def stack(weights, h, n):
    """The states after n layers z + h tanh(W z); `weights` gives W at a share of the depth."""
    z = START_OF_STACKS
    for k in range(n):
        z = z + h * torch.tanh(z @ weights(k / n).T)
    return z


def test_independent_layers_average_out_or_stay_random_by_their_scale():
    torch.manual_seed(1)
    mean = torch.randn(16, 16) / 2

    def drawn(share):
        return mean + torch.randn(16, 16) / 2

    def centred(share):
        return torch.randn(16, 16) / 2

    apart = {n: relative(stack(drawn, 1 / n, n), stack(drawn, 1 / n, n)) for n in (16, 256)}
    assert apart[256] == pytest.approx(apart[16] / 4, rel=0.3)
    still = {n: relative(stack(centred, 1 / n, n), START_OF_STACKS) for n in (16, 256)}
    assert still[256] == pytest.approx(still[16] / 4, rel=0.3)
    for n in (16, 256):
        one, other = stack(centred, n**-0.5, n), stack(centred, n**-0.5, n)
        assert relative(one, START_OF_STACKS) > 0.5 and relative(one, other) > 0.5


def test_a_random_walk_over_the_layers_keeps_a_path_of_its_own_in_every_draw():
    torch.manual_seed(1)
    first = torch.randn(16, 16) / 2

    def walk(n):
        weights = first + torch.cumsum(torch.randn(n, 16, 16) / 2 / n**0.5, dim=0)
        return lambda share: weights[round(share * n)]

    for n in (16, 256):
        one, other = (stack(walk(n), 1 / n, n) for _ in range(2))
        assert relative(one, other) > 0.3


def test_weights_that_jump_converge_at_first_order_too():
    torch.manual_seed(1)
    first, second = torch.randn(2, 16, 16) / 2
    ends = {n: stack(lambda share: first if share < 0.5 else second, 1 / n, n) for n in (16, 64, 2048)}
    assert order([16, 64], [relative(ends[n], ends[2048]) for n in (16, 64)]) == pytest.approx(1, abs=0.15)


def test_what_is_enclosed_stays_enclosed_in_a_flow_of_the_plane_and_not_under_leaps():
    """The winding number of a carried circle around a carried point, for random fields of time and place."""
    circle = torch.polar(torch.ones(2000), torch.linspace(0, 2 * np.pi, 2000))
    points = torch.cat([torch.view_as_real(circle).double(), torch.tensor([[0.3, -0.2]], dtype=DOUBLE)])

    def winding(steps, seed):
        torch.manual_seed(seed)
        W = 4 * torch.randn(2, 2, 3, dtype=DOUBLE)

        def field(t, z):
            clock = t * torch.ones_like(z[:, :1])
            return 2 * torch.tanh(torch.cat([z, clock], dim=1) @ W[0].T) @ W[1, :, :2].T

        ends = solvers.odeint(field, points, UNIT, method="euler", step_size=1 / steps)[-1]
        around = torch.view_as_complex((ends[:-1] - ends[-1]).contiguous())
        return (around[1:] / around[:-1]).angle().sum().item() / (2 * np.pi)

    leaps = [round(winding(1, seed)) for seed in range(8)]
    assert any(turns != 1 for turns in leaps)
    assert [round(winding(2000, seed), 6) for seed in range(4)] == [1] * 4


# odeblock


@pytest.fixture(scope="module")
def by_tolerance(network, few):
    """NFE and the error of z(1) at tolerances of 1e-1 to 1e-6: of the trained block, and of its copy without kinks."""
    found = {"ReLU": network.block.f, "rounded": copy.deepcopy(network.block.f)}
    found["rounded"].relu = nn.Softplus(beta=4)
    for name, f in found.items():
        exact, _ = solve(f, few, **tolerance(1e-8))
        ends = [solve(f, few, **tolerance(10.0**-k)) for k in range(1, 7)]
        found[name] = [nfe for _, nfe in ends], [relative(z1, exact) for z1, _ in ends]
    return found


def test_a_tighter_tolerance_buys_accuracy_with_evaluations(by_tolerance):
    for evaluations, errors in by_tolerance.values():
        assert all(after >= before for before, after in pairwise(evaluations)) and evaluations[-1] > evaluations[0]
        assert errors[-1] < errors[0] / 100


def test_behind_kinks_the_error_falls_more_slowly_than_the_tolerance(by_tolerance):
    (kinked_nfe, kinked), (smooth_nfe, smooth) = by_tolerance["ReLU"], by_tolerance["rounded"]
    fall = [order([1e1, 1e5], [errors[1], errors[-1]]) for errors in (kinked, smooth)]  # from 1e-2 to 1e-6
    assert fall[0] < 0.75 < fall[1] and smooth_nfe[-1] < kinked_nfe[-1]


def test_a_push_at_the_start_does_not_grow_much(network, few):
    push = 1e-4 * torch.randn_like(few)
    pushed, z1 = (solve(network.block.f, z, **tolerance(1e-7))[0] for z in (few + push, few))
    assert (pushed - z1).norm() < 3 * push.norm()


def test_torchdiffeq_asks_the_trained_block_beyond_the_end(network, few):
    times = []

    def watched(t, z):
        times.append(t.item())
        return network.block.f(t, z)

    with torch.no_grad():
        torchdiffeq.odeint(watched, few, UNIT, method="dopri5", rtol=1e-3, atol=1e-3)
    assert max(times) > 1


def test_the_rest_of_a_batch_moves_a_state_by_a_few_times_its_error_and_on_a_grid_by_rounding(network, states):
    f = network.block.f
    for options, limit in (({}, 5), ({"method": "rk4", "step_size": 0.25}, 1e-9)):
        alone, _ = solve(f, states[:1], **options)
        exact, _ = solve(f, states[:1], **tolerance(1e-7))
        together = [solve(f, states[:n], **options)[0][:1] for n in (2, 4, 8, 16)]
        shift = max(relative(z1, alone) for z1 in together)
        assert shift < limit * relative(alone, exact) and (options or shift > 0)


# solvers


def climb(t, z):
    return torch.cos(3 * t) * torch.exp(-z)


def test_dopri5_of_torchdiffeq_asks_beyond_the_end_and_is_less_accurate_there_than_with_a_last_step_to_the_end():
    z0 = torch.tensor([0.3, 0.5, 0.6], dtype=DOUBLE)
    exact = torch.log(torch.exp(z0) + torch.sin(3 * UNIT[1]) / 3)
    for size in (1e-2, 1e-3, 1e-4, 1e-5):
        errors, latest, evaluations = [], [], []
        for options in ({}, {"step_t": UNIT[1:]}):
            asked = []
            watched = partial(lambda asked, t, z: asked.append(t.item()) or climb(t, z), asked)
            z1 = torchdiffeq.odeint(watched, z0, UNIT, method="dopri5", rtol=size, atol=size, options=options)[-1]
            errors.append((z1 - exact).abs().max())
            latest.append(max(asked))
            evaluations.append(len(asked))
        assert errors[0] > errors[1] and evaluations[0] >= evaluations[1] and latest[0] > 1.1 > 1 + 1e-6 > latest[1]


@pytest.mark.parametrize("method", ["euler", "heun", "rk4"])
@pytest.mark.parametrize("theta", [2.0, -2.0])
def test_the_end_is_as_near_as_the_theorem_on_convergence_says(method, theta):
    """With K = |theta| and C from the largest error of a step; a quarter of the bound is reached where K is sharp."""
    times = torch.linspace(0, 1, 21, dtype=DOUBLE)
    states = solvers.odeint(lambda t, z: theta * z, torch.ones(1, dtype=DOUBLE), times, method=method)[:, 0]
    local = (states[1:] - states[:-1] * np.exp(theta / 20)).abs().max()  # C h^(p + 1)
    bound = local * 20 / abs(theta) * (np.exp(abs(theta)) - 1)
    error = abs(states[-1] - np.exp(theta))
    assert error <= bound and (theta < 0 or error > bound / 4)


def test_stiffness_ends_where_the_tolerance_is_tight():
    """Rate times mean step: at the edge of the stability region at 1e-4, well below it at 1e-8."""
    limits = {}
    for size in (1e-4, 1e-8):
        seen, span = solvers.Statistics(), torch.tensor([0.0, 2.0], dtype=DOUBLE)
        z0 = torch.ones(1, dtype=DOUBLE)
        solvers.odeint(lambda t, z: -1000 * (z - torch.cos(t)), z0, span, rtol=size, atol=size, statistics=seen)
        limits[size] = 1000 * 2 / seen.accepted
    assert 3 < limits[1e-4] < 3.5 and limits[1e-8] < 2


def test_the_interpolant_of_dopri5_gains_an_order_by_its_dense_weights():
    def slope(tableau):
        errors, z0 = [], torch.tensor([0.3, 0.5, 0.6], dtype=DOUBLE)
        for h in (0.1, 0.05):
            z1, stages = solvers.runge_kutta_step(lambda t, z: climb(torch.tensor(t), z), 0.0, h, z0, tableau)
            middle = solvers.interpolate(0.5, h, z0, z1, stages, stages[-1], tableau)
            exact = torch.log(torch.exp(z0) + torch.sin(torch.tensor(1.5 * h, dtype=DOUBLE)) / 3)
            errors.append((middle - exact).abs().max())
        return order([1, 2], errors)

    cubic = replace(solvers.DOPRI5, dense=None)
    assert slope(solvers.DOPRI5) == pytest.approx(5, abs=0.5) and slope(cubic) == pytest.approx(4, abs=0.5)


# backward-pass, adjoint-proofs, adjoint-limits


def gradient(f, z, w, **options):
    """The gradient of w . z(1) by theta, and NFE forward and backward."""
    block = ODEBlock(f, Solver(**options))
    with count_evaluations(block) as forward:
        loss = (block(z) * w).sum()
    with count_evaluations(block) as backward:
        found = torch.autograd.grad(loss, list(f.parameters()))
    return torch.cat([part.flatten() for part in found]), forward.n, backward.n


@pytest.fixture(scope="module")
def loss_gradient(network, digits, few):
    """What the head hands to the block, by z(1)."""
    z1 = solve(network.block.f, few)[0].requires_grad_()
    loss = nn.functional.cross_entropy(network.head(z1), digits.labels[:8])
    return torch.autograd.grad(loss, z1)[0]


def test_the_scale_of_the_loss_steers_the_adjoint_and_less_so_the_seminorm(network, few, loss_gradient):
    f, options = network.block.f, tolerance(1e-3)
    _, _, small = gradient(f, few, loss_gradient, gradient="adjoint", **options)
    _, _, large = gradient(f, few, 1e5 * loss_gradient, gradient="adjoint", **options)
    _, _, seminorm = gradient(f, few, 1e5 * loss_gradient, gradient="seminorm", **options)
    assert large > 2 * small and seminorm < large


def test_before_training_too_the_adjoint_is_far_below_the_tolerance_and_backward_costs_what_the_state_costs():
    digits = load_dataset("mnist-sample").test.pick(slice(0, 128))
    untrained = build(Config(), load_dataset("mnist-sample")).double()
    f, options = untrained.block.f, tolerance(1e-3)
    with torch.no_grad():
        z = untrained.stem(digits.images.double() / 255)
    z1 = solve(f, z, **options)[0].requires_grad_()
    (a,) = torch.autograd.grad(nn.functional.cross_entropy(untrained.head(z1), digits.labels), z1)
    assert a.square().mean().sqrt() < options["atol"] / 50
    plain, seminorm = (gradient(f, z, a, gradient=way, **options)[2] for way in ("adjoint", "seminorm"))
    calls = []
    with torch.no_grad():
        torchdiffeq.odeint(lambda t, y: calls.append(t) or f(t, y), z1.detach(), UNIT.flip(0), **options)
    assert plain == seminorm == len(calls)


def test_the_adjoint_that_the_head_hands_over_is_small_for_three_reasons(network, digits, few, loss_gradient):
    """The head's own derivative, how sure the network is, and the mean over the batch."""
    z1 = solve(network.block.f, few)[0].requires_grad_()
    right = network.head(z1).softmax(dim=1), network.head(z1)[range(8), digits.labels[:8]]
    doubt = 1 - right[0][range(8), digits.labels[:8]].mean()
    of_logit = torch.autograd.grad(right[1].sum(), z1)[0].square().mean().sqrt()
    size = loss_gradient.square().mean().sqrt()
    assert 0.2 < of_logit * doubt / 8 / size < 5
    assert of_logit < 0.1 and doubt < 0.1 and 8 * size < 1e-3  # the sum over the batch is below the tolerance as well


def test_the_block_can_be_rebuilt_from_its_end(network, few):
    there = torchdiffeq.odeint(network.block.f, few, UNIT, rtol=1e-3, atol=1e-3)[-1]
    back = torchdiffeq.odeint(network.block.f, there, UNIT.flip(0), rtol=1e-3, atol=1e-3)[-1]
    assert relative(back, few) < 0.1


def test_a_digit_crosses_more_than_a_thousand_kinks_and_none_at_rest(network, few):
    inputs = relu_inputs(network.block.f, few[:2], torch.linspace(0, 1, 201, dtype=DOUBLE))
    assert inputs.shape == (201, 2, 4608)
    switches = inputs.sign().diff(dim=0) != 0
    assert (switches.sum(dim=(0, 2)) > 1000).all()
    assert inputs.diff(dim=0)[switches].abs().min() > 0


def test_what_a_relu_is_given_is_in_the_order_of_times_images_and_units(network, few):
    """That of the first layer is a norm of the state."""
    times = torch.linspace(0, 1, 3, dtype=DOUBLE)
    inputs = relu_inputs(network.block.f, few[:2], times)
    with torch.no_grad():
        path = torchdiffeq.odeint(network.block.f, few[:2], times, rtol=1e-5, atol=1e-5)
        first = torch.stack([network.block.f.norm1(z).flatten(1) for z in path])
    torch.testing.assert_close(inputs[..., :2304], first)


def gradient_errors(f, z, w, tight):
    """Of the direct gradient at tolerances of 1e-2 to 1e-5, the relative errors and NFE forward; and of the adjoint."""

    def by_theta(solver, size, **options):
        asked = []
        hook = f.register_forward_pre_hook(lambda *_: asked.append(1))
        z1 = solver(f, z, UNIT, rtol=size, atol=size, **options)[-1]
        nfe = len(asked)
        hook.remove()
        parts = torch.autograd.grad((w * z1).sum(), list(f.parameters()))
        return torch.cat([part.flatten() for part in parts]), nfe

    stop = {"options": {"step_t": UNIT[1:]}}
    exact, _ = by_theta(torchdiffeq.odeint, tight, **stop)
    ways = {
        "direct": (torchdiffeq.odeint, {}),
        "no overshoot": (torchdiffeq.odeint, stop),
        "adjoint": (torchdiffeq.odeint_adjoint, {}),
    }
    found = {name: [by_theta(how, 10.0**-k, **more) for k in range(2, 6)] for name, (how, more) in ways.items()}
    errors = {name: np.array([relative(value, exact) for value, _ in pairs]) for name, pairs in found.items()}
    return errors, {name: [nfe for _, nfe in pairs] for name, pairs in found.items()}


def test_on_the_trained_block_the_direct_gradient_is_ahead_and_both_are_off_at_the_usual_tolerance(
    network, few, loss_gradient
):
    errors, _ = gradient_errors(network.block.f, few, loss_gradient, 1e-7)
    assert (errors["adjoint"] > errors["direct"]).all() and errors["direct"][1] > 0.01
    assert (errors["direct"] < 2 * errors["no overshoot"]).all()  # behind kinks it hardly matters where a step ends


def test_on_a_smooth_field_direct_is_far_better_when_the_last_step_ends_at_the_end():
    torch.manual_seed(0)
    f, z0, w = Field(), *torch.randn(2, 3, dtype=DOUBLE)
    errors, nfe = gradient_errors(f, z0, w, 1e-11)
    assert (errors["direct"] > 3 * errors["no overshoot"]).all()
    assert all(stopped <= plain for stopped, plain in zip(nfe["no overshoot"], nfe["direct"]))


@pytest.mark.parametrize("rate", (10, 100, 1000))
def test_what_follows_a_cosine_at_a_large_rate_is_off_by_one_over_the_rate(rate):
    times = torch.linspace(0, 5, 101, dtype=DOUBLE)
    start = torch.ones(1, dtype=DOUBLE)
    path = solvers.odeint(lambda t, z: -rate * (z - torch.cos(t)), start, times, rtol=1e-7, atol=1e-7)
    assert (rate * (path[:, 0] - times.cos()).abs().max()).item() == pytest.approx(1, abs=0.05)


class Bend(nn.Module):
    """The smooth equation of the page on the inside of solvers, which notes where torchdiffeq's steps begin."""

    def __init__(self):
        super().__init__()
        self.grid = []

    def forward(self, t, z):
        return torch.sin(6 * t) * 3 * torch.cos(2 * z) + z.flip(-1)

    def callback_accept_step(self, t, z, h):
        self.grid.append(t.item())


def first_step(f, z, size):
    """The first step that torchdiffeq guesses: it asks at 0, at a short way ahead, and at a fifth of the step."""
    asked = []
    with torch.no_grad():
        torchdiffeq.odeint(lambda t, z: asked.append(t.item()) or f(t, z), z, UNIT, rtol=size, atol=size)
    return 5 * asked[2]


def test_torchdiffeq_differentiates_its_first_step_and_no_later_one():
    torch.manual_seed(0)
    f, z0, stop = Bend(), torch.randn(4, 3, dtype=DOUBLE).requires_grad_(), {"step_t": UNIT[1:]}

    def of_start(solve, *args, **options):
        return torch.autograd.grad(solve(f, z0, *args, **options)[-1].sum(), z0)[0]

    whole = of_start(torchdiffeq.odeint, UNIT, options=stop, **tolerance(1e-2))
    f.grid.clear()
    held = of_start(
        torchdiffeq.odeint, UNIT, options={**stop, "first_step": first_step(f, z0, 1e-2)}, **tolerance(1e-2)
    )
    grid = torch.tensor([*f.grid, 1.0], dtype=DOUBLE)
    by_hand = of_start(solvers.odeint, grid, method=replace(solvers.DOPRI5, error=None))
    assert len(f.grid) == 3 and relative(held, by_hand) < 1e-10
    assert 0.01 < relative(whole, held) < 0.1


def test_on_the_trained_block_the_derivative_of_the_first_step_hardly_matters(network, few, loss_gradient):
    f = network.block.f
    for size in (1e-2, 1e-3, 1e-4):
        steps = ({}, {"options": {"first_step": first_step(f, few, size)}})
        ends = [torchdiffeq.odeint(f, few, UNIT, **tolerance(size), **more)[-1] for more in steps]
        whole, held = (torch.autograd.grad((loss_gradient * end).sum(), list(f.parameters())) for end in ends)
        whole, held = (torch.cat([part.flatten() for part in parts]) for parts in (whole, held))
        assert 0 < relative(whole, held) < 1e-3


def test_an_output_time_costs_a_solve_on_the_way_back_and_nothing_on_the_way_there():
    f, found = Field(), {}
    for n in (1, 32):
        block = ODEBlock(f, Solver(gradient="adjoint", rtol=1e-6, atol=1e-6))
        with count_evaluations(block) as forward:
            out = block.trajectory(torch.ones(1, 3, dtype=DOUBLE), torch.linspace(0, 1, n + 1))
        with count_evaluations(block) as backward:
            out[1:].sum().backward()
        found[n] = forward.n, backward.n
    assert found[32][0] == found[1][0] and found[32][1] > 4 * found[1][1]


# faq


def test_the_adjoint_of_a_decay_has_the_wrong_sign_where_direct_has_the_right_one():
    def by_rate(solve, size):
        rate, z0 = torch.tensor(20.0, dtype=DOUBLE, requires_grad=True), torch.ones(1, dtype=DOUBLE)
        options = {"adjoint_params": (rate,)} if solve is torchdiffeq.odeint_adjoint else {}
        solve(lambda t, z: -rate * z, z0, UNIT, rtol=size, atol=size, **options)[-1].backward()
        return rate.grad.item()

    assert by_rate(torchdiffeq.odeint_adjoint, 1e-6) > 0 > by_rate(torchdiffeq.odeint, 1e-6)
    assert by_rate(torchdiffeq.odeint_adjoint, 1e-9) < 0


def test_weights_in_a_plain_list_get_no_gradient_from_the_adjoint_and_the_block_says_so():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(2, 2)]

        def forward(self, t, z):
            return self.layers[0](z)

    f, z0 = Hidden(), torch.ones(1, 2, requires_grad=True)
    torchdiffeq.odeint_adjoint(f, z0, UNIT.float())[-1].sum().backward()
    assert f.layers[0].weight.grad is None
    with pytest.raises(OptionError, match=r"a tensor of shape \(2, 2\)|a tensor of shape \(2,\)"):
        ODEBlock(f, Solver(gradient="adjoint"))(z0).sum().backward()


def test_the_adjoints_memory_grows_with_the_output_times_and_that_of_direct_with_the_steps():
    f, z0 = nn.Linear(2, 2), torch.ones(128, 2, requires_grad=True)

    class Field(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = f

        def forward(self, t, z):
            return self.linear(z)

    def kept(solve, times):
        with count_saved_bytes([z0, *f.parameters()]) as saved:
            solve(Field(), z0, torch.linspace(0, 1, times), rtol=1e-6, atol=1e-6)
        return saved.n

    direct, two, many = (
        kept(torchdiffeq.odeint, 2),
        kept(torchdiffeq.odeint_adjoint, 2),
        kept(torchdiffeq.odeint_adjoint, 100),
    )
    assert two < direct < many


def test_the_answers_speak_of_stored_runs():
    study = STUDIES["mnist-gradients"]
    numbers = mnist_numbers.faq_numbers(study.runs(), study.measured("timing"), study.measured("memory"))
    least, most = map(float, numbers["ratio"].split(" to "))
    assert 0.5 < least < most and float(numbers["slower"]) > 1  # no half; for memory, not for speed
    accuracies = [100 * run.last.test_accuracy for run in study.runs()["none"]]
    assert numbers["accuracy-none"].startswith(f"{sum(accuracies) / len(accuracies):.2f}")
    direct, adjoint = (float(numbers[f"kept-{name}"].removesuffix(" MB")) for name in ("direct", "adjoint"))
    assert direct > 10 * adjoint


def test_at_a_loose_tolerance_stability_sets_most_steps_of_the_creeping_oscillator_and_at_a_tight_one_it_does_not():
    def van_der_pol(t, z):
        y, v = z
        return torch.stack([v, 6 * (1 - y * y) * v - y])

    def products(tolerance):
        """Step times the larger decay rate, of the accepted steps that begin where the oscillator creeps."""
        seen, start, times = solvers.Statistics(states=[]), torch.tensor([2.0, 0.0]), torch.tensor([0.0, 16.0])
        solvers.odeint(van_der_pol, start.double(), times.double(), rtol=tolerance, atol=tolerance, statistics=seen)
        found = []
        for step, (y, v) in zip((step for step in seen.steps if step.accepted), seen.states):
            if abs(y) > 1.2:
                jacobian = torch.stack([UNIT, torch.stack([-12 * y * v - 1, 6 * (1 - y * y)])])
                found.append(-step.h * torch.linalg.eigvals(jacobian).real.min().item())
        return np.array(found)

    edge = 3.3  # of dopri5's region on the real axis
    assert np.mean(products(1e-3) > 0.75 * edge) > 0.5
    assert np.median(products(1e-6)) < 0.4 * edge
