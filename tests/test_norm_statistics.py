"""BatchNorm in f with statistics of several kinds: which ones they are, and when they are one and the same."""

from dataclasses import replace

import pytest
import torch

from odelib import Config, RecordError, build
from odelib.book.dataset_figures import along_a_solve
from odelib.data import batches
from odelib.measurements import MEASUREMENTS, Subject
from odelib.measurements.norm_statistics import (
    ANEW,
    BATCH,
    BY_STAGE,
    FIRST,
    NORM_1,
    RUNNING,
    NormStatistics,
    NormTest,
    Stage,
    StagedNorm,
    by_batch,
    measure_norm_statistics,
    of_stage,
    orders,
    staged,
    times,
)
from odelib.records import Environment, save_weights
from odelib.studies import STUDIES, norms
from odelib.studies.summary import only

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cases(quick) -> dict[str, Config]:
    small = replace(quick, width=4, norm="batch")
    return {
        "rk4": small,
        "euler": replace(small, method="euler"),
        "group": replace(small, norm="group"),
        "adaptive": replace(small, method="dopri5", step_size=None),
    }


@pytest.fixture
def subject(cases, tiny, tmp_path) -> Subject:
    torch.manual_seed(0)
    for case, config in cases.items():
        model = build(config, tiny)
        with torch.no_grad():
            for parameter in model.block.parameters():
                parameter.mul_(3.0)  # so that states move
            for x, _ in batches(tiny.train, 10):
                model.train()(x)  # some running statistics
        save_weights(tmp_path / f"{case}-seed0.safetensors", model.eval(), config)
    return Subject(cases, tiny, CPU, tmp_path)


def networks(subject):
    return {case: model for case, _, model in subject.networks()}


def test_every_evaluation_has_its_own_set_in_turn_and_all_have_one():
    norm = StagedNorm(torch.nn.BatchNorm2d(2), 3).train()
    images = [torch.randn(8, 2, 5, 5) + k for k in range(6)]
    for z in images:
        norm(z)
    means = torch.stack([z.mean((0, 2, 3)) for z in images])
    for k in range(3):
        torch.testing.assert_close(norm.sets[k].running_mean, means[k::3].mean(0))
    torch.testing.assert_close(norm.sets[3].running_mean, means.mean(0))
    norm.eval()
    for order in ((0, 1, 2), (0, 3, 3), (1, 1, 1)):
        norm.order = order
        for k in order:
            middle, var = norm.sets[k].running_mean[:, None, None], norm.sets[k].running_var[:, None, None]
            torch.testing.assert_close(norm(images[0]), (images[0] - middle) / (var + 1e-5).sqrt())


def test_orders_of_sets():
    assert orders(2) == {
        ANEW: ((2, 2), (2, 2)),
        BY_STAGE: ((0, 1), (0, 1)),
        FIRST: ((0, 2), (0, 2)),
        NORM_1: ((0, 1), (2, 2)),
        "of evaluation 0": ((0, 0), (0, 0)),
        "of evaluation 1": ((1, 1), (1, 1)),
    }


def test_a_solve_asks_for_f_at_the_times_of_its_method(subject):
    z = torch.randn(2, 4, 14, 14)
    found = {case: times(model, z) for case, model in networks(subject).items()}
    assert found["euler"] == [0.0] and found["rk4"] == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_statistics_of_the_batch_are_those_of_training_and_leave_the_running_ones(subject, tiny):
    model = networks(subject)["rk4"]
    before = model.block.f.norm1.running_mean.clone()
    x = tiny.test.images[:20].float() / 255
    with torch.no_grad():
        found = by_batch(model)(x)
        torch.testing.assert_close(found, model.train()(x))
        assert not torch.allclose(found, model.eval()(x))
    assert not model.block.f.norm1.running_mean.equal(before)  # by train(), of the model itself
    again = by_batch(model)
    kept = again.block.f.norm1.running_mean.clone()
    again(x)
    assert again.block.f.norm1.running_mean.equal(kept)


def test_with_one_evaluation_a_solve_all_sets_are_one(subject):
    found = measure_norm_statistics(subject)
    accuracies = {only(found.tests, case="euler", statistics=kind).accuracy for kind in orders(1)}
    assert len(accuracies) == 1
    assert [row.shift for row in found.stages if row.case == "euler"] == [0, 0, 0]


def test_sets_by_stage_answer_as_the_batch_that_they_are_of(subject, tiny):
    """Of one batch, and asked about it: then there is nothing between evaluation and training but Bessel's n - 1."""
    model, images = networks(subject)["rk4"], tiny.train.pick(slice(0, 30))
    x = images.images.float() / 255
    with torch.no_grad():
        own = by_batch(model)(x)
        network = staged(model, 4, images, 30)
        by_stage = network(x)
        torch.testing.assert_close(by_stage, own, rtol=1e-2, atol=1e-2)
        for name in ("norm1", "norm2", "norm3"):
            getattr(network.block.f, name).order = (4, 4, 4, 4)
        assert (network(x) - own).norm() > 3 * (by_stage - own).norm()


