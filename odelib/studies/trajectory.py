"""What the trajectory knows: stopping early, looser solves and retrieval, on networks of digits and of photographs.

Nothing is trained for it. The records `stop-times` and `inference` read the networks of `mnist-gradients` (task 6) and
of `cifar10-modern` whose weights lie there; a case may have one seed or several.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from odelib.measurements.inference import Inference, Inferences
from odelib.measurements.robustness import Attacked
from odelib.measurements.stop_times import BLOCKS, Exit, Reading, Stop, StopTimes, fitted
from odelib.studies.statistics import paired_seeds_interval
from odelib.studies.summary import (
    Runs,
    Table,
    accuracy,
    mean,
    mean_and_range,
    signed,
    standard_error,
    with_interval,
)

NAMES = {
    "adjoint-dopri5": "dopri5, adjoint",
    "direct-dopri5": "dopri5, direct",
    "seminorm-dopri5": "dopri5, seminorm",
    "direct-rk4": "RK4, one step",
    "adjoint-rk4": "RK4, one step, adjoint",
    "adjoint-rk4-4": "RK4, four steps, adjoint",
    "direct-euler-4": "Euler, four steps",
    "adjoint-euler-4": "Euler, four steps, adjoint",
    "direct-euler": "Euler, one step",
    "adjoint-euler": "Euler, one step, adjoint",
    "resnet-6": "6 residual blocks",
    "resnet-1": "1 residual block",
    "none": "no block",
    "assignment": "photographs, one block",
    "small": "photographs, two blocks",
    "tied-2": "photographs, residual blocks",
}
PHOTOS = ("assignment", "small")  # of `cifar10-modern`; of two blocks the last one is read by `stop-times`
PASSED_TWICE = "tied-2"  # with residual blocks in place of those of `small`
ONE_NETWORK = "adjoint-dopri5"  # the one that the page looks into
NOT_A_FLOW = "direct-euler"  # trained with one step of Euler, backpropagated
FLOWS = [case for case in NAMES if "dopri5" in case or "rk4" in case]
EXITS = ("adjoint-dopri5", "direct-rk4", "resnet-6")  # drawn side by side, if they are there
SOLVES = ("adjoint-dopri5", "direct-rk4", "direct-euler")
CAREFUL, EAGER = 0.95, 0.5  # thresholds of the early exit that the text tells of
SURE = 0.7  # the one for photographs, whose networks learned with label smoothing
ALLOWED = 0.001  # loss of accuracy that a cheaper solve may cost


Row = Stop | Exit | Reading | Inference | Attacked
R = TypeVar("R", bound=Row)


def by_case(rows: Iterable[R]) -> dict[str, list[R]]:
    """The rows of every case, in the order of `NAMES`."""
    found: dict[str, list[R]] = {case: [] for case in NAMES}
    for row in rows:
        found[row.case].append(row)
    return {case: rows for case, rows in found.items() if rows}


def grouped(rows: Iterable[R], name: str) -> dict[Any, list[R]]:
    """The rows under their values of a field, in the order in which these come."""
    found: dict[Any, list[R]] = {}
    for row in rows:
        found.setdefault(getattr(row, name), []).append(row)
    return found


def curve(rows: Iterable[Row], name: str, x: str, y: str) -> list[tuple[float, list[float]]]:
    """Points of one case: for each value of a field, the mean of x over the networks, and y of every network."""
    return [
        (mean(getattr(row, x) for row in same), [getattr(row, y) for row in same])
        for same in grouped(rows, name).values()
    ]


def networks(rows: Iterable[Row]) -> dict[str, int]:
    """How many networks of every case there are."""
    return {case: len({row.seed for row in same}) for case, same in by_case(rows).items()}


def counted(rows: Iterable[Row]) -> str:
    """The cases with their numbers of networks, in words."""
    return ", ".join(f"{NAMES[case]}: {n}" for case, n in networks(rows).items())


def there(rows: Iterable[Row], cases: Sequence[str]) -> list[str]:
    """Those of the cases that have rows."""
    found = networks(rows)
    return [case for case in cases if case in found]


def percent(values: Iterable[float], digits: int = 2) -> str:
    """Shares in percent, their mean and their range."""
    return mean_and_range([100 * value for value in values], digits)


def fine(record: StopTimes) -> dict[str, list[Stop]]:
    """Of every case the stops of the fine solve, or those between residual blocks."""
    return by_case(row for row in record.stops if row.method in ("rk4", BLOCKS))


def exits_of(record: StopTimes, case: str, method: str = "euler") -> tuple[list[Exit], list[Stop]]:
    """Of a case the early exits, and the fixed stops behind a step; of a residual network those between its blocks."""
    exits = [row for row in record.exits if row.case == case and row.method in (method, BLOCKS)]
    stops = [row for row in record.stops if row.case == case and row.method in (method, BLOCKS) and row.at > 0]
    return exits, stops


def exit_table(record: StopTimes, thresholds: Sequence[float] = (EAGER, CAREFUL, 0.99, 1.0)) -> Table:
    """Early exits with Euler steps, or between residual blocks: mean NFE and accuracy by threshold."""
    header = ["trained with", "networks", *(f"above {t:g}" if t < 1 else "to the end" for t in thresholds)]
    rows: list[list[object]] = []
    for case, n in networks(record.exits).items():
        exits, _ = exits_of(record, case)
        found = grouped(exits, "threshold")
        cells = [
            f"{mean(row.nfe for row in found[t]):.1f}: {100 * mean(row.accuracy for row in found[t]):.2f} %"
            for t in thresholds
        ]
        rows.append([NAMES[case], n, *cells])
    return header, rows


def named(row: Inference) -> str:
    """The solver of a row in words."""
    if row.rtol is not None:
        return f"dopri5 at {row.rtol:g}"
    words = {"euler": "Euler", "midpoint": "midpoint", "rk4": "RK4"}
    return f"{words[row.method]}, {row.steps} step{'s' * (row.steps != 1)}"


def by_solver(record: Inferences, case: str) -> dict[str, list[Inference]]:
    """The rows of a case under the names of their solvers, the tightest tolerance first."""
    found: dict[str, list[Inference]] = {}
    for row in record.rows:
        if row.case == case:
            found.setdefault(named(row), []).append(row)
    return found


def cheapest(record: Inferences, case: str, allowed: float = ALLOWED) -> tuple[str, list[Inference]]:
    """The solver with least evaluations whose mean accuracy is at most `allowed` below that of the tightest tolerance.

    Of solvers with equally many, the most accurate.
    """
    solvers = by_solver(record, case)
    tight = mean(row.accuracy for row in next(iter(solvers.values())))
    good = {name: rows for name, rows in solvers.items() if mean(row.accuracy for row in rows) >= tight - allowed}
    return min(good.items(), key=lambda item: (mean(r.nfe for r in item[1]), -mean(r.accuracy for r in item[1])))


def choice_table(record: Inferences) -> Table:
    """Of every case the tightest solve and the cheapest that is as good; `moved` is the share of other answers."""
    header = [
        "network",
        "networks",
        "tightest: NFE",
        "accuracy, %",
        "cheapest as good",
        "NFE",
        "accuracy, %",
        "moved",
    ]
    rows: list[list[object]] = []
    for case, n in networks(record.rows).items():
        tight = next(iter(by_solver(record, case).values()))
        name, cheap = cheapest(record, case)
        nfe = [f"{mean(row.nfe for row in found):.0f}" for found in (tight, cheap)]
        reached = [percent(row.accuracy for row in found) for found in (tight, cheap)]
        moved = f"{100 * mean(row.moved for row in cheap):.2f} %"
        rows.append([NAMES[case], n, nfe[0], reached[0], name, nfe[1], reached[1], moved])
    return header, rows


def reading_table(record: StopTimes, cases: Sequence[str], at: Sequence[float] = (0.0, 0.5, 1.0)) -> Table:
    """What can be read at these times: by the head, by a linear probe, and by retrieval."""
    rows: list[list[object]] = []
    for case in cases:
        stops = grouped(fine(record)[case], "at")
        readings = grouped((row for row in record.readings if row.case == case), "at")
        readers: dict[str, tuple[dict[Any, list[Any]], str]] = {
            "its own head": (stops, "accuracy"),
            "a linear probe": (readings, "probe"),
            "retrieval, symmetric": (readings, "symmetric"),
            "retrieval, asymmetric": (readings, "asymmetric"),
        }
        for name, (found, field) in readers.items():
            rows.append([NAMES[case], name, *(percent((getattr(row, field) for row in found[t]), 1) for t in at)])
    return ["network", "read by", *(f"t = {t:g}" for t in at)], rows


def rival(stop_times: StopTimes, inference: Inferences) -> str:
    """The most accurate of the fixed grids that take `ONE_NETWORK` to the end in no more evaluations than its careful
    early exit, beside that exit: a part of a sentence."""
    exits, _ = exits_of(stop_times, ONE_NETWORK)
    careful = [row for row in exits if row.threshold == CAREFUL]
    spent, reached = (mean(getattr(row, name) for row in careful) for name in ("nfe", "accuracy"))
    grids = {
        name: rows
        for name, rows in by_solver(inference, ONE_NETWORK).items()
        if rows[0].steps is not None and mean(row.nfe for row in rows) <= spent
    }
    name, best = max(grids.items(), key=lambda item: mean(row.accuracy for row in item[1]))
    better = mean(row.accuracy for row in best) >= reached
    return (
        f"{name}: {mean(row.nfe for row in best):.0f} evaluations for every digit, and "
        f"{percent(row.accuracy for row in best)} % are read right, {'no fewer' if better else 'fewer'}"
    )


# What the text says


def stop_numbers(record: StopTimes) -> dict[str, str]:
    """Of `ONE_NETWORK`: accuracies and mean average precisions in percent at the start, in the middle and at the end of
    the way; early exits with Euler steps, and the fixed stop with as many evaluations or more.

    Of all `FLOWS` the range of the careful exit, and of `NOT_A_FLOW` the place where its head reads most."""
    stops = grouped(fine(record)[ONE_NETWORK], "at")
    readings = grouped((row for row in record.readings if row.case == ONE_NETWORK), "at")
    exits, fixed = exits_of(record, ONE_NETWORK)
    early = grouped(exits, "threshold")
    nfe = {threshold: mean(row.nfe for row in rows) for threshold, rows in early.items()}
    as_dear = min(row.nfe for row in fixed if row.nfe >= nfe[CAREFUL])
    found = {
        "images": f"{record.images:,}",
        "fitted": f"{fitted(record.train_images):,}",
        "held-out": f"{record.train_images - fitted(record.train_images):,}",
        "queries": f"{record.queries:,}",
        "database": f"{record.images - record.queries:,}",
        "hardware": record.environment.hardware,
        "n": str(networks(record.stops)[ONE_NETWORK]),
        "early": f"{min(row.at for row in fine(record)[ONE_NETWORK] if row.accuracy > 0.95):g}",
        "exit-nfe": f"{nfe[CAREFUL]:.1f}",
        "exit-full-nfe": f"{nfe[1.0]:.0f}",
        "exit": percent(row.accuracy for row in early[CAREFUL]),
        "exit-full": percent(row.accuracy for row in early[1.0]),
        "eager-nfe": f"{nfe[EAGER]:.1f}",
        "eager": percent(row.accuracy for row in early[EAGER]),
        "fixed-nfe": str(as_dear),
        "fixed": percent(row.accuracy for row in fixed if row.nfe == as_dear),
    }
    blocks = [row for row in record.exits if (row.case, row.threshold) == ("resnet-6", CAREFUL)]
    flows = [row for row in record.exits if row.threshold == CAREFUL and row.method == "euler" and row.case in FLOWS]
    least, most = (end(row.accuracy for row in flows) for end in (min, max))
    found["exit-least"], found["exit-most"] = f"{100 * least:.1f}", f"{100 * most:.1f}"
    jump = grouped(fine(record)[NOT_A_FLOW], "at")
    best = max(jump, key=lambda at: mean(row.accuracy for row in jump[at]))
    found["euler-best-at"], found["euler-n"] = f"{best:g}", str(len(jump[1.0]))
    found["euler-best"], found["euler-end"] = (percent((row.accuracy for row in jump[at]), 1) for at in (best, 1.0))
    found["resnet"] = (
        f"behind {mean(row.nfe for row in blocks):.1f} of them on average at the threshold {CAREFUL:g}, "
        f"{percent(row.accuracy for row in blocks)} % right (n = {len(blocks)})"
        if blocks
        else "not in this record"
    )
    for name, at in {"start": 0.0, "middle": 0.5, "end": 1.0}.items():
        found[f"head-{name}"] = percent((row.accuracy for row in stops[at]), 1)
        for field in ("probe", "symmetric", "asymmetric"):
            found[f"{field}-{name}"] = percent((getattr(row, field) for row in readings[at]), 1)
    return found


def inference_numbers(record: Inferences) -> dict[str, str]:
    """Of `ONE_NETWORK` the tightest solve, the loosest, and the cheapest that is as good; of `NOT_A_FLOW` its own step
    and the tightest solve."""
    solvers = by_solver(record, ONE_NETWORK)
    name, cheap = cheapest(record, ONE_NETWORK)
    kinds = {"tight": next(iter(solvers.values())), "loose": solvers["dopri5 at 1"], "cheapest": cheap}
    found = {"images": f"{record.images:,}", "cheapest-name": name}
    found["allowed"] = f"{100 * ALLOWED:g}"
    found["standard-error"] = f"{100 * standard_error(mean(row.accuracy for row in cheap), record.images):.2f}"
    for kind, rows in kinds.items():
        found[f"{kind}-nfe"] = f"{mean(row.nfe for row in rows):.0f}"
        found[kind] = percent(row.accuracy for row in rows)
    found["loose-steps"] = f"{(mean(row.nfe for row in kinds['loose']) - 2) / 6:.0f}"  # of dopri5
    found["loose-moved"] = f"{100 * mean(row.moved for row in kinds['loose']):.2f}"
    other = by_solver(record, NOT_A_FLOW)
    found["euler-own"] = percent(row.accuracy for row in other["Euler, 1 step"])
    found["euler-tight"] = percent(row.accuracy for row in next(iter(other.values())))
    found["euler-n"] = str(networks(record.rows)[NOT_A_FLOW])
    found["n"] = str(networks(record.rows)[ONE_NETWORK])
    return found


def photo_numbers(record: StopTimes, inference: Inferences, runs: Runs) -> dict[str, str]:
    """Of the networks of photographs: what they reach as they were trained, early exits at `SURE`, the best place to
    stop, one step beside the tightest solve (of the own method, but for `assignment`, whose RK4 is odelib's and not
    torchdiffeq's); shares in percent.

    Raises ValueError where a network of `PHOTOS` is sure beyond `CAREFUL`, of which the text knows nothing.
    """
    found = {"images": f"{record.images:,}", "asked": f"{inference.images:,}", "sure": f"{SURE:g}"}
    found["eager-threshold"] = f"{EAGER:g}"
    found["n"] = " and ".join(sorted({str(networks(record.stops)[case]) for case in PHOTOS}))
    for case, own in zip(PHOTOS, ("RK4, 1 step", "midpoint, 1 step")):
        found[f"{case}-trained"] = accuracy(runs[case], digits=1)
        exits, stops = exits_of(record, case)
        early = grouped(exits, "threshold")
        nfe = {threshold: mean(row.nfe for row in rows) for threshold, rows in early.items()}
        if nfe[CAREFUL] < 0.95 * nfe[1.0]:
            raise ValueError(f"{case} ends photographs at the threshold {CAREFUL}")
        as_dear = min(row.nfe for row in stops if row.nfe >= nfe[SURE])
        found[f"{case}-exit-nfe"], found[f"{case}-full-nfe"] = f"{nfe[SURE]:.1f}", f"{nfe[1.0]:.0f}"
        for name, threshold in (("exit", SURE), ("full", 1.0)):
            found[f"{case}-{name}"] = percent((row.accuracy for row in early[threshold]), 1)
        found[f"{case}-fixed-nfe"] = str(as_dear)
        found[f"{case}-fixed"] = percent((row.accuracy for row in stops if row.nfe == as_dear), 1)
        solvers = by_solver(inference, case)
        tight = next(iter(solvers.values()))
        fine_steps, own_step = ([100 * row.accuracy for row in rows] for rows in (tight, solvers[own]))
        found[f"{case}-tight-minus-own"] = with_interval(paired_seeds_interval(fine_steps, own_step))
        found[f"{case}-own-moved"] = percent((row.moved for row in solvers[own]), 1)
    found["standard-error"] = f"{100 * standard_error(mean(row.accuracy for row in tight), inference.images):.1f}"
    places, passes = (grouped(fine(record)[case], "at") for case in ("small", PASSED_TWICE))
    best = max(places, key=lambda at: mean(row.accuracy for row in places[at]))
    gain = [100 * (one.accuracy - end.accuracy) for one, end in zip(places[best], places[1.0])]
    found["best-at"], found["best-gain"] = f"{best:g}", signed(gain, 1)
    for name, at in {"once": 0.5, "twice": 1.0}.items():
        found[name] = percent((row.accuracy for row in passes[at]), 1)
    return found
