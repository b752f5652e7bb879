"""Confusion: which class a trained network takes for which, counted over all test images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from odelib.data import Images, batches
from odelib.measurements.measurement import Measurement, Subject
from odelib.records import Environment, Record
from odelib.shapes import Int64
from odelib.training import EVALUATED_AT_ONCE


@dataclass(frozen=True)
class ConfusionRow:
    """How one trained network sorts the test images."""

    KEY = ("case", "seed")

    case: str  # how it was trained
    seed: int
    counts: tuple[tuple[int, ...], ...]  # [i][j]: images of class i that it takes for class j


@dataclass(frozen=True)
class Confusion(Record):
    """Confusion matrices of a study's networks, on the same test images."""

    environment: Environment
    classes: tuple[str, ...]
    rows: tuple[ConfusionRow, ...]


@torch.no_grad()
def count_confusion(model: nn.Module, data: Images, classes: int) -> Int64[Tensor, "classes classes"]:
    """How many images of each class (a row) the model, in eval mode, takes for each class (a column)."""
    counts = torch.zeros(classes * classes, dtype=torch.long)
    model.eval()
    for x, y in batches(data, EVALUATED_AT_ONCE):
        counts += (y * classes + model(x).argmax(dim=1)).bincount(minlength=classes * classes).cpu()
    return counts.view(classes, classes)


def measure_confusion(subject: Subject) -> Confusion:
    """Count for every network of the study whose weights are at hand. Raises RecordError when there are none."""
    test, classes, rows = subject.data.test.to(subject.device), subject.data.classes, []
    for case, seed, model in subject.networks():
        counts = count_confusion(model, test, len(classes))
        rows.append(ConfusionRow(case, seed, tuple(map(tuple, counts.tolist()))))
    return Confusion(Environment.here(subject.device, __name__), classes, tuple(rows))


# Small enough as it is: the book keeps the weights of few of the networks.
_STUDIES = ("cifar10-full", "cifar10-modern")
MEASUREMENT = Measurement(Confusion, measure_confusion, __name__, studies=_STUDIES, small={})
