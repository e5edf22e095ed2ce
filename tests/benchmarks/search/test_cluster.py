from __future__ import annotations

import pytest

from benchmarks.search import cluster
from benchmarks.search.sleeping import run, sleeping_context, spec_of


def test_what_a_trial_costs_beside_its_training_leaves_out_the_first_of_each_slot() -> None:
    assert cluster._per_trial([100.0, 101.0, 102.0], 1) == pytest.approx(1 - cluster.SECONDS)
    assert cluster._per_trial([50.0, 100.0, 101.0, 102.0], 2) == pytest.approx(2 - cluster.SECONDS)
    assert cluster._rate([0.0, 60.0, 61.0, 62.0], 2) == pytest.approx(60)


def test_the_page_says_what_holds() -> None:
    scaling = {"part": "scaling", "kind": "threads of the coordinator", "load": 1.0}
    rows = [
        {"part": "faults", "seconds": 12.3, "node": 20, "complete": 200, "same best plan": True},
        {"part": "overhead", "trials": 8, "load": 1.0, "seconds a trial": {"in this process": 0.25}},
        {**scaling, "slots": 2, "rate": 2 * 60 / cluster.SLEEP_S},
        {**scaling, "slots": 4, "rate": 0.5 * 4 * 60 / cluster.SLEEP_S},
        {"part": "fairness", "before": [3, 1], "ended": [11, 9], "load": 1.0},
        {"part": "suggestions", "sampler": "tpe", "told": 5000, "pending": 256, "load": 1.0, "seconds": [0.1, 0.25]},
    ]
    text = "\n".join(cluster.page(rows))
    assert "| nodes killed | 20 |" in text
    assert "| in this process | 0.25 |" in text
    assert "| threads of the coordinator | 2 | 8.0 | 1.00 | holds | 1.0 |" in text
    assert "| threads of the coordinator | 4 | 8.0 | 0.50 | **missed** | 1.0 |" in text
    assert "the first ended 11 trials and the second 9" in text
    assert "| tpe | 5,000 | 256 | 0.10, 0.25 | 1.0 |" in text


@pytest.mark.slow
def test_a_sleeping_search_gives_scores_that_follow_from_plans(tmp_path) -> None:
    first, second = (run(tmp_path / name, 2, 0.0)[0] for name in ("a", "b"))
    assert [(r.plan, r.val_score) for r in first] == [(r.plan, r.val_score) for r in second]
    assert first[0].val_score != first[1].val_score
    assert spec_of(sleeping_context(0.0), 7).trials == 7
