"""The study of photographs with a modern recipe: its choices, its tables, and what the page claims."""

import re
from dataclasses import replace

import pytest
from conftest import ending

from odelib import build, load_dataset
from odelib.measurements.views import Viewed, Views
from odelib.records import RESULTS
from odelib.studies import STUDIES, cifar10, modern, photos
from odelib.studies.summary import accuracies, final, held_out, only

STUDY = STUDIES["cifar10-modern"]
BEFORE = STUDIES["cifar10-full"]


@pytest.fixture
def made_up(runs):
    """Two seeds of each network: the control is half a point better, by fifty images that `small` alone gets wrong."""
    one = runs["tied-2"][0]
    return {
        **runs,
        "small": [ending(one, 88.0, 0, range(1200)), ending(one, 88.4, 1, range(1160))],
        "tied-2": [ending(one, 88.5, 0, range(1150)), ending(one, 88.9, 1, range(1110))],
        "assignment": [ending(one, 86.0), ending(one, 87.0, 1)],
    }


# The protocol


def test_nothing_is_missing():
    assert STUDY.missing() == []


def test_choices_are_made_by_held_out_images_alone(runs):
    for case in photos.CHOICES | photos.CONTROL_CHOICES:
        (run,) = runs[case]
        assert round(run.config.validation * 50_000) == photos.HELD_OUT
        assert all(m.test_accuracy is None for m in run.metrics)


def test_what_is_trained_is_what_the_rule_chose(runs):
    """Of the recipe every change that was better by over half a point, with half of the rate for half of the batch."""
    baseline, network = photos.CHOICES["choice-baseline"], photos.NETWORKS["small"].config
    bound = 100 * held_out(runs["choice-baseline"]) + photos.TAKEN
    taken = {case for case in photos.CHOICES if 100 * held_out(runs[case]) > bound}
    assert {"choice-lr-0.8", "choice-weight-decay-0.001", "choice-label-smoothing-0.1"} <= taken
    options = {name: value for name, value in vars(network).items() if value != vars(baseline)[name]}
    assert options == {
        "batch_size": 256, "weight_decay": 1e-3, "label_smoothing": 0.1, "epochs": 40, "validation": 0.0,
    }  # fmt: skip
    assert network.lr / network.batch_size == photos.CHOICES["choice-lr-0.8"].lr / baseline.batch_size
    left = taken - {"choice-lr-0.8", "choice-weight-decay-0.001", "choice-label-smoothing-0.1"}
    assert left <= {"choice-rk4"}, left  # which was not finished in time


def test_networks_differ_in_their_blocks_or_their_shape_alone():
    small, tied, assignment = (photos.NETWORKS[case].config for case in ("small", "tied-2", "assignment"))

    def options(one, other):
        return {name for name, value in vars(one).items() if value != vars(other)[name]}

    assert options(small, tied) == {"network", "blocks", "tied", "library", "method"}
    assert options(small, assignment) == {"stem", "scales", "link", "zero_start", "method"}
    shape = ("network", "stem", "width", "groups", "scales", "time", "norm", "activation", "order", "library", "method")
    assert all(getattr(assignment, name) == getattr(modern.DIGITS, name) for name in shape)


def test_networks_are_no_larger_than_a_resnet_20(runs):
    for case in photos.NAMES:
        assert runs[case][0].parameters <= 272_000


# Tables and numbers


def test_the_table_of_networks_has_an_interval_over_seeds(made_up):
    header, rows = photos.accuracy_table(made_up)
    assert [row[0] for row in rows] == list(photos.NAMES.values()) and len(header) == 7
    half = 12.7062 * 0.2828 / 2**0.5  # Student's t with one degree of freedom
    assert rows[0][1:4] == ["88.20 (88.00 to 88.40)", f"{88.2 - half:.2f} to {88.2 + half:.2f}", "90"]
    assert rows[1][3:5] == ["–", "95.0"] and rows[2][-1] == 2


def test_the_table_of_choices_has_both_networks_beside_their_baselines(runs):
    header, rows = photos.choices_table(runs)
    found = {name: cells for name, *cells in rows}
    base = 100 * held_out(runs["choice-baseline"])
    assert found["baseline"][0] == f"{base:.2f}" and len(header) == 3
    assert found["euler"][1] == found["link-res"][1] == "–"
    gain = 100 * held_out(runs["choice-tied-2-lr-0.8"]) - 100 * held_out(runs["choice-tied-2-baseline"])
    assert found["lr-0.8"][1].endswith(f"(+{gain:.2f})")
    assert set(found) == {case.removeprefix("choice-") for case in photos.CHOICES}


