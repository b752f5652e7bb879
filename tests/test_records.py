"""Records: the config that refuses nonsense, the run's JSON file, the weights' safetensors file."""

import json
import math
import pickle
from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest
import torch

from odelib import Config, EpochMetrics, ImageClassifier, PRESETS, RecordError, Run, build, load_weights
from odelib.studies import STUDIES
from odelib.config import ADDED
from odelib.errors import OptionError
from odelib.records import Environment, RESULTS, load_tensors, save_tensors, save_weights, write_atomically

# Config


@pytest.mark.parametrize(
    "options, message",
    [
        *[
            ({name: 0}, f"{name} must be positive, got 0")
            for name in ("width", "blocks", "scales", "epochs", "batch_size", "train_images")
        ],
        (dict(image_size=5), "image_size must be at least 6 pixels, got 5"),
        (dict(epochs=-1), "epochs must be positive, got -1"),
        (dict(lr=0.0), "lr must be positive, got 0.0"),
        (dict(lr=-0.1), "lr must be positive, got -0.1"),
        (dict(lr=math.nan), "lr must be positive, got nan"),
        *[
            ({name: value}, f"{name} must be at least 0 and below 1, got {value}")
            for name in ("validation", "dropout", "block_dropout", "momentum", "label_smoothing")
            for value in (-0.1, 1.0)
        ],
        *[
            ({name: -0.5}, f"{name} must not be negative, got -0.5")
            for name in ("weight_decay", "extra_channels", "kinetic", "jacobian")
        ],
        (dict(seed=-1), "seed must not be negative, got -1"),
        (dict(width=48), r"width above 32 must be a multiple of 32 .*, got 48"),
        (dict(extra_channels=8), r"width \+ extra_channels.* at most 32 or a multiple of 32 .*, got 64 \+ 8"),
        (dict(width=96, order=2), r"with order 2 its half, must be at most 32 or a multiple of 32"),
        (dict(width=7, order=2), "order 2 halves the channels of the state; 7 is odd"),
        (dict(order=3), "unknown order 3; choose from 1, 2"),
        (dict(norm="instance"), "norm"),
        (dict(activation="elu"), "activation"),
        (dict(time="linear"), "time"),
        (dict(method="rk5"), "unknown method 'rk5'; choose from"),
        (dict(gradient="exact"), "unknown gradient 'exact'; choose from"),
        (dict(rtol=0.0), "rtol and atol must be positive"),
        (dict(step_size=0.1), "step_size is for fixed grids only"),
        (dict(method="rk4", step_size=-0.1), "step_size must be positive"),
        (dict(method="rk4", gradient="seminorm"), "'rk4' chooses none"),
        (dict(network="resnext"), "network"),
        (dict(stem="deep"), "stem"),
        (dict(augment="flip"), "augment"),
        (dict(optimizer="lbfgs"), "optimizer"),
        (dict(schedule="linear"), "schedule"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Config(**options)


@pytest.mark.parametrize("width", [1, 8, 31, 32, 64, 96])
def test_widths_that_groupnorm_can_group_are_accepted(width):
    ImageClassifier(Config(width=width, network="none"), channels=1, classes=10)


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Config().lr = 1.0


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
    blocks=3,
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
    bf16=True,
    epochs=7,
    batch_size=32,
    optimizer="adam",
    lr=0.01,
    schedule="step",
    milestones=(1, 2),
    momentum=0.8,
    weight_decay=1e-4,
    label_smoothing=0.1,
)


@pytest.mark.parametrize("name", [f.name for f in fields(Config) if f.name not in ("seed", "step_size", "warm_start")])
def test_a_case_changes_with_every_field(name):
    assert Config(**{name: DIFFERENT[name]}).case() != Config().case()


def test_a_case_changes_with_a_warm_start():
    assert Config(library="odelib", warm_start=True).case() != Config(library="odelib").case()


def test_options_that_came_later_leave_the_names_of_older_records_alone():
    """The digests are those that these configs had before there were variations and solvers of our own."""
    assert Config().case() == "mnist-sample-odenet-direct-dopri5-3ebbac51"
    assert Config(dataset="mnist", gradient="adjoint").case() == "mnist-odenet-adjoint-dopri5-ae332a93"
    assert Config(dataset="mnist", network="resnet", blocks=1, lr=0.05).case() == "mnist-resnet-3b45e9b2"


def test_a_record_without_the_later_options_is_read():
    path = RESULTS / "mnist-gradients" / "none-seed0.json"
    assert not any(f'"{name}"' in path.read_text() for name in ADDED)
    assert Run.load(path).config == Config(dataset="mnist", network="none", epochs=5)


def test_a_case_changes_with_the_step_size_and_not_with_the_seed():
    assert Config(method="rk4", step_size=0.5).case() != Config(method="rk4").case()
    assert Config(seed=1).case() == Config(seed=2).case()


@pytest.mark.parametrize(
    "written, meant", [(dict(lr=1), dict(lr=1.0)), (dict(dropout=0), {}), (dict(milestones=[60, 100, 140]), {})]
)
def test_equal_values_are_one_case_and_one_config(written, meant):
    """A user writes lr=1 or a list; the run is the same."""
    assert Config(**written) == Config(**meant)
    assert Config(**written).case() == Config(**meant).case()


@pytest.mark.parametrize("dataset", ["/some/where/pets", "/some/where/pets/", "pets"])
def test_a_case_is_a_file_name_that_says_what_was_chosen(dataset):
    assert Config(dataset=dataset, gradient="adjoint").case().startswith("pets-odenet-adjoint-dopri5-")
    assert Config(dataset=dataset, network="none").case().startswith("pets-none-")
    assert "/" not in Config(dataset=dataset).case()


def test_the_published_recipe_is_the_preset():
    """odenet_mnist.py's defaults: 160 epochs, batches of 128, SGD with momentum 0.9 from 0.1, tenths at 60, 100, 140."""
    config = PRESETS["odenet-mnist"]
    assert (config.dataset, config.network, config.stem, config.width) == ("mnist", "odenet", "conv", 64)
    assert (config.method, config.rtol, config.atol, config.gradient) == ("dopri5", 1e-3, 1e-3, "direct")
    assert (config.epochs, config.batch_size, config.augment, config.normalize) == (160, 128, "crop", False)
    assert (config.optimizer, config.lr, config.momentum, config.weight_decay) == ("sgd", 0.1, 0.9, 0.0)
    assert (config.schedule, config.milestones) == ("step", (60, 100, 140))


# Runs


ENVIRONMENT = Environment("2030-01-01 00:00", "a processor", 2, 2, "3.11", "2.4", "0.2.5", "0.1.0")


def metrics(epoch, **other):
    values = dict(
        epoch=epoch,
        train_loss=0.1 + epoch / 3,
        train_accuracy=0.75,
        validation_accuracy=None,
        test_accuracy=0.7,
        nfe_forward=20.5,
        nfe_backward=0.0,
        seconds=1.25,
        lr=0.1,
    )
    return EpochMetrics(**{**values, **other})


@pytest.fixture
def made() -> Run:
    config = Config(epochs=2, milestones=(1, 5), method="rk4", step_size=0.25, normalize=True, lr=1e-4 / 3)
    return Run(config, 123, ENVIRONMENT, (metrics(1), metrics(2, validation_accuracy=0.5, test_accuracy=None)))


def test_a_run_read_back_is_the_run_that_was_saved(made, tmp_path):
    made.save(tmp_path / "deep" / "er" / "run.json")
    assert Run.load(tmp_path / "deep" / "er" / "run.json") == made


@pytest.mark.parametrize(
    "options", [dict(lr=1), dict(method="rk4", step_size=1), dict(milestones=[1, 2]), dict(weight_decay=0)]
)
def test_a_run_whose_config_was_written_with_whole_numbers_is_read_back(made, tmp_path, options):
    run = replace(made, config=Config(epochs=2, **options))
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_a_run_is_finished_when_it_has_all_its_epochs(made):
    assert made.finished and made.last == made.metrics[1]
    assert not replace(made, metrics=made.metrics[:1]).finished
    assert not replace(made, metrics=()).finished


def test_environment_is_that_of_this_process():
    here = Environment.here(torch.device("cpu"))
    assert here.torch == torch.__version__ and here.threads == torch.get_num_threads()
    assert here.hardware and here.cores >= 1
    for part in (here.hardware, here.torch, here.date, here.python, here.torchdiffeq):
        assert part in str(here)


def changed(run, change):
    values = json.loads(run.to_json())
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: v.pop("parameters"), "parameters"),
        (lambda v: v["metrics"][1].pop("train_loss"), "train_loss"),
        (lambda v: v["environment"].pop("torch"), "environment.torch"),
        (lambda v: v.update(parameters="many"), "parameters"),
        (lambda v: v["config"].update(width="wide"), "config.width"),
        (lambda v: v["config"].update(network="resnext"), "config.network"),
        (lambda v: v["config"].update(milestones=["soon"]), "config.milestones"),
        (lambda v: v["config"].update(colour="red"), "colour"),
        (lambda v: v.update(notes="mine"), "notes"),
        (lambda v: v["config"].update(lr=-1.0), "lr must be positive"),
        (lambda v: v["config"].update(method="rk5"), "unknown method 'rk5'"),
        (lambda v: v.update(metrics=[1, 2]), "metrics"),
        (lambda v: v.update(config=None), "config"),
        (lambda v: v.update(config=[]), "config"),
    ],
)
def test_a_wrong_field_is_named(made, tmp_path, change, message):
    path = tmp_path / "run.json"
    path.write_text(changed(made, change))
    with pytest.raises(RecordError, match=message) as caught:
        Run.load(path)
    assert str(path) in str(caught.value) and "is not a record of odelib" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"text"', "{}", '{"config": {}}'])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(RecordError, match="run.json is not a record of odelib"):
        Run.load(path)


