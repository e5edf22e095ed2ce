"""Optuna's samplers as a search uses them: each is made anew for one trial, with a seed of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from sconv_search.studies.spec import SamplerName
from sconv_search.system.packages import require_package

POPULATION = 24
Rows = dict[tuple[str, ...], dict[int, NDArray[np.float64]]]
"""What was read of finished trials, by the names of the parameters and the trial's number."""


class _Knowing(BaseSampler):
    """A sampler that is told what it suggests together; Optuna's own look for that through all trials, each time
    anew.
    """

    together: Mapping[str, BaseDistribution]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.together)


class _Tpe(_Knowing, optuna.samplers.TPESampler):
    """TPE that reads each finished trial once; Optuna's own reads all parameters of all trials for every suggestion."""

    rows: Rows

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: Study
    ) -> dict[str, NDArray[np.float64]]:
        if len(search_space) < 2 or not all(trial.state.is_finished() for trial in trials):
            return super()._get_internal_repr(trials, search_space, study)
        known = self.rows.setdefault(tuple(search_space), {})
        whole = [trial for trial in trials if trial.number in known or search_space.keys() <= trial.params.keys()]
        for trial in whole:
            if trial.number not in known:
                read = [
                    distribution.to_internal_repr(trial.params[name]) for name, distribution in search_space.items()
                ]
                known[trial.number] = np.array(read, dtype=np.float64)
        columns = np.array([known[trial.number] for trial in whole]).reshape(len(whole), len(search_space)).T.copy()
        return dict(zip(search_space, columns, strict=True))


class _Gp(_Knowing, optuna.samplers.GPSampler):
    pass


class _Nsga2(_Knowing, optuna.samplers.NSGAIISampler):
    pass


class _CmaEs(_Knowing, optuna.samplers.CmaEsSampler):
    """CMA-ES whose draws depend on our number of the trial: Optuna's own counts interrupted ones, too."""

    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(**options)
        self._number = number

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        numbered = copy.copy(trial)
        numbered.number = self._number
        return super().sample_relative(study, numbered, search_space)


def sampler_for(
    kind: SamplerName,
    number: int,
    seed: int,
    startup: int,
    parallel: bool,
    together: Mapping[str, BaseDistribution],
    rows: Rows,
) -> BaseSampler:
    """A new sampler, for one trial; TPE for what the surrogate leaves open."""
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    made: _Knowing
    if kind == "nsga2":
        made = _Nsga2(seed=seed, population_size=min(POPULATION, max(4, startup)))
    elif kind == "cmaes":
        require_package("cmaes", "cmaes", "the sampler 'cmaes' needs")
        made = _CmaEs(number, seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
    elif kind == "gp":
        made = _Gp(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
    else:  # of several objectives, too, all at once: one by one, each parameter would rank all trials again
        made = _Tpe(seed=seed, n_startup_trials=startup, constant_liar=parallel, multivariate=True)
        made.rows = rows
    made.together = together
    return made
