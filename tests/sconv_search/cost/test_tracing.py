"""What is counted of shapes alone is what is counted of values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Cost, measure_cost
from sconv_search.cost import counting as measurement
from sconv_search.cost.tracing import ACTIVATIONS, OnShapes
from sconv_search.studies.tasks import TASKS, cityscapes_task, imagenet_task


class Runs(nn.Module):
    """A layer, then a function of its outputs."""

    def __init__(self, layer: nn.Module, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.run = layer, run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.layer(x))


def on_values(network: nn.Module, work: Callable[[nn.Module], Any]) -> Any:
    return work(copy.deepcopy(network).eval())


LAYERS = {
    "1d": (nn.Conv1d(6, 4, 5, padding=2, stride=2), (6, 11)),
    "2d, all kinds of steps": (
        nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2),
        (6, 9, 12),
    ),
    "3d": (nn.Conv3d(2, 4, (1, 3, 3), stride=(1, 2, 2), bias=False), (2, 4, 5, 5)),
    "named padding": (nn.Conv2d(4, 6, 3, padding="same", groups=2), (4, 6, 6)),
    "padded by reflection": (nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"), (4, 6, 6)),
    "depthwise": (nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 5, 5)),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3, stride=3), (4, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, 2, padding=1, output_padding=1, groups=2, dilation=2), (4, 5, 6)),
    "transposed 3d": (nn.ConvTranspose3d(2, 3, 2), (2, 3, 3, 3)),
    "norm and activation": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(inplace=True)), (3, 6, 6)),
    "pooled and resized": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Upsample(scale_factor=2.0)),
        (3, 8, 8),
    ),
    "sizes from the input": (
        Runs(nn.Conv2d(3, 4, 3), lambda x: F.interpolate(x, x.shape[2:], mode="bilinear")),
        (3, 8, 8),
    ),
    "unbatched within": (
        Runs(nn.Identity(), lambda x: F.conv2d(x[0], torch.ones(2, 3, 1, 1, device=x.device))),
        (3, 5, 5),
    ),
}


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_a_layer_counts_the_same_on_shapes_and_on_values(
    layer: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_shapes = measure_cost(layer, shape)
    assert measure_cost(layer, shape, direct=True) == on_shapes
    monkeypatch.setattr(measurement, "on_shapes", on_values)
    assert measure_cost(layer, shape) == on_shapes


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS, key=str), ids=lambda function: function.__name__)
def test_what_is_left_out_keeps_the_shape_and_costs_nothing(
    activation: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "on_shapes", on_values)
    layer = nn.Conv2d(3, 4, 3)
    assert measure_cost(Runs(layer, activation), (3, 6, 6)) == measure_cost(layer, (3, 6, 6))
    assert activation(torch.ones(2, 3)).shape == (2, 3)


NETWORKS = {
    "cifar10/mobilenet_v2": (TASKS["cifar10/mobilenet_v2"].network, (3, 32, 32)),
    "imagenet/resnet50": (imagenet_task("resnet50").network, (3, 64, 64)),
    "imagenet/efficientnet_b1": (imagenet_task("efficientnet_b1").network, (3, 64, 64)),
    "cityscapes/hrnet_w18_small_v2": (cityscapes_task().network, (3, 64, 128)),
    "photos/efficientnet_lite0": (TASKS["photos/efficientnet_lite0"].network, (3, 64, 64)),
}


@pytest.mark.parametrize(("network", "shape"), NETWORKS.values(), ids=NETWORKS.keys())
def test_the_networks_of_tasks_count_the_same_on_shapes_and_on_values(
    network: Callable[[], nn.Module], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = network()
    on_shapes = measurement.measure_modules(built, shape)
    assert measurement.measure_modules(built, shape, direct=True) == on_shapes
    monkeypatch.setattr(measurement, "on_shapes", on_values)
    assert measurement.measure_modules(built, shape) == on_shapes


def test_counting_computes_no_values() -> None:
    """The numbers that this network would write take a terabyte."""
    size = 2**17
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 2, 1)
    )
    macs, written = size**2 * (16 * 3 * 9 + 2 * 16), size**2 * (16 + 2)
    params = 16 * 3 * 9 + 2 * 16 + 2 * 16 + 2
    assert measure_cost(network, (3, size, size)) == Cost(macs=macs, adds=0, params=params, activations=written)


def test_a_batch_norm_of_other_channels_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match=r"Sequential fails on an input of shape \(3, 6, 6\): .*4"):
        measure_cost(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(4)), (3, 6, 6))


def test_tensors_with_values_are_computed_as_ever() -> None:
    layer, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU()).eval(), torch.randn(1, 3, 6, 6)
    with OnShapes():
        within = layer(x)
    assert torch.equal(within, layer(x))


class Two(nn.Module):
    """Two convolutions, run as the test says; 32,256 products, or of the first alone 13,824."""

    def __init__(self, run: Callable[[nn.Module, nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.run, self.kept = run, None

    def forward(self, x: Tensor) -> Any:
        return self.run(self.first, self.last, x)


class Holder:
    """An object that holds a result, or another object."""

    def __init__(self, held: Any) -> None:
        self.held = held


def into_an_attribute(first: nn.Module, last: nn.Module, x: Tensor) -> Tensor:
    first.kept = last(first(x))  # type: ignore[assignment]
    return x.mean()


@pytest.mark.parametrize(
    "run",
    [
        lambda first, last, x: last(first(x).data),
        lambda first, last, x: last(torch.from_numpy(first(x).detach().numpy())),
        lambda first, last, x: last(nn.Parameter(first(x))),
        lambda first, last, x: last(torch.tensor(first(x).tolist())),
        lambda first, last, x: torch.distributions.Normal(last(first(x)), 1.0),
        lambda first, last, x: torch.distributions.Categorical(logits=last(first(x))),
        lambda first, last, x: Holder(Holder(last(first(x)))),
        lambda first, last, x: last(first(x)).mean().item(),
        lambda first, last, x: last(first(x)).numpy(),
        into_an_attribute,
    ],
    ids=["data", "from_numpy", "parameter", "tolist", "normal", "categorical", "nested", "item", "numpy", "attribute"],
)
def test_products_count_whatever_becomes_of_their_results(run: Callable[..., Any]) -> None:
    assert measure_cost(Two(run), (3, 8, 8)).macs == (3 * 8 + 8 * 4) * 9 * 64


def test_a_layer_whose_result_is_not_used_counts_in_its_module() -> None:
    network = Two(lambda first, last, x: (first(x), last(first(x)))[1])
    costs = measurement.measure_modules(network, (3, 8, 8))
    assert costs["first"].macs == 2 * 3 * 8 * 9 * 64
    assert costs[""].macs == (2 * 3 * 8 + 8 * 4) * 9 * 64
