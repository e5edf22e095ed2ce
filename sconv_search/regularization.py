"""Structural regularisation: the loss that draws kernels towards their structure while they train.

Source: Bhalgat et al., NeurIPS 2020, arXiv 2008.02454, the structural regularisation loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from sconv_search import structure
from sconv_search.channel_layout import LAYOUTS, NATURAL, channel_pooling, layer_kernel, variant_of
from sconv_search.channel_pooling import NaturalChains
from sconv_search.compressor import LAYER_KINDS, TRANSPOSED_KINDS, site
from sconv_search.plan import CompressionPlan, Structure
from sconv_search.structured_conv import kernel_counts

METHOD = "structured_conv"
Project = Callable[[Tensor], Tensor]
"""The orthogonal projection of kernels (O, C, N...) onto what a structure can hold."""


def _floor(w: Tensor) -> float:
    """The least norm that is divided by."""
    return float(torch.finfo(w.dtype).tiny)


class _RelativeResidual(torch.autograd.Function):
    """``|Rw| / |w|`` for the projector R onto what the structure cannot hold.

    R is symmetric and idempotent, so the gradient needs no second projection: d|Rw|/dw = Rw / |Rw|.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, project: Project) -> Tensor:
        removed = w - project(w)
        norm_removed, norm = torch.linalg.vector_norm(removed), torch.linalg.vector_norm(w)
        norm = norm.clamp_min(_floor(w))
        ctx.save_for_backward(w, removed, norm_removed, norm)
        return torch.div(norm_removed, norm)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        w, removed, norm_removed, norm = ctx.saved_tensors
        # Both norms are floored, and divided by in turn: at a structured kernel, zero too, the subgradient 0 is taken.
        towards = removed / norm_removed.clamp_min(_floor(w)) - (w / norm) * (norm_removed / norm)
        return towards * (grads[0] / norm), None


def residual(w_OCN: Tensor, project: Project) -> Tensor:
    """``|w - project(w)| / |w|`` as a differentiable scalar, at one projection for value and gradient together."""
    result: Tensor = _RelativeResidual.apply(w_OCN, project)
    return result


def projection(counts: Sequence[int], pooling: NaturalChains | None = None) -> Project:
    """The projection onto kernels with ``counts`` boxes along (C, N...), their channels summed as the pooling does."""
    if pooling is None or type(pooling) is NaturalChains:
        return partial(structure.project, counts=tuple(counts))

    def project(w_OCN: Tensor) -> Tensor:
        return structure.project_space(pooling.kernel(pooling.coefficients(w_OCN)), counts[1:])

    return project


def structure_counts(layer: nn.Module, chosen: Structure) -> tuple[int, ...]:
    """Boxes along the axes of a layer's kernel after the first, for ``{"c", "n"}`` (linear and transposed: ``{"c"}``).

    Raises:
        TypeError: the layer is of a kind that has no structured form.
        ValueError: an entry is missing, unknown or out of range.
    """
    if type(layer) not in (*LAYER_KINDS, *TRANSPOSED_KINDS):
        raise TypeError(f"{type(layer).__name__} has no structured form; convolutions and Linear have")
    channels_only = isinstance(layer, nn.Linear | _ConvTransposeNd)
    wanted, variant = {"c"} if channels_only else {"c", "n"}, variant_of(chosen)
    if set(chosen) - {variant} != wanted:
        taken = f"a structured {type(layer).__name__} takes {sorted(wanted)}, got {sorted(chosen)}"
        raise ValueError(f"{taken}; a variant is one more entry: {', '.join(LAYOUTS)}")
    kernel = layer_kernel(layer)
    space = tuple(kernel.shape[2:]) or (1,)
    counts = kernel_counts(space, kernel.shape[1], chosen["c"], max(space) if channels_only else chosen["n"])
    return counts[: kernel.dim() - 1]


def site_counts(network: nn.Module, plan: CompressionPlan, method: str = METHOD) -> dict[str, tuple[int, ...]]:
    """``structure_counts`` of each site of the plan that the method structures; errors name the site."""
    counts = {}
    for name, choice in plan.only(method).sites.items():
        try:
            counts[name] = structure_counts(site(network, name), choice.structure)
        except (TypeError, ValueError) as error:
            raise type(error)(f"site {name!r}: {error}") from error
    return counts


def structural_loss(network: nn.Module, plan: CompressionPlan, method: str = METHOD) -> Callable[[], Tensor]:
    """A function that gives the sum, over the plan's structured sites, of ``|(I - A A+) W| / |W|``, as a scalar.

    Each term is in [0, 1]; 0 means that the site decomposes without error. It costs O(weights) a call. Which channels a
    variant sums together is derived here, once, from the weights as they are now.

    Args:
        network: the dense network in training; its weights are read at each call.
        plan: sites of other methods add nothing.

    Raises:
        KeyError: the plan names a site that the network lacks.
        TypeError: a site's layer has no structured form.
        ValueError: a site's structure is out of range.
    """
    regularized: list[tuple[nn.Module, Project]] = []
    for name, counts in site_counts(network, plan, method).items():
        layer, variant = site(network, name), variant_of(plan.sites[name].structure)
        pooling = None if variant == NATURAL else channel_pooling(layer, counts[0], variant)
        regularized.append((layer, projection(counts, pooling)))
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))

    def loss() -> Tensor:
        terms = [residual(layer_kernel(layer), project) for layer, project in regularized]
        return torch.stack(terms).sum() if terms else torch.zeros((), device=device)

    return loss
