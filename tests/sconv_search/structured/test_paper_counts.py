"""The costs of the paper's plans: as published, by formulas of the networks' tables, and measured on the networks as
built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torchvision.models
from torch import nn

from sconv_search import CompressionPlan
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.structured.paper_counts import PaperCounts, paper_counts
from sconv_search.structured.paper_plans import paper_plan


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer of a table; ``inputs`` and ``c`` are of one group, ``size`` is the input's; a linear layer has the size
    1.
    """

    inputs: int
    outputs: int
    size: int
    taps: int = 3
    stride: int = 1
    groups: int = 1
    c: int = 0
    n: int = 0
    bias: bool = False

    def counts(self) -> tuple[int, int, int, int]:
        """Mults, naive and chain additions, parameters with those of the batch norm, or with the bias."""
        c, n, after = self.c or self.inputs, self.n or self.taps, self.size // self.stride
        weights, written = self.outputs * c * n**2, self.outputs * after**2
        mults = written * c * n**2
        length, box = self.inputs - c + 1, self.taps - n + 1
        padded = self.size + 2 * (self.taps // 2)
        pooled = padded - box + 1
        naive = self.groups * c * pooled**2 * (length * box**2 - 1)
        chain = self.groups * (self.inputs - 1) * self.size**2 if length > 1 else 0
        chain += self.groups * c * (box - 1) * (pooled * padded + pooled**2)  # along one axis, then along the other
        return mults, mults - written + naive, mults - written + chain, weights + (1 if self.bias else 2) * self.outputs


def basic(blocks: tuple[int, ...], channels: int, size: int) -> Iterator[Layer]:
    """The 3x3 layers of a ResNet's stages: the channels double where the size halves."""
    for stage, count in enumerate(blocks):
        for block in range(count):
            halves = stage > 0 and block == 0
            channels, before = channels * (1 + halves), channels
            yield Layer(inputs=before, outputs=channels, size=size, stride=1 + halves)
            size //= 1 + halves
            yield Layer(inputs=channels, outputs=channels, size=size)


SHORTCUTS = [(64, 128, 56), (128, 256, 28), (256, 512, 14)]


def resnet(blocks: tuple[int, ...], rule: Callable[[Layer], Layer]) -> list[Layer]:
    """ResNet-18 and 34: 7x7 stem at stride 2, max-pooling, four stages, 1x1 shortcuts, classifier."""
    shortcuts = [Layer(inputs=i, outputs=o, size=size, taps=1, stride=2) for i, o, size in SHORTCUTS]
    ends = [Layer(inputs=3, outputs=64, size=224, taps=7, stride=2), linear(512, 1000)]
    return [*map(rule, basic(blocks, 64, 56)), *shortcuts, *ends]


def cifar(blocks: int, rule: Callable[[Layer], Layer]) -> list[Layer]:
    """3x3 stem, three stages of 16, 32 and 64 channels, classifier; the shortcuts are free."""
    return [Layer(inputs=3, outputs=16, size=32), *map(rule, basic((blocks,) * 3, 16, 32)), linear(64, 10)]


def resnet50() -> list[Layer]:
    """1x1, 3x3 (which has the stride) and 1x1 of four times the channels, and a 1x1 shortcut in each stage's first
    block.
    """
    found, inputs, size = [Layer(inputs=3, outputs=64, size=224, taps=7, stride=2), linear(2048, 1000)], 64, 56
    for stage, count in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(count):
            stride = 2 if stage and block == 0 else 1
            found.append(Layer(inputs=inputs, outputs=width, size=size, taps=1))
            found.append(Layer(inputs=width, outputs=width, size=size, stride=stride))
            found.append(Layer(inputs=width, outputs=4 * width, size=size // stride, taps=1))
            if block == 0:
                found.append(Layer(inputs=inputs, outputs=4 * width, size=size, taps=1, stride=stride))
            inputs, size = 4 * width, size // stride
    return found


def mobilenet(pointwise: Callable[[Layer], Layer], depthwise: Callable[[Layer], Layer]) -> list[Layer]:
    """Sandler et al., MobileNetV2, CVPR 2018, table 2: expansion, channels, blocks, stride of the first."""
    found = [Layer(inputs=3, outputs=32, size=224, stride=2)]
    inputs, size = 32, 112
    stages = (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    for expansion, outputs, blocks, first in stages:
        for block in range(blocks):
            inner, stride = inputs * expansion, 1 if block else first
            if expansion > 1:
                found.append(pointwise(Layer(inputs=inputs, outputs=inner, size=size, taps=1)))
            found.append(depthwise(Layer(inputs=1, outputs=inner, size=size, stride=stride, groups=inner)))
            size //= stride
            found.append(pointwise(Layer(inputs=inner, outputs=outputs, size=size, taps=1)))
            inputs = outputs
    return [*found, pointwise(Layer(inputs=320, outputs=1280, size=7, taps=1)), pointwise(linear(1280, 1000))]


def linear(inputs: int, outputs: int) -> Layer:
    return Layer(inputs=inputs, outputs=outputs, size=1, taps=1, bias=True)


def same(layer: Layer) -> Layer:
    return layer


def a(layer: Layer) -> Layer:
    return replace(layer, n=2)


def b(layer: Layer) -> Layer:
    return replace(layer, c=64 if layer.inputs == 64 else layer.inputs // 2, n=2)


def share(quarters: int) -> Callable[[Layer], Layer]:
    return lambda layer: replace(layer, c=layer.inputs * quarters // 4)


def total(layers: list[Layer]) -> PaperCounts:
    mults, naive, chain, params = map(sum, zip(*(layer.counts() for layer in layers), strict=True))
    return PaperCounts(mults=mults, naive_additions=naive, chain_additions=chain, params=params)


FORMULAS: dict[str, list[Layer]] = {
    "resnet18": resnet((2, 2, 2, 2), same),
    "resnet18/A": resnet((2, 2, 2, 2), a),
    "resnet18/B": resnet((2, 2, 2, 2), b),
    "resnet34": resnet((3, 4, 6, 3), same),
    "resnet34/A": resnet((3, 4, 6, 3), a),
    "resnet50": resnet50(),
    "mobilenet_v2": mobilenet(same, same),
    "mobilenet_v2/A": mobilenet(share(3), a),
    "mobilenet_v2/B": mobilenet(share(2), a),
    "cifar/resnet20": cifar(3, same),
    "cifar/resnet20/A": cifar(3, a),
    "cifar/resnet56": cifar(9, same),
    "cifar/resnet56/A": cifar(9, a),
}
PUBLISHED = {
    "resnet18": ("1.814", "1.812", "11.690"),
    "resnet18/A": ("0.883", "0.886", "5.586"),
    "resnet18/B": ("0.626", "0.792", "3.194"),
    "resnet34": ("3.664", "3.660", "21.798"),
    "resnet34/A": ("1.705", "1.711", "10.083"),
    "resnet50": ("4.089", "4.078", "25.557"),
    "mobilenet_v2": ("0.301", "0.294", "3.505"),
    "mobilenet_v2/A": ("0.222", "0.342", "2.618"),
    "cifar/resnet56": ("0.1255", "0.1250", "0.853"),
    "cifar/resnet56/A": ("0.0560", "0.0572", "0.382"),
    "cifar/resnet20": ("0.0406", "0.0404", "0.270"),
    "cifar/resnet20/A": ("0.0183", "0.0187", "0.121"),
}
"""Mults and additions with naive pooling in 1e9, parameters in 1e6."""
LARGE = ("resnet18/A", "resnet18/B", "resnet34", "resnet34/A", "resnet50", "mobilenet_v2/B", "cifar/resnet56/A")
"""Measuring these takes seconds."""


def network_and_plan(name: str) -> tuple[nn.Module, CompressionPlan, tuple[int, ...]]:
    family, _, letter = name.rpartition("/") if name[-2:] in ("/A", "/B") else (name, "", "")
    small = family.startswith("cifar/resnet")
    network = cifar_resnet(int(family.removeprefix("cifar/resnet"))) if small else getattr(torchvision.models, family)()
    plan = paper_plan(name, network) if letter else CompressionPlan()
    return network, plan, (3, 32, 32) if small else (3, 224, 224)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in FORMULAS])
def test_the_networks_as_built_cost_what_their_formula_says(name: str) -> None:
    assert paper_counts(*network_and_plan(name)) == total(FORMULAS[name])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_formulas_round_to_the_published_counts(name: str) -> None:
    found = total(FORMULAS[name])
    digits = len(PUBLISHED[name][0]) - 2
    printed = (
        f"{found.mults / 1e9:.{digits}f}",
        f"{found.naive_additions / 1e9:.{digits}f}",
        f"{found.params / 1e6:.3f}",
    )
    assert printed == PUBLISHED[name]


@pytest.mark.parametrize("letter", ["A", "B"])
def test_naive_pooling_adds_more_than_the_dense_mobilenet_and_chains_add_less(letter: str) -> None:
    dense, compressed = total(FORMULAS["mobilenet_v2"]), total(FORMULAS[f"mobilenet_v2/{letter}"])
    assert compressed.chain_additions < dense.naive_additions < compressed.naive_additions


def test_the_chains_save_on_the_pointwise_layers_of_mobilenet_alone() -> None:
    dense, compressed = total(mobilenet(same, same)), total(mobilenet(share(3), same))
    assert compressed.chain_additions < dense.naive_additions < compressed.naive_additions


def test_chains_never_add_more_than_boxes_do() -> None:
    for layers in FORMULAS.values():
        assert total(layers).chain_additions <= total(layers).naive_additions


def test_products_of_other_operators_are_refused() -> None:
    class Attention(nn.Module):
        def forward(self, x):  # type: ignore[no-untyped-def]
            return x @ x.transpose(-2, -1)

    network = nn.Sequential(nn.Linear(4, 4), Attention())
    with pytest.raises(ValueError, match="linear layers alone; theirs are 64 of the 128 MACs"):
        paper_counts(network, CompressionPlan(), (4, 4))
