"""Batch norm statistics from few images: errors that two networks share cancel."""

from __future__ import annotations

import copy
import dataclasses
from statistics import median

import pytest
import torch
from torch import Tensor, nn

import sconv_search.training.batch_norm
from sconv_search.data.splits import DataSet, Split
from sconv_search.system.cache import forget_all
from sconv_search.training.batch_norm import batch_norms, reestimate_batch_norm_

FEW = 8


def _data(count: int) -> DataSet:
    """Images of unlike brightness: means over few of them err."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.rand(count, 1, 1, 1, generator=generator)
    images = (255 * levels * torch.rand(count, 3, 8, 8, generator=generator)).byte()
    split = Split(images=images, labels=torch.zeros(count, dtype=torch.long))
    return DataSet(
        name="gray",
        train=split,
        validation=split,
        test=split,
        mean=(0.4,) * 3,
        std=(0.2,) * 3,
        crop_padding=0,
        flip=False,
    )


MANY = _data(3000)
SOME = dataclasses.replace(MANY, train=MANY.train.take(torch.arange(FEW)))


@pytest.fixture
def trained() -> nn.Module:
    """Its statistics are those of many images, which no estimate from few knows."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5))
    for norm in batch_norms(network):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    reestimate_batch_norm_(network, MANY, seed=1)
    return network.eval()


def _changed(network: nn.Module) -> nn.Module:
    """Another first layer, as a compression makes it."""
    changed = copy.deepcopy(network)
    with torch.no_grad():
        weight = changed[0].weight  # type: ignore[index]
        weight.mul_(0.9).add_(0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)))
    return changed


def _statistics(network: nn.Module) -> list[Tensor]:
    return [
        each.clone()
        for norm in batch_norms(network)
        for each in (norm.running_mean, norm.running_var)
        if each is not None
    ]


def test_a_network_that_is_its_own_reference_keeps_its_statistics(trained: nn.Module) -> None:
    found = copy.deepcopy(trained)
    reestimate_batch_norm_(found, SOME, seed=0, reference=trained)
    for one, other in zip(_statistics(found), _statistics(trained), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    reestimate_batch_norm_(found, SOME, seed=0)
    assert not torch.allclose(_statistics(found)[0], _statistics(trained)[0], atol=0.01)


def test_errors_of_few_images_cancel(trained: nn.Module) -> None:
    wanted, plain, relative = (_changed(trained) for _ in range(3))
    reestimate_batch_norm_(wanted, MANY, seed=0)
    reestimate_batch_norm_(plain, SOME, seed=0)
    reestimate_batch_norm_(relative, SOME, seed=0, reference=trained)
    alike = zip(*map(_statistics, (wanted, plain, relative)), strict=True)
    left = [float((other - true).norm() / (one - true).norm()) for true, one, other in alike]
    assert max(left) < 0.8
    assert median(left) < 0.4


def test_of_many_images_plain_estimates_are_taken(trained: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, found = _changed(trained), _changed(trained)
    reestimate_batch_norm_(plain, SOME, seed=0, images=FEW)
    monkeypatch.setattr(sconv_search.training.batch_norm, "_known", None)
    reestimate_batch_norm_(found, SOME, seed=0, images=FEW, reference=trained)
    for one, other in zip(_statistics(found), _statistics(plain), strict=True):
        assert torch.equal(one, other)


def _pruned(network: nn.Module, kept: list[int]) -> nn.Module:
    """The network without some channels of its first layer."""
    small = copy.deepcopy(network)
    small[0] = nn.Conv2d(3, len(kept), 3)  # type: ignore[operator]
    small[1] = nn.BatchNorm2d(len(kept))  # type: ignore[operator]
    small[3] = nn.Conv2d(len(kept), 5, 3)  # type: ignore[operator]
    old: nn.Module = network
    with torch.no_grad():
        for place in (0, 1):
            for name, tensor in old[place].state_dict().items():  # type: ignore[operator]
                if tensor.dim():
                    small[place].state_dict()[name].copy_(tensor[kept])  # type: ignore[operator]
        small[3].weight.copy_(old[3].weight[:, kept])  # type: ignore[operator]
        small[3].bias.copy_(old[3].bias)  # type: ignore[operator]
    return small.eval()


def test_channels_that_pruning_left_are_found_again(trained: nn.Module) -> None:
    kept = [1, 4, 5]
    found = _pruned(trained, kept)
    for _ in range(2):  # the second time its statistics are no longer the trained ones
        reestimate_batch_norm_(found, SOME, seed=0, reference=trained)
        torch.testing.assert_close(found[1].running_mean, trained[1].running_mean[kept])  # type: ignore[index]
        torch.testing.assert_close(found[1].running_var, trained[1].running_var[kept])  # type: ignore[index]


@pytest.mark.parametrize("case", ["alike", "untrained", "another network"])
def test_norms_that_cannot_be_matched_get_plain_estimates(trained: nn.Module, case: str) -> None:
    network, reference = _pruned(trained, [1, 4, 5]), copy.deepcopy(trained)
    if case == "alike":
        for one in (network, reference):
            nn.init.ones_(one[1].weight)  # type: ignore[index]
            nn.init.zeros_(one[1].bias)  # type: ignore[index]
    elif case == "untrained":
        for norm in batch_norms(reference):
            norm.reset_running_stats()
    else:
        reference = nn.Sequential(nn.Identity(), nn.Conv2d(3, 3, 1))
    plain = copy.deepcopy(network)
    reestimate_batch_norm_(plain, SOME, seed=0)
    reestimate_batch_norm_(network, SOME, seed=0, reference=reference)
    assert torch.equal(network[1].running_mean, plain[1].running_mean)  # type: ignore[index]


def test_a_dead_channel_s_variance_stays_within_bounds(trained: nn.Module) -> None:
    changed = copy.deepcopy(trained)
    with torch.no_grad():
        trained[0].weight[2].zero_()  # type: ignore[index]
        trained[1].running_var[2] = 0.01  # type: ignore[index]  # of images that the few do not show
    reestimate_batch_norm_(changed, SOME, seed=0, reference=trained)
    assert float(changed[1].running_var[2]) == pytest.approx(0.16)  # type: ignore[index]


CALLS: list[int] = []
"""Not in a closure, whose contents belong to a network's identity."""


class Counting(nn.Identity):
    """Notes each call."""

    def forward(self, input: Tensor) -> Tensor:
        CALLS.append(len(input))
        return input


def test_the_reference_is_looked_at_once(trained: nn.Module) -> None:
    forget_all()
    CALLS.clear()
    reference = nn.Sequential(*trained, Counting())
    for _ in range(3):
        reestimate_batch_norm_(_changed(trained), SOME, seed=0, reference=reference)
    assert len(CALLS) == 1
    reestimate_batch_norm_(_changed(trained), SOME, seed=1, reference=reference)
    with torch.no_grad():
        reference[0].weight.add_(0.1)  # type: ignore[operator]
    reestimate_batch_norm_(_changed(trained), SOME, seed=0, reference=reference)
    assert len(CALLS) == 3
