"""A layer between two small pointwise ones, as it stands in a network: where the way in which it is computed is judged.

Runtimes keep activations in layouts of their own, blocks of channels for instance, and a layer that reads or writes
another pays for the change. Alone every layer begins and ends in the plain layout, so what cannot work in blocks seems
cheap: by OpenVINO, ResNet-18's sums over half of its channels seemed fastest as additions in 12 of 16 layers, and the
network was 1.23 times as fast as dense; with what is fastest between two others, 1.76 times (AVX512, one thread, batch
16, fp32).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search.copying import without_hooks
from sconv_search.cost.timing import Prepare, Run
from sconv_search.system.memory_format import layout

NARROW = 16
"""Channels that the first of them reads and the last writes: a register of fp32, so that both work in blocks and are
quick.
"""
POINTWISE = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


class Surrounded(nn.Module):
    """A pointwise layer, ReLU, the given layer, ReLU, and a pointwise layer.

    Args:
        layer: not modified.
        x: what it reads in use.
        axis: of the channels in its input and output: 1 of convolutions, -1 of linear layers.
    """

    def __init__(self, layer: nn.Module, x: Tensor, *, axis: int) -> None:
        super().__init__()
        own = copy.deepcopy(without_hooks(layer)).eval()
        with torch.no_grad():
            written = own(x[:1]).shape[axis]
        self.before = _pointwise(min(NARROW, x.shape[axis]), x.shape[axis], x, axis)
        self.layer = own
        self.after = _pointwise(written, NARROW, x, axis)

    def forward(self, x: Tensor) -> Tensor:
        """Like ``x``, with ``NARROW`` channels at most -> as the layer writes it, with ``NARROW`` channels."""
        return self.after(torch.relu(self.layer(torch.relu(self.before(x)))))  # type: ignore[no-any-return]


def surrounded_runs(layers: Mapping[str, nn.Module], x: Tensor, prepare: Prepare, *, axis: int) -> dict[str, Run]:
    """By name, one forward of each layer between two others.

    Args:
        x: what the layers read in use.
        axis: of the channels: 1 of convolutions, -1 of linear layers.
    """
    narrow = x.narrow(axis, 0, min(NARROW, x.shape[axis])).contiguous(memory_format=layout(x))
    return {name: prepare(Surrounded(layer, x, axis=axis), narrow) for name, layer in layers.items()}


def _pointwise(read: int, written: int, like: Tensor, axis: int) -> nn.Module:
    """With equal weights, that is means of channels: values do not change the time, and random numbers are not drawn
    here.
    """
    where: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    made: Any
    if axis == -1:
        made = nn.utils.skip_init(nn.Linear, read, written, bias=False, **where)
    else:
        made = nn.utils.skip_init(POINTWISE[like.dim()], read, written, 1, bias=False, **where)
    nn.init.constant_(made.weight, 1 / read)
    return made.eval().requires_grad_(False).to(memory_format=layout(like))  # type: ignore[no-any-return]
