"""Folding batch norms: the same outputs, and only where it is certain."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sconv_search import CompositeConv2d, StructuredConv2d, StructuredConvTranspose2d, StructuredLinear
from sconv_search.inference.batch_norm_folding import fold_batch_norms_


def settled(network: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms with statistics and weights of a trained network's variety; in float64, so that laws are exact."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.running_mean is not None:
            for tensor in (module.running_mean, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.double().eval()


def folded(network: nn.Module, x: Tensor) -> tuple[nn.Module, list[str]]:
    result = copy.deepcopy(network)
    with torch.no_grad():
        names = fold_batch_norms_(result, x)
        torch.testing.assert_close(result(x), network(x), rtol=0, atol=1e-11)
    return result, names


def structured(conv: nn.Conv2d) -> nn.Module:
    return StructuredConv2d.from_conv(conv, c=conv.weight.shape[1] - 1, n=2, variant="merged")


def composite(conv: nn.Conv2d) -> nn.Module:
    return CompositeConv2d.from_conv(conv, torch.eye(36).view(36, 4, 3, 3)[:9])


LAYERS = {
    "convolution": lambda: nn.Conv2d(4, 6, 3, bias=False),
    "biased, grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, bias=False),
    "transposed, grouped": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "structured": lambda: structured(nn.Conv2d(4, 6, 3, bias=False)),
    "structured, grouped": lambda: structured(nn.Conv2d(4, 6, 3, groups=2)),
    "composite": lambda: composite(nn.Conv2d(4, 6, 3)),
    "structured transposed": lambda: StructuredConvTranspose2d.from_conv(nn.ConvTranspose2d(4, 6, 3, groups=2), c=1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_takes_the_norm_up(name: str) -> None:
    torch.manual_seed(0)
    network = settled(nn.Sequential(LAYERS[name](), nn.BatchNorm2d(6), nn.ReLU()))
    result, names = folded(network, torch.randn(2, 4, 7, 7, dtype=torch.float64))
    assert names == ["1"]
    assert type(result[1]) is nn.Identity
    assert type(result[0]) is type(network[0])


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 6), lambda: StructuredLinear.from_linear(nn.Linear(4, 6), c=2)])
def test_a_linear_layer_takes_the_norm_of_its_features_up(make) -> None:
    torch.manual_seed(0)
    network = settled(nn.Sequential(make(), nn.BatchNorm1d(6)))
    assert folded(network, torch.randn(3, 4, dtype=torch.float64))[1] == ["1"]


def test_a_norm_without_weights_is_folded() -> None:
    network = settled(nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, affine=False)))
    assert folded(network, torch.randn(2, 4, 5, 5, dtype=torch.float64))[1] == ["1"]


class ReadTwice(nn.Module):
    """The convolution's output goes past the norm, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class Returned(ReadTwice):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.cat([self.norm(y)]), y  # type: ignore[return-value]


class CalledTwice(ReadTwice):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.conv(x)))


class NormCalledTwice(ReadTwice):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.norm(self.conv(x)))


class Between(ReadTwice):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x).relu_())


class WeightRead(ReadTwice):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + self.conv.weight.mean()


class MeanRead(ReadTwice):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + self.norm.running_mean.mean()


class ManyNormed(ReadTwice):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) if len(x) > 1 else self.conv(x)


class NormHooked(ReadTwice):
    def __init__(self) -> None:
        super().__init__()
        self.norm.register_forward_hook(lambda _, given, made: made * 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class LayerHooked(NormHooked):
    def __init__(self) -> None:
        ReadTwice.__init__(self)
        self.conv.register_forward_hook(lambda _, given, made: made * 2)


KINDS = [ReadTwice, Returned, CalledTwice, NormCalledTwice, Between, WeightRead]
KINDS += [MeanRead, ManyNormed, NormHooked, LayerHooked]


@pytest.mark.parametrize("kind", KINDS)
def test_a_norm_that_is_not_certain_stays(kind: type[ReadTwice]) -> None:
    torch.manual_seed(0)
    network = settled(kind())
    result, names = folded(network, torch.randn(2, 4, 5, 5, dtype=torch.float64))
    assert names == []
    assert type(result.norm) is nn.BatchNorm2d


def test_a_norm_of_batch_statistics_stays() -> None:
    network = settled(nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, track_running_stats=False)))
    assert folded(network, torch.randn(2, 4, 5, 5, dtype=torch.float64))[1] == []


def test_a_norm_over_another_axis_than_the_features_stays() -> None:
    network = settled(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)))
    assert folded(network, torch.randn(3, 6, 4, dtype=torch.float64))[1] == []


def test_a_norm_that_only_an_example_of_one_input_passes_stays() -> None:
    class OneNormed(ReadTwice):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) if len(x) > 1 else self.norm(self.conv(x))

    assert folded(settled(OneNormed()), torch.randn(1, 4, 5, 5, dtype=torch.float64))[1] == []


class ReadsType(nn.Module):
    """Converts what it reads to the type of its weights, as networks in half precision do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.to(self.conv.weight.dtype)))


def test_a_norm_after_a_layer_whose_type_alone_is_read_is_folded() -> None:
    _, names = folded(settled(ReadsType()), torch.randn(2, 3, 6, 6, dtype=torch.float64))
    assert names == ["norm"]
