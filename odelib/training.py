"""Training: its options, and one loop, which yields one EpochMetrics per pass through the training images."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from odelib.data import Dataset, Images, batches
from odelib.distributed import ALONE, Processes
from odelib.errors import OptionError, SolverError
from odelib.heartbeat import heartbeat
from odelib.odeblock import count_evaluations, in_words, ode_blocks
from odelib.options import Options
from odelib.regularization import penalty
from odelib.shapes import Bool


@dataclass(frozen=True)
class Training(Options):
    """How a network is trained. Raises OptionError for values out of range."""

    # shift by up to 4 pixels; mirror image too; its border reflected outside; or turn, scale and shift by 2 pixels
    augment: Literal["none", "crop", "crop-flip", "reflect-flip", "affine"] = "none"
    epochs: int = 5  # passes through the training images
    batch_size: int = 128  # images per step
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"  # the rule that updates the weights
    lr: float = 0.1  # largest learning rate
    schedule: Literal["constant", "step", "cosine", "one-cycle", "linear"] = "cosine"  # how the learning rate moves
    milestones: tuple[int, ...] = (60, 100, 140)  # schedule step: after these epochs it falls to a tenth
    momentum: float = 0.9  # of sgd
    nesterov: bool = False  # sgd takes the gradient for where the momentum leads (Nesterov)
    weight_decay: float = 0.0  # pull of every weight towards zero
    decay_filters: bool = False  # only of those of convolutions and matrices, not of norms and biases
    ema: float = 0.0  # what a step keeps of the moving average of the weights, which is tested; 0: no average
    label_smoothing: float = 0.0  # share of the target spread evenly over the classes
    seed: int = 0  # of the first weights, the order of the images, augmentation, dropout, noise of `jacobian`

    def _check(self) -> None:
        self._must_be_positive("epochs", "batch_size", "lr")
        self._must_be_a_share("momentum", "label_smoothing", "ema")
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise OptionError("nesterov is for optimizer sgd with a momentum")
        self._must_not_be_negative("weight_decay", "seed")
        if self.seed >= 2**32:
            raise OptionError(f"seed must be below 2**32, got {self.seed}")
        if any(milestone < 0 for milestone in self.milestones):
            raise OptionError(f"milestones must not be negative, got {' '.join(map(str, self.milestones))}")


@dataclass(frozen=True)
class EpochMetrics:
    """What one pass through the training images did."""

    epoch: int  # counted from 1
    train_loss: float  # mean over the steps of this pass, in nats, as training saw it, without penalties
    train_accuracy: float  # share of all training images, after the pass, in eval mode, not augmented
    validation_accuracy: float | None  # likewise of the held-out images; None where none are held out
    test_accuracy: float | None  # likewise of the test images; None where images are held out for choosing
    nfe_forward: float  # evaluations of f per training step, forward pass, mean over the steps
    nfe_backward: float  # likewise during backpropagation; 0 for gradient `direct`, which evaluates no f anew
    seconds: float  # wall-clock time of the training steps alone, without evaluation
    lr: float  # learning rate of the last step

    def __str__(self) -> str:
        """One line; NFE is forward + backward."""
        held_out, accuracy = ("test", self.test_accuracy)
        if accuracy is None:
            held_out, accuracy = ("validation", self.validation_accuracy)
        return (
            f"epoch {self.epoch:3d}  loss {self.train_loss:.4f}  train {self.train_accuracy:7.2%}  "
            f"{held_out} {accuracy:7.2%}  NFE {self.nfe_forward:4.1f} + {self.nfe_backward:4.1f}  {self.seconds:6.1f} s"
        )


def default_device() -> torch.device:
    """A CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimiser that `training` names, over all parameters of `model`."""
    rate, decay, parameters = training.lr, training.weight_decay, list(model.parameters())
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if training.decay_filters:
        filters, others = ([p for p in parameters if (p.ndim > 1) is wide] for wide in (True, False))
        groups = [{"params": filters}, {"params": others, "weight_decay": 0.0}]
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, training.momentum, weight_decay=decay, nesterov=training.nesterov)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[training.optimizer]
    return kind(groups, rate, weight_decay=decay)


def make_schedule(
    optimizer: torch.optim.Optimizer, training: Training, steps_per_epoch: int, step: int = 0
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate as a function of the step, starting at `step`: as `training.schedule` says.

    `step` falls to a tenth after each of the milestones, `cosine` along half a cosine to 0; `one-cycle` rises and falls
    along cosines, `linear` along straight lines, from about 0 over the largest rate to 0.
    """
    total = training.epochs * steps_per_epoch
    rise_linear = max(1, round(0.2 * total))
    rise = max(1, round(0.3 * total))  # one-cycle: the share that torch.optim.lr_scheduler.OneCycleLR takes too

    def factor(step: int) -> float:
        if training.schedule == "step":
            return 0.1 ** sum(step >= milestone * steps_per_epoch for milestone in training.milestones)
        if training.schedule == "cosine":
            return _half_cosine(step / total)
        if training.schedule == "linear":
            return min((step + 1) / rise_linear, (total - step) / max(1, total - rise_linear))
        if training.schedule == "one-cycle" and step < rise:
            return 1 - 0.96 * _half_cosine(step / rise)
        if training.schedule == "one-cycle":
            return _half_cosine((step - rise) / max(1, total - rise))
        return 1.0

    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # the largest rate of each group, which may have its own
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor, last_epoch=step - 1)


