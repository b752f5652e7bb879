"""What torchrun starts for test_distributed.py: `tests/processes.py FOLDER` makes all runs of `CONFIGS`."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from odelib import Config, load_dataset
from odelib.distributed import joined
from odelib.runs import run

CPU = torch.device("cpu")
# Ten steps or more, of 16 images. Without kinks where a rounding decides on which side of one a value is.
SMALL = Config(
    dataset="mnist-sample",
    train_images=80,
    stem="one-shot",
    width=8,
    activation="softplus",
    method="rk4",
    epochs=2,
    batch_size=16,
    lr=0.02,
)
ADAPTIVE = replace(SMALL, method="dopri5", gradient="seminorm", rtol=1e-4, atol=1e-4)
CONFIGS = {
    "direct": replace(SMALL, scales=2),
    "penalty": replace(SMALL, kinetic=0.1, augment="crop-flip", train_images=108, validation=0.25),
    "adjoint": replace(SMALL, gradient="adjoint"),
    "odelib-adjoint": replace(SMALL, library="odelib", gradient="adjoint"),
    "checkpoint": replace(SMALL, library="odelib", gradient="checkpoint"),
    "dropout": replace(SMALL, dropout=0.2, method="euler", epochs=12),
    "seminorm": ADAPTIVE,
    "odelib-seminorm": replace(ADAPTIVE, library="odelib"),
}


def dataset():
    data = load_dataset("mnist-sample")
    return replace(data, test=data.test.pick(slice(0, 31)))  # no multiple of two


if __name__ == "__main__":
    torch.set_num_threads(1)
    data = dataset()
    with joined(CPU) as processes:
        for name, config in CONFIGS.items():
            run(config, data, Path(sys.argv[1]) / f"{name}.json", CPU, lambda _: None, processes=processes)
