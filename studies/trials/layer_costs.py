"""What each layer of a network cost before compression and costs after it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sconv_search.cost.counting import measure_modules
from sconv_search.cost.network_inputs import Inputs
from sconv_search.records import Cost


def layer_costs(dense: nn.Module, compressed: nn.Module, input_shape: Inputs) -> dict[str, dict[str, Any]]:
    """Layer name -> its kind, the shape of its dense weight, and ``[macs, adds, params]`` before and after.

    A layer is a module of the dense network with a weight of at least two axes and nothing inside it. After compression
    the module of the same name stands for it, whatever it is made of. Measured on the networks as built.
    """
    before, after = measure_modules(dense, input_shape), measure_modules(compressed, input_shape)
    rows = {}
    for name, module in dense.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.dim() >= 2 and not list(module.children()) and name in after:
            facts = {"kind": type(module).__name__, "weight": list(weight.shape)}
            rows[name] = {**facts, "before": _amounts(before[name]), "after": _amounts(after[name])}
    return rows


def _amounts(cost: Cost) -> list[int]:
    return [cost.macs, cost.adds, cost.params]
