"""ODEfunc: the published formula, its time channel, its bound."""

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from conftest import perturbed

from odelib import ODEfunc, count_parameters
from odelib.odefunc import TimeConv2d, group_norm


def published(f: ODEfunc, t: float, z: torch.Tensor) -> torch.Tensor:
    """odenet_mnist.py's ODEfunc, written with functions alone."""
    groups = min(32, z.shape[1])

    def norm(x, layer):
        return F.group_norm(x, groups, layer.weight, layer.bias)

    def conv(x, layer):
        time = torch.full_like(x[:, :1], t)
        return F.conv2d(torch.cat([time, x], dim=1), layer.conv.weight, layer.conv.bias, padding=1)

    out = conv(F.relu(norm(z, f.norm1)), f.conv1)
    out = conv(F.relu(norm(out, f.norm2)), f.conv2)
    return norm(out, f.norm3)


@pytest.mark.parametrize("channels, height, width", [(4, 5, 5), (8, 3, 7), (64, 6, 6)])
@pytest.mark.parametrize("t", [0.0, 0.7, -1.3])
def test_f_is_the_published_formula(channels, height, width, t):
    f = perturbed(ODEfunc(channels), 0.3)
    z = torch.randn(3, channels, height, width)
    dz = f(torch.tensor(t), z)
    assert dz.shape == z.shape
    torch.testing.assert_close(dz, published(f, t, z), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 8, 32, 64])
def test_parameters_are_two_convolutions_with_time_and_three_norms(channels):
    convolution = 9 * (channels + 1) * channels + channels
    assert count_parameters(ODEfunc(channels)) == 2 * convolution + 3 * 2 * channels


def test_published_width_has_75392_parameters():
    assert count_parameters(ODEfunc(64)) == 75_392


@pytest.mark.parametrize("channels, groups", [(1, 1), (8, 8), (32, 32), (64, 32), (256, 32)])
def test_norm_has_at_most_32_groups(channels, groups):
    assert group_norm(channels).num_groups == groups


@pytest.mark.parametrize("channels, groups, made", [(64, 8, 8), (64, 64, 64), (64, 128, 64), (6, 2, 2)])
def test_norm_has_as_many_groups_as_asked_for_or_one_a_channel(channels, groups, made):
    assert group_norm(channels, groups).num_groups == made


@pytest.mark.parametrize("channels", [33, 48, 0, -1])
def test_channels_that_no_norm_can_group_are_a_value_error(channels):
    with pytest.raises(ValueError):
        ODEfunc(channels)


def test_velocity_changes_with_time():
    f = ODEfunc(8)
    z = torch.randn(2, 8, 5, 5)
    change = f(torch.tensor(1.0), z) - f(torch.tensor(0.0), z)
    assert change.abs().max() > 1e-2


def test_time_convolution_is_affine_in_time():
    """The time is one more channel, so twice the time gives twice the change."""
    conv = TimeConv2d(3, 5).double()
    z = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    at = [conv(torch.tensor(t, dtype=torch.float64), z) for t in (0.0, 1.0, 2.0)]
    assert (at[1] - at[0]).abs().max() > 1e-3
    torch.testing.assert_close(at[2] - at[0], 2 * (at[1] - at[0]))


@pytest.mark.parametrize("scale", [1e-1, 1.0, 1e4])
def test_velocity_stays_bounded_however_large_the_state(scale):
    """Before the affine map of the last norm, a group has mean 0 and variance 1: n values lie within sqrt(n - 1)."""
    f = ODEfunc(64)
    dz = f(torch.tensor(0.5), scale * torch.randn(4, 64, 6, 6))
    groups = dz.view(4, 32, -1)
    torch.testing.assert_close(groups.mean(-1), torch.zeros(4, 32), rtol=0, atol=1e-5)
    assert (groups.var(-1, unbiased=False) <= 1 + 1e-4).all()
    assert dz.abs().max() <= (groups.shape[-1] - 1) ** 0.5


