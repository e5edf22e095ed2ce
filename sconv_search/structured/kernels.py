"""The mathematics of structured kernels, as pure functions on tensors; everything works axis by axis.

Legend: O filters, C input channels (of one group), N taps along a spatial axis; w_OCN.. a kernel; alpha_Ocn.. its
coefficients in the box basis; ``length`` is C or N, ``count`` is c or n, and the box length is ``length - count + 1``.

A kernel is structured along an axis when it is a combination of the ``count`` shifts of one box of ones. The mask
matrix of a whole kernel is the Kronecker product of one banded Toeplitz matrix an axis (``box_basis``), so its
projection is the product of the axes' projections, and the full matrix is never built.

A *chain* is a residue class of the positions modulo the box length. Every box meets every chain exactly once, hence a
vector is structured iff all its chain sums are equal: projecting, solving and changing basis are sums along chains.

Source: Bhalgat, Zhang, Lin, Porikli, Structured Convolutions for Efficient Neural Network Design, NeurIPS 2020,
arXiv 2008.02454 (structured kernels and their decomposition). The chain forms are this project's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


def box_length(length: int, count: int) -> int:
    """Length of the box whose ``count`` shifts cover ``length`` positions.

    Raises:
        ValueError: count is not in 1..length.
    """
    if not 1 <= count <= length:
        raise ValueError(f"an axis of {length} positions has 1 to {length} boxes, got {count}")
    return length - count + 1


def box_basis(length: int, count: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """The (length, count) banded Toeplitz 0/1 matrix whose column k is one on k .. k + box_length - 1."""
    box = box_length(length, count)
    offset = torch.arange(length)[:, None] - torch.arange(count)[None, :]
    return ((offset >= 0) & (offset < box)).to(dtype)


def kronecker_basis(lengths: Sequence[int], counts: Sequence[int], *, dtype: torch.dtype = torch.float64) -> Tensor:
    """The mask matrix A, (prod(lengths), prod(counts)), of a kernel's axes. For tests and small kernels only."""
    basis = torch.ones(1, 1, dtype=dtype)
    for length, count in zip(lengths, counts, strict=True):
        basis = torch.kron(basis, box_basis(length, count, dtype=dtype))
    return basis


def _chains(w: Tensor, dim: int, box: int) -> Tensor:
    """The axis moved to the end and folded to (..., members, box), zeros where a chain is shorter."""
    last = w.movedim(dim, -1)
    padded = F.pad(last, (0, -last.shape[-1] % box))
    return padded.reshape(*padded.shape[:-1], -1, box)


def _members(length: int, box: int, like: Tensor) -> Tensor:
    """How many positions each of the ``box`` chains has, as (box,)."""
    return (length - 1 - torch.arange(box, device=like.device)).div(box, rounding_mode="floor").add(1).to(like.dtype)


def _common_sum(sums: Tensor, members: Tensor) -> Tensor:
    """The chain sum, (..., 1), that the closest structured vector has: the mean weighted by 1 / members."""
    return (sums / members).sum(-1, keepdim=True) / members.reciprocal().sum()


def project_axis(w: Tensor, dim: int, count: int) -> Tensor:
    """The closest tensor, in the least-squares sense, that is structured along one axis. O(elements), no inverse."""
    length = w.shape[dim]
    box = box_length(length, count)
    if box == 1:
        return w
    chains, members = _chains(w, dim, box), _members(length, box, w)
    sums = chains.sum(-2)
    correction = (sums - _common_sum(sums, members)) / members
    projected = (chains - correction.unsqueeze(-2)).flatten(-2)[..., :length]
    return projected.movedim(-1, dim)


def chain_coefficients(w: Tensor, dim: int, count: int) -> Tensor:
    """Coefficients of the closest structured tensor in the chain basis; the axis shrinks from length to count.

    The first ``count - 1`` belong to the differences ``e[k + box] - e[k]``, the last to the first box.
    A difference's coefficient is the sum of its chain from ``k + box`` on; the box's is the common chain sum.
    """
    length = w.shape[dim]
    box = box_length(length, count)
    chains = _chains(project_axis(w, dim, count), dim, box)
    from_here = chains.flip(-2).cumsum(-2).flip(-2).flatten(-2)
    sums = _chains(w, dim, box).sum(-2)
    common = _common_sum(sums, _members(length, box, w))
    return torch.cat([from_here[..., box:length], common], dim=-1).movedim(-1, dim)


