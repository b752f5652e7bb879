"""Figures of solvers at work: how errors add up, where they are stable, which steps they take, what accuracy costs."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from odelib.book.plots import BESIDE, COLORS, panels, subplots
from odelib.shapes import Float
from odelib.solvers import Step, Tableau, odeint


def once_round_a_circle(methods: Sequence[Tableau]) -> Figure:
    """The rotation z' = (-z_2, z_1) from (1, 0) over one turn, by 20 steps of each method: a panel each."""
    turn = torch.linspace(0, 2 * math.pi, 201, dtype=torch.float64)
    circle = turn.cos().numpy(), turn.sin().numpy()
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    figure, axes = panels(len(methods), width=7.6, height=2.3)
    for ax, method in zip(axes, methods):
        path = odeint(lambda t, z: torch.stack([-z[1], z[0]]), start, turn[::10], method=method)
        ax.plot(*circle, color=COLORS[0], linewidth=4, alpha=0.5, marker="")
        ax.plot(*path.T.numpy(), color=COLORS[1], linewidth=1, marker=".")
        ax.set(title=method.name, aspect="equal", xlim=(-3, 3), ylim=(-3, 3))
    return figure


def fans(steps: dict[float, tuple[Float[Tensor, "k"], Float[Tensor, "k"]]]) -> Figure:
    """Steps for dz/dt = theta z, a panel for each theta: times and states, and the exact solution from each state.

    Every step has a colour: its bar joins the exact solution from where it began with where it ended, and a bar behind
    the last time shows what this gap has become there.
    """
    figure, axes = panels(len(steps), height=3.2)
    for ax, (theta, (times, states)) in zip(axes, steps.items()):
        starts, values, end = times.tolist(), states.tolist(), times[-1].item()
        for k, (t, z) in enumerate(zip(starts, values)):
            later = np.linspace(t, end, 50)
            ax.plot(later, z * np.exp(theta * (later - t)), color="gray", linewidth=2 if k == 0 else 1, marker="")
        ends = (states * torch.exp(theta * (end - times))).tolist()
        for k, color in zip(range(1, len(starts)), COLORS):
            begun = values[k - 1] * math.exp(theta * (starts[k] - starts[k - 1]))
            ax.vlines(starts[k], values[k], begun, color=color, linewidth=4)
            ax.vlines(end * 1.05, ends[k], ends[k - 1], color=color, linewidth=4)
        ax.plot(starts, values, ":o", color="black", linewidth=1, markersize=4)
        ax.set(title=f"$\\theta = {theta:g}$", xlabel="time $t$")
    axes[0].set_ylabel("$z$")
    return figure


def stability_regions(factors: dict[str, Callable[[Tensor], Tensor]]) -> Figure:
    """Where R(w) has the size 1, in the plane of w = h lambda, for every method; R takes complex tensors."""
    re, im = torch.meshgrid(
        torch.linspace(-5, 1.5, 240).double(), torch.linspace(-4.2, 4.2, 240).double(), indexing="xy"
    )
    figure, (ax,) = panels(1, width=5.4, height=4.0)
    for color, (name, factor) in zip(COLORS, factors.items()):
        size = factor(torch.complex(re, im)).abs()
        ax.contour(re.numpy(), im.numpy(), size.numpy(), levels=[1.0], colors=[color])
        ax.plot([], [], color=color, marker="", label=name)
    ax.axvline(0, color="gray", linewidth=0.8, marker="")
    ax.set(xlabel="real part of $h\\lambda$", ylabel="imaginary part", aspect="equal")
    ax.legend(**BESIDE)
    return figure


def steps_taken(steps: Sequence[Step], times: Float[Tensor, "n"], values: Float[Tensor, "n"]) -> Figure:
    """Above the solution, `values` at `times`, below the sizes of the steps: dots where accepted, crosses where not.

    On the solution a dot is the end of a step, a cross the start of one that was rejected.
    """
    figure, ((top,), (bottom,)) = subplots(2, 1, figsize=(7.2, 4.2), sharex=True)
    curve = times.numpy(), values.numpy()
    top.plot(*curve, color="gray", linewidth=1, marker="")
    for accepted, label, color, marker in ((True, "accepted", COLORS[0], "o"), (False, "rejected", COLORS[1], "x")):
        mine = [step for step in steps if step.accepted == accepted]
        where = [step.t + step.h * accepted for step in mine]
        top.plot(where, np.interp(where, *curve), marker, color=color, markersize=4)
        sizes = [step.h for step in mine]
        bottom.semilogy([step.t for step in mine], sizes, marker, color=color, markersize=4, label=label)
    top.set(ylabel="$z_1$")
    bottom.set(xlabel="time $t$", ylabel="step size $h$")
    bottom.legend(frameon=False)
    return figure


def work_precision(problems: dict[str, dict[str, Sequence[tuple[int, float]]]]) -> Figure:
    """Relative error of z(1) against NFE: a panel for each problem, a line of such points for each method."""
    figure, axes = panels(len(problems), height=3.5)
    for ax, (title, methods) in zip(axes, problems.items()):
        for name, points in methods.items():
            ax.loglog(*zip(*points), label=name)
        ax.set(xlabel="NFE", title=title)
    axes[0].set(ylabel="relative error of $z(1)$")
    axes[-1].legend(fontsize=8)
    return figure


def tolerance_and_work(
    by_tolerance: dict[str, Sequence[tuple[float, float]]], by_nfe: dict[str, Sequence[tuple[int, float]]]
) -> Figure:
    """Relative error of z(1): left against the tolerance, which the dotted line repeats, right against NFE.

    Each is a line of points (tolerance, error) or (NFE, error) by its name.
    """
    figure, (left, right) = panels(2, height=3.2)
    for name, points in by_tolerance.items():
        left.loglog(*zip(*points), label=name)
    tolerances = sorted({tolerance for points in by_tolerance.values() for tolerance, _ in points})
    left.loglog(tolerances, tolerances, color="gray", linestyle=":", marker="")
    left.set(xlabel="tolerance")
    for name, points in by_nfe.items():
        right.loglog(*zip(*points), label=name)
    right.set(xlabel="NFE")
    for ax in (left, right):
        ax.set(ylabel="relative error of $z(1)$")
        ax.legend()
    return figure


def calls_and_errors(
    calls: Sequence[float], ends: Sequence[float], moments: Float[Tensor, "n"], errors: Sequence[float]
) -> Figure:
    """One solve from t = 0 to 1: left the times of its `calls` of f, in order, right the error of z(t) at `moments`.

    Grey lines mark the `ends` of its steps.
    """
    figure, (left, right) = panels(2, height=2.8)
    left.plot(range(1, len(calls) + 1), calls, linestyle="none")
    left.axhline(1, color=COLORS[1], linestyle="--", marker="")
    right.plot(moments.numpy(), errors, marker="")
    for end in ends:
        left.axhline(end, color="gray", linewidth=0.6, marker="")
        if end < 1:
            right.axvline(end, color="gray", linewidth=0.6, marker="")
    left.set(xlabel="number of the call", ylabel="$t$")
    right.set(xlabel="$t$", ylabel="relative error of $z(t)$")
    return figure
