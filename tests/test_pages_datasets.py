"""The page on other data: its tables and numbers are what they say, and what it claims holds in the stored records."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from odelib import Run, load_dataset
from odelib.book.dataset_figures import answers, crossing, one_of_each
from odelib.book.plots import effects
from odelib.data import Images
from odelib.measurements.confusion import Confusion, ConfusionRow
from odelib.measurements.cross_solver import CrossSolver, CrossTest
from odelib.records import RESULTS
from odelib.studies import STUDIES, cifar10, elsewhere
from odelib.studies.summary import all_runs, at_the_end, mean


@pytest.fixture(scope="module")
def tuning():
    return STUDIES["cifar10-tuning"].runs()


@pytest.fixture(scope="module")
def whole():
    return STUDIES["cifar10-full"].runs()


@pytest.fixture(scope="module")
def points(tuning):
    """Of each factor the mean over its seeds, against the baseline."""
    found = {name: cifar10.points(tuning, name) for name in cifar10.BASELINES}
    return {name: {factor: mean(values) for factor, values in changes.items()} for name, changes in found.items()}


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.load(RESULTS / "cifar10-tuning" / "odenet-seed0.json")


def with_last(run, **values):
    return replace(run, metrics=(*run.metrics[:-1], replace(run.last, **values)))


# Tables and numbers


def made_up(run, accuracies: dict[str, list[float]]):
    return {case: [with_last(run, validation_accuracy=a) for a in values] for case, values in accuracies.items()}


def test_points_are_percent_against_the_mean_of_the_baseline(run):
    runs = made_up(run, {"strict": [0.25, 0.5], "strict-kinetic-0.1": [0.5, 0.375], "strict-jacobian-0.01": [0.25]})
    assert cifar10.points(runs, "strict") == {"kinetic-0.1": [12.5, 0.0], "jacobian-0.01": [-12.5]}


def test_the_noise_is_the_distance_of_the_seeds_from_their_mean(run):
    assert cifar10.noise(made_up(run, {"odenet": [0.25, 0.5, 0.75]})) == [-25, 0, 25]


def test_nfe_is_a_whole_number_where_the_seeds_agree_and_a_range_where_not(run):
    def nfe(forward, backward):
        return with_last(run, nfe_forward=forward, nfe_backward=backward)

    assert cifar10.nfe([nfe(4.0, 0.0), nfe(4.01, 0.0)]) == "4"
    assert cifar10.nfe([nfe(4.0, 7.0), nfe(5.0, 7.0)]) == "4.5 (4.0 to 5.0) + 7"


def test_seconds_are_those_of_the_quickest_epoch(run):
    first = replace(run, metrics=tuple(replace(m, seconds=s) for m, s in zip(run.metrics, (9.0, 3.0, 5.0, 7.0, 4.0))))
    assert cifar10.seconds([first, replace(first, metrics=(replace(run.last, seconds=6.0),))]) == 3.0


def test_a_table_of_factors_begins_with_the_baseline(run):
    runs = made_up(run, {"strict": [0.25, 0.5], "strict-kinetic-0.1": [0.5, 0.375], "strict-jacobian-0.01": [0.25]})
    header, rows = cifar10.factor_table(runs, "strict", cifar10.STRICT)
    assert [row[:2] for row in rows] == [
        ["**baseline**", "37.5 (25.0 to 50.0)"],
        ["`--kinetic 0.1`", "+6.2 (+0.0 to +12.5)"],
        ["`--jacobian 0.01`", "−12.5"],
    ]
    assert all(len(row) == len(header) for row in rows)
    assert rows[0][2:] == ["4", f"{min(m.seconds for m in run.metrics):.0f}", "209,418"]


def test_the_table_of_the_recipe_has_every_change_for_every_network(tuning):
    header, rows = cifar10.recipe_table(tuning)
    assert len(header) == 4 and len(rows) == 1 + len(cifar10.RECIPE)
    changes = cifar10.points(tuning, "resnet-1")["lr-0.15"]
    assert rows[2][0] == "`--lr 0.15`" and rows[2][2].startswith(f"{mean(changes):+.1f}".replace("-", "−"))


def test_the_numbers_of_the_text_are_those_of_the_tables(tuning):
    numbers = cifar10.tuning_numbers(tuning)
    assert numbers["runs"] == str(len(list((RESULTS / "cifar10-tuning").glob("*-seed*.json"))))
    _, rows = cifar10.factor_table(tuning, "adaptive", cifar10.ADAPTIVE)
    assert rows[0][1:3] == [numbers["acc-adaptive"], numbers["nfe-adaptive"]]
    for factor, row in zip(cifar10.ADAPTIVE, rows[1:]):
        assert row[1:3] == [numbers[f"adaptive-{factor}"], numbers[f"nfe-adaptive-{factor}"]]


def test_the_numbers_of_the_whole_set_are_differences_in_points(run):
    reached = {"odenet": 0.5, "odenet-norm-batch": 0.25, "resnet-1": 0.375, "resnet-4": 0.75}
    numbers = cifar10.full_numbers(
        {case: [with_last(run, test_accuracy=a, train_accuracy=a, train_loss=a)] for case, a in reached.items()}
    )
    assert (numbers["full-one-block"], numbers["full-four-blocks"], numbers["full-se"]) == ("12.5", "25.0", "0.5")
    assert numbers["full-test-odenet-norm-batch"] == "25.0" and numbers["full-loss-resnet-1"] == "0.38"


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


def test_a_difference_has_the_uncertainty_of_both_accuracies(run):
    runs = {case: [with_last(run, test_accuracy=a)] for case, a in {"a": 0.75, "b": 0.5}.items()}
    points, error = elsewhere.against(runs, "a", "b", images=100)
    assert points == pytest.approx(25) and error == pytest.approx(100 * ((0.1875 + 0.25) / 100) ** 0.5)


def test_the_comparisons_of_the_text_have_a_number_and_its_error():
    clothes, tiny = STUDIES["fashion-mnist"].runs(), STUDIES["tiny-imagenet-20"].runs()
    numbers, found = elsewhere.numbers(clothes, tiny), elsewhere.comparisons(clothes, tiny)
    assert set(numbers) == {*found, *(f"{name}-se" for name in found)}
    difference, error = found["blocks"]
    assert (numbers["blocks"], numbers["blocks-se"]) == (f"{difference:.1f}", f"{error:.1f}")


def test_the_protocol_is_the_whole_of_it_and_nothing_else():
    text = cifar10.protocol()
    assert text.startswith("Question: ") and "Every choice is made by validation accuracy" in text
    assert "---" not in text and text.rstrip().endswith("see the page on why.")


# What the page claims


def test_nothing_is_missing():
    for name in ("cifar10-tuning", "cifar10-full", "fashion-mnist", "tiny-imagenet-20"):
        assert STUDIES[name].missing() == []


def test_every_network_is_better_without_augmentation(points):
    assert min(points[name]["no-augmentation"] for name in cifar10.TUNED) > 2


def test_each_network_has_its_own_learning_rate(points):
    assert points["odenet"]["lr-0.15"] > 1 > points["resnet-1"]["lr-0.15"] > 0 > points["resnet-4"]["lr-0.15"]


def test_a_rate_that_falls_is_worth_two_points_to_the_ode_net_and_nothing_to_the_smallest_resnet(points):
    assert points["odenet"]["constant-rate"] < -1.5 and points["resnet-1"]["constant-rate"] > -0.5


def test_adamw_is_no_better_and_label_smoothing_is_worth_about_a_point(points):
    for name in cifar10.TUNED:
        assert points[name]["adamw-0.002"] < 0.5 < points[name]["label-smoothing-0.1"] < 1.5


def test_batch_norm_is_the_best_change_and_few_others_are_above_the_noise(points):
    odenet = points["odenet"]
    assert max(odenet, key=odenet.get) == "norm-batch"
    helped = {factor for factor, gain in odenet.items() if gain >= 1}
    assert helped == {"norm-batch", "no-augmentation", "lr-0.15", "label-smoothing-0.1"}


def test_layer_norm_residual_stem_and_second_scale_lose_two_to_four_points(points):
    assert all(-4 < points["odenet"][factor] < -1.5 for factor in ("norm-layer", "stem-res", "two-scales"))


def test_solvers_make_no_difference_to_the_accuracy(points):
    assert all(abs(points["odenet"][factor]) < 1.2 for factor in cifar10.SOLVER)


def test_the_kinetic_penalty_saves_evaluations_and_the_jacobian_one_hardly_any(tuning, points):
    kinetic, jacobian = (
        at_the_end(tuning[f"strict-{penalty}"], "nfe_forward") / at_the_end(tuning["strict"], "nfe_forward")
        for penalty in ("kinetic-0.1", "jacobian-0.01")
    )
    assert kinetic < 0.75 and abs(points["strict"]["kinetic-0.1"]) < 1.5
    assert jacobian > 0.85 and abs(points["strict"]["jacobian-0.01"]) < 1


def test_the_ode_net_is_a_little_short_of_85_percent_and_stands_between_the_residual_networks(whole):
    odenet, one, four = (at_the_end(whole[case]) for case in cifar10.TUNED)
    assert 0.845 < odenet < 0.85 and 0 < odenet - one < 0.01 and four - odenet > 0.015


def test_neither_seed_of_the_residual_block_comes_up_to_those_of_the_ode_net(whole):
    accuracies = {case: [run.last.test_accuracy for run in whole[case]] for case in ("odenet", "resnet-1")}
    assert max(accuracies["resnet-1"]) < min(accuracies["odenet"])


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
    assert all(0 < points < 2 * error for points, error in found.values())


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


def test_a_change_that_lies_outside_is_written_at_the_edge():
    figure = effects({"all": {"far": [-30.0, -28.0], "near": [1.0]}}, [-0.5, 0.5], "points", limits=(-14.0, 9.0))
    (ax,) = figure.axes
    assert ax.get_xlim() == (-14, 9)
    assert [(text.get_text(), text.get_position()[1]) for text in ax.texts] == [("← −29.0 (−30.0 to −28.0)", 0)]


def test_a_figure_is_shown_only_where_a_page_asks_for_it():
    crossing({"none": (1.0, torch.zeros(2, 1))})
    assert not plt.get_fignums()
