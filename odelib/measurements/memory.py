"""Memory: the bytes that the ODE block keeps for the backward pass, and those that it needs during it."""

from dataclasses import dataclass, replace

import torch

from odelib.data import batches
from odelib.measurements.measurement import Measurement, Subject
from odelib.odeblock import ODEBlock, Solver, count_evaluations
from odelib.records import Environment, Record
from odelib.saved_bytes import count_saved_bytes

TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
STEPS = (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16)


@dataclass(frozen=True)
class SavedByBlock:
    """What autograd holds for one ODE block and one batch: tensors that were saved and are not released yet."""

    KEY = ("method", "gradient", "rtol", "step_size")

    method: str
    gradient: str
    rtol: float
    step_size: float | None
    nfe_forward: int
    kept: int  # bytes that are held when the forward pass is done
    peak: int  # the most bytes that are held at one time, in either pass


@dataclass(frozen=True)
class Memory(Record):
    """Bytes that are held for the backward pass, by NFE."""

    environment: Environment
    batch_size: int
    state_bytes: int  # one state of the batch
    evaluation_bytes: int  # what one evaluation of f saves
    rows: tuple[SavedByBlock, ...]


def measure_memory(subject: Subject, batch_size: int = 128, sizes: slice = slice(None)) -> Memory:
    """Count what is held for the ODE block of the trained network, for each way of differentiating it, at the
    tolerances or steps of `sizes`.

    The solvers and gradients are those that occur in the cases. The bytes do not depend on the machine.
    """
    x, _ = next(batches(subject.data.train.to(subject.device), batch_size))
    trained = subject.trained.to(subject.device)
    f = subject.f
    with torch.no_grad():
        z = trained.stem(trained.normalize(x))

    def held_by(function) -> tuple[int, int]:
        state = z.clone().requires_grad_()
        with count_saved_bytes([state, *f.parameters()]) as saved:
            end = function(state)
            kept = saved.live  # less than all that was saved: what only chose the steps is released on the way
            torch.autograd.grad(end, [state, *f.parameters()], torch.ones_like(end))
        return kept, saved.peak

    rows: list[SavedByBlock] = []
    cases = (config for config in subject.cases.values() if config.network == "odenet")
    for solver in dict.fromkeys(Solver(c.method, gradient=c.gradient, library=c.library) for c in cases):
        all_sizes: tuple[float, ...] = TOLERANCES if solver.adaptive else STEPS
        for size in all_sizes[sizes]:
            exact = replace(solver, rtol=size, atol=size) if solver.adaptive else replace(solver, step_size=size)
            block = ODEBlock(f, exact)
            with torch.no_grad(), count_evaluations(block) as seen:
                block(z)
            how = solver.method, solver.gradient, block.solver.rtol, block.solver.step_size
            rows.append(SavedByBlock(*how, seen.n, *held_by(block)))
    evaluation, _ = held_by(lambda state: f(torch.tensor(0.0, device=subject.device), state))
    return Memory(Environment.here(subject.device, __name__), batch_size, z.nbytes, evaluation, tuple(rows))


MEASUREMENT = Measurement(Memory, measure_memory, __name__, studies=("mnist-gradients",), small={"sizes": slice(0, 3)})
