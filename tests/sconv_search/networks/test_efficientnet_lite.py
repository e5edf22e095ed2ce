"""EfficientNet-Lite0: its size, its padding and, where the trained weights are at hand, its accuracy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.nn import functional as F

from sconv_search import measure_cost
from sconv_search.networks.efficientnet_lite import SamePadding, efficientnet_lite0
from sconv_search.system.weights import load_weights_

SHARED = os.environ.get("SCONV_SEARCH_SHARED")


def test_it_has_the_published_parameters_and_macs() -> None:
    cost = measure_cost(efficientnet_lite0(), (3, 224, 224))
    assert cost.params == 4_652_008
    assert cost.macs == 385_187_552


def test_it_has_the_parameter_names_of_its_port() -> None:
    names = set(efficientnet_lite0().state_dict())
    assert len(names) == 296
    assert {"_conv_stem.weight", "_bn0.running_var", "_conv_head.weight", "_bn1.bias", "_fc.bias"} <= names
    assert {"_blocks.15._expand_conv.weight", "_blocks.15._bn2.weight", "_blocks.0._depthwise_conv.weight"} <= names
    assert "_blocks.0._expand_conv.weight" not in names


@given(size=st.integers(3, 20), kernel=st.sampled_from([3, 5]), stride=st.sampled_from([1, 2]))
def test_outputs_number_the_input_over_the_stride_rounded_up(size: int, kernel: int, stride: int) -> None:
    conv = nn.Conv2d(1, 1, kernel, stride=stride, bias=False)
    padded = SamePadding(kernel, stride)(torch.ones(1, 1, size, size + 1))
    assert conv(padded).shape[2:] == (-(-size // stride), -(-(size + 1) // stride))
    assert padded.sum() == size * (size + 1)


@pytest.mark.parametrize(("size", "before", "after"), [(8, 0, 1), (9, 1, 1)])
def test_the_odd_zero_is_below_and_right(size: int, before: int, after: int) -> None:
    image = torch.rand(1, 1, size, size)
    expected = F.pad(image, (before, after, before, after))
    torch.testing.assert_close(SamePadding(3, 2)(image), expected, rtol=0, atol=0)


@pytest.mark.skipif(SHARED is None, reason="SCONV_SEARCH_SHARED names no folder with the trained weights and photos")
def test_the_trained_weights_know_the_photos() -> None:
    root = Path(SHARED or "")
    network = efficientnet_lite0().eval()
    load_weights_(network, root / "weights" / "imagenet_efficientnet_lite0.safetensors")
    files = sorted((root / "imagenet_sample").glob("*.jpg"))[::10]
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB"))[16:240, 16:240] for file in files])
    with torch.no_grad():
        found = network((torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128).argmax(1)
    classes = torch.tensor([int(file.name[:4]) for file in files])
    assert (found == classes).float().mean() > 0.8  # 87.9 % of all 1,000; they are likely training images
