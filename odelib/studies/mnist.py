"""Task 6: does it matter for digits how the block is solved, and how it is differentiated?

Protocol: full MNIST, one recipe for every case, the result after the last epoch. A fixed grid takes one step from t=0
to t=1, as torchdiffeq does by default; "-4" takes four. `none`, `resnet-1` and `resnet-6` have no ODE: they say what
the block is worth.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from odelib.config import Config
from odelib.measurements.cross_solver import CrossSolver
from odelib.measurements.gradient_error import GradientError
from odelib.measurements.loss_scale import LossScale
from odelib.measurements.memory import Memory
from odelib.measurements.timing import Timing
from odelib.records import Run
from odelib.studies.study import Case, Study
from odelib.studies.summary import Runs, Table, accuracy, all_runs, at_the_end, mean, only, standard_error

_MNIST = Config(dataset="mnist", epochs=5)
_FOUR_STEPS: dict[str, Any] = {"step_size": 0.25}
_THREE = (0, 1, 2)

CASES: dict[str, Config] = {
    "direct-dopri5": _MNIST,
    "adjoint-dopri5": replace(_MNIST, gradient="adjoint"),
    "direct-rk4": replace(_MNIST, method="rk4"),
    "adjoint-rk4": replace(_MNIST, gradient="adjoint", method="rk4"),
    "direct-euler": replace(_MNIST, method="euler"),
    "adjoint-euler": replace(_MNIST, gradient="adjoint", method="euler"),
    "direct-rk4-4": replace(_MNIST, method="rk4", **_FOUR_STEPS),
    "adjoint-rk4-4": replace(_MNIST, gradient="adjoint", method="rk4", **_FOUR_STEPS),
    "direct-euler-4": replace(_MNIST, method="euler", **_FOUR_STEPS),
    "adjoint-euler-4": replace(_MNIST, gradient="adjoint", method="euler", **_FOUR_STEPS),
    "seminorm-dopri5": replace(_MNIST, gradient="seminorm"),
    "none": replace(_MNIST, network="none"),
    "resnet-1": replace(_MNIST, network="resnet", blocks=1),
    "resnet-6": replace(_MNIST, network="resnet", blocks=6),
}

GRADIENTS = Study(
    "mnist-gradients",
    "Direct or adjoint gradient, with dopri5, RK4 or Euler: which trains best, and which is fastest?",
    {name: Case(config, _THREE) for name, config in CASES.items()},
    trained="adjoint-dopri5-seed0",
)


def seconds_per_epoch(timing: Timing) -> dict[str, tuple[float, float, float]]:
    """First quartile, median and third quartile by case; training alone, without the test after the epoch."""
    found = {}
    for row in timing.rows:
        first, median, third = (timing.steps_per_epoch * seconds for seconds in row.quartiles)
        found[row.case] = first, median, third
    return found


def blocks_by_gradient(timing: Timing) -> dict[str, dict[str, float]]:
    """For each gradient the median seconds per epoch of the cases with an ODE block, 0 where a case has another one."""
    medians = {row.case: seconds_per_epoch(timing)[row.case][1] for row in timing.rows if row.nfe_forward}
    gradients = dict.fromkeys(case.partition("-")[0] for case in medians)
    return {
        gradient: {case: s if case.startswith(f"{gradient}-") else 0.0 for case, s in medians.items()}
        for gradient in gradients
    }


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
            (row.nfe_forward, row.bytes / 1e6)
            for row in memory.rows
            if (row.gradient, row.method) == (gradient, method)
        )
        for gradient, method in ways
    }


def case_table(runs: Runs, timing: Timing, memory: Memory) -> Table:
    """Every case: what it reaches and what it costs. NFE is the mean over the last epoch, the ratio that of the medians
    to direct-dopri5, MB what its block keeps for the backward pass."""
    header = ["case", "seeds", "test accuracy, %", "NFE", "s per epoch", "ratio", "MB kept", "parameters"]
    seconds = seconds_per_epoch(timing)
    rows: list[list[object]] = []
    for case, (low, median, high) in seconds.items():
        forward, backward = (at_the_end(runs[case], name) for name in ("nfe_forward", "nfe_backward"))
        rows.append(
            [
                case,
                len(runs[case]),
                accuracy(runs[case]),
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
            return f"{row.bytes / 1e6:.1f}"
    return "-"


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


def block_table(runs: Runs) -> Table:
    """From no block to six, an ODE or none: what each is worth."""
    blocks = {
        "none": "stem and head alone",
        "direct-euler": "one Euler step, backpropagated",
        "adjoint-euler": "one Euler step, wrong gradient",
        "resnet-1": "one residual block",
        "direct-dopri5": "the flow, to tolerance 1e-3",
        "resnet-6": "six residual blocks",
    }
    header = ["case", "what it is", "parameters", "test accuracy, %"]
    return header, [
        [case, what, f"{runs[case][0].parameters:,}", accuracy(runs[case])] for case, what in blocks.items()
    ]


def crossed(cross: CrossSolver) -> dict[str, dict[str, float]]:
    """Test accuracy in percent by case and by the solver that it was tested with, the mean over the networks."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in cross.rows:
        found.setdefault(row.case, {}).setdefault(row.solver, []).append(100 * row.accuracy)
    return {case: {solver: mean(values) for solver, values in tests.items()} for case, tests in found.items()}


