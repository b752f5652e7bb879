"""torch.compile(model): NFE is counted as ever, and no count is a reason to compile anew.

In an interpreter of its own, where odelib is as a user has it: the tests' checks of shapes would be compiled too.
"""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys

import torch
from torch import nn

from odelib import ODEBlock, Solver, count_evaluations

found = {"imports the compiler": "torch._dynamo" in sys.modules}


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, t, z):
        return torch.tanh(self.linear(z)) * torch.cos(t)


def evaluations(model, x):
    with count_evaluations(model) as forward:
        end = model(x)
    with count_evaluations(model) as backward:
        end.sum().backward()
    return forward.n, backward.n


for library, gradient in (("torchdiffeq", "adjoint"), ("odelib", "checkpoint")):
    plain = nn.Sequential(nn.Linear(3, 3), ODEBlock(Field(), Solver("midpoint", library=library, gradient=gradient)))
    model = torch.compile(plain, backend="eager")  # which needs no C++ compiler
    x = torch.randn(4, 3)
    model(x).sum().backward()
    off = (model(x) - plain(x)).abs().max().item()
    result = {"counted": (evaluations(plain, x), evaluations(model, x)), "off by": off}
    graphs = []
    with count_evaluations(model) as seen:
        for _ in range(10):
            model(torch.randn(4, 3)).sum().backward()
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    found[library] = result | {"in one scope": seen.n, "graphs": graphs}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    """What the script found out."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_model_that_was_compiled_and_run_before_is_counted(found):
    """Compiled code does not look for hooks that come later."""
    for library in ("torchdiffeq", "odelib"):
        assert found[library]["counted"] == [[2, 2], [2, 2]] and found[library]["in one scope"] == 40
        assert found[library]["off by"] < 1e-5


def test_counting_does_not_compile_again_and_again(found):
    """A number on a module is a constant of compiled code: a count there would make a version for each value."""
    for library in ("torchdiffeq", "odelib"):
        graphs = found[library]["graphs"]
        assert graphs[1] == graphs[-1]


def test_the_layer_does_not_import_the_compiler(found):
    """It would take a second of everybody who compiles nothing."""
    assert not found["imports the compiler"]
