"""Convolutions by matrix products: every tile, gradients, whole solves, and what is refused."""

import copy
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from odelib import ODEBlock, Solver, count_evaluations
from odelib.errors import OptionError
from odelib.odeblock import LEAST_TOLERANCE
from odelib.odefunc import ODEfunc
from odelib.products import LARGEST_TILE, POINTS, Convolution, ProductODEfunc, change_basis, inverse, toom_cook
from odelib.variations import NORMS, AutonomousConv2d

# Float32's rounding errors of one convolution of 64 channels, relative in the 2-norm, by the largest tile: no more than
# twice what was seen. The plain convolution has 2e-7.
ERRORS = {1: 6e-7, 2: 6e-7, 3: 2e-6, 4: 2e-6, 5: 4e-6, 6: 6e-6, 7: 2e-5, 8: 3e-5}
SIZES = [(6, 6), (7, 7), (8, 8), (1, 1), (2, 3), (13, 5), (15, 15), (16, 16)]


def images(n, c, *size, dtype=torch.float32):
    return torch.randn(n, c, *size, dtype=dtype)


def by_products(z, weight, largest_tile=LARGEST_TILE):
    """F.conv2d(z, weight, padding=1), from the layout and back to it."""
    convolution = Convolution(*z.shape[2:], z, largest_tile)
    return convolution.leave(convolution(convolution.enter(z), convolution.filters(weight)))


def relative(value, reference):
    return ((value.double() - reference).norm() / reference.norm()).item()


def dynamics(channels=8, dtype=torch.float64):
    torch.manual_seed(0)
    f = ODEfunc(channels)
    for parameter in f.parameters():
        nn.init.normal_(parameter, 0.3, 0.4)
    return f.to(dtype)


# The matrices


