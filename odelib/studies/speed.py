"""How much faster is a training step that is made for the purpose, and what does it cost in accuracy?

Protocol: the book's own solvers against torchdiffeq: one epoch of the task's recipe with each, and ways to 99 % of the
test images: odenet_mnist.py's recipe as far as it needs, a learning rate that rises and falls in one epoch, and the same
in two epochs with a single step of RK4.
"""

from dataclasses import replace

from odelib.config import PRESETS, Config
from odelib.studies.study import Case, Study

_THREE = (0, 1, 2)
_ONE = Config(dataset="mnist", epochs=1)
_QUICK = replace(_ONE, batch_size=32, schedule="one-cycle", bf16=True)
_FASTEST = dict(library="odelib", method="bosh3", warm_start=True)  # at an equal tolerance, by the benchmark

SPEED = Study(
    "speed",
    "How fast does an ODE-Net train on two cores?",
    {
        "torchdiffeq-direct": Case(_ONE, _THREE),
        "torchdiffeq-adjoint": Case(replace(_ONE, gradient="adjoint"), _THREE),
        "direct": Case(replace(_ONE, **_FASTEST), _THREE),
        "checkpoint": Case(replace(_ONE, gradient="checkpoint", **_FASTEST), _THREE),
        "direct-bf16": Case(replace(_ONE, bf16=True, **_FASTEST), _THREE),
        "to-99-script": Case(replace(PRESETS["odenet-mnist"], epochs=4)),
        "to-99": Case(replace(_QUICK, **_FASTEST), _THREE),
        "to-99-rk4": Case(replace(_QUICK, epochs=2, library="odelib", method="rk4"), _THREE),
    },
)
