"""Records: a run or a measurement as one JSON file, weights as one safetensors file.

Written whole or not at all, never unpickled. A record says where it was made, and by which code.
"""

import base64
import glob
import math
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch import device as Device  # `torch` is a field of Environment

from odelib import __version__, sources
from odelib.config import Config
from odelib.errors import RecordError, in_one_line
from odelib.machine import must_be_a_file
from odelib.models import ImageClassifier
from odelib.strict_json import as_dataclass, dumps, loads
from odelib.training import EpochMetrics


def _results() -> Path:
    """The book's records and weights: in $ODELIB_RESULTS if it is set, else beside the package in a clone; else
    `results` in the folder where the command is given."""
    beside = Path(__file__).parent.parent / "book" / "results"
    return Path(os.environ.get("ODELIB_RESULTS") or (beside if beside.is_dir() else "results"))


RESULTS = _results()

VERSION = 1  # of the files that are written; those without a number are of version 1

# What changes the speed of the processor, the memory that is held, or who computes, by the beginning of its name.
SETTINGS = ("GOMP_", "KMP_", "LD_PRELOAD", "MALLOC_", "MKL_", "OMP_", "PYTORCH_", "TORCH_", "WORLD_SIZE")


@dataclass(frozen=True)
class Confirmation:
    """A small part of a measurement was repeated by later code, and the record's figures came out again."""

    date: str
    hardware: str
    commit: str | None
    sources: str  # digest of the code that repeated it

    @property
    def code(self) -> str:
        """The commit, in words."""
        return _in_words(self.commit)


@dataclass(frozen=True)
class Environment:
    """Where, when and by which code something was measured."""

    date: str  # UTC, when a run began, or a measurement ended
    hardware: str  # name of the processor or GPU
    cores: int  # processor cores that the system offers
    threads: int  # threads that torch computes with
    python: str
    torch: str
    torchdiffeq: str
    odelib: str
    # None in records that are older than these fields.
    commit: str | None = None  # of the clone; + where the package had been changed since
    settings: tuple[str, ...] | None = None  # of threads and allocator, `NAME=value`, those that were set (`SETTINGS`)
    sources: str | None = None  # of a measurement: digest of the code that its figures depend on
    confirmed: tuple[Confirmation, ...] = ()

    @classmethod
    def here(cls, device: Device, module: str | None = None) -> "Environment":
        """The environment of this process, computing on `device`; `module` is the one that makes a measurement."""
        return cls(
            date=_now(),
            hardware=hardware(device),
            cores=os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            python=platform.python_version(),
            torch=torch.__version__,
            torchdiffeq=version("torchdiffeq"),
            odelib=__version__,
            commit=sources.commit(),
            settings=_settings(),
            sources=module and sources.digest(module),
        )

    @property
    def code(self) -> str:
        """The commit, in words where there is none."""
        if self.commit is None and self.settings is None:
            return "before commits were kept"
        return _in_words(self.commit)

    def computes_as(self, other: "Environment") -> bool:
        """Whether the same program makes the same figures in both, as far as can be told."""
        names = ("hardware", "threads", "python", "torch", "torchdiffeq", "odelib", "commit", "settings")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def fits(self, digest: str) -> bool:
        """Whether the code with this digest is the code that made the figures, or that confirmed them."""
        return digest in (self.sources, *(confirmation.sources for confirmation in self.confirmed))

    def confirm(self, device: Device, module: str) -> "Environment":
        """The same with a note that the code of today makes the same figures."""
        note = Confirmation(_now(), hardware(device), sources.commit(), sources.digest(module))
        return replace(self, confirmed=(*self.confirmed, note))

    def __str__(self) -> str:
        return (
            f"{self.hardware}, {self.threads} of {self.cores} cores, {self.date} UTC, Python {self.python}, "
            f"torch {self.torch}, torchdiffeq {self.torchdiffeq}, odelib {self.odelib} ({self.code})"
        )


R = TypeVar("R", bound="Record")


