"""Cells are run in order, go on after an interruption, and give the same rows in processes of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.accuracy.claims.cells import DENSE, SPATIAL_SVD, Cell
from benchmarks.accuracy.claims.running import Made, Row, Start, Study, fit_again, read_rows, run
from sconv_search.studies import StudyContext, context_from_task
from sconv_search.studies.executors.placement import Placement
from sconv_search.studies.monitor import Monitor
from tests.stress.tiny import task

CELLS = [
    Cell(kind=SPATIAL_SVD, budget=60, epochs=0.5, rate=0.005),
    Cell(kind=DENSE, budget=100, epochs=0.5, rate=0.005),
    Cell(kind=SPATIAL_SVD, budget=60, epochs=0.5, rate=0.005, seed=1),
]
STEPS = ["fitted", "reconstructed", "trained", "dense", "trained", "trained"]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> StudyContext:
    cache = tmp_path_factory.mktemp("dense")
    return context_from_task(
        task(), data=None, weights=None, cache=cache, device=torch.device("cpu"), monitor=Monitor()
    )


def study(context: StudyContext, work: Path) -> Study:
    return Study(context=context, work=work, steps=3)


def results(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows without what the clock gave."""
    return [{key: value for key, value in row.items() if not key.endswith("_s")} for row in rows]


@pytest.fixture(scope="module")
def rows(context: StudyContext, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder = tmp_path_factory.mktemp("claims")
    assert run(study(context, folder / "work"), CELLS, folder / "rows.jsonl") == []
    return read_rows(folder / "rows.jsonl")


def test_each_start_is_made_once_before_its_first_cell(rows: list[Row]) -> None:
    assert [row["step"] for row in rows] == STEPS
    assert [row["seed"] for row in rows if row["step"] == "trained"] == [0, 0, 1]
    assert rows[0]["flops"] <= 0.6


def test_fitting_again_replaces_the_rows_of_starts_alone_and_keeps_their_plans(
    context: StudyContext, rows: list[Row], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    former = [{**row, "test": -1.0} for row in rows]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in former))
    fit_again(study(context, tmp_path / "work"), path)
    wanted = [row if row["step"] in ("fitted", "reconstructed") else old for row, old in zip(rows, former, strict=True)]
    assert results(read_rows(path)) == results(wanted)
    assert wanted[0]["test"] != -1.0


@dataclass(frozen=True, kw_only=True)
class Interrupted(Study):
    """Stops before a cell."""

    def evaluate(self, job: Start | Cell, monitor: Monitor, /) -> Made:
        if job == CELLS[1]:
            raise KeyboardInterrupt
        return super().evaluate(job, monitor)


def test_what_was_made_before_an_interruption_is_not_made_again(
    context: StudyContext, rows: list[Row], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(context=context, work=tmp_path / "work", steps=3), CELLS, path)
    before = read_rows(path)
    assert [row["step"] for row in before] == STEPS[:4]
    run(study(context, tmp_path / "work"), CELLS, path)
    assert read_rows(path)[:4] == before
    assert results(read_rows(path)) == results(rows)


@pytest.mark.slow
def test_cells_in_processes_of_their_own_give_the_same_rows(
    context: StudyContext, rows: list[Row], tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    assert run(study(context, tmp_path / "work"), CELLS, path, Placement(workers=2)) == []
    in_order = sorted(map(repr, results(rows)))
    assert sorted(map(repr, results(read_rows(path)))) == in_order


def test_a_cell_that_cannot_be_run_is_told_and_the_others_are_made(context: StudyContext, tmp_path: Path) -> None:
    lost = study(context, tmp_path).failure(CELLS[0], "its node died")
    assert lost == Made(lost="spatial SVD, 60 %, 0.5 epochs at 0.005, seed 0: its node died")
