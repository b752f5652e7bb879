"""Records: a run as one JSON file, weights as one safetensors file. Written whole or not at all, never unpickled."""

import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import dacite
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from odelib import __version__
from odelib.config import Config
from odelib.models import ImageClassifier
from odelib.training import EpochMetrics

# The book's records and weights: beside the package in a clone; for a package installed elsewhere, $ODELIB_RESULTS.
RESULTS = Path(os.environ.get("ODELIB_RESULTS") or Path(__file__).parent.parent / "book" / "results")


class RecordError(Exception):
    """A record or weights file that cannot be read. The message says what is wrong with which file."""


@dataclass(frozen=True)
class Environment:
    """Where and when something was measured."""

    date: str  # UTC, when it began
    hardware: str  # name of the processor or GPU
    cores: int  # processor cores that the system offers
    threads: int  # threads that torch computes with
    python: str
    torch: str
    torchdiffeq: str
    odelib: str

    @classmethod
    def here(cls, device: torch.device) -> "Environment":
        """The environment of this process, computing on `device`."""
        return cls(
            date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
            hardware=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
            cores=os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            python=platform.python_version(),
            torch=torch.__version__,
            torchdiffeq=version("torchdiffeq"),
            odelib=__version__,
        )

    def __str__(self) -> str:
        return (
            f"{self.hardware}, {self.threads} of {self.cores} cores, {self.date} UTC, Python {self.python}, "
            f"torch {self.torch}, torchdiffeq {self.torchdiffeq}, odelib {self.odelib}"
        )


R = TypeVar("R", bound="Record")


class Record:
    """What a record can do: be written as one JSON file and be read back. Its subclasses are frozen dataclasses."""

    def save(self, path: str | Path) -> None:
        write_atomically(Path(path), lambda part: part.write_text(self.to_json() + "\n", encoding="utf-8"))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """Read a record. Raises RecordError, naming the file and the field, when it is not one."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
        return cls.from_json(text, path)

    @classmethod
    def from_json(cls: type[R], text: str, path: str | Path) -> R:
        try:
            return dacite.from_dict(cls, json.loads(text), dacite.Config(strict=True, cast=[tuple]))
        except (ValueError, TypeError, AttributeError, dacite.DaciteError) as error:
            raise RecordError(f"{path} is not a record of odelib: {error}") from error


@dataclass(frozen=True)
class Run(Record):
    """A training run: what was asked for, what came out epoch by epoch, and where it was measured."""

    config: Config
    parameters: int  # trainable numbers of the model
    environment: Environment
    metrics: tuple[EpochMetrics, ...] = ()

    @property
    def finished(self) -> bool:
        return len(self.metrics) == self.config.epochs

    @property
    def last(self) -> EpochMetrics:
        """The last epoch, which is the result that is reported."""
        return self.metrics[-1]


def load_study(name: str, folder: Path = RESULTS) -> dict[str, list[Run]]:
    """The finished runs of a study by case, in the order of their seeds: `<folder>/<name>/<case>-seed<k>.json`."""
    runs: dict[str, list[Run]] = {}
    for path in sorted((folder / name).glob("*-seed*.json")):
        run = Run.load(path)
        if run.finished:
            runs.setdefault(path.stem.rpartition("-seed")[0], []).append(run)
    return {case: sorted(found, key=lambda run: run.config.seed) for case, found in runs.items()}


def save_weights(path: str | Path, model: ImageClassifier, config: Config) -> None:
    """Write the model's tensors, with the config and the sizes that rebuild it, as one safetensors file."""
    sizes = {"channels": str(model.channels), "classes": str(model.classes)}
    save_tensors(path, model.state_dict(), {"config": json.dumps(asdict(config)), **sizes})


def load_weights(path: str | Path) -> tuple[ImageClassifier, Config]:
    """The model that `save_weights` stored, in eval mode, and its config. Raises RecordError."""
    tensors, metadata = load_tensors(path)
    try:
        config = dacite.from_dict(Config, json.loads(metadata["config"]), dacite.Config(strict=True, cast=[tuple]))
        model = ImageClassifier(config, int(metadata["channels"]), int(metadata["classes"]))
        model.load_state_dict(tensors)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, dacite.DaciteError) as error:
        reason = " ".join(str(error).split())  # torch writes a line per tensor
        raise RecordError(f"{path} does not hold a model of odelib: {reason}") from error
    return model.eval(), config


def stored_weights(cases: Iterable[str], folder: Path) -> Iterator[tuple[str, int, Path]]:
    """The weights of these cases in the folder of a study: the case, the seed, the file."""
    for case in cases:
        for path in sorted(folder.glob(f"{case}-seed*.safetensors")):
            seed = path.stem.rpartition("-seed")[2]
            if seed.isdigit():  # a checkpoint has more behind its number
                yield case, int(seed), path


def save_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and texts as one safetensors file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(Path(path), lambda part: save_file(tensors, part, metadata))


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a safetensors file. Raises RecordError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path} cannot be read as safetensors ({error})") from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then put it in place at once: readers never see half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        part = Path(folder) / path.name
        write(part)
        part.replace(path)


def _processor() -> str:
    """The processor's name; Linux keeps it in a file, `platform` knows it elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
