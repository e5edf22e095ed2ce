"""Which channels and positions a structured layer sums, and the ways to compute the sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sconv_search.system.lazy import lazy_names

if TYPE_CHECKING:
    from sconv_search.structured.sums.channel_pooling import MergedChannels, NaturalChains, PermutedChains
    from sconv_search.structured.sums.eager_sums import (
        as_convolved,
        box_products,
        plain,
        products_pay,
        recomputed,
        sums_kept,
    )
    from sconv_search.structured.sums.spatial_pooling import pool_space
    from sconv_search.structured.sums.variants import (
        LAYOUTS,
        NATURAL,
        VARIANTS,
        channel_additions,
        layer_kernel,
        variant_of,
    )

_HOMES = {
    "MergedChannels": "channel_pooling",
    "NaturalChains": "channel_pooling",
    "PermutedChains": "channel_pooling",
    "as_convolved": "eager_sums",
    "box_products": "eager_sums",
    "plain": "eager_sums",
    "products_pay": "eager_sums",
    "recomputed": "eager_sums",
    "sums_kept": "eager_sums",
    "pool_space": "spatial_pooling",
    "LAYOUTS": "variants",
    "NATURAL": "variants",
    "VARIANTS": "variants",
    "channel_additions": "variants",
    "layer_kernel": "variants",
    "variant_of": "variants",
}
__getattr__ = lazy_names(__name__, _HOMES)

__all__ = [
    "LAYOUTS",
    "MergedChannels",
    "NATURAL",
    "NaturalChains",
    "PermutedChains",
    "VARIANTS",
    "as_convolved",
    "box_products",
    "channel_additions",
    "layer_kernel",
    "plain",
    "pool_space",
    "products_pay",
    "recomputed",
    "sums_kept",
    "variant_of",
]