@pytest.mark.parametrize("m", POINTS)
def test_toom_cook_slides_a_filter(m):
    a, g, b = toom_cook(m)
    taps, d = torch.randn(3, dtype=torch.float64), torch.randn(m + 2, dtype=torch.float64)
    expected = torch.stack([taps @ d[i : i + 3] for i in range(m)])
    assert torch.allclose(a.T @ ((g @ taps) * (b @ d)), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("m", POINTS)
def test_a_tile_has_as_many_products_as_winograd_proved_to_be_needed(m):
    assert all(len(x) == m + 2 for x in toom_cook(m)) and len(set(POINTS[m].split())) == m + 1


def test_the_inverse_is_exact():
    matrix = [[Fraction(0), Fraction(2)], [Fraction(1, 3), Fraction(5)]]
    assert inverse(matrix) == [[Fraction(-15, 2), Fraction(3)], [Fraction(1, 2), Fraction(0)]]


# One convolution


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("largest_tile", POINTS)
def test_the_same_as_conv2d_in_float64(size, largest_tile):
    z, weight = images(3, 4, *size, dtype=torch.float64), images(5, 4, 3, 3, dtype=torch.float64)
    assert torch.allclose(by_products(z, weight, largest_tile), F.conv2d(z, weight, padding=1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("largest_tile", POINTS)
def test_rounding_errors_in_float32(largest_tile):
    torch.manual_seed(0)
    size = (largest_tile, 2 * largest_tile)
    z, weight = images(8, 64, *size).relu(), images(64, 64, 3, 3) / 24
    exact = F.conv2d(z.double(), weight.double(), padding=1)
    assert relative(by_products(z, weight, largest_tile), exact) < ERRORS[largest_tile] < LEAST_TOLERANCE / 2


def test_bfloat16_at_the_points_of_a_tile_of_6_would_be_wrong_by_more_than_a_percent():
    torch.manual_seed(0)
    z, weight = images(8, 64, 6, 6).relu(), images(64, 64, 3, 3) / 24
    exact = F.conv2d(z.double(), weight.double(), padding=1)
    convolution = Convolution(6, 6, z)
    at_points = change_basis(convolution.enter(z), *convolution.there)
    products = torch.bmm(convolution.filters(weight).bfloat16(), at_points.bfloat16()).float()
    ours = convolution.leave(change_basis(products, *convolution.back))
    usual = F.conv2d(z.bfloat16(), weight.bfloat16(), padding=1)
    assert relative(ours, exact) > 0.01 > relative(usual, exact)


@pytest.mark.parametrize("size", [(2, 3), (9, 4)])  # one tile, and two in a column
def test_gradients_of_the_convolution(size):
    z = images(2, 2, *size, dtype=torch.float64).requires_grad_()
    weight = images(3, 2, 3, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(by_products, (z, weight))


# f


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (1, 2), (9, 9)])
@pytest.mark.parametrize("batch", [1, 3])
def test_f_and_its_gradients_are_those_of_the_odefunc(size, batch):
    f = dynamics()
    z = images(batch, 8, *size, dtype=torch.float64).transpose(2, 3).contiguous().transpose(2, 3)  # not contiguous
    z.requires_grad_()
    t, w = torch.tensor(0.3, dtype=torch.float64), images(batch, 8, *size, dtype=torch.float64)
    expected = f(t, z)
    ours = ProductODEfunc(f, z)
    got = ours.leave(ours(t, ours.enter(z)))
    assert got.is_contiguous() and torch.allclose(got, expected, rtol=1e-8, atol=1e-9)
    wanted = [z, *f.parameters()]
    for one, other in zip(torch.autograd.grad(got, wanted, w), torch.autograd.grad(expected, wanted, w)):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-8)


def test_gradcheck_of_f():
    f = ODEfunc(2).double()
    z = images(2, 2, 3, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z, t: ProductODEfunc(f, z)(t, ProductODEfunc(f, z).enter(z)), (z, torch.tensor(0.3, dtype=torch.float64))
    )


def test_states_go_to_the_layout_and_back():
    z = images(2, 8, 4, 3)
    ours = ProductODEfunc(dynamics(dtype=torch.float32), z)
    x = ours.enter(z)
    assert x.shape == (12, 8, 2) and x[5, 3, 1] == z[1, 3, 1, 2]
    assert torch.equal(ours.leave(x), z)


def test_gradients_go_there_and_back_too_and_lie_in_the_layout_as_states_do():
    convolution, seen = Convolution(4, 3, torch.zeros(0, dtype=torch.float64)), []
    z = images(2, 5, 4, 3, dtype=torch.float64).requires_grad_()
    x = convolution.enter(z)
    x.register_hook(seen.append)
    end, w = convolution.leave(x), images(2, 5, 4, 3, dtype=torch.float64)
    (dz,) = torch.autograd.grad(end, z, w)
    assert torch.equal(dz, w) and torch.equal(seen[0], convolution.enter(w)) and seen[0].is_contiguous()
    assert torch.autograd.gradgradcheck(lambda z: convolution.leave(convolution.enter(z) ** 3), z)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Softplus])
def test_norms_have_groups_of_their_own_and_f_any_activation(activation):
    f = ODEfunc(8, activation=activation).double()
    f.norm1, f.norm3 = nn.GroupNorm(2, 8).double(), nn.GroupNorm(4, 8).double()
    z, t = images(3, 8, 5, 5, dtype=torch.float64).requires_grad_(), torch.tensor(0.3, dtype=torch.float64)
    ours, w, wanted = ProductODEfunc(f, z), images(3, 8, 5, 5, dtype=torch.float64), [z, *f.parameters()]
    got, expected = ours.leave(ours(t, ours.enter(z))), f(t, z)
    assert torch.allclose(got, expected, rtol=1e-8, atol=1e-9)
    for one, other in zip(torch.autograd.grad(got, wanted, w), torch.autograd.grad(expected, wanted, w)):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-8)


# Whole solves

WAYS = [
    ("torchdiffeq", "direct"), ("torchdiffeq", "adjoint"), ("torchdiffeq", "seminorm"),
    ("odelib", "direct"), ("odelib", "adjoint"), ("odelib", "seminorm"), ("odelib", "checkpoint"),
]  # fmt: skip


def solved(f, solver, z):
    """The state at the end, all gradients, and NFE there and back."""
    block, z = ODEBlock(f, solver), z.clone().requires_grad_()
    w = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view_as(z)
    with count_evaluations(block) as forward:
        end = block(z)
    with count_evaluations(block) as backward:
        gradients = torch.autograd.grad(end, [z, *f.parameters()], w)
    return [end.detach(), *gradients], (forward.n, backward.n)


