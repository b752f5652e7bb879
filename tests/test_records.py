"""Records: the run's JSON file, where and by which code it was made, the weights' safetensors file."""

import errno
import json
import math
import os
import pickle
import stat
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from odelib import Config, EpochMetrics, RecordError, Run, build, load_weights, records, sources
from odelib.config import ADDED
from odelib.records import (
    RESULTS,
    Confirmation,
    Environment,
    load_class_names,
    load_tensors,
    pack_bits,
    save_tensors,
    save_weights,
    sweep,
    try_to_write,
    unpack_bits,
    write_atomically,
)

CPU = torch.device("cpu")

# Runs


ENVIRONMENT = Environment("2030-01-01 00:00", "a processor", 2, 2, "3.11", "2.4", "0.2.5", "0.1.0")


def metrics(epoch, **other):
    values = dict(
        epoch=epoch,
        train_loss=0.1 + epoch / 3,
        train_accuracy=0.75,
        validation_accuracy=None,
        test_accuracy=0.7,
        nfe_forward=20.5,
        nfe_backward=0.0,
        seconds=1.25,
        lr=0.1,
    )
    return EpochMetrics(**{**values, **other})


@pytest.fixture
def made() -> Run:
    config = Config(epochs=2, milestones=(1, 5), method="rk4", step_size=0.25, normalize=True, lr=1e-4 / 3)
    return Run(config, 123, ENVIRONMENT, (metrics(1), metrics(2, validation_accuracy=0.5, test_accuracy=None)))


def test_a_run_read_back_is_the_run_that_was_saved(made, tmp_path):
    made.save(tmp_path / "deep" / "er" / "run.json")
    assert Run.load(tmp_path / "deep" / "er" / "run.json") == made


@pytest.mark.parametrize(
    "options", [dict(lr=1), dict(method="rk4", step_size=1), dict(milestones=[1, 2]), dict(weight_decay=0)]
)
def test_a_run_whose_config_was_written_with_whole_numbers_is_read_back(made, tmp_path, options):
    run = replace(made, config=Config(epochs=2, **options))
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_a_run_is_finished_when_it_has_all_its_epochs(made):
    assert made.finished and made.last == made.metrics[1]
    assert not replace(made, metrics=made.metrics[:1]).finished
    assert not replace(made, metrics=()).finished


def test_a_record_without_the_later_options_is_read():
    path = RESULTS / "mnist-gradients" / "none-seed0.json"
    assert not any(f'"{name}"' in path.read_text() for name in ADDED)
    assert Run.load(path).config == Config(dataset="mnist", network="none", epochs=5)


# Where and by which code


def test_environment_is_that_of_this_process():
    here = Environment.here(CPU)
    assert here.torch == torch.__version__ and here.threads == torch.get_num_threads()
    assert here.hardware and here.cores >= 1
    for part in (here.hardware, here.torch, here.date, here.python, here.torchdiffeq):
        assert part in str(here)
    assert here.commit == sources.commit() and here.sources is None and here.confirmed == ()
    assert here.settings is not None


def test_settings_of_threads_and_allocator_are_kept_without_the_folders_of_the_machine(monkeypatch):
    monkeypatch.setattr(sources, "commit", lambda: None)
    monkeypatch.setattr(
        "os.environ",
        {
            "OMP_NUM_THREADS": "2",
            "MALLOC_TRIM_THRESHOLD_": "8589934592",
            "LD_PRELOAD": "/home/me/lib/libtcmalloc.so.4:/usr/lib/libjemalloc.so.2 ./here.so",
            "TORCH_HOME": "/home/me/.cache/torch",
            "OMP_PLACES": "{0:4}:2,sockets",
            "HOME": "/home/me",
            "NOT_OMP_NUM_THREADS": "3",
        },
    )
    assert Environment.here(CPU).settings == (
        "LD_PRELOAD=libtcmalloc.so.4:libjemalloc.so.2 here.so",
        "MALLOC_TRIM_THRESHOLD_=8589934592",
        "OMP_NUM_THREADS=2",
        "OMP_PLACES={0:4}:2,sockets",
        "TORCH_HOME=torch",
    )


