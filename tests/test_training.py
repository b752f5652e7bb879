"""Training: schedules, optimisers, evaluation, the loop and its metrics."""

import math
import re
from dataclasses import replace
from itertools import chain
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from odelib import (
    Config,
    Dataset,
    EpochMetrics,
    Images,
    ODEBlock,
    Solver,
    SolverError,
    Training,
    build,
    count_evaluations,
    evaluate,
    fit,
    prepare,
)
from odelib import training as training_module
from odelib.data import batches
from odelib.training import Progress, default_device, make_optimizer, make_schedule


def without_seconds(metrics):
    return [replace(m, seconds=0.0) for m in metrics]


class Answers(nn.Module):
    """Logits that are the first pixels of the image: what it answers is written in the data."""

    def __init__(self, classes=3):
        super().__init__()
        self.classes = classes
        self.scale = nn.Parameter(torch.ones(()))
        self.seen = []

    def forward(self, x):
        self.seen.append((self.training, x))
        return self.scale * x.flatten(1)[:, : self.classes]


def answering(answers, labels):
    """Images of three pixels that `Answers` reads these answers from."""
    images = F.one_hot(torch.tensor(answers), 3).to(torch.uint8)[:, None, None, :] * 255
    return Images(images, torch.tensor(labels))


# Learning rate


def learning_rates(steps_per_epoch=10, start=0, **options):
    """The learning rate at every step from `start`, and the one after the last step."""
    config = Config(lr=0.2, **options)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], config.lr)
    schedule = make_schedule(optimizer, config, steps_per_epoch, start)
    rates = []
    for _ in range(start, config.epochs * steps_per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


def test_constant_schedule_never_moves():
    assert learning_rates(schedule="constant", epochs=3) == [0.2] * 31


def test_step_schedule_falls_to_a_tenth_after_each_milestone_and_not_before():
    rates = learning_rates(schedule="step", epochs=5, milestones=(2, 4))
    assert rates == pytest.approx([0.2] * 20 + [0.02] * 20 + [0.002] * 11)


def test_step_schedule_keeps_the_published_milestones():
    rates = learning_rates(steps_per_epoch=1, schedule="step", epochs=160)
    assert [rates[epoch] for epoch in (0, 59, 60, 99, 100, 139, 140, 159)] == pytest.approx(
        [0.2, 0.2, 0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002]
    )


def test_cosine_schedule_goes_down_from_the_full_rate_through_half_to_nothing():
    rates = learning_rates(schedule="cosine", epochs=4)
    assert rates[0] == 0.2
    assert rates[20] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))
    assert rates[40] == pytest.approx(0, abs=1e-12)
    assert rates == sorted(rates, reverse=True)


def test_one_cycle_schedule_rises_from_a_25th_for_three_tenths_and_falls_to_nothing():
    rates = learning_rates(schedule="one-cycle", epochs=4)
    assert rates[0] == pytest.approx(0.2 / 25)
    assert rates[6] == pytest.approx((0.2 + 0.2 / 25) / 2)
    assert rates[12] == pytest.approx(0.2) and max(rates) == rates[12]
    assert rates[26] == pytest.approx(0.1)
    assert rates[40] == pytest.approx(0, abs=1e-12)


def test_linear_schedule_rises_for_a_fifth_and_falls_to_nothing_in_straight_lines():
    rates = learning_rates(schedule="linear", epochs=4)
    assert rates[:8] == pytest.approx([0.2 * step / 8 for step in range(1, 9)])
    assert rates[8:] == pytest.approx([0.2 * left / 32 for left in range(32, -1, -1)])


SCHEDULES = get_args(Training.__annotations__["schedule"])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_started_in_the_middle_goes_on_as_if_it_had_never_stopped(schedule):
    options = dict(schedule=schedule, epochs=4, milestones=(1, 3))
    assert learning_rates(start=20, **options) == learning_rates(**options)[20:]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_of_a_single_step_begins_and_stays_finite(schedule):
    rates = learning_rates(steps_per_epoch=1, schedule=schedule, epochs=1)
    assert all(0 <= rate <= 0.2 for rate in rates) and rates[0] > 0


def test_the_metrics_tell_the_rate_of_the_last_step(tiny, quick):
    config = replace(quick, network="none", epochs=2, schedule="cosine")
    rates = [m.lr for m in fit(build(config, tiny), tiny, config)]
    assert rates == pytest.approx([0.5 * config.lr * (1 + math.cos(math.pi * step / 6)) for step in (2, 5)])


