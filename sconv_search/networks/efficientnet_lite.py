"""EfficientNet-Lite0: depthwise blocks and TensorFlow's asymmetric padding, with its PyTorch port's parameter names."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

STAGES = (
    (3, 1, 1, 1, 16),
    (3, 2, 2, 6, 24),
    (5, 2, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (5, 3, 1, 6, 112),
    (5, 4, 2, 6, 192),
    (3, 1, 1, 6, 320),
)
"""Kernel, blocks, stride of the first block, expansion, and output channels of each stage."""
STEM, HEAD, EPSILON = 32, 1280, 1e-3


class SamePadding(nn.Module):
    """Zeros around an image as TensorFlow's "same" padding puts them: where their number is odd, one more below and
    right.

    Args:
        kernel: taps of the convolution that follows, odd.
        stride: its stride, 1 or 2.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W'), of which the unpadded convolution makes ceil(H / stride) by ceil(W /
        stride).
        """
        (top, bottom), (left, right) = (self._pair(int(size)) for size in x_NCHW.shape[2:])
        return F.pad(x_NCHW, (left, right, top, bottom))

    def _pair(self, size: int) -> tuple[int, int]:
        outputs = -(-size // self.stride)
        total = max(0, (outputs - 1) * self.stride + self.kernel - size)
        return total // 2, total - total // 2

    def extra_repr(self) -> str:
        """Geometry, for ``print(network)``."""
        return f"kernel={self.kernel}, stride={self.stride}"


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=0.01)


class InvertedBlock(nn.Module):
    """Pointwise expansion, depthwise convolution, pointwise projection; the input is added where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inner = inputs * expand
        self.expands, self.adds_input = expand > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._padding = SamePadding(kernel, stride)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride=stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/stride, W/stride), sizes rounded up."""
        inner = F.relu6(self._bn0(self._expand_conv(x_NCHW))) if self.expands else x_NCHW
        inner = F.relu6(self._bn1(self._depthwise_conv(self._padding(inner))))
        projected: Tensor = self._bn2(self._project_conv(inner))
        return projected + x_NCHW if self.adds_input else projected


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 for RGB images, (x - 127) / 128 with x in 0..255; made for 224x224.

    Source: Tan, Le, EfficientNet, ICML 2019, table 1, without squeeze-and-excitation, with ReLU6 (TensorFlow's Lite
    variant).
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self._padding = SamePadding(3, 2)
        self._conv_stem = nn.Conv2d(3, STEM, 3, stride=2, bias=False)
        self._bn0 = _norm(STEM)
        blocks, channels = [], STEM
        for kernel, count, stride, expand, outputs in STAGES:
            for position in range(count):
                blocks.append(InvertedBlock(channels, outputs, kernel, 1 if position else stride, expand))
                channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, HEAD, 1, bias=False)
        self._bn1 = _norm(HEAD)
        self._fc = nn.Linear(HEAD, classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, 3, H, W) images -> (N, classes) logits."""
        x_NCHW = F.relu6(self._bn0(self._conv_stem(self._padding(x_NCHW))))
        for block in self._blocks:
            x_NCHW = block(x_NCHW)
        x_NCHW = F.relu6(self._bn1(self._conv_head(x_NCHW)))
        logits: Tensor = self._fc(x_NCHW.mean((2, 3)))
        return logits


def efficientnet_lite0(classes: int = 1000) -> EfficientNetLite:
    """The untrained EfficientNet-Lite0."""
    return EfficientNetLite(classes)