@pytest.mark.parametrize(
    "commit, settings, said",
    [
        ("0123456789ab", (), "odelib 0.1.0 (commit 0123456789ab)"),
        ("0123456789ab+", (), "odelib 0.1.0 (commit 0123456789ab and changes)"),
        (None, (), "odelib 0.1.0 (outside of a clone)"),
        (None, None, "odelib 0.1.0 (before commits were kept)"),
    ],
)
def test_an_environment_says_by_which_code(commit, settings, said):
    assert str(replace(ENVIRONMENT, commit=commit, settings=settings)).endswith(said)


def test_an_environment_with_all_its_parts_is_read_back(made, tmp_path):
    confirmed = (Confirmation("2031-01-01 00:00", "another processor", None, "1234"),) * 2
    environment = replace(
        ENVIRONMENT, commit="0123456789ab+", settings=("OMP_NUM_THREADS=2",), sources="5678", confirmed=confirmed
    )
    run = replace(made, environment=environment)
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run
    assert replace(environment, settings=()) == Run.from_json(changed(run, _without_settings), "run").environment


def _without_settings(values):
    values["environment"]["settings"] = []


def test_a_record_that_is_older_than_commits_is_read_and_says_so():
    path = RESULTS / "mnist-gradients" / "none-seed0.json"
    assert not {"commit", "settings", "sources", "confirmed"} & json.loads(path.read_text())["environment"].keys()
    environment = Run.load(path).environment
    assert (environment.commit, environment.settings, environment.sources, environment.confirmed) == (
        None,
        None,
        None,
        (),
    )
    assert "before commits were kept" in str(environment)


def test_code_fits_by_the_digest_of_the_record_or_of_a_confirmation():
    later = Confirmation("2031-01-01 00:00", "another processor", None, "later")
    environment = replace(ENVIRONMENT, sources="first", confirmed=(later,))
    assert environment.fits("first") and environment.fits("later") and not environment.fits("other")
    assert not ENVIRONMENT.fits("first")


@pytest.mark.parametrize(
    "variable, clone, folder", [("", True, "clone/book/results"), ("", False, "results"), ("there", True, "there")]
)
def test_results_lie_in_the_clone_or_where_the_command_is_given(monkeypatch, tmp_path, variable, clone, folder):
    """A package that was installed elsewhere has no folder of the book beside it, and must not make one there."""
    monkeypatch.setenv("ODELIB_RESULTS", variable)
    monkeypatch.setattr(records, "__file__", str(tmp_path / "clone" / "odelib" / "records.py"))
    if clone:
        (tmp_path / "clone" / "book" / "results").mkdir(parents=True)
    assert records._results() in (Path(folder), tmp_path / folder)


def test_a_record_says_its_version_and_one_without_is_of_the_first(made):
    values = json.loads(made.to_json())
    assert values.pop("version") == records.VERSION == 1
    assert Run.from_json(json.dumps(values), "run") == made == Run.from_json(made.to_json(), "run")


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_not_written(made, tmp_path, figure):
    wrong = replace(made, metrics=(metrics(1, train_loss=figure),))
    with pytest.raises(RecordError, match="run.json cannot be written .Out of range float values"):
        wrong.save(tmp_path / "run.json")
    assert list(tmp_path.iterdir()) == []


# What is wrong with a file


def changed(run, change):
    values = json.loads(run.to_json())
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: v.pop("parameters"), "parameters"),
        (lambda v: v["metrics"][1].pop("train_loss"), "train_loss"),
        (lambda v: v["environment"].pop("torch"), "environment.torch"),
        (lambda v: v.update(parameters="many"), "parameters"),
        (lambda v: v["config"].update(width="wide"), "config.width"),
        (lambda v: v["config"].update(network="resnext"), "config.network"),
        (lambda v: v["config"].update(milestones=["soon"]), "config.milestones"),
        (lambda v: v["config"].update(colour="red"), "colour"),
        (lambda v: v.update(notes="mine"), "notes"),
        (lambda v: v["config"].update(lr=-1.0), "lr must be positive"),
        (lambda v: v["config"].update(method="rk5"), "unknown method 'rk5'"),
        (lambda v: v.update(metrics=[1, 2]), "metrics"),
        (lambda v: v.update(config=None), "config"),
        (lambda v: v.update(config=[]), "config"),
    ],
)
def test_a_wrong_field_is_named(made, tmp_path, change, message):
    path = tmp_path / "run.json"
    path.write_text(changed(made, change))
    with pytest.raises(RecordError, match=message) as caught:
        Run.load(path)
    assert str(path) in str(caught.value) and "is not a record of odelib" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"text"', "{}", '{"config": {}}'])
