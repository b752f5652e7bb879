"""Runs: one training run as a state machine, which any interruption leaves so that the same call goes on.

Beside a record `<name>.json` lie the weights, `<name>.safetensors`, once the run is finished. Until then there is a
checkpoint (`odelib.checkpoints`), which goes when both are on the disk: a run is finished when its record says so and no
checkpoint has more to say. Weights may be deleted then.
"""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from odelib.checkpoints import checkpoint_files, read_checkpoint, restore, save_checkpoint
from odelib.config import Config, build
from odelib.data import Dataset, prepare
from odelib.errors import Interrupted, RecordError
from odelib.locks import lock_files, locked
from odelib.models import count_parameters
from odelib.records import Environment, Run, save_weights, sweep, try_to_write
from odelib.training import EpochMetrics, Progress, fit, make_optimizer

SAVED_EVERY = 30.0  # seconds: the work that a power failure may take


def is_finished(path: Path) -> bool:
    """Whether the run at `path` (.json) is finished. Raises RecordError where the record cannot be read."""
    return path.exists() and Run.load(path).finished and not any(file.exists() for file in checkpoint_files(path))


def run(
    config: Config,
    data: Dataset,
    path: Path,
    device: torch.device,
    report: Callable[[EpochMetrics], object] = print,
    saved_every: float = SAVED_EVERY,
) -> Run:
    """Train as `config` says and keep record and weights at `path` (.json, .safetensors).

    Interrupted, the same call goes on after the last step that is kept: after a signal (INT, TERM, HUP) the one under
    way, for which Interrupted is raised; after a crash one of at most `saved_every` seconds ago. The result is that of
    a run without interruption, to the bit, on the same kind of machine with as many threads; else the record lists the
    environments. Raises RecordError when `path` holds a finished run or one of another config, cannot be written, or is
    in the hands of another process.
    """
    if is_finished(path):
        _refuse(path, Run.load(path), config)
    try_to_write(path)
    with locked(path):
        sweep(path.parent)
        kept = read_checkpoint(path)
        if kept is None and path.exists():
            _refuse(path, Run.load(path), config)
        data = prepare(data, config).to(device)
        digest = data.digest()
        environment = Environment.here(device)
        model = build(config, data).to(device)
        optimizer = make_optimizer(model, config)
        record, progress = Run(config, count_parameters(model), environment, data=digest), Progress()
        if kept is not None:
            record, progress, tensors = kept
            _must_be_the_same(path, record, config, digest)
            restore(path, tensors, model, optimizer)
            record = record.goes_on(environment)
        steps, saved = max(1, len(data.train) // config.batch_size), time.monotonic()
        with _Signals() as signals:

            def save() -> None:
                nonlocal saved
                save_checkpoint(path, model, optimizer, progress, record)
                saved = time.monotonic()

            def after_step() -> None:
                ready = progress.step == steps  # to be evaluated, which takes a while and changes nothing
                if signals.come or ready or time.monotonic() - saved > saved_every:
                    save()
                signals.heed(f"epoch {progress.epoch}, after step {progress.step} of {steps}", until_told=ready)

            for metrics in fit(model, data, config, optimizer, progress, after_step):
                signals.at_once = False
                record = replace(record, metrics=(*record.metrics, metrics))
                save()
                record.save(path)
                report(metrics)
                signals.heed(f"epoch {metrics.epoch}, which is finished")
        record.save(path)
        save_weights(path.with_suffix(".safetensors"), model, config)
        for file in (*checkpoint_files(path)[::-1], *lock_files(path)):
            file.unlink(missing_ok=True)
    return record


def _refuse(path: Path, record: Run, config: Config) -> None:
    """Say why a run that has a record and no checkpoint cannot be made again."""
    _must_be_the_same(path, record, config)
    if not record.finished:
        raise RecordError(f"{path} is unfinished and its checkpoint is gone; move it away to train again")
    if not path.with_suffix(".safetensors").exists():
        raise RecordError(f"{path} is finished, but its weights are gone; move it away to train again")
    raise RecordError(f"{path} holds this run, finished; move it away to train again")


def _must_be_the_same(path: Path, record: Run, config: Config, digest: str | None = None) -> None:
    """Raise RecordError where a run is one of another config, or of other data."""
    old, new = asdict(record.config), asdict(config)
    different = [f"{name} {old[name]!r} (now {new[name]!r})" for name in new if old[name] != new[name]]
    if different:
        raise RecordError(f"{path} holds a run of another config: {', '.join(different)}; choose another name")
    if digest and record.data and record.data != digest:
        raise RecordError(f"{path} was trained on other images of {config.dataset} than are there now; put those back")


class _Signals:
    """INT, TERM and HUP, noted until it is time to heed them; a second one does what it always does."""

    def __init__(self) -> None:
        self.come: int | None = None  # the number of the signal
        self.at_once = False  # whether all is kept, so that nothing needs to be waited for
        self.where = ""
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and threading.current_thread() is threading.main_thread():
                self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def _let_go(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self._let_go()
        self.come = number
        if self.at_once:
            self.heed(self.where)

    def heed(self, where: str, until_told: bool = False) -> None:
        """Raise Interrupted if a signal has come; with `until_told` also if one comes from now on."""
        self.where, self.at_once = where, until_told
        if self.come is not None:
            self.at_once = False
            raise Interrupted(f"interrupted in {where}; all is kept, the same command goes on", self.come)
