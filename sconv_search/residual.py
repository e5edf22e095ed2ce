"""Relative residuals of kernels: what a structure cannot hold of them, differentiable, for many kernels in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Project = Callable[[Tensor], Tensor]
"""The orthogonal projection of kernels (O, C, N...) onto what a structure can hold, each filter by itself."""


class _RelativeResiduals(torch.autograd.Function):
    """``|Rw| / |w|`` of each kernel, for the projector R onto what the structure cannot hold.

    R is symmetric and idempotent, so the gradient needs no second projection: d|Rw|/dw = Rw / |Rw|.
    """

    @staticmethod
    def forward(ctx: Any, project: Project, *kernels: Tensor) -> Tensor:
        w = kernels[0] if len(kernels) == 1 else torch.cat(kernels)  # projected filter by filter, so one below the other
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
