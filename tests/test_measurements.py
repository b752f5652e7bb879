"""What studies measure: the clock, bytes for the backward pass, gradient errors, solvers swapped after training."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from odelib import ODEBlock, RecordError, Solver, build
from odelib.data import batches
from odelib.measurements import MEASUREMENTS, Subject
from odelib.measurements.backward_tolerance import FORWARD, measure_backward_tolerance
from odelib.measurements.confusion import count_confusion, measure_confusion
from odelib.measurements.cross_solver import SOLVERS, measure_cross_solver
from odelib.measurements.gradient_error import Problem, block_gradient, cosine, measure_gradient_error, relative
from odelib.measurements.hard_images import measure_hard_images
from odelib.measurements.loss_scale import measure_loss_scale
from odelib.measurements.memory import STEPS, TOLERANCES, measure_memory
from odelib.measurements.timing import StepTime, interleave, measure_timing
from odelib.measurements.work_precision import measure_work_precision
from odelib.records import save_weights
from odelib.saved_bytes import count_saved_bytes
from odelib.sources import digest
from odelib.studies.summary import only
from odelib.training import evaluate

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def cases(quick):
    """A small study: three ways to solve and a network without a block."""
    quick = replace(quick, width=4)
    return {
        "direct-dopri5": replace(quick, method="dopri5"),
        "adjoint-dopri5": replace(quick, method="dopri5", gradient="adjoint"),
        "adjoint-euler": replace(quick, method="euler", gradient="adjoint"),
        "none": replace(quick, network="none"),
    }


@pytest.fixture
def subject(cases, tiny, tmp_path, monkeypatch) -> Subject:
    monkeypatch.setattr("odelib.measurements.gradient_error.REFERENCE_TOLERANCE", 1e-6)  # quick
    return Subject(cases, tiny, CPU, tmp_path, build(cases["direct-dopri5"], tiny))


# Timing


class Clock:
    """A clock that stands still until an action moves it."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def action(self, name, *seconds):
        left = list(seconds)

        def act():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return act

    def __call__(self):
        return self.now


def test_actions_take_turns_and_every_other_round_goes_backwards():
    clock = Clock()
    actions = {name: clock.action(name, 1.0) for name in "abc"}
    interleave(actions, rounds=2, warmup=1, clock=clock)
    assert "".join(clock.calls) == "abc" + "cba" + "abc"


def test_seconds_are_those_of_each_action_without_the_warm_up():
    clock = Clock()
    actions = {"slow start": clock.action("slow start", 100.0, 7.0, 3.0, 4.0), "even": clock.action("even", 0.5)}
    seconds = interleave(actions, rounds=3, warmup=1, clock=clock)
    assert seconds == {"slow start": [7.0, 3.0, 4.0], "even": [0.5, 0.5, 0.5]}


def test_quartiles_of_the_seconds():
    assert StepTime("a", 1, 1, (4.0, 1.0, 3.0, 2.0, 5.0)).quartiles == (2.0, 3.0, 4.0)


def test_a_clock_is_read_when_the_device_has_done_its_work(monkeypatch):
    """Before an action begins, and before it is said to be over."""
    done = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("wait"))

    def clock():
        done.append("clock")
        return 0.0

    interleave({"a": lambda: done.append("a")}, rounds=1, warmup=0, clock=clock)
    assert done == ["wait", "clock", "a", "wait", "clock"]


def test_timing_counts_nfe_and_leaves_the_weights_alone(subject):
    trained = subject.trained
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    timing = measure_timing(subject, rounds=2)
    rows = {row.case: row for row in timing.rows}
    assert list(rows) == list(subject.cases) and timing.steps_per_epoch == 48 // 16
    assert (rows["adjoint-euler"].nfe_forward, rows["adjoint-euler"].nfe_backward) == (1, 1)
    assert (rows["none"].nfe_forward, rows["none"].nfe_backward) == (0, 0)
    assert rows["direct-dopri5"].nfe_forward == rows["adjoint-dopri5"].nfe_forward >= 8
    assert rows["direct-dopri5"].nfe_backward == 0 < rows["adjoint-dopri5"].nfe_backward
    assert all(len(row.seconds) == 2 and min(row.seconds) > 0 for row in timing.rows)
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())
    assert [row.case for row in measure_timing(subject, rounds=1, cases=slice(1, 3)).rows] == list(rows)[1:3]


