"""Options: values that refuse nonsense, the config that is made of them, and the name it gives its files."""

import math
from dataclasses import FrozenInstanceError, asdict, dataclass, fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from odelib import PRESETS, Config, ImageClassifier, Network, Selection, Solver, Training
from odelib.config import ADDED
from odelib.errors import OptionError
from odelib.options import Options

# What is refused


@pytest.mark.parametrize(
    "options, message",
    [
        *[
            ({name: 0}, f"{name} must be positive, got 0")
            for name in ("width", "groups", "blocks", "scales", "growth", "epochs", "batch_size", "train_images")
        ],
        (dict(image_size=5), "image_size must be at least 6 pixels, got 5"),
        (dict(epochs=-1), "epochs must be positive, got -1"),
        (dict(lr=0.0), "lr must be positive, got 0.0"),
        (dict(lr=-0.1), "lr must be positive, got -0.1"),
        *[
            ({name: value}, f"{name} must be at least 0 and below 1, got {value}")
            for name in ("validation", "dropout", "block_dropout", "momentum", "label_smoothing", "ema")
            for value in (-0.1, 1.0)
        ],
        *[({name: -0.5}, f"{name} must not be negative, got -0.5") for name in ("weight_decay", "kinetic", "jacobian")],
        (dict(extra_channels=-4), "extra_channels must not be negative, got -4"),
        (dict(seed=-1), "seed must not be negative, got -1"),
        (dict(seed=2**32), r"seed must be below 2\*\*32, got 4294967296"),
        (dict(milestones=(-1,)), "milestones must not be negative, got -1"),
        (dict(milestones=(60, -3)), "milestones must not be negative, got 60 -3"),
        (dict(width=2**16 + 1), "width must be at most 65536, got 65537"),
        (dict(blocks=1001), "blocks must be at most 1000, got 1001"),
        (dict(scales=17), "scales must be at most 16, got 17"),
        (dict(growth=17), "growth must be at most 16, got 17"),
        (dict(growth=16, scales=4), "growth 16 in 4 scales leads to over 65536 channels"),
        (dict(width=24, growth=2, scales=2), r"growth leads to 48 channels, which must be a multiple of 32 \(Group"),
        (dict(zero_start=True, norm="none"), "zero_start sets the scale of the last norm of f to 0, and norm none has"),
        (dict(nesterov=True, optimizer="adam"), "nesterov is for optimizer sgd with a momentum"),
        (dict(nesterov=True, momentum=0.0), "nesterov is for optimizer sgd with a momentum"),
        (dict(ema=0.9, norm="batch"), "ema averages weights, to which the statistics of norm batch would not fit"),
        (dict(method="rk4", step_size=9e-5), "step_size must be at least 0.0001, got 9e-05"),
        (dict(width=48), r"width above 32 must be a multiple of 32 .*, got 48"),
        (dict(groups=48), r"width above 48 must be a multiple of 48 \(GroupNorm has 48 groups\), got 64"),
        (dict(extra_channels=8), r"width \+ extra_channels.* at most 32 or a multiple of 32 .*, got 64 \+ 8"),
        (dict(width=96, order=2), r"with order 2 its half, must be at most 32 or a multiple of 32"),
        (dict(width=7, order=2), "order 2 halves the channels of the state; 7 is odd"),
        (dict(order=3), "unknown order 3; choose from 1, 2"),
        (dict(norm="instance"), "unknown norm 'instance'; choose from group, layer, batch, none"),
        (dict(activation="elu"), "unknown activation 'elu'"),
        (dict(time="linear"), "unknown time 'linear'; choose from channel, none"),
        (dict(method="rk5"), "unknown method 'rk5'; choose from"),
        (dict(method="scipy_solver"), "unknown method 'scipy_solver'; choose from"),
        (dict(gradient="exact"), "unknown gradient 'exact'; choose from"),
        (dict(library="diffrax"), "unknown library 'diffrax'; choose from torchdiffeq, odelib"),
        (dict(rtol=0.0), "rtol and atol must be positive"),
        (dict(step_size=0.1), "step_size is for fixed grids only"),
        (dict(method="rk4", step_size=-0.1), "step_size must be positive, got -0.1"),
        (dict(method="rk4", gradient="seminorm"), "'rk4' chooses none"),
        (dict(gradient="checkpoint"), "take library odelib"),
        (dict(warm_start=True), "warm_start is for adaptive methods of library odelib"),
        (dict(stop_at_t1=True, method="rk4"), "stop_at_t1 is for adaptive methods of library torchdiffeq"),
        (dict(stop_at_t1=True, library="odelib"), "stop_at_t1 is for adaptive methods of library torchdiffeq"),
        (dict(network="resnext"), "unknown network 'resnext'"),
        (dict(stem="deep"), "unknown stem 'deep'"),
        (dict(augment="flip"), "unknown augment 'flip'"),
        (dict(optimizer="lbfgs"), "unknown optimizer 'lbfgs'"),
        (dict(schedule="sine"), "unknown schedule 'sine'"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(OptionError, match=message) as caught:
        Config(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(epochs=2.5), "epochs must be a whole number, got 2.5"),
        (dict(epochs=2.0), "epochs must be a whole number, got 2.0"),
        (dict(width="64"), "width must be a whole number, got '64'"),
        (dict(width=None), "width must be a whole number, got None"),
        (dict(seed=0.5), "seed must be a whole number, got 0.5"),
        (dict(batch_size=True), "batch_size must be a whole number, got True"),
        (dict(train_images=0.5), "train_images must be a whole number, got 0.5"),
        (dict(lr="0.1"), "lr must be a finite number, got '0.1'"),
        (dict(lr=True), "lr must be a finite number, got True"),
        *[
            ({name: value}, f"{name} must be a finite number, got {value}")
            for name in ("lr", "weight_decay", "kinetic", "rtol", "momentum", "dropout")
            for value in (math.nan, math.inf, -math.inf)
        ],
        (dict(method="rk4", step_size=math.nan), "step_size must be a finite number, got nan"),
        (dict(normalize="no"), "normalize must be true or false, got 'no'"),
        (dict(normalize=1), "normalize must be true or false, got 1"),
        (dict(dataset=""), "dataset must be a text that is not empty, got ''"),
        (dict(dataset=" "), "dataset must be a text that is not empty, got ' '"),
        (dict(dataset=3), "dataset must be a text that is not empty, got 3"),
        (dict(method=None), "method must be a text that is not empty, got None"),
        (dict(milestones=60), "milestones must be several values in a row, got 60"),
        (dict(milestones="60"), "milestones must be several values in a row, got '60'"),
        (dict(milestones=(60, 1.5)), "milestones must be a whole number, got 1.5"),
        (dict(batch_size=2**63), "batch_size must have at most 64 bits, got 9223372036854775808"),
        (dict(image_size=10**5000), "image_size must have at most 64 bits, got "),
        (dict(lr=10**400), "lr must be a finite number, got 1000"),
        (dict(dataset="a\nb"), r"dataset must be a printable text, got 'a\nb'"),
        (dict(dataset="\udcff"), r"dataset must be a printable text, got '\udcff'"),
        (dict(norm=np.zeros(3)), "unknown norm array([0., 0., 0.]); choose from"),
        (dict(order=True), "unknown order True; choose from 1, 2"),
        (dict(order=1.0), "unknown order 1.0; choose from 1, 2"),
        (dict(norm=None), "unknown norm None; choose from"),
    ],
)
def test_a_value_of_another_type_is_refused(options, message):
    with pytest.raises(OptionError) as caught:
        Config(**options)
    assert str(caught.value).startswith(message)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.fractions(), st.complex_numbers(),
    st.decimals(), st.lists(st.integers()), st.tuples(st.floats()), st.dictionaries(st.text(), st.none()),
    st.builds(object), st.just(np.zeros(2)), st.just(torch.zeros(2)), st.just(10**5000), st.just(Solver),
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from([field.name for field in fields(Config)]), ANYTHING, min_size=1, max_size=3))
def test_any_values_make_a_config_or_an_option_error_in_one_line(options):
    try:
        Config(**options).case()
    except OptionError as error:
        assert str(error).isprintable() and len(str(error)) < 400


