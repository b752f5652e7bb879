"""Networks for images: stem, then an ODE block (or residual blocks, or nothing), then head."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from odelib.errors import OptionError
from odelib.layers import LINKS, STEMS, Norm, Repeat, ResBlock, head
from odelib.noise import FixedDropout, NoisyODEBlock
from odelib.odeblock import ODEBlock, Solver
from odelib.odefunc import ODEfunc, group_norm
from odelib.options import Options
from odelib.regularization import RegularizedODEBlock
from odelib.shapes import Float, UInt8
from odelib.variations import ACTIVATIONS, CONVOLUTIONS, NORMS, Acceleration, Augment, SecondOrder


@dataclass(frozen=True)
class Network(Options):
    """What a network for images is made of. Raises OptionError for options that do not fit together."""

    normalize: bool = False  # subtract the training images' mean, divide by their standard deviation
    network: Literal["odenet", "resnet", "none"] = "odenet"  # ODE block, residual blocks or nothing
    stem: Literal["conv", "res", "one-shot", "fine"] = "conv"  # how the image becomes the first state
    stem_bf16: bool = False  # compute the stem with 16 bit numbers; weights and state keep 32
    width: int = 64  # channels of the state
    groups: int = 32  # of every GroupNorm: stem, dynamics, residual blocks, head; with fewer channels, one channel each
    blocks: int = 6  # residual blocks of a resnet, at every scale
    tied: bool = False  # the residual blocks of a scale share their weights
    scales: int = 1  # how often there are blocks, each time at half the resolution of the time before
    link: Literal["res", "conv"] = "res"  # what leads from one scale to the next
    growth: int = 1  # how many times as many channels the next scale has
    # before training f, with order 2 its acceleration, or what a residual block adds (but those of `link`), is 0
    zero_start: bool = False
    dropout: float = 0.0  # chance that a feature is dropped before the last layer

    # Variations of the ODE block; the defaults are the published network
    time: Literal["channel", "none"] = "channel"  # how the dynamics see the time: as a channel, or not at all
    norm: Literal["group", "layer", "batch", "none"] = "group"  # normalisation in the dynamics
    activation: Literal["relu", "softplus", "tanh", "swish"] = "relu"  # nonlinearity in the dynamics
    block_dropout: float = 0.0  # dropout in the dynamics, held fixed along one solve
    extra_channels: int = 0  # zeros appended to the state, an augmented Neural ODE
    order: Literal[1, 2] = 1  # of the ODE; 2: half of the channels are position, half velocity
    kinetic: float = 0.0  # weight in the loss of the kinetic energy of the solution
    jacobian: float = 0.0  # weight in the loss of the size of the Jacobian of f along the solution

    def _check(self) -> None:
        self._must_be_positive("width", "groups", "blocks", "scales", "growth")
        self._must_be_a_share("dropout", "block_dropout")
        self._must_not_be_negative("extra_channels", "kinetic", "jacobian")
        self._must_be_at_most(2**16, "width", "extra_channels")  # beyond which sizes overflow before memory does
        self._must_be_at_most(1000, "blocks")
        self._must_be_at_most(16, "scales", "growth")
        if self.width * self.growth ** (self.scales - 1) > 2**16:
            raise OptionError(f"growth {self.growth} in {self.scales} scales leads to over 65536 channels")
        if self.zero_start and self.network == "odenet" and self.norm == "none":
            raise OptionError("zero_start sets the scale of the last norm of f to 0, and norm none has none")
        groups, words = self.groups, f"{self.groups} (GroupNorm has {self.groups} groups)"
        if self.width > groups and self.width % groups:
            raise OptionError(f"width above {groups} must be a multiple of {words}, got {self.width}")
        channels = self.width + self.extra_channels
        if channels % self.order:
            raise OptionError(f"order 2 halves the channels of the state; {channels} is odd")
        if any(n > groups and n % groups for n in (channels, channels // self.order)):
            raise OptionError(
                f"width + extra_channels, and with order 2 its half, must be at most {groups} or a multiple of "
                f"{words}, got {self.width} + {self.extra_channels}"
            )
        grown = [n * self.growth**scale for scale in range(1, self.scales) for n in (channels, channels // self.order)]
        if any(n > groups and n % groups for n in grown):
            raise OptionError(f"growth leads to {max(grown)} channels, which must be a multiple of {words}")


class Normalize(nn.Module):
    """(x - mean) / std per channel. Buffers, so that they are stored with the weights and never trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def set(self, images: UInt8[Tensor, "n c h w"]) -> None:
        """Take mean and standard deviation of these images; a channel that is constant keeps its scale."""
        pixels, over = images.float() / 255, (0, 2, 3)
        std = pixels.std(dim=over)
        constant = images.amax(dim=over) == images.amin(dim=over)  # rounding leaves their std a little above 0
        self.mean.copy_(pixels.mean(dim=over)[:, None, None])
        self.std.copy_(torch.where(constant, torch.ones_like(std), std)[:, None, None])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return (x - self.mean) / self.std