# Memory


def test_bytes_of_a_small_graph_are_exact():
    """exp saves its result, which is also what sin saves: 1,000 numbers of 8 bytes, once."""
    x = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    with count_saved_bytes() as saved:
        y = x.exp().sin().sum()
    assert saved.n == 8000
    y.backward()
    torch.testing.assert_close(x.grad, x.exp().cos() * x.exp())


def test_views_count_once_and_besides_not_at_all():
    x = torch.randn(10, 10, requires_grad=True)
    with count_saved_bytes() as saved:
        (x[:5].exp().view(-1) * 2).pow(2).sum()
    assert saved.n == 2 * 50 * 4  # the result of exp, and what pow squares
    with count_saved_bytes([x]) as saved:
        (x * x).sum()
    assert saved.n == 0
    with count_saved_bytes() as saved:
        (x * x).sum()
    assert saved.n == 400


def test_nothing_is_saved_where_nothing_needs_a_gradient():
    with count_saved_bytes() as saved:
        torch.randn(10).exp().sin()
    assert saved.n == 0


class Wave(nn.Module):
    """dz/dt = sin(z): saves z and nothing else."""

    def forward(self, t, z):
        return z.sin()


def test_direct_euler_saves_one_state_a_step_and_the_adjoint_only_its_ends():
    z = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    kept = {}
    for gradient in ("direct", "adjoint"):
        for steps in (2, 4, 8):
            block = ODEBlock(Wave(), Solver("euler", step_size=1 / steps, gradient=gradient))
            with count_saved_bytes([z]) as saved:
                block(z)
            kept[gradient, steps] = saved.n
    a_state = 5 * 3 * 8
    assert a_state <= (kept["direct", 8] - kept["direct", 4]) / 4 < 2 * a_state
    assert kept["direct", 8] - kept["direct", 4] == 2 * (kept["direct", 4] - kept["direct", 2])
    assert kept["adjoint", 2] == kept["adjoint", 4] == kept["adjoint", 8] < 3 * a_state


def test_memory_of_the_direct_gradient_grows_with_nfe_and_that_of_the_adjoint_does_not(subject):
    memory = measure_memory(subject, batch_size=4)
    for gradient, grows in (("direct", True), ("adjoint", False)):
        mine = [r for r in memory.rows if (r.method, r.gradient) == ("dopri5", gradient)]
        first, *_, last = sorted(mine, key=lambda row: row.nfe_forward)
        assert last.nfe_forward > first.nfe_forward
        assert (last.kept > first.kept) is grows
        assert all(row.kept <= row.peak for row in mine)
        assert (last.peak > 1.5 * first.peak) is grows
    assert memory.state_bytes < memory.evaluation_bytes


def test_memory_is_what_is_held_at_the_end_of_the_forward_pass_not_all_that_was_saved_on_the_way(subject):
    """dopri5 saves for its error estimates too, whose graph leads nowhere."""
    memory = measure_memory(subject, batch_size=4, sizes=slice(2, 3))
    row = only(memory.rows, method="dopri5", gradient="direct")
    with torch.no_grad():
        z = subject.trained.stem(subject.trained.normalize(next(batches(subject.data.train, 4))[0]))
    z.requires_grad_()
    with count_saved_bytes([z, *subject.f.parameters()]) as saved:
        end = ODEBlock(subject.f, Solver(rtol=row.rtol, atol=row.rtol))(z)
        assert saved.live == row.kept < saved.n
    assert end.requires_grad


def test_memory_is_measured_with_the_solvers_of_the_cases_and_no_others(subject, quick):
    """Whatever the library, at tolerances if the method chooses its steps, else at steps."""
    own = replace(quick, width=4, library="odelib")
    cases = {
        "bosh3": replace(own, method="bosh3", gradient="checkpoint"),
        "rk4": replace(own, method="rk4"),
        "again": replace(own, method="rk4", step_size=0.5, epochs=9),
        "none": replace(own, network="none"),
    }
    memory = measure_memory(replace(subject, cases=cases), batch_size=2)
    sizes = {(row.method, row.gradient): [] for row in memory.rows}
    for row in memory.rows:
        sizes[row.method, row.gradient].append((row.rtol, row.step_size))
    assert sizes == {
        ("bosh3", "checkpoint"): [(tolerance, None) for tolerance in TOLERANCES],
        ("rk4", "direct"): [(1e-3, step) for step in STEPS],
    }
    assert [row.nfe_forward for row in memory.rows if row.method == "rk4"] == [4, 8, 16, 32, 64]


