"""The exponential moving average of a network's weights over its training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follows the weights and batch-norm statistics of a network in training; what is not a floating-point number is
    left.

    Args:
        decay: share of the average that a step keeps; less in the first steps, (1 + steps) / (10 + steps), so that the
            untrained weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._followed = [t.detach() for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]
        self._average = [tensor.clone() for tensor in self._followed]
        self._decay, self._steps = decay, torch.zeros((), dtype=torch.int64)

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights after one more step in."""
        steps = int(self._steps)
        decay = min(self._decay, (1 + steps) / (10 + steps))
        self._steps += 1
        torch._foreach_lerp_(self._average, self._followed, 1 - decay)

    @torch.no_grad()
    def put_(self) -> None:
        """Puts the average in the place of the network's weights."""
        torch._foreach_copy_(self._followed, self._average)

    def state(self) -> dict[str, Tensor]:
        """The average and the number of its steps, by name; what is written into these tensors is what it goes on
        from.
        """
        return {"steps": self._steps, **{str(index): tensor for index, tensor in enumerate(self._average)}}
