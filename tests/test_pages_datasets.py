"""The page on other data: its tables and numbers are what they say, and what it claims holds in the stored records."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import with_last

from odelib import Run, load_dataset
from odelib.book.dataset_figures import answers, changes, crossing, one_of_each
from odelib.data import Images
from odelib.measurements.confusion import Confusion, ConfusionRow
from odelib.measurements.cross_solver import CrossSolver, CrossTest
from odelib.records import RESULTS
from odelib.studies import STUDIES, cifar10, elsewhere, tuning
from odelib.studies.statistics import seeds_interval
from odelib.studies.summary import all_runs, at_the_end


@pytest.fixture(scope="module")
def tuned():
    return STUDIES["cifar10-tuning"].runs()


@pytest.fixture(scope="module")
def whole():
    return STUDIES["cifar10-full"].runs()


@pytest.fixture(scope="module")
def found(tuned):
    """Of each baseline what each factor changes about the validation accuracy."""
    return {name: tuning.changes(tuned, name) for name in cifar10.BASELINES}


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.load(RESULTS / "cifar10-tuning" / "odenet-seed0.json")


# Tables and numbers


def test_the_numbers_of_the_whole_set_are_accuracies_and_differences_in_points(run):
    reached = {"odenet": 0.5, "odenet-norm-batch": 0.25, "resnet-1": 0.375, "resnet-4": 0.75}
    values = {case: dict(test_accuracy=a, train_accuracy=a, train_loss=a, seconds=a) for case, a in reached.items()}
    numbers = cifar10.full_numbers({case: [with_last(run, **last)] for case, last in values.items()})
    assert (numbers["full-one-block"], numbers["full-four-blocks"]) == ("+12.5", "+25.0")
    assert numbers["full-test-odenet-norm-batch"] == "25.0" and numbers["full-loss-resnet-1"] == "0.38"


def test_networks_are_compared_seed_by_seed(run):
    def runs(*accuracies):
        return [with_last(run, test_accuracy=a) for a in accuracies]

    whole = {"odenet": runs(0.5, 0.75), "odenet-norm-batch": runs(0.25, 0.5), "resnet-1": runs(0.5, 0.5)}
    whole["resnet-4"] = runs(0.75, 0.5)
    (difference, low, high), _ = cifar10.compared(whole, "odenet-norm-batch", "odenet", images=100)
    half = 1.959964 * 100 * ((0.1875 + 0.25) / 100) ** 0.5
    assert (difference, low, high) == pytest.approx((-25, -25 - half, -25 + half))
    _, (one, four, batch) = cifar10.compared_table(whole)
    assert one[0] == "ODE-Net − ResNet, one block" and one[1].startswith("+0.0 (−1.4") and one[2].startswith("+25.0 (")
    assert (one[3], four[3], batch[3]) == ("no", "no", "yes")


def test_a_run_falls_behind_its_best_epoch(run):
    accuracies = (0.5, 0.75, 0.625)
    metrics = tuple(replace(m, test_accuracy=a) for m, a in zip(run.metrics, accuracies))
    assert cifar10.falls_behind([replace(run, metrics=metrics)]) == [12.5]


def test_the_numbers_of_the_solvers_leave_out_one_step_of_euler_and_compare_one_seed(run):
    names = (cifar10.EULER, cifar10.TRAINED, "fine")
    accuracies = {("odenet", 0): (0.1, 0.5, 0.53), ("odenet", 1): (0.1, 0.6, 0.61)}
    accuracies |= {("odenet-norm-batch", 0): (0.1, 0.3, 0.4), ("odenet-norm-batch", 1): (0.1, 0.4, 0.3)}
    rows = [CrossTest(*key, s, 4.0, a) for key, found in accuracies.items() for s, a in zip(names, found)]
    numbers = cifar10.cross_numbers(CrossSolver(run.environment, tuple(rows)))
    assert numbers == {"cross-range": "3.0", "norm-batch-gain": "10.0", "norm-batch-gap": "10.0"}


def test_the_table_of_solvers_has_a_row_for_each_network(run):
    tests = [CrossTest("odenet", seed, s, 4.0, a) for seed, s, a in [(0, "a", 0.5), (0, "b", 0.25), (1, "a", 1.0)]]
    record = CrossSolver(run.environment, (*tests, CrossTest("odenet", 1, "b", 4.0, 0.125)))
    header, rows = cifar10.cross_table(record)
    assert header == ["network", "a", "b"]
    assert rows == [["ODE-Net, seed 0", "50.0", "25.0"], ["ODE-Net, seed 1", "100.0", "12.5"]]


def test_the_pair_is_that_of_the_most_mistakes_in_both_directions(run):
    counts = ((9, 3, 0), (3, 9, 0), (1, 5, 9))
    other = ConfusionRow("odenet", 1, ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    record = Confusion(run.environment, ("cat", "dog", "fox"), (ConfusionRow("odenet", 0, counts), other))
    matrix = cifar10.confusion_matrix(record, "odenet", seed=0)
    assert matrix.tolist() == [list(row) for row in counts]
    assert cifar10.confusion_numbers(matrix, record.classes) == {"pair": "cat and dog", "pair-share": "50"}


def test_the_comparisons_of_the_text_have_a_number_and_its_interval():
    clothes, tiny = STUDIES["fashion-mnist"].runs(), STUDIES["tiny-imagenet-20"].runs()
    numbers, found = elsewhere.numbers(clothes, tiny), elsewhere.comparisons(clothes, tiny)
    reached = {f"{name}-{case}" for name, runs in (("clothes", clothes), ("tiny", tiny)) for case in runs}
    assert set(numbers) == {*found, *(f"{name}-interval" for name in found), *reached}
    assert numbers["clothes-odenet"] == f"{100 * clothes['odenet'][0].last.test_accuracy:.1f}"
    (blocks,) = cifar10.compared(tiny, "odenet", "resnet-4", images=1_000)
    assert found["blocks"] == blocks and found["clothes"][0] == pytest.approx(0.69)
    assert (numbers["blocks"], numbers["blocks-interval"]) == ("+2.3", "−1.9 to +6.5")


def test_the_protocol_is_the_whole_of_it_and_nothing_else():
    text = cifar10.protocol()
    assert text.startswith("Question: ") and "Every choice is made by validation accuracy" in text
    assert "---" not in text and text.rstrip().endswith("If f is to blame, this does not fail.")


# What the page claims


def test_nothing_is_missing():
    for name in ("cifar10-tuning", "cifar10-full", "fashion-mnist", "tiny-imagenet-20"):
        assert STUDIES[name].missing() == []


def test_groups_of_one_channel_outside_of_f_make_a_network_fail_and_fewer_groups_cost_points():
    runs = STUDIES["cifar10-tuning"].runs()

    def reached(case, part="validation"):
        return [100 * getattr(run.last, f"{part}_accuracy") for run in runs[f"odenet-{case}".rstrip("-")]]

    for failed in ("groups-64", "groups-64-norm-layer", "width-32"):
        assert max(reached(failed)) < 32 and max(reached(failed, "train")) < 32
    assert min(reached("width-32-groups-8")) > 42
    assert max(reached("groups-8") + reached("groups-16")) < min(reached(""))
    for groups in ("groups-8", "groups-16"):
        assert tuning.second_changes(runs)[groups].stands
    _, rows = tuning.group_table(runs)
    assert [row[:4] for row in rows[2:5]] == [[64, 32, 2, 2], [64, 64, 1, 1], [64, 64, 1, "one group"]]


def test_what_stands_concerns_augmentation_norm_stem_and_width_and_not_the_ode(found):
    standing = {factor for factor, change in found["odenet"].items() if change.stands}
    assert {"no-augmentation", "norm-batch", "stem-one-shot", "width-32"} <= standing
    assert not standing & {*cifar10.SOLVER, "no-time", "augmented-32", "second-order", "softplus", "tanh", "swish"}
    assert not standing & {"lr-0.15", "label-smoothing-0.1", "one-cycle", "no-weight-decay", "width-96", "adamw-0.002"}


def test_the_four_that_the_text_names_stand_at_once(tuned):
    _, rows = tuning.standing(tuned)
    at_once = {row[0].strip("`") for row in rows if row[-2] == "yes"}
    assert {"no-augmentation", "norm-batch", "stem-one-shot", "width-32"} <= at_once


def test_three_of_what_stands_with_seed_0_do_not_stand_against_the_mean_of_the_baseline(tuned):
    _, rows = tuning.standing(tuned)
    assert {row[0].strip("`") for row in rows if row[-1] == "no"} == {"stem-res", "lr-0.02", "constant-rate"}
    assert all(row[1] == 1 and row[-2] == "no" for row in rows if row[-1] == "no")


def test_without_augmentation_the_gap_to_held_out_images_is_somewhat_larger_and_small(tuned):
    gaps = {
        case: [100 * (run.last.train_accuracy - run.last.validation_accuracy) for run in tuned[case]]
        for case in ("odenet", "odenet-no-augmentation")
    }
    assert max(gaps["odenet"]) < min(gaps["odenet-no-augmentation"]) < 4


def test_the_ode_net_is_ahead_of_one_block_with_every_seed_of_the_short_study(tuned):
    ahead = [
        one.last.validation_accuracy - other.last.validation_accuracy
        for one, other in zip(tuned["odenet"], tuned["resnet-1"], strict=True)
    ]
    assert len(ahead) == 5 and min(ahead) > 0


def test_every_network_is_better_without_augmentation_with_every_seed(found):
    for name in tuning.TUNED:
        change = found[name]["no-augmentation"]
        assert change.low > 0 and min(change.differences) > 0


def test_the_rate_of_015_is_better_with_both_seeds_and_one_cycle_is_not(found):
    assert min(found["odenet"]["lr-0.15"].differences) > 0 > found["odenet"]["one-cycle"].mean


def test_the_study_does_not_show_that_ode_nets_vary_more_from_seed_to_seed(tuned):
    first, five, every = tuning.seed_ratios(tuned).values()
    assert first[1] > 1 and five[1] < 1 < five[2] and every[1] < 1 < every[0]


def test_what_was_picked_falls_with_its_second_seed_and_baselines_by_no_more_than_chance(tuned):
    picked = [case for case in cifar10.AGAIN if not case.startswith("strict")]
    assert seeds_interval(tuning.falls(tuned, picked))[1] > 0
    assert seeds_interval(tuning.falls(tuned, cifar10.BASELINES))[1] < 0


def test_the_kinetic_penalty_saves_evaluations_and_moves_the_accuracy_by_no_more_than_chance(tuned, found):
    saved = tuning.saved_evaluations(tuned)
    assert saved["kinetic-0.1"].high < 0 and not saved["jacobian-0.01"].stands
    assert not any(change.stands for change in found["strict"].values())


def test_four_blocks_are_better_with_both_seeds_and_one_block_is_not_told_apart(whole):
    four, one = (cifar10.compared(whole, *cifar10.COMPARED[name]) for name in ("four-blocks", "one-block"))
    assert all(low > 0 for _, low, _ in four)
    assert all(low < 0 < difference for difference, low, _ in one)
    assert 1.9 < whole["resnet-4"][0].parameters / whole["odenet"][0].parameters < 2.1


def test_the_curve_of_batch_norm_falls_at_the_end_and_no_other_does(whole):
    for case, found in whole.items():
        falls = cifar10.falls_behind(found)
        assert min(falls) > 3 if case == "odenet-norm-batch" else max(falls) < 0.3


def test_batch_norm_ends_behind_though_its_loss_in_training_mode_is_lower(whole):
    for name in ("test_accuracy", "train_accuracy", "train_loss"):
        assert at_the_end(whole["odenet-norm-batch"], name) < at_the_end(whole["odenet"], name)
    assert at_the_end(whole["odenet-norm-batch"]) < at_the_end(whole["odenet"]) - 0.01


def test_every_solver_but_one_euler_step_agrees_to_half_a_point_and_none_helps_batch_norm_enough():
    rows = STUDIES["cifar10-full"].measured("cross-solver").rows
    good = [100 * row.accuracy for row in rows if row.case == "odenet" and row.solver != "euler, 1 step"]
    assert max(good) - min(good) < 0.5
    for seed in (0, 1):
        norm = {row.solver: 100 * row.accuracy for row in rows if (row.case, row.seed) == ("odenet-norm-batch", seed)}
        fine = [norm[name] for name in ("rk4, 4 steps", "dopri5, 1e-3", "dopri5, 1e-5")]
        assert max(fine) - min(fine) < 0.2 and max(norm.values()) - min(norm.values()) > 5
        assert norm["dopri5, 1e-5"] > norm["rk4, 1 step"] and max(norm.values()) < min(good) - 5


def test_cats_and_dogs_are_taken_for_each_other_about_one_time_in_ten():
    record = STUDIES["cifar10-full"].measured("confusion")
    counts = cifar10.confusion_matrix(record, "odenet", seed=0)
    assert cifar10.confusion_numbers(counts, record.classes)["pair"] == "cat and dog"
    assert (counts.sum(dim=1) == 1000).all() and counts.diagonal().min() / 1000 > 0.69
    cat, dog = (record.classes.index(name) for name in ("cat", "dog"))
    assert min(counts[cat, dog], counts[dog, cat]) > 80


@pytest.mark.parametrize("study, epochs, guessing", [("fashion-mnist", 3, 0.1), ("tiny-imagenet-20", 5, 0.05)])
def test_elsewhere_nothing_is_learned_by_heart_and_all_is_far_above_guessing(study, epochs, guessing):
    for run in all_runs(STUDIES[study].runs()):
        assert run.last.epoch == epochs and run.last.train_accuracy - run.last.test_accuracy < 0.01
        assert run.last.test_accuracy > 5 * guessing


def test_elsewhere_the_runs_do_not_tell_the_networks_apart():
    found = elsewhere.comparisons(STUDIES["fashion-mnist"].runs(), STUDIES["tiny-imagenet-20"].runs())
    assert all(low < 0 < high for _, low, high in found.values())


# Figures


def test_one_image_of_each_class_stands_under_its_name():
    digits, colours = load_dataset("mnist-sample"), load_dataset("cifar10-sample")
    figure = one_of_each([digits, colours])
    assert [ax.get_title() for ax in figure.axes] == [*digits.classes, *colours.classes]
    for ax, k in zip(figure.axes, range(10)):
        first = int((digits.train.labels == k).nonzero()[0])
        np.testing.assert_array_equal(ax.images[0].get_array(), digits.train.images[first, 0])


def test_answers_are_the_first_image_of_each_class_and_the_first_mistake():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 2, 2)
    data = Images(images, torch.tensor([1, 0, 0, 1, 0]))
    chances = torch.tensor([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    figure = answers(data, chances, ("cat", "dog"))
    assert [ax.images[0].get_array()[0, 0] for ax in figure.axes] == [1, 0, 4, 3]
    assert [ax.get_title() for ax in figure.axes] == [
        "cat\ncat\n100%",
        "dog\ndog\n75%",
        "cat\ndog\n80%",
        "dog\ncat\n90%",
    ]


def test_a_path_is_drawn_for_every_point():
    figure = crossing({"none": (1.0, torch.tensor([[-1.0, 1.0], [0.0, 0.5]])), "one": (0.004, torch.zeros(3, 2))})
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("none: loss 1.00", "one: loss 0.00")
    assert [line.get_ydata().tolist() for line in left.lines] == [[-1.0, 0.0], [1.0, 0.5]]
    assert left.lines[0].get_xdata().tolist() == [0.0, 1.0]


def test_changes_are_dots_with_intervals_in_order_and_hollow_for_one_seed():
    two, one = tuning.Change((1.0, 2.0), 0.5, 2.5), tuning.Change((-2.0,), -4.0, 0.0)
    groups = {
        "first": {"good": {"A": two, "B": one}, "bad": {"A": one}},
        "second": {"far": {"A": tuning.Change((-30.0,), -32.0, -28.0)}},
    }
    figure = changes(groups, "points", limits=(-14.0, 9.0))
    ax, last = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["bad", "good"]
    assert (ax.get_title(), last.get_title(), last.get_xlabel()) == ("first", "second", "points")
    bars = [list(line.get_xdata()) for line in ax.lines[1:] if line.get_linestyle() == "-"]
    dots = [line for line in ax.lines[1:] if line.get_linestyle() != "-"]
    assert bars == [[-4, 0], [-4, 0], [0.5, 2.5]]
    assert [list(dot.get_xdata()) for dot in dots] == [[-2], [-2], [1.5]]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [True, True, False]
    assert len({dot.get_color() for dot in dots}) == 2 and dots[0].get_color() == dots[2].get_color()
    assert [text.get_text() for text in last.texts] == ["← −30.0"] and last.get_xlim() == (-14, 9)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A", "B", "one seed"]


def test_a_figure_is_shown_only_where_a_page_asks_for_it():
    crossing({"none": (1.0, torch.zeros(2, 1))})
    assert not plt.get_fignums()
