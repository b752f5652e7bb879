"""What the pages about the backward pass share: the problem on which they check their formulas, and the checks.

All but `relu_inputs` in double precision, and solved to ten digits: the error of the solver is far below that of a
wrong formula.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.functional import jvp, vjp
from torchdiffeq import odeint

from odelib.book.pages import table
from odelib.shapes import Float
from odelib.solvers import Dynamics

DOUBLE = torch.float64
Values = float | Tensor | Sequence[Any]


class Field(nn.Module):
    """A random network of the time and of states of three numbers: f(t, z) = 2 (W2 act(2 (W1 (z, t) + b1)) + b2).

    An `autonomous` one takes the time for zero. With the activation tanh it is smooth, with torch.relu it has kinks.
    """

    def __init__(self, activation: Callable[[Tensor], Tensor] = torch.tanh, autonomous: bool = False):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 6, dtype=DOUBLE), nn.Linear(6, 3, dtype=DOUBLE)
        self.activation, self.clock = activation, 0.0 if autonomous else 1.0

    def forward(self, t: Float[Tensor, ""], z: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3"]:
        """The velocity at time t of the state z."""
        time = self.clock * t * torch.ones_like(z[..., :1])
        return 2 * self.outer(self.activation(2 * self.inner(torch.cat([z, time], dim=-1))))


def solve(f: Dynamics, z: Float[Tensor, "*state"], times: Float[Tensor, "n"]) -> Float[Tensor, "n *state"]:
    """The states at `times`, to ten digits; z is the first of them."""
    return odeint(f, z, times, rtol=1e-10, atol=1e-12)


def J_times(f: Dynamics, t: Tensor, z: Tensor, s: Tensor) -> Tensor:
    """J s, by one Jacobian-vector product."""
    return jvp(lambda z: f(t, z), z, s)[1]


def J_transposed(f: Dynamics, t: Tensor, z: Tensor, a: Tensor) -> Tensor:
    """J^T a, by one vector-Jacobian product."""
    return vjp(lambda z: f(t, z), z, a)[1]


def f_theta_times(f: nn.Module, t: Tensor, z: Tensor, dtheta: Sequence[Tensor]) -> Tensor:
    """f_theta dtheta: how the velocity at (t, z) changes when the parameters do."""
    names = [name for name, _ in f.named_parameters()]

    def velocity(*values: Tensor) -> Tensor:
        return torch.func.functional_call(f, dict(zip(names, values)), (t, z))

    return jvp(velocity, tuple(p.detach() for p in f.parameters()), tuple(dtheta))[1]


def path_and_adjoint(
    f: Dynamics, z0: Float[Tensor, "*state"], w: Float[Tensor, "*state"], times: Float[Tensor, "n"]
) -> tuple[Float[Tensor, "n *state"], Float[Tensor, "n *state"]]:
    """z and a at `times`: a equals w at the last of them, and is solved backwards with z."""
    z = solve(f, z0, times)
    back = solve(
        lambda t, y: torch.stack([f(t, y[0]), -J_transposed(f, t, *y)]), torch.stack([z[-1], w]), times.flip(0)
    )
    return z.detach(), back.flip(0)[:, 1].detach()


def path_and_sensitivity(
    f: nn.Module, z0: Tensor, dz0: Tensor, dtheta: Sequence[Tensor] | None, times: Float[Tensor, "n"]
) -> tuple[Tensor, Tensor]:
    """z and s at `times`: ds/dt = J s + f_theta dtheta with s = dz0 at the first; without dtheta, ds/dt = J s."""

    def pair(t: Tensor, y: Tensor) -> Tensor:
        push = 0.0 if dtheta is None else f_theta_times(f, t, y[0], dtheta)
        return torch.stack([f(t, y[0]), J_times(f, t, *y) + push])

    states = solve(pair, torch.stack([z0, dz0]), times).detach()
    return states[:, 0], states[:, 1]


def relu_inputs(
    f: nn.Module, z0: Float[Tensor, "b *state"], times: Float[Tensor, "n"], tolerance: float = 1e-5
) -> Float[Tensor, "n b units"]:
    """What every unit of `f.relu` is given along the paths from z0, at `times`: where it changes its sign is a kink."""
    seen: list[Tensor] = []
    with torch.no_grad():
        path = odeint(f, z0, times, rtol=tolerance, atol=tolerance)
        hook = f.get_submodule("relu").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten(1)))
        for t, z in zip(times, path):
            f(t, z)
        hook.remove()
    layers = len(seen) // len(times)
    return torch.stack([torch.cat(seen[k : k + layers], dim=1) for k in range(0, len(seen), layers)])


def gauss(n: int) -> tuple[Float[Tensor, "n2"], Float[Tensor, "n2"]]:
    """Nodes and weights of Gauss's quadrature on [0, 1] with n nodes; 0 and 1 are two more, of weight 0."""
    x, weight = np.polynomial.legendre.leggauss(n)
    nodes = torch.tensor([0.0, *((x + 1) / 2), 1.0], dtype=DOUBLE)
    return nodes, torch.tensor([0.0, *(weight / 2), 0.0], dtype=DOUBLE)


def flat(values: Values) -> Float[Tensor, "n"]:
    """A number, a tensor or a sequence of them as one vector."""
    if isinstance(values, (list, tuple)):
        return torch.cat([flat(part) for part in values])
    return torch.as_tensor(values).detach().flatten().double()


def error(value: Values, reference: Values) -> float:
    """The relative error in the Euclidean norm, over all numbers together."""
    found, expected = flat(value), flat(reference)
    return ((found - expected).norm() / expected.norm()).item()


class Checks:
    """Identities that are checked on a page: a call compares two sides, and fails where they differ by too much."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float]] = []

    def __call__(self, identity: str, value: Values, reference: Values, tolerance: float) -> None:
        found = error(value, reference)
        if not found <= tolerance:
            raise AssertionError(f"{identity}: the relative error {found:.1e} exceeds {tolerance:g}")
        self.rows.append((identity, found, tolerance))
        print(f"{identity}: relative error {found:.0e}")

    def show(self) -> None:
        """The table of all that was checked so far."""
        rows = [[name, f"{found:.0e}", f"{tolerance:.0e}"] for name, found, tolerance in self.rows]
        table(["identity", "relative error", "tolerance"], rows)
