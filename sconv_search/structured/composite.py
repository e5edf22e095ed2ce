"""Composite kernels: any linearly independent binary masks, of which the structured kernel's shifted boxes are a case.

Source: Bhalgat et al., NeurIPS 2020, arXiv 2008.02454, definition of the composite kernel and figure 1.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.calibration.geometry import ReplacedConv


def require_independent(masks_MCHW: Tensor) -> None:
    """Refuses masks that are not binary, or of which one is a combination of those before it.

    Raises:
        ValueError: the first offending mask is named by its index.
    """
    if masks_MCHW.dim() != 4 or not masks_MCHW.numel():
        raise ValueError(f"masks must have the shape (M, C, H, W), got {tuple(masks_MCHW.shape)}")
    orthonormal = torch.zeros(0, masks_MCHW[0].numel(), dtype=torch.float64)
    for index, mask in enumerate(masks_MCHW):
        if not torch.isin(mask, torch.tensor([0, 1], dtype=mask.dtype, device=mask.device)).all():
            raise ValueError(f"mask {index} holds other values than 0 and 1")
        row = mask.flatten().double().cpu()
        rest = row - orthonormal.T @ (orthonormal @ row)
        rest = rest - orthonormal.T @ (orthonormal @ rest)  # once more: one pass of Gram-Schmidt loses orthogonality
        if torch.linalg.vector_norm(rest) < 1e-9 * max(1.0, float(torch.linalg.vector_norm(row))):
            raise ValueError(f"mask {index} is a linear combination of the masks before it")
        orthonormal = torch.cat([orthonormal, (rest / torch.linalg.vector_norm(rest))[None]])


class CompositeConv2d(ReplacedConv):
    """A convolution whose kernel is a sum of binary masks, each with one weight a filter: sums over masks, then 1x1.

    Args:
        conv: the dense layer whose geometry is kept; ``from_conv`` projects its weights.
        masks: (M, C, H, W) of 0 and 1, C channels of one group; linearly independent.

    Raises:
        TypeError: conv is not an ``nn.Conv2d``.
        ValueError: the masks have another shape than the kernel, are not binary, or depend on one another.
    """

    dense_type = nn.Conv2d
    masks: Tensor

    def __init__(self, conv: nn.Conv2d, masks: Tensor) -> None:
        super().__init__(conv)
        if masks.dim() != 4 or masks.shape[1:] != conv.weight.shape[1:]:
            raise ValueError(
                f"masks must be (M, {', '.join(map(str, conv.weight.shape[1:]))}), got {tuple(masks.shape)}"
            )
        require_independent(masks)
        self.register_buffer("masks", masks.to(conv.weight))
        self.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, len(masks), 1, 1))

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, masks: Tensor) -> Self:
        """The composite layer closest, in the least-squares sense, to the trained kernel."""
        layer = cls(conv, masks)
        with torch.no_grad():
            basis = layer.masks.flatten(1).double().T
            solved = torch.linalg.lstsq(basis, conv.weight.flatten(1).double().T).solution
            layer.weight.copy_(solved.T[..., None, None])
        return layer.train(conv.training)

    def dense_kernel(self) -> Tensor:
        """The composite kernel (O, C, H, W) that this layer applies."""
        return torch.einsum("om,mchw->ochw", self.weight.flatten(1), self.masks)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """As the dense convolution: (N, C_in, H, W) -> (N, O, H', W')."""
        masks = self.masks.repeat(self.groups, 1, 1, 1)
        sums = F.conv2d(self.padded(x_NCHW), masks, None, self.stride, 0, self.dilation, self.groups)
        return F.conv2d(sums, self.weight, self.bias, groups=self.groups)
