"""A fit in sequence that leaves most of the outputs wrong gives way to layers that are fitted by themselves."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from sconv_search import Choice, CompressionPlan
from sconv_search.calibration import sequential_fit
from sconv_search.calibration.sequential_fit import FittedAlone
from sconv_search.studies.methods import compress


def deep() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(6):
        layers += [nn.Conv2d(16 if index else 3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).train()


PLAN = CompressionPlan(
    sites={str(3 * index): Choice(method="spatial_svd", structure={"rank": 2}) for index in range(1, 6)}
)


@pytest.mark.parametrize("alone_is_better", [True, False])
def test_the_fit_that_leaves_less_wrong_is_kept(monkeypatch: pytest.MonkeyPatch, alone_is_better: bool) -> None:
    network, x = deep(), torch.randn(48, 3, 8, 8)
    alone, sequence = (compress(network, PLAN, x, in_sequence=way) for way in (False, True))
    left = iter([0.9, 0.6 if alone_is_better else 0.95])
    monkeypatch.setattr(sequential_fit, "_left_wrong", lambda pairs: next(left))
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        kept = compress(network, PLAN, x)
    wanted = alone if alone_is_better else sequence
    assert all(torch.equal(a, b) for a, b in zip(kept.state_dict().values(), wanted.state_dict().values(), strict=True))
    told = [str(w.message) for w in raised if issubclass(w.category, FittedAlone)]
    assert (told == []) == (not alone_is_better)
    assert not told or "leaves 60% of the outputs' squares wrong; one after the other they left 90%" in told[0]
    assert kept.training


def test_what_is_left_wrong_is_the_error_of_the_outputs() -> None:
    network, x = deep().eval(), torch.randn(8, 3, 8, 8)
    doubled = nn.Sequential(*network, nn.Linear(5, 5, bias=False))
    with torch.no_grad():
        doubled[-1].weight.copy_(1.5 * torch.eye(5))
    with torch.no_grad():
        wanted, made = network(x), doubled(x)
    assert sequential_fit._left_wrong([(wanted, wanted)]) == 0
    assert sequential_fit._left_wrong([(made[:3], wanted[:3]), (made[3:], wanted[3:])]) == pytest.approx(0.25)
    assert sequential_fit._left_wrong([({"a": made}, {"a": wanted})]) == pytest.approx(0.25)


def test_the_outputs_compared_are_those_of_the_network_that_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x, seen = deep().eval(), torch.randn(48, 3, 8, 8), []

    def watched(pairs: Iterable[tuple[Any, Any]]) -> float:
        seen.extend(pairs)
        return 0.0

    monkeypatch.setattr(sequential_fit, "_left_wrong", watched)
    kept = compress(network, PLAN, x)
    made, wanted = (torch.cat(outputs) for outputs in zip(*seen, strict=True))
    with torch.no_grad():
        torch.testing.assert_close(made, kept(x))
        torch.testing.assert_close(wanted, network(x))
