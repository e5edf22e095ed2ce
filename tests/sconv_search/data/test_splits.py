from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from sconv_search.data.splits import DATA_VARIABLE, DataSet, Split, cifar10, cifar100, data_folder, embedded_digits


def grids(folder: Path, seed: int = 0) -> np.ndarray:
    """A folder in the WebP layout with random images, of which the first of train_1 is returned."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    first = None
    for name in (*(f"train_{part}" for part in range(1, 6)), "test"):
        grid = np.kron(random.integers(0, 256, (100, 100, 3), dtype=np.uint8), np.ones((32, 32, 1), dtype=np.uint8))
        first = grid[:32, :32] if first is None else first
        Image.fromarray(grid).save(folder / f"{name}.webp", lossless=True, quality=0, method=0)
    np.save(folder / "train_labels.npy", (np.arange(50000) % 10).astype(np.uint8))
    np.save(folder / "test_labels.npy", (np.arange(10000) % 10).astype(np.uint8))
    return first


one_folder = pytest.mark.xdist_group("cifar_folder")  # which takes seconds to write


@pytest.fixture(scope="module")
def cifar_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    np.save(folder / "first.npy", grids(folder / "cifar10"))
    return folder


@pytest.fixture(scope="module")
def seen(cifar_folder: Path) -> DataSet:
    return cifar10(cifar_folder, train_was_seen=True)


def test_the_embedded_digits_are_three_disjoint_splits() -> None:
    data = embedded_digits()
    splits = (data.train, data.validation, data.test)
    assert [len(split) for split in splits] == [3500, 750, 750]
    assert data.train.images.shape[1:] == (1, 28, 28)
    assert sum(split.labels.bincount(minlength=10) for split in splits).tolist() == [500] * 10
    assert data.checksum() == embedded_digits().checksum()
    normalized = data.normalized(data.train.images)
    assert abs(float(normalized.mean())) < 0.02
    assert abs(float(normalized.std()) - 1) < 0.02


@one_folder
def test_scores_never_come_from_images_that_the_start_weights_saw(cifar_folder: Path, seen: DataSet) -> None:
    assert [len(split) for split in (seen.train, seen.validation, seen.test)] == [50000, 5000, 5000]
    own = cifar10(cifar_folder, train_was_seen=False)
    assert [len(split) for split in (own.train, own.validation, own.test)] == [45000, 5000, 10000]
    test = {image.tobytes() for image in own.test.images.numpy()[:, :, 0, 0]}
    for split in (seen.validation, seen.test):
        assert {image.tobytes() for image in split.images.numpy()[:, :, 0, 0]} <= test


@one_folder
def test_the_splits_are_the_same_each_time(cifar_folder: Path, seen: DataSet) -> None:
    assert seen.checksum() == cifar10(cifar_folder, train_was_seen=True).checksum()


@one_folder
def test_images_of_a_grid_come_row_by_row(cifar_folder: Path, seen: DataSet) -> None:
    first = np.load(cifar_folder / "first.npy")
    assert torch.equal(seen.train.images[0], torch.from_numpy(first).permute(2, 0, 1))
    assert seen.train.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


@one_folder
def test_a_missing_part_is_named(cifar_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for part in (cifar_folder / "cifar10").iterdir():
        if part.name != "train_labels.npy":
            (folder / part.name).symlink_to(part)
    with pytest.raises(FileNotFoundError, match=r"lacks train_labels.npy"):
        cifar10(tmp_path, train_was_seen=True)


def test_a_missing_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent' does not exist; name one with --data or SCONV_SEARCH_DATA"):
        data_folder(tmp_path / "absent")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert data_folder(None) == tmp_path
    monkeypatch.delenv(DATA_VARIABLE)
    assert data_folder(None) == Path("data")


def test_a_split_is_checked_at_birth() -> None:
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="3 images have 2 labels"):
        Split(images=images, labels=torch.zeros(2))
    with pytest.raises(ValueError, match=r"must be uint8"):
        Split(images=images.float(), labels=torch.zeros(3))


@pytest.mark.parametrize("present", [True, False])
def test_other_folders_are_torchvisions_and_downloaded_to_where_they_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: bool
) -> None:
    asked = []

    class Cifar10:
        def __init__(self, root: str, *, train: bool, download: bool) -> None:
            asked.append((root, train, download))
            count = 50000 if train else 10000
            self.data = np.zeros((count, 32, 32, 3), dtype=np.uint8)
            self.data[0, 1, 2] = (7, 8, 9)
            self.targets = [index % 10 for index in range(count)]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Cifar10)
    if present:
        (tmp_path / "cifar-10-batches-py").mkdir()
    data = cifar10(tmp_path, train_was_seen=True)
    assert asked == [(str(tmp_path), True, not present), (str(tmp_path), False, not present)]
    assert data.train.images[0, :, 1, 2].tolist() == [7, 8, 9]
    assert data.train.labels[:3].tolist() == [0, 1, 2]


def test_data_that_cannot_be_downloaded_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(root: str, *, train: bool, download: bool) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.CIFAR100", offline)
    with pytest.raises(FileNotFoundError) as caught:
        cifar100(tmp_path, train_was_seen=True)
    assert str(caught.value) == (
        f"CIFAR100 is not in {str(tmp_path)!r} and cannot be downloaded: <urlopen error Name or service not known>; "
        "put cifar-100-python/ there, or name the folder that holds it with --data or SCONV_SEARCH_DATA"
    )
    (tmp_path / "cifar-100-python").mkdir()
    with pytest.raises(URLError):  # then it is no download that failed
        cifar100(tmp_path, train_was_seen=True)
