"""Figures of what a convolution by products does."""

import torch
from matplotlib.figure import Figure

from odelib.book.plots import COLORS, panels
from odelib.products import Axis


def tiles(size: int) -> Figure:
    """From the pixels of a map of this height and width to points, and from there to the pixels of the result.

    On the left the map in its frame of zeros, with the input of its first tile; in the middle the points of all tiles;
    on the right the outputs of that tile.
    """
    axis = Axis(size)
    points = axis.there.shape[0] // axis.tiles
    inside = torch.zeros(size + 2, size + 2)
    inside[1:-1, 1:-1] = 1
    figure, (left, middle, right) = panels(3, width=7.6, height=2.9)
    panes = (
        (left, inside, points, f"{size} × {size} pixels in a frame of zeros"),
        (middle, torch.ones(axis.tiles * points, axis.tiles * points), points, f"{(axis.tiles * points) ** 2} points"),
        (right, torch.ones(size, size), min(size, points - 2), f"{size} × {size} outputs"),
    )
    for ax, cells, tile, title in panes:
        n = len(cells)
        ax.pcolormesh(cells.numpy(), cmap="Blues", vmin=0, vmax=3, edgecolors="gray", linewidth=0.4)
        square = [0, 0, tile, tile, 0], [0, tile, tile, 0, 0]
        ax.plot(*square, color=COLORS[1], linewidth=2, marker="")
        ax.set(title=title, aspect="equal", xlim=(-0.1, n + 0.1), ylim=(n + 0.1, -0.1), xticks=[], yticks=[])
        ax.title.set_fontsize(9)
        ax.grid(False)
        ax.spines[:].set_visible(False)
    return figure
