"""What a search tries first and next, on a space made up for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sconv_search import Choice, CompressionPlan, Cost, TrialRecord
from sconv_search.budget import Budget, Budgets
from sconv_search.search_space.decoder import fill
from sconv_search.search_space.heuristics import RULES
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.search_space.tables import SpaceArrays
from sconv_search.studies import StudySpec
from sconv_search.studies.samplers.random_keys import RandomKeys
from sconv_search.studies.samplers.study import Domain, Sampler
from sconv_search.studies.search.proposals import LAST_MEASURED, Proposals, evaluated, first_plans

RANGE = (0.05, 2.0)
DENSE = Cost(macs=1000, adds=0, params=100, latency_ms=10.0)


def option(structure: dict[str, int], saved: int, damage: float, error: float) -> Option:
    cost = Cost(macs=-saved, adds=0, params=0, latency_ms=-saved / 100)
    return Option(choice=Choice(method="structured_conv", structure=structure), cost=cost, damage=damage, error=error)


def made_up() -> SearchSpace:
    """Three sites of eight steps each, on which the rules disagree."""
    scales = {"layer1.0": (1.0, 3.0), "layer1.1": (2.0, 1.0), "layer2.0": (0.5, 2.0)}
    sites = {
        name: tuple(option({"c": 9 - n, "n": 2}, 35 * n, damage * n**2 / 50, error * n / 10) for n in range(1, 9))
        for name, (damage, error) in scales.items()
    }
    return SearchSpace(dense=DENSE, sites=sites)


SPACE = made_up()
FIXED = Budgets(limits=(Budget(limit=1400),))
RANGED = Budgets(limits=(Budget(limit=1800, least=800),))


def test_the_first_plans_of_a_fixed_budget_are_the_rules_and_greedy_with_a_penalty() -> None:
    first = first_plans(SPACE, FIXED, RANGE, 100)
    assert [one.rule for one in first] == ["greedy", "minimax", "greedy", "uniform", "least_error", "least_squares"]
    assert [one.regularization for one in first] == [None, None, 1.0, None, None, None]
    assert first[2].plan == first[0].plan == RULES["greedy"](SPACE, FIXED)
    assert {one.share for one in first} == {1.0}


@pytest.mark.parametrize("budgets", [FIXED, RANGED])
@pytest.mark.parametrize("regularization", [None, RANGE])
def test_no_two_of_the_first_plans_are_alike_and_each_fits_the_budget_at_its_place(
    budgets: Budgets, regularization: tuple[float, float] | None
) -> None:
    first = first_plans(SPACE, budgets, regularization, 100)
    assert len({(one.plan, one.regularization) for one in first}) == len(first)
    for one in first:
        assert budgets.at(one.share).excess(SPACE.cost(one.plan)) <= 0


def test_a_front_starts_at_both_ends_and_the_middle_of_its_range() -> None:
    first = first_plans(SPACE, RANGED, RANGE, 100)
    assert [one.share for one in first] == sorted((one.share for one in first), reverse=True)
    assert {one.share for one in first} == {1.0, 0.5, 0.0}
    penalized = [one for one in first if one.regularization is not None]
    assert [one.plan for one in penalized] == [RULES["greedy"](SPACE, RANGED.at(place)) for place in (1.0, 0.5, 0.0)]


def test_plans_given_come_first_and_again_towards_their_structure_and_the_rules_follow() -> None:
    given = [CompressionPlan(sites={"layer2.0": SPACE.sites["layer2.0"][2].choice}), RULES["greedy"](SPACE, FIXED)]
    first = first_plans(SPACE, FIXED, RANGE, 100, given)
    assert [one.plan for one in first[:4]] == [given[0], given[0], given[1], given[1]]
    assert [one.regularization for one in first[:4]] == [None, 1.0, None, 1.0]
    assert [one.rule for one in first] == ["given"] * 4 + [
        "minimax",
        "uniform",
        "minimax",
        "least_error",
        "least_squares",
    ]
    assert [one.rule for one in first_plans(SPACE, FIXED, None, 2, given)] == ["given", "given", "minimax", "uniform"]


@pytest.mark.parametrize(("trials", "wanted"), [(1, 2), (4, 2), (6, 3), (8, 4), (100, 6)])
def test_the_rules_take_at_most_half_of_the_trials(trials: int, wanted: int) -> None:
    assert len(first_plans(SPACE, FIXED, RANGE, trials)) == wanted
    assert first_plans(SPACE, FIXED, RANGE, trials) == first_plans(SPACE, FIXED, RANGE, 100)[:wanted]


def proposals(spec: StudySpec, folder: Path, budgets: Budgets, groups: dict[str, str]) -> Proposals:
    folder.mkdir(exist_ok=True)
    random_keys = RandomKeys(SpaceArrays(SPACE), groups)
    domain = Domain(random_keys=random_keys.names, regularization=RANGE, ranged=spec.is_front, costs=spec.costs)
    sampler = Sampler(folder / "study.journal", domain, spec.sampler, spec.seed, startup=4)
    return Proposals(spec, SPACE, budgets, sampler, random_keys, RANGE)


SINGLE_PROCESS = {name: name for name in SPACE.sites}


def test_the_rules_come_first_and_then_the_sampler_with_plans_that_fit_where_they_are_drawn(
    spec: StudySpec, tmp_path: Path
) -> None:
    front = replace(spec, budget="40%..90%", trials=12)
    found = proposals(front, tmp_path, RANGED, SINGLE_PROCESS)
    jobs = [found.next() for _ in range(14)]
    first = first_plans(SPACE, RANGED, RANGE, front.trials)
    assert [(j.plan, j.regularization, j.origin) for j in jobs[:6]] == [
        (f.plan, f.regularization, f.rule) for f in first
    ]
    assert [job.number for job in jobs] == list(range(14))
    assert {job.origin for job in jobs[6:]} == {"surrogate"}
    for job in jobs:
        assert job.budgets.excess(SPACE.cost(job.plan)) <= 0
        assert 800 <= job.budgets.limits[0].limit <= 1800
        assert (job.predicted, job.damage) == (SPACE.cost(job.plan), SPACE.damage(job.plan))
    assert len({job.budgets.limits[0].limit for job in jobs[6:]}) == 8


def test_sites_of_a_group_have_one_preference(spec: StudySpec, tmp_path: Path) -> None:
    groups = {"layer1.0": "layer1", "layer1.1": "layer1", "layer2.0": "layer2"}
    alike = replace(SPACE, sites=dict.fromkeys(SPACE.sites, SPACE.sites["layer1.0"]))
    random_keys = RandomKeys(SpaceArrays(alike), groups)
    assert random_keys.names == ("layer1", "layer2")
    sampler = Sampler(tmp_path / "j", Domain(random_keys=random_keys.names), "random", 0, startup=4)
    found = Proposals(spec, alike, FIXED, sampler, random_keys, None)
    plans = [found.next().plan for _ in range(12)][2:]
    assert len(set(plans)) >= 3
    for plan in plans:
        one, other = (
            dict(plan.sites[name].structure)["c"] if name in plan.sites else 9 for name in ("layer1.0", "layer1.1")
        )
        assert abs(one - other) <= 1, "sites of equal options and preference differ by the last step alone"


def measured(plan: CompressionPlan, ratio: float) -> TrialRecord:
    return TrialRecord(
        study="s",
        task="t",
        stage="search",
        variant="searched",
        status="complete",
        plan=plan.to_json(),
        latency_ms=ratio * SPACE.cost(plan).latency_ms,
    )


LATENCY = Budgets(limits=(Budget(limit=8.0, quantity="latency_ms"),))


def next_sampled(spec: StudySpec, folder: Path, records: list[TrialRecord]) -> CompressionPlan:
    found = proposals(replace(spec, budget="latency_ms=80%"), folder, LATENCY, SINGLE_PROCESS)
    found.learn(records)
    return [found.next() for _ in range(3)][-1].plan


@pytest.mark.parametrize(("ratio", "limit"), [(1.25, 6.4), (0.8, 10.0), (1.0, 8.0)])
def test_latencies_are_corrected_by_the_ratio_that_was_measured(
    spec: StudySpec, tmp_path: Path, ratio: float, limit: float
) -> None:
    """What the table says must stay below the budget divided by the ratio, and comes near it."""
    plan = RULES["greedy"](SPACE, LATENCY)
    assert plan is not None
    found = next_sampled(spec, tmp_path, [measured(plan, ratio)])
    assert limit - 0.71 <= SPACE.cost(found).latency_ms <= limit, "steps are of 0.35 ms"


def test_the_median_of_the_last_measurements_counts(spec: StudySpec, tmp_path: Path) -> None:
    plan = RULES["greedy"](SPACE, LATENCY)
    assert plan is not None
    late = [measured(plan, ratio) for ratio in [1.25] * 8 + [100.0] * 7]
    assert len(late) == LAST_MEASURED
    old = [measured(plan, 0.1)] * 50
    assert next_sampled(spec, tmp_path, [*old, *late]) == next_sampled(spec, tmp_path / "other", [measured(plan, 1.25)])


def test_a_corrected_latency_out_of_reach_gives_the_cheapest_plan(spec: StudySpec, tmp_path: Path) -> None:
    plan = RULES["greedy"](SPACE, LATENCY)
    assert plan is not None
    assert next_sampled(spec, tmp_path, [measured(plan, 50.0)]) == SPACE.cheapest(LATENCY)


@pytest.mark.parametrize(("ratio", "limit"), [(1.25, 6.4), (0.8, 10.0), (8 / 6.51, 6.51)])
def test_the_plans_of_rules_follow_what_was_measured_before_them(
    spec: StudySpec, tmp_path: Path, ratio: float, limit: float
) -> None:
    """Else the first three would miss one budget for one reason, and the search give up."""
    corrected = Budgets(limits=(Budget(limit=limit / 1.01, quantity="latency_ms"),))
    found = proposals(replace(spec, budget="latency_ms=80%", trials=12), tmp_path, LATENCY, SINGLE_PROCESS)
    first = found.next()
    assert first.plan == RULES["greedy"](SPACE, LATENCY)
    found.learn([measured(first.plan, ratio)])
    for _ in range(3):
        job = found.next()
        assert job.plan == RULES[job.origin](SPACE, corrected) != RULES[job.origin](SPACE, LATENCY)
        assert job.budgets.limits == LATENCY.limits, "what is measured must fit the budget that was given"


def test_a_rules_plan_is_the_cheapest_where_the_corrected_latency_is_out_of_reach(
    spec: StudySpec, tmp_path: Path
) -> None:
    found = proposals(replace(spec, budget="latency_ms=80%", trials=12), tmp_path, LATENCY, SINGLE_PROCESS)
    found.learn([measured(found.next().plan, 50.0)])
    assert found.next().plan == SPACE.cheapest(LATENCY)


def test_a_plan_that_was_given_stays_as_it_is(spec: StudySpec, tmp_path: Path) -> None:
    plans = [fill(SPACE, {}, Budgets(limits=(Budget(limit=limit),))) for limit in (1400, 1600)]
    given = replace(spec, budget="latency_ms=80%", plans=tuple(plan.to_json() for plan in plans), trials=12)
    found = proposals(given, tmp_path, LATENCY, SINGLE_PROCESS)
    assert found.next().plan == plans[0]
    found.learn([measured(plans[0], 1.5)])
    assert [found.next().plan for _ in range(3)] == [plans[0], plans[1], plans[1]], "each with and without a penalty"


def test_latencies_correct_nothing_where_none_is_limited(spec: StudySpec, tmp_path: Path) -> None:
    plan = fill(SPACE, {}, FIXED)
    found, same = (proposals(spec, tmp_path / name, FIXED, SINGLE_PROCESS) for name in "ab")
    found.learn([measured(plan, 50.0)])
    assert [found.next().plan for _ in range(4)] == [same.next().plan for _ in range(4)]


def test_a_training_counts_more_than_a_screening_of_the_same_plan() -> None:
    plan = fill(SPACE, {}, FIXED)
    trained = measured(plan, 1.0)
    screened = replace(trained, status="screened")
    for records in ([trained, screened], [screened, trained]):
        assert evaluated(records, 0.5) == {(plan.to_json(), None, None): trained}
    weighted = replace(trained, regularization=0.5)
    records = [trained, weighted, replace(weighted, regularized_share=0.5), replace(weighted, regularized_share=0.25)]
    expected = [(None, None), (0.5, 0.5), (0.5, 0.25)]
    assert list(evaluated(records, 0.5)) == [(plan.to_json(), *key) for key in expected]
