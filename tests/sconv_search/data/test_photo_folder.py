"""Photos of a folder as inputs of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sconv_search.data.crops import Photos
from sconv_search.data.photo_folder import PhotoFolder

PHOTOS = Photos(size=(8, 8), resize=8, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))


def written(path: Path, value: int, mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = np.uint16 if mode == "I;16" else np.uint8
    channels = {"RGB": (3,), "RGBA": (4,)}.get(mode, ())
    Image.fromarray(np.full((8, 8, *channels), value, dtype=kind)).save(path)


@pytest.mark.parametrize(("mode", "value"), [("RGB", 51), ("L", 51), ("RGBA", 51), ("I;16", 51 * 257)])
def test_a_photo_is_normalized_whatever_its_mode(tmp_path: Path, mode: str, value: int) -> None:
    written(tmp_path / "a.png", value, mode)
    (batch,) = PhotoFolder(tmp_path, PHOTOS)
    assert batch.shape == (1, 3, 8, 8)
    wanted = (torch.tensor([0.2, 0.2, 0.2]) - torch.tensor(PHOTOS.mean)) / torch.tensor(PHOTOS.std)
    torch.testing.assert_close(batch[0, :, 4, 4], wanted, rtol=0, atol=1e-6)


def test_photos_at_any_depth_come_in_one_order_and_those_of_train_first(tmp_path: Path) -> None:
    for number in range(7):
        written(tmp_path / f"class{number % 3}" / f"{number}.png", 10 * number, "RGB")
    (tmp_path / "class0" / "notes.txt").write_text("no photo")
    written(tmp_path / ".hidden" / "x.png", 0, "RGB")
    folder = PhotoFolder(tmp_path, PHOTOS, batch=3)
    assert [len(batch) for batch in folder] == [3, 3, 1]
    assert sorted(path.name for path in folder.paths) == [f"{number}.png" for number in range(7)]
    assert PhotoFolder(tmp_path, PHOTOS).paths == folder.paths
    written(tmp_path / "train" / "a" / "only.png", 3, "L")
    assert [path.name for path in PhotoFolder(tmp_path, PHOTOS).paths] == ["only.png"]


def test_gray_networks_read_gray_photos(tmp_path: Path) -> None:
    written(tmp_path / "a.png", 255, "RGB")
    (batch,) = PhotoFolder(tmp_path, Photos(size=(4, 6), resize=6, mean=(0.5,), std=(0.5,)))
    assert batch.shape == (1, 1, 4, 6)
    torch.testing.assert_close(batch, torch.ones_like(batch))


def test_folders_without_photos_and_networks_of_other_channels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        PhotoFolder(tmp_path / "absent", PHOTOS)
    with pytest.raises(ValueError, match="holds no image"):
        PhotoFolder(tmp_path, PHOTOS)
    with pytest.raises(ValueError, match="takes inputs of 2"):
        PhotoFolder(tmp_path, Photos(size=(4, 4), resize=4, mean=(0.5, 0.5), std=(1.0, 1.0)))


def test_photos_are_read_once_whatever_links_lead_to_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / "photos" / name / "a.png", 5, "RGB")
    (tmp_path / "photos" / "two" / "more").symlink_to(tmp_path / "photos" / "one")
    assert len(PhotoFolder(tmp_path / "photos", PHOTOS).paths) == 2
    (tmp_path / "photos" / "two" / "up").symlink_to("..")
    with pytest.raises(ValueError, match=r"two/up' leads to .*/photos', which holds it; remove the link"):
        PhotoFolder(tmp_path / "photos", PHOTOS)
