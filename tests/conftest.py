"""What tests share: no network, no data of the user, a few real digits, configs that train in a blink, small tools."""

import json
import os
import shutil
import socket
import subprocess
from dataclasses import replace

# Tests run in as many processes as there are cores (pytest-xdist): with more threads each they would only wait for one
# another. Before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import matplotlib
import numpy as np
import pytest
import torch
from torch import nn

from odelib.options import Options

# Options check the types of their fields themselves. jaxtyping, which does so for all other classes in tests, would be
# first, and says it otherwise: it leaves out what is imported here.
Options.__no_type_check__ = True
from odelib import Config, Dataset, load_dataset
from odelib.records import pack_bits

del Options.__no_type_check__  # dacite asks for it too

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """No test reaches the network or the user's data, and each begins with the same random numbers."""

    def refuse(*_):
        raise OSError("tests must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("ODELIB_DATA", str(tmp_path / "data-root"))
    torch.manual_seed(0)


@pytest.fixture
def unchecked():
    """odelib as a user has it, without the checks of shapes that only the tests build in."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def sample() -> Dataset:
    return load_dataset("mnist-sample")


@pytest.fixture(scope="session")
def tiny(sample) -> Dataset:
    """48 + 30 real digits, classes in turns."""
    return replace(sample, train=sample.train.pick(slice(0, 48)), test=sample.test.pick(slice(0, 30)))


@pytest.fixture(scope="session")
def quick() -> Config:
    """A small Neural ODE: on `tiny`, three steps an epoch, well under a second."""
    return Config(
        dataset="mnist", stem="one-shot", width=8, method="rk4", epochs=2, batch_size=16, lr=0.05, schedule="cosine"
    )


@pytest.fixture
def mnist_root(tiny, tmp_path, monkeypatch):
    """A data root whose `mnist` is `tiny`, so that commands and studies on full MNIST run in a blink."""
    root = tmp_path / "tiny-mnist"
    root.mkdir()
    arrays = {}
    for split in ("train", "test"):
        part = getattr(tiny, split)
        arrays[f"{split}_images"] = part.images.permute(0, 2, 3, 1).numpy()
        arrays[f"{split}_labels"] = part.labels.numpy().astype(np.uint8)
    np.savez(root / "mnist.npz", **arrays)
    monkeypatch.setenv("ODELIB_DATA", str(root))
    return root


@pytest.fixture(scope="module")
def runs(request):
    """The runs of the study that the test file names as its `STUDY`."""
    return request.module.STUDY.runs()


def with_last(run, **values):
    """The run, with other metrics of its last epoch."""
    return replace(run, metrics=(*run.metrics[:-1], replace(run.last, **values)))


def ending(run, accuracy, seed=0, wrong=(), images=10_000):
    """The run with another seed, ended with this test accuracy in percent, with these of so many images wrong."""
    last = replace(run.last, test_accuracy=accuracy / 100, train_accuracy=0.95, validation_accuracy=None)
    bits = torch.zeros(images, dtype=torch.bool)
    bits[list(wrong)] = True
    return replace(run, config=replace(run.config, seed=seed), metrics=(last,), wrong=pack_bits(bits))


# Dynamics in double precision


class Bend(nn.Module):
    """Smooth, nonlinear, sees the time, couples its components, and bends enough for steps to be rejected."""

    def forward(self, t, z):
        return torch.sin(12 * t) * 8 * torch.cos(3 * z) + z.flip(-1)


class Smooth(nn.Module):
    """A small tanh network that sees the time, times a factor."""

    def __init__(self, factor=1):
        super().__init__()
        self.factor, self.inner, self.outer = factor, nn.Linear(4, 5), nn.Linear(5, 3)
        self.double()

    def forward(self, t, z):
        return self.factor * self.outer(torch.tanh(self.inner(torch.cat([z, t.expand(len(z), 1)], dim=1))))


def times(*values):
    return torch.tensor(values, dtype=torch.float64)


def start(*shape):
    return torch.randn(*(shape or (4, 3)), dtype=torch.float64)


def perturbed(module, size=0.1):
    """Norms begin as the identity map; random weights everywhere make every parameter matter."""
    for parameter in module.parameters():
        parameter.data += size * torch.randn_like(parameter)
    return module


# Other programs


def run_node(program):
    """What a JavaScript program prints, as data."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to run the scripts with: install Debian's nodejs")
    done = subprocess.run([node, "-"], input=program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, the system's own; it reaches local addresses and files only."""
    sync_api = pytest.importorskip("playwright.sync_api", reason='no playwright: pip install -e ".[browser]"')
    program = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if program is None:
        pytest.skip("no browser: install Debian's chromium, or Chrome")
    # A name that is no local address resolves to nothing, so that a page that needs the network shows it.
    offline = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=offline)
        yield browser
        browser.close()
