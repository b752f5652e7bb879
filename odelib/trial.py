"""A trial: one picture goes through a network, and its solver is looked at, before hours are spent on it."""

import copy

import torch

from odelib.data import Images
from odelib.errors import OptionError, in_one_line, memory_for
from odelib.models import ImageClassifier
from odelib.odeblock import Solver, ode_blocks


def try_one_picture(model: ImageClassifier, images: Images, alone: bool = False) -> None:
    """Raise OptionError where pictures of this size do not pass `model`, or leave its norms a single value each.

    Or where its tolerances are below ten times the precision of its numbers: rounding leaves no step small enough.
    BatchNorm takes its values from a whole batch, and minds where one picture is `alone` in a batch of training. The
    model stays as it is, and no random number is drawn. Raises OutOfMemory where there is none for a picture.
    """
    dtype = next(model.parameters()).dtype
    _refuse_what_rounding_hides(model, torch.finfo(dtype))
    trial = copy.deepcopy(model).train(alone)
    for block in ode_blocks(trial):
        block.solver = Solver("euler", products=block.solver.products)
    height, width = images.images.shape[-2:]
    picture = f"a picture of {height} x {width} pixels"
    try:
        with torch.random.fork_rng(), memory_for(picture):
            trial(images.pick(slice(0, 1)).images.to(dtype) / 255)
    except OptionError:  # products, of what they do not know
        raise
    except (RuntimeError, ValueError) as error:
        raise OptionError(
            f"{picture} does not pass this network ({in_one_line(error)}); "
            "take larger ones, fewer scales, or stem one-shot"
        ) from error


def _refuse_what_rounding_hides(model: ImageClassifier, numbers: torch.finfo) -> None:
    finest = 10 * numbers.eps / 2  # rounding errs by half of eps
    for block in ode_blocks(model):
        rtol, atol = block.solver.rtol, block.solver.atol
        if block.solver.adaptive and max(rtol, atol) < finest:
            raise OptionError(
                f"rtol or atol must be at least {finest:.1g}, ten times the precision of {numbers.bits} bit numbers, "
                f"got rtol={rtol:g}, atol={atol:g}"
            )
