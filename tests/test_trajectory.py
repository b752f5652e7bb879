"""The page on the trajectory: its tables, numbers and figures are what they say, and its claims hold in the records."""

import re
from dataclasses import replace

import pytest
import torch

from odelib import load_dataset, load_weights
from odelib.book import trajectory_figures as figures
from odelib.measurements.inference import Inference, Inferences
from odelib.measurements.robustness import BUDGETS, Attacked, Robustness
from odelib.measurements.stop_times import Exit, Reading, Stop, StopTimes, linear_probe
from odelib.records import RESULTS
from odelib.studies import STUDIES, attacks, summary, trajectory

STUDY = STUDIES["mnist-gradients"]
ONE, OTHER = trajectory.ONE_NETWORK, trajectory.NOT_A_FLOW


@pytest.fixture(scope="module")
def environment():
    return STUDY.runs()["none"][0].environment


@pytest.fixture(scope="module")
def stops(environment):
    """Two networks with an ODE, one residual network and one without a block, made up."""
    places = (0.0, 0.25, 0.5, 0.75, 1.0)
    ode = [
        Stop(ONE, seed, method, at, n * (4 if method == "rk4" else 1), share - 0.01 * seed)
        for seed in (0, 1)
        for method in ("rk4", "euler")
        for n, (at, share) in enumerate(zip(places, (0.2, 0.5, 0.96, 0.97, 0.99)))
    ]
    resnet = [Stop("resnet-6", 0, "blocks", at, n, 0.5 + at / 4) for n, at in enumerate((0.0, 0.5, 1.0))]
    exits = [
        Exit(case, seed, method, threshold, nfe - seed, accuracy)
        for case, seed, method in ((ONE, 0, "euler"), (ONE, 1, "euler"), ("resnet-6", 0, "blocks"))
        for threshold, nfe, accuracy in (
            (0.5, 1.5, 0.7),
            (0.8, 2.0, 0.8),
            (0.95, 2.5, 0.975),
            (0.99, 3.0, 0.98),
            (1.0, 4.0, 0.99),
        )
    ]
    readings = [
        Reading(ONE, seed, at, 1.0, 0.8 + at / 10, 0.5 + at / 4, 0.3 + at / 4) for seed in (0, 1) for at in places
    ]
    none = [Stop("none", 2, "blocks", 1.0, 0, 0.9)]
    none += [
        Stop(OTHER, 0, "rk4", at, 4 * n, share) for n, (at, share) in enumerate(zip(places, (0.2, 0.5, 0.9, 0.8, 0.7)))
    ]
    readings += [Reading("none", 2, 1.0, 1.0, 0.9, 0.7, 0.7), Reading("resnet-6", 0, 0.0, 1.0, 0.5, 0.5, 0.5)]
    return StopTimes(environment, 1000, 300, 100, (*ode, *resnet, *none), tuple(exits), tuple(readings))


@pytest.fixture(scope="module")
def inference(environment):
    solvers = (
        ("dopri5", 1e-5, None, 50.0, 0.99, 0.0),
        ("dopri5", 1.0, None, 14.0, 0.9895, 0.001),
        ("euler", None, 1, 1.0, 0.9, 0.1),
        ("euler", None, 4, 4.0, 0.9889, 0.01),
        ("midpoint", None, 1, 2.0, 0.98901, 0.005),
        ("rk4", None, 1, 4.0, 0.99, 0.0),
    )
    rows = [Inference(case, 0, *values) for case in (ONE, OTHER) for values in solvers]
    return Inferences(environment, 1000, tuple(rows))


def made_up(case, tested, made, accuracies):
    rows = [Attacked(case, 0, "none", 0.0, "none", how, 1.0) for how in tested]
    for budget in BUDGETS:
        for how in tested:
            rows.append(Attacked(case, 0, "noise", budget, "none", how, 0.95))
            for by, accuracy in zip(made, accuracies):
                rows += [Attacked(case, 0, name, budget, by, how, accuracy) for name in ("fgsm", "pgd")]
    return rows


@pytest.fixture(scope="module")
def robustness(environment):
    rows = made_up(ONE, ("tight", "loose"), ("tight", "loose", "loose adjoint"), (0.5, 0.51, 0.75))
    rows += made_up("resnet-1", ("own",), ("own",), (0.4,)) + made_up("none", ("own",), ("own",), (0.2,))
    return Robustness(environment, 500, 10, tuple(rows))


