"""Explicit Runge-Kutta solvers, written to be read.   (the book's chapter `solvers`)

Methods are data (`Tableau`), there is one loop for fixed grids and one for adaptive steps, and
`odeint` has the call shape of torchdiffeq's. Sources: Hairer, Norsett and Wanner, Solving Ordinary
Differential Equations I, 2nd edition (`HNW` below), and the papers named at the tableaus.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from odelib.errors import SolverError
from odelib.shapes import Float

Dynamics = Callable[[Tensor, Tensor], Tensor]
Norm = Callable[[Tensor], Tensor]
Numbers = tuple[int | float, ...]


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method of s stages, by its numbers.

    Stage i is k_i = f(t + c_i h, z + h sum_j a_ij k_j), where row i of `a` has i entries
    (j < i), and the step ends at z + h sum_i b_i k_i. `error` holds b minus the weights of
    an embedded method of lower order: h sum_i error_i k_i estimates the error, and makes
    the method adaptive. `dense` turns the cubic between two steps into a better quartic.
    The sums are checked when it is built.
    """

    name: str
    order: int
    c: Numbers
    a: tuple[Numbers, ...]
    b: Numbers
    error: Numbers | None = None
    dense: Numbers | None = None

    def __post_init__(self):
        stages = len(self.b)
        sizes = [len(w) for w in (self.c, self.a, self.error, self.dense) if w is not None]
        rows = [len(row) for row in self.a]
        if any(n != stages for n in sizes) or rows != list(range(stages)):
            raise ValueError(f"{self.name}: {stages} stages need as many nodes and rows")
        sums = [(sum(row), c) for row, c in zip(self.a, self.c)] + [(sum(self.b), 1.0)]
        sums += [(sum(weights), 0.0) for weights in (self.error, self.dense) if weights]
        if any(abs(got - expected) > 1e-12 for got, expected in sums):
            rule = "rows of a must sum to c, b to 1, error and dense to 0"
            raise ValueError(f"{self.name}: {rule}")

    @property
    def adaptive(self) -> bool:
        """Whether it can estimate its error."""
        return self.error is not None

    @property
    def fsal(self) -> bool:
        """First same as last: the last stage is f at the step's end, the next one's first."""
        return self.c[-1] == 1 and self.b[-1] == 0 and self.a[-1] == self.b[:-1]


# fmt: off
EULER = Tableau("euler", 1, c=(0,), a=((),), b=(1,))
MIDPOINT = Tableau("midpoint", 2, c=(0, 1 / 2), a=((), (1 / 2,)), b=(0, 1))  # Runge 1895
HEUN = Tableau("heun", 2, c=(0, 1), a=((), (1,)), b=(1 / 2, 1 / 2))  # the explicit trapezoidal rule

