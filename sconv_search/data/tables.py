"""Labeled photos in Parquet files, or in a folder that the ``datasets`` library saved; kept in memory."""

from __future__ import annotations

import io
import re
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
from sconv_search.strict_json import shown
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
        folder: what ``datasets`` saved, or Parquet files whose part is a word of their name, or of a folder below
            that holds them: ``animals_train.parquet``, ``validation/0000.parquet``; without any, all are for training.
        train_was_seen: the start weights saw all images of ``train``.

    Raises:
        ValueError: a column or a part is missing, or there twice, a file is of no part beside others that are, labels
            are no classes, or classes are not those of the network.
    """
    tables, notes = _tables(folder)
    if "train" not in tables or (train_was_seen and len(tables) == 1):
        lacking = "train" if "train" not in tables else "validation or test"
        raise ValueError(f"{str(folder)!r} holds {', '.join(tables) or 'no part'} and no {lacking}")
    labels, names = _classes(folder, tables, classes)
    splits = {name: _split(folder, name, table, photos, labels[name], names) for name, table in tables.items()}
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
        notes=notes,
    )


def _tables(folder: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Part -> table of the library; and what is to be said of saved parts whose names say no part."""
    library = require_package("datasets", "datasets", "tables of photos need")
    if any((folder / name).is_file() for name in SAVED):
        saved = library.load_from_disk(str(folder))
        parts = dict(saved) if hasattr(saved, "keys") else {"train": saved}
    else:
        files = sorted(folder.rglob("*.parquet"))
        given = {path: _part_of(path, folder) for path in files}
        if any(given.values()) and (unknown := next((path for path in files if not given[path]), None)):
            raise ValueError(
                f"{str(unknown)!r} is of no part beside files that are; name it, or its folder, by one of"
                f" {', '.join(PARTS)}, or take it away"
            )
        parts = {
            part or "train": library.Dataset.from_parquet([str(path) for path in files if given[path] == part])
            for part in dict.fromkeys(given.values())
        }
    own = {name: part for part, names in PARTS.items() for name in names}
    for part, names in PARTS.items():
        if len(same := [name for name in parts if name in names]) > 1:
            raise ValueError(
                f"{str(folder)!r} holds {' and '.join(map(repr, same))}, which are both {part!r}; leave one"
            )
    unread = [name for name in parts if name not in own]
    notes = (f"not read: {', '.join(map(repr, unread))}; parts are called {', '.join(own)}",) if unread else ()
    return {own[name]: table for name, table in parts.items() if name in own}, notes


def _part_of(path: Path, folder: Path) -> str | None:
    """The part that a word of the file's name says, else of the nearest folder; None where none does.

    Raises:
        ValueError: a name says two parts.
    """
    for name in (path.stem, *reversed(path.relative_to(folder).parts[:-1])):
        words = re.split("[^a-z]+", name.lower())
        found = [part for part, names in PARTS.items() if set(words) & set(names)]
        found = found or [part for part in PARTS if name.startswith(part)]
        if len(found) > 1:
            raise ValueError(f"the name {name!r} of {str(path)!r} says the parts {' and '.join(found)}; leave one")
        if found:
            return found[0]
    return None


def _classes(
    folder: Path, tables: Mapping[str, Any], classes: int
) -> tuple[dict[str, torch.Tensor], dict[str, tuple[str, ...]]]:
    """The labels of each part as classes, and the classes' names, counted over all parts; texts by their order.

    Raises:
        ValueError: labels are no classes, or not so many as the network tells apart.
    """
    columns = {part: _column(folder, table, LABEL_COLUMNS) for part, table in tables.items()}
    values = {part: list(table[columns[part]]) for part, table in tables.items()}
    kinds = {type(value) for part in values.values() for value in part}
    if not kinds <= {int, bool} and kinds != {str}:
        part, other = next(
            (p, v) for p, own in values.items() for v in own if not isinstance(v, (int, str)) or str in kinds
        )
        raise ValueError(
            f"column {columns[part]!r} of {part} in {str(folder)!r} holds {shown(other)}; labels must be whole numbers"
            " from 0, or the names of classes, the same kind in all rows"
        )
    features = {part: table.features[columns[part]] for part, table in tables.items()}
    names = {part: tuple(getattr(feature, "names", None) or ()) for part, feature in features.items()}
    if kinds == {str}:
        texts = tuple(sorted({value for own in values.values() for value in own}))
        number = {text: place for place, text in enumerate(texts)}
        values = {part: [number[value] for value in own] for part, own in values.items()}
        names = dict.fromkeys(values, texts)
    least, most = (choose(value for own in values.values() for value in own) for choose in (min, max))
    count = len(next(iter(names.values()))) or int(most) + 1
    if count != classes:
        told = f" (labels count from 0, the least is {least})" if least > 0 and not any(names.values()) else ""
        raise ValueError(
            f"{str(folder)!r} holds {count} classes{told}, and the network tells {classes} apart; give a network of as"
            f" many, such as timm:resnet18?num_classes={count}"
        )
    return {part: torch.tensor(own, dtype=torch.int64) for part, own in values.items()}, names


def _split(
    folder: Path, name: str, table: Any, photos: Photos, labels: torch.Tensor, names: Mapping[str, tuple[str, ...]]
) -> Split:
    image = _column(folder, table, IMAGE_COLUMNS)
    library = require_package("datasets", "datasets", "tables of photos need")
    view, raw = WholePhoto(photos), table.cast_column(image, library.Image(decode=False))
    pixels = [view(_decoded(row[image], f"row {n} of {name} in {folder}"), 0)[0] for n, row in enumerate(raw)]
    return Split(images=torch.stack(pixels), labels=labels, class_names=names[name])


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
