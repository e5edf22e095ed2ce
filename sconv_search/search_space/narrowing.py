"""What a choice at a layer costs once pruned neighbors have made the layer narrower.

Costs add up over sites as long as their choices change different layers. A layer that is compressed by itself while
other sites prune what it reads or makes is built on what is left of it; how that differs from the sum is tabled here,
for every width that pruning can leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from sconv_search.plan import Choice
from sconv_search.records import Cost
from sconv_search.strict_json import built, shown

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
        return {pair: index for index, pair in enumerate(self.widths)}

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


@dataclass(frozen=True, kw_only=True)
class _BeyondEntry:
    method: str
    structure: Mapping[str, int]
    costs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class _NarrowingEntry:
    inputs: Side
    outputs: Side
    widths: tuple[tuple[int, int], ...]
    beyond: tuple[_BeyondEntry, ...]


def narrowing_of(entry: Any, where: str = "") -> Narrowing:
    """The narrowing that ``narrowing_entry`` wrote.

    Args:
        where: what the entry is, for errors.

    Raises:
        ValueError: a field is missing, unknown or of a wrong type.
    """
    own = built(_NarrowingEntry, entry, where)
    beyond = {
        Choice(method=costs.method, structure=costs.structure): tuple(_cost(amounts, where) for amounts in costs.costs)
        for costs in own.beyond
    }
    return Narrowing(inputs=own.inputs, outputs=own.outputs, widths=own.widths, beyond=beyond)


def _cost(amounts: Sequence[float], where: str) -> Cost:
    if len(amounts) != len(AMOUNTS):
        raise ValueError(
            f"a cost of {shown(where)} must be {len(AMOUNTS)} numbers ({', '.join(AMOUNTS)}), got {shown(amounts)}"
        )
    return built(Cost, dict(zip(AMOUNTS, amounts, strict=True)), where)
