"""Networks for images: stem, then an ODE block (or residual blocks, or nothing), then head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from odelib.config import Config
from odelib.data import Dataset
from odelib.layers import STEMS, ResBlock, head
from odelib.odeblock import ODEBlock
from odelib.odefunc import ODEfunc


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

    `stem` makes the state z(0), `block` carries it to z(1), `head` reads the class off it. The block is an ODEBlock,
    `config.blocks` ResBlocks, or the identity, as `config.network` says.
    """

    def __init__(self, config: Config, channels: int, classes: int):
        super().__init__()
        self.channels, self.classes = channels, classes
        self.normalize = Normalize(channels) if config.normalize else nn.Identity()
        self.stem = STEMS[config.stem](channels, config.width)
        if config.network == "odenet":
            self.block = make_block(ODEfunc(config.width), config)
        elif config.network == "resnet":
            self.block = nn.Sequential(*(ResBlock(config.width) for _ in range(config.blocks)))
        else:
            self.block = nn.Identity()
        self.head = head(config.width, classes, config.dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return self.head(self.block(self.stem(self.normalize(x))))


def make_block(f: nn.Module, config: Config) -> ODEBlock:
    """The ODE block around f with the solver that `config` names."""
    names = ("method", "rtol", "atol", "step_size", "gradient", "library", "warm_start", "bf16")
    return ODEBlock(f, **{name: getattr(config, name) for name in names})


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
