"""One call trains a compressed network's blocks to the dense network's outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sconv_search as ss

SEEN = torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(1))
UNSEEN = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(2))


class Two(nn.Module):
    """Reads an image and a row of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.side, self.head = nn.Linear(4, 8), nn.Linear(8, 5)

    def forward(self, image: Tensor, row: Tensor) -> Tensor:
        return self.head(self.body(image).mean((2, 3)) + self.side(row))


def chain() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)).eval()


def error(network: nn.Module, dense: nn.Module, *inputs: Tensor) -> float:
    with torch.no_grad():
        return float((network(*inputs) - dense(*inputs)).square().mean())


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    return chain()


@pytest.fixture(scope="module")
def small(dense: nn.Module) -> nn.Module:
    return ss.compress(dense, SEEN[:1], budget="50%", data=[SEEN])


def test_other_images_come_nearer_and_the_arguments_stay(dense: nn.Module, small: nn.Module) -> None:
    before = small(UNSEEN)
    rebuilt = ss.reconstruct(small, dense, SEEN, images=2000, learning_rate=5e-3)
    assert error(rebuilt, dense, UNSEEN) < 0.9 * error(small, dense, UNSEEN)
    torch.testing.assert_close(small(UNSEEN), before, rtol=0, atol=0)
    assert (rebuilt.plan, rebuilt.cost) == (small.plan, small.cost)  # so that it can be saved and exported


def test_batches_serve_as_a_tensor_does_and_equal_calls_give_equal_networks(dense: nn.Module, small: nn.Module) -> None:
    batches = [(part, torch.zeros(len(part))) for part in SEEN.split(40)]
    one, two = (ss.reconstruct(small, dense, data, images=320, samples=80) for data in (SEEN, batches))
    torch.testing.assert_close(one(UNSEEN), two(UNSEEN), rtol=0, atol=0)


def test_the_budget_is_of_images_that_pass_a_block(dense: nn.Module, small: nn.Module) -> None:
    """One step of 64 images, then 2: the steps are whole."""
    one, other, more = (ss.reconstruct(small, dense, SEEN, images=count)(UNSEEN) for count in (1, 64, 65))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(one, more)


def test_networks_of_several_inputs_are_taken() -> None:
    torch.manual_seed(0)
    dense = Two().eval()
    rows = torch.randn(96, 4, generator=torch.Generator().manual_seed(3))
    small = ss.compress(dense, (SEEN[:1], rows[:1]), budget="50%")
    rebuilt = ss.reconstruct(small, dense, [((SEEN, rows),)], images=1280, learning_rate=5e-3)
    assert error(rebuilt, dense, UNSEEN, rows[:64]) < 0.9 * error(small, dense, UNSEEN, rows[:64])
    assert set(rebuilt.state_dict()) == set(small.state_dict())


@pytest.mark.parametrize("name", ["images", "samples", "batch"])
def test_what_is_not_positive_is_refused(dense: nn.Module, small: nn.Module, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be greater than 0, got 0"):
        ss.reconstruct(small, dense, SEEN, **{name: 0})  # type: ignore[arg-type]
