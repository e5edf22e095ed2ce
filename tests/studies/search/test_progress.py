from __future__ import annotations

from dataclasses import replace

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search import TrialRecord
from sconv_search.studies import StudySpec
from sconv_search.studies.search.progress import SearchProgress, trial_line
from sconv_search.training.schedule import Schedule

SPEC = StudySpec(
    task="any",
    methods=("spatial_svd",),
    budget="50%",
    trials=8,
    search_schedule=Schedule(epochs=1),
    confirm_schedule=Schedule(epochs=1),
)
FRONT = replace(SPEC, budget="30%..90%")
DENSE = 1000


def record(top1: float | None, flops: int = 500, status: str = "complete", **others) -> TrialRecord:
    known = {"study": "s", "task": "any", "stage": "search", "variant": "searched", "number": 3, "dense_flops": DENSE}
    return TrialRecord(**{**known, "status": status, "val_score": top1, "flops": flops, **others})


# Few values, so that ties are common; some plans cost more than dense.
POINTS = st.lists(
    st.tuples(st.integers(0, 12).map(lambda x: 100 * x), st.integers(0, 10).map(lambda x: 10.0 * x)), max_size=15
)


@given(POINTS)
@settings(deadline=None, derandomize=True)
def test_front_and_hypervolume_are_moocore_s(points: list[tuple[int, float]]) -> None:
    standing = SearchProgress(FRONT, [record(top1, flops) for flops, top1 in points])
    ours = {(r.flops, r.val_score) for r in standing.front}
    if not points:
        assert (ours, standing.hypervolume, standing.best) == (set(), 0.0, None)
        return
    costs = np.array([[flops / DENSE, -top1 / 100] for flops, top1 in points])
    kept = moocore.is_nondominated(costs)
    assert ours == {point for point, is_kept in zip(points, kept, strict=True) if is_kept}
    assert standing.hypervolume == pytest.approx(100 * moocore.hypervolume(costs, ref=np.array([1.0, 0.0])), abs=1e-9)
    assert standing.best is not None
    assert standing.best.val_score == max(top1 for _, top1 in points)


@given(POINTS)
@settings(deadline=None, derandomize=True)
def test_stagnant_counts_since_the_front_last_grew(points: list[tuple[int, float]]) -> None:
    standing, stagnant, before = SearchProgress(FRONT, []), 0, set()
    for flops, top1 in points:
        standing.take(record(top1, flops))
        after = {(r.flops, r.val_score) for r in standing.front}
        stagnant = stagnant + 1 if after == before else 0
        before = after
        assert standing.stagnant == stagnant
    assert standing.trained == standing.fresh == len(points)


def test_under_one_budget_the_best_accuracy_alone_counts() -> None:
    standing = SearchProgress(SPEC, [record(80.0, 500), record(80.0, 400), record(79.0, 100)])
    assert ([r.flops for r in standing.front], standing.stagnant) == ([500], 2)
    standing.take(record(81.0, 500))
    assert ([r.val_score for r in standing.front], standing.stagnant) == ([81.0], 0)


def test_a_front_of_two_costs_keeps_what_is_cheaper_in_one() -> None:
    spec = replace(FRONT, objectives=("flops", "params"))
    standing = SearchProgress(
        spec, [record(80.0, 500, params=70), record(80.0, 600, params=60), record(80.0, 600, params=70)]
    )
    assert [(r.flops, r.params) for r in standing.front] == [(500, 70), (600, 60)]


def test_only_trainings_count_and_those_of_earlier_commands_are_not_fresh() -> None:
    earlier = [
        record(80.0),
        record(None, status="failed", reason="x"),
        record(None, status="screened", screen_score=50.0),
    ]
    standing = SearchProgress(SPEC, earlier)
    assert (standing.trained, standing.fresh, standing.stagnant) == (1, 0, 0)
    standing.take(record(None, status="over_budget", reason="x"))
    standing.take(record(70.0))
    assert (standing.trained, standing.fresh, standing.stagnant) == (2, 1, 1)


def test_a_line_says_what_a_training_gave_and_how_long_the_rest_takes() -> None:
    standing = SearchProgress(SPEC, [record(80.0)])
    found = record(82.5, regularization=0.5, wall_s=12.0)
    standing.take(found)
    assert trial_line(found, standing, 30.0) == (
        "trial 3 (2/8): 50.0 % FLOPs, λ 0.5, validation top-1 82.50 % in 12 s; best 82.50 %"
    )
    standing.take(record(81.0, wall_s=12.0))
    line = trial_line(record(81.0, wall_s=12.0), standing, 60.0)
    assert line.endswith("direct, validation top-1 81.00 % in 12 s; best 82.50 %, 2 a minute, 2.5 min left")


def test_a_line_of_a_front_says_its_size_and_hypervolume() -> None:
    standing = SearchProgress(FRONT, [record(80.0, 800), record(50.0, 500)])
    assert "; front of 2, hypervolume 31.0 %, best 80.00 %" in trial_line(record(50.0, 500, wall_s=1.0), standing, 1.0)


@pytest.mark.parametrize("status", ["failed", "over_budget"])
def test_a_line_of_a_trial_without_result_gives_the_reason(status: str) -> None:
    found = record(None, status=status, reason="the loss is nan")
    assert trial_line(found, SearchProgress(SPEC, []), 1.0) == f"trial 3: {status}, the loss is nan"


def test_a_line_of_a_screened_plan_says_so() -> None:
    found = record(None, status="screened", screen_score=61.5, origin="tpe")
    assert (
        trial_line(found, SearchProgress(SPEC, []), 1.0)
        == "trial 3: 50.0 % FLOPs, tpe, screened at 61.50 %, not trained"
    )


@pytest.mark.parametrize(
    ("seconds", "rate"), [(0.55, "109 a minute"), (10, "6 a minute"), (20, "3 a minute"), (400, "9 an hour")]
)
def test_rates_are_written_without_exponents(seconds: float, rate: str) -> None:
    progress = SearchProgress(SPEC, [])
    found = record(82.5, wall_s=1.0)
    progress.take(found)
    progress.take(found)
    assert f"best 82.50 %, {rate}, " in trial_line(found, progress, 2 * seconds)
