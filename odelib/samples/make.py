"""Make the samples out of the full sets: python -m odelib.samples.make [DATA_ROOT]

Of every class the first images in the published order, as many as stated below; the classes take turns.
"""

import sys

import numpy as np
import torch

from odelib.data import SAMPLES, Images, load_dataset

PER_CLASS = {
    "mnist": {"train": 200, "test": 100},
    "fashion-mnist": {"train": 100, "test": 50},
    "cifar10": {"train": 60, "test": 30},
}


def first_of_each_class(data: Images, classes: int, n: int) -> Images:
    """The first `n` images of every class, in the order 0, 1, ..., 0, 1, ..."""
    index = torch.stack([torch.nonzero(data.labels == label)[:n, 0] for label in range(classes)], dim=1)
    return data.pick(index.flatten())


if __name__ == "__main__":
    for name, counts in PER_CLASS.items():
        full = load_dataset(name, sys.argv[1] if len(sys.argv) > 1 else None)
        arrays = {}
        for split, n in counts.items():
            part = first_of_each_class(getattr(full, split), len(full.classes), n)
            arrays[f"{split}_images"] = part.images.permute(0, 2, 3, 1).numpy()
            arrays[f"{split}_labels"] = part.labels.numpy().astype(np.uint8)
        np.savez_compressed(SAMPLES / f"{name}-sample.npz", **arrays)  # type: ignore[arg-type]
