"""Where the time of a training step goes, and what each saving is worth: what the benchmark's records show.

The benchmark (`odelib.measurements.benchmark`) times single steps with all solvers in turns, on one thread and on two.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from odelib.measurements.benchmark import SCRIPT, SCRIPT_ADJOINT, Benchmark, BenchmarkRow
from odelib.studies.summary import Table, only

# Cases of the benchmark: the fastest ones, and those among them that hold one step at a time.
FAST, FAST_BF16 = "odelib direct, bosh3, warm start", "odelib direct, bosh3, warm start, bf16"
LEAN, LEAN_BF16 = "odelib checkpoint, bosh3, warm start", "odelib checkpoint, bosh3, warm start, bf16"
SAVINGS = {
    SCRIPT: "as in the script: torchdiffeq, dopri5",
    "torchdiffeq direct": "+ time channel without a copy",
    "odelib direct": "+ our solver, same method",
    "odelib direct, bosh3": "+ bosh3 for dopri5",
    FAST: "+ warm start",
    FAST_BF16: "+ bfloat16 in f",
}

# Operations of a training step by what they are for: an operation is of the first kind that fits a part of its name.
OPERATIONS = {
    "convolutions": "mkldnn_convolution|convolution_backward|slow_conv2d",
    "GroupNorm, ReLU": "group_norm|clamp_min|threshold|relu",
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


def profile_numbers(spent: dict[str, dict[str, float]]) -> dict[str, str]:
    """The share of sums and copies in percent, for each of the steps, `script` and `fast`, that were watched."""
    names = zip(("script", "fast"), spent.values(), strict=True)
    return {f"sums-{name}": f"{100 * times['sums and copies'] / sum(times.values()):.0f}" for name, times in names}


def milliseconds(row: BenchmarkRow) -> tuple[float, float, float]:
    """First quartile, median and third quartile of a training step."""
    first, median, third = (1e3 * seconds for seconds in row.quartiles)
    return first, median, third


def times_faster(benchmark: Benchmark, slow: str, fast: str) -> float:
    """How many steps of the case `fast` take the time of one of `slow`, by medians."""
    return _median(benchmark, slow) / _median(benchmark, fast)


def over_floor(row: BenchmarkRow) -> float:
    """The time of a step over the least that its evaluations of f take."""
    return row.quartiles[1] / row.floor


def saving_table(benchmark: Benchmark) -> Table:
    """Saving by saving, each row with one more than the one above it."""
    header = ["", "NFE", "ms per step (quartiles)", "over its floor", "times faster", "gradient error"]
    rows: list[list[object]] = []
    for case, label in SAVINGS.items():
        row = only(benchmark.rows, case=case)
        rows.append(
            [
                label,
                f"{row.nfe_forward:.1f}",
                "{1:.0f} ({0:.0f} to {2:.0f})".format(*milliseconds(row)),
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
    """Milliseconds of a step, saving by saving: its floor, and the rest, which is the solver's."""
    floors = {label: 1e3 * only(benchmark.rows, case=case).floor for case, label in SAVINGS.items()}
    medians = {label: median for label, (_, median, _) in saving_quartiles(benchmark).items()}
    return {"floor": floors, "solver": {label: max(0.0, medians[label] - floors[label]) for label in floors}}


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