RALSTON3 = Tableau(  # Ralston 1962, least error bound of order 3; what bosh3 takes its steps by
    "ralston3", 3,
    c=(0, 1 / 2, 3 / 4),
    a=((), (1 / 2,), (0, 3 / 4)),
    b=(2 / 9, 1 / 3, 4 / 9),
)
RK4 = Tableau(  # Kutta 1901, "the" Runge-Kutta method; HNW table II.1.2
    "rk4", 4,
    c=(0, 1 / 2, 1 / 2, 1),
    a=((), (1 / 2,), (0, 1 / 2), (0, 0, 1)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
)

RK4_38 = Tableau(  # Kutta 1901, the 3/8 rule; torchdiffeq's "rk4"; HNW table II.1.2
    "rk4_38", 4,
    c=(0, 1 / 3, 2 / 3, 1),
    a=((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)),
    b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
)
BOSH3 = Tableau(  # Bogacki and Shampine 1989, order 3 with an embedded 2
    "bosh3", 3,
    c=(0, 1 / 2, 3 / 4, 1),
    a=((), (1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    b=(2 / 9, 1 / 3, 4 / 9, 0),
    error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
)
DOPRI5 = Tableau(  # Dormand and Prince 1980, 5 with an embedded 4; HNW table II.5.2, dense: II.6
    "dopri5", 5,
    c=(0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    b=(35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
    error=(71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    dense=(
        -12715105075 / 11282082432, 0, 87487479700 / 32700410799, -10690763975 / 1880347072,
        701980252875 / 199316789632, -1453857185 / 822651844, 69997945 / 29380423,
    ),
)
TSIT5 = Tableau(  # Tsitouras 2011, 5 with an embedded 4; its numbers are published as decimals
    "tsit5", 5,
    c=(0, 0.161, 0.327, 0.9, 0.9800255409045097, 1, 1),
    a=(
        (),
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401,
         -0.028269050394068383),
        (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081,
         2.324710524099774),
    ),
    b=(0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081,
       2.324710524099774, 0),
    error=(0.00178001105222577714, 0.0008164344596567469, -0.007880878010261995,
           0.1447110071732629, -0.5823571654525552, 0.45808210592918697, -1 / 66),
    dense=(-1.0530884977290216, 0.1017, 2.490627285651252793, -16.54810288924490272,
           47.37952196281928122, -34.87065786149660974, 2.5),
)
# fmt: on

TABLEAUS = {method.name: method for method in (EULER, MIDPOINT, HEUN, RALSTON3, RK4, RK4_38, BOSH3, DOPRI5, TSIT5)}


@dataclass(frozen=True)
class Step:
    """One step of a solver: from t to t + h; `ratio` is its error over the tolerance."""

    t: float
    h: float
    accepted: bool = True
    ratio: float | None = None  # None on a fixed grid, which estimates nothing


@dataclass
class Statistics:
    """What a solve did. Pass an empty one to `odeint`; passed again it goes on counting.

    With `states=[]` it also keeps the state at the start of every accepted step.
    """

    nfe: int = 0
    steps: list[Step] = field(default_factory=list)
    states: list[Tensor] | None = None

    def add(self, step: Step, z: Tensor) -> None:
        """Count a step that began at the state z."""
        self.steps.append(step)
        if step.accepted and self.states is not None:
            self.states.append(z)

    @property
    def accepted(self) -> int:
        return sum(step.accepted for step in self.steps)

    @property
    def rejected(self) -> int:
        return len(self.steps) - self.accepted


@dataclass(frozen=True)
class Controller:
    """How large the next step shall be.   (HNW II.4; a PI controller when beta > 0)

    The estimated error of a step is about C h^order, so that the step which just meets the
    tolerance (ratio 1) is ratio^(-1/order) times as long. `safety` aims lower, `smallest`
    and `largest` bound the change. `beta` also heeds the accepted step before: 0.04 in
    Hairer's DOPRI5, 0 in torchdiffeq.
    """

    safety: float = 0.9
    smallest: float = 0.2
    largest: float = 10.0
    beta: float = 0.04

    def factor(self, ratio: float, previous: float, order: int) -> float:
        """Next step over this one, from this step's ratio and the last accepted one's."""
        if not math.isfinite(ratio):
            return self.smallest
        exponent = 1 / order - 0.75 * self.beta
        factor = self.safety * max(ratio, 1e-10) ** -exponent
        factor *= max(previous, 1e-4) ** self.beta
        return min(max(factor, self.smallest), self.largest)


def root_mean_square(error: Tensor) -> Tensor:
    """The norm in which errors are measured: over the whole state, or over part of it."""
    wide = error.to(torch.promote_types(error.dtype, torch.float32))  # squares of 16-bit numbers underflow
    return wide.square().mean().sqrt()


def odeint(
    f: Dynamics,
    z0: Float[Tensor, "*state"],
    times: Float[Tensor, "n"],
    *,
    method: str | Tableau = "dopri5",
    rtol: float = 1e-3,
    atol: float = 1e-3,
    step_size: float | None = None,
    first_step: float | None = None,
    max_steps: int = 10_000,
    controller: Controller = Controller(),
    norm: Norm = root_mean_square,
    statistics: Statistics | None = None,
) -> Float[Tensor, "n *state"]:
    """The states of dz/dt = f(t, z) at `times`, where z0 is the state at the first of them.

    `times` run up or down and may repeat. An adaptive method chooses its own steps, interpolates
    between them and ends exactly at the last time, so that no step passes it.

    method
        a name in `TABLEAUS`, or a Tableau.
    rtol, atol
        the error allowed in one adaptive step, by default as a root mean square over the whole
        state (`norm`): 1e-3 is enough to train, comparing gradients needs 1e-6 or less. Fixed
        grids ignore them.
    step_size
        fixed grids only: the way from the first to the last time is cut into equal steps no longer
        than this, and Hermite's cubic interpolates between them; None takes one step from each of
        `times` to the next.
    first_step
        adaptive only: the size of the first step to try, in place of a guess by Hairer's rule.
    max_steps
        steps, rejected ones included, after which to give up.

    Gradients reach z0 and whatever f uses, by backpropagation through the accepted steps, whose
    sizes count as constants. Raises ValueError for bad input, SolverError when a solve fails.
    """
    tableau = TABLEAUS.get(method) if isinstance(method, str) else method
    if tableau is None:
        raise ValueError(f"unknown method {method!r}; choose from {', '.join(TABLEAUS)}")
    if times.ndim != 1 or not len(times) or not torch.isfinite(times).all():
        raise ValueError(f"times must be a vector of finite numbers, got {times.tolist()}")
    if not ((times.diff() >= 0).all() or (times.diff() <= 0).all()):
        raise ValueError(f"times must run up or down, got {times.tolist()}")
    if times.requires_grad and torch.is_grad_enabled():
        raise ValueError("times get no gradient here; take odelib.gradients.odeint_adjoint")
    if not z0.is_floating_point():
        raise ValueError(f"the state must be of floats, got {z0.dtype}")
    fixed = ", ".join(m.name for m in TABLEAUS.values() if not m.adaptive)
    if tableau.adaptive and step_size is not None:
        raise ValueError(f"step_size is for fixed grids ({fixed}); {tableau.name} chooses steps")
    if not tableau.adaptive and first_step is not None:
        raise ValueError(f"first_step is for adaptive methods, {tableau.name} takes step_size")
    if not (rtol >= 0 and atol >= 0 and rtol + atol > 0):
        raise ValueError(f"tolerances must be positive, got rtol={rtol:g}, atol={atol:g}")
    for name, value in (("step_size", step_size), ("first_step", first_step)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive, got {value:g}")
    if not z0.numel():  # no image, no error to measure
        return torch.stack([z0] * len(times))

    statistics = Statistics() if statistics is None else statistics

    def velocity(t: float, z: Tensor) -> Tensor:
        """f at a Python number t, counted and checked."""
        statistics.nfe += 1
        dz = f(z.new_full((), t), z)
        if dz.shape != z.shape:
            got, expected = tuple(dz.shape), tuple(z.shape)
            raise ValueError(f"f must keep the shape of the state: got {got} for {expected}")
        return dz

    if tableau.adaptive:
        tolerance = (rtol, atol, norm)
        options = (first_step, max_steps, controller, statistics)
        states = adaptive_steps(velocity, z0, times.tolist(), tableau, tolerance, *options)
    else:
        grid = grid_points(times, step_size, max_steps)
        states = fixed_steps(velocity, z0, times.tolist(), tableau, grid, statistics)
    return torch.stack(states)


def combine(z: Tensor, h: float, weights: Numbers, stages: list[Tensor]) -> Tensor:
    """z + h sum_i weights_i stages_i, by additions that save nothing for backward."""
    for weight, k in zip(weights, stages):
        if weight != 0:
            z = torch.add(z, k, alpha=h * weight)
    return z


def runge_kutta_step(
    velocity: Callable[[float, Tensor], Tensor],
    t: float,
    t_next: float,
    z: Tensor,
    tableau: Tableau,
    first: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """One step: the state at t_next, and the stages. `first` is f(t, z) if known."""
    h = t_next - t
    stages = [velocity(t, z) if first is None else first]
    for c, row in zip(tableau.c[1:], tableau.a[1:]):
        z_stage = combine(z, h, row, stages)
        stages.append(velocity(t_next if c == 1 else t + c * h, z_stage))
    return z_stage if tableau.fsal else combine(z, h, tableau.b, stages), stages


def grid_points(times: Tensor, step_size: float | None, max_steps: int) -> list[float]:
    """Where the steps of a fixed grid begin and end."""
    values = times.tolist()
    start, end = values[0], values[-1]
    if step_size is None:
        grid = [start, *(s for before, s in pairwise(values) if s != before)]
        n = len(grid) - 1
    else:
        # In float32, 0.3 is 0.30000001: rounding shall not make a fourth step of 0.1. Far from zero it is coarser.
        eps = torch.finfo(times.dtype).eps if times.is_floating_point() else 0.0
        length = abs(end - start) - 4 * eps * max(abs(start), abs(end))
        n = math.ceil(min(length / step_size, 1e18))
        n = max(n, int(start != end))
    if n > max_steps:
        need = f"{n} steps are needed to reach t={end:g}"
        raise SolverError(f"{need}, max_steps is {max_steps}; try a larger step_size, or raise odeint's max_steps")
    if step_size is not None:
        grid = [start + (end - start) * (i / n) for i in range(n)] + [end]
    return grid


def fixed_steps(velocity, z, times, tableau, grid, statistics) -> list[Tensor]:
    """The states at `times`, by one step from each point of `grid` to the next."""
    states = [z for s in times if s == grid[0]]  # more than one where times repeat
    first = None  # the first stage of the next step, if known
    for t, t_next in pairwise(grid):
        z_start = z
        z, stages = runge_kutta_step(velocity, t, t_next, z_start, tableau, first)
        first = stages[-1] if tableau.fsal else None
        statistics.add(Step(t, t_next - t), z_start)
        if not torch.isfinite(z.detach()).all():
            step = f"the step from t={t:g} to t={t_next:g}"
            raise SolverError(f"{step} made a non-finite state; try a smaller step_size")
        for s in times[len(states) :]:
            if (t_next - s) * (t_next - t) < 0:  # not yet reached
                break
            if s != t_next and first is None:
                first = velocity(t_next, z)
            states.append(state_within(s, t, t_next, z_start, z, stages, first, tableau))
    return states


def adaptive_steps(
    velocity, z, times, tableau, tolerance, first_step, max_steps, controller, statistics
) -> list[Tensor]:
    """The states at `times`, by steps whose estimated errors are within `tolerance`."""
    t, end = times[0], times[-1]
    states = [z for s in times if s == t]  # more than one where times repeat
    if t == end:
        return states
    first = velocity(t, z)  # the first stage of the next step
    if not torch.isfinite(first.detach()).all():
        advice = "look at the state and the weights"
        raise SolverError(f"f is not finite at the start, t={t:g}; {advice}")
    if first_step is None:
        h = initial_step(velocity, t, end, z, first, tableau.order, tolerance)
    else:
        h = math.copysign(first_step, end - t)
    ratio, previous = 0.0, 1.0
    for _ in range(max_steps):
        if not abs(h) >= 1e-14 * max(abs(t), abs(end - t)):
            finite = math.isfinite(ratio)
            why = "f is steep or jumps there" if finite else "f is not finite beyond"
            if math.isnan(h):  # nor is it a number where a tolerance rounds to zero
                why = "the tolerance is too small for the numbers of the state"
            advice = "a larger tolerance, a smoother f or a fixed grid"
            raise SolverError(f"the step size vanished at t={t:.6g}: {why}; try {advice}")
        last = abs(end - t) <= 1.01 * abs(h)  # reach the end, and leave no crumb before it
        t_next = end if last else t + h
        h = t_next - t
        z_next, stages = runge_kutta_step(velocity, t, t_next, z, tableau, first)
        ratio = error_ratio(combine_error(h, tableau, stages), z, z_next, *tolerance)
        accepted = ratio <= 1  # not so for NaN
        statistics.add(Step(t, h, accepted, ratio), z)
        if accepted:
            f_next = stages[-1] if tableau.fsal else velocity(t_next, z_next)
            for s in times[len(states) :]:
                if (t_next - s) * h < 0:  # not yet reached
                    break
                states.append(state_within(s, t, t_next, z, z_next, stages, f_next, tableau))
            t, z, first = t_next, z_next, f_next
            if t == end:
                return states
        h *= controller.factor(ratio, previous, tableau.order)
        previous = ratio if accepted else previous
    where = f"max_steps={max_steps} reached at t={t:.6g} on the way to {end:g}"
    raise SolverError(f"{where}; try a larger tolerance, a smoother f or a fixed grid, or raise odeint's max_steps")


@torch.no_grad()
def combine_error(h: float, tableau: Tableau, stages: list[Tensor]) -> Tensor:
    """The error estimate h sum_i error_i k_i of a step."""
    return combine(torch.zeros_like(stages[0]), h, tableau.error or (), stages)


@torch.no_grad()
def error_ratio(error: Tensor, z: Tensor, z_next: Tensor, rtol: float, atol: float, norm: Norm) -> float:
    """The norm of the error over the tolerance: a step may have 1."""
    scale = torch.maximum(z.abs(), z_next.abs()).mul_(rtol).add_(atol)
    return norm(error.div(scale)).item()


@torch.no_grad()
def initial_step(velocity, t, end, z, f0, order, tolerance) -> float:
    """A first step size, with one evaluation of f a short way ahead.   (HNW II.4)

    A trial step that moves the state by a hundredth of itself shows the second derivative; the
    step is then such that 0.01 is about the error ratio of a method of this order.
    """
    room = abs(end - t)
    size, speed = error_ratio(z, z, z, *tolerance), error_ratio(f0, z, z, *tolerance)
    trial = min(0.01 * size / speed if size > 1e-5 and speed > 1e-5 else 1e-6, room)
    h = math.copysign(trial, end - t)
    bend = error_ratio(velocity(t + h, z + h * f0) - f0, z, z, *tolerance) / trial
    steepest = max(speed, bend)
    if not math.isfinite(steepest):
        return h
    best = (0.01 / steepest) ** (1 / order) if steepest > 1e-15 else max(1e-6, trial * 1e-3)
    return math.copysign(min(100 * trial, best, room), end - t)


def state_within(s, t, t_next, z, z_next, stages, f_next, tableau) -> Tensor:
    """The state at a time s of the step from t to t_next."""
    if s == t_next:
        return z_next
    h = t_next - t
    return interpolate((s - t) / h, h, z, z_next, stages, f_next, tableau)


def interpolate(x: float, h: float, z0, z1, stages, f1, tableau: Tableau) -> Tensor:
    """The state at share x of a step: Hermite's cubic through both ends and velocities.

    With `dense` weights h x^2 (1 - x)^2 sum_i dense_i k_i is added, which leaves the ends
    alone and makes the result right to order 4 (HNW II.6).
    """
    z = torch.add(z0, z1 - z0, alpha=x * x * (3 - 2 * x))
    z = combine(z, h, (x * (1 - x) ** 2, -x * x * (1 - x)), [stages[0], f1])
    if tableau.dense is None:
        return z
    return combine(z, h * (x * (1 - x)) ** 2, tableau.dense, stages)
