"""Task 6: does it matter for digits how the block is solved, and how it is differentiated?

Protocol: full MNIST, one recipe for every case, the result after the last epoch. A fixed grid takes one step from t=0
to t=1, as torchdiffeq does by default; "-4" takes four. `none`, `resnet-1` and `resnet-6` have no ODE: they say what
the block is worth. Runs on a GPU (their records say which) were made with NVIDIA_TF32_OVERRIDE=0, by which
convolutions keep all their digits there too; the records do not show this setting.

Of the six cells of direct or adjoint and dopri5, RK4 or Euler, runs whose weights had not been kept are made again,
from 2026-11-26 on; a new record takes the place of the old one, whatever it says. Other machines round otherwise, so
that a network of the same seed ends elsewhere.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from odelib.config import Config
from odelib.measurements.backward_tolerance import BackwardTolerance, BackwardToleranceRow
from odelib.measurements.cross_solver import CrossSolver
from odelib.measurements.gradient_error import GradientError
from odelib.measurements.memory import Memory
from odelib.measurements.timing import Timing
from odelib.measurements.work_precision import WorkPrecision
from odelib.records import Run
from odelib.studies.statistics import paired_seeds_interval
from odelib.studies.study import Case, Study
from odelib.studies.summary import (
    Runs,
    Table,
    accuracy,
    at_the_end,
    mean,
    mean_and_range,
    signed,
    with_interval,
)

_MNIST = Config(dataset="mnist", epochs=5)
_FOUR_STEPS: dict[str, Any] = {"step_size": 0.25}
_THREE = (0, 1, 2)
_ONE = ("adjoint-rk4-4", "seminorm-dopri5")  # of these one seed

CASES: dict[str, Config] = {
    "direct-dopri5": _MNIST,
    "adjoint-dopri5": replace(_MNIST, gradient="adjoint"),
    "direct-rk4": replace(_MNIST, method="rk4"),
    "adjoint-rk4": replace(_MNIST, gradient="adjoint", method="rk4"),
    "direct-euler": replace(_MNIST, method="euler"),
    "adjoint-euler": replace(_MNIST, gradient="adjoint", method="euler"),
    "adjoint-rk4-4": replace(_MNIST, gradient="adjoint", method="rk4", **_FOUR_STEPS),
    "direct-euler-4": replace(_MNIST, method="euler", **_FOUR_STEPS),
    "adjoint-euler-4": replace(_MNIST, gradient="adjoint", method="euler", **_FOUR_STEPS),
    "seminorm-dopri5": replace(_MNIST, gradient="seminorm"),
    "none": replace(_MNIST, network="none"),
    "resnet-1": replace(_MNIST, network="resnet", blocks=1),
    "resnet-6": replace(_MNIST, network="resnet", blocks=6),
}

GRADIENT = ("direct", "adjoint")
SOLVERS = {
    "dopri5": "dopri5, tolerance 1e-3",
    "rk4": "RK4, one step",
    "euler": "Euler, one step",
    "euler-4": "Euler, four steps",
}

GRADIENTS = Study(
    "mnist-gradients",
    "Direct or adjoint gradient, with dopri5, RK4 or Euler: which trains best, and which is fastest?",
    {name: Case(config, (0,) if name in _ONE else _THREE) for name, config in CASES.items()},
    trained="adjoint-dopri5-seed0",
)


def seconds_per_epoch(timing: Timing) -> dict[str, tuple[float, float, float]]:
    """First quartile, median and third quartile by case; training alone, without the test after the epoch."""
    found = {}
    for row in timing.rows:
        first, median, third = (timing.steps_per_epoch * seconds for seconds in row.quartiles)
        found[row.case] = first, median, third
    return found


def median_seconds(timing: Timing) -> dict[str, float]:
    """The medians of `seconds_per_epoch`."""
    return {case: median for case, (_, median, _) in seconds_per_epoch(timing).items()}


def by_solver(runs: Runs) -> dict[str, dict[str, Sequence[Run]]]:
    """The runs of every case under what they are solved with."""
    cases = {
        "dopri5": ["direct-dopri5", "adjoint-dopri5", "seminorm-dopri5"],
        "RK4": ["direct-rk4", "adjoint-rk4", "adjoint-rk4-4"],
        "Euler": ["direct-euler", "adjoint-euler", "direct-euler-4", "adjoint-euler-4"],
        "no ODE": ["none", "resnet-1", "resnet-6"],
    }
    return {solver: {name: runs[name] for name in names} for solver, names in cases.items()}


def kept_by_nfe(memory: Memory) -> dict[str, list[tuple[int, float]]]:
    """Megabytes kept for the backward pass against NFE forward, for the direct gradients and one adjoint."""
    ways = [("direct", "dopri5"), ("direct", "rk4"), ("direct", "euler"), ("adjoint", "dopri5")]
    return {
        f"{gradient}, {method}": sorted(
            (row.nfe_forward, row.kept / 1e6) for row in memory.rows if (row.gradient, row.method) == (gradient, method)
        )
        for gradient, method in ways
    }


def case_table(runs: Runs, timing: Timing, memory: Memory) -> Table:
    """Every case: what it reaches and what it costs. NFE is the mean over the last epoch, the ratio that of the medians
    to direct-dopri5, MB what its block keeps for the backward pass."""
    header = ["case", "seeds", "test, %", "training, %", "NFE", "s per epoch", "ratio", "MB kept", "parameters"]
    seconds = seconds_per_epoch(timing)
    rows: list[list[object]] = []
    for case in (case for case in CASES if case in runs):
        low, median, high = seconds[case]
        forward, backward = (at_the_end(runs[case], name) for name in ("nfe_forward", "nfe_backward"))
        rows.append(
            [
                case,
                len(runs[case]),
                accuracy(runs[case]),
                accuracy(runs[case], "train_accuracy"),
                f"{forward:.0f} + {backward:.0f}",
                f"{median:.0f} ({low:.0f} to {high:.0f})",
                f"{median / seconds['direct-dopri5'][1]:.2f}",
                _megabytes(runs[case][0].config, memory),
                f"{runs[case][0].parameters:,}",
            ]
        )
    return header, rows


def _megabytes(config: Config, memory: Memory) -> str:
    """What the block of a config keeps, at its own tolerance or step size."""
    for row in memory.rows:
        same_size = row.rtol == config.rtol and row.step_size in (None, config.step_size or 1.0)
        if config.network == "odenet" and same_size and (row.method, row.gradient) == (config.method, config.gradient):
            return f"{row.kept / 1e6:.1f}"
    return "-"


def paired_accuracies(runs: Runs, name: str = "test_accuracy") -> dict[str, tuple[list[float], list[float]]]:
    """An accuracy in percent by solver (`SOLVERS`), one value a seed: with the direct gradient, with the adjoint.

    Seeds that both have, in their order: the values at one place begin with the same weights and see the same batches.
    """
    found = {}
    for solver in SOLVERS:
        ways = [
            {run.config.seed: 100 * (getattr(run.last, name) or 0.0) for run in runs[f"{g}-{solver}"]} for g in GRADIENT
        ]
        seeds = sorted(ways[0].keys() & ways[1].keys())
        found[solver] = ([ways[0][seed] for seed in seeds], [ways[1][seed] for seed in seeds])
    return found


def difference(values: Sequence[float], others: Sequence[float]) -> str:
    """The mean of `values` minus `others`, paired, in points, with its 95 % interval over the seeds if there is one."""
    if len(values) < 2:
        return f"{signed([values[0] - others[0]], 2)} (one seed)"
    return with_interval(paired_seeds_interval(values, others))


def adjoint_minus_direct(runs: Runs, solver: str, name: str = "test_accuracy") -> str:
    """What the adjoint of a solver of `SOLVERS` changes in an accuracy, in points, by `paired_accuracies`."""
    direct, adjoint = paired_accuracies(runs, name)[solver]
    return difference(adjoint, direct)


def dose_table(runs: Runs, errors: GradientError) -> Table:
    """What a wrong gradient costs: how far the adjoint's is from the direct one, and what the adjoint loses by it."""
    gap, pairs = {row.case: row.theta_gap for row in errors.rows}, paired_accuracies(runs)
    rows: list[list[object]] = []
    for solver, name in sorted(SOLVERS.items(), key=lambda item: gap[f"adjoint-{item[0]}"]):
        lost = [adjoint_minus_direct(runs, solver, part) for part in ("test_accuracy", "train_accuracy")]
        rows.append([name, f"{gap[f'adjoint-{solver}']:.1%}", *lost, len(pairs[solver][0])])
    return ["solver", "adjoint from direct", "adjoint − direct in the test, points", "in training", "seeds"], rows


