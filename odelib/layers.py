"""What stands before and after the ODE block: stems that shrink the image, the residual block, the head."""

from collections.abc import Callable

from torch import Tensor, nn

from odelib.odefunc import group_norm
from odelib.shapes import Float

Norm = Callable[[int], nn.Module]  # of so many channels


class ResBlock(nn.Module):
    """z + F(z), the pre-activation residual block: two 3x3 convolutions without bias.    (He et al. 2016b, fig. 1)

    With `stride=2` height and width halve, and with `channels_out` the channels change; then a 1x1 convolution of the
    activated input takes the shortcut.
    """

    def __init__(self, channels: int, stride: int = 1, norm: Norm = group_norm, channels_out: int | None = None):
        super().__init__()
        out = channels_out or channels
        self.norm1 = norm(channels)
        self.conv1 = nn.Conv2d(channels, out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm2 = norm(out)
        self.conv2 = nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False)
        changes = stride > 1 or out != channels
        self.shortcut = nn.Conv2d(channels, out, kernel_size=1, stride=stride, bias=False) if changes else None
        self.relu = nn.ReLU()

    def forward(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        activated = self.relu(self.norm1(z))
        shortcut = z if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.conv2(self.relu(self.norm2(self.conv1(activated))))


class Repeat(nn.Module):
    """The same module `n` times, one behind the other: residual blocks that share their weights."""

    def __init__(self, module: nn.Module, n: int):
        super().__init__()
        self.module, self.n = module, n

    def forward(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        for _ in range(self.n):
            z = self.module(z)
        return z

    def extra_repr(self) -> str:
        return f"{self.n} times"


def conv_stem(channels: int, width: int, norm: Norm = group_norm) -> nn.Sequential:
    """Three convolutions, two of them with stride 2: (b, channels, 28, 28) gives (b, width, 6, 6)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3),
        norm(width),
        nn.ReLU(),
        nn.Conv2d(width, width, kernel_size=4, stride=2, padding=1),
        norm(width),
        nn.ReLU(),
        nn.Conv2d(width, width, kernel_size=4, stride=2, padding=1),
    )


def res_stem(channels: int, width: int, norm: Norm = group_norm) -> nn.Sequential:
    """One convolution and two residual blocks with stride 2: (b, channels, 28, 28) gives (b, width, 7, 7)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3),
        ResBlock(width, stride=2, norm=norm),
        ResBlock(width, stride=2, norm=norm),
    )


def one_shot_stem(channels: int, width: int, norm: Norm = group_norm) -> nn.Conv2d:
    """One convolution with stride 2, so that the ODE does the rest: (b, channels, 28, 28) gives (b, width, 14, 14).

    It has no norm.
    """
    return nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1)


def fine_stem(channels: int, width: int, norm: Norm = group_norm) -> nn.Sequential:
    """Two convolutions, the second with stride 2: (b, channels, 32, 32) gives (b, width, 16, 16).

    The full resolution, with four times the pixels, has half of the channels.
    """
    half = max(1, width // 2)
    return nn.Sequential(
        nn.Conv2d(channels, half, kernel_size=3, padding=1),
        norm(half),
        nn.ReLU(),
        nn.Conv2d(half, width, kernel_size=3, stride=2, padding=1),
    )


STEMS = {"conv": conv_stem, "res": res_stem, "one-shot": one_shot_stem, "fine": fine_stem}


def res_link(channels: int, channels_out: int, norm: Norm = group_norm) -> ResBlock:
    """From one scale to the next, half as high and wide: a residual block with stride 2."""
    return ResBlock(channels, 2, norm, channels_out)


def conv_link(channels: int, channels_out: int, norm: Norm = group_norm) -> nn.Sequential:
    """From one scale to the next, half as high and wide: norm, ReLU and one convolution with stride 2."""
    return nn.Sequential(
        norm(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels_out, kernel_size=3, stride=2, padding=1, bias=False),
    )


LINKS = {"res": res_link, "conv": conv_link}


def head(width: int, classes: int, dropout: float = 0.0, norm: Norm = group_norm) -> nn.Sequential:
    """State to logits: (b, width, h, w) gives (b, classes), by the mean over the image and one linear map."""
    return nn.Sequential(
        norm(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        *([nn.Dropout(dropout)] if dropout else []),
        nn.Linear(width, classes),
    )
