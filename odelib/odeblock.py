"""ODEBlock: a layer whose output is the solution of an ODE, and the one place where a model's NFE is counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

# torchdiffeq has no public list of its solvers; this is the dict that its own error message prints.
from torchdiffeq._impl.odeint import SOLVERS
from torchdiffeq._impl.solvers import AdaptiveStepsizeODESolver, FixedGridODESolver

from odelib import gradients, solvers
from odelib.errors import OptionError, SolverError
from odelib.options import Options
from odelib.products import ProductODEfunc
from odelib.shapes import Float
from odelib.solvers import Dynamics


@dataclass(frozen=True)
class Methods:
    """The methods of a library by name: those that choose their steps, and those on fixed grids."""

    adaptive: tuple[str, ...]
    fixed: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return self.adaptive + self.fixed


def _of_torchdiffeq(kind: type) -> tuple[str, ...]:
    return tuple(name for name, solver in SOLVERS.items() if issubclass(solver, kind))


def _of_odelib(adaptive: bool) -> tuple[str, ...]:
    return tuple(name for name, tableau in solvers.TABLEAUS.items() if tableau.adaptive == adaptive)


# scipy_solver of torchdiffeq is left out: its LSODA keeps the square of the state, which no batch of images allows.
LIBRARIES = {
    "torchdiffeq": Methods(_of_torchdiffeq(AdaptiveStepsizeODESolver), _of_torchdiffeq(FixedGridODESolver)),
    "odelib": Methods(_of_odelib(adaptive=True), _of_odelib(adaptive=False)),
}


LEAST_TOLERANCE = 1e-4  # with products: above the rounding errors of every tile, some 3e-5 where they are 8 x 8
MAX_STEPS = 10_000  # of one solve, after which to give up, as odelib does by itself; torchdiffeq: between two times


@dataclass(frozen=True)
class Solver(Options):
    """How an ODEBlock is solved and differentiated. Raises OptionError for options that do not fit together.

    method
        a solver of the library: `LIBRARIES` lists them.
    rtol, atol
        the error that an adaptive solver allows in one step: 1e-3 is enough to train, comparing gradients needs
        1e-6 or less. NFE grows as they shrink. Fixed grids ignore them.
    step_size
        fixed grids only, in units of t; None takes one step from t0 to t1.
    gradient
        `direct` backpropagates through the steps of the solver; `adjoint` solves the adjoint equation backwards in
        time (Chen et al. 2018, Algorithm 1); `seminorm` does so without letting the parameters' part decide the step
        size (Kidger, Chen and Lyons 2021); `checkpoint`, with library odelib only, has the gradient of `direct` and
        keeps one state a step, with the graph of a single step (`odelib.gradients.odeint_checkpoint`).
    library
        `torchdiffeq`, or the book's own solvers: `odelib`. Their rk4 are two different methods. A state in float16
        needs odelib, or a fixed grid: the norm that torchdiffeq measures errors in overflows there.
    warm_start
        adaptive methods of odelib only: begin a solve with the step size that the one before it would have liked to
        begin with, which saves evaluations in training. It is forgotten with every call of train() or eval(), and not
        used while evaluating, so that a prediction does not depend on the batch before.
    stop_at_t1
        adaptive methods of torchdiffeq only: end the last step at t1, and that of an adjoint solve at t0, where
        torchdiffeq steps past the end and interpolates. NFE is about the same. Gradients, direct or adjoint, come out
        many times closer where the steps themselves are accurate, as on small smooth dynamics; those of an image block
        hardly change. All other solvers end there anyway.
    bf16
        compute f with 16 bit numbers where torch.autocast finds that safe, as in convolutions. State, steps and error
        estimates keep the type of z. Where a processor has instructions for bfloat16, f is faster; it is about 0.5 %
        off, so that tolerances below 1e-3 mean nothing.
    products
        compute the convolutions of f with fewer multiplications (`odelib.products`): in float32 the same f to some
        1e-5, for an ODEfunc with GroupNorm, and for tolerances of at least 1e-4. Not with bf16, which such products
        would make several percent wrong.
    """

    method: str = "dopri5"  # any solver of the library, such as dopri5, rk4, euler
    rtol: float = 1e-3  # error allowed per step relative to the state (adaptive methods)
    atol: float = 1e-3  # error allowed per step in units of the state (adaptive methods)
    step_size: float | None = None  # fixed grids only; none is one step from t=0 to t=1
    gradient: Literal["direct", "adjoint", "seminorm", "checkpoint"] = "direct"  # how the block is differentiated
    library: Literal["torchdiffeq", "odelib"] = "torchdiffeq"  # whose solver; checkpoint is odelib's alone
    warm_start: bool = False  # first step size taken from the batch before (adaptive methods of library odelib)
    stop_at_t1: bool = False  # no step past the end time (adaptive methods of library torchdiffeq)
    bf16: bool = False  # compute the dynamics with 16 bit numbers
    products: bool = False  # compute the dynamics by matrix products, with fewer multiplications

    @property
    def adaptive(self) -> bool:
        """Whether the method chooses its steps."""
        return self.method in LIBRARIES[self.library].adaptive

    def _check(self) -> None:
        methods = LIBRARIES[self.library]
        if self.method not in methods.names:
            raise OptionError(f"unknown method {self.method!r}; choose from {', '.join(methods.names)}")
        if not (self.rtol > 0 and self.atol > 0):
            raise OptionError(f"rtol and atol must be positive, got rtol={self.rtol:g}, atol={self.atol:g}")
        if self.step_size is not None and self.adaptive:
            raise OptionError(
                f"step_size is for fixed grids only ({', '.join(methods.fixed)}), not for {self.method!r}"
            )
        self._must_be_positive("step_size")
        if self.gradient == "seminorm" and not self.adaptive:
            raise OptionError(
                f"gradient 'seminorm' changes how steps are chosen: {self.method!r} chooses none, take 'adjoint'"
            )
        if self.gradient == "checkpoint" and self.library != "odelib":
            raise OptionError(
                f"gradient 'checkpoint' takes the steps again, which {self.library} does not; take library odelib"
            )
        if self.warm_start and (self.library != "odelib" or not self.adaptive):
            raise OptionError("warm_start is for adaptive methods of library odelib")
        if self.stop_at_t1 and (self.library != "torchdiffeq" or not self.adaptive):
            raise OptionError("stop_at_t1 is for adaptive methods of library torchdiffeq; all others end at t1")
        if self.products and self.bf16:
            raise OptionError("products need 32-bit numbers; take them, or bf16")
        if self.products and self.adaptive and min(self.rtol, self.atol) < LEAST_TOLERANCE:
            raise OptionError(
                f"products, which round, need tolerances of at least {LEAST_TOLERANCE:g}, got rtol={self.rtol:g}, "
                f"atol={self.atol:g}"
            )

    def __str__(self) -> str:
        steps = f"rtol={self.rtol:g}, atol={self.atol:g}" if self.adaptive else f"step_size={self.step_size}"
        method = f"{self.method} of odelib" if self.library == "odelib" else self.method
        return f"{method}, {steps}, gradient={self.gradient}"


class ODEBlock(nn.Module):
    """Carry the state from t0 to t1 along dz/dt = f(t, z).     (Chen et al. 2018, eq. 2)

    z is (batch, ...), for images (batch, channels, height, width), and the result has the same shape. f is a module or
    a function; `solver` says how (`Solver`), and a trained block may be solved again with another:
    `block.solver = replace(block.solver, rtol=1e-5, atol=1e-5)`.

    But for gradient `direct`, the backward pass evaluates f anew. Then f must give again what it gave, so that modules
    of dropout in it are refused while training (`odelib.noise.FixedDropout` in a NoisyODEBlock holds its noise along a
    solve; `F.dropout` is not noticed). Gradients reach the state and the parameters of f, no other tensor: one that f
    uses and that asks for a gradient is refused.

    Raises OptionError for what is refused, SolverError where a solve fails, and ValueError when f changes the shape of
    z: Euler would broadcast it without a word.
    """

    def __init__(
        self, f: Callable[[Tensor, Tensor], Tensor], solver: Solver = Solver(), *, t0: float = 0.0, t1: float = 1.0
    ):
        super().__init__()
        if not isinstance(solver, Solver):
            raise OptionError(f"the solver of an ODEBlock must be a Solver, such as Solver('rk4'), got {solver!r}")
        self.f, self.solver, self.t0, self.t1 = f, solver.part(Solver), float(t0), float(t1)
        self._refuse_equal_ends()
        self.first_step: float | None = None  # for the next solve, with warm_start
        self._counters: list[Evaluations] = []  # of the scopes of count_evaluations that are open
        self._reached: set[int] | None = None  # whom the way back gives a gradient, by id; until f has been looked at

    def train(self, mode: bool = True) -> "ODEBlock":
        self.first_step = None
        return super().train(mode)

    def forward(self, z: Float[Tensor, "b *state"]) -> Float[Tensor, "b *state"]:
        """The state at t1."""
        return self._solve(z, [self.t0, self.t1])[-1]

    def trajectory(self, z: Float[Tensor, "b *state"], times: Float[Tensor, "n"]) -> Float[Tensor, "n b *state"]:
        """The states at `times`, which run strictly from t0 towards t1; the first may be t0 itself.

        A fixed grid is that of `forward`: it ends at t1, and between its points Hermite's cubic interpolates. Times get
        no gradient.
        """
        if times.requires_grad:
            raise ValueError("times get no gradient here; take odelib.gradients.odeint_adjoint")
        # 0.1 is another number in float32 than in Python, yet the same time.
        ends = {torch.tensor(end, dtype=times.dtype).item(): end for end in (self.t0, self.t1)}
        asked = [ends.get(t, t) for t in times.tolist()]
        before = [] if asked[:1] == [self.t0] else [self.t0]
        path, direction = [*before, *asked], self.t1 - self.t0
        if not asked or not all((after - t) * direction > 0 for t, after in pairwise(path)):
            raise ValueError(f"times must run strictly from t0={self.t0:g} towards t1={self.t1:g}, got {asked}")
        if len(path) == 1:
            return z[None]
        if not self.solver.adaptive and path[-1] != self.t1:
            if (self.t1 - path[-1]) * direction < 0:
                raise ValueError(f"the fixed grid ends at t1={self.t1:g}, got {asked}; take an adaptive method beyond")
            path.append(self.t1)
        return self._solve(z, path)[len(before) : len(before) + len(asked)]

    @property
    def _modules_of_f(self) -> tuple[nn.Module, ...]:
        return tuple(self.f.modules()) if isinstance(self.f, nn.Module) else ()

    @property
    def _parameters_of_f(self) -> tuple[Tensor, ...]:
        return tuple(self.f.parameters()) if isinstance(self.f, nn.Module) else ()

    def _dynamics(self, f: Dynamics, t: Float[Tensor, ""], z: Float[Tensor, "b *state"]) -> Tensor:
        if self._counters:
            _count(self._counters)
        with torch.autocast(z.device.type, torch.bfloat16) if self.solver.bf16 else nullcontext():
            dz = f(t, z)
        if dz.shape != z.shape:
            raise ValueError(f"f must keep the shape of the state: got {tuple(dz.shape)} for {tuple(z.shape)}")
        if self._reached is not None and dz.requires_grad:
            self._refuse_what_gets_no_gradient(dz, t, z, self._reached)
            self._reached = None
        return dz.to(z.dtype)

    def _dynamics_of_this_solve(self, f: Dynamics) -> Dynamics:
        """f as the solver asks it, now and on the way back."""
        return partial(self._dynamics, f)

    def _refuse_what_gets_no_gradient(self, dz: Tensor, t: Tensor, z: Tensor, reached: set[int]) -> None:
        """Follow the graph of dz = f(t, z) to the tensors that it begins with."""
        known = {id(t), id(z), *reached}
        nodes: list[Any] = [dz.grad_fn]
        seen = {None, t.grad_fn, z.grad_fn}  # what t and z were made of is no matter of f
        while nodes:
            node = nodes.pop()
            if node in seen:
                continue
            seen.add(node)
            leaf = getattr(node, "variable", None)
            if leaf is not None and id(leaf) not in known:
                raise OptionError(
                    f"f uses a tensor of shape {tuple(leaf.shape)} that asks for a gradient and is no parameter of f: "
                    f"gradient {self.solver.gradient!r} would give it none; make it a parameter of f, or take 'direct'"
                )
            nodes += [before for before, _ in node.next_functions]

    def _refuse_equal_ends(self) -> None:
        if self.t0 == self.t1:
            raise OptionError(f"an ODEBlock needs two different end times, got t0 = t1 = {self.t0:g}")

    def _refuse_dropout(self) -> None:
        for module in self._modules_of_f:
            if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p:
                raise OptionError(
                    f"{type(module).__name__} in f draws anew at every evaluation, which gradient "
                    f"{self.solver.gradient!r} cannot repeat; take odelib.noise.FixedDropout, or gradient 'direct'"
                )

    def _solve(self, z: Tensor, times: list[float]) -> Tensor:
        self._refuse_equal_ends()
        if not z.numel():  # no image, no error to measure
            return torch.stack([z] * len(times))
        if torch.is_grad_enabled():
            self._reached = None
            if self.solver.gradient != "direct":
                self._refuse_dropout()
                self._reached = {id(parameter) for parameter in self._parameters_of_f}
        solve = self._solve_by_odelib if self.solver.library == "odelib" else self._solve_by_torchdiffeq
        if not self.solver.products:
            return solve(self._dynamics_of_this_solve(self.f), z, times)
        f = ProductODEfunc(self.f, z)
        states = solve(self._dynamics_of_this_solve(f), f.enter(z), times)
        return torch.stack([f.leave(x) for x in states]).to(z.dtype)

    def _grid(self, times: list[float]) -> dict[str, float]:
        """The step size that makes a fixed grid over `times` that of `forward`."""
        if self.solver.step_size is not None:
            return {"step_size": self.solver.step_size}
        one_step = 2 * abs(self.t1 - self.t0)  # longer than the way, whatever is rounded
        return {"step_size": one_step} if len(times) > 2 and not self.solver.adaptive else {}

    def _solve_by_torchdiffeq(self, f: Dynamics, z: Tensor, times: list[float]) -> Tensor:
        s, grid = self.solver, self._grid(times)
        options: dict[str, Any] = {"max_num_steps": MAX_STEPS} if s.adaptive else grid
        moments = torch.tensor(times, dtype=torch.promote_types(z.dtype, torch.float32), device=z.device)
        if grid:
            solvers.grid_points(moments, grid["step_size"], MAX_STEPS)  # raises SolverError for too many
            options = grid | {"interp": "cubic"} if len(times) > 2 else grid
        back = options | {"norm": "seminorm"} if s.gradient == "seminorm" else options
        if s.stop_at_t1:
            options = options | {"step_t": moments.new_tensor([self.t1])}
            # The way back ends at each time before. By then torchdiffeq has negated times that fall, but not these.
            back = back | {"step_t": moments[:-1] if self.t0 < self.t1 else -moments[:-1]}
        solver: dict[str, Any] = dict(method=s.method, rtol=s.rtol, atol=s.atol, options=options)
        with _assertions_in_words():
            if s.gradient == "direct":
                return odeint(f, z, moments, **solver)
            theta = self._parameters_of_f
            return odeint_adjoint(f, z, moments, adjoint_params=theta, adjoint_options=back, **solver)

    def _solve_by_odelib(self, f: Dynamics, z: Tensor, times: list[float]) -> Tensor:
        s, theta = self.solver, self._parameters_of_f
        moments = torch.tensor(times, dtype=torch.float64)  # on the CPU: a solver reads them, f never does
        solver: dict[str, Any] = dict(method=s.method, rtol=s.rtol, atol=s.atol, **self._grid(times))
        seen, warm = solvers.Statistics(), s.warm_start and self.training
        forward = dict(solver, statistics=seen, first_step=self.first_step if warm else None)
        if s.gradient == "direct":
            states = solvers.odeint(f, z, moments, **forward)
        elif s.gradient == "checkpoint":
            states = gradients.odeint_checkpoint(f, z, moments, theta, **forward)
        else:
            parts = [z.numel(), z.numel()]
            if s.gradient == "adjoint":
                parts += [p.numel() for p in theta if p.requires_grad]
            there = partial(solvers.odeint, **forward)
            back = partial(solvers.odeint, **solver, norm=gradients.norm_of_parts(parts))
            states = gradients.odeint_adjoint(f, z, moments, there, theta, back)
        if warm and seen.steps:
            first = next(step for step in seen.steps if step.accepted)
            factor = solvers.Controller().factor(first.ratio or 0.0, 1.0, solvers.TABLEAUS[s.method].order)
            self.first_step = abs(first.h) * factor
        return states

    def extra_repr(self) -> str:
        return f"{self.solver}, t from {self.t0:g} to {self.t1:g}"


# What torchdiffeq's assertions begin with, and what they mean; others are somebody else's.
_ASSERTIONS = {
    "max_num_steps exceeded": f"max_steps={MAX_STEPS} reached",
    "underflow in dt": "the step size vanished (underflow in dt): f is steep, jumps or is not finite",
    "non-finite values in state": "the state is not finite",
}


def in_words(error: AssertionError) -> str | None:
    """What an assertion of torchdiffeq means, and what to try; None for somebody else's."""
    found = [why for said, why in _ASSERTIONS.items() if str(error).startswith(said)]
    return f"{found[0]}; try a larger tolerance, a smoother f or a fixed grid" if found else None


