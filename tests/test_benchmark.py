"""The benchmark: what its record holds, on a tiny case with a clock of the test's own, and its command."""

import copy
import inspect
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from odelib import ODEBlock, Solver, build
from odelib.cli import main
from odelib.measurements import MEASUREMENTS, Subject, other_libraries
from odelib.measurements.benchmark import CASES, SCRIPT, Benchmark, measure_benchmark, network_of
from odelib.measurements.gradient_error import block_gradient, relative
from odelib.measurements.timing import interleave
from odelib.odefunc import ODEfunc
from odelib.sources import digest

CPU = torch.device("cpu")


@pytest.fixture
def subject(quick, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("odelib.measurements.gradient_error.REFERENCE_TOLERANCE", 1e-6)  # quick
    config = replace(quick, width=4, method="dopri5")
    return Subject({"direct": config}, tiny, CPU, tmp_path, build(config, tiny))


SECONDS = {
    "without block": 2.0,
    "without block, bf16": 1.0,
    # of five evaluations
    "fp32, forward": 5.0,
    "fp32, both": 20.0,
    "bf16, forward": 2.5,
    "bf16, both": 7.5,
    "channels last, forward": 15.0,
    "channels last, both": 30.0,
    "products, forward": 4.0,
    "products, both": 10.0,
    "matrix product": 0.5,
    "convolution 3 4 plain": 3.0,
    "convolution 3 4 products": 1.5,
    "block 3 4 plain": 6.0,
    "block 3 4 products": 4.0,
}


def timer(actions, rounds):
    """Run every action, and say that it took the `SECONDS` of its name, or 100; half in one round, more in another."""
    assert rounds == 2
    for action in actions.values():
        for _ in range(1 + rounds):  # one to warm up
            action()
    return {name: [SECONDS.get(name, 100.0) * share for share in (0.5, 1.5)] for name in actions}


def test_floors_are_evaluations_times_the_bare_one_and_records_come_back(subject, tmp_path):
    """Where a gradient is found in the forward pass an evaluation costs both ways there, else on the way back."""
    names = (
        SCRIPT,
        *(f"odelib {how}" for how in ("direct", "adjoint", "checkpoint", "direct, warm start", "direct, bf16")),
        "odelib direct, products",
        "odelib direct, ralston3 in 3 steps, products, bf16 in the stem",
    )
    ways = ("fp32", "products", "bf16", "channels last")
    small = dict(batch_size=8, rounds=2, images=2, evaluations=ways, sizes=((3, 4),))
    found = measure_benchmark(subject, cases={name: CASES[name] for name in names}, timer=timer, **small)
    rows = {row.case: row for row in found.rows}
    assert list(rows) == list(names) and found.without_block == (1.0, 3.0)
    assert {bare.way: bare.medians for bare in found.bare} == {
        "fp32": (1.0, 4.0), "products": (0.8, 2.0), "bf16": (0.5, 1.5), "channels last": (3.0, 6.0),
    }  # fmt: skip
    for name, row in rows.items():
        forward, both = (0.5, 1.5) if name.endswith("bf16") else (0.8, 2.0) if "products" in name else (1.0, 4.0)
        there, rest = forward if row.nfe_backward else both, 1.0 if name.endswith("in the stem") else 2.0
        assert row.floor == pytest.approx(rest + there * row.nfe_forward + both * row.nfe_backward)
        assert row.seconds == (50.0, 150.0) and row.quartiles == (75.0, 100.0, 125.0)
        assert 0 < row.theta_error < 1 and 0 < row.state_error < 1
    direct, adjoint, checkpoint = (rows[f"odelib {gradient}"] for gradient in ("direct", "adjoint", "checkpoint"))
    assert direct.nfe_backward == 0 < adjoint.nfe_backward and checkpoint.nfe_backward > 0
    assert direct.nfe_forward == checkpoint.nfe_forward == adjoint.nfe_forward
    assert direct.theta_error == pytest.approx(checkpoint.theta_error, rel=1e-3)
    assert checkpoint.peak_bytes < direct.peak_bytes < rows[SCRIPT].peak_bytes
    assert rows["odelib direct, warm start"].nfe_forward <= direct.nfe_forward
    by_products = rows["odelib direct, products"]
    assert by_products.nfe_forward == direct.nfe_forward
    assert by_products.theta_error == pytest.approx(direct.theta_error, rel=1e-2)
    [size] = found.sizes
    assert (size.size, size.channels, size.tiles) == (3, 4, 1) and size.times_faster == (2.0, 1.5)
    assert 0 < size.error < size.error_products < 1e-5
    libraries = [row.library.split()[0] for row in found.libraries]
    assert {"torchdiffeq", "odelib"} <= set(libraries)
    assert all(row.nfe > 2 and 0 < row.theta_error < 1 and row.seconds == (50.0, 150.0) for row in found.libraries)
    assert 0 < found.evaluation_flops[0] < found.evaluation_flops[1]
    assert found.machine_flops == (2 * 1024**3 / 0.25, 2 * 1024**3 / 0.75)
    assert found.environment.sources == digest("odelib.measurements.benchmark")
    assert "odelib checkpoint" in str(found)
    found.save(tmp_path / "a.json")
    assert Benchmark.load(tmp_path / "a.json") == found


@pytest.mark.parametrize("case, idle", [("odelib direct", 2), ("odelib direct, ralston3 in 3 steps", 0)])
def test_evaluations_of_direct_that_are_not_differentiated(case, idle):
    """The floor takes them for such that are: dopri5 guesses its first step with one, its last stage goes nowhere."""
    torch.manual_seed(0)
    calls, reached = [], []
    f = ODEfunc(4)

    def watched(t, z):
        n = len(calls)
        calls.append(t)
        dz = f(t, z)
        if dz.requires_grad:
            dz.register_hook(lambda gradient: reached.append(n) if gradient.any() else None)
        return dz

    z = torch.randn(3, 4, 5, 5).requires_grad_()
    end = ODEBlock(watched, replace(CASES[case], rtol=0.1, atol=0.1))(z)  # loose, so that no step is rejected
    end.backward(torch.randn(3, 4, 5, 5))
    assert len(calls) - len(set(reached)) == idle


def test_by_default_actions_take_turns():
    """The function that times the training steps of a study keeps the clock here too."""
    assert inspect.signature(measure_benchmark).parameters["timer"].default is interleave


@pytest.mark.parametrize("case", CASES)
def test_a_case_is_the_trained_network_with_another_solver(case, subject):
    model, trained = network_of(case, CASES[case], subject.trained), subject.trained
    assert model.training and model.block.solver == CASES[case] and model is not trained
    assert trained.block.solver == Solver()
    before, after = trained.state_dict(), model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(p is not q for p, q in zip(model.parameters(), trained.parameters()))


def test_the_scripts_time_channel_is_the_same_function(subject):
    z, t, trained = torch.randn(3, 4, 7, 7), torch.tensor(0.3), subject.trained
    same = network_of(SCRIPT, CASES[SCRIPT], trained).block.f
    assert type(same.conv1) is not type(trained.block.f.conv1)
    torch.testing.assert_close(same(t, z), trained.block.f(t, z), rtol=0, atol=1e-5)


WEEKLY = [pytest.param(name, marks=pytest.mark.weekly) for name in other_libraries._COMPILED]  # takes minutes


@pytest.mark.parametrize("name", [*other_libraries._PASSES, *WEEKLY])
def test_every_library_computes_the_same_gradient(name, monkeypatch):
    """With other dynamics the error would be near 1; the kinks of f leave some hundredths."""
    monkeypatch.setattr(other_libraries, "TOLERANCE", 1e-5)
    f = ODEfunc(4)
    nn.init.constant_(f.norm3.weight, 0.1)  # a slow flow, which meets few kinks
    z, w = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    try:
        block_pass = (other_libraries._PASSES | other_libraries._COMPILED)[name](f, z, w)
        dz, dtheta, nfe = block_pass.read(block_pass.run())
    except ImportError:
        pytest.skip(f"{name} is not installed")
    exact = block_gradient(ODEBlock(copy.deepcopy(f).double(), Solver(rtol=1e-9, atol=1e-9)), z.double(), w.double())
    bound = 0.5 if name == "torchdyn" else 0.1  # torchdyn also differentiates its choice of the first step
    assert relative(dz.flatten(), exact.state) < bound
    assert relative(torch.cat([g.flatten() for g in dtheta]), exact.theta) < bound
    assert [g.shape for g in dtheta] == [p.shape for p in f.parameters()] and nfe > 7


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "Missing from odelib benchmark"),
        (["a", "--rounds", "0"], "rounds must be positive, got 0"),
        (["a", "--threads", "-1"], "threads must be positive, got -1"),
        (["a", "--batch-size", "100"], "batch_size must be at most the 48 images of mnist"),
        (["a", "--dataset", "mnits"], "no data set 'mnits'"),
        (["a", "--dataset", "cifar10-sample"], "takes images of 1 channel, as mnist has; cifar10-sample has 3"),
        (["there"], "holds a benchmark; move it away"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, mnist_root, tmp_path, capsys):
    (tmp_path / "there.json").write_text("{}")
    assert main(["benchmark", *words, "--out", str(tmp_path), "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not (tmp_path / "a.json").exists()


def test_a_benchmark_is_confirmed_with_the_threads_and_options_that_it_was_made_with(
    subject, mnist_root, tmp_path, monkeypatch
):
    how, asked = MEASUREMENTS["benchmark"], []
    monkeypatch.setattr("odelib.studies.study.Study.subject", lambda *_: subject)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None, raising=False)
    monkeypatch.setitem(MEASUREMENTS, "benchmark", replace(how, measure=partial(how.measure, timer=timer)))
    made = measure_benchmark(subject, batch_size=8, images=2, rounds=2, timer=timer, **how.small)
    path = tmp_path / "a.json"
    replace(made, dataset="mnist", environment=replace(made.environment, threads=3)).save(path)
    words = [
        "benchmark",
        "a",
        "--confirm",
        "--dataset",
        "mnist",
        "--batch-size",
        "8",
        "--images",
        "2",
        "--rounds",
        "2",
        "--device",
        "cpu",
    ]
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert len(Benchmark.load(path).environment.confirmed) == 1 and asked == [3]
