"""Sums that are made again in the backward pass give the gradients that kept ones give."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search.structured.conv import StructuredConv2d
from sconv_search.structured.sums.eager_sums import sums_kept

STRUCTURES = {"merged": (8, 3), "permuted": (8, 3), "natural": (16, 2), "signed_merged": (8, 2)}


class Stack(nn.Module):
    """Structured layers, each after a batch norm and a ReLU."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        stack: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
        for _ in range(3):
            c, n = STRUCTURES[variant]
            layer = StructuredConv2d.from_conv(nn.Conv2d(16, 16, 3, padding=1), c=c, n=n, variant=variant)
            stack += [nn.BatchNorm2d(16), nn.ReLU(), layer]
        self.stack = nn.Sequential(*stack)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 16)."""
        found: Tensor = self.stack(x).mean((2, 3))
        return found


def images(memory_format: torch.memory_format = torch.channels_last) -> Tensor:
    """Some noise, always the same."""
    return torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=memory_format)


def step(network: nn.Module, x: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    """Forward and backward."""

    def run() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = network(x).square().sum()
        loss.backward()

    return run


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variant", STRUCTURES)
def test_gradients_are_those_of_kept_sums(variant: str, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    again = Stack(variant).to(memory_format=memory_format)
    kept = copy.deepcopy(again)
    step(again, images(memory_format), dtype)()
    with sums_kept():
        step(kept, images(memory_format), dtype)()
    for one, other in zip(again.parameters(), kept.parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]  # it has one, too


def saved_by(layer: nn.Module, x: Tensor) -> list[int]:
    """How often the layer's sums are made in a forward and a backward pass."""
    made: list[int] = []
    layer.pooling.register_forward_hook(lambda *_: made.append(1))  # type: ignore[union-attr]
    layer(x).sum().backward()
    return made


def test_small_sums_of_an_input_that_nothing_keeps_are_kept() -> None:
    """A ReLU keeps what it wrote; a sum of two tensors keeps nothing, and its half of the channels is less than all."""
    layer = StructuredConv2d.from_conv(nn.Conv2d(8, 4, 3, padding=1), c=4, n=3, variant="merged")
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    assert len(saved_by(copy.deepcopy(layer), x.relu())) == 2
    assert len(saved_by(copy.deepcopy(layer), x + x)) == 1
    with sums_kept():
        assert len(saved_by(copy.deepcopy(layer), x.relu())) == 1
    assert len(saved_by(copy.deepcopy(layer), x.relu())) == 2


def test_an_input_modified_after_it_was_read_is_refused() -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(4, 4, 3, padding=1), c=4, n=2)
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    read = x * 1.0
    out = layer(read)
    read.add_(1)
    with pytest.raises(RuntimeError, match="modified in place after the layer read it"):
        out.sum().backward()


def test_second_derivatives_and_transforms_work() -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(4, 4, 3, padding=1), c=4, n=2).double()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda given: layer(given.sigmoid()), (x,))
    parameters = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(own: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, own, (x.detach(),)).square().sum()

    found = torch.func.grad(loss)(parameters)
    F.mse_loss(layer(x), torch.zeros_like(x), reduction="sum").backward()
    torch.testing.assert_close(found["bias"], layer.bias.grad)  # type: ignore[union-attr]


def test_shapes_alone_are_computed_too() -> None:
    layer = StructuredConv2d.from_conv(nn.Conv2d(4, 6, 3, padding=1), c=4, n=2).to("meta")
    assert layer(torch.zeros(2, 4, 5, 5, device="meta", requires_grad=True)).shape == (2, 6, 5, 5)
