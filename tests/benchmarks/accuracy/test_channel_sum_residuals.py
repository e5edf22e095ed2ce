from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.accuracy.channel_sum_residuals import RATIOS, mean_residuals, relative_residual
from sconv_search.structured.kernels import relative_residual as of_boxes


def conv(channels: int, filters: int) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels, filters, 3, bias=False).double()


def test_the_natural_residual_is_that_of_the_boxes() -> None:
    layer = conv(8, 4)
    assert relative_residual(layer, 3, "natural") == pytest.approx(
        float(of_boxes(layer.weight.detach(), (3, 3, 3))), abs=1e-12
    )


def test_equal_channels_merge_without_error() -> None:
    layer = conv(6, 4)
    with torch.no_grad():
        layer.weight[:, 3:] = layer.weight[:, :3]
    assert relative_residual(layer, 3, "merged") == pytest.approx(0, abs=1e-12)
    assert relative_residual(layer, 3, "natural") > 0.1
    with torch.no_grad():
        layer.weight[:, 4] *= -1
    assert relative_residual(layer, 3, "signed_merged") == pytest.approx(0, abs=1e-12)
    assert relative_residual(layer, 3, "merged") > 0.1


def test_the_first_layer_and_other_kernel_sizes_are_left_out() -> None:
    first, measured = conv(4, 12), conv(12, 12)
    found = mean_residuals(nn.Sequential(first, measured, nn.Conv2d(12, 12, 1)))
    counts = [round(12 / ratio) for ratio in RATIOS]
    assert counts == [9, 8, 5, 3]
    for variant, values in found.items():
        assert values == [relative_residual(measured, count, variant) for count in counts]
    assert list(found) == ["natural", "permuted", "merged", "signed_permuted", "signed_merged"]
