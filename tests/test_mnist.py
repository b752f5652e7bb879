"""The page on gradients: its tables and numbers are what they say, and what it claims holds in the stored records."""

import math
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from odelib.measurements.backward_tolerance import BackwardToleranceRow
from odelib.measurements.cross_solver import CrossTest
from odelib.measurements.gradient_error import GradientErrorRow
from odelib.measurements.loss_scale import LossScaleRow
from odelib.measurements.memory import SavedByBlock
from odelib.measurements.timing import StepTime
from odelib.measurements.work_precision import WorkPrecisionRow
from odelib.records import RESULTS
from odelib.studies import STUDIES, mnist, mnist_numbers
from odelib.studies.statistics import by_image, paired_seeds_interval
from odelib.studies.summary import at_the_end, only, standard_error

STUDY = STUDIES["mnist-gradients"]


@pytest.fixture(scope="module")
def measured():
    """What the numbers of the page are made of, in the order in which `mnist_numbers.numbers` wants it."""
    names = ("timing", "memory", "loss-scale", "gradient-error", "backward-tolerance", "work-precision", "cross-solver")
    return {name: STUDY.measured(name) for name in names}


@pytest.fixture(scope="module")
def numbers(runs, measured):
    return mnist_numbers.numbers(runs, *measured.values())


def seconds(median):
    """Seconds of five steps with this median; the quartiles lie half a second beside it."""
    return tuple(median + d for d in (-1.0, -0.5, 0.0, 0.5, 1.0))


def timed(timing, **medians):
    """A timing of ten steps an epoch: the median of a step by case, and NFE forward 3 where there is a block."""
    rows = (StepTime(case.replace("_", "-"), 3 * (case != "none"), 0, seconds(s)) for case, s in medians.items())
    return replace(timing, steps_per_epoch=10, rows=tuple(rows))


# Tables and numbers


def test_seconds_per_epoch_are_those_of_a_step_times_the_steps(measured):
    timing = timed(measured["timing"], direct_euler=2.0, none=1.0)
    assert mnist.seconds_per_epoch(timing) == {"direct-euler": (15.0, 20.0, 25.0), "none": (5.0, 10.0, 15.0)}


def test_every_case_has_its_column_in_the_figure_of_accuracies(runs):
    groups = mnist.by_solver(runs)
    assert sorted(case for cases in groups.values() for case in cases) == sorted(mnist.GRADIENTS.cases)
    for solver, method in (("dopri5", "dopri5"), ("RK4", "rk4"), ("Euler", "euler")):
        assert {run.config.method for found in groups[solver].values() for run in found} == {method}
    assert all(run.config.network != "odenet" for found in groups["no ODE"].values() for run in found)


def test_a_case_stands_with_its_accuracy_nfe_time_ratio_memory_and_size(runs, measured):
    def last(case, accuracy, forward):
        (run, *_) = runs[case]
        end = replace(run.last, test_accuracy=accuracy, train_accuracy=0.125, nfe_forward=forward, nfe_backward=2.0)
        return replace(run, metrics=(end,))

    made_up = {
        "direct-dopri5": [last("direct-dopri5", 0.5, 20.0), last("direct-dopri5", 0.75, 22.0)],
        "adjoint-rk4-4": [last("adjoint-rk4-4", 0.25, 16.0)],
        "resnet-1": [last("resnet-1", 1.0, 0.0)],
    }
    timing = timed(measured["timing"], direct_dopri5=2.0, adjoint_rk4_4=1.0, resnet_1=0.5)
    memory = replace(
        measured["memory"],
        rows=(
            SavedByBlock("dopri5", "direct", 1e-1, None, 14, 1_000_000, 1_000_000),
            SavedByBlock("dopri5", "direct", 1e-3, None, 26, 2_000_000, 2_000_000),
            SavedByBlock("rk4", "adjoint", 1e-3, 1.0, 4, 3_000_000, 3_000_000),
            SavedByBlock("rk4", "direct", 1e-3, 0.25, 16, 4_000_000, 4_000_000),
            SavedByBlock("rk4", "adjoint", 1e-3, 0.25, 16, 5_000_000, 5_000_000),
        ),
    )
    header, rows = mnist.case_table(made_up, timing, memory)
    same = "12.50 (12.50 to 12.50)"
    assert rows == [
        [
            "direct-dopri5",
            2,
            "62.50 (50.00 to 75.00)",
            same,
            "21 + 2",
            "20 (15 to 25)",
            "1.00",
            "2.0",
            "208,266",
        ],
        ["adjoint-rk4-4", 1, "25.00", "12.50", "16 + 2", "10 (5 to 15)", "0.50", "5.0", "208,266"],
        ["resnet-1", 1, "100.00", "12.50", "0 + 2", "5 (0 to 10)", "0.25", "-", "206,858"],
    ]
    assert len(header) == len(rows[0])


