"""Every way of the search benchmark gives as many plans as are wanted, all within the budget, and is measured once."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.search import quality as search_quality
from benchmarks.search.strategies import Setting, filling, integers
from benchmarks.search.tables import report
from sconv_search import CompressionPlan
from sconv_search.budget import Budget, Budgets
from tests.studies.search.test_proposals import SPACE

HALF = Budgets(limits=(Budget(limit=1400),))


class PredictedDamage:
    """Stands in for the loss of a network: damage as the table predicts it."""

    worked = charged = 0.0

    def __init__(self, start: Any = None) -> None:
        self.asked: list[CompressionPlan] = []

    def __call__(self, plan: CompressionPlan) -> tuple[float, float]:
        self.asked.append(plan)
        return sum(
            option.damage
            for name, choice in plan.sites.items()
            for option in SPACE.sites[name]
            if option.choice == choice
        ), 50.0


@pytest.mark.parametrize(
    ("way", "kind"), [(filling, "surrogate"), (filling, "random"), (integers, "tpe"), (integers, "random")]
)
def test_a_way_gives_the_wanted_number_of_plans_within_the_budget(way: Any, kind: str) -> None:
    objective: Any = PredictedDamage()
    found = list(way(Setting(objective, SPACE, HALF), kind, 0, 6))
    assert len(found) == 6
    for plan, loss, top1 in found:
        assert HALF.excess(SPACE.cost(plan)) <= 0
        assert (loss, top1) == PredictedDamage()(plan)
    if way is filling and kind == "random":
        assert len(objective.asked) == 8, "the rules' two plans are scored, and not counted as random search's"


def test_what_a_file_has_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[PredictedDamage] = []
    monkeypatch.setattr(search_quality, "NETWORKS", {"demo": lambda shared: SimpleNamespace()})
    monkeypatch.setattr(search_quality, "Objective", lambda start: made.append(PredictedDamage()) or made[-1])
    monkeypatch.setattr(search_quality, "_measured", lambda start, method, cache: SPACE)
    rows = tmp_path / "rows.jsonl"
    given = argparse.Namespace(method=["structured_conv"], budget=[70], seeds=2, ours=3, tpe=0, others=2, integers=0)
    search_quality.measure("demo", tmp_path, rows, given)
    first = rows.read_text()
    found = [json.loads(line) for line in first.splitlines()]
    assert {(row["way"], row["seed"]): len(row["loss"]) for row in found if "fills" in row["way"]} == {
        (search_quality.OURS, 0): 3,
        (search_quality.OURS, 1): 3,
        (search_quality.RANDOM, 0): 2,
        (search_quality.RANDOM, 1): 2,
    }
    assert all(share <= 0.7 for row in found for share in row["flops"])
    search_quality.measure("demo", tmp_path, rows, given)
    assert rows.read_text() == first
    assert made[1].asked == []
    assert "## demo, structured_conv, 70 % of dense FLOPs" in report(found)
