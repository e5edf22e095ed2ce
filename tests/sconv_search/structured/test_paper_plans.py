from __future__ import annotations

import pytest
import torchvision.models
from torch import nn

from sconv_search import Choice, StructuredConvolution
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.structured.paper_plans import PAPER_PLANS, paper_plan


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    names = ("resnet18", "resnet34", "resnet50", "mobilenet_v2", "efficientnet_b1")
    every = {name: getattr(torchvision.models, name)() for name in names}
    hrnet = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 128, 3), nn.Conv2d(128, 128, 3))
    cifar = {f"cifar/resnet{depth}": cifar_resnet(depth) for depth in (20, 32, 56)}
    return {**every, **cifar, "cifar/mobilenet_v2": every["mobilenet_v2"], "hrnet_w18_small_v2": hrnet}


def structures(name: str, network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {site: tuple(choice.structure.values()) for site, choice in paper_plan(name, network).sites.items()}


def test_a_keeps_the_channels_and_two_of_three_taps_of_all_3x3_layers_but_the_stem(
    networks: dict[str, nn.Module],
) -> None:
    found = structures("resnet18/A", networks["resnet18"])
    stages = {1: 64, 2: 128, 3: 256, 4: 512}
    before = {stage: stages.get(stage - 1, 64) for stage in stages}
    expected = {f"layer{s}.{b}.conv{i}": (w, 2) for s, w in stages.items() for b in (0, 1) for i in (1, 2)}
    assert found == {**expected, **{f"layer{stage}.0.conv1": (width, 2) for stage, width in before.items()}}
    cifar = structures("cifar/resnet20/A", networks["cifar/resnet20"])
    assert "conv1" not in cifar
    assert len(cifar) == 18
    assert cifar["layer3.0.conv1"] == (32, 2)


def test_b_halves_the_channels_where_there_are_more_than_64(networks: dict[str, nn.Module]) -> None:
    found = structures("resnet18/B", networks["resnet18"])
    assert set(found) == set(structures("resnet18/A", networks["resnet18"]))
    assert (found["layer1.1.conv2"], found["layer2.0.conv1"], found["layer2.0.conv2"]) == ((64, 2), (64, 2), (64, 2))
    assert (found["layer4.0.conv1"], found["layer4.1.conv2"]) == ((128, 2), (256, 2))


def test_mobilenet_keeps_three_quarters_or_half_of_the_channels(networks: dict[str, nn.Module]) -> None:
    network = networks["mobilenet_v2"]
    a, b = structures("mobilenet_v2/A", network), structures("mobilenet_v2/B", network)
    assert "features.0.0" not in a
    assert len(a) == 53 - 1
    assert (a["features.1.conv.0.0"], b["features.1.conv.0.0"]) == ((1, 2), (1, 2))  # depthwise
    assert (a["features.2.conv.0.0"], b["features.2.conv.0.0"]) == ((12, 1), (8, 1))
    assert (a["classifier.1"], b["classifier.1"]) == ((960,), (640,))


def test_the_rules_serve_the_other_networks(networks: dict[str, nn.Module]) -> None:
    efficient = structures("efficientnet_b1/A", networks["efficientnet_b1"])
    assert not [site for site in efficient if "fc" in site]  # squeeze-and-excitation
    assert efficient["features.3.0.block.1.0"] == (1, 3)  # depthwise, 5x5
    assert efficient["classifier.1"] == (960,)
    bottleneck = structures("resnet50/B", networks["resnet50"])
    assert (bottleneck["layer1.0.conv1"], bottleneck["layer1.0.conv2"]) == ((32, 1), (64, 2))
    assert (bottleneck["layer4.0.downsample.0"], bottleneck["layer4.1.conv2"]) == ((512, 1), (256, 2))
    assert structures("hrnet_w18_small_v2/B", networks["hrnet_w18_small_v2"]) == {
        "1": (64, 2),
        "2": (64, 2),
        "3": (64, 2),
    }


@pytest.mark.parametrize("name", PAPER_PLANS)
def test_every_plan_can_be_carried_out(name: str, networks: dict[str, nn.Module]) -> None:
    network = networks[name.rpartition("/")[0]]
    method = StructuredConvolution()
    for site, choice in paper_plan(name, network).sites.items():
        limits = method.limits(network.get_submodule(site))
        assert choice.structure.keys() == limits.keys(), site
        assert all(1 <= value <= limits[entry] for entry, value in choice.structure.items()), site
        assert dict(choice.structure) != dict(limits), site  # each choice changes its layer


def test_the_method_of_the_choices_can_be_named() -> None:
    plan = paper_plan("cifar/resnet20/A", cifar_resnet(20), "structured_natural")
    assert plan.sites["layer1.0.conv1"] == Choice(method="structured_natural", structure={"c": 16, "n": 2})


def test_what_is_unknown_or_does_not_fit_is_refused() -> None:
    with pytest.raises(KeyError, match=r"unknown plan 'resnet18/C'; nearest: resnet18/B"):
        paper_plan("resnet18/C", cifar_resnet(20))
    with pytest.raises(ValueError, match="'resnet18/A' finds no layer to structure in Sequential"):
        paper_plan("resnet18/A", nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 2)))
