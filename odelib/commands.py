"""The commands of `odelib`, one class each: its fields are the options, its docstring and comments the help.

Whatever takes long to import, torch above all, is imported by the command that needs it, when it is called: help and
wrong options do not wait. Only the options of `train` are those of a Config, which needs torch to be known. `trains`
says whether a command that was interrupted goes on when it is given again.
"""

import os
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from odelib.errors import OptionError, OutOfMemory, RecordError, memory_for

if TYPE_CHECKING:
    import torch

    from odelib import studies
    from odelib.config import Config
    from odelib.data import Dataset

Device = Literal["auto", "cpu", "cuda"]


def _device(name: Device) -> "torch.device":
    import torch

    from odelib.training import default_device

    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("torch finds no CUDA device here; take --device cpu or auto")
    return default_device() if name == "auto" else torch.device(name)


def _results(out: Path | None) -> Path:
    """The folder that was asked for, else that of the book. Raises OptionError where there is no book."""
    from odelib.records import RESULTS

    if out is None and not RESULTS.is_dir() and not os.environ.get("ODELIB_RESULTS"):
        raise OptionError("there is no clone of the book here, which has a folder for records; add --out FOLDER")
    return RESULTS if out is None else out


@dataclass
class Train:
    """Train a network; keep its record (.json) and weights (.safetensors). Interrupted, the same command goes on."""

    if TYPE_CHECKING:
        config: Config  # which `odelib.cli` adds, since its options need torch to be known
    preset: str | None = None  # start from a named recipe; other options change it
    out: Path = Path("runs")  # folder for record and weights
    name: str | None = None  # their file name without seed and ending; by default made from the config
    data: Path | None = None  # where full data sets are kept (default: $ODELIB_DATA, else ~/.cache/odelib)
    device: Device = "auto"  # where to compute; auto takes CUDA if there is one
    extend: Annotated[
        bool,
        arg(
            help="go on with the run of this --name, with more --epochs or, if it is not finished, a lower --lr; "
            "schedules constant and step go on as if it had been so from the start, cosine, one-cycle and linear jump "
            "to where the longer or lower curve is by then; a finished run with --ema cannot go on"
        ),
    ] = False

    trains = True

    def __call__(self) -> None:
        from odelib.data import load_dataset
        from odelib.distributed import joined
        from odelib.runs import inside

        device = _device(self.device)
        if self.extend and self.name is None:
            raise OptionError(
                "--extend wants the --name of the run; names that are made from the options differ with them"
            )
        name = self.config.case() if self.name is None else self.name
        path = inside(self.out, f"{name}-seed{self.config.seed}" if name else name)
        data = load_dataset(self.config.dataset, self.data, self.config.image_size)
        with joined(device) as processes:
            device = processes.device or device
            if processes.first:
                _note_bfloat16(self.config, device)
            said = _train(self.config, data, path, device, extend=self.extend, keep_optimizer=True, processes=processes)
        if processes.first:
            print(said)


def _train(config: "Config", data: "Dataset", path: Path, device: "torch.device", **how: Any) -> str:
    """Make a run; return what came of it, in a line."""
    from odelib.runs import run

    with memory_for(path):
        record = run(config, data, path, device, lambda metrics: print(metrics, flush=True), **how)
    return f"{record.parameters:,} parameters; record {path}, weights {path.with_suffix('.safetensors')}"


