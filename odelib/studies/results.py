"""What lies in the folder of results: which files are records, and which of them were made by other code."""

import json
from pathlib import Path

from odelib.errors import RecordError
from odelib.measurements import MEASUREMENTS, Measurement
from odelib.records import RESULTS, Record, Run


def kind_of(path: Path) -> Measurement | None:
    """The measurement that a file of results is named after: by itself, or by its folder."""
    name = path.parent.name if path.parent.name in MEASUREMENTS else path.stem
    return MEASUREMENTS.get(name)


def read_results(folder: Path = RESULTS) -> tuple[dict[Path, Record], dict[Path, str]]:
    """Every `<study>/<name>.json` below `folder`, in order: the records, and why each of the other files is none."""
    records, damaged = {}, {}
    for path in sorted(folder.glob("*/*.json")):
        name = path.relative_to(folder)
        how = kind_of(path)
        kind: type[Record] | None = Run if "-seed" in path.stem else how.record if how else None
        if kind is None:
            damaged[name] = "is neither a run nor a measurement of odelib"
            continue
        try:
            records[name] = kind.load(path)
        except RecordError as error:
            damaged[name] = str(error).removeprefix(f"{path} ")
    return records, damaged


def stale(folder: Path = RESULTS) -> list[Path]:
    """The measurements below `folder` whose figures depend on code that has changed since."""
    return stale_among(read_results(folder)[0])


def stale_among(records: dict[Path, Record]) -> list[Path]:
    """Likewise, of records that have been read."""
    found = []
    for name, record in records.items():
        how = kind_of(name)
        if how and not isinstance(record, Run) and how.is_stale(record):
            found.append(name)
    return found


def known_stale(folder: Path = RESULTS) -> dict[Path, str]:
    """The measurements that are known to be stale, each with the reason why it has not been made again yet."""
    path = folder / "stale.json"
    if not path.exists():
        return {}
    return {Path(name): reason for name, reason in json.loads(path.read_text(encoding="utf-8")).items()}