@pytest.mark.parametrize("width", [1, 8, 31, 32, 64, 96])
def test_widths_that_groupnorm_can_group_are_accepted(width):
    config = Config(width=width, network="none")
    ImageClassifier(config, config, channels=1, classes=10)


@pytest.mark.parametrize(
    "options",
    [
        dict(method="rk4", step_size=1e-4),
        dict(seed=2**32 - 1),
        dict(milestones=(0,)),
        dict(milestones=()),
        dict(momentum=0.0),
    ],
)
def test_the_last_values_that_are_allowed(options):
    assert all(getattr(Config(**options), name) == value for name, value in options.items())


@pytest.mark.parametrize("kind", [Config, Training, Solver, Network, Selection])
def test_options_cannot_be_changed(kind):
    with pytest.raises(FrozenInstanceError):
        setattr(kind(), fields(kind)[0].name, 1)


# What is the same


@pytest.mark.parametrize(
    "written, meant",
    [
        (dict(lr=1), dict(lr=1.0)),
        (dict(dropout=0), {}),
        (dict(milestones=[60, 100, 140]), {}),
        (dict(method="rk4", step_size=1), dict(method="rk4", step_size=1.0)),
        (dict(lr=np.float32(0.5), epochs=np.int64(3)), dict(lr=0.5, epochs=3)),
    ],
)
def test_equal_values_are_one_case_and_one_config(written, meant):
    """A user writes lr=1, a list, or a number of numpy; the run is the same."""
    written, meant = Config(**written), Config(**meant)
    assert written == meant and written.case() == meant.case()
    types = [[type(value) for value in asdict(config).values()] for config in (written, meant)]
    assert types[0] == types[1]


