"""Variations of the ODE block: shape, gradient in every mode, and the claim of each."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from conftest import perturbed
from torch import nn

from odelib import Config, ImageClassifier, ODEBlock, ODEfunc, Solver, build, count_evaluations, count_parameters, fit
from odelib.models import dynamics, ode_block
from odelib.noise import FixedDropout, NoisyODEBlock
from odelib.regularization import RegularizedODEBlock, penalty
from odelib.variations import ACTIVATIONS, NORMS, Augment, SecondOrder

VARIATIONS = {
    "time none": dict(time="none"),
    "groups": dict(groups=2),
    "layer norm": dict(norm="layer"),
    "batch norm": dict(norm="batch"),
    "no norm": dict(norm="none"),
    "softplus": dict(activation="softplus"),
    "tanh": dict(activation="tanh"),
    "swish": dict(activation="swish"),
    "dropout": dict(block_dropout=0.3),
    "augmented": dict(extra_channels=4),
    "second order": dict(order=2),
    "two scales": dict(scales=2),
    "kinetic": dict(kinetic=0.1),
    "jacobian": dict(jacobian=0.1),
    "many": dict(extra_channels=4, order=2, scales=2, kinetic=0.1, jacobian=0.1, block_dropout=0.1, time="none"),
}
every_variation = pytest.mark.parametrize("options", VARIATIONS.values(), ids=VARIATIONS)


def block_of(config, channels=8):
    return ode_block(dynamics(config, channels), config, config)


def classifier(classes=3, channels=1, **options):
    config = Config(**options)
    return ImageClassifier(config, config, channels, classes)


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# Shape and gradient


@every_variation
@pytest.mark.parametrize("training", [True, False])
def test_every_variation_makes_logits(options, training):
    model = classifier(10, width=8, method="rk4", **options).train(training)
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize("options, scale", [({}, 1), (dict(extra_channels=4), 1), (dict(scales=3), 4)])
def test_state_after_the_block(options, scale):
    """Each further scale halves height and width; extra channels stay to the end."""
    model = classifier(width=8, method="euler", **options)
    z = torch.rand(2, 8, 8, 8)
    assert model.block(z).shape == (2, 8 + options.get("extra_channels", 0), 8 // scale, 8 // scale)


def gradients(options, gradient, tolerance, method="dopri5", library="torchdiffeq"):
    """Loss and gradients by the state and all parameters, in training mode; noise and first weights always the same."""
    torch.manual_seed(1)
    solver = dict(method=method, rtol=tolerance, atol=tolerance, gradient=gradient, library=library)
    model = classifier(width=4, **solver, **{"activation": "swish", **options}).double().train()
    perturbed(model.block)
    z, weight = numbers(2, 4, 6, 6).requires_grad_(), numbers(1)
    loss = (model.block(z) * weight).square().mean() + penalty(model.block)
    parameters = [p for p in model.block.parameters() if p.requires_grad]
    return loss, torch.autograd.grad(loss, [z, *parameters], allow_unused=True, materialize_grads=True)


def flat(parts):
    return torch.cat([part.flatten() for part in parts])


def distance(ours, reference):
    return ((flat(ours) - flat(reference)).norm() / flat(reference).norm()).item()


@every_variation
def test_the_adjoint_of_every_variation_is_its_direct_gradient_at_tight_tolerance(options):
    reference_loss, reference = gradients(options, "direct", 1e-7)
    assert flat(reference).norm() > 1e-3
    # GroupNorm of channels that begin as zeros has a slope of 1/sqrt(eps): the way back is stiff near t = 0.
    bound = 0.05 if "extra_channels" in options else 1e-3
    for gradient, tolerance in (("adjoint", 1e-6), ("seminorm", 1e-7)):  # which does not control the parameters' part
        loss, ours = gradients(options, gradient, tolerance)
        torch.testing.assert_close(loss, reference_loss, rtol=1e-4, atol=0)
        assert distance(ours, reference) < bound, gradient


@every_variation
def test_the_checkpointed_gradient_of_every_variation_is_the_direct_one(options):
    """To rounding: the steps that are taken again meet the same noise, batch statistics and penalties."""
    loss, ours = gradients(options, "checkpoint", 1e-3, "dopri5", "odelib")
    same_loss, direct = gradients(options, "direct", 1e-3, "dopri5", "odelib")
    torch.testing.assert_close(loss, same_loss, rtol=1e-9, atol=0)
    for one, other in zip(ours, direct):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["time none", "batch norm", "dropout", "second order", "kinetic", "jacobian"])
def test_the_books_solver_and_adjoint_find_the_gradient_of_torchdiffeq(name):
    reference_loss, reference = gradients(VARIATIONS[name], "direct", 1e-7)
    loss, ours = gradients(VARIATIONS[name], "adjoint", 1e-7, "tsit5", "odelib")
    torch.testing.assert_close(loss, reference_loss, rtol=1e-4, atol=0)
    assert distance(ours, reference) < 1e-3


@every_variation
def test_every_variation_trains_with_a_warm_start_in_16_bits(tiny, quick, options):
    solver = dict(library="odelib", method="bosh3", warm_start=True, bf16=True, gradient="checkpoint")
    few = replace(tiny, train=tiny.train.pick(slice(0, 8)), test=tiny.test.pick(slice(0, 4)))
    config = replace(quick, epochs=1, batch_size=4, rtol=1e-2, atol=1e-2, **solver, **options)
    (metrics,) = fit(build(config, few), few, config)
    assert math.isfinite(metrics.train_loss) and metrics.nfe_backward > 0


@every_variation
def test_the_direct_gradient_of_every_variation_is_that_of_finite_differences(options):
    """Along one random direction of the state. The noise is drawn anew for both ends: the same, from one seed."""
    torch.manual_seed(2)
    block = classifier(width=4, method="rk4", **{"activation": "swish", **options}).block.double().train()
    z, direction, weight = numbers(2, 4, 4, 4).requires_grad_(), numbers(2, 4, 4, 4), numbers(1)

    def loss(z):
        torch.manual_seed(3)
        return (block(z) * weight).square().mean() + penalty(block)

    (gradient,) = torch.autograd.grad(loss(z), z)
    h = 1e-5
    slope = (loss(z + h * direction) - loss(z - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-9)


@every_variation
def test_every_parameter_of_every_variation_is_trained(options):
    model = classifier(width=8, method="rk4", **options).train()
    loss = nn.functional.cross_entropy(model(torch.rand(4, 1, 28, 28)), torch.tensor([0, 1, 2, 0]))
    (loss + penalty(model)).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias in front of batch normalisation is taken out again by it.
    assert untouched == [] or (options.get("norm") == "batch" and all(name.endswith("bias") for name in untouched))


@every_variation
def test_nfe_of_a_variation_is_that_of_its_steps(options):
    """Penalties and noise cost no evaluation of their own: RK4 takes four a block, there and, by the adjoint, back."""
    model = classifier(width=8, method="rk4", gradient="adjoint", **options).train()
    with count_evaluations(model) as forward:
        loss = model(torch.rand(2, 1, 28, 28)).sum() + penalty(model)
    with count_evaluations(model) as backward:
        loss.backward()
    assert forward.n == backward.n == 4 * options.get("scales", 1)


@every_variation
def test_every_variation_trains_and_is_evaluated(tiny, quick, options):
    config = replace(quick, epochs=1, **options)
    (metrics,) = fit(build(config, tiny), tiny, config)
    assert math.isfinite(metrics.train_loss) and 0 <= metrics.test_accuracy <= 1


def test_every_group_norm_has_the_groups_that_are_asked_for():
    model = classifier(width=8, groups=2, scales=2, stem="res")
    norms = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == {2}
    assert len(norms) == 2 * 2 + 2 * 3 + 2 + 1  # two blocks of the stem, two of f, one between these, the head


def test_the_default_is_the_published_network():
    config = Config(width=8)
    torch.manual_seed(0)
    f = ODEfunc(8)
    torch.manual_seed(0)
    block = block_of(config)
    assert type(block) is ODEBlock and type(block.f) is ODEfunc
    ours, published = block.f.state_dict(), f.state_dict()
    assert list(ours) == list(published) and all(torch.equal(ours[name], published[name]) for name in published)
    z = torch.randn(2, 8, 5, 5)
    assert torch.equal(block.f(torch.tensor(0.3), z), f(torch.tensor(0.3), z))


# Time, norm, activation


def test_dynamics_without_time_are_autonomous_and_need_fewer_parameters():
    f, timed = dynamics(Config(width=8, time="none"), 8), dynamics(Config(width=8), 8)
    z = torch.randn(2, 8, 5, 5)
    assert torch.equal(f(torch.tensor(0.0), z), f(torch.tensor(1.0), z))
    assert not torch.allclose(timed(torch.tensor(0.0), z), timed(torch.tensor(1.0), z))
    assert count_parameters(timed) - count_parameters(f) == 2 * 9 * 8


def test_an_autonomous_flow_can_be_cut_anywhere():
    """From 0 to 1/2 and from 1/2 to 1 are the same map; not so where the dynamics see the time."""
    z, tight = numbers(2, 4, 3, 3), Solver(rtol=1e-9, atol=1e-9)
    for time, same in (("none", True), ("channel", False)):
        f = dynamics(Config(width=4, time=time, activation="softplus"), 4).double()
        first, second = (ODEBlock(f, tight, t0=t0, t1=t0 + 0.5)(z) for t0 in (0.0, 0.5))
        assert torch.allclose(first, second, rtol=1e-6) is same


def test_each_norm_standardises_what_it_says():
    """Mean 0 over: a group of channels of an image, an image, a channel over the whole batch; or nothing."""
    z = 5 + 3 * torch.randn(6, 64, 7, 7)
    means = {
        "group": lambda z: z.reshape(6, 32, -1).mean(-1),
        "layer": lambda z: z.reshape(6, -1).mean(-1),
        "batch": lambda z: z.mean(dim=(0, 2, 3)),
    }
    for norm, mean in means.items():
        assert mean(NORMS[norm](64)(z)).abs().max() < 1e-5
        others = [other for other in means if other != norm]
        assert norm == "group" or any(means[other](NORMS[norm](64)(z)).abs().max() > 1e-2 for other in others)
    assert torch.equal(NORMS["none"](64)(z), z)


def test_without_a_norm_the_velocity_is_not_bounded():
    z = 1e4 * torch.randn(2, 8, 5, 5)
    bounded, free = (dynamics(Config(width=8, norm=norm), 8)(torch.tensor(0.0), z) for norm in ("group", "none"))
    assert bounded.abs().max() <= 5 and free.abs().max() > 100


@pytest.mark.parametrize(
    "name, function",
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("softplus", lambda x: (1 + x.exp()).log()),
        ("tanh", lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
        ("swish", lambda x: x / (1 + (-x).exp())),
    ],
)
def test_each_activation_is_its_formula_and_is_used(name, function):
    x = torch.linspace(-4, 4, 41)
    torch.testing.assert_close(ACTIVATIONS[name]()(x), function(x), rtol=1e-5, atol=1e-6)
    assert type(dynamics(Config(width=8, activation=name), 8).relu) is ACTIVATIONS[name]


# Batch normalisation in an ODE block: the trap


def running(module, batches=80):
    """What a module says in eval mode of the batch that it has seen many times in training, against training."""
    x = torch.randn(16, 8, 6, 6)
    with torch.no_grad():
        for _ in range(batches):
            trained = module(x)
        evaluated = module.eval()(x)
    module.train()
    return ((evaluated - trained).norm() / trained.norm()).item()


def test_running_statistics_fit_a_plain_layer_and_not_the_dynamics_of_a_block():
    """In a plain layer they come to be those of the batch. In a block they are one average over all t."""
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    assert running(plain) < 1e-2
    block = block_of(Config(width=8, norm="batch", method="rk4"))
    assert running(block) > 0.05
    for norm in ("group", "layer"):
        assert running(block_of(Config(width=8, norm=norm, method="rk4"))) == 0


def test_running_statistics_are_updated_at_every_evaluation_backwards_too():
    block = block_of(Config(width=8, norm="batch", gradient="adjoint"))
    with count_evaluations(block) as seen:
        block(torch.randn(4, 8, 6, 6)).sum().backward()
    assert block.f.norm1.num_batches_tracked == seen.n > 20


def test_with_batch_normalisation_an_image_moves_with_its_neighbours():
    """f is no function of t and z of one image: in training its velocity depends on the rest of the batch."""
    image, others = torch.randn(1, 8, 6, 6), [torch.randn(7, 8, 6, 6) for _ in range(2)]
    for norm, alone in (("batch", False), ("group", True)):
        f = dynamics(Config(width=8, norm=norm), 8)
        first, second = (f(torch.tensor(0.0), torch.cat([image, rest]))[0] for rest in others)
        assert torch.allclose(first, second, atol=1e-5) is alone


# Dropout, held fixed along one solve


class Constant(nn.Module):
    """A convolution with a time that returns its input."""

    def forward(self, t, z):
        return z


class Watch(nn.Module):
    """Dynamics that remember what their dropout let through of a state of ones."""

    def __init__(self, dropout):
        super().__init__()
        self.dropout, self.seen = dropout, []

    def forward(self, t, z):
        self.seen.append(self.dropout(t, torch.ones_like(z)))
        return -z * self.seen[-1]


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_dropout_is_one_mask_along_a_solve_and_its_way_back_and_another_in_the_next(gradient):
    f = Watch(FixedDropout(Constant(), 0.5))
    block = NoisyODEBlock(f, Solver(gradient=gradient))
    solves = []
    for _ in range(2):
        f.seen = []
        z = torch.ones(4, 8, 5, 5, requires_grad=True)
        block(z).sum().backward()
        assert len(f.seen) > 10 and all(torch.equal(mask, f.seen[0]) for mask in f.seen)
        solves.append(f.seen[0])
    assert not torch.equal(*solves)


def test_dropout_drops_its_share_and_keeps_the_mean():
    seen = FixedDropout(Constant(), 0.3)(torch.tensor(0.0), torch.ones(100, 8, 10, 10))
    assert (seen == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert seen.mean().item() == pytest.approx(1, abs=0.01)


def test_nothing_is_dropped_in_eval_mode():
    layer = FixedDropout(Constant(), 0.5).eval()
    z = torch.randn(2, 8, 5, 5)
    assert torch.equal(layer(torch.tensor(0.0), z), z)


def test_dropout_that_draws_at_every_evaluation_leaves_the_solver_without_an_answer():
    """Why it is held fixed: with torch's dropout a tight tolerance never accepts a step, and NFE explodes."""

    class Jumping(nn.Module):
        def forward(self, t, z):
            return -nn.functional.dropout(z, 0.5)

    z = torch.ones(2, 4, 3, 3)
    with count_evaluations(fixed := NoisyODEBlock(Watch(FixedDropout(Constant(), 0.5)), Solver(rtol=1e-3))) as seen:
        fixed(z)
    with count_evaluations(jumping := ODEBlock(Jumping(), Solver(rtol=1e-3))) as jumps:
        jumping(z)
    assert jumps.n > 5 * seen.n


