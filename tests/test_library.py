"""ODEBlock with the book's own solvers, and the gradient `checkpoint`; in float64 where gradients are compared."""

import pytest
import torch
from conftest import Bend, Smooth, times
from torch import nn

from odelib import Config, ImageClassifier, ODEBlock, Solver, count_evaluations, count_saved_bytes, solvers
from odelib.errors import OptionError, SolverError
from odelib.gradients import norm_of_parts, odeint_checkpoint
from odelib.solvers import TABLEAUS, Controller, Statistics, Tableau, odeint
from odelib.training import make_optimizer, train_step

GRADIENTS = ("direct", "adjoint", "seminorm", "checkpoint")
TIGHT = dict(rtol=1e-10, atol=1e-12)
OWN = dict(library="odelib")


class Jump(nn.Module):
    """Not finite beyond t = 1/2."""

    def forward(self, t, z):
        return z / (t < 0.5)


@pytest.fixture
def z():
    return torch.randn(5, 3, dtype=torch.float64, requires_grad=True)


def gradients(end, weight, *inputs):
    return torch.autograd.grad((end * weight).sum(), inputs)


# checkpoint is direct


@pytest.mark.parametrize("name", TABLEAUS)
@pytest.mark.parametrize(
    "when",
    [(0, 1), (0, 0.1, 0.15, 0.7, 1), (1, 0.5, 0.5, 0), (0, 0, 0.3, 1)],
    ids=["ends", "dense", "back", "repeated"],
)
def test_checkpoint_has_the_states_and_the_gradient_of_the_plain_solve(name, when, z):
    f, when = Smooth(3), times(*when)
    weight = torch.randn(len(when), 5, 3, dtype=torch.float64)
    options = dict(method=name, step_size=None if TABLEAUS[name].adaptive else 0.2)
    plain, checkpoint = odeint(f, z, when, **options), odeint_checkpoint(f, z, when, **options)
    assert torch.equal(plain, checkpoint)
    expected, ours = (gradients(states, weight, z, *f.parameters()) for states in (plain, checkpoint))
    for a, b in zip(ours, expected, strict=True):
        assert b.norm() > 0
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_checkpoint_of_an_adaptive_method_that_is_not_fsal(z):
    tableau = Tableau("heun-euler", 2, (0, 1), ((), (1,)), (0.5, 0.5), error=(-0.5, 0.5))
    f, when, weight = Smooth(3), times(0, 0.3, 1), torch.randn(3, 5, 3, dtype=torch.float64)
    both = [gradients(solve(f, z, when, method=tableau), weight, z) for solve in (odeint, odeint_checkpoint)]
    torch.testing.assert_close(*both, rtol=1e-12, atol=1e-12)


def test_checkpoint_takes_only_accepted_steps_again(z):
    class Counted(Bend):
        calls = 0

        def forward(self, t, z):
            self.calls += 1
            return super().forward(t, z)

    f, seen = Counted(), Statistics()
    end = odeint_checkpoint(f, z, times(0, 1), statistics=seen)[-1]
    assert seen.rejected > 0 and f.calls == seen.nfe
    end.sum().backward()
    assert f.calls == seen.nfe + 6 * seen.accepted


def test_statistics_keep_the_start_of_every_accepted_step_if_asked_to(z):
    seen = Statistics(states=[])
    odeint(Smooth(3), z, times(0, 1), rtol=1e-6, atol=1e-6, statistics=seen)
    assert len(seen.states) == seen.accepted > 1 and torch.equal(seen.states[0], z)
    assert Statistics().states is None


def test_statistics_of_a_checkpointed_solve_that_fails_tell_how_far_it_came():
    z, plain, seen = torch.ones(2, 3, dtype=torch.float64), Statistics(), Statistics()
    for solve, statistics in ((odeint, plain), (odeint_checkpoint, seen)):
        with pytest.raises(SolverError, match="vanished"):
            solve(Jump(), z.clone().requires_grad_(), times(0, 1), statistics=statistics)
    assert seen.nfe == plain.nfe > 10 and seen.rejected > 0
    assert [(step.t, step.h, step.accepted) for step in seen.steps] == [(s.t, s.h, s.accepted) for s in plain.steps]


def test_checkpoint_refuses_a_gradient_of_times_and_does_without_where_none_is_asked(z):
    when = times(0, 1).requires_grad_()
    with pytest.raises(ValueError, match="times get no gradient here; take odeint_adjoint"):
        odeint_checkpoint(Smooth(3), z, when)
    with torch.no_grad():
        assert odeint_checkpoint(Smooth(3), z, when).shape == (2, 5, 3)


