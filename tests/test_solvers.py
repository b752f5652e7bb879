"""The book's own solvers: coefficients, order, counts, agreement with torchdiffeq, gradients, errors; in float64."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchdiffeq
from conftest import Bend, Smooth, start, times

from odelib import gradients
from odelib.errors import SolverError
from odelib.solvers import (
    DOPRI5,
    TABLEAUS,
    Controller,
    Statistics,
    Tableau,
    grid_points,
    interpolate,
    odeint,
    root_mean_square,
)

ADAPTIVE = [name for name, tableau in TABLEAUS.items() if tableau.adaptive]
TIGHT = dict(rtol=1e-10, atol=1e-10)
bend = Bend()


def climb(t, z):
    return torch.cos(3 * t) * torch.exp(-z)


def climb_exact(z0, t):
    return torch.log(torch.exp(z0) + math.sin(3 * t) / 3)


def on_a_grid(name):
    """The method without its error weights, so that it takes a fixed grid."""
    return replace(TABLEAUS[name], error=None)


# The coefficients. A rooted tree is the tuple of its subtrees, a leaf is (); Butcher's conditions are one equation
# for every tree: sum_i b_i Phi_i(tree) = 1 / gamma(tree).


def grown(tree):
    """Every tree made by hanging one more leaf on a node of `tree`."""
    yield tuple(sorted((*tree, ())))
    for i, child in enumerate(tree):
        for more in grown(child):
            yield tuple(sorted((*tree[:i], more, *tree[i + 1 :])))


def trees(order):
    return {()} if order == 1 else {more for tree in trees(order - 1) for more in grown(tree)}


def size(tree):
    return 1 + sum(map(size, tree))


def gamma(tree):
    return size(tree) * math.prod(map(gamma, tree))


def phi(tree, a):
    """Phi_i of every stage i."""
    result = [1] * len(a)
    for child in tree:
        inner = phi(child, a)
        result = [r * sum(x * y for x, y in zip(row, inner)) for r, row in zip(result, a)]
    return result


def residual(tree, a, weights, x=1):
    return sum(w * p for w, p in zip(weights, phi(tree, a))) - x ** size(tree) * Fraction(1, gamma(tree))


def exact(numbers):
    """The fractions that floats stand for; those of tsit5 are decimals and stay."""
    return [Fraction(number).limit_denominator(10**6) for number in numbers]


def test_there_are_1_1_2_4_9_trees():
    assert [len(trees(order)) for order in range(1, 6)] == [1, 1, 2, 4, 9]


@pytest.mark.parametrize("tableau", TABLEAUS.values(), ids=TABLEAUS)
def test_order_conditions_hold_up_to_the_order_and_no_further(tableau):
    rational = tableau.name != "tsit5"
    a = [exact(row) if rational else row for row in tableau.a]
    b = exact(tableau.b) if rational else tableau.b
    for order in range(1, tableau.order + 1):
        for tree in trees(order):
            error = residual(tree, a, b)
            assert error == 0 if rational else abs(error) < 3e-14, (order, tree)
    assert any(abs(residual(tree, a, b)) > 1e-6 for tree in trees(tableau.order + 1))


@pytest.mark.parametrize("name", ADAPTIVE)
def test_embedded_weights_are_of_one_order_less(name):
    tableau = TABLEAUS[name]
    embedded = [b - e for b, e in zip(tableau.b, tableau.error)]
    for order in range(1, tableau.order):
        for tree in trees(order):
            assert abs(residual(tree, tableau.a, embedded)) < 1e-14
    assert any(abs(residual(tree, tableau.a, embedded)) > 1e-5 for tree in trees(tableau.order))


@pytest.mark.parametrize("name, order", [("bosh3", 3), ("dopri5", 4), ("tsit5", 4)])
@pytest.mark.parametrize("x", [0.2, 0.5, 0.9])
def test_interpolation_meets_the_order_conditions_between_the_ends(name, order, x):
    tableau = TABLEAUS[name]
    stages = list(torch.eye(len(tableau.b), dtype=torch.float64))  # so that the result is the weights themselves
    z0 = torch.zeros_like(stages[0])
    weights = interpolate(x, 1.0, z0, times(*tableau.b), stages, stages[-1], tableau).tolist()
    for k in range(1, order + 1):
        for tree in trees(k):
            assert abs(residual(tree, tableau.a, weights, x)) < 1e-13


def test_fsal_is_seen_from_the_numbers():
    assert [name for name, tableau in TABLEAUS.items() if tableau.fsal] == ["bosh3", "dopri5", "tsit5"]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(b=(0.5, 0.6)), "must sum"),
        (dict(a=((), (0.9,))), "must sum"),
        (dict(error=(0.5, 0.5)), "must sum"),
        (dict(c=(0,)), "need as many"),
        (dict(a=((1,), ())), "need as many"),
        (dict(b=(0.5, 0.5 + 1e-9)), "must sum"),
        (dict(a=((), (1 - 1e-9,))), "must sum"),
        (dict(dense=(0.5, -0.5 + 1e-9)), "must sum"),
    ],
)
def test_a_tableau_with_a_slip_is_refused_be_it_in_the_ninth_digit(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TABLEAUS["heun"], **change)


def test_the_rounding_of_floats_is_no_slip():
    assert sum(replace(TABLEAUS["heun"], b=(0.5, 0.5 + 2**-52)).b) != 1


# Order and accuracy


@pytest.mark.parametrize("name", TABLEAUS)
def test_error_falls_with_the_order_of_the_method(name):
    z0 = times(0.3, 0.5, 0.6)
    steps = {1: [128, 256, 512], 2: [64, 128, 256]}.get(TABLEAUS[name].order, [16, 32, 64])
    errors = []
    for n in steps:
        z1 = odeint(climb, z0, times(0, 0.5), method=on_a_grid(name), step_size=0.5 / n)[-1]
        errors.append((z1 - climb_exact(z0, 0.5)).abs().max().item())
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(TABLEAUS[name].order, abs=0.1)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_smaller_tolerance_buys_accuracy_with_evaluations(name):
    z0 = times(0.3, 0.5, 0.6)
    errors, nfe = [], []
    for tolerance in (1e-3, 1e-5, 1e-7, 1e-9):
        seen = Statistics()
        z1 = odeint(climb, z0, times(0, 1), method=name, rtol=tolerance, atol=tolerance, statistics=seen)[-1]
        errors.append((z1 - climb_exact(z0, 1)).abs().max().item())
        nfe.append(seen.nfe)
        assert errors[-1] < 30 * tolerance
    assert errors == sorted(errors, reverse=True) and nfe == sorted(set(nfe))


def linear(matrix):
    matrix = torch.tensor(matrix, dtype=torch.float64)
    return (lambda t, z: matrix @ z), (lambda z, t: torch.linalg.matrix_exp(matrix * t) @ z)


def two_body(t, z):
    return torch.cat([z[2:], -z[:2] / z[:2].norm() ** 3])


def two_body_exact(eccentricity):
    def exact(z, t):
        u = t
        for _ in range(100):  # Kepler's equation by Newton's method
            u -= (u - eccentricity * math.sin(u) - t) / (1 - eccentricity * math.cos(u))
        b = math.sqrt(1 - eccentricity**2)
        speed = 1 / (1 - eccentricity * math.cos(u))
        x, y = math.cos(u) - eccentricity, b * math.sin(u)
        return times(x, y, -math.sin(u) * speed, b * math.cos(u) * speed)

    return exact


CHAIN = [[-1.0 * (i == j < 9) + 1.0 * (i == j + 1) for j in range(10)] for i in range(10)]
PROBLEMS = {  # of the DETEST set (Hull, Enright, Fellen and Sedgwick 1972), with their solutions; from t=0 to 20
    "A1": (lambda t, z: -z, [1.0], lambda z, t: z * math.exp(-t)),
    "A2": (lambda t, z: -(z**3) / 2, [1.0], lambda z, t: z / math.sqrt(t + 1)),
    "A3": (lambda t, z: z * torch.cos(t), [1.0], lambda z, t: z * math.exp(math.sin(t))),
    "A4": (lambda t, z: z / 4 * (1 - z / 20), [1.0], lambda z, t: 20 * z / (z + 19 * math.exp(-t / 4))),
    "B2": (*linear([[-1, 1, 0], [1, -2, 1], [0, 1, -1]]), [2.0, 0.0, 1.0]),
    "C1": (*linear(CHAIN), [1.0] + [0.0] * 9),
    "D1": (two_body, [0.9, 0, 0, math.sqrt(1.1 / 0.9)], two_body_exact(0.1)),
    "D3": (two_body, [0.5, 0, 0, math.sqrt(1.5 / 0.5)], two_body_exact(0.5)),
    "D5": (two_body, [0.1, 0, 0, math.sqrt(1.9 / 0.1)], two_body_exact(0.9)),
    "E1": (
        lambda t, z: torch.stack([z[1], -(z[1] / (t + 1) + (1 - 0.25 / (t + 1) ** 2) * z[0])]),
        [math.sqrt(2 / math.pi) * math.sin(1), math.sqrt(2 / math.pi) * (math.cos(1) - math.sin(1) / 2)],
        lambda z, t: (
            math.sqrt(2 / math.pi / (t + 1)) * times(math.sin(t + 1), math.cos(t + 1) - math.sin(t + 1) / (2 * (t + 1)))
        ),
    ),
}


@pytest.mark.parametrize("name", ["dopri5", "tsit5"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_published_problems_are_solved_to_their_closed_forms(problem, name):
    f, *rest = PROBLEMS[problem]
    z0, solution = rest if isinstance(rest[0], list) else reversed(rest)
    z0 = times(*z0)
    z1 = odeint(f, z0, times(0, 20), method=name, rtol=1e-9, atol=1e-9)[-1]
    bound = {"D1": 1e-6, "D3": 1e-6, "D5": 1e-5}.get(problem, 1e-7)  # orbits gather errors in their phase
    assert (z1 - solution(z0, 20)).abs().max() < bound


def test_homogeneous_problem_stays_on_its_curve():
    z1 = odeint(lambda t, z: (z - t) / (z + t), times(4), times(0, 20), rtol=1e-9, atol=1e-9)[-1].item()
    assert math.log(math.hypot(20, z1)) + math.atan2(z1, 20) == pytest.approx(math.log(4) + math.pi / 2, abs=1e-7)


def test_predator_and_prey_keep_their_invariant():
    def invariant(z):
        return z[0] - z[0].log() + 2 * (z[1] - z[1].log())

    def f(t, z):
        return torch.stack([2 * (z[0] - z[0] * z[1]), -(z[1] - z[0] * z[1])])

    z0 = times(1, 3)
    z1 = odeint(f, z0, times(0, 20), rtol=1e-9, atol=1e-9)[-1]
    assert abs(invariant(z1) - invariant(z0)) < 1e-6


def test_steep_decay_costs_steps_but_no_accuracy():
    rates = times(-1, -300)
    seen = Statistics()
    z1 = odeint(lambda t, z: rates * z, times(1, 1), times(0, 2), rtol=1e-6, atol=1e-6, statistics=seen)[-1]
    assert (z1 - torch.exp(2 * rates)).abs().max() < 1e-4
    assert seen.accepted > 300 * 2 / 3.5  # stability allows h of about 3.3 / 300, whatever the tolerance


# Counting


@pytest.mark.parametrize("name", TABLEAUS)
@pytest.mark.parametrize("n", [1, 3, 10])
def test_a_fixed_grid_costs_stages_times_steps(name, n):
    tableau, seen = TABLEAUS[name], Statistics()
    odeint(bend, start(), times(0, 1), method=on_a_grid(name), step_size=1 / n, statistics=seen)
    stages = len(tableau.b)
    assert seen.nfe == (1 + (stages - 1) * n if tableau.fsal else stages * n)
    assert (seen.accepted, seen.rejected) == (n, 0)


def test_without_a_step_size_every_interval_is_one_step():
    seen = Statistics()
    odeint(bend, start(), times(0, 0.5, 0.7), method="rk4", statistics=seen)
    assert seen.nfe == 8 and [step.t for step in seen.steps] == [0, 0.5]


@pytest.mark.parametrize("end", [1.0, -1.0])
@pytest.mark.parametrize("name", TABLEAUS)
def test_a_step_size_makes_one_grid_that_times_between_do_not_move(name, end):
    """Interpolation asks for f at a step's end, where the next step needs it anyway: only the last costs one more."""
    z0, plain, seen = start(), Statistics(states=[]), Statistics(states=[])
    options = dict(method=on_a_grid(name), step_size=0.25)
    alone = odeint(bend, z0, times(0, end), statistics=plain, **options)
    when = times(0, 0.1, 0.25, 0.3, 0.6, 0.75, 0.9, 1) * end
    states = odeint(bend, z0, when, statistics=seen, **options)
    assert [step.t for step in seen.steps] == [step.t for step in plain.steps] == [0, 0.25 * end, 0.5 * end, 0.75 * end]
    assert torch.equal(states[[0, -1]], alone)
    assert torch.equal(states[[0, 2, 5]], torch.stack(plain.states)[[0, 1, 3]])
    assert seen.nfe == plain.nfe + (not TABLEAUS[name].fsal)
    assert odeint(bend, z0, when[:-1], statistics=Statistics(), **options).shape == (7, 4, 3)


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("first_step, extra", [(None, 2), (0.3, 1)])
def test_an_adaptive_solve_costs_two_and_stages_less_one_for_each_step(name, first_step, extra):
    calls = []

    def f(t, z):
        calls.append(t.item())
        return bend(t, z)

    seen = Statistics()
    odeint(f, start(), times(0, 1), method=name, first_step=first_step, statistics=seen)
    assert seen.rejected > 0 and seen.accepted + seen.rejected == len(seen.steps)
    assert seen.nfe == len(calls) == extra + (len(TABLEAUS[name].b) - 1) * len(seen.steps)
    assert [step.accepted for step in seen.steps] == [step.ratio <= 1 for step in seen.steps]


