"""Variations of the ODE block: other parts for ODEfunc, other states, another order."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from odelib.config import Config
from odelib.noise import FixedDropout, NoisyODEBlock
from odelib.odeblock import ODEBlock
from odelib.odefunc import ODEfunc, Time, TimeConv2d, group_norm
from odelib.regularization import RegularizedODEBlock

# Batch normalisation is here to show what it does: see the test of its trap.
NORMS = {
    "group": group_norm,
    "layer": partial(nn.GroupNorm, 1),  # one group: each image over all its channels and pixels
    "batch": nn.BatchNorm2d,
    "none": lambda channels: nn.Identity(),
}
ACTIVATIONS = {"relu": nn.ReLU, "softplus": nn.Softplus, "tanh": nn.Tanh, "swish": nn.SiLU}


class AutonomousConv2d(nn.Conv2d):
    """A 3x3 convolution that does not look at the time: with it f is a function of z alone."""

    def __init__(self, channels: int, channels_out: int):
        super().__init__(channels, channels_out, kernel_size=3, padding=1)

    def forward(self, t: Time, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c_out h w"]:
        return super().forward(z)


CONVOLUTIONS = {"channel": TimeConv2d, "none": AutonomousConv2d}


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


def dynamics(config: Config, channels: int) -> nn.Module:
    """The right-hand side that `config` names, for a state of so many channels; by default an ODEfunc."""
    convolution = CONVOLUTIONS[config.time]
    if config.block_dropout:
        plain = convolution

        def convolution(channels: int, channels_out: int) -> nn.Module:
            return FixedDropout(plain(channels, channels_out), config.block_dropout)

    parts = NORMS[config.norm], convolution, ACTIVATIONS[config.activation]
    if config.order == 1:
        return ODEfunc(channels, *parts)
    return SecondOrder(Acceleration(channels, ODEfunc(channels // 2, *parts)))


def ode_block(f: nn.Module, config: Config) -> ODEBlock:
    """The ODEBlock around the dynamics f with the solver, the penalties and the noise that `config` names."""
    names = ("method", "rtol", "atol", "step_size", "gradient", "library", "warm_start", "bf16")
    solver = {name: getattr(config, name) for name in names}
    if config.kinetic or config.jacobian:
        return RegularizedODEBlock(f, kinetic=config.kinetic, jacobian=config.jacobian, **solver)
    return NoisyODEBlock(f, **solver) if config.block_dropout else ODEBlock(f, **solver)
