"""How much options change the outputs of a layer as it is called in its network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sconv_search import Choice
from sconv_search.studies.oneshot import damages
from sconv_search.studies.oneshot.damages import Damages

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
HALF = Choice(method="weight_svd", structure={"rank": 2})


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()


def test_a_layer_is_compared_on_what_its_forward_reads_and_gives_between_its_hooks() -> None:
    plain, hooked = network(), network()
    hooked[0].register_forward_pre_hook(lambda _, given: (given[0] * 2,))
    hooked[0].register_forward_hook(lambda _, given, made: made + 100)
    found = Damages(hooked, X).of_layer("0", HALF, [(3, 6, 6)])
    assert found == Damages(plain, 2 * X).of_layer("0", HALF, [(3, 6, 6)])


def test_a_layer_that_reads_one_input_by_itself_is_compared_on_the_whole_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class First(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[2](self[1](self[0](x[0])))

    monkeypatch.setattr(damages, "READ_ELEMENTS", 72)  # two channels
    found = Damages(First(*network()), X).of_layer("0", HALF, [(3, 6, 6)])
    assert found == Damages(network(), X[:1]).of_layer("0", HALF, [(3, 6, 6)])
