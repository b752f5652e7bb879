"""Measurements: what is measured on trained networks, one module each, whose last line is its `Measurement`.

A new one is a module and a line here; a study asks for it in its `measurements`.
"""

from odelib.measurements import benchmark, confusion, cross_solver, gradient_error, loss_scale, memory, timing
from odelib.measurements.measurement import Measurement, Subject

MEASUREMENTS: dict[str, Measurement] = {
    "timing": timing.MEASUREMENT,
    "memory": memory.MEASUREMENT,
    "loss-scale": loss_scale.MEASUREMENT,
    "gradient-error": gradient_error.MEASUREMENT,
    "cross-solver": cross_solver.MEASUREMENT,
    "confusion": confusion.MEASUREMENT,
    "benchmark": benchmark.MEASUREMENT,
}


def measurement(name: str) -> Measurement:
    """How the measurement of this name is made."""
    return MEASUREMENTS[name]


__all__ = ["MEASUREMENTS", "Measurement", "Subject", "measurement"]