@pytest.mark.parametrize("library, gradient", WAYS)
def test_a_solve_is_the_same_by_products(library, gradient):
    f, z = dynamics(64), images(2, 64, 6, 6, dtype=torch.float64)
    plain = Solver(library=library, gradient=gradient)
    expected, nfe = solved(f, plain, z)
    got, nfe_too = solved(f, Solver(library=library, gradient=gradient, products=True), z)
    assert nfe_too == nfe and nfe[0] > 6
    for one, other in zip(got, expected):
        assert relative(one, other) < 1e-8


@pytest.mark.parametrize("library, gradient", WAYS)
def test_in_float32_too(library, gradient):
    f, z = dynamics(64, torch.float32), images(2, 64, 6, 6)
    expected, nfe = solved(f, Solver(library=library, gradient=gradient), z)
    got, nfe_too = solved(f, Solver(library=library, gradient=gradient, products=True), z)
    assert nfe_too == nfe and all(part.dtype == torch.float32 for part in got)
    assert max(relative(one, other.double()) for one, other in zip(got, expected)) < 1e-2  # a kink may lie between


def test_a_trajectory_has_the_shape_of_states():
    f, z, times = dynamics(), images(2, 8, 6, 6, dtype=torch.float64), torch.tensor([0.5, 1.0], dtype=torch.float64)
    plain, ours = (ODEBlock(f, Solver("rk4", step_size=0.25, library="odelib", products=p)) for p in (False, True))
    assert torch.allclose(ours.trajectory(z, times), plain.trajectory(z, times), rtol=1e-7, atol=1e-9)
    assert torch.allclose(ours.trajectory(z, times)[-1], ours(z), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_numbers_are_made_32_bit(dtype):
    f, z = dynamics(dtype=torch.float32), images(2, 8, 6, 6)
    exact, short = ODEBlock(f, Solver("ralston3", library="odelib", products=True))(z), z.to(dtype)
    block = ODEBlock(f, Solver("ralston3", library="odelib", products=True))
    with torch.autocast("cpu", torch.bfloat16):
        end = block(short.requires_grad_())
    end.sum().backward()
    assert end.dtype == dtype and short.grad.dtype == dtype
    assert relative(end.detach(), exact.double()) < 2 * torch.finfo(dtype).eps


# What is refused


def test_other_dynamics_are_refused():
    block = ODEBlock(nn.Tanh(), Solver(products=True))
    with pytest.raises(OptionError, match="products need an ODEfunc for f, got Tanh"):
        block(images(1, 2, 3, 3))
    for options, found in (
        ({"norm": NORMS["batch"]}, "products need GroupNorm in f, got BatchNorm2d"),
        ({"convolution": AutonomousConv2d}, "products need TimeConv2d in f, got AutonomousConv2d"),
    ):
        with pytest.raises(OptionError, match=found):
            ODEBlock(ODEfunc(4, **options), Solver(products=True))(images(1, 4, 3, 3))
    with pytest.raises(ValueError, match=r"products need a state \(batch, channels, height, width\), got \(4, 3\)"):
        ODEBlock(ODEfunc(4), Solver(products=True))(torch.randn(4, 3))


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(OptionError, match="products need 32-bit numbers"):
        Solver(products=True, bf16=True)
    with pytest.raises(OptionError, match="need tolerances of at least 0.0001, got rtol=5e-05, atol=0.001"):
        Solver(products=True, rtol=5e-5)
    Solver("rk4", products=True, rtol=5e-5)  # a fixed grid has no tolerance


@pytest.mark.parametrize("size", [6, 8])
def test_at_the_least_tolerance_products_solve_as_the_usual_convolution_does(size):
    f, z = dynamics(64, torch.float32), images(4, 64, size, size)
    at = {"rtol": LEAST_TOLERANCE, "atol": LEAST_TOLERANCE, "library": "odelib"}
    exact = ODEBlock(copy.deepcopy(f).double(), Solver(rtol=1e-8, atol=1e-8, library="odelib"))(z.double())
    plain, nfe = solved(f, Solver(**at), z)
    products, nfe_too = solved(f, Solver(**at, products=True), z)
    assert abs(nfe_too[0] - nfe[0]) <= 6  # a step more or less
    assert relative(products[0], exact) < 1.5 * relative(plain[0], exact)
