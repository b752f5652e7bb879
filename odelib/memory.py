"""Memory: the bytes that autograd keeps for the backward pass, counted one by one."""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from odelib.config import Config
from odelib.data import Dataset, batches
from odelib.models import ImageClassifier
from odelib.odeblock import ODEBlock, count_evaluations
from odelib.records import Environment, Record


@dataclass
class SavedBytes:
    """What has been saved for the backward pass so far."""

    n: int = 0  # bytes
    live: int = 0  # of them, those that have not been released yet
    peak: int = 0  # the largest that `live` has been


@contextmanager
def count_saved_bytes(besides: Iterable[Tensor] = ()) -> Iterator[SavedBytes]:
    """Count the bytes that autograd saves for a backward pass within the `with` block, and the most at one time.

    Tensors that share their memory count once. The memory of `besides` (weights and inputs, which exist anyway) does
    not count::

        with count_saved_bytes(model.parameters()) as saved:
            loss = model(x)
        print(saved.n)
    """
    saved = SavedBytes()
    elsewhere = {t.untyped_storage().data_ptr() for t in besides}
    known = set()
    kept = []  # memory that is given back could be handed out again, at the same address
    holders = Counter()  # how many saved tensors there are now, by the address of their memory

    def pack(tensor: Tensor) -> _Holder:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        holder = _Holder(tensor)
        if address in elsewhere:
            return holder
        if address not in known:
            known.add(address)
            kept.append(storage)
            saved.n += size
        holders[address] += 1
        if holders[address] == 1:
            saved.live += size
            saved.peak = max(saved.peak, saved.live)
        weakref.finalize(holder, release, address, size)
        return holder

    def release(address: int, size: int) -> None:
        holders[address] -= 1
        if not holders[address]:
            saved.live -= size

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda holder: holder.tensor):
        yield saved


class _Holder:
    """What autograd holds in the place of a saved tensor: it dies when the tensor is released."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor.detach()  # with its history, a result that is saved would keep itself alive


@dataclass(frozen=True)
class SavedByBlock:
    """What one ODE block saves for the backward pass of one batch."""

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


def measure_memory(
    cases: dict[str, Config], data: Dataset, trained: ImageClassifier, device: torch.device, batch_size: int = 128
) -> Memory:
    """Count what the ODE block of `trained` saves, for each way of differentiating it, at many tolerances and steps.

    The solvers and gradients are those that occur in `cases`. The bytes do not depend on the machine.
    """
    x, _ = next(batches(data.train.to(device), batch_size))
    trained = trained.to(device)
    f = trained.block.f
    with torch.no_grad():
        z = trained.stem(trained.normalize(x))

    def saved_by(function) -> int:
        state = z.clone().requires_grad_()
        with count_saved_bytes([state, *f.parameters()]) as saved:
            out = function(state)
        assert out.requires_grad
        return saved.n

    rows = []
    used = {(c.method, c.gradient): None for c in cases.values() if c.network == "odenet"}
    for method, gradient in used:
        adaptive = method == "dopri5"
        for size in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5) if adaptive else (1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16):
            solver = dict(rtol=size, atol=size) if adaptive else dict(step_size=size)
            block = ODEBlock(f, method, gradient=gradient, **solver)
            with count_evaluations(block) as seen:
                n = saved_by(block)
            rows.append(SavedByBlock(method, gradient, block.rtol, block.step_size, seen.n, n))
    evaluation = saved_by(lambda state: f(torch.tensor(0.0, device=device), state))
    return Memory(Environment.here(device), batch_size, z.nbytes, evaluation, tuple(rows))
