"""Channels-last memory, in which CPUs and GPUs convolve fastest, for networks of layers of any number of dimensions."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Of tensors of so many dimensions."""
Module = TypeVar("Module", bound=nn.Module)


def layout(x: Tensor) -> torch.memory_format:
    """``channels_last``, or that of volumes, where a tensor lies so; else the plain one."""
    last = LAST.get(x.dim(), torch.contiguous_format)
    return last if x.is_contiguous(memory_format=last) and not x.is_contiguous() else torch.contiguous_format


def channels_last(x: Tensor) -> Tensor:
    """Images (N, C, H, W) channels-last; all others as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def channels_last_(network: Module) -> Module:
    """Lays out the network's 2-D kernels channels-last, in place; all others stay, where ``Module.to`` raises for
    volumes.
    """
    return lay_out_(network, torch.channels_last)


def lay_out_(network: Module, memory_format: torch.memory_format) -> Module:
    """Lays out those of the network's tensors that have the format's number of dimensions, in place."""
    for tensor in (*network.parameters(), *network.buffers()):
        if LAST.get(tensor.dim()) == memory_format:
            # strides too where one channel makes formats alike
            tensor.data = tensor.data.to(memory_format=memory_format)
    return network
