"""Where the time of a training step goes, and what each saving is worth: what the benchmark's records show.

The benchmark (`odelib.measurements.benchmark`) times single steps with all solvers in turns, on one thread and on two;
what it says on other machines is in `odelib.studies.machines`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from odelib.measurements.benchmark import MATRIX, SCRIPT, SCRIPT_ADJOINT, Benchmark, BenchmarkRow
from odelib.products import Axis
from odelib.studies.summary import Table, only

# Cases of the benchmark: with the first step of the batch before; with equal steps; the fastest ones; and of these,
# those that hold one step at a time.
WARM = "odelib direct, bosh3, warm start"
GRID = "odelib direct, ralston3 in 3 steps"
FAST, FAST_BF16 = f"{GRID}, products", f"{GRID}, bf16, bf16 in the stem"
FAST_STEM = f"{FAST}, bf16 in the stem"
LEAN, LEAN_BF16 = (case.replace("direct", "checkpoint") for case in (FAST, FAST_BF16))
SAVINGS = {
    SCRIPT: "as in the script: torchdiffeq, dopri5",
    "torchdiffeq direct": "+ time channel without a copy",
    "odelib direct": "+ our solver, same method",
    "odelib direct, bosh3": "+ bosh3 for dopri5",
    WARM: "+ warm start",
    GRID: "+ its formula in three equal steps",
    FAST: "+ convolutions by products",
    FAST_STEM: "+ bfloat16 in the stem",
    FAST_BF16: "or bfloat16 in f in place of products",
}

# Operations of a training step by what they are for: an operation is of the first kind that fits a part of its name.
OPERATIONS = {
    "convolutions, products": "mkldnn_convolution|convolution_backward|slow_conv2d|::b?mm$",
    "GroupNorm, ReLU": "group_?norm|clamp_min|threshold|relu",
    "sums and copies": "::(mul|add|sub|sum|copy_|cat|fill_|div|abs|stack|zero|max|where|square|mean)",
    "everything else": "",
}


def milliseconds_by_kind(events: Iterable[Any]) -> dict[str, float]:
    """Milliseconds of what PyTorch's profiler has seen (`key_averages()`), by the kinds of OPERATIONS."""
    spent = dict.fromkeys(OPERATIONS, 0.0)
    for event in events:
        kind = next(kind for kind, part in OPERATIONS.items() if re.search(part, event.key))
        spent[kind] += event.self_cpu_time_total / 1e3
    return spent


def profile_table(spent: dict[str, dict[str, float]]) -> Table:
    """Milliseconds by kind of operation, a column for each step that was watched."""
    return ["operations", *spent], [
        [kind, *(f"{times[kind]:.0f} ms" for times in spent.values())] for kind in OPERATIONS
    ]


