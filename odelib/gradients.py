"""The adjoint method from its formulas: one autograd Function around any solver.

Written to be read beside the book's chapter `adjoint`. For training take ODEBlock: torchdiffeq
does the same and has been used more.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from odelib.solvers import Norm, root_mean_square

Dynamics = Callable[[Tensor, Tensor], Tensor]
Solver = Callable[[Dynamics, Tensor, Tensor], Tensor]


def odeint_adjoint(
    f: Dynamics,
    z0: Float[Tensor, "*state"],
    times: Float[Tensor, "n"],
    solve: Solver,
    parameters: Sequence[Tensor] | None = None,
    solve_back: Solver | None = None,
) -> Float[Tensor, "n *state"]:
    """The states of dz/dt = f(t, z) at `times`.          (Chen et al. 2018, Algorithm 2)

    z0 is the state at times[0], of any shape. `times` run strictly up or strictly down.
    `solve(f, z, times)` is any solver: it returns the states `(n, *state)` at all `times`, the
    first of which is z. It is used forward for z, and backward, once for every interval, for
    the flat vector of z, a and the gradient of theta; an adaptive one so has a single norm
    over all three, unless a `solve_back` for the way back brings another, such as
    `norm_of_parts`. Gradients reach z0, `times` and `parameters`, which are those of f by
    default and have the dtype of z0; other tensors that f uses get none. There is no second
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
    return _Adjoint.apply(dynamics, solve, solve_back or solve, times, z0, *trained)


def norm_of_parts(sizes: Sequence[int]) -> Norm:
    """The largest root mean square among parts of a flat vector, of these sizes; what lies behind them is free.

    The parts z, a and each parameter make torchdiffeq's norm for the backward solve; z and a alone make the seminorm of
    Kidger, Chen and Lyons (2021): g is a mere integral, which nothing else depends on.
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
        sizes = [w[0].numel(), w[0].numel(), sum(p.numel() for p in theta)]

        def backward_dynamics(t: Tensor, y: Tensor) -> Tensor:
            """d/dt of (z, a, g) = (f, -J^T a, -f_theta^T a), flat."""
            z, a, _ = y.split(sizes)
            with torch.enable_grad():
                z = z.view_as(w[0]).detach().requires_grad_()
                dz = ctx.f(t, z)
            if not dz.requires_grad:  # f depends on the time alone
                return torch.cat([dz.flatten(), torch.zeros_like(y[sizes[0] :])])
            products = torch.autograd.grad(
                dz, [z, *theta], a.view_as(dz), allow_unused=True, materialize_grads=True
            )
            dz = dz.detach().flatten()
            return torch.cat([dz, *(-part.flatten() for part in products)])

        a = torch.zeros_like(w[0])
        g = a.new_zeros(sizes[2])  # the gradient of theta, gathered on the way back
        for i in reversed(range(1, len(times))):
            a = a + w[i]  # the jump at an observation
            y = torch.cat([states[i].flatten(), a.flatten(), g])  # z afresh, as it was stored
            _, a, g = ctx.solve_back(backward_dynamics, y, times[[i, i - 1]])[-1].split(sizes)
            a = a.view_as(w[0])

        dtimes = None
        if ctx.needs_input_grad[3]:
            dtimes = [(w[i] * ctx.f(times[i], states[i])).sum() for i in range(len(times))]
            dtimes[0] = -(a * ctx.f(times[0], states[0])).sum()  # z0 is given, whatever t0 is
            dtimes = torch.stack(dtimes).to(times)
        parts = g.split([p.numel() for p in theta])
        return None, None, None, dtimes, a + w[0], *(v.view_as(p) for v, p in zip(parts, theta))