def test_a_damaged_record_is_named(made, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(made.to_json()[:-100])
    with pytest.raises(RecordError, match="run.json is not a record of odelib: .*line"):
        Run.load(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordError, match="run.json cannot be read"):
        Run.load(path)


def test_a_study_is_read_case_by_case_in_the_order_of_the_seeds(made, tmp_path):
    for case, seed in (("adjoint-rk4", 10), ("adjoint-rk4", 2), ("none", 0)):
        run = replace(made, config=replace(made.config, seed=seed))
        run.save(tmp_path / "study" / f"{case}-seed{seed}.json")
    study = load_study("study", tmp_path)
    assert {case: [run.config.seed for run in runs] for case, runs in study.items()} == {
        "adjoint-rk4": [2, 10],
        "none": [0],
    }


# Files are whole or not there


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(made, tmp_path):
    path = tmp_path / "run.json"
    made.save(path)

    def half(part):
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, half)
    assert Run.load(path) == made
    assert list(tmp_path.iterdir()) == [path]


def test_a_first_write_that_fails_leaves_nothing(tmp_path):
    def half(part):
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "run.json", half)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_in_place_only_when_it_is_complete(tmp_path):
    path = tmp_path / "run.json"

    def write(part):
        part.write_text("half")
        assert not path.exists()
        part.write_text("whole")

    write_atomically(path, write)
    assert path.read_text() == "whole"


