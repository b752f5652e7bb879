"""Work and precision: the evaluations that each method takes, against the error of the gradient that it gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from odelib.errors import SolverError
from odelib.measurements.gradient_error import Problem, block_gradient
from odelib.measurements.measurement import Measurement, Subject
from odelib.odeblock import LIBRARIES, ODEBlock, Solver
from odelib.records import Environment, Record

TOLERANCES: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
STEPS: tuple[int, ...] = (1, 2, 4, 8, 16)
_LEFT_OUT = ("explicit_adams", "implicit_adams", "fixed_adams")  # multistep methods, which begin with other ones


@dataclass(frozen=True)
class WorkPrecisionRow:
    """The direct gradient of one solver on one batch."""

    KEY = ("library", "method", "rtol", "steps", "batch")

    library: str
    method: str
    rtol: float | None  # and atol, of an adaptive method
    steps: int | None  # of a fixed grid
    batch: int
    nfe: int
    theta_error: float  # relative distance of dL/dtheta from the exact one, in the 2-norm
    state_error: float


@dataclass(frozen=True)
class WorkPrecision(Record):
    """NFE and gradient error of all one-step methods, on the trained block."""

    environment: Environment
    images: int  # of a batch
    rows: tuple[WorkPrecisionRow, ...]


def solvers(sizes: slice = slice(None)) -> Iterator[tuple[float | None, int | None, Solver]]:
    """Every one-step method of both libraries, at tolerances or numbers of steps of `sizes`: rtol, steps, solver."""
    for library, methods in LIBRARIES.items():
        of_it: dict[str, Any] = {"library": library}
        for method in methods.adaptive:
            for rtol in TOLERANCES[sizes]:
                yield rtol, None, Solver(method, rtol=rtol, atol=rtol, **of_it)
        for method in methods.fixed:
            if method not in _LEFT_OUT:
                for steps in STEPS[sizes]:
                    yield None, steps, Solver(method, step_size=1 / steps, **of_it)


def measure_work_precision(
    subject: Subject, images: int = 32, batches: Sequence[int] = (0, 1, 2), sizes: slice = slice(None)
) -> WorkPrecision:
    """Backpropagate through every solver of `solvers` on `batches` of the test images.

    A method that cannot do with float32 what its tolerance asks has no row.
    """
    rows = []
    for batch in batches:
        problem = Problem(subject, images, batch)
        for rtol, steps, solver in solvers(sizes):
            try:
                found = block_gradient(ODEBlock(problem.f, solver), problem.z, problem.cotangent)
            except SolverError:
                continue
            errors = problem.errors(found.state, found.theta)
            rows.append(WorkPrecisionRow(solver.library, solver.method, rtol, steps, batch, found.nfe_forward, *errors))
    return WorkPrecision(Environment.here(subject.device, __name__), images, tuple(rows))


_SMALL = {"batches": (0,), "sizes": slice(0, 2)}
MEASUREMENT = Measurement(WorkPrecision, measure_work_precision, __name__, studies=("mnist-gradients",), small=_SMALL)
