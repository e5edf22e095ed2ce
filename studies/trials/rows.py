"""Records made from what a study measured."""

from __future__ import annotations

import json
from statistics import median, quantiles
from typing import Any

import torch
from torch import nn

from sconv_search.cost.network_inputs import Inputs
from sconv_search.cost.timing import other_work
from sconv_search.inference.latency import measure_ready_latencies_ms
from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost, TrialRecord
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.task import Task
from sconv_search.studies.trials.provenance import provenance
from sconv_search.studies.trials.request import Outcome


def cost_fields(cost: Cost, dense: Cost) -> dict[str, Any]:
    """The cost columns."""
    amounts = {name: getattr(cost, name) for name in ("macs", "adds", "flops", "params", "activations")}
    return {**amounts, "dense_flops": dense.flops}


def latency_fields(network: nn.Module, dense: nn.Module, shape: Inputs, batch: int) -> dict[str, Any]:
    """The columns that say how long a forward takes, measured in turn with the dense network, and under what
    circumstances.
    """
    share_of_others = other_work()
    own, reference = measure_ready_latencies_ms([network, dense], shape, batch=batch)
    ratios = [slow / fast for slow, fast in zip(reference, own, strict=True)]
    lower, _, upper = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return {
        "latency_ms": median(own),
        "dense_latency_ms": median(reference),
        "speed_up_spread": (upper - lower) / 2,
        "busy_share": share_of_others(),
        "threads": torch.get_num_threads(),
        "dtype": str(next(network.parameters()).dtype).removeprefix("torch."),
        "latency_batch": batch,
    }


def plan_fields(plan: CompressionPlan, regularization: float | None, regularized_share: float) -> dict[str, Any]:
    """The columns that say what was built, and how it is trained towards that."""
    return {
        "methods": ",".join(plan.methods) or None,
        "plan": plan.to_json(),
        "regularization": regularization,
        "regularized_share": None if regularization is None else regularized_share,
    }


def outcome_fields(outcome: Outcome, epochs: float) -> dict[str, Any]:
    """The columns that say what training gave."""
    return {
        "residual": outcome.residual,
        "residual_course": json.dumps(outcome.residual_course) if outcome.residual_course else None,
        "notes": outcome.notes,
        "val_score_before": outcome.before.value if outcome.before else None,
        "val_score_after": outcome.after.value if outcome.after else None,
        "val_score": outcome.final.value,
        "val_loss": outcome.final.loss,
        "epochs": epochs,
    }


def budget_words(spec: StudySpec) -> str:
    """The budget with its quantities, such as ``50% flops`` or ``50% flops, 60% params``."""
    parts = [part.strip().rpartition("=") for part in spec.budget.split(",")]
    return ", ".join(f"{amount.strip()} {name.strip() or spec.quantity}" for name, _, amount in parts)


def metric_field(task: Task) -> dict[str, Any]:
    """The columns that say what the scores are."""
    return {"metric": task.metric.name, "metric_unit": task.metric.unit, "metric_better": task.metric.better}


def record(study: str, spec: StudySpec, **columns: Any) -> TrialRecord:
    """A record of a study, with its provenance and the operators that its costs leave out."""
    known: dict[str, Any] = {"study": study, "task": spec.task, "budget": budget_words(spec), **provenance()}
    if spec.count_free:
        own = f"counted as nothing: {', '.join(spec.count_free)}"
        columns["notes"] = f"{own}; {columns['notes']}" if columns.get("notes") else own
    return TrialRecord(**known, **columns)
