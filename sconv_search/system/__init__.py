"""Caches by content, files that appear whole, weights, seeds, memory formats: what is between us and the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.system.cache import (
        KEPT_BYTES,
        Memo,
        architecture,
        content,
        forget_all,
        network_content,
        remembered,
        unwritten_content,
    )
    from sconv_search.system.files import atomic_write, partial_file, writing
    from sconv_search.system.lazy import lazy_names
    from sconv_search.system.malloc import keep_freed_memory
    from sconv_search.system.memory_format import channels_last, channels_last_, lay_out_, layout
    from sconv_search.system.seeds import seeded
    from sconv_search.system.weights import file_checksum, load_weights_, save_weights

_HOMES = {
    "KEPT_BYTES": "cache",
    "Memo": "cache",
    "architecture": "cache",
    "content": "cache",
    "forget_all": "cache",
    "network_content": "cache",
    "remembered": "cache",
    "unwritten_content": "cache",
    "atomic_write": "files",
    "partial_file": "files",
    "writing": "files",
    "lazy_names": "lazy",
    "keep_freed_memory": "malloc",
    "channels_last": "memory_format",
    "channels_last_": "memory_format",
    "lay_out_": "memory_format",
    "layout": "memory_format",
    "seeded": "seeds",
    "file_checksum": "weights",
    "load_weights_": "weights",
    "save_weights": "weights",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "KEPT_BYTES",
    "Memo",
    "architecture",
    "atomic_write",
    "channels_last",
    "channels_last_",
    "content",
    "file_checksum",
    "forget_all",
    "keep_freed_memory",
    "lay_out_",
    "layout",
    "lazy_names",
    "load_weights_",
    "network_content",
    "partial_file",
    "remembered",
    "save_weights",
    "seeded",
    "unwritten_content",
    "writing",
]
