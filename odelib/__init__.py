"""odelib: Neural ODEs for image classification, small enough to read beside the book that explains it."""

__version__ = "0.1.0"

from odelib.config import PRESETS, Config
from odelib.data import DataError, Dataset, Images, load
from odelib.memory import count_saved_bytes
from odelib.models import ImageClassifier, build, count_parameters
from odelib.odeblock import ODEBlock, count_evaluations
from odelib.odefunc import ODEfunc
from odelib.records import RecordError, Run, load_study, load_weights
from odelib.training import EpochMetrics, evaluate, fit

__all__ = [
    "PRESETS",
    "Config",
    "DataError",
    "Dataset",
    "EpochMetrics",
    "ImageClassifier",
    "Images",
    "ODEBlock",
    "ODEfunc",
    "RecordError",
    "Run",
    "build",
    "count_evaluations",
    "count_parameters",
    "count_saved_bytes",
    "evaluate",
    "fit",
    "load",
    "load_study",
    "load_weights",
]
