"""What every compression method offers, and the helpers that keep networks untouched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from sconv_search.plan import CompressionPlan, Structure

Penalty = Callable[[], Tensor]
"""A scalar added to the loss; it reads the network's weights anew at each call."""

LAYER_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""Layer kinds that methods may replace. Exactly these: a subclass may compute something else."""

TRANSPOSED_KINDS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Transposed convolutions, which some methods may replace too."""


class Compressor(Protocol):
    """One way to make a trained network cheaper: stateless, arguments never modified.

    Every network goes through the same steps, whatever the method: train with the penalty, compress, train on. A class
    that inherits from this one gets the defaults of a method that replaces single layers and has no penalty.
    """

    @property
    def name(self) -> str:
        """Key of the method in plans."""
        ...

    regularizable: ClassVar[bool] = False
    """Whether training towards the structure (the penalty) means anything; if not, the penalty is constant 0."""
    reshapes_neighbors: ClassVar[bool] = False
    """Whether a choice changes other layers too: then it is carried out first, and its cost measured on the whole
    network.
    """

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Structures a site may take, cheapest first; a site without any is absent. None is dearer than dense."""
        ...

    def limits(self, layer: nn.Module) -> Structure:
        """The greatest value of each entry of a structure at this layer; empty where the method cannot replace it."""
        ...

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Distance of the network to the plan's structures, to be added to the loss; 0 where nothing is to do."""
        return lambda: torch.zeros(())

    def compress(
        self,
        network: nn.Module,
        plan: CompressionPlan,
        calibration: Tensor | None = None,
        reference: nn.Module | None = None,
    ) -> nn.Module:
        """A new, deployable network in which the plan's sites are replaced.

        Args:
            calibration: inputs (N, ...) that may serve to fit the replacements better.
            reference: the network before it was trained towards the plan, for methods that choose by the trained
                weights what they train towards, such as which channels are summed together; None where it is the
                network itself.
        """
        ...

    def dropped(self, layer: nn.Module, structure: Structure) -> int:
        """Channels of its own layer that a structure takes away; 0 where the method replaces the layer."""
        return 0


def site(network: nn.Module, name: str) -> nn.Module:
    """The module of that exact name.

    Raises:
        KeyError: the network has none; similar names are given.
    """
    modules: dict[str, nn.Module] = dict(network.named_modules(remove_duplicate=False))
    if name not in modules or not name:
        near = ", ".join(get_close_matches(name, modules)) or "none alike"
        raise KeyError(f"plan names site {name!r}, which {type(network).__name__} lacks; nearest: {near}")
    return modules[name]


def require_sites(network: nn.Module, names: Iterable[str]) -> None:
    """Refuses names that are not modules of the network, before any work is done on the others."""
    for name in names:
        site(network, name)


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name, in the order of the network; a shared layer once, by its first name.

    The network itself has no name to be replaced under, so a bare layer holds none.
    """
    return {name: module for name, module in network.named_modules() if name and type(module) in LAYER_KINDS}


def transposed_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Transposed convolutions by name, as ``layers`` gives the others."""
    return {name: module for name, module in network.named_modules() if name and type(module) in TRANSPOSED_KINDS}


def skipped(network: nn.Module, offered: Iterable[str]) -> dict[str, str]:
    """Modules with weights that no method in play can compress, with the reason."""
    offered = set(offered)
    reasons = {}
    for name, module in network.named_modules():
        weights = [weight for weight in module.parameters(recurse=False) if weight.dim() > 1]
        if name in offered or not weights:
            continue
        if type(module) in (*LAYER_KINDS, *TRANSPOSED_KINDS):
            reasons[name] = f"{type(module).__name__}: no option is cheaper than dense"
        else:
            reasons[name] = f"{type(module).__name__} is not supported"
    return reasons


def swapped(network: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """A deep copy of the network with the named modules replaced, wherever the same module is used.

    Raises:
        ValueError: two names are of one shared module, which cannot be replaced twice.
    """
    result = copy.deepcopy(network)
    places = list(result.named_modules(remove_duplicate=False))
    old = {name: result.get_submodule(name) for name in replacements}
    for name, replacement in replacements.items():
        if twin := next((other for other in old if other != name and old[other] is old[name]), None):
            raise ValueError(f"sites {name!r} and {twin!r} are one shared module; name it once")
        for place, module in places:
            if module is old[name]:
                result.set_submodule(place, replacement)
    return result
