"""A layer's channels sorted for free: the layer before it writes them in that order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sconv_search.inference.batch_norm_folding import NORMS, outputs_first, set_weight_
from sconv_search.inference.dataflow import Dataflow, Step
from sconv_search.structured.kinds import LINEAR_MAPS

_CHANNEL_BY_CHANNEL = {
    *(
        "relu",
        "relu6",
        "hardtanh",
        "silu",
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "tanh",
        "gelu",
        "elu",
        "leaky_relu",
        "mish",
    ),
    *(
        "dropout",
        "clamp",
        "contiguous",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
    ),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d", "interpolate"),
}
"""Functions of one tensor that treat all channels alike, by name, without underscores around it."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """The layer that writes what a layer reads, and the layers between them, which treat every channel on its own."""

    layer: nn.Module
    between: tuple[nn.Module, ...]


def writer(flow: Dataflow, module: nn.Module) -> Writer | None:
    """Whose outputs may be reordered for this layer: nothing but it, and what treats all channels alike, reads them."""
    (call,) = flow.calls(module) if flow.is_called_once(module) else (None,)
    between: list[nn.Module] = []
    while call is not None and call.inputs:
        value = call.inputs[0]
        call = flow.producer(value)
        if call is None or len(flow.readers(value)) > 1 or (call.module and not flow.is_called_once(call.module)):
            return None
        if call.module is None:
            if not _keeps_channels(flow, call):
                return None
        elif type(call.module) in NORMS or _is_depthwise(call.module):
            between.append(call.module)
        else:
            plain = type(call.module) in LINEAR_MAPS and getattr(call.module, "groups", 1) == 1
            return Writer(layer=call.module, between=tuple(between)) if plain else None
    return None


def common_writer(flows: Sequence[Dataflow], module: nn.Module) -> Writer | None:
    """The writer that this layer has in all flows of its network."""
    first, *others = (writer(flow, module) for flow in flows)
    return first if all(other == first for other in others) else None


def _keeps_channels(flow: Dataflow, call: Step) -> bool:
    if call.name.strip("_") not in _CHANNEL_BY_CHANNEL or len(call.inputs) != 1 or len(call.outputs) != 1:
        return False
    before, after = flow.shapes[call.inputs[0]], flow.shapes[call.outputs[0]]
    return len(before) == len(after) and before[:2] == after[:2]


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and 1 < module.groups == module.in_channels == module.out_channels


def reorder_(layers: Sequence[nn.Module], order: Tensor) -> None:
    """Changes the layers so that they write (those between: treat) their channels in that order, position ->
    channel.
    """
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            reorder_([layer[-1]], order)
        elif type(layer) in NORMS:
            _reorder_norm_(layer, order)
        else:
            bias = layer.bias
            kernel = outputs_first(layer, layer.weight.detach())[order]  # type: ignore[operator]  # a parameter
            set_weight_(layer, kernel, bias.detach()[order] if isinstance(bias, Tensor) else None)


def _reorder_norm_(norm: nn.Module, order: Tensor) -> None:
    with torch.no_grad():
        for tensor in (*norm.parameters(), *norm.buffers()):
            if tensor.dim():
                tensor.copy_(tensor[order].clone())