def test_a_file_that_is_no_record_is_named(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(RecordError, match="run.json is not a record of odelib"):
        Run.load(path)


def test_a_damaged_record_is_named(made, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(made.to_json()[:-100])
    with pytest.raises(RecordError, match="run.json is not a record of odelib: .*line"):
        Run.load(path)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordError, match="run.json cannot be read"):
        Run.load(path)


# Files are whole or not there


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(made, tmp_path):
    path = tmp_path / "run.json"
    made.save(path)

    def half(part):
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(RecordError, match="run.json cannot be written .disk full."):
        write_atomically(path, half)
    assert Run.load(path) == made
    assert list(tmp_path.iterdir()) == [path]


def test_a_first_write_that_fails_leaves_nothing(tmp_path):
    def half(part):
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "run.json", half)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_in_place_only_when_it_is_complete(tmp_path):
    path = tmp_path / "run.json"

    def write(part):
        part.write_text("half")
        assert not path.exists()
        part.write_text("whole")

    write_atomically(path, write)
    assert path.read_text() == "whole"


@pytest.mark.skipif(os.name != "posix", reason="rights of another kind")
@pytest.mark.parametrize("mask, rights", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_records_and_weights_have_the_rights_that_the_umask_leaves(made, tiny, tmp_path, mask, rights):
    config = Config(width=8, network="none", stem="one-shot")
    before = os.umask(mask)
    try:
        made.save(tmp_path / "run.json")
        save_weights(tmp_path / "run.safetensors", build(config, tiny), config)
    finally:
        assert os.umask(before) == mask  # nor did writing change it
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {rights}


def test_a_file_is_on_the_disk_before_it_is_in_place_and_its_name_after(tmp_path, monkeypatch):
    done, path, old = [], tmp_path / "run.json", tmp_path / "old.json"

    def fsync(number, fsync=os.fsync):
        done.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        fsync(number)

    def rename(self, target, rename=Path.replace):
        done.append(f"rename to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    write_atomically(path, lambda part: part.write_text("1"), before=old)
    write_atomically(path, lambda part: part.write_text("2"), before=old)
    once = ["file", "rename to run.json", "folder"]
    assert done == [*once, "file", "rename to old.json", "rename to run.json", "folder"]
    assert (old.read_text(), path.read_text()) == ("1", "2")


def test_whether_a_record_can_be_written_is_tried_without_a_trace(tmp_path):
    path = tmp_path / "new" / "run.json"
    try_to_write(path)
    assert list(path.parent.iterdir()) == []
    path.write_text("old")
    try_to_write(path)
    assert path.read_text() == "old"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_only_be_read_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RecordError, match="run.json cannot be written .Permission denied."):
            try_to_write(tmp_path / "run.json")
    finally:
        tmp_path.chmod(0o700)


def test_a_place_where_nothing_can_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder.json").mkdir()
    for path in (tmp_path / "file" / "run.json", tmp_path / "folder.json"):
        with pytest.raises(RecordError, match=f"{path} cannot be written"):
            try_to_write(path)

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(RecordError, match="run.json cannot be written .Read-only file system."):
        try_to_write(tmp_path / "run.json")


def test_what_killed_processes_have_left_of_a_file_is_swept_and_nothing_else(tmp_path):
    for name in (".run.json.abcdefgh", ".run.json.x", ".run2.json.abcdefgh", "run.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    sweep(tmp_path / "run.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run2.json.abcdefgh", "run.json"]


# Weights


@pytest.mark.parametrize(
    "config",
    [
        Config(width=8, normalize=True, dropout=0.5, gradient="adjoint", milestones=(3,)),
        Config(width=8, network="resnet", blocks=2, stem="res"),
        Config(width=8, network="none", stem="one-shot", lr=1 / 3),
    ],
)
def test_weights_read_back_are_the_model_that_was_saved(config, tiny, tmp_path):
    model = build(config, tiny)
    save_weights(tmp_path / "w.safetensors", model, config)
    again, its_config = load_weights(tmp_path / "w.safetensors")
    assert its_config == config
    assert not again.training
    assert (again.channels, again.classes) == (1, 10)
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    x = tiny.test.images.float() / 255
    with torch.no_grad():
        assert torch.equal(again(x), model.eval()(x))
    if config.normalize:
        assert again.normalize.mean.item() == model.normalize.mean.item() != 0
        assert again.normalize.std.item() != 1


def test_weights_are_read_as_they_are_whatever_the_default_type_is(tiny, tmp_path):
    config = Config(width=4)
    save_weights(tmp_path / "a.safetensors", build(config, tiny), config)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        loaded, _ = load_weights(tmp_path / "a.safetensors")
    finally:
        torch.set_default_dtype(before)
    expected, _ = load_weights(tmp_path / "a.safetensors")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor) and loaded.state_dict()[name].dtype == tensor.dtype


def test_weights_know_the_names_of_their_classes(tiny, tmp_path):
    config = Config(width=8, network="none", stem="one-shot")
    save_weights(tmp_path / "a.safetensors", build(config, tiny), config, tiny.classes)
    save_weights(tmp_path / "b.safetensors", build(config, tiny), config)
    assert load_class_names(tmp_path / "a.safetensors") == tiny.classes
    assert load_class_names(tmp_path / "b.safetensors") is None
    assert load_class_names(RESULTS / "mnist-gradients" / "adjoint-dopri5-seed0.safetensors") is None  # an older one


def test_reading_weights_draws_no_random_numbers(tiny, tmp_path):
    config = Config(width=8, network="none", stem="one-shot")
    save_weights(tmp_path / "a.safetensors", build(config, tiny), config)
    before = torch.get_rng_state()
    load_weights(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def relabelled(tmp_path, tiny, metadata=None, **tensors):
    """Weights of a one-shot resnet with other metadata or other tensors."""
    config = Config(width=8, network="resnet", blocks=1, stem="one-shot")
    model = build(config, tiny)
    texts = {"config": json.dumps(asdict(config)), "channels": "1", "classes": "10", **(metadata or {})}
    path = tmp_path / "w.safetensors"
    save_tensors(path, {**model.state_dict(), **tensors}, {k: v for k, v in texts.items() if v is not None})
    return path


def as_config(**options):
    return json.dumps({**asdict(Config(width=8, network="resnet", blocks=1, stem="one-shot")), **options})


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": as_config(network="odenet")},
        {"config": as_config(width=16)},
        {"config": as_config(blocks=2)},
        {"config": as_config(stem="conv")},
        {"classes": "20"},
        {"channels": "3"},
    ],
)
def test_weights_of_another_architecture_are_refused_in_one_line(tmp_path, tiny, metadata):
    path = relabelled(tmp_path, tiny, metadata)
    with pytest.raises(RecordError, match="w.safetensors does not hold a model of odelib") as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": None},
        {"channels": None},
        {"classes": "ten"},
        {"config": "{"},
        {"config": "null"},
        {"config": "[]"},
        {"config": as_config(colour="red")},
        {"config": as_config(lr=-1.0)},
        {"config": as_config(width="wide")},
    ],
)
def test_weights_with_wrong_metadata_are_refused(tmp_path, tiny, metadata):
    with pytest.raises(RecordError, match="w.safetensors does not hold a model of odelib"):
        load_weights(relabelled(tmp_path, tiny, metadata))


