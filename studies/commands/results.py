"""What a command made, as one JSON document for scripts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any, get_args

from sconv_search.records import Stage, Status, TrialRecord
from sconv_search.studies.confirmation import front
from sconv_search.studies.runs.folder import RunFolder

_MADE = ("seed", "regularization", "flops", "dense_flops", "macs", "adds", "params", "residual", "val_score")


def search_result(folder: RunFolder) -> dict[str, Any]:
    """A run's files, its counts of trials, and its best one."""
    records, spec = folder.records()[0], folder.read_spec()
    files = {"records": folder.trials, "spec": folder.path / "spec.json", "space": folder.path / "space.json"}
    return {
        "folder": folder.path,
        "files": {name: path for name, path in files.items() if path.exists()},
        "study": spec,
        "trials": _counts(records, "search"),
        "best": next(map(_trial, front(records, 1)), None),
    }


def confirm_result(folders: Sequence[RunFolder], new: Iterable[TrialRecord]) -> dict[str, Any]:
    """The confirmed networks of all runs, with their scores over seeds and their files."""
    by_run = {folder: folder.records()[0] for folder in folders}
    return {
        "folders": [folder.path for folder in folders],
        "new": len(list(new)),
        "trials": _counts((record for records in by_run.values() for record in records), "confirm"),
        "networks": [network for folder, records in by_run.items() for network in _networks(folder, records)],
    }


def _counts(records: Iterable[TrialRecord], stage: Stage) -> dict[str, int]:
    counts = Counter(record.status for record in records if record.stage == stage)
    return {status: counts[status] for status in get_args(Status)}


def _trial(record: TrialRecord) -> dict[str, Any]:
    return {"number": record.number, **{name: getattr(record, name) for name in _MADE}, "plan": _parsed(record.plan)}


def _parsed(plan: str | None) -> Mapping[str, Any] | None:
    return None if plan is None else dict(json.loads(plan))


def _networks(folder: RunFolder, records: Iterable[TrialRecord]) -> Iterator[dict[str, Any]]:
    groups: dict[Any, list[TrialRecord]] = {}
    for record in records:
        if record.stage == "confirm" and record.test_score is not None:
            groups.setdefault((record.variant, record.number, record.plan), []).append(record)
    for (variant, number, plan), group in groups.items():
        scores = [record.test_score for record in group if record.test_score is not None]
        label = variant if number is None else f"{variant}-{number}"
        paths = [folder.path / "confirmed" / f"{label}-seed{record.seed}" for record in group]
        yield {
            "run": folder.path,
            "network": label,
            "seeds": [record.seed for record in group],
            "test_score": scores,
            "test_score_mean": mean(scores),
            "test_score_std": stdev(scores) if len(scores) > 1 else None,
            **{
                name: getattr(group[0], name)
                for name in ("flops", "dense_flops", "params", "latency_ms", "dense_latency_ms")
            },
            "saved": [path for path in paths if path.is_dir()],
            "plan": _parsed(plan),
        }
