"""What every measurement has: a subject, a record, a function that makes it, and a small part that confirms it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from odelib import sources
from odelib.config import Config
from odelib.data import Dataset
from odelib.errors import RecordError
from odelib.models import ImageClassifier
from odelib.odeblock import ODEBlock
from odelib.records import Record, load_weights, try_to_write


@dataclass(frozen=True)
class Subject:
    """What is measured: the configs of a study's cases, their data, and networks that were trained."""

    cases: dict[str, Config]
    data: Dataset
    device: torch.device
    folder: Path  # where the study's weights lie
    network: ImageClassifier | None = None  # the one that all solvers are tried on, if the study names one

    @property
    def trained(self) -> ImageClassifier:
        """The network that all solvers are tried on. Raises RecordError where the study names none."""
        if self.network is None:
            raise RecordError("this study names no trained network to measure")
        return self.network

    @property
    def f(self) -> nn.Module:
        """The dynamics of that network. Raises RecordError where it has not one ODE block, with a module in it."""
        block = self.trained.block
        if not isinstance(block, ODEBlock) or not isinstance(block.f, nn.Module):
            raise RecordError("the network to measure must have one ODE block")
        return block.f

    def networks(self) -> Iterator[tuple[str, int, ImageClassifier]]:
        """The networks of the cases whose weights lie in the folder: case, seed, model on the device.

        Raises RecordError when there are none.
        """
        found = False
        for case in self.cases:
            for path in sorted(self.folder.glob(f"{case}-seed*.safetensors")):
                seed = path.stem.rpartition("-seed")[2]
                if seed.isdigit():  # a checkpoint has more behind its number
                    found = True
                    yield case, int(seed), load_weights(path)[0].to(self.device)
        if not found:
            raise RecordError(f"{self.folder} holds no weights of this study; train its cases first")


class Timed:
    """What was done several times, and how many `seconds` each time took."""

    seconds: tuple[float, ...]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile of the seconds."""
        return quartiles(self.seconds)


def quartiles(values: tuple[float, ...]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    first, median, third = np.percentile(values, [25, 50, 75]).tolist()
    return first, median, third


@dataclass(frozen=True)
class Measurement:
    """How a record is made. A measurement is one module that ends with one of these (`odelib.measurements`)."""

    record: type[Record]
    measure: Callable[..., Record]  # of a Subject; the options have defaults
    module: str  # the one that makes it, whose digest the record carries
    studies: tuple[str, ...]  # in which it is made, by name
    small: dict[str, Any]  # options that leave a small part of it, for `disagreements`

    # Relative: another processor rounds otherwise, and the kinks of f make that larger.
    TOLERANCE: ClassVar[float] = 1e-3

    def is_stale(self, record: Record) -> bool:
        """Whether neither the code that made the record nor one that confirmed it is the code of today."""
        return not record.environment.fits(sources.digest(self.module))

    def confirm(self, path: Path, subject: Subject, **options: Any) -> list[str]:
        """Repeat a small part of the record at `path`, and note in it that the code of today makes the same figures.

        `options` are those that it was made with, besides the defaults. Where the figures differ, the record stays as
        it is, and the differences come back, one sentence each.
        """
        record = self.record.load(path)
        try_to_write(path)
        found = disagreements(record, self.measure(subject, **options, **self.small))
        if not found:
            confirmed: Any = record  # a dataclass, as all records are
            replace(confirmed, environment=record.environment.confirm(subject.device, self.module)).save(path)
        return found


def disagreements(old: Any, new: Any, where: str = "") -> list[str]:
    """Where a small part that was measured again differs from the record: sentences, none where it is confirmed.

    Rows are found by the fields that their `KEY` names; for rows that the new part lacks nobody looks. Several floats
    in a row are times (or speeds): the new median must lie within the old quartiles. Whole numbers and words must be
    the same, other floats nearly so; errors and gaps are shares of a gradient already, and may move by as much of it.
    What follows from times (`DERIVED`) and the environment are not compared.
    """
    found: list[str] = []
    if is_dataclass(old):
        skipped = ("environment", *getattr(old, "DERIVED", ()))
        for field in fields(old):
            if field.name not in skipped:
                place = f"{where} {field.name}".strip()
                found += disagreements(getattr(old, field.name), getattr(new, field.name), place)
        return found
    if isinstance(new, tuple) and new and is_dataclass(new[0]):
        key: tuple[str, ...] = getattr(new[0], "KEY")  # noqa: B009
        rows = {tuple(getattr(row, name) for name in key): row for row in old}
        for row in new:
            name = tuple(getattr(row, part) for part in key)
            label = f"{where} {' '.join(str(part) for part in name)}".strip()
            found += disagreements(rows[name], row, label) if name in rows else [f"{label} is not in the record"]
        return found
    if isinstance(new, tuple) and new and all(isinstance(value, float) for value in new):
        low, _, high = quartiles(old)
        median = quartiles(new)[1]
        return [] if low <= median <= high else [f"{where} {median:.4g} is not within {low:.4g} and {high:.4g}"]
    if isinstance(new, float) and isinstance(old, (int, float)):
        of_gradient = Measurement.TOLERANCE if where.endswith(("_error", "_gap")) else 0.0
        same = math.isclose(old, new, rel_tol=Measurement.TOLERANCE, abs_tol=of_gradient)
    else:
        same = old == new
    return [] if same else [f"{where} {new!r} is {old!r} in the record"]
