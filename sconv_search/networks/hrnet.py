"""HRNet for segmentation: timm's backbone, whose four resolutions are joined at the finest one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.system.packages import require_package


class HighResolutionSegmenter(nn.Module):
    """The "HRNetV2" head on a backbone of several resolutions: all are upsampled, joined, and classified by 1x1
    convolutions.

    Source: Wang et al., Deep High-Resolution Representation Learning for Visual Recognition, TPAMI 2020, section 3.

    Args:
        backbone: gives a list of features (N, C_i, H / s_i, W / s_i), the finest first.
        channels: C_i of each.
        classes: of a pixel.
    """

    def __init__(self, backbone: nn.Module, channels: list[int], classes: int) -> None:
        super().__init__()
        joined = sum(channels)
        self.backbone = backbone
        self.join = nn.Conv2d(joined, joined, 1)
        self.norm = nn.BatchNorm2d(joined)
        self.classifier = nn.Conv2d(joined, classes, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, 3, H, W) images -> (N, classes, H, W) logits."""
        first, *rest = self.backbone(x_NCHW)
        size = first.shape[2:]
        joined = torch.cat([first, *(F.interpolate(branch, size=size, mode="bilinear") for branch in rest)], dim=1)
        logits = self.classifier(F.relu(self.norm(self.join(joined))))
        return F.interpolate(logits, size=x_NCHW.shape[2:], mode="bilinear")


def hrnet_segmenter(name: str = "hrnet_w18_small_v2", classes: int = 19) -> HighResolutionSegmenter:
    """An untrained HRNet of timm's, such as ``hrnet_w18_small_v2``, that gives each pixel a class.

    Raises:
        RuntimeError: timm knows no network of that name.
    """
    create_model = require_package("timm", "tasks", "HRNet needs").create_model

    backbone: Any = create_model(
        name, pretrained=False, features_only=True, feature_location="", out_indices=(1, 2, 3, 4)
    )
    channels: list[int] = backbone.feature_info.channels()
    return HighResolutionSegmenter(backbone, channels, classes)
