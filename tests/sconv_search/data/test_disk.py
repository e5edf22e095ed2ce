from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from sconv_search.data.cityscapes import cityscapes
from sconv_search.data.disk import DiskSplit, opened
from sconv_search.data.imagenet import Crops, imagenet
from sconv_search.data.layout import CITYSCAPES as STREETS
from sconv_search.data.layout import Layout
from sconv_search.data.photos import photos
from sconv_search.data.splits import IGNORED, DataSet
from tests.small_datasets import image_folders, photo_folder, streets

CROPS = Crops(size=32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folders(tmp_path_factory.mktemp("photos") / "imagenet")


@pytest.fixture(scope="module")
def data(folders: Path) -> DataSet:
    return imagenet(folders, train_was_seen=True, crops=CROPS, classes=4)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return streets(tmp_path_factory.mktemp("streets"))


def parts_of(data: DataSet, count: int, size: int) -> list[torch.Tensor]:
    return list(torch.arange(count).split(size))


def test_scored_images_are_the_center_of_the_resized_file(folders: Path, data: DataSet) -> None:
    split = data.test
    assert isinstance(split, DiskSplit)
    taken = split.take(torch.tensor([3]))
    with Image.open(split.files[3]) as image:
        width, height = image.size
        side = round(32 * 256 / 224)
        resized = image.resize((round(side * width / height), side), Image.Resampling.BILINEAR)
    left, top = (round((side - 32) / 2) for side in resized.size)
    expected = np.asarray(resized)[top : top + 32, left : left + 32].astype(int)
    assert np.abs(taken.images[0].permute(1, 2, 0).numpy().astype(int) - expected).mean() < 3
    assert taken.labels.tolist() == [split.targets[3]]


@pytest.mark.parametrize("workers", [1, 3])
def test_training_images_follow_from_the_seed_whatever_the_number_of_workers(data: DataSet, workers: int) -> None:
    alone, several = (_with_workers(data.train, count) for count in (0, workers))
    parts = parts_of(data, 12, 4)
    state = torch.get_rng_state()
    first, same, other = (
        torch.cat([batch.images for batch in split.batches(parts, seed)])
        for split, seed in ((alone, 5), (several, 5), (alone, 6))
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state()), "the default generator is as it was"
    plain = torch.cat([batch.images for batch in alone.batches(parts)])
    assert not torch.equal(first, plain)
    assert torch.equal(plain, data.train.take(torch.arange(12)).images)


def _with_workers(split: object, workers: int) -> DiskSplit:
    assert isinstance(split, DiskSplit)
    return replace(split, workers=workers)


def test_an_image_that_comes_twice_is_cropped_in_two_ways(data: DataSet) -> None:
    batch = next(data.train.batches([torch.tensor([0, 0])], seed=1))
    assert not torch.equal(batch.images[0], batch.images[1])


def test_pretrained_weights_are_scored_on_halves_of_the_validation_folder(folders: Path, data: DataSet) -> None:
    assert [len(split) for split in (data.train, data.validation, data.test)] == [48, 12, 12]
    own = imagenet(folders, train_was_seen=False, crops=CROPS, classes=4)
    assert [len(split) for split in (own.train, own.validation, own.test)] == [47, 1, 24]
    for found in (data, own):
        files = [{*split.files} for split in (found.train, found.validation, found.test)]  # type: ignore[attr-defined]
        assert not files[0] & files[1]
        assert not files[1] & files[2]
    assert {file.parts[-3] for file in data.validation.files} == {"val"}  # type: ignore[attr-defined]
    assert {file.parts[-3] for file in own.validation.files} == {"train"}  # type: ignore[attr-defined]


def test_a_split_on_disk_is_found_in_the_folder_above_too_and_can_be_sent(folders: Path, data: DataSet) -> None:
    above = imagenet(folders.parent, train_was_seen=True, crops=CROPS, classes=4)
    assert above.checksum() == data.checksum()
    sent = pickle.loads(pickle.dumps(data))
    assert sent.checksum() == data.checksum()
    assert torch.equal(sent.calibration, data.calibration)
    assert data.calibration.shape == (48, 3, 32, 32)


def test_another_number_of_classes_is_refused(folders: Path) -> None:
    with pytest.raises(ValueError, match=r"train' holds 4 classes \(folders\); 1000 are expected"):
        imagenet(folders, train_was_seen=True, crops=CROPS)


def test_distortions_follow_from_the_seed(folders: Path) -> None:
    distorted = imagenet(folders, train_was_seen=True, crops=Crops(size=32, distorted=True), classes=4).train
    one, same = (next(distorted.batches([torch.arange(6)], seed=2)).images for _ in range(2))
    assert torch.equal(one, same)


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"\xff\xd8\xff\xe0 no picture", "is damaged")])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    root = image_folders(tmp_path, train=2, val=2)
    broken = root / "val" / "n00000001" / "n00000001_0.JPEG"
    broken.write_bytes(content)
    found = imagenet(root, train_was_seen=True, crops=CROPS, classes=4)

    def read() -> None:
        found.checksum()
        for split in (found.validation, found.test):
            split.take(torch.arange(4))

    with pytest.raises(ValueError, match=rf"n00000001_0.JPEG' {message}"):
        read()


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_missing_part_is_named_with_the_expected_layout(tmp_path: Path, missing: str) -> None:
    root = image_folders(tmp_path, train=1, val=1)
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"ImageNet .* there is no {missing}/\*/\*; expected are train/"):
        imagenet(root, train_was_seen=True, crops=CROPS, classes=4)


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    root = image_folders(tmp_path, train=1, val=1)
    (root / "val" / "n00000002" / "n00000002_0.JPEG").unlink()
    with pytest.raises(ValueError, match=r"val' lacks images of class 'n00000002'"):
        imagenet(root, train_was_seen=True, crops=CROPS, classes=4)


