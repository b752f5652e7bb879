"""Stop times: what a trained network knows at every time of its trajectory, and what is saved by stopping early."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odelib.data import batches
from odelib.errors import RecordError
from odelib.layers import Repeat, ResBlock
from odelib.measurements.measurement import Measurement, Subject
from odelib.models import ImageClassifier
from odelib.odeblock import ODEBlock, Solver, count_evaluations
from odelib.records import Environment, Record
from odelib.shapes import Bool, Float, Int64
from odelib.training import EVALUATED_AT_ONCE

STEPS = 8  # in which an ODE block is cut: one can stop behind each
METHODS = ("rk4", "euler")  # that take them; the first one's states are those that are read
BLOCKS = "blocks"  # in place of a method: residual blocks, one of which costs about as much as an evaluation of f
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the linear probe, per image
TRAIN_IMAGES = 3000  # that a probe is made with (`fitted`)
QUERIES = 500  # the first test images; the database is all others


@dataclass(frozen=True)
class Stop:
    """The head of one network, asked at one place of the block."""

    KEY = ("case", "seed", "method", "at")

    case: str  # how it was trained
    seed: int
    method: str  # which takes the steps, or `BLOCKS`
    at: float  # share of the way: t, or the share of the residual blocks
    nfe: int  # evaluations of f until there, in the last block alone, or residual blocks
    accuracy: float  # share of the test images


@dataclass(frozen=True)
class Exit:
    """One network that ends each image behind the first step at which its head is sure enough."""

    KEY = ("case", "seed", "method", "threshold")

    case: str
    seed: int
    method: str
    threshold: float  # that the largest probability must exceed; 1 is never exceeded
    nfe: float  # mean over the test images
    accuracy: float


@dataclass(frozen=True)
class Reading:
    """What the features of one network at one place tell: the means over the image that its last layer reads."""

    KEY = ("case", "seed", "at")

    case: str
    seed: int
    at: float
    penalty: float  # of the probe, chosen on training images that it was not fitted to
    probe: float  # accuracy of a linear probe, share of the test images
    symmetric: float  # mean average precision, queries and database at this place
    asymmetric: float  # queries at this place, database at the end


@dataclass(frozen=True)
class StopTimes(Record):
    """Accuracy along the trajectory, by head and probe, early exits, and retrieval."""

    environment: Environment
    images: int  # of the test set that networks were asked about
    train_images: int
    queries: int
    stops: tuple[Stop, ...]
    exits: tuple[Exit, ...]
    readings: tuple[Reading, ...]


def last_block(model: ImageClassifier) -> tuple[nn.Module, nn.Module]:
    """What leads from the stem to the block that is read, and that block.

    It is the last one of a chain of ODE blocks, or of residual blocks that are passed several times.
    """
    block = model.block
    if isinstance(block, nn.Sequential) and isinstance(block[-1], (ODEBlock, Repeat)):
        return block[:-1], block[-1]
    return nn.Identity(), block


def pieces(block: nn.Module, method: str) -> list[nn.Module]:
    """The block in pieces, behind each of which its state can be read.

    An ODE block is cut into `STEPS` single steps of a method; residual blocks are pieces already; a network without a
    block has none. Raises RecordError for other blocks.
    """
    if isinstance(block, nn.Identity):
        return []
    if isinstance(block, nn.Sequential) and all(isinstance(part, ResBlock) for part in block):
        return list(block)
    if isinstance(block, Repeat):
        return [block.module] * block.n
    if not isinstance(block, ODEBlock):
        raise RecordError("stop times are those of networks that end with an ODE block, of residual blocks, or of none")
    times = [block.t0 + (block.t1 - block.t0) * k / STEPS for k in range(STEPS + 1)]
    return [ODEBlock(block.f, Solver(method), t0=a, t1=b) for a, b in pairwise(times)]


@torch.no_grad()
def along(
    model: ImageClassifier, starts: Sequence[Float[Tensor, "b c h w"]], method: str
) -> tuple[list[int], Float[Tensor, "t n c"], Float[Tensor, "t n classes"]]:
    """NFE until each place of `pieces` (a residual block counts as one), the features there, and the head's logits.

    `starts` are batches of states before the last block, which is the first place; a network without a block has no
    other. Features are what the last layer reads.
    """
    path = pieces(last_block(model)[1], method)
    nfe, features = [0], []
    for start in starts:
        nfe, states = [0], [start]
        for piece in path:
            with count_evaluations(piece) as seen:
                states.append(piece(states[-1]))
            nfe.append(nfe[-1] + (seen.n if isinstance(piece, ODEBlock) else 1))
        features.append(torch.stack([model.head[:-1](z) for z in states]))
    read = torch.cat(features, dim=1)
    return nfe, read, model.head[-1](read)


def early_exit(
    confidence: Float[Tensor, "t n"], right: Bool[Tensor, "t n"], nfe: Sequence[int], threshold: float
) -> tuple[float, float]:
    """Mean NFE and accuracy when each image ends at the first place where its confidence exceeds the threshold.

    One that never does so ends at the last.
    """
    sure = confidence > threshold
    sure[-1] = True
    first = sure.int().argmax(dim=0)  # of equal values the first
    spent = torch.tensor(nfe, dtype=torch.float64)[first.cpu()]
    return spent.mean().item(), right.gather(0, first[None]).double().mean().item()


def fitted(train_images: int) -> int:
    """How many of the training images a probe is fitted to, two thirds; those after them choose its penalty."""
    return 2 * train_images // 3


def linear_probe(
    train: Float[Tensor, "n c"], labels: Int64[Tensor, "n"], test: Float[Tensor, "m c"], classes: int
) -> tuple[Int64[Tensor, "m"], float]:
    """What a linear map from features to classes takes the test images for, and the penalty that was chosen for it.

    Ridge regression on standardised features, in double precision. `fitted` says which of the training images fit the
    map and which choose the penalty.
    """
    n = fitted(len(train))
    mean, std = train[:n].double().mean(0), train[:n].double().std(0) + 1e-6
    a, b = (torch.cat([(x.double() - mean) / std, x.new_ones(len(x), 1).double()], dim=1) for x in (train, test))
    a, held_out = a[:n], a[n:]
    targets = F.one_hot(labels[:n], classes).double()
    found = []
    for penalty in PENALTIES:
        ridge = penalty * n * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
        weights = torch.linalg.solve(a.T @ a + ridge, a.T @ targets)
        right = ((held_out @ weights).argmax(1) == labels[n:]).sum().item()
        found.append((right, penalty, (b @ weights).argmax(1)))
    _, penalty, answers = max(found, key=lambda candidate: candidate[:2])  # of equals the largest penalty
    return answers, penalty


def average_precision(similarity: Float[Tensor, "q n"], relevant: Bool[Tensor, "q n"]) -> Float[Tensor, "q"]:
    """Of every query: the mean, over its relevant items, of the precision of the list that ends with the item.

    The list has the most similar items first. A query without relevant items has 0.
    """
    hits = relevant.gather(1, similarity.argsort(dim=1, descending=True)).double()
    precision = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return (precision * hits).sum(1) / hits.sum(1).clamp(min=1)


def _retrieval(queries: Tensor, database: Tensor, relevant: Tensor) -> float:
    similarity = F.normalize(queries, dim=1) @ F.normalize(database, dim=1).T
    return average_precision(similarity, relevant).mean().item()


def measure_stop_times(
    subject: Subject,
    methods: Sequence[str] = METHODS,
    images: int | None = None,
    train_images: int = TRAIN_IMAGES,
    queries: int = QUERIES,
) -> StopTimes:
    """Read every network of the study whose weights are at hand at every place of `pieces` in its last block.

    `images` are the first so many of the test set, all of them if it is None, of which the first `queries` look for
    their class among the others; `train_images` are the first of the training set. The states of the first method are
    those of the probes and of retrieval. Raises RecordError when there are no weights.
    """
    test = subject.data.test.pick(slice(0, images)).to(subject.device)
    train = subject.data.train.pick(slice(0, train_images)).to(subject.device)
    sets = test, train
    relevant = test.labels[:queries, None] == test.labels[None, queries:]
    stops: list[Stop] = []
    exits: list[Exit] = []
    readings: list[Reading] = []
    for case, seed, model in subject.networks():
        before, block = last_block(model)
        with torch.no_grad():
            starts = [
                [before(model.stem(model.normalize(x))) for x, _ in batches(data, EVALUATED_AT_ONCE)] for data in sets
            ]
        solved = isinstance(block, ODEBlock)
        for method in methods if solved else (BLOCKS,):
            nfe, features, logits = along(model, starts[0], method)
            confidence, answers = logits.softmax(dim=2).max(dim=2)
            right, last = answers == test.labels, len(nfe) - 1
            places = [k / last for k in range(last + 1)] if last else [1.0]
            for place, n, correct in zip(places, nfe, right):
                stops.append(Stop(case, seed, method, place, n, correct.double().mean().item()))
            if last:  # behind a step: the start is not asked
                for threshold in THRESHOLDS:
                    spent, share = early_exit(confidence[1:], right[1:], nfe[1:], threshold)
                    exits.append(Exit(case, seed, method, threshold, spent, share))
            if method not in (methods[0], BLOCKS):
                continue
            _, learned, _ = along(model, starts[1], method)
            for place, known, asked in zip(places, learned, features):
                guesses, penalty = linear_probe(known, train.labels, asked, logits.shape[2])
                probe = (guesses == test.labels).double().mean().item()
                found = [_retrieval(asked[:queries], base[queries:], relevant) for base in (asked, features[-1])]
                readings.append(Reading(case, seed, place, penalty, probe, *found))
    environment = Environment.here(subject.device, __name__)
    return StopTimes(environment, len(test), len(train), queries, tuple(stops), tuple(exits), tuple(readings))


_STUDIES = ("mnist-gradients", "cifar10-modern")
_SMALL = {"methods": ("rk4",)}
MEASUREMENT = Measurement(StopTimes, measure_stop_times, __name__, studies=_STUDIES, small=_SMALL)
