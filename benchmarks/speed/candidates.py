"""The networks of the speed benchmark, and their compressed forms of about equal MACs.

Structured networks come in two forms: *structured*, the paper's choice of fewer taps, then half of the channels too;
    and
*merged*, fewer sums of channels under all taps.

Weights are random: they do not change the time. The structured plans are fixed by layer, all others follow them: each
site takes the same share of what its method offers, the share by bisection, so that the whole network has as nearly the
structured one's MACs as the ladders allow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchvision
from torch import nn

from sconv_search.baselines.channel_pruning import ChannelPruning
from sconv_search.baselines.spatial_svd import SpatialSVD
from sconv_search.baselines.tucker import Tucker
from sconv_search.baselines.weight_svd import WeightSVD
from sconv_search.cost.counting import measure_cost
from sconv_search.networks.resnet import cifar_resnet
from sconv_search.plan import Choice, CompressionPlan, Structure
from sconv_search.studies.methods import compress

Strength = Literal["2x", "4x"]
STRENGTHS: tuple[Strength, ...] = ("2x", "4x")
MERGED: Mapping[Strength, float] = {"2x": 2.25, "4x": 4.5}
STEPS = 48
BISECTIONS = 8
NEAR = 1.05
"""A plan of more MACs than this many times the structured one's is not compared with it."""
STEM_CHANNELS = 4


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to be timed.

    Args:
        pointwise: whether its 1x1 convolutions are compressed too; where they hold few of the MACs they stay.
        multiple: of which ranks and numbers of channels are multiples.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    pointwise: bool
    multiple: int


def _imagenet(make: Callable[[], nn.Module], *, pointwise: bool) -> Subject:
    return Subject(make=make, shape=(3, 224, 224), pointwise=pointwise, multiple=8)


