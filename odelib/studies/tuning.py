"""Task 7: what the tuning study on CIFAR-10 shows: each change against its baseline, seed by seed, and how sure it is.

The runs and their protocol are those of `cifar10.TUNING`. A change has been tried with one seed or two, which say next
to nothing of how far its seeds lie apart. So one standard deviation is taken for all runs of ODE-Nets, and one for all
of residual networks (`seed_deviation`), and a difference of two runs has the square root of two of it: as if the run
with the change and that of the baseline had nothing in common but what is asked for. Where a seed helps both, or hurts
both, the intervals are too wide rather than too narrow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

from odelib.records import Run
from odelib.studies.cifar10 import (
    AGAIN,
    ARCHITECTURE,
    BASELINES,
    RECIPE,
    SOLVER,
    one_factor,
    second_round,
)
from odelib.studies.statistics import LEVEL, deviation, deviation_ratio, paired_seeds_interval, seeds_interval
from odelib.studies.summary import (
    Runs,
    Table,
    accuracy,
    all_runs,
    final,
    flags,
    machines,
    mean,
    mean_and_range,
    signed,
    with_interval,
)

TUNED = {"odenet": "ODE-Net", "resnet-1": "ResNet, one block", "resnet-4": "ResNet, four blocks"}  # in their recipe
GROUPS = {"how to train": RECIPE, "what to train": ARCHITECTURE, "how to solve": SOLVER}  # of the ODE-Net's changes


@dataclass(frozen=True)
class Change:
    """What a change does to a metric: its difference to the baseline with each seed, and an interval of their mean."""

    differences: tuple[float, ...]
    low: float
    high: float

    @property
    def mean(self) -> float:
        return mean(self.differences)

    @property
    def stands(self) -> bool:
        """Whether the interval leaves no doubt of the sign."""
        return self.low > 0 or self.high < 0

    @property
    def seed_by_seed(self) -> str:
        """In words, as a table has it: `+4.5, +7.6`."""
        return ", ".join(signed([difference]) for difference in self.differences)

    @property
    def interval(self) -> str:
        """In words: `+4.4 to +7.7`."""
        return f"{signed([self.low])} to {signed([self.high])}"


def differences(runs: Runs, baseline: str, name: str = "validation_accuracy") -> dict[str, tuple[float, ...]]:
    """What each factor changes: a metric after the last epoch, for every seed minus the baseline's with that seed.

    `runs` are those of the study, `name` is one of EpochMetrics, accuracies are in points; the factors stand without
    the name of the baseline.
    """
    return _differences(runs, baseline, one_factor()[baseline], name)


def _differences(runs: Runs, baseline: str, cases: Iterable[str], name: str) -> dict[str, tuple[float, ...]]:
    start = _by_seed(runs[baseline], name)
    return {
        case.removeprefix(f"{baseline}-"): tuple(value - start[k] for k, value in _by_seed(runs[case], name).items())
        for case in cases
    }


def _by_seed(runs: Sequence[Run], name: str) -> dict[int, float]:
    scale = 100 if name.endswith("accuracy") else 1
    return {run.config.seed: scale * value for run, value in zip(runs, final(runs, name))}


def seed_deviation(runs: Runs, network: str) -> tuple[float, int]:
    """How far the runs of one case lie apart, in points of validation accuracy, and the degrees of freedom of that.

    Pooled over all cases with networks of this kind (`Config.network`).
    """
    return deviation(_accuracies(found) for found in _of_kind(runs, network))


def _of_kind(runs: Runs, network: str) -> list[Sequence[Run]]:
    return [found for found in runs.values() if found[0].config.network == network]


def _accuracies(runs: Sequence[Run]) -> list[float]:
    return list(_by_seed(runs, "validation_accuracy").values())


def changes(runs: Runs, baseline: str, level: float = LEVEL) -> dict[str, Change]:
    """What each factor changes about the validation accuracy, in points, with an interval of this level."""
    spread = seed_deviation(runs, BASELINES[baseline].network)
    return _changes(differences(runs, baseline), spread, level)


def second_changes(runs: Runs) -> dict[str, Change]:
    """The same of the second round (`cifar10.SECOND`), against the ODE-Net."""
    found = _differences(runs, "odenet", second_round(), "validation_accuracy")
    return _changes(found, seed_deviation(runs, "odenet"), LEVEL)


def group_table(runs: Runs) -> Table:
    """ODE-Nets by filters and by groups of their GroupNorms, those with most channels in a group first."""
    cases = ["groups-8", "groups-16", "", "groups-64", "groups-64-norm-layer", "width-32-groups-8", "width-32"]
    rows: list[list[object]] = []
    for case in (f"odenet-{name}".rstrip("-") for name in cases):
        config = runs[case][0].config
        each = config.width // config.groups
        in_f = "one group" if config.norm == "layer" else each
        reached = [accuracy(runs[case], f"{part}_accuracy", 1) for part in ("validation", "train")]
        rows.append([config.width, config.groups, each, in_f, *reached, len(runs[case])])
    header = ["filters", "groups", "channels each", "in f", "validation accuracy, %", "training accuracy, %", "seeds"]
    return header, rows


def saved_evaluations(runs: Runs) -> dict[str, Change]:
    """What the penalties change about NFE forward where the solver has something to save (`cifar10.STRICT`)."""
    cases = ["strict", *one_factor()["strict"]]
    spread = deviation(final(runs[case], "nfe_forward") for case in cases)
    return _changes(differences(runs, "strict", "nfe_forward"), spread, LEVEL)


def _changes(found: dict[str, tuple[float, ...]], spread: tuple[float, int], level: float) -> dict[str, Change]:
    sigma, freedom = spread
    intervals = {name: seeds_interval(values, level, (sqrt(2) * sigma, freedom)) for name, values in found.items()}
    return {name: Change(values, *intervals[name][1:]) for name, values in found.items()}


def chart(runs: Runs) -> dict[str, dict[str, dict[str, Change]]]:
    """Of each group of factors (`GROUPS`) each factor, and of that what it changes about the networks (`TUNED`)."""
    found = {name: changes(runs, name) for name in TUNED}
    return {
        group: {
            factor: {TUNED[name]: found[name][factor] for name in TUNED if factor in found[name]} for factor in factors
        }
        for group, factors in GROUPS.items()
    }


def standing(runs: Runs) -> Table:
    """The changes of the ODE-Net whose sign is beyond doubt, and of which that holds if all are asked for at once, or
    against the mean of all runs of the baseline.

    At once by Bonferroni's bound: an interval of 1 - 0.05 / n for each of n changes.
    """
    found = changes(runs, "odenet")
    strict = changes(runs, "odenet", 1 - (1 - LEVEL) / len(found))
    rows = [
        [
            f"`{factor}`",
            len(change.differences),
            change.seed_by_seed,
            change.interval,
            "yes" if strict[factor].stands else "no",
            "yes" if _stands_against_the_mean(runs, f"odenet-{factor}") else "no",
        ]
        for factor, change in sorted(found.items(), key=lambda item: -item[1].mean)
        if change.stands
    ]
    many, average = f"also as one of {len(found)}", "also against the baseline's mean"
    return ["change", "seeds", "points, seed by seed", "95 % interval", many, average], rows


def _stands_against_the_mean(runs: Runs, case: str) -> bool:
    """Whether the interval of a case's mean minus that of all runs of the ODE-Net leaves out zero."""
    sigma, freedom = seed_deviation(runs, "odenet")
    values, baseline = _accuracies(runs[case]), _accuracies(runs["odenet"])
    spread = sigma * sqrt(1 + len(values) / len(baseline))
    _, low, high = seeds_interval([value - mean(baseline) for value in values], LEVEL, (spread, freedom))
    return low > 0 or high < 0


