"""Measurements: what is measured on trained networks, one module each, whose last line is its `Measurement`.

A new one is a module and a line here.
"""

from odelib.measurements import (
    backward_tolerance,
    benchmark,
    confusion,
    cross_solver,
    gradient_error,
    inference,
    loss_scale,
    memory,
    robustness,
    stop_times,
    timing,
    work_precision,
)
from odelib.measurements.measurement import Measurement, Subject

MEASUREMENTS: dict[str, Measurement] = {
    "timing": timing.MEASUREMENT,
    "memory": memory.MEASUREMENT,
    "loss-scale": loss_scale.MEASUREMENT,
    "gradient-error": gradient_error.MEASUREMENT,
    "backward-tolerance": backward_tolerance.MEASUREMENT,
    "work-precision": work_precision.MEASUREMENT,
    "cross-solver": cross_solver.MEASUREMENT,
    "confusion": confusion.MEASUREMENT,
    "stop-times": stop_times.MEASUREMENT,
    "inference": inference.MEASUREMENT,
    "robustness": robustness.MEASUREMENT,
    "benchmark": benchmark.MEASUREMENT,
}

__all__ = ["MEASUREMENTS", "Measurement", "Subject"]
