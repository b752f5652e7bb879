"""What the tuning study shows: differences seed by seed, their intervals, and the tables and numbers made of them."""

from dataclasses import replace
from statistics import stdev

import pytest
from conftest import with_last
from scipy import stats

from odelib import Run
from odelib.records import RESULTS
from odelib.studies import STUDIES, cifar10, tuning
from odelib.studies.statistics import deviation, deviation_ratio, seeds_interval
from odelib.studies.summary import final

STUDY = STUDIES["cifar10-tuning"]


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.load(RESULTS / "cifar10-tuning" / "odenet-seed0.json")


def made(run, values: dict[str, dict[int, float]], name="validation_accuracy"):
    """Runs by case, of which each has a seed and the value of a metric."""
    return {
        case: [replace(with_last(run, **{name: x}), config=replace(run.config, seed=k)) for k, x in found.items()]
        for case, found in values.items()
    }


STRICT = {"strict": {0: 0.25, 1: 0.5}, "strict-kinetic-0.1": {0: 0.5, 1: 0.375}, "strict-jacobian-0.01": {1: 0.25}}


# Differences


def test_a_change_is_compared_with_the_baseline_of_the_same_seed(run):
    found = tuning.differences(made(run, STRICT), "strict")
    assert found == {"kinetic-0.1": (25.0, -12.5), "jacobian-0.01": (-25.0,)}
    evaluations = made(
        run, {case: {k: 100 * x for k, x in values.items()} for case, values in STRICT.items()}, "nfe_forward"
    )
    assert tuning.differences(evaluations, "strict", "nfe_forward") == {
        "kinetic-0.1": (25.0, -12.5),
        "jacobian-0.01": (-25.0,),
    }


def test_a_change_whose_seed_the_baseline_has_not_is_not_compared(run):
    with pytest.raises(KeyError):
        tuning.differences(made(run, {**STRICT, "strict-jacobian-0.01": {2: 0.25}}), "strict")


def test_the_deviation_is_pooled_over_all_cases_with_networks_of_a_kind(run):
    runs = made(run, STRICT)
    runs["resnet-1"] = [replace(r, config=replace(r.config, network="resnet")) for r in runs["strict"]]
    within = (2 * 12.5**2 + 2 * 6.25**2) / 2
    assert tuning.seed_deviation(runs, "odenet") == pytest.approx((within**0.5, 2))
    assert tuning.seed_deviation(runs, "resnet") == pytest.approx((12.5 * 2**0.5, 1))


def test_the_interval_of_a_change_has_the_deviation_of_a_difference_of_two_runs(run):
    runs = made(run, STRICT)
    sigma, freedom = tuning.seed_deviation(runs, "odenet")
    found = tuning.changes(runs, "strict", 0.9)
    for name, values in (("kinetic-0.1", [25.0, -12.5]), ("jacobian-0.01", [-25.0])):
        mean, low, high = seeds_interval(values, 0.9, (2**0.5 * sigma, freedom))
        assert (found[name].mean, found[name].low, found[name].high) == pytest.approx((mean, low, high))
    assert found["jacobian-0.01"].high - found["jacobian-0.01"].low == pytest.approx(
        2**0.5 * (found["kinetic-0.1"].high - found["kinetic-0.1"].low)
    )


def test_a_change_stands_where_its_interval_leaves_out_zero():
    for low, high, stands in ((0.1, 2.0, True), (-2.0, -0.1, True), (-0.1, 2.0, False), (-2.0, 0.1, False)):
        assert tuning.Change((1.0,), low, high).stands == stands


def test_a_change_is_said_with_signs():
    change = tuning.Change((4.48, -7.62), -0.04, 3.0)
    assert (change.seed_by_seed, change.interval) == ("+4.5, −7.6", "−0.0 to +3.0")


