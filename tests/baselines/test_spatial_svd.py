from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from tensorly import tenalg
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan, measure_cost
from sconv_search.baselines.spatial_svd import SpatialSVD, separate

GEOMETRIES: dict[str, nn.Conv2d] = {
    "plain": nn.Conv2d(6, 4, 3),
    "strided": nn.Conv2d(6, 4, 3, stride=(2, 1), padding=(1, 2)),
    "dilated": nn.Conv2d(6, 4, 3, padding=2, dilation=(1, 2), bias=False),
    "same": nn.Conv2d(6, 4, (3, 4), padding="same", dilation=2),
    "same, circular": nn.Conv2d(6, 4, (2, 3), padding="same", padding_mode="circular"),
    "valid": nn.Conv2d(6, 4, 3, padding="valid", stride=2),
    "groups": nn.Conv2d(6, 4, (3, 5), padding=(1, 2), groups=2),
    **{mode: nn.Conv2d(6, 4, 3, padding=(2, 1), padding_mode=mode) for mode in ("reflect", "replicate", "circular")},
}
geometries = pytest.mark.parametrize("conv", GEOMETRIES.values(), ids=GEOMETRIES.keys())


def plan_of(**ranks: int) -> CompressionPlan:
    return CompressionPlan(
        sites={name: Choice(method="spatial_svd", structure={"rank": r}) for name, r in ranks.items()}
    )


def composed(pair: nn.Sequential, groups: int) -> Tensor:
    vertical, horizontal = (half.weight.detach() for half in pair)
    columns = vertical.squeeze(3).unflatten(0, (groups, -1))  # (g, R, C, H)
    rows = horizontal.squeeze(2).unflatten(0, (groups, -1))  # (g, O, R, W)
    return torch.einsum("grch,gorw->gochw", columns, rows).flatten(0, 1)


@geometries
@pytest.mark.parametrize("rank", [1, 3])
def test_the_pair_is_the_dense_convolution_of_its_composed_kernel(conv: nn.Conv2d, rank: int) -> None:
    dense = copy.deepcopy(conv).double()
    pair = separate(dense, rank)
    dense.weight.data.copy_(composed(pair, conv.groups))
    images = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(pair(images), dense(images))


@geometries
def test_full_rank_is_exact(conv: nn.Conv2d) -> None:
    dense = copy.deepcopy(conv).double()
    outputs, channels, height, width = dense.weight.shape
    images = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    exact = separate(dense, min(channels * height, outputs // dense.groups * width))
    torch.testing.assert_close(exact(images), dense(images))


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_the_error_is_the_eckart_young_optimum(rank: int) -> None:
    conv = nn.Conv2d(8, 6, 3).double()
    unfolded = conv.weight.detach().permute(1, 2, 0, 3).reshape(24, 18).numpy()
    left_out = torch.linalg.svdvals(torch.tensor(unfolded))[rank:].square().sum().sqrt()
    error = (composed(separate(conv, rank), 1) - conv.weight.detach()).norm()
    torch.testing.assert_close(error, left_out, rtol=1e-5, atol=1e-5)


def test_the_measured_cost_is_the_formula() -> None:
    conv = nn.Conv2d(6, 10, 3, stride=2, padding=1)
    cost = measure_cost(separate(conv, 5), (6, 8, 12))
    assert cost.macs == 5 * 6 * 3 * (4 * 12) + 10 * 5 * 3 * (4 * 6)
    assert cost.params == 5 * 6 * 3 + 10 * 5 * 3 + 10
    assert cost.adds == 0


def test_a_rank_out_of_range_or_a_wrong_kind_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1))
    with pytest.raises(ValueError, match=r"site '0': rank must be in 1\.\.9, got 10"):
        SpatialSVD().compress(network, plan_of(**{"0": 10}))
    with pytest.raises(TypeError, match="site '1': spatial SVD needs a Conv2d with taps along both axes, got Conv2d"):
        SpatialSVD().compress(network, plan_of(**{"1": 1}))
    wrong = CompressionPlan(sites={"0": Choice(method="spatial_svd", structure={"ranks": 2})})
    with pytest.raises(ValueError, match=r"site '0': spatial SVD takes \['rank'\], got \['ranks'\]"):
        SpatialSVD().compress(network, wrong)


def test_one_decomposition_serves_all_ranks_and_all_copies_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, decompose = [], tenalg.svd_interface
    monkeypatch.setattr(tenalg, "svd_interface", lambda *a, **k: calls.append(0) or decompose(*a, **k))
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    for rank in range(1, 9):
        SpatialSVD().compress(copy.deepcopy(network), plan_of(**{"0": rank}))
    assert len(calls) == 1
    network[0].weight.data.mul_(2)
    SpatialSVD().compress(network, plan_of(**{"0": 1}))
    assert len(calls) == 2


@geometries
def test_calibration_lowers_the_output_error_on_its_inputs(conv: nn.Conv2d) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), copy.deepcopy(conv)).double()
    images = torch.randn(8, 3, 9, 8, dtype=torch.float64)
    plain, calibrated = (SpatialSVD().compress(network, plan_of(**{"2": 2}), given) for given in (None, images))
    plain_error, calibrated_error = ((built(images) - network(images)).norm() for built in (plain, calibrated))
    assert calibrated_error < plain_error
    if conv.bias is not None:  # it takes up the mean of the error
        torch.testing.assert_close(*(built(images).mean((0, 2, 3)) for built in (calibrated, network)))


@pytest.mark.parametrize(
    "conv",
    [
        nn.ConvTranspose2d(6, 4, (3, 4), stride=(2, 3), padding=1, output_padding=(1, 2), dilation=(2, 1)),
        nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False),
    ],
    ids=str,
)
def test_a_transposed_convolution_is_exact_at_its_limit_and_optimal_below(conv: nn.ConvTranspose2d) -> None:
    dense, images = copy.deepcopy(conv).double(), torch.randn(2, 6, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(separate(dense, SpatialSVD().limits(conv)["rank"])(images), dense(images))
    columns, rows = (half.weight.detach() for half in separate(dense, 3))
    made = torch.einsum("crh,row->cohw", columns.squeeze(3), rows.squeeze(2))
    unfolded = dense.weight.detach().transpose(1, 2).flatten(2).flatten(0, 1)
    torch.testing.assert_close((made - dense.weight.detach()).norm(), torch.linalg.svdvals(unfolded)[3:].norm())


def test_options_of_a_transposed_convolution_rise_in_measured_cost_and_stay_below_dense() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(16, 24, 4, stride=2, padding=1))
    plans = [plan_of(**{"0": option["rank"]}) for option in SpatialSVD().options(network)["0"]]
    costs = [measure_cost(SpatialSVD().compress(network, plan), (16, 8, 8)).macs for plan in plans]
    assert len(costs) > 5
    assert all(cheaper < dearer for cheaper, dearer in pairwise([*costs, measure_cost(network, (16, 8, 8)).macs]))


def test_ranks_are_offered_in_multiples_and_limits_are_empty_where_nothing_fits() -> None:
    network = nn.Sequential(nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 1), nn.ConvTranspose2d(4, 4, 3, groups=2))
    assert [option["rank"] for option in SpatialSVD(multiple=8).options(network)["0"]] == [8, 16]  # 23 stay below dense
    assert [dict(SpatialSVD().limits(layer)) for layer in network] == [{"rank": 48}, {}, {}]