class Record:
    """What a record can do: be written as one JSON file and be read back. Its subclasses are frozen dataclasses."""

    environment: Environment

    def save(self, path: str | Path) -> None:
        """Write it. Raises RecordError, also for a figure that is no finite number."""
        try:
            text = self.to_json() + "\n"
        except ValueError as error:
            raise RecordError(f"{path} cannot be written ({error})") from error
        write_atomically(Path(path), lambda part: part.write_text(text, encoding="utf-8"))

    def to_json(self) -> str:
        values = asdict(self)  # type: ignore[call-overload]  # every subclass is a dataclass
        return dumps({"version": VERSION, **values}, indent=1)

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """Read a record. Raises RecordError, naming the file and the field, when it is not one."""
        try:
            must_be_a_file(Path(path))
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:  # a name or a text that is none
            raise RecordError(f"{path} cannot be read ({in_one_line(error)})") from error
        return cls.from_json(text, path)

    @classmethod
    def from_json(cls: type[R], text: str, path: str | Path) -> R:
        try:
            values = loads(text)
            _must_be_known(values.pop("version", 1), path)
            record = as_dataclass(cls, values)
            record.check()
        except ValueError as error:
            raise RecordError(f"{path} is not a record of odelib: {in_one_line(error)}") from error
        return record

    def check(self) -> None:
        """Raise ValueError where figures contradict each other, or cannot be."""


def _must_be_known(version: Any, path: str | Path) -> None:
    """Raise ValueError for what is no version of a file, RecordError for one that only a newer odelib can read."""
    if type(version) is not int or version < 1:
        raise ValueError(f"the version must be a whole number from 1, got {version!r}")
    if version > VERSION:
        raise RecordError(f"{path} was written by a newer odelib (version {version} of its files); install that one")


@dataclass(frozen=True)
class Extension:
    """A run was given more epochs, or a lower rate: what it was to be until then, and when that was."""

    epochs: int  # that it was to have
    lr: float  # that it had
    epoch: int  # the pass in which it was changed, counted from 1
    step: int  # steps of that pass that were done before


@dataclass(frozen=True)
class Run(Record):
    """A training run: what was asked for, what came out epoch by epoch, and where it was measured."""

    config: Config
    parameters: int  # trainable numbers of the model
    environment: Environment
    metrics: tuple[EpochMetrics, ...] = ()
    data: str | None = None  # digest of the images; None in older records
    later: tuple[Environment, ...] = ()  # where the run went on, if elsewhere or otherwise
    extended: tuple[Extension, ...] = ()  # what `config` was before
    # which test images, or images held out, the finished network gets wrong (`pack_bits`); None in older records
    wrong: str | None = None

    def goes_on(self, environment: Environment) -> "Run":
        """The run, going on in this environment, which is noted if figures may depend on the difference."""
        last = (self.environment, *self.later)[-1]
        return self if environment.computes_as(last) else replace(self, later=(*self.later, environment))

    @property
    def finished(self) -> bool:
        return len(self.metrics) == self.config.epochs

    def check(self) -> None:
        """Raise ValueError where epochs are out of order, or a figure is out of its range."""
        if len(self.metrics) > self.config.epochs:
            raise ValueError(f"it has {len(self.metrics)} epochs of {self.config.epochs}")
        for number, metrics in enumerate(self.metrics, start=1):
            if metrics.epoch != number:
                raise ValueError(f"where epoch {number} should be, epoch {metrics.epoch} is")
            for name, value in vars(metrics).items():
                most = 1 if name.endswith("accuracy") else math.inf
                if value is not None and not 0 <= value <= most:
                    raise ValueError(f"{name} of epoch {number} cannot be {value}")
            if metrics.test_accuracy is None and metrics.validation_accuracy is None:
                raise ValueError(f"epoch {number} has neither a test accuracy nor a validation accuracy")
        if self.wrong is not None:
            unpack_bits(self.wrong)

    @property
    def last(self) -> EpochMetrics:
        """The last epoch, which is the result that is reported."""
        return self.metrics[-1]


def pack_bits(bits: Tensor) -> str:
    """Booleans (n,) as text: base64 of n / 8 bytes, the first one the highest bit; the last byte is filled with 0."""
    return base64.b64encode(np.packbits(bits.cpu().numpy()).tobytes()).decode("ascii")


def unpack_bits(text: str) -> Tensor:
    """What `pack_bits` packed, with the zeros that fill the last byte. Raises ValueError for other text."""
    raw = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(raw).astype(bool))