def test_numbers_pair_the_networks_by_seed_and_by_image(made_up):
    one = made_up["tied-2"]
    small = [ending(one[0], 88.4, 0, [*range(50), *range(90, 1200)]), ending(one[1], 88.9, 1, range(1110))]
    close = {**made_up, "small": small, "tied-2": [ending(one[0], 88.5, 0, range(50, 1200)), one[1]]}
    said = photos.numbers(close, BEFORE.runs())
    assert said["small"] == "88.65 (88.40 to 88.90)" and said["seeds"] == "2"
    assert said["against"].startswith("−0.05 (−0.69") and said["by-image"].endswith("+0.00 (−0.02 to +0.02)")
    assert (
        said["by-image"].startswith("−0.10 (−0.2")
        and said["epochs"] == "40"
        and said["wanted-small"] == "90 % (missed by 1.35 points)"
    )
    assert said["gain-euler"].startswith("−0.") and said["fate-of-rk4"].startswith("would ")
    better = {**close, "assignment": [ending(one[0], 87.0)] * 2}
    assert photos.numbers(better, BEFORE.runs())["wanted-assignment"] == "87 % (reached)"


def test_networks_that_are_told_apart_are_not_told_as_if_they_were_not(made_up):
    with pytest.raises(ValueError, match="are told apart"):
        photos.numbers(made_up, BEFORE.runs())


def test_mistakes_are_counted_by_who_makes_them(made_up):
    said = photos.mistakes(made_up)
    assert (said["wrong"], said["wrong-all"]) == ("1,160 to 1,200", "1160")
    assert (said["wrong-share"], said["wrong-own"]) == ("98", "2")  # 2 times 1160, and 40, of 2360
    assert (said["shared-same"], said["shared-other"]) == ("1,160 to 1,160", "1,110 to 1,150")


def test_two_networks_of_different_kinds_share_about_as_many_mistakes_as_two_of_a_kind(runs):
    said = photos.mistakes(runs)
    (least, most), (other_least, other_most) = (
        map(int, said[f"shared-{name}"].split(" to ")) for name in ("same", "other")
    )
    assert abs(least + most - other_least - other_most) / 2 < 0.02 * most


def test_cats_and_dogs_are_mistaken_most_often():
    record = STUDY.measured("confusion")
    counts = sum(cifar10.confusion_matrix(record, "small", seed) for seed in (0, 1, 2))
    assert cifar10.confusion_numbers(counts, record.classes)["pair"] == "cat and dog"
    beside = counts - counts.diagonal().diag()
    assert {divmod(int(i), 10) for i in beside.flatten().topk(2).indices} == {(3, 5), (5, 3)}


@pytest.fixture
def seen(runs):
    """Two networks of two cases, which six views make better by half a point and a whole one, or not at all."""
    shares = {"small": ((0.88, 0.885), (0.89, 0.9)), "tied-2": ((0.89, 0.89), (0.89, 0.89))}
    rows = [
        Viewed(case, seed, views, (after if views == 6 else before)[seed])
        for case, (before, after) in shares.items()
        for seed in (1, 0)
        for views in (1, 2, 6)
    ]
    return Views(runs["small"][0].environment, 10_000, tuple(rows))


def test_the_table_of_views_has_every_network(seen):
    more = replace(seen, rows=(*seen.rows, *(replace(row, case="assignment") for row in seen.rows[:6])))
    header, rows = photos.views_table(more)
    assert [row[0] for row in rows] == list(photos.NAMES.values())
    assert rows[0][1:] == ["88.25 (88.00 to 88.50)"] * 2 + ["89.50 (89.00 to 90.00)", 2] and len(header) == 5


def test_what_views_bring_is_paired_by_network(seen):
    more = replace(seen, rows=(*seen.rows, *(replace(row, case="assignment") for row in seen.rows[:6])))
    said = photos.views_numbers(more)
    assert said["small"] == "+0.00 (+0.00 to +0.00)" and said["small-shifts"].startswith("+1.25 (")
    assert said["tied-2-shifts"] == "+0.00 (+0.00 to +0.00)"
    assert said["against"].startswith("+0.50 (")


def test_one_published_number_alone_is_by_several_views():
    assert [row[0].split("]")[0] for row in photos.PUBLISHED if "views" in row[1]] == ["[airbench"]


