"""Recipes by name, with which to start: `odelib train --preset NAME`, or `PRESETS[NAME]`."""

from dataclasses import replace

from odelib import config

# Those of digits stand in `config`, since the records of measurements are tied to the code of that module.
_DIGITS = config.PRESETS["odenet-mnist-modern"]
# The recipe of the study `cifar10-modern`, whose protocol says what of it was chosen.
_PHOTOGRAPHS = replace(
    _DIGITS,
    dataset="cifar10",
    normalize=True,
    augment="reflect-flip",
    products=False,
    stem_bf16=False,
    batch_size=256,
    epochs=40,
    lr=0.4,
    weight_decay=1e-3,
    label_smoothing=0.1,
)

_TWO_BLOCKS = replace(_PHOTOGRAPHS, method="midpoint", stem="fine", scales=2, link="conv", zero_start=True)

PRESETS = {
    **config.PRESETS,
    # The network of the assignment on photographs.
    "odenet-cifar10-modern": _PHOTOGRAPHS,
    # About as many weights, with ODE blocks at 16 x 16 and at 8 x 8 pixels.
    "odenet-cifar10-two-blocks": _TWO_BLOCKS,
    # The same on clothes, at 14 x 14 and at 7 x 7 pixels; what differs was not chosen by trials.
    "odenet-fashion-mnist-two-blocks": replace(
        _TWO_BLOCKS, dataset="fashion-mnist", augment="crop-flip", products=True, batch_size=128, epochs=8, lr=0.2
    ),
    # A third block for images twice as high and wide, and fewer channels: 16, 32 and 64, as He et al. (2016a) have.
    "odenet-tiny-imagenet-three-blocks": replace(
        _TWO_BLOCKS, dataset="tiny-imagenet-20", width=16, growth=2, scales=3, groups=8, batch_size=64, lr=0.1
    ),
}
