"""Layers as single nodes of graphs that ``torch.fx`` traces symbolically, as torch's own layers are."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy


def as_node(layer: nn.Module, *given: Any) -> Tensor | None:
    """The symbol of what the layer gives, its call being a node of the graph; None where it is given no symbol."""
    for argument in given:
        if isinstance(argument, Proxy):
            tracer: Any = argument.tracer
            proxy: Any = tracer.create_proxy("call_module", tracer.path_of_module(layer), given, {})
            return proxy  # type: ignore[no-any-return]  # a Proxy, which the network takes for a tensor
    return None
