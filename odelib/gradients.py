"""How a solve is differentiated without keeping all of it: by the adjoint equation, or by taking its steps again.

Each is one autograd Function, written to be read beside the book's chapter `backward-pass`. Backpropagation through a
solver, the gradient `direct`, needs no code: the solvers are made of tensors.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from odelib.shapes import Float
from odelib.solvers import (
    TABLEAUS,
    Dynamics,
    Norm,
    Statistics,
    Tableau,
    odeint,
    root_mean_square,
    runge_kutta_step,
    state_within,
)

Solve = Callable[[Dynamics, Tensor, Tensor], Tensor]


def odeint_adjoint(
    f: Dynamics,
    z0: Float[Tensor, "*state"],
    times: Float[Tensor, "n"],
    solve: Solve,
    parameters: Iterable[Tensor] | None = None,
    solve_back: Solve | None = None,
) -> Float[Tensor, "n *state"]:
    """The states of dz/dt = f(t, z) at `times`.          (Chen et al. 2018, Algorithm 2)

    z0 is the state at times[0], of any shape. `times` run strictly up or strictly down.
    `solve(f, z, times)` is any solver: it returns the states `(n, *state)` at all `times`, the
    first of which is z. It is used forward for z, and backward, once for every interval, for
    the flat vector of z, a and the gradient of theta; an adaptive one so has a single norm
    over all three, unless a `solve_back` for the way back brings another, such as
    `norm_of_parts`. Gradients reach z0, `times` and `parameters`, which are those of f by
    default; other tensors that f uses get none. There is no second
    derivative: autograd refuses it.

    Raises ValueError when `times` are not such, or f or `solve` return a wrong shape.
    """
    if times.ndim != 1 or len(times) < 2 or not times.is_floating_point():
        raise ValueError(f"times must be at least two floats in a row, got {times.tolist()}")
    if not ((times.diff() > 0).all() or (times.diff() < 0).all()):
        raise ValueError(f"times must run strictly up or down, got {times.tolist()}")
    if parameters is None:
        parameters = f.parameters() if isinstance(f, nn.Module) else ()

    def dynamics(t: Tensor, z: Tensor) -> Tensor:
        dz = f(t, z)
        if dz.shape != z.shape:
            found = f"got {tuple(dz.shape)} for {tuple(z.shape)}"
            raise ValueError(f"f must keep the shape of the state: {found}")
        return dz

    trained = [p for p in parameters if p.requires_grad]
    same = under_this_autocast(dynamics, z0.device.type)
    return _Adjoint.apply(same, solve, solve_back or solve, times, z0, *trained)


def under_this_autocast(f: Dynamics, device: str) -> Dynamics:
    """f as it is now, for later: a backward pass runs outside of the autocast that its forward pass ran in."""
    dtype, enabled = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)

    def same(t: Tensor, z: Tensor) -> Tensor:
        # Without a cache of weights in 16 bit: those that a forward pass without gradients made have none either.
        with torch.autocast(device, dtype, enabled, cache_enabled=False):
            return f(t, z)

    return same


def norm_of_parts(sizes: Sequence[int]) -> Norm:
    """The largest root mean square among parts of a flat vector, of these sizes; what lies behind them is free.

    z, a and each parameter are the parts of torchdiffeq's norm for the backward solve, which has one more, the gradient
    of t. z and a alone make the seminorm of Kidger, Chen and Lyons (2021; torchdiffeq's has t, too): g is a mere
    integral, which nothing else depends on.
    """
    sizes = [size for size in sizes if size]

    def norm(error: Tensor) -> Tensor:
        return torch.stack([root_mean_square(part) for part in error[: sum(sizes)].split(sizes)]).max()

    return norm


class _Adjoint(torch.autograd.Function):
    """Forward: solve, and keep the states asked for. Backward: the adjoint equation."""

    @staticmethod
    def forward(ctx, f, solve, solve_back, times, z0, *theta):
        states = solve(f, z0, times)
        if states.shape != (len(times), *z0.shape):
            found = f"got {tuple(states.shape)} for {(len(times), *z0.shape)}"
            raise ValueError(f"solve must return one state for each time: {found}")
        ctx.f, ctx.solve_back = f, solve_back
        ctx.save_for_backward(times, states, *theta)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, w):
        """w[i] is what the loss says about the state at times[i] directly."""
        times, states, *theta = ctx.saved_tensors
        shape, n = w[0].shape, w[0].numel()
        sizes = [n, n, sum(p.numel() for p in theta)]
        wide = torch.promote_types(w.dtype, torch.float32)  # sums of many 16-bit numbers would lose the small ones

        def backward_dynamics(t: Tensor, y: Tensor) -> Tensor:
            """d/dt of (z, a, g) = (f, -J^T a, -f_theta^T a), flat."""
            z, a, _ = y.split(sizes)
            with torch.enable_grad():
                z = z.view(shape).to(states.dtype).detach().requires_grad_()
                dz = ctx.f(t.to(z.dtype), z)
            if not dz.requires_grad:  # f depends on the time alone
                return torch.cat([dz.flatten().to(wide), torch.zeros_like(y[n:])])
            products = torch.autograd.grad(
                dz, [z, *theta], a.view(shape).to(dz.dtype), allow_unused=True, materialize_grads=True
            )
            return torch.cat([dz.detach().flatten().to(wide), *(-part.flatten() for part in products)])

        a = torch.zeros_like(w[0], dtype=wide)
        g = a.new_zeros(sizes[2])  # the gradient of theta, gathered on the way back
        for i in reversed(range(1, len(times))):
            a = a + w[i]  # the jump at an observation
            y = torch.cat([states[i].flatten(), a.flatten(), g])  # z afresh, as it was stored
            _, a, g = ctx.solve_back(backward_dynamics, y, times[[i, i - 1]])[-1].split(sizes)
            a = a.view(shape)

        dtimes: Tensor | None = None
        if ctx.needs_input_grad[3]:
            speeds = [ctx.f(t.to(z.dtype), z) for t, z in zip(times, states)]
            at_times = [(part * speed).sum() for part, speed in zip(w, speeds)]
            at_times[0] = -(a * speeds[0]).sum()  # z0 is given, whatever t0 is
            dtimes = torch.stack(at_times).to(times)
        parts = g.split([p.numel() for p in theta])
        dtheta = (v.view_as(p).to(p.dtype) for v, p in zip(parts, theta))
        return None, None, None, dtimes, (a + w[0]).to(w.dtype), *dtheta


def odeint_checkpoint(
    f: Dynamics,
    z0: Float[Tensor, "*state"],
    times: Float[Tensor, "n"],
    parameters: Iterable[Tensor] | None = None,
    method: str | Tableau = "dopri5",
    statistics: Statistics | None = None,
    **options,
) -> Float[Tensor, "n *state"]:
    """The states of `odelib.solvers.odeint`, with the same gradient at the memory of one of its steps.

    The forward pass keeps the state at the start of every accepted step, and no more. The backward pass takes the steps
    again, the last one first, and backpropagates through each before it takes the next. As in ANODE (Gholami, Keutzer
    and Biros 2019) and ACA (Zhuang et al. 2020); rejected steps, whose sizes count as constants, are never taken again.

    The arguments are those of odeint, and `parameters`: gradients reach z0 and these, which are those of f by default;
    other tensors that f uses get none. f must give the same result when it is asked again. A step costs one more
    evaluation of f for each of its stages in the backward pass, but for the last one of a method whose last stage is
    the next step's first. States within a step may cost one more. Of `statistics`, `states` stays as it is. There is no
    second derivative, which autograd refuses, and no gradient of `times`, for which ValueError is raised.
    """
    if parameters is None:
        parameters = f.parameters() if isinstance(f, nn.Module) else ()
    statistics = Statistics() if statistics is None else statistics
    if not torch.is_grad_enabled():
        return odeint(f, z0, times, method=method, statistics=statistics, **options)
    if times.requires_grad:
        raise ValueError("times get no gradient here; take odeint_adjoint")
    tableau = TABLEAUS.get(method, method) if isinstance(method, str) else method  # odeint refuses unknown names
    trained = [p for p in parameters if p.requires_grad]
    f = under_this_autocast(f, z0.device.type)
    return _Checkpoint.apply(f, times, tableau, statistics, options, z0, *trained)


class _Checkpoint(torch.autograd.Function):
    """Forward: solve, and keep the states between the steps. Backward: take each step again."""

    @staticmethod
    def forward(ctx, f, times, tableau, statistics, options, z0, *theta):
        seen = Statistics(states=[])
        try:
            states = odeint(f, z0, times, method=tableau, statistics=seen, **options)
        finally:
            statistics.nfe += seen.nfe
            statistics.steps += seen.steps
        ctx.f, ctx.times, ctx.tableau = f, times.tolist(), tableau
        ctx.starts = [step.t for step in seen.steps if step.accepted]
        ctx.save_for_backward(*(seen.states or ()), *theta)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, w):
        """w[i] is what the loss says about the state at times[i] directly."""
        n = len(ctx.starts)
        kept, theta = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        ends = [*ctx.starts[1:], ctx.times[-1]]
        a = torch.zeros_like(w[0])  # dL/dz at the end of the step
        gradients = [torch.zeros_like(p) for p in theta]
        left = len(ctx.times)  # the states at times[left:] have been dealt with
        for z, t, t_next in reversed(list(zip(kept, ctx.starts, ends))):
            inside = [i for i in range(left) if (ctx.times[i] - t) * (t_next - t) > 0]
            z = z.detach().requires_grad_()
            with torch.enable_grad():
                z_next, states = take_step(ctx.f, t, t_next, z, ctx.tableau, [ctx.times[i] for i in inside])
            a, *products = torch.autograd.grad(
                [z_next, *states], [z, *theta], [a, *w[inside]], allow_unused=True, materialize_grads=True
            )
            for total, product in zip(gradients, products):
                total += product
            left -= len(inside)
        return None, None, None, None, None, a + w[:left].sum(dim=0), *gradients


def take_step(f, t, t_next, z, tableau, times) -> tuple[Tensor, list[Tensor]]:
    """The state at the end of a step that the solver has taken before, and those at `times` within it."""

    def velocity(t: float, z: Tensor) -> Tensor:
        return f(z.new_full((), t), z)

    between = any(s != t_next for s in times)
    if tableau.fsal and not between:  # its last stage is the next step's business
        tableau = replace(tableau, c=tableau.c[:-1], a=tableau.a[:-1], b=tableau.b[:-1], error=None, dense=None)
    z_next, stages = runge_kutta_step(velocity, t, t_next, z, tableau)
    f_next = None
    if between:
        f_next = stages[-1] if tableau.fsal else velocity(t_next, z_next)
    return z_next, [state_within(s, t, t_next, z, z_next, stages, f_next, tableau) for s in times]