# Optimisers


@pytest.mark.parametrize(
    "name, kind", [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_optimiser_is_the_one_named_over_all_parameters(name, kind):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    optimizer = make_optimizer(model, Config(optimizer=name, lr=0.03, weight_decay=0.01, momentum=0.7))
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert set(group["params"]) == set(model.parameters())
    assert group["lr"] == 0.03 and group["weight_decay"] == 0.01
    assert name != "sgd" or (group["momentum"] == 0.7 and not group["nesterov"])


def test_sgd_takes_the_momentum_of_nesterov():
    """Against the formula, by hand: v = m v + g, and the step is g + m v."""
    p, velocity = nn.Parameter(torch.tensor([2.0])), torch.zeros(1)
    optimizer = make_optimizer(nn.ParameterList([p]), Training(lr=0.1, momentum=0.5, nesterov=True))
    expected = p.detach().clone()
    for _ in range(3):
        p.grad = 2 * p.detach()
        velocity = 0.5 * velocity + 2 * expected
        expected = expected - 0.1 * (2 * expected + 0.5 * velocity)
        optimizer.step()
        torch.testing.assert_close(p.detach(), expected)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_decay_may_be_of_filters_alone(tiny, name):
    model = build(Config(width=8), tiny)
    optimizer = make_optimizer(model, Config(optimizer=name, weight_decay=0.1, decay_filters=True))
    filters, others = optimizer.param_groups
    assert filters["weight_decay"] == 0.1 and others["weight_decay"] == 0
    assert {p.ndim for p in filters["params"]} == {2, 4} and {p.ndim for p in others["params"]} == {1}
    assert len(filters["params"]) + len(others["params"]) == len(list(model.parameters()))


# The moving average of the weights


def after_every_step(config, data):
    """The metrics of a training, the weights after every step, and the model at its end."""
    seen, model = [], build(config, data)
    metrics = list(fit(model, data, config, None, None, lambda: seen.append(weights_of(model))))
    return metrics, seen, model


def weights_of(model):
    return [p.detach().clone() for p in model.parameters()]


def test_the_average_is_that_of_the_formula_and_is_what_is_tested_and_kept(tiny, quick):
    config = replace(quick, epochs=2, network="none", dropout=0.3)
    plain, seen, _ = after_every_step(config, tiny)
    metrics, same, model = after_every_step(replace(config, ema=0.7), tiny)
    for one, other in zip(seen, same):  # training takes no notice of its average
        assert all(torch.equal(p, q) for p, q in zip(one, other))
    assert [m.train_loss for m in metrics] == [m.train_loss for m in plain]
    average, after = seen[0], {}
    for step, weights in enumerate(seen[1:], 2):
        average = [0.7 * mean + 0.3 * p for mean, p in zip(average, weights)]
        after[step] = average
    for p, mean in zip(model.parameters(), average):
        torch.testing.assert_close(p.detach(), mean)
    for found, mean in zip(metrics, (after[3], after[6])):
        for p, weight in zip(model.parameters(), mean):
            p.data.copy_(weight)
        assert found.train_accuracy == evaluate(model, tiny.train)[1]
        assert found.test_accuracy == evaluate(model, tiny.test)[1]
    assert len(seen) == 6 and metrics != plain


# Evaluation


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_evaluation_is_over_every_image_once_however_they_are_batched(batch_size):
    data = answering([0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 0, 0, 0, 1])  # the first four are right
    model = Answers()
    loss, accuracy = evaluate(model, data, batch_size)
    assert accuracy == 4 / 7
    assert loss == pytest.approx(F.cross_entropy(data.images.float().flatten(1) / 255, data.labels).item(), rel=1e-6)
    assert torch.equal(torch.cat([x for _, x in model.seen]), data.images.float() / 255)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_evaluation_is_in_eval_mode_and_puts_the_mode_back(training, fails):
    model = Answers()
    model.train(training)
    data = answering([0, 1], [0, 1])
    if fails:
        with pytest.raises(RuntimeError):
            evaluate(nn.Sequential(model, nn.Linear(99, 1)).train(training), data)
    else:
        evaluate(model, data)
    assert [mode for mode, _ in model.seen] == [False]
    assert model.training is training


def test_evaluation_keeps_no_graph():
    model = Answers()
    kept = []
    model.register_forward_hook(lambda module, inputs, output: kept.append(output.requires_grad))
    evaluate(model, answering([0], [0]))
    assert kept == [False]


# The loop


def zeros_and_ones(sample, train, test):
    """So many training and test images that are a zero or a one."""

    def first(part, n):
        return part.pick(torch.where(part.labels < 2)[0][:n])

    return replace(sample, train=first(sample.train, train), test=first(sample.test, test))


def test_training_on_the_sample_tells_zeros_from_ones_in_seconds(sample):
    """Chance is 50 %."""
    data, config = zeros_and_ones(sample, 200, 100), Config(method="midpoint", batch_size=10, lr=0.05, epochs=3)
    *_, metrics = fit(build(config, data), data, config)
    assert metrics.test_accuracy > 0.8 and metrics.train_accuracy > 0.8


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_every_gradient_trains(sample, quick, gradient):
    """The loss falls from that of guessing among ten digits to less than half of it."""
    data = zeros_and_ones(sample, 48, 30)
    config = replace(
        quick,
        gradient=gradient,
        stem="conv",
        width=64,
        method="dopri5",
        rtol=1e-2,
        atol=1e-2,
        lr=0.02,
        epochs=5,
        schedule="constant",
    )
    losses = [m.train_loss for m in fit(build(config, data), data, config)]
    assert losses[0] > 0.8 * math.log(10) and losses[-1] < 0.5 * math.log(10)


def test_one_metrics_an_epoch_counted_from_one(tiny, quick):
    config = replace(quick, network="none", epochs=3)
    metrics = list(fit(build(config, tiny), tiny, config))
    assert [m.epoch for m in metrics] == [1, 2, 3]
    assert all(isinstance(m, EpochMetrics) and m.seconds > 0 for m in metrics)


def test_accuracies_are_those_of_the_model_after_the_epoch(tiny, quick):
    config = replace(quick, augment="crop-flip", dropout=0.5)
    model = build(config, tiny)
    for metrics in fit(model, tiny, config):
        assert metrics.train_accuracy == evaluate(model, tiny.train)[1]
        assert metrics.test_accuracy == evaluate(model, tiny.test)[1]
        assert metrics.validation_accuracy is None
        assert model.training is True


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_train_loss_is_the_mean_over_the_steps_of_the_loss_that_is_trained(tiny, quick, smoothing):
    """A learning rate of next to nothing leaves the model as it was, so that the loss can be worked out beside."""
    config = replace(quick, lr=1e-30, label_smoothing=smoothing, epochs=1)
    model = build(config, tiny)
    (metrics,) = fit(model, tiny, config)
    with torch.no_grad():
        logits = model(tiny.train.images.float() / 255)
    log_p = logits.log_softmax(dim=1)
    right = -log_p.gather(1, tiny.train.labels[:, None]).mean()
    spread = -log_p.mean()
    assert metrics.train_loss == pytest.approx(((1 - smoothing) * right + smoothing * spread).item(), rel=1e-5)


@pytest.mark.parametrize(
    "options, forward, backward",
    [
        (dict(method="rk4"), 4, 0),
        (dict(method="rk4", step_size=0.5, gradient="adjoint"), 8, 8),
        (dict(method="euler", step_size=0.2, gradient="adjoint"), 5, 5),
        (dict(network="resnet", blocks=2), 0, 0),
        (dict(network="none"), 0, 0),
    ],
)
def test_nfe_of_an_epoch_is_a_mean_over_training_steps_without_evaluation(tiny, quick, options, forward, backward):
    config = replace(quick, **options)
    for metrics in fit(build(config, tiny), tiny, config):
        assert (metrics.nfe_forward, metrics.nfe_backward) == (forward, backward)


def test_adaptive_nfe_of_an_epoch_is_that_of_its_batches(tiny, quick):
    config = replace(quick, method="dopri5", gradient="adjoint", lr=1e-30, epochs=1)
    model = build(config, tiny)
    expected = []
    for x, y in batches(tiny.train, 16, generator=torch.Generator().manual_seed(config.seed * 100_003 + 1)):
        with count_evaluations(model) as forward:
            loss = F.cross_entropy(model(x), y)
        with count_evaluations(model) as backward:
            loss.backward()
        expected.append((forward.n, backward.n))
    (metrics,) = fit(model, tiny, config)
    means = [sum(column) / len(expected) for column in zip(*expected)]
    assert [metrics.nfe_forward, metrics.nfe_backward] == means
    assert min(means) > 7


def _dataset(images):
    return Dataset("made", ("a", "b", "c"), images, images)


def numbered(n):
    """A data set of `n` images that are told apart by their grey."""
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 1, 3)
    return _dataset(Images(images, torch.zeros(n).long()))


def numbers_trained_on(model):
    """What `Answers` has seen of `numbered` images in training, batch by batch."""
    return [(x[:, 0, 0, 0] * 255).round().long().tolist() for training, x in model.seen if training]


def test_an_epoch_sees_every_image_at_most_once_shuffled_in_full_batches():
    model = Answers()
    list(fit(model, numbered(50), Training(batch_size=16, epochs=2, lr=1e-3)))
    trained = numbers_trained_on(model)
    assert [len(batch) for batch in trained] == [16] * 6
    first, second = [*chain(*trained[:3])], [*chain(*trained[3:])]
    assert len(set(first)) == len(set(second)) == 48
    assert first != second and first != sorted(first)


def test_no_pass_repeats_the_order_of_another_seed():
    """With seed + epoch, pass 2 of seed 0 would be pass 1 of seed 1."""
    orders = []
    for seed in range(4):
        model = Answers()
        list(fit(model, numbered(20), Training(batch_size=20, epochs=4, lr=1e-3, seed=seed)))
        orders += map(tuple, numbers_trained_on(model))
    assert len(set(orders)) == len(orders) == 16


def test_a_limit_leaves_images_untouched_and_the_test_images_judge():
    data = numbered(40)
    model = Answers()
    metrics = list(fit(model, prepare(data, Config(train_images=10)), Training(batch_size=5, epochs=2, lr=1e-3)))
    trained = {number for batch in numbers_trained_on(model) for number in batch}
    assert trained == set(data.limit(10).train.images[:, 0, 0, 0].tolist()) and len(trained) == 10
    assert all(m.test_accuracy is not None and m.validation_accuracy is None for m in metrics)


def test_held_out_images_choose_and_are_never_trained_on():
    data = numbered(40)
    model = Answers()
    metrics = list(fit(model, prepare(data, Config(validation=0.25)), Training(batch_size=10, epochs=3, lr=1e-3)))
    held_out = set(data.hold_out(0.25).validation.images.flatten().tolist())
    trained = {number for batch in numbers_trained_on(model) for number in batch}
    assert len(held_out) == 10 and trained == set(range(40)) - held_out
    assert all(m.test_accuracy is None and m.validation_accuracy is not None for m in metrics)


def test_validation_accuracy_is_that_of_the_held_out_images(tiny, quick):
    data = tiny.hold_out(0.25)
    model = build(quick, data)
    for metrics in fit(model, data, quick):
        assert metrics.validation_accuracy == evaluate(model, data.validation)[1]
        assert metrics.train_accuracy == evaluate(model, data.train)[1]


def test_equal_seeds_train_equally_and_other_seeds_otherwise(tiny, quick):
    config = replace(quick, augment="crop-flip", dropout=0.3)

    def train(seed, noise):
        torch.manual_seed(noise)  # the global generator must not matter
        seeded = replace(config, seed=seed)
        model = build(seeded, tiny)
        return without_seconds(fit(model, tiny, seeded)), model.state_dict()

    (first, weights), (again, same_weights), (other, _) = train(0, 1), train(0, 2), train(1, 1)
    assert first == again
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)
    assert [m.train_loss for m in first] != [m.train_loss for m in other]


