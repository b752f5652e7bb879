"""Backward tolerance: what the adjoint's gradient costs, and how good it is, by how tightly its solve is done."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint

from odelib.measurements.gradient_error import Problem, block_gradient
from odelib.measurements.measurement import Measurement, Subject
from odelib.odeblock import ODEBlock, Solver
from odelib.records import Environment, Record

FORWARD = 1e-3  # rtol and atol of the forward solve
# rtol and atol of the backward solve.
TOLERANCES: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# atol of the backward solve in units of the adjoint's own size, its root mean square at t1; rtol stays FORWARD.
SHARES: tuple[float, ...] = (10.0, 1.0, 0.1, 0.01, 0.001)


@dataclass(frozen=True)
class BackwardToleranceRow:
    """The adjoint gradient on one batch. Without rtol and share: the direct gradient of the same forward solve."""

    KEY = ("rtol", "share", "batch")

    rtol: float | None  # rtol of the backward solve, and atol where there is no share
    share: float | None  # atol of the backward solve over the root mean square of a(t1)
    batch: int
    nfe_forward: int
    nfe_backward: int
    theta_error: float  # relative distance of dL/dtheta from the exact one, in the 2-norm
    state_error: float


@dataclass(frozen=True)
class BackwardTolerance(Record):
    """Evaluations and errors of the adjoint with dopri5 of torchdiffeq, on the trained block."""

    environment: Environment
    images: int  # of a batch
    forward: float  # rtol and atol of the forward solve
    rows: tuple[BackwardToleranceRow, ...]


class Counted(nn.Module):
    """f, and how often it was evaluated."""

    def __init__(self, f: nn.Module):
        super().__init__()
        self.f, self.n = f, 0

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """The derivative of the state z at time t, and one more in `n`."""
        self.n += 1
        return self.f(t, z)


def adjoint_row(problem: Problem, batch: int, rtol: float, share: float | None) -> BackwardToleranceRow:
    """Differentiate by odeint_adjoint with a backward tolerance of its own, which an ODEBlock does not offer."""
    f, z = Counted(problem.f), problem.z.clone().requires_grad_()
    atol = rtol if share is None else share * problem.cotangent.pow(2).mean().sqrt().item()
    times, theta = torch.tensor([0.0, 1.0]).to(z), tuple(problem.f.parameters())
    end = odeint_adjoint(
        f,
        z,
        times,
        rtol=FORWARD,
        atol=FORWARD,
        method="dopri5",
        adjoint_rtol=rtol,
        adjoint_atol=atol,
        adjoint_params=theta,
    )[-1]
    forward = f.n
    state, *gradients = torch.autograd.grad(end, [z, *theta], problem.cotangent)
    of_theta = torch.cat([g.flatten() for g in gradients])
    errors = problem.errors(state.flatten(), of_theta)
    return BackwardToleranceRow(rtol, share, batch, forward, f.n - forward, *errors)


def measure_backward_tolerance(
    subject: Subject, images: int = 32, batches: Sequence[int] = (0, 1, 2), sizes: slice = slice(None)
) -> BackwardTolerance:
    """Try the backward tolerances and shares of `sizes` on `batches` of the test images."""
    rows = []
    for batch in batches:
        problem = Problem(subject, images, batch)
        direct = block_gradient(ODEBlock(problem.f, Solver(rtol=FORWARD, atol=FORWARD)), problem.z, problem.cotangent)
        errors = problem.errors(direct.state, direct.theta)
        rows.append(BackwardToleranceRow(None, None, batch, direct.nfe_forward, 0, *errors))
        rows += [adjoint_row(problem, batch, rtol, None) for rtol in TOLERANCES[sizes]]
        rows += [adjoint_row(problem, batch, FORWARD, share) for share in SHARES[sizes]]
    return BackwardTolerance(Environment.here(subject.device, __name__), images, FORWARD, tuple(rows))


_SMALL = {"batches": (0,), "sizes": slice(0, 2)}
MEASUREMENT = Measurement(
    BackwardTolerance, measure_backward_tolerance, __name__, studies=("mnist-gradients",), small=_SMALL
)
