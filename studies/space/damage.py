"""How far a change of a network moves its outputs, of whatever kind they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sconv_search.copying import copied
from sconv_search.cost.network_inputs import Inputs, called, first_of, output_tensors
from sconv_search.layer_kinds import LAYER_KINDS

LAYER_INPUTS = 4
"""Inputs on which the outputs of all layers are held at once."""


class OutputError:
    """The relative squared error of the outputs of networks that were made of one.

    Where the outputs cannot be compared, because their shapes depend on what the network finds, as those of detectors
    do, the outputs of all its layers stand for them.

    Args:
        network: deterministic; not modified.
        inputs: of a batch of at least one.
    """

    @torch.no_grad()
    def __init__(self, network: nn.Module, inputs: Inputs) -> None:
        self._layers = [name for name, module in network.named_modules() if isinstance(module, LAYER_KINDS)]
        whole = _float_outputs(called(network, inputs))
        single = _float_outputs(called(copied(network).eval(), first_of(inputs, 1)))  # no statistics of one input
        self.by_layers = not whole or not _follow_batch(whole, single)
        self._inputs = first_of(inputs, LAYER_INPUTS) if self.by_layers else inputs
        self._wanted = self._outputs(network) if self.by_layers else whole

    @torch.no_grad()
    def of(self, network: nn.Module) -> float:
        """The mean over the outputs; infinite where their shapes differ."""
        given = self._outputs(network)
        if not self.by_layers:
            return relative_squares(given, self._wanted)
        # pruning changes the shapes of some layers' outputs, and what it does shows in the others
        pairs = [(a, b) for a, b in zip(given, self._wanted, strict=True) if a.shape == b.shape]
        return relative_squares([a for a, _ in pairs], [b for _, b in pairs]) if pairs else math.inf

    def _outputs(self, network: nn.Module) -> list[Tensor]:
        if not self.by_layers:
            return _float_outputs(called(network, self._inputs))
        observed, seen = copied(network), dict[str, Tensor]()
        for name in self._layers:
            hook = partial(_note, seen, name)
            observed.get_submodule(name).register_forward_hook(hook)
        called(observed, self._inputs)
        return [seen.get(name, torch.zeros(0)) for name in self._layers]


def _note(seen: dict[str, Tensor], name: str, module: nn.Module, given: object, made: Tensor) -> None:
    """What the layer named so gives at its first call."""
    seen.setdefault(name, made)


def _float_outputs(output: Any) -> list[Tensor]:
    return [tensor for tensor in output_tensors(output) if tensor.is_floating_point()]


def _follow_batch(many: Sequence[Tensor], single: Sequence[Tensor]) -> bool:
    """Whether the outputs of a batch and of its first input differ in the batch's size alone."""
    return len(many) == len(single) and all(
        a.dim() == b.dim() and a.shape[1:] == b.shape[1:] and a.numel() for a, b in zip(many, single, strict=True)
    )


def relative_squares(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The mean over tensors of the squared difference over the squared norm; infinite where shapes differ."""
    if len(given) != len(wanted) or any(a.shape != b.shape for a, b in zip(given, wanted, strict=True)):
        return math.inf
    errors = [
        float((a.double() - b.double()).square().sum() / b.double().square().sum().clamp_min(1e-30))
        for a, b in zip(given, wanted, strict=True)
    ]
    return sum(errors) / len(errors)
