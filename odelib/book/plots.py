"""Figures from records and images: data in, a matplotlib Figure out, nothing else touched."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from odelib.records import Run
from odelib.shapes import Float, Int64, UInt8

# Okabe and Ito's colours, which colour-blind readers tell apart; markers and dashes help where there is no colour.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
Point = tuple[int | float, int | float]  # x, y
STYLE: dict[str, Any] = {
    "axes.prop_cycle": plt.cycler(color=COLORS, marker=MARKERS),
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 120,
    "font.size": 10,
    "grid.alpha": 0.3,
    "lines.markersize": 4,
}

BESIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}  # where a long legend stands: right of axes

LABELS = {
    "train_loss": "training loss (nats)",
    "train_accuracy": "training accuracy (%)",
    "validation_accuracy": "validation accuracy (%)",
    "test_accuracy": "test accuracy (%)",
    "nfe_forward": "NFE forward, per step",
    "nfe_backward": "NFE backward, per step",
    "seconds": "seconds per epoch",
    "lr": "learning rate",
}


def subplots(rows: int, columns: int, style: dict[str, Any] | None = None, **options: Any) -> tuple[Figure, np.ndarray]:
    """An array of panels in the book's style, as plt.subplots has it; `style` changes it.

    pyplot forgets the figure at once, so that a notebook shows it only where it is asked to.
    """
    with plt.rc_context(STYLE | (style or {})):  # type: ignore[arg-type]  # its stub wants every key as a Literal
        figure, axes = plt.subplots(rows, columns, squeeze=False, **options)
    plt.close(figure)
    return figure, axes


def panels(n: int, width: float = 7.2, height: float = 2.8) -> tuple[Figure, list[Axes]]:
    """A figure of `n` panels side by side in the book's style; sizes in inches."""
    figure, axes = subplots(1, n, figsize=(width, height))
    return figure, list(axes[0])