def test_streets_have_a_class_a_pixel(town: Path) -> None:
    found = cityscapes(town, train_was_seen=True, size=(64, 128), crop=(32, 48))
    assert (found.train.shape, found.train.label_shape, found.train.classes) == ((3, 64, 128), (64, 128), 19)
    batch = found.test.take(torch.arange(2))
    assert batch.labels.shape == (2, 64, 128)
    assert set(batch.labels.unique().tolist()) == {IGNORED, 0, 10, 13}
    assert (batch.labels[:, 0] == 10).all(), "sky"
    assert (batch.labels[:, -1] == IGNORED).all(), "the bonnet"


def test_crops_of_streets_keep_image_and_classes_together(town: Path) -> None:
    found = cityscapes(town, train_was_seen=True, size=(64, 128), crop=(32, 48))
    (batch,) = found.train.batches([torch.arange(12)], seed=3)
    assert (batch.images.shape, batch.labels.shape) == ((12, 3, 32, 48), (12, 32, 48))
    assert set(batch.labels.unique().tolist()) <= {IGNORED, 0, 10, 13}
    red, _, blue = batch.images.float().unbind(1)
    car, sky = batch.labels == 13, batch.labels == 10
    assert (red[car] > blue[car]).float().mean() > 0.9
    assert (blue[sky] > red[sky]).float().mean() > 0.9
    assert min(float(car.float().mean()), float(sky.float().mean())) > 0.01


def test_a_street_without_its_annotation_is_named(tmp_path: Path) -> None:
    root = streets(tmp_path, train=4, val=4)
    lost = next((root / "gtFine" / "val").rglob("*.png"))
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{lost.name}' is missing: each image needs its annotation"):
        cityscapes(root, train_was_seen=True)


def test_a_street_of_another_size_is_named(town: Path) -> None:
    found = cityscapes(town, train_was_seen=True)
    with pytest.raises(ValueError, match=r"is \(3, 64, 128\) where images of \(3, 1024, 2048\) are expected"):
        found.test.take(torch.tensor([0]))


def test_missing_streets_are_named_with_the_expected_layout(tmp_path: Path) -> None:
    (tmp_path / "leftImg8bit").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Cityscapes is not in .*gtFine/train/\*/\*_gtFine_labelIds.png"):
        cityscapes(tmp_path, train_was_seen=True)
    assert "leftImg8bit/val" in str(STREETS.missing(tmp_path))


