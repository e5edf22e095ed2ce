"""What every compression method offers, and the helpers that keep networks untouched."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from sconv_search.copying import copied
from sconv_search.layer_kinds import KINDS, LAYER_KINDS, TRANSPOSED_KINDS, obstacles
from sconv_search.named import UnknownNameError
from sconv_search.plan import CompressionPlan, Structure

Penalty = Callable[[], Tensor]
"""A scalar added to the loss; it reads the network's weights anew at each call."""

__all__ = [
    "LAYER_KINDS",
    "TRANSPOSED_KINDS",
    "Compressor",
    "Penalty",
    "layers",
    "require_replaceable",
    "require_sites",
    "site",
    "skipped",
    "swapped",
    "transposed_layers",
]


Build = Callable[[nn.Module, Any], nn.Module]
"""Makes the compressed form of a layer, given the moments of what it reads (``calibration.moments.Moments``), or None
where they are not known.
"""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A network as a method leaves it before single layers are fitted to inputs.

    Args:
        network: a new network, or the one given where it is not changed.
        builds: by name of a layer that is still to be replaced, what makes its compressed form.
        kept: by name of a layer that lost outputs, the positions of those that are left.
    """

    network: nn.Module
    builds: Mapping[str, Build] = field(default_factory=dict)
    kept: Mapping[str, Tensor] = field(default_factory=dict)


class Compressor(Protocol):
    """One way to make a trained network cheaper: stateless, arguments never modified.

    Every network goes through the same steps, whatever the method: train with the penalty, compress, train on. A class
    that inherits from this one gets the defaults of a method that replaces single layers and has no penalty.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Key of the method in plans."""
        ...

    regularizable: ClassVar[bool] = False
    """Whether training towards the structure (the penalty) means anything; if not, the penalty is constant 0."""
    reshapes_neighbors: ClassVar[bool] = False
    """Whether a choice changes other layers too: then it is carried out first, and its cost measured on the whole
    network.
    """

    @abstractmethod
    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Structures a site may take, cheapest first; a site without any is absent. None is dearer than dense."""
        ...

    @abstractmethod
    def limits(self, layer: nn.Module) -> Structure:
        """The greatest value of each entry of a structure at this layer; empty where the method cannot replace it."""
        ...

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Distance of the network to the plan's structures, to be added to the loss; 0 where nothing is to do."""
        return lambda: torch.zeros(())

    @abstractmethod
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

    def prepared(
        self,
        network: nn.Module,
        plan: CompressionPlan,
        calibration: Tensor | None = None,
        reference: nn.Module | None = None,
    ) -> Prepared:
        """The network but for the layers that can be fitted one after the other, together with those of other methods.

        The arguments are those of ``compress``, which is what a method does by itself that prepares nothing.
        """
        return Prepared(network=self.compress(network, plan, calibration, reference))

    def dropped(self, layer: nn.Module, structure: Structure) -> int:
        """Channels of its own layer that a structure takes away; 0 where the method replaces the layer."""
        return 0


def site(network: nn.Module, name: str) -> nn.Module:
    """The module of that exact name.

    Raises:
        KeyError: the network has none; similar names are given.
    """
    module: nn.Module | None = network if name else None
    for part in name.split("."):
        module = None if module is None else module._modules.get(part)
    if module is None:
        modules = dict(network.named_modules(remove_duplicate=False))
        near = ", ".join(get_close_matches(name, modules)) or "none alike"
        raise UnknownNameError(f"plan names site {name!r}, which {type(network).__name__} lacks; nearest: {near}")
    return module


def require_sites(network: nn.Module, names: Iterable[str]) -> None:
    """Refuses what no method can compress, before any work is done on the other sites.

    Raises:
        KeyError: a name is not a module of the network.
        ValueError: a site's weights are not finite, as those of a diverged training.
    """
    for name in names:
        for key, weight in site(network, name).named_parameters():
            if not (
                weight.is_meta
                or isinstance(weight, nn.UninitializedParameter)
                or bool(weight.detach().isfinite().all())
            ):
                raise ValueError(f"site {name!r}: its {key} is not finite everywhere; give a network of finite weights")


def require_replaceable(network: nn.Module, names: Iterable[str]) -> None:
    """Refuses sites at which no other layer can stand, as far as that shows without running the network.

    Raises:
        TypeError: the site is named, with the reason.
    """
    known = obstacles(network)
    for name in names:
        module = site(network, name)
        if reason := next((known[other] for other in known if network.get_submodule(other) is module), None):
            raise TypeError(f"site {name!r}: {reason}")


def layers(network: nn.Module, kinds: Iterable[type[nn.Module]] = LAYER_KINDS) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name, in the order of the network; a shared layer once, by its first name.

    The network itself has no name to be replaced under, so a bare layer holds none.

    Args:
        kinds: those that are asked for.
    """
    left, wanted = obstacles(network), tuple(kinds)
    return {name: module for name, module in network.named_modules() if isinstance(module, wanted) and name not in left}


def transposed_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Transposed convolutions by name, as ``layers`` gives the others."""
    return layers(network, TRANSPOSED_KINDS)


def skipped(network: nn.Module, offered: Iterable[str]) -> dict[str, str]:
    """Modules with weights that no method in play can compress, with the reason."""
    offered = set(offered)
    dense = {
        name: f"{type(layer).__name__}: no option is cheaper than dense"
        for name, layer in layers(network, KINDS).items()
    }
    reasons = {**obstacles(network), **dense}
    return {name: reasons[name] for name, _ in network.named_modules() if name in reasons and name not in offered}


def sharing_copy(network: nn.Module) -> nn.Module:
    """A copy of the network's modules that hold the very weights and buffers of the network."""
    return copied(network, memo={id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())})


def swapped(network: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """A deep copy of the network with the named modules replaced, wherever the network refers to them.

    What the outside can see of a replaced module stays, see ``copying.copied``.

    Raises:
        TypeError: a named convolution or linear layer cannot be replaced, or the network holds what cannot be copied.
        ValueError: two names are of one shared module, which cannot be replaced twice.
    """
    names: dict[nn.Module, str] = {}
    for name in replacements:
        if (twin := names.setdefault(network.get_submodule(name), name)) != name:
            raise ValueError(f"sites {name!r} and {twin!r} are one shared module; name it once")
    require_replaceable(network, (name for name in replacements if isinstance(network.get_submodule(name), KINDS)))
    return copied(network, {old: replacements[name] for old, name in names.items()})
