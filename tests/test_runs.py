"""Runs: wherever one was stopped, the same call goes on and ends where an uninterrupted one does.

Stopped by exceptions here, by signals, kills and full disks in test_faults.py.
"""

import json
import os
import signal
import threading
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from odelib import Config, Images, OptionError, RecordError, Run, build, fit, load_weights, prepare, runs, training
from odelib.checkpoints import checkpoint_files, read_checkpoint, restore
from odelib.errors import Interrupted
from odelib.records import Environment, Extension, load_tensors, save_tensors, save_weights, unpack_bits
from odelib.runs import Finished, inside, is_finished, run

CPU = torch.device("cpu")
ALWAYS, NEVER = -1.0, float("inf")  # how often a checkpoint is kept, but for those of an epoch


class Killed(BaseException):
    """Ends a run as a kill does: nothing in odelib catches it."""


def train(config, data, path, **how):
    return run(config, data, path, CPU, lambda _: None, **how)


def stop(_):
    raise Killed


def stop_after_epoch(config, data, path):
    with pytest.raises(Killed):
        run(config, data, path, CPU, stop)


@pytest.fixture
def after_steps(monkeypatch):
    """Does something in place of the step after so many steps of a run, or ends it then."""

    def act(steps, train, action=stop, ends=Killed):
        def fit_so_far(model, data, training, optimizer, progress, after_step, processes):
            done = []

            def then():
                done.append(0)
                if len(done) == steps and action is not stop:
                    action(model)
                after_step()
                if len(done) == steps and action is stop:
                    raise Killed

            return fit(model, data, training, optimizer, progress, then, processes)

        with monkeypatch.context() as patched:
            patched.setattr(runs, "fit", fit_so_far)
            with pytest.raises(ends) as caught:
                train()
        return caught.value

    return act


def same(path, other):
    """Whether records and weights of two runs are equal, but for the seconds, date and the file's name."""
    first, second = (Run.load(p) for p in (path, other))
    metrics = [[replace(m, seconds=0.0) for m in found.metrics] for found in (first, second)]
    return metrics[0] == metrics[1] and first.config == second.config and same_weights(path, other)


def same_weights(path, other):
    weights = [load_tensors(p.with_suffix(".safetensors"))[0] for p in (path, other)]
    return weights[0].keys() == weights[1].keys() and all(
        torch.equal(weights[0][name], weights[1][name]) for name in weights[0]
    )


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path: path.read_bytes() for path in folder.iterdir()}


# Stopped anywhere, with any option

ADAPTIVE = dict(library="odelib", method="bosh3", rtol=0.1, atol=0.1)
# For every field of Config, options with which it has something to remember, or to forget.
CASES = dict(
    dataset=dict(dataset="some pictures"),
    validation=dict(validation=0.25, batch_size=12),
    train_images=dict(train_images=32, epochs=3, batch_size=11),
    image_size=dict(image_size=32),
    normalize=dict(normalize=True),
    network=dict(network="resnet", blocks=1),
    stem=dict(stem="res", network="none"),
    stem_bf16=dict(stem_bf16=True),
    width=dict(width=4),
    groups=dict(groups=2),
    blocks=dict(network="resnet", blocks=2),
    tied=dict(network="resnet", blocks=2, tied=True),
    scales=dict(scales=2),
    link=dict(scales=2, link="conv"),
    growth=dict(scales=2, growth=2),
    zero_start=dict(zero_start=True),
    dropout=dict(dropout=0.5),
    time=dict(time="none"),
    norm=dict(norm="batch"),
    activation=dict(activation="swish"),
    block_dropout=dict(block_dropout=0.3),
    extra_channels=dict(extra_channels=4),
    order=dict(order=2),
    kinetic=dict(kinetic=0.1),
    jacobian=dict(jacobian=0.1),
    method=dict(method="midpoint"),
    rtol=dict(method="bosh3", rtol=0.1),
    atol=dict(method="bosh3", atol=0.1),
    step_size=dict(method="euler", step_size=0.5),
    gradient=dict(gradient="adjoint"),
    library=dict(library="odelib", gradient="checkpoint"),
    warm_start=dict(ADAPTIVE, warm_start=True),
    stop_at_t1=dict(method="bosh3", rtol=0.1, atol=0.1, stop_at_t1=True),
    bf16=dict(bf16=True),
    products=dict(products=True),
    augment=dict(augment="crop-flip"),
    epochs=dict(epochs=3, network="none"),
    batch_size=dict(batch_size=20, epochs=3),
    optimizer=dict(optimizer="adamw", weight_decay=0.1),
    lr=dict(lr=0.5, network="none"),
    schedule=dict(schedule="one-cycle"),
    milestones=dict(schedule="step", milestones=(1,)),
    momentum=dict(momentum=0.0),
    nesterov=dict(nesterov=True),
    weight_decay=dict(weight_decay=0.01),
    decay_filters=dict(decay_filters=True, weight_decay=0.01),
    ema=dict(ema=0.9, epochs=3),
    label_smoothing=dict(label_smoothing=0.1),
    seed=dict(seed=3),
)


