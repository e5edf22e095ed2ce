"""Smaller layers in the place of one, which show what the network may ask the layer for."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from sconv_search.layer_kinds import TRANSPOSED_KINDS, layer_kind
from sconv_search.system.symbolic import as_node


class FactorizedLayer(nn.Sequential):
    """Smaller layers, one after the other; ``weight`` and ``bias`` are those of the last.

    Its state dict is that of a ``Sequential``.
    """

    __jit_unused_properties__: ClassVar[list[str]] = ["weight", "bias"]

    @property
    def weight(self) -> Tensor:
        """Of the last layer, for its type, device and number of outputs."""
        last_weight: Tensor = self[-1].weight  # type: ignore[assignment]  # a parameter
        return last_weight

    @property
    def bias(self) -> Tensor | None:
        """Of the last layer, which adds what the dense layer added."""
        last_bias: Tensor | None = self[-1].bias  # type: ignore[assignment]  # a parameter, or none
        return last_bias


class FactorizedConvTranspose(FactorizedLayer):
    """The same for a transposed convolution, whose caller may say the size of the output."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, C_in, space...) -> (N, O, space...).

        Args:
            output_size: of the spatial axes, where the stride leaves a choice; all axes may be given.
        """
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            assert output_size is None, "a scripted factorized layer takes no output_size"
            for part in self:
                input = part(input)
            return input
        else:  # noqa: RET505  # what follows a return would be scripted
            node = as_node(self, input, output_size)
            return self._computed(input, output_size) if node is None else node

    def _computed(self, x: Tensor, output_size: list[int] | None) -> Tensor:
        for part in self:
            if output_size is not None and isinstance(part, _ConvTransposeNd):
                x = part(x, output_size=_reached(part, x, output_size))
            else:
                x = part(x)
        return x


def _reached(part: _ConvTransposeNd, x: Tensor, output_size: list[int]) -> list[int]:
    """The spatial sizes after one part, which leaves the axes as they are along which it has one tap and no stride."""
    axes = len(part.kernel_size)
    wanted, now = list(output_size)[-axes:], x.shape[-axes:]
    geometry = zip(part.kernel_size, part.stride, part.padding, strict=True)
    return [now[axis] if axis_geometry == (1, 1, 0) else wanted[axis] for axis, axis_geometry in enumerate(geometry)]


def factorized_layer(layer: nn.Module, *parts: nn.Module) -> FactorizedLayer:
    """The parts in the place of the layer, in its mode."""
    kind = FactorizedConvTranspose if layer_kind(layer) in TRANSPOSED_KINDS else FactorizedLayer
    return kind(*parts).train(layer.training)
