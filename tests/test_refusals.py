"""What would get a wrong gradient is refused: noise drawn anew, tensors out of reach, noise of another solve."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from odelib import ODEBlock, Solver
from odelib.errors import OptionError
from odelib.noise import FixedDropout, NoisyODEBlock
from odelib.odefunc import TimeConv2d
from odelib.regularization import RegularizedODEBlock

WAYS = [(library, gradient) for library in ("torchdiffeq", "odelib") for gradient in ("adjoint", "seminorm")]
WAYS.append(("odelib", "checkpoint"))
every_way_that_asks_f_again = pytest.mark.parametrize("library, gradient", WAYS)


def solver(library, gradient, **options):
    return Solver(library=library, gradient=gradient, **options)


def state(*shape):
    return torch.randn(*shape, requires_grad=True)


# Noise


class Noisy(nn.Module):
    """A small network with a layer of noise in it."""

    def __init__(self, noise):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), noise), nn.Linear(4, 4))

    def forward(self, t, z):
        return self.layers(z)


@every_way_that_asks_f_again
@pytest.mark.parametrize("noise", [nn.Dropout, nn.AlphaDropout])
def test_dropout_that_draws_anew_is_refused_in_training(library, gradient, noise):
    block = ODEBlock(Noisy(noise(0.5)), solver(library, gradient, rtol=10.0, atol=10.0))
    message = f"{noise.__name__} in f draws anew at every evaluation, which gradient '{gradient}' cannot repeat"
    for solve in (block, lambda z: block.trajectory(z, torch.tensor([0.5, 1.0]))):
        with pytest.raises(OptionError, match=message):
            solve(state(2, 4))
    with torch.no_grad():
        block(state(2, 4))  # no gradient, no wrong one
    for harmless in (copy.deepcopy(block).eval(), ODEBlock(Noisy(noise(0.0)), block.solver)):
        harmless(state(2, 4)).sum().backward()
        assert harmless.f.layers[0].weight.grad.any()


@pytest.mark.parametrize("library", ["torchdiffeq", "odelib"])
def test_dropout_is_no_matter_where_the_steps_themselves_are_differentiated(library):
    block = ODEBlock(Noisy(nn.Dropout(0.5)), Solver("rk4", step_size=0.25, library=library))
    block(state(2, 4)).sum().backward()
    assert block.f.layers[0].weight.grad.any()


class Masked(nn.Module):
    """Dynamics with the dropout that is held along a solve."""

    def __init__(self):
        super().__init__()
        self.convolution = FixedDropout(TimeConv2d(4, 4), 0.5)

    def forward(self, t, z):
        return torch.tanh(self.convolution(t, z))


@every_way_that_asks_f_again
def test_the_noise_of_a_solve_must_have_had_its_backward_pass_before_the_next(library, gradient):
    block, z = NoisyODEBlock(Masked(), solver(library, gradient)), state(2, 4, 3, 3)
    first, second = block(z), block(z)
    second.sum().backward()
    for _ in range(2):  # no second try either
        with pytest.raises(RuntimeError, match="solved again, with new noise, before the backward pass of this solve"):
            first.sum().backward(retain_graph=True)
    block(z).sum().backward()  # the usual training loop goes on
    third = block(z)
    block.eval()(z)
    with pytest.raises(RuntimeError, match="solved again"):
        third.sum().backward()


def gradient_of(loss, f):
    return torch.autograd.grad(loss, f.parameters())


@every_way_that_asks_f_again
def test_without_noise_a_block_may_be_applied_as_often_as_one_likes(library, gradient):
    """In eval mode nothing is drawn, and the kinetic energy draws nothing at all."""
    z, tight = state(2, 4, 3, 3), dict(rtol=1e-5, atol=1e-6)
    for block in (NoisyODEBlock(Masked()).eval(), RegularizedODEBlock(TimeConv2d(4, 4), kinetic=1.0)):
        grads = []
        for way in (solver(library, gradient, **tight), Solver(library=library, **tight)):
            block.solver = way
            grads.append(gradient_of((block(z) + block(2 * z)).sum(), block.f))
        for ours, direct in zip(*grads):
            torch.testing.assert_close(ours, direct, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("library", ["torchdiffeq", "odelib"])
def test_noise_of_two_solves_is_no_matter_where_the_steps_themselves_are_differentiated(library):
    block, z = NoisyODEBlock(Masked(), Solver(library=library)), state(2, 4, 3, 3)
    grads = []
    for apart in (True, False):
        torch.manual_seed(0)
        if apart:
            parts = [gradient_of(block(z).sum(), block.f) for _ in range(2)]
            grads.append([a + b for a, b in zip(*parts)])
        else:
            grads.append(gradient_of(sum(block(z).sum() for _ in range(2)), block.f))
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_noisy_block_may_have_a_function():
    assert NoisyODEBlock(lambda t, z: -z)(state(2, 3)).shape == (2, 3)


# Tensors out of reach


def refused(gradient):
    message = (
        rf"f uses a tensor of shape \(.*\) that asks for a gradient and is no parameter of f: gradient '{gradient}'"
    )
    return pytest.raises(OptionError, match=message)


@every_way_that_asks_f_again
@pytest.mark.parametrize("made", [False, True], ids=["leaf", "made by others"])
def test_a_tensor_that_would_get_no_gradient_is_refused_on_the_way_back(library, gradient, made):
    """A context, a hypernetwork: direct has its gradient, the others would have None or a part of it."""
    context = torch.randn(4, requires_grad=True)
    hyper = nn.Linear(4, 6, bias=False)

    def f(t, z):
        return torch.tanh(z * (hyper(context)[:4] if made else context))

    ODEBlock(f, Solver(library=library))(state(2, 4)).sum().backward()
    assert context.grad.any()
    end = ODEBlock(f, solver(library, gradient))(state(2, 4))
    with refused(gradient):
        end.sum().backward()


class Scaled(nn.Module):
    """Dynamics with everything that a module may have."""

    def __init__(self):
        super().__init__()
        self.linear, self.frozen, self.other = nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False), None
        self.register_buffer("buffer", torch.rand(4))

    def forward(self, t, z):
        dz = torch.tanh(self.linear(z) * self.buffer + self.frozen(z.view(-1, 4)) + t)
        return dz if self.other is None else dz * self.other


@every_way_that_asks_f_again
@pytest.mark.parametrize("bf16", [False, True])
def test_parameters_buffers_and_frozen_weights_may_be_used_and_z_may_come_from_anywhere(library, gradient, bf16):
    f, stem = Scaled(), nn.Linear(3, 4)
    model = nn.Sequential(stem, ODEBlock(f, solver(library, gradient, bf16=bf16)))
    f.other = torch.rand(4)  # asks for no gradient
    model(state(2, 3)).sum().backward()
    assert stem.weight.grad.any() and f.linear.weight.grad.any() and f.frozen.weight.grad is None


@every_way_that_asks_f_again
def test_every_solve_is_looked_at_anew(library, gradient):
    f = Scaled()
    block = ODEBlock(f, solver(library, gradient))
    block(state(2, 4)).sum().backward()
    f.other = torch.rand(4, requires_grad=True)
    end = block(state(2, 4))
    with refused(gradient) as error:
        end.sum().backward()
    assert "of shape (4,)" in str(error.value)
    with torch.no_grad():
        block(state(2, 4))
    block.solver = Solver(library=library)
    block(state(2, 4)).sum().backward()
    assert f.other.grad.any()


@every_way_that_asks_f_again
def test_weights_that_are_lent_for_the_forward_pass_alone_are_missed_on_the_way_back(library, gradient):
    """functional_call puts the block's own weights back before the backward pass asks f again."""
    block = ODEBlock(Scaled(), solver(library, gradient))
    lent = {name: p.detach().clone().requires_grad_() for name, p in block.named_parameters() if p.requires_grad}
    end = functional_call(block, lent, (state(2, 4),))
    with refused(gradient):
        end.sum().backward()
