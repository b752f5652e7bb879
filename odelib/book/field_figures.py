"""Figures of velocity fields: their speed, what one evaluation sees, the path of one image."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from odelib.book.plots import COLORS, panels, subplots
from odelib.shapes import Float, UInt8


def speed_and_turn(
    times: Float[Tensor, "t"], speed: Float[Tensor, "t n"], bound: float, cosine: Float[Tensor, "t n"]
) -> Figure:
    """Of n images over time: left the speed under its bound, right the cosine of the velocity with the first one."""
    figure, (left, right) = panels(2)
    left.plot(times.numpy(), speed.numpy(), color=COLORS[0], alpha=0.3, linewidth=1, marker="")
    left.axhline(bound, color=COLORS[1], linestyle="--")
    left.annotate("bound $B$", (0.03, bound), va="bottom", color=COLORS[1])
    left.set(xlabel="time $t$", ylabel="speed, RMS of $f$", ylim=(0, 1.2 * bound))
    right.plot(times.numpy(), cosine.numpy(), color=COLORS[2], alpha=0.3, linewidth=1, marker="")
    right.set(xlabel="time $t$", ylabel="cosine of $f$ with $f$ at $t = 0$", ylim=(0, 1.05))
    return figure


def influence_maps(maps: dict[str, Float[Tensor, "h w"]]) -> Figure:
    """How strongly a result depends on each pixel, over the strongest, on a logarithmic scale; zero stays white."""
    figure, axes = subplots(1, len(maps), {"axes.grid": False}, figsize=(7.2, 2.9))
    for ax, (title, influence) in zip(axes[0], maps.items()):
        shares = (influence / influence.max()).where(influence > 0, torch.nan).log10()
        image = ax.imshow(shares.numpy(), vmin=-4, vmax=0, cmap="viridis_r")
        ax.set_title(title, fontsize=9)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
    bar = figure.colorbar(image, ax=axes[0], shrink=0.7, ticks=[-4, -2, 0])
    bar.ax.set_yticklabels(["$10^{-4}$", "$10^{-2}$", "1"])
    return figure


def velocity_maps(
    image: UInt8[Tensor, "1 _ _"],
    title: str,
    states: Float[Tensor, "_ c h w"],
    velocities: dict[float, Float[Tensor, "c h w"]],
    channels: int = 4,
) -> Figure:
    """The path of one image: the first and last of its `states` in grey, between them the velocity at several times.

    A row for each of the channels whose velocity changes most from the first of these times to the last; orange is
    negative, purple positive. A row has one scale for the velocities, and one for the states.
    """
    first, *_, last = velocities.values()
    chosen = (last - first).flatten(1).norm(dim=1).topk(channels).indices.tolist()
    widths = [1.6, 0.05] + [1.0] * (len(velocities) + 2)
    figure, axes = subplots(channels, len(widths), {"axes.grid": False}, figsize=(7.2, 3.7), width_ratios=widths)
    for ax in axes[:, :2].flat:
        ax.remove()
    ax = figure.add_subplot(axes[0, 0].get_gridspec()[1 : channels - 1, 0])
    ax.imshow(image[0].numpy(), cmap="gray_r")
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()
    for row, c in zip(axes[:, 2:], chosen):
        most = max(v[c].abs().max().item() for v in velocities.values())
        for ax, state in ((row[0], states[0, c]), (row[-1], states[-1, c])):
            ax.imshow(state.numpy(), cmap="gray", vmin=states[:, c].min().item(), vmax=states[:, c].max().item())
        for ax, velocity in zip(row[1:-1], velocities.values()):
            ax.imshow(velocity[c].numpy(), cmap="PuOr", vmin=-most, vmax=most)
        for ax in row:
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"ch. {c}", fontsize=9)
    for ax, name in zip(axes[0, 2:], ("$z(0)$", *(f"$f$, {t:.1f}" for t in velocities), "$z(1)$")):
        ax.set_title(name, fontsize=10)
    return figure
