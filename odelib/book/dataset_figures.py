"""Figures of images and of what a network makes of them: classes, answers, points that change places."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from odelib.book.plots import image_grid, panels
from odelib.data import Dataset, Images
from odelib.shapes import Float


def one_of_each(datasets: Sequence[Dataset]) -> Figure:
    """The first training image of each class under the name of the class, a row for each of the data sets."""
    images, titles = [], []
    for data in datasets:
        for k, name in enumerate(data.classes):
            images.append(data.train.images[_first(data.train.labels == k)])
            titles.append(name)
    return image_grid(images, titles, columns=len(datasets[0].classes))


def answers(data: Images, chances: Float[Tensor, "n k"], classes: Sequence[str]) -> Figure:
    """The first image of each class, and below it the first of each that a network gets wrong.

    Under the true class stands what the network takes the image for, and the chance that it gives to that.
    """
    guesses = chances.argmax(dim=1)
    ours = [data.labels == k for k in range(len(classes))]
    shown = [_first(mine) for mine in ours] + [_first(mine & (guesses != data.labels)) for mine in ours]
    titles = []
    for i in shown:
        true, guess = int(data.labels[i]), int(guesses[i])
        titles.append(f"{classes[true]}\n{classes[guess]}\n{chances[i, guess]:.0%}")
    figure = image_grid([data.images[i] for i in shown], titles, columns=len(classes))
    figure.set_figheight(2.8)
    return figure


def _first(found: Tensor) -> int:
    return int(found.nonzero()[0])


def crossing(paths: dict[str, tuple[float, Float[Tensor, "t n"]]]) -> Figure:
    """The paths of n points over time, from 0 to 1: a panel for each title, which ends with the loss."""
    figure, axes = panels(len(paths), height=2.6)
    for ax, (title, (loss, path)) in zip(axes, paths.items()):
        ax.plot(torch.linspace(0, 1, len(path)), path, marker="")
        ax.set(xlabel="time $t$", ylim=(-1.2, 1.2), title=f"{title}: loss {loss:.2f}")
    axes[0].set(ylabel="first coordinate")
    return figure
