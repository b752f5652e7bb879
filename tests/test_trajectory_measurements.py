"""What is measured along the trajectory: stops, exits, probes, retrieval, other solvers, attacks."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from odelib import Config, RecordError, Solver, build
from odelib.measurements import MEASUREMENTS, Subject
from odelib.measurements.inference import measure_inference
from odelib.measurements.robustness import BUDGETS, attack, measure_robustness, noise
from odelib.measurements.stop_times import (
    BLOCKS,
    STEPS,
    THRESHOLDS,
    along,
    average_precision,
    early_exit,
    last_block,
    linear_probe,
    measure_stop_times,
    pieces,
)
from odelib.odeblock import ODEBlock, change_solver, count_evaluations
from odelib.records import save_weights
from odelib.studies.summary import only
from odelib.training import evaluate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(quick) -> dict[str, Config]:
    small = replace(quick, width=4)
    return {
        "rk4": small,
        "euler": replace(small, method="euler"),
        "resnet": replace(small, network="resnet", blocks=3),
        "none": replace(small, network="none"),
    }


@pytest.fixture
def subject(cases, tiny, tmp_path) -> Subject:
    """A study of four networks, which were not trained."""
    torch.manual_seed(0)
    for case, config in cases.items():
        save_weights(tmp_path / f"{case}-seed0.safetensors", build(config, tiny), config)
    return Subject(cases, tiny, CPU, tmp_path)


# Stops


@pytest.mark.parametrize("method, stages", [("rk4", 4), ("euler", 1)])
def test_the_pieces_of_a_block_are_its_solve_on_the_grid(method, stages, cases, tiny):
    model = build(cases["rk4"], tiny).eval()
    z = torch.randn(5, 4, 14, 14)
    path = pieces(model.block, method)
    assert len(path) == STEPS
    change_solver(model, Solver(method, step_size=1 / STEPS))
    with torch.no_grad(), count_evaluations(model) as whole:
        end = model.block(z)
    nfe, features, logits = along(model, [z], method)
    torch.testing.assert_close(logits[-1], model.head(end))
    assert nfe == [stages * k for k in range(STEPS + 1)] and nfe[-1] == whole.n
    assert features.shape == (STEPS + 1, 5, 4)
    torch.testing.assert_close(logits[0], model.head(z))


def test_a_block_with_other_ends_is_cut_between_them(cases, tiny):
    block = build(cases["rk4"], tiny).block
    assert isinstance(block, ODEBlock)
    path = pieces(ODEBlock(block.f, Solver("rk4"), t0=1.0, t1=-1.0), "euler")
    assert [(piece.t0, piece.t1) for piece in path[:2]] == [(1.0, 0.75), (0.75, 0.5)] and path[-1].t1 == -1.0


def test_residual_blocks_are_places_to_stop_and_no_block_has_one_place(cases, tiny):
    z = torch.randn(2, 4, 14, 14)
    resnet, none = (build(cases[name], tiny).eval() for name in ("resnet", "none"))
    nfe, _, logits = along(resnet, [z], BLOCKS)
    assert nfe == [0, 1, 2, 3]
    torch.testing.assert_close(logits[2], resnet.head(resnet.block[:2](z)))
    nfe, _, logits = along(none, [z], BLOCKS)
    assert nfe == [0] and logits.shape == (1, 2, 10)


def test_of_a_chain_the_last_block_is_read_behind_the_others_as_they_were_trained(cases, tiny):
    model = build(replace(cases["euler"], scales=2), tiny).eval()
    before, block = last_block(model)
    assert block is model.block[-1] and [*before] == [*model.block[:-1]]
    z = torch.randn(2, 4, 14, 14)
    with torch.no_grad(), count_evaluations(model) as whole:
        end = model.block(z)
    assert whole.n == 2  # one step of Euler in each
    block.solver = Solver("rk4", step_size=1 / STEPS)
    with torch.no_grad():
        start = before(z)
    nfe, _, logits = along(model, [start], "rk4")
    assert nfe[-1] == 4 * STEPS and start.shape[-1] == 7
    torch.testing.assert_close(logits[-1], model.head(block(start)))
    torch.testing.assert_close(logits[0], model.head(start))
    assert not torch.allclose(logits[-1], model.head(end))


def test_a_residual_block_that_is_passed_again_is_a_place_each_time(cases, tiny):
    model = build(replace(cases["resnet"], scales=2, link="conv", tied=True), tiny).eval()
    before, block = last_block(model)
    with torch.no_grad():
        start = before(torch.randn(2, 4, 14, 14))
        nfe, _, logits = along(model, [start], BLOCKS)
        assert nfe == [0, 1, 2, 3] and start.shape[-1] == 7
        torch.testing.assert_close(logits[2], model.head(block.module(block.module(start))))
        torch.testing.assert_close(logits[3], model.head(block(start)))


def test_other_blocks_are_refused(cases, tiny):
    with pytest.raises(RecordError, match="stop times are those of networks that end with an ODE block, of residual"):
        pieces(build(replace(cases["resnet"], scales=2, link="conv"), tiny).block, "rk4")


# Exits


def test_an_image_ends_at_the_first_place_that_is_sure_enough():
    confidence = torch.tensor([[0.9, 0.2, 0.2], [0.1, 0.6, 0.3], [0.9, 0.9, 0.4]])
    right = torch.tensor([[False, True, True], [True, True, True], [True, False, True]])
    assert early_exit(confidence, right, [1, 2, 4], 0.5) == (pytest.approx((1 + 2 + 4) / 3), pytest.approx(2 / 3))
    assert early_exit(confidence, right, [1, 2, 4], 0.9) == (4.0, pytest.approx(2 / 3))


def test_with_threshold_one_all_go_to_the_end_however_sure_they_are():
    right = torch.tensor([[False, False], [True, False]])
    assert early_exit(torch.ones(2, 2), right, [3, 7], 1.0) == (7.0, 0.5)
    assert early_exit(torch.ones(2, 2), right, [3, 7], 0.0) == (3.0, 0.0)


# Probe and retrieval


def test_a_probe_separates_what_is_separable_and_guesses_where_nothing_is_to_be_known():
    torch.manual_seed(0)
    labels, asked = torch.arange(300) % 3, torch.arange(60) % 3
    centres = 10 * torch.eye(3, 5)
    train, test = centres[labels] + torch.randn(300, 5), centres[asked] + torch.randn(60, 5)
    answers, _ = linear_probe(train, labels, test, 3)
    assert answers.equal(asked)
    answers, _ = linear_probe(torch.randn(300, 5), labels, torch.randn(60, 5), 3)
    assert 0.1 < (answers == asked).float().mean() < 0.6


def test_the_penalty_of_a_probe_is_chosen_by_images_that_it_is_not_fitted_to():
    """Many features and few images: the least penalty fits every one of them, and is not the one that is chosen."""
    torch.manual_seed(0)
    labels = torch.arange(90) % 3
    train = torch.eye(3, 80)[labels] + torch.randn(90, 80)
    _, penalty = linear_probe(train, labels, train, 3)
    assert penalty > 1e-4


def test_average_precision_is_its_definition():
    torch.manual_seed(0)
    similarity, relevant = torch.randn(4, 30), torch.rand(4, 30) < 0.3
    relevant[3] = False
    found = average_precision(similarity, relevant)
    for query in range(3):
        order = sorted(range(30), key=lambda item: -similarity[query, item].item())
        precisions = [
            sum(relevant[query, other].item() for other in order[: place + 1]) / (place + 1)
            for place, item in enumerate(order)
            if relevant[query, item]
        ]
        assert found[query].item() == pytest.approx(sum(precisions) / len(precisions))
    assert found[3] == 0
    assert average_precision(relevant.float(), relevant)[:3].tolist() == [1, 1, 1]


# The records


def test_stop_times_of_every_network(subject, tiny):
    found = measure_stop_times(subject, queries=10, train_images=30)
    assert (found.images, found.queries) == (30, 10)
    places = {"rk4": STEPS + 1, "euler": STEPS + 1, "resnet": 4, "none": 1}
    for case, n in places.items():
        readings = [row for row in found.readings if row.case == case]
        assert len(readings) == n and readings[-1].at == 1
        assert readings[-1].symmetric == readings[-1].asymmetric
        assert all(0 <= value <= 1 for row in readings for value in (row.probe, row.symmetric, row.asymmetric))
    assert len(found.exits) == (2 + 2 + 1) * len(THRESHOLDS) and not [r for r in found.exits if r.case == "none"]
    for method in ("rk4", "euler"):
        ends = (
            only(found.stops, case="rk4", method=method, at=1.0),
            only(found.exits, case="rk4", method=method, threshold=1.0),
        )
        assert ends[0].accuracy == ends[1].accuracy and ends[0].nfe == ends[1].nfe
    for case, model in (("resnet", next(m for c, _, m in subject.networks() if c == "resnet")),):
        assert only(found.stops, case=case, at=1.0).accuracy == pytest.approx(evaluate(model, tiny.test)[1])


def test_inference_tries_every_solver_on_networks_with_an_ode(subject):
    found = measure_inference(subject, tolerances=(1e-5, 1e-1), steps=(1, 2))
    assert {row.case for row in found.rows} == {"rk4", "euler"} and found.images == 30
    mine = [row for row in found.rows if row.case == "rk4"]
    assert [row.nfe for row in mine[2:]] == [1, 2, 2, 4, 4, 8]
    assert mine[0].moved == 0 and mine[0].nfe > mine[1].nfe >= 8


def test_the_answers_that_moved_are_counted_against_the_tightest_tolerance(subject, tiny):
    found = measure_inference(subject, tolerances=(1e-5,), steps=(1,))
    model = next(m for case, _, m in subject.networks() if case == "euler")
    answers = []
    for solver in (Solver(rtol=1e-5, atol=1e-5), Solver("euler")):
        change_solver(model, solver)
        with torch.no_grad():
            answers.append(model(tiny.test.images.float() / 255).argmax(dim=1))
    row = only(found.rows, case="euler", method="euler")
    assert row.moved == pytest.approx((answers[0] != answers[1]).float().mean().item())


# Attacks


class Linear(nn.Module):
    """Two classes, by the sign of a weighted sum of the pixels."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, x):
        score = (x * self.weights).flatten(1).sum(dim=1)
        return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize("steps", [1, 7])
