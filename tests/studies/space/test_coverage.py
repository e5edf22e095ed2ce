"""Every method over all that it offers, on the kinds of network that users have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.efficientnet import MBConvConfig

from sconv_search import Choice, CompressionPlan, Compressor, measure_cost
from sconv_search.networks.efficientnet_lite import InvertedBlock, efficientnet_lite0
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.studies import METHODS, compress

pytestmark = pytest.mark.filterwarnings("ignore:.*CP of rank:RuntimeWarning")


class SmallUNet(nn.Module):
    """Two levels, transposed convolutions on the way up, concatenations across."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = _convs(3, 8), _convs(8, 16)
        self.bottom = _convs(16, 32)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, stride=2), nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.merge2, self.merge1 = _convs(32, 16), _convs(16, 8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        first = self.down1(x_NCHW)
        second = self.down2(F.max_pool2d(first, 2))
        x_NCHW = self.up2(self.bottom(F.max_pool2d(second, 2)))
        x_NCHW = self.up1(self.merge2(torch.cat([x_NCHW, second], dim=1)))
        return self.head(self.merge1(torch.cat([x_NCHW, first], dim=1)))


def _convs(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def audio_network() -> nn.Module:
    """Strided and dilated 1-D convolutions over a wave form."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 25, stride=4, padding=12),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Conv1d(16, 32, 9, stride=4, padding=4),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Conv1d(32, 32, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 6),
    )


def video_network() -> nn.Module:
    """3-D convolutions, one of them over time alone."""
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1, stride=(1, 2, 2), bias=False),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.Conv3d(8, 12, (3, 1, 1), padding=(1, 0, 0)),
        nn.ReLU(),
        nn.Conv3d(12, 12, (1, 3, 3), groups=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(12, 6),
    )


def lite_blocks() -> nn.Module:
    """Depthwise blocks with asymmetric padding."""
    blocks = (InvertedBlock(3, 12, 3, 2, 1), InvertedBlock(12, 12, 5, 1, 6), InvertedBlock(12, 16, 5, 2, 6))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 6))


def narrow_efficientnet() -> nn.Module:
    """EfficientNet's blocks, squeeze-and-excitation included, at few channels."""
    stages = [(1, 3, 1, 16, 8, 1), (6, 5, 2, 8, 16, 2), (6, 3, 2, 16, 24, 1)]
    settings = [MBConvConfig(*stage, width_mult=1.0, depth_mult=1.0) for stage in stages]
    return torchvision.models.EfficientNet(settings, dropout=0.1, num_classes=6, last_channel=48)


def narrow_mobilenet() -> nn.Module:
    """Blocks with and without a residual connection and an expansion, in eight channels and more."""
    return torchvision.models.MobileNetV2(
        num_classes=6, width_mult=0.25, inverted_residual_setting=[[1, 32, 1, 1], [6, 32, 2, 2], [6, 64, 1, 2]]
    )


NARROW: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cifar_resnet": (lambda: cifar_resnet(8), (3, 16, 16)),
    "lite_blocks": (lite_blocks, (3, 17, 20)),
    "mobilenet": (narrow_mobilenet, (3, 32, 32)),
    "efficientnet": (narrow_efficientnet, (3, 32, 32)),
    "densenet": (
        lambda: torchvision.models.DenseNet(growth_rate=8, block_config=(2, 2), num_init_features=16, num_classes=6),
        (3, 32, 32),
    ),
    "unet": (SmallUNet, (3, 16, 16)),
    "audio": (audio_network, (1, 400)),
    "video": (video_network, (3, 4, 8, 8)),
}
WHOLE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "cifar_resnet20": (lambda: cifar_resnet(20), (3, 16, 16)),
    "efficientnet_lite0": (efficientnet_lite0, (3, 33, 40)),
    "resnet18": (torchvision.models.resnet18, (3, 32, 32)),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, (3, 32, 32)),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, (3, 32, 32)),
    "densenet121": (torchvision.models.densenet121, (3, 32, 32)),
    "r3d_18": (torchvision.models.video.r3d_18, (3, 4, 16, 16)),
}
NETWORKS = NARROW | WHOLE


@pytest.fixture(scope="module")
def built() -> Callable[[str], nn.Module]:
    """Networks by name, each made once."""
    known: dict[str, nn.Module] = {}

    def build(name: str) -> nn.Module:
        if name not in known:
            torch.manual_seed(0)
            known[name] = NETWORKS[name][0]().eval()
        return known[name]

    return build


