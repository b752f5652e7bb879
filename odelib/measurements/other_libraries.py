"""Other libraries for ODEs on the same dynamics: one pass of the ODE block, forward and backward, with each.

Each is asked for dopri5 at rtol = atol = TOLERANCE from t = 0 to t = 1 and for its exact gradient. torchode chooses the
steps of every image of a batch apart; torchdyn differentiates its choice of the first step too. diffrax is for JAX,
where f is written once more; it compiles the whole pass and checkpoints it. Those that are not installed are left out:
`pip install torchode torchdyn diffrax`.
"""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torchdiffeq
from torch import Tensor, nn

from odelib import solvers

TOLERANCE = 1e-3

# From the state at t = 0 and dL/dz at t = 1: dL/dz at t = 0, dL/dtheta in the order of f.parameters(), and NFE.
BlockPass = Callable[[Tensor, Tensor], tuple[Tensor, list[Tensor], int]]


def block_passes(f: nn.Module) -> dict[str, BlockPass]:
    """The libraries that are installed, with their versions, and a pass with each."""
    found = {}
    for name, make in _PASSES.items():
        try:
            block_pass = make(f)
        except ImportError:
            continue
        found[f"{name} {version(name)}"] = block_pass
    return found


def _by(odeint: Callable, f: nn.Module) -> BlockPass:
    """A pass with torchdiffeq's odeint, or with ours, which has the same call shape."""

    def solve(f, z):
        return odeint(f, z, z.new_tensor([0.0, 1.0]), rtol=TOLERANCE, atol=TOLERANCE)[-1]

    return partial(_backpropagate, f, solve)


def _torchdyn(f: nn.Module) -> BlockPass:
    from torchdyn.numerics import odeint

    def solve(f, z):
        def dynamics(t, z):
            return f(t.squeeze(), z)

        return odeint(dynamics, z, z.new_tensor([0.0, 1.0]), "dopri5", rtol=TOLERANCE, atol=TOLERANCE)[1][-1]

    return partial(_backpropagate, f, solve)


def _torchode(f: nn.Module) -> BlockPass:
    import torchode

    def solve(f, z):
        term = torchode.ODETerm(lambda t, y: f(t.view(-1, 1, 1, 1), y.view_as(z)).flatten(1))
        controller = torchode.IntegralController(atol=TOLERANCE, rtol=TOLERANCE, term=term)
        step = torchode.Dopri5(term=term)
        solver = torchode.AutoDiffAdjoint(step, controller, backprop_through_step_size_control=False)
        t0, t1 = z.new_zeros(len(z)), z.new_ones(len(z))
        problem = torchode.InitialValueProblem(y0=z.flatten(1), t_start=t0, t_end=t1)
        return solver.solve(problem).ys[:, -1].view_as(z)

    return partial(_backpropagate, f, solve)


def _backpropagate(f: nn.Module, solve, z: Tensor, w: Tensor) -> tuple[Tensor, list[Tensor], int]:
    calls = []

    def counted(t, z):
        calls.append(t)
        return f(t, z)

    z = z.detach().requires_grad_()
    dz, *dtheta = torch.autograd.grad(solve(counted, z), [z, *f.parameters()], w)
    return dz, dtheta, len(calls)


def _diffrax(f: Any) -> BlockPass:
    import diffrax
    import jax
    import jax.numpy as jnp

    names = [name for name, _ in f.named_parameters()]
    theta = {name: jnp.asarray(p.detach().cpu().numpy()) for name, p in f.named_parameters()}
    groups, eps = f.norm1.num_groups, f.norm1.eps

    def norm(z, theta, name):
        by_group = z.reshape(*z.shape[:3], groups, -1)
        mean, variance = by_group.mean((1, 2, 4), keepdims=True), by_group.var((1, 2, 4), keepdims=True)
        z = ((by_group - mean) * jax.lax.rsqrt(variance + eps)).reshape(z.shape)
        return z * theta[f"{name}.weight"] + theta[f"{name}.bias"]

    def convolve(z, weight):
        """As nine matrix products: XLA's own convolution on a CPU is a hundred times slower within a loop."""
        height, width = z.shape[1:3]
        z = jnp.pad(z, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return sum(z[:, i : i + height, j : j + width] @ weight[:, :, i, j].T for i in range(3) for j in range(3))

    def conv(t, z, theta, name):
        weight, ones = theta[f"{name}.conv.weight"], jnp.ones_like(z[:1, :, :, :1])
        return convolve(z, weight[:, 1:]) + theta[f"{name}.conv.bias"] + t * convolve(ones, weight[:, :1])

    def dynamics(t, z, theta):
        z = conv(t, jax.nn.relu(norm(z, theta, "norm1")), theta, "conv1")
        z = conv(t, jax.nn.relu(norm(z, theta, "norm2")), theta, "conv2")
        return norm(z, theta, "norm3")

    def solve(z, theta):
        controller = diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(dynamics), diffrax.Dopri5(), 0.0, 1.0, None, z, theta, stepsize_controller=controller
        )
        return solution.ys[-1], solution.stats["num_steps"]

    @jax.jit
    def compiled(z, w, theta):
        _, backward, steps = jax.vjp(solve, z, theta, has_aux=True)
        return *backward(w), steps

    def block_pass(z, w):
        z, w = (jnp.asarray(x.detach().cpu().numpy()).transpose(0, 2, 3, 1) for x in (z, w))
        dz, dtheta, steps = compiled(z, w, theta)
        back = [torch.from_numpy(np.array(dtheta[name])) for name in names]
        # A step of dopri5 costs six evaluations, the first two more: f at the start, and one to guess a step size.
        return torch.from_numpy(np.array(dz.transpose(0, 3, 1, 2))), back, 6 * int(steps) + 2

    return block_pass


_PASSES: dict[str, Callable[[nn.Module], BlockPass]] = {
    "torchdiffeq": partial(_by, torchdiffeq.odeint),
    "torchdyn": _torchdyn,
    "torchode": _torchode,
    "diffrax": _diffrax,
    "odelib": partial(_by, solvers.odeint),
}
