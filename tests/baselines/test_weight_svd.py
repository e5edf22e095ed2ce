from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from tensorly import tenalg
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan, measure_cost
from sconv_search.baselines.weight_svd import WeightSVD, factorize

LAYERS: dict[str, nn.Module] = {
    "plain": nn.Conv2d(6, 4, 3),
    "strided": nn.Conv2d(6, 4, 3, stride=(2, 1), padding=(1, 2)),
    "dilated": nn.Conv2d(6, 4, 3, padding=2, dilation=(1, 2), bias=False),
    "same": nn.Conv2d(6, 4, (3, 4), padding="same", dilation=2),
    "valid": nn.Conv2d(6, 4, 3, padding="valid", stride=2),
    "groups": nn.Conv2d(6, 4, (3, 5), padding=(1, 2), groups=2),
    "pointwise, strided, padded": nn.Conv2d(6, 4, 1, stride=2, padding=1),
    **{mode: nn.Conv2d(6, 4, 3, padding=(2, 1), padding_mode=mode) for mode in ("reflect", "replicate", "circular")},
    "1d": nn.Conv1d(6, 4, 5, padding=2, stride=2),
    "3d": nn.Conv3d(6, 4, 3, padding=1, stride=(1, 2, 2), groups=2),
    "linear": nn.Linear(6, 4),
    "linear, no bias": nn.Linear(6, 4, bias=False),
}
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
SIZES = {0: (), 1: (9,), 2: (9, 8), 3: (5, 6, 5)}


def inputs(layer: nn.Module, count: int = 2) -> Tensor:
    return torch.randn(count, 6, *SIZES[layer.weight.dim() - 2], dtype=torch.float64)


def plan_of(site: str, rank: int) -> CompressionPlan:
    return CompressionPlan(sites={site: Choice(method="weight_svd", structure={"rank": rank})})


def composed(pair: nn.Sequential, groups: int) -> Tensor:
    first, second = (half.weight.detach().flatten(1).unflatten(0, (groups, -1)) for half in pair)
    return (second @ first).flatten(0, 1)


@layers
def test_the_pair_is_the_dense_layer_of_its_composed_weights(layer: nn.Module) -> None:
    dense = copy.deepcopy(layer).double()
    pair = factorize(dense, 1)
    dense.weight.data.copy_(composed(pair, getattr(layer, "groups", 1)).reshape(dense.weight.shape))
    x = inputs(layer)
    torch.testing.assert_close(pair(x), dense(x))


@layers
def test_full_rank_is_exact(layer: nn.Module) -> None:
    dense, x = copy.deepcopy(layer).double(), inputs(layer)
    torch.testing.assert_close(factorize(dense, 4 // getattr(layer, "groups", 1))(x), dense(x))


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 10, 3), nn.Conv2d(2, 30, 3), nn.Linear(12, 9)], ids=["wide", "tall", "linear"]
)
@pytest.mark.parametrize("rank", [1, 4, 8])
def test_the_error_is_the_eckart_young_optimum(layer: nn.Module, rank: int) -> None:
    dense = copy.deepcopy(layer).double()
    unfolded = dense.weight.detach().flatten(1)
    left_out = torch.linalg.svdvals(unfolded)[rank:].square().sum().sqrt()
    torch.testing.assert_close((composed(factorize(dense, rank), 1) - unfolded).norm(), left_out, rtol=1e-5, atol=1e-5)


def test_both_layers_carry_the_same_norm_for_each_rank() -> None:
    first, second = (half.weight.detach() for half in factorize(nn.Linear(12, 9).double(), 5))
    torch.testing.assert_close(first.norm(dim=1), second.norm(dim=0))


def test_the_measured_cost_is_the_formula() -> None:
    conv = nn.Conv2d(6, 10, 3, stride=2, padding=1, groups=2)
    cost = measure_cost(factorize(conv, 3), (6, 8, 12))
    assert cost.macs == (2 * 3 * (3 * 9) + 10 * 3) * (4 * 6)
    assert cost.params == 2 * 3 * (3 * 9) + 10 * 3 + 10
    assert cost.adds == 0


def test_options_rise_in_cost_and_stay_below_dense() -> None:
    options = WeightSVD().options(nn.Sequential(nn.Linear(40, 30)))["0"]
    ranks = [option["rank"] for option in options]
    assert len(ranks) == 11
    assert all(lower < higher for lower, higher in pairwise(ranks))
    assert ranks[-1] * 70 < 40 * 30


def test_a_depthwise_layer_has_no_option() -> None:
    assert WeightSVD().options(nn.Sequential(nn.Conv2d(6, 6, 3, groups=6))) == {}


def test_a_rank_out_of_range_or_a_wrong_kind_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"site '0': rank must be in 1\.\.4, got 5"):
        WeightSVD().compress(network, plan_of("0", 5))
    with pytest.raises(ValueError, match=r"site '0': rank must be in 1\.\.4, got 0"):
        WeightSVD().compress(network, plan_of("0", 0))
    with pytest.raises(TypeError, match="site '1': weight SVD needs a convolution or linear layer, got BatchNorm2d"):
        WeightSVD().compress(network, plan_of("1", 1))