# Rows


def test_cases_come_in_the_order_of_their_names_and_are_counted(stops):
    assert list(trajectory.by_case(reversed(stops.stops))) == [ONE, OTHER, "resnet-6", "none"]
    assert trajectory.networks(stops.stops) == {ONE: 2, OTHER: 1, "resnet-6": 1, "none": 1}
    assert trajectory.counted(stops.exits) == "dopri5, adjoint: 2, 6 residual blocks: 1"
    assert trajectory.there(stops.exits, ("none", "resnet-6", ONE)) == ["resnet-6", ONE]


def test_every_case_has_a_name():
    assert set(trajectory.NAMES) == {*STUDY.cases, *trajectory.PHOTOS, trajectory.PASSED_TWICE}
    assert set(trajectory.PHOTOS) <= set(STUDIES["cifar10-modern"].cases)


def test_a_curve_has_the_mean_of_x_and_every_y(stops):
    exits, _ = trajectory.exits_of(stops, ONE)
    first, *_, last = trajectory.curve(exits, "threshold", "nfe", "accuracy")
    assert first == (1.0, [0.7, 0.7]) and last == (3.5, [0.99, 0.99])


def test_a_fixed_stop_lies_behind_a_step(stops):
    _, fixed = trajectory.exits_of(stops, ONE)
    assert {row.nfe for row in fixed} == {1, 2, 3, 4} and {row.method for row in fixed} == {"euler"}


# Tables and numbers


def test_the_table_of_exits(stops):
    header, rows = trajectory.exit_table(stops)
    assert header[2:] == ["above 0.5", "above 0.95", "above 0.99", "to the end"]
    assert rows[0][:3] == ["dopri5, adjoint", 2, "1.0: 70.00 %"] and rows[1][-1] == "4.0: 99.00 %"


def test_the_cheapest_solver_is_within_what_is_allowed_and_no_other_takes_fewer(inference):
    name, rows = trajectory.cheapest(inference, ONE)
    assert name == "midpoint, 1 step" and rows[0].nfe == 2
    assert trajectory.cheapest(inference, ONE, allowed=0.0)[0] == "RK4, 1 step"
    assert trajectory.cheapest(inference, ONE, allowed=1.0)[0] == "Euler, 1 step"
    header, table = trajectory.choice_table(inference)
    assert table[0] == ["dopri5, adjoint", 1, "50", "99.00", "midpoint, 1 step", "2", "98.90", "0.50 %"]
    assert len(header) == len(table[0])


def test_the_numbers_of_the_stops(stops):
    numbers = trajectory.stop_numbers(stops)
    assert (numbers["images"], numbers["queries"], numbers["database"], numbers["n"]) == ("1,000", "100", "900", "2")
    assert (numbers["fitted"], numbers["held-out"], numbers["early"]) == ("200", "100", "0.5")
    assert (numbers["exit-nfe"], numbers["exit-full-nfe"]) == ("2.0", "4")
    assert (numbers["fixed-nfe"], numbers["fixed"]) == ("2", "95.50 (95.00 to 96.00)")
    assert numbers["head-start"] == "19.5 (19.0 to 20.0)" and numbers["probe-end"] == "90.0 (90.0 to 90.0)"
    assert numbers["symmetric-middle"] == "62.5 (62.5 to 62.5)"
    assert numbers["resnet"] == "behind 2.5 of them on average at the threshold 0.95, 97.50 % right (n = 1)"
    assert (numbers["exit-least"], numbers["exit-most"]) == ("97.5", "97.5")
    assert (numbers["euler-best-at"], numbers["euler-best"], numbers["euler-end"]) == ("0.5", "90.0", "70.0")
    without = replace(stops, exits=tuple(row for row in stops.exits if row.case == ONE))
    assert trajectory.stop_numbers(without)["resnet"] == "not in this record"


def test_what_is_read_where(stops):
    header, rows = trajectory.reading_table(stops, [ONE])
    assert header == ["network", "read by", "t = 0", "t = 0.5", "t = 1"]
    assert rows[0] == ["dopri5, adjoint", "its own head", "19.5 (19.0 to 20.0)", "95.5 (95.0 to 96.0)",
                       "98.5 (98.0 to 99.0)"]  # fmt: skip
    assert [row[1] for row in rows[1:]] == ["a linear probe", "retrieval, symmetric", "retrieval, asymmetric"]
    assert rows[3][3] == "42.5 (42.5 to 42.5)"


