"""Where a search stands: its best plan or front, how long since it got better, and how fast it goes."""

from __future__ import annotations

from collections.abc import Iterable

from sconv_search.records import TrialRecord
from sconv_search.studies.spec import StudySpec


class SearchProgress:
    """What the trials so far amount to.

    Attributes:
        trained: complete trainings.
        stagnant: trainings since the last that improved the best accuracy or, with several objectives, the front.
        fresh: trainings of this command, for its speed.
    """

    def __init__(self, spec: StudySpec, records: Iterable[TrialRecord]) -> None:
        self.trials, self._costs = spec.trials, spec.costs
        self.trained, self.stagnant, self.fresh = 0, 0, 0
        self.front: list[TrialRecord] = []
        for r in records:
            self.take(r)
        self.fresh = 0

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the best validation score."""
        return max(self.front, key=lambda r: r.quality or 0.0, default=None)

    def take(self, result: TrialRecord) -> None:
        """Counts one more trial."""
        if result.status != "complete" or result.val_score is None:
            return
        self.trained, self.fresh = self.trained + 1, self.fresh + 1
        if any(self._covers(other, result) for other in self.front):
            self.stagnant += 1
            return
        self.front = [other for other in self.front if not self._covers(result, other)] + [result]
        self.stagnant = 0

    def _covers(self, first: TrialRecord, other: TrialRecord) -> bool:
        """Whether one is at least as good as the other in everything that counts."""
        costs = [(getattr(first, name) or 0) <= (getattr(other, name) or 0) for name in self._costs]
        return (first.quality or 0.0) >= (other.quality or 0.0) and all(costs)

    @property
    def hypervolume(self) -> float | None:
        """Area that the front dominates, of the rectangle from (dense FLOPs, 0 %) to (0 FLOPs, 100 %), in %; two
        objectives.

        None where scores are not in % of which more is better: then nothing fixes the rectangle.
        """
        if any((r.metric_unit, r.metric_better) != ("%", "higher") for r in self.front):
            return None
        area, height = 0.0, 0.0
        steps = [(1 - _share(r), (r.val_score or 0.0) / 100) for r in self.front]
        for width, score in sorted(steps, key=lambda step: -step[0]):
            if score > height:
                area += max(0.0, width) * (score - height)
                height = score
        return 100 * area


def trial_line(result: TrialRecord, progress: SearchProgress, seconds: float) -> str:
    """One trial in one line of the terminal."""
    if result.status in ("failed", "over_budget"):
        return f"trial {result.number}: {result.status}, {result.reason}"
    share = f"{100 * _share(result):.1f} % FLOPs"
    weight = "direct" if result.regularization is None else f"λ {result.regularization:.2g}"
    if result.status == "screened":
        screen = "" if result.screen_score is None else f" at {result.score_metric.text(result.screen_score)}"
        return f"trial {result.number}: {share}, {result.origin}, screened{screen}, not trained"
    score = f"validation {result.metric} {_score(result)} in {result.wall_s or 0:.0f} s"
    head = f"trial {result.number} ({progress.trained}/{progress.trials}): {share}, {weight}"
    return f"{head}, {score}; {_outlook(progress, seconds)}"


def _outlook(progress: SearchProgress, seconds: float) -> str:
    best = progress.best
    area = progress.hypervolume
    volume = "" if area is None else f"hypervolume {area:.1f} %, "
    front = f"front of {len(progress.front)}, {volume}" if len(progress.front) > 1 else ""
    rate = 60 * progress.fresh / max(seconds, 1e-9)
    left = (progress.trials - progress.trained) / rate if rate else 0.0
    remaining = f", {_per_minute(rate)}, {left:.1f} min left" if left and progress.fresh > 1 else ""
    return f"{front}best {_score(best) if best else 'none'}{remaining}"


def _score(result: TrialRecord) -> str:
    return "not measured" if result.val_score is None else result.score_metric.text(result.val_score)


def _per_minute(rate: float) -> str:
    """A rate without an exponent: of slow trials by the hour."""
    if rate < 1:
        return f"{60 * rate:.2g} an hour"
    return f"{rate:.0f} a minute" if rate >= 10 else f"{rate:.2g} a minute"


def _share(r: TrialRecord) -> float:
    return (r.flops or 0) / r.dense_flops if r.dense_flops else 1.0
