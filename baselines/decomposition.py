"""What methods share that put a few smaller layers in the place of one, by its trained weights alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from sconv_search.calibration.moments import Moments
from sconv_search.calibration.replaceable import replaceable
from sconv_search.calibration.sequential_fit import compress_layers
from sconv_search.compressor import Build, Compressor, Penalty, Prepared, require_sites, site
from sconv_search.layer_kinds import LAYER_KINDS, layer_kind
from sconv_search.plan import CompressionPlan, Structure
from sconv_search.system.cache import remembered

# What the baselines that factorize kernels share: factors kept by content, layers made from them, ranks and refusals.

TransposedConv = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d | TransposedConv
TRANSPOSED: dict[type[nn.Module], type[nn.Module]] = {
    nn.ConvTranspose1d: nn.Conv1d,
    nn.ConvTranspose2d: nn.Conv2d,
    nn.ConvTranspose3d: nn.Conv3d,
}
"""Transposed convolutions, and the kind that a pointwise convolution of as many axes is."""


def is_factorizable(layer: nn.Module) -> bool:
    """Whether the layer is a convolution, a transposed one without groups, or a linear layer; see ``layer_kind``."""
    kind = layer_kind(layer)
    return kind in LAYER_KINDS or (isinstance(layer, TransposedConv) and kind in TRANSPOSED and layer.groups == 1)


def kernel_of(layer: nn.Module) -> Tensor:
    """The trained kernel as (O, C, taps...) with the C of one group; of a transposed convolution, too."""
    assert isinstance(layer.weight, Tensor)
    weight = layer.weight.detach()
    return weight.transpose(0, 1) if isinstance(layer, TransposedConv) else weight


@remembered
def singular_factors(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SVD (U, S, Vh) of each of the (g, M, N) matrices in float64; computed once, whatever ranks are cut from it."""
    if matrices.is_meta:  # shapes are all that there is
        groups, rows, columns = matrices.shape
        rank, like = min(rows, columns), matrices.new_empty((), dtype=torch.float64)
        return like.new_empty(groups, rows, rank), like.new_empty(groups, rank), like.new_empty(groups, rank, columns)
    import tensorly  # here: with what it imports of scipy it takes a second
    from tensorly import tenalg

    with tensorly.backend_context("pytorch", local_threadsafe=True):
        factors = [tenalg.svd_interface(matrix, flip_sign=False) for matrix in matrices.detach().double()]
    u, s, vh = (torch.stack(parts) for parts in zip(*factors, strict=True))
    return u, s, vh


@remembered
def principal_axes(squares: Tensor) -> tuple[Tensor]:
    """Orthonormal eigenvectors of each of the symmetric (g, M, M) matrices in float64, in columns, the greatest
    first.
    """
    return (torch.linalg.eigh(squares.double()).eigenvectors.flip(-1),)


def convolution(
    conv: Conv, kernel: Tensor, *, axes: Collection[int], groups: int = 1, bias: Tensor | None = None
) -> nn.Module:
    """A convolution by that (O, C / groups, taps...) kernel, with the geometry of ``conv`` along the named spatial
    axes.

    Along the other axes it has stride 1 and no padding; its kernel should have one tap there. It is transposed where
    ``conv`` is, and an axis is named.
    """

    def along(values: Any, other: int) -> tuple[int, ...]:
        return tuple(value if axis in axes else other for axis, value in enumerate(values))

    kind = layer_kind(conv)
    assert kind is not None
    geometry: dict[str, Any] = {"padding_mode": conv.padding_mode if axes else "zeros"}
    if isinstance(conv, TransposedConv):
        kind = kind if axes else TRANSPOSED[kind]
        kernel = kernel.transpose(0, 1) if axes else kernel
        geometry |= {"output_padding": along(conv.output_padding, 0)} if axes else {}
    named = isinstance(conv.padding, str)
    geometry["padding"] = (conv.padding if axes else 0) if named else along(conv.padding, 0)
    sizes = (kernel.shape[0], kernel.shape[1]) if kind in TRANSPOSED else (kernel.shape[1] * groups, kernel.shape[0])
    result: nn.Module = skip_init(  # draws no random numbers
        kind,
        *sizes,
        tuple(kernel.shape[2:]),
        stride=along(conv.stride, 1),
        dilation=along(conv.dilation, 1),
        groups=groups,
        bias=bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
        **geometry,
    )
    fill_(result, kernel, bias)
    return result


