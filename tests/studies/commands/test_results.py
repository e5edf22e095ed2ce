"""With --json each command prints one document on stdout, and all its news on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sconv_search.reports.page import make_report
from sconv_search.reports.reading.records_table import read_runs
from sconv_search.studies import RunFolder, StudySpec, Task, recipes, tasks
from tests.reports.conftest import confirm, parquet, write_run
from tests.studies.conftest import SMALL, Typed

__all__ = ["write_run"]  # a fixture


def document(said: Typed) -> dict[str, Any]:
    assert said.status == 0, said
    found: dict[str, Any] = json.loads(said.out)
    return found


@pytest.mark.usefixtures("pictures")
def test_search_confirm_report_and_compare_print_what_they_made(typed: Callable[..., Typed], tmp_path: Path) -> None:
    run, page = tmp_path / "run", tmp_path / "report"
    said = typed("search", "--task", "corners", "--out", run, "--json", *SMALL)
    found = document(said)
    assert "next: sconv-search confirm" in said.err
    assert "sites, each with its number of options: " in said.err
    assert found["trials"] == {"complete": 2, "screened": 0, "over_budget": 0, "failed": 0}
    assert {name: Path(path).name for name, path in found["files"].items()} == {
        "records": "trials.jsonl",
        "spec": "spec.json",
        "space": "space.json",
    }
    records = RunFolder(run).records()[0]
    best = max(records, key=lambda r: (r.val_score or 0, -(r.flops or 0)))
    assert (found["best"]["number"], found["best"]["val_score"]) == (best.number, best.val_score)
    assert found["best"]["plan"] == json.loads(best.plan or "")
    assert found["study"]["task"] == "corners"

    said = typed("confirm", run, "--seeds", 2, "--plans", 1, "--device", "cpu", "--json")
    found = document(said)
    assert "seed 1: test top-1" in said.err
    assert (found["new"], found["trials"]["complete"]) == (
        7,
        7,
    )  # dense once, else two seeds: fine-tuned, searched, uniform
    searched = next(network for network in found["networks"] if network["network"].startswith("searched"))
    assert searched["seeds"] == [0, 1]
    assert searched["test_score_mean"] == pytest.approx(sum(searched["test_score"]) / 2)
    assert all((Path(place) / "weights.safetensors").is_file() for place in searched["saved"])
    assert len(searched["saved"]) == 2

    said = typed("report", run, "--out", page, "--json")
    found = document(said)
    assert Path(found["page"]) == page / "index.html"
    assert {Path(file) for file in found["files"]} == {path for path in page.rglob("*") if path.is_file()}
    assert f"report: open {page / 'index.html'}" in said.err


@pytest.fixture
def reports(write_run: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """The data of two reports: of a plan with one seed, and with two."""
    rows = [confirm(90.0, 0, flops=40_000_000), confirm(91.0, 1, flops=40_000_000)]
    folders = [tmp_path / "older", tmp_path / "newer"]
    for count, folder in enumerate(folders, start=1):
        (folder / "data").mkdir(parents=True)
        for name, table in make_report(read_runs([write_run(f"{count}/run", rows[:count])])).data.items():
            (folder / "data" / f"{name}.parquet").write_bytes(parquet(table))
    return folders


def test_a_comparison_is_a_table_or_json(typed: Callable[..., Typed], reports: list[Path]) -> None:
    found = document(typed("compare", *reports, "--json"))
    assert found["changed"] is True
    counted, score, seeds = found["changes"]
    assert (counted["kind"], counted["subject"], counted["before"], counted["after"]) == (
        "trials",
        "run, confirm, complete",
        1,
        2,
    )
    assert (score["quantity"], score["before"], score["after"]) == ("test top-1", 90.0, 90.5)
    assert (seeds["quantity"], seeds["before"], seeds["after"]) == ("seeds", 1, 2)
    rows = typed("compare", *reports).out.splitlines()
    assert rows[0].split() == ["change", "of", "before", "after", "difference"]
    assert next(row for row in rows if "run, confirm, complete" in row).split()[-2:] == ["1", "2"]
    assert next(row for row in rows if "test top-1" in row).split()[-2:] == ["+0.50", "points"]


def test_equal_reports_have_no_changes(typed: Callable[..., Typed], reports: list[Path]) -> None:
    found = document(typed("compare", reports[0], reports[0], "--json"))
    assert (found["changed"], found["changes"]) == (False, [])
    assert typed("compare", reports[0], reports[0]).out.startswith("nothing changed")


def test_the_demo_prints_all_its_steps(
    typed: Callable[..., Typed], task: Task, spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo as it is takes minutes; here its task and recipe are tiny, and nothing is drawn."""
    monkeypatch.setattr(tasks, "TASKS", {"demo": replace(task, name="demo")})
    monkeypatch.setattr(
        "sconv_search.studies.commands.report.write_report", lambda runs, out, progress, **options: [out / "index.html"]
    )
    monkeypatch.setattr(recipes, "demo", lambda: [replace(spec, task="demo", trials=1)])
    said = typed("demo", "--runs", tmp_path, "--seeds", 1, "--json")
    found = document(said)
    assert [search["trials"]["complete"] for search in found["search"]] == [1]
    assert found["confirm"]["new"] == 4
    assert found["report"]["files"] == [str(tmp_path / "demo-report" / "index.html")]
    assert "confirmation on the full schedule" in said.err


def test_what_a_report_cannot_read_is_said(
    typed: Callable[..., Typed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(runs: object, out: Path, progress: object, *, tell: Callable[..., None], **options: object) -> list[Path]:
        tell([f"space.json {number} is not read" for number in range(7)])
        return []

    monkeypatch.setattr("sconv_search.studies.commands.report.write_report", write)
    said = typed("report", "runs/a", "--out", tmp_path / "page")
    lines = said.err.splitlines()
    assert (said.status, len(lines), lines[0]) == (0, 6, "space.json 0 is not read"), said
    assert "and 2 more" in lines[-1]


def test_nothing_is_printed_on_stdout_where_a_command_fails(typed: Callable[..., Typed], tmp_path: Path) -> None:
    said = typed("confirm", tmp_path, "--json")
    assert (said.status, said.out) == (2, "")
    assert "holds no study" in said.err


def test_a_comparison_names_what_is_no_report(typed: Callable[..., Typed], tmp_path: Path) -> None:
    said = typed("compare", tmp_path, tmp_path)
    assert said.status == 2
    assert "holds no data/trials.parquet; give two folders that `sconv-search report` wrote" in said.err