def test_without_fsal_the_first_stage_is_not_computed_twice_either():
    heun_euler = Tableau("heun-euler", 2, (0, 1), ((), (1,)), (0.5, 0.5), error=(-0.5, 0.5))
    seen = Statistics()
    z1 = odeint(bend, start(), times(0, 1), method=heun_euler, statistics=seen)[-1]
    assert seen.nfe == 2 + len(seen.steps) + seen.accepted
    torch.testing.assert_close(z1, odeint(bend, start_again(), times(0, 1), **TIGHT)[-1], rtol=0, atol=0.2)


def start_again():
    torch.manual_seed(0)
    return start()


@pytest.mark.parametrize("end", [1.0, -1.0])
def test_accepted_steps_join_and_end_exactly_and_f_is_never_asked_beyond(end):
    calls = []

    def f(t, z):
        calls.append(t.item())
        return bend(t, z)

    seen = Statistics()
    odeint(f, start(), times(0, end), statistics=seen)
    ways = [step for step in seen.steps if step.accepted]
    assert ways[0].t == 0 and ways[-1].t + ways[-1].h == end
    assert all(a.t + a.h == pytest.approx(b.t, abs=1e-15) for a, b in pairwise(ways))
    assert all(0 <= t / end <= 1 for t in calls)


def test_f_is_not_asked_beyond_a_very_near_end_either():
    calls = []
    odeint(lambda t, z: calls.append(t.item()) or -z * 1e-6, times(1), times(0, 1e-9))
    assert max(calls) <= 1e-9


