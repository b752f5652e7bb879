"""Pictures: 16 bits are scaled, cameras were held on their side, folders lie in folders."""

import os

import numpy as np
import pytest
import torch
from bad_files import pictures, sixteen_bits
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2 as transforms

from odelib import DataError, load_dataset
from odelib.pictures import read_pictures


@pytest.fixture
def pets(tmp_path):
    return pictures(tmp_path / "pets", n=3)


def test_numbers_of_16_bits_are_scaled_to_8(tmp_path, pets):
    """Cut off, everything above 255 would be white."""
    for kind in ("png", "tiff"):
        sixteen_bits(pets / "train" / "cat" / f"0.{kind}")
    _, images, _ = read_pictures(pets / "train", 12)
    for image in images[:2]:
        corners = image[0, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.tolist() == [0, 1, 100, 255] and torch.equal(image[0], image[2])


HELD = [None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90", "TRANSVERSE", "ROTATE_270"]


@pytest.mark.parametrize("orientation, held", list(enumerate(HELD, start=1)))
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_picture_is_upright_however_the_camera_was_held(pets, orientation, held, kind):
    """A white quarter is to be at the top left."""
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8, :8] = 255
    picture, exif = Image.fromarray(upright), Image.Exif()
    exif[0x0112] = orientation
    if held:
        picture = picture.transpose(Image.Transpose[held])
    (pets / "train" / "cat" / "0.png").unlink()
    picture.save(pets / "train" / "cat" / f"0.{kind}", exif=exif)
    image = read_pictures(pets / "train", 16)[1][0]
    assert image[:, 2, 2].min() > 200 and max(image[:, 2, 13].max(), image[:, 13, 2].max(), image[:, 13, 13].max()) < 50


def test_pictures_come_as_torchvision_s_imagefolder_has_them(pets):
    """Class by class, folder by folder, so that what was trained before still has its data."""
    rng = np.random.default_rng(0)
    for name in ("b/c/1.JPG", "b/0.bmp", "a.webp", "B.png", "b.png"):
        path = pets / "train" / "cat" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    (pets / "train" / "cat" / "notes.txt").write_text("no picture")
    size = [transforms.Resize(8), transforms.CenterCrop(8), transforms.PILToTensor()]
    theirs = datasets.ImageFolder(str(pets / "train"), transforms.Compose(size))
    classes, images, labels = read_pictures(pets / "train", 8)
    assert classes == tuple(theirs.classes) and labels.tolist() == theirs.targets and len(images) == 11
    assert all(torch.equal(ours, image) for ours, (image, _) in zip(images, theirs))


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_links_to_pictures_and_to_folders_elsewhere_are_followed(tmp_path, pets):
    more = pictures(tmp_path / "more", n=1) / "train" / "cat"
    (pets / "train" / "cat" / "more").symlink_to(more)
    (pets / "train" / "dog" / "x.png").symlink_to(more / "0.png")
    assert read_pictures(pets / "train", 8)[2].tolist() == [0] * 4 + [1] * 4


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read anything")
def test_a_folder_that_may_not_be_read_is_named_and_not_passed_over(pets):
    (pets / "train" / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be read .Permission denied."):
            read_pictures(pets / "train", 8)
    finally:
        (pets / "train" / "cat").chmod(0o700)


def test_more_than_the_memory_holds_is_refused_before_it_is_read(pets, monkeypatch):
    monkeypatch.setattr("odelib.machine.memory", lambda: 6 * 3 * 64.0)
    read_pictures(pets / "train", 8)
    with pytest.raises(DataError, match="6 pictures of 9 x 9 pixels take 0 GB of memory, and this machine has 0"):
        load_dataset(str(pets), image_size=9)