@pytest.mark.parametrize(
    "network_name", [*NARROW, *(pytest.param(name, marks=pytest.mark.slow, id=f"whole-{name}") for name in WHOLE)]
)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_all_sites_at_once_keep_the_output_shape_at_no_more_than_dense(
    method: Compressor, network_name: str, built: Callable[[str], nn.Module]
) -> None:
    network, shape = built(network_name), NETWORKS[network_name][1]
    options = method.options(network)
    dense = measure_cost(network, shape)
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    for place in (0, 1):
        sites = {name: found[(len(found) - 1) * place // 2] for name, found in options.items()}
        plan = CompressionPlan(sites={n: Choice(method=method.name, structure=s) for n, s in sites.items()})
        compressed = method.compress(network, plan)
        with torch.no_grad():
            outputs = compressed(image)
        assert outputs.shape == network(image).shape
        assert outputs.isfinite().all()
        cost = measure_cost(compressed, shape)
        assert cost.flops < dense.flops if sites else cost == dense


def least(method: str, network: nn.Module) -> CompressionPlan:
    """The method's cheapest option at each site."""
    options = METHODS[method].options(network)
    return CompressionPlan(sites={name: Choice(method=method, structure=found[0]) for name, found in options.items()})


LAYERWISE = [name for name, method in METHODS.items() if not method.reshapes_neighbors]


class Shared(nn.Module):
    """One convolution used twice, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = self.first

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x_NCHW)))


@pytest.mark.parametrize("method", LAYERWISE)
def test_a_shared_layer_is_compressed_once_and_replaced_in_both_places(method: str) -> None:
    network = Shared().eval()
    plan = least(method, network)
    assert set(plan.sites) == {"first"}
    compressed = compress(network, plan)
    assert compressed.first is compressed.second
    assert type(compressed.first) is not nn.Conv2d
    assert len({id(weight) for weight in compressed.parameters()}) < 2 * len(list(compressed.first.parameters()))
    image = torch.randn(1, 8, 6, 6)
    once = compressed.first(F.relu(compressed.first(image)))
    torch.testing.assert_close(compressed(image), once, rtol=0, atol=0)


class Containers(nn.Module):
    """Layers in a list, a dictionary and nested sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = nn.ModuleList(
            [nn.Conv2d(4, 8, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))]
        )
        self.named = nn.ModuleDict({"a": nn.Conv2d(8, 8, 3, padding=1), "b": nn.Conv2d(8, 4, 3, padding=1)})

    def forward(self, x_NCHW: Tensor) -> Tensor:
        for module in (*self.listed, *self.named.values()):
            x_NCHW = module(x_NCHW)
        return x_NCHW


@pytest.mark.parametrize("method", LAYERWISE)
def test_layers_in_containers_are_sites(method: str) -> None:
    network = Containers().eval()
    plan = least(method, network)
    assert set(plan.sites) == {"listed.0", "listed.1.1", "named.a", "named.b"}
    compressed = compress(network, plan)
    assert all(type(compressed.get_submodule(name)) is not nn.Conv2d for name in plan.sites)
    assert compressed(torch.randn(1, 4, 6, 6)).shape == (1, 4, 6, 6)


class Doubled(nn.Conv2d):
    """A subclass that computes something else."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return 2 * super().forward(x_NCHW)


class Unusual(nn.Module):
    """A subclass, a functional call on bare weights, and control flow that depends on the data."""

    def __init__(self, branches: bool) -> None:
        super().__init__()
        self.branches = branches
        self.plain, self.doubled, self.last = nn.Conv2d(4, 8, 3), Doubled(8, 8, 3), nn.Conv2d(8, 4, 3)
        self.kernel = nn.Parameter(torch.randn(8, 8, 1, 1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.conv2d(self.doubled(F.relu(self.plain(x_NCHW))), self.kernel)
        if self.branches and not x_NCHW.detach().numpy().any():  # no graph sees through this
            return x_NCHW[:, :4, 2:, 2:]
        return self.last(x_NCHW)


@pytest.mark.parametrize("method", LAYERWISE)
@pytest.mark.parametrize("branches", [False, True])
def test_subclasses_and_functional_calls_are_left_alone(method: str, branches: bool) -> None:
    network = Unusual(branches).eval()
    plan = least(method, network)
    assert set(plan.sites) == {"plain", "last"}
    compressed = compress(network, plan)
    assert type(compressed.doubled) is Doubled
    assert torch.equal(compressed.doubled.weight, network.doubled.weight)
    assert torch.equal(compressed.kernel, network.kernel)
    assert compressed(torch.randn(2, 4, 9, 9)).shape == (2, 4, 3, 3)


def test_a_network_that_cannot_be_traced_is_offered_no_pruning_and_says_so() -> None:
    class OnlyOneSize(nn.Sequential):
        def forward(self, x_NCHW: Tensor) -> Tensor:
            if x_NCHW.shape[-1] != 11:  # a size that no tracing tries
                raise ValueError("the image must be 11 wide")
            return super().forward(x_NCHW)

    network = OnlyOneSize(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    with pytest.warns(
        UserWarning, match=r"channel pruning offers nothing for OnlyOneSize: .*11 wide.*; other methods still work"
    ):
        assert METHODS["channel_pruning"].options(network) == {}
    assert set(METHODS["weight_svd"].options(network)) == {"0", "2"}
