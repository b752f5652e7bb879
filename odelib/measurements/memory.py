"""Memory: the bytes that the ODE block keeps for the backward pass, against NFE."""

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
    """What one ODE block saves for the backward pass of one batch."""

    KEY = ("method", "gradient", "rtol", "step_size")

    method: str
    gradient: str
    rtol: float
    step_size: float | None
    nfe_forward: int
    bytes: int


@dataclass(frozen=True)
class Memory(Record):
    """Bytes kept for the backward pass against NFE."""

    environment: Environment
    batch_size: int
    state_bytes: int  # one state of the batch
    evaluation_bytes: int  # what one evaluation of f saves: the adjoint holds that much, one evaluation at a time
    rows: tuple[SavedByBlock, ...]


def measure_memory(subject: Subject, batch_size: int = 128, sizes: slice = slice(None)) -> Memory:
    """Count what the ODE block of the trained network saves, for each way of differentiating it, at the tolerances or
    steps of `sizes`.

    The solvers and gradients are those that occur in the cases. The bytes do not depend on the machine.
    """
    x, _ = next(batches(subject.data.train.to(subject.device), batch_size))
    trained = subject.trained.to(subject.device)
    f = subject.f
    with torch.no_grad():
        z = trained.stem(trained.normalize(x))

    def saved_by(function) -> int:
        state = z.clone().requires_grad_()
        with count_saved_bytes([state, *f.parameters()]) as saved:
            out = function(state)
        assert out.requires_grad
        return saved.n

    rows: list[SavedByBlock] = []
    cases = (config for config in subject.cases.values() if config.network == "odenet")
    for solver in dict.fromkeys(Solver(c.method, gradient=c.gradient, library=c.library) for c in cases):
        all_sizes: tuple[float, ...] = TOLERANCES if solver.adaptive else STEPS
        for size in all_sizes[sizes]:
            exact = replace(solver, rtol=size, atol=size) if solver.adaptive else replace(solver, step_size=size)
            block = ODEBlock(f, exact)
            with count_evaluations(block) as seen:
                n = saved_by(block)
            rows.append(
                SavedByBlock(solver.method, solver.gradient, block.solver.rtol, block.solver.step_size, seen.n, n)
            )
    evaluation = saved_by(lambda state: f(torch.tensor(0.0, device=subject.device), state))
    return Memory(Environment.here(subject.device, __name__), batch_size, z.nbytes, evaluation, tuple(rows))


MEASUREMENT = Measurement(Memory, measure_memory, __name__, studies=("mnist-gradients",), small={"sizes": slice(0, 3)})
