"""The page on records: its choices kept to their rule, and its tables say what the runs are."""

from dataclasses import replace

import pytest
import torch
from conftest import with_last

from odelib.measurements.cross_solver import CrossSolver, CrossTest
from odelib.measurements.hard_images import HardImage, HardImages
from odelib.records import pack_bits
from odelib.studies import STUDIES, findings, modern
from odelib.studies.summary import final, held_out

STUDY = STUDIES["mnist-modern"]


def ending(run, error, case="odenet", seed=0):
    """The run, ended with this test error in percent."""
    run = replace(run, config=replace(STUDY.config(case), seed=seed))
    return with_last(run, test_accuracy=1 - error / 100, validation_accuracy=None, train_accuracy=0.999)


# The protocol


def test_choices_are_made_by_held_out_images_alone(runs):
    for case in modern.CHOICES:
        (run,) = runs[case]
        assert run.config.validation and all(m.test_accuracy is None for m in run.metrics)
        assert round(run.config.validation * 60_000) == modern.HELD_OUT


def test_what_is_trained_is_what_the_rule_chose(runs):
    """A choice that was better by over a tenth of a point is in the recipe, and no other."""
    baseline = modern.CHOICES["choice-affine"]
    expected, reached = modern.DIGITS, held_out(runs["choice-affine"])
    for case, config in modern.CHOICES.items():
        if 100 * (held_out(runs[case]) - reached) > modern.TAKEN:
            expected = replace(expected, **{k: v for k, v in vars(config).items() if v != vars(baseline)[k]})
    assert expected == modern.DIGITS
    assert replace(modern.DIGITS, epochs=baseline.epochs, validation=baseline.validation) == baseline


def test_the_table_of_choices_says_what_was_taken(runs):
    better = replace(runs["choice-crop"][0].last, validation_accuracy=0.999)
    changed = {**runs, "choice-crop": [replace(runs["choice-crop"][0], metrics=(better,))]}
    _, rows = modern.choices_table(changed)
    assert [row[0] for row in rows] == [name.removeprefix("choice-") for name in modern.CHOICES]
    taken = {row[0]: row[3] for row in rows}
    assert taken["affine"] == "baseline" and taken["crop"] == "yes" and rows[1][1] == "99.90"
    assert {row[3] for row in modern.choices_table(runs)[1]} == {"baseline", "no"}


def test_a_run_that_holds_no_images_out_is_no_choice(runs):
    with pytest.raises(ValueError, match="too many values"):
        held_out(runs["choice-crop"] * 2)
    with pytest.raises(ValueError, match="a choice is made by images that are held out"):
        held_out([ending(runs["choice-crop"][0], 1.0)])


def test_controls_have_the_recipe_of_the_network():
    for case, network in modern.NETWORKS.items():
        changed = {k for k, v in vars(network.config).items() if v != vars(modern.DIGITS)[k]}
        assert changed <= {"network", "blocks"}, case


# Tables and numbers


def test_errors_are_those_after_the_last_epoch_with_a_t_interval(runs):
    one = runs["choice-crop"][0]
    fake = {"odenet": [ending(one, 0.3), ending(one, 0.5, seed=1)], "resnet-1": [ending(one, 1.0, "resnet-1")]}
    header, rows = modern.error_table(fake)
    assert header[1:3] == ["test error, % (range)", "95 % over seeds"]
    ode, other = rows
    assert ode[1] == "0.40 (0.30 to 0.50)" and ode[-1] == 2 and other[1:3] == ["1.00", "–"] and other[-1] == 1
    half = 12.7062 * 0.1414 / 2**0.5  # Student's t with one degree of freedom
    assert ode[2] == f"{max(0, 0.4 - half):.2f} to {0.4 + half:.2f}"


def cross_tests(environment):
    solvers = ("rk4, 1 step", "dopri5, 1e-5", "euler, 1 step")
    rows = [CrossTest("odenet", 0, solver, 4.0, 0.99 - i / 100) for i, solver in enumerate(solvers)]
    more = [CrossTest("odenet", 1, solver, 4.0, 0.97) for solver in solvers[:2]]
    return CrossSolver(environment, (*rows, *more))


def test_the_table_of_solvers_has_a_row_for_each(runs):
    header, rows = modern.solver_table(cross_tests(runs["choice-crop"][0].environment))
    assert rows[0] == ["rk4, 1 step", "4", "2.00 (1.00 to 3.00)", 2] and rows[2] == ["euler, 1 step", "4", "3.00", 1]
    assert len(rows) == 3 and len(header) == 4