@contextmanager
def _assertions_in_words() -> Iterator[None]:
    """Raise SolverError where torchdiffeq fails an assertion. (Those of a backward pass autograd hands on.)"""
    try:
        yield
    except AssertionError as error:
        why = in_words(error)
        if why is None:
            raise
        raise SolverError(why) from error


def ode_blocks(model: nn.Module) -> list[ODEBlock]:
    """Every ODEBlock of a model."""
    return [module for module in model.modules() if isinstance(module, ODEBlock)]


def change_solver(model: nn.Module, solver: Solver) -> None:
    """Solve every ODEBlock of `model` with this solver from now on."""
    for block in ode_blocks(model):
        block.solver = solver.part(Solver)


@dataclass
class Evaluations:
    """A number of function evaluations (NFE): calls of f on a whole batch."""

    n: int = 0


def _count(counters: list[Evaluations]) -> None:
    for counter in counters:
        counter.n += 1


# As by torch.compiler.disable, which would import the compiler here: compiled code takes a number that it finds on a
# module for a constant, and would be compiled anew for each.
_count._torchdynamo_disable = True  # type: ignore[attr-defined]


@contextmanager
def count_evaluations(model: nn.Module) -> Iterator[Evaluations]:
    """Count the evaluations of f in every ODEBlock of `model` within the `with` block; nothing stays on the model.

    Count the forward and the backward pass by one scope each::

        with count_evaluations(model) as forward:
            loss = cross_entropy(model(x), y)
        with count_evaluations(model) as backward:
            loss.backward()
    """
    seen, blocks = Evaluations(), ode_blocks(model)
    for block in blocks:
        block._counters.append(seen)
    try:
        yield seen
    finally:
        for block in blocks:
            block._counters = [counter for counter in block._counters if counter is not seen]
