"""Variations of the ODE block: other parts for ODEfunc, other states, another order."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from odelib.odefunc import Time, TimeConv2d, group_norm
from odelib.shapes import Float

# Batch normalisation is here to show what it does: see the test of its trap.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "group": group_norm,
    "layer": partial(nn.GroupNorm, 1),  # one group: each image over all its channels and pixels
    "batch": nn.BatchNorm2d,
    "none": lambda channels: nn.Identity(),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "swish": nn.SiLU,
}


class AutonomousConv2d(nn.Conv2d):
    """A 3x3 convolution that does not look at the time: with it f is a function of z alone."""

    def __init__(self, channels: int, channels_out: int):
        super().__init__(channels, channels_out, kernel_size=3, padding=1)

    def forward(  # type: ignore[override]  # it is called as TimeConv2d is
        self, t: Time, z: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c_out h w"]:
        return super().forward(z)


CONVOLUTIONS: dict[str, Callable[[int, int], nn.Module]] = {"channel": TimeConv2d, "none": AutonomousConv2d}


class Augment(nn.Module):
    """Append `n` channels of zeros to the state, (b, c, ...) to (b, c + n, ...).       (Dupont, Doucet and Teh 2019)

    Solutions of an ODE never cross; in more dimensions they can pass each other. The channels are kept to the end, as
    in the paper's code: the head sees them too.
    """

    def __init__(self, n: int):
        super().__init__()
        self.n = n

    def forward(self, z: Float[Tensor, "b c *pixels"]) -> Float[Tensor, "b d *pixels"]:
        return torch.cat([z, z.new_zeros(len(z), self.n, *z.shape[2:])], dim=1)

    def extra_repr(self) -> str:
        return f"{self.n}"


class SecondOrder(nn.Module):
    """The dynamics of x'' = a(t, x, x') as a first-order system.      (Norcliffe et al. 2020)

    The first half of the state's channels is the position x, the second half the velocity v: x' = v and
    v' = acceleration(t, z), which sees the whole state z and returns half of its channels.
    """

    def __init__(self, acceleration: nn.Module):
        super().__init__()
        self.acceleration = acceleration

    def forward(self, t: Time, z: Float[Tensor, "b c *pixels"]) -> Float[Tensor, "b c *pixels"]:
        _, v = z.chunk(2, dim=1)
        return torch.cat([v, self.acceleration(t, z)], dim=1)


class Acceleration(nn.Module):
    """f of half as many channels as the state has: a 1x1 convolution mixes position and velocity before it."""

    def __init__(self, channels: int, f: nn.Module):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels // 2, kernel_size=1)
        self.f = f

    def forward(self, t: Time, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b half h w"]:
        return self.f(t, self.mix(z))
