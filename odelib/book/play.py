"""The page `play`: the trained network, the plane of the book's first figure and a few digits, packed for a browser."""

import base64
import zlib

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from odelib.book.pages import script
from odelib.book.plots import COLORS, class_axes, subplots
from odelib.data import Images, load_dataset
from odelib.models import ImageClassifier
from odelib.odeblock import ode_blocks
from odelib.records import RESULTS, load_weights
from odelib.shapes import Float
from odelib.solvers import TABLEAUS, Statistics, odeint

WEIGHTS = RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors"
METHODS = ("euler", "midpoint", "rk4", "bosh3", "dopri5")
WORKER = ("bytes", "network", "runge-kutta", "answer")  # these compute; the page's own: bytes, drawing, pad, play
LINKS = {  # the questions that the buttons ask: where the book answers each, as page, heading
    "clock": ("odefunc", "How much does the trained network use its clock?"),
    "euler": ("adjoint-vs-direct", "Trained with one solver, tested with another"),
    "block": ("layers", "Who does the work?"),
}
PLANE = 300  # test digits that define the plane, as in `front.flow_of_digits`
CROWD = 100  # of them are shown
SHOWN = "4"  # the class of the digit in the still picture


def pack(numbers: np.ndarray) -> str:
    """The bytes of an array, compressed, as base64; `figures/bytes.js` undoes it."""
    return base64.b64encode(zlib.compress(numbers.tobytes(), 9)).decode()


def packed_weights(model: ImageClassifier) -> dict:
    """All parameters as 16-bit floats: `weights`, a text, and `shapes`, a list of name and shape in its order.

    The low bytes of all numbers stand before the high ones, which are alike and compress well side by side.
    """
    numbers = torch.cat([parameter.detach().half().flatten() for parameter in model.parameters()]).numpy()
    low_high = numbers.astype("<f2").view(np.uint8).reshape(-1, 2)
    shapes = [[name, list(parameter.shape)] for name, parameter in model.named_parameters()]
    return {"weights": pack(low_high.T.copy()), "shapes": shapes}


def tableaus() -> dict:
    """The numbers of the solvers that the reader can choose."""
    parts = ("order", "c", "a", "b", "error", "dense")
    return {name: {part: getattr(TABLEAUS[name], part) for part in parts} for name in METHODS}


def to_fetch(model: ImageClassifier, test: Images) -> list[int]:
    """Which test digits the reader can fetch: of every class the first two, and the one that it is least read as."""
    with torch.no_grad():
        chances = model(test.images.float() / 255).softmax(dim=1)
    chosen = []
    for label in range(model.classes):
        mine = (test.labels == label).nonzero()[:, 0]
        others = mine[2:]
        chosen += [*mine[:2].tolist(), others[chances[others, label].argmin()].item()]
    return chosen


def _plane(model: ImageClassifier, test: Images) -> tuple[Tensor, Tensor, Float[Tensor, "6 n c"]]:
    """Origin and axes of the plane, and the states of its digits at t = 0, 0.2 ... 1, averaged over the image."""
    images = test.images[:PLANE].float() / 255
    (block,) = ode_blocks(model)
    with torch.no_grad():
        pooled = block.trajectory(model.stem(images), torch.linspace(0, 1, 6)).mean(dim=(3, 4))
    origin, axes = class_axes(pooled[-1], test.labels[:PLANE])
    return origin, axes, pooled


def play_data() -> dict:
    """What `figures/play.js` needs: the network, the solvers, the scripts of its worker, the plane, digits, links."""
    model, _ = load_weights(WEIGHTS)
    test = load_dataset("mnist-sample").test
    origin, axes, pooled = _plane(model, test)
    crowd = (pooled[:, :CROWD] - origin) @ axes.T
    chosen = to_fetch(model, test)
    return {
        **packed_weights(model),
        "methods": tableaus(),
        "worker": script(*WORKER) + "\nserve(self);",
        "plane": {"origin": _rounded(origin, 5), "axes": [_rounded(axis, 5) for axis in axes]},
        "crowd": {
            "labels": "".join(map(str, test.labels[:CROWD].tolist())),
            "points": [_rounded(at.flatten(), 2) for at in crowd],
        },
        "digits": {
            "labels": "".join(map(str, test.labels[chosen].tolist())),
            "pixels": pack(test.images[chosen].numpy()),
        },
        "links": {
            key: {"href": f"{page}.html#{_anchor(title)}", "title": title} for key, (page, title) in LINKS.items()
        },
    }


def _rounded(numbers: Tensor, places: int) -> list[float]:
    return [round(x, places) for x in numbers.tolist()]


def _anchor(heading: str) -> str:
    """The address of a heading within its page, as Sphinx makes it."""
    return "".join(c for c in heading.lower().replace(" ", "-") if c.isalnum() or c == "-")


def play_still() -> Figure:
    """The figure at rest: a test digit, its way through the plane with dopri5's steps, the head's opinion at t = 1."""
    model, config = load_weights(WEIGHTS)
    test = load_dataset("mnist-sample").test
    origin, axes, pooled = _plane(model, test)
    crowd = ((pooled[-1, :CROWD] - origin) @ axes.T).numpy()
    shown = test.pick((test.labels == int(SHOWN)).nonzero()[:1, 0])
    (block,) = ode_blocks(model)
    with torch.no_grad():
        start = model.stem(shown.images.float() / 255)
        solve = Statistics(states=[])
        times = torch.linspace(0, 1, 51)
        path = odeint(block.f, start, times, rtol=config.rtol, atol=config.atol, statistics=solve)
        stops = torch.stack([*(solve.states or []), path[-1]])
        chances = model.head(path[-1])[0].softmax(dim=0)
    line, dots = (((states[:, 0].mean(dim=(2, 3)) - origin) @ axes.T).numpy() for states in (path, stops))
    style = {"axes.grid": False}
    figure, ((digit, plane, bars),) = subplots(1, 3, style, figsize=(7.2, 2.6), width_ratios=(2, 4, 2), dpi=110)
    digit.imshow(255 - shown.images[0, 0].numpy(), cmap="gray", vmin=0, vmax=255)
    digit.set(xticks=[], yticks=[], title="a digit")
    colors = [plt.get_cmap("tab10")(label) for label in range(10)]
    for label in range(10):
        mine = (test.labels[:CROWD] == label).numpy()
        plane.scatter(*crowd[mine].T, marker=f"${label}$", color=colors[label], s=22, linewidths=0.2, alpha=0.6)
    plane.plot(*line.T, color=COLORS[1], marker="", linewidth=1.5)
    plane.plot(*dots.T, color=COLORS[1], linestyle="none", marker="o")
    plane.set(xticks=[], yticks=[], title=f"its flow, in {solve.accepted} steps")
    bars.barh([str(label) for label in range(10)], 100 * chances.numpy(), color=colors)
    bars.invert_yaxis()
    bars.set(title="what is read (%)", xlim=(0, 100))
    return figure
