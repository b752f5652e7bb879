"""The page on speed: its tables and numbers are what they say, and what it claims holds in the stored records."""

import re
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from odelib.measurements.benchmark import (
    CASES,
    SCRIPT,
    SCRIPT_ADJOINT,
    BareEvaluation,
    Benchmark,
    BenchmarkRow,
    LibraryRow,
)
from odelib.measurements.sizes import SizeRow
from odelib.records import RESULTS
from odelib.studies import STUDIES, machines, savings, speed
from odelib.studies.savings import FAST, FAST_BF16, FAST_STEM, GRID, LEAN, LEAN_BF16, WARM, Goal
from odelib.studies.summary import at_the_end, only

STUDY = STUDIES["speed"]


@pytest.fixture(scope="module")
def one():
    return Benchmark.load(RESULTS / "benchmark" / "odenet-mnist-1-thread.json")


@pytest.fixture(scope="module")
def two():
    return Benchmark.load(RESULTS / "benchmark" / "odenet-mnist-2-threads.json")


@pytest.fixture(scope="module")
def plain():
    return Benchmark.load(RESULTS / "benchmark" / "odenet-mnist-avx2.json")


@pytest.fixture(scope="module")
def gpu():
    return Benchmark.load(RESULTS / "benchmark" / "odenet-mnist-h200.json")


def row(case, milliseconds=1.0, error=0.25, floor=0.5, megabytes=1.0):
    """A row with this median, and quartiles that are a quarter of a millisecond smaller and larger."""
    seconds = tuple((milliseconds + d) / 1e3 for d in (-0.5, -0.25, 0.0, 0.25, 0.5))
    return BenchmarkRow(case, 6.0, 4.0, seconds, floor / 1e3, round(1e6 * megabytes), error, 0.0)


def with_rows(benchmark, *rows):
    """The benchmark with these rows, and others for the cases that they leave out."""
    given = {row.case: row for row in rows}
    return replace(benchmark, rows=tuple(given.get(case, row(case)) for case in CASES))


# The profile


def test_operations_are_sorted_by_what_they_are_for():
    times = {
        "aten::mkldnn_convolution": 400,
        "aten::bmm": 500,
        "aten::mm": 100,
        "aten::convolution_backward": 2000,
        "aten::native_group_norm": 3000,
        "aten::threshold_backward": 4000,
        "aten::mul": 5000,
        "aten::copy_": 6000,
        "aten::empty": 7000,
    }
    events = [SimpleNamespace(key=key, self_cpu_time_total=microseconds) for key, microseconds in times.items()]
    spent = savings.milliseconds_by_kind(events)
    assert spent == {"convolutions, products": 3, "GroupNorm, ReLU": 7, "sums and copies": 11, "everything else": 7}


def test_the_profile_is_shown_as_a_table_and_bars():
    kinds = list(savings.OPERATIONS)
    spent = {"slow": dict(zip(kinds, (1.0, 2.0, 6.0, 1.0))), "quick": dict(zip(kinds, (6.0, 2.0, 1.0, 1.0)))}
    header, rows = savings.profile_table(spent)
    assert header == ["operations", "slow", "quick"] and rows[2] == ["sums and copies", "6 ms", "1 ms"]
    assert savings.profile_parts(spent)["convolutions, products"] == {"slow": 1.0, "quick": 6.0}


# The benchmark


def test_savings_are_ratios_of_medians_to_the_script(one):
    made_up = with_rows(one, row(SCRIPT, 4.0, floor=2.0, error=0.5), row(WARM, 2.0, floor=1.6, error=0.125))
    header, rows = savings.saving_table(made_up)
    assert len(rows) == len(savings.SAVINGS) == 9 and {len(cells) for cells in rows} == {len(header)}
    assert rows[0][1:] == ["6.0", "4 (4 to 4)", "2.00", "1.00", "0.500"]
    assert rows[4] == ["+ warm start", "6.0", "2 (2 to 2)", "1.25", "2.00", "0.125"]
    assert savings.saving_quartiles(made_up)[savings.SAVINGS[WARM]] == pytest.approx((1.75, 2.0, 2.25))


def test_a_bar_is_its_floor_and_the_rest_of_the_median_and_never_less_than_nothing(one):
    made_up = with_rows(one, row(SCRIPT, 4.0, floor=2.5), row(FAST, 2.0, floor=3.0))
    parts = savings.saving_parts(made_up)
    script, fast = savings.SAVINGS[SCRIPT], savings.SAVINGS[FAST]
    assert (parts["floor"][script], parts["the rest"][script]) == pytest.approx((2.5, 1.5))
    assert (parts["floor"][fast], parts["the rest"][fast]) == pytest.approx((2.0, 0.0))


