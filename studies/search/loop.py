"""One run of a search: jobs out, records in, until there are enough trainings or a reason to stop."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from sconv_search.records import TrialRecord
from sconv_search.studies.executors.protocol import Executor
from sconv_search.studies.monitor import Monitor, counted
from sconv_search.studies.runs.folder import RunFolder
from sconv_search.studies.samplers.halving import Halving
from sconv_search.studies.samplers.study import Sampler
from sconv_search.studies.search.progress import SearchProgress, trial_line
from sconv_search.studies.search.proposals import Evaluated, Proposals, as_evaluated, evaluated
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.trials.checkpoints import RunCheckpoints
from sconv_search.studies.trials.request import TrialRequest
from sconv_search.studies.trials.trial import trial_name
from sconv_search.training.evaluation import Score

MOST_ALIKE, MOST_UNTRAINED = 3, 10
"""Trials in a row without a result that end a search: for one reason, and for any."""
MOST_REPEATED = 100
_NUMBER = re.compile(r"\d[\d,.]*")
ADVICE = {
    "TrainingDiverged": "a lower --learning-rate helps",
    "the loss": "a lower --learning-rate or regularization helps",
    "the score": "the function that scores gives no finite number; look at what it divides by",
    "OutOfMemoryError": "a smaller batch, or fewer --workers, needs less memory",
    "MemoryError": "a smaller batch, or fewer --workers, needs less memory",
    "measured": "the budget is hardly above what can be reached; raise it",
}


@dataclass(frozen=True, kw_only=True)
class StoppingCriterion:
    """When a search ends before all its trials are trained.

    Args:
        seconds: no trial starts later than this after the command's start.
        patience: trainings in a row that did not improve on what was found before.

    Raises:
        ValueError: a number is not positive.
    """

    seconds: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "patience"):
            if (value := getattr(self, name)) is not None and not value > 0:  # NaN is not
                raise ValueError(f"Stops.{name} must be positive, got {value}")


class SearchLoop:
    """Drives a search from its records so far to its end."""

    def __init__(
        self,
        spec: StudySpec,
        folder: RunFolder,
        records: Sequence[TrialRecord],
        sampler: Sampler,
        proposals: Proposals,
        stops: StoppingCriterion,
        monitor: Monitor,
        clock: Callable[[], float] = monotonic,
        checkpoints: RunCheckpoints | None = None,
    ) -> None:
        self.records = list(records)
        self._spec, self._folder, self._sampler, self._proposals = spec, folder, sampler, proposals
        self._checkpoints = checkpoints
        self._stops, self._monitor, self._clock, self._began = stops, monitor, clock, clock()
        searched = [r for r in records if r.stage == "search" and r.number is not None]
        self._known, self._running = evaluated(searched, spec.regularized_share), 0
        self._at_work: set[Evaluated] = set()
        self._standing = SearchProgress(spec, searched)
        self._untrained: list[str] = []
        self._ended = False
        self._halving = Halving(spec.screening, 1 + len(spec.costs))
        for r in searched:
            if r.screen_score is not None:
                self._halving.promotes(self._objectives(r))
        proposals.learn(searched)

    def run(self, executor: Executor[TrialRequest, TrialRecord], lost: int) -> None:
        """Evaluates until the end.

        Args:
            lost: trainings that the sampler remembers, but whose records are damaged.

        Raises:
            RuntimeError: three trials in a row gave nothing for one reason, or ten for any.
        """
        while True:
            while self._running < executor.slots and self._wants_more(lost):
                job = self._next()
                if job is None:
                    break
                executor.submit(job)
                self._running += 1
            if not self._running:
                return
            if (finished := executor.result()) is None:
                continue
            job, result = finished
            if result.status == "screened" and self._is_promoted(result):
                screen = Score(value=result.screen_score or 0.0, loss=result.screen_loss)
                executor.submit(replace(job, rung="train", screen=screen))
                continue
            self._running -= 1
            self._take(job, result)

    def _wants_more(self, lost: int) -> bool:
        if self._ended or self._standing.trained + lost + self._running >= self._spec.trials:
            return False
        reason = None
        if self._stops.seconds is not None and self._clock() - self._began >= self._stops.seconds:
            reason = f"the time of {self._stops.seconds:.0f} s is up"
        elif self._stops.patience is not None and self._standing.stagnant >= self._stops.patience:
            reason = f"{self._standing.stagnant} trainings in a row improved nothing"
        if reason is not None:
            self._end(f"{reason}; the same command continues")
        return reason is None

    def _end(self, text: str) -> None:
        self._ended = True
        self._monitor.say(f"search ends after {counted(self._standing.trained, 'training')}: {text}")

    def _next(self) -> TrialRequest | None:
        """The next job that was not evaluated before; what was is told without evaluating it again."""
        repeated: list[int] = []
        while self._sampler.repeats < MOST_REPEATED:
            self._sampler.parallel = self._running > 0
            job = self._proposals.next()
            key = _key(job)
            if (same := self._known.get(key)) is not None:
                self._sampler.repeat(job.number, same)
            elif key in self._at_work:
                self._sampler.drop(job.number)
            else:
                self._at_work.add(key)
                self._say_repeated(repeated)
                return job
            repeated.append(job.number)
        self._say_repeated(repeated)
        self._end(f"{self._sampler.repeats} suggestions in a row were evaluated before; the space seems exhausted")
        return None

    def _say_repeated(self, numbers: Sequence[int]) -> None:
        """Why the numbers of trials jump."""
        if numbers:
            is_single = len(numbers) == 1
            which = f"trial {numbers[0]}" if is_single else f"trials {numbers[0]} to {numbers[-1]}"
            plans = "its plan was" if is_single else "their plans were"
            self._monitor.say(f"{which} not evaluated: {plans} suggested before")

    def _is_promoted(self, result: TrialRecord) -> bool:
        """Whether a screened plan is trained: by its loss and costs among all that were screened."""
        return self._halving.promotes(self._objectives(result))

    def _objectives(self, r: TrialRecord) -> tuple[float, ...]:
        promise = (r.screen_quality or 0.0) if r.screen_loss is None else -r.screen_loss
        return (promise, *(-float(getattr(r, name) or 0) for name in self._spec.costs))

    def _take(self, job: TrialRequest, result: TrialRecord) -> None:
        self._at_work.discard(_key(job))
        self._folder.append(result)
        if self._checkpoints is not None:
            self._checkpoints.forget(trial_name(job.number))
        self._monitor.recorded(result)
        self._sampler.tell(job.number, result)
        self.records.append(result)
        self._known[_key(job)] = result
        self._proposals.learn([result])
        self._standing.take(result)
        self._monitor.say(trial_line(result, self._standing, self._clock() - self._began))
        if result.status in ("complete", "screened"):
            self._untrained = []
            return
        self._untrained.append(result.reason or "")
        alike = {_NUMBER.sub("", reason) for reason in self._untrained[-MOST_ALIKE:]}
        if len(self._untrained) == MOST_UNTRAINED or (len(self._untrained) >= MOST_ALIKE and len(alike) == 1):
            last = self._untrained[-1]
            advice = next((f"; {text}" for start, text in ADVICE.items() if last.startswith(start)), "")
            raise RuntimeError(
                f"{len(self._untrained)} trials in a row gave no result, the last because: {last}{advice}"
            )


def _key(job: TrialRequest) -> Evaluated:
    return as_evaluated(job.plan.to_json(), job.regularization, job.regularized_share)
