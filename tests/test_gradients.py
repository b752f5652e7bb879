"""Gradients of the block: direct, adjoint and seminorm against each other and against finite differences.

All in float64 and on smooth dynamics: ReLU's kinks would hide the errors that are looked for.
"""

import pytest
import torch
from conftest import Smooth
from torch import nn
from torch.func import functional_call

from odelib import Config, ImageClassifier, ODEBlock, ODEfunc, Solver, count_evaluations

TIGHT = dict(rtol=1e-10, atol=1e-12)


def smooth_odefunc(channels):
    f = ODEfunc(channels).double()
    f.relu = nn.Softplus()
    return f


def gradients(block, z, weight):
    """Gradients of a weighted sum of z(t1) for the input and every parameter."""
    z = z.clone().requires_grad_()
    loss = (block(z) * weight).sum()
    return torch.autograd.grad(loss, [z, *block.parameters()])


def distance(ours, theirs):
    """The largest relative error over the tensors."""
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_gradient_of_input_and_every_parameter_is_that_of_finite_differences(gradient):
    block = ODEBlock(Smooth(), Solver(gradient=gradient, **TIGHT))
    names, parameters = zip(*block.named_parameters())
    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def solve(z, *values):
        return functional_call(block, dict(zip(names, values)), (z,))

    if gradient == "direct":
        assert torch.autograd.gradcheck(solve, (z, *parameters), eps=1e-5, atol=1e-5, rtol=1e-4, fast_mode=True)
        return
    # odeint_adjoint is handed the parameters themselves, so these are moved in place, not passed in.
    weight = torch.randn(2, 3, dtype=torch.float64)
    ours = gradients(block, z.detach(), weight)
    h = 1e-5
    with torch.no_grad():
        for tensor, gradient_of_it in zip([z, *parameters], ours, strict=True):
            for direction in torch.randn(3, *tensor.shape, dtype=torch.float64):
                tensor += h * direction
                above = (block(z) * weight).sum()
                tensor -= 2 * h * direction
                below = (block(z) * weight).sum()
                tensor += h * direction
                slope = ((above - below) / (2 * h)).item()
                assert (gradient_of_it * direction).sum().item() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
@pytest.mark.parametrize("t0, t1", [(0.0, 1.0), (1.0, 0.0), (0.3, 1.4)])
def test_adjoint_equals_direct_at_tight_tolerance(gradient, t0, t1):
    f = Smooth()
    z, weight = torch.randn(2, 5, 3, dtype=torch.float64)
    direct = gradients(ODEBlock(f, Solver(**TIGHT), t0=t0, t1=t1), z, weight)
    adjoint = gradients(ODEBlock(f, Solver(gradient=gradient, **TIGHT), t0=t0, t1=t1), z, weight)
    assert min(g.norm() for g in direct) > 1e-3
    assert distance(adjoint, direct) < 1e-6


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
def test_adjoint_equals_direct_for_the_dynamics_of_the_network(gradient):
    """With Softplus in the place of ReLU; norm3's bias and the convolutions' time weights are among the parameters."""
    f = smooth_odefunc(4)
    z, weight = torch.randn(2, 2, 4, 4, 4, dtype=torch.float64)
    direct = gradients(ODEBlock(f, Solver(rtol=1e-8, atol=1e-8)), z, weight)
    adjoint = gradients(ODEBlock(f, Solver(gradient=gradient, rtol=1e-8, atol=1e-8)), z, weight)
    together = [torch.cat([g.flatten() for g in gs]) for gs in (adjoint, direct)]
    assert ((together[0] - together[1]).norm() / together[1].norm()).item() < 1e-4


@pytest.mark.parametrize("library", ["torchdiffeq", "odelib"])
def test_the_seminorm_does_not_let_the_parameters_choose_the_steps(library):
    """The larger the loss, the larger their part of the error in units of atol: adjoint follows it, seminorm not."""
    f, z, backward = Smooth(), torch.randn(5, 3, dtype=torch.float64), {}
    for gradient in ("adjoint", "seminorm"):
        block = ODEBlock(f, Solver(gradient=gradient, library=library))
        for scale in (1, 1e4):
            loss = scale * block(z).square().mean()
            with count_evaluations(block) as seen:
                loss.backward()
            backward[gradient, scale] = seen.n
    assert backward["adjoint", 1] == backward["seminorm", 1] < backward["adjoint", 1e4]
    assert backward["seminorm", 1e4] < backward["adjoint", 1e4]
    if library == "odelib":  # that of torchdiffeq feels the scale in its first step
        assert backward["seminorm", 1e4] == backward["seminorm", 1]


