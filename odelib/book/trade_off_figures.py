"""Figures of what an ODE-Net is given for its time: test error by seconds, by epoch, and gradient error by NFE."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from odelib.book.plots import COLORS, MARKERS, by_epoch, legend_above, mean_and_band, plain_ticks, subplots
from odelib.measurements.timing import Timing
from odelib.measurements.work_precision import WorkPrecision, WorkPrecisionRow
from odelib.records import Run
from odelib.studies.mnist import SOLVERS, median_seconds
from odelib.studies.statistics import share_interval
from odelib.studies.summary import Runs, final, mean

_CONTROLS = ("none", "resnet-1", "resnet-6")
_SECONDS = (20, 30, 50, 100, 200, 400)
_ERRORS = {
    "test_accuracy": ("test error (%)", 10_000, (0.5, 0.6, 0.7, 0.8, 1.0, 1.2)),
    "train_accuracy": ("training error (%)", 60_000, (0.05, 0.1, 0.2, 0.4, 0.8)),
}


def error_against_time(runs: Runs, timing: Timing) -> Figure:
    """Error in percent after the last epoch against seconds per epoch, both as logarithms; a mark for each seed.

    Test images above, training images below. A shape and a colour for the solver, hollow where the gradient is direct,
    filled where it is the adjoint's; a bar is the 95 % interval of the mean error over images, an arrow leads from each
    direct gradient to its adjoint. Grey crosses are networks without an ODE.
    """
    seconds = median_seconds(timing)
    figure, axes = subplots(2, 1, figsize=(7.2, 7.0), sharex=True)
    for ax, (name, (label, images, ticks)) in zip(axes[:, 0], _ERRORS.items()):
        for solver, color, marker in zip(SOLVERS, COLORS, MARKERS):
            ends = [
                _marks(ax, seconds[case], runs[case], name, images, color, marker, inside)
                for case, inside in ((f"direct-{solver}", "none"), (f"adjoint-{solver}", color))
            ]
            ax.annotate("", xy=ends[1], xytext=ends[0], arrowprops={"arrowstyle": "->", "color": color, "lw": 1.2})
            ax.plot([], [], marker, color=color, label=SOLVERS[solver])
        for case in _CONTROLS:
            at = _marks(ax, seconds[case], runs[case], name, images, "gray", "x", "gray")
            ax.annotate(case, at, (6, 6), textcoords="offset points", size=8)
        ax.set(xscale="log", yscale="log", ylabel=label)
        plain_ticks(ax, ticks, _SECONDS)
    axes[1, 0].set(xlabel="seconds per epoch")
    for gradient, inside in (("direct", "none"), ("adjoint", "black")):
        axes[0, 0].plot([], [], "o", color="black", mfc=inside, label=gradient)
    legend_above(figure, 4)
    return figure


def _error(accuracy: float) -> float:
    return 100 * (1 - accuracy)


def _marks(
    ax: Axes, x: float, runs: Sequence[Run], name: str, images: int, color: str, marker: str, inside: str
) -> tuple[float, float]:
    """Draw the errors of some runs and the interval of their mean; where that is."""
    accuracies = final(runs, name)
    middle = mean(accuracies)
    low, high = share_interval(middle, images)
    bar = [[_error(middle) - _error(high)], [_error(low) - _error(middle)]]
    ax.errorbar(x, _error(middle), yerr=bar, color=color, linewidth=1, marker="", alpha=0.6)
    ax.plot([x] * len(accuracies), [_error(a) for a in accuracies], marker, color=color, mfc=inside, markersize=5)
    return x, _error(middle)


def error_by_epoch(groups: Mapping[str, Mapping[str, Sequence[Run]]]) -> Figure:
    """Training error above, test error below, in percent by epoch, a column for each group; the axis is a logarithm.

    A line is the mean over the seeds of a case, a band reaches from the worst to the best.
    """
    figure, axes = subplots(2, len(groups), figsize=(7.2, 4.8), sharex=True, sharey="row")
    for column, (group, runs) in zip(axes.T, groups.items()):
        for ax, name in zip(column, ("train_accuracy", "test_accuracy")):
            for case, repeats in runs.items():
                mean_and_band(ax, 100 * (1 - by_epoch(repeats, name)), case)
            ax.set_yscale("log")
        column[0].set_title(group, fontsize=10)
        if runs:
            column[0].legend(fontsize=7, loc="lower left")
        column[1].set_xlabel("epoch")
    axes[0, 0].set(ylabel="training error (%)")
    axes[1, 0].set(ylabel="test error (%)")
    beyond_digits: list[float] = [5, 10, 15, 20, 30, 50, 80]
    for row, ticks in zip(axes, ([0.1, 0.2, 0.5, 1, 2, 3], [0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 3])):
        plain_ticks(row[0], ticks + beyond_digits)
    return figure


def work_and_precision(record: WorkPrecision) -> Figure:
    """Error of dL/dtheta in percent against NFE for every method, torchdiffeq's on the left, odelib's on the right.

    Means over the batches; a line for each method, with dashes for fixed grids.
    """
    figure, axes = subplots(1, 2, figsize=(7.2, 4.0), sharex=True, sharey=True)
    for ax, library in zip(axes[0], ("torchdiffeq", "odelib")):
        for number, (method, points) in enumerate(_by_method(record.rows, library).items()):
            adaptive, pairs = points
            style = {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)]}
            ax.loglog(*zip(*pairs), "-" if adaptive else "--", label=method, **style)
        ax.set(title=library, xlabel="NFE")
        ax.legend(fontsize=7, loc="lower left")
    axes[0, 0].set(ylabel="error of dL/dθ (%)")
    plain_ticks(axes[0, 0], [0.1, 0.3, 1, 3, 10, 30, 100], [1, 4, 16, 64, 256])
    return figure


def _by_method(rows: Sequence[WorkPrecisionRow], library: str) -> dict[str, tuple[bool, list[tuple[float, float]]]]:
    """Of each method whether it is adaptive, and the means (NFE, error in percent) at each tolerance or step number."""
    found: dict[str, tuple[bool, list[tuple[float, float]]]] = {}
    mine = [row for row in rows if row.library == library]
    for method, rtol, steps in dict.fromkeys((row.method, row.rtol, row.steps) for row in mine):
        same = [row for row in mine if (row.method, row.rtol, row.steps) == (method, rtol, steps)]
        point = mean(row.nfe for row in same), 100 * mean(row.theta_error for row in same)
        found.setdefault(method, (rtol is not None, []))[1].append(point)
    return found
