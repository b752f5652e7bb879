"""The studies on CIFAR-10, and what was taken from them to other data: their configs keep the protocol."""

from dataclasses import asdict

import numpy as np
import pytest

from odelib import Config, ImageClassifier, count_parameters
from odelib.config import ADDED
from odelib.studies import STUDIES
from odelib.studies.cifar10 import (
    AGAIN,
    BASE,
    BASELINES,
    FULL,
    MORE_SEEDS,
    RECIPE,
    one_factor,
    protocol,
    second_round,
)
from odelib.studies.elsewhere import FASHION_MNIST, TINY_IMAGENET

TUNING = STUDIES["cifar10-tuning"]
CASES = {name: case.config for name, case in TUNING.cases.items()}
TOGETHER = {"optimizer", "lr", "weight_decay"}, {"rtol", "atol"}  # one factor
FIRST = (0, 1, 2)  # seeds of a baseline in the first round, by which everything was chosen


def first_round(runs):
    """Validation accuracies of the seeds that a case had when the choices were made."""
    return [run.last.validation_accuracy for run in runs if run.config.seed in FIRST]


def changed(config, baseline):
    return {name for name, value in asdict(config).items() if value != getattr(baseline, name)}


def test_every_case_differs_from_its_baseline_in_one_factor_and_none_comes_twice():
    for baseline, cases in one_factor().items():
        for name, config in cases.items():
            options = changed(config, BASELINES[baseline])
            assert len(options) == 1 or options in TOGETHER, name
            assert name.startswith(f"{baseline}-")
    assert len(set(CASES.values())) == len(CASES)


def test_no_case_sees_the_test_images_and_all_have_one_budget():
    for config in CASES.values():
        budget = (config.dataset, config.validation, config.train_images, config.epochs)
        assert budget == ("cifar10", 0.1, 10_000, 5)


def test_residual_networks_are_tuned_as_much_as_the_ode_net():
    for network in ("odenet", "resnet-1", "resnet-4"):
        assert {f"{network}-{factor}" for factor in RECIPE} <= set(CASES)


def test_a_baseline_has_three_seeds_and_a_change_that_beats_it_a_second_one():
    """By the records: the rule is that of the protocol, and no case is tried again for another reason."""
    runs = TUNING.runs()
    for baseline, cases in one_factor().items():
        if baseline == "strict":
            assert set(cases) <= set(AGAIN)
            continue
        mean = np.mean(first_round(runs[baseline]))
        better = {name for name in cases if runs[name][0].last.validation_accuracy > mean}
        assert better == set(AGAIN) & set(cases)


def test_seeds_are_those_of_the_two_rounds():
    for name, case in TUNING.cases.items():
        if name in BASELINES:
            assert case.seeds == (*FIRST, *MORE_SEEDS.get(name, ()))
        else:
            assert case.seeds == ((0, 1) if name in AGAIN or name in second_round() else (0,))


def test_the_history_of_the_protocol_is_that_of_the_records():
    """Which runs had not begun when the recipe of the full study was fixed, and when runs of the rounds began."""
    began = {(case, run.config.seed): run.environment.date for case, found in TUNING.runs().items() for run in found}
    assert min(began.values()) == "2026-11-25 10:05"
    first = [date for (case, seed), date in began.items() if seed == 0 and "strict" not in case and date < "2026-11-26"]
    assert max(first) < "2026-11-25 12:15"
    late = {case for (case, seed), date in began.items() if "2026-11-25 12:31" < date < "2026-11-25 12:51"}
    residual = {case for case in AGAIN if case.startswith("resnet")}
    assert late == {"odenet-tanh", *(case for case in AGAIN if case.startswith("adaptive")), *residual}
    assert all(date > "2026-11-26" for (_, seed), date in began.items() if seed > 2)
    second = {name: date for name, date in began.items() if name[0] in second_round() or name[1] > 3}
    assert min(second.values()) >= "2026-11-27 03:49" and len(second) == 2 + 2 * len(second_round())
    assert min(date for (case, _), date in second.items() if "norm-layer" in case) > "2026-11-27 04:04"
    whole = {
        (case, run.config.seed): run.environment.date
        for case, found in STUDIES["cifar10-full"].runs().items()
        for run in found
    }
    at_first = {name: date for name, date in whole.items() if name[1] == 0 or name[0] == "odenet"}
    assert (min(at_first.values()), max(at_first.values())) == ("2026-11-25 13:59", "2026-11-25 15:18")
    assert all(date > "2026-11-25 17:43" for name, date in whole.items() if name not in at_first)
    assert all(time in protocol() for time in ("10:05", "12:15", "12:31", "12:50", "13:59 to 15:18", "17:43"))


@pytest.mark.parametrize("config", {**CASES, **FULL}.values(), ids={**CASES, **FULL})
def test_every_case_can_be_built_for_colour_images(config):
    ImageClassifier(config, config, channels=3, classes=10)


def test_the_full_study_has_the_published_size_and_matched_baselines():
    sizes = {name: count_parameters(ImageClassifier(config, config, 3, 10)) for name, config in FULL.items()}
    assert sizes["odenet"] == 209_418
    assert abs(sizes["resnet-1"] - sizes["odenet"]) < 0.01 * sizes["odenet"]
    assert FULL["resnet-4"].blocks == 4 and FULL["odenet"].method == "rk4"
    for config in FULL.values():
        assert config.validation == 0 and config.train_images is None
        assert changed(config, FULL["odenet"]) <= {"network", "blocks", "lr", "norm"}


@pytest.mark.parametrize("network", ["odenet", "resnet-1", "resnet-4"])
@pytest.mark.parametrize("factor", ["lr-0.15", "lr-0.02", "one-cycle", "label-smoothing-0.1", "dropout-0.3"])
def test_the_full_study_takes_what_beat_its_baseline_with_both_seeds(network, factor):
    runs = {case: first_round(found) for case, found in TUNING.runs().items()}
    case = f"{network}-{factor}"
    won = case in AGAIN and np.mean(runs[case]) > np.mean(runs[network])
    taken = all(getattr(FULL[network], name) == value for name, value in RECIPE[factor].items())
    assert taken == won


@pytest.mark.parametrize("study", [FASHION_MNIST, TINY_IMAGENET])
def test_other_data_get_the_recipe_as_it_is(study):
    for name, config in study.items():
        chosen = FULL[name.removesuffix("-two-scales")]
        assert changed(config, chosen) <= {"dataset", "epochs", "scales"}


def test_the_folder_study_takes_the_folder_in_the_data_root():
    assert {config.dataset for config in TINY_IMAGENET.values()} == {"tiny-imagenet-20"}
    assert all(config.image_size == 64 for config in TINY_IMAGENET.values())


def test_the_default_of_every_variation_is_in_the_baseline():
    variations = set(ADDED) - {"train_images"}
    assert all(getattr(BASE, name) == getattr(Config, name) for name in variations)
