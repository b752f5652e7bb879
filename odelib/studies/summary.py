"""What is said of several runs: means with their range, the uncertainty of an accuracy, where they were made."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from odelib.records import Run

Runs = Mapping[str, Sequence[Run]]  # those of a study, by case
Table = tuple[list[str], Sequence[Sequence[object]]]  # its header and its rows
Row = TypeVar("Row")


def all_runs(*studies: Runs) -> Iterator[Run]:
    """Every run of these studies."""
    for study in studies:
        for runs in study.values():
            yield from runs


def only(rows: Iterable[Row], **values: object) -> Row:
    """The one row of a measurement whose fields have these values. Raises ValueError if there is none, or another."""
    (row,) = [row for row in rows if all(getattr(row, name) == value for name, value in values.items())]
    return row


def mean(values: Iterable[float]) -> float:
    """The mean of one value or more."""
    values = list(values)
    return sum(values) / len(values)


def final(runs: Iterable[Run], name: str = "test_accuracy") -> list[float]:
    """A metric after the last epoch, one value a run; `name` is one of EpochMetrics."""
    return [getattr(run.last, name) for run in runs]


def accuracies(runs: Iterable[Run]) -> list[float]:
    """Test accuracies after the last epoch in percent, one a run."""
    return [100 * share for share in final(runs)]


def at_the_end(runs: Iterable[Run], name: str = "test_accuracy") -> float:
    """The mean of `final`."""
    return mean(final(runs, name))


def held_out(runs: Sequence[Run]) -> float:
    """The share of the held-out images that the one run has right after its last epoch. Raises ValueError where there
    are several runs, or no images held out."""
    (run,) = runs
    if run.last.validation_accuracy is None:
        raise ValueError("a choice is made by images that are held out")
    return run.last.validation_accuracy


def mean_and_range(values: Sequence[float], digits: int = 2) -> str:
    """The mean, and from least to most where there are several values: `1.50 (1.00 to 2.00)`."""
    middle = f"{mean(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def accuracy(runs: Iterable[Run], name: str = "test_accuracy", digits: int = 2) -> str:
    """An accuracy after the last epoch in percent, with its range over the runs."""
    return mean_and_range([100 * share for share in final(runs, name)], digits)


def signed(values: Sequence[float], digits: int = 1) -> str:
    """As `mean_and_range`, with signs and a true minus: `−0.5 (−1.0 to +0.0)`."""
    least, middle, most = (f"{x:+.{digits}f}".replace("-", "−") for x in (min(values), mean(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def with_interval(interval: Iterable[float], digits: int = 2) -> str:
    """A value and the ends of its interval, (value, low, high): `−0.50 (−1.00 to +0.00)`."""
    middle, low, high = (signed([x], digits) for x in interval)
    return f"{middle} ({low} to {high})"


def standard_error(accuracy: float, images: int = 10_000) -> float:
    """The binomial standard error of an accuracy that was measured once on so many images; both are shares."""
    return (accuracy * (1 - accuracy) / images) ** 0.5


def hardware(runs: Iterable[Run]) -> str:
    """The processors or GPUs that the runs began on."""
    return " and ".join(sorted({run.environment.hardware for run in runs}))


def machines(runs: Iterable[Run]) -> str:
    """Hardware, version of torch and threads with which a run began, once for each that there is."""
    made = {run.environment for run in runs}
    words = {f"{e.hardware}, torch {e.torch}, {e.threads} thread{'s' * (e.threads > 1)} a run" for e in made}
    return "; ".join(sorted(words))


def flags(options: Mapping[str, object]) -> str:
    """The options of the command line that say the same, in Markdown, a dash where there are none; no switches."""
    return " ".join(f"`--{name.replace('_', '-')} {value}`" for name, value in options.items()) or "–"


def tested(study: Runs, names: Mapping[str, str]) -> Table:
    """The networks of a study with what they reach, under the names that `names` gives their cases."""
    header = ["network", "test accuracy, %", "training, %", "parameters", "NFE", "seeds"]
    rows = []
    for case, name in names.items():
        runs = study[case]
        nfe = f"{runs[0].last.nfe_forward:.0f}"
        training = accuracy(runs, "train_accuracy", 1)
        rows.append([name, accuracy(runs), training, f"{runs[0].parameters:,}", nfe, len(runs)])
    return header, rows
