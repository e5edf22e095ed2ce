"""How wide the layers of a network can be left by the choices that prune channels, for other methods to compress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sconv_search.channels.cutting import sizes
from sconv_search.channels.dependency_graph import Group
from sconv_search.channels.groups import dependencies
from sconv_search.compressor import site
from sconv_search.plan import Choice
from sconv_search.search_space.narrowing import Side
from sconv_search.studies.methods import method_named

MOST_PAIRS = 1024
"""Pairs of widths for which a layer's costs are tabled; a concatenation of many pruned groups has more."""


@dataclass(frozen=True, kw_only=True)
class Widths:
    """What pruning can leave of one layer: how its sides follow from the channels that sites drop, and all pairs of
    widths.
    """

    inputs: Side
    outputs: Side
    pairs: tuple[tuple[int, int], ...]


def channels_dropped(network: nn.Module, name: str, choice: Choice) -> int:
    """Channels of its own layer that a choice takes away; 0 where it replaces the layer."""
    return method_named(choice.method).dropped(site(network, name), choice.structure)


def _reshapes(choice: Choice) -> bool:
    return method_named(choice.method).reshapes_neighbors


def left_by_pruning(
    network: nn.Module, choices: Mapping[str, Sequence[Choice]]
) -> tuple[dict[str, Widths], dict[str, str]]:
    """The widths of each layer that has choices of its own and is narrowed by those of others, and why some are not
    known.

    A layer of which the second says why can be pruned or compressed in a study, but not both.
    """
    pruning = {name: [choice for choice in options if _reshapes(choice)] for name, options in choices.items()}
    drops = {
        name: sorted({0, *(channels_dropped(network, name, choice) for choice in options)})
        for name, options in pruning.items()
        if options
    }
    drops = {name: counts for name, counts in drops.items() if len(counts) > 1}
    if not drops:
        return {}, {}
    groups = dependencies(network).groups
    widths: dict[str, Widths] = {}
    refused: dict[str, str] = {}
    for name, options in choices.items():
        if len(pruning[name]) == len(options):
            continue
        others = (
            groups[other_name] for other_name in drops if other_name != name
        )  # a site that prunes has no other choice
        met = [group for group in others if any(member.layer == name for member in group.members)]
        if not met:
            continue
        try:
            inputs, outputs = (_side(network.get_submodule(name), name, met, made) for made in (False, True))
            widths[name] = Widths(inputs=inputs, outputs=outputs, pairs=_pairs(inputs, outputs, drops))
        except ValueError as error:
            refused[name] = str(error)
    return widths, refused


def unmixed(network: nn.Module, choices: Mapping[str, Sequence[Choice]]) -> dict[str, str]:
    """Layers that a study which also prunes channels does not compress by other methods, with the reason."""
    methods = {name: dict.fromkeys(choice.method for choice in options) for name, options in choices.items()}
    return {
        name: f"{', '.join(own)}: not together with channel pruning, as {reason}"
        for name, reason in left_by_pruning(network, choices)[1].items()
        if (own := [method for method in methods[name] if not method_named(method).reshapes_neighbors])
    }


def mixable(network: nn.Module, choices: Mapping[str, Sequence[Choice]]) -> dict[str, list[Choice]]:
    """The choices whose costs are known in every plan; sites without any are absent."""
    refused = left_by_pruning(network, choices)[1]
    kept = {
        name: [c for c in options if name not in refused or method_named(c.method).reshapes_neighbors]
        for name, options in choices.items()
    }
    return {name: options for name, options in kept.items() if options}


def _side(layer: nn.Module, name: str, groups: Iterable[Group], made: bool) -> Side:
    """The layer's outputs, or its inputs.

    Raises:
        ValueError: how many channels go does not follow from how many a site drops.
    """
    channels, lost, seen = sizes(layer)[made], dict[str, int](), list[torch.Tensor]()
    for group in groups:
        for member in group.members:
            if member.layer != name or member.side not in ("both", "out" if made else "in"):
                continue
            counts = torch.bincount(member.channels, minlength=group.channels)
            if counts.unique().numel() > 1:
                raise ValueError(f"how many of its channels go depends on which ones go at {group.site!r}")
            lost[group.site] = lost.get(group.site, 0) + int(counts[0])
            seen.append(member.positions)
    if seen and torch.cat(seen).unique().numel() < sum(map(len, seen)):
        raise ValueError(f"sites {', '.join(map(repr, lost))} prune the same channels of it")
    return Side(channels=channels, lost=lost)


def _pairs(inputs: Side, outputs: Side, drops: Mapping[str, Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """All numbers of input and output channels that can be left, the dense layer's first.

    Raises:
        ValueError: there are too many.
    """
    pairs = {(inputs.channels, outputs.channels)}
    for name in dict.fromkeys((*inputs.lost, *outputs.lost)):
        fewer = [(inputs.lost.get(name, 0) * count, outputs.lost.get(name, 0) * count) for count in drops[name]]
        pairs = {(read - less[0], made - less[1]) for read, made in pairs for less in fewer}
        if len(pairs) > MOST_PAIRS:
            raise ValueError(
                f"{len(inputs.lost)} sites prune what it reads, in more than {MOST_PAIRS} combinations of widths"
            )
    return tuple(sorted(pairs, reverse=True))
