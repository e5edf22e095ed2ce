"""Spatial SVD: an N x M convolution as an N x 1 convolution to ``rank`` channels and a 1 x M convolution from them.

Legend: g groups, O filters and C input channels of one group, (H, W) taps, R rank.

Source: Jaderberg, Vedaldi, Zisserman, Speeding up Convolutional Neural Networks with Low Rank Expansions, BMVC 2014,
scheme 2; the filters from the SVD of the kernel unfolded to (C H) x (O W).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from sconv_search.compressor import Penalty, layers, require_sites, site, swapped
from sconv_search.plan import CompressionPlan, Structure

Factors = tuple[Tensor, Tensor, Tensor]
_FACTORS = WeakTensorKeyDictionary()  # kernel -> (its version, its factors)


def unfolded(kernel_OCHW: Tensor, groups: int) -> Tensor:
    """The kernel as one (C H) x (O W) matrix a group, (g, C H, O W)."""
    per_group = kernel_OCHW.reshape(groups, -1, *kernel_OCHW.shape[1:])
    _, filters, channels, height, width = per_group.shape
    return per_group.permute(0, 2, 3, 1, 4).reshape(groups, channels * height, filters * width)


def factors(conv: nn.Conv2d) -> Factors:
    """SVD (U, S, Vh) of the unfolded kernel in float64; one a layer, kept for all ranks while the kernel is unchanged."""
    if conv.weight not in _FACTORS or _FACTORS[conv.weight][0] != conv.weight._version:
        u, s, vh = torch.linalg.svd(unfolded(conv.weight.detach().double(), conv.groups), full_matrices=False)
        _FACTORS[conv.weight] = (conv.weight._version, (u, s, vh))
    found: Factors = _FACTORS[conv.weight][1]
    return found


@dataclass(frozen=True, kw_only=True)
class SpatialSVD:
    """The best pair of a vertical and a horizontal convolution, by truncated SVD.

    Args:
        steps: ranks are offered at this many equal steps of the layer's dense MACs.
    """

    name: ClassVar[str] = "spatial_svd"
    regularizable: ClassVar[bool] = False
    steps: int = 12

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Ranks a layer, cheapest first, for 2-D convolutions with taps along both axes."""
        eligible = {name: layer for name, layer in layers(network).items() if is_eligible(layer)}
        found = {name: self._ranks(layer) for name, layer in eligible.items() if isinstance(layer, nn.Conv2d)}
        return {name: [{"rank": rank} for rank in ranks] for name, ranks in found.items() if ranks}

    def _ranks(self, conv: nn.Conv2d) -> list[int]:
        dense, unit = conv.weight[: conv.out_channels // conv.groups].numel(), _work_of_a_rank(conv)
        most = min((dense - 1) // unit, largest_rank(conv))
        return sorted({rank for step in range(1, self.steps) if 1 <= (rank := dense * step // (self.steps * unit)) <= most})

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Constant 0: the method works on trained weights."""
        device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
        return lambda: torch.zeros((), device=device)

    def compress(self, network: nn.Module, plan: CompressionPlan, calibration: Tensor | None = None) -> nn.Module:
        """The network with each site replaced by its pair of convolutions; calibration is not used.

        Raises:
            KeyError: the plan names a site that the network lacks.
            TypeError: a site is no 2-D convolution with taps along both axes.
            ValueError: a rank is missing or out of range.
        """
        require_sites(network, plan.sites)
        chosen = {name: choice.structure for name, choice in plan.only(self.name).sites.items()}
        return swapped(network, {name: _separated(name, site(network, name), structure) for name, structure in chosen.items()})


def is_eligible(layer: nn.Module) -> bool:
    """Whether the layer is a 2-D convolution with more than one tap along both axes."""
    return isinstance(layer, nn.Conv2d) and min(layer.kernel_size) > 1


def largest_rank(conv: nn.Conv2d) -> int:
    """Rank at which the pair is exact for any kernel."""
    outputs, channels, height, width = conv.weight.shape
    return min(channels * height, outputs // conv.groups * width)


def _work_of_a_rank(conv: nn.Conv2d) -> int:
    """MACs of one rank of one group at an output position; the vertical layer runs at the input's width."""
    outputs, channels, height, width = conv.weight.shape
    return channels * height * conv.stride[1] + outputs // conv.groups * width


def _separated(name: str, layer: nn.Module, structure: Structure) -> nn.Sequential:
    if not isinstance(layer, nn.Conv2d) or not is_eligible(layer):
        raise TypeError(f"site {name!r}: spatial SVD needs a Conv2d with taps along both axes, got {layer}")
    if set(structure) != {"rank"}:
        raise ValueError(f"site {name!r}: spatial SVD takes ['rank'], got {sorted(structure)}")
    rank, most = structure["rank"], largest_rank(layer)
    if not 1 <= rank <= most:
        raise ValueError(f"site {name!r}: rank must be in 1..{most}, got {rank}")
    return separate(layer, rank)


def separate(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """The pair of convolutions of that rank (in each group) that is closest to the kernel, singular values split evenly."""
    outputs, channels, height, width = conv.weight.shape
    groups, u, s, vh = conv.groups, *factors(conv)
    root = s[:, :rank].sqrt()
    first = (u[:, :, :rank] * root[:, None]).mT.reshape(groups * rank, channels, height, 1)
    second = (vh[:, :rank] * root[..., None]).reshape(groups, rank, outputs // groups, width)
    vertical, horizontal = _half(conv, 0, conv.in_channels, groups * rank), _half(conv, 1, groups * rank, outputs)
    with torch.no_grad():
        vertical.weight.copy_(first)
        horizontal.weight.copy_(second.transpose(1, 2).reshape(outputs, rank, 1, width))
        if conv.bias is not None and horizontal.bias is not None:
            horizontal.bias.copy_(conv.bias)
    return nn.Sequential(vertical, horizontal).train(conv.training)


def _half(conv: nn.Conv2d, axis: int, inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution with the geometry of one axis; the bias goes to the last."""

    def along(values: tuple[int, ...], other: int) -> tuple[int, int]:
        return (values[0], other) if axis == 0 else (other, values[1])

    padding = conv.padding if isinstance(conv.padding, str) else along(conv.padding, 0)
    return nn.Conv2d(
        inputs, outputs, along(conv.kernel_size, 1), stride=along(conv.stride, 1), padding=padding,
        dilation=along(conv.dilation, 1), groups=conv.groups, bias=axis == 1 and conv.bias is not None,
        padding_mode=conv.padding_mode, device=conv.weight.device, dtype=conv.weight.dtype,
    )  # fmt: skip