def test_statistics_go_on_counting():
    seen = Statistics()
    odeint(bend, start(), times(0, 1), statistics=seen)
    once = seen.nfe
    odeint(bend, start_again(), times(0, 1), statistics=seen)
    assert seen.nfe == 2 * once


def test_controller_shrinks_on_error_and_grows_without():
    plain = Controller(beta=0.0)
    assert plain.factor(1.0, 1.0, 5) == pytest.approx(0.9)
    assert plain.factor(32.0, 1.0, 5) == pytest.approx(0.45)
    assert plain.factor(0.0, 1.0, 5) == 10 and plain.factor(math.nan, 1.0, 5) == 0.2 == plain.factor(1e9, 1.0, 5)


def test_controller_with_beta_is_that_of_dopri5():
    """The next step is h safety previous^beta / ratio^(1/order - 3/4 beta), where previous is 1e-4 at least."""
    control, plain = Controller(), Controller(beta=0.0)
    for ratio, previous in ((0.5, 0.01), (0.5, 0.5), (0.3, 2.0), (2.0, 0.1)):
        expected = 0.9 * previous**0.04 / ratio ** (0.2 - 0.75 * 0.04)
        assert control.factor(ratio, previous, 5) == pytest.approx(expected, rel=1e-12)
    assert control.factor(0.5, 0.01, 5) < plain.factor(0.5, 0.01, 5)  # the error is rising: be careful
    assert control.factor(0.5, 1e-9, 5) == control.factor(0.5, 1e-4, 5)
    assert Controller(beta=0.1).factor(0.5, 1.0, 3) == pytest.approx(0.9 / 0.5 ** (1 / 3 - 0.075))


