"""What is particular to structured convolution as a method; the laws of all methods are in test_contract."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sconv_search import Choice, CompressionPlan, StructuredConvolution, measure_cost, structural_loss
from sconv_search.plan import Structure
from sconv_search.structured.conv import StructuredConv2d
from sconv_search.structured.linear import StructuredLinear
from sconv_search.structured.sums.variants import VARIANTS, variant_of

METHOD = StructuredConvolution(variants=("natural",))
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "3x3": (nn.Conv2d(8, 8, 3, padding=1), (8, 8, 8)),
    "3x3, wide": (nn.Conv2d(32, 32, 3, padding=1), (32, 6, 6)),
    "3x3, unpadded": (nn.Conv2d(8, 8, 3), (8, 8, 8)),
    "strided": (nn.Conv2d(8, 16, 3, stride=2, padding=1), (8, 9, 9)),
    "strided stem": (nn.Conv2d(3, 16, 7, stride=2, padding=3), (3, 32, 32)),
    "dilated": (nn.Conv2d(8, 8, 3, padding=2, dilation=2), (8, 8, 8)),
    "groups": (nn.Conv2d(8, 8, 3, padding=1, groups=2), (8, 8, 8)),
    "depthwise": (nn.Conv2d(8, 8, 5, padding=2, groups=8), (8, 8, 8)),
    "pointwise": (nn.Conv2d(16, 8, 1), (16, 5, 5)),
    "pointwise, strided": (nn.Conv2d(16, 8, 1, stride=2), (16, 8, 8)),
    "pointwise, one filter": (nn.Conv2d(16, 1, 1), (16, 8, 8)),
    "linear": (nn.Linear(32, 10), (32,)),
    "linear, one output": (nn.Linear(16, 1), (16,)),
    "1d": (nn.Conv1d(6, 8, 5, padding=2), (6, 12)),
    "1x5": (nn.Conv2d(8, 8, (1, 5), padding=(0, 2)), (8, 8, 8)),
    "3d": (nn.Conv3d(4, 6, 3, padding=1), (4, 6, 6, 6)),
    "transposed": (nn.ConvTranspose2d(12, 8, 3, stride=2, padding=1, output_padding=1), (12, 5, 5)),
    "transposed, groups": (nn.ConvTranspose1d(12, 8, 3, stride=2, groups=2), (12, 5)),
    "3d, strided": (nn.Conv3d(4, 6, 3, padding=1, stride=2), (4, 6, 6, 6)),
}


def plan(**sites: Structure) -> CompressionPlan:
    return CompressionPlan(sites={name: Choice(method=METHOD.name, structure=chosen) for name, chosen in sites.items()})


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.twice = self.body
        self.up = nn.ConvTranspose2d(8, 8, 2)
        self.head = nn.Linear(8, 4)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = self.up(self.twice(self.body(self.norm(self.stem(x_NCHW)))))
        return self.head(x_NCHW.mean((2, 3)))


@pytest.fixture
def network() -> Tiny:
    return Tiny().eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 7, 7)


KINDS = ("3x3", "strided stem", "groups", "depthwise", "pointwise", "linear", "3d", "transposed")
MEASURED = [
    pytest.param(*given, variant, id=f"{name}-{variant}")
    for name, given in LAYERS.items()
    for variant in VARIANTS
    if name in KINDS or variant in ("natural", "signed_merged")
]
"""Each kind of layer in every variant; others of the kind in the variants of the simplest and of the dearest sums."""


@pytest.mark.parametrize(("layer", "shape", "variant"), MEASURED)
def test_options_measure_strictly_dearer_one_by_one_and_below_dense(
    layer: nn.Module, shape: tuple[int, ...], variant: str
) -> None:
    network = nn.ModuleDict({"site": layer})
    network.forward = None
    options = StructuredConvolution(variants=(variant,)).options(network).get("site", [])
    measured = [measure_cost(METHOD.compress(network, plan(site=option)).site, shape).flops for option in options]
    assert len(options) >= 2 or (
        variant.startswith("signed") and layer.weight.shape[0] == 1
    )  # signs cost as much as a filter
    assert all(cheaper < dearer for cheaper, dearer in pairwise([*measured, measure_cost(layer, shape).flops]))


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS.keys())
def test_options_are_in_range_and_of_the_layers_own_numbers(layer: nn.Module, shape: tuple[int, ...]) -> None:
    for option in METHOD.options(nn.Sequential(layer))["0"]:
        transposed = isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose1d)
        channels = layer.in_channels // layer.groups if transposed else layer.weight.shape[1]
        assert set(option) == ({"c"} if isinstance(layer, nn.Linear) or transposed else {"c", "n"})
        assert 1 <= option["c"] <= channels
        assert 1 <= option.get("n", 1) <= max(layer.weight.shape[2:], default=1)


def test_channel_counts_come_in_the_steps_asked_for() -> None:
    network = nn.Sequential(nn.Conv2d(12, 64, 3), nn.Conv2d(64, 40, 1))
    options = StructuredConvolution(variants=("natural",), channel_steps=3, pointwise_steps=5).options(network)
    assert {option["c"] for option in options["0"]} == {4, 8, 12}
    assert [option["c"] for option in options["1"]] == [13, 26, 38, 51]


def test_a_site_without_a_cheaper_form_is_absent(network: Tiny) -> None:
    assert set(METHOD.options(network)) == {"stem", "body", "up", "head"}
    assert METHOD.options(nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=4), nn.Linear(1, 4))) == {}


def test_sites_are_replaced_by_their_structured_forms(network: Tiny, images: Tensor) -> None:
    result = METHOD.compress(network, plan(stem={"c": 2, "n": 2}, head={"c": 3}))
    by_hand = copy.deepcopy(network)
    by_hand.stem = StructuredConv2d.from_conv(network.stem, c=2, n=2)
    by_hand.head = StructuredLinear.from_linear(network.head, c=3)
    assert isinstance(result.stem, StructuredConv2d)
    assert isinstance(result.head, StructuredLinear)
    assert torch.equal(result(images), by_hand(images))


def test_a_shared_layer_stays_shared(network: Tiny) -> None:
    result = METHOD.compress(network, plan(body={"c": 4, "n": 2}))
    assert isinstance(result.body, StructuredConv2d)
    assert result.twice is result.body


def test_the_full_structure_changes_nothing_but_rounding(network: Tiny, images: Tensor) -> None:
    result = METHOD.compress(network, plan(stem={"c": 3, "n": 3}, body={"c": 8, "n": 3}, head={"c": 8}))
    torch.testing.assert_close(result(images), network(images), rtol=0, atol=1e-6)


def test_kernels_that_have_the_structure_are_replaced_without_loss(network: Tiny, images: Tensor) -> None:
    chosen = plan(stem={"c": 2, "n": 2}, body={"c": 4, "n": 2}, head={"c": 3})
    for name in chosen.sites:
        layer = METHOD.compress(network, chosen).get_submodule(name)
        network.get_submodule(name).weight.data.copy_(layer.dense_kernel())
    assert METHOD.penalty(network, chosen)() < 1e-5
    torch.testing.assert_close(METHOD.compress(network, chosen)(images), network(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bias", [True, False])
def test_calibration_gives_the_least_squares_fit_to_the_outputs(variant: str, bias: bool) -> None:
    network = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1, groups=2, bias=bias)).double()
    images, entry = torch.randn(20, 6, 7, 7).double() + 0.5, {} if variant == "natural" else {variant: 1}
    small = METHOD.compress(network, plan(**{"0": {"c": 2, "n": 2, **entry}}), images)[0]
    read = small._pooled_in_space(small.pooling(images))[0]
    for group in range(2):
        patches = nn.functional.unfold(read[:, 2 * group : 2 * group + 2], 2).movedim(1, -1).flatten(0, 1)
        patches = torch.cat([patches, torch.ones_like(patches[:, :1])], 1) if bias else patches
        outputs = network(images)[:, 4 * group : 4 * group + 4].movedim(1, -1).flatten(0, 2)
        best = torch.linalg.lstsq(patches, outputs).solution.T
        found = small.weight[4 * group : 4 * group + 4].flatten(1)
        torch.testing.assert_close(found, best[:, :8], rtol=1e-4, atol=1e-5)
        if bias:
            torch.testing.assert_close(small.bias[4 * group : 4 * group + 4], best[:, 8], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_what_a_network_was_trained_towards_is_what_it_is_compressed_to(variant: str) -> None:
    network = nn.Sequential(nn.Conv2d(12, 8, 3, groups=2), nn.Linear(12, 8)).double()
    chosen = plan(**{"0": {"c": 3, "n": 2, variant: 1}, "1": {"c": 7, variant: 1}})
    trained, distance = copy.deepcopy(network), METHOD.penalty(network, chosen)
    for name, layer in METHOD.compress(network, chosen).named_children():
        trained.get_submodule(name).weight.data.copy_(
            layer.dense_kernel() + 0.02 * torch.randn(layer.dense_kernel().shape)
        )
    structured = METHOD.compress(trained, chosen, reference=network)
    kept = METHOD.compress(network, chosen)
    for name, buffer in structured.named_buffers():
        assert torch.equal(buffer, kept.get_buffer(name))
    network.load_state_dict(trained.state_dict())
    missed = [
        (trained.get_submodule(name).weight - layer.dense_kernel()).norm() / trained.get_submodule(name).weight.norm()
        for name, layer in structured.named_children()
    ]
    torch.testing.assert_close(distance(), sum(missed), rtol=1e-9, atol=1e-9)


def test_the_default_variant_merges_and_each_variant_is_offered_alone() -> None:
    network = nn.Sequential(nn.Conv2d(16, 16, 3), nn.Linear(16, 8))
    for variant in VARIANTS:
        for options in StructuredConvolution(variants=(variant,)).options(network).values():
            assert {variant_of(option) for option in options if option["c"] < 16} == {variant}
    assert StructuredConvolution().options(network) == StructuredConvolution(variants=("merged",)).options(network)
    with pytest.raises(ValueError, match="variants must be some of natural, permuted"):
        StructuredConvolution(variants=("mixed",))


@pytest.mark.parametrize("multiple", [4, 8])
def test_channel_counts_are_rounded_to_a_multiple_unless_all_are_kept(multiple: int) -> None:
    options = StructuredConvolution(multiple=multiple).options(nn.Sequential(nn.Conv2d(20, 8, 3), nn.Conv2d(3, 8, 3)))
    assert {option["c"] for option in options["0"]} == {*range(multiple, 20, multiple), 20}
    assert {option["c"] for option in options["1"]} == {3}


def test_two_variants_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="site '0': a structure names one variant at most"):
        METHOD.compress(nn.Sequential(nn.Linear(8, 4)), plan(**{"0": {"c": 3, "merged": 1, "permuted": 1}}))
    with pytest.raises(ValueError, match="site '0': entry 'merged' names a variant and must be 1, got 2"):
        METHOD.compress(nn.Sequential(nn.Linear(8, 4)), plan(**{"0": {"c": 3, "merged": 2}}))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_network_is_kept(network: Tiny, training: bool) -> None:
    result = METHOD.compress(network.train(training), plan(stem={"c": 2, "n": 2}, head={"c": 3}))
    assert {module.training for module in result.modules()} == {training}


def test_sites_of_other_methods_are_left_dense_but_must_exist(network: Tiny, images: Tensor) -> None:
    other = Choice(method="tucker", structure={"rank": 2})
    assert torch.equal(METHOD.compress(network, CompressionPlan(sites={"body": other}))(images), network(images))
    with pytest.raises(KeyError, match="'bodies', which Tiny lacks; nearest: body"):
        METHOD.compress(network, CompressionPlan(sites={"bodies": other}))


def test_the_penalty_is_the_structural_loss(network: Tiny) -> None:
    chosen = plan(stem={"c": 2, "n": 2}, head={"c": 3})
    assert METHOD.penalty(network, chosen)() == structural_loss(network, chosen)()
    assert METHOD.penalty(network, chosen)() > 0


def test_a_layer_without_structured_form_is_refused_by_site(network: Tiny) -> None:
    with pytest.raises(TypeError, match="site 'norm': BatchNorm2d has no structured form"):
        METHOD.compress(network, plan(norm={"c": 2, "n": 2}))


@pytest.mark.parametrize(
    ("site", "chosen", "complaint"),
    [
        ("stem", {"c": 4, "n": 2}, r"c must be in 1\.\.3"),
        ("head", {"c": 3, "n": 1}, r"takes \['c'\], got \['c', 'n'\]"),
    ],
)
def test_a_structure_that_does_not_fit_is_refused_by_site(
    network: Tiny, site: str, chosen: Structure, complaint: str
) -> None:
    with pytest.raises(ValueError, match=f"site '{site}': .*{complaint}"):
        METHOD.compress(network, plan(**{site: chosen}))
