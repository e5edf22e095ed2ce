"""The surrogate: what it learns that the damage table does not say, and that it keeps away from what runs."""

from __future__ import annotations

import numpy as np
import pytest

from sconv_search.budget import Budget, Budgets
from sconv_search.plan import Choice, CompressionPlan
from sconv_search.records import Cost, TrialRecord
from sconv_search.search_space.decoder import Filling, fill
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.search_space.tables import Positions, SpaceArrays
from sconv_search.studies.samplers.random_keys import RandomKeys
from sconv_search.studies.samplers.surrogate import Surrogate
from sconv_search.studies.samplers.surrogate_search import Candidate, Informed

LAYERS = [f"layer{number}" for number in range(10)]
BUDGETS = Budgets(limits=(Budget(limit=10_000),))


def option(step: int) -> Option:
    choice = Choice(method="structured_conv", structure={"c": 9 - step})
    return Option(choice=choice, cost=Cost(macs=-100 * step, adds=0, params=0), damage=step**2 / 50)


SPACE = SearchSpace(
    dense=Cost(macs=10_000, adds=0, params=10), sites={name: tuple(map(option, range(1, 9))) for name in LAYERS}
)
ARRAYS = SpaceArrays(SPACE)
FILLING = Filling(ARRAYS, BUDGETS)
PREFERENCES = RandomKeys(ARRAYS, {name: name for name in LAYERS})
ROBUST = {name: 0.2 if place % 2 else 3.0 for place, name in enumerate(LAYERS)}
"""By how much the damage table is wrong at each layer."""


def score(plan: CompressionPlan) -> float:
    return 90 - sum(10 * ROBUST[name] * SPACE.option(name, choice).damage for name, choice in plan.sites.items())


def plans(count: int, seed: int) -> list[CompressionPlan]:
    rng = np.random.default_rng(seed)
    made = [fill(SPACE, dict(zip(LAYERS, rng.uniform(-2, 2, len(LAYERS)), strict=True)), BUDGETS) for _ in range(count)]
    return list({plan.to_json(): plan for plan in made}.values())


def taught(count: int = 30) -> Surrogate:
    found = Surrogate(ARRAYS)
    for plan in plans(count, 0):
        found.learn(ARRAYS.positions(plan), score(plan))
    return found


def picked_of(
    surrogate: Surrogate, candidates: list[CompressionPlan], running: list[CompressionPlan]
) -> CompressionPlan:
    return candidates[surrogate.pick(positions(candidates), positions(running))]


def positions(many: list[CompressionPlan]) -> Positions:
    return np.array([ARRAYS.positions(plan) for plan in many])


def test_it_finds_good_plans_among_new_ones_where_the_damage_table_cannot() -> None:
    surrogate, left = taught(), plans(60, 1)
    bound = np.quantile([score(plan) for plan in left], 0.7)
    by_table = sorted(left, key=SPACE.damage)[:10]
    picked = []
    for _ in range(10):
        picked.append(picked_of(surrogate, left, []))
        left.remove(picked[-1])
    assert np.mean([score(plan) for plan in by_table]) < bound < np.mean([score(plan) for plan in picked])


def test_a_plan_that_runs_makes_room_for_another_unlike_it() -> None:
    surrogate, new = taught(5), plans(20, 2)
    first = picked_of(surrogate, new, [])
    assert picked_of(surrogate, new, [first]) != first


def test_plans_that_score_alike_give_no_error() -> None:
    surrogate, (first, second, *others) = Surrogate(ARRAYS), plans(6, 0)
    for plan in (first, second, others[0]):
        surrogate.learn(ARRAYS.positions(plan), 50.0)
    assert picked_of(surrogate, others[1:], []) in others


def record(number: int, plan: CompressionPlan, **changes: object) -> TrialRecord:
    known = {"status": "complete", "val_score": score(plan), "number": number, "plan": plan.to_json(), **changes}
    return TrialRecord(study="s", task="t", stage="search", variant="searched", **known)  # type: ignore[arg-type]


def informed(count: int, *, screened: bool = False) -> Informed:
    found = Informed(ARRAYS, PREFERENCES, 0, screened=screened)
    for number, plan in enumerate(plans(count, 0)):
        found.learn(record(number, plan, screen_score=score(plan)))
    return found


def suggested(search: Informed, number: int) -> Candidate | None:
    return search.suggest(
        number, FILLING, lambda values, sharpness: FILLING.positions(PREFERENCES.by_option(values), sharpness)
    )


def test_equal_records_give_equal_suggestions_and_another_trial_another() -> None:
    first, second = (suggested(informed(12), 12) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first == second
    assert suggested(informed(12), 13) != first


@pytest.mark.parametrize("screened", [False, True])
def test_it_suggests_what_fits_and_is_new_and_soon_better_than_all_it_was_shown(screened: bool) -> None:
    search, known = informed(8, screened=screened), {plan.to_json() for plan in plans(8, 0)}
    shown = max(score(CompressionPlan.from_json(plan)) for plan in known)
    scores = []
    for number in range(8, 28):
        found = suggested(search, number)
        assert found is not None
        assert found.plan.to_json() not in known
        assert BUDGETS.excess(SPACE.cost(found.plan)) <= 0
        known.add(found.plan.to_json())
        search.learn(record(number, found.plan, screen_score=score(found.plan)))
        scores.append(score(found.plan))
    assert max(scores) > shown
    assert np.mean(scores[-10:]) > np.mean([score(plan) for plan in plans(40, 5)])


def test_a_plan_that_failed_or_runs_is_not_suggested_again() -> None:
    search = informed(12)
    first = suggested(search, 12)
    assert first is not None
    search.learn(record(12, first.plan, status="failed", val_score=None, reason="no memory"))
    second = suggested(search, 12)
    assert second is not None
    search.began(13, second.plan)
    third = suggested(search, 12)
    assert third is not None
    assert len({first.plan, second.plan, third.plan}) == 3


def test_it_waits_until_three_plans_are_known() -> None:
    assert suggested(informed(2), 2) is None