@pytest.mark.parametrize(
    "z0, f, h",
    [
        (1.0, lambda t, z: torch.ones_like(z), (0.01 / 1000) ** (1 / 5)),
        (1e-3, lambda t, z: torch.ones_like(z), 1e-3),
        (1.0, lambda t, z: torch.cos(50 * t).expand(1), (0.01 / (100_000 * (1 - math.cos(0.5)))) ** (1 / 5)),
    ],
    ids=["by the speed", "a hundred trial steps at most", "by how the speed bends"],
)
def test_the_first_step_is_by_hairers_rule(z0, f, h):
    """In units of atol = 0.001 the speed is 1000, and a trial step a hundredth of |z| / |f|."""
    seen = Statistics()
    odeint(f, times(z0), times(0, 1), rtol=1e-9, atol=1e-3, statistics=seen)
    assert seen.steps[0].h == pytest.approx(h, rel=1e-5)


@pytest.mark.parametrize(
    "first_step, lengths", [(0.995, [1.0]), (1 / 1.0099, [1.0]), (0.98, [0.98, 0.02]), (3.0, [1.0])]
)
def test_the_last_step_is_stretched_by_a_hundredth_rather_than_leave_a_crumb(first_step, lengths):
    seen = Statistics()
    odeint(lambda t, z: 0 * z + 1e-3, start(), times(0, 1), first_step=first_step, statistics=seen)
    assert [step.h for step in seen.steps] == pytest.approx(lengths)


