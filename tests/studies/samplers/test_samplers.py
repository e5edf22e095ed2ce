"""Every sampler in whole searches; what a trial gives follows from its plan's text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

import sconv_search.studies.trials.trial
from sconv_search import CompressionPlan, TrialRecord
from sconv_search.budget import Budgets
from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.samplers.study import Domain, Sampler
from sconv_search.studies.search.proposals import Proposals
from sconv_search.studies.search.runner import search
from sconv_search.studies.spec import SAMPLERS

pytestmark = pytest.mark.usefixtures("untrained")
GP_FRONT = pytest.param("gp", "30%..90%", marks=pytest.mark.slow)
FRONTS = tuple(name for name in SAMPLERS if name != "cmaes")


def facts(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    return [(r.number, r.plan, r.regularization, r.val_score, r.origin, r.status) for r in records]


def study(spec: StudySpec, sampler: str) -> StudySpec:
    """More trials than the startup's four and the rules' plans, so that the sampler has a say."""
    return replace(spec, sampler=sampler, trials=8)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs_a_study_without_repetition_in_which_all_fit(
    context: StudyContext, spec: StudySpec, folder: RunFolder, sampler: str
) -> None:
    records = uninterrupted(context, study(spec, sampler), folder)
    folder = _FOLDERS[study(spec, sampler)]
    assert [r.status for r in records] == ["complete"] * 8
    assert len({(r.plan, r.regularization) for r in records}) == 8
    assert all(2 * (r.flops or 0) <= (r.dense_flops or 0) for r in records)
    assert [r.origin for r in records].count(sampler) == 4, "half of the trials are by rule at most"
    (journal,) = optuna_trials(folder)
    assert [t.values for t in journal if "repeats trial" not in t.user_attrs] == [[r.val_score] for r in records]


def optuna_trials(folder: RunFolder) -> Iterator[list]:
    """The finished trials of the folder's studies."""
    import optuna

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder.journal)))
    for name in optuna.get_all_study_names(storage):
        yield optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[int, Budgets]:
    """Trial -> the budgets that it drew."""
    found: dict[int, Budgets] = {}
    proposed = Proposals.next

    def noted(self: Proposals):
        request = proposed(self)
        found[request.number] = request.budgets
        return request

    monkeypatch.setattr(Proposals, "next", noted)
    return found


@pytest.mark.parametrize("sampler", FRONTS)
def test_every_trial_of_a_front_fits_its_own_budget_and_tells_two_objectives(
    context: StudyContext, spec: StudySpec, folder: RunFolder, sampler: str, drawn: dict[int, Budgets]
) -> None:
    records = search(context, replace(study(spec, sampler), budget="30%..90%"), folder)
    assert [r.status for r in records] == ["complete"] * 8
    space = folder.read_space()
    assert space is not None
    for r in records:
        budgets = drawn[r.number or 0]
        assert budgets.ranged is None
        assert budgets.excess(space.cost(CompressionPlan.from_json(r.plan or ""))) <= 0
    limits = [drawn[r.number or 0].limits[0].limit / space.dense.flops for r in records]
    assert all(0.29 < limit <= 0.9 for limit in limits)
    assert len(set(limits)) > 1
    (journal,) = optuna_trials(folder)
    told = [t.values for t in journal if "repeats trial" not in t.user_attrs]
    assert told == [[r.val_score, float(r.flops or 0)] for r in records]


def test_a_front_has_the_objectives_that_were_asked_for(
    context: StudyContext, spec: StudySpec, folder: RunFolder
) -> None:
    asked = replace(spec, budget="30%..90%", objectives=("params", "macs"), trials=3)
    records = search(context, asked, folder)
    (journal,) = optuna_trials(folder)
    assert [t.values for t in journal] == [[r.val_score, float(r.params or 0), float(r.macs or 0)] for r in records]


def test_a_front_by_cmaes_is_refused(spec: StudySpec) -> None:
    with pytest.raises(
        ValueError, match=r"sampler 'cmaes' aims at one objective; .* takes surrogate, tpe, gp, nsga2 or random"
    ):
        replace(spec, sampler="cmaes", budget="30%..90%")


