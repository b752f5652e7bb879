"""Cross-solver test: networks trained with one solver, tested with others."""

from dataclasses import dataclass
from pathlib import Path

import torch

from odelib.config import Config
from odelib.data import Dataset
from odelib.odeblock import count_evaluations
from odelib.records import Environment, Record, RecordError, load_weights, stored_weights
from odelib.training import evaluate

# name: method, tolerance (both rtol and atol), step_size
SOLVERS = {
    "euler, 1 step": ("euler", 1e-3, None),
    "euler, 4 steps": ("euler", 1e-3, 0.25),
    "euler, 16 steps": ("euler", 1e-3, 0.0625),
    "rk4, 1 step": ("rk4", 1e-3, None),
    "rk4, 4 steps": ("rk4", 1e-3, 0.25),
    "dopri5, 1e-3": ("dopri5", 1e-3, None),
    "dopri5, 1e-5": ("dopri5", 1e-5, None),
}


@dataclass(frozen=True)
class CrossTest:
    """One trained network under one solver."""

    case: str  # how it was trained
    seed: int
    solver: str  # how it is tested, a name of SOLVERS
    nfe: float  # evaluations of f per batch of 1,000 images
    accuracy: float  # share of all test images


@dataclass(frozen=True)
class CrossSolver(Record):
    """Test accuracy of networks under solvers that they were not trained with."""

    environment: Environment
    rows: tuple[CrossTest, ...]


def measure_cross_solver(cases: dict[str, Config], data: Dataset, folder: Path, device: torch.device) -> CrossSolver:
    """Test every network of the study whose weights lie in `folder` with every solver of SOLVERS.

    Raises RecordError when there are none.
    """
    test, rows = data.test.to(device), []
    cases = {case: config for case, config in cases.items() if config.network == "odenet"}
    for case, seed, path in stored_weights(cases, folder):
        model, _ = load_weights(path)
        model.to(device)
        model.block.gradient = "adjoint"  # none is computed, and this one goes with every method
        for name, (method, tolerance, step_size) in SOLVERS.items():
            block = model.block
            block.method, block.rtol, block.atol, block.step_size = method, tolerance, tolerance, step_size
            with count_evaluations(model) as seen:
                _, accuracy = evaluate(model, test, batch_size=1000)
            rows.append(CrossTest(case, seed, name, seen.n / -(-len(test) // 1000), accuracy))
    if not rows:
        raise RecordError(f"{folder} holds no weights of this study; train its cases first")
    return CrossSolver(Environment.here(device), tuple(rows))
