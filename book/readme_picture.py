"""Draw the README's picture, the flow of digits of the book's first page: python book/readme_picture.py"""

from pathlib import Path

import torch

from odelib import load, load_weights
from odelib.plots import flow
from odelib.records import RESULTS

model, _ = load_weights(RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors")
test = load("mnist-sample").test.pick(slice(0, 300))
times = torch.linspace(0, 1, 6)
with torch.no_grad():
    states = model.block.trajectory(model.stem(test.images / 255), times)
flow(states, test.labels, times.tolist()).savefig(Path(__file__).parent / "_static" / "flow.png", dpi=110)
