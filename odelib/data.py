"""Data sets as whole tensors in memory: load once, then batch, scale and augment on the device."""

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from odelib.arrays import read_arrays
from odelib.errors import DataError, OptionError, in_one_line
from odelib.options import Options
from odelib.pictures import read_pictures
from odelib.shapes import Float, Int64, UInt8

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Selection(Options):
    """Which images a run trains on, and which it is judged by. Raises OptionError for values out of range."""

    dataset: str = "mnist-sample"  # a name, such as mnist or cifar10, or a folder of images with train/ and val/
    validation: float = 0.0  # share of the training images held out to choose between models
    train_images: int | None = None  # train on this many of the images that are left; none is all of them
    image_size: int = 64  # side in pixels that images of a folder are brought to

    def _check(self) -> None:
        self._must_be_a_share("validation")
        self._must_be_positive("train_images")
        if self.image_size < 6:
            raise OptionError(f"image_size must be at least 6 pixels, got {self.image_size}")


@dataclass(frozen=True)
class Images:
    """Images (n, channels, height, width) as uint8 and their class numbers (n,)."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> "Images":
        return Images(self.images.to(device), self.labels.to(device))

    def pick(self, index: Tensor | slice) -> "Images":
        return Images(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Dataset:
    """A data set by its name, with its classes in the order of their numbers."""

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    validation: Images | None = None

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    def to(self, device: torch.device | str) -> "Dataset":
        validation = None if self.validation is None else self.validation.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), validation=validation)

    def digest(self) -> str:
        """A digest of all images, their labels and the names of the classes, in their order."""
        found = hashlib.blake2b(repr(self.classes).encode(), digest_size=8)
        for part in (self.train, self.test, self.validation):
            for tensor in (part.images, part.labels) if part else ():
                found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                found.update(tensor.cpu().contiguous().numpy().data)
        return found.hexdigest()

    def hold_out(self, share: float) -> "Dataset":
        """Move this share of the training images to `validation`: the same ones every time, whatever the seed.

        Raises DataError where that leaves none on one side.
        """
        order = _shuffled(len(self.train))
        n = round(share * len(self.train))
        if not 0 < n < len(self.train):
            raise DataError(f"a validation share of {share:g} leaves no image on one side of {len(self.train)}")
        return replace(self, train=self.train.pick(order[n:]), validation=self.train.pick(order[:n]))

    def limit(self, n: int) -> "Dataset":
        """Keep `n` of the training images, drawn at random: the same ones every time, whatever the seed.

        Raises DataError where there are fewer.
        """
        if n > len(self.train):
            raise DataError(f"{self.name} has {len(self.train):,} images to train on, not {n:,}")
        return replace(self, train=self.train.pick(_shuffled(len(self.train))[:n]))


def _shuffled(n: int) -> Tensor:
    """The numbers from 0 to n - 1 in an order that never changes."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))


DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


# name: (classes, the class of torchvision.datasets that downloads it, or None for a sample inside the package)
SETS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "mnist-sample": (DIGITS, None),
    "fashion-mnist-sample": (CLOTHES, None),
    "cifar10-sample": (THINGS, None),
    "mnist": (DIGITS, "MNIST"),
    "fashion-mnist": (CLOTHES, "FashionMNIST"),
    "cifar10": (THINGS, "CIFAR10"),
    "svhn": (DIGITS, "SVHN"),
}
NAMES = tuple(SETS)


def data_root(root: str | Path | None = None) -> Path:
    """Where full data sets are kept: `root`, else $ODELIB_DATA, else ~/.cache/odelib. Raises DataError."""
    try:
        return Path(root or os.environ.get("ODELIB_DATA") or Path.home() / ".cache" / "odelib").expanduser()
    except RuntimeError as error:  # a user who is not there, or has no home
        raise DataError(
            f"no folder for data sets ({in_one_line(error)}); name one by --data or $ODELIB_DATA"
        ) from error


def load_dataset(name: str, root: str | Path | None = None, image_size: int = 64) -> Dataset:
    """The data set of that name (`NAMES`), or of the folder with that path, or with that name in the data root.

    Samples come with the package. A full set is read from `<root>/<name>.npz`, and is downloaded into it once when
    it is not there. A folder holds `train/<class>/*` and `val/<class>/*`; its images are brought to
    `image_size` x `image_size` pixels. Raises DataError.
    """
    if name in SETS:
        classes, download = SETS[name]
        if download is None:
            return _read(name, classes, SAMPLES / f"{name}.npz", again="install odelib again")
        path = data_root(root) / f"{name}.npz"
        if not path.exists():
            _download(name, download, path)
        return _read(name, classes, path, again="delete it to have it downloaded again")
    for folder in (Path(name), data_root(root) / name):
        if os.path.isdir(folder):  # which takes names that no file can have
            return _read_folder(folder, image_size)
    folders = f"a folder of images, by its path or its name in {data_root(root)}"
    raise DataError(f"no data set {name!r}: choose from {', '.join(NAMES)}, or {folders}")


def prepare(data: Dataset, selection: Selection) -> Dataset:
    """The images that `selection` trains on and holds out, before anything looks at them. Raises DataError."""
    if selection.validation and data.validation is None:
        data = data.hold_out(selection.validation)
    return data if selection.train_images is None else data.limit(selection.train_images)


