from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan, StructuredConv2d
from sconv_search.calibration.replacement_proof import Proof
from sconv_search.compressor import Prepared
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.studies import METHODS, compress
from sconv_search.studies.methods import compress_again, method_named, penalty

MIXED = CompressionPlan(
    sites={
        "layer1.0.conv1": Choice(method="structured_conv", structure={"c": 16, "n": 2}),
        "layer2.0.conv1": Choice(method="spatial_svd", structure={"rank": 8}),
    }
)


def test_the_methods_are_keyed_by_their_names() -> None:
    assert all(name == method.name for name, method in METHODS.items())
    assert {"structured_conv", "spatial_svd"} <= set(METHODS)


def test_a_mixed_plan_is_carried_out_in_one_call() -> None:
    network = cifar_resnet(20).eval()
    built = compress(network, MIXED)
    assert isinstance(built.layer1[0].conv1, StructuredConv2d)
    assert isinstance(built.layer2[0].conv1, nn.Sequential)
    assert built.layer1[0].conv2.weight.equal(network.layer1[0].conv2.weight)
    assert built(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_channels_are_pruned_before_what_is_left_is_factorized() -> None:
    sites = {**MIXED.sites, "layer3.0.conv1": Choice(method="channel_pruning", structure={"keep": 16})}
    sites["layer3.0.conv2"] = Choice(method="structured_conv", structure={"c": 48, "n": 2, "merged": 1})
    sites["layer3.1.conv1"] = Choice(method="tucker", structure={"rank_in": 32, "rank_out": 16})
    sites["layer3.1.conv2"] = Choice(method="structured_conv", structure={"c": 48, "n": 2, "merged": 1})
    network = cifar_resnet(20).eval()
    built = compress(network, CompressionPlan(sites=sites), torch.randn(2, 3, 32, 32), reference=network)
    assert built.layer3[0].conv2.in_channels == 16
    assert built.layer3[0].conv2.c == 12  # 48 of 64 channels, of which 16 are left
    assert built.layer3[1].conv1[1].out_channels == 16
    assert built.layer3[1].conv2.c == 48
    assert built(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_the_penalty_of_a_mixed_plan_is_that_of_its_regularizable_part() -> None:
    network = cifar_resnet(20)
    expected = METHODS["structured_conv"].penalty(network, MIXED.only("structured_conv"))()
    assert penalty(network, MIXED)() == expected > 0
    assert penalty(network, CompressionPlan(sites={}))() == 0


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        KeyError, match=r"unknown method 'structured_con'; nearest: structured_conv.*; known: channel_pruning, cp, "
    ):
        method_named("structured_con")
    plan = CompressionPlan(sites={"conv1": Choice(method="magic", structure={"rank": 1})})
    with pytest.raises(KeyError, match="unknown method 'magic'"):
        compress(cifar_resnet(20), plan)


def test_an_unknown_layer_is_refused_before_anything_is_built() -> None:
    plan = CompressionPlan(sites={"layer9.conv": Choice(method="spatial_svd", structure={"rank": 1})})
    with pytest.raises(KeyError, match=r"plan names site 'layer9\.conv', which CifarResNet lacks; nearest: layer"):
        compress(cifar_resnet(20), plan)


@pytest.mark.parametrize("name", ["structured_conv", "structured_natural", "spatial_svd", "weight_svd", "tucker", "cp"])
def test_weights_that_are_not_finite_are_refused_by_the_name_of_their_layer(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    choice = Choice(method=name, structure=METHODS[name].options(network)["1"][0])
    with torch.no_grad():
        network[1].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(ValueError, match="site '1': its weight is not finite everywhere"):
        compress(network, CompressionPlan(sites={"1": choice}))


class Reading(nn.Sequential):
    """Reads the weight of its first layer beside calling it."""

    def forward(self, x: Tensor) -> Tensor:
        x = self[0](x)
        return F.linear(x, self[0].weight) if x.shape[-1] == 4 else x


LOW_RANK = CompressionPlan(sites={"0": Choice(method="weight_svd", structure={"rank": 2})})


@pytest.mark.parametrize("data", [None, torch.zeros(3, 4), {"x": torch.zeros(3, 4)}], ids=["none", "tensor", "dict"])
def test_a_layer_that_no_other_can_stand_in_for_is_refused_with_the_reason(data: Tensor | None) -> None:
    network = Reading(nn.Linear(4, 4), nn.ReLU())
    with pytest.raises(TypeError, match=r"site '0': no other layer can stand in its place: .*reads its weights"):
        compress(network, LOW_RANK, data)
    compress_again(network, LOW_RANK)  # of files of earlier versions, too


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_is_made_again_for_saved_weights_decomposes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decomposed(*arguments: Any, **more: Any) -> None:
        raise AssertionError("a kernel was decomposed")

    network, other = cifar_resnet(20).eval(), cifar_resnet(20).double().train()
    other.conv1.weight.requires_grad_(False)
    options = {site: own for site, own in METHODS[name].options(network).items() if own}
    middle = {site: Choice(method=name, structure=own[len(own) // 2]) for site, own in options.items()}
    plan, x = CompressionPlan(sites=middle), torch.randn(2, 3, 32, 32)
    small = compress(network, plan)
    for function in ("svd", "eigh", "solve", "lstsq"):
        monkeypatch.setattr(torch.linalg, function, decomposed)
    again = compress_again(other, plan)
    assert again.training
    assert all(weight.dtype == torch.float64 for weight in again.parameters())
    assert not any(weight.requires_grad for weight in again.conv1.parameters())
    again.load_state_dict(small.state_dict())
    torch.testing.assert_close(again.float().eval()(x), small(x), atol=0, rtol=0)


class Doubled(nn.Module):
    """Holds what it was told of a weight where no file does."""

    def __init__(self, factor: Tensor, *, unsaved: bool) -> None:
        super().__init__()
        self.register_buffer("factor", factor, persistent=not unsaved)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize("reads", ["a value", "an unsaved buffer"])
def test_a_method_that_reads_values_is_made_again_from_those_of_the_architecture(
    reads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(layer: nn.Linear, moments: None) -> nn.Module:
        if reads == "a value":
            return Doubled(torch.tensor(float(layer.weight[0, 0])), unsaved=False)
        return Doubled(layer.weight.detach().sum(), unsaved=True)

    network, method = nn.Sequential(nn.Linear(4, 4)), METHODS["weight_svd"]
    monkeypatch.setattr(type(method), "prepared", lambda _, left, *__: Prepared(network=left, builds={"0": build}))
    again = compress_again(network, LOW_RANK)
    with torch.no_grad():
        wanted = network[0].weight[0, 0] if reads == "a value" else network[0].weight.sum()
    torch.testing.assert_close(again(torch.ones(4)), wanted.expand(4))


def test_what_calibration_inputs_tell_is_what_the_layers_are_put_to_the_proof_on() -> None:
    class Positioned(Reading):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 4), nn.ReLU())
            self.position = nn.Parameter(torch.zeros(7, 1))

        def forward(self, x: Tensor) -> Tensor:
            if x.dim() != 3:
                raise ValueError("needs positions")
            return super().forward(x.float() + self.position)

    network = Positioned()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compress(network, LOW_RANK)  # no common shape runs: the plan is taken as it is
    with pytest.raises(TypeError, match="site '0'"):
        compress(network, LOW_RANK, torch.zeros(2, 7, 4, dtype=torch.long))


def test_layers_by_themselves_and_networks_seen_before_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, run = list[nn.Module](), Proof._run
    monkeypatch.setattr(Proof, "_run", lambda self, network, *on: (runs.append(network), run(self, network, *on))[1])
    compress(nn.Sequential(nn.Linear(4, 4)), LOW_RANK)
    assert not runs
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    counts = []
    for _ in range(3):
        with torch.no_grad():
            network[0].weight.add_(1)
        compress(network, LOW_RANK)
        counts.append(len(runs))
    assert counts[0] > 0
    assert counts == counts[:1] * 3


def test_a_plan_that_only_prunes_needs_no_replaceable_layer() -> None:
    network = Reading(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).eval()
    plan = CompressionPlan(sites={"0": Choice(method="channel_pruning", structure={"keep": 2})})
    with pytest.raises(ValueError, match="site '0'"):  # by what pruning itself knows
        compress(network, plan)
