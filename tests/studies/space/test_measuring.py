"""What a search space says of costs; damages and the space of a whole study are tested with the runner and the
start.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import sconv_search
import sconv_search.studies.space.measuring
from sconv_search import Choice, CompressionPlan, Cost, measure_cost
from sconv_search.studies import StudyContext
from sconv_search.studies.context import calibration_inputs
from sconv_search.studies.methods import METHODS, compress
from sconv_search.studies.selection import EVERYTHING
from sconv_search.studies.space.input_shapes import input_shapes
from sconv_search.studies.space.measuring import CostTable, SiteMeasuring, _relative_error, asked, cost_of_calls
from sconv_search.studies.space.sites import site_table
from sconv_search.system import cache

CHOICE = Choice(method="structured_conv", structure={"c": 3, "n": 2, "merged": 1})


def test_a_choice_is_measured_once_for_layers_of_one_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(
        sconv_search.studies.space.measuring,
        "cost_of_calls",
        lambda layer, shapes: (measured.append(layer), cost_of_calls(layer, shapes))[1],
    )
    network = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3))
    built = compress(network, CompressionPlan(sites=dict.fromkeys(["0", "1", "2"], CHOICE)))
    table, shapes = CostTable(), [(6, 9, 9)]
    for place in (0, 1, 2):
        found = table.difference(network[place], built[place], CHOICE, shapes)
        assert found == measure_cost(built[place], shapes[0]) - measure_cost(network[place], shapes[0])
    assert len(measured) == 4  # dense and built, for each of the two architectures
    table.difference(network[0], built[0], CHOICE, [(6, 9, 9), (6, 5, 5)])
    assert len(measured) == 6


def test_a_layer_called_twice_costs_twice_but_keeps_its_parameters_once() -> None:
    layer = nn.Conv2d(4, 4, 3)
    once, twice = cost_of_calls(layer, [(4, 8, 8)]), cost_of_calls(layer, [(4, 8, 8), (4, 8, 8)])
    assert (twice.macs, twice.params) == (2 * once.macs, once.params)
    assert once.macs == 4 * 4 * 9 * 36
    assert cost_of_calls(layer, []).params == 4 * 4 * 9 + 4


LAYERS = {
    "conv": (nn.Conv2d(12, 16, 3, padding=1, stride=2), (12, 9, 9)),
    "groups": (nn.Conv2d(12, 8, 3, groups=2), (12, 9, 9)),
    "pointwise": (nn.Conv2d(12, 16, 1), (12, 9, 9)),
    "linear": (nn.Linear(12, 16), (5, 12)),
    "transposed": (nn.ConvTranspose2d(12, 16, 3), (12, 9, 9)),
}


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.reshapes_neighbors])
@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_a_choice_costs_what_the_built_layer_costs_without_building_it_of_values(
    method: str, layer: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Sequential(layer).eval()
    structures = METHODS[method].options(network).get("0", [])
    found = {}
    with monkeypatch.context() as patched:
        patched.setattr(sconv_search.studies.space.measuring, "compress", on_meta_alone)
        for place in range(0, len(structures), 4):
            choice = Choice(method=method, structure=structures[place])
            found[choice] = CostTable().of(layer, choice, [shape])
    for choice, cost in found.items():
        built = compress(network, CompressionPlan(sites={"0": choice}))
        assert cost == measure_cost(built, shape) - measure_cost(network, shape)


def on_meta_alone(network: nn.Module, plan: CompressionPlan) -> nn.Module:
    assert all(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
    return compress(network, plan)


def test_an_error_is_read_between_the_hooks_of_a_layer() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 4), torch.randn(3, 4)
    built = nn.Linear(4, 4)
    expected = _relative_error(layer, built, x)
    for module in (layer, built):
        module.register_forward_hook(lambda _, given, made: made + 100)
    assert _relative_error(layer, built, x) == expected


class OneByOne(nn.Module):
    """Calls its layers for each input by itself, without the batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.line = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.line(self.conv(one).mean((1, 2))) for one in x])