def test_gradients_stand_with_their_evaluations_time_and_memory(one):
    header, rows = savings.gradient_table(with_rows(one, row(LEAN, 4.0, floor=2.0, megabytes=12.0)))
    assert rows[11] == [LEAN, "6.0 + 4.0", "4", "2.00", "12", "0.250"] and len(rows) == 13 and len(header) == 6


def test_time_stands_against_memory_by_library_and_gradient_in_32_bit(one):
    cases = ["odelib direct", "odelib direct, bf16", "odelib direct, bosh3", SCRIPT, "odelib checkpoint"]
    made_up = replace(one, rows=tuple(row(case, n, megabytes=10.0 * n) for n, case in enumerate(cases, start=1)))
    points = savings.time_by_memory(made_up)
    assert points["odelib"]["direct"] == [(10.0, pytest.approx(1.0)), (30.0, pytest.approx(3.0))]
    assert points["torchdiffeq"] == {"direct": [(40.0, pytest.approx(4.0))]}
    assert list(points["odelib"]) == ["direct", "checkpoint"]


def test_evaluations_and_libraries_are_in_milliseconds_the_fastest_library_first(one):
    bare = (BareEvaluation("fp32", (0.002,), (0.006,)), BareEvaluation("channels last", (0.003,), (0.0071,)))
    libraries = (LibraryRow("slow 1", 26, (0.4, 0.5, 0.6), 0.25, 0.0), LibraryRow("quick 2", 20, (0.2,), 0.5, 0.0))
    made_up = replace(one, bare=bare, libraries=libraries)
    assert savings.evaluation_table(made_up)[1] == [
        ["as usual", "2.0", "6.0"],
        ["channels last in memory", "3.0", "7.1"],
    ]
    assert savings.library_table(made_up)[1] == [
        ["quick 2", 20, "200 (200 to 200)", "0.500"],
        ["slow 1", 26, "500 (450 to 550)", "0.250"],
    ]


def test_errors_stand_against_evaluations_adaptive_and_on_a_grid(one):
    cases = ["odelib direct", "odelib direct, bf16", GRID, SCRIPT, "odelib checkpoint"]
    points = savings.error_by_nfe(replace(one, rows=tuple(row(case, error=0.5) for case in cases)))
    assert points == {"adaptive": {"steps": [(6.0, 0.5), (6.0, 0.5)]}, "fixed": {"grid": [(6.0, 0.5)]}}


def test_a_gain_counts_only_with_gradients_that_are_no_worse(one):
    wrong = row("odelib direct, tsit5", 1.0, error=0.6)
    wrong_state = replace(row("odelib direct, bosh3", 1.0, error=0.1), state_error=0.9)
    short = row(FAST_BF16, 1.0, error=0.1)
    honest = row("odelib direct", 2.0, error=0.5)
    others = [row(case, 9.0) for case in CASES if case.startswith("odelib direct")]
    made_up = with_rows(one, *others, row(SCRIPT, 8.0, error=0.5), wrong, wrong_state, short, honest)
    assert savings.gain(made_up, SCRIPT, ["direct"]) == pytest.approx(4.0)
    assert savings.gain(made_up, SCRIPT, ["direct"], short=True) == pytest.approx(8.0)


def size(n, channels, plain=3.0, products=1.0):
    return SizeRow(n, channels, 2, (plain,), (products,), (4 * plain,), (8 * products,), 2e-7, 3e-6)


def test_sizes_stand_with_errors_and_times_on_one_thread_and_on_two(one, two):
    first, second = replace(one, sizes=(size(6, 64),)), replace(two, sizes=(size(6, 64, 4.0),))
    header, rows = savings.size_table(first, second)
    assert rows == [["6 × 6, 64", 4, "2e-07", "3e-06", "3.00, 4.00", "1.50, 2.00"]] and len(header) == 6


