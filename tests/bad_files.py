"""Data sets, records and weights, whole and damaged in many ways; several tests read them."""

import io
import json
import os
import zipfile
from dataclasses import asdict

import numpy as np
import torch
from PIL import Image

from odelib import Config, ImageClassifier, Run
from odelib.records import RESULTS, save_tensors, save_weights

TINY = Config(network="none", stem="one-shot", width=8, epochs=2)

# Stored data sets


def arrays(n=6, shape=(8, 8, 1), **other):
    """The four arrays of a small data set; None leaves one out."""
    made = {
        "train_images": np.arange(n * np.prod(shape)).reshape(n, *shape).astype(np.uint8),
        "train_labels": (np.arange(n) % 10).astype(np.uint8),
        "test_images": np.full((2, *shape), 7, np.uint8),
        "test_labels": np.array([1, 9], np.uint8),
    }
    return {name: value for name, value in {**made, **other}.items() if value is not None}


def npz(**other):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays(**other))
    return file.getvalue()


def with_images(train, test=None, compression=zipfile.ZIP_DEFLATED):
    """A data set, whose images are something else."""
    file, other = io.BytesIO(), {"train_images.npy": train, "test_images.npy": test}
    with zipfile.ZipFile(io.BytesIO(npz())) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            content = other.get(name)
            new.writestr(name, old.read(name) if content is None else content)
    return file.getvalue()


def header(text, version=1):
    """An array's file whose header says this."""
    line = text.encode() + b"\n"
    size = len(line).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + line + bytes(64)


def claiming(*shape):
    """A data set whose images are said to have this height, width and number of channels."""
    claims = [f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(n, *shape)}}}" for n in (6, 2)]
    return with_images(*map(header, claims))


def marked(offset, value):
    """A data set, a byte of whose entries in the zip is another: 6 has the flags, 8 the compression."""
    data = bytearray(npz())
    for start, more in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = -1
        while (at := data.find(start, at + 1)) >= 0:
            data[at + offset + more] = value
    return bytes(data)


def npy():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


# Records


def a_run(**other):
    """The fields of a small record; some of `config`, `environment` and `metrics` (of epoch 1) may be others."""
    values = json.loads(Run.load(RESULTS / "mnist-gradients" / "none-seed0.json").to_json())
    values["config"] = json.loads(json.dumps(asdict(TINY)))
    values["metrics"] = values["metrics"][:2]
    for name, change in other.items():
        part = values[name] if name != "metrics" else values["metrics"][0]
        part.update(change)
    return values


# Weights


def weights(path, change=None, channels=1, classes=10, names=()):
    """Weights as `odelib train` keeps them, but for the texts and tensors in `change`, where None is none."""
    torch.manual_seed(0)
    model = ImageClassifier(TINY, TINY, channels, classes)
    save_weights(path, model, TINY, names)
    if change:
        tensors, texts = {**model.state_dict(), **change}, {"channels": "1", "classes": "10", **change}
        texts = {"config": as_config(), **texts}
        tensors = {name: value for name, value in tensors.items() if isinstance(value, torch.Tensor)}
        save_tensors(path, tensors, {name: value for name, value in texts.items() if isinstance(value, str)})
    return path


def as_config(**options):
    return json.dumps({**asdict(TINY), **options})


# Folders of pictures


def pictures(root, classes=("cat", "dog"), n=2, size=(12, 10)):
    """A small data set of pictures in train/ and val/."""
    for split in ("train", "val"):
        for shade, name in enumerate(classes):
            place = root / split / name
            place.mkdir(parents=True)
            for k in range(n):
                Image.new("RGB", size, (60 * shade + 9 * k, 100, 200)).save(place / f"{k}.png")
    return root


def sixteen_bits(path):
    Image.fromarray(np.array([[0, 257], [257 * 100, 65535]], np.uint16).repeat(6, 0).repeat(6, 1)).save(path)


def floats(path):
    Image.fromarray(np.full((12, 12), 0.5, np.float32)).save(path)


def whole_numbers(path):
    Image.fromarray(np.full((12, 12), 70_000, np.int32)).save(path)


def pipe(path):
    """A file that nobody ever writes to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
