"""Stored data sets: one npz file, whose arrays are looked at before they are read."""

import math
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from odelib.errors import DataError, in_one_line
from odelib.machine import beyond_memory, must_be_a_file

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

Header = tuple[tuple[int, ...], np.dtype]


def read_arrays(path: Path, classes: int) -> dict[str, np.ndarray]:
    """`ARRAYS` of a file: images (n, h, w, c) as uint8, labels (n,) as int64 from 0 to `classes` - 1.

    Their headers must fit together, and into memory, before anything else is read. Raises DataError.
    """
    try:
        must_be_a_file(path)
        with warnings.catch_warnings(), zipfile.ZipFile(path) as file:
            warnings.simplefilter("ignore")  # of strange headers, which are refused below
            names = file.namelist()
            missing = [key for key in ARRAYS if f"{key}.npy" not in names]
            if missing:
                raise DataError(f"{path} lacks {', '.join(missing)}")
            headers = {}
            for key in ARRAYS:
                with file.open(f"{key}.npy") as member:
                    headers[key] = _header(member)
            _must_fit(path, headers)
            arrays = {}
            for key in ARRAYS:
                with file.open(f"{key}.npy") as member:
                    arrays[key] = np.lib.format.read_array(member)
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise anything in those who read it
        raise DataError(f"{path} cannot be read ({in_one_line(error)})") from error
    for split in ("train", "test"):
        labels = arrays[f"{split}_labels"]
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise DataError(
                f"{path}: {split}_labels must be whole numbers from 0 to {classes - 1}, "
                f"got {labels.dtype} from {low} to {high}"
            )
        arrays[f"{split}_labels"] = labels.astype(np.int64)
    return arrays


def _header(member: Any) -> Header:
    shape, _, dtype = _HEADERS[np.lib.format.read_magic(member)](member)
    return shape, dtype


def _must_fit(path: Path, headers: dict[str, Header]) -> None:
    """Raise DataError where the arrays that are declared are no data set, or too large for this machine."""
    for split in ("train", "test"):
        (images, kind), (labels, kind_of_labels) = headers[f"{split}_images"], headers[f"{split}_labels"]
        if len(images) != 4 or min(images) < 1 or kind != np.uint8 or labels != images[:1]:
            raise DataError(
                f"{path}: {split}_images must be (N, H, W, C) uint8 with one label each, "
                f"got {images} {kind} and labels {labels}"
            )
        if kind_of_labels.kind not in "ui":
            raise DataError(f"{path}: {split}_labels must be whole numbers, got {kind_of_labels}")
    train, test = (headers[f"{split}_images"][0] for split in ("train", "test"))
    if train[1:] != test[1:]:
        raise DataError(f"{path}: train_images and test_images differ in shape (H, W, C), {train[1:]} and {test[1:]}")
    size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in headers.values())
    if beyond_memory(size):
        raise DataError(f"{path}: its images take {beyond_memory(size)}")
