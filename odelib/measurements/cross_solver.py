"""Cross-solver test: networks trained with one solver, tested with several."""

from dataclasses import dataclass, replace

from odelib.measurements.measurement import Measurement, Subject
from odelib.odeblock import Solver, change_solver, count_evaluations
from odelib.records import Environment, Record
from odelib.training import evaluate

# All of library torchdiffeq, whatever a network was trained with: the two libraries' rk4 differ.
SOLVERS = {
    "euler, 1 step": Solver("euler"),
    "euler, 4 steps": Solver("euler", step_size=0.25),
    "euler, 16 steps": Solver("euler", step_size=0.0625),
    "rk4, 1 step": Solver("rk4"),
    "rk4, 4 steps": Solver("rk4", step_size=0.25),
    "dopri5, 1e-3": Solver("dopri5"),
    "dopri5, 1e-5": Solver("dopri5", rtol=1e-5, atol=1e-5),
}
_AT_ONCE = 1000  # images


@dataclass(frozen=True)
class CrossTest:
    """One trained network under one solver."""

    KEY = ("case", "seed", "solver")

    case: str  # how it was trained
    seed: int
    solver: str  # how it is tested, a name of SOLVERS
    nfe: float  # evaluations of f per batch of 1,000 images
    accuracy: float  # share of all test images


@dataclass(frozen=True)
class CrossSolver(Record):
    """Test accuracy of networks under several solvers, their own among them where it is one of torchdiffeq's."""

    environment: Environment
    rows: tuple[CrossTest, ...]


def measure_cross_solver(subject: Subject, solvers: dict[str, Solver] = SOLVERS) -> CrossSolver:
    """Test every network of the study that has an ODE block, and whose weights are at hand, with every solver.

    Raises RecordError when there are none.
    """
    test, rows = subject.data.test.to(subject.device), []
    cases = {case: config for case, config in subject.cases.items() if config.network == "odenet"}
    for case, seed, model in replace(subject, cases=cases).networks():
        for name, solver in solvers.items():
            change_solver(model, solver)
            with count_evaluations(model) as seen:
                _, accuracy = evaluate(model, test, batch_size=_AT_ONCE)
            rows.append(CrossTest(case, seed, name, seen.n / -(-len(test) // _AT_ONCE), accuracy))
    return CrossSolver(Environment.here(subject.device, __name__), tuple(rows))


_SMALL = {name: SOLVERS[name] for name in ("euler, 1 step", "rk4, 1 step")}
MEASUREMENT = Measurement(
    CrossSolver,
    measure_cross_solver,
    __name__,
    studies=("mnist-gradients", "mnist-modern", "cifar10-full"),
    small={"solvers": _SMALL},
)
