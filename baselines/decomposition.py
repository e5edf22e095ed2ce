"""What methods share that put a few smaller layers in the place of one, by its trained weights alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from baselines.factorized import factorizable, no_penalty, replaced, require_multiple, require_ranks
from sconv_search.calibration import Moments
from sconv_search.compressor import Penalty
from sconv_search.plan import CompressionPlan, Structure


@dataclass(frozen=True, kw_only=True)
class Decomposition(ABC):
    """A method whose subclass says how one layer is decomposed, and which ranks it may take.

    Args:
        steps: ranks are offered at this many equal steps of the layer's dense MACs.
        multiple: only ranks that are multiples of it are offered.

    Raises:
        ValueError: the multiple is less than 1.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """The method in messages."""
    takes: ClassVar[str]
    """The layers that it takes, in messages."""
    regularizable: ClassVar[bool] = False
    reshapes_neighbours: ClassVar[bool] = False
    steps: int = 12
    multiple: int = 1

    def __post_init__(self) -> None:
        require_multiple(self.multiple)

    @abstractmethod
    def limits(self, layer: nn.Module) -> Structure:
        """The ranks at which the decomposition is exact for any kernel; empty for a layer that the method does not take."""

    @abstractmethod
    def structures(self, layer: nn.Module) -> list[Structure]:
        """The ranks that are offered for a layer that the method takes, cheapest first; none dearer than dense."""

    @abstractmethod
    def decomposed(self, name: str, layer: nn.Module, structure: Structure, moments: Moments | None) -> nn.Module:
        """The smaller layers of such ranks in the place of a layer that the method takes.

        Args:
            name: of the layer, for messages.
            moments: of what the layer reads; the outputs, rather than the kernel, are then made close.
        """

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Ranks a layer, cheapest first, where the method takes the layer and makes it cheaper."""
        found = {name: self.structures(layer) for name, layer in factorizable(network).items() if self.limits(layer)}
        return {name: structures for name, structures in found.items() if structures}

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Constant 0: the method works on trained weights."""
        return no_penalty(network)

    def compress(self, network: nn.Module, plan: CompressionPlan, calibration: Tensor | None = None) -> nn.Module:
        """The network with each site replaced by its smaller layers.

        Args:
            calibration: inputs (N, ...) over which the layer's output error, rather than the weights', is made small.
                Transposed convolutions do not use them.

        Raises:
            KeyError: the plan names a site that the network lacks.
            TypeError: the method does not take a site's layer.
            ValueError: a rank is missing or out of range.
        """
        return replaced(network, plan, self.name, self._checked, calibration)

    def _checked(self, name: str, layer: nn.Module, structure: Structure, moments: Moments | None) -> nn.Module:
        if not (limits := self.limits(layer)):
            raise TypeError(f"site {name!r}: {self.title} needs {self.takes}, got {layer}")
        require_ranks(name, self.title, structure, limits)
        return self.decomposed(name, layer, structure, moments)