def test_networks_with_batch_norm_alone_are_asked_and_every_stage_has_a_row(subject):
    found = measure_norm_statistics(subject)
    assert {row.case for row in found.tests} == {"rk4", "euler"}
    assert [row.statistics for row in found.tests if row.case == "rk4"] == [RUNNING, BATCH, *orders(4)]
    mine = [row for row in found.stages if row.case == "rk4"]
    assert [(row.norm, row.stage) for row in mine] == [(n, k) for n in (1, 2, 3) for k in range(4)]
    assert all(row.shift >= 0 and row.scale > 0 for row in mine) and max(row.shift for row in mine) > 0.01


# What the page says of a record


@pytest.fixture
def record(subject):
    kinds = {
        RUNNING: (0.7, 0.72), ANEW: (0.75, 0.75), BY_STAGE: (0.84, 0.83), BATCH: (0.85, 0.84),
        FIRST: (0.83, 0.83), NORM_1: (0.82, 0.82), **{of_stage(k): (k / 10, k / 10) for k in range(4)},
    }  # fmt: skip
    tests = [NormTest("a", k, kind, values[k]) for k in (0, 1) for kind, values in kinds.items()]
    stages = [
        Stage("a", k, norm, n, n / 2, float(norm + k), 1 + n / 4) for k in (0, 1) for norm in (1, 2) for n in range(3)
    ]
    return NormStatistics(Environment.here(CPU), 5000, tuple(tests), tuple(stages))


def test_the_table_and_the_gains_are_those_of_the_record(record):
    _, rows = norms.norm_table(record)
    assert [row[1] for row in rows[:4]] == [
        "71.0 (70.0 to 72.0)", "75.0 (75.0 to 75.0)", "83.5 (83.0 to 84.0)", "84.5 (84.0 to 85.0)",
    ]  # fmt: skip
    assert rows[-1] == ["the set of the last evaluation for all", "30.0 (30.0 to 30.0)"]
    whole = STUDIES["cifar10-full"].runs()
    said = norms.norm_numbers(record, whole)
    assert said["norms-gain-anew"] == "+4.0 (+3.0 to +5.0)" and said["norms-gain-batch"] == "+13.5 (+12.0 to +15.0)"
    assert (said["norms-n"], said["norms-images"], said["norms-batch-size"]) == ("2", "5,000", "64")
    assert (said["norms-scale-start"], said["norms-scale-end"]) == ("1.00", "1.50")
    first, second = (84 - 100 * whole["odenet"][0].last.test_accuracy, 83 - 100 * whole["odenet"][1].last.test_accuracy)
    assert said["norms-over-group"].startswith(f"−{-first:.1f} (") and f", −{-second:.1f} (" in said["norms-over-group"]


# What the page claims


def test_a_set_for_each_evaluation_brings_back_what_one_set_loses_and_one_estimated_anew_does_not():
    study = STUDIES["cifar10-norms"]
    record, (run,) = study.measured("norm-statistics"), study.runs()[norms.BATCH_NORM]
    running, anew, by_stage, batch, first_alone, norm_1, *single = (
        norms.accuracies(record, kind)[0] for kind in norms.KINDS
    )
    assert running == pytest.approx(100 * run.last.test_accuracy, abs=0.03)
    assert min(by_stage, batch) > running + 5 and abs(anew - running) < 1
    assert min(first_alone, norm_1) > by_stage - 2
    assert max(single) == single[1] > anew + 5 and sorted(single)[-2] < anew
    group = STUDIES["cifar10-full"].runs()["odenet"][0]
    assert by_stage > 100 * group.last.test_accuracy and group.config.seed == run.config.seed
    first, last = ([row.scale for row in record.stages if row.norm == 1][k] for k in (0, -1))
    assert first < 0.6 and last > 1.2
    others = [row.scale for row in record.stages if row.norm != 1]
    assert min(others) > 0.8 and max(others) < 1.15
    for norm in (1, 2, 3):
        shifts = [row.shift for row in record.stages if row.norm == norm]
        assert max(shifts[1:3]) < min(shifts[0], shifts[3])


def test_every_norm_is_a_line_along_the_solve(record):
    left, right = along_a_solve(record).axes
    assert [line.get_label() for line in left.lines] == ["norm 1", "norm 2"]
    assert left.lines[0].get_xdata() == pytest.approx([0, 0.5, 1])
    assert left.lines[1].get_ydata() == pytest.approx([2.5] * 3)
    assert right.lines[0].get_ydata() == pytest.approx([1, 1.25, 1.5])


def test_it_is_confirmed_and_wants_weights(subject, tmp_path):
    how, path = MEASUREMENTS["norm-statistics"], tmp_path / "a.json"
    how.measure(subject).save(path)
    assert how.confirm(path, subject) == []
    with pytest.raises(RecordError, match="holds no weights of this study"):
        measure_norm_statistics(replace(subject, cases={name: subject.cases[name] for name in ("group", "adaptive")}))