def test_direct_gradient_of_the_networks_dynamics_is_that_of_finite_differences():
    block = ODEBlock(smooth_odefunc(2), Solver("rk4", step_size=0.5))
    names, parameters = zip(*block.named_parameters())
    z = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)

    def solve(z, *values):
        return functional_call(block, dict(zip(names, values)), (z,))

    assert torch.autograd.gradcheck(solve, (z, *parameters), fast_mode=True)


def test_gap_between_adjoint_and_direct_closes_with_the_step():
    """On one grid they differ: direct differentiates the steps taken, adjoint takes steps of its own back. Order h."""
    f = Smooth()
    z, weight = torch.randn(2, 5, 3, dtype=torch.float64)
    gaps = []
    for steps in (8, 16, 32):
        pair = [
            gradients(ODEBlock(f, Solver("euler", step_size=1 / steps, gradient=g)), z, weight)
            for g in ("adjoint", "direct")
        ]
        gaps.append(distance(*pair))
    assert gaps[0] > 1e-3
    assert 1.6 < gaps[0] / gaps[1] < 2.4 and 1.6 < gaps[1] / gaps[2] < 2.4


def test_direct_euler_is_the_hand_written_recursion():
    """a_n = a_{n+1} + h J^T a_{n+1} on the states that the forward pass went through."""
    f = Smooth()
    z, weight = torch.randn(2, 5, 3, dtype=torch.float64)
    h, states = 0.25, [z]
    for n in range(4):
        states.append((states[-1] + h * f(torch.tensor(n * h).double(), states[-1])).detach())
    a, theta = weight, [torch.zeros_like(p) for p in f.parameters()]
    for n in reversed(range(4)):
        state = states[n].requires_grad_()
        products = torch.autograd.grad(f(torch.tensor(n * h).double(), state), [state, *f.parameters()], a)
        theta = [g + h * product for g, product in zip(theta, products[1:], strict=True)]
        a = a + h * products[0]
    assert distance(gradients(ODEBlock(f, Solver("euler", step_size=h)), z, weight), [a, *theta]) < 1e-12


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
def test_gradient_through_a_trajectory_collects_every_time(gradient):
    f = Smooth()
    z = torch.randn(5, 3, dtype=torch.float64)
    times = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    weight = torch.randn(3, 5, 3, dtype=torch.float64)
    both = []
    for kind in (gradient, "direct"):
        start = z.clone().requires_grad_()
        loss = (ODEBlock(f, Solver(gradient=kind, **TIGHT)).trajectory(start, times) * weight).sum()
        both.append(torch.autograd.grad(loss, [start, *f.parameters()]))
    assert distance(*both) < 1e-6


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_dynamics_without_parameters_have_an_input_gradient(gradient):
    class Decay(nn.Module):
        def forward(self, t, z):
            return -z

    z = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    ODEBlock(Decay(), Solver(gradient=gradient, **TIGHT))(z).sum().backward()
    torch.testing.assert_close(z.grad, torch.full_like(z, -1).exp(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
def test_frozen_parameters_get_no_gradient_and_disturb_no_other(gradient):
    f = Smooth()
    z, weight = torch.randn(2, 5, 3, dtype=torch.float64)
    everything = dict(zip(["z", *dict(f.named_parameters())], gradients(ODEBlock(f, Solver(**TIGHT)), z, weight)))
    f.inner.requires_grad_(False)
    (ODEBlock(f, Solver(gradient=gradient, **TIGHT))(z) * weight).sum().backward()
    assert f.inner.weight.grad is None and f.inner.bias.grad is None
    torch.testing.assert_close(f.outer.weight.grad, everything["outer.weight"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_every_parameter_of_the_classifier_is_trained(gradient):
    config = Config(width=4, stem="one-shot", gradient=gradient)
    model = ImageClassifier(config, config, channels=1, classes=3)
    x, y = torch.rand(5, 1, 28, 28), torch.tensor([0, 1, 2, 0, 1])
    with count_evaluations(model):
        nn.functional.cross_entropy(model(x), y).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
