"""Structural regularisation: the loss that draws kernels towards their structure while they train.

Source: Bhalgat et al., NeurIPS 2020, arXiv 2008.02454, the structural regularisation loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search import structure
from sconv_search.compressor import site
from sconv_search.plan import CompressionPlan, Structure
from sconv_search.structured_conv import kernel_counts

METHOD = "structured_conv"


def _floor(w: Tensor) -> float:
    """The least norm that is divided by."""
    return float(torch.finfo(w.dtype).tiny)


class _RelativeResidual(torch.autograd.Function):
    """``|Rw| / |w|`` for the projector R onto what the structure cannot hold.

    R is symmetric and idempotent, so the gradient needs no second projection: d|Rw|/dw = Rw / |Rw|.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, counts: Sequence[int]) -> Tensor:
        removed = w - structure.project(w, counts)
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


def residual(w_OCN: Tensor, counts: Sequence[int]) -> Tensor:
    """Differentiable ``structure.relative_residual``, at one projection for value and gradient together."""
    result: Tensor = _RelativeResidual.apply(w_OCN, tuple(counts))
    return result


def structure_counts(layer: nn.Module, chosen: Structure) -> tuple[int, ...]:
    """Boxes along the axes of a layer's weight after the first, for the structure ``{"c", "n"}`` (linear: ``{"c"}``).

    Raises:
        TypeError: the layer is of a kind that has no structured form.
        ValueError: an entry is missing, unknown or out of range.
    """
    if type(layer) not in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear):
        raise TypeError(f"{type(layer).__name__} has no structured form; Conv1d, Conv2d, Conv3d and Linear have")
    wanted = {"c"} if isinstance(layer, nn.Linear) else {"c", "n"}
    if set(chosen) != wanted:
        raise ValueError(f"a structured {type(layer).__name__} takes {sorted(wanted)}, got {sorted(chosen)}")
    assert isinstance(layer.weight, Tensor)
    return kernel_counts(tuple(layer.weight.shape[2:]) or (1,), layer.weight.shape[1], chosen["c"], chosen.get("n", 1))


def site_counts(network: nn.Module, plan: CompressionPlan) -> dict[str, tuple[int, ...]]:
    """``structure_counts`` of each structured site of the plan; errors name the site."""
    counts = {}
    for name, choice in plan.only(METHOD).sites.items():
        layer = site(network, name)
        try:
            found = structure_counts(layer, choice.structure)
        except (TypeError, ValueError) as error:
            raise type(error)(f"site {name!r}: {error}") from error
        counts[name] = found[: layer.weight.dim() - 1]  # type: ignore[operator]  # checked above
    return counts


def structural_loss(network: nn.Module, plan: CompressionPlan) -> Callable[[], Tensor]:
    """A function that gives the sum, over the plan's structured sites, of ``|(I - A A+) W| / |W|``, as a scalar.

    Each term is in [0, 1]; 0 means that the site decomposes without error. It costs O(weights) a call.

    Args:
        network: the dense network in training; its weights are read at each call.
        plan: sites of other methods add nothing.

    Raises:
        KeyError: the plan names a site that the network lacks.
        TypeError: a site's layer has no structured form.
        ValueError: a site's structure is out of range.
    """
    counts = site_counts(network, plan)
    regularized = [(site(network, name), counts[name]) for name in counts]
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))

    def loss() -> Tensor:
        terms = [residual(layer.weight, boxes) for layer, boxes in regularized]  # type: ignore[arg-type]
        return torch.stack(terms).sum() if terms else torch.zeros((), device=device)

    return loss
