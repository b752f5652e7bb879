"""Figures of layers that become a flow: leaps over a field, states along the depth, rings that are carried."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from odelib.book.plots import COLORS, panels
from odelib.shapes import Float

Curve = tuple[int, Float[Tensor, "m d"]]  # the class of its points, and the points in the plane or in space


def leaps_over_a_field(
    velocity: Callable[[Float[Tensor, "m 2"]], Float[Tensor, "m 2"]],
    paths: Mapping[str, Float[Tensor, "_ n 2"]],
    reach: tuple[float, float],
) -> Figure:
    """A panel for each title: arrows along the velocity, all of one length, and the paths of n points with their stops.

    The panels show the points of the plane whose coordinates are at most `reach` from 0. A ring marks where a path
    begins.
    """
    across, up = reach
    grid = torch.cartesian_prod(torch.linspace(-across, across, 15), torch.linspace(-up, up, 11))
    arrows = torch.nn.functional.normalize(velocity(grid), dim=1)
    figure, axes = panels(len(paths), height=3.1)
    for ax, (title, states) in zip(axes, paths.items()):
        ax.quiver(*grid.T.numpy(), *arrows.T.numpy(), color="gray", alpha=0.6, scale=26, width=0.004)
        for color, path in zip(COLORS, states.unbind(dim=1)):
            ax.plot(*path.T.numpy(), color=color, linewidth=1.3, marker=".", markersize=3 if len(path) > 16 else 7)
            ax.plot(*path[0].tolist(), "o", color=color, markersize=8, markerfacecolor="white")
        ax.set(title=title, xlabel="$z_1$", xlim=(-across, across), ylim=(-up, up))
        ax.grid(visible=False)
    axes[0].set_ylabel("$z_2$")
    return figure


def along_the_depth(stacks: Mapping[str, Sequence[Float[Tensor, "_"]]]) -> Figure:
    """A panel for each title: one number of the state after every layer, against the share of the layers passed."""
    figure, axes = panels(len(stacks), height=2.7)
    for ax, (title, draws) in zip(axes, stacks.items()):
        for color, values in zip(COLORS, draws):
            ax.plot(torch.linspace(0, 1, len(values)).numpy(), values.numpy(), color=color, linewidth=1.3, marker="")
        ax.set_title(title, fontsize=9)
        ax.set(xlabel="layers passed (share)")
        ax.sharey(axes[0])
    axes[0].set_ylabel("one number of the state")
    return figure


def seen_from_the_side(points: Float[Tensor, "m d"]) -> Float[Tensor, "m 2"]:
    """Points of the plane as they are; points of space by a parallel projection, with the third axis upwards."""
    if points.shape[1] == 2:
        return points
    x, y, up = points.T
    return torch.stack([x + 0.3 * y, 0.4 * y + 0.8 * up], dim=1)


def network_as_data(net: nn.Sequential, head: nn.Linear) -> dict[str, list]:
    """The layers Linear, Tanh, Linear of `net` and the classifier `head`, as the figure `depth` takes them."""

    def numbers(layer: nn.Module) -> list:  # weight and bias
        return [np.round(tensor.detach().numpy().astype(float), 5).tolist() for tensor in layer.parameters()]

    inner, _, outer = net
    return {"net": [numbers(inner), numbers(outer)], "head": numbers(head)}


def rings_carried(views: Mapping[str, Sequence[Curve]]) -> Figure:
    """A panel for each title: closed curves in the colours of their classes, those in space seen from the side."""
    figure, axes = panels(len(views), height=3.0)
    for ax, (title, drawn) in zip(axes, views.items()):
        for label, points in drawn:
            ax.plot(*seen_from_the_side(points).T.numpy(), color=COLORS[label], linewidth=1.5, marker="")
        ax.set_title(title, fontsize=10)
        ax.set(aspect="equal", xticks=[], yticks=[])
    return figure
