"""The shapes that a network's layers are given, and those that they are given once channels before them are pruned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sconv_search.channels.cutting import sizes
from sconv_search.cost.counting import on_shapes
from sconv_search.cost.network_inputs import Inputs, arguments
from sconv_search.layer_kinds import with_batch

Shapes = Sequence[tuple[int, ...]]


def input_shapes(network: nn.Module, inputs: Inputs, names: Iterable[str]) -> dict[str, list[tuple[int, ...]]]:
    """Shapes, without the batch, of the inputs of each call of the named modules for one input of the network."""
    names = list(names)
    return on_shapes(network, lambda observed: _seen_shapes(observed, inputs, names))


def _seen_shapes(observed: nn.Module, inputs: Inputs, names: Iterable[str]) -> dict[str, list[tuple[int, ...]]]:
    seen: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}

    def watch(name: str) -> None:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], named_inputs: dict[str, Tensor]) -> None:
            first = next(iter((*inputs, *named_inputs.values())))
            seen[name].append(tuple(with_batch(module, first).shape[1:]))

        observed.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True)

    for name in seen:
        watch(name)
    with torch.no_grad():
        positional, named = arguments(observed, inputs)
        observed(*positional, **named)
    return seen


def read_by(layer: nn.Module, shapes: Shapes) -> Shapes:
    """The shapes with as many channels as the layer reads: a convolution, a linear layer, a batch norm or a PReLU."""
    axis = -1 - len(layer.kernel_size) if isinstance(layer, _ConvNd) else -1 if isinstance(layer, nn.Linear) else 0
    read_shapes = [list(shape) for shape in shapes]
    for shape in read_shapes:
        shape[axis] = sizes(layer)[0]
    return [tuple(shape) for shape in read_shapes]
