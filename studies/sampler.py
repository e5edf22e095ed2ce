"""The Optuna study behind a search. The only user of Optuna."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from sconv_search.records import TrialRecord
from sconv_search.search_space import SHARPNESS_RANGE

SPREAD_RANGE = (0.25, 3.0)
"""How far the preferences reach: small steps around the greedy plan, or plans of quite another shape."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What the sampler suggests for one trial.

    Args:
        preferences: by site, for ``SearchSpace.decode``.
        sharpness: for the same.
        regularization: weight of the penalty; None trains the compressed form alone.
    """

    number: int
    preferences: dict[str, float]
    sharpness: float
    regularization: float | None


REPEATED = "repeats trial"
PATIENCE = 5


class Sampler:
    """Suggests plans as preferences, learns from their validation accuracy, and survives being killed.

    Args:
        journal: file of Optuna's storage; an existing one is continued.
        sites: the search space's sites.
        regularization: range of the weight, sampled on a log scale; None where no method has a penalty.
    """

    def __init__(
        self, journal: Path, sites: Iterable[str], *, regularization: tuple[float, float] | None, trials: int, seed: int
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sites, self._regularization = list(sites), regularization
        for stale in journal.parent.glob(f"{journal.name}.lock*"):
            stale.unlink()  # a killed process left it; the run folder's own lock says that no other is at work
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
        self._study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
        drawn = seed + len(self._study.trials)  # a continued study draws other numbers than before
        self._tpe = optuna.samplers.TPESampler(seed=drawn, n_startup_trials=max(4, trials // 4))
        self._random, self._repeats = optuna.samplers.RandomSampler(seed=drawn), 0
        if not self._study.trials:
            self._enqueue_first()

    def _enqueue_first(self) -> None:
        """The greedy and the minimax plan, then the greedy one with regularisation, before anything is sampled."""
        flat = {f"preference/{name}": 0.0 for name in self._sites}
        greedy, minimax = ({**flat, "spread": 1.0, "sharpness": sharpness} for sharpness in SHARPNESS_RANGE)
        if self._regularization is None:
            first = [greedy, minimax]
        else:
            direct, weight = {"direct": True}, {"direct": False, "regularization": self._regularization[1] / 2}
            first = [{**greedy, **direct}, {**minimax, **direct}, {**greedy, **weight}]
        for parameters in first:
            self._study.enqueue_trial(parameters)

    def reconcile(self, records: Mapping[int, TrialRecord]) -> list[int]:
        """After a kill: trials whose record is on the disk are told, the others are queued again; returns those."""
        again = []
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number in records:
                self.tell(trial.number, records[trial.number])
            else:
                self._study.tell(trial.number, state=TrialState.FAIL)
                self._study.enqueue_trial({**trial.system_attrs.get("fixed_params", {}), **trial.params})
                again.append(trial.number)
        return again

    def known(self, records: Mapping[int, TrialRecord]) -> list[FrozenTrial]:
        """Finished trials of the journal that have no record on the disk."""
        finished = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return [trial for trial in finished if trial.number not in records and REPEATED not in trial.user_attrs]

    def repeat(self, number: int, of: TrialRecord) -> None:
        """The trial suggests what was already trained: the stored result is told, nothing is done twice."""
        self._asked.set_user_attr(REPEATED, of.number)
        repeats = self._repeats + 1
        self.tell(number, of)
        self._repeats = repeats

    def ask(self) -> Suggestion:
        """The next trial; drawn at random once TPE keeps suggesting what was trained before."""
        self._study.sampler = self._tpe if self._repeats < PATIENCE else self._random
        self._asked = trial = self._study.ask()
        spread = trial.suggest_float("spread", *SPREAD_RANGE, log=True)
        sharpness = trial.suggest_float("sharpness", *SHARPNESS_RANGE)
        preferences = {name: spread * trial.suggest_float(f"preference/{name}", -1, 1) for name in self._sites}
        weight = None
        if self._regularization is not None and not trial.suggest_categorical("direct", [True, False]):
            weight = trial.suggest_float("regularization", *self._regularization, log=True)
        return Suggestion(number=trial.number, preferences=preferences, sharpness=sharpness, regularization=weight)

    def tell(self, number: int, record: TrialRecord) -> None:
        """The trial's result: its accuracy, or that it was over budget (pruned) or failed."""
        self._repeats = 0
        if record.status == "complete":
            self._study.tell(number, record.val_top1)
        else:
            self._study.tell(number, state=TrialState.PRUNED if record.status == "over_budget" else TrialState.FAIL)
