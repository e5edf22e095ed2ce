"""Networks of any inputs as networks of one tensor, which is what fits to calibration inputs and timings run."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from sconv_search.cost.network_inputs import Inputs, arguments

PREFIX = "network."
"""Before the names of a packed network's sites."""


class PackedNetwork(nn.Module):
    """A network called with one tensor (N, features), in which all tensors of its own inputs stand side by side.

    Args:
        network: called as the example is.
        example: a tuple of positional arguments or a dict; what is no tensor in it is the same for every call.
    """

    def __init__(self, network: nn.Module, example: Inputs) -> None:
        super().__init__()
        self.network = network
        leaves, self._spec = pytree.tree_flatten(arguments(network, example))
        self._leaves = [leaf if not isinstance(leaf, Tensor) else None for leaf in leaves]
        self._shapes = [(leaf.shape[1:], leaf.dtype) for leaf in leaves if isinstance(leaf, Tensor)]
        self._made_in = self._dtype()

    def packed(self, inputs: Inputs) -> Tensor:
        """Inputs of the example's structure, (N, ...) each, as (N, features)."""
        leaves = [leaf for leaf in pytree.tree_leaves(arguments(self.network, inputs)) if isinstance(leaf, Tensor)]
        wide = torch.float64 if any(not leaf.is_floating_point() for leaf in leaves) else torch.float32
        return torch.cat([leaf.reshape(len(leaf), -1).to(wide) for leaf in leaves], dim=1)

    def forward(self, x: Tensor) -> Any:
        """(N, features) -> whatever the network gives; in another type of its weights, if they were converted since."""
        sizes, now = [shape.numel() for shape, _ in self._shapes], self._dtype()
        parts = iter(
            part.reshape(-1, *shape).to(now if dtype == self._made_in else dtype)
            for part, (shape, dtype) in zip(x.split(sizes, dim=1), self._shapes, strict=True)
        )
        leaves = [next(parts) if leaf is None else leaf for leaf in self._leaves]
        positional, named = pytree.tree_unflatten(leaves, self._spec)
        return self.network(*positional, **named)

    def _dtype(self) -> torch.dtype | None:
        """Of the network's floating-point weights; None if it has none."""
        return next((weight.dtype for weight in self.network.parameters() if weight.is_floating_point()), None)
