"""Studies: what is planned, what is there and missing, the command that makes it, the records that the book shows."""

import os
import re
import shutil
import signal
from dataclasses import asdict, replace

import pytest
import torch

from odelib import Config, DataError, OptionError, RecordError, Run
from odelib.cli import main
from odelib.locks import Lock
from odelib.measurements import MEASUREMENTS
from odelib.records import RESULTS, load_tensors
from odelib.runs import is_finished
from odelib.studies import STUDIES, Case, Study, find_study
from odelib.studies import study as study_module
from odelib.training import train_step

CPU = torch.device("cpu")
GRADIENTS = STUDIES["mnist-gradients"]
NAME = "fashion-mnist"
SMALL = Config(dataset="mnist", network="none", width=8, epochs=2, batch_size=16)


@pytest.fixture
def small(monkeypatch) -> Study:
    """A study of two runs, without measurements, under a name that the command knows."""
    made = Study(NAME, "Does it run?", {"small": Case(SMALL, seeds=(0, 1))})
    monkeypatch.setitem(STUDIES, NAME, made)
    return made


def command(folder, *words, name=NAME):
    return main(["study", name, "--out", str(folder), "--device", "cpu", *words])


# What is planned


def test_a_study_is_found_by_its_name():
    assert all(find_study(name) is study and study.name == name for name, study in STUDIES.items())
    with pytest.raises(OptionError, match="no study 'mnist'; choose from mnist-gradients, speed, "):
        find_study("mnist")


def test_a_config_of_a_study_is_that_of_its_case_with_the_seed(small):
    assert small.config("small") == SMALL and small.config("small", 3) == replace(SMALL, seed=3)
    with pytest.raises(OptionError, match=f"study {NAME} has no case 'large'; choose from small"):
        small.config("large")


def test_planned_runs_are_all_or_those_of_a_case_or_a_seed():
    study = Study("s", "?", {"a": Case(SMALL, (0, 1)), "b": Case(SMALL)})
    assert list(study.planned()) == [("a", 0), ("a", 1), ("b", 0)]
    assert list(study.planned("a")) == [("a", 0), ("a", 1)]
    assert list(study.planned(seed=7)) == [("a", 7), ("b", 7)]
    assert list(study.planned("b", 2)) == [("b", 2)]
    with pytest.raises(OptionError, match="has no case 'c'"):
        list(study.planned("c"))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_says_what_it_asks_and_measures_what_can_be_measured(name):
    study = STUDIES[name]
    assert study.question.endswith("?") and study.cases
    if study.trained:
        case, _, seed = study.trained.rpartition("-seed")
        assert case in study.cases and int(seed) in study.cases[case].seeds
        assert (RESULTS / name / f"{study.trained}.safetensors").exists()
    for measured in study.measurements:
        assert measured in MEASUREMENTS


# What is there


def test_a_study_is_read_case_by_case_in_the_order_of_the_seeds(tmp_path):
    record = Run.load(RESULTS / "mnist-gradients" / "none-seed0.json")
    study = Study("s", "?", {"adjoint-rk4": Case(record.config), "none": Case(record.config)})
    for case, seed in (("adjoint-rk4", 10), ("adjoint-rk4", 2), ("none", 0), ("none", 1)):
        made = replace(record, config=study.config(case, seed))
        made.save(study.record_path(case, seed, tmp_path))
    replace(made, metrics=record.metrics[:2]).save(study.record_path("none", 1, tmp_path))  # not finished
    found = study.runs(tmp_path)
    assert {case: [run.config.seed for run in runs] for case, runs in found.items()} == {
        "adjoint-rk4": [2, 10],
        "none": [0],
    }


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("a-seed0", dict(width=16), r"a-seed0.json holds a run of another config than the study's: width 16 \(now 8\)"),
        ("a-seed1", {}, r"a-seed1.json holds .* than the study's: seed 0 \(now 1\)"),
        ("b-seed0", {}, "b-seed0.json is no run of the study s"),
        ("a-seedx", {}, "a-seedx.json is no run of the study s"),
    ],
)
def test_a_run_that_is_not_the_study_s_own_is_not_shown_as_if_it_were(tmp_path, name, options, message):
    record = Run.load(RESULTS / "mnist-gradients" / "none-seed0.json")
    replace(record, config=replace(SMALL, epochs=5, **options)).save(tmp_path / "s" / f"{name}.json")
    with pytest.raises(RecordError, match=message):
        Study("s", "?", {"a": Case(replace(SMALL, epochs=5), (0, 1))}).runs(tmp_path)


