"""The table of sites: what is offered where, at what cost, and why not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan, measure_cost
from sconv_search.channels.dependency_graph import UntraceableError
from sconv_search.studies import METHODS, compress
from sconv_search.studies.space.sites import Layer, SiteTable, in_words, left_out, site_table
from sconv_search.studies.spec import Selection

SHAPE = (3, 12, 12)


class Doubled(nn.Conv2d):
    """A subclass that computes something else."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Mixed(nn.Module):
    """Sites of several kinds, and layers that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16)
        self.doubled = Doubled(16, 16, 3, padding=1)
        self.tiny = nn.Conv2d(16, 1, 1, bias=False)
        self.scale = nn.Parameter(torch.ones(1, 1))
        self.head = nn.Linear(36, 10)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = self.tiny(self.doubled(F.relu(self.depthwise(self.stem(x_NCHW)))))
        return self.head(x_NCHW.flatten(1)) * self.scale


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Mixed().eval()


@pytest.fixture(scope="module")
def table(network: nn.Module) -> SiteTable:
    return site_table(network, SHAPE)


def layer(table: SiteTable, name: str) -> Layer:
    return next(layer for layer in table.layers if layer.site == name)


def test_every_layer_with_weights_has_one_row_in_network_order(table: SiteTable) -> None:
    assert [row.site for row in table.layers] == [
        "(the network itself)",
        "stem",
        "depthwise",
        "doubled",
        "tiny",
        "head",
    ]
    assert all(set(row.offers) | set(row.reasons) in ({*METHODS}, {""}) for row in table.layers)
    assert all(not set(row.offers) & set(row.reasons) for row in table.layers)


def test_kind_shape_and_macs_are_the_layers(table: SiteTable, network: nn.Module) -> None:
    facts = {row.site: (row.kind, row.shape, row.macs) for row in table.layers}
    assert facts["stem"] == ("Conv2d", "3→16 3×3", 16 * 3 * 9 * 144)
    assert facts["depthwise"] == ("Conv2d, depthwise", "16→16 3×3 /2", 16 * 9 * 36)
    assert facts["tiny"] == ("Conv2d, pointwise", "16→1 1×1", 16 * 36)
    assert facts["head"] == ("Linear", "36→10", 360)
    assert facts["(the network itself)"] == ("Mixed", "1×1", None)
    assert sum(row.macs or 0 for row in table.layers) == table.cost.macs == measure_cost(network, SHAPE).macs


def test_an_extent_is_what_the_built_layer_costs(table: SiteTable, network: nn.Module) -> None:
    for method in ("structured_conv", "spatial_svd", "weight_svd"):
        options = METHODS[method].options(network)["stem"]
        extent = layer(table, "stem").offers[method]
        assert (extent.options, dict(extent.cheapest.structure)) == (len(options), dict(options[0]))
        for structure, share in ((options[0], extent.cheapest_share), (options[-1], extent.dearest_share)):
            built = compress(network, CompressionPlan(sites={"stem": Choice(method=method, structure=structure)}))
            own, whole = measure_cost(built, SHAPE), measure_cost(network, SHAPE)
            assert share == pytest.approx(1 - (whole.flops - own.flops) / (2 * 16 * 3 * 9 * 144), abs=1e-12)


def test_the_reasons_name_what_stands_in_the_way(table: SiteTable) -> None:
    assert layer(table, "depthwise").reasons["tucker"] == "not for a Conv2d, depthwise layer"
    assert layer(table, "tiny").reasons["weight_svd"] == "no option is cheaper than dense"
    assert (
        in_words(layer(table, "doubled").reasons) == "Doubled is a subclass of Conv2d, which may compute something else"
    )
    whole = layer(table, "(the network itself)")
    assert in_words(whole.reasons) == "Mixed uses weights of its own, which belong to no layer"
    assert layer(table, "head").reasons["channel_pruning"]


def test_coupled_layers_name_the_site_that_prunes_them() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    ).eval()
    reasons = left_out(network, ["0"], ["channel_pruning"])
    assert reasons["2"] == "its channels are pruned at site '0'"
    assert "output" in reasons["4"]


def test_a_pruned_sites_share_is_of_its_own_layer() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    extent = layer(site_table(network, SHAPE, ["channel_pruning"]), "0").offers["channel_pruning"]
    assert extent.cheapest_share == extent.cheapest.structure["keep"] / 8
    assert extent.dearest_share == extent.dearest.structure["keep"] / 8


def test_patterns_are_the_reason_where_they_leave_a_site_out(network: nn.Module) -> None:
    table = site_table(network, SHAPE, ["weight_svd"], Selection(include=("stem", "head"), exclude=("head",)))
    assert [row.site for row in table.layers if row.offers] == ["stem"]
    assert in_words(layer(table, "head").reasons) == "excluded by 'head'"
    assert in_words(layer(table, "depthwise").reasons) == "not included by 'stem' or 'head'"


def test_a_failed_tracing_is_a_note_and_other_methods_still_work(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untraceable(*_: object) -> None:
        raise UntraceableError("no path\nleads through it")

    monkeypatch.setattr("sconv_search.channels.groups.traces_of", untraceable)
    network = nn.Sequential(nn.Conv2d(5, 8, 3), nn.Conv2d(8, 4, 3)).eval()
    table = site_table(network, (5, 11, 11), ["channel_pruning", "weight_svd"])
    assert [set(row.offers) for row in table.layers] == [{"weight_svd"}] * 2
    assert table.notes == ("no channel pruning: no path leads through it; other methods still work",)
    assert table.layers[0].reasons["channel_pruning"] == "no path leads through it"
    assert not recwarn.list


def test_the_shape_that_is_given_is_the_one_that_is_traced() -> None:
    class Elsewhere(nn.Sequential):
        def forward(self, x_NCHW: Tensor) -> Tensor:
            if x_NCHW.shape[-1] != 11:  # a size that would not be guessed
                raise ValueError("the image must be 11 wide")
            return super().forward(x_NCHW)

    table = site_table(Elsewhere(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 3)).eval(), (4, 11, 11), ["channel_pruning"])
    assert [set(row.offers) for row in table.layers] == [{"channel_pruning"}, set()]
    assert table.notes == ()


def test_a_network_that_takes_one_input_at_a_time_is_traced_on_one() -> None:
    class Single(nn.Sequential):
        def forward(self, x_NCHW: Tensor) -> Tensor:
            if x_NCHW.shape[0] != 1:
                raise ValueError("one image at a time")
            return super().forward(x_NCHW)

    table = site_table(Single(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 3)).eval(), (4, 11, 11), ["channel_pruning"])
    assert [set(row.offers) for row in table.layers] == [{"channel_pruning"}, set()]


def test_no_weight_is_read_and_no_grouping_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("weights are read")

    for place in ("sums.merging.merged_groups", "sums.chains.chain_order", "sums.variants._chosen"):
        monkeypatch.setattr(f"sconv_search.structured.{place}", refused)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(512, 4)).eval()
    for weight in network.parameters():
        nn.init.constant_(weight, torch.nan)
    table = site_table(network, SHAPE)
    assert [len(row.offers) >= 5 for row in table.layers] == [True] * 3


def test_a_wrong_shape_is_named(network: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"Mixed fails on an input of shape \(1, 12, 12\)"):
        site_table(network, (1, 12, 12))
