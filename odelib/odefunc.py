"""ODEfunc: the dynamics f(t, z; theta) that the block integrates."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odelib.shapes import Float

Time = Float[Tensor, ""] | Float[Tensor, "b 1 1 1"]  # one for all images, or one for each


def group_norm(channels: int, groups: int = 32) -> nn.GroupNorm:
    """GroupNorm with so many groups, or one channel a group where there are fewer channels than groups."""
    if channels < 1:
        raise ValueError(f"a state needs at least one channel, got {channels}")
    return nn.GroupNorm(min(groups, channels), channels)


class TimeConv2d(nn.Module):
    """A 3x3 convolution that sees the time as one more input channel, constant over the image.

    (batch, c, h, w) and t, one time or (batch, 1, 1, 1), give (batch, c_out, h, w); zero padding keeps height and
    width. torchdiffeq's example concatenates the channel t to the state. A convolution is linear, so the same function
    is the convolution of the state plus t times that of a single image of ones: nothing is copied, and no channel is
    one too many.
    """

    def __init__(self, channels: int, channels_out: int):
        super().__init__()
        self.conv = nn.Conv2d(channels + 1, channels_out, kernel_size=3, padding=1)

    def forward(self, t: Time, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c_out h w"]:
        weight = self.conv.weight
        out = F.conv2d(z, weight[:, 1:], self.conv.bias, padding=1)
        ones = torch.ones_like(z[:1, :1])  # zero padding makes their convolution differ at the border
        return out + t * F.conv2d(ones, weight[:, :1], padding=1)


class ODEfunc(nn.Module):
    """The right-hand side of dz/dt = f(t, z): two 3x3 convolutions, normalised.   (torchdiffeq's odenet_mnist.py)

    GroupNorm, ReLU, convolution, GroupNorm, ReLU, convolution, GroupNorm. The time t is a scalar tensor (or one number
    an image, (batch, 1, 1, 1), for a solver that steps each image apart), z is (batch, channels, height, width) and so
    is the result, which is a velocity: state per unit of time.
    The last GroupNorm bounds it: within a group the values have mean 0 and variance 1 before its affine map.
    Raises ValueError when the number of channels is not positive or, above 32, not a multiple of 32.

    odelib.variations makes other dynamics out of it, with other parts: `norm(channels)`, `activation()` and
    `convolution(channels, channels_out)`, a module that is called with (t, z).
    """

    def __init__(
        self,
        channels: int,
        norm: Callable[[int], nn.Module] = group_norm,
        convolution: Callable[[int, int], nn.Module] = TimeConv2d,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.norm1 = norm(channels)
        self.conv1 = convolution(channels, channels)
        self.norm2 = norm(channels)
        self.conv2 = convolution(channels, channels)
        self.norm3 = norm(channels)
        self.relu = activation()

    def forward(self, t: Time, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        dz = self.relu(self.norm1(z))
        dz = self.conv1(t, dz)
        dz = self.relu(self.norm2(dz))
        dz = self.conv2(t, dz)
        return self.norm3(dz)