def error_table(errors: GradientError) -> Table:
    """How far each gradient is from the exact one, and from the direct gradient of the same forward solve."""
    header = ["case", "error of dL/dθ", "cosine", "error of dL/dz(0)", "from its own direct"]
    return header, [
        [
            row.case,
            f"{row.theta_error:.1%}",
            f"{row.theta_cosine:.3f}",
            f"{row.state_error:.1%}",
            f"{row.theta_gap:.1%}" if row.theta_gap else "0",
        ]
        for row in errors.rows
    ]


def backward_table(record: BackwardTolerance) -> Table:
    """The adjoint by its backward tolerance: means over the batches, and the range of the error.

    The cost is that of N evaluations forward and M backward in evaluations, over that of the direct gradient.
    """
    header = ["backward solve", "NFE backward", "error of dL/dθ", "error of dL/dz(0)", "cost"]
    rows: list[list[object]] = []
    for (rtol, share), found in by_setting(record).items():
        text = "direct" if rtol is None else f"rtol = atol = {rtol:g}" if share is None else f"atol = {share:g} rms(a)"
        theta = mean_and_range([100 * row.theta_error for row in found], 1)
        state = mean_and_range([100 * row.state_error for row in found], 1)
        rows.append(
            [text, f"{mean(r.nfe_backward for r in found):.0f}", f"{theta} %", f"{state} %", f"{cost(found):.2f}"]
        )
    return header, rows


