"""What studies say of their runs: means and ranges, uncertainty, machines, tables."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import with_last

from odelib import Run
from odelib.records import RESULTS
from odelib.studies import summary


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.load(RESULTS / "mnist-gradients" / "none-seed0.json")


@pytest.mark.parametrize("values, said", [([1.5], "1.50"), ([1.0, 3.0, 2.0], "2.00 (1.00 to 3.00)")])
def test_mean_and_range(values, said):
    assert summary.mean_and_range(values) == said


@pytest.mark.parametrize("values, said", [([-0.5], "−0.5"), ([2.0, -1.0], "+0.5 (−1.0 to +2.0)")])
def test_differences_have_their_sign(values, said):
    assert summary.signed(values) == said


def test_only_the_last_epoch_counts_and_is_averaged_over_the_runs(run):
    runs = [with_last(run, test_accuracy=0.5), with_last(run, test_accuracy=0.75)]
    assert summary.at_the_end(runs) == 0.625
    assert summary.at_the_end(runs, "train_loss") == pytest.approx(run.last.train_loss)
    assert summary.accuracy(runs) == "62.50 (50.00 to 75.00)"
    assert summary.accuracy(runs[:1], digits=1) == "50.0"


def test_the_standard_error_is_that_of_tosses_of_a_coin():
    assert summary.standard_error(0.5) == pytest.approx(0.005)
    assert summary.standard_error(0.9, images=100) == pytest.approx(0.03)


def test_machines_are_named_once(run):
    one = replace(run, environment=replace(run.environment, hardware="A", torch="2.9", threads=1))
    later = replace(one, environment=replace(one.environment, date="2030-01-01 00:00"))
    two = replace(run, environment=replace(run.environment, hardware="B", torch="2.9", threads=2))
    assert summary.machines([two, one, later]) == "A, torch 2.9, 1 thread a run; B, torch 2.9, 2 threads a run"
    assert summary.hardware([two, one, later]) == "A and B"


def test_all_runs_are_those_of_every_case_of_every_study(run):
    assert list(summary.all_runs({"a": [run], "b": [run, run]}, {"c": [run]})) == [run] * 4


def test_options_are_said_as_on_the_command_line():
    assert summary.flags({"weight_decay": 0.0, "time": "none"}) == "`--weight-decay 0.0` `--time none`"
    assert summary.flags({}) == "–"


def test_a_table_of_tested_networks_has_those_that_are_named(run):
    runs = [with_last(run, test_accuracy=t, train_accuracy=0.875, nfe_forward=4.4) for t in (0.5, 0.75)]
    header, rows = summary.tested({"a": runs, "b": runs[:1], "c": runs}, {"b": "one seed", "a": "two seeds"})
    assert rows == [
        ["one seed", "50.00", "87.5", f"{run.parameters:,}", "4", 1],
        ["two seeds", "62.50 (50.00 to 75.00)", "87.5 (87.5 to 87.5)", f"{run.parameters:,}", "4", 2],
    ]
    assert len(header) == len(rows[0])


def test_the_only_row_has_all_these_values_and_no_other_row_has():
    rows = [SimpleNamespace(case="a", seed=0), SimpleNamespace(case="a", seed=1), SimpleNamespace(case="b", seed=1)]
    assert summary.only(rows, case="a", seed=1) is rows[1]
    for values in ({"case": "a"}, {"case": "c"}):
        with pytest.raises(ValueError):
            summary.only(rows, **values)
