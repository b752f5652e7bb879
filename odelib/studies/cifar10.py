"""Task 7 on CIFAR-10: which choices matter, and what do those that were chosen reach on all images? The protocol:

Question: which choices matter for an ODE-Net on CIFAR-10, to accuracy, to NFE, to time?

- Data: of the 50,000 training images one tenth (the same 5,000 always) is held out for validation, and 10,000 of the
  rest are trained on. Every choice is made by validation accuracy. The test images are not looked at in this study.
- Search space: one factor at a time. Each baseline in `BASELINES` is trained as it is, and once for each entry that
  `one_factor` pairs it with, which changes one factor. Where another optimiser needs other rates, these belong to it.
- Budget: every run has 5 epochs of the same 10,000 images, whatever a step of it costs. ResNets get as many trials of
  the training recipe (`RECIPE`) as the ODE-Net, by the same rule, so that neither side is tuned more.
- Size: 64 channels, as published. With 32 or fewer, GroupNorm has one channel a group and takes the mean out of each,
  in the head too, just before the mean over the image is asked for: `width-32` shows what is left.
- Solvers: the baseline takes one step of RK4. What an adaptive solver makes of tolerance, gradient and penalties is
  tried around a second baseline, `adaptive`, at a tolerance of 0.01, ten times looser than the book's usual. The
  first round showed that there the solver mostly takes the fewest steps it can, so that penalties have nothing to
  save. They are tried again around a third one, `strict`, at 0.001, which was added for this.
- Seeds: 0, 1 and 2 for a baseline. A change is tried with seed 0. If that beats its baseline's mean it is tried again
  with seed 1 (`AGAIN`): only such a change may be chosen, and being chosen by a single run would flatter it. Around
  `strict`, where NFE is the question, all have both. Images held out and trained on do not depend on the seed.
- Report: accuracy on the validation images after the last epoch, never the best epoch; NFE and seconds an epoch; for
  each case its mean over the seeds minus that of its baseline, with the range over the seeds. With 5,000 images the
  binomial standard error of one accuracy near 50 % is 0.7 points: differences of a point are not told apart.

What came out best is then trained on all 50,000 images in `cifar10-full` (`FULL`), and tested after the last epoch,
beside a ResNet of as many parameters (one block) and one of as much compute (four blocks: RK4 evaluates f four times,
and f has the two convolutions of a block). `FULL` was written when the study was done, before any of its networks was
tested. Each is trained with seeds 0 and 1; the second seed of all but the ODE-Net was added when the first had been
tested, to see the spread:

- Every network takes the changes of the recipe whose mean over both seeds beat its baseline, and of two that exclude
  each other the better: label smoothing, one cycle of the learning rate, and for all but the ResNet of four blocks the
  rate 0.15.
- Augmentation and weight decay stay, though both were better left out: five epochs on 10,000 images are too short to
  learn anything by heart, and 24 epochs on 50,000 are not.
- No change of architecture or solver is taken but BatchNorm, and that in a network of its own: see the page on why.

Second round, planned on 2026-11-26, when everything above had been run and reported. Nothing is chosen by it; each of
its cases has the seeds that are named here, whatever comes out:

- Do ODE-Nets differ more from seed to seed than residual networks? Seeds 3 and 4 of `odenet` and of `resnet-1`, so
  that each has five. The first round suggests it (three ODE baselines against the three others), and would be refuted
  where the ratio of the standard deviations of these two has 1 in its 95 % interval.
- Groups of GroupNorm, in the whole network: 8, 16 and 64 beside the baseline's 32, seeds 0 and 1. With 64 each group
  is one channel. If the protocol's reason for the collapse of `width-32` is right, 64 groups collapse too.
- The learning rate 0.3, seeds 0 and 1: the best rate of the first round, 0.15, was the largest that was tried.
- What was chosen, together: rate 0.15, one cycle and label smoothing, seeds 0 and 1. The first round tried each alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from odelib.config import Config
from odelib.measurements.confusion import Confusion
from odelib.measurements.cross_solver import CrossSolver
from odelib.records import Run
from odelib.shapes import Int64
from odelib.studies.study import Case, Study
from odelib.studies.summary import (
    Runs,
    Table,
    accuracy,
    all_runs,
    at_the_end,
    final,
    flags,
    machines,
    mean,
    mean_and_range,
    only,
    signed,
    standard_error,
)

BASE = Config(
    dataset="cifar10",
    validation=0.1,
    train_images=10_000,
    augment="crop-flip",
    normalize=True,
    method="rk4",
    epochs=5,
    batch_size=64,
    lr=0.05,
    schedule="cosine",
    weight_decay=5e-4,
)

# How to train: for every network.
RECIPE: dict[str, dict] = {
    "lr-0.02": dict(lr=0.02),
    "lr-0.15": dict(lr=0.15),
    "constant-rate": dict(schedule="constant"),
    "one-cycle": dict(schedule="one-cycle"),
    "adamw-0.002": dict(optimizer="adamw", lr=0.002, weight_decay=0.05),
    "no-weight-decay": dict(weight_decay=0.0),
    "label-smoothing-0.1": dict(label_smoothing=0.1),
    "dropout-0.3": dict(dropout=0.3),
    "no-augmentation": dict(augment="none"),
}

# The second round, for the ODE-Net alone; `chosen` is the recipe of `FULL`.
LATER: dict[str, dict] = {
    "groups-8": dict(groups=8),
    "groups-16": dict(groups=16),
    "groups-64": dict(groups=64),
    "lr-0.3": dict(lr=0.3),
    "chosen": dict(lr=0.15, schedule="one-cycle", label_smoothing=0.1),
}

# What to train: the ODE block and what stands around it.
ARCHITECTURE: dict[str, dict] = {
    "stem-res": dict(stem="res"),
    "stem-one-shot": dict(stem="one-shot"),
    "width-32": dict(width=32),
    "width-96": dict(width=96),
    "norm-layer": dict(norm="layer"),
    "norm-batch": dict(norm="batch"),
    "norm-none": dict(norm="none"),
    "softplus": dict(activation="softplus"),
    "tanh": dict(activation="tanh"),
    "swish": dict(activation="swish"),
    "no-time": dict(time="none"),
    "block-dropout-0.1": dict(block_dropout=0.1),
    "augmented-32": dict(extra_channels=32),
    "second-order": dict(order=2),  # the acceleration has 32 channels: see the protocol on size
    "two-scales": dict(scales=2),
}

# How to solve: fixed grids.
SOLVER: dict[str, dict] = {
    "euler-1": dict(method="euler"),
    "midpoint-1": dict(method="midpoint"),
    "rk4-4": dict(method="rk4", step_size=0.25),
    "adjoint-rk4-1": dict(gradient="adjoint"),
}

# What an adaptive solver makes of tolerance, gradient and penalties: NFE may move here.
ADAPTIVE: dict[str, dict] = {
    "tolerance-0.1": dict(rtol=0.1, atol=0.1),
    "dopri5": dict(method="dopri5"),
    "adjoint": dict(gradient="adjoint"),
    "kinetic-0.1": dict(kinetic=0.1),
    "jacobian-0.1": dict(jacobian=0.1),
}

# The penalties where the solver has something to save.
STRICT: dict[str, dict] = {
    "kinetic-0.1": dict(kinetic=0.1),
    "jacobian-0.01": dict(jacobian=0.01),
}

_ADAPTIVE = replace(BASE, library="odelib", method="bosh3", rtol=0.01, atol=0.01, warm_start=True)
BASELINES: dict[str, Config] = {
    "odenet": BASE,
    "adaptive": _ADAPTIVE,
    "strict": replace(_ADAPTIVE, rtol=0.001, atol=0.001),
    "resnet-1": replace(BASE, network="resnet", blocks=1),
    "resnet-4": replace(BASE, network="resnet", blocks=4),
    "none": replace(BASE, network="none"),
}


# What is tried with seed 1 as well: changes that beat the mean of their baseline with seed 0, and those of `STRICT`.
AGAIN = (
    "odenet-no-augmentation", "odenet-norm-batch", "odenet-lr-0.15", "odenet-euler-1", "odenet-label-smoothing-0.1",
    "odenet-width-96", "odenet-no-time", "odenet-rk4-4", "odenet-no-weight-decay", "odenet-swish",
    "odenet-midpoint-1", "odenet-one-cycle", "odenet-tanh",
    "adaptive-kinetic-0.1", "adaptive-adjoint", "adaptive-dopri5", "adaptive-tolerance-0.1",
    "strict-kinetic-0.1", "strict-jacobian-0.01",
    "resnet-1-no-augmentation", "resnet-1-label-smoothing-0.1", "resnet-1-lr-0.15", "resnet-1-constant-rate",
    "resnet-1-one-cycle", "resnet-1-no-weight-decay",
    "resnet-4-no-augmentation", "resnet-4-label-smoothing-0.1", "resnet-4-one-cycle", "resnet-4-no-weight-decay",
)  # fmt: skip

# The baselines whose spread over seeds is compared: the second round.
FIVE_SEEDS = ("odenet", "resnet-1")


def one_factor() -> dict[str, dict[str, Config]]:
    """For each baseline the cases that differ from it in one factor, by name: `<baseline>-<factor>`."""
    tried = {
        "odenet": {**RECIPE, **ARCHITECTURE, **SOLVER, **LATER},
        "adaptive": ADAPTIVE,
        "strict": STRICT,
        "resnet-1": RECIPE,
        "resnet-4": RECIPE,
        "none": {},
    }
    return {
        name: {f"{name}-{factor}": replace(BASELINES[name], **change) for factor, change in changes.items()}
        for name, changes in tried.items()
    }


# As the protocol says; on all training images, so that nothing is left to choose by.
_WHOLE: dict[str, Any] = dict(validation=0.0, train_images=None, epochs=24, schedule="one-cycle", label_smoothing=0.1)
FULL: dict[str, Config] = {
    "odenet": replace(BASE, lr=0.15, **_WHOLE),
    "odenet-norm-batch": replace(BASE, lr=0.15, norm="batch", **_WHOLE),
    "resnet-1": replace(BASELINES["resnet-1"], lr=0.15, **_WHOLE),
    "resnet-4": replace(BASELINES["resnet-4"], lr=0.05, **_WHOLE),
}


def seeds(case: str) -> tuple[int, ...]:
    """Those that the protocol gives to a case of the tuning study."""
    if case in BASELINES:
        return (0, 1, 2, 3, 4) if case in FIVE_SEEDS else (0, 1, 2)
    return (0, 1) if case in AGAIN or case.removeprefix("odenet-") in LATER else (0,)


TUNING = Study(
    "cifar10-tuning",
    "Which choices matter for an ODE-Net on CIFAR-10, to accuracy, to NFE, to time?",
    {
        name: Case(config, seeds(name))
        for cases in (BASELINES, *one_factor().values())
        for name, config in cases.items()
    },
)
ALL_IMAGES = Study(
    "cifar10-full",
    "What does the recipe that the tuning chose reach on all images?",
    {name: Case(config, (0, 1)) for name, config in FULL.items()},
)


def protocol() -> str:
    """What stands at the head of this file, in Markdown."""
    return __doc__.partition("\n\n")[2].strip()


# What the tuning study shows

TUNED = ("odenet", "resnet-1", "resnet-4")  # the baselines whose recipe was tuned
GROUPS = {"how to train": RECIPE, "what to train": ARCHITECTURE, "how to solve": SOLVER}  # of the factors


def differences(runs: Runs, baseline: str, name: str) -> dict[str, list[float]]:
    """What each factor changes: a metric after the last epoch, of every seed, minus the baseline's mean over its seeds.

    `runs` are those of the study, `name` is one of EpochMetrics; the factors stand without the name of the baseline.
    """
    start = at_the_end(runs[baseline], name)
    return {
        case.removeprefix(f"{baseline}-"): [value - start for value in final(runs[case], name)]
        for case in one_factor()[baseline]
    }


def points(runs: Runs, baseline: str) -> dict[str, list[float]]:
    """What each factor changes about the validation accuracy, in points: `differences`."""
    changes = differences(runs, baseline, "validation_accuracy")
    return {factor: [100 * change for change in found] for factor, found in changes.items()}


def effects(runs: Runs) -> dict[str, dict[str, list[float]]]:
    """`points` of the ODE-Net by group of factors (`GROUPS`)."""
    changes = points(runs, "odenet")
    return {title: {factor: changes[factor] for factor in factors} for title, factors in GROUPS.items()}


def noise(runs: Runs) -> list[float]:
    """How far the seeds of the ODE-Net lie from their mean, in points of validation accuracy."""
    values = final(runs["odenet"], "validation_accuracy")
    return [100 * (value - mean(values)) for value in values]


def nfe(runs: Sequence[Run]) -> str:
    """NFE forward + backward of a case, the mean over the last epoch; with the range where its seeds differ."""
    forward, backward = (_count(final(runs, name)) for name in ("nfe_forward", "nfe_backward"))
    return forward if backward == "0" else f"{forward} + {backward}"


def _count(values: list[float]) -> str:
    same = all(abs(value - round(values[0])) < 0.05 for value in values)
    return f"{values[0]:.0f}" if same else mean_and_range(values, 1)


def seconds(runs: Sequence[Run]) -> float:
    """Of the quickest epoch of a case: other work on the machine made some of them slower."""
    return min(metrics.seconds for run in runs for metrics in run.metrics)


def recipe_table(runs: Runs) -> Table:
    """What each change of the recipe does to the validation accuracy of the three networks that were tuned."""
    changes = {name: points(runs, name) for name in TUNED}
    rows = [["**baseline**", *(accuracy(runs[name], "validation_accuracy", 1) for name in TUNED)]]
    for factor, options in RECIPE.items():
        rows.append([flags(options), *(signed(changes[name][factor]) for name in TUNED)])
    return ["change", "ODE-Net", "ResNet, one block", "ResNet, four blocks"], rows


def factor_table(runs: Runs, baseline: str, factors: dict[str, dict]) -> Table:
    """A baseline and what was changed about it, one factor a row, and what that costs."""

    def costs(case: str) -> list[str]:
        return [nfe(runs[case]), f"{seconds(runs[case]):.0f}", f"{runs[case][0].parameters:,}"]

    changes = points(runs, baseline)
    rows = [["**baseline**", accuracy(runs[baseline], "validation_accuracy", 1), *costs(baseline)]]
    for factor, options in factors.items():
        rows.append([flags(options), signed(changes[factor]), *costs(f"{baseline}-{factor}")])
    return ["change", "validation accuracy, points", "NFE (+ backward)", "s per epoch", "parameters"], rows


def tuning_numbers(runs: Runs) -> dict[str, str]:
    """What the text says of the tuning study.

    `acc-<baseline>` in percent, `<baseline>-<factor>` in points against it, and `nfe-` of either.
    """
    changes = {name: points(runs, name) for name in BASELINES}
    numbers = {
        "runs": str(len(list(all_runs(runs)))),
        "environments": machines(all_runs(runs)),
        "noise": f"{max(noise(runs)) - min(noise(runs)):.1f}",
        "train-odenet": accuracy(runs["odenet"], "train_accuracy", 1),
        "lr-loss": f"{-min(mean(changes[name]['lr-0.02']) for name in TUNED):.0f}",
        "euler-time": f"{100 * seconds(runs['odenet-euler-1']) / seconds(runs['odenet']):.0f} %",
    }
    for name, found in changes.items():
        numbers[f"acc-{name}"] = accuracy(runs[name], "validation_accuracy", 1)
        numbers[f"nfe-{name}"] = nfe(runs[name])
        for factor, values in found.items():
            numbers[f"{name}-{factor}"] = signed(values)
            numbers[f"nfe-{name}-{factor}"] = nfe(runs[f"{name}-{factor}"])
    return numbers


# What the networks that were trained on all images show

NETWORKS = {
    "odenet": "ODE-Net",
    "odenet-norm-batch": "ODE-Net, BatchNorm in f",
    "resnet-1": "ResNet, one block",
    "resnet-4": "ResNet, four blocks",
}


def full_numbers(runs: Runs) -> dict[str, str]:
    """What the text says of `cifar10-full`: accuracies in percent, their differences in points."""
    numbers = {}
    for case, found in runs.items():
        for part in ("test", "train"):
            numbers[f"full-{part}-{case}"] = accuracy(found, f"{part}_accuracy", 1)
        numbers[f"full-loss-{case}"] = f"{at_the_end(found, 'train_loss'):.2f}"
    odenet, one, four = (at_the_end(runs[case]) for case in TUNED)
    numbers["full-one-block"] = f"{100 * (odenet - one):.1f}"
    numbers["full-four-blocks"] = f"{100 * (four - odenet):.1f}"
    numbers["full-se"] = f"{100 * standard_error(odenet):.1f}"
    return numbers


def cross_table(record: CrossSolver) -> Table:
    """Test accuracy in percent of each network under each solver."""
    found = {(row.case, row.seed, row.solver): f"{100 * row.accuracy:.1f}" for row in record.rows}
    solvers = list(dict.fromkeys(row.solver for row in record.rows))
    trained = dict.fromkeys((row.case, row.seed) for row in record.rows)
    rows = [
        [f"{NETWORKS[case]}, seed {seed}", *(found[case, seed, solver] for solver in solvers)] for case, seed in trained
    ]
    return ["network", *solvers], rows


def confusion_matrix(record: Confusion, case: str, seed: int) -> Int64[Tensor, "n n"]:
    """How many images of each class (a row) this network takes for each class (a column)."""
    return torch.tensor(only(record.rows, case=case, seed=seed).counts)


def confusion_numbers(counts: Int64[Tensor, "n n"], classes: tuple[str, ...]) -> dict[str, str]:
    """The two classes that are taken for each other most often, and their share of all mistakes in percent."""
    wrong = counts - counts.diagonal().diag()
    i, j = divmod(int((wrong + wrong.T).triu().argmax()), len(counts))
    share = 100 * (wrong[i, j] + wrong[j, i]) / wrong.sum()
    return {"pair": f"{classes[i]} and {classes[j]}", "pair-share": f"{share:.0f}"}
