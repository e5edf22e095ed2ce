"""``sconv-search best``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sconv_search.budget import Budgets
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost, Metric, Quantity, TrialRecord
from sconv_search.studies.commands.arguments import require_new, spec_of
from sconv_search.studies.commands.output import print_json, wide_enough
from sconv_search.studies.monitor import RichMonitor
from sconv_search.studies.runs.folder import RunFolder, told
from sconv_search.system.files import write_whole

MISSING = "–"


def best(
    runs: list[Path],
    *,
    budget: list[str] | None,
    quantity: Quantity,
    plan: Path | None = None,
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Shows each run's best plan under a budget, or of all; writes the best of all runs where a file is named."""
    if plan is not None:
        require_new(plan, overwrite)
    rows = [_best(RunFolder(run), None if budget is None else ",".join(budget), quantity) for run in runs]
    if plan is not None:
        write_whole(plan, CompressionPlan.from_json(_top(rows)["plan"]).to_json().encode("utf-8"))
    if as_json:
        print_json({"budget": budget, "plans": rows})
        return
    metric = " or ".join(sorted({row["metric"] for row in rows}))
    table = Table(
        "run", "trial", "methods", "FLOPs", "parameters", f"validation {metric}", f"test {metric}", box=SIMPLE_HEAD
    )
    for row in rows:
        table.add_row(*map(str, _cells(row)))
    wide_enough(Console()).print(table)
    if plan is not None:
        print(f"plan: {plan}")


def _best(folder: RunFolder, budget: str | None, quantity: Any) -> dict[str, Any]:
    """The complete trial with the best validation score that fits, and what confirmation said of its plan.

    Raises:
        FileNotFoundError: the folder holds no study.
        ValueError: no complete trial fits.
    """
    spec_of(folder)
    (records, damaged), space = folder.records(), folder.read_space()
    for message in told(damaged):
        RichMonitor(Console(stderr=True)).say(message)
    complete = [r for r in records if r.stage == "search" and r.status == "complete" and r.quality is not None]
    if not complete or space is None:
        raise ValueError(f"the run in {str(folder.path)!r} has no complete trial; run `sconv-search search` first")
    fitting = complete
    if budget is not None:
        limits = Budgets.parse(budget, dense=space.dense, quantity=quantity)
        fitting = [r for r in complete if limits.excess(_cost(r)) <= 0]
    if not fitting:
        least = min(complete, key=lambda r: r.flops or 0)
        raise ValueError(
            f"no complete trial of {str(folder.path)!r} fits {budget}; the cheapest has {least.flops:,} FLOPs "
            f"({(least.flops or 0) / max(1, space.dense.flops):.1%})"
        )
    top = max(fitting, key=lambda r: (r.quality or 0.0, -(r.flops or 0)))
    return {
        "run": folder.path,
        "metric": top.metric,
        "metric_unit": top.metric_unit,
        "metric_better": top.metric_better,
        "trial": top.number,
        "methods": top.methods,
        "flops": top.flops,
        "dense_flops": top.dense_flops,
        "macs": top.macs,
        "params": top.params,
        "activations": top.activations,
        "latency_ms": top.latency_ms,
        "regularization": top.regularization,
        "val_score": top.val_score,
        "test_score": _confirmed(records, top),
        "plan": top.plan,
    }


def _metric(row: dict[str, Any]) -> Metric:
    return Metric(row["metric"], better=row["metric_better"], unit=row["metric_unit"])


def _top(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The best plan of all runs.

    Raises:
        ValueError: the runs are scored by different metrics.
    """
    metrics = {_metric(row) for row in rows}
    if len(metrics) > 1:
        names = " and ".join(sorted(metric.name for metric in metrics))
        raise ValueError(f"--plan cannot take the best of runs that are scored by {names}; give the runs of one metric")
    return max(rows, key=lambda row: _metric(row).quality(row["val_score"]))


def _cost(r: TrialRecord) -> Cost:
    counted = {name: int(getattr(r, name) or 0) for name in ("macs", "adds", "params", "activations")}
    return Cost(**counted, latency_ms=float("inf") if r.latency_ms is None else r.latency_ms)


def _confirmed(records: Sequence[TrialRecord], top: TrialRecord) -> list[float]:
    """Test scores of the same plan and weight, a value a seed."""
    same = [r for r in records if r.stage == "confirm" and (r.plan, r.regularization) == (top.plan, top.regularization)]
    return [r.test_score for r in same if r.test_score is not None]


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    scores, metric = row["test_score"], _metric(row)
    spread = f" ± {metric.text(stdev(scores)).partition(' ')[0]}" if len(scores) > 1 else ""
    test = f"{metric.text(mean(scores))}{spread} (n = {len(scores)})" if scores else "not confirmed"
    share = f"{row['flops'] / row['dense_flops']:.1%}" if row["dense_flops"] else MISSING
    params = MISSING if row["params"] is None else f"{row['params']:,}"
    return row["run"].name, row["trial"], row["methods"], share, params, metric.text(row["val_score"]), test
