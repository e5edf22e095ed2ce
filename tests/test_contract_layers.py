"""What the outside can see of a layer stays, whatever method replaces it: a law that every method obeys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan, Compressor
from sconv_search.studies import METHODS, compress

pytestmark = pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")  # tiny kernels are hard to sweep
REPLACING = {name: method for name, method in METHODS.items() if not method.reshapes_neighbors}


class Habits(nn.Module):
    """Asks its layers for what networks ask them for, and reaches them by all the ways that networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular")
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(6, 12, 3, padding="same")
        self.fc = nn.Linear(12, 10)
        self.fc.scale = 0.5
        self.listed = [self.stem, {"down": self.down}]
        self.enlarge = lambda x, size: self.up(x, output_size=size)
        self.kept: Tensor | None = None
        self.stem.register_forward_hook(self.keep)
        self.mix.register_forward_pre_hook(lambda layer, given: (given[0] * 2,))
        self.fc.register_forward_hook(
            lambda layer, given, named, output: output + named["input"].mean(), with_kwargs=True
        )

    def keep(self, layer: nn.Module, given: Any, output: Tensor) -> None:
        self.kept = output.mean((2, 3))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        first, others = self.listed
        size = x_NCHW.shape[2:]
        x_NCHW = others["down"](first(x_NCHW.to(self.stem.weight.dtype)).relu()).relu()
        assert (self.up.in_channels, self.up.stride, self.up.transposed) == (8, (2, 2), True)
        x_NCHW = self.mix(self.enlarge(x_NCHW, size).relu()).mean((2, 3)).view(-1, self.fc.in_features)
        assert self.fc.weight.device == x_NCHW.device
        assert self.mix.weight.shape[0] == self.mix.out_channels
        return self.fc(input=x_NCHW) * self.fc.scale + self.kept.mean(1, keepdim=True)


@pytest.fixture(params=REPLACING.values(), ids=REPLACING)
def method(request: pytest.FixtureRequest) -> Compressor:
    return request.param


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Habits().double().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def plan_of(method: Compressor, network: nn.Module, *, whole: bool) -> CompressionPlan:
    """Every site at its greatest structure, at which nothing is lost, or at its cheapest option."""
    sites = {
        name: method.limits(network.get_submodule(name)) if whole else options[0]
        for name, options in method.options(network).items()
    }
    return CompressionPlan(sites={name: Choice(method=method.name, structure=chosen) for name, chosen in sites.items()})


def test_a_network_of_many_habits_computes_the_same(method: Compressor, network: nn.Module, images: Tensor) -> None:
    plan = plan_of(method, network, whole=True)
    assert "mix" in plan.sites
    network(torch.randn_like(images))  # leaves something behind that the copy must not use
    torch.testing.assert_close(compress(network, plan)(images), network(images), rtol=0, atol=1e-9)


def test_no_replaced_layer_is_run_as_before(method: Compressor, network: nn.Module, images: Tensor) -> None:
    plan = plan_of(method, network, whole=False)
    for name, choice in plan.sites.items():
        small = compress(network, CompressionPlan(sites={name: choice}))
        assert not torch.allclose(small(images), network(images), rtol=0, atol=1e-9), name


def test_frozen_layers_stay_frozen_and_modes_stay(method: Compressor, network: nn.Module) -> None:
    network.mix.weight.requires_grad_(False)
    network.fc.requires_grad_(False)
    network.stem.train()
    small = compress(network, plan_of(method, network, whole=False))
    trained = {name for name, weight in small.named_parameters() if weight.requires_grad}
    assert not any(name.startswith("fc.") for name in trained)
    assert {name for name in trained if name.startswith("mix.")} <= {
        "mix.bias",
        "mix.1.bias",
        "mix.2.bias",
        "mix.3.bias",
    }
    assert any(name.startswith("mix.") for name in trained)
    assert all(module.training for module in small.stem.modules())
    assert not any(module.training for module in small.mix.modules())


def test_kernels_lie_in_memory_as_before(method: Compressor) -> None:
    network = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU()).to(memory_format=torch.channels_last)
    small = compress(network, plan_of(method, network, whole=False))
    assert all(
        weight.is_contiguous(memory_format=torch.channels_last) for weight in small.parameters() if weight.dim() == 4
    )


@pytest.mark.filterwarnings("ignore")
def test_compressed_networks_are_traced_and_scripted(method: Compressor) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 8, 3), nn.Flatten(2), nn.Linear(64, 6)).eval()
    small, x = compress(network, plan_of(method, network, whole=False)), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        wanted = small(x)
        for made in (torch.fx.symbolic_trace(small), torch.jit.script(small), torch.vmap(small)):
            found = made(x[:, None])[:, 0] if made is not small and not isinstance(made, nn.Module) else made(x)
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert [type(module) for module in small] == [
        type(module) for module in compress(network, plan_of(method, network, whole=False))
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(method: Compressor, value: float) -> None:
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    plan = plan_of(method, network, whole=False)
    with torch.no_grad():
        network[2].weight[0, 0, 0, 0] = value
    assert set(method.options(network)) == {"0", "2"}
    with pytest.raises(ValueError, match="site '2': its weight is not finite everywhere"):
        compress(network, plan)
