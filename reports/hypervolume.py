"""The area that a set of networks dominates: one number for a whole front, comparable because its reference point is
fixed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

REFERENCE = (100.0, 0.0)
"""Cost in % of the dense network, top-1 in %: a network as dear as the dense one, or always wrong, adds nothing."""


class Dominated:
    """Grows point by point; adding one takes O(log n) and the removal of what it beats.

    Args:
        reference: (largest cost, lowest score); what does not beat it in both adds nothing.
    """

    def __init__(self, reference: tuple[float, float] = REFERENCE) -> None:
        self._worst_cost, self._worst_score = reference
        self._costs: list[float] = []
        self._scores: list[float] = []
        self.area = 0.0

    def add(self, cost: float, score: float) -> None:
        """Adds a point; both lists stay rising, as a dearer point of a front is a better one."""
        if cost >= self._worst_cost or score <= self._worst_score:
            return
        cheaper = bisect_right(self._costs, cost)
        if cheaper and self._scores[cheaper - 1] >= score:
            return
        start = end = bisect_left(self._costs, cost)
        left, level = cost, self._scores[start - 1] if start else self._worst_score
        while end < len(self._costs) and self._scores[end] <= score:
            self.area += (self._costs[end] - left) * (score - level)
            left, level, end = self._costs[end], self._scores[end], end + 1
        right = self._costs[end] if end < len(self._costs) else self._worst_cost
        self.area += (right - left) * (score - level)
        self._costs[start:end], self._scores[start:end] = [cost], [score]


def hypervolume(points: Iterable[tuple[float, float]], reference: tuple[float, float] = REFERENCE) -> float:
    """The area dominated by (cost, score) points: a lower cost and a higher score are better."""
    return (hypervolume_course(points, reference) or [0.0])[-1]


def hypervolume_course(
    points: Iterable[tuple[float, float]], reference: tuple[float, float] = REFERENCE
) -> list[float]:
    """The area after each point, in their order."""
    dominated, course = Dominated(reference), []
    for cost, score in points:
        dominated.add(cost, score)
        course.append(dominated.area)
    return course