def by_setting(record: BackwardTolerance) -> dict[tuple[float | None, float | None], list[BackwardToleranceRow]]:
    """The rows of every batch under (rtol, share); that of the direct gradient under (None, None)."""
    found: dict[tuple[float | None, float | None], list[BackwardToleranceRow]] = {}
    for row in record.rows:
        found.setdefault((row.rtol, row.share), []).append(row)
    return found


def cost(rows: Sequence[BackwardToleranceRow]) -> float:
    """(N + 3 M) / 3 N, or 1 for the direct gradient: a product with the Jacobian costs two evaluations."""
    n, m = mean(row.nfe_forward for row in rows), mean(row.nfe_backward for row in rows)
    return (n + 3 * m) / (3 * n) if m else 1.0


def as_close_as_direct(
    record: BackwardTolerance, *errors: Literal["theta_error", "state_error"]
) -> list[BackwardToleranceRow]:
    """Of the settings whose `errors` are on average no larger than those of the direct gradient, the rows of that with
    least evaluations. Raises ValueError where there is none."""

    def means(rows: Sequence[BackwardToleranceRow]) -> list[float]:
        return [mean(getattr(row, name) for row in rows) for name in errors]

    settings = by_setting(record)
    direct = means(settings.pop((None, None)))
    close = [rows for rows in settings.values() if all(x <= y for x, y in zip(means(rows), direct))]
    return min(close, key=lambda rows: mean(row.nfe_backward for row in rows))


def closest(record: WorkPrecision, most: int, adaptive: bool) -> tuple[str, float, float]:
    """Of the adaptive methods, or of the fixed grids, that with the smallest error of dL/dtheta, the mean over the
    batches, among those with at most so many evaluations: its name, NFE, error."""
    found: dict[tuple[object, ...], list[tuple[float, float]]] = {}
    for row in record.rows:
        if (row.rtol is not None) == adaptive:
            key = row.library, row.method, row.rtol, row.steps
            found.setdefault(key, []).append((row.nfe, row.theta_error))
    means = {key: (mean(n for n, _ in pairs), mean(e for _, e in pairs)) for key, pairs in found.items()}
    (library, method, rtol, steps), (nfe, error) = min(
        ((key, point) for key, point in means.items() if point[0] <= most), key=lambda item: item[1][1]
    )
    size = f"at tolerance {rtol:g}" if adaptive else f"in {steps} step{'s' * (steps != 1)}"
    return f"{method} of {library} {size}", nfe, error


BUDGETS = (8, 16, 32, 64)  # evaluations


def work_table(record: WorkPrecision) -> Table:
    """The closest gradient that so many evaluations buy (`closest`): by an adaptive method, and on a fixed grid."""
    header = ["NFE at most", "best adaptive method", "NFE", "error", "best fixed grid", "NFE", "error"]
    rows: list[list[object]] = []
    for most in BUDGETS:
        row: list[object] = [most]
        for adaptive in (True, False):
            name, nfe, error = closest(record, most, adaptive)
            row += [name, f"{nfe:.0f}", f"{error:.1%}"]
        rows.append(row)
    return header, rows


def block_table(runs: Runs) -> Table:
    """From no block to six, an ODE or none: what each is worth."""
    blocks = {
        "none": "stem and head alone",
        "adjoint-euler": "one Euler step, not its own gradient",
        "direct-euler": "one Euler step, backpropagated",
        "resnet-1": "one residual block",
        "direct-dopri5": "the flow, to tolerance 1e-3",
        "resnet-6": "six residual blocks",
    }
    header = ["case", "what it is", "parameters", "test accuracy, %", "seeds"]
    return header, [
        [case, what, f"{runs[case][0].parameters:,}", accuracy(runs[case]), len(runs[case])]
        for case, what in blocks.items()
    ]


def crossed(cross: CrossSolver) -> dict[str, dict[str, list[float]]]:
    """Test accuracy in percent by case and by the solver that it was tested with, one value a network."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in cross.rows:
        found.setdefault(row.case, {}).setdefault(row.solver, []).append(100 * row.accuracy)
    return found


def cross_table(cross: CrossSolver) -> Table:
    """Mean test accuracy in percent, trained as the row says, tested as the column says; how many networks that is of,
    and how far two of them lie apart at most, in points, under one and the same solver."""
    accuracies = crossed(cross)
    rows: list[list[object]] = []
    for case, tests in accuracies.items():
        n = len(next(iter(tests.values())))
        apart = f"{max(max(values) - min(values) for values in tests.values()):.1f}" if n > 1 else "–"
        rows.append([case, *(f"{mean(values):.1f}" for values in tests.values()), n, apart])
    return ["trained with", *next(iter(accuracies.values())), "networks", "apart"], rows
