"""The variants of a structured layer's channel sums, and how each follows from trained weights.

A structure names its variant by an entry of that name, ``{"c": 28, "n": 3, "merged": 1}``; without one the channels
stay in their natural order, as in the paper. Which channels go together is derived from the weights, deterministically.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from sconv_search.plan import Structure
from sconv_search.structured.sums.blocks import MOST_TOGETHER, merged_in_blocks
from sconv_search.structured.sums.chains import chain_order
from sconv_search.structured.sums.channel_pooling import MergedChannels, NaturalChains, PermutedChains
from sconv_search.structured.sums.merging import merged_groups
from sconv_search.system.cache import remembered

NATURAL = "natural"
Layout = tuple[Tensor, Tensor | None]
_merged, _permuted, _in_blocks = remembered(merged_groups), remembered(chain_order), remembered(merged_in_blocks)
LAYOUTS: dict[str, tuple[Callable[..., Layout], bool]] = {
    "permuted": (_permuted, False),
    "merged": (_merged, False),
    "signed_permuted": (_permuted, True),
    "signed_merged": (_merged, True),
}
VARIANTS = (NATURAL, *LAYOUTS)
"""``natural`` and ``permuted`` chains, ``merged`` groups, and the last two with sums that may also subtract
(``signed``).
"""


def variant_of(structure: Structure) -> str:
    """The variant that a structure names.

    Raises:
        ValueError: it names two, or by another value than 1.
    """
    named = [entry for entry in structure if entry in LAYOUTS]
    if len(named) > 1:
        raise ValueError(f"a structure names one variant at most, got {named}")
    if named and structure[named[0]] != 1:
        raise ValueError(f"entry {named[0]!r} names a variant and must be 1, got {structure[named[0]]}")
    return named[0] if named else NATURAL


def layer_kernel(layer: nn.Module) -> Tensor:
    """The weights of a convolution, transposed or not, or of a linear layer as (O, C, taps...), C the inputs of one
    group.
    """
    weight: Tensor = layer.weight  # type: ignore[assignment]  # a parameter
    if isinstance(layer, _ConvTransposeNd):
        weight = weight.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    return weight


def channel_pooling(layer: nn.Module, count: int, variant: str) -> NaturalChains:
    """The variant's channel sums that keep a trained layer's kernel best, ``count`` a group; chosen on the CPU, in
    float64.

    A kernel without values, of the device ``meta``, prefers none: channels are taken in turn.
    """
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    kernel = layer_kernel(layer).detach()
    channels = kernel.shape[1]
    if variant == NATURAL or count == channels:
        return NaturalChains(channels, count, groups)
    _, signed = LAYOUTS[variant]
    members, signs = [], []
    sums = count if variant.endswith("merged") else channels
    values = None if kernel.is_meta else kernel.cpu().unflatten(0, (groups, -1))
    for index in range(groups):
        sum_of_channel: Tensor = torch.arange(channels) % sums
        own_signs: Tensor | None = torch.ones(channels)
        if values is not None:
            sum_of_channel, own_signs = _chosen(values[index].transpose(0, 1).flatten(1), count, variant)
        members.append(sum_of_channel + index * sums)
        signs.append(own_signs)
    weights = torch.cat([own for own in signs if own is not None]) if signed else None
    pooling = MergedChannels if variant.endswith("merged") else PermutedChains
    return pooling(count, groups, torch.cat(members), weights).to(kernel.device)


def _chosen(vectors_CF: Tensor, count: int, variant: str) -> Layout:
    """Which channels share a sum, and their signs, from their kernel vectors."""
    find, signed = LAYOUTS[variant]
    if len(vectors_CF) > MOST_TOGETHER and variant.endswith("merged"):
        return _in_blocks(vectors_CF.float(), count, signed)
    vectors = vectors_CF.double()
    return find(vectors @ vectors.T, count, signed)


def channel_additions(variant: str, channels: int, count: int) -> int:
    """Additions and multiplications by a sign that the channel sums of one group take at a position."""
    if count == channels:
        return 0
    signs = channels if variant.startswith("signed") else 0
    return signs + (channels - count if variant.endswith("merged") else channels - 1)
