from __future__ import annotations

import pytest
import torch

from sconv_search import measure_cost
from sconv_search.networks.mobilenet import cifar_mobilenet_v2

CHANNELS = [32] + [16] + [24] * 2 + [32] * 3 + [64] * 4 + [96] * 3 + [160] * 3 + [320]
SIZES = [32] * 4 + [16] * 3 + [8] * 7 + [4] * 4
"""Channels and height of the stem's output, then of each block's."""
BLOCKS = list(zip(CHANNELS[:-1], CHANNELS[1:], SIZES[:-1], SIZES[1:], [1] + [6] * 16, strict=True))


def test_images_become_logits() -> None:
    assert cifar_mobilenet_v2(7).eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("classes", [10, 100])
def test_costs_are_those_of_the_paper_s_table_at_these_sizes(classes: int) -> None:
    macs, params = 3 * 32 * 9 * 32**2, 3 * 32 * 9 + 2 * 32
    for inputs, outputs, before, after, expansion in BLOCKS:
        inner = inputs * expansion
        expand = inputs * inner if expansion > 1 else 0
        macs += expand * before**2 + (9 * inner + inner * outputs) * after**2
        params += (expand and expand + 2 * inner) + 9 * inner + 2 * inner + inner * outputs + 2 * outputs
    head = 320 * 1280
    cost = measure_cost(cifar_mobilenet_v2(classes), (3, 32, 32))
    assert cost.macs == macs + head * 4**2 + 1280 * classes
    assert cost.params == params + head + 2 * 1280 + (1280 + 1) * classes
    skips = sum(o * a**2 for i, o, b, a, _ in BLOCKS if i == o and b == a)  # the shortcuts' additions
    assert cost.adds == skips + 1280 * 4**2  # and the mean over the last stage


def test_parameters_have_torchvision_s_names() -> None:
    from torchvision.models import mobilenet_v2

    ours, theirs = cifar_mobilenet_v2(1000).state_dict(), mobilenet_v2().state_dict()
    assert {name: w.shape for name, w in ours.items()} == {name: w.shape for name, w in theirs.items()}
