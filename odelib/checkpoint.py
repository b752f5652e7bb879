"""The gradient `checkpoint`: the exact gradient of a solve, at the memory of one of its steps.

Backpropagation through a solver keeps what every evaluation of f needs, for all steps at once. Here the forward pass
keeps the state at the start of every accepted step, and no more. The backward pass takes the steps again, the last one
first, and backpropagates through each before it takes the next. As in ANODE (Gholami, Keutzer and Biros 2019) and ACA
(Zhuang et al. 2020); rejected steps, whose sizes count as constants, are never taken again.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from odelib.solvers import METHODS, Dynamics, Statistics, Tableau, odeint, runge_kutta_step, state_within


def odeint_checkpoint(
    f: Dynamics,
    z0: Float[Tensor, "*state"],
    times: Float[Tensor, "n"],
    parameters: Sequence[Tensor] | None = None,
    method: str | Tableau = "dopri5",
    statistics: Statistics | None = None,
    **options,
) -> Float[Tensor, "n *state"]:
    """The states of `odelib.solvers.odeint`, with the same gradient and less memory.

    The arguments are those of odeint, and `parameters`: gradients reach z0 and these, which are those of f by default;
    other tensors that f uses get none. f must give the same result when it is asked again. A step costs one more
    evaluation of f for each of its stages, in the backward pass. There is no second derivative: autograd refuses it.
    """
    if parameters is None:
        parameters = f.parameters() if isinstance(f, nn.Module) else ()
    statistics = Statistics() if statistics is None else statistics
    if not torch.is_grad_enabled():
        return odeint(f, z0, times, method=method, statistics=statistics, **options)
    tableau = METHODS.get(method, method)  # an unknown name is odeint's to refuse
    trained = [p for p in parameters if p.requires_grad]
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
        ctx.save_for_backward(*seen.states, *theta)
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
