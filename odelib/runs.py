"""Runs: one training run as a state machine, which any interruption leaves so that the same call goes on.

Beside a record `<name>.json` lie the weights, `<name>.safetensors`, once the run is finished. Until then there is a
checkpoint (`odelib.checkpoints`), which goes last: a run is finished when its record says so and no checkpoint has more
to say. Weights may be deleted then.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import NoReturn

import torch
from torch import nn

from odelib.checkpoints import (
    Checkpoint,
    checkpoint_files,
    optimizer_tensors,
    read_checkpoint,
    restore,
    save_checkpoint,
    step_back,
)
from odelib.config import Config, build
from odelib.data import Dataset, prepare
from odelib.distributed import ALONE, Processes
from odelib.errors import OptionError, RecordError
from odelib.locks import Lock
from odelib.models import count_parameters
from odelib.records import Environment, Extension, Run, load_tensors, pack_bits, save_weights, sweep, try_to_write
from odelib.signals import Wish
from odelib.training import EpochMetrics, Progress, fit, judged_wrong, make_optimizer, steps_per_epoch
from odelib.trial import try_one_picture

SAVED_EVERY = 30.0  # seconds: the work that a power failure may take


class Finished(RecordError):
    """The run has been made."""


def is_finished(path: Path, config: Config | None = None) -> bool:
    """Whether the run at `path` (.json) is finished, and one of `config`. Raises RecordError where it is no record."""
    if not path.exists() or any(file.exists() for file in checkpoint_files(path)):
        return False
    record = Run.load(path)
    return record.finished and config in (None, record.config)


def inside(folder: Path, name: str) -> Path:
    """The record of this name in `folder`. Raises OptionError for a name that leads out of it, or is none."""
    parts = PureWindowsPath(name)  # which knows both / and \
    if not name.strip() or not name.isprintable() or parts.anchor or ".." in parts.parts or name[-1] in "/\\":
        raise OptionError(f"a name must be a file name inside of {folder}, got {name!r}")
    return folder / f"{name}.json"


def run(
    config: Config,
    data: Dataset,
    path: Path,
    device: torch.device,
    report: Callable[[EpochMetrics], object] = print,
    *,
    saved_every: float = SAVED_EVERY,
    extend: bool = False,
    keep_optimizer: bool = False,
    processes: Processes = ALONE,
) -> Run:
    """Train as `config` says and keep record and weights at `path` (.json, .safetensors).

    Interrupted, the same call goes on after the last step that is kept: after a signal (INT, TERM, HUP) the one under
    way, for which Interrupted is raised; after a crash one of at most `saved_every` seconds and a step ago. The result
    is that of a run without interruption, to the bit, on the same kind of machine with as many threads; else the record
    lists the environments.

    With `extend` the run that is there gets the `epochs` (more) and the `lr` (lower) of `config`, which may differ in
    nothing else; the record says since when. A finished one must have been made with `keep_optimizer`, by which its
    weights hold the optimiser's tensors too, unless its optimiser remembers nothing. A finished one with `ema` cannot
    go on.

    Of several `processes` (`odelib.distributed`) each calls this alike; the first one reads and writes all files.

    Raises Finished where it is finished; OptionError where the images do not pass the network or are too small to be
    augmented, the processes cannot share the batches, or the tolerances are below what the numbers can do; OutOfMemory
    where the memory is too small; DataError where too few images are left; RecordError when `path` holds a run of
    another config or of other images, cannot be written, or is in the hands of another process (Locked);
    FloatingPointError when it diverges, with the last good state kept.
    """
    if processes.first and is_finished(path) and not extend:
        _refuse(path, Run.load(path), config)
    data = prepare(data, config)
    _must_share(config, data, processes)
    with Lock(path) if processes.first else nullcontext() as lock:
        kept = _begin(path, config, extend) if processes.first else None
        kept = processes.from_first(kept)
        digest, data, environment = data.digest(), data.to(device), Environment.here(device)
        model = build(config, data).to(device)
        try_one_picture(model, data.train, alone=min(config.batch_size, len(data.train)) == 1)
        optimizer = make_optimizer(model, config)
        record, progress = Run(config, count_parameters(model), environment, data=digest), Progress()
        if kept is not None:
            if kept.record.data not in (None, digest):
                raise RecordError(
                    f"{path} was trained on other images of {data.name} than are there now; put them back"
                )
            restore(kept, model, optimizer)
            record, progress = kept.record.goes_on(environment), kept.progress
        with Wish(lambda number: processes.largest(number)[0]) as wish:
            for trained in _trained(path, record, model, data, optimizer, progress, saved_every, wish, processes):
                record = trained
                if processes.first:
                    report(record.last)
                if not record.finished and wish.comes():
                    wish.heed(f"interrupted after epoch {record.last.epoch}; {_GOES_ON}")
            if lock:
                wish.at_once(f"interrupted after the last epoch; {_GOES_ON}")
                judged = data.test if data.validation is None else data.validation
                record = replace(record, wrong=pack_bits(judged_wrong(model, judged)))
                wish.wait()
                record.save(path)
                more = optimizer_tensors(optimizer) if keep_optimizer else None
                save_weights(path.with_suffix(".safetensors"), model, config, data.classes, more)
                last, before = checkpoint_files(path)
                before.unlink(missing_ok=True)
                lock.remove()
                last.unlink(missing_ok=True)  # after which the run is finished
            if wish.comes():
                wish.heed(f"interrupted; {path} is finished")
    return record


def _must_share(config: Config, data: Dataset, processes: Processes) -> None:
    """Raise OptionError where several processes would not train as one does."""
    if processes.size > 1:
        processes.must_share(min(config.batch_size, len(data.train)), "the images of a batch")
        if config.norm == "batch" and config.network == "odenet":
            raise OptionError("norm batch looks at a whole batch, of which each process sees a share; take group")
        if min(len(part) for part in (data.train, data.validation or data.test)) < processes.size:
            raise OptionError(f"{processes.size} processes need as many images, in every part of {data.name}")


def _begin(path: Path, config: Config, extend: bool) -> Checkpoint | None:
    """Try whether all files can be written; return what the run goes on from, or None."""
    for file in (path, path.with_suffix(".safetensors"), *checkpoint_files(path)):
        sweep(file)
        try_to_write(file)
    return _kept(path, config, extend)


_GOES_ON = "all is kept, the same command goes on"


def _trained(
    path: Path,
    record: Run,
    model: nn.Module,
    data: Dataset,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    saved_every: float,
    wish: Wish,
    processes: Processes,
) -> Iterator[Run]:
    """Train, and keep checkpoints; yield the record after every epoch. Signals wait while it is looked at."""
    config = record.config
    steps, saved = steps_per_epoch(data.train, config), time.monotonic()

    def save() -> None:
        nonlocal saved
        if processes.first:
            save_checkpoint(path, model, optimizer, progress, record)
        saved = time.monotonic()

    def after_step() -> None:
        evaluates = progress.step == steps  # next, which takes a while and changes nothing
        if wish.comes() or evaluates or time.monotonic() - saved > saved_every:
            save()
        where = f"interrupted in epoch {progress.epoch}, after step {progress.step} of {steps}; {_GOES_ON}"
        wish.heed(where)
        if evaluates:
            wish.at_once(where)

    if progress.step == steps:
        wish.at_once(f"interrupted after the steps of epoch {progress.epoch}; {_GOES_ON}")
    try:
        for metrics in fit(model, data, config, optimizer, progress, after_step, processes):
            wish.wait()
            record = replace(record, metrics=(*record.metrics, metrics))
            save()
            if processes.first:
                record.save(path)
            yield record
    except FloatingPointError as error:
        if processes.first and progress.step == steps:  # what cannot be evaluated leads nowhere
            step_back(path)
        raise FloatingPointError(f"{error}{_way_on(path, config)}") from error


def _kept(path: Path, config: Config, extend: bool) -> Checkpoint | None:
    """What the run at `path` goes on from; None where there is nothing. Raises RecordError where it must not."""
    kept = read_checkpoint(path)
    if kept is None and path.exists():
        record = Run.load(path)
        if not (extend and record.finished):
            _refuse(path, record, config)
        kept = _finished(path, record, config)
    if kept is not None:
        return replace(kept, record=_changed(path, kept, config, extend))
    if extend:
        raise RecordError(f"{path} is not there, so that there is no run to extend")
    return None


def _refuse(path: Path, record: Run, config: Config) -> NoReturn:
    """Say why a run that has a record and no checkpoint cannot be made again."""
    if record.config != config:
        raise _another(path, record.config, config)
    if not record.finished:
        raise RecordError(f"{path} is unfinished and its checkpoint is gone; move it away to train again")
    if not path.with_suffix(".safetensors").exists():
        raise Finished(f"{path} is finished, but its weights are gone; move it away to train again")
    raise Finished(f"{path} holds this run, finished; move it away to train again, or --extend it")


def _another(path: Path, was: Config, config: Config, extend: bool = False) -> RecordError:
    """The error of a run with another config; it names what differs."""
    way = "; choose another name"
    if extend:
        way += "; --extend changes nothing but epochs, upwards, and lr, downwards"
    elif _is_extension(was, config):
        way += ", or go on so with --extend"
    return RecordError(f"{path} holds a run of another config: {was.changes(config)}{way}")


def _is_extension(was: Config, config: Config) -> bool:
    """Whether nothing differs but more epochs, or a lower rate."""
    more = config.epochs >= was.epochs and config.lr <= was.lr
    return more and replace(config, epochs=was.epochs, lr=was.lr) == was


def _finished(path: Path, record: Run, config: Config) -> Checkpoint:
    """What a finished run is extended from. Raises RecordError."""
    weights = path.with_suffix(".safetensors")
    if not _is_extension(record.config, config):
        raise _another(path, record.config, config, extend=True)
    if not weights.exists():
        _refuse(path, record, record.config)
    if config.epochs == record.config.epochs:
        way = "it cannot go on with ema" if config.ema else "--extend goes on only with more --epochs"
        raise Finished(f"{path} holds this run, finished; {way}")
    tensors, _ = load_tensors(weights)
    names = {name: name if name.startswith("optimizer.") else f"model.{name}" for name in tensors}
    remembers = config.optimizer != "sgd" or config.momentum > 0
    if remembers and not any(name.startswith("optimizer.") for name in names):
        raise RecordError(f"{weights} was kept without the optimiser's tensors, which a run needs to go on")
    return Checkpoint(
        weights, record, Progress(len(record.metrics) + 1), {names[name]: t for name, t in tensors.items()}
    )


def _changed(path: Path, kept: Checkpoint, config: Config, extend: bool) -> Run:
    """The record that goes on: the one that is kept, with more epochs or a lower rate if asked. Raises RecordError."""
    record, was = kept.record, kept.record.config
    if was == config:
        return record
    if not extend or not _is_extension(was, config):
        raise _another(path, was, config, extend)
    if was.ema and kept.progress.epoch > was.epochs:
        raise RecordError(f"{kept.file} holds averaged weights (ema), not those with which a run could go on")
    note = Extension(was.epochs, was.lr, kept.progress.epoch, kept.progress.step)
    return replace(record, config=config, extended=(*record.extended, note), wrong=None)


def _way_on(path: Path, config: Config) -> str:
    """How a run that diverged can go on."""
    if not any(file.exists() for file in checkpoint_files(path)):
        return ""
    name = path.stem.removesuffix(f"-seed{config.seed}")
    return (
        f"; the last good state is kept: with --name {name} --extend and a lower --lr the same command goes on from it"
    )