@pytest.fixture(scope="module")
def photographs(stops, inference):
    """The two networks of photographs, each with two seeds: heads that are never sure, and a step that is its own."""

    def as_photographs(row):
        return [replace(row, case=case) for case in trajectory.PHOTOS]

    of_one = [row for row in stops.stops if row.case == ONE]
    exits = [
        Exit(case, seed, "euler", threshold, nfe, accuracy)
        for case in trajectory.PHOTOS
        for seed in (0, 1)
        for threshold, nfe, accuracy in ((0.5, 1.5, 0.7), (0.7, 2.5, 0.96), (0.95, 4.0, 0.99), (1.0, 4.0, 0.99))
    ]
    twice = [Stop(trajectory.PASSED_TWICE, 0, "blocks", at, n, 0.4 + at / 2) for n, at in enumerate((0.0, 0.5, 1.0))]
    read = [x for row in of_one for x in as_photographs(row)]
    stops = replace(stops, exits=tuple(exits), stops=(*read, *twice))
    rows = [row for row in inference.rows if row.case == ONE]
    other = [replace(row, seed=1, accuracy=row.accuracy - (0.01 if row.rtol else 0.0)) for row in rows]
    return stops, replace(inference, rows=tuple(x for row in (*rows, *other) for x in as_photographs(row)))


def test_the_numbers_of_photographs(photographs):
    runs = STUDIES["cifar10-modern"].runs()
    numbers = trajectory.photo_numbers(*photographs, runs)
    assert (numbers["n"], numbers["sure"], numbers["asked"]) == ("2", "0.7", "1,000")
    assert (numbers["small-exit-nfe"], numbers["small-full-nfe"], numbers["small-fixed-nfe"]) == ("2.5", "4", "3")
    assert (numbers["small-exit"], numbers["small-full"]) == ("96.0 (96.0 to 96.0)", "99.0 (99.0 to 99.0)")
    assert (numbers["best-at"], numbers["best-gain"]) == ("1", "+0.0 (+0.0 to +0.0)")
    # tight minus own: 99.00 − 98.901 and 98.00 − 98.901; RK4's is 99.00 in both
    assert numbers["small-tight-minus-own"].startswith("−0.40 (")
    assert numbers["assignment-tight-minus-own"].startswith("−0.50 (")
    assert numbers["small-own-moved"] == "0.5 (0.5 to 0.5)"
    assert (numbers["once"], numbers["twice"]) == ("65.0", "90.0")
    assert numbers["small-trained"] == summary.accuracy(runs["small"], digits=1)


def test_a_head_that_is_sure_of_photographs_is_news(photographs):
    stops, inference = photographs
    sure = tuple(replace(row, nfe=2.0) if row.threshold == trajectory.CAREFUL else row for row in stops.exits)
    with pytest.raises(ValueError, match="ends photographs at the threshold 0.95"):
        trajectory.photo_numbers(replace(stops, exits=sure), inference, STUDIES["cifar10-modern"].runs())


def test_the_rival_of_the_early_exit_takes_no_more_evaluations(stops, inference):
    """The exit takes two, and reads 97.5 %: a step of midpoint is as cheap, and better. RK4 would take four."""
    assert trajectory.rival(stops, inference) == (
        "midpoint, 1 step: 2 evaluations for every digit, and 98.90 % are read right, no fewer"
    )
    worse = tuple(replace(row, accuracy=0.9) if row.steps else row for row in inference.rows)
    assert trajectory.rival(stops, replace(inference, rows=worse)).endswith("90.00 % are read right, fewer")


def test_the_numbers_of_the_other_solvers(inference):
    numbers = trajectory.inference_numbers(inference)
    assert (numbers["tight-nfe"], numbers["loose-nfe"], numbers["cheapest-nfe"]) == ("50", "14", "2")
    assert (numbers["loose-moved"], numbers["euler-own"], numbers["euler-tight"]) == ("0.10", "90.00", "99.00")