def test_every_option_has_a_case():
    """A new one must have one too, so that its state is not forgotten."""
    assert list(CASES) == [field.name for field in fields(Config)]
    plain = Config()
    assert all(options[name] != getattr(plain, name) for name, options in CASES.items())


@pytest.mark.parametrize("name", CASES)
def test_a_run_stopped_anywhere_ends_where_an_uninterrupted_one_does(tiny, quick, tmp_path, name, after_steps):
    """Within an epoch, before it is evaluated, after it, in the first step of the next."""
    config, cut = replace(quick, **CASES[name]), tmp_path / "cut.json"
    whole = train(config, tiny, tmp_path / "whole.json")
    steps = (36 if config.validation else config.train_images or 48) // config.batch_size

    def go_on():
        torch.manual_seed(len(files(tmp_path)))  # which must not matter
        return train(config, tiny, cut, saved_every=ALWAYS)

    after_steps(steps - 1, go_on)
    assert read_checkpoint(cut).progress.step == steps - 1
    after_steps(1, go_on)
    stop_after_epoch(config, tiny, cut)
    assert len(Run.load(cut).metrics) == 1
    after_steps(1, go_on)
    assert read_checkpoint(cut).progress.epoch == 2
    assert go_on() == Run.load(cut) and whole.finished
    assert same(cut, tmp_path / "whole.json")
    assert files(tmp_path) == ["cut.json", "cut.safetensors", "whole.json", "whole.safetensors"]


def test_what_is_kept_within_an_epoch_is_kept_by_time(tiny, quick, tmp_path, after_steps):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    after_steps(2, lambda: train(config, tiny, path, saved_every=NEVER))
    assert files(tmp_path) == []
    after_steps(2, lambda: train(config, tiny, path, saved_every=ALWAYS))
    assert files(tmp_path) == ["a.checkpoint.safetensors", "a.previous.safetensors"]
    assert [load_tensors(file)[1]["progress"][:24] for file in checkpoint_files(path)] == [
        '{"epoch": 1, "step": 2, ',
        '{"epoch": 1, "step": 1, ',
    ]
    assert runs.SAVED_EVERY <= 30


@pytest.mark.parametrize("where", ["odelib.runs.Run.save", "odelib.runs.save_weights", "odelib.locks.Lock.remove"])
def test_a_run_that_ended_without_its_record_or_weights_is_completed_without_training(
    tiny, quick, tmp_path, monkeypatch, where
):
    config, path = replace(quick, epochs=1, network="none"), tmp_path / "a.json"
    train(config, tiny, tmp_path / "whole.json")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(where, lambda *_, **__: stop(None))
        train(config, tiny, path)
    assert not is_finished(path)
    monkeypatch.setattr(training, "train_step", stop)
    train(config, tiny, path)
    assert same(path, tmp_path / "whole.json") and is_finished(path)
    assert not checkpoint_files(path)[0].exists()


def test_a_run_stopped_in_its_last_report_is_finished(tiny, quick, tmp_path):
    """Its record had been written, its weights had not."""
    config = replace(quick, epochs=1, network="none")
    stop_after_epoch(config, tiny, tmp_path / "a.json")
    assert Run.load(tmp_path / "a.json").finished and not (tmp_path / "a.safetensors").exists()
    train(config, tiny, tmp_path / "a.json")
    assert files(tmp_path) == ["a.json", "a.safetensors"]


# Signals