# Weights


@pytest.mark.parametrize(
    "config",
    [
        Config(width=8, normalize=True, dropout=0.5, gradient="adjoint", milestones=(3,)),
        Config(width=8, network="resnet", blocks=2, stem="res"),
        Config(width=8, network="none", stem="one-shot", lr=1 / 3),
    ],
)
def test_weights_read_back_are_the_model_that_was_saved(config, tiny, tmp_path):
    model = build(config, tiny)
    save_weights(tmp_path / "w.safetensors", model, config)
    again, its_config = load_weights(tmp_path / "w.safetensors")
    assert its_config == config
    assert not again.training
    assert (again.channels, again.classes) == (1, 10)
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    x = tiny.test.images.float() / 255
    with torch.no_grad():
        assert torch.equal(again(x), model.eval()(x))
    if config.normalize:
        assert again.normalize.mean.item() == model.normalize.mean.item() != 0
        assert again.normalize.std.item() != 1


def relabelled(tmp_path, tiny, metadata=None, **tensors):
    """Weights of a one-shot resnet with other metadata or other tensors."""
    config = Config(width=8, network="resnet", blocks=1, stem="one-shot")
    model = build(config, tiny)
    texts = {"config": json.dumps(asdict(config)), "channels": "1", "classes": "10", **(metadata or {})}
    path = tmp_path / "w.safetensors"
    save_tensors(path, {**model.state_dict(), **tensors}, {k: v for k, v in texts.items() if v is not None})
    return path


def as_config(**options):
    return json.dumps({**asdict(Config(width=8, network="resnet", blocks=1, stem="one-shot")), **options})


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": as_config(network="odenet")},
        {"config": as_config(width=16)},
        {"config": as_config(blocks=2)},
        {"config": as_config(stem="conv")},
        {"classes": "20"},
        {"channels": "3"},
    ],
)
def test_weights_of_another_architecture_are_refused_in_one_line(tmp_path, tiny, metadata):
    path = relabelled(tmp_path, tiny, metadata)
    with pytest.raises(RecordError, match="w.safetensors does not hold a model of odelib") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": None},
        {"channels": None},
        {"classes": "ten"},
        {"config": "{"},
        {"config": "null"},
        {"config": "[]"},
        {"config": as_config(colour="red")},
        {"config": as_config(lr=-1.0)},
        {"config": as_config(width="wide")},
    ],
)
def test_weights_with_wrong_metadata_are_refused(tmp_path, tiny, metadata):
    with pytest.raises(RecordError, match="w.safetensors does not hold a model of odelib"):
        load_weights(relabelled(tmp_path, tiny, metadata))


def test_weights_with_a_tensor_too_many_are_refused(tmp_path, tiny):
    with pytest.raises(RecordError, match="does not hold a model of odelib"):
        load_weights(relabelled(tmp_path, tiny, None, surplus=torch.zeros(3)))


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemError('unpickled')",))


@pytest.mark.parametrize("kind", ["pickle", "torch", "text", "empty", "truncated", "absent"])
def test_a_file_that_is_no_safetensors_is_refused_and_never_unpickled(tmp_path, tiny, kind):
    path = tmp_path / "model.pth"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif kind == "torch":
        torch.save({"weights": Bomb()}, path)
    elif kind == "text":
        path.write_text("weights")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(relabelled(tmp_path, tiny).read_bytes()[:-100])
    for read in (load_weights, load_tensors):
        with pytest.raises(RecordError, match="model.pth cannot be read as safetensors"):
            read(path)
