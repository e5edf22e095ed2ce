"""Caches by content, files that appear whole, weights, seeds, memory formats: what is between us and the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.system.cache import (
        KEPT_BYTES,
        Memo,
        architecture,
        forget_all,
        forget_idle,
        network_content,
        remembered,
        unwritten_content,
    )
    from sconv_search.system.content import content_of
    from sconv_search.system.derived import Derivation
    from sconv_search.system.files import append_whole, atomic_write, remove_partial_files, write_whole
    from sconv_search.system.identity import lasting_sha256
    from sconv_search.system.lazy import lazy_names
    from sconv_search.system.malloc import keep_freed_memory
    from sconv_search.system.memory_format import channels_last, channels_last_, lay_out_, layout
    from sconv_search.system.packages import require_package
    from sconv_search.system.parent_watch import EndingWithParent, end_with_parent
    from sconv_search.system.seeds import seeded
    from sconv_search.system.signals import (
        INTERRUPTED,
        STOPPED,
        TERMINATED,
        end_at_once,
        held_back,
        stopped_status,
        stopping_in_order,
    )
    from sconv_search.system.symbolic import as_node
    from sconv_search.system.weights import file_checksum, load_weights_, not_finite, save_weights
    from sconv_search.system.working_directory import UserModules, safe_path, search_working_directory

_HOMES = {
    "KEPT_BYTES": "cache",
    "Memo": "cache",
    "architecture": "cache",
    "forget_all": "cache",
    "forget_idle": "cache",
    "network_content": "cache",
    "remembered": "cache",
    "unwritten_content": "cache",
    "content_of": "content",
    "Derivation": "derived",
    "append_whole": "files",
    "atomic_write": "files",
    "remove_partial_files": "files",
    "write_whole": "files",
    "lasting_sha256": "identity",
    "lazy_names": "lazy",
    "keep_freed_memory": "malloc",
    "channels_last": "memory_format",
    "channels_last_": "memory_format",
    "lay_out_": "memory_format",
    "layout": "memory_format",
    "require_package": "packages",
    "EndingWithParent": "parent_watch",
    "end_with_parent": "parent_watch",
    "seeded": "seeds",
    "INTERRUPTED": "signals",
    "STOPPED": "signals",
    "TERMINATED": "signals",
    "end_at_once": "signals",
    "held_back": "signals",
    "stopped_status": "signals",
    "stopping_in_order": "signals",
    "as_node": "symbolic",
    "file_checksum": "weights",
    "load_weights_": "weights",
    "not_finite": "weights",
    "save_weights": "weights",
    "UserModules": "working_directory",
    "safe_path": "working_directory",
    "search_working_directory": "working_directory",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "Derivation",
    "EndingWithParent",
    "INTERRUPTED",
    "KEPT_BYTES",
    "Memo",
    "STOPPED",
    "TERMINATED",
    "UserModules",
    "append_whole",
    "architecture",
    "as_node",
    "atomic_write",
    "channels_last",
    "channels_last_",
    "content_of",
    "end_at_once",
    "end_with_parent",
    "file_checksum",
    "forget_all",
    "forget_idle",
    "held_back",
    "keep_freed_memory",
    "lasting_sha256",
    "lay_out_",
    "layout",
    "lazy_names",
    "load_weights_",
    "network_content",
    "not_finite",
    "remembered",
    "remove_partial_files",
    "require_package",
    "safe_path",
    "save_weights",
    "search_working_directory",
    "seeded",
    "stopped_status",
    "stopping_in_order",
    "unwritten_content",
    "write_whole",
]
