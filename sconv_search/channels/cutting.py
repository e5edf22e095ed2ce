"""Takes channels out of single layers, on one side: the outputs, the inputs, or both where a layer treats each alone.

Legend: g groups, O filters and C input channels of one group.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from sconv_search.layer_kinds import COMPUTING, KINDS

CHANNELWISE = (_NormBase, nn.PReLU)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Transposed convolutions, whose weights are (C, O, taps...); only those without groups are pruned."""


def is_depthwise(layer: nn.Module) -> bool:
    """Whether the layer is a convolution with one filter a channel."""
    return isinstance(layer, _ConvNd) and layer.groups == layer.in_channels == layer.out_channels > 1


def makes_channels(layer: nn.Module) -> bool:
    """Whether the outputs of this kind of layer can be pruned; a subclass that computes by methods of its own is of no
    kind.
    """
    kind = next((kind for kind in KINDS if isinstance(layer, kind)), None)
    own = any(getattr(type(layer), name, None) is not getattr(kind, name, None) for name in COMPUTING)
    return kind is not None and not own and (not isinstance(layer, TRANSPOSED) or layer.groups == 1)


def is_known(layer: nn.Module) -> bool:
    """Whether channels can be taken out of this kind of layer."""
    return makes_channels(layer) or isinstance(layer, CHANNELWISE)


def sizes(layer: nn.Module) -> tuple[int, int]:
    """Numbers of input and output channels, or features."""
    if isinstance(layer, _ConvNd):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer, CHANNELWISE)
    both = layer.num_parameters if isinstance(layer, nn.PReLU) else layer.num_features
    return both, both


def by_channel(layer: nn.Module, side: str) -> Tensor:
    """The weights as a matrix with a row for each channel of that side."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if weight.dim() == 1:
        return weight[:, None]
    if side == "in":
        return reading_kernel(layer).transpose(1, 2).flatten(0, 1).flatten(1)
    return (weight.transpose(0, 1) if isinstance(layer, TRANSPOSED) else weight).flatten(1)


def reading_kernel(layer: nn.Module) -> Tensor:
    """The weights of a convolution, transposed convolution or linear layer in float64, (g, O, C, taps...)."""
    assert isinstance(layer, _ConvNd | nn.Linear)
    weight = layer.weight.detach().double()
    kernel: Tensor = (
        weight.transpose(0, 1)[None] if isinstance(layer, TRANSPOSED) else weight.unflatten(0, (_groups(layer), -1))
    )
    return kernel


def _groups(layer: nn.Module) -> int:
    return layer.groups if isinstance(layer, _ConvNd) else 1


def ignore_(layer: nn.Module, positions: Tensor) -> None:
    """Makes a convolution or linear layer read nothing from the given input channels: their weights become 0."""
    assert isinstance(layer, _ConvNd | nn.Linear)
    if isinstance(layer, TRANSPOSED):
        layer.weight.detach()[positions] = 0
        return
    per_group = sizes(layer)[0] // _groups(layer)
    layer.weight.detach().unflatten(0, (_groups(layer), -1))[positions // per_group, :, positions % per_group] = 0


def cut_(layer: nn.Module, side: str, kept: Tensor) -> None:
    """Leaves a layer only the channels at the given positions of one side.

    Args:
        side: ``out``, ``in``, or ``both`` for depthwise convolutions, batch norms and PReLU.
        kept: positions in ascending order, int64.

    Raises:
        ValueError: the groups of a grouped convolution would not keep equally many.
    """
    if side == "in":
        _cut_inputs_(layer, kept)
        return
    if isinstance(layer, _ConvNd) and side == "out":
        of_each_group(kept, layer.out_channels, layer.groups)
    for name in ("weight", "bias", "running_mean", "running_var"):
        axis = 1 if isinstance(layer, TRANSPOSED) and name == "weight" else 0
        if (tensor := getattr(layer, name, None)) is not None:
            _set_(layer, name, _chosen(tensor.detach(), axis, kept))
    for name in _counts(layer, side):
        setattr(layer, name, len(kept))


def _counts(layer: nn.Module, side: str) -> tuple[str, ...]:
    if isinstance(layer, _ConvNd):
        return ("in_channels", "out_channels", "groups") if side == "both" else ("out_channels",)
    if isinstance(layer, nn.Linear):
        return ("out_features",)
    return ("num_parameters",) if isinstance(layer, nn.PReLU) else ("num_features",)


def _cut_inputs_(layer: nn.Module, kept: Tensor) -> None:
    assert isinstance(layer, _ConvNd | nn.Linear)
    if isinstance(layer, TRANSPOSED):
        _set_(layer, "weight", _chosen(layer.weight.detach(), 0, kept))
        layer.in_channels = len(kept)
        return
    groups = _groups(layer)
    kept_gC = of_each_group(kept, sizes(layer)[0], groups)
    parts = [_chosen(part, 1, own) for part, own in zip(layer.weight.detach().chunk(groups), kept_gC, strict=True)]
    _set_(layer, "weight", parts[0] if groups == 1 else torch.cat(parts))  # a group's filters each
    setattr(layer, "in_channels" if isinstance(layer, _ConvNd) else "in_features", len(kept))


def _chosen(tensor: Tensor, axis: int, kept: Tensor) -> Tensor:
    """The given places of an axis, in new memory; of one that repeats a single value there, a part, which takes
    none.
    """
    if tensor.stride(axis) == 0 and tensor.size(axis) > 1:
        return tensor.narrow(axis, 0, len(kept))
    return tensor.index_select(axis, kept.to(tensor.device))


def of_each_group(kept: Tensor, channels: int, groups: int) -> Tensor:
    """Positions within each group, (g, kept / g).

    Raises:
        ValueError: the groups would not keep equally many.
    """
    members = torch.bincount(kept * groups // channels, minlength=groups).tolist()
    if len(set(members)) > 1:
        raise ValueError(f"a convolution of {groups} groups must keep as many channels in each, got {members}")
    return kept.view(groups, -1) % (channels // groups)


def _set_(layer: nn.Module, name: str, tensor: Tensor) -> None:
    old = getattr(layer, name)
    setattr(
        layer, name, nn.Parameter(tensor, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else tensor
    )