def test_a_measurement_is_read_or_there_is_none(tmp_path):
    shutil.copytree(RESULTS / "mnist-gradients", tmp_path / "mnist-gradients")
    assert GRADIENTS.measured("timing", tmp_path) == GRADIENTS.measured("timing")
    (tmp_path / "mnist-gradients" / "timing.json").unlink()
    assert GRADIENTS.measured("timing", tmp_path) is None
    assert GRADIENTS.missing(tmp_path) == [*GRADIENTS.missing(), "timing"]


@pytest.mark.parametrize("study", STUDIES)
def test_status_lists_all_that_a_study_plans_and_makes_nothing(study, tmp_path, capsys):
    assert main(["study", study, "--status", "--out", str(tmp_path), "--device", "cpu"]) == 0
    runs = [f"{case}-seed{seed}" for case, planned in STUDIES[study].cases.items() for seed in planned.seeds]
    planned = [*runs, *STUDIES[study].measurements]
    assert STUDIES[study].missing(tmp_path) == planned
    said = capsys.readouterr().out
    assert all(re.search(rf"^{re.escape(name)} +0 of", said, re.M) for name in runs)
    assert said.splitlines()[-1] == f"missing: {', '.join(planned)}"
    assert list(tmp_path.iterdir()) == []


def test_status_names_a_record_that_was_deleted_or_is_unfinished(tmp_path, capsys):
    shutil.copytree(RESULTS / "mnist-gradients", tmp_path / "mnist-gradients")
    there = GRADIENTS.missing(tmp_path)
    (tmp_path / "mnist-gradients" / "seminorm-dopri5-seed0.json").unlink()
    record = Run.load(tmp_path / "mnist-gradients" / "adjoint-rk4-4-seed0.json")
    replace(record, metrics=record.metrics[:2]).save(tmp_path / "mnist-gradients" / "adjoint-rk4-4-seed0.json")
    assert set(GRADIENTS.missing(tmp_path)) - set(there) == {"seminorm-dopri5-seed0", "adjoint-rk4-4-seed0"}
    assert command(tmp_path, "--status", name=GRADIENTS.name) == 0
    said = capsys.readouterr().out
    assert re.search(r"seminorm-dopri5-seed0 +0 of 5 epochs", said) and re.search(
        r"adjoint-rk4-4-seed0 +2 of 5 epochs", said
    )
    assert not {"seminorm-dopri5", "adjoint-rk4-4"} & GRADIENTS.runs(tmp_path).keys()


def test_status_says_when_nothing_is_missing(small, mnist_root, tmp_path, capsys):
    assert command(tmp_path) == 0
    capsys.readouterr()
    assert command(tmp_path, "--status") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is missing"


# What the command makes


def test_a_study_makes_the_seeds_that_it_plans_or_the_one_asked_for(small, mnist_root, tmp_path):
    assert command(tmp_path, "--seed", "7") == 0
    assert [run.config.seed for run in small.runs(tmp_path)["small"]] == [7]
    assert small.missing(tmp_path) == ["small-seed0", "small-seed1"]
    assert command(tmp_path) == 0
    assert [run.config.seed for run in small.runs(tmp_path)["small"]] == [0, 1, 7]
    assert small.missing(tmp_path) == []


def test_finished_runs_are_skipped_and_kept(small, mnist_root, tmp_path, capsys):
    assert command(tmp_path, "--seed", "1") == 0
    assert "epoch   2" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in (tmp_path / NAME).iterdir()}
    assert command(tmp_path, "--seed", "1") == 0
    assert "epoch   2" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / NAME).iterdir()} == before


class Killed(BaseException):
    """Ends a run as a signal does."""


@pytest.mark.parametrize("where", ["odelib.runs.Run.save", "odelib.runs.save_weights", "pathlib.Path.unlink"])
def test_a_study_knows_of_a_run_that_was_killed_in_its_last_epoch_and_finishes_it(
    small, mnist_root, tmp_path, capsys, monkeypatch, where
):
    """Its record says that all epochs are done, or lacks the last one; its weights are not there; a checkpoint is."""
    study = replace(small, cases={"small": Case(replace(SMALL, epochs=1))})
    monkeypatch.setitem(STUDIES, NAME, study)
    assert command(tmp_path / "whole") == 0

    def kill(*_, **__):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(where, kill)
        command(tmp_path)
    assert study.missing(tmp_path) == ["small-seed0"]
    capsys.readouterr()
    assert command(tmp_path, "--status") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "missing: small-seed0"
    assert command(tmp_path) == 0
    assert study.missing(tmp_path) == []
    folders = [tmp_path / NAME, tmp_path / "whole" / NAME]
    assert all({path.suffix for path in f.iterdir()} == {".json", ".safetensors"} for f in folders)
    weights, whole = (load_tensors(folder / "small-seed0.safetensors")[0] for folder in folders)
    assert all((weights[name] == tensor).all() for name, tensor in whole.items())


