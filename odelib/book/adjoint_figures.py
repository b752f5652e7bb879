"""Figures of the adjoint: its path with jumps, and how wrong a gradient is."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from odelib.book.plots import COLORS, panels
from odelib.shapes import Float


def adjoint_with_jumps(
    segments: Sequence[tuple[Float[Tensor, "_"], Float[Tensor, "_ d"]]], observations: Sequence[float]
) -> Figure:
    """The d components of the adjoint over time, piece by piece, with a dashed line at each of the `observations`.

    A piece is the times of an interval between two observations, and the adjoint there.
    """
    figure, (ax,) = panels(1, width=5.5, height=3.0)
    for number, (times, values) in enumerate(segments):
        for k, component in enumerate(values.T.numpy()):
            label = f"$a_{k + 1}$" if number == 0 else None
            ax.plot(times.numpy(), component, color=COLORS[k], marker="", label=label)
    for time in observations:
        ax.axvline(time, color="gray", linestyle="--", linewidth=1, marker="")
    ax.set(xlabel="t", ylabel="adjoint")
    ax.legend()
    return figure


def gradient_error_by_tolerance(tolerances: Sequence[float], problems: dict[str, dict[str, Sequence[float]]]) -> Figure:
    """Relative error of a gradient against the tolerance of the solver, which the dotted line repeats.

    A panel for each problem, a line for each gradient; accuracy grows to the right.
    """
    figure, axes = panels(len(problems), height=3.0)
    for ax, (title, gradients) in zip(axes, problems.items()):
        for name, errors in gradients.items():
            ax.loglog(tolerances, errors, label=name)
        ax.loglog(tolerances, tolerances, ":", color="gray", marker="")
        ax.set(title=title, xlabel="tolerance")
        ax.invert_xaxis()
    axes[0].set_ylabel("relative error of the gradient")
    axes[-1].legend(loc="lower left")  # where errors of kinked problems leave room
    return figure
