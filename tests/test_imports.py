"""Imports: what a layer in somebody else's network needs to be installed, and what it does not wait for."""

import subprocess
import sys

import pytest

import odelib

ALONE = """
import sys

class Refuse:
    absent = {"torchvision", "matplotlib", "IPython", "tyro", "dacite", "safetensors", "jaxtyping", "PIL", "tqdm"}
    others = {"numpy", "scipy"}  # torch and torchdiffeq may import them

    def find_spec(self, name, path=None, target=None):
        frame, package = sys._getframe(1), name.partition(".")[0]
        while frame.f_globals["__name__"].startswith("importlib"):
            frame = frame.f_back
        if package in self.absent or package in self.others and frame.f_globals["__name__"].startswith("odelib"):
            raise ImportError(f"{name} is not installed")

refuse = Refuse()
sys.meta_path.insert(0, refuse)

import odelib
assert not [name for name in sys.modules if name.startswith("odelib.")], "names are fetched when they are used"

import torch
from odelib import ODEBlock, ODEfunc, Solver, count_evaluations, count_saved_bytes

z = torch.randn(2, 4, 5, 5)
for solver in (
    Solver("rk4"), Solver(gradient="adjoint"), Solver("bosh3", library="odelib"),
    Solver(library="odelib", gradient="checkpoint", warm_start=True), Solver(library="odelib", gradient="adjoint"),
):
    block = ODEBlock(ODEfunc(4), solver)
    with count_evaluations(block) as seen, count_saved_bytes() as saved:
        block(z).sum().backward()
    assert seen.n and saved.n and block.f.conv1.conv.weight.grad.abs().sum() > 0
needed = "errors gradients odeblock odefunc options products saved_bytes shapes solvers"
loaded = {name.partition(".")[2] for name in sys.modules if name.startswith("odelib.")}
assert loaded == set(needed.split()), loaded

refuse.absent -= {"PIL", "tqdm"}  # the loop and the samples need these, and numpy
refuse.others = {"scipy"}
from odelib import Training, fit, load_dataset
data = load_dataset("mnist-sample").limit(64)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
for metrics in fit(net, data, Training(epochs=1)):
    print(metrics.epoch)
"""


def test_a_layer_needs_torch_and_torchdiffeq_and_the_loop_little_more():
    """In a process where nothing else can be imported; so neither waits for what takes seconds."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"


def test_every_name_of_the_package_is_there_and_listed():
    assert set(odelib.__all__) <= set(dir(odelib))
    for name in odelib.__all__:
        found = getattr(odelib, name)
        home = sys.modules[f"odelib.{odelib.HOME[name]}"]
        assert found is getattr(home, name)
        assert getattr(found, "__module__", home.__name__) == home.__name__, f"{name} is not from where it is defined"


def test_a_name_that_is_not_there_is_an_attribute_error():
    """As `hasattr`, `from odelib import` and every tool that looks around expect."""
    with pytest.raises(AttributeError, match="module 'odelib' has no attribute 'load'"):
        odelib.load  # noqa: B018
    with pytest.raises(ImportError):
        exec("from odelib import load")
