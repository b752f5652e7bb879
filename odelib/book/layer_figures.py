"""Figures of what the layers do: the flow of the classes, and what a network without them reaches."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from odelib.book.pages import sprite
from odelib.book.plots import COLORS, class_plane, panels
from odelib.data import Images
from odelib.shapes import Float, Int64
from odelib.studies.summary import mean, standard_error

COLUMNS = 20  # of the sheet with the images


def flow_data(states: Float[Tensor, "t n c h w"], readings: Int64[Tensor, "t n"], digits: Images) -> dict:
    """What `figures/flow.js` draws: n digits at t times as points of `class_plane`, and what the head reads there.

    The figure begins with the digit that the head is least sure about: the one whose reading changes most often.
    """
    labels = digits.labels
    changes = (readings[1:] != readings[:-1]).sum(dim=0)
    return {
        "labels": "".join(map(str, labels.tolist())),
        "points": [[round(x, 2) for x in at.flatten().tolist()] for at in class_plane(states, labels)],
        "readings": ["".join(map(str, row)) for row in readings.tolist()],
        "follow": changes.argmax().item(),
        "sprite": sprite(digits.images, COLUMNS),
        "columns": COLUMNS,
    }


def error_bars(accuracies: dict[str, Sequence[float]]) -> Figure:
    """Test error in percent of each network: a dot at the mean, small dots at the runs.

    `accuracies` are shares of 10,000 images, one a run. The bar is two binomial standard errors of a single run.
    """
    figure, (ax,) = panels(1, width=5.5, height=2.6)
    for row, values in enumerate(accuracies.values()):
        bar = 200 * standard_error(mean(values))
        error = 100 * (1 - mean(values))
        ax.errorbar(error, row, xerr=bar, color=COLORS[0], marker="o", markersize=7, capsize=3)
        errors = [100 * (1 - accuracy) for accuracy in values]
        ax.plot(errors, [row] * len(errors), linestyle="none", marker=".", color=COLORS[1])
    ax.set_yticks(range(len(accuracies)), list(accuracies))
    ax.invert_yaxis()
    ax.set(xlabel="test error (%)", xlim=(0, None))
    return figure