def test_training_draws_nothing_from_the_global_generator(tiny, quick):
    before = torch.get_rng_state()
    config = replace(quick, dropout=0.3, augment="crop")
    list(fit(build(config, tiny), tiny, config))
    assert torch.equal(torch.get_rng_state(), before)


def test_epochs_differ_in_order_and_dropout():
    """Otherwise the seed of a pass would not depend on its number."""
    data = Images(torch.full((8, 1, 1, 3), 255, dtype=torch.uint8), torch.zeros(8).long())
    masks = []

    class Dropping(Answers):
        def forward(self, x):
            dropped = F.dropout(torch.ones(100), training=self.training)
            if self.training:
                masks.append(dropped)
            return super().forward(x)

    list(fit(Dropping(), _dataset(data), Config(batch_size=8, epochs=2)))
    assert not torch.equal(*masks)


class Failing(Answers):
    """Does what `failure` does with the logits of one training step."""

    def __init__(self, at, failure):
        super().__init__()
        self.at, self.failure, self.steps = at, failure, 0

    def forward(self, x):
        logits = super().forward(x)
        self.steps += self.training
        return self.failure(logits) if self.training and self.steps == self.at else logits


def solved_from_nan(library):
    """What really happens when the state is no longer finite."""
    block = ODEBlock(lambda t, z: z, Solver(library=library))
    return lambda logits: block(logits * math.nan)