def profile_parts(spent: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The same as bars: for each kind of operation, its milliseconds in each step that was watched."""
    return {kind: {name: times[kind] for name, times in spent.items()} for kind in OPERATIONS}


def milliseconds(row: BenchmarkRow) -> tuple[float, float, float]:
    """First quartile, median and third quartile of a training step."""
    first, median, third = (1e3 * seconds for seconds in row.quartiles)
    return first, median, third


def median(benchmark: Benchmark, case: str) -> float:
    """Seconds of a training step."""
    return only(benchmark.rows, case=case).quartiles[1]


def with_quartiles(benchmark: Benchmark, case: str) -> str:
    """The milliseconds of a step: `23 (22 to 25)`."""
    return "{1:.0f} ({0:.0f} to {2:.0f})".format(*milliseconds(only(benchmark.rows, case=case)))


def times_faster(benchmark: Benchmark, slow: str, fast: str) -> float:
    """How many steps of the case `fast` take the time of one of `slow`, by medians."""
    return median(benchmark, slow) / median(benchmark, fast)


def over_floor(row: BenchmarkRow) -> float:
    """The time of a step over the least that its evaluations of f take."""
    return row.quartiles[1] / row.floor


def saving_table(benchmark: Benchmark) -> Table:
    """Saving by saving, each row with one more than the one above it; the last has one in place of another."""
    header = ["", "NFE", "ms per step (quartiles)", "over its floor", "times faster", "gradient error"]
    rows: list[list[object]] = []
    for case, label in SAVINGS.items():
        row = only(benchmark.rows, case=case)
        rows.append(
            [
                label,
                f"{row.nfe_forward:.1f}",
                with_quartiles(benchmark, case),
                f"{over_floor(row):.2f}",
                f"{times_faster(benchmark, SCRIPT, case):.2f}",
                f"{row.theta_error:.3f}",
            ]
        )
    return header, rows


def saving_quartiles(benchmark: Benchmark) -> dict[str, tuple[float, float, float]]:
    """Quartiles of a step in milliseconds, saving by saving."""
    return {label: milliseconds(only(benchmark.rows, case=case)) for case, label in SAVINGS.items()}


def saving_parts(benchmark: Benchmark) -> dict[str, dict[str, float]]:
    """Milliseconds of a step, saving by saving: its floor; and the rest, which is the solver's, and in the script's
    also the copies for the time channel."""
    medians = {label: median for label, (_, median, _) in saving_quartiles(benchmark).items()}
    floors = {
        label: min(1e3 * only(benchmark.rows, case=case).floor, medians[label]) for case, label in SAVINGS.items()
    }
    return {"floor": floors, "the rest": {label: medians[label] - floors[label] for label in floors}}


def gradient_table(benchmark: Benchmark) -> Table:
    """The script's ways, and every way of differentiating, with what the block holds at most."""
    cases = (
        SCRIPT,
        SCRIPT_ADJOINT,
        "torchdiffeq adjoint",
        "torchdiffeq seminorm",
        "odelib direct",
        "odelib adjoint",
        "odelib seminorm",
        "odelib checkpoint",
        "odelib checkpoint, bosh3",
        "odelib checkpoint, ralston3 in 3 steps",
        FAST,
        LEAN,
        LEAN_BF16,
    )
    header = ["", "NFE forward + backward", "ms per step", "over its floor", "MB at most", "gradient error"]
    rows: list[list[object]] = []
    for row in (only(benchmark.rows, case=case) for case in cases):
        rows.append(
            [
                row.case,
                f"{row.nfe_forward:.1f} + {row.nfe_backward:.1f}",
                f"{milliseconds(row)[1]:.0f}",
                f"{over_floor(row):.2f}",
                f"{row.peak_bytes / 1e6:.0f}",
                f"{row.theta_error:.3f}",
            ]
        )
    return header, rows


def time_by_memory(benchmark: Benchmark) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Megabytes held at most and milliseconds of a step, of all cases in 32 bit, by library and gradient."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {"odelib": {}, "torchdiffeq": {}}
    for row in benchmark.rows:
        library, gradient = row.case.partition(",")[0].split()
        if "bf16" not in row.case:
            found[library].setdefault(gradient, []).append((row.peak_bytes / 1e6, milliseconds(row)[1]))
    return found


def error_by_nfe(benchmark: Benchmark) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Evaluations of the forward pass and gradient errors, of the direct cases in 32 bit: adaptive, and on a grid."""
    found: dict[str, list[tuple[float, float]]] = {"adaptive": [], "fixed": []}
    for row in benchmark.rows:
        if " direct" in row.case and "bf16" not in row.case:
            found["fixed" if " steps" in row.case else "adaptive"].append((row.nfe_forward, row.theta_error))
    return {"adaptive": {"steps": found["adaptive"]}, "fixed": {"grid": found["fixed"]}}


def evaluation_table(benchmark: Benchmark) -> Table:
    """One evaluation of f, computed in several ways."""
    ways = {
        "fp32": "as usual",
        "products": "by matrix products",
        "bf16": "bfloat16",
        "channels last": "channels last in memory",
        "compiled": "`torch.compile`",
    }
    return ["f computed", "forward, ms", "with its derivatives, ms"], [
        [ways[bare.way], *(f"{1e3 * seconds:.1f}" for seconds in bare.medians)] for bare in benchmark.bare
    ]


def library_table(benchmark: Benchmark) -> Table:
    """One pass of the block with each library, the fastest one first."""
    rows = [
        [
            row.library,
            row.nfe,
            "{1:.0f} ({0:.0f} to {2:.0f})".format(*(1e3 * seconds for seconds in row.quartiles)),
            f"{row.theta_error:.3f}",
        ]
        for row in sorted(benchmark.libraries, key=lambda row: row.quartiles[1])
    ]
    return ["library", "NFE", "ms (quartiles)", "gradient error"], rows


def gain(benchmark: Benchmark, baseline: str, gradients: Sequence[str], short: bool = False) -> float:
    """How many times our fastest case beats the baseline: of those with one of these gradients that are at least as
    close to the exact gradient, of state and of parameters, as the baseline is.

    In 32 bit, or else with 16 bit somewhere (`short`).
    """
    bound = only(benchmark.rows, case=baseline)
    cases = [
        row.case
        for row in benchmark.rows
        if row.case.startswith(tuple(f"odelib {gradient}" for gradient in gradients))
        and ("bf16" in row.case) == short
        and row.theta_error <= bound.theta_error
        and row.state_error <= bound.state_error
    ]
    return max(times_faster(benchmark, baseline, case) for case in cases)


def worst_over_floor(benchmark: Benchmark) -> BenchmarkRow:
    """Of our cases, the one whose step takes most over its floor."""
    return max((row for row in benchmark.rows if row.case.startswith("odelib")), key=over_floor)


def share_held(benchmark: Benchmark, checkpoint: str = "odelib checkpoint", direct: str = "odelib direct") -> float:
    """Bytes that one case holds at most over those of another one."""
    return only(benchmark.rows, case=checkpoint).peak_bytes / only(benchmark.rows, case=direct).peak_bytes


def size_table(one: Benchmark, two: Benchmark) -> Table:
    """Products against the usual convolution, map by map, on one thread and on two."""
    header = [
        "map, channels",
        "tiles",
        "error, usual",
        "error, products",
        "convolution, times faster",
        "block, times faster",
    ]
    rows: list[list[object]] = []
    for row, on_two in zip(one.sizes, two.sizes, strict=True):
        pairs = zip(row.times_faster, on_two.times_faster, strict=True)
        rows.append(
            [
                f"{row.size} × {row.size}, {row.channels}",
                row.tiles**2,
                f"{row.error:.0e}",
                f"{row.error_products:.0e}",
                *(f"{first:.2f}, {second:.2f}" for first, second in pairs),
            ]
        )
    return header, rows


def thread_table(one: Benchmark, two: Benchmark) -> Table:
    """What the second thread brings: milliseconds on one and on two, and their ratio."""

    def parts(benchmark: Benchmark) -> dict[str, float]:
        bare = _with_derivatives(benchmark)
        return {
            "product of two large matrices": 2 * MATRIX**3 / float(np.median(benchmark.machine_flops)),
            "f with its derivatives, as usual": bare["fp32"],
            "f with its derivatives, by products": bare["products"],
            "the network without its block": float(np.median(benchmark.without_block)),
            "step as in the script": median(benchmark, SCRIPT),
            "step with ralston3 in 3 steps": median(benchmark, GRID),
            "the same, products": median(benchmark, FAST),
        }

    seconds = zip(parts(one).items(), parts(two).values(), strict=True)
    return ["", "one thread, ms", "two threads, ms", "times faster"], [
        [name, f"{1e3 * first:.1f}", f"{1e3 * second:.1f}", f"{first / second:.2f}"]
        for (name, first), second in seconds
    ]


@dataclass(frozen=True)
class Goal:
    """What was to be reached: at least the bar, at best the aim, for one thread and for two."""

    name: str
    values: tuple[float, ...]
    bars: tuple[float, ...]
    aim: float
    of_products: bool = False  # compares products alone

    @property
    def missed(self) -> bool:
        """Whether a value stays below its bar."""
        return any(value < bar for value, bar in zip(self.values, self.bars, strict=True))

    def cells(self) -> list[object]:
        reached = [
            f"{value:.2f} ({'aim' if value >= self.aim else 'bar' if value >= bar else 'missed'})"
            for value, bar in zip(self.values, self.bars, strict=True)
        ]
        bars = " / ".join(f"{bar:g}" for bar in dict.fromkeys(self.bars))
        return [self.name, *reached, *["–"] * (2 - len(reached)), bars, f"{self.aim:g}"]


def goals(one: Benchmark, two: Benchmark, race: float) -> list[Goal]:
    """What this page set out to reach, written down before its measurements, and what it did.

    `race` is how many times sooner than the script's our best recipe has 99 % right (`odelib.studies.speed.race`).
    """
    both = (one, two)
    bounded = ("adjoint", "seminorm", "checkpoint")

    def each(value: Callable[[Benchmark], float]) -> tuple[float, float]:
        return value(one), value(two)

    def size(part: int, *of: int) -> tuple[float, float]:
        one, two = (only(b.sizes, size=of[0], channels=of[1]).times_faster[part] for b in both)
        return one, two

    direct = ["direct"]
    return [
        Goal("direct: the script's step / ours", each(lambda b: gain(b, SCRIPT, direct)), (3.2, 3.0), 4.0),
        Goal("the same with bfloat16", each(lambda b: gain(b, SCRIPT, direct, short=True)), (3.8, 3.5), 5.0),
        Goal(
            "bounded memory: the script's adjoint / ours",
            each(lambda b: gain(b, SCRIPT_ADJOINT, bounded)),
            (3.8, 3.5),
            5.0,
        ),
        Goal("f with its derivatives: usual / products", each(_gain_of_products), (1.6, 1.5), 2.2, True),
        Goal("convolution of 7 × 7: usual / products", size(0, 7, 64), (2.0, 2.0), 2.5, True),
        Goal("convolution of 8 × 8, 128 channels", size(0, 8, 128), (2.6, 2.6), 3.5, True),
        Goal("convolution of 16 × 16", size(0, 16, 64), (1.7, 1.7), 2.3, True),
        Goal("step of RK4 of a block, 7 × 7: usual / products", size(1, 7, 64), (1.4, 1.4), 2.0, True),
        Goal("step of RK4 of a block, 16 × 16", size(1, 16, 64), (1.4, 1.4), 2.0, True),
        Goal("time to 99 %: the script's recipe / ours", (race,), (8.0,), 12.0),
    ]


def goal_table(one: Benchmark, two: Benchmark, race: float) -> Table:
    """The goals as a table."""
    return ["", "one thread", "two threads", "bar", "aim"], [goal.cells() for goal in goals(one, two, race)]


def shares_of_peak(benchmark: Benchmark, size: int = 6, channels: int = 64) -> tuple[float, float]:
    """One convolution with its derivatives, the usual way and by products: multiplications a second, over those of the
    products of large matrices. What leads to the points and back is not counted among them, though its time is."""
    row = only(benchmark.sizes, size=size, channels=channels)
    points = len(Axis(size).there) ** 2
    work = zip((9 * size**2, points), (row.convolution, row.convolution_products), strict=True)
    each = 3 * 2 * channels**2 * benchmark.batch_size / max(benchmark.machine_flops)  # forward, and two derivatives
    usual, products = (each * count / float(np.median(seconds)) for count, seconds in work)
    return usual, products


def where_products_pay(benchmark: Benchmark, sure: bool = False) -> str:
    """The maps for which the step of a block is faster by products, in words; with `sure` those for which even the
    quartiles say so."""
    by, usual = (75, 25) if sure else (50, 50)
    found = [
        f"{row.size} × {row.size} ({row.channels})"
        for row in benchmark.sizes
        if np.percentile(row.block_products, by) < np.percentile(row.block, usual)
    ]
    return ", ".join(found) or "none of them"


def goal_numbers(one: Benchmark, two: Benchmark, race: float) -> dict[str, str]:
    """How many goals there are, how many stayed below their bar, and how many of these compare products alone."""
    every = goals(one, two, race)
    missed = [goal for goal in every if goal.missed]
    of_products = [goal for goal in missed if goal.of_products]
    said = "all of them" if missed == of_products else f"{len(of_products)} of them"
    return {"goals": str(len(every)), "missed": str(len(missed)), "missed-products": said}


def numbers(one: Benchmark, two: Benchmark) -> dict[str, str]:
    """What the text says of the benchmark on one thread, and on two."""
    row = {row.case: row for row in one.rows}
    peak = max(one.machine_flops)
    pairs = {
        "loop": (SCRIPT, "odelib direct"),
        "fewer": ("odelib direct", GRID),
        "channel": (SCRIPT, "torchdiffeq direct"),
        "solver": ("torchdiffeq direct", "odelib direct"),
        "bosh3": ("odelib direct", "odelib direct, bosh3"),
        "warm": ("odelib direct, bosh3", WARM),
        "grid": (WARM, GRID),
        "products": (GRID, FAST),
        "stem": (FAST, FAST_STEM),
        "lean-over-fast": (LEAN, FAST),
        "bf16": ("odelib direct", "odelib direct, bf16"),
    }
    found = {name: f"{times_faster(one, slow, fast):.2f}" for name, (slow, fast) in pairs.items()}
    counted = {
        "dopri5": "odelib direct",
        "bosh3": "odelib direct, bosh3",
        "warm": WARM,
        "grid": GRID,
        "tsit5": "odelib direct, tsit5",
        "rk4": "odelib direct, rk4 in 4 steps",
        "dopri5-bf16": "odelib direct, bf16",
        "dopri5-warm": "odelib direct, warm start",
    }
    found |= {f"nfe-{name}": f"{row[case].nfe_forward:.1f}".removesuffix(".0") for name, case in counted.items()}
    compared = ("dopri5", "bosh3", "warm", "grid", "tsit5", "rk4", "dopri5-warm")
    errors = {"script": SCRIPT, **{name: counted[name] for name in compared}}
    found |= {f"error-{name}": f"{row[case].theta_error:.3f}" for name, case in errors.items()}
    found |= {
        f"state-error-{name}": f"{row[case].state_error:.3f}" for name, case in (("script", SCRIPT), ("grid", GRID))
    }
    worst = worst_over_floor(one)
    floor = {"direct": row["odelib direct"], "fast": row[FAST], "worst": worst}
    found |= {f"floor-{name}": f"{over_floor(of):.2f}" for name, of in floor.items()}
    flops = zip(("forward", "both"), one.evaluation_flops, one.bare[0].medians, strict=True)
    found |= {f"f-{name}": f"{100 * n / seconds / peak:.0f}" for name, n, seconds in flops}
    usual_share, products_share = shares_of_peak(one)
    best = min((GRID, FAST), key=lambda case: median(two, case))
    libraries = {library.library.split()[0]: library for library in one.libraries}
    return {
        **found,
        "environment": str(one.environment),
        "environment-2": str(two.environment),
        "rounds": str(len(one.rows[0].seconds)),
        "rounds-2": str(len(two.rows[0].seconds)),
        "images": str(one.images),
        "ms-script": f"{milliseconds(row[SCRIPT])[1]:.0f}",
        "ms-fast": f"{milliseconds(row[FAST])[1]:.0f}",
        "step-stem": with_quartiles(one, FAST_STEM),
        "step-short": with_quartiles(one, FAST_BF16),
        "step-stem-2": with_quartiles(two, FAST_STEM),
        "step-short-2": with_quartiles(two, FAST_BF16),
        "all": f"{times_faster(one, SCRIPT, FAST):.1f}",
        "all-stem": f"{times_faster(one, SCRIPT, FAST_STEM):.1f}",
        "all-2": f"{times_faster(two, SCRIPT, best):.1f}",
        "step-grid-2": with_quartiles(two, GRID),
        "step-fast-2": with_quartiles(two, FAST),
        "pays-1": where_products_pay(one),
        "pays-2": where_products_pay(two),
        "pays-2-sure": where_products_pay(two, sure=True),
        "usual-share": f"{100 * usual_share:.0f}",
        "points-share": f"{100 * products_share:.0f}",
        "convolution": f"{only(one.sizes, size=6, channels=64).times_faster[0]:.1f}",
        "all-bf16-2": f"{times_faster(two, SCRIPT, FAST_BF16):.1f}",
        "lean": f"{times_faster(one, SCRIPT_ADJOINT, LEAN):.1f}",
        "around-grid": f"{100 * float(np.median(one.without_block)) / median(one, GRID):.0f}",
        "f-products": f"{_gain_of_products(one):.2f}",
        "floor-worst-case": worst.case,
        "torchdyn": f"{libraries['torchdyn'].quartiles[1] / libraries['odelib'].quartiles[1]:.2f}",
        "torchdyn-error": f"{libraries['torchdyn'].theta_error:.3f}",
        "share": f"{share_held(one):.2f}",
        "share-fast": f"{share_held(one, LEAN, FAST):.2f}",
        "peak": f"{peak / 1e9:.0f}",
    }


def _with_derivatives(benchmark: Benchmark) -> dict[str, float]:
    """Seconds of a bare evaluation of f with its derivatives, by the way in which it is computed."""
    return {bare.way: bare.medians[1] for bare in benchmark.bare}


def _gain_of_products(benchmark: Benchmark) -> float:
    """How many times faster such an evaluation is by products."""
    bare = _with_derivatives(benchmark)
    return bare["fp32"] / bare["products"]
