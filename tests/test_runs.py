"""Runs: wherever one was stopped, the same call goes on and ends where an uninterrupted one does."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from odelib import Images, RecordError, Run, build, fit, records
from odelib.records import load_tensors, save_tensors
from odelib.runs import run

CPU = torch.device("cpu")


class Killed(BaseException):
    """Ends a run as a signal does: nothing in odelib catches it."""


def train(config, data, path):
    return run(config, data, path, CPU, lambda _: None)


def stop(_):
    raise Killed


@pytest.fixture
def kill_before(monkeypatch):
    """Ends a run before the write with that number (from 0), or, after the last one, before its checkpoint is deleted.

    Returns how many writes there were.
    """

    def kill(number, train):
        writes = []

        def write(path, fill, write=records.write_atomically):
            if len(writes) == number:
                raise Killed
            writes.append(path)
            write(path, fill)

        def unlink(path, *_, **__):
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(records, "write_atomically", write)
            patched.setattr(Path, "unlink", unlink)
            with pytest.raises(Killed):
                train()
        return len(writes)

    return kill


def same(path, other):
    """Whether records and weights of two runs are equal, but for the seconds, date and the file's name."""
    first, second = (Run.load(p) for p in (path, other))
    metrics = [[replace(m, seconds=0.0) for m in found.metrics] for found in (first, second)]
    weights = [load_tensors(p.with_suffix(".safetensors"))[0] for p in (path, other)]
    return (
        metrics[0] == metrics[1]
        and first.config == second.config
        and weights[0].keys() == weights[1].keys()
        and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(block_dropout=0.2, norm="batch", scales=2, optimizer="adamw", train_images=32, momentum=0.0),
        dict(
            library="odelib",
            method="bosh3",
            rtol=0.1,
            atol=0.1,
            warm_start=True,
            gradient="checkpoint",
            kinetic=0.1,
            jacobian=0.1,
            train_images=32,
        ),
        dict(network="none", momentum=0.0, validation=0.25, normalize=True, schedule="one-cycle", augment="crop"),
    ],
    ids=["plain", "variations", "penalties", "held-out"],
)
def test_a_run_stopped_after_an_epoch_ends_where_an_uninterrupted_one_does(tiny, quick, tmp_path, options):
    config = replace(quick, **options)
    whole = train(config, tiny, tmp_path / "whole.json")
    with pytest.raises(Killed):
        run(config, tiny, tmp_path / "cut.json", CPU, stop)
    assert len(Run.load(tmp_path / "cut.json").metrics) == 1
    cut = train(config, tiny, tmp_path / "cut.json")
    assert cut == Run.load(tmp_path / "cut.json") and whole.finished
    assert same(tmp_path / "cut.json", tmp_path / "whole.json")
    assert not list(tmp_path.glob("*checkpoint*"))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_killed_at_any_write_is_finished_by_the_same_call(tiny, quick, tmp_path, kill_before, epochs):
    """Between checkpoint, record, weights and the end, of every epoch."""
    config = replace(quick, network="none", epochs=epochs)
    train(config, tiny, tmp_path / "whole.json")
    last = 2 * epochs + 2  # a checkpoint and a record an epoch, record and weights at the end; then its checkpoint goes
    for number in range(last + 1):
        cut = tmp_path / f"{number}" / "run.json"
        assert kill_before(number, lambda: train(config, tiny, cut)) == number
        train(config, tiny, cut)
        assert same(cut, tmp_path / "whole.json"), f"killed before write {number}"
        assert sorted(path.name for path in cut.parent.iterdir()) == ["run.json", "run.safetensors"]
    assert kill_before(last + 1, lambda: train(config, tiny, tmp_path / "again.json")) == last


