"""Which channels of a network can only go together: coupled groups as its traces tell them, each one put to the test.

A group passes if a network without some of its channels computes the same as one in which the layers that read these
channels ignore them. So what the tracing misreads (a padded shortcut, a channel shuffle, a norm across channels) costs
options, never a wrong network.

Source: Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sconv_search.channels.cutting import makes_channels
from sconv_search.channels.dependency_graph import Group, UntraceableError, coupled_groups
from sconv_search.channels.forms import small_traces, traces_of
from sconv_search.channels.parts import tested
from sconv_search.channels.stand_in import own_weights, stand_in
from sconv_search.cost.input_shape import takes, told_shape
from sconv_search.system.cache import architecture

__all__ = ["Dependencies", "dependencies", "takes"]
REMEMBERED = 16


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """A network's groups by site, and why the channels of each other layer stay."""

    groups: Mapping[str, Group]
    left_out: Mapping[str, str]


_REMEMBERED: dict[Hashable, Dependencies | UntraceableError] = {}  # copies of a network are equal here


def dependencies(network: nn.Module) -> Dependencies:
    """The network's groups, in network order; they depend on its architecture, not on its weights.

    Traced is an input of the shape that ``takes`` was told, else the first common one on which the network runs.

    Raises:
        UntraceableError: the network cannot be copied, or fails on every input shape tried.
    """
    same = architecture(network)
    shape = told_shape(same)
    key = (same, shape, any(weight.is_meta for weight in network.parameters()))
    if key not in _REMEMBERED:
        try:
            result: Dependencies | UntraceableError = _dependencies(network, shape)
        except UntraceableError as error:
            result = error.with_traceback(None)
        except Exception as error:  # of any kind: the network's own code runs, and other methods still work
            result = UntraceableError(f"tracing it fails: {type(error).__name__}: {error}")
        _put(_REMEMBERED, key, result)
    known = _REMEMBERED[key]
    if isinstance(known, UntraceableError):
        raise UntraceableError(str(known))
    return known


def _put(kept: dict[Hashable, Any], key: Hashable, value: object) -> None:
    if len(kept) >= REMEMBERED:
        kept.pop(next(iter(kept)))
    kept[key] = value


def _dependencies(network: nn.Module, shape: tuple[int, ...] | None) -> Dependencies:
    whole = _unlike_their_kind(network)
    double = stand_in(network, torch.float32, whole)
    traces = traces_of(double, shape, whole)
    if outside := {name: where for trace in traces for name, where in trace.read_outside.items() if name not in whole}:
        whole |= {
            name: f"its weights are read outside of it, by {where.rstrip(',')}" for name, where in outside.items()
        }
        double = stand_in(network, torch.float32, whole)
        traces = traces_of(double, traces[0].form.shape[1:] if shape is None else shape, whole)
    groups, left_out = coupled_groups(network, traces, whole)
    failed = tested(network, small_traces(double, traces, whole), list(groups.values()), whole)
    return Dependencies(
        groups={name: group for name, group in groups.items() if name not in failed}, left_out=left_out | failed
    )


def _unlike_their_kind(network: nn.Module) -> dict[str, str]:
    """Layers that are not as their kind: their weights are another module's too, or computed, or their forward is
    replaced.
    """
    first: dict[int, str] = {}
    reasons: dict[str, str] = {}
    for name, module in network.named_modules():
        if makes_channels(module) and not own_weights(module):
            reasons[name] = "its weight or bias is computed, or its forward replaced"
        for weight in module.parameters(recurse=False):
            other = first.setdefault(id(weight), name)
            if other != name:
                reasons |= {
                    name: f"its weights are those of {other!r} too",
                    other: f"its weights are those of {name!r} too",
                }
    return reasons
