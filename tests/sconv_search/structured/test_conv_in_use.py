"""Training, storing, exporting and low precision of structured layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from sconv_search import StructuredConv1d, StructuredConv2d, StructuredConv3d, StructuredLinear


def network() -> nn.Sequential:
    return nn.Sequential(
        StructuredConv2d.from_conv(nn.Conv2d(3, 8, 3, stride=2, padding=1), c=2, n=2),
        nn.ReLU(),
        StructuredConv2d.from_conv(nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=2), c=3, n=2),
        StructuredConv2d.from_conv(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", groups=8), c=1, n=1),
        StructuredConv2d.from_conv(nn.Conv2d(8, 6, 1, stride=2), c=4, n=1),
        nn.Flatten(),
        StructuredLinear.from_linear(nn.Linear(24, 5), c=7),
    ).eval()


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "1d": (lambda: StructuredConv1d.from_conv(nn.Conv1d(6, 4, 5, padding=2), c=3, n=2), (6, 9)),
    "2d": (lambda: StructuredConv2d.from_conv(nn.Conv2d(6, 4, 3, padding=1), c=3, n=2), (6, 7, 7)),
    "3d": (lambda: StructuredConv3d.from_conv(nn.Conv3d(4, 4, 3, padding=1, stride=2), c=2, n=2), (4, 6, 6, 6)),
    "linear": (lambda: StructuredLinear.from_linear(nn.Linear(12, 5), c=5), (12,)),
}
layers = pytest.mark.parametrize(("made", "shape"), LAYERS.values(), ids=LAYERS.keys())


@layers
def test_a_state_dict_holds_the_weight_and_the_bias_and_restores_the_layer(
    made: Callable[[], Any], shape: tuple[int, ...]
) -> None:
    layer, other = made(), made()
    other.load_state_dict(layer.state_dict(), strict=True)
    x = torch.randn(2, *shape)
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    assert torch.equal(other(x), layer(x))


def test_a_layer_without_bias_stores_the_weight_only() -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(4, 4, 3, bias=False), c=2, n=2)
    assert list(layer.state_dict()) == ["weight"]


@layers
def test_training_reaches_all_parameters_and_lowers_the_loss(made: Callable[[], Any], shape: tuple[int, ...]) -> None:
    layer = made()
    x = torch.randn(16, *shape)
    with torch.no_grad():
        target = layer.to_dense()(x) + 0.3 * torch.randn(layer(x).shape[1:])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        assert all(weight.grad.abs().min() > 0 for weight in layer.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_gradients_of_the_layer_are_those_of_finite_differences() -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(4, 2, 3, stride=2, padding=1, dtype=torch.float64), c=2, n=2)
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    plain = {name: weight.detach().clone().requires_grad_() for name, weight in layer.named_parameters()}

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(run, (x, plain["weight"], plain["bias"]))  # before the layer projects them


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_kept_and_the_dense_layer_untouched(training: bool) -> None:
    conv = nn.Conv2d(4, 4, 3).train(training)
    before = copy.deepcopy(conv.state_dict())
    layer = StructuredConv2d.from_conv(conv, c=2, n=2)
    with torch.no_grad():
        layer.bias.add_(1)
    assert layer.training is training
    assert layer.to_dense().training is training
    assert all(torch.equal(before[name], value) for name, value in conv.state_dict().items())


def test_an_exported_program_computes_the_same_at_any_batch_size() -> None:
    composed, x = network(), torch.randn(2, 3, 8, 8)
    program = torch.export.export(composed, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    for batch in (2, 5):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(program(x), composed(x), rtol=0, atol=1e-6)


@layers
def test_each_kind_of_layer_exports(made: Callable[[], Any], shape: tuple[int, ...]) -> None:
    layer, x = made(), torch.randn(2, *shape)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x), rtol=0, atol=1e-6)


def test_onnx_runtime_computes_the_same(tmp_path: Path) -> None:
    composed, x = network(), torch.randn(2, 3, 8, 8)
    path = tmp_path / "network.onnx"
    torch.onnx.export(composed, (x,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), composed(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_network_computes_the_same(backend: str) -> None:
    composed, x = network(), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(composed, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), composed(x), rtol=0, atol=1e-5)


def relative_error(layer: nn.Module, x: Tensor, exact: Tensor, dtype: torch.dtype) -> float:
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        found = layer(x)
    return float(torch.linalg.vector_norm(found.double() - exact) / torch.linalg.vector_norm(exact))


# (kernel, input channels, c, n)
SHAPES = [
    (3, 16, 8, 3),
    (3, 16, 16, 2),
    (3, 64, 16, 2),
    (3, 64, 4, 1),
    (3, 256, 128, 2),
    (5, 64, 64, 1),
    (7, 16, 8, 1),
    (7, 64, 4, 1),
]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inner", [True, False], ids=["inner layer", "first layer"])
@pytest.mark.parametrize(("kernel", "channels", "c", "n"), SHAPES)
def test_low_precision_costs_at_most_twice_what_it_costs_the_dense_layer(
    dtype: torch.dtype, inner: bool, kernel: int, channels: int, c: int, n: int
) -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(channels, 16, kernel, padding=kernel // 2), c=c, n=n)
    dense = layer.to_dense()
    rounded = torch.randn(2, channels, 8, 8).to(dtype)
    exact = copy.deepcopy(dense).double()(rounded.double()).detach()
    x = rounded if inner else rounded.float()
    assert 0 < relative_error(layer, x, exact, dtype) <= 2 * relative_error(dense, x, exact, dtype)


def test_a_strided_layer_of_one_tap_and_few_channels_trains_in_channels_last_memory() -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(2, 8, 3, stride=2, padding=1), c=2, n=1)
    images = torch.randn(32, 2, 12, 12).to(memory_format=torch.channels_last)
    for _ in range(20):  # a kernel that writes past its buffer ends the process after a few
        layer.zero_grad()
        layer(images).sum().backward()
    dense = layer.to_dense()
    dense(images).sum().backward()
    torch.testing.assert_close(layer.weight.grad, dense.weight.grad.mean((2, 3), keepdim=True), rtol=1e-4, atol=1e-3)
