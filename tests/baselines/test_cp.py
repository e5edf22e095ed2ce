from __future__ import annotations

import copy
import warnings
from itertools import pairwise

import pytest
import tensorly
import torch
from tensorly.decomposition import parafac
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan, measure_cost
from sconv_search.baselines import cp
from sconv_search.baselines.cp import CP, RIDGE, alternating_least_squares, built, composed, decompose, tap_terms

GEOMETRIES: dict[str, nn.Conv2d] = {
    "plain": nn.Conv2d(6, 4, 3),
    "strided": nn.Conv2d(6, 4, 3, stride=(2, 1), padding=(1, 2)),
    "dilated": nn.Conv2d(6, 4, 3, padding=2, dilation=(1, 2), bias=False),
    "same": nn.Conv2d(6, 4, (3, 4), padding="same", dilation=2),
    "same, circular": nn.Conv2d(6, 4, (2, 3), padding="same", padding_mode="circular"),
    "valid": nn.Conv2d(6, 4, 3, padding="valid", stride=2),
    **{mode: nn.Conv2d(6, 4, 3, padding=(2, 1), padding_mode=mode) for mode in ("reflect", "replicate", "circular")},
}
geometries = pytest.mark.parametrize("conv", GEOMETRIES.values(), ids=GEOMETRIES.keys())


def plan_of(site: str, rank: int) -> CompressionPlan:
    return CompressionPlan(sites={site: Choice(method="cp", structure={"rank": rank})})


def factorized(conv: nn.Conv2d, rank: int, sweeps: int = 25) -> cp.CPConv2d:
    return built(conv, decompose(conv.weight, rank, sweeps, 0))


def kernel_of(layers: nn.Sequential) -> Tensor:
    inner, rows, columns, outer = (layer.weight.detach() for layer in layers)
    return torch.einsum("rc,rh,rw,or->ochw", inner[:, :, 0, 0], rows[:, 0, :, 0], columns[:, 0, 0], outer[:, :, 0, 0])


def known(rank: int) -> Tensor:
    return composed([torch.randn(size, rank, dtype=torch.float64) for size in (9, 8, 3, 3)])


@geometries
def test_the_four_layers_are_the_dense_convolution_of_their_composed_kernel(conv: nn.Conv2d) -> None:
    dense = copy.deepcopy(conv).double()
    layers = factorized(dense, 5)
    dense.weight.data.copy_(kernel_of(layers))
    images = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(layers(images), dense(images))


