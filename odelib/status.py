"""Status: what lies in the folder of results, readable or not, for the page that lists it."""

from pathlib import Path

from odelib.benchmark import Benchmark
from odelib.experiments import MEASUREMENTS
from odelib.records import RESULTS, Record, RecordError, Run


def read_results(folder: Path = RESULTS) -> tuple[dict[Path, Record], dict[Path, str]]:
    """Every `<study>/<name>.json` below `folder`, in order: the records, and why each of the other files is none."""
    records, damaged = {}, {}
    for path in sorted(folder.glob("*/*.json")):
        name = path.relative_to(folder)
        kind = Run if "-seed" in path.stem else MEASUREMENTS.get(path.stem)
        if path.parent.name == "benchmark":
            kind = Benchmark
        if kind is None:
            damaged[name] = "is neither a run nor a measurement of odelib"
            continue
        try:
            records[name] = kind.load(path)
        except RecordError as error:
            damaged[name] = str(error).removeprefix(f"{path} ")
    return records, damaged
