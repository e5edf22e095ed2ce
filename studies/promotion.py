"""Which cheaply judged plans are worth a training, by several objectives: those in the best share of all judged so far.

This is one rung of asynchronous successive halving (Li et al., MLSys 2020, arXiv 1810.05934) in which a plan's rank is the
number of plans that beat it in everything. It depends on the judged plans alone, in their order, so an interrupted search
promotes the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence


def promoted(judged: Sequence[Sequence[float]], reduction: int) -> bool:
    """Whether the last of the judged plans is in the best ``1 / reduction`` of all.

    Args:
        judged: objectives of each plan, every one to be maximised; the plan in question is the last.
        reduction: 1 promotes all; the first plan is always promoted.
    """
    own = judged[-1]
    better = sum(_dominates(other, own) for other in judged[:-1])
    return better * reduction < len(judged)


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)