@pytest.mark.parametrize(
    "failure, message",
    [
        (lambda logits: logits * math.nan, "the loss is nan"),
        (lambda logits: logits - torch.tensor([math.inf, 0, 0]), "the loss is inf"),
        (
            solved_from_nan("torchdiffeq"),
            r"the ODE solver failed \(the step size vanished .underflow in dt.: f is.*\)",
        ),
        (solved_from_nan("odelib"), r"the ODE solver failed \(f is not finite at the start.*\)"),
    ],
    ids=["nan", "inf", "torchdiffeq", "odelib"],
)
def test_divergence_is_told_with_epoch_step_and_remedy(failure, message):
    data = answering([0, 1, 2, 0, 1, 2], [0] * 6)
    training = fit(Failing(5, failure), _dataset(data), Config(batch_size=2, epochs=3, lr=1e-3))
    assert next(training).epoch == 1
    with pytest.raises(FloatingPointError, match=f"in epoch 2, step 2 of 3, {message}"):
        next(training)


def solving(model, **solver):
    """The same with an ODE block in front."""
    return nn.Sequential(ODEBlock(lambda t, z: 0 * z, Solver(**solver)), model)


@pytest.mark.parametrize(
    "error, solver, message",
    [
        (
            AssertionError("max_num_steps exceeded (10000>=10000)"),  # as a backward pass of torchdiffeq raises it
            Solver(),
            r"the ODE solver failed \(max_steps=10000 reached\) \(NFE 0, rtol 0.001, atol 0.001\); take a larger tol",
        ),
        (
            SolverError("20000 steps are needed to reach t=1, max_steps is 10000; try a larger step_size"),
            Solver("rk4"),
            r"the ODE solver failed \(20000 steps are needed .*\) \(NFE 0\); try a larger step_size",
        ),
    ],
)
def test_too_many_steps_are_no_matter_of_the_learning_rate(error, solver, message):
    class Stuck(nn.Module):
        def forward(self, x):
            raise error

    model = nn.Sequential(Stuck(), ODEBlock(nn.Identity(), solver), nn.Linear(2, 2))
    with pytest.raises(FloatingPointError, match=f"in epoch 1, step 1 of 3, {message}"):
        next(fit(model, _dataset(answering([0, 1, 2, 0, 1, 2], [0] * 6)), Config(batch_size=2)))


