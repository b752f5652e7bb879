"""The command line: every command with good and with bad input, and runs that go on where they stopped."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from odelib import Config, RecordError, Run
from odelib.studies import STUDIES
from odelib.cli import main
from odelib.runs import run
from odelib.studies import Case, STUDIES
from odelib.records import RESULTS, load_tensors

SMALL = "--stem one-shot --width 8 --method rk4 --batch-size 16 --lr 0.05 --dataset mnist --device cpu".split()


def train(folder, *options):
    return main(["train", *SMALL, "--epochs", "2", "--out", str(folder), "--name", "a", *options])


def test_train_show_and_evaluate(mnist_root, tmp_path, capsys):
    assert train(tmp_path) == 0
    said = capsys.readouterr().out
    assert said.count("epoch ") == 2 and "a-seed0.json" in said
    record = Run.load(tmp_path / "a-seed0.json")
    assert record.finished and record.config.width == 8
    assert main(["show", str(tmp_path / "a-seed0.json")]) == 0
    assert f"odelib train {record.config.options()}" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "euler", "--device", "cpu"]) == 0
    assert re.search(r"mnist: accuracy .*% of 30 test images, .* NFE 1.0", capsys.readouterr().out)


def test_a_finished_run_is_refused_and_kept(mnist_root, tmp_path, capsys):
    assert train(tmp_path) == 0
    before = (tmp_path / "a-seed0.json").read_bytes()
    assert train(tmp_path) == 2
    assert "finished; delete it to train again" in capsys.readouterr().err
    assert (tmp_path / "a-seed0.json").read_bytes() == before


def test_the_shown_options_make_the_same_config(mnist_root, tmp_path):
    config = Config(dataset="mnist", network="none", epochs=1, milestones=(1, 2), normalize=True, augment="crop")
    assert main(["train", *config.options().split(), "--out", str(tmp_path), "--name", "b", "--device", "cpu"]) == 0
    assert Run.load(tmp_path / "b-seed0.json").config == config


def test_weights_of_several_blocks_are_evaluated_with_another_solver(mnist_root, tmp_path, capsys):
    assert train(tmp_path, "--scales", "2", "--extra-channels", "4", "--kinetic", "0.1") == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "euler", "--device", "cpu"]) == 0
    assert "NFE 2.0" in capsys.readouterr().out
    words = ["--method", "bosh3", "--library", "odelib", "--device", "cpu"]
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), *words]) == 0
    nfe = float(re.search(r"NFE ([\d.]+)", capsys.readouterr().out)[1])
    assert nfe >= 2 * (3 + 2)  # two blocks, each at least one step and the two evaluations before it


def test_weights_trained_with_the_seminorm_are_evaluated_with_a_fixed_grid(mnist_root, tmp_path, capsys):
    assert train(tmp_path, "--method", "bosh3", "--gradient", "seminorm") == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "euler", "--device", "cpu"]) == 0
    assert "NFE 1.0" in capsys.readouterr().out


def test_weights_trained_on_a_grid_are_evaluated_with_an_adaptive_method(mnist_root, tmp_path, capsys):
    assert train(tmp_path, "--method", "rk4", "--step-size", "0.25") == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "dopri5", "--device", "cpu"]) == 0
    assert main(["evaluate", str(tmp_path / "a-seed0.safetensors"), "--method", "euler", "--device", "cpu"]) == 0
    assert "NFE 4.0" in capsys.readouterr().out  # on the grid of training


def test_a_preset_can_be_changed(mnist_root, tmp_path):
    words = "--preset odenet-mnist --epochs 1 --network none --batch-size 16 --device cpu --name c".split()
    assert main(["train", *words, "--out", str(tmp_path)]) == 0
    config = Run.load(tmp_path / "c-seed0.json").config
    assert (config.schedule, config.augment, config.epochs, config.network) == ("step", "crop", 1, "none")


def test_data_counts_every_class(capsys):
    assert main(["data", "mnist-sample"]) == 0
    said = capsys.readouterr().out
    assert "1 x 28 x 28" in said and re.search(r"all +2,000 +1,000", said)


def test_study_status_trains_nothing(tmp_path, capsys):
    assert main(["study", "mnist-gradients", "--status", "--out", str(tmp_path), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"adjoint-dopri5-seed2 +0 of 5 epochs", said)
    assert "missing: direct-dopri5-seed0, direct-dopri5-seed1," in said and said.rstrip().endswith("cross-solver")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("study", [name for name in STUDIES if name != "mnist-gradients"])
def test_status_of_a_study_lists_all_that_it_plans_and_no_measurement_of_another(study, tmp_path, capsys):
    assert main(["study", study, "--status", "--out", str(tmp_path), "--device", "cpu"]) == 0
    runs = [f"{case}-seed{seed}" for case, planned in STUDIES[study].items() for seed in planned.seeds]
    planned = [*runs, *study_measurements(study)]
    assert missing(study, tmp_path) == planned
    said = capsys.readouterr().out
    assert all(re.search(rf"^{re.escape(name)} +0 of", said, re.M) for name in runs)
    assert said.rstrip().endswith(planned[-1])


def test_status_names_a_record_that_was_deleted_or_is_unfinished(tmp_path, capsys):
    shutil.copytree(RESULTS / "mnist-gradients", tmp_path / "mnist-gradients")
    there = missing("mnist-gradients", tmp_path)
    record = Run.load(tmp_path / "mnist-gradients" / "none-seed0.json")
    (tmp_path / "mnist-gradients" / "none-seed0.json").unlink()
    replace(record, metrics=record.metrics[:2]).save(tmp_path / "mnist-gradients" / "resnet-1-seed0.json")
    assert set(missing("mnist-gradients", tmp_path)) - set(there) == {"none-seed0", "resnet-1-seed0"}
    assert main(["study", "mnist-gradients", "--status", "--out", str(tmp_path), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"none-seed0 +0 of 5 epochs", said) and re.search(r"resnet-1-seed0 +2 of 5 epochs", said)
    assert "none" not in load_study("mnist-gradients", tmp_path)
    assert "resnet-1" not in load_study("mnist-gradients", tmp_path)


def test_a_study_is_made_and_skipped_when_it_is_there(mnist_root, tmp_path, capsys):
    words = ["study", "mnist-gradients", "--case", "none", "--out", str(tmp_path), "--device", "cpu"]
    assert main(words) == 0
    assert "epoch   5" in capsys.readouterr().out
    assert main(words) == 0
    assert "epoch   5" not in capsys.readouterr().out


def test_a_study_makes_the_seeds_that_it_plans_or_the_one_asked_for(mnist_root, tmp_path, monkeypatch):
    small = Config(dataset="mnist", network="none", width=8, epochs=1, batch_size=16)
    monkeypatch.setitem(STUDIES, "mnist-gradients", {"small": Case(small, seeds=(0, 1))})
    words = ["study", "mnist-gradients", "--out", str(tmp_path), "--device", "cpu"]
    assert main([*words, "--seed", "7"]) == 0
    assert [run.config.seed for run in load_study("mnist-gradients", tmp_path)["small"]] == [7]
    assert main(words) == 0
    assert [run.config.seed for run in load_study("mnist-gradients", tmp_path)["small"]] == [0, 1, 7]
    assert missing("mnist-gradients", tmp_path) == list(study_measurements("mnist-gradients"))


def test_a_measurement_is_made_once(mnist_root, tmp_path, capsys, monkeypatch):
    cases = {"adjoint-euler": Case(Config(dataset="mnist", gradient="adjoint", method="euler", batch_size=16))}
    monkeypatch.setitem(STUDIES, "mnist-gradients", cases)
    words = ["study", "mnist-gradients", "--timing", "--out", str(tmp_path), "--device", "cpu"]
    assert main(words) == 0
    path = tmp_path / "mnist-gradients" / "timing.json"
    before = path.read_bytes()
    (row,) = load_measurement("mnist-gradients", "timing", tmp_path).rows
    assert (row.case, row.nfe_forward, row.nfe_backward) == ("adjoint-euler", 1, 1)
    assert main(words) == 2
    assert "holds this measurement; delete it to measure again" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert load_measurement("mnist-gradients", "memory", tmp_path) is None


@pytest.mark.parametrize(
    "words, message",
    [
        (["trian"], "trian"),
        (["train", "--epochs", "many"], "epochs"),
        (["train", "--epochs", "0"], "epochs must be positive"),
        (["train", "--image-size", "5"], "image_size must be at least 6"),
        (["train", "--network", "resnext"], "network"),
        (["train", "--dataset", "mnits"], "no data set 'mnits'"),
        (["train", "--method", "rk5"], "unknown method 'rk5'"),
        (["train", "--step-size", "0.1"], "step_size is for fixed grids only"),
        (["train", "--preset", "imagenet"], "preset"),
        (["evaluate", "nothing.safetensors"], "nothing.safetensors"),
        (["show", "nothing.json"], "nothing.json cannot be read"),
        (["data", "nowhere"], "no data set 'nowhere'"),
        (["data", "nowhere", "--image-size", "0"], "image_size must be at least 6"),
        (["study", "nothing"], "nothing"),
        (["study", "mnist-gradients", "--case", "nothing"], "has no case 'nothing'"),
        (["study", "mnist-gradients", "--seed", "-1"], "seed must not be negative"),
        (["study", "mnist-gradients", "--timing", "--case", "none"], "--timing measures all cases at once"),
        (["study", "cifar10-full", "--timing"], "timing is measured in mnist-gradients, not in cifar10-full"),
        (["study", "mnist-gradients", "--confusion"], "confusion is measured in cifar10-full, not in mnist-gradients"),
        (["study", "speed", "--cross-solver"], "cross-solver is measured in mnist-gradients and cifar10-full, not in sp"),
        (["train", "--train-images", "2001"], "mnist-sample has 2,000 images to train on, not 2,001"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_line_is_the_same_whatever_the_terminal_can_draw(encoding):
    """tyro draws its boxes in two ways."""
    words = [sys.executable, "-m", "odelib", "train", "--epochs", "many"]
    done = subprocess.run(words, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "odelib: --epochs: invalid literal for int() with base 10: 'many' (see odelib train --help)\n"


class Stop(Exception):
    """Ends a run after an epoch."""


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(block_dropout=0.2, norm="batch", scales=2, optimizer="adamw", train_images=32),
        dict(library="odelib", method="bosh3", warm_start=True, gradient="checkpoint", kinetic=0.1, jacobian=0.1),
    ],
    ids=["plain", "variations", "penalties"],
)
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tiny, quick, tmp_path, options):
    device, quick = torch.device("cpu"), replace(quick, **options)

    def stop(_):
        raise Stop

    whole = run(quick, tiny, tmp_path / "whole.json", device, lambda _: None)
    with pytest.raises(Stop):
        run(quick, tiny, tmp_path / "cut.json", device, stop)
    assert len(Run.load(tmp_path / "cut.json").metrics) == 1
    cut = run(quick, tiny, tmp_path / "cut.json", device, lambda _: None)
    assert [m.train_loss for m in cut.metrics] == [m.train_loss for m in whole.metrics]
    first, second = (load_tensors(tmp_path / f"{name}.safetensors")[0] for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not list(tmp_path.glob("*checkpoint*"))


def test_a_record_of_another_config_is_refused(tiny, quick, tmp_path):
    device = torch.device("cpu")
    run(quick, tiny, tmp_path / "a.json", device, lambda _: None)
    with pytest.raises(RecordError, match="another config"):
        run(replace(quick, lr=0.01), tiny, tmp_path / "a.json", device, lambda _: None)