def test_a_gradient_that_hides_is_named(robustness):
    assert attacks.masked(robustness)["pgd", 0.1] == {"loose adjoint": 0.75, "loose": 0.51, "tight": 0.5}
    assert attacks.masked_table(robustness)[1][0] == ["FGSM", "0.1", "75.0", "51.0", "50.0"]
    said = attacks.attack_numbers(robustness, 0.1)["hidden"]
    assert said.startswith("The largest gap is 25 points: PGD with budget 0.2, along the loose adjoint.")
    alike = replace(
        robustness,
        rows=tuple(replace(row, accuracy=0.5) if row.made == "loose adjoint" else row for row in robustness.rows),
    )
    assert attacks.hidden(alike).startswith("The three lie within two points")


def test_kinds_of_networks_are_compared_by_the_strongest_attack(robustness):
    assert attacks.kinds(robustness, 0.1) == {"ode": [0.5], "residual": [0.4], "none": [0.2]}
    said = attacks.attack_numbers(robustness, 0.1)
    assert said["ode"] == "50.0 % (n = 1)" and said["large"] == "20.0 to 50.0"
    assert said["apart"].startswith("With fewer than two networks of a kind")
    ode = [replace(row, seed=1) for row in robustness.rows if row.case == ONE]
    for lot, words in (
        ((0.3, 0.4), "Every attacked network with an ODE"),
        ((0.4, 0.5), "overlap"),
        ((0.6, 0.7), "Every residual"),
    ):
        residual = [
            replace(row, seed=n) for n, a in enumerate(lot) for row in made_up("resnet-1", ("own",), ("own",), (a,))
        ]
        none = [row for row in robustness.rows if row.case == "none"]
        rows = [row for row in robustness.rows if row.case == ONE] + ode + residual + none
        assert words in attacks.attack_numbers(replace(robustness, rows=tuple(rows)), 0.1)["apart"]


def test_the_table_of_attacks(robustness):
    header, rows = attacks.attack_table(robustness, 0.1)
    assert len(header) == len(rows[0])
    assert [row[0] for row in rows][:3] == [
        "dopri5, adjoint; tight solve",
        "dopri5, adjoint; loose solve",
        "1 residual block",
    ]
    assert rows[1][1:] == [1, "100.0", "95.0", "50.0", "51.0", "50.0"]


# Figures


def test_opinions_are_drawn_for_every_digit_and_class(sample):
    times = [0.0, 0.5, 1.0]
    probabilities = torch.full((3, 3, 10), 0.01)
    probabilities[:, :, 4] = 0.91
    figure = figures.opinions(sample.test.pick(slice(0, 3)), probabilities, times)
    drawn = [ax for ax in figure.axes if ax.get_title()]
    assert len(drawn) == 3 and all(len(ax.lines) == 10 for ax in drawn)
    assert [text.get_text() for text in drawn[0].get_legend().get_texts()] == ["4"]


def test_errors_by_time_are_those_of_the_record(stops):
    head, probe = figures.accuracy_by_time(stops).axes
    assert head.lines[0].get_ydata() == pytest.approx([80.5, 50.5, 4.5, 3.5, 1.5])
    assert probe.lines[0].get_ydata()[0] == pytest.approx(20)
    (across,) = [line for line in head.lines if line.get_linestyle() == ":"]
    assert list(across.get_ydata()) == pytest.approx([10, 10])


def test_a_single_network_is_hollow_and_several_are_not(stops, inference):
    one, resnet = figures.early_exits(stops, inference, [ONE, "resnet-6"]).axes
    assert len(one.lines) == 3 and len(resnet.lines) == 2  # a residual network takes no steps
    assert one.lines[0].get_markerfacecolor() != "white" == resnet.lines[0].get_markerfacecolor()
    assert one.lines[2].get_xdata().tolist() == [1, 2, 4]


def test_every_method_is_a_line(inference):
    left, _ = figures.cheaper_solves(inference, [ONE, OTHER]).axes
    assert [line.get_label() for line in left.lines] == ["dopri5", "euler", "midpoint", "rk4"]
    assert left.lines[0].get_xdata().tolist() == [50, 14]


def test_retrieval_is_drawn_both_ways(stops):
    (ax,) = figures.retrieval(stops).axes
    assert ax.lines[0].get_ydata()[0] == 50 and ax.lines[1].get_ydata()[0] == 30


