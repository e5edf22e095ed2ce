"""How much options change the outputs of a layer as it is called in its network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sconv_search import Choice, Cost, compress
from sconv_search.search_space.space import Option
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


def test_a_layer_that_the_data_never_runs_is_judged_by_noise_with_a_note() -> None:
    class Branching(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[2](self[0](x) if x.mean() <= 0 else self[2].weight.new_ones(len(x), 8, 4, 4))

    branching, option = Branching(*network()), Option(choice=HALF, cost=Cost(macs=1, adds=0, params=0), damage=0.5)
    judged = Damages(branching, X.abs())
    with pytest.warns(RuntimeWarning, match="the data never runs '0'"):
        found = judged.of_layer("0", HALF, [(3, 6, 6)])
    assert found == Damages(branching, None).of_layer("0", HALF, [(3, 6, 6)])
    assert judged.scaled("0", [option]) == (option,)  # not by outputs, which it does not reach


def test_data_of_empty_batches_is_refused() -> None:
    with pytest.raises(ValueError, match=r"holds empty batches alone, of \(0, 3, 6, 6\)"):
        compress(network(), (3, 6, 6), budget="60%", data=[X[:0], X[:0]])
