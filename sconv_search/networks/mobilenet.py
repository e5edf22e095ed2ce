"""MobileNetV2 for 32x32 images: torchvision's network, two of whose five halvings are left out."""

from __future__ import annotations

from typing import Any

from torch import nn

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),  # stride 2 on ImageNet, as is the stem's
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, blocks, and stride of the first block of each stage."""


def cifar_mobilenet_v2(classes: int = 10) -> nn.Module:
    """The untrained MobileNetV2 of width 1 for (N, 3, 32, 32) images, whose last stage is 4x4.

    Parameter names are torchvision's. Source: Sandler et al., MobileNetV2, CVPR 2018, table 2; the strides of its stem
    and of its second stage are 1 here.
    """
    from torchvision.models import MobileNetV2  # here: importing torchvision takes a second

    network: nn.Module = MobileNetV2(num_classes=classes, inverted_residual_setting=[list(stage) for stage in STAGES])
    stem: Any = network.get_submodule("features.0.0")
    stem.stride = (1, 1)
    return network
