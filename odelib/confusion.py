"""Confusion: which class a trained network takes for which, counted over all test images."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from odelib.config import Config
from odelib.data import Dataset, Images, batches
from odelib.records import Environment, Record, RecordError, load_weights, stored_weights
from odelib.training import EVALUATED_AT_ONCE


@dataclass(frozen=True)
class ConfusionRow:
    """How one trained network sorts the test images."""

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


def measure_confusion(cases: dict[str, Config], data: Dataset, folder: Path, device: torch.device) -> Confusion:
    """Count for every network of the study whose weights lie in `folder`. Raises RecordError when there are none."""
    test, rows = data.test.to(device), []
    for case, seed, path in stored_weights(cases, folder):
        model, _ = load_weights(path)
        counts = count_confusion(model.to(device), test, len(data.classes))
        rows.append(ConfusionRow(case, seed, tuple(map(tuple, counts.tolist()))))
    if not rows:
        raise RecordError(f"{folder} holds no weights of this study; train its cases first")
    return Confusion(Environment.here(device), data.classes, tuple(rows))
