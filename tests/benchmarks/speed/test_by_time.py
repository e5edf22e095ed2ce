"""Forms chosen by their layers' times: what a layer may be, the fastest set, and networks of the MACs asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.speed.by_time import CHOICES, Option, by_time, fastest_counts, structured_choices, svd_choices
from benchmarks.speed.candidates import NEAR, Subject
from sconv_search import Choice, CompressionPlan, measure_cost
from sconv_search.cost.timing import eager
from sconv_search.studies import compress

SHAPE = (3, 12, 12)


def tiny() -> nn.Module:
    """A stem, two layers alike, and one of another size."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
    ).eval()


def test_a_layer_may_have_fewer_sums_fewer_taps_or_both() -> None:
    found = [dict(choice.structure) for choice in structured_choices(nn.Conv2d(32, 64, 3), 4)]
    assert found[:3] == [{"c": 16, "n": 3, "merged": 1}, {"c": 8, "n": 3, "merged": 1}, {"c": 4, "n": 3, "merged": 1}]
    assert found[3:] == [{"c": 32, "n": 2}, {"c": 16, "n": 2, "merged": 1}, {"c": 8, "n": 2, "merged": 1}]
    assert [dict(choice.structure)["c"] for choice in structured_choices(nn.Conv2d(32, 64, 1), 4)] == [16, 8, 4]
    assert [dict(choice.structure) for choice in structured_choices(nn.Conv2d(8, 8, 3, groups=8), 4)] == [
        {"c": 1, "n": 2}
    ]


@pytest.mark.parametrize(
    ("taps", "method", "shares"), [(3, "spatial_svd", (1 / 9, 2 / 9, 4 / 9)), (1, "weight_svd", (1 / 8, 1 / 4, 1 / 2))]
)
def test_svds_of_a_layer_have_such_shares_of_its_macs(taps: int, method: str, shares: tuple[float, ...]) -> None:
    dense = nn.Conv2d(64, 64, taps, padding=taps // 2)
    options = svd_choices(dense, 1)
    assert {choice.method for choice in options} == {method}
    for choice, share in zip(options, shares, strict=True):
        rank = choice.structure["rank"]
        assert 2 * 64 * taps * rank / dense.weight.numel() == pytest.approx(share, abs=0.03)


def options(*pairs: tuple[int, float]) -> list[Option]:
    return [Option(choice=None, macs=macs, ms=ms) for macs, ms in pairs]


def test_of_all_sets_with_enough_macs_the_fastest_is_taken() -> None:
    steep = options((9_000_000, 9.0), (4_000_000, 3.0))
    flat = options((9_000_000, 9.0), (4_000_000, 8.0), (1_000_000, 1.0))
    assert fastest_counts([steep, flat], [2, 1], (17e6, 18e6)) == [[0, 2], [1, 0, 0]]
    assert fastest_counts([steep, flat], [2, 1], (14e6, 15e6)) == [[1, 1], [0, 0, 1]]
    assert fastest_counts([steep, flat], [2, 1], (27e6, 28e6)) == [[2, 0], [1, 0, 0]]
    assert fastest_counts([steep, flat], [2, 1], (28e6, 29e6)) is None


def test_networks_have_the_macs_asked_for_and_a_dense_stem() -> None:
    subject = Subject(make=tiny, shape=SHAPE, pointwise=False, multiple=4)
    half = {name: Choice(method="structured_conv", structure={"c": 8, "n": 3, "merged": 1}) for name in ("2", "4", "6")}
    wanted = {"2x": measure_cost(compress(tiny(), CompressionPlan(sites=half)), SHAPE).macs, "64x": 1000}
    found = list(by_time(subject, tiny(), wanted, torch.randn(2, *SHAPE), eager))
    assert [one.name for one in found] == [f"{method}_by_time {strength}" for method in CHOICES for strength in wanted]
    structured, *others = found
    assert structured.network is not None
    assert wanted["2x"] <= measure_cost(structured.network, SHAPE).macs <= NEAR * wanted["2x"]
    assert torch.equal(structured.network[0].weight, tiny()[0].weight)
    assert structured.network(torch.randn(2, *SHAPE)).shape == (2, 32, 6, 6)
    assert others[0].reason == others[2].reason == "no plan of 1 to 1.05 times 0.0 M MACs"
