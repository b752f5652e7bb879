"""The command line: `odelib train`, `evaluate`, `data`, `show`, `study`, `benchmark`. A run takes a Config."""

import argparse
import contextlib
import io
import itertools
import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from tyro.conf import OmitArgPrefixes, Positional, subcommand

from odelib.benchmark import EVALUATIONS, measure_benchmark
from odelib.config import PRESETS, Config
from odelib.data import DataError, load
from odelib.experiments import (
    MEASUREMENTS,
    STUDIES,
    TRAINED,
    measure,
    measurement_path,
    missing,
    record_path,
    run,
    study_cases,
    study_config,
)
from odelib.odeblock import LIBRARIES, ODEBlock, OptionError, count_evaluations
from odelib.records import RESULTS, RecordError, Run, load_weights
from odelib.solvers import SolverError
from odelib.training import EVALUATED_AT_ONCE, default_device, evaluate

Device = Literal["auto", "cpu", "cuda"]


def _device(name: Device) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("torch finds no CUDA device here; take --device cpu or auto")
    return default_device() if name == "auto" else torch.device(name)


@dataclass
class Train:
    """Train a network; keep its record (.json) and weights (.safetensors). Interrupted, the same command goes on."""

    config: OmitArgPrefixes[Config]
    preset: Literal[tuple(PRESETS)] | None = None  # start from a named recipe; other options change it
    out: Path = Path("runs")  # folder for record and weights
    name: str | None = None  # their file name without seed and ending; by default made from the config
    data: Path | None = None  # where full data sets are kept (default: $ODELIB_DATA, else ~/.cache/odelib)
    device: Device = "auto"  # where to compute; auto takes CUDA if there is one

    def __call__(self) -> None:
        device = _device(self.device)
        data = load(self.config.dataset, self.data, self.config.image_size)
        path = self.out / f"{self.name or self.config.case()}-seed{self.config.seed}.json"
        _train(self.config, data, path, device)


def _train(config, data, path, device) -> None:
    record = run(config, data, path, device, lambda metrics: print(metrics, flush=True))
    print(f"{record.parameters:,} parameters; record {path}, weights {path.with_suffix('.safetensors')}")


