"""How sure a comparison is: intervals over images and over seeds.

There are two sources of chance, and an interval speaks of one of them. Over images, the networks are given, and other
test images might have been drawn: `share_interval`, `apart_share_interval`, `paired_share_interval`, and `by_image` of
pairs of runs. Over seeds, the images are given, and the networks might have been trained anew: `seeds_interval`,
`paired_seeds_interval`. All have two sides and cover the true value with probability `level`, nearly (over images) or
where the values are normally distributed (over seeds). Accuracies and their differences are shares, not percent, but
for those of `by_image`, in points.

Quantiles are those of scipy.special; scipy comes with torchdiffeq, and scipy.stats takes a second to import.
"""

from collections.abc import Iterable, Sequence
from math import sqrt

from scipy.special import fdtri, ndtri, stdtrit
from torch import Tensor

from odelib.records import Run, unpack_bits
from odelib.shapes import Bool
from odelib.studies.summary import mean

LEVEL = 0.95


def share_interval(share: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """(low, high) for the share of a population of which `share` was found among `n` that were drawn.

    Wilson's score interval (1927): unlike share +- 1.96 standard errors, it stays within 0 and 1, and covers as
    promised for shares near 1. Of an accuracy, `n` is the number of images tested. Raises ValueError for a share
    outside [0, 1], or of nothing.
    """
    if not 0 <= share <= 1 or n < 1:
        raise ValueError(f"there is no share of {share} among {n}")
    z = _normal(level)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def apart_share_interval(share: float, other: float, n: int, level: float = LEVEL) -> tuple[float, float, float]:
    """(difference, low, high): `share` minus `other`, each found among `n` of its own. Wald's, for `n` in the hundreds.

    Of accuracies on the same images it is too wide where both networks find the same images hard, and the record of
    one does not say which images it gets wrong: `paired_share_interval` needs that.
    """
    half = _normal(level) * sqrt((share * (1 - share) + other * (1 - other)) / n)
    return share - other, share - other - half, share - other + half


def paired_share_interval(
    wrong: Bool[Tensor, "n"], other: Bool[Tensor, "_"], level: float = LEVEL
) -> tuple[float, float, float]:
    """(difference, low, high): the accuracy of a network minus that of another one on the same images.

    `wrong` and `other` say which images the one and the other get wrong. Only those count that one of them has right
    and the other has not, as in McNemar's test (1947). The interval is Wald's after half an image has been added to
    each of the four counts (Agresti and Min, Statistics in Medicine 24, 2005), which covers well where these are few.
    Raises ValueError for different numbers of images, or none.
    """
    n = len(wrong)
    if len(other) != n or n == 0:
        raise ValueError(f"{n} and {len(other)} images are no pairs")
    gained, lost = int((other & ~wrong).sum()), int((wrong & ~other).sum())
    b, c, total = gained + 0.5, lost + 0.5, n + 2
    middle, half = (b - c) / total, _normal(level) * sqrt(b + c - (b - c) ** 2 / total) / total
    return (gained - lost) / n, middle - half, middle + half


def by_image(runs: Iterable[Run], others: Iterable[Run]) -> list[tuple[float, float, float]]:
    """Of each pair of runs `paired_share_interval` of their test accuracies, the one minus the other, in points.

    Pairs are those at one place. Raises ValueError for records that do not say which images are wrong.
    """
    wrong = [[unpack_bits(run.wrong or "") for run in pair] for pair in zip(runs, others)]
    found = (paired_share_interval(one, other) for one, other in wrong)
    return [(100 * middle, 100 * low, 100 * high) for middle, low, high in found]


def seeds_interval(
    values: Sequence[float], level: float = LEVEL, spread: tuple[float, int] | None = None
) -> tuple[float, float, float]:
    """(mean, low, high) for the mean of a value over all seeds, from that of a few: Student's t (1908).

    `spread` are a standard deviation of single values and its degrees of freedom, where these are better known from
    elsewhere (`deviation`): then one seed is enough. Without it, ValueError is raised for fewer than two.
    """
    sigma, freedom = spread or deviation([values])
    middle, half = mean(values), float(stdtrit(freedom, (1 + level) / 2)) * sigma / sqrt(len(values))
    return middle, middle - half, middle + half


def paired_seeds_interval(
    values: Sequence[float], others: Sequence[float], level: float = LEVEL
) -> tuple[float, float, float]:
    """(mean, low, high) of `values` minus `others`, paired: those at one place have one seed. By Student's t.

    What a seed does to both alike, by the order of the images say, cancels. Raises ValueError for different numbers of
    values, or fewer than two.
    """
    if len(values) != len(others):
        raise ValueError(f"{len(values)} and {len(others)} values are no pairs")
    return seeds_interval([value - other for value, other in zip(values, others)], level)


def deviation(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """(standard deviation, degrees of freedom) of values around the mean of their group, pooled over all groups.

    Raises ValueError where no group has two values.
    """
    squares, freedom = 0.0, 0
    for values in groups:
        middle = mean(values)
        squares += sum((value - middle) ** 2 for value in values)
        freedom += len(values) - 1
    if freedom < 1:
        raise ValueError("one value alone says nothing of how far values lie apart")
    return sqrt(squares / freedom), freedom


def deviation_ratio(
    groups: Iterable[Sequence[float]], others: Iterable[Sequence[float]], level: float = LEVEL
) -> tuple[float, float, float]:
    """(ratio, low, high) of the `deviation` of `groups` to that of `others`, by Fisher's F for two variances.

    It trusts normal values more than a t interval does: heavy tails make it too narrow.
    """
    (spread, freedom), (other, other_freedom) = deviation(groups), deviation(others)
    ratio = spread / other
    least, most = (float(fdtri(freedom, other_freedom, p)) for p in ((1 - level) / 2, (1 + level) / 2))
    return ratio, ratio / sqrt(most), ratio / sqrt(least)


def _normal(level: float) -> float:
    return float(ndtri((1 + level) / 2))
