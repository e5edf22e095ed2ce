"""All methods, and one verb for plans that mix them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.channel_pruning import ChannelPruning
from baselines.cp import CP
from baselines.spatial_svd import SpatialSVD
from baselines.tucker import Tucker
from baselines.weight_svd import WeightSVD
from sconv_search.compressor import Compressor, Penalty, require_sites, swapped
from sconv_search.method import StructuredConvolution
from sconv_search.plan import CompressionPlan
from studies.lookup import named

METHODS: dict[str, Compressor] = {
    method.name: method for method in (StructuredConvolution(), SpatialSVD(), WeightSVD(), Tucker(), CP(), ChannelPruning())
}
"""Key of a method in plans and on the command line -> the method. A new method is one more line here."""


def method_named(name: str) -> Compressor:
    """The method of that key.

    Raises:
        KeyError: there is none; the nearest and all keys are given.
    """
    return named("method", name, METHODS)


def compress(network: nn.Module, plan: CompressionPlan, calibration: Tensor | None = None) -> nn.Module:
    """A new network in which every site of the plan is compressed by its own method; the argument is not modified.

    Args:
        network: the trained network, or its untrained architecture where weights are loaded afterwards.
        calibration: inputs (N, ...) for methods that fit to data.

    Raises:
        KeyError: the plan names an unknown method, or a site that the network lacks.
        TypeError: a method cannot replace a site's kind of layer.
        ValueError: a structure is out of range for its site.
    """
    methods = sorted(map(method_named, plan.methods), key=lambda method: not method.reshapes_neighbours)
    require_sites(network, plan.sites)
    compressed = swapped(network, {})
    for method in methods:
        compressed = method.compress(compressed, plan.only(method.name), calibration)
    return compressed


def penalty(network: nn.Module, plan: CompressionPlan) -> Penalty:
    """The sum of the penalties of the plan's methods; it reads the network's weights anew at each call."""
    parts = [method_named(name).penalty(network, plan.only(name)) for name in plan.methods]
    return lambda: torch.stack([part() for part in parts]).sum() if parts else torch.zeros(())
