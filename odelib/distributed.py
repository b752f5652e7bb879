"""Several processes, one training: each takes its share of every batch, and all take the same step.

`torchrun --nproc-per-node N -m odelib train ...` starts them, on one machine or on several. PyTorch's
DistributedDataParallel averages their gradients, through gloo on CPUs and nccl on CUDA devices. The batch, of
`batch_size` images, is that of a single process, in the same order and with the same augmentation, so that on fixed
grids weights and metrics are its own but for the order of sums. What differs:

- An adaptive solver chooses its steps for the images that it sees, here a share of the batch.
- Noise, as in dropout, is drawn anew for every process and step.
- What a warm start has learned is every process's own; a run that goes on has what the first one knew.

A signal to one process stops all of them after the same step; one that comes while they evaluate, like a process that
dies, leaves the others without an answer, and they end with an error. NFE is that of the process that evaluated f most
often, for which the others wait; seconds are those of the first one.
"""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from odelib.errors import Error, OptionError

# What torchrun sets, and whoever starts processes in its place.
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees them. `ALONE` is a training of one; nothing is different then.

    All of them must call `mean`, `largest` and `from_first` alike, since each waits there for the others.
    """

    rank: int = 0  # of this one, counted from 0
    size: int = 1
    device: torch.device | None = None  # on which this one computes

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def must_share(self, images: int, what: str) -> None:
        """Raise OptionError where so many images are no equal shares for all processes."""
        if images % self.size:
            raise OptionError(f"{what} must be a multiple of the {self.size} processes, got {images}")

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch (b, ...), whose b is a multiple of their number."""
        return batch if self.size == 1 else batch.chunk(self.size)[self.rank]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, in training: its first weights are those of the first process, its gradients are averaged."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device and self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)

    def seed_step(self, seed: int, step: int) -> None:
        """Seed torch's generators by process and step, so that none draws what another one does."""
        if self.size > 1:
            torch.manual_seed(random.Random(f"{seed} {step} {self.rank}").getrandbits(63))

    def mean(self, *values: float | int) -> list[float]:
        """The mean of each value over the processes."""
        return [total / self.size for total in self._reduced(values, dist.ReduceOp.SUM)]

    def largest(self, *values: int) -> list[int]:
        """The largest of each value over the processes."""
        return [int(value) for value in self._reduced(values, dist.ReduceOp.MAX)]

    def _reduced(self, values: tuple[float | int, ...], how: Any) -> list[float | int]:
        if self.size == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(together, how)
        return together.tolist()

    def from_first(self, value: Any) -> Any:
        """What the first process gives, in every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


ALONE = Processes()


def started() -> bool:
    """Whether this process was started with others, as by torchrun."""
    return all(name in os.environ for name in _VARIABLES) and os.environ["WORLD_SIZE"] != "1"


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that were started with this one, each on its device; `ALONE` where there are no others.

    Raises OptionError where there are more of them than CUDA devices, and Error where one of them has ended.
    """
    if not started():
        yield ALONE
        return
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise OptionError(f"each process needs a CUDA device of its own; here are {torch.cuda.device_count()}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        yield Processes(rank, size, device)
    except RuntimeError as error:
        of_others = isinstance(error, dist.DistError) or "gloo" in str(error)  # whose errors have no class of their own
        if not of_others:
            raise
        raise Error(f"process {rank} of {size}: another one has ended, or cannot be reached") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
