"""Task 4: is the ODE needed at all? Networks without a block, with residual blocks, and with an ODE, beside each other.

The runs are those of `mnist-gradients`: all of MNIST, five epochs, one recipe.
"""

from odelib.measurements.timing import Timing
from odelib.studies.mnist import median_seconds
from odelib.studies.summary import Runs, Table, all_runs, at_the_end, final, hardware, mean, standard_error

NAMES = {
    "none": "no block",
    "resnet-1": "1 residual block",
    "resnet-6": "6 residual blocks",
    "direct-dopri5": "ODE, direct",
    "adjoint-dopri5": "ODE, adjoint",
}
GUESSING = 0.1  # the accuracy of a guess among ten classes


def accuracies(runs: Runs) -> dict[str, list[float]]:
    """Of each network (`NAMES`) after the last epoch, one share a run."""
    return {name: final(runs[case]) for case, name in NAMES.items()}


def control_table(runs: Runs, timing: Timing) -> Table:
    """The networks, what each reaches, how sure that is, and what an epoch of it costs."""
    header = ["block", "parameters", "seeds", "test accuracy", "range", "standard error (points)", "seconds an epoch"]
    medians = median_seconds(timing)
    rows: list[list[object]] = []
    for case, name in NAMES.items():
        values = accuracies(runs)[name]
        spread = f"{min(values):.2%} to {max(values):.2%}" if len(values) > 1 else "one seed"
        error = f"{100 * standard_error(mean(values)):.2f}"
        seconds = f"{medians[case]:.0f}"
        parameters = f"{runs[case][0].parameters:,}"
        rows.append([name, parameters, len(values), f"{mean(values):.2%}", spread, error, seconds])
    return header, rows


def numbers(runs: Runs, timing: Timing) -> dict[str, str]:
    """What the text says: accuracies, and how far the networks with a block lie from the one without.

    `gain` and `spread` are in points, `errors-low` and `errors-high` how many times as many errors there are without a
    block as with the worst and with the best single one, `errors-six` as with six of them, and `runs` the numbers of
    runs of the three networks in the box.
    """
    reached = {case: at_the_end(runs[case]) for case in NAMES}
    blocks = [accuracy for case, accuracy in reached.items() if case != "none"]
    low, high = min(blocks), max(blocks)
    ode = max(reached["direct-dopri5"], reached["adjoint-dopri5"])
    times = {case: (1 - reached["none"]) / (1 - accuracy) for case, accuracy in reached.items()}  # as many errors
    single = [times[case] for case in ("resnet-1", "direct-dopri5", "adjoint-dopri5")]
    return {
        "hardware": hardware(all_runs({case: runs[case] for case in NAMES})),
        "timing-hardware": timing.environment.hardware,
        "none": f"{reached['none']:.2%}",
        "resnet-1": f"{reached['resnet-1']:.2%}",
        "odenet": f"{reached['adjoint-dopri5']:.2%}",
        "blocks-low": f"{low:.2%}",
        "blocks-high": f"{high:.2%}",
        "gain": f"{100 * (low - reached['none']):.1f}",
        "spread": f"{100 * (high - low):.2f}",
        "two-se": f"{200 * standard_error(low):.2f}",
        "none-share": f"{(reached['none'] - GUESSING) / (ode - GUESSING):.1%}",
        "errors-low": f"{min(single):.1f}",
        "errors-high": f"{max(single):.1f}",
        "errors-six": f"{times['resnet-6']:.1f}",
        "runs": "{}, {} and {}".format(*(len(runs[case]) for case in ("none", "resnet-1", "adjoint-dopri5"))),
    }
