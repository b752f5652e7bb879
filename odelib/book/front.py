"""The picture in front of the book: on its first page, in the README, in previews of links."""

import torch
from matplotlib.figure import Figure

from odelib.book.plots import flow
from odelib.data import load_dataset
from odelib.odeblock import ode_blocks
from odelib.records import RESULTS, load_weights


def flow_of_digits(n: int = 300) -> Figure:
    """The states of `n` test digits on their way through a block that was trained on MNIST, at six times."""
    model, _ = load_weights(RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors")
    (block,) = ode_blocks(model)
    test = load_dataset("mnist-sample").test.pick(slice(0, n))
    times = torch.linspace(0, 1, 6)
    with torch.no_grad():
        states = block.trajectory(model.stem(test.images / 255), times)
    return flow(states, test.labels, times.tolist())
