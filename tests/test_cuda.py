"""On a GPU: every way to solve and to differentiate trains there, and finds what the CPU finds."""

import copy

import pytest
import torch
import torch.nn.functional as F

from odelib import Config, ImageClassifier, count_evaluations
from odelib.regularization import penalty
from odelib.training import make_optimizer, train_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICE = "cuda"

WAYS = [
    (library, method, gradient)
    for library in ("torchdiffeq", "odelib")
    for method in ("dopri5", "rk4")
    for gradient in ("direct", "adjoint", "seminorm", "checkpoint")
    if (library, gradient) != ("torchdiffeq", "checkpoint") and (method, gradient) != ("rk4", "seminorm")
]


def networks(**options):
    """The same network on the CPU and on the GPU, in double precision, which no GPU rounds to TF32."""
    config = Config(width=8, stem="one-shot", lr=0.05, **options)
    model = ImageClassifier(config, config, channels=1, classes=10).double()
    return config, model, copy.deepcopy(model).to(DEVICE)


def close(ours, expected):
    torch.testing.assert_close(ours.cpu(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("library, method, gradient", WAYS)
def test_a_training_step_and_a_trajectory_agree_with_those_of_the_cpu(library, method, gradient):
    config, on_cpu, on_gpu = networks(library=library, method=method, gradient=gradient)
    x, y = torch.rand(6, 1, 28, 28, dtype=torch.float64), torch.arange(6)
    steps = [
        train_step(model, make_optimizer(model, config), x.to(device), y.to(device))
        for model, device in ((on_cpu, "cpu"), (on_gpu, DEVICE))
    ]
    assert steps[1][0] == pytest.approx(steps[0][0], rel=1e-4) and steps[1][1:] == steps[0][1:]  # loss, NFE
    for ours, expected in zip(on_gpu.parameters(), on_cpu.parameters(), strict=True):
        assert ours.device.type == ours.grad.device.type == DEVICE
        close(ours.grad, expected.grad)
        close(ours, expected)
    z, times = on_cpu.stem(x), torch.linspace(0, 1, 6)
    for when in (times, times.to(DEVICE)):
        close(on_gpu.block.trajectory(z.to(DEVICE), when), on_cpu.block.trajectory(z, times))


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "checkpoint"])
def test_penalties_noise_and_a_warm_start_train_there(gradient):
    options = dict(library="odelib", warm_start=True, kinetic=0.1, jacobian=0.1, block_dropout=0.1)
    config, _, model = networks(gradient=gradient, **options)
    x, y = torch.rand(6, 1, 28, 28, dtype=torch.float64, device=DEVICE), torch.arange(6, device=DEVICE)
    for _ in range(2):
        loss, forward, _ = train_step(model, make_optimizer(model, config), x, y)
    assert loss > 0 and forward > 0 and penalty(model).device.type == DEVICE
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "checkpoint"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_trains_there(gradient, dtype):
    _, _, model = networks(library="odelib", gradient=gradient)
    model = model.float()
    with torch.autocast(DEVICE, dtype), count_evaluations(model) as seen:
        loss = F.cross_entropy(model(torch.rand(6, 1, 28, 28, device=DEVICE)), torch.arange(6, device=DEVICE))
    loss.backward()
    assert seen.n > 0 and all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