def test_an_attack_stays_within_its_budget_and_within_the_pixels(steps):
    torch.manual_seed(0)
    x, y = torch.rand(6, 1, 5, 5), torch.zeros(6, dtype=torch.long)
    model = Linear(torch.randn(1, 5, 5))
    for budget in BUDGETS:
        for changed in (attack(model, x, y, budget, steps), noise(x, budget)):
            assert (changed - x).abs().max() <= budget + 1e-6
            assert changed.min() >= 0 and changed.max() <= 1 and not changed.requires_grad
            assert (changed - x).abs().max() > budget / 2


def test_one_step_goes_by_the_budget_against_the_class_and_more_steps_end_there_too():
    """Of a linear network the worst image within the budget is known."""
    weights = torch.tensor([[[1.0, -2.0], [0.5, -0.1]]])
    x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([1, 1, 0])
    worst = 0.5 + 0.1 * torch.tensor([-1.0, -1.0, 1.0])[:, None, None, None] * weights.sign()
    for steps in (1, 10):
        torch.testing.assert_close(attack(Linear(weights), x, y, 0.1, steps), worst)


def test_every_attack_is_read_by_every_solve(subject):
    found = measure_robustness(subject, images=12, pgd_steps=2)
    assert {row.case for row in found.rows} == {"rk4", "resnet", "none"} and found.images == 12
    mine = [row for row in found.rows if row.case == "rk4"]
    pairs = {(row.made, row.tested) for row in mine if row.attack == "pgd"}
    assert pairs == {(by, how) for by in ("tight", "loose", "loose adjoint") for how in ("tight", "loose")}
    assert len(mine) == 2 + len(BUDGETS) * (2 + 2 * len(pairs))
    others = [row for row in found.rows if row.case == "none"]
    assert [(row.attack, row.made, row.tested) for row in others[:4]] == [
        ("none", "none", "own"),
        ("noise", "none", "own"),
        ("fgsm", "own", "own"),
        ("pgd", "own", "own"),
    ]


def test_the_same_attack_is_made_again(subject):
    assert measure_robustness(subject, images=6, pgd_steps=2).rows == measure_robustness(subject, 6, 2).rows


@pytest.mark.parametrize("name", ["stop-times", "inference", "robustness"])
def test_the_small_part_of_each_is_a_part_of_it(name, subject, tmp_path):
    how, path = MEASUREMENTS[name], tmp_path / f"{name}.json"
    options = {
        "stop-times": dict(queries=10, train_images=30),
        "inference": {},
        "robustness": dict(images=6, pgd_steps=2),
    }
    how.measure(subject, **options[name]).save(path)
    assert how.confirm(path, subject, **options[name]) == []
