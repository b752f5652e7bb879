"""Config: every option of a run in one frozen value, and the network that it describes."""

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, fields, replace

import torch

from odelib.data import Dataset, Selection
from odelib.errors import OptionError
from odelib.machine import beyond_memory
from odelib.models import ImageClassifier, Network, Normalize, count_parameters
from odelib.odeblock import MAX_STEPS, Solver
from odelib.training import Training


@dataclass(frozen=True)
class Config(Training, Solver, Network, Selection):
    """What is trained, on what, how. Equal configs (the seed included) are the same run.

    It is a Selection of images, a Network, a Solver and a Training in one, and can stand for each of them. Raises
    OptionError for values out of range and for options that do not fit together.
    """

    __str__ = object.__str__  # all options, where a Solver names its own

    def _check(self) -> None:
        if self.step_size is not None and 0 < self.step_size < 1 / MAX_STEPS:
            raise OptionError(f"step_size must be at least {1 / MAX_STEPS:g}, got {self.step_size:g}")
        if self.ema and self.norm == "batch" and self.network == "odenet":
            raise OptionError("ema averages weights, to which the statistics of norm batch would not fit")

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

    def changes(self, new: "Config") -> str:
        """In words, the options that another config has otherwise."""
        old, others = asdict(self), asdict(new)
        return ", ".join(f"{name} {old[name]!r} (now {others[name]!r})" for name in old if old[name] != others[name])

    def options(self) -> str:
        """The command-line options that make this config out of the defaults."""
        words = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                words.append(f"--{field.name.replace('_', '-')}")
                if isinstance(value, bool):
                    continue
                words += [str(part) for part in (value if isinstance(value, tuple) else (value,))]
        return shlex.join(words)


# Options that came after the first records. At their default they are not in the digest, so that names stay.
ADDED = (
    "train_images", "time", "norm", "activation", "block_dropout", "extra_channels", "order", "scales", "kinetic",
    "jacobian", "library", "warm_start", "bf16", "products", "stem_bf16", "groups", "stop_at_t1",
    "tied", "link", "growth", "zero_start", "nesterov", "decay_filters", "ema",
)  # fmt: skip

PRESETS = {
    # torchdiffeq's examples/odenet_mnist.py with its default flags.
    "odenet-mnist": Config(dataset="mnist", augment="crop", epochs=160, schedule="step"),
    # The same network with the recipe that the book's chapter `records` chose.
    "odenet-mnist-modern": Config(
        dataset="mnist",
        augment="affine",
        epochs=20,
        lr=0.05,
        schedule="linear",
        nesterov=True,
        weight_decay=5e-4,
        decay_filters=True,
        ema=0.99,
        library="odelib",
        method="rk4",
        products=True,
        stem_bf16=True,
    ),
}


def build(config: Config, data: Dataset) -> ImageClassifier:
    """The network that `config` describes for the images of `data`, with first weights drawn from `config.seed`.

    With `normalize` it takes mean and deviation of the images that `data` trains on. Raises OptionError for more
    weights than the memory holds.
    """
    with torch.device("meta"):  # which has shapes and no memory
        size = count_parameters(ImageClassifier(config, config, data.channels, len(data.classes)))
    too_much = beyond_memory(8 * size)
    if too_much:
        raise OptionError(f"{size:,} parameters and their gradients take {too_much}; take a smaller width")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # torch.manual_seed would change CUDA's generators too
        model = ImageClassifier(config, config, data.channels, len(data.classes))
    if isinstance(model.normalize, Normalize):
        model.normalize.set(data.train.images)
    return model
