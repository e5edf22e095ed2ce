"""Two studies of Optuna's with the same trials, one of which restores the other: those of a database, and a journal."""

from __future__ import annotations

from collections.abc import Mapping

import optuna
from optuna.trial import FrozenTrial

NUMBER, REPEATED, STATUS, RECORD = "number", "repeats trial", "status", "record"
"""What trials are told beside their values: our number, the trial that has the same plan, and the record."""


def counting(study: optuna.Study) -> dict[int, FrozenTrial]:
    """Trials that came to an end, by our number; those that were interrupted come again, and are left out."""
    trials = study.get_trials(deepcopy=False)
    return {
        trial.user_attrs[NUMBER]: trial
        for trial in trials
        if trial.state.is_finished() and NUMBER in trial.user_attrs and {STATUS, REPEATED} & trial.user_attrs.keys()
    }


def add_missing(source: optuna.Study, target: optuna.Study) -> list[int]:
    """Adds to a study the trials that another one has more, in the order of their numbers, which are returned."""
    there, here = counting(source), counting(target)
    missing = sorted(there.keys() - here.keys())
    for number in missing:
        target.add_trial(there[number])
    return missing


def lost_records(study: optuna.Study, known: Mapping[int, object]) -> list[str]:
    """Records, a line each, that a study has and that are not among those known by number."""
    records = {number: trial.user_attrs.get(RECORD) for number, trial in counting(study).items()}
    return [text for number, text in sorted(records.items()) if text is not None and number not in known]