def _half_cosine(progress: float) -> float:
    """From 1 at progress 0 down to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


EVALUATED_AT_ONCE = 250  # images; on a CPU, more at once take longer


@torch.no_grad()
def evaluate(model: nn.Module, data: Images, batch_size: int = EVALUATED_AT_ONCE) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy over every image, once, in eval mode. All of it then has the
    mode that `model` had."""
    was_training = model.training
    model.eval()
    loss, correct = torch.zeros(2, dtype=torch.float64, device=data.labels.device)  # read once, at the end
    try:
        for x, y in batches(data, batch_size):
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum")
            correct += (logits.argmax(dim=1) == y).sum()
    finally:
        model.train(was_training)
    return loss.item() / len(data), correct.item() / len(data)


@torch.no_grad()
def judged_wrong(model: nn.Module, data: Images) -> Bool[Tensor, " images"]:
    """Which images the model, in eval mode, takes for another class than theirs. The mode as `evaluate` leaves it."""
    was_training = model.training
    model.eval()
    try:
        return torch.cat([model(x).argmax(dim=1) != y for x, y in batches(data, EVALUATED_AT_ONCE)])
    finally:
        model.train(was_training)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, label_smoothing: float = 0.0
) -> tuple[float, int, int]:
    """Update the weights once, by images x (b, c, h, w) and labels y (b,).

    Returns the loss before the update in nats, NFE forward and NFE backward. Penalties on the dynamics are trained,
    but not in that loss: it stays comparable.
    """
    optimizer.zero_grad()
    with count_evaluations(model) as forward:
        loss = F.cross_entropy(model(x), y, label_smoothing=label_smoothing)
    with count_evaluations(model) as backward:
        (loss + penalty(model)).backward()
    optimizer.step()
    return loss.item(), forward.n, backward.n  # item() waits for the device, which keeps a clock honest


