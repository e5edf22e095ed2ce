"""CP: a convolution as a pointwise one to ``rank`` channels, a vertical and a horizontal depthwise one, and a pointwise
one.

Legend: O filters, C input channels, (H, W) taps, R rank; the kernel is the sum over R of one vector along each axis.

Source: Lebedev, Ganin, Rakhuba, Oseledets, Lempitsky, Speeding-up Convolutional Neural Networks Using Fine-tuned
CP-Decomposition, ICLR 2015. Terms of opposite sign may grow without bound (Phan et al., Stable Low-rank Tensor
Decomposition for Compression of Convolutional Neural Network, ECCV 2020), so the least squares carry a ridge, and an
answer that is not finite or worse than the closed form of ``tap_terms`` gives way: to the sweeps from that form or, at
worst, to the form itself.

Transposed convolutions are not offered here; weight SVD, spatial SVD and Tucker-2 take them.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sconv_search.baselines.decomposition import (
    Decomposition,
    convolution,
    ranks_in_steps,
    shifted_bias,
    singular_factors,
)
from sconv_search.baselines.factorized_layer import FactorizedLayer
from sconv_search.baselines.weighted_factors import SWEEPS, refit_factor, steps_within
from sconv_search.calibration.moments import Moments, least_squares_tail
from sconv_search.layer_kinds import layer_kind
from sconv_search.plan import Structure
from sconv_search.system.cache import remembered

RIDGE = 1e-4
"""On a kernel of norm 1. 64x64x3x3 at rank 160: error 0.148 for 0.145, largest term 0.23 for 0.32 of its norm."""
Factors = list[Tensor]


class Terms(NamedTuple):
    """Vectors (O, R), (C, R), (H, R), (W, R), their relative error, and whether the random start failed."""

    filters: Tensor
    channels: Tensor
    rows: Tensor
    columns: Tensor
    error: float
    fell_back: bool


class CPConv2d(FactorizedLayer):
    """The four convolutions, with what the decomposition says of itself.

    Args:
        error: norm of the kernel's change, relative to the kernel's.
        fell_back: the random start failed; the sweeps began at the closed form, or the closed form stands in for them.
    """

    def __init__(self, *convolutions: nn.Module, error: float, fell_back: bool) -> None:
        super().__init__(*convolutions)
        self.error, self.fell_back = error, fell_back

    def extra_repr(self) -> str:
        """Error and way, for ``print(network)``."""
        return f"relative_error={self.error:.3g}, fell_back={self.fell_back}"


@dataclass(frozen=True, kw_only=True)
class CP(Decomposition):
    """CP decomposition of 2-D kernels by alternating least squares from a seeded random start.

    With calibration inputs, all four axes' vectors are refit in turn to the dense layer's outputs.

    Args:
        steps: ranks are offered at this many equal steps, up to the dense MACs or the greatest rank.
        multiple: only ranks that are multiples of it are offered.
        greatest_rank: none greater is offered; a sweep's work grows with the rank.
        sweeps: alternating least-squares sweeps over the four axes; 40 instead of 25 lower the error by 1 to 5 % of it.
        random_state: seed of the start.

    Warns:
        RuntimeWarning: on compressing, the random start failed at a site, which begins at the closed form instead; the
            site is named.

    Raises:
        ValueError: the multiple is less than 1.
    """

    name: ClassVar[str] = "cp"
    title: ClassVar[str] = "CP"
    takes: ClassVar[str] = "a Conv2d without groups and with taps along both axes"
    greatest_rank: int = 256
    sweeps: int = 25
    random_state: int = 0

    def limits(self, layer: nn.Module) -> Structure:
        """The rank at which a CP is exact; empty for all but 2-D convolutions without groups and with taps along both
        axes.
        """
        return {"rank": largest_rank(layer)} if isinstance(layer, nn.Conv2d) and is_eligible(layer) else {}

    def structures(self, layer: nn.Module) -> list[Structure]:
        """Ranks at equal steps of the MACs, none beyond the greatest."""
        assert isinstance(layer, nn.Conv2d)
        unit, most = _work_of_a_rank(layer), min(self.greatest_rank, largest_rank(layer))
        up_to = min(layer.weight.numel(), math.ceil(most * unit * self.steps / (self.steps - 1)))
        return [
            {"rank": rank} for rank in ranks_in_steps(up_to, unit, steps=self.steps, most=most, multiple=self.multiple)
        ]

    def decomposed(
        self, name: str, layer: nn.Module, structure: Structure, moments: Moments | None, trained: nn.Module
    ) -> CPConv2d:
        """The four convolutions."""
        assert isinstance(layer, nn.Conv2d)
        # of the trained kernel: sweeps weigh all directions alike, and a kernel found for what a layer reads in a
        # compressed network is arbitrary in those that its inputs hardly take
        assert isinstance(trained.weight, Tensor)
        terms = decompose(trained.weight, structure["rank"], self.sweeps, self.random_state)
        if terms.fell_back:
            warnings.warn(
                f"site {name!r}: CP of rank {structure['rank']} from random start {self.random_state} did not get below"
                f" the error of the SVDs of its taps in {self.sweeps} sweeps; it starts from those: error"
                f" {terms.error:.3g}",
                RuntimeWarning,
                stacklevel=2,
            )
        return built(layer, terms, moments)


def is_eligible(layer: nn.Module) -> bool:
    """Whether the layer is a 2-D convolution without groups and with more than one tap along both axes."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer_kind(layer) is nn.Conv2d
        and layer.groups == 1
        and min(layer.kernel_size) > 1
    )