def recipe_table(runs: Runs) -> Table:
    """What each change of the recipe does to the validation accuracy of the three networks that were tuned."""
    found = {name: changes(runs, name) for name in TUNED}
    rows = [["**baseline**", *(accuracy(runs[name], "validation_accuracy", 1) for name in TUNED)]]
    for factor, options in RECIPE.items():
        cells = [found[name][factor] for name in TUNED]
        rows.append([flags(options), *(f"{change.seed_by_seed} ({change.interval})" for change in cells)])
    return ["change", *TUNED.values()], rows


def factor_table(runs: Runs, baseline: str, factors: dict[str, dict]) -> Table:
    """A baseline and what was changed about it, one factor a row, and what that costs.

    Seconds are those of runs on the hardware of the baseline's first run.
    """

    def costs(case: str) -> list[str]:
        timed = [run for run in runs[case] if run.environment.hardware == runs[baseline][0].environment.hardware]
        return [nfe(runs[case]), f"{seconds(timed):.0f}" if timed else "–", f"{runs[case][0].parameters:,}"]

    found = changes(runs, baseline)
    rows = [["**baseline**", accuracy(runs[baseline], "validation_accuracy", 1), "", *costs(baseline)]]
    for factor, options in factors.items():
        change = found[factor]
        rows.append([flags(options), change.seed_by_seed, change.interval, *costs(f"{baseline}-{factor}")])
    header = ["change", "points, seed by seed", "95 % interval", "NFE (+ backward)", "s per epoch", "parameters"]
    return header, rows


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


# From seed to seed


def seed_ratios(runs: Runs) -> dict[str, tuple[float, float, float]]:
    """(ratio, low, high): the deviation over seeds of ODE-Nets over that of others, by what is compared.

    First of the six baselines, with the three seeds that all have; then of the two that have five; then of all cases,
    without the network that has no block.
    """
    ode = [name for name, config in BASELINES.items() if config.network == "odenet"]
    others = [name for name in BASELINES if name not in ode]
    first = {name: _accuracies(runs[name])[:3] for name in BASELINES}
    every = {kind: [_accuracies(found) for found in _of_kind(runs, kind)] for kind in ("odenet", "resnet")}
    return {
        "the six baselines, three seeds each": deviation_ratio([first[n] for n in ode], [first[n] for n in others]),
        "ODE-Net and one residual block, five seeds each": deviation_ratio(
            [_accuracies(runs["odenet"])], [_accuracies(runs["resnet-1"])]
        ),
        "all cases, ODE-Nets and residual networks": deviation_ratio(every["odenet"], every["resnet"]),
    }


