"""Ranks of a Tucker-2 from the kernel alone, as a start for a choice by hand: by energy, or by variational Bayes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sconv_search.baselines.decomposition import singular_factors

CANDIDATES = 512


def mode(kernel: Tensor, axis: int) -> Tensor:
    """The kernel unfolded along one axis, (1, that axis, all others)."""
    return kernel.detach().movedim(axis, 0).reshape(1, kernel.shape[axis], -1)


def ranks_by_energy(kernel: Tensor, share: float) -> tuple[int, int]:
    """The least (Ri, Ro) whose modes each keep that share of the kernel's squared norm; a start for a choice by hand.

    Both kept, the Tucker-2 of these ranks has a squared relative error of at most ``2 (1 - share)``.

    Raises:
        ValueError: the share is not in (0, 1].
    Source: De Lathauwer, De Moor, Vandewalle, A Multilinear Singular Value Decomposition, SIMAX 2000, property 10.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")

    def least(singular: Tensor) -> int:
        energy = singular.square().cumsum(0)
        return min(singular.numel(), int((energy < share * energy[-1] * (1 - 1e-12)).sum()) + 1)

    return least(singular_factors(mode(kernel, 1))[1][0]), least(singular_factors(mode(kernel, 0))[1][0])


def ranks_by_vbmf(kernel: Tensor) -> tuple[int, int]:
    """(Ri, Ro) that empirical variational Bayes finds in the kernel's two modes, at least 1 each.

    Source: Kim et al., ICLR 2016, section 3.2, which chooses the ranks of Tucker-2 this way.
    """
    return max(1, vbmf_rank(mode(kernel, 1)[0])), max(1, vbmf_rank(mode(kernel, 0)[0]))


def vbmf_rank(matrix: Tensor) -> int:
    """The rank of the signal in a matrix of signal and white noise of unknown variance; 0 where all may be noise.

    Source: Nakajima, Sugiyama, Babacan, Tomioka, Global Analytic Solution of Fully-observed Variational Bayesian Matrix
        Factorization, JMLR 2013, theorems 2 (the threshold) and 3 (the variance).
    """
    singular = singular_factors(matrix[None])[1][0]
    rows, columns = sorted(matrix.shape)
    alpha = rows / columns
    tau = 2.5129 * math.sqrt(alpha)
    edge = (1 + tau) * (1 + alpha / tau)
    if not singular[0] > 0:
        return 0
    variance = _noise_variance(singular.square() / columns, alpha, edge)
    return int((singular.square() / columns > variance * edge).sum())


def _noise_variance(energies: Tensor, alpha: float, edge: float) -> float:
    """Where the free energy is least, of ever finer steps between the variance's bounds."""
    rows = len(energies)
    most = min(max(1, math.ceil(rows / (1 + alpha)) - 1), rows - 1)
    upper = float(energies.mean())
    lower = max(float(energies[most]) / edge, float(energies[most:].mean()), upper * 1e-15)
    best = lower
    for _ in range(3):
        tries = torch.logspace(
            math.log10(lower), math.log10(max(upper, lower)), CANDIDATES, dtype=torch.float64
        ).tolist()
        values = [_free_energy(energies / variance, alpha, edge) for variance in tries]
        index = values.index(min(values))
        best, lower, upper = tries[index], tries[max(0, index - 1)], tries[min(index + 1, CANDIDATES - 1)]
    return best


def _free_energy(x: Tensor, alpha: float, edge: float) -> float:
    """Of energies over the variance, but for constants; those beyond the edge count as signal."""
    signal, noise = x[x > edge], x[x <= edge].clamp(min=1e-300)
    middle = signal - (1 + alpha)
    tau = (middle + (middle.square() - 4 * alpha).sqrt()) / 2
    of_signal = (signal - tau + ((tau + 1) / signal).log() + alpha * (tau / alpha + 1).log()).sum()
    return float((noise - noise.log()).sum() + of_signal)