def test_what_a_second_thread_brings_is_a_ratio(one):
    bare = (BareEvaluation("fp32", (1.0,), (0.004,)), BareEvaluation("products", (1.0,), (0.002,)))
    first = replace(with_rows(one, row(SCRIPT, 8.0), row(GRID, 4.0), row(FAST, 3.0)), bare=bare, without_block=(0.006,))
    first = replace(first, machine_flops=(2 * 1024**3 / 0.02,))
    second = replace(with_rows(one, row(SCRIPT, 4.0), row(FAST, 2.0)), bare=bare, without_block=(0.004,))
    second = replace(second, machine_flops=(2 * 1024**3 / 0.01,))
    assert [cells[1:] for cells in savings.thread_table(first, second)[1]] == [
        ["20.0", "10.0", "2.00"],
        ["4.0", "4.0", "1.00"],
        ["2.0", "2.0", "1.00"],
        ["6.0", "4.0", "1.50"],
        ["8.0", "4.0", "2.00"],
        ["4.0", "1.0", "4.00"],
        ["3.0", "2.0", "1.50"],
    ]


def test_goals_are_compared_on_one_thread_and_on_two(one, two):
    sizes = (size(7, 64), size(8, 128), size(16, 64))
    bare = (BareEvaluation("fp32", (1.0,), (0.004,)), BareEvaluation("products", (1.0,), (0.002,)))
    first = replace(with_rows(one, row(SCRIPT, 8.0), row(SCRIPT_ADJOINT, 6.0)), sizes=sizes, bare=bare)
    second = replace(with_rows(one, row(SCRIPT, 4.0), row(SCRIPT_ADJOINT, 3.5)), sizes=sizes, bare=bare)
    expected = [(8, 4), (8, 4), (6, 3.5), (2, 2), (3, 3), (3, 3), (3, 3), (1.5, 1.5), (1.5, 1.5), (7,)]
    for goal, values in zip(savings.goals(first, second, race=7.0), expected, strict=True):
        assert goal.values == pytest.approx(values), goal.name
    header, rows = savings.goal_table(first, second, race=7.0)
    assert {len(cells) for cells in rows} == {len(header)}
    assert rows[0][1:] == ["8.00 (aim)", "4.00 (aim)", "3.2 / 3", "4"]
    assert rows[-1][1:] == ["7.00 (missed)", "–", "8", "12"]


def test_goals_that_were_missed_are_counted_and_which_of_them_are_of_products(one, two):
    sizes = (size(7, 64), size(8, 128), size(16, 64, 1.0))
    bare = (BareEvaluation("fp32", (1.0,), (0.004,)), BareEvaluation("products", (1.0,), (0.002,)))
    rows = (row(SCRIPT, 8.0), row(SCRIPT_ADJOINT, 6.0))
    first, second = (replace(with_rows(b, *rows), sizes=sizes, bare=bare) for b in (one, two))
    found = savings.goal_numbers(first, second, race=7.0)
    assert found == {"goals": "10", "missed": "3", "missed-products": "2 of them"}  # the maps of 16 x 16, and the race
    found = savings.goal_numbers(first, second, race=8.0)
    assert (found["missed"], found["missed-products"]) == ("2", "all of them")


def test_a_goal_says_whether_bar_or_aim_were_reached():
    assert Goal("", (1.0, 2.0), (1.5, 1.5), 3.0).cells() == ["", "1.00 (missed)", "2.00 (bar)", "1.5", "3"]
    assert Goal("", (3.0,), (1.5,), 3.0).cells() == ["", "3.00 (aim)", "–", "1.5", "3"]


