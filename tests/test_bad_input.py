"""Bad input: one line that says what was wrong and what is allowed, exit code 2, no traceback, nothing left behind."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_files import (
    a_run,
    as_config,
    claiming,
    floats,
    header,
    marked,
    npy,
    npz,
    pictures,
    pipe,
    weights,
    whole_numbers,
    with_images,
)
from PIL import Image

from odelib.cli import main

# Files


NO_MODEL = "does not hold a model of odelib: "

# A data set mnist.npz in a folder of this name: its bytes, and what is said.
STORED = {
    "text": (b"<html>404</html>", "cannot be read (File is not a zip file); delete it to have it downloaded again"),
    "empty": (b"", "cannot be read (File is not a zip file)"),
    "random": (bytes(range(256)) * 9, "cannot be read"),
    "one-array": (npy(), "cannot be read (File is not a zip file)"),
    "cut": (npz()[:-200], "cannot be read"),
    "no-labels": (npz(test_labels=None), "lacks test_labels"),
    "text-member": (with_images(b"these are no numbers"), "cannot be read (the magic string is not correct"),
    "empty-member": (with_images(b""), "cannot be read"),
    "lzma": (with_images(b"\x5d\0\0", compression=14), "cannot be read"),
    "encrypted": (marked(6, 1), "password required"),
    "unknown-compression": (marked(8, 99), "compression"),
    "version-9": (with_images(b"\x93NUMPY\x09\x00" + bytes(80)), "cannot be read"),
    "bracket-header": (with_images(header("(((")), "cannot be read"),
    "quote-header": (with_images(header("'''")), "cannot be read"),
    "indented-header": (with_images(header("  {\n {\n")), "cannot be read"),
    "deep-header": (with_images(header("(" * 4000)), "cannot be read"),
    "long-header": (with_images(header(" " * 60_000)), "cannot be read"),
    "code-header": (with_images(header("__import__('os').abort()")), "cannot be read"),
    "objects": (npz(train_images=np.full((6, 8, 8, 1), None)), "train_images must be (N, H, W, C) uint8"),
    "object-labels": (npz(train_labels=np.array([None] * 6)), "train_labels must be whole numbers, got object"),
    "text-labels": (npz(train_labels=np.array(["a"] * 6)), "train_labels must be whole numbers, got <U1"),
    "byte-labels": (npz(train_labels=np.array([b"1"] * 6)), "train_labels must be whole numbers, got |S1"),
    "void-labels": (npz(train_labels=np.zeros(6, "V3")), "train_labels must be whole numbers, got |V3"),
    "struct-labels": (npz(train_labels=np.zeros(6, [("a", "i4")])), "train_labels must be whole numbers, got [("),
    "float-labels": (npz(train_labels=np.full(6, 1.5)), "train_labels must be whole numbers, got float64"),
    "bool-labels": (npz(train_labels=np.ones(6, bool)), "train_labels must be whole numbers, got bool"),
    "label-10": (npz(train_labels=np.full(6, 10)), "must be whole numbers from 0 to 9, got int64 from 10 to 10"),
    "label-below-0": (npz(test_labels=np.array([0, -1], ">i4")), "from 0 to 9, got >i4 from -1 to 0"),
    "label-beyond-64-bits": (npz(test_labels=np.full(2, 2**64 - 1)), "from 18446744073709551615"),
    "labels-2d": (npz(train_labels=np.zeros((6, 1), np.uint8)), "with one label each"),
    "labels-too-few": (npz(train_labels=np.zeros(5, np.uint8)), "with one label each"),
    "float-images": (npz(train_images=np.zeros((6, 8, 8, 1))), "got (6, 8, 8, 1) float64"),
    "16-bit-images": (npz(train_images=np.zeros((6, 8, 8, 1), np.uint16)), "got (6, 8, 8, 1) uint16"),
    "no-channel-axis": (npz(train_images=np.zeros((6, 8, 8), np.uint8)), "train_images must be (N, H, W, C)"),
    "no-height": (npz(shape=(0, 8, 1)), "train_images must be (N, H, W, C)"),
    "no-channel": (npz(shape=(8, 8, 0)), "train_images must be (N, H, W, C)"),
    "no-image": (npz(n=0), "train_images must be (N, H, W, C)"),
    "other-shape": (
        npz(test_images=np.zeros((2, 9, 8, 1), np.uint8)),
        "differ in shape (H, W, C), (8, 8, 1) and",
    ),
    "beyond-memory": (claiming(10**6, 10**6, 1000), "its images take 8,000,000 GB of memory, and this machine has"),
    "beyond-64-bits": (claiming(10**19, 10**19, 1), "of memory, and this machine has"),
    "negative-shape": (claiming(-8, 8, 1), "train_images must be (N, H, W, C)"),
    "more-than-there-is": (claiming(8, 8, 1), "cannot be read"),
}
# A folder of pictures: what is done to it, and what is said.


def link(target):
    return lambda root: (root / "train" / "cat" / "more").symlink_to(root / target, target_is_directory=True)


def replaced(make, name="0.png"):
    def spoil(root):
        path = root / "train" / "dog" / name
        (root / "train" / "dog" / "0.png").unlink()
        make(path)

    return spoil


def written(content):
    return replaced(lambda path: path.write_bytes(content))


def thin(path):
    Image.new("L", (2000, 1)).save(path)


def empty_class(root):
    for picture in (root / "train" / "dog").iterdir():
        picture.unlink()


def one_class(root):
    for split in ("train", "val"):
        shutil.rmtree(root / split / "dog")


def two_links(root):
    (root / "train" / "cat" / "a").symlink_to(root / "train" / "dog")
    (root / "train" / "dog" / "b").symlink_to(root / "train" / "cat")


def name_with_escape(root):
    for split in ("train", "val"):
        (root / split / "dog").rename(root / split / "dog\x1b[31m")


NO_IMAGE = "0.png is no image that can be read "
SPOILT = {
    "link-to-train": (link("train"), "which is read already; every class needs its own pictures"),
    "link-to-root": (link("."), "which is read already"),
    "link-to-itself": (link("train/cat"), "which is read already"),
    "link-to-the-other": (link("train/dog"), "which is read already"),
    "two-links": (two_links, "which is read already"),
    "link-to-nothing": (
        replaced(lambda path: path.symlink_to("nothing.png")),
        f"{NO_IMAGE}(No such file",
    ),
    "pipe": (replaced(pipe), f"{NO_IMAGE}(it is no file)"),
    "text": (written(b"this is no image"), NO_IMAGE),
    "nothing": (written(b""), NO_IMAGE),
    "half-a-png": (written(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), NO_IMAGE),
    "floats": (replaced(floats, "0.tiff"), "0.tiff is no image that can be read (its numbers have 32 bits (mode F)"),
    "whole-numbers": (replaced(whole_numbers, "0.tiff"), "(mode I), of which no file says what is white; take 8 or 16"),
    "thin": (replaced(thin), "one side is more than 100 times the other: 2000 x 1"),
    "empty-class": (empty_class, "the class dog has no pictures (files *.jpg, "),
    "one-class": (one_class, "needs two classes at least, each a folder of pictures, and has 1"),
    "no-val": (lambda root: shutil.rmtree(root / "val"), "has no folder val/; images belong in"),
    "no-classes": (lambda root: (shutil.rmtree(root / "val"), (root / "val").mkdir()), "needs two classes at least"),
    "another-class": (lambda root: (root / "val" / "dog").rename(root / "val" / "wolf"), "only one has dog, wolf"),
    "escape-codes": (name_with_escape, r"the name of a class must be printable, got 'dog\x1b[31m'"),
}

RECORDS = {
    "empty": ("", "Expecting value"),
    "list": ("[]", "it is no JSON object"),
    "null": ("null", "it is no JSON object"),
    "number": ("3", "it is no JSON object"),
    "half": (json.dumps(a_run())[:-50], "line 1 column"),
    "deep": ("[" * 100_000, "it is nested too deeply"),
    "twice": ('{"parameters": 1, "parameters": 2}', "the key 'parameters' comes twice"),
    "no-fields": ("{}", "config"),
    "surrogate": (json.dumps(a_run(environment={"hardware": "\ud800"})), "surrogates not allowed"),
    "a-field-more": (json.dumps({**a_run(), "notes": "mine"}), "notes"),
    "an-option-more": (json.dumps(a_run(config={"colour": "red"})), "colour"),
    "version-text": (json.dumps({**a_run(), "version": "1"}), "the version must be a whole number from 1, got '1'"),
    "version-0": (json.dumps({**a_run(), "version": 0}), "the version must be a whole number from 1, got 0"),
    "version-true": (json.dumps({**a_run(), "version": True}), "the version must be a whole number from 1, got True"),
    "config-list": (json.dumps({**a_run(), "config": []}), "config"),
    "metrics-numbers": (json.dumps({**a_run(), "metrics": [1, 2]}), "metrics"),
    "nan": (json.dumps(a_run(metrics={"train_loss": float("nan")})), "not JSON compliant"),
    "infinity": (json.dumps(a_run(metrics={"train_loss": float("inf")})), "not JSON compliant"),
    "1e999": (json.dumps(a_run(metrics={"seconds": 12345.5})).replace("12345.5", "1e999"), "not JSON compliant"),
    "400-digits": (
        json.dumps(a_run(metrics={"seconds": 10**400})),
        "the whole number 10000000000000000000... is",
    ),
    "65-bits": (json.dumps(a_run(metrics={"epoch": 2**64})), "is beyond 64 bits"),
    "true-for-1": (json.dumps(a_run(metrics={"epoch": True})), "epoch"),
    "true-for-1.0": (json.dumps(a_run(metrics={"lr": True})), "lr"),
    "epoch-7": (json.dumps(a_run(metrics={"epoch": 7})), "where epoch 1 should be, epoch 7 is"),
    "epoch-twice": (json.dumps(a_run(metrics={"epoch": 2})), "where epoch 1 should be, epoch 2 is"),
    "epoch-below-0": (json.dumps(a_run(metrics={"epoch": -1})), "where epoch 1 should be, epoch -1 is"),
    "too-many-epochs": (json.dumps(a_run(config={"epochs": 1})), "it has 2 epochs of 1"),
    "accuracy-7.5": (json.dumps(a_run(metrics={"test_accuracy": 7.5})), "test_accuracy of epoch 1 cannot be 7.5"),
    "accuracy-below-0": (
        json.dumps(a_run(metrics={"train_accuracy": -0.1})),
        "train_accuracy of epoch 1 cannot be -0",
    ),
    "no-accuracy": (json.dumps(a_run(metrics={"test_accuracy": None})), "neither a test accuracy nor a validation"),
    "seconds-below-0": (json.dumps(a_run(metrics={"seconds": -1.0})), "seconds of epoch 1 cannot be -1.0"),
    "loss-text": (json.dumps(a_run(metrics={"train_loss": "low"})), "train_loss"),
    "lr-below-0": (json.dumps(a_run(config={"lr": -1.0})), "lr must be positive, got -1.0"),
    "method-rk5": (json.dumps(a_run(config={"method": "rk5"})), "unknown method 'rk5'"),
    "width-text": (json.dumps(a_run(config={"width": "wide"})), "width"),
    "width-huge": (json.dumps(a_run(config={"width": 2**40})), "width must be at most 65536, got 1099511627776"),
    "date-number": (json.dumps(a_run(environment={"date": 3})), "environment.date"),
    "long-value": (json.dumps(a_run(environment={"date": [0] * 100_000})), "environment.date"),
}

WEIGHTS = {
    "no-config": (dict(config=None), NO_MODEL + "it says nothing of config"),
    "no-sizes": (dict(channels=None), NO_MODEL + "it says nothing of channels"),
    "newer": (dict(version="2"), "was written by a newer odelib (version 2 of its files)"),
    "version-text": (dict(version="new"), NO_MODEL),
    "config-half": (dict(config="{"), NO_MODEL),
    "config-list": (dict(config="[]"), NO_MODEL + "it is no JSON object"),
    "config-twice": (dict(config='{"width": 8, "width": 8}'), NO_MODEL + "the key 'width' comes twice"),
    "config-more": (dict(config=as_config(colour="red")), NO_MODEL),
    "config-nan": (dict(config=as_config(lr=float("nan"))), NO_MODEL),
    "classes-text": (dict(classes="ten"), NO_MODEL),
    "classes-0": (dict(classes="0"), NO_MODEL + "it is for 1 channels and 0 classes"),
    "classes-below-0": (dict(classes="-1"), NO_MODEL + "it is for 1 channels and -1 classes"),
    "classes-20": (dict(classes="20"), "where the network has (20,) torch.float32"),
    "channels-3": (dict(channels="3"), "where the network has (8, 3, 4, 4) torch.float32"),
    "classes-huge": (dict(classes="9" * 30), NO_MODEL),
    "blocks-huge": (dict(config=as_config(network="resnet", blocks=10**8)), "blocks must be at most 1000"),
    "scales-huge": (dict(config=as_config(network="odenet", scales=10**7)), "scales must be at most 16"),
    "width-huge": (dict(config=as_config(width=65_536)), "where the network has (65536"),
    "a-tensor-less": ({"head.5.bias": None, "head.4.bias": None, "head.4.weight": None}, "is missing"),
    "a-tensor-more": (dict(surplus=torch.zeros(3)), NO_MODEL + "surplus is one too many"),
    "nan": ({"stem.bias": torch.full((8,), torch.nan)}, "stem.bias has numbers that are not finite"),
    "infinity": ({"stem.bias": torch.full((8,), torch.inf)}, "stem.bias has numbers that are not finite"),
    "whole-numbers": ({"stem.bias": torch.ones(8, dtype=torch.int32)}, "stem.bias is (8,) torch.int32"),
    "booleans": ({"stem.bias": torch.ones(8, dtype=torch.bool)}, "stem.bias is (8,) torch.bool"),
    "16-bits": ({"stem.bias": torch.ones(8, dtype=torch.float16)}, "stem.bias is (8,) torch.float16"),
    "complex": ({"stem.bias": torch.ones(8, dtype=torch.complex64)}, "stem.bias is (8,) torch.complex64"),
}


# A checkpoint of the run a-seed0: its bytes, from a file of weights, and what is said.
CHECKPOINTS = {
    "text": (lambda good: b"weights", "a-seed0.checkpoint.safetensors is damaged: "),
    "empty": (lambda good: b"", "a-seed0.checkpoint.safetensors is damaged: "),
    "cut": (lambda good: good.read_bytes()[:-9], "a-seed0.checkpoint.safetensors is damaged: "),
    "weights": (Path.read_bytes, "holds no record of a run; it is no checkpoint of odelib"),
}


@pytest.fixture(scope="session")
def there(tmp_path_factory):
    """A folder with all of these files."""
    root = tmp_path_factory.mktemp("bad")
    for name, (content, _) in STORED.items():
        (root / "stored" / name).mkdir(parents=True)
        (root / "stored" / name / "mnist.npz").write_bytes(content)
    for name, (spoil, _) in SPOILT.items():
        spoil(pictures(root / "pictures" / name))
    pictures(root / "pictures" / "good")
    pictures(root / "pictures" / "others", classes=("apple", "pear"))
    (root / "records").mkdir()
    for name, (text, _) in RECORDS.items():
        (root / "records" / f"{name}.json").write_text(text)
    (root / "records" / "newer.json").write_text('{"version": 2, "news": 1}')
    (root / "records" / "bytes.json").write_bytes(b"\xff\xfe\0")
    pipe(root / "records" / "pipe.json")
    pipe(root / "stored" / "pipe" / "mnist.npz")
    (root / "weights").mkdir()
    pipe(root / "weights" / "pipe.safetensors")
    for name, (change, _) in WEIGHTS.items():
        weights(root / "weights" / f"{name}.safetensors", change)
    good = weights(root / "weights" / "good.safetensors")
    (root / "weights" / "cut.safetensors").write_bytes(good.read_bytes()[:-9])
    (root / "weights" / "text.safetensors").write_text("weights")
    (root / "weights" / "empty.safetensors").touch()
    weights(root / "weights" / "pets.safetensors", channels=3, classes=2, names=("apple", "pear"))
    (root / "file").touch()
    (root / "nowhere").symlink_to(root / "not-there")
    (root / "circle").symlink_to(root / "circle")
    small = npz(shape=(4, 4, 1))
    (root / "small").mkdir()
    (root / "small" / "mnist.npz").write_bytes(small)
    for name, (content, _) in CHECKPOINTS.items():
        (root / "checkpoints" / name).mkdir(parents=True)
        (root / "checkpoints" / name / "a-seed0.checkpoint.safetensors").write_bytes(content(good))
    return root


TRAIN = "train --network none --stem one-shot --width 8 --epochs 1 --batch-size 16 --device cpu --name a"


def rows():
    """A command, and what its one line must hold, parts in any order. {there} is the folder of files."""
    # Which command
    yield "trian", "(see odelib --help)"
    yield "", "(see odelib --help)"
    yield "train --colour red", "(see odelib train --help)"
    yield "train --preset imagenet", "preset"
    yield "train red", "red"
    yield "show", "(see odelib show --help)"
    yield "data mnist cifar10", "cifar10"
    yield "evaluate", "(see odelib evaluate --help)"
    # Options of a run: words that are no values
    for option in ("epochs", "batch-size", "width", "groups", "seed", "train-images", "image-size"):
        for value in ("many", "2.5"):
            yield f"train --{option} {value}", f"--{option}"
        yield f"train --{option} {2**63}", f"{option.replace('-', '_')} must "
        yield f"train --{option} -1", option.replace("-", "_")
    for option in ("lr", "rtol", "momentum", "weight-decay", "dropout", "kinetic", "jacobian", "validation"):
        yield f"train --{option} much", f"--{option}"
        for value in ("nan", "inf"):
            yield f"train --{option} {value}", f"{option.replace('-', '_')} must be a finite number, got {value}"
    for option in ("network", "stem", "norm", "optimizer", "schedule", "augment", "gradient", "library", "order"):
        yield f"train --{option} none-of-these", option
    # Options of a run: values out of range, and that do not fit together
    yield "train --epochs 0", "epochs must be positive, got 0"
    yield "train --image-size 5", "image_size must be at least 6 pixels, got 5"
    yield "train --seed 4294967296", "seed must be below 2**32"
    yield "train --milestones -1 --schedule step", "milestones"
    yield "train --momentum 1", "momentum must be at least 0 and below 1, got 1.0"
    yield "train --width 48", "must be a multiple of 32"
    yield "train --groups 0", "groups must be positive, got 0"
    yield "train --groups 24", "width above 24 must be a multiple of 24 (GroupNorm has 24 groups), got 64"
    yield "train --width 65537", "width must be at most 65536, got 65537"
    yield "train --blocks 1001", "blocks must be at most 1000, got 1001"
    yield "train --scales 17", "scales must be at most 16, got 17"
    yield "train --growth 17", "growth must be at most 16, got 17"
    yield "train --growth 16 --scales 4", "growth 16 in 4 scales leads to over 65536 channels"
    yield (
        "train --zero-start --norm none",
        "zero_start sets the scale of the last norm of f to 0, and norm none has none",
    )
    yield "train --nesterov --optimizer adam", "nesterov is for optimizer sgd with a momentum"
    yield "train --ema 1", "ema must be at least 0 and below 1, got 1.0"
    yield "train --ema 0.9 --norm batch", "ema averages weights, to which the statistics of norm batch would not fit"
    yield "train --extra-channels 65600", "extra_channels must be at most 65536, got 65600"
    yield "train --order 2 --width 7", "order 2 halves the channels of the state; 7 is odd"
    yield "train --method rk5", "unknown method 'rk5'"
    yield "train --method scipy_solver", "unknown method 'scipy_solver'"
    yield "train --step-size 0.1", "step_size is for fixed grids only"
    yield "train --method rk4 --step-size 0", "step_size must be positive, got 0.0"
    yield "train --method rk4 --step-size inf", "step_size must be a finite number, got inf"
    yield "train --method rk4 --step-size 1e-5", "step_size must be at least 0.0001, got 1e-05"
    yield "train --library odelib --method rk4 --step-size 1e-9", "step_size must be at least 0.0001, got 1e-09"
    yield "train --rtol 1e-12 --atol 1e-12", "rtol or atol must be at least 6e-07, ten times the precision of 32 bit"
    yield "train --library odelib --rtol 1e-46 --atol 1e-46", "got rtol=1e-46, atol=1e-46"
    yield "train --rtol 0", "rtol and atol must be positive, got rtol=0, atol=0.001"
    yield "train --method rk4 --gradient seminorm", "'rk4' chooses none, take 'adjoint'"
    yield "train --gradient checkpoint", "take library odelib"
    yield "train --products --bf16", "products need 32-bit numbers; take them, or bf16"
    yield "train --products --rtol 1e-6", "products, which round, need tolerances of at least 0.0001"
    yield "train --warm-start", "warm_start is for adaptive methods of library odelib"
    yield "train --method rk4 --stop-at-t1", "stop_at_t1 is for adaptive methods of library torchdiffeq"
    yield "train --library odelib --stop-at-t1", "stop_at_t1 is for adaptive methods of library torchdiffeq"
    yield "train --dataset ''", "dataset must be a text that is not empty"
    yield "train --dataset 'a\nb'", r"dataset must be a printable text, got 'a\nb'"
    yield "train --dataset mnits", "no data set 'mnits'"
    yield f"train --dataset {'x' * 300}", "no data set 'xxx"
    yield "train --extend", "--extend wants the --name of the run"
    # What does not fit the data
    yield f"{TRAIN} --train-images 2001", "mnist-sample has 2,000 images to train on, not 2,001"
    yield f"{TRAIN} --train-images 2 --validation 0.0001", "leaves no image on one side of 2000"
    yield f"{TRAIN} --dataset mnist --data {{there}}/small --stem conv", "a picture of 4 x 4 pixels does not pass"
    yield (
        f"{TRAIN} --dataset mnist --data {{there}}/small --stem fine --augment reflect-flip",
        "images of 4 x 4 pixels are too small to reflect 4 of them outside",
    )
    yield f"{TRAIN} --dataset {{there}}/pictures/good --image-size 6 --stem conv", "Expected more than 1 value"
    yield (
        f"{TRAIN} --dataset {{there}}/pictures/good --image-size 6 --stem res",
        "Expected more than 1 value",
    )
    yield f"{TRAIN} --network odenet --scales 6", "a picture of 28 x 28 pixels does not pass this network"
    yield f"{TRAIN} --network odenet --products --norm batch", "odelib: products need GroupNorm in f, got BatchNorm2d"
    yield f"{TRAIN} --network odenet --width 65536", "parameters and their gradients take"
    # Names and folders
    for name in ("''", "../up", "/up", "'a\nb'"):
        yield f"{TRAIN} --name {name}", "a name must be a file name inside of"
    yield f"{TRAIN} --out {{there}}/file", "a-seed0.json cannot be written ("
    yield f"{TRAIN} --out /proc/nothing", "a-seed0.json cannot be written"
    yield f"{TRAIN} --name {'x' * 300}", "cannot be written (File name too long)"
    for folder in ("file", "nowhere", "circle"):
        yield f"data mnist --data {{there}}/{folder}", "; choose a folder by --data or $ODELIB_DATA"
    yield "data mnist --data ~nosuchuser/x", "name one by --data or $ODELIB_DATA"
    yield "data nowhere", "no data set 'nowhere'"
    yield "data nowhere --image-size 0", "image_size must be at least 6"
    yield "data {there}/pictures/good --image-size 1000000", "4 pictures of 1000000 x 1000000 pixels take 12,000 GB"
    yield f"data {{there}}/pictures/good --image-size {10**20}", "image_size must have at most 64 bits"
    # Files
    for name, (_, said) in STORED.items():
        yield f"data mnist --data {{there}}/stored/{name}", said
    yield "data mnist --data {there}/stored/pipe", "mnist.npz cannot be read (it is no file)"
    for name, (_, said) in SPOILT.items():
        yield f"data {{there}}/pictures/{name} --image-size 8", said
    for name, (_, said) in RECORDS.items():
        yield f"show {{there}}/records/{name}.json", f"records/{name}.json is not a record of odelib: ", said
    yield "show {there}/records/newer.json", "was written by a newer odelib (version 2 of its files); install that one"
    yield "show nothing.json", "nothing.json cannot be read (No such file or directory)"
    yield "show {there}/records", "records cannot be read (Is a directory)"
    yield "show {there}/records/pipe.json", "pipe.json cannot be read (it is no file)"
    yield "show /dev/zero", "/dev/zero cannot be read (it is no file)"
    yield "show {there}/records/bytes.json", "bytes.json cannot be read"
    yield "show 'a\nb'", r"a\nb cannot be read"
    for name, (_, said) in WEIGHTS.items():
        yield f"evaluate {{there}}/weights/{name}.safetensors", said
    for name in ("cut", "text", "empty"):
        yield f"evaluate {{there}}/weights/{name}.safetensors", f"{name}.safetensors cannot be read as safetensors"
    yield (
        "evaluate nothing.safetensors",
        "nothing.safetensors cannot be read as safetensors (No such file",
    )
    yield "evaluate {there}/weights", "weights cannot be read as safetensors (Is a directory)"
    yield "evaluate {there}/weights/pipe.safetensors", "cannot be read as safetensors (it is no file)"
    good = "evaluate {there}/weights/good.safetensors --device cpu"
    yield f"{good} --dataset cifar10-sample", "these weights are for 1 channels and 10 classes; cifar10-sample has 3"
    yield f"{good} --dataset nowhere", "no data set 'nowhere'"
    yield f"{good} --method rk5", "unknown method 'rk5'"
    yield f"{good} --rtol nan", "rtol must be a finite number, got nan"
    tight = "train --dataset mnist-sample --width 4 --device cpu --rtol 1e-20 --atol 1e-20"
    yield tight, "rtol or atol must be at least 6e-07"
    yield f"{good} --method rk4 --step-size inf", "step_size must be a finite number, got inf"
    pets = "evaluate {there}/weights/pets.safetensors --device cpu --dataset {there}/pictures/others"
    yield pets.replace("others", "good"), "these weights know the classes apple, pear; "
    for name, (_, said) in CHECKPOINTS.items():
        yield f"{TRAIN} --out {{there}}/checkpoints/{name}", said
    # Studies and benchmarks
    yield "study nothing", "nothing"
    study = "study mnist-gradients"
    yield f"{study} --case nothing", "has no case 'nothing'"
    yield f"{study} --seed -1", "seed must not be negative"
    yield f"{study} --measure timing --case none", "--measure measures all cases at once"
    yield f"{study} --measure timing --seed 0", "without --case, --seed, --shard and --status"
    yield f"{study} --measure timing --status", "without --case, --seed, --shard and --status"
    yield "study cifar10-full --measure timing", "no measurement 'timing'; it has cross-solver, confusion"
    yield "study speed --measure cross-solver", "study speed has no measurement 'cross-solver'; it has none"
    yield f"{study} --measure heat", "heat"
    for shard in ("0/3", "4/3", "2", "x/y"):
        yield f"{study} --shard {shard}", f"--shard must be such as 2/3, the second of three, got '{shard}'"
    yield f"{study} --shard 1/2 --measure timing", "--measure measures all cases at once"
    yield f"{study} --confirm", "--confirm wants a measurement; add --measure and its name"
    for alone in ("--images 5", "--measure inference --confirm --images 5"):
        yield f"{study} {alone}", "--images belongs to a new measurement; take it with --measure and without --confirm"
    yield f"{study} --measure timing --images 5", "'timing' takes no number of images; of this study these do: loss"
    yield "study cifar10-full --measure confusion --images 5", "of this study these do: none"
    yield f"{study} --measure inference --images 0", "images must be positive, got 0"
    yield f"{study} --measure figure-3 --images 5", "'figure-3' takes no number of images"
    for option in ("batch-size", "rounds", "images", "threads"):
        yield f"benchmark a --{option} 0", f"{option.replace('-', '_')} must be positive, got 0"
    yield f"benchmark a --threads {2**40}", "threads must be at most the "
    yield "benchmark a --dataset cifar10-sample --out {there}/out --batch-size 601", "at most the 600 images of cifar10"


def split(command):
    """The words of a command, where '' is an empty one and quotes hold together."""
    words, rest = [], command
    while rest.strip():
        rest = rest.lstrip(" ")
        if rest[0] == "'":
            word, _, rest = rest[1:].partition("'")
        else:
            word, _, rest = rest.partition(" ")
        words.append(word)
    return words


ROWS = [(command, said) for command, *said in rows()]
NAMES = [command.encode("unicode_escape").decode()[:90] for command, _ in ROWS]


def test_the_table_is_long_and_repeats_nothing():
    assert len({command for command, _ in ROWS}) == len(ROWS) >= 150


@pytest.mark.skipif(os.name != "posix", reason="pipes, links, /dev and /proc")
@pytest.mark.parametrize("command, said", ROWS, ids=NAMES)
def test_bad_input_is_one_line_and_exit_code_2(command, said, there, capsys, tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(there=there) for word in split(command)]) == 2
    out, said_so = capsys.readouterr()
    assert said_so.startswith("odelib: ") and said_so.count("\n") == 1 and said_so[:-1].isprintable()
    assert [part for part in said if part not in said_so] == [], said_so
    assert len(said_so) < 1000 and out == "" and not recwarn.list
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
