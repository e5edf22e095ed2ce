"""The Optuna study behind a search. With its samplers the only user of Optuna.

Every suggestion comes from a sampler made anew with a seed of its own, from the study's seed and the trial's number;
all else it needs stands in the journal. So a search that was killed at any moment continues as if it had not been.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sconv_search.records import COLUMNS, TrialRecord
from sconv_search.search_space.decoder import SHARPNESS_RANGE
from sconv_search.strict_json import LARGEST, shown
from sconv_search.studies.samplers.database import StudyDatabase
from sconv_search.studies.samplers.journal import ADVICE, JournalFile
from sconv_search.studies.samplers.mirror import NUMBER, RECORD, REPEATED, add_missing, counting, lost_records
from sconv_search.studies.samplers.optuna_samplers import Rows, sampler_for
from sconv_search.studies.spec import SamplerName

SPREAD_RANGE = (0.25, 3.0)
"""How far the preferences reach: small steps around the greedy plan, or plans of quite another shape."""
PATIENCE = 5
_SHOWN = (
    "status",
    "reason",
    "plan",
    "origin",
    "regularized_share",
    "macs",
    "adds",
    "flops",
    "params",
    "val_loss",
    "residual",
)
"""What optuna-dashboard shows of a record, beside its values."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What the sampler suggests for one trial.

    Args:
        number: the trial's number, the same however often the search was interrupted.
        preferences: by name, for ``budget_filling.Filling``.
        sharpness: for the same.
        regularization: weight of the penalty; None trains the compressed form alone.
        regularized_share: share of the epochs before compression; None where it is not searched, or there is no weight.
        budget: place in the range of budgets, 0..1; 1 where there is no range.
    """

    number: int
    random_keys: Mapping[str, float]
    sharpness: float
    regularization: float | None
    budget: float
    regularized_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What is suggested, and what the study aims at.

    Args:
        preferences: their names.
        regularization: range of the weight, sampled on a log scale; None where no method has a penalty.
        regularized_share: range of the share of epochs before compression, of trials with a weight; None does not
            search it.
        ranged: whether the budget is a range.
        costs: record columns to be minimized beside the validation accuracy; none for a study of accuracy alone.
    """

    random_keys: tuple[str, ...]
    regularization: tuple[float, float] | None = None
    regularized_share: tuple[float, float] | None = None
    ranged: bool = False
    costs: tuple[str, ...] = ()