# Augmented states


def reflect(extra, steps=150):
    """Train a flow to carry -1 to 1 and 1 to -1, with `extra` channels; its loss, and the paths (times, 2)."""
    torch.manual_seed(0)

    class Field(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(size + 1, 32), nn.Tanh(), nn.Linear(32, size))

        def forward(self, t, z):
            return self.layers(torch.cat([z, t.expand(len(z), 1)], dim=1))

    augment, block = Augment(extra), ODEBlock(Field(1 + extra), Solver("rk4", step_size=0.2, library="odelib"))
    start = torch.tensor([[-1.0], [1.0]])
    optimizer = torch.optim.Adam(block.parameters(), 0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (block(augment(start))[:, :1] + start).square().mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        paths = block.trajectory(augment(start), torch.linspace(0, 1, 21))
    return loss.item(), paths[:, :, 0]


def test_paths_on_a_line_cannot_pass_each_other_and_with_one_more_channel_they_can():
    """x to -x (Dupont, Doucet and Teh 2019): without augmentation no flow does better than to bring both to 0."""
    loss, paths = reflect(extra=0)
    assert loss > 0.95 and (paths[:, 0] < paths[:, 1]).all()
    loss, paths = reflect(extra=1)
    assert loss < 0.01
    assert paths[0, 0] < paths[0, 1] and paths[-1, 0] > paths[-1, 1]  # in the original plane they have crossed


def test_augmented_channels_begin_as_zeros():
    z = torch.randn(2, 3, 4, 4)
    assert torch.equal(Augment(2)(z)[:, :3], z) and not Augment(2)(z)[:, 3:].any()
    assert Augment(2)(torch.randn(5, 3)).shape == (5, 5)


# Second order


def test_a_second_order_block_is_a_harmonic_oscillator():
    omega = 3.0
    f = SecondOrder(type("Spring", (nn.Module,), {"forward": lambda self, t, z: -(omega**2) * z[:, :1]})())
    z = numbers(5, 2)
    end = ODEBlock(f, Solver(rtol=1e-9, atol=1e-9))(z)
    x, v = z[:, 0], z[:, 1]
    torch.testing.assert_close(end[:, 0], x * math.cos(omega) + v / omega * math.sin(omega), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(end[:, 1], v * math.cos(omega) - omega * x * math.sin(omega), rtol=1e-6, atol=1e-7)


def test_position_moves_with_the_velocity_and_acceleration_sees_both():
    f = dynamics(Config(width=8, order=2), 8)
    z, t = torch.randn(2, 8, 5, 5), torch.tensor(0.5)
    assert torch.equal(f(t, z)[:, :4], z[:, 4:])
    for half in (slice(0, 4), slice(4, 8)):
        other = z.clone()
        other[:, half] += torch.randn(2, 4, 5, 5)
        assert not torch.allclose(f(t, other)[:, 4:], f(t, z)[:, 4:], atol=1e-3)


# Penalties


class Linear(nn.Module):
    """dz/dt = rate z at every number: kinetic energy and Jacobian are known."""

    def __init__(self, rate):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate, dtype=torch.float64))

    def forward(self, t, z):
        return self.rate * z


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_penalties_are_the_integrals_along_the_exact_solution(gradient):
    """|f|^2 = r^2 z0^2 e^(2rt), so its integral is r z0^2 (e^(2r) - 1) / 2; |e^T J|^2 = r^2 e^2, about r^2."""
    r = 0.7
    block = RegularizedODEBlock(Linear(r), Solver(rtol=1e-9, atol=1e-9, gradient=gradient), kinetic=2.0)
    z = numbers(3, 4, 20, 20)
    block(z)
    energy = r * z.square().mean() * (math.exp(2 * r) - 1) / 2
    torch.testing.assert_close(torch.as_tensor(block.penalty), 2 * energy, rtol=1e-6, atol=0)
    block = RegularizedODEBlock(Linear(r), Solver(rtol=1e-9, atol=1e-9, gradient=gradient), jacobian=2.0)
    block(z)
    assert block.penalty.item() == pytest.approx(2 * r**2, rel=0.05)
    block.penalty.backward()
    assert block.f.f.rate.grad.item() == pytest.approx(4 * r, rel=0.05)


