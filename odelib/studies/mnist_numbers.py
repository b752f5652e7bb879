"""What the pages say in numbers of the study of `odelib.studies.mnist`."""

from odelib.measurements.backward_tolerance import BackwardTolerance
from odelib.measurements.cross_solver import CrossSolver
from odelib.measurements.gradient_error import GradientError
from odelib.measurements.loss_scale import LossScale
from odelib.measurements.memory import Memory
from odelib.measurements.timing import Timing
from odelib.measurements.work_precision import WorkPrecision
from odelib.studies.epochs import ratios
from odelib.studies.mnist import (
    GRADIENT,
    SOLVERS,
    adjoint_minus_direct,
    as_close_as_direct,
    by_setting,
    closest,
    cost,
    crossed,
    difference,
    median_seconds,
    paired_accuracies,
)
from odelib.studies.statistics import by_image, share_interval
from odelib.studies.summary import (
    Runs,
    accuracies,
    accuracy,
    all_runs,
    at_the_end,
    mean,
    mean_and_range,
    only,
    with_interval,
)

_TEST_IMAGES = 10_000


def numbers(
    runs: Runs,
    timing: Timing,
    memory: Memory,
    scale: LossScale,
    errors: GradientError,
    backward: BackwardTolerance,
    work: WorkPrecision,
    cross: CrossSolver,
) -> dict[str, str]:
    """What the prose of adjoint-vs-direct says in numbers, by the names under which it asks for them."""
    return {
        **_of_runs(runs),
        **_of_timing(timing),
        **_of_memory(memory),
        **_of_loss_scale(scale),
        **_of_errors(errors),
        **_of_tolerances(backward, work),
        **_of_cross_solver(cross),
    }


def _of_runs(runs: Runs) -> dict[str, str]:
    pairs = paired_accuracies(runs)
    means = {solver: mean(adjoint) - mean(direct) for solver, (direct, adjoint) in pairs.items()}
    low, high = share_interval(at_the_end(runs["direct-dopri5"]), _TEST_IMAGES)
    six, flow = "resnet-6", "direct-dopri5"
    made = (run.environment for run in all_runs(runs))
    environments = {f"{e.hardware} (threads: {e.threads}, torch {e.torch})" for e in made}
    return {
        **{f"acc-{case}": accuracy(found) for case, found in runs.items()},
        **{f"train-{case}": accuracy(found, "train_accuracy") for case, found in runs.items()},
        **{f"seeds-{case}": str(len(found)) for case, found in runs.items()},
        **{f"gap-{solver}": adjoint_minus_direct(runs, solver) for solver in pairs},
        "by-image-euler": "; ".join(map(with_interval, by_image(runs["adjoint-euler"], runs["direct-euler"]))),
        "six-blocks": _minus(runs, six, flow),
        "euler-over-rk4": _minus(runs, "direct-euler", "direct-rk4"),
        "euler-over-block": _minus(runs, "direct-euler", "resnet-1"),
        "six-parameters": f"{runs[six][0].parameters / runs[flow][0].parameters:.1f}",
        **{f"training-gap-{s}": adjoint_minus_direct(runs, s, "train_accuracy") for s in ("euler-4", "rk4")},
        "largest-gap": f"{max(abs(gap) for solver, gap in means.items() if solver != 'euler'):.2f}",
        "interval": f"{100 * low:.2f} to {100 * high:.2f}",
        "environments": "; ".join(sorted(environments)),
    }


def _minus(runs: Runs, case: str, other: str) -> str:
    """Test accuracy of a case minus that of another one, in points, by `difference`."""
    return difference(*(accuracies(runs[name]) for name in (case, other)))


def _of_timing(timing: Timing) -> dict[str, str]:
    median = median_seconds(timing)
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
    per_evaluation = (most.kept - least.kept) / (most.nfe_forward - least.nfe_forward)
    imagenet = 55**2 / 6**2  # pixels of the state behind the same stem, against ours
    one_step = {
        f"{gradient}-{method}": only(memory.rows, method=method, gradient=gradient, step_size=1.0)
        for gradient in GRADIENT
        for method in ("rk4", "euler")
    }
    return {
        "kept-direct-dopri5": f"{direct.kept / 1e6:.0f}",
        "kept-adjoint-dopri5": f"{adjoint.kept / 1e6:.1f}",
        **{f"kept-{way}": f"{row.kept / 1e6:.1f}" for way, row in one_step.items()},
        **{f"peak-{way}": f"{one_step[way].peak / 1e6:.1f}" for way in ("direct-euler", "adjoint-euler")},
        "peak-direct": f"{direct.peak / 1e6:.0f}",
        "peak-adjoint": f"{adjoint.peak / 1e6:.1f}",
        "mb-state": f"{memory.state_bytes / 1e6:.2f}",
        "mb-evaluation": f"{memory.evaluation_bytes / 1e6:.1f}",
        "states-evaluation": f"{memory.evaluation_bytes / memory.state_bytes:.1f}",
        "mb-slope": f"{per_evaluation / 1e6:.1f}",
        "mb-besides": f"{(direct.kept - direct.nfe_forward * per_evaluation) / 1e6:.0f}",
        "memory-nfe": str(direct.nfe_forward),
        "gigabytes-imagenet": f"{direct.kept * imagenet / 1e9:.0f}",
    }


