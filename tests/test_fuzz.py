"""Every loader reads files that chance has damaged: it raises what it documents, or it has read something that fits."""

import io
import json
import random
import zipfile

import numpy as np
import pytest
import torch
from bad_files import a_run, npz, weights
from PIL import Image

from odelib import DataError, RecordError, Run, load_dataset, load_weights
from odelib.checkpoints import _digest, read_checkpoint, restore, save_checkpoint
from odelib.records import load_class_names, load_tensors, save_tensors
from odelib.training import Progress, make_optimizer

few_or_many = pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.weekly)])

NUMBERS = (0, 1, 2, 7, 127, 128, 255)
NASTY = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    0.5,
    -0.5,
    1e308,
    "",
    "x",
    "\ud800",
    "\n",
    [],
    [[]],
    {},
    [1],
)


def damaged(chance, content, other):
    """Bytes with one to four mishaps: cut, flipped, overwritten, lost, doubled, or going on as another file."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        size = chance.choice((1, 2, 4, 8, 64))
        kind = chance.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            data[at : at + size] = bytes(chance.choice(NUMBERS) for _ in range(size))
        elif kind == 3:
            del data[at : at + size]
        elif kind == 4:
            data[at:at] = data[at : at + size]
        else:
            data[at:] = other[at:]
    return bytes(data)


def places(values, path=()):
    """Where the values of a JSON object are."""
    for key in values if isinstance(values, dict) else range(len(values)):
        yield values, key
        if isinstance(values[key], (dict, list)):
            yield from places(values[key])


def changed(chance, text):
    """A JSON text in which one to three values, or their names, are others."""
    values = json.loads(text)
    for _ in range(chance.randint(1, 3)):
        found = list(places(values))
        if not found:
            break
        part, key = chance.choice(found)
        kind = chance.randrange(4)
        if kind == 0 and isinstance(part, dict):
            part[chance.choice(("x", "epoch", "lr", "version"))] = part.pop(key)
        elif kind == 1:
            del part[key]
        elif kind == 2:
            part[key] = chance.choice(found)[0]
            try:
                json.dumps(values)
            except ValueError:  # it has become a part of itself
                part[key] = None
        else:
            part[key] = chance.choice(NASTY)
    return json.dumps(values)


def try_all(count, error, make, read):
    """Read `count` damaged files. Some must be refused, some must be read; nothing else may come."""
    refused = 0
    for number in range(count):
        make(random.Random(number))
        try:
            read()
        except error as caught:
            refused += 1
            assert "\n" not in str(caught) and len(str(caught)) < 1000, number
        except BaseException as other:
            raise AssertionError(f"case {number}: {other!r}") from other
    assert 0 < refused < count


@few_or_many
def test_stored_data_sets(tmp_path, count):
    path, plain, packed = tmp_path / "mnist.npz", io.BytesIO(), npz(n=3, shape=(4, 4, 1))
    with zipfile.ZipFile(io.BytesIO(packed)) as file:  # without compression or checksums in the way
        np.savez(plain, **{name.removesuffix(".npy"): np.load(io.BytesIO(file.read(name))) for name in file.namelist()})

    def make(chance):
        path.write_bytes(damaged(chance, chance.choice((packed, plain.getvalue())), packed))

    def make_member(chance):
        """Damage before it was packed, so that checksums fit."""
        with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(path, "w") as new:
            spoilt = chance.choice(old.namelist())
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, damaged(chance, content, old.read("test_labels.npy")) if name == spoilt else content)

    def read():
        data = load_dataset("mnist", tmp_path)
        for part in (data.train, data.test):
            assert len(part) and part.images.dtype == torch.uint8 and 0 <= part.labels.min() <= part.labels.max() < 10

    for way in (make, make_member):
        try_all(count // 2, DataError, way, read)


@few_or_many
def test_folders_of_pictures(tmp_path, count):
    whole = []
    rng = np.random.default_rng(0)
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"):
        for mode in ("RGB", "L"):
            file = io.BytesIO()
            pixels = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8)).convert(mode)
            orientation = Image.Exif()
            orientation[0x0112] = 6
            pixels.save(file, kind, **({"exif": orientation} if kind in ("png", "jpeg", "webp") else {}))
            whole.append(file.getvalue())
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            place = tmp_path / "pets" / split / name
            place.mkdir(parents=True)
            (place / "0.ppm").write_bytes(whole[-1])

    def make(chance):
        content = damaged(chance, chance.choice(whole), chance.choice(whole))
        (tmp_path / "pets" / "train" / "cat" / "0.png").write_bytes(content)

    def read():
        assert load_dataset(str(tmp_path / "pets"), image_size=6).train.images.shape == (3, 3, 6, 6)

    try_all(count, DataError, make, read)


@few_or_many
def test_weights(tmp_path, count):
    content = weights(tmp_path / "whole.safetensors", names=tuple("abcdefghij")).read_bytes()
    path, size = tmp_path / "a.safetensors", int.from_bytes(content[:8], "little")
    head, tensors = json.loads(content[8 : 8 + size]), content[8 + size :]

    def make(chance):
        if chance.random() < 0.5:
            path.write_bytes(damaged(chance, content, bytes(len(content))))
            return
        other = json.loads(changed(chance, json.dumps(head)))
        texts = other.get("__metadata__") if isinstance(other, dict) else None
        if isinstance(texts, dict) and isinstance(texts.get("config"), str):
            texts["config"] = changed(chance, head["__metadata__"]["config"])
        said = json.dumps(other).encode()
        path.write_bytes(len(said).to_bytes(8, "little") + said + tensors)

    def read():
        model, _ = load_weights(path)
        assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
        load_class_names(path)

    try_all(count, RecordError, make, read)


@few_or_many
def test_records(tmp_path, count):
    path, text = tmp_path / "a.json", json.dumps(a_run())

    def make(chance):
        if chance.random() < 0.3:
            path.write_bytes(damaged(chance, text.encode(), text.encode()[::-1]))
        else:
            path.write_text(changed(chance, text))

    def read():
        run = Run.load(path)
        run.config.options()
        for line in (run.environment, *run.metrics):
            str(line).encode()
        assert [metrics.epoch for metrics in run.metrics] == list(range(1, len(run.metrics) + 1))

    try_all(count, RecordError, make, read)


@few_or_many
def test_checkpoints(tmp_path, count):
    model, config = load_weights(weights(tmp_path / "whole.safetensors"))
    optimizer = make_optimizer(model, config)
    model(torch.rand(2, 1, 28, 28)).sum().backward()
    optimizer.step()
    record = Run.from_json(json.dumps(a_run()), "a")
    progress = Progress(epoch=3, step=1, random=(torch.get_rng_state(),), first_steps=(None,))
    save_checkpoint(tmp_path / "a.json", model, optimizer, progress, record)
    path = tmp_path / "a.checkpoint.safetensors"
    content, (tensors, texts) = path.read_bytes(), load_tensors(path)
    del texts["digest"]

    def make(chance):
        """Damage that the digest finds, or that another program has given a digest of its own."""
        if chance.random() < 0.3:
            path.write_bytes(damaged(chance, content, bytes(len(content))))
            return
        other, said = dict(tensors), dict(texts)
        kind = chance.choice(("record", "progress", "tensor", "name"))
        if kind in texts:
            said[kind] = changed(chance, said[kind])
        else:
            name = chance.choice(sorted(other))
            value = other.pop(name)
            value = chance.choice((value, value.flatten()[:1], value.to(torch.int32), value.flatten() * torch.nan))
            other[name if kind == "tensor" else chance.choice(("x", "model", "optimizer.x.y", "random.x", ""))] = value
        save_tensors(path, other, {**said, "digest": _digest(other, said)})

    def read():
        restore(read_checkpoint(tmp_path / "a.json"), model, optimizer)

    try_all(count, RecordError, make, read)
