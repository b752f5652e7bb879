"""torch.autocast as PyTorch's documentation teaches it: forward pass and loss inside, backward pass outside.

The backward pass of adjoint, seminorm and checkpoint asks f again, and must ask it as the forward pass did.
"""

import pytest
import torch
from torch import nn

from odelib import ODEBlock, Solver

ANEW = ("adjoint", "seminorm", "checkpoint")


class Field(nn.Module):
    """Smooth dynamics that remember in which numbers they were computed."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv, self.seen = nn.GroupNorm(4, 8), nn.Conv2d(8, 8, 3, padding=1), []

    def forward(self, t, z):
        dz = self.conv(torch.tanh(self.norm(z)))
        self.seen.append((dz.dtype, torch.is_grad_enabled()))
        return torch.tanh(dz) * torch.cos(t)


def network(gradient, library, convolution, **options):
    """With a convolution as its stem, autocast hands the block a state of 16 bits."""
    torch.manual_seed(0)
    stem = nn.Conv2d(8, 8, 3, padding=1) if convolution else nn.GroupNorm(4, 8)
    block = ODEBlock(Field(), Solver(gradient=gradient, library=library, **options))
    return nn.Sequential(stem, block, nn.Flatten(), nn.Linear(8 * 16, 3))


def train(gradient, library="odelib", convolution=True, inside=False, autocast=True, cache=True, **options):
    """Every gradient, flat; and the network."""
    model = network(gradient, library, convolution, **options)
    torch.manual_seed(1)
    x, y = torch.randn(4, 8, 4, 4), torch.tensor([0, 1, 2, 0])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=cache):
        loss = nn.functional.cross_entropy(model(x), y)
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    gradients = [p.grad for p in model.parameters()]
    assert {g.dtype for g in gradients} == {torch.float32} and all(g.isfinite().all() and g.any() for g in gradients)
    return torch.cat([g.flatten() for g in gradients]), model


def distance(ours, reference):
    return ((ours - reference).norm() / reference.norm()).item()


@pytest.mark.parametrize("inside", [False, True], ids=["backward outside", "backward inside"])
@pytest.mark.parametrize("convolution", [True, False], ids=["state of 16 bits", "state of 32 bits"])
@pytest.mark.parametrize("gradient", ANEW)
def test_the_way_back_is_computed_as_the_way_there(gradient, convolution, inside):
    # With its cache autocast would add up the gradient of a weight over all evaluations in 16 bits, in `direct` alone.
    direct, _ = train("direct", convolution=convolution, cache=False)
    ours, model = train(gradient, convolution=convolution, inside=inside)
    assert {dtype for dtype, _ in model[1].f.seen} == {torch.bfloat16}
    assert {again for _, again in model[1].f.seen} == {False, True}
    # checkpoint takes the same steps, so that nothing but the order of sums differs; the adjoint takes others.
    assert distance(ours, direct) < (1e-5 if gradient == "checkpoint" else 0.1 if convolution else 0.01)


@pytest.mark.parametrize("gradient", ANEW)
def test_a_forward_pass_outside_of_autocast_is_repeated_outside_of_it(gradient):
    model, x = network(gradient, "odelib", convolution=True), torch.randn(2, 8, 4, 4)
    loss = model(x).square().sum()
    with torch.autocast("cpu", torch.bfloat16):
        loss.backward()
    assert {dtype for dtype, _ in model[1].f.seen} == {torch.float32}


@pytest.mark.parametrize("convolution", [True, False], ids=["state of 16 bits", "state of 32 bits"])
@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_torchdiffeqs_modes_train_too(gradient, convolution):
    exact, _ = train("direct", convolution=convolution, autocast=False, rtol=1e-6, atol=1e-6)
    ours, _ = train(gradient, "torchdiffeq", convolution)
    assert distance(ours, exact) < 0.3
