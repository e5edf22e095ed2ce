"""Multiply-accumulates of public networks against an independent counter, torch's own."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sconv_search import measure_cost

TORCHVISION = (
    *("alexnet", "resnet18", "resnext50_32x4d", "mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_1", "convnext_tiny"),
    *("vit_b_32", "swin_t", "fcn_resnet50", "lraspp_mobilenet_v3_large", "mc3_18", "efficientnet_b0"),
)
TIMM = (
    *("test_vit", "test_convnext", "test_resnet", "test_efficientnet", "test_byobnet", "test_nfnet", "test_mambaout"),
    *("test_coatnet", "test_vit_relpos", "starnet_s050", "cs3darknet_focus_s", "cspnext_tiny", "skresnet18"),
    *("inception_next_atto", "ese_vovnet19b_slim_dw", "fasternet_t0", "cpubone_nano", "hiera_tiny_224", "resnest14d"),
    *("swiftformer_xs", "visformer_tiny", "edgenext_xx_small", "iformer_t", "poolformerv2_s12", "efficientvit_b0"),
    *("mobilevit_xxs", "xcit_nano_12_p8_224", "halonet_h1"),
)
SIZES = {
    "mc3_18": (3, 4, 32, 32),
    "vit_b_32": (3, 224, 224),
    "hiera_tiny_224": (3, 224, 224),
    "mobilevit_xxs": (3, 64, 64),
}


@pytest.mark.parametrize("name", [*TORCHVISION, *(f"timm/{name}" for name in TIMM)])
def test_multiply_accumulates_are_those_of_torchs_counter(name: str) -> None:
    library, _, builder = name.rpartition("/")
    with torch.device("meta"):
        network: nn.Module = timm.create_model(builder) if library else _of_torchvision(builder)
        shape = timm.get_pretrained_cfg(builder).input_size if library else SIZES.get(builder, (3, 64, 64))
        images = torch.zeros(1, *shape)
    network.eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        network(images)
    assert measure_cost(network, shape).macs == counter.get_total_flops() // 2 > 0


def _of_torchvision(builder: str) -> nn.Module:
    backbone = {"weights_backbone": None} if builder.startswith(("fcn", "lraspp")) else {}
    network: nn.Module = torchvision.models.get_model(builder, weights=None, **backbone)
    return network
