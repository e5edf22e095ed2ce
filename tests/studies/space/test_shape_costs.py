"""Costs of many layers in one trace are those of each alone."""

from __future__ import annotations

import pytest
from torch import nn

from sconv_search.cost.counting import cost_of_calls
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.studies.methods import METHODS, compress
from sconv_search.studies.space import shape_costs
from sconv_search.studies.space.shape_costs import candidate, costs_by_shape

LAYERS = {
    "conv": (nn.Conv2d(8, 12, 3, padding=1), [(8, 9, 7), (8, 4, 4)]),
    "strided": (nn.Conv2d(8, 12, 3, stride=2, groups=2), [(8, 9, 7)]),
    "sequence": (nn.Conv1d(6, 8, 5), [(6, 20)]),
    "linear": (nn.Linear(16, 10), [(16,), (5, 16)]),
    "up": (nn.ConvTranspose2d(8, 6, 4, stride=2), [(8, 5, 5)]),
    "never called": (nn.Linear(8, 8), []),
}


def wanted() -> dict[shape_costs.Candidate, nn.Module]:
    found = {}
    for layer, shapes in LAYERS.values():
        found[candidate(layer, shapes)] = layer
        for name in ("structured_conv", "weight_svd", "tucker"):
            options = METHODS[name].options(nn.Sequential(layer)).get("0", [])
            for structure in options[:1] + options[-1:]:
                found[candidate(layer, shapes, Choice(method=name, structure=structure))] = layer
    return found


def test_each_cost_is_that_of_the_layer_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape_costs, "TOGETHER", 7)
    asked, steps = wanted(), []
    found = costs_by_shape(asked, lambda done, total: steps.append((done, total)))
    assert len(found) == len(asked) > 20
    assert steps[-1] == (len(asked), len(asked))
    for one, cost in found.items():
        plan = CompressionPlan(sites={"0": one.choice} if one.choice else {})
        assert cost == cost_of_calls(compress(nn.Sequential(asked[one]), plan)[0], one.shapes)


def test_what_cannot_be_measured_without_values_is_measured_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise NotImplementedError("no values")

    layer, shapes = LAYERS["conv"]
    monkeypatch.setattr(shape_costs, "_together", refused)
    assert costs_by_shape({candidate(layer, shapes): layer})[candidate(layer, shapes)] == cost_of_calls(layer, shapes)


def test_hooks_that_saw_the_inputs_before_do_not_count() -> None:
    layer, bare, shapes = nn.Conv2d(8, 12, 3), nn.Conv2d(8, 12, 3), [(8, 9, 7)]
    layer.register_forward_pre_hook(lambda _, given: (nn.functional.pad(given[0], (4, 4)),))
    expected = cost_of_calls(bare, shapes)
    assert cost_of_calls(layer, shapes) == expected
    assert costs_by_shape({candidate(layer, shapes): layer})[candidate(layer, shapes)] == expected