def test_hutchinsons_estimate_has_the_frobenius_norm_as_its_mean():
    torch.manual_seed(0)
    matrix = numbers(4, 4)
    mixing = type("Mixing", (nn.Module,), {"forward": lambda self, t, z: torch.einsum("ij,bjhw->bihw", matrix, z)})()
    block = RegularizedODEBlock(mixing, Solver(method="euler"), jacobian=1.0)
    block(numbers(200, 4, 10, 10))
    assert block.penalty.item() == pytest.approx(matrix.square().sum().item() / 4, rel=0.05)


def test_a_regularised_block_solves_the_same_equation_and_is_a_plain_one_in_eval_mode():
    f = Linear(0.7)
    z = numbers(3, 4, 5, 5)
    plain = ODEBlock(f, Solver(rtol=1e-8, atol=1e-8))(z)
    block = RegularizedODEBlock(f, Solver(rtol=1e-8, atol=1e-8), kinetic=1.0, jacobian=1.0)
    torch.testing.assert_close(block(z), plain, rtol=1e-6, atol=1e-8)
    assert torch.equal(block.eval()(z), plain)
    with count_evaluations(block) as seen:
        block(z)
    assert seen.n > 0
    times = torch.tensor([0.5, 1.0])
    torch.testing.assert_close(block.trajectory(z, times), block.train().trajectory(z, times), rtol=1e-6, atol=1e-8)


