"""Synthetic run folders that look like a small comparison on one pretrained network."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sconv_search.records import Metric, TrialRecord
from sconv_search.reports.data_files import write_tables
from sconv_search.reports.reading.records_table import record_frame, with_derived
from sconv_search.reports.reading.runs import RunFacts
from sconv_search.reports.wording import ScoreFormat

DENSE_FLOPS = 82_000_000
METHODS = ("structured_conv", "spatial_svd", "weight_svd", "tucker", "cp", "channel_pruning")


def record(**columns: Any) -> TrialRecord:
    """A complete search trial, but for the columns given."""
    defaults: dict[str, Any] = {
        "study": "study",
        "task": "cifar10/resnet20",
        "stage": "search",
        "variant": "searched",
        "status": "complete",
        "methods": "structured_conv",
        "dense_flops": DENSE_FLOPS,
    }
    return TrialRecord(**defaults | columns)


def to_table(records: Iterable[TrialRecord], runs: Sequence[RunFacts] = ()) -> pd.DataFrame:
    """The records as a report's table, each of a run with its study's name."""
    rows = list(records)
    return with_derived(record_frame([vars(row) for row in rows]), [row.study for row in rows], runs)


def parquet(table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    write_tables(table, io.BytesIO(), file)
    return file.getvalue()


SCORES = ScoreFormat(metric=Metric("top-1", unit="%"))
LOSS = ScoreFormat(metric=Metric("val loss", better="lower", unit="nat"))
OF_LOSS = {"metric": "val loss", "metric_unit": "nat", "metric_better": "lower"}
"""Columns of records that are scored by a loss."""
TRIALS = 20
SITES = ("conv1", "layer1.conv1", "layer2.conv1")
OPTIONS = 4


def plan(method: str, places: Iterable[int]) -> str:
    """A plan that takes option ``place`` at each site."""
    sites = {
        site: {"method": method, "structure": {"rank": place + 1}} for site, place in zip(SITES, places, strict=True)
    }
    return json.dumps({"format": "sconv-search plan 1", "sites": sites})


def space(method: str) -> dict[str, Any]:
    """A search space in which option ``place`` of every site saves ``(OPTIONS - place)`` MMACs, for a damage of as
    much.
    """
    options = [
        {
            "method": method,
            "structure": {"rank": place + 1},
            "cost": {"macs": -1_000_000 * (OPTIONS - place), "adds": 0, "params": 0},
            "damage": float(OPTIONS - place),
        }
        for place in range(OPTIONS)
    ]
    dense = {"macs": DENSE_FLOPS // 2, "adds": 0, "params": 270_000}
    return {"format": "sconv-search space 1", "dense": dense, "sites": dict.fromkeys(SITES, options)}


def spec(method: str, **entries: Any) -> dict[str, Any]:
    """A study's spec, as far as a report reads it."""
    checksums = {"weights_sha256": "a" * 64, "data_sha256": "b" * 64}
    return (
        {"methods": [method], "trials": 40, "seed": 0, "budget": "50%", "search_schedule": {"epochs": 2.0}}
        | checksums
        | entries
    )


LAYERS = json.dumps(
    {
        site: {
            "kind": "Conv2d",
            "weight": [16, 16, 3, 3],
            "before": [1_000_000, 0, 2304],
            "after": [400_000, 10_000, 1000 + place],
        }
        for place, site in enumerate(SITES)
    }
)
COURSE = json.dumps({"epochs": [0.0, 1.5, 3.0], "sites": {"conv1": [0.6, 0.3, 0.02], "layer1.conv1": [0.5, 0.2, 0.01]}})


def confirm(test_score: float, seed: int = 0, **columns: Any) -> TrialRecord:
    return record(stage="confirm", test_score=test_score, seed=seed, **columns)


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes records, or text as it stands, as a run folder."""
    return lambda name, lines: run_folder(tmp_path / "runs" / name, lines)


def run_folder(folder: Path, lines: Iterable[TrialRecord | str]) -> Path:
    """The folder, with records, or text as it stands; a plan that is no table becomes one with a site of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line if isinstance(line, str) else _with_whole_plan(line).to_json()}\n" for line in lines)
    (folder / "trials.jsonl").write_text(text, encoding="utf-8")
    return folder


def _with_whole_plan(row: TrialRecord) -> TrialRecord:
    if row.plan is None or row.plan.startswith("{"):
        return row
    sites = {row.plan: {"method": "structured_conv", "structure": {"c": 1}}}
    return replace(row, plan=json.dumps({"format": "sconv-search plan 1", "sites": sites}))