def save_weights(
    path: str | Path,
    model: ImageClassifier,
    config: Config,
    names: Sequence[str] = (),
    more: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the model's tensors, with the config and the sizes that rebuild it, as one safetensors file.

    `names` are those of its classes, if they are known. `more` are tensors of its optimiser, `optimizer.<...>`, which
    `load_weights` leaves out. Raises RecordError where it cannot be written.
    """
    texts = {"version": str(VERSION), "config": dumps(asdict(config)), "channels": str(model.channels)}
    texts |= {"classes": str(model.classes), **({"names": dumps({"classes": names})} if names else {})}
    save_tensors(path, {**model.state_dict(), **(more or {})}, texts)


def load_weights(path: str | Path) -> tuple[ImageClassifier, Config]:
    """The model that `save_weights` stored, of float32 numbers, in eval mode, and its config. Raises RecordError."""
    tensors, texts = load_tensors(path)
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith("optimizer.")}
    try:
        lacking = [key for key in ("config", "channels", "classes") if key not in texts]
        if lacking:
            raise ValueError(f"it says nothing of {', '.join(lacking)}")
        _must_be_known(int(texts.get("version", 1)), path)
        config = as_dataclass(Config, loads(texts["config"]))
        channels, classes = int(texts["channels"]), int(texts["classes"])
        if min(channels, classes) < 1:
            raise ValueError(f"it is for {channels} channels and {classes} classes")
        with torch.device("meta"):  # which has shapes and no memory, until they are seen to fit
            model = ImageClassifier(config, config, channels, classes).float()  # whatever the default type is here
        _must_fit(weights, model.state_dict())
        model.to_empty(device="cpu").load_state_dict(weights)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise RecordError(f"{path} does not hold a model of odelib: {in_one_line(error)}") from error
    return model.eval(), config


def _must_fit(weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise ValueError where weights are not those of the network that they should be, or not finite numbers."""
    if weights.keys() != expected.keys():
        name = min(weights.keys() ^ expected.keys())
        raise ValueError(f"{name} is {'missing' if name in expected else 'one too many'}")
    for name, tensor in weights.items():
        there, fits = ((tuple(t.shape), t.dtype) for t in (tensor, expected[name]))
        if there != fits:
            raise ValueError(f"{name} is {there[0]} {there[1]} where the network has {fits[0]} {fits[1]}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} has numbers that are not finite")


def load_class_names(path: str | Path) -> tuple[str, ...] | None:
    """The names of the classes that weights were trained on; None in older files. Raises RecordError."""
    text = load_tensors(path)[1].get("names")
    try:
        return None if text is None else as_dataclass(_Names, loads(text)).classes
    except ValueError as error:
        raise RecordError(f"{path} does not hold a model of odelib: {error}") from error


@dataclass(frozen=True)
class _Names:
    classes: tuple[str, ...]


def save_tensors(
    path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str], before: Path | None = None
) -> None:
    """Write tensors and texts as one safetensors file. `before` and errors as for `write_atomically`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(Path(path), lambda part: save_file(tensors, part, metadata), before)


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a safetensors file. Raises RecordError."""
    try:
        must_be_a_file(Path(path))
        with open(path, "rb"):
            pass  # which knows why it cannot be opened
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  # it is no dict
    except Exception as error:  # a damaged file can raise anything in those who read it
        raise RecordError(f"{path} cannot be read as safetensors ({in_one_line(error)})") from error


def write_atomically(path: Path, write: Callable[[Path], object], before: Path | None = None) -> None:
    """Let `write` fill a file beside `path`, then put it in place at once: readers never see half of it.

    It is on the disk before it is in place, so that a power failure leaves either the old file or the new one. `before`
    is where the old one is kept. Raises RecordError where the file cannot be written.
    """
    with _beside(path) as part:
        write(part)
        _to_disk(part)
        with suppress(OSError):  # some writers make files that only their owner can read; some disks know no rights
            part.chmod(0o666 & ~_umask())
        if before and path.exists():
            path.replace(before)
        part.replace(path)
        with suppress(OSError):  # Windows opens no folders, some network drives wait for none
            _to_disk(path.parent)


def try_to_write(path: Path) -> None:
    """Raise RecordError now, before any work is done, where nothing could be kept at `path`."""
    with _beside(path) as part:
        if path.is_dir():
            raise IsADirectoryError("a folder of this name is in the way")
        part.write_bytes(b"trial")


def sweep(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left. No other process may write it now."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A place for a file in a folder beside `path`, which goes with the block. Raises RecordError for its errors."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            yield Path(folder) / path.name
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path} cannot be written ({in_one_line(error)})") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _to_disk(path: Path) -> None:
    """Wait until the file, or what a folder lists, is on the disk."""
    file = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def hardware(device: torch.device) -> str:
    """The name of the processor or GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


def _settings() -> tuple[str, ...]:
    """Those of `SETTINGS` that are set; of a file, as in LD_PRELOAD, its name without the folders of this machine."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith(SETTINGS)}
    return tuple(f"{name}={re.sub(r'[^ :;,=]*/', '', value)}" for name, value in found.items())


def _in_words(commit: str | None) -> str:
    """What `sources.commit` found."""
    if commit is None:
        return "outside of a clone"
    return f"commit {commit.rstrip('+')}" + (" and changes" if commit.endswith("+") else "")


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")


def _processor() -> str:
    """The processor's name; Linux keeps it in a file, `platform` knows it elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
