"""A trial: a picture that does not pass the network is told before it is trained, and nothing else has changed."""

import copy
from dataclasses import replace

import pytest
import torch
from bad_files import pictures

from odelib import Config, Images, OptionError, build, load_weights
from odelib.cli import main
from odelib.runs import run
from odelib.trial import try_one_picture


def images(size, n=4, channels=1):
    return Images(torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8), torch.arange(n) % 2)


def network(tiny, **options):
    return build(Config(width=8, **options), tiny)


@pytest.mark.parametrize(
    "options, size, message",
    [
        (
            dict(),
            2,
            "a picture of 2 x 2 pixels does not pass this network .Calculated padded input size .*; take",
        ),
        (dict(), 8, "a picture of 8 x 8 pixels does not pass this network .Expected more than 1 value per channel"),
        (dict(stem="res"), 6, "Expected more than 1 value"),
        (dict(stem="res", network="none"), 6, "Expected more than 1 value"),
        (dict(scales=4), 28, "Expected more than 1 value"),
    ],
)
def test_a_picture_that_is_too_small_is_refused(tiny, options, size, message):
    with pytest.raises(OptionError, match=message):
        try_one_picture(network(tiny, **options), images(size))


@pytest.mark.parametrize("options, size", [(dict(), 12), (dict(stem="res"), 9), (dict(stem="one-shot"), 6)])
def test_the_smallest_pictures_pass(tiny, options, size):
    try_one_picture(network(tiny, **options), images(size))


def test_batch_norm_minds_a_single_value_where_a_picture_is_alone(tiny):
    model = network(tiny, stem="one-shot", norm="batch")
    model.stem = torch.nn.Sequential(model.stem, torch.nn.AdaptiveAvgPool2d(1))
    model.head = torch.nn.Flatten()
    try_one_picture(model, images(8))
    with pytest.raises(OptionError, match="Expected more than 1 value per channel when training"):
        try_one_picture(model, images(8), alone=True)


@pytest.mark.parametrize(
    "dtype, refused, allowed",
    [(torch.float32, 5e-7, 1e-6), (torch.float64, 1e-15, 2e-15)],
)
@pytest.mark.parametrize("library", ["torchdiffeq", "odelib"])
def test_a_tolerance_that_rounding_hides_is_refused(tiny, dtype, refused, allowed, library):
    def trial(method="dopri5", **tolerances):
        try_one_picture(network(tiny, library=library, method=method, **tolerances).to(dtype), tiny.test)

    message = (
        f"rtol or atol must be at least .*, ten times the precision of {torch.finfo(dtype).bits} bit numbers, got rtol"
    )
    with pytest.raises(OptionError, match=message):
        trial(rtol=refused, atol=refused)
    for tolerances in (dict(rtol=allowed, atol=allowed), dict(rtol=refused), dict(atol=refused)):
        trial(**tolerances)
    trial("rk4", rtol=refused, atol=refused)


def test_the_model_and_the_random_numbers_stay_as_they_are(tiny):
    model = network(tiny, norm="batch", block_dropout=0.5, dropout=0.5, jacobian=0.1, gradient="adjoint").train()
    before, solver, state = copy.deepcopy(model.state_dict()), model.block.solver, torch.get_rng_state()
    for alone in (False, True):
        try_one_picture(model, tiny.train, alone)
    assert model.training and model.block.training and model.block.solver == solver
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_run_is_tried_before_its_first_step(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("odelib.training.train_step", None)
    small = replace(tiny, train=images(8), test=images(8))
    config = Config(dataset="mnist", width=8, epochs=1, batch_size=2)
    with pytest.raises(OptionError, match="a picture of 8 x 8 pixels"):
        run(config, small, tmp_path / "a.json", torch.device("cpu"))
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_network_that_the_memory_does_not_hold_is_not_made(tiny, monkeypatch):
    config = Config(width=8, network="none")
    size = sum(parameter.numel() for parameter in build(config, tiny).parameters())
    monkeypatch.setattr("odelib.machine.memory", lambda: 8.0 * size)
    build(config, tiny)
    monkeypatch.setattr("odelib.machine.memory", lambda: 8.0 * size - 1)
    with pytest.raises(OptionError, match=f"{size:,} parameters and their gradients take .*; take a smaller width"):
        build(config, tiny)


def test_weights_are_evaluated_on_pictures_of_their_classes_alone(tmp_path, capsys):
    pets = pictures(tmp_path / "pets")
    fruit = pictures(tmp_path / "fruit", classes=("apple", "pear"))
    words = ["--network", "none", "--width", "8", "--stem", "one-shot", "--epochs", "1", "--device", "cpu"]
    words += ["--image-size", "8", "--name", "a", "--out", str(tmp_path)]
    assert main(["train", "--dataset", str(pets), *words]) == 0
    weights = str(tmp_path / "a-seed0.safetensors")
    assert load_weights(weights)[0].classes == 2
    assert main(["evaluate", weights, "--device", "cpu"]) == 0
    assert main(["evaluate", weights, "--device", "cpu", "--dataset", str(fruit)]) == 2
    assert "these weights know the classes cat, dog; " in capsys.readouterr().err
