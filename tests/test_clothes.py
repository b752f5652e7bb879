"""The study of clothes with a modern recipe: its protocol, its table, and what the page claims."""

import re

import pytest
from conftest import ending

from odelib.presets import PRESETS
from odelib.records import RESULTS
from odelib.studies import STUDIES, clothes, photos
from odelib.studies.statistics import by_image
from odelib.studies.summary import accuracies

STUDY = STUDIES["fashion-mnist-modern"]
SHORT = STUDIES["fashion-mnist"]


def test_nothing_is_missing():
    assert STUDY.missing() == []


def test_the_recipe_is_that_of_photographs_but_for_what_the_study_names():
    ours, theirs = PRESETS["odenet-fashion-mnist-two-blocks"], PRESETS["odenet-cifar10-two-blocks"]
    differ = {name for name, value in vars(ours).items() if value != vars(theirs)[name]}
    assert differ == {"dataset", "augment", "products", "batch_size", "epochs", "lr"}
    assert ours.lr / ours.batch_size == theirs.lr / theirs.batch_size
    for case in clothes.NAMES:
        one, other = clothes.NETWORKS[case].config, photos.NETWORKS[case].config
        shared = {"network", "stem", "width", "groups", "scales", "link", "tied", "blocks", "library", "method"}
        assert all(getattr(one, name) == getattr(other, name) for name in shared)


def test_all_training_images_are_trained_on_and_the_last_epoch_counts(runs):
    for run in (run for case in runs.values() for run in case):
        assert run.config.validation == 0 and run.config.train_images is None and run.parameters < 210_000
        assert [m.epoch for m in run.metrics] == list(range(1, run.config.epochs + 1))


@pytest.fixture
def made_up(runs):
    """Two seeds, and one of the control, which gets 50 images more right and 20 more wrong."""
    one = runs["small"][0]
    small = [ending(one, 92.0, 0, range(800)), ending(one, 93.0, 1, range(700))]
    return {"small": small, "tied-2": [ending(one, 92.3, 0, range(50, 820))]}


def test_the_table_has_an_interval_where_there_are_several_seeds(made_up):
    _, rows = photos.accuracy_table(made_up, clothes.NAMES, clothes.WANTED)
    half = 12.7062 * 0.7071 / 2**0.5  # Student's t with one degree of freedom
    assert rows[0][1:4] == ["92.50 (92.00 to 93.00)", f"{92.5 - half:.2f} to {92.5 + half:.2f}", "93"]
    assert rows[1][1:4] == ["92.30", "–", "–"] and rows[1][-1] == 1


def test_numbers_pair_the_seeds_that_both_have(made_up):
    said = clothes.numbers(made_up, SHORT.runs())
    assert said["small"] == "92.50 (92.00 to 93.00)" and said["tied-2"] == "92.30"
    assert (said["seeds"], said["pairs"]) == ("2", "1") and said["wanted"] == "93 % (missed by 0.50 points)"
    assert said["against"] == "−0.30 (one seed)" and said["by-image"].startswith("−0.30 (−0.4")
    assert said["training-small"].startswith("95.0") and said["short"] == "88.8"


def test_the_mark_is_missed_and_the_two_are_not_told_apart(runs):
    assert max(accuracies(runs["small"])) < 92.5  # which was the least that the protocol expected
    assert all(low < 0 < high for _, low, high in by_image(runs["small"], runs["tied-2"]))
    for run in (run for case in runs.values() for run in case):
        before, last = run.metrics[-2:]
        assert last.test_accuracy > before.test_accuracy and last.train_accuracy > before.train_accuracy


def test_the_page_asks_for_numbers_that_there_are(runs):
    page = (RESULTS.parent / "records.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"{glue:text}`records-clothes-([^`]+)`", page))
    assert asked == set(clothes.numbers(runs, SHORT.runs()))