def to_chain_basis(alpha: Tensor, dim: int) -> Tensor:
    """Box-basis coefficients re-expressed in the chain basis of the same axis, as ``box[k+1] - box[k] = e[k+L] -
    e[k]``.
    """
    suffix = alpha.flip(dim).cumsum(dim).flip(dim)
    count = alpha.shape[dim]
    return torch.cat([suffix.narrow(dim, 1, count - 1), suffix.narrow(dim, 0, 1)], dim=dim)


def from_chain_basis(coefficients: Tensor, dim: int) -> Tensor:
    """Chain-basis coefficients re-expressed in the box basis of the same axis; undoes ``to_chain_basis``."""
    count = coefficients.shape[dim]
    differences, total = coefficients.narrow(dim, 0, count - 1), coefficients.narrow(dim, count - 1, 1)
    suffix = torch.cat([total, differences, torch.zeros_like(total)], dim=dim)
    return -suffix.diff(dim=dim)


def box_coefficients(w: Tensor, dim: int, count: int) -> Tensor:
    """Coefficients of the closest structured tensor in the box basis; the axis shrinks from length to count."""
    return from_chain_basis(chain_coefficients(w, dim, count), dim)


def compose_chains(coefficients: Tensor, dim: int, length: int) -> Tensor:
    """The structured tensor with these chain-basis coefficients; the axis grows from count to length. No
    cancellation.
    """
    last = coefficients.movedim(dim, -1)
    count = last.shape[-1]
    box = box_length(length, count)
    differences, first_box = last[..., : count - 1], last[..., count - 1 :]
    spread = F.pad(differences, (box, 0)) - F.pad(differences, (0, box))
    return (spread + F.pad(first_box.expand(*last.shape[:-1], box), (0, count - 1))).movedim(-1, dim)


def compose_axis(alpha: Tensor, dim: int, length: int) -> Tensor:
    """The structured tensor with these box-basis coefficients: each is spread over its box; count grows to length."""
    return compose_chains(to_chain_basis(alpha, dim), dim, length)


@lru_cache(maxsize=64)
def _space_projector(
    lengths: tuple[int, ...], counts: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The projection of all spatial axes as one symmetric matrix: a few taps a side, so one product beats slicing."""
    joint = torch.ones(1, 1, dtype=torch.float64)
    for length, count in zip(lengths, counts, strict=True):
        joint = torch.kron(joint, project_axis(torch.eye(length, dtype=torch.float64), 1, count))
    return joint.to(device, dtype)


def project_space(w_OCN: Tensor, counts: Sequence[int]) -> Tensor:
    """The closest kernel to (O, C, N...) that is structured along space, with ``counts`` boxes along the axes after the
    second.

    A product with a (taps, taps) matrix.
    """
    lengths = tuple(w_OCN.shape[2:])
    if tuple(counts) == lengths:
        return w_OCN
    matrix = _space_projector(lengths, tuple(counts), w_OCN.dtype, w_OCN.device)
    return (w_OCN.flatten(2) @ matrix).view(w_OCN.shape)


def project(w_OCN: Tensor, counts: Sequence[int]) -> Tensor:
    """The closest structured kernel to (O, C, N...) with ``counts`` boxes along the axes after the first.
    O(weights).
    """
    return project_space(project_axis(w_OCN, 1, counts[0]), counts[1:])


def decompose(w_OCN: Tensor, counts: Sequence[int]) -> Tensor:
    """The small kernel alpha = A+ w, (O, c, n...), of the closest structured kernel to (O, C, N...)."""
    for dim, count in enumerate(counts, start=1):
        w_OCN = box_coefficients(w_OCN, dim, count)
    return w_OCN


def compose(alpha_Ocn: Tensor, lengths: Sequence[int]) -> Tensor:
    """The structured kernel A alpha, (O, C, N...), of a small kernel (O, c, n...)."""
    for dim, length in enumerate(lengths, start=1):
        alpha_Ocn = compose_axis(alpha_Ocn, dim, length)
    return alpha_Ocn


def relative_residual(w_OCN: Tensor, counts: Sequence[int]) -> Tensor:
    """``|w - project(w)| / |w|`` as a scalar in [0, 1]; 0 for a kernel of zeros, whose projection is exact.

    For Gaussian weights its square is ``1 - prod(counts) / (C N...)`` on average.
    """
    norm = torch.linalg.vector_norm(w_OCN)
    removed = torch.linalg.vector_norm(w_OCN - project(w_OCN, counts))
    return torch.div(removed, norm.clamp_min(torch.finfo(w_OCN.dtype).tiny))
