from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan
from sconv_search.calibration.reconstruction import Reconstruction, reconstruct, trainable_blocks
from sconv_search.studies.methods import METHODS, compress


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


IMAGES = torch.randn(256, 3, 6, 6, generator=torch.Generator().manual_seed(1))
OTHERS = torch.randn(64, 3, 6, 6, generator=torch.Generator().manual_seed(2))
HOW = Reconstruction(steps=40, batch=32, rate=5e-3)


def halved(dense: nn.Module, method: str) -> nn.Module:
    options = {name: found for name, found in METHODS[method].options(dense).items() if "blocks" in name and found}
    sites = {name: Choice(method=method, structure=found[len(found) // 2]) for name, found in options.items()}
    return compress(dense, CompressionPlan(sites=sites), IMAGES)


def error(network: nn.Module, dense: nn.Module) -> float:
    with torch.no_grad():
        return float((network(OTHERS) - dense(OTHERS)).square().mean())


@pytest.mark.parametrize("method", ["structured_conv", "spatial_svd", "weight_svd", "tucker", "cp"])
@pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")
def test_reconstruction_brings_the_outputs_of_other_images_nearer(dense: nn.Module, method: str) -> None:
    small = halved(dense, method)
    before, expected = error(small, dense), small(OTHERS)
    rebuilt = reconstruct(small, dense, IMAGES, HOW)
    assert error(rebuilt, dense) < 0.9 * before
    torch.testing.assert_close(small(OTHERS), expected, rtol=0, atol=0)
    assert set(rebuilt.state_dict()) == set(small.state_dict())
    assert not rebuilt.training


def test_equal_seeds_give_equal_networks_and_others_do_not(dense: nn.Module) -> None:
    small = halved(dense, "structured_conv")
    first, second = (reconstruct(small, dense, IMAGES, HOW)(OTHERS) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    other = reconstruct(small, dense, IMAGES, Reconstruction(steps=40, batch=32, rate=5e-3, seed=1))(OTHERS)
    assert not torch.equal(first, other)


def test_statistics_of_batch_norms_stay_and_scales_are_trained(dense: nn.Module) -> None:
    small = halved(dense, "spatial_svd")
    rebuilt = reconstruct(small, dense, IMAGES, HOW)
    assert rebuilt.blocks[1].bn1.running_var.equal(small.blocks[1].bn1.running_var)
    assert not rebuilt.blocks[1].bn1.weight.equal(small.blocks[1].bn1.weight)


def test_blocks_as_in_the_dense_network_are_left_alone(dense: nn.Module) -> None:
    plan = CompressionPlan(sites={"blocks.1.conv1": Choice(method="spatial_svd", structure={"rank": 4})})
    small = compress(dense, plan, IMAGES)
    rebuilt = reconstruct(small, dense, IMAGES, HOW)
    assert rebuilt.stem.weight.equal(dense.stem.weight)
    assert rebuilt.blocks[0].conv1.weight.equal(dense.blocks[0].conv1.weight)
    assert not rebuilt.blocks[1].conv2.weight.equal(dense.blocks[1].conv2.weight)


def test_a_block_that_training_makes_worse_stays(dense: nn.Module) -> None:
    small = halved(dense, "structured_conv")
    rebuilt = reconstruct(small, dense, IMAGES, Reconstruction(steps=3, rate=100.0))
    assert all(a.equal(b) for a, b in zip(rebuilt.parameters(), small.parameters(), strict=True))


def test_progress_counts_the_steps_of_all_blocks(dense: nn.Module) -> None:
    seen: list[tuple[int, int]] = []
    reconstruct(halved(dense, "tucker"), dense, IMAGES, Reconstruction(steps=3), progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (12, 12)  # the stem, two blocks and the head


def test_no_seconds_no_steps(dense: nn.Module) -> None:
    small = halved(dense, "spatial_svd")
    rebuilt = reconstruct(small, dense, IMAGES, Reconstruction(steps=10**9, seconds=1e-9))
    assert error(rebuilt, dense) <= error(small, dense) * 1.5


def test_blocks_follow_from_names_and_those_that_cannot_be_trained_are_said(dense: nn.Module) -> None:
    assert trainable_blocks(dense, dense, OTHERS[:1]) == (["stem", "blocks.0", "blocks.1", "head"], {})
    twice = copy.deepcopy(dense)
    twice.blocks = nn.Sequential(twice.blocks[0], twice.blocks[0])
    assert trainable_blocks(twice, twice, OTHERS[:1])[1] == {"blocks.0": "runs 2 times"}
    with pytest.warns(RuntimeWarning, match=r"blocks left as they were: blocks\.0 runs 2 times"):
        reconstruct(halved(twice, "tucker"), twice, IMAGES, HOW)


def test_what_is_not_positive_is_refused(dense: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"Reconstruction\.steps must be greater than 0, got 0"):
        Reconstruction(steps=0)
    with pytest.raises(ValueError, match="N >= 1"):
        reconstruct(dense, dense, IMAGES[:0])


def test_blocks_with_hooks_are_brought_nearer() -> None:
    torch.manual_seed(0)
    network = Small().eval()
    network.blocks[0].register_forward_pre_hook(lambda _, given: (given[0] * 2 + 1,))
    network.blocks[0].register_forward_hook(lambda _, given, made: made / 3)
    small = halved(network, "spatial_svd")
    assert error(reconstruct(small, network, IMAGES, HOW), network) < 0.9 * error(small, network)


def test_blocks_that_run_once_for_each_image_are_left_as_they_were_with_a_note(dense: nn.Module) -> None:
    class OneByOne(Small):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.blocks(torch.stack([self.stem(one) for one in x])).mean((2, 3)))

    network = OneByOne().eval()
    network.load_state_dict(dense.state_dict())
    with pytest.warns(RuntimeWarning, match="stem runs 2 times"):
        rebuilt = reconstruct(halved(network, "spatial_svd"), network, IMAGES[:8], Reconstruction(steps=1))
    assert rebuilt.stem.weight.equal(dense.stem.weight)


def test_images_that_blocks_write_over_stay_as_they_are() -> None:
    class Doubling(Block):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

    torch.manual_seed(0)
    network, images = Small(), IMAGES.clone()
    network.blocks = nn.Sequential(Doubling(8), Block(8))
    network.eval().register_forward_pre_hook(lambda _, given: (given[0].mul_(2),))
    small = halved(network, "spatial_svd")
    rebuilt = reconstruct(small, network, images, HOW)
    assert torch.equal(images, IMAGES)
    with torch.no_grad():
        wanted, before, after = (model(OTHERS.clone()) for model in (network, small, rebuilt))
    assert float((after - wanted).square().mean()) < 0.9 * float((before - wanted).square().mean())