@pytest.mark.parametrize(
    "solver, grew, remedy",
    [
        (dict(method="dopri5"), False, "take a larger tolerance, a smoother f, or a fixed grid"),
        (dict(method="dopri5"), True, "lower the learning rate"),
        (dict(method="rk4"), False, "lower the learning rate, or take a smaller step_size"),
        (dict(library="odelib", method="bosh3", rtol=1e-4), False, "take a larger tolerance, a smoother f, or a fixed"),
    ],
)
def test_what_to_try_fits_the_cause(monkeypatch, solver, grew, remedy):
    """A solver that fails all of a sudden is another matter than one that fails while the loss grows."""
    data, steps = _dataset(answering([0, 1, 2, 0, 1, 2], [0] * 6)), []

    def step(*arguments, step=training_module.train_step):
        steps.append(0)
        loss, *nfe = step(*arguments)
        return loss * (10 if grew and len(steps) == 2 else 1), *nfe

    monkeypatch.setattr(training_module, "train_step", step)
    model = solving(Failing(3, raising(SolverError("no step is small enough"))), **solver)
    with pytest.raises(FloatingPointError) as caught:
        list(fit(model, data, Training(batch_size=2, lr=1e-3)))
    said = str(caught.value)
    growing = ", and the loss was growing" if grew else ""
    assert said.startswith(f"in epoch 1, step 3 of 3, the ODE solver failed (no step is small enough){growing} (NFE ")
    tolerance = f", rtol {solver.get('rtol', 1e-3):g}, atol 0.001" if solver["method"] != "rk4" else ""
    assert f"{tolerance}); {remedy}" in said and "gradient" not in said  # there is none yet


