"""ODEBlock: a layer whose output is the solution of an ODE, and the one place where NFE is counted."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

# torchdiffeq has no public list of its solvers; this is the dict that its own error message prints.
from torchdiffeq._impl.odeint import SOLVERS
from torchdiffeq._impl.solvers import AdaptiveStepsizeODESolver, FixedGridODESolver

from odelib import gradients, solvers
from odelib.checkpoint import odeint_checkpoint

METHODS = tuple(SOLVERS)
FIXED_GRID = tuple(name for name, solver in SOLVERS.items() if issubclass(solver, FixedGridODESolver))
ADAPTIVE = tuple(name for name, solver in SOLVERS.items() if issubclass(solver, AdaptiveStepsizeODESolver))
GRADIENTS = ("direct", "adjoint", "seminorm", "checkpoint")
LIBRARIES = {  # library: its methods, those of them on fixed grids, adaptive ones
    "torchdiffeq": (METHODS, FIXED_GRID, ADAPTIVE),
    "odelib": (
        tuple(solvers.METHODS),
        tuple(tableau.name for tableau in solvers.TABLEAUS if not tableau.adaptive),
        tuple(tableau.name for tableau in solvers.TABLEAUS if tableau.adaptive),
    ),
}


class OptionError(ValueError):
    """An option out of range, or options that do not fit together. The message says what is allowed."""


def check_solver(
    method: str,
    rtol: float,
    atol: float,
    step_size: float | None,
    gradient: str,
    library: str = "torchdiffeq",
    warm_start: bool = False,
) -> None:
    """Refuse solver options that do not fit together, by an OptionError."""
    if library not in LIBRARIES:
        raise OptionError(f"unknown library {library!r}; choose from {', '.join(LIBRARIES)}")
    methods, fixed, adaptive = LIBRARIES[library]
    if method not in methods:
        raise OptionError(f"unknown method {method!r}; choose from {', '.join(methods)}")
    if gradient not in GRADIENTS:
        raise OptionError(f"unknown gradient {gradient!r}; choose from {', '.join(GRADIENTS)}")
    if not (rtol > 0 and atol > 0):
        raise OptionError(f"rtol and atol must be positive, got rtol={rtol:g}, atol={atol:g}")
    if step_size is not None and method not in fixed:
        raise OptionError(f"step_size is for fixed grids only ({', '.join(fixed)}), not for {method!r}")
    if step_size is not None and not step_size > 0:
        raise OptionError(f"step_size must be positive, got {step_size:g}")
    if gradient == "seminorm" and method not in adaptive:
        raise OptionError(f"gradient 'seminorm' changes how steps are chosen: {method!r} chooses none, take 'adjoint'")
    if gradient == "direct" and method == "scipy_solver":
        raise OptionError("scipy_solver leaves PyTorch, so it has no direct gradient; take gradient 'adjoint'")
    if gradient == "checkpoint" and library != "odelib":
        raise OptionError(f"gradient 'checkpoint' takes the steps again, which {library} does not; take library odelib")
    if warm_start and (library != "odelib" or method not in adaptive):
        raise OptionError("warm_start is for adaptive methods of library odelib")


class ODEBlock(nn.Module):
    """Carry the state from t0 to t1 along dz/dt = f(t, z).     (Chen et al. 2018, eq. 2)

    z is (batch, ...), for images (batch, channels, height, width), and the result has the same shape.

    method
        any solver of the library: `METHODS` of the installed torchdiffeq, or of `odelib.solvers`.
    rtol, atol
        the error that an adaptive solver allows in one step: 1e-3 is enough to train, comparing gradients needs
        1e-6 or less. NFE grows as they shrink. Fixed grids ignore them.
    step_size
        fixed grids only, in units of t; None takes one step from t0 to t1.
    gradient
        `direct` backpropagates through the steps of the solver; `adjoint` solves the adjoint equation backwards in
        time (ibid., Algorithm 1); `seminorm` does so without letting the parameters' part decide the step size
        (Kidger, Chen and Lyons 2021); `checkpoint`, with library odelib only, has the gradient of `direct` at the
        memory of one step (`odelib.checkpoint`).
    library
        `torchdiffeq`, or the book's own solvers: `odelib`. Their rk4 are two different methods.
    warm_start
        adaptive methods of odelib only: begin a solve with the step size that the one before it would have liked to
        begin with, which saves evaluations in training. It is forgotten with every call of train() or eval(), and not
        used while evaluating, so that a prediction does not depend on the batch before.
    bf16
        compute f with 16 bit numbers where torch.autocast finds that safe, as in convolutions. State, steps and error
        estimates keep the type of z. Where a processor has instructions for bfloat16, f is faster; it is about 0.5 %
        off, so that tolerances below 1e-3 mean nothing.

    All are plain attributes: a trained block may be solved again with others. Raises OptionError for options that
    do not fit together, and ValueError when f changes the shape of z: Euler would broadcast it without a word.
    """

    def __init__(
        self,
        f: nn.Module,
        method: str = "dopri5",
        rtol: float = 1e-3,
        atol: float = 1e-3,
        step_size: float | None = None,
        gradient: str = "direct",
        t0: float = 0.0,
        t1: float = 1.0,
        library: str = "torchdiffeq",
        warm_start: bool = False,
        bf16: bool = False,
    ):
        super().__init__()
        self.f = f
        self.method, self.rtol, self.atol, self.step_size = method, rtol, atol, step_size
        self.gradient, self.t0, self.t1 = gradient, t0, t1
        self.library, self.warm_start, self.bf16 = library, warm_start, bf16
        self._first_step: float | None = None  # for the next solve, with warm_start
        self._check()

    def train(self, mode: bool = True) -> "ODEBlock":
        self._first_step = None
        return super().train(mode)

    def forward(self, z: Float[Tensor, "b *state"]) -> Float[Tensor, "b *state"]:
        """The state at t1."""
        return self._solve(z, z.new_tensor([self.t0, self.t1]))[-1]

    def trajectory(self, z: Float[Tensor, "b *state"], times: Float[Tensor, "n"]) -> Float[Tensor, "n b *state"]:
        """The states at `times`, which run strictly from t0 towards t1; the first may be t0 itself."""
        times = times.to(z)
        from_t0 = len(times) > 0 and times[0] == self.t0
        whole = times if from_t0 else torch.cat([z.new_tensor([self.t0]), times])
        if not len(times) or not (whole.diff() * (self.t1 - self.t0) > 0).all():
            raise ValueError(
                f"times must run strictly from t0={self.t0:g} towards t1={self.t1:g}, got {times.tolist()}"
            )
        states = self._solve(z, whole) if len(whole) > 1 else z[None]
        return states if from_t0 else states[1:]

    def _check(self) -> None:
        check_solver(
            self.method, self.rtol, self.atol, self.step_size, self.gradient, self.library, self.warm_start
        )
        if self.t0 == self.t1:
            raise OptionError(f"an ODEBlock needs two different end times, got t0 = t1 = {self.t0:g}")

    def _dynamics(self, t: Float[Tensor, ""], z: Float[Tensor, "b *state"]) -> Tensor:
        with torch.autocast(z.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            dz = self.f(t, z)
        if dz.shape != z.shape:
            raise ValueError(f"f must keep the shape of the state: got {tuple(dz.shape)} for {tuple(z.shape)}")
        return dz.to(z.dtype)

    def _solve(self, z: Tensor, times: Tensor) -> Tensor:
        self._check()  # again, because the attributes may have been changed since the block was built
        return self._solve_by_odelib(z, times) if self.library == "odelib" else self._solve_by_torchdiffeq(z, times)

    def _solve_by_torchdiffeq(self, z: Tensor, times: Tensor) -> Tensor:
        options = {} if self.step_size is None else {"step_size": self.step_size}
        solver = dict(method=self.method, rtol=self.rtol, atol=self.atol, options=options)
        if self.gradient == "direct":
            return odeint(self._dynamics, z, times, **solver)
        if self.gradient == "seminorm":
            solver["adjoint_options"] = {"norm": "seminorm"}
        return odeint_adjoint(self._dynamics, z, times, adjoint_params=tuple(self.f.parameters()), **solver)

    def _solve_by_odelib(self, z: Tensor, times: Tensor) -> Tensor:
        theta = tuple(self.f.parameters())
        solver = dict(method=self.method, rtol=self.rtol, atol=self.atol, step_size=self.step_size)
        seen, warm = solvers.Statistics(), self.warm_start and self.training
        forward = dict(solver, statistics=seen, first_step=self._first_step if warm else None)
        if self.gradient == "direct":
            states = solvers.odeint(self._dynamics, z, times, **forward)
        elif self.gradient == "checkpoint":
            states = odeint_checkpoint(self._dynamics, z, times, theta, **forward)
        else:
            parts = [z.numel(), z.numel()]
            if self.gradient == "adjoint":
                parts += [p.numel() for p in theta if p.requires_grad]
            there = partial(solvers.odeint, **forward)
            back = partial(solvers.odeint, **solver, norm=gradients.norm_of_parts(parts))
            states = gradients.odeint_adjoint(self._dynamics, z, times, there, theta, back)
        if warm:
            first = next(step for step in seen.steps if step.accepted)
            factor = solvers.Controller().factor(first.ratio, 1.0, solvers.METHODS[self.method].order)
            self._first_step = abs(first.h) * factor
        return states

    def extra_repr(self) -> str:
        fixed = self.method in LIBRARIES[self.library][1]
        size = f"step_size={self.step_size}" if fixed else f"rtol={self.rtol:g}, atol={self.atol:g}"
        solver = f"{self.method} of odelib" if self.library == "odelib" else self.method
        return f"{solver}, {size}, gradient={self.gradient}, t from {self.t0:g} to {self.t1:g}"


@dataclass
class Evaluations:
    """A number of function evaluations (NFE): calls of f on a whole batch."""

    n: int = 0


@contextmanager
def count_evaluations(model: nn.Module) -> Iterator[Evaluations]:
    """Count the calls of f in every ODEBlock of `model` within the `with` block; nothing stays on the model.

    Count the forward and the backward pass by one scope each::

        with count_evaluations(model) as forward:
            loss = cross_entropy(model(x), y)
        with count_evaluations(model) as backward:
            loss.backward()
    """
    seen = Evaluations()

    def count(*_) -> None:
        seen.n += 1

    dynamics = {module.f for module in model.modules() if isinstance(module, ODEBlock)}  # two blocks may share one f
    hooks = [f.register_forward_pre_hook(count) for f in dynamics]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