def test_inputs_without_the_batch_axis_keep_all_their_axes() -> None:
    network = OneByOne().eval()
    shapes = input_shapes(network, (3, 6, 5), ["conv", "line"])
    assert shapes == {"conv": [(3, 6, 5)], "line": [(8,)]}
    costs = [cost_of_calls(network.get_submodule(name), own).macs for name, own in shapes.items()]
    assert sum(costs) == measure_cost(network, (3, 6, 5)).macs


def test_networks_whose_layers_read_single_inputs_have_a_table_of_sites_and_are_compressed() -> None:
    network = OneByOne().eval()
    assert {row.site for row in site_table(network, (3, 6, 5), ["structured_conv"]).layers} == {"conv", "line"}
    small = sconv_search.compress(network, (3, 6, 5), budget="80%", data=[torch.randn(4, 3, 6, 5)], progress=False)
    assert small.cost.flops <= 0.8 * measure_cost(network, (3, 6, 5)).flops


@pytest.mark.parametrize("method", ["structured_conv", "channel_pruning"])
def test_a_site_reads_the_dense_weights_once_and_those_of_pruned_networks_never(
    method: str, context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[nn.Module] = []
    compute = cache.architecture
    monkeypatch.setattr(cache, "architecture", lambda network: read.append(network) or compute(network))
    _, choices = asked(context.network, [method], EVERYTHING, ())
    name, own = next((name, own) for name, own in choices.items() if len(own) > 2)
    less = Cost(macs=-1, adds=0, params=-1)
    measuring = SiteMeasuring(context, {}, less, None, (), {(name, choice): less for choice in own})
    monkeypatch.setattr(SiteMeasuring, "_cost", lambda *_: less)
    read.clear()
    assert len(measuring.options(name, own, lambda count: None)) == len(own)
    alike = [network for network in read if len(list(network.modules())) >= len(list(context.network.modules()))]
    assert alike == [context.network]


def test_a_pruned_option_runs_the_networks_on_few_inputs_alone(
    context: StudyContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on those that the readers are refit to: their moments were read before, and the network that is left needs
    none.
    """
    _, choices = asked(context.network, ["channel_pruning"], EVERYTHING, ())
    name, own = next((name, own) for name, own in choices.items() if len(own) > 2)
    less = Cost(macs=-1, adds=0, params=-1)
    measuring = SiteMeasuring(context, {}, less, None, (), {(name, choice): less for choice in own})
    measuring.options(name, own[:1], lambda count: None)
    called: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_pre_hook(
        lambda module, x: called.append(module) if type(module) is type(context.network) else None
    )
    with monkeypatch.context() as patched:
        patched.setattr(SiteMeasuring, "_damage_of_", lambda self, built, before: 0.0)
        assert len(measuring.options(name, own[1:], lambda count: None)) == len(own) - 1
    handle.remove()
    assert called == []


def test_networks_that_are_timed_as_a_whole_are_as_they_were_made(context: StudyContext) -> None:
    _, choices = asked(context.network, ["channel_pruning"], EVERYTHING, ())
    name, own = next((name, own) for name, own in choices.items() if len(own) > 2)
    less, timed = Cost(macs=-1, adds=0, params=-1), list[nn.Module]()

    class Kept:
        def timed(self, name: str, options: Any, built: Any) -> Any:
            timed.extend(built)
            return options

    measuring = SiteMeasuring(context, {}, less, cast(Any, Kept()), (), {(name, choice): less for choice in own})
    assert len(measuring.options(name, own, lambda count: None)) == len(timed) == len(own)
    for choice, network in zip(own, timed, strict=True):
        made = compress(
            context.network, CompressionPlan(sites={name: choice}), calibration_inputs(context), in_sequence=False
        )
        assert all(torch.equal(made.state_dict()[key], tensor) for key, tensor in network.state_dict().items())
        assert [module.training for module in network.modules()] == [module.training for module in made.modules()]