def test_evaluations_are_compared_with_their_own_deviation(run):
    values = {
        "strict": {0: 13.0, 1: 12.0},
        "strict-kinetic-0.1": {0: 8.0, 1: 9.0},
        "strict-jacobian-0.01": {0: 12.0, 1: 11.0},
    }
    found = tuning.saved_evaluations(made(run, values, "nfe_forward"))
    sigma, freedom = deviation(list(of.values()) for of in values.values())
    assert found["kinetic-0.1"].differences == (-5.0, -3.0) and freedom == 3
    assert found["kinetic-0.1"].high == pytest.approx(seeds_interval([-5.0, -3.0], spread=(2**0.5 * sigma, 3))[2])


def test_the_second_round_is_compared_with_the_runs_of_the_baseline_with_the_same_seeds(runs):
    found = tuning.second_changes(runs)
    assert list(found) == list(cifar10.SECOND)
    start, changed = ([100 * x for x in final(runs[c], "validation_accuracy")] for c in ("odenet", "odenet-lr-0.3"))
    assert found["lr-0.3"].differences == pytest.approx([one - other for one, other in zip(changed, start)])
    assert set(found) & set(tuning.changes(runs, "odenet")) == set()  # nothing is chosen by it


# Tables and numbers


def test_the_chart_has_every_change_once_and_residual_networks_where_they_were_tried(runs):
    chart = tuning.chart(runs)
    factors = [factor for group in chart.values() for factor in group]
    assert sorted(factors) == sorted(name.removeprefix("odenet-") for name in cifar10.one_factor()["odenet"])
    for group in chart.values():
        for factor, found in group.items():
            assert next(iter(found)) == "ODE-Net" and len(found) == (3 if factor in cifar10.RECIPE else 1)


def test_the_table_of_what_stands_has_that_and_nothing_else(runs):
    header, rows = tuning.standing(runs)
    found = tuning.changes(runs, "odenet")
    assert {row[0].strip("`") for row in rows} == {factor for factor, change in found.items() if change.stands}
    at_once = tuning.changes(runs, "odenet", 1 - 0.05 / len(found))
    assert header[-2] == f"also as one of {len(found)}"
    for factor, seeds, values, interval, stands, _ in rows:
        change = found[factor.strip("`")]
        assert (seeds, values, interval) == (len(change.differences), change.seed_by_seed, change.interval)
        assert stands == ("yes" if at_once[factor.strip("`")].stands else "no")


def test_against_the_mean_of_the_baseline_both_sides_have_as_many_runs_as_they_have(run):
    """Of one run and four of the baseline: Student's t for two samples with one deviation."""
    reached = [0.40, 0.42, 0.44, 0.46]
    half = float(stats.t.ppf(0.975, 3)) * 100 * stdev(reached) * (1 + 1 / 4) ** 0.5
    for above, stands in ((half + 0.1, True), (half - 0.1, False), (-half - 0.1, True)):
        runs = made(run, {"odenet": dict(enumerate(reached)), "changed": {0: 0.43 + above / 100}})
        assert tuning._stands_against_the_mean(runs, "changed") == stands


def test_a_table_of_factors_begins_with_the_baseline(run):
    runs = made(run, STRICT)
    header, rows = tuning.factor_table(runs, "strict", cifar10.STRICT)
    found = tuning.changes(runs, "strict")
    assert [row[:3] for row in rows] == [
        ["**baseline**", "37.5 (25.0 to 50.0)", ""],
        ["`--kinetic 0.1`", "+25.0, −12.5", found["kinetic-0.1"].interval],
        ["`--jacobian 0.01`", "−25.0", found["jacobian-0.01"].interval],
    ]
    assert all(len(row) == len(header) for row in rows)
    elsewhere = replace(run.environment, hardware="another processor")
    runs["strict-kinetic-0.1"] = [replace(r, environment=elsewhere) for r in runs["strict-kinetic-0.1"]]
    assert [row[4] for row in tuning.factor_table(runs, "strict", cifar10.STRICT)[1]] == [rows[0][4], "–", rows[0][4]]
    assert rows[0][3:] == ["4", f"{min(m.seconds for m in run.metrics):.0f}", "209,418"]


