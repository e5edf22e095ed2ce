"""What counts as a class and as an image, how deep images are, and what is said of all that is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sconv_search.data.cityscapes import cityscapes
from sconv_search.data.class_folders import class_folders
from sconv_search.data.crops import Photos
from sconv_search.data.disk import DiskSplit, opened
from sconv_search.data.image_folders import image_folders as labeled_folders
from sconv_search.data.imagenet import Crops, imagenet
from sconv_search.data.photos import photos
from sconv_search.data.splits import DataSet
from tests.small_datasets import image_folders, photo_folder, streets

CROPS = Crops(size=32)


def read(root: Path, classes: int = 4) -> DataSet:
    return imagenet(root, train_was_seen=True, crops=CROPS, classes=classes)


def test_class_folders_that_differ_are_named(tmp_path: Path) -> None:
    """As many in both, so that every label after the first that differs would be wrong by one."""
    root = image_folders(tmp_path, train=2, val=2)
    (root / "val" / "n00000001").rename(root / "val" / "n00000009")
    with pytest.raises(
        ValueError,
        match=r"other classes \(folders\) in train than in val: only train has 'n00000001'; only val has 'n00000009'",
    ):
        read(root)


def test_the_names_of_classes_are_part_of_the_checksum(tmp_path: Path) -> None:
    data = read(image_folders(tmp_path, train=2, val=2))
    split = data.train
    assert isinstance(split, DiskSplit)
    assert split.class_names == ("n00000000", "n00000001", "n00000002", "n00000003")
    assert split.take(torch.tensor([0])).class_names == split.class_names
    other = DiskSplit(**{**vars(split), "class_names": split.class_names[::-1]})
    assert other.checksum() != split.checksum()
    with pytest.raises(ValueError, match=r"4 classes in .* have 1 names"):
        DiskSplit(**{**vars(split), "class_names": ("one",)})
    with pytest.raises(ValueError, match="has class 3 where there are 3 classes"):
        DiskSplit(**{**vars(split), "classes": 3, "class_names": ()})


def test_hidden_folders_and_other_files_are_skipped_and_said(tmp_path: Path) -> None:
    root = image_folders(tmp_path, train=2, val=2)
    whole = read(root)
    assert whole.notes == ()
    picture = (root / "train" / "n00000000" / "n00000000_0.JPEG").read_bytes()
    for place in (
        "train/.ipynb_checkpoints/a.JPEG",
        "train/n00000001/.ipynb_checkpoints/b.JPEG",
        "val/__MACOSX/c.JPEG",
    ):
        (root / place).parent.mkdir()
        (root / place).write_bytes(picture)
    (root / "train" / "n00000002" / "._n00000002_0.JPEG").write_bytes(b"of a file manager")
    (root / "train" / "notes.txt").write_text("of a human")
    (root / "val" / "n00000000" / "Thumbs.db").write_bytes(b"of another")
    data = read(root)
    assert data.checksum() == whole.checksum()
    (note,) = data.notes
    assert "as no image or hidden: 6 ('train/.ipynb_checkpoints', 'train/n00000001/.ipynb_checkpoints', " in note
    assert note.endswith(" and 3 more)")


def test_suffixes_count_in_any_case_and_images_at_any_depth(tmp_path: Path) -> None:
    for name in ("a/x.JPG", "a/deep/y.jpeg", "b/z.Png", "b/w.tiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    found = class_folders(tmp_path)
    assert found.names == ("a", "b")
    assert [file.name for file in found.files] == ["x.JPG", "y.jpeg", "w.tiff", "z.Png"]
    assert (found.labels, found.skipped) == ((0, 0, 1, 1), ())


def test_a_folder_without_classes_is_named(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(ValueError, match="holds no folder; each class needs one"):
        class_folders(tmp_path)


DEEP = {"grey PNG": ("a.png", np.uint16), "grey TIFF": ("a.tif", np.uint16), "grey PGM": ("a.pgm", np.uint16)}


@pytest.mark.parametrize(("name", "kind"), DEEP.values(), ids=DEEP)
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, name: str, kind: type) -> None:
    values = np.array([[0, 128, 129, 257], [30_000, 32_768, 65_407, 65_535]], kind)
    Image.fromarray(values).save(tmp_path / name)
    found = np.asarray(opened(tmp_path / name, "RGB"))
    assert found.shape == (2, 4, 3)
    assert found[:, :, 0].tolist() == np.rint(values / 257).astype(int).tolist()


@pytest.mark.parametrize(
    ("kind", "words"), [(np.int32, "whole numbers of 32 bits"), (np.float32, "floating-point numbers")]
)
def test_thirty_two_bits_whose_range_is_not_known_are_refused(tmp_path: Path, kind: type, words: str) -> None:
    Image.fromarray(np.full((4, 4), 1000, kind)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=rf"a.tiff' holds {words}, of unknown range; save it with 8 or 16 bits"):
        opened(tmp_path / "a.tiff", "RGB")


def test_photos_are_read_whatever_the_case_of_their_suffix(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "imagenet_sample", count=16)
    whole = photos(root, size=32, mean=0.5, std=0.5)
    (root / "0002_x.jpg").rename(root / "0002_x.JPG")
    (root / "0007_x.jpg").rename(root / "0007_x.jpeg")
    assert photos(root, size=32, mean=0.5, std=0.5).checksum() == whole.checksum()
    (root / "README.txt").write_text("about")
    (root / "photo.jpg").write_bytes(b"without a class")
    data = photos(root, size=32, mean=0.5, std=0.5)
    assert data.checksum() == whole.checksum()
    assert [note.partition("hidden: ")[2] for note in data.notes] == ["2 ('README.txt', 'photo.jpg')"]


def test_hidden_streets_are_skipped_and_said(tmp_path: Path) -> None:
    root = streets(tmp_path, train=4, val=4)
    whole = cityscapes(root, train_was_seen=True, size=(64, 128), crop=(32, 32))
    image = root / "leftImg8bit" / "train" / "aachen" / "aachen_000000_000019_leftImg8bit.png"
    hidden = root / "leftImg8bit" / "train" / ".ipynb_checkpoints"
    hidden.mkdir()
    (hidden / image.name).write_bytes(image.read_bytes())
    image.with_name("notes.txt").write_text("about")
    data = cityscapes(root, train_was_seen=True, size=(64, 128), crop=(32, 32))
    assert data.checksum() == whole.checksum()
    assert "as no image or hidden: 2 (" in data.notes[0]


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((64, 128, 3), np.uint8), "is an image of mode RGB; classes a pixel need one channel"),
        (np.zeros((32, 128), np.uint8), r"has labels of shape \(32, 128\) for an image of \(64, 128\)"),
    ],
    ids=["colors", "shape"],
)
def test_annotations_that_do_not_fit_are_named(tmp_path: Path, picture: np.ndarray, words: str) -> None:
    root = streets(tmp_path, train=4, val=4)
    data = cityscapes(root, train_was_seen=True, size=(64, 128), crop=(32, 32))
    assert isinstance(data.train, DiskSplit)
    target = data.train.targets[0]
    assert isinstance(target, Path)
    Image.fromarray(picture).save(target)
    with pytest.raises(ValueError, match=words):
        data.train.take(torch.tensor([0]))


def photo_classes(root: Path, parts: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """Two photos of a cat and two of a dog in each part."""
    for number, (part, kind, name) in enumerate((p, k, n) for p in parts for k in ("cat", "dog") for n in "ab"):
        (root / part / kind).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 9, 9)).save(root / part / kind / f"{name}.png")
    return root


def labeled(root: Path) -> DataSet:
    shape = Photos(size=(8, 8), resize=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    return labeled_folders(root, train_was_seen=False, photos=shape, classes=2)


LINKS = {
    "itself": ("train/cat/again", ".", "leads to .*/cat', which holds it; remove the link"),
    "a folder above": ("train/cat/up", "../..", "which holds it; remove the link"),
    "another part": ("train/cat/more", "../../val/cat", r"val/cat' are one folder, by a link"),
    "another class": ("train/cat/more", "../dog", r"train/dog' are one folder, by a link"),
    "a class": ("train/wolf", "dog", r"train/dog' and .*train/wolf' are one folder, by a link"),
}


@pytest.mark.parametrize(("link", "target", "message"), LINKS.values(), ids=LINKS)
def test_links_that_would_read_images_twice_are_refused(tmp_path: Path, link: str, target: str, message: str) -> None:
    root = photo_classes(tmp_path)
    (root / link).symlink_to(target)
    with pytest.raises(ValueError, match=message):
        labeled(root)


def test_a_part_that_is_a_link_to_another_is_refused(tmp_path: Path) -> None:
    root = photo_classes(tmp_path, ("train", "test"))
    (root / "val").symlink_to("train")
    with pytest.raises(ValueError, match=r"train' and .*val' are one folder, by a link"):
        labeled(root)


def test_links_to_folders_elsewhere_are_read_once(tmp_path: Path) -> None:
    root = photo_classes(tmp_path / "photos")
    photo_classes(tmp_path / "more", ("extra",))
    for name in ("one", "two"):
        (root / "train" / "cat" / name).symlink_to(tmp_path / "more" / "extra")
    assert len(labeled(root).train) == 4 + 4


def test_parts_are_known_in_capitals_and_by_one_folder_alone(tmp_path: Path) -> None:
    root = photo_classes(tmp_path / "capitals", ("Train", "VAL", "Test"))
    assert [len(split) for split in (labeled(root).train, labeled(root).validation, labeled(root).test)] == [4] * 3
    (root / "validation").mkdir()
    with pytest.raises(ValueError, match="holds 'VAL' and 'validation', which both name the part 'val'; keep one"):
        labeled(root)
    vehicles = photo_classes(tmp_path / "vehicles", ("Train", "Car"))
    for path in (*vehicles.rglob("a.png"), *vehicles.rglob("b.png")):
        path.rename(path.parent.parent / f"{path.parent.name}{path.name}")
    for path in (vehicles / part / kind for part in ("Train", "Car") for kind in ("cat", "dog")):
        path.rmdir()
    assert labeled(vehicles).train.class_names == ("Car", "Train"), "a class of trains"  # type: ignore[attr-defined]


def test_folders_beside_parts_and_photos_in_two_parts_or_classes_are_told(tmp_path: Path) -> None:
    root = photo_classes(tmp_path, ("train", "test", "dev"))
    assert labeled(root).notes == (
        f"not read in {str(root)!r}, as no part is called so: 'dev' (parts are train, training, val, valid,"
        " validation, test, testing)",
    )
    shutil.rmtree(root / "dev")
    shutil.copytree(root / "train" / "cat", root / "test" / "cat", dirs_exist_ok=True)
    shutil.copy(root / "train" / "cat" / "a.png", root / "train" / "dog" / "copied.png")
    assert labeled(root).notes == (
        f"2 photos in {str(root)!r} are in two parts, such as 'train/cat/a.png' and 'test/cat/a.png'",
        f"1 photo in {str(root)!r} is in two classes, such as 'train/cat/a.png' and 'train/dog/copied.png'",
    )
