"""Data sets as whole tensors in memory: load once, then batch, scale and augment on the device."""

import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from odelib.errors import DataError, OptionError
from odelib.options import Options
from odelib.shapes import Float, Int64, UInt8

SAMPLES = Path(__file__).parent / "samples"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


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
        """Move this share of the training images to `validation`: the same ones every time, whatever the seed."""
        order = _shuffled(len(self.train))
        n = round(share * len(self.train))
        if not 0 < n < len(self.train):
            raise DataError(f"a validation share of {share:g} leaves no image on one side of {len(self.train)}")
        return replace(self, train=self.train.pick(order[n:]), validation=self.train.pick(order[:n]))

    def limit(self, n: int) -> "Dataset":
        """Keep `n` of the training images, drawn from all classes: the same ones every time, whatever the seed."""
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
    """Where full data sets are kept: `root`, else $ODELIB_DATA, else ~/.cache/odelib."""
    return Path(root or os.environ.get("ODELIB_DATA") or Path.home() / ".cache" / "odelib").expanduser()


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
        if folder.is_dir():
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
        file = np.load(path)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("a single array, not an npz file")
        with file:
            missing = [key for key in ARRAYS if key not in file]
            if missing:
                raise DataError(f"{path} lacks {', '.join(missing)}; {again}")
            arrays = {key: file[key] for key in ARRAYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {again}") from error
    splits = []
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.ndim != 4 or images.dtype != np.uint8 or labels.shape != images.shape[:1] or not len(labels):
            raise DataError(
                f"{path}: {split}_images must be (N, H, W, C) uint8 with one label each, "
                f"got {images.shape} {images.dtype} and labels {labels.shape}; {again}"
            )
        if labels.dtype.kind not in "ui" or labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(
                f"{path}: {split}_labels must be whole numbers from 0 to {len(classes) - 1}, "
                f"got {labels.dtype} from {labels.min()} to {labels.max()}; {again}"
            )
        # A clone, since contiguous() leaves the strides of images of one channel, and convolutions then take them for
        # channels last, which is slower on a CPU.
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
        splits.append(Images(pixels, torch.from_numpy(labels).long()))
    train, test = splits
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = [tuple(part.images.shape[1:]) for part in splits]
        raise DataError(f"{path}: train_images and test_images differ in shape, (C, H, W) {shapes}; {again}")
    return Dataset(name, classes, train, test)


def _first_line(error: Exception) -> str:
    """What an error says, cut to one line; some say nothing but their name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _download(name: str, kind: str, path: Path) -> None:
    from torchvision import datasets  # late, since its import takes longer than torch's own

    arrays = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
            f"{name} could not be downloaded to {path} ({_first_line(error)}); "
            f"connect to the network, or put {path.name} there, or take a set whose name ends in -sample"
        ) from error


def _read_folder(folder: Path, size: int) -> Dataset:
    from torchvision import datasets  # late, as above
    from torchvision.transforms import v2 as transforms

    shape = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()])
    splits, classes = [], {}
    for split in ("train", "val"):
        if not (folder / split).is_dir():
            raise DataError(f"{folder} has no folder {split}/; images belong in {folder}/{split}/<class>/")
        try:
            part = datasets.ImageFolder(str(folder / split))
        except FileNotFoundError as error:
            raise DataError(f"{folder / split}: {_first_line(error)}") from error
        images = []
        for path, _ in part.samples:
            try:
                images.append(shape(part.loader(path)))
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # damaged or huge
                raise DataError(f"{path} is no image that can be read ({_first_line(error)})") from error
        splits.append(Images(torch.stack(images), torch.tensor(part.targets)))
        classes[split] = tuple(part.classes)
    if classes["train"] != classes["val"]:
        different = sorted(set(classes["train"]) ^ set(classes["val"]))
        raise DataError(f"{folder}: train/ and val/ must have the same classes, only one has {', '.join(different)}")
    return Dataset(folder.name, classes["train"], *splits)


def batches(
    data: Images, size: int, augment: str = "none", generator: torch.Generator | None = None
) -> Iterator[tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]]:
    """Batches of images in [0, 1] with their labels, on the device of `data`.

    With a `generator` the order is random, images are augmented, and a last batch that is not full is left out, so
    that every step sees equally many images. Without one: every image once, in order.
    """
    n, device = len(data), data.labels.device
    order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
    full = n if generator is None or n < size else n - n % size
    for index in order[:full].to(device).split(size):  # one copy a pass: each would wait for the device
        batch = data.pick(index)
        images = batch.images.float() / 255
        if generator is not None and augment != "none":
            images = random_crop(images, generator)
            if augment == "crop-flip":
                images = random_flip(images, generator)
        yield images, batch.labels


def random_crop(
    images: Float[Tensor, "b c h w"], generator: torch.Generator, padding: int = 4
) -> Float[Tensor, "b c h w"]:
    """Shift every image by its own -padding..padding pixels along both axes; zeros come in from outside."""
    n, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
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