def test_a_run_killed_again_and_again_still_ends(tiny, quick, tmp_path, kill_before):
    """At every call elsewhere, and in the end before the checkpoint is deleted."""
    config = replace(quick, network="none")
    train(config, tiny, tmp_path / "whole.json")
    cut = tmp_path / "cut.json"
    for number in (0, 1, 1, 2, 0, 1, 2, 9):
        kill_before(number, lambda: train(config, tiny, cut))
    train(config, tiny, cut)
    assert same(cut, tmp_path / "whole.json")


def test_a_run_stopped_in_its_last_report_is_finished(tiny, quick, tmp_path):
    """Its record had been written, its weights had not."""
    config = replace(quick, epochs=1, network="none")
    with pytest.raises(Killed):
        run(config, tiny, tmp_path / "a.json", CPU, stop)
    assert Run.load(tmp_path / "a.json").finished and not (tmp_path / "a.safetensors").exists()
    train(config, tiny, tmp_path / "a.json")
    assert (tmp_path / "a.safetensors").exists() and not list(tmp_path.glob("*checkpoint*"))


def test_a_finished_run_is_refused_and_kept(tiny, quick, tmp_path):
    config = replace(quick, epochs=1, network="none")
    train(config, tiny, tmp_path / "a.json")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RecordError, match="a.json holds this run, finished; delete it to train again"):
        train(config, tiny, tmp_path / "a.json")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("other", [dict(lr=0.01), dict(width=4)])
@pytest.mark.parametrize("finished", [True, False])
def test_a_record_of_another_config_is_refused(tiny, quick, tmp_path, finished, other):
    """Also where its checkpoint would not fit into the network."""
    config = replace(quick, network="none")
    if finished:
        train(config, tiny, tmp_path / "a.json")
    else:
        with pytest.raises(Killed):
            run(config, tiny, tmp_path / "a.json", CPU, stop)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RecordError, match="a.json holds a run of another config .*--width 8.*; choose another name"):
        train(replace(config, **other), tiny, tmp_path / "a.json")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_record_whose_checkpoint_is_gone_is_refused(tiny, quick, tmp_path):
    config = replace(quick, network="none")
    with pytest.raises(Killed):
        run(config, tiny, tmp_path / "a.json", CPU, stop)
    (tmp_path / "a.checkpoint.safetensors").unlink()
    with pytest.raises(RecordError, match="a.json is unfinished, but its checkpoint a.checkpoint.* is gone; delete it"):
        train(config, tiny, tmp_path / "a.json")


@pytest.mark.parametrize(
    "damage, message",
    [
        (
            lambda tensors, texts: ({**tensors, "model.surplus": torch.zeros(1)}, texts),
            "is not a checkpoint of this run",
        ),
        (lambda tensors, texts: ({"model.stem.bias": torch.zeros(1)}, texts), "is not a checkpoint of this run"),
        (lambda tensors, texts: ({**tensors, "optimizer.first.x": torch.zeros(1)}, texts), "is not a checkpoint of"),
        (lambda tensors, texts: (tensors, {}), "holds no record"),
        (lambda tensors, texts: (tensors, {"record": "{}"}), "is not a record of odelib"),
    ],
)
def test_a_checkpoint_that_is_none_is_named_in_one_line(tiny, quick, tmp_path, damage, message):
    config, path = replace(quick, network="none"), tmp_path / "a.checkpoint.safetensors"
    with pytest.raises(Killed):
        run(config, tiny, tmp_path / "a.json", CPU, stop)
    save_tensors(path, *damage(*load_tensors(path)))
    with pytest.raises(RecordError, match=f"a.checkpoint.safetensors {message}") as caught:
        train(config, tiny, tmp_path / "a.json")
    assert "\n" not in str(caught.value)


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
    from odelib import prepare

    config = replace(quick, network="none", validation=0.25, train_images=32)
    done = train(config, tiny, tmp_path / "a.json")
    data = prepare(tiny, config)
    model = build(config, data)
    metrics = [replace(m, seconds=0.0) for m in fit(model, data, config)]
    assert [replace(m, seconds=0.0) for m in done.metrics] == metrics
    weights, _ = load_tensors(tmp_path / "a.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
