"""Readers are refit to the same kernels, whether the channels that stay are solved for or those that go."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from sconv_search.baselines import reader_refit
from sconv_search.baselines.channel_pruning import ChannelPruning
from sconv_search.baselines.reader_refit import refit_readers_
from sconv_search.channels.groups import dependencies
from tests.baselines.test_channel_pruning import CALIBRATION, NETWORKS, with_lively_norms


@pytest.fixture(autouse=True)
def solved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes of what is solved for; nothing is remembered of other tests."""
    monkeypatch.setattr(reader_refit, "_ROWS", WeakTensorKeyDictionary())
    shapes, solve = list[tuple[int, int]](), torch.linalg.solve

    def watched(square: Tensor, other: Tensor, **options: bool) -> Tensor:
        shapes.append((square.shape[-1], other.shape[-1]))
        return solve(square, other, **options)

    monkeypatch.setattr(torch.linalg, "solve", watched)
    return shapes


def refit(network: nn.Module, name: str, keep: int) -> nn.Module:
    group, result = dependencies(network).groups[name], copy.deepcopy(network)
    kept = torch.arange(group.channels).view(group.blocks, -1)[:, : keep // group.blocks].flatten()
    refit_readers_(result, network, [(group, kept)], CALIBRATION)
    return result


def biased() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 3), nn.Flatten(), nn.Linear(5 * 144, 3)).double()


@pytest.mark.parametrize("kind", ["dense", "residual", "separable", "grouped", "biased"])
def test_taking_channels_out_gives_nearly_what_solving_for_the_others_gives(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ridge alone differs: it follows the mean over all features in place of those that stay."""
    network = biased() if kind == "biased" else with_lively_norms(NETWORKS[kind]())
    changed = 0
    for name, options in ChannelPruning().options(network).items():
        keep = options[len(options) // 2]["keep"]
        made = []
        for few in (0.0, 1.0):
            monkeypatch.setattr(reader_refit, "FEW", few)
            made.append(refit(network, name, keep))
        for before, one, other in zip(network.parameters(), *(made[i].parameters() for i in (0, 1)), strict=True):
            torch.testing.assert_close(other, one, rtol=0.02, atol=1e-3 * float(before.detach().abs().max()))
            changed += not torch.equal(one, before)
    assert changed


@pytest.mark.parametrize("bias", [True, False])
def test_taking_channels_out_is_the_ridge_regression_of_the_channels_that_stay(
    bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_refit, "FEW", 1.0)
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 3, bias=bias)).double()
    kept = [1, 2, 4, 6, 7]
    result = copy.deepcopy(network)
    refit_readers_(result, network, [(dependencies(network).groups["0"], torch.tensor(kept))], CALIBRATION)

    with torch.no_grad():
        read = nn.functional.unfold(network[:2](CALIBRATION), 3).movedim(1, 2).flatten(0, 1)  # (patches, 8 * 9)
        wanted = read @ network[2].weight.flatten(1).T
        center = read.mean(0) if bias else torch.zeros(72).double()
        x, y = read - center, wanted - (wanted.mean(0) if bias else 0)
        ridge = reader_refit.RIDGE * x.square().mean(0).mean()
        stays = [channel * 9 + tap for channel in kept for tap in range(9)]
        start = network[2].weight[:, kept].flatten(1).T
        rows = torch.cat([x[:, stays], (len(x) * ridge).sqrt() * torch.eye(len(stays))])
        goal = torch.cat([y, (len(x) * ridge).sqrt() * start])
        solution = torch.linalg.lstsq(rows, goal, driver="gelsd").solution
        torch.testing.assert_close(result[2].weight[:, kept].flatten(1).T, solution, rtol=1e-6, atol=1e-8)
        if bias:
            shift = wanted.mean(0) - center[stays] @ solution
            torch.testing.assert_close(result[2].bias, network[2].bias + shift, rtol=1e-6, atol=1e-8)


def test_a_densenets_site_is_inverted_once_and_then_as_few_channels_as_go_are_solved_for(
    solved: list[tuple[int, int]],
) -> None:
    network = with_lively_norms(torchvision.models.DenseNet(8, (3,), 16, num_classes=5))
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    group = dependencies(network).groups["features.denseblock1.denselayer1.conv2"]
    for keep in (6, 4):
        del solved[:]
        result = copy.deepcopy(network)
        refit_readers_(result, network, [(group, torch.arange(keep))], images)
        # of 24, 32 and 40 channels that a layer reads the group makes 8: too many of 24
        gone, inverted = 8 - keep, [(32, 8), (40, 8)] if keep == 6 else []
        assert sorted(solved) == sorted([(24 - gone, 24 - gone), (gone, 32), (gone, 40), *inverted])
        for reader in ("features.denseblock1.denselayer3.conv1", "classifier"):
            assert not torch.equal(result.get_submodule(reader).weight, network.get_submodule(reader).weight)


def test_what_is_remembered_of_one_group_is_not_taken_for_another() -> None:
    network = with_lively_norms(torchvision.models.DenseNet(8, (3,), 16, num_classes=5))
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    groups = [dependencies(network).groups[f"features.denseblock1.denselayer{n}.conv2"] for n in (1, 2)]
    made = []
    for before in ((), (groups[0],)):
        reader_refit._ROWS.clear()
        for group in (*before, groups[1]):
            result = copy.deepcopy(network)
            refit_readers_(result, network, [(group, torch.arange(5))], images)
        made.append(result)
    for one, other in zip(made[0].parameters(), made[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