def test_an_unknown_sampler_is_refused_with_those_that_there_are(spec: StudySpec) -> None:
    with pytest.raises(
        ValueError, match="there is no sampler 'grid'; samplers are surrogate, tpe, gp, nsga2, cmaes, random"
    ):
        replace(spec, sampler="grid")  # type: ignore[arg-type]


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def killed_at(
    calls: set[int], original: Callable[..., object], counted: list[int], *, after: bool = False
) -> Callable[..., object]:
    """The function, which dies at the given calls of all commands together, before or after its work."""

    def dies(*args: object, **options: object) -> object:
        counted.append(len(counted))
        found = original(*args, **options) if after else None
        if counted[-1] in calls:
            raise Killed
        return found if after else original(*args, **options)

    return dies


@pytest.mark.parametrize(
    ("sampler", "budget"),
    [*((name, "50%") for name in SAMPLERS), *((name, "30%..90%") for name in FRONTS if name != "gp"), GP_FRONT],
)
def test_a_search_killed_again_and_again_gives_the_records_of_an_uninterrupted_one(
    context: StudyContext,
    spec: StudySpec,
    folder: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    budget: str,
) -> None:
    """In training, while it suggests, before the record is written, and between the record and Optuna."""
    spec = replace(spec, budget=budget)
    whole = uninterrupted(context, study(spec, sampler), folder)
    with monkeypatch.context() as patch:
        patch.setattr(
            sconv_search.studies.trials.trial,
            "run_trial",
            killed_at({6}, sconv_search.studies.trials.trial.run_trial, []),
        )
        patch.setattr(Sampler, "ask", killed_at({1}, Sampler.ask, [], after=True))
        patch.setattr(RunFolder, "append", killed_at({4}, RunFolder.append, []))
        patch.setattr(Sampler, "tell", killed_at({7}, Sampler.tell, []))
        for _ in range(4):
            with pytest.raises(Killed):
                search(context, study(spec, sampler), folder)
        records = search(context, study(spec, sampler), folder)
    assert facts(records) == facts(whole)
    assert facts(folder.records()[0]) == facts(whole)


_WHOLE: dict[StudySpec, list[TrialRecord]] = {}
_FOLDERS: dict[StudySpec, RunFolder] = {}


def uninterrupted(context: StudyContext, spec: StudySpec, folder: RunFolder) -> list[TrialRecord]:
    """The records of the study, searched once for all tests."""
    if spec not in _WHOLE:
        _FOLDERS[spec] = RunFolder(folder.path.parent / "whole")
        _WHOLE[spec] = search(context, spec, _FOLDERS[spec])
    return _WHOLE[spec]


def test_a_search_killed_between_enqueueing_a_plan_and_asking_for_it_continues(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna then holds a trial that waits; telling it a result is an error."""
    import optuna

    whole = uninterrupted(context, study(spec, "tpe"), folder)
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "ask", killed_at({1}, optuna.Study.ask, []))
        with pytest.raises(Killed):
            search(context, study(spec, "tpe"), folder)
    assert facts(search(context, study(spec, "tpe"), folder)) == facts(whole)


def test_trials_interrupted_while_later_ones_ended_come_first(folder: RunFolder) -> None:
    """With several workers trial 0, the first rule's, may be killed after trial 1 has ended."""
    folder.path.mkdir()
    domain = Domain(random_keys=("a",))
    ended = TrialRecord(
        study="s", task="t", stage="search", variant="searched", status="complete", number=1, val_score=50.0
    )
    first = Sampler(folder.journal, domain, "tpe", 0, startup=4)
    for _ in range(4):
        first.ask()
    first.tell(1, ended)
    second = Sampler(folder.journal, domain, "tpe", 0, startup=4)
    assert second.reconcile({1: ended}) == [0, 2, 3]
    assert [second.ask().number for _ in range(3)] == [0, 2, 3]
    third = Sampler(folder.journal, domain, "tpe", 0, startup=4)
    assert third.reconcile({1: ended}) == [0, 2, 3]
    assert third.upcoming == 0


def test_the_seed_decides(context: StudyContext, spec: StudySpec, folder: RunFolder) -> None:
    one, other = (study(replace(spec, seed=seed), "random") for seed in (0, 1))
    first = uninterrupted(context, one, folder)
    second = search(context, other, folder)
    assert facts(first)[:4] == facts(second)[:4], "the rules know no seed"
    assert facts(first)[4:] != facts(second)[4:]
