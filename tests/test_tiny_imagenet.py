"""The study of larger photographs with a modern recipe: its protocol, its numbers, and what the page claims."""

import re
from dataclasses import replace

import pytest
from conftest import ending

from odelib.presets import PRESETS
from odelib.records import RESULTS
from odelib.studies import STUDIES, photos, tiny_imagenet
from odelib.studies.statistics import by_image
from odelib.studies.summary import accuracies, all_runs

STUDY = STUDIES["tiny-imagenet-20-modern"]
SHORT = STUDIES["tiny-imagenet-20"]


def test_nothing_is_missing():
    assert STUDY.missing() == []


def test_the_recipe_is_that_of_photographs_but_for_what_the_study_names():
    ours, theirs = PRESETS["odenet-tiny-imagenet-three-blocks"], PRESETS["odenet-cifar10-two-blocks"]
    differ = {name for name, value in vars(ours).items() if value != vars(theirs)[name]}
    assert differ == {"dataset", "width", "growth", "scales", "groups", "batch_size", "lr"}
    assert ours.lr / ours.batch_size == theirs.lr / theirs.batch_size
    assert tiny_imagenet.NETWORKS["tied-2"].config == photos.passed_twice(ours)


def test_all_training_images_are_trained_on_and_the_last_epoch_counts(runs):
    for run in all_runs(runs):
        assert run.config.validation == 0 and run.config.train_images is None and run.config.image_size == 64
        assert [m.epoch for m in run.metrics] == list(range(1, run.config.epochs + 1))


def test_the_classes_are_in_the_order_of_their_numbers_in_which_folders_are_read():
    assert list(tiny_imagenet.CLASSES) == sorted(tiny_imagenet.CLASSES)
    assert 50 * len(tiny_imagenet.CLASSES) == tiny_imagenet.TEST_IMAGES


def test_classes_are_sorted_by_what_the_networks_get_right(runs):
    """One network has all goldfish wrong and every other centipede, the other one is right in all."""
    one = runs["three-blocks"][0]
    wrong = [*range(50), *range(50, 100, 2)]
    made_up = {"three-blocks": [ending(one, 92.5, 0, wrong, 1_000), ending(one, 100, 1, (), 1_000)]}
    found = list(tiny_imagenet.by_class(made_up).items())
    assert found[0] == ("black stork", 100) and found[-2:] == [("centipede", 75), ("goldfish", 50)]


def test_numbers_are_of_a_thousand_images(runs):
    one = runs["three-blocks"][0]
    early = tuple(replace(m, test_accuracy=m.epoch / 100) for m in one.metrics[:5])
    made_up = {
        "three-blocks": [
            replace(run, metrics=(*early, run.last))
            for run in (ending(one, 49.0, 0, range(510), 1_000), ending(one, 50.0, 1, range(500), 1_000))
        ],
        "tied-2": [ending(one, 51.0, 1, range(20, 510), 1_000)],
    }
    said = tiny_imagenet.numbers(made_up, SHORT.runs())
    assert said["three-blocks"] == "49.50 (49.00 to 50.00)" and (said["seeds"], said["pairs"]) == ("2", "1")
    assert said["wanted"] == "50 % (missed by 0.50 points)" and said["se"] == "1.58" and said["short"] == "38.3"
    assert said["so-early"] == "5.0 (5.0 to 5.0)"
    assert said["against"] == "−1.00 (one seed)" and said["by-image"].startswith("−1.00 (−2.")


def test_the_mark_is_reached_and_the_control_is_not_told_apart(runs):
    reached = accuracies(runs["three-blocks"])
    assert min(reached) > 57  # which was the most that the protocol expected
    assert all(low < 0 < high for _, low, high in by_image(runs["three-blocks"], runs["tied-2"]))


def test_some_classes_are_much_harder_than_others(runs):
    found = tiny_imagenet.by_class(runs)
    names, shares = list(found), list(found.values())
    assert set(names[:3]) == {"goldfish", "bison", "black stork"} and names[-3:] == ["ice lolly", "dumbbell", "bucket"]
    assert shares[0] == pytest.approx(90, abs=5) and shares[-1] == pytest.approx(33, abs=5)


def test_the_page_asks_for_numbers_that_there_are(runs):
    page = (RESULTS.parent / "records.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"{glue:text}`records-larger-([^`]+)`", page))
    assert asked == set(tiny_imagenet.numbers(runs, SHORT.runs()))