def test_photos_are_cut_into_three_disjoint_parts(tmp_path: Path) -> None:
    photo_folder(tmp_path / "imagenet_sample")
    found = photos(tmp_path, size=32, mean=0.5, std=0.25)
    labels = [
        split.take(torch.arange(len(split))).labels.tolist() for split in (found.train, found.validation, found.test)
    ]
    assert labels == [[0, 4, 8, 12], [1, 3, 6, 9, 11, 14], [2, 5, 7, 10, 13, 15]]
    assert found.train.shape == (3, 32, 32)
    with Image.open(tmp_path / "imagenet_sample" / "0001_x.jpg") as image:
        expected = np.asarray(image)[4:36, 4:36]
    assert torch.equal(
        found.validation.take(torch.tensor([0])).images[0], torch.from_numpy(expected.copy()).permute(2, 0, 1)
    )


def test_wrong_photos_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no \[0-9\].*_\*\.\*; expected"):
        photos(tmp_path, size=32, mean=0.5, std=0.25)
    photo_folder(tmp_path / "imagenet_sample")
    with pytest.raises(ValueError, match=r"0000_x.jpg' is 40x40 pixels; at least 64x64 are needed"):
        photos(tmp_path, size=64, mean=0.5, std=0.25)
    (tmp_path / "imagenet_sample" / "0003_x.jpg").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"0003_x.jpg' is damaged"):
        photos(tmp_path, size=32, mean=0.5, std=0.25)


def test_either_of_two_layouts_will_do(tmp_path: Path) -> None:
    layout = Layout(title="Both", folder="both", parts=("a", "b"), alternative=("c",))
    assert "there is no c; expected are a, b (or c) in the folder of --data" in str(layout.missing(tmp_path))
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "c").touch()
    assert layout.missing(tmp_path) is None
    assert layout.root(tmp_path) == tmp_path / "both"


def bitmaps(root: Path, count: int = 2) -> DiskSplit:
    """Files of one size: their format does not compress."""
    found = image_folders(root, train=count, val=2)
    for number, file in enumerate(sorted(found.rglob("*.JPEG"))):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(file, format="BMP")
    return cast(DiskSplit, imagenet(found, train_was_seen=True, crops=CROPS, classes=4).train)


def test_the_checksum_tells_files_of_one_name_and_size_apart(tmp_path: Path) -> None:
    split = bitmaps(tmp_path)
    before = split.checksum()
    one, other = split.files[0], split.files[-1]
    kept = one.read_bytes(), other.read_bytes()
    one.write_bytes(kept[1])
    other.write_bytes(kept[0])
    assert len(kept[0]) == len(kept[1])
    assert split.checksum() != before
    one.write_bytes(kept[0])
    other.write_bytes(kept[1][:-1] + b"1")
    assert split.checksum() != before, "its end counts"


def test_a_name_that_is_not_utf_8_is_refused_in_a_printable_form(tmp_path: Path) -> None:
    split = bitmaps(tmp_path)
    strange = Path(os.fsdecode(os.fsencode(split.files[0].parent) + b"/\xff.JPEG"))
    split.files[0].rename(strange)
    with pytest.raises(ValueError, match=r"n0000000\d/\\xff.JPEG' is not UTF-8; rename it"):
        replace(split, files=(strange, *split.files[1:])).checksum()


@pytest.mark.parametrize("mode", ["RGB", None])
def test_photos_and_masks_are_turned_as_exif_says(tmp_path: Path, mode: str | None) -> None:
    image = Image.new("L", (16, 8))
    image.putpixel((0, 0), 255)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    upright = opened(tmp_path / "turned.png", mode)
    assert upright.size == (8, 16)
    assert np.asarray(upright.convert("L"))[0, 7] == 255


def test_an_orientation_that_cannot_be_read_turns_nothing(tmp_path: Path) -> None:
    Image.new("L", (16, 8)).save(tmp_path / "plain.png", exif=b"Exif\x00\x00no orientation")
    assert opened(tmp_path / "plain.png", "RGB").size == (16, 8)
