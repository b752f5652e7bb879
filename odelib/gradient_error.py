"""Gradient error: how far each way of differentiating an ODE block is from the gradient of the exact solution."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from odelib.config import Config
from odelib.data import Dataset, batches
from odelib.models import ImageClassifier
from odelib.odeblock import ODEBlock, count_evaluations
from odelib.records import Environment, Record
from odelib.variations import ode_block

REFERENCE_TOLERANCE = 1e-9  # in float64: far below all that is compared with it, and its graph fits into memory

SCALES = tuple(10 ** (n / 2) for n in range(-4, 15))  # of the loss, from a hundredth to ten million


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

    case: str
    nfe_forward: int
    nfe_backward: int
    theta_error: float
    theta_cosine: float
    state_error: float
    state_cosine: float
    theta_gap: float  # relative distance from the direct gradient of the same forward solve


@dataclass(frozen=True)
class GradientError(Record):
    """Gradients of each case against the exact one, on a trained network."""

    environment: Environment
    images: int
    reference_error: float  # distance of the reference from one of a ten times larger tolerance
    rows: tuple[GradientErrorRow, ...]


@dataclass(frozen=True)
class LossScaleRow:
    """The adjoint at one scale of the loss."""

    gradient: str
    scale: float  # the loss is the mean cross-entropy times this
    adjoint_rms: float  # root mean square of a(t1) over the batch, to be compared with atol
    nfe_forward: int
    nfe_backward: int
    theta_error: float
    state_error: float


@dataclass(frozen=True)
class LossScale(Record):
    """NFE and error of the backward solve against the scale of the loss, at one tolerance."""

    environment: Environment
    images: int
    tolerance: float
    direct_theta_error: float  # of the direct gradient at the same tolerance, at any scale
    rows: tuple[LossScaleRow, ...]


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
        state, *theta = torch.autograd.grad(end, [z, *block.f.parameters()], cotangent)
    return Gradient(state.flatten(), torch.cat([g.flatten() for g in theta]), forward.n, backward.n)


class Problem:
    """The ODE block of a trained network with real states, the gradient dL/dz(t1) there, and the exact gradient."""

    def __init__(self, trained: ImageClassifier, data: Dataset, device: torch.device, images: int):
        x, y = next(batches(data.test.to(device), images))
        model = trained.to(device)
        self.f = model.block.f
        with torch.no_grad():
            self.z = model.stem(model.normalize(x))
            end = ODEBlock(self.f, rtol=1e-6, atol=1e-6)(self.z)
        end.requires_grad_()
        (self.cotangent,) = torch.autograd.grad(F.cross_entropy(model.head(end), y), end)
        self.exact = self._reference(REFERENCE_TOLERANCE)
        self.reference_error = relative(self._reference(10 * REFERENCE_TOLERANCE).theta, self.exact.theta)

    def _reference(self, tolerance: float) -> Gradient:
        block = ODEBlock(copy.deepcopy(self.f).double(), rtol=tolerance, atol=tolerance)
        return block_gradient(block, self.z.double(), self.cotangent.double())


def measure_gradient_error(
    cases: dict[str, Config], data: Dataset, trained: ImageClassifier, device: torch.device, images: int = 32
) -> GradientError:
    """Compare the gradient of each case's solver, on the same trained block and images, with a tight one in float64."""
    problem, rows = Problem(trained, data, device, images), []
    for case, c in cases.items():
        if c.network != "odenet":
            continue
        block = ode_block(problem.f, c)
        ours = block_gradient(block, problem.z, problem.cotangent)
        block.gradient = "direct"
        direct = block_gradient(block, problem.z, problem.cotangent)
        rows.append(
            GradientErrorRow(
                case,
                ours.nfe_forward,
                ours.nfe_backward,
                relative(ours.theta, problem.exact.theta),
                cosine(ours.theta, problem.exact.theta),
                relative(ours.state, problem.exact.state),
                cosine(ours.state, problem.exact.state),
                relative(ours.theta, direct.theta.double()),
            )
        )
    return GradientError(Environment.here(device), images, problem.reference_error, tuple(rows))


def measure_loss_scale(
    cases: dict[str, Config],
    data: Dataset,
    trained: ImageClassifier,
    device: torch.device,
    images: int = 32,
    scales: Sequence[float] = SCALES,
) -> LossScale:
    """Multiply the loss by each of `scales` and solve the adjoint equation, with and without the seminorm.

    The errors are those of the gradient divided by the scale again: an exact method would not notice the scale.
    """
    problem, rows = Problem(trained, data, device, images), []
    tolerance = next(iter(cases.values())).rtol
    for gradient in ("adjoint", "seminorm"):
        block = ODEBlock(problem.f, rtol=tolerance, atol=tolerance, gradient=gradient)
        for scale in scales:
            cotangent = scale * problem.cotangent
            ours = block_gradient(block, problem.z, cotangent)
            rows.append(
                LossScaleRow(
                    gradient,
                    scale,
                    cotangent.pow(2).mean().sqrt().item(),
                    ours.nfe_forward,
                    ours.nfe_backward,
                    relative(ours.theta / scale, problem.exact.theta),
                    relative(ours.state / scale, problem.exact.state),
                )
            )
    block = ODEBlock(problem.f, rtol=tolerance, atol=tolerance)
    direct = block_gradient(block, problem.z, problem.cotangent)
    error = relative(direct.theta, problem.exact.theta)
    return LossScale(Environment.here(device), images, tolerance, error, tuple(rows))
