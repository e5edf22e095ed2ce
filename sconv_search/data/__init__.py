"""Labeled images in fixed splits, in memory or on disk, and how batches of them are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.data.batch_order import batch_parts, dropout_seed, require_shares
    from sconv_search.data.crops import Crops
    from sconv_search.data.layout import CIFAR10, CIFAR100, CITYSCAPES, IMAGENET, PHOTOS, Layout, data_folder
    from sconv_search.data.shard import WHOLE, Shard
    from sconv_search.data.splits import IGNORED, SPLITS, DataSet, Images, Split, cifar10, embedded_digits

_HOMES = {
    "batch_parts": "batch_order",
    "dropout_seed": "batch_order",
    "require_shares": "batch_order",
    "Crops": "crops",
    "CIFAR10": "layout",
    "CIFAR100": "layout",
    "CITYSCAPES": "layout",
    "IMAGENET": "layout",
    "Layout": "layout",
    "PHOTOS": "layout",
    "data_folder": "layout",
    "Shard": "shard",
    "WHOLE": "shard",
    "DataSet": "splits",
    "IGNORED": "splits",
    "Images": "splits",
    "SPLITS": "splits",
    "Split": "splits",
    "cifar10": "splits",
    "embedded_digits": "splits",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CITYSCAPES",
    "Crops",
    "DataSet",
    "IGNORED",
    "IMAGENET",
    "Images",
    "Layout",
    "PHOTOS",
    "SPLITS",
    "Shard",
    "Split",
    "WHOLE",
    "batch_parts",
    "cifar10",
    "data_folder",
    "dropout_seed",
    "embedded_digits",
    "require_shares",
]