def test_figures_are_those_of_the_step(tiny, quick):
    """The norm of the gradient and NFE, worked out beside."""
    config = replace(quick, lr=1e38, momentum=0.0, weight_decay=1e38)
    model, twin = build(config, tiny), build(config, tiny)
    x, y = next(batches(tiny.train, 16, generator=torch.Generator().manual_seed(1)))
    F.cross_entropy(twin(x), y).backward()
    norm = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm().item()
    with pytest.raises(FloatingPointError) as caught:
        list(fit(model, tiny, config))
    found = re.fullmatch(
        r"in epoch 1, step 1 of 3, the update made weights that are not finite "
        r"\(norm of the gradient (\S+), NFE 4\); lower the learning rate",
        str(caught.value),
    )
    assert found and float(found[1]) == pytest.approx(norm, rel=1e-2)


def test_an_update_that_ruins_the_last_step_of_an_epoch_is_told_before_it_counts(tiny, quick):
    config = replace(quick, network="none", batch_size=48, epochs=1, lr=1e38, momentum=0.0, weight_decay=1e38)
    progress, steps = Progress(), []
    with pytest.raises(FloatingPointError, match="in epoch 1, step 1 of 1, the update made weights that are not fini"):
        list(fit(build(config, tiny), tiny, config, None, progress, lambda: steps.append(0)))
    assert progress.step == 0 and steps == []


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_an_evaluation_that_is_not_finite_is_told(tiny, quick, monkeypatch, loss):
    monkeypatch.setattr(training_module, "evaluate", lambda *_: (loss, 0.1))
    message = f"after epoch 1, evaluating the held-out images, the loss is {loss} .NFE 0.; lower the learning rate"
    with pytest.raises(FloatingPointError, match=message):
        list(fit(build(quick, tiny), tiny.hold_out(0.25), replace(quick, batch_size=12)))


def test_a_training_is_stopped_and_goes_on_within_an_epoch(tiny, quick):
    """By hand, as the docstring of fit says: weights, optimiser and progress are all that it takes."""
    config = replace(quick, dropout=0.3, augment="crop-flip", schedule="one-cycle")
    whole = build(config, tiny)
    expected = without_seconds(fit(whole, tiny, config))

    class Stopped(Exception):
        pass

    def stop():
        if progress.step == 2:
            raise Stopped

    model, progress = build(config, tiny), Progress()
    optimizer = make_optimizer(model, config)
    with pytest.raises(Stopped):
        list(fit(model, tiny, config, optimizer, progress, stop))
    torch.manual_seed(99)
    again = build(config, tiny)
    again.load_state_dict(model.state_dict())
    stored, optimizer = optimizer.state_dict()["state"], make_optimizer(again, config)
    optimizer.load_state_dict({"state": stored, "param_groups": optimizer.state_dict()["param_groups"]})
    assert without_seconds(fit(again, tiny, config, optimizer, progress)) == expected
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in whole.state_dict().items())
    assert progress == Progress(epoch=3)


def raising(error):
    def fail(logits):
        raise error

    return fail


def test_an_assertion_of_the_user_is_passed_on_as_it_is():
    """Only torchdiffeq's is about the solver."""
    mine, data = AssertionError("my own check"), _dataset(answering([0, 1, 2, 0], [0] * 4))
    with pytest.raises(AssertionError) as caught:
        list(fit(Failing(1, raising(mine)), data, Training(batch_size=2, epochs=1)))
    assert caught.value is mine

    class FailsInEvaluation(Answers):
        def forward(self, x):
            assert self.training, "my own check"
            return super().forward(x)

    with pytest.raises(AssertionError, match="my own check"):
        list(fit(FailsInEvaluation(), data, Training(batch_size=2, epochs=1)))


def test_a_solver_that_fails_while_evaluating_is_told_with_the_epoch():
    class FailsInEvaluation(Answers):
        def forward(self, x):
            if not self.training:
                raise SolverError("no step is small enough")
            return super().forward(x)

    data = _dataset(answering([0, 1, 2, 0], [0] * 4))
    message = r"after epoch 1, evaluating the training images, the ODE solver failed \(no step is small enough\); lower"
    with pytest.raises(FloatingPointError, match=message):
        list(fit(FailsInEvaluation(), data, Training(batch_size=2, epochs=1)))


