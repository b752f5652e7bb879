"""Checkpoints: all that a run needs to go on, in one file that is replaced at once; the one before it is kept."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from odelib.errors import RecordError
from odelib.records import Run, load_tensors, save_tensors
from odelib.training import Progress


def checkpoint_files(path: Path) -> tuple[Path, Path]:
    """The checkpoint of the run at `path` (.json), and the one before it."""
    return path.with_suffix(".checkpoint.safetensors"), path.with_suffix(".previous.safetensors")


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, record: Run
) -> None:
    """Keep weights, the optimiser's tensors, the progress within the epoch and the record so far."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, tensor in state.items():
            tensors[f"optimizer.{index}.{name}"] = tensor
    for index, state in enumerate(progress.random):
        tensors[f"random.{index}"] = state
    rest = json.dumps(asdict(replace(progress, random=())))
    now, before = checkpoint_files(path)
    if now.exists():
        now.replace(before)
    save_tensors(now, tensors, {"record": record.to_json(), "progress": rest})


def read_checkpoint(path: Path) -> tuple[Run, Progress, dict[str, Tensor]] | None:
    """The record so far, the progress, and the other tensors; None where there is none. Raises RecordError.

    Where a crash came between the two files, the one before is the last.
    """
    file = next((file for file in checkpoint_files(path) if file.exists()), None)
    if file is None:
        return None
    tensors, metadata = load_tensors(file)
    if "record" not in metadata:
        raise RecordError(f"{file} holds no record of a run; it is no checkpoint of odelib")
    random = tuple(tensors.pop(name) for name in sorted(name for name in tensors if name.startswith("random.")))
    record = Run.from_json(metadata["record"], file)
    if "progress" not in metadata:  # as checkpoints were before they were made within an epoch
        return record, Progress(len(record.metrics) + 1), tensors
    try:
        known = json.loads(metadata["progress"])
        known["first_steps"] = tuple(known["first_steps"])
        progress = replace(Progress(**known), random=random)
    except (ValueError, TypeError, KeyError) as error:
        raise RecordError(f"{file} holds no progress of a training ({error})") from error
    return record, progress, tensors


def restore(path: Path, tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's tensors into model and optimiser. Raises RecordError where they do not fit."""
    weights: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    try:
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "model":
                weights[rest] = tensor
            else:
                index, _, key = rest.partition(".")
                state.setdefault(int(index), {})[key] = tensor
        model.load_state_dict(weights)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())  # torch writes a line per tensor
        raise RecordError(f"{path} holds no checkpoint of this network ({reason}); it is left as it is") from error