def test_weights_with_a_tensor_too_many_are_refused(tmp_path, tiny):
    with pytest.raises(RecordError, match="does not hold a model of odelib"):
        load_weights(relabelled(tmp_path, tiny, None, surplus=torch.zeros(3)))


class Bomb:
    """Goes off when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemError('unpickled')",))


@pytest.mark.parametrize("kind", ["pickle", "torch", "text", "empty", "truncated", "absent"])
def test_a_file_that_is_no_safetensors_is_refused_and_never_unpickled(tmp_path, tiny, kind):
    path = tmp_path / "model.pth"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    elif kind == "torch":
        torch.save({"weights": Bomb()}, path)
    elif kind == "text":
        path.write_text("weights")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(relabelled(tmp_path, tiny).read_bytes()[:-100])
    for read in (load_weights, load_tensors):
        with pytest.raises(RecordError, match="model.pth cannot be read as safetensors"):
            read(path)


@pytest.mark.parametrize("n", [1, 8, 13])
def test_bits_come_back_with_zeros_behind_them(n):
    bits = torch.arange(n) % 3 == 0
    assert unpack_bits(pack_bits(bits)).tolist() == bits.tolist() + [False] * (-n % 8)


def test_a_record_whose_bits_are_no_bits_is_refused(made, tmp_path):
    replace(made, wrong="no base64").save(tmp_path / "a.json")
    with pytest.raises(RecordError, match="not a record of odelib"):
        Run.load(tmp_path / "a.json")