# torchdiffeq


@pytest.mark.parametrize(
    "ours, theirs", [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2"), ("rk4_38", "rk4")]
)
def test_fixed_grids_are_those_of_torchdiffeq(ours, theirs):
    z0 = start()
    mine = odeint(bend, z0, times(0, 1), method=ours, step_size=1 / 16)
    expected = torchdiffeq.odeint(bend, z0, times(0, 1), method=theirs, options={"step_size": 1 / 16})
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-12)


def test_classic_rk4_is_not_the_rk4_of_torchdiffeq():
    z0 = start()
    mine, theirs = (solve(bend, z0, times(0, 0.5), method="rk4") for solve in (odeint, torchdiffeq.odeint))
    assert (mine - theirs).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["bosh3", "dopri5", "tsit5"])
def test_tight_solves_agree_with_torchdiffeq(name):
    z0, when = start(), times(0, 0.1, 0.35, 0.8)
    tight = dict(rtol=1e-11, atol=1e-11)
    theirs = torchdiffeq.odeint(bend, z0, when, method="dopri5", **tight)
    loose = 1e-7 if name == "bosh3" else 1e-8
    mine = odeint(bend, z0, when, method=name, **(dict(rtol=1e-9, atol=1e-9) if name == "bosh3" else tight))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=loose)


@dataclass(frozen=True)
class TheirController(Controller):
    """torchdiffeq's: no shrinking after an accepted step."""

    beta: float = 0.0

    def factor(self, ratio, previous, order):
        factor = super().factor(ratio, previous, order)
        return max(factor, 1.0) if ratio < 1 else factor


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_steps_are_torchdiffeqs_when_told_its_settings(tolerance):
    """Its error weights (Shampine's) are two thirds of Dormand and Prince's."""

    class Watched(Bend):
        def callback_accept_step(self, t0, z, h):
            self.steps.append((t0.item(), h.item(), True))

        def callback_reject_step(self, t0, z, h):
            self.steps.append((t0.item(), h.item(), False))

    z0, watched, seen = start(), Watched(), Statistics()
    watched.steps = []
    torchdiffeq.odeint(watched, z0, times(0, 1), rtol=tolerance, atol=tolerance, method="dopri5")
    theirs = replace(DOPRI5, error=tuple(2 / 3 * e for e in DOPRI5.error))
    options = dict(method=theirs, controller=TheirController(), statistics=seen)
    odeint(bend, z0, times(0, 1), rtol=tolerance, atol=tolerance, **options)
    mine = [(step.t, step.h, step.accepted) for step in seen.steps]
    assert any(not accepted for *_, accepted in mine)
    assert 0 <= len(watched.steps) - len(mine) <= 1  # ours ends the last step at t=1, if need be by a longer one
    np.testing.assert_allclose(mine[:-1], watched.steps[: len(mine) - 1], rtol=1e-6)


# Times and states


@pytest.mark.parametrize("name", TABLEAUS)
def test_backward_undoes_forward(name):
    z0 = start()
    options = dict(method=name, **TIGHT) if TABLEAUS[name].adaptive else dict(method=name, step_size=1e-3)
    z1 = odeint(bend, z0, times(0, 0.2), **options)[-1]
    back = odeint(bend, z1, times(0.2, 0), **options)[-1]
    assert (z1 - z0).abs().max() > 0.1
    torch.testing.assert_close(back, z0, rtol=0, atol={1: 0.1, 2: 1e-3, 3: 1e-5}.get(TABLEAUS[name].order, 1e-6))


@pytest.mark.parametrize("name", TABLEAUS)
@pytest.mark.parametrize("when", [(0, 0.3, 0.31, 0.8), (0.8, 0.5, 0)])
def test_several_times_are_as_good_as_separate_solves(name, when):
    z0 = start()
    adaptive = TABLEAUS[name].adaptive
    options = dict(method=name, rtol=1e-8, atol=1e-8) if adaptive else dict(method=name, step_size=0.01)
    together = odeint(bend, z0, times(*when), **options)
    assert torch.equal(together[0], z0)
    for t, z in zip(when[1:], together[1:]):
        alone = odeint(bend, z0, times(when[0], t), **options)[-1]
        torch.testing.assert_close(z, alone, rtol=0, atol=1e-6 if adaptive else 1e-12)  # all times are on the grid


