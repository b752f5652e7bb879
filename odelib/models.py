"""Networks for images: stem, then an ODE block (or residual blocks, or nothing), then head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from odelib.config import Config
from odelib.data import Dataset
from odelib.layers import STEMS, ResBlock, head
from odelib.variations import Augment, dynamics, ode_block


class Normalize(nn.Module):
    """(x - mean) / std per channel. Buffers, so that they are stored with the weights and never trained."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return (x - self.mean) / self.std


class ImageClassifier(nn.Module):
    """Images in [0, 1], (batch, channels, height, width), to logits (batch, classes).

    `stem` makes the state z(0), `block` carries it to z(1), `head` reads the class off it. The block is an ODEBlock
    (with `extra_channels` after an Augment, with `scales` several of them), `config.blocks` ResBlocks, or the identity,
    as `config.network` says.
    """

    def __init__(self, config: Config, channels: int, classes: int):
        super().__init__()
        self.channels, self.classes = channels, classes
        self.normalize = Normalize(channels) if config.normalize else nn.Identity()
        self.stem = STEMS[config.stem](channels, config.width)
        features = config.width
        if config.network == "odenet":
            features += config.extra_channels
            self.block = _ode_blocks(config, features)
        elif config.network == "resnet":
            self.block = nn.Sequential(*(ResBlock(config.width) for _ in range(config.blocks)))
        else:
            self.block = nn.Identity()
        self.head = head(features, classes, config.dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return self.head(self.block(self.stem(self.normalize(x))))


def _ode_blocks(config: Config, channels: int) -> nn.Module:
    """One ODEBlock; or a chain, where zeros are appended first, or where it goes on at a smaller scale."""
    chain = [Augment(config.extra_channels)] if config.extra_channels else []
    for scale in range(config.scales):
        if scale:
            chain.append(ResBlock(channels, stride=2))
        chain.append(ode_block(dynamics(config, channels), config))
    return chain[0] if len(chain) == 1 else nn.Sequential(*chain)


def build(config: Config, data: Dataset) -> ImageClassifier:
    """The network that `config` describes for the images of `data`, with first weights drawn from `config.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = ImageClassifier(config, data.channels, len(data.classes))
    if config.normalize:
        pixels = data.train.images.float() / 255
        model.normalize.mean.copy_(pixels.mean(dim=(0, 2, 3))[:, None, None])
        model.normalize.std.copy_(pixels.std(dim=(0, 2, 3))[:, None, None])
    return model


def count_parameters(module: nn.Module) -> int:
    """How many numbers training may change."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
