"""How far a change moves outputs of any kind."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sconv_search.studies.space.damage import OutputError, relative_squares


class Finder(nn.Module):
    """Gives as many numbers as it finds, as a detector does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv1d(1, 2, 3)
        self.head = nn.Conv1d(2, 1, 1)

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        return [{"found": one[one > 1e9]} for one in self.head(self.body(x))]


def scaled(network: nn.Module, name: str, factor: float) -> nn.Module:
    with torch.no_grad():
        for weight in network.get_submodule(name).parameters():
            weight.mul_(factor)
    return network


def test_errors_are_relative_squares_averaged_over_all_outputs() -> None:
    wanted = [torch.tensor([3.0, 4.0]), torch.tensor([1.0])]
    assert relative_squares([torch.tensor([3.0, 9.0]), torch.tensor([1.0])], wanted) == 0.5
    assert relative_squares([torch.tensor([3.0])], wanted) == math.inf
    assert relative_squares([torch.tensor([3.0]), torch.tensor([1.0])], wanted) == math.inf


def test_outputs_of_one_logit_and_of_several_tensors_are_compared_as_they_are() -> None:
    network = nn.Linear(3, 1, bias=False)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    error = OutputError(network, x)
    assert not error.by_layers
    assert error.of(network) == 0
    assert abs(error.of(nn.Sequential(network, nn.Linear(1, 1, bias=False).requires_grad_(False))) - 0) > 0
    other = nn.Linear(3, 1, bias=False)
    other.weight.data = 1.5 * network.weight.data
    assert abs(error.of(other) - 0.25) < 1e-6


def test_batch_norms_on_the_batchs_own_statistics_see_no_batch_of_one() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    assert not OutputError(network.train(), torch.randn(4, 1, 3, 3)).by_layers
    assert network.training


def test_where_outputs_cannot_be_compared_those_of_the_layers_are() -> None:
    torch.manual_seed(0)
    network = Finder()
    x = torch.randn(4, 1, 9, generator=torch.Generator().manual_seed(0))
    error = OutputError(network, x)
    assert error.by_layers
    assert error.of(network) == 0
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    late = error.of(scaled(network, "head", 1.5))
    assert abs(late - 0.25 / 2) < 1e-6, "the head's outputs are one of two layers'"
    network.load_state_dict(state)
    assert error.of(scaled(network, "body", 1.5)) > late, "both layers' outputs move"