def _note_bfloat16(config: "Config", device: "torch.device") -> None:
    """Say that bfloat16 is slow here, where a processor has to make it out of 32 bit numbers."""
    import torch

    asked = [option for option, on in (("bf16", config.bf16), ("stem-bf16", config.stem_bf16)) if on]
    if asked and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        off = " ".join(f"--no-{option}" for option in asked)
        print(
            f"odelib: this processor has no instructions for bfloat16, which is several times slower here than 32 bit; "
            f"{off} does without",
            file=sys.stderr,
            flush=True,
        )


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

    trains = False

    def __call__(self) -> None:
        from odelib.data import load_dataset
        from odelib.odeblock import LIBRARIES, Solver, change_solver, count_evaluations
        from odelib.records import load_class_names, load_weights
        from odelib.training import EVALUATED_AT_ONCE, evaluate
        from odelib.trial import try_one_picture

        device = _device(self.device)
        model, trained = load_weights(self.weights)
        asked = {name: getattr(self, name) for name in ("dataset", "library", "method", "rtol", "atol", "step_size")}
        library = self.library or trained.library
        adaptive = (self.method or trained.method) in LIBRARIES[library].adaptive
        # The first two are matters of training, and do not go with every solver; nor does the third.
        stop_at_t1 = trained.stop_at_t1 and adaptive and library == "torchdiffeq"
        trained = replace(trained, warm_start=False, gradient="direct", stop_at_t1=stop_at_t1)
        if adaptive:
            trained = replace(trained, step_size=None)  # belongs to the fixed grid of training
        config = replace(trained, **{name: value for name, value in asked.items() if value is not None})
        change_solver(model, config.part(Solver))
        data = load_dataset(config.dataset, self.data, config.image_size)
        channels, classes = data.channels, len(data.classes)
        fits = (model.channels, model.classes)
        if (channels, classes) != fits:
            raise OptionError(
                f"these weights are for {fits[0]} channels and {fits[1]} classes; "
                f"{config.dataset} has {channels} and {classes}"
            )
        names = load_class_names(self.weights)
        if names is not None and names != data.classes:
            raise OptionError(
                f"these weights know the classes {', '.join(names)}; {config.dataset} has {', '.join(data.classes)}"
            )
        with memory_for(self.weights):
            test = data.test.to(device)
            try_one_picture(model.to(device), test)
            with count_evaluations(model) as seen:
                loss, accuracy = evaluate(model, test)
        nfe = seen.n / -(-len(test) // EVALUATED_AT_ONCE)
        print(f"{config.dataset}: accuracy {accuracy:.2%} of {len(test):,} test images, loss {loss:.4f}, NFE {nfe:.1f}")


@dataclass
class Data:
    """Say what a data set holds; a full set that is not there yet is downloaded."""

    name: Positional[str]  # a name, such as mnist, or the path of a folder with train/ and val/
    data: Path | None = None  # where full data sets are kept
    image_size: int = 64  # side in pixels that images of a folder are brought to

    trains = False

    def __call__(self) -> None:
        from odelib.data import Selection, load_dataset

        chosen = Selection(dataset=self.name, image_size=self.image_size)
        data = load_dataset(chosen.dataset, self.data, chosen.image_size)
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

    trains = False

    def __call__(self) -> None:
        from odelib.records import Run

        shown = Run.load(self.record)
        print(f"odelib train {shown.config.options()}")
        print(shown.environment)
        for later in shown.later:
            print(f"went on: {later}")
        for was in shown.extended:
            when = f"extended in epoch {was.epoch}, after step {was.step}"
            print(f"{when}: it was to have {was.epochs} epochs, lr {was.lr:g}")
        print(f"{shown.parameters:,} parameters, {len(shown.metrics)} of {shown.config.epochs} epochs")
        for metrics in shown.metrics:
            print(metrics)


@dataclass
class Study:
    """Make the records of a named study, run by run; finished ones are skipped. Or make one of its measurements."""

    name: Positional[str]  # which study; a name that is none is answered by those that are
    case: str | None = None  # one case only
    seed: int | None = None  # this seed only; by default all that the study plans
    shard: str | None = None  # such as 2/3: every third run, beginning with the second, so that three processes share
    status: bool = False  # only list what is there, what is missing, and what was measured by other code
    measure: str | None = None  # what to measure, such as timing; while timing, nothing else should run on the machine
    images: int | None = None  # for some measurements: how many test images to measure on
    confirm: bool = False  # repeat a small part of that measurement, to show that the code of today makes the same
    out: Path | None = None  # holds a folder for each study; by default $ODELIB_RESULTS, or book/results of the clone
    data: Path | None = None  # where full data sets are kept
    device: Device = "auto"  # where to compute

    @property
    def trains(self) -> bool:
        return not self.status and self.measure is None

    def __call__(self) -> None:
        from odelib.studies import find_study

        study, out, device = find_study(self.name), _results(self.out), _device(self.device)
        if self.confirm and not self.measure:
            raise OptionError("--confirm wants a measurement; add --measure and its name")
        if self.images is not None and (self.confirm or not self.measure):
            raise OptionError("--images belongs to a new measurement; take it with --measure and without --confirm")
        if self.measure is None:
            self._train(study, out, device)
            return
        if self.case or self.seed is not None or self.shard or self.status:
            raise OptionError(
                "--measure measures all cases at once; take it without --case, --seed, --shard and --status"
            )
        path = study.measurement_path(self.measure, out)
        if self.confirm:
            _report(study.confirm(self.measure, self.data, path, device), path)
        else:
            study.measure(self.measure, self.data, path, device, self.images)
            print(f"{self.measure}: record {path}", flush=True)

    def _train(self, study: "studies.Study", out: Path, device: "torch.device") -> None:
        from odelib.data import load_dataset
        from odelib.locks import Locked
        from odelib.runs import Finished, is_finished
        from odelib.studies.results import stale

        failed = []
        for case, seed in _share(list(study.planned(self.case, self.seed)), self.shard):
            config, path = study.config(case, seed), study.record_path(case, seed, out)
            try:
                record = study.record(case, seed, out)
                epochs = len(record.metrics) if record else 0
                print(f"{path.stem:24} {epochs} of {config.epochs} epochs   {path}", flush=True)
                if not self.status and not is_finished(path, config):
                    data = load_dataset(config.dataset, self.data, config.image_size)
                    _note_bfloat16(config, device)
                    print(_train(config, data, path, device))
            except Finished:  # by another process, just now
                pass
            except Locked as error:
                print(f"passed over: {error}", flush=True)
            except (FloatingPointError, RecordError, OutOfMemory) as error:  # the next case has nothing to do with it
                print(f"{path.stem}: {error}", file=sys.stderr, flush=True)
                failed.append(path.stem)
        if self.status:
            left = study.missing(out)
            print(f"missing: {', '.join(left)}" if left else "nothing is missing")
            old = [name.stem for name in stale(out) if name.parent.name == self.name]
            if old:
                print(f"made by other code: {', '.join(old)}; measure again, or --measure NAME --confirm")
        if failed:
            rest = "" if self.status else "; the other runs are made"
            raise RecordError(f"{self.name}: {', '.join(failed)} failed as said above{rest}")


def _share(runs: list[tuple[str, int]], shard: str | None) -> list[tuple[str, int]]:
    """Every n-th run, beginning with the i-th, for a shard i/n. Raises OptionError."""
    if shard is None:
        return runs
    found = re.fullmatch(r"(\d+)/(\d+)", shard, re.ASCII)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise OptionError(f"--shard must be such as 2/3, the second of three, got {shard!r}")
    return runs[int(found[1]) - 1 :: int(found[2])]


def _report(differences: list[str], path: Path) -> None:
    """Say whether a record was confirmed. Raises RecordError where it was not."""
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise RecordError(f"{path} is not confirmed: {differences[0]}{more}; move it away to measure again")
    print(f"confirmed: record {path}")


@dataclass
class Benchmark:
    """Time the training step of an ODE-Net with torchdiffeq and with odelib. Nothing else should run on the machine."""

    name: Positional[str]  # of the record, such as that of the machine
    dataset: str = "mnist"  # whose images the steps are taken on
    batch_size: int = 128  # images per step
    rounds: int = 21  # steps that are timed, of every case
    images: int = 32  # for which the gradients are compared with the exact ones
    threads: int | None = None  # threads that torch computes with; by default all
    compiled: bool = False  # also time f and torchode by torch.compile, which wants a C++ compiler and minutes
    confirm: bool = False  # repeat a small part of the record of this name, with its number of threads
    out: Path | None = None  # of the record; by default benchmark/ in $ODELIB_RESULTS, or in book/results of the clone
    data: Path | None = None  # where full data sets are kept
    device: Device = "auto"  # where to compute

    trains = False

    def __call__(self) -> None:
        import torch

        from odelib.data import load_dataset
        from odelib.measurements import MEASUREMENTS
        from odelib.measurements.benchmark import EVALUATIONS
        from odelib.records import try_to_write
        from odelib.runs import inside
        from odelib.studies import find_study

        folder, device = self.out or _results(None) / "benchmark", _device(self.device)
        for option in ("batch_size", "rounds", "images", "threads"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise OptionError(f"{option} must be positive, got {value}")
        cores = os.cpu_count() or 1
        if self.threads is not None and self.threads > cores:
            raise OptionError(f"threads must be at most the {cores} cores of this machine, got {self.threads}")
        path, how = inside(folder, self.name), MEASUREMENTS["benchmark"]
        if path.exists() and not self.confirm:
            raise RecordError(f"{path} holds a benchmark; move it away to measure again, or choose another name")
        try_to_write(path)
        data = load_dataset(self.dataset, self.data)
        if len(data.train) < self.batch_size:
            raise OptionError(f"batch_size must be at most the {len(data.train)} images of {self.dataset}")
        subject = replace(find_study("mnist-gradients").subject(folder, self.data, device), data=data)
        if data.channels != subject.trained.channels:
            raise OptionError(
                f"the network that is timed takes images of {subject.trained.channels} channel, as mnist has; "
                f"{self.dataset} has {data.channels}"
            )
        threads = how.record.load(path).environment.threads if self.confirm else self.threads
        if threads:
            torch.set_num_threads(threads)
            if hasattr(os, "sched_setaffinity"):  # Linux: holds for libraries with threads of their own too
                os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        if self.confirm:
            made = {"batch_size": self.batch_size, "rounds": self.rounds, "images": self.images}
            _report(how.confirm(path, subject, **made), path)
            return
        ways = EVALUATIONS if self.compiled else EVALUATIONS[:-1]
        record = how.measure(subject, self.batch_size, self.rounds, self.images, evaluations=ways)
        record.save(path)
        print(record)
        print(f"record {path}")
