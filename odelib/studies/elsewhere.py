"""The recipe that was chosen on CIFAR-10, unchanged, in short runs on clothes and on larger photographs: does it train?

Protocol: nothing is tuned here, and the last epoch counts. Three and five epochs with one seed show that it trains,
not what it reaches, and cannot tell close networks apart.
"""

from dataclasses import replace

from odelib.config import Config
from odelib.studies.cifar10 import FULL, NETWORKS, compared
from odelib.studies.study import Case, Study
from odelib.studies.summary import Runs, accuracy, signed

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


# The one and the other, whose accuracies are subtracted, and the images of their test.
COMPARED = {
    "clothes": ("fashion-mnist", "resnet-1", "odenet", 10_000),
    "scales": ("tiny-imagenet-20", "odenet-two-scales", "odenet", 1_000),
    "blocks": ("tiny-imagenet-20", "odenet", "resnet-4", 1_000),
}


def comparisons(clothes: Runs, tiny: Runs) -> dict[str, tuple[float, float, float]]:
    """(difference, low, high) of each pair of `COMPARED` in points, with a 95 % interval over images: `compared`."""
    studies = {FASHION.name: clothes, TINY.name: tiny}
    found = {name: compared(studies[study], one, other, n) for name, (study, one, other, n) in COMPARED.items()}
    return {name: seeds[0] for name, seeds in found.items()}


def numbers(clothes: Runs, tiny: Runs) -> dict[str, str]:
    """What the text says: accuracies in percent, and `comparisons`, each with its interval."""
    said = {
        f"{name}-{case}": accuracy(found, digits=1)
        for name, runs in (("clothes", clothes), ("tiny", tiny))
        for case, found in runs.items()
    }
    for name, (difference, low, high) in comparisons(clothes, tiny).items():
        said[name] = signed([difference])
        said[f"{name}-interval"] = f"{signed([low])} to {signed([high])}"
    return said
