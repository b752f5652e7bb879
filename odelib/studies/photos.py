"""What does an ODE-Net reach on CIFAR-10 when it is trained as networks are trained today? The protocol, written before
the first run; History has what changed since:

Question: the network of the assignment stands at some 85 % on CIFAR-10, published and here. What does it reach by the
recipe of `mnist-modern`? And what do networks reach whose equations see 16 x 16 and 8 x 8 pixels in place of 7 x 7?

- Data: all 50,000 training images of CIFAR-10, mirrored and shifted by up to four pixels, reflected outside. Networks
  are tested after every epoch, as all runs of this package are; the last one counts, never the best, and nothing is
  chosen by the test images.
- `small`: at most 272,000 parameters, those of a ResNet-20. Two convolutions to 16 x 16 pixels, an ODE block, one
  convolution to 8 x 8, an ODE block, head; each f is 0 before training, so that the network begins without its blocks.
  A block takes one step of the midpoint rule.
- `assignment`: the network of `odenet_mnist.py`, one step of RK4.
- `large`: as `small` with 128 and 256 channels, fewer than 2.1 million parameters.
- Controls of `small`: a residual block passed twice in place of each ODE block, which has as much arithmetic and, but
  for the time channel, as many parameters (`tied-2`); the same passed once (`resnet-1`).
- Choices, by 10,000 of the training images, the same ones always, which are held out then: 12 epochs and one seed, one
  change at a time (`CHOICES`); for the controls fewer (`CONTROL_CHOICES`), tried on `tied-2`. A change is taken if it
  is better than the baseline by over 0.5 points, some 1.5 standard errors of one accuracy at 88 %; of changes
  that exclude each other (rates, groups and shapes, solvers) the best one. `large` and `assignment` take the
  recipe that was chosen for `small`, and not its shape. Their time also sets how many epochs the networks get: as many
  as the GPU is there for.
- Machine: one GPU, with PyTorch's default there, by which convolutions are computed with TF32 numbers (10 bits). The
  networks run side by side, so that their seconds say nothing. Batches of 512, since a GPU takes hardly longer for them
  than for 128.
"""

from dataclasses import replace
from typing import Any

from odelib.config import Config
from odelib.studies.modern import DIGITS
from odelib.studies.study import Case, Study

# What CHOICES chose, for batches of 256, to which half of the rate belongs.
_CHOSEN: dict[str, Any] = {
    "batch_size": 256, "lr": 0.4, "weight_decay": 1e-3, "label_smoothing": 0.1, "epochs": 40,
}  # fmt: skip

_THREE, _TWO = (0, 1, 2), (0, 1)
_RECIPE = replace(
    DIGITS, dataset="cifar10", normalize=True, augment="reflect-flip", batch_size=512, lr=0.4,
    products=False, stem_bf16=False,
)  # fmt: skip
_SHAPE: dict[str, Any] = {"stem": "fine", "scales": 2, "link": "conv", "zero_start": True}
_SMALL = replace(_RECIPE, method="midpoint", **_SHAPE)
_NO_ODE: dict[str, Any] = {"network": "resnet", "library": Config.library, "method": Config.method}
_TIED = replace(_RECIPE, **_SHAPE, **_NO_ODE, tied=True, blocks=2)

NETWORKS: dict[str, Case] = {
    "small": Case(replace(_SMALL, **_CHOSEN), _THREE),
    "tied-2": Case(replace(_TIED, **_CHOSEN), _THREE),
    "assignment": Case(replace(_RECIPE, **_CHOSEN), _THREE),
    "large": Case(replace(_SMALL, width=128, growth=2, **_CHOSEN), _TWO),
}

_CHANGES: dict[str, dict[str, Any]] = {
    "baseline": {},
    "lr-0.2": {"lr": 0.2},
    "lr-0.8": {"lr": 0.8},
    "weight-decay-0.001": {"weight_decay": 1e-3},
    "label-smoothing-0.1": {"label_smoothing": 0.1},
    "groups-8": {"groups": 8},
    "growth-2": {"width": 48, "growth": 2, "groups": 8},
    "scales-3": {"width": 56, "scales": 3, "groups": 4},
    "link-res": {"link": "res"},
    "rk4": {"method": "rk4"},
    "euler": {"method": "euler"},
}
_EXCLUDING = (("lr-0.2", "lr-0.8"), ("groups-8", "growth-2", "scales-3"), ("rk4", "euler"))
_OF_CONTROL = ("baseline", "lr-0.2", "lr-0.8", "groups-8", "growth-2")
_TRIAL: dict[str, Any] = {"epochs": 12, "validation": 0.2}
CHOICES: dict[str, Config] = {
    f"choice-{name}": replace(_SMALL, **_TRIAL, **change) for name, change in _CHANGES.items()
}
CONTROL_CHOICES: dict[str, Config] = {
    f"choice-tied-2-{name}": replace(_TIED, **_TRIAL, **_CHANGES[name]) for name in _OF_CONTROL
}
TAKEN = 0.5  # points by which a change must be better than the baseline

CIFAR10 = Study(
    "cifar10-modern",
    "What does an ODE-Net reach on CIFAR-10 with a modern recipe?",
    {**NETWORKS, **{name: Case(config) for name, config in (CHOICES | CONTROL_CHOICES).items()}},
)