def test_f_leaves_the_state_alone():
    """The published ReLUs work in place; a solver needs its state again."""
    z = torch.randn(2, 8, 5, 5)
    before = z.clone()
    ODEfunc(8)(torch.tensor(0.0), z)
    assert torch.equal(z, before)


@pytest.mark.parametrize(
    "t, z",
    [
        (torch.zeros(()), torch.zeros(8, 5, 5)),
        (torch.zeros(2), torch.zeros(2, 8, 5, 5)),
        (torch.zeros(()), torch.zeros(2, 8, 5, 5, dtype=torch.int64)),
    ],
)
def test_wrong_shapes_and_types_are_refused_while_testing(t, z):
    with pytest.raises(jaxtyping.TypeCheckError):
        ODEfunc(8)(t, z)


class Concatenated(torch.nn.Module):
    """The time as one more channel of the input, under the name that odenet_mnist.py gives its weights."""

    def __init__(self, channels, channels_out):
        super().__init__()
        self._layer = torch.nn.Conv2d(channels + 1, channels_out, kernel_size=3, padding=1)

    def forward(self, t, z):
        return self._layer(torch.cat([torch.full_like(z[:, :1], t.item()), z], dim=1))


def test_weights_of_the_example_fit_under_other_names():
    """As page odefunc says: `_layer` there is `conv` here, and all else has the same name and shape."""
    theirs, ours = perturbed(ODEfunc(64, convolution=Concatenated), 0.3), ODEfunc(64)
    ours.load_state_dict({name.replace("._layer.", ".conv."): w for name, w in theirs.state_dict().items()})
    t, z = torch.tensor(0.7), torch.randn(2, 64, 6, 6)
    torch.testing.assert_close(ours(t, z), theirs(t, z), rtol=0, atol=1e-4)


def test_no_weights_of_the_convolutions_make_the_state_faster():
    f = ODEfunc(64)
    for conv in (f.conv1.conv, f.conv2.conv):
        conv.weight.data = 100 * torch.randn_like(conv.weight)
    velocity = f(torch.tensor(0.0), torch.randn(4, 64, 6, 6))
    assert (velocity.flatten(1).pow(2).mean(dim=1).sqrt() <= 1 + 1e-6).all()


def test_factors_between_a_norm_and_the_convolution_behind_it_change_nothing():
    """128 exact idle directions: ReLU passes positive factors on."""
    f, t, z = perturbed(ODEfunc(64), 0.3).double(), torch.tensor(0.3).double(), torch.randn(2, 64, 6, 6).double()
    before = f(t, z)
    with torch.no_grad():
        for norm, conv in ((f.norm1, f.conv1.conv), (f.norm2, f.conv2.conv)):
            factors = 2 * torch.rand(64).double() + 0.5
            norm.weight *= factors
            norm.bias *= factors
            conv.weight[:, 1:] /= factors[:, None, None]
    torch.testing.assert_close(f(t, z), before, rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm, keeps", [(group_norm, True), (torch.nn.BatchNorm2d, False)])
def test_the_promises_of_a_norm(norm, keeps):
    """Within a solve both give what they gave. For an image alone, after other calls, and in evaluation, one does."""
    f, t, z = perturbed(ODEfunc(8, norm=norm), 0.3).train(), torch.tensor(0.0), torch.randn(6, 8, 5, 5)
    first = f(t, z)
    evaluated = f.eval()(t, z)
    f.train()
    for scale in (0.5, 2.0, 3.0):
        f(t, scale * z)
    assert torch.equal(f(t, z), first)
    alone, evaluated_again = f(t, z[:2]), f.eval()(t, z)
    found = [(a - b).abs().max() for a, b in ((alone, first[:2]), (evaluated_again, evaluated), (evaluated, first))]
    assert [bool(difference < 1e-5) for difference in found] == [keeps] * 3
