"""Task 6: does it matter for digits how the block is solved, and how it is differentiated?

Protocol: full MNIST, one recipe for every case, the result after the last epoch. A fixed grid takes one step from t=0
to t=1, as torchdiffeq does by default; "-4" takes four. `none`, `resnet-1` and `resnet-6` have no ODE: they say what the
block is worth.
"""

from dataclasses import replace

from odelib.config import Config
from odelib.studies.study import Case, Study

_MNIST = Config(dataset="mnist", epochs=5)
_THREE = (0, 1, 2)

GRADIENTS = Study(
    "mnist-gradients",
    "Direct or adjoint gradient, with dopri5, RK4 or Euler: which trains best, and which is fastest?",
    {
        "direct-dopri5": Case(_MNIST, _THREE),
        "adjoint-dopri5": Case(replace(_MNIST, gradient="adjoint"), _THREE),
        "adjoint-rk4": Case(replace(_MNIST, gradient="adjoint", method="rk4"), _THREE),
        "adjoint-euler": Case(replace(_MNIST, gradient="adjoint", method="euler"), _THREE),
        "direct-rk4": Case(replace(_MNIST, method="rk4")),
        "direct-euler": Case(replace(_MNIST, method="euler")),
        "adjoint-rk4-4": Case(replace(_MNIST, gradient="adjoint", method="rk4", step_size=0.25)),
        "adjoint-euler-4": Case(replace(_MNIST, gradient="adjoint", method="euler", step_size=0.25)),
        "direct-euler-4": Case(replace(_MNIST, method="euler", step_size=0.25)),
        "seminorm-dopri5": Case(replace(_MNIST, gradient="seminorm")),
        "none": Case(replace(_MNIST, network="none")),
        "resnet-1": Case(replace(_MNIST, network="resnet", blocks=1)),
        "resnet-6": Case(replace(_MNIST, network="resnet", blocks=6)),
    },
    measurements=("timing", "memory", "loss-scale", "gradient-error", "cross-solver"),
    trained="adjoint-dopri5-seed0",
)
