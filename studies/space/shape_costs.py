"""What layers and their replacements cost, by shapes alone: many of them in one trace, equal ones once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sconv_search.copying import without_hooks, without_values
from sconv_search.cost.counting import cost_of_calls, measure_modules
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost
from sconv_search.studies.methods import compress
from sconv_search.system.cache import architecture

TOGETHER = 64
"""Layers that are traced at once; a trace's own beginning and end take as long as several layers."""


@dataclass(frozen=True)
class Candidate:
    """A layer as it is called, dense or compressed by itself.

    Args:
        kind: its architecture.
        shapes: of the input of each call, without the batch.
        choice: None for the layer as it is.
    """

    kind: Hashable
    shapes: tuple[tuple[int, ...], ...]
    choice: Choice | None = None


def candidate(layer: nn.Module, shapes: Iterable[Sequence[int]], choice: Choice | None = None) -> Candidate:
    """The layer with inputs of these shapes, or what the choice makes of it."""
    return Candidate(architecture(layer), tuple(map(tuple, shapes)), choice)


def costs_by_shape(
    wanted: Mapping[Candidate, nn.Module], step: Callable[[int, int], None] = lambda done, total: None
) -> dict[Candidate, Cost]:
    """The cost of each candidate over all its calls; its parameters count once.

    Args:
        wanted: candidate -> a layer of its architecture.
        step: is told how many are done, of how many.
    """
    costs: dict[Candidate, Cost] = {}
    in_order = sorted(
        wanted, key=lambda item: item.choice.method if item.choice else ""
    )  # a method at a time imports once
    for start in range(0, len(in_order), TOGETHER):
        batch = in_order[start : start + TOGETHER]
        try:
            costs |= _together({item: wanted[item] for item in batch})
        except Exception:  # of any kind: one of them needs values, which then is measured with them
            costs |= {item: _alone(item, wanted[item]) for item in batch}
        step(len(costs), len(wanted))
    return costs


class _SideBySide(nn.Module):
    """Layers that are called on inputs of their own."""

    def __init__(self, layers: Iterable[nn.Module], shapes: Sequence[Sequence[Sequence[int]]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self._calls = [len(own) for own in shapes]
        for index, (layer, own) in enumerate(zip(self.layers, shapes, strict=True)):
            weight = next((w for w in layer.parameters() if w.is_floating_point()), torch.empty(()))
            for call, shape in enumerate(own):
                self.register_buffer(f"input_{index}_{call}", torch.empty(1, *shape, dtype=weight.dtype, device="meta"))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The results of all calls."""
        return [
            layer(getattr(self, f"input_{index}_{call}"))
            for index, layer in enumerate(self.layers)
            for call in range(self._calls[index])
        ]


def _together(wanted: Mapping[Candidate, nn.Module]) -> dict[Candidate, Cost]:
    layers = [without_values(without_hooks(layer)).eval() for layer in wanted.values()]
    shapes = [item.shapes for item in wanted]
    plan = CompressionPlan(sites={f"layers.{index}": item.choice for index, item in enumerate(wanted) if item.choice})
    built = compress(_SideBySide(layers, shapes), plan)
    costs = measure_modules(built, (1,), direct=True)
    return {item: costs[f"layers.{index}"] for index, item in enumerate(wanted)}


def _alone(item: Candidate, layer: nn.Module) -> Cost:
    holder = nn.Sequential(layer)
    plan = CompressionPlan(sites={"0": item.choice} if item.choice else {})
    return cost_of_calls(compress(holder, plan).get_submodule("0"), item.shapes)