def evaluation_table(benchmark: Benchmark) -> Table:
    """One evaluation of f, computed in several ways."""
    ways = {
        "fp32": "as usual",
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


def gain(benchmark: Benchmark, baseline: str, gradients: Sequence[str]) -> float:
    """How many times our fastest case in 32 bit beats the baseline: of those with one of these gradients that are at
    least as close to the exact gradient as the baseline is."""
    ours = tuple(f"odelib {gradient}" for gradient in gradients)
    bound = only(benchmark.rows, case=baseline).theta_error
    cases = [row.case for row in _in_32_bit(benchmark, ours) if row.theta_error <= bound]
    return max(times_faster(benchmark, baseline, case) for case in cases)


def worst_over_floor(benchmark: Benchmark) -> float:
    """Of our direct cases in 32 bit, the step that takes most over its floor."""
    return max(over_floor(row) for row in _in_32_bit(benchmark, ("odelib direct",)))


def share_held(benchmark: Benchmark, checkpoint: str = "odelib checkpoint", direct: str = "odelib direct") -> float:
    """Bytes that one case holds at most over those of another one."""
    return only(benchmark.rows, case=checkpoint).peak_bytes / only(benchmark.rows, case=direct).peak_bytes


def goal_table(one: Benchmark, two: Benchmark, race: float) -> Table:
    """What was to be reached, and what was, on one thread and on two: the least that would do, and the aim.

    `race` is how many times sooner than the script's our best recipe has 99 % right (`odelib.studies.speed.race`).
    """
    both = (one, two)
    bounded = ("adjoint", "seminorm", "checkpoint")
    rows: list[list[object]] = [
        ["direct: script's way / ours", *(f"{gain(b, SCRIPT, ['direct']):.2f}" for b in both), "2.0", "3.0"],
        [
            "bounded memory: torchdiffeq's adjoint / ours",
            *(f"{gain(b, SCRIPT_ADJOINT, bounded):.2f}" for b in both),
            "2.0",
            "3.5",
        ],
        ["our step / its floor, at worst", *(f"{worst_over_floor(b):.2f}" for b in both), "1.10", "1.02"],
        ["time to 99 %: script's recipe / ours", f"{race:.1f}", "–", "4", "8"],
        ["bytes held, checkpoint / direct, dopri5", *(f"{share_held(b):.2f}" for b in both), "0.33", "0.17"],
    ]
    return ["", "one thread", "two threads", "bar", "aim"], rows


def numbers(one: Benchmark, two: Benchmark) -> dict[str, str]:
    """What the text says of the benchmark on one thread, and on two."""
    row = {row.case: row for row in one.rows}
    peak = max(one.machine_flops)
    pairs = {
        "channel": (SCRIPT, "torchdiffeq direct"),
        "solver": ("torchdiffeq direct", "odelib direct"),
        "bosh3": ("odelib direct", "odelib direct, bosh3"),
        "warm": ("odelib direct, bosh3", FAST),
        "bf16": (FAST, FAST_BF16),
        "lean-over-fast": (LEAN, FAST),
    }
    found = {name: f"{times_faster(one, slow, fast):.2f}" for name, (slow, fast) in pairs.items()}
    counted = {
        "dopri5": "odelib direct",
        "bosh3": "odelib direct, bosh3",
        "warm": FAST,
        "tsit5": "odelib direct, tsit5",
        "dopri5-bf16": "odelib direct, bf16",
        "dopri5-warm": "odelib direct, warm start",
    }
    found |= {f"nfe-{name}": f"{row[case].nfe_forward:.1f}".removesuffix(".0") for name, case in counted.items()}
    floor = {"direct": "odelib direct", "fast": FAST}
    found |= {f"floor-{name}": f"{over_floor(row[case]):.2f}" for name, case in floor.items()}
    flops = zip(("forward", "both"), one.evaluation_flops, one.bare[0].medians, strict=True)
    found |= {f"f-{name}": f"{100 * n / seconds / peak:.0f}" for name, n, seconds in flops}
    return {
        **found,
        "environment": str(one.environment),
        "environment-2": str(two.environment),
        "rounds": str(len(one.rows[0].seconds)),
        "ms-script": f"{milliseconds(row[SCRIPT])[1]:.0f}",
        "ms-fast": f"{milliseconds(row[FAST])[1]:.0f}",
        "all": f"{times_faster(one, SCRIPT, FAST):.1f}",
        "all-bf16": f"{times_faster(one, SCRIPT, FAST_BF16):.1f}",
        "lean": f"{times_faster(one, SCRIPT_ADJOINT, LEAN):.1f}",
        "lean-bf16": f"{times_faster(one, SCRIPT_ADJOINT, LEAN_BF16):.1f}",
        "direct-bf16-2": f"{times_faster(two, SCRIPT, FAST_BF16):.1f}",
        "lean-bf16-2": f"{times_faster(two, SCRIPT_ADJOINT, LEAN_BF16):.1f}",
        "error-tsit5": f"{row['odelib direct, tsit5'].theta_error:.3f}",
        "error-dopri5-warm": f"{row['odelib direct, warm start'].theta_error:.3f}",
        "share": f"{share_held(one):.2f}",
        "share-bosh3": f"{share_held(one, LEAN, FAST):.2f}",
        "peak": f"{peak / 1e9:.0f}",
        "most": f"{row[SCRIPT].quartiles[1] / row[FAST].floor:.2f}",
    }


def _median(benchmark: Benchmark, case: str) -> float:
    return only(benchmark.rows, case=case).quartiles[1]


def _in_32_bit(benchmark: Benchmark, beginnings: tuple[str, ...]) -> list[BenchmarkRow]:
    return [row for row in benchmark.rows if row.case.startswith(beginnings) and "bf16" not in row.case]
