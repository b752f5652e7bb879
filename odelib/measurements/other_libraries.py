"""Other libraries for ODEs on the same dynamics: one pass of the ODE block, forward and backward, with each.

Each is asked for dopri5 at rtol = atol = TOLERANCE from t = 0 to t = 1 and for its exact gradient. torchode chooses the
steps of every image of a batch apart; torchdyn differentiates its choice of the first step too. diffrax is for JAX,
where f is written once more; it compiles the whole pass and checkpoints it. As its FAQ asks, only the call of what was
compiled is timed, until its result is there; the first calls are not kept. Those that are not installed are left out:
`pip install torchode torchdyn diffrax`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torchdiffeq
from torch import Tensor, nn

from odelib import solvers

TOLERANCE = 1e-3
MAX_STEPS = 256  # of diffrax, whose checkpoints are laid out for so many

Result = tuple[Tensor, list[Tensor], int]  # dL/dz at t = 0, dL/dtheta in the order of f.parameters(), and NFE


@dataclass(frozen=True)
class Pass:
    """A pass from the state at t = 0, with dL/dz at t = 1: `run` is what is timed, `read` makes tensors of its result.

    So no conversion between arrays of two libraries is on the clock.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Result]


def block_passes(f: nn.Module, z: Tensor, w: Tensor, compiled: bool = False) -> dict[str, Pass]:
    """The libraries that are installed, with their versions, and a pass with each; w is dL/dz at t = 1.

    With `compiled` also those that torch.compile makes faster, whose first calls take minutes and a C++ compiler.
    """
    found = {}
    for name, make in (_PASSES | (_COMPILED if compiled else {})).items():
        library, *how = name.split(", ")
        try:
            found[", ".join([f"{library} {version(library)}", *how])] = make(f, z, w)
        except ImportError:
            continue
    return found


def _by(odeint: Callable, f: nn.Module, z: Tensor, w: Tensor) -> Pass:
    """A pass with torchdiffeq's odeint, or with ours, which has the same call shape."""

    def solve(f, z):
        return odeint(f, z, z.new_tensor([0.0, 1.0]), rtol=TOLERANCE, atol=TOLERANCE)[-1]

    return _in_torch(f, solve, z, w)


def _torchdyn(f: nn.Module, z: Tensor, w: Tensor) -> Pass:
    from torchdyn.numerics import odeint

    def solve(f, z):
        def dynamics(t, z):
            return f(t.squeeze(), z)

        return odeint(dynamics, z, z.new_tensor([0.0, 1.0]), "dopri5", rtol=TOLERANCE, atol=TOLERANCE)[1][-1]

    return _in_torch(f, solve, z, w)


def _torchode(f: nn.Module, z: Tensor, w: Tensor) -> Pass:
    return _in_torch(f, lambda f, z: _solve_by_torchode(_torchode_solver(f, z), z), z, w)


def _torchode_compiled(f: nn.Module, z: Tensor, w: Tensor) -> Pass:
    """The same, with its loop and f compiled. NFE is that of the pass that is not: steps are the same."""
    solver, plain = _torchode_solver(f, z), _torchode(f, z, w)
    solve = torch.compile(lambda z: _solve_by_torchode(solver, z))
    return Pass(partial(_gradient, f, solve, z, w), lambda result: (*result, plain.run()[-1]))


def _torchode_solver(f: Callable, z: Tensor) -> Any:
    import torchode

    term = torchode.ODETerm(lambda t, y: f(t.view(-1, 1, 1, 1), y.view_as(z)).flatten(1))
    controller = torchode.IntegralController(atol=TOLERANCE, rtol=TOLERANCE, term=term)
    step = torchode.Dopri5(term=term)
    return torchode.AutoDiffAdjoint(step, controller, backprop_through_step_size_control=False)


def _solve_by_torchode(solver: Any, z: Tensor) -> Tensor:
    import torchode

    t0, t1 = z.new_zeros(len(z)), z.new_ones(len(z))
    problem = torchode.InitialValueProblem(y0=z.flatten(1), t_start=t0, t_end=t1)
    return solver.solve(problem).ys[:, -1].view_as(z)


def _in_torch(f: nn.Module, solve: Callable, z: Tensor, w: Tensor) -> Pass:
    return Pass(partial(_backpropagate, f, solve, z, w), lambda result: result)


def _backpropagate(f: nn.Module, solve: Callable, z: Tensor, w: Tensor) -> Result:
    calls = []

    def counted(t, z):
        calls.append(t)
        return f(t, z)

    return *_gradient(f, partial(solve, counted), z, w), len(calls)


def _gradient(f: nn.Module, solve: Callable, z: Tensor, w: Tensor) -> tuple[Tensor, list[Tensor]]:
    z = z.detach().requires_grad_()
    dz, *dtheta = torch.autograd.grad(solve(z), [z, *f.parameters()], w)
    return dz, dtheta


def _diffrax(f: Any, z: Tensor, w: Tensor) -> Pass:
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
        """As nine matrix products: XLA's own convolutions can be many times slower on a CPU (openxla/xla#34273)."""
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
        how = {"stepsize_controller": controller, "max_steps": MAX_STEPS}
        solution = diffrax.diffeqsolve(diffrax.ODETerm(dynamics), diffrax.Dopri5(), 0.0, 1.0, None, z, theta, **how)
        return solution.ys[-1], solution.stats["num_steps"]

    @jax.jit
    def compiled(z, w, theta):
        _, backward, steps = jax.vjp(solve, z, theta, has_aux=True)
        return *backward(w), steps

    state, cotangent = (jnp.asarray(x.detach().cpu().numpy().transpose(0, 2, 3, 1)) for x in (z, w))

    def run():
        return jax.block_until_ready(compiled(state, cotangent, theta))

    def read(result):
        dz, dtheta, steps = result
        back = [torch.from_numpy(np.array(dtheta[name])) for name in names]
        # A step of dopri5 costs six evaluations, the first two more: f at the start, and one to guess a step size.
        return torch.from_numpy(np.array(dz.transpose(0, 3, 1, 2))), back, 6 * int(steps) + 2

    return Pass(run, read)


_PASSES: dict[str, Callable[[nn.Module, Tensor, Tensor], Pass]] = {
    "torchdiffeq": partial(_by, torchdiffeq.odeint),
    "torchdyn": _torchdyn,
    "torchode": _torchode,
    "diffrax": _diffrax,
    "odelib": partial(_by, solvers.odeint),
}
_COMPILED: dict[str, Callable[[nn.Module, Tensor, Tensor], Pass]] = {"torchode, compiled": _torchode_compiled}
