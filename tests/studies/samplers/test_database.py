"""The study in PostgreSQL: the same trials as with the journal, one command at a time, outages, and restoring."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from torch import nn

import sconv_search as ss
from benchmarks.search.local_postgres import Server
from sconv_search import TrialRecord
from sconv_search.studies import RunFolder, StudyContext, StudySpec
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.monitor import Monitor
from sconv_search.studies.samplers.database import DatabaseLost, StudyDatabase
from sconv_search.studies.search import runner
from sconv_search.studies.search.runner import search
from sconv_search.studies.trials.trial import TrialEvaluator

pytestmark = [pytest.mark.usefixtures("untrained"), pytest.mark.xdist_group("postgresql")]


def facts(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    return [(r.number, r.plan, r.regularization, r.val_score, r.status) for r in records]


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> RunFolder:
    """A folder with a name of its own: all tests share the database."""
    return RunFolder(tmp_path / request.node.name.replace("[", "-").strip("]"))


def trials_of(server: Server, run: RunFolder) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=run.name, storage=server.url()).trials


def forget(server: Server, run: RunFolder) -> None:
    optuna.delete_study(study_name=run.name, storage=server.url())


@pytest.mark.parametrize("sampler", ["surrogate", "tpe"])
def test_the_trials_are_those_with_the_journal_also_when_continued(
    server: Server, context: StudyContext, spec: StudySpec, run: RunFolder, sampler
) -> None:
    spec = replace(spec, trials=5, sampler=sampler)
    wanted = search(context, spec, RunFolder(run.path.parent / "journal"))
    search(context, replace(spec, trials=3), run, storage=server.url())
    records = search(context, spec, run, storage=server.url())
    assert facts(records) == facts(wanted)
    told = [trial for trial in trials_of(server, run) if trial.state.is_finished()]
    assert [trial.user_attrs["number"] for trial in told if "record" in trial.user_attrs] == [r.number for r in records]
    assert [trial.value for trial in told if "record" in trial.user_attrs] == [r.quality for r in records]
    assert facts(search(context, replace(spec, trials=5), run)) == facts(wanted), "the journal is its copy"


def test_lost_records_are_restored_from_the_database(
    server: Server, context: StudyContext, spec: StudySpec, run: RunFolder, notes
) -> None:
    wanted = search(context, replace(spec, trials=5), run, storage=server.url())
    lines = run.trials.read_bytes().splitlines(keepends=True)
    run.trials.write_bytes(b"".join(lines[:2]))
    assert search(context, replace(spec, trials=5), run, notes, storage=server.url()) == wanted
    assert f"{run.trials}: 3 records restored from the database" in notes.lines
    again = RunFolder(run.path.parent / "elsewhere" / run.name)
    assert facts(search(context, replace(spec, trials=6), again, storage=server.url()))[:5] == facts(wanted)


@pytest.mark.parametrize("journal", [True, False], ids=["with its copy", "from records alone"])
def test_a_lost_database_is_restored_from_the_folder(
    server: Server, context: StudyContext, spec: StudySpec, run: RunFolder, notes, journal: bool
) -> None:
    spec = replace(spec, sampler="tpe" if journal else "surrogate")
    wanted = search(context, replace(spec, trials=5), RunFolder(run.path.parent / "whole"))
    search(context, replace(spec, trials=4), run, storage=server.url())
    before = [(t.state, t.values, t.params if journal else None) for t in trials_of(server, run)]
    forget(server, run)
    if not journal:
        run.journal.unlink()
    records = search(context, replace(spec, trials=5), run, notes, storage=server.url())
    assert "the database: 4 trials restored from the folder" in notes.lines
    assert [(t.state, t.values, t.params if journal else None) for t in trials_of(server, run)][:4] == before
    assert facts(records)[:4] == facts(wanted)[:4]
    if journal:
        assert facts(records) == facts(wanted), "the sampler has forgotten nothing"


def test_another_study_under_the_name_is_refused_and_replaced_only_when_asked(
    server: Server, context: StudyContext, spec: StudySpec, run: RunFolder
) -> None:
    search(context, spec, run, storage=server.url())
    other = RunFolder(run.path.parent / "elsewhere" / run.name)
    with pytest.raises(
        ValueError, match=rf"holds another study '{run.name}': budget was '50%', is '60%'; name another"
    ):
        search(context, replace(spec, budget="60%"), other, storage=server.url())
    assert len(trials_of(server, run)) == 3
    assert len(search(context, replace(spec, budget="60%"), other, storage=server.url(), overwrite=True)) == 3
    with pytest.raises(ValueError, match=r"holds another study .*: budget was '60%', is '50%'"):
        search(context, spec, run, storage=server.url())


def test_a_run_of_other_trials_is_refused(
    server: Server, context: StudyContext, spec: StudySpec, run: RunFolder
) -> None:
    records = search(context, spec, run, storage=server.url())
    changed = [replace(records[0], plan=records[1].plan), *records[1:]]
    run.trials.write_text("".join(f"{r.to_json()}\n" for r in changed))
    with pytest.raises(ValueError, match=r"hold different trials 0; they are of two runs: name another folder"):
        search(context, replace(spec, trials=4), run, storage=server.url())


def test_a_second_command_is_refused_and_takes_over_when_the_first_is_gone(server: Server) -> None:
    first, second = StudyDatabase(server.url()), StudyDatabase(server.url())
    with first.locked("one"):
        refused = pytest.raises(RuntimeError, match=r"another command is working on the study 'one' in .*://tests:\*+@")
        with refused, second.locked("one"):
            pass
        with second.locked("two"):
            pass
    with second.locked("one"):
        pass


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"password": "wrong"}, 'password authentication failed for user "tests"'),
        ({"database": "none"}, 'database "none" does not exist'),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_without_its_password(
    server: Server, changed: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValueError, match=r"cannot be used: ") as said, StudyDatabase(server.url(**changed)).locked("x"):
        pass
    assert reason in str(said.value)
    assert "wrong" not in str(said.value).replace(reason, "")


@pytest.mark.parametrize("url", ["sqlite:///x.db", "postgresql://h/x", "postgresql+psycopg://h", "text", ""])
def test_what_is_no_database_is_refused(url: str) -> None:
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed; `pip install 'sconv-search[cluster]'`")
    with pytest.raises(ValueError, match=r"a database is postgresql\+psycopg://USER@HOST:PORT/DATABASE"):
        StudyDatabase(url)


class Striking(Monitor):
    """Does something when so many records are written."""

    def __init__(self, after: int, strike: Callable[[], object]) -> None:
        self.lines: list[str] = []
        self._after, self._strike = after, strike

    def say(self, text: str) -> None:
        self.lines.append(text)

    def recorded(self, record: TrialRecord) -> None:
        self._after -= 1
        if not self._after:
            self._strike()


@pytest.mark.parametrize("away_s", [1.5, pytest.param(30.0, marks=pytest.mark.slow)])
def test_a_search_waits_for_a_database_that_is_gone_for_a_while(
    server: Server, context: StudyContext, spec: StudySpec, run: RunFolder, away_s: float
) -> None:
    """It comes back as soon as the search has said that it waits."""
    wanted = search(context, replace(spec, trials=6), RunFolder(run.path.parent / "journal"))
    monitor = Striking(3, server.stop)
    waits = monitor.say

    def say(text: str) -> None:
        waits(text)
        if "the database does not answer" in text:
            threading.Timer(away_s, server.start).start()

    monitor.say = say  # type: ignore[method-assign]
    records = search(context, replace(spec, trials=6), run, monitor, storage=server.url())
    assert facts(records) == facts(wanted)
    assert [line.partition(" (")[0] for line in monitor.lines if "database" in line][:1] == [
        "the database does not answer"
    ]
    assert any("the database answers again, after" in line for line in monitor.lines)
    assert sum("record" in trial.user_attrs for trial in trials_of(server, run)) == 6


def test_a_database_that_stays_away_ends_the_search_which_then_continues(
    server: Server, context: StudyContext, spec: StudySpec, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = runner.StudyDatabase
    monkeypatch.setattr(runner, "StudyDatabase", lambda url, say: made(url, say, most_s=1.5))
    wanted = search(context, replace(spec, trials=5), RunFolder(run.path.parent / "journal"))
    try:
        with pytest.raises(DatabaseLost, match=r"did not answer for \d+ s: .*; all records are in the run's folder"):
            search(context, replace(spec, trials=5), run, Striking(2, server.stop), storage=server.url())
    finally:
        server.start()
    assert facts(run.records()[0]) == facts(wanted)[:2]
    assert facts(search(context, replace(spec, trials=5), run, storage=server.url())) == facts(wanted)


def test_a_study_that_another_command_took_during_an_outage_is_given_up(server: Server) -> None:
    first, second = StudyDatabase(server.url()), StudyDatabase(server.url())
    with first.locked("taken"):
        first.require_held()
        server.stop()
        server.start()
        with second.locked("taken"), pytest.raises(DatabaseLost, match="another command took over the study 'taken'"):
            first.require_held()


def test_a_study_from_python_lies_in_the_database(server: Server, run: RunFolder) -> None:
    network, inputs = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(144, 3)), torch.randn(8, 2, 8, 8)
    study = ss.Study(
        network,
        inputs[:1],
        out=run.path,
        data=[inputs],
        score=lambda network: float(network(inputs).mean()),
        fit=lambda network, penalty, epochs: None,
        budget="80%",
        methods="spatial_svd",
    )
    records = study.search(trials=1, storage=server.url())
    told = [trial.user_attrs["number"] for trial in trials_of(server, run) if "record" in trial.user_attrs]
    assert told == [record.number for record in records]
    assert len(told) == 1


class OutOfOrder:
    """Evaluates here, several jobs at a time, which end in an order that a seed draws."""

    slots = 3

    def __init__(self, evaluator: TrialEvaluator, seed: int) -> None:
        self._evaluator, self._draw, self._jobs = evaluator, np.random.default_rng(seed), []

    def submit(self, job) -> None:
        self._jobs.append(job)

    def result(self):
        job = self._jobs.pop(int(self._draw.integers(len(self._jobs))))
        return job, self._evaluator.evaluate(job, Monitor())

    def close(self) -> None:
        """Nothing was started."""


def test_with_several_slots_seed_and_order_decide_with_a_journal_and_a_database(
    server: Server, context: StudyContext, spec: StudySpec, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sconv_search.studies.executors import placement

    def searched(folder: str, seed: int, **options: str) -> list[tuple[object, ...]]:
        monkeypatch.setattr(placement, "Processes", lambda evaluator, count, monitor: OutOfOrder(evaluator, seed))
        whole = replace(spec, trials=12, sampler="tpe")
        found = search(context, whole, RunFolder(run.path.parent / folder), placement=Placement(workers=3), **options)
        return facts(found)

    first = searched("first", 0)
    assert searched("second", 0) == first
    assert searched(run.name, 0, storage=server.url()) == first
    assert searched("third", 1) != first