# Gradient error


def test_distance_and_angle():
    a, b = torch.tensor([3.0, 4.0]).double(), torch.tensor([0.0, 5.0]).double()
    assert relative(a, a) == 0 and relative(2 * a, a) == pytest.approx(1)
    assert cosine(2 * a, a) == pytest.approx(1) and cosine(-a, a) == pytest.approx(-1)
    assert cosine(a, b) == pytest.approx(0.8)


class Scaled(nn.Module):
    """dz/dt = p z, so that z(1) = e^p z(0): both gradients are known."""

    def __init__(self, p):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p, dtype=torch.float64))

    def forward(self, t, z):
        return self.p * z


@pytest.mark.parametrize("gradient", ["direct", "adjoint", "seminorm"])
def test_gradient_of_the_block_in_closed_form(gradient):
    block = ODEBlock(Scaled(0.5), Solver(rtol=1e-9, atol=1e-9, gradient=gradient))
    z, cotangent = torch.randn(2, 4, 3, dtype=torch.float64)
    ours = block_gradient(block, z, cotangent)
    growth = torch.tensor(0.5).double().exp()
    torch.testing.assert_close(ours.state, (growth * cotangent).flatten(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(ours.theta, (growth * (cotangent * z).sum()).view(1), rtol=1e-6, atol=1e-9)
    assert ours.nfe_forward > 0 and (ours.nfe_backward == 0) is (gradient == "direct")


def test_a_coarse_solver_has_a_larger_gradient_error_than_a_fine_one(subject, monkeypatch):
    monkeypatch.setattr("odelib.measurements.gradient_error.REFERENCE_TOLERANCE", 1e-8)
    found = measure_gradient_error(subject, images=2)
    rows = {row.case: row for row in found.rows}
    assert set(rows) == {"direct-dopri5", "adjoint-dopri5", "adjoint-euler"}
    assert found.reference_error < 0.01
    assert rows["direct-dopri5"].theta_gap == 0 < rows["adjoint-dopri5"].theta_gap
    assert rows["adjoint-euler"].theta_error > 2 * rows["direct-dopri5"].theta_error
    assert rows["adjoint-euler"].theta_cosine < rows["direct-dopri5"].theta_cosine


def test_a_larger_loss_makes_the_adjoint_dearer_and_better(subject):
    found = measure_loss_scale(subject, images=2, scales=(1.0, 1e4))
    rows = [row for row in found.rows if row.gradient == "adjoint"]
    assert rows[-1].nfe_backward > rows[0].nfe_backward
    assert rows[-1].theta_error < rows[0].theta_error
    assert {row.nfe_forward for row in rows} == {rows[0].nfe_forward}
    assert rows[-1].adjoint_rms / rows[0].adjoint_rms == pytest.approx(rows[-1].scale / rows[0].scale, rel=1e-4)


# Other solvers after training


@pytest.mark.parametrize("gradient", ["adjoint", "seminorm"])
def test_every_network_with_weights_is_tested_with_every_solver(subject, gradient):
    """However it was trained: the seminorm goes with adaptive methods only, and does not matter here."""
    config = replace(subject.cases["adjoint-euler"], method="dopri5", gradient=gradient)
    for name in ("adjoint-euler-seed3", "none-seed0"):
        save_weights(subject.folder / f"{name}.safetensors", subject.trained, config)
    (subject.folder / "adjoint-euler-seed4.checkpoint.safetensors").touch()
    found = measure_cross_solver(subject)
    assert [(row.case, row.seed, row.solver) for row in found.rows] == [("adjoint-euler", 3, s) for s in SOLVERS]
    assert nfe_by_solver(found)[:5] == [1, 4, 16, 4, 16]
    coarse, fine = nfe_by_solver(found)[5:]
    assert fine > coarse >= 8
    assert all(0 <= row.accuracy <= 1 for row in found.rows)


def nfe_by_solver(found):
    """In the order of SOLVERS: Euler with 1, 4 and 16 steps, RK4 with 1 and 4, dopri5 at 1e-3 and 1e-5."""
    assert [row.solver for row in found.rows] == list(SOLVERS)
    return [row.nfe for row in found.rows]


@pytest.mark.parametrize(
    "options",
    [
        dict(scales=2),
        dict(extra_channels=4),
        dict(scales=2, extra_channels=4, kinetic=0.1),
        dict(library="odelib", method="bosh3", warm_start=True),
        dict(library="odelib", method="rk4", gradient="checkpoint", block_dropout=0.1),
    ],
    ids=str,
)
def test_every_block_of_a_network_is_solved_by_the_other_solver(subject, quick, tiny, options):
    """Also where blocks stand in a row, behind appended zeros, or were trained with what torchdiffeq lacks."""
    config = replace(quick, width=4, **options)
    save_weights(subject.folder / "a-seed0.safetensors", build(config, tiny), config)
    found = measure_cross_solver(replace(subject, cases={"a": config}, network=None))
    blocks = options.get("scales", 1)
    assert nfe_by_solver(found)[:5] == [blocks * n for n in (1, 4, 16, 4, 16)]
    coarse, fine = nfe_by_solver(found)[5:]
    assert fine > coarse >= 8 * blocks


def test_the_solvers_that_are_tried_are_torchdiffeqs():
    """The two libraries' rk4 are two methods."""
    assert {solver.library for solver in SOLVERS.values()} == {"torchdiffeq"}


@pytest.mark.parametrize("measured", [measure_cross_solver, measure_confusion, measure_hard_images])
def test_a_study_without_weights_cannot_be_tested(measured, subject):
    with pytest.raises(RecordError, match="holds no weights of this study; train its cases first"):
        measured(subject)


@pytest.mark.parametrize("measured", [measure_timing, measure_memory, measure_gradient_error, measure_loss_scale])
def test_a_study_that_names_no_trained_network_cannot_be_measured(measured, subject):
    with pytest.raises(RecordError, match="this study names no trained network to measure"):
        measured(replace(subject, network=None))


@pytest.mark.parametrize("measured", [measure_memory, measure_gradient_error, measure_loss_scale])
def test_what_is_measured_of_one_block_needs_one_block(measured, subject, quick, tiny):
    for options in (dict(scales=2), dict(extra_channels=4), dict(network="none")):
        network = build(replace(quick, width=4, **options), tiny)
        with pytest.raises(RecordError, match="the network to measure must have one ODE block"):
            measured(replace(subject, network=network))


# Confusion


def test_confusion_counts_true_classes_in_rows_and_predicted_ones_in_columns(tiny):
    """Of a network that takes every image for a 7, and of one that knows the labels."""

    class Says(nn.Module):
        def __init__(self, answers):
            super().__init__()
            self.answers = iter(answers)

        def forward(self, x):
            return nn.functional.one_hot(torch.stack([next(self.answers) for _ in x]), 10).float()

    labels = tiny.test.labels
    each = labels.bincount(minlength=10)
    sevens = count_confusion(Says(torch.full_like(labels, 7)), tiny.test, 10)
    assert sevens[:, 7].equal(each) and sevens.sum() == len(labels)
    assert count_confusion(Says(labels), tiny.test, 10).equal(each.diag())


def test_confusion_is_counted_for_every_network_with_weights_in_eval_mode(subject, tiny, tmp_path):
    config = replace(subject.cases["none"], dropout=0.9)
    model = build(config, tiny)
    for name in ("none-seed0", "direct-dopri5-seed2"):
        save_weights(tmp_path / f"{name}.safetensors", model, config)
    found = measure_confusion(subject)
    assert [(row.case, row.seed) for row in found.rows] == [("direct-dopri5", 2), ("none", 0)]
    _, accuracy = evaluate(model, tiny.test)
    for row in found.rows:
        assert sum(row.counts[i][i] for i in range(10)) == round(accuracy * len(tiny.test))
    found.save(tmp_path / "confusion.json")
    assert MEASUREMENTS["confusion"].record.load(tmp_path / "confusion.json") == found


# Hard images


def test_hard_images_are_those_that_all_odenets_get_wrong(subject, tiny, tmp_path):
    answers = {}
    for case, seed in (("direct-dopri5", 0), ("direct-dopri5", 2), ("none", 0)):
        config = replace(subject.cases[case], seed=seed)
        model = build(config, tiny)
        save_weights(tmp_path / f"{case}-seed{seed}.safetensors", model, config)
        with torch.no_grad():
            answers[f"{case}-seed{seed}"] = model.eval()(tiny.test.images / 255).argmax(1)
    found = measure_hard_images(subject)
    assert found.networks == ("direct-dopri5-seed0", "direct-dopri5-seed2")
    guesses = torch.stack([answers[name] for name in found.networks], dim=1)
    wrong = (guesses != tiny.test.labels[:, None]).all(1).nonzero()[:, 0].tolist()
    assert wrong and [row.index for row in found.rows] == wrong
    for row in found.rows:
        assert row.label == str(tiny.test.labels[row.index].item()) and row.label not in row.guesses
        assert list(row.guesses) == [str(guess) for guess in guesses[row.index].tolist()]
        assert torch.equal(torch.tensor(row.pixels).permute(2, 0, 1), tiny.test.images[row.index].int())
    found.save(tmp_path / "hard-images.json")
    assert MEASUREMENTS["hard-images"].record.load(tmp_path / "hard-images.json") == found


# Records


@pytest.mark.parametrize(
    "name, options",
    [
        ("timing", dict(rounds=2)),
        ("memory", dict(batch_size=2)),
        ("loss-scale", dict(images=2, scales=(1.0,))),
        ("gradient-error", dict(images=2)),
        ("cross-solver", {}),
    ],
)
def test_a_measurement_read_back_is_the_one_that_was_saved(subject, tmp_path, name, options):
    save_weights(tmp_path / "adjoint-euler-seed0.safetensors", subject.trained, subject.cases["adjoint-euler"])
    how = MEASUREMENTS[name]
    made = how.measure(subject, **options)
    assert type(made) is how.record and made.environment.sources == digest(how.module)
    made.save(tmp_path / f"{name}.json")
    assert how.record.load(tmp_path / f"{name}.json") == made
    for other in MEASUREMENTS.values():
        if other is not how:
            with pytest.raises(RecordError, match="is not a record of odelib"):
                other.record.load(tmp_path / f"{name}.json")


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_a_measurement_is_registered_by_the_name_of_its_module(name):
    how = MEASUREMENTS[name]
    assert how.module == f"odelib.measurements.{name.replace('-', '_')}" == how.measure.__module__
    assert how.measure.__name__ == f"measure_{name.replace('-', '_')}"


# Tolerances, forward and backward


def test_a_tighter_solver_takes_more_evaluations_for_a_closer_gradient(subject):
    record = measure_work_precision(subject, images=2, batches=(0,))
    for library, method, field in (
        ("torchdiffeq", "dopri5", "rtol"),
        ("odelib", "bosh3", "rtol"),
        ("odelib", "rk4", "steps"),
    ):
        mine = [row for row in record.rows if (row.library, row.method) == (library, method)]
        assert len(mine) == 5 and all(getattr(row, field) is not None for row in mine)
        assert mine[-1].nfe > mine[0].nfe and mine[-1].theta_error < mine[0].theta_error / 2
    assert only(record.rows, library="odelib", method="rk4", steps=4).nfe == 16


def test_batches_are_different_images(subject):
    record = measure_work_precision(subject, images=2, batches=(0, 1), sizes=slice(0, 1))
    errors = [row.theta_error for row in record.rows if (row.library, row.method) == ("odelib", "euler")]
    assert len(errors) == 2 and errors[0] != errors[1]


def test_the_adjoint_at_the_forward_tolerance_is_that_of_the_block(subject):
    record = measure_backward_tolerance(subject, images=2, batches=(0,))
    problem = Problem(subject, 2)
    solver = Solver(rtol=FORWARD, atol=FORWARD)
    for gradient, rtol in (("direct", None), ("adjoint", FORWARD)):
        row = only(record.rows, rtol=rtol, share=None)
        block = ODEBlock(problem.f, replace(solver, gradient=gradient))
        found = block_gradient(block, problem.z, problem.cotangent)
        assert (row.nfe_forward, row.nfe_backward) == (found.nfe_forward, found.nfe_backward)
        assert row.theta_error == relative(found.theta, problem.exact.theta)


def test_a_tighter_backward_solve_takes_more_evaluations_for_a_closer_gradient(subject):
    record = measure_backward_tolerance(subject, images=2, batches=(0,))
    plain = [row for row in record.rows if row.rtol and row.share is None]
    shares = [row for row in record.rows if row.share]
    for rows in (plain, shares):
        assert rows[-1].nfe_backward > rows[0].nfe_backward and rows[-1].theta_error < rows[0].theta_error
