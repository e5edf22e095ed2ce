from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import tensorly
import torch
from tensorly.decomposition import partial_tucker
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan, measure_cost
from sconv_search.baselines import tucker
from sconv_search.baselines.tucker import Tucker, factorize

GEOMETRIES: dict[str, nn.Module] = {
    "plain": nn.Conv2d(6, 4, 3),
    "strided": nn.Conv2d(6, 4, 3, stride=(2, 1), padding=(1, 2)),
    "dilated": nn.Conv2d(6, 4, 3, padding=2, dilation=(1, 2), bias=False),
    "same": nn.Conv2d(6, 4, (3, 4), padding="same", dilation=2),
    "valid": nn.Conv2d(6, 4, 3, padding="valid", stride=2),
    **{mode: nn.Conv2d(6, 4, 3, padding=(2, 1), padding_mode=mode) for mode in ("reflect", "replicate", "circular")},
    "1d": nn.Conv1d(6, 4, 5, padding=2, stride=2),
    "3d": nn.Conv3d(6, 4, 3, padding=1, stride=(1, 2, 2)),
}
geometries = pytest.mark.parametrize("conv", GEOMETRIES.values(), ids=GEOMETRIES.keys())
SIZES = {1: (9,), 2: (9, 8), 3: (5, 6, 5)}


def inputs(conv: nn.Module) -> Tensor:
    return torch.randn(2, 6, *SIZES[conv.weight.dim() - 2], dtype=torch.float64)


def plan_of(site: str, **structure: int) -> CompressionPlan:
    return CompressionPlan(sites={site: Choice(method="tucker", structure=structure)})


def composed(layers: nn.Sequential) -> Tensor:
    inner, core, outer = (layer.weight.detach() for layer in layers)
    return torch.einsum("op,pq...,qc->oc...", outer.flatten(1), core, inner.flatten(1))


def kernel_of_ranks(outputs: int, channels: int, rank_in: int, rank_out: int) -> Tensor:
    core = torch.randn(rank_out, rank_in, 3, 3, dtype=torch.float64)
    outer, inner = (torch.randn(size, dtype=torch.float64) for size in ((outputs, rank_out), (channels, rank_in)))
    return torch.einsum("op,pqhw,cq->ochw", outer, core, inner)


@geometries
def test_the_three_layers_are_the_dense_convolution_of_their_composed_kernel(conv: nn.Module) -> None:
    dense, x = copy.deepcopy(conv).double(), inputs(conv)
    built = factorize(dense, 3, 2)
    dense.weight.data.copy_(composed(built))
    torch.testing.assert_close(built(x), dense(x))


@geometries
def test_full_ranks_are_exact(conv: nn.Module) -> None:
    dense, x = copy.deepcopy(conv).double(), inputs(conv)
    torch.testing.assert_close(factorize(dense, 6, 4)(x), dense(x))


def test_a_kernel_of_known_ranks_is_reconstructed() -> None:
    conv = nn.Conv2d(12, 10, 3).double()
    conv.weight.data.copy_(kernel_of_ranks(10, 12, 4, 3))
    torch.testing.assert_close(composed(factorize(conv, 4, 3)), conv.weight.detach(), rtol=1e-5, atol=1e-5)


def test_the_measured_cost_is_the_formula() -> None:
    conv = nn.Conv2d(6, 10, 3, stride=2, padding=1)
    cost = measure_cost(factorize(conv, 4, 5), (6, 8, 12))
    assert cost.macs == 6 * 4 * (8 * 12) + (4 * 5 * 9 + 5 * 10) * (4 * 6)
    assert cost.params == 6 * 4 + 4 * 5 * 9 + 5 * 10 + 10
    assert cost.adds == 0


@pytest.mark.parametrize("channels", [(3, 64), (64, 64), (96, 40)])
@pytest.mark.parametrize("stride", [1, 2])
def test_options_rise_in_measured_cost_in_proportion_to_the_layer(channels: tuple[int, int], stride: int) -> None:
    network = nn.Sequential(nn.Conv2d(*channels, 3, stride=stride, padding=1))
    options = Tucker().options(network).get("0", [])
    costs = [
        measure_cost(factorize(network[0], o["rank_in"], o["rank_out"]), (channels[0], 8, 8)).macs for o in options
    ]
    assert all(
        cheaper < dearer for cheaper, dearer in pairwise([*costs, measure_cost(network, (channels[0], 8, 8)).macs])
    )
    for option in options if min(channels) > 3 else []:  # few channels cannot feed as many ranks
        assert option["rank_in"] / channels[0] == pytest.approx(option["rank_out"] / channels[1], abs=1 / min(channels))
    assert len(options) >= (8 if min(channels) > 3 else 0)


def test_layers_with_groups_or_one_tap_have_no_option() -> None:
    assert Tucker().options(nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 1), nn.Linear(8, 8))) == {}


def test_a_rank_out_of_range_or_a_wrong_kind_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(ValueError, match=r"site '0': rank_in must be in 1\.\.3, got 4"):
        Tucker().compress(network, plan_of("0", rank_in=4, rank_out=2))
    with pytest.raises(ValueError, match=r"site '0': Tucker-2 takes \['rank_in', 'rank_out'\], got \['rank'\]"):
        Tucker().compress(network, plan_of("0", rank=2))
    with pytest.raises(
        TypeError, match="site '1': Tucker-2 needs a convolution without groups and with more than one tap"
    ):
        Tucker().compress(network, plan_of("1", rank_in=1, rank_out=1))