def cross_table(cross: CrossSolver) -> Table:
    """Test accuracy in percent, trained as the row says, tested as the column says."""
    accuracies = crossed(cross)
    header = ["trained with", *next(iter(accuracies.values()))]
    return header, [[case, *(f"{value:.1f}" for value in tests.values())] for case, tests in accuracies.items()]


def numbers(
    runs: Runs, timing: Timing, memory: Memory, scale: LossScale, errors: GradientError, cross: CrossSolver
) -> dict[str, str]:
    """What the prose of adjoint-vs-direct says in numbers, by the names under which it asks for them."""
    return {
        **_of_runs(runs),
        **_of_timing(timing),
        **_of_memory(memory),
        **_of_loss_scale(scale),
        **_of_errors(errors),
        **_of_cross_solver(cross),
    }


def _of_runs(runs: Runs) -> dict[str, str]:
    drop = at_the_end(runs["direct-euler"]) - at_the_end(runs["adjoint-euler"])
    made = (run.environment for run in all_runs(runs))
    environments = {f"{e.hardware} (threads: {e.threads}, torch {e.torch})" for e in made}
    return {
        **{f"acc-{case}": accuracy(found) for case, found in runs.items()},
        "se": f"{100 * standard_error(at_the_end(runs['direct-dopri5'])):.2f}",
        "euler-drop": f"{100 * drop:.2f}",
        "environments": "; ".join(sorted(environments)),
    }


def _of_timing(timing: Timing) -> dict[str, str]:
    median = {case: quartiles[1] for case, quartiles in seconds_per_epoch(timing).items()}
    adjoint, direct = (median[case] - median["none"] for case in ("adjoint-dopri5", "direct-dopri5"))
    return {
        **{f"time-{case}": f"{seconds:.0f}" for case, seconds in median.items()},
        "ratio-adjoint-dopri5": f"{median['adjoint-dopri5'] / median['direct-dopri5']:.2f}",
        "net-ratio": f"{adjoint / direct:.2f}",  # without what stem and head cost
        "euler-premium": f"{median['adjoint-euler'] / median['direct-euler']:.2f}",
        "rk4-premium": f"{median['adjoint-rk4'] / median['direct-rk4']:.2f}",
        "rounds": str(len(timing.rows[0].seconds)),
    }


def _of_memory(memory: Memory) -> dict[str, str]:
    direct, least, most = (only(memory.rows, method="dopri5", gradient="direct", rtol=r) for r in (1e-3, 1e-1, 1e-5))
    adjoint = only(memory.rows, method="dopri5", gradient="adjoint", rtol=1e-3)
    per_evaluation = (most.bytes - least.bytes) / (most.nfe_forward - least.nfe_forward)
    imagenet = 55**2 / 6**2  # pixels of the state behind the same stem, against ours
    return {
        "mb-direct": f"{direct.bytes / 1e6:.0f}",
        "mb-adjoint": f"{adjoint.bytes / 1e6:.1f}",
        "mb-state": f"{memory.state_bytes / 1e6:.2f}",
        "mb-evaluation": f"{memory.evaluation_bytes / 1e6:.1f}",
        "mb-slope": f"{per_evaluation / 1e6:.1f}",
        "memory-nfe": str(direct.nfe_forward),
        "gigabytes-imagenet": f"{direct.bytes * imagenet / 1e9:.0f}",
    }


