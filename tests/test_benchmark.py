"""The benchmark: what its record holds, on a tiny case with a clock of the test's own, and its command."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from odelib import Solver, build
from odelib.measurements import other_libraries
from odelib.measurements.benchmark import Benchmark, CASES, SCRIPT, measure_benchmark, network_of
from odelib.cli import main
from odelib.measurements.gradient_error import block_gradient, relative
from odelib.odeblock import ODEBlock
from odelib.odefunc import ODEfunc
from odelib.measurements.timing import interleave

CPU = torch.device("cpu")


@pytest.fixture
def trained(quick, tiny):
    return build(replace(quick, width=4, method="dopri5"), tiny)


def test_floors_are_evaluations_times_the_bare_one_and_records_come_back(trained, tiny, tmp_path):
    ticks = iter(range(10**6))
    names = (SCRIPT, "odelib direct", "odelib checkpoint", "odelib direct, warm start")
    cases = {name: CASES[name] for name in names}

    def timer(actions, rounds):  # every action takes one second, whatever it does
        return interleave(actions, rounds, warmup=1, clock=lambda: float(next(ticks)))

    small = dict(batch_size=8, rounds=2, images=2, cases=cases, evaluations=("fp32", "bf16", "channels last"))
    found = measure_benchmark(tiny, trained, CPU, timer=timer, **small)
    rows = {row.case: row for row in found.rows}
    assert list(rows) == list(names) and found.without_block == (1.0, 1.0)
    assert [evaluation.way for evaluation in found.bare] == ["fp32", "bf16", "channels last"]
    assert all(evaluation.medians == (0.2, 0.2) for evaluation in found.bare)  # five evaluations in a second
    for row in found.rows:
        assert row.seconds == (1.0, 1.0) and row.quartiles == (1.0, 1.0, 1.0)
        assert row.floor == pytest.approx(1 + 0.2 * (row.nfe_forward + row.nfe_backward))
        assert 0 < row.theta_error < 1 and 0 < row.state_error < 1
    direct, checkpoint = rows["odelib direct"], rows["odelib checkpoint"]
    assert direct.nfe_backward == 0 < checkpoint.nfe_backward and direct.nfe_forward == checkpoint.nfe_forward
    assert direct.theta_error == pytest.approx(checkpoint.theta_error, rel=1e-3)
    assert checkpoint.peak_bytes < direct.peak_bytes < rows[SCRIPT].peak_bytes
    assert rows["odelib direct, warm start"].nfe_forward <= direct.nfe_forward
    libraries = [row.library.split()[0] for row in found.libraries]
    assert {"torchdiffeq", "odelib"} <= set(libraries)
    assert all(row.nfe > 2 and 0 < row.theta_error < 1 and row.seconds == (1.0, 1.0) for row in found.libraries)
    assert 0 < found.evaluation_flops[0] < found.evaluation_flops[1]
    assert "odelib checkpoint" in str(found)
    found.save(tmp_path / "a.json")
    assert Benchmark.load(tmp_path / "a.json") == found


def test_the_scripts_time_channel_is_the_same_function(trained):
    z, t = torch.randn(3, 4, 7, 7), torch.tensor(0.3)
    same = with_solver(trained, SCRIPT, CASES[SCRIPT]).block.f
    assert type(same.conv1) is not type(trained.block.f.conv1)
    torch.testing.assert_close(same(t, z), trained.block.f(t, z), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", libraries._PASSES)
def test_every_library_computes_the_same_gradient(name, monkeypatch):
    """With other dynamics the error would be near 1; the kinks of f leave some hundredths."""
    monkeypatch.setattr(libraries, "TOLERANCE", 1e-5)
    f = ODEfunc(4)
    nn.init.constant_(f.norm3.weight, 0.1)  # a slow flow, which meets few kinks
    try:
        block_pass = libraries._PASSES[name](f)
    except ImportError:
        pytest.skip(f"{name} is not installed")
    z, w = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    dz, dtheta, nfe = block_pass(z, w)
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
        (["there"], "holds a benchmark; delete it"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, mnist_root, tmp_path, capsys):
    (tmp_path / "there.json").write_text("{}")
    assert main(["benchmark", *words, "--out", str(tmp_path), "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert not (tmp_path / "a.json").exists()
