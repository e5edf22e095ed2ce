from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from sconv_search.studies.granularity import grouped, require_granularity

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


BLOCKS = {
    "timm EfficientNet": {
        "blocks.0.0": ["blocks.0.0.conv_dw", "blocks.0.0.se.conv_reduce", "blocks.0.0.conv_pw"],
        "blocks.0.1": ["blocks.0.1.conv_pw"],
        "blocks.3.2": ["blocks.3.2.conv_pwl", "blocks.3.2.se.conv_expand"],
        "conv_stem": ["conv_stem"],
        "classifier": ["classifier"],
    },
    "timm ResNet": {
        "layer1.0": ["layer1.0.conv1", "layer1.0.downsample.0"],
        "layer1.1": ["layer1.1.conv1"],
        "fc": ["fc"],
    },
    "timm ConvNeXt": {
        "stem.0": ["stem.0"],
        "stages.1": ["stages.1.downsample.1"],
        "stages.1.blocks.0": ["stages.1.blocks.0.conv_dw", "stages.1.blocks.0.mlp.fc1"],
        "stages.1.blocks.1": ["stages.1.blocks.1.conv_dw"],
    },
    "timm RegNet": {"s1.b1": ["s1.b1.conv1.conv", "s1.b1.conv2.conv", "s1.b1.downsample.conv"], "stem": ["stem.conv"]},
    "timm HRNet": {
        "stage2.0.branches.0.0": ["stage2.0.branches.0.0.conv1", "stage2.0.branches.0.0.conv2"],
        "stage2.0.branches.0.1": ["stage2.0.branches.0.1.conv1"],
        "stage2.0.fuse_layers.0.1": ["stage2.0.fuse_layers.0.1.0"],
    },
    "Swin": {"layers.0.blocks.1": ["layers.0.blocks.1.attn.qkv", "layers.0.blocks.1.mlp.fc1"]},
    "torchvision MobileNetV2": {
        "features.0": ["features.0.0"],
        "features.3": ["features.3.conv.0.0", "features.3.conv.1.0", "features.3.conv.2"],
        "classifier.1": ["classifier.1"],
    },
    "torchvision EfficientNet": {
        "features.1.0": ["features.1.0.block.0.0", "features.1.0.block.1.fc1"],
        "features.2.1": ["features.2.1.block.0.0"],
    },
    "torchvision RegNet": {
        "trunk_output.block1.block1-0": ["trunk_output.block1.block1-0.proj.0", "trunk_output.block1.block1-0.f.a.0"]
    },
    "like torchvision DenseNet": {
        "features.block1.layer1": ["features.block1.layer1.conv1", "features.block1.layer1.conv2"],
        "features.block1.layer2": ["features.block1.layer2.conv1", "features.block1.layer2.conv2"],
    },
    "torchvision Inception": {"Mixed_5b": ["Mixed_5b.branch1x1.conv", "Mixed_5b.branch5x5_1.conv"]},
    "torchvision VGG": {"features.0": ["features.0"], "features.2": ["features.2"], "classifier.3": ["classifier.3"]},
}


@pytest.mark.parametrize("family", BLOCKS)
def test_the_blocks_of_well_known_networks_are_those_of_their_papers(family: str) -> None:
    wanted = {site: block for block, sites in BLOCKS[family].items() for site in sites}
    assert grouped(wanted, "block", {}) == wanted


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("mobilenet_v2", 17), ("efficientnet_b0", 16), ("resnet18", 8), ("mnasnet1_0", 16), ("convnext_tiny", 18)],
)
def test_torchvision_networks_have_as_many_blocks_of_several_layers_as_their_papers_say(name: str, blocks: int) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, name)()
    sites = [site for site, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    found = list(grouped(sites, "block", {}).values())
    assert sum(found.count(block) > 1 for block in set(found)) == blocks


def test_a_stage_reads_one_resolution_whatever_the_channels() -> None:
    """A layer that is called twice counts by its first call; vectors and layers that are never called are one stage."""
    first = frozenset({"conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1"})
    assert groups("stage") == {
        first,
        frozenset({"layer2.0.conv1"}),
        frozenset({"features.4.block.0", "head.fc", "head.out"}),
    }
    assert grouped(["conv1"], "stage", SHAPES) == {"conv1": "32×32"}


def test_an_unknown_granularity_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="there is no granularity 'net'; it is one of layer, block, stage"):
        require_granularity("net")
