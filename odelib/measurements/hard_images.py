"""Hard images: the test images that every trained ODE-Net of a study takes for another class than theirs."""

from dataclasses import dataclass, replace

import torch

from odelib.data import batches
from odelib.measurements.measurement import Measurement, Subject
from odelib.records import Environment, Record
from odelib.training import EVALUATED_AT_ONCE


@dataclass(frozen=True)
class HardImage:
    """One test image, and what it is taken for."""

    KEY = ("index",)

    index: int  # its place among the test images, counted from 0
    label: str  # its class, as the data set says
    guesses: tuple[str, ...]  # the class that each network takes it for, in the order of `networks`
    pixels: tuple[tuple[tuple[int, ...], ...], ...]  # (height, width, channels), 0 to 255


@dataclass(frozen=True)
class HardImages(Record):
    """The images that all ODE-Nets of a study get wrong."""

    environment: Environment
    networks: tuple[str, ...]  # `<case>-seed<k>`
    rows: tuple[HardImage, ...]


@torch.no_grad()
def measure_hard_images(subject: Subject) -> HardImages:
    """Ask every ODE-Net of the study whose weights are at hand. Raises RecordError when there are none."""
    test, classes, found = subject.data.test.to(subject.device), subject.data.classes, {}
    cases = {case: config for case, config in subject.cases.items() if config.network == "odenet"}
    for case, seed, model in replace(subject, cases=cases).networks():
        model.eval()
        found[f"{case}-seed{seed}"] = torch.cat([model(x).argmax(dim=1) for x, _ in batches(test, EVALUATED_AT_ONCE)])
    guesses = torch.stack(list(found.values()), dim=1)
    hard = (guesses != test.labels[:, None]).all(dim=1).nonzero()[:, 0].tolist()
    rows = []
    for i in hard:
        pixels = tuple(tuple(tuple(pixel) for pixel in row) for row in test.images[i].permute(1, 2, 0).tolist())
        taken_for = tuple(classes[guess] for guess in guesses[i].tolist())
        rows.append(HardImage(i, classes[int(test.labels[i])], taken_for, pixels))
    return HardImages(Environment.here(subject.device, __name__), tuple(found), tuple(rows))


# Small enough as it is.
MEASUREMENT = Measurement(HardImages, measure_hard_images, __name__, studies=("mnist-modern",), small={})
