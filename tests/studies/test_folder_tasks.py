"""Any network on a folder of photos: layouts, splits, sizes, and a search from the command line."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from sconv_search.data import DataSet
from sconv_search.data import disk as disk_data
from sconv_search.studies import RunFolder
from sconv_search.studies.tasks import task_named
from tests.studies.conftest import Typed

MINE = """
from torch import nn
def small(classes=2, channels=3): return nn.Sequential(
    nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
def segmenter(classes=3): return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1))
def seen():
    network = small()
    network[1].running_mean += 1
    return network
"""
SMALL = "images?size=8@foldernets:small"


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "foldernets.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(disk_data, "MOST_WORKERS", 0)  # a process a batch takes longer than the batch
    yield
    sys.modules.pop("foldernets", None)


def photo(path: Path, value: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"RGB": (10, 12, 3), "RGBA": (10, 12, 4)}.get(mode, (10, 12))
    kind = np.uint16 if mode == "I;16" else np.uint8
    Image.fromarray(np.full(shape, value * (257 if mode == "I;16" else 1), dtype=kind)).save(path)


def classes(root: Path, count: int, names: tuple[str, ...] = ("dark", "light")) -> Path:
    for place, name in enumerate(names):
        for number in range(count):
            photo(root / name / f"{number}.png", 40 + 80 * place + number)
    return root


def read(folder: Path, name: str = SMALL, seen: bool = False) -> DataSet:
    return task_named(name).data(folder, seen)


@pytest.mark.parametrize(
    ("parts", "seen", "sizes"),
    [
        ({"train": 10, "val": 5, "test": 4}, False, (20, 10, 8)),
        ({"training": 10, "validation": 5, "test": 4}, True, (20, 10, 8)),
        ({"train": 10, "val": 5}, False, (18, 2, 10)),
        ({"train": 10, "valid": 5}, True, (20, 5, 5)),
        ({"train": 10, "test": 5}, False, (18, 2, 10)),
        ({"train": 20}, False, (32, 4, 4)),
        ({"": 20}, False, (32, 4, 4)),
    ],
)
def test_parts_that_are_missing_are_held_out_of_others(
    tmp_path: Path, parts: dict[str, int], seen: bool, sizes: tuple[int, ...]
) -> None:
    for part, count in parts.items():
        classes(tmp_path / "photos" / part, count)
    data = read(tmp_path / "photos", seen=seen)
    splits = (data.train, data.validation, data.test)
    assert tuple(map(len, splits)) == sizes
    files = [set(split.files) for split in splits]  # type: ignore[attr-defined]
    assert len(files[0] | files[1] | files[2]) == sum(sizes)
    again = read(tmp_path / "photos", seen=seen)
    assert again.checksum() == data.checksum()


@pytest.mark.parametrize(
    ("parts", "seen", "words"),
    [
        ({"": 4}, True, "does not say which images the network was trained on; put those into train/"),
        ({"train": 4}, True, "holds train and no val or test"),
        ({"val": 4}, False, "holds val and no train"),
        ({"train": 1, "val": 1}, False, None),
    ],
)
def test_a_folder_that_leaves_nothing_unseen_is_refused(
    tmp_path: Path, parts: dict[str, int], seen: bool, words: str | None
) -> None:
    for part, count in parts.items():
        classes(tmp_path / "photos" / part, count)
    if words is None:
        assert len(read(tmp_path / "photos", seen=seen).train) == 1
        return
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "photos", seen=seen)


def test_the_classes_have_to_be_those_of_the_network(tmp_path: Path) -> None:
    classes(tmp_path / "photos/train", 2, ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"holds 3 classes \(folders\), and the network tells 2 apart"):
        read(tmp_path / "photos")
    classes(tmp_path / "photos/val", 2, ("a", "b", "d"))
    with pytest.raises(ValueError, match="only train has 'c'; only val has 'd'"):
        read(tmp_path / "photos", "images?size=8@foldernets:small?classes=3")


def test_photos_of_any_mode_become_the_networks_inputs(tmp_path: Path) -> None:
    for place, mode in enumerate(("RGB", "L", "RGBA", "I;16")):
        for part in ("train", "val", "test"):
            photo(tmp_path / "photos" / part / f"class{place % 2}" / f"{place}.png", 100, mode)
    data = read(tmp_path / "photos", "images?size=8,6&mean=0.5&std=0.1,0.2,0.3@foldernets:small")
    images = data.validation.take(torch.arange(4)).images
    assert images.shape == (4, 3, 8, 6)
    assert int((images.int() - 100).abs().max()) <= 1
    assert (data.mean, data.std) == ((0.5,) * 3, (0.1, 0.2, 0.3))
    gray = read(tmp_path / "photos", "images?size=8@foldernets:small?channels=1")
    assert gray.validation.take(torch.arange(4)).images.shape == (4, 1, 8, 8)
    assert len(gray.mean) == 1


def test_a_librarys_network_gets_photos_as_it_wants_them(tmp_path: Path) -> None:
    task = task_named("images@timm:test_resnet?num_classes=2")
    assert task.input_shape == (3, 160, 160)
    data = task.data(classes(tmp_path / "photos", 12), False)
    assert data.train.shape == (3, 160, 160)
    assert data.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("images", "task 'images' needs a network; name one with --network"),
        ("images?sise=3@foldernets:small", "has no argument 'sise'; known: size, mean, std"),
        ("images?size=0@foldernets:small", "size must be whole numbers above 0"),
        ("images?mean=1,2@foldernets:small", "mean must be 1 or 3 numbers"),
        ("images?std=0@foldernets:small", "std must be above 0"),
    ],
)
def test_what_a_task_of_photos_cannot_be_is_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        task_named(name)


def masks(root: Path, count: int) -> Path:
    for number in range(count):
        photo(root / "images" / f"{number}.png", 30 + number)
        photo(root / "masks" / f"{number}.png", 255 if number == 0 else number % 3, "L")
    return root


def test_photos_with_masks_are_segmented(tmp_path: Path) -> None:
    name = "masks?size=8@foldernets:segmenter"
    masks(tmp_path / "street/train", 6)
    masks(tmp_path / "street/val", 4)
    task = task_named(name)
    assert task.metric.name == "mean IoU"
    data = task.data(tmp_path / "street", True)
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 2)
    one = data.train.take(torch.arange(6))
    assert one.labels.shape == (6, 8, 8)
    assert sorted(set(one.labels.flatten().tolist())) == [-100, 0, 1, 2]
    (tmp_path / "street/train/masks/3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 6 photos .* have no mask of their name in masks/: 3\.png"):
        task.data(tmp_path / "street", True)
    with pytest.raises(ValueError, match="must give logits"):
        task_named("masks?size=8@foldernets:small").data(tmp_path / "street", True)


def test_masks_of_a_network_with_one_logit_are_no_and_yes(tmp_path: Path, typed: Callable[..., Typed]) -> None:
    for part, count in (("train", 64), ("val", 4), ("test", 4)):
        for number in range(count):
            photo(tmp_path / "street" / part / "images" / f"{number}.png", 20 + 200 * (number % 2))
            photo(tmp_path / "street" / part / "masks" / f"{number}.png", 255 * (number % 2), "L")
    name = "masks?size=8@foldernets:segmenter?classes=1"
    labels = task_named(name).data(tmp_path / "street", False).validation.take(torch.arange(4)).labels
    assert sorted(set(labels.flatten().tolist())) == [0, 1]
    task = "--task masks?size=8 --network foldernets:segmenter?classes=1 --data street --device cpu --seed 1"
    short = "--budget 90% --method spatial_svd --trials 1 --epochs 20 --learning-rate 0.1 --confirm-epochs 20 --out run"
    assert (said := typed("search", *task.split(), *short.split())).status == 0, said
    command = "sconv-search confirm run --network 'foldernets:segmenter?classes=1' --data street"
    assert f"next: {command}\n" in said.out, "as it stands; a folder's own code is not run unasked"
    assert (said := typed(*shlex.split(command)[1:], "--seeds", 1)).status == 0, said
    tests = [record.test_score for record in RunFolder("run").records()[0] if record.test_score is not None]
    assert len(tests) == 4
    assert min(tests) > 90, "bright photos are yes, dark ones no"
    photo(tmp_path / "street/val/masks/0.png", 7, "L")
    with pytest.raises(ValueError, match=r"a mask holds 7; of a network with one logit it is 0, and 1 or 255 for yes"):
        task_named(name).data(tmp_path / "street", False).validation.take(torch.arange(4))


@pytest.mark.parametrize(
    ("values", "told"), [((0, 255), "hold 0 and 255 alone"), ((0, 1), None), ((1,), "hold 1 alone")]
)
def test_masks_of_one_class_are_told_of(tmp_path: Path, values: tuple[int, ...], told: str | None) -> None:
    for place, part in enumerate(("train", "val", "test")):
        for number in range(4):
            photo(tmp_path / "street" / part / "images" / f"{number}.png", 50 + 4 * place + number)
            photo(tmp_path / "street" / part / "masks" / f"{number}.png", values[number % len(values)], "L")
    notes = task_named("masks?size=8@foldernets:segmenter?classes=2").data(tmp_path / "street", False).notes
    assert [told in note for note in notes] == ([] if told is None else [True])
    assert task_named("masks?size=8@foldernets:segmenter?classes=1").data(tmp_path / "street", False).notes == ()


def table(count: int) -> datasets.Dataset:
    rows = {
        "image": [Image.fromarray(np.full((10, 12, 3), 5 * n, dtype=np.uint8)) for n in range(count)],
        "label": [n % 2 for n in range(count)],
    }
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["even", "odd"])})
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_tables_of_photos_are_read(tmp_path: Path, kind: str) -> None:
    if kind == "saved":
        datasets.DatasetDict({"train": table(20), "validation": table(6)}).save_to_disk(str(tmp_path / "table"))
    else:
        (tmp_path / "table/data").mkdir(parents=True)
        table(20).to_parquet(str(tmp_path / "table/data/train-00000-of-00001.parquet"))
        table(6).to_parquet(str(tmp_path / "table/data/validation-00000-of-00001.parquet"))
    data = read(tmp_path / "table")
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 6)
    assert data.test.shape == (3, 8, 8)
    assert read(tmp_path / "table").checksum() == data.checksum()
    assert len(read(tmp_path / "table", seen=True).train) == 20
    with pytest.raises(ValueError, match="holds 2 classes, and the network tells 3 apart"):
        read(tmp_path / "table", "images?size=8@foldernets:small?classes=3")


def test_parts_of_a_saved_dictionary_that_are_not_read_are_told_of(tmp_path: Path) -> None:
    parts = {"train": table(20), "test": table(6), "unsupervised": table(3)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "table"))
    notes = read(tmp_path / "table").notes
    assert [note for note in notes if "not read: 'unsupervised'; parts are called train, training, val, " in note]
    datasets.DatasetDict({**parts, "training": table(4)}).save_to_disk(str(tmp_path / "twice"))
    with pytest.raises(ValueError, match=r"twice' holds 'train' and 'training', which are both 'train'; leave one"):
        read(tmp_path / "twice")


def numbered(labels: list[Any]) -> datasets.Dataset:
    """Photos whose labels are plain values."""
    images = [Image.fromarray(np.full((10, 12, 3), 5 * n, dtype=np.uint8)) for n in range(len(labels))]
    kind = datasets.Value("string" if isinstance(labels[0], str) else "float" if labels[0] == 0.5 else "int64")
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)


def parquet(root: Path, **tables: datasets.Dataset) -> Path:
    for name, one in tables.items():
        path = root / f"{name.replace('__', '/')}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        one.to_parquet(str(path))
    return root


@pytest.mark.parametrize("name", ["{}__0000", "default__{}__0000", "animals_{}", "{}", "Animals_{}_2020"])
def test_a_tables_part_is_a_word_of_its_name_or_folder(tmp_path: Path, name: str) -> None:
    counts = {"train": 8, "validation": 4, "test": 2}
    root = parquet(tmp_path, **{name.format(part): table(count) for part, count in counts.items()})
    data = read(root)
    assert [len(data.train), len(data.validation), len(data.test)] == [8, 4, 2]


def test_a_table_of_no_part_or_of_two_is_refused_beside_others(tmp_path: Path) -> None:
    assert len(read(parquet(tmp_path / "alone", animals=table(20))).train) == 16
    with pytest.raises(ValueError, match=r"/more.parquet' is of no part beside files that are"):
        read(parquet(tmp_path / "beside", train=table(4), more=table(4)))
    with pytest.raises(ValueError, match=r"the name 'train_test' of .* says the parts train and test"):
        read(parquet(tmp_path / "two", train_test=table(4)))


def test_classes_of_tables_are_counted_over_all_parts_and_texts_are_names(tmp_path: Path) -> None:
    root = parquet(tmp_path / "numbers", train=numbered([0, 1, 1]), val=numbered([0, 0]), test=numbered([1]))
    assert read(root).validation.labels.tolist() == [0, 0]  # type: ignore[attr-defined]
    root = parquet(
        tmp_path / "texts", train=numbered(["dog", "cat", "dog"]), val=numbered(["cat"]), test=numbered(["dog"])
    )
    data = read(root)
    assert data.validation.labels.tolist() == [0]  # type: ignore[attr-defined]
    assert data.test.class_names == ("cat", "dog")  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"column 'label' of train in .* holds 0.5; labels must be whole numbers"):
        read(parquet(tmp_path / "broken", train=numbered([0.5, 1.5])))
    with pytest.raises(ValueError, match=r"holds 3 classes \(labels count from 0, the least is 1\)"):
        read(parquet(tmp_path / "from one", train=numbered([1, 2])))


@pytest.mark.parametrize(
    ("network", "made", "words"),
    [
        ("small", "classes", "data: 24 training, 3 validation, 3 test images of 2 classes"),
        ("small", "none", "data: 'photos' holds no folder; each class needs one, with its images"),
        ("small", "hollow", "data: 'photos' lacks images of class 'light': its folder holds none"),
        ("small?classes=3", "classes", "data: 'photos' holds 2 classes (folders), and the network tells 3 apart"),
        ("seen", "classes", "data: 'photos' does not say which images the network was trained on"),
        ("segmenter", "masks", "data: 12 training, 4 validation, 4 test images of 3 classes"),
    ],
)
def test_a_dry_run_says_what_a_folder_holds(
    typed: Callable[..., Typed], tmp_path: Path, network: str, made: str, words: str
) -> None:
    Path("photos").mkdir()
    if made in ("classes", "hollow"):
        classes(Path("photos"), 15, ("dark", "light")[: 2 if made == "classes" else 1])
        Path("photos/light").mkdir(exist_ok=True)
    for part, count in {"train": 12, "val": 4, "test": 4}.items() if made == "masks" else ():
        for number in range(count):
            photo(Path("photos") / part / "images" / f"{number}.png", 50)
            photo(Path("photos") / part / "masks" / f"{number}.png", number % 3, "L")
    flags = ("--network", f"foldernets:{network}", "--data", "photos", "--budget", "70%", "--method", "weight_svd")
    said = typed("search", *flags, "--dry-run")
    assert said.status == 0, said
    kind = "masks" if made == "masks" else "images"
    assert f"of task {kind}@foldernets:{network} on 3×224×224" in said.err + said.out
    assert words in said.err + said.out


def test_a_dry_run_says_what_a_search_would_refuse_or_remark(typed: Callable[..., Typed]) -> None:
    for part, count in {"train": 12, "val": 4, "test": 4}.items():
        for number in range(count):
            photo(Path("photos") / part / "images" / f"{number}.png", 50)
            photo(Path("photos") / part / "masks" / f"{number}.png", 255 * (number % 2), "L")
        Path("photos", part, "images", "notes.txt").write_text("mine")
    flags = ("--network", "foldernets:segmenter", "--data", "photos", "--budget", "70%", "--method", "weight_svd")
    said = typed("search", "--task", "masks?size=16", *flags, "--dry-run")
    assert said.status == 0, said
    assert "4 test images of 3 classes; the batch_size 32 of the search is larger than the 12 training" in said.out
    assert "hold 0 and 255 alone" in said.out
    assert "notes.txt" in said.out
    said = typed("search", "--task", "masks?size=16&batch=4", *flags, "--dry-run")
    assert "batch_size" not in said.out


def test_a_folder_is_searched_by_one_command(typed: Callable[..., Typed], tmp_path: Path) -> None:
    classes(tmp_path / "photos/train", 32)
    classes(tmp_path / "photos/val", 8)
    flags = ("--task", "images?size=8", "--network", "foldernets:seen", "--data", tmp_path / "photos")
    budget = ("--budget", "70%", "--trials", "1", "--epochs", "1", "--method", "weight_svd", "--device", "cpu")
    said = typed("search", *flags, *budget, "--out", tmp_path / "run", "--json")
    assert said.status == 0, said
    assert "is trained already: it is not trained again" in said.err
    assert not (tmp_path / "dense").exists()
    rows = [json.loads(line) for line in (tmp_path / "run/trials.jsonl").read_text().splitlines()]
    assert rows[0]["task"] == "images?size=8@foldernets:seen"
    assert rows[0]["val_score"] is not None
