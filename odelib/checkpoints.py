"""Checkpoints: all that a run needs to go on, in one file that is replaced at once; the one before it is kept."""

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from odelib.errors import RecordError, in_one_line
from odelib.records import Run, load_tensors, save_tensors
from odelib.strict_json import as_dataclass, dumps, loads
from odelib.training import Progress


@dataclass(frozen=True)
class Checkpoint:
    """What a run goes on from."""

    file: Path
    record: Run  # so far
    progress: Progress
    tensors: dict[str, Tensor]  # `model.<name>` and `optimizer.<number of the parameter>.<name>`


def checkpoint_files(path: Path) -> tuple[Path, Path]:
    """The checkpoint of the run at `path` (.json), and the one before it."""
    return path.with_suffix(".checkpoint.safetensors"), path.with_suffix(".previous.safetensors")


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, record: Run
) -> None:
    """Keep weights, the optimiser's tensors, the progress within the epoch and the record so far.

    At any moment the new file, or the one before it, is whole and in place. Raises RecordError where it cannot be
    written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= optimizer_tensors(optimizer)
    tensors |= {f"random.{index}": state for index, state in enumerate(progress.random)}
    tensors |= {f"average.{index}": mean for index, mean in enumerate(progress.average)}
    texts = {"record": record.to_json(), "progress": dumps(asdict(replace(progress, random=(), average=())))}
    now, before = checkpoint_files(path)
    save_tensors(now, tensors, {**texts, "digest": _digest(tensors, texts)}, before)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors in which an optimiser remembers earlier steps."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{index}.{name}": tensor for index, kept in state.items() for name, tensor in kept.items()}


def step_back(path: Path) -> None:
    """Give up the newest checkpoint, which leads nowhere, for the one before it, or for the beginning."""
    now, before = checkpoint_files(path)
    if before.exists():
        before.replace(now)
    else:
        now.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> Checkpoint | None:
    """The newest checkpoint of the run at `path` (.json) that is whole; None where there is none. Raises RecordError.

    A damaged one gives way to the one before it, with a warning.
    """
    now, before = checkpoint_files(path)
    if not now.exists():  # a crash came between two checkpoints
        return _read(before) if before.exists() else None
    try:
        return _read(now)
    except _Damaged as error:
        if not before.exists():
            raise
        found = _read(before)
        warnings.warn(f"{error}; the run goes on from the checkpoint before it", stacklevel=2)
        step_back(path)
        return replace(found, file=now)


class _Damaged(RecordError):
    """A file that is not as it was written."""


def _read(file: Path) -> Checkpoint:
    try:
        with open(file, "rb"):
            pass  # one that cannot be opened is not damaged
    except OSError as error:
        raise RecordError(f"{file} cannot be read ({error.strerror})") from error
    try:
        tensors, texts = load_tensors(file)
    except RecordError as error:
        raise _Damaged(f"{file} is damaged: {error}") from error
    digest = texts.pop("digest", None)
    if (digest or "progress" in texts) and digest != _digest(tensors, texts):
        raise _Damaged(f"{file} is damaged: it is not what was written")
    if "record" not in texts:
        raise RecordError(f"{file} holds no record of a run; it is no checkpoint of odelib")
    record = Run.from_json(texts["record"], file)
    if "progress" not in texts:  # as checkpoints were before they were made within an epoch
        return Checkpoint(file, record, Progress(len(record.metrics) + 1), tensors)
    try:
        progress = as_dataclass(Progress, loads(texts["progress"]))
        if progress.epoch != len(record.metrics) + 1 or progress.step < 0:
            raise ValueError(f"epoch {progress.epoch}, where the record has {len(record.metrics)}")
        progress = replace(progress, random=_taken(tensors, "random."), average=_taken(tensors, "average."))
        if progress.step and not _is_state(progress.random):
            raise ValueError("no state of torch's generator")
    except ValueError as error:
        raise RecordError(f"{file} holds no progress of a training ({in_one_line(error)})") from error
    return Checkpoint(file, record, progress, tensors)


def _taken(tensors: dict[str, Tensor], beginning: str) -> tuple[Tensor, ...]:
    """Those whose names begin so, in the order of their numbers, taken out."""
    names = [name for name in tensors if name.startswith(beginning)]
    return tuple(tensors.pop(name) for name in sorted(names, key=lambda name: int(name[len(beginning) :])))


def _is_state(random: tuple[Tensor, ...]) -> bool:
    now = torch.get_rng_state()
    return bool(random) and random[0].shape == now.shape and random[0].dtype == now.dtype


def _digest(tensors: dict[str, Tensor], texts: dict[str, str]) -> str:
    found = hashlib.blake2b(json.dumps(texts, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def restore(kept: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's tensors into model and optimiser. Raises RecordError where they do not fit."""
    weights: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    try:
        for name, tensor in kept.tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "model":
                weights[rest] = tensor
            elif kind == "optimizer":
                index, _, key = rest.partition(".")
                state.setdefault(int(index), {})[key] = tensor
            else:
                raise ValueError(f"{name} belongs to neither model nor optimiser")
        model.load_state_dict(weights)
        shapes = [p.shape for p in model.parameters()]
        if kept.progress.average and [mean.shape for mean in kept.progress.average] != shapes:
            raise ValueError("the averaged weights are not all there, or too many")
        _must_fit(state, model, optimizer)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (KeyError, RuntimeError, ValueError) as error:
        raise RecordError(f"{kept.file} does not fit this run ({in_one_line(error)}); it is left as it is") from error


def _must_fit(state: dict[int, dict[str, Tensor]], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError where `state` is not what the optimiser has after a step with a gradient for each parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if isinstance(optimizer, torch.optim.SGD):
        expected = {"momentum_buffer"} if optimizer.defaults["momentum"] else set()
    else:
        expected = {"step", "exp_avg", "exp_avg_sq"}
    found = {index: set(kept) for index, kept in state.items()}
    if found != ({index: expected for index in range(len(parameters))} if expected else {}):
        raise ValueError("the optimiser's tensors are not all there, or too many")
    for index, kept in state.items():
        for name, tensor in kept.items():
            if tensor.shape != (() if name == "step" else parameters[index].shape):
                raise ValueError(f"the optimiser's {name} of parameter {index} has the shape {tuple(tensor.shape)}")
