"""Layers and networks: the published formula, its parameter counts and the shapes of its states."""

from dataclasses import replace

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from conftest import perturbed
from torch import nn
from torchdiffeq import odeint

from odelib import Config, ImageClassifier, Images, Network, ODEBlock, Solver, build, count_parameters, load_dataset
from odelib.layers import LINKS, STEMS, ResBlock, head
from odelib.models import Normalize
from odelib.odeblock import ode_blocks

MNIST = dict(channels=1, classes=10)
CIFAR = dict(channels=3, classes=10)


class Published:
    """odenet_mnist.py's networks in functions of torch and torchdiffeq alone, fed with the weights of one of ours."""

    def __init__(self, model: ImageClassifier, config: Config):
        self.config = config
        self.w = model.state_dict()

    def __call__(self, x):
        if self.config.normalize:
            x = (x - self.w["normalize.mean"]) / self.w["normalize.std"]
        z = self.stem(x)
        if self.config.network == "odenet":
            tolerance = dict(rtol=self.config.rtol, atol=self.config.atol)
            z = odeint(self.f, z, torch.tensor([0.0, 1.0]), method="dopri5", **tolerance)[1]
        elif self.config.network == "resnet":
            for k in range(self.config.blocks):
                z = self.resblock(z, f"block.{k}")
        z = F.relu(self.norm(z, "head.0")).mean(dim=(2, 3))
        last = max(int(name.split(".")[1]) for name in self.w if name.startswith("head"))
        return F.linear(z, self.w[f"head.{last}.weight"], self.w[f"head.{last}.bias"])

    def norm(self, x, name):
        return F.group_norm(x, min(self.config.groups, x.shape[1]), self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def conv(self, x, name, **how):
        return F.conv2d(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"), **how)

    def stem(self, x):
        if self.config.stem == "one-shot":
            return self.conv(x, "stem", stride=2, padding=1)
        z = self.conv(x, "stem.0", padding=1 if self.config.stem == "fine" else 0)
        if self.config.stem == "res":
            return self.resblock(self.resblock(z, "stem.1", stride=2), "stem.2", stride=2)
        z = self.conv(F.relu(self.norm(z, "stem.1")), "stem.3", stride=2, padding=1)
        if self.config.stem == "fine":
            return z
        return self.conv(F.relu(self.norm(z, "stem.4")), "stem.6", stride=2, padding=1)

    def resblock(self, z, name, stride=1):
        out = F.relu(self.norm(z, f"{name}.norm1"))
        shortcut = z if stride == 1 else self.conv(out, f"{name}.shortcut", stride=stride)
        out = self.conv(out, f"{name}.conv1", stride=stride, padding=1)
        return self.conv(F.relu(self.norm(out, f"{name}.norm2")), f"{name}.conv2", padding=1) + shortcut

    def f(self, t, z):
        def timed(x, name):
            return self.conv(torch.cat([torch.full_like(x[:, :1], t.item()), x], dim=1), f"{name}.conv", padding=1)

        out = timed(F.relu(self.norm(z, "block.f.norm1")), "block.f.conv1")
        out = timed(F.relu(self.norm(out, "block.f.norm2")), "block.f.conv2")
        return self.norm(out, "block.f.norm3")


# Parity with the published networks


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("options", [dict(network="odenet"), dict(network="resnet", blocks=3), dict(network="none")])
@pytest.mark.parametrize("width, groups", [(8, 32), (64, 32), (64, 8)])
def test_logits_are_those_of_the_published_formula(stem, options, width, groups):
    config = Config(stem=stem, width=width, groups=groups, **options)
    model = perturbed(ImageClassifier(config, config, **MNIST)).eval()
    x = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        logits = model(x)
        assert logits.std() > 1e-2
        torch.testing.assert_close(logits, Published(model, config)(x), rtol=0, atol=1e-5)


def test_logits_of_normalised_colour_images_are_those_of_the_formula(sample):
    config = Config(normalize=True, width=8, dropout=0.5)
    model = perturbed(ImageClassifier(config, config, **CIFAR)).eval()
    model.normalize.mean.copy_(torch.tensor([0.5, 0.4, 0.3])[:, None, None])
    model.normalize.std.copy_(torch.tensor([0.2, 0.3, 0.4])[:, None, None])
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), Published(model, config)(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "stem, options, parameters",
    [
        ("conv", dict(), 208_266),
        ("conv", dict(network="resnet"), 576_778),
        ("conv", dict(network="resnet", blocks=1), 206_858),
        ("conv", dict(network="none"), 132_874),
        ("res", dict(), 232_970),
        ("res", dict(network="resnet"), 601_482),
        ("res", dict(network="resnet", blocks=1), 231_562),
        ("res", dict(network="none"), 157_578),
        ("one-shot", dict(), 77_258),
    ],
)
def test_parameters_on_mnist_are_those_published(stem, options, parameters):
    assert count_parameters(ImageClassifier(Network(stem=stem, **options), Solver(), **MNIST)) == parameters


@pytest.mark.parametrize("stem, parameters", [("conv", 209_418), ("res", 234_122)])
def test_parameters_on_cifar_are_those_published(stem, parameters):
    assert count_parameters(ImageClassifier(Network(stem=stem), Solver(), **CIFAR)) == parameters


@pytest.mark.parametrize(
    "stem, sizes, side, state",
    [
        ("conv", MNIST, 28, (64, 6, 6)),
        ("res", MNIST, 28, (64, 7, 7)),
        ("one-shot", MNIST, 28, (64, 14, 14)),
        ("conv", CIFAR, 32, (64, 7, 7)),
        ("res", CIFAR, 32, (64, 8, 8)),
        ("one-shot", CIFAR, 32, (64, 16, 16)),
    ],
)
def test_the_stem_makes_states_of_the_published_shape(stem, sizes, side, state):
    model = ImageClassifier(Network(stem=stem, network="none"), Solver(), **sizes)
    assert model.stem(torch.rand(2, sizes["channels"], side, side)).shape == (2, *state)


# Layers


def test_resblock_with_a_silent_branch_is_the_identity():
    block = ResBlock(8)
    nn.init.zeros_(block.conv2.weight)
    z = torch.randn(2, 8, 5, 5)
    assert torch.equal(block(z), z)


def test_resblock_with_stride_halves_and_shortcuts_the_activated_input():
    """As He et al. and the published code have it, the 1x1 convolution sees relu(norm(z)), not z."""
    block = ResBlock(8, stride=2)
    nn.init.zeros_(block.conv2.weight)
    z = torch.randn(2, 8, 6, 6)
    activated = F.relu(F.group_norm(z, 8))
    torch.testing.assert_close(block(z), F.conv2d(activated, block.shortcut.weight, stride=2))
    assert block(z).shape == (2, 8, 3, 3)


def test_layers_leave_their_input_alone():
    """The published ReLUs work in place. Here a state may be looked at again after it went through a layer."""
    z = torch.randn(2, 8, 6, 6)
    before = z.clone()
    for layer in (ResBlock(8), ResBlock(8, stride=2), head(8, 10)):
        layer(z)
        assert torch.equal(z, before)


def test_head_sees_the_mean_over_the_image_whatever_its_size():
    layer = head(8, 3)
    small = torch.randn(2, 8, 2, 2)
    large = small.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    torch.testing.assert_close(layer(small), layer(large))


def test_head_drops_features_in_training_only():
    z = torch.randn(2, 64, 3, 3)
    layer = head(64, 3, dropout=0.5)
    assert not torch.equal(layer(z), layer(z))
    layer.eval()
    assert torch.equal(layer(z), layer(z))
    without = head(64, 3)
    assert torch.equal(without(z), without(z))


# Networks


@pytest.mark.parametrize("network", ["odenet", "resnet", "none"])
def test_the_seed_alone_draws_the_first_weights(tiny, network):
    config = Config(width=8, network=network, blocks=2)
    first, again, other = (build(replace(config, seed=seed), tiny).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_draws_nothing_from_the_global_generator(tiny):
    before = torch.get_rng_state()
    build(Config(width=8), tiny)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("there", [True, False])
def test_building_leaves_the_generators_of_cuda_alone(tiny, monkeypatch, there):
    """torch.manual_seed, which seeds all devices, would also queue it for a CUDA that is first used later."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    touched = []
    for name in ("manual_seed", "manual_seed_all", "set_rng_state", "set_rng_state_all"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, name=name: touched.append(name))
    build(Config(width=8), tiny)
    assert not touched
    torch.manual_seed(0)
    assert touched == ["manual_seed_all"]


def test_normalised_training_images_have_mean_0_and_deviation_1_in_every_channel(sample):
    for data in (sample, load_dataset("cifar10-sample")):
        model = build(Config(width=8, normalize=True), data)
        x = model.normalize(data.train.images.float() / 255)
        torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(data.channels), rtol=0, atol=1e-4)
        torch.testing.assert_close(x.std(dim=(0, 2, 3)), torch.ones(data.channels), rtol=0, atol=1e-4)


def test_held_out_and_test_images_have_no_say_in_the_normalisation(sample):
    data = sample.hold_out(0.25)
    white = Images(torch.full_like(data.test.images, 255), data.test.labels)
    models = [build(Config(width=8, normalize=True), d) for d in (data, replace(data, test=white, validation=white))]
    assert torch.equal(models[0].normalize.mean, models[1].normalize.mean)
    assert torch.equal(models[0].normalize.std, models[1].normalize.std)
    assert models[0].normalize.mean.item() == pytest.approx((data.train.images / 255).mean().item(), rel=1e-6)


@pytest.mark.parametrize("grey", [0, 51, 100, 200, 255])
def test_a_channel_that_is_constant_is_centred_and_keeps_its_scale(grey):
    """Its deviation comes out as 0 or, by rounding, as next to nothing: divided by it, a channel is NaN or noise."""
    images = load_dataset("cifar10-sample").train.images[:50].clone()
    images[:, 1] = grey
    normalize = Normalize(3)
    normalize.set(images)
    x = normalize(images.float() / 255)
    torch.testing.assert_close(x[:, 1], torch.zeros_like(x[:, 1]), rtol=0, atol=1e-6)
    assert normalize.std[1] == 1
    assert normalize(torch.ones(1, 3, 2, 2))[0, 1, 0, 0].item() == pytest.approx(1 - grey / 255, abs=1e-6)
    torch.testing.assert_close(x[:, ::2].std(dim=(0, 2, 3)), torch.ones(2), rtol=0, atol=1e-4)


def test_a_deviation_that_is_only_rounding_is_none():
    images = torch.full((600, 1, 32, 32), 100, dtype=torch.uint8)
    assert 0 < (images / 255).std() < 1e-5
    normalize = Normalize(1)
    normalize.set(images)
    assert normalize.std == 1 and normalize(images / 255).abs().max() < 1e-5


def test_normalisation_is_stored_but_not_trained(tiny):
    model = build(Config(width=8, normalize=True), tiny)
    assert {"normalize.mean", "normalize.std"} <= set(model.state_dict())
    assert count_parameters(model) == count_parameters(build(Config(width=8), tiny))


def test_frozen_parameters_are_not_counted():
    layer = nn.Linear(3, 2)
    assert count_parameters(layer) == 8
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


def test_network_hands_its_solver_to_every_block():
    solver = Solver("rk4", step_size=0.5, gradient="adjoint", rtol=1e-4, atol=1e-5)
    block = ImageClassifier(Network(width=8), solver, **MNIST).block
    assert isinstance(block, ODEBlock) and block.solver == solver and (block.t0, block.t1) == (0, 1)
    for options in (dict(scales=3), dict(extra_channels=4), dict(kinetic=0.1), dict(block_dropout=0.1)):
        blocks = ode_blocks(ImageClassifier(Network(width=8, **options), solver, **MNIST))
        assert len(blocks) == options.get("scales", 1) and all(block.solver == solver for block in blocks)


def network(**options):
    torch.manual_seed(0)
    return ImageClassifier(Network(**dict(width=8, groups=4) | options), Solver("rk4"), **MNIST)


def test_tied_blocks_are_one_block_several_times():
    tied, one = (network(network="resnet", tied=True, blocks=n) for n in (3, 1))
    assert count_parameters(tied) == count_parameters(one) < count_parameters(network(network="resnet", blocks=3))
    z, block = torch.rand(2, 8, 6, 6), tied.block[0].module
    torch.testing.assert_close(tied.block(z), block(block(block(z))))


@pytest.mark.parametrize("kind, blocks", [("odenet", 3), ("resnet", 6), ("none", 0)])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("growth", [1, 2])
def test_every_scale_has_half_the_resolution_and_its_share_of_channels(kind, blocks, link, growth):
    model = network(network=kind, blocks=2, scales=3, link=link, growth=growth, stem="fine")
    kinds = [ODEBlock if isinstance(part, ODEBlock) else type(part) for part in model.block]
    links = [part for part in kinds if part is {"res": ResBlock, "conv": nn.Sequential}[link]]
    assert len(kinds) == blocks + 2 and len(links) == (2 + blocks if kind == "resnet" and link == "res" else 2)
    z = model.stem(torch.rand(2, 1, 28, 28))
    assert z.shape == (2, 8, 14, 14) and model.block(z).shape == (2, 8 * growth**2, 4, 4)
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("options", [{}, dict(order=2), dict(network="resnet", blocks=2), dict(norm="layer")])
def test_with_a_zero_start_every_block_returns_its_input_and_still_learns(options):
    if options == dict(order=2):  # x' = v: only the acceleration is zero
        f, z = network(zero_start=True, **options).block.f, torch.rand(2, 8, 6, 6)
        assert torch.equal(f(torch.tensor(0.0), z), torch.cat([z[:, 4:], torch.zeros(2, 4, 6, 6)], dim=1))
        return
    model, x = network(zero_start=True, **options), torch.rand(4, 1, 28, 28)
    z = model.stem(x)
    assert torch.equal(model.block(z), z) and not torch.equal(network(**options).block(z), z)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    F.cross_entropy(model(x), torch.arange(4)).backward()
    optimizer.step()
    assert not torch.equal(model.block(z), z)


def test_a_residual_block_may_change_the_channels_alone():
    block = ResBlock(8, channels_out=12, norm=nn.BatchNorm2d)
    assert block(torch.rand(2, 8, 5, 5)).shape == (2, 12, 5, 5) and block.shortcut is not None
    assert ResBlock(8, channels_out=8, norm=nn.BatchNorm2d).shortcut is None


def test_a_config_stands_for_network_and_solver(tiny):
    config = Config(width=8, method="rk4", step_size=0.5, seed=3, normalize=True)
    model = build(config, tiny)
    assert model.block.solver == config.part(Solver) and type(model.block.solver) is Solver
    assert (model.channels, model.classes) == (1, 10)


@pytest.mark.parametrize("x", [torch.rand(1, 28, 28), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)])
def test_images_of_wrong_shape_or_type_are_refused_while_testing(x):
    with pytest.raises(jaxtyping.TypeCheckError):
        ImageClassifier(Network(width=8), Solver(), **MNIST)(x)


def test_a_stem_in_16_bit_is_the_same_network_within_their_precision():
    torch.manual_seed(0)
    plain = ImageClassifier(Network(width=8), Solver("rk4"), 1, 10)
    short = ImageClassifier(Network(width=8, stem_bf16=True), Solver("rk4"), 1, 10)
    short.load_state_dict(plain.state_dict())
    x = torch.rand(4, 1, 28, 28)
    seen = []
    short.block.register_forward_pre_hook(lambda _, states: seen.append(states[0]))
    short(x).sum().backward()
    exact = plain.stem(x)
    assert seen[0].dtype == torch.float32 and not torch.equal(seen[0], exact)
    torch.testing.assert_close(seen[0], exact, rtol=0, atol=0.1 * exact.abs().max().item())
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in short.parameters())