def test_more_times_cost_no_evaluations_and_do_not_move_the_end():
    z0, seen, more = start(), Statistics(), Statistics()
    once = odeint(bend, z0, times(0, 1), statistics=seen)
    often = odeint(bend, z0, torch.linspace(0, 1, 50, dtype=torch.float64), statistics=more)
    assert seen.nfe == more.nfe and torch.equal(once[-1], often[-1])


@pytest.mark.parametrize("name", TABLEAUS)
def test_a_solve_of_no_length_returns_the_state_untouched(name):
    z0, seen = start(), Statistics()
    assert torch.equal(odeint(bend, z0, times(0.5, 0.5), method=name, statistics=seen), torch.stack([z0, z0]))
    assert torch.equal(odeint(bend, z0, times(0.5), method=name, statistics=seen), z0[None])
    assert seen.nfe == 0


@pytest.mark.parametrize("name", TABLEAUS)
def test_times_may_repeat(name):
    z0 = start()
    states = odeint(bend, z0, times(0, 0, 0.5, 0.5, 1, 1), method=name)
    assert len(states) == 6 and all(torch.equal(states[i], states[i + 1]) for i in (0, 2, 4))
    assert not torch.equal(states[2], states[4])


@pytest.mark.parametrize("name", TABLEAUS)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_keeps_shape_and_dtype_and_f_sees_a_time_without_axes(name, shape, dtype):
    def f(t, z):
        assert t.shape == () and t.dtype == z.dtype == dtype
        return -z

    z0 = torch.rand(shape, dtype=dtype)
    step_size = None if TABLEAUS[name].adaptive else 0.1
    states = odeint(f, z0, torch.tensor([0.0, 1.0]), method=name, step_size=step_size)
    assert states.shape == (2, *shape) and states.dtype == dtype
    torch.testing.assert_close(states[-1], z0 * math.exp(-1), rtol=0.06, atol=1e-3)