@dataclass
class Evaluate:
    """Test stored weights, if you like on other data or with another solver than they were trained with."""

    weights: Positional[Path]  # .safetensors file that `odelib train` wrote
    dataset: str | None = None  # as for train; by default what the weights were trained on
    library: Literal["torchdiffeq", "odelib"] | None = None  # whose solver; by default the one of training
    method: str | None = None  # solver; by default the one of training
    rtol: float | None = None  # relative tolerance; by default the one of training
    atol: float | None = None  # absolute tolerance; by default the one of training
    step_size: float | None = None  # step of a fixed grid; by default the one of training
    data: Path | None = None  # where full data sets are kept
    device: Device = "auto"  # where to compute

    def __call__(self) -> None:
        device = _device(self.device)
        model, trained = load_weights(self.weights)
        asked = {name: getattr(self, name) for name in ("dataset", "library", "method", "rtol", "atol", "step_size")}
        if (asked["method"] or asked["library"]) and trained.warm_start:  # a matter of training
            asked["warm_start"] = False
        if self.method and self.method not in LIBRARIES[self.library or trained.library][1]:
            trained = replace(trained, step_size=None)  # belongs to the fixed grid of training
        asked["gradient"] = "adjoint"  # none is computed, and this one goes with every method
        config = replace(trained, **{name: value for name, value in asked.items() if value is not None})
        for block in (module for module in model.modules() if isinstance(module, ODEBlock)):
            for name in ("library", "method", "rtol", "atol", "step_size", "warm_start", "gradient"):
                setattr(block, name, getattr(config, name))
        data = load(config.dataset, self.data, config.image_size)
        channels, classes = data.channels, len(data.classes)
        fits = (model.channels, model.classes)
        if (channels, classes) != fits:
            raise OptionError(
                f"these weights are for {fits[0]} channels and {fits[1]} classes; "
                f"{config.dataset} has {channels} and {classes}"
            )
        test = data.test.to(device)
        with count_evaluations(model) as seen:
            loss, accuracy = evaluate(model.to(device), test)
        nfe = seen.n / -(-len(test) // EVALUATED_AT_ONCE)
        print(f"{config.dataset}: accuracy {accuracy:.2%} of {len(test):,} test images, loss {loss:.4f}, NFE {nfe:.1f}")


@dataclass
class Data:
    """Say what a data set holds; a full set that is not there yet is downloaded."""

    name: Positional[str]  # a name, such as mnist, or the path of a folder with train/ and val/
    data: Path | None = None  # where full data sets are kept
    image_size: int = 64  # side in pixels that images of a folder are brought to

    def __call__(self) -> None:
        config = Config(dataset=self.name, image_size=self.image_size)  # which refuses a size that is none
        data = load(config.dataset, self.data, config.image_size)
        print(f"{data.name}: images of {' x '.join(str(n) for n in data.train.images.shape[1:])} (C, H, W)")
        width = max(len(name) for name in (*data.classes, "class"))
        print(f"{'class':{width}}  {'train':>6}  {'test':>6}")
        counts = [part.labels.bincount(minlength=len(data.classes)).tolist() for part in (data.train, data.test)]
        for name, train, test in zip(data.classes, *counts):
            print(f"{name:{width}}  {train:6,}  {test:6,}")
        print(f"{'all':{width}}  {len(data.train):6,}  {len(data.test):6,}")


@dataclass
class Show:
    """Print a record: how it was made, where, and its metrics epoch by epoch."""

    record: Positional[Path]  # .json file that `odelib train` wrote

    def __call__(self) -> None:
        shown = Run.load(self.record)
        print(f"odelib train {shown.config.options()}")
        print(shown.environment)
        print(f"{shown.parameters:,} parameters, {len(shown.metrics)} of {shown.config.epochs} epochs")
        for metrics in shown.metrics:
            print(metrics)


@dataclass
class Study:
    """Make the records of a named study, run by run; finished ones are skipped. With a measurement, make only that."""

    name: Positional[Literal[tuple(STUDIES)]]  # which study
    case: str | None = None  # one case only
    seed: int | None = None  # this seed only; by default all that the study plans
    status: bool = False  # only list what is there and what is missing
    timing: bool = False  # measure seconds per training step; nothing else should run on the machine
    memory: bool = False  # count what autograd keeps for the backward pass
    loss_scale: bool = False  # solve the adjoint equation at many scales of the loss
    gradient_error: bool = False  # compare gradients with a tight reference
    cross_solver: bool = False  # test the trained networks with other solvers
    confusion: bool = False  # count which class the trained networks take for which
    out: Path = RESULTS  # folder that holds a folder for each study
    data: Path | None = None  # where full data sets are kept
    device: Device = "auto"  # where to compute

    def __call__(self) -> None:
        device = _device(self.device)
        asked = [name for name in MEASUREMENTS if getattr(self, name.replace("-", "_"))]
        if asked and (self.case or self.seed is not None or self.status):
            raise OptionError(f"--{asked[0]} measures all cases at once; take it without --case, --seed and --status")
        for name in asked:
            path = measurement_path(self.name, name, self.out)
            measure(self.name, name, self.data, path, device)
            print(f"{name}: record {path}", flush=True)
        if not asked:
            self._train(device)

    def _train(self, device: torch.device) -> None:
        for case in [self.case] if self.case else study_cases(self.name):
            study_config(self.name, case, 0)  # refuses an unknown case
            for seed in study_cases(self.name)[case].seeds if self.seed is None else [self.seed]:
                config = study_config(self.name, case, seed)
                path = record_path(self.name, case, seed, self.out)
                epochs = len(Run.load(path).metrics) if path.exists() else 0
                print(f"{path.stem:24} {epochs} of {config.epochs} epochs   {path}", flush=True)
                if not self.status and epochs < config.epochs:
                    _train(config, load(config.dataset, self.data, config.image_size), path, device)
        if self.status:
            left = missing(self.name, self.out)
            print(f"missing: {', '.join(left)}" if left else "nothing is missing")


@dataclass
class Benchmark:
    """Time the training step of an ODE-Net with torchdiffeq and with odelib. Nothing else should run on the machine."""

    name: Positional[str]  # of the record, such as that of the machine
    dataset: str = "mnist"  # whose images the steps are taken on
    batch_size: int = 128  # images per step
    rounds: int = 21  # steps that are timed, of every case
    images: int = 32  # for which the gradients are compared with the exact ones
    threads: int | None = None  # threads that torch computes with; by default all
    compiled: bool = False  # also time f by torch.compile, which wants a C++ compiler
    out: Path = RESULTS / "benchmark"  # folder for the record
    data: Path | None = None  # where full data sets are kept
    device: Device = "auto"  # where to compute

    def __call__(self) -> None:
        device = _device(self.device)
        for option in ("batch_size", "rounds", "images", "threads"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise OptionError(f"{option} must be positive, got {value}")
        path = self.out / f"{self.name}.json"
        if path.exists():
            raise RecordError(f"{path} holds a benchmark; delete it to measure again, or choose another name")
        data = load(self.dataset, self.data)
        if len(data.train) < self.batch_size:
            raise OptionError(f"batch_size must be at most the {len(data.train)} images of {self.dataset}")
        trained, _ = load_weights(TRAINED)
        if data.channels != trained.channels:
            raise OptionError(
                f"the network that is timed takes images of {trained.channels} channel, as mnist has; "
                f"{self.dataset} has {data.channels}"
            )
        if self.threads:
            torch.set_num_threads(self.threads)
            if hasattr(os, "sched_setaffinity"):  # Linux: holds for libraries with threads of their own too
                os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: self.threads])
        ways = EVALUATIONS if self.compiled else EVALUATIONS[:-1]
        record = measure_benchmark(
            data, trained, device, self.batch_size, self.rounds, self.images, evaluations=ways
        )
        record.save(path)
        print(record)
        print(f"record {path}")