def test_a_case_that_finds_no_memory_does_not_keep_the_others_from_being_made(
    small, mnist_root, tmp_path, capsys, monkeypatch
):
    tried = []

    def once(*arguments):
        tried.append(0)
        if len(tried) == 1:
            raise MemoryError
        return train_step(*arguments)

    monkeypatch.setattr("odelib.training.train_step", once)
    assert command(tmp_path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert re.match(rf"small-seed0: {tmp_path}/.*/small-seed0.json: there is not enough memory; smaller", lines[0])
    assert lines[1:] == [f"odelib: {NAME}: small-seed0 failed as said above; the other runs are made"]
    assert small.missing(tmp_path) == ["small-seed0"]
    assert command(tmp_path) == 0


def test_a_case_that_diverges_does_not_keep_the_others_from_being_made(mnist_root, tmp_path, capsys, monkeypatch):
    wild = replace(SMALL, lr=1e38, momentum=0.0)
    study = Study(NAME, "?", {"wild": Case(wild, (0, 1)), "calm": Case(SMALL), "wilder": Case(wild)})
    monkeypatch.setitem(STUDIES, NAME, study)
    for again in (False, True):  # it is met again, and tried again
        assert command(tmp_path) == 2
        said = capsys.readouterr()
        lines = said.err.splitlines()
        failed = r"wild(er)?-seed\d: in epoch 1, step \d of 3, the loss"
        assert len(lines) == 4 and all(re.match(failed, line) for line in lines[:3])
        assert lines[3] == (
            f"odelib: {NAME}: wild-seed0, wild-seed1, wilder-seed0 failed as said above; the other runs are made"
        )
        assert ("epoch   2" in said.out) is not again
    assert study.missing(tmp_path) == ["wild-seed0", "wild-seed1", "wilder-seed0"]


def test_shards_share_the_runs(small, mnist_root, tmp_path, capsys, monkeypatch):
    study = Study(NAME, "?", {"a": Case(SMALL, (0, 1, 2)), "b": Case(SMALL, (0, 1))})
    monkeypatch.setitem(STUDIES, NAME, study)
    shares = []
    for shard in ("1/3", "2/3", "3/3"):
        assert command(tmp_path, "--status", "--shard", shard) == 0
        shares.append(re.findall(r"^([ab]-seed\d) +0 of", capsys.readouterr().out, re.M))
    assert shares == [["a-seed0", "b-seed0"], ["a-seed1", "b-seed1"], ["a-seed2"]]
    assert command(tmp_path, "--shard", "3/3") == 0
    assert [path.stem for path in (tmp_path / NAME).glob("*.json")] == ["a-seed2"]


def test_runs_that_another_process_has_in_hand_are_passed_over(small, mnist_root, tmp_path, capsys):
    with Lock(tmp_path / NAME / "small-seed0.json"):
        assert command(tmp_path) == 0
    said = capsys.readouterr()
    held = rf"^passed over: .*/small-seed0.json is in the hands of process {os.getpid()} on .+$"
    assert re.search(held, said.out, re.M) and said.err == ""
    assert small.missing(tmp_path) == ["small-seed0"]


def test_a_run_that_another_process_finishes_meanwhile_is_no_error(small, mnist_root, tmp_path, capsys, monkeypatch):
    assert command(tmp_path, "--seed", "0") == 0
    looks = []

    def look(path, *config):
        looks.append(path)
        return looks.count(path) > 1 and is_finished(path, *config)

    monkeypatch.setattr("odelib.runs.is_finished", look)  # as it was when this process looked first
    assert command(tmp_path) == 0
    assert capsys.readouterr().err == ""
    assert small.missing(tmp_path) == []


def test_a_record_of_another_config_does_not_count_as_made(small, mnist_root, tmp_path, capsys):
    """Nor does it keep the others from being made; nor a file that is no record."""
    assert command(tmp_path) == 0
    path, other = (small.record_path("small", seed, tmp_path) for seed in (0, 1))
    record = Run.load(path)
    replace(record, config=replace(record.config, width=16)).save(path)
    assert small.missing(tmp_path) == ["small-seed0"]
    other.unlink()
    capsys.readouterr()
    assert command(tmp_path) == 2
    lines = capsys.readouterr().err.splitlines()
    changes = "width 16 (now 8); move it away"
    assert lines[0] == f"small-seed0: {path} holds a run of another config than the study's: {changes}"
    assert len(lines) == 2 and is_finished(other)
    path.write_text("{")
    for words in ((), ("--status",)):
        assert command(tmp_path, *words) == 2
        said = capsys.readouterr()
        assert "small-seed0.json is not a record of odelib" in said.err
        assert re.search(r"^small-seed1 +2 of 2", said.out, re.M)
    assert said.out.splitlines()[-1] == "missing: small-seed0"


def test_a_signal_at_the_end_of_a_run_ends_the_study(small, mnist_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("odelib.runs.save_weights", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert command(tmp_path) == 143
    assert capsys.readouterr().err == f"odelib: interrupted; {small.record_path('small', 0, tmp_path)} is finished\n"


def test_data_that_cannot_be_had_stop_a_study_at_once(small, tmp_path, capsys):
    assert command(tmp_path, "--data", str(tmp_path / "nowhere")) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "mnist could not be downloaded" in said


# What is measured


def test_a_measurement_is_made_once(mnist_root, tmp_path, capsys, monkeypatch):
    euler = Config(dataset="mnist", gradient="adjoint", method="euler", batch_size=16)
    study = replace(GRADIENTS, cases={"adjoint-euler": Case(euler)})
    monkeypatch.setitem(STUDIES, "mnist-gradients", study)
    assert command(tmp_path, "--measure", "timing", name=GRADIENTS.name) == 0
    path = tmp_path / "mnist-gradients" / "timing.json"
    assert capsys.readouterr().out == f"timing: record {path}\n"
    before = path.read_bytes()
    record = study.measured("timing", tmp_path)
    (row,) = record.rows
    assert (row.case, row.nfe_forward, row.nfe_backward) == ("adjoint-euler", 1, 1)
    assert record.environment.sources and record.environment.settings is not None
    assert command(tmp_path, "--measure", "timing", name=GRADIENTS.name) == 2
    assert "holds this measurement; move it away to measure again, or confirm it" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert study.measured("memory", tmp_path) is None


def test_a_measurement_of_another_study_is_refused(tmp_path):
    small = Study("cifar10-full", "?", {"a": Case(SMALL)})
    message = "study cifar10-full has no measurement 'timing'; it has cross-solver, confusion"
    with pytest.raises(OptionError, match=message):
        small.measure("timing", None, tmp_path / "timing.json", CPU)
    with pytest.raises(OptionError, match=message):
        small.confirm("timing", None, tmp_path / "timing.json", CPU)


def test_a_trained_network_that_is_not_there_is_named_with_what_makes_it(mnist_root, tmp_path, monkeypatch):
    """As where the package is installed without the book."""
    monkeypatch.setattr(study_module, "RESULTS", tmp_path)
    with pytest.raises(
        RecordError, match="adjoint-dopri5-seed0.safetensors, is not there; `odelib study mnist-gradients"
    ):
        GRADIENTS.subject(tmp_path, None, CPU)


def test_a_study_of_a_folder_measures_its_images_in_the_size_that_is_trained_on(tmp_path, monkeypatch):
    asked = []

    def load(*arguments):
        asked.append(arguments)
        raise DataError

    monkeypatch.setattr(study_module, "load_dataset", load)
    study = Study("s", "?", {"a": Case(replace(SMALL, dataset="pets", image_size=32))})
    with pytest.raises(DataError):
        study.subject(tmp_path, tmp_path, CPU)
    assert asked == [("pets", tmp_path, 32)]


# The records that the book shows


@pytest.mark.parametrize("name", STUDIES)
def test_every_stored_run_is_one_of_its_study_with_the_config_of_today(name):
    """A study whose config is changed makes other runs; the old ones must not pass for them."""
    study = STUDIES[name]
    for case, runs in study.runs().items():
        for stored in runs:
            assert stored.config == study.config(case, stored.config.seed), (case, stored.config.seed)


def test_every_stored_run_lies_in_a_study_under_its_case_and_seed():
    paths = sorted(RESULTS.glob("*/*-seed*.json"))
    assert len(paths) > 100
    for path in paths:
        case, _, seed = path.stem.rpartition("-seed")
        assert case in STUDIES[path.parent.name].cases
        config = Run.load(path).config
        assert config.seed == int(seed) and Config(**asdict(config)) == config