def test_a_penalty_is_that_of_the_last_solve_in_training():
    block = RegularizedODEBlock(Linear(0.7), Solver(method="euler"), kinetic=1.0)
    z = numbers(3, 4, 5, 5)
    block(z)
    assert penalty(block).item() == pytest.approx(0.49 * z.square().mean().item())
    block.eval()(z)
    assert penalty(block) == 0
    assert penalty(copy.deepcopy(block.train())) == 0


@every_variation
def test_a_copy_can_be_made_after_a_training_step(options):
    """For an average of weights, or a snapshot; and the original goes on with its own penalty."""
    model = classifier(width=8, method="rk4", **options).train()
    x = torch.rand(2, 1, 28, 28)
    (model(x).square().sum() + penalty(model)).backward()
    loss = model(x).square().sum() + penalty(model)
    snapshot, average = copy.deepcopy(model), torch.optim.swa_utils.AveragedModel(model)
    assert penalty(snapshot) == 0 and torch.equal(snapshot.eval()(x), average.module.eval()(x))
    loss.backward()
    snapshot.train()(x)
    regularised = "kinetic" in options or "jacobian" in options
    assert bool(penalty(model)) == bool(penalty(snapshot)) == regularised


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 5), (6, 4, 5, 5, 2)])
@pytest.mark.parametrize("library", ["torchdiffeq", "odelib"])
def test_states_of_any_shape_have_penalties(library, shape):
    r, z = 0.7, numbers(*shape)
    solver = Solver(rtol=1e-9, atol=1e-9, library=library)
    block = RegularizedODEBlock(Linear(r), solver, kinetic=1.0, jacobian=1.0)
    torch.testing.assert_close(block(z), z * math.exp(r), rtol=1e-6, atol=0)
    assert block.trajectory(z, torch.tensor([0.5, 1.0])).shape == (2, *shape)
    noise = block.f.noise
    expected = r * z.square().mean() * (math.exp(2 * r) - 1) / 2 + r**2 * noise.square().mean()
    torch.testing.assert_close(block.penalty, expected, rtol=1e-6, atol=0)