def _is_rule(line: str) -> bool:
    return line.startswith("─") or set(line) == {"-"}


def _parse(commands, argv: list[str]):
    """The command that `argv` asks for. What tyro would say of bad input in a box becomes one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(commands, prog="odelib", description="Neural ODEs for image classification.", args=argv)
    except SystemExit as stop:
        if stop.code != 2:
            raise
        # A box of parts with rules between them: title (part of the first rule where boxes are drawn), error, hints.
        lines = [line.strip("│╭╮╰╯ ") for line in said.getvalue().splitlines()]
        after_title = itertools.dropwhile(lambda line: not _is_rule(line), lines)
        error = next(part for rule, part in itertools.groupby(after_title, _is_rule) if not rule)
        message = re.sub(r"Error parsing (__tyro-dummy-inner__\S+ )?", "", " ".join(error))
        raise OptionError(f"{message} (see odelib {' '.join(argv[:1])} --help)".replace("  ", " ")) from None


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 2 bad input (one line says what), 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--preset", nargs="?")  # read first, since it sets the defaults of all the others
    start = Train(config=PRESETS.get(peek.parse_known_args(argv)[0].preset, Config()))
    commands = (
        Annotated[Train, subcommand("train", default=start)]
        | Annotated[Evaluate, subcommand("evaluate")]
        | Annotated[Data, subcommand("data")]
        | Annotated[Show, subcommand("show")]
        | Annotated[Study, subcommand("study")]
        | Annotated[Benchmark, subcommand("benchmark")]
    )
    try:
        _parse(commands, argv)()
    except (DataError, RecordError, OptionError, SolverError, FloatingPointError, OSError) as error:
        print(f"odelib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("odelib: interrupted; the same command goes on after the last finished epoch", file=sys.stderr)
        return 130
    return 0
