"""Layers that read one input alone, (C, space...) without the batch axis, as torch's convolutions and linear layers may."""

from __future__ import annotations

from torch import Tensor, nn


class SingleInput(nn.Module):
    """A module of batches, for a single input.

    Args:
        module: (N, C, space...) -> (N, O, space...).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """(C, space...) -> (O, space...)."""
        return self.module(x.unsqueeze(0)).squeeze(0)  # type: ignore[no-any-return]


def reads_single_input(layer: nn.Module, x: Tensor) -> bool:
    """Whether the batch axis is missing from what a convolution or linear layer, whose weight is (O, C, taps...), reads."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return x.dim() == weight.dim() - 1
