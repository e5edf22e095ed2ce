"""Ways to search that the search benchmark compares: over budget-filling preferences, and over one integer a layer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import optuna

from benchmarks.search.objective import Objective
from sconv_search.budget import Budgets
from sconv_search.plan import CompressionPlan
from sconv_search.records import TrialRecord
from sconv_search.search_space.space import SearchSpace
from sconv_search.search_space.tables import SpaceArrays
from sconv_search.studies import METHODS
from sconv_search.studies.samplers.random_keys import RandomKeys
from sconv_search.studies.samplers.study import Domain, Sampler
from sconv_search.studies.search.proposals import Proposals
from sconv_search.studies.spec import SamplerName, StudySpec
from sconv_search.studies.tasks import task_named

Found = Iterator[tuple[CompressionPlan, float, float]]
"""Plans in the order found, with loss and top-1."""


class Setting(NamedTuple):
    """What all ways are given."""

    objective: Objective
    space: SearchSpace
    budgets: Budgets


Way = Callable[[Setting, SamplerName, int, int], Found]
"""From a setting, a sampler, a seed and how many plans are wanted."""


def by_rule(setting: Setting, rule: Callable[[SearchSpace, Budgets], CompressionPlan | None]) -> Found:
    """The one plan of a rule of thumb, where it has one."""
    plan = rule(setting.space, setting.budgets)
    if plan is not None:
        yield plan, *setting.objective(plan)


def filling(setting: Setting, kind: SamplerName, seed: int, count: int) -> Found:
    """Plans and scores of budget-filling preferences; TPE begins with the rules' plans, random search does not."""
    spec = StudySpec(
        task="demo",
        methods=tuple(METHODS)[:1],
        budget="50%",
        trials=2 if kind == "random" else 20,
        sampler=kind,
        seed=seed,
        **_schedules(),
    )
    random_keys = RandomKeys(SpaceArrays(setting.space), {name: name for name in setting.space.sites})
    with tempfile.TemporaryDirectory() as folder:
        sampler = Sampler(Path(folder) / "journal", Domain(random_keys=random_keys.names), kind, seed, startup=10)
        proposals = Proposals(spec, setting.space, setting.budgets, sampler, random_keys, None)
        skipped = 2 if kind == "random" else 0  # the two rules that every study begins with
        for number in range(count + skipped):
            job = proposals.next()
            loss, top1 = setting.objective(job.plan)
            told = TrialRecord(
                study="",
                task="",
                stage="search",
                variant="searched",
                status="complete",
                number=job.number,
                plan=job.plan.to_json(),
                val_score=-loss,
            )
            sampler.tell(job.number, told)
            proposals.learn([told])
            if number >= skipped:
                yield job.plan, loss, top1


def _schedules() -> dict[str, Any]:
    known = task_named("demo")
    return {"search_schedule": known.search_schedule, "confirm_schedule": known.confirm_schedule}


def integers(setting: Setting, kind: SamplerName, seed: int, count: int) -> Found:
    """Plans of one integer a layer; those over the budget are told as infeasible and cost no evaluation of the
    network.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = optuna.samplers
    sampler = (
        samplers.TPESampler(seed=seed, n_startup_trials=10) if kind == "tpe" else samplers.RandomSampler(seed=seed)
    )
    study = optuna.create_study(sampler=sampler)
    ordered = {
        name: sorted(options, key=lambda option: option.cost.flops) for name, options in setting.space.sites.items()
    }
    evaluated = 0
    for _ in range(50 * count):
        trial = study.ask()
        taken = {name: trial.suggest_int(name, 0, len(options)) for name, options in ordered.items()}
        plan = CompressionPlan(
            sites={name: ordered[name][at].choice for name, at in taken.items() if at < len(ordered[name])}
        )
        excess = setting.budgets.excess(setting.space.cost(plan))
        trial.set_constraint("excess", excess)
        if excess > 0:
            study.tell(trial, 10 * (1 + excess))
            continue
        loss, top1 = setting.objective(plan)
        study.tell(trial, loss)
        yield plan, loss, top1
        evaluated += 1
        if evaluated == count:
            return
