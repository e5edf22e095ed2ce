"""The laws that every compression method obeys, on tiny networks. A new method is tested by being in METHODS."""

from __future__ import annotations

import copy
import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sconv_search import Choice, CompressionPlan, Compressor, measure_cost
from sconv_search.studies import METHODS, compress, rebuild, save_compressed
from sconv_search.studies.space.input_shapes import input_shapes

SHAPE = (4, 12, 12)
pytestmark = pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")  # tiny kernels are hard to sweep


class Tiny(nn.Module):
    """Every kind of layer that needs care: stride, dilation, groups, depthwise, pointwise, transposed, bias, a residual
    sum.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(4, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.strided = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.dilated = nn.Conv2d(16, 16, 3, padding="same", dilation=2, padding_mode="circular")
        self.grouped = nn.Conv2d(16, 16, (3, 5), padding=(1, 2), groups=2)
        self.depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.pointwise = nn.Conv2d(16, 24, 1, stride=2)
        self.norm = nn.BatchNorm2d(24)
        self.upsampled = nn.ConvTranspose2d(24, 12, 3, stride=2, padding=1, output_padding=1)
        self.head = nn.Linear(12, 5)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.relu(self.strided(self.stem(x_NCHW)))
        x_NCHW = x_NCHW + self.grouped(F.relu(self.dilated(x_NCHW)))
        x_NCHW = F.relu(self.norm(self.pointwise(self.depthwise(x_NCHW))))
        return self.head(F.relu(self.upsampled(x_NCHW)).mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Tiny().eval()


def drawn(count: int, seed: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return drawn(3, 1)


@pytest.fixture(params=METHODS.values(), ids=METHODS)
def method(request: pytest.FixtureRequest) -> Compressor:
    return request.param


@pytest.fixture(params=[None, 24], ids=["data-free", "calibrated"])
def calibration(request: pytest.FixtureRequest) -> Tensor | None:
    """No inputs, or some to fit to."""
    return None if request.param is None else drawn(request.param, 2)


PLACES = pytest.mark.parametrize("place", [0, 1], ids=["cheapest", "middle"])


def plan_of(method: Compressor, network: nn.Module, place: int) -> CompressionPlan:
    """Every site at its cheapest (0), middle (1) or dearest (2) option."""
    chosen = {name: options[(len(options) - 1) * place // 2] for name, options in method.options(network).items()}
    return CompressionPlan(
        sites={name: Choice(method=method.name, structure=structure) for name, structure in chosen.items()}
    )


def test_the_key_is_the_methods_name() -> None:
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in METHODS}


def test_empty_plan_changes_nothing(
    method: Compressor, network: nn.Module, images: Tensor, calibration: Tensor | None
) -> None:
    same = method.compress(network, CompressionPlan(sites={}), calibration)
    torch.testing.assert_close(same(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize("place", range(3))
def test_compressing_keeps_the_argument_and_the_output_shape(
    method: Compressor, network: nn.Module, images: Tensor, calibration: Tensor | None, place: int
) -> None:
    before, expected = copy.deepcopy(network.state_dict()), network(images)
    seen = None if calibration is None else calibration.clone()
    compressed = method.compress(network, plan_of(method, network, place), calibration)
    assert compressed(images).shape == expected.shape
    assert not torch.equal(compressed(images), expected)
    assert type(network) is Tiny
    assert not network.training
    assert set(network.state_dict()) == set(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert seen is None or torch.equal(seen, calibration)


def test_a_cheaper_option_never_measures_dearer_nor_any_dearer_than_dense(
    method: Compressor, network: nn.Module
) -> None:
    """Where a method replaces one layer, the layer is measured: all others are the network's own."""
    options = method.options(network)
    shapes = input_shapes(network, SHAPE, options)
    for name, own in options.items():
        whole = method.reshapes_neighbors
        shape = SHAPE if whole else shapes[name][0]
        dense = measure_cost(network if whole else network.get_submodule(name), shape).flops
        plans = [
            CompressionPlan(sites={name: Choice(method=method.name, structure=structure)})
            for structure in [*own[:-1:2], own[-1]]
        ]
        compressed = [method.compress(network, plan) for plan in plans]
        flops = [measure_cost(made if whole else made.get_submodule(name), shape).flops for made in compressed]
        others = {path: type(module) for path, module in network.named_modules() if not path.startswith(name)}
        for made in compressed if not whole else ():
            kept = {path: type(module) for path, module in made.named_modules() if not path.startswith(name)}
            assert kept == others
        assert all(cheaper <= dearer for cheaper, dearer in pairwise([*flops, dense])), (name, flops, dense)


def test_options_lie_within_the_limits(method: Compressor, network: nn.Module) -> None:
    options = method.options(network)
    assert options
    for name, structures in options.items():
        limits = method.limits(network.get_submodule(name))
        for structure in structures:
            assert all(1 <= structure[entry] <= limits[entry] for entry in limits), (name, structure, limits)


