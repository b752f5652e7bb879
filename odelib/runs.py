"""Runs: one training run, resumable, with its record and weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from odelib.config import Config, build
from odelib.data import Dataset, prepare
from odelib.errors import RecordError
from odelib.models import count_parameters
from odelib.records import Environment, Run, load_tensors, save_tensors, save_weights
from odelib.training import EpochMetrics, fit, make_optimizer


def run(
    config: Config,
    data: Dataset,
    path: Path,
    device: torch.device,
    report: Callable[[EpochMetrics], object] = print,
) -> Run:
    """Train as `config` says and keep record and weights at `path` (.json, .safetensors), epoch by epoch.

    Interrupted, the same call goes on after the last finished epoch. Raises RecordError when `path` holds a finished
    run, or one of another config.
    """
    checkpoint = path.with_suffix(".checkpoint.safetensors")
    data = prepare(data, config).to(device)
    model = build(config, data).to(device)
    optimizer = make_optimizer(model, config)
    interrupted = checkpoint.exists()
    if interrupted:
        record, tensors = _read_checkpoint(checkpoint)
    elif path.exists():
        record = Run.load(path)
    else:
        record = Run(config, count_parameters(model), Environment.here(device))
    if record.config != config:
        raise RecordError(f"{path} holds a run of another config ({record.config.options()}); choose another name")
    if interrupted:
        _restore(checkpoint, tensors, model, optimizer)
    elif record.finished:
        raise RecordError(f"{path} holds this run, finished; delete it to train again")
    elif record.metrics:
        raise RecordError(
            f"{path} is unfinished, but its checkpoint {checkpoint.name} is gone; delete it to train again"
        )
    for metrics in fit(model, data, config, optimizer, epochs_done=len(record.metrics)):
        record = replace(record, metrics=(*record.metrics, metrics))
        # The checkpoint first: it alone has all that the rest can be made of, should this be interrupted.
        _save_checkpoint(checkpoint, model, optimizer, record)
        record.save(path)
        report(metrics)
    record.save(path)
    save_weights(path.with_suffix(".safetensors"), model, config)
    checkpoint.unlink()
    return record


def _save_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, record: Run) -> None:
    """Weights, the optimiser's tensors and the record so far, in one file."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, tensor in state.items():
            tensors[f"optimizer.{index}.{name}"] = tensor
    save_tensors(path, tensors, {"record": record.to_json()})


def _read_checkpoint(path: Path) -> tuple[Run, dict[str, Tensor]]:
    """The record so far, and the tensors. Raises RecordError."""
    tensors, metadata = load_tensors(path)
    if "record" not in metadata:
        raise RecordError(f"{path} holds no record; delete it to start again")
    return Run.from_json(metadata["record"], path), tensors


def _restore(path: Path, tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
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
        raise RecordError(f"{path} is not a checkpoint of this run ({reason}); delete it to start again") from error
