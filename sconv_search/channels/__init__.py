"""Which channels of a network can only be removed together, and their removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.channels.cutting import (
        TRANSPOSED,
        by_channel,
        is_depthwise,
        makes_channels,
        of_each_group,
        reading_kernel,
        sizes,
    )
    from sconv_search.channels.dependency_graph import Group, UntraceableError
    from sconv_search.channels.groups import Dependencies, dependencies
    from sconv_search.channels.removal import narrowed, remaining, without_

_HOMES = {
    "TRANSPOSED": "cutting",
    "by_channel": "cutting",
    "is_depthwise": "cutting",
    "makes_channels": "cutting",
    "of_each_group": "cutting",
    "reading_kernel": "cutting",
    "sizes": "cutting",
    "Group": "dependency_graph",
    "UntraceableError": "dependency_graph",
    "Dependencies": "groups",
    "dependencies": "groups",
    "narrowed": "removal",
    "remaining": "removal",
    "without_": "removal",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "Dependencies",
    "Group",
    "TRANSPOSED",
    "UntraceableError",
    "by_channel",
    "dependencies",
    "is_depthwise",
    "makes_channels",
    "narrowed",
    "of_each_group",
    "reading_kernel",
    "remaining",
    "sizes",
    "without_",
]