@pytest.mark.parametrize("kind", [Training, Solver, Network, Selection])
def test_a_part_of_a_config_has_its_options_and_no_others(kind):
    config = Config(method="rk4", step_size=0.5, epochs=7, width=8, dataset="cifar10", seed=3)
    part = config.part(kind)
    assert type(part) is kind
    assert asdict(part) == {field.name: getattr(config, field.name) for field in fields(kind)}


def test_the_parts_share_no_option_and_the_config_adds_none():
    names = [field.name for kind in (Training, Solver, Network, Selection) for field in fields(kind)]
    assert len(names) == len(set(names)) and set(names) == {field.name for field in fields(Config)}


def test_every_kind_of_options_has_its_say():
    """Where a kind is made of others, the checks of all of them hold."""

    @dataclass(frozen=True)
    class Odd(Options):
        n: int = 1

        def _check(self):
            if self.n % 2 == 0:
                raise OptionError("even")

    @dataclass(frozen=True)
    class Small(Options):
        m: int = 1

        def _check(self):
            if self.m > 9:
                raise OptionError("large")

    @dataclass(frozen=True)
    class Both(Odd, Small):
        pass

    Both(n=3, m=2)
    for options, message in ((dict(n=2), "even"), (dict(m=10), "large")):
        with pytest.raises(OptionError, match=message):
            Both(**options)


def test_a_config_is_shown_with_all_its_options():
    """And not as the Solver that it is too."""
    assert str(Config(epochs=7)) == repr(Config(epochs=7))
    assert "epochs=7" in str(Config(epochs=7)) and "width=64" in str(Config())


# Names of files


DIFFERENT = dict(
    dataset="cifar10",
    validation=0.1,
    train_images=100,
    image_size=32,
    augment="crop",
    normalize=True,
    network="resnet",
    stem="res",
    width=32,
    groups=8,
    blocks=3,
    tied=True,
    link="conv",
    growth=2,
    zero_start=True,
    dropout=0.1,
    time="none",
    norm="layer",
    activation="tanh",
    block_dropout=0.1,
    extra_channels=32,
    order=2,
    scales=2,
    kinetic=0.1,
    jacobian=0.1,
    method="bosh3",
    rtol=1e-4,
    atol=1e-5,
    gradient="adjoint",
    library="odelib",
    stop_at_t1=True,
    bf16=True,
    products=True,
    stem_bf16=True,
    epochs=7,
    batch_size=32,
    optimizer="adam",
    lr=0.01,
    schedule="step",
    milestones=(1, 2),
    momentum=0.8,
    nesterov=True,
    weight_decay=1e-4,
    decay_filters=True,
    ema=0.999,
    label_smoothing=0.1,
)


@pytest.mark.parametrize("name", [f.name for f in fields(Config) if f.name not in ("seed", "step_size", "warm_start")])
def test_a_case_changes_with_every_field(name):
    assert Config(**{name: DIFFERENT[name]}).case() != Config().case()


def test_a_case_changes_with_a_warm_start():
    assert Config(library="odelib", warm_start=True).case() != Config(library="odelib").case()


def test_a_case_changes_with_the_step_size_and_not_with_the_seed():
    assert Config(method="rk4", step_size=0.5).case() != Config(method="rk4").case()
    assert Config(seed=1).case() == Config(seed=2).case()


