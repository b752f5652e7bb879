"""Measurements: what is measured on trained networks, one module each, whose last line is its `Measurement`.

A new one is a module here and its name below; a study asks for it in its `measurements`.
"""

from importlib import import_module

from odelib.measurements.measurement import Measurement, Subject

MEASUREMENTS = ("timing", "memory", "loss-scale", "gradient-error", "cross-solver", "confusion", "benchmark")


def measurement(name: str) -> Measurement:
    """How the measurement of this name (`MEASUREMENTS`) is made."""
    return import_module(f"odelib.measurements.{name.replace('-', '_')}").MEASUREMENT


__all__ = ["MEASUREMENTS", "Measurement", "Subject", "measurement"]
