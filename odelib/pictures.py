"""Pictures: a folder of them, class by class, as tensors of one size."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from odelib.errors import DataError, in_one_line
from odelib.machine import beyond_memory, must_be_a_file
from odelib.shapes import Int64, UInt8

LONGEST = 100  # times that the longer side of a picture may be the shorter one


def read_pictures(folder: Path, size: int) -> tuple[tuple[str, ...], UInt8[Tensor, "n 3 h w"], Int64[Tensor, "n"]]:
    """The pictures below `folder`, whose folders are the classes: the classes in order, the pictures, their classes.

    A picture is turned as its camera was held, its shorter side brought to `size` pixels, and its centre taken. Numbers
    of 16 bits are scaled to 8. Raises DataError for what is no picture, for links that lead to a folder that is read
    already, and for more than the memory holds.
    """
    from torchvision.transforms import v2 as transforms  # late, since its import takes longer than torch's own

    shape = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()])
    try:
        classes, found = _found(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({in_one_line(error)})") from error
    too_much = beyond_memory(len(found) * 3 * size**2)
    if too_much:
        raise DataError(f"{folder}: {len(found):,} pictures of {size} x {size} pixels take {too_much}")
    pictures = torch.empty(len(found), 3, size, size, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd pictures that can be read all the same
        for picture, (path, _) in zip(pictures, found):
            try:
                picture.copy_(shape(_picture(path)))
            except Exception as error:  # a damaged picture can raise anything in those who read it
                raise DataError(f"{path} is no image that can be read ({in_one_line(error)})") from error
    return classes, pictures, torch.tensor([label for _, label in found])


def _found(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """The names of the classes in order, and every picture with the number of its class."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    classes = sorted(place.name for place in folder.iterdir() if place.is_dir())
    if len(classes) < 2:
        raise DataError(f"{folder} needs two classes at least, each a folder of pictures, and has {len(classes)}")
    found: list[tuple[Path, int]] = []
    here = folder.resolve()
    seen = {here, *here.parents}
    for label, name in enumerate(classes):
        if not name.isprintable():
            raise DataError(f"{folder}: the name of a class must be printable, got {name!r}")
        before = len(found)
        for place, files in sorted(_folders(folder / name, seen)):
            found += [(place / file, label) for file in sorted(files) if file.lower().endswith(IMG_EXTENSIONS)]
        if len(found) == before:
            raise DataError(f"{folder}: the class {name} has no pictures (files *{', *'.join(IMG_EXTENSIONS)})")
    return tuple(classes), found


def _folders(top: Path, seen: set[Path]) -> Iterator[tuple[Path, list[str]]]:
    """The folders at and below `top`, links included, with their files. None may be in `seen`, where it then is."""

    def refuse(error: OSError) -> None:
        raise error

    for name, _, files in os.walk(top, onerror=refuse, followlinks=True):
        place, real = Path(name), Path(name).resolve()
        if real in seen:
            raise DataError(f"{place} leads to {real}, which is read already; every class needs its own pictures")
        seen.add(real)
        yield place, files


def _picture(path: Path) -> Image.Image:
    """A picture in colours of 8 bits, upright. Raises OSError, ValueError, and whatever reads its format."""
    must_be_a_file(path)
    with Image.open(path) as file:
        if max(file.size) > LONGEST * min(file.size):
            raise ValueError(f"one side is more than {LONGEST} times the other: {file.width} x {file.height}")
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith("I;16") or (picture.mode == "I" and file.format == "PNG"):  # in older Pillows
            picture = Image.fromarray((np.asarray(picture) / 257).round().astype(np.uint8))
        elif picture.mode in ("I", "F"):
            raise ValueError(
                f"its numbers have 32 bits (mode {picture.mode}), of which no file says what is white; take 8 or 16"
            )
        return picture.convert("RGB")