def steps_per_epoch(images: Images, training: Training) -> int:
    """How many batches of training a pass has: full ones, or a single one that is not (`odelib.data.batches`)."""
    return max(1, len(images) // training.batch_size)


@dataclass
class Progress:
    """How far a training has come: with weights and optimiser, all that is needed to go on as if it had never stopped.

    Sums are over the steps of the pass under way.
    """

    epoch: int = 1  # the pass under way, counted from 1
    step: int = 0  # its steps that are done
    loss: float = 0.0
    nfe_forward: int = 0
    nfe_backward: int = 0
    seconds: float = 0.0  # that those steps took
    lr: float = 0.0  # of the last step
    random: tuple[Tensor, ...] = ()  # states of torch's generators after that step, which dropout draws from
    first_steps: tuple[float | None, ...] = ()  # what warm starts have learned, for every ODE block
    average: tuple[Tensor, ...] = ()  # the moving average of the weights, over all passes; none without `ema`

    def next_epoch(self) -> None:
        """Begin the pass after this one."""
        vars(self).update(vars(Progress(self.epoch + 1, average=self.average)))


def fit(
    model: nn.Module,
    data: Dataset,
    training: Training,
    optimizer: torch.optim.Optimizer | None = None,
    progress: Progress | None = None,
    after_step: Callable[[], object] = lambda: None,
    processes: Processes = ALONE,
) -> Iterator[EpochMetrics]:
    """Train `model` on `data.train`; after each of `training.epochs` passes yield its EpochMetrics.

    `model` is any module from images in [0, 1] to logits, on the device of `data`. An `optimizer` that is given keeps
    the learning rates of its groups as the largest of the schedule. `progress` is kept up to date; `after_step` is
    called after every step, when weights, optimiser and progress fit together. What is random depends on
    `training.seed`, the pass and the step alone, so that a training that goes on with all three from a checkpoint ends
    where an uninterrupted one does, to the bit. With several `processes` (`odelib.distributed`) each of them calls this
    alike, and the metrics are those of all. With `training.ema` the accuracies are those of the averaged weights,
    which the model keeps after the last pass.

    Raises FloatingPointError when loss, weights or the ODE solution are no longer finite, or the solver gives up, with
    the figures of that step, and what to try; `progress.step` counts the steps that went well. Raises OptionError for
    images that `augment` cannot reflect.
    """
    optimizer = optimizer or make_optimizer(model, training)
    progress = progress or Progress()
    steps = steps_per_epoch(data.train, training)
    trained = processes.wrap(model)
    progress.average = tuple(mean.to(p.device) for mean, p in zip(progress.average, model.parameters()))
    schedule = make_schedule(optimizer, training, steps, step=(progress.epoch - 1) * steps + progress.step)
    while progress.epoch <= training.epochs:
        _train_epoch(trained, data.train, training, optimizer, schedule, progress, after_step, processes)

        def accuracy(images: Images, which: str) -> float:
            return _accuracy(model, images, progress, which, processes)

        with _averaged(model, progress.average, keep=progress.epoch == training.epochs):
            validation = None if data.validation is None else accuracy(data.validation, "held-out")
            metrics = EpochMetrics(
                epoch=progress.epoch,
                train_loss=progress.loss / steps,
                train_accuracy=accuracy(data.train, "training"),
                validation_accuracy=validation,
                test_accuracy=accuracy(data.test, "test") if validation is None else None,
                nfe_forward=progress.nfe_forward / steps,
                nfe_backward=progress.nfe_backward / steps,
                seconds=progress.seconds,
                lr=progress.lr,
            )
        progress.next_epoch()
        yield metrics


def _train_epoch(
    model: nn.Module,
    images: Images,
    training: Training,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    progress: Progress,
    after_step: Callable[[], object],
    processes: Processes,
) -> None:
    model.train()
    seed = training.seed * 100_003 + progress.epoch
    generator = torch.Generator().manual_seed(seed)
    steps, done = steps_per_epoch(images, training), progress.step
    with torch.random.fork_rng():  # dropout draws from the global generators
        torch.manual_seed(seed)
        if done:
            _set_random_states(progress.random)
            for block, first in zip(ode_blocks(model), progress.first_steps):
                block.first_step = first
        passing = batches(images, training.batch_size, training.augment, generator)
        # tqdm shows itself on a terminal only (disable=None)
        bar = tqdm(passing, f"epoch {progress.epoch}", steps, leave=False, disable=None if processes.first else True)
        before, last = math.nan, time.perf_counter()
        for x, y in islice(bar, done, None):  # what is left out draws its augmentation all the same
            where = f"in epoch {progress.epoch}, step {progress.step + 1} of {steps},"
            grew = progress.step > 1 and before > 2 * (progress.loss - before) / (progress.step - 1)  # than until then
            usual = progress.seconds / progress.step if progress.step else 0.0
            processes.seed_step(seed, progress.step)
            x, y = processes.share(x), processes.share(y)
            with _diagnosed(where, model, grew), heartbeat(bar, usual):
                loss, forward, backward = train_step(model, optimizer, x, y, training.label_smoothing)
                (loss,) = processes.mean(loss)
                forward, backward = processes.largest(forward, backward)
                if not math.isfinite(loss):
                    raise _NotFinite(f"the loss is {loss}")
                if not _is_finite(model):
                    raise _NotFinite("the update made weights that are not finite")
            if training.ema:
                progress.average = _average(progress.average, model, training.ema)
            progress.lr = optimizer.param_groups[0]["lr"]
            schedule.step()
            progress.step += 1
            progress.loss += loss
            progress.nfe_forward += forward
            progress.nfe_backward += backward
            progress.random = _random_states()
            progress.first_steps = tuple(block.first_step for block in ode_blocks(model))
            progress.seconds += time.perf_counter() - last
            after_step()
            before, last = loss, time.perf_counter()


@torch.no_grad()
def _average(average: tuple[Tensor, ...], model: nn.Module, decay: float) -> tuple[Tensor, ...]:
    """The moving average of a model's weights after one step more; it begins with those after the first step."""
    weights = tuple(model.parameters())
    if not average:
        return tuple(p.detach().clone() for p in weights)
    get_ema_multi_avg_fn(decay)(average, weights, None)
    return average


@contextmanager
def _averaged(model: nn.Module, average: tuple[Tensor, ...], keep: bool) -> Iterator[None]:
    """The averaged weights, where there are any, in the place of the model's own, which come back but to `keep`."""
    own = [p.detach().clone() for p in model.parameters()] if average else []
    _set_weights(model, average)
    try:
        yield
    finally:
        if not keep:
            _set_weights(model, own)


@torch.no_grad()
def _set_weights(model: nn.Module, weights: Iterable[Tensor]) -> None:
    for p, weight in zip(model.parameters(), weights):
        p.copy_(weight)


def _random_states() -> tuple[Tensor, ...]:
    """The states of torch's generators, of the CPU and of every CUDA device."""
    return (torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ()))