def test_no_limits_are_said_of_what_is_no_layer(method: Compressor) -> None:
    assert not method.limits(nn.ReLU())
    assert not method.limits(nn.Embedding(5, 5))


def test_the_greatest_structure_is_exact(method: Compressor, images: Tensor, calibration: Tensor | None) -> None:
    torch.manual_seed(0)
    network, inputs = Tiny().double().eval(), images.double()
    sites = {
        name: Choice(method=method.name, structure=method.limits(network.get_submodule(name)))
        for name in method.options(network)
    }
    given = None if calibration is None else calibration.double()
    compressed = method.compress(network, CompressionPlan(sites=sites), given)
    torch.testing.assert_close(compressed(inputs), network(inputs), rtol=0, atol=1e-10)
    assert all(tensor.dtype in (torch.float64, torch.int64) for tensor in compressed.state_dict().values())


def test_beyond_the_limits_is_refused(method: Compressor, network: nn.Module) -> None:
    name, options = next(iter(method.options(network).items()))
    for entry, most in method.limits(network.get_submodule(name)).items():
        for value in (0, most + 1):
            structure = {**options[0], entry: value}
            with pytest.raises(ValueError, match=str(value)):
                method.compress(network, CompressionPlan(sites={name: Choice(method=method.name, structure=structure)}))


def test_the_penalty_is_zero_on_a_network_that_has_the_structure(method: Compressor, network: nn.Module) -> None:
    plan = plan_of(method, network, 1)
    structured = copy.deepcopy(network)
    compressed = method.compress(network, plan)
    assert method.penalty(network, plan)() >= 0
    assert (method.penalty(network, plan)() > 0) == method.regularizable
    if method.regularizable:
        for name in plan.sites:
            structured.get_submodule(name).weight.data.copy_(compressed.get_submodule(name).dense_kernel())
    assert method.penalty(structured, plan)() < 1e-5


def test_a_plan_survives_json(method: Compressor, network: nn.Module) -> None:
    plan = plan_of(method, network, 1)
    assert CompressionPlan.from_json(plan.to_json()) == plan


def test_compressing_twice_gives_equal_outputs(
    method: Compressor, network: nn.Module, images: Tensor, calibration: Tensor | None
) -> None:
    plan = plan_of(method, network, 1)
    first, second = (method.compress(network, plan, calibration)(images) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_an_unknown_site_raises_and_names_near_ones(method: Compressor, network: nn.Module) -> None:
    structure = next(iter(method.options(network).values()))[0]
    plan = CompressionPlan(sites={"strode": Choice(method=method.name, structure=structure)})
    with pytest.raises(KeyError, match=r"'strode', which Tiny lacks; nearest: .*strided"):
        method.compress(network, plan)


def test_gradients_reach_every_parameter(
    method: Compressor, network: nn.Module, images: Tensor, calibration: Tensor | None
) -> None:
    compressed = method.compress(network, plan_of(method, network, 1), calibration).train()
    compressed(images).square().sum().backward()
    without = [name for name, weight in compressed.named_parameters() if weight.grad is None or not weight.grad.any()]
    # a bias before batch norm has no effect, so its gradient is rounding or nothing
    assert [name for name in without if not name.startswith(("pointwise", "depthwise"))] == []
    assert all(weight.requires_grad for weight in compressed.parameters())


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


def test_plan_and_weights_rebuild_the_network_bit_for_bit(
    method: Compressor,
    network: nn.Module,
    images: Tensor,
    calibration: Tensor | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    plan, folder = plan_of(method, network, 1), tmp_path_factory.mktemp("rebuilt")
    compressed = compress(network, plan, calibration)
    save_compressed(compressed, plan, folder)
    rebuilt = rebuild(Tiny(), folder)
    torch.testing.assert_close(rebuilt(images), compressed(images), rtol=0, atol=0)
    saved = compressed.state_dict()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in rebuilt.state_dict().items())


@PLACES
def test_torch_export_keeps_the_function(method: Compressor, network: nn.Module, images: Tensor, place: int) -> None:
    compressed = method.compress(network, plan_of(method, network, place))
    exported = torch.export.export(compressed, (images,)).module()
    torch.testing.assert_close(exported(images), compressed(images), rtol=0, atol=1e-4)


@PLACES
def test_torch_compile_keeps_the_function(method: Compressor, network: nn.Module, images: Tensor, place: int) -> None:
    compressed = method.compress(network, plan_of(method, network, place))
    torch.compiler.reset()
    backend = "eager" if place == 0 else "aot_eager"  # the second also traces through autograd, which takes longer
    compiled = torch.compile(compressed, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(images), compressed(images), rtol=0, atol=1e-4)


@PLACES
@pytest.mark.filterwarnings("ignore")
def test_onnx_keeps_the_function(method: Compressor, network: nn.Module, images: Tensor, place: int) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    compressed = method.compress(network, plan_of(method, network, place))
    buffer = io.BytesIO()
    torch.onnx.export(compressed, (images,), buffer, dynamo=False)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(found, compressed(images).detach().numpy(), rtol=0, atol=1e-4)
