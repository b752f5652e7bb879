"""Config: every option of a run in one frozen value that refuses nonsense."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args, get_origin

from odelib.odeblock import OptionError, check_solver


@dataclass(frozen=True)
class Config:
    """What is trained, on what, how. Equal configs (the seed included) are the same run.

    Raises OptionError for values out of range and for options that do not fit together.
    """

    # Data
    dataset: str = "mnist-sample"  # a name, such as mnist or cifar10, or a folder of images with train/ and val/
    validation: float = 0.0  # share of the training images held out to choose between models
    train_images: int | None = None  # train on this many of the images that are left; none is all of them
    image_size: int = 64  # side in pixels that images of a folder are brought to
    augment: Literal["none", "crop", "crop-flip"] = "none"  # random shift by up to 4 pixels, mirror image
    normalize: bool = False  # subtract the training images' mean, divide by their standard deviation

    # Model
    network: Literal["odenet", "resnet", "none"] = "odenet"  # ODE block, residual blocks or nothing
    stem: Literal["conv", "res", "one-shot"] = "conv"  # how the image becomes the first state
    width: int = 64  # channels of the state
    blocks: int = 6  # residual blocks of a resnet
    dropout: float = 0.0  # chance that a feature is dropped before the last layer

    # Variations of the ODE block; the defaults are the published network
    time: Literal["channel", "none"] = "channel"  # how the dynamics see the time: as a channel, or not at all
    norm: Literal["group", "layer", "batch", "none"] = "group"  # normalisation in the dynamics
    activation: Literal["relu", "softplus", "tanh", "swish"] = "relu"  # nonlinearity in the dynamics
    block_dropout: float = 0.0  # dropout in the dynamics, held fixed along one solve
    extra_channels: int = 0  # zeros appended to the state, an augmented Neural ODE
    order: Literal[1, 2] = 1  # of the ODE; 2: half of the channels are position, half velocity
    scales: int = 1  # ODE blocks one behind the other, each at half the resolution of the one before
    kinetic: float = 0.0  # weight in the loss of the kinetic energy of the solution
    jacobian: float = 0.0  # weight in the loss of the size of the Jacobian of f along the solution

    # Solver
    method: str = "dopri5"  # any solver of the library, such as dopri5, rk4, euler
    rtol: float = 1e-3  # error allowed per step relative to the state (adaptive methods)
    atol: float = 1e-3  # error allowed per step in units of the state (adaptive methods)
    step_size: float | None = None  # fixed grids only; none is one step from t=0 to t=1
    gradient: Literal["direct", "adjoint", "seminorm", "checkpoint"] = "direct"  # how the block is differentiated
    library: Literal["torchdiffeq", "odelib"] = "torchdiffeq"  # whose solver; checkpoint is odelib's alone
    warm_start: bool = False  # first step size taken from the batch before (adaptive methods of library odelib)
    bf16: bool = False  # compute the dynamics with 16 bit numbers

    # Training
    epochs: int = 5  # passes through the training images
    batch_size: int = 128  # images per step
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"  # the rule that updates the weights
    lr: float = 0.1  # largest learning rate
    schedule: Literal["constant", "step", "cosine", "one-cycle"] = "cosine"  # how the learning rate moves
    milestones: tuple[int, ...] = (60, 100, 140)  # schedule step: after these epochs it falls to a tenth
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.0  # pull of every weight towards zero
    label_smoothing: float = 0.0  # share of the target spread evenly over the classes
    seed: int = 0  # of the first weights, the order of the images, augmentation and dropout

    def __post_init__(self):
        for field in fields(self):
            value, allowed = getattr(self, field.name), get_args(field.type)
            if get_origin(field.type) is Literal and value not in allowed:
                raise OptionError(f"unknown {field.name} {value!r}; choose from {', '.join(map(str, allowed))}")
            # lr=1 is lr=1.0, and a list of milestones a tuple: equal options make equal configs and records.
            if value is not None and float in (field.type, *allowed):
                object.__setattr__(self, field.name, float(value))
        object.__setattr__(self, "milestones", tuple(self.milestones))
        check_solver(
            self.method, self.rtol, self.atol, self.step_size, self.gradient, self.library, self.warm_start
        )
        positive = ("width", "blocks", "scales", "epochs", "batch_size", "lr")
        for name in positive:
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} must be positive, got {getattr(self, name)}")
        if self.image_size < 6:
            raise OptionError(f"image_size must be at least 6 pixels, got {self.image_size}")
        for name in ("validation", "dropout", "block_dropout", "momentum", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        for name in ("extra_channels", "kinetic", "jacobian", "weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.train_images is not None and not self.train_images > 0:
            raise OptionError(f"train_images must be positive, got {self.train_images}")
        if self.width > 32 and self.width % 32:
            raise OptionError(f"width above 32 must be a multiple of 32 (GroupNorm has 32 groups), got {self.width}")
        channels = self.width + self.extra_channels
        if channels % self.order:
            raise OptionError(f"order 2 halves the channels of the state; {channels} is odd")
        if any(n > 32 and n % 32 for n in (channels, channels // self.order)):
            raise OptionError(
                f"width + extra_channels, and with order 2 its half, must be at most 32 or a multiple of 32 "
                f"(GroupNorm has 32 groups), got {self.width} + {self.extra_channels}"
            )

    def case(self) -> str:
        """A file name for this config, whatever its seed: the main choices in words, all of them in a digest."""
        options = asdict(replace(self, seed=0))
        for name in ADDED:
            if options[name] == getattr(Config, name):
                del options[name]
        rest = json.dumps(options, sort_keys=True)
        digest = hashlib.sha256(rest.encode()).hexdigest()[:8]
        dataset = self.dataset.rstrip("/").split("/")[-1]
        solver = f"-{self.gradient}-{self.method}" if self.network == "odenet" else ""
        return f"{dataset}-{self.network}{solver}-{digest}"

    def options(self) -> str:
        """The command-line options that make this config out of the defaults."""
        words = []
        for name, value in asdict(self).items():
            if value != getattr(Config, name):
                words.append(f"--{name.replace('_', '-')}")
                if isinstance(value, bool):
                    continue
                words += [str(part) for part in (value if isinstance(value, tuple) else (value,))]
        return " ".join(words)


# Options that came after the first records. At their default they are not in the digest, so that names stay.
ADDED = (
    "train_images", "time", "norm", "activation", "block_dropout", "extra_channels", "order", "scales", "kinetic",
    "jacobian", "library", "warm_start", "bf16",
)

PRESETS = {
    # torchdiffeq's examples/odenet_mnist.py with its default flags.
    "odenet-mnist": Config(dataset="mnist", augment="crop", epochs=160, schedule="step"),
}