def _read(name: str, classes: tuple[str, ...], path: Path, again: str) -> Dataset:
    try:
        arrays = read_arrays(path, len(classes))
    except DataError as error:
        raise DataError(f"{error}; {again}") from error
    splits = []
    for split in ("train", "test"):
        # A clone, since contiguous() leaves the strides of images of one channel, and convolutions then take them for
        # channels last, which is slower on a CPU.
        images = torch.from_numpy(arrays[f"{split}_images"]).permute(0, 3, 1, 2)
        pixels = images.clone(memory_format=torch.contiguous_format)
        splits.append(Images(pixels, torch.from_numpy(arrays[f"{split}_labels"])))
    return Dataset(name, classes, *splits)


def _download(name: str, kind: str, path: Path) -> None:
    from torchvision import datasets  # late, since its import takes longer than torch's own

    arrays = {}
    failed = f"{name} could not be downloaded to {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{failed} ({in_one_line(error)}); choose a folder by --data or $ODELIB_DATA") from error
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            for split in ("train", "test"):
                which = {"split": split} if kind == "SVHN" else {"train": split == "train"}
                part = getattr(datasets, kind)(folder, download=True, **which)
                images = np.asarray(part.data)
                if images.ndim == 3:  # MNIST and Fashion-MNIST have no channel axis
                    images = images[..., None]
                elif images.shape[1] == 3:  # SVHN has it first
                    images = images.transpose(0, 2, 3, 1)
                arrays[f"{split}_images"] = images
                labels = part.labels if kind == "SVHN" else part.targets
                arrays[f"{split}_labels"] = np.asarray(labels, dtype=np.uint8)
            finished = Path(folder) / path.name
            np.savez(finished, **arrays)  # type: ignore[arg-type]  # its stub takes one for allow_pickle
            finished.replace(path)  # so that an interrupted download never leaves half a file
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(
            f"{failed} ({in_one_line(error)}); "
            f"connect to the network, or put {path.name} there, or take a set whose name ends in -sample"
        ) from error


def _read_folder(folder: Path, size: int) -> Dataset:
    splits, classes = [], {}
    for split in ("train", "val"):
        if not (folder / split).is_dir():
            raise DataError(f"{folder} has no folder {split}/; images belong in {folder}/{split}/<class>/")
        classes[split], pictures, labels = read_pictures(folder / split, size)
        splits.append(Images(pictures, labels))
    if classes["train"] != classes["val"]:
        different = sorted(set(classes["train"]) ^ set(classes["val"]))
        raise DataError(f"{folder}: train/ and val/ must have the same classes, only one has {', '.join(different)}")
    return Dataset(folder.name, classes["train"], *splits)


def batches(
    data: Images, size: int, augment: str = "none", generator: torch.Generator | None = None
) -> Iterator[tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]]:
    """Batches of images in [0, 1] with their labels, on the device of `data`.

    With a `generator` the order is random, images are augmented, and a last batch that is not full is left out, but
    for an only one, so that every step sees equally many images. Without one: every image once, in order.
    """
    n, device = len(data), data.labels.device
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    full = n if generator is None or n < size else n - n % size
    for index in order[:full].to(device).split(size):  # one copy a pass: each would wait for the device
        batch = data.pick(index)
        images = batch.images.float() / 255
        for change in AUGMENTATIONS[augment] if generator is not None else ():
            images = change(images, generator)
        yield images, batch.labels


def random_crop(
    images: Float[Tensor, "b c h w"], generator: torch.Generator, padding: int = 4, outside: str = "constant"
) -> Float[Tensor, "b c h w"]:
    """Shift every image by its own -padding..padding pixels along both axes.

    What comes in from outside is zero, or as `outside` says (the modes of `torch.nn.functional.pad`). Raises
    OptionError for images that are too small to be reflected there.
    """
    n, channels, height, width = images.shape
    if outside == "reflect" and padding >= min(height, width):
        raise OptionError(f"images of {height} x {width} pixels are too small to reflect {padding} of them outside")
    padded = F.pad(images, (padding,) * 4, mode=outside)
    down, right = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator)
    rows = (down + torch.arange(height)).to(images.device)
    columns = (right + torch.arange(width)).to(images.device)
    image = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_flip(images: Float[Tensor, "b c h w"], generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    """Mirror about half of the images left to right."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flip.to(images.device)[:, None, None, None], images.flip(-1), images)


def random_affine(
    images: Float[Tensor, "b c h w"],
    generator: torch.Generator,
    degrees: float = 10.0,
    scale: float = 0.1,
    shift: float = 2.0,
) -> Float[Tensor, "b c h w"]:
    """Turn every image by its own -degrees..degrees, scale it by 1 - scale to 1 + scale, after a shift by up
    to `shift` pixels along both axes; zeros come in from outside, values between pixels are interpolated linearly."""
    n, _, height, width = images.shape
    turn, size, right, down = torch.rand(4, n, generator=generator) * 2 - 1
    angle, size = math.radians(degrees) * turn, 1 / (1 + scale * size)
    cos, sin = size * angle.cos(), size * angle.sin()
    # Where a pixel of the result comes from. Coordinates go from -1 to 1, whatever the height and the width.
    rows = [cos, -sin * height / width, 2 * shift / width * right, sin * width / height, cos, 2 * shift / height * down]
    grid = F.affine_grid(torch.stack(rows, dim=1).view(n, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.device), align_corners=False)


# What training does to the images of a batch, one after the other.
AUGMENTATIONS: dict[str, tuple[Callable[..., Tensor], ...]] = {
    "none": (),
    "crop": (random_crop,),
    "crop-flip": (random_crop, random_flip),
    "reflect-flip": (partial(random_crop, outside="reflect"), random_flip),
    "affine": (random_affine,),
}
