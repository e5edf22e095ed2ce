"""The laws that every compression method obeys, on tiny networks. A new method is tested by being in METHODS."""

from __future__ import annotations

import copy
import io
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan, Compressor, measure_cost
from sconv_search.compressor import layers
from studies import METHODS, compress, rebuild, save_compressed

SHAPE = (4, 12, 12)


class Tiny(nn.Module):
    """Every kind of convolution that needs care: stride, dilation, groups, depthwise, pointwise, bias, a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(4, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.strided = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.dilated = nn.Conv2d(16, 16, 3, padding="same", dilation=2, padding_mode="circular")
        self.grouped = nn.Conv2d(16, 16, (3, 5), padding=(1, 2), groups=2)
        self.depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.pointwise = nn.Conv2d(16, 24, 1, stride=2)
        self.norm = nn.BatchNorm2d(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.relu(self.strided(self.stem(x_NCHW)))
        x_NCHW = x_NCHW + self.grouped(F.relu(self.dilated(x_NCHW)))
        x_NCHW = F.relu(self.norm(self.pointwise(self.depthwise(x_NCHW))))
        return self.head(x_NCHW.mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Tiny().eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=METHODS.values(), ids=lambda method: method.name)
def method(request: pytest.FixtureRequest) -> Compressor:
    return request.param


def plan_of(method: Compressor, network: nn.Module, place: int) -> CompressionPlan:
    """Every site at its cheapest (0), middle (1) or dearest (2) option."""
    chosen = {name: options[(len(options) - 1) * place // 2] for name, options in method.options(network).items()}
    return CompressionPlan(sites={name: Choice(method=method.name, structure=structure) for name, structure in chosen.items()})


def test_empty_plan_changes_nothing(method: Compressor, network: nn.Module, images: Tensor) -> None:
    same = method.compress(network, CompressionPlan(sites={}))
    torch.testing.assert_close(same(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize("place", range(3))
def test_compressing_keeps_the_argument_and_the_output_shape(
    method: Compressor, network: nn.Module, images: Tensor, place: int
) -> None:
    before, expected = copy.deepcopy(network.state_dict()), network(images)
    compressed = method.compress(network, plan_of(method, network, place))
    assert compressed(images).shape == expected.shape
    assert not torch.equal(compressed(images), expected)
    assert type(network) is Tiny
    assert set(network.state_dict()) == set(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_cheaper_option_never_measures_dearer_nor_any_dearer_than_dense(method: Compressor, network: nn.Module) -> None:
    dense = measure_cost(network, SHAPE).flops
    for name, options in method.options(network).items():
        plans = [CompressionPlan(sites={name: Choice(method=method.name, structure=structure)}) for structure in options]
        flops = [measure_cost(method.compress(network, plan), SHAPE).flops for plan in plans]
        assert all(cheaper <= dearer for cheaper, dearer in pairwise([*flops, dense])), (name, flops, dense)


def test_the_penalty_is_zero_on_a_network_that_has_the_structure(method: Compressor, network: nn.Module) -> None:
    plan = plan_of(method, network, 1)
    structured = copy.deepcopy(network)
    compressed = method.compress(network, plan)
    assert method.penalty(network, plan)() >= 0
    assert (method.penalty(network, plan)() > 0) == method.regularizable
    if method.regularizable:
        for name, layer in layers(structured).items():
            if name in plan.sites:
                layer.weight.data.copy_(compressed.get_submodule(name).dense_kernel())
    assert method.penalty(structured, plan)() < 1e-5


def test_a_plan_survives_json(method: Compressor, network: nn.Module) -> None:
    plan = plan_of(method, network, 1)
    assert CompressionPlan.from_json(plan.to_json()) == plan


def test_compressing_twice_gives_equal_outputs(method: Compressor, network: nn.Module, images: Tensor) -> None:
    plan = plan_of(method, network, 1)
    torch.testing.assert_close(method.compress(network, plan)(images), method.compress(network, plan)(images), rtol=0, atol=0)


def test_an_unknown_site_raises_and_names_near_ones(method: Compressor, network: nn.Module) -> None:
    structure = next(iter(method.options(network).values()))[0]
    plan = CompressionPlan(sites={"strode": Choice(method=method.name, structure=structure)})
    with pytest.raises(KeyError, match=r"'strode', which Tiny lacks; nearest: .*strided"):
        method.compress(network, plan)


def test_gradients_reach_every_parameter(method: Compressor, network: nn.Module, images: Tensor) -> None:
    compressed = method.compress(network, plan_of(method, network, 1)).train()
    compressed(images).square().sum().backward()
    without = [name for name, weight in compressed.named_parameters() if weight.grad is None or not weight.grad.any()]
    # a bias before batch norm has no effect, so its gradient is rounding or nothing
    assert [name for name in without if not name.startswith(("pointwise", "depthwise"))] == []


def test_the_state_dict_reloads(method: Compressor, network: nn.Module, images: Tensor) -> None:
    plan, buffer = plan_of(method, network, 1), io.BytesIO()
    compressed = method.compress(network, plan)
    torch.save(compressed.state_dict(), buffer)
    buffer.seek(0)
    torch.manual_seed(5)
    other = method.compress(Tiny().eval(), plan)
    assert not torch.equal(other(images), compressed(images))
    other.load_state_dict(torch.load(buffer, weights_only=True))
    torch.testing.assert_close(other(images), compressed(images), rtol=0, atol=0)


def test_plan_and_weights_rebuild_the_network(
    method: Compressor, network: nn.Module, images: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plan, folder = plan_of(method, network, 1), tmp_path_factory.mktemp("rebuilt")
    compressed = compress(network, plan)
    save_compressed(compressed, plan, folder)
    torch.testing.assert_close(rebuild(Tiny(), folder)(images), compressed(images), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore")
def test_the_result_exports_and_compiles(method: Compressor, network: nn.Module, images: Tensor) -> None:
    compressed = method.compress(network, plan_of(method, network, 1))
    expected = compressed(images)
    exported = torch.export.export(compressed, (images,)).module()
    torch.testing.assert_close(exported(images), expected, rtol=0, atol=0)
    compiled = torch.compile(compressed, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected, rtol=1e-5, atol=1e-5)