def seed_table(runs: Runs) -> Table:
    """How much further the seeds of ODE-Nets lie apart than those of others: `seed_ratios`."""
    rows = [
        [what, f"{ratio:.1f}", f"{low:.1f} to {high:.1f}"] for what, (ratio, low, high) in seed_ratios(runs).items()
    ]
    return ["compared", "ratio of the deviations", "95 % interval"], rows


def falls(runs: Runs, cases: Iterable[str]) -> list[float]:
    """How far the run with seed 1 of each case lies below that with seed 0, in points of validation accuracy."""
    found = [_by_seed(runs[case], "validation_accuracy") for case in cases]
    return [values[0] - values[1] for values in found]


def _lucky(runs: Runs) -> float:
    """How far the ODE-Net's run with seed 0, its best one, lies above the mean of all, in points. Raises ValueError if
    another is better."""
    values = _accuracies(runs["odenet"])
    if values[0] != max(values):
        raise ValueError("seed 0 is not the best of the baseline")
    return values[0] - mean(values)


def tuning_numbers(runs: Runs) -> dict[str, str]:
    """What the text says of the tuning study.

    `acc-<baseline>` in percent, and of the second round `acc-<case>`; `<baseline>-<factor>` in points against it, seed
    by seed, with `-interval`, and `second-<factor>` of the second round alike; `nfe-adaptive` and `nfe-strict`;
    `saved-<penalty>` in evaluations.
    """
    spread, freedom = seed_deviation(runs, "odenet")
    picked = falls(runs, [case for case in AGAIN if not case.startswith("strict")])  # which had both from the start
    fall, fall_low, fall_high = seeds_interval(picked)
    plain, plain_low, plain_high = seeds_interval(falls(runs, BASELINES))
    _, stands = standing(runs)
    numbers = {
        "runs": str(len(list(all_runs(runs)))),
        "environments": machines(all_runs(runs)),
        "changes": str(len(one_factor()["odenet"])),
        "standing": str(len(stands)),
        "standing-all": str(sum(row[-2] == "yes" for row in stands)),
        "standing-mean": str(sum(row[-1] == "yes" for row in stands)),
        "chance": f"{0.05 * len(one_factor()['odenet']):.1f}",
        "deviation": f"{spread:.2f}",
        "freedom": str(freedom),
        "deviation-resnet": f"{seed_deviation(runs, 'resnet')[0]:.2f}",
        "jacobian-time": f"{seconds(runs['strict-jacobian-0.01']) / seconds(runs['strict']):.1f}",
        "lucky": f"{_lucky(runs):.1f}",
        **{f"nfe-{name}": nfe(runs[name]) for name in ("adaptive", "strict")},
        "blind": f"{changes(runs, 'odenet')['euler-1'].high - changes(runs, 'odenet')['euler-1'].mean:.1f}",
        "again": str(len(picked)),
        "fall": signed([-fall]),
        "fall-interval": f"{signed([-fall_high])} to {signed([-fall_low])}",
        "plain": signed([-plain]),
        "plain-interval": f"{signed([-plain_high])} to {signed([-plain_low])}",
        **{f"fall-{name}": signed([-falls(runs, [name])[0]]) for name in ("odenet", "adaptive")},
        "ahead": with_interval(paired_seeds_interval(_accuracies(runs["odenet"]), _accuracies(runs["resnet-1"])), 1),
        **{
            f"{part}-no-augmentation": accuracy(runs["odenet-no-augmentation"], f"{name}_accuracy", 1)
            for part, name in (("acc", "validation"), ("train", "train"))
        },
        "train-odenet": accuracy(runs["odenet"], "train_accuracy", 1),
        "euler-time": f"{100 * seconds(runs['odenet-euler-1']) / seconds(runs['odenet']):.0f} %",
    }
    for name in BASELINES:
        numbers[f"acc-{name}"] = accuracy(runs[name], "validation_accuracy", 1)
        for factor, change in changes(runs, name).items():
            numbers[f"{name}-{factor}"] = change.seed_by_seed
            numbers[f"{name}-{factor}-interval"] = change.interval
    for name, change in second_changes(runs).items():
        numbers[f"second-{name}"], numbers[f"second-{name}-interval"] = change.seed_by_seed, change.interval
        numbers[f"acc-{name}"] = accuracy(runs[f"odenet-{name}"], "validation_accuracy", 1)
    for penalty, change in saved_evaluations(runs).items():
        numbers[f"saved-{penalty}"] = change.seed_by_seed
        numbers[f"saved-{penalty}-interval"] = change.interval
    return numbers