def _of_loss_scale(scale: LossScale) -> dict[str, str]:
    one = only(scale.rows, gradient="adjoint", scale=1)
    found = {
        "scale-rms": f"{one.adjoint_rms:.1e}",
        "scale-below": f"{scale.tolerance / one.adjoint_rms:,.0f}",
        "scale-forward": str(one.nfe_forward),
        "scale-one": str(one.nfe_backward),
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
        **{f"wrong-{solver}": f"{row[f'adjoint-{solver}'].theta_gap:.0%}" for solver in (*SOLVERS, "rk4-4")},
        "cosine-euler": f"{row['adjoint-euler'].theta_cosine:.2f}",
        "cosine-direct-euler": f"{row['direct-euler'].theta_cosine:.2f}",
        "cosine-own-euler": f"{row['adjoint-euler'].theta_gap_cosine:.2f}",
        "error-images": str(errors.images),
        "reference-error": f"{errors.reference_error:.1%}",
    }


def _of_tolerances(backward: BackwardTolerance, work: WorkPrecision) -> dict[str, str]:
    settings = by_setting(backward)
    of_theta, good = (
        as_close_as_direct(backward, *errors) for errors in (("theta_error",), ("theta_error", "state_error"))
    )
    plain = {name: settings[rtol, None] for name, rtol in (("direct", None), ("loose", 1e-3))}
    share = settings[1e-3, 1e-3]
    of_interest = {**plain, "good": good}
    errors = {name: mean(row.theta_error for row in rows) for name, rows in of_interest.items()}
    state_errors = {name: mean(row.state_error for row in of_interest[name]) for name in ("direct", "good")}
    (adaptive, _, adaptive_error), (fixed, _, fixed_error) = (closest(work, 16, a) for a in (True, False))
    return {
        **{f"backward-{name}-error": f"{error:.1%}" for name, error in errors.items()},
        **{f"backward-{name}-state-error": f"{error:.1%}" for name, error in state_errors.items()},
        "backward-batches": str(len(plain["direct"])),
        "backward-loose-cost": f"{cost(plain['loose']):.2f}",
        **{f"backward-{name}-cost": f"{cost(rows):.2f}" for name, rows in (("theta", of_theta), ("good", good))},
        "backward-theta-nfe": f"{mean(row.nfe_backward for row in of_theta):.0f}",
        "backward-good-nfe": f"{mean(row.nfe_backward for row in good):.0f}",
        "backward-share-nfe": f"{mean(row.nfe_backward for row in share):.0f}",
        "work-adaptive": adaptive,
        "work-adaptive-error": f"{adaptive_error:.1%}",
        "work-fixed": fixed,
        "work-fixed-error": f"{fixed_error:.1%}",
        "work-methods": str(len({(row.library, row.method) for row in work.rows})),
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
        **{f"cross-{key}": mean_and_range(accuracies[case][solver], 1) for key, (case, solver) in asked.items()},
        "cross-environment": str(cross.environment),
    }


def faq_numbers(runs: Runs, timing: Timing, memory: Memory) -> dict[str, str]:
    """What the answers of the page faq say in numbers, by the names under which they ask for them."""
    seconds = median_seconds(timing)
    kept = {
        gradient: only(memory.rows, method="dopri5", gradient=gradient, rtol=1e-3) for gradient in ("direct", "adjoint")
    }
    cases = ("none", "resnet-1", "direct-dopri5", "adjoint-euler", "direct-euler")
    return {
        **{f"accuracy-{case}": f"{accuracy(runs[case])} %" for case in cases},
        **{f"kept-{gradient}": f"{row.kept / 1e6:.1f} MB" for gradient, row in kept.items()},
        "peak-adjoint": f"{kept['adjoint'].peak / 1e6:.1f} MB",
        "ratio": f"{min(ratios(runs)):.2f} to {max(ratios(runs)):.2f}",
        "slower": f"{seconds['adjoint-dopri5'] / seconds['direct-dopri5']:.2f}",
    }
