"""What the status page says: versions, the stored records, which code made them, and whether it still would."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from odelib.book.faults import Faults
from odelib.book.pages import verbatim
from odelib.records import RESULTS, Environment, Record, Run
from odelib.studies import STUDIES, Study
from odelib.studies.results import known_stale, read_results, stale_among
from odelib.studies.summary import Table, at_the_end

TOOLS = ("torchvision", "numpy", "matplotlib", "jupyter-book", "sphinx", "myst-nb")


def versions() -> Table:
    """Of Python and the packages that this page was run with."""
    here = Environment.here(torch.device("cpu"))
    rows = [[name, getattr(here, name)] for name in ("python", "odelib", "torch", "torchdiffeq")]
    return _verbatim(["package", "version"], rows + [[name, _installed(name)] for name in TOOLS])


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a notebook does without the tools that make the book
        return "not installed"


def made_here() -> str:
    """When this is said, and on which machine."""
    here = Environment.here(torch.device("cpu"))
    return f"This page was run at {here.date} UTC\non {here.hardware}, {here.threads} of {here.cores} cores."


@dataclass(frozen=True)
class Status:
    """The files below a folder of results, each by its path from there."""

    records: dict[Path, Record]
    damaged: dict[Path, str]  # why it is no record
    stale: frozenset[Path]  # measurements whose figures depend on code that has changed since
    reasons: dict[Path, str]  # why a measurement that is stale has not been made again
    met: Faults | None  # what runs were made to survive
    folder: Path

    @classmethod
    def read(cls, folder: Path = RESULTS) -> "Status":
        records, damaged = read_results(folder)
        path = folder / "faults.json"
        met = Faults.load(path) if path.exists() else None
        return cls(records, damaged, frozenset(stale_among(records)), known_stale(folder), met, folder)

    def runs(self) -> Table:
        """One run a row; † marks an accuracy on images that a study chooses by, ‡ one that went on otherwise."""
        header = ["study", "case", "seed", "epochs", "accuracy, %", "date (UTC)", "machine", "made by"]
        numbers = self._machines()
        rows = []
        for path, run in self._of_runs().items():
            made = run.environment
            epochs = f"{len(run.metrics)} of {run.config.epochs}"
            case = path.stem.rpartition("-seed")[0]
            begun = f"{made.date} ‡" if run.later else made.date
            origin = [begun, numbers[_machine(made)], _code(made)]
            rows.append([str(path.parent), case, run.config.seed, epochs, _accuracy(run), *origin])
        return _verbatim(header, rows)

    def finished(self) -> str:
        runs = self._of_runs().values()
        return f"{sum(run.finished for run in runs)} of {len(runs)} stored runs are finished."

    def measurements(self) -> Table:
        """One measurement a row, with who confirmed it and whether it is stale; `why_stale` says why."""
        header = ["study", "measurement", "date (UTC)", "machine", "made by", "confirmed", "state"]
        numbers = self._machines()
        rows = []
        for path, record in self.records.items():
            if not isinstance(record, Run):
                made = record.environment
                confirmed = "; ".join(f"{c.date}, {c.code}" for c in made.confirmed) or "–"
                origin = [made.date, numbers[_machine(made)], _code(made)]
                state = "stale" if path in self.stale else "fits the code"
                rows.append([str(path.parent), path.stem, *origin, confirmed, state])
        return _verbatim(header, rows)

    def faults(self) -> Table:
        """What befell runs on purpose, how often, and how often the same command finished them to the bit."""
        rows = self.met.rows if self.met else ()
        header = ["what happened to a run", "tried", "finished, equal to the bit"]
        return _verbatim(header, [[row.what, row.tried, row.equal] for row in rows])

    def faults_made(self) -> str:
        """Where these were tried, and on which code."""
        return f"Tried on {self.met.environment}" if self.met else "No such record is here."

    def why_stale(self) -> Table:
        """Why stale measurements have not been made again: a reason, and those that it holds for."""
        held: dict[str, list[str]] = {}
        for path in sorted(self.stale):
            held.setdefault(self.reasons.get(path, "not known"), []).append(str(path.with_suffix("")))
        return _verbatim(["stale", "reason"], [[", ".join(names), reason] for reason, names in held.items()])

    def machines(self) -> Table:
        """The machines by number, each with its versions and settings."""
        header = ["machine", "hardware", "threads of cores", "Python", "torch", "torchdiffeq", "odelib", "settings"]
        rows = []
        for made, number in self._machines().items():
            settings = "not kept" if made.settings is None else " ".join(made.settings) or "none"
            threads = f"{made.threads} of {made.cores}"
            packages = [made.python, made.torch, made.torchdiffeq, made.odelib]
            rows.append([number, made.hardware, threads, *packages, settings])
        return _verbatim(header, rows)

    def missing(self, studies: Iterable[Study] = tuple(STUDIES.values())) -> Table:
        """What each study plans and what is not there, or not finished."""
        return _verbatim(["study", "missing"], [[study.name, self._left(study)] for study in studies])

    def _left(self, study: Study, shown: int = 8) -> str:
        names = study.missing(self.folder)
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        return ", ".join(names[:shown]) + more or "nothing"

    def unreadable(self) -> str:
        """The files that are no records, a line each, and how many they are."""
        lines = [f"{path} {reason}" for path, reason in self.damaged.items()]
        return "\n".join([*lines, f"{len(self.damaged)} such files"])

    def _of_runs(self) -> dict[Path, Run]:
        return {path: record for path, record in self.records.items() if isinstance(record, Run)}

    def _machines(self) -> dict[Environment, int]:
        """The number of each machine: of the runs first, in the order of their files."""
        records = [*self._of_runs().values(), *self.records.values()]
        found = dict.fromkeys(_machine(record.environment) for record in records)
        return {made: number for number, made in enumerate(found, 1)}


def _machine(made: Environment) -> Environment:
    """Hardware, versions and settings: an environment without the code that ran there, and when."""
    return replace(made, date="", commit=None, sources=None, confirmed=())


def _code(made: Environment) -> str:
    """The commit, or a dash where none was kept: in two hundred rows, words for it are too many."""
    return "–" if made.commit is None and made.settings is None else made.code


def _accuracy(run: Run) -> str:
    """Of the last epoch in percent, on held-out images (†) where the study looks at no others."""
    if not run.metrics:
        return "-"
    if run.last.test_accuracy is None:
        return f"{100 * at_the_end([run], 'validation_accuracy'):.2f} †"
    return f"{100 * at_the_end([run]):.2f}"


def _verbatim(header: list[str], rows: list[list[object]]) -> Table:
    """Nothing in a record is Markdown."""
    return header, [[verbatim(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
