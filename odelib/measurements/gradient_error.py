"""Gradient error: how far each way of differentiating an ODE block is from the gradient of the exact solution."""

import copy
from dataclasses import dataclass, replace
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from odelib.data import batches
from odelib.measurements.measurement import Measurement, Subject
from odelib.models import ode_block
from odelib.odeblock import ODEBlock, Solver, count_evaluations
from odelib.records import Environment, Record

REFERENCE_TOLERANCE = 1e-9  # in float64: far below all that is compared with it, and its graph fits into memory


@dataclass(frozen=True)
class Gradient:
    """The gradient of a loss through an ODE block, and what it cost."""

    state: Tensor  # dL/dz(t0), flattened
    theta: Tensor  # dL/dtheta, all parameters of f in one row
    nfe_forward: int
    nfe_backward: int


@dataclass(frozen=True)
class GradientErrorRow:
    """One case: errors are relative, in the 2-norm; cosines are of the angle to the exact gradient."""

    KEY = ("case",)

    case: str
    nfe_forward: int
    nfe_backward: int
    theta_error: float
    theta_cosine: float
    state_error: float
    state_cosine: float
    theta_gap: float  # relative distance from the direct gradient of the same forward solve
    theta_gap_cosine: float  # of the angle to it


@dataclass(frozen=True)
class GradientError(Record):
    """Gradients of each case against the exact one, on a trained network."""

    environment: Environment
    images: int
    reference_error: float  # distance of the reference from one of a ten times larger tolerance
    rows: tuple[GradientErrorRow, ...]


def relative(value: Tensor, reference: Tensor) -> float:
    """Distance over the length of the reference, in the 2-norm."""
    return ((value.double() - reference).norm() / reference.norm()).item()


def cosine(value: Tensor, reference: Tensor) -> float:
    """1 where both point the same way, 0 at a right angle."""
    return F.cosine_similarity(value.double(), reference, dim=0).item()


def block_gradient(block: ODEBlock, z: Tensor, cotangent: Tensor) -> Gradient:
    """Gradient of the number <cotangent, z(t1)> by the state z at t0 and by the parameters of f."""
    z = z.clone().requires_grad_()
    with count_evaluations(block) as forward:
        end = block(z)
    with count_evaluations(block) as backward:
        state, *theta = torch.autograd.grad(end, [z, *block.parameters()], cotangent)
    return Gradient(state.flatten(), torch.cat([g.flatten() for g in theta]), forward.n, backward.n)


class Problem:
    """The ODE block of a trained network with real states, the gradient dL/dz(t1) there, and the exact gradient."""

    def __init__(self, subject: Subject, images: int, batch: int = 0):
        """Of the test images the batch of this number, counted from 0."""
        x, y = next(islice(batches(subject.data.test.to(subject.device), images), batch, None))
        model = subject.trained.to(subject.device)
        self.f = subject.f
        with torch.no_grad():
            self.z = model.stem(model.normalize(x))
            end = ODEBlock(self.f, Solver(rtol=1e-6, atol=1e-6))(self.z)
        end.requires_grad_()
        (self.cotangent,) = torch.autograd.grad(F.cross_entropy(model.head(end), y), end)
        self.exact = self._reference(REFERENCE_TOLERANCE)
        self.reference_error = relative(self._reference(10 * REFERENCE_TOLERANCE).theta, self.exact.theta)

    def errors(self, state: Tensor, theta: Tensor) -> tuple[float, float]:
        """How far dL/dtheta and dL/dz(t0) are from the exact ones; relative, in the 2-norm."""
        return relative(theta, self.exact.theta), relative(state, self.exact.state)

    def _reference(self, tolerance: float) -> Gradient:
        block = ODEBlock(copy.deepcopy(self.f).double(), Solver(rtol=tolerance, atol=tolerance))
        return block_gradient(block, self.z.double(), self.cotangent.double())


def measure_gradient_error(subject: Subject, images: int = 32, cases: slice = slice(None)) -> GradientError:
    """Compare the gradient of each case's solver, on the same trained block and images, with a tight one in float64."""
    problem, rows = Problem(subject, images), []
    odenets = [(case, config) for case, config in subject.cases.items() if config.network == "odenet"]
    for case, config in odenets[cases]:
        block = ode_block(problem.f, config, config)
        ours = block_gradient(block, problem.z, problem.cotangent)
        block.solver = replace(block.solver, gradient="direct")
        direct = block_gradient(block, problem.z, problem.cotangent)
        theta_error, state_error = problem.errors(ours.state, ours.theta)
        rows.append(
            GradientErrorRow(
                case,
                ours.nfe_forward,
                ours.nfe_backward,
                theta_error,
                cosine(ours.theta, problem.exact.theta),
                state_error,
                cosine(ours.state, problem.exact.state),
                relative(ours.theta, direct.theta.double()),
                cosine(ours.theta, direct.theta.double()),
            )
        )
    environment = Environment.here(subject.device, __name__)
    return GradientError(environment, images, problem.reference_error, tuple(rows))


MEASUREMENT = Measurement(
    GradientError, measure_gradient_error, __name__, studies=("mnist-gradients",), small={"cases": slice(0, 3)}
)
