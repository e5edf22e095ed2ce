"""Of which kind a layer is, and what speaks against it."""

from __future__ import annotations

import types

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from sconv_search import Choice, CompressionPlan
from sconv_search.layer_kinds import layer_kind, obstacle, obstacles
from sconv_search.studies import METHODS, compress


class Named(nn.Conv3d):
    """Computes by its base's methods."""

    @staticmethod
    def of_stride(stride: int) -> tuple[int, int, int]:
        return 1, stride, stride


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def patched(name: str) -> nn.Module:
    layer = nn.Conv2d(4, 4, 3)
    setattr(layer, name, types.MethodType(lambda self, x, *weights: x, layer))
    return layer


def scaled() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_buffer("scale", torch.ones(()))
    return layer


@pytest.mark.parametrize(
    "kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
)
def test_convolutions_are_of_their_kind(kind: type[nn.Module]) -> None:
    assert layer_kind(kind(4, 4, 3, bias=False)) is kind


def test_a_subclass_with_the_very_methods_of_its_base_is_of_its_kind() -> None:
    assert layer_kind(Named(4, 4, 3)) is nn.Conv3d
    network = nn.Sequential(Named(8, 8, 3), nn.ReLU())
    for name in ("structured_conv", "weight_svd", "tucker"):
        choice = Choice(method=name, structure=METHODS[name].options(network)["0"][0])
        assert compress(network, CompressionPlan(sites={"0": choice}))(torch.randn(1, 8, 4, 4, 4)).shape == (
            1,
            8,
            2,
            2,
            2,
        )


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Doubled(4, 4), "Doubled is a subclass of Linear, which may compute something else"),
        (lambda: patched("forward"), "its method 'forward' was replaced on this layer"),
        (lambda: patched("_conv_forward"), "its method '_conv_forward' was replaced on this layer"),
        (lambda: nn.LazyConv2d(4, 3), "LazyConv2d has no weights before the network has run once"),
        (lambda: nn.Conv2d(4, 4, 3, dtype=torch.complex64), "its weight is of type complex64"),
        (lambda: torch.jit.script(nn.Conv2d(4, 4, 3)), "RecursiveScriptModule is not supported"),
        (
            lambda: nn.utils.weight_norm(nn.Conv2d(4, 4, 3)),
            "its weight is no parameter: it is computed from weight_g, weight_v",
        ),
        (
            lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
            "its weight is no parameter: it is computed from weight_orig, weight_u",
        ),
        (
            lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
            "its weight is no parameter: it is computed from parametrizations",
        ),
        (
            lambda: prune.random_unstructured(nn.Linear(4, 4), "weight", 0.5),
            "it is computed from weight_orig, weight_mask",
        ),
        (lambda: prune.random_unstructured(nn.Linear(4, 4), "bias", 0.5), "its bias is no parameter"),
        (scaled, "it holds scale beside its weight and bias"),
        (nn.ReLU, "ReLU is not supported"),
    ],
)
def test_other_layers_are_left_alone_with_the_reason(make, reason: str) -> None:
    layer = make()
    assert layer_kind(layer) is None
    assert reason in obstacle(layer)
    if isinstance(layer, nn.Linear | nn.Conv2d):
        network = nn.Sequential(nn.Identity(), layer)
        assert "1" not in METHODS["weight_svd"].options(network)
        for name in ("structured_conv", "weight_svd"):
            with pytest.raises(TypeError, match="site '1': "):
                compress(network, CompressionPlan(sites={"1": Choice(method=name, structure={"c": 1, "rank": 1})}))


def test_tied_layers_are_left_alone() -> None:
    network = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4), "c": nn.Linear(4, 4)})
    network["b"].weight = network["a"].weight
    found = obstacles(network)
    assert found == {"a": "its weights are those of 'b' too", "b": "its weights are those of 'a' too"}
    with pytest.raises(TypeError, match="site 'b': its weights are those of 'a' too"):
        compress(network, CompressionPlan(sites={"b": Choice(method="weight_svd", structure={"rank": 1})}))


def test_layers_in_the_same_memory_are_left_alone() -> None:
    network = nn.ModuleDict({name: nn.Linear(4, 4, bias=False) for name in "abcd"})
    network["b"].weight = nn.Parameter(network["a"].weight.data.t())
    both = torch.randn(8, 4)  # side by side, but not in the same places
    network["c"].weight, network["d"].weight = nn.Parameter(both[:4]), nn.Parameter(both[4:])
    assert obstacles(network) == {"a": "its weights are those of 'b' too", "b": "its weights are those of 'a' too"}
    network["e"] = nn.Linear(4, 8, bias=False)
    network["e"].weight = nn.Parameter(both)
    assert set(obstacles(network)) == set("abcde")


def test_a_parameter_of_the_network_itself_is_no_ones_layer() -> None:
    class Decoding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(4, 3)
            self.kernel = self.encoder.weight

    assert obstacles(Decoding())["encoder"] == "its weights are read outside of it"