def test_one_decomposition_serves_all_ranks_and_all_copies_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, decompose = [], tenalg.svd_interface
    monkeypatch.setattr(tenalg, "svd_interface", lambda *a, **k: calls.append(0) or decompose(*a, **k))
    network = nn.Sequential(nn.Linear(9, 7))
    for rank in range(1, 8):
        WeightSVD().compress(copy.deepcopy(network), plan_of("0", rank))
    assert len(calls) == 1


@layers
def test_calibration_lowers_the_output_error_on_its_inputs(layer: nn.Module) -> None:
    network = nn.Sequential(copy.deepcopy(layer)).double()
    x = inputs(layer, 16) * torch.linspace(0.1, 3, 6, dtype=torch.float64).reshape(
        6, *(1 for _ in layer.weight.shape[2:])
    )
    plain, calibrated = (WeightSVD().compress(network, plan_of("0", 1), given) for given in (None, x))
    assert (calibrated(x) - network(x)).norm() < (plain(x) - network(x)).norm()


@pytest.mark.parametrize("bias", [True, False])
def test_calibration_equals_the_svd_of_the_whitened_weights(bias: bool) -> None:
    network = nn.Sequential(nn.Linear(6, 9, bias=bias)).double()
    x = 0.5 + torch.randn(50, 6, dtype=torch.float64) * torch.linspace(0.1, 3, 6, dtype=torch.float64)
    centered = x - x.mean(0) if bias else x  # a bias takes up the mean of the error
    # S = L L^T serves as S^(1/2): any root gives the same error
    square_root = torch.linalg.cholesky(centered.T @ centered)
    left_out = torch.linalg.svdvals(network[0].weight.detach() @ square_root)[2:].square().sum().sqrt()
    calibrated = WeightSVD().compress(network, plan_of("0", 2), x)
    torch.testing.assert_close((calibrated(x) - network(x)).norm(), left_out)


TRANSPOSED = {
    "1d": nn.ConvTranspose1d(6, 4, 4, stride=2, padding=1),
    "2d": nn.ConvTranspose2d(6, 4, (3, 4), stride=(2, 3), padding=1, output_padding=(1, 2), dilation=(2, 1)),
    "2d, no bias": nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False),
    "3d": nn.ConvTranspose3d(6, 4, 3, stride=(1, 2, 2), output_padding=(0, 1, 1)),
}
transposed = pytest.mark.parametrize("conv", TRANSPOSED.values(), ids=TRANSPOSED.keys())


@transposed
def test_full_rank_of_a_transposed_convolution_is_exact(conv: nn.Module) -> None:
    dense, x = copy.deepcopy(conv).double(), inputs(conv)
    torch.testing.assert_close(factorize(dense, 6)(x), dense(x))
    assert WeightSVD().limits(conv) == {"rank": 6}


@transposed
def test_a_pair_for_a_transposed_convolution_is_the_eckart_young_optimum(conv: nn.Module) -> None:
    dense = copy.deepcopy(conv).double()
    first, second = (half.weight.detach() for half in factorize(dense, 2))
    made = torch.einsum("rc...,ro->co...", first.flatten(1), second.flatten(1)).unflatten(1, dense.weight.shape[1:])
    left_out = torch.linalg.svdvals(dense.weight.detach().flatten(1))[2:].square().sum().sqrt()
    torch.testing.assert_close((made - dense.weight.detach()).norm(), left_out)


@transposed
def test_options_of_a_transposed_convolution_rise_in_measured_cost_and_stay_below_dense(conv: nn.Module) -> None:
    shape = (6, *SIZES[conv.weight.dim() - 2])
    network = nn.Sequential(conv)
    options = WeightSVD().options(network)["0"]
    costs = [
        measure_cost(WeightSVD().compress(network, plan_of("0", option["rank"])), shape).macs for option in options
    ]
    assert all(cheaper < dearer for cheaper, dearer in pairwise([*costs, measure_cost(network, shape).macs]))


def test_a_transposed_convolution_with_groups_is_not_offered() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(16, 16, 3, groups=2))
    assert WeightSVD().options(network) == WeightSVD().limits(network[0]) == {}
    with pytest.raises(TypeError, match="site '0': weight SVD needs a convolution or linear layer"):
        WeightSVD().compress(network, plan_of("0", 1))


@layers
def test_full_rank_is_the_limit(layer: nn.Module) -> None:
    assert WeightSVD().limits(layer) == {"rank": 4 // getattr(layer, "groups", 1)}
    assert WeightSVD().limits(nn.BatchNorm2d(4)) == {}


@pytest.mark.parametrize(("multiple", "ranks"), [(4, {4, 8, 12, 16}), (8, {8, 16}), (16, {16}), (32, set())])
def test_ranks_are_offered_in_multiples(multiple: int, ranks: set[int]) -> None:
    options = (
        WeightSVD(multiple=multiple).options(nn.Sequential(nn.Linear(40, 36))).get("0", [])
    )  # 18 ranks stay below dense
    assert {option["rank"] for option in options} == ranks
    with pytest.raises(ValueError, match="multiple must be at least 1"):
        WeightSVD(multiple=0)
