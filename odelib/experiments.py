"""Experiments: one run, resumable, and the named studies whose records the book shows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from odelib.config import PRESETS, Config
from odelib.confusion import Confusion, measure_confusion
from odelib.cross_solver import CrossSolver, measure_cross_solver
from odelib.data import Dataset, load
from odelib.gradient_error import GradientError, LossScale, measure_gradient_error, measure_loss_scale
from odelib.memory import Memory, measure_memory
from odelib.models import build, count_parameters
from odelib.odeblock import OptionError
from odelib.records import (
    RESULTS,
    Environment,
    Record,
    RecordError,
    Run,
    load_tensors,
    load_weights,
    save_tensors,
    save_weights,
)
from odelib.timing import Timing, measure_timing
from odelib.training import EpochMetrics, fit, make_optimizer
from odelib.tuning import AGAIN, BASELINES, FASHION_MNIST, FULL, TINY_IMAGENET, one_factor


@dataclass(frozen=True)
class Case:
    """One way of training in a study, and the seeds that the study plans for it."""

    config: Config
    seeds: tuple[int, ...] = (0,)


# The task's recipe: full MNIST, the same for every case.
_MNIST = Config(dataset="mnist", epochs=5)
_ONE = replace(_MNIST, epochs=1)
_THREE = (0, 1, 2)
_QUICK = replace(_ONE, batch_size=32, schedule="one-cycle", bf16=True)
_FASTEST = dict(library="odelib", method="bosh3", warm_start=True)  # at an equal tolerance, by the benchmark

STUDIES: dict[str, dict[str, Case]] = {
    # Task 6. A fixed grid takes one step from t=0 to t=1, as torchdiffeq does by default; "-4" takes four.
    "mnist-gradients": {
        "direct-dopri5": Case(_MNIST, _THREE),
        "adjoint-dopri5": Case(replace(_MNIST, gradient="adjoint"), _THREE),
        "adjoint-rk4": Case(replace(_MNIST, gradient="adjoint", method="rk4"), _THREE),
        "adjoint-euler": Case(replace(_MNIST, gradient="adjoint", method="euler"), _THREE),
        "direct-rk4": Case(replace(_MNIST, method="rk4")),
        "direct-euler": Case(replace(_MNIST, method="euler")),
        "adjoint-rk4-4": Case(replace(_MNIST, gradient="adjoint", method="rk4", step_size=0.25)),
        "adjoint-euler-4": Case(replace(_MNIST, gradient="adjoint", method="euler", step_size=0.25)),
        "direct-euler-4": Case(replace(_MNIST, method="euler", step_size=0.25)),
        "seminorm-dopri5": Case(replace(_MNIST, gradient="seminorm")),
        "none": Case(replace(_MNIST, network="none")),
        "resnet-1": Case(replace(_MNIST, network="resnet", blocks=1)),
        "resnet-6": Case(replace(_MNIST, network="resnet", blocks=6)),
    },
    # The book's own solvers against torchdiffeq: one epoch of the task's recipe with each, and ways to 99 % of the test
    # images: odenet_mnist.py's recipe as far as it needs, a learning rate that rises and falls in one epoch, and the
    # same in two epochs with a single step of RK4.
    "speed": {
        "torchdiffeq-direct": Case(_ONE, _THREE),
        "torchdiffeq-adjoint": Case(replace(_ONE, gradient="adjoint"), _THREE),
        "direct": Case(replace(_ONE, **_FASTEST), _THREE),
        "checkpoint": Case(replace(_ONE, gradient="checkpoint", **_FASTEST), _THREE),
        "direct-bf16": Case(replace(_ONE, bf16=True, **_FASTEST), _THREE),
        "to-99-script": Case(replace(PRESETS["odenet-mnist"], epochs=4)),
        "to-99": Case(replace(_QUICK, **_FASTEST), _THREE),
        "to-99-rk4": Case(replace(_QUICK, epochs=2, library="odelib", method="rk4"), _THREE),
    },
    # Task 7. The protocol stands in odelib.tuning.
    "cifar10-tuning": {
        name: Case(config, _THREE if name in BASELINES else (0, 1) if name in AGAIN else (0,))
        for cases in (BASELINES, *one_factor().values())
        for name, config in cases.items()
    },
    "cifar10-full": {name: Case(config, (0, 1)) for name, config in FULL.items()},
    "fashion-mnist": {name: Case(config) for name, config in FASHION_MNIST.items()},
    "tiny-imagenet-20": {name: Case(config) for name, config in TINY_IMAGENET.items()},
}

# What is measured on trained networks, once the cases of their study are there: one record each.
MEASUREMENTS: dict[str, type[Record]] = {
    "timing": Timing,
    "memory": Memory,
    "loss-scale": LossScale,
    "gradient-error": GradientError,
    "cross-solver": CrossSolver,
    "confusion": Confusion,
}
_MEASURED: dict[str, tuple[str, ...]] = {
    "mnist-gradients": ("timing", "memory", "loss-scale", "gradient-error", "cross-solver"),
    "cifar10-full": ("cross-solver", "confusion"),
}
# The network that is measured; its weights are kept with the book.
TRAINED = RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors"


def record_path(study: str, case: str, seed: int, folder: Path = RESULTS) -> Path:
    return folder / study / f"{case}-seed{seed}.json"


def measurement_path(study: str, name: str, folder: Path = RESULTS) -> Path:
    return folder / study / f"{name}.json"


def study_measurements(study: str) -> tuple[str, ...]:
    """The measurements that belong to a study."""
    return _MEASURED.get(study, ())


def study_cases(study: str) -> dict[str, Case]:
    """The cases of a study by name. Raises OptionError for an unknown one."""
    if study not in STUDIES:
        raise OptionError(f"no study {study!r}; choose from {', '.join(STUDIES)}")
    return STUDIES[study]


def study_config(study: str, case: str, seed: int) -> Config:
    """The config of one run of a study. Raises OptionError for an unknown name."""
    cases = study_cases(study)
    if case not in cases:
        raise OptionError(f"study {study} has no case {case!r}; choose from {', '.join(cases)}")
    return replace(cases[case].config, seed=seed)


def missing(study: str, folder: Path = RESULTS) -> list[str]:
    """The records that a study plans and that are not there, or not finished: `<case>-seed<k>` and measurements."""
    names = []
    for case, planned in study_cases(study).items():
        for seed in planned.seeds:
            path = record_path(study, case, seed, folder)
            if not path.exists() or not Run.load(path).finished:
                names.append(path.stem)
    return names + [name for name in study_measurements(study) if not measurement_path(study, name, folder).exists()]


def load_measurement(study: str, name: str, folder: Path = RESULTS) -> Record | None:
    """A measurement (`MEASUREMENTS`) of a study, or None where it has not been made. Raises RecordError."""
    path = measurement_path(study, name, folder)
    return MEASUREMENTS[name].load(path) if path.exists() else None


def measure(study: str, name: str, data_root: Path | None, path: Path, device: torch.device) -> Record:
    """Make a measurement of a study's solvers and keep its record at `path`. Raises RecordError when there is one.

    The networks measured are those whose weights lie beside `path`, or the one that is kept with the book; the data
    set, from `data_root`, is that of the study. Raises DataError when it cannot be had, and OptionError when the
    measurement does not belong to the study.
    """
    if name not in study_measurements(study):
        owners = " and ".join(owner for owner, names in _MEASURED.items() if name in names)
        raise OptionError(f"{name} is measured in {owners}, not in {study}")
    if path.exists():
        raise RecordError(f"{path} holds this measurement; delete it to measure again")
    configs = {case: planned.config for case, planned in study_cases(study).items()}
    data = load(next(iter(configs.values())).dataset, data_root)
    if name == "cross-solver":
        record = measure_cross_solver(configs, data, path.parent, device)
    elif name == "confusion":
        record = measure_confusion(configs, data, path.parent, device)
    else:
        function = {
            "timing": measure_timing,
            "memory": measure_memory,
            "loss-scale": measure_loss_scale,
            "gradient-error": measure_gradient_error,
        }[name]
        trained, _ = load_weights(TRAINED)
        record = function(configs, data, trained, device)
    record.save(path)
    return record


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
