"""Draw the flow of digits for the README and for previews of links: python book/readme_picture.py"""

from pathlib import Path

import torch

from odelib import load_dataset, load_weights
from odelib.book.plots import flow
from odelib.records import RESULTS

model, _ = load_weights(RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors")
test = load_dataset("mnist-sample").test.pick(slice(0, 300))
times = torch.linspace(0, 1, 6)
with torch.no_grad():
    states = model.block.trajectory(model.stem(test.images / 255), times)
figure = flow(states, test.labels, times.tolist())
figure.set_size_inches(8, 4.2)  # with 150 dots an inch 1200 x 630 pixels, what sites that show previews expect
figure.savefig(Path(__file__).parent / "_static" / "flow.png", dpi=150, facecolor="white")