def test_what_was_wanted_of_the_other_shape_is_reached_with_two_views_and_not_with_one():
    found = {n: [100 * row.accuracy for row in STUDY.measured("views").rows if (row.case, row.views) == ("small", n)]
             for n in (1, 2, 6)}  # fmt: skip
    assert sum(found[1]) / 3 < float(photos.WANTED["small"]) < sum(found[2]) / 3 < sum(found[6]) / 3


def test_one_view_is_what_the_runs_say(runs):
    """They were tested by the machine that trained them, which may round otherwise."""
    record = STUDY.measured("views")
    for case in photos.NAMES:
        for run in runs[case]:
            row = only(record.rows, case=case, seed=run.config.seed, views=1)
            assert row.accuracy == pytest.approx(run.last.test_accuracy, abs=3e-4)


def test_the_page_asks_for_numbers_that_there_are(runs):
    page = (RESULTS.parent / "records.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"{glue:text}`records-photos-([^`]+)`", page))
    assert asked == set(photos.numbers(runs, BEFORE.runs()))
    asked = set(re.findall(r"{glue:text}`records-views-([^`]+)`", page))
    assert asked == set(photos.views_numbers(STUDY.measured("views")))


# What the page claims


def test_few_groups_cost_more_than_any_other_change(runs):
    gains = {case: held_out(runs[case]) - held_out(runs["choice-baseline"]) for case in photos.CHOICES}
    few = {case for case, config in photos.CHOICES.items() if config.groups < 32}
    assert few == {"choice-groups-8", "choice-growth-2", "choice-scales-3"}
    assert max(gains[case] for case in few) < 4 * min(gains[case] for case in gains if case not in few) < 0
    tied = {case: held_out(runs[case]) for case in photos.CONTROL_CHOICES}
    assert tied["choice-tied-2-baseline"] - tied["choice-tied-2-groups-8"] > 0.05


def test_solvers_move_less_than_most_other_changes(runs):
    gains = {case: abs(held_out(runs[case]) - held_out(runs["choice-baseline"])) for case in photos.CHOICES}
    solvers = {gains.pop(f"choice-{name}") for name in ("euler", "rk4")}
    gains.pop("choice-baseline")
    assert sum(max(solvers) < gain for gain in gains.values()) > len(gains) / 2


def test_in_short_runs_the_ode_net_is_ahead_but_with_few_groups(runs):
    said = photos.numbers(runs, BEFORE.runs())
    assert "−" not in said["short-ahead"] and said["short-groups"].startswith("−")


def test_other_groups_would_have_been_possible_for_the_other_shapes():
    for name, groups in (("growth-2", 24), ("scales-3", 28)):
        config = replace(photos.CHOICES[f"choice-{name}"], groups=groups)
        assert build(config, load_dataset("cifar10-sample")).head[0].num_groups == groups


def test_the_control_has_as_many_convolutions_and_slightly_fewer_weights(runs):
    small, tied = (runs[case][0].parameters for case in ("small", "tied-2"))
    time_channels, biases, norms = 4 * 64 * 9, 4 * 64, 2 * 2 * 64
    assert small - tied == time_channels + biases + norms


def test_the_other_shape_is_ahead_of_the_assignments_with_every_seed_and_both_of_the_earlier_recipe(runs):
    small, assignment = (accuracies(runs[case]) for case in ("small", "assignment"))
    assert min(small) > max(assignment) > min(assignment) > 100 * max(final(BEFORE.runs()["odenet"]))


def test_with_few_groups_fewer_of_the_training_images_are_right_too(runs):
    for kind in ("", "tied-2-"):
        few, many = (runs[f"choice-{kind}{name}"][0].last.train_accuracy for name in ("groups-8", "baseline"))
        assert few < many - 0.05


def test_training_errors_fall_faster_again_at_the_end(runs):
    for case in photos.NAMES:
        errors = [sum(1 - run.metrics[i].train_accuracy for run in runs[case]) for i in (14, 24, 34, 39)]
        assert (errors[3] / errors[2]) ** (1 / 5) < (errors[1] / errors[0]) ** (1 / 10)


def test_no_network_reaches_90_in_any_epoch(runs):
    networks = [run for case in photos.NAMES for run in runs[case]]
    assert all(m.test_accuracy < 0.9 for run in networks for m in run.metrics)


def test_the_networks_with_an_ode_alone_went_on_elsewhere(runs):
    for case in photos.NAMES:
        for run in runs[case]:
            assert "H200" in run.environment.hardware and bool(run.later) == (case != "tied-2")
