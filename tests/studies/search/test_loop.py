"""Screening, and the reasons to stop before all trials are trained."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
import pytest

import sconv_search.studies.search.runner
import sconv_search.studies.trials.trial
from sconv_search import CompressionPlan
from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.search.loop import SearchLoop, StoppingCriterion
from sconv_search.studies.search.proposals import Proposals
from sconv_search.studies.search.runner import search
from sconv_search.studies.trials.request import Compressed, TrialRequest
from sconv_search.training.evaluation import Score
from tests.studies.conftest import told

pytestmark = pytest.mark.usefixtures("untrained")


@pytest.fixture
def screens(monkeypatch: pytest.MonkeyPatch) -> list[CompressionPlan]:
    """The plans that were screened, each with a score that follows from its text."""
    found: list[CompressionPlan] = []

    def score(context: StudyContext, compressed: Compressed) -> Score:
        found.append(compressed.network.plan)
        return told(compressed.network.plan, -1.0).final

    monkeypatch.setattr(sconv_search.studies.trials.trial, "validation_score", score)
    return found


@pytest.mark.parametrize("budget", ["50%", "30%..90%"])
def test_screening_trains_as_many_as_asked_and_records_the_others(
    context: StudyContext, spec: StudySpec, folder: RunFolder, screens: list[CompressionPlan], budget: str
) -> None:
    records = search(context, replace(spec, screening=3, trials=12, budget=budget), folder)
    trained = [r for r in records if r.status == "complete"]
    untrained = [r for r in records if r.status == "screened"]
    assert (len(trained), len(records)) == (12, len(trained) + len(untrained))
    assert untrained
    assert all(r.val_score is None for r in untrained)
    assert all(r.screen_score is not None and r.screen_loss is not None for r in records)
    assert all(r.val_score is not None for r in trained)
    assert len(screens) == len(records), "each plan is screened once"
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder.journal)))
    told_trials = [
        t
        for t in optuna.load_study(study_name=folder.name, storage=storage).trials
        if "repeats trial" not in t.user_attrs
    ]
    states = {t.user_attrs["number"]: t.state.name for t in told_trials}
    assert states == {r.number: "COMPLETE" if r.status == "complete" else "PRUNED" for r in records}
    if budget == "50%":
        values = {t.user_attrs["number"]: t.value for t in told_trials if t.state.name == "PRUNED"}
        assert values == {r.number: r.screen_score for r in untrained}


def test_the_promoted_are_the_best_third_so_far(
    context: StudyContext, spec: StudySpec, folder: RunFolder, screens: list[CompressionPlan]
) -> None:
    records = search(context, replace(spec, screening=3, trials=4), folder)
    for place, r in enumerate(records):
        better = sum((other.screen_loss or 0) < (r.screen_loss or 0) for other in records[:place])
        assert (r.status == "complete") == (better < max(1, (place + 1) // 3))


@pytest.mark.parametrize("budget", ["50%", "30%..90%"])
def test_what_was_screened_before_an_interruption_decides_as_if_there_had_been_none(
    context: StudyContext,
    spec: StudySpec,
    folder: RunFolder,
    screens: list[CompressionPlan],
    budget: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    spec = replace(spec, screening=3, trials=12, budget=budget)
    wanted = search(context, spec, folder)
    whole, at = (
        sconv_search.studies.trials.trial.validation_score,
        max(k for k, r in enumerate(wanted) if r.status == "screened"),
    )

    def interrupted(context: StudyContext, compressed: Compressed) -> Score:
        if len(screens) == len(wanted) + at:  # the first after an interruption would be promoted, were none known
            raise KeyboardInterrupt
        return whole(context, compressed)

    again = RunFolder(tmp_path / "again" / folder.name)
    with monkeypatch.context() as patched:
        patched.setattr(sconv_search.studies.trials.trial, "validation_score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search(context, spec, again)
    assert len(again.records()[0]) == at
    found = search(context, spec, again)
    assert [(r.number, r.status, r.plan) for r in found] == [(r.number, r.status, r.plan) for r in wanted]


def test_a_screening_that_is_not_finite_is_a_failure(
    context: StudyContext, spec: StudySpec, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sconv_search.studies.trials.trial,
        "validation_score",
        lambda *args, **options: Score(value=10.0, loss=float("inf")),
    )
    with pytest.raises(RuntimeError, match="the loss is not finite: screen_loss is inf"):
        search(context, replace(spec, screening=2), folder)
    assert {(r.status, r.screen_loss) for r in folder.records()[0]} == {("failed", None)}


def test_a_search_ends_when_its_time_is_up_and_the_same_command_continues(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second passes whenever a trial is trained."""
    now, run_trial = [100.0], sconv_search.studies.trials.trial.run_trial

    def a_second(*args: object, **options: object) -> object:
        now[0] += 1
        return run_trial(*args, **options)

    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", a_second)
    monkeypatch.setattr(sconv_search.studies.search.runner, "SearchLoop", partial(SearchLoop, clock=lambda: now[0]))
    records = search(context, replace(spec, trials=5), folder, notes, stops=StoppingCriterion(seconds=2))
    assert len(records) == 2
    assert "search ends after 2 trainings: the time of 2 s is up; the same command continues" in notes.lines
    assert len(search(context, replace(spec, trials=5), folder, stops=StoppingCriterion(seconds=10))) == 5


def test_numbers_that_jump_are_explained(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, monkeypatch: pytest.MonkeyPatch, untrained: None
) -> None:
    """The second proposal is the first one again, under the next number."""
    following = Proposals.next
    seen: list[TrialRequest] = []

    def again(self: Proposals) -> TrialRequest:
        seen.append(following(self))
        first, number = seen[0], seen[-1].number
        return replace(first, number=number) if len(seen) in (2, 3) else seen[-1]

    monkeypatch.setattr(Proposals, "next", again)
    records = search(context, replace(spec, trials=2), folder, notes)
    assert [r.number for r in records] == [0, 3]
    assert "trials 1 to 2 not evaluated: their plans were suggested before" in notes.lines


def test_a_search_ends_when_nothing_improves(
    context: StudyContext, spec: StudySpec, folder: RunFolder, notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = replace(told(CompressionPlan(), None), final=Score(value=50.0, loss=1.0))
    monkeypatch.setattr(sconv_search.studies.trials.trial, "run_trial", lambda *args, **options: outcome)
    records = search(context, replace(spec, trials=9), folder, notes, stops=StoppingCriterion(patience=2))
    assert len(records) == 3, "the first improves on nothing, two more do not improve on it"
    assert any("2 trainings in a row improved nothing; the same command continues" in line for line in notes.lines)


@pytest.mark.parametrize("name", ["seconds", "patience"])
@pytest.mark.parametrize("value", [0, -1])
def test_stops_are_checked_at_birth(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"Stops.{name} must be positive, got {value}"):
        StoppingCriterion(**{name: value})
