"""Labeled images in fixed splits, in memory or on disk, and how batches of them are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.data.batch_order import batch_parts, dropout_seed, require_shares
    from sconv_search.data.imagenet import Crops
    from sconv_search.data.layout import Layout
    from sconv_search.data.shard import WHOLE, Shard
    from sconv_search.data.splits import IGNORED, DataSet, Images, Split, cifar10, cifar100, embedded_digits

_HOMES = {
    "batch_parts": "batch_order",
    "dropout_seed": "batch_order",
    "require_shares": "batch_order",
    "Crops": "imagenet",
    "Layout": "layout",
    "Shard": "shard",
    "WHOLE": "shard",
    "DataSet": "splits",
    "IGNORED": "splits",
    "Images": "splits",
    "Split": "splits",
    "cifar10": "splits",
    "cifar100": "splits",
    "embedded_digits": "splits",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "Crops",
    "DataSet",
    "IGNORED",
    "Images",
    "Layout",
    "Shard",
    "Split",
    "WHOLE",
    "batch_parts",
    "cifar10",
    "cifar100",
    "dropout_seed",
    "embedded_digits",
    "require_shares",
]