def test_every_attack_is_a_mark(robustness):
    figure = figures.under_attack(robustness)
    assert len(figure.axes) == len(BUDGETS)
    marks = {line.get_marker() for line in figure.axes[1].lines}
    assert marks == {"|", "o", "s", "^", "D", "."}
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][-1] == "no block"


# What the page claims, in the records


@pytest.fixture(scope="module")
def measured():
    return [STUDY.measured(name) for name in ("stop-times", "inference", "robustness")]


def test_the_head_reads_most_digits_before_the_middle_and_a_probe_reads_more_at_the_start(measured):
    record, _, _ = measured
    head = {(row.seed, row.at): row.accuracy for row in trajectory.fine(record)[ONE]}
    for row in record.readings:
        if row.case == ONE and row.at == 0:
            assert row.probe > head[row.seed, 0.0] + 0.1
    assert float(trajectory.stop_numbers(record)["early"]) < 0.5


def test_the_head_of_a_network_of_one_euler_step_reads_most_before_the_end(measured):
    numbers = trajectory.stop_numbers(measured[0])
    assert float(numbers["euler-best-at"]) < 1


def test_a_stop_of_its_own_beats_one_stop_for_all(measured):
    exits, fixed = trajectory.exits_of(measured[0], ONE)
    for row in exits:
        if row.threshold == trajectory.CAREFUL:
            as_dear = [stop.accuracy for stop in fixed if stop.seed == row.seed and stop.nfe <= row.nfe]
            assert row.accuracy > max(as_dear)


def test_other_networks_are_sure_too_early(measured):
    numbers = trajectory.stop_numbers(measured[0])
    assert float(numbers["exit-least"]) < float(numbers["exit-most"]) - 1


def test_a_few_evaluations_are_enough_where_the_network_follows_the_flow(measured):
    _, record, _ = measured
    _, cheap = trajectory.cheapest(record, ONE)
    assert max(row.nfe for row in cheap) <= 4
    solvers = trajectory.by_solver(record, OTHER)
    tight = {row.seed: row.accuracy for row in next(iter(solvers.values()))}
    assert all(row.accuracy > tight[row.seed] + 0.01 for row in solvers["Euler, 1 step"])


def test_an_attack_does_more_than_noise_of_its_size(measured):
    _, _, record = measured
    for case, tested in attacks.readers(record):
        for budget in BUDGETS:
            left, noisy = (
                attacks.strongest(attacks.attacked(record, case, tested, name, budget)) for name in ("pgd", "noise")
            )
            assert max(left) < min(noisy)


@pytest.fixture(scope="module")
def of_photographs():
    return [STUDIES["cifar10-modern"].measured(name) for name in ("stop-times", "inference")]


def test_two_blocks_lose_accuracy_from_grid_to_grid_of_midpoint_steps_and_when_solved_tightly(of_photographs):
    solvers = trajectory.by_solver(of_photographs[1], "small")
    steps = [f"midpoint, {n} step{'s' * (n > 1)}" for n in (1, 2, 4, 8)]
    read = [summary.mean(row.accuracy for row in solvers[name]) for name in steps]
    tight = next(iter(solvers.values()))
    assert read == sorted(read, reverse=True) and read[-1] > summary.mean(row.accuracy for row in tight)
    assert all(one.accuracy > other.accuracy for one, other in zip(solvers["midpoint, 1 step"], tight))
    numbers = trajectory.photo_numbers(*of_photographs, STUDIES["cifar10-modern"].runs())
    assert re.fullmatch(r"−\d.\d\d \(−.* to −.*\)", numbers["small-tight-minus-own"])
    assert trajectory.cheapest(of_photographs[1], "small")[0] == "midpoint, 1 step"


