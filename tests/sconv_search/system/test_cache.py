from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sconv_search.system import cache
from sconv_search.system.cache import (
    MOST_IDLE,
    Memo,
    content,
    forget_all,
    forget_idle,
    network_content,
    remembered,
    unwritten,
    unwritten_content,
)


def test_what_is_remembered_stays_within_its_bytes() -> None:
    calls: list[int] = []

    def doubled(tensor: Tensor, times: int) -> tuple[Tensor]:
        calls.append(times)
        return (tensor * 2,)

    look_up = remembered(doubled, most=8 * 10 * 2)
    x = torch.randn(10, dtype=torch.float64)
    for times in (1, 2, 1, 3, 1, 2):  # 3 takes the place of 2, the one not used for the longest time
        look_up(x.clone(), times)
    assert calls == [1, 2, 3, 2]


def test_the_newest_result_is_kept_whatever_it_takes() -> None:
    memo: Memo[tuple[Tensor]] = Memo(1)
    for key in ("a", "b"):
        memo.put(key, (torch.zeros(9),))
    assert memo.get("a") is None
    assert memo.get("b") is not None


def test_networks_are_told_apart_by_weights_buffers_and_attributes() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    assert network_content(network) == network_content(copy.deepcopy(network))
    others = [copy.deepcopy(network) for _ in range(3)]
    others[0][0].weight.data[0, 0, 0, 0] += 1
    others[1][1].running_mean += 1
    others[2][0].stride = (2, 2)
    assert len({network_content(each) for each in (network, *others)}) == 4


def test_forgetting_makes_the_next_call_compute_again() -> None:
    calls: list[int] = []

    def compute(x: Tensor) -> tuple[int]:
        calls.append(1)
        return (len(x),)

    look_up = remembered(compute)
    look_up(torch.ones(2))
    look_up(torch.ones(2))
    forget_all()
    look_up(torch.ones(2))
    assert len(calls) == 2


def test_inputs_are_read_once_until_they_are_written_to() -> None:
    inputs = torch.zeros(4)
    before = unwritten_content(inputs)
    assert unwritten_content(inputs) is before == content(torch.zeros(4))
    inputs[0] = 1
    assert unwritten_content(inputs) == content(inputs) != before
    assert unwritten_content(torch.zeros(4)) == before


def test_tensors_without_values_are_not_remembered() -> None:
    """They have no content by which to tell them apart."""
    calls: list[str] = []

    def doubled(tensor: Tensor) -> tuple[Tensor]:
        calls.append(str(tensor.device))
        return (tensor * 2,)

    look_up = remembered(doubled)
    for _ in range(2):
        assert look_up(torch.empty(3, device="meta"))[0].shape == (3,)
    assert calls == ["meta", "meta"]


def test_results_that_nobody_asks_for_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most are of weights that one trial alone comes to: kept for all trials, they would fill the memory."""
    monkeypatch.setattr("sconv_search.system.cache.MOST_IDLE", 2)
    memo: Memo[tuple[int]] = Memo(100)
    memo.put("asked for", (1,))
    memo.put("idle", (2,))
    for _ in range(5):
        forget_idle()
        assert memo.get("asked for") == (1,)
    assert memo.get("idle") is None


def test_what_a_search_keeps_does_not_grow_with_its_trials() -> None:
    """Weights that are new in every training, as trials have them."""
    memo: Memo[tuple[Tensor]] = Memo(2**30)
    kept = []
    for trial in range(50):
        memo.put(trial, (torch.zeros(1000),))
        forget_idle()
        kept.append(len(memo))
    assert kept[-1] == kept[MOST_IDLE] <= MOST_IDLE + 1


def test_the_content_of_a_network_that_nothing_writes_to_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, twin = nn.Linear(2, 2), nn.Linear(2, 2)
    twin.load_state_dict(network.state_dict())
    calls, compute = [], cache.architecture
    monkeypatch.setattr(cache, "architecture", lambda network: calls.append(0) or compute(network))
    with unwritten(network):
        with unwritten(network):
            first = network_content(network)
        assert network_content(network) is first
        assert len(calls) == 1
        assert compute(network) is compute(network)
        assert network_content(twin) == first
    network.weight.data[0, 0] += 1
    assert network_content(network) != first
    assert not cache._UNWRITTEN