@geometries
def test_full_rank_is_exact(conv: nn.Conv2d) -> None:
    dense = copy.deepcopy(conv).double()
    outputs, channels, height, width = dense.weight.shape
    images = torch.randn(2, 6, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(factorized(dense, height * width * min(outputs, channels))(images), dense(images))


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_kernel_of_known_rank_is_reconstructed(rank: int) -> None:
    conv = nn.Conv2d(8, 9, 3).double()
    conv.weight.data.copy_(known(rank))
    layers = factorized(conv, rank, sweeps=200)
    assert layers.error < 2e-3  # what the ridge costs
    torch.testing.assert_close(
        kernel_of(layers), conv.weight.detach(), rtol=0, atol=1e-2 * float(conv.weight.detach().abs().max())
    )


@pytest.mark.parametrize("rank", [3, 12])
def test_the_sweeps_are_those_of_tensorly(rank: int) -> None:
    kernel = torch.randn(9, 8, 3, 5, dtype=torch.float64)
    kernel = kernel / kernel.norm()
    start = [torch.randn(size, rank, dtype=torch.float64) for size in kernel.shape]
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        weights = torch.ones(rank, dtype=torch.float64)
        _, expected = parafac(kernel, rank, n_iter_max=4, init=(weights, start), tol=0, l2_reg=RIDGE)
    for found, factor in zip(alternating_least_squares(kernel, start, 4), expected, strict=True):
        torch.testing.assert_close(found, factor, rtol=1e-6, atol=1e-8)


def test_the_closed_form_errs_less_with_each_rank_and_never_more_than_the_whole_kernel() -> None:
    kernel = torch.randn(7, 6, 3, 2, dtype=torch.float64)
    errors = [float((kernel - composed(tap_terms(kernel, rank))).norm() / kernel.norm()) for rank in range(1, 37)]
    assert all(more > less for more, less in pairwise([1.0, *errors]))
    assert errors[-1] < 1e-12


def test_the_four_layers_share_the_norm_of_each_rank() -> None:
    inner, rows, columns, outer = (layer.weight.detach() for layer in factorized(nn.Conv2d(8, 9, 3).double(), 5))
    for norms in (rows.flatten(1).norm(dim=1), columns.flatten(1).norm(dim=1), outer.flatten(1).norm(dim=0)):
        torch.testing.assert_close(norms, inner.flatten(1).norm(dim=1))


def test_the_same_seed_gives_the_same_factors_and_the_global_generator_is_left_alone() -> None:
    kernel = torch.randn(9, 8, 3, 3)
    state = torch.get_rng_state()
    first, again = (decompose.__wrapped__(kernel, 6, 5, 3) for _ in range(2))
    other = decompose.__wrapped__(kernel, 6, 5, 4)
    assert torch.equal(first.filters, again.filters)
    assert not torch.equal(first.filters, other.filters)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("failure", ["explodes", "not finite", "singular"])
def test_a_diverged_decomposition_gives_way_to_the_closed_form_and_says_so(
    monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    def diverged(kernel: Tensor, start: list[Tensor], sweeps: int) -> list[Tensor]:
        if failure == "singular":
            raise torch.linalg.LinAlgError("the input matrix is singular")
        return [factor * (1e3 if failure == "explodes" else torch.nan) for factor in start]

    monkeypatch.setattr(cp, "alternating_least_squares", diverged)
    network = nn.Sequential(nn.Conv2d(8, 9, 3)).double()
    with pytest.warns(RuntimeWarning, match="site '0': CP of rank 6 from random start 0 did not get below"):
        compressed = CP().compress(network, plan_of("0", 6))
    expected = composed(tap_terms(network[0].weight.detach(), 6))
    torch.testing.assert_close(kernel_of(compressed[0]), expected)
    assert compressed[0].fell_back
    assert "fell_back=True" in repr(compressed)
    with pytest.warns(RuntimeWarning, match="site '0'"):  # from what is remembered, too
        CP().compress(network, plan_of("0", 6))


def test_a_start_worse_than_the_closed_form_gives_way_to_sweeps_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, starts = torch.randn(9, 8, 3, 3, dtype=torch.float64), []

    def fails_once(unit: Tensor, start: list[Tensor], sweeps: int) -> list[Tensor]:
        starts.append(start)
        return start if len(starts) == 1 else alternating_least_squares(unit, start, sweeps)

    monkeypatch.setattr(cp, "alternating_least_squares", fails_once)
    found = decompose.__wrapped__(kernel, 6, 25, 0)
    assert found.fell_back
    assert found.error < (kernel - composed(tap_terms(kernel, 6))).norm() / kernel.norm()


def test_a_decomposition_that_converges_is_silent_and_better_than_the_closed_form() -> None:
    network = nn.Sequential(nn.Conv2d(8, 9, 3)).double()
    network[0].weight.data.copy_(known(6) + 0.1 * torch.randn(9, 8, 3, 3, dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compressed = CP().compress(network, plan_of("0", 6))
    kernel = network[0].weight.detach()
    assert not compressed[0].fell_back
    assert compressed[0].error < (kernel - composed(tap_terms(kernel, 6))).norm() / kernel.norm()
    torch.testing.assert_close(
        (kernel - kernel_of(compressed[0])).norm() / kernel.norm(), torch.tensor(compressed[0].error).double()
    )


def test_one_decomposition_serves_all_copies_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(cp, "tap_terms", lambda *a: calls.append(0) or tap_terms(*a))
    network = nn.Sequential(nn.Conv2d(8, 9, 3))
    for rank in (6, 7, 6, 7):
        CP().compress(copy.deepcopy(network), plan_of("0", rank))
    assert len(calls) == 2


def test_a_kernel_of_zeros_stays_zero() -> None:
    conv = nn.Conv2d(4, 4, 3)
    nn.init.zeros_(conv.weight)
    assert not kernel_of(factorized(conv, 3)).any()


def test_the_measured_cost_is_the_formula() -> None:
    conv = nn.Conv2d(6, 10, (3, 5), stride=2, padding=(1, 2))
    cost = measure_cost(factorized(conv, 7), (6, 8, 12))
    assert cost.macs == 7 * (6 * (8 * 12) + 3 * (4 * 12) + 5 * (4 * 6) + 10 * (4 * 6))
    assert cost.params == 7 * (6 + 3 + 5 + 10) + 10
    assert cost.adds == 0


def test_ranks_rise_to_the_greatest_that_is_allowed() -> None:
    network = nn.Sequential(nn.Conv2d(64, 64, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, (1, 3)))
    (name, options), *none = CP(greatest_rank=50).options(network).items()
    ranks = [option["rank"] for option in options]
    assert (name, none) == ("0", [])
    assert all(lower < higher for lower, higher in pairwise(ranks))
    assert ranks[-1] == 50
    assert CP().options(network)["0"][-1]["rank"] * (64 + 3 + 3 + 64) < 64 * 64 * 9


def test_a_rank_out_of_range_or_a_wrong_kind_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(ValueError, match=r"site '0': rank must be in 1\.\.27, got 28"):
        CP().compress(network, plan_of("0", 28))
    with pytest.raises(
        TypeError, match="site '1': CP needs a Conv2d without groups and with taps along both axes, got Conv2d"
    ):
        CP().compress(network, plan_of("1", 1))


@geometries
def test_calibration_lowers_the_output_error_on_its_inputs(conv: nn.Conv2d) -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), copy.deepcopy(conv)).double()
    images = torch.randn(8, 3, 9, 8, dtype=torch.float64)
    plain, calibrated = (CP().compress(network, plan_of("2", 5), given) for given in (None, images))
    assert (calibrated(images) - network(images)).norm() < (plain(images) - network(images)).norm()


def test_ranks_are_offered_in_multiples_and_limits_are_empty_where_nothing_fits() -> None:
    network = nn.Sequential(nn.Conv2d(64, 64, 3), nn.Conv2d(8, 8, (1, 3)), nn.ConvTranspose2d(8, 8, 3))
    assert all(option["rank"] % 16 == 0 for option in CP(multiple=16).options(network)["0"])
    assert [dict(CP().limits(layer)) for layer in network] == [{"rank": 64 * 9}, {}, {}]
    assert set(CP().options(network)) == {"0"}