def test_the_table_of_the_recipe_has_every_change_for_every_network(runs):
    header, rows = tuning.recipe_table(runs)
    assert len(header) == 4 and len(rows) == 1 + len(cifar10.RECIPE)
    change = tuning.changes(runs, "resnet-1")["lr-0.15"]
    assert (rows[2][0], rows[2][2]) == ("`--lr 0.15`", f"{change.seed_by_seed} ({change.interval})")


def test_nfe_is_a_whole_number_where_the_seeds_agree_and_a_range_where_not(run):
    def nfe(forward, backward):
        return replace(run, metrics=(replace(run.last, nfe_forward=forward, nfe_backward=backward),))

    assert tuning.nfe([nfe(4.0, 0.0), nfe(4.01, 0.0)]) == "4"
    assert tuning.nfe([nfe(4.0, 7.0), nfe(5.0, 7.0)]) == "4.5 (4.0 to 5.0) + 7"


def test_seconds_are_those_of_the_quickest_epoch(run):
    first = replace(run, metrics=tuple(replace(m, seconds=s) for m, s in zip(run.metrics, (9.0, 3.0, 5.0, 7.0, 4.0))))
    assert tuning.seconds([first, replace(first, metrics=(replace(run.last, seconds=6.0),))]) == 3.0


def test_the_seeds_of_ode_nets_are_compared_with_those_of_others(run):
    """The six baselines with three seeds, whatever else there is; two of them with all; then all cases by network."""
    odd, even = {0: 0.5, 1: 0.52, 2: 0.48, 3: 0.9}, {0: 0.4, 1: 0.41, 2: 0.39}
    runs = made(run, {"odenet": odd, "adaptive": even, "strict": even, "odenet-tanh": {0: 0.5, 1: 0.6}})
    for name in ("resnet-1", "resnet-4", "none"):
        found = made(run, {name: even})[name]
        network = cifar10.BASELINES[name].network
        runs[name] = [replace(r, config=replace(r.config, network=network)) for r in found]
    first, five, every = tuning.seed_ratios(runs).values()
    values = {case: [100 * x for x in final(found, "validation_accuracy")] for case, found in runs.items()}
    ode, residual = ("odenet", "adaptive", "strict"), ("resnet-1", "resnet-4")
    three = [values[case][:3] for case in ode]
    assert first == pytest.approx(deviation_ratio(three, [values[case] for case in (*residual, "none")]))
    assert five == pytest.approx(deviation_ratio([values["odenet"]], [values["resnet-1"]]))
    tried = [values[case] for case in (*ode, "odenet-tanh")]
    assert every == pytest.approx(deviation_ratio(tried, [values[case] for case in residual]))
    _, rows = tuning.seed_table(runs)
    assert rows[0][1:] == [f"{first[0]:.1f}", f"{first[1]:.1f} to {first[2]:.1f}"]


def test_falls_are_from_the_first_seed_to_the_second(run):
    assert tuning.falls(made(run, STRICT), ["strict", "strict-kinetic-0.1"]) == [-25.0, 12.5]


def test_the_numbers_of_the_text_are_those_of_the_tables(runs):
    numbers = tuning.tuning_numbers(runs)
    assert numbers["runs"] == str(len(list((RESULTS / "cifar10-tuning").glob("*-seed*.json"))))
    _, rows = tuning.factor_table(runs, "adaptive", cifar10.ADAPTIVE)
    assert (rows[0][1], rows[0][3]) == (numbers["acc-adaptive"], numbers["nfe-adaptive"])
    for factor, row in zip(cifar10.ADAPTIVE, rows[1:]):
        keys = (f"adaptive-{factor}", f"adaptive-{factor}-interval")
        assert row[1:4] == [*(numbers[key] for key in keys), tuning.nfe(runs[f"adaptive-{factor}"])]
    assert numbers["again"] == str(sum(not case.startswith("strict") for case in cifar10.AGAIN))
