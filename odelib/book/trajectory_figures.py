"""Figures of what the trajectory knows: opinions along t, accuracy by t, early exits, cheaper solves, attacks."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from odelib.book.plots import COLORS, MARKERS, legend_above, plain_ticks, subplots
from odelib.data import Images
from odelib.measurements.inference import Inferences
from odelib.measurements.robustness import BUDGETS, Robustness
from odelib.measurements.stop_times import StopTimes
from odelib.shapes import Float
from odelib.studies import attacks
from odelib.studies import trajectory as study
from odelib.studies.summary import mean

_ERRORS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def opinions(digits: Images, probabilities: Float[Tensor, "t n classes"], times: Sequence[float]) -> Figure:
    """A panel for each digit, with its image: what the head takes it for along t, a line for each class.

    Classes that never have a tenth are pale and have no name.
    """
    n = len(digits)
    figure, axes = subplots(-(-n // 2), 2, figsize=(7.2, 2.3 * -(-n // 2)), sharex=True, sharey=True)
    colors = plt.get_cmap("tab10")
    for ax, image, label, along in zip(axes.flat, digits.images, digits.labels.tolist(), probabilities.unbind(dim=1)):
        for k, line in enumerate(along.T):
            seen = line.max().item() > 0.1
            style = {"color": colors(k), "linewidth": 2, "label": str(k)} if seen else {"color": "0.8", "linewidth": 1}
            ax.plot(times, line.cpu().numpy(), marker="", **style)
        ax.set_title(f"a {label}", fontsize=10)
        ax.legend(fontsize=8, loc="center right", title="read as", title_fontsize=8)
        inset = ax.inset_axes((-0.47, 0.25, 0.4, 0.5), transform=ax.transData)
        inset.imshow(image[0].cpu().numpy(), cmap="gray_r")
        inset.set(xticks=[], yticks=[])
    for ax in axes[-1]:
        ax.set(xlabel="t", xlim=(-0.5, 1.45), xticks=[0, 0.5, 1])
    for ax in axes[:, 0]:
        ax.set_ylabel("probability")
    return figure


def _error(shares: Iterable[float]) -> float:
    return 100 * (1 - mean(shares))


def _line(ax: Axes, points: Sequence[tuple[float, Sequence[float]]], color: str, label: str, **style: Any) -> None:
    """Mean error in percent against x, and a band from the best to the worst network; hollow for a single one."""
    x = [at for at, _ in points]
    single = len(points[0][1]) == 1
    ax.plot(x, [_error(y) for _, y in points], color=color, label=label, mfc="white" if single else color, **style)
    best, worst = ([_error([end(y)]) for _, y in points] for end in (max, min))
    ax.fill_between(x, best, worst, color=color, alpha=0.15)


def _error_axes(axes: Sequence[Axes]) -> None:
    """Errors in percent on one logarithmic axis for all, with plain numbers; no error at all is drawn at its foot."""
    lines = [np.asarray(line.get_ydata(), dtype=float) for ax in axes for line in ax.lines]
    drawn = [y for line in lines for y in line.tolist() if y > 0]
    axes[0].set_yscale("log", nonpositive="clip")
    axes[0].set(ylim=(0.7 * min(drawn, default=1), 1.3 * max(drawn, default=100)), ylabel="test error (%)")
    plain_ticks(axes[0], _ERRORS)


def accuracy_by_time(record: StopTimes) -> Figure:
    """Test error in percent by stop time, a line for each case: of the head on the left, of a probe on the right.

    A network without a block has one place, which is drawn as a line across.
    """
    figure, axes = subplots(1, 2, figsize=(7.2, 4.2), sharex=True, sharey=True)
    readers: tuple[Mapping[str, Sequence[study.Row]], ...] = study.fine(record), study.by_case(record.readings)
    for ax, cases, name in zip(axes[0], readers, ("accuracy", "probe")):
        for (case, same), color, marker in zip(cases.items(), cycle(COLORS), cycle(MARKERS)):
            points = study.curve(same, "at", "at", name)
            if len(points) == 1:
                ax.axhline(_error(points[0][1]), color="gray", linestyle=":", marker="", label=study.NAMES[case])
            else:
                _line(ax, points, color, study.NAMES[case], marker=marker)
        ax.set(xlabel="t, or share of the blocks", title="the head" if name == "accuracy" else "a linear probe")
    _error_axes(list(axes[0]))
    legend_above(figure, 3)
    return figure


def early_exits(record: StopTimes, inference: Inferences, cases: Sequence[str]) -> Figure:
    """A panel for each case: test error against NFE a digit, for early exits, for fixed stops, and for single steps.

    The first two take steps of Euler; for residual networks a block counts as an evaluation, and there is no step.
    """
    figure, axes = subplots(1, len(cases), figsize=(7.2, 3.8), sharey=True)
    for ax, case in zip(axes[0], cases):
        exits, stops = study.exits_of(record, case)
        steps = [row for row in inference.rows if (row.case, row.steps) == (case, 1)]
        lines: dict[str, tuple[Sequence[study.Row], str]] = {
            "each digit its own stop": (exits, "threshold"),
            "one stop for all": (stops, "nfe"),
            "one step to the end": (steps, "method"),
        }
        for (label, (rows, name)), color, marker in zip(lines.items(), COLORS, MARKERS):
            if rows:
                _line(ax, study.curve(rows, name, "nfe", "accuracy"), color, label, marker=marker)
        ax.set_title(study.NAMES[case], fontsize=10)
        ax.set(xlabel="NFE" if steps else "blocks", xlim=(0, None))
    _error_axes(list(axes[0]))
    legend_above(figure, 3)
    return figure


def cheaper_solves(record: Inferences, cases: Sequence[str]) -> Figure:
    """A panel for each case: test error against NFE, a line for each method through its tolerances or step numbers."""
    figure, axes = subplots(1, len(cases), figsize=(7.2, 3.8), sharey=True)
    for ax, case in zip(axes[0], cases):
        rows = [row for row in record.rows if row.case == case]
        for (method, same), color, marker in zip(study.grouped(rows, "method").items(), COLORS, MARKERS):
            _line(ax, study.curve(same, "rtol" if method == "dopri5" else "steps", "nfe", "accuracy"), color, method,
                  marker=marker, linestyle="-" if method == "dopri5" else "--")  # fmt: skip
        ax.set_title(study.NAMES[case], fontsize=10)
        ax.set_xscale("log")
        ax.xaxis.set_ticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
        ax.xaxis.set_ticks([], minor=True)
        ax.set(xlabel="NFE")
    _error_axes(list(axes[0]))
    legend_above(figure, 4)
    return figure


def retrieval(record: StopTimes) -> Figure:
    """Mean average precision in percent by the t of the queries: database at the same t (solid), or at the end."""
    figure, ((ax,),) = subplots(1, 1, figsize=(7.2, 3.8))
    for (case, rows), color, marker in zip(study.by_case(record.readings).items(), cycle(COLORS), cycle(MARKERS)):
        for name, line in (("symmetric", "-"), ("asymmetric", "--")):
            points = study.curve(rows, "at", "at", name)
            label = study.NAMES[case] if line == "-" else None
            x, y = [at for at, _ in points], [100 * mean(values) for _, values in points]
            inside = "white" if len(points[0][1]) == 1 else color
            ax.plot(x, y, color=color, marker=marker, linestyle=line, label=label, mfc=inside)
    ax.set(xlabel="t of the queries, or share of the blocks", ylabel="mean average precision (%)", ylim=(None, 101))
    ax.legend(fontsize=8, loc="lower right")
    return figure


_MADE = {
    "own": ("the network's own gradient", COLORS[6], "D"),
    "tight": ("gradient of the tight solve", COLORS[0], "o"),
    "loose": ("gradient of the loose solve", COLORS[1], "s"),
    "loose adjoint": ("adjoint of the loose solve", COLORS[2], "^"),
}


def under_attack(record: Robustness) -> Figure:
    """Accuracy in percent after PGD, a panel for each budget, a row for each network and solve that reads the images.

    A mark for each gradient that the attack followed, the mean over the networks; small ones are single networks. A
    grey bar is the accuracy with noise of the same size.
    """
    rows = attacks.readers(record)
    figure, axes = subplots(len(BUDGETS), 1, figsize=(7.2, 1.0 + (0.6 + 0.3 * len(rows)) * len(BUDGETS)), sharex=True)
    for ax, budget in zip(axes[:, 0], BUDGETS):
        for y, (case, tested) in enumerate(rows):
            noisy = attacks.attacked(record, case, tested, "noise", budget)
            ax.plot(100 * mean(attacks.strongest(noisy)), y, marker="|", markersize=12, color="gray", linestyle="")
            for by, same in attacks.attacked(record, case, tested, "pgd", budget).items():
                _, color, marker = _MADE[by]
                at = y + (list(_MADE).index(by) - 2) / 5 if tested != "own" else y
                shares = [100 * row.accuracy for row in same]
                inside = "white" if len(shares) == 1 else color
                ax.plot(mean(shares), at, marker=marker, markersize=7, color=color, mfc=inside, linestyle="")
                ax.plot(shares, [at] * len(shares), marker=".", markersize=4, color=color, linestyle="")
        ax.set_yticks(range(len(rows)), [attacks.reader(*row) for row in rows], fontsize=8)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_title(f"budget {budget:g}", fontsize=10)
        ax.set(xlim=(-2, 102))
    axes[-1, 0].set(xlabel="accuracy after PGD (%)")
    for label, color, marker in _MADE.values():
        axes[0, 0].plot([], [], marker=marker, color=color, linestyle="", label=label)
    axes[0, 0].plot([], [], marker="|", markersize=12, color="gray", linestyle="", label="noise of that size")
    legend_above(figure, 2)
    return figure
