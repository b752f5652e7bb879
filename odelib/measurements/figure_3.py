"""Figure 3 of Chen et al. (2018): evaluations forward and backward, and the error, by the tolerance.

Of a network of ours, with dopri5 and with the family of methods that the paper used: implicit Adams, by VODE through
SciPy. All in float64, so that rounding has no say.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.integrate import ode
from torch import Tensor, nn
from torchdiffeq import odeint

from odelib.errors import SolverError
from odelib.gradients import Solve, odeint_adjoint
from odelib.measurements.backward_tolerance import Counted
from odelib.measurements.gradient_error import Problem, relative
from odelib.measurements.measurement import Measurement, Subject
from odelib.records import Environment, Record
from odelib.solvers import Dynamics

TOLERANCES: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # rtol = atol


@dataclass(frozen=True)
class Figure3Row:
    """One solve of one batch, forward and, by the adjoint, backward."""

    KEY = ("solver", "tolerance", "batch")

    solver: str  # adams or dopri5
    tolerance: float
    batch: int
    nfe_forward: int
    nfe_backward: int  # where the loss is the mean over the images, as it is in training
    nfe_backward_large: int  # where it is multiplied so that dL/dz(t1) is as large as z(t1), in the 2-norm
    state_error: float  # relative distance of z(t1) from that of a tight solve, in the 2-norm


@dataclass(frozen=True)
class Figure3(Record):
    """Evaluations and errors of the ODE block of the trained network."""

    environment: Environment
    images: int  # of a batch
    rows: tuple[Figure3Row, ...]


def adams(f: Dynamics, z: Tensor, times: Tensor, tolerance: float) -> Tensor:
    """The states of dz/dt = f(t, z) at `times` (n, ...), by VODE's implicit Adams methods; rtol = atol = tolerance.

    Its equations are solved by iteration, so that no Jacobian is needed, and memory grows with the state and not with
    its square. Raises SolverError where it gives up.
    """

    def velocity(t: float, y: np.ndarray) -> np.ndarray:
        return f(times.new_tensor(t), torch.from_numpy(y).view(z.shape)).detach().flatten().numpy()

    solver = ode(velocity).set_integrator("vode", method="adams", rtol=tolerance, atol=tolerance, nsteps=10_000)
    solver.set_initial_value(z.detach().flatten().numpy(), times[0].item())
    states = [z.detach()]
    for t in times[1:].tolist():
        states.append(torch.from_numpy(solver.integrate(t)).view(z.shape))
        if not solver.successful():
            raise SolverError(f"VODE gave up at a tolerance of {tolerance:g}")
    return torch.stack(states)


def dopri5(f: Dynamics, z: Tensor, times: Tensor, tolerance: float) -> Tensor:
    """The same by torchdiffeq's dopri5."""
    return odeint(f, z, times, method="dopri5", rtol=tolerance, atol=tolerance)


def _evaluations(f: nn.Module, z: Tensor, times: Tensor, solve: Solve, cotangent: Tensor) -> tuple[Tensor, int, int]:
    """The state at the end, and the evaluations forward and backward."""
    counted = Counted(f)
    end = odeint_adjoint(counted, z.clone().requires_grad_(), times, solve)[-1]
    forward = counted.n
    end.backward(cotangent)
    return end.detach(), forward, counted.n - forward


SOLVES = {"adams": adams, "dopri5": dopri5}


def measure_figure_3(
    subject: Subject, images: int = 16, batches: Sequence[int] = (0, 1, 2), tolerances: Sequence[float] = TOLERANCES
) -> Figure3:
    """Solve `batches` of the test images at each of `tolerances` by each solver, and differentiate by the adjoint."""
    rows, times = [], torch.tensor([0.0, 1.0], dtype=torch.float64)
    for batch in batches:
        problem = Problem(subject, images, batch)
        f, z, cotangent = copy.deepcopy(problem.f).double(), problem.z.double(), problem.cotangent.double()
        with torch.no_grad():
            end = dopri5(f, z, times, 1e-9)[-1]
        for name, solve in SOLVES.items():
            for tolerance in tolerances:
                solved = partial(solve, tolerance=tolerance)
                found, forward, usual = _evaluations(f, z, times, solved, cotangent)
                _, _, large = _evaluations(f, z, times, solved, cotangent * end.norm() / cotangent.norm())
                rows.append(Figure3Row(name, tolerance, batch, forward, usual, large, relative(found, end)))
    return Figure3(Environment.here(subject.device, __name__), images, tuple(rows))


_SMALL = {"batches": (0,), "tolerances": TOLERANCES[:2]}
MEASUREMENT = Measurement(Figure3, measure_figure_3, __name__, studies=("mnist-gradients",), small=_SMALL)