def sends(*signals):
    def send(*_):
        for number in signals:
            os.kill(os.getpid(), number)

    return send


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_the_step_under_way(tiny, quick, tmp_path, number, after_steps):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    train(config, tiny, tmp_path / "whole.json")
    error = after_steps(2, lambda: train(config, tiny, path, saved_every=NEVER), sends(number), Interrupted)
    assert error.signal == number
    assert str(error) == "interrupted in epoch 1, after step 2 of 3; all is kept, the same command goes on"
    assert read_checkpoint(path).progress.step == 2
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    train(config, tiny, path)
    assert same(path, tmp_path / "whole.json")


def test_a_signal_while_evaluating_waits_for_nothing_and_loses_nothing(tiny, quick, tmp_path, monkeypatch):
    config, path, calls = replace(quick, network="none"), tmp_path / "a.json", []
    train(config, tiny, tmp_path / "whole.json")

    def evaluate(*_):
        calls.append(0)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("went on")

    with monkeypatch.context() as patched:
        patched.setattr(training, "evaluate", evaluate)
        for where in ("in epoch 1, after step 3 of 3", "after the steps of epoch 1"):  # and when it is begun again
            with pytest.raises(Interrupted, match=where):
                train(config, tiny, path)
    assert len(calls) == 2 and read_checkpoint(path).progress.step == 3
    train(config, tiny, path)
    assert same(path, tmp_path / "whole.json")


def test_a_signal_while_an_epoch_is_kept_or_reported_waits_for_that(tiny, quick, tmp_path):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    with pytest.raises(Interrupted, match="interrupted after epoch 1; all is kept"):
        run(config, tiny, path, CPU, sends(signal.SIGTERM))
    assert len(Run.load(path).metrics) == len(read_checkpoint(path).record.metrics) == 1
    with pytest.raises(Interrupted, match="after the last epoch; all is kept"):  # before its images are judged
        run(config, tiny, path, CPU, sends(signal.SIGTERM))
    assert not is_finished(path)


