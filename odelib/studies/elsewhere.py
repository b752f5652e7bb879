"""The recipe that was chosen on CIFAR-10, unchanged, on clothes and on larger photographs: does it carry over?

Protocol: nothing is tuned here, and the last epoch counts; one seed, so that these runs cannot tell close networks
apart.
"""

import math
from dataclasses import replace

from odelib.config import Config
from odelib.studies.cifar10 import FULL, NETWORKS
from odelib.studies.study import Case, Study
from odelib.studies.summary import Runs, at_the_end, standard_error

FASHION_MNIST: dict[str, Config] = {
    name: replace(FULL[name], dataset="fashion-mnist", epochs=3) for name in ("odenet", "resnet-1")
}


def _photographs(name: str) -> Config:
    return replace(FULL[name], dataset="tiny-imagenet-20", epochs=5)


# 20 classes of Tiny ImageNet with 64 x 64 pixels, whose states have 15 x 15: is a second, smaller scale of use?
TINY_IMAGENET: dict[str, Config] = {
    "odenet": _photographs("odenet"),
    "odenet-two-scales": replace(_photographs("odenet"), scales=2),
    "resnet-4": _photographs("resnet-4"),
}

FASHION = Study(
    "fashion-mnist",
    "What does the same recipe reach on another data set of this size?",
    {name: Case(config) for name, config in FASHION_MNIST.items()},
)
TINY = Study(
    "tiny-imagenet-20",
    "What does it reach on larger photographs, and is a second scale of use there?",
    {name: Case(config) for name, config in TINY_IMAGENET.items()},
)

CLOTHES = {case: NETWORKS[case] for case in FASHION_MNIST}
PHOTOGRAPHS = {case: {**NETWORKS, "odenet-two-scales": "ODE-Net, two scales"}[case] for case in TINY_IMAGENET}


def against(runs: Runs, better: str, other: str, images: int) -> tuple[float, float]:
    """Points between two networks in testing on so many images, and the standard error of such a difference."""
    p, q = at_the_end(runs[better]), at_the_end(runs[other])
    return 100 * (p - q), 100 * math.hypot(standard_error(p, images), standard_error(q, images))


def comparisons(clothes: Runs, tiny: Runs) -> dict[str, tuple[float, float]]:
    """The differences that the text names: `against`."""
    return {
        "clothes": against(clothes, "resnet-1", "odenet", images=10_000),
        "scales": against(tiny, "odenet-two-scales", "odenet", images=1_000),
        "blocks": against(tiny, "odenet", "resnet-4", images=1_000),
    }


def numbers(clothes: Runs, tiny: Runs) -> dict[str, str]:
    """What the text says: `comparisons`, each with its standard error."""
    found = comparisons(clothes, tiny)
    return {
        **{name: f"{difference:.1f}" for name, (difference, _) in found.items()},
        **{f"{name}-se": f"{error:.1f}" for name, (_, error) in found.items()},
    }
