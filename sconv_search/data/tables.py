"""Labeled photos in Parquet files, or in a folder that the ``datasets`` library saved; kept in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sconv_search.data.crops import Photos
from sconv_search.data.disk import opened
from sconv_search.data.image_folders import PARTS
from sconv_search.data.photo_views import WholePhoto
from sconv_search.data.splits import SPLIT_SEED, DataSet, Split
from sconv_search.system.packages import require_package

SAVED = ("dataset_dict.json", "state.json")
"""Files of a folder that ``save_to_disk`` of the library wrote."""
IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img", "images"), ("label", "labels", "fine_label", "class")
HELD_OUT = 0.1


def is_table(folder: Path) -> bool:
    """Whether the folder holds Parquet files, or was saved by ``datasets``."""
    return any((folder / name).is_file() for name in SAVED) or any(folder.rglob("*.parquet"))


def photo_tables(folder: Path, *, train_was_seen: bool, photos: Photos, classes: int) -> DataSet:
    """Photos with a class each, from columns ``image`` and ``label``; decoded once, and kept in memory as inputs.

    Args:
        folder: what ``datasets`` saved, or Parquet files whose names begin with the part: ``train*.parquet``,
            ``val*`` or ``validation*``, ``test*``.
        train_was_seen: the start weights saw all images of ``train``.

    Raises:
        ValueError: a column or a part is missing, or classes are not those of the network.
    """
    tables = _tables(folder)
    if "train" not in tables or (train_was_seen and len(tables) == 1):
        lacking = "train" if "train" not in tables else "validation or test"
        raise ValueError(f"{str(folder)!r} holds {', '.join(tables) or 'no part'} and no {lacking}")
    splits = {name: _split(folder, name, table, photos, classes) for name, table in tables.items()}
    train, unseen = splits["train"], [splits[name] for name in ("val", "test") if name in splits]
    if len(unseen) == 2:
        validation, test = unseen
    elif train_was_seen:
        validation, test = _cut(unseen[0], 0.5)
    else:
        validation, train = _cut(train, HELD_OUT)
        test, train = (unseen[0], train) if unseen else _cut(train, HELD_OUT)
    return DataSet(
        name=folder.resolve().name,
        train=train.take(_order(train)),
        validation=validation,
        test=test,
        mean=photos.mean,
        std=photos.std,
        crop_padding=max(1, min(photos.size) // 8),
        flip=True,
        evaluation_batch=100,
    )


def _tables(folder: Path) -> Mapping[str, Any]:
    """Part -> table of the library."""
    library = require_package("datasets", "datasets", "tables of photos need")
    if any((folder / name).is_file() for name in SAVED):
        saved = library.load_from_disk(str(folder))
        parts = dict(saved) if hasattr(saved, "keys") else {"train": saved}
    else:
        files = sorted(folder.rglob("*.parquet"))
        given = {path: next((part for part in PARTS if path.name.startswith(part)), "train") for path in files}
        parts = {
            part: library.Dataset.from_parquet([str(path) for path in files if given[path] == part])
            for part in dict.fromkeys(given.values())
        }
    own = {name: part for part, names in PARTS.items() for name in names}
    return {own[name]: table for name, table in parts.items() if name in own}


def _split(folder: Path, name: str, table: Any, photos: Photos, classes: int) -> Split:
    image, label = (_column(folder, table, kind) for kind in (IMAGE_COLUMNS, LABEL_COLUMNS))
    library = require_package("datasets", "datasets", "tables of photos need")
    view, raw = WholePhoto(photos), table.cast_column(image, library.Image(decode=False))
    pixels = [view(_decoded(row[image], f"row {n} of {name} in {folder}"), 0)[0] for n, row in enumerate(raw)]
    labels = torch.tensor(list(table[label]))
    feature = table.features[label]
    count = len(feature.names) if hasattr(feature, "names") else int(labels.max()) + 1
    if count != classes:
        raise ValueError(
            f"{name} of {str(folder)!r} holds {count} classes, and the network tells {classes} apart; give a network of"
            f" as many, such as timm:resnet18?num_classes={count}"
        )
    return Split(images=torch.stack(pixels), labels=labels, class_names=tuple(getattr(feature, "names", ())))


def _column(folder: Path, table: Any, names: tuple[str, ...]) -> str:
    if column := next((name for name in names if name in table.column_names), None):
        return column
    raise ValueError(f"{str(folder)!r} has no column {' or '.join(names)}, but {', '.join(table.column_names)}")


def _decoded(value: Any, where: str) -> Image.Image:
    """The image of a row: its bytes, or the file that it names."""
    if value.get("bytes") is None:
        return opened(Path(value["path"]), "RGB")
    return opened(io.BytesIO(value["bytes"]), "RGB", title=where)


def _cut(split: Split, share: float) -> tuple[Split, Split]:
    order, first = _order(split), max(1, round(share * len(split)))
    return split.take(order[:first]), split.take(order[first:])


def _order(split: Split) -> torch.Tensor:
    return torch.randperm(len(split), generator=torch.Generator().manual_seed(SPLIT_SEED))
