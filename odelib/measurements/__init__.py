"""Measurements: what is measured on trained networks, one module each, whose last line is its `Measurement`.

A new one is a module and a line here.
"""

from odelib.measurements import (
    backward_tolerance,
    benchmark,
    confusion,
    cross_solver,
    figure_3,
    gradient_error,
    hard_images,
    inference,
    loss_scale,
    memory,
    norm_statistics,
    robustness,
    stop_times,
    timing,
    views,
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
    "norm-statistics": norm_statistics.MEASUREMENT,
    "figure-3": figure_3.MEASUREMENT,
    "hard-images": hard_images.MEASUREMENT,
    "stop-times": stop_times.MEASUREMENT,
    "inference": inference.MEASUREMENT,
    "robustness": robustness.MEASUREMENT,
    "views": views.MEASUREMENT,
    "benchmark": benchmark.MEASUREMENT,
}

__all__ = ["MEASUREMENTS", "Measurement", "Subject"]
