"""The benchmark: seconds per training step with torchdiffeq's solver and with the book's own, beside their floors."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from odelib.data import batches
from odelib.measurements.gradient_error import Problem, block_gradient
from odelib.measurements.measurement import Measurement, Subject, Timed
from odelib.measurements.other_libraries import block_passes
from odelib.measurements.sizes import SIZES, SizeRow, Sizes, size_actions, size_rows
from odelib.measurements.timing import interleave
from odelib.models import ImageClassifier
from odelib.odeblock import ODEBlock, Solver, change_solver, ode_blocks
from odelib.odefunc import ODEfunc, TimeConv2d
from odelib.products import ProductODEfunc
from odelib.records import Environment, Record
from odelib.saved_bytes import count_saved_bytes
from odelib.training import Training, make_optimizer, train_step

_OWN = Solver(library="odelib")
_CHECKPOINT = replace(_OWN, gradient="checkpoint")
_WARM = replace(_OWN, method="bosh3", warm_start=True)
_GRID = replace(_OWN, method="ralston3", step_size=1 / 3)
_CONCATENATED = ", time channel concatenated"  # as odenet_mnist.py does it
_STEM_BF16 = ", bf16 in the stem"
SCRIPT = "torchdiffeq direct" + _CONCATENATED
SCRIPT_ADJOINT = "torchdiffeq adjoint" + _CONCATENATED
CASES: dict[str, Solver] = {
    SCRIPT: Solver(),
    SCRIPT_ADJOINT: Solver(gradient="adjoint"),
    "torchdiffeq direct": Solver(),
    "torchdiffeq adjoint": Solver(gradient="adjoint"),
    "torchdiffeq seminorm": Solver(gradient="seminorm"),
    "odelib direct": _OWN,
    "odelib adjoint": replace(_OWN, gradient="adjoint"),
    "odelib seminorm": replace(_OWN, gradient="seminorm"),
    "odelib checkpoint": _CHECKPOINT,
    "odelib direct, warm start": replace(_OWN, warm_start=True),
    "odelib checkpoint, warm start": replace(_CHECKPOINT, warm_start=True),
    "odelib direct, tsit5": replace(_OWN, method="tsit5"),
    "odelib direct, bosh3": replace(_OWN, method="bosh3"),
    "odelib checkpoint, bosh3": replace(_CHECKPOINT, method="bosh3"),
    "odelib direct, bosh3, warm start": _WARM,
    "odelib checkpoint, bosh3, warm start": replace(_WARM, gradient="checkpoint"),
    "torchdiffeq direct, rk4 in 4 steps": Solver("rk4", step_size=1 / 4),
    "odelib direct, rk4 in 4 steps": replace(_OWN, method="rk4", step_size=1 / 4),
    "odelib direct, ralston3 in 3 steps": _GRID,
    "odelib checkpoint, ralston3 in 3 steps": replace(_GRID, gradient="checkpoint"),
    "odelib direct, products": replace(_OWN, products=True),
    "odelib adjoint, products": replace(_OWN, gradient="adjoint", products=True),
    "odelib direct, bosh3, warm start, products": replace(_WARM, products=True),
    "odelib direct, ralston3 in 3 steps, products": replace(_GRID, products=True),
    "odelib checkpoint, ralston3 in 3 steps, products": replace(_GRID, gradient="checkpoint", products=True),
    "odelib checkpoint, ralston3 in 2 steps, products": replace(
        _GRID, step_size=1 / 2, gradient="checkpoint", products=True
    ),
    "torchdiffeq direct, bf16": Solver(bf16=True),
    "odelib direct, bf16": replace(_OWN, bf16=True),
    "odelib direct, bosh3, warm start, bf16": replace(_WARM, bf16=True),
    "odelib direct, ralston3 in 3 steps, bf16" + _STEM_BF16: replace(_GRID, bf16=True),
    "odelib checkpoint, ralston3 in 3 steps, bf16" + _STEM_BF16: replace(_GRID, gradient="checkpoint", bf16=True),
    "odelib direct, ralston3 in 3 steps, products" + _STEM_BF16: replace(_GRID, products=True),
}

# Ways to compute f, faster or not: by matrix products; with 16 bit numbers; with the channels of a pixel side by side;
# by torch.compile.
EVALUATIONS = ("fp32", "products", "bf16", "channels last", "compiled")
_BATCHES = 8  # taken in turns; a warm start so meets new images at every step
_REPEATS = 5  # bare evaluations that are timed together
MATRIX = 1024  # of the square matrices whose product shows what the machine can do


@dataclass(frozen=True)
class BenchmarkRow(Timed):
    """One case. Its floor is the network without its block, and NFE bare evaluations of f.

    An evaluation of the forward pass counts forwards, and backwards too with gradient direct; one of the backward pass
    counts both. Direct does not differentiate all of its evaluations (`tests/test_benchmark.py` counts them): those of
    rejected steps, of the guess of a first step and of the last error estimate only run forwards, so that a step can
    be faster than its floor.
    """

    KEY = ("case",)
    DERIVED = ("floor",)

    case: str
    nfe_forward: float  # mean over the steps that were timed
    nfe_backward: float
    seconds: tuple[float, ...]  # of one training step, one value a round
    floor: float  # seconds, from medians
    peak_bytes: int  # the most that the block holds at one time for its backward pass, and during it
    theta_error: float  # relative distance of the gradient from the exact one, in the 2-norm
    state_error: float


@dataclass(frozen=True)
class BareEvaluation:
    """Seconds of one evaluation of f, without a solver around it, computed in one of the ways of EVALUATIONS."""

    KEY = ("way",)

    way: str
    forward: tuple[float, ...]  # one value a round
    forward_backward: tuple[float, ...]  # with its derivatives by state and parameters

    @property
    def medians(self) -> tuple[float, float]:
        return float(np.median(self.forward)), float(np.median(self.forward_backward))


@dataclass(frozen=True)
class LibraryRow(Timed):
    """One pass of the block, forward and backward, with dopri5 of one library (`measurements.other_libraries`)."""

    KEY = ("library",)

    library: str  # with its version
    nfe: int
    seconds: tuple[float, ...]
    theta_error: float  # as in BenchmarkRow
    state_error: float


@dataclass(frozen=True)
class Benchmark(Record):
    """Training steps of all cases, taken in turns in one process with what bounds them from below."""

    environment: Environment  # its `threads` are those that the times were taken with
    dataset: str
    batch_size: int
    images: int  # for which gradients are compared with the exact ones
    reference_error: float  # distance of the exact gradient from one of a ten times larger tolerance
    without_block: tuple[float, ...]  # seconds per step of the network without its block
    without_block_bf16: tuple[float, ...]  # the same with 16 bit numbers in the stem
    bare: tuple[BareEvaluation, ...]  # the first one is the usual
    evaluation_flops: tuple[int, int]  # in the convolutions of an evaluation, and with its derivatives
    machine_flops: tuple[float, ...]  # per second, in products of square matrices
    rows: tuple[BenchmarkRow, ...]
    libraries: tuple[LibraryRow, ...]  # those that were installed
    sizes: tuple[SizeRow, ...]  # maps of several sizes

    def __str__(self) -> str:
        share = max(self.machine_flops) * self.bare[0].medians[1] / self.evaluation_flops[1]
        lines = [
            str(self.environment),
            f"an evaluation with its derivatives takes {share:.2f} times what its products would at the machine's peak",
            *(f"f {b.way}: {b.medians[0]:.4f} s, with its derivatives {b.medians[1]:.4f} s" for b in self.bare),
            f"{'case':46} {'NFE':>11} {'ms':>7} {'/ floor':>7} {'MB':>6} {'error':>6}",
        ]
        for row in self.rows:
            nfe = f"{row.nfe_forward:.1f} + {row.nfe_backward:.1f}"
            median = row.quartiles[1]
            lines.append(
                f"{row.case:46} {nfe:>11} {1e3 * median:7.1f} {median / row.floor:7.2f} "
                f"{row.peak_bytes / 1e6:6.1f} {row.theta_error:6.3f}"
            )
        lines.append("one pass of the block, forward and backward:")
        for other in self.libraries:
            lines.append(
                f"{other.library:46} {other.nfe:>11} {1e3 * other.quartiles[1]:7.1f} {'':14} {other.theta_error:6.3f}"
            )
        lines.append("times faster by products, one convolution and a step of a block:")
        for size in self.sizes:
            one, block = size.times_faster
            lines.append(f"{size.size} x {size.size}, {size.channels} channels: {one:.2f}, {block:.2f}")
        return "\n".join(lines)


class ConcatConv2d(nn.Module):
    """TimeConv2d as odenet_mnist.py has it: the same function, by copying the state behind a channel of the time."""

    def __init__(self, same: TimeConv2d):
        super().__init__()
        self.conv = same.conv

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return self.conv(torch.cat([torch.ones_like(z[:, :1]) * t, z], dim=1))


def network_of(case: str, solver: Solver, trained: ImageClassifier) -> ImageClassifier:
    """A copy of the trained network, in training mode, with the solver and the time channel of a case."""
    model = copy.deepcopy(trained)
    change_solver(model, solver)
    model.stem_bf16 = case.endswith(_STEM_BF16)
    if case.endswith(_CONCATENATED):
        for f in (block.f for block in ode_blocks(model)):
            assert isinstance(f, ODEfunc) and isinstance(f.conv1, TimeConv2d) and isinstance(f.conv2, TimeConv2d)
            f.conv1, f.conv2 = ConcatConv2d(f.conv1), ConcatConv2d(f.conv2)
    return model.train()


def measure_benchmark(
    subject: Subject,
    batch_size: int = 128,
    rounds: int = 21,
    images: int = 32,
    cases: dict[str, Solver] = CASES,
    evaluations: tuple[str, ...] = EVALUATIONS,
    sizes: Sizes = SIZES,
    timer: Callable[..., dict[str, list[float]]] = interleave,
) -> Benchmark:
    """Time the training step of every case of CASES on the same batches, with the weights of the trained network.

    The learning rate is 0: all the work of an update is done, and the weights, on which NFE depends, stay. Peak bytes
    and gradient errors are taken apart from the clock.
    """
    device = subject.device
    trained, data = subject.trained.to(device), subject.data.to(device)
    problem = Problem(subject, images)
    steps_in = list(islice(batches(data.train, batch_size), _BATCHES))
    models = {case: network_of(case, solver, trained) for case, solver in cases.items()}
    blockless, blockless_bf16 = (copy.deepcopy(trained).train() for _ in range(2))
    blockless.block = blockless_bf16.block = nn.Identity()
    blockless_bf16.stem_bf16 = True
    nfe: dict[str, list[tuple[int, int]]] = {case: [] for case in models}

    def training_step(model: ImageClassifier, seen: list) -> Callable[[], None]:
        optimizer, order = make_optimizer(model, Training()), cycle(steps_in)
        optimizer.param_groups[0]["lr"] = 0.0
        return lambda: seen.append(train_step(model, optimizer, *next(order))[1:])

    f, x = subject.f, steps_in[0][0]
    with torch.no_grad():
        z = trained.stem(trained.normalize(x))

    ways = {way: _dynamics(way, f, z) for way in evaluations}
    compiled = "compiled" in evaluations
    passes = block_passes(f, z, torch.ones_like(z), compiled)
    actions: dict[str, Callable[[], object]] = {case: training_step(m, nfe[case]) for case, m in models.items()}
    actions |= {
        "without block": training_step(blockless, []),
        "without block, bf16": training_step(blockless_bf16, []),
        **{f"{way}, forward": partial(_evaluate, way, *g) for way, g in ways.items()},
        **{f"{way}, both": partial(_evaluate, way, *g, differentiate=True) for way, g in ways.items()},
        **{library: block_pass.run for library, block_pass in passes.items()},
        "matrix product": lambda: _product(device),
        **size_actions(sizes, batch_size, device),
    }
    seconds = timer(actions, rounds)

    def evaluation(way: str) -> BareEvaluation:
        both = (seconds[f"{way}, forward"], seconds[f"{way}, both"])
        return BareEvaluation(way, *(tuple(s / _REPEATS for s in values) for values in both))

    bare = {way: evaluation(way) for way in ways}
    without_block = seconds["without block"]

    rows = []
    for case, model in models.items():
        [block] = ode_blocks(model)
        nfe_forward, nfe_backward = np.mean(nfe[case][-rounds:], axis=0).tolist()
        forward, both = bare[_way(block.solver)].medians
        there = both if block.solver.gradient == "direct" else forward
        rest = seconds["without block, bf16"] if model.stem_bf16 else without_block
        floor = np.median(rest) + nfe_forward * there + nfe_backward * both
        for _ in range(_BATCHES if block.solver.warm_start else 1):  # until a warm start has settled
            gradient = block_gradient(block, problem.z, problem.cotangent)
        rows.append(
            BenchmarkRow(
                case,
                nfe_forward,
                nfe_backward,
                tuple(seconds[case]),
                float(floor),
                peak_bytes(block, z),
                *problem.errors(gradient.state, gradient.theta),
            )
        )

    libraries = []
    of_problem = block_passes(f, problem.z, problem.cotangent, compiled)
    for library, block_pass in passes.items():
        *_, n = block_pass.read(block_pass.run())
        state, theta, _ = of_problem[library].read(of_problem[library].run())
        errors = problem.errors(state.flatten(), torch.cat([g.flatten() for g in theta]))
        libraries.append(LibraryRow(library, n, tuple(seconds[library]), *errors))

    return Benchmark(
        Environment.here(device, __name__),
        data.name,
        batch_size,
        images,
        problem.reference_error,
        tuple(without_block),
        tuple(seconds["without block, bf16"]),
        tuple(bare.values()),
        (_flops(f, z), _flops(f, z, differentiate=True)),
        tuple(2 * MATRIX**3 / s for s in seconds["matrix product"]),
        tuple(rows),
        tuple(libraries),
        size_rows(sizes, seconds),
    )


def peak_bytes(block: ODEBlock, z: Tensor) -> int:
    """The most bytes that autograd holds at one time, in the forward and the backward pass of a block."""
    z = z.clone().requires_grad_()
    with count_saved_bytes([z, *block.parameters()]) as saved:
        block(z).sum().backward(inputs=[z, *block.parameters()])
    return saved.peak


def _way(solver: Solver) -> str:
    """The one of EVALUATIONS that a solver takes."""
    return "bf16" if solver.bf16 else "products" if solver.products else "fp32"


def _dynamics(way: str, f: Any, z: Tensor) -> tuple[Any, Tensor, list[Tensor]]:
    """f, made ready to be computed in one of the ways of EVALUATIONS, a state for it, and what it is differentiated by.

    Products take their filters to the points once a solve, so that these are their parameters here.
    """
    z = z.detach()
    if way == "products":
        by_products = ProductODEfunc(f, z)
        filters = [part.detach().requires_grad_() for part in (*by_products.filters, *by_products.clocks)]
        by_products.filters, by_products.clocks = filters[:2], filters[2:]
        others = [parameter for parameter in f.parameters() if parameter.ndim == 1]
        return by_products, by_products.enter(z), [*filters, *others]
    if way == "channels last":
        f, z = copy.deepcopy(f).to(memory_format=torch.channels_last), z.contiguous(memory_format=torch.channels_last)
    return torch.compile(f) if way == "compiled" else f, z, list(f.parameters())


def _evaluate(way: str, f: Any, z: Tensor, parameters: list[Tensor], differentiate: bool = False) -> None:
    t = z.new_tensor(0.5)
    for _ in range(_REPEATS):
        start = z.clone().requires_grad_(differentiate)
        with torch.set_grad_enabled(differentiate), torch.autocast(z.device.type, torch.bfloat16, way == "bf16"):
            out = f(t, start)
        if differentiate:
            torch.autograd.grad(out, [start, *parameters], torch.ones_like(out))


def _product(device: torch.device) -> None:
    a = torch.ones(MATRIX, MATRIX, device=device)
    a @ a


def _flops(f: nn.Module, z: Tensor, differentiate: bool = False) -> int:
    f = copy.deepcopy(f)  # backward() leaves its gradients there
    with FlopCounterMode(display=False) as counted, torch.set_grad_enabled(differentiate):
        out = f(z.new_tensor(0.5), z.detach().requires_grad_(differentiate))
        if differentiate:
            out.sum().backward()
    return counted.get_total_flops()


# Its records are named after machines, not studies: `odelib benchmark`.
_SMALL = {
    "cases": {name: CASES[name] for name in (SCRIPT, "odelib direct")},
    "evaluations": EVALUATIONS[:1],
    "sizes": (),
}
MEASUREMENT = Measurement(Benchmark, measure_benchmark, __name__, studies=(), small=_SMALL)
