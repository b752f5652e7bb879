"""Experiments: one run, resumable, and the named studies whose records the book shows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from odelib.config import Config
from odelib.data import Dataset
from odelib.models import build, count_parameters
from odelib.odeblock import OptionError
from odelib.records import RESULTS, Environment, RecordError, Run, load_tensors, save_tensors, save_weights
from odelib.training import EpochMetrics, fit, make_optimizer

# The task's recipe: full MNIST, the same for every case.
_MNIST = Config(dataset="mnist", epochs=5)

STUDIES: dict[str, dict[str, Config]] = {
    # Task 6. A fixed grid takes one step from t=0 to t=1, as torchdiffeq does by default; "-4" takes four.
    "mnist-gradients": {
        "direct-dopri5": _MNIST,
        "adjoint-dopri5": replace(_MNIST, gradient="adjoint"),
        "adjoint-rk4": replace(_MNIST, gradient="adjoint", method="rk4"),
        "adjoint-euler": replace(_MNIST, gradient="adjoint", method="euler"),
        "direct-rk4": replace(_MNIST, method="rk4"),
        "direct-euler": replace(_MNIST, method="euler"),
        "adjoint-rk4-4": replace(_MNIST, gradient="adjoint", method="rk4", step_size=0.25),
        "adjoint-euler-4": replace(_MNIST, gradient="adjoint", method="euler", step_size=0.25),
        "direct-euler-4": replace(_MNIST, method="euler", step_size=0.25),
        "seminorm-dopri5": replace(_MNIST, gradient="seminorm"),
        "none": replace(_MNIST, network="none"),
        "resnet-1": replace(_MNIST, network="resnet", blocks=1),
        "resnet-6": replace(_MNIST, network="resnet", blocks=6),
    },
}


def record_path(study: str, case: str, seed: int, folder: Path = RESULTS) -> Path:
    return folder / study / f"{case}-seed{seed}.json"


def study_config(study: str, case: str, seed: int) -> Config:
    """The config of one run of a study. Raises OptionError for an unknown name."""
    if study not in STUDIES:
        raise OptionError(f"no study {study!r}; choose from {', '.join(STUDIES)}")
    if case not in STUDIES[study]:
        raise OptionError(f"study {study} has no case {case!r}; choose from {', '.join(STUDIES[study])}")
    return replace(STUDIES[study][case], seed=seed)


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
    data = data.to(device)
    model = build(config, data).to(device)
    optimizer = make_optimizer(model, config)
    if checkpoint.exists():
        record = _restore(checkpoint, model, optimizer)
    elif path.exists():
        record = Run.load(path)
    else:
        record = Run(config, count_parameters(model), Environment.here(device))
    if record.config != config:
        raise RecordError(f"{path} holds a run of another config ({record.config.options()}); choose another name")
    if record.finished:
        raise RecordError(f"{path} holds this run, finished; delete it to train again")
    if record.metrics and not checkpoint.exists():
        raise RecordError(
            f"{path} is unfinished, but its checkpoint {checkpoint.name} is gone; delete it to train again"
        )
    for metrics in fit(model, data, config, optimizer, epochs_done=len(record.metrics)):
        record = replace(record, metrics=(*record.metrics, metrics))
        _save_checkpoint(checkpoint, model, optimizer, record)
        record.save(path)
        report(metrics)
    save_weights(path.with_suffix(".safetensors"), model, config)
    checkpoint.unlink()
    return record


def _save_checkpoint(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, record: Run) -> None:
    """Weights, the optimiser's tensors and the record so far, in one file."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, tensor in state.items():
            tensors[f"optimizer.{index}.{name}"] = tensor
    save_tensors(path, tensors, {"record": record.to_json()})


def _restore(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Run:
    """Put a checkpoint's tensors into model and optimiser; return the record so far."""
    tensors, metadata = load_tensors(path)
    weights, state = {}, {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "model":
            weights[rest] = tensor
        else:
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = tensor
    try:
        record = Run.from_json(metadata["record"], path)
        model.load_state_dict(weights)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (KeyError, RuntimeError, ValueError) as error:
        raise RecordError(f"{path} is not a checkpoint of this run ({error}); delete it to start again") from error
    return record
