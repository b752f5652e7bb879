"""Views: what trained networks make of a test image that they see several times, mirrored and shifted."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from odelib.data import batches
from odelib.measurements.measurement import Measurement, Subject
from odelib.records import Environment, Record
from odelib.shapes import Float
from odelib.training import EVALUATED_AT_ONCE

NUMBERS = (1, 2, 6)


@dataclass(frozen=True)
class Viewed:
    """One network that answers by the mean of its logits over some views of each image."""

    KEY = ("case", "seed", "views")

    case: str
    seed: int
    views: int
    accuracy: float  # share of the test images


@dataclass(frozen=True)
class Views(Record):
    """Test accuracy by the number of views of each test image."""

    environment: Environment
    images: int  # of the test set that networks were asked about
    rows: tuple[Viewed, ...]


def views(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "v b c h w"]:
    """The six views: the images as they are, shifted by a pixel up and left, and down and right, each also mirrored.

    A mirror image stands behind its image. Shifted images are reflected at their edge.
    """
    h, w = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    placed = torch.stack([x, padded[..., 2:, 2:], padded[..., :h, :w]])
    return torch.stack([placed, placed.flip(-1)], dim=1).flatten(0, 1)


@torch.no_grad()
def measure_views(subject: Subject, images: int | None = None, numbers: Sequence[int] = NUMBERS) -> Views:
    """Ask every network of the study whose weights are at hand, by the first so many of `views` as `numbers` says.

    `images` are the first so many of the test set, all of them if it is None. Raises RecordError when there are no
    weights.
    """
    test, rows = subject.data.test.pick(slice(0, images)).to(subject.device), []
    for case, seed, model in subject.networks():
        right = dict.fromkeys(numbers, 0)
        for x, labels in batches(test, EVALUATED_AT_ONCE):
            logits = torch.stack([model(view) for view in views(x)[: max(numbers)]])
            for n in numbers:
                right[n] += int((logits[:n].mean(dim=0).argmax(dim=1) == labels).sum())
        rows += [Viewed(case, seed, n, correct / len(test)) for n, correct in right.items()]
    return Views(Environment.here(subject.device, __name__), len(test), tuple(rows))


_SMALL = {"numbers": NUMBERS[:2]}
MEASUREMENT = Measurement(Views, measure_views, __name__, studies=("cifar10-modern",), small=_SMALL)
