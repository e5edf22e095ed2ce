from __future__ import annotations

import pytest

from studies.granularity import grouped, require_granularity

SITES = [
    "conv1",
    "layer1.0.conv1",
    "layer1.0.conv2",
    "layer1.1.conv1",
    "layer2.0.conv1",
    "features.4.block.0",
    "head.fc",
    "head.out",
]
SHAPES = {
    "conv1": [(3, 32, 32)],
    "layer1.0.conv1": [(16, 32, 32)],
    "layer1.0.conv2": [(16, 32, 32)],
    "layer1.1.conv1": [(16, 32, 32), (16, 8, 8)],
    "layer2.0.conv1": [(16, 16, 16)],
    "features.4.block.0": [],
    "head.fc": [(64,)],
}


def groups(granularity: str) -> set[frozenset[str]]:
    """Sites that share a group."""
    found: dict[str, set[str]] = {}
    for site, group in grouped(SITES, granularity, SHAPES).items():  # type: ignore[arg-type]
        found.setdefault(group, set()).add(site)
    return {frozenset(sites) for sites in found.values()}


def test_each_layer_is_a_group_of_its_own_by_default() -> None:
    assert grouped(SITES, "layer", SHAPES) == {name: name for name in SITES}


def test_a_block_is_what_a_numbered_module_holds_or_else_the_parent() -> None:
    assert grouped(SITES, "block", SHAPES) == {
        "conv1": "conv1",
        "layer1.0.conv1": "layer1.0",
        "layer1.0.conv2": "layer1.0",
        "layer1.1.conv1": "layer1.1",
        "layer2.0.conv1": "layer2.0",
        "features.4.block.0": "features.4",
        "head.fc": "head",
        "head.out": "head",
    }


def test_the_layers_of_a_plain_sequence_are_blocks_of_their_own() -> None:
    assert grouped(["0", "3"], "block", {}) == {"0": "0", "3": "3"}


def test_a_stage_reads_one_resolution_whatever_the_channels() -> None:
    """A layer that is called twice counts by its first call; vectors and layers that are never called are one stage."""
    first = frozenset({"conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1"})
    assert groups("stage") == {first, frozenset({"layer2.0.conv1"}), frozenset({"features.4.block.0", "head.fc", "head.out"})}
    assert grouped(["conv1"], "stage", SHAPES) == {"conv1": "32×32"}


def test_an_unknown_granularity_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="there is no granularity 'net'; it is one of layer, block, stage"):
        require_granularity("net")
