"""Records made from what a study measured."""

from __future__ import annotations

import json
from typing import Any

from sconv_search.plan import CompressionPlan
from sconv_search.records import Cost, TrialRecord
from sconv_search.studies.spec import StudySpec
from sconv_search.studies.task import Task
from sconv_search.studies.trials.provenance import provenance
from sconv_search.studies.trials.trial import Outcome
from sconv_search.training.metrics import TOP1


def cost_fields(cost: Cost, dense: Cost) -> dict[str, Any]:
    """The cost columns."""
    amounts = {name: getattr(cost, name) for name in ("macs", "adds", "flops", "params", "activations")}
    return {**amounts, "dense_flops": dense.flops}


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
        "val_top1_before": outcome.before.top1 if outcome.before else None,
        "val_top1_after": outcome.after.top1 if outcome.after else None,
        "val_top1": outcome.final.top1,
        "val_loss": outcome.final.loss,
        "epochs": epochs,
    }


def budget_words(spec: StudySpec) -> str:
    """The budget with its quantities, such as ``50% flops`` or ``50% flops, 60% params``."""
    parts = [part.strip().rpartition("=") for part in spec.budget.split(",")]
    return ", ".join(f"{amount.strip()} {name.strip() or spec.quantity}" for name, _, amount in parts)


def metric_field(task: Task) -> dict[str, Any]:
    """The column that names the score, where it is not top-1 accuracy."""
    return {} if task.metric.name == TOP1.name else {"metric": task.metric.name}


def record(study: str, spec: StudySpec, **columns: Any) -> TrialRecord:
    """A record of a study, with its provenance and the operators that its costs leave out."""
    known: dict[str, Any] = {"study": study, "task": spec.task, "budget": budget_words(spec), **provenance()}
    if spec.count_free:
        own = f"counted as nothing: {', '.join(spec.count_free)}"
        columns["notes"] = f"{own}; {columns['notes']}" if columns.get("notes") else own
    return TrialRecord(**known, **columns)
