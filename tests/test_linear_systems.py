"""Properties that every solve of a linear system has, whatever its matrix: hypothesis looks for one without them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from odelib.gradients import odeint_checkpoint
from odelib.solvers import TABLEAUS, Statistics, odeint

ADAPTIVE = [name for name, tableau in TABLEAUS.items() if tableau.adaptive]

sizes = st.integers(1, 4)
entries = st.floats(-3, 3, width=32)
ends = st.floats(-1.5, 1.5, width=32).filter(lambda t: abs(t) > 1e-3)


@st.composite
def systems(draw):
    """A matrix, two states and an end time."""
    n = draw(sizes)
    values = st.lists(entries, min_size=n * (n + 2), max_size=n * (n + 2))
    numbers = torch.tensor(draw(values), dtype=torch.float64).view(n + 2, n)
    return numbers[:n], numbers[n], numbers[n + 1], torch.tensor([0.0, draw(ends)], dtype=torch.float64)


# The same examples every time, so that a failure can be seen again.
properties = settings(max_examples=15, deadline=None, derandomize=True, database=None)


def linear(matrix):
    return lambda t, z: matrix @ z


@pytest.mark.parametrize("name", ADAPTIVE)
@properties
@given(system=systems())
def test_the_end_is_that_of_the_matrix_exponential(name, system):
    matrix, z, _, span = system
    exact = torch.matrix_exp(matrix * span[1]) @ z
    seen = Statistics()
    end = odeint(linear(matrix), z, span, method=name, rtol=1e-7, atol=1e-9, statistics=seen)[-1]
    # An early error grows by the flow that follows it at most.
    growth = torch.linalg.matrix_norm(matrix, 2).mul(span[1].abs()).exp()
    allowed = len(seen.steps) * growth * (1e-9 + 1e-7 * growth * z.norm()) * len(z) ** 0.5
    assert (end - exact).norm() <= allowed


@pytest.mark.parametrize("name", TABLEAUS)
@properties
@given(system=systems(), a=entries, b=entries)
def test_on_a_given_grid_a_solve_is_linear_in_its_start(name, system, a, b):
    matrix, y, z, span = system
    tableau = replace(TABLEAUS[name], error=None)

    def solve(start):
        return odeint(linear(matrix), start, span, method=tableau, step_size=0.2)[-1]

    torch.testing.assert_close(solve(a * y + b * z), a * solve(y) + b * solve(z), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TABLEAUS)
@properties
@given(system=systems())
def test_the_gradient_is_the_transpose_of_the_solve(name, system):
    """On a given grid z(1) = R z(0), so that <w, R z> is <R^T w, z>: the gradient by z, which does not depend on z."""
    matrix, z, w, span = system
    tableau = replace(TABLEAUS[name], error=None)
    z = z.requires_grad_()
    for solve in (odeint, odeint_checkpoint):
        product = w @ solve(linear(matrix), z, span, method=tableau, step_size=0.25)[-1]
        (gradient,) = torch.autograd.grad(product, z)
        torch.testing.assert_close(gradient @ z, product, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ADAPTIVE)
@properties
@given(system=systems())
def test_a_shifted_clock_changes_nothing(name, system):
    matrix, z, _, span = system
    here, later = (odeint(linear(matrix), z, span + shift, method=name)[-1] for shift in (0.0, 5.0))
    torch.testing.assert_close(here, later, rtol=1e-6, atol=1e-9)