def test_the_page_asks_for_the_numbers_of_photographs_that_there_are(of_photographs):
    page = (RESULTS.parent / "trajectory.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"{glue:text}`trajectory-photos-([^`]+)`", page))
    there = trajectory.photo_numbers(*of_photographs, STUDIES["cifar10-modern"].runs())
    assert asked == set(there)


def test_heads_of_photographs_read_along_the_way_and_probes_read_more_at_the_start(of_photographs):
    record, _ = of_photographs
    for case in trajectory.PHOTOS:
        head = trajectory.grouped(trajectory.fine(record)[case], "at")
        probes = trajectory.grouped((row for row in record.readings if row.case == case), "at")
        for seed in range(3):
            assert head[0.0][seed].accuracy + 0.2 < probes[0.0][seed].probe
            assert head[0.0][seed].accuracy + 0.3 < head[0.5][seed].accuracy
    small = trajectory.grouped(trajectory.fine(record)["small"], "at")
    trained = summary.at_the_end(STUDIES["cifar10-modern"].runs()["small"])
    assert max(summary.mean(row.accuracy for row in rows) for rows in small.values()) < trained
    readings = trajectory.grouped((row for row in record.readings if row.case == "small"), "at")
    assert all(half.symmetric < whole.symmetric for half, whole in zip(readings[0.5], readings[1.0]))
    best = float(trajectory.photo_numbers(*of_photographs, STUDIES["cifar10-modern"].runs())["best-at"])
    assert best < 1 and all(one.accuracy > end.accuracy for one, end in zip(small[best], small[1.0]))
    one_block = trajectory.grouped((row for row in record.readings if row.case == "assignment"), "at")
    assert all(half.symmetric < whole.symmetric - 0.05 for half, whole in zip(one_block[0.5], one_block[1.0]))
    ends = {
        case: [row.symmetric for row in record.readings if (row.case, row.at) == (case, 1.0)]
        for case in (*trajectory.PHOTOS, trajectory.PASSED_TWICE)
    }
    assert min(ends[trajectory.PASSED_TWICE]) > max(ends["assignment"] + ends["small"])


def test_with_one_block_a_stop_of_its_own_beats_one_stop_for_all_with_every_seed_and_with_two_with_most(of_photographs):
    """With two blocks it does so with two seeds of three."""
    gains = {}
    for case in trajectory.PHOTOS:
        exits, stops = trajectory.exits_of(of_photographs[0], case)
        early = trajectory.grouped(exits, "threshold")[trajectory.SURE]
        spent = summary.mean(row.nfe for row in early)
        fixed = trajectory.grouped(stops, "nfe")
        as_dear = fixed[min(nfe for nfe in fixed if nfe >= spent)]
        gains[case] = [one.accuracy - other.accuracy for one, other in zip(early, as_dear)]
    assert min(gains["assignment"]) > 0 and sum(gain > 0 for gain in gains["small"]) == 2


def test_early_exits_of_photographs_lose_little_and_their_own_step_is_cheaper(of_photographs):
    record, _ = of_photographs
    runs = STUDIES["cifar10-modern"].runs()
    for case, own in (("assignment", 4), ("small", 2)):
        early = trajectory.grouped(trajectory.exits_of(record, case)[0], "threshold")
        for sure, end in zip(early[trajectory.SURE], early[1.0]):
            assert abs(sure.accuracy - end.accuracy) < 0.005 and sure.nfe > own
        at_once, sure = summary.final(runs[case]), [row.accuracy for row in early[trajectory.SURE]]
        assert summary.mean(at_once) > summary.mean(sure)
        if case == "small":
            assert all(one > other for one, other in zip(at_once, sure))
        else:
            assert summary.mean(at_once) - summary.mean(sure) < 0.001
            for surer in (rows for threshold, rows in early.items() if threshold > trajectory.SURE):
                assert all(row.accuracy > one and row.nfe > own for row, one in zip(surer, at_once))


# What the page claims


def test_at_the_start_norm_and_relu_help_a_probe_more_than_twice_as_much_as_twice_the_digits():
    network, _ = load_weights(RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors")
    sample = load_dataset("mnist-sample")

    def right(n, *layers):
        read = torch.nn.Sequential(network.stem, *layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        with torch.no_grad():
            train, test = (read(images.float() / 255) for images in (sample.train.images[:n], sample.test.images))
        answers, _ = linear_probe(train, sample.train.labels[:n], test, 10)
        return (answers == sample.test.labels).float().mean().item()

    plain, more, activated = right(1000), right(2000), right(1000, *network.head[:2])
    assert activated - plain > 0.04 > 2 * (more - plain)


def test_a_network_of_one_euler_step_reads_most_with_its_own_step():
    record = STUDIES["mnist-gradients"].measured("inference")
    solvers = trajectory.by_solver(record, trajectory.NOT_A_FLOW)
    own = {row.seed: row.accuracy for row in solvers.pop("Euler, 1 step")}
    assert all(row.accuracy < own[row.seed] for rows in solvers.values() for row in rows)