def _of_loss_scale(scale: LossScale) -> dict[str, str]:
    one = only(scale.rows, gradient="adjoint", scale=1)
    found = {
        "scale-rms": f"{one.adjoint_rms:.0e}",
        "scale-below": f"{scale.tolerance / one.adjoint_rms:,.0f}",
        "scale-forward": str(one.nfe_forward),
        "scale-one": str(one.nfe_backward),
        "scale-one-error": f"{one.theta_error:.1%}",
        "scale-direct-error": f"{scale.direct_theta_error:.1%}",
        "scale-images": str(scale.images),
    }
    top = {}
    for gradient in ("adjoint", "seminorm"):
        rows = [row for row in scale.rows if row.gradient == gradient]
        top[gradient] = rows[-1]
        found[f"scale-top-{gradient}"] = str(rows[-1].nfe_backward)
        found[f"scale-top-error-{gradient}"] = f"{rows[-1].theta_error:.1%}"
        found[f"scale-equal-{gradient}"] = str(min(row.nfe_backward for row in rows if row.theta_error <= 0.02))
    return {**found, "scale-saving": f"{1 - top['seminorm'].nfe_backward / top['adjoint'].nfe_backward:.0%}"}


def _of_errors(errors: GradientError) -> dict[str, str]:
    row = {row.case: row for row in errors.rows}
    return {
        "wrong-euler": f"{row['adjoint-euler'].theta_gap:.0%}",
        "wrong-euler-4": f"{row['adjoint-euler-4'].theta_gap:.0%}",
        "wrong-rk4-4": f"{row['adjoint-rk4-4'].theta_gap:.0%}",
        "cosine-euler": f"{row['adjoint-euler'].theta_cosine:.2f}",
        "cosine-direct-euler": f"{row['direct-euler'].theta_cosine:.2f}",
        "reference-error": f"{errors.reference_error:.1%}",
    }


def _of_cross_solver(cross: CrossSolver) -> dict[str, str]:
    accuracies = crossed(cross)
    own, tight = "euler, 1 step", "dopri5, 1e-5"
    asked = {
        "dopri5-euler": ("adjoint-dopri5", own),
        "dopri5-tight": ("adjoint-dopri5", tight),
        "rk4-tight": ("adjoint-rk4", tight),
        "direct-euler-own": ("direct-euler", own),
        "direct-euler-tight": ("direct-euler", tight),
        "adjoint-euler-own": ("adjoint-euler", own),
        "adjoint-euler-tight": ("adjoint-euler", tight),
    }
    return {
        **{f"cross-{key}": f"{accuracies[case][solver]:.1f} %" for key, (case, solver) in asked.items()},
        "cross-environment": str(cross.environment),
    }


def faq_numbers(runs: Runs, timing: Timing, memory: Memory) -> dict[str, str]:
    """What the answers of the page faq say in numbers, by the names under which they ask for them."""
    ratios = [m.nfe_backward / m.nfe_forward for run in runs["adjoint-dopri5"] for m in run.metrics]
    seconds = {case: quartiles[1] for case, quartiles in seconds_per_epoch(timing).items()}
    kept = {
        gradient: only(memory.rows, method="dopri5", gradient=gradient, rtol=1e-3) for gradient in ("direct", "adjoint")
    }
    cases = ("none", "resnet-1", "direct-dopri5", "adjoint-euler", "direct-euler")
    return {
        **{f"accuracy-{case}": f"{accuracy(runs[case])} %" for case in cases},
        **{f"kept-{gradient}": f"{row.bytes / 1e6:.1f} MB" for gradient, row in kept.items()},
        "ratio": f"{min(ratios):.2f} to {max(ratios):.2f}",
        "slower": f"{seconds['adjoint-dopri5'] / seconds['direct-dopri5']:.2f}",
    }
