"""Whether a function returns a network that is trained already."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

SEEDS = (1, 2)


def returns_trained(make: Callable[[], nn.Module]) -> bool:
    """Whether what the function returns was trained: its batch norms have seen data, or, without any, its weights do
    not follow from the random numbers.
    """
    first = _seeded(make, SEEDS[0])
    seen = list(_statistics_moved(first))
    if seen:
        return any(seen)
    other = _seeded(make, SEEDS[1]).state_dict()
    matrices = {name: tensor for name, tensor in first.state_dict().items() if tensor.dim() > 1}
    return bool(matrices) and all(torch.equal(tensor, other[name]) for name, tensor in matrices.items())


def _seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _statistics_moved(network: nn.Module) -> Iterator[bool]:
    """For each layer with running statistics, whether they are others than a new layer's."""
    for layer in network.modules():
        mean, variance = getattr(layer, "running_mean", None), getattr(layer, "running_var", None)
        if isinstance(mean, Tensor) and isinstance(variance, Tensor):
            yield bool((mean != 0).any() or (variance != 1).any())
