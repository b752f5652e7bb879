"""Inference: what trained networks answer at other tolerances and numbers of steps, and in how many evaluations."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from odelib.data import batches
from odelib.measurements.measurement import Measurement, Subject
from odelib.models import ImageClassifier
from odelib.odeblock import Solver, change_solver, count_evaluations
from odelib.records import Environment, Record
from odelib.shapes import Float, Int64
from odelib.training import EVALUATED_AT_ONCE

TOLERANCES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of dopri5, the tightest first
STEPS = (1, 2, 4, 8)
METHODS = ("euler", "midpoint", "rk4")  # on fixed grids; all of library torchdiffeq


@dataclass(frozen=True)
class Inference:
    """One trained network under one solver."""

    KEY = ("case", "seed", "method", "rtol", "steps")

    case: str  # how it was trained
    seed: int
    method: str
    rtol: float | None  # and atol, of dopri5
    steps: int | None  # of a fixed grid
    nfe: float  # evaluations of f for a batch of 250 images, in all ODE blocks, mean over the batches
    accuracy: float  # share of the test images
    moved: float  # share of them whose answer is another one than at the tightest tolerance


@dataclass(frozen=True)
class Inferences(Record):
    """Test accuracy and NFE of trained networks by tolerance and by number of steps."""

    environment: Environment
    images: int  # of the test set that networks were asked about
    rows: tuple[Inference, ...]


def solvers(tolerances: tuple[float, ...], steps: tuple[int, ...]) -> Iterator[tuple[float | None, int | None, Solver]]:
    """Tolerance, number of steps and solver: dopri5 at every tolerance, then every method on every grid."""
    for rtol in tolerances:
        yield rtol, None, Solver(rtol=rtol, atol=rtol)
    for method in METHODS:
        for n in steps:
            yield None, n, Solver(method, step_size=1 / n)


@torch.no_grad()
def _answers(model: ImageClassifier, starts: list[Float[Tensor, "b c h w"]]) -> tuple[float, Int64[Tensor, "n"]]:
    """NFE for a batch, and what the model takes each image for, from the states before its block."""
    with count_evaluations(model) as seen:
        answers = torch.cat([model.head(model.block(z)).argmax(dim=1) for z in starts])
    return seen.n / len(starts), answers


def measure_inference(
    subject: Subject,
    images: int | None = None,
    tolerances: tuple[float, ...] = TOLERANCES,
    steps: tuple[int, ...] = STEPS,
) -> Inferences:
    """Ask every network of the study that has an ODE block, and whose weights are at hand, under every solver.

    `images` are the first so many of the test set, all of them if it is None. Raises RecordError when there are no
    weights.
    """
    test, rows = subject.data.test.pick(slice(0, images)).to(subject.device), []
    cases = {case: config for case, config in subject.cases.items() if config.network == "odenet"}
    for case, seed, model in replace(subject, cases=cases).networks():
        with torch.no_grad():
            starts = [model.stem(model.normalize(x)) for x, _ in batches(test, EVALUATED_AT_ONCE)]
        tight = None
        for rtol, n, solver in solvers(tolerances, steps):
            change_solver(model, solver)
            nfe, answers = _answers(model, starts)
            tight = answers if tight is None else tight
            shares = [found.double().mean().item() for found in (answers == test.labels, answers != tight)]
            rows.append(Inference(case, seed, solver.method, rtol, n, nfe, *shares))
    return Inferences(Environment.here(subject.device, __name__), len(test), tuple(rows))


_STUDIES = ("mnist-gradients", "cifar10-modern")
_SMALL = {"tolerances": TOLERANCES[:1], "steps": STEPS[:1]}
MEASUREMENT = Measurement(Inferences, measure_inference, __name__, studies=_STUDIES, small=_SMALL)
