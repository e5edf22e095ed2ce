"""The kinds of layers that are a linear map and a bias, structured ones among them."""

from __future__ import annotations

from torch import nn

from sconv_search.compressor import LAYER_KINDS, TRANSPOSED_KINDS
from sconv_search.structured.composite import CompositeConv2d
from sconv_search.structured.conv import StructuredConv1d, StructuredConv2d, StructuredConv3d
from sconv_search.structured.conv_transpose import (
    StructuredConvTranspose1d,
    StructuredConvTranspose2d,
    StructuredConvTranspose3d,
)
from sconv_search.structured.linear import StructuredLinear

STRUCTURED = (
    *(StructuredConv1d, StructuredConv2d, StructuredConv3d, StructuredLinear, CompositeConv2d),
    *(StructuredConvTranspose1d, StructuredConvTranspose2d, StructuredConvTranspose3d),
)
LINEAR_MAPS: tuple[type[nn.Module], ...] = (*LAYER_KINDS, *TRANSPOSED_KINDS, *STRUCTURED)
"""Exactly of these kinds: a subclass may compute something else."""
