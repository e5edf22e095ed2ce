"""An input is found on which a network runs, where none was told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sconv_search.cost.input_shape import guessed_inputs
from sconv_search.cost.network_inputs import called


class Positions(nn.Module):
    """A linear layer over each position of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.mix(x_NCHW.permute(0, 2, 3, 1))


class Tokens(nn.Module):
    """Linear layers over as many tokens as there are learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1, 23, 6))
        self.mix = nn.Linear(6, 6)

    def forward(self, x_NTC: Tensor) -> Tensor:
        return self.mix(x_NTC + self.place)


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
        return self.first(x) + scale * self.last(y)


def flat(length: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * (length // 2) ** 2, 2)
    )


@pytest.mark.parametrize(
    "make",
    [
        Positions,
        Tokens,
        Sum,
        lambda: nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)),
        lambda: flat(10),
        lambda: flat(70),
    ],
    ids=["positions", "tokens", "several", "numbers of tokens", "flattened 10", "flattened 70"],
)
def test_an_input_is_found(make: Callable[[], nn.Module]) -> None:
    network = make().eval()
    inputs = guessed_inputs(network)
    assert inputs is not None
    assert called(network, inputs).isfinite().all()


def test_none_is_found_where_a_dict_is_read() -> None:
    class Reads(Sum):
        def forward(self, given: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
            return self.first(given["x"])

    assert guessed_inputs(Reads()) is None
