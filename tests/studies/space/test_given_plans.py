"""Plans that are tried before all others: the paper's by name, or from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from sconv_search import Choice, CompressionPlan
from sconv_search.studies import RunFolder, StudyContext, search_network
from sconv_search.studies.selection import EVERYTHING, Selection, offered
from sconv_search.studies.space.given_plans import given_plan, with_given
from tests.studies.conftest import SMALL, Typed

METHODS = ("structured_conv",)
OWN = CompressionPlan(sites={"3": Choice(method="structured_conv", structure={"c": 3, "n": 2})})
"""A choice that the method does not offer by itself: its channels in natural order."""


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 4)
    )


@pytest.mark.parametrize(
    ("methods", "carried"),
    [
        (("structured_conv",), "structured_conv"),
        (("structured_conv", "structured_natural", "cp"), "structured_natural"),
    ],
)
def test_the_papers_plans_are_known_by_name(methods: tuple[str, ...], carried: str) -> None:
    found = given_plan("resnet18/A", network(), methods)
    assert found == CompressionPlan(sites={"3": Choice(method=carried, structure={"c": 8, "n": 2})})


def test_a_plan_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(OWN.to_json())
    assert given_plan(str(tmp_path / "plan.json"), network(), ("cp",)) == OWN
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        given_plan(str(tmp_path / "none.json"), network(), METHODS)
    (tmp_path / "of any name").write_text(OWN.to_json())
    assert given_plan(str(tmp_path / "of any name"), network(), ("cp",)) == OWN
    for damaged, words in ((b'{"format": "sconv', "is not JSON"), (b"\xff", "utf-8")):
        (tmp_path / "damaged.json").write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"^plan file '.*damaged\.json': .*{words}"):
            given_plan(str(tmp_path / "damaged.json"), network(), METHODS)


def test_a_name_that_says_nothing_here_is_refused() -> None:
    with pytest.raises(KeyError, match="unknown plan 'resnet18/Z'; nearest: resnet18/"):
        given_plan("resnet18/Z", network(), METHODS)
    with pytest.raises(
        ValueError, match="'resnet18/A' is one of structured convolutions; add --method structured_natural"
    ):
        given_plan("resnet18/A", network(), ("spatial_svd",))


def test_choices_are_added_once_in_the_networks_order() -> None:
    offers = offered(network(), METHODS)
    plan = CompressionPlan(sites={**OWN.sites, "0": offers["0"][1]})
    found = with_given({name: offers[name] for name in ("5", "0", "3")}, [plan, plan], network(), METHODS, EVERYTHING)
    assert list(found) == ["0", "3", "5"]
    assert found == {"0": offers["0"], "3": [*offers["3"], OWN.sites["3"]], "5": offers["5"]}


@pytest.mark.parametrize(
    ("name", "choice", "selection", "message"),
    [
        ("3", ("cp", {"rank": 2}), EVERYTHING, r"has cp\(rank=2\) at '3'; the study searches structured_conv alone"),
        (
            "3",
            ("structured_conv", {"c": 8, "n": 2}),
            Selection(exclude=("3",)),
            "choice at '3', which is excluded by '3'",
        ),
        ("3", ("structured_conv", {"c": 9, "n": 2}), EVERYTHING, "at '3', where c is 1 to 8"),
        ("3", ("structured_conv", {"c": 4}), EVERYTHING, "at '3', where n is 1 to 3"),
        ("7", ("structured_conv", {"c": 4, "n": 2}), EVERYTHING, "names site '7', which Sequential lacks"),
    ],
)
def test_choices_that_cannot_be_are_refused(name: str, choice: tuple, selection: Selection, message: str) -> None:
    plan = CompressionPlan(sites={name: Choice(method=choice[0], structure=choice[1])})
    with pytest.raises((KeyError, ValueError), match=message):
        with_given({}, [plan], network(), METHODS, selection)


@pytest.mark.usefixtures("untrained")
def test_a_search_trains_the_plan_first_directly_and_towards_its_structure(
    context: StudyContext, tmp_path: Path
) -> None:
    dear = CompressionPlan(sites={**OWN.sites, "8": Choice(method="structured_conv", structure={"c": 288})})
    records = search_network(
        context.network, context.data, tmp_path / "run", budget="100%", trials=3, plans=(OWN.to_json(), dear.to_json())
    )
    assert [(r.plan, r.regularization, r.origin) for r in records] == [
        (OWN.to_json(), None, "given"),
        (OWN.to_json(), 1.0, "given"),
        (dear.to_json(), None, "given"),
    ]
    assert {r.status for r in records} == {"complete"}
    spec = RunFolder(tmp_path / "run").read_spec()
    assert spec is not None
    assert spec.given == (OWN, dear)


def test_a_plan_over_the_budget_is_refused_before_anything_is_trained(context: StudyContext, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"a plan to be tried first is over the budget: measured .* against a budget of"
    ):
        search_network(context.network, context.data, tmp_path / "run", budget="40%", trials=1, plans=(OWN.to_json(),))
    assert not (tmp_path / "run" / "trials.jsonl").exists()


def test_the_command_takes_names_and_files(typed: Callable[..., Typed], tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(OWN.to_json())
    plans = ("--start-plan", "cifar/resnet20/A", "--start-plan", tmp_path / "plan.json")
    command = ("search", "--task", "corners", "--budget", "90%", *plans, *SMALL)
    said = typed(*command, "--trials", 3, "--out", tmp_path / "run")
    assert said.status == 0, said.err
    records = RunFolder(tmp_path / "run").records()[0]
    assert [r.origin for r in records] == ["given"] * 3
    assert (
        records[0].plan
        == CompressionPlan(sites={"3": Choice(method="structured_conv", structure={"c": 8, "n": 2})}).to_json()
    )
    assert records[2].plan == OWN.to_json()
    said = typed("search", "--task", "corners", "--start-plan", "resnet18/C", "--out", tmp_path / "other")
    assert said.status == 2
    assert "unknown plan 'resnet18/C'; nearest: resnet18/" in said.err
    assert len(said.err.strip().splitlines()) == 1