def test_checkpoint_has_no_second_derivative_and_says_so(z):
    loss = odeint_checkpoint(Smooth(3), z, times(0, 1)).square().sum()
    (gradient,) = torch.autograd.grad(loss, z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_largest_part_counts_and_what_lies_behind_not_at_all():
    error = torch.tensor([3.0, 3.0, 1.0, 1.0, 100.0])
    assert norm_of_parts([2, 2])(error) == 3 and norm_of_parts([2, 0, 2, 1])(error) == 100


# The block


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradient_of_every_mode_is_that_of_finite_differences(gradient, z):
    block = ODEBlock(Smooth(3), Solver(gradient=gradient, **TIGHT, **OWN))
    weight, h = torch.randn(5, 3, dtype=torch.float64), 1e-5
    inputs = [z, *block.parameters()]
    ours = gradients(block(z), weight, *inputs)
    with torch.no_grad():
        for tensor, product in zip(inputs, ours, strict=True):
            direction = torch.randn_like(tensor)
            tensor += h * direction
            above = (block(z) * weight).sum()
            tensor -= 2 * h * direction
            below = (block(z) * weight).sum()
            tensor += h * direction
            assert (product * direction).sum().item() == pytest.approx(((above - below) / (2 * h)).item(), abs=1e-5)


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm", "checkpoint"])
def test_every_mode_has_the_gradient_of_direct_along_a_trajectory(gradient, z):
    f, when = Smooth(3), times(0.3, 1)
    weight = torch.randn(2, 5, 3, dtype=torch.float64)
    both = []
    for kind in (gradient, "direct"):
        states = ODEBlock(f, Solver(gradient=kind, **TIGHT, **OWN)).trajectory(z, when)
        both.append(gradients(states, weight, z, *f.parameters()))
    torch.testing.assert_close(*both, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_frozen_parameters_get_no_gradient_and_disturb_no_other(gradient, z):
    f = Smooth(3)
    f.inner.requires_grad_(False)
    ODEBlock(f, Solver(gradient=gradient, **OWN))(z).sum().backward()
    assert f.inner.weight.grad is None and f.outer.weight.grad.any()


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_evaluations_of_both_passes(gradient, z):
    block = ODEBlock(Smooth(3), Solver(gradient=gradient, rtol=1e-5, atol=1e-5, **OWN))
    with count_evaluations(block) as forward:
        end = block(z)
    steps, rest = divmod(forward.n - 2, 6)
    assert rest == 0 and steps > 1
    with count_evaluations(block) as backward:
        end.sum().backward()
    if gradient == "direct":
        assert backward.n == 0
    elif gradient == "checkpoint":
        assert backward.n % 6 == 0 and 6 <= backward.n <= 6 * steps  # rejected steps are not taken again
    else:
        assert (backward.n - 2) % 6 == 0 and backward.n >= 8


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
@pytest.mark.parametrize("method", ["euler", "midpoint", "dopri5"])
def test_the_library_changes_no_logit(gradient, method):
    options = dict(width=8, stem="one-shot", method=method, gradient=gradient)
    options |= dict(rtol=1e-6, atol=1e-6) if method == "dopri5" else dict(step_size=0.25)
    configs = Config(**options), Config(**options, **OWN)
    theirs, ours = (ImageClassifier(config, config, channels=1, classes=10) for config in configs)
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(4, 1, 28, 28)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_checkpoint_holds_less_at_a_time_than_direct_and_the_more_so_the_more_steps():
    f = nn.Sequential()
    f.forward = lambda t, z: torch.sin(torch.cos(torch.sin(z)))  # three states an evaluation
    z = torch.randn(1000, requires_grad=True)

    def peak(gradient, steps):
        block = ODEBlock(f, Solver("rk4", step_size=1 / steps, gradient=gradient, **OWN))
        with count_saved_bytes([z]) as saved:
            block(z).sum().backward()
        assert saved.live == 0 or gradient == "checkpoint"
        return saved.peak / z.nbytes

    assert peak("direct", 4) == pytest.approx(4 * 4 * 3, abs=1)
    assert peak("checkpoint", 4) == pytest.approx(4 + 4 * 3, abs=2)
    assert peak("checkpoint", 16) / peak("direct", 16) < 1 / 6


def test_memory_that_is_given_back_and_saved_again_counts_again():
    """What is handed out again would have the address of what has been counted."""
    x = torch.randn(1000, requires_grad=True)
    with count_saved_bytes([x]) as saved:
        for _ in range(20):
            x.exp()  # saves its result, and is forgotten at once
    assert (saved.n, saved.peak, saved.live) == (20 * x.nbytes, x.nbytes, 0)


def test_a_warm_start_saves_evaluations_in_training_and_is_forgotten_elsewhere(z):
    block = ODEBlock(Smooth(3), Solver(warm_start=True, **OWN))
    cold = ODEBlock(block.f, Solver(**OWN))

    def nfe(block):
        with count_evaluations(block) as seen:
            block(z)
        return seen.n

    usual = nfe(cold)
    assert nfe(block) == usual
    later = [nfe(block) for _ in range(5)]
    assert max(later) < usual
    block.eval()
    assert nfe(block) == usual and torch.equal(block(z), cold(z))
    block.train()
    assert nfe(block) == usual and nfe(block) == later[0]


@pytest.mark.parametrize("t0, t1", [(0.0, 1.0), (1.0, 0.0)])
def test_a_warm_start_begins_with_what_the_first_step_before_would_rather_have_been(z, t0, t1):
    class Watched(Smooth):
        def forward(self, t, z):
            self.asked.append(t.item())
            return super().forward(t, z)

    f, seen = Watched(3), Statistics()
    f.asked = []
    tight = dict(rtol=1e-6, atol=1e-6)
    odeint(f, z, times(t0, t1), statistics=seen, **tight)
    first = next(step for step in seen.steps if step.accepted)
    wanted = first.h * Controller().factor(first.ratio, 1.0, 5)
    block = ODEBlock(f, Solver(warm_start=True, **tight, **OWN), t0=t0, t1=t1)
    block(z)
    f.asked = []
    block(z)
    assert f.asked[0] == t0 and 5 * (f.asked[1] - t0) == pytest.approx(wanted, rel=1e-9)  # dopri5 asks at h/5


class Product(nn.Module):
    """Remembers the type that its matrix product had."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(64, 64), set()

    def forward(self, t, z):
        dz = self.linear(z)
        self.seen.add(dz.dtype)
        return dz


@pytest.mark.parametrize(
    "library, gradient", [("torchdiffeq", "adjoint"), ("odelib", "direct"), ("odelib", "checkpoint")]
)
def test_bf16_is_the_type_of_the_products_alone(library, gradient):
    f, z = Product(), torch.randn(8, 64, requires_grad=True)
    plain = ODEBlock(f, Solver(gradient=gradient, library=library))
    expected = plain(z)
    wanted = torch.autograd.grad(expected.sum(), [z, f.linear.weight])
    assert f.seen == {torch.float32}
    f.seen.clear()
    block = ODEBlock(f, Solver(gradient=gradient, library=library, bf16=True))
    end = block(z)
    got = torch.autograd.grad(end.sum(), [z, f.linear.weight])
    assert f.seen == {torch.bfloat16} and end.dtype == torch.float32
    for ours, usual in zip((end, *got), (expected, *wanted)):
        assert 1e-5 < (ours - usual).norm() / usual.norm() < 0.02  # other numbers, near by


def test_the_adjoint_of_state_and_weights_of_16_bits_adds_up_in_32():
    """A thousand thousandths: in bfloat16 the sum would stay at a half, which a thousandth more does not move."""

    class Drift(nn.Module):
        def __init__(self):
            super().__init__()
            self.speed = nn.Parameter(torch.ones(1))

        def forward(self, t, z):
            return self.speed.to(z) + 0 * z

    f = Drift().to(torch.bfloat16)
    block = ODEBlock(f, Solver("euler", step_size=1 / 1000, gradient="adjoint", **OWN))
    block(torch.zeros(1, 1, dtype=torch.bfloat16)).sum().backward()
    assert f.speed.grad.item() == pytest.approx(1, abs=0.01)


def test_in_16_bits_errors_are_estimated_in_those_of_the_state(monkeypatch):
    seen, usual = set(), solvers.error_ratio

    def watched(error, *args):
        seen.add(error.dtype)
        return usual(error, *args)

    monkeypatch.setattr(solvers, "error_ratio", watched)
    f, z = Product(), torch.randn(8, 64)
    ODEBlock(f, Solver(bf16=True, **OWN))(z)
    with torch.autocast("cpu", torch.bfloat16):
        ODEBlock(f, Solver(**OWN))(z)
    assert f.seen == {torch.bfloat16} and seen == {torch.float32}


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(library="scipy"), "unknown library 'scipy'; choose from torchdiffeq, odelib"),
        (
            dict(library="odelib", method="implicit_adams"),
            "unknown method 'implicit_adams'; choose from bosh3, dopri5,",
        ),
        (dict(method="tsit5"), "unknown method 'tsit5'; choose from dopri8,"),
        (dict(library="odelib", method="bosh3", step_size=0.1), "step_size is for fixed grids only"),
        (dict(library="odelib", method="heun", gradient="seminorm"), "'heun' chooses none"),
        (dict(gradient="checkpoint"), "take library odelib"),
        (dict(warm_start=True), "warm_start is for adaptive methods of library odelib"),
        (dict(library="odelib", method="rk4", warm_start=True), "warm_start is for adaptive methods"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        ODEBlock(Smooth(3), Solver(**options))
    with pytest.raises(OptionError, match=message):
        Config(**options)


def test_a_solve_that_fails_says_when():
    z = torch.ones(2, 3, dtype=torch.float64)
    with pytest.raises(SolverError, match="vanished at t=0.(49|5)"):
        ODEBlock(Jump(), Solver(**OWN))(z)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_training_step_reaches_every_weight(gradient, tiny):
    config = Config(width=4, stem="one-shot", gradient=gradient, **OWN)
    model = ImageClassifier(config, config, channels=1, classes=10)
    _, forward, backward = train_step(
        model, make_optimizer(model, config), tiny.train.images[:8].float() / 255, tiny.train.labels[:8]
    )
    assert forward >= 8 and (backward == 0) is (gradient == "direct")
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []
    assert "dopri5 of odelib" in repr(model.block)