def test_a_network_that_blew_up_in_the_last_step_is_told_too(tiny, quick):
    """The loss of that step was still finite: it is evaluation that meets the ODE without a solution."""
    config = replace(quick, method="dopri5", batch_size=48, epochs=1, lr=1e38, momentum=0.0)
    with pytest.raises(FloatingPointError, match="epoch 1"):
        list(fit(build(config, tiny), tiny, config))


def test_counting_leaves_nothing_on_the_model_even_where_training_failed(tiny, quick):
    model = build(quick, tiny)
    list(fit(model, tiny, quick))
    model.block.f.norm3.weight.data *= math.nan
    with pytest.raises(FloatingPointError):
        list(fit(model, tiny, quick))
    assert model.block._counters == []
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


# With an optimiser of one's own


def two_groups(**options):
    """Two layers, each with a learning rate of its own, and a list of the rates of every step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10))
    groups = [dict(params=model[1].parameters(), lr=1e-4), dict(params=model[3].parameters(), lr=0.01)]
    optimizer = torch.optim.SGD(groups, momentum=0.9, **options)
    rates = []
    optimizer.register_step_pre_hook(lambda self, *_: rates.append([group["lr"] for group in self.param_groups]))
    return model, optimizer, rates


def test_an_optimiser_that_is_given_keeps_the_rates_of_its_groups(tiny):
    """The schedule multiplies them; lr, of which there is only one, is not asked."""
    model, optimizer, rates = two_groups()
    metrics = list(fit(model, tiny, Training(lr=0.05, batch_size=16, epochs=2), optimizer))
    factors = [0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert rates == [pytest.approx([1e-4 * factor, 0.01 * factor]) for factor in factors]
    assert [m.lr for m in metrics] == pytest.approx([1e-4 * factors[2], 1e-4 * factors[5]])


@pytest.mark.parametrize("restored", [True, False])
def test_an_optimiser_that_is_given_goes_on_with_its_rates(tiny, restored):
    """In the same process, or from what the user stored of model and optimiser after the first pass."""
    training = Training(batch_size=16, epochs=3, schedule="cosine")
    whole, optimizer, expected = two_groups()
    list(fit(whole, tiny, training, optimizer))

    model, optimizer, rates = two_groups()
    next(fit(model, tiny, training, optimizer))
    if restored:
        stored = model.state_dict(), optimizer.state_dict()
        model, optimizer, rates_after = two_groups()
        model.load_state_dict(stored[0])
        optimizer.load_state_dict(stored[1])
    else:
        rates_after = rates
    list(fit(model, tiny, training, optimizer, Progress(epoch=2)))
    assert (rates + rates_after if restored else rates) == expected
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_a_network_and_dynamics_of_ones_own_are_trained(tiny):
    """Any module from images to logits, any optimiser; NFE is that of the blocks in it."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), ODEBlock(lambda t, z: -z, Solver("rk4")), nn.Linear(8, 10))
    before = [p.clone() for p in net.parameters()]
    metrics = list(fit(net, tiny, Training(batch_size=16, epochs=3), torch.optim.Adam(net.parameters())))
    assert [m.nfe_forward for m in metrics] == [4, 4, 4] and metrics[-1].train_loss < metrics[0].train_loss
    assert all(not torch.equal(p, old) for p, old in zip(net.parameters(), before))


def test_the_device_is_cuda_where_there_is_one(monkeypatch):
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert default_device() == torch.device(name)


# What is said of an epoch


def test_a_line_of_metrics_shows_the_accuracy_that_was_measured():
    values = dict(
        epoch=3, train_loss=0.5, train_accuracy=0.75, nfe_forward=20.0, nfe_backward=26.5, seconds=1.0, lr=0.1
    )
    tested = str(EpochMetrics(validation_accuracy=None, test_accuracy=0.625, **values))
    held_out = str(EpochMetrics(validation_accuracy=0.5, test_accuracy=None, **values))
    assert "epoch   3" in tested and "test  62.50%" in tested and "validation" not in tested
    assert "validation  50.00%" in held_out and "test" not in held_out
    assert "20.0" in tested and "26.5" in tested and "75.00%" in tested and "0.5000" in tested
