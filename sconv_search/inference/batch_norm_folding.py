"""Batch norms folded into the layers before them: at inference both are one affine map of each output channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sconv_search.compressor import TRANSPOSED_KINDS
from sconv_search.inference.dataflow import Dataflow, Step, flows_of
from sconv_search.structured.conv_transpose import (
    StructuredConvTranspose1d,
    StructuredConvTranspose2d,
    StructuredConvTranspose3d,
)
from sconv_search.structured.kinds import LINEAR_MAPS
from sconv_search.structured.linear import StructuredLinear

TRANSPOSED = (*TRANSPOSED_KINDS, StructuredConvTranspose1d, StructuredConvTranspose2d, StructuredConvTranspose3d)
NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norms_(network: nn.Module, example: Tensor) -> list[str]:
    """Folds each batch norm that reads nothing but one layer's output, which nothing else reads; returns their names.

    That has to hold of a batch of another size too, and neither of the two may have hooks. In their places stand
    ``nn.Identity``. The network has to be in evaluation mode.
    """
    flow, *others = flows_of(network, example, (*LINEAR_MAPS, *NORMS))
    modules = list(network.named_modules(remove_duplicate=False))
    folded = []
    for step in flow.steps:
        layer = _layer_before(flow, step)
        if layer is None or step.module is None:
            continue
        if not all(any(_layer_before(other, call) is layer for call in other.calls(step.module)) for other in others):
            continue
        fold_(layer, step.module)
        for path, module in modules:
            if module is step.module:
                network.set_submodule(path, nn.Identity())
        folded.append(step.name)
    return folded


def _layer_before(flow: Dataflow, step: Step) -> nn.Module | None:
    """The layer whose output this batch norm, and nothing else, reads; None where the step is no such batch norm."""
    norm = step.module
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or not flow.is_called_once(norm):
        return None
    before = flow.producer(step.inputs[0])
    if before is None or before.module is None or type(before.module) not in LINEAR_MAPS:
        return None
    if len(flow.readers(step.inputs[0])) > 1 or not flow.is_called_once(before.module):
        return None
    rows = isinstance(before.module, (nn.Linear, StructuredLinear))
    return None if rows and len(flow.shapes[step.inputs[0]]) != 2 else before.module  # else the norm is of another axis


def fold_(layer: nn.Module, norm: nn.Module) -> None:
    """Changes the layer's kernel and bias so that it does what it and the batch norm after it did; in float64."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    shift = shift if norm.bias is None else shift + norm.bias.detach().double()
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    scaled = outputs_first(layer, weight.detach().double()) * scale.view(-1, *[1] * (weight.dim() - 1))
    set_weight_(layer, scaled, shift if not isinstance(bias, Tensor) else shift + bias.detach().double() * scale)


def outputs_first(layer: nn.Module, weight: Tensor) -> Tensor:
    """A layer's weight as (O, C, ...), that of a transposed convolution too, with the C of one group."""
    if type(layer) not in TRANSPOSED:
        return weight
    arranged: Tensor = weight.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    return arranged


def set_weight_(layer: nn.Module, weight_OC: Tensor, bias: Tensor | None) -> None:
    """Gives the layer a kernel, as ``outputs_first`` has it, and a bias, without gradients, in its type and memory
    format.
    """
    old = layer.weight
    assert isinstance(old, Tensor)
    if type(layer) in TRANSPOSED:
        weight_OC = weight_OC.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    with torch.no_grad():
        layer.weight = nn.Parameter(torch.empty_like(old).copy_(weight_OC), requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias.to(old.dtype), requires_grad=False)
