"""``sconv-search best``: what a run holds under any budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sconv_search import Choice, CompressionPlan, Cost, TrialRecord
from sconv_search.search_space.space import Option, SearchSpace
from sconv_search.studies import RunFolder, StudySpec

DENSE = Cost(macs=1000, adds=0, params=100)


@pytest.fixture
def run(spec: StudySpec, tmp_path: Path) -> RunFolder:
    """Trials at 80, 60 and 40 % of the dense FLOPs; the second confirmed with two seeds."""
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        folder.write("spec.json", replace(spec, budget="30%..90%").to_json())
        choice = Choice(method="spatial_svd", structure={"rank": 1})
        option = Option(choice=choice, cost=Cost(macs=-700, adds=0, params=-1), damage=1.0)
        folder.write_space(SearchSpace(dense=DENSE, sites={"0": (option,)}))
        for number, (macs, top1) in enumerate([(800, 95.0), (600, 94.0), (400, 80.0)]):
            plan = CompressionPlan(sites={"0": Choice(method="spatial_svd", structure={"rank": number + 1})}).to_json()
            known = {"study": "run", "task": "corners", "variant": "searched", "status": "complete", "number": number}
            cost = {
                "macs": macs,
                "adds": 0,
                "flops": 2 * macs,
                "params": 100 - number,
                "activations": 5,
                "dense_flops": 2000,
            }
            folder.append(
                TrialRecord(stage="search", val_score=top1, plan=plan, methods="spatial_svd", **known, **cost)
            )
            for seed in range(2) if number == 1 else ():
                folder.append(
                    TrialRecord(stage="confirm", test_score=93.0 + seed, seed=seed, plan=plan, **known, **cost)
                )
    return folder


@pytest.mark.parametrize(("budget", "number"), [((), 0), (("--budget", "70%"), 1), (("--budget", "macs=450"), 2)])
def test_the_best_that_fits_is_shown_and_written(
    typed: Callable, run: RunFolder, budget: tuple[str, ...], number: int
) -> None:
    file = run.path.parent / "plans" / "plan.json"
    said = typed("best", run.path, *budget, "--plan", file, "--json")
    assert said.status == 0
    (found,) = json.loads(said.out)["plans"]
    assert found["trial"] == number
    assert found["test_score"] == ([93.0, 94.0] if number == 1 else [])
    assert CompressionPlan.from_json(file.read_text()).sites["0"].structure == {"rank": number + 1}


def test_a_person_reads_share_and_scores(typed: Callable, run: RunFolder) -> None:
    said = typed("best", run.path, "--budget", "70%")
    assert "60.0%" in said.out
    assert "93.50 % ± 0.71 (n = 2)" in said.out


@pytest.mark.parametrize("columns", [None, "0", "20"])
def test_no_width_cuts_what_a_program_reads(
    typed: Callable, run: RunFolder, monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    monkeypatch.delenv("COLUMNS") if columns is None else monkeypatch.setenv("COLUMNS", columns)
    (line,) = [line for line in typed("best", run.path).out.splitlines() if "spatial_svd" in line]
    assert line.split() == ["run", "0", "spatial_svd", "80.0%", "100", "95.00", "%", "not", "confirmed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budget", "30%"), "fits 30%; the cheapest has 800 FLOPs (40.0%)"),
        (("--budget", "latency_ms=5ms"), "budget 'latency_ms=5ms'"),
        (("--budget", "fifty"), "budget 'fifty' is not understood"),
    ],
)
def test_what_cannot_be_met_is_said(typed: Callable, run: RunFolder, arguments: tuple[str, ...], message: str) -> None:
    said = typed("best", run.path, *arguments)
    assert said.status == 2
    assert message in said.err


def test_a_folder_without_a_study_is_named(typed: Callable, tmp_path: Path) -> None:
    said = typed("best", tmp_path / "absent")
    assert said.status == 2
    assert "holds no study" in said.err
