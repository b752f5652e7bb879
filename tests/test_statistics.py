"""Intervals: those of scipy and of the sources, and as many of them cover the true value as they promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from odelib.records import pack_bits
from odelib.studies import STUDIES
from odelib.studies.statistics import (
    apart_share_interval,
    by_image,
    deviation,
    deviation_ratio,
    paired_seeds_interval,
    paired_share_interval,
    seeds_interval,
    share_interval,
)


@pytest.mark.parametrize("right, n", [(0, 10), (1, 29), (81, 263), (148, 148), (9934, 10_000)])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_the_interval_of_a_share_is_wilsons(right, n, level):
    known = stats.binomtest(right, n).proportion_ci(level, method="wilson")
    assert share_interval(right / n, n, level) == pytest.approx((known.low, known.high))


def test_a_share_and_its_number_must_be_possible():
    for share, n in ((-0.1, 10), (1.1, 10), (0.5, 0)):
        with pytest.raises(ValueError, match="there is no share"):
            share_interval(share, n)


def images(both: int, first: int, second: int, none: int):
    """Which images two networks get wrong: so many both of them, so many one of them alone, so many none of them."""
    wrong = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * none
    return torch.tensor(wrong).unbind(dim=1)


def test_the_paired_interval_is_that_of_the_formula_worked_by_hand():
    """20 images that only the other one gets wrong, 8 the other way, of 98: with half an image more in each count,
    (20.5 - 8.5) / 100 = 0.12, with the standard error sqrt(29 - 144 / 100) / 100."""
    difference, low, high = paired_share_interval(*images(10, 8, 20, 60))
    half = 1.959964 * (29 - 1.44) ** 0.5 / 100
    assert difference == pytest.approx(12 / 98)
    assert (low, high) == pytest.approx((0.12 - half, 0.12 + half), rel=1e-6)


def test_images_that_both_have_right_or_wrong_make_no_difference_to_the_count_of_the_difference():
    one, other = images(1000, 30, 10, 8960), images(10, 30, 10, 9950)
    assert paired_share_interval(*one) == paired_share_interval(*other)


def test_the_paired_interval_decides_as_mcnemars_test():
    """Where it is clear; and the exchanged networks have the opposite interval."""
    for first, second in ((5, 40), (90, 110), (60, 110), (3, 4), (0, 0)):
        wrong, other = images(300, first, second, 10_000 - 300 - first - second)
        difference, low, high = paired_share_interval(wrong, other)
        p = stats.binomtest(first, first + second).pvalue if first + second else 1.0
        assert (low > 0 or high < 0) == (p < 0.05)
        assert paired_share_interval(other, wrong) == pytest.approx((-difference, -high, -low))


def test_two_shares_apart_have_the_variances_of_both():
    difference, low, high = apart_share_interval(0.75, 0.5, 100)
    assert difference == 0.25 and (high - low) / 2 == pytest.approx(1.959964 * ((0.1875 + 0.25) / 100) ** 0.5)
    assert low + high == pytest.approx(0.5)


def test_pairs_are_narrower_than_two_shares_apart():
    wrong, other = images(400, 50, 100, 9450)
    _, low, high = paired_share_interval(wrong, other)
    _, least, most = apart_share_interval(0.955, 0.95, 10_000)
    assert high - low < 0.5 * (most - least)


def test_runs_are_paired_by_what_their_records_get_wrong():
    run = STUDIES["mnist-modern"].runs()["odenet"][0]
    one, other = (replace(run, wrong=pack_bits(wrong)) for wrong in images(10, 8, 20, 9962))
    known = [100 * share for share in paired_share_interval(*images(10, 8, 20, 9962))]
    (found, same) = by_image([one, one], [other, one])
    assert found == pytest.approx(known) and same[0] == 0


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="3 and 4 images are no pairs"):
        paired_share_interval(torch.zeros(3, dtype=torch.bool), torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="3 and 2 values are no pairs"):
        paired_seeds_interval([1.0, 2.0, 3.0], [1.0, 2.0])


def test_the_interval_over_seeds_is_students():
    values, others = [0.844, 0.861, 0.839, 0.852], [0.831, 0.858, 0.842, 0.840]
    known = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert seeds_interval(values, 0.9) == pytest.approx((np.mean(values), known.low, known.high))
    known = stats.ttest_rel(values, others).confidence_interval()
    found = paired_seeds_interval(values, others)
    assert found == pytest.approx((np.mean(values) - np.mean(others), known.low, known.high))


def test_one_seed_alone_has_no_interval():
    with pytest.raises(ValueError, match="one value alone"):
        seeds_interval([0.5])
    with pytest.raises(ValueError, match="one value alone"):
        deviation([[0.5], [0.7]])


def test_groups_share_the_deviation_that_an_analysis_of_variance_has():
    groups = {"a": [1.0, 3.0], "b": [10.0, 11.0, 15.0], "c": [7.0]}
    within = ((1**2 + 1**2) + (2**2 + 1**2 + 3**2)) / 3
    assert deviation(groups.values()) == pytest.approx((within**0.5, 3))


@pytest.mark.parametrize("values", [[7.0], [1.0, 3.0]])
def test_where_the_deviation_is_known_from_elsewhere_one_seed_is_enough(values):
    half = stats.t.ppf(0.975, 3) * 2.5 / len(values) ** 0.5
    expected = np.mean(values), np.mean(values) - half, np.mean(values) + half
    assert seeds_interval(values, spread=(2.5, 3)) == pytest.approx(expected)


def test_the_ratio_of_deviations_is_fishers():
    """One group each: the interval is the F test's, which just decides at its own p."""
    values, others = [1.0, 4.0, 2.0, 8.0, 5.0], [3.0, 3.5, 2.0, 2.5]
    ratio, low, high = deviation_ratio([values], [others])
    assert ratio == pytest.approx(np.std(values, ddof=1) / np.std(others, ddof=1))
    p = 2 * stats.f.sf(ratio**2, 4, 3)
    assert deviation_ratio([values], [others], 1 - p)[1] == pytest.approx(1)
    assert low < ratio < high and (low > 1) == (p < 0.05)
    assert deviation_ratio([others], [values]) == pytest.approx((1 / ratio, 1 / high, 1 / low))


