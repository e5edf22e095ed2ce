from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.search.overhead import AFTER, OPTIONS, SITES, Clock, Suggesting, made_up_space, per_minute, report
from sconv_search import TrialRecord
from sconv_search.budget import Budget


def test_trials_a_minute_count_from_when_every_worker_has_ended_one() -> None:
    assert per_minute({"workers": 1, "written": [100.0, 104.0, 108.0]}) == 15
    assert per_minute({"workers": 2, "written": [100.0, 101.0, 110.0, 111.0, 120.0, 121.0]}) == 12


def test_the_made_up_space_reaches_half_and_lists_different_options_cheapest_first() -> None:
    space = made_up_space()
    assert [len(options) for options in space.sites.values()] == [OPTIONS] * SITES
    space.require_reachable(Budget(limit=space.dense.flops // 2))
    for options in space.sites.values():
        assert len({option.choice for option in options}) == OPTIONS
        assert sorted(options, key=lambda one: one.cost.flops) == list(options)


def test_a_study_without_trainings_goes_on_from_trial_to_trial(tmp_path: Path) -> None:
    study = Suggesting(kind="random", folder=tmp_path)
    assert all(processor > 0 < clock for processor, clock in (study.trial() for _ in range(3)))


def test_the_clock_tells_training_and_scoring_from_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmarks.search.overhead.time.perf_counter", lambda: now[0])

    def takes(seconds: float) -> None:
        now[0] += seconds

    clock = Clock()
    train, score = clock.timed("train", takes), clock.timed("score", takes)
    ended = TrialRecord(study="", task="", stage="search", variant="searched", status="complete")
    train(100.0)
    clock.recorded(ended)
    for seconds in (7.0, 8.0):
        train(seconds)
        takes(0.5)
        train(1.0)
        score(2.0)
        clock.recorded(ended)
    assert clock.rows == [{"train": 8.0, "score": 2.0, "all": 10.5}, {"train": 9.0, "score": 2.0, "all": 11.5}]
    with pytest.raises(RuntimeError, match="trial None gave nothing: no memory"):
        clock.recorded(
            TrialRecord(study="", task="", stage="search", variant="searched", status="failed", reason="no memory")
        )


def test_the_report_says_which_bar_was_missed() -> None:
    rows = [
        {
            "part": "suggestions",
            "sampler": kind,
            "after": after,
            "processor": [seconds] * 3,
            "clock": [2 * seconds],
            "load": 1.0,
        }
        for kind, seconds in (("tpe", 0.05), ("random", 0.15), ("gp", 3.0))
        for after in AFTER
    ]
    rows += [{"part": "trials", "epochs": 0.1, "rows": [{"train": 10.0, "score": 2.0, "all": 16.0}] * 2}]
    rows += [
        {"part": "workers", "workers": count, "epochs": 0.1, "written": [step / count for step in range(10)]}
        for count in (1, 2)
    ]
    found = report(rows)
    assert "| tpe |" + 3 * " 50.0 (50.0–50.0); 100 |" in found
    assert found.count("**missed**") == 3
    assert "| 0.1 | 2 | 10.0 | 2.0 | 4.0 | 100.0 | 3.8% | holds |" in found
    assert "| 2 | 120.00 | 2.00 | holds |" in found