def test_the_table_of_the_study_has_all_cases(runs, measured):
    _, rows = mnist.case_table(runs, measured["timing"], measured["memory"])
    assert [row[0] for row in rows] == list(mnist.GRADIENTS.cases)
    assert [row[1] for row in rows] == [len(case.seeds) for case in mnist.GRADIENTS.cases.values()]
    assert [row[0] for row in rows if row[7] == "-"] == ["none", "resnet-1", "resnet-6"]


def test_errors_are_in_percent_and_a_direct_gradient_is_its_own(measured):
    made_up = (
        GradientErrorRow("direct-euler", 1, 0, 0.5, 0.75, 0.25, 0.5, 0.0, 1.0),
        GradientErrorRow("adjoint-euler", 1, 1, 1.5, -0.25, 0.125, 0.5, 1.25, 0.5),
    )
    header, rows = mnist.error_table(replace(measured["gradient-error"], rows=made_up))
    assert rows == [
        ["direct-euler", "50.0%", "0.750", "25.0%", "0"],
        ["adjoint-euler", "150.0%", "-0.250", "12.5%", "125.0%"],
    ]
    assert len(header) == len(rows[0])


def test_the_table_of_blocks_shows_parameters_and_accuracy(runs, numbers):
    header, rows = mnist.block_table(runs)
    assert rows[0] == ["none", "stem and head alone", "132,874", numbers["acc-none"], len(runs["none"])]
    assert rows[1][3] == numbers["acc-adjoint-euler"] and len(header) == len(rows[1])


def test_crossed_accuracies_are_those_of_all_networks_of_a_case(measured):
    tests = [("a", 0, "euler", 0.5), ("a", 0, "rk4", 0.25), ("a", 1, "euler", 1.0), ("a", 1, "rk4", 0.25)]
    cross = replace(measured["cross-solver"], rows=tuple(CrossTest(c, seed, s, 1.0, a) for c, seed, s, a in tests))
    assert mnist.crossed(cross) == {"a": {"euler": [50.0, 100.0], "rk4": [25.0, 25.0]}}
    header, rows = mnist.cross_table(cross)
    assert header == ["trained with", "euler", "rk4", "networks", "apart"]
    assert rows == [["a", "75.0", "25.0", 2, "50.0"]]
    alone = replace(cross, rows=tuple(row for row in cross.rows if row.seed == 0))
    assert mnist.cross_table(alone)[1] == [["a", "50.0", "25.0", 1, "–"]]


def test_kept_bytes_are_megabytes_by_nfe_in_order(measured):
    made_up = (
        SavedByBlock("dopri5", "direct", 1e-3, None, 26, 2_000_000, 2_000_000),
        SavedByBlock("dopri5", "direct", 1e-1, None, 14, 1_000_000, 1_000_000),
        SavedByBlock("euler", "direct", 1e-3, 1.0, 1, 500_000, 500_000),
        SavedByBlock("euler", "adjoint", 1e-3, 1.0, 1, 500_000, 500_000),
    )
    kept = mnist.kept_by_nfe(replace(measured["memory"], rows=made_up))
    assert kept == {
        "direct, dopri5": [(14, 1.0), (26, 2.0)],
        "direct, rk4": [],
        "direct, euler": [(1, 0.5)],
        "adjoint, dopri5": [],
    }


