"""A trial: one picture goes through a network before hours are spent on it."""

import copy

import torch

from odelib.data import Images
from odelib.errors import OptionError, in_one_line
from odelib.models import ImageClassifier
from odelib.odeblock import Solver, change_solver


def try_one_picture(model: ImageClassifier, images: Images, alone: bool = False) -> None:
    """Raise OptionError where pictures of this size do not pass `model`, or leave its norms a single value each.

    BatchNorm takes its values from a whole batch, and minds where one picture is `alone` in a batch of training. The
    model stays as it is, and no random number is drawn.
    """
    trial = copy.deepcopy(model).train(alone)
    change_solver(trial, Solver("euler"))
    try:
        with torch.random.fork_rng():
            trial(images.pick(slice(0, 1)).images.float() / 255)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        height, width = images.images.shape[-2:]
        raise OptionError(
            f"a picture of {height} x {width} pixels does not pass this network ({in_one_line(error)}); "
            "take larger ones, fewer scales, or stem one-shot"
        ) from error