@dataclass
class Sampler:
    """Suggests plans as preferences, learns from their validation accuracy, and survives being killed.

    Args:
        journal: file of Optuna's storage; an existing one is continued. optuna-dashboard opens it.
        startup: suggestions drawn at random before the sampler models anything.
        database: holds the study in place of the journal, which then is its copy.
        parallel: whether trials run while another is suggested, which then keeps away from them; it may change.
    """

    journal: Path
    domain: Domain
    kind: SamplerName
    seed: int
    startup: int
    parallel: bool = False
    database: StudyDatabase | None = None
    _asked: dict[int, Trial] = field(default_factory=dict, init=False)
    _repeats: int = field(default=0, init=False)
    _next: int = field(default=0, init=False)
    _again: deque[int] = field(default_factory=deque, init=False)
    _file: _Journal = field(init=False)
    _rows: Rows = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._file = _Journal(self.journal)
        directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in self.domain.costs)]
        self._file.require_fields()
        with self._file.making_sense():
            storage = optuna.storages.JournalStorage(self._file)
            names = optuna.get_all_study_names(storage)
        if self.journal.stat().st_size and not names:
            raise ValueError(f"{self.journal} holds no study; {ADVICE}")
        with self._file.making_sense():
            if names:  # creating it once more would add an entry; an older journal calls it "search"
                self._study = optuna.load_study(storage=storage, study_name=names[0])
            else:  # by the run's folder, by which optuna-dashboard tells runs apart
                name = self.journal.resolve().parent.name
                self._study = optuna.create_study(storage=storage, study_name=name, directions=directions)
        self._require_sense(directions)
        self._name_metrics()
        self._copy: optuna.Study | None = None
        if self.database is not None:
            self._copy, self._study = self._study, self.database.study(directions)
            self._name_metrics()

    def _name_metrics(self) -> None:
        if not self._study.trials:
            self._study.set_metric_names(["validation score", *(COLUMNS[name]["label"] for name in self.domain.costs)])

    def restore(self, records: Mapping[int, TrialRecord]) -> tuple[list[str], list[int]]:
        """Brings the database and its copies into line: records, a line each, that it alone has, and numbers of trials
        that were added to it from the journal.

        Raises:
            ValueError: the database and the run's folder hold different trials under one number.
        """
        if self.database is None or self._copy is None:
            return [], []
        for number, trial in counting(self._study).items():
            plan = trial.user_attrs.get("plan")
            if number in records and REPEATED not in trial.user_attrs and plan != records[number].plan:
                raise ValueError(
                    f"the database {self.database.shown} and the folder {str(self.journal.parent)!r} hold different"
                    f" trials {number}; they are of two runs: name another folder with --out"
                )
        lines, added = lost_records(self._study, records), add_missing(self._copy, self._study)
        begun = {trial.user_attrs.get(NUMBER) for trial in self._study.get_trials(deepcopy=False)}
        for number in sorted(records.keys() - begun):  # the journal is lost, too: what was suggested is not known
            self._study.add_trial(self._of_record(records[number]))
            added.append(number)
        return lines, sorted(added)

    def _of_record(self, record: TrialRecord) -> FrozenTrial:
        """A trial of Optuna's that knows its results, and no parameters."""
        values, state = self._results(record)
        attributes = {name: value for name in _SHOWN if (value := getattr(record, name)) is not None}
        attributes |= {NUMBER: record.number, RECORD: record.to_json()}
        return optuna.trial.create_trial(state=state, values=values, user_attrs=attributes)

    def _require_sense(self, directions: Sequence[StudyDirection]) -> None:
        """Refuses a study that Optuna has read and that is none of ours: it would fail much later.

        Raises:
            ValueError: the file, and what of which trial makes no sense.
        """
        if self._study.directions != directions:
            had = ", ".join(direction.name for direction in self._study.directions)
            wanted = ", ".join(direction.name for direction in directions)
            raise ValueError(f"{self.journal} is of a study with the aims {had}, this one has {wanted}; {ADVICE}")
        for trial in self._study.get_trials(deepcopy=False):
            if problem := _problem(trial, len(directions)):
                raise ValueError(
                    f"{self.journal}: trial {trial.number} of Optuna's makes no sense: {problem}; {ADVICE}"
                )

    def reconcile(self, records: Mapping[int, TrialRecord]) -> list[int]:
        """After a kill: trials whose record is on the disk are told, the others are dropped and come again; returns
        those.
        """
        again = []
        while self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.tell(self._study.ask(), state=TrialState.FAIL)  # enqueued, but never begun
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            number: int = trial.user_attrs.get(NUMBER, -1)
            if number in records:
                self._finish(Trial(self._study, trial._trial_id), records[number])
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)
                again += [number] if number >= 0 else []
        self._copied()
        trials = self._study.get_trials(deepcopy=False)
        finished = [trial for trial in trials if self._counts(trial, records)]
        done = {*records, *(trial.user_attrs[NUMBER] for trial in finished)}
        self._next = 1 + max(done, default=-1)
        begun = {
            trial.user_attrs[NUMBER]
            for trial in trials
            if NUMBER in trial.user_attrs and REPEATED not in trial.user_attrs
        }
        self._again = deque(sorted(number for number in begun - done if number < self._next))
        repeats = [REPEATED in trial.user_attrs for trial in finished]
        self._repeats = next((back for back, repeat in enumerate(reversed(repeats)) if not repeat), len(repeats))
        return sorted(again)

    @staticmethod
    def _counts(trial: FrozenTrial, records: Mapping[int, TrialRecord]) -> bool:
        """Whether a trial came to an end, a failed one included, rather than being interrupted."""
        ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        return NUMBER in trial.user_attrs and (ended or trial.user_attrs[NUMBER] in records)

    def known(self, records: Mapping[int, TrialRecord]) -> list[int]:
        """Numbers of trainings that the journal has finished and that have no record on the disk."""
        trained = [t.user_attrs for t in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
        return [a[NUMBER] for a in trained if NUMBER in a and a[NUMBER] not in records and REPEATED not in a]

    def unknown(self, records: Mapping[int, TrialRecord]) -> list[int]:
        """Numbers of records whose trials the journal has lost."""
        told = {trial.user_attrs.get(NUMBER) for trial in self._study.get_trials(deepcopy=False)}
        return sorted(number for number in records if number not in told)

    @property
    def upcoming(self) -> int:
        """Number of the next trial: one that was interrupted while a later one ended, or a new one."""
        return self._again[0] if self._again else self._next

    def ask(self, fixed: Mapping[str, Any] | None = None) -> Suggestion:
        """The next trial; drawn at random once the sampler keeps suggesting what was trained before.

        Args:
            fixed: parameters that are given, as ``parameters`` makes them, rather than sampled.
        """
        number = self.upcoming
        if self._again:
            self._again.popleft()
        else:
            self._next += 1
        kind = self.kind if self._repeats < PATIENCE else "random"
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        self._study.sampler = sampler_for(
            kind, number, seed, self.startup, self.parallel, self._together(kind, fixed or {}), self._rows
        )
        if self.database is not None:
            self.database.require_held()
        with self._file.together():
            return self._suggested(number, fixed)

    def _together(self, kind: SamplerName, fixed: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """What the sampler suggests at once: all that every trial has and is not given, in the order of names."""
        known: dict[str, BaseDistribution] = {
            "spread": FloatDistribution(*SPREAD_RANGE, log=True),
            "sharpness": FloatDistribution(*SHARPNESS_RANGE),
            **{f"preference/{name}": FloatDistribution(-1, 1) for name in self.domain.random_keys},
        }
        if self.domain.regularization is not None and kind != "cmaes":  # which knows numbers alone
            known["direct"] = CategoricalDistribution([True, False])
        if self.domain.ranged:
            known["budget"] = FloatDistribution(0, 1)
        return {name: known[name] for name in sorted(known) if name not in fixed}

    def _suggested(self, number: int, fixed: Mapping[str, Any] | None) -> Suggestion:
        if fixed is not None:
            self._study.enqueue_trial(dict(fixed))
        self._asked[number] = trial = self._study.ask()
        trial.set_user_attr(NUMBER, number)
        spread = trial.suggest_float("spread", *SPREAD_RANGE, log=True)
        sharpness = trial.suggest_float("sharpness", *SHARPNESS_RANGE)
        random_keys = {
            name: spread * trial.suggest_float(f"preference/{name}", -1, 1) for name in self.domain.random_keys
        }
        weight = share = None
        if self.domain.regularization is not None and not trial.suggest_categorical("direct", [True, False]):
            weight = trial.suggest_float("regularization", *self.domain.regularization, log=True)
            if self.domain.regularized_share is not None:
                share = trial.suggest_float("regularized_share", *self.domain.regularized_share)
        budget = trial.suggest_float("budget", 0, 1) if self.domain.ranged else 1.0
        return Suggestion(
            number=number,
            random_keys=random_keys,
            sharpness=sharpness,
            regularization=weight,
            regularized_share=share,
            budget=budget,
        )

    def parameters(
        self, random_keys: Mapping[str, float], sharpness: float, regularization: float | None
    ) -> dict[str, Any]:
        """The parameters of a trial, for ``ask``, whose suggestion has these values."""
        spread = float(np.clip(max(map(abs, random_keys.values()), default=0.0), *SPREAD_RANGE))
        known: dict[str, Any] = {"spread": spread, "sharpness": sharpness}
        for name in self.domain.random_keys:
            known[f"preference/{name}"] = float(np.clip(random_keys.get(name, 0.0) / spread, -1, 1))
        if self.domain.regularization is not None:
            known["direct"] = regularization is None
            known |= {} if regularization is None else {"regularization": regularization}
        return known

    def repeat(self, number: int, of: TrialRecord) -> None:
        """The trial suggests what was already evaluated: the stored result is told, nothing is done twice."""
        self._asked[number].set_user_attr(REPEATED, of.number)
        repeats = self._repeats + 1
        self.tell(number, of)
        self._repeats = repeats

    def drop(self, number: int) -> None:
        """The trial suggests what is being evaluated just now: it is left out."""
        trial = self._asked.pop(number)
        trial.set_user_attr(REPEATED, None)
        self._study.tell(trial, state=TrialState.PRUNED)
        self._copied()
        self._repeats += 1

    @property
    def repeats(self) -> int:
        """Suggestions in a row that were evaluated before."""
        return self._repeats

    def tell(self, number: int, record: TrialRecord) -> None:
        """The trial's result: its score, negated where a lower one is better, and its costs; or that it was not worth a
        training, over budget, or failed.
        """
        self._repeats = 0
        if self.database is not None:
            self.database.require_held()
        with self._file.together():
            self._finish(self._asked.pop(number), record)
        self._copied()

    def _copied(self) -> None:
        """Adds to the journal what the database has more."""
        if self._copy is not None:
            add_missing(self._study, self._copy)

    def _finish(self, trial: Trial, record: TrialRecord) -> None:
        """Tells a trial its result, with what optuna-dashboard shows of it."""
        for name in _SHOWN:
            if (value := getattr(record, name)) is not None:
                trial.set_user_attr(name, value)
        if self.database is not None and trial.user_attrs.get(NUMBER) == record.number:
            trial.set_user_attr(RECORD, record.to_json())
        values, state = self._results(record)
        if record.status == "screened" and not self.domain.costs:
            trial.report(record.screen_quality or 0.0, step=1)
        self._study.tell(trial, values, state=state)

    def _results(self, record: TrialRecord) -> tuple[list[float] | None, TrialState]:
        """What a record says to Optuna: values of a complete trial, or why there are none."""
        values = [record.quality, *(getattr(record, name) for name in self.domain.costs)]
        if record.status == "complete" and None not in values:  # a record from elsewhere may lack a cost
            return values, TrialState.COMPLETE
        return None, TrialState.FAIL if record.status == "failed" else TrialState.PRUNED


def _problem(trial: FrozenTrial, aims: int) -> str | None:
    """What of a trial from the journal can have been written by no search; None where nothing is."""
    number = trial.user_attrs.get(NUMBER, 0)
    if type(number) is not int or not 0 <= number <= LARGEST:
        return f"{NUMBER!r} must be a whole number of at least 0, got {shown(number)}"
    for name, value in trial.params.items():
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            return f"{name!r} must be a finite number, got {shown(value)}"
    values: list[Any] = [] if trial.values is None else list(trial.values)
    if trial.state == TrialState.COMPLETE and len(values) != aims:
        return f"it must have {aims} values, got {shown(values)}"
    for value in (*values, *trial.intermediate_values.values()):
        if type(value) not in (int, float) or not math.isfinite(value):
            return f"its values must be finite numbers, got {shown(value)}"
    return None


class _Journal(JournalFile, BaseJournalBackend):
    """The journal, as Optuna's storage wants it."""
