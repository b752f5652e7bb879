"""How many faults runs have survived: what `python tests/faults.py record book/results/faults.json` counts."""

from dataclasses import dataclass

from odelib.records import Environment, Record


@dataclass(frozen=True)
class Fault:
    """One kind of fault that befell runs of a tiny network."""

    what: str  # happened to a run
    tried: int  # how often
    equal: int  # how often the same command finished the run, with weights and metrics equal to the bit, and no more


@dataclass(frozen=True)
class Faults(Record):
    """All kinds of faults that were tried."""

    environment: Environment
    rows: tuple[Fault, ...]
