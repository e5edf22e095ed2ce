"""The sums of a structured 2-D convolution as one pass over its input, where there is a Triton kernel for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from sconv_search.structured.sums.channel_pooling import NaturalChains

BLOCK = 32
"""Sums that one program makes of a position; the one long sum of a natural chain delays no others."""
TYPES = (torch.float32, torch.bfloat16, torch.float16)


def fusible(x: Tensor) -> bool:
    """Whether the kernel runs on such an input: 2-D images on a GPU, or on a CPU by Triton's interpreter."""
    there = x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    return there and x.dim() == 4 and x.dtype in TYPES and find_spec("triton") is not None


class FusedSums(nn.Module):
    """Zero padding, sums over channels, and sums over boxes, in one pass.

    Args:
        pooling: the sums over channels.
        box: taps along height and width; 1 sums nothing.
        padding: zeros at both ends of each axis.
        dilation: gap between taps.
    """

    channels: Tensor
    signs: Tensor
    counts: Tensor
    longest: Tensor

    def __init__(
        self, pooling: NaturalChains, *, box: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
    ) -> None:
        super().__init__()
        self.box, self.padding, self.dilation = list(box), list(padding), list(dilation)
        with torch.no_grad():
            matrix = pooling(torch.eye(pooling.groups * pooling.channels, device=self._device(pooling))).T
        taken = matrix != 0
        counts = taken.sum(1)
        channels = torch.argsort(taken.int(), dim=1, descending=True, stable=True)[:, : int(counts.max())]
        self.register_buffer("channels", channels.contiguous())
        self.register_buffer("signs", matrix.gather(1, channels).float())
        self.register_buffer("counts", counts.int())
        self.register_buffer("longest", torch.stack([own.max() for own in counts.int().split(BLOCK)]))

    @staticmethod
    def _device(pooling: NaturalChains) -> torch.device | None:
        return next((buffer.device for buffer in pooling.buffers()), None)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, sums, H', W') channels-last, in x's type; added up in fp32."""
        from sconv_search.inference.triton_sums import summed  # there is no Triton on some systems

        tables = self.channels, self.signs, self.counts, self.longest
        sums: Tensor = summed(x, *tables, self.box, self.padding, self.dilation, BLOCK)
        return sums

    def extra_repr(self) -> str:
        """Sizes, for ``print(network)``."""
        sums, most = self.channels.shape
        return (
            f"{sums} sums of at most {most} channels, box={self.box}, padding={self.padding}, dilation={self.dilation}"
        )
