"""Products against the usual convolution, map by map: one convolution, and one training step of an ODE block.

The fastest way to compute f depends on the size of its maps (`odelib.products`). Part of the benchmark.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from odelib.measurements.gradient_error import relative
from odelib.odeblock import ODEBlock, Solver
from odelib.odefunc import ODEfunc
from odelib.products import Axis, Convolution

Sizes = tuple[tuple[int, int], ...]

SIZES: Sizes = ((6, 64), (7, 64), (8, 64), (8, 128), (15, 64), (16, 64))  # height and width, channels
_WAYS = ("plain", "products")


@dataclass(frozen=True)
class SizeRow:
    """Maps of one size, with normal numbers in them and in the weights. Seconds have one value a round."""

    KEY = ("size", "channels")

    size: int  # height and width
    channels: int
    tiles: int  # along each of them
    convolution: tuple[float, ...]  # seconds, forward and backward
    convolution_products: tuple[float, ...]
    block: tuple[float, ...]  # seconds of one step of rk4 of an ODE block, forward and backward
    block_products: tuple[float, ...]
    error: float  # relative distance of a convolution from that in float64, in the 2-norm
    error_products: float

    @property
    def times_faster(self) -> tuple[float, float]:
        """How many times the products are faster, by medians: one convolution, and the step of the block."""
        pairs = ((self.convolution, self.convolution_products), (self.block, self.block_products))
        one, block = (float(np.median(plain) / np.median(products)) for plain, products in pairs)
        return one, block


def size_actions(sizes: Sizes, batch_size: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """What is to be timed for every size, by name."""
    return {
        f"{what} {size} {channels} {way}": action
        for size, channels in sizes
        for what, make in (("convolution", _convolution), ("block", _block))
        for way, action in zip(_WAYS, make(size, channels, batch_size, device), strict=True)
    }


def size_rows(sizes: Sizes, seconds: dict[str, list[float]]) -> tuple[SizeRow, ...]:
    """The rows, from the seconds of these actions."""

    def row(size: int, channels: int) -> SizeRow:
        one, one_products, block, block_products = (
            tuple(seconds[f"{what} {size} {channels} {way}"]) for what in ("convolution", "block") for way in _WAYS
        )
        error, by_products = _errors(size, channels)
        tiles = Axis(size).tiles
        return SizeRow(size, channels, tiles, one, one_products, block, block_products, error, by_products)

    return tuple(row(size, channels) for size, channels in sizes)


def _convolution(
    size: int, channels: int, batch_size: int, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    """One convolution with its derivatives, both ways; filters come to the points of the products once a solve."""
    z, weight = _normal(size, channels, batch_size, device)
    convolution = Convolution(size, size, z)
    x = convolution.enter(z.detach()).requires_grad_()
    filters = convolution.filters(weight).detach().requires_grad_()
    w, w_products = torch.ones_like(z), torch.ones_like(x)
    return (
        lambda: torch.autograd.grad(F.conv2d(z, weight, padding=1), [z, weight], w),
        lambda: torch.autograd.grad(convolution(x, filters), [x, filters], w_products),
    )


def _block(
    size: int, channels: int, batch_size: int, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    z, _ = _normal(size, channels, batch_size, device)
    f = ODEfunc(channels).to(device)

    def step(products: bool) -> None:
        end = ODEBlock(f, Solver("rk4", library="odelib", products=products))(z)
        torch.autograd.grad(end, [z, *f.parameters()], torch.ones_like(end))

    return partial(step, False), partial(step, True)


def _normal(size: int, channels: int, batch_size: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch_size, channels, size, size, generator=generator)
    weight = torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    return z.to(device).requires_grad_(), weight.to(device).requires_grad_()


@torch.no_grad()
def _errors(size: int, channels: int) -> tuple[float, float]:
    """Of one convolution in float32, the usual way and by products."""
    z, weight = _normal(size, channels, 8)
    exact = F.conv2d(z.double(), weight.double(), padding=1)
    convolution = Convolution(size, size, z)
    by_products = convolution.leave(convolution(convolution.enter(z), convolution.filters(weight)))
    return relative(F.conv2d(z, weight, padding=1), exact), relative(by_products, exact)