def test_the_page_asks_for_numbers_that_there_are(numbers):
    page = (RESULTS.parent / "adjoint-vs-direct.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"{glue:text}`adjoint-vs-direct-([^`]+)`", page))
    assert asked <= set(numbers)
    assert {
        name
        for name in set(numbers) - asked
        if not name.startswith(("acc-", "time-", "train-", "seeds-", "gap-", "wrong-"))
    } == set()


def test_numbers_of_the_times_are_ratios_of_medians(runs, measured):
    medians = {"direct_dopri5": 5.0, "adjoint_dopri5": 7.0, "direct_rk4": 4.0, "adjoint_rk4": 5.0, "none": 1.0}
    timing = timed(measured["timing"], direct_euler=2.0, adjoint_euler=3.0, **medians)
    found = mnist_numbers.numbers(runs, timing, *list(measured.values())[1:])
    assert (found["time-adjoint-dopri5"], found["time-none"], found["rounds"]) == ("70", "10", "5")
    assert (found["ratio-adjoint-dopri5"], found["net-ratio"]) == ("1.40", "1.50")
    assert (found["rk4-premium"], found["euler-premium"]) == ("1.25", "1.50")


def test_numbers_of_the_memory_are_those_of_tolerance_1e_3_and_the_slope_between_the_others(runs, measured):
    rows = [
        SavedByBlock("dopri5", gradient, rtol, None, nfe, kept, kept + 1_000_000)
        for gradient, rtol, nfe, kept in [
            ("direct", 1e-1, 14, 140_000_000),
            ("direct", 1e-3, 26, 360_000_000),
            ("direct", 1e-5, 50, 500_000_000),
            ("adjoint", 1e-3, 26, 2_500_000),
        ]
    ]
    for gradient in ("direct", "adjoint"):
        for method, kept in (("rk4", 3_000_000), ("euler", 2_000_000)):
            rows.append(SavedByBlock(method, gradient, 1e-3, 1.0, 1, kept, kept))
    memory = replace(measured["memory"], state_bytes=1_250_000, evaluation_bytes=7_500_000, rows=tuple(rows))
    timing, _, *others = measured.values()
    found = mnist_numbers.numbers(runs, timing, memory, *others)
    assert (found["kept-direct-dopri5"], found["kept-adjoint-dopri5"], found["memory-nfe"]) == ("360", "2.5", "26")
    assert (found["kept-adjoint-rk4"], found["peak-direct"], found["states-evaluation"]) == ("3.0", "361", "6.0")
    assert (found["mb-state"], found["mb-evaluation"], found["mb-slope"]) == ("1.25", "7.5", "10.0")
    assert found["gigabytes-imagenet"] == f"{0.36 * 55 * 55 / 36:.0f}"


def test_numbers_of_the_scale_are_those_at_one_at_the_top_and_within_two_percent(runs, measured):
    rows = [
        LossScaleRow("adjoint", 1.0, 1e-5, 20, 22, 0.08, 0.0),
        LossScaleRow("adjoint", 10.0, 1e-4, 20, 40, 0.02, 0.0),
        LossScaleRow("adjoint", 100.0, 1e-3, 20, 80, 0.01, 0.0),
        LossScaleRow("seminorm", 1.0, 1e-5, 20, 22, 0.08, 0.0),
        LossScaleRow("seminorm", 10.0, 1e-4, 20, 50, 0.03, 0.0),
        LossScaleRow("seminorm", 100.0, 1e-3, 20, 60, 0.015, 0.0),
    ]
    scale = replace(measured["loss-scale"], images=8, tolerance=1e-3, direct_theta_error=0.05, rows=tuple(rows))
    timing, memory, _, *others = measured.values()
    found = mnist_numbers.numbers(runs, timing, memory, scale, *others)
    expected = {
        "rms": "1.0e-05",
        "below": "100",
        "forward": "20",
        "one": "22",
        "images": "8",
        "top-adjoint": "80",
        "top-error-adjoint": "1.0%",
        "equal-adjoint": "40",
        "top-seminorm": "60",
        "top-error-seminorm": "1.5%",
        "equal-seminorm": "60",
        "saving": "25%",
    }
    assert {name: found[f"scale-{name}"] for name in expected} == expected


def trained(run, seed, accuracy):
    return replace(run, config=replace(run.config, seed=seed), metrics=(replace(run.last, test_accuracy=accuracy),))


def test_paired_accuracies_are_paired_by_the_seeds_that_both_gradients_have(runs):
    (run, *_) = runs["direct-dopri5"]
    made_up = {
        f"{gradient}-{solver}": [trained(run, 0, 0.5)] for gradient in mnist.GRADIENT for solver in mnist.SOLVERS
    }
    made_up["direct-rk4"] = [trained(run, seed, a) for seed, a in ((0, 0.5), (1, 0.75), (3, 0.875))]
    made_up["adjoint-rk4"] = [trained(run, seed, a) for seed, a in ((1, 0.5), (2, 1.0), (3, 0.75))]
    assert mnist.paired_accuracies(made_up)["rk4"] == ([75.0, 87.5], [50.0, 75.0])


def test_a_difference_is_paired_and_has_an_interval_where_there_are_seeds():
    assert mnist.difference([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == "+2.00 (−0.48 to +4.48)"  # t of 2 degrees: 4.303
    assert mnist.difference([1.0], [1.5]) == "−0.50 (one seed)"


def test_doses_stand_in_their_order(runs, measured):
    _, rows = mnist.dose_table(runs, measured["gradient-error"])
    assert sorted(row[0] for row in rows) == sorted(mnist.SOLVERS.values())
    doses = [float(row[1][:-1]) for row in rows]
    assert doses == sorted(doses) and rows[-1][0] == "Euler, one step"
    for place, name in ((2, "test_accuracy"), (3, "train_accuracy")):
        direct, adjoint = mnist.paired_accuracies(runs, name)["euler"]
        assert rows[-1][place] == mnist.difference(adjoint, direct)


BACKWARD = [
    BackwardToleranceRow(rtol, share, batch, 20, nfe, error + 0.01 * batch, error)
    for rtol, share, nfe, error in [
        (None, None, 0, 0.05),
        (1e-3, None, 20, 0.08),
        (1e-4, None, 30, 0.04),
        (1e-3, 1.0, 40, 0.04),
        (1e-3, 1e-3, 100, 0.01),
    ]
    for batch in (0, 1)
]


def test_the_adjoint_costs_what_its_evaluations_do_and_is_as_good_as_direct_from_some_tolerance_on(measured):
    record = replace(measured["backward-tolerance"], rows=tuple(BACKWARD))
    _, rows = mnist.backward_table(record)
    assert rows[0] == ["direct", "0", "5.5 (5.0 to 6.0) %", "5.0 (5.0 to 5.0) %", "1.00"]
    assert [row[0] for row in rows[1:]] == [
        "rtol = atol = 0.001",
        "rtol = atol = 0.0001",
        "atol = 1 rms(a)",
        "atol = 0.001 rms(a)",
    ]
    assert [row[-1] for row in rows[1:]] == [f"{(20 + 3 * m) / 60:.2f}" for m in (20, 30, 40, 100)]
    assert {row.rtol for row in mnist.as_close_as_direct(record, "theta_error")} == {1e-4}
    (far, *others) = (replace(row, state_error=row.state_error + 0.1 * (row.rtol == 1e-4)) for row in BACKWARD)
    both = mnist.as_close_as_direct(replace(record, rows=(far, *others)), "theta_error", "state_error")
    assert {(row.rtol, row.share) for row in both} == {(1e-3, 1.0)}
    hopeless = [row for row in BACKWARD if row.rtol is None or row.nfe_backward == 20]
    with pytest.raises(ValueError):
        mnist.as_close_as_direct(replace(record, rows=tuple(hopeless)), "theta_error")


def test_the_closest_gradient_is_the_least_mean_error_within_the_budget(measured):
    rows = [
        WorkPrecisionRow("odelib", "bosh3", 1e-3, None, batch, nfe, error, 0.0)
        for batch, nfe, error in ((0, 14, 0.03), (1, 18, 0.01))
    ]
    rows += [WorkPrecisionRow("odelib", "bosh3", 1e-2, None, batch, 11, 0.05, 0.0) for batch in (0, 1)]
    rows += [WorkPrecisionRow("torchdiffeq", "rk4", None, 1, 0, 4, 0.2, 0.0)]
    record = replace(measured["work-precision"], rows=tuple(rows))
    assert mnist.closest(record, 16, adaptive=True) == ("bosh3 of odelib at tolerance 0.001", 16, 0.02)
    assert mnist.closest(record, 15, adaptive=True) == ("bosh3 of odelib at tolerance 0.01", 11, 0.05)
    assert mnist.closest(record, 15, adaptive=False) == ("rk4 of torchdiffeq in 1 step", 4, 0.2)


# What the page claims


def test_nothing_is_missing():
    assert STUDY.missing() == []


def test_only_two_cases_differ_from_the_others_by_more_than_chance(runs):
    """The network without a block, and one Euler step with the adjoint; the others lie within three standard errors."""
    accuracies = {case: at_the_end(found) for case, found in runs.items()}
    low = {case: accuracies.pop(case) for case in ("none", "adjoint-euler")}
    error = standard_error(accuracies["direct-dopri5"])
    assert max(accuracies.values()) - min(accuracies.values()) < 3 * error
    assert all(value < min(accuracies.values()) - 2 * error for value in low.values())
    assert low["none"] < low["adjoint-euler"]


def test_a_wrong_gradient_costs_nothing_that_could_be_seen_but_for_one_euler_step(runs):
    for solver, (direct, adjoint) in mnist.paired_accuracies(runs).items():
        lost = sum(direct) / len(direct) - sum(adjoint) / len(adjoint)
        assert (lost > 0.25) if solver == "euler" else (abs(lost) < 0.15)
    direct, adjoint = mnist.paired_accuracies(runs)["euler"]
    assert max(adjoint) < min(direct)


def test_four_euler_steps_lose_training_images_by_the_adjoint_and_better_solvers_do_not(runs, measured):
    """With every seed; lost are about as many as if the price grew with the square of the error."""
    gap = {row.case: row.theta_gap for row in measured["gradient-error"].rows}
    pairs = mnist.paired_accuracies(runs, "train_accuracy")
    lost = {solver: paired_seeds_interval(*pair) for solver, pair in pairs.items()}
    assert all(adjoint < direct for direct, adjoint in zip(*pairs["euler-4"]))
    assert lost["euler-4"][1] > 0 and lost["euler"][1] > 0
    assert all(lost[solver][1] < 0 < lost[solver][2] for solver in ("dopri5", "rk4"))
    square = lost["euler"][0] * (gap["adjoint-euler-4"] / gap["adjoint-euler"]) ** 2
    assert 0.5 < square / lost["euler-4"][0] < 2


def test_the_adjoint_is_slower(measured):
    """In the median, and in most rounds, in which the two were timed one after the other."""
    seconds = {row.case: row.seconds for row in measured["timing"].rows}
    for solver in mnist.SOLVERS:
        adjoint, direct = (seconds[f"{gradient}-{solver}"] for gradient in ("adjoint", "direct"))
        assert sorted(adjoint)[len(adjoint) // 2] > sorted(direct)[len(direct) // 2]
        assert sum(a > d for a, d in zip(adjoint, direct)) > 0.6 * len(adjoint)


def test_the_solver_sets_the_time(measured):
    median = {case: s for case, (_, s, _) in mnist.seconds_per_epoch(measured["timing"]).items()}
    dopri5 = [s for case, s in median.items() if "dopri5" in case]
    assert min(dopri5) > max(s for case, s in median.items() if "dopri5" not in case)
    assert max(median[f"{gradient}-{method}"] for gradient in ("direct", "adjoint") for method in ("rk4", "euler")) < (
        min(dopri5) / 3
    )


def test_the_adjoint_costs_more_than_the_count_of_evaluations_and_least_where_stem_and_head_dominate(numbers):
    assert float(numbers["net-ratio"]) > 4 / 3
    assert 1 < float(numbers["euler-premium"]) < float(numbers["rk4-premium"])


def test_direct_memory_grows_by_the_same_amount_with_each_evaluation_and_that_of_the_adjoint_not_at_all(measured):
    memory = measured["memory"]
    kept = mnist.kept_by_nfe(memory)
    assert {row.kept for row in memory.rows if row.gradient != "direct"} == {2 * memory.state_bytes + 8}
    for name in ("direct, dopri5", "direct, rk4", "direct, euler"):
        slopes = [(b - a) / (m - n) for (n, a), (m, b) in pairwise(kept[name])]
        a_stage = (memory.evaluation_bytes + memory.state_bytes) / 1e6
        assert min(slopes) == pytest.approx(max(slopes), rel=1e-3) == pytest.approx(a_stage, rel=0.01)
    at = {name: dict(points) for name, points in kept.items()}
    assert at["direct, rk4"][16] == pytest.approx(at["direct, euler"][16], rel=1e-3)
    assert at["direct, dopri5"][32] > at["direct, rk4"][32]


def test_nfe_backward_equals_nfe_forward_and_the_seminorm_saves_none_of_it(runs):
    for case in ("adjoint-dopri5", "seminorm-dopri5"):
        for run in runs[case]:
            assert run.last.nfe_backward == pytest.approx(run.last.nfe_forward, rel=0.02)
    plain, seminorm = (at_the_end(runs[f"{way}-dopri5"], "nfe_backward") for way in ("adjoint", "seminorm"))
    assert seminorm == pytest.approx(plain, rel=0.02)


def test_the_backward_solve_begins_to_work_when_the_adjoint_reaches_the_tolerance(measured):
    scale = measured["loss-scale"]
    for gradient in ("adjoint", "seminorm"):
        rows = [row for row in scale.rows if row.gradient == gradient]
        asleep = [row for row in rows if row.adjoint_rms < scale.tolerance / 10]
        assert len(asleep) > 3 and all(row.nfe_backward == row.nfe_forward for row in asleep)
        assert rows[-1].nfe_backward > 4 * rows[-1].nfe_forward
        assert max(row.theta_error for row in rows[-3:]) < min(row.theta_error for row in asleep) / 4
    assert only(scale.rows, gradient="adjoint", scale=1).adjoint_rms < scale.tolerance / 100
    assert only(scale.rows, gradient="adjoint", scale=1).theta_error > scale.direct_theta_error


def test_the_seminorm_needs_more_evaluations_for_the_same_error(numbers):
    assert int(numbers["scale-equal-seminorm"]) > int(numbers["scale-equal-adjoint"])
    assert int(numbers["scale-top-seminorm"]) < int(numbers["scale-top-adjoint"])
    assert float(numbers["scale-top-error-seminorm"][:-1]) > float(numbers["scale-top-error-adjoint"][:-1])


def test_six_blocks_are_not_told_apart_from_the_flow(runs, numbers):
    six, flow = ([100 * run.last.test_accuracy for run in runs[case]] for case in ("resnet-6", "direct-dopri5"))
    _, low, high = paired_seeds_interval(six, flow)
    assert low < 0 < high and numbers["six-blocks"] == mnist.difference(six, flow)


def test_one_euler_step_is_ahead_of_one_step_of_rk4_and_of_every_mean_with_an_ode_but_not_told_from_a_block(runs):
    accuracy = {case: [100 * run.last.test_accuracy for run in found] for case, found in runs.items()}
    _, low, high = paired_seeds_interval(accuracy["direct-euler"], accuracy["direct-rk4"])
    assert 0 < low < high < 0.2
    _, low, high = paired_seeds_interval(accuracy["direct-euler"], accuracy["resnet-1"])
    assert low < 0 < high
    means = {case: sum(found) / len(found) for case, found in accuracy.items() if not case.startswith("resnet")}
    assert max(means, key=means.get) == "direct-euler"


def test_image_by_image_the_adjoint_of_one_euler_step_loses_with_every_seed(runs):
    assert all(high < 0 for _, _, high in by_image(runs["adjoint-euler"], runs["direct-euler"]))


def test_more_steps_or_a_better_method_close_the_gap_to_the_direct_gradient(measured):
    gap = {row.case: row.theta_gap for row in measured["gradient-error"].rows}
    assert gap["adjoint-euler"] > 1 > gap["adjoint-euler-4"] > gap["adjoint-rk4"] > gap["adjoint-rk4-4"] > 0
    assert all(gap[case] == 0 for case in gap if case.startswith("direct"))


def test_the_adjoint_of_one_euler_step_still_leads_downhill(measured):
    angle = math.acos(only(measured["gradient-error"].rows, case="adjoint-euler").theta_cosine)
    assert 0 < angle < math.pi / 2


def test_flows_keep_their_accuracy_under_a_better_solver_and_a_residual_block_does_not(measured):
    found = {
        case: {solver: sum(values) / len(values) for solver, values in tests.items()}
        for case, tests in mnist.crossed(measured["cross-solver"]).items()
    }
    drop = {case: tests["euler, 1 step"] - tests["dopri5, 1e-5"] for case, tests in found.items()}
    flows = set(found) - {"direct-euler", "adjoint-euler"}
    assert flows >= {"adjoint-dopri5", "adjoint-rk4", "direct-rk4"}
    for case in flows:
        assert found[case]["dopri5, 1e-5"] > 99.2 and drop[case] < 0
    assert drop["direct-euler"] > 10 and 0 < drop["adjoint-euler"] < drop["direct-euler"]
    assert found["adjoint-euler"]["euler, 1 step"] < found["direct-euler"]["euler, 1 step"]


def test_within_16_evaluations_no_adaptive_method_is_closer_than_the_best_fixed_grid(measured):
    adaptive, fixed = (mnist.closest(measured["work-precision"], 16, adaptive=a)[2] for a in (True, False))
    assert fixed < adaptive


def test_as_good_as_direct_the_adjoint_costs_more_than_at_the_forward_tolerance(measured):
    record = measured["backward-tolerance"]
    rows = mnist.by_setting(record)
    theta, both = (mnist.as_close_as_direct(record, *e) for e in (("theta_error",), ("theta_error", "state_error")))
    assert mnist.cost(both) > mnist.cost(theta) > mnist.cost(rows[1e-3, None])


def test_a_backward_tolerance_in_units_of_the_adjoint_is_as_good_as_a_plain_one_at_equal_evaluations(measured):
    rows = mnist.by_setting(measured["backward-tolerance"])
    points = {
        key: [np.log(np.mean([getattr(r, name) for r in found])) for name in ("nfe_backward", "theta_error")]
        for key, found in rows.items()
        if key[0]
    }
    plain = sorted(point for key, point in points.items() if key[1] is None)
    for key, (nfe, error) in points.items():
        if key[1] and nfe <= plain[-1][0]:
            assert abs(error - np.interp(nfe, *zip(*plain))) < np.log(1.25)


def test_the_advice_of_a_tenth_to_a_hundredth_of_the_forward_tolerance_is_as_close_as_the_direct_gradient(measured):
    record = measured["backward-tolerance"]
    for errors, share in ((("theta_error",), 10), (("theta_error", "state_error"), 100)):
        (row, *_) = mnist.as_close_as_direct(record, *errors)
        assert row.share is None and row.rtol == pytest.approx(record.forward / share)


@pytest.mark.parametrize("most", [8, 12, 16])
def test_a_fixed_grid_of_order_three_or_four_is_closest_at_this_budget(measured, most):
    (_, _, adaptive), (name, nfe, fixed) = (mnist.closest(measured["work-precision"], most, a) for a in (True, False))
    assert fixed < adaptive and nfe == most and name.startswith(("rk4", "ralston3"))


@pytest.mark.parametrize("method", ["dopri5", "tsit5", "dopri8"])
def test_bosh3_is_closer_than_an_adaptive_method_of_order_five_or_eight_that_takes_as_many_evaluations(
    measured, method
):
    record = measured["work-precision"]
    bosh3 = replace(record, rows=tuple(row for row in record.rows if row.method == "bosh3"))
    for most in {row.nfe for row in record.rows if row.method == method}:
        other = replace(record, rows=tuple(row for row in record.rows if row.method == method))
        assert mnist.closest(bosh3, most, adaptive=True)[2] < mnist.closest(other, most, adaptive=True)[2]


def test_arrows_of_the_chart_point_to_longer_epochs_and_that_of_one_euler_step_ends_highest_in_training(runs, measured):
    seconds = mnist.seconds_per_epoch(measured["timing"])
    for solver in mnist.SOLVERS:
        if f"direct-{solver}" in seconds:
            assert seconds[f"adjoint-{solver}"][1] > seconds[f"direct-{solver}"][1]
    training = {case: at_the_end(found, "train_accuracy") for case, found in runs.items()}
    assert min(training, key=training.get) == "adjoint-euler"
    assert min(runs, key=lambda case: at_the_end(runs[case])) == "none"


def test_one_euler_step_holds_more_at_its_peak_with_the_adjoint(measured):
    direct, adjoint = (
        only(measured["memory"].rows, method="euler", gradient=way, step_size=1.0) for way in ("direct", "adjoint")
    )
    assert adjoint.kept < direct.kept and adjoint.peak > direct.peak


def test_the_adjoint_of_one_euler_step_points_less_than_90_degrees_from_the_direct_gradient(measured):
    assert 0 < only(measured["gradient-error"].rows, case="adjoint-euler").theta_gap_cosine < 1