def test_numbers_of_the_benchmark_are_ratios_and_shares(one, two):
    made_up = with_rows(
        one,
        row(SCRIPT, 12.0),
        row("torchdiffeq direct", 8.0),
        row("odelib direct", 4.0, floor=3.2, megabytes=8.0),
        row("odelib direct, bosh3", 3.0),
        row(WARM, 2.5),
        row(GRID, 2.25),
        row(FAST, 2.0, floor=1.5, megabytes=4.0),
        row(FAST_BF16, 1.0),
        row(FAST_STEM, 1.0),
        row(SCRIPT_ADJOINT, 9.0),
        row(LEAN, 3.0, megabytes=1.0),
        row(LEAN_BF16, 2.0, floor=0.125),
        row("odelib checkpoint", megabytes=2.0),
        row("odelib direct, warm start", error=0.375),
    )
    bare = (BareEvaluation("fp32", (0.5,), (1.0,)), BareEvaluation("products", (0.5,), (0.8,)))
    made_up = replace(made_up, bare=bare, evaluation_flops=(20, 60), machine_flops=(50.0, 100.0), batch_size=2)
    seconds = 6 * 64**2 * 2 * 324 / 40  # of a usual convolution: 40 multiplications and additions a second
    made_up = replace(made_up, sizes=(replace(size(6, 64, seconds, seconds / 3), block=(1.5,), block_products=(1.0,)),))
    on_two = with_rows(two, row(SCRIPT, 5.0), row(GRID, 2.0), row(FAST, 3.0))
    found = savings.numbers(made_up, replace(on_two, sizes=(size(6, 64, 2.0), size(7, 64), size(8, 128))))
    expected = {
        "all": "6.0",
        "all-2": "2.5",
        "step-grid-2": "2 (2 to 2)",
        "step-fast-2": "3 (3 to 3)",
        "loop": "3.00",
        "fewer": "1.78",
        "convolution": "3.0",
        "pays-1": "6 × 6 (64)",
        "pays-2": "7 × 7 (64), 8 × 8 (128)",
        "pays-2-sure": "7 × 7 (64), 8 × 8 (128)",
        "usual-share": "40",
        "points-share": "24",
        "all-stem": "12.0",
        "bosh3": "1.33",
        "channel": "1.50",
        "error-dopri5-warm": "0.375",
        "f-both": "60",
        "f-forward": "40",
        "f-products": "1.25",
        "floor-direct": "1.25",
        "floor-fast": "1.33",
        "floor-worst": "16.00",
        "floor-worst-case": LEAN_BF16,
        "grid": "1.11",
        "lean": "3.0",
        "lean-over-fast": "1.50",
        "ms-fast": "2",
        "step-stem": "1 (1 to 1)",
        "step-short": "1 (1 to 1)",
        "ms-script": "12",
        "nfe-dopri5": "6",
        "products": "1.12",
        "rounds": "5",
        "rounds-2": "5",
        "share": "0.25",
        "share-fast": "0.25",
        "solver": "2.00",
        "stem": "2.00",
        "warm": "1.20",
    }
    assert {name: found[name] for name in expected} == expected
    assert found["environment"] == str(one.environment) and found["environment-2"] == str(two.environment)


# The runs


def trained(run, *epochs):
    """A run with these epochs: minutes of training, and test accuracy after them."""
    made = enumerate(epochs, start=1)
    metrics = tuple(replace(run.last, epoch=n, seconds=60.0 * m, test_accuracy=accuracy) for n, (m, accuracy) in made)
    return replace(run, metrics=metrics)


@pytest.fixture
def raced(runs):
    """The script arrives elsewhere alone, where its quickest epoch takes six minutes, for seven here."""
    run = runs["to-99-script"][0]
    far = replace(run, environment=replace(run.environment, hardware="another"))
    return {
        "to-99-script": [trained(run, (8.0, 0.9), (7.0, 0.985), (7.5, 0.989))],
        "to-99-script-elsewhere": [trained(far, (8.0, 0.9), (6.0, 0.985), (10.0, 0.99), (7.0, 0.95))],
        "to-99": [trained(far, (2.0, 0.99)), trained(far, (1.0, 0.98))],
        "to-99-rk4": [trained(far, (1.0, 0.98), (2.0, 0.995)), trained(far, (3.0, 0.992), (2.0, 0.993))],
        "to-99-products": [trained(run, (1.0, 0.98), (4.0, 0.992))],
        "to-99-torchdiffeq": [trained(run, (5.0, 0.98), (5.0, 0.991))],
        "to-99-quick": [trained(run, (2.0, 0.99)), trained(run, (1.0, 0.989))],
        "to-99-resnet-1": [trained(run, (0.5, 0.991))],
        "to-99-quick-resnet-1": [trained(run, (0.25, 0.991))],
    }


def test_the_goal_is_reached_by_the_first_epoch_that_ends_there(raced):
    assert speed.epochs_to_goal(raced["to-99-script-elsewhere"][0]) == 3
    assert [speed.epochs_to_goal(run) for run in raced["to-99"]] == [1, None]
    assert speed.seconds_to_goal(raced["to-99-script-elsewhere"]) == [24 * 60]
    assert speed.seconds_to_goal(raced["to-99"]) == [120]
    assert speed.seconds_to_goal(raced["to-99-rk4"]) == [180, 180]


def test_images_that_were_held_out_instead_of_tested_reach_nothing(raced):
    (run, _) = raced["to-99"]
    assert speed.epochs_to_goal(replace(run, metrics=(replace(run.last, test_accuracy=None),))) is None


