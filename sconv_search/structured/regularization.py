"""Structural regularization: the loss that draws kernels towards their structure while they train.

Source: Bhalgat et al., NeurIPS 2020, arXiv 2008.02454, the structural regularization loss.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from sconv_search.compressor import site
from sconv_search.layer_kinds import KINDS, obstacle
from sconv_search.plan import CompressionPlan, Structure
from sconv_search.structured import kernels
from sconv_search.structured.conv import kernel_counts
from sconv_search.structured.sums.channel_pooling import NaturalChains
from sconv_search.structured.sums.variants import LAYOUTS, NATURAL, channel_pooling, layer_kernel, variant_of

# Relative residuals of kernels: what a structure cannot hold of them, differentiable, for many kernels in one go.

Project = Callable[[Tensor], Tensor]
"""The orthogonal projection of kernels (O, C, N...) onto what a structure can hold, each filter by itself."""


class _RelativeResiduals(torch.autograd.Function):
    """``|Rw| / |w|`` of each kernel, for the projector R onto what the structure cannot hold.

    R is symmetric and idempotent, so the gradient needs no second projection: d|Rw|/dw = Rw / |Rw|.
    """

    @staticmethod
    def forward(ctx: Any, project: Project, *kernels: Tensor) -> Tensor:
        # projected filter by filter, so one below the other
        w = kernels[0] if len(kernels) == 1 else torch.cat(kernels)
        removed = w - project(w)
        norms_removed, norms = _norms(removed, len(kernels)), _norms(w, len(kernels)).clamp_min(_floor(w))
        ctx.save_for_backward(w, removed, norms_removed, norms)
        return torch.div(norms_removed, norms)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        w, removed, norms_removed, norms = ctx.saved_tensors
        ones = (1,) * w.dim()
        ratio, norm, grad = (each.view(-1, *ones) for each in (norms_removed / norms, norms, grads[0]))
        # Both norms are floored, and divided by in turn: at a structured kernel, zero too, the subgradient 0 is taken.
        towards = _each(removed, len(norms)) / norms_removed.clamp_min(_floor(w)).view(-1, *ones)
        towards = torch.addcmul(towards, _each(w, len(norms)), ratio / norm, value=-1).mul_(grad / norm)
        return None, *towards.unbind()


def residuals(kernels: list[Tensor], project: Project) -> Tensor:
    """``|w - project(w)| / |w|`` of each kernel (O, C, N...), all of one shape, differentiable, as (kernels,).

    One projection serves all of them, their values and their gradients.
    """
    result: Tensor = _RelativeResiduals.apply(project, *kernels)
    return result


def _floor(w: Tensor) -> float:
    """The least norm that is divided by."""
    return float(torch.finfo(w.dtype).tiny)


def _each(w: Tensor, count: int) -> Tensor:
    """Kernels one below the other, (count O, C, N...) -> (count, O, C, N...)."""
    return w.unflatten(0, (count, -1))  # type: ignore[no-any-return]


def _norms(w: Tensor, count: int) -> Tensor:
    """The norm of each kernel, (count,)."""
    if count == 1:  # over all axes at once it is quicker
        return torch.linalg.vector_norm(w).view(1)  # type: ignore[no-any-return]
    return torch.linalg.vector_norm(_each(w, count), dim=tuple(range(1, w.dim() + 1)))  # type: ignore[no-any-return]


METHOD = "structured_conv"
BATCHED_ELEMENTS = 2**18
"""Of kernels that are projected in one go, all together: many small ones cost the calls, not the arithmetic. With so
many at most, the loss of ResNet-56 takes half of the time that it takes one by one on two threads, and 0.6 of it on
one; more do not gain, nor do the large kernels of ResNet-18 (fp32, AVX512)."""


def projection(counts: Sequence[int], pooling: NaturalChains | None = None) -> Project:
    """The projection onto kernels with ``counts`` boxes along (C, N...), their channels summed as the pooling does."""
    if pooling is None or type(pooling) is NaturalChains:
        return partial(kernels.project, counts=tuple(counts))

    def project(w_OCN: Tensor) -> Tensor:
        return kernels.project_space(pooling.kernel(pooling.coefficients(w_OCN)), counts[1:])

    return project


def structure_counts(layer: nn.Module, chosen: Structure) -> tuple[int, ...]:
    """Boxes along the axes of a layer's kernel after the first, for ``{"c", "n"}`` (linear and transposed: ``{"c"}``).

    Raises:
        TypeError: the layer is of a kind that has no structured form.
        ValueError: an entry is missing, unknown or out of range.
    """
    if reason := obstacle(layer):
        kind = f"{type(layer).__name__} has no structured form; convolutions and Linear have"
        raise TypeError(f"{reason}, so it has no structured form" if isinstance(layer, KINDS) else kind)
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

    Each term is in [0, 1]; 0 means that the site decomposes without error. It costs O(weights) a call; small layers
    that are alike are projected in one go. Which channels a variant sums together is derived here, once, from the
    weights as they are now.

    Args:
        network: the dense network in training; its weights are read at each call.
        plan: sites of other methods add nothing.

    Raises:
        KeyError: the plan names a site that the network lacks.
        TypeError: a site's layer has no structured form.
        ValueError: a site's structure is out of range.
    """
    groups = _alike(network, plan, site_counts(network, plan, method))
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))

    def loss() -> Tensor:
        terms = [residuals([layer_kernel(layer) for layer in layers], project) for layers, project in groups]
        return torch.cat(terms).sum() if terms else torch.zeros((), device=device)

    return loss


def _alike(
    network: nn.Module, plan: CompressionPlan, counts: Mapping[str, tuple[int, ...]]
) -> list[tuple[list[nn.Module], Project]]:
    """Layers whose kernels are projected together, with the projection: those alike, up to ``BATCHED_ELEMENTS``."""
    groups = dict[Hashable, list[tuple[list[nn.Module], Project]]]()
    for name, wanted in counts.items():
        layer, variant = site(network, name), variant_of(plan.sites[name].structure)
        kernel = layer_kernel(layer)
        key = (wanted, kernel.shape, kernel.dtype, kernel.device) if variant == NATURAL else name  # others' sums differ
        same = groups.setdefault(key, [])
        if not same or (len(same[-1][0]) + 1) * kernel.numel() > BATCHED_ELEMENTS:
            pooling = None if variant == NATURAL else channel_pooling(layer, wanted[0], variant)
            same.append(([], projection(wanted, pooling)))
        same[-1][0].append(layer)
    return [group for same in groups.values() for group in same]
