"""The savings of a training step on other machines: on a processor without instructions for bfloat16, and on a GPU.

Records of the benchmark, as in `odelib.studies.savings`, beside that of one thread of the book's own machine.
"""

import numpy as np

from odelib.measurements.benchmark import SCRIPT, SCRIPT_ADJOINT, Benchmark
from odelib.studies.savings import (
    FAST,
    FAST_BF16,
    FAST_STEM,
    GRID,
    SAVINGS,
    WARM,
    goals,
    median,
    times_faster,
    where_products_pay,
    with_quartiles,
)
from odelib.studies.summary import Table


def processor_table(one: Benchmark, other: Benchmark) -> Table:
    """A training step saving by saving on one thread of two processors: milliseconds, and times faster than the
    script on the same one."""
    header = ["", "with, ms (quartiles)", "times faster", "without, ms (quartiles)", "times faster"]
    rows: list[list[object]] = []
    for case, label in SAVINGS.items():
        row: list[object] = [label]
        for benchmark in (one, other):
            row += [with_quartiles(benchmark, case), f"{times_faster(benchmark, SCRIPT, case):.2f}"]
        rows.append(row)
    return header, rows


def processor_numbers(other: Benchmark) -> dict[str, str]:
    """What the text says of the other processor: how many times longer a step takes with bfloat16, in the stem beside
    products, in f and stem, or in f of dopri5; times faster than the script; the maps on which products pay; how many
    goals of products are missed on one thread."""
    of_products = [goal for goal in goals(other, other, race=0.0) if goal.of_products]
    missed = [goal for goal in of_products if goal.missed]
    slower = {"stem": (FAST_STEM, FAST), "bf16": (FAST_BF16, GRID), "f": ("odelib direct, bf16", "odelib direct")}
    return {
        **{f"plain-{name}": f"{times_faster(other, case, usual):.1f}" for name, (case, usual) in slower.items()},
        "plain-environment": str(other.environment),
        "plain-rounds": str(len(other.rows[0].seconds)),
        "plain-all": f"{times_faster(other, SCRIPT, FAST):.1f}",
        "plain-products": f"{times_faster(other, GRID, FAST):.2f}",
        "plain-pays": where_products_pay(other),
        "plain-missed": f"{len(missed) or 'none'} of the {len(of_products)}",
    }


def gpu_table(one: Benchmark, gpu: Benchmark, operations: dict[str, int]) -> Table:
    """A training step saving by saving, on one thread and on a GPU: milliseconds, and microseconds an operation."""
    header = [
        "",
        "operations",
        "one thread, ms",
        "one thread, µs an operation",
        "GPU, ms (quartiles)",
        "GPU, µs an operation",
        "times faster than the script there",
    ]
    rows: list[list[object]] = []
    for case, label in SAVINGS.items():
        each = [f"{1e6 * median(benchmark, case) / operations[case]:.0f}" for benchmark in (one, gpu)]
        there = with_quartiles(gpu, case)
        thread = f"{1e3 * median(one, case):.0f}"
        faster = f"{times_faster(gpu, SCRIPT, case):.2f}"
        rows.append([label, f"{operations[case]:,}", thread, each[0], there, each[1], faster])
    return header, rows


def gpu_size_table(one: Benchmark, gpu: Benchmark) -> Table:
    """A step of RK4 of a block with its backward pass, map by map, in milliseconds."""
    header = ["map, channels", "one thread", "GPU", "one thread, products", "GPU, products"]
    rows: list[list[object]] = []
    for row, there in zip(one.sizes, gpu.sizes, strict=True):
        times = row.block, there.block, row.block_products, there.block_products
        cells = [f"{1e3 * float(np.median(seconds)):.1f}" for seconds in times]
        rows.append([f"{row.size} × {row.size}, {row.channels}", *cells])
    return header, rows


def gpu_numbers(one: Benchmark, gpu: Benchmark, operations: dict[str, int]) -> dict[str, str]:
    """What the text says of the GPU: a step, times faster than the script, steps of one way over those of another;
    microseconds of an operation over the cases, there and on one thread; how much longer the largest map of 64 channels
    takes than the smallest, and how much more arithmetic that is."""

    def each(benchmark: Benchmark) -> str:
        found = [1e6 * median(benchmark, case) / n for case, n in operations.items()]
        return f"{min(found):.0f} to {max(found):.0f}"

    def growth(benchmark: Benchmark) -> str:
        blocks = [float(np.median(row.block)) for row in benchmark.sizes if row.channels == 64]
        return f"{blocks[-1] / blocks[0]:.1f}"

    sides = [row.size for row in gpu.sizes if row.channels == 64]
    return {
        "gpu-environment": str(gpu.environment),
        "gpu-hardware": gpu.environment.hardware,
        "gpu-rounds": str(len(gpu.rows[0].seconds)),
        "gpu-ms-script": f"{1e3 * median(gpu, SCRIPT):.0f}",
        "gpu-ms-grid": f"{1e3 * median(gpu, GRID):.0f}",
        "gpu-ms-warm": f"{1e3 * median(gpu, WARM):.0f}",
        "gpu-step-script": with_quartiles(gpu, SCRIPT),
        "gpu-step-channel": with_quartiles(gpu, "torchdiffeq direct"),
        "gpu-step-products": with_quartiles(gpu, FAST),
        "gpu-step-solver": with_quartiles(gpu, "odelib direct"),
        "gpu-all": f"{times_faster(gpu, SCRIPT, GRID):.1f}",
        "gpu-products": f"{times_faster(gpu, FAST, GRID):.1f}",
        "gpu-bf16": f"{times_faster(gpu, FAST_BF16, GRID):.1f}",
        "gpu-adjoint": f"{times_faster(gpu, SCRIPT_ADJOINT, SCRIPT):.2f}",
        "gpu-adjoint-thread": f"{times_faster(one, SCRIPT_ADJOINT, SCRIPT):.2f}",
        "gpu-each": each(gpu),
        "gpu-each-thread": each(one),
        "gpu-growth": growth(gpu),
        "gpu-growth-thread": growth(one),
        "gpu-pixels": f"{(sides[-1] / sides[0]) ** 2:.0f}",
    }
