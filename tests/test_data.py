"""Data: what the samples hold, how batches are made, what is said about data that cannot be had."""

import gzip
import http.client
import io
import math
import struct
import urllib.error
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from bad_files import arrays, npy, npz
from PIL import Image
from torchvision import datasets
from torchvision.datasets.utils import extract_archive

import odelib.data
from odelib import DataError, Images, OptionError, Selection, load_dataset, prepare
from odelib.data import AUGMENTATIONS, NAMES, batches, data_root, random_affine, random_crop, random_flip

# Samples


@pytest.mark.parametrize(
    "name, shape, train, test",
    [
        ("mnist-sample", (1, 28, 28), 2000, 1000),
        ("fashion-mnist-sample", (1, 28, 28), 1000, 500),
        ("cifar10-sample", (3, 32, 32), 600, 300),
    ],
)
def test_samples_hold_equally_many_images_of_every_class(name, shape, train, test):
    data = load_dataset(name)
    assert data.name == name and len(data.classes) == 10 and data.channels == shape[0] and data.validation is None
    for part, n in ((data.train, train), (data.test, test)):
        assert len(part) == n
        assert part.images.shape == (n, *shape) and part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert part.labels.bincount().tolist() == [n // 10] * 10
        assert part.images.max() == 255 and part.images.min() == 0


@pytest.mark.parametrize("name", ["mnist-sample", "fashion-mnist-sample", "cifar10-sample"])
def test_no_test_image_of_a_sample_is_a_training_image(name):
    data = load_dataset(name)
    train, test = ({image.numpy().tobytes() for image in part.images} for part in (data.train, data.test))
    assert not train & test


def test_samples_need_no_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("ODELIB_DATA", str(tmp_path / "nowhere"))
    load_dataset("mnist-sample")
    assert not (tmp_path / "nowhere").exists()


def test_a_sample_that_is_gone_is_a_matter_of_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr(odelib.data, "SAMPLES", tmp_path)
    with pytest.raises(DataError, match="mnist-sample.npz cannot be read .*install odelib again"):
        load_dataset("mnist-sample")


def test_data_root_is_the_argument_else_the_variable_else_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ODELIB_DATA", str(tmp_path))
    assert data_root("here") == Path("here")
    assert data_root() == tmp_path
    monkeypatch.delenv("ODELIB_DATA")
    assert data_root() == Path.home() / ".cache" / "odelib"
    assert data_root("~/digits") == Path.home() / "digits"


# Held-out images


def numbered(n, classes=3):
    """`n` one-pixel images, all different, with labels in turns."""
    return Images(torch.arange(n, dtype=torch.uint8)[:, None, None, None], torch.arange(n) % classes)


def test_held_out_images_are_no_longer_trained_on_and_none_is_lost(tiny):
    data = replace(tiny, train=numbered(50)).hold_out(0.3)
    train, validation = (part.images.flatten().tolist() for part in (data.train, data.validation))
    assert len(validation) == 15 and len(train) == 35
    assert sorted(train + validation) == list(range(50))
    assert all(part.labels.equal(part.images.flatten().long() % 3) for part in (data.train, data.validation))
    assert data.test is tiny.test


def test_the_same_images_are_held_out_every_time(tiny):
    torch.manual_seed(1)
    first = tiny.hold_out(0.3)
    torch.manual_seed(2)
    again = tiny.hold_out(0.3)
    assert torch.equal(first.validation.images, again.validation.images)


def test_a_limited_training_set_is_part_of_the_whole_and_the_same_every_time(tiny):
    data = replace(tiny, train=numbered(60))
    torch.manual_seed(1)
    first = data.limit(30)
    torch.manual_seed(2)
    assert torch.equal(first.train.images, data.limit(30).train.images)
    numbers = first.train.images.flatten().long()
    assert len(set(numbers.tolist())) == 30 and torch.equal(first.train.labels, numbers % 3)
    assert first.test is data.test


def test_a_limit_draws_from_all_classes_though_a_folder_is_sorted_by_class(tiny):
    images = numbered(90)
    data = replace(tiny, train=images.pick(images.labels.argsort())).limit(30)
    assert data.train.labels.bincount(minlength=3).min() >= 5


def test_held_out_images_are_of_all_classes_though_a_folder_is_sorted_by_class(tiny):
    """Unshuffled, the first class would vanish from what is trained on."""
    images = numbered(90)
    data = replace(tiny, train=images.pick(images.labels.argsort())).hold_out(1 / 3)
    for part in (data.train, data.validation):
        assert part.labels.bincount(minlength=3).min() >= 5


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_that_leaves_no_image_on_one_side_is_refused(tiny, share):
    """48 images: a thousandth of them is none."""
    with pytest.raises(DataError, match=f"a validation share of {share} leaves no image on one side of 48"):
        prepare(tiny, Selection(validation=share))


def test_what_is_asked_for_is_held_out_and_of_the_rest_so_many_are_left(tiny):
    data = replace(tiny, train=numbered(60))
    assert prepare(data, Selection()) is data
    held_out = prepare(data, Selection(validation=0.25))
    assert len(held_out.train) == 45 and len(held_out.validation) == 15
    limited = prepare(data, Selection(train_images=20))
    assert torch.equal(limited.train.images, data.limit(20).train.images) and limited.validation is None
    both = prepare(data, Selection(validation=0.25, train_images=20))
    assert torch.equal(both.validation.images, held_out.validation.images) and len(both.train) == 20
    train, rest = (set(part.images.flatten().tolist()) for part in (both.train, held_out.train))
    assert train < rest and both.test is data.test


def test_images_are_prepared_once(tiny):
    """Whoever hands over prepared data gets no fewer."""
    selection = Selection(validation=0.25, train_images=20)
    once = prepare(replace(tiny, train=numbered(60)), selection)
    again = prepare(once, selection)
    assert torch.equal(again.validation.images, once.validation.images)
    assert set(again.train.images.flatten().tolist()) == set(once.train.images.flatten().tolist())


def test_a_data_set_moves_as_a_whole(tiny):
    """To a device that only remembers shapes, as on a GPU."""
    data = tiny.hold_out(0.25).to("meta")
    for part in (data.train, data.test, data.validation):
        assert part.images.device.type == part.labels.device.type == "meta"
    assert tiny.to("meta").validation is None


def test_more_images_than_there_are_cannot_be_kept(tiny):
    assert len(tiny.limit(48).train) == 48
    with pytest.raises(DataError, match="mnist-sample has 48 images to train on, not 49"):
        tiny.limit(49)


# Batches


def test_without_a_generator_every_image_comes_once_in_order():
    data = numbered(10)
    found = list(batches(data, 4, augment="crop"))
    assert [len(x) for x, _ in found] == [4, 4, 2]
    x, y = (torch.cat(parts) for parts in zip(*found))
    assert torch.equal(x, data.images.float() / 255) and torch.equal(y, data.labels)


def test_with_a_generator_images_are_shuffled_and_the_last_partial_batch_is_left_out():
    data = numbered(10)
    found = list(batches(data, 4, generator=torch.Generator().manual_seed(0)))
    assert [len(x) for x, _ in found] == [4, 4]
    numbers = (torch.cat([x for x, _ in found]) * 255).round().long().flatten()
    assert len(set(numbers.tolist())) == 8 and numbers.tolist() != sorted(numbers.tolist())
    assert torch.equal(torch.cat([y for _, y in found]), numbers % 3)  # every image has kept its label


def test_order_is_that_of_the_generator_and_changes_from_pass_to_pass():
    def order(generator):
        return torch.cat([y for _, y in batches(numbered(40, classes=40), 8, generator=generator)]).tolist()

    generator = torch.Generator().manual_seed(0)
    first, second = order(generator), order(generator)
    assert first != second
    assert first == order(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("generator", [None, 0])
def test_fewer_images_than_a_batch_make_one_batch_of_all(generator):
    generator = None if generator is None else torch.Generator().manual_seed(generator)
    ((x, y),) = batches(numbered(3), 128, generator=generator)
    assert sorted(y.tolist()) == [0, 1, 2] and x.shape == (3, 1, 1, 1)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_augmented_batches_keep_shape_type_and_range(augment):
    data = load_dataset("cifar10-sample").train.pick(slice(0, 40))
    ((x, _),) = batches(data, 40, augment, torch.Generator().manual_seed(0))
    assert x.shape == (40, 3, 32, 32) and x.dtype == torch.float32
    assert x.min() >= 0 and x.max() <= 1


def test_augmentation_does_what_its_name_says():
    """One white pixel in the left half: `none` keeps it there, `crop` shifts it, `crop-flip` also mirrors it, and so
    does `reflect-flip`, in whose copies of the border is nothing here."""
    images = torch.zeros(64, 1, 20, 20, dtype=torch.uint8)
    images[:, :, 10, 5] = 255
    data = Images(images, torch.zeros(64, dtype=torch.int64))

    def columns(augment):
        ((x, _),) = batches(data, 64, augment, torch.Generator().manual_seed(0))
        assert x.sum(dim=(1, 2, 3)).eq(1).all()
        return set(torch.nonzero(x)[:, 3].tolist())

    assert columns("none") == {5}
    assert columns("crop") == set(range(1, 10))
    for augment in ("crop-flip", "reflect-flip"):
        assert columns(augment) == set(range(1, 10)) | set(range(10, 19))


def test_random_crop_moves_every_image_by_its_own_shift_of_at_most_the_padding():
    n, at = 300, 10
    images = torch.zeros(n, 2, 21, 21)
    images[:, 0, at, at] = 1
    images[:, 1, at, at] = 2
    moved = random_crop(images, torch.Generator().manual_seed(0), padding=3)
    assert moved.shape == images.shape
    where = torch.nonzero(moved[:, 0])
    assert torch.equal(where, torch.nonzero(moved[:, 1]))  # channels move together
    shifts = where[:, 1:] - at
    assert len(shifts) == n
    assert {tuple(shift) for shift in shifts.tolist()} == {
        (down, right) for down in range(-3, 4) for right in range(-3, 4)
    }


def test_random_crop_by_nothing_is_the_identity_and_zeros_come_in_from_outside():
    images = torch.rand(5, 1, 6, 6) + 1
    assert torch.equal(random_crop(images, torch.Generator().manual_seed(0), padding=0), images)
    generator = torch.Generator().manual_seed(0)
    down, right = torch.randint(0, 5, (2, 5, 1), generator=torch.Generator().manual_seed(0))
    for image, moved, i, j in zip(images, random_crop(images, generator, padding=2), down, right):
        padded = torch.zeros(1, 10, 10)
        padded[:, 2:8, 2:8] = image
        assert torch.equal(moved, padded[:, i : i + 6, j : j + 6])


def test_random_crop_reflects_what_comes_in_from_outside():
    image = torch.rand(1, 2, 6, 5)
    padded = F.pad(image, (3,) * 4, mode="reflect")
    places = [padded[..., i : i + 6, j : j + 5] for i in range(7) for j in range(7)]
    for seed in range(20):
        moved = random_crop(image, torch.Generator().manual_seed(seed), padding=3, outside="reflect")
        assert sum(torch.equal(moved, place) for place in places) == 1


def test_images_that_are_too_small_are_not_reflected():
    with pytest.raises(OptionError, match="images of 4 x 9 pixels are too small to reflect 4 of them outside"):
        random_crop(torch.rand(2, 1, 4, 9), torch.Generator(), outside="reflect")


def affine(images, seed=0, **ranges):
    return random_affine(
        images, torch.Generator().manual_seed(seed), **(dict(degrees=0.0, scale=0.0, shift=0.0) | ranges)
    )


def test_random_affine_by_nothing_is_the_identity():
    images = torch.rand(5, 2, 8, 6)
    torch.testing.assert_close(affine(images), images)


def drawn(n, seed=0):
    """The four numbers in [-1, 1] for each of n images: turn, size, right, down."""
    return torch.rand(4, n, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("height, width", [(21, 21), (21, 33)])
def test_random_affine_turns_scales_and_shifts_as_its_numbers_say(height, width):
    """A blob beside the middle of each image lands where elementary geometry puts it, in pixels."""
    n, down, right = 6, 4.0, 6.0
    rows, columns = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    blob = torch.exp(-((rows - down) ** 2 + (columns - right) ** 2) / 2)
    turn, size, across, along = drawn(n)
    cases = {
        "shift": (dict(shift=2.0), -2 * along + down, -2 * across + right),
        "scale": (dict(scale=0.2), down * (1 + 0.2 * size), right * (1 + 0.2 * size)),
        "degrees": (
            dict(degrees=40.0),
            down * torch.cos(math.radians(40) * turn) - right * torch.sin(math.radians(40) * turn),
            right * torch.cos(math.radians(40) * turn) + down * torch.sin(math.radians(40) * turn),
        ),
    }
    for name, (ranges, expected_down, expected_right) in cases.items():
        moved = affine(blob.expand(n, 1, height, width), **ranges)[:, 0]
        weight = moved / moved.sum(dim=(1, 2), keepdim=True)
        found = [(weight * grid).sum(dim=(1, 2)) for grid in (rows, columns)]
        torch.testing.assert_close(found[0], expected_down, rtol=0, atol=0.05, msg=name)
        torch.testing.assert_close(found[1], expected_right, rtol=0, atol=0.05, msg=name)


def test_random_affine_fills_up_with_zeros():
    moved = affine(torch.ones(8, 1, 10, 10), shift=3.0)
    assert moved.min() == 0 and moved.max() == pytest.approx(1)


def test_random_flip_mirrors_about_half_of_the_images_and_leaves_the_others():
    images = torch.rand(400, 3, 4, 5)
    flipped = random_flip(images, torch.Generator().manual_seed(0))
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


# Files of full data sets


def test_a_stored_set_is_read_without_download(tmp_path):
    np.savez(tmp_path / "mnist.npz", **arrays(shape=(28, 28, 1)))
    data = load_dataset("mnist", tmp_path)
    assert data.train.images.shape == (6, 1, 28, 28)
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5] and data.test.labels.tolist() == [1, 9]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_lie_row_by_row_in_memory(tmp_path, channels):
    """Strides of channels last would make every convolution take that layout."""
    np.savez(tmp_path / "mnist.npz", **arrays(shape=(4, 5, channels)))
    images = load_dataset("mnist", tmp_path).train.images
    assert images.stride() == (20 * channels, 20, 5, 1)


def test_channels_are_read_from_the_last_axis(tmp_path):
    image = np.zeros((6, 4, 5, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 10, 20, 30
    np.savez(tmp_path / "cifar10.npz", **arrays(shape=(4, 5, 3), train_images=image))
    data = load_dataset("cifar10", tmp_path)
    assert data.train.images.shape == (6, 3, 4, 5)
    assert data.train.images[2, :, 3, 4].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(test_labels=None), "lacks test_labels; delete it"),
        (dict(train_images=None, test_images=None), "lacks train_images, test_images; delete it"),
        (
            dict(train_images=np.zeros((6, 28, 28, 1), np.float32)),
            r"train_images must be .* got \(6, 28, 28, 1\) float32",
        ),
        (dict(train_images=np.zeros((6, 28, 28), np.uint8)), r"train_images must be .* got \(6, 28, 28\) uint8"),
        (dict(test_images=np.zeros((3, 28, 28, 1), np.uint8)), r"test_images must be .* with one label each"),
        (dict(train_labels=np.zeros((6, 1), np.uint8)), r"train_images must be .* and labels \(6, 1\)"),
        (
            dict(test_labels=np.zeros(0, np.uint8), test_images=np.zeros((0, 28, 28, 1), np.uint8)),
            "test_images must be",
        ),
        (
            dict(train_labels=np.array([0, 1, 2, 3, 4, 10], np.uint8)),
            "train_labels must be whole numbers from 0 to 9, got uint8 from 0 to 10",
        ),
        (dict(train_labels=np.array([0, 1, 2, 3, 4, -1], np.int64)), "train_labels"),
        (dict(train_labels=np.array([0, 1, 2, 3, 4, 0.5])), "train_labels"),
        (dict(train_labels=np.array([None] * 6, dtype=object)), "train_labels must be whole numbers, got object"),
        (dict(test_images=np.zeros((2, 28, 28, 3), np.uint8)), "test_images"),
    ],
)
def test_a_wrong_array_is_named_with_what_to_do(tmp_path, change, message):
    np.savez(tmp_path / "mnist.npz", **arrays(shape=(28, 28, 1), **change))
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("mnist", tmp_path)
    assert str(tmp_path / "mnist.npz") in str(caught.value)
    assert "delete it to have it downloaded again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["u1", ">i4", "<u8"])
def test_labels_are_whole_numbers_of_any_kind(tmp_path, kind):
    np.savez(tmp_path / "mnist.npz", **arrays(train_labels=np.arange(6).astype(kind)))
    assert load_dataset("mnist", tmp_path).train.labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_more_than_the_memory_holds_is_refused_before_it_is_read(tmp_path, monkeypatch):
    np.savez(tmp_path / "mnist.npz", **arrays(shape=(10, 10, 1)))
    monkeypatch.setattr("odelib.machine.memory", lambda: 808.0)
    load_dataset("mnist", tmp_path)
    monkeypatch.setattr("odelib.machine.memory", lambda: 807.0)
    monkeypatch.setattr("numpy.lib.format.read_array", None)
    with pytest.raises(DataError, match="mnist.npz: its images take .* of memory, and this machine has"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize("place", ["~nosuchuser/x", "~"])
def test_a_home_that_is_not_there_is_a_data_error(monkeypatch, place):
    """As for a user without a name, in a container."""

    def expanduser(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    with pytest.raises(DataError, match="no folder for data sets .Could not determine home directory.*; name one by"):
        data_root(place)


def scrambled():
    """Valid as a zip, but the compressed bytes of its first member are not what they were."""
    data = bytearray(npz())
    start = data.index(b"train_images.npy") + 40
    data[start : start + 40] = bytes(40)
    return bytes(data)


def zip_of_text():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "nothing here")
    return file.getvalue()


@pytest.mark.parametrize(
    "content, message",
    [
        (npz()[:-200], "cannot be read"),
        (npz()[: len(npz()) // 2], "cannot be read"),
        (scrambled(), "cannot be read"),
        (b"", "cannot be read"),
        (b"<html>404 not found</html>", "cannot be read"),
        (npy(), "cannot be read"),
        (zip_of_text(), "lacks train_images"),
    ],
    ids=["truncated", "half", "scrambled", "empty", "html", "npy", "other-zip"],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, content, message):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset("mnist", tmp_path)
    assert str(tmp_path / "mnist.npz") in str(caught.value)
    assert "delete it to have it downloaded again" in str(caught.value)


def test_an_unknown_name_is_answered_with_all_names():
    with pytest.raises(DataError, match="no data set 'mnits'") as caught:
        load_dataset("mnits")
    assert all(name in str(caught.value) for name in NAMES)


# Download


class Fake:
    """A torchvision data set of three images: `data` and labels as the real class keeps them."""

    def __init__(self, data, **labels):
        self.data = data
        self.__dict__.update(labels)


def fake_mnist(root, train, download):
    n = 3 if train else 2
    data = torch.arange(n * 784).remainder(251).to(torch.uint8).view(n, 28, 28)
    return Fake(data, targets=torch.arange(n))


def fake_cifar(root, train, download):
    n = 3 if train else 2
    data = np.arange(n * 3072).reshape(n, 32, 32, 3) % 251
    return Fake(data.astype(np.uint8), targets=list(range(n)))


def fake_svhn(root, split, download):
    n = {"train": 3, "test": 2}[split]
    data = np.arange(n * 3072).reshape(n, 3, 32, 32) % 251
    return Fake(data.astype(np.uint8), labels=np.arange(n))


@pytest.mark.parametrize("name, cls, fake", [("cifar10", "CIFAR10", fake_cifar), ("svhn", "SVHN", fake_svhn)])
def test_colour_images_of_a_download_are_stored_channels_last_and_read_back(monkeypatch, tmp_path, name, cls, fake):
    use(monkeypatch, cls, fake)
    data = load_dataset(name, tmp_path)
    assert len(data.train) == 3 and len(data.test) == 2
    assert data.train.labels.tolist() == [0, 1, 2]
    with np.load(tmp_path / f"{name}.npz") as stored:
        assert stored["train_images"].shape == (3, 32, 32, 3) and stored["train_labels"].dtype == np.uint8
    given = torch.as_tensor(fake(None, "train" if name == "svhn" else True, True).data)
    channels_first = given if name == "svhn" else given.permute(0, 3, 1, 2)
    assert torch.equal(data.train.images, channels_first)


@pytest.mark.parametrize("name, cls", [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_grey_images_of_a_download_get_a_channel_and_are_read_back(monkeypatch, tmp_path, name, cls):
    use(monkeypatch, cls, fake_mnist)
    data = load_dataset(name, tmp_path)
    assert torch.equal(data.train.images, fake_mnist(None, True, True).data[:, None])
    assert data.test.labels.tolist() == [0, 1] and data.channels == 1


def use(monkeypatch, cls, fake):
    """Put a class that makes `fake` in the place of torchvision's."""
    monkeypatch.setattr(datasets, cls, fake)


def idx(array):
    """The IDX format of MNIST and Fashion-MNIST: type and number of axes, the sizes, big-endian, the bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_fashion_mnist_is_read_from_files_in_the_published_format(monkeypatch, tmp_path):
    """Four gzipped IDX files, read by torchvision itself; only the download is replaced."""
    rng = np.random.default_rng(0)
    images = {"train": rng.integers(0, 256, (5, 28, 28), np.uint8), "t10k": rng.integers(0, 256, (2, 28, 28), np.uint8)}
    labels = {"train": np.array([9, 0, 3, 3, 1], np.uint8), "t10k": np.array([2, 8], np.uint8)}

    def download(url, download_root, filename, md5):
        split, kind, _ = filename.split("-", 2)
        path = Path(download_root) / filename
        path.write_bytes(gzip.compress(idx((images if kind == "images" else labels)[split])))
        extract_archive(str(path), download_root)

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", download)
    data = load_dataset("fashion-mnist", tmp_path)
    assert torch.equal(data.train.images[:, 0], torch.from_numpy(images["train"]))
    assert torch.equal(data.test.images[:, 0], torch.from_numpy(images["t10k"]))
    assert [data.classes[k] for k in data.train.labels] == ["ankle boot", "T-shirt", "dress", "dress", "trouser"]
    assert data.test.labels.tolist() == [2, 8]


def test_svhn_is_read_from_files_in_the_published_format(monkeypatch, tmp_path):
    """MATLAB files: X is (32, 32, 3, n), y is (n, 1) with 10 for the digit 0; only the download is replaced."""
    rng = np.random.default_rng(0)
    x = {split: rng.integers(0, 256, (32, 32, 3, n), np.uint8) for split, n in (("train", 4), ("test", 2))}
    y = {"train": np.array([[10], [1], [9], [10]], np.uint8), "test": np.array([[5], [10]], np.uint8)}

    def download(url, root, filename, md5):
        split = filename.partition("_")[0]
        scipy.io.savemat(Path(root) / filename, {"X": x[split], "y": y[split]})

    monkeypatch.setattr("torchvision.datasets.svhn.download_url", download)
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    data = load_dataset("svhn", tmp_path)
    assert data.train.labels.tolist() == [0, 1, 9, 0] and data.test.labels.tolist() == [5, 0]
    assert torch.equal(data.train.images, torch.from_numpy(x["train"].transpose(3, 2, 0, 1)))
    assert torch.equal(data.test.images, torch.from_numpy(x["test"].transpose(3, 2, 0, 1)))


def test_a_set_is_downloaded_once(monkeypatch, tmp_path):
    use(monkeypatch, "MNIST", fake_mnist)
    first = load_dataset("mnist", tmp_path)

    def refuse(root, train, download):
        raise AssertionError("downloaded again")

    use(monkeypatch, "MNIST", refuse)
    assert torch.equal(load_dataset("mnist", tmp_path).train.images, first.train.images)


def test_nothing_but_the_npz_stays_in_the_data_root(monkeypatch, tmp_path):
    def littering(root, train, download):
        (Path(root) / "raw").mkdir(exist_ok=True)
        (Path(root) / "raw" / "archive.gz").write_bytes(b"x")
        return fake_mnist(root, train, download)

    use(monkeypatch, "MNIST", littering)
    load_dataset("mnist", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mnist.npz"]


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried https://..., got:\n404"),
        TimeoutError(),
        http.client.IncompleteRead(b"half"),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("fails_at", ["train", "test"])
def test_a_failed_download_is_one_line_and_leaves_nothing_behind(monkeypatch, tmp_path, error, fails_at):
    def failing(root, train, download):
        (Path(root) / "part.gz").write_bytes(b"half")
        if train == (fails_at == "train"):
            raise error
        return fake_mnist(root, train, download)

    use(monkeypatch, "MNIST", failing)
    with pytest.raises(DataError, match="mnist could not be downloaded to .*mnist.npz") as caught:
        load_dataset("mnist", tmp_path)
    assert "\n" not in str(caught.value)
    assert "connect to the network, or put mnist.npz there, or take a set whose name ends in -sample" in str(
        caught.value
    )
    assert list(tmp_path.iterdir()) == []


def test_real_torchvision_without_a_network_ends_in_the_same_line(tmp_path, monkeypatch):
    """Every address is refused as on a machine without a network; what torchvision makes of that is its own."""

    def unreachable(*_, **__):
        raise urllib.error.URLError("[Errno -2] Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    for name in ("mnist", "fashion-mnist", "cifar10", "svhn"):
        with pytest.raises(DataError, match=f"{name} could not be downloaded"):
            load_dataset(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_data_root_that_cannot_be_made_is_a_data_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="mnist could not be downloaded"):
        load_dataset("mnist", tmp_path / "file" / "root")


# Folders of images


@pytest.fixture
def folder(tmp_path):
    """train/ and val/ of two classes: red images are cats, grey ones (mode L) are dogs; sizes differ."""
    root = tmp_path / "pets"
    for split, n in (("train", 3), ("val", 2)):
        for name, mode, colour in (("cat", "RGB", (255, 0, 0)), ("dog", "L", 100)):
            place = root / split / name
            place.mkdir(parents=True)
            for k in range(n):
                Image.new(mode, (20 + 7 * k, 30), colour).save(place / f"{k}.png")
    return root


@pytest.mark.parametrize("size", [8, 64])
def test_a_folder_is_a_data_set_of_square_colour_images(folder, size):
    data = load_dataset(str(folder), image_size=size)
    assert data.name == "pets" and data.classes == ("cat", "dog")
    assert data.train.images.shape == (6, 3, size, size) and data.test.images.shape == (4, 3, size, size)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.train.images[0, :, 0, 0].tolist() == [255, 0, 0]
    assert data.train.images[5, :, 0, 0].tolist() == [100, 100, 100]  # grey is equal red, green and blue


def test_the_centre_of_an_oblong_image_is_taken(folder):
    """Of 3 columns black, white, black, only the white one is left of a wide image."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    Image.fromarray(wide).save(folder / "train" / "cat" / "0.png")
    assert load_dataset(str(folder), image_size=10).train.images[0].min() == 255


def test_a_folder_in_the_data_root_is_a_data_set_by_its_name(folder):
    by_path, by_name = load_dataset(str(folder)), load_dataset("pets", folder.parent)
    assert by_name.name == "pets" and torch.equal(by_name.train.images, by_path.train.images)


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_missing_split_is_named(folder, missing):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(DataError, match=f"has no folder {missing}/; images belong in .*{missing}/<class>/"):
        load_dataset(str(folder))


def test_an_empty_class_is_named(folder):
    (folder / "val" / "bird").mkdir()
    with pytest.raises(DataError, match="val: .*bird"):
        load_dataset(str(folder))


def test_a_split_without_classes_is_a_data_error(folder):
    (folder / "val").rename(folder / "old")
    (folder / "val").mkdir()
    with pytest.raises(DataError, match="val"):
        load_dataset(str(folder))


def test_different_classes_in_train_and_val_are_named(folder):
    (folder / "val" / "dog").rename(folder / "val" / "wolf")
    with pytest.raises(DataError, match="train/ and val/ must have the same classes, only one has dog, wolf"):
        load_dataset(str(folder))


def truncated(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def broken_chunk(path):
    """A PNG whose second chunk claims an absurd name."""
    data = path.read_bytes()
    at = data.index(b"IDAT")
    path.write_bytes(data[:at] + b"\0\0\0\0" + data[at + 4 :])


def huge(path):
    """The head of a PNG of 30,000 x 30,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"this is no image"),
        lambda path: path.write_bytes(b""),
        truncated,
        broken_chunk,
        huge,
    ],
    ids=["text", "empty", "truncated", "broken-chunk", "huge"],
)
def test_a_damaged_image_is_named(folder, damage):
    damage(folder / "train" / "dog" / "1.png")
    with pytest.raises(DataError, match="1.png") as caught:
        load_dataset(str(folder))
    assert "\n" not in str(caught.value)