def test_the_race_is_shown_with_those_that_do_not_arrive_and_with_machines(raced):
    header, rows = speed.race_table(raced)
    here = raced["to-99-script"][0].environment.hardware
    assert [row[0] for row in rows] == list(speed.RACE.values()) and len(header) == 7
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["the script's"] == ["0 of 1", "–", "–", "", "98.90", here]
    assert by_name["the same, on another kind of machine"] == ["1 of 1", "3", "24.0", "", "95.00", "another"]
    one_epoch = by_name["one epoch, bosh3, warm start, bfloat16 in f"]
    assert one_epoch == ["1 of 2", "1", "2.0", "9.0", "98.50 (98.00 to 99.00)", "another"]
    assert by_name[speed.RACE["to-99-rk4"]][:4] == ["2 of 2", "1 or 2", "3.0 (3.0 to 3.0)", "6.0"]


def test_the_script_is_given_its_fewest_epochs_and_the_quickest_of_the_machine(raced):
    here = raced["to-99-script"][0].environment.hardware
    assert speed.script_seconds(raced, here) == 3 * 7 * 60 and speed.script_seconds(raced, "another") == 3 * 6 * 60
    with pytest.raises(ValueError, match="does not reach"):
        speed.script_seconds({**raced, "to-99-script-elsewhere": raced["to-99-script"]}, here)


def test_a_recipe_is_compared_on_its_own_machine_and_wins_only_if_it_always_arrives(raced):
    assert speed.sooner(raced, "to-99") == pytest.approx(18 / 2)
    assert speed.sooner(raced, "to-99-rk4") == pytest.approx(18 / 3)
    assert speed.sooner(raced, "to-99-quick") == pytest.approx(21 / 2)
    assert speed.race(raced) == pytest.approx(18 / 3)  # one of to-99 and one of to-99-quick stay away
    assert speed.race({**raced, "to-99-quick": raced["to-99-quick"][:1]}) == pytest.approx(21 / 2)


def test_the_recipe_of_one_epoch_is_the_one_that_the_images_held_out_choose(runs):
    held = {name: runs[name][0].last.validation_accuracy for name in speed.QUICK}
    assert max(held, key=held.get) == speed.CHOSEN
    assert [row[0] for row in speed.quick_table(runs)[1]] == [name.removeprefix("quick-") for name in speed.QUICK]
    chosen, control = (speed.SPEED.cases[name].config for name in ("to-99-quick", "to-99-quick-resnet-1"))
    options = {name for name, value in vars(control).items() if value != vars(chosen)[name]}
    assert options == {"network", "blocks", "library", "method", "products"}


def test_numbers_of_the_runs_are_ranges_over_all_ways_and_minutes(raced):
    (run, *_) = raced["to-99"]
    accuracies = {"torchdiffeq-direct": 0.5, "torchdiffeq-adjoint": 0.75, "direct": 0.25, "checkpoint": 0.5}
    ours = {"direct-bf16": 0.9, "direct-products": 0.5, "grid": 0.5, "grid-products": 0.7}
    one_epoch = {case: [trained(run, (1.0, a))] for case, a in {**accuracies, **ours}.items()}
    one_epoch["grid"] = [trained(run, (1.0, a)) for a in (0.1, 0.9)]
    chosen = replace(run, metrics=(replace(run.last, validation_accuracy=0.99),))
    assert speed.numbers({**raced, **one_epoch, speed.CHOSEN: [chosen]}) == {
        "accuracy-theirs": "50.0 to 75.0 (mean 62.50)",
        "accuracy-ours": "10.0 to 90.0 (mean 55.00)",
        "accuracy-spread": "65.00",
        "accuracy-wider": "1 of 8",
        "script-counted": "21.0",
        "recipe-share": "2.1",
        "solver-share": "2.0",
        "quick-share": "2.5",
        "minutes-quick": "2.0",
        "two-epochs-sooner": "4.2",
        "two-epochs-end": "99.20",
        "script-epochs": "3",
        "script-minutes": "22",
        "script-best": "98.90",
        "script-best-epoch": "3",
        "script-elsewhere-epochs": "3",
        "race": "6.0",
        "race-recipe": speed.RACE["to-99-rk4"],
        "quick-se": "0.10",
        "reached-products": "1 of 1",
        "minutes-products": "5.0",
        "reached-torchdiffeq": "1 of 1",
        "minutes-torchdiffeq": "10.0",
        "reached-resnet-1": "1 of 1",
        "minutes-resnet-1": "0.5",
        "reached-quick-resnet-1": "1 of 1",
        "minutes-quick-resnet-1": "0.2",
    }
    _, rows = speed.accuracy_table(one_epoch)
    nfe = run.last.nfe_forward + run.last.nfe_backward
    assert rows[1] == ["torchdiffeq, dopri5, adjoint", "75.00", f"{nfe:.1f}", 1] and len(rows) == 8