def dynamics(network: Network, channels: int) -> nn.Module:
    """The right-hand side that `network` names, for a state of so many channels; by default an ODEfunc."""
    plain = CONVOLUTIONS[network.time]

    def dropping(channels: int, channels_out: int) -> nn.Module:
        return FixedDropout(plain(channels, channels_out), network.block_dropout)

    convolution = dropping if network.block_dropout else plain
    norm = _group_norm(network) if network.norm == "group" else NORMS[network.norm]
    f = ODEfunc(channels // network.order, norm, convolution, ACTIVATIONS[network.activation])
    if network.zero_start:
        nn.init.zeros_(f.norm3.get_parameter("weight"))
    return f if network.order == 1 else SecondOrder(Acceleration(channels, f))


def _group_norm(network: Network) -> Norm:
    return partial(group_norm, groups=network.groups)


def ode_block(f: nn.Module, network: Network, solver: Solver) -> ODEBlock:
    """The ODEBlock around the dynamics f with the penalties and the noise that `network` names."""
    if network.kinetic or network.jacobian:
        return RegularizedODEBlock(f, solver, kinetic=network.kinetic, jacobian=network.jacobian)
    return NoisyODEBlock(f, solver) if network.block_dropout else ODEBlock(f, solver)


class ImageClassifier(nn.Module):
    """Images in [0, 1], (batch, channels, height, width), to logits (batch, classes).

    `stem` makes the state z(0), `block` carries it to z(1), `head` reads the class off it. The block is an ODEBlock
    (with `extra_channels` after an Augment), `network.blocks` ResBlocks, or the identity, as `network.network` says;
    with `scales` a chain of several such, and of what leads from one scale to the next.
    """

    def __init__(self, network: Network, solver: Solver, channels: int, classes: int):
        super().__init__()
        self.channels, self.classes, self.stem_bf16 = channels, classes, network.stem_bf16
        self.normalize = Normalize(channels) if network.normalize else nn.Identity()
        norm = _group_norm(network)
        self.stem = STEMS[network.stem](channels, network.width, norm)
        self.block, features = _blocks(network, solver)
        self.head = head(features, classes, network.dropout, norm)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        x = self.normalize(x)
        with torch.autocast(x.device.type, torch.bfloat16) if self.stem_bf16 else nullcontext():
            z = self.stem(x)
        return self.head(self.block(z.to(x.dtype) if self.stem_bf16 else z))


def _blocks(network: Network, solver: Solver) -> tuple[nn.Module, int]:
    """What stands between stem and head, and how many channels its result has."""
    norm, channels = _group_norm(network), network.width
    chain: list[nn.Module] = []
    if network.network == "odenet" and network.extra_channels:
        chain.append(Augment(network.extra_channels))
        channels += network.extra_channels
    for scale in range(network.scales):
        if scale:
            chain.append(LINKS[network.link](channels, channels * network.growth, norm))
            channels *= network.growth
        if network.network == "odenet":
            chain.append(ode_block(dynamics(network, channels), network, solver))
        elif network.network == "resnet":
            chain += _residual_blocks(network, channels)
    if not chain:
        return nn.Identity(), channels
    alone = len(chain) == 1 and network.network == "odenet"
    return chain[0] if alone else nn.Sequential(*chain), channels


def _residual_blocks(network: Network, channels: int) -> list[nn.Module]:
    """Those of one scale."""

    def block() -> ResBlock:
        block = ResBlock(channels, norm=_group_norm(network))
        if network.zero_start:
            nn.init.zeros_(block.conv2.weight)
        return block

    return [Repeat(block(), network.blocks)] if network.tied else [block() for _ in range(network.blocks)]


def count_parameters(module: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
