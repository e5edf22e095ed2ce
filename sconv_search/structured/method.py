"""Structured convolution as a compression method: mathematics, layers and regularization behind one protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from sconv_search.calibration.moments import Moments, grouped_kernel, least_squares_tail
from sconv_search.calibration.replaceable import replaceable
from sconv_search.calibration.sequential_fit import compress_layers
from sconv_search.compressor import Build, Compressor, Penalty, Prepared, require_sites, site
from sconv_search.layer_kinds import LAYER_KINDS, TRANSPOSED_KINDS, layer_kind
from sconv_search.plan import CompressionPlan, Structure
from sconv_search.structured import regularization
from sconv_search.structured.conv import StructuredConv1d, StructuredConv2d, StructuredConv3d, kernel_counts
from sconv_search.structured.conv_transpose import (
    StructuredConvTranspose1d,
    StructuredConvTranspose2d,
    StructuredConvTranspose3d,
)
from sconv_search.structured.linear import StructuredLinear
from sconv_search.structured.sums.variants import NATURAL, VARIANTS, channel_additions, layer_kernel, variant_of

# What the options of structured layers cost, for their order: the study measures the real ones on the built layer.

SPREADS = tuple(product((1 / 3, 3), (1, 3)))
"""Positions on which channel sums, and spatial sums, run for one output position: few or many as padding is large or
none.
"""


def in_order_of_cost(layer: nn.Module, structures: Sequence[Structure]) -> list[Structure]:
    """Cheapest first, and only those whose order holds whether the layer's padding is small or large beside its
    input.
    """
    dense = 2 * layer_kernel(layer).numel()
    kept: list[Structure] = []
    last = [0.0] * len(SPREADS)
    for structure in sorted(structures, key=lambda chosen: _flops_a_position(layer, chosen, (1, 1))):
        flops = [_flops_a_position(layer, structure, spread) for spread in SPREADS]
        if max(flops) < dense and (
            flops == last or all(cheaper < own for cheaper, own in zip(last, flops, strict=True))
        ):
            kept.append(structure)
            last = flops
    return kept


def _flops_a_position(layer: nn.Module, structure: Structure, spread: tuple[float, float]) -> float:
    """FLOPs an output position; an input position of a transposed layer."""
    filters, channels, *taps = layer_kernel(layer).shape
    space = tuple(taps) or (1,)
    kept = kernel_counts(space, channels, structure["c"], structure.get("n", max(space)))
    pointwise = math.prod(space) == 1 or isinstance(layer, nn.Linear | _ConvTransposeNd)
    sums = (1 if pointwise else spread[0]) * channel_additions(variant_of(structure), channels, structure["c"])
    sums += spread[1] * kept[0] * sum(size - count for size, count in zip(space, kept[1:], strict=True))
    read = 1 if pointwise or not isinstance(layer, _ConvNd) else math.prod(layer.stride)
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    return 2 * filters * math.prod(kept) + groups * read * sums


CONVOLUTIONS: Mapping[type[nn.Module] | None, type[StructuredConv1d | StructuredConv2d | StructuredConv3d]] = {
    layer.dense_type: layer for layer in (StructuredConv1d, StructuredConv2d, StructuredConv3d)
}
TRANSPOSED: dict[
    type[nn.Module] | None, type[StructuredConvTranspose1d | StructuredConvTranspose2d | StructuredConvTranspose3d]
] = {
    layer.dense_type: layer
    for layer in (StructuredConvTranspose1d, StructuredConvTranspose2d, StructuredConvTranspose3d)
}


@dataclass(frozen=True, kw_only=True)
class StructuredConvolution(Compressor):
    """Sum-pooling and a smaller kernel in the place of a convolution (transposed or not) or linear layer.

    Args:
        name: key of the method in plans.
        variants: ways of summing channels that are offered, of ``channel_layout.VARIANTS``; *merged* alone by default,
            which takes the fewest additions and is nearest to trained kernels (docs/methods.md has the figures).
        channel_steps: channel counts are offered in this many equal steps, where a layer has spatial taps too.
        pointwise_steps: the same for layers whose only structure is along the channels.
        multiple: channel counts below all of them are offered in multiples of this alone.

    Raises:
        ValueError: a variant is unknown, or none is given.

    Source: Bhalgat et al., NeurIPS 2020, arXiv 2008.02454; the variants are this project's own.
    """

    regularizable: ClassVar[bool] = True
    reshapes_neighbors: ClassVar[bool] = False
    name: str = regularization.METHOD
    variants: tuple[str, ...] = ("merged",)
    channel_steps: int = 8
    pointwise_steps: int = 8
    multiple: int = 1

    def __post_init__(self) -> None:
        if not self.variants or (unknown := [variant for variant in self.variants if variant not in VARIANTS]):
            raise ValueError(
                f"variants must be some of {', '.join(VARIANTS)}, got {unknown if self.variants else self.variants}"
            )

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Pairs (c, n) a layer and variant, cheapest first; only those that need fewer FLOPs than the dense layer."""
        structures = {name: self._layer_options(layer) for name, layer in replaceable(network).items()}
        return {name: options for name, options in structures.items() if options}

    def _layer_options(self, layer: nn.Module) -> list[Structure]:
        channels, *kernel = layer_kernel(layer).shape[1:]
        spatial = bool(kernel) and not isinstance(layer, _ConvTransposeNd)
        steps = self.channel_steps if spatial and max(kernel) > 1 else self.pointwise_steps
        rounded = {self.multiple * max(1, round(channels * step / steps / self.multiple)) for step in range(1, steps)}
        counts = [count for count in sorted(rounded) if count < channels]
        taps: list[dict[str, int]] = [{"n": n} for n in range(1, max(kernel) + 1)] if spatial else [{}]
        choices = [{"c": c, **n, **_entry(variant)} for c, n, variant in product(counts, taps, self.variants)]
        return in_order_of_cost(layer, choices + [{"c": channels, **n} for n in taps[:-1]])

    def limits(self, layer: nn.Module) -> Structure:
        """The greatest c, and n where the layer's taps may be structured; empty for a layer without a structured
        form.
        """
        kind = layer_kind(layer)
        if kind in TRANSPOSED_KINDS or kind is nn.Linear:
            return {"c": layer_kernel(layer).shape[1]}
        if kind in LAYER_KINDS:
            return {"c": layer_kernel(layer).shape[1], "n": max(layer_kernel(layer).shape[2:])}
        return {}

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """The structural regularization loss of the plan's sites."""
        return regularization.structural_loss(network, plan, self.name)

    def compress(
        self,
        network: nn.Module,
        plan: CompressionPlan,
        calibration: Tensor | None = None,
        reference: nn.Module | None = None,
    ) -> nn.Module:
        """The network with each site's kernel replaced by its least-squares structured form.

        Args:
            calibration: inputs (N, ...) over which the small kernels are fit to the dense layers' outputs instead of to
                their kernels; transposed convolutions are not.
            reference: the network before it was trained towards the plan: which channels a variant sums together is
                derived from its weights, as the penalty did; else from the network's own.

        Raises:
            KeyError: the plan names a site that the network lacks.
            TypeError: a site's layer has no structured form.
            ValueError: a structure is out of range for its site.
        """
        return compress_layers(network, self.builds(network, plan, reference), calibration)

    def prepared(
        self,
        network: nn.Module,
        plan: CompressionPlan,
        calibration: Tensor | None = None,
        reference: nn.Module | None = None,
    ) -> Prepared:
        """The network as it is, and what makes each of the plan's sites."""
        return Prepared(network=network, builds=self.builds(network, plan, reference))

    def builds(self, network: nn.Module, plan: CompressionPlan, reference: nn.Module | None = None) -> dict[str, Build]:
        """How each of the plan's sites is made; raises as ``compress`` does."""
        require_sites(network, plan.sites)
        chosen = {name: choice.structure for name, choice in plan.only(self.name).sites.items()}
        regularization.site_counts(network, plan, self.name)  # refuses what is out of range
        site_modules = {name: site(reference or network, name) for name in chosen}
        return {name: partial(_fitted, chosen=chosen[name], site_module=site_modules[name]) for name in chosen}


