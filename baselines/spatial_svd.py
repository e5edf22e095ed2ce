"""Spatial SVD: an N x M convolution as an N x 1 convolution to ``rank`` channels and a 1 x M convolution from them.

Legend: g groups, O filters and C input channels of one group, (H, W) taps, R rank.

Source: Jaderberg, Vedaldi, Zisserman, Speeding up Convolutional Neural Networks with Low Rank Expansions, BMVC 2014,
scheme 2; the filters from the SVD of the kernel unfolded to (C H) x (O W).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from baselines.factorized import convolution, no_penalty, ranks_in_steps, replaced, require_ranks, singular_factors
from baselines.second_moments import refit_last_
from sconv_search.compressor import Penalty, layers
from sconv_search.plan import CompressionPlan, Structure


def unfolded(kernel_OCHW: Tensor, groups: int) -> Tensor:
    """The kernel as one (C H) x (O W) matrix a group, (g, C H, O W)."""
    per_group = kernel_OCHW.reshape(groups, -1, *kernel_OCHW.shape[1:])
    _, filters, channels, height, width = per_group.shape
    return per_group.permute(0, 2, 3, 1, 4).reshape(groups, channels * height, filters * width)


@dataclass(frozen=True, kw_only=True)
class SpatialSVD:
    """The best pair of a vertical and a horizontal convolution, by truncated SVD.

    Args:
        steps: ranks are offered at this many equal steps of the layer's dense MACs.
    """

    name: ClassVar[str] = "spatial_svd"
    regularizable: ClassVar[bool] = False
    reshapes_neighbours: ClassVar[bool] = False
    steps: int = 12

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Ranks a layer, cheapest first, for 2-D convolutions with taps along both axes."""
        eligible = {name: layer for name, layer in layers(network).items() if is_eligible(layer)}
        found = {name: self._ranks(layer) for name, layer in eligible.items() if isinstance(layer, nn.Conv2d)}
        return {name: [{"rank": rank} for rank in ranks] for name, ranks in found.items() if ranks}

    def _ranks(self, conv: nn.Conv2d) -> list[int]:
        dense = conv.weight[: conv.out_channels // conv.groups].numel()
        return ranks_in_steps(dense, _work_of_a_rank(conv), steps=self.steps, most=largest_rank(conv))

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Constant 0: the method works on trained weights."""
        return no_penalty(network)

    def compress(self, network: nn.Module, plan: CompressionPlan, calibration: Tensor | None = None) -> nn.Module:
        """The network with each site replaced by its pair of convolutions.

        Args:
            calibration: inputs (N, ...) on which the horizontal convolution is refit to the dense layer's outputs.

        Raises:
            KeyError: the plan names a site that the network lacks.
            TypeError: a site is no 2-D convolution with taps along both axes.
            ValueError: a rank is missing or out of range.
        """
        result = replaced(network, plan, self.name, _separated)
        if calibration is not None:
            refit_last_(result, network, plan.only(self.name).sites, calibration)
        return result


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
    require_ranks(name, "spatial SVD", structure, {"rank": largest_rank(layer)})
    return separate(layer, structure["rank"])


def separate(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """The pair of convolutions of that rank (in each group) that is closest to the kernel, singular values split evenly."""
    outputs, channels, height, width = conv.weight.shape
    groups, (u, s, vh) = conv.groups, singular_factors(unfolded(conv.weight.detach(), conv.groups))
    root = s[:, :rank].sqrt()
    first = (u[:, :, :rank] * root[:, None]).mT.reshape(groups * rank, channels, height, 1)
    second = (vh[:, :rank] * root[..., None]).reshape(groups, rank, outputs // groups, width)
    second = second.transpose(1, 2).reshape(outputs, rank, 1, width)
    return nn.Sequential(
        convolution(conv, first, axes=(0,), groups=groups),
        convolution(conv, second, axes=(1,), groups=groups, bias=conv.bias),
    ).train(conv.training)
