"""odelib: Neural ODEs for image classification, small enough to read beside the book that explains it.

Names are fetched when they are first used, so that a layer in somebody else's network does not wait for what only
training or the book needs, nor require it to be installed.
"""

from importlib import import_module

__version__ = "0.2.0"

_HOMES = {
    "config": ("Config", "build"),
    "data": ("Dataset", "Images", "Selection", "load_dataset", "prepare"),
    "errors": ("DataError", "Error", "Interrupted", "OptionError", "RecordError", "SolverError"),
    "models": ("ImageClassifier", "Network", "count_parameters"),
    "odeblock": ("ODEBlock", "Solver", "count_evaluations"),
    "odefunc": ("ODEfunc",),
    "presets": ("PRESETS",),
    "records": ("Run", "load_weights"),
    "saved_bytes": ("count_saved_bytes",),
    "training": ("EpochMetrics", "Training", "evaluate", "fit"),
}
HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(HOME)


def __getattr__(name: str) -> object:
    if name not in HOME:
        raise AttributeError(f"module 'odelib' has no attribute {name!r}")
    return getattr(import_module(f"odelib.{HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
