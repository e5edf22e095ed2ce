"""How much each option changes the outputs of its layer or of the network, from weights alone or from a few inputs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from sconv_search.compressor import LAYER_KINDS, site, swapped
from sconv_search.copying import without_hooks
from sconv_search.cost.network_inputs import Inputs, called
from sconv_search.layer_kinds import with_batch
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.search_space.space import Option
from sconv_search.studies.methods import compress, method_named
from sconv_search.studies.space.damage import OutputError, relative_squares
from sconv_search.studies.space.narrowed_costs import resized

DAMAGE_INPUTS = 4
"""Inputs of the network on which damage is read; what one layer reads of them may not exceed ``READ_ELEMENTS``."""
READ_ELEMENTS = 2**22
SAMPLED_FILTERS = 32
NOISE_INPUTS, NOISE_SIDE = 16, 3
"""Without inputs, a layer reads so many of noise, so many kernel sizes wide."""


class Damages:
    """Relative squared errors of layers and networks.

    A layer that the inputs never run, as where a forward branches on its values, is judged by noise, as without inputs.

    Warns:
        RuntimeWarning: which layers never run.
    """

    def __init__(self, network: nn.Module, inputs: Inputs | None) -> None:
        self._network, self._inputs = network, inputs
        self._error = None if inputs is None else OutputError(network, inputs)
        self._read: dict[str, Tensor] = {}
        self._alone: set[tuple[str, Choice]] = set()
        self._never_run: set[str] = set()

    def of_layer(self, name: str, choice: Choice, shapes: Sequence[tuple[int, ...]]) -> float:
        """The relative squared error of a layer's outputs."""
        if not shapes:
            return 0.0  # it is never called
        layer = _sampled(without_hooks(site(self._network, name)), choice)
        built = _built(layer, choice)
        read_N = self._reads(name, layer, shapes[0])
        self._alone.add((name, choice))
        with torch.no_grad():
            return relative_squares([built(read_N)], [layer(read_N)])

    def of_network(self, built: nn.Module) -> float:
        """The relative squared error of the network's outputs."""
        if self._error is not None:
            return self._error.of(built)
        return 1.0 - _squares(built) / self._whole

    @cached_property
    def _whole(self) -> float:
        return _squares(self._network)

    def scaled(self, name: str, options: Sequence[Option]) -> tuple[Option, ...]:
        """A layer's options in the network's units: one of middle damage is measured on the whole network."""
        measured = [option for option in options if (name, option.choice) in self._alone]
        self._read.pop(name, None)
        if self._error is None or not measured or name in self._never_run:
            return tuple(options)
        middle = sorted(measured, key=lambda option: option.damage)[len(measured) // 2]
        built = _built(site(self._network, name), middle.choice)
        whole = self.of_network(swapped(self._network, {name: built}))
        factor = whole / middle.damage if middle.damage > 0 and math.isfinite(whole) else 1.0
        whole_methods = {o.choice.method for o in options if method_named(o.choice.method).reshapes_neighbors}
        return tuple(o if o.choice.method in whole_methods else replace(o, damage=factor * o.damage) for o in options)

    def _reads(self, name: str, layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
        if name not in self._read:
            seen = None if self._inputs is None else self._seen(name)
            if seen is None and self._inputs is not None:
                self._never_run.add(name)
                warnings.warn(f"the data never runs {name!r}, whose options are judged by noise", RuntimeWarning, 2)
            self._read[name] = self._noise(layer, shape) if seen is None else seen
        return self._read[name]

    def _noise(self, layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        taps = weight.shape[2:]
        if taps:  # a convolution reads (channels, space...)
            dilation = getattr(layer, "dilation", (1,) * len(taps))
            sides = [
                min(size, NOISE_SIDE * gap * tap) for size, gap, tap in zip(shape[1:], dilation, taps, strict=True)
            ]
            wanted = (NOISE_INPUTS, shape[0], *(max(s, 1) for s in sides))
        else:
            wanted = (NOISE_INPUTS * NOISE_INPUTS, shape[-1])
        generator = torch.Generator().manual_seed(0)
        return torch.randn(wanted, generator=generator).to(weight)

    @torch.no_grad()
    def _seen(self, name: str) -> Tensor | None:
        """What the layer reads of the inputs at its first call; None where they never run it."""
        seen: list[Tensor] = []

        def note(module: nn.Module, given: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            if not seen:
                seen.append(with_batch(module, next(iter((*given, *named.values()))).detach().clone()))

        hook = site(self._network, name).register_forward_pre_hook(note, with_kwargs=True)
        try:
            assert self._inputs is not None
            called(self._network, self._inputs)
        finally:
            hook.remove()
        if not seen or not len(seen[0]):
            return None
        return seen[0][: max(1, READ_ELEMENTS // max(1, seen[0][0].numel()))]


def _built(layer: nn.Module, choice: Choice) -> nn.Module:
    return site(compress(nn.Sequential(layer), CompressionPlan(sites={"0": choice})), "0")


@torch.no_grad()
def _sampled(layer: nn.Module, choice: Choice) -> nn.Module:
    """The layer with some of its filters alone, to read an error from, where the method can do the same to fewer."""
    if not isinstance(layer, LAYER_KINDS) or getattr(layer, "groups", 1) != 1:
        return layer
    outputs, inputs = layer.weight.shape[:2]
    if outputs <= SAMPLED_FILTERS:
        return layer
    method = method_named(choice.method)
    few = resized(layer, inputs, SAMPLED_FILTERS)
    assert isinstance(few, LAYER_KINDS)
    if method.limits(few) != method.limits(layer):
        return layer
    chosen = torch.linspace(0, outputs - 1, SAMPLED_FILTERS, device=layer.weight.device).long()
    few.weight.copy_(layer.weight[chosen])
    if layer.bias is not None and few.bias is not None:
        few.bias.copy_(layer.bias[chosen])
    return few.eval()


def _squares(network: nn.Module) -> float:
    """Sum of the squared weights of all layers."""
    return float(sum(weight.detach().double().square().sum() for weight in network.parameters() if weight.dim() > 1))
