"""Which channels share a chain: the permutation (and signs) that brings a kernel nearest to the structure of box sums.

Legend: C channels; chains as in ``structure``: r = 0 .. L-1 with n_r members each; gram_CC the inner products of the
channels' kernel vectors, all that the choice depends on; s_r the sum of a chain's vectors.

The squared residual is ``Σ |s_r|² / n_r − |Σ s_r / n_r|² / Σ (1 / n_r)``: chains whose members cancel are cheap. Pairs
are made greedily of the most negatively correlated centered channels, longer chains by adding what lowers their sum
most; then channels of different chains change places as long as that lowers the residual, as many pairs at once as do
not meet. On the pretrained CIFAR ResNet-20 at c = C / 2.25 the mean relative residual is 0.75 in natural order, 0.66
after the greedy start and 0.64 after the exchanges.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_SCANS = 2_000


def chain_order(gram_CC: Tensor, count: int, signed: bool = False) -> tuple[Tensor, Tensor | None]:
    """The order, (C,) int64: position -> channel, and signs by channel, (C,) of 1 and -1, or None.

    Args:
        gram_CC: float64, on the CPU.
        count: boxes, c; the chains are the residue classes of positions modulo C - c + 1.
        signed: whether a channel may enter its sums with the weight -1.
    """
    box = len(gram_CC) - count + 1
    lengths = torch.bincount(torch.arange(len(gram_CC)) % box)
    chain = _greedy(gram_CC, lengths)
    signs = torch.ones(len(gram_CC), dtype=gram_CC.dtype)
    chain, signs = _exchanged(gram_CC, chain, signs, lengths.to(gram_CC.dtype), signed)
    return _positions(chain, box), signs if signed else None


def _positions(chain: Tensor, box: int) -> Tensor:
    """The order in which the members of chain r stand at positions r, r + L, r + 2 L, ..."""
    order = torch.empty_like(chain)
    for r in range(box):
        order[r::box] = (chain == r).nonzero().flatten()
    return order


def _greedy(gram_CC: Tensor, lengths: Tensor) -> Tensor:
    """Chain of each channel: the longest chains first, each from the most negatively correlated pair that is left."""
    centered = gram_CC - gram_CC.mean(0) - gram_CC.mean(1, keepdim=True) + gram_CC.mean()
    scale = centered.diagonal().clamp(min=torch.finfo(gram_CC.dtype).tiny).sqrt()
    correlation = (centered / scale / scale[:, None]).fill_diagonal_(torch.inf)
    least, partner = correlation.min(1)  # of each row; never more than the least that is left in it
    chain, free = torch.full((len(gram_CC),), -1), torch.ones(len(gram_CC), dtype=torch.bool)
    for r in lengths.argsort(descending=True, stable=True).tolist():
        length = int(lengths[r])
        members = _most_negative(correlation, least, partner, free) if length > 1 else [int(free.nonzero()[0])]
        while len(members) < length:
            growth = (2 * centered[:, members].sum(1) + centered.diagonal()).masked_fill(~free, torch.inf)
            growth[members] = torch.inf
            members.append(int(growth.argmin()))
        chain[members], free[members], least[members] = r, False, torch.inf
    return chain


def _most_negative(correlation: Tensor, least: Tensor, partner: Tensor, free: Tensor) -> list[int]:
    """The pair of free channels of least correlation; a row's least is looked for again only when its partner is
    gone.
    """
    while True:
        row = int(least.argmin())
        if free[partner[row]]:
            return [row, int(partner[row])]
        least[row], partner[row] = correlation[row].masked_fill(~free, torch.inf).min(0)


def _exchanged(gram_CC: Tensor, chain: Tensor, signs: Tensor, lengths: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
    """Channels of different chains change places, and signs turn, until neither lowers the squared residual."""
    weights, least = 1 / lengths, 1e-12 * float(gram_CC.diagonal().sum())
    for _ in range(MOST_SCANS):
        own = gram_CC * signs * signs[:, None]  # of the vectors as they enter the sums
        sums_CL = gram_CC.new_zeros(len(chain), len(lengths)).index_add_(1, chain, own)  # <v_i, s_r>
        flip, channel = _best_flip(own, sums_CL, chain, weights) if signed else (torch.inf, 0)
        if flip < -least:
            signs[channel] = -signs[channel]
            continue
        pairs = _disjoint(_changes(own, sums_CL, chain, weights), chain, least)
        if not pairs or (exchanged := _together(own, chain, pairs, weights)) is None:
            break
        chain = exchanged
    return chain, signs


def _changes(own: Tensor, sums_CL: Tensor, chain: Tensor, weights: Tensor) -> Tensor:
    """By how much the squared residual changes, (C, C), when channels i and j change places; infinite within a
    chain.
    """
    norms, weight = own.diagonal(), weights[chain]
    at_home = weight * sums_CL[torch.arange(len(chain)), chain]
    crossed = sums_CL[:, chain].mul_(weight)  # [i, j]: i against the sum of j's chain
    common, lead = sums_CL @ weights, weight[:, None] - weight
    change = crossed + crossed.mT - at_home - at_home[:, None] - (common - common[:, None]) * lead / weights.sum()
    factor = weight + weight[:, None] - lead.square() / weights.sum()
    change = 2 * change + (norms + norms[:, None] - 2 * own) * factor
    return change.masked_fill_(chain[:, None] == chain, torch.inf)


def _disjoint(changes: Tensor, chain: Tensor, least: float) -> list[tuple[int, int]]:
    """The best exchanges, each of two chains that no better one touches; best first."""
    best, partner = changes.min(1)
    pairs: list[tuple[int, int]] = []
    touched: set[int] = set()
    for i in best.argsort(stable=True).tolist():
        if best[i] >= -least:
            break
        own = {int(chain[i]), int(chain[partner[i]])}
        if not own & touched:
            touched |= own
            pairs.append((i, int(partner[i])))
    return pairs


def _together(own: Tensor, chain: Tensor, pairs: list[tuple[int, int]], weights: Tensor) -> Tensor | None:
    """The chains after as many of the exchanges as lower the residual together (they share one mean); None if none
    does.
    """
    now = _squared(own, chain, weights)
    while pairs:
        first, second = torch.tensor(pairs).T
        tried = chain.clone()
        tried[first], tried[second] = chain[second], chain[first]
        if _squared(own, tried, weights) < now:
            return tried
        pairs = pairs[: len(pairs) // 2]
    return None


def _squared(own: Tensor, chain: Tensor, weights: Tensor) -> float:
    """The squared residual."""
    sums_CL = own.new_zeros(len(chain), len(weights)).index_add_(1, chain, own)
    norms = own.new_zeros(len(weights)).index_add_(0, chain, sums_CL[torch.arange(len(chain)), chain])
    return float(norms @ weights - (weights[chain] @ (sums_CL @ weights)) / weights.sum())


def _best_flip(own: Tensor, sums_CL: Tensor, chain: Tensor, weights: Tensor) -> tuple[float, int]:
    """The channel whose change of sign changes the squared residual most for the better, with the change."""
    norms, weight = own.diagonal(), weights[chain]
    at_home = sums_CL[torch.arange(len(chain)), chain]
    change = weight * 4 * (norms - at_home)
    change -= (4 * weight.square() * norms - 4 * weight * (sums_CL @ weights)) / weights.sum()
    index = int(change.argmin())
    return float(change[index]), index
