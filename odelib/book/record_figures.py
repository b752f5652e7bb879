"""Figures of the page on records."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from odelib.book.plots import COLORS, panels
from odelib.measurements.figure_3 import SOLVES, Figure3, Figure3Row
from odelib.records import Run
from odelib.studies.summary import mean

_NAMES = {"adams": "implicit Adams (VODE)", "dopri5": "dopri5"}


def figure_3(record: Figure3, runs: Sequence[Run]) -> Figure:
    """As Figure 3 of Chen et al. (2018): error by NFE; NFE backward by NFE forward; NFE by epoch, a line for each run.

    The first two are means over the batches, a mark for each tolerance.
    """
    figure, (error, backward, epochs) = panels(3, width=7.2, height=2.9)
    for i, solver in enumerate(SOLVES):
        rows = _by_tolerance([row for row in record.rows if row.solver == solver])
        forward = [mean(row.nfe_forward for row in group) for group in rows]
        error.loglog(forward, [mean(row.state_error for row in group) for group in rows], label=_NAMES[solver])
        usual = [mean(row.nfe_backward for row in group) for group in rows]
        large = [mean(row.nfe_backward_large for row in group) for group in rows]
        backward.loglog(forward, usual, color=COLORS[i], label=_NAMES[solver])
        backward.loglog(forward, large, color=COLORS[i], linestyle="--", label=f"{solver}, large loss")
    ends = np.array([f(row.nfe_forward for row in record.rows) for f in (min, max)])
    for slope, text in ((1.0, "equal"), (0.5, "half")):
        backward.plot(ends, slope * ends, color="gray", linestyle=":", marker="", linewidth=1)
        backward.annotate(text, (ends[1], slope * ends[1]), fontsize=7, color="gray")
    for run in runs:
        epochs.plot(
            [m.epoch for m in run.metrics], [m.nfe_forward for m in run.metrics], label=f"seed {run.config.seed}"
        )
    backward.set_ylim(top=20 * max(row.nfe_backward_large for row in record.rows))  # room for the legend
    error.set(xlabel="NFE forward", ylabel="error of z(1)")
    backward.set(xlabel="NFE forward", ylabel="NFE backward")
    epochs.set(xlabel="epoch", ylabel="NFE forward")
    epochs.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    for ax in (error, backward, epochs):
        ax.legend(fontsize=6)
    return figure


def _by_tolerance(rows: Sequence[Figure3Row]) -> list[list[Figure3Row]]:
    """The rows of all batches, tolerance by tolerance, the loosest first."""
    return [[row for row in rows if row.tolerance == t] for t in sorted({row.tolerance for row in rows}, reverse=True)]
