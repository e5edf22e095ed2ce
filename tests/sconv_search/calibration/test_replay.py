from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sconv_search.calibration.replay import called_once, outputs_before, replay_
from sconv_search.compressor import layers, site, swapped
from sconv_search.copying import copied
from sconv_search.networks.efficientnet_lite import efficientnet_lite0
from sconv_search.networks.resnet import cifar_resnet


class PreActivation(nn.Module):
    """Its block writes over what the shortcut adds later, and its last layer is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.first = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))
        self.second = nn.Conv2d(4, 4, 1)
        self.head = nn.Sequential(nn.Flatten(2), nn.Dropout(0.5))
        self.twice = nn.Linear(36, 36)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        out = self.first(x)
        out += x
        return self.twice(self.twice(self.head(self.second(out))))


def branches() -> nn.Module:
    from torchvision.models import mobilenet_v2

    return mobilenet_v2(num_classes=4)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "in_place": PreActivation,
    "resnet": lambda: cifar_resnet(20),
    "lite": efficientnet_lite0,
    "torchvision": branches,
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_changed_layer_gives_what_the_whole_network_gives(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network = make().eval()
    x = torch.randn(2, 3, 8, 8) if isinstance(network, PreActivation) else torch.randn(2, 3, 32, 32)

    def run(changed: nn.Module) -> Tensor:
        with torch.no_grad():
            return changed(x)

    once, known = called_once(network, run), network
    places = [*layers(network)]
    for name in dict.fromkeys([*places[:: max(1, len(places) // 4)], places[-1]]):
        given = outputs_before(known, name, run, once)
        known = replay_(copied(network), given)
        built = swapped(network, {name: nn.Sequential(site(network, name), nn.Tanh())})
        again = replay_(copied(built), given)
        assert torch.equal(run(again), run(built)), name
        assert torch.equal(run(again), run(built)), "a second time, too"
        assert given or name == places[0], name


def test_what_comes_before_is_not_run_and_what_is_around_is() -> None:
    network, x = cifar_resnet(20).eval(), torch.zeros(1, 3, 32, 32)
    once = called_once(network, lambda changed: changed(x))
    given = outputs_before(network, "layer2.1.conv2", lambda changed: changed(x), once)
    assert [name for name in given if name.startswith("layer")] == [
        "layer1",
        "layer2.0",
        "layer2.1.conv1",
        "layer2.1.bn1",
    ]
    again, ran = replay_(copied(network), given), list[str]()
    for name, module in again.named_modules():
        if name.endswith(("conv1", "conv2")):
            module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    again(x)
    assert not any(name.startswith(("layer1", "layer2.0")) for name in ran)
    assert "layer2.1.conv2" in ran


def test_a_module_that_is_called_twice_stands_for_nothing() -> None:
    network, x = PreActivation().eval(), torch.zeros(1, 3, 8, 8)
    once = called_once(network, lambda changed: changed(x))
    assert "twice" not in once
    given = outputs_before(network, "first.1", lambda changed: changed(x), once)
    assert {name: one.in_place for name, one in given.items()} == {"stem": False, "norm": False, "first.0": True}
    assert "first" not in outputs_before(network, "second", lambda changed: changed(x), once), (
        "it writes over its input"
    )
    assert outputs_before(network, "twice", lambda changed: changed(x), once).keys() >= {"second"}
