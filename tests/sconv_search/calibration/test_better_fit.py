"""A fit in sequence that leaves most of the outputs wrong gives way to layers that are fitted by themselves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan
from sconv_search.calibration import sequential_fit
from sconv_search.calibration.sequential_fit import FittedAlone
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.studies.methods import METHODS, compress


def deep() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for index in range(6):
        layers += [nn.Conv2d(16 if index else 3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).train()


PLAN = CompressionPlan(
    sites={str(3 * index): Choice(method="spatial_svd", structure={"rank": 2}) for index in range(1, 6)}
)


def left_wrong(monkeypatch: pytest.MonkeyPatch, *shares: float) -> list[float]:
    """Lets the fits leave these shares wrong, in turn; those that are not asked for are left in the list."""
    shares_left = list(shares)
    monkeypatch.setattr(sequential_fit, "_left_wrong", lambda pairs: shares_left.pop(0))
    return shares_left


@pytest.mark.parametrize(
    ("shares", "wins"),
    [
        ([0.09], "plain"),
        ([0.3, 0.31], "plain"),
        ([0.3, 0.3], "plain"),
        ([0.3, 0.29], "given back"),
        ([0.9, 0.95, 0.95], "plain"),
        ([0.95, 0.9, 0.95], "given back"),
        ([0.95, 0.9, 0.6], "alone"),
    ],
)
def test_the_fit_that_leaves_least_wrong_is_kept(
    monkeypatch: pytest.MonkeyPatch, shares: list[float], wins: str
) -> None:
    network, x = deep(), torch.randn(48, 3, 8, 8)
    wanted = {"alone": compress(network, PLAN, x, in_sequence=False)}
    for name, own in (("plain", (0.0,)), ("given back", (0.2, 0.1))):
        left_wrong(monkeypatch, *own)
        wanted[name] = compress(network, PLAN, x)
    unasked = left_wrong(monkeypatch, *shares)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        kept = compress(network, PLAN, x)
    assert not unasked
    for name, made in wanted.items():
        pairs = zip(kept.state_dict().values(), made.state_dict().values(), strict=True)
        assert all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs) == (name == wins)
    told = [str(w.message) for w in raised if issubclass(w.category, FittedAlone)]
    assert (told == []) == (wins != "alone")
    assert not told or "leaves 60% of the outputs' squares wrong; one after the other they left 90%" in told[0]
    assert kept.training


def test_half_of_the_variance_is_given_back_and_no_mean_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = deep().double().eval(), torch.randn(48, 3, 8, 8, dtype=torch.float64)
    for norm in network[1::3][:6]:
        norm.running_mean.normal_()
        norm.running_var.uniform_(1e-5, 2)  # the least is no more than the norm's epsilon
    left_wrong(monkeypatch, 0.2, 0.1)
    small = compress(network, PLAN, x)
    read: dict[tuple[int, int], Tensor] = {}
    for which, made in enumerate((network, small)):
        for place in range(4, 18, 3):
            made[place].register_forward_pre_hook(lambda _, x, key=(place, which): read.update({key: x[0]}))
        made(x)
    for place in range(4, 18, 3):
        before, after = (read[place, which].var((0, 2, 3), correction=0) for which in (0, 1))
        torch.testing.assert_close(small[place].running_var, network[place].running_var * (after / before).sqrt())
        assert (after / before).min() < 0.9
        given = [made[place](read[place, which]).mean((0, 2, 3)) for which, made in enumerate((network, small))]
        torch.testing.assert_close(given[1], given[0], rtol=0, atol=1e-12)


def test_outputs_that_fade_from_layer_to_layer_are_nearer_when_variance_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By another sum than the one that decides: on inputs that were not fitted to."""
    network, x = cifar_resnet(20).train(), torch.randn(128, 3, 16, 16)
    with torch.no_grad():
        for _ in range(20):
            network(x)  # statistics of their own
    network.eval()
    options = METHODS["spatial_svd"].options(network)
    plan = CompressionPlan(
        sites={name: Choice(method="spatial_svd", structure=own[len(own) // 4]) for name, own in options.items()}
    )
    given_back = compress(network, plan, x[:96])
    monkeypatch.setattr(sequential_fit, "FADED", math.inf)
    plain = compress(network, plan, x[:96])
    with torch.no_grad():
        wanted = network(x[96:])
        errors = [float((made(x[96:]) - wanted).square().sum()) for made in (given_back, plain)]
    assert errors[0] < 0.9 * errors[1]


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
