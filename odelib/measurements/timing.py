"""Timing: seconds per training step, so measured that cases can be compared."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from odelib.config import build
from odelib.data import batches
from odelib.measurements.measurement import Measurement, Subject, Timed
from odelib.records import Environment, Record
from odelib.training import make_optimizer, train_step


@dataclass(frozen=True)
class StepTime(Timed):
    """The training steps of one case."""

    KEY = ("case",)

    case: str
    nfe_forward: int
    nfe_backward: int
    seconds: tuple[float, ...]  # of one training step, one value a round


@dataclass(frozen=True)
class Timing(Record):
    """Seconds per training step of several cases, taken in turns in one process."""

    environment: Environment
    batch_size: int
    steps_per_epoch: int
    rows: tuple[StepTime, ...]


def interleave(
    actions: dict[str, Callable[[], object]],
    rounds: int,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds that each action takes, `rounds` values for each, after `warmup` rounds that are not kept.

    A round runs every action once, so that a machine that becomes slower for a while slows all of them alike. Every
    other round goes backwards: no action always follows the same one. `clock` gives seconds; it is read when the GPU,
    where there is one, has done what the action asked of it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warmup + rounds):
        order = list(actions) if turn % 2 == 0 else list(reversed(actions))
        for name in order:
            _wait_for_the_device()
            start = clock()
            actions[name]()
            _wait_for_the_device()
            if turn >= warmup:
                seconds[name].append(clock() - start)
    return seconds


def _wait_for_the_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure_timing(subject: Subject, rounds: int = 21, cases: slice = slice(None)) -> Timing:
    """Time the training step of every case, or of `cases` of them, on one batch of the data, on a quiet machine.

    Networks with an ODE block take the weights of the trained network, since NFE, and time with it, depends on them;
    the others keep their first weights. The learning rate is 0: all work of an update is done, and the weights stay.
    """
    configs, device, data = dict([*subject.cases.items()][cases]), subject.device, subject.data.to(subject.device)
    actions: dict[str, Callable[[], object]] = {}
    nfe: dict[str, tuple[int, int]] = {}
    for case, config in configs.items():
        model = build(config, data).to(device)
        if config.network == "odenet":
            model.load_state_dict(subject.trained.state_dict())
        optimizer = make_optimizer(model, config)
        optimizer.param_groups[0]["lr"] = 0.0
        x, y = next(batches(data.train, config.batch_size))

        def step(case=case, model=model, optimizer=optimizer, x=x, y=y):
            nfe[case] = train_step(model, optimizer, x, y)[1:]

        actions[case] = step
    seconds = interleave(actions, rounds)
    rows = tuple(StepTime(case, *nfe[case], tuple(seconds[case])) for case in configs)
    batch_size = next(iter(configs.values())).batch_size
    return Timing(Environment.here(device, __name__), batch_size, len(data.train) // batch_size, rows)


# All rounds, since the median of few would often miss the quartiles of many.
_SMALL = {"cases": slice(0, 3)}
MEASUREMENT = Measurement(Timing, measure_timing, __name__, studies=("mnist-gradients",), small=_SMALL)
