"""The networks: all builders of torchvision but the quantized, and the smallest network of each of timm's families."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torchvision
from torch import Tensor, nn

Kind = Literal["classification", "segmentation", "detection", "video", "optical flow"]
SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 299, 384)
"""Square images that are tried, the smallest that a network takes is its input."""
DETECTION_SIZE = 128
PROPOSALS = {"rpn_nms_thresh": 1.0, "rpn_post_nms_top_n_test": 50}
"""Regions whose number does not hang on the weights, as the cost of the heads hangs on it."""
FIXED_DETECTORS = ("ssd300_vgg16", "ssdlite320_mobilenet_v3_large")
FLOW_SIZE = 128
VIDEO = {"s3d": (3, 16, 224, 224), "mvit_v1_b": (3, 16, 224, 224), "mvit_v2_s": (3, 16, 224, 224)}
SMALL_VIDEO = (3, 8, 64, 64)
FAMILIES = dict(
    line.split() for line in Path(__file__).with_name("timm_families.txt").read_text(encoding="utf-8").splitlines()
)
"""Module of ``timm.models`` -> its network with the fewest parameters (timm 1.0.31)."""


@dataclass(frozen=True, kw_only=True)
class ZooNetwork:
    """A network of a library, by the name under which the library builds it."""

    library: Literal["torchvision", "timm"]
    builder: str
    kind: Kind

    @property
    def name(self) -> str:
        """Key of the network in results."""
        return f"{self.library}/{self.builder}"

    def build(self) -> nn.Module:
        """The network with random weights, in evaluation mode."""
        if self.library == "timm":
            return timm.create_model(self.builder, pretrained=False).eval()
        known = inspect.signature(torchvision.models.get_model_builder(self.builder)).parameters
        options: dict[str, Any] = {"weights": None}
        if "weights_backbone" in known:
            options["weights_backbone"] = None
        if self.kind == "detection" and self.builder not in FIXED_DETECTORS:
            options |= {"min_size": DETECTION_SIZE, "max_size": DETECTION_SIZE}
        if "rcnn" in self.builder:
            options |= PROPOSALS
        network: nn.Module = torchvision.models.get_model(self.builder, **options)
        return network.eval()

    def example(self, network: nn.Module) -> tuple[Any, ...]:
        """What the network is called with: the smallest input that it takes, of one image or video, of random numbers.

        Raises:
            ValueError: it takes none of the sizes that are tried.
        """
        generator = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator)

        if self.kind == "detection":
            return ([noise(3, DETECTION_SIZE, DETECTION_SIZE)],)
        if self.kind == "video":
            return (noise(1, *VIDEO.get(self.builder, SMALL_VIDEO)),)
        if self.kind == "optical flow":
            return (noise(1, 3, FLOW_SIZE, FLOW_SIZE), noise(1, 3, FLOW_SIZE, FLOW_SIZE))
        for size in self._sizes():
            images = noise(1, 3, size, size)
            if _takes(network, images):
                return (images,)
        raise ValueError(f"{self.name} takes no square image of {', '.join(map(str, SIZES))} pixels")

    def _sizes(self) -> tuple[int, ...]:
        if self.library == "timm":
            known = timm.get_pretrained_cfg(self.builder)
            if known is not None and known.fixed_input_size:
                return (known.input_size[-1],)
        return SIZES


@torch.no_grad()
def _takes(network: nn.Module, images: Tensor) -> bool:
    try:
        network(images)
    except Exception:  # of any kind: the forward is not ours
        return False
    return True


def _torchvision() -> Iterator[ZooNetwork]:
    kinds: dict[str, Kind] = {
        "": "classification",
        "segmentation": "segmentation",
        "detection": "detection",
        "video": "video",
        "optical_flow": "optical flow",
    }
    for module_name, kind in kinds.items():
        module = getattr(torchvision.models, module_name) if module_name else torchvision.models
        for builder in torchvision.models.list_models(module=module):
            yield ZooNetwork(library="torchvision", builder=builder, kind=kind)


@cache
def zoo() -> dict[str, ZooNetwork]:
    """All networks by name."""
    timms = [ZooNetwork(library="timm", builder=builder, kind="classification") for builder in FAMILIES.values()]
    return {network.name: network for network in (*_torchvision(), *timms)}
