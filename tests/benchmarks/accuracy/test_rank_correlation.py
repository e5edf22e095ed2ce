"""Plans that are compared differ and fill the budget, and the page says how their ranks agree."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.accuracy.rank_correlation import BUDGET, FITTED_ONLY, TRAINED, predicted_damage, random_plans, table
from sconv_search.plan import Choice
from sconv_search.records import Cost
from sconv_search.search_space.space import Option, SearchSpace


def space(sites: int, ranks: int) -> SearchSpace:
    def option(rank: int) -> Option:
        saved = Cost(macs=-(10 - 8 * rank // ranks), adds=0, params=0)
        return Option(choice=Choice(method="spatial_svd", structure={"rank": rank}), cost=saved, damage=1 / (1 + rank))

    options = tuple(map(option, range(ranks)))
    return SearchSpace(
        dense=Cost(macs=12 * sites, adds=0, params=10), sites={f"layer{n}": options for n in range(sites)}
    )


def test_plans_differ_and_fill_the_budget() -> None:
    known = space(sites=8, ranks=8)
    plans = list(random_plans(known, 12))
    assert len({plan.to_json() for plan in plans}) == 12
    shares = [known.cost(plan).flops / known.dense.flops for plan in plans]
    assert all(0.8 * BUDGET <= 100 * share <= BUDGET for share in shares)
    assert [plan.to_json() for plan in random_plans(known, 3)] == [plan.to_json() for plan in plans[:3]]
    assert predicted_damage(known, plans[0]) == pytest.approx(
        sum(1 / (1 + choice.structure["rank"]) for choice in plans[0].sites.values())
    )


def row(number: int, stage: str, epochs: float, score: float) -> dict[str, Any]:
    known = {"number": number, "stage": stage, "epochs": epochs, "damage": float(number), "cpu_s": 2.0 * number}
    return {**known, "validation": score, "test": score + 1, "plan": "{}"}


def test_the_page_says_how_ranks_agree() -> None:
    fitted = [row(number, FITTED_ONLY, 0.0, 80.0 - number) for number in range(4)]
    after = [row(number, TRAINED, 1.0, score) for number, score in enumerate((88.0, 90.0, 89.0))]
    page = table([*after, *fitted])
    assert "| predicted damage | fitted | 1.00 | 4 |" in page
    assert "| fitted | 1 epoch | -0.50 | 3 |" in page
    assert "| 3 | 3.000 | 77.50 |  |" in page
    assert "| 1 epoch | 88.50 to 90.50 | 1.00 | 2 |" in page