def share_covered(interval, draw, true, times=2000) -> float:
    """In how many of so many experiments the interval covers what is true."""
    random = np.random.default_rng(0)
    found = [interval(draw(random))[-2:] for _ in range(times)]
    return sum(low <= true <= high for low, high in found) / times


def drawn_pairs(random):
    """1,000 images, of which a network gets 3 % wrong alone and another one 5 %."""
    drawn = torch.from_numpy(random.random(1000))
    return drawn < 0.03, (drawn >= 0.03) & (drawn < 0.08)


@pytest.mark.parametrize(
    "interval, draw, true",
    [
        (lambda right: share_interval(right / 500, 500), lambda random: random.binomial(500, 0.98), 0.98),
        (lambda pairs: paired_share_interval(*pairs), drawn_pairs, 0.02),
        (
            lambda right: apart_share_interval(*(right / 1000).tolist(), 1000),
            lambda random: random.binomial(1000, [0.85, 0.8]),
            0.05,
        ),
        (seeds_interval, lambda random: random.normal(1, 2, 3).tolist(), 1),
        (
            lambda drawn: seeds_interval(drawn[4:], spread=deviation([drawn[:2], drawn[2:4]])),
            lambda random: random.normal([1, 1, 5, 5, 3], 2).tolist(),
            3,
        ),
        (
            lambda drawn: deviation_ratio([drawn[:5]], [drawn[5:]]),
            lambda random: random.normal(0, [3] * 5 + [1] * 5).tolist(),
            3,
        ),
    ],
    ids=["share", "pairs of images", "images apart", "seeds", "pooled", "ratio"],
)
def test_intervals_cover_what_is_true_nineteen_times_out_of_twenty(interval, draw, true):
    """2,000 experiments: three standard errors of 0.95 are 0.015."""
    assert share_covered(interval, draw, true) == pytest.approx(0.95, abs=0.016)