def study(method: str, place: int, task: str = "cifar10/resnet20") -> list[TrialRecord]:
    """One method's search of 40 trials and confirmation of three plans over three seeds."""
    rng = random.Random(place)
    origin = {
        "machine": "2 × CPU",
        "versions": "torch 2.15.0, optuna 5.0.0",
        "commit": "0e6da41",
        "budget": "50% flops",
    }
    origin |= {"study": f"{task.replace('/', '-')}-{method}", "task": task, "methods": method}
    rows = [record(**origin, **_trial(number, place, rng)) for number in range(40)]
    best = sorted((r for r in rows if r.val_score), key=lambda r: -(r.val_score or 0))[:3]
    for seed in range(3):
        for r in best:
            score = (r.val_score or 0) - 0.4 + rng.gauss(0, 0.2)
            rows.append(
                _confirmed(score, seed, {**origin, "variant": "searched", "plan": r.plan, "flops": r.flops}, rng)
            )
        rows.append(
            _confirmed(
                88 - place * 0.8 + rng.gauss(0, 0.2), seed, {**origin, "variant": "uniform", "flops": 40_100_000}, rng
            )
        )
    if place == 0:
        rows += [
            _confirmed(92.3 + rng.gauss(0, 0.1), seed, {**origin, **_dense("dense_finetuned")}, rng)
            for seed in range(3)
        ]
        rows.append(_confirmed(91.7, 0, {**origin, **_dense("dense")}, rng))
    return rows


def _dense(variant: str) -> dict[str, Any]:
    return {"variant": variant, "methods": None, "flops": DENSE_FLOPS}


def _trial(number: int, place: int, rng: random.Random) -> dict[str, Any]:
    flops = rng.randint(22_000_000, 42_000_000)
    row: dict[str, Any] = {
        "number": number,
        "seed": 0,
        "flops": flops,
        "macs": flops // 2 - 400_000,
        "adds": 800_000,
        "params": flops // 300,
    }
    row["plan"] = plan(METHODS[place], [rng.randint(0, OPTIONS - 1) for _ in SITES])
    if flops > 0.5 * DENSE_FLOPS:
        return row | {"status": "over_budget", "reason": f"measured {flops:,} flops against a budget of 41,000,000"}
    if rng.random() < 0.08:
        return row | {"status": "failed", "reason": "loss is nan at step 12 | λ too high", "wall_s": 3.0}
    collapsed = rng.random() < 0.15
    score = (
        91.5
        - place * 0.7
        - 1.2e-14 * (45_000_000 - flops) ** 2
        - abs(rng.gauss(0, 1))
        - (rng.uniform(20, 60) if collapsed else 0)
    )
    if place == 0 and number % 2:
        weight = 0.05 * 40 ** rng.random()
        row |= {"regularization": weight, "residual": 0.5 / (1 + 5 * weight)}
    return row | {"val_score": score, "wall_s": rng.uniform(50, 70), "epochs": 2.0}


def _confirmed(score: float, seed: int, columns: dict[str, Any], rng: random.Random) -> TrialRecord:
    flops = columns["flops"]
    costs = {"macs": flops // 2 - 400_000, "adds": 800_000, "params": flops // 300, "epochs": 6.0, "wall_s": 190.0}
    if columns["methods"]:
        before, after = 91.0 + rng.gauss(0, 0.1), 84.0 + rng.gauss(0, 0.4)
        costs |= {"layers": LAYERS, "val_score_before": before, "val_score_after": after, "val_score": score + 0.2}
    if columns["methods"] == "structured_conv" and columns["variant"] == "searched":
        costs |= {"regularization": 0.5, "residual": 0.015, "residual_course": COURSE}
    costs |= {"threads": 1, "dtype": "float32", "latency_batch": 16}
    latency = {"latency_ms": 3.1 * (0.3 + flops / DENSE_FLOPS) + rng.uniform(0, 0.1), "dense_latency_ms": 4.1}
    return confirm(score, seed, **columns, **costs, **latency)


@pytest.fixture
def runs(write_run: Callable[..., Path]) -> list[Path]:
    """Six studies of six methods on one network."""
    return write_studies(write_run)


def write_studies(write_run: Callable[..., Path]) -> list[Path]:
    """The folders with their specs and spaces."""
    folders = [write_run(method, _equal(study(method, place))) for place, method in enumerate(METHODS)]
    for folder, method in zip(folders, METHODS, strict=True):
        (folder / "spec.json").write_text(json.dumps(spec(method, trials=TRIALS)))
        (folder / "space.json").write_text(json.dumps(space(method)))
    return folders


def _equal(records: list[TrialRecord]) -> list[TrialRecord]:
    """The records with so many complete search trials as every method has; failures and confirmations stay."""
    complete = [r for r in records if r.stage == "search" and r.status == "complete"]
    assert len(complete) >= TRIALS
    return [r for r in records if r not in complete[TRIALS:]]


@pytest.fixture(scope="session")
def table() -> Any:
    """The records of six studies as a table; tests do not write into it."""
    return to_table([r for place, method in enumerate(METHODS) for r in study(method, place)])
