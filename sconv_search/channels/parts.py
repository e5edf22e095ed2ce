"""Where groups are put to the test: in the whole network, or each in the smallest module that holds it.

The first is quick unless the network computes much that has no stand-in, such as the attention of a large transformer.
There groups are tested module by module, equal modules once.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import replace
from itertools import takewhile

from torch import nn

from sconv_search.channels.dependency_graph import Group
from sconv_search.channels.label_tracing import MOST_CALLS, Like, Trace
from sconv_search.channels.proof import Call, Part, UntestableError, defects
from sconv_search.channels.stand_in import is_thin
from sconv_search.system.cache import architecture
from sconv_search.system.content import content_of

HEAVY = 2**23
"""Weights that are computed in whole, from which on groups are tested module by module."""


def tested(
    network: nn.Module, traces: Sequence[Trace], groups: Sequence[Group], whole: Collection[str]
) -> dict[str, str]:
    """Sites of groups that fail the test, with what is wrong.

    Args:
        traces: of the paths on which to test.
        whole: layers that are computed in whole.
    """
    homes: dict[str, list[Group]] = {}
    heavy = _weights_computed(network, whole) >= HEAVY
    for group in groups:
        homes.setdefault(_home(network, group, traces) if heavy else "", []).append(group)
    reasons: dict[str, str] = {}
    known: dict[Hashable, dict[str, str]] = {}
    in_the_network = homes.pop("", [])
    for home, own in homes.items():
        part = _part(network, home, traces, whole)
        local = [_within(home, group) for group in own]
        key = _key(part, local)
        try:
            if key not in known:
                known[key] = _failing(part, local)
            reasons |= {f"{home}.{site}": reason for site, reason in known[key].items()}
        except UntestableError:
            in_the_network += own
    try:
        return reasons | _failing(_part(network, "", traces, whole), in_the_network)
    except UntestableError:
        return reasons | {group.site: "the network gives no finite numbers to compare" for group in in_the_network}


def _failing(part: Part, groups: Sequence[Group]) -> dict[str, str]:
    """Tests until all groups that are left pass together."""
    reasons: dict[str, str] = {}
    while failed := defects(part, [group for group in groups if group.site not in reasons]):
        reasons |= failed
    return reasons


def _weights_computed(network: nn.Module, whole: Collection[str]) -> int:
    layers = network.named_modules()
    return sum(
        weight.numel()
        for name, layer in layers
        if name in whole or not is_thin(layer)
        for weight in layer.parameters(recurse=False)
    )


def _home(network: nn.Module, group: Group, traces: Sequence[Trace]) -> str:
    """The smallest module that holds the group and is called, a few times at most, wherever a member is."""
    members = {member.layer for member in group.members}
    paths = [name.split(".")[:-1] for name in members]
    common = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))]
    for length in range(len(common), 0, -1):
        name = ".".join(common[:length])
        calls = [len(trace.calls.get(name, ())) for trace in traces if members & trace.ran]
        if calls and min(calls) > 0 and max(calls) <= MOST_CALLS:
            return name
    return ""


def _part(network: nn.Module, name: str, traces: Sequence[Trace], whole: Collection[str]) -> Part:
    if not name:
        on_inputs: list[Call] = [(trace.form, (Like(trace.form.shape),), {}) for trace in traces]
        return Part(module=network, calls=on_inputs, whole=whole)
    calls = [(trace.form, *given) for trace in traces for given in trace.calls.get(name, ())]
    inner = {layer.removeprefix(f"{name}.") for layer in whole if layer.startswith(f"{name}.")}
    return Part(module=network.get_submodule(name), calls=calls, whole=inner)


def _within(home: str, group: Group) -> Group:
    """The group with names as the module at home has them."""
    members = tuple(replace(member, layer=member.layer.removeprefix(f"{home}.")) for member in group.members)
    return replace(group, site=group.site.removeprefix(f"{home}."), members=members)


def _key(part: Part, groups: Sequence[Group]) -> Hashable:
    calls = [(form.training, args, named) for form, args, named in part.calls]
    return (architecture(part.module), content_of(calls), content_of(list(groups)), frozenset(part.whole))