def test_numbers_are_those_of_the_records(runs):
    one = runs["choice-crop"][0]
    ode, other = ending(one, 0.3), ending(one, 0.4, "resnet-1")
    fifth = replace(ode.last, test_accuracy=0.994)
    ode = replace(ode, wrong=pack_bits(torch.arange(10_000) < 30), metrics=(*ode.metrics, fifth, ode.last))
    other = replace(other, wrong=pack_bits(torch.arange(10_000) < 40))
    hard = HardImages(one.environment, ("odenet-seed0",), (HardImage(3, "7", ("1",), (((0,),),)),))
    study, five_epochs = {**runs, "odenet": [ode], "resnet-1": [other]}, {"direct-rk4": [other]}
    said = modern.numbers(study, five_epochs, cross_tests(one.environment), hard)
    assert said["five-epochs"] == "0.40" and said["error-at-5"] == "0.60" and said["paper"] == "0.42"
    assert said["error"] == "0.30" and said["error-resnet-1"] == "0.40" and said["seeds"] == "1"
    assert said["error-tight"] == "2.00" and said["seeds-interval"] == "–"
    assert said["tight-minus-own"] == "+1.70 (one seed)"
    assert said["hard"] == said["hard-networks"] == "1" and said["interval"] == "0.21 to 0.43"
    assert said["against-resnet-1"].startswith("−0.10 (−0.1")


def test_the_front_page_compares_errors_of_both_recipes(runs):
    one = runs["choice-crop"][0]
    modern_runs = {"odenet": [ending(one, 0.3), ending(one, 0.4)], "resnet-1": [ending(one, 0.5, "resnet-1")]}
    before = {"direct-rk4": [ending(one, 0.6), ending(one, 0.8)], "resnet-1": [ending(one, 0.9, "resnet-1")]}
    said = findings.of_recipes(modern_runs, before)
    assert said["modern-odenet"] == "0.35" and said["modern-resnet-1"] == "0.50" and said["modern-runs"] == "2 and 1"
    assert said["modern-before-odenet"] == "0.70" and said["modern-before-resnet-1"] == "0.90"
    assert said["modern-before-runs"] == "2 and 1"


def test_the_front_page_compares_blocks_on_larger_maps(runs):
    one = runs["choice-crop"][0]
    said = findings.of_larger_maps({"small": [ending(one, 12.0), ending(one, 11.0)], "tied-2": [ending(one, 11.0)]})
    assert said == {"maps-small": "88.5 (88.0 to 89.0)", "maps-tied-2": "89.0", "maps-runs": "1"}


def test_the_front_page_tells_of_the_short_study_only_while_the_ode_net_is_ahead_with_every_seed():
    full, tuning = STUDIES["cifar10-full"].runs(), STUDIES["cifar10-tuning"].runs()
    said = findings.of_photographs(full, tuning)
    assert said["short-runs"] == "5" and said["short-odenet"].startswith("48.7 (")
    swapped = {"odenet": tuning["resnet-1"], "resnet-1": tuning["odenet"]}
    with pytest.raises(ValueError, match="not ahead"):
        findings.of_photographs(full, swapped)


def test_table_1_of_the_paper_stands_beside_the_runs_of_task_6():
    study = STUDIES["mnist-gradients"]
    runs, timing, memory = study.runs(), study.measured("timing"), study.measured("memory")
    header, rows = modern.paper_table(runs, timing, memory)
    assert rows.pop(0)[1] == "1.60"
    assert [row[:3] for row in rows[:2]] == [["ResNet", "0.41", "resnet-6"], ["RK-Net", "0.47", "direct-dopri5"]]
    for row in rows:
        case = row[2]
        assert len(row) == len(header) and row[-1] == len(runs[case])
        assert row[3].startswith(f"{100 * (1 - sum(final(runs[case])) / len(runs[case])):.2f}")


def test_every_published_number_has_its_source():
    for source, _, parameters, error, of in modern.PUBLISHED:
        assert source.startswith(("Chen et al. 2018", "[")) and parameters.endswith("M") and 0 < float(error) < 1 and of


def test_records_of_the_networks_are_of_the_last_epoch(runs):
    for case in modern.NAMES:
        for run in runs.get(case, []):
            assert len(run.metrics) == modern.DIGITS.epochs and final([run]) == [run.metrics[-1].test_accuracy]
