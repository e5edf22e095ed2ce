from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sconv_search.compressor import layers, require_sites, site, skipped, swapped


class OwnConv(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.shared = nn.Conv2d(4, 4, 1)
        self.again = nn.ModuleList([self.shared, nn.Conv1d(4, 4, 3)])
        self.volume = nn.Conv3d(1, 2, 2)
        self.head = nn.Linear(4, 2)
        self.own = OwnConv(4, 4, 3)
        self.up = nn.ConvTranspose2d(4, 4, 2)
        self.words = nn.Embedding(5, 4)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.head(self.again[0](self.shared(self.stem(x_NCHW))).mean((2, 3)))


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.mark.parametrize("name", ["stem", "stem.0", "again.0", "head"])
def test_a_site_is_the_module_of_that_name(network: Network, name: str) -> None:
    assert site(network, name) is network.get_submodule(name)


@pytest.mark.parametrize(
    ("name", "near"), [("stem.3", r"stem\.\d"), ("heads", "head"), ("Stem", "stem"), ("", "none alike")]
)
def test_an_unknown_site_is_named_with_near_ones(network: Network, name: str, near: str) -> None:
    with pytest.raises(KeyError, match=rf"site '{name}', which Network lacks; nearest: .*{near}"):
        site(network, name)


def test_all_sites_are_required(network: Network) -> None:
    require_sites(network, ["stem.0", "again.1"])
    with pytest.raises(KeyError, match="'tail'"):
        require_sites(network, ["stem.0", "tail"])


def test_layers_are_in_order_and_a_shared_one_comes_once(network: Network) -> None:
    found = layers(network)
    assert list(found) == ["stem.0", "shared", "again.1", "volume", "head"]
    assert all(layer is network.get_submodule(name) for name, layer in found.items())


def test_a_bare_layer_has_no_name_to_be_replaced_under() -> None:
    assert layers(nn.Conv2d(3, 4, 3)) == {}


def test_modules_with_weights_that_are_not_offered_are_listed_with_the_reason(network: Network) -> None:
    assert skipped(network, ["stem.0", "again.1", "volume", "head"]) == {
        "shared": "Conv2d: no option is cheaper than dense",
        "own": "OwnConv is a subclass of Conv2d, which may compute something else",
        "up": "ConvTranspose2d: no option is cheaper than dense",
        "words": "Embedding is not supported",
    }


def test_swapping_leaves_the_argument_untouched(network: Network) -> None:
    before, modules = copy.deepcopy(network.state_dict()), list(network.modules())
    result = swapped(network, {"stem.0": nn.Conv2d(3, 4, 5), "shared": nn.Identity()})
    with torch.no_grad():
        for weight in result.parameters():
            weight.add_(1)
    assert list(network.modules()) == modules
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_swapping_replaces_only_what_is_named(network: Network) -> None:
    replacement = nn.Conv2d(3, 4, 5)
    result = swapped(network, {"stem.0": replacement})
    assert result.stem[0] is replacement
    assert result.stem[1] is not network.stem[1]
    same = {name: value for name, value in network.state_dict().items() if not name.startswith("stem.0")}
    assert all(torch.equal(result.state_dict()[name], value) for name, value in same.items())
    assert isinstance(result.stem[1], nn.BatchNorm2d)


@pytest.mark.parametrize("name", ["shared", "again.0"])
def test_a_shared_module_is_replaced_wherever_it_is_used(network: Network, name: str) -> None:
    replacement = nn.Identity()
    result = swapped(network, {name: replacement})
    assert result.shared is replacement
    assert result.again[0] is replacement


def test_swapping_nothing_gives_an_equal_copy(network: Network) -> None:
    result = swapped(network, {})
    assert result is not network
    assert result.shared is result.again[0]
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(result(x), network(x))


def test_a_shared_module_cannot_be_replaced_twice() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="sites '1' and '0' are one shared module"):
        swapped(nn.Sequential(layer, layer), {"0": nn.Identity(), "1": nn.Identity()})


def test_networks_made_in_inference_mode_are_taken() -> None:
    with torch.inference_mode():
        network = nn.Sequential(nn.Linear(3, 3))
    require_sites(network, ["0"])