def largest_rank(conv: nn.Conv2d) -> int:
    """Rank at which a CP is exact for any kernel: the rank of one tap's matrix, for each tap."""
    outputs, channels, height, width = conv.weight.shape
    return height * width * min(outputs, channels)


def _work_of_a_rank(conv: nn.Conv2d) -> int:
    """MACs at an output position; the first layer runs at the input's resolution, the vertical one at its width."""
    outputs, channels, height, width = conv.weight.shape
    return channels * math.prod(conv.stride) + height * conv.stride[1] + width + outputs


def composed(factors: Factors) -> Tensor:
    """The kernel (O, C, H, W) that the four factors make."""
    filters, *others = factors
    return torch.einsum("or,rchw->ochw", filters, torch.einsum("cr,hr,wr->rchw", *others))


def tap_terms(kernel: Tensor, rank: int) -> Factors:
    """The ``rank`` greatest terms of the SVDs of the kernel's taps, taken in the kernel's own bases along H and W.

    The terms are orthogonal to each other: the error falls with the rank, never passes 1, and is 0 at the largest rank.
    """
    row_basis, column_basis = (singular_factors(kernel.movedim(axis, 0).flatten(1)[None])[0][0] for axis in (2, 3))
    taps = torch.einsum("ochw,hi,wj->ijoc", kernel, row_basis, column_basis).flatten(0, 1)
    u, s, vh = singular_factors(taps)
    greatest = s.flatten().argsort(descending=True, stable=True)[:rank]
    tap, term = greatest // s.shape[1], greatest % s.shape[1]
    filters, channels = u[tap, :, term].T * s[tap, term], vh[tap, term].T
    return [filters, channels, row_basis[:, tap // column_basis.shape[1]], column_basis[:, tap % column_basis.shape[1]]]


def _solved(products: Tensor, *others: Tensor) -> Tensor:
    """One axis' vectors, given the others and the kernel's products with them, by ridge-regularized least squares."""
    gram = torch.stack([other.T @ other for other in others]).prod(dim=0)
    gram = gram + RIDGE * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solved: Tensor = torch.linalg.solve(gram, products, left=False)
    return solved


def alternating_least_squares(kernel: Tensor, start: Factors, sweeps: int) -> Factors:
    """Factors of a kernel of norm 1 after that many sweeps from a start.

    The products follow the order of the axes by hand: tensorly's ``parafac`` builds an (O C H) x R matrix for the
    columns, 400 MB and 2 s a sweep at 256 filters, channels and ranks.
    """
    a, b, rows, columns = start
    for _ in range(sweeps):
        a = _solved(
            kernel.flatten(1) @ torch.einsum("cr,hr,wr->chwr", b, rows, columns).flatten(0, 2), b, rows, columns
        )
        along_filters = torch.tensordot(a, kernel, ([0], [0]))  # (R, C, H, W)
        b = _solved(
            torch.einsum("rchw,rhw->cr", along_filters, torch.einsum("hr,wr->rhw", rows, columns)), a, rows, columns
        )
        taps = torch.einsum("rchw,cr->rhw", along_filters, b)
        rows = _solved(torch.einsum("rhw,wr->hr", taps, columns), a, b, columns)
        columns = _solved(torch.einsum("rhw,hr->wr", taps, rows), a, b, rows)
    return [a, b, rows, columns]


def _swept(unit: Tensor, start: Factors, sweeps: int) -> tuple[Factors, float]:
    """The factors after the sweeps and their error; nan where the equations became singular."""
    try:
        factors = alternating_least_squares(unit, start, sweeps)
    except RuntimeError:  # torch's LinAlgError
        return start, math.nan
    return factors, float((unit - composed(factors)).norm())


@remembered
def decompose(kernel: Tensor, rank: int, sweeps: int, random_state: int) -> Terms:
    """CP of the kernel in float64, each term's norm shared evenly by its four vectors; never worse than
    ``tap_terms``.
    """
    exact = kernel.detach().double()
    if exact.is_meta:  # values are all that the sweeps add to these shapes
        filters, channels, rows, columns = (exact.new_empty(size, rank) for size in exact.shape)
        return Terms(filters, channels, rows, columns, error=math.nan, fell_back=False)
    scale = float(exact.norm()) or 1.0
    unit, generator = exact / scale, torch.Generator().manual_seed(random_state)
    closed_form = tap_terms(unit, rank)
    bound = float((unit - composed(closed_form)).norm())
    factors, error, fell_back = closed_form, bound, False
    if bound > 1e-12:  # otherwise the closed form is exact
        draws = (torch.randn(size, rank, generator=generator, dtype=torch.float64) / size**0.5 for size in unit.shape)
        factors, error = _swept(unit, [draw.to(unit.device) for draw in draws], sweeps)
        if fell_back := not error <= bound:  # nan too
            factors, error = _swept(unit, closed_form, sweeps)
        if not error <= bound:
            factors, error = closed_form, bound
    return Terms(*_balanced(factors, scale), error, fell_back)


def _balanced(factors: Factors, scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    norms = torch.stack([factor.norm(dim=0) for factor in factors])
    shared = (scale * norms.prod(dim=0)) ** (1 / len(factors))
    a, b, rows, columns = (
        factor / norm.clamp(min=1e-300) * shared for factor, norm in zip(factors, norms, strict=True)
    )
    return a, b, rows, columns


def built(conv: nn.Conv2d, terms: Terms, moments: Moments | None = None) -> CPConv2d:
    """The four convolutions; each has the geometry of its own axis, and the last the bias.

    Args:
        moments: of what the layer reads; the vectors are then refit in turn to the dense outputs.
    """
    rank, shift = terms.filters.shape[1], None
    if moments is not None:
        terms, shift = _alternated(conv, terms, moments)
    layer = CPConv2d(
        convolution(conv, terms.channels.T[:, :, None, None], axes=()),
        convolution(conv, terms.rows.T[:, None, :, None], axes=(0,), groups=rank),
        convolution(conv, terms.columns.T[:, None, None, :], axes=(1,), groups=rank),
        convolution(conv, terms.filters[:, :, None, None], axes=(), bias=shifted_bias(conv, shift)),
        error=terms.error,
        fell_back=terms.fell_back,
    )
    return layer.train(conv.training)


def _alternated(conv: nn.Conv2d, start: Terms, moments: Moments) -> tuple[Terms, Tensor]:
    """The best terms of rounds in which the vectors along each axis are refit in turn, those along the filters last."""
    kernel, intercept = conv.weight.detach().double(), conv.bias is not None
    second = moments.squares(intercept=intercept)[0]
    terms, shift, least = _refit_filters(conv, start, moments)
    steps = steps_within(len(kernel), kernel[0].numel(), factors=3)
    for _ in range(SWEEPS if steps else 0):
        factors: Factors = list(terms[:4])
        for axis in (1, 2, 3):
            made = partial(_made, factors, axis)
            factors[axis] = refit_factor(kernel.flatten(1), second, made, factors[axis], steps)
            factors = list(_balanced(factors, 1.0))
        filters, channels, rows, columns = factors
        swept = terms._replace(filters=filters, channels=channels, rows=rows, columns=columns)
        changed, moved, error = _refit_filters(conv, swept, moments)
        if not error < least:
            break  # another round would begin from the same terms
        terms, shift, least = changed, moved, error
    return terms, shift


def _made(factors: Factors, axis: int, vectors: Tensor) -> Tensor:
    """The kernel (O, C * taps) of the factors with other vectors along one axis."""
    return composed([vectors if index == axis else factor for index, factor in enumerate(factors)]).flatten(1)


def _refit_filters(conv: nn.Conv2d, fitted_terms: Terms, moments: Moments) -> tuple[Terms, Tensor, float]:
    """The terms with the best vectors along the filters, the bias' shift, and the error of the outputs."""

    def reduce(patches_gnCHW: Tensor) -> Tensor:
        terms = torch.einsum("cr,hr,wr->rchw", fitted_terms.channels, fitted_terms.rows, fitted_terms.columns)
        return patches_gnCHW.flatten(2) @ terms.flatten(1).T

    kernel = conv.weight.detach().double()[None]
    tail = least_squares_tail(kernel, fitted_terms.filters[None], moments, reduce, intercept=conv.bias is not None)
    return fitted_terms._replace(filters=tail.kernel[0]), tail.shift, tail.error