def test_the_page_asks_for_numbers_that_there_are(one, two, plain, gpu, runs):
    page = (RESULTS.parent / "speed.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"{glue:text}`speed-([^`]+)`", page))
    live = {"state-mb", "error-of-8"}
    found = [
        savings.numbers(one, two),
        savings.goal_numbers(one, two, 5.0),
        machines.gpu_numbers(one, gpu, {SCRIPT: 1}),
        machines.processor_numbers(plain),
    ]
    assert asked == {*speed.numbers(runs), *live}.union(*found)


# What the page claims


def test_nothing_is_missing(one, two):
    assert STUDY.missing() == []
    assert (one.environment.threads, two.environment.threads) == (1, 2)
    assert [row.case for row in one.rows] == [row.case for row in two.rows] == list(CASES)


def test_every_saving_makes_the_step_faster(one):
    *medians, last = [median for _, median, _ in savings.saving_quartiles(one).values()]
    assert medians == sorted(medians, reverse=True) and last < medians[-2]


def test_bfloat16_in_f_and_products_with_a_stem_in_bfloat16_are_not_told_apart_on_one_thread(one):
    first, second = (savings.milliseconds(only(one.rows, case=case)) for case in (FAST_STEM, FAST_BF16))
    assert first[0] < second[2] and second[0] < first[2]


def test_our_solver_stands_at_its_floor(one):
    assert savings.over_floor(only(one.rows, case="odelib direct")) < 1.1


def test_what_is_faster_is_not_so_by_being_sloppier(one):
    error = {row.case: row.theta_error for row in one.rows}
    state = {row.case: row.state_error for row in one.rows}
    assert error["odelib direct, warm start"] > error[SCRIPT] > error[GRID]  # dopri5 uses the tolerance up
    assert state[SCRIPT] > state[GRID]
    assert error[GRID] == pytest.approx(error[FAST], rel=1e-2)
    assert max(error[WARM], error["odelib direct, bosh3"]) < error[GRID]  # what a fixed grid gives up
    assert error["odelib direct, tsit5"] > error["odelib direct"]
    assert error["odelib checkpoint"] == pytest.approx(error["odelib direct"], rel=1e-3)
    assert error[LEAN] < error[SCRIPT_ADJOINT]


def test_beside_the_network_around_it_a_step_of_equal_steps_is_f_and_f_mostly_convolutions(one):
    assert savings.over_floor(only(one.rows, case=GRID)) < 1.1
    convolution = float(np.median(only(one.sizes, size=6, channels=64).convolution))
    assert 2 * convolution > only(one.bare, way="fp32").medians[1] / 2


def test_the_steps_of_the_script_take_longer_since_it_copies_the_state(one, two):
    for benchmark in (one, two):
        median = {row.case: row.quartiles[1] for row in benchmark.rows}
        assert median[SCRIPT] > median["torchdiffeq direct"] and median[SCRIPT_ADJOINT] > median["torchdiffeq adjoint"]


def test_evaluations_are_those_that_the_text_compares(one):
    nfe = {row.case: row.nfe_forward for row in one.rows}
    assert nfe[WARM] < nfe["odelib direct, bosh3"] < nfe["odelib direct"] < nfe["odelib direct, tsit5"]
    assert nfe[GRID] == 9 < nfe[WARM] and nfe["odelib direct, rk4 in 4 steps"] == 16
    assert nfe["odelib direct, bf16"] > nfe["odelib direct"]


def test_checkpoint_holds_less_than_direct_and_more_than_the_adjoint_and_is_faster_than_that(one, two):
    for benchmark in (one, two):
        held = {row.case: row.peak_bytes for row in benchmark.rows}
        median = {row.case: row.quartiles[1] for row in benchmark.rows}
        assert held["odelib adjoint"] < held["odelib checkpoint"] < held["odelib direct"]
        assert median["odelib direct"] < median["odelib checkpoint"] < median["odelib adjoint"]
        for gradient in ("direct", "adjoint", "seminorm"):
            assert median[f"odelib {gradient}"] < median[f"torchdiffeq {gradient}"]


def test_products_are_faster_and_nearly_as_exact(one):
    for row in one.sizes:
        convolution, block = row.times_faster
        assert convolution > max(block, 1) and row.error < row.error_products < 5e-5
    both = {bare.way: bare.medians[1] for bare in one.bare}
    assert both["products"] < both["fp32"]


def test_the_savings_of_two_processors_are_each_over_the_script_on_the_same_one(one, plain):
    ours = with_rows(one, row(SCRIPT, 12.0), row(FAST, 3.0))
    other = with_rows(
        plain, row(SCRIPT, 24.0), row(GRID, 8.0), row(FAST, 6.0), row(FAST_BF16, 40.0), row(FAST_STEM, 18.0)
    )
    header, rows = machines.processor_table(ours, other)
    by_label = {found[0]: found[1:] for found in rows}
    assert by_label[savings.SAVINGS[FAST]] == ["3 (3 to 3)", "4.00", "6 (6 to 6)", "4.00"] and len(header) == 5
    assert by_label[savings.SAVINGS[FAST_STEM]][2:] == ["18 (18 to 18)", "1.33"]
    found = machines.processor_numbers(other)
    assert (found["plain-stem"], found["plain-bf16"], found["plain-f"]) == ("3.0", "5.0", "1.0")
    assert (found["plain-all"], found["plain-products"]) == ("4.0", "1.33")
    assert found["plain-pays"] == savings.where_products_pay(plain)
    assert found["plain-missed"] == "none of the 6"
    assert machines.processor_numbers(one)["plain-missed"] == "5 of the 6"


def test_without_instructions_for_bfloat16_it_alone_costs_and_products_save_more(one, plain):
    median = {row.case: row.quartiles[1] for row in plain.rows}
    chain = [case for case in savings.SAVINGS if "bf16" not in case]
    assert all(median[faster] < median[slower] for slower, faster in pairwise(chain))
    pairs = [(case, case.removesuffix(", bf16")) for case in CASES if case.endswith(", bf16")]
    pairs += [(FAST_BF16, GRID), (FAST_STEM, FAST)]
    assert len(pairs) == 5 and all(median[case] > 5 * median[usual] for case, usual in pairs)
    assert all(max(row.theta_error for row in plain.rows if row.case in pair) < 0.06 for pair in pairs)
    assert len(savings.where_products_pay(plain).split(", ")) == len(plain.sizes)
    assert savings.times_faster(plain, GRID, FAST) > 1.15 * savings.times_faster(one, GRID, FAST)
    with_it = {row.case: row.quartiles[1] for row in one.rows}
    assert with_it[FAST_STEM] < with_it[FAST] and with_it[FAST_BF16] < with_it[GRID]


def test_a_table_of_the_gpu_divides_both_times_by_the_operations(one, gpu):
    operations = dict.fromkeys(savings.SAVINGS, 500)
    slow, fast = with_rows(one, row(SCRIPT, 12.0)), with_rows(gpu, row(SCRIPT, 3.0), row(GRID, 2.0))
    header, rows = machines.gpu_table(slow, fast, operations)
    by_label = {found[0]: found[1:] for found in rows}
    assert by_label[savings.SAVINGS[SCRIPT]] == ["500", "12", "24", "3 (3 to 3)", "6", "1.00"]
    assert by_label[savings.SAVINGS[GRID]] == ["500", "1", "2", "2 (2 to 2)", "4", "1.50"] and len(header) == 7


def test_numbers_of_the_gpu_are_ratios_of_its_own_medians(one, gpu):
    sizes = [replace(size(6, 64), block=(0.5,)), replace(size(12, 64), block=(1.0,)), size(8, 128)]
    rows = row(SCRIPT, 12.0), row(SCRIPT_ADJOINT, 36.0)
    slow = replace(with_rows(one, *rows), sizes=(sizes[0], replace(sizes[1], block=(3.0,)), sizes[2]))
    fast = with_rows(
        gpu, row(SCRIPT, 3.0), row(GRID, 2.0), row(FAST, 3.0), row(FAST_BF16, 5.0), row(SCRIPT_ADJOINT, 6.0)
    )
    found = machines.gpu_numbers(slow, replace(fast, sizes=tuple(sizes)), {SCRIPT: 100, GRID: 500})
    assert (found["gpu-each"], found["gpu-each-thread"]) == ("4 to 30", "2 to 120")
    assert (found["gpu-all"], found["gpu-products"], found["gpu-bf16"]) == ("1.5", "1.5", "2.5")
    assert (found["gpu-adjoint"], found["gpu-adjoint-thread"]) == ("2.00", "3.00")
    assert (found["gpu-growth"], found["gpu-growth-thread"], found["gpu-pixels"]) == ("2.0", "6.0", "4")
    assert found["gpu-ms-script"] == "3" and found["gpu-step-products"] == "3 (3 to 3)"
    _, rows = machines.gpu_size_table(slow, replace(fast, sizes=tuple(sizes)))
    assert rows[1][:3] == ["12 × 12, 64", "3000.0", "1000.0"]


def test_on_the_gpu_what_computes_less_by_more_operations_is_slower(gpu):
    assert "H200" in gpu.environment.hardware
    median = {row.case: row.quartiles[1] for row in gpu.rows}
    assert only(gpu.rows, case="torchdiffeq direct").quartiles[2] > median[SCRIPT]
    for way in (", products", ", bf16"):
        pairs = [(case, case.removesuffix(way)) for case in CASES if case.endswith(way)]
        pairs = [(case, usual) for case, usual in pairs if usual in median]
        assert len(pairs) >= 3 and all(median[case] > 1.2 * median[usual] for case, usual in pairs)
    assert median[FAST_BF16] > median[GRID]
    for slower, faster in (("torchdiffeq direct", "odelib direct"), ("odelib direct", "odelib direct, bosh3")):
        assert median[faster] < median[slower]
    assert median[GRID] < median[WARM] < median["odelib direct, bosh3"]
    assert all(max(row.times_faster) < 1 for row in gpu.sizes)


def test_the_gpu_waits(one, gpu):
    """Larger maps cost it little more, and fewer operations by larger ones are what is quicker."""
    found, thread = (machines.gpu_numbers(one, gpu, {SCRIPT: 1})[name] for name in ("gpu-growth", "gpu-growth-thread"))
    assert float(found) < 1.5 < 5 < float(thread)
    assert only(gpu.rows, case=FAST).quartiles[1] < only(gpu.rows, case="odelib direct").quartiles[1]


def test_the_script_fares_no_better_on_the_gpu_by_accuracy_than_equal_steps(gpu):
    script, grid = only(gpu.rows, case=SCRIPT), only(gpu.rows, case=GRID)
    assert grid.theta_error < script.theta_error and grid.state_error < script.state_error


def test_a_second_thread_brings_less_to_products(one, two):
    for row in two.sizes:
        convolution, block = row.times_faster
        assert convolution > max(block, 1)
    ratio = {name: float(times) for name, *_, times in savings.thread_table(one, two)[1]}
    assert ratio["the same, products"] < ratio["step with ralston3 in 3 steps"]
    assert ratio["f with its derivatives, by products"] < ratio["f with its derivatives, as usual"]


def test_torchdyn_is_faster_than_our_dopri5_and_takes_a_step_less(one):
    libraries = {row.library.split()[0]: row for row in one.libraries}
    assert set(libraries) == {"torchdyn", "odelib", "torchode", "torchdiffeq", "diffrax"}
    assert libraries["torchdyn"].quartiles[1] < libraries["odelib"].quartiles[1]
    assert libraries["torchdyn"].nfe == libraries["odelib"].nfe - 6
    assert libraries["torchdyn"].theta_error > libraries["odelib"].theta_error


def test_after_one_epoch_the_ways_differ_no_more_than_the_seeds_of_one_way(runs):
    accuracies = {case: [run.last.test_accuracy for run in runs[case]] for case in speed.ONE_EPOCH}
    means = [at_the_end(runs[case]) for case in accuracies]
    spread = [max(values) - min(values) for values in accuracies.values()]
    assert all(len(values) == 3 for values in accuracies.values())
    assert max(means) - min(means) < max(spread)


def test_our_best_recipe_gets_there_with_every_seed_sooner_and_a_residual_block_sooner_still(runs):
    assert len(speed.seconds_to_goal(runs["to-99-rk4"])) == len(runs["to-99-rk4"]) == 3
    assert speed.race(runs) > 4
    found = speed.numbers(runs)
    assert float(found["minutes-resnet-1"]) < float(found["minutes-products"])


def test_two_epochs_by_products_stay_below_the_bar_and_end_well_above_99(one, two, runs):
    (bar,) = savings.goals(one, two, 1.0)[-1].bars
    assert speed.sooner(runs, "to-99-products") < bar
    assert min(run.last.test_accuracy for run in runs["to-99-products"]) > 0.992
    five_epochs = STUDIES["mnist-gradients"].runs()["direct-rk4"]
    assert at_the_end(runs["to-99-products"]) == pytest.approx(at_the_end(five_epochs), abs=1e-3)


def test_on_two_threads_the_quartiles_of_equal_steps_and_products_overlap(two):
    grid, fast = (only(two.rows, case=case).quartiles for case in (GRID, FAST))
    assert grid[0] <= fast[2] and fast[0] <= grid[2]