def _set_random_states(states: tuple[Tensor, ...]) -> None:
    cpu, *devices = states
    torch.set_rng_state(cpu)
    if len(devices) == torch.cuda.device_count():  # on another machine dropout draws anew
        torch.cuda.set_rng_state_all(devices)


def _accuracy(model: nn.Module, images: Images, progress: Progress, which: str, processes: Processes) -> float:
    """The accuracy on these images, of which each process sees some.

    Raises FloatingPointError where it, or the loss, cannot be had.
    """
    with _diagnosed(f"after epoch {progress.epoch}, evaluating the {which} images,", model, backward=False):
        share = images.pick(slice(processes.rank, None, processes.size))
        weight = len(share) * processes.size / len(images)
        loss, accuracy = processes.mean(*(weight * value for value in evaluate(model, share)))
        if not math.isfinite(loss):
            raise _NotFinite(f"the loss is {loss}")
    return accuracy


class _NotFinite(Exception):
    """Training has diverged."""


@contextmanager
def _diagnosed(where: str, model: nn.Module, grew: bool = False, backward: bool = True) -> Iterator[None]:
    """Raise FloatingPointError where training cannot go on: where, why, with which figures, and what to try.

    `grew` is whether the loss was growing. A solver that fails all of a sudden has met an f that is too steep for it.
    """
    with count_evaluations(model) as spent:
        try:
            yield
        except (_NotFinite, AssertionError, SolverError) as error:
            words = in_words(error) if isinstance(error, AssertionError) else str(error)
            if words is None:
                raise
            cause, _, advice = words.partition("; ")
            solvers = [block.solver for block in ode_blocks(model)]
            adaptive = bool(solvers) and solvers[0].adaptive
            if isinstance(error, _NotFinite):
                why, remedy = cause, "lower the learning rate"
            elif grew:
                why, remedy = f"the ODE solver failed ({cause}), and the loss was growing", "lower the learning rate"
            elif adaptive:
                why, remedy = (
                    f"the ODE solver failed ({cause})",
                    "take a larger tolerance, a smoother f, or a fixed grid",
                )
            elif "max_steps" in cause:
                why, remedy = f"the ODE solver failed ({cause})", advice
            else:
                why, remedy = f"the ODE solver failed ({cause})", "lower the learning rate, or take a smaller step_size"
            norm = _gradient_norm(model) if backward else None
            figures = [] if norm is None else [f"norm of the gradient {norm:.3g}"]
            figures += [f"NFE {spent.n}"] if solvers else []
            figures += [f"rtol {solvers[0].rtol:g}, atol {solvers[0].atol:g}"] if adaptive else []
            said = f" ({', '.join(figures)})" if figures else ""
            raise FloatingPointError(f"{where} {why}{said}; {remedy}") from error


def _gradient_norm(model: nn.Module) -> float | None:
    """Of the gradient of the step under way; None where there is none yet."""
    gradients = [p.grad.detach().norm().item() for p in model.parameters() if p.grad is not None]
    return math.hypot(*gradients) if gradients else None


def _is_finite(model: nn.Module) -> bool:
    """Whether all weights are finite numbers, as their sum then is: at once, since each look waits for the device."""
    return math.isfinite(sum(p.detach().sum(dtype=torch.float32) for p in model.parameters()))