def test_a_signal_while_a_finished_run_is_kept_waits_for_that(tiny, quick, tmp_path, monkeypatch):
    config, path = replace(quick, network="none"), tmp_path / "a.json"

    def keep(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        save_weights(*given)

    monkeypatch.setattr(runs, "save_weights", keep)
    with pytest.raises(Interrupted, match="a.json is finished"):
        train(config, tiny, path)
    assert is_finished(path) and files(tmp_path) == ["a.json", "a.safetensors"]


def test_a_second_signal_does_not_wait(tiny, quick, tmp_path, after_steps):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    both = sends(signal.SIGINT, signal.SIGINT)
    error = after_steps(5, lambda: train(config, tiny, path, saved_every=NEVER), both, KeyboardInterrupt)
    assert not isinstance(error, Interrupted)
    assert read_checkpoint(path).progress.epoch == 2 and read_checkpoint(path).progress.step == 0


def test_a_signal_that_is_ignored_stays_ignored(tiny, quick, tmp_path, after_steps):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert after_steps(
            2, lambda: train(quick, tiny, tmp_path / "a.json"), sends(signal.SIGHUP, signal.SIGTERM), Interrupted
        )
        assert read_checkpoint(tmp_path / "a.json").progress.step == 2
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_in_another_thread_does_without(tiny, quick, tmp_path):
    thread = threading.Thread(target=train, args=(replace(quick, network="none"), tiny, tmp_path / "a.json"))
    thread.start()
    thread.join()
    assert is_finished(tmp_path / "a.json")


# What is refused


def test_a_finished_run_is_refused_and_kept(tiny, quick, tmp_path):
    config = replace(quick, epochs=1, network="none")
    train(config, tiny, tmp_path / "a.json")
    before = contents(tmp_path)
    with pytest.raises(Finished, match="a.json holds this run, finished; move it away to train again"):
        train(config, tiny, tmp_path / "a.json")
    assert contents(tmp_path) == before
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(Finished, match="a.json is finished, but its weights are gone; move it away to train again"):
        train(config, tiny, tmp_path / "a.json")


@pytest.mark.parametrize(
    "other, words",
    [
        (dict(lr=0.1), "lr 0.05 (now 0.1)"),
        (dict(width=4, stem="conv"), "stem 'one-shot' (now 'conv'), width 8 (now 4)"),
        (dict(optimizer="adam"), "optimizer 'sgd' (now 'adam')"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_record_of_another_config_is_refused_by_the_names_of_what_differs(
    tiny, quick, tmp_path, finished, other, words
):
    """Also where its checkpoint would not fit into the network."""
    config = replace(quick, network="none")
    train(config, tiny, tmp_path / "a.json") if finished else stop_after_epoch(config, tiny, tmp_path / "a.json")
    before = contents(tmp_path)
    with pytest.raises(RecordError) as caught:
        train(replace(config, **other), tiny, tmp_path / "a.json")
    path = tmp_path / "a.json"
    assert str(caught.value) == f"{path} holds a run of another config: {words}; choose another name"
    assert contents(tmp_path) == before


def test_a_record_whose_checkpoint_is_gone_is_refused(tiny, quick, tmp_path):
    config = replace(quick, network="none")
    stop_after_epoch(config, tiny, tmp_path / "a.json")
    for file in checkpoint_files(tmp_path / "a.json"):
        file.unlink()
    with pytest.raises(
        RecordError, match="a.json is unfinished and its checkpoint is gone; move it away to train again"
    ):
        train(config, tiny, tmp_path / "a.json")


@pytest.mark.parametrize(
    "name",
    ["", " ", "..", "../up", "a/../../up", "/tmp/up", "a\nb", "\x1b[31m", "c:\\up", "..\\up", "\udcff", "a/", "\0"],
)
def test_a_name_stays_inside_of_its_folder(tmp_path, name):
    with pytest.raises(OptionError, match="a name must be a file name inside of .*, got "):
        inside(tmp_path, name)


@pytest.mark.parametrize("name", ["a", "a.b", "größe 2", "first/a", "..a", "-"])
def test_other_names_are_allowed(tmp_path, name):
    assert inside(tmp_path, name).resolve().is_relative_to(tmp_path.resolve())


def test_other_pictures_are_refused(tiny, quick, tmp_path):
    """Or other labels, or classes of other names."""
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    stop_after_epoch(config, tiny, path)
    brighter = tiny.train.images.clone()
    brighter[47, 0, 27, 27] += 1
    others = [
        replace(tiny, train=replace(tiny.train, images=brighter)),
        replace(tiny, test=replace(tiny.test, labels=tiny.test.labels.roll(1))),
        replace(tiny, classes=tiny.classes[::-1]),
    ]
    before = contents(tmp_path)
    for other in others:
        with pytest.raises(RecordError, match="a.json was trained on other images of .* than are there now"):
            train(config, other, path)
    assert contents(tmp_path) == before
    train(config, tiny, path)


def test_the_digest_is_that_of_what_the_run_uses(tiny):
    assert tiny.digest() == replace(tiny, name="another name").digest() == tiny.to("cpu").digest()
    parts = {tiny.digest(), tiny.hold_out(0.25).digest(), tiny.hold_out(0.5).digest(), tiny.limit(47).digest()}
    assert len(parts) == 4


# Environments


def test_a_run_that_goes_on_elsewhere_lists_where(tiny, quick, tmp_path, monkeypatch):
    config, path = replace(quick, network="none", epochs=4), tmp_path / "a.json"
    first = Environment.here(CPU)
    for threads in (3, 3, 5):  # the second differs in its date alone
        changed = replace(first, threads=threads, date=f"2026-01-0{threads}")
        monkeypatch.setattr(Environment, "here", lambda device, changed=changed: changed)
        stop_after_epoch(config, tiny, path)
    monkeypatch.undo()
    done = train(config, tiny, path)
    assert done.environment.threads == 3 and [e.threads for e in done.later] == [5, first.threads]


@pytest.mark.parametrize(
    "name", ["hardware", "threads", "torch", "python", "torchdiffeq", "odelib", "commit", "settings"]
)
def test_what_can_change_figures_makes_another_environment(name):
    here = Environment.here(CPU)
    other = {"threads": 99, "settings": ("MKL_CBWR=AVX2",)}.get(name, "other")
    assert not here.computes_as(replace(here, **{name: other}))
    assert here.computes_as(replace(here, date="2000-01-01 00:00", cores=99))


# Checkpoints


def damaged(file, how):
    content = file.read_bytes()
    if how == "empty":
        file.write_bytes(b"")
    elif how == "cut":
        file.write_bytes(content[:-5])
    else:  # one bit: in a tensor, or in the texts
        at = len(content) - 3 if how == "tensor" else content.index(b"train_loss") + 3
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


@pytest.mark.parametrize("how", ["empty", "cut", "tensor", "text"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tiny, quick, tmp_path, how, after_steps):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    train(config, tiny, tmp_path / "whole.json")
    after_steps(5, lambda: train(config, tiny, path, saved_every=ALWAYS))
    now, before = checkpoint_files(path)
    damaged(now, how)
    with pytest.warns(
        UserWarning, match="a.checkpoint.safetensors is damaged: .*; the run goes on from the checkpoint be"
    ):
        kept = read_checkpoint(path)
    assert kept.progress.step == 1 and kept.file == now and not before.exists()
    assert read_checkpoint(path).progress.step == 1  # which is in its place now
    train(config, tiny, path)
    assert same(path, tmp_path / "whole.json")


def test_two_damaged_checkpoints_are_named_and_left(tiny, quick, tmp_path, after_steps):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    after_steps(2, lambda: train(config, tiny, path, saved_every=ALWAYS))
    for file in checkpoint_files(path):
        damaged(file, "cut")
    before = contents(tmp_path)
    with pytest.raises(RecordError, match="a.previous.safetensors is damaged: .* cannot be read as safetensors"):
        train(config, tiny, path)
    assert contents(tmp_path) == before


def test_a_crash_between_two_checkpoints_leaves_the_one_before(tiny, quick, tmp_path, monkeypatch, after_steps):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    train(config, tiny, tmp_path / "whole.json")
    now, before = checkpoint_files(path)

    def rename(self, target, rename=Path.replace):
        if target == now and before.exists():
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "replace", rename)
        train(config, tiny, path, saved_every=ALWAYS)
    assert not now.exists() and read_checkpoint(path).progress.step == 1
    train(config, tiny, path)
    assert same(path, tmp_path / "whole.json")


def by_hand(kept, path, tensors=None, **texts):
    """Write a checkpoint with other contents, as an older version would, which keeps no digest."""
    found, metadata = load_tensors(kept)
    metadata.pop("digest")
    metadata = {name: text for name, text in {**metadata, **texts}.items() if text is not None}
    save_tensors(path, found if tensors is None else tensors(found), metadata)


def without_random(tensors):
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("random.")}


def test_a_checkpoint_of_the_first_edition_goes_on_after_its_epoch(tiny, quick, tmp_path):
    """It has no progress, no generators, no digests."""
    config, path = replace(quick, network="none", dropout=0.3), tmp_path / "a.json"
    train(config, tiny, tmp_path / "whole.json")
    stop_after_epoch(config, tiny, path)
    now, before = checkpoint_files(path)
    record = json.loads(load_tensors(now)[1]["record"])
    for name in ("data", "later", "extended"):
        record.pop(name)
    by_hand(now, now, without_random, progress=None, record=json.dumps(record))
    path.write_text(json.dumps(record))
    before.unlink()
    assert Run.load(path).data is None
    train(config, tiny, path)
    assert same(path, tmp_path / "whole.json")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: {**t, "model.surplus": torch.zeros(1)}, "does not fit this run .*surplus"),
        (lambda t: {**t, "surplus": torch.zeros(1)}, "does not fit this run .surplus belongs to neither"),
        (lambda t: {**t, "a.b": torch.zeros(1)}, "does not fit this run .a.b belongs to neither"),
        (lambda t: {"model.stem.bias": torch.zeros(1)}, "does not fit this run"),
        (lambda t: {**t, "optimizer.first.x": torch.zeros(1)}, "does not fit this run"),
        (
            lambda t: {**t, "optimizer.0.surplus": torch.zeros(1)},
            "does not fit this run .the optimiser's tensors are not",
        ),
        (
            lambda t: {**t, "optimizer.0.momentum_buffer": torch.zeros(1)},
            "optimiser's momentum_buffer of parameter 0 has",
        ),
        (
            lambda t: {n: x for n, x in t.items() if n != "optimizer.1.momentum_buffer"},
            "optimiser's tensors are not all",
        ),
        (lambda t: {n: x for n, x in t.items() if not n.startswith("optimizer.")}, "optimiser's tensors are not all"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named_in_one_line(tiny, quick, tmp_path, change, message):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    stop_after_epoch(config, tiny, path)
    now, _ = checkpoint_files(path)
    by_hand(now, now, lambda tensors: change(without_random(tensors)), progress=None)
    with pytest.raises(RecordError, match=message) as caught:
        train(config, tiny, path)
    assert "\n" not in str(caught.value) and str(now) in str(caught.value) and "delete" not in str(caught.value)


@pytest.mark.parametrize(
    "progress, tensors, message",
    [
        (dict(epoch=3), {}, "holds no progress of a training .epoch 3, where the record has 1."),
        (dict(step=-1), {}, "holds no progress of a training"),
        (dict(step="two"), {}, "holds no progress of a training"),
        (dict(colour="red"), {}, "holds no progress of a training"),
        (dict(step=1), {"random.0": torch.zeros(3)}, "holds no progress of a training .no state of torch's generator"),
        ({}, {"random.zero": torch.zeros(3)}, "holds no progress of a training"),
    ],
)
def test_a_progress_that_is_none_is_named_in_one_line(
    tiny, quick, tmp_path, monkeypatch, progress, tensors, message, after_steps
):
    """Though it is as it was written."""
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    stop_after_epoch(config, tiny, path)
    now, _ = checkpoint_files(path)
    monkeypatch.setattr("odelib.checkpoints._digest", lambda *_: "same")
    known = {**json.loads(load_tensors(now)[1]["progress"]), **progress}
    by_hand(now, now, lambda found: {**found, **tensors}, progress=json.dumps(known), digest="same")
    with pytest.raises(RecordError, match=message) as caught:
        train(config, tiny, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("record, message", [(None, "holds no record of a run"), ("{}", "is not a record of odelib")])
def test_a_checkpoint_without_a_record_is_named(tiny, quick, tmp_path, record, message):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    stop_after_epoch(config, tiny, path)
    now, _ = checkpoint_files(path)
    by_hand(now, now, without_random, progress=None, record=record)
    with pytest.raises(RecordError, match=f"a.checkpoint.safetensors {message}"):
        train(config, tiny, path)


# More epochs, a lower rate


@pytest.mark.parametrize("schedule", [dict(schedule="constant"), dict(schedule="step", milestones=(1, 3))])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("finished", [True, False])
def test_more_epochs_are_as_if_they_had_been_asked_for_at_once(
    tiny, quick, tmp_path, schedule, optimizer, finished, after_steps
):
    config = replace(quick, network="none", dropout=0.2, optimizer=optimizer, lr=0.01, **schedule)
    longer, path = replace(config, epochs=4), tmp_path / "a.json"
    train(longer, tiny, tmp_path / "whole.json", keep_optimizer=True)
    if finished:
        train(config, tiny, path, keep_optimizer=True)
    else:
        after_steps(4, lambda: train(config, tiny, path, saved_every=ALWAYS))
    with pytest.raises(
        RecordError, match=r"config: epochs 2 \(now 4\); choose another name, or go on so with --extend"
    ):
        train(longer, tiny, path)
    after_steps(1, lambda: train(longer, tiny, path, extend=True, saved_every=ALWAYS))
    assert not is_finished(path)
    done = train(longer, tiny, path, extend=True, keep_optimizer=True)
    assert same(path, tmp_path / "whole.json")
    assert done.extended == (Extension(2, 0.01, *((3, 0) if finished else (2, 1))),) and done.config == longer
    assert load_weights(path.with_suffix(".safetensors"))[1] == longer  # without the optimiser's tensors


def test_a_lower_rate_goes_on_from_where_it_was(tiny, quick, tmp_path, after_steps):
    config, path = replace(quick, network="none", schedule="constant"), tmp_path / "a.json"
    after_steps(4, lambda: train(config, tiny, path, saved_every=ALWAYS))
    done = train(replace(config, lr=0.001), tiny, path, extend=True)
    assert [m.lr for m in done.metrics] == [0.05, 0.001] and done.extended == (Extension(2, 0.05, 2, 1),)


@pytest.mark.parametrize(
    "other", [dict(lr=0.1), dict(epochs=1), dict(width=4), dict(epochs=3, seed=1), dict(schedule="step")]
)
def test_nothing_else_is_extended(tiny, quick, tmp_path, other):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    stop_after_epoch(config, tiny, path)
    before = contents(tmp_path)
    with pytest.raises(RecordError, match="; --extend changes nothing but epochs, upwards, and lr, downwards"):
        train(replace(config, **other), tiny, path, extend=True)
    assert contents(tmp_path) == before


def test_a_run_that_kept_averaged_weights_is_not_extended(tiny, quick, tmp_path):
    """Those that it trained are gone. While they are there it is."""
    config, path = replace(quick, network="none", ema=0.9), tmp_path / "a.json"
    stop_after_epoch(config, tiny, path)
    longer = replace(config, epochs=3)
    train(longer, tiny, path, extend=True, keep_optimizer=True)
    with pytest.raises(RecordError, match=r"a.safetensors holds averaged weights \(ema\), not those with which a run"):
        train(replace(config, epochs=4), tiny, path, extend=True)


def test_averaged_weights_that_do_not_fit_are_refused(tiny, quick, tmp_path):
    config, path = replace(quick, network="none", ema=0.9), tmp_path / "a.json"
    stop_after_epoch(config, tiny, path)
    kept = read_checkpoint(path)
    model = build(config, tiny)
    wrong = replace(kept.progress, average=kept.progress.average[1:])
    with pytest.raises(RecordError, match="the averaged weights are not all there, or too many"):
        restore(replace(kept, progress=wrong), model, training.make_optimizer(model, config))


def test_what_cannot_be_extended_says_why(tiny, quick, tmp_path):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    with pytest.raises(RecordError, match="a.json is not there, so that there is no run to extend"):
        train(config, tiny, path, extend=True)
    assert files(tmp_path) == []
    train(config, tiny, path)
    for asked in (config, replace(config, lr=0.001)):
        with pytest.raises(Finished, match="a.json holds this run, finished; --extend goes on only with more --epochs"):
            train(asked, tiny, path, extend=True)
    with pytest.raises(RecordError, match="a.safetensors was kept without the optimiser's tensors"):
        train(replace(config, epochs=3), tiny, path, extend=True)
    assert files(tmp_path) == ["a.json", "a.safetensors"]


# Divergence


def test_a_run_that_diverged_goes_on_from_its_last_good_state_with_a_lower_rate(tiny, quick, tmp_path, monkeypatch):
    """In the last step of an epoch, which the checkpoint of that epoch must not hold."""
    config, path, steps = replace(quick, network="none", epochs=3), tmp_path / "a-seed0.json", []

    def ruin(model, *arguments, step=training.train_step):
        found = step(model, *arguments)
        steps.append(0)
        if len(steps) == 3:
            next(model.parameters()).data.view(-1)[0] = float("nan")
        return found

    stop_after_epoch(config, tiny, path)
    with monkeypatch.context() as patched, pytest.raises(FloatingPointError) as caught:
        patched.setattr(training, "train_step", ruin)
        train(config, tiny, path, saved_every=ALWAYS)
    said = str(caught.value)
    assert said.startswith(
        "in epoch 2, step 3 of 3, the update made weights that are not finite (norm of the gradient "
    )
    assert said.endswith(
        "; lower the learning rate; the last good state is kept: with --name a --extend and a lower --lr the same "
        "command goes on from it"
    )
    kept = read_checkpoint(path)
    assert (kept.progress.epoch, kept.progress.step) == (2, 2)
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values())
    done = train(replace(config, lr=0.01), tiny, path, extend=True)
    assert done.finished and done.extended[0].step == 2


def test_a_state_that_cannot_be_evaluated_gives_way_to_the_one_before_it(tiny, quick, tmp_path, monkeypatch):
    config, path = replace(quick, network="none"), tmp_path / "a.json"
    with monkeypatch.context() as patched:
        patched.setattr(training, "evaluate", lambda *_: (float("inf"), 0.1))
        message = "^after epoch 1, evaluating the training images, the loss is inf; lower the learning rate"
        with pytest.raises(FloatingPointError, match=message):
            train(config, tiny, path, saved_every=NEVER)
        assert files(tmp_path) == []  # it begins anew
        with pytest.raises(FloatingPointError, match="the last good state is kept"):
            train(config, tiny, path, saved_every=ALWAYS)
    assert read_checkpoint(path).progress.step == 2
    assert train(replace(config, lr=0.01), tiny, path, extend=True).finished


# Places


@pytest.mark.parametrize("there", ["a.json", "a.safetensors", "a.checkpoint.safetensors"])
def test_a_place_that_cannot_be_written_is_told_before_the_first_step(tiny, quick, tmp_path, monkeypatch, there):
    monkeypatch.setattr(training, "train_step", stop)
    (tmp_path / there).mkdir()
    with pytest.raises(RecordError, match=f"{there} cannot be (written|read) .(a folder of this|Is a directory)"):
        train(quick, tiny, tmp_path / "a.json")
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="file/a.json cannot be written"):
        train(quick, tiny, tmp_path / "file" / "a.json")
    with pytest.raises(RecordError, match="x.safetensors cannot be written .File name too long."):
        train(quick, tiny, tmp_path / f"{'x' * 240}.json")
    assert files(tmp_path) == sorted([there, "file"])


def test_a_run_in_a_folder_sweeps_what_killed_ones_have_left_and_nothing_else(tiny, quick, tmp_path):
    """Of its own: another process may be writing the others right now."""
    dead = [".a.json.k2j_x9ab", ".a.safetensors.12345678", ".a.checkpoint.safetensors.abcdefgh"]
    others = [".b.json.k2j_x9ab", ".a-seed1.json.k2j_x9ab", ".hidden"]
    for name in (*dead, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    train(replace(quick, network="none"), tiny, tmp_path / "a.json")
    assert files(tmp_path) == sorted([*others, "a.json", "a.safetensors"])


def test_a_record_names_the_commit_that_made_it(tiny, quick, tmp_path, monkeypatch):
    monkeypatch.setattr("odelib.sources.commit", lambda: "0123456789ab+")
    train(replace(quick, epochs=1, network="none"), tiny, tmp_path / "a.json")
    assert Run.load(tmp_path / "a.json").environment.commit == "0123456789ab+"


def test_a_run_looks_at_the_images_that_it_trains_on_and_at_no_others(sample, quick, tmp_path):
    """Held-out and unused images are made white: neither the normalisation nor the training may notice."""
    config = replace(quick, network="none", epochs=1, normalize=True, validation=0.25, train_images=100)
    kept = sample.hold_out(0.25).limit(100)
    numbered = Images(sample.train.images, torch.arange(len(sample.train)))
    used = replace(sample, train=numbered).hold_out(0.25).limit(100).train.labels
    images = torch.full_like(sample.train.images, 255)
    images[used] = sample.train.images[used]
    train(config, sample, tmp_path / "a.json")
    train(config, replace(sample, train=replace(sample.train, images=images)), tmp_path / "b.json")
    weights = [load_tensors(tmp_path / f"{name}.safetensors")[0] for name in "ab"]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    pixels = kept.train.images.float() / 255
    assert weights[0]["normalize.mean"].item() == pytest.approx(pixels.mean().item(), rel=1e-6)
    assert weights[0]["normalize.std"].item() == pytest.approx(pixels.std().item(), rel=1e-6)


def test_a_run_is_what_its_parts_do_by_hand(tiny, quick, tmp_path):
    """prepare, build, fit: with these three a reader gets the same weights."""
    config = replace(quick, network="none", validation=0.25, train_images=32)
    done = train(config, tiny, tmp_path / "a.json")
    data = prepare(tiny, config)
    model = build(config, data)
    metrics = [replace(m, seconds=0.0) for m in fit(model, data, config)]
    assert [replace(m, seconds=0.0) for m in done.metrics] == metrics
    weights, _ = load_tensors(tmp_path / "a.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("held_out", [0.0, 0.25])
def test_a_record_says_which_images_the_network_gets_wrong(tiny, quick, tmp_path, held_out):
    """Of the images that it was judged by, in their order, as the stored weights say them."""
    config = replace(quick, network="none", validation=held_out)
    done = train(config, tiny, tmp_path / "a.json")
    assert done.wrong == Run.load(tmp_path / "a.json").wrong
    model, _ = load_weights(tmp_path / "a.safetensors")
    data = prepare(tiny, config)
    judged = data.validation if held_out else data.test
    with torch.no_grad():
        wrong = model(judged.images.float() / 255).argmax(dim=1) != judged.labels
    assert unpack_bits(done.wrong)[: len(judged)].equal(wrong)
    assert wrong.any() and not wrong.all()
    reached = done.last.validation_accuracy if held_out else done.last.test_accuracy
    assert unpack_bits(done.wrong).sum() == round((1 - reached) * len(judged))


def test_an_extended_run_says_nothing_of_the_images_until_it_is_finished(tiny, quick, tmp_path):
    path = tmp_path / "a.json"
    train(replace(quick, epochs=1), tiny, path, keep_optimizer=True)
    with pytest.raises(Killed):
        run(replace(quick, epochs=3), tiny, path, CPU, stop, extend=True)
    assert Run.load(path).wrong is None
    assert train(replace(quick, epochs=3), tiny, path, extend=True).wrong is not None
