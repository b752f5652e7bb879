"""Figures of the page on other data: images and what a network makes of them, points that change places, changes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from odelib.book.plots import COLORS, MARKERS, image_grid, panels, subplots
from odelib.data import Dataset, Images
from odelib.measurements.norm_statistics import NormStatistics
from odelib.shapes import Float
from odelib.studies.summary import mean
from odelib.studies.tuning import Change


def one_of_each(datasets: Sequence[Dataset]) -> Figure:
    """The first training image of each class under the name of the class, a row for each of the data sets."""
    images, titles = [], []
    for data in datasets:
        for k, name in enumerate(data.classes):
            images.append(data.train.images[_first(data.train.labels == k)])
            titles.append(name)
    return image_grid(images, titles, columns=len(datasets[0].classes))


def answers(data: Images, chances: Float[Tensor, "n k"], classes: Sequence[str]) -> Figure:
    """The first image of each class, and below it the first of each that a network gets wrong.

    Under the true class stands what the network takes the image for, and the chance that it gives to that.
    """
    guesses = chances.argmax(dim=1)
    ours = [data.labels == k for k in range(len(classes))]
    shown = [_first(mine) for mine in ours] + [_first(mine & (guesses != data.labels)) for mine in ours]
    titles = []
    for i in shown:
        true, guess = int(data.labels[i]), int(guesses[i])
        titles.append(f"{classes[true]}\n{classes[guess]}\n{chances[i, guess]:.0%}")
    figure = image_grid([data.images[i] for i in shown], titles, columns=len(classes))
    figure.set_figheight(2.8)
    return figure


def _first(found: Tensor) -> int:
    return int(found.nonzero()[0])


def crossing(paths: dict[str, tuple[float, Float[Tensor, "t n"]]]) -> Figure:
    """The paths of n points over time, from 0 to 1: a panel for each title, which ends with the loss."""
    figure, axes = panels(len(paths), height=2.6)
    for ax, (title, (loss, path)) in zip(axes, paths.items()):
        ax.plot(torch.linspace(0, 1, len(path)), path, marker="")
        ax.set(xlabel="time $t$", ylim=(-1.2, 1.2), title=f"{title}: loss {loss:.2f}")
    axes[0].set(ylabel="first coordinate")
    return figure


def changes(
    groups: Mapping[str, Mapping[str, Mapping[str, Change]]], label: str, limits: tuple[float, float]
) -> Figure:
    """What each change does to each network: a dot at the mean over its seeds, a bar for the interval of that.

    A change that was tried with one seed has a hollow dot. One panel for each group, one row for each change, the
    largest effect on the first network on top. `label` says of what the differences are, and their unit. `limits` cut
    the axis; what lies below is written at the edge in numbers.
    """
    rows = {group: sum(len(found) for found in changes.values()) for group, changes in groups.items()}
    size = (6.0, 0.9 + 0.5 * len(groups) + 0.19 * sum(rows.values()))
    figure, axes = subplots(len(groups), 1, sharex=True, height_ratios=[2 + n for n in rows.values()], figsize=size)
    networks = list(dict.fromkeys(name for changes in groups.values() for found in changes.values() for name in found))
    looks: dict[str, dict[str, Any]] = {
        name: dict(color=COLORS[k], marker=MARKERS[k]) for k, name in enumerate(networks)
    }
    for ax, (group, changes) in zip(axes[:, 0], groups.items()):
        ax.axvline(0, color="black", linewidth=1)
        ticks, height = {}, 0.0
        for factor, found in sorted(changes.items(), key=lambda item: next(iter(item[1].values())).mean):
            ticks[factor] = height + (len(found) - 1) / 2
            for name, change in reversed(list(found.items())):
                _dot(ax, change, height, looks[name], limits[0])
                height += 1
            height += 0.6 if len(found) > 1 else 0.2
        ax.set(
            yticks=list(ticks.values()), yticklabels=list(ticks), ylim=(-0.8, height - 0.2), title=group, xlim=limits
        )
    names = [Line2D([], [], linestyle="", label=name, **looks[name]) for name in networks]
    hollow = Line2D([], [], linestyle="", marker="o", color="gray", markerfacecolor="white", label="one seed")
    figure.legend(handles=[*names, hollow], loc="outside upper center", ncols=2, frameon=False)
    axes[-1, 0].set(xlabel=label)
    return figure


def along_a_solve(record: NormStatistics) -> Figure:
    """How the input of each norm of f moves along a solve: its mean (left) and its standard deviation (right) by t.

    A line for each norm, the mean over the networks. The mean is a distance from that of all evaluations together.
    """
    figure, axes = subplots(1, 2, figsize=(7.2, 3.4))
    for ax, name in zip(axes[0], ("shift", "scale")):
        for norm, color, marker in zip(sorted({row.norm for row in record.stages}), COLORS, MARKERS):
            values: dict[float, list[float]] = {}
            for row in record.stages:
                if row.norm == norm:
                    values.setdefault(row.t, []).append(getattr(row, name))
            ax.plot(list(values), [mean(found) for found in values.values()], color=color, marker=marker,
                    label=f"norm {norm}")  # fmt: skip
        ax.set_xlabel("t of the evaluation")
    axes[0, 0].set(ylabel="shift of the mean", ylim=(0, None))
    axes[0, 1].axhline(1, color="gray", linestyle=":", marker="")
    axes[0, 1].set(ylabel="standard deviation, over that of all")
    axes[0, 0].legend(fontsize=8)
    return figure


def _dot(ax: Axes, change: Change, height: float, look: dict[str, Any], least: float) -> None:
    if change.mean < least:
        ax.text(least + 0.3, height, f"← {change.seed_by_seed}", va="center", fontsize=9)
        return
    ax.plot([change.low, change.high], [height, height], color=look["color"], marker="", linewidth=1.2)
    fill = "white" if len(change.differences) == 1 else look["color"]
    ax.plot([change.mean], [height], linestyle="", markerfacecolor=fill, **look)