def test_a_penalty_is_trained_and_makes_the_solution_calmer_and_cheaper(tiny, quick):
    """Same seed, same images: less kinetic energy, and fewer evaluations at the same tolerance."""

    def trained(**options):
        smooth = dict(width=4, stem="conv", activation="softplus", library="odelib", method="dopri5")
        config = replace(quick, epochs=5, rtol=1e-4, atol=1e-4, **smooth, **options)
        model = build(config, tiny)
        *_, metrics = fit(model, tiny, config)
        f = model.block.f.f if options else model.block.f
        ruler = RegularizedODEBlock(f, Solver(method="rk4", step_size=0.25), kinetic=1.0)
        ruler(model.stem(tiny.train.images / 255))
        return ruler.penalty.item(), metrics.nfe_forward

    energy, nfe = trained()
    calm_energy, calm_nfe = trained(kinetic=1.0)
    _, flat_nfe = trained(jacobian=1.0)
    assert calm_energy < 0.5 * energy
    assert calm_nfe < nfe and flat_nfe < nfe


def test_penalties_are_not_in_the_loss_that_is_reported(tiny, quick):
    """One step from the same weights: the same cross-entropy is reported, whatever weighs upon it."""
    losses = []
    for options in ({}, dict(kinetic=5.0)):
        config = replace(quick, epochs=1, batch_size=48, **options)
        (metrics,) = fit(build(config, tiny), tiny, config)
        losses.append(metrics.train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_several_blocks_add_their_penalties():
    model = classifier(width=8, method="rk4", kinetic=0.5, scales=2).train()
    model(torch.rand(2, 1, 28, 28))
    each = [m.penalty for m in model.modules() if isinstance(m, RegularizedODEBlock)]
    assert len(each) == 2 and penalty(model) == sum(each) and all(p > 0 for p in each)
    assert penalty(classifier(width=8)) == 0
