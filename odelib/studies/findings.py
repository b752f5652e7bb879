"""What the book found, in numbers, each with how often it was seen: the summary on the first page."""

from odelib.measurements.backward_tolerance import BackwardTolerance
from odelib.measurements.benchmark import SCRIPT, Benchmark
from odelib.measurements.gradient_error import GradientError
from odelib.measurements.memory import Memory
from odelib.measurements.timing import Timing
from odelib.studies.mnist import adjoint_minus_direct, as_close_as_direct, cost, median_seconds, paired_accuracies
from odelib.studies.savings import FAST, times_faster
from odelib.studies.summary import Runs, accuracy, all_runs, at_the_end, final, mean_and_range, only


def of_digits(runs: Runs, timing: Timing, memory: Memory, errors: GradientError) -> dict[str, str]:
    """Of the study of direct and adjoint gradients on MNIST."""
    blocks = {case: at_the_end(found) for case, found in runs.items() if case not in ("none", "adjoint-euler")}
    seconds = median_seconds(timing)
    kept = {way: only(memory.rows, method="dopri5", gradient=way, rtol=1e-3).kept for way in ("direct", "adjoint")}
    gap = {row.case: row.theta_gap for row in errors.rows}
    return {
        "blocks-low": f"{100 * min(blocks.values()):.2f}",
        "blocks-high": f"{100 * max(blocks.values()):.2f}",
        "blocks": str(len(blocks)),
        "blocks-runs": str(sum(len(runs[case]) for case in blocks)),
        "blocks-single": str(sum(len(runs[case]) == 1 for case in blocks)),
        "none": accuracy(runs["none"]),
        "none-runs": str(len(runs["none"])),
        "largest": f"{runs['resnet-6'][0].parameters:,}",
        "slower": f"{seconds['adjoint-dopri5'] / seconds['direct-dopri5']:.2f}",
        "rounds": str(len(timing.rows[0].seconds)),
        "kept-direct": f"{kept['direct'] / 1e6:.0f}",
        "kept-adjoint": f"{kept['adjoint'] / 1e6:.1f}",
        "harmless": f"{gap['adjoint-euler-4']:.0%}",
        "harmless-points": adjoint_minus_direct(runs, "euler-4"),
        "harmless-training": adjoint_minus_direct(runs, "euler-4", "train_accuracy"),
        "harmless-rk4": adjoint_minus_direct(runs, "rk4", "train_accuracy"),
        "harmless-runs": str(len(paired_accuracies(runs)["euler-4"][0])),
        "harmful": f"{gap['adjoint-euler']:.0%}",
        "lost": f"{100 * (at_the_end(runs['direct-euler']) - at_the_end(runs['adjoint-euler'])):.1f}",
        "lost-runs": f"{len(runs['direct-euler'])} and {len(runs['adjoint-euler'])}",
        "gpu": str(sum("NVIDIA" in run.environment.hardware for run in all_runs(runs))),
        "digits": str(len(list(all_runs(runs)))),
    }


def of_tolerances(backward: BackwardTolerance) -> dict[str, str]:
    """Of the adjoint whose gradient is as close as the direct one, for the state and for the parameters."""
    close = as_close_as_direct(backward, "theta_error", "state_error")
    return {"equal-cost": f"{cost(close):.1f}", "equal-batches": str(len(close))}


def of_photographs(runs: Runs, tuning: Runs) -> dict[str, str]:
    """Of the 24 epochs on CIFAR-10, and of the baselines of the short study.

    Raises ValueError where the worst ODE-Net there is not ahead of the best network with one residual block, as the
    text says, or there are not as many of both.
    """
    short = {case: final(tuning[case], "validation_accuracy") for case in ("odenet", "resnet-1")}
    if len(short["odenet"]) != len(short["resnet-1"]) or min(short["odenet"]) <= max(short["resnet-1"]):
        raise ValueError("the ODE-Net is not ahead with every seed")
    cases = ("odenet", "resnet-1", "resnet-4", "odenet-norm-batch")
    return {
        **{f"photos-{case}": accuracy(runs[case], digits=1) for case in cases},
        "photos-runs": str(min(len(runs[case]) for case in cases)),
        **{f"short-{case}": mean_and_range([100 * share for share in found], 1) for case, found in short.items()},
        "short-runs": str(len(short["odenet"])),
    }


def of_recipes(modern: Runs, five_epochs: Runs) -> dict[str, str]:
    """Of the modern recipe on MNIST, beside that of task 6, with one step of an RK4 too: test errors in percent."""
    cases = {"odenet": "direct-rk4", "resnet-1": "resnet-1"}  # with today's recipe and with that of task 6
    before = {case: five_epochs[short] for case, short in cases.items()}
    return {
        **{f"modern-{case}": f"{100 * (1 - at_the_end(modern[case])):.2f}" for case in cases},
        "modern-runs": " and ".join(str(len(modern[case])) for case in cases),
        **{f"modern-before-{case}": f"{100 * (1 - at_the_end(found)):.2f}" for case, found in before.items()},
        "modern-before-runs": " and ".join(str(len(found)) for found in before.values()),
    }


def of_larger_maps(runs: Runs) -> dict[str, str]:
    """Of the modern recipe on CIFAR-10: ODE blocks on larger maps, and residual blocks in their places."""
    cases = ("small", "tied-2")
    return {
        **{f"maps-{case}": accuracy(runs[case], digits=1) for case in cases},
        "maps-runs": str(min(len(runs[case]) for case in cases)),
    }


def of_speed(record: Benchmark) -> dict[str, str]:
    """Of the training step, on one thread."""
    return {
        "faster": f"{times_faster(record, SCRIPT, FAST):.1f}",
        "faster-rounds": str(len(only(record.rows, case=FAST).seconds)),
    }
