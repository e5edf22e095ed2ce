"""Sum-pooling of a structured convolution, as slices and additions.

Legend: x_NC.. a batch of inputs, C channels, then 1 to 3 spatial axes.

Slices, not ``avg_pool``: ``avg_pool3d`` is 4-7 times slower than the dense layer on a CPU, and pooling with
``divisor_override`` exports to ONNX silently wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool_channels(x: Tensor, dim: int, count: int) -> Tensor:
    """Channels pooled in the chain basis: ``count - 1`` differences a box apart, then the first box's sum.

    ``length - 1`` additions a position where ``length`` channels are pooled, whatever the count; ``x`` itself where
    nothing is to pool. The order is that of ``structure.chain_coefficients``.
    """
    length = x.shape[dim]
    box = length - count + 1
    if box == 1:
        return x
    first_box = x.narrow(dim, 0, box).sum(dim, keepdim=True).to(x.dtype)
    if count == 1:
        return first_box
    return torch.cat([x.narrow(dim, box, count - 1) - x.narrow(dim, 0, count - 1), first_box], dim)


def pool_grouped_channels(x: Tensor, groups: int, count: int, dim: int = 1) -> Tensor:
    """``pool_channels`` within each of the equal groups of channels along ``dim``, which shrinks to ``groups *
    count``.
    """
    if groups == 1:
        return pool_channels(x, dim, count)
    return pool_channels(x.unflatten(dim, (groups, -1)), dim + 1, count).flatten(dim, dim + 1)


def pool_space(x_NC: Tensor, boxes: list[int], dilation: list[int]) -> Tensor:
    """Sums over ``boxes`` taps, ``dilation`` apart, at stride 1 along each spatial axis; the borders shrink."""
    for axis, (box, gap) in enumerate(zip(boxes, dilation), 2):  # noqa: B905  # TorchScript knows no strict zip
        if box > 1:
            kept = x_NC.shape[axis] - (box - 1) * gap
            total = x_NC.narrow(axis, 0, kept) + x_NC.narrow(axis, gap, kept)
            for tap in range(2, box):
                total = total + x_NC.narrow(axis, tap * gap, kept)
            x_NC = total
    return x_NC
