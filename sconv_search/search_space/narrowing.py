"""What a choice at a layer costs once pruned neighbors have made the layer narrower.

Costs add up over sites as long as their choices change different layers. A layer that is compressed by itself while
other sites prune what it reads or makes is built on what is left of it; how that differs from the sum is tabled here,
for every width that pruning can leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from sconv_search.plan import Choice
from sconv_search.records import Cost

AMOUNTS = tuple(f.name for f in fields(Cost))


@dataclass(frozen=True, kw_only=True)
class Side:
    """The channels that a layer reads, or makes.

    Args:
        channels: of the dense layer.
        lost: site -> channels that go here with each that is dropped there.
    """

    channels: int
    lost: Mapping[str, int] = field(default_factory=dict)

    def left(self, dropped: Mapping[str, int]) -> int:
        """The channels that stay when sites drop so many of theirs."""
        return self.channels - sum(count * dropped.get(name, 0) for name, count in self.lost.items())


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What each of a layer's own choices costs at every width, beyond what it costs in the dense network.

    Args:
        widths: all pairs of input and output channels that pruning can leave.
        beyond: choice -> for each pair of widths, what replacing the narrowed layer costs minus what replacing the
            dense one does.

    Raises:
        ValueError: a choice has not one cost for each pair.
    """

    inputs: Side
    outputs: Side
    widths: tuple[tuple[int, int], ...]
    beyond: Mapping[Choice, tuple[Cost, ...]]

    def __post_init__(self) -> None:
        for choice, costs in self.beyond.items():
            if len(costs) != len(self.widths):
                raise ValueError(f"{choice} has {len(costs)} costs for {len(self.widths)} pairs of widths")

    @cached_property
    def _places(self) -> dict[tuple[int, int], int]:
        return {pair: place for place, pair in enumerate(self.widths)}

    def correction(self, choice: Choice, dropped: Mapping[str, int]) -> Cost:
        """What the choice costs beyond its cost in the dense network, when sites drop so many of their channels."""
        return self.beyond[choice][self._places[self.inputs.left(dropped), self.outputs.left(dropped)]]


def narrowing_entry(narrowing: Narrowing) -> dict[str, Any]:
    """The narrowing as JSON knows it."""
    sides = {
        name: {"channels": side.channels, "lost": dict(side.lost)}
        for name, side in (("inputs", narrowing.inputs), ("outputs", narrowing.outputs))
    }
    beyond = [
        {
            "method": choice.method,
            "structure": dict(choice.structure),
            "costs": [[getattr(cost, amount) for amount in AMOUNTS] for cost in costs],
        }
        for choice, costs in narrowing.beyond.items()
    ]
    return {**sides, "widths": [list(pair) for pair in narrowing.widths], "beyond": beyond}


def narrowing_of(entry: Mapping[str, Any]) -> Narrowing:
    """The narrowing that ``narrowing_entry`` wrote."""
    beyond = {
        Choice(method=own["method"], structure=own["structure"]): tuple(
            Cost(**dict(zip(AMOUNTS, amounts, strict=True))) for amounts in own["costs"]
        )
        for own in entry["beyond"]
    }
    widths = tuple((int(inputs), int(outputs)) for inputs, outputs in entry["widths"])
    return Narrowing(inputs=Side(**entry["inputs"]), outputs=Side(**entry["outputs"]), widths=widths, beyond=beyond)
