"""Gradients under which a structured layer learns at the pace of the dense layer that it replaces.

A small kernel ``v`` stands for the kernel ``W = A v``, with the matrix ``A`` of the masks. Plain descent moves ``W`` by
``-rate * A A^T dL/dW``: sums of ``s`` inputs multiply the step by about ``s``, so that a learning rate that serves a
dense network makes a structured one diverge. With ``(A^T A)^-1`` times the gradient, ``W`` moves by ``-rate * A A^+
dL/dW``: what the dense layer would do, projected on the structured kernels. ``A`` is a Kronecker product, so the axes
are solved one by one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sconv_search.structured import kernels
from sconv_search.structured.sums.channel_pooling import NaturalChains


def project_gradient_(weight: nn.Parameter, pooling: NaturalChains, axis: int, taps: Mapping[int, int]) -> None:
    """Makes autograd deliver ``(A^T A)^-1`` times the gradient for a small kernel, from now on.

    Args:
        weight: the small kernel; the hook is not copied with it.
        axis: the kernel's axis of channel sums; 0 holds the groups' sums one after the other, 1 those of each output's
            group.
        taps: spatial axis of the kernel -> taps of the dense kernel along it.
    """
    spatial = {dim: count for dim, count in taps.items() if weight.shape[dim] != count}
    if weight.requires_grad and (spatial or pooling.count != pooling.channels):
        inverses: dict[int, Tensor] = {}
        weight.register_hook(lambda grad: _solved(grad, pooling, axis, spatial, inverses))


def _solved(
    grad: Tensor, pooling: NaturalChains, axis: int, spatial: Mapping[int, int], inverses: dict[int, Tensor]
) -> Tensor:
    if pooling.count != pooling.channels:
        grad = pooling.solved(grad) if axis == 1 else _inputs_first(pooling, grad)
    for dim, taps in spatial.items():
        if dim not in inverses:
            boxes = kernels.compose_axis(torch.eye(grad.shape[dim], dtype=torch.float64), 1, taps)
            inverses[dim] = torch.linalg.inv(boxes @ boxes.T)
        inverses[dim] = inverses[dim].to(grad)
        grad = (grad.movedim(dim, -1) @ inverses[dim]).movedim(-1, dim)
    return grad


def _inputs_first(pooling: NaturalChains, grad: Tensor) -> Tensor:
    """The same for kernels of transposed convolutions, (g c, O / g, taps...)."""
    outputs_first: Tensor = grad.unflatten(0, (pooling.groups, -1)).transpose(1, 2).flatten(0, 1)
    solved: Tensor = pooling.solved(outputs_first).unflatten(0, (pooling.groups, -1)).transpose(1, 2).flatten(0, 1)
    return solved
