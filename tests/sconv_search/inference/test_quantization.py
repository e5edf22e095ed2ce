"""Networks in int8 compute nearly what they did."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sconv_search.inference.export import export_onnx
from sconv_search.inference.quantization import quantize_onnx
from sconv_search.inference.runtimes import onnx_forward

pytestmark = pytest.mark.filterwarnings("ignore")


def layers() -> nn.Module:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3)
    with torch.no_grad():
        first.weight[0] *= 100  # of one scale a layer, the other filters keep few of their bits
    return nn.Sequential(first, nn.ReLU(), second).eval()


def test_int8_computes_nearly_the_same_and_better_with_a_scale_a_filter(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    network, x = layers(), torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    export_onnx(network, x[:2], tmp_path / "float.onnx", {})
    error = {}
    for per_channel in (False, True):
        quantize_onnx(tmp_path / "float.onnx", x, tmp_path / "int8.onnx", per_channel=per_channel, weight_bits=7)
        found = onnx_forward(tmp_path / "int8.onnx")(x)
        error[per_channel] = float((found - network(x)).norm() / network(x).norm())
    assert 1e-4 < error[True] < 0.1, "rounded, not wrong"
    assert error[True] < error[False]
    model = pytest.importorskip("onnx").load(tmp_path / "int8.onnx")
    assert {init.data_type for init in model.graph.initializer if init.name.endswith("weight_quantized")} == {3}, "int8"