def fill_(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    """Copies the values into the layer's own parameters."""
    assert isinstance(layer.weight, Tensor)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if isinstance(layer.bias, Tensor) and bias is not None:
            layer.bias.copy_(bias)


def shifted_bias(layer: nn.Module, shift_gO: Tensor | None) -> Tensor | None:
    """The layer's bias with a fit's shift; none where the layer has none."""
    if shift_gO is None or not isinstance(layer.bias, Tensor):
        return layer.bias if isinstance(layer.bias, Tensor) else None
    return layer.bias.detach().double() + shift_gO.flatten()


def ranks_in_steps(dense: int, unit: int, *, steps: int, most: int, multiple: int = 1) -> list[int]:
    """Ranks up to ``most`` at equal steps of the dense layer's MACs, cheapest first, where one rank takes ``unit``
    MACs.

    Args:
        multiple: ranks are rounded down to multiples of it; where all are less, the least multiple is given if it fits.
    """
    most = min(most, (dense - 1) // unit)
    rounded = {min(most, dense * step // (steps * unit)) // multiple * multiple for step in range(1, steps)}
    ranks = sorted(rank for rank in rounded if rank)
    return ranks or [multiple for _ in range(1) if multiple > 1 and multiple <= most]


def require_multiple(multiple: int) -> None:
    """Refuses a multiple that no rank or number of channels can be rounded to.

    Raises:
        ValueError: it is less than 1.
    """
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1 (1 rounds nothing), got {multiple}")


def require_ranks(name: str, method: str, structure: Structure, largest: Mapping[str, int]) -> None:
    """Refuses a structure that has not exactly these entries, each from 1 to its largest.

    Raises:
        ValueError: entries are missing, unknown or out of range; site, value and what would be right are named.
    """
    if set(structure) != set(largest):
        raise ValueError(f"site {name!r}: {method} takes {sorted(largest)}, got {sorted(structure)}")
    for entry, most in largest.items():
        if not 1 <= structure[entry] <= most:
            raise ValueError(f"site {name!r}: {entry} must be in 1..{most}, got {structure[entry]}")


def no_penalty(network: nn.Module) -> Penalty:
    """Constant 0, on the network's device: the method works on trained weights."""
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    return lambda: torch.zeros((), device=device)


@dataclass(frozen=True, kw_only=True)
class Decomposition(Compressor):
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
    reshapes_neighbors: ClassVar[bool] = False
    steps: int = 12
    multiple: int = 1

    def __post_init__(self) -> None:
        require_multiple(self.multiple)

    @abstractmethod
    def limits(self, layer: nn.Module) -> Structure:
        """The ranks at which the decomposition is exact for any kernel; empty for a layer that the method does not
        take.
        """

    @abstractmethod
    def structures(self, layer: nn.Module) -> list[Structure]:
        """The ranks that are offered for a layer that the method takes, cheapest first; none dearer than dense."""

    @abstractmethod
    def decomposed(
        self, name: str, layer: nn.Module, structure: Structure, moments: Moments | None, trained: nn.Module
    ) -> nn.Module:
        """The smaller layers of such ranks in the place of a layer that the method takes.

        Args:
            name: of the layer, for messages.
            moments: of what the layer reads; the outputs, rather than the kernel, are then made close.
            trained: the layer with its trained kernel, where ``layer`` has one that was fitted to other inputs.
        """

    def options(self, network: nn.Module) -> dict[str, list[Structure]]:
        """Ranks a layer, cheapest first, where the method takes the layer and makes it cheaper."""
        every = replaceable(network)
        structures_by_name = {name: self.structures(layer) for name, layer in every.items() if self.limits(layer)}
        return {name: structures for name, structures in structures_by_name.items() if structures}

    def penalty(self, network: nn.Module, plan: CompressionPlan) -> Penalty:
        """Constant 0: the method works on trained weights."""
        return no_penalty(network)

    def compress(
        self,
        network: nn.Module,
        plan: CompressionPlan,
        calibration: Tensor | None = None,
        reference: nn.Module | None = None,
    ) -> nn.Module:
        """The network with each site replaced by its smaller layers.

        Args:
            calibration: inputs (N, ...) over which the layer's output error, rather than the weights', is made small.
                Transposed convolutions do not use them.

        Raises:
            KeyError: the plan names a site that the network lacks.
            TypeError: the method does not take a site's layer.
            ValueError: a rank is missing or out of range.
        """
        return compress_layers(network, self.builds(network, plan), calibration)

    def prepared(
        self,
        network: nn.Module,
        plan: CompressionPlan,
        calibration: Tensor | None = None,
        reference: nn.Module | None = None,
    ) -> Prepared:
        """The network as it is, and what makes each of the plan's sites."""
        return Prepared(network=network, builds=self.builds(network, plan))

    def builds(self, network: nn.Module, plan: CompressionPlan) -> dict[str, Build]:
        """How each of the plan's sites is made; raises as ``compress`` does."""
        require_sites(network, plan.sites)
        chosen = {name: choice.structure for name, choice in plan.only(self.name).sites.items()}
        for name, structure in chosen.items():
            self._require(name, site(network, name), structure)

        def build(layer: nn.Module, moments: Moments | None, name: str) -> nn.Module:
            return self.decomposed(name, layer, chosen[name], moments, site(network, name))

        return {name: partial(build, name=name) for name in chosen}

    def _require(self, name: str, layer: nn.Module, structure: Structure) -> None:
        if not (limits := self.limits(layer)):
            raise TypeError(f"site {name!r}: {self.title} needs {self.takes}, got {layer}")
        require_ranks(name, self.title, structure, limits)