def _entry(variant: str) -> dict[str, int]:
    return {} if variant == NATURAL else {variant: 1}


def structured_layer(layer: nn.Module, chosen: Structure, reference: nn.Module | None = None) -> nn.Module:
    """The structured form of one layer; its variant's sums are derived from the reference's weights, else its own."""
    make: Callable[..., nn.Module]  # of this kind of layer alone
    if isinstance(layer, nn.Linear):
        make = cast(Callable[..., nn.Module], StructuredLinear.from_linear)
    elif (kind := layer_kind(layer)) in TRANSPOSED:
        make = cast(Callable[..., nn.Module], TRANSPOSED[kind].from_conv)
    else:
        make = partial(cast(Callable[..., nn.Module], CONVOLUTIONS[kind].from_conv), n=chosen["n"])
    return make(layer, c=chosen["c"], variant=variant_of(chosen), reference=reference)


def _fitted(layer: nn.Module, moments: Moments | None, *, chosen: Structure, site_module: nn.Module) -> nn.Module:
    """The structured form of a layer, fitted to what it reads where that is known; its sums follow from the place's
    weights.
    """
    built = structured_layer(layer, chosen, site_module)
    if moments is not None:
        fit_(built, layer, moments)  # type: ignore[arg-type]  # no transposed one: their moments are not known
    return built


def fit_(
    structured: StructuredConv1d | StructuredConv2d | StructuredConv3d | StructuredLinear,
    dense: nn.Module,
    moments: Moments,
) -> None:
    """Changes the small kernel (and bias) to its least-squares fit to the dense layer's outputs."""
    groups, bias = structured.pooling.groups, structured.bias
    start = structured.weight.detach().double().unflatten(0, (groups, -1))
    tail = least_squares_tail(
        grouped_kernel(dense), start, moments, structured.pooled_patches, intercept=bias is not None
    )
    with torch.no_grad():
        structured.weight.copy_(tail.kernel.reshape(structured.weight.shape))
        if bias is not None:
            bias.add_(tail.shift.flatten())


def natural() -> StructuredConvolution:
    """The method that sums channels as in the paper, boxes over the network's order, to compare with."""
    return StructuredConvolution(name="structured_natural", variants=("natural",))


def permuted() -> StructuredConvolution:
    """The method that sums chains of permuted channels, to compare with."""
    return StructuredConvolution(name="structured_permuted", variants=("permuted",))


def signed() -> StructuredConvolution:
    """The method whose sums may take channels negated, to compare with."""
    return StructuredConvolution(name="structured_signed", variants=("signed_merged",))