SUBJECTS: Mapping[str, Subject] = {
    "resnet20": Subject(make=lambda: cifar_resnet(20), shape=(3, 32, 32), pointwise=False, multiple=4),
    "resnet56": Subject(make=lambda: cifar_resnet(56), shape=(3, 32, 32), pointwise=False, multiple=4),
    "resnet18": _imagenet(torchvision.models.resnet18, pointwise=False),
    "resnet50": _imagenet(torchvision.models.resnet50, pointwise=True),
    "mobilenet_v2": _imagenet(torchvision.models.mobilenet_v2, pointwise=True),
    "efficientnet_b0": _imagenet(torchvision.models.efficientnet_b0, pointwise=True),
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A form of a network: its method, how strongly it is compressed, and the network, or why there is none."""

    method: str
    strength: str
    network: nn.Module | None
    reason: str = ""

    @property
    def name(self) -> str:
        """Method and strength: ``structured 2x``."""
        return f"{self.method} {self.strength}".strip()


def structured_plan(network: nn.Module, strength: Strength, *, pointwise: bool) -> CompressionPlan:
    """Of N taps, (N + 1) / 2; with ``4x`` half of the channels too; 1x1 layers keep a half or a quarter of their
    channels.

    The stem stays dense, as layers of up to four input channels do that are not depthwise.
    """
    sites: dict[str, Choice] = {}
    for name, layer in network.named_modules():
        if type(layer) is not nn.Conv2d or is_stem(layer):
            continue
        channels, taps = layer.weight.shape[1], max(layer.kernel_size)
        if taps == 1 and (not pointwise or channels < 2 * STEM_CHANNELS):
            continue
        kept = channels // (2 if strength == "2x" else 4) if taps == 1 else channels // (1 if strength == "2x" else 2)
        c = max(1, kept)
        merged = {"merged": 1} if c < channels else {}
        sites[name] = Choice(method="structured_conv", structure={"c": c, "n": (taps + 1) // 2, **merged})
    return CompressionPlan(sites=sites)


def merged_plan(network: nn.Module, strength: Strength, *, pointwise: bool, multiple: int) -> CompressionPlan:
    """Of about the MACs of ``structured_plan``, by the channels alone: C / 2.25 or C / 4.5 sums; 1x1 layers are as
    there.

    Sums in whole registers of channels are one convolution over blocks, and a 3x3 kernel is what runtimes are fastest
    at.
    """
    sites: dict[str, Choice] = {}
    for name, choice in structured_plan(network, strength, pointwise=pointwise).sites.items():
        layer: Any = network.get_submodule(name)
        channels, taps = layer.weight.shape[1], max(layer.kernel_size)
        sums = max(1, round(channels / MERGED[strength] / multiple)) * multiple
        if taps > 1 and sums < channels:
            choice = Choice(method="structured_conv", structure={"c": sums, "n": taps, "merged": 1})
        sites[name] = choice
    return CompressionPlan(sites=sites)


def _options(method: str, network: nn.Module, subject: Subject) -> dict[str, tuple[str, list[Structure]]]:
    """Site -> its method and structures, cheapest first; the SVDs and Tucker-2 leave 1x1 layers to weight SVD."""
    more: dict[str, Any] = {"steps": STEPS, "multiple": subject.multiple}
    if method == "channel_pruning":
        pruning_structures = ChannelPruning(**more).options(network)
        return {name: (method, structures) for name, structures in pruning_structures.items()}
    own = (SpatialSVD if method == "spatial_svd" else Tucker)(**more).options(network)
    both = {name: (method, structures) for name, structures in own.items()}
    if subject.pointwise:
        rest = WeightSVD(**more).options(network)
        both |= {name: ("weight_svd", structures) for name, structures in rest.items() if name not in both}
    kinds = {name: network.get_submodule(name) for name in both}
    return {
        name: structures_of_layer
        for name, structures_of_layer in both.items()
        if type(kinds[name]) is nn.Conv2d and not is_stem(kinds[name])
    }


def is_stem(layer: nn.Module) -> bool:
    """Whether it reads the image, and stays dense in all forms."""
    return type(layer) is nn.Conv2d and layer.in_channels <= STEM_CHANNELS and layer.groups == 1


def at_equal_macs(method: str, network: nn.Module, subject: Subject, macs: int, strength: str) -> Candidate:
    """The method's plan whose MACs are nearest to that many, every site at the same share of its options."""
    options = _options(method, network, subject)
    built: dict[int, tuple[int, nn.Module]] = {}

    def at(share: int) -> int:
        """MACs at so many parts in a thousand."""
        if share not in built:
            small = compress(network, _at_share(options, share / 1000))
            built[share] = measure_cost(small, subject.shape).macs, small
        return built[share][0]

    if not options or at(0) > NEAR * macs:
        least = f"{at(0) / 1e6:.1f} M MACs at least" if options else "no layer"
        return Candidate(method=method, strength=strength, network=None, reason=f"{least}, {macs / 1e6:.1f} M wanted")
    low, high = 0, 1000
    for _ in range(BISECTIONS):
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle) <= macs else (low, middle)
    _, nearest = min(built.values(), key=lambda candidate: abs(candidate[0] - macs))
    return Candidate(method=method, strength=strength, network=nearest)


def _at_share(options: Mapping[str, tuple[str, list[Structure]]], share: float) -> CompressionPlan:
    sites = {}
    for name, (method, structures) in options.items():
        position = round(share * len(structures))
        if position < len(structures):  # else dense
            sites[name] = Choice(method=method, structure=structures[position])
    return CompressionPlan(sites=sites)


BASELINES = ("spatial_svd", "tucker", "channel_pruning")


def candidates(
    subject: Subject, strengths: tuple[Strength, ...] = STRENGTHS, baselines: tuple[str, ...] = BASELINES
) -> list[Candidate]:
    """The network's forms, the dense one first."""
    torch.manual_seed(0)
    network = subject.make().eval()
    rows = [Candidate(method="dense", strength="", network=network)]
    for strength in strengths:
        plan = structured_plan(network, strength, pointwise=subject.pointwise)
        structured = compress(network, plan)
        rows.append(Candidate(method="structured", strength=strength, network=structured))
        merged = merged_plan(network, strength, pointwise=subject.pointwise, multiple=subject.multiple)
        if merged != plan:
            rows.append(Candidate(method="merged", strength=strength, network=compress(network, merged)))
        macs = measure_cost(structured, subject.shape).macs
        rows += [at_equal_macs(method, network, subject, macs, strength) for method in baselines]
    return rows
