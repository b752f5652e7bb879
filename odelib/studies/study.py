"""A study: a question, the cases that are trained to answer it, what is measured on them, and where the records lie."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path

import torch

from odelib.config import Config
from odelib.data import load_dataset
from odelib.errors import OptionError, RecordError
from odelib.measurements import MEASUREMENTS, Subject
from odelib.records import RESULTS, Record, Run, load_weights, try_to_write
from odelib.runs import is_finished


@dataclass(frozen=True)
class Case:
    """One way of training in a study, and the seeds that the study plans for it."""

    config: Config
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Study:
    """The named runs of one question. Their records are `<results>/<name>/<case>-seed<k>.json`."""

    name: str
    question: str
    cases: Mapping[str, Case]
    trained: str | None = None  # the run whose network all solvers are tried on; its weights are kept with the book

    @property
    def measurements(self) -> tuple[str, ...]:
        """What is measured in this study, by its name in `MEASUREMENTS`."""
        return tuple(name for name, how in MEASUREMENTS.items() if self.name in how.studies)

    def config(self, case: str, seed: int = 0) -> Config:
        """The config of one run. Raises OptionError for an unknown case."""
        if case not in self.cases:
            raise OptionError(f"study {self.name} has no case {case!r}; choose from {', '.join(self.cases)}")
        return replace(self.cases[case].config, seed=seed)

    def record_path(self, case: str, seed: int, results: Path = RESULTS) -> Path:
        return results / self.name / f"{case}-seed{seed}.json"

    def measurement_path(self, name: str, results: Path = RESULTS) -> Path:
        return results / self.name / f"{name}.json"

    def planned(self, case: str | None = None, seed: int | None = None) -> Iterator[tuple[str, int]]:
        """The runs that are planned, case and seed; those of one case, or one seed of each. Raises OptionError."""
        for name in [case] if case else self.cases:
            self.config(name)  # refuses an unknown one
            for k in self.cases[name].seeds if seed is None else [seed]:
                yield name, k

    def record(self, case: str, seed: int, results: Path = RESULTS) -> Run | None:
        """A run as far as it is made; None where there is none. Raises RecordError, also for one of another config."""
        path = self.record_path(case, seed, results)
        if not path.exists():
            return None
        found, planned = Run.load(path), self.config(case, seed)
        if found.config != planned:
            changes = found.config.changes(planned)
            raise RecordError(f"{path} holds a run of another config than the study's: {changes}; move it away")
        return found

    def missing(self, results: Path = RESULTS) -> list[str]:
        """What is planned and not there as planned, or not finished: `<case>-seed<k>` and measurements."""
        left = []
        for case, seed in self.planned():
            path, made = self.record_path(case, seed, results), False
            with suppress(RecordError):
                made = is_finished(path, self.config(case, seed))
            left += [] if made else [path.stem]
        return left + [name for name in self.measurements if not self.measurement_path(name, results).exists()]

    def runs(self, results: Path = RESULTS) -> dict[str, list[Run]]:
        """The finished runs by case, in the order of their seeds. Raises RecordError for one that the study has not."""
        found: dict[str, list[Run]] = {}
        for path in sorted((results / self.name).glob("*-seed*.json")):
            case, _, seed = path.stem.rpartition("-seed")
            if case not in self.cases or not seed.isdecimal():
                raise RecordError(f"{path} is no run of the study {self.name}")
            run = self.record(case, int(seed), results)
            if run and run.finished:
                found.setdefault(case, []).append(run)
        return {case: sorted(runs, key=lambda run: run.config.seed) for case, runs in found.items()}

    def measured(self, name: str, results: Path = RESULTS) -> Record | None:
        """A measurement, or None where it has not been made. Raises RecordError."""
        path = self.measurement_path(name, results)
        return MEASUREMENTS[name].record.load(path) if path.exists() else None

    def subject(self, folder: Path, data_root: Path | None, device: torch.device) -> Subject:
        """What is measured: the study's data, from `data_root`, and the networks whose weights lie in `folder`.

        Raises DataError when the data cannot be had, and RecordError when the trained network is not with the book.
        """
        configs = {name: case.config for name, case in self.cases.items()}
        first = next(iter(configs.values()))
        data = load_dataset(first.dataset, data_root, first.image_size)
        network = None
        if self.trained:
            weights = RESULTS / self.name / f"{self.trained}.safetensors"
            if not weights.exists():
                case, _, seed = self.trained.rpartition("-seed")
                train = f"odelib study {self.name} --case {case} --seed {seed}"
                raise RecordError(f"the network that is measured, {weights}, is not there; `{train}` makes it")
            network, _ = load_weights(weights)
        return Subject(configs, data, device, folder, network)

    def measure(
        self, name: str, data_root: Path | None, path: Path, device: torch.device, images: int | None = None
    ) -> Record:
        """Make a measurement and keep its record at `path`, beside which the weights of the cases lie.

        `images` takes the place of the measurement's own number of test images. Raises RecordError when there is a
        record, it cannot be written, or weights are missing; OptionError when the measurement does not belong to the
        study, or takes no such number of images; DataError when the data cannot be had.
        """
        self._must_measure(name)
        options = {} if images is None else {"images": images}
        if options and not _counts_images(name):
            able = ", ".join(other for other in self.measurements if _counts_images(other)) or "none"
            raise OptionError(f"measurement {name!r} takes no number of images; of this study these do: {able}")
        if images is not None and images < 1:
            raise OptionError(f"images must be positive, got {images}")
        if path.exists():
            raise RecordError(f"{path} holds this measurement; move it away to measure again, or confirm it")
        try_to_write(path)
        subject = self.subject(path.parent, data_root, device)
        if images is not None and images > len(subject.data.test):
            raise OptionError(f"images must be at most the {len(subject.data.test):,} of the test set, got {images}")
        record = MEASUREMENTS[name].measure(subject, **options)
        record.save(path)
        return record

    def confirm(self, name: str, data_root: Path | None, path: Path, device: torch.device) -> list[str]:
        """Repeat a small part of a measurement, and note in its record that the code of today makes the same.

        As many images are taken as for the record. Where the figures differ, the record stays as it is, and what
        differs comes back, one sentence each. Raises as `measure` does, and RecordError when there is no record.
        """
        self._must_measure(name)
        how = MEASUREMENTS[name]
        options = {"images": getattr(how.record.load(path), "images")} if _counts_images(name) else {}  # noqa: B009
        return how.confirm(path, self.subject(path.parent, data_root, device), **options)

    def _must_measure(self, name: str) -> None:
        if name not in self.measurements:
            has = f"it has {', '.join(self.measurements)}" if self.measurements else "it has none"
            raise OptionError(f"study {self.name} has no measurement {name!r}; {has}")


def _counts_images(name: str) -> bool:
    """Whether a measurement can be told how many test images to take; of several batches, it can not."""
    parameters = signature(MEASUREMENTS[name].measure).parameters
    return "images" in parameters and "batches" not in parameters
