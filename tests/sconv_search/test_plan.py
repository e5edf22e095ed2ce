from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sconv_search import Choice, CompressionPlan
from sconv_search.plan import require_plan

some = settings(max_examples=50, deadline=None, derandomize=True)
FORMAT = "sconv-search plan 1"
CHOICE = Choice(method="structured_conv", structure={"c": 8, "n": 2})

structures = st.dictionaries(st.text(min_size=1), st.integers(), min_size=1, max_size=3)
choices = st.builds(Choice, method=st.text(min_size=1), structure=structures)
plans = st.builds(CompressionPlan, sites=st.dictionaries(st.text(), choices, max_size=4))


@some
@given(plans, st.sampled_from([None, 2]))
def test_a_plan_survives_json(plan: CompressionPlan, indent: int | None) -> None:
    again = CompressionPlan.from_json(plan.to_json(indent=indent))
    assert again == plan
    assert hash(again) == hash(plan)


@some
@given(st.dictionaries(st.text(), choices, min_size=2, max_size=4))
def test_equal_plans_give_equal_text(sites: dict[str, Choice]) -> None:
    backwards = dict(reversed(sites.items()))
    assert CompressionPlan(sites=sites).to_json() == CompressionPlan(sites=backwards).to_json()


def document(**entry: Any) -> str:
    return json.dumps(
        {"format": FORMAT, "sites": {"good": {"method": "cp", "structure": {"rank": 1}}, "layer1.conv": entry}}
    )


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"method": "cp"},
        {"structure": {"rank": 2}},
        {"method": "cp", "structure": {"rank": 2}, "extra": 1},
        {"method": "", "structure": {"rank": 2}},
        {"method": 3, "structure": {"rank": 2}},
        {"method": None, "structure": {"rank": 2}},
        {"method": "cp", "structure": {}},
        {"method": "cp", "structure": [2]},
        {"method": "cp", "structure": None},
        {"method": "cp", "structure": {"rank": 2.0}},
        {"method": "cp", "structure": {"rank": "2"}},
        {"method": "cp", "structure": {"rank": True}},
        {"method": "cp", "structure": {"rank": None}},
        {"method": "cp", "structure": {"rank": float("nan")}},
    ],
)
def test_a_malformed_choice_is_refused_with_its_site(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"plan site 'layer1\.conv'"):
        CompressionPlan.from_json(document(**entry))


@pytest.mark.parametrize("entry", [None, 3, "cp", ["cp", 2]])
def test_a_choice_that_is_no_table_is_refused_with_its_site(entry: object) -> None:
    with pytest.raises(ValueError, match="plan site 'a'"):
        CompressionPlan.from_json(json.dumps({"format": FORMAT, "sites": {"a": entry}}))


@pytest.mark.parametrize("sites", [None, 3, "a", ["a"]])
def test_sites_that_are_no_table_are_refused(sites: object) -> None:
    with pytest.raises(ValueError, match="'sites' must be a table"):
        CompressionPlan.from_json(json.dumps({"format": FORMAT, "sites": sites}))


@pytest.mark.parametrize(
    "text", ["[]", "3", "null", "{}", '{"sites": {}}', '{"format": "sconv-search plan 2", "sites": {}}']
)
def test_another_format_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"'format' must be '{FORMAT}'"):
        CompressionPlan.from_json(text)


def test_a_plan_without_sites_is_refused_as_text() -> None:
    with pytest.raises(ValueError, match="'sites'"):
        CompressionPlan.from_json(json.dumps({"format": FORMAT}))


@some
@given(plans, st.data())
def test_a_truncated_plan_is_refused(plan: CompressionPlan, data: st.DataObject) -> None:
    text = plan.to_json()
    with pytest.raises(ValueError, match="the plan"):
        CompressionPlan.from_json(text[: data.draw(st.integers(0, len(text) - 1))])


def test_values_are_frozen_throughout() -> None:
    plan = CompressionPlan(sites={"a": CHOICE})
    with pytest.raises(FrozenInstanceError):
        plan.sites = {}
    with pytest.raises(TypeError):
        plan.sites["b"] = CHOICE
    with pytest.raises(FrozenInstanceError):
        CHOICE.method = "cp"
    with pytest.raises(TypeError):
        CHOICE.structure["c"] = 1


def test_later_changes_of_the_given_tables_do_not_reach_the_plan() -> None:
    structure, sites = {"c": 8}, {}
    sites["a"] = Choice(method="structured_conv", structure=structure)
    plan = CompressionPlan(sites=sites)
    structure["c"] = 1
    sites.clear()
    assert dict(plan.sites["a"].structure) == {"c": 8}


def test_a_plan_holds_choices_only() -> None:
    with pytest.raises(ValueError, match=r"plan site 'a' must hold a Choice, got \{'c': 1\}"):
        CompressionPlan(sites={"a": {"c": 1}})


def test_a_mixed_plan_divides_by_method() -> None:
    rank = Choice(method="cp", structure={"rank": 2})
    plan = CompressionPlan(sites={"b": CHOICE, "a": rank, "c": CHOICE})
    assert plan.methods == ("cp", "structured_conv")
    assert plan.only("cp") == CompressionPlan(sites={"a": rank})
    assert plan.only("tucker") == CompressionPlan()


def test_a_choice_reads_as_method_and_structure() -> None:
    assert str(CHOICE) == "structured_conv(c=8, n=2)"


def test_plans_and_choices_can_be_pickled_and_copied() -> None:
    plan = CompressionPlan(sites={"a": CHOICE})
    assert pickle.loads(pickle.dumps(plan)) == plan == copy.deepcopy(plan)
    assert pickle.loads(pickle.dumps(CHOICE)) == CHOICE


@some
@given(plans)
def test_written_plans_of_numbers_of_64_bits_are_taken(plan: CompressionPlan) -> None:
    if all(abs(value) < 2**63 for choice in plan.sites.values() for value in choice.structure.values()):
        require_plan(plan.to_json())


SOUND = '{"format": "sconv-search plan 1", "sites": {"a": {"method": "m", "structure": {"c": 1}}}}'


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"c": 1', '"c": 01', "the plan is not JSON"),
        ('"c": 1', '"c": 1.5', "structure entry 'c' must be a whole number, got 1.5"),
        ('"c": 1', '"c": ٣', "the plan is not JSON"),
        ('"c": 1', '"c": 1,', "the plan is not JSON"),
        ('{"c": 1}', "{}", "structure must be a non-empty table"),
        ('"c": 1', f'"c": {2**64}', "structure entry 'c' is too large"),
        ('"m"', '""', "must be the name of a method"),
        ("plan 1", "plan 2", "'format' must be"),
        ("}}}}", "}}}", "the plan is not JSON"),
        ('"a": {', '"a\n": {', "the plan is not JSON"),
    ],
)
def test_a_records_plan_that_is_none_is_refused(old: str, new: str, reason: str) -> None:
    require_plan(SOUND)
    with pytest.raises(ValueError, match=f"^field 'plan' must hold a plan as JSON: .*{reason}"):
        require_plan(SOUND.replace(old, new))
