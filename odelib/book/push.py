"""The figure of a push and its price, which readers can move: a push travels to the end, its price travels back."""

import functools

import torch
from matplotlib.figure import Figure

from odelib.book.pages import interactive
from odelib.book.plots import COLORS, subplots
from odelib.solvers import odeint

START, TIME, PUSH = (-1.7, 0.9), 5.0, (0.5, 0.5)  # of the pendulum in `figures/push.js`, with which the figure begins
LOSS = (0.0, 1.0)  # dL/dz(t1): the loss is the height of the end


def pendulum(z: torch.Tensor) -> torch.Tensor:
    """The velocity at a point (x, y) of the plane."""
    return torch.stack([z[1], -z[0].sin() - 0.2 * z[1]])


def jacobian(z: torch.Tensor) -> torch.Tensor:
    """Its derivative there."""
    return torch.func.jacrev(pendulum)(z)


def push_still(n: int = 30) -> Figure:
    """The figure at rest: path and pushed path at n + 1 times, push s and price a at every third, their product."""
    times = torch.linspace(0, TIME, n + 1, dtype=torch.float64)
    start, push, w = (torch.tensor(v, dtype=torch.float64) for v in (START, PUSH, LOSS))
    solve = functools.partial(odeint, rtol=1e-8, atol=1e-8)
    path, neighbour = (solve(lambda t, z: pendulum(z), z, times) for z in (start, start + push))
    s = solve(lambda t, y: torch.cat([pendulum(y[:2]), jacobian(y[:2]) @ y[2:]]), torch.cat([start, push]), times)
    back = torch.cat([path[-1], w])
    a = solve(lambda t, y: torch.cat([pendulum(y[:2]), -jacobian(y[:2]).T @ y[2:]]), back, times.flip(0))
    pushes, prices = s[:, 2:].numpy(), a.flip(0)[:, 2:].numpy()
    figure, ((space, strip),) = subplots(1, 2, figsize=(7.2, 3.2), width_ratios=(3, 2))
    space.plot(*path.T.numpy(), color=COLORS[0], linewidth=4, alpha=0.6, marker="", label="path")
    space.plot(*neighbour.T.numpy(), color=COLORS[1], linestyle="--", marker="", label="pushed path")
    for v, color, name in ((pushes, COLORS[1], "push s"), (prices, COLORS[2], "price a")):
        arrows = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.006}
        space.quiver(*path[::3].T.numpy(), *v[::3].T, color=color, label=name, **arrows)
    space.legend(fontsize=8)
    space.set(aspect="equal")
    for v, color, name in ((pushes, COLORS[1], "length of s"), (prices, COLORS[2], "length of a")):
        strip.plot(times.numpy(), (v**2).sum(axis=1) ** 0.5, color=color, marker="", label=name)
    strip.plot(times.numpy(), (prices * pushes).sum(axis=1), color=COLORS[-1], linewidth=2.5, marker="", label="a · s")
    strip.set(xlabel="t")
    strip.legend(fontsize=8)
    return figure


def show_push() -> None:
    """Show the figure, as a cell of a page."""
    interactive(
        "push",
        {},
        push_still(),
        alt="A path in the plane and, dashed, the path of a state that was pushed at the start. Arrows along the path "
        "show the push, which changes its direction and length, and the price, which does so too. Beside it their "
        "lengths over time, and their product, a horizontal line.",
        needs=("runge-kutta", "plane"),
    )
