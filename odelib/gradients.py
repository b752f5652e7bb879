"""The adjoint method from its formulas: one autograd Function around any solver.   (the book's chapter `adjoint`)

Written to be read beside the derivation. For training take ODEBlock, whose torchdiffeq does more and has been used more.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Dynamics = Callable[[Tensor, Tensor], Tensor]
Solver = Callable[[Dynamics, Tensor, Tensor], Tensor]


def odeint_adjoint(
    f: Dynamics,
    z0: Float[Tensor, "*state"],
    times: Float[Tensor, "n"],
    solve: Solver,
    parameters: Sequence[Tensor] | None = None,
) -> Float[Tensor, "n *state"]:
    """The states of dz/dt = f(t, z) at `times`, differentiable by the adjoint.   (Chen et al. 2018, Algorithm 2)

    z0 is the state at times[0], of any shape. `times` run strictly up or strictly down, in the unit of t.
    `solve(f, z, times)` is any solver: it returns the states (n, *state) at all `times`, the first of which is z. It
    is used forward for z, and backward, once for every interval, for the flat vector of z, a and the gradient of
    theta; so an adaptive one sees a single norm over all three. Gradients reach z0, `times` and `parameters`, which
    are those of f by default; tensors that f uses and that are not among them get none. Parameters have the dtype of
    z0. A second derivative is refused by autograd.

    Raises ValueError when `times` are not such, or when f or `solve` return another shape than they should.
    """
    if times.ndim != 1 or len(times) < 2 or not times.is_floating_point():
        raise ValueError(f"times must be a vector of at least two floats, got {times.tolist()}")
    if not ((times.diff() > 0).all() or (times.diff() < 0).all()):
        raise ValueError(f"times must run strictly up or strictly down, got {times.tolist()}")
    if parameters is None:
        parameters = tuple(f.parameters()) if isinstance(f, nn.Module) else ()
    parameters = [p for p in parameters if p.requires_grad]  # frozen ones need no place in the backward equation

    def dynamics(t: Tensor, z: Tensor) -> Tensor:
        dz = f(t, z)
        if dz.shape != z.shape:
            raise ValueError(f"f must keep the shape of the state: got {tuple(dz.shape)} for {tuple(z.shape)}")
        return dz

    return _Adjoint.apply(dynamics, solve, times, z0, *parameters)


class _Adjoint(torch.autograd.Function):
    """Forward: solve and keep the states asked for, no step in between. Backward: the adjoint equation."""

    @staticmethod
    def forward(ctx, f, solve, times, z0, *theta):
        states = solve(f, z0, times)
        if states.shape != (len(times), *z0.shape):
            expected = (len(times), *z0.shape)
            raise ValueError(f"solve must return the shape {expected}, one state a time: got {tuple(states.shape)}")
        ctx.f, ctx.solve = f, solve
        ctx.save_for_backward(times, states, *theta)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, w):
        """w[i] = dL/dz(times[i]), the direct part alone: what the loss itself says about that state."""
        times, states, *theta = ctx.saved_tensors
        sizes = [states[0].numel(), states[0].numel(), sum(p.numel() for p in theta)]

        def backward_dynamics(t: Tensor, y: Tensor) -> Tensor:
            """d/dt of (z, a, g) = (f, -J^T a, -(df/dtheta)^T a), all flat."""
            z, a, _ = y.split(sizes)
            with torch.enable_grad():
                z = z.reshape(w[0].shape).detach().requires_grad_()
                dz = ctx.f(t, z)
            if not dz.requires_grad:  # f depends on t alone
                return torch.cat([dz.flatten(), torch.zeros_like(y[sizes[0] :])])
            products = torch.autograd.grad(dz, [z, *theta], a.view_as(dz), allow_unused=True, materialize_grads=True)
            return torch.cat([dz.detach().flatten(), *(-product.flatten() for product in products)])

        a = torch.zeros_like(w[0])
        g = a.new_zeros(sizes[2])  # the gradient of theta, gathered from the end to the start
        for i in range(len(times) - 1, 0, -1):
            a = a + w[i]  # the jump at an observation
            y = torch.cat([states[i].flatten(), a.flatten(), g])  # z afresh from the stored state
            _, a, g = ctx.solve(backward_dynamics, y, times[[i, i - 1]])[-1].split(sizes)
            a = a.view_as(w[0])

        dtimes = None
        if ctx.needs_input_grad[2]:
            dtimes = torch.stack([(w[i] * ctx.f(times[i], states[i])).sum() for i in range(len(times))]).to(times)
            dtimes[0] = -(a * ctx.f(times[0], states[0])).sum()  # z(t0) is given: here the clock moves, not the state
        gradients = [part.view_as(p) for part, p in zip(g.split([p.numel() for p in theta]), theta, strict=True)]
        return None, None, dtimes, a + w[0], *gradients
