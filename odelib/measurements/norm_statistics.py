"""Norm statistics: what a trained network with BatchNorm in f answers, by the statistics that it normalises with."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from odelib.data import Images, batches
from odelib.errors import RecordError
from odelib.measurements.measurement import Measurement, Subject
from odelib.models import ImageClassifier
from odelib.odeblock import ODEBlock
from odelib.records import Environment, Record
from odelib.shapes import Float
from odelib.training import EVALUATED_AT_ONCE

# Kinds of statistics: as training left them, and those of the test batch; estimated anew, one set for all evaluations
# of a solve, or a set for each; a set of its own for the first evaluation alone, or for each in norm 1 alone, and the
# one for all elsewhere. And, by `of_stage`, the set of one evaluation for all.
RUNNING, BATCH, ANEW, BY_STAGE = "running", "of the batch", "estimated anew", "by stage"
FIRST, NORM_1 = "first apart", "norm 1 by stage"
TRAIN_IMAGES = 5000  # that statistics are estimated with, in full batches


@dataclass(frozen=True)
class NormTest:
    """One network with one kind of statistics in f."""

    KEY = ("case", "seed", "statistics")

    case: str
    seed: int
    statistics: str
    accuracy: float  # share of the test images


@dataclass(frozen=True)
class Stage:
    """The statistics of one norm of f at one evaluation of a solve, beside those of all evaluations together."""

    KEY = ("case", "seed", "norm", "stage")

    case: str
    seed: int
    norm: int  # 1, 2, 3, in the order of f
    stage: int  # evaluation of f in a solve, counted from 0
    t: float  # its time
    shift: float  # root mean square over the channels of the mean's distance, in standard deviations of all
    scale: float  # geometric mean over the channels of the standard deviation, over that of all


@dataclass(frozen=True)
class NormStatistics(Record):
    """Test accuracy of networks with BatchNorm in f, by statistics, and how these change along a solve."""

    environment: Environment
    train_images: int
    tests: tuple[NormTest, ...]
    stages: tuple[Stage, ...]


class StagedNorm(nn.Module):
    """A BatchNorm with a set of statistics for each of `stages` evaluations of f in a solve, and a last one for all.

    Evaluations come in turn. In training mode every set takes the mean of what it sees, and an evaluation is normalised
    by its batch; in evaluation mode the k-th one normalises with set `order[k]`. Weight and bias are those of `norm`.
    """

    def __init__(self, norm: nn.BatchNorm2d, stages: int):
        super().__init__()
        n = norm.num_features
        self.weight, self.bias = norm.weight, norm.bias
        self.sets = nn.ModuleList(nn.BatchNorm2d(n, norm.eps, momentum=None, affine=False) for _ in range(stages + 1))
        self.order = tuple(range(stages))
        self.calls = 0

    def forward(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        stage = self.calls % len(self.order)
        self.calls += 1
        if self.training:
            self.sets[-1](z)  # to take note of it
            normalised = self.sets[stage](z)
        else:
            normalised = self.sets[self.order[stage]](z)
        return self.weight[:, None, None] * normalised + self.bias[:, None, None]


def staged(model: ImageClassifier, stages: int, images: Images, batch_size: int) -> ImageClassifier:
    """A copy of the model, in evaluation mode, where each norm of f is a `StagedNorm` with statistics of these images.

    Batches that are not full are left out, since all batches weigh the same.
    """
    copy = deepcopy(model)
    f = _dynamics(copy)
    for name, norm in _norms(f):
        setattr(f, name, StagedNorm(norm, stages).to(next(f.parameters()).device).train())
    with torch.no_grad():
        for x, _ in batches(images.pick(slice(0, len(images) // batch_size * batch_size)), batch_size):
            copy.block(copy.stem(copy.normalize(x)))
    return copy.eval()


def orders(stages: int) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """By kind of statistics, the `StagedNorm.order` of norm 1 and that of the other norms."""
    each, common = tuple(range(stages)), (stages,) * stages
    first = (0, *common[1:])
    single = {of_stage(k): ((k,) * stages,) * 2 for k in each}
    return {ANEW: (common, common), BY_STAGE: (each, each), FIRST: (first, first), NORM_1: (each, common), **single}


def of_stage(k: int) -> str:
    """The kind of statistics that takes the set of evaluation k, counted from 0, for all evaluations."""
    return f"of evaluation {k}"


def by_batch(model: ImageClassifier) -> ImageClassifier:
    """A copy of the model, otherwise in evaluation mode, whose norms in f take the statistics of the batch."""
    copy = deepcopy(model).eval()
    for _, norm in _norms(_dynamics(copy)):
        norm.momentum = 0.0  # keep the running ones
        norm.train()
    return copy


def times(model: ImageClassifier, z: Float[Tensor, "b c h w"]) -> list[float]:
    """At which t a solve evaluates f."""
    found: list[float] = []
    hook = _dynamics(model).register_forward_pre_hook(lambda _, arguments: found.append(float(arguments[0])))
    with torch.no_grad():
        model.block(z)
    hook.remove()
    return found


def _dynamics(model: ImageClassifier) -> nn.Module:
    if not isinstance(model.block, ODEBlock) or not isinstance(model.block.f, nn.Module):
        raise RecordError("norm statistics are those of networks with one ODE block")
    return model.block.f


def _norms(f: nn.Module) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """The norms that f calls once each, by their names."""
    for name, part in list(f.named_children()):
        if isinstance(part, nn.BatchNorm2d):
            yield name, part


def _stages(one: StagedNorm, at: list[float]) -> Iterator[tuple[int, float, float, float]]:
    """Stage, t, shift and scale of every set of a norm (`Stage`)."""
    own = one.sets[: len(at)]
    mean = torch.stack([part.get_buffer("running_mean") for part in own]).double()  # (stages, channels)
    var = torch.stack([part.get_buffer("running_var") for part in own]).double()
    middle = mean.mean(dim=0)
    std = (var.mean(dim=0) + mean.var(dim=0, correction=0)).sqrt()  # of all stages as one set of numbers
    for k, t in enumerate(at):
        shift = ((mean[k] - middle) / std).square().mean().sqrt().item()
        yield k, t, shift, (var[k].sqrt() / std).log().mean().exp().item()


@torch.no_grad()
def _accuracy(model: ImageClassifier, at_once: int, data: Images) -> float:
    """Share of the images that the model has right, in whatever modes its parts are."""
    return sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in batches(data, at_once)) / len(data)


def measure_norm_statistics(subject: Subject, train_images: int = TRAIN_IMAGES) -> NormStatistics:
    """Ask every network with BatchNorm in f, an equation of order 1 and a fixed grid, whose weights are at hand.

    Statistics that are not the running ones are those of the full batches among the first `train_images` training
    images, as they are, or of the test batch; batches are as large as in training. Raises RecordError when there are no
    such weights, and for a network with several ODE blocks.
    """
    train = subject.data.train.pick(slice(0, train_images)).to(subject.device)
    test = subject.data.test.to(subject.device)
    tests: list[NormTest] = []
    rows: list[Stage] = []
    cases = {
        case: config
        for case, config in subject.cases.items()
        if (config.network, config.norm, config.order, config.adaptive) == ("odenet", "batch", 1, False)
    }
    for case, seed, model in replace(subject, cases=cases).networks():
        with torch.no_grad():
            at = times(model, model.stem(model.normalize(next(iter(batches(test, 2)))[0])))
        size = cases[case].batch_size
        for kind, (network, at_once) in {RUNNING: (model, EVALUATED_AT_ONCE), BATCH: (by_batch(model), size)}.items():
            tests.append(NormTest(case, seed, kind, _accuracy(network, at_once, test)))
        network = staged(model, len(at), train, size)
        norms = [part for part in _dynamics(network).children() if isinstance(part, StagedNorm)]
        for kind, (first, others) in orders(len(at)).items():
            for norm, order in zip(norms, (first, others, others)):
                norm.order = order
            tests.append(NormTest(case, seed, kind, _accuracy(network, EVALUATED_AT_ONCE, test)))
        for number, norm in enumerate(norms, start=1):
            rows += [Stage(case, seed, number, *values) for values in _stages(norm, at)]
    environment = Environment.here(subject.device, __name__)
    return NormStatistics(environment, len(train), tuple(tests), tuple(rows))


_STUDIES = ("cifar10-norms",)
# Small enough as it is: the book keeps the weights of one such network.
MEASUREMENT = Measurement(NormStatistics, measure_norm_statistics, __name__, studies=_STUDIES, small={})