@pytest.mark.parametrize(("rank_in", "rank_out"), [(1, 1), (4, 6), (9, 7)])
def test_the_iteration_is_that_of_tensorly(rank_in: int, rank_out: int) -> None:
    kernel = torch.randn(7, 9, 3, 5)
    core, outer, inner = tucker.tucker2(kernel, rank_in, rank_out)
    exact, ranks = kernel.double(), (rank_out, rank_in)
    starts = [torch.linalg.svd(tucker.mode(exact, axis)[0])[0][:, :rank] for axis, rank in enumerate(ranks)]
    options = {"rank": list(ranks), "modes": [0, 1], "init": (exact, starts), "n_iter_max": tucker.ITERATIONS}
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        (expected, factors), _ = partial_tucker(exact, **options, tol=0)
    composed = torch.einsum("jihw,oj,ci->ochw", core, outer, inner)
    torch.testing.assert_close(composed, torch.einsum("jihw,oj,ci->ochw", expected, *factors))
    for factor, rank in ((outer, rank_out), (inner, rank_in)):
        torch.testing.assert_close(factor.T @ factor, torch.eye(rank, dtype=torch.float64))


def test_the_inputs_axes_are_computed_once_for_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, decompose = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda squares: calls.append(0) or decompose(squares))
    conv = nn.Conv2d(6, 5, 3)
    for rank in range(1, 5):
        factorize(copy.deepcopy(conv), rank, rank)
    assert len(calls) == 1 + 4 * 2 * tucker.ITERATIONS


def test_further_iterations_change_the_error_by_less_than_a_hundredth_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = nn.Conv2d(24, 24, 3).double()

    def error() -> Tensor:
        core, outer, inner = tucker.tucker2.__wrapped__(conv.weight, 12, 12)
        return (torch.einsum("op,pqhw,cq->ochw", outer, core, inner) - conv.weight.detach()).norm()

    short = error()
    monkeypatch.setattr(tucker, "ITERATIONS", 100)
    torch.testing.assert_close(short, error(), rtol=1e-2, atol=0)


TRANSPOSED = {
    "1d": nn.ConvTranspose1d(6, 4, 4, stride=2, padding=1),
    "2d": nn.ConvTranspose2d(6, 4, (3, 4), stride=(2, 3), padding=1, output_padding=(1, 2), dilation=(2, 1)),
    "2d, no bias": nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False),
    "3d": nn.ConvTranspose3d(6, 4, 3, stride=(1, 2, 2), output_padding=(0, 1, 1)),
}


@pytest.mark.parametrize("conv", TRANSPOSED.values(), ids=TRANSPOSED.keys())
def test_full_ranks_of_a_transposed_convolution_are_exact(conv: nn.Module) -> None:
    dense, x = copy.deepcopy(conv).double(), inputs(conv)
    built = factorize(dense, 6, 4)
    torch.testing.assert_close(built(x), dense(x))
    assert type(built[1]) is type(conv)
    assert Tucker().limits(conv) == {"rank_in": 6, "rank_out": 4}


def test_options_of_a_transposed_convolution_rise_in_measured_cost_and_stay_below_dense() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(32, 24, 4, stride=2, padding=1))
    costs = [
        measure_cost(Tucker().compress(network, plan_of("0", **option)), (32, 8, 8)).macs
        for option in Tucker().options(network)["0"]
    ]
    assert len(costs) > 5
    assert all(cheaper < dearer for cheaper, dearer in pairwise([*costs, measure_cost(network, (32, 8, 8)).macs]))


@geometries
def test_calibration_lowers_the_output_error_on_its_inputs(conv: nn.Module) -> None:
    network = nn.Sequential(copy.deepcopy(conv)).double()
    x = torch.randn(16, 6, *SIZES[conv.weight.dim() - 2], dtype=torch.float64)
    x = x * torch.linspace(0.1, 3, 6, dtype=torch.float64).reshape(6, *(1 for _ in SIZES[conv.weight.dim() - 2]))
    plain, calibrated = (Tucker().compress(network, plan_of("0", rank_in=3, rank_out=2), given) for given in (None, x))
    assert (calibrated(x) - network(x)).norm() < (plain(x) - network(x)).norm()
    if conv.bias is not None:
        torch.testing.assert_close(*(built(x).movedim(1, 0).flatten(1).mean(1) for built in (calibrated, network)))


def test_ranks_are_offered_in_multiples_and_at_least_one_pair_where_it_fits() -> None:
    network = nn.Sequential(nn.Conv2d(48, 40, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(12, 40, 3))
    options = Tucker(multiple=16).options(network)
    assert all(rank % 16 == 0 for found in options.values() for option in found for rank in option.values())
    assert len(options["0"]) > 1
    assert set(options) == {"0"}  # (16, 16) of 16 x 16 is dearer than dense; 12 has no multiple of 16
    with pytest.raises(ValueError, match="multiple must be at least 1"):
        Tucker(multiple=0)
