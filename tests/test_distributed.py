"""Several processes, one training: two of them, started by torchrun, equal one."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import CONFIGS, CPU, SMALL, dataset

from odelib import OptionError, Run
from odelib.distributed import ALONE, Processes, joined, started
from odelib.records import load_class_names, load_tensors
from odelib.runs import run

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
WORDS = """
    -m odelib train --dataset mnist-sample --train-images 80 --stem one-shot --width 8 --method euler --batch-size 16
    --activation softplus --lr 0.02 --dropout 0.2 --device cpu --name a
""".split()  # noqa: SIM905


def torchrun(*words, **how):
    return subprocess.Popen(
        [*TORCHRUN, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder in which two processes have made all runs."""
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(HERE / "processes.py", folder)
    _, said = done.communicate(timeout=300)
    assert done.returncode == 0, said
    return folder


def test_two_processes_train_as_one_does(made, tmp_path):
    """Ten steps or more, every gradient. An adaptive one has other steps for half a batch: there by its tolerance."""
    for name in CONFIGS.keys() - {"dropout"}:
        config, fixed = CONFIGS[name], CONFIGS[name].method == "rk4"
        near = 1e-5 if fixed else 1e-3
        alone = run(config, dataset(), tmp_path / f"{name}.json", CPU, lambda _: None)
        record = Run.load(made / f"{name}.json")
        for metrics, other in zip(record.metrics, alone.metrics, strict=True):
            for field in ("train_loss", "train_accuracy", "validation_accuracy", "test_accuracy"):
                value, expected = getattr(metrics, field), getattr(other, field)
                assert value == expected or value == pytest.approx(expected, abs=near), (name, field)
            if fixed:
                for field in ("nfe_forward", "nfe_backward", "lr"):
                    assert getattr(metrics, field) == getattr(other, field), (name, field)
        weights, expected = (load_tensors(folder / f"{name}.safetensors")[0] for folder in (made, tmp_path))
        assert weights.keys() == expected.keys()
        for key in weights:
            torch.testing.assert_close(weights[key], expected[key], rtol=near, atol=near, msg=f"{name}: {key}")
        assert load_class_names(made / f"{name}.safetensors") == dataset().classes
        assert "WORLD_SIZE=2" in record.environment.settings
        assert sorted(path.name for path in made.glob(f"{name}.*")) == [f"{name}.json", f"{name}.safetensors"]


def test_two_processes_go_on_where_a_signal_to_one_of_them_stopped_both(made, tmp_path):
    """Its step is kept; what comes out, with dropout in it, is that of an uninterrupted run, to the bit."""
    words = [*WORDS, "--epochs", "12", "--out", tmp_path]
    first = torchrun(*words)
    assert first.stdout.readline().startswith("epoch   1")
    owner = (tmp_path / "a-seed0.owner").read_text()
    os.kill(int(re.search(r"process (\d+) on", owner)[1]), signal.SIGTERM)
    _, said = first.communicate(timeout=300)
    assert said.count("odelib: interrupted") == 2 and said.count("all is kept, the same command goes on") == 2, said
    assert 1 <= len(Run.load(tmp_path / "a-seed0.json").metrics) < 12
    again = torchrun(*words)
    out, said = again.communicate(timeout=300)
    assert again.returncode == 0 and out.count("parameters; record") == 1, said
    record, whole = Run.load(tmp_path / "a-seed0.json"), Run.load(made / "dropout.json")
    assert record.config == whole.config
    seen = [[(m.train_loss, m.train_accuracy, m.lr) for m in made.metrics] for made in (record, whole)]
    assert seen[0] == seen[1]
    weights, expected = (
        load_tensors(path)[0] for path in (tmp_path / "a-seed0.safetensors", made / "dropout.safetensors")
    )
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


def test_when_the_first_process_may_not_write_the_others_end_too(tmp_path):
    (tmp_path / "file").touch()
    done = torchrun(*WORDS, "--epochs", "1", "--out", tmp_path / "file")
    _, said = done.communicate(timeout=300)
    assert done.returncode != 0
    ours = sorted(line for line in said.splitlines() if line.startswith("odelib: "))
    assert len(ours) == 2 and "cannot be written" in ours[0] and "another one has ended" in ours[1], said


# What is refused


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(batch_size=15), "the images of a batch must be a multiple of the 2 processes, got 15"),
        (dict(train_images=7), "the images of a batch must be a multiple of the 2 processes, got 7"),
        (dict(norm="batch"), "norm batch looks at a whole batch"),
    ],
)
def test_what_two_processes_cannot_share_is_refused_before_any_file_is_made(tmp_path, change, message):
    with pytest.raises(OptionError, match=message):
        run(replace(SMALL, **change), dataset(), tmp_path / "a.json", CPU, processes=Processes(1, 2))
    assert list(tmp_path.iterdir()) == []


def test_parts_of_fewer_images_than_processes_are_refused(tmp_path):
    data = dataset()
    few = replace(data, test=data.test.pick(slice(0, 1)))
    with pytest.raises(OptionError, match="2 processes need as many images, in every part of mnist-sample"):
        run(SMALL, few, tmp_path / "a.json", CPU, processes=Processes(1, 2))


def test_a_process_without_a_cuda_device_of_its_own_is_refused(monkeypatch):
    variables = dict(RANK="2", LOCAL_RANK="2", WORLD_SIZE="3", MASTER_ADDR="localhost", MASTER_PORT="1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = "each process needs a CUDA device of its own; here are 2"
    with pytest.raises(OptionError, match=message), joined(torch.device("cuda")):
        pass


# Without others


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": "2", "RANK": "0"}])
def test_without_the_variables_of_torchrun_a_process_is_alone(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not started()
    with joined(CPU) as processes:
        assert processes is ALONE


def test_one_alone_shares_and_draws_as_if_there_were_no_others():
    before, batch = torch.get_rng_state(), torch.arange(5)
    ALONE.seed_step(1, 2)
    assert torch.equal(torch.get_rng_state(), before) and ALONE.share(batch) is batch
    assert ALONE.mean(0.1, 3) == [0.1, 3] and ALONE.largest(2) == [2] and ALONE.from_first("a") == "a"


def test_shares_make_up_the_batch_and_noise_is_each_ones_own():
    batch, parts, drawn = torch.arange(12).reshape(6, 2), [], set()
    for rank in range(3):
        processes = Processes(rank, 3)
        parts.append(processes.share(batch))
        for step in (0, 1):
            with torch.random.fork_rng():
                processes.seed_step(7, step)
                drawn.add(torch.rand(()).item())
    assert torch.equal(torch.cat(parts), batch) and len(drawn) == 6