@pytest.mark.parametrize(
    "options, case",
    [
        ({}, "mnist-sample-odenet-direct-dopri5-3ebbac51"),
        (dict(dataset="mnist", gradient="adjoint"), "mnist-odenet-adjoint-dopri5-ae332a93"),
        (dict(dataset="mnist", network="resnet", blocks=1, lr=0.05), "mnist-resnet-3b45e9b2"),
        (
            dict(
                dataset="cifar10",
                validation=0.1,
                train_images=10_000,
                augment="crop-flip",
                normalize=True,
                method="rk4",
                batch_size=64,
                lr=0.05,
                weight_decay=5e-4,
                norm="batch",
            ),
            "cifar10-odenet-direct-rk4-d99ca3a0",
        ),
        (
            dict(library="odelib", method="bosh3", rtol=0.01, atol=0.01, warm_start=True, kinetic=0.1),
            "mnist-sample-odenet-direct-bosh3-5cb62271",
        ),
        (
            dict(method="rk4", step_size=0.25, gradient="adjoint", bf16=True, milestones=(1, 2)),
            "mnist-sample-odenet-adjoint-rk4-766f924e",
        ),
        (
            dict(
                dataset="/some/where/pets",
                image_size=32,
                width=32,
                extra_channels=32,
                order=2,
                scales=2,
                time="none",
                activation="swish",
                norm="layer",
                block_dropout=0.1,
                jacobian=0.01,
                optimizer="adamw",
            ),
            "pets-odenet-direct-dopri5-1da51eb9",
        ),
        (dict(dataset="mnist", augment="crop", epochs=160, schedule="step"), "mnist-odenet-direct-dopri5-323b5127"),
    ],
)
def test_the_names_of_files_stay(options, case):
    """As the first edition had them, the first three before there were variations and solvers of our own."""
    assert Config(**options).case() == case


def test_options_that_came_later_are_options():
    assert set(ADDED) <= {field.name for field in fields(Config)} and len(set(ADDED)) == len(ADDED)


@pytest.mark.parametrize("dataset", ["/some/where/pets", "/some/where/pets/", "pets"])
def test_a_case_is_a_file_name_that_says_what_was_chosen(dataset):
    assert Config(dataset=dataset, gradient="adjoint").case().startswith("pets-odenet-adjoint-dopri5-")
    assert Config(dataset=dataset, network="none").case().startswith("pets-none-")
    assert "/" not in Config(dataset=dataset).case()


# The command line that makes a config


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, ""),
        (dict(dataset="my pictures"), "--dataset 'my pictures'"),
        (dict(dataset="it's; rm"), """--dataset 'it'"'"'s; rm'"""),
        (dict(normalize=True, milestones=(1, 2), lr=1), "--normalize --lr 1.0 --milestones 1 2"),
        (dict(method="rk4", step_size=0.25, train_images=10), "--train-images 10 --method rk4 --step-size 0.25"),
    ],
)
def test_the_options_of_a_config_are_words_for_a_shell(options, said):
    """That they make the same config again `test_cli` asks."""
    assert Config(**options).options() == said


def test_the_networks_of_the_records_have_presets():
    from odelib.studies import STUDIES

    headlines = {
        "odenet-mnist-modern": ("mnist-modern", "odenet"),
        "odenet-cifar10-modern": ("cifar10-modern", "assignment"),
        "odenet-cifar10-two-blocks": ("cifar10-modern", "small"),
        "odenet-fashion-mnist-two-blocks": ("fashion-mnist-modern", "small"),
        "odenet-tiny-imagenet-three-blocks": ("tiny-imagenet-20-modern", "three-blocks"),
    }
    assert {**headlines, "odenet-mnist": None}.keys() == PRESETS.keys()
    for name, (study, case) in headlines.items():
        assert STUDIES[study].runs()[case][0].config == PRESETS[name]


def test_the_published_recipe_is_the_preset():
    """odenet_mnist.py's defaults: 160 epochs of batches of 128, SGD with momentum 0.9, tenths at 60, 100, 140."""
    config = PRESETS["odenet-mnist"]
    assert (config.dataset, config.network, config.stem, config.width) == ("mnist", "odenet", "conv", 64)
    assert (config.method, config.rtol, config.atol, config.gradient) == ("dopri5", 1e-3, 1e-3, "direct")
    assert (config.epochs, config.batch_size, config.augment, config.normalize) == (160, 128, "crop", False)
    assert (config.optimizer, config.lr, config.momentum, config.weight_decay) == ("sgd", 0.1, 0.9, 0.0)
    assert (config.schedule, config.milestones) == ("step", (60, 100, 140))
    assert replace(config, epochs=5) != config