def legend_above(figure: Figure, columns: int) -> None:
    """One legend over all panels, of what has a label in the first one."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=8)


def plain_ticks(ax: Axes, y: Sequence[int | float] = (), x: Sequence[int | float] = ()) -> None:
    """On logarithmic axes numbers in place of powers of ten, those within the limits."""
    for axis, ticks, limits in ((ax.yaxis, y, ax.get_ylim()), (ax.xaxis, x, ax.get_xlim())):
        if ticks:
            shown = [tick for tick in ticks if limits[0] <= tick <= limits[1]]
            axis.set_ticks(shown, [f"{tick:g}" for tick in shown])
            axis.set_ticks([], minor=True)


def metrics_by_epoch(runs: dict[str, Sequence[Run]], names: Sequence[str]) -> Figure:
    """One panel for each metric in `names`, one line for each case: the mean over its runs, a band from least to most.

    Names are those of EpochMetrics (`LABELS`); accuracies are drawn in percent. A case's runs are cut to the epochs
    that all of them have.
    """
    figure, axes = panels(len(names))
    for ax, name in zip(axes, names):
        for case, repeats in runs.items():
            mean_and_band(ax, (100 if name.endswith("accuracy") else 1) * by_epoch(repeats, name), case)
        ax.set_xlabel("epoch")
        ax.set_ylabel(LABELS[name])
    axes[0].legend()
    return figure


def by_epoch(runs: Sequence[Run], name: str) -> np.ndarray:
    """A metric of EpochMetrics, (runs, epochs), as far as all runs have epochs."""
    epochs = min(len(run.metrics) for run in runs)
    return np.array([[getattr(m, name) for m in run.metrics[:epochs]] for run in runs])


def mean_and_band(ax: Axes, values: np.ndarray, label: str) -> None:
    """Draw `values`, (runs, epochs): their mean by epoch, and a band from least to most."""
    x = np.arange(1, values.shape[1] + 1)
    (line,) = ax.plot(x, values.mean(axis=0), label=label)
    ax.fill_between(x, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2)
    ax.locator_params(axis="x", integer=True)


def against_steps(
    steps: Sequence[int],
    curves: dict[str, Sequence[float]],
    label: str,
    xlabel: str = "steps",
    dashed: Sequence[str] = (),
) -> Figure:
    """Values for several numbers of steps on logarithmic axes, a line for each name: its slope is an order.

    `label` says what the values are; the lines named in `dashed` are.
    """
    long = len(curves) > 6  # a legend of so many lines stands beside the axes
    figure, (ax,) = panels(1, *((6.4, 3.6) if long else (5.5, 3.2)))
    for name, values in curves.items():
        ax.loglog(steps, values, linestyle="--" if name in dashed else "-", label=name)
    ax.set_xticks(steps, [str(n) for n in steps])
    ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel=label)
    ax.legend(**(BESIDE if long else {}))
    return figure


def bars(
    parts: Mapping[str, Mapping[str, float]],
    label: str,
    quartiles: Mapping[str, tuple[float, float, float]] | None = None,
    colors: Sequence[str] = COLORS,
) -> Figure:
    """Horizontal bars, the first one on top, each made of `parts`: the length of every bar in each of them.

    A whisker spans the first and third of a bar's `quartiles`; `label` says of what the lengths are, and their unit.
    """
    names = list(dict.fromkeys(name for lengths in parts.values() for name in lengths))
    figure, (ax,) = panels(1, height=1.3 + 0.25 * len(names))
    left = np.zeros(len(names))
    for (part, lengths), color in zip(parts.items(), colors):
        added = [lengths.get(name, 0.0) for name in names]
        ax.barh(names, added, left=left, color=color, height=0.6, label=part)
        left += added
    for y, (first, median, third) in enumerate([quartiles[name] for name in names] if quartiles else []):
        ax.errorbar(median, y, xerr=[[median - first], [third - median]], color="black", marker="", capsize=3)
    ax.invert_yaxis()
    ax.set(xlabel=label)
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=len(parts))
    return figure


def curves(points: Mapping[str, Sequence[Point]], x: str, y: str, dashed: Collection[str] = ()) -> Figure:
    """One line through the points (x, y) of each name; those in `dashed` with dashes. `x` and `y` name the axes."""
    figure, (ax,) = panels(1, width=5.5, height=3.0)
    for name, pairs in points.items():
        ax.plot(*zip(*pairs), label=name, linestyle="--" if name in dashed else "-")
    ax.set(xlabel=x, ylabel=y)
    ax.legend()
    return figure


def scatter(groups: Mapping[str, Mapping[str, Sequence[Point]]], x: str, y: str) -> Figure:
    """Points (x, y): a colour for each group, a marker for each kind of point in it. x is drawn as its logarithm."""
    kinds = list(dict.fromkeys(kind for points in groups.values() for kind in points))
    figure, (ax,) = panels(1, height=3.4)
    for color, (group, points) in zip(COLORS, groups.items()):
        for kind, pairs in points.items():
            marker = MARKERS[kinds.index(kind)]
            ax.semilogx(*zip(*pairs), marker, color=color, markersize=7, alpha=0.8, label=f"{group} {kind}")
    ax.set(xlabel=x, ylabel=y, ylim=(0, None))
    ax.legend(**BESIDE)
    return figure


def time_lines(marks: Mapping[str, Sequence[int]], ticks: Mapping[int, str], label: str) -> Figure:
    """A line for each name from 0 to its last mark, dotted from there to the last tick; the first name on top."""
    names, end = list(marks), max(ticks)
    style = {"axes.grid": False, "axes.spines.left": False}
    figure, ((ax,),) = subplots(1, 1, style, figsize=(7.2, 0.9 + 0.4 * len(names)))
    for y, name in enumerate(reversed(names)):
        at, color = marks[name], COLORS[y]
        ax.plot([0, at[-1]], [y, y], color=color, marker="", linewidth=2)
        ax.plot([at[-1], end], [y, y], color=color, marker="", linewidth=2, linestyle=":")
        ax.plot(at, [y] * len(at), color=color, marker=MARKERS[y], markersize=9, linestyle="")
    ax.set_yticks(range(len(names)), reversed(names))
    ax.tick_params(axis="y", length=0)
    ax.set_xticks(list(ticks), ticks.values())
    ax.set(xlabel=label, ylim=(-0.5, len(names) - 0.5), xlim=(-0.016 * end, 1.05 * end))
    return figure


def image_grid(images: Iterable[UInt8[Tensor, "_ _ _"]], titles: Sequence[str], columns: int = 10) -> Figure:
    """Images (c, h, w), also of different sizes, in rows of `columns`, each under its title."""
    rows = -(-len(titles) // columns)
    figure, axes = subplots(rows, columns, figsize=(0.75 * columns, 0.95 * rows))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, title in zip(axes.flat, images, titles):
        pixels = image.permute(1, 2, 0).cpu().numpy()
        ax.imshow(pixels, cmap="gray_r" if pixels.shape[-1] == 1 else None)
        ax.set_title(title, fontsize=8)
    return figure


def confusion(counts: Int64[Tensor, "n n"], classes: Sequence[str]) -> Figure:
    """Of the images of each class (a row of `counts`), the share in percent that is taken for each class (a column)."""
    n, counted = len(classes), counts.numpy()
    percent = 100 * counted / np.maximum(counted.sum(axis=1, keepdims=True), 1)
    figure, ((ax,),) = subplots(1, 1, {"axes.grid": False}, figsize=(1.5 + 0.45 * n, 1.2 + 0.42 * n))
    ax.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(n, n):
        share = percent[row, column]
        if share >= 0.5:
            color = "white" if share > 50 else "black"
            ax.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=color)
    ax.set(xticks=range(n), yticks=range(n), yticklabels=classes, xlabel="predicted", ylabel="true")
    ax.set_xticklabels(classes, rotation=60, ha="right")
    return figure


def class_axes(pooled: Float[Tensor, "n c"], labels: Int64[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    """(origin, axes) of the plane in which the class means lie farthest apart: their first two principal axes.

    `pooled` are states averaged over the image. Shapes (c,) and (2, c): x is at (x - origin) @ axes.T.
    """
    means = torch.stack([pooled[labels == label].mean(dim=0) for label in labels.unique()])
    origin = means.mean(dim=0)
    return origin, torch.linalg.svd(means - origin, full_matrices=False).Vh[:2]


def class_plane(states: Float[Tensor, "t n c h w"], labels: Int64[Tensor, "n"]) -> Float[Tensor, "t n 2"]:
    """States at several times, averaged over the image, as points of the plane of `class_axes` at the last time."""
    pooled = states.mean(dim=(3, 4))
    origin, axes = class_axes(pooled[-1], labels)
    return (pooled - origin) @ axes.T


def flow(states: Float[Tensor, "t n c h w"], labels: Int64[Tensor, "n"], times: Sequence[float]) -> Figure:
    """States at several times in the plane of `class_plane`, a panel for each; classes are drawn as numbers."""
    points = class_plane(states, labels).cpu().numpy()
    rows = -(-len(times) // 3)
    figure, axes = subplots(rows, 3, figsize=(7.2, 2.5 * rows), sharex=True, sharey=True)
    colors = plt.get_cmap("tab10")
    for ax, at, time in zip(axes.flat, points, times):
        for label in labels.unique().tolist():
            mine = (labels == label).cpu().numpy()
            ax.scatter(*at[mine].T, marker=f"${label}$", color=colors(label % 10), s=22, linewidths=0.2)
        ax.set_title(f"t = {time:g}", fontsize=10)
        ax.set(xticks=[], yticks=[])
    return figure
