"""Weight SVD: a layer as one of the same kernel size to ``rank`` channels, and a pointwise one from them.

Legend: g groups, O filters and C input channels of one group, T taps, R rank.

Source: Zhang, Zou, He, Sun, Accelerating Very Deep Convolutional Networks for Classification and Detection, TPAMI 2016,
section 3.1 (the linear case): the kernel, unfolded to O x (C T), as the product of two matrices of rank R. With data, the
best O x R factor is spanned by the leading eigenvectors of the outputs' second moments W S W^T (S those of the unfolded
inputs): the same optimum as the SVD of W S^(1/2), without S's size or its inverse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from baselines.factorized import (
    Conv,
    convolution,
    fill_,
    no_penalty,
    ranks_in_steps,
    replaced,
    require_ranks,
    singular_factors,
)
from baselines.second_moments import output_second_moments
from sconv_search.compressor import LAYER_KINDS, Penalty, layers
from sconv_search.plan import CompressionPlan, Structure


@dataclass(frozen=True, kw_only=True)
class WeightSVD:
    """The best pair of a layer to ``rank`` channels and a pointwise layer, by truncated SVD; each group by itself.

    Args:
        steps: ranks are offered at this many equal steps of the layer's dense MACs.
    """

    name: ClassVar[str] = "weight_svd"
    regularizable: ClassVar[bool] = False
    reshapes_neighbours: ClassVar[bool] = False
    steps: int = 12

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Ranks a layer, cheapest first, for every convolution and linear layer that a low rank makes cheaper."""
        found = {name: self._ranks(layer) for name, layer in layers(network).items()}
        return {name: [{"rank": rank} for rank in ranks] for name, ranks in found.items() if ranks}

    def _ranks(self, layer: nn.Module) -> list[int]:
        _, outputs, inputs = unfolded(layer).shape
        return ranks_in_steps(outputs * inputs, outputs + inputs, steps=self.steps, most=min(outputs, inputs))

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Constant 0: the method works on trained weights."""
        return no_penalty(network)

    def compress(self, network: nn.Module, plan: CompressionPlan, calibration: Tensor | None = None) -> nn.Module:
        """The network with each site replaced by its pair of layers.

        Args:
            calibration: inputs (N, ...) over which the layer's output error, rather than the weights', is minimised.

        Raises:
            KeyError: the plan names a site that the network lacks.
            TypeError: a site is neither a convolution nor a linear layer.
            ValueError: a rank is missing or out of range.
        """
        moments: dict[str, Tensor] = {}

        def factorized(name: str, layer: nn.Module, structure: Structure) -> nn.Module:
            if type(layer) not in LAYER_KINDS:
                raise TypeError(f"site {name!r}: weight SVD needs a convolution or linear layer, got {layer}")
            require_ranks(name, "weight SVD", structure, {"rank": min(unfolded(layer).shape[1:])})
            if calibration is not None and name not in moments:
                moments.update(output_second_moments(network, plan.only(self.name).sites, calibration))
            return factorize(layer, structure["rank"], moments.get(name))

        return replaced(network, plan, self.name, factorized)


def unfolded(layer: nn.Module) -> Tensor:
    """The layer's weights as one O x (C T) matrix a group, (g, O, C T)."""
    assert isinstance(layer.weight, Tensor)
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    assert isinstance(groups, int)
    weight = layer.weight.detach()
    return weight.reshape(groups, weight.shape[0] // groups, math.prod(weight.shape[1:]))


def factorize(layer: nn.Module, rank: int, moments: Tensor | None = None) -> nn.Sequential:
    """The pair of layers of that rank (in each group) with the least squared error, their norms equal for each rank.

    Args:
        moments: second moments (g, O, O) of the layer's outputs without bias; the error is then that of the outputs.
    """
    matrices = unfolded(layer)
    groups, outputs, _ = matrices.shape
    if moments is None:
        basis = singular_factors(matrices)[0][..., :rank]
    else:
        basis = torch.linalg.eigh(moments).eigenvectors[..., -rank:].flip(-1)
    to_rank = basis.mT @ matrices.to(basis)
    balance = to_rank.norm(dim=2, keepdim=True).sqrt().clamp(min=torch.finfo(to_rank.dtype).tiny)
    first, second = (to_rank / balance).flatten(0, 1), (basis * balance.mT).reshape(groups * outputs, rank)
    if isinstance(layer, nn.Linear):
        pair: tuple[nn.Module, nn.Module] = (_linear(layer, first, None), _linear(layer, second, layer.bias))
    else:
        pair = _convolutions(layer, first, second)
    return nn.Sequential(*pair).train(layer.training)


def _convolutions(conv: nn.Module, first: Tensor, second: Tensor) -> tuple[Conv, Conv]:
    assert isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    axes = range(len(conv.kernel_size))
    kernel = first.reshape(first.shape[0], *conv.weight.shape[1:])
    pointwise = second.reshape(*second.shape, *(1 for _ in axes))
    return (
        convolution(conv, kernel, axes=axes, groups=conv.groups),
        convolution(conv, pointwise, axes=(), groups=conv.groups, bias=conv.bias),
    )


def _linear(layer: nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    result = skip_init(
        nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None,
        device=layer.weight.device, dtype=layer.weight.dtype,
    )  # fmt: skip
    assert isinstance(result, nn.Linear)
    fill_(result, weight, bias)
    return result
