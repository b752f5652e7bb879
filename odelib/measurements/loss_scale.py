"""Loss scale: what the adjoint makes of a loss that is multiplied by a number, which changes nothing but its unit."""

from collections.abc import Sequence
from dataclasses import dataclass

from odelib.measurements.gradient_error import Problem, block_gradient
from odelib.measurements.measurement import Measurement, Subject
from odelib.odeblock import ODEBlock, Solver
from odelib.records import Environment, Record

SCALES = tuple(10 ** (n / 2) for n in range(-4, 15))  # of the loss, from a hundredth to ten million


@dataclass(frozen=True)
class LossScaleRow:
    """The adjoint at one scale of the loss."""

    KEY = ("gradient", "scale")

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


def measure_loss_scale(subject: Subject, images: int = 32, scales: Sequence[float] = SCALES) -> LossScale:
    """Multiply the loss by each of `scales` and solve the adjoint equation, with and without the seminorm.

    The errors are those of the gradient divided by the scale again: an exact method would not notice the scale.
    """
    problem, rows = Problem(subject, images), []
    tolerance = next(iter(subject.cases.values())).rtol
    for gradient in ("adjoint", "seminorm"):
        block = ODEBlock(problem.f, Solver(rtol=tolerance, atol=tolerance, gradient=gradient))
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
                    *problem.errors(ours.state / scale, ours.theta / scale),
                )
            )
    block = ODEBlock(problem.f, Solver(rtol=tolerance, atol=tolerance))
    direct = block_gradient(block, problem.z, problem.cotangent)
    error, _ = problem.errors(direct.state, direct.theta)
    return LossScale(Environment.here(subject.device, __name__), images, tolerance, error, tuple(rows))


MEASUREMENT = Measurement(
    LossScale, measure_loss_scale, __name__, studies=("mnist-gradients",), small={"scales": SCALES[:3]}
)