@pytest.mark.parametrize("name, order", [("rk4", 4), ("midpoint", 2), ("euler", 1), ("dopri5", 5)])
def test_between_the_points_of_a_grid_the_states_are_as_good_as_on_it(name, order):
    """Hermite's cubic is of order 4 (with `dense` weights 5): it does not spoil the order of a method up to that."""
    z0, when = times(0.3, 0.5, 0.6), torch.linspace(0, 1, 41, dtype=torch.float64)
    expected = torch.stack([climb_exact(z0, t) for t in when.tolist()])
    errors = []
    for n in (8, 16):
        states = odeint(climb, z0, when, method=on_a_grid(name), step_size=1 / n)
        errors.append((states - expected).abs().max().item())
        on_the_grid = max(((states - expected)[:: 40 // 8]).abs().max().item(), 1e-9)
        assert errors[-1] < 10 * on_the_grid
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_size_is_the_longest_allowed_and_rounding_adds_no_step(dtype):
    cases = (
        (1, 0.1, 10),
        (0.3, 0.1, 3),
        (1.1, 0.1, 11),
        (0.6, 0.2, 3),
        (2.1, 0.7, 3),
        (1, 0.3, 4),
        (1, 0.5, 2),
        (1, 2.0, 1),
    )
    for end, step_size, n in cases:
        seen = Statistics()
        when = torch.tensor([0, end], dtype=dtype)
        odeint(bend, start(), when, method="euler", step_size=step_size, statistics=seen)
        assert [step.h for step in seen.steps] == pytest.approx([end / n] * n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t0", [0.0, 0.1, -3.3, 10.1])
def test_no_multiple_of_any_step_size_takes_a_step_too_many(t0, dtype):
    """And a way that is longer by a hundredth of a step does take one more."""
    wrong = []
    for step_size in (k / 100 for k in range(3, 100, 4)):
        for n in range(1, 60, 2):
            for more, expected in ((0, n), (0.01, n + 1)):
                for sign in (1, -1):
                    when = torch.tensor([t0, t0 + sign * (n + more) * step_size], dtype=dtype)
                    steps = len(grid_points(when, step_size, 100)) - 1
                    wrong += [(step_size, n, more, steps)] if steps != expected else []
    assert not wrong


# Numbers of 16 bits, and none at all


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_a_state_of_16_bits_is_solved_at_the_usual_tolerance(name, dtype):
    """The squares of allowed errors are below the least float16: the norm is taken in 32 bits."""
    seen, usual, z0 = Statistics(), Statistics(), torch.rand(16, 3)
    odeint(climb, z0, times(0, 1), method=name, statistics=usual)
    states = odeint(climb, z0.to(dtype), torch.linspace(0, 1, 500), method=name, statistics=seen)
    assert states.dtype == dtype and len(seen.steps) <= 2 * len(usual.steps)
    assert (states[-1] - climb_exact(z0, 1)).abs().max() < {torch.float16: 5e-3, torch.bfloat16: 4e-2}[dtype]


def test_the_norm_of_small_float16_numbers_is_not_zero():
    assert root_mean_square(torch.full((4,), 1e-4, dtype=torch.float16)).item() == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize("name", TABLEAUS)
def test_a_state_without_numbers_is_its_own_solution(name):
    z0, seen = torch.zeros(0, 3, requires_grad=True), Statistics()
    states = odeint(bend, z0, times(0, 0.5, 1), method=name, statistics=seen)
    states.sum().backward()
    assert states.shape == (3, 0, 3) and z0.grad.shape == (0, 3) and seen.nfe == 0


# Gradients


@pytest.mark.parametrize("name", TABLEAUS)
def test_gradient_of_a_fixed_grid_is_that_of_finite_differences(name):
    def solve(z, rate):
        f = lambda t, z: torch.sin(rate * z.flip(-1) + t)  # noqa: E731
        return odeint(f, z, times(0, 0.4, 1), method=on_a_grid(name), step_size=0.5)

    assert torch.autograd.gradcheck(solve, (start(2, 3).requires_grad_(), times(1.3).requires_grad_()))


@pytest.mark.parametrize("name", ["dopri5", "tsit5"])
def test_gradient_of_an_adaptive_solve_is_that_of_finite_differences_and_of_torchdiffeq(name):
    f, when = Smooth(), times(0, 0.4, 1)
    z0 = start(2, 3).requires_grad_()
    weight = start(3, 2, 3)

    def solve(z):
        return odeint(f, z, when, method=name, **TIGHT)

    assert torch.autograd.gradcheck(solve, (z0,), atol=1e-6)
    mine = torch.autograd.grad((solve(z0) * weight).sum(), [z0, *f.parameters()])
    theirs = torchdiffeq.odeint(f, z0, when, method="dopri5", **TIGHT)
    for ours, expected in zip(mine, torch.autograd.grad((theirs * weight).sum(), [z0, *f.parameters()]), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)


def test_gradient_holds_the_step_sizes_constant():
    """The same steps on a fixed grid give the same gradient, however loose the tolerance."""
    z0, seen = start().requires_grad_(), Statistics()
    z1 = odeint(bend, z0, times(0, 0.3), rtol=1e-2, atol=1e-2, statistics=seen)[-1]
    ends = [0.0] + [step.t + step.h for step in seen.steps if step.accepted]
    again = odeint(bend, z0, times(*ends), method=on_a_grid("dopri5"))[-1]
    torch.testing.assert_close(again, z1)
    (g1,), (g2,) = torch.autograd.grad(z1.sum(), z0), torch.autograd.grad(again.sum(), z0)
    torch.testing.assert_close(g1, g2)


def test_second_derivatives_exist():
    z0 = start(2, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda z: odeint(bend, z, times(0, 0.2), method="rk4", step_size=0.1), (z0,))


@pytest.mark.parametrize("name", TABLEAUS)
def test_the_solver_itself_saves_nothing_for_backward(name):
    saved = []
    z0 = start().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor), lambda tensor: tensor):
        odeint(lambda t, z: -z, z0, times(0, 0.5, 1), method=name)  # this f saves nothing
    assert not saved


@pytest.mark.parametrize("name", ["rk4", "dopri5"])
def test_any_method_serves_the_adjoint(name):
    f, when = Smooth(), times(0, 0.4, 1)
    z0, weight = start(2, 3).requires_grad_(), start(3, 2, 3)
    options = dict(method=name, **(TIGHT if name == "dopri5" else dict(step_size=0.01)))

    def solve(f, z, times):
        return odeint(f, z, times, **options)

    adjoint = gradients.odeint_adjoint(f, z0, when, solve)
    direct = solve(f, z0, when)
    wanted = [z0, *f.parameters()]
    both = (torch.autograd.grad((states * weight).sum(), wanted) for states in (adjoint, direct))
    for a, d in zip(*both, strict=True):
        torch.testing.assert_close(a, d, rtol=1e-6, atol=1e-7)


def test_adjoint_gives_times_the_gradient_that_direct_refuses():
    f, when = Smooth(), times(0, 1).requires_grad_()
    with pytest.raises(ValueError, match="times get no gradient"):
        odeint(f, start(2, 3), when)
    z1 = gradients.odeint_adjoint(f, start(2, 3), when, odeint)[-1]
    (gradient,) = torch.autograd.grad(z1.sum(), when)
    torch.testing.assert_close(gradient[1], f(times(1)[0], z1).sum())


# Refusals, each with what to do


@pytest.mark.parametrize(
    "options, message",
    [
        (
            dict(method="rk45"),
            "unknown method 'rk45'; choose from euler, midpoint, heun, ralston3, rk4, rk4_38, bosh3, dopri5",
        ),
        (dict(step_size=0.1), r"step_size is for fixed grids \(euler, midpoint, heun, ralston3, rk4, rk4_38\); dopri5"),
        (dict(method="rk4", step_size=0.0), "step_size must be positive, got 0"),
        (dict(method="rk4", step_size=math.nan), "step_size must be positive"),
        (dict(method="rk4", first_step=0.1), "first_step is for adaptive methods"),
        (dict(first_step=-0.1), "first_step must be positive"),
        (dict(rtol=-1.0), "tolerances must be positive, got rtol=-1"),
        (dict(rtol=0.0, atol=0.0), "tolerances must be positive"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        odeint(bend, start(), times(0, 1), **options)


@pytest.mark.parametrize(
    "when, message",
    [
        (times(0, 1, 0.5), r"times must run up or down, got \[0.0, 1.0, 0.5\]"),
        (times(0, math.nan), "vector of finite numbers"),
        (times(), "vector of finite numbers"),
        (times(0, 1)[None], "vector of finite numbers"),
    ],
)
def test_bad_times_are_refused(unchecked, when, message):
    with pytest.raises(ValueError, match=message):
        odeint(bend, start(), when)


@pytest.mark.parametrize("name", ["euler", "dopri5"])
def test_f_that_changes_the_shape_is_refused(name):
    with pytest.raises(ValueError, match=r"f must keep the shape of the state: got \(4, 1\) for \(4, 3\)"):
        odeint(lambda t, z: -z[:, :1], start(), times(0, 1), method=name)


def test_a_state_of_integers_is_refused(unchecked):
    with pytest.raises(ValueError, match="floats, got torch.int64"):
        odeint(bend, torch.ones(3, dtype=torch.int64), times(0, 1))


def test_explosion_on_a_fixed_grid_says_between_which_times():
    message = r"step from t=0\.\d+ to t=\d.* made a non-finite state; try a smaller step_size"
    with pytest.raises(SolverError, match=message):
        odeint(lambda t, z: z**3, times(100), times(0, 1), method="rk4", step_size=0.1)


def test_f_that_is_not_finite_at_the_start_is_said_so():
    with pytest.raises(SolverError, match="f is not finite at the start, t=0.5"):
        odeint(lambda t, z: z * math.nan, start(), times(0.5, 1))


def test_a_vanishing_step_says_when_and_what_to_try():
    with pytest.raises(SolverError, match=r"step size vanished at t=0\.999\d*: f is steep .*; try a larger tolerance"):
        odeint(lambda t, z: z * z, times(1), times(0, 2), max_steps=100_000)
    with pytest.raises(SolverError, match=r"vanished at t=0\.5.*: f is not finite beyond"):
        odeint(lambda t, z: torch.sqrt(0.5 - t) * z, times(1), times(0, 1))


def test_max_steps_says_how_far_it_came():
    with pytest.raises(
        SolverError, match=r"max_steps=10 reached at t=0\.\d+ on the way to 1; try .* or raise odeint.s max_steps"
    ):
        odeint(bend, start(), times(0, 1), **TIGHT, max_steps=10)
    with pytest.raises(SolverError, match="100 steps are needed to reach t=1, max_steps is 99"):
        odeint(bend, start(), times(0, 1), method="euler", step_size=0.01, max_steps=99)


@pytest.mark.parametrize("options", [{}, dict(method="euler", step_size=0.1), dict(method="rk4")])
def test_max_steps_are_just_enough_steps(options):
    """Rejected ones included."""
    z0, seen = start(), Statistics()
    plain = odeint(bend, z0, times(0, 0.5, 1), statistics=seen, **options)
    assert torch.equal(odeint(bend, z0, times(0, 0.5, 1), max_steps=len(seen.steps), **options), plain)
    with pytest.raises(SolverError, match="max_steps"):
        odeint(bend, z0, times(0, 0.5, 1), max_steps=len(seen.steps) - 1, **options)
